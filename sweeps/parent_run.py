"""The study's MLflow run: the parent of its trials' runs, shared by all processes of the study."""

import contextlib
import os
import warnings
from collections.abc import Iterator
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
from sweeps.trial import OUTAGES, run_name

FIGURES: dict[str, Any] = {
    "history": plots.plot_optimization_history,
    "parallel_coordinates": plots.plot_parallel_coordinate,
    "slices": plots.plot_slice,
    "intermediate_values": plots.plot_intermediate_values,
    "importances": plots.plot_param_importances,
}


def open_parent(
    study: optuna.Study, spec: Spec, splits: Splits, launched: str | None, flags: dict[str, Any]
) -> None:
    """Open the study's MLflow run, which the first process creates; the study keeps its id.

    To be called under a lock. The run that `mlflow run` has `launched`, if any, becomes the parent;
    that of a later process only says where the trials are. `flags` are logged as params.
    """
    client, run_id = mlflow.MlflowClient(), study.user_attrs.get("run_id")
    if run_id:
        os.environ.pop("MLFLOW_RUN_ID", None)  # or else the first trial would take it
    else:
        with tracking.open_run(study.study_name) as run:  # attaches to the launched one
            run_id = run.info.run_id
            tracking.log_flags(**flags)
            tracking.log_data(splits, used=("train", "val"))
            # The param may be the empty text that `mlflow run` was given; the tag is not.
            tags = {"objective": spec.objective, "family": spec.family, "sweep": "study"}
            mlflow.set_tags(tags | {"study": study.study_name})
            mlflow.log_table(pd.DataFrame(spec.table()), "space.json")
        study.set_user_attr("run_id", run_id)
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, "error", "")  # of what stopped it before
    client.delete_tag(run_id, "error")
    if launched and launched != run_id:
        note = f"Joined the study `{study.study_name}`: see run `{run_id}`."
        tags = {"study": study.study_name, "sweep": "worker", "mlflow.note.content": note}
        for name, value in tags.items():
            client.set_tag(launched, name, value)
    _close_stale(study)


@contextlib.contextmanager
def killed_if_stopped(study: optuna.Study, run_id: str) -> Iterator[None]:
    """On an exception, end the study's run as KILLED, unless another process is at work."""
    try:
        yield
    except MlflowException:
        raise  # of a server that is gone: to report the end would take minutes
    except BaseException:
        others = []
        with contextlib.suppress(StorageInternalError):  # it may be what is away
            others = running(study)
        if not others:
            with contextlib.suppress(*OUTAGES):
                mlflow.MlflowClient().set_terminated(run_id, "KILLED")
        raise


def update(study: optuna.Study, concluding: bool = False) -> None:
    """Log what is known after a trial: the best value so far, the table, and stale runs' ends.

    To be called under the lock of trials. `concluding` is the only process that may begin other
    trainings: their runs are stale, too.
    """
    run_id = study.user_attrs["run_id"]
    client = mlflow.MlflowClient()
    client.update_run(run_id, status="RUNNING")  # a process that left may have ended it
    best = best_trial(study)
    if best and best.value is not None:
        client.log_metric(run_id, "best_value", best.value, step=len(study.get_trials(False)))
        client.set_tag(run_id, "best_trial", best.number)
    tracking.log_table(run_id, table(study), "trials.json")
    _close_stale(study, concluding)


def _close_stale(study: optuna.Study, concluding: bool = False) -> None:
    """End the runs below the study's whose process has died.

    A living process ends a run before its trial: a run is stale if its trial is not running.
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


def table(study: optuna.Study) -> pd.DataFrame:
    """Return a row per trial: number, state, value, epochs, seconds, parameters and run."""
    rows = [
        {
            "trial": trial.number,
            "state": state_of(trial),
            "value": trial.value,
            "epochs": trial.last_step,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
            **{name: trial.user_attrs.get(name, "") for name in ("preset", "worker", "run_id")},
        }
        for trial in study.get_trials(deepcopy=False)
    ]
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
