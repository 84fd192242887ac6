"""Color a folder of pictures, or one: `python -m serve.batch --input album --output colored`.

Gray and sepia pictures are colored, those in color are copied as they are. What is there already
is skipped, so a stopped run can be started again. `mlflow run . -e colorize` calls it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from colorization import process
from serve.batch import bucket, names, output

if TYPE_CHECKING:
    from serve.batch.bucket import Place
    from serve.batch.folder import Job, Outcome, Settings

logger = logging.getLogger("serve.batch")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.batch", description=__doc__)
    parser.add_argument(
        "--model",
        default="pix2pix",
        help="models:/..., the id of a training run, or naive or pix2pix: the family's champion",
    )
    parser.add_argument(
        "--input", required=True, help="folder of pictures, of any depth, or a picture; or a URL"
    )
    parser.add_argument("--output", required=True, help="folder for the colored ones, or a URL")
    parser.add_argument(
        "--cluster", default="", help="address of a Dask scheduler, as tcp://host:8786"
    )
    parser.add_argument(
        "--which",
        choices=("gray", "all"),
        default="gray",
        help="gray (sepia is gray, too): color these, copy what is in color; all: color everything",
    )
    parser.add_argument(
        "--format",
        choices=(names.KEEP, *names.SUFFIXES),
        default=names.KEEP,
        help="of colored pictures; keep: JPEG, PNG and WebP stay what they are, others become PNG",
    )
    parser.add_argument(
        "--quality", type=int, default=92, help="1 to 100, of JPEG and WebP (default: 92)"
    )
    parser.add_argument(
        "--overwrite", choices=("yes", "no"), default="no", help="yes: color existing ones again"
    )
    parser.add_argument(
        "--tta", choices=("yes", "no"), default="no", help="yes: average over the mirror image too"
    )
    parser.add_argument(
        "--broken",
        choices=("yes", "no"),
        default="no",
        help="yes: color what is there of truncated pictures, and leave the rest empty",
    )
    parser.add_argument(
        "--saturation", type=float, default=1.0, help="0 (gray) to 2 (default: 1, as predicted)"
    )
    parser.add_argument(
        "--warmth",
        type=float,
        default=0.0,
        help="-1 (blue) to 1 (orange), default: 0, as predicted",
    )
    parser.add_argument(
        "--tint",
        type=float,
        default=0.0,
        help="-1 (green) to 1 (magenta), default: 0, as predicted",
    )
    parser.add_argument(
        "--uncertainty",
        choices=("yes", "no"),
        default="no",
        help="yes: instead of colors, heat maps of how unsure the model is of them",
    )
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; the same command goes on from here")
def main(arguments: argparse.Namespace) -> int:
    """Color a folder.

    Returns:
        0: all pictures are there; 1: some could not be colored.
    """
    source, folder = output.resolve(*map(bucket.locate, (arguments.input, arguments.output)))
    # These import MLflow, for which a missing folder should not wait.
    from colorization import runs
    from colorization.data.listing import count_others
    from colorization.registry import lookup, shipped
    from serve.batch.folder import LEFT_OUT, Settings, find, plan
    from serve.pyfunc import read_options

    numbers = ("saturation", "quality", "warmth", "tint")
    params = {name: getattr(arguments, name) for name in numbers}
    params["tta"] = arguments.tta == "yes"
    params["output"] = "uncertainty" if arguments.uncertainty == "yes" else "colors"
    read_options(params)
    listed = find(source)
    jobs, outcomes = plan(source, folder, arguments.format, listed)
    shipped.provide(arguments.model)
    model_uri = lookup.resolve(arguments.model).model_uri
    output.delete_leftovers(folder)
    colors_all = arguments.which == "all" or arguments.uncertainty == "yes"
    settings = Settings(params, colors_all, arguments.overwrite == "yes", arguments.broken == "yes")
    jobs, done = _missing(jobs, folder, settings)
    outcomes += done
    name = f"colorize {source.name}"
    with runs.open_launched(name) as tag:
        outcomes += _run(jobs, model_uri, settings, arguments.cluster)
        tag("mlflow.runName", f"{name}: {_colored(outcomes)}")
    _report(outcomes, folder, "heat maps" if arguments.uncertainty == "yes" else "colored")
    if others := count_others(filter(None, listed)):
        logger.info("skipped: %s", others)
    return 1 if any(each.what == LEFT_OUT for each in outcomes) else 0


def _colored(outcomes: list[Outcome]) -> str:
    from serve.batch.folder import COLORED

    return f"{sum(each.what == COLORED for each in outcomes)} of {len(outcomes)}"


def _report(outcomes: list[Outcome], folder: Place, made: str) -> None:
    """Log what became of the pictures, most of which were `made`."""
    from serve.batch.folder import COPIED, LEFT_OUT

    for each in sorted(outcomes):
        if each.what == LEFT_OUT:
            logger.error("left out: %s: %s", each.source, each.note)
        elif each.note:
            logger.warning("%s: %s", each.source, each.note)
    counts = Counter(each.what for each in outcomes)
    ending = f", {counts[COPIED]} in color already: copied" if counts[COPIED] else ""
    ending += f", {counts[LEFT_OUT]} left out" if counts[LEFT_OUT] else ""
    logger.info("%s: %s %s%s", folder, _colored(outcomes), made, ending)


def _missing(jobs: list[Job], folder: Place, settings: Settings) -> tuple[list[Job], list[Outcome]]:
    """Return the jobs that are not done, and the outcomes of the others."""
    from serve.batch.folder import COLORED, COPIED, Outcome

    if settings.overwrites:
        return jobs, []
    missing: list[Job] = []
    done: list[Outcome] = []
    present = output.Present(folder)
    for job in jobs:
        is_copied = present.has_copy(job.files.copy, job.source, job.size)
        if present.has(job.target) or (is_copied and not settings.colors_all):
            done.append(Outcome(job.source, COPIED if is_copied else COLORED))
        else:
            missing.append(job)
    if done:
        copied = sum(each.what == COPIED for each in done)
        also = f", {copied} copied" if copied else ""
        also += " (overwrite=yes colors them)" if copied and settings.colors_all else ""
        logger.info("%d of %d colored already%s", len(done) - copied, len(jobs), also)
    return missing, done


def _run(jobs: list[Job], model_uri: str, settings: Settings, address: str) -> list[Outcome]:
    """Color under a progress bar, here or on a cluster; return what became of the pictures."""
    if not jobs:
        return []
    if address:
        import mlflow

        from serve.batch import cluster

        task = cluster.Task(mlflow.get_tracking_uri(), model_uri, settings)
        outcomes = cluster.color(address, task, jobs)
    else:
        from colorization.registry import served
        from serve.batch.folder import color

        model = served.load(model_uri)
        served.require(model, settings.params)
        outcomes = color(model, jobs, settings)
    return list(tqdm(outcomes, "Coloring", len(jobs), unit="", mininterval=0.5))


if __name__ == "__main__":
    sys.exit(main())
