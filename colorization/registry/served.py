"""A pyfunc in service, whoever made it: loaded, and as a function of arrays."""

import io
from collections.abc import Mapping
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from PIL import Image

from colorization.errors import GateError, InputError

NEW_PARAMS = {"warmth": 0.0, "tint": 0.0, "output": "colors"}  # and what earlier models do
PROBE = np.full((1, 32, 32, 1), 128, "float32")


class Served:
    """The function of a pyfunc that takes and returns files, from gray levels to RGB levels.

    Both are float32 arrays, (N, S, S, 1) and (N, S, S, 3). It raises a GateError if the pyfunc does
    not color a picture, or returns one of another size.
    """

    channels, size = 1, 0  # the side in pixels of its network is not known

    def __init__(self, model: PyFuncModel) -> None:
        self.model = model

    def __call__(self, grays: np.ndarray) -> np.ndarray:
        """Color pictures."""
        levels = grays[..., 0].astype("uint8")
        return np.stack(
            [np.asarray(self.color(Image.fromarray(each)), "float32") for each in levels]
        )

    def color(self, picture: Image.Image, kind: str = "PNG") -> Image.Image:
        """Color a picture, given as a file of this kind; return it as RGB."""
        encoded, mode = io.BytesIO(), picture.mode
        picture.save(encoded, kind)
        try:
            answer = self.model.predict(pd.DataFrame({"image": [encoded.getvalue()]}))
            (content,) = pd.DataFrame(answer)["image"]
            colored = Image.open(io.BytesIO(content)).convert("RGB")
        except Exception as error:
            raise GateError(f"The model cannot color a picture of mode {mode}: {error}") from error
        if colored.size != picture.size:
            raise GateError(f"The model does not keep the size of a picture of mode {mode}.")
        return colored


def known_params(model: PyFuncModel) -> set[str]:
    """Return the params that a pyfunc takes; MLflow ignores others in silence."""
    schema = model.metadata.get_params_schema()
    return {param.name for param in schema.params} if schema else set()


def require(model: PyFuncModel, params: Mapping[str, Any]) -> None:
    """Raise an InputError if a pyfunc, of an earlier release, would ignore what is asked of it."""
    for name in NEW_PARAMS.keys() - known_params(model):
        if params.get(name, NEW_PARAMS[name]) != NEW_PARAMS[name]:
            raise InputError(
                f"This model was logged before there was `{name}`. Expected a model that has it: "
                f"train or register a new one. Received: {name}={params[name]}"
            )


def load(model_uri: str, folder: str | None = None) -> PyFuncModel:
    """Load a pyfunc that colors pictures, which it is tried on; `folder` is for its files.

    Raises:
        GateError: it cannot be loaded, or does not color pictures.
    """
    try:
        model = mlflow.pyfunc.load_model(model_uri, dst_path=folder)
    except Exception as error:  # deleted files, missing packages, a lost connection
        reason = str(error).partition("\n")[0].rstrip(".")
        raise GateError(
            f"The model cannot be loaded: {reason}. Its files are gone, or packages that it needs: "
            f"register another one. Received: {model_uri!r}"
        ) from error
    Served(model)(PROBE)
    return model
