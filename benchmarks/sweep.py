"""What pruning saves, what a trial costs beside its training, and what a second worker brings.

`python -m benchmarks.sweep` trains small networks on painted birds and prints a Markdown table.
An hour on two cores, nearly all of it for the ten seeds.
"""

import argparse
import functools
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import keras
import optuna
import psutil
from optuna.trial import TrialState

from benchmarks.table import Row, print_table
from colorization.data import prepare, sources
from colorization.training import train
from sweeps import parent_run, search
from sweeps import study as studies
from sweeps.search import Report, run_trial
from sweeps.space import Spec, parse_fix
from sweeps.storage import Storage
from sweeps.study import Clock

EVERY = 4  # picture of the sample: 120 of 480
FIX = "filters=8,batch_size=4"  # searched: variant, depth, dropout, learning rate
EPOCHS = 9
TRIALS = 16
PATIENCE = 2  # a pruned sweep may take this many times as many trials to reach the same value
MEMORY_TRIALS = 30
WORKER_TRIALS = 8
PRUNERS = {
    "pruned by our rule": studies.pruner,
    "by Hyperband": lambda spec: optuna.pruners.HyperbandPruner(1, spec.epochs, 3),
}


class Trainer:
    """An objective without MLflow that trains the same config only once.

    Trainings are deterministic: a config's epochs are counted each time, and looked up after the
    first.
    """

    def __init__(self, spec, splits, curves):
        self.spec = spec
        self.splits = splits
        self.curves = curves
        self.epochs = 0

    def __call__(self, trial):
        """Return the trial's outcome, as arguments of `Study.tell`."""
        config = self.spec.config_of(trial.params)
        report = Report(trial, self.spec)
        curve = self.curves.setdefault(config, [])
        report.set_model(SimpleNamespace(stop_training=False))
        for epoch, logs in enumerate(curve):
            report.on_epoch_end(epoch, logs)
            if report.pruned:
                break
        else:
            if len(curve) < config.epochs:
                report = self._train(config, trial, curve)
        self.epochs += max(trial.study.trials[trial.number].intermediate_values)
        return {"state": TrialState.PRUNED} if report.pruned else {"values": report.value}

    def _train(self, config, trial, curve):
        """Train from the first epoch on; what Optuna has heard already it ignores."""
        curve.clear()
        report = Report(trial, self.spec)
        keep = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: curve.append(dict(logs))
        )
        train.train(config, self.splits, [keep, report])
        return report


def sweep(spec, splits, curves, pruner, trials, until=None):
    """Search in memory; return the best value, the epochs spent, and whether `until` was reached.

    Args:
        spec: of the study.
        splits: that are trained on.
        curves: what was trained before, see `Trainer`.
        pruner: of Optuna.
        trials: at most.
        until: value at which to stop.
    """
    study = optuna.create_study(study_name=f"seed {spec.seed}", pruner=pruner)
    for name, config in spec.presets().items():
        params = spec.params_of(config)
        study.enqueue_trial(params, user_attrs={"preset": name})
    trainer = Trainer(spec, splits, curves)
    for number in range(trials):
        study.sampler = studies.sampler(spec, number)
        trial = study.ask(spec.searched)
        study.tell(trial, **trainer(trial))
        if until is not None and study.best_value <= until:
            return study.best_value, trainer.epochs, True
    return study.best_value, trainer.epochs, False


def measure_pruning(birds, seeds):
    """Return how soon each pruner reaches what an unpruned sweep reaches in the end."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        shares = list(pool.map(compare_pruners, [birds] * seeds, range(seeds)))
    rows = []
    for name in shares[0]:
        values = [share[name] for share in shares]
        text = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        wanted = "at most 0.50" if name == next(iter(PRUNERS)) else ""
        rows.append(Row(f"share of the compute until as good, {name}", text, wanted))
    return rows


def compare_pruners(birds, seed):
    """Return pruner to share of an unpruned sweep's epochs after which it is as good, or inf."""
    quiet()
    splits = prepare.prepare(sources.fetch(str(birds)))
    spec = Spec("naive", "delta_e", parse_fix("naive", FIX), EPOCHS, seed, splits.digest)
    curves, shares = {}, {}
    never = optuna.pruners.NopPruner()
    best, everything, _ = sweep(spec, splits, curves, never, TRIALS)
    _, spent, _ = sweep(spec, splits, curves, never, TRIALS, best)
    shares["without pruning"] = spent / everything
    for name, pruner in PRUNERS.items():
        limit = PATIENCE * TRIALS
        _, spent, reached = sweep(spec, splits, curves, pruner(spec), limit, best)
        shares[name] = spent / everything if reached else float("inf")
    text = f"seed {seed}: best {best:.3f} after {everything} epochs; {shares}"
    print(text, file=sys.stderr, flush=True)
    return shares


