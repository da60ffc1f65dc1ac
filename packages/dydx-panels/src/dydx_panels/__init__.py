"""The screen: what the bot sees, is doing and why, drawn from one immutable snapshot.

    live state ── the bot copies ──► Snapshot ──► panel(name) ──► Picture ──► Dashboard.draw
    keys ──────────────────────────► View ────────┘

Panels are pure functions of a `Snapshot`, of the `View` that the person chose, and of a size:
(snapshot, view, width, height) of the inside -> rows, or a table. All of them show figures beside
real samples, each with the frame that it came from. The sections, in order:

- Errors: `PanelError`.
- Account parts, Market parts, Program parts, Trading parts: what the bot copies for each panel; a
  new figure starts in the layer that computes it, and bot.screen.snapshot copies it here.
- Snapshot: `Snapshot`, all of these, and `View`, what the person chose.
- Words: `wording`, what a trader reads for the code's words, and the style of a state.
- Theme: `Theme`; rows of (text, style name) become segments of one exact width.
- Figures: numbers, moments, bars, histories and block digits as text; `worded` inputs of a score.
- Side by side, Tables: figures on a row; lists with columns, a filter and a selected row.
- Charts: series over time in dots, with axes, marks and points.
- Markets and signals: what is seen, and how each engine scores it.
- Decisions and tape: what was wanted, and all that happened in order.
- Orders: each as it stands, what of it was filled at which cost, and why the rest was not.
- Strategies: what each wants, was allowed and has; one decision from its inputs to its verdict.
- Decision walk: one decision from its scores to its fills, to be worked out again by hand.
- Performance: what the trades came to, one by one and together, and what fills cost against mid.
- Paper venue: how far the fills can be believed, and how the account did.
- Connection: each link, its states and pings, REST by endpoint, rates by channel and market.
- Health: what the program needs, takes and writes, and by which settings it runs.
- Way of the data: one frame before and after each layer, and what each layer takes.
- Book, quality, speed and wire: one market's book, troubles, costs, and frames as they came.
- Candles and flow: one market's candles, drawn and listed; what takers bought and sold.
- Prices: ranges, volatility, volume and depth of one market, and of all of them.
- Funding and detectors: what holding will cost, and what else goes on in the markets.
- Safety, Positions: how far liquidation is, and how far from each position.
- Equity: what the account was worth over the run, what it fell, and how far liquidation was.
- Accounts: those that are watched, a row each.
- Margin: what each position requires, and every figure that a distance was computed from.
- Way out: the guard's ladder, rung by rung.
- Stress: what is left of the distance after every shock.
- Timeline: a whole recording in one row, with what happened where.
- Header and footer: `KEYS`; the first and the last row, the help, and why.
- Layout: which panels stand where on a screen of a size.
- Panels, Screen: which there are, what of each can be chosen (`selectable`, `sortable`, `detail`);
  `panel`, `dashboard`, `placed`: how they become a `Picture`, and what is on a cell (`spot`).
- Edges: `Dashboard` writes the rows that changed, `Panel` those of one; `run_panel`,
  `run_dashboard`, `export_svg`, `export_html`; `html_row`, `stylesheet`: rows for a page.

Units: money is USDC (quote quantums in the layers' values), sizes base units, fractions 0..1,
scores 0..100, times nanoseconds UTC. What is not known is None and is drawn as "unknown", never as
0. Red means danger alone; every colour stands beside a word or a sign, so that none is needed.
Nothing here computes a figure of risk, subscribes, reads a clock or touches live state; the edge
alone writes.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "PanelError",
    # Account parts
    "AccountRow", "EquityPart", "HeaderPart", "HeldCosts", "MarginRow", "PerformancePart",
    "ResultPart", "SafetyPart",
    # Market parts
    "BookPart", "CandleRow", "CandlesPart", "FillMark", "FlowPart", "FlowRow", "FundingRow",
    "MarketRow", "PriceRow", "PricesPart", "QualityPart", "QualityRow", "ScoreHistory",
    # Program parts
    "FeedRow", "HealthPart", "HealthRow", "LayerRow", "LimitRow", "LinkPart", "LinkRow", "RestRow",
    "SettingRow", "SpeedPart", "TurnRow", "WayChange", "WayPart", "WayStage", "WirePart",
    "Witnessed",
    # Trading parts
    "OrderRow", "StrategiesPart", "StrategyRow", "TapeRow", "TargetRow", "TimelinePart",
    "VenuePart", "WalkPart", "WalkRow",
    # Snapshot
    "Snapshot", "View",
    # Words
    "wording",
    # Theme
    "COLOURS", "Theme",
    # Figures
    "worded",
    # Header and footer
    "KEYS",
    # Panels
    "ABOUT", "PANELS", "detail", "selectable", "sortable",
    # Screen
    "Picture", "Placed", "Spot", "dashboard", "panel", "placed", "spot",
    # Edges
    "Dashboard", "Panel", "export_html", "export_svg", "html_row", "run_dashboard", "run_panel",
    "stylesheet",
]
# fmt: on

import contextlib
import io
import math
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache, partial
from html import escape
from itertools import groupby, islice, pairwise, zip_longest
from operator import attrgetter
from textwrap import wrap
from typing import Any, Final, NamedTuple, Self, TypeGuard, cast

import msgspec
from dydx_conn import Frame, PerpetualMarket
from dydx_data import LAG_NS, Depth, Detection, Level, PriceRange, Sample, Trade
from dydx_paper import Execution, ExecutionFigures, Performance, RoundTrip, TradeFigures
from dydx_risk import (
    MOVES_PERCENT,
    Approved,
    Bracket,
    Check,
    Denied,
    Exit,
    FlightPlan,
    Holding,
    LeverageAdvice,
    MarginFigures,
    MarginInputs,
    PositionFigures,
    Reduce,
    RiskFigures,
    Rung,
    Standing,
    StressCell,
    StressTable,
    Trigger,
    Verdict,
    Watch,
    Withdraw,
    due,
    percent_text,
    sign_text,
    usdc_text,
)
from dydx_signals import Score, worked
from dydx_strategy import Composite, Decision, Look, Ranked
from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment, Segments
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME

# === Errors ===
# One error for the caller: a panel's name that is none.


class PanelError(Exception):
    """A panel that does not exist: its message lists those that do."""


# === Account parts ===
# What the bot copies of an account: its worth, its distance to liquidation, and what came of it.
# Here and in the next three sections all is frozen all the way down: values alone, no streams.


class HeaderPart(msgspec.Struct, frozen=True, kw_only=True):
    """What is always on the first row; `speed` is the replay's, None when not a replay.

    `connection` begins with "live" while it is, and `link_why` is why it is not. `late_s` is for
    how long frames wait until they are folded, `waits_s` a request until a rate limit lets it go:
    None while that is nearly nothing.
    """

    mode: str = ""
    source: str = ""
    speed: float | None = None
    clock_ns: int | None = None
    connection: str = ""
    link_why: str = ""
    waits_s: float | None = None
    lag_p99_ms: float | None = None
    data_age_s: float | None = None
    late_s: float | None = None
    frames_per_s: float | None = None
    memory_mb: float | None = None
    cpu_percent: float | None = None
    run_hash: str = ""


class ResultPart(msgspec.Struct, frozen=True, kw_only=True):
    """What an account won or lost since the start, today and since its peak: quote quantums.

    What was paid in or out is none of it: `paid_in` is that, and `paid_words` since when. `fall` is
    how far the profit is below its peak now, `deepest` how far it ever was. The shares are of what
    was paid in, and of the equity when the day began and at the peak; `most_today` and `most_fall`
    are what they may be, None without a limit.
    """

    profit: int
    share: float
    paid_in: int
    paid_words: str = "deposited"
    today: int = 0
    today_share: float = 0.0
    fall: int = 0
    fall_share: float = 0.0
    deepest: int = 0
    deepest_share: float = 0.0
    most_today: float | None = None
    most_fall: float | None = None


class SafetyPart(msgspec.Struct, frozen=True, kw_only=True):
    """The account's margin, which holds the distance to liquidation, and the guard around it.

    Without `margin` the distance is not known, a danger while there are `positions`. `change` is
    that of the distance over a minute; without `act_below` there is no guard. `doubt` is why the
    prices of what is held are not those of now, and `doubt_s` for how long: then all of this is
    only what was known last. `advice`: nothing here acts, and the way out is what could be done.
    """

    margin: MarginFigures | None = None
    result: ResultPart | None = None
    doubt: str = ""
    doubt_s: float | None = None
    positions: int | None = None
    change: float | None = None
    closest: float | None = None
    act_below: float | None = None
    advice: bool = False
    last: Reduce | None = None
    history: tuple[float, ...] = ()

    @property
    def distance(self) -> float | None:
        """Return the distance as a fraction of adverse move; None if flat or unknown."""
        return None if self.margin is None else self.margin.distance


class EquityPart(msgspec.Struct, frozen=True, kw_only=True):
    """How the account went over the whole run: points oldest first, a tuple for each figure, USDC.

    `at` is event time, `seqs` the newest frame of each point, `low` and `high` are the extremes
    within it, `distance` the closest to liquidation, `leverage` the highest, `fall` the share of
    the equity at its peak that was lost; a point stands for `every_s`. `profit` is since the start
    of the run, `today` since the UTC day's, transfers aside; `deposited` is what it is measured by,
    which `since` words. `deepest` is how far the profit fell below its peak at most, `depth` how
    far it is below it now, with their shares, and with `leverage_now` as of the end of the last
    point; `most_fall` is what a fall may be, None without a limit, and `act_below` is the guard's.
    Where the account goes on from earlier runs their points have no frame, 0, and no profit.
    """

    at: tuple[int, ...] = ()
    seqs: tuple[int, ...] = ()
    equity: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    profit: tuple[float, ...] = ()
    fall: tuple[float, ...] = ()
    distance: tuple[float | None, ...] = ()
    leverage: tuple[float | None, ...] = ()
    every_s: float = 1.0
    deposited: float | None = None
    since: str = "deposited"
    today: float | None = None
    depth: float | None = None
    depth_share: float | None = None
    deepest: float | None = None
    deepest_share: float | None = None
    leverage_now: float | None = None
    most_fall: float | None = None
    act_below: float | None = None


class HeldCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What an open position has paid (negative) or was paid so far, and is owed: quote quantums.

    `owed` is funding that its next fill settles; None is not known.
    """

    ticker: str
    fees: int | None = None
    funding: int | None = None
    owed: int | None = None


class MarginRow(msgspec.Struct, frozen=True, kw_only=True):
    """One position's figures with what they are computed from; None cannot be valued."""

    figures: PositionFigures
    inputs: MarginInputs | None = None
    market: PerpetualMarket | None = None

    @property
    def ticker(self) -> str:
        """Return the market's name."""
        return self.figures.ticker


class PerformancePart(msgspec.Struct, frozen=True, kw_only=True):
    """What trading came to: the account, its trades and its fills; money in quote quantums.

    `performance` and `trades` are of a paper account, and None where orders go over the wire:
    there `won` and `lost` are counted alone, and `complete` is False where fills are missing.
    `executions` are the newest fills first, `costs` the figures of all that are remembered.
    """

    performance: Performance | None = None
    trades: TradeFigures | None = None
    costs: tuple[ExecutionFigures, ...] = ()
    executions: tuple[Execution, ...] = ()
    won: int = 0
    lost: int = 0
    fills: int = 0
    fees: int | None = None
    funding: int | None = None
    insurance: int | None = None
    queue: str = ""
    complete: bool = True


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """One account that is watched: USDC, and shares; `id` is its address and number, in whole.

    `profit` is since it is watched, `day` over the last 24 hours as the venue reports it. `block`
    is the chain's at which it is exact, None where the indexer alone is known, at `height`.
    `distance` is None where flat or unknown: then `trouble` has the reason. `due` is whether a step
    of its way out is, by the limits of the profile. `chosen` is what the other panels show, `lines`
    are its past in words.
    """

    id: str
    kind: str = "cross"
    equity: float | None = None
    profit: float | None = None
    day: float | None = None
    leverage: float | None = None
    distance: float | None = None
    positions: int | None = None
    orders: int | None = None
    block: int | None = None
    height: int | None = None
    trouble: str = ""
    due: bool = False
    chosen: bool = False
    lines: tuple[str, ...] = ()


# === Market parts ===
# What it copies of markets: books, troubles, candles, flow, prices and funding.


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market; `history` are closes, oldest first; `stale_s` is None while it is fresh.

    `curves` are the values of each signal so far, oldest first.
    """

    ticker: str
    market: PerpetualMarket | None = None
    price: float | None = None
    history: tuple[float, ...] = ()
    spread_bps: float | None = None
    volume_60s: float | None = None
    oracle: float | None = None
    funding_1h: float | None = None
    status: str = ""
    stale_s: float | None = None
    scores: tuple[Score, ...] = ()
    curves: Mapping[str, Sequence[float]] = {}


class ScoreHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one score so far, `count` of them: the newest as `points`, oldest first.

    `quantiles` are the least, p10, the median, p90 and the greatest, `bins` how many lie in each
    tenth of 0 to 100. `weight` is its share in the strategy's composite, None without one.
    """

    ticker: str
    signal: str
    count: int = 0
    points: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    bins: tuple[int, ...] = ()
    weight: float | None = None


class BookPart(msgspec.Struct, frozen=True, kw_only=True):
    """One market's book, best level first, with its newest trades.

    `depths` are what stands within some distances of the mid price, where the panel is alone.
    """

    ticker: str = ""
    market: PerpetualMarket | None = None
    known: bool = False
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    mid_price: float | None = None
    spread_bps: float | None = None
    crossed: int = 0
    seq: int = 0
    trades: tuple[Trade, ...] = ()
    depths: tuple[Depth, ...] = ()


class QualityRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far one market's data can be believed: troubles, and ages in seconds by source.

    `complete` is the share of its sources that there is anything of. `why` stands against it;
    `known` is the share of time in which it could be traded, and `lag_p99_ms` from the venue's
    stamp of a trade to its receipt.
    """

    ticker: str
    why: str = ""
    complete: float | None = None
    known: float | None = None
    messages_s: float | None = None
    expected_s: float | None = None
    lag_p99_ms: float | None = None
    counts: tuple[tuple[str, int], ...] = ()
    ages: tuple[tuple[str, float | None], ...] = ()

    @property
    def troubles(self) -> int:
        """Return how many troubles there were."""
        return sum(count for _, count in self.counts)  # integers


class QualityPart(msgspec.Struct, frozen=True, kw_only=True):
    """Troubles counted by kind, real samples of them, newest first, and the stale markets.

    `markets` are all of them, the worst first, where the panel is shown alone.
    """

    counts: tuple[tuple[str, int], ...] = ()
    samples: tuple[Sample, ...] = ()
    stale: tuple[str, ...] = ()
    markets: tuple[QualityRow, ...] = ()


class CandleRow(msgspec.Struct, frozen=True):
    """One candle: prices in USDC, volume in base units; `state` as dydx_data names it."""

    started_at: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    usd: float
    trades: int
    state: str = ""

    @property
    def prices(self) -> tuple[float, float, float, float]:
        """Return open, high, low and close, of which high and low are the outermost."""
        four = self.open, self.high, self.low, self.close
        return self.open, max(four), min(four), self.close


class FillMark(msgspec.Struct, frozen=True):
    """A fill of ours on a market's chart: base units, USDC; `is_exit` if less was held after it."""

    at: int
    side: str
    price: float
    size: float
    is_exit: bool = False
    seq: int = 0


class CandlesPart(msgspec.Struct, frozen=True, kw_only=True):
    """One market's candles of one resolution and its fills of ours, oldest first."""

    ticker: str = ""
    market: PerpetualMarket | None = None
    resolution: str = ""
    rows: tuple[CandleRow, ...] = ()
    fills: tuple[FillMark, ...] = ()


class FlowRow(msgspec.Struct, frozen=True, kw_only=True):
    """What takers traded in one window: base units, and `usd`; `liquidated` is a share of it."""

    ticker: str
    window: str
    trades: int = 0
    buys: float = 0.0
    sells: float = 0.0
    usd: float = 0.0
    liquidated: float = 0.0
    vwap: float | None = None
    largest: float | None = None
    median: float | None = None
    p99: float | None = None

    @property
    def delta(self) -> float:
        """Return what was bought less what was sold."""
        return self.buys - self.sells

    @property
    def bought(self) -> float | None:
        """Return the share that was bought; None without trades."""
        size = self.buys + self.sells
        return self.buys / size if size else None


class FlowPart(msgspec.Struct, frozen=True, kw_only=True):
    """One market's windows, its hour by price (price, bought, sold), its newest trades first.

    `others` are the last minute of all markets, the busiest first.
    """

    ticker: str = ""
    market: PerpetualMarket | None = None
    windows: tuple[FlowRow, ...] = ()
    by_price: tuple[tuple[float, float, float], ...] = ()
    trades: tuple[Trade, ...] = ()
    others: tuple[FlowRow, ...] = ()


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market's price, how it went in the last hour, and what stands around it.

    `depth` is what stands within 25 basis points, `seq` the frame of the newest book.
    """

    ticker: str
    market: PerpetualMarket | None = None
    price: float | None = None
    spread_bps: float | None = None
    hour: PriceRange | None = None
    depth: Depth | None = None
    seq: int = 0


class PricesPart(msgspec.Struct, frozen=True, kw_only=True):
    """One market's ranges by span, its depth by distance, its hour by price, beside all markets.

    `by_price` is (price, bought, sold), `closes` are of the last hours, oldest first.
    """

    shown: PriceRow = PriceRow(ticker="")
    ranges: tuple[PriceRange, ...] = ()
    depths: tuple[Depth, ...] = ()
    by_price: tuple[tuple[float, float, float], ...] = ()
    closes: tuple[float, ...] = ()
    markets: tuple[PriceRow, ...] = ()


class FundingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One market's funding; rates are fractions per hour, positive if longs pay.

    `venue_1h` is the venue's figure, `predicted_1h` our own, of which `share` of the hour's samples
    is known; `most_1h` is the clamp. `history` are hourly rates, oldest first, `seq` the frame of
    the venue's.
    """

    ticker: str
    venue_1h: float | None = None
    predicted_1h: float | None = None
    most_1h: float | None = None
    share: float | None = None
    seconds: float | None = None
    history: tuple[float, ...] = ()
    seq: int = 0


# === Program parts ===
# What it copies of itself: its connections, its speed, its health, and what frames came to.


class SpeedPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame costs, at percentiles in microseconds, and how many came in each second."""

    latency_us: tuple[tuple[str, float], ...] = ()
    throughput: tuple[float, ...] = ()
    draw_ms: float | None = None


class LinkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: its state, why and for how long, what came by it, and its pings in ms."""

    link: str
    state: str = ""
    reason: str = ""
    since_s: float | None = None
    silent_s: float | None = None
    frames: int = 0
    losses: int = 0
    pings_ms: tuple[tuple[str, float], ...] = ()


class TurnRow(msgspec.Struct, frozen=True):
    """One change of a connection's state, and for how long the new one lasted, if it is over."""

    at: int
    link: str
    was: str
    state: str
    reason: str
    lasted_s: float | None = None
    seq: int = 0


class RestRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one endpoint of REST answers: `took_ms` at percentiles, failures by class.

    Of a recording the answers are known, and no more: the rest is None.
    """

    endpoint: str
    answered: int = 0
    requested: int | None = None
    per_minute: float | None = None
    took_ms: tuple[tuple[str, float], ...] = ()
    errors: tuple[tuple[str, int], ...] = ()
    retried: int = 0
    circuit: str = ""
    retry_in_s: float | None = None
    good_age_s: float | None = None


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """How requests that share a rate limit stand: how many may be sent, what waits, how long.

    `limited` counts the venue's refusals, 429, `waited_s` all the time that requests waited.
    """

    group: str
    limit: int = 0
    left: int = 0
    queued: int = 0
    wait_s: float = 0.0
    waits: int = 0
    waited_s: float = 0.0
    limited: int = 0


class FeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one channel and market: how many frames, and how many a second of late."""

    channel: str
    ticker: str = ""
    frames: int = 0
    per_s: float | None = None


class LinkPart(msgspec.Struct, frozen=True, kw_only=True):
    """The connections: together and each, what they were before, REST, and what comes by them.

    `lag_ms` is from the venue's stamp of a trade to its receipt, of all markets, at percentiles;
    `block_ms` the same of the newest block. `errors` are (where, what, how often).
    """

    state: str = ""
    reason: str = ""
    since_s: float | None = None
    lag_ms: tuple[tuple[str, float], ...] = ()
    block_ms: float | None = None
    late_ms: float | None = None
    links: tuple[LinkRow, ...] = ()
    turns: tuple[TurnRow, ...] = ()
    rest: tuple[RestRow, ...] = ()
    limits: tuple[LimitRow, ...] = ()
    feeds: tuple[FeedRow, ...] = ()
    errors: tuple[tuple[str, str, int], ...] = ()


class HealthRow(msgspec.Struct, frozen=True):
    """One thing that a run needs: whether it is good, to be watched or a danger, and why."""

    what: str
    state: str
    words: str = ""
    counts: tuple[tuple[str, int], ...] = ()


class SettingRow(msgspec.Struct, frozen=True):
    """One setting that is not as it usually is, with where it comes from."""

    path: str
    value: str
    origin: str = ""


class HealthPart(msgspec.Struct, frozen=True, kw_only=True):
    """How the program itself does: what it needs, how long it runs, what it takes, its settings.

    `undrawn` are pictures that were left out because one before them took too long, `shown_ms` is
    from a frame that changed the account until the terminal had it, `ages` what came last of each
    part of the data, the oldest of all markets: (part, ticker, seconds).
    """

    rows: tuple[HealthRow, ...] = ()
    uptime_s: float | None = None
    carried: str = ""
    cpu_share: float | None = None
    cpu_s: float | None = None
    memory_mb: float | None = None
    peak_mb: float | None = None
    threads: int | None = None
    disk_free_gb: float | None = None
    disk: str = ""
    frames: int = 0
    reconnects: int = 0
    gaps: int = 0
    drawn: int = 0
    undrawn: int = 0
    draw_ms: tuple[tuple[str, float], ...] = ()
    shown_ms: tuple[tuple[str, float], ...] = ()
    ages: tuple[tuple[str, str, float | None], ...] = ()
    profile: str = ""
    strategy: str = ""
    file: str = ""
    config_hash: str = ""
    settings: tuple[SettingRow, ...] = ()


class WayChange(msgspec.Struct, frozen=True):
    """One figure before a frame and after it; None where it was not known."""

    term: str
    before: float | None
    after: float | None

    @property
    def moved(self) -> bool:
        """Return whether the frame changed it."""
        return self.before != self.after


