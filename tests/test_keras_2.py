"""Networks of Keras 2: arithmetic and instance normalization, rebuilt without running any code."""

import gzip
import json

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from colorization.weights import download, safe_keras
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # `InstanceNormalization` as tensorflow_addons names it and describes it.
        ("addons.h5", [[29.942, 28.075, 27.925], [161.080, 164.712, 166.820]]),
        # That of TensorFlow's pix2pix tutorial, which does not say its epsilon.
        ("tutorial.keras", [[35.263, 30.922, 34.307], [164.491, 166.066, 161.997]]),
    ],
)
def test_arithmetic_and_instance_normalization_compute_what_they_did(name, expected, tmp_path):
    """U-Nets of `x / 127.5 - 1`, `tf.concat` and so on, saved by tf_keras 2.21: its numbers."""
    packed = ROOT / "tests" / "data" / f"keras2_{name}.gz"
    (tmp_path / name).write_bytes(gzip.decompress(packed.read_bytes()))
    network = safe_keras.load(tmp_path / name)
    assert {type(each).__module__.split(".")[0] for each in network.layers} == {"keras"}
    ramp = np.linspace(0, 255, 32, dtype="float32")[:, None]
    rgb = np.asarray(network(np.broadcast_to(ramp, (1, 32, 32, 3))))
    np.testing.assert_allclose(rgb[0, 16][[0, 20]], expected, atol=2e-3)
    network.save(tmp_path / "again.keras")
    np.testing.assert_array_equal(
        safe_keras.load(tmp_path / "again.keras")(np.ones((1, 32, 32, 3))),
        network(np.ones((1, 32, 32, 3))),
    )


def called(kind, name, inbound, **config):
    described = {"class_name": kind, "name": name, "config": {"name": name} | config}
    return described | {"inbound_nodes": inbound}


GRAY = called("InputLayer", "in", [], batch_input_shape=[None, 32, 32, 1])


def operation(function, *inbound):
    return called("TFOpLambda", "op", list(inbound), function=function)


def write_h5(path, *nodes, weights=()):
    """Write a network as Keras 2 did; `weights` are those of its last layer, by name."""
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [[nodes[-1]["name"], 0, 0]]}
    config = {"name": "model", "layers": [GRAY, *nodes]} | ends
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [nodes[-1]["name"]] if weights else np.empty(0, "S1")
        if weights:
            layer = group.create_group(nodes[-1]["name"])
            layer.attrs["weight_names"] = [name.encode() for name, _ in weights]
            for name, values in weights:
                layer[name] = np.array(values, "float32")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (operation("math.truediv", ["in", 0, 0, {"y": 4, "name": None}]), 0.5),
        (operation("math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["in", 0, 0]}]), -1),
        (operation("math.multiply", ["in", 0, 0, {"y": ["in", 0, 0], "name": None}]), 4),
        (operation("__operators__.add", ["in", 0, 0, {"y": [[[10.0]]], "name": None}]), 12),
        (operation("clip_by_value", ["in", 0, 0, {"clip_value_min": 0, "clip_value_max": 1}]), 1),
        (operation("nn.leaky_relu", ["in", 0, 0, {"alpha": 0.3}]), 2),
        (operation("cast", ["in", 0, 0, {"dtype": "float32"}]), 2),
        (operation("concat", [["in", 0, 0, {"axis": -1}], ["in", 0, 0, {"axis": -1}]]), 2),
    ],
)
def test_a_function_of_tensors_and_constants_is_arithmetic(node, expected, tmp_path):
    write_h5(tmp_path / "a.h5", node)
    colored = safe_keras.load(tmp_path / "a.h5")(np.full((1, 32, 32, 1), 2, "float32"))
    np.testing.assert_allclose(colored, np.full(colored.shape, expected), rtol=1e-6)


@pytest.mark.parametrize(("op", "place", "expected"), [("RealDiv", 1, 0.5), ("Sub", 0, 2)])
def test_an_operation_of_older_files_is_arithmetic(op, place, expected, tmp_path):
    config = {"node_def": {"name": "op", "op": op}, "constants": {str(place): 4.0}}
    node = called("TensorFlowOpLayer", "tf_op_layer_op", [[["in", 0, 0, {}]]], **config)
    write_h5(tmp_path / "a.h5", node)
    colored = safe_keras.load(tmp_path / "a.h5")(np.full((1, 32, 32, 1), 2, "float32"))
    np.testing.assert_allclose(colored, np.full(colored.shape, expected), rtol=1e-6)


