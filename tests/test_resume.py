"""Killed trainings go on: real processes, real kills, a real server."""

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from colorization import resumption, runs
from colorization.__main__ import main, parse
from colorization.config import VARIANTS, from_arguments
from colorization.errors import InputError
from colorization.training import checkpoint
from tests import warm
from tests.conftest import ROOT, copy_store, unpack_birds

pytestmark = pytest.mark.slow

TIMED = ("rate/images_per_second", "system/")  # never the same twice


def metrics(client, run_id):
    """Every value of every metric that a seed determines, by name and step."""
    names = client.get_run(run_id).data.metrics
    return {
        name: [(each.step, each.value) for each in client.get_metric_history(run_id, name)]
        for name in names
        if not name.startswith(TIMED)
    }


def until_line(process, *texts):
    for line in process.stdout:
        if any(text in line for text in texts):
            return
    raise AssertionError(f"none of {texts}")


def until_epoch(process, epoch):
    until_line(process, f"weights, epochs {epoch} to ", f"epoch {epoch - 1}/")


def until(process, happened, seconds=300):
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill(process):
    process.kill()
    process.communicate(timeout=60)


# The command line, but with an encoder that is built in no time.
TINY = """
import sys
from colorization import __main__
from colorization.models import pretrained_unet
from tests.networks import tiny_encoder

pretrained_unet.ENCODERS["efficientnet"] = tiny_encoder
sys.exit(__main__.main())
"""
PHASES = ["pix2pix_efficientnet", "--epochs", 6]  # two of each phase
PHASES += ["--generator_only_ratio", 0.67, "--finetune_ratio", 0.5, "--filters", 4, "--depth", 2]
PHASES += ["--size", 32, "--batch_size", 16, "--register", "no"]


