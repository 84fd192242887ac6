"""Where every generator begins and ends: ranges in and out, and the ways to predict color.

All of it computes in float32, whatever the layers between do: bfloat16 holds 8 bits of a luma.
"""

import keras
from keras import layers, ops

from colorization.color import HALF_RANGE, MAX_LEVEL, YCBCR_TO_RGB
from colorization.models.color_bins import color_scores, likely_color
from colorization.models.precision import computing_in
from colorization.models.upsampling import resize


@computing_in("float32")
def scale_in(gray):
    """Bring levels 0..255 to [-1, 1]; any shape."""
    return layers.Rescaling(1 / HALF_RANGE, offset=-1, name="to_signed")(gray)


@computing_in("float32")
def add_head(head, features, signed_gray):
    """Turn the decoder's features into signed RGB, unclipped.

    Args:
        head: `chroma`: two planes at the features' size, upsampled and joined with the input's
            luma by BT.601's fixed weights, so that luminance is never guessed; `histogram`: the
            same two planes, from a distribution over colors; or `rgb`: three free planes, as in
            the original notebooks.
        features: (N, h, w, F), of any size.
        signed_gray: (N, S, S, C), in [-1, 1].

    Returns:
        (N, S, S, 3), about [-1, 1].
    """
    if head == "rgb":
        return _at_size_of(signed_gray, _planes(3, "rgb")(features))
    if head == "histogram":
        color = likely_color(color_scores(features))
    else:
        # From zero weights a chroma head starts as plain gray, and learns color from there.
        color = _planes(2, "chroma", kernel_initializer="zeros")(features)
    color = _at_size_of(signed_gray, color)
    # Gray repeated over three channels has its own value as luma: one formula for C = 1 and C = 3.
    luma = signed_gray[..., :1]
    return ops.matmul(layers.Concatenate(name="y_cb_cr")([luma, color]), YCBCR_TO_RGB)


@computing_in("float32")
def build_colorizer(generator):
    """Wrap a generator of signed RGB as the contract wants it: RGB levels, clipped last.

    Returns:
        A `keras.Model`: float32 (N, S, S, C), 0..255, to float32 (N, S, S, 3), RGB, 0..255; its
        weights are the generator's own.
    """
    levels = layers.Rescaling(HALF_RANGE, offset=HALF_RANGE, name="to_levels")(generator.output)
    clipped = layers.ReLU(max_value=MAX_LEVEL, name="clip")(levels)
    return keras.Model(generator.input, clipped, name="colorizer")


def _at_size_of(picture, planes):
    if planes.shape[1] == picture.shape[1]:
        return planes
    return resize(planes, picture.shape[1])


def _planes(count, name, **options):
    return layers.Conv2D(count, 3, padding="same", activation="tanh", name=name, **options)
