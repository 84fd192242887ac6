"""How unsure a network is: its second output, or its mirror image; heat maps and scores of it."""

import dataclasses
import io

import keras
import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from colorization import color, evaluation, metrics, tracking
from colorization.config import VARIANTS
from colorization.data.prepare import Split
from colorization.models import build, export, heads
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.pictures import draw_heat_map, predict_uncertainty
from tests.conftest import bird
from tests.test_pyfunc import build_network
from tests.test_warmth import encode

SIDE = 32
MAGMA = np.array([[0, 0, 4], [183, 55, 121], [252, 253, 191]])  # matplotlib's, of 0, 0.5 and 1


@pytest.fixture(scope="module")
def colorizer():
    """A network of random weights that predicts distributions; unsure of what is dark."""
    config = dataclasses.replace(VARIANTS["naive_basic"], head="histogram", filters=8, size=SIDE)
    keras.utils.set_random_seed(3)
    network = build.build_plain(config, SIDE)
    scores = network.get_layer("color_scores")
    noise = np.random.default_rng(3).normal(size=scores.kernel.shape)
    scores.set_weights([40 * noise, np.zeros(scores.bias.shape)])
    return network


@pytest.fixture(scope="module")
def grays():
    pictures = [bird("Robin", number).resize((SIDE, SIDE)) for number in range(1, 7)]
    return color.gray_input(np.stack([np.asarray(each) for each in pictures]), 1)


