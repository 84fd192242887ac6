"""Watching what another library downloads: how much comes, and that it comes at all."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from colorization import limits

_SECONDS = 0.2  # between two looks


class TooLargeError(ValueError):
    """More bytes came than anything expected there has."""


class _Stop(BaseException):
    """Passes through whatever the library would catch, and try again after."""


@contextlib.contextmanager
def watch(folder: Path, most: int) -> Iterator[None]:
    """Stop a download into `folder` that takes too much, or hardly comes.

    A timer's signal interrupts it wherever it waits: in the main thread only, which downloads.

    Args:
        folder: what comes is written into files of it.
        most: bytes that all its files may have together.

    Raises:
        TooLargeError: The files have more than `most` bytes.
        TimeoutError: Fewer than `MIN_PROGRESS_BYTES` came within `PROGRESS_SECONDS`.
    """
    mark, since = _size(folder), time.monotonic()

    def look(*_: object) -> None:
        nonlocal mark, since
        size, now = _size(folder), time.monotonic()
        if size > most:
            raise _Stop(TooLargeError(f"more than {most} bytes"))
        if abs(size - mark) >= limits.MIN_PROGRESS_BYTES:  # begun anew, there are fewer
            mark, since = size, now
        elif now - since > limits.PROGRESS_SECONDS:
            least, seconds = limits.MIN_PROGRESS_BYTES, limits.PROGRESS_SECONDS
            raise _Stop(TimeoutError(f"fewer than {least} bytes within {seconds} seconds"))

    before = signal.signal(signal.SIGALRM, look)
    try:
        signal.setitimer(signal.ITIMER_REAL, _SECONDS, _SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Stop as stop:
        raise stop.args[0] from None
    finally:
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def _size(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # renamed just now
                total += entry.stat().st_size
    return total
