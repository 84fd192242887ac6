"""Albums as people have them: gray, sepia and color, pages and frames, and all that files carry."""

import io
import json
import os
import shutil
import struct
from pathlib import Path

import mlflow
import numpy as np
import pytest
import skimage.data
import tifffile
import yaml
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFilter, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from colorization import tracking
from colorization.data import photograph, tone
from colorization.registry import lookup
from serve import pyfunc
from serve.batch import encoding, folder, jobs, metadata, places
from serve.evaluation import holdout
from serve.page import coloring
from serve.page.champions import Champions
from tests import test_folder
from tests.conftest import bird
from tests.test_folder import files, is_red, scene

DATA = Path(__file__).parent / "data"
BASE, IFD = ExifTags.Base, ExifTags.IFD
PAGES = DATA / "fax-2-pages.tif"
XMP = b"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description xmlns:tiff='t'%s>
<dc:title>Gro\xc3\x9fmutter</dc:title>%s</rdf:Description></x:xmpmeta>"""

store, color = test_folder.store, test_folder.color  # a model that tints red, and the command


# What is gray


def toned(black, white, middle=None):
    return lambda image: ImageOps.colorize(image.convert("L"), black, white, middle)


def sepia(image):
    matrix = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)
    return image.convert("RGB", matrix)


def yellowed(image, paper=(250, 238, 205)):
    gray = np.asarray(image.convert("L"), float)[..., None] / 255
    return Image.fromarray((gray * np.array(paper)).astype(np.uint8))


def bordered(image):
    return ImageOps.expand(yellowed(image), 20, (238, 226, 196))


def stained(image):
    spots = Image.new("L", image.size)
    for box in ((10, 180, 70, 240), (150, 20, 190, 60)):
        ImageDraw.Draw(spots).ellipse(box, 180)
    spots = spots.filter(ImageFilter.GaussianBlur(6))
    old = yellowed(image)
    return Image.composite(yellowed(old, (210, 175, 120)), old, spots)


TONES = {
    "sepia": sepia,
    "weak sepia": toned("#0a0805", "#fff8ea"),
    "strong sepia": toned("#402000", "#ffe0a0", "#a87040"),
    "cyanotype": toned("#0a2340", "#e8f4ff"),
    "yellowed": yellowed,
    "border": bordered,
    "stains": stained,
}
COLORFUL = ("astronaut", "cat", "coffee", "rocket", "retina")


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("name", TONES)
def test_a_single_tone_is_gray(name, quality):
    for species in ("Robin", "Wren", "Magpie"):
        file = io.BytesIO()
        TONES[name](bird(species, 5)).save(file, "JPEG", quality=quality)
        assert tone.find_tone(photograph.decode(file.getvalue())) == tone.TONED
        assert not photograph.is_in_color(file.getvalue())


def test_pictures_in_color_are_not_gray():
    pictures = [getattr(skimage.data, name)() for name in COLORFUL]
    pictures += [np.asarray(bird(species, 3)) for species in ("Carrion_Crow", "Wren", "Blackbird")]
    for picture in pictures:
        small = Image.fromarray(picture).convert("RGB").resize((128, 128))
        assert tone.find_tone(small) == ""
        assert tone.find_tone(small.convert("L").convert("RGB")) == tone.GRAY


def test_a_lab_scan_in_color_is_not_gray():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    file = io.BytesIO()
    ImageCms.profileToProfile(bird("Robin", 1), *profiles, outputMode="LAB").save(file, "TIFF")
    assert photograph.is_in_color(file.getvalue())


def test_sepia_is_left_out_of_training_and_only_shown_by_an_evaluation():
    pixels = np.zeros((128, 128, 3), np.uint8)
    found = photograph.read(DATA / "sepia.jpg", pixels)
    assert found.reason.startswith(tone.TONED) and "sepia" in found.reason
    row, _ = holdout._read(DATA / "sepia.jpg", DATA, pixels)
    assert (row.split, row.reason) == (holdout.SHOWN, "")


def test_the_page_does_not_score_against_sepia(color, tmp_path):
    champions = [slot.champion for slot in Champions().slots() if slot.champion]
    results = {
        name: coloring.color_upload(DATA / name, name, False, champions, tmp_path / name)
        for name in ("sepia.jpg", "photo.avif")
    }
    assert results["sepia.jpg"].original is None and results["sepia.jpg"].scores == {}
    assert results["photo.avif"].original and results["photo.avif"].scores


# Mixed albums


@pytest.fixture
def album(tmp_path):
    """A folder of three gray and three color pictures, made long ago."""
    place = tmp_path / "in"
    place.mkdir()
    scene().save(place / "gray.jpg")
    scene().convert("L").save(place / "scan.tif")
    shutil.copy(DATA / "sepia.jpg", place)
    bird("Robin", 1).save(place / "robin.jpg", comment="mine")
    bird("Robin", 2).save(place / "robin.tif")
    shutil.copy(DATA / "photo.heic", place)
    for index, path in enumerate(sorted(place.iterdir())):
        os.utime(path, ns=(10**18, 10**18 + index * 1_234_567_000))
    return place


def test_color_pictures_are_copied_unchanged_and_counted(color, album, tmp_path):
    target = tmp_path / "out"
    status, said = color(album, target)
    assert status == 0
    expected = {path.name: path for path in album.iterdir()}
    expected["scan.png"] = expected.pop("scan.tif")
    assert files(target) == sorted(expected)
    ending = f"{target}: 3 of 6 colored, 3 in color already: copied"
    assert said.splitlines()[-1] == ending
    for name in ("photo.heic", "robin.jpg", "robin.tif"):
        assert (target / name).read_bytes() == (album / name).read_bytes()
    assert is_red(target / "gray.jpg") and is_red(target / "scan.png")
    for name, path in expected.items():
        assert (target / name).stat().st_mtime_ns == path.stat().st_mtime_ns

    made = {path: path.stat().st_ino for path in target.iterdir()}  # a new file has another one
    status, said = color(album, target)
    assert "3 of 6 colored already, 3 copied" in said and said.splitlines()[-1] == ending
    assert {path: path.stat().st_ino for path in target.iterdir()} == made


def test_all_pictures_are_colored_if_asked_for(color, album, tmp_path):
    status, said = color(album, tmp_path / "out", "--which", "all")
    assert status == 0 and said.splitlines()[-1].endswith(": 6 of 6 colored")
    assert "photo.png" in files(tmp_path / "out") and "robin.tif" not in files(tmp_path / "out")
    assert (tmp_path / "out" / "robin.jpg").read_bytes() != (album / "robin.jpg").read_bytes()


# Pages and frames


def test_each_page_becomes_a_picture_and_takes_no_name(color, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(PAGES, source / "fax.tif")
    shutil.copy(PAGES, source / "letter.tif")
    scene().save(source / "fax-1.png")
    assert color(source, target)[0] == 0
    pages = ["fax.tif-1.png", "fax.tif-2.png", "letter-1.png", "letter-2.png"]
    assert files(target) == ["fax-1.png", *pages]
    assert Image.open(target / "fax-1.png").size == scene().size
    for number, name in enumerate(pages[2:]):
        page = Image.open(PAGES)
        page.seek(number)
        luma = np.asarray(Image.open(target / name).convert("L"), int)
        assert np.abs(luma - np.asarray(page.convert("L"), int)).mean() < 25

    (target / "letter-2.png").unlink()
    (target / "letter-1.png").write_text("mine")
    status, said = color(source, target)
    assert files(target) == ["fax-1.png", *pages]
    assert (target / "letter-1.png").read_text() == "mine"
    assert said.splitlines()[-1].endswith(": 3 of 3 colored")


def test_a_page_in_color_among_gray_ones_keeps_its_colors(color, tmp_path):
    (tmp_path / "in").mkdir()
    robin = bird("Robin", 1)
    scene().save(tmp_path / "in" / "a.tif", save_all=True, append_images=[robin])
    robin.save(tmp_path / "in" / "b.tif", save_all=True, append_images=[robin])
    status, said = color(tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == ["a-1.png", "a-2.png", "b.tif"]
    assert is_red(tmp_path / "out" / "a-1.png")
    assert np.array_equal(Image.open(tmp_path / "out" / "a-2.png"), robin)
    assert said.splitlines()[-1].endswith(": 1 of 2 colored, 1 in color already: copied")


def test_a_broken_page_is_named_and_spoils_no_others(color, tmp_path):
    (tmp_path / "in").mkdir()
    file = io.BytesIO()
    scene().save(file, "TIFF", save_all=True, append_images=[scene()], compression="tiff_lzw")
    start = Image.open(file)
    start.seek(1)
    (offset,) = start.tag_v2[273]
    (tmp_path / "in" / "a.tif").write_bytes(
        file.getvalue()[:offset] + bytes(40) + file.getvalue()[offset + 40 :]
    )
    status, said = color(tmp_path / "in", tmp_path / "out")
    assert status == 1 and files(tmp_path / "out") == ["a-1.png"]
    assert "a.tif: page 2 is a broken or truncated TIFF" in said


def test_a_name_too_long_for_a_number_ends_no_run(color, tmp_path):
    (tmp_path / "in").mkdir()
    name = "a" * 251
    shutil.copy(PAGES, tmp_path / "in" / f"{name}.tif")
    scene().save(tmp_path / "in" / "b.png")
    status, said = color(tmp_path / "in", tmp_path / "out")
    assert status == 1 and files(tmp_path / "out") == ["b.png"]
    assert f"{name}.tif: would become {name}-1.png, which is too long a name" in said


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_colored_and_the_others_counted(name, color, tmp_path):
    (tmp_path / "in").mkdir()
    frames = [Image.new("L", (48, 32), level) for level in (120, 180)]
    options = {"lossless": True} if name == "a.webp" else {}
    scene().convert("L").save(
        tmp_path / "in" / name, save_all=True, append_images=frames, **options
    )
    status, said = color(tmp_path / "in", tmp_path / "out")
    assert status == 0
    assert f"{tmp_path}/in/{name}: first frame colored, 2 more left out" in said.splitlines()
    assert "Row" not in said
    (colored,) = (tmp_path / "out").iterdir()
    difference = np.asarray(Image.open(colored).convert("L"), int) - np.asarray(
        scene().convert("L")
    )
    assert np.abs(difference).mean() < 4


def paths(*texts):
    return [Path(text) for text in texts]


@pytest.mark.parametrize(
    ("format", "pictures", "colored"),
    [
        ("keep", "a.JPG b.tif c.heic", "a.JPG b.png c.png"),
        ("keep", "a.gif a.png a.tif x/a.gif", "a.gif.png a.png a.tif.png x/a.png"),
        ("keep", "a.gif a.gif.png a.png", "a.gif.png.png a.gif.png a.png"),
        ("jpeg", "a.jpeg a.jfif a.png", "a.jpeg a.jfif a.jpg"),
        ("tiff", "a.tiff a.png b.png", "a.tiff a.tif b.tif"),
        ("webp", "a.webp a.jpg", "a.webp a.jpg.webp"),
    ],
)
def test_no_two_pictures_share_a_name(format, pictures, colored):
    chosen = jobs.choose(paths(*pictures.split()), format)
    assert [str(each.colored) for each in chosen] == colored.split()
    assert [str(each.copy) for each in chosen] == pictures.split()


def test_numbers_of_pages_do_not_meet_other_names():
    chosen = jobs.choose(paths("a.tif", "a-1.gif", "a.tif-3.png", "b.tif", "x/b-1.png"), "keep")
    assert [str(each.page(1)) for each in chosen if each.copy.suffix == ".tif"] == [
        "a.tif.png-1.png",
        "b-1.png",
    ]


# Format and quality


def test_format_and_quality_are_those_asked_for(color, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    bird("Robin", 1).convert("L").save(source / "a.png")
    sizes = {}
    for format, suffix in jobs.SUFFIXES.items():
        for quality in ("30", "95"):
            flags = ("--format", format, "--quality", quality)
            target = tmp_path / format / quality
            assert color(source, target, *flags)[0] == 0
            (file,) = target.iterdir()
            assert file.suffix == suffix and Image.open(file).format.lower() == format
            sizes[format, quality] = file.stat().st_size
    for format in ("jpeg", "webp"):
        assert sizes[format, "30"] < 0.6 * sizes[format, "95"]


def test_a_model_that_knows_no_quality_does_as_well(color, tmp_path):
    model = Path(
        mlflow.artifacts.download_artifacts(
            f"models:/{lookup.model_name('naive')}@{lookup.CHAMPION}", dst_path=tmp_path / "model"
        )
    )
    told = yaml.safe_load((model / "MLmodel").read_text())
    params = [each for each in json.loads(told["signature"]["params"]) if each["name"] != "quality"]
    told["signature"]["params"] = json.dumps(params)
    (model / "MLmodel").write_text(yaml.safe_dump(told))
    source = tmp_path / "in"
    source.mkdir()
    bird("Robin", 1).convert("L").save(source / "a.jpg")
    planned, _ = jobs.plan(source, tmp_path / "out", jobs.KEEP, places.find(source))
    sizes = []
    for quality in (30, 95):
        params = {"tta": False, "saturation": 1.0, "quality": quality}
        settings = jobs.Settings(params, colors_all=False, overwrites=True)
        (outcome,) = folder.color(mlflow.pyfunc.load_model(str(model)), planned, settings)
        assert outcome.what == jobs.COLORED
        sizes.append((tmp_path / "out" / "a.jpg").stat().st_size)
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("quality", ["0", "101"])
def test_a_quality_out_of_range_is_refused(quality, color, album, tmp_path):
    status, said = color(album, tmp_path / "out", "--quality", quality)
    assert status == 2 and "'quality' must be a whole number from 1 to 100" in said
    assert not (tmp_path / "out").exists()


def test_the_signature_has_every_option():
    params = {each.name: each.default for each in tracking.SIGNATURE.params}
    assert params == pyfunc.Options()._asdict()


# What a file carries


def exif():
    """EXIF of a camera that lay on its side: 72 dpi, a place, texts, and a thumbnail."""
    data = Image.Exif()
    data[BASE.Make], data[BASE.Orientation] = "Camera", 6
    data[BASE.Artist] = "Müller".encode()
    data[BASE.XResolution], data[BASE.YResolution], data[BASE.ResolutionUnit] = 72, 72, 2
    data.get_ifd(IFD.GPSInfo).update({1: "N", 2: (IFDRational(51), IFDRational(3), IFDRational(2))})
    return data.tobytes()


def xmp():
    return XMP % (
        b" tiff:Orientation='6' tiff:XResolution=\"72/1\"",
        b"<xmp:Thumbnails>x</xmp:Thumbnails>",
    )


IPTC = b"\x1c\x02\x78\x00\x07caption"
COMMENT = "Grüße"
GIVEN = {
    "jpg": {"exif": exif(), "xmp": xmp(), "comment": COMMENT, "dpi": (600, 300)},
    "png": {"exif": exif(), "dpi": (600, 300)},
    "webp": {"exif": exif(), "xmp": xmp(), "lossless": True},
    "tif": {
        "dpi": (600, 300),
        "tiffinfo": {33723: IPTC, 700: xmp(), BASE.Artist: "Müller".encode()},
    },
}


@pytest.fixture(scope="module")
def scans():
    """Gray pictures of each format, with all that Pillow can put into them."""
    made = {}
    for suffix, options in GIVEN.items():
        file, options = io.BytesIO(), dict(options)
        if suffix == "png":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp().decode())
            info.add_text("Comment", COMMENT)
            info.add_text("Title", "Garden")
            options["pnginfo"] = info
        format = Image.registered_extensions()[f".{suffix}"]
        scene().convert("RGB").save(file, format, **options)
        made[suffix] = file.getvalue()
    resource = (
        b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"
    )
    segment = b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource
    made["jpg"] = made["jpg"][:2] + segment + made["jpg"][2:]
    return made


def resolutions(data, format):
    """Every resolution that a file states, in dots an inch."""
    image = Image.open(io.BytesIO(data))
    tags, stated = image.getexif(), []
    if BASE.XResolution in tags:
        assert tags[BASE.ResolutionUnit] == 2
        stated.append((tags[BASE.XResolution], tags[BASE.YResolution]))
    if format == "jpeg":
        assert image.info["jfif_unit"] == 1
        stated.append(image.info["jfif_density"])
    if format == "png":
        stated.append(tuple(round(each) for each in image.info["dpi"]))
    return stated


@pytest.mark.parametrize("format", jobs.SUFFIXES)
@pytest.mark.parametrize("suffix", GIVEN)
def test_what_a_file_carries_is_kept(suffix, format, scans):
    given = metadata.read(scans[suffix])
    base = pyfunc.encode_picture(scene(), "jpeg" if format == "jpeg" else "png")
    data = encoding.insert(base, format, given, 90)
    expected = {"webp": (72, 72), "tif": (600, 300)}.get(suffix, (300, 600))  # turned
    stated = resolutions(data, format)
    assert stated and set(stated) == {expected}
    kept, image = metadata.read(data), Image.open(io.BytesIO(data))
    assert np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(scene(), int)).mean() < 3
    assert "Großmutter".encode() in kept.xmp
    assert not any(stale in kept.xmp for stale in (b"Orientation", b"Resolution", b"Thumbnails"))
    assert b"M\xc3\xbcller" in (kept.exif or b"")
    if suffix != "tif":
        assert b"Camera" in kept.exif
        assert image.getexif().get(BASE.Orientation, 1) == 1
        assert image.getexif().get_ifd(IFD.GPSInfo)[2] == (51, 3, 2)
    if suffix in ("jpg", "tif") and format != "webp":
        assert kept.iptc == IPTC
    if suffix in ("jpg", "png"):
        description = image.getexif().get(BASE.ImageDescription, "").encode("latin-1")
        assert COMMENT.encode() in (kept.comment or description)
    if suffix == "png":
        assert b"Garden" in data


def test_an_old_scan_keeps_its_resolution_comment_and_xmp(color, tmp_path):
    (tmp_path / "in").mkdir()
    scan = Path(shutil.copy(DATA / "scan-600-dpi.jpg", tmp_path / "in"))
    os.utime(scan, (10**9, 10**9))
    for format, suffix in jobs.SUFFIXES.items():
        assert color(tmp_path / "in", tmp_path / format, "--format", format)[0] == 0
        file = tmp_path / format / f"{scan.stem}{suffix}"
        data = file.read_bytes()
        assert set(resolutions(data, format)) == {(600, 600)}
        assert b"Grandmother, 1931" in data and b"adobe:ns:meta" in data
        assert file.stat().st_mtime == 10**9


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("bigtiff", [True, False])
@pytest.mark.parametrize("bits", ["u1", "u2"])
def test_a_scan_of_any_depth_keeps_what_it_carries(bits, bigtiff, byteorder):
    file = io.BytesIO()
    options = {
        "resolution": (300, 200),
        "resolutionunit": "INCH",
        "description": "Garden",
        "metadata": None,
        "byteorder": byteorder,
    }
    tifffile.imwrite(file, np.zeros((20, 30), bits), bigtiff=bigtiff, **options)
    given = metadata.read(file.getvalue())
    assert given.resolution == (300, 200, metadata.INCH) and b"Garden" in given.exif
    for format in jobs.SUFFIXES:
        data = encoding.insert(pyfunc.encode_picture(scene(), "png"), format, given, 90)
        assert Image.open(io.BytesIO(data)).getexif()[BASE.ImageDescription] == "Garden"
        assert set(resolutions(data, format)) == {(300, 200)}


@pytest.mark.parametrize("format", jobs.SUFFIXES)
def test_what_cannot_be_carried_is_left_out(format, caplog):
    broken = metadata.Carried(exif=b"Exif\0\0II+\0\x08\0\0\0", comment=b"Garden")
    data = encoding.insert(scene(), format, broken, 90)
    assert Image.open(io.BytesIO(data)).size == scene().size
    assert "What a picture carried is left out" in caplog.text


def test_centimeters_stay_centimeters():
    file = io.BytesIO()
    scene().save(file, "JPEG")
    data = bytearray(file.getvalue())
    data[13:18] = struct.pack(">BHH", 2, 118, 59)
    given = metadata.read(bytes(data))
    assert given.resolution == (118, 59, metadata.CENTIMETER)
    png = encoding.insert(pyfunc.encode_picture(scene(), "png"), "png", given, 90)
    assert Image.open(io.BytesIO(png)).info["dpi"] == pytest.approx((299.72, 149.86))
    jpeg = encoding.insert(file.getvalue(), "jpeg", metadata.read(png), 90)
    assert Image.open(io.BytesIO(jpeg)).info["jfif_density"] == (300, 150)
