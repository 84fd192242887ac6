import argparse
import dataclasses

import pytest

from colorization import config as configuration
from colorization.config import VARIANTS


def test_the_variants_are_the_mission_s():
    assert set(VARIANTS) >= {"naive_basic", "naive_dropout", "naive_deep", "pix2pix"}
    assert all(name == config.variant for name, config in VARIANTS.items())
    assert VARIANTS["pix2pix"].l1_weight == 100
    assert VARIANTS["pix2pix"].generator_learning_rate == 2e-4
    assert VARIANTS["naive_dropout"].dropout > VARIANTS["naive_basic"].dropout == 0
    assert VARIANTS["naive_deep"].depth > VARIANTS["naive_basic"].depth


@pytest.mark.parametrize(
    ("variant", "field", "value"),
    [
        ("naive_basic", "epochs", "0"),
        ("naive_basic", "epochs", "3.5"),
        ("naive_basic", "epochs", "many"),
        ("naive_basic", "epochs", ""),
        ("naive_basic", "epochs", "9" * 400),
        ("naive_efficientnet", "encoder_weights", __file__),
        ("naive_basic", "dropout", "1"),
        ("naive_basic", "dropout", "nan"),
        ("naive_basic", "dropout", None),
        ("naive_basic", "learning_rate", "0"),
        ("naive_basic", "loss", "l2"),
        ("naive_basic", "depth", "8"),
        ("pix2pix", "head", "lab"),
        ("pix2pix", "l1_weight", "-1"),
        ("pix2pix", "generator_learning_rate", "inf"),
        ("pix2pix", "seed", "-1"),
        ("pix2pix", "gan_loss", "hinge"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name_and_range(variant, field, value):
    with pytest.raises(ValueError, match=f"Bad value for `{field}`. Expected .+{field}={value!r}"):
        dataclasses.replace(VARIANTS[variant], **{field: value})


def test_the_command_line_s_texts_become_the_fields_types():
    parser = argparse.ArgumentParser()
    groups = {name: parser.add_argument_group(name) for name in configuration.GROUPS}
    configuration.add_arguments(groups, VARIANTS["pix2pix"])
    flags = ["--epochs", "7", "--l1_weight", "2e1", "--gan_loss", "lsgan"]
    config = configuration.from_arguments(VARIANTS["pix2pix"], parser.parse_args(flags))
    assert (config.epochs, config.l1_weight, config.gan_loss) == (7, 20.0, "lsgan")
    assert type(config.epochs) is int
    assert config.filters == VARIANTS["pix2pix"].filters


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS["pix2pix"].epochs = 3
