"""What each result is made from: the weights a training starts from, the files a table reads."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from muxplm import recipes
from muxplm.experiments import Target
from muxplm.settings import Settings


@dataclass(frozen=True)
class Origin:
    """Weights that a training starts from: where they lie, and the digest of their recipe."""

    path: str
    recipe: str

    @property
    def folder(self) -> Path:
        return Path(self.path).parent


def origin(settings: Settings, stage: str, model: str, task="", seed=0) -> Origin | None:
    """What `stage` of a variant starts from; None where it starts from fresh weights.

    Fine-tuning starts from the variant's own training or from a checkpoint of the authors', pruning
    from the fine-tuned cell of another variant (`Variant.parent`) of the same task and seed.
    """
    before = recipes.before(settings, stage, model, task, seed)
    if before is None:
        return None
    earlier, name = before.stage, before.model
    if earlier == "finetune":
        path = settings.paths.finetuned(name, task, seed)
    else:
        path = checkpoint(settings, earlier, name)
    return Origin(path, recipes.digest(before.recipe))


def checkpoint(settings: Settings, stage: str, model: str) -> str:
    """Where the weights of a variant after priming or pre-training lie.

    Variants whose primings are the same to the last setting share one: T-MUX and the prefix ablation,
    or several retrieval rates.
    """
    return settings.paths.checkpoint(stage, trained_as(settings, stage, model))


def cell(settings: Settings, model: str, task: str, seed: int) -> str:
    """Where the model lies by which a variant is scored and timed."""
    return settings.paths.finetuned(settings.variants[model].trained.name, task, seed)


def trained_as(settings: Settings, stage: str, model: str) -> str:
    """The variant under whose name a training of `model` runs: the grid's first that is the same."""
    if stage != "prime":
        return model
    wanted = recipes.prime(settings, model)
    names = (n for n, v in settings.variants.items() if "prime" in v.stages)
    return next(name for name in names if recipes.prime(settings, name) == wanted)


def inputs(target: Target, settings) -> list[str]:
    """The files that a target reads, under one config."""
    found = [path for need in target.needs for path in _NEEDS[need](target, settings)]
    timed = target.timed_set(settings.axes)
    return found + ([settings.paths.throughput(timed)] if timed else [])


def cells(target: Target, settings: Settings) -> list[tuple[str, str]]:
    """(variant, task) of a target; a pruned variant has cells of some tasks alone."""
    variants = target.variants(settings.axes)
    if "prunings" in target.needs:  # its parents' rows have none
        variants = [variant for variant in variants if variant.sparsity]
    found = product(variants, target.selected_tasks(settings.axes))
    return [(v.name, task) for v, task in found if settings.has_cells(v, task)]


def _cells(kind: str):
    """The files of one kind, a method of Paths, of each variant and task of a target."""

    def files(target, settings):
        return [getattr(settings.paths, kind)(*cell) for cell in cells(target, settings)]

    return files


def _prunings(target, settings):
    found = product(cells(target, settings), settings.training_seeds)
    return [cell(settings, name, task, seed) for (name, task), seed in found]


def _muxologies(target, settings):
    return [settings.paths.muxology(variant.name) for variant in target.variants(settings.axes)]


def _trainings(target, settings):
    """Of every variant that any target needs, ablations and extensions too."""
    found = [
        checkpoint(settings, stage, name)
        for name, variant in settings.variants.items()
        for stage in variant.stages
    ]
    return list(dict.fromkeys(found))


_NEEDS = {
    "scores": _cells("scores"),
    "published": _cells("published_scores"),
    "ensembles": _cells("ensembles"),
    "compositions": _cells("compositions"),
    "muxologies": _muxologies,
    "trainings": _trainings,
    "prunings": _prunings,
}
