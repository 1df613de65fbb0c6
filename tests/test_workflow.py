"""The smoke DAG once; then what each change repeats, what a crash leaves, what a mistake says.

All of it happens on a copy of the workflow and of the package, which the tests may edit.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import extending
import pandas as pd
import pytest
import yaml

from muxplm import config as configuration
from muxplm import costs, dryrun, experiments, lineage, plan, recipes
from muxplm.files import read_json
from muxplm.stages import STAGES

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
            "OMP_NUM_THREADS": "1",  # as Snakemake tells its jobs: sums in the same order
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

    def ran(self) -> list[dryrun.Job]:
        """The jobs of the last run, from its log file: the terminal gets a line for each."""
        *_, log = sorted((self.folder / ".snakemake/log").iterdir())
        return dryrun.parse(log.read_text())

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
    copy.printed, copy.jobs = done.stdout, copy.ran()
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
        for task in costs.tasks_of(name, settings):
            wanted += [lineage.cell(settings, name, task, s) for s in settings.training_seeds]
            wanted.append(paths.scores(name, task))
    wanted += map(paths.throughput, experiments.TIMED)
    wanted += [paths.claims(suffix) for suffix in ("md", "html", "csv")]
    for kind, name in copy.reports_on(*settings.variants) - {("claims", "")}:
        suffixes = ("tex", "csv", "md", "html") if kind == "tables" else ("pdf", "png", "csv")
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


def test_the_terminal_gets_a_line_for_each_job(copy):
    lines = copy.printed.splitlines()
    started = [line for line in lines if re.match(r" *\d+ of \d+ done, .* left: ", line)]
    assert len(started) == len(set(line.split(": ", 1)[1] for line in started)) == len(copy.jobs)
    assert len(lines) < len(started) + 60  # the banner, the list of rules, where the log is


def test_make_prints_the_table_then_reports(copy):
    """Of a finished run, whose table is gone: one job, one line, nothing that looks like a mistake."""
    shutil.copy(ROOT / "Makefile", copy.folder)
    table = copy.folder / copy.settings().paths.table("table1", "tex")
    table.unlink()
    snakemake = f"SNAKEMAKE={sys.executable} -m snakemake --cores 1"
    make = ["make", "--no-print-directory", "ENV=", snakemake, f"CONFIG={copy.configfiles[0]}"]
    done = copy.run(*make, "table1")
    assert done.returncode == 0, done.stdout
    assert table.is_file()
    assert done.stdout.endswith(table.with_suffix(".md").read_text())
    lines = [line for line in done.stdout.splitlines() if not line.startswith("make[")]
    assert lines[0].startswith("Using workflow specific profile profiles/default")
    started = [line for line in lines if re.match(r" *\d+ of \d+ done, ", line)]
    assert [line.split(": ", 1)[1] for line in started] == ["writing Table 1: Scores and speed-up"]
    assert len(lines) < 80 and not re.search("(?i)reason|warning|error|traceback", done.stdout)
    done = copy.run(*make, "report")
    assert done.returncode == 0 and len(done.stdout.splitlines()) < 80, done.stdout
    report = (copy.folder / copy.settings().results / "report.html").read_text()
    for kind, name in copy.reports_on(*copy.settings().variants) - {("claims", "")}:
        assert f"/{kind}/{name}.{'html' if kind == 'tables' else 'png'}" in report


def test_the_tables_rows_are_the_grids_rows(copy):
    settings = copy.settings()
    tidy = pd.read_csv(copy.folder / settings.paths.table("table1", "csv"))
    expected = [v.name for v in experiments.TABLES["table1"].variants(settings.axes)]
    assert list(tidy["model"].unique()) == expected
    shown = (copy.folder / settings.paths.table("table1", "md")).read_text()
    # A heading, the rule under it, and the majority class.
    assert len(re.findall(r"^\|", shown, re.MULTILINE)) == 3 + len(expected)


def test_finished_trainings_leave_nothing_in_scratch(copy):
    scratch = copy.folder / copy.settings().scratch
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_the_settings_of_the_run_lie_beside_its_results(copy):
    settings = copy.settings()
    digest = recipes.digest(settings.model_dump(mode="json"))
    assert configuration.load([copy.folder / settings.paths.config(digest)]) == settings


def test_without_a_target_everything_is_made(copy):
    done = copy.run(sys.executable, "-m", "snakemake", "-n", "--configfile", *copy.configfiles)
    assert done.returncode == 0
    assert "Nothing to be done (all requested files are present" in done.stdout
    done = copy.run(sys.executable, "-m", "snakemake", "-n", "--config", "results=elsewhere")
    assert re.search(r"^all +1$", done.stdout, re.MULTILINE)


# --- What a change repeats ---------------------------------------------------------------------


PAGE = ROOT / "docs/what-repeats.md"
EDITS = re.findall(r"^\| (.+?) \| `(.+?)` \| (.+?) \| (\d+) \|$", PAGE.read_text(), re.M)


def after(copy, change: str) -> tuple[str, str]:
    """The jobs that an edit of the page's table repeats or adds, and how many trainings they are."""
    with contextlib.ExitStack() as edits:
        if change.startswith("{"):
            config = yaml.safe_load(change)
        else:
            config = None
            name, edit = change.split(": ", 1)
            for file in copy.folder.glob(name):
                edits.callback(file.write_text, file.read_text())
                file.write_text(edited(file.read_text(), edit))
        done = copy.snakemake("--dry-run", change=config)
    assert done.returncode == 0, done.stdout
    jobs = dryrun.parse(done.stdout)
    count = Counter(job.stage for job in jobs)
    words = ", ".join(f"{stage} {count[stage]}" for stage in STAGES if count[stage]) or "none"
    with contextlib.chdir(copy.folder):
        settings = copy.settings(*([copy.write("change.yaml", config)] if config else []))
        return words, str(sum(costs.trainings(job, settings) for job in jobs))


