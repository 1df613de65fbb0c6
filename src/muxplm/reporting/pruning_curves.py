"""How pruning by CoFi went: the sparsity of the masks, then the loss of the small model."""

from itertools import cycle, product
from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from muxplm import lineage, tasks
from muxplm.reporting import style
from muxplm.reporting.cells import Sources
from muxplm.reporting.curves import DASHES
from muxplm.reporting.scores import read_result

LOGS = {"masks": "pruning_log", "fine-tuning": "log"}  # the two trainings of a cell, in this order
SHOWN = {"masks": "expected", "fine-tuning": "loss"}
COLUMNS = ["task", "model", "label", "N", "target", "training_seed", "training", "step"]
COLUMNS += ["asked", "expected", "loss"]


def pruning_curves(sources: Sources):
    """A column for each task: above the expected sparsity of the masks, below the small model's loss.

    A line is the mean over training seeds; the data have each. Fisher masks are not trained.
    """
    data = read_curves(sources)
    shown, levels = list(dict.fromkeys(data["task"])), sorted(set(data["target"]))
    looks = style.looks(data["N"])
    strokes = dict(zip(levels, cycle(("-", *DASHES)), strict=False))
    figure, grid = style.panels(len(LOGS), len(shown), 3.9, sharex="row", sharey="row")
    for axes, training in zip(grid, LOGS, strict=True):
        part = data[data["training"] == training]
        for axis, task in zip(axes, shown, strict=True):
            _draw(axis, part[part["task"] == task], SHOWN[training], looks, strokes)
            axis.set_xlabel("Step of the masks" if training == "masks" else "Step of fine-tuning")
    for axis, task in zip(grid[0], shown, strict=True):
        axis.set_title(tasks.TASKS[task].title)
        axis.set_ylim(-0.03, 1.03)
    for axis, name in zip(grid[:, 0], ("Expected sparsity", "Loss (distilled)"), strict=True):
        axis.set_ylabel(name)
    figure.align_ylabels(grid[:, 0])
    models = data[["label", "N"]].drop_duplicates().sort_values("N")
    handles = [
        *(
            Line2D([], [], label=style.model_label(label, n), **looks[n])
            for label, n in models.itertuples(index=False)
        ),
        *(
            Line2D([], [], color="0.3", linestyle=strokes[level], label=f"{100 * level:g} %")
            for level in levels
        ),
        Line2D([], [], color=style.GREY, linewidth=2, label="asked for"),
    ]
    style.legend(figure, handles, 7)
    return figure, data


def read_curves(sources: Sources) -> pd.DataFrame:
    """Every logged step of both trainings of every cell, as the run.json beside its weights has it."""
    settings, rows = sources.settings, []
    cells = lineage.cells(sources.target, settings)
    for (name, task), seed in product(cells, settings.training_seeds):
        variant, done = settings.variants[name], Path(lineage.cell(settings, name, task, seed))
        run = read_result(done.with_name("run.json"), target=done)
        who = (task, name, variant.recipe.label, variant.n, variant.sparsity, seed)
        for training, log in LOGS.items():
            for entry in run[log]:
                values = (entry.get("asked"), entry.get("expected"), entry["loss"])
                rows.append((*who, training, entry["step"], *values))
    return pd.DataFrame(rows, columns=COLUMNS)


def _draw(axis, data: pd.DataFrame, shown: str, looks: dict, strokes: dict):
    for (n, target), curves in data.groupby(["N", "target"]):
        mean = curves.groupby("step")[["asked", shown]].mean()
        axis.plot(mean.index, mean["asked"], color=style.GREY, linewidth=2, zorder=1)
        look = looks[n] | {"linestyle": strokes[target], "linewidth": 0.9, "markersize": 2}
        axis.plot(mean.index, mean[shown], **look)
