import base64
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from keras import layers
from mlflow.exceptions import MlflowException
from PIL import Image, ImageCms, ImageOps

from benchmarks.saved import save_pyfunc
from colorization import pictures
from colorization.pictures.formats import FORMATS
from serve import pyfunc

SIDE = 128
LOSSLESS = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}


def build_network(channels, head, strength):
    """A colorizer of random weights: the contract, and no skill; `strength` scales its colors."""
    noise = keras.initializers.RandomNormal(stddev=strength, seed=7)
    grays = keras.Input((SIDE, SIDE, channels))
    scaled = layers.Rescaling(1 / 127.5, -1)(grays)
    seeded = keras.initializers.GlorotUniform(seed=7)
    features = layers.Conv2D(4, 5, padding="same", activation="relu", kernel_initializer=seeded)(
        scaled
    )
    if head == "rgb":
        planes = layers.Conv2D(3, 5, padding="same", kernel_initializer=noise)(features)
        rgb = layers.Activation("tanh")(planes)
    else:
        planes = layers.Conv2D(2, 5, padding="same", kernel_initializer=noise)(features)
        red, blue = (layers.Activation("tanh")(planes)[..., i : i + 1] for i in (0, 1))
        luma = scaled[..., :1]
        green = -(0.299 * red + 0.114 * blue) / 0.587
        rgb = layers.Concatenate()([luma + red, luma + green, luma + blue])
    rgb = layers.ReLU(max_value=255.0)(layers.Rescaling(127.5, 127.5)(rgb))
    return keras.Model(grays, rgb)


def save_colorizer(folder, channels, head, strength=1.0):
    network = build_network(channels, head, strength)
    network(np.zeros((1, SIDE, SIDE, channels), "float32"))
    return Path(save_pyfunc(network, folder))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return {
        head: save_colorizer(tmp_path_factory.mktemp(head), channels, head)
        for head, channels in {"chroma": 1, "rgb": 3}.items()
    }


@pytest.fixture(scope="session")
def loaded(models):
    return {head: mlflow.pyfunc.load_model(str(path)) for head, path in models.items()}


@pytest.fixture(scope="session")
def model(loaded):
    return loaded["chroma"]


def paint(mode="RGB", size=(90, 60), seed=0):
    """Smooth waves of color, so that lossy formats keep them."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [np.sin(2 * x + i + seed) * np.cos(3 * y - i) for i in range(3)]
    rgb = np.stack(waves, axis=-1) * 127.5 + 127.5
    return Image.fromarray(rgb.astype(np.uint8)).convert(mode)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def color(model, *cells, **params):
    answer = model.predict(pd.DataFrame({"image": list(cells)}), params=params)
    pictures = [Image.open(io.BytesIO(data)) for data in answer["image"]]
    return pictures[0] if len(cells) == 1 else pictures


def refusal(model, *cells, **params):
    with pytest.raises(MlflowException) as caught:
        color(model, *cells, **params)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200
    return caught.value.message


def luma_distance(one, other):
    one, other = (np.asarray(image.convert("L"), int) for image in (one, other))
    assert one.shape == other.shape
    return np.abs(one - other).max()


def colorfulness(image):
    return np.ptp(np.asarray(image.convert("RGB"), int), axis=-1).mean()


def alpha_of(image):
    return np.asarray(image.convert("RGBA").getchannel("A"))


def swapped_profile():
    """The sRGB profile with the primaries of red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"_XYZ").replace(b"bXYZ", b"rXYZ")
    return profile.replace(b"_XYZ", b"bXYZ")


