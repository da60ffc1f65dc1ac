"""How every chart looks, and what draws it: the dashboard's colours, on dark, on white, on paper.

    traces, layout ──► figure_of ──► plotly Figure ──► JSON for a browser, or part of a page
    plotly_js ──► the JavaScript of the installed plotly, for whoever serves or embeds it

A figure has no background of its own, and greys that can be read on black and on white: the page
around it chooses. Its texts may come from a venue; `plain` lets no markup of theirs through.
"""

import html
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from dydx_conn import ConnError, printable
from dydx_panels import COLOURS

from bot.system import absent

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trace = dict[str, Any]

GREY: Final = COLOURS["dim"]
GRID: Final = "rgba(140, 140, 140, 0.22)"
CLEAR: Final = "rgba(0, 0, 0, 0)"
# In the order in which they differ best; red is for danger alone.
SERIES: Final = tuple(COLOURS[name] for name in ("up", "watch", "good", "down", "accent", "dim"))
FONT: Final = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
HEIGHT: Final = 280  # pixels
MARGIN: Final = {"l": 8, "r": 8, "t": 8, "b": 8}
_LEGEND: Final = 30  # pixels above a chart
MS: Final = 1_000_000  # nanoseconds


def require_plotly(wanted: str) -> None:
    """Refuse where there is nothing to draw with, and name how to get it; `wanted` needs it."""
    if words := absent("web", wanted):
        raise ConnError(words)


@cache
def plotly_js() -> str:
    """Return the JavaScript of the installed plotly, five million letters; it loads nothing."""
    require_plotly("charts")
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def figure_of(traces: Sequence[Trace], title: str = "", **layout: Any) -> "Figure":
    """Return a figure of traces in the one style; `layout` goes over it, a key at a time.

    `title` names it for whoever cannot see it; a page has its own heading.
    """
    from plotly.graph_objects import Figure

    named = layout.pop("showlegend", len(traces) > 1)
    margin = layout.pop("margin", MARGIN) | ({"t": _LEGEND} if named else {})
    style: dict[str, Any] = {
        "template": {}, "height": HEIGHT, "autosize": True, "meta": {"title": title},
        # What somebody has zoomed into stays so when newer data come.
        "uirevision": title, "margin": margin, "showlegend": named,
        "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "colorway": list(SERIES),
        "font": {"family": FONT, "size": 12, "color": GREY},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "#11161b", "bordercolor": COLOURS["faint"],
            "font": {"color": COLOURS["key"]},
        },
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom",
            "bgcolor": CLEAR, "font": {"size": 11}, "itemwidth": 30,
        },
        "xaxis": axis(), "yaxis": axis(side="right"),
        "dragmode": "zoom", "barcornerradius": 2,
    }  # fmt: skip
    return Figure(data=list(traces), layout=style | layout)


def axis(**more: Any) -> dict[str, Any]:
    """Return an axis in the one style, with room for its own labels."""
    return {
        "gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True,
        "ticks": "", "showgrid": True, "zeroline": False,
    } | more  # fmt: skip


def time_axis(**more: Any) -> dict[str, Any]:
    """Return an axis of event time, UTC."""
    return axis(type="date", hoverformat="%Y-%m-%d %H:%M:%S", showgrid=False, **more)


def instants(at: Sequence[int]) -> list[int]:
    """Return times in ns as a time axis takes them: ms since 1970, UTC."""
    return [one // MS for one in at]


def rounded(values: Sequence[float | None], digits: int) -> list[float | None]:
    """Round values, so that a page is no larger than it is exact; what is unknown stays None."""
    return [None if value is None else round(value, digits) for value in values]


def level(value: float, words: str, colour: str) -> dict[str, Any]:
    """Return a line across a chart at a value with its name, as a shape of a layout."""
    return {
        "type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y",
        "y0": value, "y1": value, "line": {"color": colour, "width": 1, "dash": "dash"},
        "label": {
            "text": plain(words), "textposition": "start", "yanchor": "bottom",
            "font": {"size": 11, "color": colour},
        },
    }  # fmt: skip


def tinted(colour: str, opacity: float) -> str:
    """Return a colour #rrggbb that lets through what is below it.

    >>> tinted("#ff5548", 0.25)
    'rgba(255, 85, 72, 0.25)'
    """
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def plain(text: object) -> str:
    """Return a text that plotly and HTML draw letter by letter, whatever it holds."""
    return html.escape(printable(str(text)))
