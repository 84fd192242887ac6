"""What the soak test would not miss: a wrong answer, memory that grows, a page that stays away."""

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks import soak
from benchmarks.clients import (
    COLORED,
    NO_REGISTRY,
    REFUSED,
    ModelClient,
    break_pictures,
    paint_pictures,
)
from benchmarks.soak import Answer, Result
from colorization.pictures import DEFAULT_MAX_PIXELS

SECONDS = 1000
GOOD = [Answer(at, 0.1, COLORED) for at in range(0, SECONDS, 10)]
FLAT = [(at, 100_000_000) for at in range(SECONDS)]
OVER = {soak.KILLED: 700, soak.STARTED: 770}


def missed(answers=(), memory=FLAT):
    rows = soak.report("page", Result([*GOOD, *answers], memory, OVER), SECONDS)
    return [row.what.partition(": ")[2] for row in rows if soak.MISSED in row.wanted]


def test_colored_and_refused_pictures_and_a_registry_that_is_away_are_as_they_should_be():
    assert missed([Answer(5, 0.1, REFUSED), Answer(710, 0.1, NO_REGISTRY)]) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(5, 0.1, "500 to bird.png"),
        Answer(710, 0.1, "ConnectionResetError"),
        Answer(200, 0.1, NO_REGISTRY),
        Answer(780, 0.1, NO_REGISTRY),
    ],
)
def test_any_other_answer_is_missed(answer):
    assert missed([answer]) == ["any other answer"]


def test_memory_that_grows_by_more_than_a_twentieth_is_missed():
    assert missed(memory=[(at, 100_000_000 + at * 5_000) for at in range(SECONDS)]) == []
    assert len(missed(memory=[(at, 100_000_000 + at * 7_000) for at in range(SECONDS)])) == 1
    late = [(at, size * (1 + (at > 850))) for at, size in FLAT]
    assert len(missed(memory=late)) == 1


def test_a_server_that_colors_nothing_more_once_it_is_disturbed_is_missed():
    rows = soak.report("page", Result(GOOD[:50], FLAT, OVER), SECONDS)
    (row,) = [row for row in rows if soak.MISSED in row.wanted]
    assert "page, disturbed" in row.what


def test_clients_send_one_broken_request_in_ten_until_all_has_happened():
    sent, happened, enough = [], [], threading.Event()

    class Client:
        def __init__(self, url):
            assert url == "http://here"

        def send(self, each):
            sent.append(each)
            if len(sent) >= 400:
                enough.set()
            enough.wait(0.01)  # as if the server worked
            return COLORED if each.size else REFUSED

    server = SimpleNamespace(url="http://here", resident=lambda: 7)
    events = [(0.5, lambda: happened.append("first")), (2, lambda: happened.append(enough.wait()))]
    result = soak.load(server, Client, 0.1, events)
    assert happened == ["first", True] and result.over.keys() == {0.5, 2}
    assert len(result.answers) == len(sent) >= 400
    broken = {each.name for each in sent if each.size is None}
    assert broken == {each.name for each in break_pictures()}
    assert sum(each.size is None for each in sent) == pytest.approx(len(sent) / 10, abs=10)
    assert {each.name for each in sent} == broken | {each.name for each in paint_pictures()}


def test_what_is_broken_is_and_what_is_not_is_not():
    for each in paint_pictures():
        assert Image.open(io.BytesIO(each.content)).size == each.size
    (large,) = (each.content for each in break_pictures() if each.name == "large.png")
    width, height = Image.open(io.BytesIO(large)).size
    assert width * height > DEFAULT_MAX_PIXELS


@pytest.fixture
def answering():
    """A function that starts a server with one answer to all; gives its address."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_client_of_a_model_looks_at_each_answer(answering):
    good, broken = paint_pictures()[0], break_pictures()[0]
    small = b'{"predictions": [{"image": "%s"}]}'
    other = next(each for each in paint_pictures() if each.size != good.size)
    own, foreign = (
        answering(200, small % base64.b64encode(each.content)) for each in (good, other)
    )
    assert ModelClient(own).send(good) == COLORED
    assert ModelClient(foreign).send(good) == "a picture of another size"
    assert ModelClient(own).send(broken) == "200 to truncated.jpg"
    assert ModelClient(answering(400, b"{}")).send(broken) == REFUSED
    assert ModelClient(answering(500, b"{}")).send(good) == "500 to bird.jpeg"
    assert ModelClient("http://127.0.0.1:1").send(good) == "ConnectionRefusedError"
