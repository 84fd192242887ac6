"""The sources of pictures: the sample, Kaggle, a folder or an archive."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from colorization.data import download
from colorization.data.archive import unpack
from colorization.data.cache import build_once, cache_folder

__all__ = ["Source", "cache_folder", "fetch", "require"]

SAMPLE = Path(__file__).parents[2] / "assets" / "sample.zip"


@dataclass(frozen=True)
class Source:
    """Pictures on this disk.

    Attributes:
        name: "sample", "kaggle", or the own name of the dataset, the folder, or the archive without
            suffix.
        kind: "painted" for the sample, "photographs" otherwise.
        uri: where the pictures came from.
        folder: the root folder of the pictures, absolute.
    """

    name: str
    kind: str
    uri: str
    folder: Path


def fetch(data: str) -> Source:
    """Return the pictures that `data` names, downloaded or unpacked unless they are cached.

    Args:
        data: "sample"; "kaggle", or "kaggle:<owner>/<dataset>" for another dataset there; or the
            path of a folder or a .zip. Relative paths start from the current directory; a folder
            called "sample" is reached as "./sample".

    Raises:
        FileNotFoundError: there is no such folder or archive.
        ValueError: it is neither a folder nor a .zip, or the archive is unsafe or damaged; or it
            is not the name of a dataset.
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
    path = Path(data).expanduser().resolve()
    if path.is_dir():
        return Source(path.name, "photographs", path.as_uri(), path)
    return Source(path.stem, "photographs", path.as_uri(), _unpacked(path))


def require(data: str) -> None:
    """Raise what `fetch` raises at once where `data` is a path that cannot be used."""
    if data in ("sample", "kaggle") or data.startswith("kaggle:"):
        return
    path = Path(data).expanduser()
    if not data.strip() or not path.exists():
        raise FileNotFoundError(
            f"There is no such data. Expected `sample` (painted birds, needs nothing), `kaggle` "
            f"(downloads photographs of birds), `kaggle:<owner>/<dataset>` (others), or the path "
            f"of a folder or a .zip with photographs, relative ones starting from "
            f"{str(Path.cwd())!r}. Received: data={data!r}"
        )
    # Reading a pipe would block.
    if not path.is_dir() and not (path.suffix.lower() == ".zip" and path.is_file()):
        raise ValueError(
            f"This file cannot be used as data. Expected `sample`, `kaggle`, a folder with "
            f"photographs, or a .zip of one: put the pictures into a folder and give its path. "
            f"Received: data={data!r}"
        )


def _sample() -> Source:
    """Unpack the sample, once for all checkouts: its content names the folder, not its path."""
    sha256 = hashlib.sha256(SAMPLE.read_bytes()).hexdigest()[:16]
    folder = build_once(
        cache_folder() / "archives" / f"sample-{sha256}", lambda partial: unpack(SAMPLE, partial)
    )
    return Source("sample", "painted", f"sample:painted-birds?sha256={sha256}", folder)


def _kaggle(dataset: str) -> Source:
    folder = download.download(dataset, cache_folder())
    name = "kaggle" if dataset == download.DATASET else dataset.split("/")[1]
    return Source(name, "photographs", f"kaggle:{dataset}", folder)


def _unpacked(archive: Path) -> Path:
    """Return the folder of an archive's pictures, unpacked into the cache once."""
    status = archive.stat()
    identity = f"{archive}\0{status.st_size}\0{status.st_mtime_ns}"
    key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = cache_folder() / "archives" / f"{archive.stem[:40]}-{key}"
    return build_once(folder, lambda partial: unpack(archive, partial))
