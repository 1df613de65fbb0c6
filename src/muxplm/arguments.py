"""What the arguments of the `muxplm` command may name, and the settings that they go with."""

from muxplm import config as configuration
from muxplm import experiments, hub, recipes
from muxplm.mistakes import ConfigError, nearest

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
    if stage in ("prime", "pretrain") and stage not in settings.variants[cell["model"]].stages:
        made = ", ".join(settings.variants[cell["model"]].stages)
        raise ConfigError(f"variant {cell['model']} has no stage {stage}; known: {made}")
    for name in names:
        known(name, experiments.targets(), "table or figure")
    for axis, listed in (("task", task_list), ("seed", seed_list)):
        if axis in cell:
            cell[axis] = listed(cell[axis], settings)
    if recipe and (found := recipes.of_job(settings, stage, *names, **cell)) != recipe:
        raise ConfigError(
            f"this job was planned for recipe {recipe} and {' '.join(map(str, files)) or 'the config'} "
            f"gives {found}: start the workflow again"
        )
    return settings


def known(name, names, what, where="in this config"):
    """`name`, if it is one of `names`; else a ConfigError with the one that was probably meant."""
    if name not in names:
        raise ConfigError(f"{what} {name!r} is not {where}{nearest(name, names)}")
    return name


def task_list(tasks: str, settings):
    """Of "sst2,ner", or all."""
    return [task for task in tasks.split(",") if task] or settings.tasks


def seed_list(seeds: str, settings):
    """Of "1,2", or all."""
    return [int(seed) for seed in seeds.split(",") if seed] or settings.training_seeds


def seed_counts(seeds: str) -> list[int]:
    """Of "2,3,5", which are numbers of training seeds."""
    numbers = [int(n) if n.isdecimal() else 0 for n in seeds.split(",")]
    if min(numbers) < 2:
        raise ConfigError(f"--seeds {seeds!r}: give numbers from 2 on, such as 2,3,5")
    return numbers
