"""Files that ask for far more memory or time than their size: in the pyfunc and in preparation."""

import base64
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from colorization import pictures
from colorization.data import photograph
from colorization.errors import InputError
from colorization.pictures import inspection, picture
from serve import pyfunc
from serve.batch import metadata
from serve.page.champions import Champion
from serve.page.coloring import color_upload
from tests.test_pyfunc import color, encode, paint, refusal, save_colorizer, swapped_profile

ROOT = Path(__file__).parent.parent
GIB = 2**30
PIXEL_LIMIT = pictures.DEFAULT_MAX_PIXELS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return str(save_colorizer(tmp_path_factory.mktemp("chroma"), 1, "chroma"))


@pytest.fixture(scope="module")
def model(saved):
    return mlflow.pyfunc.load_model(saved)


# Hostile files, and honest ones that look alike


def directory(entries, following=0, order="<", big=False):
    counter, entry, pointer = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    packed = b"".join(struct.pack(order + entry, *each) for each in entries)
    count = struct.pack(order + counter, len(entries))
    return count + packed + struct.pack(order + pointer, following)


def tiff(entries, tail=b"", order="<", big=False, **more):
    mark, kind = (b"II", "<") if order == "<" else (b"MM", ">")
    head = struct.pack(kind + "HHHQ", 43, 8, 0, 16) if big else struct.pack(kind + "HI", 42, 8)
    return mark + head + directory(entries, order=order, big=big, **more) + tail


def one_pixel(place):
    """Tags of a gray TIFF of one pixel; its byte stands at `place`."""
    return [
        *((256, 4, 1, 1), (257, 4, 1, 1), (258, 4, 1, 8), (262, 4, 1, 1)),
        *((273, 4, 1, place), (277, 4, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)),
    ]


def repeated_tags(count=20_000, size=240_000, **more):
    """A TIFF, or EXIF, whose tags all point at the same bytes."""
    entries = one_pixel(8) + [(1000 + i, 7, size, 16) for i in range(count)]
    return tiff(entries, bytes(size), **more)


def below(tag):
    """A TIFF whose Exif, GPS or further directory has such tags."""
    entries = [*one_pixel(8), (tag, 4, 1, 8 + 2 + 9 * 12 + 4)]
    return tiff(entries, directory([(2000 + i, 7, 240_000, 8) for i in range(20_000)]))


def overlapping():
    """Directories one in the other: 60,000 of them, each of 30,000 entries."""
    places = struct.pack("<60000I", *range(240_200, 300_200))
    entries = [*one_pixel(8), (330, 4, 60_000, 122)]
    return tiff(entries, places + struct.pack("<H", 30_000) * 300_000)


def tiled(width, height):
    entries = [*one_pixel(8), (322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, 8)]
    return tiff([each for each in entries if each[0] not in (273, 278, 279)])


def tiled_by_bytes():
    """The width of a tile as a BYTE, which libtiff takes as well."""
    entries = [*one_pixel(8), (322, 1, 1, 240), (323, 4, 1, 8_900_000), (324, 4, 1, 8)]
    return tiff([each for each in entries if each[0] not in (273, 278, 279)])


def many_strips(count):
    """Strips that are decoded one over the other."""
    entries = [
        *((256, 4, 1, 1000), (257, 4, 1, 1000), (258, 4, 1, 8), (262, 4, 1, 1)),
        *((273, 4, count, 8 + 2 + 8 * 12 + 4), (277, 4, 1, 1), (278, 4, 1, 999), (279, 4, 1, 8)),
    ]
    return tiff(entries, struct.pack("<I", 8) * count + bytes(1_000_000))


def png_with(*chunks):
    plain, packed = encode(paint()), b""
    for kind, body in chunks:
        crc = zlib.crc32(kind + body)
        packed += len(body).to_bytes(4) + kind + body + crc.to_bytes(4)
    return plain[:33] + packed + plain[33:]


def raw_profile(block):
    text = f"\nexif\n{len(block):8}\n{block.hex()}".encode()
    return b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)


def webp_with(block):
    return encode(paint("RGB"), "WEBP", exif=b"Exif\0\0" + block)


