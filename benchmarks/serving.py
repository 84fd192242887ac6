"""What serving costs: `python -m benchmarks.serving`.

One picture through `mlflow models serve`, beside the least that colors it: decode, forward, encode.
All is taken in turns and given as ratios, because the machine is never quiet. Prints a Markdown
table, of the networks that come with the project and of an untrained `pix2pix` as it is by default.
Five minutes a network on two cores. The clients, in this process, take their share of these.
"""

import argparse
import io
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.clients import ModelClient, as_body
from benchmarks.machine import describe_machine
from benchmarks.picture import paint_jpeg
from benchmarks.saved import save_empty, save_onnx, save_untrained
from benchmarks.servers import Server, serve_model
from benchmarks.table import Row, median_ratio, print_table, side_by_side
from colorization.registry.shipped import FOLDER
from serve import pyfunc

ROUNDS = 100  # of single requests
TURNS, TURN_SECONDS = 3, 8.0  # of many clients
CLIENTS = 16
CORES = len(os.sched_getaffinity(0))


def bare_script(network: str, jpeg: bytes, colored: bytes) -> Callable[[], None]:
    """Return the least that colors a picture: decode, forward, stretch, encode."""
    session = pyfunc.open_session(network)
    feed = session.get_inputs()[0]
    _, side, _, channels = feed.shape
    result = Image.open(io.BytesIO(colored)).convert("RGB")

    def run() -> None:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        gray = np.asarray(image.convert("L").resize((side, side)), np.float32)
        rgb = session.run(None, {feed.name: gray[None, :, :, None].repeat(channels, -1)})[0]
        Image.fromarray(rgb[0].astype(np.uint8)).resize(image.size)
        result.save(io.BytesIO(), "PNG", **pyfunc.WRITABLE["png"])  # the same bytes as predict

    return run


def open_bare(*arguments) -> None:
    """Make the bare script ready in this process, for `run_bare`."""
    global bare
    bare = bare_script(*arguments)


def run_bare(seconds: float) -> tuple[int, float]:
    """Run the bare script for so long; return how often, and the processor's seconds."""
    deadline, count, spent = time.perf_counter() + seconds, 0, time.process_time()
    while time.perf_counter() < deadline:
        bare()
        count += 1
    return count, time.process_time() - spent


def ask(server: Server, body: bytes) -> Callable[[], None]:
    """Return a function that sends a request over a kept connection."""
    client = ModelClient(server.url)

    def post() -> None:
        status, answer = client.post(body)
        if status != 200:
            raise RuntimeError(f"Expected a colored picture. Received: {status} {answer[:200]!r}")

    return post


def flood(server: Server, body: bytes, requests: float = 1e9, seconds: float = 1e9) -> int:
    """Send so many requests, or for so long, by many clients; return the number of answers.

    Each goes over a connection of its own, as from nginx. Kept ones that open at once would all go
    to the same worker of uvicorn.
    """
    deadline, tickets = time.perf_counter() + seconds, itertools.count()

    def work(_) -> int:
        count = 0
        while next(tickets) < requests and time.perf_counter() < deadline:
            ask(server, body)()
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(work, range(CLIENTS)))


def first_answer(model: str, folder: Path, body: bytes) -> float:
    """Return the seconds from the start of a server to its first answer."""
    with serve_model(model, folder, answers="") as server:
        start = time.perf_counter()
        while time.perf_counter() < start + 120:
            try:
                ask(server, body)()
                return time.perf_counter() - start
            except OSError:
                time.sleep(0.02)
    raise TimeoutError("mlflow models serve gave no answer within 120 seconds")


class Compared(NamedTuple):
    """A model, one that has its answer ready, and what the bare script takes, see there."""

    name: str
    model: str
    empty: str
    bare: tuple[str, bytes, bytes]

    @property
    def body(self) -> bytes:
        """The request."""
        return as_body(self.bare[1])


def compare(name: str, model: str, folder: Path) -> Compared:
    """Load a model and let it color the picture, so that all others can give the same answer."""
    jpeg = paint_jpeg()
    colored = mlflow.pyfunc.load_model(model).predict(pd.DataFrame({"image": [jpeg]}))["image"][0]
    network = f"{model}/artifacts/generator.onnx"
    return Compared(name, model, save_empty(folder, colored), (network, jpeg, colored))


