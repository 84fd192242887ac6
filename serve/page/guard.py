"""What stands in front of Gradio: only the page's own requests pass, and only with its password.

Gradio serves far more than one page needs: any upload, links to saved states, a proxy, an API.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import math
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gradio_client.utils import is_file_obj_with_meta, traverse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colorization.errors import InputError
from colorization.limits import MAX_EVENT_BYTES, MAX_UPLOADS_BYTES, MIB, UPLOADS_KEPT

EVENT, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
ALLOWED = {  # method -> paths that the page requests; a slash at the end: all below it
    "GET": (
        *("/", "/theme.css", "/favicon.ico", "/assets/", "/static/", "/pictures/"),
        *("/gradio_api/heartbeat/", "/gradio_api/queue/data", "/gradio_api/upload_progress"),
        "/gradio_api/app_id",  # tells a page that lost its server to load anew
    ),
    "POST": (EVENT, UPLOAD),
}
ASK_PASSWORD = {"WWW-Authenticate": 'Basic realm="Garden birds in color", charset="UTF-8"'}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Gradio has scripts and styles inline, and evaluates the JavaScript of gr.HTML.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' "
    "data:; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
}


class Guard:
    """ASGI middleware that refuses requests which the page does not make itself.

    It keeps `uploads`, the folder of the visitors' files, below a quota.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads
        self.expected = 0  # bytes of the uploads that are on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400, 403, 404 or 413 and a sentence."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page opens no websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        expected = 0
        try:
            receive = await self._check(scope, receive)
            if (scope["method"], scope["path"]) == ("POST", UPLOAD):
                expected = self._admit(Headers(scope=scope))
                receive = limited(receive, expected, "An upload")
        except HTTPException as refusal:
            answer = PlainTextResponse(refusal.detail, refusal.status_code, HEADERS)
            await answer(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await self.app(scope, receive, send_guarded)
        finally:
            self.expected -= expected

    def _admit(self, headers: Headers) -> int:
        """Make room for an upload beside those that are on their way; return its size in bytes."""
        length = headers.get("content-length", "")
        if not length.isdecimal():
            raise HTTPException(411, "An upload must state its size.")
        if self.expected + int(length) > MAX_UPLOADS_BYTES:
            raise HTTPException(413, f"All uploads must stay below {MAX_UPLOADS_BYTES // MIB} MB.")
        self.expected += int(length)
        make_room(self.uploads, MAX_UPLOADS_BYTES - self.expected, UPLOADS_KEPT[1])
        return int(length)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """Return the `receive` for the request's body, if the page makes such a request."""
        method, path = scope["method"], scope["path"]
        if not is_allowed(method, path):
            raise HTTPException(404, "The page has nothing under this address.")
        if method == "GET":
            if path == "/":
                scope["query_string"] = b""  # it could load a saved state
            return receive
        if is_foreign(Headers(scope=scope)):
            raise HTTPException(403, "Another website sent this request: open the page itself.")
        if path == UPLOAD:
            return receive
        request = Request(scope, limited(receive, MAX_EVENT_BYTES, "The request"))
        body = await request.body()
        check_files(body, self.uploads)
        return replayed(body, receive)


def is_allowed(method: str, path: str) -> bool:
    """Tell whether the page requests this path by this method."""
    return any(
        path == each or (each.endswith("/") and each != "/" and path.startswith(each))
        for each in ALLOWED.get("GET" if method == "HEAD" else method, ())
    )


def is_foreign(headers: Headers) -> bool:
    """Tell whether a browser sent this request on behalf of another website."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
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
            raise HTTPException(413, f"{what} must stay below {limit} bytes.")
        return message

    return receive_limited


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body again that was read already, then what follows."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_replayed() -> Message:
        return messages.pop() if messages else await receive()

    return receive_replayed


def check_files(body: bytes, uploads: Path) -> None:
    """Check that all files in an event are uploads, by Gradio's own rule of what is a file.

    Gradio would copy any local file into the uploads, and download URLs.

    Raises:
        HTTPException: a file is not an upload, or the body is not JSON.
    """

    def check(file: dict) -> dict:
        if not is_upload(file["path"], uploads):
            raise HTTPException(403, "The file was not uploaded: choose it again.")
        return file

    try:
        traverse(json.loads(body), check, is_file_obj_with_meta)
    except (ValueError, AttributeError, RecursionError):
        raise HTTPException(400, "The request cannot be read.") from None


def is_upload(path: str | Path, uploads: Path) -> bool:
    """Tell whether a path leads to a regular file in the folder of uploads, links followed."""
    try:
        real = Path(path).resolve()
        return real.is_relative_to(uploads.resolve()) and real.is_file()
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, a loop of links
        return False


def make_room(folder: Path, most: int, kept_seconds: float = math.inf) -> None:
    """Delete the oldest files below a folder until all of them take at most `most` bytes.

    Files that are older than `kept_seconds` are deleted in any case: Gradio does not know those of
    a request that the page would not make. Folders that are empty already are deleted too. None of
    them waits for its upload, which Gradio moves there in the same step of the event loop.
    """
    files = []
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            with suppress(OSError):  # deleted by another request
                path = Path(parent, name)
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        for name in folders:
            with suppress(OSError):  # not empty
                os.rmdir(Path(parent, name))
    used, oldest = sum(size for _, size, _ in files), time.time() - kept_seconds
    for changed, size, path in sorted(files):
        if used <= most and changed >= oldest:
            break
        path.unlink(missing_ok=True)
        used -= size


class Password:
    """ASGI middleware that answers 401 unless a request has one of the names with its password.

    That is HTTP Basic authentication, RFC 7617, of the `users` of `read_users`.
    """

    def __init__(self, app: ASGIApp, users: Sequence[bytes]) -> None:
        self.app = app
        self.users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":  # the guard behind closes websockets
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("authorization")
        if given and self._knows(given):
            await self.app(scope, receive, send)
            return
        if given:
            await asyncio.sleep(1)  # slows those down who guess
        what = "The name or the password is wrong." if given else "The page has a password."
        await PlainTextResponse(what, 401, HEADERS | ASK_PASSWORD)(scope, receive, send)

    def _knows(self, given: str) -> bool:
        scheme, _, text = given.partition(" ")
        try:
            digest = hashlib.sha256(base64.b64decode(text)).digest()
        except (binascii.Error, ValueError):
            return False
        found = [hmac.compare_digest(digest, user) for user in self.users]  # always all of them
        return scheme.lower() == "basic" and any(found)


def read_users(file: Path) -> list[bytes]:
    """Return the SHA-256 of each line `name:password` of a file; blank ones at its end are none.

    Raises:
        InputError: the file cannot be read, others can read it, or a line has no such form.
    """
    try:
        mode = file.stat().st_mode
        lines = file.read_bytes().rstrip(b"\r\n").splitlines()
    except OSError as error:
        raise InputError(
            f"Expected a file of lines name:password. Received: password_file={str(file)!r} "
            f"({error.strerror})"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"Expected a file that only its owner may read: chmod 600 {file}. "
            f"Received: password_file={str(file)!r} with mode {stat.S_IMODE(mode):o}"
        )
    for number, line in enumerate(lines or [b""], 1):
        if not all(line.partition(b":")[::2]):
            raise InputError(
                "Expected name:password on each line, and at least one. "
                f"Received: password_file={str(file)!r}, where line {number} is not"
            )
    return [hashlib.sha256(line).digest() for line in lines]
