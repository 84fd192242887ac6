"""Search the settings of a family: `python -m sweeps --family naive --trials 20`.

Started again with the same study and storage, it goes on where it stopped, or helps those who are
at work; `mlflow run . -e sweep` calls it.
"""

import argparse
import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from colorization import process
from colorization.config import DATA, VARIANTS
from sweeps import space
from sweeps.spec import OBJECTIVES, Spec

if TYPE_CHECKING:
    from colorization.data.prepare import Splits
    from sweeps.storage import Storage

logger = logging.getLogger("sweeps")

FAMILIES = tuple(dict.fromkeys(config.family for config in VARIANTS.values()))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m sweeps", description=__doc__)
    add = parser.add_argument
    add("--family", choices=FAMILIES, default=FAMILIES[0])
    add("--trials", default="20", help="of the whole study, whoever trains them")
    add("--timeout", default="", help="seconds after which this process begins no other trial")
    add("--study", default="", help="its name (default: family, objective and data)")
    add("--storage", default="", help="sqlite:///file.db or postgresql://user@host/database")
    text = "on validation pictures (default: the family's criterion)"
    add("--objective", choices=("", *OBJECTIVES), default="", help=text)
    add("--fix", default="", help="what is not searched, such as variant=naive_deep,filters=32")
    add("--data", default="sample", help=DATA)
    add("--epochs", default="8", help="of a trial that is not pruned")
    add("--final_epochs", default="", help="of the winner (default: a full training's; 0: none)")
    add("--seed", default="0", help="of the draws and of every training")
    add("--register", choices=("yes", "no"), default="yes", help="offer the winner to the registry")
    return parser.parse_args(argv)


@process.entry_point(parse, stopped="stopped; started again, the study goes on")
def main(arguments: argparse.Namespace) -> None:
    """Be one process of the sweep that the command line describes."""
    launched = os.environ.get("MLFLOW_RUN_ID")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        run(arguments, *_prepare(arguments), launched)
    except (KeyboardInterrupt, SystemExit):
        if launched:  # MLflow takes it from the environment; `entry_point` ends this run
            os.environ["MLFLOW_RUN_ID"] = launched
        raise


def _prepare(arguments: argparse.Namespace) -> "tuple[Spec, Splits, Storage]":
    """Check the command line, and open what it names."""
    from colorization import evaluation
    from colorization.data import prepare, sources
    from sweeps.storage import DEFAULT, Storage
    from sweeps.study import on_stale_trial

    fix = space.parse_fix(arguments.family, arguments.fix)
    arguments.trials = int(_number("trials", arguments.trials, 1))
    _number("timeout", arguments.timeout or "inf", 0, whole=False)
    final_epochs = _number("final_epochs", arguments.final_epochs or "1", 0)
    objective = arguments.objective or evaluation.CRITERIA[arguments.family].metric
    spec = Spec(arguments.family, objective, fix, arguments.epochs, arguments.seed)
    config, *_ = spec.presets().values()  # checks and converts epochs and seed
    spec.presets(int(final_epochs) or 1)
    pictures = sources.fetch(arguments.data)
    storage = Storage(arguments.storage or DEFAULT, on_stale_trial)
    splits = prepare.prepare(pictures, config.size)
    spec = Spec(spec.family, objective, fix, config.epochs, config.seed, splits.digest)
    return spec, splits, storage


def run(
    arguments: argparse.Namespace,
    spec: Spec,
    splits: "Splits",
    storage: "Storage",
    launched: str | None,
) -> None:
    """Search, conclude, and offer the winner to the registry."""
    # These import TensorFlow, for which neither --help nor a bad argument should wait.
    import optuna

    from colorization.registry import promotion
    from sweeps import finalize, parent_run, search
    from sweeps.study import open_study
    from sweeps.trial import OUTAGES, run_trial

    for library in ("absl", "tensorflow"):  # Keras's lines per epoch, and advice about tracing
        logging.getLogger(library).setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # `search.progress` says it
    name = arguments.study or f"{spec.family}-{spec.objective}-{splits.name}"
    turn = functools.partial(storage.lock, f"turn {name}")
    try:
        with turn():
            study, spec = open_study(storage, name, spec)
            flags = vars(arguments) | {"study": name, "storage": storage.shown}
            flags |= {each: getattr(spec, each) for each in ("objective", "epochs", "seed")}
            parent_run.open_parent(study, spec, splits, launched, flags)
        run_id = study.user_attrs["run_id"]
        logger.info("study %s in %s, MLflow run %s", name, storage.shown, run_id)
        common = {"spec": spec, "splits": splits, "data": arguments.data}
        objective = functools.partial(run_trial, **common, parent_run_id=run_id)
        deadline = time.monotonic() + float(arguments.timeout or "inf")
        with parent_run.killed_if_stopped(study, run_id):
            ended = search.search(study, spec, turn, objective, arguments.trials, deadline)
        if not ended:
            logger.info("the time is over; other processes go on, the last of them will conclude")
            return
        with storage.lock(f"winner {name}"):  # held through a training; the second finds it done
            with turn():
                parent_run.update(study, concluding=True)
            epochs = int(float(arguments.final_epochs or spec.full_epochs))
            winner = finalize.conclude(study, spec, splits, arguments.data, epochs)
            if winner:
                register = arguments.register == "yes"
                command = promotion.command_after(winner.run, winner.model_uri, register)
                logger.info("serve it: %s", command)
    except OUTAGES as error:
        raise OSError(f"{error} Mend that, and start again: the study goes on.") from error


def _number(name: str, text: str, low: float, whole: bool = True) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if value >= low and (not whole or value.is_integer()):
            return value
    kind = "a whole number" if whole else "a number"
    raise ValueError(f"Bad value for `{name}`. Expected {kind} from {low}. Received: {text!r}")


if __name__ == "__main__":
    sys.exit(main())
