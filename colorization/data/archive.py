"""Unpacks the pictures of an untrusted .zip."""

import io
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from colorization import limits
from colorization.data.listing import choose


class _Archive(io.BufferedReader):
    """A file for `zipfile`, which reads the whole list of entries at once, whatever its length."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(str(path)))

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > limits.MAX_DIRECTORY_BYTES:
            expected = f"Expected a list of entries of at most {limits.MAX_DIRECTORY_BYTES} bytes"
            raise _refusal(Path(self.name), expected, f"{size}")
        return super().read(size)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the pictures of a .zip into an existing, empty folder.

    Raises:
        ValueError: the archive is damaged or encrypted, or holds no pictures; or an entry is a
            link, would land outside the folder, or is far too large or too deeply nested.
        OSError: the disk has no room for it.
    """
    try:
        with _Archive(archive) as file, zipfile.ZipFile(file) as opened:
            entries = opened.infolist()
            _check_sizes(archive, entries)
            for entry in entries:
                _check_entry(archive, entry)
            pictures = _pictures(entries)
            if not pictures:
                raise _refusal(archive, "Expected photographs in it", "no pictures")
            _check_total(archive, pictures)
            _check_room(archive, pictures, folder)
            for entry in tqdm(pictures, "Unpacking", unit="", mininterval=0.5):
                opened.extract(entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _refusal(archive, "Expected a whole .zip: fetch it again", str(error)) from error


def _pictures(entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Choose what to unpack, by the same rules as in a folder."""
    by_name = {entry.filename: entry for entry in entries if not entry.is_dir()}
    return [by_name[name] for name in choose(by_name)]


def _check_sizes(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > limits.MAX_ENTRIES:
        raise _refusal(archive, f"Expected at most {limits.MAX_ENTRIES} entries", f"{len(entries)}")
    total = sum(entry.file_size for entry in entries)  # `zipfile` unpacks no more
    if total > limits.MAX_ARCHIVE_BYTES:
        raise _refusal(
            archive, f"Expected at most {limits.MAX_ARCHIVE_BYTES} bytes unpacked", f"{total}"
        )


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse path traversal, links, encryption and zip bombs."""
    name = entry.orig_filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in name.split("/"):
        raise _refusal(archive, "Expected entries that stay inside the archive's folder", name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(archive, "Expected files and folders only, no links", name)
    if name.count("/") > limits.MAX_DEPTH:
        raise _refusal(archive, f"Expected at most {limits.MAX_DEPTH} folders in each other", name)
    if entry.flag_bits & 0x1:
        raise _refusal(archive, "Expected an archive without a password", name)
    # Other methods (LZMA) may take gigabytes of memory for their dictionaries.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(archive, "Expected entries that are stored or deflated", name)
    if entry.file_size > max(limits.SMALL_ENTRY_BYTES, limits.MAX_RATIO * entry.compress_size):
        expected = f"Expected entries compressed to 1/{limits.MAX_RATIO} at the most"
        raise _refusal(archive, expected, f"{name}, {entry.compress_size} to {entry.file_size}")


def _check_total(archive: Path, pictures: list[zipfile.ZipInfo]) -> None:
    """Refuse a zip bomb of many small entries, or of entries that overlap (Fifield 2019)."""
    size, total = archive.stat().st_size, sum(entry.file_size for entry in pictures)
    if total > max(limits.SMALL_ARCHIVE_BYTES, limits.MAX_RATIO * size):
        expected = f"Expected pictures compressed to 1/{limits.MAX_RATIO} at the most, all together"
        raise _refusal(archive, expected, f"{len(pictures)} pictures, {size} bytes to {total}")


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
        f"yourself and give the folder: `-P data=path/to/folder`. "
        f"Received: entry={received[:200]!r}"
    )
