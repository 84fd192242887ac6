"""Where the paths of a command line start from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from colorization import config
from colorization.data.sources import fetch, located
from colorization.errors import InputError
from colorization.paths import as_text, printable, user_path
from colorization.weights.download import fetch as fetch_weights
from serve.batch import places
from serve.batch.jobs import KEEP, plan

ROOT = Path(__file__).parent.parent
# As `mlflow run` works: in the project's folder, in a shell.
LAUNCHER = """
import subprocess, sys
subprocess.run(["bash", "-c", sys.argv[2] + "; true"], cwd="/")
"""
SHOW = "from colorization.paths import user_path; print(user_path('album'))"


def test_a_path_means_what_it_means_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("~/a b") == tmp_path / "home" / "a b"
    assert user_path("album") == tmp_path / "album" == user_path(str(tmp_path / "album"))
    assert user_path("~nobody-of-this-name/a") == tmp_path / "~nobody-of-this-name/a"


@pytest.mark.parametrize("launched", [True, False])
def test_under_mlflow_run_paths_start_where_the_user_stands(tmp_path, launched):
    (tmp_path / "mlflow").write_text(LAUNCHER)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if launched:
        environment["MLFLOW_RUN_ID"] = "any"
    command = [sys.executable, "mlflow", "run", f'{sys.executable} -c "{SHOW}"']
    output = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert output.strip() == str((tmp_path if launched else Path("/")) / "album")


def test_data_and_weights_may_lie_in_the_home_folder_and_the_message_says_where_paths_start(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "birds").mkdir(parents=True)
    assert fetch("~/birds").folder == tmp_path / "home" / "birds"
    weights = tmp_path / "home" / "encoder.weights.h5"
    weights.touch()
    variant = config.VARIANTS["naive_efficientnet"]
    changed = config.changed(variant, {"encoder_weights": "~/encoder.weights.h5"})
    assert changed.encoder_weights == str(weights)
    for missing in (fetch, fetch_weights):
        with pytest.raises(FileNotFoundError, match=f"start.* from '{tmp_path}'"):
            missing("~/nothing")


def test_the_place_of_data_is_the_same_for_processes_that_stand_elsewhere(tmp_path, monkeypatch):
    latin = tmp_path / os.fsdecode(b"Gr\xfcn fink#1%")
    for folder in (latin, tmp_path / "kaggle birds"):
        folder.mkdir()
        given = located(folder.name)
        assert given.encode() and fetch(given).folder == folder
    monkeypatch.chdir("/")
    assert fetch(given).folder == folder
    assert [located(name) for name in ("sample", "kaggle:a/b")] == ["sample", "kaggle:a/b"]


def test_the_name_of_a_source_is_printable_and_not_too_long(tmp_path):
    for name in (b"a\nb\xfc", b"\xff" * 250):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        found = fetch(str(folder)).name
        assert found.isprintable() and found.startswith((r"a\nb\xfc", r"\xff")) and len(found) < 256


def test_bytes_that_are_no_text_are_escaped_and_the_rest_is_whole():
    assert as_text("a\udcfc\n\ud800ロ\u200c") == "a\\xfc\n\\ud800ロ\u200c"
    assert printable("a\udcfc\n\u202eロ\u200c\u3000") == "a\\xfc\\n\\u202eロ\u200c\u3000"


def planned(source, target):
    source, target = places.resolve(source, target)
    return plan(source, target, KEEP, places.find(source))


def test_a_single_picture_is_colored_into_a_folder_of_its_own(tmp_path):
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).touch()
    (job,), uncolored = planned(tmp_path / "one.jpg", tmp_path / "colored")
    assert (job.source, job.target) == (tmp_path / "one.jpg", tmp_path / "colored" / "one.jpg")
    assert not uncolored
    for target in ("", "one.jpg", "two.jpg"):
        with pytest.raises(InputError, match="need a folder of their own"):
            planned(tmp_path / "one.jpg", tmp_path / target)
    with pytest.raises(InputError, match=f"Expected a picture, or a folder.*{tmp_path}/three.jpg"):
        planned(tmp_path / "three.jpg", tmp_path / "colored")


def test_a_study_is_kept_where_the_url_says_in_a_folder_that_there_is(tmp_path, monkeypatch):
    from sweeps.storage import Storage

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    storage = Storage("sqlite:///~/sweeps.db")
    assert storage.shown == f"sqlite:///{tmp_path}/home/sweeps.db"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home" / "sweeps.db").is_file()
    with pytest.raises(ValueError, match=f"no such folder.*Received: .*{tmp_path}/no/such"):
        Storage("sqlite:///no/such/folder.db")
    assert not (tmp_path / "no").exists()
