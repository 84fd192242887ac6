import numpy as np
import pytest
from skimage.color import lab2rgb

from colorization import metrics

RNG = np.random.default_rng(0)
REAL = RNG.integers(40, 216, (3, 32, 32, 3)).astype("uint8")


def test_psnr_of_a_known_error_is_the_textbook_value():
    # An error of 5 levels everywhere: 10 log10(255^2 / 25) dB.
    np.testing.assert_allclose(metrics.psnr(REAL, REAL + 5), 34.1514, atol=1e-3)


def test_psnr_of_identical_pictures_is_infinite():
    assert np.isinf(metrics.psnr(REAL, REAL)).all()


def test_ssim_is_one_for_identical_pictures_and_falls_with_noise():
    np.testing.assert_allclose(metrics.ssim(REAL, REAL), 1)
    noisy = np.clip(REAL + RNG.normal(0, 30, REAL.shape), 0, 255).astype("uint8")
    assert (metrics.ssim(REAL, noisy) < 0.95).all()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # White against black is a difference of 100 by definition of CIELAB's lightness.
        ((255, 255, 255), (0, 0, 0), 100.0),
        ((120, 60, 200), (120, 60, 200), 0.0),
    ],
)
def test_delta_e_of_flat_pictures(a, b, expected):
    first, second = (np.full((1, 4, 4, 3), color, "uint8") for color in (a, b))
    np.testing.assert_allclose(metrics.delta_e(first, second), expected, atol=0.01)


def test_colorfulness_of_gray_is_zero_and_of_saturated_colors_is_large():
    gray = np.repeat(REAL[..., :1], 3, axis=-1)
    np.testing.assert_allclose(metrics.colorfulness(gray), 0, atol=1e-9)
    stripes = np.zeros((1, 4, 4, 3), "uint8")
    stripes[:, :, :2, 0] = stripes[:, :, 2:, 2] = 255
    # By hand: R-G is 255 or 0, (R+G)/2-B is 127.5 or -255.
    spread = np.hypot(127.5, 191.25)
    offset = np.hypot(127.5, -63.75)
    np.testing.assert_allclose(metrics.colorfulness(stripes), spread + 0.3 * offset)


def test_chroma_distance_sees_which_colors_there_are_and_not_where():
    elsewhere = REAL[::-1, ::-1, ::-1]
    large = np.repeat(np.repeat(REAL, 4, axis=1), 4, axis=2)
    shuffled = np.repeat(np.repeat(elsewhere, 4, axis=1), 4, axis=2)
    assert metrics.chroma_distance(large, shuffled) == pytest.approx(0, abs=1e-6)
    assert metrics.delta_e(large, shuffled).min() > 10


def test_chroma_distance_of_two_flat_colors_is_their_distance_seen_from_all_sides():
    # Equal but for 10 units of b*: |10 sin(angle)| averages 20 / pi over all directions.
    flat = [np.full((1, 8, 8, 3), lab2rgb([50.0, 20.0, b]) * 255) for b in (10.0, 20.0)]
    assert metrics.chroma_distance(*flat) == pytest.approx(20 / np.pi, rel=0.02)


def test_chroma_distance_grows_as_colors_fade():
    gray = REAL.mean(axis=-1, keepdims=True)
    faded = [metrics.chroma_distance(REAL, gray + k * (REAL - gray)) for k in (1, 0.7, 0.4, 0)]
    assert faded == sorted(faded) and faded[0] == 0


def test_each_picture_gets_its_own_number():
    worse = REAL.copy()
    worse[1] = 0
    for metric in (metrics.psnr, metrics.ssim, metrics.delta_e):
        values = metric(REAL, worse)
        assert values.shape == (3,)
        assert values[0] == values[2] != values[1]


def test_the_hue_concentration_of_one_hue_and_of_opposite_ones():
    def flat(*colors):
        return np.array(colors, "uint8")[:, None, None].repeat(8, 1).repeat(8, 2)

    red, dark_red, teal = (200, 100, 100), (150, 50, 60), (70, 152, 152)
    assert metrics.hue_concentration(flat(red, dark_red)) > 0.98
    assert metrics.hue_concentration(flat(red, teal)) < 0.3
    assert metrics.hue_concentration(flat((90, 90, 90))) == pytest.approx(1, abs=1e-2)
