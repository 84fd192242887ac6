"""What a picture's file asks for, read from its bytes before any decoder believes them.

Pillow reads TIFF tags and EXIF as soon as it opens a file, and thousands of tags may point at the
same bytes, of which each gets a copy.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from .directories import TIFF_STARTS, PictureError, PixelLimitError, check_layout, walk_directories
from .limits import (
    MAX_CODE_BLOCKS,
    MAX_EXIF_BLOCKS,
    MAX_EXIF_BYTES,
    MAX_PROFILE_BYTES,
    MAX_SCANS,
    MAX_TEXT_BYTES,
    MAX_TILES,
)

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

    What is not a picture passes, and the decoder refuses it. A TIFF's tile and any part of a HEIC
    or JPEG 2000 may have `max_pixels`.

    Returns:
        The same bytes; what no decoder should read is renamed: EXIF that is too long or broken,
        and long texts and profiles of a PNG.

    Raises:
        PictureError: too many scans, or TIFF tags or sizes that ask for too much.
    """
    if data[:4] in TIFF_STARTS:
        # Pillow takes a big-endian BigTIFF for a classic one, libtiff for what it is.
        for big in {data[2] == 43, 43 in data[2:4]}:
            for _, layout in walk_directories(data, big):
                check_layout(layout, max_pixels)
    if data[4:8] == b"ftyp":
        for match in _HEIF_SIZE.finditer(data):
            width, height = struct.unpack(">II", match[1])
            check_size(width, height, max_pixels)
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
    pixels = check_size(right - left, low - top, max_pixels)
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


def check_size(width: int, height: int, max_pixels: int) -> int:
    """Return the number of pixels; raise a PixelLimitError if they are too many."""
    if width * height > max_pixels:
        raise PixelLimitError(f"{width} x {height}", max_pixels)
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
        for _ in walk_directories(_EXIF_HEADS.sub(b"", block, count=1), big=False):
            pass
    except PictureError:
        return False
    return True
