"""Which experiment a run is in, and when it ended."""

import sys

import mlflow
import optuna
import pytest

from colorization import launched, process, runs
from sweeps.space import Spec
from sweeps.study import Clock
from tests import warm
from tests.conftest import ROOT

OPEN = """
import os
import mlflow
from colorization import process, runs

def experiment_of_a_run(**environment):
    for name in [name for name in os.environ if name.startswith("MLFLOW_EXPERIMENT")]:
        del os.environ[name]
    os.environ |= environment
    process.start()
    with runs.open_run("naive_basic") as run:
        return mlflow.get_experiment(run.info.experiment_id).name

launched = mlflow.MlflowClient().create_run("0").info.run_id
mine = mlflow.MlflowClient().create_experiment("mine")
print(
    experiment_of_a_run(),
    experiment_of_a_run(MLFLOW_EXPERIMENT_NAME="named"),
    experiment_of_a_run(MLFLOW_EXPERIMENT_ID=mine),
    experiment_of_a_run(MLFLOW_RUN_ID=launched),
    mlflow.set_experiment("set").name, experiment_of_a_run(),
)
"""


@pytest.mark.slow
def test_a_run_is_in_the_project_s_experiment_unless_another_one_is_named(active_store):
    done = warm.run([sys.executable, "-c", OPEN], cwd=ROOT)
    assert done.stdout.split() == ["bird-colorization", "named", "mine", "Default", "set", "set"], (
        done.stderr
    )


def test_who_deleted_the_experiment_reads_how_to_go_on(active_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "gone")
    mlflow.delete_experiment(mlflow.create_experiment("gone"))
    with pytest.raises(mlflow.MlflowException) as caught, runs.open_run("naive_basic"):
        pass
    assert "MLFLOW_EXPERIMENT_NAME=" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("tag", [True, False])
def test_a_run_that_mlflow_run_overwrote_keeps_its_end(tag, active_store):
    with pytest.raises(KeyboardInterrupt), runs.open_run("naive_basic") as run:
        raise KeyboardInterrupt
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    ended = client.get_run(run_id).info.end_time
    client.set_terminated(run_id, "FAILED", ended + 60_000)
    if not tag:  # as an earlier release set it
        client.set_tag(run_id, launched.ENDED_AS, "KILLED")
    runs.end_stale_runs()
    info = client.get_run(run_id).info
    assert info.status == "KILLED"
    assert not tag or info.start_time <= info.end_time <= ended


def test_a_run_stopped_before_it_was_opened_keeps_its_end(active_store, monkeypatch):
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", tags={"mlflow.project.entryPoint": "app"}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    process.name_run("", "KILLED")
    ended = client.get_run(run_id).info.end_time
    client.set_terminated(run_id, "FAILED", ended + 60_000)
    runs.end_stale_runs()
    info = client.get_run(run_id).info
    assert info.status == "KILLED" and info.start_time <= info.end_time <= ended


@pytest.mark.parametrize("name", ["loss/l1", runs.HEARTBEAT])
def test_a_killed_run_ended_when_it_logged_last(name, active_store):
    client = mlflow.MlflowClient()
    run = client.create_run("0")
    folder = runs.file_of(run.info.run_id).parent
    folder.mkdir()
    client.set_tag(run.info.run_id, launched.PLACE, runs._place(folder))
    last = run.info.start_time + 5_000
    for step, time in enumerate([last - 1_000, last]):
        client.log_metric(run.info.run_id, name, 1.0, timestamp=time, step=step)
    runs.end_stale_runs()
    info = client.get_run(run.info.run_id).info
    assert (info.status, info.end_time) == ("KILLED", last)


def test_one_trial_of_one_epoch_is_said_in_the_singular():
    text = Clock(1, 1, 1).plan(optuna.create_study(), Spec("naive", "delta_e", {}, 1, 0))
    assert "1 trial of 1 epoch," in text and "1 epoch each" in text
