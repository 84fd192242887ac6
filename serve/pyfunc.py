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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pillow_heif
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, TiffImagePlugin

if TYPE_CHECKING:
    import onnxruntime

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
MAX_TEXT_BYTES = 1 << 20  # of one text of a PNG, unpacked; Pillow reads no longer ones
MAX_PROFILE_BYTES = 1 << 24  # of a PNG's color profile, or of all its texts
MAX_TILES = 1 << 14  # of a JPEG 2000; 64 megapixels in tiles of 64 x 64
MAX_CODE_BLOCKS = 1 << 19  # of a JPEG 2000; 64 megapixels of color in blocks of 32 x 32
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

logger = logging.getLogger("colorizer")

# From here on as in colorization/pictures: directories, inspection, tiff and formats.

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # Pillow's
# Types of TIFF tags. Each number becomes an object; bytes and text stay together.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_OTHERS = {5: 8, 10: 8, 11: 4, 12: 8}  # rational and float, and their bytes
_BYTES = {1: 1, 2: 1, 7: 1}
_SIZES = {kind: struct.calcsize("=" + code) for kind, code in _INTEGERS.items()} | _OTHERS | _BYTES
_DIRECTORIES = (330, 34665, 34853, 40965)  # tags that point at another one: sub, Exif, GPS, Interop
_SUBFILE, _WIDTH, _HEIGHT, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 254, 256, 257, 278, 322, 323
_LAYOUT = (_SUBFILE, _WIDTH, _HEIGHT, _ROWS, _TILE_WIDTH, _TILE_HEIGHT)
_COPY_OR_MASK = 1 | 4  # bits of the tag NewSubfileType
_STRIPS, _TILES = 273, 324
_MOST_PLANES = 6  # of a TIFF that Pillow decodes


class PictureError(ValueError):
    """A picture cannot be read; the message completes "the picture ..."."""


def list_pages(data: bytes) -> list[int]:
    """List the directories of a TIFF's pictures by their offsets; those of anything else are none.

    Reduced copies and masks are no pages of their own, unless there are no others.
    """
    if data[:4] not in TIFF_STARTS:
        return []
    found = [each for each in _walk_directories(data, 43 in data[2:4]) if each[0]]
    pages = [start for start, layout in found if not layout[_SUBFILE] & _COPY_OR_MASK]
    return pages or [start for start, _ in found]


