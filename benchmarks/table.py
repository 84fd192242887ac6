"""Rows of a Markdown table, and timings taken in turns."""

import os
import statistics
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: str
    wanted: str = ""


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows as Markdown, each as soon as there is one.

    What the measured code prints, in processes of its own as well, goes where errors go.
    """
    sys.stdout.flush()
    with open(os.dup(1), "w") as table:
        os.dup2(2, 1)
        try:
            print("| measured | value | wanted |\n| --- | --- | --- |", file=table)
            for row in rows:
                line = f"| {row.what} | {row.measured} | {row.wanted} |"
                print(line, file=table, flush=True)
        finally:
            sys.stdout.flush()
            os.dup2(table.fileno(), 1)


def seconds_of(call, *arguments) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def side_by_side(*calls, rounds: int) -> list[list[float]]:
    """Seconds of each call, taken in turns so that noise falls on all alike.

    The first tenth of the rounds is a warm-up, and not returned.
    """
    seconds = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            taken.append(seconds_of(call))
    return [taken[rounds // 10 :] for taken in seconds]


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))
