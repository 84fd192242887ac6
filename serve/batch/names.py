"""Which files the pictures of a folder become."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from serve.batch.bucket import Place

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}  # by format
FORMATS = {suffix: format for format, suffix in SUFFIXES.items()} | {
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".tiff": "tiff",
}
KEEP = "keep"  # the format: JPEG, PNG and WebP stay what they are, others become PNG


class Names(NamedTuple):
    """Where a picture's file goes.

    Attributes:
        copy: its own name, if it is copied.
        colored: of the colored picture.
        paged: the same with several pages, each of which gets its number.
    """

    copy: Place
    colored: Place
    paged: Place

    def page(self, number: int) -> Place:
        """Return the file of a page, from 1."""
        return self.paged.with_name(f"{self.paged.stem}-{number}{self.paged.suffix}")


def choose(pictures: Iterable[Place], format: str) -> list[Names]:
    """Choose names so that no two pictures share one, whatever is copied, colored or has pages.

    A picture whose name is taken keeps its suffix within it: `a.gif` becomes `a.gif.png`.

    Args:
        pictures: paths within the folder.
        format: of the colored ones, or `KEEP`.
    """
    plain = {path: _rename(path, format) for path in pictures}
    shared = Counter(plain.values())
    matches = ((name, re.fullmatch(r"(.+)-\d+(\.\w+)", name.name)) for name in [*plain, *shared])
    numbered = {name.with_name(match[1] + match[2]) for name, match in matches if match}
    taken, names = {*plain, *shared}, []
    for path, name in plain.items():
        if name != path and (name in plain or shared[name] > 1):
            name = _lengthen(path, name.suffix, taken)
        paged = _lengthen(path, name.suffix, numbered) if name in numbered else name
        names.append(Names(path, name, paged))
    return names


def _rename(path: Place, format: str) -> Place:
    suffix = path.suffix.lower()
    if format == KEEP:
        format = FORMATS.get(suffix, "png").replace("tiff", "png")
    return path if FORMATS.get(suffix) == format else path.with_suffix(SUFFIXES[format])


def _lengthen(path: Place, suffix: str, taken: Collection[Place]) -> Place:
    name = path.with_name(path.name + suffix)
    while name in taken:
        name = name.with_name(name.name + suffix)
    return name
