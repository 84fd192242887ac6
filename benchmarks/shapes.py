"""Colors of panoramas: stretched to the network's square, letterboxed into it, or in tiles.

`python -m benchmarks.shapes --model models:/naive_colorizer@champion --data path/to/photographs`
cuts a strip of each shape from the middle of every photograph, and joins photographs to rows and
columns; it colors them in each way, and prints a Markdown table. "In square parts" is the
yardstick: each part as a picture of its own.

A strip shows a bird from very near, so that a network gains from whatever shrinks it; in a row, a
bird has the size that it has in a photograph. A panorama is something in between.
"""

import argparse
import io
import itertools
import math
import sys
from pathlib import Path
from unittest import mock

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.machine import describe_machine
from colorization import evaluation, pictures
from colorization.data.photograph import picture_box

SHAPES = [(7, 1), (3, 1), (2, 1), (1, 2), (1, 3), (1, 7)]
JOINED_SIDE = 256  # pixels of a photograph in a row
SAMPLE = 128  # its square is the number of pixels of a strip that are compared
SCORES = ("psnr", "delta_e", "colorfulness", "color_error")  # of each cell


class Ways:
    """The ways to color a gray strip with one model."""

    def __init__(self, model):
        self._model = model
        self._reader = sys.modules[type(model.unwrap_python_model()).__module__].reader

    def in_tiles(self, strip, ratio):
        """Color in overlapping tiles of about this ratio of sides."""
        buffer = io.BytesIO()
        strip.save(buffer, "PNG", compress_level=1)
        rows = pd.DataFrame({"image": [buffer.getvalue()]})
        count = max(1, round(2 * max(strip.size) / min(strip.size) / ratio) - 1)
        tiles = pictures.spread_tiles(strip.size, count)
        with mock.patch.object(self._reader, "find_tiles", lambda size: tiles):
            (answer,) = self._model.predict(rows)["image"]
        return Image.open(io.BytesIO(answer))

    def stretched(self, strip):
        """Color as one tile, whatever its ratio."""
        return self.in_tiles(strip, math.inf)

    def letterboxed(self, strip, mode):
        """Color in the middle of a square, whose rest is filled as `numpy.pad` does."""
        side = max(strip.size)
        left, top = (side - strip.width) // 2, (side - strip.height) // 2
        pads = (top, side - strip.height - top), (left, side - strip.width - left)
        square = Image.fromarray(np.pad(np.asarray(strip), pads, mode))
        return self.stretched(square).crop((left, top, left + strip.width, top + strip.height))

    def in_square_parts(self, strip):
        """Color each square as a picture of its own."""
        colored, side = Image.new("RGB", strip.size), min(strip.size)
        for left in range(0, strip.width, side):
            for top in range(0, strip.height, side):
                right, bottom = min(left + side, strip.width), min(top + side, strip.height)
                box = (left, top, right, bottom)
                colored.paste(self.stretched(strip.crop(box)), box)
        return colored

    def all(self):
        """Return the ways by name."""
        return {
            "in square parts": self.in_square_parts,
            "stretched": self.stretched,
            "letterboxed, edges repeated": lambda strip: self.letterboxed(strip, "edge"),
            "letterboxed, mirrored": lambda strip: self.letterboxed(strip, "symmetric"),
            "letterboxed, gray": lambda strip: self.letterboxed(strip, "mean"),
            "tiles of 1:1, as served": lambda strip: self.in_tiles(strip, 1),
            "tiles of 3:2": lambda strip: self.in_tiles(strip, 1.5),
            "tiles of 2:1": lambda strip: self.in_tiles(strip, 2),
        }


def trim(photograph):
    """Cut black bars off."""
    return photograph.crop(picture_box(photograph))


def cut(photograph, shape):
    """Cut the largest strip of a shape, in whole squares, from the middle of a photograph."""
    across, down = shape
    side = min(photograph.width // across, photograph.height // down)
    width, height = round(side * across), round(side * down)
    left, top = (photograph.width - width) // 2, (photograph.height - height) // 2
    return photograph.crop((left, top, left + width, top + height))


def strips(photographs, shape):
    """Cut a strip from the middle of each photograph."""
    return (cut(photograph, shape) for photograph in photographs)


def rows(photographs, shape):
    """Join photographs to rows or columns of as many as a shape has squares."""
    across, down = shape
    for first in range(0, len(photographs) - across * down + 1, across * down):
        joined = Image.new("RGB", (across * JOINED_SIDE, down * JOINED_SIDE))
        for index, photograph in enumerate(photographs[first : first + across * down]):
            square = cut(photograph, (1, 1)).resize((JOINED_SIDE, JOINED_SIDE))
            joined.paste(square, (index % across * JOINED_SIDE, index // across * JOINED_SIDE))
        yield joined


def sample(picture):
    """Return pixels from all over a picture at full size, always the same, as a small one."""
    pixels = np.asarray(picture).reshape(-1, 3)
    chosen = np.random.default_rng(0).integers(0, len(pixels), SAMPLE**2)
    return pixels[chosen].reshape(SAMPLE, SAMPLE, 3)


def measure(ways, panoramas):
    """Return the scores of what each way colors, as the cells of a table."""
    panoramas = list(panoramas)
    real = np.stack([sample(each) for each in panoramas])
    cells = []
    for way in ways:
        colored = np.stack([sample(way(each.convert("L"))) for each in panoramas])
        means = evaluation.score_set(real, colored)
        cells.append(", ".join(f"{means[score]:.2f}" for score in SCORES))
    return cells


def main():
    """Measure every shape and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("--model", required=True, help="URI of a colorizer")
    parser.add_argument("--data", required=True, type=Path, help="folder of photographs")
    arguments = parser.parse_args()
    files = sorted(arguments.data.rglob("*.jpg"))
    photographs = [trim(Image.open(file).convert("RGB")) for file in files]
    ways = Ways(mlflow.pyfunc.load_model(arguments.model)).all()
    print(f"{describe_machine()}, {len(files)} photographs\n")
    print(f"| {', '.join(SCORES)} | {' | '.join(ways)} |")
    print("|---" * (len(ways) + 1) + "|")
    for make, (across, down) in itertools.product((strips, rows), SHAPES):
        cells = measure(ways.values(), make(photographs, (across, down)))
        print(f"| {make.__name__}, {across}:{down} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
