"""Trains a variant on prepared pictures, on all GPUs; knows nothing of who watches."""

import functools
import itertools
import logging
import math
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from colorization import evaluation, models, pixels
from colorization.data import pipeline
from colorization.schedule import CosineSchedule, optimizer_of

SCORED_PICTURES = 64  # CIEDE2000 costs 28 ms a picture: each epoch is scored on a fixed few
SCORING_BATCH = 16
SHAPING = ("head", "filters", "depth")  # the fields on which the shapes of the weights depend

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """What a training leaves behind.

    Attributes:
        colorizer: `keras.Model` with the weights of the best epoch: gray to RGB, both 0..255; in
            float32 and on one device, however it was trained.
        history: metric name to its values, one an epoch.
        best_epoch: counted from 0.
        seconds: that all epochs took, with their scoring and their callbacks.
    """

    colorizer: keras.Model
    history: dict
    best_epoch: int
    seconds: float


class WeightAveraging(keras.callbacks.Callback):
    """Gives a network the moving average of another's weights, which is steadier than they are.

    Exponential, over about a tenth of the steps so far, so that untrained weights are soon
    forgotten, and at most over the config's; Keras's own average, of an optimizer, is of one
    length, and knows neither the running means of normalizations nor two optimizers.

    Args:
        config: with `ema_momentum`: averages reach back 1 / (1 - momentum) steps; 0 keeps the last
            weights instead.
        in_training: whose weights are averaged after each step.
        colorizer: which gets the average; its weights are of the same shapes and order.
    """

    def __init__(self, config, in_training, colorizer):
        super().__init__()
        changing = [layer for layer in in_training.layers if layer.trainable]
        known = {id(weight) for layer in changing for weight in layer.weights}
        pairs = zip(colorizer.weights, in_training.weights, strict=True)
        self.pairs = [(mine, theirs) for mine, theirs in pairs if id(theirs) in known]
        self.momentum = config.ema_momentum
        self.step = 0

    def on_train_batch_end(self, batch, logs=None):
        """Move the average towards the weights."""
        self.step += 1
        momentum = min(self.momentum, self.step / (self.step + 10))
        self._move(tf.constant(1 - momentum, "float32"))

    @tf.function
    def _move(self, share):
        for mine, theirs in self.pairs:
            mine.value.assign_add(share * (theirs.value - mine.value))


class Scoring(keras.callbacks.Callback):
    """Scores the colorizer after each epoch and keeps the weights of the best one.

    What is scored is what will be kept: a plain network with the average of the trained weights.

    The losses in the logs are those of the network in training.

    Adds what `evaluation.measure` returns as `val_psnr`, `val_delta_e` and so on, the learning
    rates and `images_per_second` to the logs that the callbacks after this one receive.
    """

    def __init__(self, config, colorizer, images, pictures_per_epoch):
        super().__init__()
        self.config = config
        self.criterion = evaluation.CRITERIA[config.family]
        self.colorizer = colorizer
        self.colorize = as_function(self.colorizer)
        self.real = np.asarray(images[:SCORED_PICTURES])
        self.gray = pixels.gray_input(self.real, config.gray_channels)
        self.pictures_per_epoch = pictures_per_epoch
        self.best_score = self.best_epoch = self.best_weights = None

    def on_epoch_begin(self, epoch, logs=None):
        """Start the epoch's clock."""
        self.started = self.stopped = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Note the time, so that neither validation nor scoring counts as training."""
        self.stopped = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add the scores to `logs`; raise FloatingPointError if a loss is no longer finite."""
        _require_finite(logs, epoch)
        predicted = pixels.to_uint8(self.colorize(self.gray))
        means = evaluation.measure(self.real, predicted)
        logs.update({f"val_{name}": value for name, value in means.items()})
        for name in self.config.learning_rates:
            logs[name] = float(optimizer_of(self.model, name).learning_rate.numpy())
        logs["images_per_second"] = self.pictures_per_epoch / (self.stopped - self.started)
        score = means[self.criterion.metric]
        if self.best_epoch is None or self.criterion.better(score, self.best_score):
            self.best_score, self.best_epoch = score, epoch
            self.best_weights = self.colorizer.get_weights()

    def on_train_end(self, logs=None):
        """Give the colorizer its best weights."""
        self.colorizer.set_weights(self.best_weights)


