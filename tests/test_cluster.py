"""Albums on a Dask cluster of real processes, and behind URLs."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
from PIL import Image

from colorization import cluster as reach
from colorization.errors import InputError
from serve.batch import cluster, jobs, places
from tests import test_folder, warm
from tests.conftest import ROOT, bird
from tests.test_folder import files, is_red, scene

store, color = test_folder.store, test_folder.color  # a model that tints red, and the command


class Processes:
    """A scheduler and its workers; where the workers start, no store is known."""

    def __init__(self, place, **environment):
        self.place, self.workers, self.others = place, [], []
        self.environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        self.environment |= environment
        file = place / "scheduler.json"
        words = ["scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", file]
        self.others.append(self._start(words, ROOT))
        while not file.exists() or not file.read_text():
            assert self.others[0].poll() is None
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def add_worker(self, folder=ROOT):
        words = ["worker", self.address, "--no-nanny", "--nthreads", "1"]
        words += ["--local-directory", self.place]
        known = (self.place / "log").read_text().count("Registered to")
        self.workers.append(self._start(words, folder))
        while (self.place / "log").read_text().count("Registered to") == known:
            assert self.workers[-1].poll() is None
            time.sleep(0.05)
        return self.workers[-1]

    def _start(self, words, folder):
        command = [sys.executable, "-m", "dask", *map(str, words), "--no-dashboard"]
        with open(self.place / "log", "ab") as log:
            return warm.Popen(command, cwd=folder, env=self.environment, stdout=log, stderr=log)

    def kill(self):
        for process in (*self.workers, *self.others):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A scheduler of two workers that stay."""
    processes = Processes(tmp_path_factory.mktemp("cluster"))
    for _ in range(2):
        processes.add_worker()
    yield processes
    processes.kill()


@pytest.fixture
def strict(tmp_path_factory):
    """A scheduler without workers yet, which gives a batch to one worker only."""
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    processes = Processes(tmp_path_factory.mktemp("strict"), **allowed)
    yield processes
    processes.kill()


@pytest.fixture
def impatient(monkeypatch):
    for module in (reach, cluster):
        monkeypatch.setattr(module, "WAIT_SECONDS", 1)


@pytest.fixture
def many(tmp_path):
    """A folder of 60 pictures, so large that each is a batch of its own."""
    place = tmp_path / "many"
    place.mkdir()
    scene((600, 400)).save(place / "0.png", compress_level=0)
    for index in range(1, 60):
        shutil.copy(place / "0.png", place / f"{index}.png")
    return place


@contextlib.contextmanager
def after_some(target, call):
    """Call a function once five pictures are there, if that ever happens."""
    ended = threading.Event()

    def wait():
        while len([*target.glob("*.png")]) < 5:
            if ended.wait(0.01):
                return
        call()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def save_album(place):
    """Save pictures of all kinds and what is none."""
    (place / "deep").mkdir(parents=True)
    for index in range(20):
        scene().save(place / f"{index}.jpg")
    scene().save(place / "deep" / "a.bmp")
    bird("Robin", 1).save(place / "deep" / "robin.bmp")
    pages = [np.asarray(scene().convert("L"))] * 2
    tifffile.imwrite(place / "pages.tif", np.stack(pages), photometric="minisblack")
    (place / "cut.jpg").write_bytes((place / "4.jpg").read_bytes()[:-60])
    (place / "none.png").write_text("hello")
    (place / "notes.txt").write_text("hello")


def contents(place):
    return {name: (place / name).read_bytes() for name in files(place)}


@pytest.mark.slow
def test_a_cluster_makes_what_one_machine_makes_and_says_the_same(two_workers, color, tmp_path):
    source = tmp_path / "in"
    save_album(source)
    for flags in (["--broken", "no"], ["--broken", "yes"]):
        here = color(source, tmp_path / "here", *flags)
        urls = [f"file://{place}" for place in (source, tmp_path / "there")]
        there = color(*urls, *flags, "--cluster", two_workers.address)
        assert (there[0], there[1].replace("/there", "/here")) == here
        assert here[0] == 1 and "none.png: is not" in here[1]  # none.png is always left out
        assert contents(tmp_path / "there") == contents(tmp_path / "here")
    times = [(tmp_path / each / "0.jpg").stat().st_mtime_ns for each in ("in", "there")]
    assert times[0] == times[1]


@pytest.mark.slow
def test_a_killed_worker_costs_no_picture(two_workers, color, many, tmp_path):
    target = tmp_path / "out"
    with after_some(target, two_workers.add_worker().kill):
        status, said = color(many, target, "--cluster", two_workers.address)
    assert (status, said.splitlines()[-1]) == (0, f"{target}: 60 of 60 colored")
    assert files(target) == files(many)
    assert all(is_red(target / name) for name in files(target))


