"""How training grows with cores and pictures: `python -m benchmarks.scaling`; eight minutes."""

import dataclasses
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.machine import peak_memory
from benchmarks.table import Row, print_table

SIZES = (250, 500, 1000, 2000)
ROUNDS = 2
VARIANTS_MEASURED = ("naive_basic", "pix2pix")


def train(name: str, count: int, cores: int, epochs: int) -> tuple[float, float]:
    """Train on `count` pictures; return images a second and the peak memory in MiB.

    To be called in a process of its own, before TensorFlow counts the cores.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from colorization.config import VARIANTS
    from colorization.training import train

    with tempfile.TemporaryDirectory() as place:
        shape = (count, 128, 128, 3)
        path = Path(place, "train.npy")
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        split = SimpleNamespace(images=np.load(path, mmap_mode="r"))
        config = dataclasses.replace(VARIANTS[name], epochs=epochs)
        if config.family == "pix2pix":  # the GAN alone
            config = dataclasses.replace(config, generator_only_ratio=0.0)
        result = train.train(config, SimpleNamespace(train=split, val=split))
    _, *after_the_first = result.history["images_per_second"]  # the first epoch compiles
    return statistics.median(after_the_first), peak_memory()


def apart(*arguments) -> tuple[float, float]:
    """Call `train` in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(train, *arguments).result()


def measure_cores(name: str) -> Row:
    """Return the row of images a second over the cores."""
    available = len(os.sched_getaffinity(0))
    turns = [[apart(name, 128, cores, 3)[0] for cores in (1, available)] for _ in range(ROUNDS)]
    one, many = (statistics.median(turn[which] for turn in turns) for which in (0, 1))
    ratio = statistics.median(many / one for one, many in turns)
    return Row(
        f"`{name}`: images a second on {available} cores / on one",
        f"{ratio:.2f} ({many:.0f}/s, {one:.0f}/s)",
    )


def measure_pictures(name: str) -> list[Row]:
    """Return the rows of epoch time and memory over the number of pictures."""
    runs = [apart(name, count, len(os.sched_getaffinity(0)), 2) for count in SIZES]
    sizes = " / ".join(f"{count:,}" for count in SIZES)
    seconds = [count / speed for count, (speed, _) in zip(SIZES, runs, strict=True)]
    each = [1000 / speed for speed, _ in runs]
    peaks = [peak for _, peak in runs]
    return [
        Row(
            f"`{name}`: seconds an epoch of {sizes} pictures",
            f"{' / '.join(f'{second:.1f}' for second in seconds)} s; a picture costs "
            f"{each[-1] / each[0]:.2f} times as much among {SIZES[-1]:,} as among {SIZES[0]:,}",
            "linear",
        ),
        Row(
            f"`{name}`: peak memory over the same",
            f"{' / '.join(f'{peak:.0f}' for peak in peaks)} MiB",
            "flat",
        ),
    ]


def measure() -> list[Row]:
    """Measure all of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = [measure_cores(name) for name in VARIANTS_MEASURED]
    return rows + measure_pictures(VARIANTS_MEASURED[0])


def main() -> None:
    """Measure and print."""
    print_table(measure())


if __name__ == "__main__":
    main()
