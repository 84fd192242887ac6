import dataclasses
import itertools
import json
import os
import signal
import sys

import keras
import mlflow
import numpy as np
import pytest

from colorization import color, evaluation, losses, metrics, tracking
from colorization.config import VARIANTS, PretrainedEncoder
from colorization.models import build, pretrained_unet
from colorization.models.export import TOLERANCE, export_onnx
from colorization.training import callbacks, train
from tests import warm
from tests.conftest import ROOT
from tests.networks import tiny_encoder

pytestmark = pytest.mark.slow  # each test trains


@pytest.fixture
def splits(small_splits):
    return small_splits


def quick(variant, **changes):
    own = {"encoder_weights": "none"} if isinstance(VARIANTS[variant], PretrainedEncoder) else {}
    small = {"filters": 4, "depth": 2, "epochs": 2, "size": 32}
    return dataclasses.replace(VARIANTS[variant], **small | own | changes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_reports_its_story(variant, splits, monkeypatch):
    monkeypatch.setitem(pretrained_unet.ENCODERS, "efficientnet", tiny_encoder)
    config = quick(variant, epochs=1)
    result = train.train(config, splits)
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
    config = quick(variant, epochs=4, ema_momentum=0, **{rate: 0.03})
    result = train.train(config, splits)
    history = result.history[f"val_{metric}"]
    assert result.best_epoch == int(np.argmin(history))
    real = splits.val.images
    colorize = callbacks.as_function(result.colorizer)
    predicted = color.to_uint8(colorize(color.gray_input(real, config.gray_channels)))
    scores = evaluation.score_each(real, predicted, metrics.pixel_sample(32))
    kept = evaluation.score_set(real, predicted, scores)
    assert kept[metric] == pytest.approx(min(history), rel=1e-4)


@pytest.mark.parametrize(
    ("variant", "rate", "own", "moving"),
    [
        ("naive_efficientnet", "learning_rate", {"epochs": 2}, [False, True]),
        (
            "pix2pix_efficientnet",
            "generator_learning_rate",
            {"epochs": 3, "generator_only_ratio": 2 / 3, "ema_momentum": 0.0},
            [False, True, False],
        ),
    ],
)
def test_an_encoder_learns_in_the_epochs_for_it_alone_and_begins_with_short_steps(
    variant, rate, own, moving, splits
):
    small = {"finetune_ratio": 0.5, "finetune_learning_rate": 1e-5, "warmup_ratio": 0.0}
    config = quick(variant, encoder_weights="imagenet", **small, **own)
    names = ("stem", "block5_expand", "top", "summary")
    loaded = build.build(config, 32).colorizer
    seen = [[loaded.get_layer(name).get_weights() for name in names]]
    steps = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (1, 0):
                steps.append(self.colorizer.get_layer("top").get_weights()[0])

        def on_epoch_end(self, epoch, logs=None):
            seen.append([self.colorizer.get_layer(name).get_weights() for name in names])

    result = train.train(config, splits, [Seen()])
    moved = [
        [not np.array_equal(a[0], b[0]) for a, b in zip(*pair, strict=True)]
        for pair in itertools.pairwise(seen)
    ]
    assert moved == [[False, tuned, tuned, True] for tuned in moving]
    assert [value <= 1e-5 for value in result.history[rate][:2]] == [False, True]
    # Adam's memory would make the first steps longer than the learning rate.
    (step,) = steps
    farthest = np.abs(step - loaded.get_layer("top").get_weights()[0]).max()
    assert 0 < farthest <= 1.01 * config.finetune_learning_rate
    for name in ("stem", "block2_project", "block15_project_normalize"):  # frozen all the time
        weights = [each.get_layer(name).get_weights() for each in (result.colorizer, loaded)]
        for kept, expected in zip(*weights, strict=True):
            np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("head", ["chroma", "histogram"])
def test_callbacks_receive_the_scores_and_what_they_are_of(head, splits):
    real = splits.val.images

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.logs = dict(logs)
            colorize = callbacks.as_function(self.colorizer)
            self.predicted = color.to_uint8(colorize(color.gray_input(real, 1)))

    seen = Seen()
    result = train.train(quick("naive_basic", epochs=1, head=head), splits, [seen])
    assert {name: [value] for name, value in seen.logs.items()} == result.history
    measured = evaluation.score_set(real, seen.predicted)
    assert measured["psnr"] == pytest.approx(seen.logs["val_psnr"])


def test_a_loss_that_is_not_finite_names_the_epoch(splits):
    with pytest.raises(FloatingPointError, match="in epoch 1.*smaller learning rate.*loss=nan"):
        train.train(quick("naive_basic"), Broken(splits))


@pytest.mark.usefixtures("active_store")
def test_a_loss_that_is_not_finite_ends_the_run_failed(splits):
    with pytest.raises(FloatingPointError), tracking.open_run("broken") as run:
        train.train(quick("naive_basic"), Broken(splits))
    run = mlflow.get_run(run.info.run_id)
    assert run.info.status == "FAILED"
    assert "in epoch 1" in run.data.tags["error"]


def test_a_signal_that_comes_within_a_step_stops_the_training_after_it(splits, monkeypatch):
    """What its handler raises inside TensorFlow may be lost there."""

    def interrupted(real, predicted):  # is called while the step is traced
        signal.raise_signal(signal.SIGINT)
        return keras.losses.mean_absolute_error(real, predicted)

    steps = []

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)

    monkeypatch.setitem(losses.PIXEL_LOSSES, "interrupted", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train.train(quick("naive_basic", loss="interrupted"), splits, [Steps()])
        assert steps == [0]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_learning_rates_rise_and_then_fall_to_zero_along_a_cosine(splits):
    seen = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            optimizers = (self.model.generator_optimizer, self.model.discriminator_optimizer)
            seen.append([float(each.learning_rate) for each in optimizers])

    rates = {"generator_learning_rate": 2e-3, "discriminator_learning_rate": 1e-3}
    config = quick("pix2pix", epochs=4, generator_only_ratio=0, warmup_ratio=0.25, **rates)
    history = train.train(config, splits, [Rates()]).history
    generator, discriminator = np.array(seen).T
    np.testing.assert_allclose(generator, 2 * discriminator, rtol=1e-5)
    rising = len(generator) // 4
    assert (np.diff(generator[: rising + 1]) > 0).all()
    assert generator[rising] == pytest.approx(2e-3)
    falling = np.linspace(0, np.pi, len(generator) - rising, endpoint=False)
    np.testing.assert_allclose(generator[rising:], 1e-3 * (1 + np.cos(falling)), atol=1e-8)
    assert history["generator_learning_rate"] == list(generator[rising - 1 :: rising])


def test_pix2pix_learns_from_l1_alone_before_the_gan_at_a_rate_of_its_own(splits):
    rates = {"generator_only_learning_rate": 3e-3, "generator_learning_rate": 1e-4}
    config = quick("pix2pix", epochs=4, generator_only_ratio=0.5, warmup_ratio=0, **rates)
    history = train.train(config, splits).history
    for name in ("discriminator_loss", "val_discriminator_loss", "discriminator_learning_rate"):
        assert [value > 0 for value in history[name]] == [False, False, True, True]
    first, second, third, fourth = history["generator_learning_rate"]
    assert 3e-3 > first > 1e-3 > second > 0
    assert 1e-4 > third > 3e-5 > fourth > 0


def test_what_is_kept_is_the_average_of_the_weights_in_training(splits):
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.get_weights())

        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights())

    config = quick("naive_deep", epochs=1, ema_momentum=0.3)
    kept = train.train(config, splits, [Weights()]).colorizer.get_weights()
    average, *steps = seen
    assert len(steps) > 5  # so many that the momentum has grown to the config's
    for step, weights in enumerate(steps, 1):
        momentum = min(0.3, step / (step + 10))
        pairs = zip(average, weights, strict=True)
        average = [momentum * mine + (1 - momentum) * theirs for mine, theirs in pairs]
    for mine, expected in zip(kept, average, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(kept, steps[-1], strict=True))


