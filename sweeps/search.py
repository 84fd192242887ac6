"""The work of one process: trial after trial, until the study's budget is used up."""

import logging
import time
from typing import NamedTuple

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from colorization.address import redacted
from sweeps import cores, parent_run
from sweeps import study as studies
from sweeps.storage import experimental
from sweeps.trial import OUTAGES, TrialFailed

WAIT_SECONDS = 2  # between looks at what other processes do
OUTAGE_SECONDS = 300  # for which a storage may be away

logger = logging.getLogger(__name__)


class Budget(NamedTuple):
    """How much is searched: `trials` of the whole study, `timeout` seconds of this process."""

    trials: int
    timeout: float
    started: float

    def seconds_left(self):
        """Return the seconds in which this process may begin another trial."""
        return self.timeout - (time.monotonic() - self.started)


def search(study, plan, turn, objective, budget):
    """Train trials until none is left to begin; the other processes of the study do the same.

    Args:
        study: an Optuna study.
        plan: of the study.
        turn: lock, held by the process that looks whether a trial is left, and takes it.
        objective: function of an Optuna trial.
        budget: when to end.

    Returns:
        Whether the study has ended. It has not where this process's time is over, and another
        one is still at work.
    """
    while True:
        try:
            ended = _step(study, plan, turn, objective, budget)
        except StorageInternalError as error:
            if not _answers(study):
                raise
            logger.warning("the storage was away: %s", redacted(error).splitlines()[0])
        else:
            if ended is not None:
                return ended


def _step(study, plan, turn, objective, budget):
    """Train one trial or wait a moment; return what `search` does, or None to go on."""
    number = None
    with turn:
        _bury(study)
        others = studies.running(study)
        over = budget.seconds_left() <= 0
        if not over and len(studies.spent(study)) < budget.trials:
            # Lets go of the turn as soon as the trial is taken.
            number = _train_one(study, plan, turn, objective)
    if number is not None:
        with turn:
            parent_run.update(study)
        logger.info("%s", progress(study, plan, number, budget))
    elif not others:
        return True
    elif over:
        return False
    else:  # one of the others may die, and leave its trial
        time.sleep(WAIT_SECONDS)
    return None


def _answers(study):
    """Wait for a storage that is away; return whether it answers again."""
    deadline = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < deadline:
        try:
            study.get_trials(deepcopy=False)
            return True
        except StorageInternalError:
            time.sleep(WAIT_SECONDS)
    return False


def _train_one(study, plan, turn, objective):
    """Take the next trial, let go of the turn, and train it; return the trial's number."""
    number = cause = None

    def begin(trial):
        nonlocal number, cause
        number = trial.number
        try:
            study._storage.record_heartbeat(trial._trial_id)  # without one it could not be missed
            trial.set_user_attr("worker", cores.ME)
            cores.share(_workers(study))
            turn.release()
            try:
                return objective(trial)
            except StorageInternalError:
                _answers(study)  # or Optuna could not tell it of the trial's end
                raise
        except (KeyboardInterrupt, *OUTAGES) as error:
            cause = error
            raise

    study.sampler = studies.sampler(plan, len(study.get_trials(deepcopy=False)))
    try:
        study.optimize(begin, n_trials=1, catch=(TrialFailed,))
    except BaseException as error:
        if number is None:
            raise
        if isinstance(error, UnboundLocalError):  # so Optuna fails where the storage is away
            raise cause or error.__context__ from error
        trial = study.trials[number]
        if isinstance(error, ValueError) and trial.state.is_finished():  # so where it was failed
            logger.warning("trial %d: another process took this one for dead", number)
            if "run_id" in trial.user_attrs:
                parent_run.close_killed(trial.user_attrs["run_id"])
            error = cause
        elif isinstance(error, (KeyboardInterrupt, *OUTAGES)) and trial.state == TrialState.FAIL:
            studies.retry(study, trial)
        if error:
            raise error
    return number


def _workers(study):
    return [trial.user_attrs.get("worker", "") for trial in studies.running(study)]


@experimental()
def _bury(study):
    """Fail the trials whose process has died; to be called under a lock."""
    optuna.storages.fail_stale_trials(study)  # calls `on_dead_trial`
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if "worker" not in trial.user_attrs:  # died while it had the turn, before any heartbeat
            study.tell(trial.number, state=TrialState.FAIL)
            on_dead_trial(study, trial)


def on_dead_trial(study, trial):
    """Queue a trial again whose process has died, and close its MLflow run."""
    again = studies.retry(study, trial, died=True)
    fate = "it will be tried again" if again else "it is given up, as were those that it repeated"
    logger.warning("trial %d: its process has died; %s", trial.number, fate)
    parent_run.close_dead(study)


def progress(study, plan, number, budget):
    """Return a line about a trial that has ended: state, value, best, and the time left."""
    trial = study.trials[number]
    state, value = studies.state_of(trial), ""
    if state == "failed":
        state += f" ({trial.user_attrs['error']})"
    elif trial.value is not None:
        state += f" after epoch {trial.last_step}" if state == "pruned" else ""
        value = f", {plan.objective} {trial.value:.4f}"
    best = studies.best_trial(study)
    told = f"best {best.value:.4f} of trial {best.number}" if best else "none finished yet"
    ended = [each for each in studies.spent(study) if each.state.is_finished()]
    return (
        f"trial {number}: {state}{value}; {told}; {len(ended)} of {budget.trials} trials, "
        f"{_time_left(study, ended, budget)}"
    )


def _time_left(study, ended, budget):
    seconds = [each.duration.total_seconds() for each in ended]
    left = max(0, budget.trials - len(ended))
    workers = len(studies.running(study)) + 1
    estimate = left * sum(seconds) / len(seconds) / workers if seconds else 0
    minutes = max(0, min(estimate, budget.seconds_left())) / 60
    return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
