"""What stands beside figures: when and where they were measured."""

import os
import platform
from datetime import date
from pathlib import Path


def describe_machine() -> str:
    """Return today's date, and the cores that this process may use."""
    return f"{date.today():%-d %B %Y}, {len(os.sched_getaffinity(0))} cores of {processor()}"


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