def png_header(width, height):
    """A PNG that says how large it is and holds no pixel."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT\x35\xaf\x06\x1e"


# What comes out


@pytest.mark.parametrize("head", ["chroma", "rgb"])
@pytest.mark.parametrize("size", [(128, 128), (31, 47), (300, 200), (1, 1), (5000, 1), (1, 5000)])
def test_a_picture_comes_back_at_its_size_in_color_with_its_own_luma(loaded, head, size):
    picture = paint(size=size)
    colored = color(loaded[head], encode(picture), saturation=2.0)
    assert (colored.format, colored.mode, colored.size) == ("PNG", "RGB", size)
    assert luma_distance(colored, picture) <= 2
    assert colorfulness(colored) > 5


def test_on_the_square_of_the_network_the_answer_is_that_of_the_network(tmp_path):
    model = mlflow.pyfunc.load_model(str(save_colorizer(tmp_path, 3, "chroma", strength=0.1)))
    session = onnxruntime.InferenceSession(tmp_path / "generator.onnx")
    gray = ImageOps.autocontrast(paint("L", (SIDE, SIDE))).point(lambda value: 64 + value // 2)
    grays = np.asarray(gray.convert("RGB"), np.float32)[None]
    (expected,) = session.run(None, {session.get_inputs()[0].name: grays})
    colored = np.asarray(color(model, encode(gray)), np.float32)
    assert np.abs(colored - expected[0]).max() < 1
    assert np.ptp(expected, axis=-1).mean() > 2


def test_rows_of_different_sizes_are_colored_together_as_they_are_alone(model):
    pictures = [encode(paint(size=(20 + 9 * i, 60 - 2 * i), seed=i)) for i in range(20)]
    together = color(model, *pictures)
    assert all(
        np.abs(np.asarray(one, int) - np.asarray(color(model, data), int)).max() <= 1
        for one, data in zip(together, pictures, strict=True)
    )


def test_requests_at_the_same_time_get_what_each_would_get_alone(model):
    requests = [
        (encode(paint(size=(90 + 7 * i, 60), seed=i)), format)
        for i in range(6)
        for format in ("png", "jpeg", "webp")
    ]

    def answer(request):
        data, format = request
        return model.predict(pd.DataFrame({"image": [data]}), params={"format": format})["image"][0]

    alone = [answer(request) for request in requests]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(answer, requests)) == alone


def test_the_answer_keeps_the_index_of_the_rows(model):
    rows = pd.DataFrame({"image": [encode(paint())] * 2}, index=["robin", "wren"])
    answer = model.predict(rows)
    assert list(answer.index) == ["robin", "wren"]
    assert list(answer.columns) == ["image"]
    assert all(isinstance(cell, bytes) for cell in answer["image"])


def test_no_rows_give_no_rows(model):
    assert len(model.predict(pd.DataFrame({"image": pd.Series([], dtype=object)}))) == 0


def test_pictures_wait_in_chunks_of_few_rows_and_few_pixels(monkeypatch):
    monkeypatch.setattr(pyfunc, "CHUNK_ROWS", 3)
    monkeypatch.setattr(pyfunc, "CHUNK_PIXELS", 1000)
    sides = [10, 10, 10, 10, 30, 30, 50, 10]
    cells = [encode(paint(size=(side, side))) for side in sides]
    chunks = pyfunc.read_chunks(cells, max_pixels=10_000)
    assert [[p.luma.width for p in chunk] for chunk in chunks] == [
        [10, 10, 10],
        [10, 30],
        [30],
        [50],
        [10],
    ]


def test_a_row_is_decoded_only_when_its_chunk_is_due(monkeypatch):
    monkeypatch.setattr(pyfunc, "CHUNK_ROWS", 1)
    chunks = pyfunc.read_chunks([encode(paint()), encode(paint()), b"broken"], 10_000)
    assert len(next(chunks)) == 1


# Color and gamut


def constant_chroma(red, blue, side=16):
    return np.broadcast_to(np.float32([red, blue]), (side, side, 2)).copy()


def test_colors_out_of_the_gamut_move_toward_their_gray_and_keep_their_hue():
    gray = Image.fromarray(np.full((20, 20), 200, np.uint8))
    colored = pyfunc.blend(pictures.Picture(gray, None), constant_chroma(200, -100))
    red, green, blue = np.asarray(colored, float)[10, 10] - 200
    assert red == 55  # as red as white allows
    assert blue / red == pytest.approx(-0.5, abs=0.02)
    assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("chroma", [(255, 255), (-255, -255), (255, -255), (0, 0)])
def test_no_color_however_strong_changes_the_luma(level, chroma):
    gray = Image.fromarray(np.full((9, 9), level, np.uint8))
    colored = pyfunc.blend(pictures.Picture(gray, None), constant_chroma(*chroma))
    assert luma_distance(colored, gray) <= 1


def test_color_is_upsampled_smoothly():
    chroma = constant_chroma(0, 0)
    chroma[:, 8:, 0] = 80
    gray = Image.new("L", (160, 40), 128)
    colored = pyfunc.blend(pictures.Picture(gray, None), chroma)
    steps = np.abs(np.diff(np.asarray(colored, int)[20, :, 0]))
    assert 60 < np.ptp(np.asarray(colored, int)[20, :, 0])
    assert steps.max() < 20  # nearest neighbor would jump by 80


@pytest.mark.parametrize("size", [(300, 700), (40, 9)])
def test_a_picture_blended_in_stripes_has_no_seams(monkeypatch, size):
    chroma = np.random.default_rng(0).uniform(-90, 90, (SIDE, SIDE, 2)).astype(np.float32)
    picture = pictures.Picture(paint("L", size), None)
    monkeypatch.setattr(pyfunc, "STRIPE_PIXELS", 1 << 30)
    whole = np.asarray(pyfunc.blend(picture, chroma), int)
    monkeypatch.setattr(pyfunc, "STRIPE_PIXELS", 2000)
    striped = np.asarray(pyfunc.blend(picture, chroma), int)
    assert np.abs(whole - striped).max() <= 1


# Params


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_the_format_is_the_one_asked_for(model, format):
    assert color(model, encode(paint()), format=format).format == format.upper()


@pytest.mark.parametrize("format", ["png", "webp"])
def test_alpha_is_kept_where_the_format_has_it(model, format):
    picture = paint("RGBA")
    picture.putalpha(paint("L", seed=5))
    colored = color(model, encode(picture), format=format)
    assert colored.mode == "RGBA"
    assert np.array_equal(alpha_of(colored), alpha_of(picture))


def test_jpeg_lays_transparent_pixels_on_white(model):
    picture = paint("RGBA")
    picture.putalpha(0)
    colored = color(model, encode(picture), format="jpeg")
    assert colored.mode == "RGB"
    assert np.asarray(colored).min() >= 254


def test_size_model_gives_the_square_of_the_network(model):
    picture = paint("RGBA", (300, 200))
    colored = color(model, encode(picture), size="model")
    assert (colored.mode, colored.size) == ("RGBA", (SIDE, SIDE))
    assert luma_distance(colored, picture.convert("L").resize((SIDE, SIDE), Image.LANCZOS)) <= 2


def test_tta_averages_over_the_picture_and_its_mirror(model):
    picture = paint("L", (SIDE, SIDE)).point(lambda value: 96 + value // 4)
    straight = color(model, encode(picture), saturation=0.2)
    mirrored = ImageOps.mirror(color(model, encode(ImageOps.mirror(picture)), saturation=0.2))
    both = color(model, encode(picture), saturation=0.2, tta=True)
    mean = (np.asarray(straight, float) + np.asarray(mirrored, float)) / 2
    assert np.abs(mean - np.asarray(both, float)).max() <= 1
    assert np.abs(mean - np.asarray(straight, float)).max() > 3


def test_saturation_scales_color_from_none_to_twice(model):
    data = encode(paint("L").point(lambda value: 96 + value // 4))
    none, tenth, fifth = (color(model, data, saturation=value) for value in (0.0, 0.1, 0.2))
    assert colorfulness(none) == 0
    assert colorfulness(fifth) == pytest.approx(2 * colorfulness(tenth), rel=0.1)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"format": "bmp"}, "format"),
        ({"format": "PNG "}, "format"),
        ({"size": "half"}, "size"),
        ({"saturation": -0.1}, "saturation"),
        ({"saturation": 2.01}, "saturation"),
        ({"saturation": float("nan")}, "saturation"),
        ({"saturation": float("inf")}, "saturation"),
        ({"quality": 0}, "quality"),
        ({"quality": 101}, "quality"),
    ],
)
def test_a_param_out_of_range_is_refused_by_name(model, params, name):
    assert f"'{name}'" in refusal(model, encode(paint()), **params)


# What goes in


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_format_is_read(model, format):
    data = encode(paint(), format)
    assert luma_distance(color(model, data), Image.open(io.BytesIO(data))) <= 2


@pytest.mark.parametrize(
    ("mode", "format"),
    [("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG")]
    + [("1", "TIFF"), ("CMYK", "TIFF"), ("RGBA", "TIFF"), ("RGBA", "WEBP")]
    + [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "BMP"), ("P", "BMP"), ("P", "GIF"), ("L", "GIF")],
)
def test_every_mode_keeps_its_luma(model, mode, format):
    picture = paint(mode)
    colored = color(model, encode(picture, format, **LOSSLESS.get(format, {})))
    assert luma_distance(colored, picture.convert("RGB")) <= 2
    assert colorfulness(colored) > 5 or mode == "1"  # black and white have no room for color


def test_a_lab_picture_is_read(model):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(paint(), srgb, lab, outputMode="LAB")
    assert luma_distance(color(model, encode(picture, "TIFF")), paint()) <= 8  # 8-bit LAB is coarse


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(model, format):
    ramp = np.linspace(0, 65535, 100 * 50).reshape(50, 100)
    data = encode(Image.fromarray(ramp.astype(np.uint16)), format)
    expected = Image.fromarray((ramp / 257).round().astype(np.uint8))
    assert luma_distance(color(model, data), expected) <= 2


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e9])
def test_floats_are_scaled_to_their_white(model, white):
    ramp = np.linspace(0, 1, 5000).reshape(50, 100).astype(np.float32)
    data = encode(Image.fromarray(ramp * np.float32(white)), "TIFF")
    expected = Image.fromarray((ramp * 255).round().astype(np.uint8))
    assert luma_distance(color(model, data), expected) <= 2


def test_sixteen_bit_color_is_read(model):
    values = np.asarray(paint(size=(40, 30)), np.uint16) * 257
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    assert luma_distance(color(model, data), paint(size=(40, 30))) <= 2


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_of_gray_and_of_color_is_kept(model, mode):
    picture = paint(mode)
    picture.putalpha(paint("L", seed=5))
    colored = color(model, encode(picture))
    assert colored.mode == "RGBA"
    assert np.array_equal(alpha_of(colored), alpha_of(picture))
    assert luma_distance(colored.convert("RGB"), picture.convert("RGB")) <= 2


@pytest.mark.parametrize(
    ("mode", "format", "transparent"),
    [("P", "PNG", 20), ("P", "PNG", bytes(range(256))), ("P", "GIF", 20), ("L", "PNG", 120)]
    + [("RGB", "PNG", (20, 30, 40))],
)
def test_a_transparent_color_becomes_alpha(model, mode, format, transparent):
    picture = paint(mode)
    picture.paste(20 if mode == "P" else transparent, (10, 10, 30, 30))
    data = encode(picture, format, transparency=transparent)
    expected = alpha_of(Image.open(io.BytesIO(data)))
    assert expected.min() < 255
    assert np.array_equal(alpha_of(color(model, data)), expected)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_picture_comes_back_upright(model, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(paint(), format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    colored = color(model, data)
    assert luma_distance(colored, expected) <= 2
    assert colored.getexif().get(0x0112, 1) == 1


def test_broken_exif_is_ignored(model):
    data = encode(paint(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff junk")
    assert color(model, data).size == paint().size


def test_a_color_profile_is_turned_into_srgb(model):
    red = Image.new("RGB", (40, 30), (255, 0, 0))
    colored = color(model, encode(red, icc_profile=swapped_profile()))
    assert luma_distance(colored, Image.new("RGB", (40, 30), (0, 0, 255))) <= 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_color_profile_leaves_alpha_alone(model, mode):
    picture = paint(mode)
    picture.putalpha(paint("L", seed=5))
    colored = color(model, encode(picture, icc_profile=swapped_profile()))
    assert np.array_equal(alpha_of(colored), alpha_of(picture))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_broken_color_profile_is_ignored(model, mode):
    picture = paint(mode)
    for profile in (b"not a profile", swapped_profile()[:300]):
        assert luma_distance(color(model, encode(picture, icc_profile=profile)), picture) <= 2


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(model, format):
    frames = [Image.new("RGB", (50, 40), level) for level in ("white", "black", "gray")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert luma_distance(color(model, data), frames[0]) <= 2


def test_base64_text_is_read_with_newlines_and_as_a_data_url(model):
    data = encode(paint())
    expected = model.predict(pd.DataFrame({"image": [data]}))["image"][0]
    texts = [
        base64.b64encode(data).decode(),
        base64.b64encode(data),
        np.bytes_(base64.b64encode(data)),
        base64.encodebytes(data).decode(),
        "data:image/png;base64," + base64.b64encode(data).decode(),
    ]
    network = model.unwrap_python_model()
    for text in texts:
        answer = network.predict(None, pd.DataFrame({"image": [text]}, dtype=object))
        assert answer["image"][0] == expected


# What is refused


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"neither picture nor text \xff\xfe", "is not a JPEG"),
        (base64.b64encode(b"no picture at all"), "not a JPEG"),
        (b"%PDF-1.7 nothing", "is not a JPEG"),
        (b"%PDF-1.7 nothing".decode(), "neither base64"),
        (np.bytes_(b"%PDF-1.7 nothing"), "neither base64"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a JPEG"),
    ],
)
def test_what_is_no_picture_is_refused(model, cell, reason):
    message = refusal(model, cell)
    assert reason in message
    assert message.startswith("Row 0: ")


@pytest.mark.parametrize("cell", [None, float("nan"), 5, ["a"]])
def test_what_is_neither_bytes_nor_text_is_refused(model, cell):
    rows = pd.DataFrame({"image": pd.Series([cell], dtype=object)})
    with pytest.raises(MlflowException, match="^Row 0: .*bytes or base64"):
        model.unwrap_python_model().predict(None, rows)


def test_a_path_is_never_read(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "birdjpeg"  # relative, its name is base64 as well
    path.write_bytes(encode(paint()))
    network = model.unwrap_python_model()
    for text in (str(path), path.name, path.as_uri(), str(path).encode()):
        with pytest.raises(MlflowException, match="^Row 0: "):
            network.predict(None, pd.DataFrame({"image": [text]}, dtype=object))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_picture_is_refused(model, format):
    data = encode(paint(), format)
    message = refusal(model, data[: len(data) * 2 // 3])
    assert message.startswith("Row 0: the picture is ")


def test_a_bad_row_is_named(model):
    good = encode(paint())
    assert refusal(model, *[good] * 20, b"bad row!", good).startswith("Row 20: ")


def test_no_refusal_repeats_what_was_sent(model):
    secret = b"SecretPayload"
    for cell in (secret, base64.b64encode(secret), png_header(9, 9) + secret, encode(paint())):
        params = {} if secret in cell else {"format": secret.decode()}
        cell = cell[:-20] if cell.startswith(b"\x89PNG") else cell
        message = refusal(model, cell, **params)
        assert "Secret" not in message
        assert base64.b64encode(secret).decode()[:6] not in message


def test_a_missing_column_is_refused_by_name(model):
    with pytest.raises(MlflowException, match="'image'"):
        model.unwrap_python_model().predict(None, pd.DataFrame({"picture": [encode(paint())]}))


@pytest.mark.parametrize("side", [10_000, 30_000])  # beyond where Pillow warns, and where it raises
def test_too_many_pixels_are_refused_before_decoding(model, side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(model, png_header(side, side))
    assert f"{side} x {side} pixels" in message
    assert "COLORIZER_MAX_PIXELS" in message


def test_the_pixel_limit_comes_from_the_environment(models, monkeypatch):
    monkeypatch.setenv("COLORIZER_MAX_PIXELS", "5400")
    model = mlflow.pyfunc.load_model(str(models["chroma"]))
    assert color(model, encode(paint(size=(90, 60)))).size == (90, 60)
    assert "limit of 5400" in refusal(model, encode(paint(size=(90, 61))))


@pytest.mark.parametrize("limit", ["", "0", "-5", "many", "1e6"])
def test_a_pixel_limit_that_is_no_number_stops_the_loading(models, monkeypatch, limit):
    monkeypatch.setenv("COLORIZER_MAX_PIXELS", limit)
    with pytest.raises(MlflowException, match="COLORIZER_MAX_PIXELS"):
        mlflow.pyfunc.load_model(str(models["chroma"]))


def test_a_limit_above_that_of_pillow_holds(models, monkeypatch):
    monkeypatch.setenv("COLORIZER_MAX_PIXELS", "10000")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    model = mlflow.pyfunc.load_model(str(models["chroma"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for format in sorted(set(FORMATS) - {"TGA"}):
            rows = pd.DataFrame({"image": [encode(paint(), format)]})
            assert len(model.predict(rows)) == 1


def test_the_limit_of_pillow_is_left_as_it_was(model):
    before = Image.MAX_IMAGE_PIXELS
    color(model, encode(paint()))
    refusal(model, b"no picture")
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_a_picture_too_long_for_its_format_is_refused(model):
    message = refusal(model, encode(paint(size=(16_384, 1))), format="webp")
    assert message.startswith("Row 0: ")
    assert "webp" in message


def test_a_network_that_breaks_the_contract_is_refused(tmp_path):
    network = keras.Sequential([keras.Input((8, 4, 3)), layers.Rescaling(1.0)])
    network(np.zeros((1, 8, 4, 3), "float32"))
    network.export(tmp_path / "wrong.onnx", format="onnx", verbose=False)
    with pytest.raises(MlflowException, match="N, S, S"):
        pyfunc.open_session(str(tmp_path / "wrong.onnx"))
