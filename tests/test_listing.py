"""Which folders are looked into: linked ones are, and those that cannot be read are said."""

import os
import pwd
from pathlib import Path

import numpy as np
import pytest

from colorization.data import listing, photograph
from serve.batch import jobs, places


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def planned(source, target):
    source, target = places.resolve(source, target)
    found, _ = jobs.plan(source, target, "png", places.find(source))
    return {job.source.relative_to(source).as_posix() for job in found}


def test_linked_folders_are_colored_once_and_the_output_never(tmp_path):
    album, output = tmp_path / "album", tmp_path / "colored"
    touch(album / "a.jpg"), touch(tmp_path / "other" / "b.jpg"), touch(output / "a.png")
    (album / "2024").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "round").symlink_to(album)
    (album / "done").symlink_to(output)
    assert planned(album, output) == {"a.jpg", "2024/b.jpg"}


def test_a_folder_is_listed_by_its_own_path_before_that_of_a_link(tmp_path):
    touch(tmp_path / "z" / "deep" / "1.jpg"), touch(tmp_path / ".kept" / "2.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z" / "deep")
    (tmp_path / "b").symlink_to(tmp_path / ".kept")
    assert listing.list_images(tmp_path) == [tmp_path / "b" / "2.jpg", tmp_path / "z/deep/1.jpg"]


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder with a picture, and with one that its user, who is not root, may not read."""
    touch(tmp_path / "album" / "a.jpg"), touch(tmp_path / "album" / "private" / "b.jpg")
    (tmp_path / "album" / "private").chmod(0o000)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield Path("album")
    if is_root:
        os.seteuid(0)
    (tmp_path / "album" / "private").chmod(0o755)


def test_a_folder_that_cannot_be_read_is_left_out_of_an_album_and_said(album):
    output, what = Path("out").absolute(), (jobs.LEFT_OUT, "is a folder that cannot be read")
    found, left_out = jobs.plan(album, output, "png", places.find(album))
    assert [job.source for job in found] == [album / "a.jpg"]
    assert left_out == [jobs.Outcome(album / "private", *what)]
    assert listing.count_others(places.find(album)) == ""
    private = album / "private"
    assert jobs.plan(private, output, "png", places.find(private)) == ([], left_out)


def test_training_lists_a_folder_that_cannot_be_read_as_unreadable(album):
    images = listing.list_images(album)
    assert [listing.relative(image, album) for image in images] == ["a.jpg", "private"]
    found = photograph.read(images[1], np.zeros((128, 128, 3), np.uint8))
    assert found.reason == "unreadable: Permission denied"