def jpeg_with(*segments):
    plain = encode(paint(), "JPEG")
    packed = [marker + (len(body) + 2).to_bytes(2) + body for marker, body in segments]
    return plain[:2] + b"".join(packed) + plain[2:]


def jpeg_of_exif(block):
    """A JPEG whose EXIF fills as many segments as it takes."""
    parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return jpeg_with(*((b"\xff\xe1", b"Exif\0\0" + part) for part in parts))


def scans(count):
    """A progressive JPEG of `count` scans, which libjpeg decodes."""
    data = encode(paint(), "JPEG", progressive=True)
    starts = [start for marker, start, _ in inspection._walk_segments(data) if marker == 0xDA]
    last = data[starts[-1] - 4 : -2]
    return data[:-2] + last * (count - len(starts)) + data[-2:]


def flat_png(width, height=1):
    """A gray PNG of one color, of any size, in little memory."""
    packer = zlib.compressobj(1)
    row = bytes(1 + width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", body)
    packed = b""
    for kind, chunk in (*chunks, (b"IEND", b"")):
        packed += len(chunk).to_bytes(4) + kind + chunk + zlib.crc32(kind + chunk).to_bytes(4)
    return b"\x89PNG\r\n\x1a\n" + packed


def upside_down():
    """EXIF that turns a picture by 180 degrees."""
    data = Image.Exif()
    data[0x0112] = 3
    return data.tobytes()[6:]


HOSTILE_EXIF = repeated_tags(3000, 20_000)
LONG_EXIF = tiff([(274, 3, 1, 3), (37500, 7, 70_000, 38)], bytes(70_000))
REFUSED = {
    "tags": (repeated_tags(), "has tags that add up to more than"),
    "tags, big-endian": (repeated_tags(order=">"), "has tags that add up to more than"),
    "tags, BigTIFF": (repeated_tags(big=True), "has tags that add up to more than"),
    "tags, big-endian BigTIFF": (
        repeated_tags(big=True, order=">"),
        "has tags that add up to more than",
    ),
    **{
        f"tags below {tag}": (below(tag), "has tags that add up to more than")
        for tag in (330, 34665, 34853, 40965)
    },
    "overlapping directories": (overlapping(), "has tags that add up to more than"),
    "numbers": (
        tiff([*one_pixel(8), (282, 5, 1_100_000, 8)], bytes(9_000_000)),
        "has a tag above the limit of 1048576 numbers",
    ),
    "tile": (tiled(100_000, 100_000), "has a tile of 100000 x 100000 pixels, above the limit of"),
    "tile of bytes": (tiled_by_bytes(), "has a tile of 240 x 8900000 pixels, above the limit of"),
    "strips": (many_strips(500), "has more strips or tiles than 1000 x 1000 pixels fill"),
    "scans": (scans(300), "has more than 100 scans"),
    "one scan too many": (scans(101), "has more than 100 scans"),
}
LEFT_OUT = {
    "PNG": png_with((b"eXIf", HOSTILE_EXIF)),
    "PNG, raw profile": png_with(raw_profile(HOSTILE_EXIF)),
    "PNG, text": png_with((b"tEXt", b"exif\0" + HOSTILE_EXIF)),
    "PNG, long": png_with((b"eXIf", LONG_EXIF)),
    "PNG, long raw profile": png_with(raw_profile(LONG_EXIF)),
    "PNG, many": png_with(*[(b"eXIf", HOSTILE_EXIF)] * 9),
    "WebP": webp_with(HOSTILE_EXIF),
    "WebP, long": webp_with(LONG_EXIF),
    "JPEG": jpeg_of_exif(HOSTILE_EXIF[:65_000]),
    "JPEG, long": jpeg_of_exif(LONG_EXIF),
    "JPEG, behind junk": jpeg_with((b"\xff\xd0\xff\xe1", b"Exif\0\0" + HOSTILE_EXIF[:65_000])),
    "JPEG, list of pictures": jpeg_with((b"\xff\xe2", b"MPF\0" + HOSTILE_EXIF[:65_000])),
}
HONEST = {
    "TIFF": encode(paint(), "TIFF"),
    "TIFF, LZW": encode(paint(), "TIFF", compression="tiff_lzw"),
    "TIFF, JPEG": encode(paint(), "TIFF", compression="jpeg"),
    "BigTIFF": encode(paint(), "TIFF", big_tiff=True),
    "TIFF, four pages": encode(
        paint(), "TIFF", save_all=True, append_images=[paint(seed=i) for i in range(3)]
    ),
    "TIFF, turned": encode(paint(), "TIFF", exif=b"Exif\0\0" + upside_down()),
    "PNG, turned": png_with((b"eXIf", upside_down())),
    "PNG, turned by a raw profile": png_with(raw_profile(upside_down())),
    "WebP, turned": webp_with(upside_down()),
    "JPEG, turned": jpeg_of_exif(upside_down()),
    "JPEG, 100 scans": scans(100),
    "JPEG, bytes of scans in a segment": jpeg_with((b"\xff\xe4", b"\xff\xda\0\x0c" * 16_000)),
    "JPEG, bytes of scans behind": encode(paint(), "JPEG") + b"\xff\xda\0\x0c" * 1000,
    "BMP": encode(paint(), "BMP"),
    "GIF": encode(paint(), "GIF"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_asks_for_too_much_is_refused_with_the_limit(model, name):
    data, reason = REFUSED[name]
    assert reason in refusal(model, data)
    with pytest.raises(photograph.LeftOut, match=f"^too large: it {reason}"):
        photograph.decode(data)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_exif_too_long_or_broken_is_left_out_and_the_picture_is_colored(model, name):
    data = LEFT_OUT[name]
    assert metadata.read(data).exif == b""
    image = pictures.open_picture(data)
    assert len(image.getexif()) == 0 and image.format != "MPO"
    assert np.array_equal(pictures.read_srgb(image), Image.open(io.BytesIO(plain(data))))
    assert photograph.decode(data) == photograph.decode(plain(data))


@pytest.fixture
def colored(model, tmp_path):
    """A function that colors a file as the page does, by one champion."""
    version = SimpleNamespace(name="bird-colorizer-naive", version="1")
    champion = Champion("naive", version, None, model, "", "")

    def color(data):
        (tmp_path / "upload").write_bytes(data)
        return color_upload(tmp_path / "upload", "upload", False, [champion], tmp_path / "results")

    return color


@pytest.mark.parametrize("name", ["tags", "strips", "scans"])
def test_the_page_refuses_such_an_upload_with_a_sentence(colored, name):
    data, reason = REFUSED[name]
    with pytest.raises(InputError, match=f"^upload {reason}"):
        colored(data)


@pytest.mark.parametrize("name", ["PNG", "WebP", "JPEG"])
def test_the_page_parses_no_exif_of_an_upload_that_is_left_out(colored, name, monkeypatch):
    parsed = []
    monkeypatch.setattr(Image.Exif, "load", lambda self, block: parsed.append(block))
    picture = colored(LEFT_OUT[name])
    assert picture.original and not parsed


def plain(data):
    """The same picture without EXIF."""
    return {b"\xff": jpeg_with, b"\x89": png_with, b"R": lambda: encode(paint(), "WEBP")}[
        data[:1]
    ]()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_is_read_as_pillow_alone_reads_it(name):
    data = HONEST[name]
    opened = Image.open(io.BytesIO(data))
    opened.load()  # which turns a TIFF
    turned = opened.format != "TIFF" and opened.getexif().get(0x0112) == 3
    expected = opened.transpose(Image.Transpose.ROTATE_180) if turned else opened
    assert ("turned" in name) == (turned or name == "TIFF, turned")
    assert np.array_equal(pictures.read_srgb(pictures.open_picture(data)), expected.convert("RGB"))
    assert photograph.decode(data).size == (128, 128)


def test_of_honest_files_nothing_is_renamed_and_of_cut_ones_nothing_fails_otherwise():
    for data in HONEST.values():
        assert inspection.inspect_picture(data, PIXEL_LIMIT) == data
    refused = [data for data, _ in REFUSED.values()]
    for data in itertools.chain(refused, LEFT_OUT.values(), HONEST.values()):
        for part in (data[: len(data) // 2], data[:10]):
            with suppress(pictures.PictureError):
                inspection.inspect_picture(part, PIXEL_LIMIT)


def test_libtiff_counts_the_scans_of_a_jpeg_in_a_tiff(model):
    def packed(data):
        entries = [
            *((256, 4, 1, 90), (257, 4, 1, 60), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 6)),
            *((273, 4, 1, 134), (277, 3, 1, 3), (278, 4, 1, 60), (279, 4, 1, len(data))),
            (530, 3, 2, 2 | 2 << 16),
        ]
        return tiff(entries, data)

    assert color(model, packed(scans(90))).size == (90, 60)
    assert refusal(model, packed(scans(300))) == "Row 0: the picture is a broken or truncated TIFF"


def test_an_avif_is_turned_without_its_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = paint(size=(160, 100))
    data = encode(picture.transpose(Image.Transpose.ROTATE_90), "AVIF", exif=exif, quality=95)
    assert b"Exif" not in inspection.inspect_picture(data, PIXEL_LIMIT)[:1000]
    expected = picture.resize((128, 128), Image.Resampling.LANCZOS)
    difference = np.asarray(photograph.decode(data), float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 4


def test_a_format_of_another_name_is_left_out():
    with pytest.raises(photograph.LeftOut, match="not in an image format known here"):
        photograph.decode(encode(paint(), "ICO"))


# Memory

PREDICT = r"""
import json, re, resource, sys
from pathlib import Path
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
said = {}
for path in sys.argv[3:]:
    try:
        rows = pd.DataFrame({"image": [Path(path).read_bytes()]})
        answer = model.predict(rows, params={"format": sys.argv[2]})
        said[Path(path).name] = answer["image"][0][:4].hex()
    except mlflow.exceptions.MlflowException as error:
        said[Path(path).name] = error.message
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([int(peak) * 1024, said]))
"""
PREPARE = r"""
import json, re, resource, sys
from pathlib import Path
import numpy as np
from colorization.data import photograph
out = np.empty((128, 128, 3), np.uint8)
said = {Path(path).name: photograph.read(Path(path), out).reason for path in sys.argv[1:]}
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([int(peak) * 1024, said]))
"""


def run(code, *arguments):
    """Run code in a process of its own; return its peak memory in bytes, and what it says."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def write(folder, files):
    for name, data in files.items():
        (folder / f"{name}.jpg").write_bytes(data)
    return sorted(folder.glob("*.jpg"))


@pytest.mark.slow
def test_hostile_files_take_little_memory(saved, tmp_path):
    files = {name: data for name, (data, _) in REFUSED.items()} | LEFT_OUT
    files |= {f"{width} x 1": flat_png(width) for width in (4_000_000, 16_000_000, 64_000_000)}
    paths = write(tmp_path, files)
    peak, said = run(PREDICT, saved, "png", *paths)
    assert peak < GIB // 2
    for name, reason in said.items():
        if " x 1" in name:
            assert reason.endswith("1 pixels, a side above the limit of 65535 pixels")
    peak, said = run(PREPARE, *paths)
    assert peak < GIB // 2
    assert said["64000000 x 1.jpg"].endswith(
        "64000000 x 1 pixels, a side above the limit of 65535 pixels"
    )


# From here on the process gets so many bytes more.
LIMIT = r"""
used = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
resource.setrlimit(resource.RLIMIT_DATA, (int(used) * 1024 + {} * 2**20,) * 2)
said = {{"""


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [30, 250])  # too few to decode, to blend
def test_a_picture_that_does_not_fit_into_memory_is_refused_by_its_row(saved, tmp_path, megabytes):
    small, large = write(tmp_path, {"a": flat_png(80, 80), "b": flat_png(8000, 8000)})
    _, said = run(PREDICT.replace("said = {", LIMIT.format(megabytes)), saved, "png", small, large)
    assert said["a.jpg"] == "89504e47"
    assert said["b.jpg"] == "Row 0: the picture takes more memory than there is"


def test_a_photograph_that_does_not_fit_into_memory_is_left_out(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (8000, 8000), "red").save(path, compress_level=1)
    _, said = run(PREPARE.replace("said = {", LIMIT.format(100)), path)
    assert said == {"large.png": "too large: it does not fit into memory"}


def at_the_limit(folder, mode, size, format, **options):
    """A picture of noise, of as many pixels as are allowed."""
    noise = np.random.default_rng(0).bytes
    pixels = {"F": 4, "RGBA": 4, "LAB": 3}[mode] * size[0] * size[1]
    path = folder / f"{mode}.{format}"
    Image.frombytes(mode, size, noise(pixels)).save(path, format, **options)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode, size, format, answer",
    [
        ("RGBA", (8000, 8000), "TIFF", "jpeg"),
        ("F", (65_535, 976), "TIFF", "png"),
        ("LAB", (1000, 64_000), "TIFF", "jpeg"),
    ],
)
def test_a_picture_at_the_limit_takes_less_than_two_gigabytes(
    saved, tmp_path, mode, size, format, answer
):
    path = at_the_limit(tmp_path, mode, size, format)
    peak, said = run(PREDICT, saved, answer, path)
    assert peak < 2 * GIB
    assert said[path.name] in ("89504e47", "ffd8ffe0")


@pytest.mark.parametrize(
    "mode, format, options",
    [
        ("RGB", "PNG", {}),
        ("L", "JPEG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("P", "GIF", {}),
        ("1", "TIFF", {}),
        ("CMYK", "TIFF", {}),
        ("LAB", "TIFF", {}),
        ("I;16", "TIFF", {}),
        ("I;16B", "TIFF", {}),
        ("I", "TIFF", {}),
        ("F", "TIFF", {}),
        ("RGB", "JPEG", {"icc_profile": True}),
    ],
)
def test_a_picture_split_in_stripes_is_the_same(monkeypatch, mode, format, options):
    if mode in ("LAB", "I;16", "I;16B"):
        size = len(Image.new(mode, (31, 47)).tobytes())
        image = Image.frombytes(mode, (31, 47), np.random.default_rng(0).bytes(size))
    else:
        image = paint("RGB", (31, 47)).convert("L" if mode in "IF" else "RGB").convert(mode)
    if "icc_profile" in options:
        options = {"icc_profile": swapped_profile()}
    data = encode(image, format, **options)
    whole = pictures.read_picture(pictures.open_picture(data))
    monkeypatch.setattr(picture, "DECODED_PIXELS", 100)
    striped = pictures.read_picture(pictures.open_picture(data))
    assert np.ptp(whole.luma) > 50
    assert striped == whole


def test_the_answers_to_one_request_are_bounded(saved, monkeypatch):
    monkeypatch.setenv("COLORIZER_MAX_PIXELS", "5400")
    model = mlflow.pyfunc.load_model(saved).unwrap_python_model()
    module = sys.modules[type(model).__module__]
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    rows = pd.DataFrame({"image": [encode(paint())] * 30})
    size = len(model.predict(None, rows[:1])["image"][0])
    fitting = 16 * 5400 // size
    assert len(model.predict(None, rows[:fitting])) == fitting
    with pytest.raises(MlflowException) as caught:
        model.predict(None, rows)
    assert caught.value.message.startswith(f"Row {fitting}: the picture is one too many")
    assert "limit of a request" in caught.value.message and "86400 bytes" in caught.value.message
    assert len(caught.value.message) < 200


def test_a_large_webp_with_alpha_is_refused_before_it_is_written(model, monkeypatch):
    monkeypatch.setattr(pyfunc, "MAX_ALPHA_WEBP_PIXELS", 100)
    clear = paint("RGBA", (11, 10))
    with pytest.raises(pictures.PictureError, match="above the limit of 100 pixels"):
        pyfunc.encode_picture(clear, "webp")
    assert pyfunc.encode_picture(clear.convert("RGB"), "webp")
    assert pyfunc.encode_picture(clear.crop((0, 0, 10, 10)), "webp")


def test_base64_with_much_space_is_read(model):
    text = base64.b64encode(encode(paint()))
    spaced = b" \n".join(text[at : at + 2] for at in range(0, len(text), 2))
    assert color(model, spaced.decode()).size == (90, 60)
