"""What a person sees in a terminal, while it works and when it cannot."""

import contextlib
import dataclasses
import logging
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from colorization import evaluation, plan
from colorization.__main__ import parse
from colorization.config import VARIANTS
from colorization.training import progress
from tests.conftest import ROOT

LINE = (
    r"epoch {}/2  {}loss [0-9.e+]+  val [0-9.]+ dB  CIEDE2000 [0-9.]+  color error [0-9.]+"
    r"( \(best so far\))?  [0-9]+ images/s{}"
)


class Scored:
    """What `Scoring` knows of a training."""

    criterion = evaluation.CRITERIA["pix2pix"]
    best_epoch, best_score, pictures_per_epoch = 0, 20.0, 80

    class colorizer:
        @staticmethod
        def count_params():
            return 1000


def lines_of(seconds, monkeypatch, caplog, start=0, name=""):
    """The lines of a training whose epochs take these seconds, from the epoch `start` on."""
    config = dataclasses.replace(VARIANTS["pix2pix_efficientnet"], epochs=len(seconds))
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    scored = Scored()
    seen = progress.Progress(config, scored, range(start, len(seconds)), 2, name)
    logs = {"generator_loss": 2.812, "images_per_second": 38.4}
    logs |= {"val_psnr": 25.12, "val_delta_e": 9.04, "val_color_error": 11.0}
    with caplog.at_level(logging.INFO, "colorization"):
        seen.on_train_begin()
        for epoch in range(start, len(seconds)):
            seen.on_epoch_begin(epoch)
            now += 1000 * (epoch == start)  # to compile
            seen.on_train_batch_end(0)
            now += seconds[epoch]
            scored.best_epoch = min(epoch, len(seconds) - 2)
            seen.on_epoch_end(epoch, logs)
        seen.on_train_end()
    return caplog.messages


def test_an_epoch_s_line_names_the_phase_that_begins_and_the_time_left(monkeypatch, caplog):
    begin, *lines, kept = lines_of([60] * 10, monkeypatch, caplog)
    assert begin == "pix2pix_efficientnet: 1,000 weights, epochs 1 to 10 of 80 pictures"
    scores = "loss 2.81  val 25.1 dB  CIEDE2000 9.04  color error 11.00"
    speed = "38 images/s"
    assert lines[0] == f"epoch 1/10  {scores} (best so far)  {speed}  9 min left"
    joined = [(n, line.split("  ")[1]) for n, line in enumerate(lines, 1) if "joins" in line]
    assert joined == [(5, "encoder joins"), (9, "discriminator joins")]
    assert lines[9] == f"epoch 10/10  {scores}  {speed}"
    assert kept == "kept epoch 9/10, of the adversarial phase: validation color error 20.00"


def test_a_resumed_training_reckons_with_its_own_epochs(monkeypatch, caplog):
    begin, first, *_ = lines_of([5000, 5000, 60, 60, 60], monkeypatch, caplog, start=2, name="x")
    assert begin.startswith("x: ") and ", epochs 3 to 5 of" in begin
    assert first.startswith("x  epoch 3/5  ") and first.endswith("  2 min left")


