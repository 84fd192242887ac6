"""Evaluate models on pictures they were not trained on: `python -m serve.evaluation --help`.

Each model is scored beside plain gray, mean chroma and shuffled chroma, with test-time augmentation
(TTA: the mean over a picture and its mirror image) and without; `mlflow run . -e evaluate` calls
it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from colorization import process
from colorization.config import DATA
from colorization.data import sources

logger = logging.getLogger("serve.evaluation")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.evaluation", description=__doc__)
    parser.add_argument(
        "--model",
        default="naive,pix2pix",
        help="one or more, with commas: models:/..., the id of a finished training run, or naive "
        "or pix2pix: the family's champion",
    )
    parser.add_argument("--data", default="sample", help=DATA)
    arguments = parser.parse_args(argv)
    if not all(name.strip() for name in arguments.model.split(",")):
        parser.error(
            f"Expected models with commas between them. Received: model={arguments.model!r}"
        )
    return arguments


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Evaluate models, and log one MLflow run."""
    sources.require(arguments.data)
    from colorization import tracking  # imports MLflow, as the next do
    from colorization.registry import lookup, shipped
    from serve.evaluation import holdout, scoring

    names = [name.strip() for name in arguments.model.split(",")]
    shipped.provide(*names)
    models = scoring.label(map(lookup.resolve, names))
    source = sources.fetch(arguments.data)
    pictures = holdout.collect(source, models)
    with tracking.open_run("evaluate", tool=True) as opened:
        tracking.log_flags(arguments.data, model=arguments.model)
        note = scoring.log(models, source, pictures)
    for line in (f"run {opened.info.run_id}", "", *note.split("\n")):
        logger.info("%s", line)


if __name__ == "__main__":
    sys.exit(main())
