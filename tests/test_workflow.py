"""The smoke DAG once; then what each change repeats, what a crash leaves, what a mistake says.

All of it happens on a copy of the workflow and of the package, which the tests may edit.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from muxplm import config as configuration
from muxplm import dryrun, experiments, lineage, plan, recipes

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parent.parent
COPIED = ["Snakefile", "environment.yml", "workflow", "profiles", "config", "src"]


class Copy:
    """A folder that holds the workflow and its results."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir() and not source.is_symlink():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder / name, follow_symlinks=False)
        self.configfiles = ["config/smoke.yaml"]
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),  # comes before the installed package
        }

    def write(self, name: str, content: dict) -> str:
        (self.folder / name).write_text(yaml.safe_dump(content))
        return name

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def snakemake(
        self, *flags: str, change: dict | None = None, targets=("all",)
    ) -> subprocess.CompletedProcess:
        files = [*self.configfiles, *([self.write("change.yaml", change)] if change else [])]
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *flags]
        return self.run(*command, "--configfile", *files, "--", *targets)

    def would_run(self, change: dict) -> set[tuple[str, str]]:
        """(stage, model or table) of the jobs that a changed config repeats or adds."""
        done = self.snakemake("--dry-run", change=change)
        assert done.returncode == 0, done.stdout
        return {(job.stage, job.model) for job in dryrun.parse(done.stdout)}

    def reports_on(self, *models: str) -> set[tuple[str, str]]:
        """The tables and figures with a row of one of the models, and the claims."""
        axes, found = self.settings().axes, {("claims", "")}
        for kind, targets in (("tables", experiments.TABLES), ("figures", experiments.FIGURES)):
            for name, target in targets.items():
                if target.is_selected(axes) and {v.name for v in target.variants(axes)} & {*models}:
                    found.add((kind, name))
        return found

    def settings(self, *more: str) -> configuration.Settings:
        files = [self.folder / name for name in (*self.configfiles, *more)]
        return configuration.load(files)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The whole DAG has run here, once."""
    copy = Copy(tmp_path_factory.mktemp("workflow"))
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-5000:]
    copy.jobs = dryrun.parse(done.stdout)
    return copy


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there


# --- What a run leaves -------------------------------------------------------------------------


def test_every_result_exists(copy):
    settings = copy.settings()
    paths, wanted = settings.paths, []
    for name, variant in settings.variants.items():
        wanted += [lineage.checkpoint(settings, stage, name) for stage in variant.stages]
        for task in settings.tasks:
            wanted += [paths.finetuned(name, task, seed) for seed in settings.training_seeds]
            wanted.append(paths.scores(name, task))
    wanted += map(paths.throughput, experiments.TIMED)
    wanted += [paths.claims(suffix) for suffix in ("md", "html", "csv")]
    for kind, name in copy.reports_on(*settings.variants) - {("claims", "")}:
        suffixes = ("tex", "csv", "md") if kind == "tables" else ("pdf", "png", "csv")
        path = paths.table if kind == "tables" else paths.figure
        wanted += [path(name, suffix) for suffix in suffixes]
    assert [path for path in wanted if not (copy.folder / path).is_file()] == []
    drafts = [path for path in copy.folder.rglob(".*.draft") if ".snakemake" not in path.parts]
    assert drafts == []


def test_every_job_ran_once_and_left_a_log_and_a_benchmark(copy):
    assert len(copy.jobs) == len(set(copy.jobs))
    assert {job.stage for job in copy.jobs} == set(copy.settings().resources)
    for job in copy.jobs:
        benchmark = copy.folder / job.benchmark
        log = copy.folder / job.benchmark.replace("/benchmarks/", "/logs/")
        assert benchmark.is_file()
        assert log.with_suffix(".log").is_file()


def test_the_tables_rows_are_the_grids_rows(copy):
    settings = copy.settings()
    tidy = pd.read_csv(copy.folder / settings.paths.table("table1", "csv"))
    expected = [v.name for v in experiments.TABLES["table1"].variants(settings.axes)]
    assert list(tidy["model"].unique()) == expected
    shown = (copy.folder / settings.paths.table("table1", "md")).read_text()
    assert len(re.findall(r"^\|", shown, re.MULTILINE)) == 2 + len(expected)


def test_finished_trainings_leave_nothing_in_scratch(copy):
    scratch = copy.folder / copy.settings().scratch
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_the_settings_of_the_run_lie_beside_its_results(copy):
    settings = copy.settings()
    digest = recipes.digest(settings.model_dump(mode="json"))
    assert configuration.load([copy.folder / settings.paths.config(digest)]) == settings


# --- What a change repeats ---------------------------------------------------------------------


def test_comments_and_dates_of_the_code_repeat_nothing(copy):
    for file in (copy.folder / "src/muxplm").rglob("*.py"):
        file.write_text(file.read_text() + "\n# a comment\n")
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert dryrun.parse(done.stdout) == []


def stages_of(model: str, *stages: str) -> set[tuple[str, str]]:
    return {(stage, model) for stage in stages}


def test_one_variants_finetuning(copy):
    change = {"overrides": {"bert-base": {"finetune": {"learning_rate": 1.0e-4}}}}
    expected = stages_of("bert-base", "finetune", "score") | copy.reports_on("bert-base")
    assert copy.would_run(change) == expected


def test_one_variants_priming(copy):
    model = "mux-bert-base-n2"
    change = {"overrides": {model: {"prime": {"learning_rate": 1.0e-4}}}}
    later = ("score", "ensembles", "compositions", "muxology")
    expected = stages_of(model, "prime", "pretrain", "finetune", *later)
    assert copy.would_run(change) == expected | copy.reports_on(model)


def test_one_ablation(copy):
    """Its own trainings, Tables 5 and 13, and what shows every variant; no other training."""
    model = "mux-bert-base-n2-prefix"
    assert model in copy.settings().variants
    change = {"overrides": {model: {"pretrain": {"learning_rate": 1.0e-4}}}}
    reports = {("tables", "table5"), ("tables", "table13"), ("figures", "training_curves")}
    expected = stages_of(model, "pretrain", "finetune", "score") | reports | {("claims", "")}
    assert copy.would_run(change) == expected


def test_another_composition_seed(copy):
    scored = {("score", model) for model in copy.settings().variants}
    again = copy.would_run({"composition_seeds": [1, 2, 3]})
    assert scored <= again
    others = {"compositions", "ensembles", "tables", "figures", "claims"}
    assert {stage for stage, _ in again - scored} == others


def test_another_n_adds_its_variants_alone(copy):
    change = {"instances": [1, 2, 5]}
    settings = copy.settings(copy.write("five.yaml", change))
    new = set(settings.variants) - set(copy.settings().variants)
    assert new
    expected = {("throughput", timed) for timed in experiments.TIMED}
    expected |= copy.reports_on(*copy.settings().variants)  # all captions name the axes
    by_target = {
        "compositions": "composition",
        "muxology": "muxology_entropy",
        "ensembles": "table4",
    }
    for stage, target in by_target.items():
        variants = experiments.targets()[target].variants(settings.axes)
        expected |= {(stage, v.name) for v in variants if v.name in new}
    for model in new:
        expected |= stages_of(model, *settings.variants[model].stages, "finetune", "score")
    assert copy.would_run(change) == expected


def test_the_plan_names_the_trainings_that_a_change_repeats(copy, monkeypatch):
    monkeypatch.chdir(copy.folder)
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, copy.environment[name])
    content = {"overrides": {"bert-base": {"finetune": {"rows": 4}}}}
    again, change = len(copy.would_run(content)), copy.write("rows.yaml", content)
    text = " ".join(plan.plan([*copy.configfiles, change], ["all"], []).split())
    assert "repeat (results exist): bert-base/all (finetune: settings changed)" in text
    assert f"Up to date: {len(copy.jobs) - again} of {len(copy.jobs)} jobs" in text
    assert f"1 of {again} jobs as measured by an earlier run" in text  # the scores


# --- Extending it ------------------------------------------------------------------------------


def test_the_page_on_extending_adds_a_row_to_the_ablation(copy):
    page = (ROOT / "docs/extending.md").read_text()
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    file = copy.folder / "src/muxplm/models/multiplexers.py"
    before = file.read_text()
    file.write_text(f"{before}\n\n{blocks['python']}")
    change, model = yaml.safe_load(blocks["yaml"]), "mux-bert-base-n2-sign"
    try:
        done = copy.snakemake(change=change, targets=[copy.settings().paths.table("table5", "tex")])
    finally:
        file.write_text(before)
    assert done.returncode == 0, done.stdout[-3000:]
    ran = {(job.stage, job.model) for job in dryrun.parse(done.stdout)}
    assert ran == stages_of(model, "prime", "pretrain", "finetune", "score") | {
        ("tables", "table5")
    }
    table = (copy.folder / copy.settings().paths.table("table5", "md")).read_text()
    assert re.search(r"\| 2 +\| sign +\| RSA ", table)


# --- Mistakes and crashes ----------------------------------------------------------------------


def test_a_mistake_in_the_config_ends_in_one_line_before_any_job(copy):
    done = copy.snakemake(change={"finetune": {"learning_rat": 1.0}})
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("config: ")]
    assert line == "config: finetune.learning_rat: unknown key; did you mean 'learning_rate'?"
    assert not re.search(r"^rule ", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stdout


def test_a_killed_training_goes_on_from_its_last_checkpoint(copy):
    model, steps = "bert-base", 100
    killed = copy.write(
        "killed.yaml",
        {"results": "killed", "pretrain": {"steps": steps, "save_every": 3, "rows": 4}},
    )
    (copy.folder / "killed").mkdir()
    (copy.folder / "killed/data").symlink_to(copy.folder / "results/smoke/data")
    settings = copy.settings(killed)
    recipe = settings.recipe("pretrain", model)
    scratch = copy.folder / settings.paths.scratch_folder("pretrain", model, recipe)
    weights = copy.folder / settings.paths.checkpoint("pretrain", model)
    files = [part for name in (*copy.configfiles, killed) for part in ("--config", name)]
    command = [str(Path(sys.executable).with_name("muxplm")), "pretrain", model, *files]

    process = subprocess.Popen(command, cwd=copy.folder, env=copy.environment)
    while process.poll() is None and last_step(scratch) < 12:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not weights.parent.exists()
    reached = last_step(scratch)
    cut_short = scratch / f"checkpoint-{reached + 1}"
    cut_short.mkdir()
    (cut_short / "model.safetensors").write_bytes(b"half of it")

    done = copy.run(*command)
    assert done.returncode == 0, done.stdout
    logged = [int(step) for step in re.findall(rf"step (\d+)/{steps}", done.stdout)]
    assert min(logged) > reached
    assert max(logged) == steps
    assert weights.is_file() and weights.with_name("run.json").is_file()
    assert not scratch.exists()


def last_step(scratch: Path) -> int:
    """The last checkpoint that is whole: its state is written at the end."""
    whole = [state.parent.name for state in scratch.glob("checkpoint-*/trainer_state.json")]
    return max((int(name.split("-")[1]) for name in whole), default=0)


def test_a_damaged_checkpoint_fails_its_own_jobs_alone(copy):
    """The last test: it leaves the results damaged."""
    paths = copy.settings().paths
    weights = copy.folder / paths.checkpoint("pretrain", "bert-base")
    weights.write_bytes(weights.read_bytes()[:1000])
    elsewhere = copy.folder / paths.scores("electra-base", "qqp")
    elsewhere.unlink()

    done = copy.snakemake()
    assert done.returncode != 0
    assert elsewhere.is_file(), "a job that has nothing to do with it was not run"
    log = (copy.folder / paths.log("finetune/bert-base/all")).read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("muxplm: ")]
    assert "pretrain/bert-base/model.safetensors cannot be loaded" in line
    assert "Traceback" not in log
    folder = copy.folder / paths.finetuned("bert-base", "qqp", 1)
    left = [
        path
        for path in folder.parents[2].rglob("*")
        if path.name.endswith((".draft", ".safetensors"))
    ]
    assert left == []
