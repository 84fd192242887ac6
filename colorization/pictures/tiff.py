"""TIFFs of scanners and microscopes: samples that Pillow does not read, or not by their tags."""

import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from .directories import PictureError
from .limits import MAX_STRIP_BYTES

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


class SampledTiff(ImageFile.ImageFile):
    """A TIFF of integers or floats of any size, scaled to 8 bits by what its tags say.

    White is SMaxSampleValue or MaxSampleValue, else what the bits hold; of 32 bits and more, and
    of 12 bits in 16, it depends on the largest sample. libtiff unpacks the strips, as if they
    were gray of 8 bits.

    Raises:
        PictureError: at once, for a kind of TIFF that is not read, or too large a strip.
    """

    format = "TIFF"

    def _open(self) -> None:
        self.data = self.fp.read() if self.fp else b""
        self.fp = io.BytesIO(self.data)
        header = self.data[: 16 if self.data[2] == 43 else 8]
        self.tag_v2 = TiffImagePlugin.ImageFileDirectory_v2(header)
        if self.data.startswith(b"MM\0+"):  # Pillow takes it for a classic one
            self.tag_v2._bigtiff, self.tag_v2.next = True, int.from_bytes(self.data[8:16])
        self.fp.seek(self.tag_v2.next)
        self.tag_v2.load(self.fp)
        self._size = self._tag(Tag.ImageWidth), self._tag(Tag.ImageLength)
        self.photometric = self._tag(Tag.PhotometricInterpretation, 1)
        self.samples = self._tag(Tag.SamplesPerPixel, 1)
        self.bits = self._tag(Tag.BitsPerSample, 1)
        self.kind = _KINDS.get(self._tag(Tag.SampleFormat, 1), "")
        self._check()
        self._check_strips()
        self._mode, self.colors = _COLORS[self.photometric]
        extra = self._tags(Tag.ExtraSamples) or (2,) * (self.samples - self.colors)
        clear = [i for i, kind in enumerate(extra) if (self._mode, kind) in _CLEAR]
        self.alpha = self.colors + clear[0] if clear else None
        if clear:
            self._mode = _CLEAR[self._mode, extra[clear[0]]]
        if Tag.InterColorProfile in self.tag_v2:
            self.info["icc_profile"] = self.tag_v2[Tag.InterColorProfile]

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
            Tag.Compression: self._tag(Tag.Compression, 1) in _PACKED,
            Tag.PhotometricInterpretation: self.photometric in _COLORS,
            Tag.SamplesPerPixel: 0 <= spare <= 2,
            Tag.SampleFormat: self.kind and len({*self._tags(Tag.SampleFormat)}) < 2,
            Tag.BitsPerSample: len({*self._tags(Tag.BitsPerSample)}) < 2
            and (is_word or (self.kind == "u" and 1 <= self.bits <= 16)),
            Tag.Predictor: self._tag(Tag.Predictor, 1) in predictors,
        }
        for tag, is_read in read.items():
            if not is_read:
                values = " ".join(map(str, self._tags(tag)[:8]))
                raise PictureError(f"is a kind of TIFF that is not read: {tag.name} {values}")

    def _check_strips(self) -> None:
        planes, rows, columns, _, _ = self._lay_out()
        row_bytes = -(-columns * (self.samples // planes) * self.bits // 8)
        size = rows * -(-self.width // columns) * row_bytes
        if size > MAX_STRIP_BYTES:
            raise PictureError(
                f"has a strip or a row of tiles of {size} bytes, unpacked, above the limit of "
                f"{MAX_STRIP_BYTES} bytes"
            )

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
        low = min(self._tags(Tag.SMinSampleValue) or self._tags(Tag.MinSampleValue) or (0,))
        high = max(self._tags(Tag.SMaxSampleValue) or self._tags(Tag.MaxSampleValue) or (0,))
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
        if self.bits <= 16 and self.kind != "f":
            is_twelve = self.bits == 16 and high <= _TWELVE_BITS and self.photometric != 5
            return 0, _TWELVE_BITS if is_twelve else 2 ** (self.bits - (self.kind == "i")) - 1
        return 0, next((white for white in _WHITES if high <= white), high)

    def _scale(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """Scale samples (H, W, samples) to the levels of the mode, uint8 (H, W, bands)."""
        color, alpha = values[..., : self.colors], values[..., self.alpha or 0, None]
        if self.photometric == _PALETTE:
            table = np.array(self._tags(Tag.ColorMap), np.uint16).reshape(3, -1).T // 257
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
        planes = self.samples if self._tag(Tag.PlanarConfiguration, 1) == 2 else 1
        if Tag.TileOffsets in self.tag_v2:
            rows, columns = self._tag(Tag.TileLength), self._tag(Tag.TileWidth)
            offsets, sizes = self._tags(Tag.TileOffsets), self._tags(Tag.TileByteCounts)
            return planes, rows, columns, offsets, sizes
        rows = min(self._tag(Tag.RowsPerStrip, height), height)
        offsets, sizes = self._tags(Tag.StripOffsets), self._tags(Tag.StripByteCounts)
        row_bytes = -(-width * (self.samples // planes) * self.bits // 8)
        is_packed = self._tag(Tag.Compression, 1) != 1
        if rows == height and not is_packed:  # it can be read in parts
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
        tags: dict[int, Sequence[int]] = {
            Tag.ImageWidth: size[:1],
            Tag.ImageLength: size[1:],
            Tag.BitsPerSample: [8],
            Tag.PhotometricInterpretation: [1],
            Tag.Compression: [self._tag(Tag.Compression, 1)],
            Tag.FillOrder: [self._tag(Tag.FillOrder, 1)],
            Tag.SamplesPerPixel: [1],
        }
        offsets, sizes = ends[:-1], [*map(len, strips)]
        if Tag.TileOffsets in self.tag_v2:
            tags |= {Tag.TileWidth: block[:1], Tag.TileLength: block[1:]}
            tags |= {Tag.TileOffsets: offsets, Tag.TileByteCounts: sizes}
        else:
            tags[Tag.RowsPerStrip] = block[1:]
            tags |= {Tag.StripOffsets: offsets, Tag.StripByteCounts: sizes}
        tiff = write_tiff("<", b"".join(strips), tags)
        return np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(tiff)))

    def _read(self, raw: np.ndarray, columns: int, planes: int) -> np.ndarray:
        """Read the bytes of rows, (H, tiles, bytes), as float32 (H, W, samples of a plane)."""
        each, predictor = self.samples // planes, self._tag(Tag.Predictor, 1)
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
