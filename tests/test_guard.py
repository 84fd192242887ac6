"""What a stranger asks the page for: a real server, real requests, a real browser."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
import requests
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from colorization import limits
from colorization.errors import InputError
from serve.page import guard
from serve.page.app import mount
from serve.page.events import Page, require_upload
from tests import warm
from tests.conftest import ROOT, _wait_for

SECRET = "the queen's diary"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def server(cache, ready_store_of_module, tmp_path_factory):
    """The address of a page, and the folder that all its files lie in."""
    folder = tmp_path_factory.mktemp("page")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": ready_store_of_module,
        "COLORIZATION_CACHE": str(cache),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "serve.page", "--port", str(port)]
    with open(folder / "log", "wb") as log:
        process = warm.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url, folder
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def ready_store_of_module(empty_store, tmp_path_factory):
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('registry'))}"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def config_of(url):
    """What Gradio tells the page of its components and events."""
    return json.loads(requests.get(url).text.split("window.gradio_config = ")[1].split(";</")[0])


def event_of(url, uploads, session="attacker"):
    """The event that a drop of these files sends, as Gradio's own page writes it."""
    config = config_of(url)
    drop = next(each["id"] for each in config["components"] if each["type"] == "file")
    (upload,) = (
        each
        for each in config["dependencies"]
        if [drop, "upload"] in [list(target) for target in each["targets"]]
    )
    return {
        "data": [uploads],
        "fn_index": upload["id"],
        "trigger_id": drop,
        "session_hash": session,
    }


def file_data(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}


@slow
@pytest.mark.parametrize("kind", ["text", "picture", "device", "missing", "web", "outside"])
def test_a_path_that_was_not_uploaded_is_refused_and_no_byte_of_it_is_read(server, tmp_path, kind):
    url, folder = server
    (tmp_path / "diary.txt").write_text(SECRET)
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "portrait.png")
    path = {
        "text": tmp_path / "diary.txt",
        "picture": tmp_path / "portrait.png",
        "device": "/dev/zero",
        "missing": tmp_path / "nothing.png",
        "web": f"{url}/pictures/Robin.jpg",
        "outside": next(folder.glob("*/uploads")) / ".." / "pictures" / "Robin.jpg",
    }[kind]
    before = set(folder.rglob("*"))
    answer = requests.post(url + guard.EVENT, json=event_of(url, [file_data(path)]))
    assert (answer.status_code, answer.text) == (
        403,
        "The file was not uploaded: choose it again.",
    )
    assert set(folder.rglob("*")) == before
    assert requests.get(url).ok


@slow
def test_what_the_page_does_not_use_is_closed(server):
    url, _ = server
    closed = [
        *("/docs", "/redoc", "/openapi.json", "/config", "/gradio_api/info"),
        *("/gradio_api/deep_link?session_hash=attacker", "/gradio_api/openapi.json"),
        *("/gradio_api/proxy=http://127.0.0.1:1", "/gradio_api/runs", "/monitoring"),
        *("/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/gradio_api/token"),
        *("/pictures/../../log", "/pictures/%2e%2e/%2e%2e/log", "/pictures/"),
    ]
    for path in closed:
        request = requests.Request("GET", url + path).prepare()
        request.url = url + path  # as it is: requests would resolve the dots
        with requests.Session() as session:
            answer = session.send(request)
        assert answer.status_code == 404, path
    for path in ("/gradio_api/run/color", "/gradio_api/call/color", "/gradio_api/reset", "/login"):
        assert requests.post(url + path, json={}).status_code == 404, path


@slow
def test_no_event_is_an_endpoint_for_programs(server):
    config = config_of(server[0])
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}


@slow
def test_only_known_names_are_served_and_no_other_website_may_read_or_write(server):
    url, _ = server
    name = url.removeprefix("http://")
    for host in ("evil.example", f"evil.example:{name.split(':')[1]}"):
        assert requests.get(url, headers={"Host": host}).status_code == 400
    answer = requests.get(url, headers={"Origin": "http://evil.example"})
    assert not [header for header in answer.headers if header.lower().startswith("access-control")]
    upload = {"files": ("bird.png", b"x")}
    foreign = (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    )
    for headers in foreign:
        for path in (guard.UPLOAD, guard.EVENT):
            answer = requests.post(url + path, files=upload, headers=headers)
            assert answer.status_code == 403, headers
            assert "Another website" in answer.text
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    assert requests.post(url + guard.UPLOAD, files=upload, headers=own).ok


