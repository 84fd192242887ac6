"""The study's MLflow run: the parent of its trials' runs, shared by all processes of the study."""

import contextlib
import os
import warnings
from typing import Any

import matplotlib
import mlflow
import numpy as np
import optuna
import pandas as pd
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from colorization import tracking
from colorization.data.prepare import Splits
from sweeps.spec import Spec
from sweeps.storage import unwarned
from sweeps.study import best_trial, running, state_of
from sweeps.trial import run_name

FIGURES = {
    "history": plots.plot_optimization_history,
    "parallel_coordinates": plots.plot_parallel_coordinate,
    "slices": plots.plot_slice,
    "intermediate_values": plots.plot_intermediate_values,
    "importances": plots.plot_param_importances,
}


def open_parent(
    study: optuna.Study, spec: Spec, splits: Splits, launched: str | None, **flags: Any
) -> str:
    """Return the id of the study's MLflow run, created by the first process that comes.

    To be called under a lock.

    Args:
        study: an Optuna study, which keeps the id.
        spec: of the study.
        splits: that it is trained on.
        launched: id of the run that `mlflow run` has opened, or None. The first process's becomes
            the parent; that of a later one only says where the trials are.
        **flags: of the command line, to be logged as params; `data` among them.

    Raises:
        ValueError: the run is not in this MLflow store.
    """
    run_id = study.user_attrs.get("run_id")
    if run_id:
        _require_here(study, run_id)
        os.environ.pop("MLFLOW_RUN_ID", None)  # or else the first trial would take it
    else:
        with tracking.open_run(study.study_name) as run:  # attaches to the launched one
            run_id = run.info.run_id
            tracking.log_flags(study=study.study_name, **flags)
            tracking.log_data(splits, used=("train", "val"))
            # The param may be the empty text that `mlflow run` was given; the tag is not.
            tags = {"objective": spec.objective, "family": spec.family, "sweep": "study"}
            mlflow.set_tags(tags | {"study": study.study_name})
            mlflow.log_table(pd.DataFrame(spec.table()), "space.json")
        study.set_user_attr("run_id", run_id)
    client = mlflow.MlflowClient()
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, "error", "")  # of what stopped it before
    client.delete_tag(run_id, "error")
    if launched and launched != run_id:
        client.set_tag(launched, "study", study.study_name)
        client.set_tag(launched, "sweep", "worker")
        note = f"Joined the study `{study.study_name}`: see run `{run_id}`."
        client.set_tag(launched, "mlflow.note.content", note)
    return run_id


def _require_here(study: optuna.Study, run_id: str) -> None:
    try:
        stage = mlflow.get_run(run_id).info.lifecycle_stage
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        stage = "missing"
    if stage != "active":
        raise ValueError(
            "The study's MLflow run is not in this store. Expected MLFLOW_TRACKING_URI to name "
            "the store that the study began with; a study whose run was deleted needs another "
            f"name. Received: study={study.study_name!r}, run={run_id} ({stage})"
        )


def close_stale(study: optuna.Study, concluding: bool = False) -> None:
    """End the runs below the study's whose process has died as KILLED.

    A living process tells MLflow of a trial's end before it tells Optuna. So the run of a trial
    that Optuna does not count as running belongs to nobody.

    Args:
        study: an Optuna study.
        concluding: whether runs of other trainings are stale too, since this process is the only
            one that may begin them.
    """
    parent = mlflow.get_run(study.user_attrs["run_id"]).info
    alive = {run_name(trial.number) for trial in running(study)}
    query = f"tags.`mlflow.parentRunId` = '{parent.run_id}' and attributes.status = 'RUNNING'"
    for run in mlflow.MlflowClient().search_runs([parent.experiment_id], query):
        name = run.info.run_name
        if name not in alive and (concluding or name.startswith(run_name(""))):
            close_killed(run.info.run_id)


def close_killed(run_id: str) -> None:
    """End the MLflow run of a trial as KILLED."""
    client = mlflow.MlflowClient()
    client.set_tag(run_id, "state", "killed")
    client.set_terminated(run_id, "KILLED")


def update(study: optuna.Study) -> None:
    """Log what is known after a trial: the best value so far, the table, and stale runs' ends."""
    run_id = study.user_attrs["run_id"]
    client = mlflow.MlflowClient()
    client.update_run(run_id, status="RUNNING")  # a process that left may have ended it
    best = best_trial(study)
    if best:
        client.log_metric(run_id, "best_value", best.value, step=len(study.get_trials(False)))
        client.set_tag(run_id, "best_trial", best.number)
    tracking.log_table(run_id, table(study), "trials.json")
    close_stale(study)


def leave(study: optuna.Study) -> None:
    """End the study's run as KILLED, unless another process is still at work."""
    with contextlib.suppress(StorageInternalError):  # if it cannot be asked, nobody is
        if running(study):
            return
    mlflow.MlflowClient().set_terminated(study.user_attrs["run_id"], "KILLED")


def table(study: optuna.Study) -> pd.DataFrame:
    """Return a row per trial: number, state, value, epochs, seconds, parameters and run."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        row = {
            "trial": trial.number,
            "state": state_of(trial),
            "value": None if trial.value is None else float(trial.value),
            "epochs": trial.last_step,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
        }
        attributes = {
            name: trial.user_attrs.get(name, "") for name in ("preset", "worker", "run_id")
        }
        rows.append(row | attributes)
    return pd.DataFrame(rows).astype(object)  # keeps whole numbers beside missing ones


@unwarned()
def log_figures(study: optuna.Study) -> None:
    """Log Optuna's figures to the active run; those that need more trials are left out."""
    matplotlib.use("Agg")
    finished = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    for name, plot in FIGURES.items():
        if finished < (2 if name == "importances" else 1):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are all the same, early in a study
            figure = np.ravel(plot(study))[0].figure
        figure.set_size_inches(12, 6)
        mlflow.log_figure(figure, f"study/{name}.png", save_kwargs={"bbox_inches": "tight"})
        matplotlib.pyplot.close(figure)
