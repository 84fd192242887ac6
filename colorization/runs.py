"""The life of an MLflow run: opened, stopped, resumed, ended, and set right afterwards."""

import contextlib
import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from colorization import launched
from colorization.address import redacted
from colorization.data.cache import LOCK, cache_folder, writable
from colorization.errors import InputError
from colorization.launched import ENDED_AS, PLACE
from colorization.paths import as_text
from colorization.process import hold_signals, stop_if_asked

CHECKPOINT = "checkpoint.npz"
HEARTBEAT = "system/cpu_utilization_percentage"  # every ten seconds, by MLflow
SILENT_SECONDS = 120  # after which the process of a run counts as gone


def runs_folder() -> Path:
    """Return the cache's folder that holds a folder for each MLflow run."""
    return writable(cache_folder() / "runs")


def file_of(run_id: str) -> Path:
    """Return the file that holds the state of a run's training, if there is one."""
    return runs_folder() / run_id / CHECKPOINT


@contextlib.contextmanager
def open_run(
    name: str,
    parent_run_id: str | None = None,
    resumed: Run | None = None,
    tool: bool = False,
) -> Iterator[mlflow.ActiveRun]:
    """Open a run, or attach to the one of `mlflow run`; whatever happens, it does not stay RUNNING.

    An exception ends it FAILED, with the reason as tag `error` unless MLflow itself failed.
    Ctrl-C and SIGTERM (raised as SystemExit) end it KILLED. What `kill -9` leaves is ended KILLED
    by the next call on this machine.

    A new run is nested below a parent's, in the same experiment. `resumed` is an earlier run, which
    goes on. The run of a `tool` is no training: it has a tag `kind`, and the machine is not
    measured.

    Raises:
        InputError: a process of this machine is at work on `resumed`.
    """
    with _locked_store():
        release_signals = hold_signals()  # inside `start_run` one would leave a run without an end
        try:
            opened, lock = _start(name, parent_run_id, resumed, not tool)
        except BaseException:
            release_signals()
            raise
    with lock, opened as run:
        try:
            release_signals()
            if tool:
                mlflow.set_tag("kind", "tool")
            yield run
            if not tool:  # a stop is the usual end of the page
                stop_if_asked()
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(MlflowException):  # the server is gone
                mlflow.set_tag(ENDED_AS, launched.ended_as("KILLED"))
                mlflow.end_run("KILLED")
            raise
        except MlflowException:
            raise  # the server is gone: logging the reason would take minutes
        except Exception as error:
            mlflow.set_tag("error", as_text(f"{type(error).__name__}: {redacted(error)}"))
            raise
    folder = file_of(run.info.run_id).parent
    if not _is_locked(folder):  # by another process of a sweep
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def open_launched(name: str) -> Iterator[Callable[[str, str], object]]:
    """Open the run of `mlflow run` for a tool, which has no run otherwise.

    Gives a function that sets a tag of it.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        yield lambda *_: None
        return
    with open_run(name, tool=True):
        yield mlflow.set_tag


@contextlib.contextmanager
def open_separate_run(name: str) -> Iterator[mlflow.ActiveRun]:
    """Open a run of its own for what a command needs first, beside that of `mlflow run`."""
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        with open_run(name, tool=True) as run:
            yield run
    finally:
        if run_id:
            os.environ["MLFLOW_RUN_ID"] = run_id


def _start(
    name: str, parent_run_id: str | None, resumed: Run | None, measured: bool
) -> tuple[mlflow.ActiveRun, contextlib.AbstractContextManager]:
    """Start a run, or an earlier one again, and hold a lock of it as long as this process lives.

    The processes of a sweep share the run of the study, and hold a lock each.
    """
    options: dict[str, Any] = {"run_name": name, "log_system_metrics": measured}
    if parent_run_id:
        experiment = mlflow.get_run(parent_run_id).info.experiment_id
        options |= {"nested": True, "parent_run_id": parent_run_id, "experiment_id": experiment}
    if resumed is None:
        try:
            opened = mlflow.start_run(**options)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                error.add_note(
                    "restore the experiment (mlflow experiments restore -x ID), or name another "
                    "one: MLFLOW_EXPERIMENT_NAME=..."
                )
            raise
        _forget_the_end(opened)
        return opened, _lock(opened.info.run_id)
    run_id = resumed.info.run_id
    if is_at_work(mlflow.get_run(run_id)):
        raise InputError(
            "A process is at work on this run, or was within the last two minutes. Expected one "
            f"that was stopped: try again in {SILENT_SECONDS} seconds. Received: resume={run_id!r}"
        )
    lock = _lock(run_id)
    opened = mlflow.start_run(run_id, nested=bool(parent_run_id), log_system_metrics=True)
    _forget_the_end(opened)
    if parent_run_id:
        mlflow.set_tag("mlflow.parentRunId", parent_run_id)
    if other := os.environ.get("MLFLOW_RUN_ID"):  # by `mlflow run`, which ends it, too
        tags = {"mlflow.runName": f"resumed {resumed.info.run_name}", "kind": "tool"}
        tags |= {"resumed_run": run_id, "mlflow.note.content": f"Resumed run `{run_id}`."}
        for key, value in tags.items():
            mlflow.MlflowClient().set_tag(other, key, value)
    return opened, lock


def _forget_the_end(run: Run) -> None:
    """Delete the tags that say how a run ended before, which now goes on."""
    for tag in {"error", "kind", ENDED_AS} & set(run.data.tags):
        mlflow.delete_tag(tag)


def _lock(run_id: str) -> contextlib.AbstractContextManager:
    """Take a lock that shows other processes of this machine that this one is at work on a run."""
    folder = file_of(run_id).parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{uuid.uuid4().hex}.lock").acquire()
    mlflow.MlflowClient().set_tag(run_id, PLACE, _place(folder))
    return lock


def _place(folder: Path) -> str:
    return f"{socket.gethostname()}:{folder}"


def _is_locked(folder: Path) -> bool:
    """Tell whether a living process of this machine holds a lock of a run."""
    for file in folder.glob("*.lock"):
        try:
            FileLock(file, blocking=False).acquire().lock.release()
        except Timeout:
            return True
    return False


def is_at_work(run: Run) -> bool:
    """Tell whether a process is at work on a run: here, or elsewhere by what it logged last."""
    folder = file_of(run.info.run_id).parent
    if run.data.tags.get(PLACE) == _place(folder):
        return _is_locked(folder)
    if run.info.status != "RUNNING":
        return False
    return time.time() - last_sign(run) / 1000 < SILENT_SECONDS


def last_sign(run: Run) -> int:
    """Return when a run was started or logged a metric last, in milliseconds since 1970."""
    client = mlflow.MlflowClient()
    names = {HEARTBEAT} & set(run.data.metrics) or run.data.metrics
    histories = (client.get_metric_history(run.info.run_id, name) for name in names)
    logged = (each.timestamp for history in histories for each in history)
    return max([run.info.start_time, *logged])


@contextlib.contextmanager
def _locked_store() -> Iterator[None]:
    """Hold the store against other processes of this machine; end what others left RUNNING."""
    folders = runs_folder()
    store = hashlib.sha256(mlflow.get_tracking_uri().encode()).hexdigest()[:12]
    with FileLock(folders / f"{store}{LOCK}"):  # two at once cannot create one SQLite store
        mlflow.search_experiments(max_results=1)
        for folder in folders.glob("*/"):
            with contextlib.suppress(MlflowException):  # it is of another store
                if not _is_locked(folder):
                    _end_stale(folder)
        launched.correct_statuses()
        yield


def _end_stale(folder: Path) -> None:
    """End the run of a process that was killed; delete its folder if nothing can go on from it."""
    run = mlflow.get_run(folder.name)
    # It may be running elsewhere by now.
    if run.info.status == "RUNNING" and run.data.tags.get(PLACE) == _place(folder):
        end_as_killed(run)
    if run.info.status == "FINISHED" or not (folder / CHECKPOINT).exists():
        shutil.rmtree(folder, ignore_errors=True)


def end_as_killed(run: Run) -> None:
    """End a run whose process was killed, at its last sign of life."""
    client = mlflow.MlflowClient()
    if "state" in run.data.tags:  # a sweep's trial
        client.set_tag(run.info.run_id, "state", "killed")
    client.set_terminated(run.info.run_id, "KILLED", last_sign(run))


def end_stale_runs() -> None:
    """End as KILLED what processes of this machine left RUNNING when they were killed."""
    with _locked_store():
        pass


def find(run_id: str) -> Run | None:
    """Return a run, or None if there is none of this id, for instance since `mlflow gc`."""
    try:
        return mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def exists(run_id: str) -> bool:
    """Tell whether there is a run of this id that was not deleted."""
    run = find(run_id)
    return run is not None and run.info.lifecycle_stage == "active"


def active_run() -> mlflow.ActiveRun:
    """Return the run that `open_run` has opened."""
    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("No run is open. Expected a call within `open_run`.")
    return run


def search(query: str) -> list[Run]:
    """Return the runs of all experiments that a filter of MLflow matches, the latest first."""
    return mlflow.search_runs(
        filter_string=query, search_all_experiments=True, output_format="list"
    )


def find_unfinished(variant: str, digest: str) -> list[Run]:
    """Return the trainings of a variant on these pictures that were stopped, the latest first.

    Those whose loss was not finite would end so again, and are left out.
    """
    query = (
        f"tags.variant = '{variant}' and tags.dataset_digest = '{digest}' "
        "and attributes.status != 'FINISHED'"
    )
    return [
        run
        for run in search(query)
        if run.data.tags.get("sweep") != "trial"
        and not run.data.tags.get("error", "").startswith("FloatingPointError")
        and not is_at_work(run)
    ]
