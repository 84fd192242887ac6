"""The command line as a user meets it: real processes, real signals."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time

import mlflow
import psutil
import pytest
from PIL import Image

from colorization.__main__ import main
from tests import warm
from tests.conftest import ROOT


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


def runs(store):
    return mlflow.MlflowClient(store).search_runs(["0"])


def until_training(process):
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            return
    raise AssertionError("training did not start")


def until_importing(launcher):
    """Wait until the training that `mlflow run` has started imports TensorFlow."""
    while launcher.poll() is None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(launcher.pid).children(recursive=True):
                files = [each.path for each in child.memory_maps()]
                if "colorization" in child.cmdline() and "tensorflow" in " ".join(files):
                    return
        time.sleep(0.05)
    raise AssertionError("training did not start")


def test_help_names_every_parameter_with_its_range_and_needs_no_package():
    command = [sys.executable, "-S", "-m", "colorization", "pix2pix", "--help"]
    help_text = subprocess.check_output(command, cwd=ROOT, text=True, timeout=60)
    assert "--l1_weight" in help_text and "bce or lsgan" in help_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pix2pix", "--epochs", "0"], "Expected a whole number from 1 to"),
        (["pix2pix", "--dropout", "lots"], "Received: dropout='lots'"),
        (["naive_basic", "--data", "no/such/place"], "no/such/place"),
        (["naive_basic", "--epoch", "2"], "Unknown parameter `epoch`. Did you mean `epochs`?"),
        (["naive_basic", "--lr=1"], "Did you mean `learning_rate`? Expected one of batch_size"),
        (["pix3pix"], "invalid choice: 'pix3pix'"),
    ],
)
def test_a_bad_argument_is_a_sentence_and_leaves_no_run(arguments, message, call, tmp_path):
    status, output = call(main, *arguments)
    assert status == 2
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "mlflow.db").exists()


def test_too_few_pictures_are_refused_before_any_training(call, tmp_path):
    (tmp_path / "few" / "Robin").mkdir(parents=True)
    Image.new("RGB", (200, 200), "orange").save(tmp_path / "few" / "Robin" / "1.png")
    status, output = call(main, "naive_basic", "--data", "few")
    assert status == 2
    assert "at least 10" in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "stop"),
    [("training on", signal.SIGTERM), ("epoch 1/", signal.SIGINT)],
)
def test_a_stopped_training_never_stays_running(
    moment, stop, colorization, ready_store, paintings, tmp_path
):
    arguments = ("naive_basic", "--data", paintings, "--epochs", 500, "--filters", 4, "--size", 32)
    process = colorization(*arguments, store=ready_store, cwd=tmp_path)
    for line in process.stdout:
        if moment in line:
            break
    process.send_signal(stop)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + stop
    assert "Traceback" not in output
    (run,) = runs(ready_store)
    assert run.info.status == "KILLED"


@pytest.mark.slow
def test_without_a_server_or_a_project_everything_lands_in_the_working_directory(
    colorization, paintings, tmp_path
):
    arguments = ("pix2pix", "--data", paintings, "--epochs", 1, "--filters", 4, "--depth", 2)
    arguments += ("--size", 32)
    process = colorization(*arguments, store="", cwd=tmp_path)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    (run,) = runs(f"sqlite:///{tmp_path}/mlflow.db")
    assert run.info.status == "FINISHED"
    assert run.data.params["l1_weight"] == "100.0"
    assert (tmp_path / "mlruns").is_dir()
    assert "mlflow models serve -m models:/" in output


FIRST = """
from colorization import tracking

with tracking.open_run("first"):
    tracking.log_flags("birds")
"""


@pytest.mark.slow
def test_two_first_runs_share_a_fresh_store(store, cache, tmp_path):
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)}
    start = functools.partial(warm.Popen, env=environment, cwd=tmp_path, text=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [start([sys.executable, "-c", FIRST], **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert [run.info.status for run in runs(store)] == ["FINISHED", "FINISHED"]


@pytest.fixture
def mlflow_run(ready_store, cache):
    """A function that calls `mlflow run` on the project, with this environment's Python."""

    def start(*arguments, project=ROOT, store=ready_store):
        environment = os.environ | {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": store,
            "COLORIZATION_CACHE": str(cache),
        }
        command = [sys.executable, "-m", "mlflow", "run", str(project)]
        command += ["--env-manager", "local"]
        return warm.Popen(
            [*command, *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return start


@pytest.mark.slow
def test_mlflow_run_trains_in_a_path_with_spaces_into_the_run_that_it_opened_on_a_server(
    mlflow_run, tracking_server, paintings, tmp_path
):
    project = tmp_path / "a checkout with spaces"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".git", "mlruns", "mlflow.db*"))
    spaced = tmp_path / "my birds"
    spaced.symlink_to(paintings)
    parameters = [f"data={spaced}", "epochs=1", "filters=4", "register=no", "head=rgb", "size=32"]
    parameters += ["learning_rate=1e-3"]
    flags = [flag for parameter in parameters for flag in ("-P", parameter)]
    process = mlflow_run("-e", "naive_dropout", *flags, project=project, store=tracking_server)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    client = mlflow.MlflowClient(tracking_server)
    (run,) = client.search_runs(["0"], f"tags.data_source = '{spaced}'")  # others train there too
    assert run.info.status == "FINISHED"
    assert run.data.tags["variant"] == "naive_dropout"
    assert run.data.tags["mlflow.project.entryPoint"] == "naive_dropout"
    assert run.data.params["learning_rate"] == "1e-3"  # as it was typed
    assert run.data.params["seed"] == "0"
    assert "test_psnr" in run.data.metrics
    query = f"run_id = '{run.info.run_id}'"
    assert client.search_model_versions(query) == []  # register=no


@pytest.mark.slow
def test_stopping_mlflow_run_before_training_ends_its_run(mlflow_run, ready_store, paintings):
    process = mlflow_run("-e", "naive_basic", "-P", f"data={paintings}", "-P", "filters=4")
    until_importing(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert until_ended(ready_store) in {"KILLED", "FAILED"}


@pytest.mark.slow
def test_a_refusal_under_mlflow_run_ends_the_run_failed(mlflow_run, ready_store):
    process = mlflow_run("-e", "pix2pix", "-P", "epochs=none")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Received: epochs='none'" in output
    (run,) = runs(ready_store)
    assert run.info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])  # for Ctrl-C see `test_sweeps`
def test_stopping_mlflow_run_stops_the_training_and_ends_its_run(
    stop, mlflow_run, ready_store, paintings
):
    process = mlflow_run(
        "-e",
        "naive_basic",
        "-P",
        f"data={paintings}",
        "-P",
        "epochs=500",
        "-P",
        "filters=4",
        "-P",
        "size=32",
    )
    until_training(process)
    process.send_signal(stop)
    process.communicate(timeout=120)  # its output ends only when the training has ended, too
    assert until_ended(ready_store) in {"KILLED", "FAILED"}


def until_ended(ready_store, seconds=30):
    deadline = time.monotonic() + seconds
    while (status := runs(ready_store)[0].info.status) == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.5)
    return status
