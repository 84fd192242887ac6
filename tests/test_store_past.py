"""A store with a past: what a champion needs was deleted, or it was registered by hand."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import jinja2
import mlflow
import numpy as np
import pytest
from mlflow.cli import cli

from colorization import color, resumption
from colorization.data import prepare, sources
from colorization.errors import GateError, InputError
from colorization.registry import lookup, promotion
from colorization.weights import logged
from serve.evaluation import holdout, scoring
from serve.page import champions
from sweeps import parent_run, storage, study
from sweeps.space import Spec
from tests.networks import log_network, memory

NAME = "bird-colorizer-naive"
SHARES = {"champion": 0.6, "worse": 0.3, "better": 1.0}  # of the test pictures' chroma is known

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store")]


@pytest.fixture(scope="module")
def photographs(paintings, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        return prepare.prepare(sources.fetch(str(paintings)), 32)


@pytest.fixture(scope="module")
def filled(photographs, empty_store, cache, tmp_path_factory):
    """A store with a champion, in an experiment of its own, and a worse and a better candidate."""
    folder = tmp_path_factory.mktemp("filled")
    file = shutil.copy(empty_store, folder)
    images, candidates = photographs.test.images, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        mlflow.set_tracking_uri(f"sqlite:///{file}")
        for name, share in SHARES.items():
            place = str(folder / "mlruns" / name)
            mlflow.create_experiment(name, place)
            patch.setenv("MLFLOW_EXPERIMENT_NAME", name)
            known = memory(images, share * color.chroma(images))
            candidates[name] = log_network(known, photographs)
            run_id = candidates[name].run.info.run_id
            mlflow.MlflowClient().log_metric(run_id, "val/delta_e", 10 - share, step=1)
        promotion.register(candidates["champion"])
        mlflow.set_tracking_uri(None)
    shutil.copytree(folder, folder.parent / "kept")
    return folder, candidates


@pytest.fixture
def store(filled, monkeypatch):
    """That store as it was; gives its candidates."""
    folder, candidates = filled
    kept = folder.parent / "kept"
    shutil.rmtree(folder / "mlruns")
    shutil.copytree(kept / "mlruns", folder / "mlruns")
    with contextlib.closing(sqlite3.connect(kept / "mlflow.db")) as source:
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as file:
            source.backup(file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield candidates
    mlflow.set_tracking_uri(None)


def delete_run(champion):
    mlflow.delete_run(champion.run.info.run_id)


def delete_experiment(champion):
    mlflow.delete_experiment(champion.run.info.experiment_id)


def delete_model(champion):
    mlflow.MlflowClient().delete_logged_model(champion.model_uri.removeprefix("models:/"))


def delete_artifacts(champion):
    shutil.rmtree(champion.run.info.artifact_uri)


def collect(delete):
    def deleted(champion):
        delete(champion)
        uri = mlflow.get_tracking_uri()
        arguments = ["gc", "--backend-store-uri", uri, "--tracking-uri", uri]
        cli.main(arguments, standalone_mode=False)

    deleted.__name__ = f"gc after {delete.__name__}"
    return deleted


def model_files(champion):
    model = mlflow.get_logged_model(champion.model_uri.removeprefix("models:/"))
    return Path(model.artifact_location)


def delete_model_files(champion):
    shutil.rmtree(model_files(champion))


def delete_network(champion):
    os.remove(model_files(champion) / "artifacts" / "generator.onnx")


class Echo(mlflow.pyfunc.PythonModel):
    """A model of somebody else, as good as gray."""

    def predict(self, context, model_input, params=None):
        return model_input


class Numbers(mlflow.pyfunc.PythonModel):
    """One that colors nothing."""

    def predict(self, context, model_input, params=None):
        return np.zeros(len(model_input))


def promote_by_hand(uri):
    version = mlflow.register_model(uri, NAME)
    mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", version.version)
    return version


def save(model):
    return mlflow.pyfunc.log_model(name="m", python_model=model, pip_requirements=[]).model_uri


def served():
    version, _ = lookup.find_champion("naive")
    return version


@pytest.mark.parametrize(
    "damage",
    [
        delete_run,
        delete_experiment,
        delete_model,
        delete_artifacts,
        collect(delete_run),
        collect(delete_experiment),
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_champion_that_still_colors_is_judged_whatever_else_of_it_was_deleted(store, damage):
    damage(store["champion"])
    version, alias = promotion.register(store["worse"])
    assert alias == "challenger"
    score = store["champion"].run.data.metrics["test_delta_e"]
    assert f"against {score:.4f}" in version.tags["gate"]
    version, alias = promotion.register(store["better"])
    assert (alias, version.tags["gate"]) == ("champion", "passed")
    assert served().run_id == store["better"].run.info.run_id


def test_a_champion_without_its_run_is_named_as_such(store):
    collect(delete_run)(store["champion"])
    version, _ = promotion.register(store["worse"])
    run_id = store["champion"].run.info.run_id
    assert f"models:/{NAME}/1 (Its run {run_id} was deleted)" in version.tags["gate"]


@pytest.mark.parametrize(
    "damage",
    [delete_model_files, delete_network, collect(delete_model)],
    ids=lambda damage: damage.__name__,
)
def test_a_champion_that_cannot_be_loaded_is_replaced_and_said_so(store, damage, caplog):
    damage(store["champion"])
    version, alias = promotion.register(store["worse"])
    assert (alias, served().version) == ("champion", version.version)
    assert version.tags["gate"] == "passed"
    for text in (version.description, caplog.text):
        assert "which does not work any more: The model cannot be loaded" in text
    assert promotion.register(store["better"])[1] == "champion"


def test_a_champion_of_somebody_else_is_judged_by_what_it_colors(store):
    promote_by_hand(save(Echo()))
    version, alias = promotion.register(store["worse"])
    assert (alias, served().version) == ("champion", version.version)


@pytest.mark.parametrize("with_run", [True, False])
def test_a_good_champion_that_was_registered_by_hand_stays(store, with_run):
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id if with_run else None  # of another project
    by_hand = client.create_model_version(NAME, str(model_files(store["better"])), run_id)
    client.set_registered_model_alias(NAME, "champion", by_hand.version)
    version, alias = promotion.register(store["worse"])
    assert alias == "challenger" and "registered by hand" in version.tags["gate"]
    assert served().version == by_hand.version


def test_a_champion_that_colors_nothing_is_replaced(store):
    promote_by_hand(save(Numbers()))
    version, alias = promotion.register(store["worse"])
    assert alias == "champion" and "cannot color a picture" in version.description


def test_an_alias_set_by_hand_on_a_model_of_the_other_family_is_judged_by_this_one(store):
    client = mlflow.MlflowClient()
    client.set_tag(store["champion"].run.info.run_id, "family", "pix2pix")
    version, alias = promotion.register(store["worse"])
    score = store["champion"].run.data.metrics["test_delta_e"]
    assert alias == "challenger" and f"against {score:.4f}" in version.tags["gate"]


def test_without_a_champion_a_version_of_the_past_that_is_broken_does_not_come_back(store):
    delete_model_files(store["champion"])
    mlflow.MlflowClient().delete_registered_model_alias(NAME, "champion")
    version, alias = promotion.register(store["worse"])
    assert (alias, served().version) == ("champion", version.version)


@pytest.mark.parametrize("damage", [delete_model_files, delete_artifacts])
def test_the_best_run_is_one_whose_model_and_test_are_there(store, damage):
    damage(store["better"])
    assert lookup.find_best("naive").run.info.run_id == store["champion"].run.info.run_id
    damage(store["champion"]), damage(store["worse"])
    with pytest.raises(GateError, match="files are gone: train again|nothing to choose from"):
        lookup.find_best("naive")


def test_a_run_whose_test_is_gone_may_still_be_forced(store):
    delete_artifacts(store["better"])
    candidate = lookup.find(store["better"].run.info.run_id)
    with pytest.raises(GateError, match="or its files are gone: train it again"):
        promotion.register(candidate)
    version, alias = promotion.register(candidate, force=True)
    assert alias == "champion" and "CIEDE2000" in version.description


def test_a_comparison_trains_again_what_has_lost_its_model(store, photographs):
    run = store["better"].run
    of_run = lookup.config_of(run), photographs.digest
    assert lookup.find_finished(*of_run).run.info.run_id == run.info.run_id
    delete_model_files(store["better"])
    found = lookup.find_finished(*of_run)
    assert found is None or found.run.info.run_id != run.info.run_id


@pytest.fixture
def album(paintings, tmp_path):
    """A folder of two paintings."""
    for path in sorted(paintings.rglob("*.jpg"))[::30]:
        shutil.copy(path, tmp_path / f"{path.parent.name}.jpg")
    return sources.fetch(str(tmp_path))


def test_champions_without_a_run_are_evaluated_and_their_origin_is_not_known(store, album):
    collect(delete_run)(store["champion"])
    foreign = promote_by_hand(save(Echo()))
    models = scoring.label(
        lookup.resolve(name) for name in ("naive", f"models:/{NAME}/1", foreign.source)
    )
    assert list(models) == [f"{NAME}-{foreign.version}", "naive_basic", foreign.source[8:]]
    pictures = holdout.collect(album, models)
    assert pictures.unknown == list(models)
    with mlflow.start_run(experiment_id="0") as run:
        note = scoring.log(models, album, pictures)
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert (
        metrics[f"colorfulness/{NAME}-{foreign.version}"]
        < 0.1
        < metrics["colorfulness/naive_basic"]
    )
    assert "naive_basic was trained on photographs" in note


def test_a_run_without_its_files_leaves_its_training_pictures_unknown(store, album):
    delete_artifacts(store["champion"])
    models = scoring.label([lookup.resolve("naive")])
    assert holdout.collect(album, models).unknown == ["naive_basic"]


def page():
    """The page's section about models, and the slot of the naive family."""
    slots = champions.Champions().slots()
    folder = jinja2.FileSystemLoader(Path(champions.__file__).parent)
    template = jinja2.Environment(autoescape=True, loader=folder).get_template("page.html")
    return template.module.models(slots), slots[0]


