import numpy as np
import pytest

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