@pytest.fixture(scope="module")
def phases(paintings, empty_store, cache, tmp_path_factory):
    """A training that was never killed, and one that was in each phase: its runs."""
    folder = tmp_path_factory.mktemp("phases")
    store, file = copy_store(empty_store, folder, folder / "mlruns"), folder / "mlflow.db"
    client = mlflow.MlflowClient(store)

    environment = os.environ | {
        "COLORIZATION_CACHE": str(cache),
        "MLFLOW_TRACKING_URI": store,
        "PYTHONPATH": str(ROOT),
    }

    def start(*flags):
        command = [sys.executable, "-c", TINY, *PHASES, "--data", paintings, *flags]
        return warm.Popen(
            [*map(str, command)],
            env=environment,
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def found(query, *values):  # at once, and for next to nothing, unlike MLflow
        return database.execute(query, (killed, *values)).fetchall()

    def logged(step):
        query = "SELECT 1 FROM metrics WHERE run_uuid = ? AND key = 'val/psnr' AND step = ?"
        return found(query, step)

    def trained():
        return found("SELECT 1 FROM tags WHERE run_uuid = ? AND key = 'parameters'")

    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    whole = start()
    assert whole.wait(600) == 0, whole.stdout.read()
    (run,) = client.search_runs(["0"])
    process = start()
    until_epoch(process, 1)
    killed = client.search_runs(["0"])[0].info.run_id
    partial = cache / "runs" / killed / "checkpoint.partial"
    until(process, lambda: logged(1))  # not in the checkpoint
    kill(process)
    process = start("--resume", "last")
    until_epoch(process, 4)
    until(process, partial.exists)  # half a checkpoint
    kill(process)
    process = start("--resume", killed)
    until_epoch(process, 5)
    until(process, lambda: logged(5))
    kill(process)
    process = start("--resume", killed)
    until_line(process, "kept epoch ")
    until(process, trained)  # it has no test yet
    kill(process)
    process = start("--resume", killed)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    database.close()
    yield client, run.info.run_id, killed


def test_a_training_killed_in_every_phase_ends_with_the_metrics_of_one_that_was_not(phases):
    client, whole, killed = phases
    expected = metrics(client, whole)
    assert metrics(client, killed) == expected  # each value once
    assert [step for step, _ in expected["val/psnr"]] == [1, 2, 3, 4, 5, 6]
    speeds = client.get_metric_history(killed, "rate/images_per_second")
    assert sorted(each.step for each in speeds) == [1, 2, 3, 4, 5, 6]


def test_it_is_one_finished_run_with_one_model_and_leaves_no_checkpoint(phases, cache):
    client, whole, killed = phases
    runs = [client.get_run(run_id) for run_id in (whole, killed)]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert runs[0].data.params == runs[1].data.params
    assert len(client.search_runs(["0"])) == 2
    assert len({each.model_id for each in runs[1].outputs.model_outputs}) == 1
    assert not (cache / "runs" / killed).exists()
    shown = [file.path for file in client.list_artifacts(killed, "images")]
    steps = [re.search(r"step(?:\+|%2B|%)(\d+)", path)[1] for path in shown if "png" in path]
    assert sorted(map(int, steps)) == sorted([*range(7)] * 2)  # sheets of three of six pictures
    rows = []
    for run_id in (whole, killed):
        table = client.download_artifacts(run_id, "test_pictures.json")
        rows.append(len(json.loads(Path(table).read_text())["data"]))
    assert rows[0] == rows[1]


SHORT = ["naive_basic", "--epochs", 2, "--filters", 8]  # as the fixture `trained`


@pytest.fixture(scope="module")
def killed(trained, colorization, tracking_server, paintings, cache, tmp_path_factory):
    """A run that was killed in its second epoch; its status before, after, and later."""
    client, _ = trained
    arguments = [*SHORT, "--data", paintings, "--register", "no", "--checkpoint_every", 1]
    folder = tmp_path_factory.mktemp("killed")
    process = colorization(*arguments, store=tracking_server, cwd=folder)
    until_epoch(process, 2)
    run_id = client.search_runs(["0"], "params.checkpoint_every = '1'")[0].info.run_id
    statuses = []

    def see(next_start=True):
        if next_start:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("COLORIZATION_CACHE", str(cache))
                mlflow.set_tracking_uri(tracking_server)
                runs.end_stale_runs()
        statuses.append(client.get_run(run_id).info.status)

    process.send_signal(signal.SIGSTOP)  # alive, but it goes no further
    see()
    kill(process)
    see(next_start=False)
    see()
    yield run_id, statuses
    for run in client.search_runs(["0"], f"tags.resumed_run = '{run_id}'"):
        client.delete_run(run.info.run_id)
    client.delete_run(run_id)


@pytest.fixture
def find(killed, tracking_server):
    """A function that looks for what the flags of a variant, and `resume`, ask for."""

    def find(*flags, variant="naive_basic"):
        mlflow.set_tracking_uri(tracking_server)
        arguments = parse([variant, *map(str, flags)])
        asked = from_arguments(VARIANTS[variant], arguments)
        return resumption.find(asked, arguments, parse([variant]))

    return find


def test_the_next_start_ends_the_run_of_a_process_that_was_killed_and_no_other(killed):
    assert killed[1] == ["RUNNING", "RUNNING", "KILLED"]


def test_settings_are_those_of_the_run_whatever_the_defaults_are(killed, find, paintings):
    run_id, _ = killed
    for flags in (["--resume", run_id], ["--resume", "last", "--data", paintings]):
        found = find(*flags, "--epochs", 20, "--filters", 8)  # a default, and what the run has
        assert found.stopped.run.info.run_id == run_id
        assert (found.config.epochs, found.config.filters) == (2, 8)
        assert found.flags == {"register": "no", "checkpoint_every": "1"}
        assert len(found.stopped.state.progress["history"]["val_psnr"]) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resume", "nothing"], "No such run.*Received: resume='nothing'"),
        (["--epochs", 3], "Expected none, or epochs=2. Received: epochs=3"),
        (["--start_from", "w.h5"], "Received: start_from=w.h5"),
        (["--data", "sample"], ""),
        (["--data", "{others}"], "pictures that it began with.*Received: data="),
    ],
)
def test_what_contradicts_the_run_is_refused(flags, message, killed, find, tmp_path):
    flags = ["--resume", killed[0], *flags]
    if "{others}" in flags:
        unpack_birds(tmp_path / "others", first=3)
        flags[-1] = tmp_path / "others"
    if message:
        with pytest.raises(InputError, match=message):
            find(*flags)
    else:
        find(*flags)


def test_weights_to_begin_with_may_be_named_as_at_first(killed, trained, find):
    client, begun_with = trained
    client.set_tag(killed[0], "start_from", begun_with.info.run_id)
    (model,) = begun_with.outputs.model_outputs
    for first in (f"models:/{model.model_id}", f"runs:/{begun_with.info.run_id}"):
        found = find("--resume", killed[0], "--start_from", first)
        assert found.start.origin == begun_with.info.run_id
    client.delete_tag(killed[0], "start_from")


