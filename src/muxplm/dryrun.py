"""Snakemake's dry run, read: which jobs it would run, and why."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from muxplm import config as configuration
from muxplm.files import DataError
from muxplm.settings import Settings, merge

# Snakemake's reasons, in its words and in ours. The first that fits counts.
REASONS = {
    "Params have changed": "settings changed",
    "Set of input files has changed": "other inputs",
    "Updated input files": "newer inputs",
    "Input files updated by another job": "earlier stage repeated",
    "Forced execution": "forced",
    "Missing output files": "files missing",
}


@dataclass(frozen=True)
class Job:
    """One job of the dry run, known by its benchmark's file: .../benchmarks/{stage}/{name}.tsv."""

    stage: str
    name: str  # "", a task, a table, a variant, or "variant/bundle of tasks"
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    benchmark: str
    reason: str

    @property
    def model(self) -> str:
        return self.name.split("/")[0]

    @property
    def bundle(self) -> str:
        return self.name.split("/")[1]

    @property
    def repeated(self) -> bool:
        """Its results are all there already."""
        return bool(self.outputs) and all(Path(output).exists() for output in self.outputs)

    @property
    def why(self) -> str:
        if not any(Path(output).exists() for output in self.outputs):
            return "new"
        return next((ours for theirs, ours in REASONS.items() if theirs in self.reason), "other")


def dry_run(configfiles, targets, overrides, *flags) -> list[Job]:
    """The jobs that Snakemake would run, without those that only gather targets."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--scheduler", "greedy", *flags]
    command += ["--configfile", *map(str, configfiles)] if configfiles else []
    command += ["--config", *overrides] if overrides else []
    done = subprocess.run([*command, "--", *targets], capture_output=True, text=True)
    printed = f"{done.stderr}\n{done.stdout}"  # warnings, then the plan or what went wrong
    if done.returncode:
        raise DataError(f"snakemake cannot plan this: {_complaint(printed)}")
    return parse(printed)


def parse(printed: str) -> list[Job]:
    """Snakemake prints a job as `rule NAME:` and then `    key: value` lines."""
    jobs = []
    for block in re.findall(r"^(?:local)?rule \w+:\n((?:    .*\n)+)", printed, re.MULTILINE):
        entry = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        if "benchmark" not in entry:
            continue
        files = (tuple(entry.get(key, "").split(", ")) for key in ("input", "output"))
        jobs.append(Job(*named(entry["benchmark"]), *files, entry["benchmark"], entry["reason"]))
    return jobs


def named(benchmark: str) -> tuple[str, str]:
    """Stage and name of the job whose benchmark's file this is."""
    stage, *name = Path(benchmark.rsplit("/benchmarks/", 1)[1]).with_suffix("").parts
    return stage, "/".join(name)


def read_settings(configfiles, overrides) -> Settings:
    """The settings as Snakemake merges them."""
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile

    raw = {}
    for file in (configuration.DEFAULT, *configfiles):
        raw = merge(raw, load_configfile(str(file)))
    return configuration.validate(merge(raw, parse_config(overrides)))


def _complaint(printed: str) -> str:
    """What Snakemake has to say, without its banner and its traceback, on one line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if re.match(r"\w*(Error|Exception)\b", line)]
    kept = lines[errors[-1] :] if errors else lines[-1:]
    kept = [line for line in kept if not line.startswith(('File "', "WorkflowError in file"))]
    return " ".join(kept)
