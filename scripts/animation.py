"""Animate the validation pictures that a training has logged: how its colors come.

    python -m scripts.animation RUN_ID    # writes docs/training.webp

RUN_ID is a finished run of the store that MLFLOW_TRACKING_URI names, on pictures that may be shown.
"""

import sys
from pathlib import Path

import mlflow
import numpy as np
from PIL import Image, ImageDraw

from colorization.figures import GAP
from colorization.paths import ROOT
from scripts.photographs import INK, font

TARGET = ROOT / "docs" / "training.webp"
LEFT = 152  # of the captions
SHOWN_MS, LAST_MS = 700, 3000


def main():
    """Write docs/training.webp: a frame for each epoch whose pictures are logged."""
    folder = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path="images")
    epochs = {}
    for path in sorted(Path(folder).glob("*.png")):
        name, _, step, *_ = path.name.split("+")
        epochs.setdefault(int(step), {})[name] = turned(np.asarray(Image.open(path)))
    first, *others = (frame(step, sheets.values()) for step, sheets in sorted(epochs.items()))
    duration = [SHOWN_MS] * len(others) + [LAST_MS]
    first.save(TARGET, append_images=others, duration=duration, loop=0, quality=80, method=6)


def turned(sheet):
    """Return a sheet of `figures.sheets` with rows for columns: gray, as predicted, real."""
    padded = np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
    tiles = padded.reshape(3, len(padded) // 3, 3, len(padded) // 3, 3)
    return tiles.transpose(2, 1, 0, 3, 4).reshape(padded.shape)


def frame(epoch, sheets):
    """Return all sheets of an epoch beside each other, with captions."""
    rows = np.concatenate([*sheets], axis=1)[:-GAP, :-GAP]
    picture = Image.new("RGB", (LEFT + rows.shape[1], rows.shape[0]), "white")
    picture.paste(Image.fromarray(rows), (LEFT, 0))
    pen = ImageDraw.Draw(picture)
    for row, text in enumerate(("gray", f"epoch {epoch}", "real")):
        height = (2 * row + 1) * picture.height // 6
        pen.text((LEFT - 14, height), text, INK, font(24, "bold"), "rm")
    return picture


if __name__ == "__main__":
    main()
