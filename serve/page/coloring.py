"""One uploaded picture through the champions: files to show, files to download, scores."""

import io
import logging
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image, ImageCms, ImageOps

from colorization import color, evaluation
from colorization.data.photograph import IMAGE_SIZE, is_gray
from colorization.errors import InputError
from serve.page.champions import Champion
from serve.pyfunc import encode_picture

SHOWN_SIDE = 1280  # the page shows larger pictures at this size; downloads are never scaled

logger = logging.getLogger(__name__)


class Colored(NamedTuple):
    """What one champion made of a picture."""

    champion: Champion
    shown: Path
    download: Path  # PNG in full size


class Picture(NamedTuple):
    """A picture's results; `original` and `scores` are of a color picture only.

    `scores` maps a family, and `plain gray`, to psnr, ssim, delta_e and colorfulness.
    """

    name: str
    size: tuple[int, int]
    gray: Path
    colored: list[Colored]
    original: Path | None
    scores: dict[str, dict[str, float]]


def color_upload(upload, champions, folder, **params):
    """Color an uploaded file with each champion.

    Args:
        upload: path of the file, in any format that the pyfunc reads; its bytes go on untouched.
        champions: one at least.
        folder: that the results are written into; it is created.
        params: of the pyfunc: tta, saturation.

    Returns:
        A `Picture`.

    Raises:
        InputError: it is no picture, broken, too large, or gone.
    """
    upload, folder = Path(upload), Path(folder)
    try:
        content = upload.read_bytes()
    except OSError as error:  # uploads are kept for an hour
        raise InputError(f"{upload.name} is no longer here: choose it again.") from error
    folder.mkdir(parents=True)
    colored, small = [], {}
    for champion in champions:
        answer = _predict(champion.model, content, upload.name, params)
        name = f"{upload.stem}-{champion.family}-v{champion.version.version}.png"
        (folder / name).write_bytes(answer)
        with Image.open(io.BytesIO(answer)) as image:
            size = image.size
            small[champion.family] = _square(image)
            shown = _save_shown(image, folder / f"shown-{champion.family}.png")
        colored.append(Colored(champion, shown, folder / name))
    with Image.open(shown) as image:  # its luma is the picture's own
        gray = _save_shown(_drained(image), folder / "shown-gray.png")
    original = _read_original(content, upload.name)
    real = original and _square(original)
    if real is None or is_gray(real):
        return Picture(upload.name, size, gray, colored, None, {})
    original = _save_shown(original, folder / "shown-original.png")
    return Picture(upload.name, size, gray, colored, original, _score(real, small))


def _predict(model, content, name, params):
    try:
        return model.predict(pd.DataFrame({"image": [content]}), params=params)["image"][0]
    except MlflowException as error:
        # The pyfunc writes for programs, which may send base64; a page's visitor sends files.
        reason = error.message.removeprefix("Row 0: the picture ")
        raise InputError(f"{name} {reason.replace('neither base64 text nor', 'not')}.") from error


def _read_original(content, name):
    """Return the upload as the pyfunc saw it before it took the colors away, or None."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft(None, (SHOWN_SIDE, SHOWN_SIDE))  # a JPEG's half or quarter, much faster
            image = ImageOps.exif_transpose(opened)
        profile = image.info.get("icc_profile")
        if image.mode not in ("RGB", "CMYK"):
            image = image.convert("RGB")
    except Exception:  # a picture may be good enough to color and too broken to compare
        logger.exception("%s cannot be compared with", name)
        return None
    if profile:
        srgb = ImageCms.createProfile("sRGB")
        with suppress(ImageCms.PyCMSError, OSError, ValueError):  # a broken one
            return ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    return image.convert("RGB")


def _square(image):
    """Return a picture as training saw its kind: RGB, stretched to the square."""
    return image.convert("RGB").resize((IMAGE_SIZE,) * 2, Image.Resampling.LANCZOS, reducing_gap=2)


def _drained(image):
    gray = image.convert("L")
    if image.mode == "RGBA":
        gray.putalpha(image.getchannel("A"))
    return gray


def _save_shown(image, path):
    if max(image.size) > SHOWN_SIDE:
        image = ImageOps.contain(image, (SHOWN_SIDE, SHOWN_SIDE))
    path.write_bytes(encode_picture(image, "png"))
    return path


def _score(real, small):
    """Return the scores of each small result, and of plain gray, against the small original."""
    real = np.asarray(real)[np.newaxis]
    predicted = {family: np.asarray(image)[np.newaxis] for family, image in small.items()}
    predicted["plain gray"] = color.gray_input(real, 3)
    return {
        name: evaluation.summary(evaluation.scores(real, image))
        for name, image in predicted.items()
    }
