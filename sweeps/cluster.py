"""Workers of a study on a Dask cluster, each the process that a person would start there by hand.

A Dask worker is started in this project's folder and environment, and imports this module.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Future, get_worker

from colorization.address import redacted
from colorization.cluster import START_WORKERS, connect, require_shared, require_workers
from colorization.errors import Failure
from colorization.paths import ROOT
from colorization.process import stop_if_asked

LOOK_SECONDS = 1  # between looks at the cluster, and at what a worker does
RETRIES = 2  # of a worker that was killed or refused to work
# To the workers, from the environment here.
HANDED_ON = [f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD", "TOKEN")]
HANDED_ON += ["PGPASSWORD"]

logger = logging.getLogger(__name__)


def require(address: str, storage: str) -> None:
    """Raise a ValueError unless workers on a cluster can be started, and can share a study."""
    if not address:
        raise ValueError(
            "`workers` are started on a cluster. Expected cluster=tcp://host:8786 as well, the "
            "address of a Dask scheduler. Received: cluster=''"
        )
    require_shared("storage", storage, "postgresql://user@host/database")
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    require_shared("MLFLOW_TRACKING_URI", store, "http://host:5000")
    with connect(address) as client:
        require_workers(client)


def run(address: str, most: int, flags: Mapping[str, object], look: Callable[[], None]) -> None:
    """Keep workers of a study at work until it has ended; they end if this process does.

    There are at most `most` at a time, one on a Dask worker. If that goes, another one starts
    elsewhere. `flags` are those of `python -m sweeps`; `look` is called every `LOOK_SECONDS`.

    Raises:
        Failure: none of them came to the end of the study.
    """
    words = [f"--{name}={value}" for name, value in flags.items()]
    variables = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    tasks: dict[str, Future] = {}  # by the address of the Dask worker
    with connect(address) as client:
        while not tasks or not all(future.done() for future in tasks.values()):
            require_workers(client)
            present = client.nthreads()
            if not tasks and len(present) < most:
                fewer = "%d of %d workers of the study start: the cluster has no more yet"
                logger.warning(fewer, len(present), most)
            for place in tasks.keys() - present.keys():
                if not tasks[place].done():
                    logger.warning("%s: this worker has gone", place)
                    tasks.pop(place).cancel()
            free = [place for place in present if place not in tasks]
            for place in free[: most - len(tasks)]:
                logger.info("%s: a worker of the study starts here", place)
                tasks[place] = client.submit(
                    work, words, variables, workers=[place], retries=RETRIES, pure=False
                )
            look()
            time.sleep(LOOK_SECONDS)
            stop_if_asked()
        look()
        if not any(future.status == "finished" for future in tasks.values()):
            place, future = tasks.popitem()
            reason = redacted(future.exception() or future.status)  # cancelled with the scheduler
            raise Failure(
                f"No worker came to the end of the study. {START_WORKERS}, and a storage and "
                f"a tracking server that answer there. Received: {place}: {reason}"
            )


def work(flags: list[str], variables: dict[str, str]) -> None:
    """Be a worker of the study, on a Dask worker, until it has ended or nobody waits for it.

    The flags are those of `python -m sweeps`; the variables join those of the Dask worker.

    Raises:
        Failure: it has ended otherwise; the message has the last line of its log.
    """
    dask_worker = get_worker()
    own = dask_worker.state.tasks[dask_worker.get_current_task()]
    command = [sys.executable, "-m", "sweeps.cluster", *flags]
    with tempfile.TemporaryFile("w+") as log:
        files: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        environment = os.environ | variables
        # The pipe is closed when it is to stop, also by the end of this process.
        with subprocess.Popen(command, cwd=ROOT, env=environment, **files) as process:
            while process.poll() is None and own.state == "executing":  # not cancelled
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        log.seek(0)
        *_, last = [f"exit status {process.returncode}", *filter(str.strip, log)]
    if process.returncode:
        raise Failure(f"{last.strip()} (exit status {process.returncode})")


def _stop_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_stdin, daemon=True).start()
    from sweeps.__main__ import main

    sys.exit(main())
