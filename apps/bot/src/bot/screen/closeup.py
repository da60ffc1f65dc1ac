"""What a panel that is shown alone has beside the dashboard's: copied for it, and for no other.

    DataState, Shown ──► closeup(panel) ──► parts of a dydx_panels.Snapshot

Some of it costs, as the volume of an hour by price: nobody pays for what nobody looks at.
"""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from dydx_data import (
    WINDOWS,
    Candle,
    Candles,
    Flow,
    MarketView,
    book_depths,
    funding_outlook,
    price_ranges,
)
from dydx_panels import (
    CandleRow,
    CandlesPart,
    FillMark,
    FlowPart,
    FlowRow,
    FundingRow,
    PriceRow,
    PricesPart,
    ScoreHistory,
)
from msgspec.structs import replace

from bot.run.composition import Bot, untrace
from bot.screen.allocation import strategies
from bot.screen.health import health_of
from bot.screen.link import link_of
from bot.screen.walks import margins, performance, walk
from bot.screen.way import way_of

TRADES: Final = 60
_HOUR_S: Final = 3_600.0
_CLOSES: Final = 120


def closeup(bot: Bot, panel: str, ticker: str) -> dict[str, Any]:
    """Return the parts of a snapshot that a panel alone shows; `ticker` is the market shown.

    The way of the frames is noted while a panel shows it, and no longer, but where it is shown
    elsewhere (`Way.elsewhere`).
    """
    if panel in _TRACED:
        return {"way": way_of(bot, whole=panel == "way")}
    if bot.shown.way is not None and not bot.shown.way.elsewhere:
        untrace(bot)
    if panel in _OF_RUN:  # before there is a market, too
        return {_FIELDS.get(panel, panel): _OF_RUN[panel](bot)}
    make = _PARTS.get(panel)
    view = bot.data.views.get(ticker)
    if make is None or view is None:
        return {}
    return {panel: make(bot, view)}


def candles_of(bot: Bot, ticker: str, resolution: str = "") -> CandlesPart:
    """Return a market's candles, of the first resolution if none is named, and our fills there."""
    view = bot.data.views.get(ticker)
    if view is None or not view.candles:
        return CandlesPart()
    resolution = resolution or next(iter(view.candles))
    candles = view.candles[resolution]
    units = 10.0**-candles.places, 10.0 ** _resolution(view)
    ended = min(len(candles), candles.capacity) - _GROWING
    newest = (_candle(*units, candles[n]) for n in range(max(ended, 0), len(candles)))
    # What is over seldom changes, and to copy four hours takes longer than to draw them.
    rows = _ended(candles, candles.started_at, candles.reported_at, max(ended, 0), units)
    return CandlesPart(
        ticker=view.ticker,
        market=view.market,
        resolution=resolution,
        rows=(*rows, *newest),
        fills=tuple(FillMark(*fill) for fill in bot.shown.fills.get(ticker, ())),
    )


_GROWING: Final = 2  # candles that late trades may still change


@lru_cache(maxsize=8)
def _ended(
    candles: Candles, newest_ns: int, reported_ns: int, count: int, units: tuple[float, float]
) -> tuple[CandleRow, ...]:
    return tuple(_candle(*units, candles[n]) for n in range(count))


def _resolution(view: MarketView) -> int:
    return view.market.atomic_resolution if view.market else 0


def _candle(price: float, size: float, candle: Candle) -> CandleRow:
    return CandleRow(
        started_at=candle.started_at,
        open=candle.open * price,
        high=candle.high * price,
        low=candle.low * price,
        close=candle.close * price,
        volume=candle.volume * size,
        usd=candle.usd_volume / 1e6,
        trades=candle.trades,
        state=candle.state,
    )


def _flow(bot: Bot, view: MarketView) -> FlowPart:
    minutes = [_window(x.ticker, x.flow, "1MIN") for x in bot.shown.watched]
    return FlowPart(
        ticker=view.ticker,
        market=view.market,
        windows=tuple(_window(view.ticker, view.flow, name, whole=True) for name in WINDOWS),
        by_price=tuple((price, *sizes) for price, sizes in view.flow.by_price().items()),
        trades=tuple(list(view.trades)[: -TRADES - 1 : -1]),
        others=tuple(sorted(minutes, key=lambda row: -row.usd)[:TRADES]),
    )


