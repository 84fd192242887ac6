"""Downloads photographs from Kaggle: those of twenty British garden birds, or another dataset."""

import contextlib
import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock

from colorization import limits
from colorization.data.archive import unpack
from colorization.data.cache import LOCK, build_once, cache_folder, is_readable, own, writable
from colorization.data.watch import TooLargeError, watch

logger = logging.getLogger(__name__)

DATASET = "davemahony/20-uk-garden-birds"
"""The photographs of birds."""

_NAME = re.compile(r"([A-Za-z0-9][\w-]{0,99})/([A-Za-z0-9][\w-]{0,99})", re.ASCII)
_INSTEAD = "`-P data=sample` needs no download"


def download(dataset: str) -> Path:
    """Return the folder of a dataset's photographs, downloaded and unpacked into the cache once.

    It is named "<owner>/<dataset>", as in its address. An interrupted download is continued by the
    next call; the archive is deleted once unpacked.

    Raises:
        ValueError: that is no such name, or there are no photographs in the dataset.
        PermissionError: Kaggle asks for credentials, or refuses those that there are.
        ConnectionError: the download is incomplete, damaged, too large or too slow.
    """
    name = _NAME.fullmatch(dataset)
    if not name:
        raise ValueError(
            f"This cannot be a dataset of Kaggle. Expected kaggle:<owner>/<dataset>, as in its "
            f"address https://www.kaggle.com/datasets/<owner>/<dataset>. "
            f"Received: data={f'kaggle:{dataset}'!r}"
        )
    # Each other owner has a folder, since another's dataset may have the same name.
    home = cache_folder() / "kaggle" / ("" if dataset == DATASET else f"@{name[1]}")
    folder = home / dataset.replace("/", "-")
    for place in (folder, own(folder)):
        if is_readable(place):
            return place
    downloads = writable(home / "downloads")
    with FileLock(downloads / LOCK):
        archive = downloads / f"{name[2]}.zip"
        return build_once(folder, lambda partial: _bring(dataset, archive, partial))


def _bring(dataset: str, archive: Path, folder: Path) -> None:
    """Download a dataset, and unpack it into a folder."""
    _download(dataset, archive)
    try:
        unpack(archive, folder)
    except ValueError as error:
        archive.unlink(missing_ok=True)  # or the next call would find it again
        if error.__cause__ is None:  # the archive is whole
            raise
        raise ConnectionError(
            f"The download from Kaggle is damaged and was deleted. Expected a whole .zip: run the "
            f"same command again, or {_INSTEAD}. Received: {error}"
        ) from error
    archive.unlink(missing_ok=True)


def _download(dataset: str, archive: Path) -> None:
    """Download a dataset's archive, or continue a download."""
    api, known = _client()
    folder = archive.parent
    logger.info("Downloading %s from Kaggle into %s", dataset, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr), watch(folder, limits.MAX_KAGGLE_BYTES):
            api.dataset_download_files(dataset, path=str(folder), quiet=False)  # it prints
    except TooLargeError as error:
        archive.unlink(missing_ok=True)
        raise ConnectionError(
            f"What Kaggle sent for {dataset!r} is too much, and was deleted. Expected at most "
            f"{limits.MAX_KAGGLE_BYTES} bytes: try again later, or {_INSTEAD}. Received: {error}"
        ) from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403, 404):
            raise (_refused if known else _needs_credentials)(dataset, status) from error
        raise _interrupted(error) from error
    except (requests.RequestException, OSError, ValueError) as error:
        raise _interrupted(error) from error


def _refused(dataset: str, status: int) -> PermissionError:
    return PermissionError(
        f"Kaggle refuses to hand out {dataset!r}. Expected credentials that it accepts: make a "
        f"new token at https://www.kaggle.com/settings, or remove the old one, since public "
        f"datasets need none; and open https://www.kaggle.com/datasets/{dataset} once in a "
        f"browser, to see whether there is one. {_INSTEAD}. Received: status={status}"
    )


def _needs_credentials(dataset: str, status: int) -> PermissionError:
    return PermissionError(
        f"Kaggle needs credentials. It does not hand out {dataset!r} to everybody, or has no such "
        f"dataset: see https://www.kaggle.com/datasets/{dataset}. Expected one of: a token from "
        f"https://www.kaggle.com/settings in the file ~/.kaggle/access_token or in the variable "
        f"KAGGLE_API_TOKEN; the older ~/.kaggle/kaggle.json; KAGGLE_USERNAME and KAGGLE_KEY. "
        f"{_INSTEAD}. Received: status={status} without valid credentials"
    )


def _interrupted(received: object) -> ConnectionError:
    return ConnectionError(
        f"The download from Kaggle did not end. Expected a working connection: run the same "
        f"command again, it continues where it stopped; or {_INSTEAD}. Received: {received}"
    )


def _client() -> tuple[Any, bool]:
    """Return Kaggle's client, and whether it has credentials; public datasets need none.

    The package looks for them on import. Where there are none, it prints so and calls `exit`,
    unless its own command line is at work; the client can be used all the same.
    """
    silent = io.StringIO()
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except (SystemExit, ValueError, KeyError):
        return api, False
    except requests.HTTPError as error:  # a token is checked online
        if error.response is None or error.response.status_code != 401:
            raise _interrupted(error) from error
        return api, False
    except OSError as error:
        raise _interrupted(error) from error
    return api, True
