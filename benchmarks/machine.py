"""What stands beside figures: when and where they were measured, and in how much memory."""

import os
import platform
import re
from datetime import date
from pathlib import Path


def describe_machine() -> str:
    """Return today's date, and the cores that this process may use."""
    return f"{date.today():%-d %B %Y}, {len(os.sched_getaffinity(0))} cores of {processor()}"


def peak_memory() -> float:
    """Return the most memory that this process has held, in MiB, on Linux.

    `getrusage` would include the memory of the parent process.
    """
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10


def processor() -> str:
    """Return the name of the processor, if the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
