"""The list of a source's pictures: what each is, which split it is in, or why it is left out."""

import csv
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_TEXT: dict[str, Any] = {"encoding": "utf-8", "newline": ""}  # the same bytes on every system


@dataclass(frozen=True)
class Row:
    """One picture.

    Where the source's folders give a split, the note says how the picture came to its own, and
    which picture of another split is nearly the same. The hash is `photograph.perceptual_hash`, as
    the run of a training logs it of what it used. Otherwise each is "", and no column of the file:
    a digest must not depend on it.
    """

    path: str  # relative to the source's folder, with forward slashes, see `listing.relative`
    sha256: str  # of the file, in hex; "" if it could not be read
    species: str  # name of the folder it lies in, "" for the source's own folder
    split: str  # "train", "val" or "test"; "" if it is left out
    reason: str  # why it is left out, else ""
    note: str = ""
    hash: str = ""


_OPTIONAL = ("note", "hash")
_ALWAYS = [field.name for field in fields(Row) if field.name not in _OPTIONAL]


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV with a header."""
    columns = _ALWAYS + [name for name in _OPTIONAL if any(getattr(row, name) for row in rows)]
    with path.open("w", **_TEXT) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        # The csv module writes a bare \r without quotes and then cannot read it back.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in rows:
            text = [getattr(row, name) for name in columns]
            (quoting if "\r" in row.path + row.note else writer).writerow(text)


def read(path: Path) -> list[Row]:
    """Read what `write` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with path.open("r", **_TEXT) as file:
            header, *lines = csv.reader(file, strict=True)
            if header != _ALWAYS + [name for name in _OPTIONAL if name in header]:
                raise ValueError("its header")
            return [Row(**dict(zip(header, line, strict=True))) for line in lines]
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"Expected a whole manifest. Received: {str(path)!r}, {error}") from error


def digest(path: Path) -> str:
    """Return 32 hex digits that change with the manifest's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def in_split(rows: Sequence[Row], split: str) -> list[int]:
    """Return the indices of a split's rows in the order of its array: by content, not species."""
    chosen = (index for index, row in enumerate(rows) if row.split == split)
    return sorted(chosen, key=lambda index: (rows[index].sha256, rows[index].path))


def known_splits(manifests: Iterable[Path]) -> dict[str, str]:
    """Return SHA-256 -> split of the latest manifest that can be read."""
    for path in sorted(manifests, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            return {row.sha256: row.split for row in read(path) if row.split}
        except (OSError, ValueError) as error:
            logger.warning("Ignored a damaged manifest, %s: %s", path, error)
    return {}
