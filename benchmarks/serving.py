"""How fast the colorizer serves, beside its peers: `python -m benchmarks.serving`.

Everything is measured in one run and side by side, as ratios, because the machine is never
quiet; prints a Markdown table. About three minutes on two cores.
"""

import argparse
import base64
import dataclasses
import http.client
import io
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
from PIL import Image

from benchmarks.picture import paint_jpeg
from benchmarks.table import Row, median_ratio, print_table, side_by_side
from colorization import tracking
from colorization.pictures import DEFAULT_MAX_PIXELS
from serve import pyfunc

ROUNDS = 100
CLIENTS = 16


def build_network(filters: int):
    """The default pix2pix generator, untrained: the cost of a colorizer, without its skill."""
    from colorization.config import VARIANTS
    from colorization.models import build

    config = dataclasses.replace(VARIANTS["pix2pix"], filters=filters)
    network = build.build_plain(config, 128)
    network(np.zeros((1, 128, 128, 3), "float32"))
    return network


def save_pyfunc(network, folder: Path, trained_on: str = "") -> str:
    """Save a Keras network as the served model; returns its path."""
    network.export(folder / "generator.onnx", format="onnx", verbose=False)
    mlflow.pyfunc.save_model(
        folder / "model",
        **tracking.MODEL_CODE,
        model_config={"trained_on": trained_on},
        artifacts={"generator": str(folder / "generator.onnx")},
        signature=tracking.SIGNATURE,
        pip_requirements=[f"{name}=={version(name)}" for name in tracking.REQUIREMENTS],
    )
    return str(folder / "model")


def bare_script(session, jpeg: bytes, colored: bytes):
    """The least that colors a picture: decode, forward, stretch, encode."""
    feed = session.get_inputs()[0]
    _, side, _, channels = feed.shape
    result = Image.open(io.BytesIO(colored)).convert("RGB")

    def run():
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        gray = np.asarray(image.convert("L").resize((side, side)), np.float32)
        rgb = session.run(None, {feed.name: gray[None, :, :, None].repeat(channels, -1)})[0]
        Image.fromarray(rgb[0].astype(np.uint8)).resize(image.size)
        result.save(io.BytesIO(), "PNG", **pyfunc.WRITABLE["png"])  # the same bytes as predict

    return run


class KerasSession:
    """`keras.Model.predict` in the place of the ONNX Runtime session."""

    def __init__(self, network, session):
        self._network, self._session = network, session

    def get_inputs(self):
        """What the ONNX network takes: the two are the same network."""
        return self._session.get_inputs()

    def run(self, _, feed):
        """Answer as `InferenceSession.run` does."""
        return [self._network.predict(next(iter(feed.values())), verbose=0)]


def compare_in_process(model, network, jpeg: bytes) -> list[Row]:
    """Rows of `predict` beside the bare script and beside Keras."""
    rows = pd.DataFrame({"image": [jpeg]})
    inside = model.unwrap_python_model()
    calls = [
        lambda: model.predict(rows),
        bare_script(inside._session, jpeg, model.predict(rows)["image"][0]),
    ]
    if network is not None:
        beside = pyfunc.Colorizer()
        beside._session = KerasSession(network, inside._session)
        beside._max_pixels = DEFAULT_MAX_PIXELS
        calls.append(lambda: beside.predict(None, rows))
    ours, bare, *keras = side_by_side(*calls, rounds=ROUNDS)
    table = [
        Row(
            "`predict` on one JPEG / bare decode + forward + encode",
            f"{median_ratio(ours, bare):.2f} ({statistics.median(ours) * 1e3:.1f} ms)",
            "<= 1.2",
        )
    ]
    for peer in keras:
        ratio = f"{median_ratio(peer, ours):.1f} ({statistics.median(peer) * 1e3:.0f} ms)"
        table.append(Row("`keras.Model.predict` in the same pyfunc / ours", ratio, ">= 3"))
    return table


def forward_only(session):
    """The network alone, on one picture."""
    feed = session.get_inputs()[0]
    gray = np.zeros((1, *feed.shape[1:]), np.float32)
    return lambda: session.run(None, {feed.name: gray})


def calls_per_second(call, threads: int, seconds: float = 5.0) -> float:
    """The throughput of a call from so many threads."""
    deadline = time.perf_counter() + seconds

    def work(_):
        count = 0
        while time.perf_counter() < deadline:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads))) / seconds


def save_empty(folder: Path) -> str:
    """Save a pyfunc that answers with what it gets: what is left is MLflow; returns its path."""
    source = folder / "empty.py"
    source.write_text(
        "import mlflow\n"
        "class Empty(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input\n"
        "mlflow.models.set_model(Empty())\n"
    )
    mlflow.pyfunc.save_model(
        folder / "empty",
        python_model=str(source),
        signature=tracking.SIGNATURE,
        pip_requirements=[],
    )
    return str(folder / "empty")


