"""Models as `mlflow models serve` takes them, saved in folders."""

from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np

from colorization import tracking

# A pyfunc that has its answer ready: what it takes is MLflow's and HTTP's.
EMPTY = """
import mlflow, pandas as pd
class Empty(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        with open(context.artifacts["answer"], "rb") as file:
            self.answer = pd.DataFrame({"image": [file.read()]})
    def predict(self, context, model_input, params=None):
        return self.answer
mlflow.models.set_model(Empty())
"""


def save_pyfunc(network, folder: Path, trained_on: str = "") -> str:
    """Save a Keras network as the served model; return its path."""
    network.export(folder / "generator.onnx", format="onnx", verbose=False)
    return save_onnx(folder / "generator.onnx", folder / "model", trained_on)


def save_onnx(file: Path, folder: Path, trained_on: str = "") -> str:
    """Save an ONNX network as the served model, in a folder that is made; return its path."""
    mlflow.pyfunc.save_model(
        folder,
        **tracking.MODEL_CODE,
        model_config={"trained_on": trained_on},
        artifacts={"generator": str(file)},
        signature=tracking.SIGNATURE,
        pip_requirements=[f"{name}=={version(name)}" for name in tracking.REQUIREMENTS],
    )
    return str(folder)


def save_untrained(folder: Path) -> str:
    """Save the default generator of pix2pix: the cost of a colorizer, without its skill."""
    from colorization.config import VARIANTS
    from colorization.models import build

    network = build.build_plain(VARIANTS["pix2pix"], 128)
    network(np.zeros((1, 128, 128, 3), "float32"))
    return save_pyfunc(network, folder)


def save_empty(folder: Path, answer: bytes) -> str:
    """Save the pyfunc that always gives the same answer; return its path."""
    (folder / "empty.py").write_text(EMPTY)
    (folder / "answer").write_bytes(answer)
    mlflow.pyfunc.save_model(
        folder / "empty",
        python_model=str(folder / "empty.py"),
        artifacts={"answer": str(folder / "answer")},
        signature=tracking.SIGNATURE,
        pip_requirements=[],
    )
    return str(folder / "empty")
