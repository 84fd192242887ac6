"""From a config to its networks. To add an architecture, write a builder and register it here."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import keras

from colorization.config import Config, NaiveConfig, Pix2PixConfig, PretrainedEncoder
from colorization.losses import GAN_LOSSES, PIXEL_LOSSES
from colorization.models.autoencoder import build_autoencoder
from colorization.models.heads import (
    Generator,
    build_colorizer,
    build_scorer,
    computing_in,
    find_head,
    lookup,
)
from colorization.models.pix2pix import build_patchgan, build_unet
from colorization.models.pretrained_unet import build_pretrained_unet

ADAM_BETA_1 = 0.5  # Isola et al. 2017, for both networks of the GAN


class Networks(NamedTuple):
    """The model for `fit`, and a colorizer over the same weights, gray levels to RGB levels."""

    trainer: keras.Model  # compiled; its optimizers are built for all weights that ever learn
    colorizer: keras.Model
    finetuned: list[keras.layers.Layer]  # learn only in fine-tuning, see `training.schedule`


def build(config: Config, size: int, synchronized: bool = False, fused: bool = True) -> Networks:
    """Build and compile the networks of a variant, for pictures of `size` x `size` pixels.

    If `synchronized`, several devices share a batch: they normalize by all of it, and agree on the
    running means. If `fused`, layers that train faster so are joined, see `upsampling`.

    Raises:
        ValueError: `depth` halves the pictures too often, or the architecture is unknown.
    """
    generator, finetuned = _build_generator(config, size, fused)
    _set_synchronized(generator, synchronized)
    compile_trainer = lookup(TRAINERS, "family", config.family)
    trainer = compile_trainer(config, generator, size, synchronized)
    return Networks(trainer, build_colorizer(generator), finetuned)


def build_plain(config: Config, size: int) -> keras.Model:
    """Build a colorizer as it is kept: of Keras's own layers, in float32, for one device.

    Its weights have the same shapes and order as those of `build`.
    """
    # All weights will be set: the encoder's initial ones need not be loaded.
    own = {"encoder_weights": "none"} if isinstance(config, PretrainedEncoder) else {}
    plain = dataclasses.replace(config, **{"precision": "float32", **own})  # type: ignore[arg-type]
    return build_colorizer(_build_generator(plain, size, fused=False)[0])


def _build_generator(config: Config, size: int, fused: bool) -> Generator:
    if size % 2**config.depth:
        raise ValueError(
            f"`depth` halves the pictures too often. Expected {size} pixels to be divisible by "
            f"2**depth. Received: depth={config.depth}"
        )
    with computing_in(config.precision):
        return lookup(GENERATORS, "architecture", config.architecture)(config, size, fused)


GENERATORS: dict[str, Callable[..., Generator]] = {
    "autoencoder": build_autoencoder,
    "unet": build_unet,
    "pretrained_unet": build_pretrained_unet,
}
"""By architecture: functions of a config, the pictures' size in pixels, which 2**depth divides, and
`fused`, see `upsampling`. They return a model from gray levels (N, S, S, C) to signed RGB
(N, S, S, 3), and those of its layers that learn only in fine-tuning."""


def _compile_naive(
    config: NaiveConfig, generator: keras.Model, size: int, synchronized: bool
) -> keras.Model:
    loss = find_head(config.head).loss
    trainer = build_scorer(generator) if loss else generator
    optimizer = keras.optimizers.Adam(config.learning_rate)
    optimizer.build(trainer.trainable_variables)  # now, since some may be frozen in the first step
    trainer.compile(optimizer, loss or PIXEL_LOSSES[config.loss])
    return trainer


def _compile_gan(
    config: Pix2PixConfig, generator: keras.Model, size: int, synchronized: bool
) -> keras.Model:
    from colorization.models.gan import Pix2Pix  # the only network that needs TensorFlow

    head = find_head(config.head)
    pretrained = isinstance(config, PretrainedEncoder)
    halved = pretrained and head.is_chroma
    with computing_in(config.precision):
        discriminator = build_patchgan(size, config.filters, halved, normalized=not pretrained)
    _set_synchronized(discriminator, synchronized)
    trainer = Pix2Pix(generator, discriminator, build_scorer(generator) if head.loss else None)
    trainer.compile(
        keras.optimizers.Adam(config.generator_learning_rate, ADAM_BETA_1),
        keras.optimizers.Adam(config.discriminator_learning_rate, ADAM_BETA_1),
        config.l1_weight,
        GAN_LOSSES[config.gan_loss],
        head.loss,
    )
    return trainer


TRAINERS: dict[str, Callable[..., keras.Model]] = {
    NaiveConfig.family: _compile_naive,
    Pix2PixConfig.family: _compile_gan,
}
"""By family: functions of a config, its generator, the pictures' size and `synchronized`."""


def _set_synchronized(network: keras.Model, synchronized: bool) -> None:
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized
