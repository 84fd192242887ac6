import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

from benchmarks.saved import save_pyfunc

pytestmark = pytest.mark.slow  # a real server

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"
INTERPRETER = Path(sys.executable).parent


@pytest.fixture(scope="session")
def served_model(tmp_path_factory):
    """A colorizer that tints everything red, by its own file and requirements."""
    folder = tmp_path_factory.mktemp("served")
    grays = keras.Input((128, 128, 3))
    tinted = layers.ReLU(max_value=255.0)(layers.Rescaling(1.0, (40.0, -10.0, -20.0))(grays))
    network = keras.Model(grays, tinted)
    network(np.zeros((1, 128, 128, 3), "float32"))
    return Path(save_pyfunc(network, folder, trained_on="painted birds"))


@contextmanager
def serving(model, binaries, log):
    """Run `mlflow models serve` of the environment `binaries` is from; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"COLORIZER_MAX_PIXELS": "1000000"}
    environment.pop("PYTHONPATH", None)
    command = [binaries / "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    with open(log, "w") as output:
        process = subprocess.Popen(
            [*command, "--env-manager", "local"],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_alive(process, address, log)
        yield address
        assert process.poll() is None, "the server died"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def wait_until_alive(process, address, log, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"mlflow models serve did not answer:\n{log.read_text()}")


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """The file that the server writes its log to."""
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="session")
def address(served_model, log):
    with serving(served_model, INTERPRETER, log) as address:
        yield address


def post(address, body, content_type=JSON):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def paint(seed=0, size=(60, 40)):
    noise = np.random.default_rng(seed).integers(60, 180, (4, 6, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def text(data):
    return base64.b64encode(data).decode()


def split(*cells, **params):
    rows = {"columns": ["image"], "data": [[cell] for cell in cells]}
    return {"dataframe_split": rows} | ({"params": params} if params else {})


def pictures(answer):
    status, body = answer
    assert status == 200, body
    rows = json.loads(body)["predictions"]
    return [Image.open(io.BytesIO(base64.b64decode(row["image"]))) for row in rows]


def assert_tinted(colored, picture):
    assert colored.size == picture.size
    lumas = [np.asarray(image.convert("L"), int) for image in (colored, picture)]
    assert np.abs(lumas[0] - lumas[1]).max() <= 2
    red, green, blue = np.asarray(colored.convert("RGB"), int).reshape(-1, 3).mean(axis=0)
    assert red > green > blue


def refusal(address, body):
    """The words of our own code, without MLflow's "Failed to predict data '...'" before them."""
    status, answer = post(address, body)
    assert status == 400
    answer = json.loads(answer)
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "stack_trace" not in answer
    assert answer["message"] and "\n" not in answer["message"]
    return answer["message"]


# What goes in


PICTURE, OTHER = paint(), paint(seed=1, size=(30, 50))
DATA, OTHER_DATA = encode(PICTURE), encode(OTHER, "JPEG", quality=100, subsampling=0)


@pytest.mark.parametrize(
    "body",
    [
        split(text(DATA), text(OTHER_DATA)),
        {"dataframe_records": [{"image": text(DATA)}, {"image": text(OTHER_DATA)}]},
        {"inputs": {"image": [text(DATA), text(OTHER_DATA)]}},
        {"inputs": [{"image": text(DATA)}, {"image": text(OTHER_DATA)}]},
        {"inputs": [text(DATA), text(OTHER_DATA)]},
        {"instances": [{"image": text(DATA)}, {"image": text(OTHER_DATA)}]},
        {"instances": [text(DATA), text(OTHER_DATA)]},
    ],
    ids=["split", "records", "inputs", "inputs-rows", "inputs-text", "instances", "instances-text"],
)
def test_every_json_form_is_colored(address, body):
    one, other = pictures(post(address, body))
    assert_tinted(one, PICTURE)
    assert_tinted(other, OTHER)


@pytest.mark.parametrize("cell", [DATA, text(DATA)], ids=["bytes", "text"])
def test_parquet_is_colored(address, cell):
    buffer = io.BytesIO()
    pd.DataFrame({"image": [cell, cell]}).to_parquet(buffer)
    for colored in pictures(post(address, buffer.getvalue(), PARQUET)):
        assert_tinted(colored, PICTURE)


def test_csv_of_base64_is_colored(address):
    (colored,) = pictures(post(address, f"image\n{text(DATA)}\n".encode(), "text/csv"))
    assert_tinted(colored, PICTURE)


def test_predict_in_python_is_colored(served_model):
    model = mlflow.pyfunc.load_model(str(served_model))
    for cell in (DATA, text(DATA)):
        answer = model.predict(pd.DataFrame({"image": [cell]}))
        assert_tinted(Image.open(io.BytesIO(answer["image"][0])), PICTURE)


def test_a_data_url_in_inputs_is_colored(address):
    body = {"inputs": {"image": ["data:image/png;base64," + text(DATA)]}}
    assert_tinted(pictures(post(address, body))[0], PICTURE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_is_colored(address, mode):
    picture = paint().convert(mode)
    data = encode(picture, "TIFF" if mode == "CMYK" else "PNG")
    (colored,) = pictures(post(address, split(text(data))))
    assert colored.size == picture.size
    assert colored.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
    if mode != "I;16":
        difference = np.asarray(colored.convert("L"), int) - np.asarray(picture.convert("L"), int)
        assert np.abs(difference).max() <= 2


def test_params_arrive_over_http(address):
    params = {"format": "webp", "size": "model", "tta": True, "saturation": 0}
    (colored,) = pictures(post(address, split(text(DATA), **params)))
    assert (colored.format, colored.size) == ("WEBP", (128, 128))
    assert np.ptp(np.asarray(colored.convert("RGB"), int), axis=-1).mean() < 3
    (vivid,) = pictures(post(address, split(text(DATA), saturation=2)))
    (plain,) = pictures(post(address, split(text(DATA))))
    assert np.ptp(np.asarray(vivid, int), axis=-1).mean() > 40
    assert np.ptp(np.asarray(plain, int), axis=-1).mean() > 20


def test_a_whole_number_passes_for_saturation(address):
    (gray,) = pictures(post(address, split(text(DATA), saturation=0)))
    assert np.ptp(np.asarray(gray, int), axis=-1).max() == 0


def test_the_server_s_log_says_that_the_model_knows_only_paintings(address, log):
    assert "This model was trained on painted birds only" in log.read_text()


# What is refused, and that the server outlives it


@pytest.mark.parametrize(
    ("params", "name"),
    [({"format": "bmp"}, "format"), ({"size": "huge"}, "size"), ({"saturation": 3}, "saturation")],
)
def test_a_param_out_of_range_is_a_400_that_names_it(address, params, name):
    assert f"'{name}'" in refusal(address, split(text(DATA), **params))


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "empty"),
        (text(b"no picture, however long" * 99), "is not a JPEG"),
        (text(DATA[: len(DATA) // 2]), "truncated PNG"),
        (text(OTHER_DATA[:-200]), "truncated JPEG"),
        (text(encode(Image.new("1", (1001, 1000)))), "1001 x 1000 pixels"),
    ],
    ids=["empty", "junk", "cut PNG", "cut JPEG", "too large"],
)
def test_a_bad_picture_is_a_400_that_names_its_row(address, cell, reason):
    message = refusal(address, split(text(DATA), cell, text(DATA)))
    assert message.startswith("Row 1: ")
    assert reason in message
    assert cell[:16] not in message or not cell


def test_a_path_is_never_read(address, tmp_path):
    path = tmp_path / "robin.png"
    path.write_bytes(DATA)
    for name in (str(path), path.as_uri()):
        assert refusal(address, {"inputs": {"image": [name]}}).startswith("Row 0: ")
        assert post(address, split(name))[0] == 400
        assert refusal(address, split(text(name.encode()))).startswith("Row 0: ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        [1],
        {"picture": 1},
        split(None),
        split(5),
        split("a"),
        split("data:image/png;base64," + text(DATA)),
        split(text(DATA), tta="yes"),
        split(text(DATA), saturation="much"),
        {"dataframe_split": {"columns": ["picture"], "data": [[text(DATA)]]}},
        {"inputs": {"image": [1, 2]}},
        {"inputs": [[text(DATA)], []]},
    ],
)
def test_what_mlflow_itself_refuses_is_a_400(address, body):
    assert post(address, body)[0] == 400


