import base64
import copy
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kagglesdk import kaggle_env

from colorization import limits
from colorization.data import sources
from colorization.data.cache import build_once, cache_folder
from colorization.data.listing import list_images
from colorization.data.sources import fetch

# Points Kaggle's own client at a server of ours, then fetches.
FETCH = """
import sys
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = sys.argv[2]
from colorization.data.sources import fetch
print(fetch(sys.argv[1]).folder)
"""


ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zipped(path, entries):
    """Write a .zip of name (or ZipInfo) -> content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def start(data, server="http://localhost:9"):
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(data), server],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(process, seen):
    """Kill -9 a process as soon as `seen()`."""
    while process.poll() is None and not seen():
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()


def test_the_cache_stands_where_the_variable_says_or_in_the_user_s_own(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("COLORIZATION_CACHE")
    assert cache_folder().is_absolute() and "garden-bird-colorization" in cache_folder().parts


def test_a_folder_is_used_where_it_is_also_by_a_relative_path_with_spaces(tmp_path, monkeypatch):
    folder = tmp_path / "my birds"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    source = fetch("my birds")
    assert (source.name, source.kind, source.folder) == ("my birds", "photographs", folder)
    assert source.uri == folder.as_uri() == fetch(str(folder)).uri


@pytest.mark.parametrize("data", ["no/such/folder", "", "gone.zip", "Kaggle "])
def test_an_unknown_value_names_the_three_possibilities(data):
    with pytest.raises(FileNotFoundError) as error:
        fetch(data)
    assert f"Received: data={data!r}" in str(error.value)
    assert all(word in str(error.value) for word in ("`sample`", "`kaggle`", "folder", ".zip"))


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "bird.jpg").touch()
    with pytest.raises(ValueError, match="Expected `sample`, `kaggle`, a folder .*Received: data="):
        fetch(str(tmp_path / "bird.jpg"))


def test_only_pictures_with_background_are_listed_where_there_are_any(tmp_path):
    for name in ("a/withBackground/Robin/1.JPG", "a/noBackground/Robin/1.jpg", "2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a/withBackground/Robin/1.JPG"]
    shutil.rmtree(tmp_path / "a/withBackground")
    assert len(list_images(tmp_path)) == 2


def test_linked_folders_are_walked_once_and_hidden_files_never(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "photos" / "._1.jpg").touch()
    (tmp_path / "birds" / "sub").mkdir(parents=True)
    (tmp_path / "birds" / "linked").symlink_to(tmp_path / "photos")
    (tmp_path / "birds" / "sub" / "round").symlink_to(tmp_path / "birds")
    assert list_images(tmp_path / "birds") == [tmp_path / "birds" / "linked" / "1.jpg"]


def nested(folder, depth):
    """Make folders in each other, without `os.makedirs`, which calls itself for each."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(depth):
        folder = folder / "d"
        folder.mkdir()
    return folder


def test_folders_nested_too_deeply_are_refused(tmp_path):
    (nested(tmp_path / "fine", limits.MAX_DEPTH) / "1.jpg").touch()
    assert len(list_images(tmp_path / "fine")) == 1
    nested(tmp_path / "deep", limits.MAX_DEPTH + 1)
    with pytest.raises(ValueError, match=f"Expected at most {limits.MAX_DEPTH} .*Received: folder"):
        list_images(tmp_path / "deep")


def test_what_a_killed_process_left_is_deleted_as_deep_as_archives_go(tmp_path):
    parent, outside = cache_folder() / "places", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (parent / "links.partial").mkdir(parents=True)
    (parent / "links.partial" / "link").symlink_to(outside)
    (nested(parent / "deep.partial", limits.MAX_DEPTH) / "1.jpg").touch()
    build_once(parent / "new", Path.is_dir)
    assert [path.name for path in parent.iterdir() if path.is_dir()] == ["new"]
    assert (outside / "kept").exists()


