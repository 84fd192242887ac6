"""What the page does: it colors a visitor's pictures, and takes hints for their colors."""

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import jinja2

from colorization.data.photograph import IMAGE_SIZE
from colorization.errors import InputError
from colorization.limits import MAX_PICTURES_AT_ONCE, MAX_RESULTS_BYTES
from serve.page.champions import Champion, Champions
from serve.page.coloring import Picture, color_upload
from serve.page.examples import read_examples
from serve.page.guard import is_upload, make_room

HERE = Path(__file__).parent

logger = logging.getLogger(__name__)


class Page:
    """The events of the page; each visitor's results lie in a folder of their own.

    Args:
        folder: existing and empty; the caller deletes it.

    Attributes:
        pictures: folder of thumbnails of the examples and of the results, which are served.
        results: folder below it, of the results.
        uploads: folder of the visitors' files, which are not.
    """

    def __init__(self, folder: Path) -> None:
        self.pictures, self.uploads = folder / "pictures", folder / "uploads"
        self.results = self.pictures / "results"
        self.results.mkdir(parents=True)
        self.uploads.mkdir()
        self.champions = Champions()
        jinja = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(HERE))
        jinja.globals.update(url=self.url, side=IMAGE_SIZE)
        self.html: Any = jinja.get_template("page.html").module
        self.examples = {each.path: each for each in read_examples()}
        for example in self.examples.values():
            example.write_thumbnail(self.pictures)

    def url(self, path: Path) -> str:
        """Return the address of an example or a result, relative to the page's."""
        return f"pictures/{quote(path.relative_to(self.pictures).as_posix())}"

    def models(self) -> str:
        """Return the section about the models, as the registry is now."""
        return self.html.models(self.champions.slots())

    def pick(self, event: gr.EventData) -> list[str]:
        """Return the example whose button was pressed, as a list of one path."""
        return [str(each.path) for each in self.examples.values() if each.name == event.example]

    def color(
        self, uploads: list[str], tta: bool, saturation: float, before: str | None
    ) -> Iterator[tuple]:
        """Color files one by one; yield status, results, models, folder of the results.

        Args:
            uploads: paths; only uploads and examples are colored.
            tta: average over the picture and its mirror image.
            saturation: factor on the chroma.
            before: folder of this visitor's former results, which is deleted.
        """
        forget(before)
        slots = self.champions.slots()
        champions = [slot.champion for slot in slots if slot.champion]
        models = self.html.models(slots)
        if not (uploads and champions):
            problems = [self.html.reason(slot) for slot in slots] if uploads else []
            yield self.html.status("", problems), "", models, None
            return
        make_room(self.results, MAX_RESULTS_BYTES)
        folder = Path(tempfile.mkdtemp(dir=self.results))
        limit = f"{MAX_PICTURES_AT_ONCE} pictures at once are colored, the others left out."
        done: list[Picture] = []
        problems = [limit] if len(uploads) > MAX_PICTURES_AT_ONCE else []
        paths = [Path(upload) for upload in uploads[:MAX_PICTURES_AT_ONCE]]
        for number, (path, name) in enumerate(zip(paths, name_apart(paths), strict=True)):
            shown = self.html.pictures(done, slots) if done else gr.skip()
            coloring = self.html.status(f"Coloring {name} …", problems, number, len(paths))
            yield coloring, shown, models, str(folder)
            try:
                example = self.examples.get(path)
                if example is None:
                    require_upload(path, self.uploads)
                painted = example is not None and example.painted
                options = {"tta": tta, "saturation": saturation}
                results = folder / str(number)
                done.append(color_upload(path, name, painted, champions, results, **options))
            except InputError as error:
                problems.append(str(error))
            except Exception:  # a full disk, a network that does not fit into memory
                logger.exception("%s could not be colored", name)
                problems.append(f"{name} could not be colored; the server's log tells why.")
        status = self.html.status(summarize(done, champions), problems)
        archive = write_archive(done, folder) if len(done) > 1 else None
        yield status, self.html.pictures(done, slots, archive), models, str(folder)


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
    """Check that a path leads to a file in the folder of uploads.

    Raises:
        InputError: it does not.
    """
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
