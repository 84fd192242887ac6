"""From photographs to the rows of a manifest: each picture's split, or why it is left out."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from colorization.data import splits
from colorization.data.manifest import Row
from colorization.data.photograph import Photograph
from colorization.data.sources import Source
from colorization.paths import printable

logger = logging.getLogger(__name__)

MIN_IMAGES = 10
"""Fewer usable pictures than this are an error: too few to train and test on."""

FOLDERS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""Folder's name in lower case -> split."""

OUTSIDE = "outside of the folders train, val and test"
"""Reason to leave a picture out."""

TWIN = "near-duplicate of"
"""In a note, before the path of a picture in another split."""

_NAMED = 20  # the log names this many pictures


def by_folder(paths: Sequence[str]) -> list[str] | None:
    """Return the split of each picture's folder, "" outside of all; None if there is no such split.

    The folders lie in the source itself, or below a single folder in it, as archives have one.
    There must be one for training and another: otherwise nothing is split yet. Paths are relative
    to the source, with forward slashes.
    """
    parents = [PurePosixPath(path).parent.parts for path in paths]
    level = 0
    while True:
        names = {parent[level] for parent in parents if len(parent) > level}
        if _is_split(names):
            break
        if len(names) != 1:
            return None
        level += 1
    return [
        FOLDERS.get(parent[level].lower(), "") if len(parent) > level else "" for parent in parents
    ]


def _is_split(names: set[str]) -> bool:
    found = {FOLDERS[name.lower()] for name in names if name.lower() in FOLDERS}
    return len(found) > 1 and "train" in found


def split(
    paths: Sequence[str], photographs: Sequence[Photograph], known: dict[str, str]
) -> list[Row]:
    """Give each picture its split, by its path, what was read of it, and what is known of it.

    Paths are relative to the source, with forward slashes; the splits that are known, by SHA-256,
    are those of the latest earlier manifest. Rows are in the order of the paths.
    """
    given = by_folder(paths)
    if given is None and _is_split({part for path in paths for part in PurePosixPath(path).parts}):
        logger.warning(
            "Folders named train, val or test lie within others: they are not taken as the split. "
            "Expected them at the top"
        )
    no_species = [] if given is None else FOLDERS
    folders = [PurePosixPath(path).parent.name for path in paths]
    species = ["" if name.lower() in no_species else name for name in folders]
    reasons = [each.reason for each in photographs]
    usable = [index for index, reason in enumerate(reasons) if not reason]
    split_of = {} if given is None else {index: given[index] for index in usable}
    allowed = splits.SPLITS if given is None else ("train", *_missing(given))
    if len(allowed) > 1:
        free = [index for index in usable if given is None or given[index] == "train"]
        assigned = splits.assign(
            [photographs[index].sha256 for index in free],
            [species[index] for index in free],
            np.stack([each.hashes for each in photographs])[free],
            {sha256: name for sha256, name in known.items() if name in allowed},
            allowed,
        )
        split_of |= dict(zip(free, assigned, strict=True))
    for index in usable:
        if not split_of[index]:
            outside = given is not None and not given[index]
            reasons[index] = OUTSIDE if outside else splits.STRADDLES
    rows = [
        Row(path, each.sha256, name, split_of.get(index, ""), reasons[index])
        for index, (path, each, name) in enumerate(zip(paths, photographs, species, strict=True))
    ]
    return rows if given is None else _with_notes(rows, photographs, given)


def _missing(given: Sequence[str]) -> tuple[str, ...]:
    """Return the splits that have no folder, and are split off the one for training."""
    return tuple(split for split in splits.SPLITS if split not in given)


def _with_notes(
    rows: Sequence[Row], photographs: Sequence[Photograph], given: Sequence[str]
) -> list[Row]:
    """Note of each used picture where its split comes from, and a twin in another; log both."""
    used = [index for index, row in enumerate(rows) if row.split]
    hashes = np.stack([each.hashes for each in photographs])[used]
    noted = list(rows)
    for index, near in zip(used, splits.twins(hashes), strict=True):
        split, folder = rows[index].split, given[index]
        note = "given by its folder" if split == folder else f"split off {folder}"
        others = [rows[used[each]] for each in near]
        if across := [row.path for row in others if row.split != split]:
            note += f"; {TWIN} {min(across)}"
        noted[index] = dataclasses.replace(rows[index], note=note)
    absent = " and ".join(_missing(given))
    also = f"; {absent} {'are' if ' ' in absent else 'is'} split off train" if absent else ""
    logger.info("The split is that of the source's folders%s", also)
    twins = [row for row in noted if TWIN in row.note]
    if twins:
        logger.warning(
            "%d pictures are near-duplicates of one in another split; they stay where their "
            "folders have them, and flatter the scores: %s",
            len(twins),
            _named([f"{printable(row.path)} ({printable(row.note)})" for row in twins]),
        )
    return noted


def check(rows: Sequence[Row], source: Source) -> None:
    """Log what is left out; raise a ValueError if the rest cannot be trained and tested on."""
    left_out = [row for row in rows if row.reason]
    if left_out:
        named = _named([f"{printable(row.path)} ({row.reason})" for row in left_out])
        logger.warning("Left out %d of %d pictures: %s", len(left_out), len(rows), named)
    usable = len(rows) - len(left_out)
    reasons = Counter(row.reason for row in left_out)
    why = "".join(f"; {count} left out, {reason}" for reason, count in reasons.most_common(3))
    received = f"folder={str(source.folder)!r}"
    if usable < MIN_IMAGES:
        raise ValueError(
            f"Too few usable pictures. Expected at least {MIN_IMAGES}: add photographs, or start "
            f"with `-P data=sample`. Received: usable={usable}, {received}{why}"
        )
    counts = Counter(row.split for row in rows if row.split)
    if len(counts) == len(splits.SPLITS):
        each = ", ".join(f"{counts[split]} {split}" for split in splits.SPLITS)
        logger.info("Prepared %d pictures: %s", usable, each)
    elif any(row.note for row in rows):
        raise ValueError(
            f"A split is empty. Expected usable photographs of different scenes in each folder of "
            f"train, val and test: add some. Received: {received}, splits={dict(counts)}{why}"
        )
    else:
        raise ValueError(
            f"The pictures are all near-duplicates of each other, so that there is none to test "
            f"on. Expected at least three different scenes: add other photographs. "
            f"Received: {received}, splits={dict(counts)}"
        )


def _named(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more
