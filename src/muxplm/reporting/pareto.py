"""Figure 4: score against throughput, and how near each model is to the Pareto frontier."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from muxplm.reporting import style
from muxplm.reporting.cells import Sources, averages, throughputs, tidy
from muxplm.reporting.frontier import frontier

MEASURED, PAPER = "measured", "paper"
COLUMNS = ["source", "model", "label", "size", "N", "throughput", "low", "high", "speedup"]
COLUMNS += ["score", "std", "std_training"]


def pareto(sources: Sources, average: str):
    """Measured models on the left; on the right the paper's, of which it prints only speed-ups.

    average: "GLUE" or "Token". The data say of each point whether it is on its panel's frontier and
    how many points of score below it.
    """
    rows = _points(sources, average)
    parts = {}
    for source, x in ((MEASURED, "throughput"), (PAPER, "speedup")):
        part = rows[rows["source"] == source].dropna(subset=[x, "score"])
        if len(part):
            parts[x] = part.assign(**standing(part[x].to_numpy(), part["score"].to_numpy()))
    figure, (axes,) = style.panels(1, len(parts), 2.7)
    looks = style.looks(rows["N"])
    titles = {"throughput": "Measured", "speedup": "The paper's"}
    for axis, (x, part) in zip(axes, parts.items(), strict=True):
        _draw(axis, part, x, looks)
        axis.set_title(titles[x])
        axis.set_ylabel(f"{average} score")
    style.legend(figure, _handles(rows, looks), 5)
    return figure, pd.concat(parts.values())


def standing(throughput: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the points (P,) no other point dominates, and how far below the frontier each is.

    A point is dominated by one that is at least as fast and as good, and better in one of the two.
    """
    as_fast = throughput[None] >= throughput[:, None]  # (P, P): is column j as fast as row i?
    as_good = score[None] >= score[:, None]
    better = (throughput[None] > throughput[:, None]) | (score[None] > score[:, None])
    dominated = (as_fast & as_good & better).any(axis=1)
    below = frontier(np.stack([throughput, score], axis=1))
    return {"on_frontier": ~dominated, "below_frontier": below}


def _points(sources: Sources, average: str) -> pd.DataFrame:
    table = tidy(sources, (averages, throughputs)).set_index(["model", "column"])
    rows = []
    for variant in sources.variants:
        score, speedup, speed = (
            table.loc[(variant.name, column)] for column in (average, "speedup", "throughput")
        )
        who = (variant.name, variant.recipe.label, variant.size, variant.n)
        rates = (speed["measured"], speed["low"], speed["high"], speedup["measured"])
        spread = (score["std"], score["std_training"])
        rows.append((MEASURED, *who, *rates, score["measured"], *spread))
        none = (float("nan"),) * 3
        rows.append(
            (PAPER, *who, *none, speedup["paper"], score["paper"], score["paper_std"], np.nan)
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _draw(axis, points: pd.DataFrame, x: str, looks: dict):
    best = points[points["on_frontier"]].sort_values(x)
    # At any throughput the line is at the best score among the models that are at least as fast.
    axis.plot(
        [points[x].min(), *best[x]],
        [best["score"].max(), *best["score"]],
        drawstyle="steps-pre",
        color=style.GREY,
        zorder=1,
    )
    # Where the points lie in the panel, which is about 3 wide and 2 high.
    places = np.stack([np.log(points[x]), points["score"]], axis=1)  # (P, 2)
    places = (places - places.min(axis=0)) / np.maximum(np.ptp(places, axis=0), 1e-9) * [3, 2]
    for i, (_, point) in enumerate(points.iterrows()):
        look = looks[point["N"]]
        axis.plot(point[x], point["score"], **look, markersize=4.5)
        right, up = _corner(places[i], np.delete(places, i, axis=0), point["on_frontier"])
        axis.annotate(
            point["size"][0].upper(),
            (point[x], point["score"]),
            xytext=(3 if right else -3, 2 if up else -2),
            textcoords="offset points",
            ha="left" if right else "right",
            va="bottom" if up else "top",
            fontsize=6.5,
            color=look["color"],
        )
    units = {"throughput": "Throughput (instances/s)", "speedup": "Speed-up over BERT base"}
    axis.set_xlabel(units[x])
    style.logarithmic(axis, points[x])
    axis.margins(0.08)


def _corner(place, others, on_frontier: bool) -> tuple[bool, bool]:
    """Whether a point's label stands to its right, and above it."""
    if on_frontier or not len(others):
        return True, True  # no other point lies to the upper right of one of the frontier
    # Below, since the frontier runs above; to the side where the other points are farther away.
    sides = np.array([[-0.15, -0.15], [0.15, -0.15]])
    distances = np.linalg.norm((place + sides)[:, None] - others[None], axis=-1)  # (2, P - 1)
    return bool(distances.min(axis=1).argmax()), False


def _handles(rows: pd.DataFrame, looks: dict) -> list[Line2D]:
    models = rows[["label", "N"]].drop_duplicates().sort_values("N")
    return [
        *(
            Line2D([], [], linestyle="none", label=style.model_label(label, n), **looks[n])
            for label, n in models.itertuples(index=False)
        ),
        Line2D([], [], color=style.GREY, label="Pareto frontier"),
    ]