def test_the_server_is_alive_after_every_refusal(address):
    for _ in range(3):
        for cell in (
            "",
            text(b"junk!"),
            text(DATA[:60]),
            text(encode(Image.new("1", (2000, 999)))),
        ):
            refusal(address, split(cell))
    with urllib.request.urlopen(f"{address}/ping", timeout=10) as response:
        assert response.status == 200
    assert_tinted(pictures(post(address, split(text(DATA))))[0], PICTURE)


# Far from home


RESTORE = """
import pathlib, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.DataFrame({"image": [pathlib.Path(sys.argv[2]).read_bytes()]})
pathlib.Path(sys.argv[3]).write_bytes(model.predict(rows)["image"][0])
foreign = {"tensorflow", "keras", "torch", "colorization", "serve", "sklearn"} & set(sys.modules)
sys.exit(f"imported {foreign}" if foreign else 0)
"""


@pytest.fixture(scope="session")
def bare_environment(served_model, tmp_path_factory):
    """An environment of the model's own requirements, and nothing else."""
    uv = shutil.which("uv") or shutil.which("uv", path=INTERPRETER)
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("bare") / "venv"
    python = ".".join(map(str, sys.version_info[:2]))
    subprocess.run([uv, "venv", "-q", "-p", python, folder], check=True)
    install = [uv, "pip", "install", "-q", "-p", folder / "bin" / "python"]
    subprocess.run([*install, "-r", served_model / "requirements.txt"], check=True)
    return folder


@pytest.fixture
def moved_model(served_model, tmp_path):
    shutil.copytree(served_model, tmp_path / "elsewhere" / "copy")
    return tmp_path / "elsewhere" / "copy"


def test_the_model_is_restored_by_its_requirements_alone(bare_environment, moved_model, tmp_path):
    (tmp_path / "in.png").write_bytes(DATA)
    paths = [moved_model, tmp_path / "in.png", tmp_path / "out.png"]
    python = bare_environment / "bin" / "python"
    subprocess.run([python, "-I", "-c", RESTORE, *paths], check=True, cwd=tmp_path)
    assert_tinted(Image.open(tmp_path / "out.png"), PICTURE)


def test_the_model_is_served_by_its_requirements_alone(bare_environment, moved_model, tmp_path):
    with serving(moved_model, bare_environment / "bin", tmp_path / "log") as address:
        assert_tinted(pictures(post(address, split(text(DATA))))[0], PICTURE)
        assert refusal(address, split(text(b"junk!"))).startswith("Row 0: ")
        table = io.BytesIO()
        pd.DataFrame({"image": [DATA]}).to_parquet(table)
        assert_tinted(pictures(post(address, table.getvalue(), PARQUET))[0], PICTURE)


def test_the_serving_environment_stays_below_350_megabytes(bare_environment):
    """As it is installed: Python may add 100 MB of bytecode, at once or when it is used."""
    files = [path for path in bare_environment.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix != ".pyc") < 350e6


def test_a_model_that_was_trained_here_is_served(trained, tracking_server, tmp_path, monkeypatch):
    _, run = trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    model = f"models:/{run.outputs.model_outputs[0].model_id}"
    with serving(model, INTERPRETER, tmp_path / "log") as address:
        (colored,) = pictures(post(address, split(text(DATA), tta=True)))
    assert colored.size == PICTURE.size
    lumas = [np.asarray(image.convert("L"), int) for image in (colored, PICTURE)]
    assert np.abs(lumas[0] - lumas[1]).max() <= 2
