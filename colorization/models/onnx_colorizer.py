"""A trained colorizer as ONNX Runtime computes it, without Keras and TensorFlow."""

from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from colorization import color, limits
from colorization.pictures.uncertainty import predict_uncertainty


class OnnxColorizer:
    """The function that a file of `export_onnx` holds, from gray levels to RGB levels.

    Both are float32 arrays, (N, S, S, channels) and (N, S, S, 3); N is unlimited, taken in batches.
    Pictures of another size are colored as they are served: a copy of the network's size gives the
    chroma, which is laid on the picture's own luma.
    """

    def __init__(self, path: str | Path, batch_size: int = limits.ONNX_AT_ONCE) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (entry,) = self.session.get_inputs()
        self.name, self.batch_size = entry.name, batch_size
        _, self.size, _, self.channels = entry.shape

    def __call__(self, grays: np.ndarray) -> np.ndarray:
        """Color pictures."""
        return np.concatenate([self._color(part) for part in batches(grays, self.batch_size)])

    def uncertainty(self, grays: np.ndarray) -> np.ndarray:
        """Return how unsure it is of each color, (N, S, S, 1), see `predict_uncertainty`."""
        parts = batches(self._fitted(grays), self.batch_size)
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


def batches(pictures: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the parts of an array, of `size` pictures at most."""
    return np.split(pictures, range(size, len(pictures), size))
