"""What every entry point has in common: its parser, its log, signals, errors and exit status.

An entry point is a function of its parsed arguments, decorated by `entry_point`. `mlflow run` may
have launched it.
"""

import argparse
import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import psutil

from colorization.address import redacted, silence_links

REFUSED = 2  # the exit status of what could not be done

logger = logging.getLogger(__name__)

END_RUN = """
import os, mlflow
client, run_id = mlflow.MlflowClient(), os.environ["MLFLOW_RUN_ID"]
if client.get_run(run_id).info.status == "RUNNING":
    client.set_terminated(run_id, "KILLED")
"""


def printable(text):
    """Write what is not printable as an escape: line breaks, terminal codes, right-to-left marks.

    Names of files may hold them, to forge lines of a log or to steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _printable_lines(text):
    return "\n".join(map(printable, text.split("\n")))


class _Formatter(logging.Formatter):
    """Keeps a message in its line; only a traceback has several."""

    def formatMessage(self, record):  # noqa: D102
        return printable(super().formatMessage(record))

    def formatException(self, info):  # noqa: D102
        return _printable_lines(super().formatException(info))

    def formatStack(self, info):  # noqa: D102
        return _printable_lines(super().formatStack(info))


class Parser(argparse.ArgumentParser):
    """A parser that names the known parameters, and repeats nothing unprintable."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | options)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Parse as `ArgumentParser` does; an unknown parameter ends the process here."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = sorted(action.dest for action in self._actions if action.dest != "help")
            self.error(
                f"Unknown parameter. Expected one of {', '.join(known)}. "
                f"Received: {' '.join(unknown)}"
            )
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """End the process with a message."""
        super().error(printable(message))


Body = Callable[[argparse.Namespace], int | None]
Main = Callable[[Sequence[str] | None], int]


def entry_point(
    parse: Callable[[Sequence[str] | None], argparse.Namespace], stopped: str = "stopped"
) -> Callable[[Body], Callable[..., int]]:
    """Make a `main` of a function: `main(argv=None)` returns the process's exit status.

    The function is called with the parsed arguments, and returns an exit status or None for 0.
    What it raises for the user (ValueError, OSError, FloatingPointError, MlflowException) becomes
    one line of the log without secrets, and status 2. Ctrl-C gives status 130, SIGTERM 143, and
    the run that `mlflow run` opened is closed.

    Args:
        parse: function of the command line, see `Parser`.
        stopped: what the log says after Ctrl-C.
    """

    def decorate(body: Body) -> Callable[..., int]:
        @functools.wraps(body)
        def main(argv: Sequence[str] | None = None) -> int:
            arguments = parse(argv)
            start()
            silence_links()
            try:
                return body(arguments) or 0
            except KeyboardInterrupt:
                logger.warning("%s", stopped)
                end_run()
                return 128 + signal.SIGINT
            except SystemExit as stop:
                if stop.code == 128 + signal.SIGTERM:
                    end_run()
                raise
            except Exception as error:
                if not _is_for_the_user(error):
                    raise
                refuse(error, *map(str, vars(arguments).values()))
                return REFUSED

        return main

    return decorate


def refuse(error: object, *addresses: str) -> None:
    """Log an error without the secrets of addresses, and with a traceback if it is not ours.

    Args:
        error: what was raised, or a sentence.
        *addresses: that it may quote, beside that of the tracking server.
    """
    mlflow = sys.modules.get("mlflow")
    known = [*addresses, mlflow.get_tracking_uri()] if mlflow else addresses
    # Our own errors end with what was received. Of a library's the traceback tells where.
    foreign = isinstance(error, ValueError) and "Received" not in str(error)
    logger.error("error: %s", redacted(error, *known), exc_info=foreign)


def _is_for_the_user(error: Exception) -> bool:
    mlflow = sys.modules.get("mlflow.exceptions")  # not imported where it is not needed
    kinds = (ValueError, OSError, FloatingPointError)
    return isinstance(error, (*kinds, mlflow.MlflowException) if mlflow else kinds)


def log():
    """Write what this project logs to stderr; of other libraries warnings only."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    for package in ("colorization", "serve", "sweeps"):
        logging.getLogger(package).setLevel(logging.INFO)


def _interrupt():
    raise KeyboardInterrupt


def _exit():
    sys.exit(128 + signal.SIGTERM)


def start(terminate=_exit):
    """Set this process up: a log, quiet libraries, signals, an end with the launcher.

    Anything of TensorFlow or MLflow is to be imported after it.

    Args:
        terminate: function to call on SIGTERM; it raises.
    """
    log()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    _hear_signals(terminate)
    stop_with_it()


def _hear_signals(terminate):
    """Stop at the first signal: a SIGTERM after it would break the closing of the run.

    `mlflow run` sends one after each Ctrl-C, which this process has received as well.
    """

    def once(stop):
        def handle(*_):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stop()

        return handle

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, once(_interrupt))
    signal.signal(signal.SIGTERM, once(terminate))


def end_run():
    """End the run that `mlflow run` opened, if this process was stopped before it attached.

    Another process does it: the stop may have come amid an import of MLflow, which is broken then.
    """
    if "MLFLOW_RUN_ID" in os.environ:
        subprocess.run([sys.executable, "-c", END_RUN], check=False)


def stop_with_it():
    """End with `mlflow run`: killed alone, it would leave this process training on unseen."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    ancestors = psutil.Process().parents()
    launcher = next((each for each in ancestors if _is_mlflow_run(each)), None)
    if launcher:

        def follow():
            with contextlib.suppress(psutil.NoSuchProcess):
                while launcher.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()


def _is_mlflow_run(process):
    with contextlib.suppress(psutil.Error):  # another user's process
        words = {os.path.basename(word) for word in process.cmdline()}
        return {"mlflow", "run"} <= words
    return False
