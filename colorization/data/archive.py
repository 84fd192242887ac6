"""Unpacks the pictures of an untrusted .zip or .tar."""

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from colorization.data.archive_entries import Entry, entries, refusal, require_honest
from colorization.data.listing import choose

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
_NAME_BYTES = 255  # that disks take; names in other encodings may be longer as UTF-8
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the pictures of an archive into an existing, empty folder.

    Raises:
        ValueError: the archive is damaged or encrypted, or holds no pictures; or an entry is a
            link, would land outside the folder, or is far too large or too deeply nested.
        OSError: the disk has no room for it.
    """
    try:
        with entries(archive) as found:
            chosen = set(
                choose({entry.name for entry in found})
            )  # by the same rules as in a folder
            pictures = [entry for entry in found if entry.name in chosen]
            if not pictures:
                raise refusal(archive, "Expected photographs in it", "no pictures")
            require_honest(archive, sum(entry.size for entry in pictures))
            _require_room(archive, pictures, folder)
            for entry in tqdm(pictures, "Unpacking", unit="", mininterval=0.5):
                _write(entry, folder)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # of a disk
            raise
        raise _damaged(archive, error) from error  # of gzip and bz2


def _damaged(archive: Path, error: Exception) -> ValueError:
    return refusal(archive, f"Expected a whole {archive.suffix}: fetch it again", str(error))


def _write(entry: Entry, folder: Path) -> None:
    path = folder.joinpath(*map(_shortened, entry.name.split("/")))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        entry.copy(file)


def _shortened(name: str) -> str:
    """Return a name that disks take, the same if it is not too long."""
    content = name.encode()
    if len(content) <= _NAME_BYTES:
        return name
    suffix = os.path.splitext(name)[1]
    start = content[: _NAME_BYTES - 50].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(content).hexdigest()[:8]}{suffix if len(suffix) < 9 else ''}"


def _require_room(archive: Path, pictures: Sequence[Entry], folder: Path) -> None:
    needed = sum(entry.size for entry in pictures)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"No room to unpack {str(archive)!r}. Expected {needed} bytes free: make room, or "
            f"move the cache with COLORIZATION_CACHE. Received: free={free}"
        )
