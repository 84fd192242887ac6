"""What is logged to MLflow of a training alone: its course, and its state for other machines."""

import logging
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from colorization import charts, figures, runs, tracking
from colorization.config import Config
from colorization.errors import InputError
from colorization.evaluation import CRITERIA
from colorization.training import checkpoint
from colorization.training.schedule import phase_of, phases
from colorization.training.train import Result

CHECKPOINTS = "checkpoint"  # the folder among a run's artifacts

logger = logging.getLogger(__name__)


def log_training(config: Config, result: Result) -> None:
    """Log what a training leaves behind besides its colorizer."""
    if len(phases(config)) > 1:
        mlflow.set_tag("kept_phase", phase_of(config, result.best_epoch).name)
    mlflow.set_tags({"best_epoch": result.best_epoch + 1, "device": result.device})
    mlflow.set_tag("training_seconds", round(result.seconds, 1))
    epochs = zip(*result.history.values(), strict=True)
    logs = [dict(zip(result.history, values, strict=True)) for values in epochs]
    named = [
        charts.of_epoch(config, each, phase_of(config, epoch).adversarial)
        for epoch, each in enumerate(logs)
    ]
    begins = {each.name: each.epochs[0] for each in phases(config)}
    mlflow.log_figure(figures.loss_curves(named, result.best_epoch, begins), "losses.png")
    criterion = CRITERIA[config.family]
    value = result.history[f"val_{criterion.metric}"][result.best_epoch]
    tracking.log_once({charts.best_of(criterion): value})


def log_checkpoint(file: Path) -> None:
    """Log the state of a training in place of the one before, for other machines."""
    mlflow.log_artifact(str(file), CHECKPOINTS)


def delete_checkpoint(run: Run) -> None:
    """Delete the state of a training that has ended from a run's artifacts."""
    if mlflow.MlflowClient().list_artifacts(run.info.run_id, CHECKPOINTS):
        get_artifact_repository(run.info.artifact_uri).delete_artifacts(CHECKPOINTS)


def saved_state(run_id: str) -> checkpoint.State | None:
    """Return the furthest that the training of a run has got, as saved here or in its artifacts.

    Raises:
        InputError: there is only what is damaged.
    """
    client, path = mlflow.MlflowClient(), f"{CHECKPOINTS}/{runs.CHECKPOINT}"
    states, damage = [], None
    with tempfile.TemporaryDirectory() as folder:
        files = [file] if (file := runs.file_of(run_id)).exists() else []
        if client.list_artifacts(run_id, CHECKPOINTS):
            files.append(Path(client.download_artifacts(run_id, path, folder)))
        for file in files:
            try:
                states.append(checkpoint.read(file))
            except InputError as error:
                logger.warning("run %s: %s", run_id, error)
                damage = error
    if damage and not states:
        raise damage
    return max(states, key=lambda state: state.epochs, default=None)
