"""A study: what its trials have in common, who draws and who prunes, and what counts as done."""

import dataclasses

import numpy as np
import optuna
from optuna.trial import TrialState

from sweeps import space

FULL_TRIALS = 3  # are finished before the first is pruned
MAX_DEATHS = 2  # after which a config that fells its process (memory!) is not tried again


def open_study(storage, name, plan):
    """Create a study, or join the one of this name; its first trials are the hand-made variants.

    To be called under a lock.

    Raises:
        ValueError: there is a study of this name with another plan.
    """
    study = optuna.create_study(
        study_name=name,
        storage=storage.optuna,
        direction=plan.direction,
        pruner=pruner(plan),
        load_if_exists=True,
    )
    mine = dataclasses.asdict(plan) | {"recipe": space.recipe(plan.family)}
    known = study.user_attrs.get("plan", {} if study.get_trials(deepcopy=False) else mine)
    if known != mine:
        expected, received = (
            ", ".join(f"{key}={plan.get(key)}" for key in mine if known.get(key) != mine[key])
            for plan in (known, mine)
        )
        raise ValueError(
            f"There is another study of this name: give this one its own. "
            f"Expected {expected}. Received: study={name!r}, {received}"
        )
    study.set_user_attr("plan", mine)
    for variant, config in plan.handmade().items():
        params = space.params_of(config, plan.fix)
        study.enqueue_trial(params, user_attrs={"handmade": variant}, skip_if_exists=True)
    return study


def sampler(plan, number):
    """Return the sampler of a trial.

    Seeded by the trial's number: processes that draw at the same time do not draw the same, and
    a study that was stopped and goes on draws what it would have drawn.
    """
    seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed)


def pruner(plan):
    """Return the pruner: a trial ends that is worse than the median of the finished ones.

    Not before half of its epochs, a GAN's of those with the discriminator, whichever hand-made
    variant meets it last: until then the learning rates are high, and the order of the trials says
    less of how they will end. Hyperband, which begins earlier, took longer to a value as good as an
    unpruned sweep's: 0.86 of its compute instead of 0.62 (`benchmarks/sweep.py`, median of ten
    seeds; rates were held for half of the epochs then).
    """
    begin = max(_half(config) for config in plan.handmade().values())
    return optuna.pruners.MedianPruner(n_startup_trials=FULL_TRIALS, n_warmup_steps=max(1, begin))


def _half(config):
    start = config.generator_epochs if config.generator_epochs < config.epochs else 0
    return (start + config.epochs) // 2


def spent(study):
    """Return the trials that count: all that have begun but those that were retried."""
    trials = study.get_trials(deepcopy=False)
    tried_again = {trial.user_attrs.get("retry_of") for trial in trials}
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    return [trial for trial in begun if trial.number not in tried_again]


def running(study):
    """Return the trials that are being trained now, here or elsewhere."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def best_trial(study):
    """Return the best finished trial, or None: where all were pruned or failed."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if finished else None


def retry(study, trial, died=False):
    """Put the parameters of a trial that ended without its fault back into the queue.

    Args:
        study: an Optuna study.
        trial: that has ended.
        died: whether its process did, which may be the parameters' doing.

    Returns:
        Whether it will be tried again.
    """
    deaths = trial.user_attrs.get("deaths", 0) + died
    if deaths > MAX_DEATHS:
        return False
    kept = {name: value for name, value in trial.user_attrs.items() if name == "handmade"}
    # Those that it was to have, and had not drawn when it ended.
    queued = trial.system_attrs.get("fixed_params", {})
    study.enqueue_trial(
        queued | trial.params, user_attrs=kept | {"retry_of": trial.number, "deaths": deaths}
    )
    return True


def state_of(trial):
    """Return what became of a trial, in the words of its MLflow run's tag `state`."""
    if trial.state == TrialState.FAIL:
        return "failed" if "error" in trial.user_attrs else "killed"
    return {"COMPLETE": "finished"}.get(trial.state.name, trial.state.name.lower())
