"""Judge models on pictures that they have never seen: `python -m serve.evaluation --help`.

Each model is scored beside plain gray and mean chroma, with test-time augmentation (TTA: the mean
over a picture and its mirror image) and without; `mlflow run . -e evaluate` calls it.
"""

import logging
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from tqdm import tqdm

from colorization import color, evaluation, process, report
from colorization.config import VARIANTS
from colorization.data import manifest, sources
from colorization.registry import lookup
from serve.evaluation import holdout

BATCH = 16  # pictures, as in a training's test: the same sums to the last bit
SHOWN_ROWS = 24
TTA = "_tta"

logger = logging.getLogger(__name__)


def label(candidates):
    """Return label -> `Candidate`, each model once.

    A label is the variant, with its head where that is not the variant's own, and with the run
    where two models would have the same.
    """
    found = list({candidate.model_uri: candidate for candidate in candidates}.values())
    labels = [_variant(candidate.run) for candidate in found]
    return {
        f"{label}_{candidate.run.info.run_id[:8]}" if labels.count(label) > 1 else label: candidate
        for label, candidate in zip(labels, found, strict=True)
    }


def _variant(run):
    variant = run.data.tags["variant"]
    own = VARIANTS[variant].head if variant in VARIANTS else "chroma"  # one that was imported
    head = run.data.params.get("head", own).strip("'")
    return variant if head == own else f"{variant}_{head}"


def color_all(colorizers, real):
    """Return what each model makes of pictures: label -> uint8 RGB, and label + `_tta`.

    Args:
        colorizers: label to the function of `lookup.load_colorizer`.
        real: RGB levels, uint8 (N, S, S, 3).
    """
    colored = {}
    for label, colorize in colorizers.items():
        gray = color.gray_input(real, colorize.channels)
        straight, mirrored = colorize(gray), colorize(gray[:, :, ::-1])[:, :, ::-1]
        colored[label] = color.to_uint8(straight)
        colored[label + TTA] = color.to_uint8((straight + mirrored) / 2)
    return colored


def judge(colorizers, pictures):
    """Score every model and both baselines on every judged picture.

    Returns:
        A DataFrame with a row for each picture and model: path, species, model, and the columns
        of `evaluation.scores`; empty where there is nothing to judge.
    """
    judged, tables = pictures.of(holdout.JUDGED), []
    total = len(judged) * (2 * len(colorizers) + len(evaluation.BASELINES))
    with tqdm(total=total, desc="Judging", unit="", mininterval=0.5, disable=not total) as bar:
        for start in range(0, len(judged), BATCH):
            chosen = judged[start : start + BATCH]
            real = pictures.images[chosen]
            colored = color_all(colorizers, real)
            colored |= evaluation.baselines(color.luma(real), pictures.chroma)
            for name, predicted in colored.items():
                table = evaluation.scores(real, predicted)
                table.insert(0, "path", [pictures.rows[index].path for index in chosen])
                table.insert(1, "species", [pictures.rows[index].species for index in chosen])
                table.insert(2, "model", name)
                tables.append(table)
                bar.update(len(chosen))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def summarize(table, by=("model",)):
    """Average the table of `judge` over the pictures of each group, in the order of appearance."""
    rows = []
    for names, group in table.groupby(list(by), sort=False):
        rows.append(dict(zip(by, names, strict=True)) | {"pictures": len(group)})
        rows[-1] |= evaluation.summary(group)
    return pd.DataFrame(rows)


def log(models, source, pictures):
    """Score models on pictures and log all of it to the active run; return the note, Markdown.

    Args:
        models: label to `Candidate`.
        source: of `sources.fetch`.
        pictures: of `unseen.collect`.
    """
    colorizers = {
        label: lookup.load_colorizer(candidate.model_uri) for label, candidate in models.items()
    }
    _log_origin(models, source, pictures)
    table = judge(colorizers, pictures)
    note = pictures.story()
    if len(table):
        means = summarize(table)
        for row in means.to_dict("records"):
            mlflow.log_metrics({f"{name}/{row['model']}": row[name] for name in evaluation.SCORES})
        mlflow.log_table(means, "models.json")
        by_species = table.sort_values("species", kind="stable")
        mlflow.log_table(summarize(by_species, ("species", "model")), "species.json")
        mlflow.log_table(table, "pictures.json")
        mlflow.log_figure(_judged_sheet(colorizers, pictures, table), "pictures.png")
        note += f"\n\n{_as_text(means)}\n\nMean chroma is that of {pictures.chroma_source}."
    if pictures.of(holdout.SHOWN):
        mlflow.log_figure(_shown_sheet(colorizers, pictures), "gray_pictures.png")
    runs = "\n".join(
        f"- {label}: run `{candidate.run.info.run_id}`, `{candidate.model_uri}`"
        for label, candidate in models.items()
    )
    mlflow.set_tag("mlflow.note.content", f"On `{source.name}`. {note}\n\n{runs}\n")
    return note


