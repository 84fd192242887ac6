"""How near colors are to the real ones: arrays in, one number per picture out.

Pictures are RGB levels 0..255, uint8 or float, (N, H, W, 3); each function returns float64 (N,),
but for `chroma_distance` and `hue_concentration`, which look at all pictures at once.
"""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from colorization.color import MAX_LEVEL

DIRECTIONS = 8  # of the slices through the plane of chroma


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


def chroma_distance(real, predicted):
    """Return how far the predicted colors lie from the real ones, wherever in the pictures.

    The sliced Wasserstein distance (Bonneel et al. 2015) between the chroma of all pixels of all
    pictures: how far it would have to be moved on average to be distributed as the real one. Dull
    colors are far, however well they are guessed; unlike a distance of histograms it knows how far.

    Returns:
        A float in units of CIELAB's a* and b*, as CIEDE2000's about; 0 for the same distribution.
    """
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    axes = [np.cos(angles), np.sin(angles)]
    ours, theirs = (np.sort(_chroma_sample(each) @ axes, axis=0) for each in (predicted, real))
    return float(np.abs(ours - theirs).mean())


def hue_concentration(images):
    """Return how far all colors of all pictures are of one hue: 1 if they are, 0 if none prevails.

    The length of the mean of all pixels' vectors (a*, b*) over the mean of their lengths, as
    directional statistics have it (Mardia and Jupp 2000); 1 for gray pictures.
    """
    chroma = _chroma_sample(images)
    length = np.hypot(*chroma.T).sum()
    return float(np.hypot(*chroma.sum(axis=0)) / length) if length else 1.0


def _chroma_sample(images):
    """Return a* and b* of every fourth pixel of every fourth row, (N, 2)."""
    return _lab(np.asarray(images)[:, ::4, ::4])[..., 1:].reshape(-1, 2)


def _lab(images):
    return rgb2lab(np.asarray(images, "float32") / MAX_LEVEL)
