"""Market views: what the frames report of each market, folded once, always current.

    Frame ──► market_views ──► MarketView   book · trades · candles · flow · oracle · quality

`market_views` emits the same `MarketView` object per ticker, updated in place, once per frame
and market it touched; `step` is the whole fold, pure but for the `DataState` it is given.
`Book` stores the levels received and shows them uncrossed (`uncross` is that rule alone);
`Candles` and `Flow` grow with each trade; `Quality` counts and samples whatever was wrong, lost
messages too, which the `Continuity` of each link finds. `objections` lists what stands against a
market, and `stopping` what of it stops an entry, an exit, the guard or a match. `premium_vote`,
`premium_sample` and `funding_rate` are the chain's way from a book to an hour's funding rate.

Where to make a change:

    Quality                         kinds of trouble, and when a market counts as stale
    Book, Trades, Candles           what a market stores, each usable on its own; the table of
                                    resolutions (which of them: `DataState`, as the bot makes it)
    Funding rates                   the chain's arithmetic; no state
    Views                           `MarketView`, `DataState` and their parts
    Objections                      what stops an entry, an exit, the guard or a match
    Folding                         what readers of all channels share
    Books, Tapes, Markets, Links    one reader a channel or kind of frame
    Frames                          `step`: which frame goes to which reader; clocks, silence
    Streams                         `market_views`, the operator around `step`

Units: `at` and `*_ns` are nanoseconds UTC, prices are USDC per base unit, sizes base units,
`open_interest` is base quantums. Floats are for opinions; where money moves, take the exact
texts beside them. Event time is the frames' own `at`, less what the wall clock jumped by while
`mono` went on: nothing here reads a clock. A bad frame is counted, never raised. Views change in
place: copy a figure that is needed after its frame.

Sources: indexer socks and comlink (message ids, snapshots, level totals), v4-web
calculators/orderbook.ts and watch-orderbook.mdx (uncrossing).
"""

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from dydx_conn import (
    CHANNELS,
    BookContents,
    CandleFields,
    ConnError,
    Continuity,
    ErrorsContents,
    Frame,
    MarketFields,
    OddRow,
    PerpetualMarket,
    TradeFields,
    contents,
    exact,
    fill_to_quote,
    fold,
    instant,
    key_of,
    odd_rows,
    perpetual_market,
    takes,
)
from reactivex import Observable

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "DataError",
    # Quality
    "STALE_NS", "Quality", "Sample",
    # Book
    "Book", "Level", "uncross",
    # Trades
    "Flow", "Trade",
    # Candles
    "RESOLUTIONS", "Candle", "CandleState", "Candles",
    # Funding rates
    "FundingTerms", "funding_clamp_ppm", "funding_rate", "impact_subticks", "indexer_next_rate",
    "oracle_subticks", "premium_sample", "premium_vote", "remove_tails",
    # Views
    "Chain", "DataState", "FundingRate", "MarketView", "Oracle",
    # Objections
    "Act", "Objection", "ObjectionKind", "objections", "silence", "stopping",
    # Frames
    "step",
    # Streams
    "ClosedCandle", "candles", "market_views",
]
# fmt: on

# === Errors ===

# What a caller may not hand in. Whatever comes by the wire is counted instead (`Quality`).


class DataError(Exception):
    """Impossible figures from a caller; a bad frame is counted, never raised."""


# === Numbers ===

_RECENT_NS: Final = 1_500_000_000  # what the socket reported in this time, an answer may lack
_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND


def _number(text: str) -> float:
    """Read decimal text; `ValueError` unless it is one finite number."""
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"expected a finite number, got {text[:40]!r}")


def _positive(text: str) -> float:
    if (number := _number(text)) > 0.0:
        return number
    raise ValueError(f"expected a number above 0, got {text[:40]!r}")


def _floor(digits: int, power: int) -> int:
    return digits * _TENS[power] if power >= 0 else digits // _TENS[-power]


