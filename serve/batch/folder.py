"""The pictures of a folder, colored on all cores, or copied where they are in color."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from PIL import ImageFile

from colorization.data.photograph import is_in_color
from colorization.limits import MAX_PAGES
from colorization.pictures import PictureError, list_pages, open_picture, read_srgb, take_page
from colorization.registry import served
from serve.batch import encoding, metadata, places
from serve.batch.jobs import COLORED, COPIED, LEFT_OUT, Job, Outcome, Settings

BATCH = 8  # pictures for the model at once: saves a fifth of the time of small ones
BATCH_BYTES = 1_000_000  # so that large ones go alone
MAX_THREADS = 8  # a picture of 64 megapixels takes half a gigabyte while it is colored
UNREADABLE = (OSError, MemoryError, MlflowException, PictureError)


def color(model: PyFuncModel, jobs: Sequence[Job], settings: Settings) -> Iterator[Outcome]:
    """Color or copy pictures, of any number; a file is written whole or not at all.

    Yields:
        An outcome for each job, in the order of completion.

    Raises:
        InputError: the output cannot be written.
    """
    batches = group(jobs)
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pool = ThreadPoolExecutor(threads, "color")

    def submit(count: int) -> set[Future[list[Outcome]]]:
        taken = itertools.islice(batches, count)
        return {pool.submit(color_batch, model, each, settings) for each in taken}

    try:
        running = submit(threads)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= submit(len(done))
            for each in done:
                yield from each.result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the pictures in work


def group(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group jobs of one format: many small pictures, or a large one alone."""
    by_format = sorted(jobs, key=lambda job: job.format)
    for _, alike in itertools.groupby(by_format, lambda job: job.format):
        batch: list[Job] = []
        total = 0
        for job in alike:
            if batch and (len(batch) == BATCH or total + job.size > BATCH_BYTES):
                yield batch
                batch, total = [], 0
            batch.append(job)
            total += job.size
        yield batch


def color_batch(model: PyFuncModel, batch: list[Job], settings: Settings) -> list[Outcome]:
    """Color or copy a batch of `group`; if one picture fails, each alone."""
    ImageFile.LOAD_TRUNCATED_IMAGES = settings.mends
    outcomes: list[Outcome] = []
    single: list[tuple[Job, bytes]] = []
    try:
        for job in batch:
            content = places.read(job.source, job.size)
            pages = list_pages(content)
            if not settings.colors_all and all(map(is_in_color, _split(content, pages))):
                places.write(job.files.copy, content, job.source)
                outcomes.append(Outcome(job.source, COPIED))
            elif len(pages) > 1:
                outcomes.append(_color_pages(model, job, _split(content, pages), settings))
            else:
                single.append((job, content))
        return outcomes + _color_single(model, single, settings)
    except UNREADABLE as error:
        if len(batch) > 1:
            return [outcome for job in batch for outcome in color_batch(model, [job], settings)]
        return [Outcome(batch[0].source, LEFT_OUT, _reason(error))]


def _split(content: bytes, pages: list[int]) -> Iterator[bytes]:
    """Yield each page as a file of its own."""
    if len(pages) > MAX_PAGES:
        raise PictureError(f"has {len(pages)} pages, above the limit of {MAX_PAGES}")
    yield from (take_page(content, page) for page in pages) if len(pages) > 1 else [content]


def _color_single(
    model: PyFuncModel, pictures: list[tuple[Job, bytes]], settings: Settings
) -> list[Outcome]:
    """Color pictures of one page and one format at once."""
    if not pictures:
        return []
    format = pictures[0][0].format
    answers = _predict(model, [content for _, content in pictures], format, settings)
    outcomes = []
    for (job, content), answer in zip(pictures, answers, strict=True):
        carried = metadata.read(content)
        colored = encoding.insert(answer, format, carried, settings.params["quality"])
        places.write(job.target, colored, job.source)
        more = f"first frame colored, {carried.frames - 1} more left out"
        outcomes.append(Outcome(job.source, COLORED, more if carried.frames > 1 else ""))
    return outcomes


def _color_pages(
    model: PyFuncModel, job: Job, pages: Iterable[bytes], settings: Settings
) -> Outcome:
    """Color the pages of a file, each into a file of its own; those in color are kept as such."""
    quality, failed = settings.params["quality"], []
    for number, page in enumerate(pages, 1):
        target = job.files.page(number)
        if not settings.overwrites and places.is_there(target):
            continue
        try:
            if not settings.colors_all and is_in_color(page):
                image = read_srgb(open_picture(page))
                content = encoding.insert(image, job.format, metadata.read(page), quality)
            else:
                (answer,) = _predict(model, [page], job.format, settings)
                content = encoding.insert(answer, job.format, metadata.read(page), quality)
        except UNREADABLE as error:
            failed.append(f"page {number} {_reason(error)}")
        else:
            places.write(target, content, job.source)
    return Outcome(job.source, LEFT_OUT if failed else COLORED, "; ".join(failed))


def _predict(
    model: PyFuncModel, contents: list[bytes], format: str, settings: Settings
) -> list[bytes]:
    """Let the model color pictures: as JPEG if it can be told the quality, else as PNG."""
    known = served.known_params(model)  # an older model lacks some
    params = {name: value for name, value in settings.params.items() if name in known}
    params["format"] = "jpeg" if format == "jpeg" and "quality" in params else "png"
    answers: Any = model.predict(pd.DataFrame({"image": contents}), params=params)
    return list(answers["image"])


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "is too large for the memory left"
    text = getattr(error, "message", str(error)).removeprefix("Row 0: the picture ")
    if "truncated" in text:
        text += "; broken=yes colors what is there of a truncated one"
    return text.replace("neither base64 text nor", "not")  # an older model's words
