"""Every variant beside every other, trained and tested on the same splits."""

import logging
import statistics
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from colorization import charts, color, evaluation, experiment, figures, process, tracking
from colorization.config import Config
from colorization.data.prepare import Split, Splits
from colorization.registry import lookup
from colorization.registry.candidate import Candidate

COLUMNS = evaluation.SCORES_TOGETHER

logger = logging.getLogger(__name__)


class Contender(NamedTuple):
    """A trained variant: its name in tables and figures, its config, finished run and model."""

    label: str
    config: Config
    candidate: Candidate

    @property
    def run_id(self) -> str:
        """Of the finished run."""
        return self.candidate.run.info.run_id


def compare(configs: list[Config], splits: Splits, data: str, **flags: str) -> list[Contender]:
    """Train what has not been trained yet and log a comparison of all, in a run of its own.

    `flags` are further ones of the command line, logged as params.

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

    The options are those of `train_and_log`. A training that breaks down is logged and left out.
    """
    contenders = []
    for config in configs:
        try:
            candidate = experiment.find_or_train(config, splits, data, **options)
        except (FloatingPointError, ValueError) as error:
            process.refuse(error)
        else:
            contenders.append(Contender(config.label, config, candidate))
    return contenders


def best_of_families(contenders: list[Contender]) -> Iterator[Contender]:
    """Return the best contender of each family by its criterion, on the validation pictures."""
    for family in dict.fromkeys(each.config.family for each in contenders):
        criterion = evaluation.CRITERIA[family]
        own = [each for each in contenders if each.config.family == family]
        yield criterion.best(own, lambda each: each.candidate.validation_score())


def table(contenders: list[Contender]) -> pd.DataFrame:
    """Return the comparison: a row for each contender, the baselines at the end.

    Columns: model, psnr (dB), ssim, delta_e, colorfulness, color_error, parameters, seconds,
    images_per_second and run_id. The baselines have no training: their last four are missing.
    """
    rows = []
    for each in contenders:
        run, tested = each.candidate.run, each.candidate.tested
        speeds = list(charts.history(each.run_id, charts.SPEED).values())
        rows.append(
            {"model": each.label}
            | {name: tested[f"test_{name}"] for name in COLUMNS}
            | {
                "parameters": int(charts.fact(run, "parameters")),
                "seconds": charts.fact(run, "training_seconds"),
                "images_per_second": statistics.harmonic_mean(speeds),
                "run_id": each.run_id,
            }
        )
    for suffix, title in evaluation.BASELINES.items():  # the same for all
        scores = {name: tested[f"test_{name}_{suffix}"] for name in COLUMNS}
        rows.append({"model": title} | scores)
    return pd.DataFrame(rows)


def log(contenders: list[Contender], splits: Splits) -> str:
    """Log a comparison to the active run; return its table as Markdown, without the run ids."""
    compared, run_id = table(contenders), tracking.active_run().info.run_id
    tracking.log_table(run_id, compared, "comparison.json")
    tracking.log_table(run_id, _per_species(contenders), "test_species.json")
    curves = {each.label: _curves(each) for each in contenders}
    mlflow.log_figure(figures.convergence(curves), "losses.png")
    mlflow.log_figure(_test_sheet(contenders, splits.test), "test_pictures.png")
    text = _as_markdown(compared)
    links = "\n".join(f"- {each.label}: run `{each.run_id}`" for each in contenders)
    note = (
        f"Compared on `{splits.name}` (digest `{splits.digest}`): trained on "
        f"{len(splits.train.images)} pictures, for {contenders[0].config.epochs} epochs each, "
        f"tested on {len(splits.test.images)} others.\n\n{text}\n\n{links}\n"
    )
    mlflow.set_tag("mlflow.note.content", note)
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
    return figures.table(head, rows)


def _curves(contender: Contender) -> dict[str, list[float]]:
    """Return CIEDE2000 and the L1 losses (on [-1, 1]) of each epoch, by the panel's title."""
    names = {"validation CIEDE2000": "val/delta_e"}
    if getattr(contender.config, "loss", "l1") == "l1":  # a naive one has no other loss beside its
        names |= {"training L1": "loss/l1", "validation L1": "loss/l1_val"}
    return {
        title: list(charts.history(contender.run_id, name).values())
        for title, name in names.items()
    }


def _per_species(contenders: list[Contender]) -> pd.DataFrame:
    """Return CIEDE2000 of every contender on the test pictures of every species."""
    columns: dict[str, pd.Series] = {}
    for each in contenders:
        folder = each.candidate.run.info.artifact_uri
        logged = mlflow.artifacts.load_dict(f"{folder}/test_species.json")
        own = pd.DataFrame(**logged).set_index("species")
        columns |= {"pictures": own["pictures"], each.label: own["delta_e"]}
    return pd.DataFrame(columns).reset_index()


def _test_sheet(contenders: list[Contender], split: Split) -> Figure:
    """Draw a row per test picture and a column per model."""
    chosen = figures.spread(np.arange(len(split.images)))
    real, colored = split.images[chosen], {}
    for each in contenders:
        colorize = lookup.load_colorizer(each.candidate.model_uri)
        predicted = colorize(color.gray_input(real, colorize.channels))
        colored["\n".join(each.label.rsplit("_", 1))] = color.to_uint8(predicted)
    captions = [figures.caption(split.species[index]) for index in chosen]
    title = f"{len(chosen)} of {len(split.images)} test pictures, the same for every model"
    return figures.sheet(real, colored, captions, title)
