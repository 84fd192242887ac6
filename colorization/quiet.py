"""TensorFlow without the lines that it writes to stderr while it is imported."""

import importlib
import os
import subprocess
import sys

from colorization.process import hold_signals

# Information and warnings, which TF_CPP_MIN_LOG_LEVEL does not reach:
# https://github.com/tensorflow/tensorflow/issues/100442
NOISE = r"^(WARNING: All log messages before absl::InitializeLog|[IW][0-9]{4} [0-9:.]+ +[0-9]+ )"


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
