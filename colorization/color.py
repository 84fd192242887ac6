"""Gray, luma and chroma: the home of 127.5, 255 and the BT.601 weights.

`serve/pyfunc.py` is logged without this file and has a copy of the weights; a test compares.
This project has two value ranges: *levels*, 0..255 as in an image file, and *signed*, [-1, 1] as
in a network. Color planes follow JPEG's full-range YCbCr (ITU-T T.871), as Pillow computes it.
"""

from typing import Any

import numpy as np

MAX_LEVEL = 255.0
HALF_RANGE = MAX_LEVEL / 2  # 127.5

# ITU-R BT.601: luma of R, G and B.
LUMA = np.array([0.299, 0.587, 0.114], "float32")

# Rows Y, Cb, Cr; columns R, G, B; chroma without offset, in the units of its input (ITU-T T.871).
YCBCR_TO_RGB = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], "float32")
RGB_TO_CHROMA = np.linalg.inv(YCBCR_TO_RGB)[:, 1:]


def to_signed(levels: Any) -> Any:
    """Scale levels 0..255 to [-1, 1]; any shape, arrays and tensors alike."""
    return levels / HALF_RANGE - 1


def to_levels(signed: Any) -> Any:
    """Scale [-1, 1] to levels 0..255, unclipped; the inverse of `to_signed`."""
    return (signed + 1) * HALF_RANGE


def luma(images: np.ndarray) -> np.ndarray:
    """Return the BT.601 luma of RGB levels (..., 3) as float32 (..., 1), rounded to whole levels.

    Equal to Pillow's `convert("L")` up to its rounding of exact halves.
    """
    return np.round(np.asarray(images, "float32") @ LUMA)[..., None]


def gray_input(images: np.ndarray, channels: int) -> np.ndarray:
    """Return a colorizer's input for RGB levels (N, H, W, 3): luma, repeated over `channels`.

    Returns:
        float32 (N, H, W, channels), whole levels 0..255.
    """
    return np.repeat(luma(images), channels, axis=-1)


def chroma(images: np.ndarray) -> np.ndarray:
    """Return Cb and Cr of RGB levels (..., 3) as float32 (..., 2), in levels, 0 being gray."""
    return np.asarray(images, "float32") @ RGB_TO_CHROMA


def join(gray: np.ndarray, cb_cr: np.ndarray) -> np.ndarray:
    """Join luma (..., 1) and chroma (..., 2) to RGB levels (..., 3), uint8, clipped."""
    planes = np.concatenate(np.broadcast_arrays(gray, cb_cr[..., :1], cb_cr[..., 1:]), axis=-1)
    return to_uint8(planes @ YCBCR_TO_RGB)


def to_uint8(levels: np.ndarray) -> np.ndarray:
    """Round levels of any float type to uint8, clipped to 0..255."""
    return np.clip(np.round(levels), 0, MAX_LEVEL).astype("uint8")