def take_page(data: bytes, start: int) -> bytes:
    """Return a TIFF with the page whose directory is at an offset as its only one."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    pointer, counter = (struct.Struct(order + "IQ"[big]), struct.Struct(order + "HQ"[big]))
    page = bytearray(data)
    pointer.pack_into(page, 8 if big else 4, start)
    following = start + counter.size + counter.unpack_from(data, start)[0] * (20 if big else 12)
    page[following : following + pointer.size] = bytes(pointer.size)
    return bytes(page)


def _walk_directories(data: bytes, big: bool) -> Iterator[tuple[int, dict[int, int]]]:
    """Yield each TIFF directory: its offset, and the tags that lay out its pixels.

    Of tags that are offsets, their number; of directories below another, 0 for the offset.

    Each directory is visited once, and overlapping ones add up to the limit: the walk takes time
    in proportion to the size of the file, whatever its tags say.
    """
    order = "<" if data[:2] == b"II" else ">"
    pointer, counter = (struct.Struct(order + "IQ"[big]), struct.Struct(order + "HQ"[big]))
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    total, visited = 0, set()
    pending = [(start, True) for start in _unpack(pointer, data, 8 if big else 4)]
    while pending:
        start, is_page = pending.pop()
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
                        pending += ((value, False) for value in values)
                    else:
                        layout[tag] = max(layout[tag], *values, 0)
            yield start * is_page, layout
            following = filter(None, _unpack(pointer, data, last))  # 0: there is no next one
            pending += ((value, is_page) for value in following)


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


def _above(max_pixels: int) -> str:
    return f"above the limit of {max_pixels} pixels (environment variable {MAX_PIXELS_VARIABLE})"


# JPEG markers with a segment, and the end of the picture; the others stand alone.
_SEGMENT = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
_END, _SCAN, _APP1, _APP2 = 0xD9, 0xDA, 0xE1, 0xE2
_HEIF_EXIF = re.compile(rb"infe(?:\x02...(..)|\x03...(....))..Exif", re.DOTALL)
_HEIF_SIZE = re.compile(rb"ispe....(.{8})", re.DOTALL)
_JPEG2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_JPEG2000_SIZE = re.compile(rb"\xff\x4f\xff\x51....(.{34})", re.DOTALL)
# For all channels, and for one: the length, then levels, width and height of blocks.
_JPEG2000_CODING = re.compile(rb"\xff(?:\x52(..).{5}(.{3})|\x53(..)..(.{3}))", re.DOTALL)
_MOST_CHANNELS = 5
_EXIF_HEADS = re.compile(rb"\A(?:Exif\0\0)*")
_PNG_TEXTS, _RAW_PROFILE = (b"tEXt", b"zTXt", b"iTXt"), b"Raw profile type exif\0"
_UNKNOWN = b"skIp"  # a name that no reader of any format looks for


def inspect_picture(data: bytes, max_pixels: int) -> bytes:
    """Refuse an encoded picture that would take far more memory or time than honest ones.

    Args:
        data: the file; what is not a picture passes, and the decoder refuses it.
        max_pixels: the most that a TIFF's tile, or any part of a HEIC or JPEG 2000 may have.

    Returns:
        The same bytes; what no decoder should read is renamed: EXIF that is too long or broken,
        and long texts and profiles of a PNG.

    Raises:
        PictureError: too many scans, or TIFF tags or sizes that ask for too much.
    """
    if data[:4] in TIFF_STARTS:
        # Pillow takes a big-endian BigTIFF for a classic one, libtiff for what it is.
        for big in {data[2] == 43, 43 in data[2:4]}:
            for _, layout in _walk_directories(data, big):
                _check_layout(layout, max_pixels)
    if data[4:8] == b"ftyp":
        for match in _HEIF_SIZE.finditer(data):
            width, height = struct.unpack(">II", match[1])
            _check_size(width, height, max_pixels)
    if data.startswith(_JPEG2000):
        for match in _JPEG2000_SIZE.finditer(data):
            _check_codestream(data, match, max_pixels)
    # The two bytes of a scan also occur by chance: only many of them are worth a walk.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        if sum(marker == _SCAN for marker, _, _ in _walk_segments(data)) > MAX_SCANS:
            raise PictureError(f"has more than {MAX_SCANS} scans, the limit of a JPEG")
    hidden = [*_find_long_texts(data)] if data.startswith(b"\x89PNG") else []
    for index, (names, read) in enumerate(_find_exif(data)):
        if index >= MAX_EXIF_BLOCKS or not _is_harmless(read()):
            hidden += names
    return _rename(data, hidden) if hidden else data


def _rename(data: bytes, names: list[int]) -> bytes:
    """Give blocks or chunks a name that no reader looks for."""
    renamed = bytearray(data)
    for name in names:
        renamed[name : name + 4] = _UNKNOWN
        if data.startswith(b"\x89PNG"):
            end = name + 4 + int.from_bytes(data[name - 4 : name])
            renamed[end : end + 4] = zlib.crc32(renamed[name:end]).to_bytes(4)
    return bytes(renamed)


def _check_codestream(data: bytes, size: re.Match[bytes], max_pixels: int) -> None:
    """Refuse a JPEG 2000 of too many pixels, channels, tiles or blocks of code.

    A decoder reserves memory for all of them, whatever the file holds.
    """
    right, low, left, top, width, height, tiles_left, tiles_top, channels = struct.unpack(
        ">8IH", size[1]
    )
    pixels = _check_size(right - left, low - top, max_pixels)
    tiles = -((tiles_left - right) // (width or 1)) * -((tiles_top - low) // (height or 1))
    if channels > _MOST_CHANNELS or tiles > MAX_TILES:
        raise PictureError(
            f"has {channels} channels and {tiles} tiles, above the limits of a JPEG 2000: "
            f"{_MOST_CHANNELS} and {MAX_TILES}"
        )
    for match in _JPEG2000_CODING.finditer(data):
        levels, wide, high = match[2] or match[4]
        sizes = int.from_bytes(match[1] or match[3]) - (12 if match[1] else 9)
        if levels > 32 or sizes not in (0, levels + 1):
            continue  # bytes that only look like it
        precincts = data[match.end() + 2 : match.end() + 2 + sizes] or b"\xff" * (levels + 1)
        blocks = sum(
            pixels
            * channels
            / 4 ** (levels - level)
            / 2 ** (min(wide + 2, max(0, (each & 15) - 1)) + min(high + 2, max(0, (each >> 4) - 1)))
            for level, each in enumerate(precincts)
        )
        if blocks > MAX_CODE_BLOCKS:
            raise PictureError(
                f"has more than {MAX_CODE_BLOCKS} blocks of code, the limit of a JPEG 2000"
            )


def _check_size(width: int, height: int, max_pixels: int) -> int:
    if width * height > max_pixels:
        raise PictureError(f"has {width} x {height} pixels, {_above(max_pixels)}")
    return width * height


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
        for name, kind, start, end in _walk_chunks(data):
            if kind == b"eXIf":
                yield [name], memoryview(data)[start:end].tobytes
            elif kind in _PNG_TEXTS and data.startswith((b"exif\0", _RAW_PROFILE), start):
                yield [name], partial(_read_profile, kind, data, start, end)
    elif data.startswith(b"RIFF"):
        at = 12
        while at + 8 <= len(data):
            end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            if data.startswith(b"EXIF", at):
                yield [at], memoryview(data)[at + 8 : end].tobytes
            at = end + end % 2
    elif data[4:8] == b"ftyp":
        for match in _HEIF_EXIF.finditer(data):
            item = int.from_bytes(match[1] or match[2])
            yield [match.end() - 4], partial(_read_item, data, item)


def _read_item(data: bytes, item: int) -> bytes | None:
    """Return the EXIF of a HEIC or AVIF by the number of its item; None where it is in pieces."""
    at = data.find(b"iloc") + 4
    if at < 4 or data.find(b"iloc", at) >= 0:
        return None
    version, sizes = data[at], data[at + 4 : at + 6]
    if version > 2 or len(sizes) < 2:
        return None
    offset, length, base, index = (n >> shift & 15 for n in sizes for shift in (4, 0))
    wide, at = 4 if version == 2 else 2, at + 6

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at])

    for _ in range(take(wide)):
        number, method = take(wide), take(2) if version else 0
        take(2)
        start, extents = take(base), take(2)
        for _ in range(extents):
            take(index if version else 0)
            first, size = start + take(offset), take(length)
            if number == item and extents == 1 and not method:
                block = data[first : first + size]
                tiff = min(block.find(each) % (1 << 32) for each in (b"II*\0", b"MM\0*"))
                skipped = 4 + int.from_bytes(block[:4])
                return block[tiff:] if skipped in (tiff, tiff - 6) else None
        if at >= len(data):
            break
    return None


def _walk_chunks(data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield the offset of its name, name, start and end of each chunk of a PNG."""
    at = 8
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        yield at + 4, data[at + 4 : at + 8], at + 8, end
        at = end + 4


