"""The way into service, against a real store; candidates are real models of known quality."""

import dataclasses
import logging
import os
import subprocess
import sys

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from colorization import color, evaluation, tracking
from colorization.errors import GateError
from colorization.registry import lookup, promotion, served
from colorization.registry.__main__ import main
from tests import warm
from tests.conftest import ROOT, copy_store, prepare_birds, unpack_birds
from tests.networks import log_network, memory

NAME = "bird-colorizer-naive"

# Each test exports networks and logs them.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("active_store")]


@pytest.fixture(scope="session")
def photographs(small_splits):
    return small_splits  # of a folder: for the registry these are photographs


@pytest.fixture(scope="session")
def painted(small_splits):
    return dataclasses.replace(small_splits, kind="painted")


@pytest.fixture(scope="session")
def other_photographs(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("others") / "garden"
    unpack_birds(folder, first=3)
    return prepare_birds(folder, cache, 32)


MADE = {}  # runs of candidates, by what they are of


@pytest.fixture(scope="module")
def empty_store(empty_store, photographs, painted, other_photographs, cache, tmp_path_factory):
    """A store whose runs are all deleted; `log_candidate` gives a test those that it asks for."""
    folder = tmp_path_factory.mktemp("made")
    store = copy_store(empty_store, folder, folder / "mlruns")
    made = [(photographs, share) for share in (0.0, 0.3, 0.6, 1.0)]
    made = [(other_photographs, 1.0), *made, (painted, 1.0)]  # the latest decide, see `find_best`
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(cache))
        mlflow.set_tracking_uri(store)
        for splits, share in made:
            run_id = log_candidate(splits, share).run.info.run_id
            MADE[what(splits, share)] = run_id
            mlflow.delete_run(run_id)
        mlflow.set_tracking_uri(None)
    yield folder / "mlflow.db"
    MADE.clear()


def what(splits, share):
    return splits.kind, splits.uri, share, evaluation.CRITERIA["naive"].metric


def log_candidate(splits, share):
    """Log a run as training does; its model knows this share of the test pictures' chroma."""
    made = MADE.get(what(splits, share))
    if made and mlflow.get_run(made).info.lifecycle_stage == "deleted":
        mlflow.MlflowClient().restore_run(made)
        return lookup.find(made)
    images = splits.test.images
    return log_network(memory(images, share * color.chroma(images)), splits)


def validated(candidate, *scores):
    """Log what training has logged of each epoch."""
    for step, score in enumerate(scores, 1):
        mlflow.MlflowClient().log_metric(candidate.run.info.run_id, "val/delta_e", score, step=step)
    return candidate


def served_run():
    found = lookup.find_champion("naive")
    return found and found[1].run.info.run_id


def test_the_first_model_better_than_gray_becomes_champion_with_its_story(photographs):
    candidate = log_candidate(photographs, 1.0)
    version, alias = promotion.register(candidate)
    assert (version.name, alias) == (NAME, "champion")
    client = mlflow.MlflowClient()
    shown = client.get_model_version_by_alias(NAME, "champion")
    assert shown.run_id == candidate.run.info.run_id
    assert shown.tags["variant"] == "naive_basic"
    assert shown.tags["dataset_digest"] == photographs.digest
    assert shown.tags["gate"] == "passed"
    assert float(shown.tags["test_delta_e"]) == pytest.approx(candidate.score(), abs=1e-3)
    assert "test_delta_e_gray" in shown.tags and len(shown.tags) <= 8
    gray = f"{candidate.score('_gray'):.2f}"
    for text in (
        f"plain gray {gray}",
        "It was trained on photographs.",
        f"models:/{NAME}/1 -p 5001",
    ):
        assert text in shown.description
    assert "`champion` is the version in service" in client.get_registered_model(NAME).description
    assert mlflow.get_logged_model(candidate.model_uri.split("/")[-1]).name == "naive_basic"
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    assert model.metadata.run_id == candidate.run.info.run_id


def test_a_model_no_better_than_gray_is_refused_by_figure_and_not_registered(photographs):
    candidate = log_candidate(photographs, 0.0)
    gray = f"{candidate.score('_gray'):.4f}"
    with pytest.raises(GateError, match=f"plain gray: test delta_e .* against {gray}"):
        promotion.register(candidate)
    assert mlflow.MlflowClient().search_registered_models() == []


def test_a_worse_model_becomes_challenger_and_a_better_one_champion(photographs):
    middle, worse, better = (log_candidate(photographs, share) for share in (0.6, 0.3, 1.0))
    assert promotion.register(middle)[1] == "champion"
    version, alias = promotion.register(worse)
    assert alias == "challenger"
    assert served_run() == middle.run.info.run_id
    gate_tag = mlflow.MlflowClient().get_model_version(NAME, version.version).tags["gate"]
    assert f"{worse.score():.4f} against {middle.score():.4f}" in gate_tag
    assert promotion.register(better)[1] == "champion"
    assert served_run() == better.run.info.run_id


def test_registering_the_champion_again_changes_nothing(photographs):
    candidate = log_candidate(photographs, 1.0)
    first, _ = promotion.register(candidate)
    again, alias = promotion.register(candidate)
    assert (again.version, alias) == (first.version, "champion")


