"""`deploy/compose.yaml`: its form, and its services as processes on loopback, wired as there."""

import base64
import contextlib
import http.client
import io
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from colorization import limits, tracking
from tests import warm
from tests.conftest import ROOT

FOLDER = ROOT / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PORTS = "5432 5000 5001 7860 8080 8081".split()  # of the containers
COPIED = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE)
WHO = "anna:correct horse"
NOBODY = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # some refuse to be root
POSTGRES = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
PATH = [Path(sys.executable).parent, *POSTGRES, "/usr/sbin", os.environ["PATH"]]


# Its form


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_an_ordinary_user_that_writes_to_volumes_only_and_is_watched(name):
    service = SERVICES[name]
    assert all(int(each) > 0 for each in service["user"].split(":"))
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "build" in service or re.search(r":\d+\.\d+\.?\d*-bookworm$", service["image"])


def test_only_nginx_publishes_ports_and_that_of_mlflow_on_loopback_only():
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert list(published) == ["nginx"]
    (server,) = re.findall(r"listen (\d+);(?:(?!listen).)*mlflow", _text("nginx.conf"), re.DOTALL)
    assert f"127.0.0.1:5000:{server}" in published["nginx"]


def test_an_upload_may_hold_all_the_pictures_that_the_page_takes():
    (location,) = re.findall(r"location /birds/ \{.+?\}", _text("nginx.conf"), re.DOTALL)
    (size,) = re.findall(r"client_max_body_size (\d+)m;", location)
    assert int(size) * limits.MIB > limits.MAX_PICTURES_AT_ONCE * limits.MAX_UPLOAD_BYTES


