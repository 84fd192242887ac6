"""A study: how it is opened, who draws and who prunes, what counts, and what is tried again."""

import dataclasses
import logging

import numpy as np
import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from colorization.config import Config
from sweeps.spec import OBJECTIVES, Spec
from sweeps.storage import Storage, unwarned

FULL_TRIALS = 3  # are finished before the first is pruned
MAX_CRASHES = 2  # after which a config that fells its process (memory!) is not tried again

logger = logging.getLogger(__name__)


def open_study(storage: Storage, name: str, spec: Spec) -> tuple[optuna.Study, Spec]:
    """Create a study, or join the one of this name; its first trials are the presets.

    A study goes on with the variants that it was created with: Optuna refuses a categorical
    parameter whose choices have changed. To be called under a lock.

    Returns:
        The study, and `spec` with the study's variants.

    Raises:
        ValueError: there is a study of this name with another spec, or one of its variants has
            changed or is gone.
    """
    study = optuna.create_study(
        study_name=name,
        storage=storage.optuna,
        direction=OBJECTIVES[spec.objective],
        load_if_exists=True,
    )
    known = study.user_attrs.get("spec")
    if known is None and not study.get_trials(deepcopy=False):
        known = spec.identity
        study.set_user_attr("spec", known)
    known = known or {}
    spec = dataclasses.replace(spec, variants=tuple(known.get("variants", ())))
    expected, received = ({**each, **each.get("variants", {})} for each in (known, spec.identity))
    changed = [key for key in received if received[key] != expected.get(key) and key != "variants"]
    if changed:
        raise ValueError(
            f"There is another study of this name: give this one its own. Expected "
            f"{', '.join(f'{key}={expected.get(key)}' for key in changed)}. Received: "
            f"study={name!r}, {', '.join(f'{key}={received[key]}' for key in changed)}"
        )
    study.pruner = pruner(spec)
    for variant, config in spec.presets().items():
        attributes = {"preset": variant}
        study.enqueue_trial(spec.params_of(config), user_attrs=attributes, skip_if_exists=True)
    return study, spec


def sampler(spec: Spec, number: int) -> optuna.samplers.TPESampler:
    """Return the sampler of a trial.

    Seeded by the trial's number: processes that draw at the same time do not draw the same, and
    a study that was stopped and goes on draws what it would have drawn.
    """
    seed = int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed)


def pruner(spec: Spec) -> optuna.pruners.MedianPruner:
    """Return the pruner: a trial ends that is worse than the median of the finished ones.

    No trial ends before half of its epochs, a GAN's not before half of those with the
    discriminator, by whichever preset that comes last. Until then the learning rates are high, and
    the order of the trials says little of how they will end. Hyperband, which begins earlier, took
    0.86 of an unpruned sweep's compute to as good a value instead of 0.62
    (`benchmarks/sweep.py`, median of ten seeds; rates were held for half of the epochs then).
    """
    begin = max(_half(config) for config in spec.presets().values())
    return optuna.pruners.MedianPruner(n_startup_trials=FULL_TRIALS, n_warmup_steps=max(1, begin))


def _half(config: Config) -> int:
    start = config.generator_only_epochs
    return ((start if start < config.epochs else 0) + config.epochs) // 2


def spent(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: all that have begun but those that were retried."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    return [trial for trial in begun if trial.number not in retried]


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that are being trained now, here or elsewhere."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the best finished trial, or None if all were pruned or failed."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if finished else None


def on_stale_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose process has died; see `Storage`."""
    again = retry(study, trial, crashed=True)
    outcome = "will be tried again" if again else "is given up, as were those that it repeated"
    logger.warning("trial %d: its process has died; it %s", trial.number, outcome)


@unwarned()
def retry(study: optuna.Study, trial: FrozenTrial, crashed: bool = False) -> bool:
    """Put the parameters of a trial that ended without its fault back into the queue.

    Args:
        study: an Optuna study.
        trial: that has ended; a copy, whose attributes are changed here.
        crashed: whether its process did, which the parameters may have caused. This happens
            `MAX_CRASHES` times at most.

    Returns:
        Whether it will be tried again.
    """
    kept = {name: value for name, value in trial.user_attrs.items() if name == "preset"}
    trial.user_attrs = kept | {"retry_of": trial.number}
    if crashed:
        crashes = len(RetryHeartbeatStaleTrialCallback.retry_history(trial))
        RetryHeartbeatStaleTrialCallback(max_retry=MAX_CRASHES)(study, trial)
        return crashes < MAX_CRASHES
    again = optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,  # the queued parameters that it had not yet drawn
    )
    study.add_trial(again)
    return True


def state_of(trial: FrozenTrial) -> str:
    """Return a trial's outcome, in the words of its MLflow run's tag `state`."""
    if trial.state == TrialState.FAIL:
        return "failed" if "error" in trial.user_attrs else "killed"
    return {"COMPLETE": "finished"}.get(trial.state.name, trial.state.name.lower())
