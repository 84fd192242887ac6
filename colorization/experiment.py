"""One training from end to end: opens a run, trains, exports, evaluates and logs."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import mlflow
import numpy as np
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.models.model import ModelInfo

from colorization import color, evaluation, report, tracking
from colorization.address import shown
from colorization.config import Config
from colorization.data.prepare import Split, Splits
from colorization.models import build, export
from colorization.registry import lookup
from colorization.training import train
from colorization.weights import download, safe_keras

logger = logging.getLogger(__name__)


class StartingWeights(NamedTuple):
    """Weights that a training begins with, and their source without secrets."""

    origin: str = ""
    arrays: Sequence[np.ndarray] | None = None


def starting_weights(config: Config, splits: Splits, reference: str) -> StartingWeights:
    """Load the weights that `--start_from` names, if any.

    Raises:
        ValueError: they cannot be loaded, or do not fit the config's network.
    """
    if not reference:
        return StartingWeights()
    arrays = safe_keras.load(download.fetch(reference)).get_weights()
    colorizer = build.build_plain(config, splits.train.images.shape[1])
    train.require_same_shapes(config, colorizer, arrays)
    return StartingWeights(shown(reference), arrays)


def train_and_log(
    config: Config,
    splits: Splits,
    data: str,
    *,
    start: StartingWeights | None = None,
    parent_run_id: str | None = None,
    name: str = "",
    flags: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> lookup.Candidate:
    """Train a config and log it in a run of its own.

    Args:
        config: of the training.
        splits: trained on, validated with and tested on.
        data: what they were fetched from, see `sources.fetch`.
        start: weights to begin with.
        parent_run_id: the run is nested below this one.
        name: of the run; by default the config's label.
        flags: further flags of the command line, logged as params.
        tags: further tags of the run.

    Returns:
        The finished run and its model.

    Raises:
        ValueError: the config asks for an impossible network, or the exported model does not
            compute what the trained one does.
        FloatingPointError: a loss is not finite.
    """
    start = start or StartingWeights()
    origin = f"trained on {len(splits.train.images)} others"
    if start.origin:
        origin += f", starting from the weights of `{start.origin}`, which may have seen these"
    with tracking.open_run(name or config.label, parent_run_id) as opened:
        mlflow.set_tags(dict(tags or {}))
        tracking.log_config(config, data, **{"start_from": start.origin, **(flags or {})})
        tracking.log_data(splits)
        callbacks = [tracking.EpochLog(config, splits.val)]
        result = train.train(config, splits, callbacks, start.arrays)
        model = log_colorizer(config, result.colorizer, splits, origin)
        tracking.log_training(config, result)
    return finished(config.label, opened, model)


def find_or_train(
    config: Config, splits: Splits, data: str, parent: mlflow.ActiveRun, **options: Any
) -> lookup.Candidate:
    """Return the finished run of a config: an earlier one, or a new one below the parent.

    The options and errors are those of `train_and_log`.
    """
    finished = lookup.find_finished(config, splits.digest, parent.info.experiment_id)
    if finished:
        logger.info("%s: was trained already, run %s", config.label, finished.run.info.run_id)
        return finished
    return train_and_log(config, splits, data, parent_run_id=parent.info.run_id, **options)


def log_colorizer(
    config: tracking.Described, colorizer: keras.Model, splits: Splits, origin: str
) -> ModelInfo:
    """Export a colorizer of any origin, test it beside the baselines, and log all of it.

    Args:
        config: describes the colorizer.
        colorizer: of the contract: gray to RGB, both 0..255.
        splits: tested on `test`; the mean chroma is that of `train`.
        origin: what the run's note says about the weights.

    Raises:
        ValueError: the exported model does not compute what the trained one does.
    """
    channels = config.gray_channels
    grays = color.gray_input(splits.test.images[: tracking.SAMPLES], channels)
    with tempfile.TemporaryDirectory() as folder:
        onnx, keras_file = Path(folder, "generator.onnx"), Path(folder, "generator.keras")
        export.export_onnx(colorizer, onnx, grays)
        colorizer.save(keras_file)
        chroma = evaluation.mean_chroma(splits.train.images)
        tested = evaluation.evaluate(export.load_onnx(onnx), splits.test, channels, chroma)
        mlflow.log_artifact(str(keras_file), "keras")
        model = tracking.log_model(onnx, color.to_uint8(grays[0, ..., 0]))
    mlflow.log_metric("parameters", colorizer.count_params())
    note = _note(config, splits, tested.metrics, model, origin)
    sheet = _test_sheet(config.variant, splits.test, tested)
    tracking.log_test(tested, model, splits, sheet, note)
    if tested.collapse:
        logger.warning("%s has collapsed: all is %s", config.variant, tested.collapse)
    return model


def finished(label: str, run: Run, model: ModelInfo) -> lookup.Candidate:
    """Log the test's outcome once the run has ended; return the run and its model."""
    candidate = lookup.Candidate(mlflow.get_run(run.info.run_id), model.model_uri)
    metrics = candidate.run.data.metrics
    others = (
        f"{title} {metrics[f'test_psnr_{name}']:.2f} dB"
        for name, title in evaluation.BASELINES.items()
    )
    logger.info("%s: test %.2f dB; %s", label, metrics["test_psnr"], ", ".join(others))
    return candidate


def _note(
    config: tracking.Described,
    splits: Splits,
    metrics: Mapping[str, float],
    model: ModelInfo,
    origin: str,
) -> str:
    """Return a run's note as Markdown: its test beside the baselines, and how to serve it."""
    titles = {"": f"`{config.variant}`"}
    titles |= {f"_{name}": title for name, title in evaluation.BASELINES.items()}
    columns = evaluation.SCORES_TOGETHER
    rows = [
        [title, *evaluation.cells(metrics, "test_", suffix, columns)]
        for suffix, title in titles.items()
    ]
    return (
        f"**{config.variant}**, tested on {len(splits.test.images)} pictures of `{splits.name}` "
        f"(digest `{splits.digest}`), {origin}:\n\n"
        f"{report.table(['', *evaluation.headings(columns)], rows)}\n\n"
        f"Serve it: `mlflow models serve -m {model.model_uri} --env-manager uv`\n"
    )


def _test_sheet(variant: str, split: Split, tested: evaluation.Evaluation) -> Figure:
    """Draw test pictures from the best to the worst by CIEDE2000."""
    chosen = report.spread(tested.pictures["delta_e"].argsort())
    captions = [
        f"{row.species.replace('_', ' ')}\n{row.psnr:.1f} dB (gray {row.psnr_gray:.1f})\n"
        f"\u0394E {row.delta_e:.1f} (gray {row.delta_e_gray:.1f})"
        for row in tested.pictures.iloc[chosen].itertuples()
    ]
    colored = {variant: tested.predicted[chosen]}
    title = "test pictures, from the best to the worst"
    return report.sheet(split.images[chosen], colored, captions, title)
