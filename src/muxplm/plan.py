"""What a run would do and what it would cost, in words, before anything is spent.

Snakemake's dry run says which jobs would run and why; the settings say how large each of them is.
Imports neither torch nor transformers: a plan takes seconds.
"""

import csv
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table

from muxplm import config as configuration
from muxplm import experiments
from muxplm.config import Settings
from muxplm.experiments import STAGES, Variant
from muxplm.files import DataError, read_json
from muxplm.tasks import TASKS

WIDTH = 100
FLOAT = 4  # bytes of a weight; checkpoints are float32
WITH_OPTIMIZER = 3  # a training's checkpoint holds the weights and both of Adam's moments
BACKWARD = 3  # a training step costs as much as three forward passes
STRATEGIES = 4  # of composition
ASSUMED_ROWS = 10_000  # of a validation split that is not there yet; MNLI's is about as large

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


@dataclass(frozen=True)
class Cost:
    seconds: float
    measured: bool  # by an earlier run of the same job, not estimated
    disk: int | None  # bytes that stay; None if unknown
    scratch: int  # bytes while it runs


# --- The plan ----------------------------------------------------------------------------------


def plan(configfiles: list[str], targets: list[str], overrides: list[str]) -> str:
    """The plan as text of at most 100 columns.

    configfiles are laid over config/config.yaml; targets are files or rules (none: all); overrides
    are `key=value` as for Snakemake's --config. DataError if Snakemake cannot plan it.
    """
    with ThreadPoolExecutor() as pool:
        pending = pool.submit(dry_run, configfiles, targets, overrides)
        every = dry_run(configfiles, targets, overrides, "--forceall")
        jobs = pending.result()
    settings = read_settings(configfiles, overrides)
    heading = (
        f"Plan for {' '.join(targets) or 'all'} ({', '.join(map(str, configfiles)) or 'default'})"
    )
    lines = [heading, *_wrapped(describe(targets, settings))]
    if not jobs:
        return "\n".join([*lines, f"  Nothing to do: all {len(every)} jobs are up to date."]) + "\n"
    costs = {job: cost(job, settings) for job in jobs}
    return "\n".join(
        [
            *lines,
            "",
            stage_table(costs, settings),
            "",
            f"  Up to date: {len(every) - len(jobs)} of {len(every)} jobs.",
            *_wrapped(remarks(costs, settings)),
        ]
    )


def describe(targets: list[str], settings: Settings) -> list[str]:
    """One line for each target that is a table, or for all of them."""
    tables = {
        settings.paths.table(n, s): n for n in experiments.TABLES for s in ("tex", "csv", "md")
    }
    lines = []
    for target in targets or ["all"]:
        if target == "all":
            lines.append(f"Every table: {_cells(len(settings.variants), settings.tasks, settings)}")
        elif target in tables:
            table = experiments.TABLES[tables[target]]
            models = len(table.variants(settings.axes))
            selected = table.selected_tasks(settings.axes)
            title = tables[target].replace("table", "Table ")
            lines.append(f"{title} ({table.title.lower()}): {_cells(models, selected, settings)}")
    return lines


def stage_table(costs: dict[Job, Cost], settings: Settings) -> str:
    """One row per stage, and their sum."""
    columns = ["stage", "jobs", "trainings", "est. hours", "GPU-hours", "disk", "why"]
    rows = [_row(stage, of_stage, settings) for stage, of_stage in _by_stage(costs).items()]
    total = _row("total", costs, settings)
    if not any(row["GPU-hours"] for row in [*rows, total]):
        columns.remove("GPU-hours")
    table = Table(box=box.SIMPLE, show_footer=True, pad_edge=False)
    for column in columns:
        left = column in ("stage", "why")
        table.add_column(column, total[column], justify="left" if left else "right")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console = Console(file=StringIO(), width=WIDTH - 2)
    console.print(table)
    printed = console.file.getvalue().splitlines()
    return "\n".join(f"  {line.rstrip()}" for line in printed if line.strip())


