# The validated settings, and the functions that the rules share.
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from muxplm import config as configuration
from muxplm import experiments, files, numerics
from muxplm.reporting.tables import BUILDERS

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
    table="|".join(BUILDERS),


localrules:
    all,


def all_targets():
    """Every table that can be built, and the scores of every variant that any table needs."""
    scores = [paths.scores(model, task) for model in variants for task in settings.tasks]
    return [paths.table(name, "tex") for name in BUILDERS] + scores


def job(stage):
    """The resources of one stage's jobs; no gpu is asked for where none is wanted."""
    wanted = settings.resources_of(stage).model_dump(exclude={"threads"})
    return {name: value for name, value in wanted.items() if value}


def threads(stage):
    return settings.resources_of(stage).threads


def starting_checkpoint(stage, wildcards):
    """The weights a training starts from; none if it starts fresh."""
    before = variants[wildcards.model].stage_before(stage)
    return [paths.checkpoint(before, wildcards.model)] if before else []


def recipe(stage, wildcards):
    """Changes if, and only if, the outcome of a training would."""
    return settings.recipe(stage, wildcards.model)


def finetuning_recipe(tasks, wildcards):
    return settings.recipe("finetune", wildcards.model, tasks, settings.training_seeds)


def table_scores(wildcards):
    table = experiments.TABLES[wildcards.table]
    tasks = table.selected_tasks(settings.axes)
    models = [variant.name for variant in table.variants(settings.axes)]
    return [paths.scores(model, task) for model in models for task in tasks]


def table_throughput(wildcards):
    return [paths.throughput] if experiments.TABLES[wildcards.table].throughput else []
