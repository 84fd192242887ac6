"""The models in service: the registry's champions, loaded, and asked for anew at every request."""

import logging
import tempfile
import threading
import traceback
from typing import NamedTuple

import mlflow

from colorization import evaluation
from colorization.address import redacted, shown
from colorization.registry import lookup

FAMILIES = tuple(evaluation.CRITERIA)
TRAIN = "mlflow run . -e {} --env-manager uv"
VARIANT = {"naive": "naive_deep", "pix2pix": "pix2pix"}  # what a family's first champion is made by

logger = logging.getLogger(__name__)


class Champion(NamedTuple):
    """A registered version in service."""

    family: str
    version: mlflow.entities.model_registry.ModelVersion
    run: mlflow.entities.Run
    model: mlflow.pyfunc.PyFuncModel

    @property
    def run_url(self):
        """The run's page in MLflow's UI; "" where the store is no server."""
        uri = shown(mlflow.get_tracking_uri()).rstrip("/")
        if not uri.startswith(("http://", "https://")):
            return ""
        return f"{uri}/#/experiments/{self.run.info.experiment_id}/runs/{self.run.info.run_id}"


class Place(NamedTuple):
    """A family's place on the page: its champion or, in a sentence, why there is none."""

    family: str
    champion: Champion | None = None
    problem: str = ""
    command: str = ""  # that makes a champion


class Champions:
    """Finds the champions; keeps one loaded model a family, so that memory stays bounded."""

    def __init__(self):
        self._loaded = {}  # family -> (key, model)
        self._lock = threading.Lock()

    def places(self):
        """Return the `Place` of each family, as the registry has it now; raises nothing."""
        with self._lock:
            return [self._place(family) for family in FAMILIES]

    def _place(self, family):
        try:
            found = lookup.find_champion(family)
        except Exception as error:  # whatever the store is, its driver raises errors of its own
            uri = mlflow.get_tracking_uri()
            reason = redacted(error, uri)
            logger.error("The registry cannot be read (%s): %s", type(error).__name__, reason)
            problem = f"The model registry at {shown(uri)} cannot be read just now."
            return Place(family, problem=problem)
        if found is None:
            self._loaded.pop(family, None)
            command = TRAIN.format(VARIANT[family])
            return Place(family, problem=f"No {family} champion yet.", command=command)
        version, candidate = found
        try:
            model = self._load(family, version)
        except Exception:  # files that are gone, packages that are missing, a network cut off
            name = f"{version.name}, version {version.version}"
            cause = redacted(traceback.format_exc(), mlflow.get_tracking_uri())
            logger.error("The champion (%s) cannot be loaded: %s", name, cause)
            return Place(family, problem=f"The champion ({name}) cannot be loaded.")
        return Place(family, Champion(family, version, candidate.run, model))

    def _load(self, family, version):
        key = version.name, version.version, version.creation_timestamp
        if self._loaded.get(family, (None,))[0] != key:
            self._loaded.pop(family, None)  # not two of them at once
            uri = f"models:/{version.name}/{version.version}"
            with tempfile.TemporaryDirectory() as folder:  # once loaded, its files are not needed
                self._loaded[family] = key, mlflow.pyfunc.load_model(uri, dst_path=folder)
        return self._loaded[family][1]
