"""All that the documentation says of speed, as one Markdown table: `python -m benchmarks`.

About three quarters of an hour on two cores. `benchmarks.serving`, `benchmarks.sweep`,
`benchmarks.cluster`, `benchmarks.quality` and `benchmarks.shapes` have tables of their own.
"""

import argparse
from pathlib import Path

from benchmarks import input, scaling, start, step, tracking
from benchmarks.machine import describe_machine
from benchmarks.table import print_table


def main() -> None:
    """Measure everything, one thing after the other, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--originals", type=Path, help="folder of 1024x1024 JPEGs to prepare")
    originals = parser.parse_args().originals
    print(f"{describe_machine()}\n")
    print_table(measure(originals))


def measure(originals: Path | None):
    """Yield the rows of one benchmark after the other, as they are measured."""
    yield from start.measure()
    yield from input.measure(originals)
    yield from step.measure()
    yield from tracking.measure()
    yield from scaling.measure()


if __name__ == "__main__":
    main()
