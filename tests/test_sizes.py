"""Pictures of other sizes than 128: prepared, trained, served, compared, searched."""

import dataclasses
import io
import shutil

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModelContext
from PIL import Image

from colorization import color, experiment, plan
from colorization import config as configuration
from colorization.config import VARIANTS
from colorization.data import photograph, prepare, sources
from colorization.models import build, export, pretrained_unet
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.registry import lookup, promotion
from serve.evaluation import holdout, scoring
from serve.pyfunc import Colorizer
from sweeps import space
from sweeps.space import Spec
from tests.conftest import bird
from tests.networks import log_network, memory, tiny_encoder
from tests.test_prepare import photos

SIZES = (64, 192)
TRAINED = (32, 64)
START = 260  # by their content, these ten would all be for training


@pytest.fixture(scope="module")
def at_size(paintings, cache):
    """The painted birds, prepared at each size; size to splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        source = sources.fetch(str(paintings))
        return {size: prepare.prepare(source, size) for size in (32, *SIZES, 128)}


@pytest.fixture(scope="module")
def runs(colorization, empty_store, paintings, at_size, tmp_path_factory):
    """A training of one epoch at each size, one by the command line; gives a store and the runs."""
    folder = tmp_path_factory.mktemp("sizes")
    store = f"sqlite:///{shutil.copy(empty_store, folder)}"
    flags = ("--size", 64, "--epochs", 1, "--filters", 4, "--register", "no")
    process = colorization("naive_basic", "--data", paintings, *flags, store=store, cwd=folder)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    config = dataclasses.replace(VARIANTS["naive_basic"], size=32, epochs=1, filters=4)
    mlflow.set_tracking_uri(store)
    experiment.train_and_log(config, at_size[32], str(paintings))
    mlflow.set_tracking_uri(None)
    found = mlflow.MlflowClient(store).search_runs(["0"])
    return store, {int(run.data.params["size"]): run for run in found}


@pytest.fixture
def use_store(monkeypatch):
    def use(store):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        mlflow.set_tracking_uri(store)

    yield use
    mlflow.set_tracking_uri(None)


def test_a_set_has_the_same_split_and_digest_at_every_size(at_size, paintings):
    assert len({splits.digest for splits in at_size.values()}) == 1
    assert len({splits.test.paths for splits in at_size.values()}) == 1
    for size, splits in at_size.items():
        assert splits.train.images.shape[1:] == (size, size, 3)
    default = prepare.prepare(sources.fetch(str(paintings)))
    assert default.manifest == at_size[128].manifest
    assert len({splits.manifest for splits in at_size.values()}) == len(at_size)


def test_a_size_prepared_later_has_the_split_of_the_earlier_one(tmp_path, monkeypatch):
    """Not the one that the pictures would have now, after others were known in between."""
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    folder, away = photos(tmp_path / "birds", range(START, START + 9)), tmp_path / "away"
    photos(folder, [START + 9], "Wren")
    prepare.prepare(sources.fetch(str(folder)))  # moves some: each split must have a picture
    photos(folder, range(2000, 2040), "Wren")
    before = prepare.prepare(sources.fetch(str(folder)))
    (folder / "Robin").rename(away)
    prepare.prepare(sources.fetch(str(folder)))
    away.rename(folder / "Robin")
    later = prepare.prepare(sources.fetch(str(folder)), 64)
    assert later.digest == before.digest
    assert later.test.paths == before.test.paths


def test_a_larger_picture_is_decoded_larger():
    """A JPEG's decoder may shrink it by two, four or eight: not below what is asked for."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), "uint8")
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "JPEG", quality=95, subsampling=0)
    large = photograph.decode(encoded.getvalue(), 512)
    assert large.size == (512, 512)
    expected = Image.fromarray(noise).resize((512, 512), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(large, float) - np.asarray(expected, float)).mean() < 6


@pytest.mark.slow
@pytest.mark.parametrize("size", TRAINED)
def test_a_training_of_another_size_is_logged_and_served_at_that_size(size, runs, use_store):
    store, by_size = runs
    use_store(store)
    run = by_size[size]
    assert run.info.status == "FINISHED"
    candidate = lookup.find(run.info.run_id)
    model = mlflow.pyfunc.load_model(candidate.model_uri)
    picture = bird("Robin", 5)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    frame = pd.DataFrame({"image": [encoded.getvalue()]})
    sides = {"original": picture.size, "model": (size, size)}
    for param, expected in sides.items():
        (answer,) = model.predict(frame, params={"size": param})["image"]
        assert Image.open(io.BytesIO(answer)).size == expected


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_another_size_are_scored_as_they_are_served(size, at_size, tmp_path):
    config = configuration.with_size(VARIANTS["naive_basic"], size)
    keras.utils.set_random_seed(0)
    colorizer = build.build_plain(dataclasses.replace(config, filters=4), size)
    kernel, bias = colorizer.get_layer("chroma").get_weights()
    drawn = np.random.default_rng(0).normal(0, 0.1, kernel.shape)
    colorizer.get_layer("chroma").set_weights([drawn, bias + [0.1, -0.1]])
    real = 64 + at_size[128].test.images[:3] // 2  # so that all colors are in the gamut
    gray = color.gray_input(real, 1)
    path = str(tmp_path / "generator.onnx")
    export.export_onnx(colorizer, path, color.gray_input(at_size[size].test.images[:2], 1))
    scored = color.to_uint8(OnnxColorizer(path)(gray)).astype(float)
    served = Colorizer()
    served.load_context(PythonModelContext({"generator": path}, {}))
    for image, mine in zip(gray[..., 0].astype("uint8"), scored, strict=True):
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        (answer,) = served.predict(None, pd.DataFrame({"image": [encoded.getvalue()]}))["image"]
        assert np.abs(np.asarray(Image.open(io.BytesIO(answer)), float) - mine).max() < 4
        assert np.abs(color.chroma(mine)).mean() > 4


