"""Scores of several models on the same pictures, and their log."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from tqdm import tqdm

from colorization import charts, color, evaluation, figures, tracking
from colorization.config import VARIANTS
from colorization.data import manifest
from colorization.data.sources import Source
from colorization.evaluation import mean_scores_by
from colorization.registry import lookup
from colorization.registry.candidate import KINDS, Candidate, params_of, trained_on
from colorization.registry.lookup import Colorize
from serve.evaluation.holdout import SCORED, SHOWN, Pictures

BATCH = 16  # pictures, as in a training's test: the sums are the same to the last bit
SHOWN_ROWS = 24
TTA = "_tta"
Colorizers = Mapping[str, Colorize]
Colored = Iterator[tuple[str, np.ndarray]]
COLUMNS = {**evaluation.SCORES_TOGETHER, "chroma_distance": ("chroma distance", ".2f")}


def label(candidates: Iterable[Candidate]) -> dict[str, Candidate]:
    """Return the models by label, each once.

    A label is the variant, with its head if that is not the variant's own, and with the run if two
    models would have the same label.
    """
    found = list({each.run.info.run_id or each.model_uri: each for each in candidates}.values())
    labels = [_variant(candidate) for candidate in found]
    return {
        f"{label}_{candidate.run.info.run_id[:8]}" if labels.count(label) > 1 else label: candidate
        for label, candidate in zip(labels, found, strict=True)
    }


def _variant(candidate: Candidate) -> str:
    run = candidate.run
    if "variant" not in run.data.tags:  # such a model was registered by hand
        return candidate.model_uri.removeprefix("models:/").replace("/", "-").replace("@", "-")
    variant = run.data.tags["variant"]
    own = VARIANTS[variant].head if variant in VARIANTS else "chroma"  # an imported network
    head = params_of(run).get("head", own)
    return variant if head == own else f"{variant}_{head}"


def color_all(colorizers: Colorizers, real: np.ndarray) -> Colored:
    """Color pictures by each model: one model's at a time are in memory.

    Args:
        colorizers: by label.
        real: RGB levels, uint8 (N, S, S, 3).

    Yields:
        A label and its pictures, of the same shape and type; the same with TTA as label + `_tta`.
    """
    for label, colorize in colorizers.items():
        straight, averaged = np.empty_like(real), np.empty_like(real)
        for start in range(0, len(real), BATCH):
            batch = slice(start, start + BATCH)
            gray = color.gray_input(real[batch], colorize.channels)
            colored, mirrored = colorize(gray), colorize(gray[:, :, ::-1])[:, :, ::-1]
            straight[batch] = color.to_uint8(colored)
            averaged[batch] = color.to_uint8((colored + mirrored) / 2)
        yield label, straight
        yield label + TTA, averaged


def score(colorizers: Colorizers, pictures: Pictures) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every model and the baselines on every color picture; both are empty without any.

    Returns:
        A row for each model and picture: path, species, model, and the columns of
        `evaluation.scores`. And a row for each model: model, pictures, `evaluation.score_set` and
        `evaluation.collapse`.
    """
    scored = pictures.of(SCORED)
    real, rows = pictures.images[scored], [pictures.rows[index] for index in scored]
    if not scored:
        return pd.DataFrame(), pd.DataFrame()

    def colored() -> Colored:
        yield from color_all(colorizers, real)
        yield from evaluation.baselines(real, pictures.chroma).items()

    tables, means = [], []
    total = 2 * len(colorizers) + len(evaluation.BASELINES)
    for name, predicted in tqdm(colored(), "Scoring", total, unit="", mininterval=0.5):
        table = evaluation.score_each(real, predicted)
        measured = evaluation.score_set(real, predicted, table)
        collapse = evaluation.collapse(measured, real)
        means.append({"model": name, "pictures": len(real), **measured, "collapse": collapse})
        table.insert(0, "path", [row.path for row in rows])
        table.insert(1, "species", [row.species for row in rows])
        table.insert(2, "model", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(means)


def log(models: Mapping[str, Candidate], source: Source, pictures: Pictures) -> str:
    """Score models and log all of it to the active run; return what came out, Markdown."""
    colorizers = {name: lookup.load_colorizer(each.model_uri) for name, each in models.items()}
    dataset = _log_inputs(models, source, pictures)
    table, means = score(colorizers, pictures)
    note, outcome = pictures.summary(), ""
    if len(table):
        rows = means.set_index("model")
        for label, candidate in models.items():
            model_id = lookup.logged_model_of(candidate)
            for model in (label, label + TTA):
                scores = {f"{name}/{model}": rows[name][model] for name in charts.TESTED}
                mlflow.log_metrics(scores, dataset=dataset, model_id=model_id)
        collapsed = means[means["model"].isin(colorizers) & (means["collapse"] != "")]
        for row in collapsed.to_dict("records"):
            mlflow.set_tag(f"collapse/{row['model']}", row["collapse"])
            note += f" {row['model']} has collapsed: all is {row['collapse']}."
        mlflow.log_table(means, "models.json")
        by_species = table.sort_values("species", kind="stable")
        mlflow.log_table(mean_scores_by(by_species, ("species", "model")), "species.json")
        mlflow.log_table(table, "pictures.json")
        mlflow.log_figure(_scored_sheet(colorizers, pictures, table), "pictures.png")
        note += f"\n\n{_as_markdown(means)}\n\nMean chroma is that of {pictures.chroma_source}."
        origins = {label: trained_on(each.run) for label, each in models.items()}
        outcome = verdict(means, origins, source.kind)
    if pictures.of(SHOWN):
        mlflow.log_figure(_shown_sheet(colorizers, pictures), "gray_pictures.png")
    runs = "\n".join(
        f"- {label}: run `{each.run.info.run_id}`, `{each.model_uri}` {each.missing}".rstrip()
        for label, each in models.items()
    )
    text = f"{outcome}\n\nOn `{source.name}`. {note}\n\n{runs}\n"
    mlflow.set_tag("mlflow.note.content", text.lstrip())
    return f"{note}\n\n{outcome}".rstrip()


def _log_inputs(models: Mapping[str, Candidate], source: Source, pictures: Pictures) -> MetaDataset:
    """Log which models are evaluated on which pictures; return these."""
    for label, each in models.items():
        mlflow.log_param(f"{label}_run_id", each.run.info.run_id or "none")
        mlflow.log_param(f"{label}_model", each.model_uri)
    for split in (SCORED, SHOWN):
        mlflow.log_metric(f"pictures_{split}", len(pictures.of(split)))
    mlflow.log_metric("pictures_left_out", sum(bool(row.reason) for row in pictures.rows))
    mlflow.set_tags({"data": source.name, "data_kind": source.kind, "evaluated": ",".join(models)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.csv")
        manifest.write(path, pictures.rows)
        mlflow.log_artifact(str(path), "data")
        digest = manifest.digest(path)
    origin = CodeDatasetSource({"uri": source.uri, "manifest": "data/manifest.csv"})
    dataset = MetaDataset(origin, source.name, digest)  # type: ignore[abstract]  # as MLflow does
    tracking.insert(mlflow.log_input, dataset, context="evaluation")
    return dataset


def _as_markdown(means: pd.DataFrame) -> str:
    models = means.to_dict("records")
    rows = [[_title(each["model"]), *evaluation.cells(each, shown=COLUMNS)] for each in models]
    return figures.table(["", *evaluation.headings(COLUMNS)], rows)


def _title(name: str) -> str:
    return evaluation.BASELINES.get(name) or name.replace(TTA, " with TTA")


def _scored_sheet(colorizers: Colorizers, pictures: Pictures, table: pd.DataFrame) -> Figure:
    """Draw scored pictures from the best to the worst: gray, by each model, and real."""
    # Every model's rows are in the order of the pictures; a path may occur twice.
    scores = {str(name): group.to_numpy() for name, group in table.groupby("model")["delta_e"]}
    scored = pictures.of(SCORED)
    order = np.mean([scores[name] for name in colorizers], axis=0).argsort(kind="stable")
    captions = []
    for place in (places := figures.spread(order)):
        row = pictures.rows[scored[place]]
        errors = [f"\u0394E {scores[name][place]:.1f} {name}" for name in ("gray", *colorizers)]
        captions.append("\n".join([figures.caption(row.species or row.path), *errors]))
    title = f"{len(places)} of {len(order)} scored pictures, from the best to the worst"
    real = pictures.images[[scored[place] for place in places]]
    return figures.sheet(real, _columns(colorizers, real), captions, title)


def _shown_sheet(colorizers: Colorizers, pictures: Pictures) -> Figure:
    """Draw gray pictures, as they are and by each model."""
    shown = pictures.of(SHOWN)
    chosen = shown[:SHOWN_ROWS]
    title = f"{len(chosen)} of {len(shown)} gray pictures, whose real colors are unknown"
    captions = [figures.caption(pictures.rows[index].path) for index in chosen]
    images = pictures.images[chosen]
    return figures.sheet(images, _columns(colorizers, images), captions, title, truth=False)


def _columns(colorizers: Colorizers, real: np.ndarray) -> dict[str, np.ndarray]:
    return {_title(name): batch for name, batch in color_all(colorizers, real)}


def verdict(means: pd.DataFrame, trained: Mapping[str, str], kind: str) -> str:
    """Say whether models are better than plain gray, by CIEDE2000, and what they were trained on.

    Args:
        means: of `score`.
        trained: label of each model in question -> `candidate.trained_on`.
        kind: of the scored pictures, see `sources.Source`.
    """
    scores = {row.model: f"{row.delta_e:.2f}" for row in means.itertuples()}
    outcomes, origins = defaultdict(list), defaultdict(list)
    for label, pictures in trained.items():
        own, gray = float(scores[label]), float(scores["gray"])
        better = "better than" if own < gray else "worse than"
        outcomes[f"{'as good as' if own == gray else better} plain gray"].append(label)
        if pictures:  # `Pictures.summary` names the others
            origins[f"trained on {pictures}"].append(label)
    total = len(trained)
    clauses = _clauses(outcomes, ("is", "are"), total, "both" if total == 2 else "all")
    listed = ", ".join(f"{label} {scores[label]}" for label in [*trained, "gray"])
    text = f"On these {KINDS[kind]} {clauses} (CIEDE2000: {listed})."
    return f"{text} {_clauses(origins, ('was', 'were'), total, 'They')}." if origins else text


def _clauses(
    groups: Mapping[str, list[str]], verbs: tuple[str, str], total: int, everyone: str
) -> str:
    """Return a clause for each group of labels; `everyone` stands for a group of all."""
    clauses = []
    for complement, labels in groups.items():
        *first, last = labels
        subject = f"{', '.join(first)} and {last}" if first else last
        subject = everyone if len(labels) == total > 1 else subject
        clauses.append(f"{subject} {verbs[len(labels) > 1]} {complement}")
    return ", ".join(clauses)