@pytest.fixture(scope="module")
def exported(colorizer, grays, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "generator.onnx"
    export.export_onnx(colorizer, path, grays)
    return path


@pytest.fixture(scope="module")
def model(exported):
    """The pyfunc of the network."""
    folder = exported.with_name("model")
    mlflow.pyfunc.save_model(
        folder,
        **tracking.MODEL_CODE,
        artifacts={"generator": str(exported)},
        model_config={"trained_on": ""},
        signature=tracking.SIGNATURE,
        pip_requirements=[],
    )
    return mlflow.pyfunc.load_model(str(folder))


def ask(model, picture, **params):
    answer = model.predict(pd.DataFrame({"image": [encode(picture)]}), params=params)
    return Image.open(io.BytesIO(answer["image"][0]))


def entropy(colorizer, grays):
    """The entropy by the definition, at each place of the scores, enlarged."""
    scores = np.asarray(heads.build_scorer(colorizer)(grays), "float64")
    likely = np.exp(scores - scores.max(axis=-1, keepdims=True))
    likely /= likely.sum(axis=-1, keepdims=True)
    found = -(likely * np.log(likely + 1e-300)).sum(axis=-1, keepdims=True) / np.log(169)
    return np.asarray(keras.ops.image.resize(found.astype("float32"), (SIDE, SIDE)))


def test_the_second_output_is_the_entropy_of_the_colors(colorizer, exported, grays):
    session = onnxruntime.InferenceSession(exported)
    assert [each.name for each in session.get_outputs()][1:] == ["uncertainty"]
    unsure = predict_uncertainty(session, grays)
    assert unsure.shape == (len(grays), SIDE, SIDE, 1)
    np.testing.assert_allclose(unsure, entropy(colorizer, grays), atol=1e-4)
    assert 0 <= unsure.min() < 0.8 * unsure.max() and unsure.max() <= 1


def test_a_network_that_has_learned_nothing_is_unsure_of_all(colorizer, grays):
    blank = keras.models.clone_model(colorizer)
    blank.get_layer("color_scores").set_weights(
        [np.zeros_like(each) for each in colorizer.get_layer("color_scores").get_weights()]
    )
    unsure = keras.Model(blank.input, heads.find_uncertainty(blank))(grays)
    np.testing.assert_allclose(np.asarray(unsure), 1, atol=1e-5)


def test_the_colors_of_a_network_with_two_outputs_are_those_of_keras(colorizer, exported, grays):
    colored = OnnxColorizer(exported)(grays)
    np.testing.assert_allclose(colored, np.asarray(colorizer(grays)), atol=0.05)
    assert len(colorizer.outputs) == 1  # as the Keras file keeps it


def test_without_that_output_the_mirror_image_shows_what_is_unsure(tmp_path):
    network = build_network(1, "chroma", 0.1)
    network(np.zeros((1, 128, 128, 1), "float32"))
    network.export(tmp_path / "one.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    grays = np.full((2, 128, 128, 1), 90, "float32")
    grays[1, :, 64:] = 180
    flat, edge = predict_uncertainty(session, grays)[:, 4:-4, 4:-4, 0]
    assert flat.max() < 0.01  # in the mirror it is the same
    assert edge[:, 56:64].max() > 0.1 and edge[:, :40].max() < 0.01
    straight, mirrored = (
        session.run(None, {session.get_inputs()[0].name: each})[0]
        for each in (grays, grays[:, :, ::-1].copy())
    )
    expected = np.abs(straight - mirrored[:, :, ::-1]).max(axis=-1) / 16
    np.testing.assert_allclose(edge, np.minimum(expected[1, 4:-4, 4:-4], 1), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "params", "shown"),
    [
        ((64, 48), {}, ("PNG", (64, 48))),
        ((300, 200), {"format": "jpeg", "quality": 80, "tta": True}, ("JPEG", (300, 200))),
        ((500, 60), {"warmth": 0.5, "saturation": 0.0, "format": "webp"}, ("WEBP", (500, 60))),
        ((300, 200), {"size": "model"}, ("PNG", (SIDE, SIDE))),
        ((1, 1), {}, ("PNG", (1, 1))),
    ],
)
def test_a_heat_map_is_as_large_as_the_colored_picture(model, size, params, shown):
    picture = bird("Robin", 1).resize(size)
    picture.putalpha(200)
    heat = ask(model, picture, output="uncertainty", **params)
    assert (heat.format, heat.size) == shown == (heat.format, ask(model, picture, **params).size)
    assert heat.mode == "RGB"


def test_the_heat_map_of_the_pyfunc_shows_the_entropy(model, exported, grays):
    picture = Image.fromarray(grays[0, ..., 0].astype("uint8"))
    unsure = OnnxColorizer(exported).uncertainty(grays[:1])[0]
    expected = np.asarray(draw_heat_map(unsure, (SIDE, SIDE)), int)
    heat = np.asarray(ask(model, picture, output="uncertainty"), int)
    assert np.abs(heat - expected).max() <= 4
    both = np.asarray(ask(model, picture, output="uncertainty", tta=True), int)
    assert np.abs(both - heat).max() > 4


def test_heat_maps_go_from_dark_to_bright_in_matplotlibs_colors():
    ramp = np.linspace(0, 1, 91, dtype="float32")
    heat = np.asarray(draw_heat_map(np.tile(ramp[:, None], (90, 1, 1)), (91, 90)), int)
    np.testing.assert_allclose(heat[45, [0, 45, 90]], MAGMA, atol=4)
    luma = color.luma(heat)[45, :, 0]
    assert (np.diff(luma) >= 0).all() and luma[-1] - luma[0] > 230


@pytest.mark.parametrize("size", [(128, 128), (2000, 300), (300, 2000)])
def test_a_color_bar_lies_on_heat_maps_that_have_space_for_it(size):
    heat = np.asarray(draw_heat_map(np.full((8, 8, 1), 0.5, "float32"), size), int)
    covered = (np.abs(heat - MAGMA[1]).max(axis=-1) > 4).nonzero()
    assert 0.005 < len(covered[0]) / heat[..., 0].size < 0.25
    assert covered[0].min() > 0.7 * size[1] and covered[1].max() < size[0]
    middle = heat[(covered[0].min() + covered[0].max()) // 2]
    bar = (np.abs(middle[:, None] - MAGMA).max(axis=-1) < 12).any(axis=0)
    assert bar.all()  # all of the colors are in it
    small = np.asarray(draw_heat_map(np.full((8, 8, 1), 0.5, "float32"), (60, 90)), int)
    assert np.ptp(small, axis=(0, 1)).max() == 0


def test_another_output_is_refused(model):
    with pytest.raises(MlflowException, match="'output' must be colors or uncertainty"):
        ask(model, bird("Robin", 1), output="heat")


def test_the_correlation_tells_whether_the_unsure_is_the_wrong():
    real = np.stack([np.asarray(bird("Robin", number).resize((64, 64))) for number in (1, 2)])
    gray = np.repeat(color.luma(real), 3, axis=-1)
    errors = metrics.delta_e_of_pixels(real, gray).reshape(2, 64, 64, 1)
    assert evaluation.uncertainty_correlation(real, gray, errors**2) == pytest.approx(1)
    assert evaluation.uncertainty_correlation(real, gray, -errors) == pytest.approx(-1)
    assert evaluation.uncertainty_correlation(real, gray, np.ones_like(errors)) == 0


def test_an_exported_model_is_tested_for_its_uncertainty_at_any_size(exported):
    images = np.stack([np.asarray(bird("Robin", n).resize((64, 64))) for n in range(1, 4)])
    split = Split("test", images, ("Robin",) * 3, ("a", "b", "c"))
    colorize = OnnxColorizer(exported)
    plain = evaluation.evaluate(colorize, split, 1, np.zeros(2)).metrics
    assert "test_uncertainty_correlation" not in plain
    tested = evaluation.evaluate(colorize, split, 1, np.zeros(2), colorize.uncertainty).metrics
    assert 0 < abs(tested["test_uncertainty_correlation"]) < 1
    assert tested | plain == tested
