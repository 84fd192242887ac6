"""Weights of others: brought from real servers, loaded without their code, read by a probe."""

import contextlib
import dataclasses
import datetime
import gzip
import hashlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import h5py
import keras
import mlflow
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from keras import layers

from colorization import color, evaluation, limits
from colorization.__main__ import main
from colorization.config import HEADS, VARIANTS
from colorization.models import build
from colorization.training import train
from colorization.weights import download, safe_keras
from serve.importing import __main__ as importing
from serve.importing import value_range
from tests import warm
from tests.conftest import ROOT, serve_mlflow
from tests.networks import memory

DRIVE_ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
ATTACHED = {
    "Content-Type": "application/octet-stream",
    "Content-Disposition": 'attachment; filename="model.h5"',
}
HTML = {"Content-Type": "text/html; charset=utf-8"}
QUOTA = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>
</body></html>"""
SIGN_IN = b"<!DOCTYPE html><html><title>Google Drive: Sign-in</title><form></form></html>"
VIRUS_SCAN = (  # one line, as Google writes it: gdown reads line by line
    '<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title><form id="download-form" '
    'action="https://drive.usercontent.google.com/download" method="get">'
    f'<input type="hidden" name="id" value="{DRIVE_ID}">'
    '<input type="hidden" name="confirm" value="t"></form></html>'
).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers from `server.pages`: path (without query) to (status, headers, body, sent bytes)."""

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.asked.append(self.path)
        status, headers, body, sent = self.server.pages.get(path, (404, HTML, b"<html>", None))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = True

    def do_CONNECT(self):
        """Play every host behind TLS, as a proxy in the middle."""
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(tls=None, handler=Handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.pages, server.asked, server.tls = {}, [], tls
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The path of a certificate, with its key, for Google Drive's hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    hosts = [x509.DNSName(f"drive.{host}") for host in ("google.com", "usercontent.google.com")]
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("certificate") / "drive.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *formats))
    return path


@pytest.fixture
def drive(certificate, monkeypatch):
    """Google Drive as gdown sees it: its own https addresses, through a proxy."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(tls) as server:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, server.url)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(certificate))
        yield server


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("COLORIZATION_CACHE", str(folder))
    return folder


def kept(cache):
    return sorted(each.name for each in cache.rglob("*") if not each.name.endswith(".lock"))


def tinting(span, channels, chroma=(0, 0)):
    """A network of stock layers that keeps luma and adds one chroma, in any range."""
    low, high = value_range.RANGES[span]
    tint = (np.array([0, *chroma]) @ color.YCBCR_TO_RGB) * (high - low) / 255
    gray = keras.Input((128, 128, channels))
    rgb = layers.Conv2D(3, 1, name="tint")(gray)
    rgb = layers.ReLU(max_value=high - low)(layers.Rescaling(1.0, offset=-low)(rgb))
    network = keras.Model(gray, layers.Rescaling(1.0, offset=low)(rgb))
    kernel = np.full((1, 1, channels, 3), 1 / channels)
    network.get_layer("tint").set_weights([kernel, tint])
    return network


def recalling(span, channels, images):
    """A network that knows the colors of pictures, in any range."""
    low, high = value_range.RANGES[span]
    gray, scale = keras.Input((128, 128, channels)), 255 / (high - low)
    levels = layers.Rescaling(scale, offset=-low * scale)(gray)
    rgb = memory(images, color.chroma(images), channels)(levels)
    return keras.Model(gray, layers.Rescaling(1 / scale, offset=low)(rgb))


@pytest.fixture(scope="session")
def naive_h5(tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "naive.h5"
    tinting("0..1", 1).save(path)
    return path


# Bringing the file


def test_a_download_is_kept_and_reused(server, empty_cache, naive_h5):
    server.pages["/a/model"] = (200, ATTACHED, naive_h5.read_bytes(), None)
    address = f"{server.url}/a/model"
    path = download.fetch(address, hashlib.sha256(naive_h5.read_bytes()).hexdigest().upper())
    assert path.read_bytes() == naive_h5.read_bytes()
    assert download.fetch(address) == path
    assert len(server.asked) == 1
    path.write_bytes(b"damaged")
    assert download.fetch(address, download.digest(naive_h5)) == path
    assert path.read_bytes() == naive_h5.read_bytes()


@pytest.mark.parametrize(
    ("page", "kind", "message"),
    [
        ((404, HTML, b"<html>", None), FileNotFoundError, "has no such file.*status 404"),
        ((403, HTML, b"<html>", None), PermissionError, "does not give the file out.*status 403"),
        ((503, HTML, b"<html>", None), ConnectionError, "server fails.*status 503"),
        ((200, HTML, SIGN_IN, None), ValueError, "not a Keras file.*a web page instead"),
        ((200, HTML, QUOTA, None), ConnectionError, "quota page instead of the file"),
        ((200, ATTACHED, b"PNG" * 999, None), ValueError, "not a Keras file.*2997 bytes"),
        ((200, ATTACHED, b"x" * 99999, 5000), ConnectionError, "broke off.*run the same command"),
    ],
)
def test_failed_downloads_are_told_apart_and_leave_nothing(
    page, kind, message, server, empty_cache
):
    server.pages["/model"] = page
    with pytest.raises(kind, match=message):
        download.fetch(f"{server.url}/model")
    assert kept(empty_cache) == ["weights"]  # the folder, empty


class Endless(Handler):
    """Sends without an end: `server.parts`, the headers of an encoding among them."""

    def do_GET(self):
        pause, part = self.server.parts
        self.send_response(200)
        if part.startswith(b"\x1f\x8b"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.stopped.wait(pause):
                self.wfile.write(part)
        self.close_connection = True


@pytest.fixture
def endless(server):
    """A function that starts a server of an endless file; gives its URL."""
    with serving(handler=Endless) as opened:
        opened.stopped = threading.Event()

        def start(pause, part):
            opened.parts = pause, part
            return f"{opened.url}/model"

        yield start
        opened.stopped.set()


@pytest.mark.parametrize("part", [b"x" * 65536, gzip.compress(bytes(64 * 2**20))])
def test_a_download_without_an_end_is_stopped_at_the_limit(part, endless, empty_cache, monkeypatch):
    monkeypatch.setattr(limits, "MAX_WEIGHTS_BYTES", 10**6)
    with pytest.raises(ConnectionError, match="was deleted. Expected at most 1000000 bytes"):
        download.fetch(endless(0, part))
    assert kept(empty_cache) == ["weights"]


def test_a_download_that_hardly_comes_is_stopped(endless, empty_cache, monkeypatch):
    monkeypatch.setattr(limits, "PROGRESS_SECONDS", 1)
    message = f"was deleted.*fewer than {limits.MIN_PROGRESS_BYTES} bytes within 1 seconds"
    with pytest.raises(ConnectionError, match=message):
        download.fetch(endless(0.1, b"x"))
    assert kept(empty_cache) == ["weights"]


def test_a_server_that_is_not_there_is_a_broken_connection(empty_cache):
    with serving() as gone:
        address = gone.url
    with pytest.raises(ConnectionError, match="broke off"):
        download.fetch(f"{address}/model")


def test_another_file_than_expected_is_not_kept(server, empty_cache, naive_h5):
    server.pages["/model"] = (200, ATTACHED, naive_h5.read_bytes(), None)
    with pytest.raises(ValueError, match=f"SHA-256 {'0' * 64}. Received: [0-9a-f]{{64}}"):
        download.fetch(f"{server.url}/model", "0" * 64)
    assert kept(empty_cache) == ["weights"]
    with pytest.raises(ValueError, match="SHA-256"):
        download.fetch(str(naive_h5), "0" * 64)
    with pytest.raises(ValueError, match="64 hexadecimal digits. Received: sha256=abc"):
        download.fetch(str(naive_h5), "abc")


def test_drive_gives_the_same_file_by_id_and_by_any_of_its_urls(drive, empty_cache, naive_h5):
    drive.pages["/uc"] = (200, HTML, VIRUS_SCAN, None)  # what comes before large files
    drive.pages["/download"] = (200, ATTACHED, naive_h5.read_bytes(), None)
    path = download.fetch(DRIVE_ID)
    assert path.read_bytes() == naive_h5.read_bytes()
    assert drive.asked == [f"/uc?id={DRIVE_ID}", f"/download?id={DRIVE_ID}&confirm=t"]
    assert download.fetch(f"https://drive.google.com/file/d/{DRIVE_ID}/view?usp=sharing") == path
    assert download.fetch(f"https://drive.google.com/uc?id={DRIVE_ID}") == path
    assert len(drive.asked) == 2


@pytest.mark.parametrize(
    ("page", "kind", "message"),
    [
        ((200, HTML, QUOTA, None), ConnectionError, "quota page instead of the file"),
        ((404, HTML, b"<html>", None), PermissionError, "id is wrong, the file is not shared"),
        ((200, HTML, SIGN_IN, None), PermissionError, "id is wrong, the file is not shared"),
        ((200, ATTACHED, b"x" * 99999, 5000), ConnectionError, "broke off"),
        ((200, ATTACHED, b"PK but no zip", None), ValueError, "not a Keras file"),
    ],
)
def test_failures_of_drive_are_told_apart_and_leave_nothing(
    page, kind, message, drive, empty_cache
):
    drive.pages["/uc"] = page
    with pytest.raises(kind, match=message):
        download.fetch(DRIVE_ID)
    assert kept(empty_cache) == ["weights"]


def test_an_address_cannot_name_a_place_outside_the_cache(drive, empty_cache, naive_h5):
    outside = empty_cache / "outside" / "kept.partial"
    outside.mkdir(parents=True)
    drive.pages["/uc"] = (200, ATTACHED, naive_h5.read_bytes(), None)
    path = download.fetch("https://drive.google.com/uc?id=x/../../outside/y")
    assert path.parent.parent == empty_cache / "weights"
    assert outside.is_dir() and kept(empty_cache / "outside") == ["kept.partial"]


def test_a_damaged_keras_file_is_refused(tmp_path):
    tinting("0..1", 1, chroma=(20, -10)).save(tmp_path / "model.keras")
    content = bytearray((tmp_path / "model.keras").read_bytes())
    content[content.index(b"model.weights.h5") + 2000] ^= 0xFF
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match="The file is damaged"):
        download.fetch(str(tmp_path / "model.keras"))


def test_a_keras_file_without_its_weights_is_refused(tmp_path):
    tinting("0..1", 1, chroma=(20, -10)).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as whole:
        with zipfile.ZipFile(tmp_path / "part.keras", "w") as part:
            for name in ("metadata.json", "config.json"):
                part.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="Keras cannot read the network"):
        safe_keras.load(tmp_path / "part.keras")


def test_what_is_no_reference_is_a_sentence():
    with pytest.raises(FileNotFoundError, match="Expected the path.*Received: 'nowhere.h5'"):
        download.fetch("nowhere.h5")


# Loading without running anything


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_network_of_stock_layers_loads_as_it_was_saved_whatever_its_name(suffix, tmp_path):
    network = tinting("-1..1", 3, chroma=(20, -10))
    network.save(tmp_path / f"model{suffix}")
    shutil.move(tmp_path / f"model{suffix}", tmp_path / "downloaded")
    loaded = safe_keras.load(tmp_path / "downloaded")
    grays = np.random.default_rng(0).uniform(-1, 1, (2, 128, 128, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(grays), network(grays))


@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix", "naive_efficientnet"])
def test_what_our_own_runs_log_loads(variant, tmp_path):
    config = dataclasses.replace(VARIANTS[variant], filters=4)
    colorizer = build.build_plain(config, 128)
    colorizer.save(tmp_path / "generator.keras")
    loaded = safe_keras.load(tmp_path / "generator.keras")
    grays = np.full((1, 128, 128, config.gray_channels), 99, "float32")
    np.testing.assert_allclose(loaded(grays), colorizer(grays), atol=1e-3)


def test_a_file_of_keras_2_computes_what_it_did_there(tmp_path):
    """A U-Net of nested Sequentials, saved by tf_keras 2.21, which also gave the numbers."""
    packed = ROOT / "tests" / "data" / "keras2_unet.h5.gz"
    (tmp_path / "unet.h5").write_bytes(gzip.decompress(packed.read_bytes()))
    network = value_range.require_shapes(safe_keras.load(tmp_path / "unet.h5"), 128, 3)
    ramp = np.linspace(-1, 1, 128, dtype="float32")[:, None]
    rgb = np.asarray(network(np.broadcast_to(ramp, (1, 128, 128, 3))))
    expected = [[0.0315, 0.03123, -0.06954], [0.00311, 0.04611, -0.01381]]
    expected += [[-0.02864, -0.15065, 0.06121], [-0.41613, 0.2216, -0.21888]]
    np.testing.assert_allclose(rgb[0, 64][[0, 40, 80, 127]], expected, atol=2e-5)


def with_lambda():
    gray = keras.Input((128, 128, 1))
    code = keras.layers.Lambda(lambda x: (open("ran", "w"), x)[1], output_shape=(128, 128, 1))
    return keras.Model(gray, layers.Conv2D(3, 1)(code(gray)))


@keras.saving.register_keras_serializable("elsewhere")
class Registered(keras.layers.ReLU):
    pass


def with_registered_layer():
    return keras.Sequential([keras.Input((128, 128, 1)), layers.Conv2D(3, 1), Registered()])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("build", "name"), [(with_lambda, "Lambda"), (with_registered_layer, "Registered")]
)
def test_layers_that_hold_code_are_refused_and_not_run(build, name, suffix, tmp_path):
    build().save(tmp_path / f"model{suffix}")
    (tmp_path / "ran").unlink(missing_ok=True)  # Keras runs a Lambda to build it
    with pytest.raises(ValueError, match=f"not made of stock Keras layers.*{name}"):
        safe_keras.load(tmp_path / f"model{suffix}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "node",
    [
        {"class_name": "function", "config": "run", "module": "subprocess"},
        {"class_name": "function", "config": "get_file", "module": "keras.utils"},
        {"class_name": "Popen", "config": {"args": "true"}, "module": "subprocess"},
        {"class_name": "ReLU", "config": {}, "module": "elsewhere", "registered_name": None},
        {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
        {"class_name": "TFSMLayer", "config": {"filepath": "/"}, "module": "keras.layers"},
        {"class_name": "StringLookup", "config": {"vocabulary": "/etc/hostname"}},
        {"class_name": "Map", "config": {}, "module": "keras.src.ops.core"},
        {"class_name": ["ReLU"], "config": {}},
    ],
)
def test_foreign_objects_are_refused_wherever_they_stand(node, tmp_path):
    tinting("0..1", 1).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"]["layers"][1]["config"]["activation"] = node
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="not made of stock Keras layers"):
        safe_keras.load(tmp_path / "evil.keras")


def test_a_file_without_a_network_is_a_sentence(tmp_path):
    tinting("0..1", 1).save_weights(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("saved_model.pb", b"")
    with h5py.File(tmp_path / "broken.h5", "w") as file:
        file.attrs["model_config"] = '{"class_name": "Functional", "config": {}}'
    for name in ("model.weights.h5", "other.keras", "broken.h5"):
        with pytest.raises(ValueError, match="Expected a whole model"):
            safe_keras.load(tmp_path / name)


# Loading what is bounded only


def layer(kind, name, *sources, **config):
    """The config of a layer: called on each of the sources, or on a list of them at once."""
    calls = [{"args": [tensors(each)], "kwargs": {}} for each in sources]
    config |= {"name": name}
    return {"class_name": kind, "module": "keras.layers", "name": name, "config": config} | {
        "inbound_nodes": calls
    }


def tensors(source):
    if isinstance(source, list):
        return [tensors(each) for each in source]
    name, call = source if isinstance(source, tuple) else (source, 0)
    history = {"shape": [None], "dtype": "float32", "keras_history": [name, call, 0]}
    return {"class_name": "__keras_tensor__", "config": history}


def model(*layers, name="model", output=None):
    entry = {"batch_shape": [None, 128, 128, 1], "name": "in", "dtype": "float32"}
    gray = {"class_name": "InputLayer", "name": "in", "config": entry, "inbound_nodes": []}
    ends = {"input_layers": ["in", 0, 0], "output_layers": output or [layers[-1]["name"], 0, 0]}
    config = {"name": name, "layers": [gray, *layers]} | ends
    return {"class_name": "Functional", "module": "keras", "name": name, "config": config}


def doubling(depth):
    """A network that calls one twice that calls one twice, and so on."""
    inner = model(layer("ReLU", "relu", "in"), name="m0")
    for level in range(1, depth):
        own = inner["name"]
        inner["inbound_nodes"] = layer("", "", "in", (own, 0))["inbound_nodes"]
        inner = model(inner, name=f"m{level}", output=[own, 1, 0])
    return inner


def write_keras(path, config, **datasets):
    """Write a .keras file of a config; `datasets` are shapes, of which nothing is stored."""
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, shape in datasets.items():
            file.create_dataset(f"layers/{name}", shape, "float32", chunks=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.write(path.with_suffix(".h5"), "model.weights.h5")


FLAT = layer("Reshape", "flat", "in", target_shape=[128 * 128, 1])
WIDE = [layer("Concatenate", "x0", ["in", "in"])]
WIDE += [layer("Concatenate", f"x{i + 1}", [f"x{i}", f"x{i}"]) for i in range(39)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model(layer("Dense", "huge", "in", units=10**9)), "at most the 0 .* in 'huge/kernel'"),
        (model(layer("UpSampling2D", "huge", "in", size=1000)), "computes too much.*huge"),
        (model(layer("ZeroPadding2D", "huge", "in", padding=9999)), "134217728 values.*huge"),
        (model(layer("Resizing", "huge", "in", height=9**5, width=9**4)), "too much.*huge"),
        (model(FLAT, layer("Attention", "huge", ["flat", "flat"])), "too much.*huge_1/MatMul"),
        (model(*WIDE), "computes too much.*x39"),
        (model(layer("Normalization", "huge", "in", mean=0, variance=1)), "not made of stock"),
        (
            model(layer("GaussianBlur", "huge", "in") | {"module": "keras.src.ops.image"}),
            "not made of stock Keras layers",
        ),
        (
            model(*[layer("ReLU", f"r{i}", "in") for i in range(2001)]),
            "at most 2000.*Received: 2003",
        ),
        (doubling(40), "too many layers. Expected at most 2000"),
        (json.dumps({"class_name": "Functional", "x": " " * 2**22}), "at most 2097152 bytes"),
    ],
)
def test_a_small_file_of_a_large_network_is_refused_before_it_is_built(config, message, tmp_path):
    write_keras(tmp_path / "huge.keras", config)
    assert (tmp_path / "huge.keras").stat().st_size < 2**20
    with pytest.raises(ValueError, match=message):
        safe_keras.load(tmp_path / "huge.keras")
    tinting("0..1", 1)  # the next one has its own weights, and no others


def test_a_file_that_unfolds_is_refused_before_its_numbers_are_read(tmp_path, naive_h5):
    small = model(layer("ReLU", "relu", "in"))
    write_keras(tmp_path / "sparse.keras", small, weights=(10**6, 10**6))
    with pytest.raises(ValueError, match="unpacks.*at most 1048576 bytes: 20 times.*weights"):
        safe_keras.load(tmp_path / "sparse.keras")
    write_keras(tmp_path / "zip.keras", small)
    with zipfile.ZipFile(tmp_path / "zip.keras", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other", bytes(2**25))
    with pytest.raises(ValueError, match="unpacks.*bytes of unpacked"):
        download.fetch(str(tmp_path / "zip.keras"))


def test_weights_that_a_file_lists_again_and_again_are_refused(tmp_path, naive_h5):
    shutil.copy(naive_h5, tmp_path / "listed.h5")
    with h5py.File(tmp_path / "listed.h5", "r+") as file:
        group = file["model_weights/tint"]
        group["large"] = np.ones(10**5, "float32")
        group.attrs["weight_names"] = [b"large"] * 1000
    with pytest.raises(ValueError, match="unpacks.*as often as they are listed"):
        safe_keras.load(tmp_path / "listed.h5")


# Its value range


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "activation", "span"),
    [
        (1, "sigmoid", "0..1"),
        (1, "linear", "0..1"),
        (3, "tanh", "-1..1"),
        (1, "linear", "-1..1"),
    ],
)
def test_the_probe_finds_the_ranges_of_lightly_trained_networks(
    channels, activation, span, small_splits
):
    keras.utils.set_random_seed(0)
    hidden = [layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
    last = layers.Conv2D(3, 3, padding="same", activation=activation)
    network = keras.Sequential([keras.Input((32, 32, channels)), *hidden, last])
    network.compile(keras.optimizers.Adam(5e-3), "mae")
    low, high = value_range.RANGES[span]
    real = small_splits.train.images[:24].astype("float32")
    gray = color.gray_input(real, channels)
    gray, real = (low + levels * (high - low) / 255 for levels in (gray, real))
    network.fit(gray, real, batch_size=4, epochs=20, verbose=0)
    found = value_range.probe(network, small_splits.val.images)
    assert (found.input, found.output) == (span, span)
    assert 0.1 < found.luma_error < 25


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("span", value_range.RANGES)
def test_a_network_of_any_range_is_wrapped_into_the_contract(channels, span, splits):
    chroma = np.array([12, -7])
    network = tinting(span, channels, chroma)
    found = value_range.probe(network, splits.val.images)
    assert (found.input, found.output) == (span, span)
    gray = color.gray_input(splits.val.images, channels)
    colored = value_range.as_colorizer(network, found)(gray)
    expected = color.join(gray[..., :1], chroma)
    np.testing.assert_allclose(colored, expected, atol=0.51)


@pytest.mark.parametrize("head", HEADS)
def test_our_own_networks_hold_their_levels(head):
    config = type(VARIANTS["naive_basic"])(variant="naive_basic", filters=4, head=head)
    colorizer = build.build_plain(config, 128)
    far_out = value_range.FAR_OUT * np.linspace(-1, 1, 128 * 128).reshape(1, 128, 128, 1)
    assert value_range._possible_outputs(value_range._run(colorizer, far_out)) == ["0..255"]


def test_a_network_that_does_not_follow_its_input_is_refused(splits):
    gray = keras.Input((128, 128, 1))
    even = keras.Model(gray, layers.Rescaling(0.0, offset=0.5)(layers.Concatenate()([gray] * 3)))
    with pytest.raises(ValueError, match="does not color pictures.*levels of luma at best"):
        value_range.probe(even, splits.val.images)


def test_a_network_of_any_size_is_taken():
    network = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(3, 1)])
    fixed = value_range.as_colorizer(
        value_range.require_shapes(network, 128, 1), value_range.ValueRange("0..1", "0..1", 0.0)
    )
    assert (fixed.input_shape, fixed.output_shape) == ((None, 128, 128, 1), (None, 128, 128, 3))


# The whole way


def flags(options):
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def start(store, **options):
    done = warm.run(
        [sys.executable, "-m", "serve.importing", *flags(options)],
        env=os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_both_families_become_runs_and_champions(splits, paintings, tmp_path):
    recalling("0..1", 1, splits.test.images).save(tmp_path / "naive.h5")
    recalling("-1..1", 3, splits.test.images).save(tmp_path / "pix2pix.keras")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    files = {"naive": tmp_path / "naive.h5", "pix2pix": tmp_path / "pix2pix.keras"}
    status, output = start(store, **files, data=paintings)
    assert status == 0, output
    client = mlflow.MlflowClient(store)
    runs = {run.data.tags["family"]: run for run in client.search_runs(["0"])}
    assert set(runs) == {"naive", "pix2pix"}
    for family, expected in (("naive", "0..1"), ("pix2pix", "-1..1")):
        run = runs[family]
        assert run.info.status == "FINISHED"
        assert run.data.tags["variant"] == f"{family}_pretrained"
        assert run.data.tags["dataset_digest"] == splits.digest
        assert run.data.params["sha256"] == download.digest(files[family])
        assert run.data.params["input_range"] == run.data.params["output_range"] == expected
        assert "test_delta_e" in run.data.metrics
        assert (
            "may have been trained on these very pictures" in run.data.tags["mlflow.note.content"]
        )
        assert [each.tags[0].value for each in run.inputs.dataset_inputs] == ["testing"]
        version = client.get_model_version_by_alias(f"bird-colorizer-{family}", "champion")
        assert version.run_id == run.info.run_id
        assert f"{family} version 1 is the champion" in output
        again = client.download_artifacts(run.info.run_id, "keras/generator.keras", str(tmp_path))
        assert safe_keras.load(Path(again)).output_shape == (None, 128, 128, 3)


def test_what_cannot_be_imported_is_refused_before_anything_is_logged(naive_h5, call, tmp_path):
    status, output = call(importing.main, "--naive", naive_h5, "--naive_sha256", "0" * 64)
    assert status == 2
    assert "error: The file is not the expected one" in output
    assert "Traceback" not in output
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--naive_sha256", "0" * 64), "Expected naive=NETWORK, too. Received: naive_sha256='000"),
        (("--naive", "a.h5", "--pix2pix_sha256", "1"), "Expected pix2pix=NETWORK, too. Received: "),
        (("--data", "kaggle"), "naive=NETWORK, pix2pix=NETWORK or both. Received: data='kaggle'"),
    ],
)
def test_what_no_network_was_given_for_is_not_ignored(given, expected, capsys):
    with pytest.raises(SystemExit):
        importing.parse(given)
    assert expected in capsys.readouterr().err


def everything(folder):
    """What all files below a folder hold, and their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return b"".join(str(path).encode() + path.read_bytes() for path in files)


SECRETS = ("robin-user", "s3cret", "sign4ture")


@pytest.mark.slow
def test_no_secret_of_an_address_is_logged_or_stored_by_an_import(
    server, splits, paintings, tmp_path, monkeypatch
):
    chroma = evaluation.mean_chroma(splits.test.images)
    tinting("0..1", 1, chroma).save(tmp_path / "naive.h5")
    server.pages["/a/model"] = (200, ATTACHED, (tmp_path / "naive.h5").read_bytes(), None)
    signed = server.url.replace("://", "://robin-user:s3cret@") + "/a/model?Signature=sign4ture"
    for name in ("store", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    with serve_mlflow(tmp_path / "store") as store:
        tracking = store.replace("://", "://robin-user:s3cret@")
        status, output = start(tracking, naive=signed, data=paintings)
        assert status == 0, output
        (run,) = mlflow.MlflowClient(store).search_runs(["0"])
    assert server.asked == ["/a/model?Signature=sign4ture"]
    assert run.data.params["source"] == f"{server.url}/a/model"
    assert f"`{server.url}/a/model`" in run.data.tags["mlflow.note.content"]
    known = output.encode() + everything(tmp_path / "store") + everything(tmp_path / "cache")
    assert [secret for secret in SECRETS if secret.encode() in known] == []


@pytest.mark.parametrize(
    "naive",
    [
        "{url}/none?Signature=sign4ture",
        "http://robin-user:s3cret/a?",
        "http://robin-user:s3cret@a\u2100b/c",
    ],
)
def test_no_secret_of_an_address_stands_in_a_refusal(naive, server, empty_cache, call):
    address = server.url.replace("://", "://robin-user:s3cret@")
    status, output = call(importing.main, "--naive", naive.format(url=address))
    assert (status, "Traceback" in output) == (2, False)
    assert "Received: " in output and "http://" in output
    assert [secret for secret in SECRETS if secret in output] == []


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize(
    "entry", ["serve.importing", "colorization.registry", "colorization", "sweeps"]
)
def test_a_tracking_server_that_does_not_answer_is_a_sentence_without_its_password(
    entry, naive_h5, paintings, splits, tmp_path
):
    with serving() as gone:
        store = gone.url.replace("://", "://robin-user:s3cret@")
    data = ["--data", str(paintings)]
    arguments = {
        "serve.importing": ["--naive", str(naive_h5), *data],
        "colorization.registry": ["--best", "naive"],
        "colorization": ["naive_basic", "--filters", "4", *data],
        "sweeps": ["--fix", "filters=4", *data],
    }[entry]
    environment = {"MLFLOW_TRACKING_URI": store, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}
    done = warm.run([sys.executable, "-m", entry, *arguments], env=environment)
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert f"error: API request to {gone.url}" in output and "Traceback" not in output
    assert [secret for secret in SECRETS if secret in output] == []


# Training from weights


@pytest.mark.slow
def test_no_secret_of_an_address_is_logged_or_stored_by_a_training_from_it(
    server, colorization, ready_store, paintings, tmp_path
):
    config = dataclasses.replace(VARIANTS["naive_basic"], filters=4)
    build.build_plain(config, 128).save(tmp_path / "start.keras")
    server.pages["/start"] = (200, ATTACHED, (tmp_path / "start.keras").read_bytes(), None)
    signed = server.url.replace("://", "://robin-user:s3cret@") + "/start?Signature=sign4ture"
    arguments = ["naive_basic", "--data", paintings, "--epochs", 1, "--filters", 4]
    process = colorization(*arguments, "--start_from", signed, store=ready_store, cwd=tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    (run,) = mlflow.MlflowClient(ready_store).search_runs(["0"])
    assert run.data.params["start_from"] == f"{server.url}/start"
    assert "which may have seen these" in run.data.tags["mlflow.note.content"]
    known = output.encode() + everything(tmp_path)
    assert [secret for secret in SECRETS if secret.encode() in known] == []


@pytest.mark.slow
def test_training_starts_from_an_earlier_run_where_that_one_ended(
    trained, colorization, paintings, tracking_server, tmp_path
):
    client, run = trained
    arguments = ["naive_basic", "--data", paintings, "--epochs", 1, "--register", "no"]
    arguments += ["--filters", 8, "--learning_rate", 1e-7, "--start_from", run.info.run_id]
    experiment = client.create_experiment("start_from")
    process = colorization(
        *arguments,
        store=tracking_server,
        cwd=tmp_path,
        env={"MLFLOW_EXPERIMENT_NAME": "start_from"},
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    (after,) = client.search_runs([experiment])
    assert after.data.params["start_from"] == run.info.run_id
    earlier = client.get_metric_history(run.info.run_id, "val/delta_e")
    best = min(point.value for point in earlier)
    assert after.data.metrics["val/delta_e"] == pytest.approx(best, rel=1e-3)


def test_weights_of_another_network_are_refused_before_a_run(
    naive_h5, paintings, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    arguments = ["naive_basic", "--data", paintings, "--filters", 8, "--start_from", naive_h5]
    assert main([str(each) for each in arguments]) == 2
    assert "Expected those of naive_basic with head=chroma, filters=8, depth=3" in caplog.text
    assert "Received: 2 arrays, number 1 of shape (1, 1, 1, 3)" in caplog.text
    assert not (tmp_path / "mlflow.db").exists()


def test_a_training_begins_with_the_weights_it_is_given(splits):
    config = type(VARIANTS["naive_basic"])(
        variant="naive_basic", filters=4, epochs=1, learning_rate=1e-7, seed=3
    )
    given = [np.full(each.shape, 0.01) for each in build.build(config, 128).colorizer.weights]
    result = train.train(config, splits, start_from=given)
    for array in result.colorizer.get_weights():
        np.testing.assert_allclose(array, 0.01, atol=1e-4)
