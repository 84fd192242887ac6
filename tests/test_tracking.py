"""What MLflow knows after a training; the run was made by a real process, on a real server."""

import dataclasses
import io
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colorization import color, evaluation, figures, runs, tracking, training_log
from colorization.config import VARIANTS, tunable_fields

METRICS = ("psnr", "ssim", "delta_e", "colorfulness")


@pytest.fixture
def artifacts(trained, tmp_path):
    client, run = trained
    return lambda path="": client.download_artifacts(run.info.run_id, path, str(tmp_path))


def test_the_run_is_finished_with_every_field_of_its_config_as_param(trained, paintings):
    _, run = trained
    assert run.info.status == "FINISHED"
    for field in tunable_fields(VARIANTS["naive_basic"]):
        assert field.name in run.data.params
    assert run.data.params["epochs"] == "2"
    assert run.data.params["filters"] == "8"
    assert run.data.params["data"] == str(paintings)
    assert run.data.tags["family"] == "naive"
    assert run.data.tags["data"] == "birds"


def test_every_split_is_recorded_as_a_dataset_with_the_manifest_s_digest(
    trained, splits, artifacts
):
    _, run = trained
    inputs = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation", "testing"}
    assert {dataset.digest for dataset in inputs.values()} == {splits.digest}
    shapes = {
        context: json.loads(dataset.profile)["features_shape"]
        for context, dataset in inputs.items()
    }
    assert shapes["training"] == list(splits.train.images.shape)
    assert shapes["testing"] == list(splits.test.images.shape)
    manifest = pd.read_csv(artifacts("data/manifest.csv"))
    assert len(manifest) == 60
    assert {"path", "sha256", "species", "split", "reason"} <= set(manifest.columns)


def test_runs_that_log_the_same_new_pictures_at_once_both_go_on(small_splits, active_store):
    """MLflow looks for a dataset before it inserts it; both see none."""
    together = threading.Barrier(2)

    def log(_):
        with mlflow.start_run():
            for digest in map(str, range(10)):
                together.wait(60)
                tracking.log_data(dataclasses.replace(small_splits, digest=digest))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(log, range(2))) == [None, None]
    for run in runs.search(""):
        assert len(run.inputs.dataset_inputs) == 30


def test_every_epoch_s_losses_scores_rates_and_speed_are_there(trained):
    client, run = trained
    names = {"loss/l1", "loss/l1_val", "rate/generator", "rate/images_per_second"}
    for name in names | {f"val/{metric}" for metric in METRICS}:
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2], name


def test_system_metrics_are_there(trained):
    client, run = trained
    assert any(name.startswith("system/") for name in client.get_run(run.info.run_id).data.metrics)


@pytest.fixture
def table(artifacts):
    def read(name):
        with open(artifacts(name)) as file:
            return pd.DataFrame(**json.load(file))

    return read


def test_the_test_stands_next_to_all_baselines(trained, table):
    _, run = trained
    scores = table("test_scores.json").set_index("model")
    assert list(scores.index) == ["naive_basic", *evaluation.BASELINES.values()]
    assert np.isfinite(scores).all(axis=None)
    assert scores["colorfulness"]["plain gray"] == pytest.approx(0, abs=1e-6)
    psnr = run.data.metrics["test_psnr"]
    assert 0 < abs(run.data.metrics["test_uncertainty_correlation"]) < 1
    assert scores["psnr"]["naive_basic"] == pytest.approx(psnr)
    assert f"{psnr:.2f}" in run.data.tags["mlflow.note.content"]


def test_tables_tell_of_every_picture_and_species(table, splits):
    assert sorted(table("test_pictures.json")["path"]) == sorted(splits.test.paths)
    species = table("test_species.json")
    assert set(species["species"]) == set(splits.test.species)
    assert species["pictures"].sum() == len(splits.test.images)


