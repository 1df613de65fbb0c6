"""What docs/results shows is what this code makes of the numbers that lie beside it."""

from pathlib import Path

import published
import pytest
from published import PUBLISHED, RUNS

TABLES = [(run, path.stem) for run in RUNS for path in sorted(PUBLISHED.glob(f"{run}/tables/*.md"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Gives, of a run, where someone has unpacked its records to make the tables without a training."""
    made = {}

    def of(run):
        if run not in made:
            made[run] = tmp_path_factory.mktemp(run)
            published.unpack(run, made[run])
        return made[run]

    return of


def make(folder, monkeypatch, run, *command: str) -> Path:
    monkeypatch.chdir(folder(run))
    done = published.make(run, *command)
    assert done.exit_code == 0, done.output
    return folder(run) / RUNS[run][0]


@pytest.mark.parametrize(("run", "name"), TABLES)
def test_a_published_table_is_made_of_its_records(folder, monkeypatch, run, name):
    made = make(folder, monkeypatch, run, "table", name) / f"tables/{name}.md"
    assert made.read_text() == (PUBLISHED / run / "tables" / made.name).read_text()


@pytest.mark.parametrize("run", [run for run in RUNS if (PUBLISHED / run / "claims.md").exists()])
def test_the_published_claims_are_judged_by_their_records(folder, monkeypatch, run):
    made = make(folder, monkeypatch, run, "claims") / "claims.md"
    assert made.read_text() == (PUBLISHED / run / made.name).read_text()


def test_records_name_no_folder_of_the_machine():
    for path in PUBLISHED.rglob("records/**/*.json"):
        assert '"/' not in path.read_text(), path
