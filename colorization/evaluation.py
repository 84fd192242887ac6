"""Scores of a colorizer beside three baselines on the same pictures; the families' criteria.

Pictures are RGB levels 0..255, (N, S, S, 3), uint8 or float.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from colorization import color, metrics
from colorization.data.prepare import Split

T = TypeVar("T")


class Criterion(NamedTuple):
    """The metric that decides on the best epoch, trial, run and version of a family."""

    metric: str
    higher_is_better: bool

    def better(self, a: float, b: float) -> bool:
        """Tell whether score `a` is better than score `b`."""
        return a > b if self.higher_is_better else a < b

    def best(self, items: Iterable[T], score: Callable[[T], Any]) -> T:
        """Return the item with the best score; a score may be a tuple that settles ties."""
        return (max if self.higher_is_better else min)(items, key=score)


# Accuracy alone prefers sepia. A GAN is trained to be colorful, so its colors must also be
# distributed like real ones. A naive network can only be accurate.
CRITERIA = {
    "naive": Criterion("delta_e", higher_is_better=False),
    "pix2pix": Criterion("color_error", higher_is_better=False),
}

# The hue concentration of 230 photographs is 0.65. Naive networks reach 0.97 to 1.00 (nearly all
# sepia), or about 0.8 with a pretrained encoder; GANs 0.56 to 0.81.
LEAST_VARIETY = 0.25
GRAY_COLORFULNESS, DULL_COLORFULNESS = 0.1, 0.7

Columns = Mapping[str, tuple[str, str]]  # metric -> its heading in a table, and its digits
SCORES: Columns = {
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "delta_e": ("CIEDE2000", ".2f"),
    "colorfulness": ("colorfulness", ".2f"),
}
SCORES_TOGETHER: Columns = {**SCORES, "color_error": ("color error", ".2f")}  # of `score_set`
BASELINES = {  # name -> title
    "gray": "plain gray",
    "mean_chroma": "mean chroma",
    "shuffled": "shuffled chroma",
}
UNCERTAINTY = "uncertainty_correlation"
UNCERTAIN_PICTURES = 64  # at most, whose uncertainty is scored: some networks run twice for it
BATCH = 16  # pictures; a set of thousands is scored in little memory


def headings(shown: Columns = SCORES) -> list[str]:
    """Return the headings of a table of scores."""
    return [heading for heading, _ in shown.values()]


def cells(
    means: Mapping[str, float], prefix: str = "", suffix: str = "", shown: Columns = SCORES
) -> list[str]:
    """Return the scores named prefix + metric + suffix as the cells of a table."""
    return [f"{means[prefix + name + suffix]:{digits}}" for name, (_, digits) in shown.items()]


def score_each(
    real: np.ndarray, predicted: np.ndarray, pixels: np.ndarray | None = None
) -> pd.DataFrame:
    """Return the metrics of each picture; delta_e may be of some `pixels`, see `metrics.delta_e`.

    Returns:
        N rows: psnr (dB), ssim, delta_e (CIEDE2000), colorfulness and real_colorfulness (Hasler
        and Süsstrunk).
    """
    tables = []
    for start in range(0, len(real), BATCH):
        truth, guess = (each[start : start + BATCH] for each in (real, predicted))
        columns = {
            "psnr": metrics.psnr(truth, guess),
            "ssim": metrics.ssim(truth, guess),
            "delta_e": metrics.delta_e(truth, guess, pixels),
            "colorfulness": metrics.colorfulness(guess),
            "real_colorfulness": metrics.colorfulness(truth),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def mean_scores(table: pd.DataFrame) -> dict[str, float]:
    """Average the rows of `score_each`; colorfulness becomes a ratio: predicted over real."""
    means = table.mean(numeric_only=True).to_dict()
    means["colorfulness"] /= means.pop("real_colorfulness")
    return means


def mean_scores_by(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average the rows of `score_each` over each group, in the order of appearance."""
    rows = []
    for names, group in table.groupby(list(by), sort=False):
        keys = dict(zip(by, names, strict=True))
        rows.append(keys | {"pictures": len(group)} | mean_scores(group))
    return pd.DataFrame(rows)


def score_set(
    real: np.ndarray, predicted: np.ndarray, table: pd.DataFrame | None = None
) -> dict[str, float]:
    """Return the scores of a set of pictures; `table` is their `score_each`, if that is known.

    Returns:
        The means of `mean_scores`; `chroma_distance` and the `hue_concentration` of the predicted
        pictures, see `metrics`; `color_error`, the sum of delta_e and chroma_distance. Both are
        distances in CIELAB: how wrong the colors are in their places, and how far their
        distribution is from the real one.
    """
    means = mean_scores(score_each(real, predicted) if table is None else table)
    means["chroma_distance"] = metrics.chroma_distance(real, predicted)
    means["color_error"] = means["delta_e"] + means["chroma_distance"]
    means["hue_concentration"] = metrics.hue_concentration(predicted)
    return means


