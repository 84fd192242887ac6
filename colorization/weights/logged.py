"""Weights in MLflow's store: those of a run or of a model, by the addresses that MLflow has."""

import re
import tempfile
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from colorization.address import redacted
from colorization.errors import InputError
from colorization.weights.drive import SUFFIXES

KERAS_ARTIFACT = "keras/generator.keras"  # of every training

_RUN = re.compile(r"(?:runs:/+)?([0-9a-f]{32})(?:/+(.*))?")


def is_logged(reference: str) -> bool:
    """Tell whether a text names a run, `runs:/...` or `models:/...`."""
    return bool(_RUN.fullmatch(reference)) or reference.startswith(("runs:/", "models:/"))


def resolve(reference: str) -> str:
    """Return the id of the run that keeps the weights of a run or model of this project.

    An alias may mean another version tomorrow; the run stays. For another's model, what is
    returned is the model's own address, and for any other file of a run, the file's.

    Raises:
        InputError: there is no such model.
    """
    found = _RUN.fullmatch(reference)
    run_id, path = (found[1], found[2] or "") if found else ("", "")
    if found and path in ("", KERAS_ARTIFACT):
        return run_id
    if path.endswith(SUFFIXES):
        return reference
    if reference.startswith("models:/"):
        try:
            model = mlflow.models.get_model_info(reference)
        except (MlflowException, OSError) as error:
            raise InputError(
                "There is no such model. Expected models:/<name>/<version>, models:/<name>@<alias> "
                f"or models:/<model id>. Received: {reference!r}: {_reason(error)}"
            ) from error
        run_id, reference = model.run_id or "", model.model_uri if model.run_id else reference
    return run_id if run_id and _has_weights(run_id) else reference


def bring(reference: str, file: Path) -> None:
    """Write the Keras file that a resolved reference names.

    Raises:
        InputError: there is no such run, model or file, or a model has none or several.
    """
    whole_run = re.fullmatch("[0-9a-f]{32}", reference)
    address = f"runs:/{reference}/{KERAS_ARTIFACT}" if whole_run else reference
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        try:
            come = Path(mlflow.artifacts.download_artifacts(address, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise InputError(
                "There are no such weights. Expected a finished training of this project, whose "
                f"artifact {KERAS_ARTIFACT} they are. Received: {reference!r}: {_reason(error)}"
            ) from error
        files = [each for each in (come, *come.rglob("*")) if each.suffix in SUFFIXES]
        if len(files) != 1:
            raise InputError(
                "The model has no weights to begin with. Expected one with a single .keras or .h5 "
                f"file, or whose run still has the artifact {KERAS_ARTIFACT}. Received: "
                f"{reference!r} with {len(files)} Keras files"
            )
        files[0].rename(file)


def _has_weights(run_id: str) -> bool:
    folder, _, _ = KERAS_ARTIFACT.partition("/")
    try:
        listed = mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path=folder)
    except (MlflowException, OSError):
        return False  # the run is deleted, or never was
    return KERAS_ARTIFACT in [each.path for each in listed]


def _reason(error: Exception) -> str:
    return redacted(error, mlflow.get_tracking_uri())
