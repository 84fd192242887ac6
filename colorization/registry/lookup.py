"""Finds runs and models of this project in MLflow's store."""

import argparse
import contextlib
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import mlflow
import numpy as np
from mlflow.entities import LifecycleStage, LoggedModelStatus, Run, RunData, RunInfo, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version

from colorization import charts, evaluation, runs
from colorization.address import redacted, shown
from colorization.config import PRECISIONS, VARIANTS, Config, from_arguments
from colorization.errors import GateError
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.registry import served
from colorization.registry.candidate import Candidate, params_of, start_of

CHAMPION, CHALLENGER = "champion", "challenger"

logger = logging.getLogger(__name__)


class Colorize(Protocol):
    """A function of gray levels, float32 (N, S, S, channels), to RGB levels (N, S, S, 3)."""

    channels: int
    size: int  # side in pixels of the network's own pictures; 0 if that is not known

    def __call__(self, grays: np.ndarray, /) -> np.ndarray:
        """Color pictures."""


def model_name(family: str) -> str:
    """Return the name of a family's registered model."""
    return f"bird-colorizer-{family}"


def champion_uri(family: str) -> str:
    """Return the address of a family's champion, whichever version that is."""
    return f"models:/{model_name(family)}@{CHAMPION}"


def has_model(run: Run) -> bool:
    """Tell whether a run has logged a model that was not deleted since."""
    model_id = _model_id(run)
    return model_id is not None and _is_whole(model_id)


def candidate_of(run: Run) -> Candidate:
    """Return a run that has a model together with the model's address."""
    return Candidate(run, f"models:/{_model_id(run)}")


def candidate_of_version(version: ModelVersion) -> Candidate:
    """Return the model and the run of a registered version.

    A run may be deleted, and a version may be registered by hand, without a run or with one of
    another project. In place of such a run stands one without params, metrics and files, whose tags
    are the version's.
    """
    uri = f"models:/{version.name}/{version.version}"  # loads even if the logged model was deleted
    return _described(uri, version.run_id, version.tags)


def _described(model_uri: str, run_id: str | None, tags: Mapping[str, str]) -> Candidate:
    run = runs.find(run_id) if run_id else None
    if run is None or "family" not in run.data.tags:
        stage = LifecycleStage.DELETED if run_id and not run else LifecycleStage.ACTIVE
        info = RunInfo(run_id or "", "", "", "UNKNOWN", 0, None, stage)
        kept = [RunTag(name, text) for name, text in tags.items() if name != "family"]
        run = Run(info, RunData(tags=kept))
    return Candidate(run, model_uri)


def logged_model_of(candidate: Candidate) -> str | None:
    """Return the id of a candidate's logged model, by which MLflow shows metrics beside it."""
    try:
        return mlflow.models.get_model_info(candidate.model_uri).model_id
    except MlflowException:  # it was deleted; the version goes on
        return None


def _model_id(run: Run) -> str | None:
    ids = [each.model_id for each in run.outputs.model_outputs] if run.outputs else []
    # A training that was stopped while it logged its model, and resumed, has logged another.
    return ids[0] if len(ids) == 1 else next(filter(_is_whole, ids), None)


def _is_whole(model_id: str) -> bool:
    client = mlflow.MlflowClient()
    try:
        ready = client.get_logged_model(model_id).status == LoggedModelStatus.READY
        files = client.list_logged_model_artifacts(model_id)  # none if they were deleted
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return ready and "MLmodel" in [each.path for each in files]


def find(run_id: str) -> Candidate:
    """Return the candidate of a finished training run.

    Raises:
        GateError: there is no such run, or it has not finished, or it has no model.
    """
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise GateError(f"No such run. Expected its id. Received: {shown(run_id)!r}") from error
    return _finished(run)


def _finished(run: Run) -> Candidate:
    ours = {"family", "dataset_digest", "mlflow.note.content"} <= set(run.data.tags)
    state = run.info.status, run.info.lifecycle_stage
    with_model = has_model(run)
    if state != ("FINISHED", "active") or not ours or not with_model:
        raise GateError(
            "The run cannot be served. Expected a finished training of this project with a model. "
            f"Received: run_id={run.info.run_id!r}, status={' '.join(state)}, model={with_model}"
        )
    return candidate_of(run)


