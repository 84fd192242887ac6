"""The study's MLflow run: the parent of its trials' runs, shared by all processes of the study."""

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib
import mlflow
import numpy as np
import optuna
from optuna.visualization import matplotlib as plots

from colorization import comparison, evaluation, experiment, plan, runs, tracking
from colorization.data.prepare import Splits
from colorization.errors import Failure
from colorization.registry.candidate import Candidate
from sweeps.space import Spec
from sweeps.study import finals, running, state_of

logger = logging.getLogger(__name__)

FIGURES: dict[str, Any] = {
    "history": plots.plot_optimization_history,
    "parallel_coordinates": plots.plot_parallel_coordinate,
    "slices": plots.plot_slice,
    "intermediate_values": plots.plot_intermediate_values,
    "importances": plots.plot_param_importances,
}


@contextlib.contextmanager
def open_parent(study: optuna.Study, spec: Spec, splits: Splits, flags: dict) -> Iterator[str]:
    """Open the study's MLflow run, which the first process creates; the study keeps its id.

    To be entered under a lock; gives the id. The run that `mlflow run` has launched, if any,
    becomes the parent; that of a later process only says where the trials are. `flags` are logged
    as params.
    """
    name, run_id = study.study_name, study.user_attrs.get("run_id")
    if run_id and not runs.exists(run_id):
        logger.warning("the study's run %s was deleted: it goes on in a new one", run_id)
        run_id = None
    if run_id:
        if os.environ.get("MLFLOW_RUN_ID", run_id) != run_id:
            note = f"Joined the study `{name}`: see run `{run_id}`."
            with mlflow.start_run():  # that of `mlflow run`
                tags = {"mlflow.runName": f"worker of {name}", "kind": "tool", "sweep": "worker"}
                mlflow.set_tags(tags | {"study": name, "mlflow.note.content": note})
        os.environ["MLFLOW_RUN_ID"] = run_id  # `open_run` attaches to it
    with tracking.open_run(name) as run:
        if not run_id:
            tracking.log_flags(**flags)
            tracking.log_data(splits, used=("train", "val"))
            # The param may be the empty text that `mlflow run` was given; the tag is not.
            tags = {"objective": spec.objective, "family": spec.family, "sweep": "study"}
            mlflow.set_tags(tags | {"study": name})
            searched = {name: str(each) for name, each in spec.searched.items()}
            mlflow.log_dict({"fix": spec.fix, "searched": searched}, "space.json")
            study.set_user_attr("run_id", run.info.run_id)
        yield run.info.run_id


def update(study: optuna.Study) -> None:
    """Log, under the lock of trials, the best value so far and the table; end stale runs."""
    client, parent = mlflow.MlflowClient(), tracking.active_run().info
    run_id = parent.run_id
    client.update_run(run_id, status="RUNNING")  # a process that left has ended it
    best = next(iter(study.best_trials), None)
    if best and best.value is not None:
        mlflow.log_metric("best_value", best.value, step=len(study.get_trials(False)))
    table = study.trials_dataframe(("number", "state", "value", "params", "user_attrs"))
    table.columns = [re.sub("^(params|user_attrs)_", "", name) for name in table.columns]
    tracking.log_table(run_id, table.rename(columns={"number": "trial"}), "trials.json")
    # A living process ends a run before its trial: a run is stale if its trial is not running.
    alive = {f"trial {trial.number}" for trial in running(study)}
    query = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([parent.experiment_id], query):
        if " ".join(run.info.run_name.split()[:2]) not in alive:  # without the config's label
            runs.end_as_killed(run)


def conclude(
    study: optuna.Study, spec: Spec, splits: Splits, data: str, epochs: int
) -> Candidate | None:
    """Log figures, train the best config and the presets, compare them; return the winner, if any.

    Test pictures are looked at here, and only here. To be called within the study's run and under
    a lock: what was trained before is not trained again, so that a second process finds everything
    done. With 0 `epochs`, nothing is trained.

    Raises:
        Failure: all trials were pruned or failed.
        FloatingPointError: the best config broke down.
    """
    states = [state_of(trial) for trial in study.get_trials(deepcopy=False)]
    counts = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
    if states.count("finished") > 1:
        _log_figures(study)
    best = next(iter(study.best_trials), None)
    if best is None:
        raise Failure(
            f"No trial has finished, so that there is no winner: {counts}. Their runs say why. "
            f"Expected more `trials`, or another study. Received: study={study.study_name!r}"
        )
    if not epochs:
        return None
    config, *others = finals(study, replace(spec, epochs=epochs))
    won, length = f"trial {best.number} {config.label}", plan.counted(epochs, "epoch")
    presets = f"the presets {', '.join(each.label for each in others)}"
    then = presets if others else "compared with the baselines alone"
    logger.info("%s has won; it is trained in full now (%s), then %s", won, length, then)
    tags = {"sweep": "winner"}
    winner = experiment.find_or_train(config, splits, data, name="winner", tags=tags)
    trained = comparison.train(others, splits, data, tags={"sweep": "preset"})
    contenders = [comparison.Contender("winner", config, winner), *trained]
    compared = comparison.log(contenders, splits)
    params = ",".join(f"{name}={value}" for name, value in (best.params | spec.fix).items())
    objective, _ = evaluation.SCORES_TOGETHER[spec.objective]
    note = (
        f"**{study.study_name}**: of {plan.counted(len(states), 'trial')} ({counts}) on "
        f"`{splits.name}`, {won} won by {objective} on validation pictures, {best.value:.4f}: "
        f"`{params}`. Trained in full, {length} each, and tested on "
        f"{plan.counted(len(splits.test.images), 'picture')}:\n\n{compared}\n"
    )
    mlflow.set_tags({"mlflow.note.content": note, "winner_run": winner.run.info.run_id})
    return winner


def _log_figures(study: optuna.Study) -> None:
    """Log Optuna's figures to the active run."""
    matplotlib.use("Agg")
    for name, plot in FIGURES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are all the same, early in a study
            figure = np.ravel(plot(study))[0].figure
        figure.set_size_inches(12, 6)
        mlflow.log_figure(figure, f"study/{name}.png", save_kwargs={"bbox_inches": "tight"})
        matplotlib.pyplot.close(figure)
