"""From a source of pictures to cached, memory-mapped splits with a manifest."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from colorization.data import manifest, splits
from colorization.data.cache import build_once, cache_folder
from colorization.data.listing import list_images
from colorization.data.manifest import Row
from colorization.data.photograph import IMAGE_SIZE, Photograph, read
from colorization.data.sources import Source
from colorization.process import printable

logger = logging.getLogger(__name__)

MIN_IMAGES = 10
"""Fewer usable pictures than this are an error: too few to train and test on."""

# Increase it whenever the same files would give other pixels or other splits.
PREPARE_VERSION = 2

_NAMED = 20  # the log names this many of the pictures left out


@dataclass(frozen=True)
class Split:
    """Pictures of one split, in the order of their SHA-256.

    Attributes:
        name: "train", "val" or "test".
        images: uint8 (N, 128, 128, 3), RGB, memory-mapped, read-only.
        species: N names, "" where the pictures lie in no folder of their own.
        paths: N paths relative to the source's folder, with forward slashes.
    """

    name: str
    images: np.ndarray
    species: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """A prepared source.

    Attributes:
        name: of the source: "sample", "kaggle", or the folder's or archive's own name.
        kind: "painted" or "photographs".
        uri: where the pictures came from.
        digest: 32 hex digits of the manifest, the same on every machine.
        manifest: CSV file with the columns path, sha256, species, split, reason; a picture left
            out has a reason and no split.
        train: about 80 in 100 pictures.
        val: about 10 in 100 pictures.
        test: about 10 in 100 pictures.
    """

    name: str
    kind: str
    uri: str
    digest: str
    manifest: Path
    train: Split
    val: Split
    test: Split


def prepare(source: Source) -> Splits:
    """Trim, stretch and split the pictures of a source, once; later calls map the cached arrays.

    Raises:
        FileNotFoundError: there are no pictures in the source.
        ValueError: fewer than `MIN_IMAGES` are usable, or a split would be empty.
    """
    images = list_images(source.folder)
    if not images:
        raise FileNotFoundError(
            f"No pictures found. Expected a folder with photographs in it, at any depth; "
            f"`-P data=sample` needs none. Received: folder={str(source.folder)!r}"
        )
    history = cache_folder() / "prepared" / _key(source)
    entry = history / _fingerprint(source.folder, images)
    prepared = _load(source, entry)
    if prepared is None:
        build_once(
            entry,
            lambda partial: _write(source, images, manifest.known_splits(history), partial),
            is_whole=lambda there: _load(source, there) is not None,
        )
        prepared = _load(source, entry)
    if prepared is None:
        raise OSError(
            f"The prepared pictures cannot be read back. Expected a healthy disk: delete the "
            f"folder and run again. Received: folder={str(entry)!r}"
        )
    return prepared


def _key(source: Source) -> str:
    """Return the name of a source's folder in the cache."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.name)[:40]
    return f"{name}-{hashlib.sha256(source.uri.encode()).hexdigest()[:12]}-v{PREPARE_VERSION}"


def _fingerprint(folder: Path, images: Sequence[Path]) -> str:
    """Hash the pictures' paths, sizes and times, without opening any."""
    digest = hashlib.sha256()
    for image in images:
        try:
            status = image.stat()
            size, time = status.st_size, status.st_mtime_ns
        except OSError:  # a dangling link, listed as unreadable later
            size, time = -1, 0
        digest.update(_relative(image, folder).encode("utf-8", "surrogateescape"))
        digest.update(f"\0{size}\0{time}\n".encode())
    return digest.hexdigest()[:32]


def _relative(image: Path, folder: Path) -> str:
    return image.relative_to(folder).as_posix()


def _write(source: Source, images: Sequence[Path], known: dict[str, str], folder: Path) -> None:
    """Read all pictures and write the manifest and the three arrays into `folder`."""
    shape = (len(images), IMAGE_SIZE, IMAGE_SIZE, 3)
    everything = np.lib.format.open_memmap(folder / "all.npy", "w+", np.uint8, shape)
    photographs = _read_all(images, everything)
    rows = _split(source.folder, images, photographs, known)
    _check(rows, source)
    for name in splits.SPLITS:
        chosen = manifest.in_split(rows, name)
        shape = (len(chosen), IMAGE_SIZE, IMAGE_SIZE, 3)
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for target, index in enumerate(chosen):
            array[target] = everything[index]
        array.flush()
    del everything
    (folder / "all.npy").unlink()
    manifest.write(folder / "manifest.csv", rows)


