"""The input and output of an imported network: its shapes, and its value ranges by a probe."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from skimage.color import rgb2lab, xyz_tristimulus_values
from skimage.color.colorconv import rgb_from_xyz

from colorization import color
from colorization.color import MAX_LEVEL
from colorization.config import Config
from colorization.errors import InputError
from colorization.models.export import in_parts

RANGES = {"0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0)}
# Of networks from L* to a* and b*: the range that stands for L* 0..100, and what 0 and 1 of the
# output stand for. OpenCV's 8 bits have 255 for L* 100, and 128 for a* or b* 0.
LIGHTNESS = {
    "L 0..100": (0.0, 100.0),
    "L 0..1": (0.0, 1.0),
    "L -1..1": (-1.0, 1.0),
    "L 0..255": (0.0, 255.0),
}
A_B = {
    "ab/128": (0.0, 128.0),
    "ab 0..1": (-128.0, 127.0),
    "ab": (0.0, 1.0),
    "ab + 128": (-128.0, -127.0),
}
# CIE L*a*b* of sRGB (IEC 61966-2-1), in the numbers of `skimage.color`, with which most networks of
# a and b were trained.
WHITE = xyz_tristimulus_values(illuminant="D65", observer="2", dtype="float32")
XYZ_TO_RGB = rgb_from_xyz.T.astype("float32")
PROBED = 16  # pictures
FAR_OUT = 1000  # times the range; only a last layer with a bounded range, as sigmoid, stays in it
SLACK = 1e-3  # a bounded layer may exceed its range by this much, from rounding
FREE_RATIO = 2  # a -1..1 network, and stored statistics, may be so many times as far off
MOST_SCALED = 2  # a or b of a picture go beyond it, but not divided by 128
WORST_A_B = 2  # times as far from the real colors as gray is: no network that learnt colors

Run = Callable[[np.ndarray], np.ndarray]


class ValueRange(NamedTuple):
    """The ranges of a network's input and output, keys of `RANGES`, or of `LIGHTNESS` and `A_B`.

    `luma_error` is the mean absolute difference of the luma of both, in levels of 255.
    """

    input: str
    output: str
    luma_error: float


Found = tuple[ValueRange, float, float]  # and an error, and the one from which on it is refused


def require_shapes(network: Any, size: int, channels: int) -> keras.Model:
    """Return the network with one input and one output, if they have a colorizer's shapes.

    A network of any size is fixed to `size`, in pixels.

    Raises:
        InputError: its input is not (N, S, S, channels), its output not (N, S, S, 3) or, for a* and
            b*, (N, S, S, 2), or S is out of range.
    """
    ends = [getattr(network, name, None) or [] for name in ("inputs", "outputs")]
    shapes = [[tuple(tensor.shape[1:]) for tensor in end] for end in ends]
    bounds = Config.__dataclass_fields__["size"].metadata
    if [len(end) for end in shapes] == [1, 1] and all(len(shape) == 3 for (shape,) in shapes):
        size = shapes[0][0][0] or size
        known = [size, size, channels]
        gray = keras.Input(known)
        fits = all(a in (None, b) for a, b in zip(shapes[0][0], known, strict=True))
        if fits and bounds["low"] <= size <= bounds["high"]:
            (colors,) = keras.tree.flatten(network(gray))  # it may return a list of one
            if colors.shape[1:] in ((size, size, 2), (size, size, 3)):
                return keras.Model(gray, colors)
    raise InputError(
        f"The network is of another shape. Expected (S, S, {channels}) in and (S, S, 3) out, or "
        f"(S, S, 2) for a and b of Lab, with S from {bounds['low']} to {bounds['high']}: gray is 1 "
        f"channel in the naive family, 3 equal ones in pix2pix. Received: {shapes[0]} in and "
        f"{shapes[1]} out"
    )


def probe(network: keras.Model, images: np.ndarray) -> ValueRange:
    """Find the value ranges of a network by coloring a few pictures.

    Its output for numbers far out of any range shows whether the last layer is bounded, as sigmoid
    and tanh are. Then the same grays are given in each range: in the range of its training, the
    luma of the output follows the input best, or a and b come nearest to the real ones.

    Args:
        network: of `require_shapes`, gray (N, S, S, C) to RGB (N, S, S, 3) or a, b (N, S, S, 2).
        images: RGB levels, uint8 (N, S, S, 3); a few are enough.

    Raises:
        InputError: in no range does luma follow the input better than one even gray would, or the
            colors are farther off than gray; or the network needs the statistics of a batch.
    """
    images, find = images[:PROBED], _find_a_b if network.output_shape[-1] == 2 else _find_rgb
    unit = "of a and b" if find is _find_a_b else "levels of luma"
    found, error, limit = find(network, images, lambda batch: _run(network, batch))
    if any(isinstance(each, layers.BatchNormalization) for each in network._flatten_layers()):
        weights = network.get_weights()  # a call in training moves the statistics
        _, helped, _ = find(network, images, lambda batch: _run_training(network, batch))
        network.set_weights(weights)
        works_as_stored = error * FREE_RATIO < limit
        works_with_batch = helped < min(limit, error / FREE_RATIO)
        if works_with_batch and not works_as_stored:
            raise InputError(
                "The network only works with batch statistics (`training=True`): those that its "
                "BatchNormalization layers have stored do not fit. Expected one that colors with "
                "`training=False`, since a picture's colors must not depend on others: train it on "
                "with a smaller momentum, or use InstanceNormalization instead. Received: "
                f"a difference of {error:.0f} {unit}, with batch statistics {helped:.0f}"
            )
    if not error < limit:
        raise InputError(
            "The network does not color pictures. Expected RGB whose brightness follows its "
            "input's, in and out being 0..1, -1..1 or 0..255, or a and b of Lab from lightness. "
            f"Received: a difference of {error:.0f} {unit} at best; below {limit:.0f} is expected"
        )
    return found


def _find_rgb(network: keras.Model, images: np.ndarray, run: Run) -> Found:
    """Find the ranges of a network of RGB by its luma; uniform gray is the limit."""
    gray = color.gray_input(images, network.input_shape[-1])
    outputs = {}
    for name, (low, high) in RANGES.items():
        outputs[name] = run(low + gray * ((high - low) / MAX_LEVEL))
    ranges = []
    for output in _possible_outputs(run(FAR_OUT * color.to_signed(gray))):
        errors = {name: _luma_error(gray, values, output) for name, values in outputs.items()}
        best = min(errors, key=errors.__getitem__)
        ranges.append(ValueRange(best, output, errors[best]))
    # The luma of a -1..1 network also follows its input in the half range 0..1, at times a little
    # better. A 0..1 network is far off where its input is negative.
    found = min(ranges, key=lambda each: each.luma_error)
    if ranges[0].luma_error <= FREE_RATIO * found.luma_error:
        found = ranges[0]
    even = float(np.abs(gray - gray.mean(axis=(1, 2, 3), keepdims=True)).mean())
    return found, found.luma_error, even


def _find_a_b(network: keras.Model, images: np.ndarray, run: Run) -> Found:
    """Find the ranges of a network of a and b by the real ones; gray's distance is the measure."""
    gray = color.gray_input(images, 1)
    light, real = np.asarray(lightness(gray)), rgb2lab(images)[..., 1:]
    repeated = light.repeat(network.input_shape[-1], axis=-1)
    possible = _possible_a_b(run(FAR_OUT * (repeated / 50 - 1)))
    errors, planes = {}, {}
    for name, (low, high) in LIGHTNESS.items():
        values = run(low + repeated * ((high - low) / 100))
        for output in possible:
            zero, one = A_B[output]
            if output == "ab" and np.abs(values).max() <= MOST_SCALED:
                continue
            planes[name, output] = zero + values * (one - zero)
            errors[name, output] = _distance(planes[name, output], real)
    best = min(errors, key=errors.__getitem__)
    colored = np.asarray(to_levels(light, planes[best].astype("float32")))
    luma_error = float(np.abs(colored @ color.LUMA - gray[..., 0]).mean())
    return ValueRange(*best, luma_error), errors[best], WORST_A_B * _distance(0 * real, real)


