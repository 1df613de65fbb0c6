"""What `muxplm benchmark inference` measured, as Markdown tables and as a picture."""

from pathlib import Path

import pandas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from muxplm.benchmarks.shapes import NAMES
from muxplm.files import write_bytes
from muxplm.reporting import style

DRAWN = "mux-bert"
PRECISIONS = ("fp32", "bf16", "int8")  # a colour each
LINES = {"torch": "-", "onnxruntime": "--"}


def report(result: dict) -> str:
    """A table for each size and task, and one of the tricks if they were timed."""
    found = []
    for part in result["parts"]:
        fastest = part["fastest"]
        found.append(
            f"{part['size']}, {part['task']} classification. Fastest at N = 1: "
            f"{fastest['engine']} in {fastest['precision']}."
        )
        found.append(_table([_line(run) for run in part["runs"]]))
    if result["tricks"]:
        found.append("From the formulas to what is served, MUX-BERT:")
        found.append(_table([_trick(version) for version in result["tricks"]]))
    return "\n\n".join(found)


def _line(run: dict) -> dict:
    at_once, at_best = run["at_once"], run["at_best"]
    return {
        "model": NAMES[run["family"]],
        "N": run["n"],
        "engine": run["engine"],
        "precision": run["precision"],
        "over BERT": _spread(at_once["over_bert"]),
        "of the bound": f"{at_once['over_bert']['median'] / run['bound']:.2f}",
        "rows": run["best_micro_batch"],
        "instances/s": f"{at_best['instances_per_second']:.1f}",
        "over BERT, at its best": _spread(at_best["over_bert"]),
        "over the fastest N = 1": _spread(at_best["over_fastest"]),
    }


def _trick(version: dict) -> dict:
    return {
        "size": version["size"],
        "task": version["task"],
        "precision": version["precision"],
        "N": version["n"],
        "version": version["version"],
        "ms": f"{1000 * version['seconds']:.0f}",
        "over the one before": _spread(version["gain"]),
        "in all": _spread(version["in_all"]),
    }


def _spread(ratio: dict) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _table(lines: list[dict]) -> str:
    return pandas.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def write_picture(result: dict, path: Path):
    """Instances a second against N, each at its best micro-batch: BERT at N = 1, then MUX-BERT.

    A panel for each size and task, a line for each precision and engine. None without MUX-BERT.
    """
    parts = [part for part in result["parts"] if any(r["family"] == DRAWN for r in part["runs"])]
    if not parts:
        return
    with style.styled():
        figure, (axes,) = style.panels(1, len(parts), 2.9)
        for axis, part in zip(axes, parts, strict=True):
            _draw(axis, part)
        axes[0].set_ylabel("Instances per second")
        drawn = {(run["precision"], run["engine"]) for part in parts for run in part["runs"]}
        handles = [
            Line2D([], [], label=f"{precision}, {engine}", **_look(precision, engine))
            for engine in LINES
            for precision in PRECISIONS
            if (precision, engine) in drawn
        ]
        style.legend(figure, handles, 3)
        write_bytes(path, style.rendered(figure, "png"))


def _draw(axis, part: dict):
    lines = {}
    for run in part["runs"]:
        if run["family"] in ("bert", DRAWN):
            point = (run["n"], run["at_best"]["instances_per_second"])
            lines.setdefault((run["precision"], run["engine"]), []).append(point)
    for look, points in lines.items():
        axis.plot(*zip(*sorted(points), strict=True), **_look(*look))
    numbers = sorted({n for points in lines.values() for n, _ in points})
    axis.set(xscale="log", yscale="log", xlabel="N", title=f"{part['size']}, {part['task']}")
    axis.xaxis.set(major_locator=FixedLocator(numbers), minor_locator=NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short(value)))


def _look(precision: str, engine: str) -> dict:
    k = PRECISIONS.index(precision)
    return {"color": style.COLOURS[k], "marker": style.MARKERS[k], "linestyle": LINES[engine]}
