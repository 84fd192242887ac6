"""What Keras 2 and its add-ons wrote into a config, as Keras 3 has it: the same computation.

Nothing here is trusted: whatever it returns is inspected by `safe_keras` like any other config.
"""

from typing import Any

# The last part of a function's name in a TFOpLambda (`tf.math.truediv`), or in lower case the
# operation of a TensorFlowOpLayer, as files had it before TensorFlow 2.4.
_OPERATIONS = {
    **dict.fromkeys(("add", "addv2"), "numpy.Add"),
    **dict.fromkeys(("subtract", "sub"), "numpy.Subtract"),
    **dict.fromkeys(("multiply", "mul"), "numpy.Multiply"),
    **dict.fromkeys(("truediv", "divide", "realdiv"), "numpy.TrueDivide"),
    **dict.fromkeys(("negative", "neg"), "numpy.Negative"),
    **dict.fromkeys(("concat", "concatv2"), "numpy.Concatenate"),
    **dict.fromkeys(("leaky_relu", "leakyrelu"), "nn.LeakyRelu"),
    "abs": "numpy.Absolute",
    "square": "numpy.Square",
    "sqrt": "numpy.Sqrt",
    "pow": "numpy.Power",
    "exp": "numpy.Exp",
    "maximum": "numpy.Maximum",
    "minimum": "numpy.Minimum",
    "tanh": "numpy.Tanh",
    "clip_by_value": "numpy.Clip",
    "sigmoid": "nn.Sigmoid",
    "relu": "nn.Relu",
    "relu6": "nn.Relu6",
    "elu": "nn.Elu",
}
_SAME = ("identity", "cast", "convert_to_tensor", "stop_gradient")
# TensorFlow's name of an argument: Keras's, and TensorFlow's default.
_OPTIONS: dict[str, dict[str, tuple[str, Any]]] = {
    "nn.LeakyRelu": {"alpha": ("negative_slope", 0.2)},
    "numpy.Concatenate": {"axis": ("axis", -1)},
    "numpy.Clip": {"clip_value_min": ("x_min", None), "clip_value_max": ("x_max", None)},
}
# That of the layer in TensorFlow's pix2pix and CycleGAN tutorials, which some files do not name.
_EPSILON = 1e-5
_CHANNELS_LAST = (-1, 3, [-1], [3])


def rewrite(node: Any) -> Any:
    """Return a config in which arithmetic and instance normalization are Keras 3's own.

    A TFOpLambda of a known function and a TensorFlowOpLayer of a known operation become that
    operation. InstanceNormalization, of tensorflow_addons or handmade, becomes GroupNormalization
    of one channel a group. What is not known stays as it is.
    """
    if isinstance(node, list):
        return [rewrite(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: rewrite(value) for key, value in node.items()}
    config = node.get("config")
    if isinstance(node.get("class_name"), str) and isinstance(config, dict):
        name = node["class_name"].rpartition(">")[2]  # "Addons>", or another package
        if name == "InstanceNormalization" or node["class_name"] == "Addons>GroupNormalization":
            return _normalization(name, node, config) or node
        if name == "TFOpLambda":
            function = str(config.get("function")).rpartition(".")[2]
            calls = [_arguments(each) for each in node.get("inbound_nodes", ())]
            return _operation(function, calls, node) or node
        if name == "TensorFlowOpLayer" and isinstance(config.get("node_def"), dict):
            function = str(config["node_def"].get("op")).lower()
            calls = [_placed(each, config["constants"]) for each in node.get("inbound_nodes", ())]
            return _operation(function, calls, node) or node
    return node


def _normalization(name: str, node: dict, config: dict) -> dict | None:
    """Return a GroupNormalization; None where the statistics are not those of single channels."""
    if config.get("axis", -1) not in _CHANNELS_LAST:
        return None
    kept = {key: config[key] for key in ("center", "scale") if isinstance(config.get(key), bool)}
    groups = -1 if name == "InstanceNormalization" else config.get("groups", 32)
    kept |= {"name": config.get("name", node.get("name")), "groups": groups}
    kept["epsilon"] = config.get("epsilon", _EPSILON)
    return _node("keras.layers", "GroupNormalization", kept, node)


def _operation(function: str, calls: list[tuple[list, dict]], node: dict) -> dict | None:
    own: dict[str, Any] = {"name": node.get("name")}
    if function in _SAME and all(each.get("dtype", "float32") == "float32" for _, each in calls):
        nodes = [{"args": tensors, "kwargs": {}} for tensors, _ in calls]
        return _node("keras.layers", "Identity", own, node | {"inbound_nodes": nodes})
    if function not in _OPERATIONS:
        return None
    kind = _OPERATIONS[function]
    module, _, operation = kind.partition(".")
    nodes = []
    for tensors, given in calls:
        for theirs, (ours, default) in _OPTIONS.get(kind, {}).items():
            own[ours] = given.pop(theirs, default)
        if given.pop("name", None) or given:
            return None
        if kind == "numpy.Concatenate":
            tensors = [tensors]
        nodes.append({"args": tensors, "kwargs": {}})
    called = node | {"inbound_nodes": nodes}
    return _node(f"keras.src.ops.{module}", operation, own, called)


def _node(module: str, name: str, config: dict, node: dict) -> dict:
    kept = {key: node[key] for key in ("name", "inbound_nodes") if key in node}
    return kept | {"module": module, "class_name": name, "config": config, "registered_name": name}


def _arguments(call: Any) -> tuple[list, dict]:
    """Return the operands of a TFOpLambda's call, and its other arguments."""
    sources = call if isinstance(call[0], list) else [call]
    given = dict(sources[0][3]) if len(sources[0]) > 3 else {}
    operands = [_operand(each[2] if each[0] == "_CONSTANT_VALUE" else each[:3]) for each in sources]
    if "y" in given:
        operands.append(_operand(given.pop("y")))
    return operands, given


def _placed(call: Any, constants: dict[str, Any]) -> tuple[list, dict]:
    """Return the operands of a TensorFlowOpLayer's call: tensors, with constants between them."""
    tensors = [each[:3] for each in (call if isinstance(call[0], list) else [call])]
    for place in sorted(constants, key=int):
        tensors.insert(int(place), constants[place])
    return [_operand(each) for each in tensors], {}


def _operand(value: Any) -> Any:
    """Return a tensor of another layer, or a constant, as Keras 3 writes it."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        history = {"shape": [None], "dtype": "float32", "keras_history": value}
        return {"class_name": "__keras_tensor__", "config": history}
    if isinstance(value, list):
        return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}
    return value
