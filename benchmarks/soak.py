"""Whether the servers stay whole under load: `python -m benchmarks.soak`.

For ten minutes each, 32 clients send pictures of many sizes and formats, one in ten of them broken,
to `mlflow models serve` and to the page; then to both again, while the champions are replaced and
MLflow's server is killed and started anew. The networks are those that come with the project.
Prints a Markdown table. Ends with an error if an answer is not as it should be, or memory grows.
"""

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mlflow

from benchmarks.clients import (
    COLORED,
    NO_REGISTRY,
    REFUSED,
    ModelClient,
    Visitor,
    break_pictures,
    paint_pictures,
)
from benchmarks.machine import describe_machine
from benchmarks.servers import Server, serve_mlflow, serve_model, serve_page
from benchmarks.table import Row, print_table
from colorization import evaluation
from colorization.registry import lookup, pretrained, promotion

CLIENTS = 32
GOOD_FOR_ONE_BROKEN = 9
WARM_UP = 60  # seconds, or a third of a shorter test: until then pools and buffers fill
MAX_GROWTH = 1.05
REPLACED = 0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9  # of a test's time: when all champions are
KILLED, STARTED = 0.4, 0.5  # the same, for MLflow's server

Event = tuple[float, Callable[[], object]]  # share of a test's time, and what happens then


class Answer(NamedTuple):
    """Seconds since the test began when a request was sent, seconds until its answer, outcome."""

    sent: float
    seconds: float
    outcome: str


class Result(NamedTuple):
    """All answers; memory as (seconds since the test began, bytes); when each event was over."""

    answers: list[Answer]
    memory: list[tuple[float, int]]
    events: list[float]


def load(server: Server, client: type, seconds: float, events: Sequence[Event] = ()) -> Result:
    """Send requests of many clients for so long, and until all events are over."""
    good, broken = itertools.cycle(paint_pictures()), itertools.cycle(break_pictures())
    mixed = [[*itertools.islice(good, GOOD_FOR_ONE_BROKEN), next(broken)] for _ in range(20)]
    requests = list(itertools.chain.from_iterable(mixed))
    tickets, over = itertools.count(), threading.Event()
    result, start = Result([], [], []), time.perf_counter()

    def visit(_):
        visitor = client(server.url)
        while not over.is_set():
            sent = time.perf_counter() - start
            outcome = visitor.send(requests[next(tickets) % len(requests)])
            result.answers.append(Answer(sent, time.perf_counter() - start - sent, outcome))

    with ThreadPoolExecutor(CLIENTS) as pool:
        visitors = pool.map(visit, range(CLIENTS))
        try:
            waiting = list(events)
            while (now := time.perf_counter() - start) < seconds or waiting:
                result.memory.append((now, server.resident()))
                while waiting and now >= waiting[0][0] * seconds:
                    waiting.pop(0)[1]()
                    result.events.append(time.perf_counter() - start)
                over.wait(min(1, seconds / 100))
        finally:
            over.set()
        list(visitors)
    return result


def report(name: str, result: Result, seconds: float, is_away_allowed: bool) -> Iterator[Row]:
    """Yield the rows of a test; one whose value is not as it should be ends with `missed`."""
    counts = Counter(answer.outcome for answer in result.answers)
    colored, refused = counts.pop(COLORED, 0), counts.pop(REFUSED, 0)
    total = len(result.answers)
    yield Row(
        f"{name}: requests; of these colored, refused",
        f"{total:,} in {seconds:.0f} s; {colored:,}, {refused:,}",
    )
    if is_away_allowed:
        away = counts.pop(NO_REGISTRY, 0)
        yield Row(f"{name}: told that the registry cannot be read", f"{away:,}")
    wrong = ", ".join(f"{outcome}: {count}" for outcome, count in counts.most_common())
    yield Row(f"{name}: any other answer", wrong or "0", "0" + ", missed" * bool(wrong))
    times = sorted(each.seconds * 1e3 for each in result.answers if each.outcome == COLORED)
    middle, rare = (times[int(len(times) * share)] for share in (0.5, 0.99))
    yield Row(f"{name}: p50; p99 until a picture is colored", f"{middle:,.0f} ms; {rare:,.0f} ms")
    first = min(WARM_UP, seconds / 3)
    early = [size for at, size in result.memory if first <= at < first + seconds / 10]
    late = [size for at, size in result.memory if at >= seconds * 0.9]
    early, late = statistics.median(early), statistics.median(late)
    yield Row(
        f"{name}: memory after {first:.0f} s; at the end / that",
        f"{early / 1e6:.0f} MB; {late / early:.3f}",
        f"<= {MAX_GROWTH}" + ", missed" * (late > MAX_GROWTH * early),
    )


def register_twice() -> Callable[[], None]:
    """Register the project's networks; return a function that makes another version champion."""
    client, versions = mlflow.MlflowClient(), {}
    for family in evaluation.CRITERIA:
        candidate = pretrained.find(family)
        first, _ = promotion.register(candidate)
        versions[first.name] = itertools.cycle(
            (mlflow.register_model(candidate.model_uri, first.name).version, first.version)
        )

    def replace() -> None:
        for name, numbers in versions.items():
            client.set_registered_model_alias(name, lookup.CHAMPION, next(numbers))

    return replace


def measure(seconds: float, folder: Path) -> Iterator[Row]:
    """Yield the rows of all tests, of so many seconds each."""
    with serve_mlflow(folder / "mlflow") as store:
        os.environ["MLFLOW_TRACKING_URI"] = store.url
        replace = register_twice()
        events: list[Event] = [(share, replace) for share in REPLACED]
        events += [(KILLED, lambda: store.end(signal.SIGKILL)), (STARTED, store.start)]
        events.sort(key=lambda event: event[0])
        champion = lookup.champion_uri("pix2pix")
        for name, server, client in (
            ("`mlflow models serve`", serve_model(champion, folder / "model"), ModelClient),
            ("page", serve_page(folder / "page"), Visitor),
        ):
            with server:
                yield from report(name, load(server, client, seconds), seconds, False)
                result = load(server, client, seconds, events)
                yield from report(f"{name}, disturbed", result, seconds, client is Visitor)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; exit with 1 if anything was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of each of the four tests")
    seconds = parser.parse_args(arguments).seconds
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # of `mlflow run`
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    print(f"{describe_machine()}, {CLIENTS} clients\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        print_table(rows.append(row) or row for row in measure(seconds, Path(folder)))
    sys.exit(any("missed" in row.wanted for row in rows))


if __name__ == "__main__":
    main()
