"""One training from end to end: opens a run, trains, exports, evaluates and logs."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import mlflow
import numpy as np
from matplotlib.figure import Figure
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

from colorization import charts, color, evaluation, figures, runs, tracking, training_log
from colorization.address import shown
from colorization.config import Config
from colorization.data.prepare import Split, Splits
from colorization.errors import InputError
from colorization.models import build, export
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.registry import lookup, promotion, shipped
from colorization.registry.candidate import Candidate, trained_on
from colorization.training import checkpoint, train
from colorization.weights import download, safe_keras

logger = logging.getLogger(__name__)


class StartingWeights(NamedTuple):
    """Weights that a training begins with, and their source without secrets."""

    origin: str = ""
    arrays: Sequence[np.ndarray] | None = None


class Stopped(NamedTuple):
    """The run of a training that was stopped, and what it had reached, if anything."""

    run: Run
    state: checkpoint.State | None


def resolve_weights(config: Config, reference: str) -> str:
    """Return what `--start_from` means today: the run's id for an alias or the shipped weights."""
    if reference == shipped.NAME:
        reference = shipped.find(config.family).run.info.run_id
    return download.resolve(reference)


def starting_weights(config: Config, splits: Splits, reference: str) -> StartingWeights:
    """Load the weights that `--start_from` names, if any.

    Raises:
        ValueError: they cannot be loaded, or do not fit the config's network.
    """
    if not reference:
        return StartingWeights()
    reference = resolve_weights(config, reference)
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
    stopped: Stopped | None = None,
) -> Candidate:
    """Train a config and log it in a run of its own, nested below the parent's if there is one.

    The training begins with the weights of `start`. The run's `name` is by default the config's
    label. On Ctrl-C and SIGTERM the exception has a note: the command that goes on. `flags` are
    further ones of the command line, logged as params; `stopped` is an earlier training of this
    config, which goes on in its own run.

    Raises:
        InputError: another process is at work on the run of `stopped`, or its state does not fit.
        ValueError: the config asks for an impossible network, or the exported model does not
            compute what the trained one does.
        FloatingPointError: a loss is not finite.
    """
    start = start or StartingWeights()
    origin = f"trained on {len(splits.train.images)} others"
    if start.origin:
        origin += f", starting from the weights of `{start.origin}`, which may have seen these"
    flags = {"start_from": start.origin, "checkpoint_every": "0", **(flags or {})}
    earlier, state = stopped or (None, None)
    with tracking.open_run(name or config.label, parent_run_id, earlier) as opened:
        # `mlflow run` has logged the param as it was typed: an alias may mean another model soon.
        started = {"start_from": start.origin} if start.origin else {}
        mlflow.set_tags(started | dict(tags or {}))
        # A param that says nothing would take room on MLflow's cards.
        given = {name: value for name, value in flags.items() if value not in ("", "0")}
        tracking.log_config(config, data, **given)
        tracking.log_data(splits)
        file, every = runs.file_of(opened.info.run_id), int(flags["checkpoint_every"])
        saved = checkpoint.Checkpoint(file, state, training_log.log_checkpoint, every)
        with contextlib.nullcontext() if parent_run_id else _noting_how_to_resume(config, opened):
            callbacks = [training_log.EpochLog(config, splits.val)]
            prefix = (name or config.label) if parent_run_id else ""  # one of several
            result = train.train(config, splits, callbacks, start.arrays, saved, prefix)
            model = log_colorizer(config, result.colorizer, splits, origin)
            training_log.log_training(config, result)
            training_log.delete_checkpoint(opened)
    return log_outcome(config.label, opened, model)


