"""Real servers on loopback: a model's, the page, MLflow's own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Self

import psutil

from colorization.paths import ROOT


class Server:
    """A server with all its processes, which runs as long as it is entered.

    Args:
        words: its command after `python -m`, with `{port}` in the place of the port.
        folder: where it works and keeps its files, its log among them.
        answers: path that it answers under once it is ready; without one, nobody waits for it.
    """

    def __init__(self, words: str, folder: Path, answers: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._words, self._folder, self._answers = words, folder, answers
        folder.mkdir(parents=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it answers.

        Raises:
            RuntimeError: it has ended, or did not answer within two minutes.
        """
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        places = {"PATH": scripts, "PYTHONPATH": str(ROOT), "TMPDIR": str(self._folder)}
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._words.format(port=self.port).split()],
                cwd=self._folder,
                env=os.environ | places,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while self._answers:
            try:
                urllib.request.urlopen(self.url + self._answers, timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end()
                log = (self._folder / "log").read_text()
                raise RuntimeError(f"No answer from {self.url}{self._answers}:\n{log[-2000:]}")

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to its processes and wait for the first of them."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, by)
            self._process.wait(60)

    def resident(self) -> int:
        """Return the bytes of memory of its largest process: the one that holds the model."""
        return max(each.memory_info().rss for each in self._processes())

    def processor_seconds(self) -> float:
        """Return the seconds that its processes have computed so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


def serve_model(model: str, folder: Path, workers: int = 1, answers: str = "/ping") -> Server:
    """Return `mlflow models serve` of a model, by its URI or path."""
    words = f"mlflow models serve -m {model} -p {{port}} --workers {workers} --env-manager local"
    return Server(words, folder, answers)


def serve_page(folder: Path) -> Server:
    """Return the page over the store that `MLFLOW_TRACKING_URI` names."""
    return Server("serve.page --port {port}", folder, "/")


def serve_mlflow(folder: Path) -> Server:
    """Return MLflow's server, with a store of its own."""
    words = "mlflow server --port {port} --workers 1 --backend-store-uri sqlite:///mlflow.db"
    return Server(f"{words} --artifacts-destination {folder}/artifacts", folder, "/health")
