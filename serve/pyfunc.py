"""The pyfunc: encoded pictures in, colored pictures out, over ONNX Runtime.

One self-contained file, logged by `colorization/tracking.py` as an MLflow model from code. It
imports nothing of this repository.

The network predicts only color, on a small square; that color is laid on the picture's own luma
at full size. So sharpness and brightness are the photograph's, whatever the network is.
"""

import base64
import binascii
import io
import logging
import math
import os
import re
import string
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from PIL import Image, ImageCms

if TYPE_CHECKING:
    import onnxruntime

READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
# PNG level 1 takes a third of the time of the default 6; photographs get 6 to 15 % larger.
WRITABLE = {"png": {"compress_level": 1}, "jpeg": {"quality": 92}, "webp": {"quality": 90}}
SIZES = ("original", "model")
MAX_SATURATION = 2.0

MAX_PIXELS_VARIABLE = "COLORIZER_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 64_000_000
MAX_SIDE = 65_535  # pixels; a row of millions takes gigabytes wherever whole rows are worked on
MAX_ANSWER_BYTES = 1 << 30  # of one request, or 16 a pixel of the pixel limit where that is more
MAX_CLEAR_WEBP_PIXELS = 32_000_000  # with alpha; libwebp takes 40 bytes a pixel to write one
MAX_SCANS = 100  # of a JPEG; honest ones have about ten, and each is a pass over all pixels
MAX_EXIF_BYTES = 65_533  # one segment of a JPEG; for the other formats alike
MAX_EXIF_BLOCKS = 4  # of a file; what comes behind them is not looked at
MAX_TAGS_SLACK = 1 << 20  # bytes that TIFF tags may add up to beyond the file that holds them
MAX_TAG_NUMBERS = 1 << 20  # of one tag; 64 megapixels in tiles of 16 x 16, three planes apart
CHUNK_ROWS = 16  # pictures that go through the network together
CHUNK_PIXELS = 16_000_000  # luma bytes that wait for it; a larger picture goes alone
STRIPE_PIXELS = 1 << 17  # blended at a time, above `MAX_SIDE`; a dozen float32 planes in the cache
DECODED_PIXELS = 1 << 22  # split into luma and alpha at a time: several copies of 4 bytes a pixel
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

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # Pillow's
# Types of TIFF tags. Each number becomes an object; bytes and text stay together.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_OTHERS = {5: 8, 10: 8, 11: 4, 12: 8}  # rational and float, and their bytes
_BYTES = {1: 1, 2: 1, 7: 1}
_SIZES = {kind: struct.calcsize("=" + code) for kind, code in _INTEGERS.items()} | _OTHERS | _BYTES
_DIRECTORIES = (330, 34665, 34853, 40965)  # tags that point at another one: sub, Exif, GPS, Interop
_WIDTH, _HEIGHT, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 278, 322, 323
_LAYOUT = (_WIDTH, _HEIGHT, _ROWS, _TILE_WIDTH, _TILE_HEIGHT)
_STRIPS, _TILES = 273, 324
_MOST_PLANES = 6  # of a TIFF that Pillow decodes

# JPEG markers with a segment, and the end of the picture; the others stand alone.
_SEGMENT = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
_END, _SCAN, _APP1, _APP2 = 0xD9, 0xDA, 0xE1, 0xE2
_AVIF_EXIF = re.compile(rb"infe(?:\x02.{7}|\x03.{9})Exif", re.DOTALL)
_EXIF_HEADS = re.compile(rb"\A(?:Exif\0\0)*")
_PNG_TEXTS, _RAW_PROFILE = (b"tEXt", b"zTXt", b"iTXt"), b"Raw profile type exif\0"
_UNKNOWN = b"skIp"  # a name that no reader of any format looks for

_opening = threading.Lock()


logger = logging.getLogger("colorizer")


class Refusal(MlflowException):
    """A request or a setting that is not as expected; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """Return the server's answer; MLflow has put the whole request in front of the message."""
        self.message = str(self)
        return super().serialize_as_json()