def _find_long_texts(data: bytes) -> Iterator[int]:
    """Yield the names of a PNG's chunks that Pillow would refuse the picture for."""
    left = MAX_PROFILE_BYTES  # of all together
    for name, kind, start, end in _walk_chunks(data):
        if kind in (*_PNG_TEXTS, b"iCCP"):
            limit = min(left, MAX_PROFILE_BYTES if kind == b"iCCP" else MAX_TEXT_BYTES)
            size = _unpacked_size(kind, data[start:end], limit) if end - start < limit else limit
            left -= size
            if size >= limit:
                yield name


def _unpacked_size(kind: bytes, text: bytes, limit: int) -> int:
    """Count the bytes of a text or profile, unpacked, up to a limit."""
    packed = text.partition(b"\0")[2]
    if kind == b"iTXt":  # flag, method, language and translated name come first
        packed = packed[2:].split(b"\0", 2)[-1] if packed[:1] == b"\1" else b""
    elif kind != b"tEXt":
        packed = packed[1:]
    if not packed or kind == b"tEXt":
        return len(text)
    try:
        return len(zlib.decompressobj().decompress(packed, limit))
    except zlib.error:  # Pillow ignores it
        return len(text)


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


# By PhotometricInterpretation: the mode, and how many samples are its color.
_COLORS = {0: ("L", 1), 1: ("L", 1), 2: ("RGB", 3), 3: ("RGB", 1), 5: ("CMYK", 4), 8: ("LAB", 3)}
_PALETTE = 3
_CLEAR = {("L", 1): "La", ("L", 2): "LA", ("RGB", 1): "RGBa", ("RGB", 2): "RGBA"}  # ExtraSamples
_PACKED = (1, 5, 8, 32773, 32946, 34925, 50000)  # compressions of bytes, whatever those mean
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # by SampleFormat
_WORDS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64), "": ()}
_WHITES = (1, 255, 65535)  # of 32 bits and more, where no tag says it
_TWELVE_BITS = 4095  # of a camera, in 16 bits
_BLOCK_BYTES = 1 << 22  # unpacked at a time, where the strips allow
_MAX_STRIP_BYTES = 178_956_970  # unpacked; above, Pillow refuses it as a bomb


