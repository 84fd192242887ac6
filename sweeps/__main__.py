"""Search the settings of a family: `python -m sweeps --family naive --trials 20`.

Started again with the same study and storage, it goes on where it stopped, or helps those who are
at work; `mlflow run . -e sweep` calls it.
"""

import contextlib
import logging
import math
import os
import signal
import sys
import time

from colorization import process
from colorization.address import redacted, silence_links
from colorization.config import VARIANTS
from sweeps import space
from sweeps.spec import OBJECTIVES, Plan

logger = logging.getLogger("sweeps")

FAMILIES = tuple(dict.fromkeys(config.family for config in VARIANTS.values()))


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same as Ctrl-C, with another exit status."""


def main(argv=None):
    """Be one process of the sweep that the command line describes; return its exit status."""
    launched = os.environ.get("MLFLOW_RUN_ID")
    try:
        return _main(argv, launched)
    except KeyboardInterrupt as stop:
        logger.info("stopped; started again, the study goes on")
        if launched:  # a run of which this process may have taken the name from the environment
            os.environ["MLFLOW_RUN_ID"] = launched
            process.end_run()
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _main(argv, launched):
    arguments = parse(argv)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    process.start(_terminate)
    silence_links()

    from colorization import evaluation
    from colorization.data import prepare, sources
    from sweeps.storage import DEFAULT, Storage

    try:
        fix = space.parse_fix(arguments.family, arguments.fix)
        trials, timeout, final_epochs = _budget(arguments, fix)
        flags = {"epochs": arguments.epochs, "seed": arguments.seed}
        config = next(iter(space.handmade(arguments.family, fix, **flags).values()))  # checks them
        space.handmade(arguments.family, fix, epochs=final_epochs or 1)
        pictures = sources.fetch(arguments.data)
        storage = Storage(arguments.storage or DEFAULT, _on_dead_trial)
        splits = prepare.prepare(pictures)
        plan = Plan(
            family=arguments.family,
            objective=arguments.objective or evaluation.CRITERIA[arguments.family].metric,
            fix=fix,
            epochs=config.epochs,
            seed=config.seed,
            digest=splits.digest,
        )
    except (ValueError, OSError) as error:
        return _refuse(error, arguments)
    return run(arguments, plan, splits, storage, trials, timeout, final_epochs, launched)


def parse(argv=None):
    """Parse the command line."""
    parser = process.Parser(prog="python -m sweeps", description=__doc__)
    add = parser.add_argument
    add("--family", choices=FAMILIES, default=FAMILIES[0])
    add("--trials", default="20", help="of the whole study, whoever trains them")
    add("--timeout", default="", help="seconds after which this process begins no other trial")
    add("--study", default="", help="its name (default: family, objective and data)")
    add("--storage", default="", help="sqlite:///file.db or postgresql://user@host/database")
    add(
        "--objective",
        choices=("", *OBJECTIVES),
        default="",
        help="on validation pictures (default: the family's criterion)",
    )
    add("--fix", default="", help="what is not searched, such as variant=naive_deep,filters=32")
    add("--data", default="sample", help="sample, kaggle, or a folder or .zip of photographs")
    add("--epochs", default="8", help="of a trial that is not pruned")
    add("--final_epochs", default="", help="of the winner (default: a full training's; 0: none)")
    add("--seed", default="0", help="of the draws and of every training")
    add("--register", choices=("yes", "no"), default="yes", help="offer the winner to the registry")
    return parser.parse_args(argv)


def run(arguments, plan, splits, storage, trials, timeout, final_epochs, launched):
    """Search, conclude, and offer the winner to the registry; return the exit status."""
    # These bring TensorFlow, for which neither --help nor a bad argument should wait.
    import optuna
    from mlflow.exceptions import MlflowException

    from sweeps import cores, finalize, parent_run, search
    from sweeps.study import open_study
    from sweeps.trial import OUTAGES, Objective

    for library in ("absl", "tensorflow"):  # Keras's lines per epoch, and advice about tracing
        logging.getLogger(library).setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # told in our words
    if launched and storage.has_password:
        logger.warning(
            "`mlflow run` has logged the storage's password as a param: next time leave it out of "
            "the URL, and give it in PGPASSWORD or ~/.pgpass"
        )
    name = arguments.study or f"{plan.family}-{plan.objective}-{splits.name}"
    try:
        turn = storage.lock(f"turn {name}")
        with turn:
            try:
                study = open_study(storage, name, plan)
                flags = _params(arguments, plan, storage)
                run_id = parent_run.open_parent(study, plan, splits, launched, **flags)
            except ValueError as error:
                return _refuse(error, arguments)
            parent_run.close_dead(study)
        logger.info("study %s in %s, MLflow run %s", name, storage.shown, run_id)
        objective = Objective(plan, splits, arguments.data, run_id)
        budget = search.Budget(trials, timeout, time.monotonic())
        try:
            ended = search.search(study, plan, turn, objective, budget)
        except MlflowException:
            raise  # of a server that is gone: to tell it of the end would take minutes
        except BaseException:
            with contextlib.suppress(*OUTAGES):
                parent_run.leave(study, run_id)
            raise
        if not ended:
            logger.info("the time is over; other processes go on, the last of them will conclude")
            return 0
        cores.share([])
        with storage.lock(f"winner {name}"):  # held through a training; the second finds it done
            with turn:
                parent_run.close_dead(study, concluding=True)
            try:
                best = finalize.conclude(study, plan, splits, arguments.data, final_epochs)
            except finalize.NoWinner as error:
                return _refuse(error, arguments)
            if best:
                _offer(best, arguments.register)
    except OUTAGES as error:
        return _refuse(f"{error}\nMend that, and start again: the study goes on.", arguments)
    return 0


def _on_dead_trial(study, trial):
    from sweeps import search  # TensorFlow again

    search.on_dead_trial(study, trial)


def _offer(best, register):
    from colorization.registry import promotion

    command = promotion.serve_command(best.model_uri)
    if register == "yes":
        command = promotion.offer(best.run.info.run_id) or command
    logger.info("serve it: %s", command)


def _params(arguments, plan, storage):
    """Return the command line as the params of the study's run: no password among them."""
    told = vars(arguments) | {"storage": storage.shown, "objective": plan.objective}
    told |= {"epochs": plan.epochs, "seed": plan.seed}
    return {name: value for name, value in told.items() if name != "study"}


def _budget(arguments, fix):
    """Return the numbers of trials, seconds and final epochs; raise a ValueError on bad ones."""
    final_epochs = arguments.final_epochs or space.full_epochs(arguments.family, fix)
    return (
        int(_number("trials", arguments.trials, 1, whole=True)),
        _number("timeout", arguments.timeout or math.inf, 0),
        int(_number("final_epochs", final_epochs, 0, whole=True)),
    )


def _number(name, text, low, whole=False):
    try:
        value = float(text)
        if value >= low and (not whole or value.is_integer()):
            return value
    except ValueError:
        pass
    kind = "a whole number" if whole else "a number"
    raise ValueError(f"Bad value for `{name}`. Expected {kind} from {low}. Received: {text!r}")


def _refuse(error, arguments):
    addresses = *vars(arguments).values(), os.environ.get("MLFLOW_TRACKING_URI", "")
    logger.error("error: %s", redacted(error, *addresses))
    return 2


def _terminate():
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
