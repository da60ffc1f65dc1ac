"""Sums as bars, in figures of plotly: what markets won, what was paid, how long frames take.

    sums by name ──► profits, costs, latencies

Money is USDC; a name may come from a venue, and is drawn letter by letter.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bot.pages.charts import DOWN, UP
from bot.pages.style import SERIES, axis, figure_of, plain, rounded

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def profits(by_market: Mapping[str, float]) -> "Figure":
    """Draw what each market won or lost, USDC, the best first."""
    rows = sorted(by_market.items(), key=lambda row: row[1])
    return _bars([name for name, _ in rows], [value for _, value in rows], "profit, USDC")


def costs(by_kind: Mapping[str, float]) -> "Figure":
    """Draw what was paid by kind, USDC; what is negative was received."""
    rows = [*by_kind.items()][::-1]
    return _bars([name for name, _ in rows], [-value for _, value in rows], "costs, USDC")


def _bars(names: Sequence[str], values: Sequence[float], title: str) -> "Figure":
    trace = {
        "type": "bar", "orientation": "h", "y": [plain(name) for name in names],
        "x": rounded(values, 6), "text": [f"{value:+,.2f}" for value in values],
        "textposition": "auto", "hovertemplate": "%{y} %{x:+,.6f} USDC<extra></extra>",
        "marker": {"color": [UP if value >= 0 else DOWN for value in values]},
    }  # fmt: skip
    return figure_of(
        [trace], title, height=max(70 + 30 * len(names), 130), hovermode="closest",
        xaxis=axis(zeroline=True, tickformat=",~g"),
        yaxis=axis(side="left", showgrid=False, type="category"),
    )  # fmt: skip


def latencies(by_stage: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Draw what frames take by stage: µs by the name of a percentile (p50, p99 …), a bar each."""
    names = [plain(stage) for stage in by_stage]
    shares = list(dict.fromkeys(share for found in by_stage.values() for share in found))
    traces = [
        {
            "type": "bar", "orientation": "h", "name": share, "y": names,
            "x": [found.get(share) for found in by_stage.values()],
            "marker": {"color": SERIES[n % len(SERIES)]},
            "hovertemplate": f"%{{y}} {plain(share)} %{{x:,.1f}} µs<extra></extra>",
        }
        for n, share in enumerate(shares)
    ]  # fmt: skip
    return figure_of(
        traces, "latency, µs", height=max(60 + 11 * len(names) * max(len(shares), 1), 160),
        hovermode="closest", barmode="group", showlegend=True,
        xaxis=axis(type="log", ticksuffix=" µs", tickformat=",~g", dtick=1),
        yaxis=axis(side="left", showgrid=False, type="category", autorange="reversed"),
    )  # fmt: skip
