"""Color a folder of pictures, or one: `python -m serve.batch --input album --output colored`.

JPEG, PNG and WebP keep their format and name; other formats become PNG. Pictures that are colored
already are skipped, so a stopped run can be started again. `mlflow run . -e colorize` calls it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import ImageFile
from tqdm import tqdm

from colorization import process
from colorization.paths import user_path
from serve.batch import output

if TYPE_CHECKING:
    from serve.batch.folder import Job, Uncolored

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
        "--input", required=True, help="folder of pictures, of any depth, or a picture"
    )
    parser.add_argument("--output", required=True, help="folder for the colored ones")
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
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; the same command goes on from here")
def main(arguments: argparse.Namespace) -> int:
    """Color a folder.

    Returns:
        0: all pictures are there; 1: some could not be colored.
    """
    source, folder = map(user_path, (arguments.input, arguments.output))
    output.resolve(source, folder)
    # These import MLflow, for which a missing folder should not wait.
    from colorization import runs
    from colorization.data.listing import count_others, walk
    from colorization.registry import lookup
    from serve.batch.folder import plan
    from serve.pyfunc import read_options

    params = {"tta": arguments.tta == "yes", "saturation": arguments.saturation}
    read_options(params)
    jobs, uncolored = plan(source, folder)
    ImageFile.LOAD_TRUNCATED_IMAGES = arguments.broken == "yes"
    pictures = len(jobs) + len(uncolored)
    model_uri = lookup.resolve(arguments.model).model_uri
    output.delete_leftovers(folder)
    if arguments.overwrite == "no":
        jobs = _missing(jobs)
    name = f"colorize {source.resolve().name}"
    with runs.open_launched(name) as tag:
        uncolored += _run(jobs, model_uri, params)
        tag("mlflow.runName", f"{name}: {pictures - len(uncolored)} of {pictures}")
    for each in sorted(uncolored):
        logger.error("left out: %s: %s", each.source, each.reason)
    colored, left_out = pictures - len(uncolored), len(uncolored)
    ending = f", {left_out} left out" if left_out else ""
    logger.info("%s: %d of %d colored%s", folder, colored, pictures, ending)
    if others := count_others(walk(source, follow=False)):
        logger.info("skipped: %s", others)
    return 1 if uncolored else 0


def _missing(jobs: list[Job]) -> list[Job]:
    missing = [job for job in jobs if not os.path.lexists(job.target)]
    if len(missing) < len(jobs):
        logger.info("%d of %d colored already", len(jobs) - len(missing), len(jobs))
    return missing


def _run(jobs: list[Job], model_uri: str, params: dict[str, Any]) -> list[Uncolored]:
    """Color under a progress bar; return the pictures that could not be colored."""
    if not jobs:
        return []
    import mlflow

    from serve.batch.folder import color

    model = mlflow.pyfunc.load_model(model_uri)
    colored = tqdm(color(model, jobs, params), "Coloring", len(jobs), unit="", mininterval=0.5)
    return [outcome for outcome in colored if outcome]


if __name__ == "__main__":
    sys.exit(main())
