"""The work of one process: trial after trial, until the study's budget is used up.

In a trial, a config is trained and logged in a run of its own, or given up early.
"""

import argparse
import contextlib
import functools
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import mlflow
import optuna
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from colorization import evaluation, runs, tracking, training_log
from colorization.address import redacted
from colorization.data.prepare import Splits
from colorization.data.sources import located
from colorization.registry import promotion
from colorization.training import train
from sweeps import parent_run
from sweeps import study as studies
from sweeps.space import Spec
from sweeps.storage import Storage
from sweeps.study import Clock

# Not the trial's fault: it is tried again.
OUTAGES = (MlflowException, StorageInternalError, OSError)
INTERRUPTIONS = (KeyboardInterrupt, SystemExit, UpdateFinishedTrialError, *OUTAGES)
WAIT_SECONDS = 2  # between looks at what other processes do
OUTAGE_SECONDS = 300  # for which a storage may be away

logger = logging.getLogger(__name__)

Turn = Callable[[], AbstractContextManager[None]]
Outcome = dict[str, Any] | None
Objective = Callable[[optuna.Trial], Outcome]


def run(arguments: argparse.Namespace, spec: Spec, splits: Splits, storage: Storage) -> None:
    """Search, and conclude, as the command line says; another process may do the same."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # `progress` says it
    name = arguments.study or f"{spec.family}-{spec.objective}-{splits.name}"
    turn = functools.partial(storage.lock, f"turn {name}")
    try:
        with contextlib.ExitStack() as parent:
            with turn():
                study, spec = studies.open_study(storage, name, spec)
                flags = vars(arguments) | {"study": name, "storage": storage.shown}
                run_id = parent.enter_context(parent_run.open_parent(study, spec, splits, flags))
            logger.info("study %s in %s, MLflow run %s", name, storage.shown, run_id)
            objective = functools.partial(run_trial, spec=spec, splits=splits, data=arguments.data)
            epochs = int(arguments.final_epochs or spec.full_epochs)
            deadline = time.monotonic() + float(arguments.timeout or "inf")
            clock = Clock(int(arguments.trials), epochs, len(splits.train.images), deadline)
            logger.info("%s", clock.plan(study, spec))
            if arguments.cluster:
                _watch(arguments, study, spec, clock)
            elif not search(study, spec, turn, objective, clock):
                logger.info("the time is over; other processes go on, the last of them concludes")
                return
            # Held through a training; the second process finds everything done.
            with storage.lock(f"winner {name}"):
                with turn():
                    parent_run.update(study)
                winner = parent_run.conclude(study, spec, splits, arguments.data, epochs)
                if winner:
                    promotion.finish(winner, arguments.register == "yes")
    except OUTAGES as error:
        raise OSError(f"{error} Mend that, and start again: the study goes on.") from error


def _watch(arguments: argparse.Namespace, study: optuna.Study, spec: Spec, clock: Clock) -> None:
    """Have the study's work done on a cluster, and log each trial that ends there."""
    from sweeps import cluster  # Dask, which a single process need not import

    trials = functools.partial(study.get_trials, deepcopy=False)  # looked at every second
    ended = {trial.number for trial in trials() if trial.state.is_finished()}

    def look() -> None:
        with contextlib.suppress(StorageInternalError):  # its workers wait for it, or end
            for trial in trials():
                if trial.state.is_finished() and trial.number not in ended:
                    line = progress(study, spec, trial.number, clock)
                    logger.info("%s: %s", trial.user_attrs.get("worker"), line)
                    ended.add(trial.number)

    flags = vars(arguments) | {"study": study.study_name, "data": located(arguments.data)}
    flags |= {"cluster": "", "workers": ""}  # a worker starts no others
    cluster.run(arguments.cluster, int(arguments.workers or clock.trials), flags, look)


def search(study: optuna.Study, spec: Spec, turn: Turn, objective: Objective, clock: Clock) -> bool:
    """Train trials until none is left to begin; return whether the study has ended.

    The other processes of the study do the same. `turn` gives the lock under which one ends a trial
    and takes the next; `objective` trains it, see `run_trial`. Where `clock` allows no other,
    this process begins none: one may still be at work elsewhere.
    """
    trial, outcome, away = None, None, 0.0
    while True:
        try:
            with turn():
                if trial:
                    _end(study, trial, outcome)
                    number, trial, outcome = trial.number, None, None
                    parent_run.update(study)
                    logger.info("%s", progress(study, spec, number, clock))
                studies.fail_stale_trials(study)
                others = studies.running(study)
                in_time = clock.allows_another(study, spec)
                if in_time and len(studies.spent(study)) < clock.trials:
                    trial = _take(study, spec)
            away = 0.0
        except StorageInternalError as error:
            if not away:
                logger.warning("the storage was away: %s", redacted(error).splitlines()[0])
            away = away or time.monotonic()
            if time.monotonic() > away + OUTAGE_SECONDS:
                raise
            time.sleep(WAIT_SECONDS)
            continue
        if trial:
            outcome = _try(study, turn, trial, objective)
        elif not others or not in_time:
            return not others
        else:  # one of the others may die, and leave its trial
            time.sleep(WAIT_SECONDS)


