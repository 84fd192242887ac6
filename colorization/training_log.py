"""What is logged to MLflow of a training alone: its course, and its state for other machines."""

import collections
import logging
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from colorization import charts, color, figures, runs, tracking
from colorization.config import Config
from colorization.data.prepare import Split
from colorization.errors import InputError
from colorization.evaluation import CRITERIA
from colorization.training import checkpoint
from colorization.training.schedule import phase_of, phases
from colorization.training.train import Result

CHECKPOINTS = "checkpoint"  # the folder among a run's artifacts
SAMPLES = 9  # validation pictures that are shown while training
SAMPLE_STEPS = 12  # about how often, over a whole training
CARD_PIXELS = 1024  # of the side of what a card shows, which MLflow does not enlarge

logger = logging.getLogger(__name__)


class EpochLog(keras.callbacks.Callback):
    """Logs all metrics after each epoch, and the same validation pictures every few epochs.

    What the active run has already, from a process that was stopped, is not logged again.

    Attributes:
        colorizer: colors the pictures; `training.train` sets it to the network that is scored.
    """

    colorizer: keras.Model

    def __init__(self, config: Config, split: Split) -> None:
        super().__init__()
        count = min(SAMPLES, len(split.images))
        self.real = split.images[np.linspace(0, len(split.images) - 1, count).astype(int)]
        self.gray = color.gray_input(self.real, config.gray_channels)
        self.every = max(1, round(config.epochs / SAMPLE_STEPS))
        self.config = config
        run_id = tracking.active_run().info.run_id
        self.logged = charts.history(run_id, charts.SPEED)
        files = mlflow.MlflowClient().list_artifacts(run_id, "images")
        steps = re.findall(r"step(?:\+|%2B|%)(\d+)", " ".join(each.path for each in files))
        self.shown = collections.Counter(map(int, steps))
        if len(known := phases(config)) > 1:
            spans = (f"{each.name} {each.epochs[0] + 1}-{each.epochs[-1] + 1}" for each in known)
            mlflow.set_tag("phases", ", ".join(spans))

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Log the pictures as the untrained network colors them: MLflow's slider starts at 0."""
        self._log_pictures(0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the epoch's metrics, counted from 1, and every few epochs the pictures."""
        step = epoch + 1
        if step not in self.logged:
            adversarial = phase_of(self.config, epoch).adversarial
            mlflow.log_metrics(charts.of_epoch(self.config, logs or {}, adversarial), step=step)
        if step % self.every == 0 or step == self.config.epochs:
            self._log_pictures(step)

    def _log_pictures(self, step: int) -> None:
        """Log the pictures where MLflow's cards with a slider find them.

        `mlflow.log_image` does so as well, but its files are not listed in the order of steps, and
        its cards show 256 pixels in the middle of a larger square, below the list of all params:
        of that there is only the upper edge to be seen.
        """
        gray = color.to_uint8(np.repeat(self.gray[..., :1], 3, axis=-1))
        predicted = color.to_uint8(self.colorizer(self.gray, training=False))
        sheets = figures.sheets(gray, predicted, self.real)
        if self.shown[step] >= 2 * len(sheets):
            return
        with tempfile.TemporaryDirectory() as folder:
            for numbers, sheet in sheets.items():
                name = f"birds~val {numbers}+step+{step:04}+timestamp+{time.time_ns() // 10**6}"
                picture = Image.fromarray(sheet)
                picture.save(Path(folder, f"{name}.png"))
                card = picture.resize((CARD_PIXELS, CARD_PIXELS))
                card.save(Path(folder, f"{name}+compressed.webp"), method=0)
            mlflow.log_artifacts(folder, "images")
        mlflow.set_tag(MLFLOW_LOGGED_IMAGES, True)


def log_training(config: Config, result: Result) -> None:
    """Log what a training leaves behind besides its colorizer."""
    if len(phases(config)) > 1:
        mlflow.set_tag("kept_phase", phase_of(config, result.best_epoch).name)
    mlflow.set_tags({"best_epoch": result.best_epoch + 1, "device": result.device})
    mlflow.set_tag("training_seconds", round(result.seconds, 1))
    epochs = pd.DataFrame(result.history).to_dict("records")
    named = [
        charts.of_epoch(config, each, phase_of(config, epoch).adversarial)
        for epoch, each in enumerate(epochs)
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
    """Return the furthest that the training of a run has got, as saved here or in its artifacts."""
    client, path = mlflow.MlflowClient(), f"{CHECKPOINTS}/{runs.CHECKPOINT}"
    states = []
    with tempfile.TemporaryDirectory() as folder:
        files = [file] if (file := runs.file_of(run_id)).exists() else []
        if client.list_artifacts(run_id, CHECKPOINTS):
            files.append(Path(client.download_artifacts(run_id, path, folder)))
        for file in files:
            try:
                states.append(checkpoint.read(file))
            except InputError as error:
                logger.warning("run %s: %s", run_id, error)
    return max(states, key=lambda state: state.epochs, default=None)
