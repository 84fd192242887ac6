"""Pictures of phones, scanners and microscopes: read alike in training and by the pyfunc."""

import io
import logging
import struct
import zlib
from pathlib import Path

import mlflow
import numpy as np
import pytest
import tifffile
from PIL import Image

from colorization import pictures
from colorization.data import listing, photograph
from colorization.pictures import directories, formats, inspection, tiff
from tests.test_hostile_pictures import png_with
from tests.test_pyfunc import color, encode, paint, refusal, save_colorizer

DATA = Path(__file__).parent / "data"
LIMIT = pictures.DEFAULT_MAX_PIXELS

GRAY = np.tile(np.linspace(0, 1, 48), (32, 1))  # dark left, light right
GRAY[8:16, 30:38] = 1
COLOR = np.stack([GRAY, GRAY * 0.5, GRAY[:, ::-1] * 0.25], axis=-1)
CLEAR = np.stack([GRAY, np.full_like(GRAY, 0.5)], axis=-1)
TWELVE = 4095


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return mlflow.pyfunc.load_model(
        str(save_colorizer(tmp_path_factory.mktemp("chroma"), 1, "chroma"))
    )


def levels(values, bits):
    return np.rint(values * (2**bits - 1)).astype(
        "u1" if bits == 8 else "u2" if bits <= 16 else "u4"
    )


def tif(values, photometric="minisblack", **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric=photometric, **options)
    return file.getvalue()


def planes(values):
    return np.moveaxis(values, -1, 0)


def packed(bits):
    """Samples of so many bits without gaps, which tifffile cannot write."""
    digits = levels(GRAY, bits).astype(">u2").view("u1").reshape(*GRAY.shape, 2)
    rows = np.packbits(np.unpackbits(digits, axis=-1)[..., 16 - bits :].reshape(32, -1), axis=-1)
    tags = {256: [48], 257: [32], 258: [bits], 259: [1], 262: [1], 273: [8], 277: [1]}
    return tiff.write_tiff("<", rows.tobytes(), tags | {278: [32], 279: [rows.size]})


def pnm(values, white):
    kind = 5 if values.ndim == 2 else 6
    samples = np.rint(values * white).astype("u1" if white < 256 else ">u2")
    return b"P%d # scanned\n48 32\n%d\n" % (kind, white) + samples.tobytes()


def says_white(white, count=1):
    return {"extratags": [(341, "H", count, (white,) * count if count > 1 else white, True)]}


