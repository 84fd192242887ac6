"""Watches another library's download: its size and its progress."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from colorization import limits

_SECONDS = 0.2  # between two looks


class TooLargeError(ValueError):
    """What was downloaded or would be unpacked is larger than anything expected."""


class _Stop(BaseException):
    """A BaseException, since a library catches others and tries again."""


@contextlib.contextmanager
def watch(folder: Path, most: int) -> Iterator[None]:
    """Stop a download into `folder` that is too large or too slow.

    SIGALRM interrupts it wherever it waits; so it has to run in the main thread.

    Raises:
        TooLargeError: all files in the folder have more than `most` bytes together.
        TimeoutError: fewer than `MIN_PROGRESS_BYTES` came within `PROGRESS_SECONDS`.
    """
    mark, since = _size(folder), time.monotonic()

    def look(*_: object) -> None:
        nonlocal mark, since
        size, now = _size(folder), time.monotonic()
        if size > most:
            raise _Stop(TooLargeError(f"more than {most} bytes"))
        if abs(size - mark) >= limits.MIN_PROGRESS_BYTES:  # fewer after a restart
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
