"""Downloads the photographs of twenty British garden birds from Kaggle."""

import contextlib
import io
import logging
import sys
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock

from colorization import limits
from colorization.data.archive import unpack
from colorization.data.cache import build_once
from colorization.data.watch import TooLargeError, watch

logger = logging.getLogger(__name__)

DATASET = "davemahony/20-uk-garden-birds"

_INSTEAD = "`-P data=sample` needs no account"


def download(cache: Path) -> Path:
    """Return the folder of Kaggle's photographs, downloaded and unpacked into `cache` once.

    An interrupted download is continued by the next call; the archive is deleted once unpacked.

    Raises:
        PermissionError: there are no credentials for Kaggle, or it refuses them.
        ConnectionError: the download is incomplete, damaged, too large or too slow.
    """
    folder = cache / "kaggle" / DATASET.replace("/", "-")
    if folder.is_dir():
        return folder
    downloads = cache / "kaggle" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with FileLock(downloads / ".lock"):
        if not folder.is_dir():  # another process may just have finished
            archive = _download_archive(downloads)
            _unpack(archive, folder)
            archive.unlink(missing_ok=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    try:
        build_once(folder, lambda partial: unpack(archive, partial))
    except ValueError as error:
        archive.unlink(missing_ok=True)  # or the next call would find it again
        raise ConnectionError(
            f"The download from Kaggle is damaged and was deleted. Expected a whole .zip: run the "
            f"same command again, or {_INSTEAD}. Received: {error}"
        ) from error


def _download_archive(folder: Path) -> Path:
    """Download the archive into `folder`, or continue a download; return its path."""
    api = _authenticated()
    archive = folder / f"{DATASET.split('/')[1]}.zip"
    logger.info("Downloading %s from Kaggle into %s", DATASET, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr), watch(folder, limits.MAX_KAGGLE_BYTES):
            api.dataset_download_files(DATASET, path=str(folder), quiet=False)  # it prints
    except TooLargeError as error:
        archive.unlink(missing_ok=True)
        raise ConnectionError(
            f"What Kaggle sent is not {DATASET!r}, and was deleted. Expected at most "
            f"{limits.MAX_KAGGLE_BYTES} bytes: try again later, or {_INSTEAD}. Received: {error}"
        ) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403, 404):
            raise PermissionError(
                f"Kaggle refuses to hand out {DATASET!r}. Expected credentials that it accepts: "
                f"make a new token at https://www.kaggle.com/settings, and open "
                f"https://www.kaggle.com/datasets/{DATASET} once in a browser; {_INSTEAD}. "
                f"Received: status={status}"
            ) from error
        raise _interrupted(error) from error
    except (requests.RequestException, OSError, ValueError) as error:
        raise _interrupted(error) from error
    return archive


def _interrupted(received: object) -> ConnectionError:
    return ConnectionError(
        f"The download from Kaggle did not end. Expected a working connection: run the same "
        f"command again, it continues where it stopped; or {_INSTEAD}. Received: {received}"
    )


def _authenticated() -> Any:
    """Return Kaggle's client with credentials.

    The package looks for them on import, prints what is missing and calls `exit`.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except (SystemExit, ValueError, KeyError, requests.HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status not in (None, 401):  # a token is checked online
            raise _interrupted(error) from error
        raise PermissionError(
            f"Kaggle needs credentials. Expected one of: a token from "
            f"https://www.kaggle.com/settings in the file ~/.kaggle/access_token or in the "
            f"variable KAGGLE_API_TOKEN; the older ~/.kaggle/kaggle.json; KAGGLE_USERNAME and "
            f"KAGGLE_KEY. {_INSTEAD}. Received: data='kaggle' without valid credentials"
        ) from error
    except OSError as error:
        raise _interrupted(error) from error
    return api
