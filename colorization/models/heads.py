"""Where every generator begins and ends: value ranges, and the ways to predict color.

All of it computes in float32, whatever the layers between do: bfloat16 holds 8 bits of a luma.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import keras
from keras import layers, ops

from colorization.color import HALF_RANGE, MAX_LEVEL, YCBCR_TO_RGB
from colorization.models import color_bins
from colorization.models.upsampling import resize

Entry = TypeVar("Entry")
Generator = tuple[keras.Model, list[layers.Layer]]  # see `build.GENERATORS`


def lookup(entries: Mapping[str, Entry], kind: str, name: str) -> Entry:
    """Return what a config names; raise a ValueError that lists the known names."""
    if name not in entries:
        raise ValueError(
            f"Unknown {kind}. Expected one of {', '.join(entries)}; register another beside them. "
            f"Received: {kind}={name!r}"
        )
    return entries[name]


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let layers created inside compute in `precision`; also a decorator.

    It is `float32`, or `mixed_bfloat16`: activations in bfloat16, weights in float32.
    """
    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)


class Head(NamedTuple):
    """A way to predict color: from features (N, h, w, F), planes (N, h, w, 2 or 3), about [-1, 1].

    They are Cb and Cr, to be joined with the input's luma, and may be coarser than the picture; or
    R, G and B. The loss is of real signed RGB and color scores.
    """

    planes: Callable[[Any], Any]
    is_chroma: bool
    loss: Callable[[Any, Any], Any] | None = None  # without scores: one on pixels is used


def _chroma(features: Any) -> Any:
    # From zero weights a chroma head starts as plain gray, and learns color from there.
    return _convolve(2, "chroma", kernel_initializer="zeros")(features)


def _rgb(features: Any) -> Any:
    return _convolve(3, "rgb")(features)


def _convolve(count: int, name: str, **options: Any) -> layers.Layer:
    return layers.Conv2D(count, 3, padding="same", activation="tanh", name=name, **options)


def _histogram(features: Any) -> Any:
    return color_bins.likely_color(color_bins.color_scores(features))


HEADS = {
    "chroma": Head(_chroma, is_chroma=True),
    "histogram": Head(_histogram, is_chroma=True, loss=color_bins.cross_entropy),
    "rgb": Head(_rgb, is_chroma=False),
}
"""By the names that `config.HEADS` offers. Luminance is never guessed, except by `rgb`: three free
planes, as in the original notebooks."""


def find_head(name: str) -> Head:
    """Return the head of that name, see `lookup`."""
    return lookup(HEADS, "head", name)


def first_stage(head: str, chroma_stage: int) -> int:
    """Return the stage at which a decoder ends, its features being 1 / 2**stage of the picture."""
    return chroma_stage if find_head(head).is_chroma else 0


@computing_in("float32")
def scale_in(gray: Any) -> Any:
    """Scale levels 0..255 to [-1, 1]; any shape."""
    return layers.Rescaling(1 / HALF_RANGE, offset=-1, name="to_signed")(gray)


@computing_in("float32")
def add_head(head: str, features: Any, signed_gray: Any) -> Any:
    """Turn the features of a decoder into signed RGB, about [-1, 1], unclipped.

    Features (N, h, w, F) may have any size; with gray (N, S, S, C) in [-1, 1], it is (N, S, S, 3).
    """
    found, size = find_head(head), signed_gray.shape[1]
    planes = found.planes(features)
    if planes.shape[1] != size:
        planes = resize(planes, size)
    if not found.is_chroma:
        return planes
    # Gray repeated over three channels has its own value as luma: one formula for C = 1 and C = 3.
    luma = signed_gray[..., :1]
    return ops.matmul(layers.Concatenate(name="y_cb_cr")([luma, planes]), YCBCR_TO_RGB)


@computing_in("float32")
def build_colorizer(generator: keras.Model) -> keras.Model:
    """Wrap a generator of signed RGB as the contract wants it: RGB levels, clipped last.

    The model shares its weights, and maps float32 (N, S, S, C) to (N, S, S, 3), RGB, both 0..255.
    """
    levels = layers.Rescaling(HALF_RANGE, offset=HALF_RANGE, name="to_levels")(generator.output)
    clipped = layers.ReLU(max_value=MAX_LEVEL, name="clip")(levels)
    return keras.Model(generator.input, clipped, name="colorizer")


def build_scorer(generator: keras.Model) -> keras.Model:
    """Return the model from a generator's input to its color scores, see `color_bins`."""
    return keras.Model(generator.input, generator.get_layer(color_bins.SCORES).output)


class Uncertainty(layers.Layer):
    """From color scores (N, h, w, 169) to how unsure they are (N, size, size, 1), 0..1.

    A layer, since plain operations may get names that a loaded network uses already.
    """

    def __init__(self, size: int) -> None:
        super().__init__(dtype="float32")
        self.size = size

    def call(self, scores: Any) -> Any:
        """Return their entropy, see `color_bins.entropy`."""
        return resize(color_bins.entropy(scores), self.size)


def find_uncertainty(colorizer: keras.Model) -> Any:
    """Return the tensor (N, S, S, 1) of how unsure a colorizer is, or None without color scores."""
    if color_bins.SCORES not in [layer.name for layer in colorizer.layers]:
        return None
    return Uncertainty(colorizer.output.shape[1])(colorizer.get_layer(color_bins.SCORES).output)