def remarks(costs: dict[Job, Cost], settings: Settings) -> list[str]:
    """What the table of stages cannot say."""
    lines = []
    repeated = [job for job in costs if job.stage in STAGES and job.repeated]
    if repeated:
        listed = ", ".join(f"{job.name} ({job.stage}: {job.why})" for job in repeated[:20])
        more = f" and {len(repeated) - 20} more" if len(repeated) > 20 else ""
        lines.append(f"Trainings that this would repeat (results exist): {listed}{more}")
    measured = sum(c.measured for c in costs.values())
    lines.append(
        f"Hours: {measured} of {len(costs)} jobs as measured by an earlier run, the others from "
        f"{settings.plan.flops:.3g} FLOP/s (settings.plan). Texts count as max_length long, data "
        "preparation as its start alone: it depends on the text."
    )
    slow = sorted({job.stage for job, c in costs.items() if c.seconds > _limit(job, settings)})
    lines += [f"Some jobs would outlast resources.{stage}.runtime." for stage in slow]
    at_once = settings.plan.jobs_at_once
    scratch = sorted((c.scratch for c in costs.values()), reverse=True)[:at_once]
    if sum(scratch):
        lines.append(f"Scratch: up to {_bytes(sum(scratch))} beside it while trainings run.")
    total, chain = sum(c.seconds for c in costs.values()), longest_chain(costs)
    lines.append(
        f"With {_count(at_once, 'job')} at once: about {_duration(max(total / at_once, chain))} of "
        f"wall time, longest chain {_duration(chain)}; {len(costs):,} submissions on a cluster."
    )
    return lines


# --- Snakemake's dry run -----------------------------------------------------------------------


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
        stage, *name = Path(entry["benchmark"].rsplit("/benchmarks/", 1)[1]).with_suffix("").parts
        files = (tuple(entry.get(key, "").split(", ")) for key in ("input", "output"))
        jobs.append(Job(stage, "/".join(name), *files, entry["benchmark"], entry["reason"]))
    return jobs


def read_settings(configfiles, overrides) -> Settings:
    """The settings as Snakemake merges them."""
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile

    raw = {}
    for file in (configuration.DEFAULT, *configfiles):
        raw = configuration.merge(raw, load_configfile(str(file)))
    return configuration.validate(configuration.merge(raw, parse_config(overrides)))


def _complaint(printed: str) -> str:
    """What Snakemake has to say, without its banner and its traceback, on one line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if re.match(r"\w*(Error|Exception)\b", line)]
    kept = lines[errors[-1] :] if errors else lines[-1:]
    kept = [line for line in kept if not line.startswith(('File "', "WorkflowError in file"))]
    return " ".join(kept)


# --- Costs -------------------------------------------------------------------------------------


def cost(job: Job, settings: Settings) -> Cost:
    seconds = None
    if job.why != "settings changed":  # otherwise the benchmark is of another training
        seconds = measured_seconds(job.benchmark)
    disk, scratch = disk_use(job, settings)
    if seconds is not None:
        return Cost(seconds, True, disk, scratch)
    devices = max(1, settings.resources_of(job.stage).gpu)
    estimate = job_flops(job, settings) / (settings.plan.flops * devices)
    return Cost(estimate + settings.plan.startup_seconds, False, disk, scratch)


def measured_seconds(benchmark: str) -> float | None:
    """The seconds that Snakemake noted when the job last ran."""
    try:
        with open(benchmark, newline="") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
            return float(row["s"])
    except (OSError, ValueError, KeyError):
        return None


def job_flops(job: Job, settings: Settings) -> float:
    """Floating-point operations of one job; 0 for the stages that prepare data or write tables."""
    if job.stage in ("prime", "pretrain"):
        training, variant = settings.training(job.stage, job.model), settings.variants[job.model]
        objective = "retrieval" if job.stage == "prime" else variant.recipe.objective
        forward = row_flops(variant, settings, objective, settings.max_length, training.mask_rate)
        return BACKWARD * forward * training.rows * training.accumulation * training.steps
    if job.stage == "finetune":
        tasks, seeds = settings.finetunings[job.bundle]
        return len(seeds) * sum(finetuning_flops(job.model, task, settings) for task in tasks)
    if job.stage in ("score", "published_scores", "compositions", "ensembles"):
        tasks = settings.bundles.get(job.bundle, [job.bundle])  # ensembles: always a task
        return sum(scoring_flops(job.stage, job.model, task, settings) for task in tasks)
    if job.stage == "throughput":
        wanted = settings.throughput
        trials = 2 * wanted.trials * wanted.batches  # the whole batch, and the best micro-batch
        passes = trials + 3 * len(wanted.micro_batches)  # the search for the latter
        variants = experiments.TIMED[job.name].variants(settings.axes)
        one = [row_flops(v, settings, "classification", wanted.length) / v.n for v in variants]
        return sum(one) * wanted.batch * passes
    return 0.0


def finetuning_flops(model: str, task: str, settings: Settings) -> float:
    """One training on one task."""
    training = settings.training("finetune", model)
    rows = training.rows * training.accumulation * training.steps[task]
    return BACKWARD * rows * _task_flops(model, task, settings)


def scoring_flops(stage: str, model: str, task: str, settings: Settings) -> float:
    """All passes over a task's validation rows: how many depends on what is asked."""
    n = settings.variants[model].n
    # Nothing depends on the composition where each row goes alone.
    compositions = len(settings.composition_seeds) if n > 1 else 1
    passes = {"compositions": STRATEGIES, "ensembles": sum(range(1, n + 1))}.get(stage, 1)
    seeds = 1 if stage == "published_scores" else len(settings.training_seeds)
    rows = validation_rows(task, settings) / n * seeds
    return rows * compositions * passes * _task_flops(model, task, settings)


