"""Figures as .pdf and .png, with the data that they show as tidy .csv."""

from functools import partial
from itertools import product

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from muxplm import experiments, tasks
from muxplm.files import as_written, write_bytes, write_text
from muxplm.mistakes import nearest
from muxplm.reporting import captions, style
from muxplm.reporting.analyses import read_runs
from muxplm.reporting.cells import Sources, throughputs
from muxplm.reporting.curves import training_curves
from muxplm.reporting.labels import label_points
from muxplm.reporting.pareto import pareto
from muxplm.reporting.pruned import pruned_frontier
from muxplm.reporting.pruning_curves import pruning_curves
from muxplm.reporting.scores import aggregate, read_result
from muxplm.settings import Settings

# --- Figure 5: what happens in the layers ------------------------------------------------------


def layers(sources: Sources, quantity: str, unit: str):
    """One panel for each size: `quantity` of the muxology files after each encoder layer.

    All panels share both scales: a deeper model's is wider, and one layer takes the same room in each.
    """
    rows = []
    for variant in sources.variants:
        with as_written(path := sources.settings.paths.muxology(variant.name)):
            values = read_result(path)[quantity]
        who = (variant.name, variant.recipe.label, variant.size, variant.n)
        rows += [(*who, layer, value) for layer, value in enumerate(values, start=1)]
    data = pd.DataFrame(rows, columns=["model", "label", "size", "N", "layer", quantity])
    depths = data.groupby("size")["layer"].max()[style.sizes_in(data)]
    looks = style.looks(data["N"])
    figure, (axes,) = style.panels(1, len(depths), 2.4, sharey=True, width_ratios=list(depths))
    for (size, depth), axis in zip(depths.items(), axes, strict=True):
        for (label, n), line in data[data["size"] == size].groupby(["label", "N"], sort=False):
            name = style.model_label(label, n)
            axis.plot(line["layer"], line[quantity], label=name, **looks[n])
        axis.set_title(size.capitalize())
        axis.set_xlabel("Layer")
        axis.set_xlim(0.5, depth + 0.5)
        ticks = max(1, round(18 * depth / depths.sum()))
        axis.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    axes[0].set_ylabel(unit)
    style.legend(figure, axes[0].get_lines(), 4)
    return figure, data


# --- Beyond the paper: partial ensembling ------------------------------------------------------


def ensemble_tradeoff(sources: Sources):
    """Tasks beside each other, families below each other: k copies of an instance cost k times."""
    rows = []
    for variant in sources.variants:
        runs = read_runs(sources, variant, "ensembles", "copies")
        speed = next(r for r in throughputs(sources, variant) if r["column"] == "throughput")
        for (task, copies), of_copies in runs.groupby(["task", "copies"]):
            found = aggregate(of_copies)
            who = (variant.name, variant.recipe.label, variant.n, task, copies)
            spreads = (found["std"], found["std_training"], captions.bar(found))
            rows.append((*who, speed["measured"] / copies, found["mean"], *spreads))
    columns = ["model", "label", "N", "task", "copies", "throughput", "score"]
    data = pd.DataFrame(rows, columns=[*columns, "std", "std_training", "bar"])
    labels, looks = list(data["label"].unique()), style.looks(data["N"])
    figure, axes = style.panels(
        len(labels), len(sources.tasks), 0.9 + 1.9 * len(labels), sharex=True, sharey="col"
    )
    panels = {
        axes[i, j]: data[(data["label"] == label) & (data["task"] == task)]
        for (i, label), (j, task) in product(enumerate(labels), enumerate(sources.tasks))
    }
    for axis, part in panels.items():
        for n, line in part.groupby("N"):
            axis.errorbar(
                line["throughput"], line["score"], yerr=line["bar"], **looks[n], **style.BARS
            )
        axis.set_title(f"{part['label'].iloc[0]} on {tasks.TASKS[part['task'].iloc[0]].title}")
        axis.margins(0.08, 0.1)
        style.logarithmic(axis, data["throughput"])
    for axis in axes[-1]:
        axis.set_xlabel("Effective throughput (instances/s)")
    for axis in axes[:, 0]:
        axis.set_ylabel("Accuracy (%)")
    handles = [Line2D([], [], label=f"N = {n}", **looks[n]) for n in sorted(set(data["N"]))]
    note = "At a line's ends: k, how many of the N places of a pass one instance takes. "
    style.legend(figure, handles, 4, f"{note}Bars: {captions.bars(sources.settings)}.")
    for axis, part in panels.items():
        ends = part[(part["copies"] == 1) | (part["copies"] == part["N"])]
        texts, colours = ends["copies"].map(str), ends["N"].map(lambda n: looks[n]["color"])
        label_points(
            axis, list(zip(ends["throughput"], ends["score"], texts, colours, strict=True))
        )
    return figure, data


# --- All of them -------------------------------------------------------------------------------

DRAWERS = {
    "pareto_glue": partial(pareto, average="GLUE"),
    "pareto_token": partial(pareto, average="Token"),
    "muxology_activations": partial(
        layers, quantity="activations", unit="Mean absolute hidden state"
    ),
    "muxology_entropy": partial(layers, quantity="entropy", unit="Attention entropy (nats)"),
    "training_curves": training_curves,
    "ensemble_tradeoff": ensemble_tradeoff,
    "frontier": pruned_frontier,
    "pruning_curves": pruning_curves,
}


def draw(name: str, settings: Settings):
    """Writes the figure as .pdf and .png, its data as .csv. ValueError for a name no figure has.

    DataError if an input is missing or the config selects nothing that the figure shows.
    """
    if name not in DRAWERS:
        raise ValueError(f"no figure {name!r}{nearest(name, DRAWERS)}")
    sources = Sources(name, experiments.FIGURES[name], settings)
    sources.check()
    with style.styled():
        figure, data = DRAWERS[name](sources)
        pictures = {suffix: style.rendered(figure, suffix) for suffix in ("pdf", "png")}
    for suffix, picture in pictures.items():
        write_bytes(settings.paths.figure(name, suffix), picture)
    table = data.to_csv(index=False, float_format="%.6g")
    write_text(settings.paths.figure(name, "csv"), table)
