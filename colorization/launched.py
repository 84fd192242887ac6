"""The runs that `mlflow run` opens before our code starts: what it says of their end, set right."""

import contextlib
import os
import time

import mlflow
import psutil
from mlflow.entities import Run

from colorization.paths import ROOT, is_mlflow_run

PLACE = "checkpoint"  # the tag that says on which machine it is, and where; of each run we opened
ENDED_AS = "ended_as"  # the tag of a run that a person ended: its status, and when (ms)


def correct_statuses() -> None:
    """Correct the status of runs that `mlflow run` has set to FAILED or left RUNNING.

    It sets a run to FAILED that a person has stopped, even if we have ended it before. It leaves a
    run RUNNING that it cannot start, for want of Conda for instance.
    """
    client = mlflow.MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    query = f"tags.{ENDED_AS} != '' and attributes.status = 'FAILED'"
    for run in client.search_runs(experiments, query):
        if "error" not in run.data.tags:  # it went on, and broke down
            status, _, end = run.data.tags[ENDED_AS].partition(" ")
            client.set_terminated(run.info.run_id, status, int(end) if end else None)
    query = "tags.`mlflow.source.type` = 'PROJECT' and attributes.status = 'RUNNING'"
    for run in client.search_runs(experiments, query):
        if _was_never_started(run):
            if "kind" not in run.data.tags:
                name = f"not started: {run.data.tags['mlflow.project.entryPoint']}"
                client.set_tag(run.info.run_id, "kind", "tool")
                client.update_run(run.info.run_id, name=name)
            client.set_terminated(run.info.run_id, "KILLED", run.info.start_time)


def name_own(name: str, status: str) -> None:
    """Name the run of the `mlflow run` that has started this process, and end it.

    A name is for a run that no training has attached to, by default that of the entry point; an
    empty status leaves its end to `mlflow run`.
    """
    client, run_id = mlflow.MlflowClient(), os.environ["MLFLOW_RUN_ID"]
    tags = client.get_run(run_id).data.tags
    if not {PLACE, "kind"} & set(tags):
        client.set_tag(run_id, "kind", "tool")
        client.update_run(run_id, name=name or tags["mlflow.project.entryPoint"])
    if status:
        client.set_tag(run_id, ENDED_AS, ended_as(status))
        client.set_terminated(run_id, status)


def ended_as(status: str) -> str:
    """Return the tag of a run that ends now: `mlflow run` overwrites its end."""
    return f"{status} {time.time() * 1000:.0f}"


def _was_never_started(run: Run) -> bool:
    """Tell whether no process of ours has opened a run, and its `mlflow run` is gone.

    MLflow does not say on which machine that was. If it is still at work on another one, the run is
    RUNNING again as soon as it is opened.
    """
    path = run.data.tags["mlflow.source.name"].removeprefix("file://").replace("#", "/")
    own = os.environ.get("MLFLOW_RUN_ID") == run.info.run_id  # of this process, if it is orphaned
    if own or PLACE in run.data.tags or path.rstrip("/") != str(ROOT):
        return False
    for launcher in filter(is_mlflow_run, psutil.process_iter()):
        with contextlib.suppress(psutil.Error):  # it has just ended
            started = {each.environ().get("MLFLOW_RUN_ID") for each in launcher.children()}
            older = launcher.create_time() < run.info.start_time / 1000
            if older and (not started or run.info.run_id in started):
                return False
    return True
