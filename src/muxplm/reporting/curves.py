"""Training curves: training and validation loss of every variant, over positions seen."""

from itertools import cycle, product
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

# In the order of the stages.
TITLES = {
    "retrieval": "priming, token retrieval",
    "mlm": "pre-training, masked LM",
    "rtd": "pre-training, replaced tokens",
}
COLUMNS = ["model", "family", "size", "N", "ablation", "retrieval_rate", "stage", "objective"]
COLUMNS += ["kind", "step", "positions", "loss"]
LOGS = {"training": "log", "validation": "validation_log"}
FAINT, THIN = {"alpha": 0.35, "linewidth": 0.8}, {"linewidth": 0.7}
DASHES = ((0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)), (0, (1, 1)))  # of ablations


def training_curves(sources: Sources):
    """One panel for each objective and size; those of one objective share their scales.

    A row of panels is an objective; with a single size, the objectives stand in one row. A loss that
    is the weighted sum of two objectives can be compared with no other: it is in the data alone.
    """
    data = read_curves(sources.settings)
    shown, looks = data[data["retrieval_rate"] == 0], style.looks(data["N"])
    parts = {
        (objective, size): shown[(shown["objective"] == objective) & (shown["size"] == size)]
        for objective, size in product(TITLES, style.sizes_in(shown))
    }
    parts = {panel: part for panel, part in parts.items() if len(part)}
    sizes = len({size for _, size in parts})
    columns = sizes if sizes > 1 else len(parts)
    rows = -(-len(parts) // columns)
    figure, axes = style.panels(rows, columns, 0.8 + 1.7 * rows)
    ablations = dict(
        zip(filter(None, dict.fromkeys(shown["ablation"])), cycle(DASHES), strict=False)
    )
    for axis, ((objective, size), part) in zip(axes.flat, parts.items(), strict=False):
        _draw(axis, part, looks, ablations)
        alike = shown[shown["objective"] == objective]
        axis.set_title(f"{size.capitalize()}: {TITLES[objective]}")
        axis.set_xlim(0, 1.03 * alike["positions"].max())
        # A training's first losses may lie far above; the axis ends with those of validation.
        highest = alike.loc[alike["kind"] == "validation", "loss"].max()
        axis.set_ylim(-0.03 * highest, 1.05 * highest)
    for axis in axes[:, 0]:
        axis.set_ylabel("Loss (nats)")
    for axis in axes.flat[len(parts) - columns : len(parts)]:
        axis.set_xlabel("Positions seen")
    figure.align_ylabels(axes[:, 0])
    handles = _handles(shown, looks, ablations)
    style.legend(figure, handles, 5, free=axes.flat[len(parts) :])
    return figure, data


def read_curves(settings: Settings) -> pd.DataFrame:
    """Every logged loss of every variant of the grid, as the run.json beside its weights has it."""
    rows = []
    for variant in settings.variants.values():
        for stage in variant.stages:
            weights = Path(lineage.checkpoint(settings, stage, variant.name))
            run = read_result(weights.with_name("run.json"), target=weights)
            objective = "retrieval" if stage == "prime" else variant.recipe.objective
            who = (variant.name, variant.family, variant.size, variant.n)
            what = (_ablation(variant), variant.retrieval_rate, stage, objective)
            for kind, log in LOGS.items():
                if log not in run:
                    raise DataError(
                        f"{weights.with_name('run.json')} has no {log}: delete {weights.parent} and "
                        "train again"
                    )
                for entry in run[log]:
                    positions = entry["step"] * run["positions_per_step"]
                    place = (entry["step"], positions, entry["loss"])
                    rows.append((*who, *what, kind, *place))
    return pd.DataFrame(rows, columns=COLUMNS)


def _ablation(variant: Variant) -> str:
    """What a variant has otherwise than its family, but for a retrieval rate; "" if nothing."""
    usual = Variant(variant.family, variant.size, variant.n)
    parts = ("multiplexer", "demultiplexer", "dialect")
    changed = [
        getattr(variant, part) for part in parts if getattr(variant, part) != getattr(usual, part)
    ]
    if variant.pretraining_seed != usual.pretraining_seed:
        changed.append(f"seed {variant.pretraining_seed}")
    return ", ".join(changed)


def _draw(axis, data: pd.DataFrame, looks: dict, ablations: dict):
    drawn = data[(data["ablation"] == "") | (data["kind"] == "validation")]
    for _, curve in drawn.groupby(["model", "kind"], sort=False):
        first = curve.iloc[0]
        look = looks[first["N"]] | {"linestyle": style.line_of(FAMILIES[first["family"]])}
        if first["kind"] == "training":
            look |= {"marker": "", **FAINT}
        if first["ablation"]:
            look |= {"marker": "", "linestyle": ablations[first["ablation"]], **THIN}
        axis.plot(curve["positions"], curve["loss"], **look)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def _handles(data: pd.DataFrame, looks: dict, ablations: dict) -> list[Line2D]:
    families = {}
    for family in dict.fromkeys(data["family"]):
        families.setdefault(style.line_of(FAMILIES[family]), []).append(FAMILIES[family].label)
    lines = {
        "validation": {"marker": "o"},
        "training": FAINT,
        **{", ".join(labels): {"linestyle": line} for line, labels in families.items()},
        **{f"{name} (validation)": THIN | {"linestyle": line} for name, line in ablations.items()},
    }
    return [
        *(Line2D([], [], label=f"N = {n}", **looks[n]) for n in sorted(set(data["N"]))),
        *(Line2D([], [], color="0.3", label=label, **look) for label, look in lines.items()),
    ]
