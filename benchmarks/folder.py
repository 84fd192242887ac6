"""How fast a folder is colored, beside the network alone: `python -m benchmarks.folder`.

Both are measured in turns, as a ratio, because the machine is never quiet; prints a Markdown
table. About two minutes on two cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import mlflow

from benchmarks.serving import (
    Row,
    build_network,
    calls_per_second,
    forward_only,
    paint_jpeg,
    print_table,
    save_pyfunc,
)
from serve import folder

SIDES = (128, 256, 512, 1024)
ROUNDS = 7
SECONDS = 1.5  # of each measurement


def colored_per_second(model, source: Path, target: Path) -> float:
    """The pictures per second of one run over a folder: read, color, encode, write."""
    jobs, _ = folder.plan(source, target)
    start = time.perf_counter()
    outcomes = list(folder.color(model, jobs, {"tta": False, "saturation": 1.0}))
    assert outcomes == [None] * len(jobs), outcomes
    return len(jobs) / (time.perf_counter() - start)


def compare(model, side: int, place: Path) -> Row:
    """The row of one size: JPEGs in, JPEGs out."""
    source, target = place / f"in{side}", place / f"out{side}"
    source.mkdir()
    jpeg = paint_jpeg(side)

    def fill(count):
        for index in range(count):
            (source / f"{index}.jpg").write_bytes(jpeg)

    fill(16)
    count = max(16, int(SECONDS * colored_per_second(model, source, target)))
    fill(count)
    forward = forward_only(model.unwrap_python_model()._session)
    pairs = [
        (
            colored_per_second(model, source, target),
            calls_per_second(forward, os.cpu_count(), SECONDS),
        )
        for _ in range(ROUNDS)
    ]
    ratio = statistics.median(ours / alone for ours, alone in pairs)
    ours, alone = (statistics.median(each) for each in zip(*pairs, strict=True))
    return Row(
        f"JPEGs of {side}x{side}, {len(jpeg) / 1000:.0f} KB: pictures / forwards of the network",
        f"{ratio:.2f} ({ours:.0f}/s, {alone:.0f}/s)",
        ">= 0.8",
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder", description=__doc__)
    parser.add_argument("--model", help="URI or path of a served model; default: a fresh pix2pix")
    parser.add_argument("--filters", type=int, default=16, help="of the fresh network")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        path = options.model or save_pyfunc(build_network(options.filters), Path(place))
        model = mlflow.pyfunc.load_model(path)
        what = options.model or f"A fresh pix2pix generator, filters={options.filters}"
        print(f"{what}, {os.cpu_count()} cores.\n")
        print_table([compare(model, side, Path(place)) for side in SIDES])


if __name__ == "__main__":
    main()
