"""What a person sees of a training: a line after each epoch and, on a terminal, a bar within it."""

import logging
import time
from collections.abc import Mapping

import keras
from tqdm import tqdm

from colorization import evaluation, plan
from colorization.config import Config
from colorization.training.callbacks import Scoring
from colorization.training.schedule import phase_of, phases

LOSSES = ("loss", "generator_loss")  # of the naive family and of the GAN, in Keras's logs

logger = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """Logs a line after each epoch, and in the end which one is kept.

    It comes after the callbacks that log and save an epoch: what it names is done. The time left
    is reckoned from the epochs of this process and phase alone.

    Args:
        config: of the training.
        scoring: keeps the best epoch.
        epochs: that are left to train, counted from 0.
        steps: of an epoch.
        name: begins each line, where there are several trainings.
    """

    def __init__(
        self, config: Config, scoring: Scoring, epochs: range, steps: int, name: str = ""
    ) -> None:
        super().__init__()
        self.config, self.scoring = config, scoring
        self.label, self.prefix = name or config.label, f"{name}  " if name else ""
        self.phases = phases(config)
        self.epochs, self.steps = epochs, steps
        self.bar: tqdm | None = None
        self.seconds: list[float] = []  # of the phase's epochs

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Say what is trained."""
        if self.epochs:  # otherwise only its test is missing
            weights = f"{self.scoring.colorizer.count_params():,} weights"
            pictures = f"{self.scoring.pictures_per_epoch} pictures"
            first, last = self.epochs.start + 1, self.epochs.stop
            logger.info("%s: %s, epochs %d to %d of %s", self.label, weights, first, last, pictures)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the epoch's clock and its bar."""
        self.started = time.monotonic()
        if any(epoch == phase.epochs.start for phase in self.phases):
            self.seconds.clear()
        text = self.prefix + self._number(epoch)
        self.bar = tqdm(None, text, self.steps, leave=False, disable=None, unit=" steps")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Move the bar."""
        if not self.seconds and batch == 0:
            self.started = time.monotonic()  # the phase's first step compiles
        if self.bar:
            self.bar.update()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Log the epoch's line."""
        self.close()
        self.seconds.append(time.monotonic() - self.started)
        loss = f"{next(logs[name] for name in LOSSES if name in logs):#.3g}".rstrip(".")
        joins = [each.joins for each in self.phases[1:] if epoch == each.epochs.start]
        parts = [self._number(epoch), *joins, f"loss {loss}", f"val {logs['val_psnr']:.1f} dB"]
        shown = dict.fromkeys(["delta_e", self.scoring.criterion.metric])  # which may be the same
        parts += [_score(name, logs[f"val_{name}"]) for name in shown]
        parts[-1] += " (best so far)" * (epoch == self.scoring.best_epoch)
        parts.append(f"{logs['images_per_second']:.0f} images/s")
        if left := self.epochs.stop - epoch - 1:
            parts.append(f"{plan.duration(left * min(self.seconds[-2:]))} left")
        logger.info("%s%s", self.prefix, "  ".join(parts))

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Say which epoch is kept, and of which phase."""
        kept = self.scoring.best_epoch
        phase = phase_of(self.config, kept)
        logger.info(
            "%skept %s%s: validation %s",
            self.prefix,
            self._number(kept),
            f", of the {phase.name} phase" * (len(self.phases) > 1),
            _score(self.scoring.criterion.metric, self.scoring.best_score),
        )

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.bar:
            self.bar.close()

    def _number(self, epoch: int) -> str:
        return f"epoch {epoch + 1}/{self.epochs.stop}"


def _score(metric: str, value: float) -> str:
    title, digits = evaluation.SCORES_TOGETHER[metric]
    return f"{title} {value:{digits}}"
