"""The work of one process: trial after trial, until the study's budget is used up."""

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from colorization.address import redacted
from sweeps import parent_run
from sweeps import study as studies
from sweeps.spec import Spec
from sweeps.storage import unwarned
from sweeps.trial import INTERRUPTIONS, Objective

WAIT_SECONDS = 2  # between looks at what other processes do
OUTAGE_SECONDS = 300  # for which a storage may be away

logger = logging.getLogger(__name__)

Lock = Callable[[], AbstractContextManager[None]]


class Budget(NamedTuple):
    """How much is searched: `trials` of the whole study, until `deadline` (`time.monotonic`)."""

    trials: int
    deadline: float

    @property
    def seconds_left(self) -> float:
        """The seconds in which this process may begin another trial."""
        return self.deadline - time.monotonic()


def search(
    study: optuna.Study, spec: Spec, turn: Lock, objective: Objective, budget: Budget
) -> bool:
    """Train trials until none is left to begin; the other processes of the study do the same.

    Args:
        study: an Optuna study.
        spec: of the study.
        turn: gives the lock under which a process takes a trial, or ends one.
        objective: of the study.
        budget: when to end.

    Returns:
        Whether the study has ended. It has not if this process's time is over and another one is
        still at work.
    """
    while True:
        trial, others = None, []
        try:
            with turn():
                _fail_stale_trials(study)
                others = studies.running(study)
                if budget.seconds_left > 0 and len(studies.spent(study)) < budget.trials:
                    trial = _take(study, spec)
            if trial:
                _train(study, turn, trial, objective)
                with turn():
                    parent_run.update(study)
                logger.info("%s", progress(study, spec, trial.number, budget))
                continue
        except StorageInternalError as error:
            _wait_for_storage(study, error)
            continue
        if not others:
            return True
        if budget.seconds_left <= 0:
            return False
        time.sleep(WAIT_SECONDS)  # one of the others may die, and leave its trial


@unwarned()
def _fail_stale_trials(study: optuna.Study) -> None:
    """Fail the trials whose process has died, and queue them again; to be called under a lock."""
    optuna.storages.fail_stale_trials(study)  # calls `on_stale_trial`
    for trial in studies.running(study):
        if "worker" not in trial.user_attrs:  # its process died before the first heartbeat
            failed = study.tell(trial.number, state=TrialState.FAIL)
            studies.on_stale_trial(study, failed)


@unwarned()
def _take(study: optuna.Study, spec: Spec) -> optuna.Trial:
    """Take the next trial; to be called under a lock."""
    study.sampler = studies.sampler(spec, len(study.get_trials(deepcopy=False)))
    trial = study.ask()
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
    return trial


def _train(study: optuna.Study, turn: Lock, trial: optuna.Trial, objective: Objective) -> None:
    """Train a trial to its end, or until it is interrupted."""
    outcome: dict[str, Any] | None = None
    stop: BaseException | None = None
    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):
            outcome = objective(trial)
    except StorageInternalError as error:
        _wait_for_storage(study, error)
    except UpdateFinishedTrialError:
        pass
    except INTERRUPTIONS as error:
        stop = error
    try:
        with turn():  # or another process could fail it in between
            _end(study, trial, outcome)
    finally:
        if stop:
            raise stop


def _end(study: optuna.Study, trial: optuna.Trial, outcome: dict[str, Any] | None) -> None:
    """Tell Optuna the outcome of a trial; None, of an interrupted one, queues it again."""
    if study.trials[trial.number].state.is_finished():
        logger.warning("trial %d: another process took this one for dead", trial.number)
        if "run_id" in trial.user_attrs:
            parent_run.close_killed(trial.user_attrs["run_id"])
    elif outcome:
        study.tell(trial, **outcome)
    else:
        studies.retry(study, study.tell(trial, state=TrialState.FAIL))


def _wait_for_storage(study: optuna.Study, error: StorageInternalError) -> None:
    """Wait until a storage that is away answers again; raise the error if it stays away."""
    deadline = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < deadline:
        try:
            study.get_trials(deepcopy=False)
        except StorageInternalError:
            time.sleep(WAIT_SECONDS)
        else:
            logger.warning("the storage was away: %s", redacted(error).splitlines()[0])
            return
    raise error


def progress(study: optuna.Study, spec: Spec, number: int, budget: Budget) -> str:
    """Return a line about a trial that has ended: state, value, best, and the time left."""
    trial = study.trials[number]
    state, value = studies.state_of(trial), ""
    if state == "failed":
        state += f" ({trial.user_attrs['error']})"
    elif trial.value is not None:
        state += f" after epoch {trial.last_step}" if state == "pruned" else ""
        value = f", {spec.objective} {trial.value:.4f}"
    best = studies.best_trial(study)
    so_far = f"best {best.value:.4f} of trial {best.number}" if best else "none finished yet"
    ended = [each for each in studies.spent(study) if each.state.is_finished()]
    return (
        f"trial {number}: {state}{value}; {so_far}; {len(ended)} of {budget.trials} trials, "
        f"{_time_left(study, ended, budget)}"
    )


def _time_left(study: optuna.Study, ended: list[FrozenTrial], budget: Budget) -> str:
    seconds = [each.duration.total_seconds() for each in ended if each.duration]
    left = max(0, budget.trials - len(ended))
    workers = len(studies.running(study)) + 1
    estimate = left * sum(seconds) / len(seconds) / workers if seconds else 0
    minutes = max(0, min(estimate, budget.seconds_left)) / 60
    return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
