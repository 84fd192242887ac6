"""A picture as it is colored: from bytes or base64 text to luma and alpha, upright."""

import base64
import binascii
import io
import os
import string
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image, ImageCms

from .directories import PictureError
from .formats import FORMATS, NO_MEMORY, READABLE, is_deep, open_encoded
from .limits import DEFAULT_MAX_PIXELS, MAX_PIXELS_VARIABLE

WHITE = 255.0
DECODED_PIXELS = 1 << 22  # split into luma and alpha at a time: several copies of 4 bytes a pixel
MOST_TILES = 16  # as much work as a request of 16 pictures

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
_WEB_SAFE = bytes.maketrans(b"-_", b"+/")  # base64's letters for URLs to the standard ones


class Picture(NamedTuple):
    """A decoded, upright picture."""

    luma: Image.Image  # mode L
    alpha: Image.Image | None  # mode L, of the same size


def read_pixel_limit(environ: Mapping[str, str]) -> int:
    """Return the most pixels a picture may have: `COLORIZER_MAX_PIXELS` or 64 million.

    Raises:
        ValueError: the variable is not a whole number above 0.
    """
    text = environ.get(MAX_PIXELS_VARIABLE, str(DEFAULT_MAX_PIXELS))
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"Expected {MAX_PIXELS_VARIABLE} to be a number above 0. Received: {text}")
    return int(text)


def open_picture(cell: object, max_pixels: int | None = None) -> Image.Image:
    """Open a picture given as bytes or base64 text, as `open_encoded` does.

    The limit is that of the environment if none is given.

    Raises:
        PictureError: missing, empty, not base64, or not a picture that `open_encoded` opens.
    """
    max_pixels = max_pixels or read_pixel_limit(os.environ)
    is_text = isinstance(cell, (str, np.bytes_))
    if isinstance(cell, str):
        cell = cell.encode("ascii", "replace")
    if not isinstance(cell, (bytes, bytearray, memoryview)):
        raise PictureError(f"must be bytes or base64 text, not {type(cell).__name__}")
    data = bytes(cell)
    if not data.strip():
        raise PictureError("is empty")
    image = open_encoded(data, max_pixels)
    if image is None:
        # MLflow passes on `inputs` and `instances` as the client sent them: as base64 text.
        try:
            decoded = _decode_base64(data)
        except PictureError:
            if is_text:
                raise
            decoded = b""  # a file, whose owner need not know of base64
        image = open_encoded(decoded, max_pixels)
    if image is None:
        raise PictureError(f"is not {READABLE}")
    return image


def read_picture(image: Image.Image) -> Picture:
    """Decode a picture of `open_picture`: upright, in sRGB, luma and alpha apart.

    Of an animation, the first frame is read.

    Raises:
        PictureError: broken or truncated, or too large for the memory.
    """
    try:
        image.load()
        turn = _find_turn(image)
        luma, alpha = _split(image)
        if turn is None:
            return Picture(luma, alpha)
        return Picture(luma.transpose(turn), alpha and alpha.transpose(turn))
    except MemoryError:
        raise PictureError(NO_MEMORY) from None
    except PictureError:
        raise
    except Exception:  # Pillow's decoders raise all kinds of errors on broken files.
        name = FORMATS.get(image.format or "", image.format)
        raise PictureError(f"is a broken or truncated {name}") from None


def read_srgb(image: Image.Image) -> Image.Image:
    """Decode a picture of `open_picture`: upright, in sRGB; RGB, or RGBA where it has an alpha."""
    image.load()
    turn, srgb = _find_turn(image), image
    is_plain = image.mode == "RGB" and not image.has_transparency_data
    parts = () if is_plain and not image.info.get("icc_profile") else _separate_all(image)
    for box, color, clear in parts:
        part = color.convert("RGB")
        if clear is not None:
            part.putalpha(clear)
        if box[1] == 0:
            srgb = Image.new(part.mode, image.size)
        srgb.paste(part, box)
    return srgb if turn is None else srgb.transpose(turn)


def _decode_base64(text: bytes) -> bytes:
    """Decode base64 of either alphabet (RFC 4648), with or without padding, blanks and `data:`."""
    text = text.lstrip()
    if text[:5].lower() == b"data:":
        text = unquote_to_bytes(text.partition(b",")[2])
    text = text.translate(_WEB_SAFE, string.whitespace.encode()).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise PictureError(f"is neither base64 text nor {READABLE}") from None


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # A picture with broken EXIF is colored all the same.
        return None


def cut(size: tuple[int, int], pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of whole rows that hold about so many pixels each."""
    width, height = size
    rows = max(1, pixels // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def find_tiles(size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Return the boxes of a picture that a network sees, each stretched to its square.

    Most pictures are one tile. A panorama, from about 2:1, is squares, since stretched to one its
    colors are duller and more wrong (`benchmarks/quality.md`).
    """
    squares = int(max(size) / min(size) + 0.1)  # 16:9 is one
    return spread_tiles(size, min(2 * squares - 1, MOST_TILES))


def spread_tiles(size: tuple[int, int], count: int) -> list[tuple[float, float, float, float]]:
    """Return so many boxes along the longer side, each of which overlaps half of the next."""
    width, height = size
    spans = [(index / (count + 1), (index + 2) / (count + 1)) for index in range(count)]
    if width > height:
        return [(start * width, 0, end * width, height) for start, end in spans]
    return [(0, start * height, width, end * height) for start, end in spans]


def _split(image: Image.Image) -> Picture:
    luma, alpha = Image.new("L", image.size), None
    for box, color, clear in _separate_all(image):
        luma.paste(color.convert("L"), box)
        if clear is not None:
            alpha = alpha or Image.new("L", image.size)
            alpha.paste(clear, box)
    return Picture(luma, alpha)


def _separate_all(
    image: Image.Image,
) -> Iterator[tuple[tuple[int, int, int, int], Image.Image, Image.Image | None]]:
    """Yield boxes of a picture with their color, in sRGB or gray, and their alpha."""
    white, profile, transform = _find_white(image), image.info.get("icc_profile"), None
    for box in cut(image.size, DECODED_PIXELS):
        part = image if box == (0, 0, *image.size) else image.crop(box)  # most are one part
        color, clear = _separate(part, white)
        if box[1] == 0:  # the others have the same mode
            transform = _find_transform(color.mode, profile)
        if transform is not None:
            color = ImageCms.applyTransform(color, transform) or color
        yield box, color, clear


def _separate(image: Image.Image, white: float) -> tuple[Image.Image, Image.Image | None]:
    if is_deep(image):
        values = (_to_floats(image) * (WHITE / white)).round().clip(0, WHITE)
        return Image.fromarray(values.astype(np.uint8)), None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        color = rgba.convert("L" if image.mode.startswith("L") else "RGB")
        return color, rgba.getchannel("A")
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB"), None


def _to_floats(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)


def _find_white(image: Image.Image) -> float:
    # White is 65535 in 16 bits; in 32-bit integers and floats it depends on their maximum.
    if (
        not is_deep(image)
        or image.mode.startswith("I;16")
        or (image.mode, image.format) == ("I", "PPM")
    ):
        return 65535
    boxes = cut(image.size, DECODED_PIXELS)
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
