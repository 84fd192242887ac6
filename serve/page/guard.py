"""What a stranger can ask the page for: only what the page itself asks for, from the page itself.

Gradio serves far more than one page needs: any upload, links to saved states, a proxy, an API.
"""

import json
import time
from pathlib import Path
from urllib.parse import urlsplit

from gradio_client.utils import is_file_obj_with_meta, traverse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colorization.limits import MAX_EVENT_BYTES, MAX_UPLOADS_BYTES, MAX_UPLOADS_SECONDS, MIB

LOOPBACK = ("127.0.0.1", "localhost")
EVENT, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
OPEN = {  # method -> what the page asks for; a path that ends with a slash: all below it
    "GET": (
        *("/", "/theme.css", "/favicon.ico", "/assets/", "/static/", "/pictures/"),
        *("/gradio_api/heartbeat/", "/gradio_api/queue/data", "/gradio_api/upload_progress"),
    ),
    "POST": (EVENT, UPLOAD),
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Gradio's page holds scripts and styles inline, and makes functions of text for gr.HTML.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' "
    "data:; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
}


class Guard:
    """ASGI middleware that refuses what the page does not ask for itself.

    Args:
        app: the application behind it.
        uploads: folder of the visitors' files. It is kept below a quota, see `make_room`.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403, 404 or 413 and a sentence."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            receive = await self._check(scope, receive)
        except HTTPException as refusal:
            answer = PlainTextResponse(refusal.detail, refusal.status_code, HEADERS)
            await answer(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_guarded)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """Return what reads the request's body.

        Raises:
            HTTPException: the page never asks for this.
        """
        method, path = scope["method"], scope["path"]
        if not is_open(method, path):
            raise HTTPException(404, "The page has nothing under this address.")
        if method == "GET":
            if path == "/":
                scope["query_string"] = b""  # which would load a saved state
            return receive
        if is_foreign(Headers(scope=scope)):
            raise HTTPException(403, "Another website sent this request: open the page itself.")
        if path == UPLOAD:
            return limited(receive, make_room(self.uploads), "The uploads")
        request = Request(scope, limited(receive, MAX_EVENT_BYTES, "The request"))
        body = await request.body()
        check_files(body, self.uploads)
        return replayed(body, receive)


def is_open(method: str, path: str) -> bool:
    """Tell whether the page asks for this path by this method."""
    return any(
        path == each or (each.endswith("/") and each != "/" and path.startswith(each))
        for each in OPEN.get("GET" if method == "HEAD" else method, ())
    )


def is_foreign(headers: Headers) -> bool:
    """Tell whether a browser sent this request on behalf of another website."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return True
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def limited(receive: Receive, limit: int, what: str) -> Receive:
    """Return a `receive` that raises an `HTTPException` once a body is above `limit` bytes."""
    left = limit

    async def receive_limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"{what} must stay below {limit // MIB} MB for now.")
        return message

    return receive_limited


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_replayed() -> Message:
        return messages.pop() if messages else await receive()

    return receive_replayed


def check_files(body: bytes, uploads: Path) -> None:
    """Check the files that an event names, by Gradio's own rule of what names a file.

    Gradio would copy any of them into the uploads, and download those that are URLs.

    Raises:
        HTTPException: one is not an upload, or the body is no JSON.
    """

    def check(file: dict) -> dict:
        if not is_upload(file["path"], uploads):
            raise HTTPException(403, "The file was not uploaded: choose it again.")
        return file

    try:
        traverse(json.loads(body), check, is_file_obj_with_meta)
    except (ValueError, AttributeError, RecursionError):
        raise HTTPException(400, "The request cannot be read.") from None


def is_upload(path: str, uploads: Path) -> bool:
    """Tell whether a path leads to a regular file in the folder of uploads, links followed."""
    try:
        real = Path(path).resolve()
        return real.is_relative_to(uploads.resolve()) and real.is_file()
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, a circle of links
        return False


def make_room(uploads: Path) -> int:
    """Delete old uploads, and return how many bytes new ones may take."""
    now, used = time.time(), 0
    for path in uploads.rglob("*"):
        try:
            status = path.stat()
            if now - status.st_mtime > MAX_UPLOADS_SECONDS and not path.is_dir():
                path.unlink()
            else:
                used += status.st_size
        except OSError:  # another request deletes old ones too
            continue
    return max(0, MAX_UPLOADS_BYTES - used)
