"""The grid: which variants exist, and which of them each table or figure needs.

Both the workflow's rules and the table builders read this module; nothing else spells a variant. It is
plain Python and imports neither torch nor transformers, so the DAG is planned quickly. Where the results
lie is said in `paths`, which settings decide them in `recipes`.
"""

from dataclasses import dataclass, field, replace
from itertools import product

from muxplm.axes import Axes
from muxplm.released_checkpoints import PUBLISHED, published_id, released_id
from muxplm.stages import TRAININGS
from muxplm.tasks import AVERAGED, GLUE, GLUE_AVERAGED, TASKS, TOKEN

SIZES = ("small", "base", "large")
PRUNERS = {"cofi": "CoFi", "fisher": "Fisher masks"}  # with training, and without


@dataclass(frozen=True)
class Family:
    """A recipe shared by all sizes and N of one row label of the paper.

    `objective` is what pre-training optimises: "mlm", "rtd" (ELECTRA's replaced-token detection) or
    None (T-MUX goes from retrieval straight to fine-tuning). `finetune_retrieval` is the weight of the
    token-retrieval loss while fine-tuning; the task's loss has weight 1 minus it (DataMUX: 0.1).
    """

    label: str
    encoder: str
    objective: str | None
    multiplexed: bool
    multiplexer: str = "hadamard"
    demultiplexer: str = "rsa"
    finetune_retrieval: float = 0.0
    sizes: tuple[str, ...] = SIZES
    extension: bool = False  # not in the paper: reported apart from its rows


# The paper's text, or what the released checkpoints do (docs/dialects.md): values of MuxConfig.
DIALECTS = {"paper": {}, "released": {"dialect": "released"}}

FAMILIES = {
    "bert": Family("BERT", "bert", "mlm", multiplexed=False),
    "electra": Family("ELECTRA", "electra", "rtd", multiplexed=False, sizes=("base",)),
    "tmux": Family(
        "T-MUX", "bert", None, multiplexed=True, demultiplexer="prefix", finetune_retrieval=0.1
    ),
    "mux-bert": Family("MUX-BERT", "bert", "mlm", multiplexed=True),
    "mux-electra": Family("MUX-ELECTRA", "electra", "rtd", multiplexed=True, sizes=("base",)),
    "modernbert": Family("ModernBERT", "modernbert", "mlm", multiplexed=False, extension=True),
    "mux-modernbert": Family(
        "MUX-ModernBERT", "modernbert", "mlm", multiplexed=True, extension=True
    ),
}


@dataclass(frozen=True)
class Variant:
    """One model that is pre-trained. `name` shows only what differs from the family's default."""

    family: str
    size: str = "base"
    n: int = 1
    multiplexer: str = ""
    demultiplexer: str = ""
    retrieval_rate: float = 0.0  # weight of retrieval beside masked LM in pre-training (Table 12)
    dialect: str = "paper"  # a key of DIALECTS
    pretraining_seed: int = 1  # of priming, too
    sparsity: float = 0.0  # of the encoder's layers, pruned after fine-tuning
    pruner: str = "cofi"  # one of PRUNERS
    precision: str = ""  # in which it is scored and timed; "": the config's

    def __post_init__(self):
        # A default spelt out is the same variant as a default left out.
        for part in ("multiplexer", "demultiplexer"):
            object.__setattr__(self, part, getattr(self, part) or getattr(self.recipe, part))

    @property
    def recipe(self) -> Family:
        return FAMILIES[self.family]

    @property
    def name(self) -> str:
        parts = [self.family, self.size]
        if self.recipe.multiplexed:
            parts.append(f"n{self.n}")
        for part in ("multiplexer", "demultiplexer"):
            if getattr(self, part) != getattr(self.recipe, part):
                parts.append(getattr(self, part))
        if self.retrieval_rate:
            parts.append(f"retrieval{self.retrieval_rate:g}")
        if self.dialect != "paper":
            parts.append(self.dialect)
        if self.pretraining_seed != 1:
            parts.append(f"pretraining{self.pretraining_seed}")
        if self.sparsity:
            parts.append(f"{self.pruner}{self.sparsity:g}")
        if self.precision:
            parts.append(self.precision)
        return "-".join(parts)

    @property
    def stages(self) -> tuple[str, ...]:
        """The trainings that come before fine-tuning, in order."""
        if self.parent or self.precision:
            return ()
        prime = ("prime",) if self.recipe.multiplexed else ()
        return prime + (("pretrain",) if self.recipe.objective else ())

    @property
    def parent(self) -> "Variant | None":
        """The variant from whose fine-tuned cells this one's are pruned; None: it is fine-tuned."""
        return replace(self.trained, sparsity=0.0, pruner="cofi") if self.sparsity else None

    @property
    def trained(self) -> "Variant":
        """The variant whose cells are scored and timed: itself, or itself in the config's precision."""
        return replace(self, precision="")

    @property
    def last_stage(self) -> str | None:
        """What makes its cells, one for each task and seed; None: they are another variant's."""
        if self.precision:
            return None
        return "prune" if self.parent else "finetune"

    def stage_before(self, stage: str) -> str | None:
        """The training whose checkpoint `stage` starts from; None if it starts from scratch."""
        earlier = [s for s in self.stages if TRAININGS.index(s) < TRAININGS.index(stage)]
        return earlier[-1] if earlier else None


