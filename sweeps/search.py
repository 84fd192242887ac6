"""The work of one process: trial after trial, until the study's budget is used up."""

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from colorization.address import redacted
from sweeps import parent_run
from sweeps.spec import Spec
from sweeps.storage import unwarned
from sweeps.study import best_trial, on_stale_trial, retry, running, sampler, spent, state_of
from sweeps.trial import INTERRUPTIONS

WAIT_SECONDS = 2  # between looks at what other processes do
OUTAGE_SECONDS = 300  # for which a storage may be away

logger = logging.getLogger(__name__)

Turn = Callable[[], AbstractContextManager[None]]
Objective = Callable[[optuna.Trial], dict[str, Any]]


def search(
    study: optuna.Study, spec: Spec, turn: Turn, objective: Objective, trials: int, deadline: float
) -> bool:
    """Train trials until none is left to begin; the other processes of the study do the same.

    Args:
        study: an Optuna study.
        spec: of the study.
        turn: gives the lock under which a process takes a trial, or ends one.
        objective: trains a trial; returns its outcome as arguments of `Study.tell`.
        trials: of the whole study.
        deadline: after which this process begins no other, by `time.monotonic`.

    Returns:
        Whether the study has ended: if the time is over, another process may still be at work.
    """
    while True:
        trial = None
        try:
            with turn():
                _fail_stale_trials(study)
                others = running(study)
                if time.monotonic() < deadline and len(spent(study)) < trials:
                    trial = _take(study, spec)
            if trial:
                _train(study, turn, trial, objective)
                with turn():
                    parent_run.update(study)
                logger.info("%s", progress(study, spec, trial.number, trials))
            elif not others:
                return True
            elif time.monotonic() >= deadline:
                return False
            else:  # one of the others may die, and leave its trial
                time.sleep(WAIT_SECONDS)
        except StorageInternalError as error:
            _wait_for_storage(study, error)


@unwarned()
def _fail_stale_trials(study: optuna.Study) -> None:
    optuna.storages.fail_stale_trials(study)  # calls `on_stale_trial`
    for trial in running(study):
        if "worker" not in trial.user_attrs:  # its process died before the first heartbeat
            on_stale_trial(study, study.tell(trial.number, state=TrialState.FAIL))


@unwarned()
def _take(study: optuna.Study, spec: Spec) -> optuna.Trial:
    """Take the next trial. `Study.optimize` would hold the turn until its training ends."""
    study.sampler = sampler(spec, len(study.get_trials(deepcopy=False)))
    trial = study.ask(spec.distributions)
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
    return trial


def _train(study: optuna.Study, turn: Turn, trial: optuna.Trial, objective: Objective) -> None:
    """Train a trial, and tell Optuna its outcome; one that was interrupted is queued again."""
    outcome: dict[str, Any] | None = None
    stop: BaseException | None = None
    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):  # as `Study.optimize` does
            outcome = objective(trial)
    except StorageInternalError as error:
        _wait_for_storage(study, error)
    except UpdateFinishedTrialError:
        pass
    except INTERRUPTIONS as error:
        stop = error
    try:
        with turn():  # or another process could fail the trial in between
            if study.trials[trial.number].state.is_finished():
                logger.warning("trial %d: another process took this one for dead", trial.number)
                if "run_id" in trial.user_attrs:
                    parent_run.close_killed(trial.user_attrs["run_id"])
            elif outcome:
                study.tell(trial, **outcome)
            else:
                retry(study, study.tell(trial, state=TrialState.FAIL))
    finally:
        if stop:
            raise stop


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


def progress(study: optuna.Study, spec: Spec, number: int, trials: int) -> str:
    """Return a line about a trial that has ended: state, value, best, and the time left."""
    trial, best = study.trials[number], best_trial(study)
    text = f"trial {number}: {state_of(trial)}"
    if "error" in trial.user_attrs:
        text += f" ({trial.user_attrs['error']})"
    elif trial.value is not None:
        text += f" after epoch {trial.last_step}" if trial.state == TrialState.PRUNED else ""
        text += f", {spec.objective} {trial.value:.4f}"
    text += f"; best {best.value:.4f} of trial {best.number}" if best else "; none finished yet"
    seconds = [each.duration.total_seconds() for each in spent(study) if each.duration]
    left = (trials - len(seconds)) * sum(seconds) / max(1, len(seconds) * (len(running(study)) + 1))
    minutes = f"about {left / 60:.0f} min" if left >= 60 else "less than a minute"
    return f"{text}; {len(seconds)} of {trials} trials, {minutes} left"
