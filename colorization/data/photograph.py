"""Reads one picture file: upright, black bars trimmed, stretched to a square.

Of a panorama, it reads the tile in the middle: a network sees what it sees where it serves.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageChops, ImageOps

from colorization.config import Config
from colorization.data.listing import read_regular
from colorization.data.tone import GRAY, find_tone
from colorization.limits import MAX_PICTURE_BYTES
from colorization.pictures import (
    DECODED_PIXELS,
    MAX_PIXELS,
    PictureError,
    cut,
    find_tiles,
    is_deep,
    open_encoded,
    read_srgb,
)

IMAGE_SIZE = Config.size
"""Side by default, in pixels. Every picture is judged at this size, so that a set has the same
split and digest at any size."""

# Decoding at twice the final side leaves enough for the Lanczos filter and for trimmed bars.
_DECODED = 2

# Padding is black up to JPEG noise: in the bars of 531 photographs, measured at 256 pixels, rows
# have means up to 6.5 and few pixels above 16.
_BLACK = 24
_BLACK_MEAN = 8.0
_BLACK_SHARE = 0.98
# A bar ends at a straight edge across the picture. Where a bird rises from a black background
# few pixels of the next row brighten; behind padding even the darkest garden brightens nearly all.
_EDGE_STEP = 3
_EDGE_SHARE = 0.6
_EDGE_ROWS = 5  # rescaling and JPEG smear an edge over a few rows
_MOST_PADDING = 0.75  # of a side; the widest bar measured takes 0.52

_METHODS = (imagehash.dhash, imagehash.phash)
_GRAY_MODES = {"1", "L", "LA", "La"}


class LeftOut(ValueError):
    """A picture cannot be used; the message is the reason, the same on every machine."""


@dataclass(frozen=True)
class Photograph:
    """What is known of a picture file: its `perceptual_hashes` are zeros if it is left out."""

    sha256: str  # of the file, in hex; empty if it could not be read at all
    reason: str  # why the picture is left out; empty if it is usable
    hashes: np.ndarray


def read(path: Path, out: np.ndarray) -> Photograph:
    """Read one file into `out`, uint8 (S, S, 3) RGB, untouched if the picture is left out."""
    sha256 = ""
    try:
        content = read_regular(path, MAX_PICTURE_BYTES)
        sha256 = hashlib.sha256(content).hexdigest()
        image = decode(content)
        if tone := find_tone(image):
            raise LeftOut(f"{tone}: there is no color to learn from it")
        out[:] = np.asarray(image if len(out) == IMAGE_SIZE else decode(content, len(out)))
    except LeftOut as left_out:
        reason = str(left_out)
    except OSError as error:  # the file is gone, not regular, or not readable
        reason = f"unreadable: {error.strerror or type(error).__name__}"
    except MemoryError:
        reason = "too large: it does not fit into memory"
    else:
        return Photograph(sha256, "", perceptual_hashes(image))
    return Photograph(sha256, reason, np.zeros((2, 2), np.uint64))


def is_in_color(content: bytes) -> bool:
    """Return whether an image file is a picture in color: not gray, in sepia, or unreadable."""
    try:
        return not find_tone(decode(content))
    except LeftOut:
        return False


def decode(content: bytes, size: int = IMAGE_SIZE) -> Image.Image:
    """Decode an image file into an upright RGB picture of `size` x `size`, without black bars.

    `size` is in pixels.

    Raises:
        LeftOut: it cannot be decoded, or is too large.
    """
    try:
        rgb = _decode(content, _DECODED * size)
        left, top, right, bottom = picture_box(rgb)
        tiles = find_tiles((right - left, bottom - top))
        x, y, end_x, end_y = tiles[len(tiles) // 2]
        box = (left + x, top + y, left + end_x, top + end_y)
        return rgb.resize((size, size), Image.Resampling.LANCZOS, box)
    except LeftOut:
        raise
    except MemoryError:
        raise LeftOut("too large: it does not fit into memory") from None
    except Exception as error:  # damage makes Pillow's decoders raise anything
        raise LeftOut(f"unreadable: {type(error).__name__} while decoding") from None


def _decode(content: bytes, side: int) -> Image.Image:
    try:
        opened = open_encoded(content, MAX_PIXELS)
    except PictureError as error:
        kind = "unreadable" if str(error).startswith("is ") else "too large"
        raise LeftOut(f"{kind}: it {error}") from None
    if opened is None:
        raise LeftOut("unreadable: not in an image format known here")
    opened.draft(None, (side, side))
    opened.load()
    if opened.mode in _GRAY_MODES or is_deep(opened):
        raise LeftOut(f"{GRAY}: there is no color to learn from it")
    return _on_white(read_srgb(opened))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    rgb = Image.new("RGB", image.size)
    for box in cut(image.size, DECODED_PIXELS):
        stripe = image.crop(box)
        white = Image.new("RGBA", stripe.size, "white")
        rgb.paste(Image.alpha_composite(white, stripe).convert("RGB"), box)
    return rgb


def picture_box(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of an RGB picture inside black padding.

    A bar is black across the picture and ends at a straight edge; so dark photographs keep their
    dark borders.
    """
    width, height = image.size
    rows = (0, 0, width, 1), (0, height - 1, width, height)
    columns = (0, 0, 1, height), (width - 1, 0, width, height)
    sides = [np.asarray(image.crop(box)).max(axis=2).reshape(1, -1) for box in rows + columns]
    if not any(_is_black(side)[0] for side in sides):  # most pictures
        return 0, 0, width, height
    red, green, blue = image.split()
    brightest = np.asarray(ImageChops.lighter(ImageChops.lighter(red, green), blue))  # (H, W)
    bright = brightest > _BLACK
    # Bars in one direction must not hide the edges of bars in the other.
    upright, lying = brightest[:, bright.any(axis=0)], brightest.T[:, bright.any(axis=1)]
    if upright.size == 0:
        return 0, 0, width, height
    top, bottom = _bar(upright), _bar(upright[::-1])
    left, right = _bar(lying), _bar(lying[::-1])
    if left + right > _MOST_PADDING * width or top + bottom > _MOST_PADDING * height:
        return 0, 0, width, height
    return left, top, width - right, height - bottom


