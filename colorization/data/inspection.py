"""What a picture's file asks for, read from its bytes before any decoder believes them.

Pillow reads TIFF tags and EXIF as soon as it opens a file, and thousands of tags may point at the
same bytes, of which each gets a copy. The pyfunc holds the same code; a test compares the two.
"""

import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

from colorization.limits import (
    MAX_EXIF_BLOCKS,
    MAX_EXIF_BYTES,
    MAX_SCANS,
    MAX_TAG_NUMBERS,
    MAX_TAGS_SLACK,
)

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


def inspect_picture(data: bytes, max_pixels: int) -> bytes:
    """Refuse an encoded picture that would take far more memory or time than honest ones.

    Args:
        data: the file; what is not a picture passes, and the decoder refuses it.
        max_pixels: the most that a TIFF's tile may have.

    Returns:
        The same bytes; EXIF that is too long or broken is renamed, so that no decoder reads it.

    Raises:
        ValueError: too many scans, or TIFF tags that ask for too much; completes "the picture".
    """
    if data[:4] in _TIFF_STARTS:
        # Pillow takes a big-endian BigTIFF for a classic one, libtiff for what it is.
        for big in {data[2] == 43, 43 in data[2:4]}:
            for layout in _walk_directories(data, big):
                _check_layout(layout, max_pixels)
    # The two bytes of a scan also occur by chance: only many of them are worth a walk.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        if sum(marker == _SCAN for marker, _, _ in _walk_segments(data)) > MAX_SCANS:
            raise ValueError(f"has more than {MAX_SCANS} scans, the limit of a JPEG")
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
                    raise ValueError(f"has a tag above the limit of {MAX_TAG_NUMBERS} numbers")
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
        raise ValueError(
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
        raise ValueError(
            f"has a tile of {tile_width} x {tile_height} pixels, "
            f"above the limit of {max_pixels} pixels"
        )
    strips = -(-height // (layout[_ROWS] or height or 1))
    tiles = -(-width // (tile_width or width or 1)) * -(-height // (tile_height or height or 1))
    if layout[_STRIPS] > _MOST_PLANES * strips or layout[_TILES] > _MOST_PLANES * tiles:
        raise ValueError(f"has more strips or tiles than {width} x {height} pixels fill")


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
    except ValueError:
        return False
    return True
