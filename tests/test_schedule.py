"""Which epochs are for what, without any training."""

import dataclasses

import pytest

from colorization.config import VARIANTS
from colorization.training import schedule

ALONE, FINETUNING, ADVERSARIAL = "alone", "fine-tuning", "adversarial"


def named(phase):
    """Return what a phase is for."""
    return ADVERSARIAL if phase.adversarial else FINETUNING if phase.finetuning else ALONE


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        ("naive_basic", {}, {ALONE: 12}),
        ("naive_efficientnet", {}, {ALONE: 5, FINETUNING: 7}),
        ("naive_efficientnet", {"epochs": 30}, {ALONE: 12, FINETUNING: 18}),
        ("naive_efficientnet", {"epochs": 1}, {ALONE: 1}),
        ("naive_efficientnet", {"finetune_ratio": 0}, {ALONE: 12}),
        ("naive_efficientnet", {"finetune_ratio": 1}, {FINETUNING: 12}),
        ("naive_efficientnet", {"frozen_stages": 5}, {ALONE: 12}),
        ("naive_efficientnet", {"frozen_stages": 0}, {ALONE: 5, FINETUNING: 7}),
        ("naive_efficientnet", {"encoder_weights": "none"}, {ALONE: 12}),
        ("pix2pix", {}, {ALONE: 6, ADVERSARIAL: 6}),
        ("pix2pix", {"generator_only_ratio": 0}, {ADVERSARIAL: 12}),
        ("pix2pix_efficientnet", {}, {ALONE: 4, FINETUNING: 5, ADVERSARIAL: 3}),
        ("pix2pix_efficientnet", {"epochs": 36}, {ALONE: 12, FINETUNING: 16, ADVERSARIAL: 8}),
        ("pix2pix_efficientnet", {"epochs": 2}, {ALONE: 1, ADVERSARIAL: 1}),
        ("pix2pix_efficientnet", {"generator_only_ratio": 0}, {ADVERSARIAL: 12}),
        ("pix2pix_efficientnet", {"generator_only_ratio": 1}, {ALONE: 5, FINETUNING: 7}),
    ],
)
def test_each_epoch_is_for_one_thing(variant, changes, expected):
    config = dataclasses.replace(VARIANTS[variant], **{"epochs": 12} | changes)
    phases = schedule.phases(config)
    assert {named(each): len(each.epochs) for each in phases} == expected
    assert [epoch for each in phases for epoch in each.epochs] == list(range(config.epochs))


def test_each_phase_has_its_own_rates():
    config = dataclasses.replace(
        VARIANTS["pix2pix_efficientnet"],
        generator_only_learning_rate=0.5,
        finetune_learning_rate=0.25,
        generator_learning_rate=0.125,
        discriminator_learning_rate=0.0625,
    )
    rates = {named(each): tuple(each.rates.values()) for each in schedule.phases(config)}
    assert rates == {ALONE: (0.5, 0.0), FINETUNING: (0.25, 0.0), ADVERSARIAL: (0.125, 0.0625)}
