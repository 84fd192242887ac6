"""The end of a study: its figures, and its best config beside the presets, on test pictures."""

import logging

import mlflow
import optuna
from mlflow.entities import Run

from colorization import comparison, tracking
from colorization.address import redacted
from colorization.config import Config
from colorization.data.prepare import Splits
from colorization.training import train
from sweeps import parent_run
from sweeps.spec import Spec
from sweeps.study import best_trial, state_of

logger = logging.getLogger(__name__)


class Winner(comparison.Contender):
    """The winner of a study, whatever its variant."""

    label = "winner"


class NoWinner(ValueError):
    """A study has ended without a trained network; the message says why."""


def conclude(
    study: optuna.Study, spec: Spec, splits: Splits, data: str, epochs: int
) -> comparison.Contender | None:
    """Log the study's figures, train its best config and the presets, and compare them.

    Test pictures are looked at here, and only here. To be called under a lock: what was trained
    before is not trained again, so that a second process finds everything done.

    Returns:
        The `Winner`, or None if `epochs` is 0.

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
    best, parent_run_id = best_trial(study), study.user_attrs["run_id"]
    if best is None:
        raise NoWinner(
            f"No trial has finished, so that there is no winner: {counts}. Their runs say why. "
            f"Expected more `trials`, or another study. Received: study={study.study_name!r}"
        )
    if not epochs:
        return None
    config = spec.config_of_trial(best, epochs)
    run = _trained(config, splits, data, "winner", parent_run_id)
    if run is None:
        raise NoWinner(
            f"The best config broke down. Expected finite losses. Received: trial={best.number}"
        )
    contenders: list[comparison.Contender] = [Winner(config, run)]
    for each in spec.presets(epochs).values():
        if each != config and (run := _trained(each, splits, data, "preset", parent_run_id)):
            contenders.append(comparison.Contender(each, run))
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
    mlflow.set_tags({"mlflow.note.content": note, "winner_run": contenders[0].run.info.run_id})
    return contenders[0]


def _trained(
    config: Config, splits: Splits, data: str, role: str, parent_run_id: str
) -> Run | None:
    """Return the finished run of a config: an earlier one, or one below the study's."""
    finished = comparison.find_finished(config, splits.digest)
    if finished:
        logger.info("%s: was trained already, run %s", config.label, finished.info.run_id)
        return finished
    logger.info("%s: %s, %d epochs", role, config.label, config.epochs)
    name = "winner" if role == "winner" else config.label
    try:
        with tracking.open_run(name, parent_run_id) as run:
            mlflow.set_tag("sweep", role)
            tracking.log_config(config, data=data)
            tracking.log_data(splits)
            result = train.train(config, splits, [tracking.EpochLog(config, splits.val)])
            tracking.log_result(config, result, splits)
    except FloatingPointError as error:
        logger.warning("%s: %s", config.label, error)
        return None
    return mlflow.get_run(run.info.run_id)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
