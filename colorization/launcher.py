"""What every entry point starts with, and `mlflow run`, which may have launched it."""

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


def start():
    """Set this process up: a log, quiet libraries, SIGTERM as SystemExit, an end with the launcher.

    Anything of TensorFlow or MLflow is to be imported after it.
    """
    logging.basicConfig(format="%(message)s")  # other libraries: warnings only
    for room in ("colorization", "serve", "sweeps"):
        logging.getLogger(room).setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stop_with_it()


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
