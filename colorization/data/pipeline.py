"""From prepared pictures to what a network is fed: `tf.data` pairs, augmented in training only."""

import os

import numpy as np
import tensorflow as tf

from colorization import color


def training_pairs(images, channels, batch_size, seed, crop):
    """Return one epoch's worth of shuffled, flipped and jittered pairs; every epoch differs.

    Args:
        images: uint8 (N, S, S, 3), memory-mapped or not; pictures are read as they are needed.
        channels: 1 for gray, 3 for gray as RGB.
        batch_size: pictures per step; an incomplete last batch is left to another epoch.
        seed: of order, flip and jitter.
        crop: see `augment`.

    Returns:
        A `tf.data.Dataset` of (gray, real): float32 (B, S, S, channels), levels 0..255, and
        float32 (B, S, S, 3) in [-1, 1].
    """
    batch_size = min(batch_size, len(images))
    order = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=seed)
    draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    batches = tf.data.Dataset.zip(order.batch(batch_size, drop_remainder=True), draws)
    size = images.shape[1]

    def pair(indices, draw):
        rgb = augment(_read(images, indices, batch_size), draw, crop)
        return _pair(tf.ensure_shape(rgb, (batch_size, size, size, 3)), channels)

    return _ahead(batches, pair)


def validation_pairs(images, channels, batch_size):
    """Return the pictures as they are, in order, in pairs as `training_pairs` gives them."""
    batches = tf.data.Dataset.range(len(images)).batch(batch_size)
    return _ahead(batches, lambda indices: _pair(_read(images, indices, None), channels))


def _ahead(batches, pair):
    """Make pairs of batches in other threads, as many at a time as there are cores.

    Untuned: TensorFlow's tuner sleeps in a thread of its own, for which the end of an epoch
    sometimes waits until five seconds after its beginning.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    cores = os.cpu_count()
    return batches.map(pair, cores, deterministic=True).prefetch(cores).with_options(options)


def augment(rgb, draw, crop):
    """Flip half of the pictures and jitter all: resize up, crop at random, in a single resampling.

    Isola et al. 2017 crop 256 of 286 pixels; here the sizes differ as well.

    Args:
        rgb: float32 (B, S, S, 3).
        draw: int64 (2,), the seed; the same draw gives the same crops.
        crop: the smallest share of a side that is left, the largest being 1.

    Returns:
        float32 (B, S, S, 3).
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


def _read(images, indices, count):
    def gather(chosen):
        return np.asarray(images[chosen], "float32")

    rgb = tf.numpy_function(gather, [indices], tf.float32, stateful=False)
    return tf.ensure_shape(rgb, (count, *images.shape[1:]))


def _pair(rgb, channels):
    gray = tf.round(tf.tensordot(rgb, color.LUMA, 1))[..., None]
    return tf.repeat(gray, channels, axis=-1), color.to_signed(rgb)