def test_a_zip_is_unpacked_once(tmp_path):
    content = {"deep/down/Robin/1.jpg": b"one", "deep/Wren/2.png": b"two", "read me.txt": b"no"}
    source = fetch(str(zipped(tmp_path / "my birds.zip", content)))
    assert (source.name, source.kind) == ("my birds", "photographs")
    assert source.uri == (tmp_path / "my birds.zip").as_uri()
    assert files_below(source.folder) == {"deep/down/Robin/1.jpg", "deep/Wren/2.png"}
    assert (source.folder / "deep/Wren/2.png").read_bytes() == b"two"

    (source.folder / "deep/Wren/2.png").write_bytes(b"still here")
    again = fetch(str(tmp_path / "my birds.zip"))
    assert (again.folder / "deep/Wren/2.png").read_bytes() == b"still here"


def test_a_changed_zip_is_unpacked_anew(tmp_path):
    first = fetch(str(zipped(tmp_path / "birds.zip", {"1.jpg": b"one"})))
    second = fetch(str(zipped(tmp_path / "birds.zip", {"1.jpg": b"one", "2.jpg": b"two"})))
    assert files_below(second.folder) == {"1.jpg", "2.jpg"}
    assert second.uri == first.uri


def test_of_a_zip_only_pictures_with_background_are_unpacked(tmp_path):
    content = {"x/withBackground/Robin/(1).jpg": b"1", "x/noBackground/Robin/(1).jpg": b"2"}
    source = fetch(str(zipped(tmp_path / "birds.zip", content)))
    assert files_below(source.folder) == {"x/withBackground/Robin/(1).jpg"}


def special(name, kind):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3  # Unix
    entry.external_attr = (kind | 0o777) << 16
    return entry


def compressed(name, kind):
    entry = zipfile.ZipInfo(name)
    entry.compress_type = kind
    return entry


@pytest.mark.parametrize(
    ("entry", "content", "complaint"),
    [
        ("../evil.jpg", b"x", "stay inside"),
        ("birds/../../evil.jpg", b"x", "stay inside"),
        ("/tmp/evil.jpg", b"x", "stay inside"),
        ("..\\evil.jpg", b"x", "stay inside"),
        ("C:\\evil.jpg", b"x", "stay inside"),
        ("../evil.txt", b"x", "stay inside"),
        (special("link.jpg", stat.S_IFLNK), b"/etc/passwd", "no links"),
        (special("pipe.jpg", stat.S_IFIFO), b"", "no links"),
        ("bomb.bmp", bytes(30_000_000), "compressed to 1/"),
        pytest.param("d/" * 1500 + "1.jpg", b"x", "at most 100 folders", id="deep"),
        (compressed("1.jpg", zipfile.ZIP_BZIP2), b"x", "stored or deflated"),
        (compressed("1.jpg", zipfile.ZIP_LZMA), b"x", "stored or deflated"),
    ],
)
def test_a_zip_with_an_evil_entry_is_refused_whole(tmp_path, cache, entry, content, complaint):
    path = zipped(tmp_path / "birds.zip", {"Robin/1.jpg": b"fine", entry: content})
    with pytest.raises(ValueError, match=f"Expected .*{complaint}.* Received: entry="):
        fetch(str(path))
    assert {name for name in files_below(tmp_path) if "lock" not in name} == {"birds.zip"}


@pytest.mark.parametrize("limit", ["MAX_ENTRIES", "MAX_ARCHIVE_BYTES"])
def test_a_zip_of_absurd_size_is_refused(tmp_path, monkeypatch, limit):
    content = {f"{number}.jpg": b"12345" for number in range(21)}
    path = zipped(tmp_path / "birds.zip", content)
    monkeypatch.setattr(limits, limit, 20)
    with pytest.raises(ValueError, match="Expected at most 20 .*Received: entry="):
        fetch(str(path))