@dataclass(frozen=True)
class Target:
    """What one table or figure is made of: variants = families x sizes x N x the changes listed.

    `needs` names the kinds of results it reads, each a function of `paths`. `timed` is the set of
    models, a key of TIMED, whose throughput was measured in one process.
    """

    title: str
    families: tuple[str, ...]
    sizes: tuple[str, ...] = ("base",)
    instances: tuple[int, ...] | None = None  # of the multiplexed rows; None: all the config has
    changes: tuple[dict, ...] = field(default=({},))  # Variant fields that differ from the default
    tasks: tuple[str, ...] = AVERAGED
    needs: tuple[str, ...] = ("scores",)
    timed: str = ""
    own_tasks: bool = False  # about the config's tasks from outside the paper
    extensions: bool = False  # families from outside the paper, in a block of their own
    ablations: bool = False  # takes the config's own changes too
    dialects: bool = False  # about the dialects, of which it takes the config's
    pretrainings: bool = False  # about the luck of pre-training: all seeds of the config's
    pruned: tuple[dict, ...] = ()  # what its pruned rows have, Variant fields; ({},): whatever
    about_pruning: bool = False  # has nothing to show where nothing is pruned
    precisions: bool = False  # takes each of its rows in the config's further precisions too
    released: bool | None = None  # about the authors' checkpoints, or about our own training alone

    def variants(self, axes: Axes) -> list[Variant]:
        """The rows' variants that `axes` selects, ordered by N and then by family, as in Table 1."""
        shown = [f for f in self.families if f in axes.families]
        if self.extensions:
            shown += [f for f in axes.families if FAMILIES[f].extension]
        changes = self.changes + (axes.ablations if self.ablations else ())
        if self.dialects:
            changes = tuple({"dialect": dialect} for dialect in axes.dialects)
        if self.pretrainings:
            changes = tuple({"pretraining_seed": seed} for seed in axes.pretraining_seeds)
        rows = []
        sizes = [s for s in SIZES if s in self.sizes and s in axes.sizes]
        for size, n, family, change in product(sizes, axes.instances, shown, changes):
            recipe = FAMILIES[family]
            multiplexed_n = n > 1 and (self.instances is None or n in self.instances)
            if size in recipe.sizes and (multiplexed_n if recipe.multiplexed else n == 1):
                changed = recipe.multiplexed or self.pretrainings
                rows.append(Variant(family, size, n, **(change if changed else {})))
        if axes.released:
            rows = [variant for variant in rows if released_id(variant)]
        # A family without choices yields one row for all changes.
        rows = [variant for variant in dict.fromkeys(rows) if variant.name not in axes.without]
        if not set(axes.pruned.tasks) & set(self.tasks):
            return rows
        rows += [row for parent in rows for row in self._pruned(parent, axes)]
        others = axes.pruned.precisions if self.precisions else ()
        return rows + [replace(row, precision=other) for row, other in product(rows, others)]

    def _pruned(self, parent: Variant, axes: Axes) -> list[Variant]:
        pruned = axes.pruned
        ways = product(pruned.sparsities, pruned.by) if parent.n in pruned.instances else ()
        made = [replace(parent, sparsity=s, pruner=by) for s, by in ways]
        return [v for v in made if any(vars(v).items() >= asked.items() for asked in self.pruned)]

    def timed_set(self, axes: Axes) -> str:  # pruned rows have a set of their own
        return "pruned" if self.timed and self._prunes(axes) else self.timed

    def _prunes(self, axes: Axes) -> bool:
        return any(variant.sparsity for variant in self.variants(axes))

    def selected_tasks(self, axes: Axes) -> tuple[str, ...]:
        own = tuple(name for name, task in TASKS.items() if self.own_tasks and not task.group)
        return tuple(task for task in self.tasks + own if task in axes.tasks)

    def is_selected(self, axes: Axes) -> bool:
        """Whether `axes` leave any of its rows and, if it is about tasks, any of those."""
        unpruned = self.about_pruning and not self._prunes(axes)
        if unpruned or self.released not in (None, axes.released):
            return False
        about_tasks = self.tasks or self.own_tasks
        return bool(self.variants(axes) and (self.selected_tasks(axes) or not about_tasks))


