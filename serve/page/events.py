"""What the page does: it colors a visitor's pictures, and takes hints for their colors."""

import ctypes
import logging
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr
import jinja2
from PIL import Image, ImageOps

from colorization.data.photograph import IMAGE_SIZE
from colorization.errors import InputError
from colorization.limits import MAX_PICTURES_AT_ONCE, MAX_RESULTS_BYTES
from colorization.paths import ROOT
from serve.page.champions import Champion, Champions, Slot
from serve.page.coloring import Picture, color_upload, hint_from, write_variations
from serve.page.guard import is_upload, make_room

FOLDER = Path(__file__).parent
ASSETS = ROOT / "assets"
CREDIT = re.compile(r"^\| `(.+)` \| (.+) \| \[(.+)\]\((.+)\) \|$", re.MULTILINE)

logger = logging.getLogger(__name__)


class Example(NamedTuple):
    """A picture to try; a painted one has no credit. `licence` is a name, `terms` its address."""

    path: Path
    author: str = ""
    licence: str = ""
    terms: str = ""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.path.stem[0].upper() + self.path.stem[1:].replace("_", " ")

    @property
    def painted(self) -> bool:
        """Whether it is a painting, of which a model of paintings knows the colors."""
        return not self.licence

    def write_thumbnail(self, folder: Path) -> Path:
        """Write a small square of it; return the path."""
        path = folder / f"{self.name}.jpg"
        with Image.open(self.path) as image:
            ImageOps.fit(image, (256, 256)).save(path)
        return path


def read_examples() -> list[Example]:
    """Return photographs that may be shown, with their credits, then painted birds."""
    folder = ASSETS / "photographs"
    rows = CREDIT.findall((folder / "README.md").read_text("utf-8"))
    photographs = [Example(folder / file, *credit) for file, *credit in rows]
    return photographs + [Example(path) for path in sorted((ASSETS / "examples").glob("*.jpg"))]


