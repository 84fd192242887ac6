"""What MLflow's own UI shows of a training, and that runs of earlier releases still count."""

import dataclasses
import io
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colorization import (
    charts,
    color,
    comparison,
    evaluation,
    resumption,
    tracking,
    training_log,
)
from colorization.config import VARIANTS
from colorization.errors import GateError, InputError
from colorization.registry import lookup, promotion
from colorization.registry.candidate import Candidate
from colorization.training import schedule
from colorization.training.train import Result
from serve.page import champions
from tests.networks import log_network, memory, with_chroma

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
LOSSES = {
    "naive": ["loss"],
    "pix2pix": ["generator_loss", "adversarial_loss", "l1_loss", "discriminator_loss"],
}


def no_chroma(luma):
    return 0 * luma + np.zeros(2, "float32")


def logs_of(config, epoch):
    """What Keras logs of an epoch, by the names that `test_training` promises."""
    names = [f"{prefix}{loss}" for loss in LOSSES[config.family] for prefix in ("", "val_")]
    measured = (*evaluation.SCORES_TOGETHER, "chroma_distance", "hue_concentration")
    names += [*(f"val_{name}" for name in measured), *config.learning_rates, "images_per_second"]
    return {name: 1 / (epoch + 1) for name in names}


def charts_of(config):
    return {
        name
        for phase in schedule.phases(config)
        for name in charts.of_epoch(config, logs_of(config, 0), phase.adversarial)
    }


