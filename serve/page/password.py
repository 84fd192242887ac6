"""The password of a page that others reach: HTTP Basic authentication, RFC 7617."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import stat
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from colorization.errors import InputError
from serve.page.guard import HEADERS

ASK = {"WWW-Authenticate": 'Basic realm="Garden birds in color", charset="UTF-8"'}


class Password:
    """ASGI middleware that answers 401 unless a request has one of the names with its password.

    Args:
        app: the application behind it.
        users: of `read_users`.
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
        await PlainTextResponse(what, 401, HEADERS | ASK)(scope, receive, send)

    def _knows(self, given: str) -> bool:
        scheme, _, text = given.partition(" ")
        try:
            digest = hashlib.sha256(base64.b64decode(text)).digest()
        except (binascii.Error, ValueError):
            return False
        found = [hmac.compare_digest(digest, user) for user in self.users]  # always all of them
        return scheme.lower() == "basic" and any(found)


def read_users(file: Path) -> list[bytes]:
    """Return the SHA-256 of each line `name:password` of a file.

    Raises:
        InputError: the file cannot be read, others can read it, or a line has no such form.
    """
    try:
        mode = file.stat().st_mode
        lines = file.read_bytes().splitlines()
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
    if not lines or not all(all(line.partition(b":")[::2]) for line in lines):
        raise InputError(
            "Expected name:password on each line, and at least one. "
            f"Received: password_file={str(file)!r} with another one"
        )
    return [hashlib.sha256(line).digest() for line in lines]
