"""What fools a single figure meets the real gate: it may be nobody's champion."""

import dataclasses
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from keras import layers

from colorization import charts, color, evaluation, metrics
from colorization.config import VARIANTS
from colorization.errors import GateError
from colorization.registry import lookup, promotion
from colorization.training import train
from tests.networks import log_network, memory, with_chroma

# Each test exports networks and logs them.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("active_store")]


@pytest.fixture
def splits(small_splits):
    return small_splits


def recalling(splits, share=1.0, channels=1):
    """A colorizer that is right about the test pictures, but paler."""
    images = splits.test.images
    return memory(images, share * color.chroma(images), channels)


def served_run(family="naive"):
    found = lookup.find_champion(family)
    return found and found[1].run.info.run_id


def random_chroma(splits):
    """About the colors that there are, anywhere."""
    chroma = color.chroma(splits.test.images).reshape(-1, 2)
    kernel = keras.initializers.RandomNormal(stddev=0.1, seed=0)

    def planes(luma):
        phase = layers.Conv2D(2, 3, padding="same", kernel_initializer=kernel)(luma)
        return keras.ops.sin(20 * phase) * chroma.std(axis=0) + chroma.mean(axis=0)

    return with_chroma(planes, channels=3, size=32)


def shuffled_chroma(splits):
    """Each picture in the colors of another one, in another order than the baseline's."""
    images = splits.test.images
    order = evaluation.partners(len(images))
    return memory(images, color.chroma(images[order[order]]), channels=3)


@pytest.mark.parametrize("network", [random_chroma, shuffled_chroma])
def test_real_colors_in_wrong_places_are_refused_by_the_figure(network, splits):
    candidate = log_network(network(splits), splits, "pix2pix")
    for baseline in ("_gray", "_mean_chroma"):  # which once were all that it had to beat
        assert candidate.score() < candidate.score(baseline)
    assert candidate.collapse == ""
    with pytest.raises(
        GateError, match="better than shuffled chroma: test [a-z_]+ [0-9.]+ against"
    ):
        promotion.register(candidate)
    assert mlflow.MlflowClient().search_registered_models() == []


def test_hardly_better_than_shuffled_is_chance(splits):
    """Some shuffles are better than others: here one picture is right by luck."""
    images = splits.test.images
    order = evaluation.partners(len(images))
    found = metrics.delta_e(images, evaluation.baselines(images, np.zeros(2))["shuffled"])
    order[found.argmin()] = found.argmin()
    network = memory(images, color.chroma(images[order]), channels=3)
    candidate = log_network(network, splits, "pix2pix")
    for baseline in evaluation.BASELINES:
        assert candidate.score() < candidate.score(f"_{baseline}")
    with pytest.raises(GateError, match="Hardly better than shuffled chroma: test delta_e"):
        promotion.register(candidate)


def test_one_hue_is_refused_by_its_figure(splits):
    def planes(luma):
        return luma * np.array([-0.15, 0.3], "float32")

    candidate = log_network(with_chroma(planes, size=32), splits)
    assert candidate.collapse
    with pytest.raises(GateError, match="No better than .*: test delta_e [0-9.]+ against [0-9.]+"):
        promotion.register(candidate)
    assert served_run() is None


def test_a_tint_that_beats_the_baselines_is_a_challenger_at_best(splits):
    tint = evaluation.mean_chroma(splits.test.images)
    candidate = log_network(with_chroma(lambda luma: 0 * luma + tint, size=32), splits)
    version, alias = promotion.register(candidate)
    assert (alias, served_run()) == ("challenger", None)
    hue = candidate.tested["test_hue_concentration"]
    assert f"Collapsed, all is sepia: test hue_concentration {hue:.4f}" in version.tags["gate"]


def collapsed(splits):
    """The best that one hue can do: more of it, or less, in the right places."""
    chroma = color.chroma(splits.test.images)
    hue = chroma.mean(axis=(0, 1, 2))
    hue /= np.hypot(*hue)
    return memory(splits.test.images, np.maximum(chroma @ hue, 0)[..., None] * hue)


def test_a_collapsed_network_does_not_replace_a_worse_one_that_has_not_and_gives_way_to_it(splits):
    sepia = log_network(collapsed(splits), splits)
    pale = log_network(recalling(splits, 0.3), splits)
    assert sepia.collapse and sepia.score() < pale.score()
    assert promotion.register(pale)[1] == "champion"
    version, alias = promotion.register(sepia)
    assert (alias, served_run()) == ("challenger", pale.run.info.run_id)
    assert f"Collapsed, all is {sepia.collapse}: test hue_concentration" in version.tags["gate"]
    promotion.register(sepia, force=True)  # as an earlier release would have done
    again = log_network(recalling(splits, 0.3), splits)
    assert promotion.register(again)[1] == "champion"


@pytest.mark.slow  # trains
def test_an_under_trained_network_is_refused_by_its_figure(splits):
    config = dataclasses.replace(VARIANTS["naive_basic"], filters=4, epochs=1, head="rgb", size=32)
    candidate = log_network(train.train(config, splits).colorizer, splits)
    figures = f"{candidate.score():.4f} against {candidate.score('_gray'):.4f}"
    with pytest.raises(GateError, match=f"No better than plain gray: test delta_e {figures}"):
        promotion.register(candidate)


def test_a_test_on_few_pictures_replaces_none_on_more(splits):
    champion = log_network(recalling(splits, 0.5), dataclasses.replace(splits, kind="painted"))
    promotion.register(champion)  # and would give way to any photograph
    test = splits.test
    one = dataclasses.replace(
        test, images=test.images[:1], paths=test.paths[:1], species=test.species[:1]
    )
    few = dataclasses.replace(splits, test=one, digest="1" * 32)
    candidate = log_network(recalling(splits), few)
    version, alias = promotion.register(candidate)
    assert (alias, served_run()) == ("challenger", champion.run.info.run_id)
    assert f"Tested on 1 pictures, the champion of run {served_run()} on" in version.tags["gate"]


def as_logged_before_shuffled(candidate):
    """Log what an earlier release did."""
    for name, value in candidate.tested.items():
        if not name.endswith("_shuffled"):
            mlflow.MlflowClient().log_metric(candidate.run.info.run_id, name, value)
    Path(candidate.run.info.artifact_uri, charts.SCORES_FILE).unlink()
    return lookup.find(candidate.run.info.run_id)


def test_runs_from_before_shuffled_are_trained_again_but_go_on_serving(splits, active_store):
    champion = log_network(recalling(splits, 0.6), splits)
    promotion.register(champion)
    other = log_network(recalling(splits), splits)
    as_logged_before_shuffled(champion)
    old = as_logged_before_shuffled(other)
    with pytest.raises(GateError, match="did not test delta_e beside .*shuffled.*train it again"):
        promotion.register(old)
    with pytest.raises(GateError, match="No finished run was tested by delta_e beside all"):
        lookup.find_best("naive")
    assert served_run() == champion.run.info.run_id
    worse, better = (log_network(recalling(splits, share), splits) for share in (0.4, 0.8))
    assert promotion.register(worse)[1] == "challenger"
    assert promotion.register(better)[1] == "champion"
