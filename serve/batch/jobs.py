"""The pictures of a folder, and which files they become."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from colorization.data import listing
from colorization.errors import InputError
from serve.batch import places
from serve.batch.places import Place

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}  # by format
FORMATS = {suffix: format for format, suffix in SUFFIXES.items()}
FORMATS |= {".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".tiff": "tiff"}
KEEP = "keep"  # the format: JPEG, PNG and WebP stay what they are, others become PNG
COLORED, COPIED, LEFT_OUT = "colored", "copied", "left out"


class Names(NamedTuple):
    """Where a picture's file goes."""

    copy: Place  # its own name, if it is copied
    colored: Place
    paged: Place  # of several pages, each of which gets its number

    def page(self, number: int) -> Place:
        """Return the file of a page, from 1."""
        return self.paged.with_name(f"{self.paged.stem}-{number}{self.paged.suffix}")


class Job(NamedTuple):
    """A picture, the files that it may become, and its bytes: 0 if it is gone."""

    source: Place
    files: Names
    size: int

    @property
    def target(self) -> Place:
        """File of the colored picture, if it has one page."""
        return self.files.colored

    @property
    def format(self) -> str:
        """Format of the colored picture: jpeg, png, webp or tiff."""
        return FORMATS.get(self.target.suffix.lower(), "png")


class Settings(NamedTuple):
    """How to color."""

    params: dict[str, Any]  # of the pyfunc, without `format`; `quality` is that of all formats
    colors_all: bool  # color pictures as well, which are copied otherwise
    overwrites: bool  # pages that are there are colored again
    mends: bool = False  # what there is of truncated pictures is colored


class Outcome(NamedTuple):
    """What became of a picture: `COLORED`, `COPIED` or `LEFT_OUT`, and what to say of it."""

    source: Place
    what: str
    note: str = ""


def plan(
    source: Place, target: Place, format: str, listed: Mapping[str, int]
) -> tuple[list[Job], list[Outcome]]:
    """Assign files below `target` to every picture in `listed`, of `places.find(source)`.

    `format` is a key of `SUFFIXES`, or `KEEP`. Hidden files are skipped. If `target` lies inside
    `source`, or a link leads there, its pictures are not colored again.

    Returns:
        The jobs, and what has none: pictures that a link in `target` would lead elsewhere, and
        folders that cannot be read.

    Raises:
        InputError: there are no pictures.
    """
    found = {source / name: size for name, size in listed.items() if not name.endswith("/")}
    unread = (source / name for name in listed if name.endswith("/"))
    left_out = [Outcome(path, LEFT_OUT, "is a folder that cannot be read") for path in unread]
    if [*found] == [source]:
        source = source.parent
    pictures = sorted(path for path in found if _is_picture(path, source, target))
    if not pictures and not left_out:
        raise InputError(
            f"Nothing to color. Expected pictures ({' '.join(sorted(listing.SUFFIXES))}) at any "
            f"depth. Received: input={places.show(source)}"
        )
    chosen = choose([path.relative_to(source) for path in pictures], format)
    jobs = []
    for path, files in zip(pictures, chosen, strict=True):
        below = {name: target / name for name in files}  # mostly one, held once
        job = Job(path, Names(*map(below.__getitem__, files)), found[path])
        if places.stays(job.target, target):
            jobs.append(job)
        else:
            left_out.append(Outcome(path, LEFT_OUT, "would be written outside the output: a link"))
    return jobs, left_out


def _is_picture(path: Place, source: Place, target: Place) -> bool:
    is_output = isinstance(path, Path) and places.stays(path, target)
    if path.suffix.lower() not in listing.SUFFIXES or target in path.parents or is_output:
        return False
    return not any(part.startswith(".") for part in path.relative_to(source).parts)


def choose(pictures: Iterable[Place], format: str) -> list[Names]:
    """Choose names so that no two pictures share one, whatever is copied, colored or has pages.

    A picture whose name is taken keeps its suffix within it: `a.gif` becomes `a.gif.png`.
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