def measure_trials(splits, folder):
    """Return what a real trial costs beside `training.train`, and what it leaves in memory."""
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    spec = Spec("naive", "delta_e", parse_fix("naive", FIX), 1, 0, splits.digest)
    storage = Storage(f"sqlite:///{folder}/trials.db")
    study, spec = studies.open_study(storage, "trials", spec)
    objective = functools.partial(run_trial, spec=spec, splits=splits, data="birds")
    turn, plain = functools.partial(storage.lock, "turn"), train.train
    trained, overheads, memory = [], [], []

    def timed(*arguments, **options):
        begun = time.perf_counter()
        try:
            return plain(*arguments, **options)
        finally:
            trained.append(time.perf_counter() - begun)

    train.train = timed
    with parent_run.open_parent(study, spec, splits, {"study": "trials", "data": "birds"}):
        for trials in range(1, MEMORY_TRIALS + 1):
            begun = time.perf_counter()
            search.search(study, spec, turn, objective, Clock(trials))
            overheads.append(time.perf_counter() - begun - trained[-1])
            memory.append(psutil.Process().memory_info().rss / 2**20)
    train.train = plain
    grown = statistics.median(memory[-5:]) - statistics.median(memory[5:10])
    return [
        Row("overhead of a trial", f"{statistics.median(overheads):.2f} s", "at most 1 s"),
        Row(
            f"memory after {MEMORY_TRIALS} trials",
            f"{memory[-1]:.0f} MiB; {grown:+.0f} since the tenth",
            "does not grow",
        ),
    ]


def measure_workers(birds, folder):
    """Return how much faster two workers finish the same trials than one on one core."""
    names = {"one": ({min(os.sched_getaffinity(0))},), "two": (None, None)}
    seconds = {}
    for name, workers in names.items():
        database = f"sqlite:///{folder}/{name}.db"
        splits = prepare.prepare(sources.fetch(str(birds)))
        spec = Spec("naive", "delta_e", parse_fix("naive", "filters=16"), 3, 0, splits.digest)
        study, spec = studies.open_study(Storage(database), name, spec)
        (first, *_) = spec.presets().values()
        for trial in range(WORKER_TRIALS):  # equally long, and never pruned
            params = spec.params_of(first) | {"learning_rate": 1e-3 + trial * 1e-5}
            study.enqueue_trial(params, user_attrs={"preset": first.variant})
        command = [sys.executable, "-m", "sweeps", "--study", name, "--storage", database]
        command += ["--data", str(birds), "--fix", "filters=16", "--epochs", "3"]
        command += ["--trials", str(len(study.trials)), "--final_epochs", "0"]
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{name}-runs.db"}
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
        processes = [
            subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=(lambda cores=cores: os.sched_setaffinity(0, cores)) if cores else None,
            )
            for cores in workers
        ]
        assert [process.wait() for process in processes] == [0] * len(processes)
        trials = study.trials
        begun, ended = (t.datetime_start for t in trials), (t.datetime_complete for t in trials)
        seconds[name] = (max(ended) - min(begun)).total_seconds()
    return [
        Row(
            "two workers on two cores against one on one",
            f"{seconds['one'] / seconds['two']:.2f} times as fast",
            "at least 1.5",
        )
    ]


def quiet():
    """Let only this benchmark speak."""
    warnings.filterwarnings("ignore", ".*(experimental|Heartbeat of storage)")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)


def main():
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        birds = Path(folder, "birds")
        with zipfile.ZipFile(sources.SAMPLE) as sample:
            sample.extractall(birds, sample.namelist()[::EVERY])
        splits = prepare.prepare(sources.fetch(str(birds)))
        rows = measure_workers(birds, folder)
        rows += measure_trials(splits, folder)
        rows += measure_pruning(birds, arguments.seeds)
    print_table(rows)


if __name__ == "__main__":
    main()
