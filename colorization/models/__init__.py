"""The networks: pure Keras, so that they also run under another backend than TensorFlow."""

from typing import NamedTuple

import keras

from colorization.models.heads import build_colorizer
from colorization.models.naive import build_autoencoder
from colorization.models.pix2pix import build_patchgan, build_unet

ADAM_BETA_1 = 0.5  # Isola et al. 2017, for both networks of the GAN


class Networks(NamedTuple):
    """What `fit` trains, and what is kept: RGB levels of gray levels, over the same weights."""

    trainer: keras.Model
    colorizer: keras.Model


def build(config, size):
    """Build and compile the networks of a variant for pictures of `size` x `size` pixels.

    Raises:
        ValueError: `depth` halves the pictures further than down to one pixel.
    """
    if size % 2**config.depth:
        raise ValueError(
            f"`depth` halves the pictures too often. Expected {size} pixels to be divisible by "
            f"2**depth. Received: depth={config.depth}"
        )
    return {"naive": _build_naive, "pix2pix": _build_pix2pix}[config.family](config, size)


def _build_naive(config, size):
    generator = build_autoencoder(
        size,
        filters=config.filters,
        depth=config.depth,
        dropout=config.dropout,
        batch_norm=config.variant == "naive_deep",
        head=config.head,
    )
    pixel_loss = {"l1": "mean_absolute_error", "mse": "mean_squared_error"}[config.loss]
    generator.compile(keras.optimizers.Adam(config.learning_rate), pixel_loss)
    return Networks(generator, build_colorizer(generator))


def _build_pix2pix(config, size):
    from colorization.models.adversarial import Pix2Pix  # needs TensorFlow, the networks do not

    generator = build_unet(size, config.filters, config.depth, config.dropout, config.head)
    trainer = Pix2Pix(generator, build_patchgan(size, config.filters))
    trainer.compile(
        keras.optimizers.Adam(config.generator_learning_rate, ADAM_BETA_1),
        keras.optimizers.Adam(config.discriminator_learning_rate, ADAM_BETA_1),
        l1_weight=config.l1_weight,
        gan_loss=config.gan_loss,
    )
    return Networks(trainer, build_colorizer(generator))
