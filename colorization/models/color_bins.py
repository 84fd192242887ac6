"""Colors as a distribution over bins for each pixel: a bird either green or brown is not olive.

A network that predicts one color learns the mean of all that a pixel may be. One that predicts how
likely each bin is (Larsson et al. 2016; Zhang et al. 2016) can choose, and learns more from each
picture.
"""

import math
from typing import Any

import numpy as np
from keras import layers, ops

from colorization.color import HALF_RANGE, RGB_TO_CHROMA

STEP, REACH = 10, 60  # levels, of each plane; one pixel of a hundred lies beyond
AXIS = np.arange(-REACH, REACH + 1, STEP, dtype="float32")
COLORS = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), axis=-1).reshape(-1, 2)
WIDTH = 64  # channels from which all scores are computed
SCORES = "color_scores"  # the name of their layer
# Zhang et al. 2016, 2.3: between the mean of a distribution (1) and its peak (0); they took 0.38.
TEMPERATURE = 0.4


def color_scores(features: Any) -> Any:
    """Return the score of each of `COLORS`: the logarithm of its probability, up to a constant.

    They are (N, h, w, 169) of features (N, h, w, F). Initial weights are zero, so that every
    picture begins as gray.
    """
    x = layers.Conv2D(WIDTH, 1, activation="relu", name="color_features")(features)
    return layers.Conv2D(len(COLORS), 1, kernel_initializer="zeros", name=SCORES)(x)


def likely_color(scores: Any) -> Any:
    """Return Cb and Cr (N, h, w, 2), 1 being 127.5 levels, of scores (N, h, w, 169).

    They are the mean of the distribution, sharpened by `TEMPERATURE`.
    """
    return ops.matmul(ops.softmax(scores / TEMPERATURE), COLORS / HALF_RANGE)


def entropy(scores: Any) -> Any:
    """Return how unsure scores (N, h, w, 169) are, (N, h, w, 1).

    It is the entropy of the distribution, 1 being that of colors which are all equally likely.
    """
    logarithms = ops.log_softmax(scores)
    total = -ops.sum(ops.exp(logarithms) * logarithms, axis=-1, keepdims=True)
    return total / math.log(len(COLORS))


def cross_entropy(real: Any, scores: Any) -> Any:
    """Return the cross-entropy (N, h, w) of signed RGB (N, S, S, 3) and scores (N, h, w, 169).

    Of these, h divides S. A real color between four of `COLORS` is shared among them, by its
    distance on each axis.
    """
    size = real.shape[1] // scores.shape[1]
    chroma = ops.matmul(ops.average_pool(real, size), RGB_TO_CHROMA) * HALF_RANGE
    chroma = ops.clip(chroma, -REACH, REACH)[..., None]
    shares = ops.relu(1 - ops.abs(chroma - AXIS) / STEP)  # (N, h, w, 2, 13)
    shares = shares[..., 0, :, None] * shares[..., 1, None, :]
    shares = ops.reshape(shares, (-1, *scores.shape[1:]))
    return ops.categorical_crossentropy(shares, scores, from_logits=True)
