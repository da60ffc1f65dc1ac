"""Market views: what the frames say about each market, folded once, always current.

    Frame ──► market_views ──► MarketView   book · trades · candles · flow · oracle …

`market_views` emits the same `MarketView` object per ticker, updated in place, once per frame
and market it touched; `step` is the whole fold, pure but for the `DataState` it is given.
`Book` keeps what the venue said and shows it uncrossed (`uncross` is that rule alone);
`Candles` and `Flow` grow with each trade; `Quality` counts and samples whatever was wrong.

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
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

import msgspec
from dydx_conn import (
    BookContents,
    CandleFields,
    CandlesContents,
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
# The wire's decimals are text. `float` alone would admit nan, inf, 1_000 and blanks.

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND

_decimal = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII).fullmatch
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def _number(text: str) -> float:
    """Read decimal text; `ValueError` unless it is one finite number."""
    if _decimal(text) is None:
        raise ValueError(f"expected a decimal number, got {text[:40]!r}")
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"expected a finite number, got {text[:40]!r}")
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


class Quality:
    """What was wrong with the frames of one market, or of none: counts and the last samples.

    Kinds: malformed, unknown, refused (the venue's errors), duplicate, out_of_order, gap,
    early (book updates without a snapshot), crossed, stale.
    """

    __slots__ = ("counts", "samples", "stale", "stale_since")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.samples: deque[Sample] = deque(maxlen=16)
        self.stale = False
        self.stale_since = 0

    def note(self, seq: int, kind: str, text: str) -> None:
        """Count one trouble and keep a sample of it."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.samples.append(Sample(seq, kind, text if len(text) <= 120 else text[:117] + "..."))

    @property
    def total(self) -> int:
        """Return how many troubles there were."""
        return sum(self.counts.values())


# === Book ===


class Level(msgspec.Struct, frozen=True, gc=False):
    """One price of a book: `size` is its total; `offset` grows with each update of the book."""

    price: float
    size: float
    price_text: str
    size_text: str
    offset: int


class _Total(Protocol):
    @property
    def size(self) -> Any: ...
    @property
    def offset(self) -> int: ...


class _PlainTotal(msgspec.Struct, frozen=True, gc=False):
    size: Any
    offset: int


_N = TypeVar("_N", int, float, Decimal)


def uncross(
    bids: Mapping[_N, tuple[_N, int]], asks: Mapping[_N, tuple[_N, int]]
) -> tuple[list[tuple[_N, _N, int]], list[tuple[_N, _N, int]]]:
    """Return both sides as (price, size, offset), best first, without empty or crossed levels.

    While the best bid is at or above the best ask, the older offset goes; at the same offset
    the smaller size goes, and at the same size the bid.

    >>> uncross({101: (1, 3), 99: (2, 1)}, {100: (5, 4)})
    ([(99, 2, 1)], [(100, 5, 4)])
    """
    bid_totals = {price: _PlainTotal(*total) for price, total in bids.items() if total[0]}
    ask_totals = {price: _PlainTotal(*total) for price, total in asks.items() if total[0]}
    bid_prices, ask_prices = sorted(bid_totals), sorted(ask_totals)
    hidden_bids, hidden_asks = _crossing(bid_prices, ask_prices, bid_totals, ask_totals)
    shown_bids = bid_prices[: len(bid_prices) - hidden_bids][::-1]
    return (
        [(price, bid_totals[price].size, bid_totals[price].offset) for price in shown_bids],
        [
            (price, ask_totals[price].size, ask_totals[price].offset)
            for price in ask_prices[hidden_asks:]
        ],
    )


def _crossing(
    bid_prices: Sequence[_N],
    ask_prices: Sequence[_N],
    bids: Mapping[_N, _Total],
    asks: Mapping[_N, _Total],
) -> tuple[int, int]:
    # Only the best of a side is ever dropped, so what is hidden is a prefix of each side.
    hidden_bids = hidden_asks = 0
    while hidden_bids < len(bid_prices) and hidden_asks < len(ask_prices):
        bid_price, ask_price = bid_prices[-1 - hidden_bids], ask_prices[hidden_asks]
        if bid_price < ask_price:
            break
        bid, ask = bids[bid_price], asks[ask_price]
        if (bid.offset, bid.size) <= (ask.offset, ask.size):
            hidden_bids += 1
        else:
            hidden_asks += 1
    return hidden_bids, hidden_asks


class Book:
    """One market's order book: what the venue said, shown uncrossed.

    `known` is False before the first snapshot and, after a lost frame, until the next one;
    an unknown book is empty. `crossed` counts the levels that uncrossing hides.
    """

    __slots__ = (
        "_ask_prices", "_ask_sum", "_asks", "_bid_prices", "_bid_sum", "_bids",
        "_hidden_ask_sum", "_hidden_asks", "_hidden_bid_sum", "_hidden_bids", "_prices",
        "at", "best_ask", "best_bid", "known", "link", "mid_price", "offset", "seq",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seq = 0
        self.at = 0
        self.link = ""
        self.offset = 0
        self.best_bid: Level | None = None
        self.best_ask: Level | None = None
        self.mid_price: float | None = None
        self._prices: dict[str, float] = {}
        self.forget()

    def forget(self) -> None:
        """Become unknown: something was lost, and a snapshot alone can mend it."""
        self.known = False
        self._bids: dict[float, Level] = {}
        self._asks: dict[float, Level] = {}
        self._bid_prices: list[float] = []
        self._ask_prices: list[float] = []
        self._bid_sum = self._ask_sum = 0.0
        self._settle()

    def replace(self, snapshot: BookContents) -> list[str]:
        """Take a snapshot for the whole book; return what was wrong with its levels."""
        self.forget()
        self.known = True
        return self.update([snapshot])

    def update(self, updates: Iterable[BookContents]) -> list[str]:
        """Take new level totals, oldest first; return what was wrong with any of them."""
        faults: list[str] = []
        for update in updates:
            self.offset += 1
            if update.bids:
                self._bid_sum += self._set(update.bids, self._bids, self._bid_prices, faults)
            if update.asks:
                self._ask_sum += self._set(update.asks, self._asks, self._ask_prices, faults)
        self._settle()
        return faults

    def bids(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed bids, best first, at most `count`."""
        end = len(self._bid_prices) - self._hidden_bids
        start = 0 if count is None else max(0, end - count)
        levels = self._bids
        return [levels[price] for price in self._bid_prices[start:end][::-1]]

    def asks(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed asks, best first, at most `count`."""
        start = self._hidden_asks
        end = None if count is None else start + max(0, count)
        levels = self._asks
        return [levels[price] for price in self._ask_prices[start:end]]

    @property
    def spread_bps(self) -> float | None:
        """Return the spread in hundredths of a percent of the mid price."""
        if self.mid_price is None or self.best_bid is None or self.best_ask is None:
            return None
        return (self.best_ask.price - self.best_bid.price) / self.mid_price * 10_000

    @property
    def bid_total(self) -> float:
        """Return the size of all uncrossed bids, in base units."""
        return max(0.0, self._bid_sum - self._hidden_bid_sum)

    @property
    def ask_total(self) -> float:
        """Return the size of all uncrossed asks, in base units."""
        return max(0.0, self._ask_sum - self._hidden_ask_sum)

    @property
    def crossed(self) -> int:
        """Return how many levels are hidden because they cross."""
        return self._hidden_bids + self._hidden_asks

    def _set(
        self,
        totals: Iterable[tuple[str, str]],
        levels: dict[float, Level],
        prices: list[float],
        faults: list[str],
    ) -> float:
        # The hottest loop of the house: everything it touches is local.
        known_prices, offset, added = self._prices, self.offset, 0.0
        for price_text, size_text in totals:
            try:
                price = known_prices.get(price_text, 0.0) or self._price(price_text)
                size = 0.0 if size_text == "0" else float(size_text)
                if not 0.0 <= size < math.inf or "_" in size_text:
                    raise ValueError(f"expected a size of 0 or more, got {size_text[:40]!r}")
            except ValueError as error:
                faults.append(str(error))
                continue
            old = levels.get(price)
            if size:
                levels[price] = Level(price, size, price_text, size_text, offset)
                if old is None:
                    insort(prices, price)
                    added += size
                else:
                    added += size - old.size
            elif old is not None:
                del levels[price]
                del prices[bisect_left(prices, price)]
                added -= old.size
        return added

    def _price(self, text: str) -> float:
        price = _positive(text)
        if len(self._prices) >= 16_384:
            self._prices.clear()
        self._prices[text] = price
        return price

    def _settle(self) -> None:
        bid_prices, ask_prices = self._bid_prices, self._ask_prices
        if not self.offset % 4096:
            # Sums kept by difference drift; now and then they are taken afresh.
            self._bid_sum = math.fsum(level.size for level in self._bids.values())
            self._ask_sum = math.fsum(level.size for level in self._asks.values())
        if bid_prices and ask_prices and bid_prices[-1] < ask_prices[0]:
            self._hidden_bids = self._hidden_asks = 0
            self._hidden_bid_sum = self._hidden_ask_sum = 0.0
            self.best_bid = self._bids[bid_prices[-1]]
            self.best_ask = self._asks[ask_prices[0]]
            self.mid_price = (bid_prices[-1] + ask_prices[0]) / 2
            return
        self._uncross()

    def _uncross(self) -> None:
        bid_prices, ask_prices = self._bid_prices, self._ask_prices
        bids, asks = self._bids, self._asks
        hidden_bids, hidden_asks = _crossing(bid_prices, ask_prices, bids, asks)
        self._hidden_bids, self._hidden_asks = hidden_bids, hidden_asks
        first = len(bid_prices) - hidden_bids
        self._hidden_bid_sum = sum(bids[price].size for price in bid_prices[first:])
        self._hidden_ask_sum = sum(asks[price].size for price in ask_prices[:hidden_asks])
        self.best_bid = bids[bid_prices[first - 1]] if first else None
        whole = hidden_asks < len(ask_prices)
        self.best_ask = asks[ask_prices[hidden_asks]] if whole else None
        both = first and whole
        self.mid_price = (bid_prices[first - 1] + ask_prices[hidden_asks]) / 2 if both else None


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


class Flow:
    """Who took what: volumes in base units and USDC, of the last 60 s and in total.

    The window moves in whole seconds of the venue's time.
    """

    __slots__ = (
        "_seconds", "buy_volume", "sell_volume", "total_buy_volume", "total_sell_volume",
        "total_trades", "total_usd", "trades", "usd",
    )  # fmt: skip

    def __init__(self) -> None:
        self.buy_volume = self.sell_volume = self.usd = 0.0
        self.trades = 0
        self.total_buy_volume = self.total_sell_volume = self.total_usd = 0.0
        self.total_trades = 0
        # One row per second with trades: [second, buys, sells, usd, trades]
        self._seconds: deque[list[float]] = deque()

    def add(self, trade: Trade) -> None:
        """Count one trade; one older than the window counts in the totals alone."""
        usd = trade.price * trade.size
        buys, sells = (trade.size, 0.0) if trade.side == "BUY" else (0.0, trade.size)
        self.total_buy_volume += buys
        self.total_sell_volume += sells
        self.total_usd += usd
        self.total_trades += 1
        second = trade.at_ns // _SECOND
        rows = self._seconds
        if rows and rows[-1][0] > second:
            row = next((row for row in rows if row[0] == second), None)
            if row is None:
                return
        elif rows and rows[-1][0] == second:
            row = rows[-1]
        else:
            row = [second, 0.0, 0.0, 0.0, 0]
            rows.append(row)
        row[1] += buys
        row[2] += sells
        row[3] += usd
        row[4] += 1
        self.buy_volume += buys
        self.sell_volume += sells
        self.usd += usd
        self.trades += 1
        self.roll(trade.at_ns)

    def roll(self, now_ns: int) -> None:
        """Let go of what is older than 60 s at `now_ns`."""
        last = now_ns // _SECOND - 60
        rows = self._seconds
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
    def due_ns(self) -> int | None:
        """Return when the window next loses a second, in venue time."""
        return (int(self._seconds[0][0]) + 60) * _SECOND if self._seconds else None


# === Candles ===


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


RESOLUTIONS: Final[Mapping[str, int]] = {
    "1MIN": _MINUTE,
    "5MINS": 5 * _MINUTE,
    "15MINS": 15 * _MINUTE,
    "30MINS": 30 * _MINUTE,
    "1HOUR": 60 * _MINUTE,
    "4HOURS": 240 * _MINUTE,
    "1DAY": 1440 * _MINUTE,
}


class Candles:
    """A market's newest candles of one resolution, oldest first; a ring of fixed size.

    Made from trades until the wire sends candles of this resolution; from then on the wire's
    (`wire` is True). A period without trades is flat at the last close, as on the venue.
    """

    __slots__ = (
        "_close", "_head", "_high", "_low", "_open", "_starts", "_trades", "_usd",
        "_volume", "capacity", "period_ns", "started_at", "wire",
    )  # fmt: skip

    def __init__(self, period_ns: int, capacity: int = 240) -> None:
        self.period_ns = period_ns
        self.capacity = capacity
        self.wire = False
        self._clear()

    def _clear(self) -> None:
        self.started_at = 0
        self._head = -1
        self._starts, self._trades = array("q"), array("q")
        self._open, self._high, self._low, self._close = (array("d") for _ in range(4))
        self._volume, self._usd = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Candle:
        count = len(self._starts)
        if not -count <= index < count:
            raise IndexError(f"expected an index within {count} candles, got {index}")
        at = self._at(count - 1 - index if index >= 0 else -1 - index)
        return Candle(
            self._starts[at], self._open[at], self._high[at], self._low[at], self._close[at],
            self._volume[at], self._usd[at], self._trades[at],
        )  # fmt: skip

    def __iter__(self) -> Iterator[Candle]:
        return (self[index] for index in range(len(self)))

    @property
    def last(self) -> Candle | None:
        """Return the candle that is still growing."""
        return self[-1] if self._starts else None

    def closes(self, count: int | None = None) -> list[float]:
        """Return the newest closes, oldest first."""
        size = len(self._starts)
        newest = size if count is None else min(count, size)
        return [self._close[self._at(age)] for age in range(newest - 1, -1, -1)]

    def add(self, at_ns: int, price: float, size: float) -> None:
        """Count one trade; one that is late goes to its own candle, if that is still kept."""
        start = at_ns - at_ns % self.period_ns
        if start > self.started_at or self._head < 0:
            self.roll(start - self.period_ns)
            self._append(start, price)
        age = (self.started_at - start) // self.period_ns
        if age >= len(self._starts):
            return
        at = self._at(age)
        if not self._trades[at]:
            self._flatten(at, price)
        elif price > self._high[at]:
            self._high[at] = price
        elif price < self._low[at]:
            self._low[at] = price
        self._close[at] = price
        self._volume[at] += size
        self._usd[at] += price * size
        self._trades[at] += 1
        while age and not self._trades[self._at(age - 1)]:
            age -= 1
            self._flatten(self._at(age), price)

    def put(self, candle: Candle) -> None:
        """Take a candle from the wire, new or again; the first one ends counting trades."""
        if not self.wire:
            self._clear()
            self.wire = True
        start = candle.started_at - candle.started_at % self.period_ns
        if start > self.started_at or self._head < 0:
            self.roll(start - self.period_ns)
            self._append(start, candle.open)
        age = (self.started_at - start) // self.period_ns
        if age >= len(self._starts):
            return
        at = self._at(age)
        self._open[at], self._high[at] = candle.open, candle.high
        self._low[at], self._close[at] = candle.low, candle.close
        self._volume[at], self._usd[at] = candle.volume, candle.usd_volume
        self._trades[at] = candle.trades

    def roll(self, now_ns: int) -> None:
        """Write a flat candle for each period that began until `now_ns` without a trade."""
        if self._head < 0:
            return
        start = now_ns - now_ns % self.period_ns
        # A silence longer than the ring overwrites all of it, once.
        self.started_at = max(self.started_at, start - self.capacity * self.period_ns)
        close = self._close[self._head]
        while self.started_at < start:
            self._append(self.started_at + self.period_ns, close)

    def _at(self, age: int) -> int:
        return (self._head - age) % len(self._starts)

    def _append(self, start: int, price: float) -> None:
        self.started_at = start
        if len(self._starts) < self.capacity:
            for column in (self._starts, self._trades):
                column.append(0)
            for prices in (self._open, self._high, self._low, self._close):
                prices.append(0.0)
            for volumes in (self._volume, self._usd):
                volumes.append(0.0)
        self._head = at = (self._head + 1) % self.capacity
        self._starts[at] = start
        self._volume[at] = self._usd[at] = 0.0
        self._trades[at] = 0
        self._flatten(at, price)

    def _flatten(self, at: int, price: float) -> None:
        self._open[at] = self._high[at] = self._low[at] = self._close[at] = price


# === Views ===


class Oracle:
    """The price the chain calculates with: `digits` · 10^`exponent` USDC, exactly `text`."""

    __slots__ = ("_exact", "at", "price", "seq", "text")

    def __init__(self, text: str, at: int, seq: int) -> None:
        self.price = _positive(text)
        self.text = text
        self.at = at
        self.seq = seq
        self._exact: tuple[int, int] | None = None

    # Sixty oracle prices come with one frame, and the exact form of few is asked for.
    @property
    def digits(self) -> int:
        """Return the exact price's integer."""
        return self._split()[0]

    @property
    def exponent(self) -> int:
        """Return the exact price's power of ten."""
        return self._split()[1]

    def _split(self) -> tuple[int, int]:
        if self._exact is None:
            self._exact = exact(self.text)
        return self._exact


class Funding(msgspec.Struct, frozen=True, gc=False):
    """The rate that the hour in progress is heading for; hourly; longs pay when positive."""

    next_rate_1h: float = 0.0
    next_rate_text: str = ""
    at: int = 0
    seq: int = 0

    @property
    def known(self) -> bool:
        """Return whether the venue has said a rate: the 0 of an unsaid one is no rate."""
        return self.next_rate_text != ""


class Chain:
    """The newest block; `skew_ns` is block time less receive time."""

    __slots__ = ("height", "seq", "skew_ns", "time_ns")

    def __init__(self) -> None:
        self.height = 0
        self.time_ns = 0
        self.seq = 0
        self.skew_ns = 0


class MarketView:
    """Everything known of one market, current as of frame `seq`; `changed` says what is new."""

    __slots__ = (
        "_alone", "_due_ns", "_fields", "_ids", "at", "book", "candles", "chain", "changed",
        "flow", "fresh", "funding", "live_at", "market", "open_interest", "oracle", "quality",
        "seq", "status", "ticker", "trades",
    )  # fmt: skip

    def __init__(self, ticker: str, chain: Chain, resolutions: Iterable[str]) -> None:
        self.ticker = ticker
        self.seq = 0
        self.at = 0
        self.changed = ""
        self.market: PerpetualMarket | None = None
        self.status = ""
        self.open_interest: int | None = None
        self.book = Book()
        self.trades: deque[Trade] = deque(maxlen=64)
        self.fresh: list[Trade] = []
        self.candles = {name: Candles(RESOLUTIONS[name]) for name in resolutions}
        self.flow = Flow()
        self.oracle: Oracle | None = None
        self.funding = Funding()
        self.quality = Quality()
        self.chain = chain
        self.live_at = 0
        self._fields = MarketFields(ticker=ticker)
        self._ids: dict[str, None] = {}
        self._due_ns = math.inf
        # What a frame of one market puts out: made once, not once a frame.
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

    def _live(self, at: int) -> None:
        self.live_at = at
        self.quality.stale = False

    def _roll(self, now_ns: int) -> None:
        """Bring what depends on time alone, windows and empty candles, to `now_ns`."""
        self.flow.roll(now_ns)
        due = self.flow.due_ns
        ends = [math.inf if due is None else due]
        for candles in self.candles.values():
            if len(candles) and not candles.wire:
                candles.roll(now_ns)
                ends.append(candles.started_at + candles.period_ns)
        self._due_ns = min(ends)


class Link:
    """One connection's message ids: which came, which are owed, which were lost."""

    __slots__ = ("_missing", "asked", "at", "first", "last", "open", "owed", "resume", "resumed")

    def __init__(self) -> None:
        self.at = 0
        self.open = True
        self.asked = False
        self.reset(None)

    def reset(self, last: int | None) -> None:
        """Begin to count anew after `last`, or after whatever comes first."""
        self.first = self.last = last
        self.owed = 0
        self.resume = 0
        self.resumed = False
        self._missing: set[int] = set()


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
        self.frames = 0
        self.at = 0
        self.seq = 0
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

    def _view(self, ticker: str) -> MarketView | None:
        """Return the ticker's view, made on first sight; None for one that is not wanted."""
        view = self.views.get(ticker)
        if view is None:
            wanted = self._tickers is None or ticker in self._tickers
            if not wanted or not _ticker(ticker) or len(self.views) >= _MOST_MARKETS:
                return None
            view = self.views[ticker] = MarketView(ticker, self.chain, self._resolutions)
        return view


_MOST_MARKETS: Final = 2_000
_ticker = re.compile(r"[^\s/]{1,128}-USD").fullmatch


# === Folding ===


def step(state: DataState, frame: Frame) -> Sequence[MarketView]:
    """Fold one frame into `state`; return the views it touched, each once. Never raises."""
    state.frames += 1
    state.seq = frame.seq
    state.at = frame.at
    kind = frame.kind
    if kind == "ws":
        touched = _fold_message(state, frame)
    elif kind in _KINDS:
        touched = _KINDS[kind](state, frame)
    else:
        state.quality.note(frame.seq, "unknown", f"expected a known kind of frame, got {kind!r}")
        touched = ()
    if frame.at >= state._judge_at:
        return _judge(state, frame, touched)
    return touched


_Touched = Sequence[MarketView]


def _judge(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    # Once a second of event time is often enough to notice a silence of many seconds.
    state._judge_at = frame.at + _SECOND
    silent_since = frame.at - state.stale_after_ns
    gone = []
    for view in state.views.values():
        if view.live_at and view.live_at <= silent_since and not view.quality.stale:
            silence = f"no book or trade for {(frame.at - view.live_at) / _SECOND:.1f} s"
            view.quality.note(frame.seq, "stale", silence)
            view.quality.stale = True
            view.quality.stale_since = view.live_at
            if view not in touched:
                view._touch(frame, "stale")
                gone.append(view)
    return [*touched, *gone] if gone else touched


def _fold_message(state: DataState, frame: Frame) -> _Touched:
    link = state.links.get(frame.link)
    if link is None:
        link = state.links[frame.link] = Link()
    link.at = frame.at
    link.open = True
    if frame.fault:
        return _fold_fault(state, link, frame)
    if frame.type in _CONTROL:
        return _CONTROL[frame.type](state, link, frame)
    if frame.message_id - 1 == link.last:
        link.last = frame.message_id
        if link.owed and frame.type == "subscribed":
            link.owed -= 1
        lost: _Touched = ()
    else:
        admitted, lost = _admit(state, link, frame)
        if not admitted:
            return lost
    fold_channel = _CHANNELS.get(frame.channel)
    if fold_channel is None:
        if frame.channel not in _OTHERS or frame.type not in _DATA:
            what = f"type {frame.type[:40]!r} on channel {frame.channel[:40]!r}"
            state.quality.note(frame.seq, "unknown", f"expected a known message, got {what}")
        return lost
    try:
        touched = fold_channel(state, frame)
    except _UNREADABLE as error:
        touched = _fault(state, frame, frame.id.split("/")[0], error)
    return touched if not lost else [*touched, *(view for view in lost if view not in touched)]


# What decoding may raise, whatever a text says: the wire's own refusals, numbers and times out
# of range, and nesting too deep for the decoder.
_UNREADABLE = (WireError, ValueError, ArithmeticError, RecursionError)


def _fault(state: DataState, frame: Frame, ticker: str, error: Exception) -> _Touched:
    kind = "malformed" if frame.kind != "ws" or frame.type in _DATA else "unknown"
    view = state.views.get(ticker)
    if view is None:
        state.quality.note(frame.seq, kind, str(error))
        return ()
    view.quality.note(frame.seq, kind, str(error))
    if frame.channel == "v4_orderbook" and view.book.known:
        # It may have carried levels: without them the book is a guess.
        view.book.forget()
        return view._touch(frame, "book")
    return view._touch(frame, "quality")


def _fold_book(state: DataState, frame: Frame) -> _Touched:
    view = state.views.get(frame.id) or _wanted(state, frame, frame.id)
    if view is None:
        return ()
    book = view.book
    crossed = book.crossed
    if frame.type == "subscribed":
        faults = book.replace(contents(frame)[0])
    elif book.known:
        faults = book.update(contents(frame))
    else:
        view.quality.note(frame.seq, "early", "a book update without a snapshot to update")
        return ()
    book.link = frame.link
    return _book_folded(view, frame, faults, crossed)


def _book_folded(view: MarketView, frame: Frame, faults: list[str], crossed: int) -> _Touched:
    book = view.book
    book.seq = frame.seq
    book.at = frame.at
    view.live_at = frame.at
    quality = view.quality
    if quality.stale:
        quality.stale = False
    for fault in faults:
        quality.note(frame.seq, "malformed", fault)
    if book.crossed and not crossed:
        quality.note(frame.seq, "crossed", f"{book.crossed} levels hidden by uncrossing")
    return view._touch(frame, "book")


def _wanted(state: DataState, frame: Frame, ticker: str) -> MarketView | None:
    view = state._view(ticker)
    if view is None and not _ticker(ticker):
        state.quality.note(frame.seq, "malformed", f"expected a ticker, got {ticker[:40]!r}")
    return view


def _fold_trades(state: DataState, frame: Frame) -> _Touched:
    view = _wanted(state, frame, frame.id)
    return _add_trades(view, frame, contents(frame)) if view else ()


def _add_trades(view: MarketView, frame: Frame, updates: Iterable[TradesContents]) -> _Touched:
    fresh = []
    for update in updates:
        for fields in update.trades:
            if fields.id and fields.id in view._ids:
                continue
            try:
                fresh.append(_trade(view, fields, frame.seq))
            except ValueError as error:
                view.quality.note(frame.seq, "malformed", str(error))
                continue
            view._ids[fields.id] = None
    if frame.kind == "http" or frame.type == "subscribed":
        # A snapshot is newest first, and trades of one block share their time.
        fresh.reverse()
        fresh.sort(key=lambda trade: trade.at_ns)
    for trade in fresh:
        view.trades.append(trade)
        view.flow.add(trade)
        for candles in view.candles.values():
            if not candles.wire:
                candles.add(trade.at_ns, trade.price, trade.size)
    while len(view._ids) > 2_048:
        del view._ids[next(iter(view._ids))]
    view.live_at = frame.at
    view.quality.stale = False
    view._roll(frame.at + view.chain.skew_ns)
    view.fresh = fresh
    return view._touch(frame, "trades")


def _trade(view: MarketView, fields: TradeFields, seq: int) -> Trade:
    at_ns = _instant(fields.created_at)
    if view.chain.seq and at_ns > view.chain.time_ns + 60 * _MINUTE:
        raise ValueError(f"expected a trade of the past, got one of {fields.created_at[:40]}")
    return Trade(
        fields.id,
        fields.side,
        _positive(fields.price),
        _positive(fields.size),
        fields.price,
        fields.size,
        at_ns,
        fields.type,
        seq,
    )


def _fold_candles(state: DataState, frame: Frame) -> _Touched:
    ticker, _, resolution = frame.id.partition("/")
    view = _wanted(state, frame, ticker)
    return _put_candles(view, frame, resolution, contents(frame)) if view else ()


def _put_candles(
    view: MarketView, frame: Frame, resolution: str, updates: Iterable[CandlesContents]
) -> _Touched:
    for update in updates:
        for fields in reversed(update.candles):
            name = resolution or fields.resolution
            try:
                if name not in RESOLUTIONS:
                    raise ValueError(f"expected a known resolution, got {name[:40]!r}")
                candle = _candle(fields)
            except ValueError as error:
                view.quality.note(frame.seq, "malformed", str(error))
                continue
            if name not in view.candles:
                view.candles[name] = Candles(RESOLUTIONS[name])
            view.candles[name].put(candle)
    return view._touch(frame, "candles")


def _candle(fields: CandleFields) -> Candle:
    return Candle(
        _instant(fields.started_at),
        _positive(fields.open),
        _positive(fields.high),
        _positive(fields.low),
        _positive(fields.close),
        _number(fields.base_token_volume),
        _number(fields.usd_volume),
        fields.trades,
    )


def _fold_height(state: DataState, frame: Frame) -> _Touched:
    for update in contents(frame):
        _set_height(state, frame, update)
    return ()


def _set_height(state: DataState, frame: Frame, update: HeightContents) -> None:
    chain = state.chain
    height, time_ns = int(update.block_height or update.height), _instant(update.time)
    if height < chain.height:
        what = f"expected a block after {chain.height}, got {height}"
        state.quality.note(frame.seq, "out_of_order", what)
        return
    chain.height = height
    chain.time_ns = time_ns
    chain.seq = frame.seq
    chain.skew_ns = time_ns - frame.at


# === Markets ===


def _fold_markets(state: DataState, frame: Frame) -> _Touched:
    return _set_markets(state, frame, contents(frame))


def _set_markets(state: DataState, frame: Frame, updates: Iterable[MarketsContents]) -> _Touched:
    changes: dict[str, str] = {}
    for update in updates:
        for ticker, fields in update.markets.items():
            _set_market(state, frame, ticker, fields, changes)
        for ticker, fields in update.trading.items():
            _set_trading(state, frame, ticker, fields, changes)
        for ticker, oracle in update.oracle_prices.items():
            _set_oracle(state, frame, ticker, oracle, changes)
    touched = [state.views[ticker] for ticker in changes]
    for view in touched:
        view._touch(frame, changes[view.ticker])
    return touched


def _set_market(
    state: DataState, frame: Frame, ticker: str, fields: MarketFields, changes: dict[str, str]
) -> None:
    view = _wanted(state, frame, ticker)
    if view is None:
        return
    changes[ticker] = "market"
    view._fields = fields
    fields.ticker = fields.ticker or ticker
    _set_parameters(view, frame)
    _set_figures(view, frame, fields)
    text = fields.oracle_price
    try:
        # No price, and the 0 of a market that never had one, are unknown: never worth nothing.
        view.oracle = Oracle(text, frame.at, frame.seq) if text and text != "0" else None
    except ValueError as error:
        view.oracle = None
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")


def _set_trading(
    state: DataState, frame: Frame, ticker: str, fields: MarketFields, changes: dict[str, str]
) -> None:
    view = _wanted(state, frame, ticker)
    if view is None:
        return
    status, funding = view.status, view.funding
    parameters = [name for name in _PARAMETERS if getattr(fields, name) is not None]
    for name in parameters:
        setattr(view._fields, name, getattr(fields, name))
    if parameters:
        _set_parameters(view, frame)
    _set_figures(view, frame, fields)
    if status != view.status:
        changes[ticker] = "status"
    elif parameters:
        changes[ticker] = "market"
    elif ticker not in changes:
        changes[ticker] = "funding" if funding is not view.funding else "market"


_PARAMETERS: Final = (
    "id",
    "clob_pair_id",
    "initial_margin_fraction",
    "maintenance_margin_fraction",
    "atomic_resolution",
    "quantum_conversion_exponent",
    "step_base_quantums",
    "subticks_per_tick",
    "market_type",
    "open_interest_lower_cap",
    "open_interest_upper_cap",
)


def _set_parameters(view: MarketView, frame: Frame) -> None:
    try:
        market = perpetual_market(view._fields)
        if abs(market.atomic_resolution) > 40 or abs(market.quantum_conversion_exponent) > 40:
            raise ValueError(f"expected exponents within 40, got {market!r}")
        view.market = market
    except (WireError, ValueError, ArithmeticError) as error:
        view.quality.note(frame.seq, "malformed", str(error))


def _set_figures(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    """Take the figures of a market that move: status, open interest, funding."""
    if fields.status:
        view.status = fields.status
    text = fields.base_open_interest or fields.open_interest
    try:
        if text and view.market:
            _number(text)
            view.open_interest = int(Decimal(text).scaleb(-view.market.atomic_resolution))
        text = fields.next_funding_rate
        if text:
            view.funding = Funding(_number(text), text, frame.at, frame.seq)
    except (ValueError, ArithmeticError) as error:
        view.quality.note(frame.seq, "malformed", str(error))


def _set_oracle(
    state: DataState,
    frame: Frame,
    ticker: str,
    fields: OraclePriceFields,
    changes: dict[str, str],
) -> None:
    view = state.views.get(ticker) or _wanted(state, frame, ticker)
    if view is None:
        return
    try:
        view.oracle = Oracle(fields.oracle_price or fields.price or "", frame.at, frame.seq)
    except ValueError as error:
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
        changes.setdefault(ticker, "quality")
        return
    if changes.get(ticker) != "market":
        changes[ticker] = "oracle"


# === REST ===


def _fold_answer(state: DataState, frame: Frame) -> _Touched:
    path, _, query = frame.channel.partition("?")
    found = _path(path)
    if found is None:
        return ()
    if frame.type != "200":
        what = f"expected 200 from {frame.channel[:60]}, got {frame.type}: {frame.text[:60]}"
        state.quality.note(frame.seq, "refused", what)
        return ()
    try:
        return _ANSWERS[found["what"]](state, frame, found["ticker"] or "", query)
    except _UNREADABLE as error:
        return _fault(state, frame, found["ticker"] or "", error)


_path = re.compile(
    r"(?:https?://[^/]+)?/v4/(?P<what>perpetualMarkets|height|orderbooks|trades|candles)"
    r"(?:/perpetualMarkets?/(?P<ticker>[^/]+))?/?"
).fullmatch
_resolution = re.compile(r"(?:^|&)resolution=([0-9A-Z]+)").search


def _answer_book(state: DataState, frame: Frame, ticker: str, query: str) -> _Touched:
    view = _wanted(state, frame, ticker)
    # The socket's book is newer than any answer; an answer mends one that was lost.
    if view is None or (view.book.known and view.book.link):
        return ()
    crossed = view.book.crossed
    faults = view.book.replace(contents(frame)[0])
    view.book.link = ""
    return _book_folded(view, frame, faults, crossed)


def _answer_trades(state: DataState, frame: Frame, ticker: str, query: str) -> _Touched:
    view = _wanted(state, frame, ticker)
    return _add_trades(view, frame, contents(frame)) if view else ()


def _answer_candles(state: DataState, frame: Frame, ticker: str, query: str) -> _Touched:
    view = _wanted(state, frame, ticker)
    found = _resolution(query)
    resolution = found[1] if found else ""
    return _put_candles(view, frame, resolution, contents(frame)) if view else ()


_ANSWERS: dict[str, Callable[[DataState, Frame, str, str], _Touched]] = {
    "perpetualMarkets": lambda state, frame, ticker, query: _fold_markets(state, frame),
    "height": lambda state, frame, ticker, query: _fold_height(state, frame),
    "orderbooks": _answer_book,
    "trades": _answer_trades,
    "candles": _answer_candles,
}


# === Links ===
# message_id counts over a whole connection: each request and each data message takes one. A
# snapshot carries the id of its request and may come late, so a hole is a loss only if nothing
# that was asked for is still owed. Errors and pongs repeat the current id.


def _admit(state: DataState, link: Link, frame: Frame) -> tuple[bool, _Touched]:
    """Judge an id that is not the next one; say if the frame counts, and which books it cost."""
    number, last = frame.message_id, link.last
    if not number:
        return True, ()  # not numbered: nothing to judge
    if number < 0 or (last is not None and number > last + _WIDEST):
        what = f"expected a message_id near {last}, got {number}"
        state.quality.note(frame.seq, "malformed", what)
        return False, ()
    if last is None:
        link.first = link.last = number
        return True, ()
    if number > last:
        return True, _hole(state, link, frame)
    return _late(state, link, frame)


_WIDEST: Final = 4_096


def _hole(state: DataState, link: Link, frame: Frame) -> _Touched:
    number, last = frame.message_id, link.last or 0
    holes = range(last + 1, number)
    link._missing.update(holes)
    link.last = number
    if frame.type == "subscribed":
        link.owed = max(0, link.owed - 1)
    explained = min(link.owed, len(holes))
    link.owed -= explained
    if explained == len(holes) or (frame.type == "subscribed" and not link.asked):
        return ()
    link.resume, link.resumed = last + 1, False
    what = f"expected message_id {last + 1} on {frame.link}, got {number}"
    state.quality.note(frame.seq, "gap", what)
    return _lose_books(state, frame, frame.link)


def _late(state: DataState, link: Link, frame: Frame) -> tuple[bool, _Touched]:
    number, last = frame.message_id, link.last or 0
    before = number < (link.first or 0)
    if frame.type == "subscribed" and (number in link._missing or before):
        link._missing.discard(number)
        return True, ()
    if number not in link._missing:
        what = f"message_id {number} again, after {last}"
        state.quality.note(frame.seq, "duplicate", what)
        return False, ()
    link._missing.discard(number)
    what = f"message_id {number} after {last} on {frame.channel}"
    state.quality.note(frame.seq, "out_of_order", what)
    lost = _lose_books(state, frame, frame.link)
    if number != link.resume:
        link.resume = 0
    elif link.resumed:
        # Two in a row that go on where the count was left: it was the jump that was wrong.
        link.last = number
        link._missing.clear()
    else:
        link.resume, link.resumed = number + 1, True
    # Its levels are older than the book; a trade keeps its place by its own time.
    return frame.channel == "v4_trades", lost


def _lose_books(state: DataState, frame: Frame, link: str) -> _Touched:
    """Make the books of a link unknown, of all links if it has no name."""
    lost = []
    for view in state.views.values():
        if view.book.known and (not link or view.book.link == link):
            view.book.forget()
            lost.append(view)
            view._touch(frame, "book")
    return lost


def _fold_fault(state: DataState, link: Link, frame: Frame) -> _Touched:
    """Count an unreadable message; if its head can be read, only its own market suffers."""
    head = frame.text[:400]
    number, channel, id_ = _message_id(head), _channel(head), _id(head)
    if number is None or channel is None or int(number[1]) - 1 != link.last:
        # If it took an id, the next message shows the hole.
        state.quality.note(frame.seq, "malformed", frame.fault)
        return ()
    link.last = int(number[1])
    view = state.views.get(id_[1].partition("/")[0]) if id_ else None
    if view is None:
        state.quality.note(frame.seq, "malformed", frame.fault)
        return ()
    view.quality.note(frame.seq, "malformed", frame.fault)
    if channel[1] != "v4_orderbook" or not view.book.known:
        return view._touch(frame, "quality")
    view.book.forget()
    return view._touch(frame, "book")


_message_id = re.compile(r'"message_id"\s*:\s*([0-9]{1,15})\s*[,}]', re.ASCII).search
_channel = re.compile(r'"channel"\s*:\s*"(v4_[a-z_]+)"').search
_id = re.compile(r'"id"\s*:\s*"([^"]{1,140})"').search


def _fold_connected(state: DataState, link: Link, frame: Frame) -> _Touched:
    link.reset(frame.message_id)
    return _lose_books(state, frame, frame.link)


def _fold_error(state: DataState, link: Link, frame: Frame) -> _Touched:
    state.quality.note(frame.seq, "refused", frame.text)
    return ()


def _fold_unsubscribed(state: DataState, link: Link, frame: Frame) -> _Touched:
    lost: _Touched = ()
    if frame.message_id - 1 == link.last:
        link.last = frame.message_id
    else:
        admitted, lost = _admit(state, link, frame)
        if not admitted:
            return lost
    view = state.views.get(frame.id)
    if frame.channel != "v4_orderbook" or view is None or not view.book.known:
        return lost
    view.book.forget()
    return [*lost, *view._touch(frame, "book")]


def _fold_pong(state: DataState, link: Link, frame: Frame) -> _Touched:
    return ()


def _fold_open(state: DataState, frame: Frame) -> _Touched:
    link = state.links.setdefault(frame.link, Link())
    link.open = True
    link.at = frame.at
    link.asked = False
    link.reset(None)
    return _lose_books(state, frame, frame.link) if frame.link else ()


def _fold_close(state: DataState, frame: Frame) -> _Touched:
    link = state.links.setdefault(frame.link, Link())
    link.open = False
    link.at = frame.at
    link.reset(None)
    return _lose_books(state, frame, frame.link)


def _fold_gap(state: DataState, frame: Frame) -> _Touched:
    state.quality.note(frame.seq, "gap", frame.text or frame.fault or "frames lost")
    for name, link in state.links.items():
        if not frame.link or name == frame.link:
            link.reset(None)
    return _lose_books(state, frame, frame.link)


def _fold_sent(state: DataState, frame: Frame) -> _Touched:
    try:
        request = _request(frame.text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ()
    if request.type == "subscribe":
        link = state.links.setdefault(frame.link, Link())
        link.asked = True
        link.owed += 1
    return ()


def _fold_tick(state: DataState, frame: Frame) -> _Touched:
    return ()


class _Request(msgspec.Struct, gc=False):
    type: str


_request = msgspec.json.Decoder(_Request).decode

_CHANNELS: dict[str, Callable[[DataState, Frame], _Touched]] = {
    "v4_orderbook": _fold_book,
    "v4_trades": _fold_trades,
    "v4_candles": _fold_candles,
    "v4_markets": _fold_markets,
    "v4_block_height": _fold_height,
}
_OTHERS: Final = frozenset(["v4_subaccounts", "v4_parent_subaccounts"])
_DATA: Final = frozenset(["subscribed", "channel_data", "channel_batch_data"])
_CONTROL: dict[str, Callable[[DataState, Link, Frame], _Touched]] = {
    "connected": _fold_connected,
    "unsubscribed": _fold_unsubscribed,
    "error": _fold_error,
    "pong": _fold_pong,
}
_KINDS: dict[str, Callable[[DataState, Frame], _Touched]] = {
    "http": _fold_answer,
    "open": _fold_open,
    "close": _fold_close,
    "gap": _fold_gap,
    "sent": _fold_sent,
    "tick": _fold_tick,
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