def _log_origin(models, source, pictures):
    """Log which models and which pictures these are."""
    for label, candidate in models.items():
        mlflow.log_params({f"{label}_run_id": candidate.run.info.run_id})
        mlflow.log_params({f"{label}_model": candidate.model_uri})
    for split in (holdout.JUDGED, holdout.SHOWN):
        mlflow.log_metric(f"pictures_{split}", len(pictures.of(split)))
    mlflow.log_metric("pictures_left_out", sum(bool(row.reason) for row in pictures.rows))
    mlflow.set_tags({"data": source.name, "data_kind": source.kind, "judged": ",".join(models)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.csv")
        manifest.write(path, pictures.rows)
        mlflow.log_artifact(path, "data")
        digest = manifest.digest(path)
    origin = CodeDatasetSource({"uri": source.uri, "manifest": "data/manifest.csv"})
    mlflow.log_input(MetaDataset(origin, name=source.name, digest=digest), context="evaluation")


def _as_text(means):
    """Return the table of `summarize` as Markdown."""
    rows = [[_title(row["model"]), *evaluation.cells(row)] for row in means.to_dict("records")]
    return report.table(["", *evaluation.headings()], rows)


def _title(name):
    return evaluation.BASELINES.get(name) or name.replace(TTA, " with TTA")


def _judged_sheet(colorizers, pictures, table):
    """Draw judged pictures from the best to the worst: gray, what each model makes, and real."""
    scores = table.pivot(index="path", columns="model", values="delta_e")
    order = scores[list(colorizers)].mean(axis=1).sort_values().index
    paths = report.spread(order)
    index_of = {row.path: index for index, row in enumerate(pictures.rows)}
    chosen = [index_of[path] for path in paths]
    captions = [
        "\n".join(
            [
                pictures.rows[index_of[path]].species.replace("_", " ") or path,
                *(f"\u0394E {scores.loc[path, name]:.1f} {name}" for name in ("gray", *colorizers)),
            ]
        )
        for path in paths
    ]
    title = f"{len(chosen)} of {len(order)} judged pictures, from the best to the worst"
    real = pictures.images[chosen]
    return report.sheet(real, _columns(colorizers, real), captions, title)


def _shown_sheet(colorizers, pictures):
    """Draw gray pictures, and what each model makes of them."""
    shown = pictures.of(holdout.SHOWN)
    chosen = shown[:SHOWN_ROWS]
    title = f"{len(chosen)} of {len(shown)} gray pictures, to which there is no truth"
    captions = [pictures.rows[index].path.replace("/", "/\n") for index in chosen]
    images = pictures.images[chosen]
    return report.sheet(images, _columns(colorizers, images), captions, title, truth=False)


def _columns(colorizers, real):
    return {_title(name): batch for name, batch in color_all(colorizers, real).items()}


def parse(argv=None):
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.evaluation", description=__doc__)
    parser.add_argument(
        "--model",
        default="naive,pix2pix",
        help="one or more, with commas: models:/..., the id of a finished training run, or naive "
        "or pix2pix: the family's champion",
    )
    parser.add_argument(
        "--data",
        default="sample",
        help="sample (painted birds), kaggle, or a folder or .zip of photographs",
    )
    return parser.parse_args(argv)


@process.entry_point(parse)
def main(arguments):
    """Evaluate the models that the command line names, and log one MLflow run."""
    names = arguments.model.split(",")
    models = label(lookup.resolve(name.strip()) for name in names)
    source = sources.fetch(arguments.data)
    pictures = holdout.collect(source, models)

    from colorization import tracking  # brings Keras, for which no bad argument should wait

    with tracking.open_run("evaluate") as opened:
        tracking.log_flags(arguments.data, model=arguments.model)
        note = log(models, source, pictures)
    for line in (*note.split("\n"), "", f"run {opened.info.run_id}"):
        logger.info("%s", line)
