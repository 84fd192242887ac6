"""Each thing that can be added is added in one place, here in memory, and trains."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from colorization import __main__ as command_line
from colorization import config as configuration
from colorization import losses
from colorization.config import ENCODERS, HEADS, VARIANTS
from colorization.models import build, heads, pretrained_unet
from colorization.training import train

TINY = ["--filters", "4", "--depth", "2", "--batch_size", "8", "--epochs", "1", "--crop", "1"]


def parsed(*arguments):
    """Return the config that a command line names."""
    found = command_line.parse([*arguments, *TINY])
    return configuration.from_arguments(VARIANTS[found.variant], found)


def train_one_step(config):
    rng = np.random.default_rng(0)
    split = SimpleNamespace(images=rng.integers(0, 256, (8, 16, 16, 3), "uint8"))
    return train.train(config, SimpleNamespace(train=split, val=split)).history


@pytest.mark.slow  # trains
@pytest.mark.parametrize(
    ("known", "changes", "loss"),
    [
        ("naive_basic", {"batch_norm": True}, "loss"),
        ("pix2pix", {"dropout": 0.1}, "generator_loss"),
    ],
)
def test_a_variant_is_an_entry_of_its_config(known, changes, loss, monkeypatch):
    added = dataclasses.replace(VARIANTS[known], variant="added", **changes)
    monkeypatch.setitem(VARIANTS, "added", added)
    config = parsed("added")
    assert (config.variant, config.architecture) == ("added", VARIANTS[known].architecture)
    assert len(train_one_step(config)[loss]) == 1


@pytest.mark.slow  # trains
def test_a_pixel_loss_is_a_function_and_its_name(monkeypatch):
    def doubled(real, predicted):
        return 2 * keras.losses.mean_absolute_error(real, predicted)

    plain = train_one_step(parsed("naive_basic"))["loss"][0]
    monkeypatch.setitem(losses.PIXEL_LOSSES, "doubled", doubled)
    config = parsed("naive_basic", "--loss", "doubled")
    assert train_one_step(config)["loss"][0] == pytest.approx(2 * plain, rel=1e-4)


def test_an_unknown_architecture_names_the_known_ones():
    config = dataclasses.replace(VARIANTS["naive_basic"], architecture="transformer")
    known = "autoencoder, unet, pretrained_unet"
    with pytest.raises(ValueError, match=f"one of {known};.+architecture='transformer'"):
        build.build(config, 16)


def test_an_unknown_head_names_the_known_ones():
    with pytest.raises(ValueError, match="one of chroma, histogram, rgb;.+head='lab'"):
        heads.find_head("lab")


def test_every_head_and_encoder_that_is_offered_can_be_built():
    assert set(HEADS) == set(heads.HEADS)
    assert set(ENCODERS) == set(pretrained_unet.ENCODERS)
