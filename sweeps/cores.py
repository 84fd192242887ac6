"""The cores that a worker leaves to the others of its machine."""

import contextlib
import os
import socket

ME = f"{socket.gethostname()}:{os.getpid()}"

_MINE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def share(workers):
    """Keep to this process's share of the cores, as far as the system knows how (Linux does).

    TensorFlow's threads stay as many as they are, since a training's results depend on that.

    Args:
        workers: those at work in this study, on any machine, as `ME` is written.
    """
    host = ME.rpartition(":")[0]
    here = sorted({ME, *(each for each in workers if each.rpartition(":")[0] == host)})
    index, count = here.index(ME), len(here)
    if _MINE:
        cores = _MINE[index::count] or [_MINE[index % len(_MINE)]]
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.sched_setaffinity(int(thread), cores)