SCANS = {
    "16 bits": (tif(levels(GRAY, 16)), GRAY),
    "16 bits, min is white": (tif(65535 - levels(GRAY, 16), "miniswhite"), GRAY),
    "16 bits, big-endian": (tif(levels(GRAY, 16), byteorder=">", rowsperstrip=5), GRAY),
    "16 bits, big-endian BigTIFF": (tif(levels(GRAY, 16), byteorder=">", bigtiff=True), GRAY),
    "16 bits, tiled, differences": (
        tif(levels(GRAY, 16), tile=(16, 32), compression="zlib", predictor=True),
        GRAY,
    ),
    "16 bits with alpha": (tif(levels(CLEAR, 16), extrasamples=["unassalpha"]), CLEAR),
    "16 bits with a spare": (
        tif(levels(CLEAR, 16), extrasamples=["unspecified"], planarconfig="contig"),
        GRAY,
    ),
    "12 bits in 16": (tif(levels(GRAY, 12), **says_white(TWELVE)), GRAY),
    "12 bits in 16, dark": (tif(levels(GRAY / 2, 12), **says_white(TWELVE)), GRAY / 2),
    "12 bits in 16, min is white": (
        tif(TWELVE - levels(GRAY, 12), "miniswhite", **says_white(TWELVE)),
        GRAY,
    ),
    "12 bits in 16, color": (tif(levels(COLOR, 12), "rgb", **says_white(TWELVE, 3)), COLOR),
    "12 bits in 16, no tag": (tif(levels(GRAY, 12)), GRAY),
    "12 bits in 16, color, no tag": (tif(levels(COLOR, 12), "rgb"), COLOR),
    "10 bits": (packed(10), GRAY),
    "12 bits": (packed(12), GRAY),
    "32 bits": (tif(levels(GRAY, 32)), GRAY),
    "signed 8 bits": (tif((levels(GRAY, 8) - 128.0).astype("i1")), GRAY),
    "signed 16 bits": (tif((levels(GRAY, 16) - 32768.0).astype("i2")), GRAY),
    "signed 8 bits, none negative": (tif(levels(GRAY * 127 / 255, 8).astype("i1")), GRAY),
    "signed 16 bits, none negative": (tif(levels(GRAY, 15).astype("i2")), GRAY),
    "signed 16 bits, none negative, color": (tif(levels(COLOR, 15).astype("i2"), "rgb"), COLOR),
    "half": (tif(GRAY.astype("f2")), GRAY),
    "float, min is white": (tif((1 - GRAY).astype("f4"), "miniswhite"), GRAY),
    "float, -1 to 2": (
        tif(
            (GRAY * 3 - 1).astype("f4"),
            extratags=[(340, "f", 1, -1.0, True), (341, "f", 1, 2.0, True)],
        ),
        GRAY,
    ),
    "float, color": (tif(COLOR.astype("f4"), "rgb", compression="zlib"), COLOR),
    "double, color, planes": (tif(planes(COLOR), "rgb", planarconfig="separate"), COLOR),
    "16 bits, color": (tif(levels(COLOR, 16), "rgb"), COLOR),
    "16 bits, color, planes": (
        tif(planes(levels(COLOR, 16)), "rgb", planarconfig="separate", tile=(16, 16)),
        COLOR,
    ),
    "16 bits, CMYK": (
        tif(levels(np.concatenate([1 - COLOR, 0 * COLOR[..., :1]], -1), 16), "separated"),
        COLOR,
    ),
    "palette": (
        tif(
            levels(GRAY, 8), "palette", colormap=np.tile(np.arange(256) * 257, (3, 1)).astype("u2")
        ),
        np.stack([GRAY] * 3, -1),
    ),
    "PGM, 12 bits": (pnm(GRAY, TWELVE), GRAY),
    "PGM, 16 bits": (pnm(GRAY, 65535), GRAY),
    "PPM, 16 bits": (pnm(COLOR, 65535), COLOR),
    "PPM, 200 levels": (pnm(COLOR, 200), COLOR),
}


@pytest.mark.parametrize("name", SCANS)
def test_samples_are_read_as_their_tags_say(name):
    data, expected = SCANS[name]
    opened = formats.open_encoded(data, LIMIT)
    opened.load()
    image = opened.convert("RGB") if opened.mode in ("P", "CMYK") else opened
    assert np.abs(np.asarray(image, float) - expected * 255).max() <= 1.6
    gray = Image.fromarray(np.rint(expected * 255).astype("u1")).convert("L")
    luma = pictures.read_picture(pictures.open_picture(data)).luma
    assert np.abs(np.asarray(luma, float) - np.asarray(gray, float)).max() <= 2


def test_floats_as_differences_of_bytes_are_read():
    """Predictor 3: of each row all the highest bytes, then the next, each as a difference."""
    bytewise = np.moveaxis(COLOR.astype(">f4").view("u1").reshape(32, -1, 4), -1, 1)
    pixels = bytewise.reshape(32, -1, 3)
    rows = np.diff(pixels, axis=1, prepend=np.zeros((32, 1, 3), "u1")).astype("u1").tobytes()
    body = zlib.compress(rows)
    tags = {256: [48], 257: [32], 258: [32] * 3, 259: [8], 262: [2], 273: [8], 277: [3]}
    tags |= {278: [32], 279: [len(body)], 317: [3], 339: [3] * 3}
    image = formats.open_encoded(tiff.write_tiff("<", body, tags), LIMIT)
    assert np.abs(np.asarray(image, float) - COLOR * 255).max() <= 1


