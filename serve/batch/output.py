"""The folder of colored pictures: files are written whole or not at all, and nowhere else."""

import contextlib
import errno
import filecmp
import os
import re
import shutil
import threading
from pathlib import Path

import psutil

from colorization.data.listing import walk
from colorization.errors import InputError
from colorization.pictures import PictureError
from serve.batch import bucket
from serve.batch.bucket import Place, Remote

PARTIAL = ".colorizing"  # suffix of the hidden files that a killed run may leave


def resolve(source: Place, target: Place) -> tuple[Place, Place]:
    """Return the real paths of input and output; raise InputError if they cannot be these."""
    source, target = (
        place if isinstance(place, Remote) else Path(os.path.realpath(place))
        for place in (source, target)
    )
    if isinstance(source, Path) and not source.exists():
        raise InputError(
            f"No such folder or file. Expected a picture, or a folder of some. Received: "
            f"input={source}"
        )
    is_file = isinstance(target, Path) and target.exists() and not target.is_dir()
    if target == source or target in source.parents or is_file:
        raise InputError(
            "The colored pictures need a folder of their own. Expected one that is not, and does "
            f"not hold, the input. Received: input={source}, output={target}"
        )
    return source, target


def stays(path: Place, folder: Place) -> bool:
    """Tell whether a file would be written below a folder, all links followed.

    Args:
        path: of the file, below `folder` by its name; it need not exist.
        folder: without links in its own path.
    """
    if isinstance(path, Remote):
        return True
    return Path(os.path.realpath(path.parent)).is_relative_to(folder)


def is_there(path: Place) -> bool:
    """Tell whether there is something of this name, be it a link to nowhere."""
    return bucket.is_there(path) if isinstance(path, Remote) else os.path.lexists(path)


class Present:
    """What an output folder holds already: a remote one is listed once."""

    def __init__(self, folder: Place) -> None:
        self._sizes: dict[Place, int] | None = None
        if isinstance(folder, Remote):
            self._sizes = {folder / name: size for name, size in bucket.find(folder).items()}

    def has(self, path: Place) -> bool:
        """Tell whether there is something of this name."""
        return is_there(path) if self._sizes is None else path in self._sizes

    def has_copy(self, path: Place, source: Place, size: int) -> bool:
        """Tell whether a file is a copy of `source`; if one is remote, by their sizes."""
        try:
            if isinstance(source, Path) and isinstance(path, Path):
                return filecmp.cmp(source, path)
            return size == (self._sizes[path] if self._sizes is not None else os.stat(path).st_size)
        except (OSError, KeyError):
            return False


def write(path: Place, content: bytes, source: Place) -> None:
    """Write a file and the folders it needs; replace a link of its name, do not follow it.

    Args:
        path: of the file.
        content: of it.
        source: file whose times and permissions it gets, as far as the disk can hold them.

    Raises:
        InputError: it cannot be written.
        PictureError: its name is too long, of which a number or suffix is a part.
    """
    try:
        if isinstance(path, Remote):
            bucket.write(path, content)
        else:
            _write(path, content, source)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PictureError(f"would become {path.name}, which is too long a name") from None
        raise InputError(
            "A colored picture cannot be written. Expected an output folder that is yours to "
            f"write to, with room. Received: {str(path)!r}: {error.strerror}"
        ) from error


def _write(path: Path, content: bytes, source: Place) -> None:
    partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}{PARTIAL}")
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


def delete_leftovers(folder: Place) -> None:
    """Delete the partial files of killed runs, but no others of similar names."""
    if isinstance(folder, Remote):
        return
    for name in walk(folder, follow=False):
        path = folder / name
        ours = re.fullmatch(rf"\.([0-9]{{1,9}})-[0-9]+{re.escape(PARTIAL)}", path.name)
        if ours and not path.is_symlink() and not psutil.pid_exists(int(ours[1])):
            with contextlib.suppress(OSError):
                path.unlink()
