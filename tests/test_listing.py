"""Which folders are looked into: linked ones are, and those that cannot be read are said."""

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
