"""The workflow's settings: typed, read once, validated before anything runs. Imports no torch.

`workflow/schemas/config.schema.yaml` is generated from these classes (`muxplm schema`), and a test
holds the two equal.
"""

import copy
import hashlib
import json
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from muxplm import experiments, tasks
from muxplm.experiments import Axes, Paths, Variant
from muxplm.released_checkpoints import released_id
from muxplm.words import nearest

DEFAULT = Path("config/config.yaml")

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
FamilyName = Literal[tuple(experiments.FAMILIES)]
SizeName = Literal[experiments.SIZES]
TaskName = Literal[tuple(tasks.TASKS)]


class ConfigError(ValueError):
    """One line per mistake: which key is wrong and what to write instead."""


class Section(BaseModel):
    # strict: a quoted number, or `5e-5` (which YAML reads as text), is a mistake to point out.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Synthetic(Section):
    """Size of the embedded language's corpus (documents) and tasks (rows)."""

    seed: int = 1
    documents: Positive
    train_rows: dict[TaskName, Positive]
    validation_rows: Positive


class Data(Section):
    source: Literal["synthetic", "local", "hub"]
    synthetic: Synthetic
    max_train_rows: Positive | None = None
    max_validation_rows: Positive | None = None
    max_documents: Positive | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of the documents


class Tokenizer(Section):
    """A WordPiece vocabulary trained on the corpus, or the files of `pretrained` at `revision`."""

    pretrained: str | None = None
    revision: str | None = None
    vocab_size: Positive
    unused: Positive = 16  # spare ids; a prefix demultiplexer takes N + 1 of them

    @model_validator(mode="after")
    def _pinned(self):
        if self.pretrained and not self.revision:
            raise ValueError(f"{self.pretrained} is not pinned: set tokenizer.revision to a commit")
        return self


class Shape(Section):
    """Encoder sizes. `embedding` is ELECTRA's; null means the hidden size."""

    layers: Positive
    hidden: Positive
    heads: Positive
    intermediate: Positive
    embedding: Positive | None = None

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

    multiplexer: Annotated[str, Field(min_length=1)] | None = None
    demultiplexer: Annotated[str, Field(min_length=1)] | None = None

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
    micro_batches: list[Positive]


class Resources(Section):
    threads: Positive = 1
    mem_mb: Positive = 2000
    runtime: Positive = 60  # minutes
    gpu: Annotated[int, Field(ge=0)] = 0


class Released(Section):
    """The authors' checkpoints in the place of priming and pre-training.

    mirror: a folder that holds owner/model as the Hub does; null for the Hub. revisions: a commit for
    each of the Hub's ids; `revision` where none is given.
    """

    mirror: str | None = None
    revision: Annotated[str, Field(min_length=1)] = "main"
    revisions: dict[str, str] = {}


class Plan(Section):
    """Used only to estimate hours: sustained FLOP/s of one GPU, or of one job without a GPU."""

    flops: Rate
    startup_seconds: Annotated[float, Field(ge=0)]
    jobs_at_once: Positive


