"""The formats of pictures that are read: one list for training, server, page and folders."""

import contextlib
import io
import re
import threading
from collections.abc import Sequence

import pillow_heif
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from .directories import TIFF_STARTS, PictureError, list_pages, take_page
from .inspection import check_size, inspect_picture
from .limits import MAX_PROFILE_BYTES, MAX_SIDE
from .tiff import SampledTiff, write_tiff

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
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .heic .heif .hif "
    ".jp2 .j2k .jpc .jpf .jpx .j2c .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst".split()
)
NO_MEMORY = "takes more memory than there is"

# Of PGM and PPM: the kind, width, height and the value of white, which one white space ends.
_PNM = re.compile(rb"P([56])" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * 3 + rb"\s")
_RGB, _YCBCR = 2, 6  # of PhotometricInterpretation

pillow_heif.register_heif_opener()
# Pillow's limits are globals: one lock for all copies of this module, of which each model has one.
_opening = vars(Image).setdefault("_colorizer_opening", threading.Lock())


def open_encoded(data: bytes, max_pixels: int) -> Image.Image | None:
    """Open a picture's file without decoding its pixels; None if it is in no format of ours.

    Its EXIF is safe to read: blocks that would take too much memory are left out.

    Raises:
        PictureError: it is broken, too large, of a kind that is not read, or `inspect_picture`
            refuses it.
    """
    data = inspect_picture(data, max_pixels)
    # Pillow's own limits warn or raise in its own words: ours replace them.
    with _opening:
        limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, MAX_PROFILE_BYTES
        try:
            if data.startswith(TIFF_STARTS):
                image = _open_tiff(data)
            elif (header := _PNM.match(data)) and int(header[4]) != 255:
                image = _open_pnm(data, header)
            else:
                image = Image.open(io.BytesIO(data), formats=[*FORMATS])
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
    check_size(*image.size, max_pixels)
    if max(image.size) > MAX_SIDE:
        size = f"{image.width} x {image.height} pixels"
        raise PictureError(f"has {size}, a side above the limit of {MAX_SIDE} pixels")
    return image


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
    image = by_pillow or SampledTiff(io.BytesIO(data))
    if by_pillow and _needs_scaling(by_pillow):
        with contextlib.suppress(PictureError):
            image = SampledTiff(io.BytesIO(data))
    tags = image.tag_v2
    if Tag.DNGVersion in tags or (tags.get(Tag.NewSubfileType) == 1 and Tag.SubIFDs in tags):
        raise PictureError("is a kind of TIFF that is not read: a camera's raw picture")
    image.info["pages"] = len(pages)
    return image


def _open_by_pillow(data: bytes) -> TiffImagePlugin.TiffImageFile | None:
    if data.startswith(b"MM\0+"):  # it takes a big-endian BigTIFF for a classic one
        return None
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        if image.tag_v2.get(Tag.PhotometricInterpretation) != _YCBCR:
            return image
        TiffImagePlugin.READ_LIBTIFF = True  # its own reader takes YCbCr for RGB
        return TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    except (SyntaxError, OSError, ValueError, TypeError, AttributeError):
        return None
    finally:
        TiffImagePlugin.READ_LIBTIFF = False


def _needs_scaling(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Return whether Pillow ignores what the tags say, mixes up planes, or keeps no 8 bits."""
    tags = image.tag_v2
    is_wide = max(tags.get(Tag.BitsPerSample, (1,))) > 8
    is_ignored = (
        tags.get(Tag.PlanarConfiguration) == 2
        or Tag.MaxSampleValue in tags
        or Tag.SMaxSampleValue in tags
        or tags.get(Tag.PhotometricInterpretation) == _RGB  # of 12 bits in 16
    )
    return is_deep(image) or 2 in tags.get(Tag.SampleFormat, ()) or (is_wide and is_ignored)


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture has gray levels of more than 8 bits."""
    return image.mode in ("F", "I") or image.mode.startswith("I;")


def _open_pnm(data: bytes, header: re.Match[bytes]) -> Image.Image:
    """Open a PGM or PPM of any white as a TIFF; Pillow's own decoder takes a second a megapixel."""
    kind, width, height, white = map(int, header.groups())
    samples, size = 1 if kind == 5 else 3, 1 if white < 256 else 2
    body = data[header.end() : header.end() + width * height * samples * size]
    tags: dict[int, Sequence[int]] = {
        Tag.ImageWidth: [width],
        Tag.ImageLength: [height],
        Tag.BitsPerSample: [8 * size] * samples,
        Tag.Compression: [1],
        Tag.PhotometricInterpretation: [min(samples, 2)],
        Tag.StripOffsets: [8],
        Tag.SamplesPerPixel: [samples],
        Tag.RowsPerStrip: [height],
        Tag.StripByteCounts: [len(body)],
        Tag.SMaxSampleValue: [white],
    }
    image = SampledTiff(io.BytesIO(write_tiff(">", body, tags)))
    image.format = "PPM"
    return image
