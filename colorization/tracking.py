"""Everything that is logged to MLflow about a training run."""

import importlib.metadata
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

import keras
import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import NumpyDataset, from_numpy
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image

from colorization import color, figures
from colorization.config import Config
from colorization.data.prepare import Split, Splits
from colorization.evaluation import Evaluation
from colorization.runs import active_run
from colorization.runs import open_run as open_run
from colorization.training.schedule import phases
from colorization.training.train import Result

SAMPLES = 8  # validation pictures that are shown while training
SAMPLE_STEPS = 12  # about how often, over a whole training
CONTEXTS = {"train": "training", "val": "validation", "test": "testing"}
PYFUNC = Path(__file__).parents[1] / "serve" / "pyfunc.py"
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", "image")]),
    outputs=Schema([ColSpec("binary", "image")]),
    params=ParamSchema(
        [
            ParamSpec("format", "string", "png"),
            ParamSpec("size", "string", "original"),
            ParamSpec("tta", "boolean", False),
            ParamSpec("saturation", "double", 1.0),
        ]
    ),
)
REQUIREMENTS = ("fastparquet", "mlflow-skinny", "numpy", "onnxruntime", "pandas", "pillow")


class Described(Protocol):
    """A dataclass that describes a network: a training's config, or that of imported weights."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def family(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def gray_channels(self) -> int: ...  # noqa: D102


def log_config(config: Described, data: str, **flags: object) -> None:
    """Log every field of the config and the command line's other flags as params, and tags."""
    log_flags(data, **asdict(config) | flags)
    mlflow.set_tags({"variant": config.variant, "family": config.family})


def log_flags(data: str, **flags: object) -> None:
    """Log a command line as params, except those that `mlflow run` has logged already.

    `mlflow run` logs the texts of -P as they were typed; a param cannot be logged twice.
    """
    known = mlflow.get_run(active_run().info.run_id).data.params
    params = {"data": data} | flags
    mlflow.log_params({key: value for key, value in params.items() if key not in known})
    mlflow.set_tag("data_source", data)  # as a param it has quotes where it has spaces


def log_data(splits: Splits, used: Collection[str] = tuple(CONTEXTS)) -> None:
    """Log the splits used as datasets with the manifest's digest, and the manifest itself."""
    mlflow.set_tags(
        {"data": splits.name, "data_kind": splits.kind, "dataset_digest": splits.digest}
    )
    mlflow.log_artifact(str(splits.manifest), "data")
    for split in used:
        mlflow.log_input(_dataset(splits, split), context=CONTEXTS[split])


def _dataset(splits: Splits, split: str) -> NumpyDataset:
    source = CodeDatasetSource({"uri": splits.uri, "manifest": "data/manifest.csv"})
    images, name = getattr(splits, split).images, f"{splits.name}-{split}"
    return from_numpy(images, source=source, name=name, digest=splits.digest)


class EpochLog(keras.callbacks.Callback):
    """Logs all metrics after each epoch, and the same validation pictures every few epochs.

    What the active run has already, from a process that was stopped, is not logged again.

    Attributes:
        colorizer: colors the pictures; `training.train` sets it to the network that is scored.
    """

    colorizer: keras.Model

    def __init__(self, config: Config, split: Split) -> None:
        super().__init__()
        count = min(SAMPLES, len(split.images))
        self.real = split.images[np.linspace(0, len(split.images) - 1, count).astype(int)]
        self.gray = color.gray_input(self.real, config.gray_channels)
        self.every = max(1, round(config.epochs / SAMPLE_STEPS))
        self.epochs = config.epochs
        client, run_id = mlflow.MlflowClient(), active_run().info.run_id
        speeds = client.get_metric_history(run_id, "images_per_second")
        self.logged = {each.step for each in speeds}
        pictures = " ".join(each.path for each in client.list_artifacts(run_id, "images"))
        self.shown = set(map(int, re.findall(r"step(?:\+|%2B|%)(\d+)", pictures)))

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Log the pictures as the untrained network colors them: the slider starts there."""
        self._log_pictures(0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the epoch's metrics, counted from 1, and every few epochs the pictures."""
        step = epoch + 1
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if step not in self.logged:
            mlflow.log_metrics(metrics, step=step)
        if step % self.every == 0 or step == self.epochs:
            self._log_pictures(step)

    def _log_pictures(self, step: int) -> None:
        if step in self.shown:
            return
        gray = color.to_uint8(np.repeat(self.gray[..., :1], 3, axis=-1))
        predicted = color.to_uint8(self.colorizer(self.gray, training=False))
        picture = figures.strip(gray, predicted, self.real)
        # Not in the background: the run's end would wait up to a second for MLflow's thread.
        mlflow.log_image(picture, key="validation/pictures", step=step, synchronous=True)


def log_training(config: Config, result: Result) -> None:
    """Log what a training leaves behind besides its colorizer."""
    (kept,) = (each for each in phases(config) if result.best_epoch in each.epochs)
    phase = "adversarial" if kept.adversarial else "generator-only"
    mlflow.set_tags({"kept_phase": phase, "device": result.device})
    log_once({"best_epoch": result.best_epoch + 1, "training_seconds": result.seconds})
    mlflow.log_figure(figures.loss_curves(result.history, result.best_epoch), "losses.png")


def log_once(metrics: Mapping[str, float], **where: Any) -> None:
    """Log the metrics that the active run does not have yet: it may have been stopped here.

    The options are those of `mlflow.log_metrics`.
    """
    known = mlflow.get_run(active_run().info.run_id).data.metrics
    new = {name: value for name, value in metrics.items() if name not in known}
    mlflow.log_metrics(new, **where)


def log_model(onnx: Path, example: np.ndarray, trained_on: str) -> ModelInfo:
    """Log an exported network as the pyfunc, in the active run.

    Args:
        onnx: the file.
        example: a gray picture, uint8 (S, S), that shows how to send one.
        trained_on: see `lineage.trained_on`; the pyfunc says where it should not be trusted.
    """
    encoded = io.BytesIO()
    Image.fromarray(example).save(encoded, "PNG")
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(PYFUNC),
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
    log_once(tested.metrics, model_id=model.model_id, dataset=dataset)
    if tested.collapse:
        mlflow.set_tag("collapse", tested.collapse)
    run_id = active_run().info.run_id
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
