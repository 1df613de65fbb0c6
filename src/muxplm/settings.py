"""What a setting is: names, types, bounds, and what has to fit together. Imports no torch.

Which settings decide which result is said in `recipes`; how a config is read, in `config`.
"""

import copy
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from muxplm import experiments, hub, tasks
from muxplm.experiments import Axes, Variant
from muxplm.mistakes import explain, nearest
from muxplm.paths import Paths
from muxplm.stages import STAGES, TRAININGS


def _each_once(values: list) -> list:
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def _folder(path: str) -> str:
    # Snakemake reads braces as wildcards; a line's end has no place in a shell line.
    if not path.strip() or path.startswith("-") or not path.isprintable() or set(path) & set("{}"):
        raise ValueError(f"{path!r} is no folder that a rule can name: leave out braces and tabs")
    return path.rstrip("/") or "/"


Positive = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=1, le=100_000)]  # of a layer
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Once = AfterValidator(_each_once)
Folder = Annotated[str, AfterValidator(_folder)]
# Stands in paths and in shell lines, so it holds nothing that means more there.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
FamilyName = Literal[tuple(experiments.FAMILIES)]
SizeName = Literal[experiments.SIZES]
TaskName = Literal[tuple(tasks.TASKS)]


class Section(BaseModel):
    # strict: a quoted number, or `5e-5` (which YAML reads as text), is a mistake to point out.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Synthetic(Section):
    """Size of the embedded language's corpus (documents) and tasks (rows)."""

    seed: Seed = 1
    documents: Positive
    train_rows: dict[TaskName, Positive]
    validation_rows: Positive


class Data(Section):
    source: Literal["synthetic", "local", "hub"]
    synthetic: Synthetic
    max_train_rows: Positive | None = None
    max_validation_rows: Positive | None = None
    max_documents: Positive | None = None
    revisions: dict[str, Commit] = {}  # of the Hub's data sets, where no commit is known here
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of the documents


class Tokenizer(Section):
    """A WordPiece vocabulary trained on the corpus, or the files of `pretrained` at `revision`.

    pretrained: a name on the Hub, which needs the commit, or a folder.
    """

    pretrained: str | None = None
    revision: Commit | None = None
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)]
    unused: Positive = 16  # spare ids; a prefix demultiplexer takes N + 1 of them

    @model_validator(mode="after")
    def _pinned(self):
        if self.pretrained and not self.revision and not Path(self.pretrained).is_dir():
            raise ValueError(f"{self.pretrained} is not pinned: set tokenizer.revision to a commit")
        return self


class Shape(Section):
    """Encoder sizes. `embedding` is ELECTRA's; null means the hidden size."""

    layers: Annotated[int, Field(ge=1, le=1000)]
    hidden: Size
    heads: Size
    intermediate: Size
    embedding: Size | None = None

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        return self


class Model(Section):
    dropout: Fraction = 0.1
    initializer_range: Rate = 0.02  # BERT's, for widths near 768; narrow models want more
    demultiplexer_layers: Positive = 2


class Training(Section):
    """One training. `rows` is how many sequences the encoder sees per step: N x rows instances."""

    steps: Positive
    steps_per_instance: Annotated[int, Field(ge=0)] = 0  # N times as many are added to `steps`
    rows: Positive
    learning_rate: Rate
    warmup: Fraction = 0.1  # of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_epsilon: Rate = 1.0e-6
    accumulation: Positive = 1
    mask_rate: Fraction = 0.15  # of tokens masked or replaced; unused in priming
    save_every: Positive = 1000


class Finetuning(Section):
    """`steps` by task; `max_length` null means that of the blocks. All else as in `Training`."""

    steps: dict[TaskName, Positive]
    max_length: Positive | None = None
    rows: Positive
    learning_rate: Rate
    warmup: Fraction = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_epsilon: Rate = 1.0e-8
    accumulation: Positive = 1
    save_every: Positive = 1000


class Ablation(Section):
    """One's own row in the ablation tables: what differs from MUX-BERT."""

    multiplexer: Name | None = None
    demultiplexer: Name | None = None

    @model_validator(mode="after")
    def _differs(self):
        if not (self.multiplexer or self.demultiplexer):
            raise ValueError("name a multiplexer, a demultiplexer or both")
        return self


class Throughput(Section):
    """Batches are `batch` instances of `length` tokens; a trial is `batches` of them per model."""

    batch: Positive
    length: Positive
    batches: Positive
    trials: Positive
    micro_batches: Annotated[list[Positive], Field(min_length=1), Once]


