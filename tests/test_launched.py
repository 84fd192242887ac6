"""Runs that `mlflow run` opens have names and ends that say what they were."""

import os
import signal
import socket
import sys
import time

import mlflow
import pytest

from colorization import launched, process, runs
from tests import warm
from tests.conftest import ROOT, _wait_for


@pytest.fixture
def launch(active_store, monkeypatch):
    """A function that opens a run as `mlflow run` does, for this process; gives its id."""

    def open_run(entry="colorize", run_id=None):
        tags = {"mlflow.source.type": "PROJECT", "mlflow.source.name": f"file://{ROOT}"}
        tags |= {"mlflow.project.entryPoint": entry, "mlflow.user": "robin"}
        run_id = run_id or mlflow.MlflowClient().create_run("0", tags=tags).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        return run_id

    return open_run


def told(run_id):
    run = mlflow.get_run(run_id)
    return run.info.run_name, run.info.status, run.data.tags.get("kind")


def test_a_tool_names_and_ends_the_launched_run_and_opens_none_by_itself(launch):
    run_id = launch()
    with runs.open_launched("colorize album") as tag:
        assert told(run_id) == ("colorize album", "RUNNING", "tool")
        tag("mlflow.runName", "colorize album: 10 of 12")
    assert told(run_id) == ("colorize album: 10 of 12", "FINISHED", "tool")
    with runs.open_launched("register") as tag:
        tag("mlflow.runName", "register naive")
        assert mlflow.active_run() is None
    assert len(mlflow.search_runs(output_format="list")) == 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_a_person_stopped_is_killed_whatever_mlflow_run_says_until_it_breaks_down(
    stop, launch
):
    run_id = launch()
    with pytest.raises(stop), runs.open_run("naive_deep"):
        raise stop
    assert told(run_id) == ("naive_deep", "KILLED", None)
    mlflow.MlflowClient().set_terminated(run_id, "FAILED")  # as `mlflow run` does then
    runs.end_stale_runs()
    assert told(run_id)[1] == "KILLED"
    launch(run_id=run_id)
    with pytest.raises(ZeroDivisionError), runs.open_run("naive_deep"):
        raise ZeroDivisionError
    runs.end_stale_runs()
    assert told(run_id)[1] == "FAILED"


def test_only_a_run_of_this_project_that_nobody_opened_counts_as_not_started(launch, monkeypatch):
    monkeypatch.setattr(launched.psutil, "process_iter", lambda: [])  # other tests call it as well
    client, (left, opened, other) = mlflow.MlflowClient(), (launch() for _ in range(3))
    client.set_tag(opened, launched.PLACE, "another machine")
    client.set_tag(other, "mlflow.source.name", "file:///elsewhere")
    runs.end_stale_runs()
    assert told(left) == ("not started: colorize", "KILLED", "tool")
    assert told(opened)[1:] == told(other)[1:] == ("RUNNING", None)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Unknown parameter `epoch`. Did you mean `epochs`?", "error: unknown parameter epoch"),
        ("No such folder. Received: 'a\nb'", "error: no such folder"),
        ("x" * 300, "error: " + "x" * 80),
    ],
)
def test_an_error_makes_a_short_name(message, name):
    assert process.error_name(message) == name


@pytest.mark.slow
def test_real_launches_end_as_what_they_were(active_store, cache):
    client = mlflow.MlflowClient()
    environment = os.environ | {
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "MLFLOW_CONDA_HOME": "/nowhere",
        "COLORIZATION_CACHE": str(cache),
    }

    def start(*arguments):
        command = [sys.executable, "-m", "mlflow", "run", str(ROOT), *arguments]
        return warm.Popen(command, env=environment, start_new_session=True)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = start("--env-manager", "local", "-e", "app", "-P", f"port={port}")
    _wait_for(f"http://127.0.0.1:{port}", page)
    os.killpg(page.pid, signal.SIGINT)  # as a terminal does
    page.wait(60)
    mistyped = start("--env-manager", "local", "-e", "naive_basic", "-P", "epoch=2")
    mistyped.wait(60)
    start("-e", "naive_deep").wait(60)  # there is no Conda
    expected = {
        ("naive_efficientnet pretrained", "FINISHED", "tool"),
        ("pix2pix_efficientnet pretrained", "FINISHED", "tool"),
        ("page", "FINISHED", "tool"),
        ("error: unknown parameter epoch", "FAILED", "tool"),
        ("not started: naive_deep", "KILLED", "tool"),
    }
    deadline = time.monotonic() + 60  # other tests may be about to launch: it might be theirs
    while True:
        runs.end_stale_runs()
        ends = {told(run.info.run_id) for run in client.search_runs(["0"])}
        if ends == expected or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert ends == expected
