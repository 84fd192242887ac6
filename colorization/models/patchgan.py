"""The discriminator of pix2pix (Isola et al. 2017)."""

import keras
from keras import layers

from colorization.models.heads import scale_in
from colorization.models.precision import computing_in
from colorization.models.unet import LEAK, convolve, initial_weights, normalize


def build_patchgan(
    size: int, filters: int, halved: bool = False, normalized: bool = True
) -> keras.Model:
    """Build the conditional PatchGAN: each logit is of a 70x70 patch of gray and color together.

    Args:
        size: width and height of the pictures, in pixels.
        filters: channels of the first stage (the paper: 64).
        halved: look at the pictures at half the size, with one stage less. Patches are then 68x68
            pixels, at a quarter of the work. Meant for chroma that is coarser still.
        normalized: by the batch, as in the paper. Real and generated pictures are batches of their
            own, so normalization hides it where all generated ones are duller.

    Returns:
        A model from [gray levels (N, size, size, 3), signed RGB (N, size, size, 3)] to logits
        (N, size / 8, size / 8, 1), float32.
    """
    gray = keras.Input((size, size, 3), name="gray")
    rgb = keras.Input((size, size, 3), name="rgb")
    x = layers.Concatenate()([scale_in(gray), rgb])
    x = layers.AveragePooling2D(2)(x) if halved else x
    # The paper's weights would fade without normalization.
    weights = initial_weights if normalized else keras.initializers.HeNormal
    for stage, strides in enumerate((2, 2, 1) if halved else (2, 2, 2, 1)):
        x = convolve(x, filters * 2**stage, strides, weights())
        x = normalize(x) if normalized and stage > 0 else x
        x = layers.LeakyReLU(LEAK)(x)
    with computing_in("float32"):
        return keras.Model([gray, rgb], convolve(x, 1, 1, weights()), name="patchgan")
