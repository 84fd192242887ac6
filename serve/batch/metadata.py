"""What a picture's file carries besides its pixels."""

import contextlib
import re
from typing import NamedTuple

from PIL import ExifTags, Image

from colorization.pictures import count_pages, open_picture

BASE = ExifTags.Base
ORIENTATION, TURNED = BASE.Orientation, (5, 6, 7, 8)  # width and height change places
RESOLUTION = BASE.XResolution, BASE.YResolution, BASE.ResolutionUnit
INCH, CENTIMETER = 2, 3  # values of the last
SIDES = (BASE.ExifImageWidth, BASE.ExifImageHeight)  # before it was turned
# The tags of a TIFF that describe the picture; the others describe the layout of its pixels.
DESCRIPTIVE = {BASE.ImageDescription, BASE.Make, BASE.Model, BASE.Software, BASE.DateTime}
DESCRIPTIVE |= {BASE.Artist, BASE.HostComputer, BASE.Copyright, BASE.ExifOffset, BASE.GPSInfo}
XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG = 700, 33723, 34377  # of a TIFF
SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
XMP_NAME = "XML:com.adobe.xmp"  # of a PNG's text
IPTC_RESOURCE = 0x0404
IPTC_HEAD = b"8BIM" + IPTC_RESOURCE.to_bytes(2) + bytes(2)  # of Adobe's resources, without a name
IPTC_TEXT = re.compile(r"Raw profile type (?:iptc|8bim)")  # as ImageMagick writes it into a PNG
# What XMP repeats of the file that it was in, as an attribute or an element.
_OF_ITS_FILE = (
    rb"(?:tiff:(?:Orientation|XResolution|YResolution|ResolutionUnit|ImageWidth|ImageLength)"
    rb"|exif:Pixel[XY]Dimension|photoshop:ICCProfile)"
)
_STALE = re.compile(
    rb"""\s%b=(?:"[^"<>]*"|'[^'<>]*')|<(%b)>[^<]*</\1>""" % (_OF_ITS_FILE, _OF_ITS_FILE)
)
_THUMBNAILS = re.compile(rb"</?(?:xmp|xap):Thumbnails\b[^>]*>")


class Carried(NamedTuple):
    """What a picture's file carries; the color profile is not kept: its colors are sRGB's now."""

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    comment: bytes = b""
    texts: dict[str, str] = {}  # of a PNG, by keyword
    resolution: tuple[float, float, int] | None = None  # x, y, and the unit as in EXIF
    frames: int = 1


def read(content: bytes) -> Carried:
    """Read what a picture carries; nothing of it, if `open_picture` does not trust it.

    Orientation and thumbnails are left out: the colored picture is upright, the thumbnails gray.
    """
    try:
        with open_picture(content) as image:
            texts = dict(getattr(image, "text", {}))  # of a PNG, some stand behind the pixels
            iptc = _read_iptc(image, texts)
            exif, resolution = _read_exif(image)
            xmp = _clean_xmp(_as_bytes(image.info.get("xmp")) or _read_tag(image, XMP_TAG))
            comments = [text for name, text in getattr(image, "applist", []) if name == "COM"]
            comment = b"\n".join(comments) or _as_bytes(image.info.get("comment"))
            comment = comment or texts.pop("Comment", "").encode()
            return Carried(exif, xmp, iptc, comment, texts, resolution, count_pages(image))
    except Exception:  # A picture with broken metadata is colored all the same.
        return Carried()


