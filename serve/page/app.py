"""The web page: its events, its layout in Gradio, and the application around it.

It answers only requests that the page itself makes, see `guard.py`.
"""

import functools
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import jinja2
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.staticfiles import StaticFiles
from gradio import route_utils
from starlette.formparsers import MultiPartException

from colorization.data.photograph import IMAGE_SIZE
from colorization.errors import InputError
from colorization.limits import MAX_PICTURES_AT_ONCE, MAX_RESULTS_BYTES, MAX_UPLOAD_BYTES
from serve.page.champions import Champion, Champions
from serve.page.coloring import Picture, color_upload
from serve.page.guard import LOOPBACK, Guard, is_upload, make_room
from serve.pyfunc import MAX_SATURATION

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "assets" / "examples"
BIRDS = ("Robin", "Bluetit", "Goldfinch", "Long_Tailed_Tit", "Chaffinch", "Starling")

COLORS = {  # Gradio's own grays are too pale for small print
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_400",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_400",
    "error_text_color": "#b91c1c",
    "error_text_color_dark": "#fca5a5",
}
# Sends the name of the example whose button was pressed.
PICK = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-bird]");
  if (button) trigger("click", {bird: button.dataset.bird});
});"""
# Gradio's ImageSlider has no keyboard control and no label: here a range input lies on the
# pictures. Gradio writes new results into the old elements and drops their styles: so set them
# again. The gallery's buttons move the keyboard's focus to a picture's heading.
RESULTS = """const place = (range) =>
  range.parentElement.style.setProperty("--at", range.value + "%");
element.addEventListener("input", ({target}) => target.type === "range" && place(target));
element.addEventListener("click", ({target}) => {
  const button = target.closest("[data-to]");
  if (button) document.getElementById(button.dataset.to).focus();
});
watch("value", () => element.querySelectorAll("input[type=range]").forEach(place));"""

logger = logging.getLogger(__name__)


class Page:
    """The events of the page; each visitor's results lie in a folder of their own.

    Args:
        folder: existing and empty; the caller deletes it.

    Attributes:
        pictures: folder of the examples and the results, which are served.
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
        self.examples = {}
        for species in BIRDS:
            name = species.replace("_", " ")
            copy = shutil.copyfile(EXAMPLES / f"{species}.jpg", self.pictures / f"{name}.jpg")
            self.examples[name] = copy

    def url(self, path: Path) -> str:
        """Return the address of an example or a result, relative to the page's."""
        return f"pictures/{quote(path.relative_to(self.pictures).as_posix())}"

    def models(self) -> str:
        """Return the section about the models, as the registry is now."""
        return self.html.models(self.champions.slots())

    def pick(self, event: gr.EventData) -> list[str]:
        """Return the example whose button was pressed, as a list of one path."""
        return [str(self.examples[event.bird])]

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
        done, problems = [], [limit] if len(uploads) > MAX_PICTURES_AT_ONCE else []
        paths = [Path(upload) for upload in uploads[:MAX_PICTURES_AT_ONCE]]
        for number, (path, name) in enumerate(zip(paths, name_apart(paths), strict=True)):
            yield self.html.status(f"Coloring {name} …", problems), gr.skip(), models, str(folder)
            try:
                painted = path in self.examples.values()
                if not painted:
                    require_upload(path, self.uploads)
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


class FilesOnly(route_utils.GradioMultiPartParser):
    """Gradio's parser of uploads, without form fields, which it holds in memory."""

    def on_headers_finished(self) -> None:
        """Refuse a part that is not a file."""
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("Only files can be uploaded.")


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


def build(page: Page) -> gr.Blocks:
    """Return the page as Gradio's Blocks."""
    html = page.html
    plain = functools.partial(gr.HTML, apply_default_css=False)
    examples = html.examples({name: page.url(path) for name, path in page.examples.items()})
    with gr.Blocks(title="Garden birds in color", analytics_enabled=False) as blocks:
        plain(html.header())
        with gr.Row(elem_classes="inputs"):
            drop = gr.File(show_label=False, file_count="multiple", height=150, min_width=300)
            birds = plain(examples, js_on_load=PICK, min_width=300)
        with gr.Row(elem_classes="controls"):
            tta = gr.Checkbox(
                label="Average with the mirror image: a little better, half as fast", min_width=280
            )
            saturation = gr.Slider(
                0, MAX_SATURATION, 1, step=0.05, label="Saturation", buttons=[], min_width=280
            )
        status = plain(html.status("", []))
        results = plain(js_on_load=RESULTS)
        models = plain()
        uploads = gr.State([])
        folder = gr.State(None, delete_callback=forget)  # when the visitor has left
        dropped = drop.upload(
            lambda files: (files, None), drop, [uploads, drop], api_visibility="private"
        )
        picked = birds.click(page.pick, None, uploads, api_visibility="private")
        for event in (dropped.then, picked.then, tta.change, saturation.change):
            event(
                page.color,
                [uploads, tta, saturation, folder],
                [status, results, models, folder],
                trigger_mode="always_last",
                concurrency_id="color",  # one at a time, so that memory stays bounded
                api_visibility="private",  # for the page only, as the guard has it
                show_progress="hidden",
            )
        blocks.load(page.models, None, models, show_progress="hidden", api_visibility="private")
    return blocks


def mount(page: Page, hosts: Sequence[str] = LOOPBACK) -> FastAPI:
    """Return the web application.

    Args:
        page: holds the events and the folders.
        hosts: accepted names in the Host header. With any other name, a website could point its
            own name at this address (DNS rebinding) and read the answers.
    """
    app = FastAPI(
        openapi_url=None,  # no /docs either
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(CORSMiddleware),  # allows no other website; Gradio's own would
            Middleware(Guard, uploads=page.uploads),
        ],
    )
    app.mount("/pictures", StaticFiles(directory=page.pictures))
    os.environ["GRADIO_TEMP_DIR"] = str(page.uploads)
    route_utils.GradioMultiPartParser = FilesOnly  # type: ignore[misc]
    blocks = build(page)
    theme = gr.themes.Default(
        primary_hue="orange",
        neutral_hue="stone",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=MAX_UPLOAD_BYTES,
        show_error=False,
        theme=theme.set(**COLORS),
        css_paths=HERE / "page.css",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
    )
    # Only `launch()` sets it, and without it Gradio takes any local file for an upload.
    blocks.has_launched = True
    return app
