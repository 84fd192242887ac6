"""What tracking adds to a training: `python -m benchmarks.tracking`; eight minutes on two cores."""

import dataclasses
import os
import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import Row, median_ratio, print_table, seconds_of, side_by_side

ROUNDS = 3
EPOCHS = 4
EXPORTED = ("naive_basic", "naive_deep", "pix2pix")


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


def compare(name: str, splits) -> Row:
    """Return the row of one variant: a training that MLflow follows, against the same without."""
    from colorization import tracking, training
    from colorization.config import VARIANTS

    config = dataclasses.replace(VARIANTS[name], epochs=EPOCHS)

    def tracked():
        with tracking.open_run(name):
            tracking.log_config(config, data="sample")
            tracking.log_data(splits)
            result = training.train(config, splits, [tracking.EpochLog(config, splits.val)])
            tracking.log_training(result)

    def bare():
        training.train(config, splits)

    with store():
        with tracking.open_run("first"):  # creates the store
            pass
        ours, plain = side_by_side(tracked, bare, rounds=ROUNDS)
    added = statistics.median(one - other for one, other in zip(ours, plain, strict=True))
    return Row(
        f"`{name}`, {EPOCHS} epochs: followed by MLflow / without",
        f"{median_ratio(ours, plain):.3f} ({statistics.median(plain):.1f} s and {added:+.2f} s)",
        "<= 1.03",
    )


def time_end(name: str, splits) -> list[Row]:
    """Return the rows of what follows a training: export, test, and the rest of the logging."""
    import keras

    from colorization import evaluation, models, pixels, tracking
    from colorization.config import VARIANTS
    from colorization.models.export import export_onnx, load_onnx
    from serve.colorizer import REQUIREMENTS, SIGNATURE

    config = VARIANTS[name]
    keras.utils.clear_session()
    colorizer = models.build_plain(config, 128)
    chroma = evaluation.mean_chroma(splits.train.images)
    grays = pixels.gray_input(splits.test.images[: tracking.SAMPLES], config.gray_channels)
    with store(), tracking.open_run(name):
        exporting = seconds_of(export_onnx, colorizer, Path("generator.onnx"), grays)
        colorize = load_onnx("generator.onnx")
        testing = seconds_of(
            evaluation.evaluate, colorize, splits.test, config.gray_channels, chroma
        )
        whole = seconds_of(
            tracking.log_colorizer, config, colorizer, splits, SIGNATURE, REQUIREMENTS, "untrained"
        )
    return [
        Row(f"`{name}`: export to ONNX", f"{exporting:.1f} s", "< 10 s"),
        Row(
            f"`{name}`: test of {len(splits.test.images)} pictures beside both baselines",
            f"{testing:.1f} s",
        ),
        Row(f"`{name}`: both, and logging model, tables and figures", f"{whole:.1f} s"),
    ]


def measure() -> list[Row]:
    """Measure all of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from colorization.data import prepare, sources

    splits = prepare.prepare(sources.fetch("sample"))
    rows = [compare(name, splits) for name in ("naive_basic", "pix2pix")]
    return rows + [row for name in EXPORTED for row in time_end(name, splits)]


def main() -> None:
    """Measure and print."""
    print_table(measure())


if __name__ == "__main__":
    main()
