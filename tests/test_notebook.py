"""The notebook: it runs as a student runs it, and is stored without outputs."""

import base64
import io
import re
import socket
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_has_no_outputs(notebook):
    for cell in code_of(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.source


def test_the_notebook_installs_the_versions_of_the_project(notebook):
    needed = (ROOT / "conda.yaml").read_text().split()
    pins = re.findall(r"\S+==\S+", "\n".join(cell.source for cell in code_of(notebook)))
    assert pins and set(pins) <= set(needed)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    notebook, active_store, paintings, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    (settings,) = (cell for cell in code_of(notebook) if cell.source.startswith("TRAINING = "))
    training = f"naive_basic -P epochs=2 -P filters=8 -P size=32 -P data={paintings}"
    settings.source = f"TRAINING = {training!r}\nPORT = {free_port()}"
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # After an error the other cells run, too: the last one stops the server.
    NotebookClient(notebook, resources=folder, timeout=300, allow_errors=True).execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert [each for each in outputs if each.output_type == "error"] == []
    results = [each.data for each in outputs if each.output_type == "execute_result"]
    album, test, served = (
        Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        for data in results
        if "image/png" in data
    )
    gray, *colored = np.array_split(colors_of(album), 3)
    assert gray.max() == 0 and min(each.max() for each in colored) > 20
    assert min(each.max() for each in np.array_split(colors_of(served), 2)) > 20
    assert test.size[0] > 300
    (table,) = (data["text/html"] for data in results if "text/html" in data)
    assert re.findall(r"<td>(\w+)</td>", table)[:2] == ["naive_basic", "2"]


def colors_of(picture):
    """How far each column's pixels are from gray at most."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return np.ptp(pixels, axis=-1).max(axis=0)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
