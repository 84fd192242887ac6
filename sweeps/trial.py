"""One trial: a config is trained and logged in a run of its own, or given up early."""

from typing import Any

import keras
import mlflow
import optuna
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from colorization import evaluation, tracking, training_log
from colorization.address import redacted
from colorization.data.prepare import Splits
from colorization.training import train
from sweeps.space import Spec

# Not the trial's fault: it is tried again.
OUTAGES = (MlflowException, StorageInternalError, OSError)
INTERRUPTIONS = (KeyboardInterrupt, SystemExit, UpdateFinishedTrialError, *OUTAGES)


def run_trial(trial: optuna.Trial, spec: Spec, splits: Splits, data: str) -> dict[str, Any]:
    """Train what an Optuna trial has drawn, in a run below the active one; without test pictures.

    Returns:
        The outcome, as arguments of `Study.tell`. The value is the objective in the epoch whose
        weights are kept.

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
