"""What docs/results/mini shows is what this code makes of the numbers that lie beside it."""

import shutil

import pytest
from presets import ROOT
from typer.testing import CliRunner

from muxplm.cli import app

PUBLISHED = ROOT / "docs/results/mini"
TABLES = sorted(path.stem for path in PUBLISHED.glob("tables/*.md"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where someone has unpacked the records, to make the tables again without a training."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(PUBLISHED / "records", folder / "results/mini")
    (folder / "config").symlink_to(ROOT / "config")
    (folder / "data.yaml").write_text("data_folder: nowhere\n")
    return folder


def make(folder, monkeypatch, *command: str):
    monkeypatch.chdir(folder)
    files = [f"config/mini{part}.yaml" for part in ("", "-pruned", "-part")] + ["data.yaml"]
    done = CliRunner().invoke(app, [*command, *(part for f in files for part in ("--config", f))])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", TABLES)
def test_a_published_table_is_made_of_its_records(folder, monkeypatch, name):
    make(folder, monkeypatch, "table", name)
    made = folder / f"results/mini/tables/{name}.md"
    assert made.read_text() == (PUBLISHED / "tables" / made.name).read_text()


def test_the_published_claims_are_judged_by_their_records(folder, monkeypatch):
    make(folder, monkeypatch, "claims")
    made = folder / "results/mini/claims.md"
    assert made.read_text() == (PUBLISHED / made.name).read_text()


def test_records_name_no_folder_of_the_machine():
    for path in (PUBLISHED / "records").rglob("*.json"):
        assert '"/' not in path.read_text(), path
