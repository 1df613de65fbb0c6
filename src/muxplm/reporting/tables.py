"""Tables as .tex, .csv, .md and .html: what was measured, and the paper's number beside it or below it.

A table is a `Design` (designs.py): which rows of the tidy table it is made of and how they are shown.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from muxplm import experiments, tasks
from muxplm.axes import Axes
from muxplm.experiments import FAMILIES, SIZES
from muxplm.files import write_text
from muxplm.reporting import captions, paper
from muxplm.reporting.cells import UNLEARNT, Sources, hardly_learnt, tidy
from muxplm.reporting.designs import BLOCKS, DESIGNS, NAMES, TEXT_TABLES, Design
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
    number,
)
from muxplm.reporting.pages import table_page
from muxplm.settings import Settings

EXTENSION = "Extension (not in the paper)"
LITERATURE = "Cited by the paper from the literature (not measured here)"
OTHER_VERSION = "From the paper's other version (not measured here)"
MAJORITY = (
    "majority class"  # a row of its own: what always answering the most frequent label scores
)


def build(name: str, settings: Settings):
    """Writes the table, a key of experiments.TABLES, as .tex, .csv, .md and .html.

    DataError if an input is missing or the config selects nothing that the table shows.
    """
    sources = Sources(name, experiments.TABLES[name], settings)
    sources.check()
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
            lines.append(Line(model, (model, "-"), PAPER, block, block))
    sentences = [
        captions.title(sources.name),
        captions.scale(sources.settings, sources.variants),
        captions.all_rows(sources.variants) if "Model" not in design.names else "",
        captions.RATE if "Rate" in design.names else "",
        *design.notes(sources),
        captions.left_out(sources.target, sources.settings),
        _bold_note(design),
    ]
    columns, majority = design.columns(sources), _majority(table)
    if majority["column"].isin([column.column for column in columns]).any():
        lines.insert(0, _majority_line(design))
        sentences.append(captions.MAJORITY)
    caption = " ".join(sentence for sentence in sentences if sentence)
    printed = pd.concat([table, majority], ignore_index=True)
    return table, _lay_out(printed, lines, design, columns, caption)


def _bold_note(design: Design) -> str:
    notes = {best_printed: captions.BEST, best_within_std: captions.WITHIN_STD}
    return notes.get(design.bold, "").format(block=design.block)


@dataclass(frozen=True)
class Line:
    """One printed row: which model's rows of the tidy table, and whether ours or the paper's.

    Rules go between blocks; bold is the best of a group within a block.
    """

    model: str
    names: tuple[str, ...]
    source: str | None  # OURS or PAPER alone; None for both, side by side
    block: Hashable
    group: Hashable


def _lines(sources: Sources, design: Design, table: pd.DataFrame) -> list[Line]:
    lines = []
    for variant in sources.variants:
        names = tuple(NAMES[name](variant) for name in design.names)
        group = BLOCKS[design.block](variant)
        block = EXTENSION if variant.recipe.extension else group
        if not design.below:
            lines.append(Line(variant.name, names, None, block, group))
            continue
        lines.append(Line(variant.name, (*names, OURS), OURS, block, group))
        numbers = table.loc[table["model"] == variant.name, ["paper", "paper_max"]]
        if numbers.notna().any(axis=None):
            lines.append(Line(variant.name, (*names, PAPER), PAPER, block, group))
    return lines


def _majority(table: pd.DataFrame) -> pd.DataFrame:
    """The same columns' scores of always answering the most frequent label, as rows of a model."""
    known = table.dropna(subset="majority").drop_duplicates("column")
    values = {name: known["majority"] for name in ("measured", "max")}
    return known[["column"]].assign(model=MAJORITY, **values)


def _majority_line(design: Design) -> Line:
    at = design.names.index("Model") if "Model" in design.names else len(design.names) - 1
    names = tuple(MAJORITY if i == at else "-" for i in range(len(design.names)))
    if design.below:
        return Line(MAJORITY, (*names, OURS), OURS, MAJORITY, MAJORITY)
    return Line(MAJORITY, names, None, MAJORITY, MAJORITY)


def _lay_out(table, lines: list[Line], design: Design, columns: list[Column], caption) -> Layout:
    by_cell = table.set_index(["model", "column"]).to_dict("index")
    heads = [*design.names, *(["Source"] if design.below else [])]
    cells = {("", head): [line.names[i] for line in lines] for i, head in enumerate(heads)}
    values, stds = {}, {}
    for column in columns:
        for side in _sides(design, column):
            key = (column.heading, side or column.lower)
            found = [_look_up(by_cell, line, column, side) for line in lines]
            marks = [_mark(by_cell, line, column, side) for line in lines]
            cells[key] = [
                number(*cell, column.digits, column.between, mark)
                for cell, mark in zip(found, marks, strict=True)
            ]
            ranked = [-np.inf if m else value for (value, _), m in zip(found, marks, strict=True)]
            values[key] = np.array(ranked, dtype=float)
            stds[key] = np.array([spread[0] if spread else 0.0 for _, spread in found], dtype=float)
    groups = [(line.block, line.group, line.source) for line in lines]
    bold = embolden(values, stds, groups, design.bold)
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


def _mark(by_cell: dict, line: Line, column: Column, side: str) -> str:
    """Of a cell of ours whose model has hardly learnt the task, whichever field it prints."""
    row = by_cell.get((line.model, column.column))
    if row is None or PAPER in (side, line.source):
        return ""
    return UNLEARNT if hardly_learnt(row["measured"], row["majority"]) else ""


def _cited(sources: Sources) -> pd.DataFrame:
    """The paper's rows that no variant measures here, in the columns of the tidy table."""
    numbers = paper.reference(sources.name)
    everything = Axes(tuple(FAMILIES), SIZES, paper.INSTANCES, tuple(tasks.TASKS))
    # A pruned row is cited unless this config prunes it.
    measurable = [*sources.target.variants(everything), *sources.variants]
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
