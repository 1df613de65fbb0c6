"""The pages of docs/results: which configs each is of, and how it is made of the records beside it.

    python tests/published.py default --checkout .

takes over what a run in a checkout has finished by today's config, and makes tables, figures and
verdicts anew. The words of the page stay a person's.
"""

import argparse
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from presets import ROOT
from typer.testing import CliRunner

from muxplm import config, experiments, provenance
from muxplm.cli import app
from muxplm.settings import Settings

PUBLISHED = ROOT / "docs/results"
# mini.yaml last: its grid, with the pruned models that mini-pruned.yaml adds.
MINI = ["config/mini-pruned.yaml", "config/mini.yaml", "data.yaml"]
ONE_RATE = "one-rate"
RUNS = {  # folder of results, configs
    "default": ("results", ["config/config.yaml"]),
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


def unpack(run: str, folder: Path):
    """As someone does who makes the tables without a training."""
    records = PUBLISHED / run / "records"
    shutil.copytree(records, folder / RUNS[run][0], dirs_exist_ok=True)
    if not (folder / "config").exists():
        (folder / "config").symlink_to(ROOT / "config")
    (folder / "data.yaml").write_text("data_folder: nowhere\n")


def make(run: str, *command: str):
    """`muxplm table table1`, say, where the records are unpacked: in the current folder."""
    configs = OTHERWISE.get((run, command[-1]), RUNS[run][1])
    return CliRunner().invoke(app, [*command, *(part for c in configs for part in ("--config", c))])


def take_over(run: str, settings: Settings, checkout: Path):
    """Records that are current; weights stay, and what the training of a cell said."""
    folder, found = PUBLISHED / run / "records", {}
    for target in _selected(settings).values():
        for made in provenance.runs_behind(target, settings):
            if made.title.split()[0] not in ("finetune", "prune"):
                found[folder / made.path.relative_to(settings.results)] = made
    for published, made in found.items():
        if replace(made, path=checkout / made.path).state == "current":
            published.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / made.path, published)
        if (state := replace(made, path=published).state) != "current":
            print(f"{published.relative_to(ROOT)}: {state}")


def remake(run: str, settings: Settings):
    """Every table and figure that the records are enough for; of the others, what is missing."""
    page, results = PUBLISHED / run, Path(settings.results)
    for name in _selected(settings):
        tell(make(run, "table" if name in experiments.TABLES else "figure", name), name)
    tell(make(run, "claims"), "claims")
    for place, pattern in (("tables", "*.md"), ("figures", "*.png"), (".", "claims.md")):
        (page / place).mkdir(exist_ok=True)
        for path in (results / place).glob(pattern):
            shutil.copy(path, page / place)


def tell(done, name: str):
    print(f"{name}: {done.exception if done.exit_code else 'made'}")


def _selected(settings) -> dict[str, experiments.Target]:
    return {n: t for n, t in experiments.targets().items() if t.is_selected(settings.axes)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="where the run was")
    arguments = parser.parse_args()
    run, checkout = arguments.run, arguments.checkout.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        unpack(run, Path(folder))
        settings = config.load(RUNS[run][1])
        take_over(run, settings, checkout)
        unpack(run, Path(folder))
        remake(run, settings)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
