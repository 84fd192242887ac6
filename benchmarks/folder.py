"""How fast a folder is colored, beside the network alone: `python -m benchmarks.folder`.

Both are measured in turns, as ratios, because the machine is never quiet; the ratio of processor
times tells what an idle machine would give. Prints a Markdown table; two minutes on two cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow

from benchmarks.picture import paint_jpeg
from benchmarks.serving import build_network, forward_only, save_pyfunc
from benchmarks.table import Row, print_table
from serve.batch import folder

SIDES = (128, 256, 512, 1024)
ROUNDS = 7
SECONDS = 1.5  # of the network, in each round


def measure(work, count: int) -> tuple[float, float]:
    """The pictures per second of wall-clock time and of processor time; `work` does so many."""
    wall, processor = time.perf_counter(), time.process_time()
    work(count)
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)


def compare(model, side: int, place: Path) -> Row:
    """The row of one size: JPEGs in, JPEGs out."""
    source, target = place / f"in{side}", place / f"out{side}"
    source.mkdir()
    jpeg = paint_jpeg(side)
    forward = forward_only(model.unwrap_python_model()._session)

    def color(count):
        jobs, _ = folder.plan(source, target)
        outcomes = list(folder.color(model, jobs, {"tta": False, "saturation": 1.0}))
        assert outcomes == [None] * count, outcomes

    def only_forward(count):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda _: forward(), range(count)))

    count = max(16, int(SECONDS * measure(only_forward, 16)[0]))
    for index in range(count):
        (source / f"{index}.jpg").write_bytes(jpeg)
    pairs = [(measure(color, count), measure(only_forward, count)) for _ in range(ROUNDS)]
    wall, processor = (
        statistics.median(ours[clock] / alone[clock] for ours, alone in pairs) for clock in (0, 1)
    )
    speeds = [statistics.median(pair[which][0] for pair in pairs) for which in (0, 1)]
    return Row(
        f"JPEGs of {side}x{side}, {len(jpeg) / 1000:.0f} KB: pictures / forwards of the network",
        "{:.2f} ({:.0f}/s, {:.0f}/s); by processor time {:.2f}".format(wall, *speeds, processor),
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
