"""Every variant beside every other, trained and tested on the same splits."""

import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.entities import Run

from colorization import charts, color, evaluation, experiment, figures, process, report, tracking
from colorization.config import Config
from colorization.data.prepare import Split, Splits
from colorization.registry import lookup

COLUMNS = evaluation.SCORES_TOGETHER

logger = logging.getLogger(__name__)


class Contender(NamedTuple):
    """A trained variant: its name in tables and figures, its config, finished run and model."""

    label: str
    config: Config
    run: Run
    model_uri: str


def compare(configs: list[Config], splits: Splits, data: str, **flags: str) -> list[Contender]:
    """Train what has not been trained yet and log a comparison of all, in a run of its own.

    Args:
        configs: of the trainings; each has a run below the comparison's.
        splits: trained on, validated with and tested on.
        data: what they were fetched from, see `sources.fetch`.
        **flags: further flags of the command line, logged as params.

    Returns:
        The trained contenders; a training that breaks down is logged and left out.

    Raises:
        FloatingPointError: every training broke down.
    """
    with tracking.open_run("compare"):
        tracking.log_flags(data, **flags)
        tracking.log_data(splits)
        contenders = train(configs, splits, data, flags={"register": flags["register"]})
        if not contenders:
            raise FloatingPointError("Every training broke down: there is nothing to compare.")
        log(contenders, splits)
    return contenders


def train(configs: Iterable[Config], splits: Splits, data: str, **options: Any) -> list[Contender]:
    """Train what has not been trained yet, in runs below the active one.

    The options are those of `experiment.train_and_log`. A training that breaks down is logged and
    left out.
    """
    parent, contenders = tracking.active_run(), []
    for config in configs:
        try:
            candidate = experiment.find_or_train(config, splits, data, parent, **options)
        except (FloatingPointError, ValueError) as error:
            process.refuse(error)
        else:
            contenders.append(Contender(config.label, config, *candidate))
    return contenders


def best_of_families(contenders: list[Contender]) -> Iterator[Contender]:
    """Return the best contender of each family by its criterion, on the validation pictures."""
    for family in dict.fromkeys(each.config.family for each in contenders):
        criterion = evaluation.CRITERIA[family]
        scores = {
            each: lookup.Candidate(each.run, each.model_uri).validation_score()
            for each in contenders
            if each.config.family == family
        }
        yield criterion.best(scores, scores.__getitem__)


def table(contenders: list[Contender]) -> pd.DataFrame:
    """Return the comparison: a row for each contender, the baselines at the end.

    Columns: model, psnr (dB), ssim, delta_e, colorfulness, color_error, parameters, seconds,
    images_per_second and run_id. The baselines have no training: their last four are missing.
    """
    rows = []
    for each in contenders:
        run_id, metrics = each.run.info.run_id, charts.tested(each.run)
        speeds = list(charts.history(run_id, charts.SPEED).values())
        rows.append({"model": each.label, **_tested(metrics)})
        rows[-1] |= {
            "parameters": int(charts.fact(each.run, "parameters")),
            "seconds": charts.fact(each.run, "training_seconds"),
            "images_per_second": statistics.harmonic_mean(speeds),
            "run_id": run_id,
        }
    # The baselines are the same for all.
    for name, title in evaluation.BASELINES.items():
        rows.append({"model": title, **_tested(metrics, f"_{name}")})
    return pd.DataFrame(rows)


def _tested(metrics: Mapping[str, float], suffix: str = "") -> dict:
    return {name: metrics[f"test_{name}{suffix}"] for name in COLUMNS}


def log(contenders: list[Contender], splits: Splits) -> str:
    """Log a comparison to the active run: tables, loss curves, test pictures and the note.

    Returns:
        The table as Markdown, without the run ids.
    """
    compared, run_id = table(contenders), tracking.active_run().info.run_id
    tracking.log_table(run_id, compared, "comparison.json")
    tracking.log_table(run_id, _per_species(contenders), "test_species.json")
    curves = {each.label: _curves(each) for each in contenders}
    mlflow.log_figure(figures.convergence(curves), "losses.png")
    mlflow.log_figure(_test_sheet(contenders, splits.test), "test_pictures.png")
    text = _as_markdown(compared)
    mlflow.set_tag("mlflow.note.content", _note(contenders, text, splits))
    for line in text.split("\n"):
        logger.info("%s", line)
    return text


def _as_markdown(compared: pd.DataFrame) -> str:
    head = ["", *evaluation.headings(COLUMNS), "parameters", "seconds", "images/s"]
    rows = []
    for row in compared.to_dict("records"):
        cells = [row["model"], *evaluation.cells(row, shown=COLUMNS)]
        if pd.notna(row["parameters"]):
            cells += [f"{row['parameters']:,.0f}", f"{row['seconds']:.0f}"]
            cells += [f"{row['images_per_second']:.0f}"]
        rows.append(cells)
    return report.table(head, rows)


def _curves(contender: Contender) -> dict[str, list[float]]:
    """Return CIEDE2000 and the L1 losses (on [-1, 1]) of each epoch, by the panel's title."""
    names = {"validation CIEDE2000": "val/delta_e"}
    if getattr(contender.config, "loss", "l1") == "l1":  # a naive one has no other loss beside its
        names |= {"training L1": "loss/l1", "validation L1": "loss/l1_val"}
    run_id = contender.run.info.run_id
    return {title: list(charts.history(run_id, name).values()) for title, name in names.items()}


def _per_species(contenders: list[Contender]) -> pd.DataFrame:
    """Return CIEDE2000 of every contender on the test pictures of every species."""
    columns: dict[str, pd.Series] = {}
    for each in contenders:
        logged = mlflow.artifacts.load_dict(f"{each.run.info.artifact_uri}/test_species.json")
        own = pd.DataFrame(logged["data"], columns=logged["columns"]).set_index("species")
        columns |= {"pictures": own["pictures"], each.label: own["delta_e"]}
    return pd.DataFrame(columns).reset_index()


def _test_sheet(contenders: list[Contender], split: Split) -> Figure:
    """Draw a row per test picture and a column per model."""
    chosen = report.spread(np.arange(len(split.images)))
    real, colored = split.images[chosen], {}
    for each in contenders:
        colorize = lookup.load_colorizer(each.model_uri)
        predicted = colorize(color.gray_input(real, colorize.channels))
        colored["\n".join(each.label.rsplit("_", 1))] = color.to_uint8(predicted)
    captions = [report.caption(split.species[index]) for index in chosen]
    title = f"{len(chosen)} of {len(split.images)} test pictures, the same for every model"
    return report.sheet(real, colored, captions, title)


def _note(contenders: list[Contender], text: str, splits: Splits) -> str:
    links = "\n".join(f"- {each.label}: run `{each.run.info.run_id}`" for each in contenders)
    return (
        f"Compared on `{splits.name}` (digest `{splits.digest}`): trained on "
        f"{len(splits.train.images)} pictures, for {contenders[0].config.epochs} epochs each, "
        f"tested on {len(splits.test.images)} others.\n\n{text}\n\n{links}\n"
    )
