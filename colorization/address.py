"""Addresses as logs may show them: without user, password and signature."""

import os
import re
import sys
from urllib.parse import unquote

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*)://(.*?)\s*", re.IGNORECASE | re.DOTALL)
_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>()]*[^\s'\"<>().,:;]", re.IGNORECASE)
_QUERY_IN_TEXT = re.compile(r"(/[^\s?'\"]*)\?[^\s'\")]+")  # as requests quotes it: "url: /a?b=c"
_QUERY = re.compile("[?#;&]")
_HOST = r"(?:[\w.-]*|\[[0-9a-f:.]+\])(?::\d*)?"
_HOSTS = re.compile(f"{_HOST}(?:,{_HOST})*", re.IGNORECASE)
_DELIMITERS = re.compile(r"[:/?#&=@;,\s]+")
SHORT = 4  # characters; secrets below are replaced only where they are words of their own


def shown(url: str) -> str:
    """Return only the scheme, host, port and path of an address: nothing that gives access.

    A password may hold any character, so everything before the last `@` counts as one. If that `@`
    may belong to a query, only the scheme is shown. A text without `://` (a path, an id of Google
    Drive) is returned as it is, unless a user and a host seem to stand in it.
    """
    found = _ADDRESS.fullmatch(url)
    if not found:
        return _shown_broken(url)
    scheme, rest = found.groups()
    before, _, after = rest.rpartition("@")
    place = _QUERY.split(after, maxsplit=1)[0]
    if _QUERY.search(before) or not _HOSTS.fullmatch(place.split("/")[0]):
        return f"{scheme}://..."
    return f"{scheme}://{place}"


def _shown_broken(text: str) -> str:
    """Shorten what may be an address without its slashes: `user:password@host`, `//user@host`."""
    before, _, _ = text.rpartition("@")
    if before.startswith(("models:/", "runs:/", "file:")):  # the `@` is an alias's, or a path's
        return text
    if before.startswith("//"):
        return "//..."
    return f"{before.partition(':')[0]}:..." if ":" in before else text


def redacted(text: object, *urls: str) -> str:
    """Return a library's message, or an exception's, without the secrets of addresses.

    It may quote `urls` and the tracking server's, whole or in parts. Any other address in it is
    shortened by `shown`.
    """
    message = str(text)
    if mlflow := sys.modules.get("mlflow"):  # not imported where it is not needed
        urls += (mlflow.get_tracking_uri(),)
    for url in urls:
        if shown(url) == url:
            continue
        for quoted in (url, repr(url)[1:-1]):
            message = message.replace(quoted, shown(url))
        secrets = _secrets(url) if _ADDRESS.fullmatch(url) else ()
        for secret in sorted(secrets, key=len, reverse=True):
            word = re.escape(secret)
            pattern = word if len(secret) >= SHORT else rf"(?<!\w){word}(?!\w)"
            message = re.sub(pattern, "***", message)
    message = _IN_TEXT.sub(lambda found: shown(found[0]), message)
    return _QUERY_IN_TEXT.sub(r"\1", message)


def silence_links() -> None:
    """Keep MLflow from printing the address of each run if the tracking URI has secrets in it.

    User and password stay in the URI. From variables of their own, MLflow would record the user
    with each run, and a user may be a token.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if shown(uri) != uri:
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def _secrets(url: str) -> set[str]:
    """Return the parts of an address that `shown` leaves out, as they stand and decoded."""
    rest = url.strip().partition("://")[2]
    place = shown(url).partition("://")[2]
    start = rest.rfind("@") + 1
    hidden = rest[:start] + " " + rest[start:].removeprefix(place)
    parts = filter(None, _DELIMITERS.split(hidden))
    return {form for part in parts for form in (part, unquote(part)) if form.strip()}