class PictureError(ValueError):
    """A picture cannot be colored; the message completes "Row 3: the picture ..."."""


class Picture(NamedTuple):
    """A decoded, upright picture."""

    luma: Image.Image  # mode L
    alpha: Image.Image | None  # mode L, of the same size


class Options(NamedTuple):
    """How to color and to write; see `read_options` for the ranges."""

    format: str = "png"
    size: str = "original"
    tta: bool = False
    saturation: float = 1.0


class Colorizer(PythonModel):
    """Colors pictures of any size with the ONNX network logged as artifact `generator`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the network; say so if it was trained on painted birds only.

        Raises:
            ModuleNotFoundError: ONNX Runtime is not installed.
            Refusal: the network or `COLORIZER_MAX_PIXELS` is not as expected.
        """
        self._max_pixels = read_pixel_limit(os.environ)
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
        """Color every picture in the column `image`.

        Args:
            context: unused; the network was opened by `load_context`.
            model_input: column `image`, bytes of a picture (JPEG, PNG, WebP, TIFF, BMP, GIF) or
                their base64 text. Text is never taken for a path.
            params: see `read_options`.

        Returns:
            The same index, column `image`: the bytes of the colored pictures.

        Raises:
            Refusal: names the row (from 0) or param.
        """
        options = read_options(params or {})
        if "image" not in model_input:
            raise Refusal("Expected a column named 'image'")
        colored: list[bytes] = []
        total = 0
        limit = max(MAX_ANSWER_BYTES, 16 * self._max_pixels)
        for pictures in read_chunks(model_input["image"], self._max_pixels):
            for answer in self._color(pictures, len(colored), options):
                total += len(answer)
                with _naming_row(len(colored)):
                    if total > limit:
                        raise PictureError(
                            f"is one too many: the answers take more than {limit} bytes, the "
                            "limit of a request. Send fewer rows at a time"
                        )
                colored.append(answer)
            pictures.clear()  # before the next are decoded
        return pd.DataFrame({"image": colored}, index=model_input.index, dtype=object)

    def _color(self, pictures: list[Picture], first: int, options: Options) -> Iterator[bytes]:
        """Yield the answers to pictures that go through the network together, from row `first`."""
        _, side, _, channels = self._session.get_inputs()[0].shape
        small = []
        for row, picture in enumerate(pictures, first):
            with _naming_row(row):
                small.append(
                    picture.luma.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
                )
        grays = np.stack([np.asarray(luma, np.float32) for luma in small])[..., None]
        chromas = predict_chroma(self._session, grays.repeat(channels, axis=-1), options.tta)
        chromas *= options.saturation
        rows = zip(pictures, small, chromas, strict=True)
        for row, (picture, luma, chroma) in enumerate(rows, first):
            with _naming_row(row):
                if options.size == "model":
                    alpha = picture.alpha and picture.alpha.resize(luma.size)
                    picture = Picture(luma, alpha)
                answer = encode_picture(blend(picture, chroma), options.format)
            yield answer


