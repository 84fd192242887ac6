"""A model is logged with what reads its pictures, and reads by that, whatever else is there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from colorization import pictures
from colorization.pictures import formats
from tests.test_pyfunc import color, encode, paint, refusal, save_colorizer

READER = Path("code", "pictures")
PASCALS = encode(paint(), "PPM")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_colorizer(tmp_path_factory.mktemp("chroma"), 1, "chroma")


@pytest.fixture
def older(saved, tmp_path):
    """The same model as logged by a release that read no PPM, and said so in other words."""
    model = shutil.copytree(saved, tmp_path / "older")
    source = model / READER / "formats.py"
    text = source.read_text().replace('    "PPM": "PPM",\n', "").replace('f"a {', 'f"one of: {')
    source.write_text(text)
    return model


def test_a_model_s_folder_holds_the_reader_and_nothing_else_of_the_project(saved):
    source = Path(pictures.__file__).parent
    files = {path.name for path in source.glob("*.py")}
    assert {path.name for path in (saved / READER).glob("*.py")} == files
    assert [path.name for path in (saved / "code").iterdir()] == ["pictures"]
    assert all((saved / READER / name).read_text() == (source / name).read_text() for name in files)


@pytest.mark.parametrize("first", ["saved", "older"])
def test_two_models_of_different_releases_each_read_by_their_own(saved, older, first):
    paths = {"saved": saved, "older": older}
    order = [first, *({*paths} - {first})]
    models = {name: mlflow.pyfunc.load_model(str(paths[name])) for name in order}
    for _ in range(2):
        assert color(models["saved"], PASCALS).size == (90, 60)
        assert "is not one of: JPEG" in refusal(models["older"], PASCALS)
        assert "is not a JPEG" in refusal(models["saved"], b"no picture")
    assert pictures.open_picture(PASCALS).size == (90, 60)  # by the project itself


def test_all_copies_of_the_reader_take_turns_at_pillow_s_limits(saved):
    model = mlflow.pyfunc.load_model(str(saved)).unwrap_python_model()
    copy = sys.modules[f"{type(model).__module__}.pictures.formats"]
    assert copy is not formats and copy._opening is formats._opening


ELSEWHERE = """
import pathlib, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.DataFrame({"image": [pathlib.Path(sys.argv[2]).read_bytes()]})
print(model.predict(rows)["image"][0][:4].hex())
import colorization, pictures, serve
print(colorization.whose, pictures.whose, serve.whose)
"""


def test_a_model_and_modules_of_the_same_names_leave_each_other_alone(saved, tmp_path):
    """The process has a project of its own, whose packages are called as ours are."""
    for name in ("colorization", "pictures", "serve"):
        (tmp_path / f"{name}.py").write_text("whose = 'theirs'")
    (tmp_path / "picture.ppm").write_bytes(PASCALS)
    process = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, saved, tmp_path / "picture.ppm"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split("\n")[:2] == ["89504e47", "theirs theirs theirs"]
