"""A whole config: its sections, and what has to fit together. Imports no torch.

Which settings decide which result is said in `recipes`; how a config is read, in `config`.
"""

import copy
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from muxplm import experiments, hub, tasks
from muxplm.axes import Axes, PrunedAxes
from muxplm.experiments import Variant
from muxplm.mistakes import explain, nearest
from muxplm.paths import Paths
from muxplm.sections import (
    Ablation,
    Data,
    FamilyName,
    Finetuning,
    Folder,
    Model,
    Once,
    Plan,
    Pruned,
    Pruning,
    Released,
    Resources,
    Section,
    Seed,
    Shape,
    SizeName,
    TaskName,
    Throughput,
    Tokenizer,
    Training,
)
from muxplm.stages import STAGES, TRAININGS
from muxplm.tasks import AVERAGED


class Settings(Section):
    results: Folder
    scratch: Folder
    data_folder: str | None = None  # for data.source "local": a folder in the Hub's layout
    families: Annotated[list[FamilyName], Field(min_length=1), Once]
    sizes: Annotated[list[SizeName], Field(min_length=1), Once]
    instances: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1), Once]
    tasks: Annotated[list[TaskName], Field(min_length=1), Once]
    ablations: Annotated[list[Ablation], Once] = []
    without: Annotated[list[str], Once] = []  # variants that no target takes
    dialects: Annotated[
        list[Literal[tuple(experiments.DIALECTS)]], Once
    ] = []  # rows of the table of dialects
    pretraining_seeds: Annotated[list[Seed], Once] = []  # rows of the table of pre-trainings
    pruned: Pruned = Pruned()
    training_seeds: Annotated[list[Seed], Field(min_length=1), Once]
    composition_seeds: Annotated[list[Seed], Field(min_length=1), Once]
    bundle: Literal["all", "task", "cell"]  # a fine-tuning job per model, task, or task and seed
    precision: Literal["auto", "bf16", "fp32"]
    max_length: Annotated[
        int, Field(ge=3, le=100_000)
    ]  # tokens: of the corpus's blocks and, unless
    # finetune.max_length says otherwise, of a task's rows, [CLS] and [SEP] included
    data: Data
    tokenizer: Tokenizer
    shapes: dict[SizeName, Shape]
    model: Model
    prime: Training
    pretrain: Training
    finetune: Finetuning
    prune: Pruning
    released: Released | None = None
    overrides: dict[str, dict[Literal["model", *TRAININGS], dict]] = {}
    throughput: Throughput
    resources: dict[Literal[*STAGES], Resources]
    plan: Plan

    @model_validator(mode="after")
    def _complete(self):
        if not self.variants:
            raise ValueError(
                "families, sizes, instances and tasks select no model: N = 1 is of the plain families, "
                "N > 1 of the multiplexed ones"
            )
        for size in self.sizes:
            if size not in self.shapes:
                raise ValueError(f"shapes.{size} is missing although sizes lists {size}")
        for task in self.tasks:
            if task not in self.finetune.steps:
                raise ValueError(f"finetune.steps.{task} is missing although tasks lists {task}")
            if self.data.source == "synthetic" and not tasks.TASKS[task].group:
                raise ValueError(
                    f"tasks: the synthetic language has no {task}: leave it out, or set data.source"
                )
            if self.data.source == "hub" and task not in hub.TASKS:
                raise ValueError(f"tasks: no data set of the Hub is named for {task} in hub.TASKS")
        for key, task in product(("steps", "final_steps"), self.pruned_tasks):
            if task not in getattr(self.prune, key):
                raise ValueError(
                    f"prune.{key}.{task} is missing although pruned.tasks lists {task}"
                )
        for stage in ("prime", "pretrain"):
            _check_short(stage, getattr(self, stage), self.max_length)
        prefixed = [v.n for v in self.variants.values() if v.demultiplexer == "prefix"]
        if not self.tokenizer.pretrained and self.tokenizer.unused <= max(prefixed, default=0):
            raise ValueError(
                f"tokenizer.unused: a prefix demultiplexer for N = {max(prefixed)} takes N + 1 spare "
                f"ids, not {self.tokenizer.unused}"
            )
        if self.precision in self.pruned.precisions:
            raise ValueError(
                f"pruned.precisions: {self.precision} is the config's own precision: leave it out"
            )
        if self.data.source == "local" and not self.data_folder:
            raise ValueError("data_folder is missing: name the folder, --config data_folder=DIR")
        if self.without:
            every = experiments.grid(replace(self.axes, without=()))
            for name in set(self.without) - set(every):
                hint = nearest(name, every)
                raise ValueError(f"without: there is no variant {name} in this config{hint}")
        every = _every_variant(self.axes) if self.overrides else {}
        for name, stages in self.overrides.items():
            if name in self.variants:
                _check_overrides(self, name, stages)
            elif name not in every:
                raise ValueError(f"overrides.{name}: no such variant{nearest(name, every)}")
        return self

    @property
    def task_length(self) -> int:
        return self.finetune.max_length or self.max_length

    @property
    def pruned_tasks(self) -> list[str]:
        """The tasks on which models are pruned."""
        return [t for t in self.tasks if t in self.pruned.tasks] if self.pruned.sparsities else []

    def has_cells(self, variant: Variant, task: str) -> bool:
        """Whether a variant is fine-tuned, or pruned, on a task."""
        return task in (self.tasks if variant.last_stage == "finetune" else self.pruned_tasks)

    @property
    def axes(self) -> Axes:
        changes = tuple(ablation.model_dump(exclude_none=True) for ablation in self.ablations)
        lists = (self.families, self.sizes, self.instances, self.tasks, changes)
        more = (self.dialects, self.pretraining_seeds)
        pruned = self.pruned
        masks = (pruned.sparsities, pruned.instances, self.pruned_tasks)
        masks += (pruned.by, pruned.precisions)
        return Axes(
            *map(tuple, lists),
            self.released is not None,
            *map(tuple, more),
            PrunedAxes(*map(tuple, masks)),
            tuple(self.without),
        )

    @property
    def paths(self) -> Paths:
        return Paths(self.results, self.scratch)

    @cached_property
    def variants(self) -> dict[str, Variant]:
        return experiments.grid(self.axes)

    def bundles_of(self, tasks: list[str]) -> dict[str, list[str]]:
        """Which of `tasks` one job takes that scores models, by the bundle's name."""
        if self.bundle == "all":  # Table 1 need not wait for tasks that it does not show
            averaged = [task for task in tasks if task in AVERAGED]
            others = [task for task in tasks if task not in AVERAGED]
            return {n: found for n, found in (("averaged", averaged), ("others", others)) if found}
        return {task: [task] for task in tasks}

    def trainings_of(self, tasks: list[str]) -> dict[str, tuple[list[str], list[int]]]:
        """Which of `tasks` and which training seeds one job takes that fine-tunes or prunes."""
        if self.bundle != "cell":
            bundles = self.bundles_of(tasks)
            return {name: (bundle, self.training_seeds) for name, bundle in bundles.items()}
        cells = product(tasks, self.training_seeds)
        return {f"{task}_seed{seed}": ([task], [seed]) for task, seed in cells}

    def model_of(self, name: str) -> Model:
        """The model settings of one variant, overrides applied."""
        return Model.model_validate(self._overridden("model", name))

    def _overridden(self, section: str, name: str) -> dict:
        changes = self.overrides.get(name, {}).get(section, {})
        return merge(getattr(self, section).model_dump(), changes)

    def precision_of(self, name: str) -> str:
        """In which a variant is scored and timed."""
        return self.variants[name].precision or self.precision

    def training(self, stage: str, model: str, task: str | None = None):
        """The settings of one stage for one variant: overrides applied, and what depends on N.

        `steps` are in total, `rows` and `learning_rate` those of a step of this variant; of
        fine-tuning, steps and rate are one task's if it is named, and by task otherwise.
        """
        section = type(getattr(self, stage)).model_validate(self._overridden(stage, model))
        return section.of_instances(self.variants[model].n, task)

    def resources_of(self, stage: str) -> Resources:
        return self.resources.get(stage, Resources())


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` laid over it, mapping by mapping; lists are replaced (as Snakemake does)."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def _every_variant(axes: Axes) -> dict[str, Variant]:
    """With those of other families, sizes and N: the config below may override what this leaves out."""
    instances = tuple({1, 2, 5, 10, *axes.instances})  # the paper's, and the config's own
    families, sizes = tuple(experiments.FAMILIES), experiments.SIZES
    wide = replace(axes, families=families, sizes=sizes, instances=instances, without=())
    return experiments.grid(wide)


def _check_overrides(settings: Settings, name: str, stages: dict):
    for stage, changes in stages.items():
        known = list(type(getattr(settings, stage)).model_fields)
        for key in changes:
            if key not in known:
                raise ValueError(
                    f"overrides.{name}.{stage}.{key}: unknown key{nearest(key, known)}"
                )
            if key == "max_length":
                raise ValueError(f"overrides.{name}.{stage}.{key}: all variants share one length")
        try:
            changed = (
                settings.model_of(name) if stage == "model" else settings.training(stage, name)
            )
            _check_short(f"overrides.{name}.{stage}", changed, settings.max_length)
        except ValidationError as error:
            raise OverrideError(("overrides", name, stage), error.errors()) from None


class OverrideError(ValueError):
    """What is wrong with the section at `place` once it is overridden.

    problems: pydantic's, with their places in the whole config.
    """

    def __init__(self, place: tuple[str, ...], problems: list[dict]):
        super().__init__(f"{'.'.join(place)}.{explain(problems[0], Settings)}")
        self.problems = [problem | {"loc": (*place, *problem["loc"])} for problem in problems]


def _check_short(place: str, section, max_length: int):
    short = getattr(section, "short", None)
    if short and max_length % short.length:
        raise ValueError(
            f"{place}.short.length: {short.length} does not divide max_length, {max_length}"
        )