def open_session(path: str) -> "onnxruntime.InferenceSession":
    """Open an ONNX network and check that it keeps the contract of a colorizer.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
        Refusal: input is not (N, S, S, 1) or (N, S, S, 3).
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
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
        raise Refusal(f"Expected a network of input (N, S, S, 1 or 3). Received: shape={shape}")
    return session


def read_pixel_limit(environ: Mapping[str, str]) -> int:
    """Return the most pixels a picture may have: `COLORIZER_MAX_PIXELS` or 64 million.

    Raises:
        Refusal: the variable is not a whole number above 0.
    """
    text = environ.get(MAX_PIXELS_VARIABLE, str(DEFAULT_MAX_PIXELS))
    if not text.isdecimal() or int(text) == 0:
        raise Refusal(f"Expected {MAX_PIXELS_VARIABLE} to be a number above 0. Received: {text}")
    return int(text)


def read_options(params: dict[str, Any]) -> Options:
    """Check the params of a request.

    Args:
        params: `format` png, jpeg or webp; `size` original, or model (the network's square);
            `tta` True averages over the picture and its mirror; `saturation` 0 (gray) to 2.

    Raises:
        Refusal: a value is out of range; names the param.
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


def open_picture(cell: object, max_pixels: int | None = None) -> Image.Image:
    """Open a picture given as bytes or base64 text, without decoding its pixels.

    Its EXIF is safe to read: blocks that would take too much memory are left out.

    Args:
        cell: the picture.
        max_pixels: the limit for a TIFF's tile; None: that of the environment.

    Raises:
        PictureError: missing, empty, not base64, not a picture of a format in `READABLE`, or one
            that `inspect_picture` refuses.
    """
    max_pixels = max_pixels or read_pixel_limit(os.environ)
    if isinstance(cell, str):
        cell = cell.encode("ascii", "replace")
    if not isinstance(cell, (bytes, bytearray, memoryview)):
        raise PictureError(f"must be bytes or base64 text, not {type(cell).__name__}")
    data = bytes(cell)
    if not data.strip():
        raise PictureError("is empty")
    # MLflow passes on `inputs` and `instances` as the client sent them: as base64 text.
    image = _open(data, max_pixels) or _open(_decode_base64(data), max_pixels)
    if image is None:
        raise PictureError(f"is not {_READABLE_NAMES}")
    return image


def read_picture(image: Image.Image, max_pixels: int) -> Picture:
    """Decode an opened picture of any mode: upright, in sRGB, luma and alpha apart.

    Args:
        image: of `open_picture`; of an animation, the first frame is read.
        max_pixels: the limit; the header is checked before anything is decoded.

    Raises:
        PictureError: too large, broken or truncated.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(f"has {width} x {height} pixels, {_above(max_pixels)}")
    if max(width, height) > MAX_SIDE:
        raise PictureError(
            f"has {width} x {height} pixels, a side above the limit of {MAX_SIDE} pixels"
        )
    try:
        image.load()
        turn = _find_turn(image)
        luma, alpha = _split(image)
        if turn is None:
            return Picture(luma, alpha)
        return Picture(luma.transpose(turn), alpha and alpha.transpose(turn))
    except MemoryError:
        raise PictureError(_NO_MEMORY) from None
    except Exception:  # Pillow's decoders raise all kinds of errors on broken files.
        raise PictureError(f"is a broken or truncated {image.format}") from None


def turn_upright(image: Image.Image) -> Image.Image:
    """Decode a picture of `open_picture`, and apply the orientation in its EXIF."""
    image.load()
    turn = _find_turn(image)
    if turn is None:
        return image
    upright = image.transpose(turn)
    upright.info = image.info
    return upright


def predict_chroma(
    session: "onnxruntime.InferenceSession", grays: np.ndarray, tta: bool = False
) -> np.ndarray:
    """Run the network and keep only the color of its output.

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
        chroma: float32 (S, S, 2), of `predict_chroma`.

    Returns:
        Mode RGB, or RGBA where the picture has an alpha.
    """
    width, height = picture.luma.size
    red, blue = (Image.fromarray(np.ascontiguousarray(chroma[..., i])) for i in (0, 1))
    blended = Image.new("RGB", (width, height))
    for _, top, _, bottom in _cut(picture.luma.size, STRIPE_PIXELS):
        stripe = picture.luma.crop((0, top, width, bottom))
        box = (0, top * red.height / height, red.width, bottom * red.height / height)
        planes = [
            np.asarray(plane.resize(stripe.size, Image.Resampling.BILINEAR, box))
            for plane in (red, blue)
        ]
        blended.paste(_to_rgb(np.asarray(stripe), *planes), (0, top))
    if picture.alpha is not None:
        blended.putalpha(picture.alpha)
    return blended


def require_webp(image: Image.Image) -> None:
    """Raise a PictureError if libwebp would take gigabytes to write a picture with transparency."""
    if image.mode == "RGBA" and math.prod(image.size) > MAX_CLEAR_WEBP_PIXELS:
        raise PictureError(
            "is too large for a webp with transparency, above the limit of "
            f"{MAX_CLEAR_WEBP_PIXELS} pixels"
        )


def encode_picture(image: Image.Image, format: str) -> bytes:
    """Encode a picture; JPEG has no alpha, so there it is laid on white.

    Raises:
        PictureError: the format cannot hold a picture this wide or high, or libwebp would take
            gigabytes for its alpha.
    """
    if format == "webp":
        require_webp(image)
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


def inspect_picture(data: bytes, max_pixels: int) -> bytes:
    """Refuse an encoded picture that would take far more memory or time than honest ones.

    Args:
        data: the file; what is not a picture passes, and the decoder refuses it.
        max_pixels: the most that a TIFF's tile may have.

    Returns:
        The same bytes; EXIF that is too long or broken is renamed, so that no decoder reads it.

    Raises:
        PictureError: too many scans, or TIFF tags that ask for too much.
    """
    if data[:4] in _TIFF_STARTS:
        # Pillow takes a big-endian BigTIFF for a classic one, libtiff for what it is.
        for big in {data[2] == 43, 43 in data[2:4]}:
            for layout in _walk_directories(data, big):
                _check_layout(layout, max_pixels)
    # The two bytes of a scan also occur by chance: only many of them are worth a walk.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        if sum(marker == _SCAN for marker, _, _ in _walk_segments(data)) > MAX_SCANS:
            raise PictureError(f"has more than {MAX_SCANS} scans, the limit of a JPEG")
    renamed = bytearray()
    for index, (names, read) in enumerate(_find_exif(data)):
        if index < MAX_EXIF_BLOCKS and _is_harmless(read()):
            continue
        renamed = renamed or bytearray(data)
        for name in names:
            renamed[name : name + 4] = _UNKNOWN
            if data.startswith(b"\x89PNG"):
                end = name + 4 + int.from_bytes(data[name - 4 : name])
                renamed[end : end + 4] = zlib.crc32(renamed[name:end]).to_bytes(4)
    return bytes(renamed) or data


def _walk_directories(data: bytes, big: bool) -> Iterator[dict[int, int]]:
    """Yield the tags of each TIFF directory that lay out its pixels; of offsets, their number.

    Each directory is visited once, and overlapping ones add up to the limit: the walk takes time
    in proportion to the size of the file, whatever its tags say.
    """
    order = "<" if data[:2] == b"II" else ">"
    pointer, counter = (struct.Struct(order + "IQ"[big]), struct.Struct(order + "HQ"[big]))
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    total, visited, pending = 0, set(), [*_unpack(pointer, data, 8 if big else 4)]
    while pending:
        start = pending.pop()
        found = () if start in visited else _unpack(counter, data, start)
        visited.add(start)
        for count in found:
            first = start + counter.size
            last = first + min(count, (len(data) - first) // entry.size) * entry.size
            total = _within(total + last - start + pointer.size, data)
            layout: dict[int, int] = defaultdict(int)
            for tag, kind, number, value in entry.iter_unpack(memoryview(data)[first:last]):
                total = _within(total + number * _SIZES.get(kind, 0), data)
                if number > MAX_TAG_NUMBERS and kind in _SIZES and kind not in _BYTES:
                    raise PictureError(f"has a tag above the limit of {MAX_TAG_NUMBERS} numbers")
                if tag in (_STRIPS, _TILES):
                    layout[tag] = max(layout[tag], number)
                elif tag in _DIRECTORIES + _LAYOUT and kind in _INTEGERS:
                    numbers = struct.Struct(f"{order}{number}{_INTEGERS[kind]}")
                    inside = numbers.size <= pointer.size
                    source = (value, 0) if inside else (data, *pointer.unpack(value))
                    values = _unpack(numbers, *source)
                    if tag in _DIRECTORIES:
                        pending += values
                    else:
                        layout[tag] = max(layout[tag], *values, 0)
            yield layout
            pending += filter(None, _unpack(pointer, data, last))  # 0: there is no next one


def _unpack(form: struct.Struct, data: bytes, start: int) -> tuple[int, ...]:
    """Unpack numbers at an offset; none if that lies outside."""
    return form.unpack_from(data, start) if 0 <= start <= len(data) - form.size else ()


def _within(total: int, data: bytes) -> int:
    if total > len(data) + MAX_TAGS_SLACK:
        raise PictureError(
            f"has tags that add up to more than its {len(data)} bytes and {MAX_TAGS_SLACK} more, "
            "the limit of a TIFF"
        )
    return total


def _check_layout(layout: dict[int, int], max_pixels: int) -> None:
    """Refuse too large a tile, and more strips or tiles than fit: to decode them takes hours.

    A strip is never larger than the picture, whose pixels are counted.
    """
    width, height = layout[_WIDTH], layout[_HEIGHT]
    tile_width, tile_height = layout[_TILE_WIDTH], layout[_TILE_HEIGHT]
    if tile_width * tile_height > max_pixels:
        raise PictureError(
            f"has a tile of {tile_width} x {tile_height} pixels, {_above(max_pixels)}"
        )
    strips = -(-height // (layout[_ROWS] or height or 1))
    tiles = -(-width // (tile_width or width or 1)) * -(-height // (tile_height or height or 1))
    if layout[_STRIPS] > _MOST_PLANES * strips or layout[_TILES] > _MOST_PLANES * tiles:
        raise PictureError(f"has more strips or tiles than {width} x {height} pixels fill")


def _walk_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG, up to the end of its first picture."""
    at, scanned = 2, False
    while match := _SEGMENT.search(data, at):
        marker, at = data[match.end() - 1], match.end()
        if marker != _END:
            start, at = at + 2, at + max(2, int.from_bytes(data[at : at + 2]))
            yield marker, start, at
            scanned = scanned or marker == _SCAN
        elif scanned:
            return


def _find_exif(data: bytes) -> Iterator[tuple[list[int], Callable[[], bytes | None]]]:
    """Yield each EXIF block: the offsets of its names, and a function that reads it.

    The function returns None if the block is not to be trusted. MPF, a JPEG's list of further
    pictures, has the structure of EXIF.
    """
    if data.startswith(b"\xff\xd8"):
        parts = []
        for marker, start, end in _walk_segments(data):
            if marker == _SCAN:
                break
            if marker == _APP2 and data.startswith(b"MPF\0", start):
                yield [start], memoryview(data)[start + 4 : end].tobytes
            if marker == _APP1 and data.startswith(b"Exif\0\0", start):
                parts.append(slice(start, end))
        if parts:  # Pillow takes them for one
            yield (
                [part.start for part in parts],
                lambda: b"".join(data[part.start + 6 : part.stop] for part in parts),
            )
    elif data.startswith(b"\x89PNG"):
        at = 8
        while at + 8 <= len(data):
            kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4])
            if kind == b"eXIf":
                yield [at + 4], memoryview(data)[at + 8 : end].tobytes
            elif kind in _PNG_TEXTS and data.startswith((b"exif\0", _RAW_PROFILE), at + 8):
                yield [at + 4], partial(_read_profile, kind, data, at + 8, end)
            at = end + 4
    elif data.startswith(b"RIFF"):
        at = 12
        while at + 8 <= len(data):
            end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            if data.startswith(b"EXIF", at):
                yield [at], memoryview(data)[at + 8 : end].tobytes
            at = end + end % 2
    elif data[4:8] == b"ftyp":  # AVIF: Pillow reads the orientation from other boxes
        for match in _AVIF_EXIF.finditer(data):
            yield [match.end() - 4], lambda: None


