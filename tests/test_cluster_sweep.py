"""A sweep whose workers are started on a Dask cluster of real processes."""

import json
import os
import sys
import time

import psutil
import pytest

from colorization.errors import Failure
from sweeps import cluster
from sweeps.__main__ import main
from sweeps.storage import Storage
from tests import test_sweeps, warm
from tests.conftest import ROOT
from tests.test_sweeps import LONG, counted, finish, load, logged, mid_trial, states

postgres, sweep = test_sweeps.postgres, test_sweeps.sweep


@pytest.fixture(scope="module")
def dask(tmp_path_factory, cache):
    """A scheduler's address, with two workers, which know no store; and the log of all three."""
    place = tmp_path_factory.mktemp("dask")
    environment = os.environ | {"COLORIZATION_CACHE": str(cache)}
    started = []

    def start(*words):
        command = [sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"]
        with open(place / "log", "ab") as log:
            started.append(warm.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))

    file = place / "scheduler.json"
    try:
        start("scheduler", "--port", 0, "--host", "127.0.0.1", "--scheduler-file", file)
        while not (file.exists() and file.read_text()):
            assert started[0].poll() is None, (place / "log").read_text()
            time.sleep(0.05)
        for _ in range(2):
            own = ("--no-nanny", "--nthreads", 2, "--local-directory", place)
            start("worker", "--scheduler-file", file, *own)
        yield json.loads(file.read_text())["address"], place / "log"
    finally:
        for process in started:
            process.kill()
            process.wait()


def process_of(trial):
    return psutil.Process(int(trial.user_attrs["worker"].split(":")[1]))


@pytest.mark.slow
def test_a_study_goes_on_when_a_worker_of_the_cluster_is_killed(
    dask, sweep, tracking_server, postgres
):
    flags = {"study": "spread", "storage": postgres.url, "trials": 2, "epochs": LONG}
    flags |= {"cluster": dask[0], "workers": 2}
    client = sweep(tracking_server, **flags)
    victim = mid_trial([client] * 2, postgres.url, "spread", LONG)
    process = process_of(victim)
    process.parent().kill()
    process.wait(60)  # it ends with the Dask worker that has started it
    output = finish(client)
    study = load(postgres.url, "spread")
    assert len(counted(study)) == 2 and "FAIL" not in counted(study)
    (again,) = [t for t in study.trials if t.user_attrs.get("retry_of") == victim.number]
    assert again.params == victim.params
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 2
    for trial in study.trials:
        assert f"{trial.user_attrs['worker']}: trial {trial.number} " in output
    assert "2 of 2 trials" in output and "this worker has gone" in output
    parent, runs = logged(tracking_server, "spread")
    assert parent.info.status == "FINISHED" and "RUNNING" not in str(states(runs))


@pytest.mark.slow
def test_the_workers_end_when_their_client_is_stopped(dask, tmp_path):
    address = f"sqlite:///{tmp_path}/sweeps.db"
    started = []

    def stop_once_it_works():
        known = psutil.process_iter(["cmdline"])
        started.extend(each for each in known if address in str(each.info["cmdline"]))
        if started:
            raise KeyboardInterrupt

    with Storage(address).lock("tables"):  # for which the worker waits
        with pytest.raises(KeyboardInterrupt):
            cluster.run(dask[0], 1, {"storage": address}, stop_once_it_works)
        _, alive = psutil.wait_procs(started, 60)
    assert not alive


@pytest.mark.slow
def test_the_last_words_of_workers_that_cannot_work_are_heard_and_no_secret_is_logged(dask, caplog):
    address, log = dask
    flags = {"data": "nothing", "storage": "postgresql://me:s3cret@127.0.0.1:1/birds"}
    with pytest.raises(Failure, match="No worker came to the end.*no such data.*data='nothing'"):
        cluster.run(address, 3, flags, lambda: None)
    assert "of 3 workers of the study start: the cluster has no more" in caplog.text
    assert "no such data" in log.read_text() and "s3cret" not in log.read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"workers": 2}, "Expected cluster=tcp://host:8786 as well"),
        ({"workers": "two"}, "Bad value for `workers`. Expected a whole number from 1"),
        ({}, "Expected storage=postgresql://host/database. Received: storage='sqlite:///"),
        ({"storage": "postgresql://me:secret@here/birds"}, "Received: MLFLOW_TRACKING_URI='sqlite"),
        ({"storage": "postgresql://me:secret@here/b", "cluster": "a"}, "Received: cluster='a'"),
    ],
)
def test_what_cannot_be_spread_over_a_cluster_is_refused_before_it_begins(
    flags, message, call, paintings, tmp_path, monkeypatch
):
    store = "http://127.0.0.1:1" if flags.get("cluster") else f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    flags = {"data": paintings} | flags
    if "workers" not in flags:
        flags = {"cluster": "tcp://127.0.0.1:1"} | flags
    status, output = call(main, *[f"--{name}={value}" for name, value in flags.items()])
    assert status == 2
    assert message in output and "Traceback" not in output and "secret" not in output
    assert not (tmp_path / "mlflow.db").exists()
