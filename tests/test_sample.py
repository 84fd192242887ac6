import numpy as np
import pytest
from PIL import Image

from colorization.data import manifest, photograph, prepare, sources, splits
from tests.conftest import bird

FOLDERS = """Blackbird Bluetit Carrion_Crow Chaffinch Coal_Tit Collared_Dove Dunnock Feral_Pigeon
Goldfinch Great_Tit Greenfinch House_Sparrow Jackdaw Long_Tailed_Tit Magpie Robin
Song_Thrush Starling Wood_Pigeon Wren""".split()

# In README, which is to be the same on every processor.
DIGEST = "65eabb51fc505c7447816091704b3441"
SIZES = {"train": 384, "val": 46, "test": 50}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample, prepared from an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORIZATION_CACHE", str(tmp_path_factory.mktemp("empty")))
        source = sources.fetch("sample")
        return source, prepare.prepare(source)


def test_the_species_are_the_folders_of_the_kaggle_set_with_as_many_pictures_of_each(sample):
    folder = sample[0].folder
    assert sorted(path.name for path in folder.iterdir()) == FOLDERS
    numbers = {f"({number}).jpg" for number in range(1, 25)}
    assert all({path.name for path in (folder / name).iterdir()} == numbers for name in FOLDERS)


def test_the_file_is_small_enough_for_a_repository():
    assert sources.SAMPLE.stat().st_size < 10_000_000


@pytest.mark.parametrize("species", FOLDERS)
def test_every_picture_has_color_and_contrast(species):
    for number in range(1, 25):
        picture = bird(species, number)
        assert picture.size == (256, 256)
        pixels = np.asarray(picture, float)
        assert pixels.mean(-1).std() > 8
        assert (pixels.max(-1) - pixels.min(-1)).mean() > 4


def test_digest_and_splits_are_the_same_on_every_processor(sample):
    _, prepared = sample
    assert prepared.digest == DIGEST
    assert {name: len(getattr(prepared, name).images) for name in splits.SPLITS} == SIZES


def test_each_split_has_every_species_and_no_near_duplicate_of_another_split(sample):
    source, prepared = sample
    rows = manifest.read(prepared.manifest)
    assert {(row.species, row.split) for row in rows} == {
        (species, split) for species in FOLDERS for split in splits.SPLITS
    }
    pixels = np.empty((128, 128, 3), np.uint8)
    hashes = np.stack([photograph.read(source.folder / row.path, pixels).hashes for row in rows])
    for row, twins in zip(rows, splits.twins(hashes), strict=True):
        assert {rows[twin].split for twin in twins} <= {row.split}


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
def test_color_is_learnt_from_gray_but_not_from_the_gray_of_other_pictures():
    """The promise of the paintings: 2 dB above gray and mean chroma, nothing if shuffled."""
    rgb, ycc = [], []
    for number in range(1, 23):  # the last 4 of each species stay unseen
        for name in FOLDERS:
            small = bird(name, number).resize((128, 128), Image.Resampling.BOX)
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
