"""Scores of colors: what they say of real ones, and the color that is read from them."""

import numpy as np
import pytest

from colorization import color
from colorization.models.color_bins import COLORS, cross_entropy, likely_color


def painted(*colors):
    """Return signed RGB (1, 8, 8, 3), whose left half is of one chroma and its right of another."""
    chroma = np.repeat(np.array(colors, "float32"), 4, axis=0)
    levels = np.concatenate([np.full((8, 1), 128, "float32"), chroma], axis=1)
    return color.to_signed(np.broadcast_to(levels @ color.YCBCR_TO_RGB, (1, 8, 8, 3)))


def scores(size=2, **probabilities):
    """Return the logarithms of probabilities, the same for all pixels: `at_10_20=0.5`."""
    each = np.full(len(COLORS), 1e-6, "float32")
    for name, probability in probabilities.items():
        color = [float(number) for number in name.removeprefix("at_").split("_")]
        each[(COLORS == color).all(axis=1)] = probability
    return np.broadcast_to(np.log(each), (1, size, size, len(COLORS)))


@pytest.mark.parametrize("size", [2, 8])
def test_cross_entropy_is_that_of_each_real_color(size):
    found = np.asarray(
        cross_entropy(
            painted((10, 20), (0, 0)), scores(size, at_10_20=0.5, at_0_0=0.25, at_50_0=0.25)
        )
    )
    assert found.shape == (1, size, size)
    np.testing.assert_allclose(found[..., : size // 2], np.log(2), rtol=1e-3)
    np.testing.assert_allclose(found[..., size // 2 :], np.log(4), rtol=1e-3)


def test_a_color_between_others_is_shared_among_them_and_one_out_of_reach_is_the_last():
    even = scores(at_0_0=0.25, at_10_0=0.25, at_0_10=0.25, at_10_10=0.25)
    found = np.asarray(cross_entropy(painted((4, 0), (5, 5)), even))
    np.testing.assert_allclose(found, np.log(4), rtol=1e-3)
    found = np.asarray(cross_entropy(painted((4, 0), (4, 0)), scores(at_0_0=0.9, at_10_0=0.1)))
    np.testing.assert_allclose(found, -0.6 * np.log(0.9) - 0.4 * np.log(0.1), rtol=1e-3)
    found = np.asarray(cross_entropy(painted((99, -70), (99, -70)), scores(**{"at_60_-60": 1.0})))
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_the_likely_color_is_the_certain_one_and_leans_to_the_likelier_of_two():
    def likely(**probabilities):
        return np.asarray(likely_color(scores(**probabilities)))[0, 0, 0] * color.HALF_RANGE

    np.testing.assert_allclose(likely(at_20_10=1.0), (20, 10), atol=1e-3)
    np.testing.assert_allclose(likely(at_20_0=0.5, at_0_40=0.5), (10, 20), atol=1e-3)
    blue, red = likely(at_20_0=0.7, at_0_40=0.3)
    assert 14 < blue < 20 and 0 < red < 12  # the plain mean would be (14, 12)
    np.testing.assert_allclose(
        np.asarray(likely_color(np.zeros((1, 2, 2, len(COLORS))))), 0, atol=1e-6
    )
