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

    Rules                           what may be believed: the table of limits
    Quality                         kinds of trouble, and when a market counts as stale
    Book, Trades, Flow, Candles     what a market stores, each usable on its own; the table of
                                    resolutions (which of them: `DataState`, as the bot makes it)
    Funding rates                   the chain's arithmetic; no state
    Premium                         the samples of the hour as far as they are known
    Grids and tails                 what the rules remember of a market
    Views                           `MarketView`, `DataState` and their parts
    Objections                      what stops an entry, an exit, the guard or a match
    Outlook                         what the hour's funding will come to
    Checks                          the rules at work
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
from itertools import islice
from typing import Any, Final, Literal, TypeVar

import msgspec
from dydx_conn import (
    CHANNELS,
    ENDPOINTS,
    BookContents,
    CandleFields,
    ConnError,
    Continuity,
    ErrorsContents,
    Frame,
    Lag,
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
    # Trades, Flow
    "WINDOWS", "Flow", "FlowWindow", "Trade",
    # Candles
    "RESOLUTIONS", "Candle", "Candles",
    # Funding rates
    "FundingHour", "FundingTerms", "charged_rate", "funding_clamp_ppm", "funding_rate",
    "funding_rate_8h_ppm", "impact_subticks", "indexer_next_rate", "oracle_subticks",
    "premium_sample", "premium_vote", "remove_tails",
    # Premium, Outlook
    "FundingOutlook", "Premium", "funding_outlook",
    # Rules
    "RULES", "Rule", "Severity", "Verdict",
    # Views
    "Chain", "DataState", "FundingRate", "MarketView", "Oracle",
    # Objections
    "LAG_NS", "Act", "Objection", "ObjectionKind", "objections", "silence", "stopping",
    # Frames
    "step",
    # Streams
    "market_views",
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


# === Rules ===
# What may be believed of a market. One table; Checks, far below, look where a figure comes
# in or once a second, and count what they find under the name of its rule.

Severity = Literal["suspect", "refused"]
Verdict = Literal["ok", "suspect", "refused"]


class Rule(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is odd: `limit` in `unit`, of what it `applies` to; suspects are used, refused are not.

    Limits are such that no recording of the real software, nor a crash of 30 %, meets one.
    """

    applies: str
    what: str
    unit: str
    limit: float
    severity: Severity = "suspect"


RULES: Final[Mapping[str, Rule]] = {
    "trade_grid": Rule(
        applies="trade", what="a price or size between ticks or steps", unit="of a step",
        limit=1e-3, severity="refused",
    ),
    "trade_range": Rule(
        applies="trade", what="more than any market could settle", unit="USDC", limit=1e15,
        severity="refused",
    ),
    "trade_price": Rule(
        applies="trade", what="beyond the book, the last trade and the oracle price, by more than "
        "those lie apart and this", unit="%", limit=2.0,
    ),
    "trade_size": Rule(
        applies="trade", what="above the open interest and a day's trades together, and above "
        "100 million USDC", unit="times", limit=10.0,
    ),
    "trade_tail": Rule(
        applies="trade", what="above the size that 999 of 1,000 trades do not exceed", unit="times",
        limit=10.0,
    ),
    "candle": Rule(
        applies="candle", what="off its grid, of the future, negative, or open and close not "
        "within low and high: `Candles.put` refuses it", unit="", limit=0.0, severity="refused",
    ),
    "oracle_jump": Rule(
        applies="oracle", what="from the price before, in one update", unit="%", limit=25.0,
    ),
    "funding_clamp": Rule(
        applies="funding", what="above the most that the chain charges", unit="times", limit=1.0,
    ),
    "book_oracle": Rule(
        applies="book", what="the whole book on one side of the oracle price, for 3 s", unit="%",
        limit=2.0,
    ),
    "book_trade": Rule(
        applies="book", what="a trade of the last 10 s outside the best prices, for 3 s", unit="%",
        limit=10.0,
    ),
    "book_grid": Rule(
        applies="book", what="a best price or size between ticks or steps, or any, once in 10 min",
        unit="of a step", limit=1e-3,
    ),
    "book_levels": Rule(
        applies="book", what="a price twice on one side of a snapshot", unit="", limit=0.0,
    ),
    "block_pace": Rule(applies="block", what="since the block before", unit="s", limit=30.0),
    "receive_lag": Rule(
        applies="block", what="from its stamp to its receipt, beyond the least of the run",
        unit="s", limit=30.0,
    ),
}  # fmt: skip


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
    early (book updates without a snapshot), crossed, stale, clock (it was set), and each of
    `RULES`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=16))
    stale: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the gravest that a rule has found so far; lost and late frames are no rule's."""
        found = {RULES[kind].severity for kind in self.counts if kind in RULES}
        return "refused" if "refused" in found else "suspect" if found else "ok"

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
# One trade of the tape. Wire text becomes a `Trade` in Tapes.


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


# === Flow ===
# Who took how much of a market, by windows. Totals since the start are noted where a bucket with
# trades begins: a window is a difference of two of them, and nothing is summed again.

# The windows of flow: which ring they are read from, and of how many of its buckets.
WINDOWS: Final[Mapping[str, tuple[int, int]]] = {
    "1S": (0, 1), "10S": (0, 10), "1MIN": (0, 60),
    "5MINS": (1, 60), "1HOUR": (1, 720),
    "24HOURS": (2, 288),
}  # fmt: skip
# The rings: seconds of a bucket, and how many buckets. Each width divides the next.
_RINGS: Final = ((1, 60), (5, 720), (300, 288))
_FORCED: Final = frozenset(("LIQUIDATED", "DELEVERAGED"))
# Sizes are summed in hundred-millionths of a base unit and USDC in millionths: whole numbers,
# whose sums in floats are exact up to 2**53, some 9e9 USDC, and 1e-16 of the sum above it.
_SIZE_UNITS: Final = 1e8
_USDC_UNITS: Final = 1e6


@dataclass(slots=True, eq=False, kw_only=True)
class FlowWindow:
    """What takers traded in one window: base units, and `usd` in USDC.

    `liquidated` is the share of liquidations and deleveragings in the size, 0 to 1. `largest` and
    `quantile` look into the flow: read them within the frame.
    """

    buys: float = 0.0
    sells: float = 0.0
    usd: float = 0.0
    trades: int = 0
    liquidated: float = 0.0
    _flow: "Flow"
    _window: str

    @property
    def size(self) -> float:
        """Return what was bought and sold."""
        return self.buys + self.sells

    @property
    def delta(self) -> float:
        """Return what takers bought less what they sold: the cumulative volume delta."""
        return self.buys - self.sells

    @property
    def vwap(self) -> float | None:
        """Return the average price, weighted by size; None without trades."""
        return self.usd / self.size if self.trades else None

    @property
    def largest(self) -> float:
        """Return the largest trade's size, 0 without trades."""
        return self._flow.largest(self._window)

    def quantile(self, q: float) -> float | None:
        """Return the size that a share `q` of the trades does not exceed; None without trades.

        Exact, of the newest 32,768 trades since quantiles or prices of this market were first read.
        """
        if not 0.0 <= q <= 1.0:
            raise DataError(f"expected a share of 0 to 1, got {q}")
        sizes = self._flow.sizes(self._window)
        return sorted(sizes)[max(math.ceil(q * len(sizes)) - 1, 0)] if sizes else None


class _Ring:
    """The totals before each bucket with trades, oldest first; those past `span` are dropped."""

    __slots__ = ("before", "buckets", "largest", "span", "width_s")

    def __init__(self, width_s: int, span: int) -> None:
        self.width_s, self.span = width_s, span
        self.buckets = array("q")
        self.before = array("d")  # five totals a bucket
        self.largest = array("d")

    def begin(self, bucket: int, totals: tuple[int, ...]) -> None:
        self.buckets.append(bucket)
        self.before.extend(totals)
        self.largest.append(0.0)
        if len(self.buckets) > self.span + self.span // 8:
            old = bisect_right(self.buckets, bucket - self.span)
            del self.buckets[:old], self.before[: 5 * old], self.largest[:old]

    def insert(self, bucket: int, parts: tuple[int, ...], size: int) -> int | None:
        """Count a late trade; return how many trades were before the next bucket, if known."""
        buckets, before = self.buckets, self.before
        row = bisect_left(buckets, bucket)
        reaches = bucket > buckets[-1] - self.span
        if reaches:
            if buckets[row] != bucket:
                buckets.insert(row, bucket)
                before[5 * row : 5 * row] = before[5 * row : 5 * row + 5]
                self.largest.insert(row, 0.0)
            self.largest[row] = max(self.largest[row], size)
            row += 1
        trades = int(before[5 * row + 3]) if row < len(buckets) else -1
        for place in range(5 * row, len(before)):
            before[place] += parts[place % 5]
        return trades if reaches else None


class _Log:
    """Price and size of the newest trades, a sale negative, and the volume by price of an hour."""

    __slots__ = ("first", "prices", "profile", "since", "sizes")

    def __init__(self, trades: int) -> None:
        self.first = self.since = trades  # how many came before the log, and before the hour
        self.prices, self.sizes = array("d"), array("d")
        self.profile: dict[float, list[float]] = {}

    def add(self, number: int, price: float, size: int) -> None:
        """Take a trade in, before which there were `number`."""
        place = number - self.first
        if place < 0:  # older than the log
            self.first, self.since = self.first + 1, self.since + 1
            return
        self.prices.insert(place, price)
        self.sizes.insert(place, size)
        if number >= self.since:
            row = self.profile.setdefault(price, [0.0, 0.0])
            row[size < 0] += abs(size)
        else:
            self.since += 1
        if len(self.sizes) > _LOGGED:
            excess = len(self.sizes) - _LOGGED + _LOGGED // 8
            self.drop_before(self.first + excess)
            del self.prices[:excess], self.sizes[:excess]
            self.first += excess

    def drop_before(self, number: int) -> None:
        """Take from the volume by price what is no longer of the hour."""
        for place in range(self.since - self.first, number - self.first):
            price, size = self.prices[place], self.sizes[place]
            row = self.profile[price]
            row[size < 0] -= abs(size)
            if not any(row):
                del self.profile[price]
        self.since = max(self.since, number)


_LOGGED: Final = 32_768


class Flow:
    """Who took what: windows of whole buckets, the one that is still open included.

    `over` reads a window at the venue's time `now_ns`, which the fold sets once a second. A late
    trade counts where it belongs. Rings are made with the first trade; single trades are logged
    from when `quantile` or `by_price` is first read.
    """

    __slots__ = (
        "_buys", "_forced", "_log", "_most", "_rings", "_second", "_sells", "_trades", "_usd",
        "now_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self.now_ns = 0
        self._rings: tuple[_Ring, ...] = ()
        self._log: _Log | None = None
        self._buys = self._sells = self._usd = self._trades = self._forced = 0
        self._second = -1  # of the newest trade
        self._most = 0  # the largest size of this second

    def add(self, trade: Trade) -> None:
        """Count one trade."""
        second = trade.at_ns // _SECOND
        if second > self._second:
            self._begin(second)
        size = round(trade.size * _SIZE_UNITS)
        usd = round(trade.price * trade.size * _USDC_UNITS)
        is_buy, is_forced = trade.side == "BUY", trade.type in _FORCED
        if second < self._second:
            self._insert(second, trade.price, size, usd, is_buy, is_forced)
        elif self._log is not None:
            self._log.add(self._trades, trade.price, size if is_buy else -size)
        if is_buy:
            self._buys += size
        else:
            self._sells += size
        self._usd += usd
        self._trades += 1
        if is_forced:
            self._forced += size
        if size > self._most and second == self._second:
            self._most = size
            for ring in self._rings:
                if size <= ring.largest[-1]:
                    break
                ring.largest[-1] = size

    def _begin(self, second: int) -> None:
        if not self._rings:
            self._rings = tuple(_Ring(*shape) for shape in _RINGS)
        totals = self._buys, self._sells, self._usd, self._trades, self._forced
        for ring in self._rings:
            bucket = second // ring.width_s
            if ring.buckets and ring.buckets[-1] == bucket:
                break  # as are the wider ones
            ring.begin(bucket, totals)
        self._second, self._most = second, 0

    def _insert(
        self, second: int, price: float, size: int, usd: int, is_buy: bool, is_forced: bool
    ) -> None:
        parts = size if is_buy else 0, 0 if is_buy else size, usd, 1, size if is_forced else 0
        numbers = [ring.insert(second // ring.width_s, parts, size) for ring in self._rings]
        if self._log is not None:
            # By the finest ring that reaches it; one that none reaches is older than the log.
            number = next((x for x in numbers if x is not None), 0)
            self._log.add(self._trades if number < 0 else number, price, size if is_buy else -size)

    def over(self, window: str) -> FlowWindow:
        """Return what was traded in one of `WINDOWS`."""
        ring, row = self._start(window)
        if ring is None:
            return FlowWindow(_flow=self, _window=window)
        buys, sells, usd, trades, forced = ring.before[5 * row : 5 * row + 5]
        buys, sells = self._buys - buys, self._sells - sells
        return FlowWindow(
            buys=buys / _SIZE_UNITS, sells=sells / _SIZE_UNITS,
            usd=(self._usd - usd) / _USDC_UNITS, trades=self._trades - int(trades),
            liquidated=(self._forced - forced) / ((buys + sells) or 1.0),
            _flow=self, _window=window,
        )  # fmt: skip

    def largest(self, window: str) -> float:
        """Return the largest size in a window, 0 without trades."""
        ring, row = self._start(window)
        return max(ring.largest[row:]) / _SIZE_UNITS if ring is not None else 0.0

    def sizes(self, window: str) -> list[float]:
        """Return the sizes of a window's trades that are logged, oldest first."""
        log, first = self._logged(window)
        return [abs(size) / _SIZE_UNITS for size in log.sizes[max(first - log.first, 0) :]]

    def by_price(self) -> dict[float, tuple[float, float]]:
        """Return what was bought and sold at each price in the last hour, lowest price first.

        Of the trades since it was first read, and at most the newest 32,768.
        """
        log, first = self._logged("1HOUR")
        log.drop_before(first)
        found = sorted(log.profile.items())
        return {price: (row[0] / _SIZE_UNITS, row[1] / _SIZE_UNITS) for price, row in found}

    def _logged(self, window: str) -> tuple[_Log, int]:
        """Return the log, and how many trades came before the window."""
        if self._log is None:
            self._log = _Log(self._trades)
        ring, row = self._start(window)
        return self._log, self._trades if ring is None else int(ring.before[5 * row + 3])

    def _start(self, window: str) -> tuple[_Ring | None, int]:
        """Return the ring of a window, and its first bucket with trades there; None without."""
        if window not in WINDOWS:
            raise DataError(f"expected a window among {', '.join(WINDOWS)}, got {window!r}")
        which, count = WINDOWS[window]
        if not self._rings:
            return None, 0
        ring = self._rings[which]
        newest = max(self.now_ns // _SECOND, self._second) // ring.width_s
        row = bisect_left(ring.buckets, newest - count + 1)
        return (ring, row) if row < len(ring.buckets) else (None, 0)


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


def _flat(started_at: int, price: float) -> Candle:
    return Candle(started_at, price, price, price, price, 0.0, 0.0, 0)


@dataclass(slots=True, eq=False)
class Candles:
    """A market's newest candles of one resolution, oldest first, without a hole.

    Made from trades; where the venue sent candles, those and the trades after `received_ns`. A
    period without trades is flat at the last close. All before `reported_at`, where the newest that
    the venue sent begins, is the venue's.
    """

    period_ns: int
    capacity: int = 240
    received_ns: float = -math.inf
    reported_at: int = 0
    started_at: int = 0  # of the newest
    _traded_ns: int = 0  # the newest trade
    _ring: deque[Candle] = field(init=False)

    def __post_init__(self) -> None:
        self._ring = deque(maxlen=self.capacity)

    def __len__(self) -> int:
        return len(self._ring)

    def __getitem__(self, index: int) -> Candle:
        return self._ring[index]

    def __iter__(self) -> Iterator[Candle]:
        return iter(self._ring)

    @property
    def last(self) -> Candle | None:
        """Return the candle that is still growing."""
        return self._ring[-1] if self._ring else None

    def closes(self, count: int | None = None) -> list[float]:
        """Return the newest closes, oldest first."""
        skipped = 0 if count is None else max(0, len(self._ring) - count)
        return [candle.close for candle in islice(self._ring, skipped, None)]

    def add(self, at_ns: int, price: float, size: float) -> None:
        """Count one trade; a late one goes to its own candle, if the ring still has it."""
        ring, index = self._ring, self._index(at_ns, price)
        if index < 0 or at_ns <= self.received_ns:
            return
        was, usd, close = ring[index], price * size, price
        if was.trades:
            opened, high, low = was.open, was.high, was.low
            high, low = price if price > high else high, price if price < low else low
            if at_ns < self._traded_ns < was.started_at + self.period_ns:
                close = was.close  # a newer one of this candle came before it
        else:
            opened = high = low = price
        self._traded_ns = max(self._traded_ns, at_ns)
        ring[index] = Candle(
            was.started_at, opened, high, low, close,
            was.volume + size, was.usd_volume + usd, was.trades + 1,
        )  # fmt: skip
        self._carry_on(index, close)

    def put(self, candle: Candle) -> None:
        """Take a candle from the wire, new or again."""
        index = self._index(candle.started_at, candle.open)
        self.reported_at = max(self.reported_at, candle.started_at)
        if index >= 0:
            self._ring[index] = candle
            self._carry_on(index, candle.close)

    def _carry_on(self, index: int, close: float) -> None:
        # Flat candles already written after a late one take over its close.
        ring = self._ring
        for later in range(index + 1, len(ring)):
            if ring[later].trades:
                break
            ring[later] = _flat(ring[later].started_at, close)

    def roll(self, now_ns: int) -> None:
        """Write a flat candle for each period that began until `now_ns` without a trade."""
        start = now_ns - now_ns % self.period_ns
        if not self._ring or start <= self.started_at:
            return
        close = self._ring[-1].close
        # A silence longer than the ring overwrites all of it, once.
        self.started_at = max(self.started_at, start - self.capacity * self.period_ns)
        while self.started_at < start:
            self.started_at += self.period_ns
            self._ring.append(_flat(self.started_at, close))

    def _index(self, at_ns: int, price: float) -> int:
        """Return which candle `at_ns` belongs to, after making those up to it; < 0 for none."""
        if not self._ring:
            self.started_at = at_ns - at_ns % self.period_ns
            self._ring.append(_flat(self.started_at, price))
        elif at_ns >= self.started_at + self.period_ns:
            self.roll(at_ns)
        return len(self._ring) - 1 + (at_ns - self.started_at) // self.period_ns


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
    # The chain samples at half past each minute, and pays on the hour.
    sample_offset_seconds: int = 30
    # Set for each tier on the chain: on the mainnet so many quote quantums over the initial margin.
    impact_notional_at_100_percent: int = 500_000_000

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


def charged_rate(rate_8h_ppm: int, market: PerpetualMarket, terms: FundingTerms) -> int:
    """Bound a rate as the chain bounds what it charges, in ppm per 8 hours."""
    factor = terms.funding_rate_clamp_factor_ppm
    most = funding_clamp_ppm(factor, market.imf_ppm, market.maintenance_fraction_ppm)
    return max(min(rate_8h_ppm, most), -most)


def funding_rate_8h_ppm(rate_1h: Decimal | str) -> int:
    """Convert the indexer's hourly rate to ppm per 8 hours, truncated as on the chain."""
    try:
        digits, exponent = exact(rate_1h)
    except (ConnError, ValueError, ArithmeticError):
        raise DataError(f"expected an hourly funding rate, got {rate_1h}") from None
    times, over = 8 * _PPM * 10 ** max(exponent, 0), 10 ** max(-exponent, 0)
    rate: int = abs(digits) * times // over
    return rate if digits >= 0 else -rate


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


# Both sides of a book, bids first, as (subticks, quantums) of levels.
Sides = Callable[[], tuple[Iterable[tuple[int, int]], Iterable[tuple[int, int]]]]


class FundingHour:
    """The votes of a minute and the samples of an hour of one market, folded as the chain does.

    `vote` once a block, `sample` once a minute, `settle` once an hour.
    """

    __slots__ = ("samples", "terms", "votes")

    def __init__(self, terms: FundingTerms, samples: Iterable[int] = ()) -> None:
        self.terms = terms
        self.votes: list[int] = []
        self.samples = [*samples]

    def vote(
        self, market: PerpetualMarket, bid: int | None, ask: int | None, sides: Sides,
        price: int, exponent: int,
    ) -> None:  # fmt: skip
        """Add a block's vote: the best prices in subticks, and how to come by both whole sides."""
        index, terms, vote = oracle_subticks(market, price, exponent), self.terms, 0
        # Nearly always inside, and known without a look at the levels.
        if (bid is not None and bid > index) or (ask is not None and ask < index):
            factor = terms.premium_vote_clamp_factor_ppm
            most = funding_clamp_ppm(factor, market.imf_ppm, market.maintenance_fraction_ppm)
            notional = terms.impact_notional_at_100_percent * _PPM // market.imf_ppm
            vote = premium_vote(
                market, *sides(), price, exponent, impact_notional=notional, clamp_ppm=most
            )
        self.votes.append(vote)

    def sample(self) -> int:
        """Close the minute: its votes become one sample, which is returned."""
        self.samples.append(premium_sample(self.votes, terms=self.terms))
        self.votes = []
        return self.samples[-1]

    def settle(self, market: PerpetualMarket, default_ppm: int = 0) -> int:
        """Close the hour: return the rate that its samples make, in ppm per 8 hours."""
        samples, self.samples = self.samples, []
        imf, fraction = market.imf_ppm, market.maintenance_fraction_ppm
        return funding_rate(samples, imf, fraction, default_ppm, terms=self.terms)


# === Premium ===
# What is known of the hour's funding of one market: the venue's samples, read from the digits of
# its figure, and our own votes on its book. What the hour may cost is read in Outlook.


@dataclass(slots=True, eq=False)
class Premium:
    """The samples of this hour, as far as they are known: ppm per 8 hours without the default.

    The first `due` of `hour` come to `total`, by the venue's figure; `recent` is the mean of the
    newest of them. `own` are our samples by their number since 1970, whole minutes alone, of the
    blocks since somebody read an outlook. `rates` are the last 240 hourly rates that the venue
    answered, by the ns at which they took effect.
    """

    terms: FundingTerms = field(default_factory=FundingTerms)
    hour: int = 0
    due: int = 0
    total: int = 0
    recent: float = 0.0
    default_ppm: int = 0
    rates: dict[int, float] = field(default_factory=dict)
    own: dict[int, int] = field(default_factory=dict)
    _counts: frozenset[int] = frozenset()
    _votes: FundingHour | None = None
    _number: int = 0  # of the sample that is being voted on
    _is_whole: bool = False

    def due_by(self, at_ns: int) -> tuple[int, int]:
        """Return the hour that an instant of the venue lies in, and its samples due by then."""
        hour, number = at_ns // _SECOND // self.terms.tick_seconds, self._due(at_ns)
        return hour, number - self._due(hour * self.terms.tick_seconds * _SECOND)

    def _due(self, at_ns: int) -> int:
        terms = self.terms
        return (at_ns // _SECOND - terms.sample_offset_seconds) // terms.sample_seconds + 1

    def report(self, rate_1h: float, at_ns: int) -> None:
        """Take the venue's figure, the mean of the samples so far, reported at `at_ns`."""
        hour, due = self.due_by(at_ns)
        if not due:  # until the first sample it is the last hour's
            hour, due = hour - 1, self.terms.samples_per_tick
        mean = rate_1h * 8 * _PPM - self.default_ppm
        # A sum of samples is whole. So the digits tell how many they are, where an indexer has
        # fewer than the hour had; after a few reports one number alone goes with all of them.
        fits = frozenset(n for n in range(1, due + 1) if abs(mean * n - round(mean * n)) < 1e-3)
        is_same, before, total = hour == self.hour, max(self._counts, default=0), self.total
        moved = frozenset(n + due - self.due for n in self._counts) & fits if is_same else fits
        self._counts = moved or fits
        known = max(self._counts, default=due)
        self.hour, self.due, self.total, self.recent = hour, due, round(mean * known), mean
        if is_same and known > before > 0:
            self.recent = (self.total - total) / (known - before)

    def vote(self, market: PerpetualMarket, book: Book, price: tuple[int, int], at_ns: int) -> None:
        """Vote once a block, as a proposer would with this book and oracle price."""
        number = self._due(at_ns)
        if self._votes is None:
            self._votes, self._number = FundingHour(self.terms), number + 1
        bid, ask = book.best_bid, book.best_ask
        self._votes.vote(
            market, None if bid is None else _level(market, bid)[0],
            None if ask is None else _level(market, ask)[0],
            lambda: ([_level(market, x) for x in book.bids(_VOTED)],
                     [_level(market, x) for x in book.asks(_VOTED)]),
            *price,
        )  # fmt: skip
        if number >= self._number:  # this block closes the minute
            if self._is_whole:
                self.own[self._number] = self._votes.sample()
                while len(self.own) > self.terms.samples_per_tick:
                    del self.own[min(self.own)]
            self._votes.votes = []
            self._number, self._is_whole = number + 1, True

    def settled(self, rows: Iterable[tuple[int, float]]) -> None:
        """Take hourly rates that took effect, by their ns."""
        self.rates.update(rows)
        self.rates = dict(sorted(self.rates.items())[-_HOURS:])


_HOURS: Final = 240  # that rates are stored of
_VOTED: Final = 100  # levels a side: the impact notional is small


def _level(market: PerpetualMarket, level: Level) -> tuple[int, int]:
    return market.floor_subticks(level.price_text), market.floor_quantums(level.size_text)


# === Grids and tails ===
# What the rules remember of a market.


class _Checks:
    """What the rules remember of a market: its grid, how large trades are, what lasts."""

    __slots__ = ("_due", "_sizes", "apart", "astray", "book_seq", "grid", "tail", "trades", "turn")

    def __init__(self, turn: int = 0) -> None:
        self.turn = turn % 600  # the second of ten minutes in which all levels are looked at
        self.grid: tuple[float, float] | None = None  # ticks a USDC, steps a base unit
        self.tail = math.inf  # ten times the p99.9 of sizes
        self.trades = self._due = self.book_seq = 0
        self._sizes: dict[int, int] = {}  # trades by the size in eighths of an octave
        self.apart = self.astray = 0  # checks in a row that found the book off

    def count(self, size: float) -> None:
        """Count a trade's size; the tail follows as trades grow by a sixteenth."""
        place = int(math.log2(size) * 8 + 8_192)
        self._sizes[place] = self._sizes.get(place, 0) + 1
        self.trades += 1
        if self.trades >= _TAIL_TRADES and self.trades >= self._due:
            self._due = self.trades + self.trades // 16
            above, left = max(self._sizes), self.trades // 1_000
            for above in sorted(self._sizes, reverse=True):
                left -= self._sizes[above]
                if left < 0:
                    break
            self.tail = RULES["trade_tail"].limit * 2 ** ((above - 8_191) / 8)

    def set_grid(self, market: PerpetualMarket) -> None:
        """Take a market's grid."""
        shift = market.quantum_conversion_exponent - market.atomic_resolution - 6
        self.grid = (
            1 / (market.subticks_per_tick * 10.0**shift),
            1 / (market.step_base_quantums * 10.0**market.atomic_resolution),
        )


_TAIL_TRADES: Final = 1_000  # fewer say nothing of one in a thousand


def _off(number: float, per_unit: float) -> bool:
    # A float tells thousandths of a step up to 1e12 steps.
    steps = number * per_unit
    return abs(steps - round(steps)) > _OFF and steps < 1e12


_OFF: Final = RULES["trade_grid"].limit


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
    stand-in, or an old recording, may live in another year than its receiver. `priced_at` is until
    when the last oracle prices are known to be the chain's: it refuses small moves, so that a price
    may stand for hours, and nothing says so but the silence of a link that works. `lag_ns` is for
    how long frames wait until they are folded, as the last tick reported; 0 below 250 ms.
    """

    height: int = 0
    time_ns: int = 0
    seq: int = 0
    at: int = 0
    priced_at: int = 0
    skew_ns: int | None = None
    lag_ns: int = 0
    watched: "dict[str, MarketView]" = field(default_factory=dict)  # whose premium is voted on


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
    premium: Premium = field(default_factory=Premium)
    quality: Quality = field(default_factory=Quality)
    link: str = ""
    live_at: int = 0
    _ids: dict[str, None] = field(default_factory=dict)
    _checks: _Checks = field(default_factory=_Checks)

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
        # Of a lag: up to which frame a book is updated without a word, and which books were.
        self._together: dict[str, int] = {}
        self._unseen: dict[str, None] = {}
        self.frames = self.at = self.seq = 0
        # How far the wall clock was set since the first frame: all times here are without it.
        self.jumped_ns = 0
        self._least_lag_ns = 2**63  # of a block's stamp to its receipt, clocks apart included
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
        candles = {name: Candles(RESOLUTIONS[name]) for name in self._resolutions}
        fields = MarketFields(ticker=ticker)
        view = MarketView(ticker, self.chain, candles, fields, _checks=_Checks(len(self.views)))
        return self.views.setdefault(ticker, view)


# A hostile stream may name markets without end; the venue has some three hundred.
_MOST_MARKETS: Final = 2_000


# === Objections ===
# May a market be traded, and may what is known of it be believed? All layers decide by this
# section, and one table lists what each objection stops. Positions, margin and orders are unknown
# here.

ObjectionKind = Literal[
    "STATUS", "UNKNOWN_STATUS", "UNKNOWN_MARKET", "UNKNOWN_ORACLE", "UNKNOWN_BOOK", "ONE_SIDED",
    "STALE", "LAG",
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
# not an act but a belief: may a cost be read off the book, or must the oracle price do? Of a lag
# the venue knows nothing, and on the way out prices some seconds old are better than none.
_STOPS: Final[Mapping[ObjectionKind, frozenset[Act]]] = {
    "STATUS": frozenset(["entry", "exit", "guard", "match"]),
    "UNKNOWN_STATUS": frozenset(["entry"]),
    "UNKNOWN_MARKET": frozenset(["entry", "exit", "guard", "match", "book"]),
    "UNKNOWN_ORACLE": frozenset(["entry", "match"]),
    "UNKNOWN_BOOK": frozenset(["entry", "match", "book"]),
    "ONE_SIDED": frozenset(["entry", "book"]),
    "STALE": frozenset(["entry", "match", "book"]),
    "LAG": frozenset(["entry"]),
}
# What waited longer than this before it was folded is no ground for a new risk.
LAG_NS: Final = 2 * _SECOND


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
    counts, and no lag.
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
    if at is not None and (lag_ns := view.chain.lag_ns) > LAG_NS:
        lag_s, limit_s = f"{lag_ns / _SECOND:.1f}", f"{LAG_NS / _SECOND:g}"
        why = f"frames wait {lag_s} s before they are folded, limit {limit_s} s"
        found.append(Objection("LAG", why, (("lag_s", lag_s), ("limit_s", limit_s))))
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


# === Outlook ===
# What the hour's funding will come to, as far as it is known, beside what the venue says.


class FundingOutlook(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What this hour will be charged, in ppm per 8 hours; longs pay if positive.

    `predicted_ppm` is padded, truncated and clamped as the chain will. `venue_ppm` is the venue's
    figure, which is neither, and `own_ppm` the mean of our own samples of this hour, by the oracle
    price where proposers see a newer index: None while unknown. `share_known` of the hour's
    samples are in the venue's figure; those to come are taken to be as the newest, or as ours where
    the venue has reported none.
    """

    predicted_ppm: int
    venue_ppm: float | None
    own_ppm: float | None
    clamp_ppm: int
    is_clamped: bool
    share_known: float
    seconds_to_tick: float

    @property
    def rate_1h(self) -> float:
        """Return the prediction as a fraction per hour."""
        return self.predicted_ppm / (8 * _PPM)

    @property
    def rate_1y(self) -> float:
        """Return the prediction as a fraction per year of 365 days, not compounded."""
        return self.rate_1h * 24 * 365

    @property
    def disagreement_ppm(self) -> float | None:
        """Return by how much the prediction is above the venue's figure."""
        return None if self.venue_ppm is None else self.predicted_ppm - self.venue_ppm


def funding_outlook(view: MarketView) -> FundingOutlook | None:
    """Return what is known of the hour's funding; None without parameters, or without a sample.

    Reading it has the premium of this market voted on from the next block on.
    """
    premium, market, chain = view.premium, view.market, view.chain
    if view.ticker not in chain.watched:
        chain.watched[view.ticker] = view
        if view.funding.known:
            premium.report(view.funding.next_rate_1h, view.funding.at + (chain.skew_ns or 0))
    now_ns = max(chain.time_ns, view.at + (chain.skew_ns or 0))
    hour, due = premium.due_by(now_ns)
    terms, reported = premium.terms, view.funding.known
    count, first = terms.samples_per_tick, premium.due if hour == premium.hour else 0
    numbers = range(hour * count + 1, hour * count + due + 1)
    own = [premium.own[number] for number in numbers if number in premium.own]
    if market is None or not (own or reported):
        return None
    if reported:
        total, known, level = premium.total if first else 0, first, premium.recent
    else:
        total, known, level = sum(own), len(own), float(own[-1])  # integers
    rate = int((total + level * (count - known)) / count) + premium.default_ppm
    charged = charged_rate(rate, market, terms)
    return FundingOutlook(
        predicted_ppm=charged,
        venue_ppm=view.funding.next_rate_1h * 8 * _PPM if reported else None,
        own_ppm=math.fsum(own) / len(own) + premium.default_ppm if own else None,
        clamp_ppm=charged_rate(_PPM * _PPM, market, terms),
        is_clamped=charged != rate,
        share_known=first / count,
        seconds_to_tick=terms.tick_seconds - now_ns / _SECOND % terms.tick_seconds,
    )


# === Checks ===
# The rules of the table at work. A check returns nothing and counts what it finds; one that may
# refuse returns whether to go on.


def _break(view: "MarketView | DataState", seq: int, rule: str, got: str) -> None:
    row = RULES[rule]
    limit = f", limit {row.limit:g} {row.unit}" if row.unit else ""
    view.quality.note(seq, rule, f"{got}{limit}")


def _check_trade(view: MarketView, frame: Frame, trade: Trade) -> bool:
    """Return whether a trade can be; count it if it is odd, or refused."""
    checks, size, price = view._checks, trade.size, trade.price
    if price * size > _WHALE_USDC and not _check_whale(view, frame, trade):
        return False
    if checks.grid is not None:
        ticks, steps = checks.grid
        # The chain computes the price of a deleveraging: it is on no grid.
        if _off(size, steps) or (_off(price, ticks) and trade.type != "DELEVERAGED"):
            _break(view, frame.seq, "trade_grid", _words(trade.price_text, trade.size_text))
            return False
    if not frame.is_snapshot:  # its trades are of other prices
        oracle = view.oracle
        if oracle is not None and not 0.98 < price / oracle.price < 1.02:
            _check_price(view, frame, trade, oracle.price)
        if size > checks.tail:
            usual = checks.tail / RULES["trade_tail"].limit
            _break(view, frame.seq, "trade_tail", f"{size:g} where usual ones end at {usual:g}")
    checks.count(size)
    return True


_WHALE_USDC: Final = 1e8


def _words(price_text: str, size_text: str) -> str:
    return f"{size_text[:40]} at {price_text[:40]}"


def _check_whale(view: MarketView, frame: Frame, trade: Trade) -> bool:
    if trade.price * trade.size > RULES["trade_range"].limit:
        _break(view, frame.seq, "trade_range", _words(trade.price_text, trade.size_text))
        return False
    if not frame.is_snapshot and view.open_interest and view.market:
        usual = float(view.market.size(view.open_interest)) + view.flow.over("24HOURS").size
        if trade.size > RULES["trade_size"].limit * usual:
            _break(view, frame.seq, "trade_size", f"{trade.size:g} where {usual:g} are usual")
    return True


def _check_price(view: MarketView, frame: Frame, trade: Trade, oracle: float) -> None:
    known = [oracle, *(x.price for x in (view.book.best_bid, view.book.best_ask) if x is not None)]
    if view.trades:
        known.append(view.trades[-1].price)
    low, high, price = min(known), max(known), trade.price
    off = price / high - 1 if price > high else 1 - price / low
    limit = RULES["trade_price"].limit / 100 + high / low - 1
    if off > limit and trade.type != "DELEVERAGED":
        got = f"{price:g} where {low:g} to {high:g} are known"
        _break(view, frame.seq, "trade_price", got)


def _check_oracle(view: MarketView, seq: int, before: Oracle | None) -> None:
    now = view.oracle
    if before is not None and now is not None:
        jump = 100 * (now.price / before.price - 1)
        if abs(jump) > RULES["oracle_jump"].limit:
            _break(view, seq, "oracle_jump", f"{before.text} to {now.text}, {jump:+.1f} %")


def _check_rate(view: MarketView, seq: int) -> None:
    if (market := view.market) is not None:
        most = charged_rate(_PPM * _PPM, market, view.premium.terms) / (8 * _PPM)
        if abs(view.funding.next_rate_1h) > RULES["funding_clamp"].limit * most > 0:
            got = f"{view.funding.next_rate_text} an hour of at most {most:.6g}"
            _break(view, seq, "funding_clamp", got)


def _check_block(state: DataState, seq: int, height: int, time_ns: int, at: int) -> None:
    chain = state.chain
    if chain.time_ns and height > chain.height:
        pace_s = (time_ns - chain.time_ns) / (height - chain.height) / _SECOND
        if pace_s > RULES["block_pace"].limit:
            _break(state, seq, "block_pace", f"{pace_s:.1f} s a block up to {height}")
    lag_ns = at - time_ns
    state._least_lag_ns = least = min(lag_ns, state._least_lag_ns)
    if (lag_s := (lag_ns - least) / _SECOND) > RULES["receive_lag"].limit:
        _break(state, seq, "receive_lag", f"block {height} came {lag_s:.1f} s late")


def _check_snapshot(view: MarketView, seq: int, contents: BookContents) -> None:
    for side in (contents.bids, contents.asks):
        twice = len(side) - len({price for price, _ in side})
        if twice:
            _break(view, seq, "book_levels", f"{twice} of {len(side)} levels")


def _check_book(view: MarketView, seq: int, now_ns: int) -> None:
    """Look at a book against all else, once a second where it changed or was off."""
    checks, book, oracle = view._checks, view.book, view.oracle
    bid, ask = book.best_bid, book.best_ask
    if bid is None or ask is None:
        checks.apart = checks.astray = 0
        return
    low, high = bid.price, ask.price
    if oracle is None or (low <= oracle.price * _ABOVE and high >= oracle.price * _BELOW):
        checks.apart = 0
    else:
        checks.apart += 1
        if checks.apart == _LASTS:
            _break(view, seq, "book_oracle", f"{low:g} and {high:g}, oracle {oracle.text}")
    if view.trades and now_ns - (last := view.trades[-1]).at_ns < 10 * _SECOND:
        astray = RULES["book_trade"].limit / 100
        if low <= last.price * (1 + astray) and high >= last.price * (1 - astray):
            checks.astray = 0
        else:
            checks.astray += 1
            if checks.astray == _LASTS:
                got = f"{low:g} and {high:g}, last trade {last.price_text}"
                _break(view, seq, "book_trade", got)
    if checks.grid is not None and checks.book_seq != book.seq:
        whole = now_ns // _SECOND % 600 == checks.turn
        for level in (*book.bids(), *book.asks()) if whole else (bid, ask):
            if _off(level.price, checks.grid[0]) or _off(level.size, checks.grid[1]):
                _break(view, seq, "book_grid", _words(level.price_text, level.size_text))
                break
    checks.book_seq = book.seq


_ABOVE: Final = 1 + RULES["book_oracle"].limit / 100
_BELOW: Final = 1 - RULES["book_oracle"].limit / 100
_LASTS: Final = 3  # checks in a row: sources come one after the other


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
        _check_snapshot(view, frame.seq, updates[0])
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
    view = state.views.get(frame.id) if frame.channel == "v4_orderbook" else None
    return _lose_book(view, frame) if view is not None else ()


def _lose_book(view: MarketView, frame: Frame) -> _Touched:
    if not view.book.known:
        return ()
    view.book.forget()
    return view._touch(frame, "book")


def _lose_link(state: DataState, frame: Frame) -> _Touched:
    """Make unknown what the frame's link keeps up to date, or all links if it names none."""
    if frame.link in ("", state._markets_link):
        state._markets_link = ""
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
    chain, unseen = view.chain, (x for y in updates for x in y.trades if _is_new(view, x.id))
    read = _readable(view, frame, lambda fields: _trade(chain, fields, frame.seq), unseen)
    fresh = [trade for trade in read if _check_trade(view, frame, trade)]
    if frame.is_snapshot:
        # Newest block first, and those of one block, which share their time, in no order.
        fresh.sort(key=_place)
    elif fresh and not chain.seq:
        chain.skew_ns = fresh[-1].at_ns - frame.at
    for trade in fresh:
        view.flow.add(trade)
        for candles in view.candles.values():
            candles.add(trade.at_ns, trade.price, trade.size)
    late = bool(fresh and view.trades) and _place(fresh[0]) < _place(view.trades[-1])
    view.trades += fresh
    if late:  # of an answer, or of a message that was overtaken
        view.trades = deque(sorted(view.trades, key=_place), view.trades.maxlen)
    if not (view.book.known and view.book.link):  # trades do not say that a book's link lives
        view.link, view.live_at = frame.link or view.link, frame.at
    view.fresh = fresh
    return view._touch(frame, "trades")


def _place(trade: Trade) -> tuple[int, str]:
    # The id is that of the chain's event: height, transaction, event, in hexadecimal.
    return trade.at_ns, trade.id


def _is_new(view: MarketView, id_: str) -> bool:
    ids = view._ids
    if not id_ or id_ in ids:
        return not id_
    ids[id_] = None
    if len(ids) > 2_048:
        del ids[next(iter(ids))]
    return True


def _trade(chain: Chain, fields: TradeFields, seq: int) -> Trade:
    at_ns = instant(fields.created_at)
    if chain.seq and at_ns > chain.time_ns + 60 * _MINUTE:
        # It would roll every window and candle ahead of all later trades.
        raise ValueError(f"expected a trade of the past, got one of {fields.created_at[:40]}")
    return Trade(
        fields.id, fields.side, _positive(fields.price), _positive(fields.size),
        fields.price, fields.size, at_ns, fields.type, seq,
    )  # fmt: skip


def _fold_candles(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    view = state._view(frame.id.partition("/")[0], frame.seq)
    if view is None:
        return ()
    newest_last = [fields for update in updates for fields in reversed(update.candles)]
    received = [*_readable(view, frame, _candle, newest_last)]
    skew_ns = view.chain.skew_ns
    # Later trades are added to the candles received, until the venue sends them again.
    received_ns = -math.inf if skew_ns is None else frame.at + skew_ns
    if frame.is_snapshot:  # it takes the place of ours
        view.candles.update({name: Candles(RESOLUTIONS[name]) for name, _ in received})
    for resolution, candle in received:
        candles = view.candles.setdefault(resolution, Candles(RESOLUTIONS[resolution]))
        candles.received_ns = received_ns
        candles.put(candle)
    return view._touch(frame, "candles")


def _candle(fields: CandleFields) -> tuple[str, Candle]:
    if fields.resolution not in RESOLUTIONS:
        raise ValueError(f"expected a known resolution, got {fields.resolution[:40]!r}")
    return fields.resolution, Candle(
        instant(fields.started_at), _positive(fields.open), _positive(fields.high),
        _positive(fields.low), _positive(fields.close), _number(fields.base_token_volume),
        _number(fields.usd_volume), fields.trades,
    )  # fmt: skip


def _fold_height(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    chain, is_next = state.chain, False
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
            is_next = True
        _check_block(state, frame.seq, height, time_ns, frame.at)
        chain.height, chain.time_ns, chain.seq = height, time_ns, frame.seq
        chain.skew_ns = time_ns - frame.at
    if is_next:
        for view in chain.watched.values():
            _vote(view, chain.time_ns)
    return ()


def _vote(view: MarketView, at_ns: int) -> None:
    market, oracle, book = view.market, view.oracle, view.book
    if market is not None and oracle is not None and book.known:
        view.premium.vote(market, book, (oracle.digits, oracle.exponent), at_ns)


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
    if text := fields.default_funding_rate_1h:
        view.premium.default_ppm = funding_rate_8h_ppm(text)
    if text := fields.next_funding_rate:
        view.funding = FundingRate(_number(text), text, frame.at, frame.seq)
        if view.ticker in view.chain.watched and frame.kind == "ws":  # an answer may be old
            view.premium.report(view.funding.next_rate_1h, frame.at + (view.chain.skew_ns or 0))
        _check_rate(view, frame.seq)


def _set_parameters(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    given = [name for name in _PARAMETERS if getattr(fields, name) is not None]
    for name in given:
        setattr(view._fields, name, getattr(fields, name))
    if given:
        market = perpetual_market(view._fields)
        if abs(market.atomic_resolution) > 40 or abs(market.quantum_conversion_exponent) > 40:
            raise ValueError(f"expected exponents within 40, got {market!r}")
        view.market = market
        view._checks.set_grid(market)


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
    text, before = fields.oracle_price or fields.price or "", view.oracle
    try:
        view.oracle = Oracle(_positive(text), *exact(text), frame.at, frame.seq, text)
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
        view.price_missed = True
        return "quality"
    view.price_missed = False
    _check_oracle(view, frame.seq, before)
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
    """Take what it reports of a lag, and give up overdue answers.

    The holes in the ids that those explained may be losses.
    """
    lost = [*_fold_lag(state, frame)] if frame.text else []
    for name, link in state.links.items():
        if link.owed and (late := link.overdue(frame.mono)):
            state.quality.note(frame.seq, "gap", f"{len(late)} answers overdue on {name}")
            lost += _lose_link(state, msgspec.structs.replace(frame, link=name))
    return tuple(lost)


def _fold_lag(state: DataState, frame: Frame) -> _Touched:
    """Fold books together from here on as a tick wants it; show those that this leaves out."""
    try:
        lag = Lag.of(frame)
    except ConnError as error:
        state.quality.note(frame.seq, "malformed", str(error))
        return ()
    state.chain.lag_ns = lag.age_ns
    state._together = {ticker: frame.seq + count for ticker, count in lag.books.items()}
    shown = [ticker for ticker in state._unseen if ticker not in lag.books]
    return [view for ticker in shown for view in _show(state, frame, state.views[ticker])]


def _show(state: DataState, frame: Frame, view: MarketView) -> _Touched:
    del state._unseen[view.ticker]
    return view._touch(frame, "book")


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
        return _fold_rates(state, frame) if frame.channel.startswith(_RATES) else ()
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


_RATES: Final = ENDPOINTS["historical_funding"].path.partition("{")[0]


def _fold_rates(state: DataState, frame: Frame) -> _Touched:
    """Take the hourly rates of an answer."""
    ticker = frame.channel[len(_RATES) :].partition("?")[0]
    view = state._view(ticker, frame.seq) if frame.ok else None
    if view is None:
        return ()
    try:
        rows = [x for page in contents(frame) for x in page.historical_funding]
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", str(error))
        return view._touch(frame, "quality")
    read = _readable(view, frame, lambda x: (instant(x.effective_at), _number(x.rate)), rows)
    view.premium.settled(read)
    return view._touch(frame, "funding")


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
        if state._together:
            touched = _fold_together(state, frame, touched)
    else:
        touched = _KINDS.get(frame.kind, _fold_unknown)(state, frame)
    return _judge(state, frame, touched) if at >= state._judge_at else touched


def _fold_together(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    """Hold back what a book became until the last of the updates that are folded together."""
    until, view = state._together.get(frame.id, 0), state.views.get(frame.id)
    if view is None or not until or frame.channel != "v4_orderbook":
        return touched
    if frame.seq < until and view.book.known and touched == (view,) and view.changed == "book":
        state._unseen[view.ticker] = None
        return ()
    if view.ticker in state._unseen and (frame.seq >= until or view in touched):
        return [*dict.fromkeys([*touched, *_show(state, frame, view)])]
    return touched


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
    since = at - state.stale_after_ns
    is_fresh = (not chain.at or chain.at > since) and chain.priced_at > since
    for view in state.views.values():
        if skew_ns is not None:
            view.flow.now_ns = at + skew_ns
            for candles in view.candles.values():
                candles.roll(at + skew_ns)
        if view.book.seq != view._checks.book_seq or view._checks.apart or view._checks.astray:
            _check_book(view, frame.seq, at + (skew_ns or 0))
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
    state.received_at[frame.link] = frame.at
    lost: _Touched = ()
    if trouble := link.take(frame):
        what = f"message_id {frame.message_id} on {frame.link}, channel "
        state.quality.note(frame.seq, trouble, what + (frame.channel or frame.type))
        if trouble == "duplicate":
            return ()
        if trouble == "gap":
            lost = _lose_link(state, frame)
        elif frame.channel != "v4_trades":
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
