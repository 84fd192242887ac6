import dataclasses
import gc
import json
import os
import subprocess
import sys

import keras
import mlflow
import numpy as np
import pytest

from colorization import evaluation, pixels, tracking, training
from colorization.config import FROM_SCRATCH, VARIANTS
from colorization.models.export import TOLERANCE, export_onnx
from tests.conftest import ROOT


def quick(variant, **changes):
    own = {} if variant in FROM_SCRATCH else {"encoder_weights": "none"}
    return dataclasses.replace(VARIANTS[variant], **{"filters": 4, "epochs": 2, **own, **changes})


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_reports_its_story(variant, splits):
    config = quick(variant, epochs=1)
    result = training.train(config, splits)
    names = set(result.history)
    losses = {
        "naive": {"loss"},
        "pix2pix": {"generator_loss", "discriminator_loss", "adversarial_loss", "l1_loss"},
    }[config.family]
    rates = {
        "naive": {"learning_rate"},
        "pix2pix": {"generator_learning_rate", "discriminator_learning_rate"},
    }[config.family]
    scores = {f"val_{name}" for name in ("psnr", "ssim", "delta_e", "colorfulness")}
    assert losses | {f"val_{name}" for name in losses} | rates | scores <= names
    assert result.history["images_per_second"][0] > 0
    assert all(np.isfinite(values).all() for values in result.history.values())


@pytest.mark.parametrize(
    ("variant", "rate", "metric"),
    [
        ("naive_basic", "learning_rate", "delta_e"),
        ("pix2pix", "generator_learning_rate", "color_error"),
    ],
)
def test_the_best_epoch_by_the_criterion_is_kept(variant, rate, metric, splits):
    # So fast that the scores swing, and the best epoch is hardly the last.
    config = quick(variant, epochs=4, **{rate: 0.03})
    result = training.train(config, splits)
    history = result.history[f"val_{metric}"]
    assert result.best_epoch == int(np.argmin(history))
    real = splits.val.images[: training.SCORED_PICTURES]
    colorize = training.as_function(result.colorizer)
    predicted = pixels.to_uint8(colorize(pixels.gray_input(real, config.gray_channels)))
    kept = evaluation.measure(real, predicted)
    assert kept[metric] == pytest.approx(min(history), rel=1e-4)


def test_callbacks_receive_the_scores(splits):
    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.logs = dict(logs)

    seen = Seen()
    result = training.train(quick("naive_basic", epochs=1), splits, [seen])
    assert {name: [value] for name, value in seen.logs.items()} == result.history


def test_a_training_leaves_no_graph_in_memory(splits):
    def train_and_count():
        training.train(quick("naive_basic", epochs=1), splits)
        training.forget_trainings()
        gc.collect()
        return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

    assert train_and_count() >= train_and_count()


def test_a_loss_that_is_not_finite_names_the_epoch(splits):
    with pytest.raises(FloatingPointError, match="in epoch 1.*smaller learning rate.*loss=nan"):
        training.train(quick("naive_basic"), Broken(splits))


def test_a_loss_that_is_not_finite_ends_the_run_failed(splits, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(FloatingPointError), tracking.open_run("broken") as run:
        training.train(quick("naive_basic"), Broken(splits))
    run = mlflow.get_run(run.info.run_id)
    assert run.info.status == "FAILED"
    assert "in epoch 1" in run.data.tags["error"]


def test_learning_rates_are_held_and_then_fall_towards_zero(splits):
    config = quick("pix2pix", epochs=4, discriminator_learning_rate=1e-4)
    history = training.train(config, splits).history
    shares = [1, 1, 2 / 3, 1 / 3]
    for name in training.learning_rates(config):
        expected = [share * getattr(config, name) for share in shares]
        np.testing.assert_allclose(history[name], expected, rtol=1e-5)


@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_mixed_precision_trains_a_network_that_is_kept_in_float32(variant, splits, tmp_path):
    config = quick(variant, depth=3, epochs=1)
    mixed = dataclasses.replace(config, precision="mixed_bfloat16")
    result, plain = training.train(mixed, splits), training.train(config, splits)
    name = {"naive": "loss", "pix2pix": "generator_loss"}[config.family]
    assert result.history[name] != plain.history[name]
    assert result.history[name] == pytest.approx(plain.history[name], rel=0.02)
    assert {layer.compute_dtype for layer in result.colorizer.layers} == {"float32"}
    grays = pixels.gray_input(splits.val.images, config.gray_channels)
    assert export_onnx(result.colorizer, tmp_path / "generator.onnx", grays) <= TOLERANCE


class Broken:
    """Splits whose training pictures hold a value that no picture has."""

    def __init__(self, splits):
        images = np.asarray(splits.train.images, "float32")
        images[:, 64, 64] = np.nan
        self.train = dataclasses.replace(splits.train, images=images)
        self.val = splits.val


REPRODUCE = """
import dataclasses, json, sys
from colorization import training
from colorization.config import VARIANTS
from colorization.data import prepare, sources

config = dataclasses.replace(
    VARIANTS[sys.argv[2]], filters=4, epochs=3, dropout=0.5, seed=int(sys.argv[3])
)
history = training.train(config, prepare.prepare(sources.fetch(sys.argv[1]))).history
del history["images_per_second"]
print("history:" + json.dumps(history))
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_two_processes_with_the_same_seed_get_the_same_metrics(variant, paintings, splits):
    def history(seed):
        command = [sys.executable, "-c", REPRODUCE, paintings, variant, str(seed)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("history:")[1])

    first = history(seed=1)
    assert first == history(seed=1)
    assert first != history(seed=2)
