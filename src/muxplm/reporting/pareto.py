"""Figure 4: score against speed-up, and how near each model is to the Pareto frontier."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from muxplm.reporting import captions, style
from muxplm.reporting.cells import Sources, averages, throughputs, tidy
from muxplm.reporting.labels import label_points

MEASURED, PAPER = "measured", "paper"
TITLES = {MEASURED: "Measured here", PAPER: "Printed in the paper"}
UNITS = {"speedup": "Speed-up over BERT base (times)", "throughput": "Throughput (instances/s)"}
COLUMNS = ["source", "model", "label", "size", "N"]
COLUMNS += [f"{x}{bound}" for x in UNITS for bound in ("", "_low", "_high")]
COLUMNS += ["score", "std", "std_training", "bar", "majority"]


def pareto(sources: Sources, average: str):
    """Measured models on the left; on the right the paper's, on the same scales.

    average: "GLUE" or "Token". The data say of each point whether it is on its panel's frontier and
    how many points of score below it. `bar` is the half-length of its error bar. Where BERT base was
    not timed, throughput takes the place of our speed-ups.
    """
    rows = _points(sources, average)
    comparable = sources.throughput["reference"] == "bert-base"
    parts = []
    for source, x in ((MEASURED, "speedup" if comparable else "throughput"), (PAPER, "speedup")):
        part = rows[rows["source"] == source].dropna(subset=[x, "score"])
        if len(part):
            found = standing(part[x].to_numpy(), part["score"].to_numpy())
            parts.append((source, x, part.assign(**found)))
    figure, (axes,) = style.panels(1, len(parts), 3.2, sharex=comparable, sharey=True)
    looks = style.looks(rows["N"])
    for axis, (source, x, part) in zip(axes, parts, strict=True):
        _draw(axis, part, x, looks, hollow=source == PAPER)
        axis.set_title(TITLES[source])
        axis.set_xlabel(UNITS[x])
        axis.margins(0.09)
        style.logarithmic(axis, (rows if comparable else part)[x].dropna())
    axes[0].set_ylabel(f"{average} score (points of 100)")
    handles = [*_handles(rows, looks), *_majority_line(axes[0], rows["majority"].max())]
    style.legend(figure, handles, 5, _note(sources, rows))
    for axis, (_, x, part) in zip(axes, parts, strict=True):
        colours = (looks[n]["color"] for n in part["N"])
        initials = part["size"].str[0].str.upper()
        label_points(axis, list(zip(part[x], part["score"], initials, colours, strict=True)))
    return figure, pd.concat(part for _, _, part in parts)


def standing(speed: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the points (P,) no other point dominates, and how far below the frontier each is.

    A point is dominated by one that is at least as fast and as good, and better in one of the two.
    """
    as_fast = speed[None] >= speed[:, None]  # (P, P): is column j as fast as row i?
    as_good = score[None] >= score[:, None]
    better = (speed[None] > speed[:, None]) | (score[None] > score[:, None])
    dominated = (as_fast & as_good & better).any(axis=1)
    below = frontier(np.stack([speed, score], axis=1))
    return {"on_frontier": ~dominated, "below_frontier": below}


def frontier(points) -> np.ndarray:
    """How many points of score each (throughput, score) lies below the frontier; 0 on it.

    The frontier is a step function: at a throughput, the best score of all points at least as fast.
    """
    speeds, scores = np.asarray(points, dtype=float).reshape(-1, 2).T
    as_fast = speeds[None] >= speeds[:, None]  # (points, points): is the column as fast as the row?
    return np.where(as_fast, scores, -np.inf).max(axis=1, initial=-np.inf) - scores


def _points(sources: Sources, average: str) -> pd.DataFrame:
    table = tidy(sources, (averages, throughputs)).set_index(["model", "column"])
    rows = []
    for variant in sources.variants:
        score = table.loc[(variant.name, average)]
        who = (variant.name, variant.recipe.label, variant.size, variant.n)
        speedup, speed = (table.loc[(variant.name, x)] for x in UNITS)
        rates = (rate[field] for rate in (speedup, speed) for field in ("measured", "low", "high"))
        spreads = (score["std"], score["std_training"], captions.bar(score), score["majority"])
        rows.append((MEASURED, *who, *rates, score["measured"], *spreads))
        rates = (speedup["paper"], *[np.nan] * 5)
        spreads = (score["paper_std"], np.nan, score["paper_std"], np.nan)
        rows.append((PAPER, *who, *rates, score["paper"], *spreads))
    return pd.DataFrame(rows, columns=COLUMNS)


def _draw(axis, points: pd.DataFrame, x: str, looks: dict, hollow: bool):
    best = points[points["on_frontier"]].sort_values(x)
    # At any speed the line is at the best score among the models that are at least as fast.
    axis.plot(
        [points[x].min(), *best[x]],
        [best["score"].max(), *best["score"]],
        drawstyle="steps-pre",
        color=style.GREY,
        zorder=1,
    )
    for _, point in points.iterrows():
        look = looks[point["N"]] | ({"markerfacecolor": "white"} if hollow else {})
        rounds = [[point[x] - point[f"{x}_low"]], [point[f"{x}_high"] - point[x]]]
        axis.errorbar(
            point[x],
            point["score"],
            yerr=point["bar"],
            xerr=rounds,
            markersize=4.5,
            **look,
            **style.BARS,
        )


def _majority_line(axis, score: float) -> list[Line2D]:
    """Its handle; drawn where the points reach down to it, for what lies there has learnt nothing."""
    low, high = axis.get_ylim()
    if not low < score < high:
        return []
    look = {"color": style.GREY, "linestyle": ":", "label": "Majority class"}
    return [axis.axhline(score, zorder=1, **look)]


def _handles(rows: pd.DataFrame, looks: dict) -> list[Line2D]:
    models = rows[["label", "N"]].drop_duplicates().sort_values("N")
    return [
        *(
            Line2D([], [], linestyle="none", label=style.model_label(label, n), **looks[n])
            for label, n in models.itertuples(index=False)
        ),
        Line2D([], [], color=style.GREY, label="Pareto frontier"),
    ]


def _note(sources: Sources, rows: pd.DataFrame) -> str:
    sizes = style.sizes_in(rows)
    return (
        f"{', '.join(size[0].upper() for size in sizes)}: {', '.join(sizes)}. Bars: "
        f"{captions.bars(sources.settings)}, lowest to highest round; of the paper's: std over "
        "compositions."
    )
