"""A table ready to print, and printing it: LaTeX with booktabs, Markdown."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

# What a cell of the paper's is beside ours, in the lower heading of two-storey columns.
OURS, PAPER = "ours", "paper"

# Between the two ends of an interval: a dash would read as another minus.
TO = " to "

# Characters that fit: into a cell without a line break, into a row in \\scriptsize.
LINE, PAGE = 40, 64


@dataclass(frozen=True)
class Number:
    """A number as printed, with its spread: one std or two, or the ends of an interval."""

    value: str
    spread: tuple[str, ...] = ()
    between: str = TO
    mark: str = ""

    def __str__(self):
        value = self.value + self.mark
        return f"{value} ({self.between.join(self.spread)})" if self.spread else value

    def latex(self) -> str:
        # Indices take half the width of brackets; only so do twelve columns fit a page.
        value = self.value.replace("-", "$-$") if self.value != "-" else "-"
        value += escape_latex(self.mark)
        if len(self.spread) == 2:
            return "{0}$^{{{2}}}_{{{1}}}$".format(value, *self.spread)
        return value + "".join(f"\\textsubscript{{{std}}}" for std in self.spread)


@dataclass(frozen=True)
class Layout:
    """A table ready to print.

    cells: text or `Number`; columns are pairs (upper heading, lower heading), the first ones with an
        empty upper heading name the row.
    bold: the same shape, of bool.
    blocks: one name for each row; a rule goes between rows of different blocks.
    headings: block -> the text printed above it, for those that have one. They come last.
    """

    caption: str
    cells: pd.DataFrame
    bold: pd.DataFrame
    blocks: list[Hashable]
    headings: dict[Hashable, str]


@dataclass(frozen=True)
class Column:
    """One quantity: the rows of the tidy table under `column`, in one of their fields.

    `lower` is a heading under `heading`, for quantities that have no paper's number beside them.
    """

    heading: str
    column: str
    field: str = "measured"
    spread: tuple[str, ...] = ("std",)
    paper: str | None = "paper"  # the field with the paper's number; None if it cannot have one
    paper_spread: tuple[str, ...] = ("paper_std",)
    digits: int = 1
    lower: str = ""

    @property
    def between(self) -> str:
        return ", " if "std_training" in self.spread else TO


def number(value: float, spread=(), digits: int = 1, between: str = TO, mark: str = "") -> Number:
    if pd.isna(value):
        return Number("-")
    bounds = (f"{bound:.{digits}f}" for bound in spread if not pd.isna(bound))
    return Number(f"{value:.{digits}f}", tuple(bounds), between, mark)


def best_printed(values: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """Which cells of one block are bold: what prints like the best, unless all print alike."""
    printed = values.round(1)
    known = printed[~np.isnan(printed)]
    return (printed == max(known, default=np.nan)) & (len(np.unique(known)) > 1)


def best_within_std(values: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """As Tables 9 and 11 to 14 do: the best, and what is within the best one's own std of it."""
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return np.zeros(len(values), bool)
    best = np.nanargmax(values)
    return (values == values[best]) | (values[best] - values < np.nan_to_num(stds[best]))


def nothing(values: np.ndarray, stds: np.ndarray) -> np.ndarray:
    return np.zeros(len(values), bool)


def latex(layout: Layout, label: str) -> str:
    """A plain `table` that needs booktabs and nothing else, no wider than article's text."""
    columns = layout.cells.columns
    longest = [_longest(layout.cells[column], column) for column in columns]
    wide = sum(longest) > PAGE and max(longest) <= LINE
    cells, bold = layout.cells, layout.bold
    if not any(upper and lower for upper, lower in columns):  # one storey of headings is enough
        one = [upper or lower for upper, lower in columns]
        cells, bold = cells.set_axis(one, axis=1), bold.set_axis(one, axis=1)
    command = bold.replace({True: "textbf:--rwrap", False: ""})
    style = cells.style.hide(axis="index").apply(lambda _: command, axis=None).format(_latex_cell)
    # Styler has no rules between rows: they go before the first word of the row below.
    for row, rule in _block_rules(layout).items():
        style = style.format(
            lambda name, rule=rule: rule + escape_latex(name), subset=(row, [cells.columns[0]])
        )
    style = style.format_index(escape_latex, axis=1, level=0)
    if cells.columns.nlevels == 2:
        rules = _header_rules(columns)
        style = style.format_index(
            lambda name: (rules if name == columns[0][1] else "") + escape_latex(name),
            axis=1,
            level=1,
        )
    # It writes \\selector and then props. The stretch keeps the stacked indices of two rows apart.
    style = style.set_table_styles(
        [
            {"selector": "medskip", "props": ":{}"},
            {"selector": "tiny" if wide else "scriptsize", "props": ":{}"},
            {"selector": "tabcolsep", "props": ":=1.2pt" if wide else ":=1.7pt"},
            {"selector": "renewcommand", "props": ":{\\arraystretch}{1.75}"},
        ]
    )
    text = style.to_latex(
        caption=escape_latex(layout.caption),
        label=label,
        position_float="centering",
        hrules=True,
        multicol_align="c",
        column_format=f"@{{}}{''.join(map(_alignment, columns, longest))}@{{}}",
    )
    # The widest reach a little into both margins alike.
    text = text.replace(r"\begin{tabular}", r"\makebox[\linewidth]{\begin{tabular}")
    return text.replace(r"\end{tabular}", r"\end{tabular}}")


