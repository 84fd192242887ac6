import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from colorization.data.sample import paint, write_sample
from colorization.data.species import SPECIES

FOLDERS = """Blackbird Bluetit Carrion_Crow Chaffinch Coal_Tit Collared_Dove Dunnock Feral_Pigeon
Goldfinch Great_Tit Greenfinch House_Sparrow Jackdaw Long_Tailed_Tit Magpie Robin
Song_Thrush Starling Wood_Pigeon Wren""".split()


def test_the_species_are_the_folders_of_the_kaggle_set():
    assert sorted(SPECIES) == FOLDERS
    assert all(name == bird.name for name, bird in SPECIES.items())


@pytest.mark.parametrize("species", FOLDERS)
def test_every_species_is_painted_in_color_at_the_asked_size(species):
    picture = paint(species, seed=1, size=64)
    assert (picture.mode, picture.size) == ("RGB", (64, 64))
    pixels = np.asarray(picture, float)
    assert pixels.mean(-1).std() > 8
    assert (pixels.max(-1) - pixels.min(-1)).mean() > 4


def test_the_same_seed_gives_the_same_pixels_in_any_order():
    first = paint("Robin", 3, 96)
    paint("Wren", 8, 96)
    assert paint("Robin", 3, 96).tobytes() == first.tobytes()


def test_the_same_seed_gives_the_same_pixels_in_another_process():
    code = (
        "from colorization.data.sample import paint; print(paint('Magpie', 5, 96).tobytes().hex())"
    )
    root = pathlib.Path(__file__).parent.parent
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == paint("Magpie", 5, 96).tobytes().hex()


def test_another_seed_and_another_species_give_another_picture():
    pictures = {paint("Robin", 3, 64).tobytes(), paint("Robin", 4, 64).tobytes()}
    assert len(pictures | {paint("Wren", 3, 64).tobytes()}) == 3


def test_an_unknown_species_is_refused_by_name():
    with pytest.raises(ValueError, match="Received: species='Dodo'"):
        paint("Dodo", 0)


def test_a_sample_is_written_evenly_over_the_species(tmp_path):
    write_sample(tmp_path, count=40, seed=2)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == sorted(f"{name}/({n}).png" for name in FOLDERS for n in (1, 2))
    with Image.open(tmp_path / "Robin" / "(2).png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (256, 256))


def test_a_larger_sample_holds_the_smaller_one(tmp_path):
    write_sample(tmp_path / "small", count=3)
    write_sample(tmp_path / "large", count=23)
    for path in (tmp_path / "small").rglob("*.png"):
        twin = tmp_path / "large" / path.relative_to(tmp_path / "small")
        assert twin.read_bytes() == path.read_bytes()


def _chroma_network():
    """A small U-Net from gray (128, 128, 1), 0..255, to Cb and Cr (64, 64, 2), -1..1."""
    from keras import Input, Model, layers

    def block(x, filters, strides=1):
        # No normalization: it would hide how bright a scene is, which tells sky from snow.
        options = {"padding": "same", "activation": "leaky_relu", "kernel_initializer": "he_normal"}
        return layers.Conv2D(filters, 3, strides, **options)(x)

    gray = Input((128, 128, 1))
    x, skips = layers.Rescaling(1 / 127.5, -1)(gray), []
    for filters in (16, 32, 48, 64):
        x = block(block(x, filters, 2), filters)
        skips.append(x)  # 64, 32, 16, 8
    mood = layers.Dense(32, activation="leaky_relu")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    x = layers.Concatenate()([x, layers.UpSampling2D(8)(mood)])
    for skip, filters in zip(skips[-2::-1], (48, 32, 16), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), filters)
    return Model(gray, layers.Conv2D(2, 3, padding="same")(x))


def _psnr(real, luma, chroma):
    """Mean PSNR in dB of luma (N, 128, 128, 1) joined with chroma, against RGB pictures."""
    ycc = np.concatenate([luma, np.broadcast_to(chroma, (*luma.shape[:3], 2))], -1)
    ycc = ycc.clip(0, 255).round().astype(np.uint8)
    fake = np.stack([np.asarray(Image.fromarray(each, "YCbCr").convert("RGB")) for each in ycc])
    errors = ((real.astype(float) - fake) ** 2).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / errors)))


def _trained_psnr(gray, chroma, real, luma):
    """PSNR on unseen pictures of the small network trained on gray and chroma."""
    import keras

    keras.utils.set_random_seed(0)
    network = _chroma_network()
    network.compile(keras.optimizers.Adam(1e-3), "mae")
    network.fit(gray, chroma, batch_size=8, epochs=7, verbose=0)
    planes = network.predict(luma, batch_size=16, verbose=0).repeat(2, 1).repeat(2, 2)
    return _psnr(real, luma, planes * 128 + 128)


@pytest.mark.slow
def test_color_is_learnt_from_gray_but_not_from_the_gray_of_other_pictures(tmp_path):
    """The promise of the paintings: 2 dB above gray and mean chroma, nothing if shuffled."""
    write_sample(tmp_path, count=440)
    rgb, ycc = [], []
    for number in range(1, 23):  # the last 4 of each species stay unseen
        for name in FOLDERS:
            with Image.open(tmp_path / name / f"({number}).png") as picture:
                small = picture.resize((128, 128), Image.Resampling.BOX)
            rgb.append(np.asarray(small))
            ycc.append(np.asarray(small.convert("YCbCr"), np.float32))
    rgb, ycc = np.stack(rgb), np.stack(ycc)
    train, test = slice(0, 360), slice(360, None)
    luma, half = ycc[..., :1], ycc[..., 1:].reshape(-1, 64, 2, 64, 2, 2).mean((2, 4)) / 128 - 1
    gray = _psnr(rgb[test], luma[test], np.float32(128))
    mean_chroma = _psnr(rgb[test], luma[test], ycc[train, ..., 1:].mean((0, 1, 2)))
    learnt = _trained_psnr(luma[train], half[train], rgb[test], luma[test])
    others = np.random.default_rng(0).permutation(360)
    shuffled = _trained_psnr(luma[train][others], half[train], rgb[test], luma[test])
    figures = f"{gray=:.2f} {mean_chroma=:.2f} {learnt=:.2f} {shuffled=:.2f}"
    assert learnt > max(gray, mean_chroma) + 2, figures
    assert shuffled < max(gray, mean_chroma) + 0.5, figures
