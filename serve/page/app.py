"""The web page: its layout in Gradio, and the application around it.

It answers only requests that the page itself makes, see `guard.py`.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.staticfiles import StaticFiles
from gradio import route_utils
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException

from colorization.limits import MAX_UPLOAD_BYTES, MAX_WAITING, UPLOADS_KEPT
from serve.page import LOOPBACK
from serve.page.events import FOLDER, Page, forget
from serve.page.guard import Guard, Password
from serve.pyfunc import MAX_SATURATION

COLORS = {  # Gradio's own grays are too pale for small print
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_400",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_400",
    "error_text_color": "#b91c1c",
    "error_text_color_dark": "#fca5a5",
}
PRIVATE: Any = {"api_visibility": "private"}  # an event for the page only, as the guard has it
# What is pasted, or dropped anywhere, goes through Gradio's own upload.
UPLOAD_JS = """const give = (event, files) => {
  const input = document.querySelector(".drop input[type=file]");
  if (event.defaultPrevented || !input || !files.length) return;
  event.preventDefault();
  input.files = files;
  input.dispatchEvent(new Event("change"));
};
const mark = (on) => document.body.classList.toggle("dragging", on);
document.addEventListener("paste", (event) => give(event, event.clipboardData.files));
document.addEventListener("drop", (event) => give(event, event.dataTransfer.files));
document.addEventListener("drop", () => mark(false), true);
document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  mark(true);
});"""
# Gradio would show a proxy's HTML, or that it is no JSON: here are words. If the server is gone,
# which a proxy says with a status, Gradio waits for it, and loads the page anew.
ERRORS_JS = """const words = {
  401: "The page asks for its password anew: reload it.",
  413: "The pictures are larger than this website takes: choose fewer or smaller ones.",
};
const send = window.fetch;
window.fetch = async (...request) => {
  const answer = await send(...request);
  const type = answer.headers.get("content-type") ?? "";
  if (answer.ok || request[1]?.method !== "POST" || type.startsWith("application/json"))
    return answer;
  const detail = type.startsWith("text/plain") ? await answer.text() : words[answer.status];
  if (!detail) throw Error("The page does not answer just now: try again in a minute.");
  const json = async () => {
    if (answer.url.includes("/upload")) throw Error(detail);
    return {detail};
  };
  return {ok: true, status: answer.status, json};
};"""
# Sends the data attributes of the button that was pressed.
CLICK_JS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("click", {...button.dataset});
});"""
# Gradio's ImageSlider has no keyboard control and no label: here a range input lies on the
# pictures. Gradio writes new results into the old elements and drops their styles: so set them
# again. The gallery's buttons move the keyboard's focus to a picture's heading.
RESULTS_JS = """const place = (range) =>
  range.parentElement.style.setProperty("--at", range.value + "%");
element.addEventListener("input", ({target}) => target.type === "range" && place(target));
element.addEventListener("click", ({target}) => {
  const button = target.closest("[data-to]");
  if (button) document.getElementById(button.dataset.to).focus();
});
watch("value", () => element.querySelectorAll("input[type=range]").forEach(place));"""


class FilesOnly(route_utils.GradioMultiPartParser):
    """Gradio's parser of uploads, without form fields, which it holds in memory."""

    def on_headers_finished(self) -> None:
        """Refuse a part that is not a file."""
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("Only files can be uploaded.")

    async def parse(self) -> FormData:
        """Return the uploads; delete what has come of those that do not come to their end."""
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                Path(file.name).unlink(missing_ok=True)
            raise