@slow
def test_uploads_are_not_served(server):
    url, _ = server
    (path,) = requests.post(
        url + guard.UPLOAD, files={"files": ("page.html", b"<script>alert(1)</script>")}
    ).json()
    for address in (
        f"/gradio_api/file={path}",
        f"/pictures/../uploads/{path.split('uploads/')[1]}",
    ):
        request = requests.Request("GET", url + address).prepare()
        request.url = url + address
        with requests.Session() as session:
            answer = session.send(request)
        assert answer.status_code == 404 and "script" not in answer.text
    headers = requests.get(f"{url}/pictures/Robin.jpg").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `apt-get install chromium`")
def test_nothing_of_an_upload_runs_and_no_other_website_reaches_the_page(server, tmp_path):
    url, _ = server
    sync_api = pytest.importorskip("playwright.sync_api")
    mark = "document.title = 'stolen'"
    (tmp_path / "a.html").write_text(f"<script>{mark}</script>")
    (tmp_path / "b.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" onload="{mark}"><script>{mark}</script></svg>'
    )
    (tmp_path / f"<img src=x onerror={mark.replace(' ', '')}>.png").write_bytes(b"no picture")
    with sync_api.sync_playwright() as playwright, evil_website(url) as evil:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("heading", name="The models on this page").wait_for()
        with page.expect_response(lambda answer: f"{guard.UPLOAD}?" in answer.url) as answer:
            page.locator("input[type=file]").set_input_files(sorted(tmp_path.iterdir()))
        uploaded = answer.value.json()
        page.get_by_role("main").get_by_text("b.svg").first.wait_for()
        assert len(uploaded) == 3 and page.title() != "stolen"
        for path in uploaded:
            page.goto(f"{url}/gradio_api/file={path}")
            assert page.title() != "stolen"
            assert "nothing under this address" in page.content()
        page.goto(evil)
        page.wait_for_function("document.title === 'done'")
        assert page.evaluate("window.read") == "blocked"
        assert page.evaluate("window.framed") == 0
        browser.close()


