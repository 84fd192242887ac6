"""The page for others: behind nginx as docs/page.md has it, with a password, in a real browser."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from hashlib import sha256

import pytest
import requests
import uvicorn
from requests.auth import _basic_auth_str
from starlette.testclient import TestClient

from colorization.errors import InputError
from serve.page import guard
from serve.page.__main__ import parse
from serve.page.app import mount
from serve.page.events import Page
from serve.page.guard import read_users
from tests import warm
from tests.conftest import ROOT, _wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
ROBIN = ("robin", "red:breast")
PICTURE = ROOT / "assets" / "photographs" / "dandelions.jpg"


@pytest.fixture(scope="module")
def website(cache, empty_store, tmp_path_factory):
    """The address on nginx of a page as docs/page.md starts it."""
    folder = tmp_path_factory.mktemp("website")
    users = folder / "users"
    users.touch(0o600)
    users.write_text("wren:ü b e r\n" + ":".join(ROBIN))
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{shutil.copy(empty_store, folder)}",
        "COLORIZATION_CACHE": str(cache),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
    }
    port = free_port()
    command = [sys.executable, "-m", "serve.page", "--host", "0.0.0.0", "--port", str(port)]
    command += ["--root_path", "/birds", "--password_file", str(users)]
    with open(folder / "log", "wb") as log:
        process = warm.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    request = urllib.request.Request(f"http://127.0.0.1:{port}")
    request.add_header("Authorization", _basic_auth_str(*ROBIN))
    try:
        _wait_for(request, process)
        with serve_nginx(folder, port) as (url, _):
            yield url
    finally:
        process.terminate()
        process.wait(60)
    assert not re.search("Traceback|red:breast", (folder / "log").read_text())


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serve_nginx(folder, port):
    """Serve the page of a port below a path, as docs/page.md says; give two addresses of it.

    At the second, nginx takes 10 kB only.
    """
    if NGINX is None:
        pytest.skip("no nginx: `apt-get install nginx`")
    (location,) = re.findall("```nginx\n(.+?)```", (ROOT / "docs/page.md").read_text(), re.DOTALL)
    location = location.replace("7860", str(port))
    small = location.replace("1300m", "10k")
    assert small != location
    ports = free_port(), free_port()
    icon = "location = /favicon.ico { return 204; }"  # of the website, not of the page
    servers = [
        f"server {{ listen 127.0.0.1:{port}; {icon} location = /ready {{ return 204; }} {each} }}"
        for port, each in zip(ports, (location, small), strict=True)
    ]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = [f"{kind}_temp_path {folder}/{kind};" for kind in kinds]
    lines = ["daemon off; master_process off; pid nginx.pid; events {} http { access_log off;"]
    (folder / "nginx.conf").write_text("\n".join([*lines, *temporary, *servers, "}"]))
    command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "nginx.log"]
    process = subprocess.Popen(command)
    try:
        _wait_for(f"http://127.0.0.1:{ports[0]}/ready", process)
        yield [f"http://127.0.0.1:{port}/birds/" for port in ports]
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: `apt-get install chromium`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def drop(page, *files):
    page.locator(".drop input[type=file]").set_input_files(files)


@pytest.mark.slow
def test_behind_nginx_below_a_path_with_a_password_all_works(browser, website):
    user, password = ROBIN
    context = browser.new_context(http_credentials={"username": user, "password": password})
    context.set_default_timeout(60_000)
    trouble, asked = [], []
    context.on("console", lambda said: said.type == "error" and trouble.append(said.text))
    context.on("weberror", lambda error: trouble.append(str(error.error)))
    context.on("requestfailed", lambda request: trouble.append((request.failure, request.url)))
    context.on("response", lambda answer: asked.append((answer.status, answer.url)))
    page = context.new_page()
    page.goto(website.rstrip("/"))  # nginx adds the slash
    page.get_by_role("heading", name="The models on this page").wait_for()
    drop(page, PICTURE)
    page.get_by_text(f"Colored {PICTURE.name} by naive and pix2pix.").wait_for()
    loaded = "images => Promise.all(images.map(each => each.decode()))"  # or it raises
    page.locator("main img:visible").evaluate_all(loaded)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download dandelions-pix2pix").click()
    assert download.value.path().stat().st_size > 100_000
    context.close()
    bad = [each for each in asked if each[0] >= 400 or not each[1].startswith(website[:-1])]
    ended = "net::ERR_ABORTED"  # a stream of events that has ended, a download
    assert [each for each in trouble if each[0] != ended] == bad == []


@pytest.mark.slow
def test_all_of_a_page_with_a_password_asks_for_it(website):
    get = {"GET": ["", "theme.css", "assets/x", "pictures/Robin.jpg", "gradio_api/app_id", "docs"]}
    for method, paths in (get | {"POST": ["gradio_api/upload", "gradio_api/queue/join"]}).items():
        for path in paths:
            answer = requests.request(method, website + path)
            assert (answer.status_code, answer.text) == (401, "The page has a password."), path
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    wrong = (("robin", "red"), ("wren", "red:breast"), ("", ""), ("robin", "red:breast\n"))
    headers = [{"Authorization": _basic_auth_str(*each)} for each in wrong]
    right = _basic_auth_str(*ROBIN)
    headers += [{"Authorization": text} for text in ("Basic", "Basic é", f"Bearer {right[6:]}")]
    for each in headers:
        answer = requests.get(website, headers=each)
        said = (401, "The name or the password is wrong.")
        assert (answer.status_code, answer.text) == said, each
    assert requests.get(website, auth=ROBIN).ok
    assert requests.get(website, auth=("wren", "ü b e r".encode())).ok


@pytest.mark.slow
def test_behind_nginx_no_other_website_may_send_anything(website):
    upload = {"files": {"files": ("bird.png", b"x")}, "auth": ROBIN}
    own = website.removesuffix("/birds/")
    for foreign in ("http://evil.example", "http://127.0.0.1:1", "null"):
        answer = requests.post(website + guard.UPLOAD[1:], headers={"Origin": foreign}, **upload)
        assert (answer.status_code, answer.text[:15]) == (403, "Another website")
    assert requests.post(website + guard.UPLOAD[1:], headers={"Origin": own}, **upload).ok


@contextlib.contextmanager
def serve_here(folder, port, root_path):
    """Serve a public page by a thread of this process."""
    folder.mkdir()
    app = mount(Page(folder), root_path, public=True)
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.mark.slow
def test_what_nginx_refuses_is_a_sentence_and_a_restarted_page_loads_anew(
    browser, active_store, tmp_path
):
    port = free_port()
    with serve_nginx(tmp_path, port) as (url, small):
        page = browser.new_page()
        with serve_here(tmp_path / "before", port, "/birds"):
            page.goto(small)
            page.get_by_role("heading", name="The models on this page").wait_for()
            drop(page, PICTURE)
            page.get_by_text("The pictures are larger than this website takes").wait_for()
            page.goto(url)
            page.get_by_role("heading", name="The models on this page").wait_for()
        drop(page, PICTURE)
        page.get_by_text("The page does not answer just now").wait_for()
        page.evaluate("window.old = true")
        page.get_by_role("button", name="Robin").click()
        with serve_here(tmp_path / "after", port, "/birds"):
            page.wait_for_function("!window.old")
        page.close()


@pytest.mark.slow
def test_a_full_queue_is_a_sentence(browser, active_store, tmp_path, monkeypatch):
    monkeypatch.setattr("serve.page.app.MAX_WAITING", 0)
    port = free_port()
    with serve_here(tmp_path / "page", port, ""):
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_text("This application is currently busy. Please try again.").first.wait_for()
        page.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "::1", "127.0.0.2", "birds.example"])
def test_a_page_for_others_needs_a_password_or_is_called_public(host, capsys):
    with pytest.raises(SystemExit):
        parse(["--host", host])
    refusal = capsys.readouterr().err
    assert "password_file=FILE" in refusal and "public=yes" in refusal
    assert f"Received: host={host!r}" in refusal
    assert parse(["--host", host, "--public", "yes"]).host == host
    assert parse(["--host", host, "--password_file", "users"]).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_this_machine_alone_a_page_needs_none(host):
    assert parse(["--host", host]).public == "no"


@pytest.mark.parametrize("root_path", ["birds", "/birds?x", "//evil.example", "http://a/birds"])
def test_a_path_on_a_website_begins_with_a_slash(root_path, capsys):
    with pytest.raises(SystemExit):
        parse(["--root_path", root_path])
    assert "Expected a path such as /birds. Received: root_path=" in capsys.readouterr().err


def test_without_password_or_public_only_names_of_loopback_are_answered(tmp_path):
    def status(**options):
        app = mount(page, **options)
        return TestClient(app, "http://birds.example").get("/pictures/Robin.jpg").status_code

    page = Page(tmp_path)
    assert (status(), status(public=True), status(users=[b"x"])) == (400, 200, 401)


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("robin:red", 0o640, "only its owner may read: chmod 600"),
        ("robin:red", 0o604, "only its owner may read: chmod 600"),
        ("", 0o600, "Expected name:password on each line, and at least one..*line 1 is not"),
        ("robin:red\nsecret", 0o600, "Expected name:password on each line.*line 2 is not"),
        ("robin:red\n\nwren:red", 0o600, "Expected name:password on each line.*line 2 is not"),
        ("robin:", 0o600, "Expected name:password on each line.*line 1 is not"),
        (None, 0o600, "No such file or directory"),
    ],
)
def test_a_file_of_passwords_that_is_not_safe_is_refused(tmp_path, content, mode, sentence):
    file = tmp_path / "users"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(InputError, match=sentence) as refusal:
        read_users(file)
    assert "secret" not in str(refusal.value)


def test_blank_lines_at_the_end_of_a_file_of_passwords_are_nobody_s(tmp_path):
    file = tmp_path / "users"
    file.touch(0o600)
    file.write_text("robin:red \nwren:red\r\n\n")
    assert read_users(file) == [sha256(each).digest() for each in (b"robin:red ", b"wren:red")]