def edited(text: str, edit: str) -> str:
    """`... 1 -> 2` puts the 2 where the 1 stands; anything else is added at the end."""
    old, arrow, new = edit.partition(" -> ")
    if not arrow:
        return f"{text}\n{edit}\n"
    assert text.count(old) == 1
    return text.replace(old, old[: -len(new)] + new)


@pytest.mark.parametrize(
    ("edit", "change", "jobs", "trainings"), EDITS, ids=[edit[0] for edit in EDITS]
)
def test_the_page_on_what_a_change_repeats(copy, edit, change, jobs, trainings):
    assert after(copy, change) == (jobs, trainings)


def test_the_page_names_a_dozen_edits():
    assert len(EDITS) >= 12


def stages_of(model: str, *stages: str) -> set[tuple[str, str]]:
    return {(stage, model) for stage in stages}


def test_one_variants_priming(copy):
    model = "mux-bert-base-n2"
    change = {"overrides": {model: {"prime": {"learning_rate": 1.0e-4}}}}
    later = ("score", "ensembles", "compositions", "muxology")
    expected = stages_of(model, "prime", "pretrain", "finetune", *later) | {
        ("throughput", "pruned")
    }
    for pruned in ("mux-bert-base-n2-cofi0.6", "mux-bert-base-n2-fisher0.6"):
        expected |= stages_of(pruned, "prune", "score") | stages_of(f"{pruned}-int8", "score")
    expected |= stages_of(f"{model}-int8", "score")
    assert copy.would_run(change) == expected | copy.reports_on(model)


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
        last = settings.variants[model].last_stage
        made = stages_of(model, last) if last else set()
        expected |= made | stages_of(model, *settings.variants[model].stages, "score")
        if lineage.trained_as(settings, "prime", model) != model:
            expected -= {("prime", model)}
    assert copy.would_run(change) == expected


def test_the_plan_names_the_trainings_that_a_change_repeats(copy, monkeypatch):
    monkeypatch.chdir(copy.folder)
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, copy.environment[name])
    content = {"overrides": {"bert-base": {"finetune": {"rows": 24}}}}  # more than min_instances
    again, change = len(copy.would_run(content)), copy.write("rows.yaml", content)
    text = " ".join(plan.plan([*copy.configfiles, change], ["all"], []).split())
    assert "repeat (results exist): bert-base/averaged (finetune: settings changed)" in text
    assert f"Up to date: {len(copy.jobs) - again} of {len(copy.jobs)} jobs" in text
    dry = copy.snakemake("--dry-run", change=content).stdout
    by_why = {(job.stage, job.name): job.why for job in dryrun.parse(dry)}
    # What the training took with other settings says nothing; what its scores took does.
    assert by_why["finetune", "bert-base/averaged"] == "settings changed"
    assert by_why["score", "bert-base/averaged"] == "earlier stage repeated"
    measured = sum(why != "settings changed" for why in by_why.values())
    assert f"{measured} of {again} jobs as measured by an earlier run" in text


# --- Extending it ------------------------------------------------------------------------------


def test_the_page_on_extending_adds_a_row_to_the_ablation(copy):
    section, model = extending.section("A multiplexer"), "mux-bert-base-n2-sign"
    before = {copy.folder / path: (copy.folder / path).read_text() for path in section.additions}
    section.add_to(copy.folder)
    change = yaml.safe_load(section.configs["sign.yaml"])
    try:
        done = copy.snakemake(change=change, targets=[copy.settings().paths.table("table5", "tex")])
    finally:
        for file, text in before.items():
            file.write_text(text)
    assert done.returncode == 0, done.stdout[-3000:]
    ran = {(job.stage, job.model) for job in copy.ran()}
    assert ran == stages_of(model, "prime", "pretrain", "finetune", "score") | {
        ("tables", "table5"),
        ("throughput", "ablations"),
    }
    table = (copy.folder / copy.settings().paths.table("table5", "md")).read_text()
    assert re.search(r"\| 2 +\| sign +\| RSA ", table)