@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_mixed_precision_trains_a_network_that_is_kept_in_float32(variant, splits, tmp_path):
    config = quick(variant, epochs=1)
    mixed = dataclasses.replace(config, precision="mixed_bfloat16")
    result, plain = train.train(mixed, splits), train.train(config, splits)
    name = {"naive": "loss", "pix2pix": "generator_loss"}[config.family]
    assert result.history[name] != plain.history[name]
    assert result.history[name] == pytest.approx(plain.history[name], rel=0.02)
    assert {layer.compute_dtype for layer in result.colorizer.layers} == {"float32"}
    grays = color.gray_input(splits.val.images, config.gray_channels)
    assert export_onnx(result.colorizer, tmp_path / "generator.onnx", grays) <= TOLERANCE


class Broken:
    """Splits whose training pictures hold a value that no picture has."""

    def __init__(self, splits):
        images = np.asarray(splits.train.images, "float32")
        images[:, 16, 16] = np.nan
        self.train = dataclasses.replace(splits.train, images=images)
        self.val = splits.val


REPRODUCE = """
import dataclasses, gc, json, sys
from colorization.config import VARIANTS
from colorization.data import prepare, sources
from colorization.training import train

def history(variant, seed):
    small = {"filters": 4, "depth": 2, "epochs": 2, "dropout": 0.5, "size": 32}
    config = dataclasses.replace(VARIANTS[variant], **small, seed=seed)
    return train.train(config, splits).history | {"images_per_second": 0}

def graphs():
    train.forget_trainings()
    gc.collect()
    return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

path, *seeds = sys.argv[1:]
splits = prepare.prepare(sources.fetch(path), 32)
told = {v: [(history(v, seed), graphs()) for seed in seeds] for v in ("naive_deep", "pix2pix")}
print("told:" + json.dumps(told))
"""


def test_two_processes_with_the_same_seed_get_the_same_metrics_and_keep_no_graph(paintings, splits):
    def told(*seeds):
        command = [sys.executable, "-c", REPRODUCE, paintings, *map(str, seeds)]
        done = warm.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("told:")[1])

    first, second = told(1), told(2, 1)
    for variant, ((alone, _),) in first.items():
        (other, graphs), (again, more) = second[variant]
        assert alone == again != other  # whatever was trained before in the process
        assert more <= graphs
