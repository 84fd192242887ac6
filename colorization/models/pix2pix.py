"""The two networks of pix2pix (Isola et al. 2017), made there for 256 pixels."""

from functools import partial
from typing import Any

import keras
from keras import layers

from colorization.config import Pix2PixConfig
from colorization.models.heads import Generator, add_head, computing_in, first_stage, scale_in
from colorization.models.upsampling import resize_and_convolve

LEAK = 0.2  # Isola et al. 2017, 6.1 and 6.2: slope of the leaky ReLUs
DROPOUT_STAGES = 3  # ibid.: the first three blocks of the decoder
_initial_weights = partial(keras.initializers.RandomNormal, stddev=0.02)  # ibid.


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
        x = _convolve(x, filters * min(2**stage, 8), 2, _initial_weights())
        # Not the first stage (as in the paper), nor a 1x1 map: too few values for statistics.
        x = _normalize(x) if 0 < stage < depth - 1 else x
        skips.append(x)
        x = layers.LeakyReLU(LEAK)(x)
    for stage in reversed(range(first_stage(head, chroma_stage=1), depth)):
        features = filters * min(2 ** max(stage - 1, 0), 8)
        x = resize_and_convolve(x, features, fused, kernel_initializer=_initial_weights())
        x = _normalize(x)
        if config.dropout and stage >= depth - DROPOUT_STAGES:
            x = layers.Dropout(config.dropout)(x)
        if stage > 0:
            x = layers.Concatenate()([x, skips[stage - 1]])
        x = layers.ReLU()(x)
    return keras.Model(gray, add_head(head, x, signed), name="unet"), []


def build_patchgan(
    size: int, filters: int, halved: bool = False, normalized: bool = True
) -> keras.Model:
    """Build the conditional PatchGAN: each logit is of a 70x70 patch of gray and color together.

    It maps [gray levels (N, size, size, 3), signed RGB (N, size, size, 3)] to float32 logits
    (N, size / 8, size / 8, 1); `size` is in pixels. The first stage has `filters` channels (the
    paper: 64).

    If `halved`, it looks at the pictures at half the size, with one stage less. Patches are then
    68x68 pixels, at a quarter of the work. This is meant for chroma that is coarser still. If
    `normalized`, it is so by the batch, as in the paper. Real and generated pictures are batches of
    their own, so normalization hides it where all generated ones are duller.
    """
    gray = keras.Input((size, size, 3), name="gray")
    rgb = keras.Input((size, size, 3), name="rgb")
    x = layers.Concatenate()([scale_in(gray), rgb])
    x = layers.AveragePooling2D(2)(x) if halved else x
    # The paper's weights would fade without normalization.
    weights = _initial_weights if normalized else keras.initializers.HeNormal
    for stage, strides in enumerate((2, 2, 1) if halved else (2, 2, 2, 1)):
        x = _convolve(x, filters * 2**stage, strides, weights())
        x = _normalize(x) if normalized and stage > 0 else x
        x = layers.LeakyReLU(LEAK)(x)
    with computing_in("float32"):
        return keras.Model([gray, rgb], _convolve(x, 1, 1, weights()), name="patchgan")


def _convolve(x: Any, filters: int, strides: int, weights: keras.initializers.Initializer) -> Any:
    return layers.Conv2D(filters, 4, strides, padding="same", kernel_initializer=weights)(x)


def _normalize(x: Any) -> Any:
    """Normalize by the batch, as the paper does, and by running means at inference.

    Normalizing each picture by itself would hide its brightness, which tells snow from lawn: 24.5
    instead of 27.1 dB on painted birds after ten epochs. Trainings are short, so the running means
    follow quickly.
    """
    return layers.BatchNormalization(momentum=0.9)(x)