# --- Jobs, their recipes and their cells ---------------------------------------------------------


def test_a_new_seed_trains_its_cells_alone(copy):
    """Weights that are there are adopted, whatever job they are a part of."""
    settings = copy.settings()
    old = copy.folder / settings.paths.finetuned("bert-base", "sst2", 1)
    before = {file.name: file.stat().st_mtime_ns for file in old.parent.iterdir()}
    change = {"training_seeds": [1, 2], "results": settings.results}
    done = copy.snakemake(change=change, targets=[settings.paths.scores("bert-base", "sst2")])
    assert done.returncode == 0, done.stdout[-3000:]
    log = (copy.folder / settings.paths.log("finetune/bert-base/averaged")).read_text()
    trained = re.findall(r"^finetune bert-base (\w+): (\d of \d) to train$", log, re.MULTILINE)
    assert trained == [(task, "1 of 2") for task in settings.tasks]
    after = {file.name: file.stat().st_mtime_ns for file in old.parent.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"done.json"}


def test_whole_weights_are_adopted_and_changed_ones_are_not(copy):
    """As after a kill of Snakemake before it noted the job: done.json is not there."""
    done = copy.folder / copy.settings().paths.checkpoint("pretrain", "electra-base")
    weights, before = done.with_name("model.safetensors"), done.read_bytes()
    command = ["muxplm", "pretrain", "electra-base", "--config", *copy.configfiles]
    whole = weights.read_bytes()
    for content, adopted in ((whole, True), (whole[:-1] + b"?", False)):
        done.unlink()
        weights.write_bytes(content)
        said = copy.run(*command)
        assert said.returncode == 0, said.stdout
        assert ("is current" in said.stdout) == adopted
        assert done.read_bytes() == before  # trained again to the same bytes
        assert weights.read_bytes() == whole


def test_a_job_refuses_settings_that_it_was_not_planned_for(copy):
    settings, (file,) = copy.settings(), copy.configfiles
    recipe = recipes.of_job(settings, "pretrain", model="bert-base")
    other = copy.write("other.yaml", {"pretrain": {"steps": 7}})
    weights = copy.folder / settings.paths.checkpoint("pretrain", "bert-base")
    before = weights.read_bytes()
    command = ["muxplm", "pretrain", "bert-base", "--recipe", recipe, "--config", file]
    done = copy.run(*command, "--config", other)
    assert done.returncode == 1
    assert re.fullmatch(rf"muxplm: this job was planned for recipe {recipe} and .*\n", done.stdout)
    assert weights.read_bytes() == before


def test_two_runs_in_one_folder_do_not_share_their_settings(copy):
    """Each leaves its own file, so that neither's jobs read the other's."""
    folder = (copy.folder / copy.settings().paths.config("")).parent
    before = set(folder.iterdir())
    target = copy.settings().paths.task_data("sst2", "train")
    change = {"data": {"synthetic": {"train_rows": {"sst2": 61}}}}
    assert copy.snakemake("--touch", targets=[target]).returncode == 0
    done = copy.snakemake("--force", change=change, targets=[target])
    assert done.returncode == 0, done.stdout
    (new,) = set(folder.iterdir()) - before
    assert read_json(new)["data"]["synthetic"]["train_rows"]["sst2"] == 61
    again = copy.snakemake(targets=[target])
    assert again.returncode == 0, again.stdout
    assert read_json(copy.folder / target)["rows"] == {"train": 64}


def test_run_json_says_what_a_model_was_made_from(copy):
    settings = copy.settings()
    path = copy.folder / settings.paths.finetuned("mux-bert-base-n2", "sst2", 1)
    run = read_json(path.with_name("run.json"))
    recipe = recipes.finetune(settings, "mux-bert-base-n2", "sst2", 1)
    assert run["settings"] == recipe and run["recipe"] == recipes.digest(recipe)
    assert run["settings"]["training"]["steps"] == settings.finetune.steps["sst2"]
    assert {"muxplm", "torch", "transformers", "commit", "machine"} <= set(run["made_with"])


