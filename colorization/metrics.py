"""How close colors are to the real ones.

Pictures are RGB levels 0..255, uint8 or float, (N, H, W, 3). Each function returns float64 (N,),
except `chroma_distance` and `hue_concentration`, which return one number for all pictures.
"""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from colorization.color import MAX_LEVEL

DIRECTIONS = 8  # of the slices through the plane of chroma


def psnr(real: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio over RGB in dB, higher is better; inf if identical."""
    error = np.asarray(real, "float64") - np.asarray(predicted, "float64")
    with np.errstate(divide="ignore"):
        return 10 * np.log10(MAX_LEVEL**2 / np.mean(error**2, axis=(1, 2, 3)))


def ssim(real: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the mean structural similarity over RGB, 1 if identical (Wang et al. 2004)."""
    pairs = zip(real, predicted, strict=True)
    return np.array(
        [structural_similarity(a, b, channel_axis=-1, data_range=MAX_LEVEL) for a, b in pairs]
    )


def delta_e(
    real: np.ndarray, predicted: np.ndarray, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean CIEDE2000 color difference, 0 or more, lower is better (ISO/CIE 11664-6).

    That is of all pixels, or of those with these indices, counted row by row.
    """
    return delta_e_of_pixels(real, predicted, pixels).mean(axis=1, dtype="float64")


def delta_e_of_pixels(
    real: np.ndarray, predicted: np.ndarray, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Return the CIEDE2000 color difference of each pixel, (N, P); see `delta_e`."""
    chosen = slice(None) if pixels is None else pixels
    pair = (each.reshape(len(each), -1, 3)[:, chosen] for each in (real, predicted))
    return deltaE_ciede2000(*map(_lab, pair))


def pixel_sample(size: int) -> np.ndarray:
    """Return 1,024 pixels of pictures of `size` x `size`, scattered, always the same.

    A regular grid would see only one phase of the checkerboards that networks paint.
    """
    return np.random.default_rng(0).permutation(size**2)[:1024]


def colorfulness(images: np.ndarray) -> np.ndarray:
    """Return the colorfulness of Hasler and Süsstrunk (2003): 0 is gray, photographs about 40."""
    r, g, b = np.moveaxis(np.asarray(images, "float64"), -1, 0)
    opponents = np.stack([r - g, (r + g) / 2 - b])
    spread = np.hypot(*opponents.std(axis=(2, 3)))
    offset = np.hypot(*opponents.mean(axis=(2, 3)))
    return spread + 0.3 * offset


def chroma_distance(real: np.ndarray, predicted: np.ndarray) -> float:
    """Return the distance between the distributions of predicted and real colors.

    This is the sliced Wasserstein distance (Bonneel et al. 2015) between the chroma of all pixels:
    how far the predicted chroma must be moved on average to be distributed like the real one. Dull
    colors are far, even where they are the best guess. Unlike a distance between histograms, it
    grows with the difference in color.

    Returns:
        0 for equal distributions; in units of CIELAB's a* and b*, comparable to CIEDE2000.
    """
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    pair = [_chroma_sample(each) for each in (predicted, real)]
    distances = []
    for axis in zip(np.cos(angles), np.sin(angles), strict=True):  # one by one: little memory
        ours, theirs = (np.sort(each @ axis) for each in pair)
        distances.append(np.abs(ours - theirs).mean())
    return float(np.mean(distances))


def hue_concentration(images: np.ndarray) -> float:
    """Return how much one hue prevails: 1 if all colors share it, 0 if none does.

    This is the length of the mean vector (a*, b*) of all pixels over the mean length of these
    vectors (directional statistics, Mardia and Jupp 2000); 1 for gray pictures.
    """
    chroma = _chroma_sample(images)
    length = np.hypot(*chroma.T).sum()
    return float(np.hypot(*chroma.sum(axis=0)) / length) if length else 1.0


def _chroma_sample(images: np.ndarray) -> np.ndarray:
    """Return a* and b* of every fourth pixel of every fourth row, (N, 2)."""
    return _lab(np.asarray(images)[:, ::4, ::4])[..., 1:].reshape(-1, 2)


def _lab(images: np.ndarray) -> np.ndarray:
    return rgb2lab(np.asarray(images, "float32") / MAX_LEVEL)