def _task_flops(model: str, task: str, settings: Settings) -> float:
    kind = TASKS[task].kind
    return row_flops(settings.variants[model], settings, kind, settings.task_length)


def validation_rows(task: str, settings: Settings) -> int:
    manifest = settings.paths.task_data(task)
    if Path(manifest).exists():
        return read_json(manifest)["rows"]["validation"]
    if settings.data.source == "synthetic":
        return settings.data.synthetic.validation_rows
    return min(ASSUMED_ROWS, settings.data.max_validation_rows or ASSUMED_ROWS)


def row_flops(
    variant: Variant, settings: Settings, objective: str, length: int, mask_rate=0.0
) -> float:
    """One forward pass of one sequence through the encoder, which carries N instances.

    Two operations for each weight and position, and the attention's two products with L positions.
    `objective` is a key of `muxplm.models.build.CLASSES`; it decides at how many positions the
    demultiplexer and the head run.
    """
    shape, n = settings.shapes[variant.size], variant.n
    width, vocabulary = _embedding(variant, shape), settings.tokenizer.vocab_size
    attention = 4 * shape.hidden * length
    layers = shape.layers * (2 * layer_parameters(variant, shape) + attention)
    prefix = n if variant.demultiplexer == "prefix" and variant.recipe.multiplexed else 0
    flops = layers * (length + prefix)
    read = {
        "retrieval": length,
        "mlm": n * length * mask_rate,
        "rtd": n * length,
        "tagging": n * length,
    }.get(objective, n)
    if variant.recipe.multiplexed:
        flops += 2 * demultiplexer_parameters(variant, settings) * read
        if variant.multiplexer == "contextual":
            within = 2 * contextual_parameters(variant, settings) + 4 * width * length
            flops += within * n * length
    if objective in ("retrieval", "mlm"):
        flops += 2 * (width * vocabulary + width * shape.hidden) * read
    return flops


def disk_use(job: Job, settings: Settings) -> tuple[int | None, int]:
    """(bytes of its results, bytes in scratch while it runs)."""
    if job.stage in ("released", "prime", "pretrain"):
        variant = settings.variants[job.model]
        objective = "retrieval" if job.stage == "prime" else variant.recipe.objective
        size = FLOAT * parameters(variant, settings, objective)
        return size, WITH_OPTIMIZER * size
    if job.stage == "finetune":
        variant, (tasks, seeds) = settings.variants[job.model], settings.finetunings[job.bundle]
        kinds = [TASKS[task].kind for task in tasks]
        sizes = [FLOAT * parameters(variant, settings, kind) for kind in kinds]
        # Finished models wait in scratch for the rest of their bundle.
        return sum(sizes) * len(seeds), sum(sizes) * len(seeds) + WITH_OPTIMIZER * max(sizes)
    if job.stage == "blocks":
        splits = ("train", "validation", "muxology")
        binaries = [Path(settings.paths.blocks).with_name(f"{split}.bin") for split in splits]
        known = all(file.exists() for file in binaries)
        return (sum(file.stat().st_size for file in binaries) if known else None), 0
    return 0, 0


def longest_chain(costs: dict[Job, Cost]) -> float:
    """Seconds of the most expensive sequence of jobs that must wait for one another."""
    makers = {output: job for job in costs for output in job.outputs}
    ends = {}

    def end(job):
        if job not in ends:
            before = {makers[file] for file in job.inputs if file in makers}
            ends[job] = costs[job].seconds + max(map(end, before), default=0.0)
        return ends[job]

    return max(map(end, costs), default=0.0)


# --- Parameters, from the shapes alone ---------------------------------------------------------


