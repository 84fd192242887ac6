"""Foreign Keras files: rebuilt from an inspected config, so that none of their code runs.

Keras's own `safe_mode` is not enough: it is ignored for `.h5` files (CVE-2025-9905).
"""

import importlib
import itertools
import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from colorization.data.watch import TooLargeError
from colorization.errors import InputError
from colorization.weights import file_size, footprint, keras_2
from colorization.weights.download import format_of

# Layers that only compute on tensors. Not among them: those that hold code (Lambda), load other
# files (TFSMLayer, StringLookup) or wrap another framework (TorchModuleWrapper).
LAYERS = frozenset(
    """
    InputLayer Activation ReLU LeakyReLU PReLU ELU Softmax Identity Rescaling
    Conv2D Conv2DTranspose SeparableConv2D DepthwiseConv2D Dense
    MaxPooling2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D
    BatchNormalization LayerNormalization GroupNormalization UnitNormalization
    SpectralNormalization
    Dropout SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise ActivityRegularization
    Add Subtract Multiply Average Maximum Minimum Concatenate
    UpSampling2D ZeroPadding2D Cropping2D Resizing CenterCrop Flatten Reshape Permute RepeatVector
    Attention AdditiveAttention MultiHeadAttention
    """.split()
)
_FUNCTIONAL = {
    "module": "keras.src.models.functional",
    "class_name": "Functional",
    "registered_name": "Functional",
}
MODELS: dict[str, dict] = {
    "Functional": _FUNCTIONAL,
    "Model": _FUNCTIONAL,
    "Sequential": {"module": "keras", "class_name": "Sequential", "registered_name": None},
}
# `x * 2` and the like between layers. Of `image` only `Resize`: other operations compute kernels of
# any size from their config, as `Normalization` does with its mean.
OPERATIONS = r"keras\.src\.ops\.(numpy\.\w+|nn\.\w+|image\.Resize)"
VALUES = frozenset("__keras_tensor__ __tensor__ __numpy__ __slice__ __ellipsis__ __tuple__".split())
# Of no use for inference.
TRAINING_ONLY = re.compile("(_initializer|_regularizer|_constraint|compile_config)$")
WITHOUT_GROUPS = ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D")


