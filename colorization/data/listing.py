"""Which files of a folder or an archive are pictures, and how one is read safely."""

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from colorization.limits import MAX_DEPTH
from colorization.paths import as_text
from colorization.pictures import SUFFIXES

logger = logging.getLogger(__name__)

# Kaggle's archive of birds holds each photograph twice, also cut out of its background.
_WHOLE, _CUT_OUT = "withBackground", "noBackground"


def list_images(folder: Path) -> list[Path]:
    """List the pictures below a folder at any depth, sorted; links to folders are followed.

    A folder that cannot be read is listed like a picture, which cannot be read either.

    Raises:
        ValueError: folders are nested deeper than `MAX_DEPTH`.
    """
    names = list(walk(folder, follow=True))
    if others := count_others(names):
        logger.info("skipped: %s", others)
    return [folder / name for name in choose(names)]


def relative(path: Path, folder: Path) -> str:
    """Return a picture's path below a folder as text, with forward slashes."""
    return as_text(path.relative_to(folder).as_posix())


def walk(folder: Path, follow: bool) -> Iterator[str]:
    """List everything below a folder that is no folder: files, pipes, dangling links.

    Paths are relative to `folder`, with forward slashes. If `follow`, linked folders are walked as
    well, each once. Hidden folders are not. A folder that cannot be read is listed, and its path
    ends with a slash.

    Raises:
        ValueError: folders are nested deeper than `MAX_DEPTH`.
    """
    visited: set[str] = set()
    unread: list[OSError] = []
    starts = [folder]
    for start in starts:  # links last: what is below the folder anyway has its own path
        for parent, folders, files in os.walk(start, onerror=unread.append):
            below = Path(parent).relative_to(folder)
            if len(below.parts) > MAX_DEPTH:  # os.walk recurses, as much else does
                raise ValueError(
                    f"Folders are nested too deeply. Expected at most {MAX_DEPTH} in each other: "
                    "move the pictures up, or take the folder out. Received: "
                    f"folder={parent!r}"
                )
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if (real := os.path.realpath(parent)) in visited:
                folders.clear()
                continue
            visited.add(real)
            if follow:
                starts += filter(Path.is_symlink, (Path(parent, name) for name in folders))
            prefix = f"{below.as_posix()}/" if below.parts else ""
            yield from (prefix + name for name in files)
    yield from (f"{Path(each.filename).relative_to(folder).as_posix()}/" for each in unread)


def choose(names: Collection[str]) -> list[str]:
    """Choose and sort the pictures among files, given by relative paths with forward slashes.

    Where there are folders named `withBackground` and `noBackground`, only pictures below the
    former are chosen. Hidden files never are. Folders that cannot be read, see `walk`, are.
    """
    chosen = (name for name in names if name.endswith("/") or _is_picture(PurePosixPath(name)))
    pictures = sorted(set(chosen))
    whole, cut_out = (
        [name for name in pictures if folder in PurePosixPath(name).parts[:-1]]
        for folder in (_WHOLE, _CUT_OUT)
    )
    return whole if whole and cut_out else pictures


def count_others(names: Iterable[str]) -> str:
    """Count the files that are no pictures that we read, by suffix: `1 .dng, 2 .pdf`.

    Hidden files are not counted.
    """
    paths = [PurePosixPath(name) for name in names if not name.endswith("/")]
    suffixes = [path.suffix.lower() for path in paths if not _is_hidden(path)]
    counts = Counter(each or "without a suffix" for each in suffixes if each not in SUFFIXES)
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))


def read_regular(path: Path, limit: int) -> bytes:
    """Read a whole regular file, or the one that a link leads to.

    The open file is checked, not its name, so that nobody can swap it in between.

    Raises:
        OSError: it is a pipe, a device or a folder, has more than `limit` bytes, or cannot be read;
            `strerror` says which, the same on every machine.
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


def _is_picture(path: PurePosixPath) -> bool:
    return not _is_hidden(path) and path.suffix.lower() in SUFFIXES


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a pipe's other end, or becoming a terminal's process."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
