"""A model and the run that trained it, as the gate judges them, and what it was trained on."""

import contextlib
import functools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from colorization import charts, evaluation
from colorization.config import Config

PRETRAINED = "pretrained_sha256"  # the tag of runs that hold weights that come with the project
KINDS = {"painted": "painted birds", "photographs": "photographs"}  # of a `Source`, in words


@dataclass(frozen=True)
class Candidate:
    """A model and the run that trained it.

    Where a version has lost its run, or never had one of this project, `run` holds what the version
    tells of it, see `lookup.candidate_of_version`.
    """

    run: Run
    model_uri: str

    @property
    def missing(self) -> str:
        """What a version has lost, or never had, as a sentence; empty if nothing."""
        run = self.run
        if not run.info.run_id:
            return "It was registered by hand, without a run."
        if run.info.lifecycle_stage != "active":
            return f"Its run {run.info.run_id} was deleted."
        if "family" not in run.data.tags:
            return f"It was registered by hand: its run {run.info.run_id} is of another project."
        return ""

    @property
    def name(self) -> str:
        """What a message calls a champion."""
        if self.missing:
            return f"the champion {self.model_uri} ({self.missing.rstrip('.')})"
        if self.pretrained:
            return "the champion, which comes with the project"
        return f"the champion of run {self.run.info.run_id}"

    @property
    def family(self) -> str:
        """`naive` or `pix2pix`."""
        return self.run.data.tags["family"]

    @property
    def criterion(self) -> evaluation.Criterion:
        """The metric that decides in this family."""
        return evaluation.CRITERIA[self.family]

    @property
    def digest(self) -> str:
        """Of the pictures that it was trained and tested on."""
        return self.run.data.tags.get("dataset_digest", "")

    @property
    def size(self) -> int:
        """Side of the pictures that it was trained and tested on; all had 128 pixels once."""
        return int(self.run.data.params.get("size", Config.size))

    @property
    def tested_on(self) -> tuple[str, int]:
        """Names its test pictures: runs of which this is the same have comparable scores."""
        return self.digest, self.size

    @property
    def kind(self) -> str:
        """Of the pictures it was tested on, and trained on if that was here, see `Source`."""
        return self.run.data.tags.get("data_kind", "")

    @property
    def painted(self) -> bool:
        """Whether these are painted birds."""
        return self.kind == "painted"

    @property
    def pretrained(self) -> bool:
        """Whether it came with the project."""
        return PRETRAINED in self.run.data.tags

    @property
    def collapse(self) -> str:
        """How it has collapsed, see `evaluation.collapse`; empty if it has not."""
        return self.run.data.tags.get("collapse", "")

    @property
    def test_pictures(self) -> int:
        """The number of pictures that it was tested on."""
        inputs = self.run.inputs.dataset_inputs if self.run.inputs else []
        profiles = {tag.value: each.dataset.profile for each in inputs for tag in each.tags}
        shape = json.loads(profiles.get("testing") or "{}").get("features_shape", [0])
        return int(shape[0])

    @functools.cached_property
    def tested(self) -> dict[str, float]:
        """Its test, see `charts.tested`."""
        return charts.tested(self.run)

    @property
    def is_beside_baselines(self) -> bool:
        """Whether all of today's baselines were tested too; earlier releases had fewer."""
        metric, tested = self.criterion.metric, self.tested
        return all(f"test_{metric}_{name}" in tested for name in evaluation.BASELINES)

    def score(self, baseline: str = "") -> float:
        """Return the criterion on the test pictures, of the model or of such as `_gray`."""
        return self.tested[f"test_{self.criterion.metric}{baseline}"]

    def validation_score(self) -> float | None:
        """Return the criterion on all validation pictures, of the epoch whose weights were kept.

        None if there is none: imported weights are tested only.
        """
        values = charts.history(self.run.info.run_id, f"val/{self.criterion.metric}").values()
        return self.criterion.best(values, float) if values else None


def params_of(run: Run) -> dict[str, str]:
    """Return a run's params, without the quotes of a command line with which `mlflow run` logs."""
    params = dict(run.data.params)
    for name, value in params.items():
        if value[:1] == "'" == value[-1:]:
            with contextlib.suppress(ValueError):  # no quotes of a command line
                params[name] = "".join(shlex.split(value))
    return params


def start_of(run: Run) -> str:
    """Return the source of the weights that a run began with, "" if it was trained from scratch."""
    return run.data.tags.get("start_from", params_of(run).get("start_from", ""))


def trainings(run: Run) -> Iterator[Run | None]:
    """Yield each run that trained a run's weights, from the last one back; None if it is unknown.

    Weights that started from those of an earlier run went through its trainings too.
    """
    inputs = run.inputs.dataset_inputs if run.inputs else []
    trained = "training" in {tag.value for each in inputs for tag in each.tags}
    if trained:  # imported weights were only tested
        yield run
    origin = (start_of(run) or run.data.params.get("source", "")).strip("'\"")
    if origin:
        try:
            earlier = mlflow.get_run(origin)
        except MlflowException:  # a file, an address, or a deleted run
            yield None
        else:
            yield from trainings(earlier)
    elif not trained:
        yield None


def trained_on(run: Run) -> str:
    """Name what a run's weights were trained on: painted birds, photographs, or both.

    An empty text if that is not known. A version remembers it when its run is gone.
    """
    if "trained_on" in run.data.tags:
        return run.data.tags["trained_on"].replace("unknown", "")
    tags = [each.data.tags if each else {} for each in trainings(run)]
    kinds = {KINDS.get(each.get("data_kind", ""), "") for each in tags}
    return "" if "" in kinds else " and ".join(sorted(kinds))