def _read_profile(kind: bytes, data: bytes, start: int, end: int) -> bytes | None:
    """Decode EXIF as ImageMagick wrote it into PNG text: hexadecimal, below three other lines."""
    longest = 3 * MAX_EXIF_BYTES  # two digits a byte, and newlines
    text = data[start + len(_RAW_PROFILE) : min(end, start + longest)]
    if kind == b"iTXt" or not data.startswith(_RAW_PROFILE, start):
        return None
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], longest)
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except (ValueError, zlib.error):
        return None


def _is_harmless(block: bytes | None) -> bool:
    if block is None or len(block) > MAX_EXIF_BYTES:
        return False
    try:
        for _ in _walk_directories(_EXIF_HEADS.sub(b"", block, count=1), big=False):
            pass
    except PictureError:
        return False
    return True


def _above(max_pixels: int) -> str:
    return f"above the limit of {max_pixels} pixels (environment variable {MAX_PIXELS_VARIABLE})"


def _open(data: bytes, max_pixels: int) -> Image.Image | None:
    data = inspect_picture(data, max_pixels)
    # Pillow's own pixel limit is a global that warns or raises in its own words: ours replaces it.
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=READABLE)
        except MemoryError:
            raise PictureError(_NO_MEMORY) from None
        except Exception:
            return None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode_base64(text: bytes) -> bytes:
    if text.startswith(b"data:"):
        text = text.partition(b",")[2]
    try:
        return base64.b64decode(text.translate(None, string.whitespace.encode()), validate=True)
    except binascii.Error:
        raise PictureError(f"is neither base64 text nor {_READABLE_NAMES}") from None


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # A picture with broken EXIF is colored all the same.
        return None


