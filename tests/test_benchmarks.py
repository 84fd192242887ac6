"""What the benchmarks promise beside their figures: a clean table, a campaign that goes on."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from benchmarks import quality
from colorization.training import schedule
from tests import warm
from tests.conftest import ROOT

NOISY = """
import subprocess
from benchmarks.table import Row, print_table

def rows():
    yield Row("one", "1 s", "< 2 s")
    print("said by what is measured")
    subprocess.run(["echo", "said by its child"])
    yield Row("two", "2 s")

print_table(rows())
"""

CAMPAIGN = """
import functools, multiprocessing, sys
from benchmarks import quality
from colorization.data import prepare

# In a child that need not import TensorFlow anew.
quality.get_context = lambda _: multiprocessing.get_context("fork")
prepare.prepare = functools.partial(prepare.prepare, size=32)
small = {"filters": 4, "depth": 2, "size": 32}
quality.CAMPAIGN = {
    "narrow": quality.Recipe(quality.changed("naive_basic", **small).config, seeds=2),
    "rgb": quality.changed("naive_basic", head="rgb", **small),
}
if __name__ == "__main__":
    sys.argv[1:] = ["--data", sys.argv[1], "--minutes", "1e-6"]
    quality.main()
"""


def test_nothing_but_the_table_stands_in_the_output():
    done = subprocess.run(
        [sys.executable, "-c", NOISY], cwd=ROOT, capture_output=True, text=True, check=True
    )
    head, line, *rows = done.stdout.splitlines()
    assert rows == ["| one | 1 s | < 2 s |", "| two | 2 s |  |"]
    assert "said by what is measured" in done.stderr and "said by its child" in done.stderr


@pytest.mark.parametrize("name", quality.CAMPAIGN)
def test_a_probe_has_two_epochs_of_each_phase_of_its_recipe(name):
    config = quality.CAMPAIGN[name].config
    recipe = schedule.phases(dataclasses.replace(config, epochs=16))
    probe = schedule.phases(quality.probe_of(config))
    assert [len(each.epochs) for each in probe] == [2] * len(recipe)
    probe, recipe = ([each._replace(epochs=()) for each in part] for part in (probe, recipe))
    assert probe == recipe


@pytest.mark.slow
def test_a_campaign_goes_on_where_it_was_and_compares_with_no_model(
    paintings, cache, active_store, tmp_path
):
    def run():
        (tmp_path / "campaign.py").write_text(CAMPAIGN)
        environment = os.environ | {
            "COLORIZATION_CACHE": str(cache),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "campaign", paintings]
        done = warm.run(command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-9:]

    table = run()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        *("narrow", "narrow, TTA", "rgb", "rgb, TTA"),
        *("plain gray", "mean chroma", "shuffled chroma"),
    ]
    assert table[2].split("|")[-2].strip() == "2"  # seeds
    files = sorted((tmp_path / "quality").glob("*.json"))
    assert [file.stem for file in files] == ["narrow, seed 0", "narrow, seed 1", "rgb, seed 0"]
    kept = json.loads(files[0].read_text())
    assert kept["results"]["tta"]["psnr"] != kept["results"]["psnr"]
    averaged = [json.loads(file.read_text())["results"]["tta"]["psnr"] for file in files[:2]]
    assert f"{sum(averaged) / 2:.2f}" in table[3].split("|")[2]
    kept["results"]["psnr"] = 77.0  # so that reading it again can be told from training again
    files[0].write_text(json.dumps(kept))
    files[2].unlink()
    again = run()
    assert again[4].split("|")[:8] == table[4].split("|")[:8]  # trained again: for one epoch
    assert again[2] != table[2]
    assert f"{(77.0 + json.loads(files[1].read_text())['results']['psnr']) / 2:.2f}" in again[2]
