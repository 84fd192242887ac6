"""Scoring models on a holdout; the trained one is a real run, evaluated by a real process."""

import logging
import os
import shutil
import sys
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colorization import evaluation
from colorization.data import manifest, sources, splits
from colorization.data.manifest import Row
from colorization.registry.lookup import Candidate
from serve.evaluation import __main__ as command
from serve.evaluation import holdout, scoring
from tests import warm
from tests.conftest import ROOT, bird

SCORES = ("psnr", "ssim", "delta_e", "colorfulness", "chroma_distance", "color_error")


@pytest.fixture(scope="session")
def birds(tmp_path_factory):
    """A folder of three painted birds; gives it and the SHA-256 of each file."""
    folder = tmp_path_factory.mktemp("three") / "birds"
    folder.mkdir()
    for name in ("Robin", "Wren", "Bluetit"):
        bird(name, 7).resize((128, 128)).save(folder / f"{name}.png")
    rows = holdout.collect(sources.fetch(str(folder)), {}).rows
    return folder, {row.path.removesuffix(".png"): row.sha256 for row in rows}


@pytest.fixture(scope="session")
def evaluated(trained, paintings, cache, tmp_path_factory):
    """The trained run, evaluated on its own data, two gray pictures and a broken file."""
    client, run = trained
    folder = tmp_path_factory.mktemp("evaluated") / "garden"
    shutil.copytree(paintings, folder)
    bird("Robin", 2).convert("L").save(folder / "old.png")
    bird("Wren", 2).convert("L").convert("RGB").save(folder / "scan.jpg")
    (folder / "broken.jpg").write_bytes((folder / "scan.jpg").read_bytes()[:600])
    process = warm.run(
        [sys.executable, "-m", "serve.evaluation", "--model", run.info.run_id, "--data", folder],
        env=os.environ
        | {
            "COLORIZATION_CACHE": str(cache),
            "MLFLOW_TRACKING_URI": client.tracking_uri,
            "PYTHONPATH": str(ROOT),
        },
        cwd=folder.parent,
    )
    assert process.returncode == 0, process.stderr
    (run,) = client.search_runs(["0"], "tags.evaluated = 'naive_basic'")
    return run, process.stderr


@pytest.fixture
def table(evaluated, trained, tmp_path):
    def read(name):
        path = trained[0].download_artifacts(evaluated[0].info.run_id, name, str(tmp_path))
        return pd.read_json(path, orient="split") if name.endswith(".json") else pd.read_csv(path)

    return read


@pytest.mark.slow
def test_on_its_own_data_a_model_scores_what_its_training_has_logged(
    evaluated, trained, table, tmp_path
):
    client, run = trained
    scored = table("models.json").set_index("model")
    file = client.download_artifacts(run.info.run_id, "test_scores.json", str(tmp_path))
    test = pd.read_json(file, orient="split").set_index("model")
    for score in SCORES:
        for here, there in {"naive_basic": "naive_basic", **evaluation.BASELINES}.items():
            assert scored[score][here] == pytest.approx(test[score][there], rel=1e-6)
    logged = evaluated[0].data.metrics
    assert logged["delta_e/naive_basic"] == pytest.approx(run.data.metrics["test_delta_e"])
    assert logged["delta_e/naive_basic_tta"] != logged["delta_e/naive_basic"]
    assert "delta_e/gray" not in logged  # the table has it
    known = trained[1].data.tags.get("collapse")
    assert evaluated[0].data.tags.get("collapse/naive_basic") == known


@pytest.mark.slow
def test_pictures_of_training_and_validation_are_left_out_and_counted(evaluated, table, splits):
    run, output = evaluated
    rows = table("data/manifest.csv").fillna("")
    scored = rows[rows["split"] == "scored"]
    assert sorted(scored["path"]) == sorted(splits.test.paths)
    reasons = rows[rows["split"] == ""].set_index("path")["reason"]
    assert {reasons[path] for path in splits.train.paths} == {"in the train split of naive_basic"}
    assert {reasons[path] for path in splits.val.paths} == {"in the val split of naive_basic"}
    note = run.data.tags["mlflow.note.content"]
    for text in (note, output):
        assert f"Scored {len(scored)} of 63 pictures; 2 only shown" in text
        assert f"{len(splits.train.paths)} left out: in the train split of naive_basic" in text
        assert f"{len(splits.train.paths)} pictures that the models were trained on" in text
        assert "| naive_basic with TTA |" in text
    assert run.info.run_id in output
    scores = table("models.json").set_index("model")["delta_e"]
    gray, own = scores["gray"], scores["naive_basic"]
    better = "better" if own < gray else "worse"
    verdict = (
        f"On these photographs naive_basic is {better} than plain gray "
        f"(CIEDE2000: naive_basic {own:.2f}, gray {gray:.2f}). "
        "naive_basic was trained on photographs."
    )
    assert output.splitlines()[-1] == verdict and note.startswith(verdict)