class WayStage(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame was to one layer: when it came there, its own time, and what it changed.

    `texts` are what the layer made of it, in words, each with the id that it goes by, if any.
    """

    stage: str
    at_us: float | None = None
    took_us: float | None = None
    calls: int = 0
    changes: tuple[WayChange, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer takes of a frame that reaches it, at percentiles in microseconds.

    `share` is of the time of all layers, `per_s` how many came there in a second of the clock,
    `errors` are what went wrong there so far.
    """

    stage: str
    frames: int = 0
    per_s: float | None = None
    took_us: tuple[tuple[str, float], ...] = ()
    share: float | None = None
    errors: int | None = None


class WayPart(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one frame through the layers, and what each of them takes of all.

    `why` says why it is this one. `layers` are of the frames since somebody looks.
    """

    seq: int = 0
    at: int | None = None
    ticker: str = ""
    channel: str = ""
    market: PerpetualMarket | None = None
    size: int = 0
    took_us: float | None = None
    why: str = ""
    stages: tuple[WayStage, ...] = ()
    layers: tuple[LayerRow, ...] = ()


class WirePart(msgspec.Struct, frozen=True, kw_only=True):
    """The newest block, what was counted, frames by kind or channel, and the last as they came."""

    height: int | None = None
    block_time_ns: int | None = None
    counts: tuple[tuple[str, int], ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()
    samples: tuple[Frame, ...] = ()


class Witnessed(msgspec.Struct, frozen=True):
    """A market's fills on paper: quote quantums assumed to trade, and what the tape bears out."""

    ticker: str
    assumed: int
    traded: int
    error: float | None = None


# === Trading parts ===
# What it copies of what was wanted and done: the venue, the tape, strategies, orders, walks.


class VenuePart(msgspec.Struct, frozen=True, kw_only=True):
    """How a paper venue filled, what it refused, and how the account did on it.

    `error` is the share of all fills that the tape does not bear out, `pending` the fills that are
    not judged yet, `owed` hours of funding by ticker whose price or rate is not known, `unsettled`
    (quote quantums) what the next fill or transfer credits of it. What a venue does not have is
    None: an insurance `fund` in quote quantums, the `tier` of its fees.
    """

    performance: Performance | None = None
    liquidations: int | None = None
    maker_ppm: int | None = None
    taker_ppm: int | None = None
    queue: str = ""
    error: float | None = None
    pending: int | None = None
    fills: tuple[Witnessed, ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()
    owed: tuple[tuple[str, int], ...] = ()
    unsettled: int | None = None
    fund: int | None = None
    tier: str | None = None


class TapeRow(msgspec.Struct, frozen=True):
    """One thing that happened, in plain words; `id` is what `why` explains, `side` an order's.

    `run` is the number of an earlier run of the account, 0 of this one.
    """

    at: int
    kind: str
    text: str
    ticker: str = ""
    id: str = ""
    seq: int = 0
    side: str = ""
    run: int = 0


class TimelinePart(msgspec.Struct, frozen=True, kw_only=True):
    """A recording from end to end: its times, and shares of it: where it is, and was at most.

    `marks` are what was seen to happen so far, each a share and a kind, in order.
    """

    began: int = 0
    ends: int = 0
    now: float = 0.0
    seen: float = 0.0
    marks: tuple[tuple[float, str], ...] = ()


class StrategyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy: its state, its `share` of the account, and its result in USDC, after fees.

    `weights` are those of the signals that it averages, `thresholds` its settings by name, `look`
    is how it last ranked all markets, None if it ranks none.
    """

    title: str
    state: str = ""
    share: float = 1.0
    pnl_usdc: float | None = None
    best_usdc: float | None = None
    fees_usdc: float | None = None
    weights: Mapping[str, float] = {}
    thresholds: Mapping[str, float] = {}
    look: Look | None = None


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy wants of a market, what it was allowed, and what it has: signed USDC.

    `cuts` are why it was allowed less, `decision` is its newest there, `composite` what its scores
    came to by their weights, `verdict` what risk and the venue made last of what was decided on
    that market, each beginning with its kind.
    """

    strategy: str
    ticker: str
    wants: float | None = None
    allowed: float | None = None
    held: float | None = None
    cuts: tuple[str, ...] = ()
    decision: Decision | None = None
    composite: Composite | None = None
    verdict: TapeRow | None = None
    id: str = ""


class StrategiesPart(msgspec.Struct, frozen=True, kw_only=True):
    """Who trades the account, and what each of them wants, by strategy and market."""

    rows: tuple[StrategyRow, ...] = ()
    targets: tuple[TargetRow, ...] = ()


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One order as it stands, its fills the oldest first; sizes in base units, prices in USDC.

    `kind` is how it was to trade, in words, `status` what became of it, and `why` is the reason;
    `verdict` let it go, as what `by` it names. `price` is the worst it takes, `trigger` what it
    waits for; `age_s` is of an order that is still open. `run` is the number of an earlier run of
    the account, 0 of this one.
    """

    id: str
    at: int
    seq: int
    ticker: str = ""
    market: PerpetualMarket | None = None
    side: str = ""
    size: float | None = None
    filled: float = 0.0
    price: float | None = None
    trigger: float | None = None
    average: float | None = None
    fee: int = 0
    kind: str = ""
    status: str = ""
    why: str = ""
    verdict: str = ""
    by: str = ""
    age_s: float | None = None
    fills: tuple[Execution, ...] = ()
    run: int = 0


class WalkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, from the scores that it rests on to the fills that came of it.

    `composite` is what the scores came to, None where no weights are known; `look` how its
    market stood among the others, None for a strategy that ranks nothing; `limits` are the other
    thresholds of the strategy. `checks` are the limits that an approved order was held to.
    """

    decision: Decision
    strategy: str = ""
    composite: Composite | None = None
    look: Look | None = None
    limits: Mapping[str, float] = {}
    verdict: Approved | Denied | None = None
    checks: tuple[Check, ...] = ()
    orders: tuple[OrderRow, ...] = ()

    @property
    def id(self) -> str:
        """Return the id that `why` takes."""
        return self.decision.id

    @property
    def ranked(self) -> Ranked | None:
        """Return its market's place in the look."""
        markets = self.look.markets if self.look is not None else ()
        return next((row for row in markets if row.ticker == self.decision.ticker), None)


class WalkPart(msgspec.Struct, frozen=True, kw_only=True):
    """The newest decisions, each walked through."""

    rows: tuple[WalkRow, ...] = ()


# === Snapshot ===
# All that the bot copies for the screen, and what the person at it chose: equality is cheap and
# decides whether to draw again.


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the screen can show, at one moment. Rows are newest or most important first.

    `money` are results in quote quantums, `counts` what was sent and what came of it, both by term.
    `gate` is what risk lets pass and why, `watch` its newest look at the account; without a `venue`
    there is no paper one. `candles`, `flow`, `funding` and `strategies` are copied where their
    panel is shown alone; without detectors `detections` are None. `triggers` are the values of a
    signal at which the strategy changes what it does. `held` are the costs of open positions,
    `margins` what each of them requires, copied where that is shown alone. Only a replay has a
    `timeline`.
    """

    header: HeaderPart = HeaderPart()
    gate: Standing | None = None
    safety: SafetyPart = SafetyPart()
    equity: EquityPart = EquityPart()
    positions: tuple[PositionFigures, ...] = ()
    held: tuple[HeldCosts, ...] = ()
    margins: tuple[MarginRow, ...] = ()
    markets: tuple[MarketRow, ...] = ()
    decisions: tuple[Decision, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    orders: tuple[OrderRow, ...] = ()
    money: tuple[tuple[str, int], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    watch: Watch | None = None
    venue: VenuePart | None = None
    book: BookPart = BookPart()
    quality: QualityPart = QualityPart()
    speed: SpeedPart = SpeedPart()
    way: WayPart = WayPart()
    link: LinkPart = LinkPart()
    health: HealthPart = HealthPart()
    wire: WirePart = WirePart()
    tape: tuple[TapeRow, ...] = ()
    candles: CandlesPart = CandlesPart()
    flow: FlowPart = FlowPart()
    prices: PricesPart = PricesPart()
    funding: tuple[FundingRow, ...] = ()
    signals: tuple[ScoreHistory, ...] = ()
    strategies: StrategiesPart = StrategiesPart()
    walk: WalkPart = WalkPart()
    performance: PerformancePart = PerformancePart()
    detections: tuple[Detection, ...] | None = None
    accounts: tuple[AccountRow, ...] = ()
    triggers: Mapping[str, Sequence[float]] = {}
    timeline: TimelinePart | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the person at the screen chose.

    `panel` is shown alone if it names one. `selected` counts its rows from 0, or else those of the
    panel in `focus`, or the tape's; -1 for none. `sort` names a panel and a column of it by its
    term, as in "markets.price": the largest figure or the first word first, the last if `reverse`.
    `why` are the lines of an overlay, `scroll` its first. `confirm` is a question that stands in
    the place of the keys until it is answered, `message` is new, and `note` what is wrong for
    longer. `off` are keys that do nothing now. A `banner` is what nobody may miss, a row over the
    panels for as long as it is there; a `flash` draws every frame in red. `guide` is what is
    explained on a tour.
    """

    panel: str = ""
    selected: int = -1
    focus: str = ""
    sort: str = ""
    reverse: bool = False
    filter: str = ""
    filtering: bool = False
    paused: bool = False
    help: bool = False
    why: tuple[str, ...] = ()
    why_title: str = ""
    scroll: int = 0
    message: str = ""
    note: str = ""
    confirm: str = ""
    guide: str = ""
    guide_title: str = ""
    banner: str = ""
    flash: bool = False
    off: frozenset[str] = frozenset()

    @property
    def listed(self) -> str:
        """Return the panel whose rows are selected, and sorted."""
        return self.panel or self.focus or "tape"


# === Words ===
# What a trader reads for a word of the code, and the style of a state: the one table of labels,
# titles and states, looked up as they are drawn. A word that is not listed is a trader's word as
# it is. No sentences: a reason is shown in the words of the layer that gave it.

_WORDS: Final = {
    # Panels
    "way": "way of the data", "link": "connection", "flight": "way out", "venue": "paper venue",
    "walk": "decision walk",
    # The account and its positions
    "net_collateral": "equity", "free_collateral": "free", "initial_margin": "initial margin",
    "maintenance_margin": "maintenance margin", "usage": "margin used", "deepest": "deepest fall",
    "closest": "closest so far", "realized_pnl": "realized", "unrealized_pnl": "unrealized",
    "entry_price": "entry", "liquidation_price": "liq price", "distance_now": "now",
    "distance_next": "if the last block repeats twice", "act_below": "guard",
    "DISTANCE": "distance", "LEVERAGE": "leverage", "DAILY_LOSS": "day's loss",
    "DRAWDOWN": "drawdown",
    "long_notional": "long", "short_notional": "short", "net_notional": "net",
    "funding_1h": "funding/h", "funding_usdc_1h": "funding USDC/h",
    "funding_1d": "a day",
    "funding_distance_1d": "takes off the distance", "hours_to_breach": "breaches alone",
    # Markets, signals and what is sent
    "history": "last hour",
    "oracle_price": "oracle", "mid_price": "mid", "spread_bps": "spread", "volume_60s": "USDC/min",
    "inputs": "computed from", "seq": "frame", "subticks": "worst", "fires_below": "fires",
    # Shocks
    "open interest capped": "OI capped", "funding clamped": "funding",
    "move_percent": "move in %",
    # The paper venue
    "win_rate": "won", "profit_factor": "profit factor", "average_win": "average win",
    "average_loss": "average loss", "max_drawdown": "drawdown", "max_drawdown_ratio": "of equity",
    "drawdown_ns": "lasted", "sharpe": "Sharpe", "sortino": "Sortino",
    "exposure": "in the market", "fund": "insurance fund", "tier": "fee tier",
    "refusals": "refused", "unsettled": "funding not settled", "owed": "hours at an unknown rate",
    "unwitnessed": "fills no real trade confirms", "pending": "still to be judged",
    # What was decided, and what came of it
    "approved": "allowed", "denied": "refused", "reduce": "guard acted", "withdraw": "cancel",
    "reduce SELL": "guard sold", "reduce BUY": "guard bought", "bracket": "stop order",
    "PENDING": "sent", "OPEN": "open", "PARTIALLY_FILLED": "partly filled", "FILLED": "filled",
    "CANCELLED": "cancelled", "REJECTED": "rejected", "UNRESOLVED": "unresolved",
    # The program itself
    "lag_p99_ms": "lag p99", "data_age_s": "age", "frames_per_s": "rate", "memory_mb": "memory",
    "cpu_percent": "CPU", "run_hash": "run", "draw_ms": "a drawing takes",
    # States of a connection
    "link backing_off": "reconnecting", "link stale": "silent",
    # What scores and findings are computed from
    "day": "known of a day", "day rank": "rank of the day", "raw": "of now", "usd": "USDC",
    "rho trades": "correlation", "share mid": "part of mid", "life": "a quote lives",
    "uptime": "both sides quoted", "there": "both renewed", "constant": "of one size",
    "refill": "refilled", "lead trades": "mid leads by",
    # What a frame changes
    "best_bid": "best bid", "best_ask": "best ask", "bid_size": "bid size", "ask_size": "ask size",
    "last_trade": "last trade", "open_orders": "open orders",
    # States of a market
    "CANCEL_ONLY": "CANCEL ONLY", "POST_ONLY": "POST ONLY", "INITIALIZING": "NOT OPEN",
    "FINAL_SETTLEMENT": "SETTLING",
}  # fmt: skip
_STATES: Final = {
    "DANGER": "danger", "WATCH": "watch", "SAFE": "good", "FLAT": "good",
    "ACTIVE": "dim", "REDUCING": "watch", "HALTED": "halted", "link": "watch",
    "act": "watch", "approved": "good", "bracket": "accent", "decision": "accent",
    "denied": "watch", "fill": "up", "hold": "dim", "liquidated": "danger", "reduce": "danger",
    "OPEN": "accent", "PARTIALLY_FILLED": "watch", "FILLED": "good", "REJECTED": "watch",
    "UNRESOLVED": "danger", "CANCELLED": "dim", "unanswered": "watch",
    "BUY": "up", "LONG": "up", "SELL": "down", "SHORT": "down",
}  # fmt: skip


def wording(term: str, of: str = "") -> str:
    """Return what a trader reads for a word of the code; `of` a kind, where it has a word."""
    return _WORDS.get(f"{term} {of}", _WORDS.get(term, term))


def _state(term: str, style: str = "") -> tuple[str, str]:
    """Return a state's word and style; `style` for one that has none of its own."""
    return wording(term), _STATES.get(term, style)


def _side(size: Decimal | int) -> tuple[str, str]:
    return _state("LONG" if size > 0 else "SHORT")


# === Theme ===
# What the terminal can show, and how rows of (text, style name) become segments of one exact width:
# `_fitted` alone knows colours, ASCII and widths, and lets nothing through that could move the
# cursor.


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """What the terminal can show: Unicode, and Rich's name of its colours, "" for none.

    Without `dots` charts are drawn in half blocks.
    """

    unicode: bool = True
    colours: str = "truecolor"
    dots: bool = True

    @classmethod
    def of(cls, console: Console) -> "Theme":
        """Honour NO_COLOR, LC_ALL=C, and an encoding that cannot carry the blocks."""
        colours = "" if console.no_color else console.color_system or ""
        # The console of Linux itself has a font of 512 letters, and no dots among them.
        dots = os.environ.get("TERM") != "linux"
        # Python writes UTF-8 in the plain locale, too; whoever has chosen it wants letters alone.
        names = (os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
        chosen = next(filter(None, names), "")
        unicode = console.encoding.lower().startswith("utf") and chosen not in ("C", "POSIX")
        return cls(unicode=unicode, colours=colours, dots=dots)


_Row = list[tuple[str, str]]
_Strip = tuple[Segment, ...]

# Okabe and Ito's palette, lightened for dark terminals; direction is blue and pink, not green
# and red, because red is for danger alone. (colour, without colour)
_STYLES: Final[dict[str, tuple[str, str]]] = {
    "": ("", ""), "bold": ("bold", "bold"), "select": ("reverse", "reverse"),
    "dim": ("#8c8c8c", "dim"), "faint": ("#4e5a65", "dim"), "title": ("bold #d0d0d0", "bold"),
    "key": ("bold #e8e8e8", "bold"), "accent": ("#7fb8d8", ""),
    "up": ("#56b4e9", ""), "down": ("#e08fc0", ""), "good": ("#2fbf8f", ""),
    "watch": ("bold #f0b000", "bold"), "danger": ("bold #ff5548", "bold reverse"),
    "halted": ("bold #240500 on #ff5548", "bold reverse"),
    "mode replay": ("bold #0b1a26 on #56b4e9", "bold reverse"),
    "mode paper": ("bold #08221a on #2fbf8f", "bold reverse"),
    "mode live": ("bold #241a00 on #f0b000", "bold reverse"),
    "mode watch": ("bold #1a1426 on #b9a7e6", "bold reverse"),
    # Real money: nothing else is of this colour.
    "mode trade": ("bold #ffffff on #c4008c", "bold reverse"), "mode bold": ("bold", "bold"),
    "paused": ("bold #241a00 on #f0e442", "bold reverse"),
}  # fmt: skip
# The same by name for whoever draws elsewhere, as #rrggbb: charts of a report, of a page.
COLOURS: Final[dict[str, str]] = {
    name: colour.split()[-1]
    for name, (colour, _) in _STYLES.items()
    if "#" in colour and " on " not in colour
}
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_ASCII: Final = str.maketrans(
    "╭╮╰╯─│┃┼▁▂▃▄▅▆▇█▉▊▋▌▍▎▏░▲▼●○·…→≈—µ╷╵╻╹╽╿├┈◀▀▒△▽" + _TIMES,
    "++++-||+_.-=+*%#####   .^v*o-~>~-u||||||+-<'+AVx",
)
_ASCII.update(str.maketrans("◆■┤", "dy+"))
# Signs whose one letter would say another thing: two, in the place of the blank, are as wide.
_PAIRS: Final = (("≥ ", ">="), ("≤ ", "<="), (" → ", " ->"), ("≥", ">="), ("≤", "<="))
# Dots of a chart, by how many of the upper and of the lower half of a cell are there.
_ASCII.update(
    (0x2800 + dots, b" .:'::'##"[min((dots & 0x1B).bit_count(), 2) * 3
                                 + min((dots & 0xE4).bit_count(), 2)])
    for dots in range(256)
)  # fmt: skip
_HALVES: Final = {
    0x2800 + dots: " ▄▀█"[2 * bool(dots & 0x1B) + bool(dots & 0xE4)] for dots in range(256)
}


# Letters, boxes, blocks and braille: a cell each, and harmless. Looked at one by one, they took a
# fifth of a drawing.
_OURS: Final = re.compile(f"[ -~·{_TIMES}µ—…←-↓≈≤≥─-╿▀-▟▲▼△▽◀●○◆■⠀-⣿]*")


_MARK: Final = ("", "select")  # first in a row that is selected


def _fitted(row: _Row, width: int, theme: Theme) -> _Strip:
    """Make a row exactly `width` cells wide, in the theme's colours and letters."""
    return _strip(tuple(row), width, theme)


# Of the rows of a panel that is drawn again three in four are as they were, and of the texts of the
# others four in five.
@lru_cache(maxsize=2048)
def _strip(row: tuple[tuple[str, str], ...], width: int, theme: Theme) -> _Strip:
    piece, left, strip = _pieces(theme), width, []
    base = "select" if row[:1] == (_MARK,) else ""
    for text, name in row:
        part, size = piece(text, base or name)
        if size > left:
            part, size = piece(_crop(part.text, left, theme.unicode), base or name)
        if size:
            strip.append(part)
            left -= size
        if not left:
            break
    if left:
        strip.append(piece(" " * left, base)[0])
    return tuple(strip)


@lru_cache(maxsize=8)
def _pieces(theme: Theme) -> Callable[[str, str], tuple[Segment, int]]:
    """Return what makes a segment of a text in a style, and says how many cells it takes."""
    # A style remembers the escapes of the first console it met: each theme has its own.
    styles = {name: Style.parse(pair[not theme.colours]).copy() for name, pair in _STYLES.items()}

    @lru_cache(maxsize=4096)
    def piece(text: str, name: str) -> tuple[Segment, int]:
        if not text.isascii() or not text.isprintable():
            text = _drawable(text if theme.dots else text.translate(_HALVES), theme.unicode)
        return Segment(text, styles[name]), _cells(text)

    return piece


def _crop(text: str, width: int, unicode: bool = True) -> str:
    """Cut a text to exactly `width` cells, the last of them an ellipsis."""
    # No letter is narrower than a cell: a line of the wire is not measured to its end.
    return set_cell_size(text[:width], width - 1) + ("…" if unicode else "~") if width else ""


def _shortened(text: str, width: int) -> str:
    """Cut a text that is wider than `width` cells."""
    return text if _cells(text) <= width else _crop(_drawable(text, True), width)


def _both_ends(text: str, width: int) -> str:
    """Cut out of the middle of a text that is wider than `width` cells: what to do stands last."""
    if _cells(text) <= width:
        return text
    tail = _drawable(text, True)
    while cell_len(tail) > 2 * width // 3:
        tail = tail[1:]
    return _shortened(text, width - cell_len(tail)) + tail


def _cells(text: str) -> int:
    """Return how many cells a text takes."""
    # What does not print becomes a mark of one cell.
    return len(text) if text.isascii() or _OURS.fullmatch(text) else cell_len(text)


def _row_cells(row: Sequence[tuple[str, str]]) -> int:
    """Return how many cells a row takes."""
    return sum(_cells(text) for text, _ in row)  # integers


@lru_cache(maxsize=8192)
def _drawable(text: str, unicode: bool) -> str:
    """Make a text safe to print, one mark for each that is not."""
    # Foreign text may carry escapes, tabs and zero-width marks: none may reach the terminal.
    if not _OURS.fullmatch(text):
        text = "".join(c if c.isprintable() and cell_len(c) else "?" for c in text)
    if unicode:
        return text
    for sign, letters in _PAIRS:
        text = text.replace(sign, letters)
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))


# === Figures ===
# How a number, a moment, a share or a history becomes text: fixed decimals, thousands, sign and
# unit; None is "unknown". Distances to liquidation are worded by dydx_risk's `percent_text` alone.

_UNKNOWN: Final = "unknown"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SPARKS: Final = "▁▂▃▄▅▆▇█"


def _figure(
    value: float | Decimal | None, digits: int = 2, sign: bool = False, unit: str = ""
) -> str:
    """Write a number with fixed decimals and thousands; None and what is no number are unknown."""
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    if abs(float(value)) >= 1e13:
        return f"{value:{'+' if sign else ''}.3e}{unit}"
    text = f"{value:{'+' if sign else ''},.{min(max(digits, 0), 12)}f}"
    if value < 0 and not text.strip("-0."):
        text = text[1:]  # what rounds to nothing is not negative, and nothing was won
    return f"{text}{unit}"


def _signed(value: float | Decimal | None, digits: int = 2) -> tuple[str, str]:
    """Return a figure with its sign, and the style of its direction."""
    return _figure(value, digits, sign=True), _trend(value)[1]


def worded(name: str, value: float) -> str:
    """Write what a score or a finding is computed from: in words, with the unit of its name."""
    term, unit = next(
        ((name.removesuffix(end), unit) for end, unit in _UNITS.items() if name.endswith(end)),
        (name, ""),
    )
    return f"{wording(term.replace('_', ' '))} {_brief(value, 4 if unit else 6)}{unit}"


# By how a name ends; the longer endings first.
_UNITS: Final = {
    "_usd_per_bp": " USDC/bp", "_usd_s": " USDC/s", "_usd": " USDC", "_1h_bps": " bp/h",
    "_bps": " bp", "_s": " s", "_h": " h",
}  # fmt: skip


def _brief(value: float, digits: int) -> str:
    """Write a number of any size with the digits that say something."""
    if not math.isfinite(value) or abs(value) >= 10.0**digits:
        return _figure(value, 0)
    if abs(value) >= 1:
        return f"{value:,.{digits}g}"
    # Written out: a price may be 0.00005407, which an exponent would hide.
    decimals = 3 - math.floor(math.log10(abs(value))) if abs(value) > 1e-9 else 0
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else "0"


def _usdc(quote_quantums: float | None, sign: int = 1) -> float | None:
    """Turn quote quantums into USDC, with the sign turned if `sign` is -1."""
    return None if quote_quantums is None else sign * quote_quantums / 1e6


def _added(values: Iterable[float]) -> float:
    """Add up; what is no number, or too large for one, makes the sum none."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def _less(cost: float | None) -> float | None:
    """Turn a cost into the negative money that it is shown as."""
    return None if cost is None else 0.0 - cost  # nothing is no negative nothing


def _percent(fraction: float | None, digits: int = 1, sign: bool = False) -> str:
    """Write a share of something as per cent; a distance to liquidation is `percent_text`."""
    return _figure(None if fraction is None else fraction * 100, digits, sign, " %")


_LENGTHS: Final = (
    ("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6),
)  # fmt: skip


def _duration(seconds: float | None, finest: str = "s") -> str:
    """Write how long something lasts in the largest unit of which it is one, down to `finest`."""
    if seconds is None or not math.isfinite(seconds):
        return _UNKNOWN
    unit, length = next(u for u in _LENGTHS if abs(seconds) >= u[1] or u[0] == finest)
    count = seconds / length
    return _figure(count, 1 if abs(count) < 99.95 else 0, unit=f" {unit}")


def _stopwatch(seconds: float | None) -> str:
    """Write a time that runs as hours, minutes and seconds."""
    if seconds is None or not 0 <= seconds < 1e9:
        return _UNKNOWN
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _clock(at: int | None, pattern: str = "%H:%M:%S") -> str:
    """Write a moment in UTC."""
    if at is None or not 0 <= at < 2**62:  # the calendar's end is far beyond
        return _UNKNOWN
    return _moment(at // 10**9, pattern)


@lru_cache(maxsize=1024)
def _moment(second: int, pattern: str) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(pattern)


@lru_cache(maxsize=1024)
def _grid(market: PerpetualMarket | None) -> tuple[int, int]:
    """Return the decimals of a market's prices and sizes."""
    if market is None:
        return 2, 3
    tick, step = market.price(market.subticks_per_tick), market.size(market.step_base_quantums)
    exponents = (int(unit.normalize().as_tuple().exponent) for unit in (tick, step))
    return max(-next(exponents), 0), max(-next(exponents), 0)


def _gauge(fraction: float | None, width: int) -> str:
    """Draw a bar with eighths of a cell, on a dotted ground that shows where it would end."""
    if fraction is None or math.isnan(fraction):
        return "?" * width
    full, part = divmod(int(min(max(fraction, 0.0), 1.0) * width * 8), 8)
    return ("█" * full + (_EIGHTHS[part] if part else ""))[:width].ljust(width, "░")


def _spark(values: Sequence[float], width: int) -> str:
    """Draw a history as a line of blocks between its least and its greatest value."""
    shown = [value for value in values[-width:] if math.isfinite(value)] if width > 0 else []
    if not shown:
        return " " * width
    low, high = min(shown), max(shown)
    scale = 7.999 / (high - low) if math.isfinite(high - low) and high > low else 0.0
    blocks = (_SPARKS[int((value - low) * scale) if scale else 3] for value in shown)
    return "".join(blocks).rjust(width)


def _every(values: Sequence[float], wide: int) -> Sequence[float]:
    """Return so many values at most, evenly taken, the last one always."""
    if len(values) <= wide or wide < 1:
        return values
    return [values[(n + 1) * len(values) // wide - 1] for n in range(wide)]


def _between(values: Sequence[float], write: Callable[[float], str]) -> tuple[str, str]:
    """Return the least and the greatest value of a history."""
    known = [value for value in values if math.isfinite(value)]
    return (f"{write(min(known))} to {write(max(known))}" if known else "", "dim")


def _history_row(
    values: Sequence[float], width: int, write: Callable[[float], str]
) -> list[tuple[str, str]]:
    """Draw a history with its least and its greatest value, where there is room for them."""
    known = [value for value in values[-max(width, 1) :] if math.isfinite(value)]
    scale = f" {write(min(known))} to {write(max(known))}" if known else ""
    room = width - len(scale)
    if room < 20 or not known:
        return [(_spark(values, width), "accent")]
    return [(_spark(values, room), "accent"), (scale, "dim")]


def _trend(value: float | Decimal | None) -> tuple[str, str]:
    """Return an arrow and a style for a direction."""
    return (" ", "") if not value else ("▲", "up") if value > 0 else ("▼", "down")


# Five dots high: enough for a percentage and two words.
_LETTERS: Final = "0123456789.%><- FLATUOKNW"
_DOTS: Final = """\
### .#. ### ### #.# ### ### ### ### ### . #.# #.. ..# .. . ### #.. ### ### #.# ### #.# #..# #...#
#.# ##. ..# ..# #.# #.. #.. ..# #.# #.# . ..# .#. .#. .. . #.. #.. #.# .#. #.# #.# #.# ##.# #...#
#.# .#. ### ### ### ### ### ..# ### ### . .#. ..# #.. ## . ##. #.. ### .#. #.# #.# ##. #.## #.#.#
#.# .#. #.. ..# ..# ..# #.# ..# #.# ..# . #.. .#. .#. .. . #.. #.. #.# .#. #.# #.# #.# #..# ##.##
### ### ### ### ..# ### ### ..# ### ### # #.# #.. ..# .. . #.. ### #.# .#. ### ### #.# #..# #...#
"""
_GLYPHS: Final = dict(
    zip(_LETTERS, zip(*map(str.split, _DOTS.splitlines()), strict=True), strict=True)
)


@lru_cache(maxsize=64)
def _banner(text: str, high: int, wide: int) -> tuple[str, ...]:
    """Draw `text` in blocks, a dot being `high` rows by `wide` cells."""
    gap, dots = " " * max(wide // 2, 1), str.maketrans({"#": "█" * wide, ".": " " * wide})
    rows = (gap.join(_GLYPHS[letter][line] for letter in text).translate(dots) for line in range(5))
    return tuple(row for row in rows for _ in range(high))


# === Side by side ===
# Named figures, texts and rows beside each other, cut or broken to so many cells.

_Cell = tuple[str, str]


def _chunks(parts: Sequence[tuple[int, _Row]], width: int, gap: str = "  ") -> _Row:
    """Join what fits, dropping the highest rank first."""
    sizes = [_row_cells(row) + len(gap) for _, row in parts]
    over, dropped = sum(sizes) - width - len(gap), set[int]()  # integers
    for i in sorted(range(len(parts)), key=lambda i: (parts[i][0], i))[:0:-1]:
        if over <= 0:
            break
        dropped.add(i)
        over -= sizes[i]
    fitting = [row for i, (_, row) in enumerate(parts) if i not in dropped]
    return [cell for row in fitting for cell in (*row, (gap, ""))][:-1]


def _pairs(width: int, *figures: tuple[str, str | int]) -> _Row:
    """Join named figures on one row; the last ones go when there is no room."""
    texts = ((term, value if isinstance(value, str) else f"{value:,}") for term, value in figures)
    return _chunks(list(enumerate(_named(term, text) for term, text in texts)), width)


def _named(term: str, text: str, style: str = "") -> _Row:
    return [(f"{wording(term)} ", "dim"), (text, style)]


def _beside(left: Sequence[_Row], width: int, right: Sequence[_Row]) -> list[_Row]:
    """Put rows to the right of others, `width` cells from their beginning."""
    rows: list[_Row] = []
    for row, after in zip_longest(left, right, fillvalue=()):
        used = _row_cells(row)
        if used >= width:
            row, used = _within(row, width - 1), width - 1
        rows.append([*row, (" " * (width - used), ""), *after])
    return rows


def _within(row: Sequence[_Cell], width: int) -> _Row:
    """Cut a row that is too long for so many cells, which it then fills."""
    if _row_cells(row) <= width:
        return [*row]
    cut: _Row = []
    for text, style in row:
        size = _cells(text)
        if size >= width:
            return [*cut, (_crop(_drawable(text, True), width), style)]
        cut.append((text, style))
        width -= size
    return cut


def _folded(text: str, width: int) -> list[str]:
    """Break a long text into lines, between words where all letters are one cell wide."""
    text, room = _drawable(text, True), max(width - 4, 2)
    # A ticker is not two words.
    lines = (
        wrap(text, room, break_on_hyphens=False)
        if _cells(text) == len(text)
        else chop_cells(text, room)
    )
    first, *rest = lines or [""]
    return [first, *("    " + line for line in rest)]


def _wrapped(row: _Row, width: int, more: int) -> list[_Row]:
    """Break the last text of a row into at most so many more lines; what is left is cut off."""
    *head, (text, style) = row
    used = sum(_cells(part) for part, _ in head)  # integers
    if more < 1 or width - used < 8 or _cells(text) <= width - used:
        return [row]
    first, *rest = _broken(text, width - used, width - 4, more)
    return [[*head, (first, style)], *([("    " + line, style)] for line in rest)]


@lru_cache(maxsize=4096)
def _broken(text: str, room: int, width: int, more: int) -> tuple[str, ...]:
    """Break a text into a line of `room` and at most so many more of `width` cells."""
    # Letters of two cells are cut, not broken.
    if more < 1 or room < 8 or width < 8 or _cells(text) <= room or _cells(text) != len(text):
        return (text,)
    lines: list[str] = []
    rest = text.rstrip()
    while rest and len(lines) < more:
        size = width if lines else room
        # One letter more shows whether a word ends here; text of the wire has no words to end.
        line = wrap(rest[: size + 1], size, break_on_hyphens=False, expand_tabs=False)[0]
        lines.append(line)
        rest = rest[len(line) :].lstrip()
    return (*lines, rest) if rest else tuple(lines)


def _rooms(wanted: Sequence[int], height: int) -> list[int]:
    """Return how many rows each gets of so many: one at least, as many as any other, or all."""
    most = max(wanted, default=0)
    while most > 1 and sum(min(rows, most) for rows in wanted) > height:  # integers
        most -= 1
    rooms = [min(rows, most) for rows in wanted]
    left = max(height - sum(rooms), 0)  # integers
    for place, rows in enumerate(wanted):
        more = min(rows - rooms[place], left)
        rooms[place], left = rooms[place] + more, left - more
    return rooms


def _whole(rows: Sequence[_Row], width: int, high: int) -> list[_Row]:
    """Break rows into lines that are not cut, as far as there is room."""
    lines, spare = list[_Row](), max(high - len(rows), 0)
    for row in rows:
        wrapped = _wrapped(row, width, spare)
        lines, spare = lines + wrapped, spare - len(wrapped) + 1
    return lines


# === Tables ===
# Lists: rows and columns that give way to each other in a fixed order, a filter, a column that
# sorts, a selected row that is shown whole, and which of them is on a line. Knows of no list what
# it is about.


class _Column(NamedTuple):
    """What it shows, its width (0 takes what is left), its text; the highest `rank` goes first.

    Rows are sorted by its `value`, or else by the figure or the words of its text.
    """

    term: str
    width: int
    cell: Callable[[Any], _Cell]
    rank: int = 0
    left: bool = False
    value: Callable[[Any], Any] | None = None


_TICKER: Final = _Column("ticker", 10, lambda row: (row.ticker, "bold"), 0, True)


class _Table(NamedTuple):
    """A list on a panel: its rows, and the columns that they need.

    `id` names the attribute that `why` takes. `above` are rows over the list, `below` is
    a second line of each row; when the panel is alone it is shown whole, of all if there is room or
    else of the selected one. A `faded` row is grey. Columns stand `gap` cells apart. `foot` is
    what stands under the list about the selected row, or else the first, in so many rows at most;
    one `part` of the height is then for the list. In a `history` older rows give way to the whole
    text of newer ones.
    """

    name: str
    rows: Callable[[Snapshot], Sequence[Any]]
    columns: Callable[[Snapshot], Sequence[_Column]]
    empty: str = ""
    id: str = "id"
    above: Callable[[Snapshot, int], list[_Row]] = lambda snapshot, width: []
    below: Callable[[Any], str] = lambda row: ""
    faded: Callable[[Any], bool] = lambda row: False
    gap: int = 2
    foot: Callable[[Snapshot, Any, int, int], list[_Row]] = lambda snapshot, row, width, high: []
    part: int = 2
    history: bool = False


def _listed(table: _Table, snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw a list under its titles, around the selected row, whose text is whole if alone."""
    return [line for _, line in _numbered(table, snapshot, view, width, height)]


_NO_ROW, _TITLES = -1, -2  # lines of a list that are none of its rows


def _numbered(
    table: _Table, snapshot: Snapshot, view: View, width: int, height: int
) -> list[tuple[int, _Row]]:
    """Draw a list, each line with the number of its row."""
    rows, chosen = _rows_of(table, snapshot, view), _chosen_row(view, table.name)
    drawn = [(_NO_ROW, line) for line in table.above(snapshot, width)]
    if not rows:
        empty = "nothing matches the filter" if view.filter else table.empty
        return [*drawn, (_NO_ROW, [(empty, "dim")])]
    columns, room = _fitting(table.columns(snapshot), width, table.gap)
    detail: list[_Row] = []
    if view.panel and 0 <= chosen < len(rows) and not columns[-1].width:
        text = columns[-1].cell(rows[chosen])[0]
        lines = ["", *_folded(text, width)][: height // 3] if _cells(text) > room else []
        detail = [[(line, "")] for line in lines]
    # On the only line there is, a row is worth more than its titles.
    if height > len(drawn) + 1 and any(wording(column.term) for column in columns):
        titles = [_title_cell(column, table.name, view, room) for column in columns]
        drawn.append((_TITLES, _laid(titles, columns, room, table.gap)))
    listed = min(len(rows), max(height // table.part - len(drawn), 2))
    about = rows[chosen if 0 <= chosen < len(rows) else 0]
    detail += table.foot(snapshot, about, width, height - len(drawn) - listed - len(detail))
    high = height - len(detail)
    body = max(high - len(drawn), 0)
    more = _more(body) if table.history else min(max(body // len(rows) - 1, 0), 2)
    below = _lines_below(table, rows, chosen, columns, (room, width, body), more, bool(view.panel))
    columns = _breaking(columns, room, width, table.gap, more)
    first = _first(len(rows), chosen, body, below)
    for number, row in enumerate(rows[first : first + body], first):
        cells = [column.cell(row) for column in columns]
        line = _laid([(text, "dim") for text, _ in cells] if table.faded(row) else cells,
                     columns, room, table.gap)  # fmt: skip
        drawn += (
            (number, x) for x in ([_MARK, *line] if number == chosen else line, *below(number))
        )
        if len(drawn) >= high:
            break
    return [*drawn[:high], *((_NO_ROW, line) for line in detail)]


def _title_cell(column: _Column, name: str, view: View, room: int) -> _Cell:
    """Return a column's title, with an arrow in the direction in which it sorts."""
    title = wording(column.term).upper()
    if not column.term or view.sort != f"{name}.{column.term}":
        return title, "dim"
    arrow = "▲" if view.reverse else "▼"
    return _shortened(title, (column.width or room) - 1) + arrow, "key"


def _column_at(columns: Sequence[_Column], room: int, gap: int, x: int) -> str:
    """Return the term of the column that a cell of the titles is of."""
    for column in columns:
        if x < (column.width or room) + gap:
            return column.term
        x -= (column.width or room) + gap
    return ""


def _more(body: int) -> int:
    """Return how many lines more than one a row may take, by how many there are for all."""
    return 0 if body < 4 else 1 if body < 12 else 2


def _lines_below(
    table: _Table, rows: Sequence[Any], chosen: int, columns: Sequence[_Column],
    size: tuple[int, int, int], more: int, alone: bool,
) -> Callable[[int], list[_Row]]:  # fmt: skip
    """Return what gives the lines below a row: whole if chosen, or while there is room for all."""
    room, width, body = size
    most = more + (body >= 8 and table.history)
    indent = " " * _indent(columns, table.gap)

    def lines(number: int, whole: bool) -> list[_Row]:
        text = table.below(rows[number])
        parts = (
            _broken(text, width - 4, width - 4, 99 if whole else max(most - 1, 0)) if text else ()
        )
        below: list[_Row] = [[("    " + part, "dim")] for part in parts]
        if not columns[-1].width:
            text, style = columns[-1].cell(rows[number])
            rest = _broken(text, room, width - len(indent), more)[1:]
            below = [[(indent + part, style)] for part in rest] + below
        return below

    whole = {chosen} if alone else set()
    if alone and len(rows) <= body:
        spare = body - sum(1 + len(lines(n, n in whole)) for n in range(len(rows)))  # integers
        for number in range(len(rows)):
            more_lines = len(lines(number, True)) - len(lines(number, number in whole))
            if more_lines <= spare:
                whole.add(number)
                spare -= more_lines
    return lambda number: lines(number, number in whole)


def _indent(columns: Sequence[_Column], gap: int) -> int:
    return columns[0].width + gap if columns[0].width else 4


def _breaking(columns: list[_Column], room: int, width: int, gap: int, more: int) -> list[_Column]:
    """Let the column that grows show the first line of its text, where the others stand below."""
    last = columns[-1]
    if last.width or not more:
        return columns
    below = width - _indent(columns, gap)

    def cell(row: Any) -> _Cell:
        text, style = last.cell(row)
        return _broken(text, room, below, more)[0], style

    return [*columns[:-1], last._replace(cell=cell)]


def _first(count: int, chosen: int, high: int, below: Callable[[int], list[_Row]]) -> int:
    """Return the row to begin with, so that the chosen one is whole in sight, others about it."""
    shown = high // (1 + min(len(below(0)), 1))
    first = max(0, min(chosen - shown // 2, count - shown))
    heights = [1 + len(below(number)) for number in range(first, min(chosen + 1, count))]
    while len(heights) > 1 and sum(heights) > high:  # integers
        del heights[0]
        first += 1
    return first


def _rows_of(table: _Table, snapshot: Snapshot, view: View) -> Sequence[Any]:
    """Return the rows of a list in which the filter's text is found, in the order chosen."""
    rows, wanted = table.rows(snapshot), view.filter.casefold()
    if not wanted and not view.sort:
        return rows
    columns = table.columns(snapshot)

    def texts(row: Any) -> list[str]:
        return [*(column.cell(row)[0] for column in columns), table.below(row)]

    if wanted:
        rows = [row for row in rows if any(wanted in text.casefold() for text in texts(row))]
    sorts = next((x for x in columns if x.term and view.sort == f"{table.name}.{x.term}"), None)
    return rows if sorts is None else _sorted(rows, sorts, view.reverse)


def _sorted(rows: Sequence[Any], column: _Column, reverse: bool) -> list[Any]:
    """Sort rows: the largest figure or the first word first, or the last; the unknown last."""
    worth = [(_worth(column, row), row) for row in rows]
    known: list[tuple[Any, Any]] = [pair for pair in worth if pair[0] is not None]
    if words := any(isinstance(value, str) for value, _ in known):
        known = [(str(value), row) for value, row in known]
    known.sort(key=lambda pair: pair[0], reverse=reverse == words)
    return [row for _, row in known] + [row for value, row in worth if value is None]


_NUMBER: Final = re.compile(r"[#+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")


def _worth(column: _Column, row: Any) -> float | str | None:
    """Return what a row is sorted by: a figure, or words; None for what is unknown."""
    text = column.cell(row)[0].strip(f" ░{_EIGHTHS}█")  # a bar goes before its figure
    value = text if column.value is None else column.value(row)
    if value is text:
        if text in ("", "—", _UNKNOWN):
            return None
        number = _NUMBER.match(text)
        value = number.group().lstrip("#").replace(",", "") if number else text.casefold()
    with contextlib.suppress(TypeError, ValueError):
        value = float(value)
    return None if value is None or value != value else value  # no number is unknown


def _chosen_row(view: View, name: str) -> int:
    """Return which row of a panel is selected, -1 for none."""
    return view.selected if view.listed == name else -1


def _laid(cells: Sequence[_Cell], columns: Sequence[_Column], room: int, gap: int) -> _Row:
    """Bring cells to their widths, `gap` spaces apart."""
    row: _Row = []
    for (text, style), column in zip(cells, columns, strict=True):
        width = column.width or room
        text = _shortened(text, width)
        spaces = " " * (width - _cells(text))
        row.append(((f"{text}{spaces}" if column.left else f"{spaces}{text}") + " " * gap, style))
    row[-1] = (row[-1][0][:-gap], row[-1][1])
    return row


def _fitting(columns: Sequence[_Column], width: int, gap: int) -> tuple[list[_Column], int]:
    """Drop the columns of the highest rank until the rest fits; return the width left over."""
    fitting = list(columns)
    while True:
        fixed = sum(column.width + gap for column in fitting) - gap  # integers
        # A growing column without room for its words is worth less than any figure.
        needed = fixed + (28 if any(not column.width for column in fitting) else 0)
        worst = max(range(len(fitting)), key=lambda i: fitting[i].rank)
        if needed <= width or not fitting[worst].rank:
            return fitting, max(width - fixed, 0)
        del fitting[worst]


def _rows_under(
    columns: Sequence[_Column], rows: Iterable[Any], width: int, gap: int = 2
) -> list[_Row]:
    """Lay rows under the titles of their columns, as many of those as fit."""
    fitting, room = _fitting(columns, width, gap)
    titles = _laid([(wording(one.term).upper(), "dim") for one in fitting], fitting, room, gap)
    cells = ([one.cell(row) for one in fitting] for row in rows)
    return [titles, *(_laid(line, fitting, room, gap) for line in cells)]


# === Charts ===
# Lines and areas over time in dots, two by four a cell, with round figures at the right, moments
# below, lines across for what is marked and signs for points. Between two points a line stays at
# the first: nothing is drawn that was not measured. Knows of no chart what it is about.


class _Line(NamedTuple):
    """One series: what each point ended with, its extremes, and a style, or one by value.

    `fill` is "" for a line, "floor" or "ceiling" for an area to the one or the other.
    """

    values: Sequence[float | None]
    style: str | Callable[[float], str]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    fill: str = ""


class _Mark(NamedTuple):
    """A line across the chart at a value, with its name."""

    value: float
    name: str
    style: str


class _Plane(NamedTuple):
    """The cells of a chart, and which value stands at the middle of its first and last dot."""

    low: float
    high: float
    wide: int
    tall: int

    def dot(self, value: float) -> int:
        """Return how many dots below the first one a value is."""
        last = 4 * self.tall - 1
        share = (self.high - value) / (self.high - self.low)
        return min(max(int(share * last + 0.5), 0), last)

    def row(self, value: float) -> int:
        """Return how many rows below the first one a value is."""
        return self.dot(value) // 4

    def value(self, row: int) -> float:
        """Return the value in the middle of a row."""
        return self.high - (row * 4 + 1.5) / (4 * self.tall - 1) * (self.high - self.low)

    def holds(self, value: float) -> bool:
        """Return whether a value is on it."""
        return self.low <= value <= self.high


class _Canvas(NamedTuple):
    """The letters of a chart and their styles, row by row."""

    signs: list[list[str]]
    styles: list[list[str]]

    @classmethod
    def blank(cls, plane: _Plane) -> Self:
        """Return an empty one."""
        rows = range(plane.tall)
        return cls([[" "] * plane.wide for _ in rows], [[""] * plane.wide for _ in rows])

    def rows(self, labels: Sequence[_Row]) -> list[_Row]:
        """Return the rows, each with what stands right of it."""
        lines = zip(self.signs, self.styles, labels, strict=True)
        return [[*_runs(signs, styles), *label] for signs, styles, label in lines]


# The dots of one cell, of its left and right half: [half][first][last], rows 0 to 3.
_HALF: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_RUNS: Final = [
    [[sum(half[first : last + 1]) for last in range(4)] for first in range(4)]  # integers
    for half in _HALF
]
_BRAILLE: Final = [" ", *(chr(0x2800 + dots) for dots in range(1, 256))]


def _line_chart(
    at: Sequence[int], lines: Sequence[_Line], width: int, height: int,
    marks: Sequence[_Mark] = (), unit: str = "", least: float = 0.0,
    span: tuple[float | None, float | None] = (None, None),
) -> list[_Row]:  # fmt: skip
    """Draw series over time in exactly `height` rows, none wider than `width`.

    `least` is the least difference that fills the height, `span` fixes either end of the scale.
    """
    lines = [_cleaned(line) for line in lines]
    known = [x for line in lines for x in _ends_of(line)]
    # A fixed end alone is no scale.
    known += [x for x in span if known and _sane(x)]
    if not known or not at or width < 8 or height < 2:
        return [[("no point yet" if height > 1 else "", "dim")]]
    low, high = _reach_of(known, marks, least, span)
    tall = height - 1 if height >= 4 else height
    last = lines[0].values[-1] if lines[0].values else None
    labels, room = _labels(low, high, tall, width, unit, last, marks)
    plane = _Plane(low, high, max(width - room - 1, 1), tall)
    since, until = at[0], max(at[-1], at[0])
    canvas = _plotted(at, lines, plane, since, until)
    _strike(canvas, marks, plane, lambda value: f"{_round_figure(value)}{unit}")
    return [*canvas.rows(labels), _moments(since, until, plane.wide)][:height]


def _ends_of(line: _Line) -> list[float]:
    """Return the least and the greatest value of a series, if it has any."""
    low = [x for x in line.low if x is not None]
    high = low if line.high is line.low else [x for x in line.high if x is not None]
    return [min(low), max(high)] if low and high else []


def _cleaned(line: _Line) -> _Line:
    """Return a series without what cannot be drawn, with extremes for all its values."""
    values, low, high = (
        [x if x is not None and -1e15 < x < 1e15 else None for x in figures]
        for figures in (line.values, line.low, line.high)
    )
    whole = len(low) == len(high) == len(values) and not (None in low or None in high)
    return line._replace(
        values=values, low=low if whole else values, high=high if whole else values
    )


def _sane(value: float | None) -> TypeGuard[float]:
    """Return whether a value can be drawn."""
    return value is not None and abs(value) < 1e15


def _reach_of(
    known: Sequence[float], marks: Sequence[_Mark], least: float,
    span: tuple[float | None, float | None],
) -> tuple[float, float]:  # fmt: skip
    """Return the ends of a scale, which marks widen to twice what the values need."""
    low, high = min(known), max(known)
    if _sane(span[0]):
        low = max(span[0], low) if span[1] is not None else span[0]
    if _sane(span[1]):
        high = min(span[1], high) if span[0] is not None else span[1]
    need = max(high - low, least, abs(high) * 1e-6, 1e-9)
    for mark in marks:
        if _sane(mark.value) and max(high, mark.value) - min(low, mark.value) <= 2 * need:
            low, high = min(low, mark.value), max(high, mark.value)
    spare = max(need - (high - low), 0.0)
    # An end that is fixed stays: what never fell is a line at the top, no area in the middle.
    below = (_sane(span[1]) + 1 - _sane(span[0])) / 2
    return low - spare * below, high + spare * (1 - below)


def _column(at: int, since: int, until: int, wide: int) -> int:
    """Return the column of a moment."""
    return min(max((at - since) * wide // (until - since + 1), 0), wide - 1)


def _plotted(
    at: Sequence[int], lines: Sequence[_Line], plane: _Plane, since: int, until: int
) -> _Canvas:
    """Draw the series, a later one over an earlier one."""
    dots, canvas = [[0] * plane.wide for _ in range(plane.tall)], _Canvas.blank(plane)
    count, span = 2 * plane.wide, until - since + 1
    edges, begin = [0] * count, 0
    for n in range(1, count):  # one goes on where the one before it was found
        edges[n] = begin = bisect_left(at, since - (-n * span // count), begin)
    edges.append(len(at))
    for number, line in enumerate(lines):
        by = line.style if callable(line.style) else None
        styles = [by(plane.value(n)) if by else str(line.style) for n in range(plane.tall)]
        if not number:  # a row of one style is one piece
            canvas.styles[:] = [[style] * plane.wide for style in styles]
        for column, (top, bottom) in enumerate(_heights_of(line, edges, plane)):
            if top > bottom:
                continue
            half, cell = _RUNS[column & 1], column >> 1
            for row in range(top >> 2, (bottom >> 2) + 1):
                first, end = top - 4 * row, bottom - 4 * row
                dots[row][cell] |= half[first if first > 0 else 0][end if end < 3 else 3]
                if number:
                    canvas.styles[row][cell] = styles[row]
    canvas.signs[:] = [list(map(_BRAILLE.__getitem__, row)) for row in dots]
    return canvas


def _heights_of(line: _Line, edges: Sequence[int], plane: _Plane) -> list[tuple[int, int]]:
    """Return the first and last dot of each column of dots; (1, 0) where there is none."""
    floor, ceiling = 4 * plane.tall - 1, plane.high + 0.5 / _scale_of(plane)
    scale, gaps, count = _scale_of(plane), None in line.values, len(line.values)
    known: list[tuple[int, int]] = []
    before: int | None = None
    top, bottom = 1, 0
    for begin, end in pairwise(edges):
        if begin < end <= count:
            reach = _reached_in(line, begin, end, gaps)
            if reach is None:  # known to be nothing
                top, bottom, before = 1, 0, None
            else:
                high, low, last = reach
                top, bottom = int((ceiling - high) * scale), int((ceiling - low) * scale)
                now = bottom if last == low else int((ceiling - last) * scale)
                if top < 0 or bottom > floor:  # an end of the scale is fixed
                    top, bottom, now = (min(max(x, 0), floor) for x in (top, bottom, now))
                if before is not None:
                    top, bottom = min(top, before), max(bottom, before)
                before = now
        elif before is not None:  # no point here: it is as it was
            top = bottom = before
        if top <= bottom and line.fill:
            top, bottom = (top, floor) if line.fill == "floor" else (0, bottom)
        known.append((top, bottom))
    return known


def _scale_of(plane: _Plane) -> float:
    """Return how many dots stand for one more."""
    return (4 * plane.tall - 1) / (plane.high - plane.low)


def _reached_in(line: _Line, begin: int, end: int, gaps: bool) -> tuple[float, float, float] | None:
    """Return the highest, lowest and last of some points; None if the last is a gap."""
    last = line.values[end - 1]
    if last is None:
        return None
    if end - begin == 1:
        return line.high[begin], line.low[begin], last  # type: ignore[return-value]
    highs, lows = line.high[begin:end], line.low[begin:end]
    if gaps:
        highs = lows = [x for x in highs if x is not None]
    # Without gaps none of them is None.
    return max(highs), min(lows), last  # type: ignore[type-var,return-value]


def _strike(
    canvas: _Canvas, marks: Sequence[_Mark], plane: _Plane, write: Callable[[float], str]
) -> None:
    """Draw lines across where nothing else is; an arrow at the edge for what is off the scale."""
    for mark in marks:
        if not _sane(mark.value):
            continue
        row, text = plane.row(mark.value), f" {mark.name} "
        signs, styles = canvas.signs[row], canvas.styles[row]
        if plane.holds(mark.value):
            for column, sign in enumerate(signs):
                if sign == " ":
                    signs[column], styles[column] = "┈", mark.style
        else:
            arrow = "▲" if mark.value > plane.high else "▼"
            text = f" {arrow} {mark.name} {write(mark.value)} "
        place = max("".join(signs).replace("┈", " ").find(" " * len(text)), 0)
        for column, letter in enumerate(text[: max(len(signs) - place, 0)], place):
            signs[column], styles[column] = letter, mark.style


def _runs(signs: Sequence[str], styles: Sequence[str]) -> _Row:
    """Join neighbours of one style."""
    whole = "".join(signs)
    if styles.count(styles[0]) == len(styles):
        return [(whole, styles[0])]
    row: _Row = []
    place = 0
    for style, run in groupby(styles):
        count = len(list(run))
        row.append((whole[place : place + count], style))
        place += count
    return row


# --- Axes ---

_ROUND: Final = (1.0, 2.0, 5.0, 10.0)


def _ticks(low: float, high: float, most: int) -> tuple[list[float], int]:
    """Return at most so many round values between two ends, and the decimals that they need."""
    rough = (high - low) / max(most, 1)
    if not (math.isfinite(rough) and rough > 0):
        return [], 2
    power = math.floor(math.log10(rough))
    step = next((x for n in _ROUND if (x := n * 10.0**power) >= rough), 10.0 ** (power + 1))
    first, digits = math.ceil(low / step), max(-math.floor(math.log10(step) + 1e-9), 0)
    values = [(first + n) * step for n in range(most + 1)]
    return [value for value in values if value <= high], digits


def _round_figure(value: float) -> str:
    """Write a value with about five digits that count."""
    size = abs(value)
    return _figure(value, 2 if not size else max(4 - math.floor(math.log10(size)), 0))


def _labels(
    low: float, high: float, tall: int, width: int, unit: str, last: float | None,
    marks: Sequence[_Mark], exact: int | None = None,
) -> tuple[list[_Row], int]:  # fmt: skip
    """Return what stands right of each row, and how wide: round values, marks, and the last.

    Marks and the last have `exact` decimals.
    """
    plane = _Plane(low, high, 1, tall)
    values, digits = _ticks(low, high, max(min(tall // 2, 9), 2))
    texts = {plane.row(x): (f"{_figure(x, digits)}{unit}", "dim") for x in values}
    exact = max(digits, 2 if high < 10_000 else 0) if exact is None else exact
    for mark in marks:
        if _sane(mark.value) and plane.holds(mark.value):
            texts[plane.row(mark.value)] = f"{_figure(mark.value, exact)}{unit}", mark.style
    if last is not None:
        texts[plane.row(last)] = f"{_figure(last, exact)}{unit}", "key"
    wide = max((len(text) for text, _ in texts.values()), default=0)
    wide = max(wide, 7) if width >= 48 else wide  # of charts above each other, axes meet
    if wide + 5 > width:  # no room for words
        return [[("│", "faint")] for _ in range(tall)], 0
    now, rows = None if last is None else plane.row(last), list[_Row]()
    for row in range(tall):
        text, style = texts.get(row, ("", "dim"))
        sign = "◀" if row == now else "├" if text else "│"
        rows.append([(sign, "key" if row == now else "faint"), (f"{text:>{wide}}", style)])
    return rows, wide


_STEPS_S: Final = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200,
    86_400, 172_800, 604_800, 2_592_000, 31_536_000,
)  # fmt: skip


def _moments(since: int, until: int, wide: int) -> _Row:
    """Draw the axis of time: round moments under the columns that they stand for."""
    seconds = (until - since) / 1e9
    day = "%m-%d %H:%M" if seconds >= 86_400 else "%H:%M"
    step = next((s for s in _STEPS_S if seconds / s * 14 <= wide), _STEPS_S[-1])
    pattern = "%H:%M:%S" if step < 60 else "%Y-%m-%d" if step >= 86_400 else day
    return _at_moments(since, until, wide, step, pattern)


def _at_moments(since: int, until: int, wide: int, step: int, pattern: str) -> _Row:
    text, each = "", step * 10**9
    for moment in range(-(-since // each) * each, until + 1, each):
        label = f"╵{_clock(moment, pattern)}"
        column = _column(moment, since, until, wide)
        if column >= len(text) + (1 if text else 0) and column + len(label) <= wide:
            text = f"{text:<{column}}{label}"
    return [(text or _clock(until, "%H:%M:%S")[:wide], "dim")]


# === Markets and signals ===
# What is seen of each market, with the newest scores beside it, and what each score was computed
# from. Opinions of nothing: no row is sorted or coloured by a score.


def _moved(row: MarketRow) -> _Cell:
    before = row.history[-2] if len(row.history) > 1 else None
    return _trend(None if before is None or row.price is None else row.price - before)


def _status(row: MarketRow) -> _Cell:
    if row.stale_s is not None:
        return f"stale {_figure(row.stale_s, 0)} s", "watch"
    return _state(row.status, "watch") if row.status else (_UNKNOWN, "watch")


def _market_columns(snapshot: Snapshot) -> list[_Column]:
    names = dict.fromkeys(score.signal for row in snapshot.markets for score in row.scores)
    # Six scores, a history and a spread must find room side by side at 120 columns.
    bar = 4 if len(names) < 5 else 2

    def column(name: str) -> _Column:
        title = name.upper()[:10] if bar == 4 else _SHORT.get(name, name.upper()[:6])

        def value(row: MarketRow) -> float | None:
            return next((score.value for score in row.scores if score.signal == name), None)

        def cell(row: MarketRow) -> _Cell:
            score = value(row)
            text = "  —" if score is None else f"{_gauge(score / 100, bar)} {_figure(score, 0):>3}"
            return text, "accent"

        return _Column(title, max(bar + 4, len(title)), cell, 1, True, value)

    wide = _price_room(snapshot.markets)
    columns = [one._replace(width=max(one.width, wide)) if one.term in _PRICED_TERMS else one
               for one in _MARKET_COLUMNS]  # fmt: skip
    return [*columns, *map(column, names)]


_PRICED_TERMS: Final = ("price", "oracle_price")


def _price_room(rows: Iterable[Any]) -> int:
    """Return the cells of the smallest prices: their last digits are those that move."""
    return max((_grid(row.market)[0] + 2 for row in rows), default=0)


# Words of six letters at most.
_SHORT: Final = {
    "momentum": "MOMENT", "volatility": "VOLAT.", "imbalance": "IMBAL.", "liquidity": "LIQUID",
    "funding": "FUND.",
}  # fmt: skip


def _climb(row: MarketRow) -> float | None:
    """Return by which part of itself a market's price has risen over its history."""
    return row.history[-1] / row.history[0] - 1.0 if row.history and row.history[0] else None


_MARKET_COLUMNS: Final = (
    _TICKER,
    _Column("price", 10, lambda row: (_figure(row.price, _grid(row.market)[0]), ""),
            value=attrgetter("price")),
    _Column("", 1, _moved),
    _Column("history", 16, lambda row: (_spark(_every(row.history, 16), 16), "accent"), 3, True,
            _climb),
    _Column("between", 24, lambda row: _between(
        row.history, lambda price: _figure(price, _grid(row.market)[0])), 10, True),
    _Column("spread_bps", 8, lambda row: (_figure(row.spread_bps, 2, unit=" bp"), ""), 2,
            value=attrgetter("spread_bps")),
    _Column("volume_60s", 10, lambda row: (_figure(row.volume_60s, 0), ""), 4,
            value=attrgetter("volume_60s")),
    _Column("oracle_price", 11, lambda row: (_figure(row.oracle, _grid(row.market)[0]), ""), 8,
            value=attrgetter("oracle")),
    _Column("funding_1h", 10, lambda row: (_percent(row.funding_1h, 4, sign=True), ""), 9,
            value=attrgetter("funding_1h")),
    _Column("status", 11, _status, 1, True),
)  # fmt: skip
_MARKETS: Final = _Table("markets", lambda snapshot: snapshot.markets, _market_columns,
                         "no market yet", "ticker",
                         faded=lambda row: row.stale_s is not None)  # fmt: skip


_SCALE: Final = 21  # cells: a step is 5 points, and 50 has one in the middle


def _scale(value: float, triggers: Sequence[float]) -> str:
    """Draw where a score stands from 0 to 100, where its triggers are, and where 50 is."""
    cells = ["─"] * _SCALE
    cells[_SCALE // 2] = "┼"
    for trigger in triggers:
        cells[round(min(max(trigger, 0.0), 100.0) / 100.0 * (_SCALE - 1))] = "┃"
    if not math.isnan(value):
        cells[round(min(max(value, 0.0), 100.0) / 100.0 * (_SCALE - 1))] = "●"
    return "".join(cells)


def _signal_columns(snapshot: Snapshot) -> list[_Column]:
    curves = {row.ticker: row.curves for row in snapshot.markets}
    spread = {(row.ticker, row.signal): row for row in snapshot.signals}
    drawn = any(curves.values())
    named = max((len(score.signal) for row in snapshot.markets for score in row.scores), default=0)

    def curve(score: Score) -> _Cell:
        return _spark(curves.get(score.ticker, {}).get(score.signal, ()), 16), "accent"

    def climb(score: Score) -> float | None:
        points = curves.get(score.ticker, {}).get(score.signal, ())
        return points[-1] - points[0] if points else None

    def scale(score: Score) -> _Cell:
        return _scale(score.value, snapshot.triggers.get(score.signal, ())), ""

    def quantile(term: str, place: int) -> _Column:
        def cell(score: Score) -> _Cell:
            row = spread.get((score.ticker, score.signal))
            known = row is not None and len(row.quantiles) > place
            return (_figure(row.quantiles[place], 0) if row and known else "", "dim")

        return _Column(term, 6, cell, 5)

    def bins(score: Score) -> _Cell:
        row = spread.get((score.ticker, score.signal))
        return _spark(row.bins if row else (), 10), "accent"

    return [
        _TICKER,
        _Column("signal", max(named, 11), lambda score: (score.signal, ""), 0, True),
        _Column("score", 7, lambda score: (_figure(score.value, 1), "bold"),
                value=attrgetter("value")),
        _Column("0 to 100", _SCALE, scale, 2, True, attrgetter("value")),
        *([_Column("curve", 16, curve, 3, True, climb)] if drawn else []),
        *([quantile("p10", 1), quantile("median", 2), quantile("p90", 3),
           _Column("spread", 10, bins, 5, True)] if spread else []),
        _Column("frames", 18, lambda score: (f"#{score.first} to #{score.seq}", "dim"), 4, True),
        _Column("inputs", 0, lambda score: (
            " · ".join(worded(*pair) for pair in score.inputs), ""), 1, True),
    ]  # fmt: skip


def _calculation(snapshot: Snapshot, score: Score, width: int, height: int) -> list[_Row]:
    """Work the selected score out from its inputs, beside its triggers and what it was so far."""
    if not snapshot.signals or width < 60:
        return []  # among other panels there is no room for it
    steps = worked(score)
    head: _Row = [
        (f"{score.ticker} {score.signal} ", "bold"), (f"{_figure(score.value, 2)} ", "accent"),
        ("from frame ", "dim"), (f"#{score.first} to #{score.seq}", "key"),
    ]  # fmt: skip
    rows: list[_Row] = [[], head]
    for step in steps:
        of = _figure(step.value, 4)
        rows.append([(f"  {step.name} = ", "dim"), (step.formula, "")])
        rows.append([(" " * (len(step.name) + 2) + " = ", "dim"), (f"{step.numbers} = ", ""),
                     (of, "bold")])  # fmt: skip
    means = dict.fromkeys(words for step in steps for words in step.means)
    rows += [[(f"  where {words}", "dim")] for words in means]
    if not steps:
        rows.append([("  a signal of its own: its formula is in its file", "dim")])
    known = next((row for row in snapshot.signals
                  if (row.ticker, row.signal) == (score.ticker, score.signal)), None)  # fmt: skip
    rows += _so_far(known, width) if known is not None else []
    weight = known.weight if known is not None else None
    if weight is not None:
        rows.append(_weighed(weight, snapshot.triggers.get("composite", ())))
    else:
        rows.append(_changes_at(score, snapshot.triggers.get(score.signal, ())))
    return rows[: max(height, 0)]


def _so_far(known: ScoreHistory, width: int) -> list[_Row]:
    """Draw what a score was so far: the newest values with their scale, and how all spread."""
    terms = ("least", "p10", "median", "p90", "greatest")
    quantiles = zip(terms, known.quantiles, strict=False)
    parts = [
        (0, [("  so far", "dim")]),
        *((0, _named(term, _figure(value, 0))) for term, value in quantiles),
        (1, [("0 ", "dim"), (_spark(known.bins, 10), "accent"), (" 100", "dim")]),
        (2, [(f"of {known.count:,} values", "dim")]),
    ]
    rows: list[_Row] = [_chunks(parts, width)]
    if known.points:
        room = max(min(width - 24, len(known.points)), 1)
        shown = known.points[-room:]
        rows.append([(f"  newest {_figure(min(shown), 0)} ", "dim"),
                     (_spark(shown, room), "accent"),
                     (f" {_figure(max(shown), 0)}", "dim")])  # fmt: skip
    return rows


def _weighed(weight: float, triggers: Sequence[float]) -> _Row:
    """Say what a score is to the composite, and where that changes what is done."""
    row: _Row = [("  ", ""), (_percent(weight, 0), "bold"), (" of the composite", "dim")]
    for word, trigger in zip((": opens at ", ", closes at "), triggers, strict=False):
        row += [(word, "dim"), (_figure(trigger, 1), "watch")]
    if triggers:
        mirror = ", ".join(_figure(100.0 - trigger, 1) for trigger in triggers)
        row.append((f" (short {mirror})", "dim"))
    return row


def _changes_at(score: Score, triggers: Sequence[float]) -> _Row:
    if not triggers:
        return [("  no trigger point of its own, nor a weight: nothing is decided by it", "dim")]
    parts: _Row = [("  the strategy changes what it does at ", "dim")]
    for place, trigger in enumerate(triggers):
        side = "above" if score.value >= trigger else "below"
        parts += [(" and " * bool(place), "dim"), (_figure(trigger, 1), "watch"),
                  (f" (it is {_figure(abs(score.value - trigger), 1)} {side})", "")]  # fmt: skip
    return parts


def _usual(snapshot: Snapshot, _: int) -> list[_Row]:
    """Say while what is usual is of less than a day: levels still warm up."""
    inputs = (score.inputs for row in snapshot.markets for score in row.scores)
    hours = [value for pairs in inputs for name, value in pairs if name == "day_h"]
    if not hours or min(hours) >= _WHOLE_H:
        return []
    known = f"{min(hours):.1f} h" if min(hours) >= 1 else f"{min(hours) * 60:.0f} min"
    what = f"levels warm up: usual is of {known}, not of a day yet"
    return [[(what, "watch")]]


_WHOLE_H: Final = 22.0  # a quiet market counts fewer seconds than a day has
_SIGNALS: Final = _Table(
    "signals", lambda snapshot: [score for row in snapshot.markets for score in row.scores],
    _signal_columns, "no score yet: the engines warm up", "ticker", above=_usual,
    foot=_calculation)  # fmt: skip

# === Decisions and tape ===
# What was wanted and why, what risk and the venue made of it, and everything in the order in which
# it happened. Shows reasons as they were given, each row with the id that `why` takes.


def _target(row: Decision) -> _Cell:
    target = f"{_figure(row.target_usdc, 0, sign=True)} USDC"
    if row.action == "hold":
        return target, "dim"
    return f"{_figure(row.previous_usdc, 0, sign=True)} → {target}", _trend(row.target_usdc)[1]


def _event(row: TapeRow) -> _Cell:
    """Return the word of an event: of what the guard did, which way."""
    return wording(row.kind, row.side), _STATES.get(row.kind, "")


def _event_columns(snapshot: Snapshot) -> list[_Column]:
    return [
        _Column("", 8, lambda row: (_clock(row.at), "dim"), 0, True),
        _Column("", 12, _event, 0, True),
        _id_column(snapshot.tape, 4, 0),
        _Column("", 8, lambda row: (row.ticker, "bold"), 0, True),
        _Column("", 0, lambda row: (row.text, ""), 0, True),
    ]


def _id_column(rows: Sequence[TapeRow] | Sequence[OrderRow], width: int, rank: int) -> _Column:
    """Return the column of ids: one of an earlier run begins with its number."""
    wide = max((len(row.id) for row in rows if row.run), default=width)
    return _Column("", max(width, wide), lambda row: (row.id, "key"), rank, True)


def _is_earlier(row: TapeRow | OrderRow) -> bool:
    return row.run > 0


_TAPE: Final = _Table("tape", lambda snapshot: snapshot.tape, _event_columns,
                      "nothing has happened yet", history=True, faded=_is_earlier)  # fmt: skip

# === Orders ===
# Every order as it stands, and what was refused before it became one: what of it was filled, at
# which price and cost, and in words why the rest was not. What an order's state means is the
# layers'; here it gets a colour.


def _results(snapshot: Snapshot, width: int) -> list[_Row]:
    # What is paid is a cost, and negative.
    money = [(name, _figure(_usdc(quote), sign=True)) for name, quote in snapshot.money]
    return [_pairs(width, *money, ("in", "USDC")), _pairs(width, *snapshot.counts)]


_Steps = list[tuple[list[_Row], int]]  # the rows of each step, and how many of them must stay


def _squeezed(steps: _Steps, height: int) -> list[_Row]:
    """Return the rows of all steps; what is too much leaves the longest of them, from its end."""
    rows = [list(step) for step, _ in steps]
    while sum(map(len, rows)) > height:  # integers
        spare = [len(step) - least for step, (_, least) in zip(rows, steps, strict=True)]
        if max(spare, default=0) <= 0:
            break
        rows[spare.index(max(spare))].pop()
    return [row for step in rows for row in step][:height]


def _step(name: str, first: _Row, *more: _Row) -> list[_Row]:
    """Put a step's name before its first row, and as much room before the others."""
    return [[(f"{name:<10}", "key"), *first], *([(" " * 10, ""), *row] for row in more)]


def _fills_together(fills: Sequence[Execution], digits: tuple[int, int]) -> _Row:
    size = _added(fill.size for fill in fills)
    paid, fee = _added(fill.usdc for fill in fills), sum(fill.fee for fill in fills)  # integers
    slipped = [fill.slippage for fill in fills if fill.slippage is not None]
    lost = _signed(-_added(slipped) if slipped else None)
    average = _figure(paid / size if size else None, digits[0] + 1)
    return [
        (f"{_figure(size, digits[1])} at {average}", "bold"),
        (" fee ", "dim"), _signed(_usdc(fee, -1)), (" slippage ", "dim"), lost, (" USDC", "dim"),
    ]  # fmt: skip


def _fill_row(fill: Execution, digits: tuple[int, int], width: int) -> _Row:
    slipped = _figure(_less(fill.slippage_bps), 2, sign=True, unit=" bp")
    waited = "" if fill.waited_ns is None else f"after {_duration(fill.waited_ns / 1e9, 'ms')}"
    at = f"{_figure(fill.size, digits[1])} at {_figure(fill.price, digits[0])}"
    fee: _Row = [(f"{fill.liquidity.lower()} fee ", "dim"), _signed(_usdc(fill.fee, -1))]
    return _chunks([
        (0, [(at, "")]), (1, fee),
        (3, [(f"mid {_figure(fill.mid_sent, digits[0] + 1)}", "")]), (2, [(slipped, "")]),
        (5, [(waited, "dim")]), (4, [(f"{fill.id} #{fill.seq}", "dim")]),
    ], width, " ")  # fmt: skip


def _sent_or_refused(snapshot: Snapshot) -> list[OrderRow]:
    """Return open orders first, then what ended or was refused, each the newest first."""
    answered = {row.verdict for row in snapshot.orders}
    rows = [*snapshot.orders]
    for verdict in snapshot.verdicts:
        if isinstance(verdict, Denied):
            rows.append(_refused_row(verdict))
        elif not isinstance(verdict, Withdraw) and verdict.id not in answered:
            # Markets change with every price: they are read where it cannot be helped.
            found = (row.market for row in snapshot.markets if row.ticker == verdict.order.ticker)
            rows.append(_unanswered_row(verdict, next(found, None)))
    return sorted(rows, key=lambda row: (row.age_s is None, -row.at, -row.seq))


def _unanswered_row(
    verdict: Approved | Reduce | Bracket, market: PerpetualMarket | None
) -> OrderRow:
    """Make a row of what was let go, and of which nothing was reported yet."""
    order, by = verdict.order, "guard"
    if not isinstance(verdict, Reduce):
        by = verdict.decision.id if isinstance(verdict, Approved) else verdict.decision
    size = price = None
    if market is not None:
        size, price = float(market.size(order.quantums)), float(market.price(order.subticks))
    return OrderRow(
        id=verdict.id, at=verdict.at, seq=verdict.seq, ticker=order.ticker, market=market,
        side=order.side,
        size=size, price=price, status="unanswered", why=sign_text(verdict.why), by=by,
        verdict=verdict.id,
    )  # fmt: skip


def _refused_row(denied: Denied) -> OrderRow:
    """Make a row of what never became an order: its figures stand in its words."""
    by = "guard" if denied.decision is None else denied.decision.id
    why = sign_text(f"{denied.reason}: {denied.why}")
    return OrderRow(
        id=denied.id, at=denied.at, seq=denied.seq, ticker=denied.ticker, status="denied", why=why,
        verdict=denied.id, by=by,
    )  # fmt: skip


def _order_columns(snapshot: Snapshot) -> list[_Column]:
    def price(term: str, rank: int, finer: int = 0) -> _Column:
        def cell(row: OrderRow) -> _Cell:
            value = getattr(row, term)
            return ("" if value is None else _figure(value, _grid(row.market)[0] + finer)), ""

        return _Column(term, 10, cell, rank)

    def size(row: OrderRow) -> _Cell:
        return ("" if row.status == "denied" else _figure(row.size, _grid(row.market)[1])), ""

    return [
        _Column("", 8, lambda row: (_clock(row.at), "dim"), 0, True),
        _id_column(snapshot.orders, 5, 1),
        _Column("ticker", 8, lambda row: (row.ticker, "bold"), 0, True),
        _Column("side", 4, lambda row: _state(row.side), 0, True),
        _Column("size", 9, size, 2),
        _Column("state", 13, lambda row: _state(row.status), 0, True),
        _Column("filled", 7, _filled_part, 1),
        price("average", 3, 1),
        price("price", 5)._replace(term="limit"),
        price("trigger", 12),
        _Column("kind", 20, lambda row: (row.kind, "dim"), 8, True),
        _Column("fees", 8, lambda row: _signed(_usdc(row.fee, -1)) if row.filled else ("", ""), 6),
        _Column("age", 7, lambda row: (
            "" if row.age_s is None else _duration(row.age_s), ""), 7,
            value=attrgetter("age_s")),
        _Column("by", 7, lambda row: (row.by, "danger" if row.by == "guard" else "dim"), 9, True),
        _Column("because", 0, lambda row: (row.why, "watch" if row.why else ""), 4, True),
    ]  # fmt: skip


def _filled_part(row: OrderRow) -> _Cell:
    if row.status == "denied":
        return "", ""
    return _percent(row.filled / row.size if row.size else None, 0), "" if row.filled else "dim"


def _order_foot(snapshot: Snapshot, row: OrderRow, width: int, height: int) -> list[_Row]:
    """Draw the fills of one order, and the verdict that let it go or refused it."""
    if height < 3:
        return []
    digits = _grid(row.market)
    verdict_words = "which is over" if row.run else f"{row.verdict or 'no'} verdict"
    title = [(f"{row.id} ", "bold"), (f"of {row.by or _UNKNOWN}, {verdict_words}", "dim")]
    verdict = next((one for one in snapshot.verdicts if one.id == row.verdict), None)
    why = (
        []
        if verdict is None
        else _step("verdict", *([(x, "")] for x in _folded(sign_text(verdict.why), width - 10)))
    )
    fills = [_fill_row(fill, digits, width - 10) for fill in row.fills]
    together = [_fills_together(row.fills, digits)] if len(fills) > 1 else []
    rows = _step("fills", *together, *fills) if fills else []
    return [[], title, *_squeezed([(why, 1 if why else 0), (rows, min(len(rows), 2))], height - 2)]


_ORDERS: Final = _Table("orders", _sent_or_refused, _order_columns, "no order yet", above=_results,
                        foot=lambda snapshot, row, width, height: _order_foot(
                            snapshot, row, width, height) if height > 5 else [], part=2,
                        gap=1, faded=_is_earlier)  # fmt: skip

# === Strategies ===
# Who trades the account: what each of them wants, was allowed and has, and one decision step by
# step, from the scores to what became of it. Weighs scores as the strategy's settings say, which
# shows what a decision rests on; what was decided is the layer's.

_REACH: Final = 21  # cells, 0 in the middle


def _strategies(snapshot: Snapshot, width: int) -> list[_Row]:
    """Draw the strategies and their results."""

    def off_best(row: StrategyRow) -> _Cell:
        if row.pnl_usdc is None or row.best_usdc is None:
            return "", ""
        return _signed(min(row.pnl_usdc - row.best_usdc, 0.0))

    rows = snapshot.strategies.rows
    if not rows:
        return [[("nobody trades this account by itself", "dim")]]
    return [*_rows_under([
        _Column("strategy", 12, lambda row: (row.title, "bold"), 0, True),
        _Column("part", 6, lambda row: (_percent(row.share, 0), "")),
        _Column("result", 11, lambda row: _signed(row.pnl_usdc)),
        _Column("off best", 11, off_best, 2),
        _Column("fees", 9, lambda row: _signed(_less(row.fees_usdc)), 3),
        _Column("state", 0, lambda row: (
            row.state, "good" if row.state == "trades" else "watch"), 1, True),
    ], rows, width), []]  # fmt: skip


def _target_columns(snapshot: Snapshot) -> list[_Column]:
    rows = snapshot.strategies.targets
    sizes = [abs(x) for row in rows for x in (row.wants, row.allowed, row.held) if x is not None]
    most = max((x for x in sizes if math.isfinite(x)), default=0.0)

    def money(term: str, rank: int = 0) -> _Column:
        value = attrgetter(term)
        return _Column(term, 10, lambda row: _signed(value(row), 0), rank, value=value)

    allocated = any(row.allowed is not None for row in rows)
    return [
        _Column("strategy", 12, lambda row: (row.strategy, "bold"), 0, True),
        _Column("ticker", 10, lambda row: (row.ticker, "bold"), 0, True),
        money("wants"),
        *([money("allowed")] if allocated else []),
        money("held"),
        _Column("target ┃, held ●", _REACH, lambda row: (_reach(row, most), ""), 1, True),
        _Column("seq", 8, lambda row: (
            "" if row.decision is None else f"#{row.decision.seq}", "dim"), 3, True),
    ]  # fmt: skip


def _goal(row: TargetRow) -> float | None:
    return row.wants if row.allowed is None else row.allowed


def _reach(row: TargetRow, most: float) -> str:
    """Draw where the target is and where what is held, 0 in the middle."""
    cells = ["─"] * _REACH
    cells[_REACH // 2] = "┼"
    for usdc, mark in ((_goal(row), "┃"), (row.held, "●")):
        if usdc is not None and math.isfinite(usdc):
            half = _REACH // 2
            cells[half + round(usdc / (most or 1.0) * half)] = mark
    return "".join(cells)


def _decided_rows(snapshot: Snapshot, row: TargetRow, width: int, height: int) -> list[_Row]:
    """Draw a decision: inputs and weights, thresholds, reasons, verdict; inputs go first."""
    decision = row.decision
    if decision is None or height < 4:
        return []
    by = next(
        (x for x in snapshot.strategies.rows if x.title == row.strategy), StrategyRow(title="")
    )
    title = [
        (f"{row.strategy} ", "bold"), (f"in {row.ticker} ", ""),
        (f"{_clock(decision.at)} #{decision.seq} {decision.id}", "dim"),
    ]  # fmt: skip
    tail = [
        *_threshold_rows(decision, by, width),
        *_wrapped([("→ reasons     ", "dim"), (" · ".join(decision.reasons), "")], width, 2),
        *_verdict_rows(row, decision, width),
    ]
    room = height - 2 - len(tail)
    inputs = _input_rows(decision, row.composite)[: max(room, 0)]
    ranking = _ranking_rows(by.look, row.ticker, width) if room - len(inputs) > 2 else []
    return [[], title, *inputs, *tail, *ranking][:height]


def _input_rows(decision: Decision, made: Composite | None) -> list[_Row]:
    """List the scores, those with a weight first, and what each adds to the whole or scales."""
    parts = {part.signal: part for part in made.parts} if made is not None else {}

    def weight(score: Score) -> float:
        part = parts.get(score.signal)
        return part.weight if part is not None else 0.0

    rows: list[_Row] = []
    for score in sorted(decision.scores, key=weight, reverse=True):
        part = parts.get(score.signal)
        cells = [
            ("  inputs      " if not rows else " " * 14, "dim"), (f"{score.signal:<18} ", ""),
            (f"{_figure(score.value, 1):>5} ", "bold"), (f"{_scale(score.value, ())} ", ""),
        ]  # fmt: skip
        if part is not None and part.weight:
            cells += [(f"{_TIMES} {part.weight:g} → ", "dim"), _signed(part.part, 1)]
        elif part is not None:
            cells += [(f"{_TIMES} {part.factor:.3f}", "dim")]
        rows.append(cells)
    return rows


def _threshold_rows(decision: Decision, by: StrategyRow, width: int) -> list[_Row]:
    """Draw the score that came of it against the thresholds, or else name those."""
    limits = by.thresholds
    words = " · ".join(f"{name} {value:,g}" for name, value in limits.items())
    row: _Row = [("→ thresholds  ", "dim")]
    if not by.weights:
        return _wrapped([*row, (words or "in its reasons", "")], width, 1)
    marks = [x for name in ("enter",) if (x := limits.get(name)) is not None]
    marks += [100.0 - x for x in marks]
    row += [
        ("score              ", ""), (f"{_figure(decision.score, 1):>5} ", "bold"),
        (_scale(decision.score, marks), ""),
    ]  # fmt: skip
    if sum(_cells(text) for text, _ in row) + len(words) < width:  # integers
        return [[*row, (f" {words}", "dim")]]
    return [row, [(" " * 14 + words, "dim")]]


def _verdict_rows(row: TargetRow, decision: Decision, width: int) -> list[_Row]:
    """Draw what was decided, what was cut from it, and what became of it."""
    cells: _Row = [("→ verdict     ", "dim"), (f"{decision.action} ", "accent"), _target(decision)]
    rows = [cells]
    if row.cuts:
        rows += _wrapped([(" " * 14, ""), ("; ".join(row.cuts), "watch")], width, 1)
    if row.verdict is not None:
        kind = _state(row.verdict.kind)
        words = (f" {row.verdict.id} {row.verdict.text}", "")
        rows += _wrapped([(" " * 14, ""), kind, words], width, 1)
    return rows


def _ranking_rows(look: Look | None, ticker: str, width: int) -> list[_Row]:
    """List all markets that were looked at, the strongest first, and why each gets what it gets."""
    ranked = [*enumerate(look.markets if look is not None else (), 1)]
    if len(ranked) > _FEW:  # what does not fit goes from the end: not the market it is about
        ranked.sort(key=lambda row: row[1].ticker != ticker)
    rows: list[_Row] = []
    for place, row in ranked:
        own = row.ticker == ticker
        gets = "" if row.gets_usdc == row.has_usdc else f"{_figure(row.gets_usdc, 0, sign=True)}: "
        stands = f"{place:>2}{'●' if own else ' '}{row.ticker[:9]:<10}{_figure(row.score, 1):>5} "
        rows.append([
            (stands, "bold" if own else ""),
            (_shortened(f"{gets}{row.why}", max(width - 29, 1)), "" if own else "dim"),
        ])  # fmt: skip
    return _step("ranking", *rows) if rows else []


_FEW: Final = 4  # markets of a ranking


_STRATEGIES: Final = _Table(
    "strategies", lambda snapshot: snapshot.strategies.targets, _target_columns,
    "nothing is wanted yet", above=_strategies, below=lambda row: "; ".join(row.cuts),
    foot=_decided_rows)  # fmt: skip

# === Decision walk ===
# One decision step by step: scores and weights, thresholds, ranking, size, verdict, order and
# fills, each with its time and frame. Every figure that a result was computed from stands beside
# it, so that a person can work it out again; the results themselves are the layers'.


def _walk_rows(snapshot: Snapshot, walk: WalkRow, width: int, height: int) -> list[_Row]:
    """Draw a decision's way: why it was made, and what came of it, side by side where wide."""
    if height < 3:
        return []
    decision = walk.decision
    title: _Row = [
        (f"{walk.strategy} ", "bold"), (f"in {decision.ticker} ", ""),
        (f"{_clock(decision.at)} #{decision.seq} {decision.id} ", "dim"),
        (f"{decision.action} ", "accent"), _target(decision),
    ]  # fmt: skip
    room, rows = height - 2, [[], title]
    if width < 112:
        steps = [*_reason_steps(snapshot, walk, width), *_result_steps(snapshot, walk, width)]
        return [*rows, *_squeezed(steps, room)]
    half = width // 2
    left = _squeezed(_reason_steps(snapshot, walk, half - 3), room)
    right = _squeezed(_result_steps(snapshot, walk, width - half), room)
    return [*rows, *_beside([_within(row, half - 2) for row in left], half, right)]


def _reason_steps(snapshot: Snapshot, walk: WalkRow, width: int) -> _Steps:
    return [
        (_score_rows(walk, width), 2), (_sum_rows(walk, width), 1),
        (_crossed_rows(walk, width), 1), (_size_rows(walk, width), 3),
        (_ranking_rows(walk.look, walk.decision.ticker, width), 1), (_reason_rows(walk, width), 1),
    ]  # fmt: skip


def _result_steps(snapshot: Snapshot, walk: WalkRow, width: int) -> _Steps:
    digits = next((_grid(row.market) for row in snapshot.markets
                   if row.ticker == walk.decision.ticker), _grid(None))  # fmt: skip
    return [
        (_judged_rows(walk, width), 1), (_margin_rows(walk, width), 0),
        (_check_rows(walk, width), 0), (_sent_rows(walk, digits, width), 1),
        (_fill_rows(walk, digits, width), 1), (_time_rows(walk, width), 0),
    ]  # fmt: skip


def _score_rows(walk: WalkRow, width: int) -> list[_Row]:
    """List the scores with their weights, what each adds or scales, and the frames behind it."""
    parts = () if walk.composite is None else walk.composite.parts
    scores = {score.signal: score for score in walk.decision.scores}
    whole = _added(part.weight for part in parts)
    rows: list[_Row] = []
    for part in parts:
        scored = scores.pop(part.signal, None)
        does: _Row = [(f"{_TIMES} {part.factor:<14.3f}", "")]
        if part.weight:
            share = f"{_TIMES} {part.weight:g}/{whole:g} ="
            does = [(f"{share:<9}", "dim"), (f"{part.part:>+7.2f}", _trend(part.part)[1])]
        rows.append([*_scored(part.signal, part.value), *does, *_frames(walk, scored, width)])
    unused: _Row = [(f"{'not weighed':<16}", "dim")]
    rows += [
        [*_scored(name, score.value), *unused, *_frames(walk, score, width)]
        for name, score in scores.items()
    ]
    head: _Row = [(f"{'':<12}{'value':>6}  less 50, by weight  frames", "dim")]
    if not rows:
        return _step("scores", [("none", "dim")])
    return _step("scores", *([head, *rows] if parts else rows))


def _scored(signal: str, value: float) -> _Row:
    return [(f"{signal[:12]:<12}", ""), (f"{_figure(value, 1):>6}  ", "bold")]


def _frames(walk: WalkRow, score: Score | None, width: int) -> _Row:
    if score is None:
        return []
    age = walk.decision.seq - score.seq
    before = f", {age:,} before" if age else ""
    texts = (f"#{score.first} to #{score.seq}{before}", f"#{score.first} to #{score.seq}")
    return [("  " + next((t for t in texts if len(t) <= width - 48), f"#{score.seq}"), "dim")]


def _sum_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Work out the score: 50 and the parts, times what scales them."""
    made, score = walk.composite, walk.decision.score
    if made is None:
        return _step(
            "score", [(_figure(score, 1), "bold"), (" by the strategy's own reckoning", "dim")]
        )
    if made.missing:
        row: _Row = [("50, no opinion: ", "watch"), (made.missing, "")]
        return _step("score", *_wrapped(row, width - 10, 1))
    added = _added(part.part for part in made.parts)
    factors = "".join(f" {_TIMES} {part.factor:.3f}" for part in made.parts if not part.weight)
    ends = " in 0 to 100" if score in (0.0, 100.0) else ""
    return _step(
        "score", [(f"50 {added:+.2f}{factors} = ", ""), (_figure(score, 2), "bold"), (ends, "dim")]
    )


def _crossed_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Draw the score among the thresholds."""
    if walk.look is None:
        words = " · ".join(f"{name} {value:,g}" for name, value in walk.limits.items())
        return _step("limits", *([(x, "")] for x in _folded(words or "in its reasons", width - 10)))
    settings, score = walk.look.settings, walk.decision.score
    marks = (settings.enter, 100 - settings.enter, settings.exit, 100 - settings.exit)
    words = (
        f" opens {settings.enter:g}, closes {settings.exit:g} (short {100 - settings.enter:g}, "
        f"{100 - settings.exit:g})"
    )
    row: _Row = [(f"{_figure(score, 1)} ", "bold"), (_scale(score, marks), ""), (words, "dim")]
    [first, *more] = _wrapped(row, width - 10, 2)
    return _step("threshold", first, *more)


def _size_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Work out the size: strength, share of the equity, and what the room left of it."""
    look, ranked = walk.look, walk.ranked
    if look is None or ranked is None:
        return _step("size", [_target(walk.decision)])
    settings, least = look.settings, look.settings.smallest_share
    beyond, width_of = abs(ranked.score - 50), settings.full - settings.enter
    ends = {0.0: f" (0 up to {settings.enter:g})", 1.0: f" (1 from {settings.full:g})"}
    strength: _Row = [
        (f"strength ({beyond:.2f} + 50 - {settings.enter:g}) / {width_of:g} = ", ""),
        (f"{ranked.strength:.3f}", "bold"),
    ]  # fmt: skip
    strength = _chunks(
        [(0, strength), (1, [(ends.get(ranked.strength, ""), "dim")])], width - 10, ""
    )
    if look.equity_usdc is None:
        return _step("size", strength, [("equity unknown: nothing is sized", "watch")])
    earned = (
        f"{settings.market_share:g} {_TIMES} {_figure(look.equity_usdc)} {_TIMES} "
        f"({least:g} + {1 - least:g} {_TIMES} {ranked.strength:.3f})"
    )
    result: _Row = [(" = ", ""), (f"{_figure(abs(ranked.earns_usdc), 0)} USDC", "bold")]
    fits = len(earned) + len(result[1][0]) + 13 <= width
    sizes: list[_Row] = [[(earned, ""), *result]] if fits else [[(earned, "")], result]
    room = (
        f"{look.taken} of {settings.positions} markets held, {_figure(look.gross_usdc, 0)} of "
        f"{_figure(look.limit_usdc, 0)} USDC in use"
    )
    rows = _step("size", strength, *sizes, [_got(ranked)])
    return [*rows, *([(" " * 10, ""), (line, "dim")] for line in _folded(room, width - 10))]


def _got(ranked: Ranked) -> _Cell:
    """Word what a market's plan was, and what it got."""
    has, wants, gets = (
        _figure(usdc, 0, sign=True)
        for usdc in (ranked.has_usdc, ranked.wants_usdc, ranked.gets_usdc)
    )
    if ranked.gets_usdc != ranked.wants_usdc:
        return f"has {has}, wants {wants}, gets {gets}", "watch"
    if ranked.gets_usdc == ranked.has_usdc:
        return f"has {has}, and stays", ""
    return f"has {has}, gets {gets}, all that it wants", ""


def _reason_rows(walk: WalkRow, width: int) -> list[_Row]:
    lines = [part for why in walk.decision.reasons for part in _folded(why, width - 10)]
    return _step("reasons", *([(line, "")] for line in lines)) if lines else []


def _judged_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Word the verdict, when it fell and at which frame."""
    verdict = walk.verdict
    if verdict is None:
        none = "nothing to judge" if walk.decision.action == "hold" else "none yet"
        return _step("verdict", [(none, "dim")])
    head: _Row = [
        _state(type(verdict).__name__.lower()),
        (f" {verdict.id} {_clock(verdict.at)} #{verdict.seq}", "dim"),
    ]  # fmt: skip
    if isinstance(verdict, Denied):
        head.append((f" {verdict.reason}", "watch"))
    words = [[(line, "")] for line in _folded(sign_text(verdict.why), width - 10)]
    figures = [
        [(f"{wording(term)} ", "dim"), (text, "")]
        for term, text in (verdict.figures if isinstance(verdict, Denied) else ())
    ]
    return _step("verdict", head, *words, *figures)


_IN_FLIGHT: Final = "the words count orders in flight as filled; margin before is of what is held"


def _counts_in_flight(verdict: Any) -> bool:
    # Then the free collateral in its words is another than in its margin.
    if not isinstance(verdict, Approved) or "free collateral" not in verdict.why:
        return False
    return usdc_text(verdict.before.free_collateral) not in verdict.why


_MARGIN_TERMS: Final = (
    "free_collateral", "net_collateral", "initial_margin", "maintenance_margin",
)  # fmt: skip


def _margin_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Draw the margin before, and after at the worst price."""
    verdict = walk.verdict
    if not isinstance(verdict, Approved):
        return []
    both = verdict.before, verdict.after
    # What matters most first: where room lacks, rows go from the end.
    figures = {
        "distance, at worst": [percent_text(x.distance) if x.notional else "none" for x in both],
        "leverage": [_figure(x.leverage, 2, unit=_TIMES) if x.notional else "none" for x in both],
    } | {wording(term): [_figure(_usdc(getattr(x, term))) for x in both] for term in _MARGIN_TERMS}
    rows: list[_Row] = [
        [(f"{name:<18}", "dim"), (f"{before:>13} → {after:>12}", "")]
        for name, (before, after) in figures.items()
    ]
    if _counts_in_flight(verdict):
        rows += [[(line, "dim")] for line in _folded(_IN_FLIGHT, width - 10)]
    return _step("margin", *rows)


def _check_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Draw each limit beside what would be."""
    verdict = walk.verdict
    if not isinstance(verdict, Approved):
        return []
    if not walk.checks:
        return _step("checks", [("none: no limit blocks what shrinks a position", "dim")])
    rows: list[_Row] = []
    for check in walk.checks:
        would_be, limit = (_in_unit(value, check.unit) for value in (check.would_be, check.limit))
        word = ("passed", "good") if check.passed else ("beyond", "watch")
        rows.append([
            word, (f" {check.what} {would_be} ", ""),
            (f"{'≥' if check.is_least else '≤'} {limit}", "dim"),
        ])  # fmt: skip
    return _step("checks", *rows)


def _in_unit(value: float | None, unit: str) -> str:
    if unit == "%":
        return percent_text(value)
    return _figure(value, 2, unit=_TIMES if unit == "x" else f" {unit}")


def _sent_rows(walk: WalkRow, digits: tuple[int, int], width: int) -> list[_Row]:
    """Draw the orders that were let go, and how each stands."""
    rows: list[_Row] = []
    for order in walk.orders:
        size, filled = (_figure(size, digits[1]) for size in (order.size, order.filled))
        rows.append(_chunks([
            (0, [_state(order.side), (f" {size} at {_figure(order.price, digits[0])}", "")]),
            (3, [(order.kind, "")]), (0, [_state(order.status)]), (1, [(f"{filled} filled", "")]),
            (2, [(f"{order.id} {_clock(order.at)} #{order.seq}", "dim")]),
        ], width - 10, " "))  # fmt: skip
        rows += [[(line, "watch")] for line in _folded(order.why, width - 10)] if order.why else []
    return _step("order", *rows) if rows else _step("order", [("none", "dim")])


def _fill_rows(walk: WalkRow, digits: tuple[int, int], width: int) -> list[_Row]:
    """Draw each fill beside mid, and what all of them came to."""
    fills = [fill for order in walk.orders for fill in order.fills]
    if not fills:
        return _step("fills", [("none", "dim")])
    rows = [_fill_row(fill, digits, width - 10) for fill in fills]
    return _step("fills", _fills_together(fills, digits), *rows)


def _time_rows(walk: WalkRow, width: int) -> list[_Row]:
    """Draw when each step was, by event time and frame, from the newest score to the last fill."""
    decision, verdict = walk.decision, walk.verdict
    newest = max((score.seq for score in decision.scores), default=None)
    steps = [(f"decided {_clock(decision.at)}.{decision.at // 10**6 % 1000:03}", 0, decision.seq)]
    if verdict is not None:
        steps.append(("judged", verdict.at - decision.at, verdict.seq))
    steps += [(f"order {order.id}", order.at - decision.at, order.seq) for order in walk.orders]
    fills = [fill for order in walk.orders for fill in order.fills]
    ends = fills[:1] + fills[-1:] if len(fills) > 1 else fills
    steps += [(f"fill {fill.id}", fill.at - decision.at, fill.seq) for fill in ends]
    words = [f"scored #{newest}"] if newest is not None else []
    after = [f" +{_duration(ns / 1e9, 'ms')}" if ns else "" for _, ns, _ in steps]
    words += [f"{what}{at} #{seq}" for (what, _, seq), at in zip(steps, after, strict=True)]
    return _step("times", *([(line, "dim")] for line in _folded(" → ".join(words), width - 10)))


def _came_of_it(walk: WalkRow) -> _Cell:
    """Say in a few words what a decision has come to."""
    if walk.verdict is None:
        return "", "dim"
    kind = type(walk.verdict).__name__.lower()
    word, style = _state(kind)
    if isinstance(walk.verdict, Denied):
        return f"{word} {walk.verdict.reason}: {sign_text(walk.verdict.why)}", style
    orders = ", ".join(wording(order.status) for order in walk.orders)
    return f"{word}, {orders or 'no order yet'}", style


_WALK: Final = _Table("walk", lambda snapshot: snapshot.walk.rows, lambda snapshot: (
    _Column("", 8, lambda row: (_clock(row.decision.at), "dim"), 0, True),
    _Column("", 5, lambda row: (row.id, "key"), 0, True),
    _Column("", 10, lambda row: (row.decision.ticker, "bold"), 0, True),
    _Column("", 6, lambda row: (
        row.decision.action, "dim" if row.decision.action == "hold" else "accent"), 0, True),
    _Column("", 23, lambda row: _target(row.decision), 0, True),
    _Column("", 10, lambda row: (f"score {_figure(row.decision.score, 1)}", ""), 1, True),
    _Column("", 0, _came_of_it, 2, True),
), "no decision yet", foot=_walk_rows, part=5)  # fmt: skip


def _decision_foot(snapshot: Snapshot, row: Decision, width: int, height: int) -> list[_Row]:
    """Walk through a decision where its panel is shown alone."""
    walk = next((walk for walk in snapshot.walk.rows if walk.id == row.id), None)
    # In less room than that the list says more.
    return [] if walk is None or height < 8 else _walk_rows(snapshot, walk, width, height)


_DECISIONS: Final = _Table("decisions", lambda snapshot: snapshot.decisions, lambda snapshot: (
    _Column("", 8, lambda row: (_clock(row.at), "dim"), 0, True),
    _Column("", 5, lambda row: (row.id, "key"), 0, True),
    _Column("", 10, lambda row: (row.ticker, "bold"), 0, True),
    _Column("", 6, lambda row: (row.action, "dim" if row.action == "hold" else "accent"),
            0, True),
    _Column("", 23, _target, 0, True),
    _Column("", 10, lambda row: (f"score {_figure(row.score, 1)}", ""), 1, True),
    _Column("", 12, lambda row: (f"urgency {_figure(row.urgency, 2)}", "dim"), 2, True),
    _Column("", 9, lambda row: (f"#{row.seq}", "dim"), 3, True),
), "no decision yet", below=lambda row: " · ".join(row.reasons), foot=_decision_foot,
    history=True)  # fmt: skip

# === Performance ===
# What the trades came to, one by one and together, how large they were and how long they lasted,
# and what fills have cost against mid. Costs are negative money, here as everywhere. Computes
# nothing: the figures are dydx_paper's.


def _did_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    """Draw what trading came to; what nobody counted is unknown."""
    part = snapshot.performance
    did, trades = part.performance, part.trades
    rows = (
        _counted_rows(part, width) if did is None
        else _performance_rows(did, snapshot.equity, width)
    )  # fmt: skip
    if did is None:
        rows.insert(1, _fall_row(snapshot.equity, width))
    if trades is not None and trades.trips:
        rows += _trade_rows(trades, width)
    if trades is None or not trades.trips:
        rows += [[], *_cost_rows(part, width)]
    return [*rows, []]


def _fall_row(equity: EquityPart, width: int) -> _Row:
    """Draw the deepest fall of the run, or of all that the curve shows, by the second."""
    fall, share = equity.deepest, equity.deepest_share
    of = "of all runs" if 0 in equity.seqs else "of the run"
    whole = of if share is None else f"{_percent(share)} of equity, {of}"
    at_most = _figure(None if fall is None else -abs(fall), sign=bool(fall), unit=" USDC")
    return _pairs(width, ("max_drawdown", f"{at_most}, {whole}"))


def _performance_rows(did: Performance, equity: EquityPart, width: int) -> list[_Row]:
    """Draw how the account did; what does not exist yet is unknown, each with its reason."""
    # The account's own points are an hour apart; before the second, the run's are there.
    fell = [
        ("max_drawdown", _figure(-(_usdc(did.max_drawdown) or 0.0), sign=True, unit=" USDC")),
        ("max_drawdown_ratio", _percent(did.max_drawdown_ratio)),
        ("drawdown_ns", _figure(did.drawdown_ns / 3.6e12, 1, unit=" h")),
    ]
    fall = _fall_row(equity, width) if did.max_drawdown_ratio is None else _pairs(width, *fell)
    return [
        _pairs(width, ("trades", did.trades), ("win_rate", _percent(did.win_rate)),
               ("profit_factor", _figure(did.profit_factor)),
               ("average_win", _figure(_usdc(did.average_win), sign=True)),
               ("average_loss", _figure(_usdc(did.average_loss, -1), sign=True))),
        fall,
        _pairs(width, ("sharpe", _figure(did.sharpe)), ("sortino", _figure(did.sortino)),
               ("annual", "from 24 hourly returns on")),
        _pairs(width, ("exposure", _percent(did.exposure)),
               ("turnover", _figure(did.turnover, 1, unit=_TIMES)),
               ("volume", _figure(_usdc(did.volume), 0, unit=" USDC"))),
        _money_row(width, did.fees, did.funding, did.insurance),
    ]  # fmt: skip


def _money_row(width: int, *paid: int | None) -> _Row:
    """Draw what was paid, which is negative, and what came in."""
    terms = zip(("fees", "funding", "insurance"), paid, strict=True)
    parts = [[(f"{wording(term)} ", "dim"), _signed(_usdc(quote, -1))] for term, quote in terms]
    return _chunks([*enumerate(parts), (3, [("USDC", "dim")])], width)


def _counted_rows(part: PerformancePart, width: int) -> list[_Row]:
    """Draw what is counted where no paper account has every trade."""
    lacks: _Row = [("some fills are missing: what they earned is in no figure", "watch")]
    ended = part.won + part.lost
    return [
        _pairs(width, ("trades", ended), ("win_rate", _part(part.won, ended)),
               ("fills", part.fills), ("profit_factor", _UNKNOWN)),
        _money_row(width, part.fees, part.funding, part.insurance),
        *([] if part.complete else [lacks]),
    ]  # fmt: skip


def _part(some: int, of: int) -> str:
    return _percent(some / of if of else None, 0)


def _trade_rows(trades: TradeFigures, width: int) -> list[_Row]:
    def spread(of: tuple[float, float, float] | None, word: Callable[[float], str]) -> str:
        if of is None:
            return _UNKNOWN
        least, middle, most = map(word, of)
        return f"{least} to {most}, median {middle}"

    def trip(of: RoundTrip | None) -> str:
        return "none" if of is None else f"{_figure(of.pnl, sign=True)} {of.ticker}"

    return [
        _pairs(width, ("expectancy", _figure(trades.expectancy, sign=True, unit=" USDC a trade")),
               ("payoff", _figure(trades.payoff)), ("best", trip(trades.best)),
               ("worst", trip(trades.worst))),
        _pairs(width, ("size", spread(trades.usdc, lambda x: _figure(x, 0)) + " USDC"),
               ("of equity", spread(trades.share, lambda x: _percent(x, 0)))),
        _pairs(width, ("held for", spread(trades.held_s, _duration))),
    ]  # fmt: skip


# Titles and widths; what is last goes where there is no room.
_COSTS: Final = (
    ("", -6), ("FILLS", 6), ("USDC", 11), ("FEES", 10), ("BP", 7), ("SLIPPAGE", 11), ("BP", 8),
    ("AT MID", 8), ("WORST", 8), ("WAITED", 8),
)  # fmt: skip


def _cost_rows(part: PerformancePart, width: int) -> list[_Row]:
    """Draw what fills cost against mid, of those that took and of those that made."""

    def laid(texts: Iterable[str], style: str) -> _Row:
        row, left = "", width
        for (_, size), text in zip(_COSTS, texts, strict=True):
            left -= abs(size)
            row += f"{text:{'<' if size < 0 else '>'}{abs(size)}}" if left >= 0 else ""
        return [(row, style)]

    rows = [laid((title for title, _ in _COSTS), "dim")]
    if not part.costs:
        return [*rows, [("no fill yet", "dim")]]
    for cost in part.costs:
        fee, slipped, spread, worst = (_figure(x, 1, sign=True) for x in (
            _less(cost.fee_bps), _less(cost.slippage_bps), _less(cost.spread_bps),
            _less(cost.worst_bps)))  # fmt: skip
        waited = _duration(cost.waited_s, "ms")
        rows.append(laid((
            cost.liquidity.lower(), f"{cost.fills:,}", _figure(cost.usdc, 0),
            _figure(-cost.fee, sign=True), fee, _figure(_less(cost.slippage), sign=True), slipped,
            spread, worst, waited), ""))  # fmt: skip
    queue = f"fills of resting orders: {part.queue}" if part.queue else ""
    return [*rows, *([[(queue, "dim")]] if queue else [])]


def _spread_rows(snapshot: Snapshot, trip: RoundTrip, width: int, height: int) -> list[_Row]:
    """Draw the distribution of the profits, each market's, and what fills cost."""
    part = snapshot.performance
    if part.trades is None or height < 3:
        return []
    markets = _market_trade_rows(part.trades, width)
    fills = _executed_rows(snapshot, min(width, 82))
    if width < 112:
        steps: _Steps = [(_cost_rows(part, width), 2), (_bar_rows(part.trades, width), 0),
                         (markets, 0), (fills, 0)]  # fmt: skip
        return [[], *_squeezed(steps, height - 1)]
    half = 84
    right = _bar_rows(part.trades, width - half)
    left = _squeezed(
        [(_cost_rows(part, half), 2), ([[], *markets], 0), ([[], *fills], 0)], height - 1
    )
    return [[], *_beside(left, half, right[: height - 1])]


def _executed_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    """List the newest fills beside mid."""
    digits = {row.ticker: _grid(row.market) for row in snapshot.markets}
    rows: list[_Row] = [[("NEWEST FILLS", "dim")]] if snapshot.performance.executions else []
    for fill in snapshot.performance.executions:
        head: _Row = [
            (f"{_clock(fill.at)} ", "dim"), (f"{fill.ticker[:9]:<10}", "bold"),
            (f"{wording(fill.side):<5}", _STATES.get(fill.side, "")),
        ]  # fmt: skip
        rows.append([*head, *_fill_row(fill, digits.get(fill.ticker, _grid(None)), width - 24)])
    return rows


def _bar_rows(trades: TradeFigures, width: int) -> list[_Row]:
    """Draw how many trades came to how much."""
    most = max((count for *_, count in trades.bars), default=0) or 1
    room = max(min(width - 19, 40), 4)
    rows: list[_Row] = [[("PROFIT OF A TRADE, USDC", "dim")]]
    for low, high, count in trades.bars:
        bar = _gauge(count / most, room).rstrip("░ ")
        digits = 2 if abs(high - low) < 1 else 0
        scale = f"from {_figure(low, digits):>8} "
        style = "down" if high <= 0 else "up"
        rows.append([(scale, "dim"), (bar, style), (f" {count:,}" if count else "", "")])
    return rows


def _market_trade_rows(trades: TradeFigures, width: int) -> list[_Row]:
    return _rows_under([
        _TICKER,
        _Column("trades", 7, lambda row: (f"{row.trades:,}", "")),
        _Column("won", 7, lambda row: (_part(row.won, row.trades), "")),
        _Column("result", 11, lambda row: _signed(row.pnl)),
        _Column("best", 10, lambda row: _signed(row.best), 1),
        _Column("worst", 10, lambda row: _signed(row.worst), 2),
        _Column("fees", 9, lambda row: _signed(-row.fees), 3),
        _Column("funding", 9, lambda row: _signed(row.funding), 4),
    ], trades.markets, min(width, 82), 1)  # fmt: skip


def _trip_columns(snapshot: Snapshot) -> list[_Column]:
    digits = {row.ticker: _grid(row.market) for row in snapshot.markets}

    def price(term: str, rank: int) -> _Column:
        def cell(trip: RoundTrip) -> _Cell:
            return _figure(getattr(trip, term), digits.get(trip.ticker, _grid(None))[0] + 1), ""

        return _Column(term, 11, cell, rank)

    def size(trip: RoundTrip) -> _Cell:
        return _figure(trip.size, digits.get(trip.ticker, _grid(None))[1]), ""

    return [
        _Column("ended", 8, lambda trip: (_clock(trip.ended.at), "dim"), 0, True),
        _TICKER,
        _Column("side", 5, lambda trip: _state("LONG" if trip.is_long else "SHORT"), 0, True),
        _Column("size", 9, size, 5),
        price("entry", 3),
        price("exit", 3),
        _Column("result", 10, lambda trip: _signed(trip.pnl)),
        _Column("returned", 9, lambda trip: (
            _percent(trip.returned, 2, sign=True), _trend(trip.returned)[1]), 1),
        _Column("fees", 8, lambda trip: _signed(-trip.fees), 7),
        _Column("funding", 8, lambda trip: _signed(trip.funding), 8),
        _Column("of equity", 9, lambda trip: (_percent(trip.share, 0), ""), 6),
        _Column("held for", 9, lambda trip: (_duration(trip.held_s), ""), 2,
                value=attrgetter("held_s")),
        _Column("frames", 16, lambda trip: (
            f"#{trip.opened.seq} to #{trip.ended.seq}", "dim"), 4, True),
    ]  # fmt: skip


_PERFORMANCE: Final = _Table(
    "performance",
    lambda snapshot: snapshot.performance.trades.trips if snapshot.performance.trades else (),
    _trip_columns, "no trade has ended yet", "ticker", above=_did_rows, foot=_spread_rows,
    part=3)  # fmt: skip

# === Paper venue ===
# How a paper venue filled, how much of it the tape bears out, what it refused, and how the account
# did on it; or that orders go over the wire. Computes no performance: that is dydx_paper's.


def _venue_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    venue = snapshot.venue
    if venue is None:
        return [[("no paper venue: what is sent goes over the wire, to a real one", "watch")]]
    refused = ", ".join(f"{count:,} {why}" for why, count in venue.refusals) or "nothing"
    owed = ", ".join(f"{ticker} {hours} h" for ticker, hours in venue.owed) or "none"
    rates = (("maker", venue.maker_ppm), ("taker", venue.taker_ppm))
    fees = (f"{name} {_percent(None if ppm is None else ppm / 1e6, 3)}" for name, ppm in rates)
    extras = [] if venue.fund is None else [("fund", f"{_figure(_usdc(venue.fund))} USDC")]
    extras += [] if venue.tier is None else [("tier", venue.tier)]
    return [
        *(_performance_rows(venue.performance, snapshot.equity, width)
          if venue.performance else []),
        _pairs(width, ("fee rates", ", ".join(fees)), ("queue", venue.queue or _UNKNOWN)),
        *([_pairs(width, *extras)] if extras else []),
        _named("refusals", refused, "watch" if venue.refusals else ""),
        _pairs(width, ("unsettled", _figure(_usdc(venue.unsettled), sign=True, unit=" USDC")),
               ("owed", owed)),
        _pairs(width, ("unwitnessed", _percent(venue.error)),
               ("pending", _UNKNOWN if venue.pending is None else venue.pending),
               ("liquidations", _UNKNOWN if venue.liquidations is None else venue.liquidations)),
    ]  # fmt: skip


_VENUE: Final = _Table(
    "venue", lambda snapshot: snapshot.venue.fills if snapshot.venue else (),
    lambda snapshot: (
        _TICKER,
        _Column("filled, USDC", 14, lambda row: (_figure(_usdc(row.assumed)), "")),
        _Column("confirmed", 14, lambda row: (_figure(_usdc(row.traded)), "")),
        _Column("not confirmed", 13, lambda row: (_percent(row.error), "bold")),
        _Column("", 10, lambda row: (_gauge(row.error, 10), "accent"), 1),
    ), "no fill of ours is judged yet", "ticker", _venue_rows)  # fmt: skip

# === Connection ===
# What the program hangs by: each link, what it was before and why, how REST answers, and what comes
# by channel and market. What a recording does not hold is unknown, never 0.

_LINK_STYLES: Final = {"live": "good", "closed": "dim", "connecting": "watch",
                       "subscribing": "watch"}  # fmt: skip


def _milliseconds(ms: float | None) -> str:
    return _duration(None if ms is None else ms / 1e3, "ms")


def _link_word(state: str) -> str:
    term = f"link {state}"  # a market is stale, and so is a link: not the same
    return _WORDS.get(term, state)


def _link_state(state: str) -> _Cell:
    return _link_word(state) or _UNKNOWN, _LINK_STYLES.get(state, "watch")


def _shares(shares: Sequence[tuple[str, float]], names: Sequence[str]) -> str:
    """Write percentiles that are known, one after the other."""
    known = dict(shares)
    return " / ".join(_milliseconds(known.get(name)) for name in names) if known else _UNKNOWN


_LINK_COLUMNS: Final = (
    _Column("link", 10, lambda row: (row.link, "bold"), 0, True),
    _Column("state", 13, lambda row: _link_state(row.state), 0, True),
    _Column("for", 9, lambda row: (_duration(row.since_s), "")),
    _Column("silent", 8, lambda row: (
        _duration(row.silent_s), "watch" if (row.silent_s or 0.0) > 10.0 else ""), 1),
    _Column("frames", 9, lambda row: (_figure(row.frames, 0), ""), 2),
    _Column("lost", 4, lambda row: (_figure(row.losses, 0), "watch" if row.losses else "dim"), 1),
    _Column("ping p50 / max", 19, lambda row: (_shares(row.pings_ms, ("p50", "max")), ""), 3),
    _Column("why", 0, lambda row: (row.reason, "dim"), 4, True),
)  # fmt: skip
_TURN_COLUMNS: Final = (
    _Column("at", 8, lambda row: (_clock(row.at), "dim"), 0, True),
    _Column("link", 10, lambda row: (row.link or "all", "bold"), 0, True),
    _Column("from", 13, lambda row: (_link_word(row.was), "dim"), 2, True),
    _Column("to", 13, lambda row: _link_state(row.state), 0, True),
    _Column("lasted", 9, lambda row: (
        "until now" if row.lasted_s is None else _duration(row.lasted_s), ""), 1),
    _Column("frame", 8, lambda row: (f"#{row.seq}", "dim"), 3, True),
    _Column("why", 0, lambda row: (row.reason, ""), 0, True),
)  # fmt: skip


def _failures(row: RestRow) -> _Cell:
    """Say what failed, and first of all that the breaker lets no request through."""
    wait = f", retry in {_duration(row.retry_in_s)}" if row.circuit == "open" else ""
    broken = [] if row.circuit in ("", "closed") else [f"breaker {row.circuit}{wait}"]
    failed = [f"{count:,} {kind}" for kind, count in row.errors]
    failed += [f"{row.retried:,} sent again"] * bool(row.retried)
    words = " · ".join([*broken, ", ".join(failed)] if failed else broken)
    return (words, "watch") if words else ("nothing", "dim")


_REST_COLUMNS: Final = (
    _Column("endpoint", 34, lambda row: (row.endpoint, "bold"), 0, True),
    _Column("answered", 8, lambda row: (_figure(row.answered, 0), "")),
    _Column("requested", 9, lambda row: (_figure(row.requested, 0), "dim"), 5),
    _Column("a minute", 8, lambda row: (_figure(row.per_minute, 0), ""), 4),
    _Column("p50 / p99", 19, lambda row: (_shares(row.took_ms, ("p50", "p99")), ""), 1),
    _Column("last good", 9, lambda row: (_duration(row.good_age_s), ""), 6),
    _Column("failed", 0, _failures, 0, True),
)  # fmt: skip
_LIMIT_COLUMNS: Final = (
    _Column("limit of", 16, lambda row: (row.group, "bold"), 0, True),
    _Column("left", 11, lambda row: (f"{row.left:,} / {row.limit:,}", "")),
    _Column("waiting", 7, lambda row: (_figure(row.queued, 0), "watch" if row.queued else "dim")),
    _Column("wait now", 8, lambda row: (_duration(row.wait_s), "watch" if row.wait_s else "dim")),
    _Column("waited", 9, lambda row: (_duration(row.waited_s), "dim"), 2),
    _Column("429", 4, lambda row: (_figure(row.limited, 0), "watch" if row.limited else "dim")),
)
_FEED_COLUMNS: Final = (
    _Column("channel", 16, lambda row: (row.channel, "bold"), 0, True),
    _Column("of", 12, lambda row: (row.ticker, ""), 0, True),
    _Column("frames", 9, lambda row: (_figure(row.frames, 0), "")),
    _Column("a second", 9, lambda row: (_figure(row.per_s, 1), "")),
)


def _link_head(link: LinkPart, width: int) -> list[_Row]:
    state, style = _link_state(link.state)
    since = [] if link.since_s is None else [(f" for {_duration(link.since_s)}", style)]
    reason = [(f": {link.reason}", "")] if link.reason and link.state != "live" else []
    lags = _shares(link.lag_ms, ("p50", "p99", "max"))
    lag = [
        (0, _named("lag of trades p50 / p99 / max", lags)),
        (1, _named("newest block", _milliseconds(link.block_ms))),
        (2, _named("frames wait", "no" if link.late_ms is None else _milliseconds(link.late_ms),
                   "" if link.late_ms is None else "watch")),
    ]  # fmt: skip
    return [[(f"● {state}", style), *since, *reason], _chunks(lag, width)]


def _blocks(blocks: Sequence[Sequence[_Row]], height: int) -> list[_Row]:
    """Put lists below one another, a blank row between them, the most important first.

    Each gets its share of the rows; where that would be its title alone the last ones go.
    """
    shown = [block for block in blocks if block]
    while True:
        rooms = _rooms([len(block) for block in shown], height - len(shown) + 1)
        cut = [room for room, block in zip(rooms, shown, strict=True) if room < len(block)]
        if len(shown) < 2 or min(cut, default=_LEAST_ROWS) >= _LEAST_ROWS:
            break
        shown.pop()
    rows: list[_Row] = []
    for block, room in zip(shown, rooms, strict=True):
        rows += [[]] if rows else []
        rows += block[:room]
        if room < len(block):
            rows[-1] = [(f"and {len(block) - room + 1} more", "dim")]
    return rows


_LEAST_ROWS: Final = 3  # a title, a row, and how many more there are


def _link_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw the connections, their history, REST, and the rates by channel and market."""
    link = snapshot.link
    if not link.links:
        return [[("no connection since this panel is open", "dim")]]
    head = _link_head(link, width)
    wide = width >= 170
    half = (width - 3) // 2 if wide else width
    errors: list[_Row] = [
        [(f"{where} ", "bold"), (f"{count:,} ", "watch"), (what, "")]
        for where, what, count in link.errors
    ]
    left = [
        _rows_under(_LINK_COLUMNS, link.links, half),
        _rows_under(_TURN_COLUMNS, link.turns, half) if link.turns else [],
        [[("what went wrong, most often first", "dim")], *errors] if errors else [],
    ]
    without: list[_Row] = [[("REST: no request in this run", "dim")]]
    right = [
        _rows_under(_REST_COLUMNS, link.rest, half) if link.rest else without,
        _rows_under(_LIMIT_COLUMNS, link.limits, half) if link.limits else [],
        _rows_under(_FEED_COLUMNS, link.feeds, half),
    ]
    if wide:
        return [
            *head,
            [],
            *_beside(_blocks(left, height - 3), half + 3, _blocks(right, height - 3)),
        ]
    return [*head, [], *_blocks([*left[:2], right[0], right[2], right[1], left[2]], height - 3)]


# === Health ===
# The program itself: whether all that a run needs is well, what it takes of the machine, what is
# written down, how old the data are, and the settings in force. No secret is ever a part of it.

_MOST_MB: Final = 512.0
_MOST_CPU: Final = 0.25
_QUICK: Final = ("book", "block")  # what never stands still for long


def _health_note(snapshot: Snapshot, view: View) -> str:
    bad = [row.what for row in snapshot.health.rows if row.state != "good"]
    return ", ".join(bad) if bad else "all is well" if snapshot.health.rows else ""


def _health_line(row: HealthRow) -> _Row:
    counts = [f"{_figure(count, 0)} {name}" for name, count in row.counts]
    words = " · ".join(filter(None, [row.words, *counts]))
    style = row.state if row.state in ("good", "watch", "danger") else "dim"
    return [(f"{'●' if row.state == 'good' else '▲'} ", style), (f"{row.what:<11}", "bold"),
            (words or "well", "" if row.state == "good" else style)]  # fmt: skip


def _machine(health: HealthPart, width: int) -> list[_Row]:
    """Draw what the program takes of the machine, and what it has done so far."""
    memory, cpu = health.memory_mb, health.cpu_share
    bar = max(min(width - 40, 24), 4)
    rows: list[_Row] = [
        [("the program", "dim")],
        [*_named("runs for", f"{_duration(health.uptime_s)}  ", "bold"),
         *_named("threads", f"{_figure(health.threads, 0)}  "), (health.carried, "")],
        [*_named("memory", f"{_figure(memory, 0, unit=' MB'):>9} ",
                 "watch" if (memory or 0.0) > _MOST_MB else "bold"),
         (_gauge((memory or 0.0) / _MOST_MB, bar), "accent"),
         (f" of {_MOST_MB:.0f}, most so far {_figure(health.peak_mb, 0, unit=' MB')}", "dim")],
        [*_named("CPU   ", f"{_percent(cpu, 0):>9} ",
                 "watch" if (cpu or 0.0) > _MOST_CPU else "bold"),
         (_gauge(cpu or 0.0, bar), "accent"),
         (f" of a core, {_duration(health.cpu_s)} so far", "dim")],
        [*_named("disk  ", f"{_figure(health.disk_free_gb, 1, unit=' GB'):>9} "),
         (f"free at {health.disk}" if health.disk else "", "dim")],
        _pairs(width, ("frames", health.frames), ("reconnects", health.reconnects),
               ("gaps", health.gaps)),
        _pairs(width, ("pictures", health.drawn), ("left out", health.undrawn),
               ("a drawing p50 / p99", _shares(health.draw_ms, ("p50", "p99")))),
        _pairs(width, ("account to screen p50 / p99", _shares(health.shown_ms, ("p50", "p99")))),
    ]  # fmt: skip
    return rows


def _health_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw what the run needs, what it takes, how old its data are, and its settings."""
    health = snapshot.health
    if not health.rows:
        return [[("not known until this panel is open", "dim")]]
    wide = width >= 150
    half = (width - 3) // 2 if wide else width
    ages: list[_Row] = [
        [(f"{part:<10}", ""), (f"{_duration(seconds) if seconds is not None else 'never':>10}  ",
                               "" if part not in _QUICK or (seconds or 0.0) <= 30.0 else "watch"),
         (ticker, "dim")]
        for part, ticker, seconds in health.ages
    ]  # fmt: skip
    settings: list[_Row] = [
        [(f"{row.path} ", "bold"), (row.value, ""), (f"  {row.origin}", "dim")]
        for row in health.settings
    ]
    usual: list[_Row] = [[("all is as the profile has it", "dim")]]
    config: list[_Row] = [
        [("settings in force: ", "dim"), (f"profile {health.profile}, strategy {health.strategy}",
                                          "bold"),
         (f", {health.file}, {health.config_hash}", "dim")],
        *(settings or usual),
    ]  # fmt: skip
    lines = [line for row in health.rows for line in _wrapped(_health_line(row), half, 2)]
    left = [lines, _machine(health, half)]
    right = [[[("oldest of all markets", "dim")], *ages], config]
    if wide:
        return _beside(_blocks(left, height), half + 3, _blocks(right, height))
    return _blocks([*left, config, right[0]], height)


# === Way of the data ===
# One frame through the layers: its text, what it changed in each, what came of it, and how long
# each took. Draws what was measured: a layer that the frame did not reach is not there.

_PRICED: Final = frozenset(["best_bid", "best_ask", "mid_price", "last_trade", "oracle_price"])
_SIZED: Final = frozenset(["bid_size", "ask_size", "size"])
_WAY_DIGITS: Final = {
    "spread_bps": (2, " bp"), "volume_60s": (0, ""), "net_collateral": (2, " USDC"),
    "initial_margin": (2, " USDC"), "open_orders": (0, ""),
}  # fmt: skip


def _way_figure(term: str, value: float | None, grid: tuple[int, int]) -> str:
    if term == "distance":
        return percent_text(value) if value is not None else "none"
    if term == "funding_1h":
        return _percent(value, 4, sign=True)
    digits, unit = _WAY_DIGITS.get(term, (1, ""))
    digits = grid[0] if term in _PRICED else grid[1] if term in _SIZED else digits
    return _figure(value, digits, unit=unit if value is not None else "")


def _way_cell(change: WayChange, grid: tuple[int, int]) -> _Row:
    """Draw a figure before and after; one that did not move is grey."""
    after = _way_figure(change.term, change.after, grid)
    if not change.moved:
        return [(f"{wording(change.term)} {after}", "dim")]
    before, known = _way_figure(change.term, change.before, grid), (change.before, change.after)
    moved = None if None in known else (change.after or 0.0) - (change.before or 0.0)
    sign, style = _trend(moved)
    return [(f"{wording(change.term)} ", ""), (before, "dim"), (" → ", "dim"),
            (f"{after} {sign}".rstrip(), style or "bold")]  # fmt: skip


def _flowing(cells: Iterable[_Row], width: int) -> list[_Row]:
    """Put cells side by side on as many rows as they need."""
    rows: list[_Row] = []
    used = width
    for cell in cells:
        size = _row_cells(cell)
        if rows and used + 3 + size <= width:
            rows[-1] += [(" · ", "dim"), *cell]
            used += 3 + size
        else:
            rows.append([*cell])
            used = size
    return rows


def _stage_rows(stage: WayStage, grid: tuple[int, int], width: int) -> list[_Row]:
    """Return what a layer did of a frame, what changed first."""
    changes = sorted(stage.changes, key=lambda change: not change.moved)
    rows = _flowing((_way_cell(change, grid) for change in changes), width)
    for id_, text in stage.texts:
        head = [(f"{id_} ", "key")] if id_ else []
        first, *rest = _folded(text, width - len(id_) - 1 if id_ else width)
        rows += [[*head, (first, "")], *([(line, "")] for line in rest)]
    return rows or [[(_NOTHING.get(stage.stage, "nothing changed"), "dim")]]


_NOTHING: Final = {"venue": "nothing of ours traded", "strategy": "no decision"}


def _microseconds(us: float | None) -> str:
    return "" if us is None else _duration(us / 1e6, "µs")


def _way_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw one frame before and after each layer, with the time that each took."""
    way = snapshot.way
    if not way.stages:
        return [[("no frame since this panel is open", "dim")]]
    head = [
        (0, [(f"#{way.seq} ", "key"), (f"{way.channel} {way.ticker}".strip(), "bold")]),
        (2, _named("at", _clock(way.at))),
        (1, _named("took", _microseconds(way.took_us), "bold")),
        (3, _named("", f"{way.size:,} bytes")),
    ]
    beside = width >= 170
    room = width - 74 if beside else width
    rows = _stages(way, room, height - 1)
    if beside:
        return [_chunks(head, width), *_beside(rows, room + 3, _layer_rows(way.layers, 71))]
    left = height - 2 - len(rows)
    below = [[], *_layer_rows(way.layers, width)] if left > 3 else []
    return [_chunks(head, width), *rows, *below]


def _stages(way: WayPart, width: int, height: int) -> list[_Row]:
    """Draw the layers one below the other; rows that are too many are left out, evenly."""
    narrow, grid = width < 90, _grid(way.market)
    left = 22 if narrow else 44
    drawn = [(stage, _stage_rows(stage, grid, max(width - left, 8))) for stage in way.stages]
    room = _rooms([len(lines) for _, lines in drawn], height - 1)
    largest = max((stage.took_us or 0.0 for stage in way.stages), default=0.0) or 1.0
    title = f"{'LAYER':<10}{'TOOK':>10}  " if narrow else f"{'LAYER':<10}{'AFTER':>10}{'TOOK':>11}"
    rows: list[_Row] = [[(f"{title:<{left}}BEFORE → AFTER", "dim")]]
    for (stage, lines), high in zip(drawn, room, strict=True):
        took = "" if stage.took_us is None else _gauge(stage.took_us / largest, 8)
        after = "" if narrow else f"{_microseconds(stage.at_us):>10} "
        cells: _Row = [(f"{stage.stage:<10}", "bold"), (after, "dim"),
                       (f"{_microseconds(stage.took_us):>10}  ", "")]  # fmt: skip
        cells += [] if narrow else [(f"{took.replace('░', ' '):<8}   ", "accent")]
        rows.append([*cells, *lines[0]])
        rows += ([(" " * left, ""), *line] for line in lines[1:high])
    return rows


_LAYER_SHARES: Final = ("p50", "p90", "p99", "max")


def _layer_rows(layers: Sequence[LayerRow], width: int) -> list[_Row]:
    """List what each layer takes of a frame that reaches it."""
    if not layers:
        return [[("what each layer takes is measured while this panel is open", "dim")]]

    def took(name: str) -> _Column:
        return _Column(name, 9, lambda row: (_microseconds(dict(row.took_us).get(name)), ""))

    return _rows_under([
        _Column("layer", 9, lambda row: (row.stage, "bold"), 0, True),
        _Column("frames", 8, lambda row: (_figure(row.frames, 0), "dim"), 4),
        _Column("a second", 8, lambda row: (_figure(row.per_s, 1), "dim"), 2),
        *map(took, _LAYER_SHARES),
        _Column("of all", 6, lambda row: (_percent(row.share, 0), ""), 1),
        _Column("errors", 6, lambda row: (
            "" if row.errors is None else _figure(row.errors, 0),
            "watch" if row.errors else "dim"), 3),
    ], layers, width)  # fmt: skip


# === Book, quality, speed and wire ===
# What came in: one market's book, the troubles of the data, what a frame costs, and the newest
# frames. An unknown book has no levels; wire text is cut, and never parsed.


def _lean(depth: Depth | None, width: int) -> _Cell:
    """Draw which side of a book is heavier: bids from the left."""
    lean = None if depth is None else depth.imbalance
    if lean is None or not math.isfinite(lean):
        return _UNKNOWN, "dim"
    return _gauge((lean + 1) / 2, width) + f" {lean * 100:+4.0f} %", _trend(lean)[1]


_DEPTH_COLUMNS: Final = (
    _Column("within", 7, lambda row: (_figure(row.bps, 0, unit=" bp"), "bold")),
    _Column("bids USDC", 12, lambda row: (_figure(row.bid_usd, 0), "up")),
    _Column("asks USDC", 12, lambda row: (_figure(row.ask_usd, 0), "down")),
    _Column("imbalance", 17, lambda row: _lean(row, 10), 1, True),
)


def _book_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw one market's book as a ladder, its newest trades beside it where there is room."""
    book = snapshot.book
    if not book.known:
        return [[(f"book unknown for {book.ticker}" if book.ticker else "book unknown", "watch")]]
    ladder = 34 if width >= 72 else min(width, 44)
    ladder = width // 2 if book.depths and width >= 110 else ladder  # alone there is room
    rows, (digits, size_digits) = _ladder(book, ladder, height), _grid(book.market)
    if width - ladder < 40:
        return rows
    trades: list[_Row] = [[("last trades", "dim")]]
    for trade in book.trades:
        size, price = _figure(trade.size, size_digits), _figure(trade.price, digits)
        side, style = _state(trade.side)
        trades.append([(f"{_clock(trade.at_ns)} ", "dim"), (f"{side:<4} ", style),
                       (f"{size:>7} @ {price:>8}", ""), (f" #{trade.seq}", "dim")])  # fmt: skip
    if book.depths:
        trades = [*_rows_under(_DEPTH_COLUMNS, book.depths, width - ladder - 3), [], *trades]
    return _beside(rows, ladder + 3, trades[:height])


def _ladder(book: BookPart, width: int, height: int) -> list[_Row]:
    digits, size_digits = _grid(book.market)
    asks, bids = (side[: max(1, (height - 1) // 2)] for side in (book.asks, book.bids))
    largest = max((level.size for level in asks + bids), default=0.0) or 1.0

    def row(level: Level, style: str) -> _Row:
        bar = _gauge(level.size / largest, width - 26).replace("░", " ") if width > 27 else ""
        size = f"{_figure(level.size, size_digits):>11} "
        return [(f"{_figure(level.price, digits):>12} ", style), (size, ""), (bar, style)]

    crossed: _Row = [(f"· {book.crossed} crossed", "dim")]
    middle = _chunks([
        (0, [(f"{_figure(book.mid_price, digits):>12} {wording('mid_price')}", "bold")]),
        (0, [(f"· {_figure(book.spread_bps, 2)} bp", "dim")]),
        *([(1, crossed)] if book.crossed else []), (2, [(f"· #{book.seq}", "dim")]),
    ], width, " ")  # fmt: skip
    return [*(row(level, "down") for level in asks[::-1]), middle,
            *(row(level, "up") for level in bids)]  # fmt: skip


def _troubles(snapshot: Snapshot, width: int) -> list[_Row]:
    quality = snapshot.quality
    stale = ", ".join(quality.stale) or "none"
    return [
        _pairs(width, *quality.counts) if quality.counts else [("no trouble so far", "good")],
        [("stale markets ", "dim"), (stale, "watch" if quality.stale else "")],
    ]


_SAMPLE_COLUMNS: Final = (
    _Column("", 8, lambda row: (f"#{row.seq}", "dim"), 0, True),
    _Column("", 14, lambda row: (row.kind, "accent"), 0, True),
    _Column("", 0, lambda row: (row.text, ""), 0, True),
)


class _Noted(NamedTuple):
    """A sample among rows of another kind: it has an id like them."""

    ticker: str
    seq: int
    kind: str
    text: str


def _quality_lines(snapshot: Snapshot) -> Sequence[Any]:
    """Return the markets, the worst first, where the panel has them; else the samples."""
    quality = snapshot.quality
    return quality.markets or [
        _Noted(str(sample.seq), sample.seq, sample.kind, sample.text) for sample in quality.samples
    ]


def _quality_columns(snapshot: Snapshot) -> Sequence[_Column]:
    rows = snapshot.quality.markets
    if not rows:
        return _SAMPLE_COLUMNS

    def age(place: int, term: str) -> _Column:
        def cell(row: QualityRow) -> _Cell:
            seconds = dict(row.ages).get(term)
            return ("never", "dim") if seconds is None else (_figure(seconds, 1, unit=" s"), "")

        return _Column(term, 8, cell, place + 1)

    return [
        _TICKER,
        _Column("state", 18, lambda row: (row.why or "good", "watch" if row.why else "good"),
                0, True),
        _Column("troubles", 8, lambda row: (
            _figure(row.troubles, 0), "watch" if row.troubles else "")),
        _Column("complete", 8, lambda row: (
            _percent(row.complete, 0), "" if row.complete == 1.0 else "watch"), 1),
        _Column("known", 6, lambda row: (_percent(row.known, 0), ""), 1),
        _Column("msg/s", 7, lambda row: (_figure(row.messages_s, 1), ""), 3),
        _Column("usual", 7, lambda row: (_figure(row.expected_s, 1), "dim"), 4),
        _Column("lag p99", 9, lambda row: (_figure(row.lag_p99_ms, 0, unit=" ms"), ""), 5),
        *(age(place, term) for place, (term, _) in enumerate(rows[0].ages)),
        _Column("most", 40, lambda row: (
            ", ".join(f"{n:,} {kind}" for kind, n in row.counts), ""), 9, True),
    ]  # fmt: skip


def _quality_samples(snapshot: Snapshot, row: Any, width: int, height: int) -> list[_Row]:
    """List what was wrong last, under the markets."""
    samples = snapshot.quality.samples if isinstance(row, QualityRow) else ()
    if not samples or height < 3:
        return []
    columns, room = _fitting(_SAMPLE_COLUMNS, width, 2)
    lines = (_laid([one.cell(each) for one in columns], columns, room, 2) for each in samples)
    return [[], [("what was wrong last", "dim")], *lines][:height]


_QUALITY: Final = _Table("quality", _quality_lines, _quality_columns, id="ticker",
                         above=_troubles, gap=1, foot=_quality_samples)  # fmt: skip


def _speed_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw what a frame costs, at its percentiles, and how many come."""
    speed = snapshot.speed
    now = f"{_figure(speed.throughput[-1] if speed.throughput else None, 0)} f/s "
    largest = max((us for _, us in speed.latency_us), default=0.0) or 1.0
    rows: list[_Row] = [
        [
            (now, "bold"),
            *_history_row(speed.throughput, width - 14, lambda rate: f"{_figure(rate, 0)}"),
        ],
        _pairs(width, ("draw_ms", _figure(speed.draw_ms, 2, unit=" ms"))),
        [("a frame takes, from its arrival to its last order", "dim")],
    ]
    for name, us in speed.latency_us:
        bar = _gauge(us / largest, max(width - 20, 4))
        text = f"{us:,.1f} µs" if us < 1_000 else f"{us / 1_000:,.2f} ms"
        rows.append([(f"{name:>6} ", "dim"), (f"{text:>10}  ", "bold"), (bar, "accent")])
    if not view.panel:
        return rows
    layers = "the layers, of the frames since this panel is open, in the order of the way"
    return [*rows, [], [(layers, "dim")], *_layer_rows(snapshot.way.layers, width)]


def _traffic(snapshot: Snapshot, width: int) -> list[_Row]:
    wire = snapshot.wire
    block = ("block", _figure(wire.height, 0))
    made_at = ("at", _clock(wire.block_time_ns, "%Y-%m-%d %H:%M:%SZ"))
    return [_pairs(width, *row) for row in ((block, made_at), wire.counts, wire.kinds)]


def _sample(frame: Frame) -> Sample:
    # All texts begin alike: the contents differ.
    start = max(frame.text.find('"contents"', 0, 400), 0)
    text = ("…" if start else "") + frame.text[start : start + 2_000]
    return Sample(frame.seq, frame.channel or frame.kind, text)


_WIRE: Final = _Table("wire", lambda snapshot: list(map(_sample, snapshot.wire.samples)),
                      lambda _: _SAMPLE_COLUMNS, "no frame yet", "seq", _traffic)  # fmt: skip

# === Candles and flow ===
# One market's candles, drawn and listed, and what takers bought and sold, by window and by price,
# beside the trades themselves. A candle that is not whole is marked, never drawn as another.

# Each cell holds two halves, upper and lower: 0 nothing, 1 wick, 2 body.
_STICKS: Final = {
    (0, 0): " ", (1, 1): "│", (2, 2): "┃", (1, 2): "╽", (2, 1): "╿", (0, 2): "╻", (2, 0): "╹",
    (0, 1): "╷", (1, 0): "╵",
}  # fmt: skip
_PARTIAL: Final = ("partial", "forming")


def _candle_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw one market's candles and our fills, beside or above the list of the newest."""
    part = snapshot.candles
    if not part.rows:
        return [[("no candle yet", "dim")]]
    alone = view.panel == "candles"
    held = next((row for row in snapshot.positions if row.ticker == part.ticker), None)
    rows = _candle_figures(part, width, height)
    rows += [_held_row(part, held, width)] if alone and held is not None else []
    marks, room = _position_marks(held), height - len(rows)
    if alone and width >= 150:
        chart = _candle_chart(part, marks, width - 92, room)
        fills = _fill_list(part, 90, room // 3)
        listed = [*_candle_list(part, 90, room - len(fills)), *fills]
        return [*rows, *_beside(chart, width - 90, listed)]
    below = min(max(room // 3, 2), 12) if alone and room >= 12 else 0
    return [*rows, *_candle_chart(part, marks, width, room - below),
            *_candle_list(part, width, below)]  # fmt: skip


def _candle_figures(part: CandlesPart, width: int, height: int) -> list[_Row]:
    """Name the newest candle's prices, and what all of them come to; one row where it is low."""
    digits, last = _grid(part.market)[0], part.rows[-1]
    opened, high, low, close = (
        _figure(x, digits) for x in (last.open, last.high, last.low, last.close)
    )
    partial = sum(row.state == "partial" for row in part.rows)  # integers
    legend: _Row = []
    if part.fills:
        legend = [("▲ ", "up"), ("bought ", "dim"), ("▼ ", "down"), ("sold ", "dim"),
                  ("△▽ ", ""), ("out of a position", "dim")]  # fmt: skip
    first = _pairs(width, ("open", opened), ("high", high), ("low", low), ("close", close))
    if height < 12:
        return [] if height < 6 else [_chunks([(0, first), (1, legend)], width)]
    second = _pairs(width, ("candles", len(part.rows)), ("partial", partial),
                    ("trades", sum(row.trades for row in part.rows)),  # integers
                    ("USDC", _figure(_added(row.usd for row in part.rows), 0)))  # fmt: skip
    if width >= 130:
        return [_chunks([(0, first), (1, second), (2, legend)], width)]
    return [_chunks([(0, first), (1, legend)], width), second]


def _held_row(part: CandlesPart, held: PositionFigures, width: int) -> _Row:
    """Name what is held of a market, as it is marked."""
    digits, size_digits = _grid(part.market)
    side, size = _side(held.size), _figure(abs(held.size), size_digits)
    return _chunks([
        (0, [side, (f" {size}", "bold")]),
        (1, _named("entry_price", _figure(held.entry_price, digits))),
        (2, _named("liquidation_price", "none" if held.distance == math.inf
                   else _figure(held.liquidation_price, digits))),
        (3, _named("oracle_price", _figure(held.oracle_price, digits))),
        (4, [(f"{wording('unrealized_pnl')} ", "dim"), _signed(held.unrealized_pnl)]),
        (5, _named("seq", f"#{held.seq}")),
    ], width)  # fmt: skip


def _position_marks(held: PositionFigures | None) -> list[_Mark]:
    """Return where what is held of a market was entered, and where it would be liquidated."""
    if held is None:
        return []
    prices = ((held.entry_price, "entry", "accent"), (held.liquidation_price, "liq", "danger"))
    return [
        _Mark(float(price), name, style) for price, name, style in prices if price and price > 0
    ]


def _candle_chart(part: CandlesPart, marks: Sequence[_Mark], width: int, height: int) -> list[_Row]:
    """Draw candles with half a row's precision, their volume below, prices at the right."""
    digits, size_digits = _grid(part.market)
    known = _sound_candles(part.rows[-width:])
    if not known or height < 2:
        return [[("no candle that can be drawn", "dim")]] if not known else []
    below = 1 if height < 9 else 2 if height < 16 else 3  # rows of volume
    partial = any(one.row.state == "partial" for one in known)
    tall = max(height - below - 1 - partial, 1)
    label = max(len(_figure(one.high, digits)) for one in (known[0], known[-1])) + 1
    shown, step = _shown_candles(known, width - max(label, 7) - 1)
    low, high = min(one.low for one in shown), max(one.high for one in shown)
    begun = shown[0].row.started_at
    filled = [_Mark(fill.price, "", "") for fill in part.fills if fill.at >= begun]
    low, high = _reach_of((low, high), [*marks, *filled], 0.0, (None, None))
    labels, room = _labels(low, high, tall, width, "", shown[-1].row.close, marks, digits)
    shown = shown[-max((width - room - 1) // step, 1) :]
    plane = _Plane(low, high, step * len(shown), tall)
    canvas = _sticks(shown, plane, step)
    _strike(canvas, marks, plane, lambda price: _figure(price, digits))
    _mark_fills(canvas, part, shown, plane, step)
    rows = canvas.rows(labels)
    rows += _volumes(shown, step, below, room, size_digits)
    if partial:
        signs = "".join(f"{'?' if one.row.state == 'partial' else ' ':<{step}}" for one in shown)
        rows.append([(signs, "watch"), (f" {'partial':>{room}}"[: room + 1], "watch")])
    since = shown[0].row.started_at
    return [*rows, _moments(since, since + _span_of(shown), plane.wide)][:height]


class _Candle(NamedTuple):
    """A candle that can be drawn, with its outermost prices."""

    row: CandleRow
    open: float
    high: float
    low: float
    close: float


def _sound_candles(rows: Iterable[CandleRow]) -> list[_Candle]:
    """Return the candles whose prices are prices."""
    known = (_Candle(row, *row.prices) for row in rows)
    return [
        one for one in known
        if one.low > 0 and one.high < 1e15 and one.open == one.open and one.close == one.close
    ]  # fmt: skip


def _shown_candles(known: Sequence[_Candle], room: int) -> tuple[Sequence[_Candle], int]:
    """Return the newest candles that fit, and how many columns each has."""
    step = next((step for step in (4, 2) if step * len(known) <= room), 1)
    return known[-max(room // step, 1) :], step


def _span_of(shown: Sequence[_Candle]) -> int:
    """Return how much time so many candles stand for, ns, less one."""
    first = shown[0].row.started_at
    each = shown[1].row.started_at - first if len(shown) > 1 else 60 * 10**9
    return max(each * len(shown) - 1, 0)


def _sticks(shown: Sequence[_Candle], plane: _Plane, step: int) -> _Canvas:
    """Draw candles, each `step` columns wide, a gap among them."""
    canvas, ceiling = _Canvas.blank(plane), plane.high
    scale = (2 * plane.tall - 1) / (plane.high - plane.low)
    for place, one in enumerate(shown):
        style, column = _candle_style(one.row), place * step + step // 4
        opened, close = round((ceiling - one.open) * scale), round((ceiling - one.close) * scale)
        high, low = round((ceiling - one.high) * scale), round((ceiling - one.low) * scale)
        first, last = (opened, close) if opened < close else (close, opened)
        for line in range(high // 2, low // 2 + 1):
            half = 2 * line
            upper = 2 if first <= half <= last else 1 if high <= half <= low else 0
            half += 1
            lower = 2 if first <= half <= last else 1 if high <= half <= low else 0
            sign, signs = _STICKS[upper, lower], canvas.signs[line]
            if step == 4 and (upper == 2 or lower == 2):
                sign = _BODIES[upper == 2, lower == 2]
                signs[column - 1] = signs[column + 1] = sign
            signs[column] = sign
            canvas.styles[line][place * step : (place + 1) * step] = [style] * step
    return canvas


_BODIES: Final = {(True, True): "█", (True, False): "▀", (False, True): "▄"}


def _mark_fills(
    canvas: _Canvas, part: CandlesPart, shown: Sequence[_Candle], plane: _Plane, step: int
) -> None:
    """Mark our fills at their time and price: hollow what left a position."""
    since, span = shown[0].row.started_at, _span_of(shown)
    for fill in part.fills:
        if not (since <= fill.at <= since + span and _sane(fill.price) and plane.holds(fill.price)):
            continue
        column, row = _column(fill.at, since, since + span, plane.wide), plane.row(fill.price)
        column -= column % step - step // 4  # in the middle of its candle
        canvas.signs[row][column] = _FILL_SIGNS[fill.side == "BUY", fill.is_exit]
        canvas.styles[row][column] = "up" if fill.side == "BUY" else "down"


_FILL_SIGNS: Final = {
    (True, False): "▲", (False, False): "▼", (True, True): "△", (False, True): "▽"
}  # fmt: skip


def _volumes(
    shown: Sequence[_Candle], step: int, high: int, room: int, size_digits: int
) -> list[_Row]:
    """Draw volumes as bars of so many rows, the greatest named at the right."""
    sizes = [one.row.volume if 0 < one.row.volume < 1e15 else 0.0 for one in shown]
    most, wide = max(sizes, default=0.0), {1: 1, 2: 1, 4: 3}[step]
    rows: list[_Row] = []
    for n in range(high - 1, -1, -1):
        eighths = [int(size / (most or 1.0) * high * 8 + 0.5) - 8 * n for size in sizes]
        signs = (" " if n_ <= 0 else _SPARKS[min(n_, 8) - 1] for n_ in eighths)
        bars = "".join(f"{sign * wide:<{step}}" for sign in signs)
        name = _shorter(most, size_digits) if n == high - 1 else "volume" if not n else ""
        sign = "├" if name else "│"
        rows.append([(bars, "accent"), (sign, "faint"), (f"{name[: max(room, 6)]:>{room}}", "dim")])
    return rows


def _shorter(size: float, digits: int) -> str:
    """Write a size in thousands or millions where that is shorter."""
    for least, letter in ((1e9, "bn"), (1e6, "M"), (1e4, "k")):
        if size >= least:
            return f"{size / (1e3 if letter == 'k' else least):,.1f} {letter}"
    return _figure(size, min(digits, 2) if size >= 1 else digits if size < 100 else 0)


def _fill_list(part: CandlesPart, width: int, height: int) -> list[_Row]:
    """List our newest fills in this market, newest first."""
    if height < 3 or not part.fills:
        return []
    digits, size_digits = _grid(part.market)
    rows: list[_Row] = [[], [("our fills", "dim")]]
    for fill in part.fills[::-1][: height - 2]:
        side, style = _state(fill.side)
        sign = _FILL_SIGNS[fill.side == "BUY", fill.is_exit]
        rows.append([
            (f"{_clock(fill.at)} ", "dim"), (f"{sign} {side:<4} ", style),
            (f"{_figure(fill.size, size_digits):>11} @ {_figure(fill.price, digits)}", ""),
            (f" {'out' if fill.is_exit else 'in'} #{fill.seq}", "dim"),
        ])  # fmt: skip
    return rows[:height]


def _candle_style(row: CandleRow) -> str:
    if row.state in _PARTIAL:
        return "watch" if row.state == "partial" else "bold"
    return "up" if row.close > row.open else "down" if row.close < row.open else "dim"


def _candle_list(part: CandlesPart, width: int, height: int) -> list[_Row]:
    """List the newest candles, newest first."""
    if height < 2:
        return []
    digits, size_digits = _grid(part.market)
    day = part.resolution in ("1DAY", "4HOURS", "1HOUR")
    newest = part.rows[::-1][: height - 1]
    wide = max((len(_figure(row.high, digits)) for row in newest), default=0)

    def price(term: str, rank: int) -> _Column:
        wider = max(10, min(wide, 16))
        return _Column(term, wider, lambda row: (_figure(getattr(row, term), digits), ""), rank)

    return _rows_under([
        _Column("from", 11 if day else 5, lambda row: (
            _clock(row.started_at, "%m-%d %H:%M" if day else "%H:%M"), "dim"), 0, True),
        price("open", 0), price("high", 0), price("low", 0), price("close", 0),
        _Column("volume", 11, lambda row: (_figure(row.volume, size_digits), ""), 3),
        _Column("USDC", 11, lambda row: (_figure(row.usd, 0), ""), 2),
        _Column("trades", 6, lambda row: (_figure(row.trades, 0), ""), 4),
        _Column("state", 7, lambda row: (row.state, _candle_style(row)), 1, True),
    ], newest, width, 1)  # fmt: skip


def _flow_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw one market's windows, its hour by price, its trades, and the other markets' minute."""
    part = snapshot.flow
    if not part.windows:
        return [[("no market yet", "dim")]]
    digits, size_digits = _grid(part.market)
    rows = _flow_table(part.windows, "window", width, digits, size_digits)
    room = height - len(rows) - 1
    if room < 3:
        return rows
    half = min(max(width // 2 - 2, 30), 60)
    left = _profile(part.by_price, half, room, digits, size_digits)
    right: list[_Row] = [[("last trades", "dim")]]
    for trade in part.trades:
        side, style = _state(trade.side)
        right.append([(f"{_clock(trade.at_ns)} ", "dim"), (f"{side:<4} ", style),
                      (f"{_figure(trade.size, size_digits):>9} @ ", ""),
                      (_figure(trade.price, digits), ""),
                      (f" #{trade.seq}", "dim")])  # fmt: skip
    below = _beside(left, half + 3, right[:room])
    if width < 150:
        return [*rows, [], *below]
    others = [[("last minute", "dim")], *_flow_table(part.others, "ticker", width - 112, 2, 3)]
    return [*rows, [], *_beside(below, 112, others[:room])]


def _flow_table(
    flows: Sequence[FlowRow], first: str, width: int, digits: int, size_digits: int
) -> list[_Row]:
    def size(term: str, rank: int) -> _Column:
        def cell(row: FlowRow) -> _Cell:
            # No trade has no median.
            return _figure(getattr(row, term), size_digits) if row.trades else "", ""

        return _Column(term, 9, cell, rank)

    of_one = [
        size("buys", 3), size("sells", 3),
        _Column("delta", 10, lambda row: _signed(row.delta, size_digits)),
        _Column("vwap", 10, lambda row: (
            "" if row.vwap is None else _figure(row.vwap, digits), ""), 2),
        size("largest", 4), size("median", 5), size("p99", 6),
    ]  # fmt: skip
    if first == "ticker":  # sizes of many markets have many grids
        of_one = []
    return _rows_under([
        _Column(first, 10 if first == "ticker" else 7,
                lambda row: (getattr(row, first), "bold"), 0, True),
        _Column("trades", 6, lambda row: (_figure(row.trades, 0), "")),
        *of_one[:3],
        _Column("bought", 8, lambda row: (
            "" if row.bought is None else _gauge(row.bought, 8), "up"), 1),
        _Column("USDC", 11, lambda row: (_figure(row.usd, 0), "")),
        *of_one[3:],
        _Column("liquidated", 10, lambda row: (
            _percent(row.liquidated), "watch" if row.liquidated else "dim"), 7),
    ], flows, width, 1)  # fmt: skip


def _profile(
    by_price: Sequence[tuple[float, float, float]], width: int, height: int, digits: int,
    size_digits: int,
) -> list[_Row]:  # fmt: skip
    """Draw the volume by price of the last hour in as many steps as there are rows."""
    title: list[_Row] = [[("the hour by price: bought, then sold", "dim")]]
    known = [row for row in by_price if all(0 <= x < 1e15 for x in row)]
    if not known:
        return [*title, [("no trade since this panel is open", "dim")]]
    low, high = min(row[0] for row in known), max(row[0] for row in known)
    count = max(min(height - 1, len(known)), 1)
    step = (high - low) / count or 1.0
    steps = [[0.0, 0.0] for _ in range(count)]
    for price, bought, sold in known:
        row = steps[min(int((price - low) / step), count - 1)]
        row[0] += bought
        row[1] += sold
    most, room = max(map(math.fsum, steps)) or 1.0, max(width - 24, 4)
    rows: list[_Row] = []
    for number in range(count - 1, -1, -1):
        wide = [round(size / most * room) for size in steps[number]]
        rows.append([(f"{_figure(low + number * step, digits):>11} ", ""),
                     ("█" * wide[0], "up"), ("▒" * wide[1], "down"),
                     (f" {_figure(math.fsum(steps[number]), size_digits)}", "dim")])  # fmt: skip
    return [*title, *rows]


# === Prices ===
# How far prices went and how much was traded on the way, by span; what stands around the price, by
# distance. Ranges are of candles and depth is of the book: what is not known of either is unknown.

_YEAR_H: Final = 24.0 * 365.0


def _grid_of(row: PriceRow) -> tuple[int, int]:
    return _grid(row.market)


def _where(found: PriceRange, width: int) -> str:
    """Draw where the price stands between its low and its high."""
    wide = found.high - found.low
    share = (found.close - found.low) / wide if wide > 0 and math.isfinite(wide) else 0.5
    place = round(min(max(share, 0.0), 1.0) * (width - 1)) if math.isfinite(share) else 0
    return "─" * place + "●" + "─" * (width - 1 - place)


def _share_of(value: float | None, hours: float) -> str:
    """Write a volatility of an hour as one of so many hours."""
    return _percent(None if value is None else value * math.sqrt(hours), 2 if hours < 2 else 0)


def _change(row: PriceRange) -> _Cell:
    return _percent(row.change, 2, sign=True), _trend(row.change)[1]


def _known_of(row: PriceRange) -> _Cell:
    """Say of how many candles a range is, where it is not of all."""
    known = row.periods - row.partial
    whole = known >= row.wanted
    return "all" if whole else f"{known:,} of {row.wanted:,}", "" if whole else "watch"


def _range_columns(digits: int) -> list[_Column]:
    def price(term: str, rank: int = 0) -> _Column:
        return _Column(term, 11, lambda row: (_figure(getattr(row, term), digits), ""), rank)

    return [
        _Column("span", 7, lambda row: (row.span, "bold"), 0, True),
        price("open", 8), price("low"),
        _Column("low to high", 15, lambda row: (_where(row, 15), "accent"), 6, True),
        price("high"),
        _Column("change", 9, _change),
        _Column("volatility/h", 12, lambda row: (_share_of(row.volatility_1h, 1.0), ""), 1),
        _Column("a year", 7, lambda row: (_share_of(row.volatility_1h, _YEAR_H), "dim"), 5),
        _Column("volume USDC", 13, lambda row: (_figure(row.usd, 0), ""), 2),
        _Column("trades", 7, lambda row: (_figure(row.trades, 0), ""), 3),
        _Column("candles known", 16, _known_of, 1, True),
    ]  # fmt: skip


def _price_above(snapshot: Snapshot, width: int) -> list[_Row]:
    """Draw the ranges of the market shown, and its depth beside its hour by price."""
    part = snapshot.prices
    shown, (digits, size_digits) = part.shown, _grid_of(part.shown)
    if not shown.ticker:
        return []
    named = _named("price", _figure(shown.price, digits), "bold")
    parts = [(0, named), (1, _named("spread_bps", _figure(shown.spread_bps, 2, unit=" bp"))),
             (3, _named("", f"#{shown.seq}", "dim"))]  # fmt: skip
    if part.closes and width >= 60:
        low, high = _figure(min(part.closes), digits), _figure(max(part.closes), digits)
        parts.append((2, [(f"{low} ", "dim"), (_spark(part.closes, min(width // 3, 60)), "accent"),
                          (f" {high}", "dim")]))  # fmt: skip
    rows = [_chunks(parts, width)]
    ranges = _rows_under(_range_columns(digits), part.ranges, width)
    rows += ranges if part.ranges else [[("no candle yet", "dim")]]
    depth = _rows_under(_DEPTH_COLUMNS, part.depths, min(width, 58))
    depth = depth if part.depths else [[("no book", "watch")]]
    if width >= 100:
        half = width - 64
        depth = _beside(depth, 62, _profile(part.by_price, half, 6, digits, size_digits))
    return [*rows, [], *depth, []]


def _hour(term: str, width: int, cell: Callable[[PriceRange, int], _Cell], rank: int) -> _Column:
    """Return a column of the last hour, which a young market does not have."""

    def of(row: PriceRow) -> _Cell:
        return (_UNKNOWN, "dim") if row.hour is None else cell(row.hour, _grid_of(row)[0])

    return _Column(term, width, of, rank)


def _price_columns(snapshot: Snapshot) -> list[_Column]:
    wide = max(11, _price_room(snapshot.prices.markets))
    return [
        _TICKER,
        _Column("price", wide, lambda row: (_figure(row.price, _grid_of(row)[0]), "")),
        _hour("hour", 9, lambda found, _: _change(found), 0),
        _hour("low", wide, lambda found, digits: (_figure(found.low, digits), ""), 4),
        _hour("high", wide, lambda found, digits: (_figure(found.high, digits), ""), 4),
        _hour("volatility/h", 12, lambda found, _: (_share_of(found.volatility_1h, 1.0), ""), 1),
        _hour("USDC an hour", 12, lambda found, _: (_figure(found.usd, 0), ""), 2),
        _hour("trades", 7, lambda found, _: (_figure(found.trades, 0), ""), 6),
        _Column("spread_bps", 9, lambda row: (_figure(row.spread_bps, 2, unit=" bp"), ""), 3),
        _Column("25 bp: bids", 12, lambda row: (
            _figure(None if row.depth is None else row.depth.bid_usd, 0), "up"), 7),
        _Column("asks", 12, lambda row: (
            _figure(None if row.depth is None else row.depth.ask_usd, 0), "down"), 7),
        _Column("imbalance", 13, lambda row: _lean(row.depth, 6), 5, True),
    ]  # fmt: skip


_PRICES: Final = _Table("prices", lambda snapshot: snapshot.prices.markets, _price_columns,
                        "no market yet", "ticker", _price_above)  # fmt: skip

# === Funding and detectors ===
# What holding will cost, by the venue's figure and by our own, and what the detectors find, each
# with the figures it was computed from. A countdown is of the venue's time.


def _funding_summary(snapshot: Snapshot, width: int) -> list[_Row]:
    rows = snapshot.funding
    rates = [row.venue_1h for row in rows if row.venue_1h is not None]
    longs, shorts = sum(x > 0 for x in rates), sum(x < 0 for x in rates)  # integers
    due = next((row.seconds for row in rows if row.seconds is not None), None)
    return [
        [("next payment in ", "dim"), (_stopwatch(due), "bold"),
         ("  ", ""), (_gauge(None if due is None else 1 - due / 3_600, 24), "accent")],
        _pairs(width, ("markets", len(rows)), ("known", len(rates)), ("longs pay", longs),
               ("shorts pay", shorts)),
    ]  # fmt: skip


def _rate(rate_1h: float | None, hours: float = 1.0, digits: int = 5) -> _Cell:
    if rate_1h is None:
        return _UNKNOWN, "dim"
    return _percent(rate_1h * hours, digits, sign=True), _trend(rate_1h)[1]


def _apart(row: FundingRow) -> _Cell:
    if row.venue_1h is None or row.predicted_1h is None:
        return "", ""
    return _figure((row.predicted_1h - row.venue_1h) * 8e6, 0, sign=True, unit=" ppm"), ""


def _share_known(row: FundingRow) -> _Cell:
    if row.share is None:
        return "", ""
    return f"{_gauge(row.share, 6)} {_percent(row.share, 0)}", "accent"


_VENUE_1H: Final = attrgetter("venue_1h")
_FUNDING: Final = _Table("funding", lambda snapshot: snapshot.funding, lambda snapshot: (
    _TICKER,
    _Column("next hour", 11, lambda row: _rate(row.venue_1h), value=_VENUE_1H),
    _Column("our own", 11, lambda row: _rate(row.predicted_1h), 1,
            value=attrgetter("predicted_1h")),
    _Column("apart", 10, _apart, 4),
    _Column("8 hours", 11, lambda row: _rate(row.venue_1h, 8.0, 4), 2, value=_VENUE_1H),
    _Column("a year", 10, lambda row: _rate(row.venue_1h, 8_760.0, 2), value=_VENUE_1H),
    _Column("clamp/h", 10, lambda row: (_percent(row.most_1h, 3), "dim"), 6),
    _Column("known", 12, _share_known, 3, True, attrgetter("share")),
    _Column("240 hours", 24, lambda row: (_spark(_every(row.history, 24), 24), "accent"), 5, True,
            lambda row: row.history[-1] - row.history[0] if row.history else None),
    _Column("between", 24, lambda row: _between(
        row.history, lambda rate: _percent(rate, 4, sign=True)), 8, True),
    _Column("seq", 8, lambda row: (f"#{row.seq}", "dim"), 7, True),
), "no market yet", "ticker", _funding_summary, gap=1)  # fmt: skip


def _found(snapshot: Snapshot, width: int) -> list[_Row]:
    seen = snapshot.detections
    if seen is None:
        return [[("detectors are off: bot panel detectors, or a run with --detectors", "watch")]]
    made = [one.strength >= 0.5 for one in seen if one.detector == "makers"]
    claims = [one for one in seen if one.detector == "arbitrage" and one.strength > 0]
    best = max(((_net(one) or 0.0, one.ticker) for one in claims), default=None)
    leads = [lead > 0 for one in seen if (lead := one.value("lead_trades_s")) is not None]
    largest = f"{len(claims)}, up to {_figure(best[0])} USDC ({best[1]})" if best else "none"
    return [_pairs(
        width, ("makers in", f"{made.count(True)} of {len(made)} markets"), ("claims", largest),
        ("mid leads the tape", f"in {leads.count(True)} of {len(leads)}"),
    )]  # fmt: skip


def _net(one: Detection) -> float | None:
    """Return what the better of an arbitrage's trades would bring, USDC."""
    nets = (one.value(name) for name in ("basis_usd", "residual_usd"))
    return max((net for net in nets if net is not None), default=None)


def _inputs(one: Detection) -> str:
    return " · ".join(worded(*pair) for pair in one.inputs)


def _finding(one: Detection) -> _Cell:
    """Return in words what a detection comes to."""
    if one.detector == "makers":
        there = "makers" if one.strength >= 0.5 else "no makers" if one.strength <= 0.25 else "few"
        return f"{there}, a quote lives {_figure(one.value('life_s'), 1)} s", ""
    if one.detector == "arbitrage":
        net = _net(one)
        words = "too thin to say" if net is None else f"net {_figure(net, 2, sign=True)} USDC"
        return f"{'' if one.strength else 'none, '}{words}", "" if one.strength else "dim"
    lead = one.value("lead_trades_s")
    if lead is None:
        return "", ""
    first, second = ("mid", "tape") if lead >= 0 else ("tape", "mid")
    return f"{first} leads {second} by {abs(lead):.2f} s", ""


_DETECTORS: Final = _Table(
    "detectors", lambda snapshot: snapshot.detections or (), lambda snapshot: (
        _TICKER,
        _Column("detector", 10, lambda one: (one.detector, ""), 0, True),
        _Column("strength", 8, lambda one: (_figure(one.strength, 2), "bold")),
        _Column("", 16, lambda one: (_gauge(one.strength, 16), "accent"), 2),
        _Column("what it says", 34, _finding, 1, True),
        _Column("seq", 8, lambda one: (f"#{one.seq}", "dim"), 3, True),
    ), "nothing found yet: the detectors warm up", "ticker", _found, below=_inputs,
)  # fmt: skip

# === Safety ===
# How far away liquidation is, as large as the room allows, and what the guard did and does next.
# Distances are risk's; here they get a word and a colour.

_ACT: Final = 0.05


def _safety_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw the distance to liquidation as large as there is room, and what the guard does."""
    safety = snapshot.safety
    word, style = _state_of(safety, is_due=_advice_due(snapshot))
    digits = "dim" if safety.doubt else style
    steps = _step_rows(snapshot, height)
    bar = _distance_bar(safety, _acts_at(snapshot), digits, width)
    distance = "" if safety.distance is None else percent_text(safety.distance)
    head: _Row = [*_stop(snapshot.gate)[0], (f"{word} ", style), *_head_words(safety)]
    # Lines that are whole are worth more than digits that are larger.
    whole = len(_whole(steps, width, 99))
    big = next(filter(None, (_digits(distance or word, width, height - 1 - high)
                             for high in (whole, len(steps)))), ())  # fmt: skip
    if not big:
        small: _Row = [(f"{distance} ", digits)] if distance else []
        above = [[*head[:-1], *small, head[-1]], *_small_rows(safety, width), bar]
        return [*above, *_whole(steps, width, height - len(above))]
    room = width - len(big[0]) - _GAP
    high = max(len(big), min(height - 1 - whole, _ROWS), _needed(room))
    beside = [_chunks(list(enumerate([cell] for cell in head)), room, ""),
              *_account_rows(safety, room, high - 1)]  # fmt: skip
    rows = _beside([[(" " + line, digits)] for line in big], len(big[0]) + _GAP, beside)
    lines = _whole(steps, width, height - len(rows) - 1)
    if not any(map(math.isfinite, safety.history)):
        return [*rows, bar, *lines]
    past = [("last minutes    ", "dim"), *_history_row(safety.history, width - 16, percent_text)]
    return [*rows, bar, *lines, past]


_GAP: Final = 3  # cells around the digits
_ROWS: Final = 9  # of figures: what is above, and every extra
_ROOM: Final = 40  # cells that the widest of the figures takes
_BLOCK: Final = 26  # cells of a named result with its share
_EXTRA: Final = 17  # and of a figure of the margin beside it, at least

# Rows by cells of a dot, the largest first.
_DIGITS: Final = ((4, 8), (3, 6), (2, 4), (2, 3), (2, 2), (1, 2), (1, 1))


def _digits(text: str, width: int, height: int) -> tuple[str, ...]:
    """Draw a text as large as leaves room for the figures beside it; nothing if none does."""
    for high, wide in _DIGITS:
        big = _banner(text, high, wide)
        room = width - len(big[0]) - _GAP
        if room >= _ROOM and len(big) <= height and _needed(room) <= max(len(big), height):
            return big
    return ()


def _needed(room: int) -> int:
    """Count rows: a word, the equity, then three results and two extras, beside them if it fits."""
    return 5 if room >= _BLOCK + _EXTRA else 7


def _head_words(safety: SafetyPart) -> _Row:
    """Return what stands beside the word: how old it is, what is lost, how the distance moves."""
    if safety.doubt:
        since = safety.doubt_s
        ago = "" if since is None else f" {_duration(since)} ago"
        return [(f"last known{ago}", "watch")]
    falls = [fall for fall in _falls(safety.result) if fall.style]
    worst = max(falls, key=lambda fall: fall.style == "danger", default=None)
    lost = [] if worst is None else [(f"{_percent(worst.share)} {worst.words} ", worst.style)]
    change = safety.change or 0.0
    arrow, direction = _trend(change)
    # What rounds to nothing has not moved.
    moved = f"{arrow}{abs(change) * 100:.1f} %/min" if abs(change) >= 0.0005 else ""
    return [*lost, (moved, direction)]


class _Fall(NamedTuple):
    """A loss as a share, the most that it may be, words for since when, and its style."""

    share: float
    most: float | None
    words: str
    style: str


# Without a limit of the policy: what is to be watched, and what is grave.
_LOSS: Final = 0.05, 0.20


def _falls(result: ResultPart | None) -> list[_Fall]:
    """Return the losses of today and since the peak, styled by their limits."""
    if result is None:
        return []
    return [
        _Fall(share, most, words, _loss_style(share, most))
        for share, most, words in (
            (-result.today_share, result.most_today, "lost today"),
            (result.fall_share, result.most_fall, "below the peak"),
        )
    ]


def _loss_style(share: float, most: float | None) -> str:
    # Half of what may be lost is worth a look.
    watch, danger = _LOSS if most is None else (most / 2, most)
    return "danger" if share >= danger else "watch" if share >= watch else ""


def _advice_due(snapshot: Snapshot) -> bool:
    """Return whether somebody who is watched should act now, by the limits of the profile."""
    watch = snapshot.watch
    if not snapshot.safety.advice or watch is None or snapshot.safety.distance is None:
        return False
    return bool(due(watch.plan, watch.plan.distance_next))


def _state_of(safety: SafetyPart, *, is_due: bool = False) -> _Cell:
    """Word how safe the account is: what is not known is a danger to open positions alone."""
    if safety.doubt or (safety.margin is None and not safety.positions):
        return _state("UNKNOWN", "danger" if safety.positions else "watch")
    styles = {fall.style for fall in _falls(safety.result)}
    lost = next((style for style in ("danger", "watch") if style in styles), "")
    if safety.margin is not None and safety.distance is None:
        return wording("FLAT"), "watch" if lost else _STATES["FLAT"]
    word, style = _alarm(safety.distance, safety.act_below, is_due=is_due)
    # Far from liquidation is not safe while the equity goes.
    return (wording("LOSING"), lost) if lost and style == "good" else (word, style)


def _alarm(distance: float | None, act_below: float | None, *, is_due: bool = False) -> _Cell:
    """Return a word and a style for how safe a distance is; where a step is due, it is not."""
    act = _ACT if act_below is None else act_below
    if distance is None or math.isnan(distance):
        return _state("UNKNOWN", "danger")
    if distance < act:
        return _state("DANGER")
    return _state("WATCH" if is_due or distance < act * 1.5 else "SAFE")


def _stop(gate: Standing | None) -> tuple[_Row, str]:
    """Return what stands beside the safety word unless the gate is ACTIVE, and every reason."""
    if gate is None or gate.state == "ACTIVE":
        return [], ""
    word, style = _state(gate.state)
    # The reason need not begin with the state again.
    why = "; ".join(why for _, why in gate.reasons).removeprefix(f"{gate.state.lower()}: ")
    return [(f" {word} ", style), (" ", "")], why


def _account_rows(safety: SafetyPart, width: int, high: int) -> list[_Row]:
    """Draw equity and results, and the margin's figures in columns to the right and below."""
    tight = width < _BLOCK + _EXTRA + 3
    results, extras = _result_rows(safety), _extras(safety, 0 if tight else 1)
    rows = [_equity_row(safety, width), *results]
    columns = (width - _BLOCK - _EXTRA) // _BLOCK + 1 if width >= _BLOCK + _EXTRA else 0
    for n in range(columns if high >= len(rows) else 0):
        left, column = _BLOCK * (n + 1) + (1 if tight else 2), extras[:3]
        del extras[:3]
        for row, cells in zip(rows[1:4], column, strict=False):
            used = _row_cells(row)
            row += [(" " * max(left - used, 1), ""), *cells]
    rows += extras
    return rows[:high]


def _small_rows(safety: SafetyPart, width: int) -> list[_Row]:
    """Draw the same on three rows, for want of room."""
    equity = _equity_row(safety, width)
    profit, today, fall = _result_rows(safety)
    leverage, used, *rest = _extras(safety)
    # Fields that are aligned in a column need no room on a row.
    return [
        [(text.replace("  ", " ") if n else text, style) for n, (text, style) in enumerate(row)]
        for row in (
            _chunks([(0, equity), (1, leverage)], width),
            _chunks([(0, profit), (1, today)], width),
            _chunks([(0, fall), (1, used), *((2 + n, row) for n, row in enumerate(rest))], width),
        )
    ]


def _equity_row(safety: SafetyPart, width: int) -> _Row:
    margin, result = safety.margin, safety.result
    style = "dim" if safety.doubt else "bold"
    money = _figure(_usdc(margin.net_collateral if margin else None))
    row: _Row = [(f"{wording('net_collateral'):<8}", "dim"), (f"{money:>10}", style)]
    if result is None:
        return [*row, (" USDC", "dim")]
    paid = _usdc(result.paid_in) or 0.0
    of = f" of {_figure(paid, 0 if abs(paid - round(paid)) < 0.005 else 2)}"
    words = f" USDC {result.paid_words}" if width >= _ROOM + 6 else f" {result.paid_words}"
    return [*row, (of, style), (words, "dim")]


def _result_rows(safety: SafetyPart) -> list[_Row]:
    """Draw profit, today's, and drawdown: USDC and per cent."""
    result, grey = safety.result, bool(safety.doubt)

    def row(term: str, quote: int | None, share: float | None, style: str, sign: bool) -> _Row:
        style = "dim" if grey else style
        money = _figure(_usdc(quote), sign=sign)
        part = "" if share is None else _percent(share, sign=sign)
        return [(f"{wording(term):<8}", "dim"), (f"{money:>10}", style), (f"{part:>8}", style)]

    if result is None:
        return [row(term, None, None, "", False) for term in ("profit", "today", "DRAWDOWN")]
    today, fall = _falls(result)
    return [
        row("profit", result.profit, result.share, _trend(result.profit)[1], True),
        row("today", result.today, result.today_share,
            today.style or _trend(result.today)[1], True),
        row("DRAWDOWN", result.fall, result.fall_share, fall.style, False),
    ]  # fmt: skip


def _extras(safety: SafetyPart, digits: int = 1) -> list[_Row]:
    """Return the margin's figures, the weightiest first."""
    margin, result, grey = safety.margin, safety.result, bool(safety.doubt)
    usage, leverage = (margin.usage, margin.leverage) if margin else (None, None)
    alarm = "" if usage is None or usage < 0.7 else "watch" if usage < 1 else "danger"

    def money(term: str) -> _Row:
        quote_quantums = None if margin is None else getattr(margin, term)
        return named(term, _figure(_usdc(quote_quantums)))

    def named(term: str, text: str, style: str = "") -> _Row:
        return _named(term, text, "dim" if grey else style)

    deepest = _percent(result.deepest_share if result else None)
    return [
        named("leverage", _figure(leverage, 2, unit=_TIMES)),
        named("usage", _percent(usage, digits), alarm),
        money("free_collateral"),
        money("maintenance_margin"),
        named("closest", percent_text(safety.closest)),
        named("deepest", deepest),
        money("initial_margin"),
    ]


def _acts_at(snapshot: Snapshot) -> float | None:
    """Return the distance at which the guard acts now; None without a guard."""
    rows = snapshot.watch.triggers if snapshot.watch is not None else ()
    levels = (row.level for row in rows if row.cause == "DISTANCE")
    return next(levels, snapshot.safety.act_below) if snapshot.safety.act_below else None


def _distance_bar(safety: SafetyPart, acts_at: float | None, style: str, width: int) -> _Row:
    """Draw the distance against four times that at which the guard acts, which is marked."""
    act = max(acts_at or _ACT, _ACT)
    label = " watched: nothing acts" if safety.advice else " no guard"
    label = f" guard acts at {percent_text(acts_at)}" if acts_at is not None else label
    least = safety.act_below
    if acts_at is not None and least is not None and acts_at > least and width >= 60:
        # It goes back step by step before it leaves whole: both levels are in force.
        label += f", closes at {percent_text(least)}"
    room = max(width - len(label) - 1, 4)
    distance = math.nan if safety.margin is None else safety.distance or 0.0
    bar, mark = _gauge(distance / (act * 4), room), room // 4
    sign = ("┃", "key") if acts_at is not None else (bar[mark], style)
    return [(bar[:mark], style), sign, (bar[mark + 1 :], style), (label, "dim")]


def _step_rows(snapshot: Snapshot, height: int) -> list[_Row]:
    """Return why it is unknown, why nothing enters, what the guard did last and does next."""
    safety, watch = snapshot.safety, snapshot.watch
    rows: list[_Row] = []
    if safety.doubt:
        words = f"{safety.doubt}: the figures in grey were known last"
        rows.append([("unknown ", "dim"), (words, "watch")])
    if why := _stop(snapshot.gate)[1]:
        rows.append([("gate ", "dim"), (why, "watch")])
    if safety.advice:
        return [*rows, [("advice ", "dim"), _next_rung(snapshot)]]
    acts = safety.distance is not None and watch is not None and watch.triggers
    if watch is not None and acts:
        rows.append([("acts next ", "dim"), *_trigger_row(watch.triggers[0])])
    low = height <= _LOW
    if (last := safety.last) is not None and not (low and why):
        # What has just been done goes first, and is red for half a minute of event time.
        new = (snapshot.header.clock_ns or 0) - last.at < 30 * 10**9
        done: _Row = [(f"last step {_clock(last.at)} ", "dim"),
                      (sign_text(last.why), "danger" if new else "watch")]  # fmt: skip
        rows.insert(0 if new else len(rows), done)
    if not low or not rows:
        rows.append([("next step ", "dim"), _next_rung(snapshot)])
    # The distance stays large when there is most to read: what is next is on a panel of its own.
    return rows[:2] if low else rows[: max(height - _LARGE, 2)]


_LOW: Final = 8  # rows of a panel that has none to spare
_LARGE: Final = 6  # rows of the digits, and of the bar below them


def _trigger_row(row: Trigger) -> _Row:
    """Word a rule that reduces: its level now, how far away that is, what it leaves, and why."""
    times, sign = row.cause == "LEVERAGE", "above" if row.cause == "LEVERAGE" else "below"
    level, now = (
        f"{_figure(figure, 2)}{_TIMES}" if times
        else percent_text(figure) if row.cause == "DISTANCE" or figure is None
        else _figure(_usdc(figure))
        for figure in (row.level, row.now)
    )  # fmt: skip
    style = "danger" if row.away == 0 else "watch" if row.away is None or row.away < 0.01 else ""
    far = "" if row.away is None or row.away == math.inf else ", due"
    fall = "block" if row.cause == "DISTANCE" else "move"
    far = f", a {fall} of {percent_text(row.away)} away" if far and row.away else far
    of_equity = row.cause in ("DAILY_LOSS", "DRAWDOWN")
    of = " of the leverage" if of_equity else ""
    stays = f"{_percent(row.share, 0)}{of} may stay" if row.share else "nothing stays"
    what = f"{wording(row.cause)}{', equity' if of_equity else ''} "
    return [
        (what, "dim"), (f"{sign} {level}", style),
        (f" (now {now}{far}): {stays}; {row.why}", ""),
    ]  # fmt: skip


def _next_rung(snapshot: Snapshot) -> _Cell:
    """Return in the ladder's own words what the guard does next, and at which distance."""
    safety, watch = snapshot.safety, snapshot.watch
    if safety.margin is not None and safety.distance is None:
        return "none: no position is held", ""
    if watch is None:
        return _UNKNOWN, "dim"
    if safety.act_below is None and not safety.advice:
        return "none: the guard is off, nothing prevents liquidation", "watch"
    plan = watch.plan
    if watch.trouble and not plan.exits:
        return _UNKNOWN, "dim"
    if not plan.rungs:
        return f"none: {plan.why}", "watch"
    rung = plan.rungs[0]
    what = sign_text(f"{rung.words}, {rung.ends}")
    if rung in due(plan, plan.distance_next):
        return f"due now: {what}", "danger"
    return f"below {percent_text(rung.fires_below)}: {what}", ""


# === Positions ===
# Each position's own distance, by its own price of liquidation.


class _PositionRow(NamedTuple):
    """A position, how far away its own liquidation is, the guard's limit, its market's decimals.

    In `doubt` its price is not that of now; `costs` are what it has paid so far.
    """

    row: PositionFigures
    away: float | None
    act_below: float | None
    digits: tuple[int, int]
    doubt: bool
    costs: HeldCosts

    @property
    def ticker(self) -> str:
        return self.row.ticker


def _position_rows(snapshot: Snapshot) -> list[_PositionRow]:
    held = {row.ticker for row in snapshot.positions}
    digits = {row.ticker: _grid(row.market) for row in snapshot.markets if row.ticker in held}
    safety = snapshot.safety
    margin, act, doubt = safety.margin, safety.act_below, bool(safety.doubt)
    costs = {row.ticker: row for row in snapshot.held}
    sound = margin is not None and not margin.unknown and margin.cushion >= 0

    def away(row: PositionFigures) -> float | None:
        # Where all else is known, a position without such a price is one that none liquidates.
        never = sound and row.oracle_price is not None and row.liquidation_price is None
        return math.inf if never else row.distance

    return [
        _PositionRow(
            row,
            away(row),
            act,
            digits.get(row.ticker, _grid(None)),
            doubt,
            costs.get(row.ticker, HeldCosts(ticker=row.ticker)),
        )
        for row in snapshot.positions
    ]


def _price(held: _PositionRow, price: Decimal | None) -> _Cell:
    return _figure(price, held.digits[0]), ""


def _liquidation(held: _PositionRow) -> _Cell:
    # A price cannot fall below 0: the rest of the account carries such a position.
    price = held.row.liquidation_price
    none = held.away == math.inf if price is None else price <= 0
    return ("none", "") if none else _price(held, price)


def _away(held: _PositionRow) -> _Cell:
    style = _alarm(held.away, held.act_below)[1]
    # What was known last is no alarm, and no comfort.
    return percent_text(held.away), "dim" if held.doubt else style


def _away_bar(held: _PositionRow) -> _Cell:
    scale = None if held.away is None else held.away / ((held.act_below or _ACT) * 4)
    return _gauge(scale, 10), _away(held)[1]


def _notional(row: PositionFigures) -> float | None:
    return None if row.net_notional is None else abs(row.net_notional) / 1e6


def _returned(held: _PositionRow) -> _Cell:
    return _percent(held.row.returned, 2, sign=True), _trend(held.row.returned)[1]


def _position_columns(snapshot: Snapshot) -> list[_Column]:
    # How far liquidation is stays to the last, also on a phone.
    # Of a market whose tick is small the last digits are those that move: none is cut.
    rows = _position_rows(snapshot)
    prices = [(held, x) for held in rows for x in (held.row.entry_price, held.row.oracle_price)]
    wide = max([10, *(len(_price(held, price)[0]) for held, price in prices)])
    return [
        _TICKER,
        _Column("side", 5, lambda held: _side(held.row.size), 0, True),
        _Column("size", 11, lambda held: (_figure(abs(held.row.size), held.digits[1]), ""),
                value=lambda held: abs(held.row.size)),
        _Column("entry_price", wide, lambda held: _price(held, held.row.entry_price), 4),
        _Column("oracle_price", wide, lambda held: _price(held, held.row.oracle_price), 3),
        _Column("notional", 10, lambda held: (_figure(_notional(held.row), 0), ""), 5),
        _Column("leverage", 8, lambda held: (_figure(held.row.leverage, 2, unit=_TIMES), ""), 6),
        _Column("unrealized_pnl", 10, lambda held: _signed(held.row.unrealized_pnl), 1,
                value=attrgetter("row.unrealized_pnl")),
        _Column("returned", 8, _returned, 10),
        _Column("liquidation_price", wide, _liquidation, 2),
        _Column("distance", 8, _away, value=attrgetter("away")),
        _Column("", 10, _away_bar, 7),
        # Risk counts what the next hour costs; on screens, it is what it brings.
        _Column("funding_usdc_1h", 14, lambda held: _signed(_usdc(held.row.funding_1h, -1), 4), 8),
        _Column("funding so far", 14, lambda held: _signed(_usdc(held.costs.funding), 4), 12),
        _Column("fees", 9, lambda held: _signed(_usdc(held.costs.fees)), 11),
        _Column("seq", 9, lambda held: (f"#{held.row.seq}", "dim"), 9),
    ]  # fmt: skip


# === Equity ===
# How the account went over the whole run: its worth with what was deposited, how far it fell below
# its peak, and how far liquidation was meanwhile. Every figure is the bot's; here they get an axis.


def _equity_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw the account's worth over the run, what it fell and its distance, and the points."""
    part = snapshot.equity
    if height < 3:
        return [_equity_spark(part, width)]
    figures = _equity_figures(part, width, height)
    room = height - len(figures)
    if not part.at or room < 2:
        return figures
    listed = view.panel == "equity" and height >= 18
    if listed and width >= 150:
        drawn = _equity_charts(snapshot, width - 76, room)
        return [*figures, *_beside(drawn, width - 73, _point_list(part, 73, room))]
    below = _point_list(part, width, min(max(room // 3, 4), 14)) if listed else []
    return [*figures, *_equity_charts(snapshot, width, room - len(below)), *below]


def _equity_spark(part: EquityPart, width: int) -> _Row:
    """Draw the whole run on one row, with its least and its greatest."""
    now, low, high = _ends(part)
    profit = _signed(part.profit[-1] if part.profit else None)
    head: _Row = [(" equity ", "dim"), (f"{now} ", "bold"), (profit[0], profit[1]), (" ", "")]
    tail: _Row = [(f" {low} to {high}", "dim")]
    left = width - sum(len(text) for text, _ in (*head, *tail))  # integers
    line = _spark(_every(part.equity, left), left) if left >= 8 else ""
    return [*head, (line, "accent"), *tail] if line else head


def _ends(part: EquityPart) -> tuple[str, str, str]:
    """Return the last, the least and the greatest equity in words."""
    if not part.equity:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    ends = part.equity[-1], min(part.low or part.equity), max(part.high or part.equity)
    return _figure(ends[0]), _figure(ends[1]), _figure(ends[2])


def _equity_figures(part: EquityPart, width: int, height: int) -> list[_Row]:
    """Name the figures of the curve, on one row or on two."""
    now, low, high = _ends(part)
    profit = part.profit[-1] if part.profit else None
    parts: list[tuple[int, _Row]] = [
        (0, [(f"{now} USDC", "bold")]),
        (1, _gained(part)),
        (2, [("deepest fall ", "dim"), (_figure(part.deepest), _sunk(part, part.deepest_share)),
             (f" ({_percent(part.deepest_share)})", "dim")]),
        (4, [("now below its peak ", "dim"), (_figure(part.depth), _sunk(part, part.depth_share)),
             (f" ({_percent(part.depth_share)})", "dim")]),
        (3, [("today ", "dim"), _signed(part.today)]),
        (5, [("run ", "dim"), _signed(profit)]),
        (6, [("leverage ", "dim"), (_times(part.leverage_now), "")]),
        (7, _named("least", low)),
        (8, _named("most", high)),
        (9, _named("a point", f"{_figure(part.every_s, 0)} s")),
    ]  # fmt: skip
    above, below = [part for part in parts[:4] if part[1]], parts[4:]
    if width >= 150 or height < 8:
        return [_chunks([*above, *below], width)]
    return [_chunks(above, width), _chunks(below, width)]


def _gained(part: EquityPart) -> _Row:
    """Draw the gain as a share of what it began with; nothing while that is not known."""
    if not part.deposited:
        return []
    gain = part.equity[-1] / part.deposited - 1 if part.equity else None
    of = f" of {_figure(part.deposited, 2 if part.deposited % 1 else 0)} {part.since}"
    return [(_percent(gain, 2, sign=True), _trend(gain)[1]), (of, "dim")]


def _times(leverage: float | None) -> str:
    return "none" if leverage is None else f"{_figure(leverage)}{_TIMES}"


def _sunk(part: EquityPart, share: float | None) -> str:
    """Return the style of a share of the equity that is lost: what is grave is the same for all."""
    return "" if share is None else _loss_style(share, part.most_fall)


def _equity_charts(snapshot: Snapshot, width: int, height: int) -> list[_Row]:
    """Draw the curve over its falls, the distance beside them where there is room."""
    title = "distance to liquidation"
    if height < 5 or width < 96:
        below = height // 3 if height >= 24 else 0
        rows = _worth_and_falls(snapshot.equity, width, height - below)
        return [*rows, *_titled(title, _distance_chart(snapshot, width, below - 1))][:height]
    wide = width * 3 // 5
    left = _worth_and_falls(snapshot.equity, wide, height)
    room, below = width - wide - 2, height // 3 if height >= 24 else 0
    right = _titled(title, _distance_chart(snapshot, room, height - below - 1))
    if below:
        right += _titled("leverage", _leverage_chart(snapshot.equity, room, below - 1))
    return _beside(left, wide + 2, right)


def _worth_and_falls(part: EquityPart, width: int, height: int) -> list[_Row]:
    if height < 10:
        return _worth_chart(part, width, height)
    high = height - max(height // 3, 4)
    falls = _titled("below its peak", _fall_chart(part, width, height - high - 1))
    return [*_worth_chart(part, width, high), *falls]


def _titled(title: str, rows: list[_Row]) -> list[_Row]:
    return [[(title, "dim")], *rows]


def _worth_chart(part: EquityPart, width: int, height: int) -> list[_Row]:
    base = part.deposited
    marks = [] if base is None else [_Mark(base, part.since, "accent")]

    def style(value: float) -> str:
        return "accent" if base is None else "up" if value >= base else "down"

    line = _Line(part.equity, style, part.low, part.high)
    least = abs(part.equity[-1]) * 2e-4 if part.equity and _sane(part.equity[-1]) else 0.0
    return _line_chart(part.at, [line], width, height, marks, least=least)


def _fall_chart(part: EquityPart, width: int, height: int) -> list[_Row]:
    falls = [0.0 - 100 * fall for fall in part.fall]
    line = _Line(falls, lambda value: _sunk(part, -value / 100) or "down", fill="ceiling")
    return _line_chart(part.at, [line], width, height, unit=" %", least=0.2, span=(None, 0.0))


def _distance_chart(snapshot: Snapshot, width: int, height: int) -> list[_Row]:
    """Draw the distance up to four times that at which the guard acts; beyond is the top."""
    part, watch = snapshot.equity, snapshot.watch
    act, rows = part.act_below, watch.triggers if watch is not None else ()
    level = next((row.level for row in rows if row.cause == "DISTANCE"), act) if act else None
    top = 400 * max(level or _ACT, _ACT)
    away = [x if x is None else top if 100 * x >= top else 100 * x for x in part.distance]
    # A line, no area: what would be red at its foot is no danger while the line is far above it.
    line = _Line(away, lambda value: _alarm(value / 100, act)[1])
    marks = [] if level is None else [_Mark(100 * level, "guard acts", "key")]
    return _line_chart(part.at, [line], width, height, marks, unit=" %", span=(0.0, None))


def _leverage_chart(part: EquityPart, width: int, height: int) -> list[_Row]:
    line = _Line(part.leverage, "accent", fill="floor")
    return _line_chart(part.at, [line], width, height, unit=_TIMES, least=0.5, span=(0.0, None))


def _point_list(part: EquityPart, width: int, height: int) -> list[_Row]:
    """List the newest points at which anything changed, with their frames, newest first."""
    return _rows_under([
        _Column("time", 8, lambda n: (_clock(part.at[n]), "dim"), 0, True),
        _Column("net_collateral", 13, lambda n: (_figure(part.equity[n]), "bold")),
        _Column("run", 11, lambda n: (
            _signed(part.profit[n]) if part.seqs[n] else ("earlier", "dim"))),
        _Column("below peak", 10, lambda n: (_percent(part.fall[n]), _sunk(part, part.fall[n])), 1),
        _Column("distance", 8, lambda n: (
            "flat" if part.distance[n] is None else percent_text(part.distance[n]), ""), 0),
        _Column("leverage", 8, lambda n: (_times(part.leverage[n]), ""), 2),
        _Column("seq", 9, lambda n: (f"#{part.seqs[n]}" if part.seqs[n] else "", "dim"), 3),
    ], islice(_changes(part), max(height - 1, 0)), width, 1)  # fmt: skip


def _changes(part: EquityPart) -> Iterator[int]:
    """Yield the points that differ from the one before, newest first."""
    count = min(map(len, (part.at, part.seqs, part.equity, part.profit, part.fall,
                          part.distance, part.leverage)))  # fmt: skip
    for n in range(count - 1, -1, -1):
        if (
            not n
            or bool(part.seqs[n]) != bool(part.seqs[n - 1])  # here the run begins
            or part.equity[n] != part.equity[n - 1]
            or part.distance[n] != part.distance[n - 1]
        ):
            yield n


# === Accounts ===
# The accounts that are watched, without a key: how far each is from liquidation, and whose word
# that is. The dashboard shows one of them; here they stand side by side.


def _account_name(row: AccountRow) -> _Cell:
    owner, slash, number = row.id.partition("/")
    name = owner if len(owner) <= 15 else f"{owner[:8]}…{owner[-5:]}"
    return f"{'●' if row.chosen else ' '}{name}{slash}{number}", "key" if row.chosen else "bold"


def _account_state(row: AccountRow) -> _Cell:
    """Word how safe an account is; what is not known is no safety, nor is what is flat."""
    if row.trouble or row.positions is None:
        return _state("UNKNOWN", "danger" if row.positions else "watch")
    return _state("FLAT") if not row.positions else _alarm(row.distance, None, is_due=row.due)


def _account_distance(row: AccountRow) -> _Cell:
    flat = row.positions == 0 and not row.trouble
    return ("none", "dim") if flat else (percent_text(row.distance), _account_state(row)[1])


def _account_source(row: AccountRow) -> _Cell:
    if row.block is not None:
        return f"chain, block {row.block}", "good"
    at = "" if row.height is None else f", block {row.height}"
    return f"indexer only{at}", "watch"


_ACCOUNT_COLUMNS: Final = (
    _Column("account", 22, _account_name, 0, True),
    _Column("state", 8, _account_state, 1, True),
    _Column("distance", 9, _account_distance),
    _Column("", 10, lambda row: (
        _gauge(None if row.distance is None else row.distance / (_ACT * 8), 10)
        if row.positions else " " * 10, _account_state(row)[1]), 8),
    _Column("net_collateral", 13, lambda row: (_figure(row.equity), "")),
    _Column("profit", 11, lambda row: _signed(row.profit), 5),
    _Column("24 h", 11, lambda row: _signed(row.day), 6),
    _Column("leverage", 8, lambda row: (_figure(row.leverage, 2, unit=_TIMES), ""), 3),
    _Column("positions", 9, lambda row: (_figure(row.positions, 0), ""), 4),
    _Column("orders", 7, lambda row: (_figure(row.orders, 0), ""), 7),
    _Column("kind", 9, lambda row: (row.kind, "dim"), 9, True),
    _Column("source", 29, _account_source, 2, True),
)  # fmt: skip


def _account_lines(row: AccountRow, high: int) -> list[_Row]:
    """Draw what an account did before, below all of them, if there is room."""
    lines: list[_Row] = [[(line, "")] for line in row.lines]
    # Where there is little room, all accounts matter more than the past of one.
    return [[("", "")], [(row.id, "bold")], *lines][:high] if lines and high > 5 else []


_ACCOUNTS: Final = _Table(
    "accounts", lambda snapshot: snapshot.accounts, lambda _: _ACCOUNT_COLUMNS,
    "no account is watched: bot watch ADDRESS looks at anybody's, without a key",
    below=lambda row: row.trouble,
    foot=lambda snapshot, row, width, high: _account_lines(row, high),
)  # fmt: skip
# === Margin ===
# What each position requires, and where its liquidation price and the account's distance come from:
# each formula with the figures in it, so that a person comes to the same. The figures are risk's.


def _required_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    """Draw the account's sums, and how the distance comes of them."""
    margin, rows = snapshot.safety.margin, snapshot.margins
    if margin is None:
        return [[("unknown: what the account has is not certain", "watch")], []]
    net = sum(row.figures.net_notional or 0 for row in rows)  # integers
    equity = _figure(_usdc(margin.net_collateral))
    required = _figure(_usdc(margin.maintenance_margin))
    settled = f"{_figure(_usdc(margin.net_collateral - net))} USDC"
    lines = [
        _pairs(width, ("net_collateral", f"{equity} = {settled} {_signed(net / 1e6)[0]} positions"),
               *_owed(snapshot)),
        _pairs(width, ("initial_margin", _figure(_usdc(margin.initial_margin))),
               ("free_collateral", _figure(_usdc(margin.free_collateral))),
               ("usage", _percent(margin.usage)), ("maintenance_margin", required),
               ("leverage", _figure(margin.leverage, 2, unit=_TIMES))),
    ]  # fmt: skip
    if not margin.notional:
        return [*lines, []]
    loses, cushion = (_figure(_usdc(quote)) for quote in (margin.sensitivity, margin.cushion))
    row: _Row = [
        (f"{'distance':<14}", "key"), (f"({equity} - {required}) / {loses} = ", ""),
        (percent_text(margin.distance), "bold"),
        (f"  {cushion} above maintenance, of {loses} that a move of 100 % takes", "dim"),
    ]  # fmt: skip
    return [*lines, *_wrapped(row, width, 1), []]


def _owed(snapshot: Snapshot) -> list[tuple[str, str]]:
    owed = [row.owed for row in snapshot.held if row.owed is not None]
    if not owed:
        return []
    return [("unsettled", _figure(sum(owed) / 1e6, 4, sign=True, unit=" in it"))]  # integers


def _formula_rows(snapshot: Snapshot, row: MarginRow, width: int, height: int) -> list[_Row]:
    """Draw how one position's margins, its liquidation price and its distance are computed."""
    if height < 3 or row.inputs is None or row.figures.net_notional is None:
        return []
    side, style = _side(row.figures.size)
    title: _Row = [
        (f"{row.ticker} ", "bold"),
        (side, style),
        (f" oracle price of #{row.figures.seq}", "dim"),
    ]
    steps: _Steps = [
        (_initial_rows(row, row.inputs, width), 1), (_maintenance_rows(row, row.inputs, width), 1),
        (_liquidation_rows(row, row.inputs, width), 1), (_taken_rows(row, row.inputs, width), 1),
    ]  # fmt: skip
    return [[], title, *_squeezed(steps, height - 2)]


def _fold_step(name: str, formula: str, result: str, more: str, width: int) -> list[_Row]:
    lines = _folded(f"{formula} = {result}", width - 14)
    rows: list[_Row] = [[(f"{name:<14}", "key"), (lines[0], "")]]
    rows += [[(" " * 14, ""), (line, "")] for line in lines[1:]]
    rows += [
        [(" " * 14, ""), (line, "dim")] for line in (_folded(more, width - 14) if more else ())
    ]
    return rows


def _initial_rows(row: MarginRow, inputs: MarginInputs, width: int) -> list[_Row]:
    notional, fraction = _figure(_notional(row.figures)), _fraction(inputs.initial_ppm)
    result = _figure(_usdc(row.figures.initial_margin))
    caps = f"{_millions(inputs.lower_cap)} to {_millions(inputs.upper_cap)} USDC"
    more = f"open interest does not raise {_fraction(inputs.imf_ppm)} here"
    if inputs.upper_cap and inputs.open_interest is None:
        more = f"open interest unknown: it counts as the most of {caps}"
    elif inputs.upper_cap:
        worth = f"open interest {_millions(inputs.open_interest)}, scales from {caps}"
        more = f"{_fraction(inputs.imf_ppm)} of the tier; {worth}"
    return _fold_step("initial", f"{notional} {_TIMES} {fraction}", f"{result} USDC", more, width)


def _maintenance_rows(row: MarginRow, inputs: MarginInputs, width: int) -> list[_Row]:
    of = f"{_fraction(inputs.imf_ppm)} {_TIMES} {_fraction(inputs.maintenance_fraction_ppm)}"
    result = f"{_figure(_usdc(row.figures.maintenance_margin))} USDC"
    formula = f"{_figure(_notional(row.figures))} {_TIMES} {of}"
    return _fold_step("maintenance", formula, result, "", width)


def _liquidation_rows(row: MarginRow, inputs: MarginInputs, width: int) -> list[_Row]:
    """Word the price at which equity is all maintenance margin, others standing still."""
    if inputs.equity is None or inputs.others_maintenance is None:
        return [[(f"{'liquidation':<14}", "key"), ("unknown: not all of the account is", "watch")]]
    digits, size_digits = _grid(row.market)
    figures, value = row.figures, (row.figures.net_notional or 0) / 1e6
    size, others = f"{figures.size:,.{size_digits}f}", _figure(_usdc(inputs.others_maintenance))
    fraction = _percent(inputs.maintenance_ppm / 1e6, 3)
    base = f"{size} - {abs(figures.size):,.{size_digits}f} {_TIMES} {fraction}"
    price = figures.liquidation_price
    result = "no price liquidates" if price is None else _figure(price, digits)
    if price is not None and price <= 0:
        result += ", none that a market can have"
    formula = f"({others} {_figure(value, sign=True)} - {_figure(_usdc(inputs.equity))}) / ({base})"
    more = (
        "(maintenance margin of the others + notional - equity) / (size - |size| by the fraction)"
    )
    return _fold_step("liquidation", formula, result, more, width)


def _taken_rows(row: MarginRow, inputs: MarginInputs, width: int) -> list[_Row]:
    """Word its own distance, and its part of what all prices together would take."""
    figures, digits = row.figures, _grid(row.market)[0]
    oracle, price = _figure(figures.oracle_price, digits), figures.liquidation_price
    rows: list[_Row] = []
    if price is not None and price > 0:
        formula = f"|{oracle} - {_figure(price, digits)}| / {oracle}"
        rows = _fold_step("own distance", formula, percent_text(figures.distance), "", width)
    sign = "-" if figures.size > 0 else "+"
    required = _figure(_usdc(figures.maintenance_margin))
    formula = f"{_figure(_notional(figures))} {sign} {required}"
    more = "what a move of 100 % against it takes of the account, less the margin that goes with it"
    part = f"{_figure(_usdc(inputs.sensitivity))} USDC"
    return [*rows, *_fold_step("its part", formula, part, more, width)]


def _fraction(ppm: int) -> str:
    return f"{ppm / 1e4:.4f}".rstrip("0").rstrip(".") + " %"


def _millions(quote_quantums: int | None) -> str:
    return _figure(None if quote_quantums is None else quote_quantums / 1e12, 2, unit=" M")


def _liquidated_at(row: MarginRow) -> _Cell:
    price, distance = row.figures.liquidation_price, row.figures.distance
    if distance == math.inf or (price is not None and price <= 0):
        return "none", ""
    return _figure(price, _grid(row.market)[0]), ""


def _margin_columns(snapshot: Snapshot) -> list[_Column]:
    owed = {row.ticker: row.owed for row in snapshot.held}

    def money(term: str, name: str, rank: int = 0) -> _Column:
        def cell(row: MarginRow) -> _Cell:
            return _figure(_usdc(getattr(row.figures, term))), ""

        return _Column(name, 11, cell, rank)

    def percent(what: Callable[[MarginInputs], float], name: str, rank: int) -> _Column:
        def cell(row: MarginRow) -> _Cell:
            return (_UNKNOWN if row.inputs is None else _fraction(round(what(row.inputs)))), "dim"

        return _Column(name, 8, cell, rank)

    return [
        _TICKER,
        _Column("side", 5, lambda row: _side(row.figures.size), 0, True),
        _Column("size", 10, lambda row: (
            _figure(abs(row.figures.size), _grid(row.market)[1]), ""), 3),
        _Column("oracle_price", 11, lambda row: (
            _figure(row.figures.oracle_price, _grid(row.market)[0]), ""), 4),
        _Column("notional", 12, lambda row: (_figure(_notional(row.figures)), "")),
        _Column("leverage", 8, lambda row: (_figure(row.figures.leverage, 2, unit=_TIMES), ""), 2),
        percent(attrgetter("initial_ppm"), "at", 6),
        money("initial_margin", "initial"),
        percent(attrgetter("maintenance_ppm"), "at", 7),
        money("maintenance_margin", "maintenance"),
        _Column("unrealized_pnl", 11, lambda row: _signed(row.figures.unrealized_pnl), 8),
        _Column("to settle", 9, lambda row: _signed(_usdc(owed.get(row.ticker)), 4), 9),
        _Column("liquidation_price", 11, _liquidated_at, 1),
        _Column("distance", 8, lambda row: (percent_text(row.figures.distance), ""), 5),
    ]  # fmt: skip


_MARGIN: Final = _Table("margin", lambda snapshot: snapshot.margins, _margin_columns,
                        "no open position is known", "ticker", above=_required_rows,
                        foot=_formula_rows, part=4)  # fmt: skip


def _held_foot(snapshot: Snapshot, held: _PositionRow, width: int, height: int) -> list[_Row]:
    """Draw what a position requires and where its price comes from, where it is shown alone."""
    row = next((row for row in snapshot.margins if row.ticker == held.ticker), None)
    return [] if row is None or height < 6 else _formula_rows(snapshot, row, width, height)


_POSITIONS: Final = _Table("positions", _position_rows, _position_columns,
                           "no open position is known", "ticker",
                           foot=_held_foot)  # fmt: skip

# === Way out ===
# The flight plan: every rung with its costs, what doing nothing would cost, and what has no way
# out. Draws the plan that the guard would fire, and plans nothing.


class _Step(NamedTuple):
    """A rung, its place in the ladder, whether it is due, and its market's exit as costed."""

    place: int
    rung: Rung
    is_due: bool
    exit: Exit | None

    @property
    def ticker(self) -> str:
        return self.rung.ticker


def _steps(snapshot: Snapshot) -> list[_Step]:
    if snapshot.watch is None:
        return []
    plan = snapshot.watch.plan
    exits = {exit_.ticker: exit_ for exit_ in plan.exits if isinstance(exit_, Exit)}
    firing = len(due(plan, plan.distance_next))
    return [
        _Step(place, rung, place <= firing, exits.get(rung.ticker))
        for place, rung in enumerate(plan.rungs, 1)
    ]


def _plan_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    watch, safety = snapshot.watch, snapshot.safety
    if watch is None:
        return _UNSEEN
    plan = watch.plan
    word, style = _alarm(plan.distance_now, safety.act_below) if plan.exits else _state("FLAT")
    nobody_knows = bool(watch.trouble) and not plan.exits
    if safety.doubt or nobody_knows:
        word, style = _state("UNKNOWN", "watch")
    flat = "what is held" if nobody_knows else "nothing is held"
    now = percent_text(plan.distance_now) if plan.exits else flat
    acts_at = _acts_at(snapshot)
    guard = "is off" if acts_at is None else f"below {percent_text(acts_at)}"
    guard = "none, this is advice" if safety.advice else guard
    after = ("distance_next", percent_text(plan.distance_next)) if plan.exits else _seen(watch)
    head: _Row = [(f"{word} {now} ", style), (f"{wording('distance_now')}  ", "dim")]
    room = width - sum(len(text) for text, _ in head)  # integers
    return [
        [*head, *_pairs(room, after, ("act_below", guard))],
        *(line for row in watch.triggers if plan.exits
          for line in _wrapped(_trigger_row(row), width, 2)),
        *([_ladder_row(plan, watch, width)] if plan.rungs else []),
        *([(f"{ticker} stays: {why}", "watch")] for ticker, why in plan.left),
        *_unknown_rows(width, watch.trouble, *(f"{t}: no figure at all" for t in plan.unknown)),
    ]  # fmt: skip


def _ladder_row(plan: FlightPlan, watch: Watch, width: int) -> _Row:
    count, enough = len(plan.rungs), "" if plan.is_enough else ", not enough"
    end = f"from {percent_text(plan.drawn_at)} to {_reached(plan.distance_after)}{enough}"
    cost = f"{_figure(_usdc(plan.cost))} USDC"
    return _pairs(width, (f"{count} step{'s' * (count > 1)}", end), ("cost", cost), _seen(watch))


_UNSEEN: Final[list[_Row]] = [[("unknown: nobody has looked at the account yet", "watch")]]


def _seen(watch: Watch) -> tuple[str, str]:
    return "at", f"{_clock(watch.at)} #{watch.seq}"


def _reached(distance: float | None) -> str:
    return "flat" if distance == math.inf else percent_text(distance)


def _unknown_rows(width: int, *reasons: str) -> list[_Row]:
    """Draw what is not known and why, on three rows at most."""
    text = "; ".join(filter(None, reasons))
    lines = _folded(f"{_UNKNOWN}: {text}", width)[:3] if text else []
    return [[(line, "watch")] for line in lines]


def _size(rung: Rung, quantums: int) -> str:
    return _figure(rung.market.size(abs(quantums)), _grid(rung.market)[1])


def _fires(step: _Step) -> _Cell:
    text = percent_text(step.rung.fires_below)
    return (f"DUE {text}", "danger") if step.is_due else (f"below {text}", "")


_FLIGHT_COLUMNS: Final = (
    _Column("", 2, lambda step: (f"{step.place}", "key")),
    _TICKER._replace(width=9),
    _Column("side", 4, lambda step: _state(step.rung.side), 1, True),
    _Column("size", 8, lambda step: (_size(step.rung, step.rung.quantums), "")),
    _Column("held", 9, lambda step: (
        f"{'+' if step.rung.held > 0 else '-'}{_size(step.rung, step.rung.held)}",
        _side(step.rung.held)[1])),
    _Column("subticks", 9, lambda step: (
        _figure(step.rung.market.price(step.rung.subticks), _grid(step.rung.market)[0]), "")),
    _Column("cost", 7, lambda step: (_figure(_usdc(step.rung.cost)), "bold")),
    _Column("restores", 8, lambda step: (_reached(step.rung.restores), "")),
    _Column("fires_below", 12, _fires, 0, True),
    _Column("spread", 8, lambda step: (_figure(_usdc(step.rung.spread)), "dim"), 5),
    _Column("impact", 8, lambda step: (_figure(_usdc(step.rung.impact)), "dim"), 6),
    _Column("fee", 8, lambda step: (_figure(_usdc(step.rung.fee)), "dim"), 7),
)  # fmt: skip


def _costs(step: _Step) -> str:
    """Return what a rung's cost is made of, what doing nothing would cost, and on which prices."""
    rung, exit_ = step.rung, step.exit
    spread, impact, fee = (_figure(_usdc(part)) for part in (rung.spread, rung.impact, rung.fee))
    blind = f"BLIND, {rung.blind}: the oracle less a haircut"
    depth = blind if rung.blind else f"{_percent(rung.depth_share, 0)} of the depth"
    most, block = _figure(_usdc(rung.liquidation_cost)), _size(rung, rung.liquidation_quantums)
    liquidated = f"liquidated {most} at most, {block} a block"
    parts = [f"spread {spread} impact {impact} fee {fee}", depth, liquidated]
    if exit_ is not None:
        digits = _grid(exit_.market)[0]
        oracle = Decimal(exit_.price).scaleb(exit_.exponent)
        parts.append(f"{wording('oracle_price')} {_figure(oracle, digits)}")
        if exit_.best:
            parts.append(f"best {_figure(exit_.market.price(exit_.best), digits)}")
    return " · ".join(parts)


_FLIGHT: Final = _Table("flight", _steps, lambda _: _FLIGHT_COLUMNS, "no step is planned", "ticker",
                      _plan_rows, _costs, gap=1)  # fmt: skip

# === Stress ===
# What every shock leaves of the distance, and the account's figures of risk with their reasons.
# The shocks are dydx_risk's; what it could not value is a question mark and never a 0.


class _Shock(NamedTuple):
    """One row of the table: what each move leaves, 0 being no move, and the figures under it."""

    ticker: str
    cells: dict[int, StressCell]
    act_below: float | None
    words: str = ""


def _shocks(snapshot: Snapshot) -> list[_Shock]:
    watch, act = snapshot.watch, snapshot.safety.act_below
    if watch is None or not watch.stress.rows:
        return []
    table = watch.stress
    together = _Shock("together", _by_move(table.together()), act, _together_words(table))
    alone = (_Shock(ticker, _by_move(table.market(ticker)), act, words)
             for ticker, words in _market_words(watch))  # fmt: skip

    def still(cell: StressCell, words: str) -> _Shock:
        return _Shock(wording(cell.scenario), {0: cell}, act, words)

    capped, clamped = table.capped(), table.clamped()
    caps = f"every open interest at its cap: {_cell_words(capped, 'initial_margin')}"
    hours = f"{table.funding_hours} h of the highest funding, all paying: {_cell_words(clamped)}"
    now = still(table.now(), _equity_words(watch.figures))
    return [now, together, still(capped, caps), still(clamped, hours), *alone]


def _cell_words(cell: StressCell, *terms: str) -> str:
    figures = [("net_collateral", cell.equity), *((term, getattr(cell, term)) for term in terms)]
    return ", ".join(f"{wording(term)} {_figure(_usdc(quote))}" for term, quote in figures)


def _by_move(cells: list[StressCell]) -> dict[int, StressCell]:
    return {cell.move_percent: cell for cell in cells}


def _equity_words(figures: RiskFigures) -> str:
    margin = figures.margin
    if margin is None:
        return _UNKNOWN
    terms = ("net_collateral", "initial_margin", "maintenance_margin", "free_collateral")
    return " · ".join(f"{wording(t)} {_figure(_usdc(getattr(margin, t)))}" for t in terms)


def _together_words(table: StressTable) -> str:
    ends = [cell for cell in table.together() if abs(cell.move_percent) == 10]
    equity = ", ".join(f"{_figure(_usdc(c.equity))} at {c.move_percent:+} %" for c in ends)
    known = ((t, row.holding.beta) for t, row in table.rows.items() if t not in table.assumed)
    betas = [f"{ticker} {_figure(beta)}" for ticker, beta in known]
    betas += [f"{ticker} unknown (1)" for ticker in table.assumed]
    return f"{wording('net_collateral')} {equity} · betas {', '.join(betas)}"


def _market_words(watch: Watch) -> Iterator[tuple[str, str]]:
    """Yield a line of each market that is held, the nearest to liquidation first."""
    advice = {advised.ticker: advised for advised in watch.leverage}
    rows = watch.stress.rows
    held = [position for position in watch.figures.positions if position.ticker in rows]
    held.sort(key=lambda p: math.inf if p.distance is None else p.distance)
    words = {p.ticker: _position_words(p, rows[p.ticker].holding, advice.get(p.ticker))
             for p in held}  # fmt: skip
    yield from ((ticker, words.get(ticker, _UNKNOWN)) for ticker in dict.fromkeys((*words, *rows)))


def _position_words(
    position: PositionFigures, holding: Holding, advice: LeverageAdvice | None
) -> str:
    price_digits, size_digits = _grid(holding.market)
    size = _figure(abs(position.size), size_digits)
    oracle = _figure(position.oracle_price, price_digits)
    liquidated = f"liquidated at {_figure(position.liquidation_price, price_digits)}"
    never = position.liquidation_price is None and position.distance == math.inf
    parts = [
        f"{_side(holding.quantums)[0]} {size} at {oracle}",
        f"{percent_text(position.distance)}, {_figure(position.sigmas, 1)} usual hours",
        *([] if advice is None else _advised(advice)),
        "no price of it liquidates" if never else liquidated,
        f"{_percent(position.share)} of gross",
        f"funding {_figure(_usdc(position.funding_1h, -1), 4, sign=True)} USDC/h",
        *([] if advice is None else advice.reasons[:-1]),
        *position.unknown,
    ]
    return " · ".join(parts)


def _advised(advice: LeverageAdvice) -> list[str]:
    most = f"at most {_figure(advice.most, 1)}{_TIMES}"
    why = advice.reasons[-1] if advice.reasons else "no reason is given"
    if advice.leverage is None:
        return [f"leverage unknown: {why}", most]
    return [f"lever {_figure(advice.leverage, 1)}{_TIMES}: {why}", most]


def _left(shock: _Shock, move: int) -> _Cell:
    """Write the distance that a shock leaves in four letters, rounded down."""
    cell = shock.cells.get(move)
    if cell is None:
        return "", ""
    if cell.liquidatable is None:
        return "?", "watch"
    if cell.liquidatable:
        return "LIQ", "danger"
    distance = cell.distance
    if distance is None or math.isnan(distance):
        return "none", ""
    near = shock.act_below is not None and distance < shock.act_below
    text = percent_text(distance).removesuffix(" %")
    if len(text) + near > 4:
        text = text.partition(".")[0]
    return (f"{text}!", "watch") if near else (text, "bold" if not move else "")


def _move_column(move: int) -> _Column:
    title = f"{move:+}" if move else "0"
    rank = {1: 4, 2: 3, 5: 2, 20: 1}.get(abs(move), 0)
    return _Column(title, 4, lambda shock: _left(shock, move), rank)


_AROUND: Final = sorted((*MOVES_PERCENT, 0))
_STRESS_COLUMNS: Final = (
    _Column("move_percent", 10, lambda shock: (shock.ticker, "bold"), 0, True),
    *(_move_column(move) for move in _AROUND),
)


def _risk_rows(snapshot: Snapshot, width: int) -> list[_Row]:
    watch = snapshot.watch
    if watch is None:
        return _UNSEEN
    figures, table = watch.figures, watch.stress
    if not table.rows and not table.unknown:
        known = "nothing is held: no price can hurt", "good"
        unknown = f"unknown: {watch.trouble}", "watch"
        return [[unknown if watch.trouble else known], _pairs(width, _seen(watch))]
    margin = figures.margin
    distance = margin.distance if margin is not None else None
    word, style = _alarm(distance, snapshot.safety.act_below)
    hours = figures.hours_to_breach
    alone = "never" if hours == math.inf else _figure(hours, 0, unit=" h")
    share = _percent(figures.largest_share, 0)
    # Each reason once: positions and table have the same ones.
    lacking = dict.fromkeys((*table.unknown, *figures.unknown))
    return [
        [(f"{word} {percent_text(distance)}  ", style), *_pairs(
            width - len(word) - 12, ("usual hours away", _figure(figures.sigmas, 1)),
            ("usage", _percent(margin.usage if margin else None)), _seen(watch))],
        _pairs(width, ("funding_usdc_1h", _figure(_usdc(figures.funding_1h, -1), 4, sign=True)),
              ("funding_1d", f"{_figure(_usdc(figures.funding_1d, -1), 2, sign=True)} USDC"),
              ("funding_distance_1d", _percent(figures.funding_distance_1d, 3)),
              ("hours_to_breach", alone)),
        _pairs(width, ("largest", f"{figures.largest or _UNKNOWN} {share}"),
              ("concentration", _figure(figures.herfindahl)),
              ("long_notional", _figure(_usdc(figures.long_notional), 0)),
              ("short_notional", _figure(_usdc(figures.short_notional), 0)),
              ("net_notional", _figure(_usdc(figures.net_notional), 0, sign=True))),
        *_unknown_rows(width, watch.trouble, *lacking),
        [("distance left in %  ", "dim"), ("LIQ", "danger"), (" liquidatable  ", "dim"),
         ("!", "watch"), (" below where the guard acts", "dim")],
    ]  # fmt: skip


_STRESS: Final = _Table("stress", _shocks, lambda _: _STRESS_COLUMNS, "no shock is computed",
                      "ticker", _risk_rows, lambda shock: shock.words, gap=1)  # fmt: skip

# === Timeline ===
# One row for a whole recording: where it is, how far it was seen, and what happened on the way.

_TIMELINE_HEIGHT: Final = 30  # the least screen that has a row to spare
# Of several marks in one cell the first of these is drawn.
_SIGNS: Final[dict[str, tuple[str, str, str]]] = {
    "liquidated": ("▼", "danger", "liquidated"), "reduce": ("▲", "watch", "guard"),
    "act": ("■", "watch", "yours"), "gate": ("!", "watch", "gate"), "loss": ("○", "watch", "lost"),
    "decision": ("◆", "title", "decision"), "fill": ("●", "up", "fill"),
    "denied": (_TIMES, "dim", "refused"),
}  # fmt: skip
_BY_RANK: Final = {kind: rank for rank, kind in enumerate(_SIGNS)}


def _timeline(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    part = snapshot.timeline
    if part is None:
        return [[("only a recording that is replayed has a timeline", "dim")]]
    left, room, right = _timeline_ends(part, width)
    return [[left, *_marked(part, room), *right]]


def _timeline_ends(part: TimelinePart, width: int) -> tuple[_Cell, int, _Row]:
    """Return what stands before the way, how long that is, and what stands behind it."""
    whole_s = (part.ends - part.began) / 1e9
    left, right = f" {_clock(part.began)} ├", f"┤ {_clock(part.ends)}"
    right += f"  {_stopwatch(_part_of(part.now) * whole_s)} of {_stopwatch(whole_s)}"
    legend: _Row = []
    for sign, style, word in _SIGNS.values():
        legend += [(f"  {sign}", style), (f" {word}", "dim")]
    room = width - len(left) - len(right) - 1
    if room - _row_cells(legend) < _WAY:
        legend = []
    room = max(room - _row_cells(legend), 1)
    return (left, "dim"), room, [(right, "dim"), *legend]


_WAY: Final = 60  # cells that the way itself has at least where its signs are explained


def _at_share(share: float, room: int) -> int:
    """Return the cell at a share of the way; what is no share is at one of its ends."""
    return min(int(_part_of(share) * room), room - 1)


def _marked(part: TimelinePart, room: int) -> _Row:
    """Draw the way from end to end, what was seen of it, its marks, and where it is now."""
    cells: list[tuple[str, str]] = [(" ", "")] * room
    seen = min(_at_share(part.seen, room) + 1, room)
    cells[:seen] = [("─", "faint")] * seen
    ranks: dict[int, int] = {}
    for share, kind in part.marks:
        cell, rank = _at_share(share, room), _BY_RANK.get(kind, len(_SIGNS))
        if rank < ranks.get(cell, len(_SIGNS)):
            ranks[cell] = rank
            cells[cell] = _SIGNS[kind][:2]
    here = _at_share(part.now, room)
    cells[here] = (cells[here][0], "mode replay") if here in ranks else ("█", "accent")
    return [
        ("".join(text for text, _ in run), style)
        for style, run in groupby(cells, key=lambda cell: cell[1])
    ]


def _part_of(share: float) -> float:
    """Return a share that is one: what is no number is 0."""
    return min(max(share, 0.0), 1.0) if share == share else 0.0


# === Header and footer ===
# The keys, and what is drawn above and below the panels or over them: mode, moment and health on
# the first row, keys or a question on the last, help, and why. What a key does is the bot's.

# Which panel each key shows full screen.
KEYS: Final = {
    "1": "safety", "2": "positions", "3": "markets", "4": "signals", "5": "decisions",
    "6": "orders", "7": "quality", "8": "speed", "9": "book", "0": "wire", "t": "tape",
    "f": "flight", "x": "stress", "v": "venue", "c": "candles", "o": "flow", "n": "funding",
    "d": "detectors", "a": "strategies", "r": "prices", "e": "equity", "y": "way",
    "g": "walk", "p": "performance", "m": "margin", "l": "link", "u": "accounts", "i": "health",
}  # fmt: skip
_KEY_OF: Final = {name: key for key, name in KEYS.items()}


class _Key(NamedTuple):
    """A key as it is shown and as it is pressed, what it does, and its word on the last row."""

    shown: str
    key: str
    text: str
    word: str = ""


# The other keys, as the help lists them.
_KEYS: Final = (
    _Key("space", " ", "pause, and go on", "pause"),
    _Key(".", ".", "to the next decision", "step"),
    _Key(",", ",", "to the decision before", "back"),
    _Key("[ ]", "[", "a minute back, or on"),
    _Key("home end", "home", "to the start, the end"),
    _Key("+ -", "+", "play faster, slower", "speed"),
    _Key("K", "K", "halt, after a y", "halt"),
    _Key("P", "P", "pause entries, and go on", "pause entries"),
    _Key("F", "F", "close all, after a y", "flatten"),
    _Key("tab", "tab", "next market (shift: back)", "market"),
    _Key("up down", "up", "select a row"),
    _Key("enter", "\r", "open the row or market", "open"),
    _Key("w", "w", "why: down to the wire", "why"),
    _Key("left right", "left", "sort by another column", "sort"),
    _Key("R", "R", "sort the other way round"),
    _Key("/", "/", "filter: rows with a text", "filter"),
    _Key("s", "s", "save: SVG, HTML or text", "save"),
    _Key("mouse", "mouse", "click what you see; wheel"),
    _Key("ctrl-z", "suspend", "stop; fg goes on"),
    _Key("esc", "\x1b", "go back"),
    _Key("?", "?", "these keys", "help"),
    _Key("q", "q", "quit", "quit"),
)
# What the last row names, by mode.
_COMMON: Final = {
    "REPLAY": (" ", ".", ",", "+", "w", "/", "?", "q"),
    "WATCH": ("tab", "\r", "left", "/", "s", "?", "q"),
    "": ("K", "P", "F", "w", "/", "?", "q"),
}
_OF_REPLAYS: Final = {".", "+", ",", "[", "home"}


def _header(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    head = snapshot.header
    speed = "" if head.speed is None else f" {_TIMES}{head.speed:g}"
    badge = _badge(head, speed, view.paused)
    live = head.connection.startswith("live")
    link = f"{'●' if live else '○'} {head.connection or 'link unknown'}"
    stop, why = _stop(snapshot.gate)
    gate = _state(snapshot.gate.state if snapshot.gate else "gate unknown", "watch")
    why_not = _shortened(head.link_why, max(width - 64, 0))
    gate = ("read-only", "good") if snapshot.safety.advice else gate
    wait = f"waiting {_figure(head.waits_s, 1, unit=' s')} for a rate limit"
    # HALTED stands first, its reason in the room that clock and link leave.
    parts: list[tuple[int, _Row]] = [
        *([(0, stop[:1])] if stop else []),
        (0, [badge]),
        (3, [(_shortened(why, max(width - 52, 0)), "watch") if stop else gate]),
        *([(0, [(_late(head.late_s), "watch")])] if head.late_s is not None else []),
        *([] if live else [(1, [(link, "watch")]), (2, [(why_not, "watch")])]),
        *([(2, [(wait, "watch")])] if head.waits_s is not None else []),
        (5, [(head.source or "source unknown", "bold")]),
        (6, [(_clock(head.clock_ns, "%Y-%m-%d"), "")]),
        (1, [(_clock(head.clock_ns, "%H:%M:%SZ"), "")]),
        *([(2, [(link, "good")])] if live else []),
        (3, _named("lag_p99_ms", _figure(head.lag_p99_ms, 1, unit=" ms"))),
        (4, _named("data_age_s", _figure(head.data_age_s, 1, unit=" s"))),
        (7, _named("frames_per_s", _figure(head.frames_per_s, 0, unit=" f/s"))),
        (9, _named("memory_mb", _figure(head.memory_mb, 0, unit=" MB"))),
        (10, _named("cpu_percent", _figure(head.cpu_percent, 0, unit=" %"))),
        (8, _named("run_hash", head.run_hash[:8] or _UNKNOWN)),
    ]
    parts = [(rank, row) for rank, row in parts if any(text for text, _ in row)]
    return [_chunks(parts, width, "  " if width >= 132 else " ")]


# A badge for each mode; real money has the loudest.
_MODES: Final = ("trade", "replay", "paper", "watch", "live")


def _badge(head: HeaderPart, speed: str, paused: bool) -> _Cell:
    """Word what a run is: REPLAY, PAPER, WATCH, or TRADE with the network that takes the money."""
    word = head.mode.upper() or "MODE UNKNOWN"
    style = next((name for name in _MODES if name.upper() in word), "bold")
    if style == "trade":
        # Of a network and its markets the first word is the network.
        network = head.source.split(" ")[0].upper()
        word = f"!! {word} {network}".rstrip() + " !!" if network not in word else f"!! {word} !!"
    return (
        (f" {word}{speed} PAUSED ", "paused") if paused else (f" {word}{speed} ", f"mode {style}")
    )


def _banner_rows(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """Draw what nobody may miss, from edge to edge."""
    text = _shortened(f" {sign_text(view.banner)} ", width)
    return [[(f"{text}{' ' * (width - cell_len(text))}", "halted")]]


def _late(seconds: float) -> str:
    stops = ", NO ENTRIES" if seconds > LAG_NS / 1e9 else ""
    return f"{_figure(seconds, 1, unit=' s')} LATE{stops}"


def _footer(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    if view.confirm:
        return [[(" ", ""), (f" {view.confirm} ", "paused")]]
    if view.filtering:
        hint = "▏  enter applies, esc clears"
        return [[(" /", "key"), (view.filter, "bold"), (hint, "dim")]]
    message = _both_ends(view.message, width - 1)
    notes: list[_Row] = [[(message, "watch")]] if message else []
    if view.filter:
        notes.append([("/", "key"), (view.filter, "watch")])
    # What is wrong for longer leaves room for the keys, which say how to read on.
    if view.note and not view.message:
        notes.append([(_shortened(view.note, max(width // 2, width - 44)), "watch")])
    # The commonest keys stay, the panels' where there is room.
    numbers: list[_Row] = [
        [(f"{key} ", "key"), (wording(name), "bold" if view.panel == name else "dim")]
        for key, name in KEYS.items()
        if key not in view.off
    ]
    common: list[_Row] = [
        [(f"{key.shown} ", "key"), (key.word, "dim")] for key in _commonest(snapshot, view)
    ]
    ranked = [(0, notes), (1, common), (20, numbers)]
    parts = [(rank + i, row) for rank, rows in ranked for i, row in enumerate(rows)]
    # On 200 columns all of them fit, a cell apart, where nothing else is shown.
    return [[(" ", ""), *_chunks(parts, width - 1, " " if width >= 196 and not notes else "  ")]]


def _commonest(snapshot: Snapshot, view: View) -> list[_Key]:
    """Return the keys that are pressed most in this mode, of those that work now."""
    mode = snapshot.header.mode.partition(" ")[0].upper()
    keys = {key.key: key for key in _keys(snapshot, view)}
    return [keys[key] for key in _COMMON.get(mode, _COMMON[""]) if key in keys]


def _key_at(row: _Row, x: int) -> str:
    """Return the key that stands on a cell of the last row, with its word; "" for none."""
    shown = {key.shown: key.key for key in _KEYS}
    named = ""
    for text, style in row:
        # A word goes with the key before it.
        named = text.strip() if style == "key" else named if text.strip() else ""
        if x < _cells(text):
            return shown.get(named, named)
        x -= _cells(text)
    return ""


def _keys(snapshot: Snapshot, view: View) -> list[_Key]:
    """Return the keys that work now; what is halted or paused goes on by the same key."""
    replayed, gate = snapshot.header.speed is not None, snapshot.gate
    reasons = {reason for reason, _ in gate.reasons} if gate is not None else set()
    off = view.off if replayed else view.off | _OF_REPLAYS
    keys = {key.key: key for key in _KEYS if key.key not in off}
    if gate is not None and gate.state == "HALTED" and "K" in keys:
        keys["K"] = _Key("K", "K", "resume, after a y", "resume")
    if "PAUSED" in reasons and "P" in keys:
        keys["P"] = _Key("P", "P", "let entries go on", "let enter")
    return [*keys.values()]


def _help(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    """List the panels' keys four a row, then the others that work now, two a row."""
    panels = [(key, wording(name)) for key, name in KEYS.items()]
    others = [(key.shown, key.text) for key in _keys(snapshot, view)]
    return [
        *_in_columns(panels, 4, 1, min(width // 4, 28)),
        [("  each shows a panel alone; the same key again goes back", "dim")],
        *_in_columns(others, 2, 10, min(width // 2, 48)),
    ]


def _in_columns(keys: Sequence[tuple[str, str]], count: int, key: int, wide: int) -> list[_Row]:
    """List keys and what they do, down one column after the other."""
    high = -(-len(keys) // count)
    columns = [keys[i : i + high] for i in range(0, len(keys), high)]
    what = max(wide - key - 3, 1)
    return [
        [cell for name, text in row if name for cell in (
            (f"  {name:<{key}} ", "key"), (f"{_shortened(text, what):<{what}}", ""))]
        for row in zip_longest(*columns, fillvalue=("", ""))
    ]  # fmt: skip


def _guide(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    *text, keys = view.guide.split("\n")
    lines = [line for part in text for line in wrap(part, max(width, 2), break_on_hyphens=False)]
    return [*([(line, "bold")] for line in lines[: max(height - 1, 1)]), [(keys, "dim")]]


def _why(snapshot: Snapshot, view: View, width: int, height: int) -> list[_Row]:
    # Wire text is long and matters to its last letter.
    lines = [part for line in view.why for part in _hanging(line, width)]
    first = max(0, min(view.scroll, len(lines) - height))
    return [[(line, "")] for line in lines[first : first + height]]


def _hanging(line: str, width: int) -> list[str]:
    """Fold a line; what goes on below it stands deeper than it begins."""
    text = line.lstrip()
    margin = " " * min(len(line) - len(text), width // 4)
    return [margin + part for part in _folded(text, width - len(margin))]


# === Layout ===
# Which panels stand where on a screen of a size: tables of bands, from top to bottom. Knows panels
# by their names alone, and of what they show how many rows it takes.


class _Band(NamedTuple):
    """Panels side by side: the least and the wanted height, and a share of what is over.

    What the panels in `by` show makes a band no higher than they need.
    """

    least: int
    wanted: int
    share: int
    names: tuple[tuple[str, float], ...]
    by: tuple[str, ...] = ()


_HELD: Final = _Band(3, 12, 0, (("positions", 1.0),), ("positions",))
_SEEN: Final = _Band(3, 12, 0, (("markets", 1.0),), ("markets",))
_BOTH: Final = _Band(3, 10, 0, (("positions", 0.5), ("markets", 0.5)), ("positions", "markets"))
_WATCHED: Final = _Band(4, 9, 0, (("accounts", 1.0),), ("accounts",))
_ONE: Final = 4  # rows that one account takes, with its frame and the columns' names
_ALONGSIDE: Final = 30  # rows of a screen that has some for accounts beside the one that is shown
_TAPES: Final = _Band(5, 9, 2, (("decisions", 0.48), ("tape", 0.52)))
# From the widest screen to the narrowest: (least width, least height, bands).
_LAYOUTS: Final[tuple[tuple[int, int, tuple[_Band, ...]], ...]] = (
    (230, 64, (
        _Band(10, 16, 1, (("safety", 0.4), ("equity", 0.31), ("flight", 0.29))),
        _BOTH,
        _Band(10, 15, 3, (("candles", 0.46), ("book", 0.17), ("stress", 0.37))),
        _Band(7, 10, 1, (("orders", 0.36), ("signals", 0.32), ("venue", 0.32))),
        _Band(6, 9, 0, (("wire", 0.36), ("quality", 0.32), ("speed", 0.32))),
        _TAPES,
    )),
    (170, 50, (
        _Band(9, 13, 1, (("safety", 0.48), ("equity", 0.52))),
        _BOTH._replace(names=(("positions", 0.51), ("markets", 0.49)), wanted=8),
        _Band(9, 12, 2, (("candles", 0.46), ("book", 0.18), ("flight", 0.36))),
        _Band(6, 9, 1, (("orders", 0.5), ("stress", 0.5))),
        _Band(6, 8, 0, (
            ("signals", 0.28), ("wire", 0.26), ("quality", 0.24), ("speed", 0.22))),
        _TAPES,
    )),
    (140, 42, (
        _Band(9, 11, 0, (("safety", 0.52), ("equity", 0.48))),
        _HELD,
        _SEEN,
        _Band(8, 10, 2, (("candles", 0.62), ("book", 0.38))),
        _TAPES._replace(names=(("tape", 1.0),)),
    )),
    (110, 32, (
        _Band(8, 10, 0, (("safety", 0.58), ("equity", 0.42))),
        _HELD._replace(wanted=7),
        _SEEN._replace(wanted=8),
        _Band(6, 9, 2, (("candles", 0.6), ("book", 0.4))),
        _Band(4, 7, 2, (("tape", 1.0),)),
    )),
    (60, 38, (
        _Band(7, 10, 0, (("safety", 1.0),)),
        _Band(4, 8, 1, (("equity", 1.0),)),
        _HELD._replace(wanted=7),
        _SEEN._replace(wanted=8),
        _Band(4, 6, 1, (("decisions", 1.0),)),
        _Band(4, 7, 2, (("tape", 1.0),)),
    )),
    (60, 29, (
        _Band(7, 10, 0, (("safety", 1.0),)),
        _Band(5, 7, 0, (("equity", 1.0),)),
        _HELD._replace(wanted=6),
        _Band(4, 6, 2, (("tape", 1.0),)),
    )),
    # A page in a hand is narrow, and as long as it has to be.
    (0, 72, (
        _Band(8, 10, 0, (("safety", 1.0),)),
        _Band(8, 12, 1, (("equity", 1.0),)),
        _HELD,
        _SEEN,
        _Band(10, 14, 1, (("candles", 1.0),)),
        _Band(5, 10, 1, (("decisions", 1.0),)),
        _Band(6, 12, 2, (("tape", 1.0),)),
    )),
    (0, 0, (
        _Band(1, 10, 0, (("safety", 1.0),)),
        _Band(1, 1, 0, (("equity", 1.0),)),
        _HELD._replace(wanted=6),
        _Band(3, 6, 2, (("tape", 1.0),)),
    )),
)  # fmt: skip


def _bands(
    alone: str, width: int, height: int, needs: Callable[[str], int]
) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Yield (height, panels with widths) from top to bottom, filling the space exactly.

    `needs` is how many rows a panel takes with its frame, where that matters: one that takes none
    leaves its place to those beside it.
    """
    bands = [_Band(0, height, 1, ((alone, 1.0),))]
    if not alone:
        bands = list(next(b for wide, high, b in _LAYOUTS if width >= wide and height + 2 >= high))
        # Where there is room for decisions, accounts stand in their place already.
        placed = any(name == "decisions" for band in bands for name, _ in band.names)
        if height >= _ALONGSIDE and needs("accounts") > _ONE and not placed:
            bands.insert(1, _WATCHED)
        bands = [_sized(band, needs) for band in bands]
    while len(bands) > 1 and sum(band.least for band in bands) > height:  # integers
        bands.pop()
    for high, band in zip(_heights(bands, height), bands, strict=True):
        wide = [(name, int(width * share)) for name, share in band.names[:-1]]
        yield high, [*wide, (band.names[-1][0], width - sum(part for _, part in wide))]  # integers


def _sized(band: _Band, needs: Callable[[str], int]) -> _Band:
    stays = [(name, share) for name, share in band.names if needs(name)] or [*band.names]
    if len(stays) < len(band.names):
        whole = math.fsum(share for _, share in stays)
        band = band._replace(names=tuple((name, share / whole) for name, share in stays))
    if not band.by:
        return band
    return band._replace(wanted=min(max(band.least, *map(needs, band.by)), band.wanted))


def _heights(bands: Sequence[_Band], height: int) -> list[int]:
    """Give each band its least, then what it wants in order, then its share of the rest."""
    heights = [min(band.least, height) for band in bands]
    for i, band in enumerate(bands):
        heights[i] += min(band.wanted - band.least, height - sum(heights))  # integers
    spare, shares = height - sum(heights), max(sum(band.share for band in bands), 1)  # integers
    for i, band in enumerate(bands):
        heights[i] += spare * band.share // shares
    heights[-1] += height - sum(heights)  # integers
    return heights


# === Panels ===
# Which panels there are, what draws each, and what of each can be chosen.


class _Panel(NamedTuple):
    """A panel: its title, what draws it, a note beside the title, its frame's style, its rows."""

    title: str
    draws: _Table | Callable[[Snapshot, View, int, int], list[_Row]]
    note: Callable[[Snapshot, View], object] = lambda snapshot, view: ""
    line: Callable[[Snapshot], str] = lambda snapshot: ""
    rows: Callable[[Snapshot], int] = lambda snapshot: 1  # of its content, where that sizes a band


def _watched(snapshot: Snapshot) -> bool:
    return snapshot.header.mode == "WATCH"


def _while_held(snapshot: Snapshot) -> int:
    """Return 0 while it is known that nothing is held: then there is no way out, and no shock."""
    return int(bool(snapshot.positions) or snapshot.safety.positions != 0)


_PANELS: Final[dict[str, _Panel]] = {
    "safety": _Panel("safety · distance to liquidation", _safety_rows,
                     line=lambda snapshot: _state_of(snapshot.safety,
                                                     is_due=_advice_due(snapshot))[1]),
    "equity": _Panel("equity", _equity_rows),
    "positions": _Panel("positions", _POSITIONS, lambda snapshot, view: len(snapshot.positions),
                        rows=lambda snapshot: len(snapshot.positions) + 1),
    "markets": _Panel("markets", _MARKETS, lambda snapshot, view: len(snapshot.markets),
                      rows=lambda snapshot: len(snapshot.markets) + 1),
    "signals": _Panel("signals", _SIGNALS),
    "decisions": _Panel("decisions", _DECISIONS),
    "orders": _Panel("orders and fills", _ORDERS),
    "quality": _Panel("quality", _QUALITY),
    "speed": _Panel("speed", _speed_rows),
    "book": _Panel("book", _book_rows, lambda snapshot, view: snapshot.book.ticker),
    "wire": _Panel("wire", _WIRE),
    "health": _Panel("health", _health_rows, _health_note),
    "link": _Panel("link", _link_rows, lambda snapshot, view: _link_word(snapshot.link.state)),
    "way": _Panel("way", _way_rows, lambda snapshot, view: snapshot.way.why),
    "tape": _Panel("tape", _TAPE),
    "flight": _Panel("flight", _FLIGHT, rows=_while_held),
    "stress": _Panel("stress", _STRESS, rows=_while_held),
    "venue": _Panel("venue", _VENUE),
    "candles": _Panel("candles", _candle_rows, lambda snapshot, view: (
        f"{snapshot.candles.ticker} {snapshot.candles.resolution}".strip())),
    "flow": _Panel("flow", _flow_rows, lambda snapshot, view: snapshot.flow.ticker),
    "prices": _Panel("prices", _PRICES, lambda snapshot, view: snapshot.prices.shown.ticker),
    "funding": _Panel("funding", _FUNDING),
    "detectors": _Panel("detectors", _DETECTORS),
    "strategies": _Panel("strategies", _STRATEGIES),
    "margin": _Panel("margin", _MARGIN),
    "walk": _Panel("decision walk", _WALK),
    "performance": _Panel("performance", _PERFORMANCE),
    "accounts": _Panel("accounts", _ACCOUNTS, lambda snapshot, view: len(snapshot.accounts),
                       rows=lambda snapshot: (len(snapshot.accounts) + 1) * _watched(snapshot)),
    "guide": _Panel("tour", _guide, lambda snapshot, view: view.guide_title),
    "timeline": _Panel("", _timeline),
    "header": _Panel("", _header),
    "banner": _Panel("", _banner_rows),
    "footer": _Panel("", _footer),
    "help": _Panel("keys", _help),
    "why": _Panel("why", _why, lambda snapshot, view: view.why_title),
}  # fmt: skip

# The names that `panel` takes, and `View.panel`.
PANELS: Final = tuple(_PANELS)

# What each panel that has a key is for.
ABOUT: Final[dict[str, str]] = {
    "safety": "how far the account is from liquidation, and what the guard does next",
    "positions": "what is held, what it gained, and the price that would liquidate it",
    "markets": "each market's price, spread and volume, and its scores",
    "signals": "each score with its inputs, formula and triggers",
    "decisions": "what the strategy wants, and why",
    "orders": "what risk allowed and refused, orders, and their fills",
    "quality": "how far each market's data can be believed, the worst first",
    "speed": "what a frame costs in each layer, at percentiles",
    "book": "the order book of a market, and its newest trades",
    "wire": "the frames as they came, and how many of each kind",
    "tape": "everything that happened, in order; each row explains itself by w",
    "flight": "the guard's way out: which order at which distance, and its cost",
    "stress": "what every shock would leave of the distance",
    "venue": "how far paper fills can be believed, and how the account did",
    "candles": "a market's candles, with entries, exits and liquidation",
    "flow": "what takers bought and sold, by window and by price",
    "funding": "what holding costs by the hour, and when it is due",
    "detectors": "market makers, arbitrage, and which price leads (--detectors)",
    "strategies": "target against held, cuts and results of each strategy",
    "prices": "high, low, change, volatility, volume and depth by span",
    "equity": "what the account was worth over the run, and its drawdown",
    "way": "one frame before and after each layer, with its microseconds",
    "walk": "one decision from its scores to its fills, every figure of it",
    "performance": "what trading came to, trade by trade and fill by fill",
    "accounts": "those that are watched, a row each",
    "link": "the connection: its states and why, pings, REST, rates",
    "margin": "each position's margin, with its inputs and formula",
    "health": "uptime, logs, database and machine, and what is wrong",
}


def selectable(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the ids of the rows `view.selected` counts, in the order they are drawn."""
    table = _panel(view.listed).draws
    if not isinstance(table, _Table):
        return ()
    return tuple(str(getattr(row, table.id)) for row in _rows_of(table, snapshot, view))


def sortable(snapshot: Snapshot, view: View, width: int) -> tuple[str, ...]:
    """Return the columns by which the list can be sorted that has the selection, as `View.sort`."""
    table = _panel(view.listed).draws
    if not isinstance(table, _Table):
        return ()
    columns, _ = _fitting(table.columns(snapshot), max(width - 4, 1), table.gap)
    return tuple(f"{table.name}.{column.term}" for column in columns if column.term)


def detail(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the selected row whole, a line for each of its columns; nothing if none is."""
    table = _panel(view.listed).draws
    rows = _rows_of(table, snapshot, view) if isinstance(table, _Table) else ()
    if not isinstance(table, _Table) or not 0 <= view.selected < len(rows):
        return ()
    row, columns = rows[view.selected], table.columns(snapshot)
    named = [(wording(x.term), x.cell(row)[0].strip()) for x in columns if x.term]
    wide = max((_cells(term) for term, _ in named), default=0)
    lines = [f"{term:<{wide}}  {text}" for term, text in named]
    # What has no title is a mark beside what has one, or a sentence of its own.
    lines = lines or [" ".join(column.cell(row)[0].strip() for column in columns)]
    lines.append(table.below(row))
    return tuple(line for line in lines if line)


def _panel(name: str) -> _Panel:
    if name not in _PANELS:
        near = get_close_matches(name, PANELS, n=1)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise PanelError(f"expected a panel among {', '.join(PANELS)}, got {name!r}{hint}")
    return _PANELS[name]


# === Screen ===
# How panels become rows, framed and in their places; a panel is drawn again only when a part of the
# snapshot that it read has changed. Knows nothing of a terminal.

_VIEW: Final = View()
_GUIDE_HEIGHT: Final = 6  # rows, with its frame: three lines of text, and what goes on
_FULL: Final = Theme()


class Spot(NamedTuple):
    """What is on a cell of the screen: a panel, and its `title`, `row`, `column`, `key` or `time`.

    `what` is "" where it is none of these; `row` counts as `View.selected`, `term` is a column as
    in `View.sort`, or a key as the last row names it, `share` how far along the timeline it is.
    """

    panel: str = ""
    what: str = ""
    row: int = -1
    term: str = ""
    share: float = 0.0


def spot(snapshot: Snapshot, view: View, width: int, height: int, x: int, y: int) -> Spot:
    """Return what `dashboard` draws on a cell, counted from 0 at the top on the left."""
    for high, names in _stacked(snapshot, view, width, height):
        if 0 <= y < high:
            for name, wide in names:
                if 0 <= x < wide:
                    return _spot_in(name, snapshot, view, (wide, high), (x, y))
                x -= wide
        y -= high
    return Spot()


def _spot_in(
    name: str, snapshot: Snapshot, view: View, size: tuple[int, int], at: tuple[int, int]
) -> Spot:
    shown, (wide, high), (x, y) = _panel(name), size, at
    if name == "footer":
        return Spot(name, "key", term=_key_at(_footer(snapshot, view, wide, high)[0], x))
    if name == "timeline" and snapshot.timeline is not None:
        before, room, _ = _timeline_ends(snapshot.timeline, wide)
        place = x - len(before[0])
        return Spot(name, "time", share=place / room) if 0 <= place < room else Spot(name)
    if _is_framed(shown, wide, high):
        if y == 0:
            return Spot(name, "title")
        wide, high, x, y = wide - 4, high - 2, x - 2, y - 1
    if not isinstance(shown.draws, _Table):
        return Spot(name)
    lines = _numbered(shown.draws, snapshot, view, max(wide, 1), max(high, 1))
    number = lines[y][0] if y < min(len(lines), high) else _NO_ROW
    if number >= 0:
        return Spot(name, "row", number)
    if number != _TITLES:
        return Spot(name)
    table = shown.draws
    columns, rest = _fitting(table.columns(snapshot), max(wide, 1), table.gap)
    term = _column_at(columns, rest, table.gap, x)
    return Spot(name, "column", term=f"{name}.{term}") if term else Spot(name)


class Picture(NamedTuple):
    """Rows of styled text of one exact width: print it, read it as `text`, or compare it."""

    rows: tuple[tuple[_Strip, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the rows, each with its end of line."""
        for row in self.rows:
            for strip in row:
                yield from strip
            yield Segment.line()

    @property
    def text(self) -> str:
        """Return the rows as plain text."""
        return "\n".join("".join(part.text for strip in row for part in strip) for row in self.rows)


def panel(
    name: str, snapshot: Snapshot, width: int, height: int, view: View = _VIEW, theme: Theme = _FULL
) -> Picture:
    """Draw one panel in a frame; `PanelError` for a name that is none."""
    strips = _drawn(name, snapshot, view, width, height, theme)
    return Picture(tuple((strip,) for strip in strips))


class Placed(NamedTuple):
    """One panel in its place on a screen: its name, its cells, and its rows of segments."""

    name: str
    width: int
    height: int
    strips: Sequence[_Strip]


def placed(
    snapshot: Snapshot, view: View = _VIEW, width: int = 80, height: int = 24,
    theme: Theme = _FULL, memo: dict[Any, Any] | None = None,
) -> list[list[Placed]]:  # fmt: skip
    """Draw the whole screen, panel by panel: those that stand side by side, from top to bottom.

    A `memo` reused between calls redraws only what changed: the rows of the rest are the same list.
    """
    memo = {} if memo is None else memo

    def cached(name: str, wide: int, high: int) -> Placed:
        known = memo.get((name, wide, high))
        if known is None or known[:2] != (view, theme) or known[2] != _parts(snapshot, known[2]):
            reader = _Reader(snapshot)
            strips = _drawn(name, cast(Snapshot, reader), view, wide, high, theme)
            known = memo[name, wide, high] = view, theme, reader.parts, strips
        return Placed(name, wide, high, known[3])

    stacked = _stacked(snapshot, view, width, height)
    return [[cached(name, wide, high) for name, wide in names] for high, names in stacked]


def dashboard(
    snapshot: Snapshot, view: View = _VIEW, width: int = 80, height: int = 24,
    theme: Theme = _FULL, memo: dict[Any, Any] | None = None,
) -> Picture:  # fmt: skip
    """Draw the whole screen; a `memo` reused between calls redraws only what changed."""
    rows: list[tuple[_Strip, ...]] = []
    for band in placed(snapshot, view, width, height, theme, memo):
        rows += zip(*(one.strips for one in band), strict=True)
    return Picture(tuple(rows[: max(height, 1)]))


def _stacked(
    snapshot: Snapshot, view: View, width: int, height: int
) -> list[tuple[int, list[tuple[str, int]]]]:
    """Return (height, panels with widths) of a whole screen, from its first row to its last."""

    def needs(name: str) -> int:
        rows = _PANELS[name].rows(snapshot)
        return rows + 2 if rows else 0  # with its frame

    alone = "help" if view.help else "why" if view.why else view.panel
    above = ("header", "banner") if view.banner and height > _BANNERED else ("header",)
    timed = snapshot.timeline is not None and height >= _TIMELINE_HEIGHT
    guided = min(_GUIDE_HEIGHT, max(height - 2, 0)) if view.guide else 0
    below = [(guided, "guide")] if guided else []
    below += [(1, "timeline"), (1, "footer")] if timed else [(1, "footer")]
    inside = max(height - len(above) - sum(high for high, _ in below), 0)  # integers
    bands = _bands(alone if alone in _PANELS else "", width, inside, needs)
    inner = [(high, [(_instead(n, snapshot), w) for n, w in names]) for high, names in bands]
    first = [(1, [(name, width)]) for name in above]
    return [*first, *inner, *((high, [(name, width)]) for high, name in below)]


_BANNERED: Final = 5  # rows from which on there is one for a banner


def _instead(name: str, snapshot: Snapshot) -> str:
    """Return which panel stands in a place: accounts that are watched decide nothing."""
    watched = snapshot.accounts and snapshot.safety.advice
    return "accounts" if name == "decisions" and watched else name


class _Reader:
    """Stands for a snapshot while a panel is drawn, and remembers the parts that were read.

    What is drawn depends on them alone: while they are equal, so is the drawing.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.parts: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        part = self.parts[name] = self.__dict__[name] = getattr(self._snapshot, name)
        return part


def _parts(snapshot: Snapshot, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in names}


def _drawn(
    name: str, snapshot: Snapshot, view: View, width: int, height: int, theme: Theme
) -> list[_Strip]:
    """Draw one panel to exactly `width` by `height`, framed when there is room for a frame."""
    shown = _panel(name)
    framed = _is_framed(shown, width, height)
    inside, high = (width - 4, height - 2) if framed else (width, height)
    draw = partial(_listed, shown.draws) if isinstance(shown.draws, _Table) else shown.draws
    rows = draw(snapshot, view, max(inside, 1), max(high, 1))[: max(high, 0)]
    strips = [_fitted(row, max(inside, 0), theme) for row in rows]
    strips += [_fitted([], max(inside, 0), theme)] * (high - len(strips))
    return _framed(name, strips, snapshot, view, width, theme) if framed else strips


def _is_framed(shown: _Panel, width: int, height: int) -> bool:
    return bool(shown.title) and height >= 3 and width >= 16


def _framed(
    name: str, strips: list[_Strip], snapshot: Snapshot, view: View, width: int, theme: Theme
) -> list[_Strip]:
    shown, held = _PANELS[name], _chosen_row(view, name) >= 0 or view.panel == name
    line = shown.line(snapshot) or ("accent" if held else "faint")
    line = "halted" if view.flash else line
    # The title names what the panel is about just now.
    title = (
        f" {wording(shown.title).capitalize()} {shown.note(snapshot, view) or ''}".rstrip() + " "
    )
    key: _Row = [(f" {_KEY_OF[name]}", "key")] if name in _KEY_OF else []
    rest = max(width - 4 - _cells(title) - sum(len(text) for text, _ in key), 0)  # integers
    top: _Row = [("╭─", line), *key, (title, "title"), ("─" * rest, line)]
    left, right = _fitted([("│ ", line)], 2, theme), _fitted([(" │", line)], 2, theme)
    return [
        (*_fitted(top, width - 2, theme), *_fitted([("─╮", line)], 2, theme)),
        *((*left, *strip, *right) for strip in strips),
        _fitted([("╰" + "─" * (width - 2) + "╯", line)], width, theme),
    ]


# === Edges ===
# The terminal: alternate screen, only changed rows written, and always given back. Nothing else in
# this file writes anything.

_PIECES: Final = re.compile(r" +|[^ ]+(?: [^ ]+)*")


class Dashboard:
    """The dashboard on a terminal; use it with `try: draw(...) finally: shutdown()`.

    The first `draw` takes the alternate screen; each further one writes the rows that differ
    from those before it, in one write; a change of the terminal's size redraws all.
    """

    def __init__(
        self, console: Console, theme: Theme | None = None, *, mouse: bool = False
    ) -> None:
        """Draw on `console`; without a theme it is what the console can show.

        With a `mouse` the terminal reports clicks and the wheel, in place of selecting text.
        """
        self._console, self._mouse = console, mouse
        self._theme = theme or Theme.of(console)
        self._memo: dict[Any, Any] = {}
        self._rows: tuple[tuple[_Strip, ...], ...] = ()
        self._size: tuple[int, int] | None = None

    def draw(self, snapshot: Snapshot, view: View = _VIEW) -> int:
        """Bring the terminal up to date and return how many rows were written."""
        size = self._console.size
        if self._size is None:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
            self._report_mouse("h")
        if self._size != size:
            self._size, self._rows, self._memo = size, (), {}
        rows = dashboard(snapshot, view, *size, self._theme, self._memo).rows
        before = self._rows
        changed = [i for i, row in enumerate(rows) if i >= len(before) or row != before[i]]
        if changed:
            # Synchronised output: terminals that know it show the frame whole, others ignore it.
            parts = [Segment("\x1b[?2026h" + ("" if before else "\x1b[2J"))]
            for i in changed:
                parts.append(Segment(f"\x1b[{i + 1};1H"))
                parts += (segment for strip in rows[i] for segment in strip)
            parts.append(Segment("\x1b[?2026l"))
            self._console.print(Segments(parts), end="", crop=False)
        self._rows = rows
        return len(changed)

    def bell(self) -> None:
        """Ring the terminal's bell, if it has one; before the first `draw` there is none."""
        if self._size is not None:
            self._console.bell()

    def shutdown(self) -> None:
        """Give the terminal back as it was; doing it again does nothing."""
        if self._size is not None:
            self._size, self._rows = None, ()
            self._report_mouse("l")
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def _report_mouse(self, switch: str) -> None:
        """Let the terminal report buttons ("h"), in the form for wide screens, or not ("l")."""
        if self._mouse:
            self._console.print(
                Segments([Segment(f"\x1b[?1000{switch}\x1b[?1006{switch}")]), end="", crop=False
            )


class Panel:
    """One panel on a console; use it with `try: draw(...) finally: shutdown()`.

    On a terminal each `draw` brings it up to date, as a dashboard of this panel alone; elsewhere,
    and not `live`, it is printed once, by `shutdown`, as it was drawn last. `PanelError` for a name
    that is none.
    """

    def __init__(
        self, name: str, console: Console, view: View = _VIEW, *, live: bool = True
    ) -> None:
        _panel(name)
        self._name, self._console, self._live = name, console, live and console.is_terminal
        self._view = msgspec.structs.replace(view, panel=name)
        self._dashboard = Dashboard(console)
        self._last: Snapshot | None = None

    def draw(self, snapshot: Snapshot) -> None:
        """Show what stands now."""
        if self._live:
            self._dashboard.draw(snapshot, self._view)
        else:
            self._last = snapshot

    def shutdown(self) -> None:
        """Give the terminal back, or print what was drawn last; doing it again does nothing."""
        self._dashboard.shutdown()
        if self._last is not None:
            run_panel(self._name, self._last, self._console, self._view)
            self._last = None


def run_panel(name: str, snapshot: Snapshot, console: Console, view: View = _VIEW) -> None:
    """Print one panel once, as large as the console; 24 rows in a pipe."""
    high = console.height - 1 if console.is_terminal else 24
    console.print(panel(name, snapshot, console.width, high, view, Theme.of(console)), end="")


def run_dashboard(snapshot: Snapshot, console: Console, view: View = _VIEW) -> None:
    """Print the whole dashboard once, as large as the console; 40 rows in a pipe."""
    high = console.height - 1 if console.is_terminal else 40
    console.print(dashboard(snapshot, view, console.width, high, Theme.of(console)), end="")


def export_svg(snapshot: Snapshot, view: View = _VIEW, width: int = 120, height: int = 40) -> str:
    """Return the dashboard as an SVG picture, the same for the same arguments."""
    console = _recorder(width, height)
    # Viewers differ in runs of spaces and in fonts: each word is placed by itself.
    drawn = dashboard(snapshot, view, width, height).__rich_console__(console, console.options)
    words = (Segment(text, part.style) for part in drawn for text in _PIECES.findall(part.text))
    console.print(Segments(words), end="")
    return console.export_svg(title="bot")


def export_html(snapshot: Snapshot, view: View = _VIEW, width: int = 120, height: int = 40) -> str:
    """Return the dashboard as an HTML page, the same for the same arguments."""
    console = _recorder(width, height)
    console.print(dashboard(snapshot, view, width, height), end="")
    return console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True)


@lru_cache(maxsize=4096)
def html_row(strip: _Strip) -> str:
    """Return a row as HTML: a `span` for each segment, in the classes of `stylesheet`."""
    return "".join(_span(text, style) for text, style, _ in strip if text)


# A page has the reader's own fonts: signs that one of them lacks come from another, and are of
# another width. Whatever is no letter of ASCII has the width of its cells, whoever draws it.
_LETTERS_ALONE: Final = re.compile("[ -~]*")
_WIDEST: Final = 400  # cells


@lru_cache(maxsize=4096)
def _span(text: str, style: Style | None) -> str:
    names = [_html_classes()[style]] if style in _html_classes() else []
    if not _LETTERS_ALONE.fullmatch(text):
        names.append(f"w{min(_cells(text), _WIDEST)}")
    escaped = escape(text)
    return f'<span class="{" ".join(names)}">{escaped}</span>' if names else escaped


@lru_cache(maxsize=1)
def _html_classes() -> dict[Style | None, str]:
    styled = ((name, Style.parse(pair[0])) for name, pair in _STYLES.items() if pair[0])
    return {style: f"s-{name.replace(' ', '-')}" for name, style in styled}


def stylesheet() -> str:
    """Return the CSS that `html_row` needs: a class for each style, and one for each width."""
    styles = [
        f".{name} {{ {rules} }}"
        for style, name in _html_classes().items()
        if style is not None and (rules := style.get_html_style(SVG_EXPORT_THEME))
    ]
    widths = [f".w{cells} {{ width: {cells}ch }}" for cells in range(1, _WIDEST + 1)]
    return "\n".join([*styles, *widths, ""])


def _recorder(width: int, height: int) -> Console:
    return Console(
        record=True, width=width, height=height, file=io.StringIO(), color_system="truecolor",
        force_terminal=True, legacy_windows=False, no_color=False,
    )  # fmt: skip
