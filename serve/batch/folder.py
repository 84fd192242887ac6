"""Which files the pictures of a folder become, and their coloring on all cores."""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from colorization.data.listing import SUFFIXES, walk
from colorization.data.regular_file import read_regular
from colorization.errors import InputError
from colorization.limits import MAX_PICTURE_BYTES
from colorization.pictures import PictureError
from serve.batch import metadata, output

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".webp": "webp"}
BATCH = 8  # pictures for the model at once: saves a fifth of the time of small ones
BATCH_BYTES = 1_000_000  # so that large ones go alone
MAX_THREADS = 8  # a picture of 64 megapixels takes half a gigabyte while it is colored


class Job(NamedTuple):
    """A picture to color, and the file that it becomes."""

    source: Path
    target: Path

    @property
    def format(self) -> str:
        """Format of the file: jpeg, webp or png."""
        return FORMATS.get(self.target.suffix.lower(), "png")

    @property
    def model_format(self) -> str:
        """Format to ask the model for; WebP is encoded here, with its EXIF."""
        return "jpeg" if self.format == "jpeg" else "png"

    @property
    def size(self) -> int:
        """Bytes of the picture; 0 if it is gone: reading it will raise."""
        try:
            return self.source.stat().st_size
        except OSError:
            return 0


class Uncolored(NamedTuple):
    """A picture that was not colored, and why."""

    source: Path
    reason: str


def plan(source: Path, target: Path) -> tuple[list[Job], list[Uncolored]]:
    """Assign a file below `target` to every picture below `source`.

    Args:
        source: folder, or one picture; links to other folders and hidden files are skipped.
        target: folder; may lie inside `source`: its own pictures are not colored again.

    Returns:
        The jobs, and the pictures without one: their name is taken, or a link in `target` would
        lead their file elsewhere.

    Raises:
        InputError: there are no pictures, the folders would mix, or are nested too deeply.
    """
    source, target = output.resolve(source, target)
    if source.is_dir():
        found = sorted(source / name for name in walk(source, follow=False))
    else:
        found, source = [source], source.parent
    pictures = [path for path in found if _is_picture(path, source, target)]
    if not pictures:
        raise InputError(
            f"Nothing to color. Expected pictures ({' '.join(sorted(SUFFIXES))}) at any depth. "
            f"Received: input={source}"
        )
    files = {path: target / _name(path.relative_to(source)) for path in pictures}
    # A picture that keeps its name precedes one that would have to take it.
    pictures.sort(key=lambda path: files[path].name != path.name)
    taken: dict[Path, Path] = {}
    uncolored = []
    for path in pictures:
        other = taken.setdefault(files[path], path)
        if other != path:
            reason = f"would become {files[path].name}, as {other.name} does: rename one of them"
            uncolored.append(Uncolored(path, reason))
    jobs = [Job(path, file) for file, path in sorted(taken.items())]
    outside = {job for job in jobs if not output.stays(job.target, target)}
    reason = "would be written outside the output: a link"
    uncolored += [Uncolored(job.source, reason) for job in outside]
    return [job for job in jobs if job not in outside], uncolored


def _is_picture(path: Path, source: Path, target: Path) -> bool:
    if path.suffix.lower() not in SUFFIXES or target in path.parents:
        return False
    return not any(part.startswith(".") for part in path.relative_to(source).parts)


def _name(path: Path) -> Path:
    return path if path.suffix.lower() in (*FORMATS, ".png") else path.with_suffix(".png")


def color(
    model: PyFuncModel, jobs: Sequence[Job], params: dict[str, Any]
) -> Iterator[Uncolored | None]:
    """Color pictures and write their files; a file is written whole or not at all.

    Args:
        model: the loaded pyfunc.
        jobs: any number; memory stays bounded.
        params: of the pyfunc, without `format`.

    Yields:
        None or `Uncolored` for each job, in the order of completion.

    Raises:
        OSError: the output cannot be written.
    """
    batches = _batches(jobs)
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pool = ThreadPoolExecutor(threads, "color")

    def submit(count: int) -> set[Future[list[Uncolored | None]]]:
        return {pool.submit(_color, model, b, params) for b in itertools.islice(batches, count)}

    try:
        running = submit(threads)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= submit(len(done))
            for each in done:
                yield from each.result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the pictures in work


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group jobs of one format: many small pictures, or a large one alone."""
    by_format = sorted(jobs, key=lambda job: job.model_format)
    for _, group in itertools.groupby(by_format, lambda job: job.model_format):
        batch: list[Job] = []
        total = 0
        for job in group:
            size = job.size
            if batch and (len(batch) == BATCH or total + size > BATCH_BYTES):
                yield batch
                batch, total = [], 0
            batch.append(job)
            total += size
        yield batch


def _color(model: PyFuncModel, batch: list[Job], params: dict[str, Any]) -> list[Uncolored | None]:
    """Color a batch at once; if one picture fails, each alone."""
    try:
        contents = [read_regular(job.source, MAX_PICTURE_BYTES) for job in batch]
        rows = pd.DataFrame({"image": contents})
        params = params | {"format": batch[0].model_format}
        answers: Any = model.predict(rows, params=params)
        ready = [
            metadata.insert(answer, job.format, metadata.read(content))
            for job, content, answer in zip(batch, contents, answers["image"], strict=True)
        ]
    except (OSError, MemoryError, MlflowException, PictureError) as error:
        if len(batch) > 1:
            return [outcome for job in batch for outcome in _color(model, [job], params)]
        return [Uncolored(batch[0].source, _reason(error))]
    for job, content in zip(batch, ready, strict=True):
        output.write(job.target, content)
    return [None] * len(batch)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "is too large for the memory left"
    text = getattr(error, "message", str(error)).removeprefix("Row 0: the picture ")
    if "truncated" in text:
        text += "; broken=yes colors what is there of a truncated one"
    return text.replace("neither base64 text nor", "not")  # an older model's words
