"""Networks of others: lightness in, a and b out; of any size; that need a batch."""

import io

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from colorization import color
from serve.importing import value_range
from serve.importing.__main__ import main

SIZE = 32
SLOPES = np.array([0.4, -0.3], "float32")  # of a and b, a unit of lightness


def pictures(count=6):
    """Pictures whose a and b follow from their lightness; uint8."""
    x, y = np.meshgrid(np.linspace(0, 3, SIZE), np.linspace(0, 2, SIZE))
    waves = [np.sin(2 * x + i) * np.cos(3 * y - i) for i in range(count)]
    light = 50 + 35 * np.stack(waves)[..., None]
    return color.to_uint8(255 * lab2rgb(np.concatenate([light, (light - 50) * SLOPES], axis=-1)))


def network_of(input_range, output, channels=1, size=SIZE, last="linear"):
    """A network that knows the a and b of `pictures`, in any range."""
    (low, high), (zero, one) = value_range.LIGHTNESS[input_range], value_range.A_B[output]
    gray, scale = keras.Input((size, size, channels)), 100 / (high - low)
    light = layers.Rescaling(scale, offset=-low * scale)(gray)
    planes = layers.Conv2D(2, 1, activation=last, name="planes")
    network = keras.Model(gray, planes(light))
    kernel, bias = SLOPES / (one - zero), (-50 * SLOPES - zero) / (one - zero)
    network.get_layer("planes").set_weights([np.tile(kernel / channels, (1, 1, channels, 1)), bias])
    return network


def test_lightness_and_colors_are_those_of_skimage():
    levels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype("float32")
    planes = rgb2lab(levels / 255).astype("float32")
    np.testing.assert_allclose(
        value_range.to_levels(planes[..., :1], planes[..., 1:]), levels, atol=0.05
    )
    gray = levels[..., :1].repeat(3, axis=-1)
    np.testing.assert_allclose(
        value_range.lightness(gray)[..., 0], rgb2lab(gray / 255)[..., 0], atol=1e-3
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("input_range", value_range.LIGHTNESS)
@pytest.mark.parametrize(
    ("output", "last"), [*((each, "linear") for each in value_range.A_B), ("ab/128", "tanh")]
)
def test_a_network_of_a_and_b_gets_its_lightness_back(output, last, input_range, channels):
    if (output, last) == ("ab 0..1", "linear"):
        last = "relu6"  # else nothing tells that it does not go below 0
    real = pictures()
    network = network_of(input_range, output, channels, last=last)
    if last == "relu6":
        network = keras.Model(network.input, layers.ReLU(max_value=1.0)(network.output))
    found = value_range.probe(value_range.require_shapes(network, 128, channels), real)
    assert (found.input, found.output) == (input_range, output)
    assert found.luma_error < 5
    gray = color.gray_input(real, channels)
    colored = np.asarray(value_range.as_colorizer(network, found)(gray))
    light = rgb2lab(gray[..., :1].repeat(3, axis=-1) / 255)[..., :1]
    a_b = (light - 50) * SLOPES
    if last == "tanh":
        a_b = 128 * np.tanh(a_b / 128)
    expected = 255 * lab2rgb(np.concatenate([light, a_b], axis=-1))
    np.testing.assert_allclose(colored, expected, atol=0.1)


def test_colors_that_are_far_from_the_real_ones_are_refused():
    network = network_of("L 0..1", "ab/128", last="tanh")
    kernel, bias = network.get_layer("planes").get_weights()
    network.get_layer("planes").set_weights([-9 * kernel, -9 * bias])
    with pytest.raises(ValueError, match="does not color pictures.* of a and b at best"):
        value_range.probe(network, pictures())


def through(normalization, **call):
    """A network of RGB in -1..1 with a normalization between two convolutions."""
    gray = keras.Input((SIZE, SIZE, 1))
    wide = layers.Conv2D(3, 1, kernel_initializer="ones")(layers.Rescaling(50.0)(gray))
    network = keras.Model(gray, layers.Rescaling(0.4)(normalization(wide, **call)))
    network(np.zeros((1, SIZE, SIZE, 1)))
    return network


@pytest.mark.parametrize("call", [{}, {"training": True}])
def test_a_network_that_only_works_with_batch_statistics_is_told_so(call):
    with pytest.raises(ValueError, match="only works with batch statistics.*training=True"):
        value_range.probe(through(layers.BatchNormalization(), **call), pictures())


def test_what_no_statistics_help_is_not_blamed_on_them():
    network = through(layers.BatchNormalization(beta_initializer=keras.initializers.Constant(99)))
    with pytest.raises(ValueError, match="does not color pictures"):
        value_range.probe(network, pictures())


def test_instance_normalization_needs_no_batch():
    network = through(layers.GroupNormalization(-1))
    assert value_range.probe(network, pictures()).output == "-1..1"


@pytest.mark.parametrize(
    ("into", "out"), [((SIZE, SIZE, 1), (SIZE, SIZE, 2)), ((224, 224, 1), (224, 224, 3))]
)
def test_square_networks_of_any_size_are_taken_as_they_are(into, out):
    network = keras.Sequential([keras.Input(into), layers.Conv2D(out[-1], 1)])
    taken = value_range.require_shapes(network, 128, 1)
    assert (taken.input_shape[1:], taken.output_shape[1:]) == (into, out)


@pytest.mark.parametrize("shape", [(16, 16, 1), (640, 640, 1), (64, 96, 1), (64, 64, 3)])
def test_other_shapes_are_refused(shape):
    network = keras.Sequential([keras.Input(shape), layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="Expected .S, S, 1. in and .*from 32 to 512"):
        value_range.require_shapes(network, 128, 1)
    halved = keras.Sequential([keras.Input((64, 64, 1)), layers.Conv2D(2, 1, strides=2)])
    with pytest.raises(ValueError, match=r"\[\(32, 32, 2\)\] out"):
        value_range.require_shapes(halved, 128, 1)


@pytest.mark.slow  # exports a network
def test_an_imported_network_of_a_and_b_is_served_at_its_own_size(
    active_store, paintings, tmp_path
):
    network_of("L 0..1", "ab/128", last="tanh").save(tmp_path / "a_b.h5")
    assert main(["--naive", str(tmp_path / "a_b.h5"), "--data", str(paintings)]) == 0
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.data.params["size"], run.data.params["output_range"]) == (str(SIZE), "ab/128")
    (logged,) = mlflow.search_logged_models(output_format="list")
    model = mlflow.pyfunc.load_model(logged.model_uri)
    gray = Image.fromarray(color.to_uint8(color.luma(pictures(1)))[0, ..., 0])
    buffer = io.BytesIO()
    gray.save(buffer, "PNG")
    answer = model.predict(pd.DataFrame({"image": [buffer.getvalue()]}))["image"][0]
    served = np.asarray(Image.open(io.BytesIO(answer)), "float32")
    light = rgb2lab(np.asarray(gray)[..., None].repeat(3, axis=-1))[..., :1]
    # The birds tell little of the range of this network, which knows other pictures.
    low, high = value_range.LIGHTNESS[run.data.params["input_range"]]
    known = 100 * low + light * (high - low)
    a_b = 128 * np.tanh((known - 50) * SLOPES / 128)
    expected = 255 * lab2rgb(np.concatenate([light, a_b], axis=-1))
    np.testing.assert_allclose(color.chroma(served), color.chroma(expected), atol=2)
