"""The networks: pure Keras, so that they also run under another backend than TensorFlow."""

import dataclasses
from typing import NamedTuple

import keras

from colorization.config import NaiveConfig, Pix2PixConfig, PretrainedEncoder
from colorization.losses import GAN_LOSSES, PIXEL_LOSSES
from colorization.models import color_bins
from colorization.models.autoencoder import build_autoencoder
from colorization.models.heads import build_colorizer
from colorization.models.patchgan import build_patchgan
from colorization.models.precision import computing_in
from colorization.models.pretrained_unet import build_transfer_unet
from colorization.models.unet import build_unet

ADAM_BETA_1 = 0.5  # Isola et al. 2017, for both networks of the GAN


class Networks(NamedTuple):
    """What `fit` trains, and over the same weights what makes RGB levels of gray levels.

    Attributes:
        trainer: compiled, its optimizers built for all that ever learns.
        colorizer: gray levels to RGB levels.
        finetuned: layers of both that are to learn in some epochs only, see `schedule`.
    """

    trainer: keras.Model
    colorizer: keras.Model
    finetuned: list


def build(config, size, synchronized=False, fused=True):
    """Build and compile the networks of a variant for pictures of `size` x `size` pixels.

    Args:
        config: a `NaiveConfig` or `Pix2PixConfig`.
        size: of the pictures, in pixels.
        synchronized: whether several devices share a batch: they then normalize by all of it,
            not each by its own part, and agree on the running means.
        fused: whether layers are joined that train faster so, see `resizing`.

    Raises:
        ValueError: `depth` halves the pictures further than down to one pixel.
    """
    generator, finetuned = _build_generator(config, size, fused)
    _normalize_together(synchronized, generator)
    trainer = _named(TRAINERS, "family", config)(config, generator, size, synchronized)
    return Networks(trainer, build_colorizer(generator), finetuned)


def build_plain(config, size):
    """Build a colorizer as it is kept: of Keras's own layers, in float32, for one device.

    Its weights are of the same shapes and order as those of `build`.
    """
    # It is given its weights: those that an encoder begins with are not needed.
    own = {"encoder_weights": "none"} if isinstance(config, PretrainedEncoder) else {}
    plain = dataclasses.replace(config, precision="float32", **own)
    generator, _ = _build_generator(plain, size, fused=False)
    return build_colorizer(generator)


def _build_generator(config, size, fused):
    if size % 2**config.depth:
        raise ValueError(
            f"`depth` halves the pictures too often. Expected {size} pixels to be divisible by "
            f"2**depth. Received: depth={config.depth}"
        )
    with computing_in(config.precision):
        return _named(GENERATORS, "architecture", config)(config, size, fused)


def _named(builders, field, config):
    """Return the builder that a config names in a field, or raise a ValueError."""
    name = getattr(config, field)
    if name not in builders:
        raise ValueError(
            f"Unknown {field} of {config.variant}. Expected one of {', '.join(builders)}: register "
            f"its builder in `models.build`. Received: {field}={name!r}"
        )
    return builders[name]


def _autoencoder(config, size, fused):
    shape = (size, config.filters, config.depth, config.dropout)
    return build_autoencoder(*shape, config.batch_norm, head=config.head, fused=fused), []


def _unet(config, size, fused):
    shape = (size, config.filters, config.depth, config.dropout)
    return build_unet(*shape, head=config.head, fused=fused), []


def _pretrained_unet(config, size, fused):
    return build_transfer_unet(
        config.encoder,
        config.gray_channels,
        size,
        config.filters,
        config.depth,
        config.dropout,
        head=config.head,
        encoder_weights=config.encoder_weights,
        frozen_stages=config.frozen_stages,
        fused=fused,
    )


GENERATORS = {
    "autoencoder": _autoencoder,
    "unet": _unet,
    "pretrained_unet": _pretrained_unet,
}
"""Of a config, a size and `fused`: a generator, and its layers that only learn in fine-tuning."""


def _naive(config, generator, size, synchronized):
    if config.head == "histogram":
        trainer = keras.Model(generator.input, color_bins.scores_of(generator))
        loss = color_bins.cross_entropy
    else:
        trainer = generator
        loss = PIXEL_LOSSES[config.loss]
    optimizer = keras.optimizers.Adam(config.learning_rate)
    optimizer.build(trainer.trainable_variables)  # now, since some may be frozen in the first step
    trainer.compile(optimizer, loss)
    return trainer


def _gan(config, generator, size, synchronized):
    from colorization.models.gan import Pix2Pix  # needs TensorFlow, the networks do not

    with computing_in(config.precision):
        pretrained = isinstance(config, PretrainedEncoder)
        coarse = pretrained and config.head != "rgb"
        discriminator = build_patchgan(
            size, config.filters, halved=coarse, normalized=not pretrained
        )
    _normalize_together(synchronized, discriminator)
    scored = None
    if config.head == "histogram":
        both = [generator.output, color_bins.scores_of(generator)]
        scored = keras.Model(generator.input, both)
    trainer = Pix2Pix(generator, discriminator, scored)
    trainer.compile(
        keras.optimizers.Adam(config.generator_learning_rate, ADAM_BETA_1),
        keras.optimizers.Adam(config.discriminator_learning_rate, ADAM_BETA_1),
        l1_weight=config.l1_weight,
        gan_loss=GAN_LOSSES[config.gan_loss],
    )
    return trainer


TRAINERS = {NaiveConfig.family: _naive, Pix2PixConfig.family: _gan}
"""Of a config, its generator, a size and `synchronized`: what `fit` trains, compiled."""


def _normalize_together(synchronized, network):
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized
