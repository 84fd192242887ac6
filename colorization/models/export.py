"""A trained colorizer as ONNX, checked against Keras before anyone relies on it."""

import logging
import warnings
from pathlib import Path

import keras
import numpy as np
import onnx

from colorization import limits
from colorization.models.heads import find_uncertainty
from colorization.models.onnx_colorizer import OnnxColorizer, batches
from colorization.pictures.uncertainty import OUTPUT

TOLERANCE = 0.05  # levels of 255, between ONNX Runtime and Keras

logger = logging.getLogger(__name__)


def export_onnx(colorizer: keras.Model, path: str | Path, grays: np.ndarray) -> float:
    """Write a colorizer as ONNX, compare both, and return the largest difference, in levels of 255.

    With color scores, the file has a second output, `uncertainty`, see `color_bins.entropy`. The
    pictures to compare on are float32 (N, S, S, C), levels 0..255.

    Raises:
        ValueError: the two differ by more than `TOLERANCE`.
    """
    expected = in_parts(colorizer, grays)
    uncertainty = find_uncertainty(colorizer)
    if uncertainty is not None:
        colorizer = keras.Model(colorizer.input, [colorizer.output, uncertainty])
        colorizer(grays[:1])  # Keras exports what was called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # keras 3.15 asks NumPy for `np.object`
        colorizer.export(path, format="onnx", verbose=False)
    if uncertainty is not None:  # Keras names outputs by their number
        model = onnx.load(path)
        output = model.graph.output[1]
        (node,) = (each for each in model.graph.node if output.name in each.output)
        node.output[list(node.output).index(output.name)] = output.name = OUTPUT
        onnx.save(model, path)
    difference = float(np.abs(OnnxColorizer(path)(grays) - expected).max())
    logger.debug("ONNX agrees with Keras to %.2g levels of 255", difference)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The exported model is not the trained one. Expected outputs within {TOLERANCE} "
            f"levels of Keras's. Received: difference={difference}"
        )
    return difference


def in_parts(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Return a Keras model's output for a batch, run a few pictures at a time to bound memory."""
    parts = batches(batch, limits.KERAS_AT_ONCE)
    return np.concatenate([np.asarray(network(part, training=False)) for part in parts])
