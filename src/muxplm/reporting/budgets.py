"""The fastest model within a loss of so many points, and the one that interpolation would have picked.

Auto-PruMUX (PruMUX, arXiv 2305.14706) interpolates score and throughput over N and sparsity, to find a
fast combination without training them all. Here all were trained, so what its picks cost is measured.
"""

from itertools import product

import numpy as np
import pandas as pd

from muxplm import tasks
from muxplm.experiments import PRUNERS
from muxplm.reporting import captions
from muxplm.reporting.cells import Sources
from muxplm.reporting.layout import Layout, number
from muxplm.reporting.pruned_points import measured_points

LOSSES = (1.0, 2.0, 3.0, 5.0, 10.0)  # points below the plain model that is not pruned
# What is interpolated: along the first of each pair, among the combinations that share the second.
LINES = {
    "score": (("N", "sparsity"), ("sparsity", "N")),
    "log_speedup": (("log_n", "log_left"), ("log_left", "log_n")),
}


def budgets(sources: Sources) -> tuple[pd.DataFrame, Layout]:
    """A row for each task, way of pruning and loss."""
    points = measured_points(sources)
    kinds = product(dict.fromkeys(points["task"]), sources.settings.pruned.by)
    found = [row for task, by in kinds for row in _rows(points, task, by)]
    table = pd.DataFrame(found)
    cells = _printed(table)
    bold = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    return table, Layout(_caption(sources, table), cells, bold, list(table["task"]), {})


def _rows(points: pd.DataFrame, task: str, by: str):
    """Of one task and one way of pruning; what is not pruned stands beside either."""
    of_task = points[points["task"] == task].set_index("model")
    grid = of_task[(of_task["by"] == by) | (of_task["sparsity"] == 0)]
    plain = grid.loc[(grid["N"] == 1) & (grid["sparsity"] == 0), "score"].max()
    guess = left_out(grid)
    known = guess.notna().all(axis=1)
    expected = grid.assign(**guess.where(known, grid[["score", "speedup"]], axis=0))
    for loss in LOSSES:
        best = fastest(grid, plain - loss)
        pick = fastest(expected, plain - loss) if known.any() else None
        yield {
            "task": task,
            "by": by,
            "loss_allowed": loss,
            **_of(grid, "best", best, plain),
            **_of(grid, "pick", pick, plain),
            "regret": grid.at[best, "speedup"] / grid.at[pick, "speedup"]
            if best and pick
            else float("nan"),
            "guessed": int(known.sum()),
            "score_error": (guess["score"] - grid["score"]).abs().mean(),
            "speedup_error": (guess["speedup"] / grid["speedup"] - 1).abs().mean(),
        }


def _of(grid: pd.DataFrame, name: str, model: str | None, plain: float) -> dict:
    """What was measured of a model that was chosen; `plain` is the score that it loses from."""
    if model is None:
        return dict.fromkeys((name, *(f"{name}_{x}" for x in ("N", "sparsity", "speedup", "loss"))))
    row = grid.loc[model]
    return {
        name: model,
        f"{name}_N": row["N"],
        f"{name}_sparsity": row["sparsity"],
        f"{name}_speedup": row["speedup"],
        f"{name}_loss": plain - row["score"],
    }


def fastest(grid: pd.DataFrame, floor: float) -> str | None:
    """The index of the fastest row whose score is at least `floor`; None if no row's is."""
    within = grid[grid["score"] >= floor]
    return within["speedup"].idxmax() if len(within) else None


def left_out(grid: pd.DataFrame) -> pd.DataFrame:
    """Each combination's score and speed-up as those around it have them. NaN for a corner of the grid.

    grid: columns N, sparsity, score, speedup; a row a combination. The score is taken as linear in N and
    in the sparsity s, the logarithm of the speed-up in log N and in log (1 - s): the mean of both lines
    where both have neighbours on either side.
    """
    table = grid.assign(
        log_n=np.log(grid["N"]),
        log_left=np.log1p(-grid["sparsity"]),
        log_speedup=np.log(grid["speedup"]),
    )
    found = {value: [_interpolated(table, i, value) for i in table.index] for value in LINES}
    speedup = np.exp(found["log_speedup"])
    return pd.DataFrame({"score": found["score"], "speedup": speedup}, index=grid.index)


def _interpolated(table: pd.DataFrame, i: str, value: str) -> float:
    found = []
    for along, shared in LINES[value]:
        line = table[table[shared] == table.at[i, shared]].drop(i).sort_values(along)
        if len(line) and line[along].iloc[0] < table.at[i, along] < line[along].iloc[-1]:
            found.append(np.interp(table.at[i, along], line[along], line[value]))
    return float(np.mean(found)) if found else float("nan")


def _printed(table: pd.DataFrame) -> pd.DataFrame:
    cells = {
        ("", "Task"): [tasks.TASKS[task].title for task in table["task"]],
        ("", "Pruned by"): [PRUNERS[by] for by in table["by"]],
        ("", "Loss"): [f"{loss:g}" for loss in table["loss_allowed"]],
    }
    for heading, name in (("Fastest measured", "best"), ("Interpolation's pick", "pick")):
        cells[heading, "N"] = [number(n, digits=0) for n in table[f"{name}_N"]]
        cells[heading, "per cent"] = [
            number(100 * x, digits=0) for x in table[f"{name}_sparsity"].astype(float)
        ]
        for quantity in ("speedup", "loss"):
            values = table[f"{name}_{quantity}"].astype(float)
            cells[heading, {"speedup": "speed-up"}.get(quantity, quantity)] = [
                number(value) for value in values
            ]
    cells["", "Regret"] = [number(value, digits=2) for value in table["regret"]]
    return pd.DataFrame(cells)


def _caption(sources: Sources, table: pd.DataFrame) -> str:
    errors = table.drop_duplicates(["task", "by"])[["score_error", "speedup_error"]].mean()
    guess = (
        "Interpolation: each combination of N and sparsity that others surround is left out and taken "
        "from those, score linear in both, speed-up in their logarithms; picked by that, shown as "
        "measured. Regret: the fastest one's speed-up over the pick's, below 1 only if the pick loses "
        f"more than it may. Left out, scores are missed by {errors['score_error']:.1f} points on "
        f"average, speed-ups by {errors['speedup_error']:.0%}."
        if table["guessed"].any()
        else "No combination has others around it, so none is interpolated."
    )
    sentences = [
        captions.title(sources.name),
        captions.scale(sources.settings, sources.variants),
        "The fastest combination of N and sparsity whose score, the mean over training seeds, is below "
        "BERT's by no more than so many points; a dash where none is. A pruned model's speed-up is that "
        "of the mean time over its tasks.",
        guess,
        captions.speed(sources),
        captions.left_out(sources.target, sources.settings),
    ]
    return " ".join(sentence for sentence in sentences if sentence)
