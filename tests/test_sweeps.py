"""Sweeps as a user meets them: real processes, real storages, real deaths."""

import dataclasses
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import optuna
import pandas as pd
import pytest
import sqlalchemy
from optuna.trial import TrialState

from colorization.config import VARIANTS
from sweeps import space
from sweeps.__main__ import main
from sweeps.space import Spec
from sweeps.storage import Storage
from sweeps.study import MAX_CRASHES, open_study, pruner, retry, sampler
from tests import warm
from tests.conftest import ROOT, serve_mlflow

LONG = 12  # epochs of a trial in which something happens to its process
SMALL = {"fix": "variant=naive_dropout,filters=4,depth=2,size=32", "epochs": 2, "final_epochs": 0}


@pytest.fixture
def sweep(cache, paintings, tmp_path):
    """A function that starts `python -m sweeps`, a real process, on sixty painted birds."""

    started = []

    def start(store, env=(), **flags):
        flags = {"data": paintings, "register": "no"} | SMALL | flags
        environment = os.environ | {
            "COLORIZATION_CACHE": str(cache),
            "MLFLOW_TRACKING_URI": store,
            "PYTHONPATH": str(ROOT),
            **dict(env),
        }
        command = [sys.executable, "-m", "sweeps"] + [
            str(word) for name, value in flags.items() for word in (f"--{name}", value)
        ]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(warm.Popen(command, env=environment, cwd=tmp_path, **output))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def finish(process, status=0, seconds=600):
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == status, output
    assert "Traceback" not in output
    return output


class Postgres:
    """A PostgreSQL server on loopback, with the URL of a database."""

    def __init__(self, programs, folder):
        root = hasattr(os, "geteuid") and os.geteuid() == 0  # the server refuses to be root
        user = pwd.getpwnam("nobody").pw_uid if root else None
        if root:
            os.chown(folder, user, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://birds@127.0.0.1:{self.port}/postgres"
        data = str(folder / "data")
        self.options = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        create = [programs / "initdb", "--auth=trust", "--username=birds", "--no-sync", data]
        subprocess.run(create, check=True, timeout=120, **self.options)
        self.command = [programs / "postgres", "-D", data, "-k", str(folder), "-F"]
        self.command += ["-p", str(self.port), "-c", "max_connections=500"]
        self.start()

    def start(self, seconds=60):
        """Start the server and wait until it answers."""
        self.server = subprocess.Popen(self.command, stderr=subprocess.DEVNULL, **self.options)
        engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.pool.NullPool)
        deadline = time.monotonic() + seconds
        while self.server.poll() is None and time.monotonic() < deadline:
            try:
                engine.connect().close()
                return
            except sqlalchemy.exc.OperationalError:
                time.sleep(0.2)
        raise RuntimeError("PostgreSQL does not answer")

    def stop(self):
        """Stop the server without waiting for its clients."""
        self.server.send_signal(signal.SIGINT)
        self.server.wait(60)


@pytest.fixture(scope="module")
def postgres():
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    server = Postgres(places[0], folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def load(storage, name):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A look must not create the tables or note their version, as Optuna does where it is missing:
    # the workers do that, under their lock.
    options = {"poolclass": sqlalchemy.pool.NullPool}  # looks are many
    with sqlalchemy.create_engine(storage, **options).connect() as connection:
        connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).one()
    skip = {"skip_table_creation": True, "skip_compatibility_check": True}
    opened = optuna.storages.RDBStorage(storage, options, **skip)
    return optuna.load_study(study_name=name, storage=opened)


def is_running(trial):
    return trial.state == TrialState.RUNNING and "worker" in trial.user_attrs


def mid_trial(workers, storage, name, epochs, seconds=600):
    """Wait until a trial has reported while each worker is in one, and is far from its end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and all(worker.poll() is None for worker in workers):
        try:
            trials = load(storage, name).trials
        except Exception:  # neither tables nor study yet
            trials = []
        running = [trial for trial in trials if is_running(trial)]
        reported = [trial for trial in running if trial.intermediate_values]
        early = [t for t in reported if len(t.intermediate_values) < epochs / 2]
        if len(running) == len(workers) and early:
            return early[0]
        time.sleep(0.2)
    ended = [worker for worker in workers if worker.poll() is not None]
    raise AssertionError([worker.communicate()[0] for worker in ended])


def logged(store, study):
    """Return the parent's run of a study, and those of its trials by number."""
    client = mlflow.MlflowClient(store)
    (parent,) = client.search_runs(["0"], f"tags.study = '{study}' and tags.sweep = 'study'")
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and tags.sweep = 'trial'"
    runs = client.search_runs(["0"], query)
    return parent, {int(run.info.run_name.split()[1]): run for run in runs}


