"""The end of a study: its figures, and its best config beside the presets, on test pictures."""

import logging
from typing import Any

import mlflow
import optuna
from mlflow.entities import Run
from optuna.trial import FrozenTrial

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
    study: optuna.Study, spec: Spec, splits: Splits, data: str, final_epochs: int
) -> comparison.Contender | None:
    """Log the study's figures, train its best config and the presets, and compare them.

    Test pictures are looked at here, and only here. To be called under a lock: what was trained
    before is not trained again, so that a second process finds everything done.

    Returns:
        The `Winner`, or None if `final_epochs` is 0.

    Raises:
        NoWinner: all trials were pruned or failed, or the best config broke down.
    """
    run_id = study.user_attrs["run_id"]
    with mlflow.start_run(run_id=run_id):
        try:
            parent_run.log_figures(study)
            best = best_trial(study)
            if best is None:
                raise NoWinner(
                    f"No trial has finished, so that there is no winner: {_counts(study)}. Their "
                    f"runs say why. Expected more `trials`, or another study. "
                    f"Received: study={study.study_name!r}"
                )
            if not final_epochs:
                return None
            contenders = _train_all(spec, best, splits, data, final_epochs, run_id)
            _log(study, spec, best, contenders, splits)
            return contenders[0]
        except (KeyboardInterrupt, SystemExit):
            mlflow.end_run("KILLED")
            raise
        except Exception as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {redacted(error)}")
            raise


def _train_all(
    spec: Spec, best: FrozenTrial, splits: Splits, data: str, epochs: int, parent_run_id: str
) -> list[comparison.Contender]:
    """Return the winner and, behind it, the presets that are other configs."""
    config = spec.config_of_trial(best, epochs)
    run = _trained(config, splits, data, "winner", parent_run_id)
    if run is None:
        raise NoWinner(
            f"The best config broke down. Expected finite losses for {epochs} epochs. "
            f"Received: trial={best.number}"
        )
    contenders: list[comparison.Contender] = [Winner(config, run)]
    for each in spec.presets(epochs).values():
        if each != config and (run := _trained(each, splits, data, "preset", parent_run_id)):
            contenders.append(comparison.Contender(each, run))
    return contenders


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


def _log(
    study: optuna.Study, spec: Spec, best: FrozenTrial, contenders: list[Any], splits: Splits
) -> None:
    """Log the comparison to the active run, with the story of the study."""
    compared = comparison.as_text(comparison.log(contenders, splits))
    for line in compared.split("\n"):
        logger.info("%s", line)
    params = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in best.params.items()
    )
    preset = best.user_attrs.get("preset")
    name = f"{best.number}, {preset}'s own settings," if preset else best.number
    note = (
        f"**{study.study_name}**: {len(study.trials)} trials ({_counts(study)}) of the "
        f"{spec.family} family, by validation {spec.objective} on `{splits.name}` (digest "
        f"`{splits.digest}`). Trial {name} won with {best.value:.4f}: {params}. It and the "
        f"presets, {contenders[0].config.epochs} epochs each, on {len(splits.test.images)} test "
        f"pictures:\n\n{compared}\n"
    )
    mlflow.set_tags({"mlflow.note.content": note, "winner_run": contenders[0].run.info.run_id})


def _counts(study: optuna.Study) -> str:
    states = [state_of(trial) for trial in study.get_trials(deepcopy=False)]
    return ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