_ALL = ("bert", "electra", "tmux", "mux-bert", "mux-electra")
_BERTS = ("bert", "mux-bert")
_REPEATED = ("bert", "electra", "mux-bert")  # whose pre-trainings are repeated, at N = 2
_RATES = ({}, *({"retrieval_rate": rate} for rate in (0.1, 0.2, 0.5)))
_MULTIPLEXED = ("tmux", "mux-bert", "mux-electra")
_DESIGNS = ({}, {"demultiplexer": "prefix"}, {"multiplexer": "contextual"})
_ABLATION = Target("Ablation", ("mux-bert",), changes=_DESIGNS, timed="ablations", ablations=True)
_TASKS = ("mnli", "qnli", "qqp", "sst2", "stsb", *TOKEN)  # of pruned models
_PRUNED = Target("Pruning", _BERTS, tasks=_TASKS, timed="pruned", pruned=({},), about_pruning=True)

TABLES = {
    "table1": Target("Scores and speed-up", _ALL, timed="base", extensions=True),
    "table2": Target(
        "Against model compression",
        _BERTS,
        instances=(2, 5),
        tasks=("qnli", "qqp", "sst2"),
        timed="base",
        pruned=(  # as the paper's: CoFi alone is cited at 70 %
            {"family": "bert", "sparsity": 0.7, "pruner": "cofi"},
            {"family": "mux-bert", "n": 2, "sparsity": 0.6, "pruner": "cofi"},
        ),
    ),
    "table3": Target(
        "Model sizes", ("bert", "tmux", "mux-bert"), SIZES, instances=(2,), timed="sizes"
    ),
    "table4": Target(
        "Ensembling", ("mux-bert", "mux-electra"), tasks=("mnli", "qqp"), needs=("ensembles",)
    ),
    "table5": _ABLATION,
    "table6": Target("Composition seeds", ("mux-electra", "mux-bert"), tasks=GLUE_AVERAGED),
    "table7": Target(
        "Pre-training hyper-parameters",
        ("mux-bert", "mux-electra"),
        SIZES,
        tasks=(),
        needs=(),
        released=False,
    ),
    "table8": Target("Fine-tuning hyper-parameters", _ALL, SIZES, tasks=(), needs=()),
    "table9": Target("GLUE by task: mean", _BERTS, SIZES, tasks=GLUE),
    "table10": Target("GLUE by task: maximum", _BERTS, SIZES, tasks=GLUE),
    "table11": Target("GLUE by task: MUX-ELECTRA", ("electra", "mux-electra"), tasks=GLUE),
    "table12": Target("Retrieval rate", ("mux-bert",), ("large",), changes=_RATES, tasks=GLUE),
    "table13": Target(
        "Multiplexing strategies", ("mux-bert",), changes=_DESIGNS, tasks=GLUE, ablations=True
    ),
    "table14": Target("GLUE by task: T-MUX", ("tmux",), SIZES, tasks=GLUE),
    "tokens": Target("NER and POS", _ALL, SIZES, tasks=TOKEN),
    # Beyond the paper.
    "tasks": Target(
        "Tasks from outside the paper",
        _ALL,
        tasks=(),
        own_tasks=True,
        timed="base",
        extensions=True,
    ),
    "released": Target(
        "The authors' fine-tuned models",
        ("mux-bert",),
        instances=(2, 5, 10),
        tasks=PUBLISHED["mux-bert"][1],
        needs=("published",),
        released=True,
    ),
    "released_tmux": Target(
        "The fine-tuned models of T-MUX's authors",
        ("tmux",),
        tasks=PUBLISHED["tmux"][1],
        needs=("published",),
        released=True,
    ),
    "dialects": Target("The released dialect", ("mux-bert",), tasks=GLUE + TOKEN, dialects=True),
    "pretrainings": Target(
        "The luck of pre-training", _REPEATED, instances=(2,), pretrainings=True, released=False
    ),
    "pruning": _PRUNED,
    "budgets": replace(_PRUNED, title="The fastest model within a loss"),
    "composition": Target("Composition strategies", _MULTIPLEXED, needs=("compositions",)),
    "variance": Target("Where the spread comes from", _ALL, SIZES, tasks=GLUE + TOKEN),
    "learnt": Target("What was learnt", _ALL, SIZES),
}

