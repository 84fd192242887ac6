"""The pyfunc: encoded pictures in, colored pictures out, over ONNX Runtime.

Logged by `colorization/tracking.py` as an MLflow model from code, with a copy of the package
`colorization/pictures`. It needs nothing else of this repository.

The network predicts only color, on a small square; that color is laid on the picture's own luma
at full size. So sharpness and brightness are the photograph's, whatever the network is.
"""

import importlib
import io
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from PIL import Image

if TYPE_CHECKING:
    import onnxruntime

# A model's folder holds this file and a copy of the package. MLflow gives this module a new name at
# each load, and the package is imported as a part of it: each model has its own, whatever others
# are loaded. In front of `sys.path`, where MLflow puts it, it would hide others' `pictures`.
COPIED = Path(__file__).with_name("code")
if TYPE_CHECKING or not COPIED.is_dir():
    from colorization import pictures as reader
else:
    sys.path[:] = (each for each in sys.path if Path(each) != COPIED)
    __path__ = [str(COPIED)]
    reader = importlib.import_module(f"{__name__}.pictures")

# PNG level 1 takes a third of the time of the default 6; photographs get 6 to 15 % larger.
WRITABLE: dict[str, dict[str, int]] = {"png": {"compress_level": 1}, "jpeg": {}, "webp": {}}
DEFAULT_QUALITY = 92  # of JPEG and WebP, of 100
MAX_SATURATION = 2.0
RANGES = {"saturation": (0.0, MAX_SATURATION), "warmth": (-1.0, 1.0), "tint": (-1.0, 1.0)}
HINT_LEVELS = 40.0  # by which a hint of 1 moves the mean Cb and the mean Cr; a step of 0.1 is seen

MAX_ANSWER_BYTES = 1 << 30  # of one request, or 16 a pixel of the pixel limit where that is more
MAX_ALPHA_WEBP_PIXELS = 32_000_000  # with alpha; libwebp takes 40 bytes a pixel to write one
CHUNK_ROWS = 16  # pictures or tiles that go through the network together
CHUNK_PIXELS = 16_000_000  # luma bytes that wait for it; a larger picture goes alone
STRIPE_PIXELS = 1 << 17  # blended at a time, above `MAX_SIDE`; a dozen float32 planes in the cache
MAX_THREADS = 4  # of the network: the square is small, more threads mostly wait for each other

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's convert("L")
WHITE = 255.0
# A hint leaves black and white neutral. Real errors of a whole picture grow like this, too.
HINT_BY_LUMA = np.sqrt(1 - (2 * np.arange(256, dtype=np.float32) / WHITE - 1) ** 2)
LEAST_HINT_MEAN = 0.25  # of it; in a picture that is nearly all black, the rest is not overdone

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

logger = logging.getLogger("colorizer")


class RequestError(MlflowException):
    """A request or a setting that is not as expected; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """Return the server's answer; MLflow has put the whole request in front of the message."""
        self.message = str(self)
        return super().serialize_as_json()


class Options(NamedTuple):
    """How to color and to write; see `read_options` for the ranges."""

    format: str = "png"
    size: str = "original"
    tta: bool = False
    saturation: float = 1.0
    quality: int = DEFAULT_QUALITY
    warmth: float = 0.0
    tint: float = 0.0
    output: str = "colors"