def train(config, splits, callbacks=(), start_from=None):
    """Train the variant that `config` describes and keep its best epoch.

    Args:
        config: a `NaiveConfig` or `Pix2PixConfig`.
        splits: with `train` and `val`, whose `images` are uint8 (N, S, S, 3).
        callbacks: Keras callbacks; their logs hold everything that `Result.history` does. Each is
            given what the logs' scores are of, as its `colorizer`.
        start_from: weights that the colorizer begins with, as `get_weights` of one of the same
            shapes gives them; a discriminator begins anew all the same.

    Returns:
        A `Result`. The same config, pictures and machine give the same one.

    Raises:
        ValueError: the config asks for an impossible network, or `start_from` is of another one.
        FloatingPointError: a loss is not finite; the message names the epoch.
    """
    forget_trainings()
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    train_images, val_images = splits.train.images, splits.val.images
    batch_size = min(config.batch_size, len(train_images))
    strategy = strategy_for(batch_size)
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        trainer, in_training, finetuned = models.build(config, train_images.shape[1], replicas > 1)
    colorizer = models.build_plain(config, train_images.shape[1])
    logger.info("%s: %s weights", config.variant, f"{colorizer.count_params():,}")
    if start_from is not None:
        require_same_shapes(config, colorizer, start_from)
        in_training.set_weights(start_from)
    colorizer.set_weights(in_training.get_weights())
    pairs = pipeline.training_pairs(
        train_images, config.gray_channels, batch_size, config.seed, config.crop
    )
    steps = int(pairs.cardinality())
    scoring = Scoring(config, colorizer, val_images, steps * batch_size)
    for callback in callbacks:
        callback.colorizer = colorizer
    started = time.perf_counter()
    history = trainer.fit(
        pairs,
        epochs=config.epochs,
        validation_data=pipeline.validation_pairs(
            whole_shares(val_images[:SCORED_PICTURES], replicas),
            config.gray_channels,
            SCORING_BATCH * replicas,
        ),
        callbacks=[
            CosineSchedule(config, steps, finetuned),
            WeightAveraging(config, in_training, colorizer),
            scoring,
            *callbacks,
        ],
        shuffle=False,  # the pipeline does
        verbose=2,
    )
    seconds = time.perf_counter() - started
    return Result(colorizer, history.history, scoring.best_epoch, seconds)


def forget_trainings():
    """Free what trainings before have left in this process: memory, and the names of layers."""
    # TensorFlow keeps the gradient of each `tf.custom_gradient` ever traced, and with it the whole
    # graph of the training step: https://github.com/tensorflow/tensorflow/issues/80895
    registered = ops._gradient_registry._registry
    for name in [name for name in registered if name.startswith("CustomGradient-")]:
        del registered[name]
    keras.utils.clear_session()


def strategy_for(batch_size):
    """Return how a step is shared: evenly among TensorFlow's GPUs, or without any its CPU devices.

    A batch of eight takes two of three GPUs: replicas count alike, whatever their part's size.

    Returns:
        A `tf.distribute.MirroredStrategy`, or for a single device TensorFlow's default.
    """
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    used = max(n for n in range(1, len(found) + 1) if batch_size % n == 0)
    if len(found) > 1:
        logger.info("%d of %d devices share each batch of %d", used, len(found), batch_size)
    return _mirrored(*(device.name for device in found[:used]))


@functools.cache  # two strategies over the same devices number their exchanges alike, and clash
def _mirrored(*names):
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def whole_shares(images, replicas):
    """Return the pictures, the first ones again where the last batch would not divide evenly."""
    return images[np.arange(math.ceil(len(images) / replicas) * replicas) % len(images)]


def require_same_shapes(config, colorizer, start_from):
    """Raise a ValueError that names both unless the weights have the colorizer's shapes."""
    own, given = ([each.shape for each in arrays] for arrays in (colorizer.weights, start_from))
    if own == given:
        return
    index, (expected, received) = next(
        (index, pair)
        for index, pair in enumerate(itertools.zip_longest(own, given))
        if pair[0] != pair[1]
    )
    parameters = ", ".join(f"{name}={getattr(config, name)}" for name in SHAPING)
    raise ValueError(
        f"The weights of `start_from` are of another network. Expected those of {config.variant} "
        f"with {parameters}: {len(own)} arrays, number {index + 1} of shape {expected}; give the "
        f"variant and parameters that they were trained with. Received: {len(given)} arrays, "
        f"number {index + 1} of shape {received}"
    )


def as_function(colorizer):
    """Return a Keras colorizer as a function of arrays, taken in batches of bounded size."""
    step = tf.function(lambda batch: colorizer(batch, training=False), reduce_retracing=True)

    def colorize(grays):
        starts = range(0, len(grays), SCORING_BATCH)
        return np.concatenate([step(grays[start : start + SCORING_BATCH]) for start in starts])

    return colorize


def _require_finite(logs, epoch):
    for name, value in logs.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Training broke down in epoch {epoch + 1}. Expected a finite loss; try a smaller "
                f"learning rate. Received: {name}={value}"
            )
