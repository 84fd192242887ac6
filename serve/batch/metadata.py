"""The EXIF of a photograph's file: read from one file, inserted into another."""

import io
import logging
import zlib

from PIL import ExifTags, Image

from colorization.pictures import MAX_EXIF_BYTES, PictureError, open_picture
from serve.pyfunc import WRITABLE, require_webp

PNG_HEADER = 33  # bytes of signature and IHDR; any chunk may follow
ORIENTATION = ExifTags.Base.Orientation
SIDES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)  # before it was turned
# The tags of a TIFF that describe the picture; the others describe the layout of its pixels.
DESCRIPTIVE = {
    ExifTags.Base[name]
    for name in (
        *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
        *("Software", "DateTime", "Artist", "HostComputer", "Copyright"),
        *("ExifOffset", "GPSInfo"),
    )
}

logger = logging.getLogger(__name__)


def read(content: bytes) -> bytes:
    """Return a picture's EXIF; empty if it has none, or if `open_picture` does not trust it.

    Orientation and thumbnail are left out: the colored picture is upright, the thumbnail gray.
    """
    try:
        with open_picture(content) as image:
            exif = image.getexif()
            for tag in set(exif) - DESCRIPTIVE if image.format == "TIFF" else {ORIENTATION}:
                exif.pop(tag, None)
            for tag in SIDES:
                exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
            return exif.tobytes() if len(exif) else b""
    except Exception:  # A picture with broken EXIF is colored all the same.
        return b""


def insert(content: bytes, format: str, exif: bytes) -> bytes:
    """Return an encoded picture with this EXIF in it; the pixels of JPEG and PNG stay as they are.

    Args:
        content: JPEG for `format` jpeg, else PNG.
        format: jpeg, png or webp.
        exif: of `read`.

    Raises:
        PictureError: the picture is too large for a WebP, or for the memory.
    """
    if len(exif) > MAX_EXIF_BYTES:
        message = "EXIF of %d bytes is left out: more than %d does not fit into a JPEG"
        logger.warning(message, len(exif), MAX_EXIF_BYTES)
        exif = b""
    if format == "webp":
        return _encode_webp(content, exif)
    if not exif:
        return content
    if format == "png":
        chunk = b"eXIf" + exif.removeprefix(b"Exif\0\0")
        size, crc = len(chunk) - 4, zlib.crc32(chunk)
        block = size.to_bytes(4, "big") + chunk + crc.to_bytes(4, "big")
        return content[:PNG_HEADER] + block + content[PNG_HEADER:]
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


def _encode_webp(content: bytes, exif: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        require_webp(image)
        try:
            image.save(buffer, "WEBP", exif=exif, **WRITABLE["webp"])
        except (OSError, ValueError):
            raise PictureError("is too large for a WebP") from None
        except MemoryError:
            raise PictureError("takes more memory than there is") from None
    return buffer.getvalue()