@contextlib.contextmanager
def _noting_how_to_resume(config: Config, run: Run) -> Iterator[None]:
    """Add the command that goes on to the exception that stops a training.

    That is a signal, a tracking server that is away, or a full disk.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MlflowException, OSError) as stop:
        manager = run.data.tags.get("mlflow.project.env", "local")
        stop.add_note(
            f"resume it: mlflow run . -e {config.variant} -P resume={run.info.run_id} "
            f"--env-manager {manager}"
        )
        raise


def find_or_train(config: Config, splits: Splits, data: str, **options: Any) -> Candidate:
    """Return the finished run of a config: an earlier one, or a new one below the active run.

    An earlier training that was stopped goes on where its checkpoint is. The options and errors
    are those of `train_and_log`.
    """
    earlier = lookup.find_finished(config, splits.digest)
    if earlier:
        logger.info("%s: was trained already, run %s", config.label, earlier.run.info.run_id)
        return earlier
    stopped = _find_stopped(config, splits.digest)
    options["parent_run_id"] = tracking.active_run().info.run_id
    if stopped:
        try:
            return train_and_log(config, splits, data, stopped=stopped, **options)
        except InputError as error:  # it is of another release, or another process is at work on it
            logger.warning("%s", error)
    return train_and_log(config, splits, data, **options)


def _find_stopped(config: Config, digest: str) -> Stopped | None:
    """Return the latest stopped training of a config that has a checkpoint, or None."""
    for run in runs.find_unfinished(config.variant, digest):
        if lookup.config_of(run) == config and (state := training_log.saved_state(run.info.run_id)):
            logger.info("%s: goes on in run %s", config.label, run.info.run_id)
            return Stopped(run, state)
    return None


def log_colorizer(
    config: tracking.Described, colorizer: keras.Model, splits: Splits, origin: str
) -> ModelInfo:
    """Export a colorizer, test it beside the baselines, and log all of it.

    It is of any origin, of which the run's note says what `origin` does, and of the contract: gray
    to RGB, both 0..255. It is tested on `splits.test`; the mean chroma is that of `splits.train`.

    Raises:
        ValueError: the exported model does not compute what the trained one does.
    """
    channels = config.gray_channels
    grays = color.gray_input(splits.test.images[: training_log.SAMPLES], channels)
    with tempfile.TemporaryDirectory() as folder:
        onnx, keras_file = Path(folder, "generator.onnx"), Path(folder, "generator.keras")
        export.export_onnx(colorizer, onnx, grays)
        colorizer.save(keras_file)
        chroma = evaluation.mean_chroma(splits.train.images)
        exported = OnnxColorizer(onnx)
        tested = evaluation.evaluate(exported, splits.test, channels, chroma, exported.uncertainty)
        mlflow.log_artifact(str(keras_file), "keras")
        run = mlflow.get_run(tracking.active_run().info.run_id)
        if lookup.has_model(run):  # a process was stopped after it had logged it
            model = mlflow.models.get_model_info(lookup.candidate_of(run).model_uri)
        else:
            example = color.to_uint8(grays[0, ..., 0])
            model = tracking.log_model(config.variant, onnx, example, trained_on(run))
    mlflow.set_tag("parameters", colorizer.count_params())
    note = _note(config, splits, tested.metrics, model, origin)
    sheet = _test_sheet(config.variant, splits.test, tested)
    tracking.log_test(tested, model, splits, sheet, note)
    if tested.collapse:
        logger.warning("%s has collapsed: all is %s", config.variant, tested.collapse)
    return model


def log_outcome(label: str, run: Run, model: ModelInfo) -> Candidate:
    """Log the test's outcome once the run has ended; return the run and its model."""
    candidate = Candidate(mlflow.get_run(run.info.run_id), model.model_uri)
    metrics = candidate.tested
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
    columns = evaluation.SCORES_TOGETHER
    tested = charts.as_table(metrics, f"`{config.variant}`").to_dict("records")
    rows = [[row["model"], *evaluation.cells(row, shown=columns)] for row in tested]
    return (
        f"**{config.variant}**, tested on {len(splits.test.images)} pictures of `{splits.name}` "
        f"(digest `{splits.digest}`), {origin}:\n\n"
        f"{figures.table(['', *evaluation.headings(columns)], rows)}\n\n"
        f"Serve it: `{promotion.serve_command(model.model_uri)}`\n"
    )


def _test_sheet(variant: str, split: Split, tested: evaluation.Evaluation) -> Figure:
    """Draw test pictures from the best to the worst by CIEDE2000."""
    chosen = figures.spread(tested.pictures["delta_e"].argsort())
    captions = [
        f"{figures.caption(row.species)}\n{row.psnr:.1f} dB (gray {row.psnr_gray:.1f})\n"
        f"\u0394E {row.delta_e:.1f} (gray {row.delta_e_gray:.1f})"
        for row in tested.pictures.iloc[chosen].itertuples()
    ]
    colored = {variant: tested.predicted[chosen]}
    title = "test pictures, from the best to the worst"
    return figures.sheet(split.images[chosen], colored, captions, title)
