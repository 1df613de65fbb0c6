"""The paper's own numbers (arXiv 2302.12441), to stand beside what is measured here."""

from pathlib import Path

import pandas as pd

from muxplm.experiments import Variant
from muxplm.files import DataError

FOLDER = Path(__file__).parent / "paper"

# Where the appendix gives the scores of single tasks, by family.
TASK_TABLES = {
    "bert": "table9",
    "mux-bert": "table9",
    "electra": "table11",
    "mux-electra": "table11",
    "tmux": "table14",
}


def reference(table: str) -> pd.DataFrame:
    """The numbers of "table1" to "table14": row headings, `column`, `value`, `std`.

    Scores are percentages. `value` is text in tables 7 and 8 (hyper-parameters).
    """
    path = FOLDER / f"{table}.csv"
    if not path.is_file():
        raise DataError(f"{table!r} is no table of the paper: ask for table1 to table14")
    return pd.read_csv(path, na_values=["-"])


def table1_cell(variant: Variant, column: str) -> tuple[float, float] | None:
    """(value, std) in Table 1, or None where it has no such cell; std is NaN where none is printed.

    `column` is "GLUE/Mean (std)", "GLUE/Max", "Token/Mean (std)", "Token/Max" or "speedup".
    """
    if not _as_in_the_paper(variant) or variant.size != "base":
        return None
    return _cell("table1", {"Model": variant.recipe.label, "N": variant.n, "column": column})


def task_cell(variant: Variant, task: str) -> tuple[float, float] | None:
    """(mean, std) of one GLUE task in Tables 9, 11 and 14, or None where they have no such cell."""
    if not _as_in_the_paper(variant):
        return None
    row = {"N": variant.n, "column": task.upper()}
    table = TASK_TABLES[variant.family]
    if table != "table11":  # ELECTRA's table has the base size only, and no column that says so
        row["Model Size"] = variant.size.upper()
    return _cell(table, row)


def _as_in_the_paper(variant: Variant) -> bool:
    # An ablation (other multiplexer, retrieval rate) shares label and N with the row it changes.
    return not variant.recipe.extension and variant == Variant(
        variant.family, variant.size, variant.n
    )


def _cell(table: str, row: dict) -> tuple[float, float] | None:
    numbers = reference(table).set_index(list(row))
    try:
        found = numbers.loc[tuple(row.values())]
    except KeyError:
        return None
    return float(found["value"]), float(found["std"])
