"""A source that brings its split along, as folders: it is kept, completed, and checked."""

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from colorization.data import manifest, rows
from colorization.data.prepare import prepare
from colorization.data.sources import fetch
from tests.test_prepare import cache, near_duplicates, parts, photo, photos, split_of

__all__ = ["cache"]  # a fixture: of each test's own


def with_splits(folder, train="train", val="val", test="test"):
    """Photos of two species in each folder that is named: 24 in train, 8 in val, 6 in test."""
    for name, first, count in ((train, 0, 12), (val, 100, 4), (test, 200, 3)):
        if name:
            photos(folder / name, range(first, first + count), "Robin")
            photos(folder / name, range(first + 20, first + 20 + count), "Wren")
    return folder


def counts(prepared):
    return {part.name: len(part.images) for part in parts(prepared)}


def rows_of(prepared):
    return {row.path: row for row in manifest.read(prepared.manifest)}


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("Train", "VALIDATION", "Test"), ("TRAIN", "valid", "TEST")],
)
def test_the_split_of_the_folders_is_kept(tmp_path, caplog, names):
    caplog.set_level("INFO")
    prepared = prepare(fetch(str(with_splits(tmp_path / "birds", *names))))
    assert counts(prepared) == {"train": 24, "val": 8, "test": 6}
    for part, name in zip(parts(prepared), names, strict=True):
        assert {Path(path).parts[0] for path in part.paths} == {name}
        assert set(part.species) == {"Robin", "Wren"}
    assert {row.note for row in rows_of(prepared).values()} == {"given by its folder"}
    assert "The split is that of the source's folders" in caplog.text


@pytest.mark.parametrize("top", ["", "20-birds/", "data/20-birds/"])
def test_a_zip_with_or_without_a_top_folder_keeps_its_split(tmp_path, top):
    folder = with_splits(tmp_path / "birds")
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as file:
        file.writestr(f"{top}labels.csv", "path\n")
        for path in folder.rglob("*.jpg"):
            file.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    prepared = prepare(fetch(str(tmp_path / "birds.zip")))
    assert counts(prepared) == {"train": 24, "val": 8, "test": 6}
    assert all(path.startswith(f"{top}test/") for path in prepared.test.paths)


@pytest.mark.parametrize("absent", ["val", "test"])
def test_a_missing_split_is_split_off_train(tmp_path, caplog, absent):
    caplog.set_level("INFO")
    folder = with_splits(tmp_path / "birds", **{absent: None})
    prepared = prepare(fetch(str(folder)))
    split, rows = split_of(prepared), rows_of(prepared)
    given = "test" if absent == "val" else "val"
    assert {split[path] for path in split if path.startswith(f"{given}/")} == {given}
    off = [path for path in split if split[path] == absent]
    assert {Path(path).parent.as_posix() for path in off} == {"train/Robin", "train/Wren"}
    assert {rows[path].note for path in off} == {"split off train"}
    assert Counter(split.values())["train"] > 12
    assert f"{absent} is split off train" in caplog.text

    # What is split off stays so when pictures come, and what is given comes first.
    photos(folder / "train", range(40, 60), "Robin")
    after = split_of(prepare(fetch(str(folder))))
    assert {path: after[path] for path in split} == split
    with_splits(folder)
    assert counts(prepare(fetch(str(folder)))) == {"train": 44, "val": 8, "test": 6}


def test_near_duplicates_stay_together_where_a_split_is_split_off(tmp_path):
    folder = with_splits(tmp_path / "birds", val=None)
    for seed in (*range(12), *range(20, 32)):
        species = "Robin" if seed < 20 else "Wren"
        for name, image in near_duplicates(seed).items():
            image.save(folder / "train" / species / f"{seed}-{name}.jpg", quality=70)
    split = split_of(prepare(fetch(str(folder))))
    groups = {}
    for path, name in split.items():
        groups.setdefault(Path(path).stem.split("-")[0], set()).add(name)
    assert all(len(group) == 1 for group in groups.values())
    assert {"val"} in groups.values()


def test_near_duplicates_across_given_splits_are_reported_and_not_moved(tmp_path, caplog):
    folder = with_splits(tmp_path / "birds")
    near_duplicates(3)["mirrored"].save(folder / "test" / "Robin" / "twin.jpg", quality=70)
    shutil.copy(folder / "train" / "Wren" / "25.jpg", folder / "val" / "Wren" / "copy.jpg")
    prepared = prepare(fetch(str(folder)))
    assert counts(prepared) == {"train": 24, "val": 9, "test": 7}
    notes = {path: row.note for path, row in rows_of(prepared).items() if ";" in row.note}
    assert notes == {
        "test/Robin/twin.jpg": "given by its folder; near-duplicate of train/Robin/3.jpg",
        "train/Robin/3.jpg": "given by its folder; near-duplicate of test/Robin/twin.jpg",
        "train/Wren/25.jpg": "given by its folder; near-duplicate of val/Wren/copy.jpg",
        "val/Wren/copy.jpg": "given by its folder; near-duplicate of train/Wren/25.jpg",
    }
    assert "4 pictures are near-duplicates of one in another split" in caplog.text
    assert "test/Robin/twin.jpg (given by its folder; near-duplicate of train/Robin" in caplog.text


def test_pictures_beside_the_folders_are_left_out_and_have_a_reason(tmp_path):
    folder = photos(with_splits(tmp_path / "birds"), range(300, 303), "extra")
    photo(310).save(folder / "cover.jpg")
    photo(311).save(folder / "train" / "loose.jpg")
    prepared = prepare(fetch(str(folder)))
    left_out = {path: row.reason for path, row in rows_of(prepared).items() if row.reason}
    assert set(left_out) == {"cover.jpg", *(f"extra/{seed}.jpg" for seed in range(300, 303))}
    assert set(left_out.values()) == {rows.OUTSIDE}
    assert rows_of(prepared)["train/loose.jpg"].species == ""


def test_an_empty_split_is_refused_in_a_sentence(tmp_path):
    folder = with_splits(tmp_path / "birds", test=None)
    (folder / "test").mkdir()
    photo(1).convert("L").save(folder / "test" / "gray.jpg")
    with pytest.raises(ValueError, match="A split is empty.*train, val and test.*1 left out, gray"):
        prepare(fetch(str(folder)))


@pytest.mark.parametrize(
    "folders", [("train",), ("val", "test"), ("train", "Robin"), ("a/train", "b/test"), ("Robin",)]
)
def test_other_folders_are_split_by_content_and_their_manifest_is_as_ever(tmp_path, folders):
    folder = tmp_path / "birds"
    for number, name in enumerate(folders):
        photos(folder, range(60 * number, 60 * number + 60 // len(folders)), name)
    prepared = prepare(fetch(str(folder)))
    assert set(split_of(prepared).values()) == {"train", "val", "test"}
    header = prepared.manifest.read_text().splitlines()[0]
    assert header == "path,sha256,species,split,reason"


def test_a_split_within_each_species_is_not_passed_over_in_silence(tmp_path, caplog):
    for species in ("Robin", "Wren"):
        first = 0 if species == "Robin" else 50
        photos(tmp_path / species, range(first, first + 12), "train")
        photos(tmp_path / species, range(first + 20, first + 24), "test")
    prepare(fetch(str(tmp_path)))
    assert "not taken as the split. Expected them at the top" in caplog.text