def test_the_page_shows_a_champion_without_its_run_and_what_the_version_remembers(store):
    collect(delete_run)(store["champion"])
    html, slot = page()
    assert slot.champion.model
    assert f"Its run {store['champion'].run.info.run_id} was deleted." in html
    assert "Network naive_basic, trained on photographs" in html
    assert f"{store['champion'].run.data.metrics['test_delta_e']:.2f}, of plain gray" in html


def test_the_page_names_champions_of_hand_and_says_which_do_not_work(store):
    promote_by_hand(save(Echo()))
    html, slot = page()
    assert slot.champion and "registered by hand, without a run" in html
    promote_by_hand(save(Numbers()))
    html, slot = page()
    assert slot.champion is None
    assert "The next model that passes the gate replaces it." in html
    assert "registry" not in html


def test_weights_and_trainings_that_are_gone_are_a_sentence(store):
    collect(delete_run)(store["champion"])
    reference = logged.resolve(f"models:/{NAME}@champion")
    with pytest.raises(InputError, match="The model has no weights to begin with"):
        logged.bring(reference, Path("weights.keras").absolute())
    run_id = store["champion"].run.info.run_id
    with pytest.raises(InputError, match="There are no such weights"):
        logged.bring(logged.resolve(run_id), Path("weights.keras").absolute())
    with pytest.raises(InputError, match="No such run"):
        resumption._find(run_id, "naive_basic")


@pytest.mark.parametrize("damage", [delete_run, collect(delete_run)], ids=lambda d: d.__name__)
def test_a_study_whose_run_was_deleted_goes_on_in_a_new_one(store, photographs, damage, tmp_path):
    kept = storage.Storage(f"sqlite:///{tmp_path}/sweeps.db")
    spec = Spec("naive", "delta_e", {"variant": "naive_basic"}, 1, 0, photographs.digest)
    opened, spec = study.open_study(kept, "birds", spec)
    flags = {"data": "birds"}
    with parent_run.open_parent(opened, spec, photographs, flags) as first:
        pass
    trial = opened.ask(spec.searched)
    trial.set_user_attr("run_id", first)
    damage(lookup.Candidate(mlflow.get_run(first), ""))
    with parent_run.open_parent(opened, spec, photographs, flags) as second:
        parent_run.update(opened)
    assert second != first and opened.user_attrs["run_id"] == second
    tags = mlflow.get_run(second).data.tags
    assert (tags["sweep"], tags["study"]) == ("study", "birds")