def test_the_builder_gets_what_it_copies_and_no_secrets():
    first, *others = re.findall(r"^[^#\n]+", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert first == "*" and sorted(others) == sorted(f"!{each}" for each in COPIED)


def test_every_file_that_is_mounted_or_built_from_is_in_the_repository():
    places = [(ROOT, each) for each in COPIED]
    for service in SERVICES.values():
        mounts = [each.split(":")[0] for each in service.get("volumes", ())]
        places += [(FOLDER, each) for each in mounts if each.startswith(".")]
        assert {each for each in mounts if not each.startswith(".")} <= set(COMPOSE["volumes"])
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        build = service.get("build", {"context": "..", "dockerfile": "deploy/Dockerfile"})
        assert (FOLDER / build["context"]).resolve() / build["dockerfile"] == FOLDER / "Dockerfile"
    assert places and [place for folder, place in places if not (folder / place).exists()] == []
    assert all(each["file"].startswith("./secrets/") for each in COMPOSE["secrets"].values())
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("words", [["docker-compose"], ["docker", "compose"]], ids=" ".join)
def test_docker_compose_takes_the_file(words):
    if not shutil.which(words[0]) or subprocess.run([*words, "version"], check=False).returncode:
        pytest.skip(f"{' '.join(words)} is not installed")
    command = [*words, "-f", FOLDER / "compose.yaml", "config"]
    taken = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert yaml.safe_load(taken)["services"].keys() == SERVICES.keys()


def test_the_image_has_what_the_project_needs_and_an_ordinary_user():
    python, *_, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert f"FROM python:{python.removeprefix('python=')}." in DOCKERFILE
    (listing,) = re.findall(r"pip install .*\$\((.*)\)$", DOCKERFILE, re.MULTILINE)
    listed = subprocess.run(["sh", "-c", listing], cwd=ROOT, check=True, capture_output=True)
    assert listed.stdout.decode().split() == pip["pip"]
    assert DOCKERFILE.splitlines()[-1] == "USER birds"
    users = {each["user"] for each in SERVICES.values() if "build" in each}
    assert users == {f"{re.findall('--uid ([0-9]+)', DOCKERFILE)[0]}:10001"}


def _text(name):
    return (FOLDER / name).read_text()


# Its services


class Deployment:
    """The services as processes: ports, folders and secrets are others, all else is as written."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
        self.ports = {
            port: each.getsockname()[1] for port, each in zip(PORTS, sockets, strict=True)
        }
        for each in sockets:
            each.close()
        for name in ("app", "secrets", "srv"):
            (folder / name).mkdir()
        (folder / "secrets" / "postgres_password").write_text("a secret\n")
        (folder / "secrets" / "passwords").write_text(WHO.replace(":", ":{PLAIN}") + "\n")
        (folder / "birds.conf").write_text(self.here(_text("nginx.conf")))
        for place in COPIED:
            (folder / "app" / place).symlink_to(ROOT / place)
        if NOBODY:
            os.chown(folder, NOBODY, -1)

    def here(self, text):
        """Return a text of the deployment as it holds on this machine."""
        places = "/run/secrets", "/srv", "/etc/nginx", "/var/lib/postgresql", "/tmp"
        ours = self.folder / "secrets", self.folder / "srv", *[self.folder] * 3
        ours = dict(zip(places, map(str, ours), strict=True))
        text = re.sub("|".join(ours), lambda found: ours[found[0]], text)
        text = re.sub(rf"\b({'|'.join(SERVICES)}):(?=[0-9])|0\.0\.0\.0:?", _loopback, text)
        text = text.replace("listen ", "listen 127.0.0.1:").replace("$$", "$")
        return re.sub(r"\b[0-9]{4}\b", lambda each: str(self.ports.get(each[0], each[0])), text)

    def run(self, name, words, process=subprocess.run, **options):
        """Run a command in the place of a service; only what starts it goes to its log."""
        service = SERVICES[name]
        environment = {"PGDATA": "/var/lib/postgresql/data", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
        environment |= service.get("environment", {})
        environment = {key: self.here(value) for key, value in environment.items()}
        user = None if "build" in service else NOBODY
        check = process is subprocess.run and not options
        with open("/dev/null" if check else self.folder / f"{name}.log", "ab") as log:
            if user and not check:
                os.chown(log.fileno(), user, -1)
            return process(
                list(map(self.here, words)),
                cwd=self.folder / "app",
                env=environment | {"PATH": os.pathsep.join(map(str, PATH))},
                user=user,
                stdout=log,
                stderr=log,
                **options,
            )

    def up(self, name, seconds=120):
        """Start a service, after those that it waits for, and wait until it is healthy."""
        for other in SERVICES[name].get("depends_on", ()):
            self.up(other)
        words = SERVICES[name]["command"]
        if name == "postgres":  # the image would make the database, and its sockets lie elsewhere
            auth = ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
            password = SERVICES[name]["environment"]["POSTGRES_PASSWORD_FILE"]
            make = ["initdb", "--username=mlflow", f"--pwfile={password}", *auth]
            self.run(name, make, check=True)
            words = [*words, "-F", "-k", "/tmp"]
        self.processes[name] = self.run(name, words, subprocess.Popen, start_new_session=True)
        deadline = time.monotonic() + seconds
        _, *check = SERVICES[name]["healthcheck"]["test"]
        while self.run(name, check).returncode:
            running = self.processes[name].poll() is None and time.monotonic() < deadline
            assert running, (self.folder / f"{name}.log").read_text()
            time.sleep(0.5)
        if name == "postgres":
            make = ["createdb", "-h", "/tmp", "-p", "5432", "-U", "mlflow", "mlflow"]
            self.run(name, make, check=True)

    def down(self):
        """Stop all services."""
        for process in reversed(self.processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 2 if process is self.processes["postgres"] else 15)
            process.wait(60)

    def ask(self, path, body=None, who=WHO, port="8080", **headers):
        """Ask nginx; return status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=60)
        if who:
            headers["Authorization"] = f"Basic {base64.b64encode(who.encode()).decode()}"
        connection.request("POST" if path == "/invocations" else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _loopback(found):
    return "127.0.0.1" if found[0].startswith("0") else "127.0.0.1:"


@pytest.fixture(scope="module")
def deployment():
    if not (POSTGRES and shutil.which("nginx", path="/usr/sbin")):
        pytest.skip("not installed (Debian): apt-get install postgresql nginx")
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    deployed = Deployment(folder)
    try:
        deployed.up("nginx")
        yield deployed
    finally:
        deployed.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_services_color_a_picture_and_show_the_page_through_nginx(deployment):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).save(buffer, "PNG")
    row = {"image": base64.b64encode(buffer.getvalue()).decode()}
    body = json.dumps({"dataframe_records": [row]})
    kind = {"Content-Type": "application/json"}
    status, answer = deployment.ask("/invocations", body, **kind)
    assert status == 200, answer
    colored = base64.b64decode(json.loads(answer)["predictions"][0]["image"])
    colored = Image.open(io.BytesIO(colored))
    assert colored.size == (60, 40) and np.ptp(np.asarray(colored, int), axis=-1).max() > 0
    status, page = deployment.ask("/birds/")
    assert status == 200 and b"Garden birds in color" in page
    script = re.search(rb'src="\./(assets/[^"]+)"', page)[1].decode()
    assert deployment.ask(f"/birds/{script}")[0] == 200
    for path in ("/invocations", "/birds/", "/mlflow"):
        assert deployment.ask(path, who="anna:wrong")[0] == 401
        assert deployment.ask(path, who=None)[0] == 401
    too_large = {"Content-Length": str(32 * 2**20 + 1)}
    status, answer = deployment.ask("/invocations", **too_large)
    assert status == 413 and "at most 32 MB" in json.loads(answer)["message"]
    written = {each.name for each in (deployment.folder / "app").iterdir()} - set(COPIED)
    assert not written, "beside the volumes and /tmp"
    os.killpg(deployment.processes["model"].pid, 9)
    status, answer = deployment.ask("/invocations", body, **kind)
    assert status == 503 and "Try again" in json.loads(answer)["message"]


