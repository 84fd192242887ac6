"""A trained colorizer as ONNX, checked against Keras before anyone relies on it."""

import logging
import warnings
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
from PIL import Image

from colorization import color, limits
from colorization.models.heads import find_uncertainty
from colorization.pictures.uncertainty import OUTPUT, predict_uncertainty

TOLERANCE = 0.05  # levels of 255, between ONNX Runtime and Keras

logger = logging.getLogger(__name__)


class OnnxColorizer:
    """The function that a file of `export_onnx` holds, from gray levels to RGB levels.

    Both are float32 arrays, (N, S, S, channels) and (N, S, S, 3); N is unlimited, taken in batches.
    Pictures of another size are colored as they are served: a copy of the network's size gives the
    chroma, which is laid on the picture's own luma.
    """

    def __init__(self, path: str | Path, batch_size: int) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (entry,) = self.session.get_inputs()
        self.name, self.batch_size = entry.name, batch_size
        _, self.size, _, self.channels = entry.shape

    def __call__(self, grays: np.ndarray) -> np.ndarray:
        """Color pictures."""
        return np.concatenate([self._color(part) for part in split(grays, self.batch_size)])

    def uncertainty(self, grays: np.ndarray) -> np.ndarray:
        """Return how unsure it is of each color, (N, S, S, 1), see `predict_uncertainty`."""
        parts = split(self._fitted(grays), self.batch_size)
        unsure = np.concatenate([predict_uncertainty(self.session, part) for part in parts])
        return _resized(unsure, grays.shape[1], Image.Resampling.BILINEAR)

    def _color(self, grays: np.ndarray) -> np.ndarray:
        size = grays.shape[1]
        colored = self.session.run(None, {self.name: self._fitted(grays)})[0]
        if size == self.size:
            return colored
        chroma = _resized(color.chroma(colored), size, Image.Resampling.BILINEAR)
        return color.join(grays[..., :1], chroma).astype("float32")

    def _fitted(self, grays: np.ndarray) -> np.ndarray:
        """Return pictures at the network's size."""
        if grays.shape[1] == self.size:
            return grays
        small = np.round(_resized(grays[..., :1], self.size, Image.Resampling.LANCZOS))
        return np.clip(small, 0, color.MAX_LEVEL).repeat(self.channels, axis=-1)


def _resized(planes: np.ndarray, size: int, resampling: Image.Resampling) -> np.ndarray:
    """Resize float32 (N, S, S, C) to (N, size, size, C)."""
    resized = [
        Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), resampling)
        for plane in np.moveaxis(planes, -1, 1).reshape(-1, *planes.shape[1:3])
    ]
    stacked = np.stack([np.asarray(each) for each in resized])
    return np.moveaxis(stacked.reshape(len(planes), -1, size, size), 1, -1)


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
    difference = float(np.abs(load_onnx(path)(grays) - expected).max())
    logger.debug("ONNX agrees with Keras to %.2g levels of 255", difference)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The exported model is not the trained one. Expected outputs within {TOLERANCE} "
            f"levels of Keras's. Received: difference={difference}"
        )
    return difference


def load_onnx(path: str | Path, batch_size: int = limits.ONNX_AT_ONCE) -> OnnxColorizer:
    """Return the function that a file of `export_onnx` holds."""
    return OnnxColorizer(path, batch_size)


def in_parts(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Return a Keras model's output for a batch, run a few pictures at a time to bound memory."""
    parts = split(batch, limits.KERAS_AT_ONCE)
    return np.concatenate([np.asarray(network(part, training=False)) for part in parts])


def split(batch: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the parts of a batch, of `size` pictures at most."""
    return np.split(batch, range(size, len(batch), size))
