"""The sections of a config: their keys, types and bounds. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from muxplm import experiments, tasks


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
    trim: bool = False  # drop entries that the corpus never uses
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


ADAM_BETAS = (0.9, 0.999)  # transformers' defaults; no setting changes them


class Optimising(Section):
    """Of every training. `rows` is how many sequences the encoder sees per step: N x rows instances."""

    rows: Positive
    learning_rate: Rate
    warmup: Fraction = 0.1  # of the steps
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_epsilon: Rate = 1.0e-8
    accumulation: Positive = 1
    save_every: Positive = 1000

    def of_instances(self, n: int, task: str | None = None):
        """The same with what depends on N and on the task worked out: nothing here."""
        return self


Exponent = Annotated[float, Field(ge=0, le=1)]


class Short(Section):
    """The first `steps` see a block as rows of `length` tokens, as BERT's first ones did (its A.2)."""

    length: Annotated[int, Field(ge=2)]
    steps: Positive


class Training(Optimising):
    """On blocks: priming, pre-training."""

    steps: Positive
    learning_rate_exponent: Exponent = 0.0  # rate x N to this power, for a step of N times as much
    steps_per_instance: Annotated[int, Field(ge=0)] = 0  # N times as many are added to `steps`
    adam_epsilon: Rate = 1.0e-6
    mask_rate: Fraction = 0.15  # of tokens masked or replaced; unused in priming
    short: Short | None = None  # null: whole blocks from the first step on

    def of_instances(self, n: int, task: str | None = None):
        change = {"steps": self.steps + n * self.steps_per_instance, "steps_per_instance": 0}
        rate = self.learning_rate * n**self.learning_rate_exponent
        change |= {"learning_rate": rate, "learning_rate_exponent": 0.0}
        return self.model_copy(update=change)


class OfTask(Optimising):
    """A fine-tuning of one task by a model of one N."""

    steps: Positive
    max_length: Positive | None = None


class Finetuning(Optimising):
    """`steps` by task, exponents too; `max_length` null means that of the blocks."""

    steps: dict[TaskName, Positive]
    learning_rate_exponent: dict[TaskName, Exponent] = {}  # as in `Training`; 0 for others
    max_length: Positive | None = None
    min_instances: Positive = 1  # per step: more rows where N x rows would be fewer

    def of_instances(self, n: int, task: str | None = None):
        """An `OfTask`; without a task the same section, in which the rows are those of N."""
        rows = max(self.rows, -(-self.min_instances // (n * self.accumulation)))
        if not task:
            return self.model_copy(update={"rows": rows, "min_instances": 1})
        rate = self.learning_rate * n ** self.learning_rate_exponent.get(task, 0.0)
        values = self.model_dump(exclude={"learning_rate_exponent", "min_instances"})
        return OfTask(**values | {"rows": rows, "learning_rate": rate, "steps": self.steps[task]})


# No recipe names when a checkpoint is saved, nor what is in `learning_rate` and `rows` once N is known.
SCHEDULE = {"save_every", "learning_rate_exponent", "min_instances"}


class Pruning(Optimising):
    """From a fine-tuned model to a pruned one: `steps` under masks, `final_steps` of the small model.

    Fisher masks take no step, but the gradients of `fisher_passes` passes of `rows` sequences.
    """

    steps: dict[TaskName, Positive]
    final_steps: dict[TaskName, Positive]
    final_learning_rate: Rate
    warmup: Fraction = 0.0
    mask_learning_rate: Rate = 0.01  # of log alpha and of the multipliers
    sparsity_warmup: Fraction = 0.1  # of `steps`
    layer_weight: Fraction = 0.9  # of the teacher's layers; its predictions have the rest
    fisher_passes: Positive = 64


class Pruned(Section):
    """Which models are pruned beside those that are not: sparsities x N x tasks x how."""

    sparsities: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Once] = []
    instances: Annotated[list[Positive], Once] = [1, 2]
    tasks: Annotated[list[TaskName], Once] = []
    by: Annotated[list[Literal[tuple(experiments.PRUNERS)]], Field(min_length=1), Once] = ["cofi"]
    precisions: Annotated[list[Literal["fp32", "bf16", "int8"]], Once] = []  # beside the config's


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