def measure_one(compared: Compared, folder: Path, requests: int) -> Iterator[Row]:
    """Yield the rows of one client, and of the memory that requests leave behind."""
    name, model, empty, bare = compared
    loaded, rows = mlflow.pyfunc.load_model(model), pd.DataFrame({"image": [bare[1]]})
    with (
        serve_model(model, folder / "ours") as server,
        serve_model(empty, folder / "other") as other,
    ):
        over_http, nothing, predict, least = side_by_side(
            ask(server, compared.body),
            ask(other, compared.body),
            lambda: loaded.predict(rows),
            bare_script(*bare),
            rounds=ROUNDS,
        )
        yield Row(
            f"{name}: `predict` on one JPEG / bare decode + forward + encode",
            f"{median_ratio(predict, least):.2f} ({in_ms(predict)} / {in_ms(least)})",
            "<= 1.2",
        )
        above = [one - another for one, another in zip(over_http, least, strict=True)]
        yield Row(
            f"{name}: over HTTP above bare; over HTTP, the answer being ready",
            f"{in_ms(above)} (p50 {in_ms(over_http)}); {in_ms(nothing)}",
        )
        flood(server, compared.body, requests=500)
        early = server.resident()
        flood(server, compared.body, requests=requests - 500)
        late = server.resident()
    yield Row(
        f"{name}: memory after {requests:,} requests / after 500",
        f"{late / early:.3f} ({late / 1e6:.0f} MB)",
        "<= 1.05",
    )


def in_ms(seconds: list[float]) -> str:
    """Return the median in words."""
    return f"{statistics.median(seconds) * 1e3:.1f} ms"


class Turn(NamedTuple):
    """Pictures per second, and the processor's seconds that each took, without the clients'."""

    rate: float
    cost: float


def turn_bare(pool: ProcessPoolExecutor, seconds: float) -> Turn:
    """Run the bare script in all processes of a pool, for so long."""
    counts, spent = zip(*pool.map(run_bare, [seconds] * CORES), strict=True)
    return Turn(sum(counts) / seconds, sum(spent) / sum(counts))


def turn_served(server: Server, body: bytes, seconds: float) -> Turn:
    """Ask a server for so long, by many clients."""
    start, spent = time.perf_counter(), server.processor_seconds()
    count = flood(server, body, seconds=seconds)
    spent = server.processor_seconds() - spent
    return Turn(count / (time.perf_counter() - start), spent / count)


def measure_many(compared: Compared, folder: Path) -> Iterator[Row]:
    """Yield the rows of many clients, beside as many processes without a server."""
    turns: list[tuple[Turn, Turn, Turn]] = []
    spawn = multiprocessing.get_context("spawn")
    with (
        serve_model(compared.model, folder / "workers", CORES) as server,
        serve_model(compared.empty, folder / "other-workers", CORES) as other,
        ProcessPoolExecutor(CORES, spawn, open_bare, compared.bare) as pool,
    ):
        for seconds in (1.0, *[TURN_SECONDS] * TURNS):
            served, ready = (turn_served(each, compared.body, seconds) for each in (server, other))
            turns.append((turn_bare(pool, seconds), served, ready))
    rates, costs = ([[turn[i][j] for turn in turns[1:]] for i in range(3)] for j in range(2))
    name = f"{compared.name}: {CLIENTS} clients, {CORES} workers"
    yield Row(
        f"{name}: answers / bare in {CORES} processes",
        f"{median_ratio(rates[1], rates[0]):.2f} "
        f"({statistics.median(rates[1]):.0f}/s, {statistics.median(rates[0]):.0f}/s)",
        ">= 0.9",
    )
    yield Row(
        f"{name}: the same by processor time; that of an answer that is ready",
        f"{median_ratio(costs[0], costs[1]):.2f} ({in_ms(costs[1])}, {in_ms(costs[0])}); "
        f"{in_ms(costs[2])}",
    )


def measure_all(name: str, model: str, folder: Path, requests: int) -> Iterator[Row]:
    """Yield all rows of a model; `folder` is empty."""
    compared = compare(name, model, folder)
    yield from measure_one(compared, folder, requests)
    yield from measure_many(compared, folder)
    start, ready = (
        first_answer(each, folder / f"start-{number}", compared.body)
        for number, each in enumerate((compared.model, compared.empty))
    )
    yield Row(
        f"{name}: start to the first answer; to one that is ready", f"{start:.1f} s; {ready:.1f} s"
    )


def measure(model: str, requests: int) -> Iterator[Row]:
    """Yield the rows of one model, or of all."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {Path(model).name: model}
        if not model:
            models = {
                f"shipped {family}": save_onnx(FOLDER / family / "generator.onnx", folder / family)
                for family in ("naive", "pix2pix")
            }
            models["untrained pix2pix"] = save_untrained(folder)
        for name, path in models.items():
            yield from measure_all(name, path, Path(tempfile.mkdtemp(dir=folder)), requests)


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", default="", help="path of a served model; default: all three")
    parser.add_argument("--requests", type=int, default=10_000, help="until memory is compared")
    options = parser.parse_args(arguments)
    print(f"{describe_machine()}; a JPEG of {len(paint_jpeg()) / 1000:.0f} KB\n")
    print_table(measure(options.model, options.requests))


if __name__ == "__main__":
    main()