def collapse(means: Mapping[str, float], real: np.ndarray) -> str:
    """Name the way in which a colorizer has collapsed, or return an empty text.

    That is `gray`, hardly any color; `sepia`, dull colors of one hue; or `one hue`, the same in
    strong colors. `means` is `score_set` of its predictions, `real` shows different birds.
    """
    if means["colorfulness"] < GRAY_COLORFULNESS:
        return "gray"
    variety = 1 - means["hue_concentration"]
    if variety > LEAST_VARIETY * (1 - metrics.hue_concentration(real)):
        return ""
    return "sepia" if means["colorfulness"] < DULL_COLORFULNESS else "one hue"


def mean_chroma(images: np.ndarray) -> np.ndarray:
    """Return the mean Cb and Cr, float32 (2,), of RGB levels (N, S, S, 3); memory stays small."""
    return np.mean([color.chroma(image).mean(axis=(0, 1)) for image in images], axis=0)


def partners(count: int) -> np.ndarray:
    """Return for each of `count` pictures the index of another, always the same; each once."""
    order = np.random.default_rng(0).permutation(count)
    found = np.empty(count, int)
    found[order] = np.roll(order, 1)
    return found


def baselines(real: np.ndarray, chroma: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pictures that need no network, on the luma of the real ones.

    They are plain gray; the training set's mean `chroma`, Cb and Cr, (2,); and shuffled: each
    picture in the chroma of another one, so that the colors are real ones in the wrong places.

    Returns:
        uint8 (N, S, S, 3) for each key of `BASELINES`.
    """
    order = partners(len(real))
    found = {name: np.empty(real.shape, "uint8") for name in BASELINES}
    for start in range(0, len(real), BATCH):
        batch = slice(start, start + BATCH)
        gray, others = color.luma(real[batch]), real[order[batch]]
        if len(real) == 1:  # there is no other: its own chroma upside down
            others = others[:, ::-1, ::-1]
        planes = (np.zeros(2), chroma, color.chroma(others))
        for name, each in zip(BASELINES, planes, strict=True):
            found[name][batch] = color.join(gray, each)
    return found


def uncertainty_correlation(
    real: np.ndarray, predicted: np.ndarray, uncertainty: np.ndarray
) -> float:
    """Return how well uncertainty, (N, S, S, 1), tells where the colors are wrong.

    That is Spearman's rank correlation with CIEDE2000, over `metrics.pixel_sample` of all pictures
    together: 1 if the less sure color is always the one more wrong, 0 if there is no relation.
    """
    pixels = metrics.pixel_sample(real.shape[1])
    errors = metrics.delta_e_of_pixels(real, predicted, pixels)
    unsure = uncertainty.reshape(len(real), -1)[:, pixels]
    table = pd.DataFrame({"error": errors.ravel(), "uncertainty": unsure.ravel()})
    return float(np.nan_to_num(table.corr("spearman").iloc[0, 1]))  # NaN where all are equal


class Evaluation(NamedTuple):
    """The test of a colorizer: a row for each picture, the means, and its `collapse`, if any."""

    pictures: pd.DataFrame
    metrics: dict[str, float]
    predicted: np.ndarray
    collapse: str

    def per_species(self) -> pd.DataFrame:
        """Return the means of each species, with the number of its pictures."""
        return mean_scores_by(self.pictures.sort_values("species", kind="stable"), ("species",))


def evaluate(
    colorize: Callable[[np.ndarray], np.ndarray],
    split: Split,
    channels: int,
    chroma: np.ndarray,
    uncertainty: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Evaluation:
    """Score a colorizer on a split, next to the baselines on the same pictures.

    Args:
        colorize: function of gray levels (N, S, S, channels), float32, to RGB levels (N, S, S, 3);
            N is at most `BATCH`.
        split: its name prefixes the metrics.
        channels: of the colorizer's input.
        chroma: the training set's mean Cb and Cr, (2,).
        uncertainty: function of the same gray levels to (N, S, S, 1), if it is to be scored.

    Returns:
        An `Evaluation` with metrics named `test_psnr`, `test_psnr_gray`, `test_psnr_mean_chroma`
        and so on, and `test_uncertainty_correlation`; `predicted` is uint8 (N, S, S, 3).
    """
    real = np.asarray(split.images)
    predicted = np.empty(real.shape, "uint8")
    for start in range(0, len(real), BATCH):
        batch = slice(start, start + BATCH)
        predicted[batch] = color.to_uint8(colorize(color.gray_input(real[batch], channels)))
    pictures = score_each(real, predicted)
    pictures.insert(0, "path", split.paths)
    pictures.insert(1, "species", split.species)
    measured = score_set(real, predicted, pictures)
    means = {f"{split.name}_{name}": value for name, value in measured.items()}
    for baseline, plain in baselines(real, chroma).items():
        table = score_each(real, plain)
        for name in ("psnr", "delta_e"):
            pictures[f"{name}_{baseline}"] = table[name]
        for name, value in score_set(real, plain, table).items():
            means[f"{split.name}_{name}_{baseline}"] = value
    if uncertainty:
        few = slice(None, None, -(-len(real) // UNCERTAIN_PICTURES))
        unsure = uncertainty(color.gray_input(real[few], channels))
        found = uncertainty_correlation(real[few], predicted[few], unsure)
        means[f"{split.name}_{UNCERTAINTY}"] = found
    return Evaluation(pictures, means, predicted, collapse(measured, real))
