# The validated settings, and the functions that the rules share.
from functools import partial

from snakemake.exceptions import WorkflowError

from muxplm import config as configuration
from muxplm import costs, experiments, files, hub, lineage, progress, recipes, scheduling
from muxplm.reporting import captions
from muxplm.stages import STAGES

try:
    settings = configuration.validate(config)
    configuration.check_run(settings)
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None

if settings.ablations:  # only then: it takes the second that importing torch takes
    from muxplm.model_config import check_parts

    try:
        check_parts(settings.variants.values())
    except files.DataError as error:
        raise WorkflowError(f"config: {error}") from None

paths = settings.paths
variants = settings.variants
CONFIG = paths.config(recipes.digest(settings.model_dump(mode="json")))
GPUS = files.gpus()
# What a run on this machine has to share; one that submits its jobs, up to `nodes` of them, has none.
GPUS_HERE = 0 if workflow.resource_settings.nodes else GPUS
if GPUS_HERE:
    # As many trainings at once as there are GPUs, unless the command line says otherwise.
    workflow.global_resources.setdefault("gpu", GPUS_HERE)


def models_of(*stages):
    """A wildcard's pattern: the variants whose cells one of these stages makes, None for another's."""
    return "|".join(name for name, v in variants.items() if v.last_stage in stages) or "(?!)"


def trained_by(stage):
    """The same of the variants that one of the earlier stages trains under their own names."""
    names = (n for n, v in variants.items() if stage in v.stages)
    return "|".join(n for n in names if lineage.trained_as(settings, stage, n) == n) or "(?!)"


wildcard_constraints:
    model="|".join(variants),
    task="|".join(settings.tasks),
    split="|".join(hub.SPLITS),
    timed="|".join(experiments.TIMED),


localrules:
    all,


def selected(targets):
    """The names of those tables or figures of which this config selects anything."""
    return [name for name, target in targets.items() if target.is_selected(settings.axes)]


def all_targets():
    """Every table, every figure and the verdicts."""
    names = selected(experiments.TABLES)
    tables = [paths.table(name, suffix) for name in names for suffix in ("tex", "html")]
    figures = [paths.figure(name, "pdf") for name in selected(experiments.FIGURES)]
    return [*tables, *figures, paths.claims("md")]


def resources_of(stage):
    """What one job of a stage asks for; no gpu where none is wanted or there."""
    wanted = settings.resources_of(stage)

    def memory(wildcards, attempt):
        return wanted.mem_mb * attempt  # a job that ran out of it is repeated with more

    needed = {"mem_mb": memory, "runtime": wanted.runtime}
    gpu = wanted.gpu
    if gpu is None:
        gpu = min(1, GPUS) if STAGES[stage].computes else 0
    if GPUS_HERE:  # Snakemake gives a job no more, and a training has a process for each
        gpu = min(gpu, GPUS_HERE)
    return needed | ({"gpu": gpu} if gpu else {})


def processes(stage):
    """Of one training: one for each of its GPUs, unless the config says how many."""
    return settings.resources_of(stage).processes or max(1, resources_of(stage).get("gpu", 0))


def threads(stage):
    return settings.resources_of(stage).threads


def every_core(stage):
    """All cores of this run; what the config asks for on a cluster, where a run has no such number."""
    # Not `workflow.cores`, which raises an error there.
    return max(workflow.resource_settings.cores or 1, threads(stage))


SECONDS_AHEAD = costs.seconds_ahead(settings)


def urgency(stage):
    """A job's `priority`: the seconds of what waits for it, so that the longest chain starts first."""

    def of(wildcards):
        return round(SECONDS_AHEAD[stage, wildcards.model])

    return of


# All wait for the data.
FIRST = 1 + max(map(round, SECONDS_AHEAD.values()))


def recipe(stage, **bundle):
    """A job's `params`: changes if, and only if, the outcome would. bundle: its tasks and seeds."""

    def of(wildcards):
        cell = dict(wildcards.items()) | bundle
        if isinstance(cell.get("task"), str):
            cell["task"] = [cell["task"]]
        return recipes.of_job(settings, stage, **cell)

    return of


def report_recipe(stage, wildcards):
    return recipes.of_job(settings, stage, wildcards.target)


def starting_checkpoint(stage, wildcards):
    """The weights a training on blocks starts from; none if it starts fresh."""
    before = lineage.origin(settings, stage, wildcards.model)
    return [before.path] if before else []


def timed_cells(wildcards):
    """The pruned models that are timed as they were saved."""
    return [
        lineage.cell(settings, *cell) for cell in recipes.timed_cells(settings, wildcards.timed)
    ]


def scored_cells(tasks, wildcards):
    """The models by which a variant is scored."""
    return finetuned(variants[wildcards.model].trained.name, tasks)


def starting_cells(tasks, seeds, wildcards):
    """The same of fine-tunings and prunings, which may start from a cell each."""
    stage = variants[wildcards.model].last_stage
    found = [
        lineage.origin(settings, stage, wildcards.model, task, seed).path
        for task in tasks
        for seed in seeds
    ]
    return list(dict.fromkeys(found))


def task_data(tasks, *splits):
    return [paths.task_data(task, split) for task in tasks for split in splits or hub.SPLITS]


def finetuned(model, tasks, seeds=settings.training_seeds):
    return [paths.finetuned(model, task, seed) for task in tasks for seed in seeds]


def inputs_of(name):
    return lineage.inputs(experiments.targets()[name], settings)


def target_inputs(wildcards):
    return inputs_of(wildcards.target)