class Resources(Section):
    """Of one job. gpu: null takes one where the machine that starts the workflow has one.

    processes: of a training; null for as many as it has GPUs.
    """

    threads: Positive = 1
    mem_mb: Positive = 2000
    runtime: Positive = 60  # minutes
    gpu: Annotated[int, Field(ge=0)] | None = None
    processes: Positive | None = None


class Released(Section):
    """The authors' checkpoints in the place of priming and pre-training.

    mirror: a folder that holds owner/model as the Hub does; null for the Hub. revisions: a commit for
    each of the Hub's ids (`muxplm pin` looks them up).
    """

    mirror: str | None = None
    revisions: dict[str, Commit] = {}


class Plan(Section):
    """Used only to estimate hours: sustained FLOP/s of one GPU, or of one job without a GPU."""

    flops: Rate
    startup_seconds: Annotated[float, Field(ge=0)]
    jobs_at_once: Positive


class Settings(Section):
    results: Folder
    scratch: Folder
    data_folder: str | None = None  # for data.source "local": a folder in the Hub's layout
    families: Annotated[list[FamilyName], Field(min_length=1), Once]
    sizes: Annotated[list[SizeName], Field(min_length=1), Once]
    instances: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1), Once]
    tasks: Annotated[list[TaskName], Field(min_length=1), Once]
    ablations: Annotated[list[Ablation], Once] = []
    dialects: Annotated[
        list[Literal[tuple(experiments.DIALECTS)]], Once
    ] = []  # rows of the table of dialects
    pretraining_seeds: Annotated[list[Seed], Once] = []  # rows of the table of pre-trainings
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
    released: Released | None = None
    overrides: dict[str, dict[Literal["model", *TRAININGS], dict]] = {}
    throughput: Throughput
    resources: dict[Literal[*STAGES], Resources]
    plan: Plan

    @model_validator(mode="after")
    def _complete(self):
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
        if self.data.source == "local" and not self.data_folder:
            raise ValueError("data_folder is missing: name the folder, --config data_folder=DIR")
        variants = self.variants if self.overrides else {}
        for name, stages in self.overrides.items():
            if name not in variants:
                hint = nearest(name, variants)
                raise ValueError(f"overrides.{name}: no such variant in this config{hint}")
            _check_overrides(self, name, stages)
        return self

    @property
    def task_length(self) -> int:
        return self.finetune.max_length or self.max_length

    @property
    def axes(self) -> Axes:
        changes = tuple(ablation.model_dump(exclude_none=True) for ablation in self.ablations)
        lists = (self.families, self.sizes, self.instances, self.tasks, changes)
        more = (self.dialects, self.pretraining_seeds)
        return Axes(*map(tuple, lists), self.released is not None, *map(tuple, more))

    @property
    def paths(self) -> Paths:
        return Paths(self.results, self.scratch)

    @cached_property
    def variants(self) -> dict[str, Variant]:
        return experiments.grid(self.axes)

    @property
    def bundles(self) -> dict[str, list[str]]:
        """Which tasks one job takes that scores models, by the bundle's name."""
        return {"all": self.tasks} if self.bundle == "all" else {t: [t] for t in self.tasks}

    @property
    def finetunings(self) -> dict[str, tuple[list[str], list[int]]]:
        """Which tasks and which training seeds one fine-tuning job takes, by the bundle's name."""
        if self.bundle != "cell":
            return {name: (tasks, self.training_seeds) for name, tasks in self.bundles.items()}
        cells = product(self.tasks, self.training_seeds)
        return {f"{task}_seed{seed}": ([task], [seed]) for task, seed in cells}

    def model_of(self, name: str) -> Model:
        """The model settings of one variant, overrides applied."""
        return Model.model_validate(self._overridden("model", name))

    def _overridden(self, section: str, name: str) -> dict:
        changes = self.overrides.get(name, {}).get(section, {})
        return merge(getattr(self, section).model_dump(), changes)

    def training(self, stage: str, model: str):
        """The settings of one stage for one variant: overrides applied, `steps` in total."""
        section = getattr(self, stage)
        values = self._overridden(stage, model)
        if more := values.pop("steps_per_instance", 0):
            values["steps"] += more * self.variants[model].n
        return type(section).model_validate(values)

    def resources_of(self, stage: str) -> Resources:
        return self.resources.get(stage, Resources())


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` laid over it, mapping by mapping; lists are replaced (as Snakemake does)."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


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
            settings.model_of(name) if stage == "model" else settings.training(stage, name)
        except ValidationError as error:
            raise ValueError(
                f"overrides.{name}.{stage}.{explain(error.errors()[0], Settings)}"
            ) from None
