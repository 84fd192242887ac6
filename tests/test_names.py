"""Files and folders of any name: nothing in a name ends a run."""

import json
import os
import shutil
import sys
import warnings

import mlflow
import numpy as np
import pytest

from colorization import figures
from tests import warm
from tests.conftest import ROOT, unpack_birds

NAMES = [
    b"A$AP_$bird$",
    "ロビン".encode(),
    b"Gr\xfcnfink",
    rb"Gr\xfcnfink",  # shown alike, with files of the same names
    b"#100% 'x' \"y\" {z} `a|b`",
    b"new\nline\x1b[31m",
    b"\xff" * 250,
]


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Two folders of paintings, whose own names and whose species have strange names."""
    place = tmp_path_factory.mktemp("album")
    for first in (1, 2):
        folder = place / os.fsdecode(b"my $birds$ \xfc\n%d" % first)
        unpack_birds(folder, first)
        species = sorted(folder.iterdir())
        for other in species[len(NAMES) :]:
            shutil.rmtree(other)
        for each, name in zip(species, NAMES, strict=False):
            each.rename(folder / os.fsdecode(name))
    return sorted(place.iterdir())


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    return f"sqlite:///{shutil.copy(empty_store, folder)}"


@pytest.fixture(scope="module")
def run(colorization, album, store, tmp_path_factory):
    """The run of a training on the first folder."""
    flags = {"data": album[0], "epochs": 1, "size": 32, "filters": 8, "register": "no"}
    given = [text for name, value in flags.items() for text in (f"--{name}", value)]
    process = colorization("naive_basic", *given, store=store, cwd=tmp_path_factory.mktemp("cwd"))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    (run,) = mlflow.MlflowClient(store).search_runs(["0"])
    return run


def test_a_training_on_strange_names_is_logged_with_them(run, album):
    assert run.info.status == "FINISHED"
    tags, (dataset, *_) = run.data.tags, run.inputs.dataset_inputs
    assert tags["data"] == r"my $birds$ \xfc\n1"
    assert dataset.dataset.name.startswith(r"my $birds$ \xfc\n1-")
    assert run.data.params["data"].endswith("my $birds$ \\xfc\n1")
    folder = run.info.artifact_uri
    table = json.loads(mlflow.artifacts.load_text(f"{folder}/test_species.json"))
    manifest = mlflow.artifacts.load_text(f"{folder}/data/manifest.csv")
    assert all(rf"{name}/(1).jpg" in manifest for name in ("ロビン", "A$AP_$bird$", r"Gr\xfcnfink"))
    assert table["data"]


def test_models_are_evaluated_on_strange_names(run, album, store, cache, tmp_path):
    command = [sys.executable, "-m", "serve.evaluation", "--model", run.info.run_id]
    environment = {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)}
    done = warm.run([*command, "--data", album[1]], env=os.environ | environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Scored 21 of 21 pictures" in done.stderr


def test_names_beside_pictures_are_no_mathematics_and_in_readable_signs(tmp_path):
    words = [
        "A$AP $b",
        "ロビン",
        "知更鸟",
        "꼬까울새",
        "נקר",
        "نقار",
        "นก",
        "रॉबिन",
        "Зарянка",
        "🐦",
    ]
    pictures = np.zeros((len(words), 8, 8, 3), "uint8")
    captions = [figures.caption(word) for word in words]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of signs that no font has
        figures.sheet(pictures, {"$a_$": pictures}, captions, "$b_$").savefig(tmp_path / "a.png")


def test_a_long_name_beside_a_picture_is_cut_and_one_of_lines_is_one_line():
    assert figures.caption("Long_Tailed_Tit") == "Long Tailed Tit"
    assert figures.caption("a\nb\udcfc") == r"a\nb\xfc"
    lines = figures.caption("x" * 250).split("\n")
    assert len(lines) == figures.CAPTION_LINES and lines[-1] == "..."
    assert max(map(len, lines)) <= figures.CAPTION_WIDTH
