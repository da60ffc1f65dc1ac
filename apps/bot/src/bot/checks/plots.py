"""Calibrations as a page to look at: needs plotly, which `bot[web]` installs."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from dydx_conn import ConnError

from bot.checks.calibration import Calibration


def require_plotly() -> None:
    """Refuse where there is nothing to plot with, and say how to get it."""
    if importlib.util.find_spec("plotly") is None:
        raise ConnError("expected plotly to be installed for --html, got none: install bot[web]")


def write_html(found: Sequence[Calibration], head: Sequence[str], path: Path) -> None:
    """Write one page that needs nothing else: a reliability curve for each signal and horizon."""
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    signals = list(dict.fromkeys(one.signal for one in found))
    titles = [signal for signal in signals for _ in ("share of ups", "net move, bps")]
    figure: Figure = make_subplots(rows=len(signals), cols=2, subplot_titles=titles)
    for one in found:
        row, name = signals.index(one.signal) + 1, f"{one.signal} {one.horizon_s:g} s"
        scores = [bucket.score for bucket in one.curve]
        counts = [f"{bucket.count:,} scores" for bucket in one.curve]
        for column, values in (
            (1, [bucket.share_up for bucket in one.curve]),
            (2, [bucket.net_bps for bucket in one.curve]),
        ):
            line = Scatter(x=scores, y=values, text=counts, name=name, showlegend=column == 1)
            figure.add_trace(line, row=row, col=column)
    for row in range(1, len(signals) + 1):
        figure.add_shape(
            type="line", x0=0, x1=100, y0=0, y1=1, line_dash="dot", row=row, col=1
        )  # where a score would be a share
    figure.update_layout(title="<br>".join(head), height=320 * len(signals))
    figure.write_html(path, include_plotlyjs=True)