@pytest.mark.slow
def test_a_run_on_a_cluster_that_was_stopped_goes_on(two_workers, color, many, store, tmp_path):
    target, enough = tmp_path / "out", 150  # so that it is never done before it is stopped
    for index in range(60, enough):
        os.link(many / "0.png", many / f"{index}.png")
    arguments = ["--model", "naive", "--input", many, "--output", target]
    process = warm.Popen(
        [sys.executable, "-m", "serve.batch", *arguments, "--cluster", two_workers.address],
        env=os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with after_some(target, lambda: process.send_signal(signal.SIGINT)):
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in said
    done = {path: path.stat().st_mtime_ns for path in target.glob("*.png")}
    assert 5 <= len(done) < enough
    assert color(many, target, "--cluster", two_workers.address)[0] == 0
    assert files(target) == files(many)
    assert {path: path.stat().st_mtime_ns for path in done} == done


@pytest.mark.slow
def test_what_a_cluster_lacks_is_said(strict, impatient, color, many, tmp_path):
    target = tmp_path / "out"
    status, said = color(many, target, "--cluster", strict.address)
    assert status == 2 and "error: The cluster has no workers. Expected `python -m dask" in said
    strange = strict.add_worker(tmp_path)  # not in the project's folder
    status, said = color(many, target, "--cluster", strict.address)
    assert status == 2 and "No module named 'serve'" in said
    strange.kill()
    strict.others[0].kill()
    status, said = color(many, target, "--cluster", strict.address)
    assert status == 2 and "error: The cluster cannot be reached. Expected the address of" in said
    assert files(target) == []


def test_a_cluster_of_this_machine_is_known_by_any_of_its_addresses():
    assert reach.is_here("tcp://127.0.0.1:8786") and reach.is_here("tcp://localhost:8786")
    assert reach.is_here("tcp://[::1]:8786") and not reach.is_here("tcp://192.0.2.1:8786")


@pytest.mark.slow
def test_a_worker_that_comes_later_with_other_code_colors_nothing(strict, color, store, tmp_path):
    for package in ("colorization", "serve"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "serve" / "other.py").write_text("# of another release")
    scene().save(tmp_path / "a.png")
    here = (tmp_path / "a.png", tmp_path / "out")
    (job,), _ = jobs.plan(*here, jobs.KEEP, places.find(here[0]))
    (tmp_path / "out").mkdir()
    ours = tuple(cluster.describe(job).items())
    task = cluster.Task(store, "models:/nothing/1", None, job, ours)
    strict.add_worker(tmp_path)
    with reach.connect(strict.address) as client:
        with pytest.raises(InputError, match=r"A worker cannot .* tcp://[^ ]+: code: \w+, here"):
            client.submit(cluster.color_batch, task, [job]).result(60)
    assert files(tmp_path / "out") == []


def test_a_cluster_of_other_machines_needs_a_store_on_a_server(monkeypatch, store, tmp_path):
    monkeypatch.setattr(cluster, "connect", lambda _: contextlib.nullcontext())  # nobody answers
    with pytest.raises(InputError, match="Expected MLFLOW_TRACKING_URI=http://host:5000. Rec"):
        list(cluster.color("tcp://10.0.0.1:8786", "models:/a/1", [], None))


@pytest.mark.slow
def test_what_workers_died_of_is_left_out_and_tried_by_the_same_command(
    strict, impatient, color, many, tmp_path
):
    target, flags = tmp_path / "out", ["--cluster", strict.address]
    strict.add_worker()
    with after_some(target, strict.add_worker().kill):
        status, said = color(many, target, *flags)
    assert status == 1
    lines = [line for line in said.splitlines() if line.endswith(f": {cluster.DIED}")]
    left_out = {line.removeprefix(f"left out: {many}/").partition(":")[0] for line in lines}
    assert 0 < len(left_out) <= 4  # in work and next, by ones
    assert {*files(many)} - left_out <= {*files(target)}
    shutil.rmtree(target)
    with after_some(target, strict.workers[0].kill):  # the last one
        status, said = color(many, target, *flags)
    assert status == 2 and "The cluster has no workers" in said
    strict.add_worker()
    assert color(many, target, *flags)[0] == 0
    assert files(target) == files(many)
    shutil.rmtree(target)
    with after_some(target, strict.others[0].kill):
        status, said = color(many, target, *flags)
    assert status == 2 and "The scheduler is gone. Expected" in said


@pytest.fixture
def memory():
    """The file system of fsspec that lives in this process."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def test_an_album_behind_a_url_is_colored_into_one(color, memory, tmp_path):
    save_album(tmp_path / "in")
    here = color(tmp_path / "in", tmp_path / "out")
    memory.put(str(tmp_path / "in"), "/album", recursive=True)
    memory.pipe("/album/.hidden/a.jpg", b"")
    there = color("memory://album", "memory://colored")
    for own, its in (("in", "album"), ("out", "colored")):
        here = here[0], here[1].replace(str(tmp_path / own), f"memory://{its}")
    assert there == here
    made = {name.removeprefix("/colored/"): memory.cat(name) for name in memory.find("/colored")}
    assert made == contents(tmp_path / "out")
    color("memory://album", str(tmp_path / "mixed"))
    assert contents(tmp_path / "mixed") == made


def test_what_is_behind_a_url_is_not_colored_again(color, memory, tmp_path):
    save_album(tmp_path / "in")
    for name in ("cut.jpg", "none.png"):
        (tmp_path / "in" / name).unlink()
    assert color(tmp_path / "in", "memory://colored")[0] == 0
    for name in memory.find("/colored"):
        if name != "/colored/deep/robin.bmp":  # a copy is known by its size
            memory.pipe(name, b"mine")
    memory.rm("/colored/7.jpg")
    status, said = color(tmp_path / "in", "memory://colored")
    assert status == 0
    assert "20 of 23 colored already, 1 copied" in said
    assert said.splitlines()[-2].startswith(
        "memory://colored: 22 of 23 colored, 1 in color already"
    )
    assert [name for name in memory.find("/colored") if memory.cat(name) != b"mine"] == [
        "/colored/7.jpg",
        "/colored/deep/robin.bmp",
    ]
    assert color(tmp_path / "in" / "7.jpg", "memory://colored", "--overwrite", "yes")[0] == 0


def test_one_picture_behind_a_url(color, memory, tmp_path):
    scene().save(tmp_path / "a#b c?.png")
    memory.pipe("/album/a#b c?.png", (tmp_path / "a#b c?.png").read_bytes())
    assert color("memory://album/a#b c?.png", tmp_path / "out")[0] == 0
    assert is_red(tmp_path / "out" / "a#b c?.png")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("s3://bucket/in", "out", "Install s3fs to access S3. Expected"),
        ("nonsense://bucket/in", "out", "Protocol not known: nonsense. Expected"),
        ("memory://nowhere", "out", "Nothing to color. Expected pictures (.avif"),
        ("memory://in", "memory://in", "need a folder of their own"),
        ("memory://in/deep", "memory://in", "need a folder of their own"),
    ],
)
def test_a_url_that_will_not_do_is_a_sentence(source, target, message, color, memory, tmp_path):
    if source.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    memory.pipe("/in/deep/a.png", b"")
    status, said = color(source, target)
    (line,) = said.splitlines()
    assert status == 2 and line.startswith("error: ") and message in line


def test_a_file_url_is_a_path(tmp_path):
    assert places.locate(f"file://{tmp_path}/a") == tmp_path / "a"


def test_no_secret_of_a_url_is_shown(color, memory, tmp_path):
    memory.pipe("/me:s3cret@host/album/none.png", b"hello")
    status, said = color("memory://me:s3cret@host/album", "memory://me:s3cret@host/colored")
    assert status == 1 and "left out: memory://host/album/none.png" in said
    assert "memory://host/colored: 0 of 1 colored" in said and "s3cret" not in said


@pytest.mark.parametrize("name", ["logo@2x.jpg", "Tom & Jerry.jpg", "a#1.jpg", "12:30 me@home.jpg"])
def test_a_picture_is_named_as_it_is(name):
    for place in (f"s3://birds/{name}", f"/birds/{name}"):
        assert places.show(places.Remote(place) if "://" in place else Path(place)) == place


def test_a_picture_behind_a_url_above_the_limit_is_not_read(color, memory, monkeypatch):
    memory.pipe("/album/a.png", b"x" * 1000)
    monkeypatch.setattr("serve.batch.places.MAX_PICTURE_BYTES", 999)
    status, said = color("memory://album", "memory://colored")
    assert status == 1
    assert "left out: memory://album/a.png: cannot be read: larger than 999 bytes" in said


def test_a_picture_keeps_its_form_behind_a_url(color, memory, tmp_path):
    scene().save(tmp_path / "a.webp")
    memory.put(str(tmp_path / "a.webp"), "/album/a.webp")
    assert color("memory://album", "memory://colored", "--format", "png")[0] == 0
    with memory.open("/colored/a.png") as file:
        assert Image.open(file).format == "PNG"