def _read_all(images: Sequence[Path], out: np.ndarray) -> list[Photograph]:
    """Read pictures on all cores, in threads: Pillow and hashlib release the GIL.

    Forking after TensorFlow has started can deadlock, and each spawned process would import the
    caller's main module again, TensorFlow included.
    """
    pool = ThreadPoolExecutor(_cores(), "photograph")
    try:
        reading = pool.map(read, images, out)
        return list(tqdm(reading, "Preparing pictures", len(images), unit="", mininterval=0.5))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _cores() -> int:
    """Count the cores that this process may use; macOS knows no affinity."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _split(
    folder: Path, images: Sequence[Path], photographs: Sequence[Photograph], known: dict[str, str]
) -> list[Row]:
    """Give each picture its split; the rows are in the order of `images`."""
    usable = [index for index, photograph in enumerate(photographs) if not photograph.reason]
    sha256s = [photographs[index].sha256 for index in usable]
    species = [_species(images[index], folder) for index in usable]
    hashes = np.stack([photograph.hashes for photograph in photographs])[usable]
    split_of = dict(zip(usable, splits.assign(sha256s, species, hashes, known), strict=True))
    rows = []
    for index, (image, photograph) in enumerate(zip(images, photographs, strict=True)):
        split = split_of.get(index, "")
        reason = photograph.reason or ("" if split else splits.STRADDLES)
        path = _relative(image, folder)
        rows.append(Row(path, photograph.sha256, _species(image, folder), split, reason))
    return rows


def _species(image: Path, folder: Path) -> str:
    return "" if image.parent == folder else image.parent.name


def _check(rows: Sequence[Row], source: Source) -> None:
    """Log what is left out; raise a ValueError if the rest cannot be trained and tested on."""
    left_out = [row for row in rows if row.reason]
    if left_out:
        named = "; ".join(f"{printable(row.path)} ({row.reason})" for row in left_out[:_NAMED])
        more = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        logger.warning("Left out %d of %d pictures: %s%s", len(left_out), len(rows), named, more)
    usable = len(rows) - len(left_out)
    if usable < MIN_IMAGES:
        reasons = Counter(row.reason for row in left_out)
        why = "".join(f"; {count} left out, {reason}" for reason, count in reasons.most_common(3))
        raise ValueError(
            f"Too few usable pictures. Expected at least {MIN_IMAGES}: add photographs, or start "
            f"with `-P data=sample`. Received: usable={usable}, "
            f"folder={str(source.folder)!r}{why}"
        )
    counts = Counter(row.split for row in rows if row.split)
    if len(counts) < len(splits.SPLITS):
        raise ValueError(
            f"The pictures are all near-duplicates of each other, so that there is none to test "
            f"on. Expected at least three different scenes: add other photographs. "
            f"Received: folder={str(source.folder)!r}, splits={dict(counts)}"
        )
    logger.info("Prepared %d pictures: %s", usable, dict(counts))


def _load(source: Source, entry: Path) -> Splits | None:
    """Map a prepared source; return None if it is missing or damaged."""
    if not entry.exists():
        return None
    try:
        path = entry / "manifest.csv"
        digest = manifest.digest(path)
        rows = manifest.read(path)
        parts = {name: _map_split(entry, name, rows) for name in splits.SPLITS}
    except (OSError, EOFError, ValueError) as error:
        logger.warning("Rebuilding damaged prepared pictures in %s: %s", entry, error)
        return None
    return Splits(source.name, source.kind, source.uri, digest, path, **parts)


def _map_split(entry: Path, name: str, rows: Sequence[Row]) -> Split:
    chosen = [rows[index] for index in manifest.in_split(rows, name)]
    images = np.load(entry / f"{name}.npy", mmap_mode="r")
    expected = (len(chosen), IMAGE_SIZE, IMAGE_SIZE, 3)
    if images.shape != expected or images.dtype != np.uint8 or not chosen:
        raise ValueError(f"Expected {expected} uint8. Received: {images.shape} {images.dtype}")
    species = tuple(row.species for row in chosen)
    return Split(name, images, species, tuple(row.path for row in chosen))
