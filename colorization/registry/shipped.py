"""The weights that come with the project, on their way into the registry, without TensorFlow."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy

from colorization import charts, evaluation, runs, tracking
from colorization.errors import InputError
from colorization.paths import ROOT
from colorization.registry import lookup, promotion
from colorization.registry.candidate import KINDS, PRETRAINED, Candidate
from colorization.weights import download

FOLDER = ROOT / "assets" / "pretrained"
INDEX, MANIFEST = "pretrained.json", "manifest.csv"
FORMATS = ("onnx", "keras")  # of the files of a family, which are `<family>/generator.<format>`
NAME = "pretrained"  # what `start_from` calls them

logger = logging.getLogger(__name__)


def provide(*models: str) -> None:
    """Register the weights of each family among `models` whose champion saw no photographs.

    That is so if it has none, or one of paintings that nobody has forced. The models are named as
    `lookup.resolve` takes them; those that are no family's champion are left alone.

    Raises:
        InputError: a file is damaged; the other family is registered all the same.
    """
    missing = [
        family
        for family in evaluation.CRITERIA
        if {family, lookup.champion_uri(family)} & set(models) and _is_open(family)
    ]
    if not missing:
        return
    logger.info(
        "No champion of %s was trained on photographs: registering the weights that come with "
        "the project",
        " and ".join(missing),
    )
    damaged = None
    with _quietly():  # that sentence is enough
        for family in missing:
            try:
                promotion.register(find(family))
            except InputError as error:
                damaged = error
    if damaged:
        raise damaged


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Show no information, neither what is logged nor what MLflow prints of its runs."""
    logging.disable(logging.INFO)
    shut = io.StringIO()
    try:
        with contextlib.redirect_stderr(shut), contextlib.redirect_stdout(shut):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _is_open(family: str) -> bool:
    champion = lookup.find_champion(family)
    return champion is None or (champion[1].painted and "forced" not in champion[0].tags)


def find(family: str) -> Candidate:
    """Return the run that holds a family's weights; it is logged now if there is none.

    Raises:
        InputError: a file is not as it was.
    """
    known = json.loads((FOLDER / INDEX).read_text(encoding="utf-8"))[family]
    files = {kind: FOLDER / family / f"generator.{kind}" for kind in FORMATS}
    for kind, file in files.items():
        expected = known["sha256"][kind]
        received = download.digest(file) if file.is_file() else "no file"
        if received != expected:
            raise InputError(
                f"The weights that come with the project are damaged. Expected SHA-256 {expected}: "
                f"`git checkout -- {file.relative_to(FOLDER.parents[1])}`. Received: {received}"
            )
    query = f"tags.{PRETRAINED} = '{known['sha256']['onnx']}' and attributes.status = 'FINISHED'"
    for run in runs.search(query):
        if lookup.has_model(run):
            return lookup.candidate_of(run)
    with runs.open_separate_run(f"{known['variant']} {NAME}") as opened:
        _log(family, known, files)
    return lookup.find(opened.info.run_id)


def _log(family: str, known: dict[str, Any], files: dict[str, Path]) -> None:
    """Log weights in the active run as a training would: its settings, pictures, test and model."""
    data, scores = known["data"], pd.DataFrame(**known["scores"])
    mlflow.log_params(known["params"])
    tags = {name: known[name] for name in ("variant", "parameters", "collapse") if known[name]}
    tags |= {"family": family, PRETRAINED: known["sha256"]["onnx"], "data": data["name"]}
    mlflow.set_tags(tags | {"data_kind": data["kind"], "dataset_digest": data["digest"]})
    mlflow.log_artifact(str(FOLDER / MANIFEST), "data")
    mlflow.log_artifact(str(files["keras"]), "keras")
    source = CodeDatasetSource({"uri": data["uri"], "manifest": f"data/{MANIFEST}"})
    size = int(known["params"]["size"])
    for context, count in data["pictures"].items():
        shape = np.broadcast_to(np.uint8(0), (count, size, size, 3))  # all that is logged of them
        name = f"{data['name']}-{context}"
        dataset = from_numpy(shape, source, name=name, digest=data["digest"])
        tracking.insert(mlflow.log_input, dataset, context=context)
    example = np.tile(np.linspace(0, 255, size).astype("uint8"), (size, 1))
    model = tracking.log_model(known["variant"], files["onnx"], example, KINDS[data["kind"]])
    metric = evaluation.CRITERIA[family].metric
    mlflow.log_metric(f"val/{metric}", known["validation"], step=int(known["best_epoch"]))
    unsure = f"test_{evaluation.UNCERTAINTY}"
    own = {f"test_{name}": float(scores[name][0]) for name in charts.TESTED}
    mlflow.log_metrics(own | {unsure: known[unsure]}, model_id=model.model_id, dataset=dataset)
    tracking.log_table(tracking.active_run().info.run_id, scores, charts.SCORES_FILE)
    serve = promotion.serve_command(model.model_uri)
    mlflow.set_tag("mlflow.note.content", f"{known['note']}\nServe it: `{serve}`\n")
