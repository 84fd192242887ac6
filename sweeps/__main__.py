"""Search the settings of a family: `python -m sweeps --family naive --trials 20`.

Started again with the same study and storage, it goes on where it stopped, or helps those who are
at work; `mlflow run . -e sweep` calls it.
"""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Sequence

from colorization import process
from colorization.config import DATA, owners
from colorization.fields import whole
from sweeps.space import OBJECTIVES, SPACES, Spec, parse_fix


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    pinned = {name: [f"fix={name}=..."] for name in owners()}
    parser = process.Parser(prog="python -m sweeps", description=__doc__, synonyms=pinned)
    add = parser.add_argument
    add("--family", choices=tuple(SPACES), default="naive")
    add("--trials", default="20", help="of the whole study, whoever trains them")
    add("--timeout", default="", help="seconds for trials and final trainings (default: no limit)")
    add("--study", default="", help="its name (default: family, objective and data)")
    add("--storage", default="sqlite:///sweeps.db", help="or postgresql://user@host/database")
    add("--cluster", default="", help="address of a Dask scheduler, as tcp://host:8786")
    add("--workers", default="", help="on the cluster (default: one on each Dask worker)")
    add("--objective", choices=("", *OBJECTIVES), default="", help="on validation pictures")
    add("--fix", default="", help="what is not searched, such as variant=naive_deep,filters=32")
    add("--data", default="sample", help=DATA)
    add("--epochs", default="8", help="of a trial that is not pruned")
    add("--final_epochs", default="", help="of the winner (default: a full training's; 0: none)")
    add("--seed", default="0", help="of the draws and of every training")
    add("--register", choices=("yes", "no"), default="yes", help="offer the winner to the registry")
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; started again, the study goes on")
def main(arguments: argparse.Namespace) -> None:
    """Be one process of the sweep that the command line describes, or start some on a cluster."""
    warnings.filterwarnings("ignore", ".*(experimental|Heartbeat of storage)")  # of Optuna
    from colorization import evaluation
    from colorization.data import prepare, sources
    from sweeps.storage import Storage

    whole("trials", arguments.trials, 1)
    whole("timeout", arguments.timeout or "0", 0)
    whole("workers", arguments.workers or "1", 1)
    final_epochs = whole("final_epochs", arguments.final_epochs or "0", 0)
    fix = parse_fix(arguments.family, arguments.fix)
    arguments.objective = arguments.objective or evaluation.CRITERIA[arguments.family].metric
    spec = Spec(arguments.family, arguments.objective, fix, arguments.epochs, arguments.seed)
    config, *_ = spec.presets().values()  # checks and converts epochs and seed
    dataclasses.replace(spec, epochs=final_epochs or 1).presets()
    if arguments.cluster or arguments.workers:
        from sweeps import cluster

        cluster.require(arguments.cluster, arguments.storage)
    pictures = sources.fetch(arguments.data)
    storage = Storage(arguments.storage)
    splits = prepare.prepare(pictures, config.size)
    spec = Spec(spec.family, spec.objective, fix, config.epochs, config.seed, splits.digest)
    process.import_tensorflow()  # last: nothing that can be refused should wait for it
    from sweeps import search

    search.run(arguments, spec, splits, storage)


if __name__ == "__main__":
    sys.exit(main())
