"""How near its floor the way of the pictures is: `python -m benchmarks.input`.

Preparing against decoding with plain Pillow, and what a training step waits for its batch. Two
minutes on two cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.picture import paint_jpeg
from benchmarks.table import Row, median_ratio, print_table, side_by_side

ORIGINALS = 60
WHOLE_SET = 2841  # pictures in the Kaggle archive
ROUNDS = 5
EPOCHS = 5


def paint(folder: Path, count: int, side: int) -> None:
    """Write JPEGs, each another one."""

    def write(index):
        (folder / f"{index}.jpg").write_bytes(paint_jpeg(side, seed=index))

    folder.mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(count)))


def prepare_anew(originals: Path) -> None:
    """Prepare a folder as if for the first time."""
    from colorization.data import prepare, sources

    with tempfile.TemporaryDirectory() as cache:
        os.environ["COLORIZATION_CACHE"] = cache
        prepare.prepare(sources.fetch(str(originals)))


def decode(originals: Path) -> np.ndarray:
    """Do what a notebook does: open each file with Pillow, shrink it, stack the arrays."""
    return np.stack(
        [
            np.asarray(Image.open(path).convert("RGB").resize((128, 128)))
            for path in originals.rglob("*.jpg")
        ]
    )


def compare_preparing(originals: Path) -> Row:
    """Return the row of preparing against decoding."""
    ours, plain = side_by_side(
        lambda: prepare_anew(originals), lambda: decode(originals), rounds=ROUNDS
    )
    count = len(list(originals.rglob("*.jpg")))
    each = [statistics.median(seconds) / count * 1e3 for seconds in (plain, ours)]
    return Row(
        f"every one of {count} JPEGs of {originals.name}, decoded and shrunk by plain Pillow / "
        "prepared by us",
        "{:.1f} times as long ({:.1f} ms, {:.1f} ms a picture)".format(
            median_ratio(plain, ours), *each
        ),
        ">= 5",
    )


def time_second(folder: Path) -> Row:
    """Return the row of preparing an unchanged source again."""
    from colorization.data import prepare, sources

    os.environ["COLORIZATION_CACHE"] = str(folder / "cache")
    paint(folder / "set", WHOLE_SET, 128)

    def fetch():
        prepare.prepare(sources.fetch(str(folder / "set")))

    fetch()
    (seconds,) = side_by_side(fetch, rounds=ROUNDS)
    return Row(
        f"second preparation of {WHOLE_SET:,} unchanged pictures",
        f"{statistics.median(seconds):.2f} s",
        "< 1 s",
    )


def measure_waiting() -> list[Row]:
    """Return what an epoch of each family waits for its pictures."""
    from colorization.config import VARIANTS
    from colorization.data import pipeline
    from colorization.models import build

    images = np.random.default_rng(0).integers(0, 256, (160, 128, 128, 3), np.uint8)
    rows = []
    for name in ("naive_basic", "pix2pix"):
        config = VARIANTS[name]
        trainer = build.build(config, 128).trainer
        trainer.make_train_function()
        step = trainer.train_function
        pairs = pipeline.training_pairs(
            images, config.gray_channels, config.batch_size, 0, config.crop
        )
        held = pairs.take(1).cache().repeat(len(pairs))
        shares, ratios = [], []
        for epoch in range(EPOCHS + 1):
            (waited, whole), (_, floor) = (time_epoch(step, each) for each in (pairs, held))
            if epoch:  # the first one compiles
                shares.append(waited / whole)
                ratios.append(whole / floor)
        rows.append(
            Row(
                f"`{name}`: share of an epoch that waits for input",
                f"{statistics.median(shares):.1%}",
                "< 3 %",
            )
        )
        rows.append(
            Row(
                f"`{name}`: an epoch / the same from one batch that is held in memory",
                f"{statistics.median(ratios):.3f}",
            )
        )
    return rows


def time_epoch(step, pairs) -> tuple[float, float]:
    """Return the seconds that an epoch waited for its batches, and all of its seconds."""
    started, waited = time.perf_counter(), 0.0
    batches = iter(pairs)
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            return waited, time.perf_counter() - started
        for value in step(iter([batch])).values():
            value.numpy()  # until it is done


def measure(originals: Path | None = None) -> list[Row]:
    """Measure all of it.

    Args:
        originals: folder of 1024x1024 JPEGs; painted ones if not given.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.environ.get("COLORIZATION_CACHE")
    with tempfile.TemporaryDirectory() as place:
        if originals is None:
            originals = Path(place, "1024x1024")
            paint(originals, ORIGINALS, 1024)
        try:
            rows = [compare_preparing(originals), time_second(Path(place))]
        finally:
            os.environ.pop("COLORIZATION_CACHE")
            if kept:
                os.environ["COLORIZATION_CACHE"] = kept
    return rows + measure_waiting()


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input", description=__doc__)
    parser.add_argument("--originals", type=Path, help="folder of 1024x1024 JPEGs to prepare")
    print_table(measure(parser.parse_args(arguments).originals))


if __name__ == "__main__":
    main()
