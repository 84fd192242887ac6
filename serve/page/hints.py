"""Hints for the color of a whole picture: variations to click, and another picture's mean color."""

import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from colorization import color, pictures
from colorization.errors import InputError
from serve.page.champions import Champion
from serve.page.coloring import Colored, predict, read_original, square
from serve.pyfunc import blend, encode_picture, find_shift, hint_for

WARMTHS = {-0.2: "bluer", 0.0: "", 0.2: "more orange"}
TINTS = {-0.2: "greener", 0.0: "", 0.2: "more magenta"}
SIDE = 160  # of a variation, in pixels


class Variation(NamedTuple):
    """A colored picture as it would be with these hints."""

    warmth: float
    tint: float
    path: Path

    @property
    def words(self) -> str:
        """What it is."""
        return ", ".join(filter(None, [WARMTHS[self.warmth], TINTS[self.tint]])) or "as predicted"


def write_variations(colored: Colored, warmth: float, tint: float, folder: Path) -> list[Variation]:
    """Write small variations of a colored picture, three of each hint; no network runs.

    Args:
        colored: with the hints `warmth` and `tint`.
        warmth: from -1 to 1.
        tint: from -1 to 1.
        folder: exists.

    Returns:
        Nine, row by row: from green to magenta, in a row from blue to orange.
    """
    with Image.open(colored.shown) as image:
        image.thumbnail((SIDE, SIDE))
        rgb = np.asarray(image.convert("RGB"), np.float32)
    luma = color.luma(rgb)
    gray = pictures.Picture(Image.fromarray(luma[..., 0].astype(np.uint8)), None)
    variations = []
    for number, (new_tint, new_warmth) in enumerate(itertools.product(TINTS, WARMTHS)):
        shift = find_shift(new_warmth - warmth, new_tint - tint)
        path = folder / f"variation-{number}.webp"
        path.write_bytes(encode_picture(blend(gray, rgb[..., ::2] - luma, shift), "webp"))
        variations.append(Variation(new_warmth, new_tint, path))
    return variations


def hint_from(
    reference: Path, upload: Path, champion: Champion, params: dict[str, Any]
) -> tuple[float, float]:
    """Return the warmth and the tint that give an upload the mean color of a reference.

    Args:
        reference: another picture.
        upload: the picture to color.
        champion: takes hints.
        params: of the pyfunc, without hints.

    Raises:
        InputError: one of them is no picture that can be read.
    """
    content = reference.read_bytes()
    try:
        pictures.open_picture(content)
    except pictures.PictureError as error:
        raise InputError(f"{reference.name} {error}.") from error
    original = read_original(content, reference.name)
    if original is None:
        raise InputError(f"{reference.name} cannot be read: take another picture.")
    answer = predict(champion, upload.read_bytes(), upload.name, params | {"size": "model"})
    with Image.open(io.BytesIO(answer)) as colored:
        return hint_for(_mean_chroma(square(original)), _mean_chroma(colored))


def _mean_chroma(image: Image.Image) -> np.ndarray:
    return color.chroma(np.asarray(image.convert("RGB"))).mean(axis=(0, 1))
