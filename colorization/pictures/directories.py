"""The directories of a TIFF: what their tags ask for, and which are pages.

EXIF is made of the same directories.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator

from PIL.ExifTags import IFD
from PIL.ExifTags import Base as Tag

from .limits import MAX_TAG_NUMBERS, MAX_TAGS_SLACK

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # Pillow's
# Types of TIFF tags. Each number becomes an object; bytes and text stay together.
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_OTHERS = {5: 8, 10: 8, 11: 4, 12: 8}  # rational and float, and their bytes
_BYTES = {1: 1, 2: 1, 7: 1}
_SIZES = {kind: struct.calcsize("=" + code) for kind, code in _INTEGERS.items()} | _OTHERS | _BYTES
_DIRECTORIES = (Tag.SubIFDs, IFD.Exif, IFD.GPSInfo, IFD.Interop)  # point at another directory
_LAYOUT = (
    *(Tag.NewSubfileType, Tag.ImageWidth, Tag.ImageLength),
    *(Tag.RowsPerStrip, Tag.TileWidth, Tag.TileLength),
)
_COPY_OR_MASK = 1 | 4  # bits of the tag NewSubfileType
_MOST_PLANES = 6  # of a TIFF that Pillow decodes


class PictureError(ValueError):
    """A picture cannot be read; the message completes "the picture ..."."""


class PixelLimitError(PictureError):
    """A picture, or a part of one, has more pixels than the limit that was given."""

    def __init__(self, found: str, max_pixels: int) -> None:
        super().__init__(f"has {found} pixels, above the limit of {max_pixels} pixels")


def list_pages(data: bytes) -> list[int]:
    """List the directories of a TIFF's pictures by their offsets; those of anything else are none.

    Reduced copies and masks are no pages of their own, unless there are no others.
    """
    if data[:4] not in TIFF_STARTS:
        return []
    found = [each for each in walk_directories(data, 43 in data[2:4]) if each[0]]
    pages = [start for start, layout in found if not layout[Tag.NewSubfileType] & _COPY_OR_MASK]
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


def walk_directories(data: bytes, big: bool) -> Iterator[tuple[int, dict[int, int]]]:
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
                if tag in (Tag.StripOffsets, Tag.TileOffsets):
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


def check_layout(layout: dict[int, int], max_pixels: int) -> None:
    """Refuse too large a tile, and more strips or tiles than fit: to decode them takes hours.

    A strip is never larger than the picture, whose pixels are counted.
    """
    width, height = layout[Tag.ImageWidth], layout[Tag.ImageLength]
    tile_width, tile_height = layout[Tag.TileWidth], layout[Tag.TileLength]
    if tile_width * tile_height > max_pixels:
        raise PixelLimitError(f"a tile of {tile_width} x {tile_height}", max_pixels)
    strips = -(-height // (layout[Tag.RowsPerStrip] or height or 1))
    tiles = -(-width // (tile_width or width or 1)) * -(-height // (tile_height or height or 1))
    if (
        layout[Tag.StripOffsets] > _MOST_PLANES * strips
        or layout[Tag.TileOffsets] > _MOST_PLANES * tiles
    ):
        raise PictureError(f"has more strips or tiles than {width} x {height} pixels fill")
