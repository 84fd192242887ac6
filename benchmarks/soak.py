"""Whether the servers stay whole under load: `python -m benchmarks.soak`.

For twenty minutes 32 clients send pictures of many sizes and formats, one in ten of them broken, to
`mlflow models serve`, and for as long to the page. In the second half the champions are replaced,
and MLflow's server is killed and started anew. The networks are those that come with the project.
Prints a Markdown table. Ends with an error if an answer is not as it should be, or memory grows.
"""

import argparse
import itertools
import math
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
import numpy as np

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
from colorization.registry import lookup, promotion, shipped

CLIENTS = 32
GOOD_FOR_ONE_BROKEN = 9
MINUTE = 60  # or a third of a shorter test: in the first one pools and buffers fill
RECOVERY = 5  # seconds until the page knows that the registry is there again
LONG, MAX_GROWTH = 240, 1.05  # seconds
MAX_GROWTH_SHORT = 1.25  # in a shorter test pools still fill, and single pictures count
MISSED = "missed"
# What happens in the second half, and when, as shares of the whole time.
REPLACED = 0.5, 0.55, 0.6, 0.65, 0.85, 0.9  # all champions
KILLED, STARTED = 0.7, 0.75  # MLflow's server

Event = tuple[float, Callable[[], object]]


class Answer(NamedTuple):
    """Seconds since the test began when a request was sent, seconds until its answer, outcome."""

    sent: float
    seconds: float
    outcome: str


class Result(NamedTuple):
    """All answers; memory as (seconds since the test began, bytes); when which event was over."""

    answers: list[Answer]
    memory: list[tuple[float, int]]
    over: dict[float, float]


def load(server: Server, client: type, seconds: float, events: Sequence[Event] = ()) -> Result:
    """Send requests of many clients for so long, and until all events are over."""
    good, broken = itertools.cycle(paint_pictures()), itertools.cycle(break_pictures())
    mixed = [[*itertools.islice(good, GOOD_FOR_ONE_BROKEN), next(broken)] for _ in range(20)]
    requests = list(itertools.chain.from_iterable(mixed))
    tickets, over = itertools.count(), threading.Event()
    result, start = Result([], [], {}), time.perf_counter()

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
                    at, happen = waiting.pop(0)
                    happen()
                    result.over[at] = time.perf_counter() - start
                over.wait(min(1, seconds / 100))
        finally:
            over.set()
        list(visitors)
    return result


def report(name: str, result: Result, seconds: float) -> Iterator[Row]:
    """Yield the rows of a test; `wanted` ends with `missed` where it is."""
    away_from, away_until = KILLED * seconds, result.over.get(STARTED, math.inf) + RECOVERY
    counts = Counter(_named(answer, away_from, away_until) for answer in result.answers)
    colored, refused, away = (counts.pop(each, 0) for each in (COLORED, REFUSED, NO_REGISTRY))
    yield Row(
        f"{name}: requests; colored; refused, being broken",
        f"{len(result.answers):,} in {seconds:.0f} s; {colored:,}; {refused:,}",
    )
    yield Row(f"{name}: refused, while the registry was away", f"{away:,}")
    wrong = ", ".join(f"{outcome}: {count}" for outcome, count in counts.most_common())
    yield _judged(Row(f"{name}: any other answer", wrong or "0", "0"), not wrong)
    for half in ("undisturbed", "disturbed"):
        times = [
            each.seconds
            for each in result.answers
            if each.outcome == COLORED and (each.sent >= seconds / 2) == (half == "disturbed")
        ]
        value = "; ".join(f"{each:.2f} s" for each in np.percentile(times or [math.nan], (50, 99)))
        yield _judged(Row(f"{name}, {half}: p50; p99 of a colored picture", value), bool(times))
    yield _grown(name, result, seconds)


def _named(answer: Answer, away_from: float, away_until: float) -> str:
    """Return an answer's outcome; that the registry is away is wrong while it is there."""
    is_away = answer.sent < away_until and answer.sent + answer.seconds > away_from
    wrong = answer.outcome == NO_REGISTRY and not is_away
    return "the registry was there, but not for the page" if wrong else answer.outcome


def _grown(name: str, result: Result, seconds: float) -> Row:
    part = min(MINUTE, seconds / 3)
    early = [size for at, size in result.memory if part <= at < 2 * part]
    late = [size for at, size in result.memory if at >= seconds - part]
    growth = statistics.median(late) / statistics.median(early)
    limit = MAX_GROWTH if seconds >= LONG else MAX_GROWTH_SHORT
    row = Row(
        f"{name}: memory in the last {part:.0f} s / in as many after {part:.0f} s",
        f"{growth:.3f} ({statistics.median(late) / 1e6:.0f} MB)",
        f"<= {limit}",
    )
    return _judged(row, growth <= limit)


def _judged(row: Row, is_met: bool) -> Row:
    return row if is_met else row._replace(wanted=f"{row.wanted}, {MISSED}")


def register_twice() -> Callable[[], None]:
    """Register the project's networks; return a function that makes another version champion."""
    client, versions = mlflow.MlflowClient(), {}
    for family in evaluation.CRITERIA:
        candidate = shipped.find(family)
        first, _ = promotion.register(candidate)
        versions[first.name] = itertools.cycle(
            (mlflow.register_model(candidate.model_uri, first.name).version, first.version)
        )

    def replace() -> None:
        for name, numbers in versions.items():
            client.set_registered_model_alias(name, lookup.CHAMPION, next(numbers))

    return replace


def measure(seconds: float, folder: Path) -> Iterator[Row]:
    """Yield the rows of both servers, each under load for so many seconds."""
    with serve_mlflow(folder / "mlflow") as store:
        os.environ["MLFLOW_TRACKING_URI"] = store.url
        replace = register_twice()
        killed = KILLED, lambda: store.end(signal.SIGKILL)
        events = [*((at, replace) for at in REPLACED), killed, (STARTED, store.start)]
        events.sort(key=lambda event: event[0])
        champion = lookup.champion_uri("pix2pix")
        with serve_model(champion, folder / "model") as server:
            result = load(server, ModelClient, seconds, events)
        yield from report("`mlflow models serve`", result, seconds)
        with serve_page(folder / "page") as server:
            result = load(server, Visitor, seconds, events)
        yield from report("page", result, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; exit with 1 if anything was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="of load on each")
    seconds = parser.parse_args(arguments).seconds
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # of `mlflow run`
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    print(f"{describe_machine()}, {CLIENTS} clients\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        print_table(rows.append(row) or row for row in measure(seconds, Path(folder)))
    sys.exit(any(MISSED in row.wanted for row in rows))


if __name__ == "__main__":
    main()
