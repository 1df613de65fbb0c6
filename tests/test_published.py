"""What docs/results shows is what this code makes of the numbers that lie beside it."""

import shutil

import pytest
from presets import ROOT
from typer.testing import CliRunner

from muxplm.cli import app

PUBLISHED = ROOT / "docs/results"
# mini.yaml last: its grid, with the pruned models that mini-pruned.yaml adds.
MINI = ["config/mini-pruned.yaml", "config/mini.yaml", "data.yaml"]
ONE_RATE = "one-rate"
RUNS = {  # folder of results, configs
    "default": ("results", ["config/base.yaml"]),
    "mini": ("results/mini", MINI),
    ONE_RATE: (f"results/{ONE_RATE}", [f"config/{ONE_RATE}.yaml", "config/pruned.yaml"]),
    "again": (f"results/{ONE_RATE}", [f"config/{ONE_RATE}.yaml", "config/pretrainings.yaml"]),
    "long-finetuning": ("results/long-finetuning", ["config/long-finetuning.yaml"]),
}
# The other way round: the grid of mini-pruned.yaml, whose models were timed beside the pruned ones.
OTHERWISE = {
    ("mini", table): ["config/mini.yaml", "config/mini-pruned.yaml", "data.yaml"]
    for table in ("pruning", "budgets")
}
TABLES = [(run, path.stem) for run in RUNS for path in sorted(PUBLISHED.glob(f"{run}/tables/*.md"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Gives, of a run, where someone has unpacked its records to make the tables without a training."""
    made = {}

    def of(run):
        if run not in made:
            made[run] = folder = tmp_path_factory.mktemp(run)
            shutil.copytree(PUBLISHED / run / "records", folder / RUNS[run][0])
            (folder / "config").symlink_to(ROOT / "config")
            (folder / "data.yaml").write_text("data_folder: nowhere\n")
        return made[run]

    return of


def make(folder, monkeypatch, run, *command: str):
    monkeypatch.chdir(folder(run))
    results, configs = RUNS[run]
    configs = OTHERWISE.get((run, command[-1]), configs)
    done = CliRunner().invoke(app, [*command, *(part for c in configs for part in ("--config", c))])
    assert done.exit_code == 0, done.output
    return folder(run) / results


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
