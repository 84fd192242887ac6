"""Validation pictures choose, all of them; what MLflow says of a run is what happened."""

import dataclasses
import json
import logging
import re

import mlflow
import numpy as np
import pytest

from colorization import __main__ as command_line
from colorization import color, comparison, evaluation, metrics
from colorization import config as configuration
from colorization.config import VARIANTS
from colorization.models import build
from colorization.registry.candidate import Candidate
from colorization.training import callbacks, device
from sweeps.space import parse_fix


def test_shuffled_pictures_have_their_own_luma_and_another_one_s_chroma(splits):
    real = splits.test.images
    shuffled = evaluation.baselines(real, np.zeros(2))["shuffled"]
    order = evaluation.partners(len(real))
    assert sorted(order) == list(range(len(real))) and (order != np.arange(len(real))).all()
    assert np.median(np.abs(color.luma(shuffled) - color.luma(real))) <= 1
    difference = np.abs(color.chroma(shuffled) - color.chroma(real[order]))
    assert np.median(difference) <= 1  # colors outside the gamut are clipped, as everywhere
    np.testing.assert_array_equal(evaluation.baselines(real, np.zeros(2))["shuffled"], shuffled)


def test_scattered_pixels_tell_nearly_what_all_do(splits):
    real = splits.train.images
    shuffled = evaluation.baselines(real, np.zeros(2))["shuffled"]
    whole = metrics.delta_e(real, shuffled).mean()
    few = metrics.delta_e(real, shuffled, metrics.pixel_sample(real.shape[1])).mean()
    assert few == pytest.approx(whole, rel=0.02) and few != whole


def test_every_validation_picture_has_its_say(splits):
    """The hundredth picture is as good as the first."""
    many = np.concatenate([splits.val.images] * 30)[:101]
    colorizer = build.build_plain(dataclasses.replace(VARIANTS["naive_basic"], filters=4), 128)
    found = []
    for changed in (many, np.concatenate([many[:100], 255 - many[100:]])):
        scoring = callbacks.Scoring(VARIANTS["naive_basic"], colorizer, changed, 1)
        found.append(scoring._measure())
    assert found[0]["delta_e"] != found[1]["delta_e"]
    assert found[0]["chroma_distance"] != found[1]["chroma_distance"]


def test_a_comparison_chooses_by_the_kept_epoch_s_validation(ready_store):
    mlflow.set_tracking_uri(ready_store)
    contenders = {}
    for label, test, validation in (("a", 1.0, (9.0, 8.0)), ("b", 2.0, (6.0, 7.0, 9.5))):
        with mlflow.start_run(tags={"family": "naive"}) as run:
            mlflow.log_metric("test_delta_e", test)
            for step, value in enumerate(validation, 1):
                mlflow.log_metric("val/delta_e", value, step=step)
        config = VARIANTS["naive_basic"]
        found = mlflow.get_run(run.info.run_id)
        contenders[label] = comparison.Contender(label, config, Candidate(found, ""))
    (best,) = comparison.best_of_families(list(contenders.values()))
    mlflow.set_tracking_uri(None)
    assert best.label == "b"


@pytest.mark.parametrize(
    ("variant", "flags", "loss"),
    [
        ("naive_basic", [], "l1"),
        ("naive_basic", ["--loss", "mse"], "mse"),
        ("naive_basic", ["--head", "histogram"], "cross_entropy"),
        ("naive_efficientnet", [], "cross_entropy"),
        ("naive_efficientnet", ["--head", "rgb"], "l1"),
    ],
)
def test_the_loss_that_is_logged_is_that_of_the_head(variant, flags, loss):
    config = configuration.from_arguments(VARIANTS[variant], command_line.parse([variant, *flags]))
    assert dataclasses.asdict(config)["loss"] == loss
    assert dataclasses.replace(config, head="chroma").loss == (loss if loss == "mse" else "l1")


@pytest.mark.parametrize(
    ("variant", "flags"),
    [
        ("naive_efficientnet", {"loss": "l1"}),
        ("naive_basic", {"head": "histogram", "loss": "l1"}),
        ("naive_basic", {"loss": "cross_entropy"}),
    ],
)
def test_a_loss_that_the_head_does_not_have_is_refused(variant, flags):
    texts = [text for name, value in flags.items() for text in (f"--{name}", value)]
    expected = f"Bad value for `loss`. Expected .* Received: loss='{flags['loss']}'"
    with pytest.raises(ValueError, match=expected):
        configuration.from_arguments(VARIANTS[variant], command_line.parse([variant, *texts]))
    fix = ",".join(f"{name}={value}" for name, value in {"variant": variant, **flags}.items())
    with pytest.raises(ValueError, match=expected):
        parse_fix("naive", fix)


@pytest.mark.slow  # imports TensorFlow once more
def test_the_log_says_what_a_training_runs_on_and_why(caplog):
    device.describe.cache_clear()
    with caplog.at_level(logging.INFO, "colorization"):
        found = device.describe()
    (line,) = caplog.messages
    assert line.startswith(f"training on {found}")
    if re.fullmatch(r"\d+ cores?", found):
        assert "no GPU found" in line
        assert re.search("GPU|CUDA|cuda", device.why_not())  # TensorFlow's own words


def test_a_run_has_its_device_and_says_of_which_pictures_a_figure_is(trained):
    client, run = trained
    assert run.data.tags["device"] == device.describe()
    (model,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    names = {each.dataset_name for each in model.metrics if each.key == "test_delta_e"}
    inputs = {tag.value: each.dataset for each in run.inputs.dataset_inputs for tag in each.tags}
    assert names == {inputs["testing"].name}
    assert json.loads(inputs["testing"].profile)["features_shape"][0] > 1
