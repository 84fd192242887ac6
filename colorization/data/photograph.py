"""One picture file: opened upright, its black bars trimmed, stretched to the square."""

import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from colorization.data.regular_file import read_regular
from colorization.limits import MAX_PICTURE_BYTES

IMAGE_SIZE = 128
"""Side of the prepared pictures, in pixels."""

MAX_PIXELS = 89_478_485
"""Larger pictures are left out: from here on Pillow warns of a decompression bomb."""

# Decoding at twice the final side leaves enough for the Lanczos filter and for trimmed bars.
_DECODED_SIDE = 2 * IMAGE_SIZE

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

# A picture is gray if hardly any pixel is this far from the gray axis in the CbCr plane (0..181).
# In gray scans kept as color JPEG one in a hundred lies beyond 2 at the most; in the grayest
# color photograph measured, a crow on snow, one in a hundred beyond 6.3.
_GRAY_CHROMA = 4
_COLORED_SHARE = 0.01

_GRAY_MODES = {"1", "L", "LA", "La", "I", "F"}  # and "I;16" in its byte orders


class LeftOut(ValueError):
    """A picture that cannot be used; its message is the reason, the same on every machine."""


@dataclass(frozen=True)
class Photograph:
    """What is known of one picture file once it was read.

    Attributes:
        sha256: of the file, in hex; empty if the file could not be read at all.
        reason: why the picture is left out; empty if it is usable.
        hashes: uint64 (2, 2), see `perceptual_hashes`; zeros if the picture is left out.
    """

    sha256: str
    reason: str
    hashes: np.ndarray


def read(path: Path, out: np.ndarray) -> Photograph:
    """Read one file into `out`, uint8 (128, 128, 3) RGB, untouched if the picture is left out."""
    sha256 = ""
    try:
        content = read_regular(path, MAX_PICTURE_BYTES)
        sha256 = hashlib.sha256(content).hexdigest()
        image = decode(content)
        if is_gray(image):
            raise LeftOut("gray already: there is no color to learn from it")
        out[:] = np.asarray(image)
    except LeftOut as reason:
        return Photograph(sha256, str(reason), np.zeros((2, 2), np.uint64))
    except OSError as error:  # the file itself: gone, no regular one, or not ours to read
        reason = f"unreadable: {error.strerror or type(error).__name__}"
        return Photograph(sha256, reason, np.zeros((2, 2), np.uint64))
    except MemoryError:
        reason = "too large: it does not fit into memory"
        return Photograph(sha256, reason, np.zeros((2, 2), np.uint64))
    return Photograph(sha256, "", perceptual_hashes(image))


def decode(content: bytes) -> Image.Image:
    """Decode an image file into an upright RGB picture of 128 by 128 pixels without black bars.

    Raises:
        LeftOut: If no picture can be decoded from `content`, or a too large one.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise LeftOut(f"too large: {image.width}x{image.height} pixels")
            image.draft(None, (_DECODED_SIDE, _DECODED_SIDE))
            rgb = _rgb(ImageOps.exif_transpose(image))
    except LeftOut:
        raise
    except UnidentifiedImageError:
        raise LeftOut("unreadable: not in an image format known here") from None
    except Image.DecompressionBombError:
        raise LeftOut(f"too large: more than {2 * MAX_PIXELS} pixels") from None
    except MemoryError:
        raise LeftOut("too large: it does not fit into memory") from None
    except Exception as error:  # Pillow's decoders raise what the damage makes them raise
        raise LeftOut(f"unreadable: {type(error).__name__} while decoding") from None
    box = picture_box(rgb)
    return rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS, box=box)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; what is transparent becomes white."""
    if image.mode in _GRAY_MODES or image.mode.startswith("I;16"):
        raise LeftOut("gray already: there is no color to learn from it")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def picture_box(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of an RGB picture inside black padding.

    The whole picture where there is no padding: a bar is black across the picture and ends at a
    straight edge, so that dark photographs keep their dark borders.
    """
    width, height = image.size
    pixels = np.asarray(image)  # (H, W, 3)
    sides = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    if not any(_is_black(side.max(axis=1)[np.newaxis])[0] for side in sides):  # most pictures
        return 0, 0, width, height
    red, green, blue = image.split()
    brightest = np.asarray(ImageChops.lighter(ImageChops.lighter(red, green), blue))  # (H, W)
    bright = brightest > _BLACK
    # The bars of one direction must not hide the edges of those of the other.
    upright, lying = brightest[:, bright.any(axis=0)], brightest.T[:, bright.any(axis=1)]
    if upright.size == 0:
        return 0, 0, width, height
    top, bottom = _bar(upright), _bar(upright[::-1])
    left, right = _bar(lying), _bar(lying[::-1])
    if left + right > _MOST_PADDING * width or top + bottom > _MOST_PADDING * height:
        return 0, 0, width, height
    return left, top, width - right, height - bottom


def _bar(rows: np.ndarray) -> int:
    """Count the rows from the first on that are padding, with the blended row at its edge."""
    bar = int(np.argmin(_is_black(rows)))  # the first row that is not black
    if bar == 0:
        return 0
    near = rows[bar - 1 : bar + _EDGE_ROWS].astype(np.int16)
    edge = bar + int(np.argmax(np.diff(near.mean(axis=1))))
    step = rows[edge].astype(np.int16) - rows[max(bar - 2, 0)]
    return edge + 1 if (step > _EDGE_STEP).mean() >= _EDGE_SHARE else 0


def _is_black(rows: np.ndarray) -> np.ndarray:
    return ((rows <= _BLACK).mean(axis=1) >= _BLACK_SHARE) & (rows.mean(axis=1) <= _BLACK_MEAN)


def is_gray(image: Image.Image) -> bool:
    """Tell whether an RGB picture holds almost no chroma."""
    chroma = np.asarray(image.convert("YCbCr"))[::2, ::2, 1:].astype(np.int16) - 128  # (64, 64, 2)
    colored = np.square(chroma).sum(axis=2) >= _GRAY_CHROMA**2
    return bool(colored.mean() < _COLORED_SHARE)


def perceptual_hashes(image: Image.Image) -> np.ndarray:
    """Hash what a picture looks like: uint64 (2, 2), the picture's and its mirror image's.

    128 bits each: gradients (dhash) and the lowest cosine frequencies (phash). Either alone took
    strangers for twins before it had found the last of the real ones.
    """
    gray = image.convert("L")
    bits = [
        np.concatenate([method(each).hash.ravel() for method in (imagehash.dhash, imagehash.phash)])
        for each in (gray, ImageOps.mirror(gray))
    ]  # two of 128 bool
    return np.packbits(bits, axis=1).view(np.uint64)