def _bar(rows: np.ndarray) -> int:
    """Count the first rows that are padding, including the blended row at their edge."""
    bar = int(np.argmin(_is_black(rows)))  # the first row that is not black
    if bar == 0:
        return 0
    near = rows[bar - 1 : bar + _EDGE_ROWS].astype(np.int16)
    edge = bar + int(np.argmax(np.diff(near.mean(axis=1))))
    step = rows[edge].astype(np.int16) - rows[max(bar - 2, 0)]
    return edge + 1 if (step > _EDGE_STEP).mean() >= _EDGE_SHARE else 0


def _is_black(rows: np.ndarray) -> np.ndarray:
    return ((rows <= _BLACK).mean(axis=1) >= _BLACK_SHARE) & (rows.mean(axis=1) <= _BLACK_MEAN)


def perceptual_hash(image: Image.Image) -> str:
    """Return the first of `perceptual_hashes`, as 32 hex digits."""
    return np.packbits(_bits(image.convert("L"))).tobytes().hex()


def perceptual_hashes(image: Image.Image) -> np.ndarray:
    """Hash what a picture looks like: uint64 (2, 2), the picture's and its mirror image's.

    Each has 128 bits: gradients (dhash) and the lowest cosine frequencies (phash). Either alone
    matches different scenes at a threshold that still misses real twins.
    """
    gray = image.convert("L")
    bits = [_bits(gray), _bits(ImageOps.mirror(gray))]
    return np.packbits(bits, axis=1).view(np.uint64)


def _bits(gray: Image.Image) -> np.ndarray:
    """Return the 128 bits of a hash, bool."""
    return np.concatenate([method(gray).hash.ravel() for method in _METHODS])
