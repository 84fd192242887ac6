"""The pictures of a folder, colored on all cores, or copied where they are in color."""

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from PIL import ImageFile

from colorization.data.listing import SUFFIXES, walk
from colorization.data.photograph import is_in_color
from colorization.data.regular_file import read_regular
from colorization.errors import InputError
from colorization.limits import MAX_PAGES, MAX_PICTURE_BYTES
from colorization.pictures import (
    PictureError,
    list_pages,
    open_picture,
    take_page,
    turn_upright,
)
from colorization.registry import served
from serve.batch import bucket, encoding, metadata, names, output
from serve.batch.bucket import Place, Remote

BATCH = 8  # pictures for the model at once: saves a fifth of the time of small ones
BATCH_BYTES = 1_000_000  # so that large ones go alone
MAX_THREADS = 8  # a picture of 64 megapixels takes half a gigabyte while it is colored
COLORED, COPIED, LEFT_OUT = "colored", "copied", "left out"
UNREADABLE = (OSError, MemoryError, MlflowException, PictureError)


class Job(NamedTuple):
    """A picture, the files that it may become, and its bytes: 0 if it is gone."""

    source: Place
    files: names.Names
    size: int

    @property
    def target(self) -> Place:
        """File of the colored picture, if it has one page."""
        return self.files.colored

    @property
    def format(self) -> str:
        """Format of the colored picture: jpeg, png, webp or tiff."""
        return names.FORMATS.get(self.target.suffix.lower(), "png")

    def read(self) -> bytes:
        """Return the picture's file, or raise an OSError."""
        if isinstance(self.source, Path):
            return read_regular(self.source, MAX_PICTURE_BYTES)
        if self.size > MAX_PICTURE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_PICTURE_BYTES} bytes")
        return bucket.read(self.source)


class Settings(NamedTuple):
    """How to color.

    Attributes:
        params: of the pyfunc, without `format`; `quality` is also that of other formats.
        colors_all: color pictures are colored as well, not copied.
        overwrites: pages that are there are colored again.
        mends: what there is of truncated pictures is colored.
    """

    params: dict[str, Any]
    colors_all: bool
    overwrites: bool
    mends: bool = False


class Outcome(NamedTuple):
    """What became of a picture: `COLORED`, `COPIED` or `LEFT_OUT`, and what to say of it."""

    source: Place
    what: str
    note: str = ""


def plan(
    source: Place,
    target: Place,
    format: str = names.KEEP,
    listed: Mapping[str, int] | None = None,
) -> tuple[list[Job], list[Outcome]]:
    """Assign files below `target` to every picture below `source`.

    Args:
        source: folder, or one picture; links to other folders and hidden files are skipped.
        target: folder; may lie inside `source`: its own pictures are not colored again.
        format: see `names.choose`.
        listed: `find(source)`, if it is known already: a bucket takes long to list.

    Returns:
        The jobs, and the pictures without one: a link in `target` would lead their file elsewhere.

    Raises:
        InputError: there are no pictures, the folders would mix, or are nested too deeply.
    """
    source, target = output.resolve(source, target)
    listed = find(source) if listed is None else listed
    found = {source / name: size for name, size in listed.items()}
    if [*found] == [source]:
        source = source.parent
    pictures = sorted(path for path in found if _is_picture(path, source, target))
    if not pictures:
        raise InputError(
            f"Nothing to color. Expected pictures ({' '.join(sorted(SUFFIXES))}) at any depth. "
            f"Received: input={source}"
        )
    chosen = names.choose([path.relative_to(source) for path in pictures], format)
    jobs = []
    for path, files in zip(pictures, chosen, strict=True):
        below = {name: target / name for name in files}  # mostly one, held once
        jobs.append(Job(path, names.Names(*map(below.__getitem__, files)), found[path]))
    outside = {job for job in jobs if not output.stays(job.target, target)}
    reason = "would be written outside the output: a link"
    left_out = [Outcome(job.source, LEFT_OUT, reason) for job in outside]
    return [job for job in jobs if job not in outside], left_out


def find(source: Place) -> dict[str, int]:
    """Return the files below a folder with their sizes; a file has an empty name below itself."""
    if isinstance(source, Remote):
        return bucket.find(source)
    found = walk(source, follow=False) if source.is_dir() else [""]
    return {name: _size(source / name) for name in found}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is gone, and reading it will raise
        return 0


def _is_picture(path: Place, source: Place, target: Place) -> bool:
    if path.suffix.lower() not in SUFFIXES or target in path.parents:
        return False
    return not any(part.startswith(".") for part in path.relative_to(source).parts)


def color(model: PyFuncModel, jobs: Sequence[Job], settings: Settings) -> Iterator[Outcome]:
    """Color or copy pictures; a file is written whole or not at all.

    Args:
        model: the loaded pyfunc.
        jobs: any number; memory stays bounded.
        settings: for all of them.

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
            size = job.size
            if batch and (len(batch) == BATCH or total + size > BATCH_BYTES):
                yield batch
                batch, total = [], 0
            batch.append(job)
            total += size
        yield batch


def color_batch(model: PyFuncModel, batch: list[Job], settings: Settings) -> list[Outcome]:
    """Color or copy a batch of `group`; if one picture fails, each alone."""
    ImageFile.LOAD_TRUNCATED_IMAGES = settings.mends
    outcomes: list[Outcome] = []
    single: list[tuple[Job, bytes]] = []
    try:
        for job in batch:
            content = job.read()
            pages = list_pages(content)
            if not settings.colors_all and all(map(is_in_color, _split(content, pages))):
                output.write(job.files.copy, content, job.source)
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
    ready = []
    for (_, content), answer in zip(pictures, answers, strict=True):
        carried = metadata.read(content)
        colored = encoding.insert(answer, format, carried, settings.params["quality"])
        ready.append((colored, carried.frames))
    outcomes = []
    for (job, _), (colored, frames) in zip(pictures, ready, strict=True):
        output.write(job.target, colored, job.source)
        note = f"first frame colored, {frames - 1} more left out" if frames > 1 else ""
        outcomes.append(Outcome(job.source, COLORED, note))
    return outcomes


def _color_pages(
    model: PyFuncModel, job: Job, pages: Iterable[bytes], settings: Settings
) -> Outcome:
    """Color the pages of a file, each into a file of its own; those in color are kept as such."""
    quality, failed = settings.params["quality"], []
    for number, page in enumerate(pages, 1):
        target = job.files.page(number)
        if not settings.overwrites and output.is_there(target):
            continue
        try:
            if not settings.colors_all and is_in_color(page):
                image = turn_upright(open_picture(page))
                content = encoding.encode(image, job.format, metadata.read(page), quality)
            else:
                (answer,) = _predict(model, [page], job.format, settings)
                content = encoding.insert(answer, job.format, metadata.read(page), quality)
        except UNREADABLE as error:
            failed.append(f"page {number} {_reason(error)}")
        else:
            output.write(target, content, job.source)
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
