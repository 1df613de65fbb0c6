"""One set of pins, told to pip (constraints.txt) and to conda (environment.yml)."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FILES = ["constraints.txt", "environment.yml"]


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_and_pip_hold_the_same_pins():
    (pip,) = [entry["pip"] for entry in environment()["dependencies"] if isinstance(entry, dict)]
    assert pip == [*constraints(), "-e ."]


def test_every_dependency_is_pinned():
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    wanted = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    pinned = {canonicalize_name(Requirement(line).name) for line in constraints()}
    assert wanted <= pinned


def test_a_pin_is_one_public_version():
    # No local version (+cpu, +cu130): the same pins serve every kind of machine.
    pin = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")
    assert [line for line in constraints() if not pin.fullmatch(line)] == []


def test_pins_name_no_cuda_wheel():
    assert not [line for line in constraints() if re.match(r"nvidia|cuda|triton", line)]


@pytest.mark.parametrize("name", FILES)
def test_no_place_is_named(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"://|@|/(?:opt|home|work|tmp|usr)/|--(?:index|find-links|extra)", text)


def test_python_is_one_the_package_accepts():
    (python,) = [
        entry.removeprefix("python=")
        for entry in environment()["dependencies"]
        if isinstance(entry, str) and entry.startswith("python=")
    ]
    assert Requirement(f"python{project()['requires-python']}").specifier.contains(python)
