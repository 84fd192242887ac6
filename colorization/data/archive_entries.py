"""The files in an untrusted .zip or .tar: listed, checked, and read one by one."""

import bz2
import contextlib
import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from colorization import limits
from colorization.data.archive_names import encoding_of
from colorization.errors import InputError
from colorization.paths import as_text


class Entry(NamedTuple):
    """A file in an archive: its path with forward slashes, its bytes, and what copies it."""

    name: str
    size: int
    copy: Callable[[IO[bytes]], None]


@contextlib.contextmanager
def entries(archive: Path) -> Iterator[list[Entry]]:
    """Open an archive; gives its files in their order.

    Raises:
        ValueError: there are too many, or one is a link, encrypted, would land outside, or is far
            too large or too deeply nested.
    """
    is_zip = archive.name.lower().endswith(".zip")
    with (_zip_entries if is_zip else _tar_entries)(archive) as found:
        yield found


def refusal(archive: Path, expected: str, received: str) -> InputError:
    """Return the error of an archive that cannot be used."""
    return InputError(
        f"Cannot use the archive {str(archive)!r}. {expected}. If you trust it, unpack it "
        f"yourself and give the folder: `-P data=path/to/folder`. "
        f"Received: entry={received[:200]!r}"
    )


class _Zip(io.BufferedReader):
    """A file for `zipfile`, which reads the whole list of entries at once, whatever its length."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(str(path)))

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > limits.MAX_DIRECTORY_BYTES:
            expected = f"Expected a list of entries of at most {limits.MAX_DIRECTORY_BYTES} bytes"
            raise refusal(Path(self.name), expected, f"{size}")
        return super().read(size)


@contextlib.contextmanager
def _zip_entries(archive: Path) -> Iterator[list[Entry]]:
    with _Zip(archive) as file, zipfile.ZipFile(file) as opened:
        found = opened.infolist()
        require_small(archive, len(found), sum(each.file_size for each in found))
        # Without the flag of UTF-8, `zipfile` takes the names for CP437.
        unknown = {each.filename.encode("cp437") for each in found if not each.flag_bits & 0x800}
        encoding = encoding_of(sorted(unknown))
        files = []
        for each in found:
            if not each.flag_bits & 0x800:
                each.filename = each.filename.encode("cp437").decode(encoding, "replace")
            each.filename = each.filename.replace("\\", "/")  # as some programs of Windows do
            _check_path(archive, each.filename)
            _check_zipped(archive, each)
            if not each.filename.endswith("/"):
                files.append(Entry(each.filename, each.file_size, partial(_copy, opened, each)))
        yield files


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes]) -> None:
    with archive.open(entry) as source:  # gives no more than the size that it declares
        shutil.copyfileobj(source, target)


def _check_zipped(archive: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse links, encryption and zip bombs."""
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refusal(archive, "Expected files and folders only, no links", name)
    if entry.flag_bits & 0x1:
        raise refusal(archive, "Expected an archive without a password", name)
    # Other methods (LZMA) may take gigabytes of memory for their dictionaries.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refusal(archive, "Expected entries that are stored or deflated", name)
    if entry.file_size > max(limits.SMALL_ENTRY_BYTES, limits.MAX_RATIO * entry.compress_size):
        expected = f"Expected entries compressed to 1/{limits.MAX_RATIO} at the most"
        raise refusal(archive, expected, f"{name}, {entry.compress_size} to {entry.file_size}")


class _Tar:
    """A file for `tarfile`, which reads a long name at once, whatever its length.

    Attributes:
        left: bytes that it may still read, as long names and other headers have them.
    """

    def __init__(self, archive: Path, file: Any):
        self._archive, self._file, self.left = archive, file, limits.MAX_TAR_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            expected = f"Expected entries with at most {limits.MAX_TAR_HEADER_BYTES} bytes of names"
            raise refusal(self._archive, expected, "more")
        return self._file.read(size)


@contextlib.contextmanager
def _tar_entries(archive: Path) -> Iterator[list[Entry]]:
    with open(archive, "rb") as plain:
        start = plain.peek(2)[:2]
        file: Any = plain
        if start == b"\x1f\x8b":
            file = gzip.GzipFile(fileobj=plain)
        elif start == b"BZ":
            file = bz2.BZ2File(plain)
        yield list(_read_tar(archive, file))


def _read_tar(archive: Path, file: Any) -> Iterator[Entry]:
    """Yield the files of a tar, compressed or not; it is read to its end, where its checksum is."""
    bounded, count, total = _Tar(archive, file), 0, 0
    try:
        opened = tarfile.TarFile(fileobj=bounded)  # type: ignore[arg-type]  # all that it calls
        while (member := opened.next()) is not None:
            count, total = count + 1, total + member.size
            require_small(archive, count, total)
            require_honest(archive, total)
            name = as_text(member.name.replace("\\", "/"))  # as in a .zip of Windows
            _check_path(archive, name)
            if member.issparse() or not (member.isreg() or member.isdir()) or member.size < 0:
                expected = "Expected whole files and folders only, no links"
                raise refusal(archive, expected, name)
            if member.isreg():
                copy = partial(_copy_part, file, member.offset_data, member.size)
                yield Entry(name, member.size, copy)
            opened.members.clear()  # type: ignore[attr-defined]  # each holds its headers
            opened.pax_headers = {}
            bounded.left = limits.MAX_TAR_HEADER_BYTES
        file.seek(opened.offset)
        end = file.read(limits.MAX_TAR_HEADER_BYTES)
        if end[: tarfile.BLOCKSIZE].strip(b"\0"):  # `tarfile` takes damage for the end
            raise tarfile.ReadError("a damaged header")
    except InputError:
        raise
    except (RecursionError, OverflowError, ValueError) as error:  # of headers made for that
        raise tarfile.ReadError(str(error)) from error


def _copy_part(source: IO[bytes], start: int, size: int, target: IO[bytes]) -> None:
    source.seek(start)
    while size:
        chunk = source.read(min(size, limits.MIB))
        if not chunk:
            raise EOFError("cut short")
        target.write(chunk)
        size -= len(chunk)


def _check_path(archive: Path, name: str) -> None:
    if (
        name.startswith("/")
        or re.match(r"[A-Za-z]:", name)
        or ".." in name.split("/")
        or "\0" in name
    ):
        raise refusal(archive, "Expected entries that stay inside the archive's folder", name)
    if name.count("/") > limits.MAX_DEPTH:
        raise refusal(archive, f"Expected at most {limits.MAX_DEPTH} folders in each other", name)


def require_small(archive: Path, count: int, total: int) -> None:
    """Raise a ValueError if an archive has too many entries, or bytes when unpacked."""
    if count > limits.MAX_ENTRIES:
        raise refusal(archive, f"Expected at most {limits.MAX_ENTRIES} entries", f"{count}")
    if total > limits.MAX_ARCHIVE_BYTES:
        expected = f"Expected at most {limits.MAX_ARCHIVE_BYTES} bytes unpacked"
        raise refusal(archive, expected, f"{total}")


def require_honest(archive: Path, total: int) -> None:
    """Refuse a bomb of many small entries, or of entries that overlap (Fifield 2019)."""
    size = archive.stat().st_size
    if total > max(limits.SMALL_ARCHIVE_BYTES, limits.MAX_RATIO * size):
        expected = f"Expected pictures compressed to 1/{limits.MAX_RATIO} at the most, all together"
        raise refusal(archive, expected, f"{size} bytes to {total}")
