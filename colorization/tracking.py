"""Everything that MLflow is told about a training run."""

import contextlib
import importlib.metadata
import io
import logging
import signal
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
from filelock import FileLock
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image

from colorization import color, evaluation, figures
from colorization.address import redacted
from colorization.data.cache import cache_folder
from colorization.models.export import export_onnx, load_onnx

SAMPLES = 8  # validation pictures that are shown while training
SAMPLE_STEPS = 12  # about how often, over a whole training
SHEET_ROWS = 8  # test pictures on the sheet, from the best to the worst
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

logger = logging.getLogger(__name__)


def log_table(run_id, table, file):
    """Log a table in place of the one before; MLflow's own `log_table` would append to it."""
    client = mlflow.MlflowClient()
    table = table.astype(object).where(table.notna(), None)
    if file in client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", ""):
        client.log_text(run_id, table.to_json(orient="split", index=False), file)
    else:
        client.log_table(run_id, table, file)


@contextlib.contextmanager
def open_run(name, parent_run_id=None):
    """Open a run, or attach to the one of `mlflow run`; whatever happens, it does not stay RUNNING.

    With a parent's id, it is a new run below that one, in the same experiment.

    An exception ends it FAILED, with the reason as tag `error` unless MLflow itself failed;
    Ctrl-C and SIGTERM (raised as SystemExit) end it KILLED.
    """
    with FileLock(cache_folder() / "store.lock"):  # two at once cannot create one SQLite store
        mlflow.search_experiments(max_results=1)
    nested = {}
    if parent_run_id:
        nested = {"nested": True, "parent_run_id": parent_run_id}
        nested["experiment_id"] = mlflow.get_run(parent_run_id).info.experiment_id
    held = []
    handlers = _hold_signals(held)
    try:
        opened = mlflow.start_run(run_name=name, log_system_metrics=True, **nested)
    except BaseException:
        _release_signals(handlers, held)
        raise
    with opened as run:
        try:
            _release_signals(handlers, held)
            yield run
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(MlflowException):  # the server is gone
                mlflow.end_run("KILLED")
            raise
        except MlflowException:
            raise  # of a server that is gone: to tell it the reason would take minutes
        except Exception as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {redacted(error)}")
            raise


def _hold_signals(held):
    """Note signals in a list: one inside `start_run` would leave a run that nobody ends."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # signals arrive in the main thread only
    numbers = (signal.SIGINT, signal.SIGTERM)
    return {n: signal.signal(n, lambda number, _: held.append(number)) for n in numbers}


def _release_signals(handlers, held):
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)


def log_config(config, data, **flags):
    """Log every field of the config and the command line's other flags as params, and tags."""
    log_flags(data, **asdict(config) | flags)
    mlflow.set_tags({"variant": config.variant, "family": config.family})


def log_flags(data, **flags):
    """Log a command line as params, but for those that `mlflow run` has logged already.

    It has logged the texts of -P as they were typed, and a param cannot be logged twice.
    """
    known = mlflow.get_run(mlflow.active_run().info.run_id).data.params
    params = {"data": data} | flags
    mlflow.log_params({key: value for key, value in params.items() if key not in known})
    mlflow.set_tag("data_source", data)  # as a param it has quotes where it has spaces


def log_data(splits, used=tuple(CONTEXTS)):
    """Log the splits used as datasets with the manifest's digest, and the manifest itself."""
    mlflow.set_tags(
        {"data": splits.name, "data_kind": splits.kind, "dataset_digest": splits.digest}
    )
    mlflow.log_artifact(splits.manifest, "data")
    source = CodeDatasetSource({"uri": splits.uri, "manifest": "data/manifest.csv"})
    for split in used:
        images = getattr(splits, split).images
        name = f"{splits.name}-{split}"
        dataset = mlflow.data.from_numpy(images, source=source, name=name, digest=splits.digest)
        mlflow.log_input(dataset, context=CONTEXTS[split])


class EpochLog(keras.callbacks.Callback):
    """Logs all metrics after each epoch, and the same validation pictures every few epochs.

    The pictures are colored by what is scored: `colorizer`, which `training.train` sets.

    Args:
        config: of the training.
        split: with validation pictures, `images` uint8 (N, S, S, 3); eight of them are shown.
    """

    def __init__(self, config, split):
        super().__init__()
        count = min(SAMPLES, len(split.images))
        self.real = split.images[np.linspace(0, len(split.images) - 1, count).astype(int)]
        self.gray = color.gray_input(self.real, config.gray_channels)
        self.every = max(1, round(config.epochs / SAMPLE_STEPS))
        self.epochs = config.epochs

    def on_train_begin(self, logs=None):
        """Log the pictures as the untrained network colors them, where the slider starts."""
        self._log_pictures(0)

    def on_epoch_end(self, epoch, logs=None):
        """Log the epoch's metrics, counted from 1, and every few epochs the pictures."""
        step = epoch + 1
        mlflow.log_metrics({name: float(value) for name, value in logs.items()}, step=step)
        if step % self.every == 0 or step == self.epochs:
            self._log_pictures(step)

    def _log_pictures(self, step):
        gray = color.to_uint8(np.repeat(self.gray[..., :1], 3, axis=-1))
        predicted = color.to_uint8(self.colorizer(self.gray, training=False))
        picture = figures.strip(gray, predicted, self.real)
        # Not in the background: the run's end would wait up to a second for MLflow's thread.
        mlflow.log_image(picture, key="validation/pictures", step=step, synchronous=True)


