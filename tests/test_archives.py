"""Archives of every kind that programs make, and those that nobody should unpack."""

import bz2
import gzip
import io
import os
import tarfile
import zipfile

import pytest

from colorization import limits
from colorization.data.archive import encoding_of
from colorization.data.listing import list_images, relative
from colorization.data.sources import fetch


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(data):
    folder = fetch(str(data)).folder
    return {relative(path, folder) for path in list_images(folder)}


class Unmarked(zipfile.ZipInfo):
    """An entry whose name is these very bytes, without a word about their encoding."""

    def __init__(self, name):
        super().__init__(repr(name))
        self.raw = name

    def _encodeFilenameFlags(self):
        return self.raw, self.flag_bits


def zipped(path, entries):
    """Write a .zip of name, in bytes, -> content."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(Unmarked(name), content)
    return path


def packed(path, entries, mode="w", **options):
    """Write a .tar of name (or TarInfo) -> content."""
    with tarfile.open(path, mode, **options) as file:
        for name, content in entries.items():
            entry = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.size = entry.size or len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def test_backslashes_separate_folders_and_cut_outs_are_left_out(tmp_path):
    entries = {
        rb"birds\withBackground\Robin\(1).jpg": b"1",
        rb"birds\noBackground\Robin\(1).jpg": b"2",
        rb"__MACOSX\birds\withBackground\Robin\._(1).jpg": b"3",
    }
    assert names(zipped(tmp_path / "birds.zip", entries)) == {"birds/withBackground/Robin/(1).jpg"}


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp437", ["Grünfink/1.jpg", "Mönchsgrasmücke/2.jpg", "Mésange/é 3.jpg"]),
        ("cp437", ["Löwe/1.jpg"]),
        # Two bytes of the last end in a backslash.
        ("cp932", ["ロビン/1.jpg", "スズメ/写真.jpg", "ソ表/1.jpg"]),
        ("cp932", ["雀/1.jpg"]),
        ("utf-8", ["Grünfink/1.jpg", "ロビン/1.jpg"]),
        ("cp866", ["Зарянка/1.jpg", "Синица/2.jpg"]),
        ("cp949", ["꼬까울새/1.jpg", "참새/2.jpg"]),
    ],
)
def test_names_of_no_stated_encoding_are_read(tmp_path, encoding, words):
    entries = {word.encode(encoding): word.encode() for word in words}
    assert names(zipped(tmp_path / "birds.zip", entries)) == set(words)


def test_any_bytes_are_some_name():
    for name in (b"\xff\xfe.jpg", b"\x81", b"a\x80b\xffc", bytes(range(128, 256))):
        name.decode(encoding_of([name]), "replace")


def test_a_name_too_long_for_a_disk_is_shortened(tmp_path):
    long = "ロ" * 120  # 240 bytes of Shift-JIS, 360 of UTF-8
    entries = {
        f"{long}/{long}.jpg".encode("cp932"): b"1",
        f"{long}/{long}2.jpg".encode("cp932"): b"2",
    }
    found = names(zipped(tmp_path / "birds.zip", entries))
    assert len(found) == 2
    assert all(name.startswith("ロロ") and name.endswith(".jpg") for name in found)


def test_zip64_is_read(tmp_path):
    (tmp_path / "Robin").mkdir()
    (tmp_path / "Robin" / "1.jpg").write_bytes(b"one")
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as file:
        with file.open("Robin/1.jpg", "w", force_zip64=True) as entry:
            entry.write(b"one")
    assert names(tmp_path / "birds.zip") == {"Robin/1.jpg"}


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".TAR.BZ2", "w:bz2"), (".tar", "w:gz")],
)
def test_a_tar_is_unpacked_like_a_zip(tmp_path, suffix, mode):
    content = {"birds/Robin/2.jpg": b"two", "birds/Robin/1.jpg": b"one", "birds/notes.txt": b"no"}
    content["./birds/._1.jpg"] = b"hidden"
    source = fetch(str(packed(tmp_path / f"my birds{suffix}", content, mode)))
    assert (source.name, source.kind) == ("my birds", "photographs")
    assert (source.folder / "birds/Robin/2.jpg").read_bytes() == b"two"
    assert sorted(path.name for path in source.folder.rglob("*.*")) == ["1.jpg", "2.jpg"]


def test_names_in_a_tar_may_be_long_or_not_utf_8(tmp_path):
    long, latin = "é" * 120, os.fsdecode(b"Gr\xfcnfink")
    content = {f"{long}/{long}/1.jpg": b"1", f"{latin}/2.jpg": b"2", r"Robin\3.jpg": b"3"}
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = packed(tmp_path / f"{kind}.tar", content, format=kind)
        assert names(path) == {f"{long}/{long}/1.jpg", r"Gr\xfcnfink/2.jpg", "Robin/3.jpg"}


def special(name, kind, **fields):
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


@pytest.mark.parametrize(
    ("entry", "content", "complaint"),
    [
        ("../evil.jpg", b"x", "stay inside"),
        ("/tmp/evil.jpg", b"x", "stay inside"),
        ("a/../../evil.jpg", b"x", "stay inside"),
        (special("1.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"), b"", "no links"),
        (special("1.jpg", tarfile.LNKTYPE, linkname="Robin/1.jpg"), b"", "no links"),
        (special("1.jpg", tarfile.FIFOTYPE), b"", "no links"),
        (special("1.jpg", tarfile.CHRTYPE, devmajor=1, devminor=5), b"", "no links"),
        ("d/" * 101 + "1.jpg", b"x", "at most 100 folders"),
        ("bomb.bmp", bytes(100_000_000), "compressed to 1/300"),
        (special("1.jpg", tarfile.REGTYPE, pax_headers={"comment": "x" * 2**21}), b"", "of names"),
    ],
)
def test_a_tar_with_an_evil_entry_is_refused_whole(tmp_path, cache, entry, content, complaint):
    path = packed(tmp_path / "birds.tar.gz", {"Robin/1.jpg": b"fine", entry: content}, "w:gz")
    with pytest.raises(ValueError, match=f"Expected .*{complaint}.* Received: entry="):
        fetch(str(path))
    assert not list(cache.rglob("*.jpg"))
    assert not list(tmp_path.parent.glob("evil*"))


def test_headers_that_fell_tarfile_are_damage(tmp_path):
    nested = special("long", tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "nested.tar").write_bytes(nested * 1900)
    negative = special("1.jpg", tarfile.REGTYPE, pax_headers={"size": "-512"})
    packed(tmp_path / "negative.tar", {negative: b""}, format=tarfile.PAX_FORMAT)
    for name in ("nested.tar", "negative.tar"):
        with pytest.raises(ValueError, match="Received: entry="):
            fetch(str(tmp_path / name))


def test_a_tar_of_absurd_size_is_refused(tmp_path, monkeypatch):
    path = packed(tmp_path / "birds.tar", {f"{number}.jpg": b"12345" for number in range(21)})
    for limit in ("MAX_ENTRIES", "MAX_ARCHIVE_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(limits, limit, 20)
            with pytest.raises(ValueError, match="Expected at most 20 .*Received: entry="):
                fetch(str(path))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_tar_is_refused_and_a_whole_one_in_its_place_taken(tmp_path, damage, compress):
    pictures = {f"{number}.jpg": os.urandom(1000) for number in range(20)}
    path = packed(tmp_path / "birds.tar", pictures)
    whole = compress(path.read_bytes())
    middle = 512 * 3 * 10 + 10 if compress is bytes else len(whole) // 2  # a name, or anything
    broken = {
        "cut": whole[: len(whole) // 2 + 100],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "text": b"<html>404</html>",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(ValueError, match="Expected a whole .tar: fetch it again"):
        fetch(str(path))
    path.write_bytes(whole)
    assert len(names(path)) == 20


@pytest.mark.parametrize("name", ["birds.rar", "birds.7z", "birds.tar.xz", "bird.jpg"])
def test_other_files_are_refused_with_what_is_taken(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"\.zip \.tar \.tar\.gz.*Received: data="):
        fetch(str(tmp_path / name))
