"""The cache of downloads and prepared pictures; what is in it is complete."""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from colorization.paths import user_path

LOCK = ".lock"
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the cache's folder; COLORIZATION_CACHE moves it. It may be another user's."""
    moved = os.environ.get("COLORIZATION_CACHE")
    return user_path(moved) if moved else _own_folder()


def _own_folder() -> Path:
    return user_cache_path("garden-bird-colorization", appauthor=False)


def is_readable(folder: Path) -> bool:
    """Tell whether there is a folder whose files this user may read."""
    return os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)


def own(path: Path) -> Path:
    """Return where a path of the cache lies in the cache of this user; of that, the same path."""
    if path.is_relative_to(_own_folder()):
        return path
    return _own_folder() / path.relative_to(cache_folder())


def writable(folder: Path) -> Path:
    """Make a folder of the cache, or `own(folder)` where another user's cannot be written.

    Raises:
        OSError: neither can be written.
    """
    for place in (folder, own(folder)):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place), open(place / LOCK, "ab"):
                return place
        except OSError as error:
            if error.errno not in _FORBIDDEN:
                raise
            refused = error
    raise OSError(
        "The cache of downloads and prepared pictures cannot be written. Expected a folder of "
        f"yours: set the variable COLORIZATION_CACHE to one. Received: {refused}"
    )


def build_once(
    folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool] = is_readable
) -> Path:
    """Return `folder`, built unless it is there already: completely or not at all.

    `build` fills an empty folder beside it, which is renamed at the end. So what a killed process
    leaves is never taken for complete. A second process waits for the first. What is whole is only
    read; where another user's folder cannot be written, this user's own cache is.
    """
    for place in (folder, own(folder)):
        with contextlib.suppress(PermissionError):
            if is_whole(place):
                return place
    if os.path.exists(folder) and not os.access(folder, os.W_OK):  # damaged, and not ours to mend
        folder = own(folder)
    parent = writable(folder.parent)
    if parent != folder.parent:
        logger.info("%s cannot be written: it goes to %s", folder, parent)
        folder = parent / folder.name
    with FileLock(parent / LOCK):
        if is_whole(folder):
            return folder
        for leftover in parent.glob("*.partial"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        partial = parent / f"{uuid.uuid4().hex}.partial"
        partial.mkdir()  # for others to read, unlike `tempfile.mkdtemp`
        try:
            build(partial)
            shutil.rmtree(folder, ignore_errors=True)  # there, but damaged
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder
