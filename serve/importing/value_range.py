"""How the numbers of a network of others are to be read: its shapes, and its ranges by a probe."""

from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from colorization import color
from colorization.models.export import in_parts

RANGES = {"0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0)}
PROBED = 16  # pictures
FAR_OUT = 1000  # times the range: where only a last layer that holds its range stays in it
SLACK = 1e-3  # of what a layer that holds its range may leave it, by rounding
FREE_RATIO = 2  # see `_choose_output`


class Reading(NamedTuple):
    """The ranges of a network, keys of `RANGES`, and how far its luma is off in that reading.

    `luma_error` is the mean absolute difference to the input's, in levels of 255.
    """

    input: str
    output: str
    luma_error: float


def require_shapes(network, size, channels):
    """Return the network with one plain input and output, if they have a colorizer's shapes.

    Raises:
        ValueError: its input is not (N, size, size, channels) or its output not (N, size, size, 3).
    """
    ends = [getattr(network, name, None) or [] for name in ("inputs", "outputs")]
    shapes = [[tuple(tensor.shape[1:]) for tensor in end] for end in ends]
    expected = (size, size, channels), (size, size, 3)
    if [len(end) for end in shapes] == [1, 1] and all(
        len(shape) == 3 and all(a in (None, b) for a, b in zip(shape, wanted, strict=True))
        for (shape,), wanted in zip(shapes, expected, strict=True)
    ):
        gray = keras.Input((size, size, channels))  # networks of any size are served in this one
        (rgb,) = keras.tree.flatten(network(gray))  # it may give a list of one
        return keras.Model(gray, rgb)
    raise ValueError(
        f"The network is of another shape. Expected {expected[0]} in and {expected[1]} out: gray "
        f"is 1 channel in the naive family, 3 equal ones in pix2pix. Received: {shapes[0]} in and "
        f"{shapes[1]} out"
    )


def probe(network, images):
    """Find out the ranges of a network's input and output by what it makes of real pictures.

    What it gives for numbers far out of any range shows whether its last layer holds a range, as
    a sigmoid and a tanh do. Then the same grays are given in each range; luma follows the input
    best where they are given as in training.

    Args:
        network: of `require_shapes`, gray (N, S, S, C) to RGB (N, S, S, 3).
        images: RGB levels, uint8 (N, S, S, 3); a few are enough.

    Returns:
        A `Reading`.

    Raises:
        ValueError: luma follows the input in no reading, or no better than one even gray would.
    """
    gray = color.gray_input(images[:PROBED], network.input_shape[-1])
    signed = color.to_signed(gray)
    outputs = {name: _run(network, _from_levels(gray, *RANGES[name])) for name in RANGES}
    readings = {}
    for output in _possible_outputs(_run(network, FAR_OUT * signed)):
        errors = {name: _luma_error(gray, found, output) for name, found in outputs.items()}
        best = min(errors, key=errors.get)
        readings[output] = Reading(best, output, errors[best])
    reading = _choose_output(readings)
    even = float(np.abs(gray - gray.mean(axis=(1, 2, 3), keepdims=True)).mean())
    if not reading.luma_error < even:
        raise ValueError(
            "The network does not color pictures. Expected one whose brightness follows its "
            f"input's, in and out being 0..1, -1..1 or 0..255. Received: {reading.luma_error:.0f} "
            f"levels of difference at best, where one even gray has {even:.0f}"
        )
    return reading


def as_colorizer(network, reading):
    """Wrap a network as the contract wants it, see `heads.build_colorizer`, in stock layers.

    Returns:
        A `keras.Model`: float32 (N, S, S, C), 0..255, to float32 (N, S, S, 3), RGB, 0..255.
    """
    (low, high), (out_low, out_high) = RANGES[reading.input], RANGES[reading.output]
    gray = keras.Input(network.input_shape[1:], name="gray")
    step = (high - low) / color.MAX_LEVEL
    rgb = network(layers.Rescaling(step, offset=low, name="from_levels")(gray))
    scale = color.MAX_LEVEL / (out_high - out_low)
    levels = layers.Rescaling(scale, offset=-out_low * scale, name="to_levels")(rgb)
    clipped = layers.ReLU(max_value=color.MAX_LEVEL, name="clip")(levels)
    return keras.Model(gray, clipped, name="colorizer")


def _run(network, batch):
    return np.asarray(in_parts(network, batch.astype("float32")), "float32")


def _from_levels(levels, low, high):
    return low + levels * ((high - low) / color.MAX_LEVEL)


def _possible_outputs(far_out):
    """Return the range that the last layer holds, or those that a free one may have."""
    lowest, highest = far_out.min(), far_out.max()
    for name in ("0..1", "-1..1", "0..255"):  # each within the next, but for the last
        low, high = RANGES[name]
        if low - SLACK <= lowest and highest <= high + SLACK:
            return [name]
    return ["-1..1", "0..1"]


def _luma_error(gray, found, output):
    low, high = RANGES[output]
    levels = (found - low) * (color.MAX_LEVEL / (high - low))
    error = float(np.abs(levels @ color.LUMA - gray[..., 0]).mean())
    return error if np.isfinite(error) else np.inf


def _choose_output(readings):
    """Choose between the ranges of a free output.

    A network of -1..1 follows in the half range 0..1 as well, and may do so a little better; one
    of 0..1 is far off where it is given negative numbers.
    """
    first, *others = readings.values()
    best = min(others, key=lambda each: each.luma_error, default=first)
    return first if first.luma_error <= FREE_RATIO * best.luma_error else best
