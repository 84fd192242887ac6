"""How near colors are to the real ones: arrays in, one number per picture out.

Pictures are RGB levels 0..255, uint8 or float, (N, H, W, 3); each function returns float64 (N,).
"""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from colorization.pixels import MAX_LEVEL


def psnr(real, predicted):
    """Return the peak signal-to-noise ratio over RGB in dB, higher is better; inf if identical."""
    error = np.asarray(real, "float64") - np.asarray(predicted, "float64")
    with np.errstate(divide="ignore"):
        return 10 * np.log10(MAX_LEVEL**2 / np.mean(error**2, axis=(1, 2, 3)))


def ssim(real, predicted):
    """Return the mean structural similarity over RGB, 1 if identical (Wang et al. 2004)."""
    pairs = zip(real, predicted, strict=True)
    return np.array(
        [structural_similarity(a, b, channel_axis=-1, data_range=MAX_LEVEL) for a, b in pairs]
    )


def delta_e(real, predicted):
    """Return the mean CIEDE2000 color difference, 0 or more, lower is better (ISO/CIE 11664-6)."""
    difference = deltaE_ciede2000(_lab(real), _lab(predicted))
    return difference.mean(axis=(1, 2), dtype="float64")


def colorfulness(images):
    """Return the colorfulness of Hasler and Süsstrunk (2003): 0 is gray, photographs about 40."""
    r, g, b = np.moveaxis(np.asarray(images, "float64"), -1, 0)
    opponents = np.stack([r - g, (r + g) / 2 - b])
    spread = np.hypot(*opponents.std(axis=(2, 3)))
    offset = np.hypot(*opponents.mean(axis=(2, 3)))
    return spread + 0.3 * offset


def _lab(images):
    return rgb2lab(np.asarray(images, "float32") / MAX_LEVEL)
