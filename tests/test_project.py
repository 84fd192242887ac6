"""The project's own rules: MLproject agrees with the code, and modules import one way only."""

import ast
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sweeps.__main__
from colorization.__main__ import parse
from colorization.config import VARIANTS, tunable_fields
from tests.conftest import ROOT

PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())

ONLY_IN = {
    "mlflow": (
        "colorization/tracking.py",
        "colorization/comparison.py",
        "colorization/__main__.py",
        "serve/",
        "sweeps/",
    ),
    "tensorflow": (
        "colorization/data/pipeline.py",
        "colorization/models/adversarial.py",
        "colorization/models/export.py",
        "colorization/training.py",
    ),
    "optuna": ("sweeps/",),
    "kaggle": ("colorization/data/",),
    "serve": ("colorization/__main__.py", "serve/", "sweeps/"),
}


def placeholders(command):
    return [name for _, name, _, _ in string.Formatter().parse(command) if name]


def imported(path):
    """Give the top names of all modules that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_an_entry_point_with_the_same_names_and_defaults(variant):
    entry = PROJECT["entry_points"][variant]
    config = VARIANTS[variant]
    expected = {field.name: getattr(config, field.name) for field in tunable_fields(config)}
    defaults = {name: spec["default"] for name, spec in entry["parameters"].items()}
    assert defaults.pop("data") == "sample"
    assert defaults.pop("register") == "yes"
    assert defaults.pop("start_from") == ""
    assert defaults == expected
    types = {int: "int", float: "float", str: "string"}
    for field in tunable_fields(config):
        assert entry["parameters"][field.name]["type"] == types[field.type]


@pytest.mark.parametrize(
    ("entry", "parsed"), [("main", parse(["compare"])), ("sweep", sweeps.__main__.parse([]))]
)
def test_other_entry_points_have_the_defaults_of_their_command_lines(entry, parsed):
    parameters = PROJECT["entry_points"][entry]["parameters"]
    defaults = {name: str(spec["default"]) for name, spec in parameters.items()}
    assert defaults == {name: value for name, value in vars(parsed).items() if name != "variant"}


@pytest.mark.parametrize("name", PROJECT["entry_points"])
def test_each_parameter_reaches_the_command(name):
    entry = PROJECT["entry_points"][name]
    assert sorted(placeholders(entry["command"])) == sorted(entry["parameters"])
    if name in VARIANTS:
        assert f"colorization {name} " in entry["command"]
        for parameter in entry["parameters"]:
            assert f"--{parameter} {{{parameter}}}" in entry["command"]


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_only_where_the_design_allows_it(package):
    files = [f for room in ("colorization", "serve", "sweeps") for f in (ROOT / room).rglob("*.py")]
    users = {str(f.relative_to(ROOT)) for f in files if package in imported(f)}
    assert users, f"nobody imports {package}: is this rule still needed?"
    assert all(user.startswith(ONLY_IN[package]) for user in users), users


# The way of the data: a module imports only what stands before it.
ORDER = (
    *("pixels", "config", "metrics", "figures", "data", "models", "evaluation", "schedule"),
    *("training", "tracking", "comparison", "launcher", "__main__"),
)


@pytest.mark.parametrize("room", ORDER)
def test_a_module_imports_only_what_stands_before_it(room):
    place = ROOT / "colorization" / room
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    code = "\n".join(file.read_text() for file in files)
    names = {
        other for other in ORDER if re.search(rf"^\s*from colorization.*\b{other}\b", code, re.M)
    }
    names |= {
        other for other in ORDER if re.search(rf"^\s*from colorization\.{other}\b", code, re.M)
    }
    assert names <= {room, *ORDER[: ORDER.index(room)]}


def test_the_served_file_stands_alone():
    own = {"colorization", "serve", "sweeps", "tensorflow", "keras"}
    assert not own & set(imported(ROOT / "serve" / "colorizer.py"))


def test_every_requirement_is_pinned():
    *conda, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    assert conda[0] == "python=3.11"
    assert all("==" in requirement for requirement in pip["pip"])


def test_everything_that_is_imported_is_required():
    import importlib.metadata

    *_, pip = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    required = {requirement.split("==")[0].lower() for requirement in pip["pip"]}
    providers = importlib.metadata.packages_distributions()
    own = {path.name for path in ROOT.iterdir()}
    files = [f for room in own for f in (ROOT / room).rglob("*.py") if not room.startswith(".")]
    for module in {name for file in files for name in imported(file)}:
        if module not in sys.stdlib_module_names and module not in own:
            assert {name.lower() for name in providers.get(module, [module])} & required, module


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_the_code_follows_the_house_style(command):
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run([ruff, *command, ROOT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
