"""The generator of pix2pix (Isola et al. 2017), made there for 256 pixels."""

from typing import Any

import keras
from keras import layers

from colorization.config import Pix2PixConfig
from colorization.models.heads import Generator, add_head, first_stage, scale_in
from colorization.models.upsampling import resize_and_convolve

WEIGHTS_DEVIATION = 0.02  # Isola et al. 2017, 6.2: Gaussian initial weights
LEAK = 0.2  # ibid.: slope of the leaky ReLUs
DROPOUT_STAGES = 3  # ibid.: the first three blocks of the decoder


def build_unet(config: Pix2PixConfig, size: int, fused: bool = True) -> Generator:
    """Build the paper's U-Net: an encoder and a decoder with skip connections.

    Channels double each stage, up to eight times. The paper has 64 in the first of 8 stages, which
    reach 1x1 from 256 pixels; 7 do from 128. Dropout is in the first blocks of the decoder.
    """
    depth, filters, head = config.depth, config.filters, config.head
    gray = keras.Input((size, size, config.gray_channels), name="gray")
    signed = scale_in(gray)
    x, skips = signed, []
    for stage in range(depth):
        x = convolve(x, filters * min(2**stage, 8), 2, initial_weights())
        # Not the first stage (as in the paper), nor a 1x1 map: too few values for statistics.
        x = normalize(x) if 0 < stage < depth - 1 else x
        skips.append(x)
        x = layers.LeakyReLU(LEAK)(x)
    for stage in reversed(range(first_stage(head, chroma_stage=1), depth)):
        features = filters * min(2 ** max(stage - 1, 0), 8)
        x = normalize(resize_and_convolve(x, features, fused, kernel_initializer=initial_weights()))
        if config.dropout and stage >= depth - DROPOUT_STAGES:
            x = layers.Dropout(config.dropout)(x)
        if stage > 0:
            x = layers.Concatenate()([x, skips[stage - 1]])
        x = layers.ReLU()(x)
    return keras.Model(gray, add_head(head, x, signed), name="unet"), []


def convolve(x: Any, filters: int, strides: int, weights: keras.initializers.Initializer) -> Any:
    """Convolve (N, H, W, C) 4x4, to (N, H / strides, W / strides, filters)."""
    return layers.Conv2D(filters, 4, strides, padding="same", kernel_initializer=weights)(x)


def initial_weights() -> keras.initializers.Initializer:
    """Return the paper's initial weights."""
    return keras.initializers.RandomNormal(stddev=WEIGHTS_DEVIATION)


def normalize(x: Any) -> Any:
    """Normalize by the batch, as the paper does, and by running means at inference.

    Normalizing each picture by itself would hide its brightness, which tells snow from lawn: 24.5
    instead of 27.1 dB on painted birds after ten epochs. Trainings are short, so the running means
    follow quickly.
    """
    return layers.BatchNormalization(momentum=0.9)(x)
