"""Unpacks the pictures of an untrusted .zip or .tar: its files are listed, checked, and copied."""

import bz2
import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import charset_normalizer
from tqdm import tqdm

from colorization import limits
from colorization.data.listing import choose
from colorization.errors import InputError
from colorization.paths import as_text

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
_NAME_BYTES = 255  # that disks take; names in other encodings may be longer as UTF-8
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError)

_JAPANESE = re.compile("[\u3000\u3005-\u3007\u3041-\u30ff\u4e00-\u9fff\uff01-\uff5e]+")
_PARTS = re.compile("([A-Za-z]?)([^\0-\x7f]+)([A-Za-z]?)")
_ACCENTS = re.compile(
    rb"(?<=[A-Za-z])[\x80-\xff](?![\x80-\xff])|(?<![\x80-\xff])[\x80-\xff](?=[A-Za-z])"
)
_OTHERS = ["gb18030", "cp949", "big5", "cp866"]  # of Windows in Chinese, Korean and Russian


class Entry(NamedTuple):
    """A file in an archive: its path with forward slashes, its bytes, and what copies it."""

    name: str
    size: int
    copy: Callable[[IO[bytes]], None]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the pictures of an archive into an existing, empty folder.

    Raises:
        ValueError: the archive is damaged or encrypted, or holds no pictures; or an entry is a
            link, would land outside the folder, or is far too large or too deeply nested.
        OSError: the disk has no room for it.
    """
    try:
        is_zip = archive.name.lower().endswith(".zip")
        with (_zip_entries if is_zip else _tar_entries)(archive) as found:
            chosen = set(choose({entry.name for entry in found}))  # by the rules of a folder
            pictures = [entry for entry in found if entry.name in chosen]
            if not pictures:
                raise _refusal(archive, "Expected photographs in it", "no pictures")
            total = sum(entry.size for entry in pictures)
            _require_honest(archive, total)
            if total > (free := shutil.disk_usage(folder).free):
                raise OSError(
                    f"No room to unpack {str(archive)!r}. Expected {total} bytes free: make room, "
                    f"or move the cache with COLORIZATION_CACHE. Received: free={free}"
                )
            for entry in tqdm(pictures, "Unpacking", unit="", mininterval=0.5):
                _write(entry, folder)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # of a disk
            raise
        raise _damaged(archive, error) from error  # of gzip and bz2


def _damaged(archive: Path, error: Exception) -> ValueError:
    return _refusal(archive, f"Expected a whole {archive.suffix}: fetch it again", str(error))


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


def _refusal(archive: Path, expected: str, received: str) -> InputError:
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
            raise _refusal(Path(self.name), expected, f"{size}")
        return super().read(size)


@contextlib.contextmanager
def _zip_entries(archive: Path) -> Iterator[list[Entry]]:
    with _Zip(archive) as file, zipfile.ZipFile(file) as opened:
        found = opened.infolist()
        _require_small(archive, len(found), sum(each.file_size for each in found))
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
        raise _refusal(archive, "Expected files and folders only, no links", name)
    if entry.flag_bits & 0x1:
        raise _refusal(archive, "Expected an archive without a password", name)
    # Other methods (LZMA) may take gigabytes of memory for their dictionaries.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(archive, "Expected entries that are stored or deflated", name)
    if entry.file_size > max(limits.SMALL_ENTRY_BYTES, limits.MAX_RATIO * entry.compress_size):
        expected = f"Expected entries compressed to 1/{limits.MAX_RATIO} at the most"
        raise _refusal(archive, expected, f"{name}, {entry.compress_size} to {entry.file_size}")


class _Tar:
    """A file for `tarfile`, which reads a long name at once, whatever its length.

    It may still read `left` bytes, as long names and other headers have them.
    """

    def __init__(self, archive: Path, file: Any):
        self._archive, self._file, self.left = archive, file, limits.MAX_TAR_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            expected = f"Expected entries with at most {limits.MAX_TAR_HEADER_BYTES} bytes of names"
            raise _refusal(self._archive, expected, "more")
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
            _require_small(archive, count, total)
            _require_honest(archive, total)
            name = as_text(member.name.replace("\\", "/"))  # as in a .zip of Windows
            _check_path(archive, name)
            if member.issparse() or not (member.isreg() or member.isdir()) or member.size < 0:
                expected = "Expected whole files and folders only, no links"
                raise _refusal(archive, expected, name)
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
        raise _refusal(archive, "Expected entries that stay inside the archive's folder", name)
    if name.count("/") > limits.MAX_DEPTH:
        raise _refusal(archive, f"Expected at most {limits.MAX_DEPTH} folders in each other", name)


def _require_small(archive: Path, count: int, total: int) -> None:
    if count > limits.MAX_ENTRIES:
        raise _refusal(archive, f"Expected at most {limits.MAX_ENTRIES} entries", f"{count}")
    if total > limits.MAX_ARCHIVE_BYTES:
        expected = f"Expected at most {limits.MAX_ARCHIVE_BYTES} bytes unpacked"
        raise _refusal(archive, expected, f"{total}")


def _require_honest(archive: Path, total: int) -> None:
    """Refuse a bomb of many small entries, or of entries that overlap (Fifield 2019)."""
    size = archive.stat().st_size
    if total > max(limits.SMALL_ARCHIVE_BYTES, limits.MAX_RATIO * size):
        expected = f"Expected pictures compressed to 1/{limits.MAX_RATIO} at the most, all together"
        raise _refusal(archive, expected, f"{size} bytes to {total}")


def encoding_of(names: Sequence[bytes]) -> str:
    """Return the encoding of all names: UTF-8, Shift-JIS, CP437, or a best guess.

    A wrong guess garbles names and does no other harm: in CP437, the standard's, any byte is a
    character.
    """
    joined = b"\n".join(names)
    with contextlib.suppress(UnicodeDecodeError):
        joined.decode("utf-8")
        return "utf-8"
    with contextlib.suppress(UnicodeDecodeError):
        if _is_japanese(joined.decode("cp932")):
            return "cp932"
    if 2 * len(_ACCENTS.findall(joined)) > len(re.findall(rb"[\x80-\xff]+", joined)):
        return "cp437"  # single accents in Latin words
    guess = charset_normalizer.from_bytes(joined, cp_isolation=_OTHERS).best()
    return guess.encoding if guess else "cp437"


def _is_japanese(text: str) -> bool:
    """Tell whether most of what is not ASCII is Japanese, and no accent taken for it.

    `L\u00f6we` in CP437 is also `L\u935be` in Shift-JIS: a single sign within a Latin word.
    """
    parts = _PARTS.findall(text)
    japanese = [
        bool(_JAPANESE.fullmatch(part)) and (len(part) > 1 or not (before or after))
        for before, part, after in parts
    ]
    return 2 * sum(japanese) > len(parts)
