"""Tables as .tex, .csv, .md and .html: what was measured, and the paper's number beside it or below it.

A table is a `Design`: which rows of the tidy table it is made of and how they are shown.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from muxplm import experiments, tasks
from muxplm.experiments import FAMILIES, SIZES, Axes
from muxplm.files import DataError, write_text
from muxplm.mistakes import nearest
from muxplm.reporting import analyses, captions, hyperparameters, paper
from muxplm.reporting.cells import Sources, averages, single_tasks, throughputs, tidy
from muxplm.reporting.layout import (
    OURS,
    PAPER,
    Column,
    Layout,
    best_printed,
    best_within_std,
    embolden,
    latex,
    markdown,
    nothing,
    number,
)
from muxplm.reporting.pages import table_page
from muxplm.settings import Settings

EXTENSION = "Extension (not in the paper)"
LITERATURE = "Cited by the paper from the literature (not measured here)"
OTHER_VERSION = "From the paper's other version (not measured here)"
NAMES = {
    "Model": lambda v: v.recipe.label,
    "Size": lambda v: v.size.upper(),
    "N": lambda v: str(v.n),
    "Rate": lambda v: f"{v.retrieval_rate:g}",
    "Mux": lambda v: {"hadamard": "non-contextual"}.get(v.multiplexer, v.multiplexer),
    "Demux": lambda v: {"rsa": "RSA"}.get(v.demultiplexer, v.demultiplexer),
    "Strategy": paper.strategy,
    "Dialect": lambda v: v.dialect,
}
BLOCKS = {
    "its N": lambda v: v.n,
    "its size": lambda v: v.size,
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

_GLUE, _TOKEN = Column("GLUE", "GLUE"), Column("Token", "Token")
_SPEED = Column("Speed-up", "speedup", spread=("low", "high"), paper_spread=())


def _maximum(column: Column) -> Column:
    return Column(
        f"{column.heading} max", column.column, "max", (), paper="paper_max", paper_spread=()
    )


def _titled(sources: Sources, **changes) -> list[Column]:
    return [Column(tasks.TASKS[task].title, task, **changes) for task in sources.tasks]


def _columns1(sources: Sources) -> list[Column]:
    pairs = [(Column(f"{c.heading} mean", c.column), _maximum(c)) for c in (_GLUE, _TOKEN)]
    return [*(column for pair in pairs for column in pair), _SPEED]


def _glue_columns(sources: Sources, **changes) -> list[Column]:
    more = [Column("all nine", "GLUE-all", **changes), Column("GLUE", "GLUE", **changes)]
    return [*_titled(sources, **changes), *more]


def _token_columns(sources: Sources) -> list[Column]:
    per_task = [
        Column(f"{tasks.TASKS[task].title}{suffix}", f"{task}{metric}", paper=None)
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


def _notes(sources: Sources, groups=(), maxima=False, means=True) -> list[str]:
    settings = sources.settings
    names = {"GLUE": tasks.GLUE_AVERAGED, "Token": tasks.TOKEN}
    parts = [captions.averaged(group, names[group], sources.tasks) for group in groups]
    parts += [captions.stds(settings, over_tasks=bool(groups))] if means else []
    parts += [captions.maxima(settings, over_tasks=bool(groups))] if maxima else []
    return [*parts, *([captions.speed(sources)] if sources.target.timed else [])]


_AVERAGED = partial(_notes, groups=("GLUE", "Token"))


def _glue_notes(sources: Sources, **what) -> list[str]:
    metrics = "Spearman's rank correlation for STS-B, Matthews' for CoLA, else accuracy."
    return [metrics, *_notes(sources, ("GLUE",), **what)]


def _token_notes(sources: Sources) -> list[str]:
    return [
        "Entity-level F1 of seqeval for both tasks, which is what the paper averages; for POS tags it "
        "merges neighbours, so the F1 by token stands beside it.",
        *_notes(sources, ("Token",)),
    ]


def _ticket_notes(sources: Sources) -> list[str]:
    return [
        captions.averaged("GLUE", tasks.GLUE_AVERAGED, sources.tasks),
        "Best and worst: of each task over composition seeds, averaged over training seeds and "
        "tasks, as the paper's are; so no single seed need be the best on every task. Δ of the "
        "average: between the best and the worst seed of GLUE as a whole.",
    ]


def _literature_notes(sources: Sources) -> list[str]:
    return [
        "Ours: median speed-up and mean score of what was measured here. "
        "The rows of other methods are not measured: they are figures that the paper cites.",
        *_notes(sources),
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
        lambda s: [_SPEED, *_titled(s)],
        _literature_notes,
        block="the table",
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
            captions.stds(s.settings, over_tasks=False),
        ],
        bold=nothing,
        below=True,
    ),
    "table5": Design(
        _SCORES, ("N", "Mux", "Demux"), lambda s: [_GLUE, _TOKEN], _AVERAGED, bold=best_printed
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
    **dict.fromkeys(("released", "released_tmux"), _PUBLISHED),
    "dialects": Design(
        (analyses.dialects,),
        ("N", "Dialect"),
        analyses.dialect_columns,
        analyses.dialect_notes,
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
}
TEXT_TABLES = {"table7": hyperparameters.pretraining, "table8": hyperparameters.finetuning}


def build(name: str, settings: Settings):
    """Writes the table as .tex, .csv, .md and .html. ValueError for a name that no table has.

    DataError if an input is missing or the config selects none of the table's rows.
    """
    known = DESIGNS | TEXT_TABLES
    if name not in known:
        raise ValueError(f"no builder for table {name!r}{nearest(name, known)}")
    sources = Sources(name, experiments.TABLES[name], settings)
    if not sources.variants:
        raise DataError(
            f"{name} has no rows under this config: families, sizes and instances must list some of "
            f"{', '.join(sources.target.families)}; {', '.join(sources.target.sizes)}; an N that "
            "they take (1 for bert and electra, more for the multiplexed)"
        )
    table, layout = TEXT_TABLES[name](sources) if name in TEXT_TABLES else _designed(sources)
    for suffix, content in {
        "tex": latex(layout, label=f"tab:{name}"),
        "csv": table.to_csv(index=False, float_format="%.6g"),
        "md": markdown(layout),
        "html": table_page(captions.label(name), layout),
    }.items():
        write_text(settings.paths.table(name, suffix), content)


def _designed(sources: Sources) -> tuple[pd.DataFrame, Layout]:
    design = DESIGNS[sources.name]
    table = tidy(sources, design.rows)
    lines = _lines(sources, design, table)
    if design.literature:
        cited = _cited(sources)
        table = pd.concat([table, cited], ignore_index=True)
        for model in cited["model"].unique():
            block = OTHER_VERSION if "MUX-BERT" in model else LITERATURE
            lines.append(Line(model, (model, "-"), PAPER, block))
    sentences = [
        captions.title(sources.name),
        captions.scale(sources.settings, sources.variants),
        *design.notes(sources),
        captions.left_out(sources.target, sources.settings),
        _bold_note(design),
    ]
    caption = " ".join(sentence for sentence in sentences if sentence)
    return table, _lay_out(table, lines, design, design.columns(sources), caption)


def _bold_note(design: Design) -> str:
    if design.bold is best_printed:
        return f"Bold: best for {design.block}."
    return captions.WITHIN_STD.format(block=design.block) if design.bold is best_within_std else ""


@dataclass(frozen=True)
class Line:
    """One printed row: which model's rows of the tidy table, and whether ours or the paper's."""

    model: str
    names: tuple[str, ...]
    source: str | None  # OURS or PAPER alone; None for both, side by side
    block: Hashable


def _lines(sources: Sources, design: Design, table: pd.DataFrame) -> list[Line]:
    lines = []
    for variant in sources.variants:
        names = tuple(NAMES[name](variant) for name in design.names)
        block = EXTENSION if variant.recipe.extension else BLOCKS[design.block](variant)
        if not design.below:
            lines.append(Line(variant.name, names, None, block))
            continue
        lines.append(Line(variant.name, (*names, OURS), OURS, block))
        numbers = table.loc[table["model"] == variant.name, ["paper", "paper_max"]]
        if numbers.notna().any(axis=None):
            lines.append(Line(variant.name, (*names, PAPER), PAPER, block))
    return lines


def _lay_out(table, lines: list[Line], design: Design, columns: list[Column], caption) -> Layout:
    by_cell = table.set_index(["model", "column"]).to_dict("index")
    heads = [*design.names, *(["Source"] if design.below else [])]
    cells = {("", head): [line.names[i] for line in lines] for i, head in enumerate(heads)}
    values, stds = {}, {}
    for column in columns:
        for side in _sides(design, column):
            key = (column.heading, side or column.lower)
            found = [_look_up(by_cell, line, column, side) for line in lines]
            cells[key] = [number(value, spread, column.digits) for value, spread in found]
            values[key] = np.array([value for value, _ in found], dtype=float)
            stds[key] = np.array([spread[0] if spread else 0.0 for _, spread in found], dtype=float)
    bold = embolden(values, stds, [(line.block, line.source) for line in lines], design.bold)
    names = {("", head): [False] * len(lines) for head in heads}
    frames = [pd.DataFrame(cells), pd.DataFrame({**names, **bold})]
    for frame in frames:
        frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    headings = {block: block for block in (EXTENSION, LITERATURE, OTHER_VERSION)}
    return Layout(caption, *frames, [line.block for line in lines], headings)


def _sides(design: Design, column: Column) -> list[str]:
    """The lower headings of one quantity; one without a name where rows say whose number it is."""
    if design.below:
        return [""]
    return [OURS, PAPER] if column.paper else [""] if column.lower else [OURS]


def _look_up(by_cell: dict, line: Line, column: Column, side: str) -> tuple[float, list[float]]:
    """(value, spread) of one cell; NaN where the tidy table has no such row."""
    source = side or line.source
    row = by_cell.get((line.model, column.column))
    if row is None or (line.source and line.source != source):
        return float("nan"), []
    if source == PAPER:
        return row[column.paper], [row[bound] for bound in column.paper_spread]
    return row[column.field], [row[bound] for bound in column.spread]


def _cited(sources: Sources) -> pd.DataFrame:
    """The paper's rows that no variant of the grid measures, in the columns of the tidy table."""
    numbers = paper.reference(sources.name)
    everything = Axes(tuple(FAMILIES), SIZES, paper.INSTANCES, tuple(tasks.TASKS))
    measurable = sources.target.variants(everything)
    ours = {paper.row_of(sources.name, variant)["Model"] for variant in measurable}
    names = {theirs: mine for mine, theirs in paper.MEANS[sources.name].items()}
    numbers = numbers[~numbers["Model"].isin(ours)]
    return pd.DataFrame(
        {
            "model": numbers["Model"],
            "column": numbers["column"].map(names),
            "paper": pd.to_numeric(numbers["value"]),
        }
    )