def _take(study: optuna.Study, spec: Spec) -> optuna.Trial:
    """Take the next trial. `Study.optimize` would hold the turn until its training ends."""
    study.sampler = studies.sampler(spec, len(study.get_trials(deepcopy=False)))
    trial = study.ask(spec.searched)
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
    return trial


def _try(study: optuna.Study, turn: Turn, trial: optuna.Trial, objective: Objective) -> Outcome:
    """Train a trial, with heartbeats; one that was interrupted has no outcome."""
    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):  # as `Study.optimize` does
            return objective(trial)
    except (StorageInternalError, UpdateFinishedTrialError):
        return None
    except BaseException:  # this process ends
        with contextlib.suppress(StorageInternalError), turn():
            _end(study, trial, None)
        raise


def run_trial(trial: optuna.Trial, spec: Spec, splits: Splits, data: str) -> dict[str, Any]:
    """Train what an Optuna trial has drawn, in a run below the active one; without test pictures.

    Returns:
        The outcome, as arguments of `Study.tell`. Its value is that of `Report`.

    Raises:
        BaseException: one of `INTERRUPTIONS`.
    """
    parent = tracking.active_run().info.run_id
    with tracking.open_run(f"trial {trial.number}", parent) as run:
        try:
            trial.set_user_attr("run_id", run.info.run_id)
            return _train(trial, spec, splits, data)
        except MlflowException:
            raise  # of a server that is gone: a tag would take minutes
        except INTERRUPTIONS:
            mlflow.set_tag("state", "killed")
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {redacted(error)}"
            mlflow.set_tags({"state": "failed", "error": reason})
            trial.set_user_attr("error", reason.partition("\n")[0])
            mlflow.end_run("FAILED")
            return {"state": TrialState.FAIL}


def _train(trial: optuna.Trial, spec: Spec, splits: Splits, data: str) -> dict[str, Any]:
    tags = {"sweep": "trial", "trial": trial.number, "study": trial.study.study_name}
    mlflow.set_tags(tags | {"state": "running"} | trial.user_attrs)
    config = spec.config_of(trial.params)
    trial.set_user_attr("label", config.label)
    name = f"trial {trial.number} {config.label}"
    mlflow.set_tag("mlflow.runName", name)
    tracking.log_config(config, data=data)
    tracking.log_data(splits, used=("train", "val"))
    report = Report(trial, spec)
    callbacks = [training_log.EpochLog(config, splits.val), report]
    result = train.train(config, splits, callbacks, name=name)
    training_log.log_training(config, result)
    mlflow.log_metric("value", report.value)
    mlflow.set_tag("state", "pruned" if report.pruned else "finished")
    if report.pruned:
        mlflow.end_run("KILLED")
        return {"state": TrialState.PRUNED}
    return {"values": report.value}


def _end(study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    """Tell Optuna a trial's outcome; without one, it was interrupted and is queued again."""
    if study.trials[trial.number].state.is_finished():
        logger.warning("trial %d: another process took this one for dead", trial.number)
        run_id = trial.user_attrs.get("run_id")
        if run_id and runs.exists(run_id):
            mlflow.MlflowClient().set_terminated(run_id, "KILLED")
    elif outcome:
        study.tell(trial, **outcome)
    else:
        studies.retry(study, study.tell(trial, state=TrialState.FAIL))


def progress(study: optuna.Study, spec: Spec, number: int, clock: Clock) -> str:
    """Return a line about a trial that has ended: its outcome, the best, and what is left."""
    trial, best = study.trials[number], next(iter(study.best_trials), None)
    label = trial.user_attrs.get("label", "")  # without it, its parameters were refused
    text = f"trial {number} {label}".rstrip() + f": {studies.state_of(trial)}"
    if "error" in trial.user_attrs:
        text += f" ({trial.user_attrs['error']})"
    elif trial.value is not None:
        text += f" after epoch {trial.last_step}" if trial.state == TrialState.PRUNED else ""
        text += f", {spec.objective} {trial.value:.4f}"
    text += f"; best {best.value:.4f} of trial {best.number}" if best else "; none finished yet"
    done = f"{clock.done(study)} of {clock.trials} trials"
    return f"{text}; {done}; {clock.left(study, spec)} left in all"


class Report(keras.callbacks.Callback):
    """Reports to Optuna after each epoch what the training would be worth if it ended here.

    That is `value`: the objective in the best epoch so far by the family's criterion, whose weights
    are kept. `pruned` tells whether Optuna gave the trial up. Presets are never pruned: the sweep
    does not end below them.
    """

    def __init__(self, trial: optuna.Trial, spec: Spec) -> None:
        super().__init__()
        self.trial, self.spec = trial, spec
        self.criterion = evaluation.CRITERIA[spec.family]
        self.epochs: list[tuple[float, float]] = []  # the criterion and the objective of each
        self.value = float("nan")
        self.pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Report, and stop a training that is not worth its time."""
        value = float(logs[f"val_{self.spec.objective}"])
        self.epochs.append((logs[f"val_{self.criterion.metric}"], value))
        _, self.value = self.criterion.best(self.epochs, lambda scores: scores[0])
        self.trial.report(self.value, epoch + 1)
        last = epoch + 1 == self.spec.epochs
        if not last and "preset" not in self.trial.user_attrs and self.trial.should_prune():
            self.pruned = self.model.stop_training = True
