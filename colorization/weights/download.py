"""Fetches weights: from a file, an earlier run, a URL or Google Drive. Downloads are cached."""

import hashlib
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import gdown
import h5py
import requests
from gdown.exceptions import DownloadError, FileURLRetrievalError
from tqdm import tqdm

from colorization import limits
from colorization.address import redacted, shown
from colorization.data.cache import build_once, cache_folder
from colorization.data.watch import TooLargeError, watch
from colorization.paths import user_path
from colorization.weights import drive, file_size, logged

FILE = "weights"  # in a folder of its own in the cache
TIMEOUT = 30  # seconds without a byte
RETRIES = 2
HEAD_BYTES = 65536  # read of a page that came instead of a file

logger = logging.getLogger(__name__)


def resolve(reference: str) -> str:
    """Return what a user typed as it is logged and fetched, and as it still means it tomorrow.

    Blanks around it go, Google Drive's links get their scheme, and a model of this project becomes
    the run that keeps its weights.

    Raises:
        InputError: there is no such model.
    """
    if os.path.isfile(user_path(reference)):
        return reference
    reference = drive.with_scheme(reference.strip())
    return logged.resolve(reference) if logged.is_logged(reference) else reference


def fetch(reference: str, sha256: str = "") -> Path:
    """Return the file that `reference` names, downloaded unless it is cached.

    It is the path of a file, id of a run of this project, `runs:/...`, `models:/...`, http(s) URL,
    or id or URL of a file or folder of Google Drive. The file must have the SHA-256, in hex, if one
    is given; a cached file with another one is replaced.

    Raises:
        FileNotFoundError: there is no such file, or the server has none.
        PermissionError: Google Drive or the server denies access.
        ConnectionError: the download broke off, or a quota is used up.
        ValueError: it is not a Keras file or not the expected one, or there is no such run or
            model, or a folder does not hold one Keras file.
    """
    expected = sha256.strip().lower()
    if expected and not re.fullmatch("[0-9a-f]{64}", expected):
        raise ValueError(f"Bad SHA-256. Expected 64 hexadecimal digits. Received: sha256={sha256}")
    reference = resolve(reference)
    path = user_path(reference)
    if os.path.isfile(path):
        _require_sound(path, shown(reference), expected)
        return path
    key, bring = _origin(reference)

    def is_whole(folder: Path) -> bool:
        return os.path.isfile(folder / FILE) and expected in ("", digest(folder / FILE))

    def build(folder: Path) -> None:
        bring(folder / FILE)
        _require_sound(folder / FILE, shown(reference), expected)

    return build_once(cache_folder() / "weights" / key, build, is_whole) / FILE


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_of(path: Path) -> str:
    """Return `.keras` or `.h5` by a file's content, not its name; "" if it is neither."""
    if zipfile.is_zipfile(path):
        return ".keras"
    return ".h5" if h5py.is_hdf5(path) else ""