class SampledTiff(ImageFile.ImageFile):
    """A TIFF of integers or floats of any size, scaled to 8 bits by what its tags say.

    White is SMaxSampleValue or MaxSampleValue, else what the bits hold; of 32 bits and more, and
    of 12 bits in 16, it depends on the largest sample. libtiff unpacks the strips, as if they
    were gray of 8 bits.

    Raises:
        PictureError: at once, for a kind of TIFF that is not read.
    """

    format = "TIFF"
    format_description = "TIFF of any samples"

    def _open(self) -> None:
        self.data = self.fp.read() if self.fp else b""
        self.fp = io.BytesIO(self.data)
        header = self.data[: 16 if self.data[2] == 43 else 8]
        self.tag_v2 = TiffImagePlugin.ImageFileDirectory_v2(header)
        if self.data.startswith(b"MM\0+"):  # Pillow takes it for a classic one
            self.tag_v2._bigtiff, self.tag_v2.next = True, int.from_bytes(self.data[8:16])
        self.fp.seek(self.tag_v2.next)
        self.tag_v2.load(self.fp)
        self._size = self._tag(256), self._tag(257)
        self.photometric, self.samples = self._tag(262, 1), self._tag(277, 1)
        self.bits, self.kind = self._tag(258, 1), _KINDS.get(self._tag(339, 1), "")
        self._check()
        self._mode, self.colors = _COLORS[self.photometric]
        extra = self._tags(338) or (2,) * (self.samples - self.colors)
        clear = [i for i, kind in enumerate(extra) if (self._mode, kind) in _CLEAR]
        self.alpha = self.colors + clear[0] if clear else None
        if clear:
            self._mode = _CLEAR[self._mode, extra[clear[0]]]
        if 34675 in self.tag_v2:
            self.info["icc_profile"] = self.tag_v2[34675]

    def _tags(self, tag: int) -> tuple:
        value = self.tag_v2.get(tag, ())
        return value if isinstance(value, tuple) else (value,)

    def _tag(self, tag: int, default: Any = None) -> Any:
        values = self._tags(tag) or (default,)
        if values[0] is None:
            raise KeyError(tag)
        return values[0]

    def _check(self) -> None:
        """Refuse a kind of TIFF that is not read, by the tag that says it."""
        is_word = self.bits in _WORDS[self.kind]
        spare = self.samples - _COLORS.get(self.photometric, ("", 0))[1]
        predictors = (1, 2, 3) if self.kind == "f" else (1, 2) if is_word else (1,)
        read = {
            ("Compression", 259): self._tag(259, 1) in _PACKED,
            ("PhotometricInterpretation", 262): self.photometric in _COLORS,
            ("SamplesPerPixel", 277): 0 <= spare <= 2,
            ("SampleFormat", 339): self.kind and len({*self._tags(339)}) < 2,
            ("BitsPerSample", 258): len({*self._tags(258)}) < 2
            and (is_word or (self.kind == "u" and 1 <= self.bits <= 16)),
            ("Predictor", 317): self._tag(317, 1) in predictors,
        }
        for (name, tag), is_read in read.items():
            if not is_read:
                values = " ".join(map(str, self._tags(tag)[:8]))
                raise PictureError(f"is a kind of TIFF that is not read: {name} {values}")

    def load(self) -> Any:
        """Decode the picture, unless it is decoded."""
        if self._im is None:
            low, high = self._find_range()
            bands = [Image.new("L", self.size) for _ in Image.new(self.mode, (1, 1)).getbands()]
            for top, values in self._blocks():
                levels = self._scale(values, low, high)
                for band, plane in zip(bands, np.moveaxis(levels, -1, 0), strict=True):
                    band.paste(Image.fromarray(np.ascontiguousarray(plane)), (0, top))
            self.im = Image.merge(self.mode, bands).im
        return Image.Image.load(self)

    def _find_range(self) -> tuple[float, float]:
        """Return the samples that stand for black and white; of min-is-white, the reverse."""
        low = min(self._tags(340) or self._tags(280) or (0,))
        high = max(self._tags(341) or self._tags(281) or (0,))
        if self.photometric in (_PALETTE, 8):  # an index, a color space of its own
            return 0, 2**self.bits - 1
        if high > low and math.isfinite(high - low):
            return low, high
        if self.kind == "u" and self.bits < 16:
            return 0, 2**self.bits - 1
        found = [(values.min(), values.max()) for _, values in self._blocks()]
        low, high = float(min(each for each, _ in found)), float(max(each for _, each in found))
        if self.kind == "i" and low < 0:
            return low, max(high, low + 1)
        if self.bits == 16 and self.kind == "u":
            return 0, _TWELVE_BITS if high <= _TWELVE_BITS else 65535
        return 0, next((white for white in _WHITES if high <= white), high)

    def _scale(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """Scale samples (H, W, samples) to the levels of the mode, uint8 (H, W, bands)."""
        color, alpha = values[..., : self.colors], values[..., self.alpha or 0, None]
        if self.photometric == _PALETTE:
            table = np.array(self._tags(320), np.uint16).reshape(3, -1).T // 257
            levels = table[color[..., 0].astype(int).clip(0, len(table) - 1)]
        elif self.mode == "LAB":
            levels = color * (255 / high)
            if self.kind == "u":  # a and b are signed, whatever the tag says
                levels[..., 1:] = levels[..., 1:].astype(np.uint8) ^ 0x80
        else:
            levels = (color - low) * (255 / (high - low))
            levels = 255 - levels if self.photometric == 0 else levels
        if self.alpha is not None:
            levels = np.concatenate([levels, alpha * (255 / high)], axis=-1)
        return np.rint(levels).clip(0, 255).astype(np.uint8)

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and the samples of a few rows, float32 (H, W, samples)."""
        width, height = self.size
        planes, rows, columns, offsets, counts = self._lay_out()
        row_bytes = -(-columns * (self.samples // planes) * self.bits // 8)
        across, down = -(-width // columns), -(-height // rows)
        if len(offsets) < planes * across * down or len(counts) < len(offsets):
            raise ValueError("strips are missing")
        if rows * across * row_bytes > _MAX_STRIP_BYTES:
            raise PictureError("is a kind of TIFF that is not read: its strips are too large")
        step = max(1, _BLOCK_BYTES // (across * row_bytes * planes))  # rows
        group = max(1, step // rows)  # strips, or rows of tiles
        for first in range(0, down, group):
            count = min(group, down - first)
            inside = min(height - first * rows, count * rows)
            unpacked = []
            for plane in range(planes):
                start = (plane * down + first) * across
                pieces = slice(start, start + count * across)
                strips = [
                    self.data[offset : offset + size]
                    for offset, size in zip(offsets[pieces], counts[pieces], strict=True)
                ]
                high = inside if across == 1 and columns == width else count * rows
                raw = self._unpack(strips, (across * row_bytes, high), (row_bytes, rows))
                unpacked.append(raw[:inside].reshape(inside, across, row_bytes))
            for at in range(0, inside, step):
                parts = [self._read(raw[at : at + step], columns, planes) for raw in unpacked]
                values = np.concatenate(parts, axis=-1)[:, :width]
                yield first * rows + at, np.nan_to_num(values, copy=False, posinf=0, neginf=0)

    def _lay_out(self) -> tuple[int, int, int, Any, Any]:
        """Return planes, rows and columns of a strip or tile, where each begins, and its size."""
        width, height = self.size
        planes = self.samples if self._tag(284, 1) == 2 else 1
        if 324 in self.tag_v2:
            return planes, self._tag(323), self._tag(322), self._tags(324), self._tags(325)
        rows, offsets, sizes = min(self._tag(278, height), height), self._tags(273), self._tags(279)
        row_bytes = -(-width * (self.samples // planes) * self.bits // 8)
        if self._tag(259, 1) == 1 and rows == height:  # not packed: it can be read in parts
            rows = min(height, max(1, _BLOCK_BYTES // row_bytes))
            tops = range(0, height, rows)
            offsets = tuple(offset + top * row_bytes for offset in offsets for top in tops)
            sizes = ()
        return planes, rows, width, offsets, sizes or (rows * row_bytes,) * len(offsets)

    def _unpack(
        self, strips: list[bytes], size: tuple[int, int], block: tuple[int, int]
    ) -> np.ndarray:
        """Let libtiff unpack strips or tiles, as gray of 8 bits of this width and height."""
        ends = np.cumsum([8, *map(len, strips)]).tolist()
        tags: dict[int, Sequence[int]] = {256: size[:1], 257: size[1:], 258: [8], 262: [1]}
        tags |= {259: [self._tag(259, 1)], 266: [self._tag(266, 1)], 277: [1]}
        if 324 in self.tag_v2:
            tags |= {322: block[:1], 323: block[1:], 324: ends[:-1], 325: [*map(len, strips)]}
        else:
            tags |= {273: ends[:-1], 278: block[1:], 279: [*map(len, strips)]}
        tiff = write_tiff("<", b"".join(strips), tags)
        return np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(tiff)))

    def _read(self, raw: np.ndarray, columns: int, planes: int) -> np.ndarray:
        """Read the bytes of rows, (H, tiles, bytes), as float32 (H, W, samples of a plane)."""
        each, predictor = self.samples // planes, self._tag(317, 1)
        order, size = self.tag_v2._endian, self.bits // 8
        shape = (len(raw), raw.shape[1] * columns, each)
        if self.bits not in _WORDS[self.kind]:
            used = columns * each * self.bits
            digits = np.unpackbits(raw, axis=-1)[..., :used].reshape(-1, self.bits)
            values = np.zeros(len(digits), np.float32)
            for place in range(self.bits):
                values += values + digits[:, place]
            return values.reshape(shape)
        if predictor == 3:  # bytes of floats, the highest first, as differences
            summed = raw.reshape(*raw.shape[:2], -1, each).cumsum(axis=2, dtype=np.uint8)
            bytewise = summed.reshape(*raw.shape[:2], size, -1).swapaxes(2, 3)
            return bytewise.copy().view(f">f{size}").astype(np.float32).reshape(shape)
        if predictor == 2:
            values = raw.view(f"{order}u{size}").reshape(*raw.shape[:2], columns, each)
            values = values.cumsum(axis=2, dtype=f"u{size}")
            return values.view(f"{self.kind}{size}").astype(np.float32).reshape(shape)
        return raw.view(f"{order}{self.kind}{size}").astype(np.float32).reshape(shape)


def write_tiff(order: str, body: bytes, tags: Mapping[int, Sequence[int]]) -> bytes:
    """Write a TIFF of tags that are all numbers; its body begins at byte 8."""
    start = 8 + len(body)
    after = start + 2 + 12 * len(tags) + 4
    entries, numbers = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, numbers = struct.pack(f"{order}I", after + len(numbers)), numbers + packed
        entries += struct.pack(f"{order}HHI4s", tag, 4, len(values), packed)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + numbers


# Pillow's names of the formats, and ours. Pillow would open any of fifty formats; some run other
# programs (EPS: Ghostscript), some read EXIF that was not inspected.
FORMATS = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "AVIF": "AVIF",
    "HEIF": "HEIC",
    "JPEG2000": "JPEG 2000",
    "PPM": "PPM",
    "TGA": "TGA",  # last: it begins like nothing in particular
}
READABLE = f"a {', '.join([*FORMATS.values()][:-1])} or TGA"
NO_MEMORY = "takes more memory than there is"

# Of PGM and PPM: the kind, width, height and the value of white, which one white space ends.
_PNM = re.compile(rb"P([56])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 3 + rb"\s")
_SUBFILE, _BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 254, 258, 262, 284, 339
_SUB_DIRECTORIES, _DNG_VERSION, _YCBCR = 330, 50706, 6
_WHITE_TAGS = {281, 341}  # MaxSampleValue, SMaxSampleValue

pillow_heif.register_heif_opener()
_WEB_SAFE = bytes.maketrans(b"-_", b"+/")  # what stands for which in addresses
# Of a percent-encoded data URL, as far as base64 needs them.
_PERCENT_CODES = {b"%2B": b"+", b"%2b": b"+", b"%2F": b"/", b"%2f": b"/", b"%3D": b"", b"%3d": b""}
_opening = threading.Lock()


def open_encoded(data: bytes, max_pixels: int) -> Image.Image | None:
    """Open a picture's file without decoding its pixels; None if it is in no format of ours.

    Its EXIF is safe to read: blocks that would take too much memory are left out.

    Raises:
        PictureError: it is broken, of a kind that is not read, or `inspect_picture` refuses it.
    """
    data = inspect_picture(data, max_pixels)
    # Pillow's own limits are globals, which warn or raise in its own words: ours replace them.
    with _opening:
        limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, MAX_PROFILE_BYTES
        try:
            if data.startswith(TIFF_STARTS):
                return _open_tiff(data)
            if (header := _PNM.match(data)) and int(header[4]) != 255:
                return _open_pnm(data, header)
            return Image.open(io.BytesIO(data), formats=[*FORMATS])
        except PictureError:
            raise
        except MemoryError:
            raise PictureError(NO_MEMORY) from None
        except Exception:
            for format, name in FORMATS.items():
                begins_like = Image.OPEN.get(format, (None, None))[1]
                if begins_like and begins_like(data[:16]):
                    raise PictureError(f"is a broken or truncated {name}") from None
            return None
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = limits


def count_pages(image: Image.Image) -> int:
    """Count the pages or frames of a picture's file, of which one is read."""
    if image.format in ("JPEG", "MPO"):  # its further pictures are no frames
        return 1
    try:
        return image.info["pages"] if "pages" in image.info else getattr(image, "n_frames", 1)
    except Exception:  # a later frame is broken
        return 1


def _open_tiff(data: bytes) -> Image.Image:
    """Open the first page of a TIFF."""
    pages = list_pages(data)
    first = data[8:16] if 43 in data[2:4] else data[4:8]
    if pages and pages[0] != int.from_bytes(first[:: -1 if data[:2] == b"II" else 1]):
        data = take_page(data, pages[0])
    by_pillow = _open_by_pillow(data)
    image: TiffImagePlugin.TiffImageFile | SampledTiff
    try:
        image = by_pillow or SampledTiff(io.BytesIO(data))
        image = SampledTiff(io.BytesIO(data)) if _needs_scaling(image) else image
    except PictureError:
        if by_pillow is None:
            raise
        image = by_pillow
    tags = image.tag_v2
    if _DNG_VERSION in tags or (tags.get(_SUBFILE) == 1 and _SUB_DIRECTORIES in tags):
        raise PictureError("is a kind of TIFF that is not read: a camera's raw picture")
    image.info["pages"] = len(pages)
    return image


def _open_by_pillow(data: bytes) -> TiffImagePlugin.TiffImageFile | None:
    if data.startswith(b"MM\0+"):  # it takes a big-endian BigTIFF for a classic one
        return None
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        if image.tag_v2.get(_PHOTOMETRIC) != _YCBCR:
            return image
        TiffImagePlugin.READ_LIBTIFF = True  # its own reader takes YCbCr for RGB
        return TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    except (SyntaxError, OSError, ValueError, TypeError, AttributeError):
        return None
    finally:
        TiffImagePlugin.READ_LIBTIFF = False


def _needs_scaling(image: TiffImagePlugin.TiffImageFile | SampledTiff) -> bool:
    """Return whether Pillow ignores what the tags say, mixes up planes, or keeps no 8 bits."""
    tags = image.tag_v2
    is_wide = max(tags.get(_BITS, (1,))) > 8
    is_ignored = tags.get(_PLANAR) == 2 or not _WHITE_TAGS.isdisjoint(tags)
    return is_deep(image) or 2 in tags.get(_SAMPLE_FORMAT, ()) or (is_wide and is_ignored)


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture has gray levels of more than 8 bits."""
    return image.mode in ("F", "I") or image.mode.startswith("I;")


def _open_pnm(data: bytes, header: re.Match[bytes]) -> Image.Image:
    """Open a PGM or PPM of any white as a TIFF; Pillow's own decoder takes a second a megapixel."""
    kind, width, height, white = map(int, header.groups())
    samples, size = 1 if kind == 5 else 3, 1 if white < 256 else 2
    body = data[header.end() : header.end() + width * height * samples * size]
    tags = {256: [width], 257: [height], 258: [8 * size] * samples, 259: [1]}
    tags |= {262: [min(samples, 2)], 273: [8], 277: [samples], 278: [height], 279: [len(body)]}
    image = SampledTiff(io.BytesIO(write_tiff(">", body, tags | {341: [white]})))
    image.format = "PPM"
    return image


# End of what is as in colorization/pictures.


class Refusal(MlflowException):
    """A request or a setting that is not as expected; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """Return the server's answer; MLflow has put the whole request in front of the message."""
        self.message = str(self)
        return super().serialize_as_json()


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
            model_input: column `image`, bytes of a picture in one of `FORMATS`, or their
                base64 text. Text is never taken for a path.
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
        PictureError: missing, empty, not base64, or not a picture that `open_encoded` opens.
    """
    max_pixels = max_pixels or read_pixel_limit(os.environ)
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
            if isinstance(cell, (str, np.bytes_)):
                raise
            decoded = b""  # a file, whose owner need not know of base64
        image = open_encoded(decoded, max_pixels)
    if image is None:
        raise PictureError(f"is not {READABLE}")
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
        raise PictureError(NO_MEMORY) from None
    except PictureError:
        raise
    except Exception:  # Pillow's decoders raise all kinds of errors on broken files.
        name = FORMATS.get(image.format or "", image.format)
        raise PictureError(f"is a broken or truncated {name}") from None


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


def _decode_base64(text: bytes) -> bytes:
    """Decode base64 of either alphabet (RFC 4648), with or without padding, blanks and `data:`."""
    text = text.lstrip()
    if text[:5].lower() == b"data:":
        text = text.partition(b",")[2]
        for code, letter in _PERCENT_CODES.items():
            text = text.replace(code, letter)
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
            image = open_picture(cell, max_pixels)
            picture = read_picture(image, max_pixels)
        if (pages := count_pages(image)) > 1:
            logger.warning("Row %d: the first of %d pages or frames is colored", row, pages)
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
        raise Refusal(f"Row {row}: the picture {NO_MEMORY}") from None


def _bad_param(name: str, expected: str) -> Refusal:
    return Refusal(f"Param '{name}' must be {expected}")


mlflow.models.set_model(Colorizer())
