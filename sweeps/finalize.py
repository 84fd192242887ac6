"""The end of a study: its figures, and its best config beside the presets, on test pictures."""

import logging

import mlflow
import optuna

from colorization import comparison, experiment, tracking
from colorization.address import redacted
from colorization.config import Config
from colorization.data.prepare import Splits
from sweeps import parent_run
from sweeps.spec import Spec
from sweeps.study import best_trial, state_of

logger = logging.getLogger(__name__)


class NoWinner(ValueError):
    """A study has ended without a trained network; the message says why."""


def conclude(
    study: optuna.Study, spec: Spec, splits: Splits, data: str, epochs: int
) -> comparison.Contender | None:
    """Log the study's figures, train its best config and the presets, and compare them.

    Test pictures are looked at here, and only here. To be called under a lock: what was trained
    before is not trained again, so that a second process finds everything done.

    Returns:
        The winner, or None if `epochs` is 0.

    Raises:
        NoWinner: all trials were pruned or failed, or the best config broke down.
    """
    with mlflow.start_run(run_id=study.user_attrs["run_id"]):
        try:
            parent_run.log_figures(study)
            return _conclude(study, spec, splits, data, epochs)
        except (KeyboardInterrupt, SystemExit):
            mlflow.end_run("KILLED")
            raise
        except Exception as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {redacted(error)}")
            raise


def _conclude(
    study: optuna.Study, spec: Spec, splits: Splits, data: str, epochs: int
) -> comparison.Contender | None:
    states = [state_of(trial) for trial in study.get_trials(deepcopy=False)]
    counts = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
    best = best_trial(study)
    if best is None:
        raise NoWinner(
            f"No trial has finished, so that there is no winner: {counts}. Their runs say why. "
            f"Expected more `trials`, or another study. Received: study={study.study_name!r}"
        )
    if not epochs:
        return None
    config = spec.config_of_trial(best, epochs)
    winner = _trained(config, splits, data, "winner", "winner")
    if winner is None:
        raise NoWinner(
            f"The best config broke down. Expected finite losses. Received: trial={best.number}"
        )
    others = [each for each in spec.presets(epochs).values() if each != config]
    presets = [_trained(each, splits, data, "preset", each.label) for each in others]
    contenders = [winner, *filter(None, presets)]
    compared = comparison.as_text(comparison.log(contenders, splits))
    for line in compared.split("\n"):
        logger.info("%s", line)
    preset = best.user_attrs.get("preset")
    note = (
        f"**{study.study_name}**: {len(states)} trials ({counts}) of the {spec.family} family, by "
        f"validation {spec.objective} on `{splits.name}` (digest `{splits.digest}`). Trial "
        f"{best.number}{f', the preset {preset},' if preset else ''} won with {best.value:.4f}: "
        f"{', '.join(f'{name}={_short(value)}' for name, value in best.params.items())}. It and "
        f"the presets, {epochs} epochs each, on {len(splits.test.images)} test pictures:\n\n"
        f"{compared}\n"
    )
    mlflow.set_tags({"mlflow.note.content": note, "winner_run": winner.run.info.run_id})
    return winner


def _trained(
    config: Config, splits: Splits, data: str, role: str, label: str
) -> comparison.Contender | None:
    """Return a trained config: an earlier run, or one below the active run."""
    parent, tags = tracking.active_run(), {"sweep": role}
    logger.info("%s: %s, %d epochs", role, config.label, config.epochs)
    try:
        candidate = experiment.find_or_train(config, splits, data, parent, name=label, tags=tags)
    except FloatingPointError as error:
        logger.warning("%s: %s", config.label, error)
        return None
    return comparison.Contender(label, config, *candidate)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
