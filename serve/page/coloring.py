"""One uploaded picture, colored by the champions: files, scores, hints for its colors."""

import io
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image, ImageOps

from colorization import color, evaluation, pictures
from colorization.data.photograph import IMAGE_SIZE
from colorization.data.tone import find_tone
from colorization.errors import InputError
from serve.page.champions import Champion
from serve.pyfunc import blend, encode_picture, find_shift, hint_for

SHOWN_SIDE = 1280  # the page shows larger pictures at this size; downloads are never scaled
WARMTHS = {-0.2: "bluer", 0.0: "", 0.2: "more orange"}
TINTS = {-0.2: "greener", 0.0: "", 0.2: "more magenta"}
SIDE = 160  # of a variation, in pixels

logger = logging.getLogger(__name__)


class Colored(NamedTuple):
    """A picture as one champion colors it."""

    champion: Champion
    shown: Path
    download: Path  # PNG in full size
    unsure: Path | None = None  # heat map of where it is unsure


class Picture(NamedTuple):
    """A picture's results; one in gray or sepia has no `original` and no `scores`.

    `painted` tells an example from a visitor's picture. `scores` maps a family, and `plain gray`,
    to psnr, ssim, delta_e and colorfulness.
    """

    name: str
    painted: bool
    size: tuple[int, int]
    gray: Path
    colored: list[Colored]
    original: Path | None
    scores: dict[str, dict[str, float]]

    @property
    def views(self) -> dict[str, Path]:
        """What can be compared, by title."""
        colored = {each.champion.family: each.shown for each in self.colored}
        return (
            {"gray": self.gray} | colored | ({"original": self.original} if self.original else {})
        )


class Variation(NamedTuple):
    """A colored picture as it would be with these hints."""

    warmth: float
    tint: float
    path: Path

    @property
    def words(self) -> str:
        """What it is."""
        return ", ".join(filter(None, [WARMTHS[self.warmth], TINTS[self.tint]])) or "as predicted"


def color_upload(
    upload: Path,
    name: str,
    painted: bool,
    champions: Sequence[Champion],
    folder: Path,
    unsure: bool = False,
    **params: Any,
) -> Picture:
    """Color an uploaded file by one champion or more.

    Args:
        upload: in any format that the pyfunc reads.
        name: of the picture; its stem is the start of the downloads' names.
        painted: it is an example.
        champions: each gets those of the params that it takes.
        folder: for the results; it is created.
        unsure: also draw where the champions are unsure.
        params: of the pyfunc: tta, saturation, warmth, tint.

    Raises:
        InputError: the file is no picture, broken, too large, or gone.
    """
    try:
        content = upload.read_bytes()
    except OSError as error:  # uploads are deleted after an hour
        raise InputError(f"{name} is no longer here: choose it again.") from error
    folder.mkdir(parents=True)
    colored, small = [], {}
    for champion in champions:
        family = champion.family
        answer = predict(champion, content, name, params)
        shown = download = folder / f"{Path(name).stem}-{family}-v{champion.version.version}.png"
        download.write_bytes(answer)
        with Image.open(io.BytesIO(answer)) as image:
            size = image.size
            small[family] = square(image)
            if max(size) > SHOWN_SIDE:
                shown = _save_shown(image, folder / f"shown-{family}.png")
        heat = None
        if unsure and champion.takes("output"):
            answer = predict(champion, content, name, params | {"output": "uncertainty"})
            with Image.open(io.BytesIO(answer)) as image:
                heat = _save_shown(image, folder / f"unsure-{family}.png")
        colored.append(Colored(champion, shown, download, heat))
    with Image.open(shown) as image:  # its luma is that of the upload
        plain = image.convert("LA" if image.mode == "RGBA" else "L")
        gray = _save_shown(plain, folder / "shown-gray.png")
    original = read_original(content, name)
    real = original and square(original)
    if original is None or real is None or find_tone(real):
        return Picture(name, painted, size, gray, colored, None, {})
    shown = _save_shown(original, folder / "shown-original.png")
    return Picture(name, painted, size, gray, colored, shown, _score(real, small))


def predict(champion: Champion, content: bytes, name: str, params: dict[str, Any]) -> bytes:
    """Return a champion's answer, with those of the params that it takes.

    Raises:
        InputError: the file is no picture, broken or too large.
    """
    taken = {key: value for key, value in params.items() if champion.takes(key)}
    try:
        answer: Any = champion.model.predict(pd.DataFrame({"image": [content]}), params=taken)
    except MlflowException as error:
        # An older pyfunc's message also mentions base64, which no visitor sends.
        reason = error.message.removeprefix("Row 0: the picture ")
        raise InputError(f"{name} {reason.replace('neither base64 text nor', 'not')}.") from error
    return answer["image"][0]


def read_original(content: bytes, name: str) -> Image.Image | None:
    """Return the upload upright and in sRGB, or None if it cannot be decoded."""
    try:
        opened = pictures.open_picture(content)  # inspects the EXIF before anything reads it
        opened.draft(None, (SHOWN_SIDE, SHOWN_SIDE))  # a JPEG's half or quarter, much faster
        return pictures.read_srgb(opened)
    except Exception:  # the picture is colored already, only the comparison is missing
        logger.exception("%s cannot be compared with", name)
        return None


def square(image: Image.Image) -> Image.Image:
    """Return a picture as in training at the default size: RGB, stretched to the square."""
    return image.convert("RGB").resize((IMAGE_SIZE,) * 2, Image.Resampling.LANCZOS, reducing_gap=2)


def _save_shown(image: Image.Image, path: Path) -> Path:
    if max(image.size) > SHOWN_SIDE:
        image = ImageOps.contain(image, (SHOWN_SIDE, SHOWN_SIDE))
    path.write_bytes(encode_picture(image, "png"))
    return path


def _score(real: Image.Image, small: dict[str, Image.Image]) -> dict[str, dict[str, float]]:
    """Score each small result, and plain gray, against the small original."""
    levels = np.asarray(real)[np.newaxis]
    predicted = {family: np.asarray(image)[np.newaxis] for family, image in small.items()}
    predicted["plain gray"] = color.gray_input(levels, 3)
    return {
        name: evaluation.mean_scores(evaluation.score_each(levels, image))
        for name, image in predicted.items()
    }


def write_variations(colored: Colored, warmth: float, tint: float, folder: Path) -> list[Variation]:
    """Write small variations of a picture that was colored with these hints; no network runs.

    `warmth` goes from -1, blue, to 1, orange, and `tint` from -1, green, to 1, magenta.

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
    """Return the warmth and the tint, -1 to 1, that give an upload the mean color of a reference.

    The champion takes hints, and `params` of its pyfunc hold none.

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
