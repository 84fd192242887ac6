"""Folders of pictures, colored by a real pyfunc that tints everything red."""

import io
import logging
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import keras
import mlflow
import numpy as np
import pytest
from keras import layers
from PIL import ExifTags, Image, ImageCms, ImageFile
from PIL.TiffImagePlugin import IFDRational

from colorization import limits, tracking
from colorization.pictures import formats
from colorization.registry import lookup
from serve.batch import __main__ as command
from serve.batch import encoding, jobs, metadata, places
from tests import warm
from tests.conftest import ROOT

TINT = (40.0, -10.0, -20.0)  # added to red, green and blue
BASE, IFD = ExifTags.Base, ExifTags.IFD


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store whose naive champion tints everything red; gives its URI."""
    place = tmp_path_factory.mktemp("tint")
    grays = keras.Input((128, 128, 1))
    tinted = layers.Rescaling(1.0, TINT)(layers.Concatenate()([grays] * 3))
    network = keras.Model(grays, layers.ReLU(max_value=255.0)(tinted))
    network(np.zeros((1, 128, 128, 1), "float32"))
    network.export(place / "generator.onnx", format="onnx", verbose=False)
    mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
    mlflow.create_experiment("tint", str(place / "artifacts"))
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name("tint").experiment_id):
        mlflow.set_tag("family", "naive")
        model = mlflow.pyfunc.log_model(
            name="model",
            **tracking.MODEL_CODE,
            artifacts={"generator": str(place / "generator.onnx")},
            signature=tracking.SIGNATURE,
            pip_requirements=[],
        )
    name = lookup.model_name("naive")
    version = mlflow.register_model(model.model_uri, name)
    mlflow.MlflowClient().set_registered_model_alias(name, lookup.CHAMPION, version.version)
    mlflow.set_tracking_uri(None)
    return f"sqlite:///{place}/mlflow.db"


@pytest.fixture
def color(store, monkeypatch, caplog):
    """A function that calls the command line in this process; gives status and what it said."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)  # what `--broken` sets
    mlflow.set_tracking_uri(store)

    def call(source, target, *more, model="naive"):
        arguments = ["--model", model, "--input", str(source), "--output", str(target), *more]
        caplog.clear()
        with caplog.at_level(logging.INFO, "serve"):
            return command.main(arguments), "\n".join(caplog.messages)

    yield call
    mlflow.set_tracking_uri(None)


