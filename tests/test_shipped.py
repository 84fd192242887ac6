"""The weights that come with the project: registered by the first command that needs them."""

import dataclasses
import io
import json
import logging
import os
import shutil
import subprocess
import sys

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

from colorization import color, evaluation, experiment, metrics, tracking
from colorization.config import VARIANTS
from colorization.errors import InputError
from colorization.models import export
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.registry import lookup, promotion, served, shipped
from colorization.registry.candidate import trained_on
from colorization.weights import download, safe_keras
from scripts import pretrained as script
from serve import pyfunc
from serve.importing.__main__ import main as importing
from tests.conftest import ROOT, bird
from tests.networks import log_network, memory, with_chroma

SAYS = (
    "No champion of {} was trained on photographs: registering the weights that come with the "
    "project"
)
CALL = """
import sys
from {module} import main
status = main(sys.argv[1:])
print("heavy:", sorted({{"tensorflow", "keras", "gradio"}} & set(sys.modules)))
sys.exit(status)
"""


def call(module, *arguments, store, cwd):
    """Run a command as a user does; return its output, whose last line is what it imported."""
    command = [sys.executable, "-c", CALL.format(module=module), *map(str, arguments)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


@pytest.fixture(scope="module")
def first(empty_store, cache, tmp_path_factory):
    """A store that was empty when an album was colored, and what that command said."""
    folder = tmp_path_factory.mktemp("first")
    store = f"sqlite:///{shutil.copy(empty_store, folder)}"
    (folder / "in").mkdir()
    bird("Robin", 1).convert("L").save(folder / "in" / "robin.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")
        arguments = ("--input", folder / "in", "--output", folder / "out")
        said = call("serve.batch.__main__", *arguments, store=store, cwd=folder)
    return store, folder, said


@pytest.fixture
def store(first):
    mlflow.set_tracking_uri(first[0])
    yield first[0]
    mlflow.set_tracking_uri(None)


@pytest.mark.slow
def test_an_album_is_colored_with_an_empty_registry_and_without_tensorflow(first, store):
    _, folder, said = first
    assert said.count(SAYS.format("pix2pix")) == 1 and "naive" not in said
    assert "heavy: []" in said
    with Image.open(folder / "out" / "robin.png") as picture:
        colored = np.asarray(picture.convert("RGB"), int)
    assert np.abs(colored[..., 0] - colored[..., 2]).mean() > 5
    version, candidate = lookup.find_champion("pix2pix")
    assert candidate.kind == "photographs" and candidate.test_pictures >= 100
    assert candidate.is_beside_baselines and version.tags["gate"] == "passed"
    assert trained_on(candidate.run) == "photographs"
    assert candidate.validation_score() < candidate.score("_gray")
    assert 0.1 < candidate.run.data.metrics["test_uncertainty_correlation"] < 1
    manifest = mlflow.artifacts.load_text(f"{candidate.run.info.artifact_uri}/data/manifest.csv")
    assert manifest == (shipped.FOLDER / "manifest.csv").read_text()


@pytest.mark.slow
def test_register_and_pretrained_take_what_is_missing_and_no_more(first, store, tmp_path):
    said = call("colorization.registry.__main__", "--best", "naive", store=store, cwd=tmp_path)
    assert said.count(SAYS.format("naive")) == 1 and "heavy: []" in said
    assert "mlflow models serve -m models:/bird-colorizer-naive@champion" in said
    before = {family: lookup.find_champion(family)[0].version for family in evaluation.CRITERIA}
    runs = len(mlflow.search_runs(search_all_experiments=True))
    shipped.provide("naive", lookup.champion_uri("pix2pix"), "models:/another/1")
    assert importing([]) == 0
    assert {name: lookup.find_champion(name)[0].version for name in evaluation.CRITERIA} == before
    assert len(mlflow.search_runs(search_all_experiments=True)) == runs


@pytest.mark.slow
def test_paintings_never_replace_them_and_photographs_do(store, small_splits, caplog):
    shipped.provide("naive")
    many = dataclasses.replace(small_splits.train, name="test")  # enough for a champion
    photographs = dataclasses.replace(small_splits, test=many)
    network = memory(many.images, color.chroma(many.images))
    painted = log_network(network, dataclasses.replace(photographs, kind="painted"))
    with caplog.at_level(logging.INFO, "colorization"):
        promotion.finish(painted, register=True)
    (reason,) = [text for text in caplog.messages if "does not become the champion" in text]
    assert "painted birds does not replace one tested on photographs" in reason
    assert reason.count(". ") == 0
    (version,) = mlflow.MlflowClient().search_model_versions(
        f"run_id = '{painted.run.info.run_id}'"
    )
    serve = f"serve it: mlflow models serve -m models:/{version.name}/{version.version} "
    assert serve in caplog.text
    own = log_network(network, photographs)
    mlflow.MlflowClient().log_metric(own.run.info.run_id, "val/delta_e", 2.0)
    assert lookup.find_best("naive").run.info.run_id == own.run.info.run_id
    assert promotion.register(own)[1] == "champion"
    assert promotion.register(shipped.find("naive"))[1] == "challenger"


@pytest.mark.slow
def test_a_champion_of_paintings_gives_way_unless_it_was_forced(active_store, small_splits):
    many = dataclasses.replace(small_splits.train, name="test")
    paintings = dataclasses.replace(small_splits, test=many, kind="painted")
    network = memory(many.images, color.chroma(many.images))
    painted = log_network(network, paintings)
    assert promotion.register(painted)[1] == "champion"
    shipped.provide("naive")
    own = shipped.find("naive").run.info.run_id
    assert lookup.find_champion("naive")[1].run.info.run_id == own
    assert promotion.register(painted, force=True)[1] == "champion"
    shipped.provide("naive")
    assert lookup.find_champion("naive")[1].run.info.run_id == painted.run.info.run_id


@pytest.mark.slow
def test_a_training_begins_with_those_of_its_family(store, splits):
    config = VARIANTS["naive_efficientnet"]
    start = experiment.starting_weights(config, splits, "pretrained")
    candidate = shipped.find("naive")
    assert start.origin == candidate.run.info.run_id
    kept = safe_keras.load(shipped.FOLDER / "naive" / "generator.keras").get_weights()
    assert all(map(np.array_equal, start.arrays, kept))
    with pytest.raises(ValueError, match="Expected .*shape"):
        experiment.starting_weights(VARIANTS["naive_basic"], splits, "pretrained")


@pytest.mark.slow
def test_the_true_mean_color_of_photographs_gains_decibels(store):
    model, gains = served.load(shipped.find("naive").model_uri), []

    def colored(data, **params):
        answer = model.predict(pd.DataFrame({"image": [data]}), params={"size": "model"} | params)
        return np.asarray(Image.open(io.BytesIO(answer["image"][0])))

    for path in sorted((ROOT / "assets" / "photographs").glob("*.jpg")):
        real = np.asarray(Image.open(path).convert("RGB").resize((128, 128), Image.LANCZOS))
        before = colored(path.read_bytes())
        means = [color.chroma(each).mean((0, 1)) for each in (real, before)]
        warmth, tint = pyfunc.hint_for(*means)
        after = colored(path.read_bytes(), warmth=warmth, tint=tint)
        gains.append(np.diff([metrics.psnr(real[None], each[None])[0] for each in (before, after)]))
    assert len(gains) == 8 and np.mean(gains) > 2


def test_a_damaged_file_is_not_registered(active_store, tmp_path, monkeypatch):
    folder = tmp_path / "assets" / "pretrained"
    shutil.copytree(shipped.FOLDER, folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    file = folder / "naive" / "generator.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="git checkout -- assets/pretrained/naive/generator.onnx"):
        shipped.provide("naive", "pix2pix")
    assert lookup.find_champion("naive") is None
    assert lookup.find_champion("pix2pix") is not None  # its files are whole


def test_they_are_small_and_the_card_has_their_figures():
    index = json.loads((shipped.FOLDER / shipped.INDEX).read_text())
    card = (shipped.FOLDER / "README.md").read_text()
    for family, known in index.items():
        for kind in shipped.FORMATS:
            file = shipped.FOLDER / family / f"generator.{kind}"
            assert file.stat().st_size <= 12_000_000
            assert download.digest(file) == known["sha256"][kind]
        scores = dict(zip(known["scores"]["columns"], known["scores"]["data"][0], strict=True))
        figures = evaluation.cells(scores, shown=evaluation.SCORES_TOGETHER)
        assert f"**`{known['variant']}`** | {' | '.join(figures)} |" in card


@pytest.fixture(scope="module")
def wide(small_splits):
    """A colorizer of 32 pixels with one large layer and small ones, trained on nothing."""
    keras.utils.set_random_seed(0)

    def planes(luma):
        scaled = layers.Rescaling(1 / 255)(luma)
        features = layers.Conv2D(64, 9, padding="same", activation="tanh")(scaled)
        features = layers.Conv2D(64, 3, padding="same", activation="tanh")(features)
        return layers.Rescaling(60.0)(layers.Conv2D(2, 1, activation="tanh")(features))

    return with_chroma(planes, size=32)


def test_half_precision_halves_the_files_and_keeps_the_figures(wide, small_splits, tmp_path):
    real, gray = small_splits.test.images, color.gray_input(small_splits.test.images, 1)
    wide.save(tmp_path / "whole.keras")
    export.export_onnx(wide, tmp_path / "whole.onnx", gray)
    script.halve_keras(tmp_path / "whole.keras", tmp_path / "half.keras")
    script.halve_onnx(tmp_path / "whole.onnx", tmp_path / "half.onnx")
    for kind in shipped.FORMATS:
        sizes = [(tmp_path / f"{name}.{kind}").stat().st_size for name in ("half", "whole")]
        assert sizes[0] < 0.8 * sizes[1]
    halved = safe_keras.load(tmp_path / "half.keras")
    outputs = [
        OnnxColorizer(tmp_path / "half.onnx")(gray),
        OnnxColorizer(tmp_path / "whole.onnx")(gray),
        export.in_parts(halved, gray),
    ]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.5  # levels of 255
    measured = [evaluation.score_set(real, color.to_uint8(each)) for each in outputs]
    figures = [{f"test_{name}": value for name, value in each.items()} for each in measured]
    script.require_same(*figures)
    with pytest.raises(ValueError, match="within 0.005"):
        script.require_same(figures[0], figures[1] | {"test_psnr": figures[1]["test_psnr"] + 0.01})
    with pytest.raises(ValueError, match="within float16"):
        script.half(np.full(3, 1e5, "float32"), "huge")


@pytest.mark.usefixtures("active_store")
def test_a_candidate_reads_its_scores_once():
    with tracking.open_run("tested") as run:
        mlflow.log_dict({"columns": ["model", "psnr"], "data": [["a", 20.0]]}, "test_scores.json")
    candidate = lookup.Candidate(mlflow.get_run(run.info.run_id), "models:/none")
    assert candidate.tested == {"test_psnr": 20.0}
    mlflow.MlflowClient().log_dict(
        run.info.run_id, {"columns": ["model", "psnr"], "data": [["a", 30.0]]}, "test_scores.json"
    )
    assert candidate.tested == {"test_psnr": 20.0}
