"""Fixtures of all tests: a store and a cache of their own, painted birds, one trained run."""

import os

from colorization import process

process.name_run("test")
# `mlflow run -e test` hands its own run and store down; tests must never write there.
for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
    del os.environ[name]
os.environ["MLFLOW_EXPERIMENT_NAME"] = "Default"  # of the processes that tests start
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["MATPLOTLIBRC"] = os.path.join(os.path.dirname(__file__), "data")  # coarse figures

import contextlib
import gc
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from colorization.data import cache as data_cache
from colorization.data.sources import SAMPLE
from tests import warm

# A suite started in the background of a script ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
# What starts a server, a training or another process that imports TensorFlow or MLflow.
SLOW_FIXTURES = {"tracking_server", "trained", "colorization", "sweep"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # short ones last: all workers end together


def pytest_collection_finish():
    """Let no collection of garbage look at what stays: the modules, TensorFlow's among them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache folder of the tests and of the processes that they start, never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_places(cache, tmp_path, monkeypatch):
    """No test sees or changes the user's cache, store or working directory."""
    monkeypatch.setenv("COLORIZATION_CACHE", str(cache))
    monkeypatch.setattr(data_cache, "user_cache_path", lambda name, **_: tmp_path / "home" / name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def own_signals():
    """No test leaves a handler: one that ignores SIGTERM would be every later process's, too."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    process._stop_requests.clear()


@pytest.fixture
def call(caplog, capsys):
    """A function that calls an entry point here; gives its status, and what it said."""

    def call(main, *arguments):
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, caplog.text + capsys.readouterr().err

    return call


@pytest.fixture(scope="session")
def paintings(tmp_path_factory):
    """A folder of sixty painted birds, three of each species."""
    folder = tmp_path_factory.mktemp("paintings") / "birds"
    unpack_birds(folder, first=8)  # here even a tint of all beats gray, which the gate asks for
    return folder


def unpack_birds(folder, first):
    """Unpack three of each species of the sample; the numbers go from `first` in steps of eight."""
    with zipfile.ZipFile(SAMPLE) as sample:
        sample.extractall(folder, sample.namelist()[first - 1 :: 8])


def bird(species, number):
    """A picture of the sample, of 24 of each species: RGB, 256 x 256."""
    with zipfile.ZipFile(SAMPLE) as sample, sample.open(f"{species}/({number}).jpg") as file:
        return Image.open(file).convert("RGB")


@pytest.fixture(scope="session")
def splits(paintings, cache):
    """The painted birds, prepared."""
    return prepare_birds(paintings, cache)


@pytest.fixture(scope="session")
def small_splits(paintings, cache):
    """The painted birds, prepared at 32 pixels: for trainings of which only the course counts."""
    return prepare_birds(paintings, cache, 32)


def prepare_birds(folder, cache, size=128):
    """Prepare the pictures of a folder in a cache."""
    from colorization.data import prepare, sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        return prepare.prepare(sources.fetch(str(folder)), size)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """The file of an MLflow store without runs: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # of all workers
    file = place / "store" / "mlflow.db"
    with FileLock(place / "store.lock"):
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            with contextlib.chdir(file.parent):  # below which its artifacts lie
                MlflowClient(f"sqlite:///{file}.partial").search_experiments()
            os.rename(f"{file}.partial", file)
    return file


def copy_store(file, folder, artifacts):
    """Copy a store into a folder; its artifacts are to lie at another place."""
    copy = shutil.copy(file, folder)
    with contextlib.closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (str(artifacts),))
    return f"sqlite:///{copy}"


@pytest.fixture
def ready_store(empty_store, tmp_path):
    """The URI of a store of the test's own, as `mlflow` would make it in `tmp_path`."""
    return copy_store(empty_store, tmp_path, tmp_path / "mlruns" / "0")


@pytest.fixture
def active_store(ready_store, monkeypatch):
    """`ready_store`, in use by this process and those that it starts."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", ready_store)
    mlflow.set_tracking_uri(ready_store)
    yield ready_store
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def tracking_server(empty_store, tmp_path_factory):
    """A real MLflow server on loopback; gives its URL."""
    folder = tmp_path_factory.mktemp("server")
    copy_store(empty_store, folder, "mlflow-artifacts:/0")
    with serve_mlflow(folder) as url:
        yield url


@contextlib.contextmanager
def serve_mlflow(folder, port=None):
    """Serve, as long as it is entered, a store in `folder`; gives its URL."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "log", "wb") as log:
        server = warm.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/health", server)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


@pytest.fixture(scope="session")
def colorization(cache):
    """A function that runs `python -m colorization` as a user does: a real process, in `cwd`."""

    def start(*arguments, store, cwd, **options):
        environment = os.environ | {
            "COLORIZATION_CACHE": str(cache),
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1",
            "PYTHONPATH": str(ROOT),
        }
        return warm.Popen(
            [sys.executable, "-m", "colorization", *map(str, arguments)],
            env=environment | options.pop("env", {}),
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def trained(tracking_server, paintings, colorization, tmp_path_factory):
    """The finished MLflow run of a short training, tracked by the server; its variant is basic."""
    import mlflow

    arguments = ("naive_basic", "--data", paintings, "--epochs", 2, "--filters", 8)
    process = colorization(
        *arguments, store=tracking_server, cwd=tmp_path_factory.mktemp("training")
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    client = mlflow.MlflowClient(tracking_server)
    (run,) = client.search_runs(["0"], "attributes.run_name = 'naive_basic'")  # no trial
    return client, run


def _wait_for(url, process, seconds=120):
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise RuntimeError(f"No answer from {url}")
