"""README and documentation: commands that entry points take, clients that run, links that lead."""

import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import playwright
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server
from PIL import Image

from colorization import __main__ as training
from colorization.config import VARIANTS, owners, tunable_fields
from colorization.registry import lookup
from scripts import parameters
from serve.pyfunc import Options
from sweeps.space import parse_fix
from tests.conftest import ROOT
from tests.test_project import NEEDED, PARSERS, PROJECT, arguments_of
from tests.test_pyfunc import encode, paint, save_colorizer

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    path.name: path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *DOCS]
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE = "assets/photographs/dandelions.jpg"
NOT_RUN = re.compile(r"^# not run by our tests", re.MULTILINE)
# Run by `.ci/run`, or with other arguments by tests of servers; `git`, `rm` and `uv` are not ours.
OTHERS = ("git clone ", "python3 -m venv ", "pip install mlflow", "export MLFLOW_TRACKING_URI=")
OTHERS += ("mlflow ui", "mlflow models ", "rm -rf ~/", "uv cache ")


def blocks(*kinds):
    """Give the fenced blocks of these languages that are not marked, with their page."""
    for page, text in PAGES.items():
        for kind, block in FENCE.findall(text):
            if kind in kinds and not NOT_RUN.match(block):
                yield page, block


def commands():
    for _, block in blocks("bash"):
        if "/invocations" not in block:  # a client, which is run below
            yield from block.splitlines()


def calls():
    """Give each `mlflow run`, marked or not: all of them name entry points and parameters."""
    for text in PAGES.values():
        code = [block for kind, block in FENCE.findall(text) if kind == "bash"]
        code += re.findall(r"^ {4}.*", text, re.MULTILINE)
        for line in "\n".join(code).splitlines():
            yield from re.findall(r"mlflow run \S.*", line.partition("  #")[0])


@pytest.mark.parametrize("command", dict.fromkeys(calls()))
def test_an_entry_point_takes_the_parameters_that_a_page_gives_it(command):
    words = shlex.split(command)[2:]
    given = [words[i + 1].partition("=") for i, word in enumerate(words) if word == "-P"]
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    assert set(words) >= {"--env-manager"} and entry in PROJECT["entry_points"]
    values = {name: value for name, _, value in given}
    if entry not in PARSERS:
        assert set(values) <= set(PROJECT["entry_points"][entry].get("parameters", {}))
        return
    arguments = PARSERS[entry](arguments_of(entry, **values))
    if PARSERS[entry] is training.parse:
        training._configs(arguments)
    if entry == "sweep":
        parse_fix(arguments.family, arguments.fix)


def test_every_other_command_of_a_page_is_known_or_marked_as_not_run():
    lines = [line for line in commands() if line.strip() and not line.startswith("#")]
    assert lines and [line for line in lines if not line.startswith(("mlflow run ", *OTHERS))] == []


def test_a_parameter_that_a_sentence_names_exists():
    known = {"markers", "name"}.union(*(vars(PARSERS[each](_bare(each))) for each in PARSERS))
    for page, text in PAGES.items():
        named = set(re.findall(r"-P (\w+)=", FENCE.sub("", text)))
        assert named <= known, page


@pytest.mark.parametrize("page, entry", [("folders.md", "colorize"), ("sweeps.md", "sweep")])
def test_a_table_of_options_has_all_of_them(page, entry):
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", PAGES[page], re.MULTILINE)))
    known = set(vars(PARSERS[entry](_bare(entry)))) - {
        "input",
        "output",
        "data",
        "seed",
        "register",
    }
    assert known <= set(named)


def test_the_table_of_a_requests_params_has_all_of_them():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["serving.md"], re.MULTILINE)
    assert sorted(rows) == sorted(Options._fields)


def _bare(entry):
    return arguments_of(entry, **NEEDED.get(entry, {}))


def test_the_page_of_parameters_is_that_of_the_code_and_has_every_field_and_default():
    page = PAGES["parameters.md"]
    assert page == parameters.page(), "Write it anew: python -m scripts.parameters"
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    for name in owners():
        defaults = {getattr(each, name) for each in VARIANTS.values() if hasattr(each, name)}
        assert all(f"`{default}`" in rows[name] for default in defaults)
    size = next(spec for spec in tunable_fields(VARIANTS["pix2pix"]) if spec.name == "size")
    assert size.metadata["help"] in rows["size"] and "32 to 512, divisible by 32" in rows["size"]


@pytest.mark.parametrize("page", [page for page in PAGES if page != "api.md"])  # the site fills it
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(page):
    folder = ROOT if (ROOT / page).is_file() else ROOT / "docs"
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        file = folder / (target or page)
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
            assert anchor in slugs, target


def test_readme_is_short_and_has_the_tests_command_of_ci():
    assert len(PAGES["README.md"].splitlines()) <= 160
    (command,) = re.findall(r"^pip install .* -e test .*", (ROOT / ".ci" / "run").read_text(), re.M)
    assert command.replace("-q ", "") in PAGES["README.md"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_colorizer(tmp_path_factory.mktemp("model"), 1, "chroma")


@pytest.fixture(scope="module")
def address(model):
    """MLflow's own server of a model, in a thread, on loopback."""
    app = scoring_server.init(mlflow.pyfunc.load_model(str(model)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def run(client, address):
    """Run a client of the page on serving in the working directory, against a server."""
    (code,) = (
        block for page, block in blocks(client) if page == "serving.md" and "/invocations" in block
    )
    code = code.replace("http://127.0.0.1:5001", address)
    node = Path(playwright.__file__).parent / "driver" / "node"
    programs = {"bash": ["bash", "-c"], "python": [sys.executable, "-c"]}
    programs["js"] = [node, "--input-type=module", "-e"]
    return subprocess.run([*programs[client], code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("client, answer", [("bash", "png"), ("python", "jpg"), ("js", "webp")])
def test_a_client_colors_a_picture_and_shows_what_the_server_says_when_it_refuses(
    client, answer, address, tmp_path
):
    (tmp_path / EXAMPLE).parent.mkdir(parents=True)
    (tmp_path / EXAMPLE).write_bytes(encode(paint(size=(60, 40)), "JPEG"))
    run(client, address)
    colored = Image.open(tmp_path / f"colored.{answer}")
    assert colored.size == (60, 40) and colored.format in ("PNG", "JPEG", "WEBP")
    (tmp_path / EXAMPLE).write_text("no picture at all")
    refused = run(client, address)
    assert "Row 0: the picture is " in refused.stdout + refused.stderr


@pytest.mark.parametrize("page", ["README.md", "serving.md"])
def test_a_model_loads_in_a_process_as_the_page_says(page, model, tmp_path):
    (code,) = (text for name, text in blocks("python") if name == page and "load_model" in text)
    (tmp_path / EXAMPLE).parent.mkdir(parents=True)
    (tmp_path / EXAMPLE).write_bytes(encode(paint(size=(60, 40)), "JPEG"))
    champion = lookup.champion_uri("pix2pix")
    assert champion in code
    exec(code.replace(champion, str(model)), {})
    assert Image.open(tmp_path / "colored.png").size == (60, 40)
