import numpy as np
from PIL import Image

from colorization import color
from serve import pyfunc

COLORS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")


def test_luma_is_what_pillow_calls_gray():
    gray = np.asarray(Image.fromarray(COLORS).convert("L"), "float32")[..., None]
    difference = np.abs(color.luma(COLORS) - gray)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01  # exact halves only


def test_chroma_is_what_pillow_calls_cb_and_cr():
    planes = np.asarray(Image.fromarray(COLORS).convert("YCbCr"), "float32")
    np.testing.assert_allclose(color.chroma(COLORS), planes[..., 1:] - 128, atol=1)


def test_joining_luma_and_chroma_gives_the_picture_back():
    luma = COLORS.astype("float32") @ color.LUMA
    joined = color.join(luma[..., None], color.chroma(COLORS))
    np.testing.assert_allclose(joined.astype(int), COLORS, atol=1)


def test_scaling_reaches_both_ends_and_back():
    signed = color.to_signed(np.array([0.0, 127.5, 255.0]))
    np.testing.assert_allclose(signed, [-1, 0, 1])
    np.testing.assert_allclose(color.to_levels(signed), [0, 127.5, 255])


def test_rounding_to_uint8_clips_instead_of_wrapping():
    levels = np.array([-3.0, 0.4, 0.6, 254.6, 300.0])
    np.testing.assert_array_equal(color.to_uint8(levels), [0, 0, 1, 255, 255])


def test_gray_input_repeats_luma_over_the_channels():
    gray = color.gray_input(COLORS[None], 3)
    assert gray.shape == (1, 64, 64, 3)
    assert gray.dtype == np.float32
    for plane in range(3):
        np.testing.assert_array_equal(gray[..., plane : plane + 1], color.luma(COLORS[None]))


def test_the_pyfunc_s_copy_of_the_luma_weights_is_the_same():
    np.testing.assert_array_equal(pyfunc.LUMA, color.LUMA)