def _window(ticker: str, flow: Flow, name: str, *, whole: bool = False) -> FlowRow:
    """Copy a window; its quantiles cost a sort of its trades."""
    window = flow.over(name)
    return FlowRow(
        ticker=ticker,
        window=name,
        trades=window.trades,
        buys=window.buys,
        sells=window.sells,
        usd=window.usd,
        liquidated=window.liquidated,
        vwap=window.vwap,
        largest=window.largest if whole else None,
        median=window.quantile(0.5) if whole else None,
        p99=window.quantile(0.99) if whole else None,
    )


def _prices(bot: Bot, view: MarketView) -> PricesPart:
    candles = view.candles.get("1MIN")
    return PricesPart(
        shown=_price(view),
        ranges=tuple(price_ranges(view)),
        depths=tuple(book_depths(view.book)),
        by_price=tuple((price, *sizes) for price, sizes in view.flow.by_price().items()),
        closes=tuple(candles.closes(_CLOSES)) if candles else (),
        markets=tuple(sorted(map(_price, bot.shown.watched), key=_busiest_first)),
    )


def _busiest_first(row: PriceRow) -> tuple[float, str]:
    return -(row.hour.usd if row.hour else 0.0), row.ticker


def _price(view: MarketView) -> PriceRow:
    return PriceRow(
        ticker=view.ticker,
        market=view.market,
        price=view.price,
        spread_bps=view.book.spread_bps,
        hour=next(iter(price_ranges(view, ("1HOUR",))), None),
        depth=next(iter(book_depths(view.book, (25,))), None),
        seq=view.book.seq,
    )


def _signals(bot: Bot, _: MarketView) -> tuple[ScoreHistory, ...]:
    """Return how the values of each score spread so far, and what each is to the strategy."""
    weights = getattr(getattr(bot.shown.strategy, "settings", None), "weights", {})
    known = weights if isinstance(weights, Mapping) else {}
    whole = math.fsum(known.values()) or 1.0
    return tuple(
        ScoreHistory(
            ticker=ticker,
            signal=signal,
            count=marks.count,
            points=tuple(marks.points),
            quantiles=(marks.low, *marks.quantiles((0.1, 0.5, 0.9)), marks.high),
            bins=tuple(marks.bins()),
            weight=known[signal] / whole if signal in known else None,
        )
        for ticker, curves in bot.shown.curves.items()
        for signal, marks in curves.items()
    )


def _funding(bot: Bot, _: MarketView) -> tuple[FundingRow, ...]:
    rows = map(_rate, bot.shown.watched)
    return tuple(sorted(rows, key=lambda row: -abs(row.venue_1h or 0.0)))


def _rate(view: MarketView) -> FundingRow:
    outlook, now_ns = funding_outlook(view), view.chain.time_ns
    row = FundingRow(
        ticker=view.ticker,
        venue_1h=view.funding.next_rate_1h if view.funding.known else None,
        seconds=_HOUR_S - now_ns / 1e9 % _HOUR_S if now_ns else None,
        history=tuple(view.premium.rates.values()),
        seq=view.funding.seq,
    )
    if outlook is None:
        return row
    return replace(
        row, predicted_1h=outlook.rate_1h, most_1h=outlook.clamp_ppm / 8e6,
        share=outlook.share_known, seconds=outlook.seconds_to_tick,
    )  # fmt: skip


# The parts that have another name than their panel.
_FIELDS: Final = {"margin": "margins", "positions": "margins", "decisions": "walk"}
_TRACED: Final = ("way", "speed")
_OF_RUN: Final[Mapping[str, Callable[[Bot], Any]]] = {
    "link": link_of, "health": health_of, "strategies": strategies, "walk": walk,
    "decisions": walk, "performance": performance, "margin": margins, "positions": margins,
}  # fmt: skip
_PARTS: Final[Mapping[str, Callable[[Bot, MarketView], Any]]] = {
    "flow": _flow,
    "funding": _funding,
    "prices": _prices,
    "signals": _signals,
}
