"""Unpack the pictures of a .zip that nobody vouches for."""

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from colorization.data.listing import choose

# The Kaggle archive holds 5,700 entries and under 2 GiB; a phone's whole library fits as well.
MAX_ENTRIES = 200_000
MAX_BYTES = 64 * 2**30
# Pictures hardly shrink in a .zip; a drawing kept as .bmp can by a factor of a hundred or so.
# Deflate ends at 1,032: what comes near it was made to fill disks.
MAX_RATIO = 300
_SMALL = 2**20  # bytes; below, a ratio means nothing


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the pictures of a .zip into an existing, empty folder.

    Raises:
        ValueError: If the archive is damaged or encrypted, holds no pictures, or an entry is a
            link, would land outside the folder, or is of an absurd size.
        OSError: If the disk has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check_sizes(archive, entries)
            for entry in entries:
                _check_entry(archive, entry)
            pictures = _pictures(entries)
            if not pictures:
                raise _refusal(archive, "Expected photographs in it", "no pictures")
            _check_room(archive, pictures, folder)
            for entry in tqdm(pictures, f"Unpacking {archive.name}", unit="", mininterval=0.5):
                opened.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _refusal(archive, "Expected a whole .zip: fetch it again", str(error)) from error


def _pictures(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Choose what to unpack, by the same rules as in a folder."""
    by_name = {entry.filename: entry for entry in entries if not entry.is_dir()}
    return [by_name[name] for name in choose(by_name)]


def _check_sizes(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _refusal(archive, f"Expected at most {MAX_ENTRIES} entries", f"{len(entries)}")
    total = sum(entry.file_size for entry in entries)  # more than that is never written
    if total > MAX_BYTES:
        raise _refusal(archive, f"Expected at most {MAX_BYTES} bytes unpacked", f"{total}")


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that no honest archive of photographs has."""
    name = entry.orig_filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise _refusal(archive, "Expected entries that stay inside the archive's folder", name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(archive, "Expected files and folders only, no links", name)
    if entry.flag_bits & 0x1:
        raise _refusal(archive, "Expected an archive without a password", name)
    if entry.file_size > max(_SMALL, MAX_RATIO * entry.compress_size):
        expected = f"Expected entries compressed to 1/{MAX_RATIO} at the most"
        raise _refusal(archive, expected, f"{name}, {entry.compress_size} to {entry.file_size}")


def _check_room(archive: Path, pictures: list[zipfile.ZipInfo], folder: Path) -> None:
    needed = sum(entry.file_size for entry in pictures)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"No room to unpack {str(archive)!r}. Expected {needed} bytes free: make room, or "
            f"move the cache with COLORIZATION_CACHE. Received: free={free}"
        )


def _refusal(archive: Path, expected: str, received: str) -> ValueError:
    return ValueError(
        f"Cannot use the archive {str(archive)!r}. {expected}. If you trust it, unpack it "
        f"yourself and give the folder: `-P data=path/to/folder`. Received: entry={received!r}"
    )
