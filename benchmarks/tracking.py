"""What tracking adds to a training: `python -m benchmarks.tracking`; 15 minutes on two cores."""

import dataclasses
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import Row, median_ratio, print_table, seconds_of, side_by_side

ROUNDS = 3
EPOCHS = 8
MEASURED = ("naive_basic", "pix2pix")


@contextmanager
def store():
    """Use a store of its own, in a temporary folder."""
    import mlflow

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)
            os.chdir(before)


def compare(name: str, splits) -> tuple[list[Row], float]:
    """Return the rows of one variant, and the seconds that its default number of epochs takes.

    A training that MLflow follows, against the same without; validation and scoring apart. Sample
    pictures are logged as often as in a training of the default length.
    """
    from colorization import tracking, training_log
    from colorization.config import VARIANTS
    from colorization.training import train

    config = dataclasses.replace(VARIANTS[name], epochs=EPOCHS)

    def tracked():
        with tracking.open_run(name):
            tracking.log_config(config, data="sample")
            tracking.log_data(splits)
            result = train.train(
                config, splits, [training_log.EpochLog(VARIANTS[name], splits.val)]
            )
            training_log.log_training(config, result)

    shares = []

    def bare():
        result = train.train(config, splits)
        count = len(splits.train.images) // config.batch_size * config.batch_size
        stepping = sum(count / speed for speed in result.history["images_per_second"])
        shares.append(1 - stepping / result.seconds)

    with store():
        with tracking.open_run("first"):  # creates the store
            pass
        ours, plain = side_by_side(tracked, bare, rounds=ROUNDS)
    scored = statistics.median(shares)
    steps = [seconds * (1 - scored) for seconds in plain]
    added = statistics.median(one - other for one, other in zip(ours, plain, strict=True))
    followed = [one + two - three for one, two, three in zip(steps, ours, plain, strict=True)]
    rows = [
        Row(
            f"`{name}`, {EPOCHS} epochs: followed by MLflow / without, validation and scores apart",
            f"{median_ratio(followed, steps):.3f} "
            f"({statistics.median(steps):.1f} s and {added:+.2f} s)",
            "<= 1.03",
        ),
        Row(f"`{name}`: share of a training that validates and scores", f"{scored:.1%}"),
    ]
    return rows, statistics.median(plain) / EPOCHS * VARIANTS[name].epochs


def time_end(name: str, splits, training_seconds: float) -> list[Row]:
    """Return the rows of what follows a training: export, test, and the rest of the logging."""
    import keras

    from colorization import color, evaluation, experiment, tracking, training_log
    from colorization.config import VARIANTS
    from colorization.models import build
    from colorization.models.export import export_onnx
    from colorization.models.onnx_colorizer import OnnxColorizer

    config = VARIANTS[name]
    keras.utils.clear_session()
    colorizer = build.build_plain(config, 128)
    chroma = evaluation.mean_chroma(splits.train.images)
    grays = color.gray_input(splits.test.images[: training_log.SAMPLES], config.gray_channels)
    with store(), tracking.open_run(name):
        exporting = seconds_of(export_onnx, colorizer, Path("generator.onnx"), grays)
        colorize = OnnxColorizer("generator.onnx")
        testing = seconds_of(
            evaluation.evaluate, colorize, splits.test, config.gray_channels, chroma
        )
        whole = seconds_of(experiment.log_colorizer, config, colorizer, splits, "untrained")

    def text(seconds):
        share = seconds / (training_seconds + whole)
        return f"{seconds:.1f} s, {share:.1%} of a run with {config.epochs} epochs"

    tested = f"test of {len(splits.test.images)} pictures beside the baselines"
    return [
        Row(f"`{name}`: export to ONNX", text(exporting), "< 10 s"),
        Row(f"`{name}`: {tested}", text(testing)),
        Row(f"`{name}`: both, and logging model, tables and figures", text(whole)),
    ]


def measure() -> Iterator[Row]:
    """Measure all of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from colorization.data import prepare, sources

    splits = prepare.prepare(sources.fetch("sample"))
    for name in MEASURED:
        rows, training_seconds = compare(name, splits)
        yield from rows
        yield from time_end(name, splits, training_seconds)


def main() -> None:
    """Measure and print."""
    print_table(measure())


if __name__ == "__main__":
    main()