@pytest.mark.slow
def test_models_of_different_sizes_are_evaluated_on_the_same_pictures(
    runs, at_size, use_store, tmp_path
):
    store, by_size = runs
    use_store(store)
    for number in (1, 2):  # not among the paintings
        bird("Wren", number).save(tmp_path / f"{number}.png")
    models = scoring.label(lookup.find(run.info.run_id) for run in by_size.values())
    pictures = holdout.collect(sources.fetch(str(tmp_path)), models)
    assert pictures.images.shape == (2, 64, 64, 3)
    loaded = {name: lookup.load_colorizer(each.model_uri) for name, each in models.items()}
    table, _ = scoring.score(loaded, pictures)
    assert set(models) < set(table["model"]) and table["delta_e"].notna().all()


def log_candidate(splits, share):
    """Log a run as training does; its model knows this share of the test pictures' chroma."""
    images = splits.test.images
    candidate = log_network(memory(images, share * color.chroma(images)), splits)
    mlflow.MlflowClient().log_metric(candidate.run.info.run_id, "val/delta_e", -share, step=1)
    return candidate


@pytest.mark.slow
def test_a_champion_of_another_size_is_compared_at_the_larger_one(at_size, ready_store, use_store):
    use_store(ready_store)
    champion = log_candidate(at_size[32], 0.6)
    promotion.register(champion)
    better, worse = log_candidate(at_size[64], 1.0), log_candidate(at_size[64], 0.3)

    def refused(candidate, by):
        version, alias = promotion.register(candidate)
        assert alias == "challenger"
        tags = mlflow.MlflowClient().get_model_version(version.name, version.version).tags
        name = f"the champion of run {by.run.info.run_id}, both at 64 pixels"
        assert f"No better than {name}" in tags["gate"]

    refused(worse, by=champion)
    assert lookup.find_best("naive").run.info.run_id == better.run.info.run_id
    assert promotion.register(better)[1] == "champion"
    refused(champion, by=better)
    log_candidate(at_size[32], 0.5)
    # Of 32 pixels, since the last run was; scores at different sizes are not compared.
    assert lookup.find_best("naive").run.info.run_id == champion.run.info.run_id


@pytest.mark.parametrize("size", ["31", "0", "544", "100", "64.5", "big", ""])
def test_a_size_out_of_range_is_refused_by_name_and_range(size):
    message = "`size`. Expected a whole number from 32 to 512, divisible by 32. Received: size="
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VARIANTS["naive_basic"], size=size)


def test_a_depth_that_a_size_does_not_allow_is_refused_with_the_one_that_it_does():
    with pytest.raises(ValueError, match="Expected at most 6 for pictures of 192 pixels"):
        dataclasses.replace(VARIANTS["pix2pix"], size=192)
    assert dataclasses.replace(VARIANTS["pix2pix"], size=192, depth=6).depth == 6


@pytest.mark.parametrize("size", range(32, 513, 32))
def test_a_comparison_takes_any_size_and_cuts_the_depth(size):
    names = ",".join(VARIANTS)
    for config in plan.compared(names, 1, str(size)):
        assert config.size == size and size % 2**config.depth == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_is_built_for_another_size(variant, monkeypatch):
    monkeypatch.setitem(pretrained_unet.ENCODERS, "efficientnet", tiny_encoder)
    config = configuration.with_size(dataclasses.replace(VARIANTS[variant], filters=4), 256)
    colorizer = build.build_plain(config, 256)
    assert colorizer.input_shape == (None, 256, 256, config.gray_channels)
    assert colorizer.output_shape == (None, 256, 256, 3)


def test_weights_do_not_depend_on_the_size():
    """So a training may start from one of another size."""
    config = dataclasses.replace(VARIANTS["naive_efficientnet"], filters=4)
    shapes = [[each.shape for each in build.build_plain(config, n).weights] for n in (64, 256)]
    assert shapes[0] == shapes[1]


def test_a_sweep_pins_a_size_and_draws_no_depth_beyond_it():
    fix = space.parse_fix("pix2pix", "size=96")
    spec = Spec("pix2pix", "color_error", fix, epochs=1, seed=0)
    assert all((each.size, each.depth) == (96, 5) for each in spec.presets().values())
    middle = spec.params_of(next(iter(spec.presets().values())))
    assert spec.config_of(middle | {"depth": 7}).depth == 5
    with pytest.raises(ValueError, match="Expected at most 5 for pictures of 96 pixels"):
        space.parse_fix("pix2pix", "size=96,depth=6")