def _cut(size: tuple[int, int], pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of whole rows that hold about so many pixels each."""
    width, height = size
    rows = max(1, pixels // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _split(image: Image.Image) -> Picture:
    white, profile = _find_white(image), image.info.get("icc_profile")
    luma, alpha, transform = Image.new("L", image.size), None, None
    for box in _cut(image.size, DECODED_PIXELS):
        part = image if box == (0, 0, *image.size) else image.crop(box)  # most are one part
        color, clear = _separate(part, white)
        if box[1] == 0:  # the others have the same mode
            transform = _find_transform(color.mode, profile)
            alpha = clear and Image.new("L", image.size)
        if transform is not None:
            color = ImageCms.applyTransform(color, transform) or color
        luma.paste(color.convert("L"), box)
        if alpha is not None and clear is not None:
            alpha.paste(clear, box)
    return Picture(luma, alpha)


def _separate(image: Image.Image, white: float) -> tuple[Image.Image, Image.Image | None]:
    if _is_deep(image):
        values = (_to_floats(image) * (WHITE / white)).round().clip(0, WHITE)
        return Image.fromarray(values.astype(np.uint8)), None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        color = rgba.convert("L" if image.mode.startswith("L") else "RGB")
        return color, rgba.getchannel("A")
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB"), None


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("F", "I") or image.mode.startswith("I;")


def _to_floats(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)


def _find_white(image: Image.Image) -> float:
    # White is 65535 in 16 bits; in 32-bit integers and floats it depends on their maximum.
    if not _is_deep(image) or image.mode.startswith("I;16"):
        return 65535
    boxes = _cut(image.size, DECODED_PIXELS)
    highest = max(_to_floats(image.crop(box)).max() for box in boxes)
    return next((top for top in (1, 255, 65535) if highest <= top), highest)


def _find_transform(mode: str, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a color mode into sRGB; None if it is sRGB or unknown."""
    if not profile and mode != "LAB":
        return None
    source = io.BytesIO(profile) if profile else ImageCms.createProfile("LAB")
    try:
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # A broken profile, or one of another color space, is ignored.


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


def read_chunks(cells: Iterable[object], max_pixels: int) -> Iterator[list[Picture]]:
    """Decode rows as they are needed, in groups that take little memory."""
    chunk: list[Picture] = []
    pixels = 0
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
        raise Refusal(f"Row {row}: the picture {error}") from None
    except MemoryError:
        raise Refusal(f"Row {row}: the picture {_NO_MEMORY}") from None


def _bad_param(name: str, expected: str) -> Refusal:
    return Refusal(f"Param '{name}' must be {expected}")


_NO_MEMORY = "takes more memory than there is"
_READABLE_NAMES = "a JPEG, PNG, WebP, TIFF, BMP or GIF"

mlflow.models.set_model(Colorizer())
