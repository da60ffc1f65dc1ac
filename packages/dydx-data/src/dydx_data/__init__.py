"""Market views: what the frames say about each market, folded once, always current.

    Frame ──► market_views ──► MarketView   book · trades · candles · flow · oracle · quality

`market_views` emits the same `MarketView` object per ticker, updated in place, once per frame
and market it touched; `step` is the whole fold, pure but for the `DataState` it is given.
`Book` keeps what the venue said and shows it uncrossed (`uncross` is that rule alone);
`Candles` and `Flow` grow with each trade; `Link` judges message ids; `Quality` counts and
samples whatever was wrong.

Units: `at` and `*_ns` are nanoseconds UTC, prices are USDC per base unit, sizes base units,
`open_interest` is base quantums. Floats are for opinions; where money moves, take the exact
texts beside them. Event time is the frames' own: nothing here reads a clock, and a bad frame
is counted, never raised. Whoever keeps a figure past the frame copies it.

Sources: indexer socks and comlink (message ids, snapshots, level totals), v4-web
calculators/orderbook.ts and watch-orderbook.mdx (uncrossing).
"""

import datetime
import functools
import math
import re
from array import array
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
from dydx_conn import (
    BookContents,
    CandleFields,
    CandlesContents,
    ErrorsContents,
    Frame,
    HeightContents,
    MarketFields,
    MarketsContents,
    OraclePriceFields,
    PerpetualMarket,
    TradeFields,
    TradesContents,
    WireError,
    contents,
    exact,
    fold,
    perpetual_market,
)
from reactivex import Observable

__all__ = [
    "RESOLUTIONS",
    "Book",
    "Candle",
    "Candles",
    "Chain",
    "DataState",
    "Flow",
    "Funding",
    "Level",
    "Link",
    "MarketView",
    "Oracle",
    "Quality",
    "Sample",
    "Trade",
    "market_views",
    "step",
    "uncross",
]

# === Numbers ===
# The wire's decimals are text, and `float` alone would admit nan, inf and blanks.

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND

_decimal = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII).fullmatch
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def _number(text: str) -> float:
    """Read decimal text; `ValueError` unless it is one finite number."""
    if _decimal(text) is None or math.isinf(number := float(text)):
        raise ValueError(f"expected a finite decimal number, got {text[:40]!r}")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0.0:
        raise ValueError(f"expected a number above 0, got {text[:40]!r}")
    return number


@functools.lru_cache(maxsize=4096)
def _instant(text: str) -> int:
    """Read ISO time as nanoseconds; trades of one block share their text, hence the cache."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MICROSECOND * 1000


# === Quality ===


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One trouble as it was met: the frame that carried it, its kind, and what was wrong."""

    seq: int
    kind: str
    text: str


