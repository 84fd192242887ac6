import shutil
import subprocess
import sys

from tests.conftest import ROOT

LOAD = """
import sys
from colorization.registry import lookup
from serve.evaluation import __main__, holdout, scoring
print(lookup.load_colorizer(sys.argv[1]).channels)
print("heavy:", sorted({"tensorflow", "keras"} & set(sys.modules)))
"""


def test_a_model_is_loaded_to_be_tested_without_tensorflow(tmp_path):
    (tmp_path / "artifacts").mkdir()
    shutil.copy(ROOT / "assets/pretrained/naive/generator.onnx", tmp_path / "artifacts")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "1\nheavy: []\n", done.stderr