@pytest.mark.slow
def test_gray_pictures_are_shown_and_broken_ones_listed_with_a_reason(evaluated, table, trained):
    client, _ = trained
    rows = table("data/manifest.csv").fillna("").set_index("path")
    assert rows.loc["old.png", "split"] == rows.loc["scan.jpg", "split"] == "shown"
    assert rows.loc["broken.jpg", "reason"].startswith("unreadable")
    names = {each.path for each in client.list_artifacts(evaluated[0].info.run_id)}
    assert {"pictures.png", "gray_pictures.png"} <= names
    assert not set(table("pictures.json")["path"]) & {"old.png", "scan.jpg", "broken.jpg"}


@pytest.mark.slow
def test_tables_of_pictures_species_and_models_tell_the_same(evaluated, table):
    metrics = evaluated[0].data.metrics
    pictures, models, species = (
        table(f"{name}.json") for name in ("pictures", "models", "species")
    )
    names = ["naive_basic", "naive_basic_tta", "gray", "mean_chroma", "shuffled"]
    assert list(models["model"]) == names
    assert len(pictures) == 5 * metrics["pictures_scored"]
    means = models.set_index("model")["delta_e"]
    for name in names:
        mine = pictures[pictures["model"] == name]
        assert mine["delta_e"].mean() == pytest.approx(means[name], rel=1e-6)
        kinds = species[species["model"] == name]
        average = np.average(kinds["delta_e"], weights=kinds["pictures"])
        assert average == pytest.approx(means[name], rel=1e-6)


def test_tta_is_the_mean_of_a_picture_and_its_mirror_image():
    def red_to_the_left(grays):
        red = np.zeros((*grays.shape[:3], 3), "float32")
        red[:, :, :8, 0] = 60
        return grays + red

    red_to_the_left.channels = 1
    real = np.full((2, 16, 16, 3), 100, "uint8")
    colored = dict(scoring.color_all({"a": red_to_the_left}, real))
    assert list(colored) == ["a", "a_tta"]
    assert (colored["a"][:, :, :8, 0] == 160).all() and (colored["a"][:, :, 8:, 0] == 100).all()
    assert (colored["a_tta"][..., 0] == 130).all() and (colored["a_tta"][..., 1:] == 100).all()


def log_training(rows, tmp_path, trained=True, variant="pix2pix", **params):
    """Log what a training logs of its pictures; `rows` is SHA-256 to split."""
    path = tmp_path / "manifest.csv"
    manifest.write(path, [Row(f"{sha}.jpg", sha, "", split, "") for sha, split in rows.items()])
    with mlflow.start_run() as run:
        mlflow.log_params(params)
        mlflow.set_tag("variant", variant)
        mlflow.log_artifact(path, "data")
        data = mlflow.data.from_numpy(np.zeros(1), digest="0")
        mlflow.log_input(data, context="training" if trained else "testing")
    return Candidate(mlflow.get_run(run.info.run_id), "models:/none")


def scored_of(birds, **models):
    folder, _ = birds
    rows = holdout.collect(sources.fetch(str(folder)), models).rows
    return {row.path.removesuffix(".png") for row in rows if row.split == "scored"}


def test_a_picture_that_one_of_the_models_was_trained_on_is_not_scored(
    birds, active_store, tmp_path
):
    _, sha256 = birds
    one = log_training({sha256["Robin"]: "train", sha256["Wren"]: "test"}, tmp_path)
    two = log_training({sha256["Bluetit"]: "val"}, tmp_path)
    assert scored_of(birds) == {"Robin", "Wren", "Bluetit"}
    assert scored_of(birds, one=one) == {"Wren", "Bluetit"}
    assert scored_of(birds, one=one, two=two) == {"Wren"}


def test_near_duplicates_that_training_left_out_are_left_out_too(birds, active_store, tmp_path):
    folder, sha256 = birds
    path = tmp_path / "manifest.csv"
    candidate = log_training({}, tmp_path)
    manifest.write(path, [Row("a.jpg", sha256["Wren"], "", "", splits.STRADDLES)])
    with mlflow.start_run(candidate.run.info.run_id):
        mlflow.log_artifact(path, "data")
    rows = holdout.collect(sources.fetch(str(folder)), {"one": candidate}).rows
    assert [row.path for row in rows if row.reason == splits.STRADDLES] == ["Wren.png"]


