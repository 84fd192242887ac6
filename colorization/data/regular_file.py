"""Reads an untrusted file: only a regular one, of bounded size, without blocking."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int) -> bytes:
    """Read a whole regular file, or the one that a link leads to.

    The open file is checked, not its name, so that nobody can swap it in between.

    Args:
        path: of the file.
        limit: bytes that it may have at most.

    Raises:
        OSError: it is a pipe, a device or a folder, is too large, or cannot be read; `strerror`
            says which, the same on every machine.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
        try:
            return file.read(status.st_size)  # not what is still being appended
        except MemoryError:
            raise OSError(errno.ENOMEM, "too large for the memory left", str(path)) from None


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a pipe's other end, or becoming a terminal's process."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
