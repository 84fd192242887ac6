import csv
import io
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from colorization import limits
from colorization.data import splits
from colorization.data.photograph import decode
from colorization.data.prepare import prepare
from colorization.data.sources import fetch

PREPARE = (
    "import sys; from colorization.data.sources import fetch; "
    "from colorization.data.prepare import prepare; print(prepare(fetch(sys.argv[1])).digest)"
)

# The same on one core, with 300 MiB of memory left once all is imported.
PREPARE_IN_LITTLE = """
import os, resource, sys
import psutil
from colorization.data import prepare, sources
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
most = psutil.Process().memory_info().vms + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(prepare.prepare(sources.fetch(sys.argv[1])).manifest)
"""


ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photo(seed, size=(160, 144)):
    """A colorful blur that looks like no other seed's."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(60, 256, (9, 9, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def photos(folder, seeds, species="Robin"):
    (folder / species).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        photo(seed).save(folder / species / f"{seed}.jpg", quality=90)
    return folder


def as_jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 80, **options})
    return buffer.getvalue()


def as_array(image):
    return np.asarray(image.convert("RGB"), dtype=float)


def stretched(image):
    return image.resize((128, 128), Image.Resampling.LANCZOS)


def difference(one, other):
    return np.abs(as_array(one) - as_array(other)).mean()


def rows(prepared):
    with prepared.manifest.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def split_of(prepared):
    return {path: row["split"] for path, row in rows(prepared).items()}


def parts(prepared):
    return prepared.train, prepared.val, prepared.test


def run(folder, code=PREPARE):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_every_picture_is_in_one_split_as_read_only_mapped_pixels_of_its_file(tmp_path):
    folder = photos(tmp_path / "birds", range(30))
    photos(folder / "deeper" / "still", range(30, 60), "Wren")
    prepared = prepare(fetch(str(folder)))

    seen = [path for part in parts(prepared) for path in part.paths]
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    assert sorted(seen) == sorted(there)
    for part in parts(prepared):
        assert isinstance(part.images, np.memmap) and not part.images.flags.writeable
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part.paths), 128, 128, 3) and len(part.paths)
        for image, species, path in zip(part.images, part.species, part.paths, strict=True):
            assert species == Path(path).parent.name
            assert difference(Image.fromarray(image), stretched(Image.open(folder / path))) < 2
    assert (prepared.name, prepared.kind) == ("birds", "photographs")
    assert prepared.uri == folder.as_uri()


def test_pictures_directly_in_the_folder_have_no_species(tmp_path):
    folder = photos(tmp_path, range(12), "birds") / "birds"
    assert set(prepare(fetch(str(folder))).train.species) == {""}


def test_about_eight_in_ten_are_for_training_and_one_each_for_validation_and_test():
    names = [splits.by_content(f"{number * 2654435761 % 2**32:08x}" * 8) for number in range(5000)]
    assert {name: round(names.count(name) / 5000, 2) for name in splits.SPLITS} == splits.SHARES


def test_exif_orientation_is_applied():
    upright = photo(1, (300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    assert difference(decode(as_jpeg(sideways, exif=exif)), stretched(upright)) < 4


@pytest.mark.parametrize("quality", [35, 90])
@pytest.mark.parametrize("bars", [(0, 130, 0, 0), (0, 0, 230, 0), (9, 0, 9, 0), (0, 61, 0, 60)])
def test_black_bars_are_trimmed_on_any_side(bars, quality):
    left, top, right, bottom = bars
    picture = photo(2, (512 - left - right, 512 - top - bottom))
    padded = ImageOps.expand(picture, border=bars, fill="black")
    assert padded.size == (512, 512)
    trimmed = decode(as_jpeg(padded, quality=quality))
    assert difference(trimmed, stretched(picture)) < 5
    assert as_array(trimmed).max(axis=2).min() > 40


def night():
    """A lit bird before a black background, up to the upper edge, with a sensor's noise."""
    noise = np.random.default_rng(3).integers(0, 9, (512, 512, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    ImageDraw.Draw(picture).ellipse((180, 6, 340, 420), fill=(200, 120, 60))
    return picture


def blackbird():
    """A black bird that fills the upper left corner of a lawn."""
    picture = photo(4, (512, 512))
    ImageDraw.Draw(picture).polygon([(0, 0), (350, 0), (200, 300), (0, 400)], fill=(4, 4, 5))
    return picture.filter(ImageFilter.GaussianBlur(2))


@pytest.mark.parametrize("dark", [night, blackbird, lambda: photo(5).point(lambda v: v // 12)])
def test_dark_pictures_are_left_whole(dark):
    picture = dark()
    assert difference(decode(as_jpeg(picture)), stretched(picture)) < 3


def test_reduced_decoding_gives_the_same_picture():
    picture = photo(6, (1024, 768))
    ImageDraw.Draw(picture).line((0, 0, 1023, 767), fill="black", width=24)
    assert difference(decode(as_jpeg(picture)), stretched(picture)) < 1.5


def test_any_mode_is_read_and_what_is_transparent_is_white(tmp_path):
    folder = photos(tmp_path / "birds", range(12))
    picture = photo(70)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size).point(lambda v: 255 * (v > 127)))
    white = Image.new("RGB", clear.size, "white")
    white.paste(clear, mask=clear.getchannel("A"))
    expected = {"cmyk.jpg": photo(71), "palette.png": photo(72), "clear.png": white}
    photo(71).convert("CMYK").save(folder / "Robin" / "cmyk.jpg", quality=95)
    photo(72).quantize(256).save(folder / "Robin" / "palette.png")
    clear.save(folder / "Robin" / "clear.png")

    prepared = prepare(fetch(str(folder)))
    found = {
        Path(path).name: image
        for part in parts(prepared)
        for path, image in zip(part.paths, part.images, strict=True)
    }
    for name, picture in expected.items():
        assert difference(Image.fromarray(found[name]), stretched(picture)) < 8, name


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unusable_pictures_are_left_out_listed_and_logged(tmp_path, caplog):
    folder = photos(tmp_path / "birds", range(12))
    robins = folder / "Robin"
    (robins / "text.jpg").write_text("no picture")
    (robins / "empty.png").touch()
    (robins / "cut.jpg").write_bytes(as_jpeg(photo(80, (600, 600)))[:3000])
    (robins / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    photo(81).convert("L").save(robins / "gray.jpg")
    photo(82).convert("L").convert("RGB").save(robins / "gray_as_color.jpg", quality=50)
    Image.fromarray(np.arange(10000, dtype=np.uint16).reshape(100, 100)).save(robins / "deep.png")
    Image.new("1", (10_000, 9_000)).save(robins / "bomb.png")
    (folder / "notes.txt").write_text("no picture by its name either")

    with caplog.at_level(logging.WARNING, "colorization"):
        prepared = prepare(fetch(str(folder)))
    left_out = {Path(path).name: row for path, row in rows(prepared).items() if row["reason"]}
    assert {name: row["reason"].split(":")[0] for name, row in left_out.items()} == {
        "text.jpg": "unreadable",
        "empty.png": "unreadable",
        "cut.jpg": "unreadable",
        "nowhere.jpg": "unreadable",
        "gray.jpg": "gray already",
        "gray_as_color.jpg": "gray already",
        "deep.png": "gray already",
        "bomb.png": "too large",
    }
    assert all(not row["split"] for row in left_out.values())
    assert sum(len(part.paths) for part in parts(prepared)) == 12
    assert "8 of 20" in caplog.text and all(name in caplog.text for name in left_out)
    assert str(tmp_path) not in "".join(row["reason"] for row in left_out.values())


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def test_what_is_no_file_of_a_picture_s_size_is_left_out_and_takes_no_memory(tmp_path):
    folder = photos(tmp_path / "birds", range(12))
    robins = folder / "Robin"
    os.mkfifo(robins / "pipe.jpg")
    (robins / "zero.jpg").symlink_to("/dev/zero")
    sparse(robins / "sparse.jpg", 20 * 2**30)
    sparse(robins / "heavy.jpg", 500 * 2**20)  # allowed, but there is no memory for it
    (robins / "folder.jpg").mkdir()
    (robins / "12.jpg").symlink_to(robins / "1.jpg")
    process = run(folder, PREPARE_IN_LITTLE)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    with open(output.strip(), newline="") as file:
        reasons = {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}
    assert {name: reason for name, reason in reasons.items() if reason} == {
        "pipe.jpg": "unreadable: not a regular file",
        "zero.jpg": "unreadable: not a regular file",
        "sparse.jpg": f"unreadable: larger than {limits.MAX_PICTURE_BYTES} bytes",
        "heavy.jpg": "unreadable: too large for the memory left",
    }
    assert len(reasons) == 17  # with the link to a picture, without the folder


def test_names_are_in_the_manifest_as_they_are_but_for_bytes_that_are_not_utf_8(tmp_path):
    folder = photos(tmp_path / "birds", range(12))
    names = ["a\rb.jpg", "a\nb.jpg", "a\r\nb.jpg", 'a"\x85,b.jpg']
    latin = os.fsdecode(b"h\xe4her.jpg")
    for name, seed in zip([*names, latin], range(20, 25), strict=True):
        photo(seed).save(folder / "Robin" / "new.jpg", quality=90)
        (folder / "Robin" / "new.jpg").rename(folder / "Robin" / name)
    prepared = prepare(fetch(str(folder)))
    seen = [Path(path).name for part in parts(prepared) for path in part.paths]
    assert sorted(seen) == sorted([f"{seed}.jpg" for seed in range(12)] + names + [r"h\xe4her.jpg"])
    prepared.manifest.read_text("utf-8")


def test_the_digest_depends_on_the_pictures_not_on_place_or_time(tmp_path):
    here = photos(tmp_path / "here", range(12))
    there = tmp_path / "elsewhere" / "there"
    shutil.copytree(here, there)
    os.utime(there / "Robin" / "3.jpg", (1, 1))
    digest = prepare(fetch(str(here))).digest
    assert prepare(fetch(str(there))).digest == digest
    assert len(digest) <= 36 and int(digest, 16)
    photos(there, [99])
    assert prepare(fetch(str(there))).digest != digest


def test_adding_pictures_moves_no_other(tmp_path):
    folder = photos(tmp_path / "birds", range(60))
    before = split_of(prepare(fetch(str(folder))))
    photos(folder, range(100, 140))
    after = split_of(prepare(fetch(str(folder))))
    assert len(after) == 100
    assert {path: after[path] for path in before} == before


def test_a_picture_s_split_is_the_same_in_another_folder_of_other_pictures(tmp_path):
    one = split_of(prepare(fetch(str(photos(tmp_path / "one", range(60))))))
    other = split_of(prepare(fetch(str(photos(tmp_path / "other", range(30, 90))))))
    shared = one.keys() & other.keys()
    assert len(shared) == 30
    assert {path: one[path] for path in shared} == {path: other[path] for path in shared}


def near_duplicates(seed):
    image = photo(seed)
    return {
        "smaller": image.resize((120, 108)),
        "mirrored": ImageOps.mirror(image),
        "brighter": image.point(lambda value: min(255, value + 12)),
        "padded": ImageOps.expand(image, border=(0, 40, 0, 0), fill="black"),
    }


def test_near_duplicates_never_straddle_splits(tmp_path):
    folder = photos(tmp_path / "birds", range(25))
    for seed in range(25):
        for name, image in near_duplicates(seed).items():
            image.save(folder / "Robin" / f"{seed}-{name}.jpg", quality=70)
    of = split_of(prepare(fetch(str(folder))))
    groups = [{of[p] for p in of if Path(p).stem.split("-")[0] == str(n)} for n in range(25)]
    assert all(len(group) == 1 for group in groups)
    assert {split for group in groups for split in group} == {"train", "val", "test"}


def test_a_new_near_duplicate_follows_its_old_twin(tmp_path):
    folder = photos(tmp_path / "birds", range(40))
    before = split_of(prepare(fetch(str(folder))))
    for seed in range(40):
        near_duplicates(seed)["brighter"].save(folder / "Robin" / f"{seed}-new.jpg", quality=70)
    after = split_of(prepare(fetch(str(folder))))
    assert {path: after[path] for path in before} == before
    assert all(after[path.replace(".jpg", "-new.jpg")] == before[path] for path in before)


def test_a_near_duplicate_of_pictures_in_different_splits_is_left_out():
    hashes = np.random.default_rng(0).integers(0, 2**64, (4, 2, 2), dtype=np.uint64)
    hashes[:3, 0] = 0
    hashes[1, 0, 0], hashes[2, 0, 0] = 2**40 - 1, 2**20 - 1  # the third is 20 bits from both
    known = {"a" * 64: "train", "b" * 64: "val"}
    sha256s = ["a" * 64, "b" * 64, "0" * 64, "f" * 64]
    assigned = splits.assign(sha256s, ["Robin"] * 4, hashes, known)
    assert assigned == ["train", "val", "", "test"]


def test_every_species_of_some_size_has_a_picture_of_each_split_and_keeps_it():
    rng = np.random.default_rng(0)
    sha256s = [rng.bytes(32).hex() for _ in range(600)]
    hashes = rng.integers(0, 2**64, (600, 2, 2), dtype=np.uint64)
    species = [f"species {n % 50}" for n in range(600)]  # twelve of each
    first = splits.assign(sha256s, species, hashes, {})
    for name in set(species):
        theirs = {split for split, other in zip(first, species, strict=True) if other == name}
        assert theirs == {"train", "val", "test"}
    own = [splits.by_content(sha256) for sha256 in sha256s]
    assert sum(a != b for a, b in zip(first, own, strict=True)) < 60  # few had to move
    # Later a picture more of each is added: whatever was moved stays where it is.
    some = splits.assign(sha256s[:550], species[:550], hashes[:550], {})
    known = dict(zip(sha256s[:550], some, strict=True))
    assert splits.assign(sha256s, species, hashes, known)[:550] == some


def test_a_known_source_is_not_read_again(tmp_path):
    folder = photos(tmp_path / "birds", range(12))
    first = prepare(fetch(str(folder)))
    for path in folder.rglob("*.jpg"):  # nobody can tell from outside
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = prepare(fetch(str(folder)))
    assert second.digest == first.digest and second.manifest == first.manifest
    assert np.array_equal(second.train.images, first.train.images)


def test_a_changed_picture_is_noticed(tmp_path):
    folder = photos(tmp_path / "birds", range(12))
    first = prepare(fetch(str(folder)))
    photo(500).save(folder / "Robin" / "3.jpg")
    assert prepare(fetch(str(folder))).digest != first.digest


@pytest.mark.parametrize("name", ["train.npy", "val.npy", "test.npy", "manifest.csv"])
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_a_damaged_cache_is_rebuilt(tmp_path, name, damage):
    folder = photos(tmp_path / "birds", range(12))
    first = prepare(fetch(str(folder)))
    pixels, path = first.train.images.copy(), first.manifest.with_name(name)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "short" else b"")
    again = prepare(fetch(str(folder)))
    assert again.digest == first.digest
    assert np.array_equal(again.train.images, pixels)


def test_a_preparation_that_was_killed_is_never_taken_for_whole(tmp_path, cache):
    folder = tmp_path / "birds"
    photos(folder, range(12))
    for number in range(300):
        shutil.copy(folder / "Robin" / "1.jpg", folder / "Robin" / f"copy-{number}.jpg")
    process = run(folder)
    while process.poll() is None and not list(cache.glob("prepared/*/*.partial/all.npy")):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not list(cache.glob("prepared/*/*/manifest.csv")), "too late to kill it half-way"
    assert list(cache.glob("prepared/*/*.partial"))

    prepared = prepare(fetch(str(folder)))
    assert sum(len(part.paths) for part in parts(prepared)) == 312
    assert not list(cache.glob("prepared/*/*.partial"))


def test_two_processes_prepare_the_same_source_at_once(tmp_path, cache):
    folder = photos(tmp_path / "birds", range(40))
    processes = [run(folder), run(folder)]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == 1
    assert len(list(cache.glob("prepared/*/*/manifest.csv"))) == 1


@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_a_tiny_set_has_all_three_splits_and_keeps_them_when_it_grows(tmp_path, start):
    folder = photos(tmp_path / "birds", range(start, start + 10))
    before = split_of(prepare(fetch(str(folder))))
    assert set(before.values()) == {"train", "val", "test"}
    photos(folder, range(start + 10, start + 15))
    after = split_of(prepare(fetch(str(folder))))
    assert {path: after[path] for path in before} == before


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected .* data=sample.* Received: folder="):
        prepare(fetch(str(tmp_path)))


def test_fewer_than_ten_usable_pictures_are_refused_and_the_reason_is_said(tmp_path, cache):
    folder = photos(tmp_path / "birds", range(9))
    photo(80).convert("L").save(folder / "Robin" / "gray.jpg")
    with pytest.raises(ValueError, match="Expected at least 10.*usable=9.*1 left out, gray"):
        prepare(fetch(str(folder)))
    assert not list(cache.glob("prepared/*/*.partial"))
    photos(folder, [9])
    assert prepare(fetch(str(folder)))


def test_copies_of_a_single_scene_are_refused(tmp_path):
    folder = tmp_path / "birds"
    folder.mkdir()
    for quality in range(70, 85):
        photo(1).save(folder / f"{quality}.jpg", quality=quality)
    with pytest.raises(ValueError, match="near-duplicates of each other.*Expected at least three"):
        prepare(fetch(str(folder)))
