"""The pictures of a folder, colored by the workers of a Dask cluster as by the cores of a machine.

A worker is started in this project's folder and environment: it imports this module, and loads the
model from the tracking server.
"""

import functools
import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import mlflow
from distributed import Client, Future, KilledWorker, get_worker
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from mlflow.pyfunc import PyFuncModel

from colorization.cluster import (
    START_WORKERS,
    WAIT_SECONDS,
    connect,
    is_here,
    require_shared,
    require_workers,
)
from colorization.errors import InputError
from colorization.paths import ROOT
from colorization.process import hold_signals, stop_if_asked
from colorization.registry import served
from serve.batch import folder, places
from serve.batch.jobs import LEFT_OUT, Job, Outcome, Settings

LOOK_SECONDS = 1  # between looks at signals, and at workers while no batch is done
IN_FLIGHT = 256  # batches that the scheduler holds: enough for as many threads, a megabyte
PACKAGES = ("mlflow", "numpy", "onnxruntime", "pillow", "pillow-heif")  # that decide what comes out
FOUND = {True: "found", False: "missing"}
DIED = "the workers that had its batch died, perhaps of too little memory"

_loading = threading.Lock()


class Task(NamedTuple):
    """What all batches have in common."""

    tracking_uri: str
    model_uri: str
    settings: Settings
    job: Job  # any of them, whose files all workers must see
    ours: tuple[tuple[str, str], ...]  # the items of `describe`


def color(
    address: str, model_uri: str, jobs: Sequence[Job], settings: Settings
) -> Iterator[Outcome]:
    """Color or copy pictures on a cluster; a file is written whole or not at all.

    A batch whose worker dies is given to another one, as often as the scheduler allows; then its
    pictures are left out. There is one job or more.

    Yields:
        An outcome for each job, in the order of completion.

    Raises:
        InputError: the cluster cannot be reached or has no workers, or one of them cannot do it;
            the output cannot be written.
    """
    with connect(address) as client:
        tracking_uri = mlflow.get_tracking_uri()
        if not is_here(address):
            require_shared("MLFLOW_TRACKING_URI", tracking_uri, "http://host:5000")
        if isinstance(jobs[0].target, Path):
            jobs[0].target.parent.mkdir(parents=True, exist_ok=True)
        ours = tuple(describe(jobs[0]).items())
        task = Task(tracking_uri, model_uri, settings, jobs[0], ours)
        try:
            require_workers(client)
            _require_equal(client, task)
            yield from _spread(client, task, jobs)
        except (CommClosedError, FutureCancelledError) as error:
            raise InputError(
                "The scheduler is gone. Expected one that stays: start it and its workers again; "
                f"the same command goes on from here. Received: {error}"
            ) from error


def _spread(client: Client, task: Task, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Hold `IN_FLIGHT` batches on the cluster until all are done."""
    batches = folder.group(jobs)
    running: dict[Future, list[Job]] = {}
    done: SimpleQueue[Future] = SimpleQueue()

    def submit(count: int) -> None:
        for batch in itertools.islice(batches, count):
            future = client.submit(color_batch, task, batch, pure=False)
            running[future] = batch
            future.add_done_callback(done.put)

    release = hold_signals()  # what a handler raises is lost where Python deletes a future
    try:
        submit(IN_FLIGHT)
        while running:
            release()
            stop_if_asked()
            release = hold_signals()
            try:
                future = done.get(timeout=LOOK_SECONDS)
            except Empty:
                release()
                require_workers(client)
                continue
            batch = running.pop(future)
            submit(1)
            known = {job.source: job.source for job in batch}  # not a copy of each path
            for outcome in _outcomes(client, future, batch):
                yield outcome._replace(source=known[outcome.source])
    finally:
        release()


def _outcomes(client: Client, future: Future, batch: list[Job]) -> list[Outcome]:
    """Return what became of a batch that is done, or of one that has to be done again."""
    while True:
        try:
            return future.result(WAIT_SECONDS)
        except KilledWorker:
            return [Outcome(job.source, LEFT_OUT, DIED) for job in batch]
        except TimeoutError:  # its worker died with them: another one does it again
            require_workers(client)


def color_batch(task: Task, batch: list[Job]) -> list[Outcome]:
    """Color or copy a batch, on a worker, which may have come after all others were compared."""
    with _loading:
        model = _load(task.tracking_uri, task.model_uri, task.job, task.ours)
    served.require(model, task.settings.params)
    return folder.color_batch(model, batch, task.settings)


@functools.lru_cache(1)
def _load(
    tracking_uri: str, model_uri: str, job: Job, ours: tuple[tuple[str, str], ...]
) -> PyFuncModel:
    if differs := differences(job, ours):
        raise _unequal(get_worker().address, differs)
    logging.getLogger("colorizer").setLevel(logging.ERROR)  # the outcomes say it
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # nobody sees that it waits
    mlflow.set_tracking_uri(tracking_uri)
    return served.load(model_uri)


def _require_equal(client: Client, task: Task) -> None:
    """Raise an InputError unless all workers have our code and packages, and see the files."""
    found = client.run(differences, task.job, task.ours, on_error="return")
    for worker, differs in found.items():
        if differs:
            raise _unequal(worker, differs)


def _unequal(worker: str, differs: object) -> InputError:
    return InputError(
        f"A worker cannot do what this machine does. {START_WORKERS}, on machines that see the "
        f"same files. Received: {worker}: {differs}"
    )


def differences(job: Job, ours: Iterable[tuple[str, str]]) -> str:
    """Return in what this machine differs from the one that described itself by `ours`."""
    here = describe(job)
    return ", ".join(
        f"{name}: {here.get(name)}, here {text}" for name, text in ours if here.get(name) != text
    )


def describe(job: Job) -> dict[str, str]:
    """Return what a worker must have in common with the others: packages, code, files."""
    code = hashlib.sha256()
    for file in sorted([*ROOT.glob("colorization/**/*.py"), *ROOT.glob("serve/**/*.py")]):
        code.update(file.read_bytes())
    versions = {name: version(name) for name in PACKAGES} | {"code": code.hexdigest()[:8]}
    seen = {"input": job.source, "output": job.target.parent}
    return versions | {
        f"{name} {places.show(place)}": FOUND[places.is_there(place)]
        for name, place in seen.items()
    }
