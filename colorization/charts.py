"""The metrics of a training as MLflow shows them: their names, whose prefixes group the charts.

Runs of earlier releases had other names and no table of scores; only this file knows both.
"""

import math
from collections.abc import Mapping

import mlflow
import pandas as pd
from mlflow.entities import Run

from colorization import evaluation
from colorization.config import CROSS_ENTROPY, Config

SPEED = "rate/images_per_second"
SCORES_FILE = "test_scores.json"
# Of the model's test scores these are metrics: those that decide, and two that explain them.
TESTED = ("psnr", "delta_e", "colorfulness", "color_error")
TESTED_ONCE = (*TESTED, evaluation.UNCERTAINTY)  # by a training; no baseline has the last

EARLIER = {
    SPEED: ("images_per_second",),
    "loss/l1": ("loss", "l1_loss"),
    "loss/l1_val": ("val_loss", "val_l1_loss"),
    **{f"val/{name}": (f"val_{name}",) for name in evaluation.SCORES_TOGETHER},
}


def of_epoch(config: Config, logs: Mapping[str, float], adversarial: bool) -> dict[str, float]:
    """Return what Keras has logged of an epoch, by the names that it has in MLflow.

    A loss is named by what it is, so that it means the same in all phases and families. Two are
    left out: the generator's in an adversarial phase, which is the sum of two others, one weighted;
    and the adversarial one on validation pictures, which the discriminator's mirrors. Where no
    discriminator took part, its metrics are left out, too.
    """
    losses = {"loss": getattr(config, "loss", ""), "l1_loss": "l1"}
    rates = {"learning_rate": "generator", "generator_learning_rate": "generator"}
    if adversarial:
        losses |= {"adversarial_loss": "adversarial", "discriminator_loss": "discriminator"}
        rates["discriminator_learning_rate"] = "discriminator"
    elif config.head == "histogram":
        losses["generator_loss"] = CROSS_ENTROPY
    names = {
        "images_per_second": SPEED,
        **{old: f"loss/{new}" for old, new in losses.items()},
        **{f"val_{old}": f"loss/{new}_val" for old, new in losses.items() if new != "adversarial"},
        **{f"val_{name}": f"val/{name}" for name in evaluation.SCORES_TOGETHER},
        **{old: f"rate/{new}" for old, new in rates.items()},
    }
    return {names[name]: float(value) for name, value in logs.items() if name in names}


def best_of(criterion: evaluation.Criterion) -> str:
    """Return the metric that runs are sorted by: the criterion in the epoch that was kept."""
    return f"val/best_{criterion.metric}"


def history(run_id: str, name: str) -> dict[int, float]:
    """Return the values that a run has logged of a metric, by step, in order."""
    client = mlflow.MlflowClient()
    names = (*EARLIER.get(name, ()), name)
    entries = [entry for each in names for entry in client.get_metric_history(run_id, each)]
    return {each.step: each.value for each in sorted(entries, key=lambda each: each.step)}


def fact(run: Run, name: str) -> float:
    """Return what a training has logged once: `parameters`, `training_seconds`, `best_epoch`."""
    return float(run.data.tags.get(name, run.data.metrics.get(name, "nan")))


def as_table(means: Mapping[str, float], model: str) -> pd.DataFrame:
    """Return the metrics of an `Evaluation` as a table: the model, then the baselines."""
    names = [name.removesuffix("_gray") for name in means if name.endswith("_gray")]
    rows = {"": model} | {f"_{name}": title for name, title in evaluation.BASELINES.items()}
    return pd.DataFrame(
        {"model": title} | {name.removeprefix("test_"): means[name + suffix] for name in names}
        for suffix, title in rows.items()
    )


def tested(run: Run) -> dict[str, float]:
    """Return the test of a run as `evaluation.evaluate` does, as far as its release has logged it.

    That is `test_psnr` and so on, and `test_psnr_gray` and so on of the baselines. Where the run's
    files were deleted, it is what there is of metrics.
    """
    if not run.info.artifact_uri:  # the run is gone
        return run.data.metrics
    files = mlflow.MlflowClient().list_artifacts(run.info.run_id)
    if SCORES_FILE not in [each.path for each in files]:
        return run.data.metrics
    table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{SCORES_FILE}")
    suffixes = {title: f"_{name}" for name, title in evaluation.BASELINES.items()}
    means: dict[str, float] = {}
    for row in table["data"]:
        scores = dict(zip(table["columns"], row, strict=True))
        suffix = suffixes.get(scores.pop("model"), "")
        for name, value in scores.items():  # JSON has no infinity, which PSNR of equal pictures is
            means[f"test_{name}{suffix}"] = math.inf if value is None else value
    return means
