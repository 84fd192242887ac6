"""From a source of pictures to cached, memory-mapped splits with a manifest."""

import contextlib
import functools
import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from colorization import process
from colorization.data import manifest, rows, splits
from colorization.data.cache import build_once, cache_folder, own
from colorization.data.listing import list_images, relative
from colorization.data.manifest import Row
from colorization.data.photograph import IMAGE_SIZE, Photograph, perceptual_hash, read
from colorization.data.sources import Source

logger = logging.getLogger(__name__)

# Increase it whenever the same files would give other pixels or other splits.
PREPARE_VERSION = 6


@dataclass(frozen=True)
class Split:
    """N pictures of one split, in the order of their SHA-256.

    They are uint8 (N, S, S, 3), RGB, memory-mapped and read-only.
    """

    name: str  # "train", "val" or "test"
    images: np.ndarray
    species: tuple[str, ...]  # N names, "" where the pictures lie in no folder of their own
    paths: tuple[str, ...]  # N, relative to the source's folder, with forward slashes

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """`perceptual_hash` by path, for each run of a process that logs the split."""
        images = map(Image.fromarray, self.images)
        return dict(zip(self.paths, map(perceptual_hash, images), strict=True))


@dataclass(frozen=True)
class Splits:
    """A prepared source: about 80, 10 and 10 in 100 pictures, unless its folders give the splits.

    The manifest is a CSV file, see `manifest.Row`; a picture left out has a reason and no split.
    """

    name: str  # of the source, as kind and URI are, see `sources.Source`
    kind: str
    uri: str
    digest: str  # 32 hex digits of the manifest, the same on every machine
    manifest: Path
    train: Split
    val: Split
    test: Split


def prepare(source: Source, size: int = IMAGE_SIZE) -> Splits:
    """Trim, stretch and split the pictures of a source, once; later calls map the cached arrays.

    Their side is `size`, in pixels; split and digest are the same at every size.

    Raises:
        FileNotFoundError: there are no pictures in the source.
        ValueError: fewer than `rows.MIN_IMAGES` are usable, or a split would be empty.
    """
    images = list_images(source.folder)
    if not images:
        raise FileNotFoundError(
            f"No pictures found. Expected a folder with photographs in it, at any depth; "
            f"`-P data=sample` needs none. Received: folder={str(source.folder)!r}"
        )
    paths = [relative(image, source.folder) for image in images]
    suffix = "" if size == IMAGE_SIZE else f"-{size}"
    name = f"{_fingerprint(source.folder, images)}{suffix}"
    entry = cache_folder() / "prepared" / _key(source, rows.by_folder(paths)) / name
    place = build_once(
        entry,
        lambda partial: _write(source, images, entry, size, partial),
        is_whole=lambda there: _load(source, there, size) is not None,
    )
    prepared = _load(source, place, size)
    if prepared is None:
        raise OSError(
            f"The prepared pictures cannot be read back. Expected a healthy disk: delete the "
            f"folder and run again. Received: folder={str(place)!r}"
        )
    return prepared


def _key(source: Source, given: Sequence[str] | None) -> str:
    """Return the name of a source's folder in the cache; a split of its own has another one."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.name)[:40]
    version = f"v{PREPARE_VERSION}{'' if given is None else '-folders'}"
    return f"{name}-{hashlib.sha256(source.uri.encode()).hexdigest()[:12]}-{version}"


def _fingerprint(folder: Path, images: Sequence[Path]) -> str:
    """Hash the pictures' paths, sizes and times, without opening any."""
    digest = hashlib.sha256()
    for image in images:
        try:
            status = image.stat()
            size, time = status.st_size, status.st_mtime_ns
        except OSError:  # a dangling link, listed as unreadable later
            size, time = -1, 0
        digest.update(relative(image, folder).encode())
        digest.update(f"\0{size}\0{time}\n".encode())
    return digest.hexdigest()[:32]


def _write(source: Source, images: Sequence[Path], entry: Path, size: int, folder: Path) -> None:
    """Read all pictures and write the manifest and the three arrays of `entry` into `folder`."""
    shape = (len(images), size, size, 3)
    needed = 2 * math.prod(shape)  # bytes; a file that is mapped dies of SIGBUS on a full disk
    if needed > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"No room to prepare the pictures. Expected {needed} bytes free: make room, move the "
            f"cache with COLORIZATION_CACHE, or take a smaller size=. Received: free={free}"
        )
    everything = np.lib.format.open_memmap(folder / "all.npy", "w+", np.uint8, shape)
    photographs = _read_all(images, everything)
    listed = _of_other_size(entry, photographs)
    if listed is None:
        paths = [relative(image, source.folder) for image in images]
        known = manifest.known_splits(_manifests(entry, "*"))
        listed = rows.split(paths, photographs, known)
    rows.check(listed, source)
    for name in splits.SPLITS:
        chosen = manifest.in_split(listed, name)
        shape = (len(chosen), size, size, 3)
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for target, index in enumerate(chosen):
            array[target] = everything[index]
        array.flush()
    del everything
    (folder / "all.npy").unlink()
    manifest.write(folder / "manifest.csv", listed)


def _manifests(entry: Path, names: str) -> set[Path]:
    """Return the manifests of a source's other entries, in this cache and the user's own."""
    return {
        path
        for folder in (entry.parent, own(entry.parent))
        for path in folder.glob(f"{names}/manifest.csv")
    }


def _of_other_size(entry: Path, photographs: Sequence[Photograph]) -> list[Row] | None:
    """Return the rows of the same pictures at another size, if they are cached."""
    for path in _manifests(entry, f"{entry.name.split('-')[0]}*"):
        with contextlib.suppress(OSError, ValueError):  # damaged
            listed = manifest.read(path)
            pairs = list(zip(listed, photographs, strict=True))
            if all(
                row.sha256 == each.sha256 and each.reason in ("", row.reason) for row, each in pairs
            ):
                return listed
    return None


def _read_all(images: Sequence[Path], out: np.ndarray) -> list[Photograph]:
    """Read pictures on all cores, in threads: Pillow and hashlib release the GIL.

    Forking after TensorFlow has started can deadlock, and each spawned process would import the
    caller's main module again, TensorFlow included.
    """
    pool = ThreadPoolExecutor(process.usable_cores(), "photograph")
    try:
        reading = pool.map(read, images, out)
        return list(tqdm(reading, "Preparing pictures", len(images), unit="", mininterval=0.5))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _load(source: Source, entry: Path, size: int) -> Splits | None:
    """Map a prepared source; return None if it is missing or damaged."""
    if not os.path.exists(entry):
        return None
    try:
        path = entry / "manifest.csv"
        digest = manifest.digest(path)
        listed = manifest.read(path)
        parts = {name: _map_split(entry, name, listed, size) for name in splits.SPLITS}
    except (OSError, EOFError, ValueError) as error:
        logger.warning("Rebuilding damaged prepared pictures in %s: %s", entry, error)
        return None
    return Splits(source.name, source.kind, source.uri, digest, path, **parts)


def _map_split(entry: Path, name: str, listed: Sequence[Row], size: int) -> Split:
    chosen = [listed[index] for index in manifest.in_split(listed, name)]
    images = np.load(entry / f"{name}.npy", mmap_mode="r")
    expected = (len(chosen), size, size, 3)
    if images.shape != expected or images.dtype != np.uint8 or not chosen:
        raise ValueError(f"Expected {expected} uint8. Received: {images.shape} {images.dtype}")
    species = tuple(row.species for row in chosen)
    return Split(name, images, species, tuple(row.path for row in chosen))