def load(path: Path) -> keras.Model:
    """Load a whole Keras model of stock layers for inference, not compiled.

    The file is `.keras` or legacy `.h5`, of Keras 2 or 3, whatever its name. Its config may hold
    only what is on a list. The model is built from it in safe mode, and its weights get no memory
    until the model's size is known.

    Raises:
        ValueError: it is no whole model, or not of stock layers alone, or too large, or Keras
            cannot read it.
    """
    suffix = format_of(path)
    try:
        config = keras_2.rewrite(_read_config(path, suffix))
        if config.get("class_name") not in MODELS:
            raise _foreign(config, path)
        config = _stock(config, path)
    except (InputError, TooLargeError):
        raise
    except Exception as error:  # of many classes, since a config may hold anything
        raise ValueError(
            "The file holds no network. Expected a whole model, as `model.save` writes it, and not "
            f"weights alone (`save_weights`). Received: {path}: {_first_line(error)}"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = _copy_weights(path, suffix, Path(folder))
            network = _build(config, file_size.count_weights(weights, whole=path))
            network.load_weights(weights)
            return network
        except TooLargeError:
            raise
        except Exception as error:  # Keras raises errors of many classes for what it cannot read
            raise ValueError(
                "Keras cannot read the network, although its layers are known. Expected a file "
                f"that Keras {keras.__version__} reads. Received: {path}: {_first_line(error)}"
            ) from error


def _stock(node: Any, path: Path) -> Any:
    """Return a config as Keras 3 writes it, of stock Keras only, or raise an InputError."""
    if isinstance(node, list):
        return [_stock(each, path) for each in node]
    if not isinstance(node, dict):
        return node
    identity = _identity(node, path) if "class_name" in node else {}
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key == "dtype" and isinstance(value, dict):
            kept[key] = "float32"  # instead of a policy of mixed precision
        elif not TRAINING_ONLY.search(key):
            kept[key] = _stock(value, path)
    if identity and isinstance(kept.get("config"), dict):
        _modernize(node["class_name"], kept["config"])
    return kept | identity


def _modernize(layer: str, config: dict) -> None:
    """Change in place what Keras 2 wrote and Keras 3 does not accept."""
    if layer in WITHOUT_GROUPS and config.get("groups") == 1:
        del config["groups"]
    if layer == "BatchNormalization" and isinstance(axis := config.get("axis"), list):
        config["axis"] = axis[0] if len(axis) == 1 else axis
    if layer == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    within = config["layers"] if layer in MODELS else []
    calls = [call for each in within for call in each.get("inbound_nodes", ())]
    if any(isinstance(call, list) for call in calls):  # Keras 3 writes dictionaries
        nested = {each["name"] for each in within if each["class_name"] == "Sequential"}
        for each in within:
            each["inbound_nodes"] = _renumbered(each["inbound_nodes"], nested)
        config["output_layers"] = _renumbered(config["output_layers"], nested)
        for ends in ("input_layers", "output_layers"):
            if len(config[ends]) == 1:  # or the network warns that it expected a list of one
                (config[ends],) = config[ends]


def _renumbered(node: Any, nested: set[str]) -> Any:
    """Count calls of nested Sequentials from 0: in Keras 2, building one counted as a call."""
    if isinstance(node, dict):
        return {key: _renumbered(value, nested) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    if len(node) >= 3 and isinstance(node[0], str) and node[0] in nested:
        return [node[0], node[1] - 1, *node[2:]]
    return [_renumbered(each, nested) for each in node]


def _identity(node: dict, path: Path) -> dict:
    """Return the entries by which Keras 3 finds a node's class; raise if it is not stock Keras."""
    name, module = node["class_name"], node.get("module") or "keras"
    registered = node.get("registered_name")
    if not isinstance(name, str) or registered not in (None, name):
        raise _foreign(node, path)
    if name in VALUES:
        return {"module": None, "registered_name": None}
    if re.fullmatch(OPERATIONS, f"{module}.{name}"):
        operation = getattr(importlib.import_module(module), name, None)
        if isinstance(operation, type) and issubclass(operation, keras.Operation):
            return {}
    elif str(module).split(".")[0] in ("keras", "tf_keras"):
        if name in MODELS:
            return MODELS[name]
        if name in LAYERS:
            return {"module": "keras.layers", "registered_name": None}
    raise _foreign(node, path)


def _foreign(node: dict, path: Path) -> InputError:
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else config
    return InputError(
        "The network is not made of stock Keras layers alone, and was not loaded, since others can "
        "run code of whoever made the file (a Lambda layer does). Expected layers that only "
        "compute, like Conv2D: build the network of those and save it again. Received: "
        f"{path}: {name!r} of class {node.get('class_name')!r}, module {node.get('module')!r}"
    )


def _read_config(path: Path, suffix: str) -> dict:
    if suffix == ".keras":
        file_size.require_small_zip(path)
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(file_size.CONFIG))
    with h5py.File(path, "r") as file:
        config = file.attrs["model_config"]
    file_size.require_short(len(config))
    return json.loads(config)


def _copy_weights(path: Path, suffix: str, folder: Path) -> Path:
    """Copy the weights to a file with the name that Keras expects; return its path."""
    if suffix == ".h5":
        weights = shutil.copyfile(path, folder / "network.h5")
        with h5py.File(weights, "r+") as file:
            for group in file_size.groups(file):
                names = list(group.attrs.get("weight_names", ()))
                if names != (ordered := _scale_first(names)):
                    group.attrs["weight_names"] = ordered
        return weights
    with zipfile.ZipFile(path) as archive:
        weights = Path(archive.extract(file_size.WEIGHTS, folder))
    with h5py.File(weights, "r+") as file:
        for group in file_size.groups(file):  # whose names come from those of the layers' classes
            for name in group:
                if name.startswith("instance_normalization"):
                    group.move(name, name.replace("instance", "group", 1))
    return weights


def _scale_first(names: list[bytes | str]) -> list[bytes | str]:
    """Return the names of weights with each scale before its offset, as Keras normalizes."""
    texts = [each.decode() if isinstance(each, bytes) else each for each in names]
    lasts, sorted_names = [re.sub(r".*/|:\d+", "", each) for each in texts], list(names)
    for index, pair in enumerate(itertools.pairwise(lasts)):
        if pair[0] in ("beta", "offset", "shift", "bias") and pair[1] in ("gamma", "scale"):
            sorted_names[index : index + 2] = names[index + 1], names[index]
    return sorted_names


def _build(config: dict, stored: int) -> keras.Model:
    """Build a model from an inspected config whose file holds `stored` numbers."""
    footprint.require_few_layers(config)
    try:
        # Inside, variables have shapes but no values; they get them at its end, unless it raises.
        with keras.StatelessScope(initialize_variables=False) as scope:
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
            footprint.require_small(network, stored)
            scope.initialize_variables = True
    except BaseException:
        keras.utils.clear_session()  # or the next model would give these variables values
        raise
    return network


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