class Page:
    """The events of the page; each visitor's results lie in a folder of their own.

    Below a `folder`, which is empty at first and which the caller deletes, `pictures` are served:
    thumbnails of the examples, and `results`. The visitors' `uploads` are not.
    """

    def __init__(self, folder: Path) -> None:
        self.pictures, self.uploads = folder / "pictures", folder / "uploads"
        self.results = self.pictures / "results"
        self.results.mkdir(parents=True)
        self.uploads.mkdir()
        self.champions = Champions()
        jinja = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(FOLDER))
        jinja.globals.update(url=self.url, side=IMAGE_SIZE)
        self.html: Any = jinja.get_template("page.html").module
        self.examples = {each.path: each for each in read_examples()}
        for example in self.examples.values():
            example.write_thumbnail(self.pictures)

    def url(self, path: Path) -> str:
        """Return the address of an example or a result, relative to the page's."""
        return f"pictures/{quote(path.relative_to(self.pictures).as_posix())}"

    def about(self) -> tuple[str, Any]:
        """Return the section about the models in the registry, and the switch of heat maps."""
        return self._about(self.champions.slots())

    def _about(self, slots: Sequence[Slot]) -> tuple[str, Any]:
        shades = any(slot.champion and slot.champion.takes("output") for slot in slots)
        return self.html.models(slots), gr.update(visible=shades)

    def pick(self, event: gr.EventData) -> tuple[list[str], int, int]:
        """Return the example whose button was pressed, as a list of one path, and no hints."""
        paths = [str(each.path) for each in self.examples.values() if each.name == event.example]
        return paths, 0, 0

    def choose(self, event: gr.EventData) -> tuple[float, float]:
        """Return the hints of the variation that was clicked: warmth and tint."""
        return float(event.warmth), float(event.tint)

    def take_hint(
        self, reference: str, uploads: list[str], tta: bool, saturation: float
    ) -> tuple[float, float]:
        """Return the hints, warmth and tint, that give the first picture a reference's mean color.

        Raises:
            gr.Error: a sentence for the visitor.
        """
        champions = [slot.champion for slot in self.champions.slots() if slot.champion]
        champion = next((each for each in reversed(champions) if each.takes("warmth")), None)
        try:
            require_upload(Path(reference), self.uploads)
            if not (uploads and champion):
                raise InputError("There is no picture to color: choose one first.")
            if Path(uploads[0]) not in self.examples:
                require_upload(Path(uploads[0]), self.uploads)
            options = {"tta": tta, "saturation": saturation}
            warmth, tint = hint_from(Path(reference), Path(uploads[0]), champion, options)
            return round(warmth, 2), round(tint, 2)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def color(
        self,
        uploads: list[str],
        tta: bool,
        saturation: float,
        warmth: float,
        tint: float,
        unsure: bool,
        before: str | None,
    ) -> Iterator[tuple]:
        """Color uploads and examples one by one; yield what the page shows, and so at the end.

        The params are those of the page's controls: `tta` averages with the mirror image,
        `saturation` goes from 0, gray, to 2, `warmth` from -1, blue, to 1, orange, and `tint` from
        -1, green, to 1, magenta; `unsure` shows heat maps as well. The folder of this visitor's
        results `before` is deleted.

        Yields:
            Status, results, models, switch of heat maps, whether hints show, variations, folder of
            the results.
        """
        give_memory_back()  # of the event before
        slots = self.champions.slots()
        champions = [slot.champion for slot in slots if slot.champion]
        about = self._about(slots)
        if not (uploads and champions):
            forget(before)
            problems = [self.html.reason(slot) for slot in slots] if uploads else []
            yield self.html.status("", problems), "", *about, gr.update(visible=False), "", None
            return
        make_room(self.results, MAX_RESULTS_BYTES)
        folder = Path(tempfile.mkdtemp(dir=self.results))
        limit = f"{MAX_PICTURES_AT_ONCE} pictures at once are colored, the others left out."
        done: list[Picture] = []
        problems = [limit] if len(uploads) > MAX_PICTURES_AT_ONCE else []
        paths = [Path(upload) for upload in uploads[:MAX_PICTURES_AT_ONCE]]
        options = {"tta": tta, "saturation": saturation, "warmth": warmth, "tint": tint}
        try:
            for number, (path, name) in enumerate(zip(paths, name_apart(paths), strict=True)):
                shown = self.html.pictures(done, slots) if done else gr.skip()
                coloring = self.html.status(f"Coloring {name} …", problems, number, len(paths))
                yield coloring, shown, *about, gr.skip(), gr.skip(), str(folder)
                try:
                    example = self.examples.get(path)
                    if example is None:
                        require_upload(path, self.uploads)
                    painted = example is not None and example.painted
                    results = folder / str(number)
                    picture = color_upload(
                        path, name, painted, champions, results, unsure, **options
                    )
                    done.append(picture)
                except InputError as error:
                    problems.append(str(error))
                except Exception:  # a full disk, a network that does not fit into memory
                    logger.exception("%s could not be colored", name)
                    problems.append(f"{name} could not be colored; the server's log tells why.")
            status = self.html.status(summarize(done, champions), problems)
            archive = write_archive(done, folder) if len(done) > 1 else None
            strip = self._strip(done, warmth, tint, folder)
            results = self.html.pictures(done, slots, archive)
            yield status, results, *about, gr.update(visible=bool(strip)), strip, str(folder)
        except Exception:
            before = None  # the page goes on showing those results
            raise
        finally:  # late: the browser may have been loading it when this event came
            forget(before)

    def _strip(self, done: Sequence[Picture], warmth: float, tint: float, folder: Path) -> str:
        """Return variations of the first picture by the last champion that takes hints, or ""."""
        colored = done[0].colored if done else []
        hinted = next((each for each in reversed(colored) if each.champion.takes("warmth")), None)
        if hinted is None:
            return ""
        return self.html.strip(write_variations(hinted, warmth, tint, folder), warmth, tint)


def name_apart(paths: Sequence[Path]) -> list[str]:
    """Return the files' names, numbered where stems are equal, as the downloads' would be."""
    names: dict[str, str] = {}  # by stem, as macOS and Windows compare it
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in names:
            number += 1
            stem = f"{path.stem}-{number}"
        names[stem.casefold()] = stem + path.suffix
    return list(names.values())


def require_upload(path: Path, uploads: Path) -> None:
    """Raise an InputError unless a path leads to a file in the folder of uploads."""
    if not is_upload(path, uploads):
        raise InputError(f"{path.name} is no longer here: choose it again.")


def summarize(done: Sequence[Picture], champions: Sequence[Champion]) -> str:
    """Return a sentence about the colored pictures; empty if there are none."""
    if not done:
        return ""
    what = done[0].name if len(done) == 1 else f"{len(done)} pictures"
    return f"Colored {what} by {' and '.join(champion.family for champion in champions)}."


def write_archive(done: Sequence[Picture], folder: Path) -> Path:
    """Write the downloads of all pictures into one ZIP; return its path."""
    path = folder / "colored-pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:  # PNG is compressed already
        for picture in done:
            for colored in picture.colored:
                archive.write(colored.download, colored.download.name)
    return path


def forget(folder: str | None) -> None:
    """Delete a visitor's results, if there are any."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def give_memory_back() -> None:
    """Return the memory of freed objects to the system, in a millisecond or two.

    glibc keeps what a thread has freed for that thread, and each event runs in another one: a page
    would grow by a hundred megabytes with visits and with champions that are replaced.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