def _distance(found: np.ndarray, real: np.ndarray) -> float:
    distance = float(np.sqrt(((found - real) ** 2).sum(axis=-1)).mean())
    return distance if np.isfinite(distance) else np.inf


def _possible_a_b(far_out: np.ndarray) -> list[str]:
    """Return the range of a bounded last layer, or those that an unbounded one may have."""
    lowest, highest = far_out.min(), far_out.max()
    if -1 - SLACK <= lowest and highest <= 1 + SLACK:
        return ["ab/128"] if lowest < -SLACK else ["ab 0..1"]
    return ["ab/128", "ab", "ab + 128"]


def as_colorizer(network: keras.Model, found: ValueRange) -> keras.Model:
    """Wrap a network into the contract of a colorizer, by stock layers that rescale.

    Returns:
        A network of float32 (N, S, S, C), 0..255, to float32 (N, S, S, 3), RGB, 0..255.
    """
    gray = keras.Input(network.input_shape[1:], name="gray")
    if found.output in A_B:  # on the input's own lightness
        (low, high), (zero, one) = LIGHTNESS[found.input], A_B[found.output]
        light = lightness(gray)
        scaled = layers.Rescaling((high - low) / 100, offset=low, name="from_lightness")(light)
        a_b = layers.Rescaling(one - zero, offset=zero, name="to_a_b")(network(scaled))
        levels = to_levels(light[..., :1], a_b)
    else:
        (low, high), (out_low, out_high) = RANGES[found.input], RANGES[found.output]
        step, scale = (high - low) / MAX_LEVEL, MAX_LEVEL / (out_high - out_low)
        rgb = network(layers.Rescaling(step, offset=low, name="from_levels")(gray))
        levels = layers.Rescaling(scale, offset=-out_low * scale, name="to_levels")(rgb)
    clipped = layers.ReLU(max_value=MAX_LEVEL, name="clip")(levels)
    return keras.Model(gray, clipped, name="colorizer")


