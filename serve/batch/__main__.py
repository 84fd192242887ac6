"""Color a folder of pictures, or one: `python -m serve.batch --input album --output colored`.

Gray and sepia pictures are colored, those in color are copied as they are. What is there already
is skipped, so a stopped run can be started again. `mlflow run . -e colorize` calls it.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from tqdm import tqdm

from colorization import process
from colorization.data.listing import count_others
from serve.batch import jobs as batch
from serve.batch import places
from serve.batch.jobs import COLORED, COPIED, LEFT_OUT, Job, Outcome, Settings
from serve.batch.places import Place

logger = logging.getLogger("serve.batch")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.batch", description=__doc__)
    add = parser.add_argument
    yes_or_no: dict[str, Any] = {"choices": ("yes", "no"), "default": "no"}
    model_help = "models:/..., the id of a training run, or naive or pix2pix: the family's champion"
    add("--model", default="pix2pix", help=model_help)
    input_help = "folder of pictures, of any depth, or a picture; or a URL"
    add("--input", required=True, help=input_help)
    add("--output", required=True, help="folder for the colored ones, or a URL")
    add("--cluster", default="", help="address of a Dask scheduler, as tcp://host:8786")
    which_help = (
        "gray (sepia is gray, too): color these, copy what is in color; all: color everything"
    )
    add("--which", choices=("gray", "all"), default="gray", help=which_help)
    format_help = (
        "of colored pictures; keep: JPEG, PNG and WebP stay what they are, others become PNG"
    )
    add("--format", choices=(batch.KEEP, *batch.SUFFIXES), default=batch.KEEP, help=format_help)
    add("--quality", type=int, default=92, help="1 to 100, of JPEG and WebP (default: 92)")
    add("--overwrite", **yes_or_no, help="yes: color existing ones again")
    add("--tta", **yes_or_no, help="yes: average over the mirror image too")
    broken_help = "yes: color what is there of truncated pictures, and leave the rest empty"
    add("--broken", **yes_or_no, help=broken_help)
    add("--saturation", type=float, default=1.0, help="0 (gray) to 2 (default: 1, as predicted)")
    warmth_help = "-1 (blue) to 1 (orange), default: 0, as predicted"
    add("--warmth", type=float, default=0.0, help=warmth_help)
    tint_help = "-1 (green) to 1 (magenta), default: 0, as predicted"
    add("--tint", type=float, default=0.0, help=tint_help)
    uncertainty_help = "yes: instead of colors, heat maps of how unsure the model is of them"
    add("--uncertainty", **yes_or_no, help=uncertainty_help)
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; the same command goes on from here")
def main(arguments: argparse.Namespace) -> int:
    """Color a folder.

    Returns:
        0: all pictures are there; 1: some could not be colored.
    """
    source, folder = places.resolve(*map(places.locate, (arguments.input, arguments.output)))
    # These import MLflow, for which a missing folder should not wait.
    from colorization import runs
    from colorization.registry import lookup, shipped
    from serve.pyfunc import read_options

    numbers = ("saturation", "quality", "warmth", "tint")
    params = {name: getattr(arguments, name) for name in numbers}
    params["tta"] = arguments.tta == "yes"
    is_heat = arguments.uncertainty == "yes"
    params["output"] = "uncertainty" if is_heat else "colors"
    read_options(params)
    listed = places.find(source)
    jobs, outcomes = batch.plan(source, folder, arguments.format, listed)
    shipped.provide(arguments.model)
    model_uri = lookup.resolve(arguments.model).model_uri
    places.delete_leftovers(folder)
    colors_all = is_heat or arguments.which == "all"
    settings = Settings(params, colors_all, arguments.overwrite == "yes", arguments.broken == "yes")
    jobs, done = _missing(jobs, folder, settings)
    outcomes += done
    name = f"colorize {PurePath(places.show(source)).name}"
    with runs.open_launched(name) as tag:
        outcomes += _run(jobs, model_uri, settings, arguments.cluster)
        colored = sum(each.what == COLORED for each in outcomes)
        counted = f"{colored} of {len(outcomes)}"
        tag("mlflow.runName", f"{name}: {counted}")
    made = "heat maps" if is_heat else "colored"
    left_out = _report(outcomes, f"{places.show(folder)}: {counted} {made}")
    if others := count_others(filter(None, listed)):
        logger.info("skipped: %s", others)
    return 1 if left_out else 0


def _report(outcomes: list[Outcome], summary: str) -> int:
    """Log what became of the pictures; return how many were left out."""
    for each in sorted(outcomes):
        if each.what == LEFT_OUT:
            logger.error("left out: %s: %s", places.show(each.source), each.note)
        elif each.note:
            logger.warning("%s: %s", places.show(each.source), each.note)
    counts = Counter(each.what for each in outcomes)
    summary += f", {counts[COPIED]} in color already: copied" if counts[COPIED] else ""
    summary += f", {counts[LEFT_OUT]} left out" if counts[LEFT_OUT] else ""
    logger.info("%s", summary)
    return counts[LEFT_OUT]


def _missing(jobs: list[Job], folder: Place, settings: Settings) -> tuple[list[Job], list[Outcome]]:
    """Return the jobs that are not done, and the outcomes of the others."""
    if settings.overwrites:
        return jobs, []
    missing: list[Job] = []
    done: list[Outcome] = []
    present = places.Present(folder)
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
        from serve.batch import cluster

        outcomes = cluster.color(address, model_uri, jobs, settings)
    else:
        from colorization.registry import served
        from serve.batch.folder import color

        model = served.load(model_uri)
        served.require(model, settings.params)
        outcomes = color(model, jobs, settings)
    return list(tqdm(outcomes, "Coloring", len(jobs), unit="", mininterval=0.5))


if __name__ == "__main__":
    sys.exit(main())
