"""Where downloads and prepared pictures are kept, and how they get there whole."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return where downloads and prepared pictures are kept; COLORIZATION_CACHE moves it."""
    moved = os.environ.get("COLORIZATION_CACHE")
    if moved:
        return Path(moved).expanduser().absolute()
    return user_cache_path("garden-bird-colorization", appauthor=False)


def build_once(
    folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """Return `folder`, made by `build` unless it is there already: whole, or not at all.

    `build` fills an empty folder beside it that is renamed at the end, so that what a killed
    process leaves is never taken for whole. A second process waits for the first.
    """
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / ".lock"):
        if is_whole(folder):
            return folder
        for leftover in parent.glob("*.partial"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(suffix=".partial", dir=parent))
        try:
            build(partial)
            shutil.rmtree(folder, ignore_errors=True)  # there, but damaged
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder
