"""The networks of pix2pix (Isola et al. 2017), scaled from 256 to 128 pixels."""

import keras
from keras import layers

from colorization.models.heads import add_head, scale_in
from colorization.models.precision import computing_in
from colorization.models.resizing import resize_and_convolve

WEIGHTS_DEVIATION = 0.02  # Isola et al. 2017, 6.2: Gaussian initial weights
LEAK = 0.2  # ibid.: slope of the leaky ReLUs
DROPOUT_STAGES = 3  # ibid.: the first three blocks of the decoder


def build_unet(size, filters, depth, dropout, head, fused=True):
    """Build the paper's U-Net: an encoder and a decoder with skip connections.

    Args:
        size: width and height of the pictures, in pixels; divisible by 2**depth.
        filters: channels of the first stage (the paper: 64); doubled each stage, up to eight times.
        depth: down-sampling stages (the paper's 8 reach 1x1 from 256; 7 do from 128).
        dropout: share of activations dropped in the first three blocks of the decoder.
        head: `chroma`, `histogram` or `rgb`, see `heads`.
        fused: see `resizing`.

    Returns:
        A `keras.Model`: gray levels (N, size, size, 3) to signed RGB (N, size, size, 3).
    """
    gray = keras.Input((size, size, 3), name="gray")
    signed = scale_in(gray)
    x, skips = signed, []
    for stage in range(depth):
        x = _conv(x, filters * min(2**stage, 8), 2, _weights())
        # Neither the first stage (the paper) nor a 1x1 map, which has hardly any statistics.
        x = _normalize(x) if 0 < stage < depth - 1 else x
        skips.append(x)
        x = layers.LeakyReLU(LEAK)(x)
    last = 0 if head == "rgb" else 1  # chroma stays at half size
    for stage in reversed(range(last, depth)):
        features = filters * min(2 ** max(stage - 1, 0), 8)
        x = _normalize(resize_and_convolve(x, features, fused, kernel_initializer=_weights()))
        if dropout and stage >= depth - DROPOUT_STAGES:
            x = layers.Dropout(dropout)(x)
        if stage > 0:
            x = layers.Concatenate()([x, skips[stage - 1]])
        x = layers.ReLU()(x)
    return keras.Model(gray, add_head(head, x, signed), name="unet")


def build_patchgan(size, filters, halved=False, normalized=True):
    """Build the conditional PatchGAN: each score judges a 70x70 patch of gray and color together.

    Args:
        size: width and height of the pictures, in pixels.
        filters: channels of the first stage (the paper: 64).
        halved: judge pictures of half the size, by a stage less: patches of 68x68 pixels instead,
            for a quarter of the work, where chroma is coarser still.
        normalized: by the batch, as in the paper. Real and generated pictures are batches of their
            own, so that this hides from the discriminator that all of one are duller.

    Returns:
        A `keras.Model`: [gray levels (N, size, size, 3), signed RGB (N, size, size, 3)] to logits
        (N, size / 8, size / 8, 1), float32.
    """
    gray = keras.Input((size, size, 3), name="gray")
    rgb = keras.Input((size, size, 3), name="rgb")
    x = layers.Concatenate()([scale_in(gray), rgb])
    x = layers.AveragePooling2D(2)(x) if halved else x
    weights = _weights if normalized else keras.initializers.HeNormal  # the paper's would fade
    for stage, strides in enumerate((2, 2, 1) if halved else (2, 2, 2, 1)):
        x = _conv(x, filters * 2**stage, strides, weights())
        x = _normalize(x) if normalized and stage > 0 else x
        x = layers.LeakyReLU(LEAK)(x)
    with computing_in("float32"):
        return keras.Model([gray, rgb], _conv(x, 1, 1, weights()), name="patchgan")


def _conv(x, filters, strides, weights):
    return layers.Conv2D(filters, 4, strides, padding="same", kernel_initializer=weights)(x)


def _weights():
    return keras.initializers.RandomNormal(stddev=WEIGHTS_DEVIATION)


def _normalize(x):
    """Normalize by the batch, as the paper does, and by running means at inference.

    Normalizing each picture by itself would hide how bright it is, which tells snow from lawn:
    24.5 instead of 27.1 dB on painted birds after ten epochs. The running means follow quickly,
    since trainings are short.
    """
    return layers.BatchNormalization(momentum=0.9)(x)