def test_force_promotes_a_worse_model_and_says_so(photographs):
    better, worse = (log_candidate(photographs, share) for share in (1.0, 0.0))
    promotion.register(better)
    version, alias = promotion.register(worse, force=True)
    assert alias == "champion"
    assert served_run() == worse.run.info.run_id
    tags = mlflow.MlflowClient().get_model_version(NAME, version.version).tags
    assert tags["forced"] == "yes"
    assert "plain gray" in tags["gate"] and "the champion" in tags["gate"]


def test_painted_birds_never_replace_photographs_but_give_way_to_them(photographs, painted):
    from_paintings = log_candidate(painted, 1.0)
    version, alias = promotion.register(from_paintings)
    assert alias == "champion" and "has only seen paintings" in version.description
    from_photographs = log_candidate(photographs, 0.3)
    assert promotion.register(from_photographs)[1] == "champion"
    again = log_candidate(painted, 1.0)
    version, alias = promotion.register(again)
    assert alias == "challenger"
    assert served_run() == from_photographs.run.info.run_id
    assert "painted birds" in version.tags["gate"]


def test_a_champion_of_other_pictures_is_scored_again_on_the_candidate_s(
    photographs, other_photographs, caplog
):
    champion = log_candidate(photographs, 1.0)
    promotion.register(champion)
    # The champion takes the chroma of the picture with the nearest mean luma: its score is known.
    real, known = other_photographs.test.images, photographs.test.images
    means, own = (color.luma(each).mean(axis=(1, 2)) for each in (known, real))
    nearest = known[np.abs(own - means.T).argmin(axis=1)]
    recalled = color.join(color.luma(real), color.chroma(nearest))
    expected = evaluation.mean_scores(evaluation.score_each(real, recalled))["delta_e"]
    candidate = log_candidate(other_photographs, 1.0)
    with caplog.at_level(logging.INFO, "colorization"):
        version, _ = promotion.register(candidate)
    (line,) = [text for text in caplog.messages + [version.tags["gate"]] if "champion" in text]
    against = float(line.split("against ")[1].split(" ")[0].rstrip(","))
    assert against == pytest.approx(expected, rel=0.02)
    assert against != pytest.approx(champion.score(), rel=0.02)


@pytest.fixture
def upgrade(monkeypatch):
    """Give a function that makes this a later release, which judges by a metric that is new."""
    measure = evaluation.score_set

    def more(*arguments):
        means = measure(*arguments)
        return means | {"new_error": means["color_error"]}

    def begin():
        criteria = {"naive": evaluation.Criterion("new_error", higher_is_better=False)}
        monkeypatch.setattr(evaluation, "CRITERIA", criteria)
        monkeypatch.setattr(evaluation, "score_set", more)

    return begin


def test_a_run_that_was_not_tested_by_today_s_criterion_is_to_be_trained_again(
    photographs, upgrade
):
    old = log_candidate(photographs, 1.0)
    upgrade()
    with pytest.raises(GateError, match="did not test new_error beside .*: train it again"):
        promotion.register(old)
    with pytest.raises(GateError, match="No finished run was tested by new_error"):
        lookup.find_best("naive")


def test_a_champion_that_was_not_tested_by_today_s_criterion_is_tested_again(photographs, upgrade):
    promotion.register(log_candidate(photographs, 0.8))
    upgrade()
    worse, better = (log_candidate(photographs, share) for share in (0.6, 1.0))
    version, alias = promotion.register(worse)
    assert alias == "challenger"
    assert f"new_error {worse.score():.4f} against" in version.tags["gate"]
    assert promotion.register(better)[1] == "champion"


def test_best_compares_equal_pictures_only_and_photographs_first(
    photographs, painted, other_photographs, caplog
):
    validated(log_candidate(other_photographs, 1.0), 1.0)  # but on easier pictures
    best = validated(log_candidate(photographs, 0.3), 4.0, 2.0, 3.0)  # the middle epoch was kept
    validated(log_candidate(photographs, 0.6), 2.5)  # on test pictures the best
    log_candidate(photographs, 1.0)  # imported weights have no validation
    validated(log_candidate(painted, 1.0), 5.0)
    with caplog.at_level(logging.INFO, "colorization"):
        found = lookup.find_best("naive")
    assert found.run.info.run_id == best.run.info.run_id
    assert f"compared 3 finished runs on `{photographs.name}`" in caplog.text
    assert "left out 1 on others" in caplog.text


def test_a_crash_before_the_alias_leaves_the_old_champion_serving(photographs, monkeypatch):
    champion = log_candidate(photographs, 0.6)
    promotion.register(champion)
    better = log_candidate(photographs, 1.0)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(promotion, "_set_alias", crash)
        promotion.register(better)
    assert served_run() == champion.run.info.run_id
    assert promotion.register(better)[1] == "champion"  # and again, whole