def scene(size=(48, 32)):
    """A gray picture, darker to the left, with a bright corner at the upper left."""
    gray = np.tile(np.linspace(60, 160, size[0]), (size[1], 1)).astype(np.uint8)
    gray[: size[1] // 4, : size[0] // 4] = 220
    return Image.fromarray(gray).convert("RGB")


def camera_exif(orientation=1):
    data = Image.Exif()
    data[BASE.Make] = "Camera"
    data[BASE.Orientation] = orientation
    data.get_ifd(IFD.Exif)[BASE.DateTimeOriginal] = "2001:02:03 04:05:06"
    data.get_ifd(IFD.GPSInfo).update({1: "N", 2: (IFDRational(51), IFDRational(3), IFDRational(2))})
    return data


def files(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def is_red(path):
    return np.subtract(*np.asarray(Image.open(path).convert("RGB"), int).mean((0, 1))[::2]) > 20


@pytest.mark.parametrize("name", ["a.jpg", "deep/er/b.JPEG", "c.png", "d.webp"])
def test_name_format_and_exif_are_kept_and_the_picture_stands_upright(name, color, tmp_path):
    source = tmp_path / "in" / name
    source.parent.mkdir(parents=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    scene().save(source, exif=camera_exif(orientation=6), icc_profile=profile)
    assert color(tmp_path / "in", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == [name]
    before, after = Image.open(source), Image.open(tmp_path / "out" / name)
    assert after.format == before.format
    assert after.size == (32, 48)
    upright = scene().transpose(Image.Transpose.ROTATE_270).convert("L")
    difference = np.asarray(after.convert("L"), int) - np.asarray(upright, int)
    assert np.abs(difference).mean() < 2  # of the corner and the gradient, turned
    assert is_red(tmp_path / "out" / name)
    assert "icc_profile" not in after.info
    kept = after.getexif()
    assert kept[BASE.Make] == "Camera"
    assert kept.get(BASE.Orientation, 1) == 1
    assert kept.get_ifd(IFD.Exif)[BASE.DateTimeOriginal] == "2001:02:03 04:05:06"
    assert kept.get_ifd(IFD.GPSInfo)[2] == (51, 3, 2)


def test_other_formats_become_png_and_a_name_is_given_once(color, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.tif", "b.bmp", "c.gif", "c.png"):
        scene().save(source / name, **({"exif": camera_exif()} if name == "a.tif" else {}))
    status, said = color(source, tmp_path / "out")
    assert status == 0
    assert files(tmp_path / "out") == ["a.png", "b.png", "c.gif.png", "c.png"]
    assert said.splitlines()[-1] == f"{tmp_path / 'out'}: 4 of 4 colored"
    colored = Image.open(tmp_path / "out" / "a.png")
    assert colored.format == "PNG"
    tags = dict(colored.getexif())
    assert tags[BASE.Make] == "Camera"
    assert not {BASE.StripOffsets, BASE.ImageWidth, BASE.Orientation} & set(tags)


def test_the_output_may_lie_in_the_input_and_is_not_colored_again(color, tmp_path):
    scene().save(tmp_path / "a.png")
    for _ in range(2):
        assert color(tmp_path, tmp_path / "colored")[0] == 0
    assert files(tmp_path) == ["a.png", "colored/a.png"]
    assert not is_red(tmp_path / "a.png")


def test_nothing_is_overwritten_unless_told(color, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir(), target.mkdir()
    for name in ("a.png", "b.png"):
        scene().save(source / name)
    (target / "a.png").write_text("mine")
    status, said = color(source, target)
    assert status == 0
    assert "1 of 2 colored already" in said
    assert said.splitlines()[-1] == f"{target}: 2 of 2 colored"
    assert (target / "a.png").read_text() == "mine"
    assert is_red(target / "b.png")
    assert color(source, target, "--overwrite", "yes")[0] == 0
    assert is_red(target / "a.png")


def test_bad_files_are_listed_and_spoil_no_others(color, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(10):
        scene().save(source / f"{number}.jpg")
    (source / "3.jpg").write_bytes((source / "4.jpg").read_bytes()[:-60])
    (source / "5.jpg").write_text("hello")
    (source / "6.jpg").write_bytes(b"")
    (source / "photo.heic").write_bytes(b"\0\0\0 ftypheic")
    (source / "notes.txt").write_text("hello")
    status, said = color(source, target)
    assert status == 1
    assert files(target) == [f"{number}.jpg" for number in (0, 1, 2, 4, 7, 8, 9)]
    listed = [line for line in said.splitlines() if line.startswith("left out: ")]
    broken = "; broken=yes colors what is there of a truncated one"
    assert [line.split(": ", 2)[1:] for line in listed] == [
        [str(source / "3.jpg"), f"is a broken or truncated JPEG{broken}"],
        [str(source / "5.jpg"), f"is not {formats.READABLE}"],
        [str(source / "6.jpg"), "is empty"],
        [str(source / "photo.heic"), f"is a broken or truncated HEIC{broken}"],
    ]
    assert "skipped: 1 .txt" in said.splitlines()
    color(source, target, "--broken", "yes")
    assert Image.open(target / "3.jpg").size == scene().size and is_red(target / "3.jpg")


def test_hidden_files_and_a_link_to_the_folder_itself_are_passed_over(tmp_path):
    source = tmp_path / "in"
    (source / ".trash").mkdir(parents=True)
    for name in ("a.png", ".b.png", ".trash/c.png"):
        scene().save(source / name)
    (source / "again").symlink_to(source)
    planned, bad = jobs.plan(source, tmp_path / "out", jobs.KEEP, places.find(source))
    assert [job.source.name for job in planned] == ["a.png"]
    assert bad == []


def test_saturation_reaches_the_model(color, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scene().save(source / "a.png")
    assert color(source, tmp_path / "gray", "--saturation", "0", "--tta", "yes")[0] == 0
    assert not is_red(tmp_path / "gray" / "a.png")


def test_hints_and_uncertainty_reach_the_model(color, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scene((200, 160)).save(source / "a.png")
    assert color(source, tmp_path / "cold", "--warmth", "-1", "--tint", "-0.5")[0] == 0
    assert not is_red(tmp_path / "cold" / "a.png")
    Image.new("RGB", (200, 160), "teal").save(source / "color.png")
    status, said = color(source, tmp_path / "heat", "--uncertainty", "yes")
    assert status == 0 and "2 of 2 heat maps" in said  # of a picture in color, too
    heat = np.asarray(Image.open(tmp_path / "heat" / "a.png"), int)
    assert np.abs(heat[0] - [0, 0, 4]).max() <= 4  # its mirror image is as red


@pytest.mark.parametrize(
    ("source", "target", "more", "message"),
    [
        ("nowhere", "out", {}, "No such folder"),
        ("empty", "out", {}, "Nothing to color. Expected pictures (.avif"),
        ("in", "in", {}, "need a folder of their own"),
        ("in/deep", "in", {}, "need a folder of their own"),
        ("in", "in/deep/a.png", {}, "need a folder of their own"),
        ("in", "out", {"model": "models:/none/1"}, "Received: model='models:/none/1'"),
        ("in", "out", {"saturation": "3"}, "'saturation' must be a number from 0 to 2"),
        ("in", "out", {"warmth": "-1.5"}, "'warmth' must be a number from -1 to 1"),
    ],
)
def test_a_bad_request_is_a_sentence_and_writes_nothing(
    source, target, more, message, color, tmp_path
):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    scene().save(tmp_path / "in" / "deep" / "a.png")
    model = more.pop("model", "naive")
    flags = [text for name, value in more.items() for text in (f"--{name}", value)]
    status, said = color(tmp_path / source, tmp_path / target, *flags, model=model)
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
    assert files(tmp_path) == ["in/deep/a.png"]


def test_an_output_that_cannot_be_written_ends_the_run(color, tmp_path):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    scene().save(source / "deep" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_text("a file where a folder has to be")
    status, said = color(source, tmp_path / "out")
    assert status == 2
    assert "error: A colored picture cannot be written. Expected " in said
    assert f"Received: '{tmp_path}/out/deep/a.png': " in said


def test_what_is_no_regular_file_is_listed_and_never_waited_for(color, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scene().save(tmp_path / "elsewhere.png")
    (source / "a.png").symlink_to(tmp_path / "elsewhere.png")
    os.mkfifo(source / "pipe.jpg")
    (source / "zero.jpg").symlink_to("/dev/zero")
    (source / "nowhere.jpg").symlink_to("gone")
    with (source / "sparse.jpg").open("wb") as file:
        file.truncate(20 * 2**30)
    status, said = color(source, tmp_path / "out")
    assert status == 1
    assert files(tmp_path / "out") == ["a.png"]
    listed = [line for line in said.splitlines() if line.startswith("left out: ")]
    assert listed == [
        f"left out: {source / name}: cannot be read: {reason}"
        for name, reason in (
            ("nowhere.jpg", "No such file or directory"),
            ("pipe.jpg", "not a regular file"),
            ("sparse.jpg", f"larger than {limits.MAX_PICTURE_BYTES} bytes"),
            ("zero.jpg", "not a regular file"),
        )
    ]


def test_links_in_the_output_are_not_written_through(color, tmp_path):
    source, target, outside = (tmp_path / name for name in ("in", "out", "outside"))
    for place in (source / "deep", source / "inner", target / "real", outside):
        place.mkdir(parents=True)
    for name in ("a.png", "deep/b.png", "inner/c.png"):
        scene().save(source / name)
    (outside / "kept").write_text("mine")
    (target / "a.png").symlink_to(outside / "kept")
    (target / "deep").symlink_to(outside)
    (target / "inner").symlink_to(target / "real")
    status, said = color(source, target, "--overwrite", "yes")
    assert status == 1
    assert f"left out: {source}/deep/b.png: would be written outside the output" in said
    assert files(outside) == ["kept"] and (outside / "kept").read_text() == "mine"
    assert not (target / "a.png").is_symlink() and is_red(target / "a.png")
    assert is_red(target / "real" / "c.png")


def test_a_half_written_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "kept").write_text("mine")
    partial = f".{places.HERE}-{os.getpid()}-{threading.get_ident()}{places.PARTIAL}"
    (tmp_path / partial).symlink_to(tmp_path / "kept")
    places.write(tmp_path / "a.png", b"colored", tmp_path / "kept")
    assert (tmp_path / "kept").read_text() == "mine"
    assert files(tmp_path) == ["a.png", "kept"]


def test_files_named_like_leftovers_are_let_be(color, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True), (target / "deep").mkdir(parents=True)
    scene().save(source / "a.png")
    (tmp_path / "elsewhere").mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    own = f"{places.HERE}-{gone.pid}"
    numbers = ["-1", "9" * 30 + "-1", "\u0663-1", f"{os.getpid()}-1", "1-2-3"]
    theirs = ["mine", "", f"elsewhere-{gone.pid}-1", *(f"{places.HERE}-{each}" for each in numbers)]
    for name in theirs:
        (target / f".{name}{places.PARTIAL}").touch()
    (tmp_path / "elsewhere" / f".{own}-1{places.PARTIAL}").touch()
    (target / "linked").symlink_to(tmp_path / "elsewhere")
    theirs.append(f"{own}-7")
    (target / f".{own}-7{places.PARTIAL}").symlink_to(source / "a.png")
    (target / "deep" / f".{own}-1{places.PARTIAL}").touch()
    assert color(source, target)[0] == 0
    assert files(target) == sorted(["a.png", *(f".{name}{places.PARTIAL}" for name in theirs)])
    assert len(files(tmp_path / "elsewhere")) == 1


@pytest.mark.slow
def test_names_do_not_steer_the_terminal_nor_forge_lines(store, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    names = ["a\nerror: forged.jpg", "b\x1b]0;title\x07.jpg", "c\u202egpj.jpg", "d\x9b.jpg"]
    for name in [*names, os.fsdecode(b"e\xff.jpg")]:
        (source / name).write_text("no picture")
    done = warm.run(
        [sys.executable, "-m", "serve.batch", "--model", "naive"]
        + ["--input", source, "--output", tmp_path / "out"],
        env=os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)},
    )
    said = done.stderr.split("\n")
    assert done.returncode == 1
    start = f"left out: {source}/"
    assert [line.removeprefix(start).split(".jpg")[0] for line in said if start in line] == [
        "a\\nerror: forged",
        "b\\x1b]0;title\\x07",
        "c\\u202egpj",
        "d\\x9b",
        "e\\xff",
    ]
    assert not [line for line in said if line.startswith("error")]


def test_a_bad_word_of_the_command_line_is_not_repeated_as_it_is(capsys):
    with pytest.raises(SystemExit):
        command.parse(["--model", "m", "--input", "i", "--output", "o", "a\x1b[2J\nb"])
    assert capsys.readouterr().err.endswith("Received: a\\x1b[2J\\nb\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_stopped_goes_on_where_it_was(number, store, color, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    scene((600, 400)).save(source / "0.png", compress_level=0)
    names = sorted(f"{index}.png" for index in range(120))
    for name in names[1:]:
        shutil.copy(source / "0.png", source / name)
    arguments = ["--model", "naive", "--input", source, "--output", target]
    process = warm.Popen(
        [sys.executable, "-m", "serve.batch", *arguments],
        env=os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and len(list(target.glob("*.png"))) < 5:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    done = {path: path.stat().st_mtime_ns for path in target.glob("*.png")}
    assert 5 <= len(done) < 120
    assert all(is_red(path) for path in done)  # none is cut off
    if number != signal.SIGKILL:
        assert files(target) == sorted(path.name for path in done)
    (target / f".{places.HERE}-{process.pid}-2{places.PARTIAL}").write_text(
        "of a run that was killed"
    )
    assert color(source, target)[0] == 0
    assert files(target) == names
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_the_thumbnail_of_the_gray_picture_does_not_stay():
    thumbnail = io.BytesIO()
    scene((16, 16)).save(thumbnail, "JPEG")
    size = len(thumbnail.getvalue())
    first = struct.pack("<HHHI4sI", 1, BASE.Make, 2, 4, b"Cam", 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, size, 0)
    data = b"Exif\0\0II*\0\x08\0\0\0" + first + second + thumbnail.getvalue()
    content = io.BytesIO()
    scene().save(content, "JPEG", exif=data)
    assert Image.open(content).getexif().get_ifd(IFD.IFD1)[0x0202] == size  # it is there
    kept = metadata.read(content.getvalue()).exif
    assert b"Cam" in kept
    assert b"\xff\xd8\xff" not in kept


def test_exif_that_is_broken_or_too_long_does_not_harm_the_picture(caplog):
    content = io.BytesIO()
    scene().save(content, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert metadata.read(content.getvalue()).exif == b""
    data = camera_exif()
    data[BASE.ImageDescription] = "x" * 70_000
    with caplog.at_level(logging.WARNING, "serve"):
        carried = metadata.Carried(exif=data.tobytes())
        whole = encoding.insert(content.getvalue(), "jpeg", carried, 90)
    assert whole == content.getvalue()
    assert "does not fit into a JPEG" in caplog.text
