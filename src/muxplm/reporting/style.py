"""How every figure looks: sizes, colours, markers; and files whose bytes a second run repeats."""

import io
from itertools import cycle
from textwrap import fill

from matplotlib import cycler, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from muxplm.experiments import SIZES, Family
from muxplm.reporting.paper import INSTANCES

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8  # inches
DPI = 200
GREY = "0.6"
# Okabe and Ito's colours, told apart by the colour-blind; yellow is left out as too pale for a line.
# The first four, of the paper's N, grow lighter one by one, so that they differ in grey too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = {"mlm": "-", "rtd": ":", None: "--"}  # by what pre-training optimises
STYLE = {
    **{"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7},
    **{"xtick.labelsize": 7, "ytick.labelsize": 7, "lines.linewidth": 1.2, "lines.markersize": 3},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6},
    **{"axes.grid": True, "grid.color": "0.92", "grid.linewidth": 0.6, "axes.axisbelow": True},
    **{"axes.prop_cycle": cycler(color=COLOURS)},
    **{"legend.frameon": False, "legend.title_fontsize": 7, "pdf.fonttype": 42, "savefig.dpi": DPI},
    **{"svg.hashsalt": "muxplm"},
}
BARS = {"elinewidth": 0.6, "capsize": 1.5, "capthick": 0.6}


def styled():
    """A context in which figures are made and rendered."""
    return rc_context(STYLE)


def panels(rows: int, columns: int, height: float, **sharing):
    """A figure and its axes (rows, columns): one column of a page wide for one panel, else two.

    height: in inches, of the whole figure.
    """
    width = TWO_COLUMNS if columns > 1 else ONE_COLUMN
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def legend(figure: Figure, handles, columns: int, note: str = "", free=()):
    """Below the panels, where it covers no data; half as many columns on a narrow figure.

    note: what the picture shows besides, in its own lines above the handles.
    free: axes (cells of the last row) that show nothing, whose room the legend takes if there are any.
    """
    for axis in free:
        axis.set_axis_off()
    if len(free):
        made = free[0].legend(handles=handles, loc="center left", ncols=len(free))
        made.set_in_layout(False)
        return
    narrow = figure.get_figwidth() < TWO_COLUMNS
    made = figure.legend(
        handles=handles,
        title=fill(note, 60 if narrow else 130),
        loc="outside lower center",
        ncols=-(-columns // 2) if narrow else columns,
    )
    made.get_title().set_multialignment("center")


def looks(instances) -> dict[int, dict]:
    """Colour and marker of each N; those of the paper keep theirs, whatever else there is."""
    known = (*INSTANCES, *sorted(set(instances) - set(INSTANCES)))
    found = zip(known, cycle(COLOURS), cycle(MARKERS), strict=False)
    return {n: {"color": colour, "marker": marker} for n, colour, marker in found}


def line_of(family: Family) -> str:
    return "-." if family.extension else LINES[family.objective]


def model_label(label: str, n: int) -> str:
    return label if n == 1 else f"{label}, N = {n}"


def sizes_in(data) -> list[str]:
    """The sizes that a frame's column `size` holds, from small to large."""
    return [size for size in SIZES if size in set(data["size"])]


def logarithmic(axes, values):
    """A log scale of x with numbers at 1, 2, 5, 10 ... 10k where `values` span a decade."""
    if max(values) >= 10 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.xaxis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """0.5, 20, 1k, 2M."""
    scale, letter = next(
        ((s, x) for s, x in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1, "")
    )
    return f"{value / scale:g}{letter}"


def rendered(figure: Figure, suffix: str) -> bytes:
    """The picture as "pdf", "png" or "svg", without the date and the version that would differ."""
    content = io.BytesIO()
    unset = {"pdf": "CreationDate", "png": "Software", "svg": "Date"}[suffix]
    figure.savefig(content, format=suffix, metadata={unset: None})
    return content.getvalue()