def test_a_list_of_entries_of_absurd_length_is_not_even_read(tmp_path, monkeypatch):
    path = zipped(tmp_path / "birds.zip", {f"{number}.jpg": b"x" for number in range(30)})
    monkeypatch.setattr(limits, "MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(ValueError, match="list of entries of at most 1000 bytes.*Received: entry="):
        fetch(str(path))


def test_small_entries_that_are_a_bomb_together_are_refused(tmp_path, cache):
    empty = {f"{number}.bmp": bytes(900_000) for number in range(70)}
    assert len(files_below(fetch(str(zipped(tmp_path / "few.zip", empty))).folder)) == 70
    more = {f"{number}.bmp": bytes(900_000) for number in range(110)}
    with pytest.raises(ValueError, match="compressed to 1/300 .*, all together.*Received: entry="):
        fetch(str(zipped(tmp_path / "many.zip", more)))
    assert len(list(cache.glob("archives/*/"))) == 1


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "birds.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("0.bmp", os.urandom(1000) + bytes(200_000))
        for number in range(1, 800):
            twin = copy.copy(file.filelist[0])
            twin.filename = f"{number}.bmp"
            file.filelist.append(twin)
    with pytest.raises(ValueError, match="compressed to 1/300 .*, all together.*Received: entry="):
        fetch(str(tmp_path / "birds.zip"))


def test_drawings_that_shrink_much_are_unpacked(tmp_path):
    tile = bytes(200) + os.urandom(4)  # a hundredth of it is drawn
    drawings = {f"{number}.bmp": tile * 4000 for number in range(100)}
    path = zipped(tmp_path / "drawings.zip", drawings)
    assert path.stat().st_size * 40 < 100 * 4000 * 204
    assert len(files_below(fetch(str(path)).folder)) == 100


def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "birds.zip")
    with pytest.raises(ValueError, match="cannot be used as data"):
        fetch(str(tmp_path / "birds.zip"))


def test_a_zip_that_lies_about_a_size_writes_no_more_than_it_declared(tmp_path, cache):
    path = zipped(tmp_path / "birds.zip", {"1.jpg": bytes(50_000)})
    lying = path.read_bytes().replace((50_000).to_bytes(4, "little"), (70).to_bytes(4, "little"))
    path.write_bytes(lying)
    with pytest.raises(ValueError, match="Expected a whole .zip"):
        fetch(str(path))
    assert not [name for name in files_below(cache) if "lock" not in name]


def test_a_zip_with_a_password_or_without_pictures_is_refused(tmp_path):
    path = zipped(tmp_path / "birds.zip", {"1.jpg": b"x"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the encryption flag, in the entry's own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    path.write_bytes(content)
    with pytest.raises(ValueError, match="without a password"):
        fetch(str(path))
    with pytest.raises(ValueError, match="no pictures"):
        fetch(str(zipped(tmp_path / "texts.zip", {"1.txt": b"x"})))


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_zip_is_refused_and_a_whole_one_in_its_place_taken(tmp_path, damage):
    pictures = {f"{number}.jpg": os.urandom(1000) for number in range(20)}
    whole = zipped(tmp_path / "birds.zip", pictures).read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:10_000] + bytes([whole[10_000] ^ 255]) + whole[10_001:],
        "text": b"<html>404</html>",
    }
    (tmp_path / "birds.zip").write_bytes(broken[damage])
    with pytest.raises(ValueError, match="Expected a whole .zip"):
        fetch(str(tmp_path / "birds.zip"))
    (tmp_path / "birds.zip").write_bytes(whole)
    assert len(files_below(fetch(str(tmp_path / "birds.zip")).folder)) == 20


def test_unpacking_that_was_killed_is_never_taken_for_whole(tmp_path, cache):
    pictures = {f"Robin/{number}.jpg": b"bird" * 200 for number in range(3000)}
    path = zipped(tmp_path / "birds.zip", pictures)
    process = start(path)
    kill_when(process, lambda: list(cache.glob("archives/*.partial/Robin/9.jpg")))
    left = [folder.name for folder in (cache / "archives").iterdir() if folder.is_dir()]
    assert left and all(name.endswith(".partial") for name in left), "too late to kill it half-way"

    assert len(files_below(fetch(str(path)).folder)) == 3000
    assert not list(cache.glob("archives/*.partial"))


def test_two_processes_unpack_the_same_zip_at_once(tmp_path, cache):
    pictures = {f"{number}.jpg": b"bird" for number in range(1000)}
    path = zipped(tmp_path / "birds.zip", pictures)
    processes = [start(path), start(path)]
    folders = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(folders) == 1 and len(files_below(Path(folders.pop()))) == 1000