def start(store, *arguments):
    return warm.Popen(
        [sys.executable, "-m", "colorization.registry", *arguments],
        env=os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_promoting_at_once_converge_on_the_better_model(photographs, active_store):
    shares = (0.3, 1.0, 0.6)
    candidates = [log_candidate(photographs, share) for share in shares]
    processes = [start(active_store, "--run_id", each.run.info.run_id) for each in candidates]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert served_run() == candidates[1].run.info.run_id


def test_whoever_moves_the_alias_last_corrects_a_race_that_the_worse_model_won(photographs):
    """Both were compared with no champion; the worse one moved the alias last."""
    worse, better = (log_candidate(photographs, share) for share in (0.3, 1.0))
    first = promotion._create(better, "", force=False)
    promotion._set_alias("naive", "champion", first)
    second = promotion._create(worse, "", force=False)
    version, alias = promotion._promote("naive", second, before=None, settled=set())
    assert (version.version, alias) == (second.version, "challenger")
    assert served_run() == better.run.info.run_id


def test_a_champion_that_was_set_back_by_hand_does_not_come_again(photographs):
    first, second, third = (log_candidate(photographs, share) for share in (0.3, 1.0, 0.6))
    version = promotion.register(first)[0]
    assert promotion.register(second)[1] == "champion"
    promotion._set_alias("naive", "champion", version)  # a person does not trust the second
    assert promotion.register(third)[1] == "champion"
    assert served_run() == third.run.info.run_id


def test_a_promotion_during_another_ones_comparison_is_not_undone(photographs, monkeypatch):
    worst, middle, best = (log_candidate(photographs, share) for share in (0.3, 0.6, 1.0))
    promotion._create(middle, "", force=False)
    load = served.load

    def load_slowly(uri):
        if served_run() == worst.run.info.run_id:  # it compares itself with the one in the middle
            promotion._promote(
                "naive", promotion._create(best, "", force=False), before=None, settled=set()
            )
            assert served_run() == best.run.info.run_id
        return load(uri)

    version = promotion._create(worst, "", force=False)
    monkeypatch.setattr(served, "load", load_slowly)
    assert promotion._promote("naive", version, before=None, settled=set())[1] == "challenger"
    assert served_run() == best.run.info.run_id


def test_the_command_line_registers_and_prints_how_to_serve(photographs, active_store):
    promotion.register(log_candidate(photographs, 0.3))
    validated(log_candidate(photographs, 1.0), 2.0)
    process = start(active_store, "--best", "naive")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert f"mlflow models serve -m models:/{NAME}@champion" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected exactly one of --run_id and --best"),
        (["--run_id", "a", "--best", "naive"], "Expected exactly one of --run_id and --best"),
        (["--run_id", "0123456789abcdef"], "No such run"),
        (["--best", "gan"], "Expected naive or pix2pix. Received: best='gan'"),
    ],
)
def test_a_bad_request_is_a_sentence(arguments, message, call):
    status, output = call(main, *arguments)
    assert status == 2
    assert message in output
    assert "Traceback" not in output


def test_a_store_that_does_not_answer_is_not_taken_for_one_without_a_champion(
    photographs, painted, monkeypatch
):
    promotion.register(log_candidate(photographs, 0.3))
    candidate = log_candidate(painted, 1.0)

    def unreachable(*_, **__):
        raise MlflowException("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_registered_models", unreachable)
        with pytest.raises(MlflowException, match="timeout"):
            promotion.register(candidate)
        assert promotion.offer(candidate) == candidate.model_uri  # a training goes on
    assert served_run() != candidate.run.info.run_id


def test_deleted_runs_and_models_are_refused_and_passed_over(photographs):
    best, other, gone = (log_candidate(photographs, share) for share in (1.0, 0.3, 0.6))
    for each in (best, other, gone):
        validated(each, 2.0)
    model_id = best.model_uri.removeprefix("models:/")
    mlflow.MlflowClient().delete_logged_model(model_id)
    mlflow.delete_run(gone.run.info.run_id)
    for candidate in (best, gone):
        with pytest.raises(GateError, match="cannot be served"):
            lookup.find(candidate.run.info.run_id)
    assert lookup.find_best("naive").run.info.run_id == other.run.info.run_id


def test_a_run_of_another_project_is_refused():
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1)
    with pytest.raises(GateError, match="of this project"):
        lookup.find(run.info.run_id)


def test_pictures_that_are_gone_are_a_refusal(photographs, other_photographs):
    promotion.register(log_candidate(photographs, 1.0))
    lost = dataclasses.replace(other_photographs, uri="file:///nowhere/garden")
    version, alias = promotion.register(log_candidate(lost, 1.0))
    assert alias == "challenger"
    assert "they cannot be read" in version.tags["gate"]


def test_a_loser_that_comes_back_is_the_same_version(photographs):
    promotion.register(log_candidate(photographs, 1.0))
    worse = log_candidate(photographs, 0.3)
    first, _ = promotion.register(worse)
    again, alias = promotion.register(worse)
    assert (again.version, alias) == (first.version, "challenger")


def test_an_unfinished_run_is_refused(photographs):
    with tracking.open_run("unfinished") as run:
        tracking.log_data(photographs)
        with pytest.raises(GateError, match="status=RUNNING"):
            lookup.find(run.info.run_id)