@pytest.mark.parametrize("strips", [1, 4])
def test_samples_read_in_parts_are_the_same(monkeypatch, strips):
    data = tif(levels(CLEAR, 16), extrasamples=["unassalpha"], rowsperstrip=32 // strips)
    whole = np.asarray(formats.open_encoded(data, LIMIT))
    monkeypatch.setattr(tiff, "_BLOCK_BYTES", 500)
    assert np.array_equal(np.asarray(formats.open_encoded(data, LIMIT)), whole)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tif(GRAY.astype("c8")), "a kind of TIFF that is not read: SampleFormat 6"),
        (tif(levels(GRAY, 16), subfiletype=0, extratags=[(50706, "B", 4, (1, 4, 0, 0))]), "camera"),
    ],
)
def test_a_tiff_that_is_not_read_says_why(model, data, reason):
    said = refusal(model, data)
    assert reason in said and "not a JPEG" not in said
    with pytest.raises(photograph.LeftOut, match="^unreadable: it is a"):
        photograph.decode(data)


@pytest.mark.parametrize("name", ["photo.avif", "photo.heic"])
def test_pictures_of_phones_are_read_in_training_and_by_the_model(model, name):
    data = (DATA / name).read_bytes()
    assert color(model, data).size == (128, 96)
    luma = np.asarray(photograph.decode(data).convert("L"), float)
    assert luma[:, :16].mean() + 60 < luma[:, -16:].mean()
    assert listing.choose([name]) == [name]


@pytest.mark.parametrize("format", formats.FORMATS)
def test_every_format_is_learnt_from_and_served(model, format):
    data = encode(paint(), format)
    assert color(model, data).size == (90, 60)
    assert photograph.decode(data).size == (128, 128)


# Pages and frames


def test_pages_are_listed_and_taken_one_by_one():
    data = (DATA / "fax-2-pages.tif").read_bytes()
    pages = [directories.take_page(data, start) for start in directories.list_pages(data)]
    first, second = (formats.open_encoded(page, LIMIT) for page in pages)
    assert first.size == second.size == (128, 96)
    assert not np.array_equal(first, second)
    assert [len(directories.list_pages(page)) for page in pages] == [1, 1]


@pytest.mark.parametrize("bigtiff", [True, False])
@pytest.mark.parametrize("byteorder", "<>")
def test_a_reduced_copy_is_no_page(byteorder, bigtiff):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(levels(GRAY[::4, ::4], 16), photometric="minisblack", subfiletype=1)
        writer.write(levels(GRAY, 16), photometric="minisblack")
        writer.write(levels(GRAY[:, ::-1], 16), photometric="minisblack")
    data = file.getvalue()
    opened = formats.open_encoded(data, LIMIT)
    assert opened.size == (48, 32) and formats.count_pages(opened) == 2
    last = formats.open_encoded(directories.take_page(data, directories.list_pages(data)[1]), LIMIT)
    assert np.abs(np.asarray(last, float) - GRAY[:, ::-1] * 255).max() <= 1


@pytest.mark.parametrize(
    ("name", "count"), [("fax-2-pages.tif", 2), ("animated.webp", 3), ("photo.heic", 1)]
)
def test_the_server_logs_how_many_pages_it_leaves_out(model, caplog, name, count):
    with caplog.at_level(logging.WARNING, "colorizer"):
        color(model, (DATA / name).read_bytes())
    expected = [f"Row 0: the first of {count} pages or frames is colored"] * (count > 1)
    assert [each for each in caplog.messages if "pages" in each] == expected


# Sound files that Pillow refuses


def text_chunks():
    long = zlib.compress(bytes(3_000_000))
    return {
        "text": (b"zTXt", b"Comment\0\0" + long),
        "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + long),
        "profile": (b"iCCP", b"odd\0\0" + long),
        "vast profile": (b"iCCP", b"odd\0\0" + zlib.compress(bytes(20_000_000))),
        "plain text": (b"tEXt", b"Comment\0" + b"a" * 70_000_000),
    }


