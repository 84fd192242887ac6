"""From prepared pictures to `tf.data` pairs for a network, augmented in training only."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from colorization import color


def training_pairs(
    images: np.ndarray, channels: int, batch_size: int, seed: int, crop: float
) -> tf.data.Dataset:
    """Return an epoch of shuffled, flipped and jittered pairs; every epoch differs.

    Images are uint8 (N, S, S, 3); memory-mapped ones are read as needed. Pairs are of gray, float32
    (B, S, S, channels), levels 0..255, and real, float32 (B, S, S, 3), in [-1, 1]. An incomplete
    last batch is left to another epoch. `channels` is 1 or 3. `seed` decides order, flips and
    jitter. For `crop` see `augment`.
    """
    batch_size = min(batch_size, len(images))
    order = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=seed)
    draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    batches = tf.data.Dataset.zip(order.batch(batch_size, drop_remainder=True), draws)
    size = images.shape[1]

    def pair(indices: tf.Tensor, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rgb = augment(_read(images, indices, batch_size), draw, crop)
        return _pair(tf.ensure_shape(rgb, (batch_size, size, size, 3)), channels)

    return _ahead(batches, pair)


def validation_pairs(images: np.ndarray, channels: int, batch_size: int) -> tf.data.Dataset:
    """Return pairs as `training_pairs` does, unchanged and in order."""
    batches = tf.data.Dataset.range(len(images)).batch(batch_size)
    return _ahead(batches, lambda indices: _pair(_read(images, indices, None), channels))


def _ahead(batches: tf.data.Dataset, pair: Callable) -> tf.data.Dataset:
    """Make pairs in other threads, as many at a time as there are cores.

    Autotuning is off: an epoch's end would wait for its thread, which sleeps up to five seconds.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    cores = os.cpu_count()
    return batches.map(pair, cores, deterministic=True).prefetch(cores).with_options(options)


def augment(rgb: tf.Tensor, draw: tf.Tensor, crop: float) -> tf.Tensor:
    """Flip half of the pictures and jitter all: enlarge and crop at random, in one resampling.

    Isola et al. 2017 crop 256 of 286 pixels; here the share varies.

    Args:
        rgb: float32 (B, S, S, 3), as what is returned.
        draw: int64 (2,), the seed; the same draw gives the same crops.
        crop: the smallest share of a side that is kept (`Config.crop`); the largest is 1.
    """
    count, size = tf.shape(rgb)[0], rgb.shape[1]
    top, left, flip, share = tf.unstack(tf.random.stateless_uniform((4, count), draw))
    share = crop + share * (1 - crop)
    top, left = top * (1 - share), left * (1 - share)
    right, bottom = left + share, top + share
    flipped = flip < 0.5  # a box with its sides exchanged is a mirrored crop
    left, right = tf.where(flipped, right, left), tf.where(flipped, left, right)
    boxes = tf.stack([top, left, bottom, right], axis=1)
    return tf.image.crop_and_resize(rgb, boxes, tf.range(count), (size, size))


def _read(images: np.ndarray, indices: tf.Tensor, count: int | None) -> tf.Tensor:
    rgb = tf.numpy_function(
        lambda chosen: np.asarray(images[chosen], "float32"), [indices], tf.float32, stateful=False
    )
    return tf.ensure_shape(rgb, (count, *images.shape[1:]))


def _pair(rgb: tf.Tensor, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    gray = tf.round(tf.tensordot(rgb, color.LUMA, 1))[..., None]
    return tf.repeat(gray, channels, axis=-1), color.to_signed(rgb)
