"""The frontier of N, sparsity and precision: a task's score against measured speed-up."""

from itertools import product

import pandas as pd
from matplotlib.lines import Line2D

from muxplm import tasks
from muxplm.experiments import PRUNERS, TABLES
from muxplm.reporting import captions, paper, style
from muxplm.reporting.cells import Sources
from muxplm.reporting.pareto import MEASURED, PAPER, standing
from muxplm.reporting.pruned_points import DENSE, measured_points
from muxplm.reporting.quantities import EVERYTHING

FACES = {DENSE: None, "cofi": "0.8", "fisher": "white"}  # a marker's; None: its own colour
STROKES = {"cofi": "-", "fisher": ":"}


def pruned_frontier(sources: Sources):
    """A column for each task that models are pruned on, a row for each precision; the paper's below.

    The data say what is on a task's frontier, which is that of all precisions together. A pruned
    model's speed-up is that of the mean time over its tasks. The paper's scores have axes of their own.
    """
    rows = measured_points(sources)
    shown, precisions = (list(dict.fromkeys(rows[name])) for name in ("task", "precision"))
    parts = [rows[rows["task"] == task] for task in shown]
    parts = [p.assign(**standing(p["speedup"].to_numpy(), p["score"].to_numpy())) for p in parts]
    theirs = papers_points(shown)
    height = 2.9 + 1.7 * (len(precisions) - 1) + (1.3 if len(theirs) else 0)
    figure, grid = style.panels(
        len(precisions) + bool(len(theirs)), len(parts), height, sharex=True
    )
    looks = style.looks(rows["N"])
    for axes, precision in zip(grid, precisions, strict=False):
        axes[0].set_ylabel(f"{precision}\nScore (points of 100)")
        for axis, first, part in zip(axes, grid[0], parts, strict=True):
            _draw_frontier(axis, part)
            _draw(axis, part[part["precision"] == precision], looks)
            axis.margins(0.1)
            style.logarithmic(axis, rows["speedup"])
            if axis is not first:
                axis.sharey(first)
    if len(theirs):
        _draw_papers(figure, grid[-1], theirs, shown, looks)
    for column, task in zip(grid.T, shown, strict=True):
        column[0].set_title(tasks.TASKS[task].title)
        bottom = [axis for axis in column if axis in figure.axes][-1]
        bottom.set_xlabel("Speed-up (times)")
        bottom.tick_params(labelbottom=True)
    levels = ", ".join(f"{100 * level:g}" for level in sorted(set(rows["sparsity"])))
    bars = f"Bars: {captions.bars(sources.settings)}, lowest to highest round."
    note = f"Along a line {levels} % are pruned. {bars}"
    style.legend(figure, _handles(rows, looks), 5, note)
    measured = pd.concat(parts).assign(source=MEASURED)
    return figure, pd.concat([measured, theirs])


def papers_points(shown: list[str]) -> pd.DataFrame:
    """Those of Table 2 whose score on a task the paper has, whole and pruned by CoFi."""
    rows = []
    for variant, task in product(TABLES["table2"].variants(EVERYTHING), shown):
        score, speed = (paper.mean_cell("table2", variant, x) for x in (task, "speedup"))
        if score and pd.notna(score[0]):
            by = variant.pruner if variant.sparsity else DENSE
            row = {"task": task, "model": variant.name, "label": variant.recipe.label}
            row |= {"N": variant.n, "sparsity": variant.sparsity, "by": by, "source": PAPER}
            rows.append(row | {"speedup": speed[0], "score": score[0]})
    return pd.DataFrame(rows)


def _draw_papers(figure, axes, points: pd.DataFrame, shown: list[str], looks: dict):
    """Hollow, or grey inside where CoFi has pruned; a task that the paper lacks has no panel."""
    for axis, task in zip(axes, shown, strict=True):
        part = points[points["task"] == task]
        if not len(part):
            figure.delaxes(axis)
        for _, point in part.iterrows():
            face = _face(point["by"]) or {"markerfacecolor": "white"}
            look = looks[point["N"]] | face | {"markersize": 4.5, "linestyle": "none"}
            axis.plot(point["speedup"], point["score"], **look)
        axis.margins(0.1, 0.2)
    first = next(axis for axis in axes if axis in figure.axes)
    first.set_ylabel("The paper's\nScore (points of 100)")


def _draw_frontier(axis, points: pd.DataFrame):
    best = points[points["on_frontier"]].sort_values("speedup")
    axis.plot(
        [points["speedup"].min(), *best["speedup"]],
        [best["score"].max(), *best["score"]],
        drawstyle="steps-pre",
        color=style.GREY,
        zorder=1,
    )


def _draw(axis, points: pd.DataFrame, looks: dict):
    for (n, by), part in points[points["sparsity"] > 0].groupby(["N", "by"]):
        whole = points[(points["N"] == n) & (points["sparsity"] == 0)]
        line = pd.concat([whole, part]).sort_values("sparsity")
        look = {"color": looks[n]["color"], "linestyle": STROKES[by], "linewidth": 0.8, "zorder": 2}
        axis.plot(line["speedup"], line["score"], **look)
    for _, point in points.iterrows():
        ends = [
            [point["speedup"] - point["speedup_low"]],
            [point["speedup_high"] - point["speedup"]],
        ]
        look = {**looks[point["N"]], **_face(point["by"]), "markersize": 4.5}
        axis.errorbar(
            point["speedup"], point["score"], yerr=point["bar"], xerr=ends, **look, **style.BARS
        )


def _face(by: str) -> dict:
    return {} if FACES[by] is None else {"markerfacecolor": FACES[by]}


def _handles(rows: pd.DataFrame, looks: dict) -> list[Line2D]:
    models = rows[["label", "N"]].drop_duplicates().sort_values("N")
    handles = [
        Line2D([], [], linestyle="none", label=style.model_label(label, n), **looks[n])
        for label, n in models.itertuples(index=False)
    ]
    for by in [by for by in PRUNERS if by in set(rows["by"])]:
        look = {"marker": "o", "color": "black", "linestyle": STROKES[by], **_face(by)}
        handles.append(Line2D([], [], label=PRUNERS[by], **look))
    return [*handles, Line2D([], [], color=style.GREY, label="Pareto frontier")]
