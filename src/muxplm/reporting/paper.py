"""The paper's own numbers (arXiv 2302.12441), to stand beside what is measured here."""

from functools import cache
from pathlib import Path

import pandas as pd

from muxplm.experiments import Variant
from muxplm.files import DataError
from muxplm.tasks import GLUE

FOLDER = Path(__file__).parent / "paper"
INSTANCES = (1, 2, 5, 10)

Cell = tuple[float, float]  # value and std, which is NaN where none is printed

_BY_TASK = {task: task.upper() for task in GLUE} | {
    "GLUE": "GLUE-WNLI, COLA",
    "GLUE-all": "GLUE",
}
_AVERAGES = {"GLUE": "GLUE", "Token": "Token", "speedup": "speedup"}
_ENSEMBLES = {"alone": "No Ens", "ensemble": "Ens", "gain": "delta"}

# Which of a table's columns holds a mean (or the one value there is), by our name of the column.
MEANS = {
    "table1": {"GLUE": "GLUE/Mean (std)", "Token": "Token/Mean (std)", "speedup": "speedup"},
    "table2": {"speedup": "speedup", "qnli": "QNLI", "qqp": "QQP", "sst2": "SST2"},
    "table3": _AVERAGES,
    "table4": {
        f"{task}/{ours}": f"{task.upper()}/{theirs}"
        for task in ("mnli", "qqp")
        for ours, theirs in _ENSEMBLES.items()
    },
    "table5": _AVERAGES,
    "table6": {"best": "Best ticket", "worst": "Worst ticket", "range": "delta"},
    **{name: _BY_TASK for name in ("table9", "table11", "table12", "table13", "table14")},
}
MAXIMA = {"table1": {"GLUE": "GLUE/Max", "Token": "Token/Max"}, "table10": _BY_TASK}

# Where the appendix gives the scores of single tasks, by family.
TASK_TABLES = {
    "bert": "table9",
    "mux-bert": "table9",
    "electra": "table11",
    "mux-electra": "table11",
    "tmux": "table14",
}


@cache
def reference(table: str) -> pd.DataFrame:
    """The numbers of "table1" to "table14": row headings, `column`, `value`, `std`.

    Scores are percentages. `value` is text in tables 7 and 8 (hyper-parameters).
    """
    path = FOLDER / f"{table}.csv"
    if not path.is_file():
        raise DataError(f"{table!r} is no table of the paper: ask for table1 to table14")
    return pd.read_csv(path, na_values=["-"])


def mean_cell(table: str, variant: Variant, column: str) -> Cell | None:
    """What the paper's table has for a variant and one of our columns; None if nothing."""
    return _cell(table, variant, MEANS.get(table, {}).get(column))


def max_cell(table: str, variant: Variant, column: str) -> Cell | None:
    """The same of the columns that hold a maximum over composition seeds."""
    return _cell(table, variant, MAXIMA.get(table, {}).get(column))


def cell_anywhere(variant: Variant, column: str) -> Cell | None:
    """The mean of a task, of GLUE or of Token, in whichever table the paper has it."""
    if not _is_default(variant):
        return None
    for table in (TASK_TABLES.get(variant.family), "table1", "table3"):
        if found := mean_cell(table, variant, column):
            return found
    return None


def _is_default(variant: Variant) -> bool:
    # An ablation (other multiplexer, retrieval rate) shares label and N with the row it changes.
    return variant == Variant(variant.family, variant.size, variant.n)


# (multiplexer, demultiplexer) -> the paper's words in Table 5, and in Table 13.
STRATEGIES = {
    ("hadamard", "rsa"): ("Non-contextual", "RSA-DeMUX", "MUX-BERT"),
    ("hadamard", "prefix"): ("Non-contextual", "Prefix", "DataMUX"),
    ("contextual", "rsa"): ("Contextual", "RSA-DeMUX", "Attention"),
}


def strategy(variant: Variant) -> str:
    """The name of a way of multiplexing in Table 13, or of one that the paper does not have."""
    parts = (variant.multiplexer, variant.demultiplexer)
    return STRATEGIES[parts][-1] if parts in STRATEGIES else " + ".join(parts)


# (family, N, sparsity, how) -> the row of Table 2. CoFi's own, cited there, is at another sparsity.
PRUNED = {
    ("bert", 1, 0.7, "cofi"): "CoFi",
    ("mux-bert", 2, 0.6, "cofi"): "MUX-BERT (N=2) + CoFi",
}


def row_of(table: str, variant: Variant) -> dict | None:
    """The row headings of a variant; None if the table has no such row."""
    label, n, size = variant.recipe.label, variant.n, variant.size.upper()
    default, base = _is_default(variant), variant.size == "base"
    if table == "table2" and base and variant.sparsity:
        row = PRUNED.get((variant.family, n, variant.sparsity, variant.pruner))
        return row and {"Model": row}
    known = (variant.multiplexer, variant.demultiplexer) in STRATEGIES
    if table == "table5" and base and variant.family == "mux-bert" and known:
        mux, demux, _ = STRATEGIES[variant.multiplexer, variant.demultiplexer]
        return {"Mux (N)": n, "Mux": mux, "Demux": demux}
    if table == "table12" and variant.family == "mux-bert" and variant.size == "large":
        return {"N": n, "Retrieval Rate": variant.retrieval_rate}
    if table == "table13" and base and variant.family == "mux-bert":
        return {"N": n, "Mux Strategy": strategy(variant)}
    if not default:
        return None
    if table == "table1" and base:
        return {"Model": label, "N": n}
    if table == "table2" and base:
        return {"Model": label if n == 1 else f"{label} (N={n})"}
    if table == "table3" and n in (1, 2):
        return {"Config": size, "Model": label}
    if table == "table4" and base:
        return {"Model": label, "Mux (N)": n}
    if table == "table6" and base:
        return {"N": n}
    if table == "table11" and base and TASK_TABLES.get(variant.family) == table:
        return {"N": n}  # it has the base size only, and no column that says so
    if table in ("table9", "table10", "table14"):
        of_family = TASK_TABLES.get(variant.family)
        if of_family == ("table9" if table == "table10" else table):
            return {"Model Size": size, "N": n}
    return None


def _cell(table: str, variant: Variant, column: str | None) -> Cell | None:
    row = None if variant.recipe.extension else row_of(table, variant)
    if row is None or column is None:
        return None
    if table == "table6":  # its families are columns
        column = f"{variant.recipe.label}/{column}"
    return _numbers(table, (*row, "column")).get((*row.values(), column))


@cache
def _numbers(table: str, keys: tuple[str, ...]) -> dict[tuple, Cell]:
    rows = reference(table).to_dict("records")
    return {tuple(r[key] for key in keys): (float(r["value"]), float(r["std"])) for r in rows}
