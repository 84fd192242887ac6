"""The state of a training on disk after each epoch, from which another process goes on."""

import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from colorization.errors import InputError
from colorization.training.callbacks import Scoring
from colorization.training.schedule import optimizer_of

PUBLISH_SECONDS = 600


class State(NamedTuple):
    """What a training has reached."""

    arrays: list[np.ndarray]  # all that change, in the order of `Checkpoint.connect`
    best_weights: list[np.ndarray]  # of the colorizer in its best epoch; none before the first one
    progress: dict[str, Any]  # `history`, `best_epoch`, `best_score` and `seconds`

    @property
    def epochs(self) -> int:
        """The number of epochs that are done."""
        return max(map(len, self.progress["history"].values()), default=0)


def read(file: Path) -> State:
    """Read a checkpoint; no code in it can run.

    Raises:
        InputError: it is not whole.
    """
    try:
        with np.load(file) as content:
            progress = json.loads(str(content["progress"]))
            arrays = [content[f"arr_{index}"] for index in range(len(content.files) - 1)]
        count = progress.pop("variables")
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            "The checkpoint is damaged. Expected one that was written whole: train again if there "
            f"is none in MLflow either. Received: checkpoint={str(file)!r}"
        ) from error
    return State(arrays[:count], arrays[count:], progress)


class Checkpoint(keras.callbacks.Callback):
    """Writes the state of a training before its first epoch and after each: whole or not at all.

    It comes after the callbacks that log an epoch: what it holds has been logged. The file is
    replaced each time, and given to `publish` every `every` epochs; if that is 0, after the first
    epoch that ends ten minutes or more after the last time. The state is what to go on from.
    """

    def __init__(
        self,
        file: Path,
        state: State | None = None,
        publish: Callable[[Path], None] = lambda file: None,
        every: int = 0,
    ) -> None:
        super().__init__()
        self.file, self.state, self.publish, self.every = file, state, publish, every

    @property
    def seconds(self) -> float:
        """How long the training has taken so far, in all processes."""
        return time.monotonic() - self.started

    def connect(
        self, trainer: keras.Model, scoring: Scoring, history: keras.callbacks.History
    ) -> int:
        """Set whose state is written, and give it back; return how many epochs are done.

        Raises:
            InputError: the state is of another network.
        """
        optimizers = [optimizer_of(trainer, name) for name in scoring.config.learning_rates]
        self.variables = [*trainer.variables, *scoring.colorizer.weights]  # seeds of dropout, too
        self.variables += [variable for each in optimizers for variable in each.variables]
        self.scoring, self.history = scoring, history
        self.started = self.published = time.monotonic()
        if self.state is None:
            return 0
        arrays, best_weights, progress = self.state
        done, self.state = self.state.epochs, None  # it may be large
        if [each.shape for each in arrays] != [tuple(each.shape) for each in self.variables]:
            raise InputError(
                "The checkpoint is of another release, or of another network. Expected "
                f"{len(self.variables)} arrays of its shapes: train again. "
                f"Received: {len(arrays)} arrays"
            )
        for variable, array in zip(self.variables, arrays, strict=True):
            variable.assign(array)
        self.scoring.best_weights = best_weights
        self.scoring.best_epoch = progress["best_epoch"]
        self.scoring.best_score = progress["best_score"]
        self.history.history.update(progress["history"])
        self.started -= progress["seconds"]
        return done

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Write where the training begins: from here on there is something to go on from."""
        self._write()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write what the epoch has made."""
        self._write()
        due = time.monotonic() - self.published >= PUBLISH_SECONDS
        if (epoch + 1) % self.every == 0 if self.every else due:
            self.publish(self.file)
            self.published = time.monotonic()

    def _write(self) -> None:
        progress = {
            "variables": len(self.variables),
            "history": {name: list(map(float, v)) for name, v in self.history.history.items()},
            "best_epoch": self.scoring.best_epoch,
            "best_score": self.scoring.best_score,
            "seconds": self.seconds,
        }
        arrays = [keras.ops.convert_to_numpy(each) for each in self.variables]
        partial = self.file.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, *arrays, *self.scoring.best_weights, progress=json.dumps(progress))
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name without the content
        os.replace(partial, self.file)
