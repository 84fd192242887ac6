"""MLproject agrees with the code, and conda.yaml lists what the code imports."""

import ast
import importlib.metadata
import shlex
import string
import sys

import pytest
import yaml
from mlflow.projects import _project_spec

import sweeps.__main__
from colorization import __main__ as training
from colorization.config import VARIANTS, tunable_fields
from colorization.registry import __main__ as registering
from serve.batch import __main__ as batch
from serve.evaluation import __main__ as evaluation
from serve.importing import __main__ as importing
from serve.page import __main__ as page
from tests.conftest import ROOT

PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
PARSERS = {
    "main": training.parse,
    "sweep": sweeps.__main__.parse,
    "pretrained": importing.parse,
    "evaluate": evaluation.parse,
    "app": page.parse,
    "colorize": batch.parse,
    "register": registering.parse,
} | dict.fromkeys(VARIANTS, training.parse)
NEEDED = {
    "colorize": {"input": "album", "output": "colored"},
    "register": {"best": "naive"},
    "pretrained": {"naive": "a.keras"},
}


def arguments_of(entry, **parameters):
    """What `mlflow run . -e entry -P ...` gives the command line of an entry point."""
    project = _project_spec.load_project(str(ROOT))
    command = project.get_entry_point(entry).compute_command(parameters, None)
    python, _, module, *arguments = shlex.split(command)
    assert (python, module.split(".")[0] in ("colorization", "serve", "sweeps")) == ("python", True)
    return arguments


def placeholders(command):
    return [name for _, name, _, _ in string.Formatter().parse(command) if name]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_an_entry_point_declares_is_as_in_the_config(variant):
    entry = PROJECT["entry_points"][variant]
    assert f"colorization {variant} " in entry["command"]
    fields = {field.name: field for field in tunable_fields(VARIANTS[variant])}
    types = {int: "int", float: "float", str: "string"}
    for name, spec in entry["parameters"].items():
        if name in ("data", "register"):
            continue
        assert spec["default"] == getattr(VARIANTS[variant], name)
        assert spec["type"] == types[fields[name].type]
    rates = {name for name in VARIANTS[variant].learning_rates}
    assert {"data", "register", "epochs", "depth", "dropout", *rates} == set(entry["parameters"])


@pytest.mark.parametrize("name", PROJECT["entry_points"])
def test_each_declared_parameter_reaches_the_command(name):
    entry = PROJECT["entry_points"][name]
    assert sorted(placeholders(entry["command"])) == sorted(entry.get("parameters", {}))
    for parameter in entry.get("parameters", {}):
        flag = "-m" if parameter == "markers" else f"--{parameter}"
        assert f"{flag} {{{parameter}}}" in entry["command"]


@pytest.mark.parametrize("name", PARSERS)
def test_an_entry_point_starts_with_its_defaults(name):
    PARSERS[name](arguments_of(name, **NEEDED.get(name, {})))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_parameter_that_is_not_declared_is_passed_on(variant):
    parsed = PARSERS[variant](arguments_of(variant, filters="8", start_from="a b.keras"))
    assert (parsed.filters, parsed.start_from) == ("8", "a b.keras")


@pytest.mark.parametrize("name", PARSERS)
def test_an_unknown_parameter_is_an_error_that_names_the_known_ones(name, capsys):
    with pytest.raises(SystemExit) as stop:
        PARSERS[name](arguments_of(name, **NEEDED.get(name, {}), epoch="3"))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Unknown parameter `epoch`. " in error and "Received: --epoch 3" in error
    known = {"app": "host", "colorize": "saturation", "register": "best", "pretrained": "naive"}
    assert known.get(name, "data") in error.partition("Expected one of ")[2]


def test_every_requirement_is_pinned():
    *conda, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert conda[0] == "python=3.11"
    assert all("==" in requirement for requirement in pip["pip"])


def imported(path):
    """Give the top names of all modules that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_everything_that_is_imported_is_required():
    *_, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    required = {requirement.split("==")[0].lower().replace("_", "-") for requirement in pip["pip"]}
    providers = importlib.metadata.packages_distributions()
    own = {path.name for path in ROOT.iterdir()}
    files = [f for room in own for f in (ROOT / room).rglob("*.py") if not room.startswith(".")]
    for module in {name for file in files for name in imported(file)}:
        if module not in sys.stdlib_module_names and module not in own:
            names = {name.lower().replace("_", "-") for name in providers.get(module, [module])}
            assert names & required, module