def resolve(model: str) -> Candidate:
    """Return the candidate that a model's name stands for.

    That is `models:/...`, the id of a finished training run, or a family: its champion.

    Raises:
        GateError: there is no such model, or it is not of this project.
    """
    family = {champion_uri(name): name for name in evaluation.CRITERIA}.get(model, model)
    try:
        if family in evaluation.CRITERIA:
            if found := find_champion(family):
                return found[1]
            raise GateError(
                f"There is no champion of {family} yet. Expected one: `mlflow run . -e pretrained` "
                f"registers that of the project; or another model. Received: model={family!r}"
            )
        if not model.startswith("models:/"):
            return _finished(mlflow.get_run(model))
        client = mlflow.MlflowClient()
        name, *number = get_model_name_and_version(client, model)
        if number:
            return candidate_of_version(client.get_model_version(name, *number))
        logged = mlflow.get_logged_model(name)
    except MlflowException as error:
        reason = redacted(error.message).rstrip(".")
        raise GateError(
            f"{reason}. Expected `models:/...`, a finished run's id, or naive or pix2pix: the "
            f"family's champion. Received: {model=}"
        ) from error
    return _described(model, logged.source_run_id, {})


def find_best(family: str) -> Candidate:
    """Return the best finished run of a family, by its criterion.

    Only runs on the same pictures of the same size are compared, by their validation: on
    photographs if there are any, and of several sets and sizes on the one that was used last. What
    comes with the project stands behind a user's own on photographs. Test pictures do not choose.

    Raises:
        GateError: the family is unknown, or has no finished run that today's gate would take.
    """
    if family not in evaluation.CRITERIA:
        known = " or ".join(evaluation.CRITERIA)
        raise GateError(f"Unknown family. Expected {known}. Received: best={family!r}")
    query = f"tags.family = '{family}' and attributes.status = 'FINISHED'"
    ended = runs.search(query)  # the latest first
    found = [candidate_of(run) for run in ended if has_model(run) and "data" in run.data.tags]
    scores = {each: each.validation_score() for each in found if each.is_beside_baselines}
    candidates = [each for each in scores if scores[each] is not None]
    if found and not candidates:
        raise GateError(
            f"No finished run was tested by {evaluation.CRITERIA[family].metric} beside all "
            "baselines, which earlier releases did not know, or the files are gone: train again. "
            f"Received: best={family!r}"
        )
    if not candidates:
        raise GateError(
            "There is nothing to choose from. Expected a finished run of the family: train one "
            f"with `mlflow run . -e ...` first. Received: best={family!r}"
        )
    latest = min(candidates, key=lambda each: (each.painted, each.pretrained))
    equal = [each for each in candidates if each.tested_on == latest.tested_on]
    logger.info(
        "best=%s: compared %d finished runs on `%s` by validation %s, left out %d on others",
        family,
        len(equal),
        latest.run.data.tags["data"],
        latest.criterion.metric,
        len(candidates) - len(equal),
    )
    return latest.criterion.best(equal, lambda each: (scores[each], each.run.info.run_id))


def find_champion(family: str) -> tuple[ModelVersion, Candidate] | None:
    """Return the version that serves a family and its candidate, or None."""
    client = mlflow.MlflowClient()
    for model in client.search_registered_models(f"name = '{model_name(family)}'"):
        if CHAMPION in model.aliases:
            version = client.get_model_version(model.name, model.aliases[CHAMPION])
            return version, candidate_of_version(version)
    return None


def load_colorizer(model_uri: str) -> Colorize:
    """Return a logged or registered model as a function of arrays.

    That is its network; a model that was not logged by this project colors files, as it is served.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        with contextlib.suppress(MlflowException, OSError):  # lost files, of which `served` speaks
            model = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=folder))
        onnx = list(model.glob("artifacts/*.onnx"))
        if len(onnx) == 1 and not (model / "python_model.pkl").exists():  # not somebody's class
            return OnnxColorizer(onnx[0])
        return served.Served(served.load(model_uri))


def find_finished(config: Config, digest: str) -> Candidate | None:
    """Return the latest finished run of the same config on the same pictures, or None."""
    query = (
        f"tags.variant = '{config.variant}' and tags.dataset_digest = '{digest}' "
        "and attributes.status = 'FINISHED'"
    )
    metrics, suffixes = evaluation.SCORES_TOGETHER, ["", *(f"_{n}" for n in evaluation.BASELINES)]
    tested = {f"test_{name}{suffix}" for name in metrics for suffix in suffixes}  # not all, once
    for run in runs.search(query):
        if config_of(run) == config and tested <= charts.tested(run).keys() and has_model(run):
            return candidate_of(run)
    return None


def config_of(run: Run) -> Config | None:
    """Return the config that a run was trained with, or None if today's fields cannot state it."""
    return None if start_of(run) else settings_of(run)


def settings_of(run: Run) -> Config | None:
    """Return the config of a run, whichever weights it began with, or None as `config_of` does."""
    try:  # `mlflow run -P` logs texts as they were typed: 2e-4
        # Runs from before there was a choice of precision and size had the defaults.
        before = {"precision": PRECISIONS[0], "size": Config.size}
        arguments = argparse.Namespace(**before | params_of(run))
        return from_arguments(VARIANTS[run.data.tags["variant"]], arguments)
    except (AttributeError, KeyError, ValueError):
        return None
