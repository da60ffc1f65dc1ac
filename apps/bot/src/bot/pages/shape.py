"""What a report holds, as plain frozen values: the same for a page and for a program.

    a run (bot.pages.of_run), or its rows in the database (bot.pages.stored) ──► Report
    Report ──► page, JSON; `schema` is its JSON Schema

Money is USDC and exact, as decimal text (`Money`), sizes and prices are the venue's decimals as
text, times ISO 8601 in UTC (`Time`), shares fractions. What is unknown is null, and `missing` has
the reasons in words. Figures for charts alone are floats, and their times ns since 1970.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_panels import EquityPart

SCHEMA: Final = "bot.report/1"
Money = str
Time = str


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all parts of a report have in common."""


class Named(Value, frozen=True, kw_only=True):
    """A figure in words, by its name."""

    name: str
    words: str


class Setting(Value, frozen=True, kw_only=True):
    """A setting by its path, its value as JSON, and where that comes from; no secret is shown."""

    path: str
    value: str
    origin: str | None


class Entry(Value, frozen=True, kw_only=True):
    """One thing that happened: `parent` is the id of its cause, `frames` what it was made of."""

    id: str
    kind: str
    at: Time
    seq: int
    ticker: str
    words: str
    parent: str = ""
    details: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()


class Wire(Value, frozen=True, kw_only=True):
    """The text of one frame, its beginning alone where it is long: `letters` are all of it."""

    seq: int
    head: str
    text: str
    letters: int


class Fill(Value, frozen=True, kw_only=True):
    """One fill; `fee` is negative where it was received. `at_ns` is for charts."""

    id: str
    at: Time
    at_ns: int
    ticker: str
    side: str
    size: str
    price: str
    usdc: Money
    fee: Money
    liquidity: str
    type: str
    order: str = ""
    is_exit: bool = False


class Trade(Value, frozen=True, kw_only=True):
    """A position from its opening to its end; `net` is after funding and fees.

    `size` is the most that was held, `fills` are ids. An open one has no `closed`.
    """

    ticker: str
    side: str
    status: str
    size: str
    entry: str
    exit: str
    realized: Money | None
    unrealized: Money | None
    funding: Money | None
    fees: Money | None
    net: Money | None
    opened: Time
    closed: Time | None
    fills: tuple[str, ...] = ()


class MarketSum(Value, frozen=True, kw_only=True):
    """What the trades of one market came to."""

    ticker: str
    trades: int
    won: int
    net: Money
    funding: Money
    fees: Money


class Month(Value, frozen=True, kw_only=True):
    """What a month (2026-11) or a year (2026) came to; shares of equity, None is not defined."""

    name: str
    net: Money
    returned: float | None
    drawdown: float | None
    trades: int
    won: int


class Reason(Value, frozen=True, kw_only=True):
    """How often a verdict was given, by its kind and reason, and the newest of them."""

    kind: str
    reason: str
    count: int
    newest: str


class Payment(Value, frozen=True, kw_only=True):
    """A payment of funding: what was received, or paid where it is negative."""

    at: Time
    ticker: str
    size: str
    received: Money


class Cost(Value, frozen=True, kw_only=True):
    """What was paid of one kind; what was received is negative."""

    kind: str
    paid: Money | None


class Trouble(Value, frozen=True, kw_only=True):
    """What went wrong on the wire, by class and endpoint, with the newest text."""

    kind: str
    endpoint: str
    count: int
    sample: str


class Quality(Value, frozen=True, kw_only=True):
    """How far the data of a market could be believed at the end; `known` is a share."""

    ticker: str
    why: str
    known: float | None
    complete: float | None
    lag_p99_ms: float | None
    troubles: dict[str, int]


class Latency(Value, frozen=True, kw_only=True):
    """What frames took in one stage: microseconds by the name of a percentile, and how many."""

    stage: str
    us: dict[str, float]
    frames: int


class Candle(Value, frozen=True, kw_only=True, array_like=True):
    """One candle: when it began (ns), prices, base units, USDC, trades, and whether it is whole."""

    started_at: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    usd: float
    trades: int
    state: str


class Market(Value, frozen=True, kw_only=True):
    """A market that was traded: its candles, and at which price it was liquidated when (ns)."""

    ticker: str
    resolution: str
    candles: tuple[Candle, ...]
    liquidation: tuple[tuple[int, float | None], ...] = ()


class Report(Value, frozen=True, kw_only=True):
    """All that is reported of one run.

    `chance` says of a backtest how far its result can be believed. `curve` is how the account
    went, `levels` are the guard's by their names; `entries` and `wire` are what the ids and frames
    of all others name. `guard`, `acts` and `gate` are ids.
    `left_out` says in words which tables were cut, `missing` what is not known, and why.
    """

    schema: str = SCHEMA
    source: str
    mode: str
    network: str
    account: str
    made_by: str
    began: Time | None
    ended: Time | None
    complete: bool
    profile: str
    strategy: str
    guarded: bool | None
    run_hash: str | None
    versions: dict[str, str]
    commit: str | None
    frames: int | None
    tickers: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    summary: tuple[Named, ...] = ()
    performance: tuple[Named, ...] = ()
    chance: tuple[Named, ...] = ()
    settings: tuple[Setting, ...] = ()
    settings_hash: str | None = None
    curve: EquityPart = EquityPart()
    levels: dict[str, float] = {}
    most_leverage: float | None = None
    trades: tuple[Trade, ...] = ()
    fills: tuple[Fill, ...] = ()
    by_market: tuple[MarketSum, ...] = ()
    months: tuple[Month, ...] = ()
    markets: tuple[Market, ...] = ()
    reasons: tuple[Reason, ...] = ()
    decisions: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    guard: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()
    gate: tuple[str, ...] = ()
    entries: dict[str, Entry] = {}
    wire: dict[int, Wire] = {}
    costs: tuple[Cost, ...] = ()
    funding: tuple[Payment, ...] = ()
    latency: tuple[Latency, ...] = ()
    quality: tuple[Quality, ...] = ()
    errors: tuple[Trouble, ...] = ()


def as_json(report: Report) -> bytes:
    """Return a report as JSON, as `schema` describes it."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    return msgspec.json.schema(Report)


def money(quantums: int | None) -> Money | None:
    """Return quote quantums as exact USDC, None for what is not known."""
    return None if quantums is None else exact(quantums)


def exact(quantums: int) -> Money:
    """Return quote quantums as exact USDC.

    >>> exact(-1_500_000)
    '-1.500000'
    """
    return f"{Decimal(quantums).scaleb(-6):f}"