def _read_exif(image: Image.Image) -> tuple[bytes, tuple[float, float, int] | None]:
    """Return the EXIF, empty if it is broken, and the resolution as it is upright."""
    tags = getattr(image, "tag_v2", None)
    exif = Image.Exif()
    with contextlib.suppress(Exception):
        if tags is None:
            exif = image.getexif()
        elif tags._bigtiff and tags._endian == ">":  # Pillow takes it for a classic one
            exif.update({tag: tags[tag] for tag in {*tags} - {*SUB_DIRECTORIES}})
        else:  # Pillow reads those of its own TIFFs only
            exif.endian, exif.bigtiff = tags._endian, tags._bigtiff
            exif.load_from_fp(image.fp, tags._offset)  # type: ignore[attr-defined]
    resolution = _read_resolution(image, exif)
    if resolution and exif.get(ORIENTATION) in TURNED:
        resolution = resolution[1], resolution[0], resolution[2]
    for tag in {*exif} & ({ORIENTATION, *RESOLUTION} if tags is None else {*exif} - DESCRIPTIVE):
        del exif[tag]
    if ExifTags.IFD.Exif in exif:  # else it would be made
        for tag in SIDES:
            exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
    try:
        keep_texts(exif)  # reads all directories
        exif.bigtiff = False  # Pillow loads no other EXIF
        return exif.tobytes() if len(exif) else b"", resolution
    except Exception:
        return b"", resolution


def keep_texts(exif: Image.Exif) -> Image.Exif:
    """Give the texts their own bytes again: Pillow reads Latin-1, and writes ASCII."""
    for group in (exif, *(exif.get_ifd(each) for each in SUB_DIRECTORIES if each in exif)):
        for tag, value in [*group.items()]:
            if isinstance(value, str) and not value.isascii():
                group[tag] = value.encode("latin-1")
    return exif


def _read_resolution(image: Image.Image, exif: Image.Exif) -> tuple[float, float, int] | None:
    """Return the resolution of JFIF, PNG and the like, else of EXIF; None if there is none."""
    info = image.info
    tags = tuple(exif.get(tag) for tag in RESOLUTION)
    if info.get("jfif_unit") in (1, 2):
        found = (*info["jfif_density"], info["jfif_unit"] + 1)
    elif "dpi" in info and image.format not in ("JPEG", "MPO", "TIFF"):
        found = (*info["dpi"], INCH)
    else:
        found = (*tags[:2], tags[2] or INCH)
    try:
        x, y, unit = (_whole(float(each)) for each in found)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    sound = 0 < x < 1e6 and 0 < y < 1e6 and unit in (INCH, CENTIMETER)
    return (x, y, int(unit)) if sound else None


def _whole(value: float) -> float:
    """Round what is a whole number but for a conversion from meters."""
    return round(value) if abs(value - round(value)) < 0.015 else value


def _read_iptc(image: Image.Image, texts: dict[str, str]) -> bytes:
    """Return the IPTC records, and take them out of a PNG's texts, with other raw profiles."""
    photoshop = image.info.get("photoshop")
    found = photoshop.get(IPTC_RESOURCE, b"") if isinstance(photoshop, dict) else b""
    found = found or _read_tag(image, IPTC_TAG) or _read_tag(image, PHOTOSHOP_TAG)
    for name in [name for name in texts if name == XMP_NAME or name.startswith("Raw profile type")]:
        text = texts.pop(name)
        if IPTC_TEXT.fullmatch(name):
            with contextlib.suppress(ValueError):
                found = bytes.fromhex("".join(text.split("\n")[3:]))
    if found.startswith(b"8BIM"):
        start = found.find(IPTC_HEAD)
        size = int.from_bytes(found[start + 8 : start + 12])
        found = found[start + 12 : start + 12 + size] if start >= 0 else b""
    return found


def _read_tag(image: Image.Image, tag: int) -> bytes:
    """Return the bytes of a TIFF's tag, whatever type they were written as."""
    tags = getattr(image, "tag_v2", None)
    return tags._tagdata.get(tag, b"") if tags else b""


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def _clean_xmp(xmp: bytes) -> bytes:
    """Take out what no longer holds: orientation, resolution, sizes, profile and thumbnails."""
    tags = list(_THUMBNAILS.finditer(xmp))
    if len(tags) > 1:
        xmp = xmp[: tags[0].start()] + xmp[tags[-1].end() :]
    return _STALE.sub(b"", xmp)