def _alignment(column: tuple[str, str], longest: float) -> str:
    if column in (("", "N"), ("", "Rate")):
        return "r"
    return "p{0.36\\linewidth}" if longest > LINE else "l"


def _longest(cells: pd.Series, column: tuple[str, str]) -> float:
    """Characters of the widest cell of a column; a spread is printed in half the width."""
    widths = [
        len(cell.value + cell.mark) + len(max(cell.spread, default="")) / 2
        if isinstance(cell, Number)
        else len(cell)
        for cell in cells
    ]
    return max(*widths, len(column[1]))


def _latex_cell(cell) -> str:
    return cell.latex() if isinstance(cell, Number) else escape_latex(str(cell))


def _header_rules(columns: pd.MultiIndex) -> str:
    """A rule under each upper heading, to be put before the lower headings."""
    upper = pd.Series(range(1, len(columns) + 1)).groupby(columns.get_level_values(0), sort=False)
    spans = upper.agg(["min", "max"])
    return "".join(
        f"\\cmidrule(lr){{{first}-{last}}} "
        for heading, first, last in spans.itertuples()
        if heading
    )


def _block_rules(layout: Layout) -> dict[int, str]:
    """What goes before a row: a rule where a block begins, and the block's heading if it has one."""
    rules, before = {}, None
    for row, block in enumerate(layout.blocks):
        if row == 0 or block != before:
            rules[row] = "\\midrule\n" if row else ""
            if heading := layout.headings.get(block):
                width = len(layout.cells.columns)
                rules[row] += f"\\multicolumn{{{width}}}{{@{{}}l}}{{\\emph{{{heading}}}}} \\\\\n"
        before = block
    return rules


def escape_latex(text: str) -> str:
    """Plain text for LaTeX. (Styler escapes cells, but not captions.)"""
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    named = {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
    named |= {"±": "$\\pm$", "×": "$\\times$", "Δ": "$\\Delta$", "≥": "$\\geq$", "†": "$^\\dagger$"}
    return text.translate(str.maketrans(special | named))


def markdown(layout: Layout) -> str:
    """The caption as text, then the blocks without a heading, then those with one."""
    text = layout.cells.map(str)
    text = text.mask(layout.bold, "**" + text + "**")
    text.columns = [
        upper if lower == OURS else f"{upper}, {lower}" if upper and lower else upper or lower
        for upper, lower in text.columns
    ]
    headings = pd.Series([layout.headings.get(block) for block in layout.blocks], dtype=object)
    parts = [layout.caption]
    for title in dict.fromkeys([None, *headings]):
        rows = text[headings.isna() if title is None else headings.eq(title)]
        if len(rows):
            parts += [f"## {title}"] if title else []
            parts.append(rows.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join(parts) + "\n"


def embolden(
    values: dict[tuple, np.ndarray], stds: dict[tuple, np.ndarray], blocks: list, rule: Callable
) -> dict[tuple, np.ndarray]:
    """Which cells are bold, by `rule` within each block; all by column."""
    rows_of = {block: [i for i, b in enumerate(blocks) if b == block] for block in blocks}
    bold = {column: np.zeros(len(blocks), bool) for column in values}
    for column, rows in product(values, rows_of.values()):
        bold[column][rows] = rule(values[column][rows], stds[column][rows])
    return bold
