"""Tells a gray picture, and one of a single tone, from one in color.

Sepia prints, yellowed scans and cyanotypes have one hue, and mostly its strength follows from the
luma. The thresholds were measured on 2,556 photographs of birds, of which eight pass for toned
(those of no color of their own, before a plain ground), and on toned copies of some, as JPEG of
quality 60 to 95.
"""

import numpy as np
from PIL import Image

from colorization import color

GRAY = "gray already"
TONED = "gray but for a single tone, as in sepia and yellowed prints"

# A picture is gray if hardly any pixel is this far from the gray axis in the CbCr plane (0..181).
# In gray scans kept as color JPEG one in a hundred lies beyond 2 at the most; in the grayest
# color photograph measured, a crow on snow, one in a hundred beyond 6.3.
_GRAY_CHROMA = 4
_COLORED_SHARE = 0.01

_SIDE = 32  # pixels; JPEG smears and blots color over a few of those of 128
_INNER = slice(4, 28)  # without a border of white, or of other paper
_KNOTS = (0.25, 0.5, 0.7, 0.85)  # of the luma; what is clipped has another hue
_OPPOSITE = -2.5  # of chroma along the hue, so much the other way


def find_tone(image: Image.Image) -> str:
    """Return `GRAY` or `TONED`, or an empty text for a picture in color.

    It is RGB, a square whose side is a multiple of 32, as in training at the default size.
    """
    chroma = color.chroma(np.asarray(image)[::2, ::2])
    if (np.square(chroma).sum(axis=-1) >= _GRAY_CHROMA**2).mean() < _COLORED_SHARE:
        return GRAY
    small = np.asarray(image, np.float32)  # its means are not rounded
    small = small.reshape(_SIDE, image.height // _SIDE, _SIDE, -1, 3).mean(axis=(1, 3))
    luma, chroma = small @ color.LUMA / 255, color.chroma(small)
    flat = chroma.reshape(-1, 2)
    across, along = np.moveaxis(chroma @ np.linalg.eigh(flat.T @ flat)[1], -1, 0)
    along = along if along.sum() > 0 else -along
    strength = along.mean()
    if np.quantile(along, 0.02) < _OPPOSITE:
        return ""
    off_hue = _residuals(luma, across, 0.9)
    off_tone = _residuals(luma[_INNER, _INNER], along[_INNER, _INNER], 0.75)
    is_tone = np.quantile(off_hue, 0.95) < 0.6 + 0.1 * strength
    follows_luma = np.quantile(off_tone, 0.9) < 1 + 0.1 * strength
    # Stains and edges that have browned differ in strength, but less in hue.
    cb, cr = flat.mean(axis=0)
    is_brown = -10 < np.degrees(np.arctan2(cr, -cb)) < 50  # yellow to brown, as paper becomes
    is_paper = np.quantile(off_hue, 0.99) < 1.8 + 0.05 * strength and is_brown
    mostly_follows = np.median(off_tone) < 2
    return TONED if (is_tone and follows_luma) or (is_paper and mostly_follows) else ""


def _residuals(luma: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """Fit a curve over the luma, 0..1, to values, and return how far they are from it.

    It is fitted to a share of them; the others are taken for spots.
    """
    level, target = luma.ravel(), values.ravel()
    terms = [level**power for power in range(5)] + [np.maximum(level - at, 0) for at in _KNOTS]
    design = np.stack(terms, axis=1)
    off = np.zeros(target.size)
    for _ in range(4):
        kept = off <= np.quantile(off, share)
        fitted = np.linalg.lstsq(design[kept], target[kept])[0]
        off = np.abs(target - design @ fitted)
    return off