def build(page: Page) -> gr.Blocks:
    """Return the page as Gradio's Blocks."""
    html = page.html
    plain = functools.partial(gr.HTML, apply_default_css=False)
    with gr.Blocks(
        title="Garden birds in color", analytics_enabled=False, delete_cache=UPLOADS_KEPT
    ) as blocks:
        plain(html.header(), js_on_load=UPLOAD_JS + ERRORS_JS)
        with gr.Row(elem_classes="inputs"):
            drop = gr.File(
                show_label=False,
                file_count="multiple",
                height=150,
                min_width=300,
                elem_classes="drop",
            )
            examples = plain(html.examples(page.examples), js_on_load=CLICK_JS, min_width=300)
        with gr.Row(elem_classes="controls"):
            tta = gr.Checkbox(
                label="Average with the mirror image: slightly better, half as fast", min_width=280
            )
            saturation = gr.Slider(
                0, MAX_SATURATION, 1, step=0.05, label="Saturation", buttons=[], min_width=280
            )
            unsure = gr.Checkbox(
                label="Show where the models are unsure", visible=False, min_width=280
            )
        status = plain(html.status("", []))
        with gr.Row(elem_classes="hints", visible=False) as hints:
            strip = plain(js_on_load=CLICK_JS, min_width=300)
            with gr.Column(min_width=300):
                hint = functools.partial(gr.Slider, -1, 1, 0, step=0.05, buttons=[])
                warmth = hint(label="Warmth: blue to orange")
                tint = hint(label="Tint: green to magenta")
                reference = gr.UploadButton("Take the mean color of another picture", size="sm")
        results = plain(js_on_load=RESULTS_JS)
        models = plain()
        uploads = gr.State([])
        folder = gr.State(None, delete_callback=forget)  # when the visitor has left
        # A hint is for one picture: the next one begins without.
        dropped = drop.upload(
            lambda files: (files, None, 0, 0), drop, [uploads, drop, warmth, tint], **PRIVATE
        )
        picked = examples.click(page.pick, None, [uploads, warmth, tint], **PRIVATE)
        chosen = strip.click(page.choose, None, [warmth, tint], **PRIVATE)
        taken = reference.upload(
            page.take_hint,
            [reference, uploads, tta, saturation],
            [warmth, tint],
            concurrency_id="color",
            show_progress="hidden",
            **PRIVATE,
        )
        # Not `warmth.change`, which would follow a click on a variation, itself an event.
        events: Any = [dropped.then, picked.then, chosen.then, taken.success]
        events += [*(each.change for each in (tta, saturation, unsure)), warmth.input, tint.input]
        for event in events:
            event(
                page.color,
                [uploads, tta, saturation, warmth, tint, unsure, folder],
                [status, results, models, unsure, hints, strip, folder],
                trigger_mode="always_last",
                concurrency_id="color",  # one at a time, so that memory stays bounded
                show_progress="hidden",
                **PRIVATE,
            )
        blocks.load(page.about, None, [models, unsure], show_progress="hidden", **PRIVATE)
    return blocks


def mount(
    page: Page, root_path: str = "", users: Sequence[bytes] = (), public: bool = False
) -> FastAPI:
    """Return the web application.

    `root_path` is where the page lies on the website of a proxy, which removes it: `/birds`.
    Without `users`, see `guard.read_users`, it has no password. Unless it is `public` or has one,
    it answers under the names of loopback only: a website could point its own name at this address
    (DNS rebinding) and read the answers. A browser sends it no password.
    """
    names = ["*"] if users or public else LOOPBACK
    app = FastAPI(
        openapi_url=None,  # no /docs either
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False),
            Middleware(CORSMiddleware),  # allows no other website; Gradio's own would
            *([Middleware(Password, users=users)] if users else []),
            Middleware(Guard, uploads=page.uploads),
        ],
    )
    app.mount("/pictures", StaticFiles(directory=page.pictures))
    os.environ["GRADIO_TEMP_DIR"] = str(page.uploads)
    route_utils.GradioMultiPartParser = FilesOnly  # type: ignore[misc]
    blocks = build(page).queue(max_size=MAX_WAITING)
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
        root_path=root_path,
        max_file_size=MAX_UPLOAD_BYTES,
        show_error=False,
        theme=theme.set(**COLORS),
        css_paths=FOLDER / "page.css",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
    )
    # Only `launch()` sets it, and without it Gradio takes any local file for an upload.
    blocks.has_launched = True
    return app
