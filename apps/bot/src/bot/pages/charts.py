"""What an account and its markets did, as figures of plotly: the shapes of the dashboard's panels.

    EquityPart  ──► equity, drawdown, exposure, distance
    CandlesPart ──► candles, with fills, what is held and where it is liquidated
    sums        ──► profits, costs, latencies

Every function takes frozen values and returns a figure; `figure.to_json()` is what a browser wants.
Money is USDC, times are event time in ns, sizes are base units, shares are fractions as everywhere
and percent on an axis. Between two points a line stays at the first: nothing is drawn that was not
measured, and what is unknown is a hole. Nothing here reads a run: who has one makes the values.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from dydx_panels import COLOURS, CandlesPart, EquityPart, FillMark
from dydx_risk import PositionFigures

from bot.pages.style import (
    MARGIN,
    SERIES,
    Trace,
    axis,
    figure_of,
    instants,
    level,
    plain,
    rounded,
    time_axis,
    tinted,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

UP: Final = COLOURS["up"]
DOWN: Final = COLOURS["down"]
DANGER: Final = COLOURS["danger"]
WATCH: Final = COLOURS["watch"]
ACCENT: Final = COLOURS["accent"]
GOOD: Final = COLOURS["good"]

# A distance is drawn at the top beyond so many times the highest level of the guard, unless it was
# never closer: then beyond so many times the closest.
_FAR: Final = 4.0
_ROOM: Final = 1.25
_ACT: Final = 0.06
# So much of their own height is left free at candles for a price of liquidation.
_NEAR: Final = 0.5
_LABELS: Final = 58  # pixels for those of an axis of values: charts below each other are in line

# === The account ===


def equity(part: EquityPart) -> "Figure":
    """Draw what the account was worth, its extremes between two points, and what was paid in."""
    at, colour = instants(part.at), _of_result(part)
    traces = [*_band(at, part.low, part.high, colour), _line(at, part.equity, "equity", colour)]
    if paid := _paid_in(part):
        dashed = {"color": ACCENT, "width": 1, "dash": "dash", "shape": "hv"}
        traces.append(_line(at, paid, part.since, ACCENT) | {"line": dashed})
    return figure_of(traces, "equity, USDC", **_over_time(at, ",.2f"))


def drawdown(part: EquityPart) -> "Figure":
    """Draw how far the account was below its peak, in percent of it, and the limit if there is."""
    at, below = instants(part.at), [-100 * fall for fall in part.fall]
    trace = _filled(_line(at, below, "below the peak", DOWN, 3), DOWN)
    most = part.most_fall
    limit = [] if most is None else [_across(at, -100 * most, f"entries stop {-100 * most:g} %")]
    axes = _over_time(at, ".2f", " %", most=0.0)
    return figure_of([trace, *limit], "drawdown, %", **axes)


def exposure(part: EquityPart, most: float | None = None) -> "Figure":
    """Draw how many times its equity the account held at most; `most` is the limit of it."""
    at = instants(part.at)
    times = [0.0 if leverage is None else leverage for leverage in part.leverage]
    trace = _filled(_line(at, times, "leverage", ACCENT, 3), ACCENT)
    limit = [] if most is None else [_across(at, most, f"limit {most:g}x", WATCH)]
    top = 1.08 * max([*times, most or 0.0, 1.0])
    axes = _over_time(at, ".2f", "x", least=0.0, most=top)
    return figure_of([trace, *limit], "leverage", **axes)


def distance(part: EquityPart, levels: Mapping[str, float] | None = None) -> "Figure":
    """Draw how far liquidation was, in percent, closest within each point.

    `levels` are those of the guard by their names, as shares; without them it is drawn where the
    guard leaves nothing. What is farther than the scale is at its top, and has its own number where
    somebody points at it; flat is a hole. The closest is always within the scale.
    """
    act, at = part.act_below or _ACT, instants(part.at)
    found = dict(levels or ({} if part.act_below is None else {"guard acts": part.act_below}))
    top = _scale(part.distance, max([act, *found.values()]))
    away = [None if one is None else 100 * min(max(one, 0.0), top) for one in part.distance]
    real = [None if one is None else 100 * one for one in part.distance]
    trace = _line(at, away, "distance", GOOD, 3)
    trace |= {"customdata": rounded(real, 2), "hovertemplate": "%{customdata:,.2f} %"}
    trace["showlegend"] = False
    dashes = ("dash", "dot", "dashdot")
    lines = [
        _across(at, 100 * share, f"{words} {100 * share:g} %", DANGER if share <= act else WATCH,
                dashes[n % len(dashes)])
        for n, (words, share) in enumerate(found.items())
    ]  # fmt: skip
    zone = [] if part.act_below is None else [_zone(0.0, 100 * act)]
    axes = _over_time(at, ".2f", " %", least=0.0, most=104 * top)
    return figure_of([trace, *lines], "distance to liquidation, %", shapes=zone, **axes)


def _scale(distances: Sequence[float | None], level: float) -> float:
    """Return up to which distance it is drawn, as a share."""
    known = [one for one in distances if one is not None]
    if not known:
        return _FAR * level
    return min(max(*known, 1.5 * level), max(_FAR * level, _ROOM * min(known)))


def _of_result(part: EquityPart) -> str:
    if not part.equity or part.deposited is None:
        return ACCENT
    return UP if part.equity[-1] >= part.deposited else DOWN


def _paid_in(part: EquityPart) -> list[float]:
    """Return what was paid in so far at each point: what the profit is not."""
    if part.deposited is None or not part.equity:
        return []
    before = [worth - won for worth, won in zip(part.equity, part.profit, strict=True)]
    return [part.deposited + one - before[-1] for one in before]


def _band(at: list[int], low: Sequence[float], high: Sequence[float], colour: str) -> list[Trace]:
    bare: Trace = {
        "type": "scatter", "mode": "lines", "line": {"width": 0, "shape": "hv"}, "x": at,
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    above = {"y": rounded(high, 2), "fill": "tonexty", "fillcolor": tinted(colour, 0.22)}
    return [bare | {"y": rounded(low, 2)}, bare | above]


def _line(
    at: list[int], values: Sequence[float | None], name: str, colour: str, digits: int = 2
) -> Trace:
    return {
        "type": "scatter", "mode": "lines", "x": at, "y": rounded(values, digits), "name": name,
        "line": {"color": colour, "width": 2, "shape": "hv"}, "connectgaps": False,
    }  # fmt: skip


def _filled(trace: Trace, colour: str) -> Trace:
    """Return a line with the area to zero; a chart that has it alone is named by its heading."""
    return trace | {
        "fill": "tozeroy", "fillcolor": tinted(colour, 0.25), "showlegend": False,
    }  # fmt: skip


def _across(
    at: list[int], value: float, words: str, colour: str = DANGER, dash: str = "dash"
) -> Trace:
    """Return a line across a chart at a value, which its legend names: no text lies on the data."""
    return {
        "type": "scatter", "mode": "lines", "name": plain(words), "hoverinfo": "skip",
        "x": [at[0], at[-1]] if at else [], "y": [round(value, 6)] * 2 if at else [],
        "line": {"color": colour, "width": 1, "dash": dash},
    }  # fmt: skip


def _zone(low: float, high: float) -> dict[str, Any]:
    return {
        "type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": low, "y1": high,
        "fillcolor": tinted(DANGER, 0.12), "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _over_time(
    at: list[int],
    form: str,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
) -> dict[str, Any]:
    """Return the axes of a chart over time; `least` and `most` are where its values end.

    Charts of one run have one axis of time, also where there is nothing to draw.
    """
    bounds: dict[str, Any] = {}
    if least is not None and most is not None:
        bounds = {"range": [least, most]}
    elif least is not None or most is not None:
        bounds = {"rangemode": "tozero"}
    of_values = axis(side="right", hoverformat=form, tickformat=",~r", ticksuffix=unit, **bounds)
    span = {"range": [at[0], at[-1]]} if len(at) > 1 else {}
    # Few enough that none has to be turned, also on a phone.
    of_time = time_axis(nticks=6, tickangle=0, **span)
    return {"xaxis": of_time, "yaxis": of_values, "margin": MARGIN | {"r": _LABELS}}


# === Markets ===


def candles(
    part: CandlesPart,
    held: PositionFigures | None = None,
    liquidation: Sequence[tuple[int, float | None]] = (),
    focus: tuple[int, int] | None = None,
) -> "Figure":
    """Draw a market's candles over their volume, with our fills and what is `held` now.

    `liquidation` are event times and the prices at which the position would have been liquidated,
    None where none would. `focus` is from when to when (ns) it is shown. A candle that lacks trades
    says so.
    """
    since, until = focus or (0, 2**63)
    rows = [row for row in part.rows if min(row.prices) > 0 and since <= row.started_at < until]
    at = instants([row.started_at for row in rows])
    period = {"xperiod": _period_ms(at), "xperiodalignment": "middle"}
    traces = [_candles(rows, at) | period, _volumes(rows, at) | period, *_fills(part.fills)]
    marks = [] if held is None else [
        level(float(price), words, colour)
        for price, words, colour in ((held.entry_price, "entry", ACCENT),
                                     (held.liquidation_price, "liquidation", DANGER))
        if price and price > 0
    ]  # fmt: skip
    shown = {} if focus is None else {"range": instants(focus), "autorange": False}
    prices = [price for _, price in liquidation]
    ends, seen = _reach(rows, part.fills, prices)
    if seen:
        moments = instants([at for at, _ in liquidation])
        traces.append(_line(moments, prices, "liquidation price", DANGER, 6))
    return figure_of(
        traces, f"{plain(part.ticker)}, {plain(part.resolution)}", shapes=marks, height=420,
        annotations=[] if seen else _far_away(prices),
        xaxis=time_axis(rangeslider={"visible": False}, anchor="y2", **shown),
        yaxis=axis(side="right", domain=[0.2, 1.0], hoverformat=",.8~g", tickformat=",~r", **ends),
        yaxis2=axis(side="right", domain=[0.0, 0.15], showgrid=False, nticks=3,
                    rangemode="tozero", tickformat="~s"),
        hovermode="closest",
    )  # fmt: skip


def _reach(
    rows: Sequence[Any], fills: Sequence[FillMark], liquidation: Sequence[float | None]
) -> tuple[dict[str, Any], bool]:
    """Return which prices are shown, and whether one of liquidation is among them.

    It is as far as candles stay tall enough to be read: no farther than half as they are tall.
    """
    ends = [end for row in rows for end in row.prices[1:3]] + [fill.price for fill in fills]
    if not ends:
        return {}, bool(liquidation)
    low, high = min(ends), max(ends)
    tall = max(high - low, high * 1e-4)
    room = _NEAR * tall
    near = [p for p in liquidation if p is not None and low - room <= p <= high + room]
    low, high = min([low, *near]), max([high, *near])
    return {"range": [low - 0.04 * tall, high + 0.04 * tall]}, bool(near)


def _far_away(liquidation: Sequence[float | None]) -> list[dict[str, Any]]:
    """Return in words at which prices it was, where the chart does not reach them."""
    known = [price for price in liquidation if price is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    words = f"{low:,.6g}" if low == high else f"{low:,.6g} to {high:,.6g}"
    return [{
        "text": f"liquidation price {words}: beyond this scale", "showarrow": False,
        "xref": "paper", "yref": "paper", "x": 0, "y": 0.2, "xanchor": "left",
        "yanchor": "bottom", "font": {"size": 12, "color": DANGER},
    }]  # fmt: skip


def _period_ms(at: Sequence[int]) -> int:
    """Return how long a candle is: of those that follow on each other the least."""
    return min((later - one for one, later in pairwise(at) if later > one), default=60_000)


def _candles(rows: Sequence[Any], at: list[int]) -> Trace:
    names = ("open", "high", "low", "close")
    prices = zip(*(row.prices for row in rows), strict=True) if rows else ((),) * 4
    ends = {name: rounded(values, 10) for name, values in zip(names, prices, strict=True)}
    return {
        "type": "candlestick", "x": at, "name": "candles", "showlegend": False, **ends,
        "text": ["" if row.state == "venue" else str(row.state) for row in rows],
        "increasing": {"line": {"color": UP, "width": 1}, "fillcolor": UP},
        "decreasing": {"line": {"color": DOWN, "width": 1}, "fillcolor": DOWN},
    }  # fmt: skip


def _volumes(rows: Sequence[Any], at: list[int]) -> Trace:
    colours = [UP if row.close >= row.open else DOWN for row in rows]
    return {
        "type": "bar", "x": at, "y": rounded([row.usd for row in rows], 0), "yaxis": "y2",
        "name": "USDC traded", "showlegend": False,
        "hovertemplate": "%{y:,.0f} USDC<extra></extra>",
        "marker": {"color": [tinted(colour, 0.55) for colour in colours], "line": {"width": 0}},
    }  # fmt: skip


# What leaves a position has the one colour that no candle has.
_SIGNS: Final = {
    ("BUY", False): ("bought", "triangle-up", UP),
    ("SELL", False): ("sold", "triangle-down", DOWN),
    ("BUY", True): ("bought to get out", "triangle-up", WATCH),
    ("SELL", True): ("sold to get out", "triangle-down", WATCH),
}
_EDGE: Final = {"color": "#0b0f13", "width": 1}


def _fills(fills: Sequence[FillMark]) -> list[Trace]:
    traces = []
    for kind, (words, symbol, colour) in _SIGNS.items():
        those = [fill for fill in fills if (fill.side, fill.is_exit) == kind]
        if not those:
            continue
        traces.append({
            "type": "scatter", "mode": "markers", "name": words,
            "x": instants([fill.at for fill in those]), "y": [fill.price for fill in those],
            "text": [f"{words} {fill.size:,.10g} at {fill.price:,.10g}" for fill in those],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"symbol": symbol, "size": 11, "color": colour, "line": _EDGE},
        })  # fmt: skip
    return traces


# === Sums ===


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