def _run(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    return np.asarray(in_parts(network, batch.astype("float32")), "float32")


def _run_training(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    parts = [network(part[None].astype("float32"), training=True) for part in batch]
    return np.concatenate([np.asarray(part, "float32") for part in parts])


def _possible_outputs(far_out: np.ndarray) -> list[str]:
    """Return the range of a bounded last layer, or those that an unbounded one may have."""
    lowest, highest = far_out.min(), far_out.max()
    for name in ("0..1", "-1..1", "0..255"):  # from the narrowest to the widest
        low, high = RANGES[name]
        if low - SLACK <= lowest and highest <= high + SLACK:
            return [name]
    return ["-1..1", "0..1", "0..255"]


def _luma_error(gray: np.ndarray, found: np.ndarray, output: str) -> float:
    low, high = RANGES[output]
    levels = (found - low) * (MAX_LEVEL / (high - low))
    error = float(np.abs(levels @ color.LUMA - gray[..., 0]).mean())
    return error if np.isfinite(error) else np.inf


def lightness(gray: Any) -> Any:
    """Return L*, 0..100, of gray levels 0..255 of any shape."""
    signal = gray / MAX_LEVEL
    linear = ops.where(signal > 0.04045, ((signal + 0.055) / 1.055) ** 2.4, signal / 12.92)
    root = ops.where(linear > 0.008856, linear ** (1 / 3), 7.787 * linear + 16 / 116)
    return 116 * root - 16


def to_levels(light: Any, a_b: Any) -> Any:
    """Join L* (..., 1) and a*, b* (..., 2) to RGB levels (..., 3), not clipped above 255."""
    y = (light + 16) / 116
    roots = ops.concatenate([y + a_b[..., :1] / 500, y, y - a_b[..., 1:] / 200], axis=-1)
    xyz = ops.where(roots > 0.2068966, roots**3, (roots - 16 / 116) / 7.787) * WHITE
    linear = ops.maximum(ops.matmul(xyz, XYZ_TO_RGB), 0.0)
    signal = ops.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return signal * MAX_LEVEL
