"""What a model's weights were trained on, by the runs that they went through."""

from collections.abc import Iterator

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from colorization.registry import lookup

KNOWN = "trained_on"  # the tag of a version
KINDS = {"painted": "painted birds", "photographs": "photographs"}  # of a `Source`, in words


def trainings(run: Run) -> Iterator[Run | None]:
    """Yield each run that trained a run's weights, from the last one back; None if it is unknown.

    Weights that started from those of an earlier run went through its trainings too.
    """
    inputs = run.inputs.dataset_inputs if run.inputs else []
    trained = "training" in {tag.value for each in inputs for tag in each.tags}
    if trained:  # imported weights were only tested
        yield run
    origin = (lookup.start_of(run) or run.data.params.get("source", "")).strip("'\"")
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
    if KNOWN in run.data.tags:
        return run.data.tags[KNOWN].replace("unknown", "")
    tags = [each.data.tags if each else {} for each in trainings(run)]
    kinds = {KINDS.get(each.get("data_kind", ""), "") for each in tags}
    return "" if "" in kinds else " and ".join(sorted(kinds))