class Settings(Section):
    results: str
    scratch: str
    data_folder: str | None = None  # for data.source "local": a folder in the Hub's layout
    families: Annotated[list[FamilyName], Field(min_length=1)]
    sizes: Annotated[list[SizeName], Field(min_length=1)]
    instances: Annotated[list[Positive], Field(min_length=1)]
    tasks: Annotated[list[TaskName], Field(min_length=1)]
    ablations: list[Ablation] = []
    dialects: list[Literal[tuple(experiments.DIALECTS)]] = []  # rows of the table of dialects
    training_seeds: Annotated[list[int], Field(min_length=1)]
    composition_seeds: Annotated[list[int], Field(min_length=1)]
    bundle: Literal["all", "task", "cell"]  # a fine-tuning job per model, task, or task and seed
    precision: Literal["auto", "bf16", "fp32"]
    max_length: Annotated[int, Field(ge=3)]  # tokens: of the corpus's blocks and, unless
    # finetune.max_length says otherwise, of a task's rows, [CLS] and [SEP] included
    data: Data
    tokenizer: Tokenizer
    shapes: dict[SizeName, Shape]
    model: Model
    prime: Training
    pretrain: Training
    finetune: Finetuning
    released: Released | None = None
    overrides: dict[str, dict[Literal[("model", *experiments.STAGES)], dict]] = {}
    throughput: Throughput
    resources: dict[
        Literal[
            *("task_data", "tokenizer", "blocks", "released", *experiments.STAGES, "score"),
            *("published_scores", "ensembles"),
            *("compositions", "muxology", "throughput", "tables", "figures", "claims"),
        ],
        Resources,
    ]
    plan: Plan

    @model_validator(mode="after")
    def _complete(self):
        for size in self.sizes:
            if size not in self.shapes:
                raise ValueError(f"shapes.{size} is missing although sizes lists {size}")
        for task in self.tasks:
            if task not in self.finetune.steps:
                raise ValueError(f"finetune.steps.{task} is missing although tasks lists {task}")
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
        return Axes(*map(tuple, lists), self.released is not None, tuple(self.dialects))

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

    def recipe(self, stage: str, model: str, task_names=(), seeds=()) -> str:
        """A short hash of everything that decides the outcome of a training, and of those before it.

        Where files lie, how many threads run and what else the grid holds do not count.
        """
        variant = self.variants[model]
        if self.released and stage != "finetune":
            return self.released_recipe(released_id(variant))
        training = self.training(stage, model).model_dump()
        if task_names:
            training["steps"] = {task: training["steps"][task] for task in task_names}
        before, family = variant.stage_before(stage), variant.recipe
        dialect = sorted(experiments.DIALECTS[variant.dialect].items())
        return digest(
            {
                "stage": stage,
                "numerics": NUMERICS[stage],
                "variant": model,
                "parts": [family.encoder, variant.multiplexer, variant.demultiplexer, *dialect],
                "losses": [family.objective, family.finetune_retrieval, variant.retrieval_rate],
                "positions": max(self.max_length, self.task_length),
                "shape": self.shapes[variant.size].model_dump(),
                "model": self.model_of(model).model_dump(),
                "training": training,
                "tasks": list(task_names),
                "seeds": list(seeds),
                "precision": self.precision,
                "data": self.data_recipe(),
                "before": self.recipe(before, model) if before else None,
            }
        )

    def checkpoint_before(self, stage: str, model: str) -> str | None:
        """The weights that a stage starts from; None if it starts fresh."""
        # Whatever a released checkpoint was trained with, it lies where pre-trained ones do.
        before = "pretrain" if self.released else self.variants[model].stage_before(stage)
        return self.paths.checkpoint(before, model) if before else None

    def released_recipe(self, hub_id: str) -> str:
        """The same of a checkpoint of the authors'."""
        revision = self.released.revisions.get(hub_id, self.released.revision)
        return digest([hub_id, revision, NUMERICS["released"]])

    def resources_of(self, stage: str) -> Resources:
        return self.resources.get(stage, Resources())

    def throughput_recipe(self, timed: str) -> str:
        """The same of one set of models that are timed together, a key of experiments.TIMED."""
        shapes = {
            v.name: [self.shapes[v.size].model_dump(), self.model_of(v.name).model_dump()]
            for v in experiments.TIMED[timed].variants(self.axes)
        }
        return digest(
            {
                "numerics": NUMERICS["throughput"],
                "throughput": self.throughput.model_dump(),
                "models": shapes,
                "precision": self.precision,
                "data": self.data_recipe(),
            }
        )

    def report_recipe(self, *names: str) -> str:
        """All that the captions of these tables and figures may quote beside the results."""
        targets = [experiments.targets()[name] for name in names]
        chosen = {v.name: v for target in targets for v in target.variants(self.axes)}
        models = {
            name: [
                self.shapes[variant.size].model_dump(),
                self.model_of(name).model_dump(),
                *(self.training(s, name).model_dump() for s in (*variant.stages, "finetune")),
                name in self.overrides,
            ]
            for name, variant in chosen.items()
        }
        seeds = [self.training_seeds, self.composition_seeds]
        axes = [self.families, self.sizes, self.instances, self.tasks]
        lengths = [self.max_length, self.task_length]
        return digest([models, seeds, axes, lengths, self.data.source])

    def data_recipe(self) -> str:
        return digest(
            {
                "numerics": NUMERICS["data"],
                "data": self.data.model_dump(),
                "tokenizer": self.tokenizer.model_dump(),
                "max_length": self.max_length,
            }
        )


# Raised by hand when code changes what a stage computes; see tests/test_numerics.py.
NUMERICS = {
    **{"data": 1, "prime": 1, "pretrain": 1, "finetune": 1, "score": 2, "throughput": 1},
    **{"ensembles": 2, "compositions": 2, "muxology": 1, "released": 1},
}


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` laid over it, mapping by mapping; lists are replaced (as Snakemake does)."""
    merged = copy.deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def validate(raw: dict) -> Settings:
    """Typed settings from a merged config, or ConfigError with one line for each mistake."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = dict.fromkeys(explain(problem) for problem in error.errors())
        raise ConfigError("\n".join(f"config: {line}" for line in lines)) from None


def load(files=()) -> Settings:
    """The default config with `files` (YAML or JSON) laid over it in order."""
    raw = {}
    for file in (DEFAULT, *map(Path, files)):
        try:
            # YAML reads JSON too, but takes JSON's 1e-06 for text.
            parse = json.loads if file.suffix == ".json" else yaml.safe_load
            content = parse(file.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"config: cannot read {file}: {reason}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"config: {file} does not hold keys and values")
        raw = merge(raw, content)
    return validate(raw)


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
            raise ValueError(f"overrides.{name}.{stage}.{explain(error.errors()[0])}") from None


def schema() -> dict:
    """The JSON schema that editors and Snakemake understand."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | Settings.model_json_schema()


def explain(problem: dict, model: type[BaseModel] = Settings) -> str:
    """One line for one of pydantic's errors about `model`: which key, and what to write instead."""
    # pydantic marks the tested branch of a union, or the key of a mapping, by extra path parts.
    place = [p for p in problem["loc"] if p not in ("[key]", "int", "float", "str", "none")]
    where = ".".join(str(part) for part in place)
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where}: unknown key{nearest(place[-1], _keys_at(place[:-1], model))}"
    if kind == "missing":
        return f"{where}: missing key"
    if kind == "literal_error":
        known = [k.strip().strip("'") for k in context["expected"].replace(" or ", ",").split(",")]
        return f"{where}: unknown name {given!r}{nearest(given, known)}"
    if kind == "value_error":
        return f"{where}: {context['error']}".removeprefix(": ")
    if kind in ("float_type", "int_type") and isinstance(given, str):
        return f"{where}: {given!r} is text, not a number (write 5.0e-5, not 5e-5, and no quotes)"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {given!r}"


def _keys_at(place, model: type[BaseModel]) -> list[str]:
    """The keys that the model's schema allows at a place of its content."""
    node, definitions = model.model_json_schema(), model.model_json_schema()["$defs"]
    for part in place:
        inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
        node = inner or node.get("items") or {}
        node = next((kind for kind in node.get("anyOf", ()) if "$ref" in kind), node)
        node = definitions[node["$ref"].split("/")[-1]] if "$ref" in node else node
    return list(node.get("properties", {}))