@contextmanager
def serving(model: str):
    """Run `mlflow models serve`; yields its process and port at once, before it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, "--env-manager", "local"],
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process, port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def post(connection: http.client.HTTPConnection, body: bytes) -> bool:
    """Send one request over a kept connection; return whether it was answered with a 200."""
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return bool(response.read()) and response.status == 200
    except (OSError, http.client.HTTPException):
        connection.close()
        return False


def flood(port: int, body: bytes, requests: int) -> tuple[float, int]:
    """Send requests from many clients; returns answers per second and the number of errors."""
    tickets = itertools.count()

    def work(_):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        return [post(connection, body) for _ in iter(lambda: next(tickets) < requests, False)]

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(itertools.chain.from_iterable(pool.map(work, range(CLIENTS))))
    return len(answers) / (time.perf_counter() - start), answers.count(False)


def seconds_to_first_answer(port: int, body: bytes) -> float:
    """Wait for the first colored picture of a server that was just started."""
    start = time.perf_counter()
    while time.perf_counter() < start + 120:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        if post(http.client.HTTPConnection("127.0.0.1", port), body):
            return time.perf_counter() - start
    raise TimeoutError("mlflow models serve gave no answer within 120 seconds")


def resident(process: subprocess.Popen) -> int:
    """Bytes of the largest process of the server: the one that holds the model."""
    family = psutil.Process(process.pid).children(recursive=True)
    return max(member.memory_info().rss for member in family)


def compare_over_http(model, path: str, jpeg: bytes, requests: int) -> list[Row]:
    """Rows of the real server: latency, throughput, memory, start."""
    text = base64.b64encode(jpeg).decode()
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text]]}}).encode()
    rows = pd.DataFrame({"image": [jpeg]})
    session = model.unwrap_python_model()._session
    forward = forward_only(session)
    bare = bare_script(session, jpeg, model.predict(rows)["image"][0])
    with tempfile.TemporaryDirectory() as folder, serving(save_empty(Path(folder))) as (_, port):
        empty_start = seconds_to_first_answer(port, body)
        empty_served, _ = flood(port, body, 400)
    with serving(path) as (process, port):
        start = seconds_to_first_answer(port, body)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        over_http, inside = side_by_side(
            lambda: post(connection, body), lambda: model.predict(rows), rounds=ROUNDS
        )
        cost = statistics.median(one - other for one, other in zip(over_http, inside, strict=True))
        flood(port, body, 200)
        early = resident(process)
        alone = calls_per_second(forward, os.cpu_count())
        served, errors = flood(port, body, requests - 200)
        alone = (alone + calls_per_second(forward, os.cpu_count())) / 2
        bare_served = calls_per_second(bare, os.cpu_count())
        late = resident(process)
    p50 = statistics.median(over_http) * 1e3
    clients = f"HTTP, {CLIENTS} clients"
    return [
        Row(
            "HTTP, one client: p50 - `predict`",
            f"{cost * 1e3:.1f} ms (p50 {p50:.1f} ms)",
            "<= 10 ms",
        ),
        Row(
            f"{clients}: answers / forwards of the network alone",
            f"{served / alone:.2f} ({served:.0f}/s, {alone:.0f}/s)",
            ">= 0.85",
        ),
        Row(
            f"{clients}: answers / bare decode + forward + encode, without a server",
            f"{served / bare_served:.2f} ({bare_served:.0f}/s)",
            "",
        ),
        Row(
            f"{clients}: answers / those of an empty pyfunc, which decodes no picture",
            f"{served / empty_served:.2f} ({empty_served:.0f}/s)",
            "",
        ),
        Row(f"{clients}: errors", str(errors), "0"),
        Row(
            f"RSS after {requests} requests / after 200",
            f"{late / early:.2f} ({late / 1e6:.0f} MB)",
            "<= 1.10",
        ),
        Row("start of the process to the first answer", f"{start:.1f} s", "<= 5 s"),
        Row("the same / that of an empty pyfunc", f"{start / empty_start:.2f}", ""),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", help="URI or path of a served model; default: a fresh pix2pix")
    parser.add_argument("--keras", help="the same network as a .keras file, to compare with")
    parser.add_argument("--filters", type=int, default=16, help="of the fresh network")
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args(arguments)
    jpeg = paint_jpeg()
    with tempfile.TemporaryDirectory() as folder:
        path, network = options.model, None
        if path is None:
            network = build_network(options.filters)
            print(
                f"A fresh pix2pix generator of {network.count_params() / 1e6:.1f}M parameters,",
                end=" ",
            )
            path = save_pyfunc(network, Path(folder))
        elif options.keras:
            import keras

            network = keras.saving.load_model(options.keras, compile=False)
        print(f"a JPEG of {len(jpeg) / 1000:.0f} KB, {os.cpu_count()} cores.\n")
        model = mlflow.pyfunc.load_model(path)
        table = compare_in_process(model, network, jpeg)
        print_table(table + compare_over_http(model, path, jpeg, options.requests))


if __name__ == "__main__":
    main()
