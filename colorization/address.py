"""Addresses as they are shown: without user, password and signature, which a log would keep."""

import os
import re
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
    """Return an address without what gives access: scheme, host, port and path are left.

    What is malformed is not repaired but shown less of: a password may hold any character, so that
    all before the last `@` counts as one. Where that `@` may as well belong to a query, only the
    scheme is left.

    Args:
        url: an address of a server, a database or a file; a text without `://` (a path, an id of
            Google Drive) is returned as it is.
    """
    found = _ADDRESS.fullmatch(url)
    if not found:
        return url
    scheme, rest = found.groups()
    before, _, after = rest.rpartition("@")
    place = _QUERY.split(after, maxsplit=1)[0]
    if _QUERY.search(before) or not _HOSTS.fullmatch(place.split("/")[0]):
        return f"{scheme}://..."
    return f"{scheme}://{place}"


def redacted(text: object, *urls: str) -> str:
    """Return a library's message without the secrets of addresses.

    Args:
        text: the message, or the exception whose message it is.
        *urls: addresses that it may quote, whole or in parts; of any other address in it, what
            `shown` leaves is left.
    """
    told = str(text)
    for url in filter(_ADDRESS.fullmatch, urls):
        for quoted in (url, repr(url)[1:-1]):
            told = told.replace(quoted, shown(url))
        for secret in sorted(_secrets(url), key=len, reverse=True):
            word = re.escape(secret)
            told = re.sub(word if len(secret) >= SHORT else rf"(?<!\w){word}(?!\w)", "***", told)
    told = _IN_TEXT.sub(lambda found: shown(found[0]), told)
    return _QUERY_IN_TEXT.sub(r"\1", told)


def silence_links() -> None:
    """Keep MLflow from printing the address of each run, if the server's own has secrets in it.

    User and password stay where they are: in variables of their own, MLflow would record the user
    with each run, who may be a token.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if shown(uri) != uri:
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def _secrets(url):
    """Return the parts of an address that `shown` leaves out, as they stand and decoded."""
    rest = _ADDRESS.fullmatch(url)[2]
    place = shown(url).partition("://")[2]
    start = rest.rfind("@") + 1
    hidden = rest[:start] + " " + rest[start:].removeprefix(place)
    parts = filter(None, _DELIMITERS.split(hidden))
    return {form for part in parts for form in (part, unquote(part)) if form.strip()}
