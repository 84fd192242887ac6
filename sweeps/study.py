"""A study: how it is opened, who draws and who prunes, what is tried again, how long it takes."""

import dataclasses
import logging
import math
import time
from statistics import fmean
from typing import NamedTuple

import numpy as np
import optuna
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from colorization import plan
from colorization.config import Config
from sweeps.space import OBJECTIVES, Spec, network

MAX_CRASHES = 2  # after which a config that fells its process (memory!) is not tried again

logger = logging.getLogger(__name__)


def open_study(storage: BaseStorage, name: str, spec: Spec) -> tuple[optuna.Study, Spec]:
    """Create a study, or join the one of this name; its first trials are the presets.

    A study goes on with the variants that it was created with, which the returned spec names:
    Optuna refuses other choices. To be called under a lock.

    Raises:
        ValueError: the study of this name has another spec, or other configs of its variants.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction=OBJECTIVES[spec.objective], load_if_exists=True
    )
    if "spec" not in study.user_attrs and not study.trials:
        study.set_user_attr("spec", spec.identity)
    known = study.user_attrs.get("spec", {"variants": {}})
    spec = dataclasses.replace(spec, variants=tuple(known["variants"]))
    expected, received = (each.pop("variants") | each for each in (known, spec.identity))
    changed = [key for key in received if received[key] != expected.get(key)]
    if changed:
        raise ValueError(
            f"There is another study of this name: give this one its own. Expected "
            f"{', '.join(f'{key}={expected.get(key)}' for key in changed)}. Received: "
            f"study={name!r}, {', '.join(f'{key}={received[key]}' for key in changed)}"
        )
    study.pruner = pruner(spec)
    for variant, config in spec.presets().items():
        tags = {"preset": variant}
        study.enqueue_trial(spec.params_of(config), user_attrs=tags, skip_if_exists=True)
    return study, spec


def sampler(spec: Spec, number: int) -> optuna.samplers.TPESampler:
    """Return the sampler of a trial, seeded by its number.

    Processes that draw at the same time do not draw the same, and a study that was stopped draws
    what it would have drawn.
    """
    seed = int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed)


def pruner(spec: Spec) -> optuna.pruners.MedianPruner:
    """Return the pruner: it ends a trial that is worse than the median of the finished ones.

    It begins at half of the epochs, a GAN's at half of those with the discriminator, by the preset
    that comes last: while learning rates are high, the order of the trials says little of the end.
    `benchmarks/sweep.py` compares it with Hyperband.
    """
    # Where no epoch has a discriminator, the remainder is 0.
    starts = [each.generator_only_epochs % each.epochs for each in spec.presets().values()]
    begin = max(1, (max(starts) + spec.epochs) // 2)
    return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=begin)


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that are being trained now, here or elsewhere."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def spent(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: all that have begun but those that were retried."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    return [t for t in trials if t.state != TrialState.WAITING and t.number not in retried]


def finals(study: optuna.Study, spec: Spec) -> list[Config]:
    """Return what is trained in full in the end: the best config, and presets of other networks.

    Before any trial has finished, the presets are all that is known. The epochs of `spec` are those
    of a full training.
    """
    presets = list(spec.presets().values())
    best = next(iter(study.best_trials), None)
    if best is None:
        return presets
    config = spec.config_of(best.params)
    return [config, *(each for each in presets if network(each) != network(config))]


def state_of(trial: FrozenTrial) -> str:
    """Return a trial's outcome, in the words of its MLflow run's tag `state`."""
    if trial.state == TrialState.FAIL:
        return "failed" if "error" in trial.user_attrs else "killed"
    return {"COMPLETE": "finished"}.get(trial.state.name, trial.state.name.lower())


def fail_stale_trials(study: optuna.Study) -> None:
    """Fail the trials whose process has died, which its heartbeats show; queue them again.

    To be called under a lock.
    """
    optuna.storages.fail_stale_trials(study)  # calls `retry`
    for trial in running(study):
        if "worker" not in trial.user_attrs:  # its process died before the first heartbeat
            retry(study, study.tell(trial.number, state=TrialState.FAIL), crashed=True)


def retry(study: optuna.Study, trial: FrozenTrial, crashed: bool = False) -> None:
    """Queue a copy of a trial that ended through no fault of its own.

    If its process `crashed`, the parameters may be the cause: that is retried `MAX_CRASHES` times.
    """
    crashes = trial.user_attrs.get("crashes", 0) + crashed
    again = crashes <= MAX_CRASHES
    kept = {name: value for name, value in trial.user_attrs.items() if name == "preset"}
    trial.user_attrs = kept | {"retry_of": trial.number, "crashes": crashes}
    if again:
        RetryHeartbeatStaleTrialCallback()(study, trial)  # with the parameters, drawn or queued
    if crashed:
        outcome = "will be tried again" if again else "is given up, as were those that it repeated"
        logger.warning("trial %d: its process has died; it %s", trial.number, outcome)


class Clock(NamedTuple):
    """How long a study still takes in all: its trials, and what is trained in full after them."""

    trials: int  # of the whole study
    final_epochs: int = 0  # of what is trained in full; 0 for nothing
    pictures: int = 0  # of an epoch
    deadline: float = math.inf  # of all, by `time.monotonic`

    def plan(self, study: optuna.Study, spec: Spec) -> str:
        """Say what the study trains in all, and how long what is left of it takes."""
        trials, epochs = plan.counted(self.trials, "trial"), plan.counted(spec.epochs, "epoch")
        parts = [f"in all: {trials} of {epochs}, the presets first ({', '.join(spec.presets())})"]
        if self.final_epochs:
            epochs = plan.counted(self.final_epochs, "epoch")
            parts += [f"then the winner and each preset that is another network, {epochs} each"]
        if done := self.done(study):
            parts += [f"{done} of them {'is' if done == 1 else 'are'} done"]
        return "; ".join([*parts, f"about {self.left(study, spec)}, {plan.ESTIMATE_OF}"])

    def done(self, study: optuna.Study) -> int:
        """Return how many trials are over, without those that were retried."""
        return sum(trial.state.is_finished() for trial in spent(study))

    def left(self, study: optuna.Study, spec: Spec) -> str:
        """Return the time that is left for all of it; the processes of the study share trials."""
        trials = max(0, self.trials - self.done(study)) / max(1, len(running(study)))
        return plan.duration(self._seconds(study, spec, trials))

    def allows_another(self, study: optuna.Study, spec: Spec) -> bool:
        """Tell whether a trial that begins now, and what comes after it, will end in time.

        Where no trial has finished yet, there is nothing that could come after it.
        """
        seconds = self._seconds(study, spec, 1) if study.best_trials else 0
        return time.monotonic() + seconds < self.deadline

    def _seconds(self, study: optuna.Study, spec: Spec, trials: float) -> float:
        """Return how long some trials and all of the end take, by what the trials took so far."""
        expected = trials * fmean(plan.seconds(x, self.pictures) for x in spec.presets().values())
        if self.final_epochs:
            full = dataclasses.replace(spec, epochs=self.final_epochs)
            expected += sum(plan.seconds(each, self.pictures) for each in finals(study, full))
        took = planned = 0.0
        for trial in study.get_trials(deepcopy=False):
            if trial.duration and trial.last_step:
                took += trial.duration.total_seconds()
                config = dataclasses.replace(spec.config_of(trial.params), epochs=trial.last_step)
                planned += plan.seconds(config, self.pictures)
        return expected * took / planned if planned else expected
