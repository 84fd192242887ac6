"""Every variant beside every other, on the same splits: what is trained, and what is told of it."""

import argparse
import statistics
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from colorization import color, evaluation, figures, tracking
from colorization.config import PRECISIONS, VARIANTS, from_arguments

L1_LOSS = {"naive": "loss", "pix2pix": "l1_loss"}  # the same figure under the family's own name
SHEET_ROWS = 8


class Contender(NamedTuple):
    """A trained variant: its config, and its finished MLflow run."""

    config: object
    run: mlflow.entities.Run

    @property
    def label(self):
        """What tables and figures call it."""
        return self.config.label

    @property
    def model_uri(self):
        """Of the logged model."""
        return f"models:/{self.run.outputs.model_outputs[0].model_id}"


def find_finished(config, digest):
    """Return the latest finished run of the same config on the same pictures, or None."""
    query = (
        f"tags.variant = '{config.variant}' and tags.dataset_digest = '{digest}' "
        "and attributes.status = 'FINISHED'"
    )
    tested = {f"test_{name}" for name in evaluation.SCORES_TOGETHER}  # earlier releases: not all
    experiment = mlflow.active_run().info.experiment_id
    for run in mlflow.search_runs([experiment], query, output_format="list"):
        if _config_of(run) == config and tested <= set(run.data.metrics) and _has_model(run):
            return run
    return None


def _has_model(run):
    """Tell whether a run has logged a model that was not deleted since."""
    if not run.outputs or not run.outputs.model_outputs:
        return False
    try:
        mlflow.get_logged_model(run.outputs.model_outputs[0].model_id)
    except MlflowException:
        return False
    return True


def _config_of(run):
    """Return the config that a run was trained with, or None where it has none of today's."""
    if run.data.params.get("start_from", "").strip("'"):
        return None
    try:  # the texts of `mlflow run -P` stand as they were typed: 2e-4
        # Runs from before there was a choice of precision do not name theirs.
        arguments = argparse.Namespace(**{"precision": PRECISIONS[0]} | run.data.params)
        return from_arguments(VARIANTS[run.data.tags["variant"]], arguments)
    except (AttributeError, ValueError):
        return None


def best_of_families(contenders):
    """Return the best contender of each family by its criterion."""
    families = dict.fromkeys(each.config.family for each in contenders)
    return [_best([each for each in contenders if each.config.family == f]) for f in families]


def _best(contenders):
    criterion = evaluation.CRITERIA[contenders[0].config.family]
    ranked = sorted(contenders, key=lambda each: each.run.data.metrics[f"test_{criterion.metric}"])
    return ranked[-1 if criterion.higher_is_better else 0]


def table(contenders):
    """Return the comparison as a DataFrame: a row each, and plain gray and mean chroma at the end.

    Columns: model, psnr (dB), ssim, delta_e, colorfulness, color_error, parameters, seconds,
    images_per_second and run_id; those of the baselines' training are missing.
    """
    rows = []
    for each in contenders:
        metrics = each.run.data.metrics
        rows.append({"model": each.label, **_tested(metrics)})
        rows[-1] |= {
            "parameters": int(metrics["parameters"]),
            "seconds": metrics["training_seconds"],
            "images_per_second": statistics.harmonic_mean(_history(each.run, "images_per_second")),
            "run_id": each.run.info.run_id,
        }
    metrics = contenders[0].run.data.metrics  # the baselines are the same for all
    for name, title in evaluation.BASELINES.items():
        rows.append({"model": title, **_tested(metrics, f"_{name}")})
    return pd.DataFrame(rows)


def _tested(metrics, suffix=""):
    return {name: metrics[f"test_{name}{suffix}"] for name in evaluation.SCORES_TOGETHER}


def log(contenders, splits):
    """Log tables, loss curves, test pictures and the story of a comparison to the active run."""
    compared = table(contenders)
    run_id = mlflow.active_run().info.run_id
    tracking.log_table(run_id, compared, "comparison.json")
    tracking.log_table(run_id, _per_species(contenders), "test_species.json")
    curves = {each.label: _curves(each) for each in contenders}
    mlflow.log_figure(figures.convergence(curves), "losses.png")
    mlflow.log_figure(_test_sheet(contenders, splits.test), "test_pictures.png")
    mlflow.set_tag("mlflow.note.content", _story(contenders, compared, splits))
    return compared


def as_text(compared):
    """Return the table of `table` as Markdown, without the run ids."""
    head = [
        "",
        *evaluation.headings(evaluation.SCORES_TOGETHER),
        "parameters",
        "seconds",
        "images/s",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in compared.to_dict("records"):
        cells = [row["model"], *evaluation.cells(row, shown=evaluation.SCORES_TOGETHER)]
        if pd.notna(row["parameters"]):
            cells += [f"{row['parameters']:,.0f}", f"{row['seconds']:.0f}"]
            cells += [f"{row['images_per_second']:.0f}"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _history(run, metric):
    entries = mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)
    return [entry.value for entry in sorted(entries, key=lambda entry: entry.step)]


def _curves(contender):
    """Return CIEDE2000 and the L1 losses (on [-1, 1]) of each epoch, by the panel's title."""
    names = {"validation CIEDE2000": "val_delta_e"}
    family, head = contender.config.family, contender.config.head
    if (family, head) != ("naive", "histogram"):  # which learns from cross-entropy alone
        names |= {"training L1": L1_LOSS[family], "validation L1": f"val_{L1_LOSS[family]}"}
    return {title: _history(contender.run, name) for title, name in names.items()}


def _per_species(contenders):
    """Return CIEDE2000 of every contender on the test pictures of every species."""
    species = None
    for each in contenders:
        table = mlflow.artifacts.load_dict(f"{each.run.info.artifact_uri}/test_species.json")
        own = pd.DataFrame(table["data"], columns=table["columns"])
        own = own.rename(columns={"delta_e": each.label})
        if species is None:
            species = own[["species", "pictures"]]
        species = species.merge(own[["species", each.label]], on="species")
    return species


def _test_sheet(contenders, split):
    """Draw a row per test picture and a column per model."""
    chosen = np.linspace(0, len(split.images) - 1, min(SHEET_ROWS, len(split.images))).astype(int)
    real = split.images[chosen]
    columns = {"gray": color.to_uint8(color.gray_input(real, 3))}
    for each in contenders:
        colorize = tracking.load_colorizer(each.model_uri)
        predicted = colorize(color.gray_input(real, colorize.channels))
        columns[each.label.replace(" ", "\n")] = color.to_uint8(predicted)
    columns["real"] = real
    captions = [split.species[index].replace("_", " ") for index in chosen]
    title = f"{len(chosen)} of {len(split.images)} test pictures, the same for every model"
    return figures.sheet(columns, captions, title)


def _story(contenders, compared, splits):
    links = "\n".join(f"- {each.label}: run `{each.run.info.run_id}`" for each in contenders)
    return (
        f"Compared on `{splits.name}` (digest `{splits.digest}`): trained on "
        f"{len(splits.train.images)} pictures, for {contenders[0].config.epochs} epochs each, "
        f"tested on {len(splits.test.images)} others.\n\n{as_text(compared)}\n\n{links}\n"
    )
