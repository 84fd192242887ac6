"""Assigns pictures to training, validation and test; near-duplicates never straddle them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}

SPECIES_SIZE = 10
"""A species with at least this many pictures has one in each split."""

STRADDLES = "near-duplicate of pictures in different splits"
"""Reason to leave a picture out, see `assign`."""

# Of 128 bits. Measured on 2,443 photographs (3 million pairs, each also mirrored): 70 pairs differ
# in at most 21 bits, 69 of them the same scene; at 22 to 24 bits strangers outnumber twins.
_TWIN_BITS = 21


def by_content(sha256: str, allowed: Collection[str] = SPLITS) -> str:
    """Return the split that a picture's SHA-256 (hex) alone gives it; else "train"."""
    share = int(sha256[:16], 16) / 2**64
    if share < SHARES["train"]:
        return "train"
    name = "val" if share < SHARES["train"] + SHARES["val"] else "test"
    return name if name in allowed else "train"


def twins(hashes: np.ndarray) -> list[np.ndarray]:
    """Return the indices of each picture's near-duplicates, itself excluded.

    Hashes are uint64 (N, 2, 2), perceptual ones of N pictures and of their mirror images.
    """
    found = [near_duplicates(pair, hashes) for pair in hashes]
    return [indices[indices != index] for index, indices in enumerate(found)]


def near_duplicates(pair: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return the indices of near-duplicates of a picture among N others.

    Its perceptual hashes are a `pair`, uint64 (2, 2), of it and of its mirror image; those of the
    others are (N, K, 2), and K is 1 without their mirror images.
    """
    bits = np.bitwise_count(hashes[:, :, None] ^ pair).sum(axis=3, dtype=np.uint8)  # (N, K, 2)
    return np.flatnonzero(bits.min(axis=(1, 2)) <= _TWIN_BITS)


def assign(
    sha256s: Sequence[str],
    species: Sequence[str],
    hashes: np.ndarray,
    known: Mapping[str, str],
    allowed: Collection[str] = SPLITS,
) -> list[str]:
    """Return the split of each picture, or "" where its near-duplicates are in different ones.

    A picture's content decides, so adding pictures moves no other, with two exceptions. First, a
    near-duplicate follows the one before it: pictures of an earlier manifest come first and keep
    their split, the others follow in the order of their SHA-256. Second, where validation or test
    would be empty, or lack a species of at least `SPECIES_SIZE` pictures, the training picture with
    the highest SHA-256 moves there, with its near-duplicates. It stays there when pictures are
    added, as long as the earlier manifest is cached.

    Each picture has a SHA-256 in hex, a species, and hashes, uint64 (2, 2), see `twins`. The splits
    that are known, by SHA-256, are those of the latest earlier manifest; "train" is always allowed.
    """
    splits = [""] * len(sha256s)
    near = twins(hashes)
    for index in sorted(range(len(sha256s)), key=lambda i: (sha256s[i] not in known, sha256s[i])):
        of_twins = {splits[twin] for twin in near[index]} - {""}
        if sha256s[index] in known:
            splits[index] = known[sha256s[index]]
        elif len(of_twins) < 2:
            splits[index] = of_twins.pop() if of_twins else by_content(sha256s[index], allowed)
    for name in sorted(set(species)):
        members = [index for index, other in enumerate(species) if other == name]
        if len(members) >= SPECIES_SIZE:
            new = [index for index in members if sha256s[index] not in known]
            _fill(members, new, splits, sha256s, near, allowed)
    _fill(range(len(splits)), range(len(splits)), splits, sha256s, near, allowed)
    return splits


def _fill(
    members: Sequence[int],
    movable: Sequence[int],
    splits: list[str],
    sha256s: Sequence[str],
    near: list[np.ndarray],
    allowed: Collection[str],
) -> None:
    """Give each split one of `members`: move the training picture with the highest hash."""
    for empty in ("test", "val"):
        if empty not in allowed or empty in {splits[index] for index in members}:
            continue
        trained = [index for index in movable if splits[index] == "train"]
        for index in sorted(trained, key=lambda index: sha256s[index], reverse=True):
            group = _alike(index, splits, near)
            if group <= set(movable):
                for moved in group:
                    splits[moved] = empty
                break


def _alike(first: int, splits: Sequence[str], near: list[np.ndarray]) -> set[int]:
    """Return a picture and its near-duplicates in the same split, direct and transitive."""
    group, waiting = {first}, [first]
    while waiting:
        fresh = {int(i) for i in near[waiting.pop()] if splits[i] == splits[first]} - group
        group |= fresh
        waiting += fresh
    return group