@pytest.mark.parametrize("name", text_chunks())
def test_a_png_of_long_texts_or_profiles_is_colored(model, name):
    data = png_with(text_chunks()[name])
    assert color(model, data).size == (90, 60)
    assert np.array_equal(photograph.decode(data), photograph.decode(encode(paint())))


def test_the_png_of_a_long_text_is_colored(model):
    assert color(model, (DATA / "text-1.5-MB-compressed.png").read_bytes()).size == (128, 96)


def test_many_packed_texts_are_not_all_unpacked():
    chunk = b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000))
    inspected = inspection.inspect_picture(png_with(*[chunk] * 50), LIMIT)
    assert inspected.count(b"zTXt") == 18  # 16 MB of them


@pytest.mark.parametrize("format", sorted(set(formats.FORMATS) - {"TGA", "AVIF"}))
def test_a_broken_file_is_called_by_its_format(model, format):
    said = refusal(model, encode(paint(), format)[:40])
    assert said == f"Row 0: the picture is a broken or truncated {formats.FORMATS[format]}"


# Files that ask for too much


def sized(format, mark, skip, *numbers):
    """A picture whose header claims another size behind a mark."""
    data = bytearray(encode(paint(), format))
    start = data.index(mark) + len(mark) + skip
    block = struct.pack(f">{len(numbers)}I", *numbers)
    data[start : start + len(block)] = block
    return bytes(data)


def coded(blocks, precincts=b""):
    """A JPEG 2000 whose blocks of code have 2 to such powers of pixels."""
    data = encode(Image.new("L", (2000, 2000)), "JPEG2000")
    at = data.index(b"\xff\x52") + 2
    end = at + int.from_bytes(data[at : at + 2])
    body = bytearray(data[at + 2 : end])
    body[0] |= bool(precincts)
    body[6], body[7] = (each - 2 for each in blocks)
    changed = (len(body) + 2 + len(precincts)).to_bytes(2) + bytes(body) + precincts
    return data[:at] + changed + data[end:]


GREEDY = {
    "HEIC": (sized("HEIF", b"ispe", 4, 100_000, 100_000), "has 100000 x 100000 pixels"),
    "AVIF": (sized("AVIF", b"ispe", 4, 100_000, 100_000), "has 100000 x 100000 pixels"),
    "JPEG 2000": (
        sized("JPEG2000", b"\xff\x4f\xff\x51", 4, 100_000, 100_000),
        "has 100000 x 100000 pixels",
    ),
    "JPEG 2000, tiles": (
        sized("JPEG2000", b"\xff\x4f\xff\x51", 4, 9000, 7000, 0, 0, 10, 10),
        "tiles, above the limits of a JPEG 2000",
    ),
    "JPEG 2000, blocks": (coded((2, 2)), None),
    "JPEG 2000, precincts": (coded((6, 6), b"\x11" * 6), "blocks of code"),
    "PPM": (b"P6 100000 100000 255\n" + bytes(99), "has 100000 x 100000 pixels"),
    "PGM": (b"P5 100000 100000 4095\n" + bytes(99), "has 100000 x 100000 pixels"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_size_that_is_only_claimed_is_refused_before_it_takes_memory(name):
    data, reason = GREEDY[name]
    if reason is None:  # small, but honest
        assert pictures.open_picture(data).size == (2000, 2000)
        return
    with pytest.raises(pictures.PictureError, match=reason):
        pictures.read_picture(pictures.open_picture(data))
    with pytest.raises(photograph.LeftOut, match="^too large"):
        photograph.decode(data)


def test_other_files_are_counted_by_suffix():
    names = ["a.jpg", "b.DNG", "c/d.pdf", "e.pdf", ".hidden.psd", "__MACOSX/f.psd", "README"]
    assert listing.count_others(names) == "1 .dng, 2 .pdf, 1 without a suffix"
