"""Register a run's model: `python -m colorization.registry --best pix2pix`.

`mlflow run . -e register` calls it.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from colorization import process

logger = logging.getLogger("colorization.registry")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line: a run, or the best one of a family."""
    parser = process.Parser(prog="python -m colorization.registry", description=__doc__)
    parser.add_argument("--run_id", default="", help="of a finished training")
    parser.add_argument("--best", default="", help="naive or pix2pix: its best finished run")
    parser.add_argument("--force", choices=("yes", "no"), default="no", help="promote anyway")
    arguments = parser.parse_args(argv)
    if bool(arguments.run_id) == bool(arguments.best):
        parser.error("Expected exactly one of --run_id and --best.")
    return arguments


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Register the run that the command line names."""
    # These import MLflow, for which a wrong usage should not wait.
    from colorization import runs
    from colorization.registry import lookup, promotion, shipped

    run_id, best = arguments.run_id, arguments.best
    shipped.provide(best)
    candidate = lookup.find(run_id) if run_id else lookup.find_best(best)
    name = f"register {candidate.run.info.run_name}"
    with runs.open_launched(name) as tag:
        version, alias = promotion.register(candidate, force=arguments.force == "yes")
        tag("mlflow.runName", f"{name}: {alias}")
    logger.info("%s version %s is the %s", version.name, version.version, alias)
    if alias == lookup.CHAMPION:
        command = promotion.serve_command(lookup.champion_uri(candidate.family))
        logger.info("serve it: %s", command)


if __name__ == "__main__":
    sys.exit(main())
