"""The split that a source brings along: its folders `train`, `val` and `test`."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from colorization.data.manifest import Row
from colorization.data.splits import SPLITS, twins

FOLDERS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""Folder's name in lower case -> split."""

OUTSIDE = "outside of the folders train, val and test"
"""Reason to leave a picture out."""

TWIN = "near-duplicate of"
"""In a note, before the path of a picture in another split."""


def by_folder(paths: Sequence[str]) -> list[str] | None:
    """Return the split of each picture's folder, "" outside of all; None if there is no such split.

    The folders lie in the source itself, or below a single folder in it, as archives have one.
    There must be one for training and another: otherwise nothing is split yet.

    Args:
        paths: of the pictures, relative to the source, with forward slashes.
    """
    parents = [PurePosixPath(path).parent.parts for path in paths]
    level = 0
    while True:
        names = {parent[level] for parent in parents if len(parent) > level}
        found = {FOLDERS.get(name.lower(), "") for name in names} - {""}
        if len(found) > 1 and "train" in found:
            break
        if len(names) != 1:
            return None
        level += 1
    return [
        FOLDERS.get(parent[level].lower(), "") if len(parent) > level else "" for parent in parents
    ]


def missing(given: Sequence[str]) -> tuple[str, ...]:
    """Return the splits that have no folder, and are split off the one for training."""
    return tuple(split for split in SPLITS if split not in given)


def notes(rows: Sequence[Row], given: Sequence[str], hashes: np.ndarray) -> list[str]:
    """Say of each picture where its split comes from, and what is nearly the same in another one.

    Args:
        rows: of the pictures in use.
        given: the splits of their folders.
        hashes: uint64 (N, 2, 2), see `splits.twins`.
    """
    texts = []
    for row, folder, near in zip(rows, given, twins(hashes), strict=True):
        text = "given by its folder" if row.split == folder else f"split off {folder}"
        across = [rows[index].path for index in near if rows[index].split != row.split]
        texts.append(f"{text}; {TWIN} {min(across)}" if across else text)
    return texts
