"""Clients of a model's server and of the page, which look at every answer."""

import base64
import functools
import http.client
import io
import json
import re
import uuid
from typing import NamedTuple

import requests
from PIL import Image

from benchmarks.picture import paint_jpeg
from serve.page.guard import EVENT, UPLOAD

SIZES = (96, 72), (320, 320), (480, 640), (1280, 960), (1600, 500)
FORMATS = "jpeg", "png", "webp", "tiff", "avif"
PICTURES_A_VISIT = 10
COLORED, REFUSED, NO_REGISTRY = "colored", "refused", "no registry"


class Sent(NamedTuple):
    """What a client sends; without a `size` it is broken, and to be refused."""

    name: str
    content: bytes
    size: tuple[int, int] | None = None


@functools.cache
def paint_pictures() -> list[Sent]:
    """Return a picture of each size in each format."""
    painted = Image.open(io.BytesIO(paint_jpeg(960)))
    pictures = []
    for size in SIZES:
        for kind in FORMATS:
            file = io.BytesIO()
            painted.resize(size).save(file, kind)
            pictures.append(Sent(f"bird.{kind}", file.getvalue(), size))
    return pictures


@functools.cache
def break_pictures() -> list[Sent]:
    """Return one of each kind of what is to be refused."""
    large = io.BytesIO()
    Image.new("1", (9000, 9000)).save(large, "png")  # above the limit of 64 megapixels
    return [
        Sent("truncated.jpg", paint_jpeg()[:9000]),
        Sent("notes.txt", b"no picture, however long " * 99),
        Sent("large.png", large.getvalue()),
        Sent("event.json", b'{"data": '),  # in the place of the whole request
    ]


class ModelClient:
    """Keeps a connection to `mlflow models serve`."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.partition("//")[2], timeout=300)

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Send one request; return the status and the body of the answer."""
        self._connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def send(self, sent: Sent) -> str:
        """Return `COLORED`, `REFUSED`, or what is wrong with the answer."""
        body = as_body(sent.content) if sent.name != "event.json" else sent.content
        try:
            status, answer = self.post(body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__
        if sent.size is None and status == 400:
            return REFUSED
        if sent.size is None or status != 200:
            return f"{status} to {sent.name}"
        picture = base64.b64decode(json.loads(answer)["predictions"][0]["image"])
        same = Image.open(io.BytesIO(picture)).size == sent.size
        return COLORED if same else "a picture of another size"


def as_body(picture: bytes) -> bytes:
    """Return a request to color one picture."""
    rows = {"columns": ["image"], "data": [[base64.b64encode(picture).decode()]]}
    return json.dumps({"dataframe_split": rows}).encode()


class Visitor:
    """Does what a browser does: opens the page, drops some pictures, looks at the results, leaves.

    Requests are those of Gradio's own page, see `tests/test_guard.py`.
    """

    def __init__(self, url: str) -> None:
        self._url, self._browser, self._left = url, requests.Session(), 0

    def send(self, sent: Sent) -> str:
        """Return `COLORED`, `REFUSED`, `NO_REGISTRY`, or what is wrong with the answer."""
        try:
            if not self._left:
                self._open()
            self._left -= 1
            if sent.name == "event.json":
                status = self._browser.post(self._url + EVENT, data=sent.content).status_code
                return REFUSED if status == 400 else f"{status} to {sent.name}"
            return self._drop(sent)
        except (requests.RequestException, RuntimeError) as error:
            self._left = 0
            return str(error) if isinstance(error, RuntimeError) else type(error).__name__

    def _get(self, path: str, **options) -> requests.Response:
        answer = self._browser.get(f"{self._url}/{path}", timeout=300, **options)
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} to {path.partition('?')[0]}")
        return answer

    def _open(self) -> None:
        self._browser.close()  # and with it the heartbeat of the former visit
        self._hash, self._left = uuid.uuid4().hex, PICTURES_A_VISIT
        page = self._get("").text
        config = json.loads(page.split("window.gradio_config = ")[1].split(";</")[0])
        self._heartbeat = self._get(f"gradio_api/heartbeat/{self._hash}", stream=True)
        self._area = next(each["id"] for each in config["components"] if each["type"] == "file")
        events = config["dependencies"]
        (self._upload,) = (
            each["id"] for each in events if [self._area, "upload"] in map(list, each["targets"])
        )
        (self._color,) = (each["id"] for each in events if each["trigger_after"] == self._upload)

    def _drop(self, sent: Sent) -> str:
        answer = self._browser.post(self._url + UPLOAD, files={"files": (sent.name, sent.content)})
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} to {UPLOAD}")
        file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
        self._run(self._upload, [[file | {"orig_name": sent.name}]])
        status, results, *_ = self._run(self._color, [None, False, 1, 0, 0, False, None])
        text = " ".join(re.sub("<[^>]*>", " ", status).split())
        if "cannot be read just now" in text:
            return NO_REGISTRY
        if sent.size is None:
            refused = 'class="problem"' in status and "log tells why" not in text
            return REFUSED if refused else text
        if not text.startswith(f"Colored {sent.name}"):
            return text
        pictures = [self._get(path).content for path in set(re.findall('src="(.+?)"', results))]
        (download,) = set(re.findall('href="(pictures/.+?-pix2pix-.+?)"', results))
        same = Image.open(io.BytesIO(self._get(download).content)).size == sent.size
        return COLORED if same and all(pictures) else "a picture of another size"

    def _run(self, event: int, data: list) -> list:
        """Queue an event; return its last output."""
        body = {"data": data, "fn_index": event, "trigger_id": self._area}
        joined = self._browser.post(
            self._url + EVENT, json=body | {"session_hash": self._hash}, timeout=300
        )
        if joined.status_code != 200:
            raise RuntimeError(f"{joined.status_code} to {EVENT}")
        with self._get(f"gradio_api/queue/data?session_hash={self._hash}", stream=True) as answers:
            for line in filter(None, answers.iter_lines()):
                message = json.loads(line.partition(b":")[2])
                if message["msg"] == "process_completed":
                    if not message["success"]:
                        raise RuntimeError("an event failed")
                    last = message["output"]["data"]
                elif message["msg"] == "close_stream":
                    return last
        raise RuntimeError("an event without an end")