def test_sample_pictures_carry_their_epoch_for_the_slider(trained, artifacts):
    client, run = trained
    files = [f.path for f in client.list_artifacts(run.info.run_id, "images")]
    pictures = [file for file in files if file.endswith(".png")]
    steps = [int(re.search(r"step(?:\+|%2B)(\d+)", file)[1]) for file in pictures]
    assert sorted(steps) == sorted(2 * [0, 1, 2])  # six pictures: two sheets
    with Image.open(artifacts(pictures[0])) as picture:
        assert picture.width == picture.height > 3 * 128  # gray | predicted | real


def test_sample_pictures_are_colored_by_what_is_scored_and_kept(trained, splits, artifacts):
    import keras

    client, run = trained
    step = f"val 1-3%2Bstep%2B{int(run.data.tags['best_epoch']):04}%2B"
    (file,) = [
        each.path
        for each in client.list_artifacts(run.info.run_id, "images")
        if step in each.path.replace("+", "%2B") and each.path.endswith(".png")
    ]
    colorizer = keras.models.load_model(artifacts("keras/generator.keras"))
    count = len(splits.val.images)
    shown = np.linspace(0, count - 1, min(training_log.SAMPLES, count)).astype(int)
    real = splits.val.images[shown]
    gray = color.gray_input(real, 3)
    predicted = color.to_uint8(colorizer(gray[..., :1]))
    expected = figures.sheets(color.to_uint8(gray), predicted, real)["1-3"]
    with Image.open(artifacts(file)) as picture:
        assert np.abs(np.asarray(picture, int) - expected).max() <= 1


def test_figures_are_pictures(artifacts):
    for name in ("losses.png", "test_pictures.png"):
        with Image.open(artifacts(name)) as figure:
            assert min(figure.size) > 2 * matplotlib.rcParams["figure.dpi"]


def test_the_model_colorizes_any_size_in_a_fresh_process_without_tensorflow(
    trained, tracking_server, tmp_path
):
    client, run = trained
    (model,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    noise = np.random.default_rng(0).integers(0, 256, (50, 90), "uint8")
    picture = Image.fromarray(noise).resize((300, 500), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "gray.png")
    program = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "data = open('gray.png', 'rb').read()\n"
        "colored = model.predict(pd.DataFrame({'image': [data]}))\n"
        "open('colored.png', 'wb').write(colored['image'][0])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, tracking_server, model.model_uri]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    with Image.open(tmp_path / "colored.png") as colored:
        assert colored.size == (300, 500)
        assert colored.mode == "RGB"
        luma = np.asarray(colored.convert("L"), int)
    assert np.abs(luma - np.asarray(picture, int)).max() <= 2


def test_the_model_asks_for_no_tensorflow_and_pins_what_it_asks_for(trained, tracking_server):
    import mlflow

    client, run = trained
    (model,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    mlflow.set_tracking_uri(tracking_server)
    folder = mlflow.artifacts.download_artifacts(model.model_uri)
    requirements = Path(folder, "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements if line)
    assert not any("tensorflow" in line or "keras" in line for line in requirements)
    assert any(line.startswith("onnxruntime==") for line in requirements)


def test_the_keras_generator_and_the_served_one_are_the_same(trained, artifacts, tracking_server):
    import keras
    import mlflow

    from colorization.models.export import TOLERANCE
    from colorization.models.onnx_colorizer import OnnxColorizer

    client, run = trained
    (model,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    mlflow.set_tracking_uri(tracking_server)
    folder = mlflow.artifacts.download_artifacts(model.model_uri)
    colorizer = keras.models.load_model(artifacts("keras/generator.keras"))
    grays = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 1)).astype("float32")
    served = OnnxColorizer(f"{folder}/artifacts/generator.onnx")(grays)
    np.testing.assert_allclose(served, colorizer(grays), atol=TOLERANCE)


def test_the_model_s_example_is_a_picture_it_can_colorize(trained, tracking_server):
    import mlflow

    client, run = trained
    (logged,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    mlflow.set_tracking_uri(tracking_server)
    model = mlflow.pyfunc.load_model(logged.model_uri)
    (colored,) = model.predict(model.input_example)["image"]
    with Image.open(io.BytesIO(colored)) as picture:
        assert picture.size == (128, 128)
