"""What every entry point starts with, and `mlflow run`, which may have launched it."""

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

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
    """A parser of a command line that repeats nothing unprintable of it."""

    def error(self, message):
        """End the process with a message."""
        super().error(printable(message))


def log():
    """Write what this project logs to stderr; of other libraries warnings only."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    for room in ("colorization", "serve", "sweeps"):
        logging.getLogger(room).setLevel(logging.INFO)


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