def parameters(variant: Variant, settings: Settings, objective: str) -> int:
    """Weights of the model that `objective` trains; tests/test_plan.py counts the real ones."""
    shape, hidden = settings.shapes[variant.size], settings.shapes[variant.size].hidden
    width, vocabulary = _embedding(variant, shape), settings.tokenizer.vocab_size
    total = vocabulary * width + shape.layers * layer_parameters(variant, shape)
    positions = max(settings.max_length, settings.task_length)
    if variant.recipe.encoder != "modernbert":  # whose positions are rotations
        total += positions * width
    if width != hidden:
        total += width * hidden
    if variant.recipe.multiplexed:
        total += demultiplexer_parameters(variant, settings)
        total += variant.n * (hidden if variant.demultiplexer == "rsa" else 0)
        if variant.multiplexer == "contextual":
            total += contextual_parameters(variant, settings) + positions * width
    if objective in ("retrieval", "mlm"):
        total += hidden * width + vocabulary
    elif objective == "rtd" or not (variant.recipe.multiplexed or objective == "tagging"):
        total += hidden * hidden  # a pooling or discriminating layer before the last
    return total


def layer_parameters(variant: Variant, shape) -> int:
    # ModernBERT's feed-forward layer is gated: its first matrix is twice as wide.
    matrices = 3 if variant.recipe.encoder == "modernbert" else 2
    return _layer(shape.hidden, shape.intermediate, matrices)


def demultiplexer_parameters(variant: Variant, settings: Settings) -> int:
    hidden = settings.shapes[variant.size].hidden
    layers = settings.model_of(variant.name).demultiplexer_layers
    return (layers + 1) * hidden * hidden  # the MLP, whose first layer has the key's half too


def contextual_parameters(variant: Variant, settings: Settings) -> int:
    shape = settings.shapes[variant.size]
    return 2 * _layer(_embedding(variant, shape), shape.intermediate, 2)


def _layer(width: int, intermediate: int, matrices: int) -> int:
    """The matrices and their biases; norms are too small to count."""
    return 4 * width * (width + 1) + matrices * width * intermediate + intermediate + width


def _embedding(variant: Variant, shape) -> int:
    return (
        (shape.embedding or shape.hidden) if variant.recipe.encoder == "electra" else shape.hidden
    )


# --- Words -------------------------------------------------------------------------------------


def _cells(models: int, task_names, settings: Settings) -> str:
    seeds = len(settings.training_seeds)
    total = models * len(task_names) * seeds
    return (
        f"{_count(models, 'model')} x {_count(len(task_names), 'task')} x "
        f"{_count(seeds, 'training seed')} = {_count(total, 'fine-tuned model')}, "
        f"scored under {_count(len(settings.composition_seeds), 'composition')}"
    )


def _by_stage(costs: dict[Job, Cost]) -> dict[str, dict[Job, Cost]]:
    """In the order of the stages, not of the jobs."""
    order = ["task_data", "tokenizer", "blocks", "released", *STAGES, "score", "published_scores"]
    order += ["ensembles", "compositions", "muxology", "throughput", "tables", "figures", "claims"]
    stages = sorted({job.stage for job in costs}, key=order.index)
    return {s: {job: c for job, c in costs.items() if job.stage == s} for s in stages}


def _row(stage: str, costs: dict[Job, Cost], settings: Settings) -> dict[str, str]:
    trainings = sum(_trainings(job) for job in costs)
    gpu = sum(c.seconds * settings.resources_of(job.stage).gpu for job, c in costs.items())
    known = [c.disk for c in costs.values() if c.disk is not None]
    unknown = "unknown until tokenised"
    if len(known) == len(costs):
        disk = _bytes(sum(known))
    else:
        disk = unknown if stage == "blocks" else f"{_bytes(sum(known))} + blocks"
    why = Counter(job.why for job in costs)
    reasons = ", ".join(f"{n} {w}" if len(why) > 1 else w for w, n in why.most_common())
    return {
        "stage": stage,
        "jobs": f"{len(costs):,}",
        "trainings": f"{trainings:,}" if trainings else "",
        "est. hours": _hours(sum(c.seconds for c in costs.values())),
        "GPU-hours": _hours(gpu) if gpu else "",
        "disk": disk,
        "why": "" if stage == "total" else reasons,
    }


def _trainings(job: Job) -> int:
    return len(job.outputs) if job.stage in STAGES else 0


def _limit(job: Job, settings: Settings) -> float:
    return settings.resources_of(job.stage).runtime * 60


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.2f}"


def _duration(seconds: float) -> str:
    return f"{_hours(seconds)} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"


def _bytes(size: float) -> str:
    if not size:
        return ""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 10 else f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _wrapped(lines: list[str]) -> list[str]:
    """Indented, a line that is too long broken between words."""
    indent = {"initial_indent": "  ", "subsequent_indent": "    ", "break_on_hyphens": False}
    return [part for line in lines for part in wrap(line, WIDTH, **indent)]
