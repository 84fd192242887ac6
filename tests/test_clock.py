"""What a sweep says of all that it trains, and how long it will take; no network is built."""

import datetime
import time

import optuna
import pytest

from colorization import plan
from sweeps.space import Spec
from sweeps.study import Clock, finals

PICTURES, MINUTES = 384, 60
SPEC = Spec("naive", "delta_e", {}, epochs=8, seed=0)
FULL = Spec("naive", "delta_e", {}, epochs=30, seed=0)


@pytest.fixture
def study():
    return optuna.create_study()


def finish(study, variant, value=9.0, slowness=1.0, **changes):
    """Add a finished trial of a preset that took so many times as long as expected."""
    config = SPEC.presets()[variant]
    begin = datetime.datetime(2026, 11, 28)
    took = slowness * plan.seconds(config, PICTURES)
    params = SPEC.params_of(config) | changes
    trial = optuna.trial.create_trial(
        params=params, distributions=SPEC.searched, value=value, intermediate_values={8: value}
    )
    trial.datetime_start, trial.datetime_complete = begin, begin + datetime.timedelta(seconds=took)
    study.add_trial(trial)
    return study.trials[-1]


def seconds_of(*configs):
    return sum(plan.seconds(config, PICTURES) for config in configs)


def test_the_plan_counts_trials_presets_and_winner(study):
    text = Clock(2, 30, PICTURES).plan(study, SPEC)
    for part in ("2 trials of 8 epochs", ", ".join(SPEC.presets()), "winner"):
        assert part in text
    assert "30 epochs each" in text and "two cores" in text
    assert "30 epochs" not in Clock(2, 0, PICTURES).plan(study, SPEC)


def test_the_time_left_is_of_all_and_follows_what_the_trials_took(study):
    finish(study, "naive_basic", slowness=3)
    clock = Clock(3, 30, PICTURES)
    trials, presets = SPEC.presets().values(), FULL.presets().values()
    expected = 3 * (2 * seconds_of(*trials) / len(trials) + seconds_of(*presets))
    assert clock.left(study, SPEC) == plan.duration(expected)
    finish(study, "naive_deep", slowness=3)
    finish(study, "naive_efficientnet", slowness=3)
    assert clock.left(study, SPEC) == plan.duration(3 * seconds_of(*presets))
    assert Clock(3, 0, PICTURES).left(study, SPEC) == "0 s"


def test_no_trial_begins_that_leaves_no_time_for_the_winner(study):
    now = time.monotonic()
    trial = seconds_of(*SPEC.presets().values()) / len(SPEC.presets())
    rest = seconds_of(*FULL.presets().values())
    clocks = [Clock(9, 30, PICTURES, now + each) for each in (rest, trial + rest + MINUTES)]
    assert [each.allows_another(study, SPEC) for each in clocks] == [True, True]  # the first
    finish(study, "naive_basic")
    assert [each.allows_another(study, SPEC) for each in clocks] == [False, True]


def test_a_winner_that_is_a_preset_is_trained_once_and_another_one_besides(study):
    finish(study, "naive_deep")
    assert [each.variant for each in finals(study, FULL)] == [
        "naive_deep",
        "naive_basic",
        "naive_dropout",
        "naive_efficientnet",
    ]
    finish(study, "naive_deep", value=1.0, dropout=0.4)
    winner, *others = finals(study, FULL)
    assert (winner.variant, winner.dropout, len(others)) == ("naive_deep", 0.4, 4)


def test_a_trial_of_naive_basic_is_called_so(study):
    preset = finish(study, "naive_basic")
    assert preset.params["variant"] == "naive_dropout"  # as it is drawn
    assert SPEC.config_of(preset.params).label == "naive_basic"
    assert SPEC.config_of(preset.params | {"dropout": 0.2}).label == "naive_dropout"
