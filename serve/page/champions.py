"""The models in service: the registry's champions, looked up for each page and each coloring."""

import contextlib
import logging
import tempfile
import threading
import traceback
from typing import NamedTuple

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.pyfunc import PyFuncModel

from colorization import charts, evaluation
from colorization.address import redacted, shown
from colorization.registry import lookup, served
from colorization.registry.candidate import KINDS, trained_on

FAMILIES = tuple(evaluation.CRITERIA)
REGISTER = "mlflow run . -e pretrained --env-manager uv"

logger = logging.getLogger(__name__)


class Champion(NamedTuple):
    """A registered version in service, and what it was trained on, see `candidate.trained_on`.

    `missing` says what of it is gone, see `lookup.Candidate`.
    """

    family: str
    version: ModelVersion
    run: Run
    model: PyFuncModel
    trained_on: str
    missing: str

    @property
    def knows_only_paintings(self) -> bool:
        """Whether its colors of photographs should not be trusted."""
        return self.trained_on == KINDS["painted"]

    def takes(self, param: str) -> bool:
        """Tell whether its pyfunc has this param; older ones have fewer."""
        return param in served.known_params(self.model)

    @property
    def tested(self) -> dict[str, float]:
        """Its test beside the baselines, see `charts.tested`, or what the version keeps of it."""
        with contextlib.suppress(Exception):  # each kind of store raises the errors of its own
            tested = charts.tested(self.run)
            if "test_delta_e_gray" in tested:
                return tested
            tags = self.version.tags.items()
            return {name: float(text) for name, text in tags if name.startswith("test_")}
        return {}

    @property
    def run_url(self) -> str:
        """Address of the run in MLflow's UI; "" if the store is not a server."""
        uri = shown(mlflow.get_tracking_uri()).rstrip("/")
        if not uri.startswith(("http://", "https://")):
            return ""
        return f"{uri}/#/experiments/{self.run.info.experiment_id}/runs/{self.run.info.run_id}"


class Slot(NamedTuple):
    """A family on the page: its champion or, in a sentence, why there is none."""

    family: str
    champion: Champion | None = None
    problem: str = ""
    command: str = ""  # registers one


class Champions:
    """Finds the champions; keeps one loaded model a family, so that memory stays bounded."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[tuple, PyFuncModel]] = {}  # family -> (version's key, model)
        self._lock = threading.Lock()

    def slots(self) -> list[Slot]:
        """Return the slot of each family, as the registry is now; raises nothing."""
        with self._lock:
            return [self._slot(family) for family in FAMILIES]

    def _slot(self, family: str) -> Slot:
        try:
            found = lookup.find_champion(family)
            origin = trained_on(found[1].run) if found else ""
        except Exception as error:  # each kind of store raises the errors of its own driver
            kind, uri = type(error).__name__, shown(mlflow.get_tracking_uri())
            logger.error("The registry cannot be read (%s): %s", kind, redacted(error))
            return Slot(family, problem=f"The model registry at {uri} cannot be read just now.")
        if found is None:
            self._loaded.pop(family, None)
            return Slot(family, problem=f"There is no {family} model yet.", command=REGISTER)
        version, candidate = found
        try:
            model = self._load(family, version)
        except Exception:
            name = f"{version.name}, version {version.version}"
            cause = redacted(traceback.format_exc())
            logger.error("The champion (%s) does not work: %s", name, cause)
            problem = (
                f"The champion ({name}) cannot be loaded, or colors no pictures; the server's log "
                f"tells why. {candidate.missing} The next model that passes the gate replaces it."
            ).replace("  ", " ")
            return Slot(family, problem=problem)
        champion = Champion(family, version, candidate.run, model, origin, candidate.missing)
        return Slot(family, champion)

    def _load(self, family: str, version: ModelVersion) -> PyFuncModel:
        key = version.name, version.version, version.creation_timestamp
        if family not in self._loaded or self._loaded[family][0] != key:
            self._loaded.pop(family, None)  # frees the memory of the old one first
            uri = f"models:/{version.name}/{version.version}"
            with tempfile.TemporaryDirectory() as folder:  # not needed once the model is loaded
                self._loaded[family] = key, served.load(uri, folder)
        return self._loaded[family][1]
