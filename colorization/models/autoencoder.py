"""The naive colorizers: convolutional autoencoders, gray in, RGB out, one loss."""

from typing import Any

import keras
from keras import layers

from colorization.config import NaiveConfig
from colorization.models.heads import Generator, add_head, first_stage, scale_in
from colorization.models.upsampling import resize_and_convolve


def build_autoencoder(config: NaiveConfig, size: int, fused: bool = True) -> Generator:
    """Build an encoder and a decoder without skip connections.

    Channels double each stage, up to eight times; dropout is at the bottleneck and in the decoder.
    """
    depth, batch_norm, dropout = config.depth, config.batch_norm, config.dropout
    gray = keras.Input((size, size, config.gray_channels), name="gray")
    x = signed = scale_in(gray)
    for stage in range(depth):  # size / 2**depth
        x = _block(x, config.filters * min(2**stage, 8), batch_norm, strides=2)
    x = _drop(_block(x, config.filters * min(2**depth, 8), batch_norm), dropout)
    for stage in reversed(range(first_stage(config.head, chroma_stage=1), depth)):
        features = config.filters * min(2**stage, 8)
        x = resize_and_convolve(x, features, fused, use_bias=not batch_norm)
        x = _drop(_activate(x, batch_norm), dropout)
    return keras.Model(gray, add_head(config.head, x, signed), name="autoencoder"), []


def _block(x: Any, filters: int, batch_norm: bool, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=not batch_norm)(x)
    return _activate(x, batch_norm)


def _activate(x: Any, batch_norm: bool) -> Any:
    if batch_norm:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _drop(x: Any, dropout: float) -> Any:
    return layers.SpatialDropout2D(dropout)(x) if dropout else x