def log_result(config, result, splits, start_from=""):
    """Log the trained colorizer, its test beside the baselines, and the figures of both.

    Args:
        config: of the training.
        result: what `training.train` returned.
        splits: that it was trained on.
        start_from: whose weights the training began with, as `address.shown` shows them.

    Returns:
        The `ModelInfo` of the logged model and the test's metrics.

    Raises:
        ValueError: the exported model does not compute what the trained one does.
    """
    origin = f"trained on {len(splits.train.images)} others"
    if start_from:
        origin += f", starting from the weights of `{start_from}`, which may have seen these"
    model, metrics = log_colorizer(config, result.colorizer, splits, origin)
    log_training(result)
    return model, metrics


def log_training(result):
    """Log what a training leaves behind beside its colorizer: it needs no test pictures."""
    mlflow.log_metric("best_epoch", result.best_epoch + 1)
    mlflow.log_metric("training_seconds", result.seconds)
    mlflow.log_figure(figures.loss_curves(result.history, result.best_epoch), "losses.png")


def log_colorizer(config, colorizer, splits, origin):
    """Log a colorizer of any origin, its test beside the baselines, and the test's figures.

    Arguments, results and errors are those of `log_result`; `origin` is what the run's note says
    of the weights where they were not trained on `splits`.
    """
    channels = config.gray_channels
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "generator.onnx")
        grays = color.gray_input(splits.test.images[:SAMPLES], channels)
        export_onnx(colorizer, onnx, grays)
        keras_file = Path(folder, "generator.keras")
        colorizer.save(keras_file)
        mlflow.log_artifact(keras_file, "keras")
        chroma = evaluation.mean_chroma(splits.train.images)
        tested = evaluation.evaluate(load_onnx(onnx), splits.test, channels, chroma)
        model = log_model(onnx, color.to_uint8(grays[0, ..., 0]))
    mlflow.log_metrics(tested.metrics, model_id=model.model_id)
    if tested.collapse:
        mlflow.set_tag("collapse", tested.collapse)
        logger.warning("%s has collapsed: all is %s", config.variant, tested.collapse)
    mlflow.log_metric("parameters", colorizer.count_params())
    mlflow.log_table(tested.pictures, "test_pictures.json")
    mlflow.log_table(tested.per_species(), "test_species.json")
    mlflow.log_figure(_test_sheet(config, splits.test, tested), "test_pictures.png")
    note = describe(config, splits, tested.metrics, model, origin)
    mlflow.set_tag("mlflow.note.content", note)
    return model, tested.metrics


def load_colorizer(model_uri):
    """Return the function of arrays that a logged or registered model holds, see `load_onnx`.

    Args:
        model_uri: `models:/...` of one of this project's models.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = mlflow.artifacts.download_artifacts(model_uri, dst_path=folder)
        (onnx,) = Path(model).rglob("*.onnx")
        return load_onnx(onnx)


def describe(config, splits, metrics, model, origin):
    """Return the story of a run as Markdown: its test beside the baselines, and how to use it."""
    shown = evaluation.SCORES_TOGETHER
    rows = {"": f"`{config.variant}`"}
    rows |= {f"_{name}": title for name, title in evaluation.BASELINES.items()}
    table = "\n".join(
        f"| {title} | {' | '.join(evaluation.cells(metrics, 'test_', key, shown))} |"
        for key, title in rows.items()
    )
    head = ["", *evaluation.headings(shown)]
    return (
        f"**{config.variant}**, tested on {len(splits.test.images)} pictures of `{splits.name}` "
        f"(digest `{splits.digest}`), {origin}:\n\n"
        f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n"
        f"{table}\n\nServe it: `mlflow models serve -m {model.model_uri} --env-manager uv`\n"
    )


def log_model(onnx, example):
    """Log an exported network as the pyfunc, in the active run.

    Args:
        onnx: path of the file.
        example: a gray picture, uint8 (S, S), that MLflow shows how to send.

    Returns:
        A `ModelInfo`.
    """
    encoded = io.BytesIO()
    Image.fromarray(example).save(encoded, "PNG")
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(PYFUNC),
        artifacts={"generator": str(onnx)},
        signature=SIGNATURE,
        input_example=pd.DataFrame({"image": [encoded.getvalue()]}),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
    )


def _test_sheet(config, split, tested):
    """Draw test pictures from the best to the worst by CIEDE2000."""
    order = tested.pictures["delta_e"].argsort().to_numpy()
    chosen = order[np.linspace(0, len(order) - 1, min(SHEET_ROWS, len(order))).astype(int)]
    real = split.images[chosen]
    columns = {
        "gray": color.to_uint8(color.gray_input(real, 3)),
        config.variant: tested.predicted[chosen],
        "real": real,
    }
    captions = [
        f"{row.species.replace('_', ' ')}\n{row.psnr:.1f} dB (gray {row.psnr_gray:.1f})\n"
        f"\u0394E {row.delta_e:.1f} (gray {row.delta_e_gray:.1f})"
        for row in tested.pictures.iloc[chosen].itertuples()
    ]
    return figures.sheet(columns, captions, "test pictures, from the best to the worst")
