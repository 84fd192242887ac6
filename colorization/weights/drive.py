"""Links of Google Drive: the file, the folder and the resource key that they name."""

import html
import re
from pathlib import PurePath
from typing import NamedTuple, cast
from urllib.parse import parse_qs, urlencode, urlsplit

import gdown
from gdown.download import GoogleDriveFileToDownload
from gdown.exceptions import DownloadError

from colorization.errors import InputError

HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
SUFFIXES = (".keras", ".h5", ".hdf5")
LISTED = 20  # files of a folder that a message names
_HOST = rf"(?:https?:)?(?://)?(?:www\.)?(?=(?:{'|'.join(HOSTS)})/)"
_WITHOUT_SCHEME = re.compile(_HOST, re.IGNORECASE)
_ID_AND_KEY = re.compile(r"(?:id=)?([-\w]{25,})(?:[?&](resourcekey=[-\w]+))?", re.IGNORECASE)


class Link(NamedTuple):
    """A file or folder of Google Drive."""

    id: str  # of letters, digits, `-` and `_`
    key: str = ""  # the resource key, without which files shared before 2021 may be denied
    is_folder: bool = False

    @property
    def address(self) -> dict[str, str]:
        """The arguments with which `gdown.download` fetches the file."""
        if not self.key:
            return {"id": self.id}
        # gdown keeps only the id of Drive's links. Here it does not know the host, and `confirm` is
        # what the page about virus scans would add.
        query = {"id": self.id, "export": "download", "confirm": "t", "resourcekey": self.key}
        return {"url": f"https://drive.usercontent.google.com/download?{urlencode(query)}"}


def with_scheme(reference: str) -> str:
    """Return a link of Google Drive with `https://`, and any other text as it is.

    It may be quoted, or cut from a page or a letter: `<...>`, `&amp;`, `id=...`.
    """
    text = html.unescape(reference.strip(" <>\"'"))
    if found := _WITHOUT_SCHEME.match(text):
        return f"https://{text[found.end() :]}"
    if found := _ID_AND_KEY.fullmatch(text):
        drive_id, key = found.groups()
        return f"https://drive.google.com/open?id={drive_id}&{key}" if key else drive_id
    return reference


def parse(reference: str) -> Link | None:
    """Return what an id, or a link with its scheme, names on Google Drive; None if nothing."""
    if re.fullmatch(r"[-\w]{25,}", reference):
        return Link(reference)
    address = urlsplit(reference)
    if address.hostname not in HOSTS:
        return None
    query = {name.lower(): values[0] for name, values in parse_qs(address.query).items()}
    path = f"{address.path}#{address.fragment}"
    in_path = re.search(r"/(?:d|folders)/([-\w]+)|#folders/([-\w]+)", path)
    found = query.get("id") or (in_path and (in_path[1] or in_path[2])) or ""
    # It becomes the name of a folder: `../` in an address must not lead out of the cache.
    if not re.fullmatch(r"[-\w]{10,}", found):
        return None
    return Link(found, query.get("resourcekey", ""), "folder" in path)


def only_network(folder: Link, timeout: float) -> Link:
    """Return the only Keras file of a folder, at any depth.

    Raises:
        InputError: the folder cannot be listed, or holds no Keras file, or several.
    """
    name = f"https://drive.google.com/drive/folders/{folder.id}"
    try:
        files = gdown.download_folder(
            id=folder.id, skip_download=True, quiet=True, use_cookies=False, timeout=timeout
        )
    except DownloadError as error:
        key = ": gdown cannot send the link's resourcekey for a folder" if folder.key else ""
        raise InputError(
            "Google Drive does not list the folder. Expected one shared with `Anyone with the "
            f"link`, or the link of a file in it{key}. Received: {name!r}"
        ) from error
    files = cast(list[GoogleDriveFileToDownload], files)  # since none is downloaded
    networks = [each for each in files if PurePath(each.path).suffix.lower() in SUFFIXES]
    if len(networks) == 1:
        return Link(networks[0].id)
    shown = [f"{each.path!r} (id {each.id})" for each in networks or files][:LISTED]
    raise InputError(
        f"The folder holds {len(networks)} Keras files. Expected one, .keras or .h5: give the link "
        f"or id of the file itself. Received: {name!r} with {', '.join(shown) or 'no files'}"
    )
