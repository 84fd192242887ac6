"""Every loss, by the name that a config gives it. To add one, write a function and its name.

Keras is imported inside: a command line names the losses, and shall not wait for it.
"""

from typing import Any


def mean_absolute_error(real: Any, predicted: Any) -> Any:
    """Return the mean absolute difference of each pixel, (N, H, W), of (N, H, W, C)."""
    from keras import ops

    return ops.mean(ops.abs(real - predicted), axis=-1)


def mean_squared_error(real: Any, predicted: Any) -> Any:
    """Return the mean squared difference of each pixel, (N, H, W), of (N, H, W, C)."""
    from keras import ops

    return ops.mean(ops.square(real - predicted), axis=-1)


def binary_cross_entropy(real: bool, logits: Any) -> Any:
    """Return how unlikely a discriminator finds what it should, a scalar (Goodfellow et al. 2014).

    Args:
        real: whether the pictures should count as real.
        logits: of the discriminator, of any shape.
    """
    from keras import ops

    return ops.mean(ops.softplus(-logits if real else logits))


def least_squares(real: bool, logits: Any) -> Any:
    """Return the squared distance of logits from 1 if real and from 0 if not (Mao et al. 2017)."""
    from keras import ops

    return ops.mean(ops.square(logits - (1.0 if real else 0.0)))


PIXEL_LOSSES = {"l1": mean_absolute_error, "mse": mean_squared_error}
"""On signed RGB, of real and predicted pictures."""

GAN_LOSSES = {"bce": binary_cross_entropy, "lsgan": least_squares}
"""On a discriminator's logits; the generator's adversarial loss is that of its fakes as real."""
