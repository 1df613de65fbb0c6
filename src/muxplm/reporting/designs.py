"""What each table is made of and how it looks: which rows and columns, and what its caption says."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from muxplm import tasks
from muxplm.experiments import PRUNERS
from muxplm.reporting import analyses, budgets, captions, hyperparameters, paper
from muxplm.reporting.cells import Sources, averages, single_tasks, throughputs
from muxplm.reporting.layout import Column, best_printed, best_within_std, nothing


def _model(variant) -> str:
    """The family, and what it was pruned by and to which sparsity."""
    if not variant.sparsity:
        return variant.recipe.label
    return f"{variant.recipe.label} + {PRUNERS[variant.pruner]} {100 * variant.sparsity:g} %"


NAMES = {
    "Model": _model,
    "Size": lambda v: v.size.upper(),
    "N": lambda v: str(v.n),
    "Rate": lambda v: f"{v.retrieval_rate:g}",
    "Mux": lambda v: {"hadamard": "non-contextual"}.get(v.multiplexer, v.multiplexer),
    "Demux": lambda v: {"rsa": "RSA"}.get(v.demultiplexer, v.demultiplexer),
    "Strategy": paper.strategy,
    "Dialect": lambda v: v.dialect,
    "Seed": lambda v: str(v.pretraining_seed),
}
BLOCKS = {
    "its N": lambda v: v.n,
    "its size": lambda v: v.size,
    "its block": lambda v: "",
    "the table": lambda v: "",
}


@dataclass(frozen=True)
class Design:
    """How a table looks. `names` and `block` are keys of NAMES and BLOCKS.

    `below` puts the paper's numbers into a row of their own under ours, for tables that are as wide
    as the page without them.
    """

    rows: tuple[Callable, ...]
    names: tuple[str, ...]
    columns: Callable[[Sources], list[Column]]
    notes: Callable[[Sources], list[str]]
    block: str = "its N"
    bold: Callable = best_printed
    below: bool = False
    literature: bool = False


# --- What the columns are ----------------------------------------------------------------------

_BOTH = ("std", "std_training")  # the paper's spread, over compositions, and that over trainings
_GLUE, _TOKEN = (Column(group, group, spread=_BOTH) for group in ("GLUE", "Token"))
_SPEED = Column("Speed-up", "speedup", spread=("low", "high"), paper_spread=())


def _maximum(column: Column) -> Column:
    return Column(
        f"{column.heading} max", column.column, "max", (), paper="paper_max", paper_spread=()
    )


def _titled(sources: Sources, **changes) -> list[Column]:
    return [Column(tasks.TASKS[task].title, task, **changes) for task in sources.tasks]


def _columns1(sources: Sources) -> list[Column]:
    pairs = [
        (replace(column, heading=f"{column.heading} mean"), _maximum(column))
        for column in (_GLUE, _TOKEN)
    ]
    return [*(column for pair in pairs for column in pair), _SPEED]


def _columns2(sources: Sources) -> list[Column]:
    return [_SPEED, *_titled(sources, spread=_BOTH)]


def _glue_columns(sources: Sources, **changes) -> list[Column]:
    more = [Column("all nine", "GLUE-all", **changes), Column("GLUE", "GLUE", **changes)]
    return [*_titled(sources, **changes), *more]


def _token_columns(sources: Sources) -> list[Column]:
    per_task = [
        Column(f"{tasks.TASKS[task].title}{suffix}", f"{task}{metric}", spread=_BOTH, paper=None)
        for task in sources.tasks
        for suffix, metric in (("", ""), (" by token", "/token_f1"))
    ]
    return [*per_task, _TOKEN]


_TICKETS = [
    *(
        Column(heading, column, spread=(), paper_spread=())
        for heading, column in (("Best", "best"), ("Worst", "worst"), ("Δ", "range"))
    ),
    Column("Δ of the average", "range/average", spread=(), paper=None),
]


# --- What the captions say ---------------------------------------------------------------------


def _notes(sources: Sources, groups=(), maxima=False, means=True, trainings=False) -> list[str]:
    settings, averages = sources.settings, bool(groups)
    names = {"GLUE": tasks.GLUE_AVERAGED, "Token": tasks.TOKEN}
    parts = [captions.averaged(group, names[group], sources.tasks) for group in groups]
    parts += [captions.stds(settings, averages, trainings)] if means else []
    parts += [captions.maxima(settings, averages)] if maxima else []
    return [*parts, *([captions.speed(sources)] if sources.target.timed else [])]


_AVERAGED = partial(_notes, groups=("GLUE", "Token"), trainings=True)


def _glue_notes(sources: Sources, **what) -> list[str]:
    metrics = "Spearman's rank correlation for STS-B, Matthews' for CoLA, else accuracy."
    return [metrics, *_notes(sources, ("GLUE",), **what)]


def _token_notes(sources: Sources) -> list[str]:
    return [
        "Entity-level F1 of seqeval for both tasks, which is what the paper averages; for POS tags it "
        "merges neighbours, so the F1 by token stands beside it.",
        *_notes(sources, ("Token",), trainings=True),
    ]


def _ticket_notes(sources: Sources) -> list[str]:
    return [
        captions.averaged("GLUE", tasks.GLUE_AVERAGED, sources.tasks),
        "Best and worst: of each task over composition seeds, averaged over training seeds and tasks, "
        "so no single seed need be the best on every task. The paper's best of MUX-BERT are made so: "
        "they are the averages of its Table 10; how its others are made it does not say. Δ of the "
        "average: between the best and the worst seed of GLUE as a whole.",
    ]


def _literature_notes(sources: Sources) -> list[str]:
    return [
        "Ours: median speed-up and mean score of what was measured here. "
        "The rows of other methods are not measured: they are figures that the paper cites.",
        *(_pruning_notes(sources) if any(v.sparsity for v in sources.variants) else []),
        *_notes(sources, trainings=True),
    ]


def _pruning_notes(sources: Sources) -> list[str]:
    return [
        "Per cent: the share of the encoder layers' weights that is asked to be pruned away, of each "
        "task's and training seed's model by itself; what was reached stands in its run.json. CoFi "
        "trains masks under a teacher, then the small model; Fisher masks train nothing. A pruned model "
        "is timed as the first training seed's was saved: the mean time over its tasks.",
        *(
            ["The paper's CoFi is its authors' at 70 %, its MUX-BERT + CoFi is at 60 %."]
            if sources.name == "table2"
            else []
        ),
    ]


# --- The tables --------------------------------------------------------------------------------

_SCORES = (averages, single_tasks)
_BY_SIZE = {"names": ("Model", "Size", "N"), "block": "its size", "below": True}
_BY_TASK = {"rows": _SCORES, "columns": _glue_columns, "notes": _glue_notes}
_WITHIN = {"bold": best_within_std}
_PUBLISHED = Design(
    (single_tasks,), ("Model", "N"), _titled, captions.released, block="the table", bold=nothing
)

DESIGNS = {
    "table1": Design(
        (*_SCORES, throughputs), ("Model", "N"), _columns1, partial(_AVERAGED, maxima=True)
    ),
    "table2": Design(
        (single_tasks, throughputs),
        ("Model", "N"),
        _columns2,
        _literature_notes,
        block="its block",
        literature=True,
    ),
    "table3": Design(
        (*_SCORES, throughputs),
        ("Size", "Model", "N"),
        lambda s: [_GLUE, _TOKEN, _SPEED],
        _AVERAGED,
        block="its size",
    ),
    "table4": Design(
        (analyses.ensembles,),
        ("Model", "N"),
        lambda s: [
            Column(tasks.TASKS[task].title, f"{task}/{column}", paper_spread=(), lower=lower)
            for task in s.tasks
            for lower, column in (("alone", "alone"), ("ensemble", "ensemble"), ("Δ", "gain"))
        ],
        lambda s: [
            "Ensemble: each instance N times in the batch, which is permuted; the class logits of its "
            "N copies are averaged.",
            captions.stds(s.settings, averages=False),
        ],
        bold=nothing,
        below=True,
    ),
    "table5": Design(
        (*_SCORES, throughputs),
        ("N", "Mux", "Demux"),
        lambda s: [_GLUE, _TOKEN, _SPEED],
        _AVERAGED,
    ),
    "table6": Design(
        (analyses.tickets,),
        ("Model", "N"),
        lambda s: _TICKETS,
        _ticket_notes,
        bold=nothing,
    ),
    "table9": Design(**_BY_TASK, **_BY_SIZE, **_WITHIN),
    "table10": Design(
        rows=_SCORES,
        columns=partial(_glue_columns, field="max", spread=(), paper="paper_max", paper_spread=()),
        notes=partial(_glue_notes, maxima=True, means=False),
        **_BY_SIZE,
    ),
    "table11": Design(**_BY_TASK, **_WITHIN, names=("Model", "N"), block="the table", below=True),
    "table12": Design(**_BY_TASK, **_WITHIN, names=("N", "Rate"), below=True),
    "table13": Design(**_BY_TASK, **_WITHIN, names=("N", "Strategy"), below=True),
    "table14": Design(**_BY_TASK, **_WITHIN, **_BY_SIZE),
    "tokens": Design(
        _SCORES, ("Model", "Size", "N"), _token_columns, _token_notes, block="its size"
    ),
    "tasks": Design(
        (single_tasks, throughputs),
        ("Model", "N"),
        lambda s: [*_titled(s, spread=_BOTH, paper=None), replace(_SPEED, paper=None)],
        partial(_notes, trainings=True),
        bold=nothing,
    ),
    "pruning": Design(
        (single_tasks, throughputs),
        ("Model", "N"),
        lambda s: [replace(_SPEED, paper=None), *_titled(s, spread=_BOTH, paper=None)],
        lambda s: [*_pruning_notes(s), *_notes(s, trainings=True)],
    ),
    **dict.fromkeys(("released", "released_tmux"), _PUBLISHED),
    "dialects": Design(
        (analyses.dialects,),
        ("N", "Dialect"),
        analyses.dialect_columns,
        analyses.dialect_notes,
        bold=nothing,
    ),
    "pretrainings": Design(
        (*_SCORES, analyses.pretrainings),
        ("Model", "N", "Seed"),
        lambda s: analyses.PRETRAINING_COLUMNS,
        analyses.pretraining_notes,
        bold=nothing,
    ),
    "composition": Design(
        (analyses.compositions,),
        ("Model", "N"),
        lambda s: analyses.COMPOSITION_COLUMNS,
        analyses.composition_notes,
        bold=nothing,
    ),
    "variance": Design(
        (analyses.variances,),
        ("Model", "Size", "N"),
        lambda s: analyses.VARIANCE_COLUMNS,
        analyses.variance_notes,
        block="its size",
        bold=nothing,
    ),
    "learnt": Design(
        (analyses.learnt,),
        ("Model", "Size", "N"),
        analyses.learnt_columns,
        analyses.learnt_notes,
        block="its size",
        bold=nothing,
    ),
}
# Those that are no rows of variants.
TEXT_TABLES = {
    "table7": hyperparameters.pretraining,
    "table8": hyperparameters.finetuning,
    "budgets": budgets.budgets,
}
