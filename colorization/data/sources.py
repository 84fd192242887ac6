"""The sources of pictures: the sample, Kaggle, a folder or an archive."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from colorization.data import download
from colorization.data.archive import SUFFIXES, unpack
from colorization.data.cache import build_once, cache_folder
from colorization.paths import ROOT, as_text, printable, user_path

SAMPLE = ROOT / "assets" / "sample.zip"
_FILE = "file://"
_NAME = 200  # characters; MLflow and Optuna take some 500


@dataclass(frozen=True)
class Source:
    """Pictures on this disk, below an absolute folder, and the URI where they came from.

    The name is "sample", "kaggle", or the own one of the dataset, the folder, or the archive
    without suffix; printable, and shortened where it is very long.
    """

    name: str
    kind: str  # "painted" for the sample, "photographs" otherwise
    uri: str
    folder: Path


def fetch(data: str) -> Source:
    """Return the pictures that `data` names, downloaded or unpacked unless they are cached.

    That is "sample"; "kaggle", or "kaggle:<owner>/<dataset>" for another dataset there; or the path
    or `file://` address of a folder or an archive. Relative paths start from where the user stands;
    a folder called "sample" is reached as "./sample".

    Raises:
        FileNotFoundError: there is no such folder or archive.
        ValueError: it is neither a folder nor an archive, or the archive is unsafe or damaged; or
            it is not the name of a dataset.
        PermissionError: Kaggle asks for credentials, or for others.
        ConnectionError: the download from Kaggle is incomplete.
    """
    if data == "sample":
        return _sample()
    if data == "kaggle":
        return _kaggle(download.DATASET)
    if data.startswith("kaggle:"):
        return _kaggle(data.removeprefix("kaggle:"))
    require(data)
    path = _path(data).resolve()
    if path.is_dir():
        return Source(_name(path.name), "photographs", path.as_uri(), path)
    stem = path.name[: -len(_suffix(path))]
    return Source(_name(stem), "photographs", path.as_uri(), _unpacked(path, stem))


def require(data: str) -> None:
    """Raise what `fetch` raises at once where `data` is a path that cannot be used."""
    if data in ("sample", "kaggle") or data.startswith("kaggle:"):
        return
    path = _path(data)
    if not data.strip() or not path.exists():
        raise FileNotFoundError(
            f"There is no such data. Expected `sample` (painted birds, needs nothing), `kaggle` "
            f"(downloads photographs of birds), `kaggle:<owner>/<dataset>` (others), or the path "
            f"of a folder or an archive ({' '.join(SUFFIXES)}) with photographs, relative ones "
            f"starting from {str(user_path(''))!r}. Received: data={data!r}"
        )
    path = path.resolve()
    if not path.is_dir() and not (_suffix(path) and path.is_file()):  # reading a pipe would block
        raise ValueError(
            f"This file cannot be used as data. Expected `sample`, `kaggle`, a folder with "
            f"photographs, or an archive of one ({' '.join(SUFFIXES)}): put the pictures into a "
            f"folder and give its path. Received: data={data!r}"
        )


def located(data: str) -> str:
    """Return `data` so that it names the same pictures wherever a process of this machine works."""
    if data in ("sample", "kaggle") or data.startswith(("kaggle:", _FILE)):
        return data
    path = user_path(data)
    return str(path) if as_text(str(path)) == str(path) else path.as_uri()


def _path(data: str) -> Path:
    if data.startswith(_FILE):
        return Path(os.fsdecode(unquote_to_bytes(data.removeprefix(_FILE))))
    return user_path(data)


def _suffix(path: Path) -> str:
    return next((each for each in SUFFIXES if path.name.lower().endswith(each)), "")


def _name(name: str) -> str:
    return printable(name)[:_NAME]


def _sample() -> Source:
    """Unpack the sample, once for all checkouts: its content names the folder, not its path."""
    sha256 = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()[:16]
    folder = build_once(
        cache_folder() / "archives" / f"sample-{sha256}", lambda partial: unpack(SAMPLE, partial)
    )
    return Source("sample", "painted", f"sample:painted-birds?sha256={sha256}", folder)


def _kaggle(dataset: str) -> Source:
    folder = download.download(dataset)
    name = "kaggle" if dataset == download.DATASET else dataset.split("/")[1]
    return Source(name, "photographs", f"kaggle:{dataset}", folder)


def _unpacked(archive: Path, stem: str) -> Path:
    """Return the folder of an archive's pictures, unpacked into the cache once."""
    status = archive.stat()
    # The 2 is for another way to unpack: before, names with backslashes were none of folders.
    identity = f"2\0{archive}\0{status.st_size}\0{status.st_mtime_ns}"
    key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = cache_folder() / "archives" / f"{stem[:40]}-{key}"
    return build_once(folder, lambda partial: unpack(archive, partial))
