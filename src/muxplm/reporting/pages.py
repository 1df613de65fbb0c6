"""Pages of HTML, from the templates beside this file."""

from itertools import groupby
from pathlib import Path

import jinja2

from muxplm.reporting.layout import PAPER, Layout


def render(template: str, **values) -> str:
    """The template with `values`, which may be any text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template).render(**values)


def table_page(title: str, layout: Layout) -> str:
    """The table as a page of its own: its blocks apart, the paper's numbers in grey."""
    columns = list(layout.cells.columns)
    storeys = any(upper and lower for upper, lower in columns)
    rows = [
        [
            {"text": cell, "bold": bold, "paper": PAPER in (lower, *cells)}
            for (_, lower), cell, bold in zip(columns, cells, bolds, strict=True)
        ]
        for cells, bolds in zip(layout.cells.to_numpy(), layout.bold.to_numpy(), strict=True)
    ]
    blocks = groupby(zip(layout.blocks, rows, strict=True), key=lambda pair: pair[0])
    return render(
        "table.html.jinja",
        title=title,
        caption=layout.caption,
        upper=[(name, len(list(of))) for name, of in groupby(upper for upper, _ in columns)],
        storeys=storeys,
        lower=[lower if storeys else upper or lower for upper, lower in columns],
        blocks=[(layout.headings.get(block), [row for _, row in of]) for block, of in blocks],
    )