def _nearest(digits: int, power: int) -> int:
    return digits * _TENS[power] if power >= 0 else (2 * digits // _TENS[-power] + 1) // 2


def _price(text: str, places: int) -> int:
    """Read a price in units of its last decimal place; what lies between is of the nearest."""
    if (price := _near(float(text), places)) is None:
        digits, power = exact(text)
        price = _nearest(digits, power + places)
    if 0 < price <= _MOST:
        return price
    raise ValueError(f"expected a price above 0 and within 63 bits, got {text[:40]!r}")


def _size(text: str, lots: int) -> int:
    """Read a size in units of its last decimal place; `ValueError` if it has more."""
    if (size := _near(float(text), lots)) is None:
        digits, power = exact(text)
        size = _floor(digits, power + lots)
        size = size if _floor(size, -power - lots) == digits else -1
    if 0 <= size <= _MOST:
        return size
    raise ValueError(f"expected a size in whole quantums, got {text[:40]!r}")


def _near(number: float, places: int) -> int | None:
    # Five times faster than to read the digits, and where floats cannot be wrong the same.
    product = number * _SCALES[places] if places >= 0 else number / _SCALES[-places]
    if abs(product) < _SURE and abs(product - (units := round(product))) < 0.01:
        return units
    return None


_SCALES: Final[Sequence[float]] = [10.0**places for places in range(50)]
_SURE: Final = 2.0**44  # up to here two roundings are wrong by less than 0.01
_TENS: Final[Sequence[int]] = [10**power for power in range(300)]  # beyond what `exact` reads
_MOST: Final = 2**63 - 1  # what a packed figure can be; who sends more is no venue


# === Quality ===
# What was wrong with frames, counted by kind. A new kind of trouble is a new word to `note`.

# Older data are not believed, unless the caller has a limit of its own.
STALE_NS: Final = 30 * _SECOND


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One trouble: the frame that carried it, its kind, and what was wrong."""

    seq: int
    kind: str
    text: str


@dataclass(slots=True, eq=False)
class Quality:
    """What was wrong with the frames of one market, or of none: counts and the last samples.

    Kinds: malformed, unknown, refused (the venue's errors), duplicate, out_of_order, gap,
    early (book updates without a snapshot), crossed, stale, clock (it was set).
    """

    counts: Counter[str] = field(default_factory=Counter)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=16))
    stale: bool = False

    def note(self, seq: int, kind: str, text: str) -> None:
        """Count one trouble and keep a sample of it."""
        self.counts[kind] += 1
        self.samples.append(Sample(seq, kind, text if len(text) <= 120 else text[:117] + "..."))


# === Book ===
# Levels in, best prices out. Which frames reach a book, and when it is forgotten, is in Books.


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
    # The best come last, where a list is cheap to shorten.
    best_bids = sorted((price, size, at) for price, (size, at) in bids.items() if size)
    best_asks = sorted((price, size, at) for price, (size, at) in asks.items() if size)[::-1]
    while best_bids and best_asks and best_bids[-1][0] >= best_asks[-1][0]:
        (_, bid_size, bid_offset), (_, ask_size, ask_offset) = best_bids[-1], best_asks[-1]
        bid_goes = (bid_offset, bid_size) <= (ask_offset, ask_size)
        (best_bids if bid_goes else best_asks).pop()
    return best_bids[::-1], best_asks[::-1]


@dataclass(slots=True, eq=False)
class _Side:
    """One side of a book as received; the best `hidden` levels are not shown."""

    levels: dict[float, Level] = field(default_factory=dict)
    prices: list[float] = field(default_factory=list)  # ascending
    hidden: int = 0
    size: float = 0.0  # of all levels

    def put(self, totals: Iterable[tuple[str, str]], offset: int, faults: list[str]) -> None:
        # The hottest loop of all layers: names are local, and no object is made twice.
        levels, prices, total, infinite = self.levels, self.prices, self.size, math.inf
        for price_text, size_text in totals:
            try:
                price, size = float(price_text), float(size_text)
            except ValueError:
                price = size = math.nan
            if not (0.0 < price < infinite and 0.0 <= size < infinite):
                got = f"{price_text[:40]!r}, {size_text[:40]!r}"
                faults.append(f"expected a price above 0 and a size of 0 or more, got {got}")
            elif size:
                old = levels.get(price)
                if old is None:
                    insort(prices, price)
                total += size if old is None else size - old.size
                levels[price] = Level(price, size, price_text, size_text, offset)
            elif old := levels.pop(price, None):
                total -= old.size
                del prices[bisect_left(prices, price)]
        # A total updated by differences drifts; now and then it is summed up again.
        self.size = total if offset & 4095 else math.fsum(x.size for x in levels.values())

    def differs(
        self, answer: dict[float, tuple[str, str]], recent: set[float], low: float, high: float
    ) -> Iterator[tuple[str, str]]:
        """Yield an answer's other totals, and 0 for a level that it lacks between `low` and `high`.

        Prices in `recent` are left out: there the socket is newer.
        """
        for price, total in answer.items():
            known = self.levels.get(price)
            if price not in recent and (known is None or known.size != float(total[1])):
                yield total
        for price in self.prices[bisect_right(self.prices, low) : bisect_left(self.prices, high)]:
            if price not in recent and price not in answer:
                yield self.levels[price].price_text, "0"

    def shown_size(self, hidden: Iterable[float]) -> float:
        return max(0.0, self.size - math.fsum(self.levels[price].size for price in hidden))


_ANSWER_LEVELS: Final = 100  # most levels a side in an answer


class Book:
    """One market's order book: the levels received, shown uncrossed.

    `known` is False before the first snapshot and, after a lost frame, until the next one;
    an unknown book is empty. `crossed` counts the levels that uncrossing hides.
    """

    __slots__ = (
        "_asks", "_bids", "_recent", "at", "best_ask", "best_bid", "crossed", "known", "link",
        "mid_price", "offset", "seq", "whole_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seq = self.at = self.offset = self.whole_at = 0
        self.link = ""
        self._recent: deque[tuple[int, list[BookContents]]] = deque()
        self.forget()

    def forget(self) -> None:
        """Become unknown: something was lost, and a snapshot alone can mend it."""
        self.known = False
        self.best_bid: Level | None = None
        self.best_ask: Level | None = None
        self.mid_price: float | None = None
        self.crossed = 0
        self._bids, self._asks = _Side(), _Side()

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

    def remember(self, at: int, updates: list[BookContents]) -> None:
        """Remember the socket's updates for 1.5 s: an answer may be older."""
        recent = self._recent
        recent.append((at, updates))
        while recent[0][0] <= at - _RECENT_NS:
            recent.popleft()

    def differs(self, answer: BookContents, at: int) -> BookContents:
        """Return how an answer, which came `at`, differs from the book, as an update of it.

        What the socket updated in the last 1.5 s stands, and so does what an answer never shows:
        what is worse than its 100 levels, and what it has uncrossed.
        """
        if at - self.whole_at < _RECENT_NS or not (answer.bids or answer.asks):
            return BookContents()
        since = [x for came_at, xs in self._recent if came_at > at - _RECENT_NS for x in xs]
        bids, asks = ({float(x[0]): x for x in side} for side in (answer.bids, answer.asks))
        worst_bid = min(bids) if len(bids) >= _ANSWER_LEVELS else 0.0
        worst_ask = max(asks) if len(asks) >= _ANSWER_LEVELS else math.inf
        best_bid, best_ask = max(bids, default=0.0), min(asks, default=math.inf)
        recent_bids = {float(price) for x in since for price, _ in x.bids}
        recent_asks = {float(price) for x in since for price, _ in x.asks}
        return BookContents(
            bids=[*self._bids.differs(bids, recent_bids, worst_bid, best_ask)],
            asks=[*self._asks.differs(asks, recent_asks, best_bid, worst_ask)],
        )

    def _uncross(self) -> None:
        bids, asks = self._bids, self._asks
        bid, ask = len(bids.prices) - 1, 0
        while bid >= 0 and ask < len(asks.prices) and bids.prices[bid] >= asks.prices[ask]:
            high, low = bids.levels[bids.prices[bid]], asks.levels[asks.prices[ask]]
            if (high.offset, high.size) <= (low.offset, low.size):  # as `uncross` does
                bid -= 1
            else:
                ask += 1
        bids.hidden, asks.hidden = len(bids.prices) - 1 - bid, ask
        self.crossed = bids.hidden + asks.hidden
        self.best_bid = bids.levels[bids.prices[bid]] if bid >= 0 else None
        self.best_ask = asks.levels[asks.prices[ask]] if ask < len(asks.prices) else None
        self.mid_price = None
        if self.best_bid is not None and self.best_ask is not None:
            self.mid_price = (self.best_bid.price + self.best_ask.price) / 2

    def bids(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed bids, best first, at most `count`."""
        levels, prices = self._bids.levels, self._bids.prices
        end = len(prices) - self._bids.hidden
        start = 0 if count is None else max(0, end - count)
        return list(map(levels.__getitem__, prices[start:end][::-1]))

    def asks(self, count: int | None = None) -> list[Level]:
        """Return the uncrossed asks, best first, at most `count`."""
        levels, prices, start = self._asks.levels, self._asks.prices, self._asks.hidden
        end = None if count is None else start + max(0, count)
        return list(map(levels.__getitem__, prices[start:end]))

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
        prices = self._bids.prices
        return self._bids.shown_size(prices[len(prices) - self._bids.hidden :])

    @property
    def ask_total(self) -> float:
        """Return the size of all uncrossed asks, in base units."""
        return self._asks.shown_size(self._asks.prices[: self._asks.hidden])


# === Trades ===
# One trade, and the flow of a minute. Wire text becomes a `Trade` in Tapes.


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade of the tape; `side` is the taker's, `at_ns` when the venue made it.

    `event` is its id as a number: a later trade has a larger one.
    """

    id: str
    side: str
    price: float
    size: float
    price_text: str
    size_text: str
    at_ns: int
    type: str
    seq: int
    event: int = 0


@dataclass(slots=True, eq=False)
class Flow:
    """Who took what in the last 60 s; the window moves in whole seconds of the venue's time."""

    # One row per second with trades, oldest first: second, buys, sells, usd, trades.
    _seconds: deque[list[float]] = field(default_factory=deque)

    def add(self, trade: Trade) -> None:
        """Count one trade: a late one in the newest second, one older than 60 s not."""
        rows, second = self._seconds, trade.at_ns // _SECOND
        if not rows or second > rows[-1][0]:
            self.roll(trade.at_ns)
            rows.append([second, 0.0, 0.0, 0.0, 0])
        elif second <= rows[-1][0] - 60:
            return
        row = rows[-1]
        row[1 if trade.side == "BUY" else 2] += trade.size
        row[3] += trade.price * trade.size
        row[4] += 1

    def roll(self, now_ns: int) -> None:
        """Let go of what is 60 s old or older at `now_ns`."""
        rows, last = self._seconds, now_ns // _SECOND - 60
        while rows and rows[0][0] <= last:
            rows.popleft()

    @property
    def buy_volume(self) -> float:
        """Sum what takers bought, in base units."""
        return math.fsum(row[1] for row in self._seconds)

    @property
    def sell_volume(self) -> float:
        """Sum what takers sold, in base units."""
        return math.fsum(row[2] for row in self._seconds)

    @property
    def usd(self) -> float:
        """Sum what was traded, in USDC."""
        return math.fsum(row[3] for row in self._seconds)

    @property
    def trades(self) -> int:
        """Count the trades."""
        return int(sum(row[4] for row in self._seconds))  # integers


# === Trade ids ===
# Which trades were seen, packed exactly: the id of a trade is that of the chain's event, its
# height, transaction and place in it, four bytes each in hexadecimal.

_REMEMBERED: Final = 2_048  # more than twice what a snapshot or an answer can send again
_FORGOTTEN: Final = 256  # at once, or each new one would move all others


def _event(id_: str, at_ns: int) -> int:
    """Read a trade id as a number, of 96 bits: later events are larger; `ValueError` if empty."""
    try:
        if len(id_) == 24 and id_.isalnum():
            return int(id_, 16)
    except ValueError:
        pass  # it is no number
    if not id_:
        raise ValueError("expected a trade id, got none")
    # Whatever names its trades otherwise: by their time, and of one moment in no order.
    digest = int.from_bytes(blake2b(id_.encode(), digest_size=6).digest())
    return at_ns // 1_000_000 << 48 | digest


class _Seen:
    """The events of a market's newest trades, ascending, twelve bytes each."""

    __slots__ = ("_highs", "_lows", "forgot", "newest")

    def __init__(self) -> None:
        self._highs, self._lows = array("Q"), array("I")
        self.newest, self.forgot = -1, False

    def add(self, event: int) -> bool:
        """Remember an event; False if it was seen, or is older than all that are remembered."""
        highs, lows, high, low = self._highs, self._lows, event >> 32, event & 0xFFFF_FFFF
        if event > self.newest:
            self.newest = event
            highs.append(high)
            lows.append(low)
            if len(highs) >= _REMEMBERED + _FORGOTTEN:
                del highs[:_FORGOTTEN], lows[:_FORGOTTEN]
                self.forgot = True
            return True
        start = bisect_left(highs, high)
        end = bisect_right(highs, high, start)
        place = bisect_left(lows, low, start, end)
        if (place < end and lows[place] == low) or (not place and self.forgot):
            return False
        highs.insert(place, high)
        lows.insert(place, low)
        return True


# === Candles ===
# A ring of candles, from trades and from the venue. Wire text becomes a `Candle` in Tapes.

RESOLUTIONS: Final[Mapping[str, int]] = {
    "1MIN": _MINUTE,
    "5MINS": 5 * _MINUTE,
    "15MINS": 15 * _MINUTE,
    "30MINS": 30 * _MINUTE,
    "1HOUR": 60 * _MINUTE,
    "4HOURS": 240 * _MINUTE,
    "1DAY": 1440 * _MINUTE,
}
_FOREVER: Final = 2**63
_NONE: Final = -1  # in a packed row: the venue gave no such figure

CandleState = Literal["forming", "closed", "partial", "venue"]


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One candle: prices in subticks, `volume` in quantums, `usd_volume` in quote quantums.

    Until the market's parameters are known it counts in the last decimals that came: see `Candles`.

    It opens at the earliest trade of its period and closes at the latest, by block and order in
    the block; without trades it is flat at the last close. `state` is forming or closed if all its
    trades were received here, partial if its period began before that or a gap lies in it, and
    venue if it is the venue's own, of a period that is over. Of the venue's alone open interest
    (quantums, as the period began) and mid prices are known. Those, and prices of deleveraging,
    may lie between subticks: they are to the nearest one.
    """

    started_at: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    usd_volume: int
    trades: int
    starting_open_interest: int | None = None
    mid_open: int | None = None
    mid_close: int | None = None
    state: CandleState = "venue"


class _Bar(msgspec.Struct, gc=False):
    """What trades make of a block or of a period, with the events of its first and last trade."""

    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    usd_volume: int = 0
    trades: int = 0
    first: int = 0
    last: int = 0

    def merge(self, other: "_Bar") -> None:
        """Take in other trades, whatever their order."""
        if not self.trades:  # flat: it opens at its first trade, not at the last close
            self.open, self.high, self.low, self.close = (
                other.open, other.high, other.low, other.close,
            )  # fmt: skip
            self.first, self.last = other.first, other.last
        else:
            if other.high > self.high:
                self.high = other.high
            if other.low < self.low:
                self.low = other.low
            if other.last > self.last:
                self.last, self.close = other.last, other.close
            if other.first < self.first:
                self.first, self.open = other.first, other.open
        self.volume += other.volume
        self.usd_volume += other.usd_volume
        self.trades += other.trades


class _Sent(msgspec.Struct, gc=False):
    """The newest candle that the venue sent: as it was, and with the trades since."""

    candle: Candle
    received_ns: int
    bar: _Bar


class _Row(NamedTuple):
    # A row of the ring. `extra` is of a bar the events of its first and last trade, of a candle of
    # the venue what it alone knows.
    kind: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    usd_volume: int
    trades: int
    extra: bytes


_ROW: Final = Struct("<B7q24s")
_EXTRAS: Final = Struct("<3q")
_OWN, _VENUE, _UNSURE = range(3)  # unsure: the venue's, as it was before its period was over


class Candles:
    """A market's newest candles of one resolution, oldest first, without a hole.

    Made from trades, at every time those of the sorted tape, whatever the order in which they came.
    The venue's own take their place once they are final; the newest that it sent, where a gap
    lies in ours. `reported_at` is where that one begins, `started_at` the newest of all. `holes`
    are the times (from, to, ns) in which trades may be missing. A price has `places` decimals, a
    size `lots`: the market's, or until it is described as many as any had so far.
    """

    __slots__ = (
        "_first", "_holes", "_newest", "_rows", "_sent", "capacity", "lots", "period_ns", "places",
        "reported_at", "started_at",
    )  # fmt: skip

    def __init__(
        self,
        period_ns: int,
        capacity: int = 240,
        holes: list[tuple[int, int]] | None = None,
        scale: tuple[int, int] = (0, 0),
    ) -> None:
        self.period_ns, self.capacity = period_ns, capacity
        self.places, self.lots = scale
        self.reported_at = self.started_at = self._first = 0
        self._holes = [] if holes is None else holes
        self._newest: _Bar | None = None
        self._sent: _Sent | None = None
        self._rows = bytearray(capacity * _ROW.size)

    def __len__(self) -> int:
        if self._newest is None:
            return 0
        return (self.started_at - self._first) // self.period_ns + 1

    def __getitem__(self, index: int) -> Candle:
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"expected an index within {length} candles, got {index}")
        return self._candle(self._first + index % length * self.period_ns)

    def __iter__(self) -> Iterator[Candle]:
        return map(self._candle, self._starts())

    @property
    def last(self) -> Candle | None:
        """Return the candle that is still growing."""
        return self._candle(self.started_at) if self._newest is not None else None

    def closes(self, count: int | None = None) -> list[float]:
        """Return the newest closes, in USDC, oldest first."""
        starts, scale = self._starts(), 10**self.places
        skipped = 0 if count is None else max(0, len(starts) - count)
        return [self._candle(start).close / scale for start in starts[skipped:]]

    def add(self, at_ns: int, bar: _Bar) -> None:
        """Count trades of one moment; late ones go to their own candle, if the ring has it."""
        start = at_ns - at_ns % self.period_ns
        if self._newest is None or start > self.started_at:
            self._reach(start, bar.open)
        if start == self.started_at and self._newest is not None:
            self._newest.merge(bar)
        else:
            self._add_late(start, bar)
        sent = self._sent
        if sent is not None and sent.candle.started_at == start and at_ns > sent.received_ns:
            sent.bar.merge(bar)

    def put(self, candle: Candle, received_ns: int, *, final: bool) -> None:
        """Take a candle of the venue, received at a venue time; `final` if its period is over.

        `ValueError` for one that cannot be.
        """
        _require_possible(candle, self.period_ns, received_ns)
        start, sent = candle.started_at, self._sent
        if not (self._reach(start, candle.open) or self._extend(start)):
            return
        if final and start < self.started_at:
            self._write_candle(start, candle, _VENUE)
        elif sent is None or _is_newer(candle, sent.candle):
            if sent is not None and start > sent.candle.started_at:
                self._pass(sent)
            values = candle.open, candle.high, candle.low, candle.close
            # Whatever comes later comes after its last trade.
            bar = _Bar(*values, candle.volume, candle.usd_volume, candle.trades)
            self._sent = _Sent(candle, received_ns, bar)
            if start >= self._first and _agree(self._row(start), candle):
                _cover(self._holes, start, received_ns - _RACE_NS)
            if start < self.started_at:
                self._freeze(self._sent)
        self.reported_at = max(self.reported_at, start)

    def roll(self, now_ns: int) -> None:
        """Begin the period of `now_ns`; those since the newest candle are flat at its close."""
        start, newest = now_ns - now_ns % self.period_ns, self._newest
        if newest is None or start <= self.started_at:
            return
        past, flat_since = self.started_at, self.started_at + self.period_ns
        self._write_bar(past, newest)
        close = newest.close
        # A silence longer than the ring overwrites all of it, once.
        self._first = max(self._first, start - (self.capacity - 1) * self.period_ns)
        for at in range(max(flat_since, self._first), start, self.period_ns):
            self._write_bar(at, _flat(close))
        self.started_at, self._newest = start, _flat(close)
        if self._sent is not None and self._sent.candle.started_at == past:
            self._freeze(self._sent)

    def rescale(self, places: int, lots: int) -> None:
        """Count in other units from now on, with so many decimals of prices and sizes."""
        by, sent = (places - self.places, lots - self.lots), self._sent
        self.places, self.lots = places, lots
        if self._newest is not None:
            self._newest = _scaled(self._newest, *by)
        if sent is not None:
            candle, bar = _scaled(sent.candle, *by), _scaled(sent.bar, *by)
            self._sent = _Sent(candle, sent.received_ns, bar)
        for start in reversed(self._starts()[:-1]):
            row = self._row(start)
            if row.kind == _OWN:
                self._write_bar(start, _scaled(_bar_of(row), *by))
            else:
                self._write_candle(start, _scaled(self._candle(start), *by), row.kind)

    # -- Reading

    def _starts(self) -> range:
        return range(self._first, self._first + len(self) * self.period_ns, self.period_ns)

    def _is_whole(self, start: int) -> bool:
        end = start + self.period_ns
        return not any(since < end and until > start for since, until in self._holes)

    def _candle(self, start: int) -> Candle:
        row, sent = self._row(start), self._sent
        if row.kind != _OWN:
            known = (None if x == _NONE else x for x in _EXTRAS.unpack(row.extra))
            return _made(start, row, "venue" if row.kind == _VENUE else "partial", *known)
        if self._is_whole(start):
            return _made(start, row, "forming" if start == self.started_at else "closed")
        if sent is None or sent.candle.started_at != start or sent.bar.trades < row.trades:
            return _made(start, row, "partial")
        told = sent.candle
        figures = told.starting_open_interest, told.mid_open, told.mid_close
        return _made(start, sent.bar, "partial", *figures)

    def _row(self, start: int) -> "_Row":
        if start == self.started_at and (bar := self._newest) is not None:
            return _Row(
                _OWN, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.usd_volume,
                bar.trades, b"",
            )  # fmt: skip
        return _Row._make(_ROW.unpack_from(self._rows, self._offset(start)))

    def _offset(self, start: int) -> int:
        return start // self.period_ns % self.capacity * _ROW.size

    # -- Writing

    def _reach(self, start: int, price: int) -> bool:
        """Roll on to a period; False for one before the ring's first."""
        if self._newest is None:
            self.started_at = self._first = start
            self._newest = _flat(price)
        self.roll(start)
        return start >= self._first

    def _extend(self, start: int) -> bool:
        """Begin the ring earlier, with rows that await the first's close; False if it is full."""
        if start <= self.started_at - self.capacity * self.period_ns:
            return False
        for at in range(start + self.period_ns, self._first, self.period_ns):
            self._write_bar(at, _flat(0))
        self._first = start
        return True

    def _add_late(self, start: int, bar: _Bar) -> None:
        own = bar
        if start >= self._first:
            row = self._row(start)
            if row.kind != _OWN:
                return  # the venue's own has it already
            own = _bar_of(row)
            own.merge(bar)
        elif not self._extend(start):
            return
        self._write_bar(start, own)
        self._carry_on(start, own.close)

    def _pass(self, sent: _Sent) -> None:
        # The venue sends a candle once more as the next one begins: then it is final.
        start = sent.candle.started_at
        if sent.received_ns >= start + self.period_ns and start >= self._first:
            self._write_candle(start, sent.candle, _VENUE)

    def _freeze(self, sent: _Sent) -> None:
        """Show the venue's candle of a period that is over where a gap lies in ours."""
        start, bar = sent.candle.started_at, sent.bar
        row = self._row(start)
        if start < self._first or row.kind == _VENUE:
            return
        if row.kind == _OWN and sent.candle.trades > row.trades:
            _doubt(self._holes, start, start + self.period_ns)  # they were never received here
        if not self._is_whole(start) and bar.trades >= row.trades:
            candle = msgspec.structs.replace(
                sent.candle, open=bar.open, high=bar.high, low=bar.low, close=bar.close,
                volume=bar.volume, usd_volume=bar.usd_volume, trades=bar.trades,
            )  # fmt: skip
            self._write_candle(start, candle, _UNSURE)

    def _write_candle(self, start: int, candle: Candle, kind: int) -> None:
        interest, mid_open, mid_close = (
            candle.starting_open_interest, candle.mid_open, candle.mid_close,
        )  # fmt: skip
        extra = _EXTRAS.pack(
            _NONE if interest is None else interest,
            _NONE if mid_open is None else mid_open,
            _NONE if mid_close is None else mid_close,
        )
        _ROW.pack_into(
            self._rows, self._offset(start), kind, candle.open, candle.high, candle.low,
            candle.close, candle.volume, candle.usd_volume, candle.trades, extra,
        )  # fmt: skip
        self._carry_on(start, candle.close)

    def _write_bar(self, start: int, bar: _Bar) -> None:
        _ROW.pack_into(
            self._rows, self._offset(start), _OWN, bar.open, bar.high, bar.low, bar.close,
            min(bar.volume, _MOST), min(bar.usd_volume, _MOST), bar.trades,
            bar.first.to_bytes(12, "big") + bar.last.to_bytes(12, "big"),
        )  # fmt: skip

    def _carry_on(self, start: int, close: int) -> None:
        # Flat candles already written after a late one take over its close.
        for at in range(start + self.period_ns, self.started_at, self.period_ns):
            kind, *_, trades, _ = _ROW.unpack_from(self._rows, self._offset(at))
            if trades or kind != _OWN:
                return
            self._write_bar(at, _flat(close))
        if self._newest is not None and not self._newest.trades:
            self._newest = _flat(close)


_RACE_NS: Final = 3 * _SECOND  # how far behind its socket an answer of the venue may be
_AHEAD_NS: Final = 10 * _SECOND  # clocks differ, and a candle comes with the first block in it


def _bar_of(row: _Row) -> _Bar:
    return _Bar(
        row.open, row.high, row.low, row.close, row.volume, row.usd_volume, row.trades,
        int.from_bytes(row.extra[:12], "big"), int.from_bytes(row.extra[12:], "big"),
    )  # fmt: skip


_Figures = TypeVar("_Figures", _Bar, Candle)


def _scaled(of: _Figures, prices: int, sizes: int) -> _Figures:
    """Return the same with so many more decimals of prices and sizes."""
    names = {**dict.fromkeys(("open", "high", "low", "close"), prices), "volume": sizes}
    if isinstance(of, Candle):
        names |= {"mid_open": prices, "mid_close": prices, "starting_open_interest": sizes}
    figures = {name: getattr(of, name) for name in names}
    changed = {
        name: min(_nearest(x, names[name]), _MOST) for name, x in figures.items() if x is not None
    }
    return msgspec.structs.replace(of, **changed)


def _made(start: int, of: _Row | _Bar, state: CandleState, *figures: int | None) -> Candle:
    interest, mid_open, mid_close = figures or (None, None, None)
    return Candle(
        start, of.open, of.high, of.low, of.close, of.volume, of.usd_volume, of.trades,
        interest, mid_open, mid_close, state,
    )  # fmt: skip


def _agree(row: _Row, candle: Candle) -> bool:
    # As many trades as the venue has: none of them is missing here.
    ours = row.kind, row.trades, row.volume, row.usd_volume
    return ours == (_OWN, candle.trades, candle.volume, candle.usd_volume)


def _is_newer(candle: Candle, than: Candle) -> bool:
    return (candle.started_at, candle.trades) >= (than.started_at, than.trades)


def _flat(price: int) -> _Bar:
    return _Bar(price, price, price, price)


def _require_possible(candle: Candle, period_ns: int, received_ns: int) -> None:
    """Raise `ValueError` for a candle that no venue can have made by then."""
    volume, usd, low, high = candle.volume, candle.usd_volume, candle.low, candle.high
    if candle.started_at % period_ns:
        what = f"a start in whole periods of {period_ns} ns"
    elif candle.started_at > received_ns + _AHEAD_NS:
        what = "a start of the past"
    elif not (low <= candle.open <= high and low <= candle.close <= high):
        what = "open and close between low and high"
    elif usd < 0 or volume < 0 or candle.trades < 0 or max(usd, volume, candle.trades) > _MOST:
        what = "volumes and trades of 0 or more, within 63 bits"
    else:
        return
    raise ValueError(f"expected {what}, got {candle}")


def _cover(holes: list[tuple[int, int]], since: int, until: int) -> None:
    """Take a time whose trades are all known out of the times in which they may be missing."""
    if since < until:
        parts = ((a, b) for x, y in holes for a, b in ((x, min(y, since)), (max(x, until), y)))
        holes[:] = [(a, b) for a, b in parts if a < b]


def _doubt(holes: list[tuple[int, int]], since: int, until: int) -> None:
    """Add a time in which trades may be missing; of very many the oldest become one."""
    if holes and holes[-1][1] >= since:
        holes[-1] = min(since, holes[-1][0]), max(until, holes[-1][1])
    else:
        holes.append((since, until))
    if len(holes) > _MOST_HOLES:
        holes[:2] = [(holes[0][0], holes[1][1])]


_MOST_HOLES: Final = 64


# === Funding rates ===
# How the chain comes to a rate: blocks vote on the premium, minutes take the median, hours the
# mean. Rates are ppm per 8 hours throughout; what a rate costs a position is dydx_risk's.

_PPM: Final = 1_000_000


class FundingTerms(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The chain's funding settings; governance may change them: read them at start-up."""

    premium_vote_clamp_factor_ppm: int = 60_000_000
    funding_rate_clamp_factor_ppm: int = 6_000_000
    min_num_votes_per_sample: int = 15
    removed_tail_ppm: int = 0
    sample_seconds: int = 60
    tick_seconds: int = 3_600

    @property
    def samples_per_tick(self) -> int:
        """Return how many samples an hour should have; missing ones count as 0."""
        if self.sample_seconds <= 0:
            got = self.sample_seconds
            raise DataError(f"expected a funding sample of more than 0 seconds, got {got}")
        return -(-self.tick_seconds // self.sample_seconds)


def premium_vote(
    market: PerpetualMarket,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    price: int,
    exponent: int,
    *,
    impact_notional: int,
    clamp_ppm: int,
) -> int:
    """Return what a proposer votes: how far the book stands from the oracle price, in ppm.

    A side is (subticks, quantums) in any order, of makers that can pay for their orders.
    Nothing is voted inside the spread, nor where the side cannot fill `impact_notional` quote
    quantums. `clamp_ppm` bounds it: `funding_clamp_ppm` of the vote's factor.
    `DataError` for a crossed book and a price of 0 or less.
    Source: x/clob/memclob/memclob.go, GetPricePremium.
    """
    index = oracle_subticks(market, price, exponent)
    buys, sells = sorted(bids, key=_subticks, reverse=True), sorted(asks, key=_subticks)
    if buys and sells and buys[0][0] >= sells[0][0]:
        best = f"bid {buys[0][0]} and ask {sells[0][0]}"
        raise DataError(f"{market.ticker}: expected a book that is not crossed, got {best}")
    side, sign = [], 0
    if buys and index < buys[0][0]:
        side, sign = buys, 1
    elif sells and index > sells[0][0]:
        side, sign = sells, -1
    impact = impact_subticks(side, impact_notional, market.quantum_conversion_exponent)
    if impact is None or (impact - index) * sign <= 0:
        return 0
    return max(min(int((impact / index - 1) * _PPM), clamp_ppm), -clamp_ppm)


def _subticks(level: tuple[int, int]) -> int:
    # At one price the order of time stays.
    return level[0]


def oracle_subticks(market: PerpetualMarket, price: int, exponent: int) -> Fraction:
    """Return an oracle price in a market's subticks, exactly; `DataError` if 0 or less."""
    if price <= 0 or abs(exponent) > _MOST_EXPONENT:
        expected = f"an oracle price above 0 and an exponent within ±{_MOST_EXPONENT}"
        raise DataError(f"{market.ticker}: expected {expected}, got {price} and {exponent}")
    shift = exponent - market.quantum_conversion_exponent + market.atomic_resolution + 6
    return price * Fraction(10) ** shift


_MOST_EXPONENT: Final = 200  # of ten: more would fill the memory with digits


def impact_subticks(
    levels: Iterable[tuple[int, int]], impact_notional: int, quantum_conversion_exponent: int
) -> Fraction | None:
    """Return the average price of trading a notional into a side; None if it is too thin.

    `levels` are (subticks, quantums), best first. The size that fills it is rounded up.
    Source: x/clob/memclob/memclob.go, getImpactPriceSubticks.
    """
    if impact_notional < 0:
        raise DataError(f"expected an impact notional of 0 or more, got {impact_notional}")
    left, size = impact_notional, Fraction(0)
    for subticks, quantums in levels:
        if subticks <= 0 or quantums <= 0:
            level = f"{quantums} at {subticks}"
            raise DataError(f"expected a level above 0 quantums and subticks, got {level}")
        if not impact_notional:
            return Fraction(subticks)
        quote = fill_to_quote(quantums, subticks, quantum_conversion_exponent)
        size += quantums if left > quote else Fraction(left * quantums, quote)
        left -= quote
        if left <= 0:
            average = Fraction(impact_notional, math.ceil(size))
            return average / Fraction(10) ** quantum_conversion_exponent
    return None


def premium_sample(votes: Iterable[int], count: int = 0, *, terms: FundingTerms) -> int:
    """Return a minute's sample: the median vote, an even count's mean rounded away from zero.

    Blocks that voted nothing count as 0: `count` is of all blocks that could vote.
    """
    ordered = _padded(votes, max(count, terms.min_num_votes_per_sample))
    ordered.sort()
    if not ordered:
        raise DataError("expected a vote, or a least number of votes above 0, got neither")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    both = ordered[middle - 1] + ordered[middle]
    return (both + 1) // 2 if both > 0 else both // 2


def _padded(values: Iterable[int], count: int) -> list[int]:
    known = list(values)
    return known + [0] * (count - len(known))


def remove_tails(samples: Iterable[int], removed_tail_ppm: int) -> list[int]:
    """Drop that share of the lowest and of the highest samples; an odd one more at the top.

    A share that comes to none or to all of them drops none, as on the chain.
    """
    known = list(samples)
    removed = len(known) * removed_tail_ppm * 2 // _PPM
    if not 0 < removed < len(known):
        return known
    bottom = removed // 2
    return sorted(known)[bottom : len(known) - (removed - bottom)]


def funding_rate(
    samples: Iterable[int],
    imf_ppm: int,
    maintenance_fraction_ppm: int,
    default_ppm: int = 0,
    *,
    terms: FundingTerms,
) -> int:
    """Return the rate that an hour's samples make, in ppm per 8 hours; longs pay if positive.

    Missing samples count as 0; the mean is truncated, the default added, the sum clamped.
    Source: x/perpetuals/keeper/perpetual.go, MaybeProcessNewFundingTickEpoch.
    """
    rest = remove_tails(_padded(samples, terms.samples_per_tick), terms.removed_tail_ppm)
    if not rest:
        raise DataError("expected a sample, or a tick of more than 0 seconds, got neither")
    rate = int(Fraction(sum(rest), len(rest))) + default_ppm  # integers
    most = funding_clamp_ppm(terms.funding_rate_clamp_factor_ppm, imf_ppm, maintenance_fraction_ppm)
    return max(min(rate, most), -most)


def funding_clamp_ppm(factor_ppm: int, imf_ppm: int, maintenance_fraction_ppm: int) -> int:
    """Return the bound of a premium or rate: a multiple of initial less maintenance margin."""
    spread = imf_ppm - imf_ppm * maintenance_fraction_ppm // _PPM
    return spread * factor_ppm // _PPM


def indexer_next_rate(samples: Iterable[int], default_ppm: int = 0) -> Fraction | None:
    """Return `nextFundingRate` as the indexer shows it: hourly, a fraction, None without samples.

    Neither padded nor clamped: a market that few blocks vote on will be charged less.
    """
    known = list(samples)
    if not known:
        return None
    return (Fraction(sum(known), len(known)) + default_ppm) / (8 * _PPM)  # integers


# === Views ===
# What all the readers below fold into: one `MarketView` a ticker, one `DataState` for all.


class Oracle(msgspec.Struct, frozen=True, gc=False):
    """The price the chain calculates with: `digits` · 10^`exponent` USDC, exactly `text`."""

    price: float
    digits: int
    exponent: int
    at: int
    seq: int
    text: str


class FundingRate(msgspec.Struct, frozen=True, gc=False):
    """The rate expected for this hour, as a fraction per hour; longs pay when positive."""

    next_rate_1h: float = 0.0
    next_rate_text: str = ""
    at: int = 0
    seq: int = 0

    @property
    def known(self) -> bool:
        """Return whether the venue has reported a rate: until then the 0 here is none."""
        return self.next_rate_text != ""


@dataclass(slots=True, eq=False)
class Chain:
    """The newest block, received `at`; `skew_ns` is the venue's time less the time of receipt.

    Set by blocks, or by live trades where no block was received; until then nothing rolls: a
    stand-in, or an old recording, may live in another year than its receiver. `rolled_ns` is until
    when candles are made, a second behind: the last trades of a period may be on the way.
    `priced_at` is until when the last oracle prices are known to be the chain's: it refuses small
    moves, so that a price may stand for hours, and nothing says so but the silence of a link that
    works.
    """

    height: int = 0
    time_ns: int = 0
    seq: int = 0
    at: int = 0
    priced_at: int = 0
    rolled_ns: int = 0
    skew_ns: int | None = None

    def venue_ns(self, at: int) -> int:
        """Return the venue's time at a time of receipt, as far as it is known."""
        return at + (self.skew_ns or 0)


@dataclass(slots=True, eq=False, repr=False)
class MarketView:
    """Everything known of one market, as of frame `seq`; `changed` names what this frame updated.

    `changed` is market, book, trades, candles, oracle, funding, status, quality or stale.
    `live_at` is until when its `link` is known to report all of its book, or of its trades where
    no socket has a book of it. `price_missed` is set while a newer oracle price may be unreadable.
    """

    ticker: str
    chain: Chain
    candles: dict[str, Candles]
    _fields: MarketFields
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
    price_missed: bool = False
    funding: FundingRate = field(default_factory=FundingRate)
    quality: Quality = field(default_factory=Quality)
    link: str = ""
    live_at: int = 0
    _seen: _Seen = field(default_factory=_Seen)
    _tape: str = ""  # the link that reports its trades
    _holes: list[tuple[int, int]] = field(default_factory=lambda: [(0, _FOREVER)])
    _early: list[tuple[Frame, list[CandleFields]]] = field(default_factory=list)
    _scale: tuple[int, int] = (0, 0)  # the decimals of prices and sizes: see `Candles`

    @property
    def priced_at(self) -> int:
        """Return until when its oracle price is known to be the chain's; 0 without one."""
        if self.oracle is None:
            return 0
        return self.oracle.at if self.price_missed else max(self.oracle.at, self.chain.priced_at)

    def __repr__(self) -> str:
        return f"MarketView({self.ticker!r}, seq={self.seq}, changed={self.changed!r})"

    def _touch(self, frame: Frame, changed: str) -> "tuple[MarketView, ...]":
        self.seq, self.at, self.changed = frame.seq, frame.at, changed
        if self.fresh and changed != "trades":
            self.fresh = []
        return (self,)


class DataState:
    """All views of a venue and what belongs to no market; made by its reader.

    `tickers` limits the views to some markets. `connection` is waiting, live, partial or closed.
    """

    def __init__(
        self,
        tickers: Collection[str] | None = None,
        *,
        resolutions: Collection[str] = ("1MIN", "5MINS", "1HOUR"),
        stale_after_ns: int = STALE_NS,
    ) -> None:
        unknown = [name for name in resolutions if name not in RESOLUTIONS]
        if unknown:
            raise ValueError(f"expected resolutions among {', '.join(RESOLUTIONS)}, got {unknown}")
        self.views: dict[str, MarketView] = {}
        self.quality = Quality()
        self.chain = Chain()
        self.links: dict[str, Continuity] = {}
        self.closed: set[str] = set()
        self.received_at: dict[str, int] = {}  # when each link's last message came
        self._markets_link = ""  # which reports every change of the markets since their snapshot
        self.frames = self.at = self.seq = 0
        # How far the wall clock was set since the first frame: all times here are without it.
        self.jumped_ns = 0
        self._apart_ns: int | None = None  # the last difference of wall and monotonic clock
        self.stale_after_ns = stale_after_ns
        self._tickers = None if tickers is None else frozenset(tickers)
        self._resolutions = tuple(resolutions)
        self._judge_at = 0

    @property
    def connection(self) -> str:
        """Return how the links stand together."""
        states = (*{name not in self.closed for name in self.links},)
        return {(): "waiting", (True,): "live", (False,): "closed"}.get(states, "partial")

    def counts(self) -> dict[str, int]:
        """Return all troubles by kind, those of markets and those of none."""
        return dict(sum((x.quality.counts for x in self.views.values()), self.quality.counts))

    def _view(self, ticker: str, seq: int) -> MarketView | None:
        """Return the ticker's view, made on first sight; None for one that is not wanted."""
        view = self.views.get(ticker)
        if view is not None or (self._tickers is not None and ticker not in self._tickers):
            return view
        if not ticker.endswith("-USD") or len(self.views) >= _MOST_MARKETS:
            self.quality.note(seq, "malformed", f"expected a ticker, got {ticker[:80]!r}")
            return None
        view = MarketView(ticker, self.chain, {}, MarketFields(ticker=ticker))
        for name in self._resolutions:
            view.candles[name] = Candles(RESOLUTIONS[name], holes=view._holes)
        return self.views.setdefault(ticker, view)


# A hostile stream may name markets without end; the venue has some three hundred.
_MOST_MARKETS: Final = 2_000


# === Objections ===
# May a market be traded, and may what is known of it be believed? All layers decide by this
# section, and one table lists what each objection stops. Positions, margin and orders are unknown
# here.

ObjectionKind = Literal[
    "STATUS", "UNKNOWN_STATUS", "UNKNOWN_MARKET", "UNKNOWN_ORACLE", "UNKNOWN_BOOK", "ONE_SIDED",
    "STALE",
]  # fmt: skip
Act = Literal["entry", "exit", "guard", "match", "book"]


class Objection(msgspec.Struct, frozen=True, gc=False):
    """What stands against a market: its kind for programs, why in words, and the figures."""

    kind: ObjectionKind
    why: str
    figures: tuple[tuple[str, str], ...] = ()


# An entry adds risk: any doubt stops it. An exit and the guard take risk away: what is unknown is
# no reason to stay. They stop only where the venue would refuse the order (a market that is not
# ACTIVE takes none, reducing ones included: clob code 34), or where none can be made. A match on
# paper needs prices that the venue itself would match at; a book with one side is one. "book" is
# not an act but a belief: may a cost be read off the book, or must the oracle price do?
_STOPS: Final[Mapping[ObjectionKind, frozenset[Act]]] = {
    "STATUS": frozenset(["entry", "exit", "guard", "match"]),
    "UNKNOWN_STATUS": frozenset(["entry"]),
    "UNKNOWN_MARKET": frozenset(["entry", "exit", "guard", "match", "book"]),
    "UNKNOWN_ORACLE": frozenset(["entry", "match"]),
    "UNKNOWN_BOOK": frozenset(["entry", "match", "book"]),
    "ONE_SIDED": frozenset(["entry", "book"]),
    "STALE": frozenset(["entry", "match", "book"]),
}


def stopping(
    view: MarketView, act: Act, at: int | None = None, stale_ns: int = STALE_NS
) -> tuple[Objection, ...]:
    """Return the objections that stop an act in this market, the gravest first."""
    found = objections(view, at, stale_ns)
    return tuple(one for one in found if act in _STOPS[one.kind]) if found else ()


def objections(
    view: MarketView, at: int | None = None, stale_ns: int = STALE_NS
) -> tuple[Objection, ...]:
    """Return all that stands against a market, the gravest first; nothing if all is well.

    `at` is the event time to measure ages by; without it only a silence that the fold has noticed
    counts.
    """
    book = view.book
    found: list[Objection] = []
    if not view.status or not takes(view.status, "IOC"):
        was = view.status or "unknown"
        kind: ObjectionKind = "STATUS" if view.status else "UNKNOWN_STATUS"
        found.append(Objection(kind, f"the status is {was}", (("status", was),)))
    if view.market is None:
        found.append(_unknown("UNKNOWN_MARKET", "market's parameters are", "market"))
    if view.oracle is None:
        found.append(_unknown("UNKNOWN_ORACLE", "oracle price is", "oracle"))
    if not book.known:
        found.append(_unknown("UNKNOWN_BOOK", "book is", "book"))
    elif book.mid_price is None:
        was = "one-sided" if book.best_bid or book.best_ask else "empty"
        found.append(Objection("ONE_SIDED", f"the book is {was}", (("book", was),)))
    if view.quality.stale or at is not None:
        found += _stale(view, at, stale_ns)
    return tuple(found)


def _unknown(kind: ObjectionKind, what: str, name: str) -> Objection:
    return Objection(kind, f"the {what} unknown", ((name, "unknown"),))


def _stale(view: MarketView, at: int | None, stale_ns: int) -> Iterator[Objection]:
    if at is None:
        yield Objection("STALE", "the data are stale")
        return
    age, words = silence(view, at)
    if age > stale_ns:
        age_s, limit_s = f"{age / _SECOND:.1f}", f"{stale_ns / _SECOND:g}"
        figures = ("age_s", age_s), ("limit_s", limit_s)
        yield Objection("STALE", f"{words} for {age_s} s, limit {limit_s} s", figures)


def silence(view: MarketView, at: int) -> tuple[int, str]:
    """Return for how long, in ns, the worst of a market's sources is silent, and which it is.

    A book or a price that nobody changes is not old while blocks and links are fresh; what is
    unknown has no age, and is an objection of its own.
    """
    sources = (
        (view.live_at, "its link is silent"),
        (view.chain.at, "no block came"),
        (view.priced_at, "the oracle price is not confirmed"),
    )
    since, words = min((source for source in sources if source[0]), default=(at, ""))
    return at - since, words


# === Folding ===
# A reader (`_fold_…`) takes the state, a frame and its decoded updates, and returns the views that
# it touched. What cannot be read costs its own item alone.
_Touched = Sequence[MarketView]
_Fold = Callable[[DataState, Frame, list[Any]], _Touched]


# What decoding any text may raise: the wire's own refusals, numbers and times out of range, and
# nesting too deep for the decoder.
_UNREADABLE = (ConnError, ValueError, ArithmeticError, RecursionError)


def _fold_nothing(state: DataState, frame: Frame, updates: Sequence[Any] = ()) -> _Touched:
    return ()


_T = TypeVar("_T")


def _readable(
    view: MarketView, frame: Frame, read: Callable[[Any], _T], items: Iterable[Any]
) -> Iterator[_T]:
    """Decode each item, and count those that cannot be: one bad trade costs itself alone."""
    for fields in items:
        try:
            yield read(fields)
        except _UNREADABLE as error:
            view.quality.note(frame.seq, "malformed", str(error))


def _lose_tape(state: DataState, view: MarketView, frame: Frame) -> None:
    """Note that trades may be missing since the last message of the link that reports them.

    While it is down, or not subscribed to them, what comes is missed too; else that is all.
    """
    if view._tape:
        chain, is_down = state.chain, frame.kind in ("open", "close") or frame.type in _DOWN
        received_ns = chain.venue_ns(state.received_at.get(view._tape, 0))
        until = _FOREVER if is_down else chain.venue_ns(frame.at)
        before_ns = _OVERDUE_NS if frame.kind == "tick" else _RACE_NS
        _doubt(view._holes, max(received_ns - before_ns, 0), until)


_DOWN: Final = ("connected", "unsubscribed")
_OVERDUE_NS: Final = 15 * _SECOND  # what an overdue answer hid may have been lost since its request


# === Books ===
# Snapshots, updates and REST answers of books, and every way to lose one.


def _fold_book(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    view = state.views.get(frame.id) or state._view(frame.id, frame.seq)
    if view is None:
        return ()
    quality, book = view.quality, view.book
    crossed = book.crossed
    if frame.is_snapshot:
        if frame.kind == "http" and book.known and book.link:
            return _mend_book(view, frame, updates[0])
        book.forget()
        book.known, book.whole_at = True, frame.at
    elif not (book.known and book.link):
        # Nor does it fit a book made of an answer: the updates between the two are missing.
        quality.note(frame.seq, "early", "a book update without a snapshot to update")
        return ()
    else:
        book.remember(frame.at, updates)
    faults = book.update(updates)
    book.link, view.link = frame.link, frame.link or view.link
    book.seq, book.at, view.live_at = frame.seq, frame.at, frame.at
    for fault in faults:
        quality.note(frame.seq, "malformed", fault)
    if book.crossed and not crossed:
        quality.note(frame.seq, "crossed", f"{book.crossed} levels hidden by uncrossing")
    return view._touch(frame, "book")


def _mend_book(view: MarketView, frame: Frame, answer: BookContents) -> _Touched:
    """Take from an answer what the socket's book lacks: updates lost before its snapshot."""
    change = view.book.differs(answer, frame.at)
    if not (change.bids or change.asks):
        return ()
    for fault in view.book.update([change]):
        view.quality.note(frame.seq, "malformed", fault)
    view.book.seq, view.book.at = frame.seq, frame.at
    return view._touch(frame, "book")


def _fold_unsubscribed(state: DataState, frame: Frame, updates: Sequence[Any] = ()) -> _Touched:
    """Make unknown what a channel's messages kept up to date."""
    if frame.channel == "v4_markets" and frame.link == state._markets_link:
        state._markets_link = ""
    view = state.views.get(frame.id)
    if view is not None and frame.channel == "v4_trades":
        _lose_tape(state, view, frame)
    return _lose_book(view, frame) if view is not None and frame.channel == "v4_orderbook" else ()


def _lose_book(view: MarketView, frame: Frame) -> _Touched:
    if not view.book.known:
        return ()
    view.book.forget()
    return view._touch(frame, "book")


def _lose_link(state: DataState, frame: Frame) -> _Touched:
    """Make unknown what the frame's link keeps up to date, or all links if it names none."""
    if frame.link in ("", state._markets_link):
        state._markets_link = ""
    for view in state.views.values():
        if frame.link in ("", view._tape):
            _lose_tape(state, view, frame)
    of_link = [x for x in state.views.values() if not frame.link or x.book.link == frame.link]
    return [lost for view in of_link for lost in _lose_book(view, frame)]


def _note_odd(state: DataState, frame: Frame, odd: Iterable[OddRow]) -> None:
    """Count what was left out of a frame: what it is of goes on with the rest."""
    for row in odd:
        view = state.views.get(frame.id.partition("/")[0] or row.name)
        (view or state).quality.note(frame.seq, "malformed", str(row))
        if view is not None and row.part in ("markets", "oraclePrices"):
            view.price_missed = True


def _fold_unreadable(state: DataState, frame: Frame, error: Exception) -> _Touched:
    view = state.views.get(frame.id.partition("/")[0])
    (view or state).quality.note(frame.seq, "malformed", str(error))
    if view is None:
        # It may have carried prices.
        return _fold_unsubscribed(state, frame)
    if frame.channel == "v4_orderbook" and frame.kind == "ws":
        # It may have carried levels: without them the book is a guess.
        return _lose_book(view, frame) or view._touch(frame, "quality")
    return view._touch(frame, "quality")


# === Tapes ===
# Trades, candles and blocks: what grows with time.


def _fold_trades(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    view = state._view(frame.id, frame.seq)
    if view is None:
        return ()
    chain, rows = view.chain, (x for update in updates for x in update.trades)
    trades = [*_readable(view, frame, lambda fields: _trade(chain, fields, frame.seq), rows)]
    seen = view._seen
    fresh = [trade for trade in trades if seen.add(trade.event)]
    if frame.is_snapshot:
        # Newest block first, and those of one block, which share their time, in no order.
        fresh.sort(key=_place)
    elif fresh and not chain.seq:
        _set_skew(state, fresh[-1].at_ns - frame.at)
    _mark_known(view, frame, trades)
    for trade in fresh:
        view.flow.add(trade)
    _count(view, fresh)
    late = bool(fresh and view.trades) and _place(fresh[0]) < _place(view.trades[-1])
    view.trades += fresh
    if late:  # of an answer, or of a message that was overtaken
        view.trades = deque(sorted(view.trades, key=_place), view.trades.maxlen)
    if not (view.book.known and view.book.link):  # trades do not say that a book's link lives
        view.link, view.live_at = frame.link or view.link, frame.at
    view.fresh = fresh
    return view._touch(frame, "trades")


def _place(trade: Trade) -> tuple[int, str]:
    return trade.at_ns, trade.id


def _trade(chain: Chain, fields: TradeFields, seq: int) -> Trade:
    at_ns = instant(fields.created_at)
    if chain.seq and at_ns > chain.time_ns + 60 * _MINUTE:
        # It would roll every window and candle ahead of all later trades.
        raise ValueError(f"expected a trade of the past, got one of {fields.created_at[:40]}")
    return Trade(
        fields.id, fields.side, _positive(fields.price), _positive(fields.size),
        fields.price, fields.size, at_ns, fields.type, seq, _event(fields.id, at_ns),
    )  # fmt: skip


def _count(view: MarketView, trades: list[Trade]) -> None:
    """Add trades to the candles, a block at a time."""
    if view.market is None:
        _widen(view, [x.price_text for x in trades], [x.size_text for x in trades])
    block, block_ns = None, 0
    for trade in trades:
        try:
            one = _bar(trade, *view._scale)
        except ValueError as error:
            view.quality.note(trade.seq, "malformed", str(error))
            _doubt(view._holes, trade.at_ns, trade.at_ns + 1)
            continue
        if block is not None and trade.at_ns == block_ns:
            block.merge(one)
            continue
        if block is not None:
            _add_block(view, block_ns, block)
        block, block_ns = one, trade.at_ns
    if block is not None:
        _add_block(view, block_ns, block)


def _bar(trade: Trade, places: int, lots: int) -> _Bar:
    price, size, event = _near(trade.price, places), _near(trade.size, lots), trade.event
    if price is not None and size is not None:
        usd = _floor(price * size, 6 - places - lots)
    else:
        price, size = _price(trade.price_text, places), _size(trade.size_text, lots)
        # What was paid is exact, also where a price lies between subticks, as deleveraging's does.
        digits, power = exact(trade.price_text)
        usd = _floor(digits * size, power - lots + 6)
        if usd > _MOST:
            raise ValueError(f"expected a trade within 63 bits of quote quantums, got {trade}")
    return _Bar(price, price, price, price, size, usd, 1, event, event)


def _add_block(view: MarketView, at_ns: int, block: _Bar) -> None:
    rolled_ns = view.chain.rolled_ns
    for candles in view.candles.values():
        candles.add(at_ns, block)
        candles.roll(rolled_ns)


def _widen(view: MarketView, prices: Iterable[str], sizes: Iterable[str]) -> None:
    """Count with more decimals, until the market's own are known, where texts have more."""
    texts, had = (prices, sizes), view._scale
    most = [max((-exact(text)[1] for text in each), default=0) for each in texts]
    places, lots = (max(now, min(new, _DECIMALS)) for now, new in zip(had, most, strict=True))
    _rescale(view, places, lots)


def _rescale(view: MarketView, places: int, lots: int) -> None:
    if view._scale != (places, lots):
        view._scale = places, lots
        for candles in view.candles.values():
            candles.rescale(places, lots)


_DECIMALS: Final = 10  # more than any market has; a price of deleveraging may have more


def _mark_known(view: MarketView, frame: Frame, trades: list[Trade]) -> None:
    """Note of which time all trades are known now.

    A snapshot or an answer has all since its oldest block, which may be cut; what is traded
    between a snapshot and the first update after it may be missing, and so may what was odd.
    """
    holes, times = view._holes, [trade.at_ns for trade in trades]
    now_ns = max([view.chain.venue_ns(frame.at), *times])
    if frame.is_snapshot and holes:
        known_ns = max([now_ns - _RACE_NS, *times])
        _cover(holes, min(times) + 1 if times else 0, known_ns)
    if frame.link:
        view._tape = frame.link
        if holes and holes[-1][1] == _FOREVER:
            _cover(holes, now_ns, _FOREVER)
    samples = view.quality.samples
    if samples and samples[-1].seq == frame.seq and samples[-1].kind == "malformed":
        _doubt(holes, min([now_ns - _RACE_NS, *times]), now_ns)


def _set_skew(state: DataState, skew_ns: int) -> None:
    was, state.chain.skew_ns = state.chain.skew_ns, skew_ns
    for view in state.views.values() if was is None else ():
        _settle(view)


def _settle(view: MarketView) -> None:
    """Take the candles that came before the time of the chain was known."""
    if view.chain.skew_ns is not None:
        pages, view._early = view._early, []
        for frame, page in pages:
            _put_candles(view, frame, page)


def _fold_candles(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    view = state._view(frame.id.partition("/")[0], frame.seq)
    if view is None:
        return ()
    view._early.append((frame, [fields for update in updates for fields in update.candles]))
    del view._early[:-_MOST_PAGES]
    _settle(view)
    return view._touch(frame, "candles")


_MOST_PAGES: Final = 16  # of each resolution one or two: without a block they would wait for ever


def _put_candles(view: MarketView, frame: Frame, page: list[CandleFields]) -> None:
    """Take the venue's candles: those of before the newest that it sent are final."""
    received_ns = view.chain.venue_ns(frame.at)
    if view.market is None:
        prices = [text for x in page for text in (x.open, x.high, x.low, x.close)]
        _widen(view, prices, [x.base_token_volume for x in page])
    received = [*_readable(view, frame, partial(_candle, view._scale), page)]
    received.sort(key=_start, reverse=True)
    newest: dict[str, int] = {}
    for name, candle in received:
        candles = view.candles.get(name)
        if candles is None:
            period_ns = RESOLUTIONS[name]
            candles = Candles(period_ns, holes=view._holes, scale=view._scale)
            view.candles[name] = candles
        # A page of a replica may be behind what was sent before it.
        latest = newest.get(name, 0) if frame.is_snapshot else candles.reported_at
        try:
            candles.put(candle, received_ns, final=candle.started_at < latest)
            newest.setdefault(name, candle.started_at)
        except ValueError as error:
            view.quality.note(frame.seq, "malformed", str(error))
    for name in newest:
        view.candles[name].roll(view.chain.rolled_ns)


def _start(received: tuple[str, Candle]) -> int:
    return received[1].started_at


def _candle(scale: tuple[int, int], fields: CandleFields) -> tuple[str, Candle]:
    if fields.resolution not in RESOLUTIONS:
        raise ValueError(f"expected a known resolution, got {fields.resolution[:40]!r}")
    places, lots = scale
    if (usd := _near(float(fields.usd_volume), 6)) is None:
        digits, power = exact(fields.usd_volume)
        usd = _floor(digits, power + 6)
    prices = (fields.open, fields.high, fields.low, fields.close)
    opened, high, low, close = [_price(text, places) for text in prices]
    # A mid price is the mean of two, made in floats.
    mids = (fields.orderbook_mid_price_open, fields.orderbook_mid_price_close)
    mid_open, mid_close = [None if text is None else _price(text, places) for text in mids]
    interest = fields.starting_open_interest
    return fields.resolution, Candle(
        instant(fields.started_at), opened, high, low, close,
        _size(fields.base_token_volume, lots), usd, fields.trades,
        None if interest is None else _size(interest, lots),
        mid_open, mid_close,
    )  # fmt: skip


def _fold_height(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    chain = state.chain
    for update in updates:
        height, time_ns = update.block
        # Another replica may be behind; only a chain that began again is lower at a later time.
        if frame.is_snapshot and height < chain.height and time_ns <= chain.time_ns:
            continue
        if not frame.is_snapshot and chain.height and not _follows(chain, frame, height, time_ns):
            what = f"expected a block soon after {chain.height}, got {height} of {update.time}"
            state.quality.note(frame.seq, "out_of_order", what)
            continue
        if height != chain.height:
            chain.at = frame.at
        chain.height, chain.time_ns, chain.seq = height, time_ns, frame.seq
        _set_skew(state, time_ns - frame.at)
    return ()


def _follows(chain: Chain, frame: Frame, height: int, time_ns: int) -> bool:
    # An absurd block would stick: later ones would count as late, and its hours as passed. A
    # hundred blocks, or times its pace, a second is more than any chain or stand-in makes.
    passed_ns = max(frame.at + (chain.skew_ns or 0) - chain.time_ns, 0)
    blocks, spent_ns = height - chain.height, time_ns - chain.time_ns
    return (
        0 <= blocks <= 100 + 100 * passed_ns // _SECOND
        and spent_ns <= 3_600 * _SECOND + 100 * passed_ns
    )


# === Markets ===
# Parameters, status, funding, open interest and oracle prices, of `v4_markets`.


def _fold_markets(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    changes: dict[str, str] = {}
    if frame.is_snapshot and frame.link:  # an answer confirms what is in it, no more
        state._markets_link = frame.link
        for known in state.views.values():
            known.price_missed = known.ticker not in updates[0].markets
    # An answer may be of a replica that is behind: what a socket reports the changes of stays.
    is_behind = frame.kind == "http" and state._markets_link != ""
    for update in updates:
        tables = (update.markets, update.trading, update.oracle_prices)
        for table, set_one in zip(tables, _SETTERS, strict=True):
            for ticker, fields in table.items():
                view = state.views.get(ticker) or state._view(ticker, frame.seq)
                if view is None or (is_behind and view.oracle and not view.price_missed):
                    continue
                changed = set_one(view, frame, fields)
                if _WEIGHT[changed] >= _WEIGHT[changes.get(ticker, "")]:
                    changes[ticker] = changed
    touched = [state.views[ticker] for ticker in changes]
    for view in touched:
        view._touch(frame, changes[view.ticker])
    return touched


# A frame emits a view once: of several changes the one that weighs most.
_WEIGHT: Final = {"": 0, "quality": 1, "market": 2, "funding": 3, "oracle": 4, "status": 5}


def _set_market(view: MarketView, frame: Frame, fields: MarketFields) -> str:
    """Take a market's whole description: what it leaves out is unknown."""
    view._fields = MarketFields(ticker=view.ticker)
    view.oracle = view.open_interest = None
    _set_trading(view, frame, fields)
    # The 0 of a market that never had a price is unknown: not worth nothing.
    if fields.oracle_price and fields.oracle_price != "0":
        _set_oracle(view, frame, fields)
    return "market"


def _set_trading(view: MarketView, frame: Frame, fields: MarketFields) -> str:
    """Take what changed of a market; return what it was."""
    status, market, funding = view.status, view.market, view.funding
    view.status = fields.status or status
    for set_one in (_set_funding, _set_parameters, _set_interest):
        try:
            set_one(view, frame, fields)
        except _UNREADABLE as error:
            view.quality.note(frame.seq, "malformed", str(error))
    if status != view.status:
        return "status"
    return "market" if market is not view.market or funding is view.funding else "funding"


def _set_funding(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    if text := fields.next_funding_rate:
        view.funding = FundingRate(_number(text), text, frame.at, frame.seq)


def _set_parameters(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    given = [name for name in _PARAMETERS if getattr(fields, name) is not None]
    for name in given:
        setattr(view._fields, name, getattr(fields, name))
    if given:
        market = perpetual_market(view._fields)
        if abs(market.atomic_resolution) > 40 or abs(market.quantum_conversion_exponent) > 40:
            raise ValueError(f"expected exponents within 40, got {market!r}")
        if view.market and _exponents(market) != _exponents(view.market):
            raise ValueError(f"expected exponents that stay, got {market!r}")
        was, view.market = view.market, market
        if was is None:  # a subtick is one of the last decimal of a price
            lots = -market.atomic_resolution
            _rescale(view, 6 - lots - market.quantum_conversion_exponent, lots)


def _exponents(market: PerpetualMarket) -> tuple[int, int]:
    return market.atomic_resolution, market.quantum_conversion_exponent


_PARAMETERS: Final = (
    "id", "clob_pair_id", "initial_margin_fraction", "maintenance_margin_fraction",
    "atomic_resolution", "quantum_conversion_exponent", "step_base_quantums", "subticks_per_tick",
    "market_type", "open_interest_lower_cap", "open_interest_upper_cap",
)  # fmt: skip


def _set_interest(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    # `baseOpenInterest` has been dead since v4-chain #2319: 0 on newer markets, frozen on others.
    if (text := fields.open_interest) and view.market:
        if _number(text) < 0:
            raise ValueError(f"expected an open interest of 0 or more, got {text}")
        view.open_interest = int(Decimal(text).scaleb(-view.market.atomic_resolution))


def _set_oracle(view: MarketView, frame: Frame, fields: MarketFields) -> str:
    text = fields.oracle_price or fields.price or ""
    try:
        view.oracle = Oracle(_positive(text), *exact(text), frame.at, frame.seq, text)
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
        view.price_missed = True
        return "quality"
    view.price_missed = False
    return "oracle"


_SETTERS: Final = (_set_market, _set_trading, _set_oracle)


# === Links ===
# Connections that open, close or lose frames, and REST answers; below them, which reader takes
# which channel and message.


def _fold_edge(state: DataState, frame: Frame) -> _Touched:
    """Begin or end a link: what was known through it is known no more."""
    before = state.links.get(frame.link, Continuity())
    state.links[frame.link] = Continuity(carries=before.carries)
    (state.closed.discard if frame.kind == "open" else state.closed.add)(frame.link)
    return _lose_link(state, frame)


def _fold_gap(state: DataState, frame: Frame) -> _Touched:
    state.quality.note(frame.seq, "gap", frame.reason or "frames lost")
    if frame.channel:  # of one subscription alone
        return _fold_unsubscribed(state, frame)
    for name, link in state.links.items():
        if frame.link in ("", name):
            link.overdue(frame.mono)  # this gap covers what is overdue
            link.forget()
    return _lose_link(state, frame)


def _fold_tick(state: DataState, frame: Frame) -> _Touched:
    """Give up overdue answers: the holes in the ids that they explained may be losses."""
    lost: list[MarketView] = []
    for name, link in state.links.items():
        if link.owed and (late := link.overdue(frame.mono)):
            state.quality.note(frame.seq, "gap", f"{len(late)} answers overdue on {name}")
            lost += _lose_link(state, msgspec.structs.replace(frame, link=name))
    return tuple(lost)


def _fold_sent(state: DataState, frame: Frame) -> _Touched:
    if '"subscribe"' in frame.text:
        link = state.links.setdefault(frame.link, Continuity())
        link.request(frame)
        # A recorder gives each connection a new name: what a lost one carried goes on in this one.
        for name in state.closed - {frame.link}:
            if set() < state.links[name].carries <= link.carries:
                del state.links[name]
                state.closed.discard(name)
    return ()


def _fold_error(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    state.quality.note(frame.seq, "refused", frame.text)
    return ()


def _fold_answer(state: DataState, frame: Frame) -> _Touched:
    """Fold a REST answer like the snapshot of its channel; most answers are not ours."""
    channel, id_ = key_of(frame)
    fold_channel = _UPDATES.get(channel)
    if fold_channel is None:
        return ()
    header = {"type": "subscribed", "channel": channel, "id": id_, "link": ""}
    snapshot = msgspec.structs.replace(frame, **header)
    try:
        updates = contents(frame)
        if isinstance(updates[0], ErrorsContents):
            what = f"expected {frame.channel[:60]}, got {frame.status}: {updates[0].reason[:60]}"
            state.quality.note(frame.seq, "refused", what)
            return ()
        _note_odd(state, snapshot, odd_rows(frame))
        return fold_channel(state, snapshot, updates)
    except _UNREADABLE as error:
        return _fold_unreadable(state, snapshot, error)


# What folds each kind of thing that a channel reports; accounts are for the layers above.
_FOLDS: Final[dict[str, _Fold]] = {
    "book": _fold_book,
    "trades": _fold_trades,
    "candles": _fold_candles,
    "markets": _fold_markets,
    "block": _fold_height,
}
_UPDATES = {name: _FOLDS[row.kind] for name, row in CHANNELS.items() if row.kind in _FOLDS}
_MESSAGES: Final[dict[str, dict[str, _Fold]]] = {
    "channel_data": _UPDATES,
    "channel_batch_data": _UPDATES,
    "subscribed": _UPDATES,
    "unsubscribed": dict.fromkeys(_UPDATES, _fold_unsubscribed),
    "connected": {"": lambda state, frame, _: _lose_link(state, frame)},
    "error": dict.fromkeys(("", *CHANNELS), _fold_error),
    "pong": {"": _fold_nothing},
}
_KINDS: Final[dict[str, Callable[[DataState, Frame], _Touched]]] = {
    "http": _fold_answer,
    "open": _fold_edge,
    "close": _fold_edge,
    "gap": _fold_gap,
    "sent": _fold_sent,
    "tick": _fold_tick,
    "act": lambda *_: (),  # a person's act changes no market
}


# === Frames ===
# One frame at a time: by kind, then by type and channel; then what is due by time alone.


def step(state: DataState, frame: Frame) -> Sequence[MarketView]:
    """Fold one frame into `state`; return the views it touched, each once. Never raises."""
    state.frames += 1
    state.seq = frame.seq
    _compare_clocks(state, frame)
    if state.jumped_ns:
        frame = msgspec.structs.replace(frame, at=frame.at - state.jumped_ns)
    state.at = at = frame.at
    if frame.kind == "ws":
        touched = _fold_message(state, frame)
    else:
        touched = _KINDS.get(frame.kind, _fold_unknown)(state, frame)
    return _judge(state, frame, touched) if at >= state._judge_at else touched


def _compare_clocks(state: DataState, frame: Frame) -> None:
    """Notice a wall clock that was set: silence and windows must not be measured across that.

    Nor may time go back, as where frames have no monotonic clock or two runs follow each other:
    what is due by time would wait until it has caught up.
    """
    jumped_ns = 0
    if frame.mono:
        known_ns, state._apart_ns = state._apart_ns, frame.at - frame.mono
        jumped_ns = state._apart_ns - known_ns if known_ns is not None else 0
    jumped_ns = jumped_ns if abs(jumped_ns) > _SECOND else 0
    back_ns = state.at - (frame.at - state.jumped_ns - jumped_ns)
    jumped_ns -= back_ns if back_ns > _SECOND else 0
    if jumped_ns:
        state.jumped_ns += jumped_ns
        how = f"the wall clock jumped by {jumped_ns / _SECOND:+.3f} s"
        state.quality.note(frame.seq, "clock", how)


def _judge(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    """Roll windows and notice silence, once a second of the venue's time; its end at once."""
    at, skew_ns = frame.at, state.chain.skew_ns
    state._judge_at = at + _SECOND - (at + (skew_ns or 0)) % _SECOND
    gone: list[MarketView] = []
    chain, received_at = state.chain, state.received_at
    chain.priced_at = max(chain.priced_at, received_at.get(state._markets_link, 0))
    rolled_ns = at + skew_ns - _SECOND if skew_ns is not None else 0
    is_new_minute = rolled_ns // _MINUTE > chain.rolled_ns // _MINUTE
    chain.rolled_ns = max(chain.rolled_ns, rolled_ns)
    since = at - state.stale_after_ns
    is_fresh = (not chain.at or chain.at > since) and chain.priced_at > since
    for view in state.views.values():
        if skew_ns is not None:
            view.flow.roll(at + skew_ns)
        for candles in view.candles.values() if is_new_minute else ():
            candles.roll(chain.rolled_ns)
        view.live_at = max(view.live_at, received_at.get(view.link, 0))
        is_calm = is_fresh and not (view.price_missed or view.quality.stale)
        if is_calm and view.live_at > since:
            continue
        silent_ns, why = silence(view, at)
        stale = view.live_at > 0 and silent_ns >= state.stale_after_ns
        if stale:
            state._judge_at = at
        if stale == view.quality.stale:
            continue
        view.quality.stale = stale
        if stale:
            view.quality.note(frame.seq, "stale", f"{why} for {silent_ns / _SECOND:.1f} s")
        if view not in touched:
            gone += view._touch(frame, "stale")
    return [*touched, *gone] if gone else touched


def _fold_message(state: DataState, frame: Frame) -> _Touched:
    link = state.links.get(frame.link) or state.links.setdefault(frame.link, Continuity())
    lost: _Touched = ()
    trouble = link.take(frame)
    if trouble == "gap":
        lost = _lose_link(state, frame)
    state.received_at[frame.link] = frame.at
    if trouble:
        what = f"message_id {frame.message_id} on {frame.link}, channel "
        state.quality.note(frame.seq, trouble, what + (frame.channel or frame.type))
        if trouble == "duplicate":
            return ()
        if trouble != "gap" and frame.channel != "v4_trades":
            # Late totals are older than the book, and the book may lack them: as unknown it is
            # requested again. A late trade is sorted in by its time.
            return _fold_unsubscribed(state, frame)
    channels = _MESSAGES.get(frame.type)
    fold_channel = channels.get(frame.channel) if channels else None
    if fold_channel is None:
        touched = _fold_unknown(state, frame)
    else:
        try:
            updates = contents(frame)
            if odd := odd_rows(frame):
                _note_odd(state, frame, odd)
            touched = fold_channel(state, frame, updates)
        except _UNREADABLE as error:
            touched = _fold_unreadable(state, frame, error)
    return [*dict.fromkeys([*touched, *lost])] if lost else touched


def _fold_unknown(state: DataState, frame: Frame) -> _Touched:
    what = f"{frame.kind[:20]} {frame.type[:40]!r} on channel {frame.channel[:40]!r}"
    if frame.fault:
        state.quality.note(frame.seq, "malformed", frame.fault)
    elif frame.channel in _UPDATES or frame.channel not in CHANNELS:
        state.quality.note(frame.seq, "unknown", f"expected a known message, got {what}")
    return ()


# === Streams ===
# The operator, one line around `step`.


def market_views(
    state: DataState | None = None,
) -> Callable[[Observable[Frame]], Observable[MarketView]]:
    """Turn frames into market views, one per frame and market it touched.

    Cold if the source is; replays nothing; runs on the source's thread; completes and errors with
    it. With a `state`, its maker can read all views and the quality of the whole venue;
    without one, each subscriber folds a state of its own. A tick touches no market, a book one,
    and two oracle prices two:

        frames  --t--b--p------|
        views   -----b--(o,o)--|
    """
    return fold(DataState if state is None else lambda: state, step)


class ClosedCandle(msgspec.Struct, frozen=True, gc=False):
    """A candle that has closed, with the frame that showed it."""

    ticker: str
    candle: Candle
    seq: int


def candles(resolution: str) -> Callable[[Observable[MarketView]], Observable[ClosedCandle]]:
    """Turn market views into their candles, each once, as it closes.

    That is with the first view of its market after the next one began: with a trade of it, or a
    second into it. Those of before the first view are not emitted. What closed in a gap comes as it
    is then, partial; a trade that comes later changes `view.candles` alone. Cold if the source is;
    replays nothing; runs on the source's thread; completes and errors with it. `ValueError` for a
    resolution that is none.

        views    --v-v-v-v-v-v--|
        candles  -----c-----c---|
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"expected a resolution among {', '.join(RESOLUTIONS)}, got {resolution}")
    return fold(dict[str, int], partial(_closed, resolution))


def _closed(resolution: str, begun: dict[str, int], view: MarketView) -> list[ClosedCandle]:
    ring = view.candles.get(resolution)
    if not ring or ring.started_at == begun.get(view.ticker):
        return []
    since, begun[view.ticker] = begun.get(view.ticker, ring.started_at), ring.started_at
    count = min((ring.started_at - since) // ring.period_ns, len(ring) - 1)
    places = range(len(ring) - 1 - count, len(ring) - 1)
    return [ClosedCandle(view.ticker, ring[place], view.seq) for place in places]