def test_the_sample_is_unpacked_once_for_all_checkouts(monkeypatch, cache, tmp_path):
    source = fetch("sample")
    assert (source.name, source.kind) == ("sample", "painted")
    assert source.uri.startswith("sample:painted-birds?sha256=")
    assert source.folder.parent == cache / "archives"
    pictures = sorted(files_below(source.folder))
    assert len(pictures) == 480
    (source.folder / pictures[0]).unlink()
    monkeypatch.setattr(sources, "SAMPLE", shutil.copy(sources.SAMPLE, tmp_path / "other.zip"))
    assert fetch("sample") == source
    assert len(files_below(source.folder)) == 479  # not unpacked again


class Kaggle(BaseHTTPRequestHandler):
    """Speaks the calls of Kaggle's client; `server.behavior` says what goes wrong, once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, None))
        allowed = "Basic " + base64.b64encode(b"robin:secret").decode()
        if self.headers.get("Authorization") != allowed:
            self.answer(401)
        elif isinstance(self.server.behavior, int):
            self.answer(self.server.behavior)
        else:
            self.answer(302, Location=f"{self.server.url}/storage/birds.zip?signed")

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        whole, behavior = self.server.archive, self.server.behavior
        self.server.behavior = "whole"
        offset = int(wanted[6:-1]) if wanted else 0
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": f'"{hashlib.md5(whole).hexdigest()}"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Content-Length": len(whole) - offset,
        }
        body = whole[offset:]
        if behavior == "page":
            body, headers = b"<html>sorry</html>", {"Content-Length": 18}
        elif behavior == "flipped":
            body = body[:2000] + bytes([body[2000] ^ 255]) + body[2001:]
        elif behavior == "short":  # and does not say how long it should have been
            body, headers = body[: len(body) // 2], {"Connection": "close"}
        elif behavior in ("cut", "stalled"):
            body = body[: len(body) // 2]
        elif behavior in ("endless", "dripping"):
            body, headers = b"", {"Connection": "close"}
        self.answer(206 if wanted else 200, body, **headers)
        if behavior == "stalled":
            self.server.resumed.wait(60)
        while behavior in ("endless", "dripping") and not self.server.resumed.wait(0.001):
            try:
                self.wfile.write(bytes(100_000) if behavior == "endless" else b"P")
            except ConnectionError:  # the client has had enough
                break
        self.close_connection = self.close_connection or behavior in ("cut", "short", "stalled")

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        if "Connection" not in headers:
            headers = {"Content-Length": len(body), **headers}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A server like Kaggle's, credentials for it, and the client pointed at it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.behavior, server.requests, server.resumed = "whole", [], threading.Event()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(40):
            for kind in ("with", "no"):
                file.writestr(f"{kind}Background/Robin/({number}).jpg", os.urandom(50_000))
        file.writestr("birds.csv", "path\n")
    server.archive = buffer.getvalue()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    for name in list(os.environ):
        if name.startswith("KAGGLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLE_USERNAME", "robin")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
    yield server
    server.resumed.set()
    server.shutdown()
    server.server_close()
    thread.join()


def is_whole(source):
    return files_below(source.folder) == {f"withBackground/Robin/({n}).jpg" for n in range(40)}


def test_kaggle_s_photographs_are_downloaded_once(kaggle, cache, monkeypatch, capsys):
    source = fetch("kaggle")
    assert is_whole(source)
    assert (source.name, source.kind) == ("kaggle", "photographs")
    assert source.uri == "kaggle:davemahony/20-uk-garden-birds"
    assert [path.split("/")[-1] for path, _ in kaggle.requests] == [
        "DownloadDataset",
        "birds.zip?signed",
    ]
    assert not list(cache.rglob("*.zip"))
    assert capsys.readouterr().out == ""

    monkeypatch.delenv("KAGGLE_KEY")
    assert fetch("kaggle") == source
    assert len(kaggle.requests) == 2


def test_a_download_that_is_cut_is_continued(kaggle):
    kaggle.behavior = "cut"
    assert is_whole(fetch("kaggle"))
    continued = kaggle.requests[-1][1]
    assert continued and 0 < int(continued[6:-1]) <= len(kaggle.archive) // 2


def test_a_download_that_was_killed_is_continued_by_the_next_call(kaggle, cache):
    kaggle.behavior = "stalled"
    process = start("kaggle", kaggle.url)
    enough = len(kaggle.archive) // 4
    kill_when(
        process,
        lambda: any(z.stat().st_size > enough for z in cache.glob("kaggle/downloads/*.zip")),
    )
    assert not (cache / "kaggle" / "davemahony-20-uk-garden-birds").exists()

    assert is_whole(fetch("kaggle"))
    continued = kaggle.requests[-1][1]
    assert continued and int(continued[6:-1]) > enough


@pytest.mark.parametrize("behavior", ["page", "flipped", "short"])
def test_a_damaged_download_is_refused_and_the_next_call_starts_over(kaggle, cache, behavior):
    kaggle.behavior = behavior
    with pytest.raises(ConnectionError, match="same command again.*data=sample.*Received:"):
        fetch("kaggle")
    assert not (cache / "kaggle" / "davemahony-20-uk-garden-birds").exists()
    assert is_whole(fetch("kaggle"))


def test_a_download_without_end_is_stopped_and_deleted(kaggle, cache, monkeypatch):
    monkeypatch.setattr(limits, "MAX_KAGGLE_BYTES", 5_000_000)
    kaggle.behavior = "endless"
    with pytest.raises(ConnectionError, match="at most 5000000 bytes.*data=sample.*Received: more"):
        fetch("kaggle")
    assert not list(cache.rglob("*.zip"))
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert is_whole(fetch("kaggle"))


def test_a_download_that_hardly_comes_is_stopped(kaggle, monkeypatch):
    monkeypatch.setattr(limits, "PROGRESS_SECONDS", 1)
    kaggle.behavior = "dripping"
    with pytest.raises(ConnectionError, match="same command again.*Received: fewer than 1048576 b"):
        fetch("kaggle")
    assert is_whole(fetch("kaggle"))


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_by_kaggle_says_what_to_do(kaggle, status):
    kaggle.behavior = status
    with pytest.raises(
        PermissionError, match=f"new token .*data=sample.* Received: status={status}"
    ):
        fetch("kaggle")
    kaggle.behavior = "whole"
    assert is_whole(fetch("kaggle"))


def test_wrong_credentials_are_named(kaggle, monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "wrong")
    with pytest.raises(PermissionError, match="status=401"):
        fetch("kaggle")


def test_a_server_that_is_away_or_broken_is_named(kaggle, monkeypatch):
    kaggle.behavior = 500
    with pytest.raises(ConnectionError, match="Expected a working connection"):
        fetch("kaggle")
    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9"
    )
    with pytest.raises(ConnectionError, match="Expected a working connection"):
        fetch("kaggle")


def test_missing_credentials_are_told_where_to_go(kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    out, error = start("kaggle", kaggle.url).communicate()
    assert out == ""
    message = error.strip().splitlines()[-1]
    assert message.startswith("PermissionError: Kaggle needs credentials.")
    hints = "~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_API_TOKEN", "-P data=sample"
    assert all(hint in message for hint in hints)


def test_of_links_to_one_folder_the_first_by_name_gives_the_path(tmp_path, monkeypatch):
    (tmp_path / "other" / "in").mkdir(parents=True)
    (tmp_path / "other" / "in" / "c.jpg").touch()
    album = tmp_path / "album"
    album.mkdir()
    for name, target in (("b", "other"), ("a", "other/in")):
        (album / name).symlink_to(tmp_path / target)
    walk = os.walk

    def backwards(*arguments, **options):  # as some file systems list folders
        for parent, folders, files in walk(*arguments, **options):
            folders.sort(reverse=True)
            yield parent, folders, files

    monkeypatch.setattr(os, "walk", backwards)
    assert [path.relative_to(album).as_posix() for path in list_images(album)] == ["a/c.jpg"]