@pytest.fixture(scope="module")
def seen(paintings, cache, tmp_path_factory):
    """What a terminal receives of a small training: its lines, the bar's states among them."""
    arguments = ["pix2pix", "--data", paintings, "--register", "no", "--size", 32, "--epochs", 2]
    arguments += ["--filters", 4, "--depth", 2, "--batch_size", 16]
    environment = os.environ | {"COLORIZATION_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    del environment["TF_CPP_MIN_LOG_LEVEL"]  # of the tests
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 150))  # without a size there is no bar
    process = subprocess.Popen(
        [sys.executable, "-m", "colorization", *map(str, arguments)],
        env=environment,
        cwd=tmp_path_factory.mktemp("terminal"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    received = b""
    with contextlib.suppress(OSError):  # the end, on Linux
        while block := os.read(ours, 65536):
            received += block
    os.close(ours)
    assert process.wait(60) == 0, received.decode()
    return [line.rstrip() for line in re.split(r"[\r\n]+", received.decode()) if line.strip()]


@pytest.mark.slow
def test_a_terminal_shows_a_line_for_each_epoch_with_a_bar_within_and_no_noise(seen):
    lines = [line for line in seen if "|" not in line]  # without bars
    if lines[0].startswith("Prepared"):  # by no earlier test
        del lines[0]
    expected = [
        "training on .*",
        "pix2pix: [0-9,]+ weights, epochs 1 to 2 of 48 pictures",
        LINE.format(1, "", "  [0-9.]+ (s|min) left"),
        LINE.format(2, "discriminator joins  ", ""),
        "kept epoch [12]/2, of the (generator-only|adversarial) phase: validation color error .*",
    ]
    for pattern, line in zip(expected, lines, strict=False):
        assert re.fullmatch(pattern, line), lines
    noise = r"[IWE][0-9]+ |WARNING|ONNX|20[0-9]{2}/"
    assert not [line for line in lines if re.match(noise, line)]
    assert any(line.startswith("epoch 2/2: ") and " steps/s" in line for line in seen)


NOISY = """
import importlib, os, sys
from colorization import process

def load(name):
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are ...\\n")
    os.write(2, b"I0000 00:00:1795825090.637440    7206 port.cc:153] oneDNN\\n")
    os.write(2, b"E0000 00:00:1795825090.637440    7206 cuda.cc:1] broken\\nlast words")
    os.abort()

importlib.import_module = load
process.import_tensorflow()
"""


def test_an_error_while_tensorflow_is_imported_is_shown_even_if_the_process_is_aborted():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", NOISY], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode < 0
    assert done.stderr == ("E0000 00:00:1795825090.637440    7206 cuda.cc:1] broken\nlast words\n")


IMPORTED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print("imported:", *({"tensorflow", "keras", "mlflow", "gradio"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("colorization naive_basic --data no/such", "There is no such data"),
        ("colorization pix2pix --resume last --data no/such", "There is no such data"),
        ("colorization compare --data no/such", "There is no such data"),
        ("sweeps --data no/such", "There is no such data"),
        ("serve.importing --naive weights.keras --data no/such", "There is no such data"),
        ("serve.evaluation --data no/such", "There is no such data"),
        ("serve.batch --input no/such --output colored", "No such folder"),
        ("colorization compare --epoch 2", "Did you mean `epochs`?"),
        ("sweeps --trial 2", "Did you mean `trials`?"),
        ("serve.importing --naiv x", "Did you mean `naive`?"),
        ("serve.evaluation --models x", "Did you mean `model`?"),
        ("serve.batch --input a --output b --modell x", "Did you mean `model`?"),
        ("serve.page --prot 1", "Did you mean `port`?"),
        ("colorization.registry --run x", "Did you mean `run_id`?"),
    ],
)
def test_what_cannot_be_is_said_before_a_large_library_is_imported(arguments, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments.split()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout.split("\n")[-2] == "imported:"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["--lr=0.1", "--learning_rate=0.1"])
def test_a_gan_s_learning_rates_are_both_named(given, capsys):
    with pytest.raises(SystemExit):
        parse(["pix2pix_efficientnet", given])
    both = "`generator_learning_rate` or `discriminator_learning_rate`?"
    assert f"Did you mean {both}" in capsys.readouterr().err


@pytest.mark.parametrize("variant", VARIANTS)
def test_help_shows_every_parameter_in_a_group_with_the_variant_s_default(variant, capsys):
    with pytest.raises(SystemExit):
        parse([variant, "--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    groups = ["what", "data", "network", "schedule"] + ["GAN"] * ("pix2pix" in variant)
    found = re.split(r" (what|data|network|schedule|GAN): (?=--)", text)
    assert found[1::2] == groups
    sections = dict(zip(groups, found[2::2], strict=True))
    config = VARIANTS[variant]
    for group, name in [("network", "depth"), ("schedule", "epochs"), ("data", "crop")]:
        stated = re.search(rf"--{name} .*?\(default: (.*?)\)", sections[group])[1]
        assert stated == str(getattr(config, name))
    assert "(default: sample)" in sections["data"] and "(default: yes)" in sections["what"]


def test_a_plan_names_what_is_trained_and_grows_with_it():
    configs = plan.compared("naive_basic,pix2pix_rgb", 12)
    text = plan.described(configs, 384)
    assert text.startswith(
        "2 trainings of 12 epochs on 384 pictures: naive_basic, pix2pix_rgb; about"
    )
    assert "two cores" in text
    twice = [plan.seconds(dataclasses.replace(each, epochs=24), 384) for each in configs]
    once = [plan.seconds(each, 384) for each in configs]
    assert all(1.5 < a / b < 2 for a, b in zip(twice, once, strict=True))
    assert [plan.duration(each) for each in (9, 119, 6000)] == ["9 s", "2 min", "1.7 h"]
