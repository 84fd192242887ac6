"""Everything that is logged to MLflow about a model's run, but for what only a training has."""

from __future__ import annotations

import importlib.metadata
import io
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import NumpyDataset, from_numpy
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image

from colorization import charts
from colorization.config import Config
from colorization.data import manifest
from colorization.data.prepare import Splits
from colorization.data.sources import located
from colorization.evaluation import Evaluation
from colorization.paths import ROOT, as_text
from colorization.runs import active_run
from colorization.runs import open_run as open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_PARAMS = {each.name for each in fields(Config) if "help" not in each.metadata}
CONTEXTS = {"train": "training", "val": "validation", "test": "testing"}
MODEL_CODE: dict[str, Any] = {
    "python_model": str(ROOT / "serve" / "pyfunc.py"),
    "code_paths": [str(Path(__file__).parent / "pictures")],
}
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", "image")]),
    outputs=Schema([ColSpec("binary", "image")]),
    params=ParamSchema(
        [
            ParamSpec("format", "string", "png"),
            ParamSpec("size", "string", "original"),
            ParamSpec("tta", "boolean", False),
            ParamSpec("saturation", "double", 1.0),
            ParamSpec("quality", "long", 92),
            ParamSpec("warmth", "double", 0.0),
            ParamSpec("tint", "double", 0.0),
            ParamSpec("output", "string", "colors"),
        ]
    ),
)
REQUIREMENTS = "fastparquet mlflow-skinny numpy onnxruntime pandas pillow pillow-heif".split()


class Described(Protocol):
    """A dataclass that describes a network: a training's config, or that of imported weights."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102
    @property
    def gray_channels(self) -> int: ...  # noqa: D102


def insert(write: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call a function of MLflow that inserts what it has not found.

    Another process may insert the same in between; the second call finds it.
    """
    try:
        write(*arguments, **options)
    except MlflowException as error:
        if error.error_code not in ("BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"):
            raise
        write(*arguments, **options)


def log_config(config: Described, data: str, **flags: object) -> None:
    """Log what the user may set, the command line's other flags included, as params, and tags."""
    values = {name: value for name, value in asdict(config).items() if name not in NOT_PARAMS}
    log_flags(data, **values | flags)
    mlflow.set_tags({"variant": config.variant, "family": config.family})


def log_flags(data: str, **flags: object) -> None:
    """Log a command line as params, except those that `mlflow run` has logged already.

    `mlflow run` logs the texts of -P as they were typed; a param cannot be logged twice.
    """
    known = mlflow.get_run(active_run().info.run_id).data.params
    params = {"data": data} | flags
    new = {key: as_text(str(value)) for key, value in params.items() if key not in known}
    mlflow.log_params(new)
    mlflow.set_tag("data_source", located(data))  # of the param, who knows where it was typed?


def log_data(splits: Splits, used: Collection[str] = tuple(CONTEXTS)) -> None:
    """Log the splits used as datasets with the manifest's digest, and the manifest itself.

    With perceptual hashes of what is learned or chosen from, whose copies are recognized by them.
    """
    mlflow.set_tags(
        {"data": splits.name, "data_kind": splits.kind, "dataset_digest": splits.digest}
    )
    hashes: dict[str, str] = {}
    for part in (splits.train, splits.val):
        hashes |= part.hashes if part.name in used else {}
    rows = manifest.read(splits.manifest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.csv")
        manifest.write(path, [replace(row, hash=hashes.get(row.path, "")) for row in rows])
        mlflow.log_artifact(str(path), "data")
    for split in used:
        insert(mlflow.log_input, _dataset(splits, split), context=CONTEXTS[split])


def _dataset(splits: Splits, split: str) -> NumpyDataset:
    source = CodeDatasetSource({"uri": splits.uri, "manifest": "data/manifest.csv"})
    images, name = getattr(splits, split).images, f"{splits.name}-{split}"
    if images.shape[1] != Config.size:  # MLflow takes datasets of one name and digest for one
        name += f"-{images.shape[1]}"
    return from_numpy(images, source=source, name=name, digest=splits.digest)


def log_once(metrics: Mapping[str, float], **where: Any) -> None:
    """Log the metrics that the active run does not have yet: it may have been stopped here.

    The options are those of `mlflow.log_metrics`.
    """
    known = mlflow.get_run(active_run().info.run_id).data.metrics
    new = {name: value for name, value in metrics.items() if name not in known}
    mlflow.log_metrics(new, **where)


def log_model(name: str, onnx: Path, example: np.ndarray, trained_on: str) -> ModelInfo:
    """Log an exported network as the pyfunc, in the active run.

    `example` is a gray picture, uint8 (S, S), that shows how to send one. By `trained_on`, see
    `candidate.trained_on`, the pyfunc says where it should not be trusted.
    """
    encoded = io.BytesIO()
    Image.fromarray(example).save(encoded, "PNG")
    return mlflow.pyfunc.log_model(
        name=name,
        **MODEL_CODE,
        artifacts={"generator": str(onnx)},
        model_config={"trained_on": trained_on},
        signature=SIGNATURE,
        input_example=pd.DataFrame({"image": [encoded.getvalue()]}),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
    )


def log_test(
    tested: Evaluation, model: ModelInfo, splits: Splits, sheet: Figure, note: str
) -> None:
    """Log the test of a logged model: scores, tables, a sheet of pictures and the run's note."""
    dataset = _dataset(splits, "test")
    scores = {f"test_{name}": tested.metrics[f"test_{name}"] for name in charts.TESTED_ONCE}
    log_once(scores, model_id=model.model_id, dataset=dataset)
    if tested.collapse:
        mlflow.set_tag("collapse", tested.collapse)
    run_id = active_run().info.run_id
    variant = mlflow.get_run(run_id).data.tags["variant"]
    log_table(run_id, charts.as_table(tested.metrics, variant), charts.SCORES_FILE)
    log_table(run_id, tested.pictures, "test_pictures.json")
    log_table(run_id, tested.per_species(), "test_species.json")
    mlflow.log_figure(sheet, "test_pictures.png")
    mlflow.set_tag("mlflow.note.content", note)


def log_table(run_id: str, table: pd.DataFrame, file: str) -> None:
    """Log a table in place of the one before; MLflow's own `log_table` would append to it."""
    client = mlflow.MlflowClient()
    table = table.astype(object).where(table.notna(), None)
    if file in [each.path for each in client.list_artifacts(run_id)]:
        client.log_text(run_id, table.to_json(orient="split", index=False), file)
    else:
        client.log_table(run_id, table, file)
