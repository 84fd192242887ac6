"""A cache that another user has made, as on a machine for many."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from colorization.data.prepare import prepare
from colorization.data.sources import fetch
from tests.conftest import ROOT, unpack_birds

# Root may write everywhere: it becomes nobody, once all is imported.
PREPARE = """
import os, sys
import scipy.fftpack  # as imagehash does, later
from PIL import Image
from colorization import process
from colorization.data import cache, prepare, sources
Image.init()
process.set_up_log()
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
for folder in sys.argv[1:]:
    print(prepare.prepare(sources.fetch(folder)).manifest)
print(cache.writable(cache.cache_folder() / "runs"))
"""


@pytest.fixture
def place(monkeypatch):
    """A folder that may only be read, with photographs that were prepared in a shared cache."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("COLORIZATION_CACHE", str(folder / "shared"))
    unpack_birds(folder / "birds", first=1)
    unpack_birds(folder / "others", first=2)
    prepare(fetch(str(folder / "birds")))
    (folder / "home").mkdir()
    _chmod(folder, 0o555)
    yield folder
    _chmod(folder, 0o755)
    shutil.rmtree(folder)


def _chmod(place, mode):
    """Change the mode of a folder, and of those in it that are not private."""
    for folder, _, _ in os.walk(place):
        if folder == str(place) or os.stat(folder).st_mode & 0o055:
            os.chmod(folder, mode)


def run(place, *data):
    """Prepare photographs as somebody who may write to `home` at the most."""
    environment = os.environ | {"XDG_CACHE_HOME": str(place / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", PREPARE, *(str(place / each) for each in data)],
        env=environment,
        text=True,
        capture_output=True,
    )


def test_what_is_prepared_is_read_and_what_is_new_goes_elsewhere(place):
    (place / "home").chmod(0o777)
    done = run(place, "birds", "others", "others")
    assert done.returncode == 0, done.stderr
    shared, new, again, runs = map(Path, done.stdout.split("\n")[:4])
    own = place / "home" / "garden-bird-colorization"
    assert shared.is_relative_to(place / "shared") and runs == own / "runs"
    assert new == again and new.is_relative_to(own / "prepared")
    assert f"cannot be written: it goes to {own}" in done.stderr
    assert done.stderr.count("cannot be written") == 1


def test_where_nothing_can_be_written_the_message_names_the_variable(place):
    done = run(place, "birds", "others")
    assert f"{place}/shared/prepared" in done.stdout.split("\n")[0]
    assert (
        "set the variable COLORIZATION_CACHE" in done.stderr and "Received: [Errno" in done.stderr
    )


def test_a_file_where_the_cache_should_be_is_no_end(place, monkeypatch):
    (place / "home").chmod(0o777)
    monkeypatch.setenv("COLORIZATION_CACHE", __file__)
    found = run(place, "birds")
    assert found.returncode == 0, found.stderr
    assert "cannot be written: it goes to " in found.stderr
