"""Logs each epoch of a training: its metrics, and the same validation pictures again and again."""

import collections
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import mlflow
import numpy as np
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from colorization import charts, color, figures
from colorization.config import Config
from colorization.data.prepare import Split
from colorization.runs import active_run
from colorization.training.schedule import phase_of, phases

SAMPLES = 9  # validation pictures that are shown while training
SAMPLE_STEPS = 12  # about how often, over a whole training
CARD_PIXELS = 1024  # of the side of what a card shows, which MLflow does not enlarge


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
        run_id = active_run().info.run_id
        self.logged = charts.history(run_id, charts.SPEED)
        files = mlflow.MlflowClient().list_artifacts(run_id, "images")
        steps = re.findall(r"step(?:\+|%2B|%)(\d+)", " ".join(each.path for each in files))
        self.shown = collections.Counter(map(int, steps))
        if len(phases(config)) > 1:
            epochs = (
                f"{each.name} {each.epochs[0] + 1}-{each.epochs[-1] + 1}" for each in phases(config)
            )
            mlflow.set_tag("phases", ", ".join(epochs))

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Log the pictures as the untrained network colors them: MLflow's slider starts at 0."""
        self._log_pictures(0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the epoch's metrics, counted from 1, and every few epochs the pictures."""
        step = epoch + 1
        if step not in self.logged:
            phase = phase_of(self.config, epoch)
            metrics = charts.of_epoch(self.config, logs or {}, phase.adversarial)
            mlflow.log_metrics(metrics, step=step)
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
