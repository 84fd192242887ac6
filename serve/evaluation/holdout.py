"""Which pictures of a source may judge a model: those that no training of it has seen."""

import itertools
import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from PIL import Image
from tqdm import tqdm

from colorization import evaluation
from colorization.data import manifest, photograph
from colorization.data.listing import list_images
from colorization.data.photograph import IMAGE_SIZE
from colorization.data.regular_file import read_regular
from colorization.limits import MAX_PICTURE_BYTES
from serve.pyfunc import PictureError, open_picture, read_picture

JUDGED, SHOWN = "judged", "shown"  # color photographs, and gray ones, to which there is no truth


class Pictures(NamedTuple):
    """The pictures of a source.

    Attributes:
        images: uint8 (N, 128, 128, 3), RGB, as in training; black where one cannot be read.
        rows: N `manifest.Row`; the split is judged, shown, or "" with a reason.
        chroma: mean Cb and Cr, (2,), for the baseline; None where nothing is judged.
        chroma_source: in words, whose mean that is.
        unknown: labels of the models whose training is not known.
    """

    images: np.ndarray
    rows: list
    chroma: np.ndarray | None
    chroma_source: str
    unknown: list

    def of(self, split):
        """Return the indices of a split's pictures, in the order that training has too."""
        return manifest.in_split(self.rows, split)

    def story(self):
        """Tell in words how many pictures are judged, shown and left out, and why."""
        counts = Counter(row.split for row in self.rows)
        told = f"Judged {counts[JUDGED]} of {len(self.rows)} pictures"
        if counts[SHOWN]:
            told += f"; {counts[SHOWN]} only shown: gray"
        reasons = Counter(row.reason for row in self.rows if row.reason)
        for reason, count in reasons.most_common():
            told += f"; {count} left out: {reason}"
        for label in self.unknown:
            told += f". What {label} was trained on is not known: it may be these pictures"
        return f"{told}."


def collect(source, models):
    """Read a source's pictures and leave out those that took part in the training of a model.

    A picture is known by the SHA-256 of its file: a copy of another size is not recognized.

    Args:
        source: `sources.Source`, of one picture or more.
        models: label to `Candidate`.

    Returns:
        `Pictures`.

    Raises:
        FileNotFoundError: there are no pictures in the source.
        ValueError: nothing is left to judge or to show.
    """
    images, rows = _read_all(source.folder)
    training, unknown = set(), []
    for label, candidate in models.items():
        known = list(trainings(candidate.run))
        if None in known:
            unknown.append(label)
        told = itertools.chain.from_iterable(filter(None, known))
        seen = {row.sha256: row for row in told if row.split != "test"}
        training |= {sha256 for sha256, row in seen.items() if row.split == "train"}
        rows = [_without_seen(row, seen.get(row.sha256), label) for row in rows]
    pictures = Pictures(images, rows, *_mean_chroma(images, rows, training), unknown)
    if not any(row.split for row in rows):
        raise ValueError(
            "Nothing is left to judge. Expected photographs that no judged model was trained on: "
            f"give others. Received: data={source.uri}. {pictures.story()}"
        )
    return pictures


def trainings(run):
    """Yield the manifest rows of each training that a run's weights went through.

    That is its own and, where it began with the weights of an earlier run, that one's; None stands
    for a training that is not known here.
    """
    contexts = {tag.value for each in run.inputs.dataset_inputs for tag in each.tags}
    trained = "training" in contexts  # imported weights were only tested
    if trained:
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path="data/manifest.csv", dst_path=folder
            )
            rows = manifest.read(Path(path))
        yield rows
    params = run.data.params
    # `mlflow run` logs the text with the quotes that it has on the command line.
    origin = (params.get("start_from") or params.get("source") or "").strip("'\"")
    if origin:
        try:
            earlier = mlflow.get_run(origin)
        except MlflowException:  # a file, an address, or a run that is gone
            yield None
        else:
            yield from trainings(earlier)
    elif not trained:
        yield None


def _without_seen(row, seen, label):
    """Return the row of a picture, left out where a training's manifest has it as `seen`."""
    if row.split != JUDGED or seen is None:
        return row
    reason = f"in the {seen.split} split of {label}" if seen.split else seen.reason
    return replace(row, split="", reason=reason)


def _mean_chroma(images, rows, training):
    """Return the mean chroma of the models' training set if all of it is here, or of the judged."""
    chosen = [index for index, row in enumerate(rows) if row.sha256 in training]
    whose = f"the {len(chosen)} pictures that the models were trained on"
    if not training or len({rows[index].sha256 for index in chosen}) < len(training):
        chosen = [index for index, row in enumerate(rows) if row.split == JUDGED]
        whose = "the judged pictures themselves, since the training set is not among the data"
    chosen.sort(key=lambda index: (rows[index].sha256, rows[index].path))
    return (evaluation.mean_chroma(images[chosen]) if chosen else None), whose


def _read_all(folder):
    """Return the pixels and the rows of all pictures below a folder; reads on all cores."""
    paths = list_images(folder)
    if not paths:
        raise FileNotFoundError(
            "No pictures found. Expected a folder or a .zip with one or more photographs in it, at "
            f"any depth. Received: folder={str(folder)!r}"
        )
    images = np.zeros((len(paths), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    pool = ThreadPoolExecutor(os.cpu_count(), "photograph")
    try:
        reading = pool.map(_read, paths, [folder] * len(paths), images)
        rows = list(tqdm(reading, "Reading pictures", len(paths), unit="", mininterval=0.5))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return images, rows


def _read(path, folder, out):
    """Read one picture into `out`, gray ones too; return its row."""
    found = photograph.read(path, out)
    split, reason = ("" if found.reason else JUDGED), found.reason
    if reason.startswith("gray"):
        split, reason = _read_gray(path, out)
    species = "" if path.parent == folder else path.parent.name
    name = path.relative_to(folder).as_posix()
    return manifest.Row(name, found.sha256, species, split, reason)


def _read_gray(path, out):
    try:
        content = read_regular(path, MAX_PICTURE_BYTES)
        picture = read_picture(open_picture(content, photograph.MAX_PIXELS), photograph.MAX_PIXELS)
    except (PictureError, OSError) as error:
        return "", f"unreadable: gray, and {error}"
    square = picture.luma.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    out[:] = np.asarray(square)[..., None]
    return SHOWN, ""
