"""A trained colorizer as ONNX, checked against Keras before anyone relies on it."""

import logging
import warnings

import numpy as np
import onnxruntime

from colorization import limits

TOLERANCE = 0.05  # levels of 255, between ONNX Runtime and Keras

logger = logging.getLogger(__name__)


def export_onnx(colorizer, path, grays):
    """Write a colorizer to `path` as ONNX and compare both on real pictures.

    Args:
        colorizer: `keras.Model` of the contract, see `heads.build_colorizer`.
        path: file to write, ending in `.onnx`.
        grays: float32 (N, S, S, C), levels 0..255, for the comparison.

    Returns:
        The largest difference found, in levels of 255.

    Raises:
        ValueError: the two differ by more than `TOLERANCE`.
    """
    expected = in_parts(colorizer, grays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # keras 3.15 asks NumPy for `np.object`
        colorizer.export(path, format="onnx", verbose=False)
    difference = float(np.abs(load_onnx(path)(grays) - expected).max())
    logger.info("ONNX agrees with Keras to %.2g levels of 255", difference)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The exported model is not the trained one. Expected outputs within {TOLERANCE} "
            f"levels of Keras's. Received: difference={difference}"
        )
    return difference


def in_parts(network, batch):
    """Return what a Keras model makes of a batch, a few pictures at a time: memory is bounded."""
    step = limits.KERAS_AT_ONCE
    parts = np.split(batch, range(step, len(batch), step))
    return np.concatenate([np.asarray(network(part, training=False)) for part in parts])


def load_onnx(path, batch_size=limits.ONNX_AT_ONCE):
    """Return the function that a file of `export_onnx` holds: gray levels in, RGB levels out.

    Both are float32 arrays, (N, S, S, C) and (N, S, S, 3); N is unlimited, taken in batches.
    The function's attribute `channels` is C.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    name = entry.name

    def colorize(grays):
        starts = range(0, len(grays), batch_size)
        batches = (grays[start : start + batch_size] for start in starts)
        return np.concatenate([session.run(None, {name: batch})[0] for batch in batches])

    colorize.channels = entry.shape[-1]
    return colorize
