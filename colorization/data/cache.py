"""The cache of downloads and prepared pictures; what is in it is complete."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the cache's folder; COLORIZATION_CACHE moves it."""
    moved = os.environ.get("COLORIZATION_CACHE")
    if moved:
        return Path(moved).expanduser().absolute()
    return user_cache_path("garden-bird-colorization", appauthor=False)


def build_once(
    folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """Return `folder`, built unless it is there already: completely or not at all.

    `build` fills an empty folder beside it, which is renamed at the end. So what a killed process
    leaves is never taken for complete. A second process waits for the first.
    """
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / ".lock"):
        if is_whole(folder):
            return folder
        for leftover in parent.glob("*.partial"):  # of a process that was killed
            _delete(leftover)
        partial = Path(tempfile.mkdtemp(suffix=".partial", dir=parent))
        try:
            build(partial)
            _delete(folder)  # there, but damaged
            partial.rename(folder)
        finally:
            _delete(partial)
    return folder


def _delete(folder: Path) -> None:
    """Delete a folder as far as possible; `shutil.rmtree` recurses and breaks on deep ones."""
    found = [] if folder.is_symlink() else [str(folder)]
    for each in found:  # grows meanwhile
        with contextlib.suppress(OSError), os.scandir(each) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(entry.path)
                else:
                    os.unlink(entry.path)
    for each in reversed(found):
        with contextlib.suppress(OSError):
            os.rmdir(each)
