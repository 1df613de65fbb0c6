"""Labels beside points, where they cover no marker, no other label and as little ink as can be."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox

# Where a label may stand around its point, the best first, and how far away (points of 1/72 inch).
SIDES = ((1, 1), (-1, -1), (1, -1), (-1, 1), (1, 0), (-1, 0), (0, 1), (0, -1))
DISTANCES = (2.5, 5.0, 8.0, 12.0)


def label_points(axis: Axes, labels: list[tuple[float, float, str, str]]):
    """Writes each (x, y, text, colour) beside its point (x, y), in data coordinates.

    Call it last: it reads off where everything else of the figure came to stand.
    """
    figure = axis.figure
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    taken, ink = marker_boxes(axis), _ink(axis)
    for x, y, text, colour in labels:
        dark = [0.75 * part for part in to_rgb(colour)]  # thin strokes look paler than a marker
        look = {"ha": "center", "va": "center", "fontsize": 6.5, "color": dark}
        label = axis.annotate(text, (x, y), (0, 0), textcoords="offset points", **look)
        label.set_in_layout(False)  # the layout is settled
        size = np.array(label.get_window_extent().size)
        point = axis.transData.transform((x, y))

        def box_at(place, size=size, point=point):
            distance, side = place
            centre = point + np.multiply(side, distance * pixels + size / 2)
            return Bbox([centre - size / 2, centre + size / 2])

        def cost(place, box_at=box_at):
            box = box_at(place)
            outside = not (axis.bbox.containsx(box.x0) and axis.bbox.containsx(box.x1))
            outside |= not (axis.bbox.containsy(box.y0) and axis.bbox.containsy(box.y1))
            covered = box.count_overlaps(taken) + outside
            return covered, box.count_contains(ink) > 0, place[0]

        best = min(product(DISTANCES, SIDES), key=cost)
        taken.append(box_at(best))
        label.xyann = tuple(np.multiply(best[1], best[0] + size / 2 / pixels))


def marker_boxes(axis: Axes) -> list[Bbox]:
    """What the markers of an axis cover, in pixels."""
    boxes = []
    for line in axis.get_lines():
        if line.get_marker() in ("", "None", None, "_", "|"):
            continue  # the caps of error bars are ink
        half = line.get_markersize() / 2 * axis.figure.dpi / 72
        boxes += [
            Bbox([point - half, point + half])
            for point in axis.transData.transform(line.get_xydata())
        ]
    return boxes


def _ink(axis: Axes) -> np.ndarray:
    """Points (P, 2), in pixels, along the lines and error bars of an axis."""
    paths = [line.get_path() for line in axis.get_lines() if line.get_linestyle() != "None"]
    for collection in axis.collections:
        if isinstance(collection, LineCollection):
            paths += collection.get_paths()
    shown = [axis.transData.transform_path(path).interpolated(100) for path in paths]
    return np.concatenate([np.empty((0, 2)), *(path.vertices for path in shown)])