def states(runs):
    return {number: (run.info.status, run.data.tags["state"]) for number, run in runs.items()}


def counted(study):
    """Return the states of the trials that are not tried again."""
    again = {trial.user_attrs.get("retry_of") for trial in study.trials}
    return [trial.state.name for trial in study.trials if trial.number not in again]


@pytest.mark.slow
def test_trials_of_a_worker_that_was_killed_and_of_one_that_slept_are_tried_again_by_the_third(
    sweep, tracking_server, postgres
):
    flags = {"study": "silent", "storage": postgres.url, "trials": 3, "epochs": LONG}
    workers = [sweep(tracking_server, **flags) for _ in range(3)]
    mid_trial(workers, postgres.url, "silent", LONG)
    trials = load(postgres.url, "silent").trials
    running = [trial for trial in trials if is_running(trial)]
    running.sort(key=lambda trial: len(trial.intermediate_values))  # the last ends first
    killed, asleep, _ = running
    pids = [int(trial.user_attrs["worker"].split(":")[1]) for trial in (killed, asleep)]
    os.kill(pids[0], signal.SIGKILL)
    os.kill(pids[1], signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 300
        silent = {killed.number, asleep.number}
        while silent & {t.number for t in load(postgres.url, "silent").trials if is_running(t)}:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        os.kill(pids[1], signal.SIGCONT)
    outputs = {worker.pid: finish(worker) for worker in workers if worker.pid != pids[0]}
    living = outputs.pop(next(pid for pid in outputs if pid != pids[1]))
    assert f"trial {asleep.number}: another process took this one for dead" in outputs[pids[1]]
    study = load(postgres.url, "silent")
    parent, runs = logged(tracking_server, "silent")
    assert parent.info.status == "FINISHED"
    assert {run.info.status for run in runs.values()} <= {"FINISHED", "KILLED"}
    for victim in (killed, asleep):
        assert study.trials[victim.number].state == TrialState.FAIL
        (again,) = [t for t in study.trials if t.user_attrs.get("retry_of") == victim.number]
        assert again.params == victim.params
        assert again.state in (TrialState.COMPLETE, TrialState.PRUNED)
        assert states(runs)[victim.number] == ("KILLED", "killed")
        assert runs[again.number].data.tags["retry_of"] == str(victim.number)
        assert f"trial {victim.number}: its process has died" in living
    assert len(counted(study)) == 3 and "FAIL" not in counted(study)


@pytest.mark.slow
def test_a_database_that_is_away_for_a_while_costs_the_trial_that_it_interrupted(
    sweep, ready_store, postgres
):
    flags = {"study": "away", "storage": postgres.url, "trials": 2, "epochs": LONG}
    process = sweep(ready_store, **flags)
    victim = mid_trial([process], postgres.url, "away", LONG)
    postgres.stop()
    noticed = next((line for line in process.stdout if "the storage was away" in line), None)
    postgres.start()
    output = finish(process)
    study = load(postgres.url, "away")
    (again,) = [t for t in study.trials if t.user_attrs.get("retry_of") == victim.number]
    assert again.params == victim.params and again.state == TrialState.COMPLETE
    assert len(counted(study)) == 2
    parent, runs = logged(ready_store, "away")
    assert parent.info.status == "FINISHED"
    assert {run.info.status for run in runs.values()} <= {"FINISHED", "FAILED", "KILLED"}
    assert noticed, output


@pytest.mark.slow
def test_a_tracking_server_that_goes_away_ends_the_worker_and_the_study_goes_on_later(
    sweep, ready_store, tmp_path
):
    storage = f"sqlite:///{tmp_path}/sweeps.db"
    impatient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    flags = {"study": "alone", "trials": 1, "epochs": LONG, "env": impatient}
    with serve_mlflow(tmp_path) as server:
        process = sweep(server, **flags)
        mid_trial([process], storage, "alone", LONG)
    output = finish(process, status=2)
    assert "Mend that, and start again: the study goes on." in output
    with serve_mlflow(tmp_path, port=server.rpartition(":")[2]):
        finish(sweep(server, **flags))
        parent, runs = logged(server, "alone")
        assert parent.info.status == "FINISHED" and "error" not in parent.data.tags
        assert states(runs) == {0: ("KILLED", "killed"), 1: ("FINISHED", "finished")}
        assert runs[1].data.tags["retry_of"] == "0"


@pytest.mark.slow
def test_ctrl_c_while_the_database_is_away_ends_in_a_sentence(sweep, ready_store, postgres):
    flags = {"study": "gone", "storage": postgres.url, "trials": 2, "epochs": LONG}
    process = sweep(ready_store, **flags)
    mid_trial([process], postgres.url, "gone", LONG)
    postgres.stop()
    try:
        deadline = time.monotonic() + 120
        noticed = {0: ("FAILED", "killed")}  # then it waits for the database
        while states(logged(ready_store, "gone")[1]) != noticed:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output = finish(process, status=130)
        assert "started again, the study goes on" in output
        parent, runs = logged(ready_store, "gone")
        assert parent.info.status == "KILLED"
        assert states(runs) == noticed
    finally:
        postgres.start()


@pytest.mark.slow
def test_two_workers_share_a_fresh_sqlite_file_and_one_trains_the_winner(
    sweep, tracking_server, tmp_path
):
    flags = {"study": "two", "trials": 4, "final_epochs": 3, "register": "yes"}
    workers = [sweep(tracking_server, **flags) for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    study = load(f"sqlite:///{tmp_path}/sweeps.db", "two")
    assert set(counted(study)) <= {"COMPLETE", "PRUNED"} and len(counted(study)) == 4
    assert len({trial.user_attrs["worker"] for trial in study.trials}) == 2
    assert all("serve it: mlflow models serve -m models:/" in output for output in outputs), outputs
    parent, runs = logged(tracking_server, "two")
    assert parent.info.status == "FINISHED"
    assert set(runs) == {trial.number for trial in study.trials}
    client = mlflow.MlflowClient(tracking_server)
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    roles = [run.data.tags["sweep"] for run in client.search_runs(["0"], query)]
    assert roles.count("winner") + roles.count("preset") <= 2  # found by the second worker
    check_the_story(client, parent, runs, study)


def check_the_story(client, parent, runs, study):
    best = study.best_trial
    assert parent.data.metrics["best_value"] == pytest.approx(best.value)
    assert parent.data.params["objective"] == parent.data.tags["objective"] == "delta_e"
    note = parent.data.tags["mlflow.note.content"]
    assert "won by CIEDE2000" in note and SMALL["fix"] in note
    run_id = parent.info.run_id
    files = {each.path for each in client.list_artifacts(run_id)}
    assert {"trials.json", "space.json", "comparison.json", "test_pictures.png"} <= files
    figures = {Path(each.path).stem for each in client.list_artifacts(run_id, "study")}
    assert {"history", "parallel_coordinates", "slices", "intermediate_values"} <= figures
    with open(client.download_artifacts(run_id, "trials.json")) as file:
        table = pd.DataFrame(**json.load(file))
    assert list(table["trial"]) == [trial.number for trial in study.trials]
    assert list(table["run_id"]) == [runs[number].info.run_id for number in table["trial"]]
    for trial in study.trials:
        data = runs[trial.number].data
        assert data.metrics["value"] == pytest.approx(trial.value)
        name = f"trial {trial.number} {trial.user_attrs['label']}"
        assert runs[trial.number].info.run_name == name
        assert data.params["dropout"] == str(trial.params["dropout"])
        assert not any(name.startswith("test_") for name in data.metrics)
        assert {each.tags[0].value for each in runs[trial.number].inputs.dataset_inputs} == {
            "training",
            "validation",
        }
        epochs = client.get_metric_history(runs[trial.number].info.run_id, "val/delta_e")
        assert [point.step for point in epochs] == sorted(trial.intermediate_values)
    winner = client.get_run(parent.data.tags["winner_run"])
    assert winner.data.params["epochs"] == "3"
    assert float(winner.data.params["dropout"]) == best.params["dropout"]
    assert "test_delta_e" in winner.data.metrics
    assert "winner" in parent.data.tags["mlflow.note.content"]
    assert "plain gray" in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_sweep_goes_on_where_ctrl_c_or_sigterm_stopped_it_and_repeats_nothing(
    sweep, ready_store, tmp_path
):
    storage = f"sqlite:///{tmp_path}/own.db"
    flags = {"study": "stopped", "storage": storage, "trials": 2, "epochs": LONG}
    expected = {0: ("FINISHED", "finished")}
    for number, stop, status in ((1, signal.SIGINT, 130), (2, signal.SIGTERM, 143)):
        process = sweep(ready_store, **flags)
        while (stopped := mid_trial([process], storage, "stopped", LONG)).number < number:
            time.sleep(0.1)
        process.send_signal(stop)
        finish(process, status=status)
        parent, runs = logged(ready_store, "stopped")
        assert parent.info.status == "KILLED"
        expected[number] = ("KILLED", "killed")
        assert states(runs) == expected
    finish(sweep(ready_store, **flags))
    resumed, runs = logged(ready_store, "stopped")
    assert resumed.info.run_id == parent.info.run_id
    assert resumed.info.status == "FINISHED"
    study = load(storage, "stopped")
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    assert study.trials[3].params == study.trials[1].params == stopped.params
    assert study.trials[3].state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert len(runs) == 4


def test_draws_depend_on_seed_and_number_and_not_on_the_process(tmp_path):
    def values(seed, processes):
        for _ in range(processes):
            study = optuna.create_study(
                study_name=f"{seed}-{processes}",
                storage=f"sqlite:///{tmp_path}/draws.db",
                load_if_exists=True,
            )
            for _ in range(12 // processes):
                study.sampler = sampler(spec(seed=seed), len(study.trials))
                study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=1)
        return [trial.params["x"] for trial in study.trials]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert values(0, processes=1) == values(0, processes=3)
    assert values(1, processes=1) != values(0, processes=2)
    assert len(set(values(2, processes=1))) == 12


def spec(digest="", seed=0, objective="delta_e", fix=SMALL["fix"]):
    fix = space.parse_fix("naive", fix)
    return Spec("naive", objective, fix, epochs=SMALL["epochs"], seed=seed, digest=digest)


@pytest.mark.parametrize(
    ("family", "fix", "begin"),
    [
        ("naive", "", 4),
        ("naive", "variant=naive_efficientnet", 4),
        ("pix2pix", "", 7),
        ("pix2pix", "variant=pix2pix", 6),
        ("pix2pix", "variant=pix2pix_efficientnet", 7),
        ("pix2pix", "variant=pix2pix,generator_only_ratio=1", 4),
    ],
)
def test_pruning_begins_with_half_of_the_epochs_or_of_the_adversarial_ones(family, fix, begin):
    judged = Spec(family, "delta_e", space.parse_fix(family, fix), epochs=8, seed=0, digest="")
    trials = optuna.create_study(pruner=pruner(judged))
    good = optuna.trial.create_trial(value=0, intermediate_values=dict.fromkeys(range(1, 9), 0))
    trials.add_trials([good] * 10)
    bad = trials.ask()
    for epoch in range(1, 9):
        bad.report(1, epoch)
        if bad.should_prune():
            break
    assert epoch == begin


@pytest.fixture
def opened(tmp_path, small_splits):
    """A function that opens a study as a process would, in the default storage."""

    def open_as_a_process(name, **flags):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = Storage(f"sqlite:///{tmp_path}/sweeps.db")
        return open_study(storage, name, spec(small_splits.digest, **flags))

    return open_as_a_process


@pytest.fixture
def prepared(opened):
    """A function that creates a study as the first process would, in the default storage."""
    return lambda name, **flags: opened(name, **flags)[0]


def draw(study, spec):
    return spec.config_of(study.ask(spec.searched).params)


def test_a_study_goes_on_with_its_own_variants_when_another_one_was_added(opened, monkeypatch):
    study, before = opened("june", fix="")
    presets = len(study.trials)
    drawn = draw(study, before)
    added = dataclasses.replace(VARIANTS["naive_deep"], variant="naive_new", epochs=99)
    monkeypatch.setitem(VARIANTS, "naive_new", added)
    study, after = opened("june", fix="")
    assert (after, after.presets()) == (before, before.presets())
    assert after.full_epochs == VARIANTS["naive_efficientnet"].epochs
    assert len(study.trials) == presets
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    configs = [drawn] + [draw(study, after) for _ in range(presets + 20)]
    assert {config.variant for config in configs} == set(before.variants)
    assert "naive_new" in opened("july", fix="")[1].variants


@pytest.fixture
def variants():
    """`VARIANTS`, to be changed; its order is restored as well."""
    before = dict(VARIANTS)
    yield VARIANTS
    VARIANTS.clear()
    VARIANTS.update(before)


def test_a_study_whose_variant_has_changed_or_gone_is_another_one(opened, variants):
    opened("june", fix="")
    known = dict(variants)
    variants["naive_deep"] = dataclasses.replace(known["naive_deep"], ema_momentum=0.9)
    with pytest.raises(ValueError, match="another study of this name.*naive_deep="):
        opened("june", fix="")
    del variants["naive_deep"]
    with pytest.raises(ValueError, match="another study of this name.*naive_deep=none"):
        opened("june", fix="")
    variants.update(known)
    with pytest.raises(ValueError, match="another study of this name.*objective=psnr"):
        opened("june", fix="", objective="psnr")
    opened("june", fix="")


def test_a_trial_whose_process_dies_is_tried_again_but_not_forever(prepared):
    study = prepared("crashes")
    again = study.ask()
    for _ in range(MAX_CRASHES):
        retry(study, study.trials[again.number])  # stopped by Ctrl-C
        retry(study, study.trials[study.ask().number], crashed=True)
        again = study.ask()
        assert study.trials[again.number].user_attrs["preset"] == "naive_dropout"
    again.suggest_float("dropout", 0, 1)
    assert again.params == {"dropout": 0.2}  # though no trial before had drawn it
    retry(study, study.trials[again.number], crashed=True)
    assert not study.get_trials(states=(TrialState.WAITING,))


@pytest.mark.slow
def test_after_a_trial_that_fails_one_far_below_in_psnr_is_pruned_and_the_highest_wins(
    sweep, ready_store, prepared
):
    study = prepared("psnr", objective="psnr")
    study.enqueue_trial({"dropout": 5.0, "learning_rate": 1e-3})  # no config allows that
    study.enqueue_trial({"dropout": 0.0, "learning_rate": 1e-4})
    for _ in range(3):  # others that began well, and ended badly
        ended = optuna.trial.create_trial(value=1.0, intermediate_values={1: 99.0, 2: 1.0})
        study.add_trial(ended)
    flags = {"study": "psnr", "objective": "psnr", "trials": 6, "final_epochs": 1}
    output = finish(sweep(ready_store, **flags))
    own, failed, pruned, *_ = study.trials
    assert [each.state.name for each in (own, failed, pruned)] == ["COMPLETE", "FAIL", "PRUNED"]
    assert "trial 1: failed (ValueError: Bad value for `dropout`" in output
    assert list(pruned.intermediate_values) == [1]
    outcome = f"pruned after epoch 1, psnr {pruned.value:.4f}; best {own.value:.4f}"
    assert re.search(rf"trial 2 naive_\w+: {re.escape(outcome)}", output)
    parent, runs = logged(ready_store, "psnr")
    client = mlflow.MlflowClient(ready_store)
    expected = [("FINISHED", "finished"), ("FAILED", "failed"), ("KILLED", "pruned")]
    assert states(runs) == dict(enumerate(expected))
    assert "dropout" in runs[1].data.tags["error"]
    assert parent.data.metrics["best_value"] == pytest.approx(own.value)
    history = client.get_metric_history(runs[0].info.run_id, "val/psnr")
    assert own.value in [pytest.approx(entry.value) for entry in history]
    winner = client.get_run(parent.data.tags["winner_run"])
    assert winner.data.params["dropout"] == "0.2"


@pytest.mark.slow
def test_after_its_time_a_worker_begins_no_other_trial_and_concludes(sweep, ready_store, tmp_path):
    finish(sweep(ready_store, study="timeout", trials=50, timeout=1))
    study = load(f"sqlite:///{tmp_path}/sweeps.db", "timeout")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]
    parent, _ = logged(ready_store, "timeout")
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_no_secret_of_a_storage_s_address_is_logged_or_stored(
    sweep, ready_store, postgres, tmp_path
):
    address = postgres.url.replace("birds@", "birds:s3cret@")  # where everybody is trusted
    secrets = "options=-c%20application_name%3Dp4ssword&sslpassword=p4ssword"
    flags = {"study": "secrets", "storage": f"{address}?{secrets}", "trials": 1, "epochs": 1}
    output = finish(sweep(ready_store, **flags))
    parent, _ = logged(ready_store, "secrets")
    expected = postgres.url.replace("birds@", "")
    assert parent.data.params["storage"] == expected and expected in output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    known = output.encode() + b"".join(path.read_bytes() for path in files)
    assert b"s3cret" not in known and b"p4ssword" not in known


@pytest.mark.slow
def test_a_study_in_which_all_were_pruned_ends_in_a_sentence(sweep, ready_store, prepared):
    study = prepared("pruned")

    def give_up(trial):
        raise optuna.TrialPruned

    study.optimize(give_up, n_trials=1)  # the preset, which no sweep would prune
    output = finish(sweep(ready_store, study="pruned", trials=1), status=2)
    assert "No trial has finished, so that there is no winner: 1 pruned" in output
    parent, _ = logged(ready_store, "pruned")
    assert parent.info.status == "FAILED"
    assert "No trial has finished" in parent.data.tags["error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"family": "pix3pix"}, "invalid choice: 'pix3pix'"),
        ({"objective": "loss"}, "invalid choice: 'loss'"),
        ({"fix": "filters=3"}, "Expected a whole number from 4 to 256. Received: filters='3'"),
        ({"trials": "0"}, "Bad value for `trials`. Expected a whole number from 1"),
        ({"storage": "mysql://me:secret@here/birds"}, "storage='mysql://here/birds'"),
        ({"storage": "postgresql://me:secret@localhost:1/birds"}, "The storage does not answer"),
        (
            {"storage": "postgresql://localhost:1/b?sslpassword=secret"},
            "'postgresql://localhost:1/b'",
        ),
        ({"storage": "postgresql://localhost:1/b?PASSWORD=secret"}, "'postgresql://localhost:1/b'"),
        (
            {"storage": "postgresql://localhost:1/b?options=-csecret"},
            "'postgresql://localhost:1/b'",
        ),
        ({"storage": "postgresql://me:a@secret@localhost:1/b"}, "'postgresql://localhost:1/b'"),
        ({"storage": "postgresql://me:a#secret@localhost:1/b"}, "'postgresql://...'"),
        ({"data": "https://me:secret@host/birds.zip?secret"}, "data='https://host/birds.zip'"),
    ],
)
def test_a_bad_argument_is_a_sentence_without_password_and_leaves_no_run(
    flags, message, call, paintings, tmp_path
):
    flags = {"data": paintings} | flags
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    status, output = call(main, *words)
    assert status == 2
    assert message in output and "Traceback" not in output
    assert "secret" not in output
    assert not (tmp_path / "mlflow.db").exists()


