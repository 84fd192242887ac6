"""Trains a variant on prepared pictures, on all GPUs; knows nothing of who watches."""

import contextlib
import functools
import itertools
import logging
import math
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from colorization.data import pipeline
from colorization.models import build
from colorization.training.callbacks import (
    SCORED_PICTURES,
    SCORING_BATCH,
    Scoring,
    WeightAveraging,
)
from colorization.training.schedule import CosineSchedule

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
        trainer, in_training, finetuned = build.build(config, train_images.shape[1], replicas > 1)
    colorizer = build.build_plain(config, train_images.shape[1])
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
    # The registry is private: where an upgrade has moved it, trainings keep their memory.
    with contextlib.suppress(ImportError, AttributeError, TypeError):
        from tensorflow.python.framework import ops

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