@pytest.mark.parametrize("folder", ["with a space", "$(touch expanded)", "semi;colon & co"])
def test_any_results_folder_will_do(copy, folder):
    target = f"{folder}/data/tasks/sst2/train.json"
    done = copy.snakemake(change={"results": folder}, targets=[target])
    assert done.returncode == 0, done.stdout[-3000:]
    assert (copy.folder / target).is_file()
    assert (copy.folder / folder / "logs/task_data/sst2-train.log").is_file()
    assert not (copy.folder / "expanded").exists()


def test_a_gpu_is_asked_for_where_there_is_one(copy):
    environment = dict(copy.environment)
    try:
        for visible, asked in (("0,1", True), ("", False)):
            copy.environment["CUDA_VISIBLE_DEVICES"] = visible
            done = copy.snakemake("-n", "--forceall")
            jobs = dict(
                re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout, re.M)
            )
            assert ("gpu=1" in jobs["prime"]) == ("gpu=1" in jobs["finetune_averaged"]) == asked
            assert "gpu" not in jobs["table"]
    finally:
        copy.environment.clear()
        copy.environment.update(environment)


def test_a_training_has_a_process_for_each_gpu_that_it_gets(copy):
    """Asked for more than this machine has, all of them; a cluster's nodes have others."""
    environment = dict(copy.environment)
    target = copy.settings().paths.checkpoint("prime", "mux-bert-base-n2")
    try:
        copy.environment["CUDA_VISIBLE_DEVICES"] = "0,1"
        for flags, given in (([], 2), (["--executor", "slurm", "--jobs", "3"], 8)):
            done = copy.snakemake(
                *("-n", "--forceall", *flags),
                change={"resources": {"prime": {"gpu": 8}}},
                targets=[target],
            )
            (asked,) = re.findall(
                r"^rule prime:\n(?:    .*\n)*?    resources: (.*)$", done.stdout, re.M
            )
            assert {f"gpu={given}", f"processes={given}"} <= set(asked.split(", "))
    finally:
        copy.environment.clear()
        copy.environment.update(environment)


def test_nothing_runs_beside_the_timing(copy):
    done = copy.snakemake("-n", "--forceall", "--cores", "4")
    threads = dict(re.findall(r"^rule (\w+):\n(?:    .*\n)*?    threads: (.*)$", done.stdout, re.M))
    assert threads == {"throughput": "4"}  # one is not printed


@pytest.mark.parametrize(
    ("stage", "model"),
    [("prime", "bert-base"), ("pretrain", "tmux-base-n2"), ("prime", "mux-bert-base-n2-prefix")],
)
def test_a_model_without_the_stage_or_trained_as_another_is_no_target(copy, stage, model):
    assert model in copy.settings().variants
    done = copy.snakemake("-n", targets=[copy.settings().paths.checkpoint(stage, model)])
    assert done.returncode != 0 and "No rule to produce" in done.stdout
    assert "Traceback" not in done.stdout and "KeyError" not in done.stdout


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
    recipe = recipes.digest(recipes.pretrain(settings, model))
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
    assert weights.is_file() and weights.with_name("model.safetensors").is_file()
    assert not scratch.exists()


def last_step(scratch: Path) -> int:
    """The last checkpoint that is whole: it appears with its manifest."""
    whole = [state.parent.name for state in scratch.glob("checkpoint-*/manifest.json")]
    return max((int(name.split("-")[1]) for name in whole), default=0)


def test_a_job_that_is_repeated_asks_for_more_memory(tmp_path):
    """As on a cluster whose profile has retries; here each attempt fails, for want of a muxplm."""
    copy = Copy(tmp_path)
    copy.environment["PATH"] = "/usr/bin:/bin"
    done = copy.snakemake("--retries", "2", targets=[copy.settings().paths.tokenizer])
    assert done.returncode == 1
    *_, log = sorted((copy.folder / ".snakemake/log").iterdir())
    asked = [int(mb) for mb in re.findall(r"resources:.*mem_mb=(\d+)", log.read_text())]
    wanted = copy.settings().resources_of("tokenizer").mem_mb
    assert asked == [wanted, 2 * wanted, 3 * wanted]


def test_a_damaged_checkpoint_fails_its_own_jobs_alone(copy):
    """The last test: it leaves the results damaged."""
    paths = copy.settings().paths
    done = copy.folder / paths.checkpoint("pretrain", "bert-base")
    weights = done.with_name("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    done.write_text(json.dumps(read_json(done) | {"sha256": "another"}))
    # What is whole and current is not trained again.
    shutil.rmtree((copy.folder / paths.finetuned("bert-base", "qqp", 1)).parents[2])
    elsewhere = copy.folder / paths.scores("electra-base", "qqp")
    elsewhere.unlink()

    done = copy.snakemake()
    assert done.returncode != 0
    assert elsewhere.is_file(), "a job that has nothing to do with it was not run"
    log = (copy.folder / paths.log("finetune/bert-base/averaged")).read_text()
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
