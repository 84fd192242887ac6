"""Scores of a colorizer beside two baselines on the same pictures; the families' criteria."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from colorization import color, metrics


class Criterion(NamedTuple):
    """The metric that decides on the best epoch, trial, run and version of a family."""

    metric: str
    higher_is_better: bool

    def better(self, a, b):
        """Tell whether score `a` is better than score `b`."""
        return a > b if self.higher_is_better else a < b


# Accuracy alone crowns sepia, and a GAN is trained to be lively: its colors are also to be
# distributed as real ones are. A naive network is as exact as it can be.
CRITERIA = {
    "naive": Criterion("delta_e", higher_is_better=False),
    "pix2pix": Criterion("color_error", higher_is_better=False),
}

# Of 230 photographs the hue concentration is 0.65; as naive networks color them, 0.97 to 1.00,
# nearly all in sepia, or about 0.8 around known encoders; as GANs do, 0.56 to 0.81.
LEAST_VARIETY = 0.25
GRAY_COLORFULNESS, LIVELY_COLORFULNESS = 0.1, 0.7

SCORES = {  # metric -> its heading in a table, and its digits
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "delta_e": ("CIEDE2000", ".2f"),
    "colorfulness": ("colorfulness", ".2f"),
}
SCORES_TOGETHER = SCORES | {"color_error": ("color error", ".2f")}  # of `measure`
BASELINES = {"gray": "plain gray", "mean_chroma": "mean chroma"}  # name -> title


def headings(shown=SCORES):
    """Return the headings of a table of scores."""
    return [heading for heading, _ in shown.values()]


def cells(means, prefix="", suffix="", shown=SCORES):
    """Return the scores as texts for a table, from the values that have their prefixed names."""
    return [f"{means[prefix + name + suffix]:{digits}}" for name, (_, digits) in shown.items()]


def scores(real, predicted):
    """Return the metrics of each picture.

    Args:
        real: RGB levels 0..255, (N, S, S, 3), uint8 or float.
        predicted: the same shape and range.

    Returns:
        A DataFrame of N rows: psnr (dB), ssim, delta_e (CIEDE2000), colorfulness and
        real_colorfulness (Hasler and Süsstrunk).
    """
    return pd.DataFrame(
        {
            "psnr": metrics.psnr(real, predicted),
            "ssim": metrics.ssim(real, predicted),
            "delta_e": metrics.delta_e(real, predicted),
            "colorfulness": metrics.colorfulness(predicted),
            "real_colorfulness": metrics.colorfulness(real),
        }
    )


def summary(table):
    """Average the rows of `scores`; colorfulness becomes a ratio: predicted over real."""
    means = table.mean(numeric_only=True).to_dict()
    means["colorfulness"] /= means.pop("real_colorfulness")
    return means


def measure(real, predicted, table=None):
    """Return the scores of pictures together: `summary`, and what no single picture can tell.

    Args:
        real: RGB levels 0..255, (N, S, S, 3), uint8 or float.
        predicted: the same shape and range.
        table: `scores(real, predicted)`, if they are known already.

    Returns:
        A dict of floats: `summary` of `scores`; `chroma_distance` and, of the predicted ones,
        `hue_concentration`, see `metrics`; `color_error`, the sum of delta_e and chroma_distance,
        both distances in CIELAB: how wrong colors are where they are, and how unlike real ones
        wherever they are.
    """
    means = summary(scores(real, predicted) if table is None else table)
    means["chroma_distance"] = metrics.chroma_distance(real, predicted)
    means["color_error"] = means["delta_e"] + means["chroma_distance"]
    means["hue_concentration"] = metrics.hue_concentration(predicted)
    return means


def collapse(means, real):
    """Name the way in which a colorizer has collapsed, or return an empty text.

    Args:
        means: `measure` of what it has predicted.
        real: RGB levels 0..255, (N, S, S, 3), uint8 or float; of different birds.

    Returns:
        `gray`: hardly any color; `sepia`: dull colors, all of one hue; `one hue`: the same in
        lively ones.
    """
    if means["colorfulness"] < GRAY_COLORFULNESS:
        return "gray"
    variety = 1 - means["hue_concentration"]
    if variety > LEAST_VARIETY * (1 - metrics.hue_concentration(real)):
        return ""
    return "sepia" if means["colorfulness"] < LIVELY_COLORFULNESS else "one hue"


def mean_chroma(images):
    """Return the mean Cb and Cr, float32 (2,), of RGB levels (N, S, S, 3); memory stays small."""
    return np.mean([color.chroma(image).mean(axis=(0, 1)) for image in images], axis=0)


def baselines(gray, chroma):
    """Return what colors a picture without a network: nothing, and the training set's mean.

    Args:
        gray: levels (N, S, S, 1).
        chroma: Cb and Cr, (2,), from `mean_chroma` of the training pictures.

    Returns:
        A dict of uint8 (N, S, S, 3): `gray` and `mean_chroma`.
    """
    return {"gray": color.join(gray, np.zeros(2)), "mean_chroma": color.join(gray, chroma)}


class Evaluation(NamedTuple):
    """A colorizer's test: a row of `pictures` each, the means `metrics`, `collapse` by its name."""

    pictures: pd.DataFrame
    metrics: dict
    predicted: np.ndarray
    collapse: str

    def per_species(self):
        """Return the means of each species as a DataFrame, with the number of its pictures."""
        groups = self.pictures.groupby("species")
        rows = [{"species": name, "pictures": len(rows), **summary(rows)} for name, rows in groups]
        return pd.DataFrame(rows)


def evaluate(colorize, split, channels, chroma):
    """Score a colorizer on a split, next to plain gray and mean chroma on the same pictures.

    Args:
        colorize: function of gray levels (N, S, S, channels), float32, to RGB levels (N, S, S, 3).
        split: pictures with `images`, `species`, `paths` and a `name`, which prefixes the metrics.
        channels: of the colorizer's input.
        chroma: the training set's mean Cb and Cr, (2,).

    Returns:
        An `Evaluation`, its metrics named `test_psnr`, `test_psnr_gray`, `test_psnr_mean_chroma`
        and so on; `predicted` is uint8 (N, S, S, 3).
    """
    real = np.asarray(split.images)
    predicted = color.to_uint8(colorize(color.gray_input(real, channels)))
    pictures = scores(real, predicted)
    pictures.insert(0, "path", split.paths)
    pictures.insert(1, "species", split.species)
    measured = measure(real, predicted, pictures)
    means = {f"{split.name}_{name}": value for name, value in measured.items()}
    for baseline, plain in baselines(color.luma(real), chroma).items():
        table = scores(real, plain)
        pictures[[f"{name}_{baseline}" for name in ("psnr", "delta_e")]] = table[
            ["psnr", "delta_e"]
        ]
        for name, value in measure(real, plain, table).items():
            means[f"{split.name}_{name}_{baseline}"] = value
    return Evaluation(pictures, means, predicted, collapse(measured, real))
