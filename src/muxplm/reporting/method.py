"""The method as a picture: N rows in, one row through the encoder, N rows out.

python -m muxplm.reporting.method docs/method.png docs/method.svg
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from muxplm.files import DataError, write_bytes
from muxplm.reporting import style

ROWS = (("the", "cook", "won"), ("a", "judge", "left"), ("who", "sold", "it"))
COLOURS = style.COLOURS[1:4]  # of the instances; black is the mixture
TOKEN, LINE, STEP = 0.42, 0.24, 0.5  # a token's box, its height, from row to row: inches
TOP = 1.62  # of the first row's middle
SUFFIXES = ("png", "svg")


def draw(path: Path):
    """Writes the picture to `path`. DataError if that is neither .png nor .svg."""
    suffix = path.suffix.removeprefix(".")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: the picture's name has to end in .png or .svg")
    with style.styled():
        write_bytes(path, style.rendered(picture(), suffix))


def picture() -> Figure:
    """From left to right: words, keys, their sum, the encoder, keys again, what is read of each."""
    figure = Figure(figsize=(style.TWO_COLUMNS, 2.15))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, style.TWO_COLUMNS)
    axes.set_ylim(0, 2.15)
    axes.set_axis_off()
    middle = TOP - STEP  # of the mixture
    for i, (words, colour) in enumerate(zip(ROWS, COLOURS, strict=True)):
        line = TOP - i * STEP
        _row(axes, 0.08, line, words, colour)
        _key(axes, 1.6, line, f"v{i + 1}", colour)
        _arrow(axes, (1.37, line), (1.48, line), colour)
        _arrow(axes, (1.73, line), (2.08, middle), colour)
        _arrow(axes, (4.68, middle), (5.02, line), colour)
        _key(axes, 5.15, line, f"k{i + 1}", colour)
        _arrow(axes, (5.28, line), (5.4, line), colour)
        _row(axes, 5.44, line, words, colour)
    _box(axes, 2.1, middle, 0.2, 0.3, "+")
    _arrow(axes, (2.32, middle), (2.42, middle))
    for i in range(len(ROWS[0])):
        _box(axes, 2.44 + 0.1 * i, middle, 0.1, LINE, "")
    _arrow(axes, (2.76, middle), (2.86, middle))
    _box(axes, 2.88, middle, 1.1, 1.2, "Transformer\nencoder:\none row\nfor N")
    _arrow(axes, (4.0, middle), (4.1, middle))
    _box(axes, 4.12, middle, 0.54, 0.5, "MLP with\na key")
    names = {0.71: "N rows in", 2.1: "multiplexer:\nx key, summed", 3.43: "one pass"}
    names |= {4.72: "demultiplexer:\nits key, an MLP", 6.07: "N rows out"}
    for x, text in names.items():
        axes.text(x, 0.18, text, ha="center", va="center", fontsize=8)
    return figure


def _row(axes, left, middle, words, colour):
    for i, word in enumerate(words):
        _box(axes, left + i * TOKEN, middle, TOKEN, LINE, word, colour)


def _key(axes, x, y, name, colour):
    axes.text(
        *(x, y, name),
        **{"color": colour, "ha": "center", "va": "center", "fontsize": 8},
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": colour},
    )


def _box(axes, left, middle, width, height, text, colour="black"):
    corner = (left, middle - height / 2)
    axes.add_patch(Rectangle(corner, width, height, facecolor="white", edgecolor=colour))
    at = (left + width / 2, middle)
    axes.text(*at, text, color=colour, ha="center", va="center", fontsize=7)


def _arrow(axes, start, end, colour="black"):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="->", mutation_scale=6, color=colour))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        draw(Path(name))
