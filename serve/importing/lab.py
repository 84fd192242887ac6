"""CIE L*a*b* of sRGB (IEC 61966-2-1, white D65), of arrays and of tensors in a network's graph.

The numbers are those of `skimage.color`, with which most networks of a and b were trained.
"""

from typing import Any

import numpy as np
from keras import ops

from colorization.color import MAX_LEVEL

WHITE = np.array([0.95047, 1.0, 1.08883], "float32")  # D65, 2 degrees
RGB_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ).T.astype("float32")


def lightness(gray: Any) -> Any:
    """Return L*, 0..100, of gray levels 0..255 of any shape."""
    signal = gray / MAX_LEVEL
    linear = ops.where(signal > 0.04045, ((signal + 0.055) / 1.055) ** 2.4, signal / 12.92)
    root = ops.where(linear > 0.008856, linear ** (1 / 3), 7.787 * linear + 16 / 116)
    return 116 * root - 16


def to_levels(light: Any, a_b: Any) -> Any:
    """Join L* (..., 1) and a*, b* (..., 2) to RGB levels (..., 3), not clipped above 255."""
    y = (light + 16) / 116
    roots = ops.concatenate([y + a_b[..., :1] / 500, y, y - a_b[..., 1:] / 200], axis=-1)
    xyz = ops.where(roots > 0.2068966, roots**3, (roots - 16 / 116) / 7.787) * WHITE
    linear = ops.maximum(ops.matmul(xyz, XYZ_TO_RGB), 0.0)
    signal = ops.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return signal * MAX_LEVEL
