"""Every loss that a config chooses by name; the head `histogram` brings its own, see `heads`.

To add one, write a function, name it below, and let `python -m scripts.parameters` list it.
The functions import Keras themselves, so that a command line can list them without loading Keras.
"""

from typing import Any


def binary_cross_entropy(real: bool, logits: Any) -> Any:
    """Return the mean cross-entropy of a label and a discriminator's logits, of any shape.

    The generator's loss by it is the non-saturating one of Goodfellow et al. 2014.
    """
    from keras import ops

    return ops.mean(ops.softplus(-logits if real else logits))


def least_squares(real: bool, logits: Any) -> Any:
    """Return the mean squared distance of logits from 1 if real, else from 0 (Mao et al. 2017)."""
    from keras import ops

    return ops.mean(ops.square(logits - (1.0 if real else 0.0)))


PIXEL_LOSSES: dict[str, Any] = {"l1": "mean_absolute_error", "mse": "mean_squared_error"}
"""The `loss` of naive networks. Functions of real and predicted signed RGB, (N, H, W, C), to
(N, H, W), or names of Keras's."""

GAN_LOSSES = {"bce": binary_cross_entropy, "lsgan": least_squares}
"""The `gan_loss` of GANs. Functions of a label and logits; the generator's adversarial loss labels
its fakes as real."""
