"""What the arguments of the `muxplm` command may name, and the settings that they go with."""

from muxplm import config as configuration
from muxplm import experiments, hub, recipes
from muxplm.mistakes import ConfigError, nearest
from muxplm.stages import TRAININGS

PRECISIONS = ("bf16", "fp32", "auto")


def settings_of_job(files, recipe: str, stage: str, *names: str, **cell: str):
    """The settings of `files`, if the names are in them and they give the recipe that a job was told.

    A config may have changed since the workflow was planned: a job that ran on would leave another
    model under the planned one's recipe.
    """
    settings = configuration.load(files)
    names_of = {
        "model": settings.variants,
        "split": hub.SPLITS,
        "timed": experiments.TIMED,
        "task": settings.tasks,
        "seed": list(map(str, settings.training_seeds)),
    }
    titles = {"model": "variant", "timed": "set of models", "seed": "training seed"}
    for key, value in cell.items():
        several = key in ("task", "seed")  # "": all
        for name in filter(None, value.split(",")) if several else [value]:
            known(name, names_of[key], titles.get(key, key))
    if stage in ("prime", "pretrain", "muxology"):
        _check_stage(settings.variants[cell["model"]], stage)
    for name in names:
        known(name, experiments.targets(), "table or figure")
    if "task" in cell:
        cell["task"] = task_list(cell["task"], settings, cell.get("model"))
    if "seed" in cell:
        cell["seed"] = seed_list(cell["seed"], settings)
    if recipe and (found := recipes.of_job(settings, stage, *names, **cell)) != recipe:
        raise ConfigError(
            f"this job was planned for recipe {recipe} and {' '.join(map(str, files)) or 'the config'} "
            f"gives {found}: start the workflow again"
        )
    return settings


def _check_stage(variant, stage: str):
    if not variant.stages:  # pruned, or in another precision
        whole = (variant.parent or variant.trained).name
        raise ConfigError(f"variant {variant.name} has no stage {stage}: take {whole}")
    if stage in TRAININGS and stage not in variant.stages:
        made = ", ".join(variant.stages)
        raise ConfigError(f"variant {variant.name} has no stage {stage}; known: {made}")


def known(name, names, what, where="in this config"):
    """`name`, if it is one of `names`; else a ConfigError with the one that was probably meant."""
    if name not in names:
        raise ConfigError(f"{what} {name!r} is not {where}{nearest(name, names)}")
    return name


def task_list(tasks: str, settings, model=None):
    """Of "sst2,ner", or all that the model has cells of."""
    if named := [task for task in tasks.split(",") if task]:
        return named
    variant = settings.variants.get(model)
    return [task for task in settings.tasks if variant is None or settings.has_cells(variant, task)]


def seed_list(seeds: str, settings):
    """Of "1,2", or all."""
    return [int(seed) for seed in seeds.split(",") if seed] or settings.training_seeds


def cells_of_job(stage, model, tasks, seeds, config, processes, recipe):
    """Settings, tasks and seeds of a job that makes cells, which is shared among processes."""
    settings = settings_of_job(config, recipe, stage, model=model, task=tasks, seed=seeds)
    made = [name for name, variant in settings.variants.items() if variant.last_stage == stage]
    known(model, made, "variant", f"one that `{stage}` makes")
    there = task_list("", settings, model)
    names = [known(task, there, "task", f"one of {model}'s") for task in tasks.split(",") if task]
    share(settings, stage, model, processes)
    return settings, names or there, seed_list(seeds, settings)


def share(settings, stage, model, processes):
    """Before the stage's own imports: the command's first process only starts the others."""
    from muxplm.training.processes import launch

    launch(processes, settings.training(stage, model).rows)


def seed_counts(seeds: str) -> list[int]:
    """Of "2,3,5", which are numbers of training seeds."""
    numbers = [int(n) if n.isdecimal() else 0 for n in seeds.split(",")]
    if min(numbers) < 2:
        raise ConfigError(f"--seeds {seeds!r}: give numbers from 2 on, such as 2,3,5")
    return numbers
