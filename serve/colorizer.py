"""The pyfunc: encoded pictures in, colored pictures out, over ONNX Runtime.

One self-contained file, logged as an MLflow model from code: it imports nothing of this
repository, so it loads in any folder and any environment that holds `REQUIREMENTS`.

The network predicts color only, on a small square; that color is laid on the picture's own
luma at full size. Whatever the network is, sharpness and brightness are the photograph's.
"""

import base64
import binascii
import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image, ImageCms

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("binary", "image")]),
    outputs=Schema([ColSpec("binary", "image")]),
    params=ParamSchema(
        [
            ParamSpec("format", "string", "png"),
            ParamSpec("size", "string", "original"),
            ParamSpec("tta", "boolean", False),
            ParamSpec("saturation", "double", 1.0),
        ]
    ),
)
REQUIREMENTS = ("fastparquet", "mlflow-skinny", "numpy", "onnxruntime", "pandas", "pillow")

READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
# PNG level 1 takes a third of the time of the default 6; photographs get 6 to 15 % larger.
WRITABLE = {"png": {"compress_level": 1}, "jpeg": {"quality": 92}, "webp": {"quality": 90}}
SIZES = ("original", "model")
MAX_SATURATION = 2.0

MAX_PIXELS_VARIABLE = "COLORIZER_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 64_000_000
CHUNK_ROWS = 16  # pictures that go through the network together
CHUNK_PIXELS = 16_000_000  # luma bytes that wait for it; a larger picture goes alone
STRIPE_PIXELS = 1 << 17  # blended at a time, so that a dozen float32 planes stay in the cache
MAX_THREADS = 4  # of the network: the square is small, more threads mostly wait for each other

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's convert("L")
WHITE = 255.0
UPRIGHT = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112

_opening = threading.Lock()


class PictureError(ValueError):
    """What is wrong with one picture, in words that complete "Row 3: the picture ..."."""


class Picture(NamedTuple):
    """A decoded picture, upright: all that coloring needs of it."""

    luma: Image.Image  # mode L
    alpha: Image.Image | None  # mode L, of the same size


class Options(NamedTuple):
    """How to color and to write; see `read_options` for the ranges."""

    format: str = "png"
    size: str = "original"
    tta: bool = False
    saturation: float = 1.0


