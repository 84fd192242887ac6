"""What a model and the commands that use it say of it, in words."""

import os
import sys

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModelContext

from benchmarks.saved import save_pyfunc
from colorization.registry.candidate import trained_on
from serve.evaluation.scoring import verdict
from serve.page.events import name_apart
from tests import warm


def log_run(kind="painted", context="training", **params):
    """Log what tells the origin of a run's weights; return the run."""
    with mlflow.start_run() as run:
        mlflow.set_tag("data_kind", kind)
        mlflow.log_params(params)
        mlflow.log_input(mlflow.data.from_numpy(np.zeros(1), digest="0"), context=context)
    return mlflow.get_run(run.info.run_id)


def test_a_model_knows_what_all_trainings_of_its_weights_had(active_store):
    painted, photographs = log_run(), log_run("photographs")
    from_painted = log_run(start_from=f"'{painted.info.run_id}'")  # as `mlflow run` quotes it
    from_both = log_run(start_from=photographs.info.run_id)
    imported = log_run(context="testing", source=painted.info.run_id)
    assert trained_on(painted) == trained_on(from_painted) == "painted birds"
    assert trained_on(photographs) == "photographs"
    assert trained_on(from_both) == "painted birds and photographs"
    assert trained_on(imported) == "painted birds"
    for unknown in (log_run(start_from="a.keras"), log_run(context="testing", source="a.keras")):
        assert trained_on(unknown) == ""


def test_a_logged_model_knows_it_too(trained, monkeypatch):
    client, run = trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.set_tracking_uri(None)
    info = mlflow.models.get_model_info(f"models:/{run.outputs.model_outputs[0].model_id}")
    assert info.flavors["python_function"]["config"] == {"trained_on": "photographs"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved pyfunc that was trained on paintings."""
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1.0)])
    network(np.zeros((1, 8, 8, 3), "float32"))
    return save_pyfunc(network, tmp_path_factory.mktemp("painted"), trained_on="painted birds")


def test_a_model_that_knows_only_paintings_says_so_when_it_is_loaded(model, caplog):
    caplog.set_level("WARNING", "colorizer")  # commands silence it
    colorizer = mlflow.pyfunc.load_model(model).unwrap_python_model()
    assert caplog.messages == [
        "This model was trained on painted birds only: on photographs, expect false colors."
    ]
    caplog.clear()
    generator = {"generator": f"{model}/artifacts/generator.onnx"}
    for config in ({"trained_on": "photographs"}, {"trained_on": ""}, {}, None):
        colorizer.load_context(PythonModelContext(generator, config))
    assert caplog.messages == []


@pytest.mark.slow
def test_without_onnx_runtime_loading_ends_in_a_sentence_that_names_what_to_install(
    model, tmp_path
):
    missing = "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
    (tmp_path / "onnxruntime.py").write_text(missing)
    process = warm.run(
        [sys.executable, "-c", f"import mlflow; mlflow.pyfunc.load_model({model!r})"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: This model needs ONNX Runtime, which is not installed: "
        "pip install onnxruntime"
    )
    assert "exec_module" not in process.stderr and process.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    ("trained_on", "kind", "scores", "expected"),
    [
        (
            {"naive_deep": "painted birds", "pix2pix": "painted birds"},
            "photographs",
            (13.1, 14.204),
            "On these photographs both are worse than plain gray (CIEDE2000: naive_deep 13.10, "
            "pix2pix 14.20, gray 11.80). They were trained on painted birds.",
        ),
        (
            {"naive_deep": "photographs", "pix2pix": "photographs"},
            "painted",
            (9.1, 10),
            "On these painted birds both are better than plain gray (CIEDE2000: naive_deep 9.10, "
            "pix2pix 10.00, gray 11.80). They were trained on photographs.",
        ),
        (
            {"naive_deep": "painted birds", "pix2pix": "photographs"},
            "photographs",
            (13.1, 10),
            "On these photographs naive_deep is worse than plain gray, pix2pix is better than "
            "plain gray (CIEDE2000: naive_deep 13.10, pix2pix 10.00, gray 11.80). naive_deep "
            "was trained on painted birds, pix2pix was trained on photographs.",
        ),
        (
            {"a": "", "b": "photographs", "c": ""},
            "photographs",
            (11.801, 10, 10),
            "On these photographs a is as good as plain gray, b and c are better than plain gray "
            "(CIEDE2000: a 11.80, b 10.00, c 10.00, gray 11.80). b was trained on photographs.",
        ),
        (
            {"a": "", "b": "", "c": ""},
            "photographs",
            (10, 10, 10),
            "On these photographs all are better than plain gray "
            "(CIEDE2000: a 10.00, b 10.00, c 10.00, gray 11.80).",
        ),
    ],
)
def test_the_verdict_is_a_sentence_that_fits_the_figures(trained_on, kind, scores, expected):
    rows = [*zip(trained_on, scores, strict=True), ("gray", 11.8), ("a_tta", 1.0)]
    means = pd.DataFrame(rows, columns=["model", "delta_e"])
    assert verdict(means, trained_on, kind) == expected


def test_names_are_told_apart_as_file_systems_compare_them(tmp_path):
    files = [tmp_path / name for name in ("a/x.jpg", "b/X.png", "x-2.jpg", "c/x.jpg")]
    assert name_apart(files) == ["x.jpg", "X-2.png", "x-2-2.jpg", "x-3.jpg"]
