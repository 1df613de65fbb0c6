"""Figures as .pdf and .png, with the data that they show as tidy .csv."""

from functools import partial
from itertools import product

import pandas as pd
from matplotlib.ticker import MaxNLocator

from muxplm import experiments, tasks
from muxplm.files import DataError, write_bytes, write_text
from muxplm.mistakes import nearest
from muxplm.reporting import style
from muxplm.reporting.analyses import read_runs
from muxplm.reporting.cells import Sources, throughputs
from muxplm.reporting.curves import training_curves
from muxplm.reporting.pareto import pareto
from muxplm.reporting.scores import aggregate, read_result
from muxplm.settings import Settings

# --- Figure 5: what happens in the layers ------------------------------------------------------


def layers(sources: Sources, quantity: str, unit: str):
    """One panel for each size: `quantity` of the muxology files after each encoder layer."""
    rows = []
    for variant in sources.variants:
        values = read_result(sources.settings.paths.muxology(variant.name))[quantity]
        who = (variant.name, variant.recipe.label, variant.size, variant.n)
        rows += [(*who, layer, value) for layer, value in enumerate(values, start=1)]
    data = pd.DataFrame(rows, columns=["model", "label", "size", "N", "layer", quantity])
    sizes, looks = style.sizes_in(data), style.looks(data["N"])
    figure, (axes,) = style.panels(1, len(sizes), 2.3)
    for size, axis in zip(sizes, axes, strict=True):
        for (label, n), line in data[data["size"] == size].groupby(["label", "N"], sort=False):
            name = style.model_label(label, n)
            axis.plot(line["layer"], line[quantity], label=name, **looks[n])
        axis.set_title(size.capitalize())
        axis.set_xlabel("Layer")
        axis.set_xlim(0.5, data.loc[data["size"] == size, "layer"].max() + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
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
            spread = (found["std"], found["std_training"])
            rows.append((*who, speed["measured"] / copies, found["mean"], *spread))
    columns = ["model", "label", "N", "task", "copies", "throughput", "score", "std"]
    data = pd.DataFrame(rows, columns=[*columns, "std_training"])
    labels, looks = list(data["label"].unique()), style.looks(data["N"])
    figure, axes = style.panels(
        len(labels), len(sources.tasks), 0.7 + 1.9 * len(labels), sharex=True, sharey="col"
    )
    for (i, label), (j, task) in product(enumerate(labels), enumerate(sources.tasks)):
        axis = axes[i, j]
        for n, line in data[(data["label"] == label) & (data["task"] == task)].groupby("N"):
            axis.plot(line["throughput"], line["score"], label=f"N = {n}", **looks[n])
            for _, point in line.iterrows():
                place = (point["throughput"], point["score"])
                offset = {"xytext": (0, 3.5), "textcoords": "offset points", "ha": "center"}
                axis.annotate(point["copies"], place, fontsize=6, **offset)
        axis.set_title(f"{label} on {tasks.TASKS[task].title}")
        axis.margins(y=0.12)
        style.logarithmic(axis, data["throughput"])
    for axis in axes[-1]:
        axis.set_xlabel("Effective throughput (instances/s)")
    for axis in axes[:, 0]:
        axis.set_ylabel("Score")
    style.legend(figure, axes[0, 0].get_lines(), 4)
    return figure, data


# --- All of them -------------------------------------------------------------------------------

DRAWERS = {
    "pareto_glue": partial(pareto, average="GLUE"),
    "pareto_token": partial(pareto, average="Token"),
    "muxology_activations": partial(layers, quantity="activations", unit="Mean |hidden state|"),
    "muxology_entropy": partial(layers, quantity="entropy", unit="Attention entropy (nats)"),
    "training_curves": training_curves,
    "ensemble_tradeoff": ensemble_tradeoff,
}


def draw(name: str, settings: Settings):
    """Writes the figure as .pdf and .png, its data as .csv. ValueError for a name no figure has.

    DataError if an input is missing or the config selects nothing that the figure shows.
    """
    if name not in DRAWERS:
        raise ValueError(f"no figure {name!r}{nearest(name, DRAWERS)}")
    sources = Sources(name, experiments.FIGURES[name], settings)
    _check(sources)
    with style.styled():
        figure, data = DRAWERS[name](sources)
        pictures = {suffix: style.rendered(figure, suffix) for suffix in ("pdf", "png")}
    for suffix, picture in pictures.items():
        write_bytes(settings.paths.figure(name, suffix), picture)
    table = data.to_csv(index=False, float_format="%.6g")
    write_text(settings.paths.figure(name, "csv"), table)


def _check(sources: Sources):
    target = sources.target
    if not sources.variants:
        raise DataError(
            f"{sources.name} has nothing to show under this config: families, sizes and instances "
            f"must list some of {', '.join(target.families)}; {', '.join(target.sizes)}; an N that "
            "they take (1 for bert and electra, more for the multiplexed)"
        )
    if target.tasks and not sources.tasks:
        raise DataError(
            f"{sources.name} has nothing to show under this config: tasks must list some of "
            f"{', '.join(target.tasks)}"
        )
