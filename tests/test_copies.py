"""Evaluation leaves out copies of what a model was trained on, whatever their size or quality."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import ImageEnhance, ImageOps

from colorization import tracking
from colorization.data import manifest, photograph, prepare, sources
from colorization.data.manifest import Row
from colorization.registry import shipped
from colorization.registry.lookup import Candidate
from scripts import pretrained_manifest
from serve.evaluation import holdout
from tests.conftest import bird


@pytest.fixture
def store(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(None)


def test_resized_re_encoded_and_mirrored_copies_are_left_out(paintings, store, tmp_path):
    """Of pictures that a model learned from or was chosen by; copies of test pictures stay."""
    with mlflow.start_run() as run:
        mlflow.set_tag("variant", "naive_basic")
        tracking.log_data(used := prepare.prepare(sources.fetch(str(paintings))))
    one = Candidate(mlflow.get_run(run.info.run_id), "models:/none")
    copies = tmp_path / "copies"
    copies.mkdir()
    for split in ("train", "val", "test"):
        picture = photograph.decode((paintings / getattr(used, split).paths[0]).read_bytes())
        picture.resize((97, 97)).save(copies / f"{split} small.png")
        ImageOps.mirror(picture).save(copies / f"{split} mirrored.jpg", quality=60)
        ImageEnhance.Brightness(picture).enhance(0.9).save(copies / f"{split} darker.jpg")
    found = holdout.collect(sources.fetch(str(copies)), {"one": one})
    left = {row.path: row.reason for row in found.rows if not row.split}
    assert {row.path.split()[0] for row in found.rows if row.split == "scored"} == {"test"}
    assert len(left) == 6
    for path, reason in left.items():
        assert reason == f"near-duplicate of one in the {path.split()[0]} split of one"
    assert "3 left out: near-duplicate of one in the train split of one" in found.summary()


def test_what_a_run_logs_of_its_pictures_has_hashes_of_what_it_used(paintings, store, tmp_path):
    used = prepare.prepare(sources.fetch(str(paintings)))
    with mlflow.start_run() as run:
        tracking.log_data(used, used=["test"])  # as for imported weights
    file = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/data/manifest.csv")
    assert Path(file).read_text() == used.manifest.read_text()
    with mlflow.start_run() as run:
        tracking.log_data(used, used=["train", "val"])
    file = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/data/manifest.csv")
    assert {row.split for row in manifest.read(Path(file)) if row.hash} == {"train", "val"}


def test_the_script_lists_the_pictures_of_a_folder_with_the_originals_sha_256(
    tmp_path, monkeypatch
):
    rows = [Row(f"withBackground/Wren/({n}).jpg", f"{n}" * 64, "Wren", "val", "") for n in (1, 2)]
    manifest.write(tmp_path / "kaggle.csv", rows)
    for split, n in (("train", 1), ("test", 2)):
        (tmp_path / split / "Wren").mkdir(parents=True)
        bird("Wren", n).save(tmp_path / split / "Wren" / f"({n}).jpg")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "kaggle.csv"), str(tmp_path)])
    pretrained_manifest.main()
    (row,) = manifest.read(tmp_path / "manifest.csv")
    assert (row.path, row.sha256, row.split) == (rows[0].path, "1" * 64, "train")
    content = (tmp_path / "train" / "Wren" / "(1).jpg").read_bytes()
    pair = photograph.read(tmp_path / "train" / "Wren" / "(1).jpg", np.empty((128, 128, 3), "u1"))
    assert row.hash == photograph.perceptual_hash(photograph.decode(content))
    assert bytes.fromhex(row.hash) == pair.hashes[0].tobytes()
