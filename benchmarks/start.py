"""What a start takes, and why: `python -m benchmarks.start`; one minute on two cores."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table, side_by_side

ROOT = Path(__file__).parent.parent
ROUNDS = 5
PROJECT = """
name: start
entry_points:
  main:
    command: "python -m benchmarks.start {}"
"""
CHILD = "child"


def run_child() -> None:
    """Go the way of `python -m colorization pix2pix` up to its first step, and tell the times."""
    marks = {"": time.time()}
    from colorization import process
    from colorization.config import VARIANTS

    process.start()
    import mlflow  # noqa: F401

    marks["importing MLflow"] = time.time()
    import keras

    from colorization import tracking, training_log
    from colorization.registry import promotion  # noqa: F401
    from colorization.training import train

    marks["importing TensorFlow, Keras and the rest"] = time.time()
    from colorization.data import prepare, sources

    splits = prepare.prepare(sources.fetch("sample"))
    marks["finding the prepared pictures"] = time.time()
    config = VARIANTS["pix2pix"]

    class FirstStep(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            marks["building the networks, logging the untrained pictures"] = time.time()

        def on_train_batch_end(self, batch, logs=None):
            marks["compiling and taking the first step"] = time.time()
            print(json.dumps(marks))
            sys.exit()

    with tracking.open_run("start"):
        tracking.log_config(config, data="sample")
        tracking.log_data(splits)
        marks["opening the run, logging parameters and data"] = time.time()
        train.train(config, splits, [training_log.EpochLog(config, splits.val), FirstStep()])


def run_project(folder: Path) -> dict:
    """Start by `mlflow run`; return cause to seconds."""
    command = [sys.executable, "-m", "mlflow", "run", str(folder), "--env-manager", "local"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    started = time.time()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True)
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith('{"')]
    if not lines:
        raise RuntimeError(done.stderr.decode())
    seconds, before = {}, started
    for cause, moment in json.loads(lines[0]).items():
        seconds[cause or "`mlflow run` itself, and starting Python"] = moment - before
        before = moment
    return seconds


def measure_help() -> list[Row]:
    """Return what a question and a mistake cost."""

    def start(*words, status):
        command = [sys.executable, "-m", "colorization", *words]

        def call():
            assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == status

        return call

    ask, mistake = start("--help", status=0), start("pix2pix", "--epochs", "many", status=2)
    seconds = side_by_side(ask, mistake, rounds=ROUNDS)
    names = ("`python -m colorization --help`", "the same with a bad argument")
    return [
        Row(name, f"{statistics.median(each):.2f} s", "< 1 s")
        for name, each in zip(names, seconds, strict=True)
    ]


def measure_first_step() -> list[Row]:
    """Return the time from `mlflow run` to the first training step, split by cause."""
    from colorization.data import prepare, sources

    prepare.prepare(sources.fetch("sample"))  # unpacking is not part of a start
    with tempfile.TemporaryDirectory() as place:
        Path(place, "MLproject").write_text(PROJECT.format(CHILD))
        run_project(Path(place))  # creates the store
        rounds = [run_project(Path(place)) for _ in range(ROUNDS)]
    total = statistics.median(sum(each.values()) for each in rounds)
    what = "`mlflow run`, environment ready, to the first training step of `pix2pix`"
    rows = [Row(what, f"{total:.1f} s")]
    for cause in rounds[0]:
        seconds = statistics.median(each[cause] for each in rounds)
        rows.append(Row(f"- of which {cause}", f"{seconds:.1f} s"))
    return rows


def measure() -> list[Row]:
    """Measure all of it."""
    return measure_help() + measure_first_step()


if __name__ == "__main__":
    if CHILD in sys.argv:
        run_child()
    else:
        print_table(measure())