@pytest.mark.parametrize("head", ["chroma", "histogram"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_has_at_most_twenty_one_charts_grouped_by_prefix(variant, head):
    found = charts_of(dataclasses.replace(VARIANTS[variant], head=head))
    assert len(found) + len(charts.TESTED_ONCE) <= 20
    assert {name.partition("/")[0] for name in found} == {"loss", "val", "rate"}
    assert {criterion.metric for criterion in evaluation.CRITERIA.values()} <= {*charts.TESTED}


def test_without_an_adversary_nothing_is_logged_of_one_and_each_loss_has_one_meaning():
    config = VARIANTS["pix2pix_efficientnet"]
    logs = logs_of(config, 0) | {"generator_loss": 2.5, "l1_loss": 0.3}
    alone, against = (charts.of_epoch(config, logs, adversarial) for adversarial in (False, True))
    assert (alone["loss/cross_entropy"], alone["loss/l1"]) == (2.5, 0.3)
    assert "loss/cross_entropy" not in against and against["loss/l1"] == 0.3
    only = {"loss/adversarial", "loss/discriminator", "loss/discriminator_val"}
    only |= {"rate/discriminator"}
    assert only <= against.keys() and not only & alone.keys()
    naive = charts.of_epoch(VARIANTS["naive_basic"], {"loss": 0.1, "val_loss": 0.2}, False)
    assert naive == {"loss/l1": 0.1, "loss/l1_val": 0.2}


def test_a_table_of_scores_is_read_as_it_was_written(active_store):
    means = {f"test_{name}{suffix}": 1.5 for name in "ab" for suffix in ("", "_gray")}
    means |= {f"test_{name}_{suffix}": np.inf for name in "ab" for suffix in evaluation.BASELINES}
    with mlflow.start_run() as run:
        tracking.log_table(run.info.run_id, charts.as_table(means, "mine"), charts.SCORES_FILE)
    table = mlflow.load_table(charts.SCORES_FILE, run_ids=[run.info.run_id])
    assert list(table["model"]) == ["mine", *evaluation.BASELINES.values()]
    assert charts.tested(mlflow.get_run(run.info.run_id)) == means


def as_an_earlier_release(candidate):
    """Log what an earlier release did: metrics of other names, and no table."""
    client, run = mlflow.MlflowClient(), candidate.run
    once = {"parameters": 7, "training_seconds": 5.0, "images_per_second": 20.0}
    for name, value in (candidate.tested | once | {"val_delta_e": 0.5, "loss": 0.1}).items():
        client.log_metric(run.info.run_id, name, value, step=1)
    Path(run.info.artifact_uri, charts.SCORES_FILE).unlink()
    for name in once.keys() & run.data.tags.keys():
        client.delete_tag(run.info.run_id, name)
    return lookup.find(run.info.run_id)


@pytest.fixture
def candidates(active_store, small_splits):
    """Two runs, the better one of an earlier release."""
    images = small_splits.test.images
    chroma = color.chroma(images)
    old, new = (log_network(memory(images, k * chroma), small_splits) for k in (1.0, 0.5))
    mlflow.MlflowClient().log_metric(new.run.info.run_id, "val/delta_e", 0.9, step=1)
    return as_an_earlier_release(old), new


@pytest.mark.slow
def test_runs_of_an_earlier_release_are_found_compared_and_beaten_only_by_better_ones(
    candidates, small_splits
):
    old, new = candidates
    assert old.score() < old.score("_gray") and old.validation_score() == 0.5
    assert lookup.find_best("naive").model_uri == old.model_uri
    for each in candidates:
        served = champions.Champion("naive", None, each.run, None, "", "")
        assert served.tested["test_delta_e_gray"] == pytest.approx(old.score("_gray"))
    config = lookup.config_of(old.run)
    assert lookup.find_finished(config, small_splits.digest).run.info.run_id in [
        each.run.info.run_id for each in candidates
    ]
    assert promotion.register(old)[1] == "champion"
    version, alias = promotion.register(new)
    assert alias == "challenger"
    assert f"{new.score():.4f} against {old.score():.4f}" in version.tags["gate"]

    client, run_id = mlflow.MlflowClient(), new.run.info.run_id
    client.set_tag(run_id, "training_seconds", 6.0)
    client.log_metric(run_id, "rate/images_per_second", 30.0, step=1)
    contenders = [
        comparison.Contender(label, config, Candidate(mlflow.get_run(each.run.info.run_id), ""))
        for label, each in (("old", old), ("new", new))
    ]
    table = comparison.table(contenders).set_index("model")
    assert table["delta_e"]["old"] == pytest.approx(old.score())
    assert table["delta_e"]["plain gray"] == pytest.approx(new.score("_gray"))
    assert list(table["seconds"][:2]) == [5.0, 6.0] and table["parameters"]["old"] == 7
    assert list(table["images_per_second"][:2]) == [20.0, 30.0]
    assert comparison._curves(contenders[0])["training L1"] == [0.1]


def test_a_training_that_an_earlier_release_began_goes_on_under_today_s_names(active_store, splits):
    config = dataclasses.replace(VARIANTS["naive_basic"], epochs=2)
    with tracking.open_run("begun") as run:
        mlflow.log_metrics({"val_delta_e": 3.0, "images_per_second": 9.0}, step=1)
        log = training_log.EpochLog(config, splits.val)
        log.colorizer = with_chroma(no_chroma)
        for epoch in range(2):
            log.on_epoch_end(epoch, logs_of(config, epoch))
    assert charts.history(run.info.run_id, "val/delta_e") == {1: 3.0, 2: 0.5}
    with pytest.raises(InputError, match="no checkpoint"):
        resumption._state_of(mlflow.get_run(run.info.run_id))


def test_a_run_whose_table_is_gone_is_refused_by_name(active_store, splits):
    candidate = log_network(with_chroma(no_chroma), splits)
    Path(candidate.run.info.artifact_uri, charts.SCORES_FILE).unlink()
    with pytest.raises(GateError, match="train it again"):
        promotion.register(candidate)


@pytest.fixture(scope="module")
def shown(tracking_server, splits):
    """Two runs of a GAN around a pretrained encoder, which has most params, on a real server."""
    config = dataclasses.replace(VARIANTS["pix2pix_efficientnet"], epochs=3, finetune_ratio=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "charts")
        mlflow.set_tracking_uri(tracking_server)
        for _ in range(2):
            with tracking.open_run(config.label) as run:
                _log_as_training_does(config, splits)
        yield mlflow.MlflowClient(tracking_server).get_run(run.info.run_id)
    mlflow.set_tracking_uri(None)


def _log_as_training_does(config, splits):
    tracking.log_config(config, "sample", register="yes")
    log = training_log.EpochLog(config, splits.val)
    log.colorizer = with_chroma(no_chroma, config.gray_channels)
    log.on_train_begin()
    logs = [logs_of(config, epoch) for epoch in range(config.epochs)]
    for epoch, each in enumerate(logs):
        log.on_epoch_end(epoch, each)
    history = pd.DataFrame(logs).to_dict("list")
    training_log.log_training(config, Result(log.colorizer, history, 2, 1.0, "nothing"))


@pytest.mark.slow
def test_phases_are_tags_and_pictures_are_listed_in_order_in_thirty_characters(
    shown, tracking_server
):
    tags, client = shown.data.tags, mlflow.MlflowClient(tracking_server)
    assert tags["phases"] == "frozen encoder 1-1, fine-tuning 2-2, adversarial 3-3"
    assert (tags["kept_phase"], tags["best_epoch"]) == ("adversarial", "3")
    assert not {"variant", "architecture", "compared"} & shown.data.params.keys()
    files = [Path(each.path).name for each in client.list_artifacts(shown.info.run_id, "images")]
    pictures = sorted(name for name in files if name.endswith(".png"))
    beginnings = [name[:30] for name in pictures]
    assert len(set(beginnings)) == len(pictures) == 8  # two sheets of six pictures
    found = [re.match(r"birds~val (\d)-\d\+step\+(\d+)\+", each).groups() for each in beginnings]
    steps = [(int(first), int(step)) for first, step in found]
    assert steps == [(first, step) for first in (1, 4) for step in range(4)]


@pytest.fixture
def page(shown, tracking_server):
    """MLflow's UI, in the view that compares the two runs, as large as a laptop's screen."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        view = "runs?workflowType=machine_learning&compareRunsMode=CHART"
        page.goto(f"{tracking_server}/#/experiments/{shown.info.experiment_id}/{view}")
        page.get_by_role("button", name="Close").first.click()  # the assistant's panel
        yield page
        browser.close()


def look(page):
    """Return what is to be seen of the first card's picture, RGB: a card cuts its content off."""
    card = page.get_by_test_id("experiment-view-compare-runs-card").first
    picture, slider = card.locator("img").first, card.get_by_role("slider")
    picture.wait_for()
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    place, below = picture.bounding_box(), slider.bounding_box()["y"] - 12
    top = max(place["y"], card.bounding_box()["y"])
    clip = {"x": place["x"], "y": top, "width": place["width"], "height": below - top}
    assert clip["height"] > 20, clip
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"), int)


def colored(pixels):
    return (np.ptp(pixels, axis=-1) > 40).mean()


@pytest.mark.slow
def test_the_card_of_a_run_and_of_the_view_that_compares_runs_shows_color(
    page, shown, tracking_server
):
    page.locator("img[src*='get-artifact']").first.scroll_into_view_if_needed()  # past the params
    assert colored(look(page)) > 0.05
    page.goto(
        f"{tracking_server}/#/experiments/{shown.info.experiment_id}"
        f"/runs/{shown.info.run_id}/model-metrics"
    )
    page.get_by_test_id("experiment-view-compare-runs-section-header").first.wait_for()
    seen = look(page)  # as it is: first of all, without a scroll
    third = seen.shape[1] // 3
    assert colored(seen[:, 2 * third :]) > 0.05 and colored(seen[:, : third - 4]) == 0
    headers = page.get_by_test_id("experiment-view-compare-runs-section-header").all()
    counts = dict(re.match(r"([\w ]+)\s+\((\d+)\)", each.inner_text()).groups() for each in headers)
    assert counts == {"birds": "2", "loss": "7", "rate": "3", "val": "6", "Model metrics": "0"}
    card = page.get_by_test_id("experiment-view-compare-runs-card").first
    card.get_by_role("slider").press("ArrowRight")
    card.locator("img[src*='step%2B0001']").wait_for()