@dataclass(slots=True, eq=False)
class Quality:
    """What was wrong with the frames of one market, or of none: counts and the last samples.

    Kinds: malformed, unknown, refused (the venue's errors), duplicate, out_of_order, gap,
    early (book updates without a snapshot), crossed, stale.
    """

    counts: dict[str, int] = field(default_factory=dict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=16))
    stale: bool = False
    stale_since: int = 0

    def note(self, seq: int, kind: str, text: str) -> None:
        """Count one trouble and keep a sample of it."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.samples.append(Sample(seq, kind, text if len(text) <= 120 else text[:117] + "..."))


@dataclass(slots=True, eq=False)
class Link:
    """One connection's message ids: which came, which are owed, which were lost.

    The count runs over the whole connection: each request and each data message takes an id.
    A snapshot carries the id of its request and may come late, so a hole is a loss only if no
    answer is owed for it. `asked` says whether the requests on this link are seen at all.
    """

    open: bool = True
    asked: bool = False
    owed: int = 0
    last: int | None = None
    _first: int | None = None
    _missing: set[int] = field(default_factory=set)
    _resume: int = 0
    _run: int = 0

    def reset(self, last: int | None) -> None:
        """Begin to count anew after `last`, or after whatever comes first."""
        self.last = self._first = last
        self._run = 0
        self._missing.clear()

    def take(self, number: int, type_: str) -> str:
        """Count one message; return what is wrong with its id, or "".

        "gap": ids before it are lost; "duplicate": it came before; "out_of_order": it is one
        of the lost. An id of 0 is no number, and nothing is judged by it.
        """
        last, answer = self.last, type_ in ("subscribed", "error")
        if not number or last is None:
            self._first = self.last = number or last
            return ""
        if number > last:
            return self._ahead(number, last, answer)
        if type_ in ("error", "pong"):  # they repeat the id of what came last
            return ""
        if answer and (number in self._missing or number < (self._first or 0)):
            self._missing.discard(number)
            return ""
        if number not in self._missing:
            return "duplicate"
        self._missing.discard(number)
        # Two that go on where the count was left say that the jump was wrong, not they.
        self._run = self._run + 1 if number == self._resume else 0
        self._resume = number + 1
        if self._run == 2:
            self.reset(number)
        return "out_of_order"

    def _ahead(self, number: int, last: int, answer: bool) -> str:
        self.last = number
        if answer and self.owed:
            self.owed -= 1
        holes = number - last - 1
        self._missing.update(range(last + 1, min(number, last + 4096)))
        explained = min(self.owed, holes)
        self.owed -= explained
        if holes == explained or (answer and not self.asked):
            return ""
        self._resume, self._run = last + 1, 0
        return "gap"


# === Book ===


class Level(msgspec.Struct, frozen=True, gc=False):
    """One price of a book: `size` is its total; `offset` grows with each update of the book."""

    price: float
    size: float
    price_text: str
    size_text: str
    offset: int


_N = TypeVar("_N", int, float, Decimal)


def uncross(
    bids: Mapping[_N, tuple[_N, int]], asks: Mapping[_N, tuple[_N, int]]
) -> tuple[list[tuple[_N, _N, int]], list[tuple[_N, _N, int]]]:
    """Return {price: (size, offset)} as (price, size, offset), best first, nothing crossed.

    While the best bid is at or above the best ask, the older offset goes; at the same offset
    the smaller size goes, and at the same size the bid. Empty levels are left out.

    >>> uncross({101: (1, 3), 99: (2, 1)}, {100: (5, 4)})
    ([(99, 2, 1)], [(100, 5, 4)])
    """
    best_bids, best_asks = _ascending(bids)[::-1], _ascending(asks)
    hidden_bids, hidden_asks = _crossing(iter(best_bids), iter(best_asks))
    return best_bids[hidden_bids:], best_asks[hidden_asks:]


def _ascending(totals: Mapping[_N, tuple[_N, int]]) -> list[tuple[_N, _N, int]]:
    return [(price, size, offset) for price, (size, offset) in sorted(totals.items()) if size]


def _crossing(bids: Iterator[Any], asks: Iterator[Any]) -> tuple[int, int]:
    # Only the best of a side is ever dropped, so what is hidden is the beginning of each side.
    hidden_bids = hidden_asks = 0
    bid, ask = next(bids, None), next(asks, None)
    while bid is not None and ask is not None and bid[0] >= ask[0]:
        if (bid[2], bid[1]) <= (ask[2], ask[1]):
            hidden_bids += 1
            bid = next(bids, None)
        else:
            hidden_asks += 1
            ask = next(asks, None)
    return hidden_bids, hidden_asks


class _Side:
    """One side of a book as the venue said it: levels by price, prices ascending."""

    __slots__ = ("hidden", "hidden_size", "levels", "numbers", "prices", "size")

    def __init__(self, numbers: dict[str, float]) -> None:
        self.numbers = numbers
        self.clear()

    def clear(self) -> None:
        self.levels: dict[float, Level] = {}
        self.prices: list[float] = []
        self.size = self.hidden_size = 0.0
        self.hidden = 0

    def put(self, totals: Iterable[tuple[str, str]], offset: int, faults: list[str]) -> None:
        # The hottest loop of the house: what it touches is local, and nothing is made twice.
        levels, prices, numbers, size_of_all = self.levels, self.prices, self.numbers, self.size
        for price_text, size_text in totals:
            try:
                price = numbers[price_text]
                size = float(size_text)
            except KeyError:
                try:
                    price, size = self._learn(price_text), float(size_text)
                except ValueError as error:
                    faults.append(str(error))
                    continue
            except ValueError:
                size = math.nan
            old = levels.get(price)
            if 0.0 < size < math.inf:
                levels[price] = Level(price, size, price_text, size_text, offset)
                if old is None:
                    insort(prices, price)
                    size_of_all += size
                else:
                    size_of_all += size - old.size
            elif size != 0.0:
                faults.append(f"expected a size of 0 or more, got {size_text[:40]!r}")
            elif old is not None:
                del levels[price]
                del prices[bisect_left(prices, price)]
                size_of_all -= old.size
        # What is kept by difference drifts; now and then it is taken afresh.
        self.size = size_of_all if offset & 4095 else math.fsum(x.size for x in levels.values())

    def _learn(self, price_text: str) -> float:
        price = _positive(price_text)
        if len(self.numbers) >= 16_384:
            self.numbers.clear()
        self.numbers[price_text] = price
        return price

    def hide(self, hidden: int, best_first: Iterable[float]) -> None:
        self.hidden = hidden
        self.hidden_size = math.fsum(
            self.levels[price].size for _, price in zip(range(hidden), best_first, strict=False)
        )


class Book:
    """One market's order book: what the venue said, shown uncrossed.

    `known` is False before the first snapshot and, after a lost frame, until the next one;
    an unknown book is empty. `crossed` counts the levels that uncrossing hides.
    """

    __slots__ = (
        "_asks", "_bids", "at", "best_ask", "best_bid", "crossed", "known", "link", "mid_price",
        "offset", "seq",
    )  # fmt: skip

    def __init__(self) -> None:
        numbers: dict[str, float] = {}
        self._bids, self._asks = _Side(numbers), _Side(numbers)
        self.seq = self.at = self.offset = 0
        self.link = ""
        self.forget()

    def forget(self) -> None:
        """Become unknown: something was lost, and a snapshot alone can mend it."""
        self.known = False
        self.best_bid: Level | None = None
        self.best_ask: Level | None = None
        self.mid_price: float | None = None
        self.crossed = 0
        self._bids.clear()
        self._asks.clear()

    def replace(self, snapshot: BookContents) -> list[str]:
        """Take a snapshot for the whole book; return what was wrong with its levels."""
        self.forget()
        self.known = True
        return self.update([snapshot])

    def update(self, updates: Iterable[BookContents]) -> list[str]:
        """Take new level totals, oldest first; return what was wrong with any of them."""
        faults: list[str] = []
        bids, asks = self._bids, self._asks
        for update in updates:
            self.offset = offset = self.offset + 1
            if update.bids:
                bids.put(update.bids, offset, faults)
            if update.asks:
                asks.put(update.asks, offset, faults)
        bid_prices, ask_prices = bids.prices, asks.prices
        if self.crossed or not bid_prices or not ask_prices or bid_prices[-1] >= ask_prices[0]:
            self._uncross()
        else:
            bid, ask = bid_prices[-1], ask_prices[0]
            self.best_bid = bids.levels[bid]
            self.best_ask = asks.levels[ask]
            self.mid_price = (bid + ask) / 2
        return faults

    def bids(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed bids, best first, at most `count`."""
        side = self._bids
        end = len(side.prices) - side.hidden
        start = 0 if count is None else max(0, end - count)
        return [side.levels[price] for price in side.prices[start:end][::-1]]

    def asks(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed asks, best first, at most `count`."""
        side = self._asks
        end = None if count is None else side.hidden + max(0, count)
        return [side.levels[price] for price in side.prices[side.hidden : end]]

    @property
    def spread_bps(self) -> float | None:
        """Return the spread in hundredths of a percent of the mid price."""
        bid, ask = self.best_bid, self.best_ask
        if bid is None or ask is None or self.mid_price is None:
            return None
        return (ask.price - bid.price) / self.mid_price * 10_000

    @property
    def bid_total(self) -> float:
        """Return the size of all uncrossed bids, in base units."""
        return max(0.0, self._bids.size - self._bids.hidden_size)

    @property
    def ask_total(self) -> float:
        """Return the size of all uncrossed asks, in base units."""
        return max(0.0, self._asks.size - self._asks.hidden_size)

    def _uncross(self) -> None:
        bids, asks = self._bids, self._asks
        hidden_bids, hidden_asks = _crossing(_totals(bids, -1), _totals(asks, 1))
        bids.hide(hidden_bids, reversed(bids.prices))
        asks.hide(hidden_asks, asks.prices)
        self.crossed = hidden_bids + hidden_asks
        self.best_bid = next(iter(self.bids(1)), None)
        self.best_ask = next(iter(self.asks(1)), None)
        self.mid_price = None
        if self.best_bid is not None and self.best_ask is not None:
            self.mid_price = (self.best_bid.price + self.best_ask.price) / 2


def _totals(side: _Side, step: int) -> Iterator[tuple[float, float, int]]:
    return ((x, side.levels[x].size, side.levels[x].offset) for x in side.prices[::step])


# === Trades ===


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade of the tape; `side` is the taker's, `at_ns` when the venue made it."""

    id: str
    side: str
    price: float
    size: float
    price_text: str
    size_text: str
    at_ns: int
    type: str
    seq: int


@dataclass(slots=True, eq=False)
class Flow:
    """Who took what: volumes in base units and USDC, of the last 60 s and in total.

    The window moves in whole seconds of the venue's time.
    """

    buy_volume: float = 0.0
    sell_volume: float = 0.0
    usd: float = 0.0
    trades: int = 0
    total_buy_volume: float = 0.0
    total_sell_volume: float = 0.0
    total_usd: float = 0.0
    total_trades: int = 0
    # One row per second with trades, oldest first: second, buys, sells, usd, trades.
    _seconds: deque[list[float]] = field(default_factory=deque)

    def add(self, trade: Trade) -> None:
        """Count one trade; one older than the window counts in the totals alone."""
        usd = trade.price * trade.size
        buys, sells = (trade.size, 0.0) if trade.side == "BUY" else (0.0, trade.size)
        self.total_buy_volume += buys
        self.total_sell_volume += sells
        self.total_usd += usd
        self.total_trades += 1
        row = self._second(trade.at_ns // _SECOND)
        if row is None:
            return
        row[1] += buys
        row[2] += sells
        row[3] += usd
        row[4] += 1
        self.buy_volume += buys
        self.sell_volume += sells
        self.usd += usd
        self.trades += 1

    def _second(self, second: int) -> list[float] | None:
        rows = self._seconds
        if rows and second <= rows[-1][0]:
            if second == rows[-1][0]:
                return rows[-1]
            return next((row for row in rows if row[0] == second), None)
        self.roll(second * _SECOND)
        rows.append([second, 0.0, 0.0, 0.0, 0.0])
        return rows[-1]

    def roll(self, now_ns: int) -> None:
        """Let go of what is 60 s old or older at `now_ns`."""
        rows, last = self._seconds, now_ns // _SECOND - 60
        while rows and rows[0][0] <= last:
            _, buys, sells, usd, trades = rows.popleft()
            self.buy_volume -= buys
            self.sell_volume -= sells
            self.usd -= usd
            self.trades -= int(trades)
        if not rows:
            # Differences of floats leave dust; an empty window is exactly nothing.
            self.buy_volume = self.sell_volume = self.usd = 0.0

    @property
    def due_ns(self) -> float:
        """Return when the window next loses a second, in venue time."""
        return (self._seconds[0][0] + 60) * _SECOND if self._seconds else math.inf


# === Candles ===

RESOLUTIONS: Final[Mapping[str, int]] = {
    "1MIN": _MINUTE,
    "5MINS": 5 * _MINUTE,
    "15MINS": 15 * _MINUTE,
    "30MINS": 30 * _MINUTE,
    "1HOUR": 60 * _MINUTE,
    "4HOURS": 240 * _MINUTE,
    "1DAY": 1440 * _MINUTE,
}


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One candle; `volume` in base units. Without trades it is flat at the last close."""

    started_at: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    usd_volume: float
    trades: int


_HIGH, _LOW, _CLOSE, _VOLUME, _USD, _TRADES, _WIDTH = 1, 2, 3, 4, 5, 6, 7


@dataclass(slots=True, eq=False)
class Candles:
    """A market's newest candles of one resolution, oldest first; a ring of fixed size.

    Made from trades until the wire sends candles of this resolution; from then on the wire's
    (`wire` is True). A period without trades is flat at the last close, as on the venue.
    """

    period_ns: int
    capacity: int = 240
    wire: bool = False
    started_at: int = 0
    # Rows of open, high, low, close, volume, usd, trades; they follow each other without a
    # hole, so the start of the newest gives all starts.
    _rows: "array[float]" = field(default_factory=lambda: array("d"))
    _size: int = 0
    _head: int = -1

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Candle:
        if not -self._size <= index < self._size:
            raise IndexError(f"expected an index within {self._size} candles, got {index}")
        age = self._size - 1 - index if index >= 0 else -1 - index
        at = self._row(age)
        started_at = self.started_at - age * self.period_ns
        opened, high, low, close, volume, usd, trades = self._rows[at : at + _WIDTH]
        return Candle(started_at, opened, high, low, close, volume, usd, int(trades))

    @property
    def last(self) -> Candle | None:
        """Return the candle that is still growing."""
        return self[-1] if self._size else None

    def closes(self, count: int | None = None) -> list[float]:
        """Return the newest closes, oldest first."""
        newest = self._size if count is None else min(count, self._size)
        return [self._rows[self._row(age) + _CLOSE] for age in range(newest - 1, -1, -1)]

    def add(self, at_ns: int, price: float, size: float) -> None:
        """Count one trade; one that is late goes to its own candle, if that is still kept."""
        age = self._age(at_ns, price)
        if age >= self._size:
            return
        rows, at = self._rows, self._row(age)
        if not rows[at + _TRADES]:
            self._flatten(at, price)
        elif price > rows[at + _HIGH]:
            rows[at + _HIGH] = price
        elif price < rows[at + _LOW]:
            rows[at + _LOW] = price
        rows[at + _CLOSE] = price
        rows[at + _VOLUME] += size
        rows[at + _USD] += price * size
        rows[at + _TRADES] += 1
        # Flat candles already written after a late one take over its close.
        while age and not rows[self._row(age - 1) + _TRADES]:
            age -= 1
            self._flatten(self._row(age), price)

    def put(self, candle: Candle) -> None:
        """Take a candle from the wire, new or again; the first one ends counting trades."""
        if not self.wire:
            self.wire, self._size, self._head = True, 0, -1
            del self._rows[:]
        age = self._age(candle.started_at, candle.open)
        if age < self._size:
            at = self._row(age)
            self._rows[at : at + _WIDTH] = array("d", msgspec.structs.astuple(candle)[1:])

    def roll(self, now_ns: int) -> None:
        """Write a flat candle for each period that began until `now_ns` without a trade."""
        start = now_ns - now_ns % self.period_ns
        if not self._size or start <= self.started_at:
            return
        # A silence longer than the ring overwrites all of it, once.
        self.started_at = max(self.started_at, start - self.capacity * self.period_ns)
        close = self._rows[self._row(0) + _CLOSE]
        while self.started_at < start:
            self._append(self.started_at + self.period_ns, close)

    def _age(self, at_ns: int, price: float) -> int:
        """Return how many periods ago `at_ns` was, after making the candles up to it."""
        start = at_ns - at_ns % self.period_ns
        if not self._size:
            self._append(start, price)
        elif start > self.started_at:
            self.roll(start)
        return (self.started_at - start) // self.period_ns

    def _row(self, age: int) -> int:
        return (self._head - age) % self._size * _WIDTH

    def _append(self, start: int, price: float) -> None:
        if self._size < self.capacity:
            self._rows.extend([0.0] * _WIDTH)
            self._size += 1
        self._head = (self._head + 1) % self.capacity
        self.started_at = start
        at = self._head * _WIDTH
        self._rows[at + _VOLUME] = self._rows[at + _USD] = self._rows[at + _TRADES] = 0.0
        self._flatten(at, price)

    def _flatten(self, at: int, price: float) -> None:
        rows = self._rows
        rows[at] = rows[at + _HIGH] = rows[at + _LOW] = rows[at + _CLOSE] = price


# === Views ===


class Oracle(msgspec.Struct, frozen=True, gc=False):
    """The price the chain calculates with: `digits` · 10^`exponent` USDC, exactly `text`."""

    price: float
    digits: int
    exponent: int
    at: int
    seq: int
    text: str


def _oracle(text: str, frame: Frame) -> Oracle:
    return Oracle(_positive(text), *exact(text), frame.at, frame.seq, text)


class Funding(msgspec.Struct, frozen=True, gc=False):
    """The rate the hour in progress is heading for; hourly; longs pay when positive."""

    next_rate_1h: float = 0.0
    next_rate_text: str = ""
    at: int = 0
    seq: int = 0

    @property
    def known(self) -> bool:
        """Return whether the venue has said a rate: the 0 of an unsaid one is no rate."""
        return self.next_rate_text != ""


@dataclass(slots=True, eq=False)
class Chain:
    """The newest block; `skew_ns` is the venue's time less the time of receipt.

    Told by blocks, or by live trades where no block was seen; until then so far back that
    nothing rolls: a stand-in, or an old recording, may live in another year than its receiver.
    """

    height: int = 0
    time_ns: int = 0
    seq: int = 0
    skew_ns: int = -(1 << 62)


@dataclass(slots=True, eq=False, repr=False)
class MarketView:
    """Everything known of one market, as of frame `seq`; `changed` says what this frame brought.

    `changed` is market, book, trades, candles, oracle, funding, status, quality or stale.
    """

    ticker: str
    chain: Chain
    candles: dict[str, Candles]
    seq: int = 0
    at: int = 0
    changed: str = ""
    market: PerpetualMarket | None = None
    status: str = ""
    open_interest: int | None = None
    book: Book = field(default_factory=Book)
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=64))
    fresh: list[Trade] = field(default_factory=list)
    flow: Flow = field(default_factory=Flow)
    oracle: Oracle | None = None
    funding: Funding = field(default_factory=Funding)
    quality: Quality = field(default_factory=Quality)
    live_at: int = 0
    _fields: MarketFields = field(default_factory=MarketFields)
    _ids: dict[str, None] = field(default_factory=dict)
    _due_ns: float = math.inf
    # What a frame of one market puts out: made once, not once a frame.
    _alone: "tuple[MarketView, ...]" = ()

    def __post_init__(self) -> None:
        self._fields.ticker = self.ticker
        self._alone = (self,)

    def __repr__(self) -> str:
        return f"MarketView({self.ticker!r}, seq={self.seq}, changed={self.changed!r})"

    def _touch(self, frame: Frame, changed: str) -> "tuple[MarketView, ...]":
        self.seq = frame.seq
        self.at = at = frame.at
        self.changed = changed
        if self.fresh and changed != "trades":
            self.fresh = []
        if at + self.chain.skew_ns >= self._due_ns:
            self._roll(at + self.chain.skew_ns)
        return self._alone

    def _roll(self, now_ns: int) -> None:
        """Bring to `now_ns` what changes with time alone: windows and empty candles."""
        self.flow.roll(now_ns)
        self._due_ns = self.flow.due_ns
        for candles in self.candles.values():
            if len(candles) and not candles.wire:
                candles.roll(now_ns)
                self._due_ns = min(self._due_ns, candles.started_at + candles.period_ns)


class DataState:
    """All views of a venue and what belongs to no market; made by whoever wants to read it.

    `tickers` limits the views to some markets. `connection` is waiting, live, partial or closed.
    """

    __slots__ = (
        "_judge_at", "_resolutions", "_tickers", "at", "chain", "frames", "links", "quality",
        "seq", "stale_after_ns", "views",
    )  # fmt: skip

    def __init__(
        self,
        tickers: Collection[str] | None = None,
        *,
        resolutions: Collection[str] = ("1MIN", "5MINS", "1HOUR"),
        stale_after_ns: int = 30 * _SECOND,
    ) -> None:
        unknown = [name for name in resolutions if name not in RESOLUTIONS]
        if unknown:
            raise ValueError(f"expected resolutions among {', '.join(RESOLUTIONS)}, got {unknown}")
        self.views: dict[str, MarketView] = {}
        self.quality = Quality()
        self.chain = Chain()
        self.links: dict[str, Link] = {}
        self.frames = self.at = self.seq = 0
        self.stale_after_ns = stale_after_ns
        self._tickers = None if tickers is None else frozenset(tickers)
        self._resolutions = tuple(resolutions)
        self._judge_at = 0

    @property
    def connection(self) -> str:
        """Return how the links stand together."""
        states = {link.open for link in self.links.values()}
        if not states:
            return "waiting"
        return "partial" if len(states) > 1 else "live" if True in states else "closed"

    def counts(self) -> dict[str, int]:
        """Return all troubles by kind, those of markets and those of none."""
        total = Counter(self.quality.counts)
        for view in self.views.values():
            total.update(view.quality.counts)
        return dict(total)

    def _view(self, ticker: str, seq: int) -> MarketView | None:
        """Return the ticker's view, made on first sight; None for one that is not wanted."""
        view = self.views.get(ticker)
        if view is not None or (self._tickers is not None and ticker not in self._tickers):
            return view
        if not _ticker(ticker) or len(self.views) >= _MOST_MARKETS:
            self.quality.note(seq, "malformed", f"expected a ticker, got {ticker[:80]!r}")
            return None
        view = self.views[ticker] = MarketView(
            ticker, self.chain, {name: Candles(RESOLUTIONS[name]) for name in self._resolutions}
        )
        return view


# A hostile stream may name markets without end; the venue has some three hundred.
_MOST_MARKETS: Final = 2_000
_ticker = re.compile(r"[^\s/]{1,128}-USD").fullmatch


# === Folding ===

_F = TypeVar("_F")
_Touched = Sequence[MarketView]
_NOTHING: Final[_Touched] = ()


def step(state: DataState, frame: Frame) -> Sequence[MarketView]:
    """Fold one frame into `state`; return the views it touched, each once. Never raises."""
    state.frames += 1
    state.seq = frame.seq
    state.at = at = frame.at
    if frame.kind == "ws":
        touched = _fold_message(state, frame)
    else:
        touched = _KINDS.get(frame.kind, _fold_unknown)(state, frame)
    if at >= state._judge_at:
        return _judge(state, frame, touched)
    return touched


def _judge(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    # Once a second of event time is often enough to notice a silence of many seconds.
    state._judge_at = frame.at + _SECOND
    silent_since = frame.at - state.stale_after_ns
    gone = []
    for view in state.views.values():
        if 0 < view.live_at <= silent_since and not view.quality.stale:
            silence = f"no book or trade for {(frame.at - view.live_at) / _SECOND:.1f} s"
            view.quality.note(frame.seq, "stale", silence)
            view.quality.stale, view.quality.stale_since = True, view.live_at
            if view not in touched:
                view._touch(frame, "stale")
                gone.append(view)
    return [*touched, *gone] if gone else touched


def _fold_message(state: DataState, frame: Frame) -> _Touched:
    channels = _MESSAGES.get(frame.type)
    if channels is None:
        if frame.fault:
            return _fold_fault(state, frame)
        channels = {}  # not known, but it took an id
    link = state.links.get(frame.link) or state.links.setdefault(frame.link, Link())
    lost = _NOTHING
    if frame.message_id - 1 == link.last and not link.owed:
        link.last = frame.message_id
    else:
        trouble = link.take(frame.message_id, frame.type)
        if trouble:
            counts, lost = _fold_trouble(state, frame, trouble)
            if not counts:
                return lost
    fold_channel = channels.get(frame.channel, _fold_unknown)
    try:
        touched = fold_channel(state, frame)
    except _UNREADABLE as error:
        touched = _fold_unreadable(state, frame, frame.id.partition("/")[0], error)
    return touched if not lost else [*touched, *(view for view in lost if view not in touched)]


# What decoding may raise, whatever a text says: the wire's own refusals, numbers and times out
# of range, and nesting too deep for the decoder.
_UNREADABLE = (WireError, ValueError, ArithmeticError, RecursionError)


def _fold_unreadable(state: DataState, frame: Frame, ticker: str, error: Exception) -> _Touched:
    view = state.views.get(ticker)
    if view is None:
        state.quality.note(frame.seq, "malformed", str(error))
        return ()
    view.quality.note(frame.seq, "malformed", str(error))
    if frame.channel != "v4_orderbook" or not view.book.known:
        return view._touch(frame, "quality")
    # It may have carried levels: without them the book is a guess.
    view.book.forget()
    return view._touch(frame, "book")


def _fold_unknown(state: DataState, frame: Frame) -> _Touched:
    what = f"{frame.kind[:20]} {frame.type[:40]!r} on channel {frame.channel[:40]!r}"
    state.quality.note(frame.seq, "unknown", f"expected a known message, got {what}")
    return ()


def _refuse(state: DataState, frame: Frame, what: str) -> _Touched:
    state.quality.note(frame.seq, "refused", what)
    return ()


def _fold_nothing(state: DataState, frame: Frame) -> _Touched:
    return ()


# === Books ===


def _fold_book(state: DataState, frame: Frame) -> _Touched:
    view = state.views.get(frame.id)
    if view is None or not view.book.known:
        return _fold_early(state, frame)
    book = view.book
    crossed = book.crossed
    faults = book.update(contents(frame))
    book.link = frame.link
    book.seq = view.seq = frame.seq
    book.at = view.live_at = view.at = at = frame.at
    view.changed = "book"
    if faults or book.crossed != crossed or view.quality.stale:
        _judge_book(view, frame, faults, crossed)
    if view.fresh:
        view.fresh = []
    if at + view.chain.skew_ns >= view._due_ns:
        view._roll(at + view.chain.skew_ns)
    return view._alone


def _judge_book(view: MarketView, frame: Frame, faults: list[str], crossed: int) -> None:
    quality, book = view.quality, view.book
    quality.stale = False
    for fault in faults:
        quality.note(frame.seq, "malformed", fault)
    if book.crossed and not crossed:
        quality.note(frame.seq, "crossed", f"{book.crossed} levels hidden by uncrossing")


def _fold_early(state: DataState, frame: Frame) -> _Touched:
    view = state._view(frame.id, frame.seq)
    if view is not None:
        view.quality.note(frame.seq, "early", "a book update without a snapshot to update")
    return ()


def _fold_snapshot(state: DataState, frame: Frame) -> _Touched:
    return _set_book(state._view(frame.id, frame.seq), frame, frame.link, contents(frame)[0])


def _set_book(view: MarketView | None, frame: Frame, link: str, snapshot: BookContents) -> _Touched:
    if view is None:
        return ()
    crossed, book = view.book.crossed, view.book
    faults = book.replace(snapshot)
    book.link, book.seq, book.at = link, frame.seq, frame.at
    view.live_at = frame.at
    _judge_book(view, frame, faults, crossed)
    return view._touch(frame, "book")


def _lose_books(state: DataState, frame: Frame, link: str) -> _Touched:
    """Make the books of a link unknown; of all links, if it has no name."""
    lost = [
        view
        for view in state.views.values()
        if view.book.known and (not link or view.book.link == link)
    ]
    for view in lost:
        view.book.forget()
        view._touch(frame, "book")
    return lost


# === Tapes ===


def _fold_trades(state: DataState, frame: Frame) -> _Touched:
    return _add_trades(state._view(frame.id, frame.seq), frame, contents(frame))


def _add_trades(
    view: MarketView | None, frame: Frame, updates: Iterable[TradesContents]
) -> _Touched:
    if view is None:
        return ()
    fresh = [trade for update in updates for trade in _unseen(view, frame, update)]
    if frame.kind == "ws" and frame.type != "subscribed":
        if fresh and not view.chain.seq:
            view.chain.skew_ns = fresh[-1].at_ns - frame.at
    else:
        # A snapshot is newest first, and trades of one block share their time.
        fresh.reverse()
        fresh.sort(key=lambda trade: trade.at_ns)
    for trade in fresh:
        view.trades.append(trade)
        view.flow.add(trade)
        for candles in view.candles.values():
            if not candles.wire:
                candles.add(trade.at_ns, trade.price, trade.size)
        view._due_ns = min(view._due_ns, trade.at_ns + _MINUTE - trade.at_ns % _SECOND)
    while len(view._ids) > 2_048:
        del view._ids[next(iter(view._ids))]
    view.live_at = frame.at
    view.quality.stale = False
    view.fresh = fresh
    return view._touch(frame, "trades")


def _unseen(view: MarketView, frame: Frame, update: TradesContents) -> Iterator[Trade]:
    for fields in update.trades:
        try:
            if fields.id not in view._ids:
                yield _trade(view, fields, frame.seq)
        except (ValueError, OverflowError) as error:
            view.quality.note(frame.seq, "malformed", str(error))
        if fields.id:
            view._ids[fields.id] = None


def _trade(view: MarketView, fields: TradeFields, seq: int) -> Trade:
    at_ns = _instant(fields.created_at)
    if view.chain.seq and at_ns > view.chain.time_ns + 60 * _MINUTE:
        # It would roll every window and candle past all that is yet to come.
        raise ValueError(f"expected a trade of the past, got one of {fields.created_at[:40]}")
    return Trade(
        fields.id, fields.side, _positive(fields.price), _positive(fields.size),
        fields.price, fields.size, at_ns, fields.type, seq,
    )  # fmt: skip


def _fold_candles(state: DataState, frame: Frame) -> _Touched:
    ticker, _, resolution = frame.id.partition("/")
    return _put_candles(state._view(ticker, frame.seq), frame, resolution, contents(frame))


def _put_candles(
    view: MarketView | None, frame: Frame, resolution: str, updates: Iterable[CandlesContents]
) -> _Touched:
    if view is None:
        return ()
    if resolution not in RESOLUTIONS:
        raise ValueError(f"expected a known resolution, got {resolution[:40]!r}")
    candles = view.candles.setdefault(resolution, Candles(RESOLUTIONS[resolution]))
    for update in updates:
        for fields in reversed(update.candles):
            try:
                candles.put(_candle(fields))
            except (ValueError, OverflowError) as error:
                view.quality.note(frame.seq, "malformed", str(error))
    return view._touch(frame, "candles")


def _candle(fields: CandleFields) -> Candle:
    return Candle(
        _instant(fields.started_at), _positive(fields.open), _positive(fields.high),
        _positive(fields.low), _positive(fields.close), _number(fields.base_token_volume),
        _number(fields.usd_volume), fields.trades,
    )  # fmt: skip


def _fold_height(state: DataState, frame: Frame) -> _Touched:
    return _set_height(state, frame, contents(frame))


def _set_height(state: DataState, frame: Frame, updates: Iterable[HeightContents]) -> _Touched:
    chain = state.chain
    for update in updates:
        height, time_ns = int(update.block_height or update.height), _instant(update.time)
        if height < chain.height:
            what = f"expected a block after {chain.height}, got {height}"
            state.quality.note(frame.seq, "out_of_order", what)
            continue
        chain.height, chain.time_ns, chain.seq = height, time_ns, frame.seq
        chain.skew_ns = time_ns - frame.at
    return ()


# === Markets ===


def _fold_markets(state: DataState, frame: Frame) -> _Touched:
    return _set_markets(state, frame, contents(frame))


def _set_markets(state: DataState, frame: Frame, updates: Iterable[MarketsContents]) -> _Touched:
    changes: dict[str, str] = {}
    for update in updates:
        _set_each(state, frame, update.markets, _set_market, changes)
        _set_each(state, frame, update.trading, _set_trading, changes)
        _set_each(state, frame, update.oracle_prices, _set_oracle, changes)
    touched = [state.views[ticker] for ticker in changes]
    for view in touched:
        view._touch(frame, changes[view.ticker])
    return touched


# A frame emits a view once: of several changes the one that says most.
_WEIGHT: Final = ["", "quality", "market", "funding", "oracle", "status"]


def _set_each(
    state: DataState,
    frame: Frame,
    table: Mapping[str, _F],
    set_one: Callable[[MarketView, Frame, _F], str],
    changes: dict[str, str],
) -> None:
    for ticker, fields in table.items():
        view = state.views.get(ticker) or state._view(ticker, frame.seq)
        if view is not None:
            changed = set_one(view, frame, fields)
            changes[ticker] = max(changed, changes.get(ticker, ""), key=_WEIGHT.index)


def _set_market(view: MarketView, frame: Frame, fields: MarketFields) -> str:
    view._fields = fields
    fields.ticker = fields.ticker or view.ticker
    _set_parameters(view, frame)
    _set_figures(view, frame, fields)
    text = fields.oracle_price
    try:
        # No price, and the 0 of a market that never had one, are unknown: not worth nothing.
        view.oracle = _oracle(text, frame) if text and text != "0" else None
    except ValueError as error:
        view.oracle = None
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
    return "market"


def _set_trading(view: MarketView, frame: Frame, fields: MarketFields) -> str:
    status, funding = view.status, view.funding
    parameters = [name for name in _PARAMETERS if getattr(fields, name) is not None]
    for name in parameters:
        setattr(view._fields, name, getattr(fields, name))
    if parameters:
        _set_parameters(view, frame)
    _set_figures(view, frame, fields)
    if status != view.status:
        return "status"
    return "market" if parameters or funding is view.funding else "funding"


_PARAMETERS: Final = (
    "id", "clob_pair_id", "initial_margin_fraction", "maintenance_margin_fraction",
    "atomic_resolution", "quantum_conversion_exponent", "step_base_quantums", "subticks_per_tick",
    "market_type", "open_interest_lower_cap", "open_interest_upper_cap",
)  # fmt: skip


def _set_parameters(view: MarketView, frame: Frame) -> None:
    try:
        market = perpetual_market(view._fields)
        if abs(market.atomic_resolution) > 40 or abs(market.quantum_conversion_exponent) > 40:
            raise ValueError(f"expected exponents within 40, got {market!r}")
        view.market = market
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", str(error))


def _set_figures(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    """Take the figures of a market that move: status, open interest, funding."""
    view.status = fields.status or view.status
    text = fields.base_open_interest or fields.open_interest
    try:
        if text and view.market:
            _number(text)
            view.open_interest = int(Decimal(text).scaleb(-view.market.atomic_resolution))
        text = fields.next_funding_rate
        if text:
            view.funding = Funding(_number(text), text, frame.at, frame.seq)
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", str(error))


def _set_oracle(view: MarketView, frame: Frame, fields: OraclePriceFields) -> str:
    try:
        view.oracle = _oracle(fields.oracle_price or fields.price or "", frame)
    except ValueError as error:
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
        return "quality"
    return "oracle"


# === Answers ===


def _fold_answer(state: DataState, frame: Frame) -> _Touched:
    """Fold a REST answer like the snapshot of its channel; most are not ours."""
    found = _path(frame.channel)
    if found is None:
        return ()
    ticker = found["ticker"] or ""
    try:
        updates = contents(frame) if frame.type == "200" else [ErrorsContents(errors=[])]
        if isinstance(updates[0], ErrorsContents):
            what = f"expected {frame.channel[:60]}, got {frame.type}: {frame.text[:60]}"
            return _refuse(state, frame, what)
        if found["what"] == "perpetualMarkets":
            return _set_markets(state, frame, updates)
        if found["what"] == "height":
            return _set_height(state, frame, updates)
        return _fold_market_answer(state, frame, found["what"], ticker, updates)
    except _UNREADABLE as error:
        return _fold_unreadable(state, frame, ticker, error)


def _fold_market_answer(
    state: DataState, frame: Frame, what: str, ticker: str, updates: list[Any]
) -> _Touched:
    view = state._view(ticker, frame.seq)
    if what == "trades":
        return _add_trades(view, frame, updates)
    if what == "candles":
        asked = _resolution(frame.channel)
        return _put_candles(view, frame, asked[1] if asked else "", updates)
    # The socket's book is newer than any answer; an answer mends one that was lost.
    if view is not None and view.book.known and view.book.link:
        return ()
    return _set_book(view, frame, "", updates[0])


_path = re.compile(
    r"(?:https?://[^/]+)?/v4/(?P<what>perpetualMarkets|height|orderbooks|trades|candles)"
    r"(?:/perpetualMarkets?/(?P<ticker>[^/?]+))?/?(?:\?.*)?"
).fullmatch
_resolution = re.compile(r"[?&]resolution=([0-9A-Z]+)").search


# === Links ===


def _fold_trouble(state: DataState, frame: Frame, trouble: str) -> tuple[bool, _Touched]:
    """Count what is wrong with a message id; return whether the frame counts, and what it cost."""
    what = f"message_id {frame.message_id} on {frame.link}, channel {frame.channel or frame.type}"
    state.quality.note(frame.seq, trouble, what)
    if trouble == "duplicate":
        return False, ()
    # A late level total is older than the book; a late trade keeps its place by its own time.
    counts = trouble == "gap" or frame.channel == "v4_trades"
    return counts, _lose_books(state, frame, frame.link)


def _fold_fault(state: DataState, frame: Frame) -> _Touched:
    """Count an unreadable message; if its head can be read, only its own market suffers."""
    head = frame.text[:400]
    number, channel, id_ = (find(head) for find in (_message_id, _channel, _id))
    link = state.links.get(frame.link)
    ticker = ""
    if link and number and channel and int(number[1]) - 1 == link.last:
        # Else the next message shows the hole, if it took an id at all.
        link.last = int(number[1])
        ticker = id_[1].partition("/")[0] if id_ else ""
    book = channel is not None and channel[1] == "v4_orderbook"
    named = msgspec.structs.replace(frame, channel="v4_orderbook") if book else frame
    return _fold_unreadable(state, named, ticker, ValueError(frame.fault))


_message_id = re.compile(r'"message_id"\s*:\s*([0-9]{1,15})\s*[,}]', re.ASCII).search
_channel = re.compile(r'"channel"\s*:\s*"(v4_[a-z_]+)"').search
_id = re.compile(r'"id"\s*:\s*"([^"]{1,140})"').search


def _fold_connected(state: DataState, frame: Frame) -> _Touched:
    link = state.links[frame.link]
    link.open = True
    link.reset(frame.message_id)
    return _lose_books(state, frame, frame.link)


def _fold_error(state: DataState, frame: Frame) -> _Touched:
    return _refuse(state, frame, frame.text)


def _fold_unsubscribed(state: DataState, frame: Frame) -> _Touched:
    view = state.views.get(frame.id)
    if view is None or not view.book.known:
        return ()
    view.book.forget()
    return view._touch(frame, "book")


def _fold_edge(state: DataState, frame: Frame) -> _Touched:
    """Begin or end a link: what was known through it is known no more."""
    state.links[frame.link] = Link(open=frame.kind == "open")
    return _lose_books(state, frame, frame.link)


def _fold_gap(state: DataState, frame: Frame) -> _Touched:
    state.quality.note(frame.seq, "gap", frame.text or frame.fault or "frames lost")
    for name, link in state.links.items():
        if not frame.link or name == frame.link:
            link.reset(None)
    return _lose_books(state, frame, frame.link)


def _fold_sent(state: DataState, frame: Frame) -> _Touched:
    if _subscribe(frame.text):
        link = state.links.setdefault(frame.link, Link())
        link.asked = True
        link.owed += 1
    return ()


_subscribe = re.compile(r'"type"\s*:\s*"subscribe"').search

_Fold = Callable[[DataState, Frame], _Touched]

_UPDATES: dict[str, _Fold] = {
    "v4_orderbook": _fold_book,
    "v4_trades": _fold_trades,
    "v4_candles": _fold_candles,
    "v4_markets": _fold_markets,
    "v4_block_height": _fold_height,
    "v4_subaccounts": _fold_nothing,
    "v4_parent_subaccounts": _fold_nothing,
}


_MESSAGES: dict[str, dict[str, _Fold]] = {
    "channel_data": _UPDATES,
    "channel_batch_data": _UPDATES,
    "subscribed": {**_UPDATES, "v4_orderbook": _fold_snapshot},
    "unsubscribed": {**dict.fromkeys(_UPDATES, _fold_nothing), "v4_orderbook": _fold_unsubscribed},
    "connected": {"": _fold_connected},
    "error": {**dict.fromkeys(_UPDATES, _fold_error), "": _fold_error},
    "pong": {"": _fold_nothing},
}
_KINDS: dict[str, _Fold] = {
    "http": _fold_answer,
    "open": _fold_edge,
    "close": _fold_edge,
    "gap": _fold_gap,
    "sent": _fold_sent,
    "tick": _fold_nothing,
}


# === Streams ===


def market_views(
    state: DataState | None = None,
) -> Callable[[Observable[Frame]], Observable[MarketView]]:
    """Turn frames into market views, one per frame and market it touched.

    Cold if the source is; replays nothing; runs on the source's thread; completes and errors with
    it. With a `state`, whoever made it can read all views and the quality of the whole venue;
    without one, each subscriber folds a state of its own.

        frames  --b-----t--m----|
        views   --v-----v--vv---|
    """
    return fold(DataState if state is None else lambda: state, step)
