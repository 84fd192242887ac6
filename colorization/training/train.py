"""Trains a variant on prepared pictures, on all GPUs; callbacks connect it to whoever watches."""

import contextlib
import functools
import itertools
import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from colorization.config import Config
from colorization.data import pipeline
from colorization.data.prepare import Splits
from colorization.models import build
from colorization.training import checkpoint, device
from colorization.training.callbacks import (
    SCORING_BATCH,
    Scoring,
    StopBetweenSteps,
    WeightAveraging,
)
from colorization.training.progress import Progress
from colorization.training.schedule import CosineSchedule

ITERATORS = 2  # that Keras makes of the pictures in an epoch: one at its begin, one at its end
LOSS_PICTURES = 64  # of validation: a second pass over all would only smooth the losses
# The fields that set the shapes of the weights, as far as a config has them.
SHAPING = ("head", "filters", "depth", "encoder")

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """What a training leaves behind.

    The colorizer maps gray to RGB, both 0..255, with the weights of the best epoch; in float32 and
    for one device, however it was trained.
    """

    colorizer: keras.Model
    history: dict[str, list[float]]  # the values of each metric, one per epoch
    best_epoch: int  # from 0
    seconds: float  # that all epochs took, scoring and callbacks included, in all processes
    device: str


def train(
    config: Config,
    splits: Splits,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    start_from: Sequence[np.ndarray] | None = None,
    saved: checkpoint.Checkpoint | None = None,
    name: str = "",
) -> Result:
    """Train the variant that `config` describes and keep its best epoch.

    The same config, pictures and machine give the same result, in one process or in several.

    Args:
        config: of the variant.
        splits: of which `train` and `val` are used.
        callbacks: their logs hold everything that `Result.history` does. Each receives the scored
            network as its attribute `colorizer`.
        start_from: initial weights of the colorizer, as `get_weights` returns them; a discriminator
            is trained from scratch all the same.
        saved: keeps the state of each epoch; if it has one already, the training goes on from it.
        name: begins each line of the log where several are trained.

    Raises:
        ValueError: the config asks for an impossible network, or `start_from` or the checkpoint
            is of another one.
        FloatingPointError: a loss is not finite; the message names the epoch.
    """
    on = device.describe()
    forget_trainings()
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    images, val_images = splits.train.images, splits.val.images
    channels, batch_size = config.gray_channels, min(config.batch_size, len(images))
    strategy = strategy_for(batch_size)
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        trainer, in_training, finetuned = build.build(config, images.shape[1], replicas > 1)
    colorizer = _build_kept(config, in_training, images.shape[1], start_from)
    for callback in callbacks:
        callback.colorizer = colorizer
    pairs = pipeline.training_pairs(images, channels, batch_size, config.seed, config.crop)
    steps = int(pairs.cardinality())
    pairs = strategy.experimental_distribute_dataset(pairs)
    scoring = Scoring(config, colorizer, val_images, steps * batch_size)
    history = keras.callbacks.History()
    own = [
        CosineSchedule(config, steps, finetuned),
        WeightAveraging(config, in_training, colorizer, steps),
        scoring,
    ]
    last = [history, saved] if saved else [history]
    started = time.monotonic()
    done = saved.connect(trainer, scoring, history) if saved else 0
    for _ in range(done * ITERATORS):
        iter(pairs)  # each has an order and crops of its own
    progress = Progress(config, scoring, range(done, config.epochs), steps, name)
    validated = whole_shares(val_images[:LOSS_PICTURES], replicas)
    validation = pipeline.validation_pairs(validated, channels, SCORING_BATCH * replicas)
    stop = StopBetweenSteps()
    try:
        trainer.fit(
            pairs,
            initial_epoch=done,
            epochs=config.epochs,
            validation_data=validation,
            callbacks=[*own, *callbacks, *last, progress, stop],
            shuffle=False,  # the pipeline does
            verbose=0,  # `progress` says it
        )
    finally:
        progress.close()
        stop.release()
    seconds = saved.seconds if saved else time.monotonic() - started
    return Result(colorizer, history.history, scoring.best_epoch, seconds, on)


def _build_kept(
    config: Config, in_training: keras.Model, size: int, start_from: Sequence[np.ndarray] | None
) -> keras.Model:
    """Build the colorizer to keep, and let it and the one in training begin with equal weights."""
    colorizer = build.build_plain(config, size)
    if start_from is not None:
        require_same_shapes(config, colorizer, start_from)
        in_training.set_weights(start_from)
    colorizer.set_weights(in_training.get_weights())
    return colorizer


def forget_trainings() -> None:
    """Free what earlier trainings left in this process: memory, and the names of layers."""
    # TensorFlow keeps the gradient of each `tf.custom_gradient` ever traced, and with it the whole
    # graph of the training step: https://github.com/tensorflow/tensorflow/issues/80895
    # The registry is private: if an upgrade moves it, only the memory is not freed.
    with contextlib.suppress(ImportError, AttributeError, TypeError):
        from tensorflow.python.framework import ops

        registered = ops._gradient_registry._registry
        for name in [name for name in registered if name.startswith("CustomGradient-")]:
            del registered[name]
    keras.utils.clear_session()


def strategy_for(batch_size: int) -> tf.distribute.Strategy:
    """Return the strategy that shares a step among GPUs, or among CPU devices where there are none.

    Replicas have equal weight whatever the size of their part, so parts are equal: a batch of eight
    takes two of three GPUs. A single device has TensorFlow's default strategy.
    """
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    used = max(n for n in range(1, len(found) + 1) if batch_size % n == 0)
    if len(found) > 1:
        logger.info("%d of %d devices share each batch of %d", used, len(found), batch_size)
    return _mirrored(*(device.name for device in found[:used]))


@functools.cache  # two over the same devices would use the same collective keys, and clash
def _mirrored(*names: str) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def whole_shares(images: np.ndarray, replicas: int) -> np.ndarray:
    """Return the pictures, and the first ones again until they divide evenly among replicas."""
    return images[np.arange(math.ceil(len(images) / replicas) * replicas) % len(images)]


def require_same_shapes(
    config: Config, colorizer: keras.Model, start_from: Sequence[np.ndarray]
) -> None:
    """Raise a ValueError that names both shapes if the weights do not fit the colorizer."""
    own, given = ([each.shape for each in arrays] for arrays in (colorizer.weights, start_from))
    if own == given:
        return
    index, (expected, received) = next(
        (index, pair)
        for index, pair in enumerate(itertools.zip_longest(own, given))
        if pair[0] != pair[1]
    )
    known = {name: value for name in SHAPING if (value := getattr(config, name, None)) is not None}
    parameters = ", ".join(f"{name}={value}" for name, value in known.items())
    raise ValueError(
        f"The weights of `start_from` are of another network. Expected those of {config.variant} "
        f"with {parameters}: {len(own)} arrays, number {index + 1} of shape {expected}; give the "
        f"variant and parameters that they were trained with. Received: {len(given)} arrays, "
        f"number {index + 1} of shape {received}"
    )
