"""The spaces: valid configs only, the presets among them."""

import optuna
import pytest

from colorization.config import VARIANTS
from sweeps import space
from sweeps.space import Spec


def spec(family, fix=(), epochs=3):
    return Spec(family, "delta_e", dict(fix), epochs=epochs, seed=1)


def lies_in(part, value):
    if isinstance(part, space.Choice):
        return value in part.choices
    low, high, step = part.low, part.high, part.step
    return low <= value <= high and not (step and (value - low) % step)


@pytest.mark.parametrize("family", space.SPACES)
def test_every_bound_and_name_is_a_valid_config_of_the_family(family):
    (name, first), *_ = space.of_family(family).items()
    middle = {field: getattr(first, field) for field in space.SPACES[family]}
    middle["dropout"] = 0.1  # no preset's, which would be called by its name
    for field, drawn in space.SPACES[family].items():
        ends = drawn.choices if isinstance(drawn, space.Choice) else (drawn.low, drawn.high)
        for value in ends:
            config = spec(family).config_of(middle | {field: value})
            assert getattr(config, field) == value
            assert (config.family, config.epochs, config.seed) == (family, 3, 1)


@pytest.mark.parametrize(
    "name", [name for family in space.SPACES for name in space.of_family(family)]
)
def test_every_preset_lies_in_its_space_and_is_the_same_network_there(name):
    variant = VARIANTS[name]
    params = spec(variant.family).params_of(variant)
    assert all(lies_in(space.SPACES[variant.family][field], each) for field, each in params.items())
    again = spec(variant.family, epochs=variant.epochs).config_of(params)
    same = {field: getattr(variant, field) for field in params if field != "variant"}
    assert {field: getattr(again, field) for field in same} == same
    assert again.variant == name


@pytest.mark.parametrize("family", space.SPACES)
def test_what_optuna_draws_lies_in_the_space(family):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        pinned = spec(family, {"batch_size": 2})
        trial = study.ask(pinned.searched)
        config = pinned.config_of(trial.params)
        assert config.batch_size == 2
        assert set(trial.params) == set(space.SPACES[family])
        parts = space.SPACES[family].items()
        assert all(lies_in(part, getattr(config, field)) for field, part in parts)


def test_an_encoder_is_not_asked_for_more_stages_than_it_has():
    deep = {"variant": "pix2pix_efficientnet", "depth": 7}
    assert spec("pix2pix").config_of(deep).depth == 5
    depths = {name: each.depth for name, each in spec("pix2pix", {"depth": 6}).presets().items()}
    assert depths == {"pix2pix": 6, "pix2pix_efficientnet": 5}


def test_a_fix_is_typed_and_not_searched():
    fix = space.parse_fix("naive", "variant=naive_deep, filters=16,learning_rate=2e-3")
    assert fix == {"variant": "naive_deep", "filters": 16, "learning_rate": 0.002}
    assert set(spec("naive", fix).searched) == {"depth", "dropout"}
    (config,) = spec("naive", fix).presets().values()
    assert (config.variant, config.filters, config.depth) == ("naive_deep", 16, 4)


def test_a_field_of_one_variant_alone_may_be_pinned_with_it():
    fix = space.parse_fix("naive", "variant=naive_efficientnet,frozen_stages=2")
    (config,) = spec("naive", fix).presets().values()
    assert (config.variant, config.frozen_stages) == ("naive_efficientnet", 2)
    with pytest.raises(ValueError, match="frozen_stages"):
        space.parse_fix("naive", "frozen_stages=2")


def test_presets_that_a_fix_makes_the_same_network_are_tried_once():
    networks = ["naive_basic", "naive_deep", "naive_efficientnet"]
    assert list(spec("naive", {"dropout": 0.1}).presets()) == networks
    fix = {"variant": "naive_dropout", "dropout": 0.1}
    assert list(spec("naive", fix).presets()) == ["naive_dropout"]


def test_without_a_fix_everything_is_searched_and_every_variant_is_tried():
    assert space.parse_fix("naive", "") == {}
    assert list(spec("naive").presets()) == list(space.of_family("naive"))


@pytest.mark.parametrize(
    ("fix", "message"),
    [
        ("filters", "`fix` cannot be read"),
        ("filters=8,filters=16", "`fix` cannot be read"),
        ("filters=3", "Expected a whole number from 4 to 256. Received: filters='3'"),
        ("l1_weight=3", "pins no such field.*Received: 'l1_weight'"),
        ("epochs=3", "pins no such field"),
        ("variant=pix2pix", "Expected naive_basic or naive_dropout or naive_deep"),
        (
            "variant=naive_deep,filters=8,depth=2,dropout=0,learning_rate=1e-3",
            "leaves nothing to search",
        ),
    ],
)
def test_a_wrong_fix_is_refused_in_a_sentence(fix, message):
    with pytest.raises(ValueError, match=message):
        space.parse_fix("naive", fix)


@pytest.mark.parametrize(
    ("family", "fix", "longest"),
    [
        ("naive", "", "naive_efficientnet"),
        ("naive", "variant=naive_basic", "naive_basic"),
        ("pix2pix", "filters=16", "pix2pix_efficientnet"),
    ],
)
def test_a_full_training_is_as_long_as_the_longest_variant_that_may_win(family, fix, longest):
    assert spec(family, space.parse_fix(family, fix)).full_epochs == VARIANTS[longest].epochs
