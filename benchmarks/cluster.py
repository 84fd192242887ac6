"""Albums on a Dask cluster of this machine: `python -m benchmarks.cluster`; ten minutes.

How two workers of one core each compare with one, and what client and scheduler hold of many
pictures. Needs two cores that do nothing else, and a champion of `naive`, which is the default
model of a new store.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.machine import describe_machine
from benchmarks.picture import paint_jpeg
from benchmarks.table import Row, median_ratio, print_table
from colorization.paths import ROOT

PICTURES, MANY, SMALL_SIDE, ROUNDS = 400, 100_000, 16, 3
ADDRESS = "tcp://127.0.0.1:28786"


def save(folder: Path, count: int, side: int) -> Path:
    """Write the same picture many times, gray."""
    folder.mkdir()
    content = paint_jpeg(side)
    for index in range(count):
        (folder / f"{index:06}.jpg").write_bytes(content)
    return folder


@contextlib.contextmanager
def processes(workers: int, place: Path) -> Iterator[psutil.Process]:
    """Run a scheduler and workers, each on a core of its own; gives the scheduler."""
    cores = sorted(os.sched_getaffinity(0))
    words = ["worker", ADDRESS, "--nthreads", "1", "--no-nanny", "--local-directory", str(place)]
    started = [start(["scheduler", "--host", "127.0.0.1", "--port", ADDRESS.rpartition(":")[2]])]
    for number in range(workers):
        started.append(start(words, cores[number % len(cores)]))
    try:
        yield psutil.Process(started[0].pid)
    finally:
        for process in started:
            process.kill()
            process.wait()


def start(words: list[str], core: int | None = None) -> subprocess.Popen:
    """Start `python -m dask` in the project's folder, on one core."""
    command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    if core is not None:
        os.sched_setaffinity(process.pid, [core])
    return process


def color(source: Path, target: Path) -> subprocess.Popen:
    """Start the command."""
    command = [sys.executable, "-m", "serve.batch", "--model", "naive", "--which", "all"]
    command += ["--input", str(source), "--output", str(target), "--cluster", ADDRESS]
    return subprocess.Popen(command, cwd=ROOT)


def seconds(source: Path, target: Path) -> float:
    """Return the seconds from the first written picture to the last."""
    client = color(source, target)
    assert client.wait() == 0
    times = sorted(file.stat().st_ctime for file in target.iterdir())
    return times[-1] - times[0]


def compare_workers(place: Path) -> Row:
    """Return the row of two workers against one."""
    source = save(place / "album", PICTURES, 640)
    taken: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(ROUNDS):
        for workers, found in taken.items():
            with processes(workers, place):
                seconds(source, place / f"warm-{turn}-{workers}")  # the model is loaded
                found.append(seconds(source, place / f"{turn}-{workers}"))
    speeds = " and ".join(f"{PICTURES / min(found):.0f}/s" for found in taken.values())
    ratio = median_ratio(taken[1], taken[2])
    return Row("one and two workers of a core each, 640 x 640", f"{ratio:.2f} ({speeds})", ">= 1.8")


def watch_memory(place: Path, count: int) -> list[Row]:
    """Return the rows of what client and scheduler hold over the time of many pictures."""
    source = save(place / "many", count, SMALL_SIDE)
    held: list[tuple[float, float]] = []
    with processes(2, place) as scheduler:
        command = color(source, place / "out")
        client = psutil.Process(command.pid)
        while command.poll() is None:
            with contextlib.suppress(psutil.Error, FileNotFoundError):
                if any((place / "out").iterdir()):
                    held.append((memory(client), memory(scheduler)))
            time.sleep(1)
        assert command.returncode == 0
    rows = []
    for name, values in zip(("client", "scheduler"), zip(*held, strict=True), strict=True):
        tenth = values[len(values) // 10]
        text = f"{tenth:.0f} MiB after a tenth of the time, at most {max(values):.0f}"
        rows.append(Row(f"{name}, {count:,} pictures of {SMALL_SIDE} x {SMALL_SIDE}", text, "flat"))
    return rows


def memory(process: psutil.Process) -> float:
    """Return what a process holds, in MiB, on Linux."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 2**10


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="pictures, of which memory is held")
    parser.add_argument("--only", choices=("speed", "memory"), help="one of both parts")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n")
    with tempfile.TemporaryDirectory() as place:
        rows: list[Row] = []
        if arguments.only != "memory":
            rows.append(compare_workers(Path(place)))
        if arguments.only != "speed":
            rows += watch_memory(Path(place), arguments.many)
    print_table(rows)


if __name__ == "__main__":
    main()
