"""The input and output of an imported network: its shapes, and its value ranges by a probe."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from colorization import color
from colorization.errors import InputError
from colorization.models.export import in_parts

RANGES = {"0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0)}
PROBED = 16  # pictures
FAR_OUT = 1000  # times the range; only a last layer with a bounded range, as sigmoid, stays in it
SLACK = 1e-3  # a bounded layer may exceed its range by this much, from rounding
FREE_RATIO = 2  # see `_choose_output`


class ValueRange(NamedTuple):
    """The ranges of a network's input and output, keys of `RANGES`.

    `luma_error` is the mean absolute difference of the luma of both, in levels of 255.
    """

    input: str
    output: str
    luma_error: float


def require_shapes(network: Any, size: int, channels: int) -> keras.Model:
    """Return the network with one input and one output, if they have a colorizer's shapes.

    Raises:
        InputError: its input is not (N, size, size, channels) or its output not (N, size, size, 3).
    """
    ends = [getattr(network, name, None) or [] for name in ("inputs", "outputs")]
    shapes = [[tuple(tensor.shape[1:]) for tensor in end] for end in ends]
    expected = (size, size, channels), (size, size, 3)
    if [len(end) for end in shapes] == [1, 1] and all(
        len(shape) == 3 and all(a in (None, b) for a, b in zip(shape, wanted, strict=True))
        for (shape,), wanted in zip(shapes, expected, strict=True)
    ):
        gray = keras.Input((size, size, channels))  # fixes the size of a network of any size
        (rgb,) = keras.tree.flatten(network(gray))  # the network may return a list of one
        return keras.Model(gray, rgb)
    raise InputError(
        f"The network is of another shape. Expected {expected[0]} in and {expected[1]} out: gray "
        f"is 1 channel in the naive family, 3 equal ones in pix2pix. Received: {shapes[0]} in and "
        f"{shapes[1]} out"
    )


def probe(network: keras.Model, images: np.ndarray) -> ValueRange:
    """Find the value ranges of a network by coloring a few pictures.

    Its output for numbers far out of any range shows whether the last layer is bounded, as sigmoid
    and tanh are. Then the same grays are given in each range: in the range of its training, the
    luma of the output follows the input best.

    Args:
        network: of `require_shapes`, gray (N, S, S, C) to RGB (N, S, S, 3).
        images: RGB levels, uint8 (N, S, S, 3); a few are enough.

    Raises:
        InputError: in no range does luma follow the input better than one even gray would.
    """
    gray = color.gray_input(images[:PROBED], network.input_shape[-1])
    outputs = {name: _run(network, _from_levels(gray, *RANGES[name])) for name in RANGES}
    ranges = {}
    for output in _possible_outputs(_run(network, FAR_OUT * color.to_signed(gray))):
        errors = {name: _luma_error(gray, found, output) for name, found in outputs.items()}
        best = min(errors, key=lambda name: errors[name])
        ranges[output] = ValueRange(best, output, errors[best])
    found = _choose_output(ranges)
    even = float(np.abs(gray - gray.mean(axis=(1, 2, 3), keepdims=True)).mean())
    if not found.luma_error < even:
        raise InputError(
            "The network does not color pictures. Expected one whose brightness follows its "
            f"input's, in and out being 0..1, -1..1 or 0..255. Received: {found.luma_error:.0f} "
            f"levels of difference at best; a uniform gray picture has {even:.0f}"
        )
    return found


def as_colorizer(network: keras.Model, found: ValueRange) -> keras.Model:
    """Wrap a network into the contract of a colorizer, by stock layers that rescale.

    Returns:
        A network of float32 (N, S, S, C), 0..255, to float32 (N, S, S, 3), RGB, 0..255.
    """
    (low, high), (out_low, out_high) = RANGES[found.input], RANGES[found.output]
    gray = keras.Input(network.input_shape[1:], name="gray")
    step = (high - low) / color.MAX_LEVEL
    rgb = network(layers.Rescaling(step, offset=low, name="from_levels")(gray))
    scale = color.MAX_LEVEL / (out_high - out_low)
    levels = layers.Rescaling(scale, offset=-out_low * scale, name="to_levels")(rgb)
    clipped = layers.ReLU(max_value=color.MAX_LEVEL, name="clip")(levels)
    return keras.Model(gray, clipped, name="colorizer")


def _run(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    return np.asarray(in_parts(network, batch.astype("float32")), "float32")


def _from_levels(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + levels * ((high - low) / color.MAX_LEVEL)


def _possible_outputs(far_out: np.ndarray) -> list[str]:
    """Return the range of a bounded last layer, or those that an unbounded one may have."""
    lowest, highest = far_out.min(), far_out.max()
    for name in ("0..1", "-1..1", "0..255"):  # from the narrowest to the widest
        low, high = RANGES[name]
        if low - SLACK <= lowest and highest <= high + SLACK:
            return [name]
    return ["-1..1", "0..1"]


def _luma_error(gray: np.ndarray, found: np.ndarray, output: str) -> float:
    low, high = RANGES[output]
    levels = (found - low) * (color.MAX_LEVEL / (high - low))
    error = float(np.abs(levels @ color.LUMA - gray[..., 0]).mean())
    return error if np.isfinite(error) else np.inf


def _choose_output(ranges: dict[str, ValueRange]) -> ValueRange:
    """Choose between the ranges of an unbounded output.

    The luma of a -1..1 network also follows its input in the half range 0..1, at times a little
    better. A 0..1 network is far off where its input is negative.
    """
    first, *others = ranges.values()
    best = min(others, key=lambda each: each.luma_error, default=first)
    return first if first.luma_error <= FREE_RATIO * best.luma_error else best