class evil_website:
    """A website on another port that tries to read the page, and to frame it."""

    def __init__(self, url):
        script = f"""<title>evil</title><iframe src="{url}"></iframe><script>
        fetch("{url}/").then(answer => answer.text()).catch(() => "blocked").then(text => {{
          window.read = text; window.framed = 0;
          try {{ window.framed = frames[0].document.querySelectorAll("h1").length }} catch {{}}
          document.title = "done" }})</script>"""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(script.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@slow
def test_an_event_above_its_limit_is_refused(server):
    url, _ = server
    event = event_of(url, []) | {"filler": "x" * limits.MAX_EVENT_BYTES}
    answer = requests.post(url + guard.EVENT, json=event)
    assert (answer.status_code, answer.text) == (
        413,
        f"The request must stay below {limits.MAX_EVENT_BYTES} bytes.",
    )
    for body in (b"no json", b"[" * 500_000):
        assert requests.post(url + guard.EVENT, data=body).status_code == 400


@pytest.fixture
def page_here(ready_store, tmp_path):
    """A `Page`, served by a thread of this process, and its address."""
    mlflow.set_tracking_uri(ready_store)
    (tmp_path / "page").mkdir()
    page = Page(tmp_path / "page")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(mount(page), log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield page, f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)
    listening.close()
    mlflow.set_tracking_uri(None)


@slow
def test_gradio_itself_takes_nothing_but_uploads(page_here, tmp_path, monkeypatch):
    page, url = page_here
    monkeypatch.setattr(guard, "check_files", lambda *_: None)  # as if the guard had a hole
    (tmp_path / "diary.txt").write_text(SECRET)
    event = event_of(url, [file_data(tmp_path / "diary.txt")])
    assert requests.post(url + guard.EVENT, json=event).ok
    answers = requests.get(f"{url}/gradio_api/queue/data?session_hash=attacker", stream=True)
    outcome = next(line for line in answers.iter_lines() if b"process_completed" in line)
    answers.close()
    assert json.loads(outcome.partition(b":")[2])["success"] is False
    assert not [path for path in page.uploads.rglob("*") if path.is_file()]


@slow
def test_the_oldest_uploads_make_room_and_those_on_their_way_count(page_here, monkeypatch):
    page, url = page_here
    monkeypatch.setattr(guard, "MAX_UPLOADS_BYTES", 3 * limits.MIB)
    first, second = (
        requests.post(url + guard.UPLOAD, files={"files": (name, bytes(2 * limits.MIB))})
        for name in ("first.png", "second.png")
    )
    assert first.ok and second.ok
    kept = [path.name for path in page.uploads.rglob("*") if path.is_file()]
    assert kept == ["second.png"]
    answer = requests.post(url + guard.UPLOAD, files={"files": ("c.png", bytes(4 * limits.MIB))})
    assert (answer.status_code, answer.text) == (413, "All uploads must stay below 3 MB.")
    chunked = requests.post(url + guard.UPLOAD, data=iter([b"x"]))
    assert (chunked.status_code, chunked.text) == (411, "An upload must state its size.")
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as slow_one:
        head = f"POST {guard.UPLOAD} HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 2000000\r\n\r\n"
        slow_one.sendall(head.encode() + b"--x\r\n")
        busy = {"files": ("d.png", bytes(2 * limits.MIB))}
        deadline = time.monotonic() + 60
        while requests.post(url + guard.UPLOAD, files=busy).ok and time.monotonic() < deadline:
            pass
        assert requests.post(url + guard.UPLOAD, files=busy).status_code == 413


@slow
def test_what_is_no_file_is_not_uploaded_and_of_half_an_upload_nothing_is_kept(page_here):
    page, url = page_here
    answer = requests.post(url + guard.UPLOAD, files={"files": (None, b"held in memory")})
    assert (answer.status_code, answer.text) == (400, "Only files can be uploaded.")
    host = url.removeprefix("http://")
    with socket.create_connection(host.split(":")) as slow_one:
        head = f"POST {guard.UPLOAD} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        part = 'Content-Disposition: form-data; name="files"; filename="b.png"\r\n\r\nhalf of it'
        slow_one.sendall(f"{head}{part}".encode())
        wait_until(lambda: list(page.uploads.iterdir()))
    wait_until(lambda: not list(page.uploads.iterdir()))


def test_an_old_upload_is_deleted_although_no_other_comes(tmp_path, monkeypatch):
    monkeypatch.setattr("serve.page.app.UPLOADS_KEPT", (0.01, 0.01))
    with TestClient(mount(Page(tmp_path)), "http://localhost") as client:
        (path,) = client.post(guard.UPLOAD, files={"files": ("bird.png", b"x")}).json()
        assert Path(path).is_relative_to(tmp_path)
        wait_until(lambda: not Path(path).exists())


def test_the_oldest_files_are_deleted_until_the_rest_fits(tmp_path):
    (tmp_path / "aa").mkdir()
    oldest, old, new = tmp_path / "aa" / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    for age, path in ((50, oldest), (20, old), (0, new)):
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - age,) * 2)
    guard.make_room(tmp_path, 3000)
    assert oldest.exists()
    guard.make_room(tmp_path, 2500)
    assert not oldest.exists() and old.exists()
    guard.make_room(tmp_path, 2500)
    assert not oldest.parent.exists()
    guard.make_room(tmp_path, 1500)
    assert not old.exists() and new.exists()
    os.utime(new, (time.time() - 50,) * 2)
    guard.make_room(tmp_path, 1500, kept_seconds=60)
    assert new.exists()
    guard.make_room(tmp_path, 1500, kept_seconds=40)
    assert not new.exists()


def test_an_upload_must_lie_in_the_folder_of_uploads(tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "bird.png").write_bytes(b"x")
    (tmp_path / "diary.txt").write_text(SECRET)
    (uploads / "link.png").symlink_to(tmp_path / "diary.txt")
    os.mkfifo(uploads / "pipe.png")
    require_upload(uploads / "bird.png", uploads)
    for path in ("link.png", "pipe.png", "gone.png", "../diary.txt", "x" * 5000, "\0"):
        with pytest.raises(InputError, match="is no longer here: choose it again"):
            require_upload(uploads / path, uploads)
