"""What follows a training epoch by epoch: averaged weights, and scores that keep the best."""

import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from colorization import color, evaluation, metrics, process
from colorization.config import Config
from colorization.models.onnx_colorizer import batches
from colorization.training.schedule import optimizer_of

SCORING_BATCH = 16


class WeightAveraging(keras.callbacks.Callback):
    """Keeps a moving average of a network's weights, which is steadier than they are.

    It is exponential. Its momentum grows, so that it first reaches back over a tenth of the steps
    so far and untrained weights are soon forgotten. `keras.optimizers` have an average too, but of
    constant length, for one optimizer, and without the running means of normalizations.

    The weights of `in_training` are averaged after each step, of which an epoch has `steps`. The
    colorizer, whose weights have the same shapes and order, receives the average. The config's
    `ema_momentum` is the final momentum; 0 keeps the last weights instead.
    """

    def __init__(
        self, config: Config, in_training: keras.Model, colorizer: keras.Model, steps: int
    ) -> None:
        super().__init__()
        changing = [layer for layer in in_training.layers if layer.trainable]
        known = {id(weight) for layer in changing for weight in layer.weights}
        pairs = zip(colorizer.weights, in_training.weights, strict=True)
        self.pairs = [(mine, theirs) for mine, theirs in pairs if id(theirs) in known]
        self.momentum = config.ema_momentum
        self.steps = steps

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Count on from the epochs before, of whichever process."""
        self.step = epoch * self.steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the average towards the weights."""
        self.step += 1
        momentum = min(self.momentum, self.step / (self.step + 10))
        self._move(tf.constant(1 - momentum, "float32"))

    @tf.function
    def _move(self, share: tf.Tensor) -> None:
        for mine, theirs in self.pairs:
            mine.value.assign_add(share * (theirs.value - mine.value))


class Scoring(keras.callbacks.Callback):
    """Scores the colorizer, which holds averaged weights, after each epoch; keeps the best.

    CIEDE2000 is that of some pixels of each validation picture: of all it would take far longer.
    Adds what `evaluation.score_set` returns as `val_psnr`, `val_delta_e` and so on, the learning
    rates and `images_per_second` to the logs that the callbacks after this one receive. The losses
    in the logs are those of the network in training.
    """

    def __init__(
        self, config: Config, colorizer: keras.Model, images: np.ndarray, pictures_per_epoch: int
    ) -> None:
        super().__init__()
        self.config, self.criterion = config, evaluation.CRITERIA[config.family]
        self.colorizer, self.colorize = colorizer, as_function(colorizer)
        self.real = np.asarray(images)
        self.pixels = metrics.pixel_sample(self.real.shape[1])
        self.pictures_per_epoch = pictures_per_epoch
        self.best_score, self.best_epoch = math.nan, 0
        self.best_weights: list[np.ndarray] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the epoch's clock."""
        self.started = self.stopped = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Note the time: neither validation nor scoring counts as training."""
        self.stopped = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Add the scores to `logs`; raise FloatingPointError if a loss is no longer finite."""
        for name, value in logs.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"Training broke down in epoch {epoch + 1}. Expected a finite loss; try a "
                    f"smaller learning rate. Received: {name}={value}"
                )
        means = self._measure()
        logs.update({f"val_{name}": value for name, value in means.items()})
        for name in self.config.learning_rates:
            logs[name] = float(optimizer_of(self.model, name).learning_rate.numpy())
        logs["images_per_second"] = self.pictures_per_epoch / (self.stopped - self.started)
        score = means[self.criterion.metric]
        if not self.best_weights or self.criterion.better(score, self.best_score):
            self.best_score, self.best_epoch = score, epoch
            self.best_weights = self.colorizer.get_weights()

    def _measure(self) -> dict[str, float]:
        predicted = np.empty_like(self.real)
        for start in range(0, len(self.real), SCORING_BATCH):
            batch = slice(start, start + SCORING_BATCH)
            gray = color.gray_input(self.real[batch], self.config.gray_channels)
            predicted[batch] = color.to_uint8(self.colorize(gray))
        scores = evaluation.score_each(self.real, predicted, self.pixels)
        return evaluation.score_set(self.real, predicted, scores)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Give the colorizer its best weights."""
        self.colorizer.set_weights(self.best_weights)


class StopBetweenSteps(keras.callbacks.Callback):
    """Lets a signal stop a training after a step, where the exception is not lost.

    `release` is to be called after the training, however it ends; see `process.hold_signals`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.release = process.hold_signals()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop here if a signal has come."""
        self.release()
        process.stop_if_asked()
        self.release = process.hold_signals()

    on_test_batch_end = on_train_batch_end
    on_epoch_end = on_train_batch_end


def as_function(colorizer: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a Keras colorizer as a function of arrays, which works in batches."""
    step = tf.function(lambda batch: colorizer(batch, training=False), reduce_retracing=True)
    return lambda grays: np.concatenate([step(part) for part in batches(grays, SCORING_BATCH)])