def _origin(reference: str) -> tuple[str, Callable[[Path], None]]:
    """Return the cache key of a resolved reference, and a function that writes its file."""
    hashed = hashlib.sha256(reference.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if logged.is_logged(reference):
        is_run = re.fullmatch("[0-9a-f]{32}", reference)
        key = f"run-{reference}" if is_run else f"logged-{hashed}"
        return key, lambda file: logged.bring(reference, file)
    try:
        link = drive.parse(reference)
    except ValueError:  # whose words quote the password
        raise ValueError(
            f"This is no address. Expected an http(s) URL. Received: {shown(reference)!r}"
        ) from None
    if link:
        key = f"drive-{'folder-' if link.is_folder else ''}{link.id}"
        return key, lambda file: _bring_from_drive(file, shown(reference), link)
    if re.match("https?://", reference, re.IGNORECASE):
        return f"url-{hashed}", lambda file: _bring_from_web(file, shown(reference), url=reference)
    named = reference
    if re.search("[@?]", reference):  # perhaps an address without a scheme, with a password
        named = shown(f"https://{reference}").removeprefix("https://")
    raise FileNotFoundError(
        "There are no such weights. Expected the path of a .keras or .h5 file, an http(s) URL, "
        "an id or URL of Google Drive, the id of a run of this project, runs:/... or models:/...; "
        f"relative paths start from {str(user_path(''))!r}. Received: {named!r}"
    )


def _bring_from_drive(file: Path, source: str, link: drive.Link) -> None:
    if link.is_folder:
        link = drive.only_network(link, TIMEOUT)
    try:
        _bring_from_web(file, source, **link.address)
    except (FileNotFoundError, PermissionError) as error:
        raise _not_shared(source) from error
    page = _page(file)
    if link.key and page and not _is_about_quota(page):
        raise _not_shared(source)


def _bring_from_web(file: Path, source: str, **address: str) -> None:
    """Download with gdown; raise an error that explains how it failed."""
    logger.info("downloading %s", source)
    try:
        with (
            watch(file.parent, limits.MAX_WEIGHTS_BYTES),
            tqdm(unit="B", unit_scale=True, disable=None) as bar,
        ):
            gdown.download(
                **address,  # type: ignore[arg-type]
                output=str(file),
                quiet=True,  # it would print the address
                progress=lambda come, _: bar.update(come - bar.n),
                use_cookies=False,  # which gdown keeps in the home folder
                timeout=TIMEOUT,
                retries=RETRIES,
            )
    except FileURLRetrievalError as error:
        if _is_about_quota(str(error)):
            raise _quota(source) from error
        raise _not_shared(source) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise _denied(source, status) from error
    except TooLargeError as error:
        raise ConnectionError(
            "What the server sent is no network's weights, and was deleted. Expected at most "
            f"{limits.MAX_WEIGHTS_BYTES} bytes: check the address. Received: {source!r}: {error}"
        ) from error
    except (DownloadError, OSError) as error:  # requests' errors are OSErrors
        cause = " ".join(redacted(error, *address.values()).split("\n")[0].split())
        raise ConnectionError(
            "The download broke off; what had come was deleted. Expected a whole file: run the "
            f"same command again. Received: {source!r}: {cause}"
        ) from error


def _denied(source: str, status: int | None) -> OSError:
    """Return the error for an HTTP status: of the address, of rights, or of the server."""
    received = f"Received: status {status} for {source!r}"
    if status in (404, 410):
        return FileNotFoundError(f"The server has no such file. Expected a file's URL. {received}")
    if status in (401, 403):
        return PermissionError(
            f"The server does not give the file out. Expected a public one. {received}"
        )
    return ConnectionError(f"The server fails. Expected a file: try again later. {received}")


def _require_sound(file: Path, source: str, sha256: str) -> None:
    """Raise a ConnectionError or ValueError unless it is a Keras file, and the expected one."""
    if not format_of(file):
        page = _page(file)
        if page and _is_about_quota(page):
            raise _quota(source)
        received = "a web page instead of a file" if page else "something else"
        raise ValueError(
            "This is not a Keras file. Expected a whole model as `model.save` writes it, .keras "
            f"(a zip) or .h5 (HDF5). Received: {received}, {file.stat().st_size} bytes, from "
            f"{source!r}"
        )
    if format_of(file) == ".keras":
        _require_whole(file, source)
    if sha256 and (found := digest(file)) != sha256:
        raise ValueError(
            "The file is not the expected one, and was not used. Expected SHA-256 "
            f"{sha256}. Received: {found}, from {source!r}"
        )


def _require_whole(file: Path, source: str) -> None:
    """Raise a ValueError if a zip is too large unpacked, or its checksums show damage."""
    try:
        file_size.require_small_zip(file)
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        damaged = str(error)  # RuntimeError: encrypted
    if damaged:
        raise ValueError(
            "The file is damaged. Expected a .keras file as `model.save` writes it: bring it here "
            f"again. Received: {source!r}: {damaged}"
        )


def _page(file: Path) -> str:
    """Return the beginning of a web page that came instead of a file, "" if none did."""
    with open(file, "rb") as opened:
        head = opened.read(HEAD_BYTES).decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    return head if head.startswith("<") else ""


def _not_shared(source: str) -> PermissionError:
    return PermissionError(
        "Google Drive does not give the file out: the id is wrong, the file is not shared, it is "
        "a folder, the link's resourcekey is missing or wrong, or Drive does not answer just now. "
        "Expected the whole link of a file shared with `Anyone with the link`; check that it opens "
        f"in a private window of a browser. Received: {source!r}"
    )


def _is_about_quota(text: str) -> bool:
    return bool(re.search("too many users|quota exceeded", text, re.IGNORECASE))


def _quota(source: str) -> ConnectionError:
    return ConnectionError(
        "Google Drive sent its quota page instead of the file: too many people have downloaded it "
        "lately. Expected the file: try again in a day, or download it in a browser and give its "
        f"path. Received: {source!r}"
    )
