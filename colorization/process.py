"""What every entry point has in common: parser, log, signals, errors and exit status.

An entry point is a function of its parsed arguments, decorated by `entry_point`.
"""

import argparse
import contextlib
import difflib
import functools
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from colorization.address import redacted, silence_links
from colorization.errors import Failure
from colorization.paths import ROOT, find_launcher, printable

EXPERIMENT = "bird-colorization"  # of runs, unless the environment or the caller names another
REFUSED = 2  # the exit status of what could not be done
# Information and warnings, which TF_CPP_MIN_LOG_LEVEL does not reach:
# https://github.com/tensorflow/tensorflow/issues/100442
NOISE = r"^(WARNING: All log messages before absl::InitializeLog|[IW][0-9]{4} [0-9:.]+ +[0-9]+ )"

logger = logging.getLogger(__name__)

_stop_requests: list[int] = []  # the signals that were to stop this process
_NAME_OWN = "import sys; from colorization import launched; launched.name_own(*sys.argv[1:])"


class _Formatter(logging.Formatter):
    """Keeps a message on one line; only a stack has several, indented: none can be forged."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102
        return printable(super().formatMessage(record))

    def formatException(self, info: Any) -> str:  # noqa: D102
        return self.formatStack(super().formatException(info))

    def formatStack(self, info: str) -> str:  # noqa: D102
        return "\n".join(f"  {printable(line)}" for line in info.split("\n"))


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the known parameters and hold nothing unprintable.

    They understand `synonyms`, other names for parameters such as `lr`.
    """

    def __init__(
        self, *args: Any, synonyms: Mapping[str, Sequence[str]] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | options)
        self.synonyms = synonyms or {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as `ArgumentParser` does; an unknown parameter ends the process here."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = sorted(action.dest for action in self._actions if action.dest != "help")
            name = unknown[0].lstrip("-").partition("=")[0]
            similar = self.synonyms.get(name) or difflib.get_close_matches(name, known, n=1)
            meant = " or ".join(f"`{each}`" for each in similar)
            self.error(
                f"Unknown parameter `{name}`. {f'Did you mean {meant}? ' * bool(meant)}"
                f"Expected one of {', '.join(known)}. Received: {' '.join(unknown)}"
            )
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """End the process with a message; the usage would hide it, and `--help` shows that."""
        sys.stderr.write(printable(f"{self.prog}: error: {message}") + "\n")
        name_run(error_name(message))
        self.exit(REFUSED)


def usable_cores() -> int:
    """Count the cores that this process may use; macOS knows no affinity."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


Body = Callable[[argparse.Namespace], int | None]


def entry_point(
    parse: Callable[[Sequence[str] | None], argparse.Namespace], stopped: str = "stopped"
) -> Callable[[Body], Callable[..., int]]:
    """Make a `main` of a function: `main(argv=None)` returns the process's exit status.

    The function is called with the parsed arguments, and returns an exit status or None for 0.
    A Failure, ValueError, OSError, FloatingPointError or MlflowException becomes a line of the log
    without secrets, and status 2; one of a library has its traceback, too. Ctrl-C gives status
    130, SIGTERM 143: `runs.open_run` ends the run that is open, and the run of `mlflow run` is
    named and ended here. The last line of the log says how to go on.

    `stopped` is what the log says after Ctrl-C and SIGTERM, before the notes of the exception.
    """

    def decorate(body: Body) -> Callable[..., int]:
        @functools.wraps(body)
        def main(argv: Sequence[str] | None = None) -> int:
            arguments = parse(argv)
            start()
            silence_links()
            try:
                return body(arguments) or 0
            except KeyboardInterrupt as stop:
                _say_goodbye(stop, stopped)
                return 128 + signal.SIGINT
            except SystemExit as stop:
                if stop.code == 128 + signal.SIGTERM:
                    _say_goodbye(stop, stopped)
                raise
            except Exception as error:
                if not _is_for_the_user(error):
                    raise
                message = refuse(error, *map(str, vars(arguments).values()))
                for note in getattr(error, "__notes__", []):
                    logger.error("%s", note)
                name_run(error_name(message))
                return REFUSED

        return main

    return decorate


def _say_goodbye(stop: BaseException, stopped: str) -> None:
    name_run("", "KILLED")
    logger.warning("%s", "; ".join([stopped, *getattr(stop, "__notes__", [])]))


def refuse(error: object, *addresses: str) -> str:
    """Log an error without the secrets of addresses, and with a traceback if it is a library's.

    Returns:
        The message that was logged.
    """
    message = redacted(error, *addresses)
    needs_traceback = isinstance(error, ValueError) and not _is_ours(error)
    logger.error("error: %s", message, exc_info=needs_traceback)
    return message


def _is_ours(error: ValueError) -> bool:
    """Tell whether this project's code has raised an error, so that its sentence is enough.

    Keras also says what it received, and `int("x")` is raised in our code, but not by it.
    """
    if isinstance(error, Failure):
        return True
    raised_in = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    here = bool(raised_in) and Path(raised_in[-1]).is_relative_to(ROOT)
    return here and "Received" in str(error)


def _is_for_the_user(error: Exception) -> bool:
    mlflow = sys.modules.get("mlflow.exceptions")  # not imported where it is not needed
    kinds = (Failure, ValueError, OSError, FloatingPointError)
    return isinstance(error, (*kinds, mlflow.MlflowException) if mlflow else kinds)


def set_up_log() -> None:
    """Write this project's log to stderr, and warnings of other libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    for package in ("colorization", "serve", "sweeps"):
        logging.getLogger(package).setLevel(logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # advice about tracing
    logging.getLogger("colorizer").setLevel(logging.ERROR)  # what a server says of its model


def start() -> None:
    """Set this process up: log, quiet libraries, experiment, signals, an end with `mlflow run`.

    Call it before TensorFlow and MLflow are imported.
    """
    set_up_log()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    _hear_signals()
    stop_with_mlflow_run()


def _hear_signals() -> None:
    """Stop at the first signal, and ignore a SIGTERM after it, which would break the run's end.

    On Ctrl-C, which this process receives as well, `mlflow run` sends a SIGTERM.
    """

    def stop(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _stop_requests.append(number)
        stop_if_asked()

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored
        signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def stop_if_asked() -> None:
    """Stop if a signal has asked for it: what is raised in an import or a `__del__` is lost."""
    if _stop_requests:
        first = _stop_requests[0]
        raise KeyboardInterrupt if first == signal.SIGINT else SystemExit(128 + first)


def hold_signals() -> Callable[[], None]:
    """Hold SIGINT and SIGTERM back until the returned function is called, which raises for them.

    What a handler raises inside C++ code, such as TensorFlow's tracing, is lost or crashes the
    process.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # signals arrive in the main thread only
    held: list[int] = []
    handlers = {
        number: signal.signal(number, lambda received, _: held.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    def release() -> None:
        while handlers:  # called again, it restores nothing: SIGTERM may be ignored by now
            signal.signal(*handlers.popitem())
        while held:
            signal.raise_signal(held.pop(0))

    return release


def import_tensorflow() -> None:
    """Import TensorFlow without `NOISE`; all else that it writes to stderr is shown.

    Call it before what imports TensorFlow or Keras. A signal stops the process after it: what a
    handler raises while libraries of C++ are loaded may be lost.
    """
    if "tensorflow" in sys.modules:
        return
    stderr = os.dup(2)
    # Another process, since this one may be aborted by what it has written last; in a session of
    # its own, since Ctrl-C would end it.
    command = ["grep", "--line-buffered", "-Ev", NOISE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stderr, start_new_session=True
    ) as shown:
        os.dup2(shown.stdin.fileno(), 2)  # type: ignore[union-attr]
        release_signals = hold_signals()
        try:
            importlib.import_module("tensorflow")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            release_signals()


def error_name(message: str) -> str:
    """Return the name of a run that did no more than complain: `error: unknown parameter epoch`."""
    sentence = printable(message.split(". ")[0]).replace("`", "").rstrip(".")
    return f"error: {sentence[:1].lower()}{sentence[1:80]}"


def name_run(name: str, status: str = "") -> None:
    """Name the run that `mlflow run` opened, and end it, unless this process has attached to it.

    Another process does it, by `launched.name_own`: a signal may have interrupted an import of
    MLflow here.
    """
    if "MLFLOW_RUN_ID" in os.environ:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # by default minutes, if it is away
        command = [sys.executable, "-c", _NAME_OWN, name, status]
        subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)


def stop_with_mlflow_run() -> None:
    """End with `mlflow run`: if only that is killed, this process would go on training."""
    launcher = find_launcher()
    if launcher:
        import psutil

        def follow() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                while launcher.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, daemon=True).start()
