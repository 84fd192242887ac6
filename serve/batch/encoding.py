"""Files of colored pictures, with what the gray ones carried."""

import io
import logging
import re
import struct
from collections.abc import Callable

from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk
from PIL.TiffImagePlugin import IFDRational

from colorization.pictures import MAX_EXIF_BYTES, PictureError
from serve.batch import metadata
from serve.batch.metadata import Carried, keep_texts
from serve.pyfunc import encode_picture

PNG_HEADER = 33  # bytes of signature and IHDR; any chunk may follow
XMP_HEAD, PHOTOSHOP_HEAD = b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"

logger = logging.getLogger(__name__)


def insert(picture: bytes | Image.Image, format: str, carried: Carried, quality: int) -> bytes:
    """Return a picture in this format with all of this in it, as far as the format can hold it.

    If it cannot be written for another reason, the picture is returned without it.

    Args:
        picture: a JPEG or PNG, whose pixels stay as they are in its own format; or one to encode,
            RGB or RGBA, in sRGB.
        format: jpeg, png, webp or tiff.
        carried: of `metadata.read`.
        quality: 1 to 100, of what is encoded here.

    Raises:
        PictureError: the picture is too large for the format.
    """
    write: Callable[..., bytes] = _insert if isinstance(picture, bytes) else _encode
    try:
        return write(picture, format, carried, quality)
    except (MemoryError, PictureError):
        raise
    except Exception as error:  # a picture matters more than what it carries
        content = write(picture, format, Carried(), quality)
        logger.warning("What a picture carried is left out: %r", error)
        return content


def _insert(content: bytes, format: str, carried: Carried, quality: int) -> bytes:
    if format == "jpeg" and content.startswith(b"\xff\xd8"):
        return _insert_into_jpeg(content, carried)
    if format == "png":
        return _insert_into_png(content, carried)
    with Image.open(io.BytesIO(content)) as image:
        return _encode(image, format, carried, quality)


def _encode(image: Image.Image, format: str, carried: Carried, quality: int) -> bytes:
    if format in ("jpeg", "png"):
        return _insert(encode_picture(image, format, quality), format, carried, quality)
    exif = _exif(carried, carried.comment, *_as_comments(carried.texts), alone=True)
    if format == "webp":
        block = exif.tobytes() if len(exif) else b""
        return encode_picture(image, format, quality, exif=block, xmp=carried.xmp)
    for tag, value in ((metadata.XMP_TAG, carried.xmp), (metadata.IPTC_TAG, carried.iptc)):
        if value:
            exif[tag] = value
    buffer = io.BytesIO()
    # libtiff, which compresses, writes no further directories.
    compression = None if {*exif} & {*metadata.SUB_DIRECTORIES} else "tiff_lzw"
    image.save(buffer, "TIFF", compression=compression, exif=exif)
    return buffer.getvalue()


def _insert_into_jpeg(content: bytes, carried: Carried) -> bytes:
    head, rest = b"", content[2:]
    if carried.resolution:  # JFIF holds whole numbers; EXIF is to agree
        x, y = (min(max(round(each), 1), 65535) for each in carried.resolution[:2])
        unit = carried.resolution[2]
        carried = carried._replace(resolution=(x, y, unit))
        if rest.startswith(b"\xff\xe0"):
            rest = rest[2 + int.from_bytes(rest[2:4]) :]
        head = _segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHH2x", unit - 1, x, y))
    exif, iptc = _exif(carried), carried.iptc
    parts = [
        ("EXIF", 0xE1, exif.tobytes() if len(exif) else b""),
        ("XMP", 0xE1, carried.xmp and XMP_HEAD + carried.xmp),
        ("IPTC", 0xED, iptc and PHOTOSHOP_HEAD + _as_resource(iptc)),
        *(("A comment", 0xFE, text) for text in (carried.comment, *_as_comments(carried.texts))),
    ]
    for name, marker, body in parts:
        if len(body) > MAX_EXIF_BYTES:
            message = "%s of %d bytes is left out: more than %d does not fit into a JPEG"
            logger.warning(message, name, len(body), MAX_EXIF_BYTES)
        elif body:
            head += _segment(marker, body)
    return content[:2] + head + rest


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def _insert_into_png(content: bytes, carried: Carried) -> bytes:
    info, exif = PngInfo(), _exif(carried)
    if carried.resolution:
        meter = 100 if carried.resolution[2] == metadata.CENTIMETER else 1 / 0.0254
        x, y = (min(round(each * meter), 2**31 - 1) for each in carried.resolution[:2])
        info.add(b"pHYs", struct.pack(">IIB", x, y, 1))
    if len(exif):
        info.add(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    if carried.xmp:
        info.add_itxt(metadata.XMP_NAME, carried.xmp.decode("utf-8", "replace"))
    if carried.iptc:
        block = _as_resource(carried.iptc)
        digits = "\n".join(re.findall(".{1,72}", block.hex()))
        info.add_text("Raw profile type iptc", f"\niptc\n{len(block):8}\n{digits}\n", zip=True)
    if carried.comment:
        info.add_text("Comment", _as_text(carried.comment))
    for key, text in carried.texts.items():
        info.add_text(key, text)
    chunks = io.BytesIO()
    for kind, body, _ in info.chunks:
        putchunk(chunks, kind, body)
    return content[:PNG_HEADER] + chunks.getvalue() + content[PNG_HEADER:]


def _exif(carried: Carried, *comments: bytes, alone: bool = False) -> Image.Exif:
    """Return the EXIF, with comments and a resolution that have no other place (`alone`) in it."""
    exif = Image.Exif()
    if carried.exif:
        exif.load(carried.exif)
    description = str(exif.get(metadata.BASE.ImageDescription, "")).encode("latin-1")
    if lines := [text for text in (description, *comments) if text]:
        exif[metadata.BASE.ImageDescription] = b"\n".join(dict.fromkeys(lines))
    if carried.resolution and (len(exif) or alone):
        x, y, unit = carried.resolution
        values = IFDRational(x), IFDRational(y), unit
        for tag, value in zip(metadata.RESOLUTION, values, strict=True):
            exif[tag] = value
    return keep_texts(exif)


def _as_resource(iptc: bytes) -> bytes:
    return metadata.IPTC_HEAD + len(iptc).to_bytes(4) + iptc + bytes(len(iptc) % 2)


def _as_comments(texts: dict[str, str]) -> list[bytes]:
    return [f"{key}: {text}".encode() for key, text in texts.items()]


def _as_text(comment: bytes) -> str:
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")
