"""Colors as a distribution for each pixel: a bird that may be green or brown is not olive.

What learns one color for each pixel by its distance learns the middle of all that it may be. What
learns how likely each color is (Larsson et al. 2016; Zhang et al. 2016) can choose, and learns more
from each picture.
"""

import numpy as np
from keras import layers, ops

from colorization.color import HALF_RANGE, RGB_TO_CHROMA

STEP, REACH = 10, 60  # levels, of each plane; beyond that lies one pixel of a hundred
AXIS = np.arange(-REACH, REACH + 1, STEP, dtype="float32")
COLORS = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), axis=-1).reshape(-1, 2)
WIDTH = 64  # channels from which all probabilities are made
# Zhang et al. 2016, 2.3: between the mean of a distribution (1) and its peak (0); they took 0.38.
TEMPERATURE = 0.4


def color_scores(features):
    """Return the score of each of `COLORS`: its probability's logarithm, but for a constant.

    Args:
        features: (N, h, w, F).

    Returns:
        (N, h, w, 169); from zero weights, so that all begin as gray.
    """
    x = layers.Conv2D(WIDTH, 1, activation="relu", name="color_features")(features)
    return layers.Conv2D(len(COLORS), 1, kernel_initializer="zeros", name="color_scores")(x)


def likely_color(scores):
    """Return Cb and Cr (N, h, w, 2), 1 being 127.5 levels, of scores (N, h, w, 169).

    The mean of the distribution after it was sharpened by `TEMPERATURE`.
    """
    return ops.matmul(ops.softmax(scores / TEMPERATURE), COLORS / HALF_RANGE)


def scores_of(generator):
    """Return what a generator's `color_scores` are, as a symbolic output of its input."""
    return generator.get_layer("color_scores").output


def cross_entropy(real, scores):
    """Return how unlikely the real colors are by the scores, (N, h, w).

    Args:
        real: signed RGB (N, S, S, 3).
        scores: (N, h, w, 169), h dividing S. A real color between four of `COLORS` is shared among
            them, by its distance on each axis.
    """
    size = real.shape[1] // scores.shape[1]
    chroma = ops.matmul(ops.average_pool(real, size), RGB_TO_CHROMA) * HALF_RANGE
    chroma = ops.clip(chroma, -REACH, REACH)[..., None]
    shares = ops.relu(1 - ops.abs(chroma - AXIS) / STEP)  # (N, h, w, 2, 13)
    shares = shares[..., 0, :, None] * shares[..., 1, None, :]
    shares = ops.reshape(shares, (-1, *scores.shape[1:]))
    return ops.categorical_crossentropy(shares, scores, from_logits=True)