def test_a_run_that_is_no_stopped_training_of_the_variant_is_refused(
    trained, killed, find, paintings
):
    with pytest.raises(InputError, match="training of pix2pix.*variant=naive_basic"):
        find("--resume", killed[0], variant="pix2pix")
    with pytest.raises(InputError, match="status=FINISHED"):
        find("--resume", trained[1].info.run_id)
    with pytest.raises(InputError, match="No stopped training of naive_deep on `birds`"):
        find("--resume", "last", "--data", paintings, variant="naive_deep")


def test_a_checkpoint_that_is_damaged_gone_or_older_gives_way_to_the_artifact(
    killed, find, cache, tmp_path
):
    file = cache / "runs" / killed[0] / "checkpoint.npz"
    whole = shutil.copy(file, tmp_path)
    content = file.read_bytes()
    for damaged in (content[:-100], content[: len(content) // 2], b"", content.replace(b"1", b"2")):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="checkpoint is damaged.*Received: checkpoint="):
            checkpoint.read(file)
        assert find("--resume", killed[0]).stopped.state.epochs == 1
    with np.load(whole) as arrays:
        begun = json.loads(str(arrays["progress"])) | {"history": {}}
        np.savez(file, **{**arrays, "progress": json.dumps(begun)})
    assert checkpoint.read(file).epochs == 0
    assert find("--resume", killed[0]).stopped.state.epochs == 1
    file.unlink()
    assert find("--resume", killed[0]).stopped.state.epochs == 1
    file.parent.mkdir(exist_ok=True)
    shutil.copy(whole, file)


def test_a_run_that_trains_elsewhere_is_let_be_until_it_has_been_silent(
    trained, find, tracking_server, monkeypatch
):
    client, _ = trained
    mlflow.set_tracking_uri(tracking_server)
    elsewhere = client.create_run("0", tags={"checkpoint": "another machine"})
    client.log_metric(elsewhere.info.run_id, runs.HEARTBEAT, 1.0)
    runs.end_stale_runs()
    run = client.get_run(elsewhere.info.run_id)
    assert run.info.status == "RUNNING" and runs.is_at_work(run)
    with pytest.raises(InputError, match="try again in 120 seconds"), runs.open_run("", None, run):
        pass
    monkeypatch.setattr(runs, "SILENT_SECONDS", 0)
    assert not runs.is_at_work(run)
    client.delete_run(run.info.run_id)


def test_a_training_whose_checkpoint_is_elsewhere_is_not_begun_again(killed, trained, find):
    client, _ = trained
    run = client.get_run(killed[0])
    lost = client.create_run("0", tags={"variant": "naive_basic"}).info.run_id
    for name, value in run.data.params.items():
        client.log_param(lost, name, value)
    client.log_metric(lost, "rate/images_per_second", 1.0, step=1)
    with pytest.raises(InputError, match="no checkpoint.*checkpoint_every=1"):
        find("--resume", lost, "--data", run.data.params["data"])
    client.delete_run(lost)


def test_a_stopped_training_prints_the_command_that_goes_on_on_another_machine_as_well(
    killed, trained, colorization, tracking_server, paintings, tmp_path
):
    (run_id, _), (client, uninterrupted) = killed, trained
    flags = ("naive_basic", "--resume", "last", "--data", paintings)
    process = colorization(*flags, store=tracking_server, cwd=tmp_path)
    until_epoch(process, 2)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert client.get_run(run_id).info.status == "KILLED"
    command = f"mlflow run . -e naive_basic -P resume={run_id} --env-manager local"
    assert output.splitlines()[-1] == f"stopped; resume it: {command}"

    environment = os.environ | {
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "COLORIZATION_CACHE": str(tmp_path / "empty"),
        "MLFLOW_TRACKING_URI": tracking_server,
    }
    words = [str(ROOT) if word == "." else word for word in shlex.split(command)]
    done = warm.run([sys.executable, "-m", *words], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics(client, run_id) == metrics(client, uninterrupted.info.run_id)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert client.list_artifacts(run_id, "checkpoint") == []
    assert client.search_model_versions(f"run_id = '{run_id}'") == []  # register=no
    (launched,) = client.search_runs(["0"], f"tags.resumed_run = '{run_id}'")
    assert launched.info.status == "FINISHED"
    assert run_id in launched.data.tags["mlflow.note.content"]


def test_a_bad_number_of_epochs_is_a_sentence(call):
    status, output = call(main, "naive_basic", "--checkpoint_every", "-1")
    assert status == 2
    assert "Expected a whole number from 0. Received: checkpoint_every='-1'" in output