class Colorizer(mlflow.pyfunc.PythonModel):
    """Colors pictures of any size with the ONNX network logged as artifact `generator`."""

    def load_context(self, context):
        """Open the network, and read the size and the channels it wants from the file.

        Raises:
            MlflowException: the network or `COLORIZER_MAX_PIXELS` is not what it must be.
        """
        self._max_pixels = read_pixel_limit(os.environ)
        if Image.MAX_IMAGE_PIXELS is not None:  # TIFF asks for Pillow's limit while decoding.
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, self._max_pixels)
        self._session = open_session(context.artifacts["generator"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        """Color every picture in the column `image`.

        Args:
            context: unused; the network was opened by `load_context`.
            model_input: column `image`, bytes of a picture (JPEG, PNG, WebP, TIFF, BMP, GIF) or
                their base64 text. Text is never taken for a path.
            params: see `read_options`.

        Returns:
            The same index, column `image`: the bytes of the colored pictures.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, one line; names the row (from 0) or param.
        """
        options = read_options(params or {})
        if "image" not in model_input:
            raise _refusal("Expected a column named 'image'")
        colored = []
        for pictures in read_chunks(model_input["image"], self._max_pixels):
            for blended in self._color(pictures, options):
                with _naming_row(len(colored)):
                    colored.append(encode_picture(blended, options.format))
        return pd.DataFrame({"image": colored}, index=model_input.index, dtype=object)

    def _color(self, pictures: list[Picture], options: Options) -> Iterator[Image.Image]:
        _, side, _, channels = self._session.get_inputs()[0].shape
        small = [
            picture.luma.resize((side, side), Image.LANCZOS, reducing_gap=2) for picture in pictures
        ]
        grays = np.stack([np.asarray(luma, np.float32) for luma in small])[..., None]
        chromas = predict_chroma(self._session, grays.repeat(channels, axis=-1), options.tta)
        chromas *= options.saturation
        for picture, luma, chroma in zip(pictures, small, chromas, strict=True):
            if options.size == "model":
                alpha = picture.alpha and picture.alpha.resize(luma.size)
                picture = Picture(luma, alpha)
            yield blend(picture, chroma)


def open_session(path: str) -> onnxruntime.InferenceSession:
    """Open an ONNX network and check that it keeps the contract of a colorizer.

    Raises:
        MlflowException: input is not (N, S, S, 1) or (N, S, S, 3).
    """
    # Spinning threads win nothing on an idle machine and halve a busy one: requests come side by
    # side from the server's threads, and all of them share this pool.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(os.cpu_count() or 1, MAX_THREADS)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
        raise _refusal(f"Expected a network of input (N, S, S, 1 or 3). Received: shape={shape}")
    return session


def read_pixel_limit(environ) -> int:
    """Return the most pixels a picture may have: `COLORIZER_MAX_PIXELS` or 64 million.

    Raises:
        MlflowException: the variable is not a whole number above 0.
    """
    text = environ.get(MAX_PIXELS_VARIABLE, str(DEFAULT_MAX_PIXELS))
    if not text.isdecimal() or int(text) == 0:
        raise _refusal(f"Expected {MAX_PIXELS_VARIABLE} to be a number above 0. Received: {text}")
    return int(text)


def read_options(params: dict) -> Options:
    """Check the params of a request.

    Args:
        params: `format` png, jpeg or webp; `size` original, or model (the network's square);
            `tta` True averages over the picture and its mirror; `saturation` 0 (gray) to 2.

    Raises:
        MlflowException: a value is out of range; names the param.
    """
    options = Options(**{key: params[key] for key in Options._fields if key in params})
    if options.format not in WRITABLE:
        raise _bad_param("format", "png, jpeg or webp")
    if options.size not in SIZES:
        raise _bad_param("size", "original or model")
    if not isinstance(options.tta, (bool, np.bool_)):
        raise _bad_param("tta", "true or false")
    try:
        in_range = 0.0 <= float(options.saturation) <= MAX_SATURATION
    except (TypeError, ValueError):
        in_range = False
    if not in_range:
        raise _bad_param("saturation", f"a number from 0 to {MAX_SATURATION:g}")
    return options._replace(saturation=float(options.saturation))


def open_picture(cell: object) -> Image.Image:
    """Open the header of a picture given as bytes, or as base64 text; nothing is decoded yet.

    Raises:
        PictureError: missing, empty, not base64, or not a picture of a format in `READABLE`.
    """
    if isinstance(cell, str):
        cell = cell.encode("ascii", "replace")
    if not isinstance(cell, (bytes, bytearray, memoryview)):
        raise PictureError(f"must be bytes or base64 text, not {type(cell).__name__}")
    data = bytes(cell)
    if not data.strip():
        raise PictureError("is empty")
    # Over `inputs` and `instances` MLflow hands on the very text that the client sent.
    image = _open(data) or _open(_decode_base64(data))
    if image is None:
        raise PictureError(f"is not {_READABLE_NAMES}")
    return image


def read_picture(image: Image.Image, max_pixels: int) -> Picture:
    """Decode an opened picture of any mode: upright, in sRGB, its luma and alpha apart.

    Args:
        image: as `open_picture` gives it; of an animation it stands at the first frame.
        max_pixels: the limit, compared with the header before anything is decoded.

    Raises:
        PictureError: too large, broken or truncated.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(
            f"has {width} x {height} pixels, above the limit of {max_pixels} pixels "
            f"(environment variable {MAX_PIXELS_VARIABLE})"
        )
    try:
        image.load()
        return _split(_turn_upright(image))
    except Exception:  # On broken files Pillow's decoders raise whatever comes first.
        raise PictureError(f"is a broken or truncated {image.format}") from None


def predict_chroma(
    session: onnxruntime.InferenceSession, grays: np.ndarray, tta: bool = False
) -> np.ndarray:
    """Run the network and keep only the color of its answer.

    Args:
        session: the network.
        grays: float32 (N, S, S, C), 0..255.
        tta: average over the pictures and their mirrors.

    Returns:
        float32 (N, S, S, 2), -255..255: red minus luma and blue minus luma, of which the Cr and
        Cb of BT.601 are multiples.
    """
    if tta:
        both = predict_chroma(session, np.concatenate([grays, grays[:, :, ::-1]]))
        straight, mirrored = np.split(both, 2)
        return (straight + mirrored[:, :, ::-1]) / 2
    (rgb,) = session.run(None, {session.get_inputs()[0].name: grays})
    return rgb[..., ::2] - (rgb @ LUMA)[..., None]


def blend(picture: Picture, chroma: np.ndarray) -> Image.Image:
    """Lay the chroma of the small square on the luma of the whole picture.

    Colors outside the gamut move toward the gray of their luma until they fit; clipping them
    would change the luma. `convert("L")` of the result is within 1 of `picture.luma`.

    Args:
        picture: luma and alpha at the size of the result.
        chroma: float32 (S, S, 2), as `predict_chroma` gives it.

    Returns:
        Mode RGB, or RGBA where the picture has an alpha.
    """
    width, height = picture.luma.size
    red, blue = (Image.fromarray(np.ascontiguousarray(chroma[..., i])) for i in (0, 1))
    blended = Image.new("RGB", (width, height))
    rows = max(1, STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stripe = picture.luma.crop((0, top, width, bottom))
        box = (0, top * red.height / height, red.width, bottom * red.height / height)
        planes = [
            np.asarray(plane.resize(stripe.size, Image.BILINEAR, box)) for plane in (red, blue)
        ]
        blended.paste(_to_rgb(np.asarray(stripe), *planes), (0, top))
    if picture.alpha is not None:
        blended.putalpha(picture.alpha)
    return blended


def encode_picture(image: Image.Image, format: str) -> bytes:
    """Write a picture in memory; JPEG knows no alpha, so there it lies on white.

    Raises:
        PictureError: the format cannot hold a picture this wide or high.
    """
    if format == "jpeg" and image.mode == "RGBA":
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        image = opaque
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **WRITABLE[format])
    except (OSError, ValueError):
        width, height = image.size
        raise PictureError(f"of {width} x {height} pixels does not fit into a {format}") from None
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image | None:
    # Pillow's own pixel limit is a global that warns or raises in its own words: ours replaces it.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=READABLE)
        except Exception:
            return None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode_base64(text: bytes) -> bytes:
    if text.startswith(b"data:"):
        text = text.partition(b",")[2]
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise PictureError(f"is neither base64 text nor {_READABLE_NAMES}") from None


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # Broken EXIF says nothing about the pixels.
        return image
    if orientation not in UPRIGHT:
        return image
    upright = image.transpose(UPRIGHT[orientation])
    upright.info = image.info
    return upright


def _split(image: Image.Image) -> Picture:
    alpha = None
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        color = _to_eight_bits(image)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        color = rgba.convert("L" if image.mode.startswith("L") else "RGB")
    elif image.mode in ("1", "L"):
        color = image.convert("L")
    else:
        color = image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB")
    return Picture(_to_srgb(color, image.info.get("icc_profile")).convert("L"), alpha)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    # 16 bits fill 0..65535; 32-bit integers and floats have no such habit: their own maximum does.
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if image.mode.startswith("I;16"):
        white = 65535
    else:
        white = next((top for top in (1, 255, 65535) if values.max() <= top), values.max())
    return Image.fromarray((values * (WHITE / white)).round().clip(0, WHITE).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        source = io.BytesIO(profile)
    elif image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    else:
        return image
    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # A broken profile, or one of another color space: the pixels still count.


def _to_rgb(luma: np.ndarray, red: np.ndarray, blue: np.ndarray) -> Image.Image:
    """Blend one stripe of planes (H, W): luma 0..255, and red and blue minus luma."""
    middle = luma + np.float32(0.5)  # so that cutting the fraction off rounds
    green = red * (-LUMA[0] / LUMA[1])
    green -= blue * (LUMA[2] / LUMA[1])
    planes = [middle + difference for difference in (red, green, blue)]
    highest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    lowest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    outside = np.nonzero((highest >= WHITE + 1) | (lowest < 0))
    if outside[0].size:
        gray = middle[outside]
        fit = np.minimum(
            (WHITE + 0.5 - gray) / np.maximum(highest[outside] - gray, 1),
            (gray - 0.5) / np.maximum(gray - lowest[outside], 1),
        )
        for plane in planes:
            plane[outside] = gray + (plane[outside] - gray) * np.minimum(fit, 1)
    return Image.merge("RGB", [Image.fromarray(plane.astype(np.uint8)) for plane in planes])


def read_chunks(cells: Iterable[object], max_pixels: int) -> Iterator[list[Picture]]:
    """Decode rows as they are needed, grouped so that little waits in memory."""
    chunk, pixels = [], 0
    for row, cell in enumerate(cells):
        with _naming_row(row):
            picture = read_picture(open_picture(cell), max_pixels)
        width, height = picture.luma.size
        if chunk and (len(chunk) == CHUNK_ROWS or pixels + width * height > CHUNK_PIXELS):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(picture)
        pixels += width * height
    if chunk:
        yield chunk


@contextmanager
def _naming_row(row: int) -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise _refusal(f"Row {row}: the picture {error}") from None


def _bad_param(name: str, expected: str) -> MlflowException:
    return _refusal(f"Param '{name}' must be {expected}")


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


_READABLE_NAMES = "a JPEG, PNG, WebP, TIFF, BMP or GIF"

mlflow.models.set_model(Colorizer())