@pytest.mark.slow
def test_mlflow_answers_under_no_name_that_a_foreign_website_could_have(deployment):
    assert deployment.ask("/health", port="8081")[0] == 200
    with pytest.raises(http.client.RemoteDisconnected):
        deployment.ask("/health", port="8081", Host="birds.example:5000")


@pytest.mark.slow
def test_the_dockerfile_of_a_champion_installs_what_it_needs_and_no_tensorflow(
    deployment, tmp_path
):
    address = f"http://127.0.0.1:{deployment.ports['8081']}"
    page = (ROOT / "docs" / "serving.md").read_text()
    (command,) = re.findall(r"^mlflow (models generate-dockerfile .*)", page, re.MULTILINE)
    done = warm.run(
        [sys.executable, "-m", "mlflow", *shlex.split(command)],
        env=os.environ | {"MLFLOW_TRACKING_URI": address},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    image = tmp_path / "image"
    dockerfile = (image / "Dockerfile").read_text()
    python = sys.version_info
    assert f"FROM python:{python.major}.{python.minor}.{python.micro}-slim" in dockerfile
    assert "COPY model_dir /opt/ml/model\n" in dockerfile
    assert "_install_pyfunc_deps('/opt/ml/model', install_mlflow=False, env_manager='local')" in (
        dockerfile
    )
    model = image / "model_dir"  # that function installs what these files name
    environment = yaml.safe_load((model / "MLmodel").read_text())["flavors"]["python_function"]
    python_env = yaml.safe_load((model / environment["env"]["virtualenv"]).read_text())
    assert python_env["dependencies"] == ["-r requirements.txt"]
    needed = (model / "requirements.txt").read_text().splitlines()
    assert sorted(each.split("==")[0] for each in needed) == sorted(tracking.REQUIREMENTS)
    assert not {"tensorflow", "keras"} & {each.split("==")[0] for each in needed}
