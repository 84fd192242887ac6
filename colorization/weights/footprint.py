"""How much a foreign network computes, checked before it has weights or pictures."""

import math
from typing import Any

import keras
import tensorflow as tf

from colorization import limits
from colorization.config import Config
from colorization.data.photograph import IMAGE_SIZE
from colorization.data.watch import TooLargeError

_GIVEN = ("Placeholder", "ReadVariableOp")  # pictures and weights


def require_few_layers(config: dict) -> None:
    """Raise a TooLargeError if a model's config calls more layers than a network does."""
    calls = _calls(config)
    if calls > limits.MAX_LAYERS:
        raise TooLargeError(
            f"The network has too many layers. Expected at most {limits.MAX_LAYERS}, those of a "
            f"network within it as often as it is called. Received: {calls}"
        )


def _calls(node: Any) -> int:
    if isinstance(node, list):
        return sum(map(_calls, node))
    if not isinstance(node, dict):
        return 0
    times = max(1, len(node.get("inbound_nodes") or ()))
    is_layer = "class_name" in node and not str(node["class_name"]).startswith("__")
    return times * (is_layer + sum(map(_calls, node.values())))


def require_small(network: keras.Model, stored: int) -> None:
    """Raise a TooLargeError if a model needs more memory than its file and its use justify.

    Its file holds `stored` numbers; the variables need no values.
    """
    held = sum(math.prod(weight.shape) for weight in network.weights)
    if held > stored:
        largest = max(network.weights, key=lambda weight: math.prod(weight.shape))
        raise TooLargeError(
            f"The network has more weights than its file. Expected at most the {stored} that are "
            f"stored. Received: {held}, of them {math.prod(largest.shape)} in {largest.path!r}"
        )
    values = _values(network)
    sides = [side or 0 for each in network.inputs or [] for side in each.shape[1:3]]
    side = min(max(sides, default=0), Config.__dataclass_fields__["size"].metadata["high"])
    most = limits.MAX_VALUES * max(1, side // IMAGE_SIZE) ** 2  # more of larger pictures
    if sum(values.values()) > most:
        name = max(values, key=lambda each: values[each])
        raise TooLargeError(
            f"The network computes too much. Expected at most {most} values for a "
            f"picture, in all layers together. Received: {sum(values.values())}, of them "
            f"{values[name]} in {name!r}"
        )


def _values(network: keras.Model) -> dict[str, float]:
    """Return how many values each operation, also inside layers, computes for one picture.

    Constants count too: an operation may compute large ones from its config. TensorFlow traces the
    graph and computes nothing.
    """
    inputs = getattr(network, "inputs", None) or []
    shapes = [[1, *(IMAGE_SIZE if n is None else n for n in each.shape[1:])] for each in inputs]

    def call(*tensors: tf.Tensor) -> Any:
        return network(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    specs = [tf.TensorSpec(shape, each.dtype) for shape, each in zip(shapes, inputs, strict=True)]
    graph = tf.function(call).get_concrete_function(*specs).graph
    values: dict[str, float] = {}
    for operation in graph.get_operations():
        if operation.type not in _GIVEN:
            counts = [each.shape.num_elements() for each in operation.outputs]
            values[operation.name] = math.inf if None in counts else sum(counts)
    return values
