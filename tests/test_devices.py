"""Several devices share each batch: two halves of a processor stand for two GPUs."""

import dataclasses
import json
import os
import sys

import keras
import numpy as np
import pytest

from colorization.config import VARIANTS
from colorization.data import pipeline
from colorization.losses import GAN_LOSSES
from colorization.models import build, pretrained_unet
from colorization.training import train
from tests import warm
from tests.conftest import ROOT
from tests.networks import tiny_encoder


def small(variant, **changes):
    """Return a small network's config, without dropout: its masks depend on the devices."""
    small = {"filters": 4, "depth": 2, "epochs": 2, "dropout": 0.0, "size": 32}
    return dataclasses.replace(VARIANTS[variant], **small | changes)


ON_DEVICES = """
import json, sys
import tensorflow as tf

(processor,) = tf.config.list_physical_devices("CPU")
parts = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[2])
tf.config.set_logical_device_configuration(processor, parts)

from colorization.data import prepare, sources
from tests import test_devices

print("report:" + json.dumps(test_devices.report(prepare.prepare(sources.fetch(sys.argv[1]), 32))))
"""


def report(splits):
    """Return what this process's devices make of a few trainings."""
    pretrained_unet.ENCODERS["efficientnet"] = tiny_encoder
    replicas = [train.strategy_for(count).num_replicas_in_sync for count in (8, 3, 1)]
    if max(replicas) == 1:
        pipeline.training_pairs = begun_once(pipeline.training_pairs)
    return {
        "replicas": replicas,
        "descent": descend(splits),  # of the GAN's own step; Keras has that of the others
        "histories": [
            history("naive_deep", splits, head="chroma"),
            history("pix2pix", splits, head="histogram", generator_only_ratio=0.0),
        ],
        "finetuned": history(
            "naive_efficientnet",
            splits,
            precision="mixed_bfloat16",
            encoder_weights="imagenet",
            finetune_ratio=0.5,
        )["loss"],
    }


def begun_once(training_pairs):
    """Keras looks at a batch before it shares one, so that the first epoch has another's order."""

    def begin(*arguments):
        pairs = training_pairs(*arguments)
        next(iter(pairs))
        return pairs

    return begin


def descend(splits):
    """Take three steps as long as the gradients, which Adam would not show; return the weights."""
    config = small("pix2pix", head="rgb")
    strategy = train.strategy_for(batch_size=4)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        trainer = build.build(config, 32, strategy.num_replicas_in_sync > 1).trainer
        trainer.compile(
            keras.optimizers.SGD(0.01), keras.optimizers.SGD(1.0), 100, GAN_LOSSES["bce"]
        )
    images = splits.train.images[:12]
    trainer.fit(
        pipeline.validation_pairs(images, config.gray_channels, 4), shuffle=False, verbose=0
    )
    return [weight.tolist() for weight in trainer.get_weights()]


def history(variant, splits, **changes):
    """Train, and return what is reported; of as many validation pictures as two can share."""
    even = dataclasses.replace(splits.val, images=splits.val.images[:4])
    splits = dataclasses.replace(splits, val=even)
    result = train.train(small(variant, **changes), splits)
    assert not any(getattr(layer, "synchronized", False) for layer in result.colorizer.layers)
    return {**result.history, "images_per_second": []}


@pytest.mark.slow
def test_two_devices_share_a_batch_and_train_as_one_does(paintings, splits):
    def reported(devices):
        command = [sys.executable, "-c", ON_DEVICES, paintings, str(devices)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
        done = warm.run(command, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("report:")[1])

    one, two = reported(1), reported(2)
    assert (one["replicas"], two["replicas"]) == ([1, 1, 1], [2, 1, 1])
    for expected, received in zip(one["descent"], two["descent"], strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)
    for alone, shared in zip(one["histories"], two["histories"], strict=True):
        assert alone.keys() == shared.keys()
        for name, expected in alone.items():
            np.testing.assert_allclose(shared[name], expected, rtol=2e-3, atol=2e-4, err_msg=name)
    # What its summary drops depends on the devices.
    np.testing.assert_allclose(two["finetuned"], one["finetuned"], rtol=0.02)


def test_no_device_is_left_without_a_validation_picture():
    images = np.arange(5)
    assert list(train.whole_shares(images, 1)) == [0, 1, 2, 3, 4]
    assert list(train.whole_shares(images, 2)) == [0, 1, 2, 3, 4, 0]
    assert list(train.whole_shares(images[:1], 4)) == [0, 0, 0, 0]
