"""Training curves: training and validation loss of every variant, over positions seen."""

from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from muxplm import lineage
from muxplm.experiments import FAMILIES, Variant
from muxplm.files import DataError
from muxplm.reporting import style
from muxplm.reporting.cells import Sources
from muxplm.reporting.scores import read_result
from muxplm.settings import Settings

# One column of panels each, in the order of the stages: losses of one objective can be compared.
TITLES = {
    "retrieval": "Priming: token retrieval",
    "mlm": "Pre-training: masked LM",
    "rtd": "Pre-training: replaced tokens",
}
COLUMNS = ["model", "family", "size", "N", "ablation", "stage", "objective"]
COLUMNS += ["kind", "step", "positions", "loss"]
LOGS = {"training": "log", "validation": "validation_log"}
FAINT, THIN = {"alpha": 0.35, "linewidth": 0.8}, {"linewidth": 0.6}


def training_curves(sources: Sources):
    """One column of panels for each objective, one row for each size."""
    data = read_curves(sources.settings)
    sizes = style.sizes_in(data)
    objectives = [objective for objective in TITLES if objective in set(data["objective"])]
    figure, axes = style.panels(
        len(sizes), len(objectives), 0.9 + 1.6 * len(sizes), sharex="col", sharey="col"
    )
    looks, filled = style.looks(data["N"]), {}
    for (i, size), (j, objective) in product(enumerate(sizes), enumerate(objectives)):
        part = data[(data["size"] == size) & (data["objective"] == objective)]
        _draw(axes[i, j], part, looks)
        if len(part):
            filled[i, j] = axes[i, j]
        else:
            axes[i, j].set_axis_off()
    for i, size in enumerate(sizes):
        left = min(place for place in filled if place[0] == i)
        filled[left].set_ylabel(f"{size.capitalize()}: loss (nats)")
    for j, objective in enumerate(objectives):
        column = [place for place in filled if place[1] == j]
        filled[min(column)].set_title(TITLES[objective])
        filled[max(column)].set_xlabel("Positions seen")
        filled[max(column)].tick_params(labelbottom=True)
    style.legend(figure, _handles(data, looks), 5)
    return figure, data


def read_curves(settings: Settings) -> pd.DataFrame:
    """Every logged loss of every variant of the grid, as the run.json beside its weights has it."""
    rows = []
    for variant in settings.variants.values():
        for stage in variant.stages:
            weights = Path(lineage.checkpoint(settings, stage, variant.name))
            run = read_result(weights.with_name("run.json"), target=weights)
            objective = "retrieval" if stage == "prime" else variant.recipe.objective
            who = (variant.name, variant.family, variant.size, variant.n, _is_ablation(variant))
            for kind, log in LOGS.items():
                if log not in run:
                    raise DataError(
                        f"{weights.with_name('run.json')} has no {log}: delete {weights.parent} and "
                        "train again"
                    )
                for entry in run[log]:
                    positions = entry["step"] * run["positions_per_step"]
                    place = (entry["step"], positions, entry["loss"])
                    rows.append((*who, stage, objective, kind, *place))
    return pd.DataFrame(rows, columns=COLUMNS)


def _is_ablation(variant: Variant) -> bool:
    return variant != Variant(variant.family, variant.size, variant.n)


def _draw(axis, data: pd.DataFrame, looks: dict):
    drawn = data[~data["ablation"] | (data["kind"] == "validation")]
    for _, curve in drawn.groupby(["model", "kind"], sort=False):
        first = curve.iloc[0]
        look = looks[first["N"]] | {"linestyle": style.line_of(FAMILIES[first["family"]])}
        if first["kind"] == "training":
            look |= {"marker": "", **FAINT}
        if first["ablation"]:
            look |= {"marker": "", **THIN}
        axis.plot(curve["positions"], curve["loss"], **look)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def _handles(data: pd.DataFrame, looks: dict) -> list[Line2D]:
    families = {}
    for family in dict.fromkeys(data["family"]):
        families.setdefault(style.line_of(FAMILIES[family]), []).append(FAMILIES[family].label)
    kinds = {"validation": {"marker": "o"}, "training": FAINT}
    if data["ablation"].any():
        kinds["validation, ablation"] = THIN
    return [
        *(Line2D([], [], label=f"N = {n}", **looks[n]) for n in sorted(set(data["N"]))),
        *(
            Line2D([], [], color="0.3", linestyle=line, label=", ".join(labels))
            for line, labels in families.items()
        ),
        *(Line2D([], [], color="0.3", label=kind, **look) for kind, look in kinds.items()),
    ]
