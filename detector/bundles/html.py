"""HTML pages with their plots inside: nothing else to ship, nothing to fetch."""

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from detector.extras import how_to_install

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #1c2733; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #d9dfe5; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
.note { color: #52606d; }
"""


class ReportError(RuntimeError):
    """The page cannot be drawn; the message says what to do."""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML already."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def plot(draw: Callable[["Axes"], None], height: float = 3.6) -> str:
    """Return what ``draw`` draws as SVG, so many inches high.

    Raises:
        ReportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ReportError(f"plots need matplotlib: {how_to_install('report')}") from error
    # The figure itself, without pyplot: no global state, no display.
    figure = Figure(figsize=(6.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.grid(alpha=0.3)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def table(head: Sequence[tuple[str, ...]], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table of texts; an empty head is left out."""

    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    titles = "".join(line(cells, "th") for cells in head if any(cells))
    return f"<table>{titles}{''.join(line(cells, 'td') for cells in rows)}</table>"
