"""Which files of a folder or an archive are pictures."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from colorization.limits import MAX_DEPTH
from colorization.paths import as_text

# Also formats that Pillow cannot decode: the manifest lists such files as left out.
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .heic .heif".split()
)

# Kaggle's archive of birds holds each photograph twice, also cut out of its background.
_WHOLE, _CUT_OUT = "withBackground", "noBackground"


def list_images(folder: Path) -> list[Path]:
    """List the pictures below a folder at any depth, sorted; links to folders are followed.

    Raises:
        ValueError: folders are nested deeper than `MAX_DEPTH`.
    """
    return [folder / name for name in choose(list(walk(folder, follow=True)))]


def relative(path: Path, folder: Path) -> str:
    """Return a picture's path below a folder as text, with forward slashes."""
    return as_text(path.relative_to(folder).as_posix())


def walk(folder: Path, follow: bool) -> Iterator[str]:
    """List everything below a folder that is no folder: files, pipes, dangling links.

    Args:
        folder: to begin at.
        follow: whether to walk into linked folders, each once.

    Yields:
        Paths relative to `folder`, with forward slashes.

    Raises:
        ValueError: folders are nested deeper than `MAX_DEPTH`.
    """
    visited = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=follow):
        below = Path(parent).relative_to(folder)
        if len(below.parts) > MAX_DEPTH:  # os.walk recurses, as much else does
            raise ValueError(
                f"Folders are nested too deeply. Expected at most {MAX_DEPTH} in each other: move "
                f"the pictures up, or take the folder out. Received: folder={parent!r}"
            )
        folders[:] = [name for name in folders if _is_new(os.path.join(parent, name), visited)]
        prefix = f"{below.as_posix()}/" if below.parts else ""
        yield from (prefix + name for name in files)


def choose(names: Collection[str]) -> list[str]:
    """Choose and sort the pictures among files, given by relative paths with forward slashes.

    Where there are folders named `withBackground` and `noBackground`, only pictures below the
    former are chosen. Hidden files never are.
    """
    pictures = sorted({name for name in names if _is_picture(PurePosixPath(name))})
    whole, cut_out = (
        [name for name in pictures if folder in PurePosixPath(name).parts[:-1]]
        for folder in (_WHOLE, _CUT_OUT)
    )
    return whole if whole and cut_out else pictures


def _is_picture(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() in SUFFIXES


def _is_new(folder: str, visited: set[str]) -> bool:
    """Return whether a folder was not visited yet, by whatever link."""
    real = os.path.realpath(folder)
    if real in visited:
        return False
    visited.add(real)
    return True
