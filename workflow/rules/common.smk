# The validated settings, and the functions that the rules share.
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from muxplm import config as configuration
from muxplm import experiments, files, numerics
from muxplm.released_checkpoints import published_id
from muxplm.reporting import captions

try:
    settings = configuration.validate(config)
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None

paths = settings.paths
variants = settings.variants
ENVIRONMENT = str(Path("environment.yml").resolve())


wildcard_constraints:
    model="|".join(variants),
    task="|".join(settings.tasks),
    timed="|".join(experiments.TIMED),


localrules:
    all,


def selected(targets):
    """The names of those tables or figures of which this config selects anything."""
    return [name for name, target in targets.items() if target.is_selected(settings.axes)]


def all_targets():
    """Every table, every figure and the verdicts."""
    tables = [paths.table(name, "tex") for name in selected(experiments.TABLES)]
    figures = [paths.figure(name, "pdf") for name in selected(experiments.FIGURES)]
    return [*tables, *figures, paths.claims("md")]


def job(stage):
    """The resources of one stage's jobs; no gpu is asked for where none is wanted."""
    wanted = settings.resources_of(stage).model_dump(exclude={"threads"})
    return {name: value for name, value in wanted.items() if value}


def threads(stage):
    return settings.resources_of(stage).threads


def every_core(stage):
    """All cores of this run; what the config asks for on a cluster, where a run has no such number."""
    # Not `workflow.cores`, which raises an error there.
    return max(workflow.resource_settings.cores or 1, threads(stage))


def starting_checkpoint(stage, wildcards):
    """The weights a training starts from; none if it starts fresh."""
    before = settings.checkpoint_before(stage, wildcards.model)
    return [before] if before else []


def recipe(stage, wildcards):
    """Changes if, and only if, the outcome of a training would."""
    return settings.recipe(stage, wildcards.model)


def finetuning_recipe(tasks, seeds, wildcards):
    return settings.recipe("finetune", wildcards.model, tasks, seeds)


def finetuned(model, tasks, seeds=settings.training_seeds):
    return [paths.finetuned(model, task, seed) for task in tasks for seed in seeds]


def published_recipe(wildcards):
    return settings.released_recipe(published_id(variants[wildcards.model], wildcards.task))


def throughput_recipe(wildcards):
    return settings.throughput_recipe(wildcards.timed)


def report_recipe(wildcards):
    return settings.report_recipe(wildcards.target)


def inputs_of(name):
    target = experiments.targets()[name]
    return experiments.Inputs(target, settings.axes, paths).files()


def target_inputs(wildcards):
    return inputs_of(wildcards.target)
