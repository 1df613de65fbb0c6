"""What a run would do and what it would cost, in words, before anything is spent.

Snakemake's dry run says which jobs would run and why; the settings say how large each of them is.
Imports neither torch nor transformers: a plan takes seconds.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from itertools import product
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table

from muxplm import experiments
from muxplm.costs import Cost, cost, longest_chain, trainings
from muxplm.dryrun import Job, dry_run, read_settings
from muxplm.settings import Settings
from muxplm.stages import STAGES

WIDTH = 100


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
            every = settings.variants.values()
            lines.append(f"Every table: {_cells(every, settings.tasks, settings)}")
        elif target in tables:
            table = experiments.TABLES[tables[target]]
            cells = _cells(
                table.variants(settings.axes), table.selected_tasks(settings.axes), settings
            )
            title = tables[target].replace("table", "Table ")
            lines.append(f"{title} ({table.title.lower()}): {cells}")
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
    repeated = [job for job in costs if job.repeated and trainings(job, settings)]
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
    longest = max(costs, key=lambda job: (costs[job].seconds, job.name))
    memory = {settings.resources_of(job.stage).mem_mb: job.stage for job in costs}
    lines.append(
        f"Longest job: {longest.stage} {longest.name}, {_duration(costs[longest].seconds)} of its limit "
        f"of {_duration(_limit(longest, settings))}. Most memory asked: {max(memory) / 1000:g} GB "
        f"({memory[max(memory)]})."
    )
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


# --- Words -------------------------------------------------------------------------------------


def _cells(variants, task_names, settings: Settings) -> str:
    """How many models of these variants there are; a pruned one has tasks of its own."""
    seeds = len(settings.training_seeds)
    variants = [variant for variant in variants if variant.last_stage]  # others' cells count there
    models = sum(not variant.sparsity for variant in variants)
    total = models * len(task_names) * seeds
    pruned = seeds * sum(
        settings.has_cells(variant, task)
        for variant, task in product(variants, task_names)
        if variant.sparsity
    )
    beside = f" and {_count(pruned, 'pruned one')}" if pruned else ""
    return (
        f"{_count(models, 'model')} x {_count(len(task_names), 'task')} x "
        f"{_count(seeds, 'training seed')} = {_count(total, 'fine-tuned model')}{beside}, "
        f"scored under {_count(len(settings.composition_seeds), 'composition')}"
    )


def _by_stage(costs: dict[Job, Cost]) -> dict[str, dict[Job, Cost]]:
    """In the order of the stages, not of the jobs."""
    stages = sorted({job.stage for job in costs}, key=list(STAGES).index)
    return {s: {job: c for job, c in costs.items() if job.stage == s} for s in stages}


def _row(stage: str, costs: dict[Job, Cost], settings: Settings) -> dict[str, str]:
    trained = sum(trainings(job, settings) for job in costs)
    gpu = sum(c.seconds * (settings.resources_of(job.stage).gpu or 0) for job, c in costs.items())
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
        "trainings": f"{trained:,}" if trained else "",
        "est. hours": _hours(sum(c.seconds for c in costs.values())),
        "GPU-hours": _hours(gpu) if gpu else "",
        "disk": disk,
        "why": "" if stage == "total" else reasons,
    }


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
