"""The holdout of a source: those of its pictures that no training of a model has used."""

import itertools
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import mlflow
import numpy as np
from PIL import Image
from tqdm import tqdm

from colorization import evaluation, process
from colorization.data import manifest, photograph, splits
from colorization.data.listing import list_images, read_regular, relative
from colorization.data.manifest import Row
from colorization.data.sources import Source
from colorization.errors import InputError
from colorization.limits import MAX_PICTURE_BYTES
from colorization.pictures import MAX_PIXELS, PictureError, open_picture, read_picture
from colorization.registry.candidate import Candidate, trainings

SCORED, SHOWN = "scored", "shown"  # color photographs, and gray ones, whose colors are unknown


class Pictures(NamedTuple):
    """The pictures of a source, as in training; black where one cannot be read."""

    images: np.ndarray  # uint8 (N, S, S, 3), RGB; S is the largest of the models' sizes
    rows: list[Row]  # N of the manifest; the split is scored, shown, or "" with a reason
    chroma: np.ndarray  # mean Cb and Cr, (2,), for the baseline; zeros if nothing is scored
    chroma_source: str  # names the pictures of that mean
    unknown: list[str]  # labels of the models whose training pictures are unknown

    def of(self, split: str) -> list[int]:
        """Return the indices of a split's pictures, in the order of training."""
        return manifest.in_split(self.rows, split)

    def summary(self) -> str:
        """Say how many pictures are scored, shown and left out, and why."""
        counts = Counter(row.split for row in self.rows)
        text = f"Scored {counts[SCORED]} of {len(self.rows)} pictures"
        if counts[SHOWN]:
            text += f"; {counts[SHOWN]} only shown: gray"
        reasons = Counter(row.reason for row in self.rows if row.reason)
        for reason, count in reasons.most_common():
            text += f"; {count} left out: {reason}"
        for label in self.unknown:
            text += f". What {label} was trained on is not known: it may be these pictures"
        return f"{text}."


def collect(source: Source, models: Mapping[str, Candidate]) -> Pictures:
    """Read a source's pictures, without those that were in the training of a model.

    A picture is recognized by the SHA-256 of its file, and a copy of another size or quality by its
    perceptual hash.

    Raises:
        FileNotFoundError: there are no pictures in the source.
        InputError: no picture is left to score or to show.
    """
    size = max((each.size for each in models.values()), default=photograph.IMAGE_SIZE)
    images, rows, hashes = _read_all(source.folder, size)
    training: set[str] = set()
    unknown = []
    for label, candidate in models.items():
        manifests = [_manifest(run) if run else None for run in trainings(candidate.run)]
        if None in manifests:
            unknown.append(label)
        used = itertools.chain.from_iterable(each for each in manifests if each)
        seen = {row.sha256: row for row in used if row.split != "test"}
        training |= {sha256 for sha256, row in seen.items() if row.split == "train"}
        rows = _without_seen(rows, hashes, seen, label)
    pictures = Pictures(images, rows, *_mean_chroma(images, rows, training), unknown)
    if not any(row.split for row in rows):
        raise InputError(
            "Nothing is left to score. Expected photographs that none of the models was trained "
            f"on: give others. Received: data={source.uri}. {pictures.summary()}"
        )
    return pictures


def _manifest(run: mlflow.entities.Run) -> list[Row] | None:
    """Return the rows of all pictures that a run used, or None if its files were deleted."""
    client, name = mlflow.MlflowClient(), "data/manifest.csv"
    if name not in [each.path for each in client.list_artifacts(run.info.run_id, "data")]:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return manifest.read(Path(client.download_artifacts(run.info.run_id, name, folder)))


def _without_seen(
    rows: list[Row], hashes: np.ndarray, seen: Mapping[str, Row], label: str
) -> list[Row]:
    """Return the rows, without a split those that a model learned, or was chosen from.

    Args:
        rows: N pictures.
        hashes: uint64 (N, 2, 2), see `photograph.perceptual_hashes`.
        seen: SHA-256 -> row of the manifest of a training, which may have left it out.
        label: of the model.
    """
    hashed = [row for row in seen.values() if row.hash]
    seen_hashes = np.frombuffer(bytes.fromhex("".join(row.hash for row in hashed)), np.uint64)
    seen_hashes = seen_hashes.reshape(-1, 1, 2)
    left = []
    for row, pair in zip(rows, hashes, strict=True):
        if row.split == SCORED and (same := seen.get(row.sha256)):
            reason = f"in the {same.split} split of {label}" if same.split else same.reason
            row = replace(row, split="", reason=reason)
        elif row.split == SCORED and len(near := splits.near_duplicates(pair, seen_hashes)):
            reason = f"near-duplicate of one in the {hashed[near[0]].split} split of {label}"
            row = replace(row, split="", reason=reason)
        left.append(row)
    return left


def _mean_chroma(images: np.ndarray, rows: list[Row], training: set[str]) -> tuple[np.ndarray, str]:
    """Return the mean chroma of the training set if all of it is here, else of the scored."""
    chosen = [index for index, row in enumerate(rows) if row.sha256 in training]
    whose = f"the {len(chosen)} pictures that the models were trained on"
    if not training or len({rows[index].sha256 for index in chosen}) < len(training):
        chosen = [index for index, row in enumerate(rows) if row.split == SCORED]
        whose = "the scored pictures themselves, since the training set is not among the data"
    chosen.sort(key=lambda index: (rows[index].sha256, rows[index].path))
    return (evaluation.mean_chroma(images[chosen]) if chosen else np.zeros(2)), whose


def _read_all(folder: Path, size: int) -> tuple[np.ndarray, list[Row], np.ndarray]:
    """Return pixels, rows and hashes of all pictures below a folder; reads on all cores."""
    paths = list_images(folder)
    if not paths:
        raise FileNotFoundError(
            "No pictures found. Expected a folder or a .zip with one or more photographs in it, at "
            f"any depth. Received: folder={str(folder)!r}"
        )
    images = np.zeros((len(paths), size, size, 3), np.uint8)
    pool = ThreadPoolExecutor(process.usable_cores(), "photograph")
    try:
        found = pool.map(_read, paths, [folder] * len(paths), images)
        read = list(tqdm(found, "Reading pictures", len(paths), unit="", mininterval=0.5))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return images, [row for row, _ in read], np.stack([hashes for _, hashes in read])


def _read(path: Path, folder: Path, out: np.ndarray) -> tuple[Row, np.ndarray]:
    """Read one picture into `out`, gray ones too; return its row and its hashes, (2, 2)."""
    found = photograph.read(path, out)
    split, reason = ("" if found.reason else SCORED), found.reason
    if reason.startswith("gray"):
        try:
            content = read_regular(path, MAX_PICTURE_BYTES)
            picture = read_picture(open_picture(content, MAX_PIXELS))
            square = picture.luma.resize(out.shape[:2], Image.Resampling.LANCZOS)
            out[:] = np.asarray(square)[..., None]
            split, reason = SHOWN, ""
        except (PictureError, OSError) as error:
            reason = f"unreadable: gray, and {error}"
    name = relative(path, folder)
    species = PurePosixPath(name).parent.name
    return Row(name, found.sha256, species, split, reason), found.hashes