def launch(store, paintings, cache, folder, **flags):
    """Return the command and the environment of `mlflow run -e sweep`, and where trials are."""
    environment = os.environ | {
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": store,
        "COLORIZATION_CACHE": str(cache),
    }
    storage = f"sqlite:///{folder}/launched.db"
    flags = SMALL | {"data": paintings, "study": "launched", "storage": storage} | flags
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "sweep"]
    command += ["--env-manager", "local"]
    command += [word for name, value in flags.items() for word in ("-P", f"{name}={value}")]
    return command, environment, storage


@pytest.mark.slow
def test_under_mlflow_run_the_launched_run_is_the_parent_and_a_second_one_only_helps(
    sweep, ready_store, tmp_path
):
    flags = {"study": "launched", "storage": f"sqlite:///{tmp_path}/own.db", "trials": 1}
    client = mlflow.MlflowClient(ready_store)
    for _ in range(2):  # as `mlflow run` does
        run = client.create_run("0", tags={"mlflow.project.entryPoint": "sweep"})
        environment = {"MLFLOW_RUN_ID": run.info.run_id}
        finish(sweep(ready_store, environment, **flags))
        client.set_terminated(run.info.run_id)
    parent, runs = logged(ready_store, "launched")
    assert parent.data.tags["mlflow.project.entryPoint"] == "sweep"
    assert parent.info.status == "FINISHED"
    assert states(runs) == {0: ("FINISHED", "finished")}
    (helper,) = client.search_runs(["0"], "tags.sweep = 'worker'")
    assert helper.info.status == "FINISHED"
    assert parent.info.run_id in helper.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_ctrl_c_on_mlflow_run_leaves_no_run_running(ready_store, paintings, cache, tmp_path):
    command, environment, storage = launch(
        ready_store, paintings, cache, tmp_path, trials=1, epochs=LONG
    )
    process = warm.Popen(command, env=environment, start_new_session=True)
    mid_trial([process], storage, "launched", LONG)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of its processes hear it
    process.wait(60)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and "RUNNING" in str(
        states(logged(ready_store, "launched")[1])
    ):
        time.sleep(0.5)  # the launcher does not wait for the end of what it has launched
    parent, runs = logged(ready_store, "launched")
    assert parent.data.tags["mlflow.project.entryPoint"] == "sweep"
    assert states(runs) == {0: ("KILLED", "killed")}
    assert parent.info.status in ("FAILED", "KILLED")  # MLflow's own word comes last