class Colorizer(PythonModel):
    """Colors pictures of any size with the ONNX network logged as artifact `generator`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the network; say so if it was trained on painted birds only.

        Raises:
            ModuleNotFoundError: ONNX Runtime is not installed.
            RequestError: the network or `COLORIZER_MAX_PIXELS` is not as expected.
        """
        try:
            self._max_pixels = reader.read_pixel_limit(os.environ)
        except ValueError as error:
            raise RequestError(str(error)) from None
        if Image.MAX_IMAGE_PIXELS is not None:  # TIFF asks for Pillow's limit while decoding.
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, self._max_pixels)
        self._session = open_session(context.artifacts["generator"])
        if (context.model_config or {}).get("trained_on") == "painted birds":
            logger.warning(
                "This model was trained on painted birds only: on photographs, expect false colors."
            )

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Color every picture in the column `image`: its bytes, or their base64 text.

        Text is never taken for a path. For `params` see `read_options`.

        Returns:
            The same index, column `image`: the bytes of the colored pictures.

        Raises:
            RequestError: names the row (from 0) or param.
        """
        options = read_options(params or {})
        if "image" not in model_input:
            raise RequestError("Expected a column named 'image'")
        colored: list[bytes] = []
        total = 0
        limit = max(MAX_ANSWER_BYTES, 16 * self._max_pixels)
        for pictures in read_chunks(model_input["image"], self._max_pixels):
            for answer in self._color(pictures, len(colored), options):
                total += len(answer)
                if total > limit:
                    raise RequestError(
                        f"Row {len(colored)}: the picture is one too many: the answers take more "
                        f"than {limit} bytes, the limit of a request. Send fewer rows at a time"
                    )
                colored.append(answer)
            pictures.clear()  # before the next are decoded
        return pd.DataFrame({"image": colored}, index=model_input.index, dtype=object)

    def _color(
        self, pictures: list[reader.Picture], first: int, options: Options
    ) -> Iterator[bytes]:
        """Yield the answers to pictures that go through the network together, from row `first`."""
        _, side, _, channels = self._session.get_inputs()[0].shape
        small = []
        for row, picture in enumerate(pictures, first):
            with _naming_row(row):
                boxes = reader.find_tiles(picture.luma.size)
                small.append([shrink(picture.luma, side, box) for box in boxes])
        grays = np.stack([np.asarray(luma, np.float32) for tiles in small for luma in tiles])
        grays = grays[..., None].repeat(channels, axis=-1)
        is_colored = options.output == "colors"
        predict = predict_chroma if is_colored else reader.predict_uncertainty
        planes = predict(self._session, grays)
        if options.tta:
            mirrored = predict(self._session, np.ascontiguousarray(grays[:, :, ::-1]))
            planes = (planes + mirrored[:, :, ::-1]) / 2
        if is_colored:
            planes *= options.saturation
        for row, (picture, tiles) in enumerate(zip(pictures, small, strict=True), first):
            with _naming_row(row):
                plane = join_tiles(planes[: len(tiles)], picture.luma.height > picture.luma.width)
                planes = planes[len(tiles) :]
                if options.size == "model":
                    luma = tiles[0] if len(tiles) == 1 else shrink(picture.luma, side)
                    alpha = picture.alpha and picture.alpha.resize(luma.size)
                    picture = reader.Picture(luma, alpha)
                if is_colored:
                    colored = blend(picture, plane, find_shift(options.warmth, options.tint))
                else:
                    colored = reader.draw_heat_map(plane, picture.luma.size)
                answer = encode_picture(colored, options.format, options.quality)
            yield answer


def open_session(path: str) -> "onnxruntime.InferenceSession":
    """Open an ONNX network and check that it keeps the contract of a colorizer.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
        RequestError: input is not (N, S, S, 1) or (N, S, S, 3).
    """
    try:
        import onnxruntime  # here, so that MLflow does not hide what is missing in its own words
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "This model needs ONNX Runtime, which is not installed: pip install onnxruntime"
        ) from None
    # Threads that spin gain nothing on an idle machine and halve the speed of a busy one: the
    # server's threads share this pool.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(os.cpu_count() or 1, MAX_THREADS)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its arena never shrinks: one panorama would double what a network takes for as long as it
    # serves. Without it, a forward takes as long.
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
        raise RequestError(f"Expected a network of input (N, S, S, 1 or 3). Received: {shape=}")
    return session


def read_options(params: dict[str, Any]) -> Options:
    """Check the params of a request.

    Args:
        params: `format` png, jpeg or webp; `size` original, or model (the network's square);
            `tta` True averages over the picture and its mirror; `saturation` 0 (gray) to 2;
            `quality` 1 to 100, of JPEG and WebP; `warmth` and `tint`, see `find_shift`; `output`
            colors, or uncertainty: a heat map of `reader.predict_uncertainty`, without alpha, on
            which saturation and hints have no effect.

    Raises:
        RequestError: a value is out of range; names the param.
    """
    options = Options(**{key: params[key] for key in Options._fields if key in params})
    if options.format not in WRITABLE:
        raise RequestError("Param 'format' must be png, jpeg or webp")
    if options.size not in ("original", "model"):
        raise RequestError("Param 'size' must be original or model")
    if not isinstance(options.tta, (bool, np.bool_)):
        raise RequestError("Param 'tta' must be true or false")
    is_whole = isinstance(options.quality, (int, np.integer))
    if not is_whole or options.quality is True or not 1 <= options.quality <= 100:
        raise RequestError("Param 'quality' must be a whole number from 1 to 100")
    if options.output not in ("colors", "uncertainty"):
        raise RequestError("Param 'output' must be colors or uncertainty")
    numbers = {name: _read_number(name, getattr(options, name)) for name in RANGES}
    return Options(**options._asdict() | numbers | {"quality": int(options.quality)})


def _read_number(name: str, value: Any) -> float:
    low, high = RANGES[name]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise RequestError(f"Param '{name}' must be a number from {low:g} to {high:g}")
    return number


def find_shift(warmth: float, tint: float) -> tuple[float, float]:
    """Return by how many levels hints move the mean Cb and the mean Cr of a colored picture.

    Args:
        warmth: -1 blue to 1 orange; 1 takes 40 levels from Cb and adds 40 to Cr.
        tint: -1 green to 1 magenta; 1 adds 40 levels to both.
    """
    return HINT_LEVELS * (tint - warmth), HINT_LEVELS * (tint + warmth)


def hint_for(wanted: Iterable[float], predicted: Iterable[float]) -> tuple[float, float]:
    """Return the warmth and the tint, each -1 to 1, that give a picture the mean chroma wanted.

    Args:
        wanted: the mean Cb and Cr, in levels, 0 being gray, as of another picture.
        predicted: those of the picture colored without hints, with the other params as they are.
    """
    blue, red = (float(a) - float(b) for a, b in zip(wanted, predicted, strict=True))
    hints = (red - blue) / (2 * HINT_LEVELS), (red + blue) / (2 * HINT_LEVELS)
    warmth, tint = (min(max(hint, -1.0), 1.0) for hint in hints)
    return warmth, tint


def shrink(luma: Image.Image, side: int, box: Box | None = None) -> Image.Image:
    """Stretch a box of a picture, or all of it, to the network's square."""
    return luma.resize((side, side), Image.Resampling.LANCZOS, box, reducing_gap=2)


def join_tiles(planes: np.ndarray, is_upright: bool) -> np.ndarray:
    """Blend the chroma of tiles, or their uncertainty, each into the next.

    Args:
        planes: float32 (N, S, S, C), of the boxes of `reader.find_tiles`.
        is_upright: the tiles stand one above the other.

    Returns:
        float32 (S, S * (N + 1) / 2, C), or upright.
    """
    if len(planes) == 1:
        return planes[0]
    if is_upright:
        return join_tiles(planes.swapaxes(1, 2), False).swapaxes(0, 1)
    side = planes.shape[1]
    starts = [side * index // 2 for index in range(len(planes))]
    weights = side - np.abs(np.arange(1 - side, side, 2, dtype=np.float32))
    joined = np.zeros((side, starts[-1] + side, planes.shape[-1]), np.float32)
    total = np.zeros((starts[-1] + side, 1), np.float32)
    for start, plane in zip(starts, planes, strict=True):
        joined[:, start : start + side] += plane * weights[:, None]
        total[start : start + side] += weights[:, None]
    return joined / total


def predict_chroma(session: "onnxruntime.InferenceSession", grays: np.ndarray) -> np.ndarray:
    """Run the network on float32 (N, S, S, C), 0..255; keep only the color of its output.

    Returns:
        float32 (N, S, S, 2), -255..255: red minus luma and blue minus luma, of which the Cr and
        Cb of BT.601 are multiples.
    """
    rgb = session.run(None, {session.get_inputs()[0].name: grays})[0]
    return rgb[..., ::2] - (rgb @ LUMA)[..., None]


def blend(
    picture: reader.Picture, chroma: np.ndarray, shift: tuple[float, float] = (0.0, 0.0)
) -> Image.Image:
    """Lay a small plane of chroma on the luma of the whole picture, and shift its mean.

    Colors outside the gamut move toward the gray of their luma until they fit; clipping them
    would change the luma. `convert("L")` of the result is within 1 of `picture.luma`.

    Args:
        picture: luma and alpha at the size of the result.
        chroma: float32 (H, W, 2), of `join_tiles`.
        shift: of `find_shift`; most in the middle of the luma, none in black and white.

    Returns:
        Mode RGB, or RGBA where the picture has an alpha.
    """
    width, height = picture.luma.size
    red, blue = (Image.fromarray(np.ascontiguousarray(chroma[..., i])) for i in (0, 1))
    by_luma = _spread(shift, picture.luma) if any(shift) else None
    blended = Image.new("RGB", (width, height))
    for _, top, _, bottom in reader.cut(picture.luma.size, STRIPE_PIXELS):
        stripe = picture.luma.crop((0, top, width, bottom))
        box = (0, top * red.height / height, red.width, bottom * red.height / height)
        planes = [
            np.asarray(plane.resize(stripe.size, Image.Resampling.BILINEAR, box))
            for plane in (red, blue)
        ]
        luma = np.asarray(stripe)
        if by_luma is not None:
            planes = [plane + table[luma] for plane, table in zip(planes, by_luma, strict=True)]
        blended.paste(_to_rgb(luma, *planes), (0, top))
    if picture.alpha is not None:
        blended.putalpha(picture.alpha)
    return blended


def _spread(shift: tuple[float, float], luma: Image.Image) -> np.ndarray:
    """Return what to add to red and to blue minus luma, float32 (2, 256), by the pixel's luma."""
    mean = np.average(HINT_BY_LUMA, weights=luma.histogram())
    to_red, to_blue = 2 * (1 - LUMA[0]) * shift[1], 2 * (1 - LUMA[2]) * shift[0]  # of Cr and Cb
    weights = HINT_BY_LUMA / np.float32(max(mean, LEAST_HINT_MEAN))
    return np.outer(np.array([to_red, to_blue], np.float32), weights)


def encode_picture(
    image: Image.Image, format: str, quality: int = DEFAULT_QUALITY, **carried: Any
) -> bytes:
    """Encode a picture, RGB or RGBA; JPEG has no alpha, so there it is laid on white.

    The format is one of `WRITABLE`, the quality 1 to 100; Pillow writes into the file what is
    `carried`.

    Raises:
        PictureError: the format cannot hold a picture this wide or high, or libwebp would take
            gigabytes for its alpha.
    """
    if format == "webp" and image.mode == "RGBA" and math.prod(image.size) > MAX_ALPHA_WEBP_PIXELS:
        raise reader.PictureError(
            "is too large for a webp with transparency, above the limit of "
            f"{MAX_ALPHA_WEBP_PIXELS} pixels"
        )
    if format == "jpeg" and image.mode == "RGBA":
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        image = opaque
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, quality=quality, **WRITABLE[format], **carried)
    except (OSError, ValueError):
        size = f"{image.width} x {image.height}"
        raise reader.PictureError(f"of {size} pixels does not fit into a {format}") from None
    return buffer.getvalue()


def _to_rgb(luma: np.ndarray, red: np.ndarray, blue: np.ndarray) -> Image.Image:
    """Blend one stripe of planes (H, W): luma 0..255, and red and blue minus luma."""
    middle = luma + np.float32(0.5)  # so that truncation rounds
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


def read_chunks(cells: Iterable[object], max_pixels: int) -> Iterator[list[reader.Picture]]:
    """Decode rows as they are needed, in groups that take little memory."""
    chunk: list[reader.Picture] = []
    pixels = tiles = 0
    for row, cell in enumerate(cells):
        with _naming_row(row):
            image = reader.open_picture(cell, max_pixels)
            picture = reader.read_picture(image)
        if (pages := reader.count_pages(image)) > 1:
            logger.warning("Row %d: the first of %d pages or frames is colored", row, pages)
        size, count = math.prod(picture.luma.size), len(reader.find_tiles(picture.luma.size))
        if chunk and (tiles + count > CHUNK_ROWS or pixels + size > CHUNK_PIXELS):
            yield chunk
            chunk, pixels, tiles = [], 0, 0
        chunk.append(picture)
        pixels, tiles = pixels + size, tiles + count
    if chunk:
        yield chunk


@contextmanager
def _naming_row(row: int) -> Iterator[None]:
    try:
        yield
    except reader.PixelLimitError as error:
        variable = f"environment variable {reader.MAX_PIXELS_VARIABLE}"
        raise RequestError(f"Row {row}: the picture {error} ({variable})") from None
    except reader.PictureError as error:
        raise RequestError(f"Row {row}: the picture {error}") from None
    except MemoryError:
        raise RequestError(f"Row {row}: the picture {reader.NO_MEMORY}") from None


mlflow.models.set_model(Colorizer())