def test_training_goes_back_to_the_run_that_the_weights_came_from(birds, active_store, tmp_path):
    _, sha256 = birds
    first = log_training({sha256["Robin"]: "train"}, tmp_path)
    # What was tested on there must not be scored here if it was trained on before.
    rows = {sha256["Robin"]: "test", sha256["Wren"]: "val"}
    quoted = f"'{first.run.info.run_id}'"  # as `mlflow run` logs it
    second = log_training(rows, tmp_path, start_from=quoted)
    imported = log_training(
        dict.fromkeys(sha256.values(), "train"),
        tmp_path,
        trained=False,
        source=second.run.info.run_id,
    )
    assert scored_of(birds, second=second) == {"Bluetit"}
    assert scored_of(birds, imported=imported) == {"Bluetit"}


def test_where_the_weights_come_from_elsewhere_the_report_says_so(birds, active_store, tmp_path):
    folder, sha256 = birds
    foreign = log_training({sha256["Robin"]: "train"}, tmp_path, trained=False, source="a.keras")
    pictures = holdout.collect(sources.fetch(str(folder)), {"foreign": foreign})
    assert len(pictures.of("scored")) == 3
    assert "What foreign was trained on is not known" in pictures.summary()
    known = log_training({sha256["Robin"]: "train"}, tmp_path)
    assert "not known" not in holdout.collect(sources.fetch(str(folder)), {"it": known}).summary()


def test_mean_chroma_is_the_training_set_s_only_where_all_of_it_is_there(
    birds, active_store, tmp_path
):
    folder, sha256 = birds
    source = sources.fetch(str(folder))
    whole = holdout.collect(source, {"a": log_training({sha256["Robin"]: "train"}, tmp_path)})
    index = [row.path for row in whole.rows].index("Robin.png")
    np.testing.assert_allclose(whole.chroma, evaluation.mean_chroma(whole.images[[index]]))
    rows = {sha256["Robin"]: "train", "elsewhere": "train"}
    part = holdout.collect(source, {"a": log_training(rows, tmp_path)})
    others = [i for i, row in enumerate(part.rows) if row.path != "Robin.png"]
    np.testing.assert_allclose(part.chroma, evaluation.mean_chroma(part.images[others]), rtol=1e-5)
    assert "scored pictures themselves" in part.chroma_source


@pytest.mark.parametrize("gray", [False, True])
def test_a_single_picture_is_enough(gray, tmp_path):
    picture = bird("Goldfinch", 3).resize((128, 128))
    (tmp_path / "one").mkdir()
    (picture.convert("L") if gray else picture).save(tmp_path / "one" / "bird.png")
    pictures = holdout.collect(sources.fetch(str(tmp_path / "one")), {})
    assert pictures.of("shown" if gray else "scored") == [0]
    luma = np.asarray(picture.convert("L"), int)
    shown = np.asarray(Image.fromarray(pictures.images[0]).convert("L"), int)
    assert np.abs(shown - luma).max() <= 1
    _, means = scoring.score({}, pictures)
    assert list(means["model"] if len(means) else []) == (
        [] if gray else ["gray", "mean_chroma", "shuffled"]
    )


def test_if_nothing_is_left_the_error_says_why(birds, active_store, tmp_path):
    folder, sha256 = birds
    everything = log_training(dict.fromkeys(sha256.values(), "train"), tmp_path)
    with pytest.raises(ValueError, match="give others.*3 left out: in the train split of all"):
        holdout.collect(sources.fetch(str(folder)), {"all": everything})


def test_labels_tell_models_of_one_variant_apart(active_store, tmp_path):
    heads = {"a": "chroma", "b": "chroma", "c": "rgb"}
    known = {name: log_training({}, tmp_path, head=head) for name, head in heads.items()}
    known = {name: replace(each, model_uri=f"models:/{name}") for name, each in known.items()}
    a, b, c = known.values()
    assert list(scoring.label([a, c, a])) == ["pix2pix", "pix2pix_rgb"]
    apart = [f"pix2pix_{each.run.info.run_id[:8]}" for each in (a, b)]
    assert scoring.label([a, b, c]) == dict(zip([*apart, "pix2pix_rgb"], (a, b, c), strict=True))


def test_labels_name_a_head_that_is_not_the_variant_s_own(active_store, tmp_path):
    own, other = (
        log_training({}, tmp_path, variant="naive_efficientnet", head=head)
        for head in ("histogram", "chroma")
    )
    other = replace(other, model_uri="models:/other")
    assert list(scoring.label([own, other])) == ["naive_efficientnet", "naive_efficientnet_chroma"]


def test_a_model_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--model", "naive,"])
    assert "Received: model='naive,'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("models:/none@champion", "sample", "Received: model='models:/none@champion'"),
        ("0123456789abcdef", "sample", "Received: model='0123456789abcdef'"),
    ],
)
def test_a_bad_model_is_a_sentence(model, data, message, active_store, caplog):
    with caplog.at_level(logging.ERROR, "serve"):
        assert command.main(["--model", model, "--data", data]) == 2
    (line,) = caplog.messages
    assert message in line
    assert not mlflow.search_runs(search_all_experiments=True, output_format="list")
