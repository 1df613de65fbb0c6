"""The imports run the way that docs/architecture.md draws them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/muxplm"
DRAWING = re.search(r"```text\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[1]
# A name of the drawing to its line, the lowest being 0; the words after it explain the line.
LAYERS = {
    name: height
    for height, line in enumerate(reversed(DRAWING.splitlines()))
    for name in line.split("   ")[0].split()
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(module: str) -> str:
    """Of "muxplm.data.prepare" the part that the drawing names: "data"."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(file: Path) -> set[str]:
    """The parts of the package that a file imports, late imports too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "muxplm":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muxplm."):
            found.add(part(node.module))
    return found


def own_part(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_is_drawn():
    parts = {own_part(file) for file in MODULES} - {"__init__", "__main__"}
    assert parts == set(LAYERS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_import_runs_upward(file):
    own = own_part(file)
    if own in ("__init__", "__main__"):  # registers classes; starts the command
        return
    upward = {name for name in imports(file) if LAYERS[name] > LAYERS[own]}
    assert not upward


def test_models_could_stand_alone():
    found = set().union(*(imports(f) for f in MODULES if own_part(f) == "models"))
    assert found <= {"models", "files", "mistakes", "precision", "released_checkpoints"}


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("muxplm.data.rows", {"torch", "transformers", "datasets", "pandas", "scipy"}),
        ("muxplm.reporting.tables", {"scipy.stats", "matplotlib"}),
        ("muxplm.reporting.figures", {"scipy.stats"}),
    ],
)
def test_what_a_short_step_does_not_wait_for(modules, without):
    """Each of these takes longer to import than such a step works."""
    code = f"import sys, muxplm.cli, {modules}; print(sorted({without} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reports_are_made_without_torch():
    modules = [f.stem for f in sorted((PACKAGE / "reporting").glob("*.py")) if f.stem != "__init__"]
    code = f"import sys; from muxplm.reporting import {', '.join(modules)}; "
    code += "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_file_is_long():
    """Tables of data may be."""
    data = {"grammar.py", "lexicon.py"}
    files = [f for f in MODULES if f.name not in data] + sorted((ROOT / "workflow").rglob("*.smk"))
    assert {str(f): n for f in files if (n := len(f.read_text().splitlines())) > 350} == {}