FIGURES = {
    "pareto_glue": Target("Figure 4, top", _BERTS, SIZES, tasks=GLUE_AVERAGED, timed="sizes"),
    "pareto_token": Target("Figure 4, bottom", _BERTS, SIZES, tasks=TOKEN, timed="sizes"),
    "muxology_activations": Target("Figure 5, top", _BERTS, SIZES, tasks=(), needs=("muxologies",)),
    "muxology_entropy": Target("Figure 5, bottom", _BERTS, SIZES, tasks=(), needs=("muxologies",)),
    # Beyond the paper.
    "training_curves": Target(
        "Training curves", _ALL, SIZES, tasks=(), needs=("trainings",), released=False
    ),
    "ensemble_tradeoff": Target(
        "Partial ensembling",
        ("mux-bert", "mux-electra"),
        tasks=("mnli", "qqp"),
        needs=("ensembles",),
        timed="base",
    ),
    "frontier": replace(_PRUNED, title="N, sparsity and precision", precisions=True),
    "pruning_curves": replace(
        _PRUNED, title="Pruning curves", needs=("prunings",), timed="", pruned=({"pruner": "cofi"},)
    ),
}

DEMO = Variant("mux-bert", n=10)  # what `muxplm demo` reads with, once it is primed

# Models whose throughput one process measures in turn, so that their ratios mean something.
TIMED = {
    "base": TABLES["table1"],
    "sizes": Target("Model sizes", ("bert", "tmux", "mux-bert"), SIZES),
    "ablations": replace(_ABLATION, families=_BERTS),
    "pruned": FIGURES["frontier"],
}


def targets() -> dict[str, Target]:
    """Every table and figure by name."""
    return TABLES | FIGURES


def grid(axes: Axes) -> dict[str, Variant]:
    """All variants that some table or figure needs under `axes`, by name."""
    found = [v for target in targets().values() for v in target.variants(axes)]
    found += [variant.trained for variant in found if variant.precision]
    found += [variant.parent for variant in found if variant.parent]
    return {variant.name: variant for variant in found}


def released_ids(axes: Axes) -> list[str]:
    """The Hub's ids of all checkpoints of the authors' that `axes` need, pre-trained and fine-tuned."""
    found = [released_id(variant) for variant in grid(axes).values()]
    for target in targets().values():
        if "published" in target.needs and target.is_selected(axes):
            cells = product(target.variants(axes), target.selected_tasks(axes))
            found += [published_id(variant, task) for variant, task in cells]
    return list(dict.fromkeys(found))
