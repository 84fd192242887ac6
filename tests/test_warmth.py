"""Hints for the whole picture: warmth and tint of a real pyfunc."""

import io
import json
import math

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image, ImageOps

from colorization import color, metrics
from colorization.errors import InputError
from colorization.registry import served
from serve import pyfunc
from serve.batch import folder, jobs, places
from tests.conftest import bird
from tests.test_pyfunc import paint, save_colorizer


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_colorizer(tmp_path_factory.mktemp("dull"), 1, "chroma", strength=0.05)


@pytest.fixture(scope="module")
def model(path):
    return mlflow.pyfunc.load_model(str(path))


def encode(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def colored(model, picture, **params):
    answer = model.predict(pd.DataFrame({"image": [encode(picture)]}), params=params)
    return np.asarray(Image.open(io.BytesIO(answer["image"][0])))


def mean_chroma(levels):
    return color.chroma(levels).mean(axis=(0, 1))


def middling():
    """A picture with gray levels in the middle, where every color of a modest chroma exists."""
    return ImageOps.autocontrast(paint("L", (90, 70))).point(lambda level: 100 + level // 5)


def test_the_true_mean_color_of_a_picture_gains_decibels(model):
    gains = []
    for species in ("Robin", "Greenfinch", "Blackbird", "Bluetit", "Chaffinch", "Magpie"):
        real = bird(species, 2).resize((128, 128))
        predicted = colored(model, real)
        true = mean_chroma(np.asarray(real))
        warmth, tint = pyfunc.hint_for(true, mean_chroma(predicted))
        hinted = colored(model, real, warmth=warmth, tint=tint)
        batch = [np.asarray(each)[None] for each in (real, predicted, hinted)]
        scores = [
            (metrics.psnr(batch[0], b)[0], metrics.delta_e(batch[0], b)[0]) for b in batch[1:]
        ]
        gains.append(np.subtract(scores[1], scores[0]))
    decibels, difference = np.mean(gains, axis=0)
    assert decibels > 2 and difference < -1.8


@pytest.mark.parametrize("hint", [(0.3, 0.0), (-0.3, 0.0), (0.0, 0.25), (0.0, -0.25), (0.1, -0.2)])
def test_a_hint_moves_the_mean_chroma_by_as_much_as_it_says_and_no_luma(model, hint):
    picture, (warmth, tint) = middling(), hint
    before = colored(model, picture)
    after = colored(model, picture, warmth=warmth, tint=tint)
    moved = mean_chroma(after) - mean_chroma(before)
    assert moved == pytest.approx([40 * (tint - warmth), 40 * (tint + warmth)], abs=0.1)
    assert pyfunc.hint_for(mean_chroma(after), mean_chroma(before)) == pytest.approx(
        hint, abs=0.005
    )
    assert np.abs(color.luma(after) - color.luma(before)).max() <= 1


def test_the_mean_color_of_another_picture_is_taken_as_far_as_hints_reach():
    assert pyfunc.hint_for((4, 4), (4, 4)) == (0, 0)
    assert pyfunc.hint_for(np.array([-20, 20]), np.zeros(2)) == (0.5, 0)
    assert pyfunc.hint_for([-10, -30], [0, 0]) == (-0.25, -0.5)
    assert pyfunc.hint_for([-100, 100], [0, 0]) == (1, 0)


def test_hints_color_most_what_is_between_black_and_white(model):
    levels = np.uint8([0, 12, 128, 243, 255])
    picture = Image.fromarray(np.tile(np.repeat(levels, 40), (90, 1)))
    before, after = (color.chroma(colored(model, picture, warmth=each)) for each in (0, 0.1))
    moved = [np.hypot(*(after - before)[45, x]) for x in range(20, 200, 40)]
    assert moved[0] == moved[4] == 0
    assert 1 < moved[1] < moved[2] / 2 and 1 < moved[3] < moved[2] / 2


def test_a_nearly_black_picture_is_not_overdone(model):
    picture = Image.new("L", (100, 100))
    picture.paste(128, (0, 0, 5, 5))
    moved = mean_chroma(colored(model, picture, warmth=0.1)[:5, :5])
    assert 4 < moved[1] < 20


@pytest.mark.parametrize("hint", ["warmth", "tint"])
def test_a_person_sees_a_tenth(model, hint):
    before, after = (colored(model, middling(), **{hint: value}) for value in (0.2, 0.3))
    assert metrics.delta_e(before[None], after[None])[0] > 2  # from 1 on it is noticed


@pytest.mark.parametrize("value", [-1.01, 1.01, math.nan, math.inf])
@pytest.mark.parametrize("name", ["warmth", "tint"])
def test_a_hint_out_of_range_is_refused(model, name, value):
    with pytest.raises(MlflowException, match=f"'{name}' must be a number from -1 to 1"):
        colored(model, middling(), **{name: value})


def test_a_model_from_before_hints_colors_folders_but_takes_no_hint(path, tmp_path):
    told = yaml.safe_load((path / "MLmodel").read_text())
    new = ("warmth", "tint", "output")
    params = [each for each in json.loads(told["signature"]["params"]) if each["name"] not in new]
    told["signature"]["params"] = json.dumps(params)
    old = tmp_path / "old"
    old.mkdir()
    for each in path.iterdir():
        (old / each.name).symlink_to(each)
    (old / "MLmodel").unlink()
    (old / "MLmodel").write_text(yaml.safe_dump(told))
    model = mlflow.pyfunc.load_model(str(old))
    (tmp_path / "in").mkdir()
    middling().save(tmp_path / "in" / "a.png")
    options = pyfunc.Options()._asdict()
    del options["format"], options["size"]
    served.require(model, options)
    listed = places.find(tmp_path / "in")
    planned, _ = jobs.plan(tmp_path / "in", tmp_path / "out", jobs.KEEP, listed)
    (outcome,) = folder.color(model, planned, jobs.Settings(options, True, False))
    assert outcome.what == jobs.COLORED
    for asked in ({"warmth": 0.5}, {"tint": -0.1}, {"output": "uncertainty"}):
        (name,) = asked
        with pytest.raises(InputError, match=f"before there was `{name}`. Expected a model"):
            served.require(model, options | asked)
