"""Keras files of others: built from what was inspected, so that none of their code runs."""

import importlib
import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras

from colorization.weights import file_size, footprint
from colorization.weights.download import format_of

# Layers that only compute on tensors. Not among them: those that hold code (Lambda), load other
# files (TFSMLayer, StringLookup) or wrap another framework (TorchModuleWrapper).
LAYERS = frozenset(
    """
    InputLayer Activation ReLU LeakyReLU PReLU ELU Softmax Identity Rescaling Normalization
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
_SEQUENTIAL = {"module": "keras", "class_name": "Sequential", "registered_name": None}
MODELS = {"Functional": _FUNCTIONAL, "Model": _FUNCTIONAL, "Sequential": _SEQUENTIAL}
OPERATIONS = r"keras\.src\.ops\.(numpy|nn|image)"  # of `x * 2` and the like between layers
VALUES = frozenset("__keras_tensor__ __tensor__ __numpy__ __slice__ __ellipsis__ __tuple__".split())
# Of no use without training; initial values are overwritten.
TRAINING_ONLY = re.compile("(_initializer|_regularizer|_constraint|compile_config)$")
UNREADABLE = (
    *(KeyError, TypeError, AttributeError, RecursionError, OSError),
    *(json.JSONDecodeError, zipfile.BadZipFile, RuntimeError),
)
WITHOUT_GROUPS = ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D")


def load(path):
    """Load a whole Keras model that is made of stock layers, for inference.

    The file's config is inspected against a list of what is allowed. The model is built from that,
    in safe mode besides, without memory for its weights until it is known how large it is.

    Args:
        path: a `.keras` or legacy `.h5` file, of Keras 2 or 3, whatever its name.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: it is no whole model, or not of stock layers alone, or too large, or Keras
            cannot read it.
    """
    path = Path(path)
    suffix = format_of(path)
    try:
        config = stock(_read_config(path, suffix), path)
    except UNREADABLE as error:
        raise ValueError(
            "The file holds no network. Expected a whole model, as `model.save` writes it, and not "
            f"weights alone (`save_weights`). Received: {path}: {_first_line(error)}"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = _copy_weights(path, suffix, folder)
            network = _build(config, file_size.count_weights(weights, whole=path))
            network.load_weights(weights)
            return network
        except file_size.TooLarge:
            raise
        except Exception as error:  # Keras has no class of its own for what it cannot read
            raise ValueError(
                "Keras cannot read the network, although its layers are known. Expected a file "
                f"that Keras {keras.__version__} reads. Received: {path}: {_first_line(error)}"
            ) from error


def stock(config, path):
    """Return a model's config with nothing in it but stock Keras, as Keras 3 writes it.

    Raises:
        ValueError: a layer, a function or an object in it is not stock Keras.
    """
    if config.get("class_name") not in MODELS:
        raise _foreign(config, path)
    return _stock(config, path)


def _stock(node, path):
    if isinstance(node, list):
        return [_stock(each, path) for each in node]
    if not isinstance(node, dict):
        return node
    identity = _identity(node, path) if "class_name" in node else {}
    kept = {}
    for key, value in node.items():
        if key == "dtype" and isinstance(value, dict):
            kept[key] = "float32"  # a policy of mixed precision, of use on GPUs
        elif not TRAINING_ONLY.search(key):
            kept[key] = _stock(value, path)
    if identity and isinstance(kept.get("config"), dict):
        _modernize(node["class_name"], kept["config"])
    return kept | identity


def _modernize(layer, config):
    """Change, in place, what Keras 2 wrote and Keras 3 no longer takes."""
    if layer in WITHOUT_GROUPS and config.get("groups") == 1:
        del config["groups"]
    if layer == "BatchNormalization" and isinstance(config.get("axis"), list):
        (config["axis"],) = config["axis"]
    if layer == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if layer in MODELS and _of_keras_2(config):
        nested = {each["name"] for each in config["layers"] if each["class_name"] == "Sequential"}
        for each in config["layers"]:
            each["inbound_nodes"] = _renumbered(each["inbound_nodes"], nested)
        config["output_layers"] = _renumbered(config["output_layers"], nested)


def _of_keras_2(config):
    calls = [call for each in config["layers"] for call in each.get("inbound_nodes", ())]
    return any(isinstance(call, list) for call in calls)


def _renumbered(node, nested):
    """Count the calls of nested Sequentials from 0: in Keras 2, building one was a call."""
    if not isinstance(node, list):
        return node
    if len(node) >= 3 and isinstance(node[0], str) and node[0] in nested:
        return [node[0], node[1] - 1, *node[2:]]
    return [_renumbered(each, nested) for each in node]


def _identity(node, path):
    """Return the names by which Keras 3 finds the class of a node, if it is one of its own."""
    name, module = node["class_name"], node.get("module") or "keras"
    registered = node.get("registered_name")
    if not isinstance(name, str) or registered not in (None, name):
        raise _foreign(node, path)
    if name in VALUES:
        return {"module": None, "registered_name": None}
    if re.fullmatch(OPERATIONS, str(module)):
        operation = getattr(importlib.import_module(module), name, None)
        if isinstance(operation, type) and issubclass(operation, keras.Operation):
            return {}
    elif str(module).split(".")[0] in ("keras", "tf_keras"):
        if name in MODELS:
            return MODELS[name]
        if name in LAYERS:
            return {"module": "keras.layers", "registered_name": None}
    raise _foreign(node, path)


def _foreign(node, path):
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else config
    return ValueError(
        "The network is not made of stock Keras layers alone, and was not loaded, since others can "
        "run code of whoever made the file (a Lambda layer does). Expected layers that only "
        "compute, like Conv2D: build the network of those and save it again. Received: "
        f"{path}: {name!r} of class {node.get('class_name')!r}, module {node.get('module')!r}"
    )


def _read_config(path, suffix):
    if suffix == ".keras":
        file_size.require_small_zip(path)
        with zipfile.ZipFile(path) as archive:
            config = archive.read(file_size.CONFIG)
    else:
        with h5py.File(path, "r") as file:
            config = file.attrs["model_config"]
    return json.loads(file_size.require_short(config))


def _copy_weights(path, suffix, folder):
    """Write the weights to a file of their own, named as Keras wants it; return its path."""
    if suffix == ".h5":
        return shutil.copyfile(path, Path(folder, "network.h5"))
    with zipfile.ZipFile(path) as archive:
        return archive.extract(file_size.WEIGHTS, folder)


def _build(config, stored):
    """Build a model from an inspected config whose file holds `stored` numbers."""
    footprint.require_few_layers(config)
    try:
        # In it, variables have shapes but no values: those come at its end, if it ends well.
        with keras.StatelessScope(initialize_variables=False) as scope:
            network = keras.saving.deserialize_keras_object(config, safe_mode=True)
            footprint.require_small(network, stored)
            scope.initialize_variables = True
    except BaseException:
        keras.utils.clear_session()  # or the next model would give these variables values
        raise
    return network


def _first_line(error):
    return str(error).strip().split("\n")[0][:300]