@pytest.mark.parametrize(
    "node",
    [
        operation("io.read_file", ["in", 0, 0, {"name": None}]),
        operation("numpy_function", ["in", 0, 0, {"func": "os.system"}]),
        operation("math.add", ["in", 0, 0, {"y": 1, "other": 2}]),
        operation("math.add", ["in", 0, 0, {"y": {"class_name": "__lambda__", "config": "4wE"}}]),
        operation("cast", ["in", 0, 0, {"dtype": "uint8"}]),
        called("TensorFlowOpLayer", "op", [], node_def={"op": "PyFunc"}, constants={}),
        called("TensorFlowOpLayer", "op", [], node_def="PyFunc", constants={}),
        called("Lambda", "op", [[["in", 0, 0, {}]]], function=["4wE=", None, None]),
        called("Custom>InstanceNormalization", "op", [[["in", 0, 0, {}]]], axis=None),
        called("Custom>Norm", "op", [[["in", 0, 0, {}]]]),
    ],
)
def test_what_is_no_known_arithmetic_is_refused(node, tmp_path):
    write_h5(tmp_path / "a.h5", node)
    with pytest.raises(ValueError, match="not made of stock Keras layers"):
        safe_keras.load(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "node",
    [
        *(operation("math.negative", call) for call in ([], ["in"], [[]], ["nowhere", 0, 0, {}])),
        *(operation("math.negative", ["in", 0, 0, options]) for options in (5, ["a"])),
        operation("math.negative", ["_CONSTANT_VALUE", -1]),
        called("BatchNormalization", "op", [[["in", 0, 0, {}]]], axis=[1, 2]),
        called("BatchNormalization", "op", [[["in", 0, 0, {}]]], axis=[]),
        called("TensorFlowOpLayer", "op", [[["in", 0, 0, {}]]], node_def={}, constants={"a": 1}),
    ],
)
def test_a_broken_layer_is_a_sentence(node, tmp_path):
    write_h5(tmp_path / "a.h5", node)
    with pytest.raises(ValueError, match="Expected a "):
        safe_keras.load(tmp_path / "a.h5")


@pytest.mark.parametrize("first", ["gamma", "beta"])
def test_a_scale_is_known_by_its_name_whichever_weight_is_first(first, tmp_path):
    weights = sorted(
        {"n/gamma:0": [3], "n/beta:0": [7]}.items(), key=lambda each: first not in each[0]
    )
    node = called("InstanceNormalization", "n", [[["in", 0, 0, {}]]], epsilon=0)
    write_h5(tmp_path / "a.h5", node, weights=weights)
    halves = np.repeat([-1.0, 1.0], 16)[None, None, :, None] * np.ones((1, 32, 1, 1))
    colored = np.asarray(safe_keras.load(tmp_path / "a.h5")(halves.astype("float32")))
    np.testing.assert_allclose(colored, 3 * halves + 7, rtol=1e-5)


@keras.saving.register_keras_serializable("pix2pix")
class InstanceNormalization(layers.Layer):
    """As people make it, in Keras 3."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer=keras.initializers.Constant(2))
        self.offset = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        raise AssertionError("ran")

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_same_layer_of_keras_3_is_rebuilt_and_not_run(suffix, tmp_path):
    gray = keras.Input((32, 32, 1))
    scaled = layers.Conv2D(1, 1, kernel_initializer="ones")(gray)
    network = keras.Model(gray, InstanceNormalization()(scaled))
    network.save(tmp_path / f"a{suffix}")
    loaded = safe_keras.load(tmp_path / f"a{suffix}")
    assert download.format_of(tmp_path / f"a{suffix}") == suffix
    noise = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    colored = np.asarray(loaded(noise))
    np.testing.assert_allclose(colored.mean(axis=(1, 2, 3)), 1, atol=1e-3)
    np.testing.assert_allclose(colored.std(axis=(1, 2, 3)), 2, atol=1e-3)
