"""A folder of pictures in, a folder of colored pictures out: `python -m serve.batch --help`.

JPEG stays JPEG, PNG PNG and WebP WebP, under the same name; what is of another format becomes
PNG. What is colored already is passed over, so that a run can be stopped and started again.
"""

import itertools
import logging
import os
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from colorization import process
from colorization.data.listing import SUFFIXES, walk
from colorization.data.regular_file import read_regular
from colorization.limits import MAX_PICTURE_BYTES
from colorization.registry import lookup
from serve.batch import metadata, output
from serve.pyfunc import PictureError, read_options

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".webp": "webp"}
BATCH = 8  # pictures that go to the model together: saves small ones a fifth of their time
BATCH_BYTES = 1_000_000  # so that large ones go alone
MAX_THREADS = 8  # of 64 megapixels each, a picture takes half a gigabyte while it is colored

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """A picture to color, and the file that it becomes."""

    source: Path
    target: Path

    @property
    def format(self):
        """What the file is written as: jpeg, webp or png."""
        return FORMATS.get(self.target.suffix.lower(), "png")


class Uncolored(NamedTuple):
    """A picture that was not colored, and why."""

    source: Path
    reason: str


def plan(source, target):
    """Give every picture below `source` its file below `target`.

    Args:
        source: folder; links to other folders and hidden files are passed over.
        target: folder; may lie inside `source`: what is in it is not colored again.

    Returns:
        A list of `Job`, and one of `Uncolored`: pictures whose name another one takes, or whose
        file would lie elsewhere, since a folder of `target` is a link.

    Raises:
        ValueError: there are no pictures, the folders would mix, or are nested too deeply.
    """
    source, target = (Path(os.path.realpath(path)) for path in (source, target))
    if not source.is_dir():
        raise ValueError(f"No such folder. Expected one with pictures. Received: input={source}")
    if target == source or target in source.parents or (target.exists() and not target.is_dir()):
        raise ValueError(
            "The colored pictures need a folder of their own. Expected one that is not, and does "
            f"not hold, the input. Received: input={source}, output={target}"
        )
    found = sorted(source / name for name in walk(source, follow=False))
    pictures = [path for path in found if _is_picture(path, source, target)]
    if not pictures:
        raise ValueError(
            f"Nothing to color. Expected pictures ({' '.join(sorted(SUFFIXES))}) at any depth. "
            f"Received: input={source}"
        )
    names = {path: target / _name(path.relative_to(source)) for path in pictures}
    # A picture that keeps its name comes before one that would have to take it.
    pictures.sort(key=lambda path: names[path].name != path.name)
    taken, bad = {}, []
    for path in pictures:
        other = taken.setdefault(names[path], path)
        if other != path:
            reason = f"would become {names[path].name}, as {other.name} does: rename one of them"
            bad.append(Uncolored(path, reason))
    jobs = [Job(path, name) for name, path in sorted(taken.items())]
    outside = {job for job in jobs if not output.stays(job.target, target)}
    bad += [Uncolored(job.source, "would be written outside the output: a link") for job in outside]
    return [job for job in jobs if job not in outside], bad


def _is_picture(path, source, target):
    if path.suffix.lower() not in SUFFIXES or target in path.parents:
        return False
    return not any(part.startswith(".") for part in path.relative_to(source).parts)


def _name(path):
    kept = path.suffix.lower() in FORMATS or path.suffix.lower() == ".png"
    return path if kept else path.with_suffix(".png")


def color(model, jobs, params):
    """Color pictures and write their files; a file is there whole, or not at all.

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

    def submit(count):
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


def _batches(jobs):
    """Group jobs of one format: many small pictures, or a large one alone."""
    for _, group in itertools.groupby(sorted(jobs, key=_asked), _asked):
        batch, total = [], 0
        for job in group:
            size = _size(job.source)
            if batch and (len(batch) == BATCH or total + size > BATCH_BYTES):
                yield batch
                batch, total = [], 0
            batch.append(job)
            total += size
        yield batch


def _asked(job):
    """Return the format that the model is asked for: WebP is written here, for its EXIF."""
    return "jpeg" if job.format == "jpeg" else "png"


def _size(path):
    try:
        return path.stat().st_size
    except OSError:  # gone by now: reading it will tell
        return 0


def _color(model, batch, params):
    """Color pictures that go to the model together; where one spoils it, each alone."""
    try:
        contents = [read_regular(job.source, MAX_PICTURE_BYTES) for job in batch]
        rows = pd.DataFrame({"image": contents})
        answers = model.predict(rows, params=params | {"format": _asked(batch[0])})["image"]
        ready = [
            metadata.insert(answer, job.format, metadata.read(content))
            for job, content, answer in zip(batch, contents, answers, strict=True)
        ]
    except (OSError, MemoryError, MlflowException, PictureError) as error:
        if len(batch) > 1:
            return [outcome for job in batch for outcome in _color(model, [job], params)]
        return [Uncolored(batch[0].source, _reason(error))]
    for job, content in zip(batch, ready, strict=True):
        output.write(job.target, content)
    return [None] * len(batch)


def _reason(error):
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "is too large for the memory left"
    text = getattr(error, "message", str(error)).removeprefix("Row 0: the picture ")
    return text.replace("neither base64 text nor", "not")  # which only a server is sent


def parse(argv=None):
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.batch", description=__doc__)
    parser.add_argument(
        "--model",
        default="pix2pix",
        help="models:/..., the id of a training run, or naive or pix2pix: the family's champion",
    )
    parser.add_argument("--input", required=True, help="folder of pictures, of any depth")
    parser.add_argument("--output", required=True, help="folder for the colored ones")
    parser.add_argument(
        "--overwrite", choices=("yes", "no"), default="no", help="yes: color again what is there"
    )
    parser.add_argument(
        "--tta", choices=("yes", "no"), default="no", help="yes: average over the mirror image too"
    )
    parser.add_argument(
        "--saturation", type=float, default=1.0, help="0 (gray) to 2 (default: 1, as predicted)"
    )
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; the same command goes on from here")
def main(arguments):
    """Color the folder that the command line names.

    Returns:
        0: all pictures are there; 1: some could not be colored.
    """
    params = {"tta": arguments.tta == "yes", "saturation": arguments.saturation}
    read_options(params)
    folder = Path(arguments.output).expanduser()
    jobs, bad = plan(Path(arguments.input).expanduser(), folder)
    model_uri = lookup.resolve(arguments.model).model_uri
    output.delete_leftovers(folder)
    if arguments.overwrite == "no":
        jobs = _missing(jobs)
    bad += _run(jobs, model_uri, params)
    logger.info("the colored pictures are in %s", folder)
    for each in sorted(bad):
        logger.error("not colored: %s: %s", each.source, each.reason)
    return 1 if bad else 0


def _missing(jobs):
    missing = [job for job in jobs if not os.path.lexists(job.target)]
    if len(missing) < len(jobs):
        logger.info("%d of %d are colored already", len(jobs) - len(missing), len(jobs))
    return missing


def _run(jobs, model_uri, params):
    """Color under a progress bar; return the bad ones."""
    if not jobs:
        return []
    model = mlflow.pyfunc.load_model(model_uri)
    with tqdm(total=len(jobs), desc="Coloring", unit="", mininterval=0.5) as bar:
        bad = []
        for outcome in color(model, jobs, params):
            bar.update()
            if outcome:
                bad.append(outcome)
    return bad
