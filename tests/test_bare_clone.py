"""A clone as git makes it, and in it the command lines of README and docs/, as they stand.

What takes seconds is run. Of a run of the workflow, the plan is made; of what needs a finished run, a
network or minutes, the arguments are read (other tests run much of it, on small models).
"""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muxplm import config, costs, dryrun
from muxplm.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *ROOT.glob("docs/**/*.md")]
PAGES += [ROOT / "config/README.md", ROOT / "workflow/profiles/README.md"]
PAGES.remove(ROOT / "docs/extending.md")  # tests/test_extending.py: of what its sections add
# What runs as it stands, in this order, and how what it prints begins. None has been run before.
RUN = {
    "muxplm demo": re.search(r"```text\n(.*?)```", README.read_text(), re.DOTALL)[1],
    "muxplm tokenizer --config config/smoke.yaml": "",
    "muxplm blocks --config config/smoke.yaml": "",
    "muxplm prime mux-bert-base-n2 --config config/smoke.yaml": (
        "prime mux-bert-base-n2: step 1/6, validation loss "
    ),
    "snakemake --unlock": (
        "Using workflow specific profile profiles/default for setting default command line arguments.\n"
        "Unlocked working directory.\n"
    ),
}
TABLE1 = "snakemake --cores all results/tables/table1.tex"
NOT_RUN = {
    "snakemake --cores all --configfile config/demo.yaml": "tests/test_demo.py plans it",
    "git clone": "the fixture clones",
    "python3 -m venv": "installs packages",
    "source": "changes the shell",
    "python -m torch.distributed.run": "wants two machines; tests/test_processes.py runs it",
    "accelerate launch": "wants two machines",
    "python examples/": "a server; tests/test_examples.py runs it",
}
PROGRAMS = "muxplm|snakemake|make|python3?|pip|git|conda|source|accelerate"


def lines_of(page: Path) -> list[str]:
    """The commands of a page's blocks, without what is said of them behind a #."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    blocks = re.findall(r"^```bash\n(.*?)^```|((?:^    .*\n)+)", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(fenced or indented for fenced, indented in blocks).split("\n")
    found = (re.fullmatch(rf" *((?:{PROGRAMS}) .*?)(?: +# .*)?", line) for line in lines)
    return [match[1] for match in found if match]


FOUND = {line for page in PAGES for line in lines_of(page)}
LINES = sorted(line for line in FOUND - {TABLE1, *RUN} if not line.startswith(tuple(NOT_RUN)))
PLANNED = [line for line in LINES if line.startswith("snakemake ")]
PARSED = [line for line in LINES if line.startswith("muxplm ")]
MADE = [line for line in LINES if line.startswith("make ")]


def git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """With the changes that are not committed yet; of new files those that git has been told of."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository to clone")
    folder = tmp_path_factory.mktemp("clone") / "muxplm"
    git("clone", "--quiet", str(ROOT), str(folder))
    changes = git("diff", "--binary", "HEAD")
    if changes:
        subprocess.run(["git", "apply"], cwd=folder, input=changes, check=True, text=True)
    (folder / "DIR").mkdir()  # the pages' word for a mirror of the Hub
    (folder / "pins.yaml").write_text("{}")  # a plan needs no commits
    return folder


def run(folder: Path, line: str) -> subprocess.CompletedProcess:
    """By a shell, with the clone's own package; standard error among the output.

    What `make test` hands on to a make below it is left out: that one would say where it works.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    environment |= {"PATH": path, "PYTHONPATH": str(folder / "src")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, **streams)


def test_every_line_is_held():
    assert sorted([*PLANNED, *PARSED, *MADE]) == LINES
    assert {TABLE1, *RUN} <= FOUND
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in FOUND)] == []
    assert len(PLANNED) >= 8 and len(PARSED) >= 8 and len(MADE) >= 5


@pytest.mark.parametrize("line", RUN)
def test_a_line_runs(line, clone):
    done = run(clone, line)
    assert done.returncode == 0 and done.stdout.startswith(RUN[line]), done.stdout
    assert (done.stdout == "") == (RUN[line] == "")


@pytest.mark.parametrize("line", PLANNED)
def test_a_run_is_planned(line, clone):
    done = run(clone, line.replace("snakemake", "snakemake --quiet --dry-run", 1))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("line", MADE)
def test_a_target_is_there(line, clone):
    """And what it asks of Snakemake, which is its own recipe's first line, can be planned."""
    done = run(clone, line.replace("make", "make --dry-run ENV= SNAKEMAKE='snakemake -c 1'", 1))
    assert done.returncode == 0, done.stdout
    asked = next((s for s in done.stdout.splitlines() if s.startswith("snakemake -c 1")), None)
    if asked and "--report" not in asked:
        done = run(clone, asked.replace("snakemake", "snakemake --quiet --dry-run", 1))
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("files", "results"),
    [
        ("", "results"),
        ("config/pruned.yaml", "results"),
        ("config/mini.yaml config/mini-pruned.yaml", "results/mini"),
        ("config/smoke.yaml", "results/smoke"),
    ],
)
def test_make_knows_where_a_config_writes(files, results, clone):
    done = run(clone, f"make --dry-run ENV= DATA=DIR table1 CONFIG='{files}'")
    assert f"-- {results}/tables/table1.tex" in done.stdout.splitlines()[0]
    assert ("--config data_folder=DIR" in done.stdout) and done.returncode == 0


@pytest.mark.parametrize("line", PARSED)
def test_arguments_are_read(line):
    """Asked for its help, a command first refuses options that it has not."""
    _, *words = shlex.split(line.split(" > ")[0])
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, [*words, "--nonsense", "--help"]).exit_code != 0


def test_the_readme_installs_as_make_does():
    """What make runs on a fresh machine, so that line is known to work.

    But for what is said, and when the modules are compiled.
    """
    (line,) = (line for line in lines_of(README) if line.startswith("python3 -m venv"))
    wanted = line.split("pip ")[1].split()
    dry = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/.installed"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    (made,) = (line for line in dry.stdout.splitlines() if " pip install" in line)
    words = made.split("pip ")[1].split()
    assert [word for word in words if word not in ("-q", "--no-compile")] == wanted


def test_without_a_target_everything_is_planned(clone):
    done = run(clone, "snakemake -n")
    assert done.returncode == 0
    assert re.search(r"^all +1$", done.stdout, re.MULTILINE)
    stages = {job.stage for job in dryrun.parse(done.stdout)}
    resources = config.load([ROOT / "config/config.yaml"]).resources
    assert stages == set(resources) - {"prune"}  # the default prunes nothing


def test_table_1_is_what_the_readme_says(clone, monkeypatch):
    """One line a job (tests/test_workflow.py), at most 60 around them, and the table: a short page."""
    monkeypatch.chdir(clone)
    done = run(clone, TABLE1.replace("snakemake", "snakemake --dry-run"))
    jobs = dryrun.parse(done.stdout)
    count, settings = Counter(job.stage for job in jobs), config.load([])
    trainings = sum(costs.trainings(job, settings) for job in jobs if job.stage == "finetune")
    said = " ".join(README.read_text().split())
    assert f"{count['prime']} primings, {count['pretrain']} pre-trainings, {trainings} fine" in said
    assert f"({len(jobs)} jobs;" in said
    assert len(jobs) + 60 + 20 < 200
