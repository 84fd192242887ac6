"""The folder of colored pictures: files are written whole or not at all, and nowhere else."""

import contextlib
import errno
import os
import re
import shutil
import threading
from pathlib import Path

import psutil

from colorization.data.listing import walk
from colorization.errors import InputError
from colorization.pictures import PictureError

PARTIAL = ".colorizing"  # suffix of the hidden files that a killed run may leave


def resolve(source: Path, target: Path) -> tuple[Path, Path]:
    """Return the real paths of input and output; raise InputError if they cannot be these."""
    source, target = (Path(os.path.realpath(path)) for path in (source, target))
    if not source.exists():
        raise InputError(
            f"No such folder or file. Expected a picture, or a folder of some. Received: "
            f"input={source}"
        )
    if target == source or target in source.parents or (target.exists() and not target.is_dir()):
        raise InputError(
            "The colored pictures need a folder of their own. Expected one that is not, and does "
            f"not hold, the input. Received: input={source}, output={target}"
        )
    return source, target


def stays(path: Path, folder: Path) -> bool:
    """Tell whether a file would be written below a folder, all links followed.

    Args:
        path: of the file, below `folder` by its name; it need not exist.
        folder: without links in its own path.
    """
    return Path(os.path.realpath(path.parent)).is_relative_to(folder)


def write(path: Path, content: bytes, source: Path) -> None:
    """Write a file and the folders it needs; replace a link of its name, do not follow it.

    Args:
        path: of the file.
        content: of it.
        source: file whose times and permissions it gets, as far as the disk can hold them.

    Raises:
        InputError: it cannot be written.
        PictureError: its name is too long, of which a number or suffix is a part.
    """
    partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.unlink(missing_ok=True)
            with partial.open("xb") as file:  # not through a link of this name
                file.write(content)
            with contextlib.suppress(OSError):
                shutil.copystat(source, partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PictureError(f"would become {path.name}, which is too long a name") from None
        raise InputError(
            "A colored picture cannot be written. Expected an output folder that is yours to "
            f"write to, with room. Received: {str(path)!r}: {error.strerror}"
        ) from error


def delete_leftovers(folder: Path) -> None:
    """Delete the partial files of killed runs, but no others of similar names."""
    for name in walk(folder, follow=False):
        path = folder / name
        ours = re.fullmatch(rf"\.([0-9]{{1,9}})-[0-9]+{re.escape(PARTIAL)}", path.name)
        if ours and not path.is_symlink() and not psutil.pid_exists(int(ours[1])):
            with contextlib.suppress(OSError):
                path.unlink()
