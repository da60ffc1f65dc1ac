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

    Errors                          `DataError`, what was expected and what it was
    Numbers                         from the wire's texts to numbers, and what is none
    Rules                           what may be believed: the table of limits
    Quality                         kinds of trouble, and when a market counts as stale
    Book, Trades, Flow              what a market stores, each usable on its own
    Modelled books, Oracle estimate what they may have been where a history has none
    Trade ids                       which trades were seen
    Candle values, Candles          one, and a ring of them; the table of resolutions (which of
                                    them: `DataState`, as the bot makes it)
    Funding rates                   the chain's arithmetic; no state
    Premium                         the samples of the hour as far as they are known
    Grids and tails                 what the rules remember of a market
    Films                           books second by second
    Views                           `MarketView`, `DataState` and their parts
    Objections                      what stops an entry, an exit, the guard or a match
    Outlook                         what the hour's funding will come to
    Checks                          the rules at work
    Figures                         what data are worth, what a market is like, its books of late
    Book fits                       how to model a market's book, from recorded ones; its error
    Folding                         what readers of all channels share
    Modelled markets                books and oracle prices of a history, from what was traded
    Books, Tapes, Markets, Links    one reader a channel or kind of frame
    Frames                          `step`: which frame goes to which reader; clocks, silence
    Detectors                       `Detector` and `Detection`: what else goes on in a market
    Market makers, Arbitrage,       the three that there are; a new one is a class like these
    Price discovery                 (`Detector`), and one more entry in `DETECTORS`
    Streams                         `market_views` around `step`, `detections` around detectors

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
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import pairwise, takewhile
from statistics import median
from struct import Struct
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec
from dydx_conn import (
    CANDLE_S,
    CHANNELS,
    ENDPOINTS,
    HISTORY,
    BookContents,
    CandleFields,
    ConnError,
    Continuity,
    ErrorsContents,
    Fees,
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
    # Rules
    "RULES", "Rule", "Severity", "Verdict",
    # Quality
    "STALE_NS", "Quality", "Sample",
    # Book
    "Book", "Level", "uncross",
    # Modelled books
    "DISTANCES_BPS", "BookError", "BookModel", "BookTerms", "ModelledBook",
    # Trades
    "Trade",
    # Oracle estimate
    "OracleEstimate",
    # Flow
    "WINDOWS", "Flow", "FlowWindow",
    # Candle values
    "RESOLUTIONS", "Candle", "CandleState",
    # Candles
    "Candles",
    # Funding rates
    "FundingHour", "FundingTerms", "charged_rate", "funding_clamp_ppm", "funding_rate",
    "funding_rate_8h_ppm", "impact_subticks", "indexer_next_rate", "oracle_subticks",
    "premium_sample", "premium_vote", "remove_tails",
    # Premium
    "Premium",
    # Views
    "Bar", "Chain", "DataState", "FundingRate", "MarketView", "Oracle",
    # Objections
    "LAG_NS", "Act", "Objection", "ObjectionKind", "objections", "silence", "stopping",
    # Outlook
    "FundingOutlook", "funding_outlook",
    # Figures
    "SPANS", "BookSnapshot", "Depth", "MarketKind", "MarketState", "PriceRange", "QualityFigures",
    "book_depths", "book_snapshots", "market_state", "price_ranges", "quality_figures",
    # Book fits
    "BookFit",
    # Frames
    "step",
    # Detectors
    "Detection", "Detector",
    # Market makers
    "MarketMakers",
    # Arbitrage
    "Arbitrage",
    # Price discovery
    "DETECTORS", "PriceDiscovery",
    # Streams
    "ClosedCandle", "candles", "detections", "market_views",
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
_ENDLESS: Final = 1e30  # no price, size or rate comes near; sums and products stay finite below it


def _number(text: str) -> float:
    """Read decimal text; `ValueError` unless it is one number that a venue may have."""
    if abs(number := float(text)) < _ENDLESS:
        return number
    raise ValueError(f"expected a number within {_ENDLESS:g}, got {text[:40]!r}")


def _positive(text: str) -> float:
    if 0.0 < (number := float(text)) < _ENDLESS:
        return number
    _number(text)
    raise ValueError(f"expected a number above 0, got {text[:40]!r}")


def _floor(digits: int, power: int) -> int:
    return digits * _TENS[power] if power >= 0 else digits // _TENS[-power]


def _nearest(digits: int, power: int) -> int:
    return digits * _TENS[power] if power >= 0 else (2 * digits // _TENS[-power] + 1) // 2


@lru_cache(maxsize=512)  # a page of candles repeats most of its texts: half of them are flat
def _price(text: str, places: int) -> int:
    """Read a price in units of its last decimal place; what lies between is of the nearest."""
    if (price := _near(float(text), places)) is None:
        digits, power = exact(text)
        price = _nearest(digits, power + places)
    if 0 < price <= _MOST:
        return price
    raise ValueError(f"expected a price above 0 and within 63 bits, got {text[:40]!r}")


@lru_cache(maxsize=512)
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
    product = number * _SCALES[places]
    if -_SURE < product < _SURE and -0.01 < product - (units := round(product)) < 0.01:
        return units
    return None


_SCALES: Final[Mapping[int, float]] = {places: 10.0**places for places in range(-49, 50)}
_SURE: Final = 2.0**44  # up to here three roundings are wrong by less than 0.01
_TENS: Final[Sequence[int]] = [10**power for power in range(300)]  # beyond what `exact` reads
_MOST: Final = 2**63 - 1  # what a packed figure can be; who sends more is no venue


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
    "book_hidden": Rule(
        applies="book", what="a level that crosses the book, beyond all prices of ten minutes",
        unit="%", limit=2.0,
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


def _shares(seconds: int) -> tuple[float, float]:
    """Return the part of a new rate in the averages of 10 s and of 10 minutes."""
    return 1 - _FAST_KEEP**seconds, 1 - _SLOW_KEEP**seconds


_FAST_KEEP: Final = 0.5 ** (1 / 10)
_SLOW_KEEP: Final = 0.5 ** (1 / 600)
_SECOND_SHARES: Final = _shares(1)


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
    messages: int = 0  # that touched the market
    rate: float = 0.0  # of messages a second, with a half-life of 10 s
    usual: float = 0.0  # the same with one of 10 minutes: what is expected
    seconds: int = 0  # since the market was first seen
    known_s: int = 0  # of them, with a book, an oracle price and no silence
    lags_ns: deque[int] = field(default_factory=lambda: deque(maxlen=128))
    _counted: int = 0

    def pass_time(self, seconds: int, is_known: bool) -> None:
        """Let time pass: one second, or a silence, as of a stopped process, of which one counts."""
        # Of every market each second: a power of one is not computed, and names are local.
        messages, total = self.messages, self.seconds + seconds
        fresh, share = (messages - self._counted) / seconds, seconds / total
        fast, slow = _SECOND_SHARES if seconds == 1 else _shares(seconds)
        self._counted, self.seconds = messages, total
        self.known_s += is_known
        self.rate += (fresh - self.rate) * fast
        # Until it knows better, the mean so far.
        self.usual += (fresh - self.usual) * (share if share > slow else slow)

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
        # The hottest code of all layers: most updates are of one level, so that to bind a name
        # costs as much as to look it up.
        levels, prices = self.levels, self.prices
        for price_text, size_text in totals:
            try:
                price, size = float(price_text), float(size_text)
            except ValueError:
                price = size = math.nan
            if not (0.0 < price < _ENDLESS and 0.0 <= size < _ENDLESS):
                got = f"{price_text[:40]!r}, {size_text[:40]!r}"
                faults.append(f"expected a price above 0 and a size of 0 or more, got {got}")
            elif size:
                old = levels.get(price)
                if old is None:
                    insort(prices, price)
                    self.size += size
                else:
                    self.size += size - old.size
                levels[price] = Level(price, size, price_text, size_text, offset)
            elif old := levels.pop(price, None):
                self.size -= old.size
                del prices[bisect_left(prices, price)]
        # A total updated by differences drifts; now and then it is summed up again.
        if not offset & 4095:
            self.size = math.fsum(x.size for x in levels.values())

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
    an unknown book is empty. `crossed` counts the levels that uncrossing hides. `seq` is the frame
    of its newest update, `first` that in which its link began: what it is counts from there on.
    `modelled` is whether nobody recorded it (`ModelledBook`); `fidelity` is what it is made of.
    """

    __slots__ = (
        "_asks", "_bids", "_recent", "at", "best_ask", "best_bid", "crossed", "fidelity", "first",
        "known", "link", "mid_price", "modelled", "offset", "seq", "whole_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.modelled, self.fidelity = False, "book"
        self.seq = self.first = self.at = self.offset = self.whole_at = 0
        self.link = ""
        self._recent: deque[Frame] = deque()
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
        bids, asks, offset = self._bids, self._asks, self.offset
        for update in updates:
            offset += 1
            if update.bids:
                bids.put(update.bids, offset, faults)
            if update.asks:
                asks.put(update.asks, offset, faults)
        self.offset = offset
        bid_prices, ask_prices = bids.prices, asks.prices
        if self.crossed or not bid_prices or not ask_prices or bid_prices[-1] >= ask_prices[0]:
            self._uncross()
        else:
            bid, ask = bid_prices[-1], ask_prices[0]
            self.best_bid = bids.levels[bid]
            self.best_ask = asks.levels[ask]
            self.mid_price = (bid + ask) / 2
        return faults

    def remember(self, frame: Frame) -> None:
        """Remember the socket's updates for 1.5 s: an answer may be older.

        As they came: to let go of decoded levels so late took an eighth of all that a frame takes
        here, and answers are rare.
        """
        recent, until = self._recent, frame.at - _RECENT_NS
        recent.append(frame)
        while recent[0].at <= until:
            recent.popleft()

    def differs(self, answer: BookContents, at: int) -> BookContents:
        """Return how an answer, which came `at`, differs from the book, as an update of it.

        What the socket updated in the last 1.5 s stands, and so does what an answer never shows:
        what is worse than its 100 levels, and what it has uncrossed.
        """
        if at - self.whole_at < _RECENT_NS or not (answer.bids or answer.asks):
            return BookContents()
        frames = [frame for frame in self._recent if frame.at > at - _RECENT_NS]
        since = [update for frame in frames for update in contents(frame)]
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
    def outermost(self) -> tuple[float, float]:
        """Return the highest bid and the lowest ask received, hidden ones too; 0 and inf for none.

        Expired orders and wrong levels cross the book, and are hidden by what is newer.
        """
        bids, asks = self._bids.prices, self._asks.prices
        return bids[-1] if bids else 0.0, asks[0] if asks else math.inf

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


# === Modelled books ===
# What a book may have been where none was recorded: a price of the tape in the middle, a spread
# and a depth as they are usual for the market, on purpose rather worse than better.

DISTANCES_BPS: Final = (0.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)  # from the best price of a side


class BookError(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """By how many bps a modelled price was worse for a taker of `usdc` than the recorded book's.

    `median_bps` below 0 is a price that was too good; `better` is the share of such prices.
    `p95_bps` is how far 95 % of them are off at most, either way.
    """

    usdc: float
    median_bps: float
    p95_bps: float
    better: float


class BookTerms(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a market's book is modelled, and how far off that was where a book was recorded.

    `depth_usdc` rests on each side within `DISTANCES_BPS` of its best price. A taker's trade moves
    the price of its side by `impact_bps` for as long as nobody trades after it. `samples` seconds
    of a recorded book are behind it, and behind the errors; of 0 it is a guess by the kind of
    market, whose errors nobody knows.
    """

    half_spread_bps: float
    depth_usdc: tuple[float, ...]
    impact_bps: float = 0.0
    samples: int = 0
    errors: tuple[BookError, ...] = ()
    oracle_median_bps: float | None = None
    oracle_p95_bps: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no book."""
        depth = self.depth_usdc
        if len(depth) != len(DISTANCES_BPS) or [*depth] != sorted(depth) or not depth[-1] > 0:
            what = f"expected {len(DISTANCES_BPS)} depths in USDC, none less than the one before"
            raise ValueError(f"{what}, got {depth}")
        if not (0 <= self.half_spread_bps < 5e3 and 0 <= self.impact_bps < 5e3):
            what = "expected a half-spread and an impact of 0 to 5,000 bps"
            raise ValueError(f"{what}, got {self.half_spread_bps} and {self.impact_bps}")


# Of markets that nobody calibrated, by the initial margin that the venue wants of them, which
# follows what is traded there: from spreads and slippage of the venue's own books where the large
# ones and some of the middle were measured (2026), else a guess to the worse side.
_USUAL_TERMS: Final = (
    (20_000, BookTerms(half_spread_bps=1.65, impact_bps=0.5,
                       depth_usdc=(10e3, 40e3, 80e3, 160e3, 300e3, 600e3, 1e6))),
    (50_000, BookTerms(half_spread_bps=6.0, impact_bps=2.0,
                       depth_usdc=(1e3, 3e3, 6e3, 14e3, 40e3, 70e3, 120e3))),
    (1_000_000, BookTerms(half_spread_bps=15.0, impact_bps=5.0,
                          depth_usdc=(300.0, 600.0, 1.2e3, 3e3, 8e3, 15e3, 30e3))),
)  # fmt: skip


class BookModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How books are modelled, by ticker; a market that is not named gets what its kind has.

    What it was fitted on came from `since_ns` to `until_ns`; 0 where nobody knows.
    """

    version: int = 1
    since_ns: int = 0
    until_ns: int = 0
    markets: dict[str, BookTerms] = {}

    def terms_of(self, market: PerpetualMarket) -> BookTerms:
        """Return how a market's book is modelled."""
        if (known := self.markets.get(market.ticker)) is not None:
            return known
        usual = (terms for imf_ppm, terms in _USUAL_TERMS if market.imf_ppm <= imf_ppm)
        return next(usual, _USUAL_TERMS[-1][1])


class ModelledBook(Book):
    """A book that nobody recorded: what it may have been around a price.

    Its levels are made when they are read. What is taken of them is back a minute later: their
    `offset` counts minutes.
    """

    __slots__ = (
        "_made", "_market", "_price_form", "_size_form", "_step", "_terms", "_tick", "_usdc",
    )  # fmt: skip

    def __init__(self, market: PerpetualMarket, terms: BookTerms, fidelity: str) -> None:
        super().__init__()
        self.modelled, self.fidelity, self.link = True, fidelity, HISTORY
        self._market, self._terms = market, terms
        tick, step = market.price(market.subticks_per_tick), market.size(market.step_base_quantums)
        self._tick, self._step = float(tick), float(step)
        self._price_form, self._size_form = f"%.{_decimals(tick)}f", f"%.{_decimals(step)}f"
        self._usdc = [b - a for a, b in pairwise((0.0, *terms.depth_usdc))]  # of each band

    def forget(self) -> None:
        """Become unknown, until it is placed again."""
        super().forget()
        self._made: dict[bool, list[Level]] = {}

    def place(self, mid: float, at: int, seq: int, taker: str = "") -> None:
        """Stand around a mid price, from frame `seq` on; `taker` is the side that traded last."""
        half = mid * self._terms.half_spread_bps / 1e4
        pushed = mid * self._terms.impact_bps / 1e4
        tick, low, high = self._tick, mid - half, mid + half
        low, high = low - pushed * (taker == "SELL"), high + pushed * (taker == "BUY")
        bid = max(math.floor(low / tick), 1)
        ask = max(math.ceil(high / tick), bid + 1)
        self.first = self.first or seq
        self.seq, self.at, self.offset = seq, at, at // _MINUTE + 1
        self.known, self.whole_at, self._made = True, at, {}
        self.best_bid, self.best_ask = self._level(bid, 0), self._level(ask, 0)
        self.mid_price = (self.best_bid.price + self.best_ask.price) / 2

    def place_by(self, price: float, taker: str, at: int, seq: int) -> None:
        """Stand where a taker of this side traded at a price."""
        half = self._terms.half_spread_bps / 1e4
        self.place(price / (1 + half if taker == "BUY" else 1 - half), at, seq, taker)

    def fits(self, market: PerpetualMarket, fidelity: str) -> bool:
        """Return whether it is of this market as it is now, and made of the same."""
        return self._market is market and self.fidelity == fidelity

    def around(self, mid: float) -> "ModelledBook":
        """Return another book alike around another price, of the same moment."""
        other = ModelledBook(self._market, self._terms, self.fidelity)
        other.place(mid, self.at, self.seq)
        return other

    def bids(self, count: int | None = None) -> list[Level]:
        """Return the modelled bids, best first, at most `count`."""
        return self._side(is_bid=True)[:count]

    def asks(self, count: int | None = None) -> list[Level]:
        """Return the modelled asks, best first, at most `count`."""
        return self._side(is_bid=False)[:count]

    @property
    def outermost(self) -> tuple[float, float]:
        """Return the best prices: nothing is hidden."""
        bid, ask = self.best_bid, self.best_ask
        return (bid.price if bid else 0.0, ask.price if ask else math.inf)

    @property
    def bid_total(self) -> float:
        """Return the size of all modelled bids, in base units, at the best price."""
        return self._terms.depth_usdc[-1] / self.best_bid.price if self.best_bid else 0.0

    @property
    def ask_total(self) -> float:
        """Return the size of all modelled asks, in base units, at the best price."""
        return self._terms.depth_usdc[-1] / self.best_ask.price if self.best_ask else 0.0

    def _side(self, *, is_bid: bool) -> list[Level]:
        if is_bid not in self._made:
            best = self.best_bid if is_bid else self.best_ask
            self._made[is_bid] = [] if best is None else self._levels(best, is_bid=is_bid)
        return self._made[is_bid]

    def _levels(self, best: Level, *, is_bid: bool) -> list[Level]:
        # Each part of the depth stands at the far end of its band.
        levels, place, sign = [best], round(best.price / self._tick), -1 if is_bid else 1
        for band in range(1, len(DISTANCES_BPS)):
            away = math.ceil(best.price * DISTANCES_BPS[band] / 1e4 / self._tick)
            if place + sign * away > 0:
                level = self._level(place + sign * away, band)
                if level.price != levels[-1].price and level.size:
                    levels.append(level)
        return [level for level in levels if level.size]

    def _level(self, ticks: int, band: int) -> Level:
        step, price_text = self._step, self._price_form % (ticks * self._tick)
        price = float(price_text)
        size_text = self._size_form % (int(self._usdc[band] / price / step) * step)
        return Level(price, float(size_text), price_text, size_text, self.offset)


def _decimals(grid: Decimal) -> int:
    return max(-int(grid.normalize().as_tuple().exponent), 0)


# === Trades ===
# One trade of the tape. Wire text becomes a `Trade` in Tapes.


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


# === Oracle estimate ===
# The venue stores the oracle price of each hour alone. In between it is reckoned from what was
# traded: floats, an opinion that says that it is one.

_RECENT_TRADES: Final = 9
_RECENT_TAPE_NS: Final = _MINUTE
_LEAST_MOVE: Final = 1e-4  # the chain, too, passes small moves by
_MOST_APART: Final = 5e-3


class OracleEstimate:
    """The oracle price between two hours: the median of the last trades, less what they were off.

    The last `most` of a minute count, the newest one for ever. How far the median was from the
    price of the last hour, at most 50 bps, it is thought to be still.
    """

    __slots__ = ("_off", "_recent")

    def __init__(self, most: int = _RECENT_TRADES) -> None:
        self._recent: deque[tuple[int, float]] = deque(maxlen=most)
        self._off = 1.0

    @property
    def price(self) -> float | None:
        """Return the estimate; None before the first trade."""
        recent = self._recent
        return median(price for _, price in recent) * self._off if recent else None

    def trade(self, at_ns: int, price: float) -> None:
        """Take a trade."""
        recent = self._recent
        recent.append((at_ns, price))
        while recent[0][0] < at_ns - _RECENT_TAPE_NS:
            recent.popleft()

    def correct(self, true: float) -> None:
        """Take the price of an hour."""
        self._off = 1.0
        if (price := self.price) is not None:
            self._off = min(max(true / price, 1 - _MOST_APART), 1 + _MOST_APART)


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

    def reaches(self, bucket: int) -> bool:
        """Return whether a bucket is among those that are stored."""
        return bucket > self.buckets[-1] - self.span

    def insert(self, bucket: int, parts: tuple[int, ...], size: int) -> int | None:
        """Count a late trade; return how many trades were before the next bucket; None if last."""
        buckets, before = self.buckets, self.before
        row = bisect_left(buckets, bucket)
        if self.reaches(bucket):
            if buckets[row] != bucket:
                buckets.insert(row, bucket)
                before[5 * row : 5 * row] = before[5 * row : 5 * row + 5]
                self.largest.insert(row, 0.0)
            self.largest[row] = max(self.largest[row], size)
            row += 1
        trades = int(before[5 * row + 3]) if row < len(buckets) else None
        for place in range(5 * row, len(before)):
            before[place] += parts[place % 5]
        return trades


class _Log:
    """Price and size of the newest trades, a sale negative, and the volume by price of an hour."""

    __slots__ = ("first", "prices", "profile", "since", "sizes")

    def __init__(self, trades: int) -> None:
        self.first = self.since = trades  # how many came before the log, and before the hour
        self.prices, self.sizes = array("d"), array("d")
        self.profile: dict[float, list[float]] = {}

    def add(self, number: int, price: float, size: int, is_of_hour: bool = True) -> None:
        """Take a trade in, before which there were `number`."""
        place = number - self.first
        if place < 0:  # older than the log
            self.first, self.since = self.first + 1, self.since + 1
            return
        if is_of_hour and number >= self.since:
            row = self.profile.setdefault(price, [0.0, 0.0])
            row[size < 0] += abs(size)
        else:
            self.drop_before(number)  # what is older than it is not of the hour either
            self.since += 1
        self.prices.insert(place, price)
        self.sizes.insert(place, size)
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
            hour, number = self._rings[1], min((x for x in numbers if x is not None), default=None)
            number = self._trades if number is None else number
            self._log.add(
                number, price, size if is_buy else -size, hour.reaches(second // hour.width_s)
            )

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


# === Candle values ===
# What one candle is, as it is shown, stored and sent; how two of them agree.

# How long a candle of each lasts, in ns.
RESOLUTIONS: Final[Mapping[str, int]] = {name: s * _SECOND for name, s in CANDLE_S.items()}
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
_VENUE_ROW: Final = Struct("<B7q3q")  # the same row, of a candle of the venue
_CLOSE: Final = Struct("<25xq48x")  # of it the close alone
_EXTRAS: Final = Struct("<3q")
_OWN, _VENUE, _UNSURE = range(3)  # unsure: the venue's, as it was before its period was over


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
    low, high = candle.low, candle.high
    if candle.started_at % period_ns:
        what = f"a start in whole periods of {period_ns} ns"
    elif candle.started_at > received_ns + _AHEAD_NS:
        what = "a start of the past"
    elif not (low <= candle.open <= high and low <= candle.close <= high):
        what = "open and close between low and high"
    elif not (
        0 <= candle.usd_volume <= _MOST and 0 <= candle.volume <= _MOST
        and 0 <= candle.trades <= _MOST
    ):  # fmt: skip
        what = "volumes and trades of 0 or more, within 63 bits"
    else:
        return
    raise ValueError(f"expected {what}, got {candle}")


_AHEAD_NS: Final = 10 * _SECOND  # clocks differ, and a candle comes with the first block in it


# === Candles ===
# A ring of candles, from trades and from the venue. Wire text becomes a `Candle` in Tapes.


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

    def __bool__(self) -> bool:
        # By its length it would be, but where it is compiled (tools/compile.py).
        return self._newest is not None

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
        return [close / scale for close in self._closes(starts[skipped:])]

    def newest(self, count: int) -> "tuple[list[_Row | Candle], int]":
        """Return the newest candles, oldest first, and how many of them lack trades.

        As rows, as far as they are whole: to make candles of an hour takes five times as long.
        """
        starts, sent = self._starts(), self._sent
        sent_at = sent.candle.started_at if sent is not None else -1
        rows: list[_Row | Candle] = []
        partial = 0
        for start in starts[max(len(starts) - count, 0) :]:
            row: _Row | Candle = self._candle(start) if start == sent_at else self._row(start)
            if isinstance(row, Candle):
                partial += row.state == "partial"
            else:
                partial += row.kind == _UNSURE or (row.kind == _OWN and not self._is_whole(start))
            rows.append(row)
        return rows, partial

    def closes_between(self, since_ns: int, until_ns: int) -> list[int]:
        """Return the closes, in subticks, of those that begin since then and before, oldest first.

        It reads them alone: to make whole candles of an hour takes twenty times as long.
        """
        starts = self._starts()
        return self._closes(starts[bisect_left(starts, since_ns) : bisect_left(starts, until_ns)])

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
        if sent is None or sent.candle.started_at != start:
            return
        # It may have what came with a block that the socket had not shown by then.
        if at_ns > sent.received_ns + _SECOND:
            sent.bar.merge(bar)

    def put(self, candle: Candle, received_ns: int, *, final: bool) -> None:
        """Take a candle of the venue, received at a venue time; `final` if its period is over.

        `ValueError` for one that cannot be.
        """
        _require_possible(candle, self.period_ns, received_ns)
        start, sent = candle.started_at, self._sent
        if self._newest is None or start > self.started_at:
            self._reach(start, candle.open)
        if start < self._first and not self._extend(start):
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
        of = sent.candle
        figures = of.starting_open_interest, of.mid_open, of.mid_close
        return _made(start, sent.bar, "partial", *figures)

    def _closes(self, starts: range) -> list[int]:
        if not starts:
            return []
        begin, size = self._offset(starts[0]), len(starts) * _ROW.size
        rows = self._rows[begin : begin + size]
        rows += self._rows[: size - len(rows)]
        closes = [close for (close,) in _CLOSE.iter_unpack(rows)]
        # Not all of these two is in the ring.
        for start in (self.started_at, self._sent.candle.started_at if self._sent else -1):
            if start in starts:
                closes[starts.index(start)] = self._candle(start).close
        return closes

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

    def _reach(self, start: int, price: int) -> None:
        """Begin, or roll on to, a period."""
        if self._newest is None:
            self.started_at = self._first = start
            self._newest = _flat(price)
        self.roll(start)

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
        _VENUE_ROW.pack_into(
            self._rows, self._offset(start), kind, candle.open, candle.high, candle.low,
            candle.close, candle.volume, candle.usd_volume, candle.trades,
            _NONE if interest is None else interest,
            _NONE if mid_open is None else mid_open,
            _NONE if mid_close is None else mid_close,
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
            offset = self._offset(at)
            if self._rows[offset] != _OWN or _ROW.unpack_from(self._rows, offset)[7]:
                return
            self._write_bar(at, _flat(close))
        if self._newest is not None and not self._newest.trades:
            self._newest = _flat(close)


_RACE_NS: Final = 3 * _SECOND  # how far behind its socket an answer of the venue may be


def _cover(holes: list[tuple[int, int]], since: int, until: int) -> None:
    """Take a time whose trades are all known out of the times in which they may be missing."""
    if since < until:
        parts = ((a, b) for x, y in holes for a, b in ((x, min(y, since)), (max(x, until), y)))
        holes[:] = [(a, b) for a, b in parts if a < b]


def _doubt(holes: list[tuple[int, int]], since: int, until: int) -> None:
    """Add a time in which trades may be missing; of very many the oldest become one."""
    apart = [hole for hole in holes if hole[1] < since or hole[0] > until]
    near = [hole for hole in holes if hole not in apart]
    whole = min([since, *(a for a, _ in near)]), max([until, *(b for _, b in near)])
    holes[:] = sorted([*apart, whole])
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
            market, None if bid is None else market.floor_subticks(bid.price_text),
            None if ask is None else market.ceil_subticks(ask.price_text),
            partial(_sides, market, book), *price,
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


def _sides(
    market: PerpetualMarket, book: Book
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return both sides on the market's grid, never crossed by that; what it has no place for goes.

    The chain has no level that is off it, and its arithmetic takes none.
    """
    size = market.floor_quantums
    bids = [(market.floor_subticks(x.price_text), size(x.size_text)) for x in book.bids(_VOTED)]
    asks = [(market.ceil_subticks(x.price_text), size(x.size_text)) for x in book.asks(_VOTED)]
    return [x for x in bids if all(x)], [x for x in asks if all(x)]


# === Grids and tails ===
# What the rules remember of a market.


class _Checks:
    """What the rules remember of a market: its grid, how large trades are, what lasts."""

    __slots__ = (
        "_due", "_sizes", "apart", "astray", "book_seq", "grid", "hidden", "tail", "trades", "turn",
    )  # fmt: skip

    def __init__(self, turn: int = 0) -> None:
        self.turn = turn % 600  # the second of ten minutes in which all levels are looked at
        self.grid: tuple[float, float] | None = None  # ticks a USDC, steps a base unit
        self.tail = math.inf  # ten times the p99.9 of sizes
        self.trades = self._due = self.book_seq = 0
        self._sizes: dict[int, int] = {}  # trades by the size in eighths of an octave
        self.hidden = (0.0, math.inf)  # what was last found to cross the book
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
    return (abs(steps - round(steps)) > _OFF and steps < 1e12) or steps < 0.5


_OFF: Final = RULES["trade_grid"].limit


# === Films ===
# A market's book second by second, for whoever wants it.

_PICTURES: Final = 120
_DEEP: Final = 10


class _Film:
    """A ring of books: preallocated, the best ten levels a side, one each second."""

    __slots__ = ("_at", "_next", "_rows")

    def __init__(self) -> None:
        self._at = array("q", bytes(8 * _PICTURES))
        self._rows = array("d", bytes(8 * 4 * _DEEP * _PICTURES))
        self._next = 0

    def take(self, at: int, book: Book) -> None:
        """Store a book in place of the oldest."""
        place = self._next % _PICTURES
        self._next, self._at[place] = self._next + 1, at
        numbers: list[float] = []
        for levels in (book.bids(_DEEP), book.asks(_DEEP)):
            numbers += (x for level in levels for x in (level.price, level.size))
            numbers += [0.0] * (2 * (_DEEP - len(levels)))
        start = 4 * _DEEP * place
        self._rows[start : start + 4 * _DEEP] = array("d", numbers)

    def pictures(self) -> Iterator[tuple[int, list[tuple[tuple[float, float], ...]]]]:
        """Yield the time and the two sides of each, oldest first."""
        for number in range(max(0, self._next - _PICTURES), self._next):
            place = number % _PICTURES
            row = self._rows[4 * _DEEP * place : 4 * _DEEP * (place + 1)]
            pairs = [*zip(row[::2], row[1::2], strict=True)]
            sides = [tuple(x for x in side if x[0]) for side in (pairs[:_DEEP], pairs[_DEEP:])]
            yield self._at[place], sides


# === Views ===
# What all the readers below fold into: one `MarketView` a ticker, one `DataState` for all.


class Oracle(msgspec.Struct, frozen=True, gc=False):
    """The price the chain calculates with: `digits` · 10^`exponent` USDC, exactly `text`.

    An `estimated` one is reckoned from trades, between two hours of a history.
    """

    price: float
    digits: int
    exponent: int
    at: int
    seq: int
    text: str
    estimated: bool = False


class Bar(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A candle that is all that is known of its time: over at `at_ns`, seen in frame `seq`."""

    seq: int
    at_ns: int
    period_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float


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
    works. `lag_ns` is for how long frames wait until they are folded, as the last tick reported;
    0 below 250 ms.
    """

    height: int = 0
    time_ns: int = 0
    seq: int = 0
    at: int = 0
    priced_at: int = 0
    rolled_ns: int = 0
    skew_ns: int | None = None
    lag_ns: int = 0
    least_lag_ns: int = 2**63  # of a block's stamp to its receipt, clocks apart included
    watched: "dict[str, MarketView]" = field(default_factory=dict)  # whose premium is voted on
    filmed: dict[str, _Film] = field(default_factory=dict)  # whose book is stored each second

    def venue_ns(self, at: int) -> int:
        """Return the venue's time at a time of receipt, as far as it is known."""
        return at + (self.skew_ns or 0)


@dataclass(slots=True, eq=False, repr=False)
class MarketView:
    """Everything known of one market, as of frame `seq`; `changed` names what this frame updated.

    `changed` is market, book, trades, candles, oracle, funding, status, quality or stale; where
    candles are all there is also bar, a candle by which orders fill and nobody decides before the
    block shows the `book` of all, and time, nothing else.
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
    _seen: _Seen = field(default_factory=_Seen)
    _tape: str = ""  # the link that reports its trades
    _holes: list[tuple[int, int]] = field(default_factory=lambda: [(0, _FOREVER)])
    _refused: list[tuple[int, int]] = field(default_factory=list)  # holes for good
    _early: list[tuple[Frame, list[CandleFields]]] = field(default_factory=list)
    bar: Bar | None = None  # the newest, where candles are all there is
    _scale: tuple[int, int] = (0, 0)  # the decimals of prices and sizes: see `Candles`
    _estimate: OracleEstimate | None = None
    _checks: _Checks = field(default_factory=_Checks)

    @property
    def price(self) -> float | None:
        """Return its mid price, without one the oracle price; None without either."""
        return self.book.mid_price or (self.oracle.price if self.oracle is not None else None)

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
        self.quality.messages += 1
        if self.fresh and changed != "trades":
            self.fresh = []
        return (self,)


@dataclass(slots=True, eq=False)
class _Links:
    """The links by name: their message ids, which are over, by which frame each began."""

    ids: dict[str, Continuity] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)
    received_at: dict[str, int] = field(default_factory=dict)  # when each one's last message came
    markets: str = ""  # which reports every change of the markets since their snapshot


@dataclass(slots=True, eq=False)
class _Clock:
    """How far the wall clock was set since the first frame: all times here are without it."""

    began_at: int = 0  # the time of the first frame
    jumped_ns: int = 0
    apart_ns: int | None = None  # the last difference of wall and monotonic clock


@dataclass(slots=True, eq=False)
class _Past:
    """What makes the books of a history, and which of its markets are to be shown."""

    model: BookModel
    traded: dict[str, MarketView] = field(default_factory=dict)  # in the newest block
    shown_at: int = 0  # when all markets were shown last


@dataclass(slots=True, eq=False)
class _Behind:
    """Of a lag: up to which frame a book is updated without a word, and which books were."""

    until: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Judged:
    """Which second of the venue's time was judged last, received when, and when one is due."""

    due_at: int = 0
    second: int = 0
    passed_at: int = 0


class DataState:
    """All views of a venue and what belongs to no market; made by its reader.

    `tickers` limits the views to some markets. `connection` is waiting, live, partial or closed.
    `model` is how a book is made where a history has none. With no `resolutions` no candles are
    made but those that the venue sends, and without `flow` every market's flow stays empty: for
    whoever measures books and trades alone, `DataState(resolutions=(), flow=False)`.
    """

    def __init__(
        self,
        tickers: Collection[str] | None = None,
        *,
        resolutions: Collection[str] = ("1MIN", "5MINS", "1HOUR"),
        stale_after_ns: int = STALE_NS,
        model: BookModel | None = None,
        flow: bool = True,
    ) -> None:
        unknown = [name for name in resolutions if name not in RESOLUTIONS]
        if unknown:
            raise ValueError(f"expected resolutions among {', '.join(RESOLUTIONS)}, got {unknown}")
        self.views: dict[str, MarketView] = {}
        self.quality = Quality()
        self.chain = Chain()
        self.links = _Links()
        self.frames = self.at = self.seq = 0
        self.clock = _Clock()
        self.stale_after_ns = stale_after_ns
        self._tickers = None if tickers is None else frozenset(tickers)
        self.resolutions = tuple(resolutions)
        self.flow = flow
        self._past = _Past(model or BookModel())
        self._behind = _Behind()
        self._judged = _Judged()

    @property
    def connection(self) -> str:
        """Return how the links stand together."""
        states = (*{name not in self.links.closed for name in self.links.ids},)
        return {(): "waiting", (True,): "live", (False,): "closed"}.get(states, "partial")

    @property
    def fidelity(self) -> str:
        """Return what the books are made of, that of the worst: book, trades or candles."""
        made = {view.book.fidelity for view in self.views.values() if view.book.known}
        if HISTORY in self.links.ids:
            return "candles" if "candles" in made else "trades"
        return "book"

    def counts(self) -> dict[str, int]:
        """Return all troubles by kind, those of markets and those of none."""
        counts = Counter(self.quality.counts)
        for view in self.views.values():
            if view.quality.counts:
                counts.update(view.quality.counts)
        return dict(counts)

    def _view(self, ticker: str, seq: int) -> MarketView | None:
        """Return the ticker's view, made on first sight; None for one that is not wanted."""
        view = self.views.get(ticker)
        if view is not None or (self._tickers is not None and ticker not in self._tickers):
            return view
        if not ticker.endswith("-USD") or len(self.views) >= _MOST_MARKETS:
            self.quality.note(seq, "malformed", f"expected a ticker, got {ticker[:80]!r}")
            return None
        fields, checks = MarketFields(ticker=ticker), _Checks(len(self.views))
        view = MarketView(ticker, self.chain, {}, fields, _checks=checks)
        for name in self.resolutions:
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
    since, words = view.live_at, "its link is silent"
    block_at, priced_at = view.chain.at, view.priced_at
    if block_at and not 0 < since <= block_at:
        since, words = block_at, "no block came"
    if priced_at and not 0 < since <= priced_at:
        since, words = priced_at, "the oracle price is not confirmed"
    return (at - since, words) if since else (0, "")


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
            return _refuse(view, frame, trade, "trade_grid")
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


def _refuse(view: MarketView, frame: Frame, trade: Trade, rule: str) -> bool:
    _break(view, frame.seq, rule, _words(trade.price_text, trade.size_text))
    _leave_out(view, trade)
    return False


def _leave_out(view: MarketView, trade: Trade) -> None:
    # Its candles are not whole, nor does it fill a hole that it is sent again.
    for holes in (view._refused, view._holes):
        _doubt(holes, trade.at_ns, trade.at_ns + 1)


def _words(price_text: str, size_text: str) -> str:
    return f"{size_text[:40]} at {price_text[:40]}"


def _check_whale(view: MarketView, frame: Frame, trade: Trade) -> bool:
    if trade.price * trade.size > RULES["trade_range"].limit:
        return _refuse(view, frame, trade, "trade_range")
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
        if not -_JUMP <= jump <= _JUMP:
            _break(view, seq, "oracle_jump", f"{before.text} to {now.text}, {jump:+.1f} %")


_JUMP: Final = RULES["oracle_jump"].limit


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
    chain.least_lag_ns = least = min(lag_ns, chain.least_lag_ns)
    if (lag_s := (lag_ns - least) / _SECOND) > RULES["receive_lag"].limit:
        _break(state, seq, "receive_lag", f"block {height} came {lag_s:.1f} s late")
        chain.least_lag_ns = lag_ns  # counted once; a stamp of the future is no measure for long


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
    if oracle is not None:
        _check_apart(view, seq, oracle, low, high)
    if view.trades and now_ns - (last := view.trades[-1]).at_ns < 10 * _SECOND:
        if low <= last.price * _OVER and high >= last.price * _UNDER:
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


def _check_apart(view: MarketView, seq: int, oracle: Oracle, low: float, high: float) -> None:
    checks = view._checks
    if low <= oracle.price * _ABOVE and high >= oracle.price * _BELOW:
        checks.apart = 0
        if view.book.crossed:
            _check_hidden(view, seq, oracle.price)
        return
    checks.apart += 1
    if checks.apart == _LASTS:
        _break(view, seq, "book_oracle", f"{low:g} and {high:g}, oracle {oracle.text}")


def _check_hidden(view: MarketView, seq: int, oracle: float) -> None:
    # An order that expired stays for minutes where the market was when it was placed.
    low, high = view.book.outermost
    if low <= oracle * _ABOVE and high >= oracle * _BELOW:
        return
    candles = view.candles.get("1MIN")
    if candles is None or view.market is None or not candles:
        return
    scale = 10.0**-candles.places
    recent = [candles[-n] for n in range(1, min(len(candles), _REMAINS) + 1)]
    above = max(oracle, *(x.high * scale for x in recent)) * _ABOVE
    below = min(oracle, *(x.low * scale for x in recent)) * _BELOW
    if (low > above or high < below) and view._checks.hidden != (low, high):
        view._checks.hidden = low, high
        _break(view, seq, "book_hidden", f"{low:g} and {high:g}, {below:g} to {above:g} were seen")


_REMAINS: Final = 10  # minutes that the venue may take to remove an order that expired
_ABOVE: Final = 1 + RULES["book_oracle"].limit / 100
_BELOW: Final = 1 - RULES["book_oracle"].limit / 100
_OVER: Final = 1 + RULES["book_trade"].limit / 100
_UNDER: Final = 1 - RULES["book_trade"].limit / 100
_LASTS: Final = 3  # checks in a row: sources come one after the other


# === Figures ===
# What a market's data are worth, what its market is like, and what its book was: read when wanted.


class QualityFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How far to believe what is known of a market.

    `messages_s` a second of late, of `expected_s`, what is usual. `complete` is the share of its
    parts that are known, `known` that of the seconds in which it could be traded. `ages_s` are
    seconds since each part last changed. `lag_p50_ms` and `lag_p99_ms` are from the stamp of live
    trades to their receipt, by two clocks; None without one. `counts` are its troubles.
    """

    verdict: Verdict
    messages_s: float
    expected_s: float
    complete: float
    known: float
    ages_s: dict[str, float]
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    counts: dict[str, int]


def quality_figures(view: MarketView, at: int) -> QualityFigures:
    """Return what the data of a market are worth at an event time."""
    quality, skew_ns = view.quality, view.chain.skew_ns or 0
    traded = view.trades[-1].at_ns - skew_ns if view.trades else 0
    parts = {
        "book": view.book.at if view.book.known else 0,
        "trades": traded,
        "oracle": view.oracle.at if view.oracle else 0,
        "funding": view.funding.at,
        "block": view.chain.at,
    }
    known = [bool(since) for since in parts.values()] + [view.market is not None]
    lags = sorted(quality.lags_ns)
    p50, p99 = (lags[len(lags) * q // 100] / 1e6 if lags else None for q in (50, 99))
    return QualityFigures(
        verdict=quality.verdict,
        messages_s=quality.rate,
        expected_s=quality.usual,
        complete=known.count(True) / len(known),
        known=quality.known_s / quality.seconds if quality.seconds else 0.0,
        ages_s={name: (at - since) / _SECOND for name, since in parts.items() if since},
        lag_p50_ms=p50,
        lag_p99_ms=p99,
        counts=dict(quality.counts),
    )


class BookSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The best ten levels a side at an event time, as (price, size), best first."""

    at: int
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]


def book_snapshots(view: MarketView) -> list[BookSnapshot]:
    """Return a market's book at each of the last 120 seconds, oldest first.

    From when it is first read on: nothing is stored for who does not ask. Seconds without a known
    book are left out.
    """
    ring = view.chain.filmed.setdefault(view.ticker, _Film())
    return [BookSnapshot(at, *sides) for at, sides in ring.pictures()]


class PriceRange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a market's price went in one of `SPANS`: prices in USDC, `size` in base units.

    It is of `periods` candles of `resolution`, the growing one included, where `wanted` fill the
    span: of a younger market there are fewer, and `partial` ones lack trades. `volatility_1h` is
    what the returns from close to close came to, as a fraction in an hour: the root of their mean
    square, scaled by the root of time; None below three closes.
    """

    span: str
    resolution: str
    periods: int
    wanted: int
    partial: int
    open: float
    high: float
    low: float
    close: float
    volatility_1h: float | None
    size: float
    usd: float
    trades: int

    @property
    def change(self) -> float:
        """Return the change from open to close, as a fraction of the open."""
        return self.close / self.open - 1 if self.open else 0.0


# The spans of `price_ranges`: how long each is, and of which candles it may be made.
SPANS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "5MINS": (5 * _MINUTE, ("1MIN",)),
    "15MINS": (15 * _MINUTE, ("1MIN",)),
    "1HOUR": (60 * _MINUTE, ("1MIN",)),
    "4HOURS": (240 * _MINUTE, ("5MINS", "1MIN")),
    "24HOURS": (1_440 * _MINUTE, ("1HOUR", "5MINS", "1MIN")),
}


def price_ranges(view: MarketView, spans: Iterable[str] = tuple(SPANS)) -> list[PriceRange]:
    """Return how a market's price went in each span that has a candle; `DataError` for others.

    Candles are counted from now back, so that a span ends with the candle that grows. Of several
    resolutions it is the one that knows most of the span.
    """
    found: list[PriceRange] = []
    for span in spans:
        if span not in SPANS:
            raise DataError(f"expected a span among {', '.join(SPANS)}, got {span!r}")
        length_ns, names = SPANS[span]
        known = (view.candles[name] for name in names if view.candles.get(name))
        made = [_range(span, candles, length_ns, view.market) for candles in known]
        found += [max(made, key=_known_time)] if made else []
    return found


def _known_time(found: PriceRange) -> int:
    return (found.periods - found.partial) * RESOLUTIONS[found.resolution]


def _range(
    span: str, candles: Candles, length_ns: int, market: PerpetualMarket | None
) -> PriceRange:
    period_ns, scale = candles.period_ns, 10.0**candles.places
    wanted = length_ns // period_ns
    rows, partial = candles.newest(wanted)
    # What was never traded has a price of nothing, and would be infinitely far away.
    closes = [row.close for row in rows if row.close > 0]
    squares = [math.log(b / a) ** 2 for a, b in pairwise(closes)]
    hours = math.sqrt(60 * _MINUTE / period_ns)
    lots = market.atomic_resolution if market else -candles.lots
    return PriceRange(
        span=span,
        resolution=_NAMES[period_ns],
        periods=len(rows),
        wanted=wanted,
        partial=partial,
        open=rows[0].open / scale,
        high=max(row.high for row in rows) / scale,
        low=min(row.low for row in rows) / scale,
        close=rows[-1].close / scale,
        volatility_1h=(
            math.sqrt(math.fsum(squares) / len(squares)) * hours if len(squares) > 1 else None
        ),
        size=sum(row.volume for row in rows) * 10.0**lots,  # integers
        usd=sum(row.usd_volume for row in rows) / 1e6,  # integers
        trades=sum(row.trades for row in rows),  # integers
    )


_NAMES: Final = {period_ns: name for name, period_ns in RESOLUTIONS.items()}


class Depth(msgspec.Struct, frozen=True, gc=False):
    """What stands within so many basis points of the mid price, in USDC a side."""

    bps: float
    bid_usd: float
    ask_usd: float

    @property
    def imbalance(self) -> float | None:
        """Return bids less asks as a share of both, from -1 to 1; None where nothing stands."""
        both = self.bid_usd + self.ask_usd
        return (self.bid_usd - self.ask_usd) / both if both else None


def book_depths(book: Book, within_bps: Sequence[float] = (5, 10, 25, 50)) -> list[Depth]:
    """Return what a book holds within each distance of its mid price; nothing if it has none."""
    mid = book.mid_price
    if mid is None:
        return []
    bids = _standing(book.bids(), [mid * (1 - bps / 1e4) for bps in within_bps], -1)
    asks = _standing(book.asks(), [mid * (1 + bps / 1e4) for bps in within_bps], 1)
    return [Depth(*row) for row in zip(within_bps, bids, asks, strict=True)]


def _standing(levels: Iterable[Level], limits: Sequence[float], sign: int) -> list[float]:
    """Return what stands up to each limit, best level first; limits go outwards."""
    worth = [(sign * level.price, level.price * level.size) for level in levels]
    return [math.fsum(usd for price, usd in worth if price <= sign * limit) for limit in limits]


MarketKind = Literal["trending", "ranging", "thin", "disorderly", "halted", "unknown"]


class MarketState(msgspec.Struct, frozen=True, gc=False):
    """What a market is like, why in words, and the figures it was judged by."""

    kind: MarketKind
    why: str
    figures: tuple[tuple[str, float], ...] = ()


# The rules of `market_state`, the first that holds: halted where the venue takes no order or makes
# no block; unknown without book and oracle price; disorderly where prices disagree or run; thin
# where the spread or the depth within 1 % cost too much; trending where the closes of half an hour
# went mostly one way.
_DISORDER_BPS: Final = 100.0  # of mid to oracle price
_RUN_BPS: Final = 200.0  # of the mid since the close of the minute before
_COSTLY_BPS: Final = 30.0
_SHALLOW_USDC: Final = 10_000.0  # on the thinner side
_TREND: Final = 0.35  # net move of the closes over the sum of their moves
_CLOSES: Final = 30
_LEAST_CLOSES: Final = 10


def market_state(view: MarketView) -> MarketState:
    """Return what a market is like now, by the first of the rules above that holds."""
    found = objections(view)
    kinds = {one.kind for one in found}
    if "STATUS" in kinds:
        return MarketState("halted", next(x.why for x in found if x.kind == "STATUS"))
    if view.chain.at and view.at - view.chain.at > STALE_NS:
        silent_s = (view.at - view.chain.at) / _SECOND
        return MarketState("halted", "no block came", (("silent_s", silent_s),))
    if kinds & {"UNKNOWN_BOOK", "UNKNOWN_ORACLE", "STALE", "ONE_SIDED"}:
        kind: MarketKind = "thin" if kinds == {"ONE_SIDED"} else "unknown"
        return MarketState(kind, found[0].why)
    mid, oracle = view.book.mid_price, view.oracle
    if mid is None or oracle is None:
        return MarketState("unknown", "no mid or oracle price")
    return _disorder(view, mid, oracle.price) or _thinness(view, mid) or _direction(view)


def _disorder(view: MarketView, mid: float, oracle: float) -> MarketState | None:
    apart = abs(mid / oracle - 1) * 1e4
    if apart > _DISORDER_BPS:
        return MarketState("disorderly", "the book is apart from the oracle price",
                           (("apart_bps", apart),))  # fmt: skip
    closes = view.candles["1MIN"].closes(2) if "1MIN" in view.candles else []
    run = abs(mid / closes[0] - 1) * 1e4 if closes else 0.0
    if run > _RUN_BPS:
        return MarketState("disorderly", "the price runs", (("run_bps", run),))
    return None


def _thinness(view: MarketView, mid: float) -> MarketState | None:
    book = view.book
    spread = book.spread_bps or 0.0
    depth = min(
        math.fsum(x.price * x.size for x in side(20) if abs(x.price / mid - 1) <= 0.01)
        for side in (book.bids, book.asks)
    )
    if spread > _COSTLY_BPS or depth < _SHALLOW_USDC:
        figures = (("spread_bps", spread), ("depth_usdc", depth))
        return MarketState("thin", "spread and depth cost too much", figures)
    return None


def _direction(view: MarketView) -> MarketState:
    closes = view.candles["1MIN"].closes(_CLOSES) if "1MIN" in view.candles else []
    path = math.fsum(abs(b - a) for a, b in pairwise(closes))
    count = float(len(closes))
    if count < _LEAST_CLOSES:
        return MarketState("unknown", "too few minutes are known", (("closes", count),))
    share = abs(closes[-1] - closes[0]) / path if path else 0.0
    figures = ("closes", count), ("one_way", share)
    if share >= _TREND:
        return MarketState("trending", "the closes went mostly one way", figures)
    return MarketState("ranging", "the closes went to and fro", figures)


# === Book fits ===
# What a recorded book teaches of how to model one, and how wrong the model then is: fitted on what
# came first, judged on what came after it.

_FITTED_USDC: Final = (1e3, 1e4)  # what a taker is thought to trade
_JUST_NS: Final = 2 * _SECOND
_MOST_JUDGED: Final = 2_000  # seconds a market
_HOUR: Final = 60 * _MINUTE


class _Moment(NamedTuple):
    # A second of a book: half its spread in bps, the depth of its thinner side, the last trade,
    # and what both sides cost then, for each of `_FITTED_USDC`: None beyond what was there.
    half_bps: float
    depth: tuple[float, ...]
    price: float
    side: str
    mid: float
    walked: tuple[float | None, ...]
    moved_bps: float | None  # how far beyond a trade of just now the taken side stands


class BookFit:
    """One market's recorded books, a second each, and what they are modelled as.

    Quantiles on the worse side: three seconds in four have a narrower spread and more depth.
    """

    def __init__(self) -> None:
        self._moments: list[_Moment] = []
        self._apart: list[float] = []
        self._estimate = OracleEstimate()
        self._market: PerpetualMarket | None = None
        self._due = self._corrected_at = 0

    def see(self, view: MarketView) -> None:
        """Take a market as it stands: its trades as they come, its book once a second."""
        book, mid = view.book, view.book.mid_price
        for trade in view.fresh if view.changed == "trades" else ():
            self._estimate.trade(trade.at_ns, trade.price)
        if view.at < self._due or mid is None or book.modelled or view.quality.stale:
            return
        self._due, self._market = view.at + _SECOND, view.market or self._market
        self._see_oracle(view)
        if view.trades and self._market is not None:
            last = view.trades[-1]
            just_now = view.chain.venue_ns(view.at) - last.at_ns < _JUST_NS
            self._moments.append(_moment(book, mid, last, just_now=just_now))

    def terms(self) -> BookTerms | None:
        """Return how to model this market; None where too little of its book was seen."""
        half = len(self._moments) // 2
        if self._market is None or half < 10:
            return None
        first = self._moments[:half]
        judged = self._moments[half :: max((len(self._moments) - half) // _MOST_JUDGED, 1)]
        errors = _book_errors(self._market, _terms_of(first), judged)
        known = len(self._apart) >= 10
        return msgspec.structs.replace(
            _terms_of(self._moments), samples=len(self._moments), errors=errors,
            oracle_median_bps=round(_quantile(self._apart, 0.5), 3) if known else None,
            oracle_p95_bps=round(_quantile(self._apart, 0.95), 3) if known else None,
        )  # fmt: skip

    def _see_oracle(self, view: MarketView) -> None:
        """Hold the estimate against the oracle price, which it is given by the hour alone."""
        oracle, price = view.oracle, self._estimate.price
        if oracle is None or oracle.estimated or price is None:
            return
        if not self._corrected_at or view.at - self._corrected_at >= _HOUR:
            self._corrected_at = view.at
            self._estimate.correct(oracle.price)
        else:
            self._apart.append(abs(price / oracle.price - 1) * 1e4)


def _moment(book: Book, mid: float, last: Trade, *, just_now: bool) -> _Moment:
    sides = book.bids(), book.asks()
    depths = [[_within(side, away) for away in DISTANCES_BPS] for side in sides]
    spread_bps = book.spread_bps or 0.0
    walked = tuple(_average(side, usdc) for usdc in _FITTED_USDC for side in sides)
    thinner = tuple(min(pair) for pair in zip(*depths, strict=True))
    sign, taken = (1, book.best_ask) if last.side == "BUY" else (-1, book.best_bid)
    moved = sign * (taken.price / last.price - 1) * 1e4 if taken and just_now else None
    return _Moment(spread_bps / 2, thinner, last.price, last.side, mid, walked, moved)


def _within(levels: Sequence[Level], bps: float) -> float:
    """Return the USDC within a distance of the best price of a side."""
    best = levels[0].price if levels else 0.0
    reach = best * bps / 1e4 + best * 1e-9
    near = takewhile(lambda level: abs(level.price - best) <= reach, levels)
    return math.fsum(level.price * level.size for level in near)


def _average(levels: Iterable[Level], usdc: float) -> float | None:
    """Return the mean price of a taker's USDC; None where a side has not as much."""
    left, size = usdc, 0.0
    for level in levels:
        taken = min(left, level.price * level.size)
        left, size = left - taken, size + taken / level.price
        if left <= usdc * 1e-9:
            return (usdc - left) / size
    return None


def _terms_of(moments: Sequence[_Moment]) -> BookTerms:
    # What the taken side moved to just after a trade: most of it is in the next trade's price.
    moved = [x.moved_bps for x in moments if x.moved_bps is not None]
    depths = (_quantile([x.depth[n] for x in moments], 0.25) for n in range(len(DISTANCES_BPS)))
    return BookTerms(
        half_spread_bps=round(_quantile([x.half_bps for x in moments], 0.75), 3),
        depth_usdc=tuple(round(usdc, 2) for usdc in depths),
        impact_bps=round(max(_quantile(moved, 0.75), 0.0), 3) + 0.0,
    )  # fmt: skip


def _book_errors(
    market: PerpetualMarket, terms: BookTerms, moments: Sequence[_Moment]
) -> tuple[BookError, ...]:
    """Say what takers of each size would have paid by the model more than by the book."""
    book = ModelledBook(market, terms, "trades")
    worse: dict[float, list[float]] = {usdc: [] for usdc in _FITTED_USDC}
    for moment in moments:
        book.place_by(moment.price, moment.side, 0, 0)
        wanted = ((usdc, sign) for usdc in _FITTED_USDC for sign in (-1, 1))
        for (usdc, sign), real in zip(wanted, moment.walked, strict=True):
            made = _average(book.asks() if sign > 0 else book.bids(), usdc)
            if made is not None and real is not None:
                worse[usdc].append(sign * (made - real) / moment.mid * 1e4)
    return tuple(
        BookError(
            usdc=usdc, median_bps=round(_quantile(found, 0.5), 3),
            p95_bps=round(_quantile([*map(abs, found)], 0.95), 3),
            better=round(sum(x < 0 for x in found) / len(found), 4),  # integers
        )
        for usdc, found in worse.items() if found
    )  # fmt: skip


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of what was measured, 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


# === Folding ===
# A reader (`_fold_…`) takes the state, a frame and its decoded updates, and returns the views that
# it touched. What cannot be read costs its own item alone.
_Touched = Sequence[MarketView]
_Fold = Callable[[DataState, Frame, list[Any]], _Touched]


# What decoding any text may raise: the wire's own refusals, numbers and times out of range, and
# nesting too deep for the decoder.
_UNREADABLE = (ConnError, DataError, ValueError, ArithmeticError, RecursionError)


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
        received_ns = chain.venue_ns(state.links.received_at.get(view._tape, 0))
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
        book.first = state.links.begun.get(frame.link, frame.seq)
        _check_snapshot(view, frame.seq, updates[0])
    elif not (book.known and book.link):
        # Nor does it fit a book made of an answer: the updates between the two are missing.
        quality.note(frame.seq, "early", "a book update without a snapshot to update")
        return ()
    else:
        book.remember(frame)
    faults = book.update(updates)
    book.link, view.link = frame.link, frame.link or view.link
    book.seq, book.at, view.live_at = frame.seq, frame.at, frame.at
    for fault in faults:
        quality.note(frame.seq, "malformed", fault)
    if book.crossed and not crossed:
        levels = "1 level" if book.crossed == 1 else f"{book.crossed} levels"
        quality.note(frame.seq, "crossed", f"{levels} hidden: bids were above asks")
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
    """Make unknown what a channel's messages update."""
    if frame.channel == "v4_markets" and frame.link == state.links.markets:
        state.links.markets = ""
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
    if frame.link in ("", state.links.markets):
        state.links.markets = ""
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


# === Modelled markets ===
# On the link of a history nobody sends books, and oracle prices by the hour: here they are made
# of what was traded.


def _model_trades(state: DataState, view: MarketView, frame: Frame, fresh: list[Trade]) -> None:
    """Let a market's book and oracle price follow its trades."""
    state._past.traded[view.ticker] = view
    if not fresh or view.market is None:
        return
    book, last = _modelled(state, view, view.market, "trades"), fresh[-1]
    book.place_by(last.price, last.side, frame.at, frame.seq)
    view.link = HISTORY
    estimate = _estimate_of(view)
    for trade in fresh:
        estimate.trade(trade.at_ns, trade.price)
    _estimate_oracle(view, frame, estimate)


def _model_candles(
    state: DataState, view: MarketView, frame: Frame, updates: list[Any]
) -> _Touched:
    """Where candles are all there is, let the book stand at the close of the shortest."""
    bars = list(_readable(view, frame, partial(_past_bar, frame), _rows_of(updates)))
    if not bars or view.market is None or view.book.fidelity == "trades":
        return view._touch(frame, "candles")
    bar, known = bars[-1], view.bar
    if known is not None and (bar.period_ns > known.period_ns or bar.at_ns <= known.at_ns):
        return view._touch(frame, "candles")
    view.bar, view.link, view.live_at = bar, HISTORY, frame.at
    _modelled(state, view, view.market, "candles").place(bar.close, frame.at, frame.seq)
    estimate = _estimate_of(view, 1)
    estimate.trade(bar.at_ns, bar.close)
    _estimate_oracle(view, frame, estimate)
    state._past.traded[view.ticker] = view
    return view._touch(frame, "bar")


def _rows_of(updates: list[Any]) -> Iterator[CandleFields]:
    return (fields for update in updates for fields in update.candles)


def _past_bar(frame: Frame, fields: CandleFields) -> Bar:
    period_ns = RESOLUTIONS[fields.resolution]
    open_, high, low, close = map(_positive, (fields.open, fields.high, fields.low, fields.close))
    if not low <= min(open_, close) <= max(open_, close) <= high:
        raise ValueError(f"expected open and close within low and high, got {fields}")
    return Bar(
        seq=frame.seq, at_ns=instant(fields.started_at) + period_ns, period_ns=period_ns,
        open=open_, high=high, low=low, close=close, volume=_number(fields.base_token_volume),
    )  # fmt: skip


def _modelled(
    state: DataState, view: MarketView, market: PerpetualMarket, fidelity: str
) -> ModelledBook:
    """Return the modelled book of a market, another one where its grid has changed."""
    book = view.book
    if isinstance(book, ModelledBook) and book.fits(market, fidelity):
        return book
    view.book = made = ModelledBook(market, state._past.model.terms_of(market), fidelity)
    if fidelity == "trades":
        view.bar = None
    return made


def _estimate_of(view: MarketView, most: int = _RECENT_TRADES) -> OracleEstimate:
    if view._estimate is None:
        view._estimate = OracleEstimate(most)
        if view.oracle is not None:  # of an hour in which nothing was traded yet
            view._estimate.trade(view.oracle.at, view.oracle.price)
    return view._estimate


def _estimate_oracle(view: MarketView, frame: Frame, estimate: OracleEstimate) -> None:
    """Reckon the oracle price, and take it where it has moved."""
    price, known = estimate.price, view.oracle
    if price is None or (known and abs(price / known.price - 1) < _LEAST_MOVE):
        return
    text = f"{price:.{max(view._scale[0], 0)}f}"
    if (price := float(text)) > 0:
        view.oracle = Oracle(price, *exact(text), frame.at, frame.seq, text, estimated=True)


def _touch_past(state: DataState, frame: Frame) -> _Touched:
    """Show at a block the books of what was traded in the one before, and all now and then.

    All at the first of an hour, too: with it the hour is charged, to who held something before it.
    Between two candles, where they are all there is, time alone passes, in one market for all.
    """
    past = state._past
    traded, past.traded = past.traded, {}
    is_hour = frame.at // _HOUR != past.shown_at // _HOUR
    if is_hour or frame.at - past.shown_at >= _SHOWN_NS:
        past.shown_at = frame.at
        modelled = {name: view for name, view in state.views.items() if view.book.modelled}
        by_trades = {x: view for x, view in modelled.items() if view.book.fidelity == "trades"}
        if modelled and not (traded or by_trades):
            return next(iter(modelled.values()))._touch(frame, "time")
        traded = by_trades or traded
    return [touched for view in traded.values() for touched in view._touch(frame, "book")]


_SHOWN_NS: Final = 10 * _SECOND  # a market in which nothing happens is known to stand still


# === Tapes ===
# Trades, candles and blocks: what grows with time.


def _fold_trades(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    view = state._view(frame.id, frame.seq)
    if view is None:
        return ()
    chain, rows = view.chain, (x for update in updates for x in update.trades)
    trades = [*_readable(view, frame, lambda fields: _trade(chain, fields, frame.seq), rows)]
    seen = view._seen
    fresh = [x for x in trades if seen.add(x.event) and _check_trade(view, frame, x)]
    if frame.is_snapshot:
        # Newest block first, and those of one block, which share their time, in no order.
        fresh.sort(key=_place)
    elif fresh and not chain.seq:
        _set_skew(state, fresh[-1].at_ns - frame.at)
    _mark_known(view, frame, trades)
    if state.flow:
        for trade in fresh:
            view.flow.add(trade)
    _count(view, fresh)
    late = bool(fresh and view.trades) and _place(fresh[0]) < _place(view.trades[-1])
    view.trades += fresh
    if fresh and not frame.is_snapshot:
        view.quality.lags_ns.append(frame.at - fresh[-1].at_ns)
    if late:  # of an answer, or of a message that was overtaken
        view.trades = deque(sorted(view.trades, key=_place), view.trades.maxlen)
    if not (view.book.known and view.book.link):  # trades do not say that a book's link lives
        view.link, view.live_at = frame.link or view.link, frame.at
    view.fresh = fresh
    if frame.link == HISTORY:
        _model_trades(state, view, frame, fresh)
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
    """Add trades to the candles, if there are any, a block at a time."""
    if not view.candles:
        return
    if view.market is None:
        _widen(view, [x.price_text for x in trades], [x.size_text for x in trades])
    block, block_ns = None, 0
    for trade in trades:
        try:
            one = _bar(trade, *view._scale)
        except ValueError as error:
            view.quality.note(trade.seq, "malformed", str(error))
            _leave_out(view, trade)
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
        since_ns = min(times) + 1 if times else 0
        _cover(holes, since_ns, known_ns)
        for a, b in view._refused:
            if a < known_ns and b > since_ns:
                _doubt(holes, a, b)
    if frame.link:
        view._tape = frame.link
        if holes and holes[-1][1] == _FOREVER:
            _cover(holes, now_ns, _FOREVER)
    newest = takewhile(lambda sample: sample.seq == frame.seq, reversed(view.quality.samples))
    if any(sample.kind == "malformed" for sample in newest):
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
    if frame.link == HISTORY:
        return _model_candles(state, view, frame, updates)
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
    # A mid price is the mean of two, made in floats.
    mid_open, mid_close = fields.orderbook_mid_price_open, fields.orderbook_mid_price_close
    interest = fields.starting_open_interest
    return fields.resolution, Candle(
        instant(fields.started_at), _price(fields.open, places), _price(fields.high, places),
        _price(fields.low, places), _price(fields.close, places),
        _size(fields.base_token_volume, lots), usd, fields.trades,
        None if interest is None else _size(interest, lots),
        None if mid_open is None else _price(mid_open, places),
        None if mid_close is None else _price(mid_close, places),
    )  # fmt: skip


def _fold_height(state: DataState, frame: Frame, updates: list[Any]) -> _Touched:
    chain, is_next = state.chain, False
    for update in updates:
        height, time_ns = update.block
        # Another replica may be behind; only a chain that began again is lower at a later time.
        if frame.is_snapshot and height < chain.height and time_ns <= chain.time_ns:
            continue
        is_past = frame.link == HISTORY  # whose heights are reckoned in between
        late = chain.height and not (is_past or _follows(chain, frame, height, time_ns))
        if not frame.is_snapshot and late:
            what = f"expected a block soon after {chain.height}, got {height} of {update.time}"
            state.quality.note(frame.seq, "out_of_order", what)
            continue
        if height != chain.height or is_past:
            chain.at = frame.at
            is_next = True
        _check_block(state, frame.seq, height, time_ns, frame.at)
        chain.height, chain.time_ns, chain.seq = height, time_ns, frame.seq
        _set_skew(state, time_ns - frame.at)
    if is_next:
        for view in chain.watched.values():
            _vote(view, chain.time_ns)
    return _touch_past(state, frame) if frame.link == HISTORY else ()


def _vote(view: MarketView, at_ns: int) -> None:
    market, oracle, book = view.market, view.oracle, view.book
    if market is not None and oracle is not None and book.known and not book.modelled:
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
        state.links.markets = frame.link
        for known in state.views.values():
            known.price_missed = known.ticker not in updates[0].markets
    # An answer may be of a replica that is behind: what a socket reports the changes of stays.
    is_behind, views = frame.kind == "http" and state.links.markets != "", state.views
    for update in updates:
        tables = (update.markets, update.trading, update.oracle_prices)
        for table, set_one in zip(tables, _SETTERS, strict=True):
            for ticker, fields in table.items():
                view = views.get(ticker) or state._view(ticker, frame.seq)
                if view is None or (is_behind and view.oracle and not view.price_missed):
                    continue
                changed, before = set_one(view, frame, fields), changes.get(ticker)
                if before is None or _WEIGHT[changed] >= _WEIGHT[before]:
                    changes[ticker] = changed
    touched = [views[ticker] for ticker in changes]
    for view in touched:
        view._touch(frame, changes[view.ticker])
    return touched


# A frame emits a view once: of several changes the one that weighs most.
_WEIGHT: Final = {"quality": 1, "market": 2, "funding": 3, "oracle": 4, "status": 5}


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
        if frame.link == HISTORY and not frame.is_snapshot:  # what the hour was charged
            view.premium.settled([(frame.at, view.funding.next_rate_1h)])
        if view.ticker in view.chain.watched and frame.kind == "ws":  # an answer may be old
            view.premium.report(view.funding.next_rate_1h, frame.at + (view.chain.skew_ns or 0))
        _check_rate(view, frame.seq)


def _set_parameters(view: MarketView, frame: Frame, fields: MarketFields) -> None:
    given = [name for name in _PARAMETERS if getattr(fields, name) is not None]
    for name in given:
        setattr(view._fields, name, getattr(fields, name))
    if given:
        market = perpetual_market(view._fields)
        exponents = _exponents(market)
        # A subtick is one of the last decimal of a price.
        places, lots = 6 + exponents[0] - exponents[1], -exponents[0]
        if max(map(abs, (*exponents, places))) > _MOST_PLACES:
            raise ValueError(f"expected exponents within {_MOST_PLACES}, got {market!r}")
        if view.market and exponents != _exponents(view.market):
            raise ValueError(f"expected exponents that stay, got {market!r}")
        view._checks.set_grid(market)
        view.market = market
        _rescale(view, places, lots)


_MOST_PLACES: Final = 40


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
    text, before = fields.oracle_price or fields.price or "", view.oracle
    try:
        view.oracle = Oracle(_positive(text), *exact(text), frame.at, frame.seq, text)
    except _UNREADABLE as error:
        view.quality.note(frame.seq, "malformed", f"oraclePrice: {error}")
        view.price_missed = True
        return "quality"
    view.price_missed = False
    if view._estimate is not None and view.oracle is not None:
        view._estimate.correct(view.oracle.price)
    _check_oracle(view, frame.seq, before)
    return "oracle"


_SETTERS: Final = (_set_market, _set_trading, _set_oracle)


# === Links ===
# Connections that open, close or lose frames, and REST answers; below them, which reader takes
# which channel and message.


def _fold_edge(state: DataState, frame: Frame) -> _Touched:
    """Begin or end a link: what was known through it is known no more."""
    links, name = state.links, frame.link
    links.ids[name] = Continuity(carries=links.ids.get(name, Continuity()).carries)
    (links.closed.discard if frame.kind == "open" else links.closed.add)(name)
    links.begun[name] = frame.seq
    return _lose_link(state, frame)


def _fold_gap(state: DataState, frame: Frame) -> _Touched:
    state.quality.note(frame.seq, "gap", frame.reason or "frames lost")
    if frame.channel:  # of one subscription alone
        return _fold_unsubscribed(state, frame)
    for name, link in state.links.ids.items():
        if frame.link in ("", name):
            link.overdue(frame.mono)  # this gap covers what is overdue
            link.forget()
    return _lose_link(state, frame)


def _fold_tick(state: DataState, frame: Frame) -> _Touched:
    """Take what it reports of a lag, and give up overdue answers.

    The holes in the ids that those explained may be losses.
    """
    lost = [*_fold_lag(state, frame)] if frame.text else []
    for name, link in state.links.ids.items():
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
    state._behind.until = {ticker: frame.seq + count for ticker, count in lag.books.items()}
    shown = [ticker for ticker in state._behind.unseen if ticker not in lag.books]
    return [view for ticker in shown for view in _show(state, frame, state.views[ticker])]


def _show(state: DataState, frame: Frame, view: MarketView) -> _Touched:
    del state._behind.unseen[view.ticker]
    return view._touch(frame, "book")


def _fold_sent(state: DataState, frame: Frame) -> _Touched:
    if '"subscribe"' in frame.text:
        links = state.links
        links.begun.setdefault(frame.link, frame.seq)
        link = links.ids.setdefault(frame.link, Continuity())
        link.request(frame)
        # A recorder gives each connection a new name: what a lost one carried goes on in this one.
        for name in links.closed - {frame.link}:
            if set() < links.ids[name].carries <= link.carries:
                del links.ids[name]
                links.closed.discard(name)
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
    "state": lambda *_: (),  # what another run left is for the layers above
}


# === Frames ===
# One frame at a time: by kind, then by type and channel; then what is due by time alone.


def step(state: DataState, frame: Frame) -> Sequence[MarketView]:
    """Fold one frame into `state`; return the views it touched, each once. Never raises."""
    state.frames += 1
    state.seq = frame.seq
    clock = state.clock
    apart_ns, known_ns = frame.at - frame.mono, clock.apart_ns
    if (
        known_ns is not None
        and frame.mono
        and -_SECOND <= apart_ns - known_ns <= _SECOND
        and state.at - frame.at + clock.jumped_ns <= _SECOND
    ):
        clock.apart_ns = apart_ns  # as nearly always
    else:
        _compare_clocks(state, frame)
    if clock.jumped_ns:
        frame = msgspec.structs.replace(frame, at=frame.at - clock.jumped_ns)
    state.at = at = frame.at
    if frame.kind == "ws":
        touched = _fold_message(state, frame)
        if state._behind.until:
            touched = _fold_together(state, frame, touched)
    else:
        touched = _KINDS.get(frame.kind, _fold_unknown)(state, frame)
    return _judge(state, frame, touched) if at >= state._judged.due_at else touched


def _fold_together(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    """Hold back what a book became until the last of the updates that are folded together."""
    until, view = state._behind.until.get(frame.id, 0), state.views.get(frame.id)
    if view is None or not until or frame.channel != "v4_orderbook":
        return touched
    if frame.seq < until and view.book.known and touched == (view,) and view.changed == "book":
        state._behind.unseen[view.ticker] = None
        return ()
    if view.ticker in state._behind.unseen and (frame.seq >= until or view in touched):
        return [*dict.fromkeys([*touched, *_show(state, frame, view)])]
    return touched


def _compare_clocks(state: DataState, frame: Frame) -> None:
    """Notice a wall clock that was set: silence and windows must not be measured across that.

    Nor may time go back, as where frames have no monotonic clock or two runs follow each other:
    what is due by time would wait until it has caught up.
    """
    clock, jumped_ns = state.clock, 0
    if frame.mono:
        known_ns, clock.apart_ns = clock.apart_ns, frame.at - frame.mono
        jumped_ns = clock.apart_ns - known_ns if known_ns is not None else 0
    jumped_ns = jumped_ns if abs(jumped_ns) > _SECOND else 0
    back_ns = state.at - (frame.at - clock.jumped_ns - jumped_ns)
    jumped_ns -= back_ns if back_ns > _SECOND else 0
    if jumped_ns:
        clock.jumped_ns += jumped_ns
        how = f"the wall clock jumped by {jumped_ns / _SECOND:+.3f} s"
        state.quality.note(frame.seq, "clock", how)


def _judge(state: DataState, frame: Frame, touched: _Touched) -> _Touched:
    """Roll windows and notice silence, once a second of the venue's time; its end at once."""
    at, skew_ns, judged = frame.at, state.chain.skew_ns, state._judged
    judged.due_at = at + _SECOND - (at + (skew_ns or 0)) % _SECOND
    gone: list[MarketView] = []
    chain, received_at = state.chain, state.links.received_at
    chain.priced_at = max(chain.priced_at, received_at.get(state.links.markets, 0))
    second = (at + (skew_ns or 0)) // _SECOND
    if second != judged.second:  # in silence each frame is judged
        # By the time of receipt: the venue's may jump where its clock becomes known.
        passed = round((at - (judged.passed_at or at)) / _SECOND)
        state.clock.began_at = state.clock.began_at or at
        judged.second, judged.passed_at = second, at
        _pass_second(state, frame, max(passed, 1))
    since = at - state.stale_after_ns
    is_fresh = (not chain.at or chain.at > since) and chain.priced_at > since
    for view in state.views.values():
        view.live_at = max(view.live_at, received_at.get(view.link, 0))
        is_calm = is_fresh and not (view.price_missed or view.quality.stale)
        if is_calm and view.live_at > since:
            continue
        silent_ns, why = silence(view, at)
        stale = view.live_at > 0 and silent_ns >= state.stale_after_ns
        if stale:
            judged.due_at = at
        if stale == view.quality.stale:
            continue
        view.quality.stale = stale
        if stale:
            view.quality.note(frame.seq, "stale", f"{why} for {silent_ns / _SECOND:.1f} s")
        if view not in touched:
            gone += view._touch(frame, "stale")
    return [*touched, *gone] if gone else touched


def _pass_second(state: DataState, frame: Frame, passed: int) -> None:
    """Let time of the venue pass: windows, checks, what is counted by the second."""
    chain, at, skew_ns = state.chain, frame.at, state.chain.skew_ns
    now_ns = at + (skew_ns or 0)
    rolled_ns = now_ns - _SECOND if skew_ns is not None else 0
    is_new_minute = rolled_ns // _MINUTE > chain.rolled_ns // _MINUTE
    chain.rolled_ns = max(chain.rolled_ns, rolled_ns)
    for view in state.views.values():
        if skew_ns is not None:
            view.flow.now_ns = now_ns
        for candles in view.candles.values() if is_new_minute else ():
            candles.roll(chain.rolled_ns)
        if view.book.seq != view._checks.book_seq or view._checks.apart or view._checks.astray:
            _check_book(view, frame.seq, now_ns)
        quality = view.quality
        is_known = view.book.known and view.oracle is not None and not quality.stale
        quality.pass_time(passed, is_known)
    for ticker, film in chain.filmed.items():
        if (book := state.views[ticker].book).known:
            film.take(at, book)


def _fold_message(state: DataState, frame: Frame) -> _Touched:
    links = state.links
    link = links.ids.get(frame.link)
    if link is None:
        link = links.ids[frame.link] = Continuity()
        links.begun.setdefault(frame.link, frame.seq)
    lost: _Touched = ()
    trouble = link.take(frame)
    if trouble == "gap":
        lost = _lose_link(state, frame)
    links.received_at[frame.link] = frame.at
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


# === Detectors ===
# What goes on in a market beside its figures. A detector folds views into a `Detection`, at most
# one a second of event time and market; nothing runs unless somebody subscribes to `detections`.

_DETECT_NS: Final = _SECOND  # a market's detections are at least so far apart


class Detection(msgspec.Struct, frozen=True, gc=False):
    """What a detector found in a market at frame `seq`: `strength` 0 (nothing) to 1.

    `inputs` are the figures that it was computed from; the detectors say which, and their units.
    """

    ticker: str
    detector: str
    strength: float
    inputs: tuple[tuple[str, float], ...]
    seq: int

    def value(self, name: str) -> float | None:
        """Return one of the inputs; None if it is not among them."""
        return dict(self.inputs).get(name)


class Detector(Protocol):
    """One kind of finding, in all markets.

    `changes` names the changes of a view that it wants; `step` takes such a view and returns what
    stands there now, or None where nothing is due or known.
    """

    name: ClassVar[str]
    changes: ClassVar[frozenset[str]]

    def step(self, view: MarketView) -> Detection | None:
        """Take one view, return what is found in its market."""


def _keep(passed_ns: int, half_life_ns: float) -> float:
    """Return what an average retains of its old value after a time."""
    return math.exp2(-passed_ns / half_life_ns)


# === Market makers ===
# Who quotes both sides and means to: seen in how the best prices live, which only level totals
# show. No account is known here, and several makers look like one.

_WIDE_BPS: Final = 300.0  # no quote to both sides: the makers of a hollow book stand 9 % away
_BLOCK_NS: Final = 1_500_000_000  # a block, and the socket's batch of 250 ms
_LEFT_NS: Final = 2_500_000_000  # who renews a quote no more in this time has left it
_HALTED_NS: Final = 5 * _SECOND  # without a block: what stands in the book is nobody's act
_QUOTING_NS: Final = 2.0 * _SECOND  # half-life of being there
_ALIKE: Final = 0.1  # sizes that differ by less are the same
_NEAR: Final = 5  # levels: one that expired may stand before the others for two minutes
_LEARN: Final = 0.05  # what one quote weighs in the habits


class MarketMakers:
    """Somebody makes a market: quotes at the touch, renewed within a block, on both sides.

    uptime    share of time with both sides quoted, at most 300 bps apart
    there     share of time in which, besides, each side had a new quote among its best five
              within 2.5 s
    prompt    share of the quotes that were renewed within 1.5 s
    constant  share of the new quotes whose size is within 10 % of the one they follow
    refill    share of sweeps (the spread widens by half) that were filled up within 1.5 s
    life_s    mean life of a quote at the touch, s
    strength  = there · (5 + 3 prompt + constant + refill) / 10

    Shares of time have a half-life of 2 s, habits one of 14 quotes. From 0.5 on there are makers,
    at 0.25 or less there are none. Nothing while the chain stands (no block for 5 s), nor in the
    first 10 s. Measured against the comings and goings of the stand-in's makers, `tools/detect.py`.
    """

    name: ClassVar[str] = "makers"
    changes: ClassVar[frozenset[str]] = frozenset(["book", "trades", "oracle", "funding"])

    def __init__(self) -> None:
        self._markets: dict[str, _Quoting] = {}

    def step(self, view: MarketView) -> Detection | None:
        """Take one view, return how much it looks like somebody makes this market."""
        quoting, at = self._markets.get(view.ticker), view.at
        if quoting is None:
            quoting = self._markets[view.ticker] = _Quoting(at)
        if view.chain.at and at - view.chain.at > _HALTED_NS:
            quoting.rest(at)
            return None
        book = view.book
        if book.best_bid is not quoting.bid or book.best_ask is not quoting.ask:
            quoting.touch(at, book.best_bid, book.best_ask)
        if at < quoting.due:
            return None
        quoting.due = at + _DETECT_NS
        quoting.spend(at)
        quoting.look(at, book)
        if at - quoting.since < 10 * _SECOND:
            return None
        strength, figures = quoting.judge()
        return Detection(view.ticker, self.name, strength, figures, view.seq)


class _Quoting:
    """How the best prices of one market live; times in ns."""

    __slots__ = (
        "ask", "at", "bid", "constant", "due", "life_ns", "near", "offsets", "prompt", "refill",
        "renewed", "since", "spread_bps", "swept_at", "swept_bps", "there", "uptime",
    )  # fmt: skip

    def __init__(self, at: int) -> None:
        self.at = self.since = at
        self.due = at + _DETECT_NS
        self.bid: Level | None = None
        self.ask: Level | None = None
        self.renewed = [at, at]  # when each side's best was last quoted
        self.near = [at, at]  # and when one of its best few
        self.offsets = [0, 0]
        self.spread_bps = math.inf
        self.uptime = self.there = self.prompt = self.constant = self.refill = self.life_ns = 0.0
        self.swept_at, self.swept_bps = 0, 0.0

    def rest(self, at: int) -> None:
        """Let time pass that says nothing."""
        self.at = at
        self.renewed, self.near = [at, at], [at, at]
        self.swept_at = 0

    def spend(self, at: int) -> None:
        """Let time pass with the book as it stands."""
        passed = at - self.at
        if passed <= 0:
            return
        keep, self.at = _keep(passed, _QUOTING_NS), at
        self.uptime *= keep
        self.there *= keep
        if self.spread_bps <= _WIDE_BPS:
            self.uptime += 1.0 - keep
            # At first somebody was there, from a moment on nobody any more.
            alone = min(max(at - min(self.near) - _LEFT_NS, 0), passed)
            self.there += _keep(alone, _QUOTING_NS) - keep

    def touch(self, at: int, bid: Level | None, ask: Level | None) -> None:
        """Take new best levels."""
        if bid is not self.bid:
            self._quote(0, at, self.bid, bid)
            self.bid = bid
        if ask is not self.ask:
            self._quote(1, at, self.ask, ask)
            self.ask = ask
        before, spread_bps = self.spread_bps, math.inf
        if bid is not None and ask is not None:
            spread_bps = (ask.price - bid.price) / bid.price * 1e4
        if (before <= _WIDE_BPS) != (spread_bps <= _WIDE_BPS):
            self.spend(at)
        self.spread_bps = spread_bps
        if self.swept_at or 1.5 * before < spread_bps:
            self._sweep(at, before)

    def look(self, at: int, book: Book) -> None:
        """Notice new quotes near the touch: an expired one, not yet removed, may stand before."""
        for side, levels in enumerate((book.bids(_NEAR), book.asks(_NEAR))):
            for level in levels:
                if level.offset > self.offsets[side]:
                    self.near[side], self.offsets[side] = at, level.offset

    def _quote(self, side: int, at: int, old: Level | None, new: Level | None) -> None:
        if new is None:
            return
        if old is not None:
            price, size = old.price, old.size
            if new.price == price and new.size <= size:
                return  # a smaller total at the same price is a fill, not a quote
            life_ns = at - self.renewed[side]
            self.life_ns += _LEARN * (life_ns - self.life_ns)
            self.prompt += _LEARN * ((life_ns <= _BLOCK_NS) - self.prompt)
            self.constant += _LEARN * ((abs(new.size - size) <= _ALIKE * size) - self.constant)
        self.renewed[side] = at

    def _sweep(self, at: int, before_bps: float) -> None:
        if not self.swept_at:
            self.swept_at, self.swept_bps = at, before_bps
        elif self.spread_bps <= 1.25 * self.swept_bps or at - self.swept_at > _LEFT_NS:
            self.refill += _LEARN * ((at - self.swept_at <= _BLOCK_NS) - self.refill)
            self.swept_at = 0

    def judge(self) -> tuple[float, tuple[tuple[str, float], ...]]:
        """Return the strength and its figures."""
        strength = self.there * (5.0 + 3.0 * self.prompt + self.constant + self.refill) / 10.0
        return strength, (
            ("uptime", self.uptime), ("there", self.there), ("prompt", self.prompt),
            ("constant", self.constant), ("refill", self.refill),
            ("life_s", self.life_ns / _SECOND),
        )  # fmt: skip


# === Arbitrage ===
# What a trade against the oracle price, or against the other markets, would bring by the books as
# they stand, all costs taken off.

_SAMPLE_NS: Final = 5 * _SECOND  # returns are compared over this
_BASKET: Final = 3  # markets in the basket, those of the smallest spreads
_REBASKET: Final = 60  # samples between two choices of it
_BETA_KEEP: Final = math.exp2(-_SAMPLE_NS / (600 * _SECOND))
_RESIDUAL_KEEP: Final = math.exp2(-_SAMPLE_NS / (300 * _SECOND))
_WARM_SAMPLES: Final = 60
_ROUNDING: Final = 1e-9  # a share: sums of floats may not make a claim
_FEW_LEVELS: Final = 3
_LEVELS: Final = 20  # of a side: what lies deeper is nothing to trade on


class Arbitrage:
    """A price that is off by more than it costs to trade on it, both ways, by the books.

    For `usd` of a market, fees of `taker_ppm` each way:

    basis_bps     mid to oracle price; positive: the book is dearer
    basis_usd     net of buying (or selling) now and leaving at the oracle price, less half the
                  spread of leaving, fees, and the next hour's funding where it is to be paid
    residual_bps  how far the market has left its beta times the basket (the three markets of the
                  smallest spreads, itself apart) of late: 5 s returns, half-life 300 s
    beta, z       to the basket (half-life 600 s); the residual in its deviations, from the 60th on
    residual_usd  net of trading against the residual until it closes, all legs there and back
    -TICKER       USDC of each leg of the basket, + bought
    strength      = net / (net + cost) of the better one; 0 where neither pays

    Where fees alone take all of it the books are not walked, and the net is that before spreads.
    A net above 0 is claimed only if walking each book involved for its size (20 levels) pays it;
    a residual besides only from |z| = 2 on. Whether the price returns, nobody promises.
    """

    name: ClassVar[str] = "arbitrage"
    changes: ClassVar[frozenset[str]] = frozenset(["book", "oracle", "funding"])

    def __init__(self, usd: float = 1_000.0, taker_ppm: int = Fees().taker_ppm) -> None:
        if not 0.0 < usd < math.inf:
            raise DataError(f"expected more than 0 USDC to trade, got {usd!r}")
        self._usd, self._fee = usd, taker_ppm / _PPM
        self._margin = usd * _ROUNDING
        self._views: dict[str, MarketView] = {}
        self._residuals: dict[str, _Residual] = {}
        self._due: dict[str, int] = {}
        self._basket: tuple[str, ...] = ()
        self._sample_at = self._samples = 0

    def step(self, view: MarketView) -> Detection | None:
        """Take one view, return what trading on its price would bring."""
        ticker, at = view.ticker, view.at
        if at >= self._sample_at:
            self._sample(at)
        if at < self._due.get(ticker, 0):
            return None
        self._views[ticker] = view
        if view.oracle is None or view.book.mid_price is None or view.quality.stale:
            return None
        self._due[ticker] = at + _DETECT_NS
        inputs: list[tuple[str, float]] = [("usd", self._usd)]
        strength = max(self._basis(view, view.oracle.price, inputs), self._against(view, inputs))
        return Detection(ticker, self.name, strength, tuple(inputs), view.seq)

    def _basis(self, view: MarketView, oracle: float, inputs: list[tuple[str, float]]) -> float:
        mid = view.book.mid_price or oracle
        inputs.append(("basis_bps", (mid / oracle - 1.0) * 1e4))
        size = self._usd / oracle
        gross, cost = size * abs(mid - oracle), 2.0 * self._usd * self._fee
        if cost < gross:
            bought, sold = _walk(view.book, "BUY", size), _walk(view.book, "SELL", size)
            if bought is None or sold is None:
                return 0.0
            dear = mid > oracle
            # In at a price of the book, out at the oracle price with half the spread.
            fees = size * self._fee * ((sold if dear else bought) + oracle)
            funding = _to_go(view, -self._usd if dear else self._usd)
            cost = size * (bought - sold) + fees + funding + self._margin
        inputs.append(("basis_usd", gross - cost))
        return _strength(gross, cost)

    def _against(self, view: MarketView, inputs: list[tuple[str, float]]) -> float:
        residual = self._residuals.get(view.ticker)
        basket = [name for name in self._basket if name != view.ticker]
        if residual is None or residual.samples < _WARM_SAMPLES or not basket:
            return 0.0
        off, beta, z = residual.level, residual.beta, residual.z
        inputs += [("residual_bps", off * 1e4), ("beta", beta), ("z", z)]
        # Rich is sold, and its basket bought.
        own = -math.copysign(self._usd, off)
        legs = {name: -beta * own / len(basket) for name in basket}
        gross, cost = abs(off) * self._usd, 2.0 * self._fee * self._usd * (1.0 + abs(beta))
        if cost < gross:
            costs = [self._there_and_back(self._views[t], usd) for t, usd in legs.items()]
            costs.append(self._there_and_back(view, own))
            cost = math.fsum(costs) + self._margin
            if not math.isfinite(cost):
                return 0.0
        inputs.append(("residual_usd", gross - cost))
        inputs += [(f"-{name}", usd) for name, usd in legs.items()]
        return _strength(gross, cost) if abs(z) >= 2.0 else 0.0

    def _there_and_back(self, view: MarketView, usd: float) -> float:
        """Return what it costs to open and close a leg at once, with funding; inf: too thin."""
        mid = view.book.mid_price
        if mid is None or view.quality.stale:
            return math.inf
        size = abs(usd) / mid
        bought, sold = _walk(view.book, "BUY", size), _walk(view.book, "SELL", size)
        if bought is None or sold is None:
            return math.inf
        return size * (bought - sold + self._fee * (bought + sold)) + _to_go(view, usd)

    def _sample(self, at: int) -> None:
        """Compare the returns of all markets since the last sample."""
        self._sample_at = at + _SAMPLE_NS
        spreads: dict[str, float] = {}
        for ticker, view in self._views.items():
            mid, spread = view.book.mid_price, view.book.spread_bps
            residual = self._residuals.get(ticker)
            if residual is None:
                residual = self._residuals[ticker] = _Residual()
            if mid is None or spread is None or view.quality.stale:
                residual.log = residual.back = None
                continue
            spreads[ticker] = spread
            log = math.log(mid)
            residual.back = None if residual.log is None else log - residual.log
            residual.log = log
        if self._samples % _REBASKET == 0 or not self._basket:
            self._basket = tuple(sorted(spreads, key=lambda name: spreads[name])[:_BASKET])
        self._samples += 1
        returns = {name: self._residuals[name].back for name in self._basket}
        known = {name: back for name, back in returns.items() if back is not None}
        total = math.fsum(known.values())
        for ticker in spreads:
            residual, among = self._residuals[ticker], ticker in known
            count = len(known) - among
            if residual.back is not None and count:
                residual.take(residual.back, (total - (known[ticker] if among else 0.0)) / count)


class _Residual:
    """One market against the basket: logs of prices, returns of 5 s."""

    __slots__ = ("_both", "_power", "_square", "back", "level", "log", "samples")

    def __init__(self) -> None:
        self.log: float | None = None
        self.back: float | None = None
        self.samples = 0
        self.level = self._both = self._power = self._square = 0.0

    @property
    def beta(self) -> float:
        return self._both / self._power if self._power else 0.0

    @property
    def z(self) -> float:
        return self.level / math.sqrt(self._square) if self._square else 0.0

    def take(self, own: float, basket: float) -> None:
        # The beta is that of before: what it explains must not have made it.
        self.level = _RESIDUAL_KEEP * self.level + own - self.beta * basket
        self._both = _BETA_KEEP * self._both + own * basket
        self._power = _BETA_KEEP * self._power + basket * basket
        self.samples += 1
        weight = max(1.0 / self.samples, 1.0 - _BETA_KEEP)
        self._square += weight * (self.level * self.level - self._square)


def _walk(book: Book, side: str, size: float) -> float | None:
    """Return the average price of taking a size from the book; None where it is too thin."""
    levels = book.asks if side == "BUY" else book.bids
    for count in (_FEW_LEVELS, _LEVELS):  # nearly always the first few do
        left, paid = size, 0.0
        for level in levels(count):
            taken = level.size if level.size < left else left
            paid += taken * level.price
            left -= taken
            if left <= 0.0:
                return paid / size
    return None


def _to_go(view: MarketView, usd: float) -> float:
    """Return the next funding that a position of so much would pay, USDC; none that it gets."""
    return max(view.funding.next_rate_1h * usd, 0.0)


def _strength(gross: float, cost: float) -> float:
    return (gross - cost) / gross if gross > cost else 0.0


# === Price discovery ===
# Which price moves first: the mid, the tape, or the oracle. Times are those of receipt: what a
# reader of this stream can know, not what happened at the venue.

_LAG_STEP_S: Final = 0.25
_LAGS_S: Final = tuple(n * _LAG_STEP_S for n in range(-8, 9))
_MOST_LAG_S: Final = _LAGS_S[-1]
_MEMORY_S: Final = 300.0 / math.log(2.0)  # half-life of 300 s
_LEAST_MOVES: Final = 30
_DISCOVER_S: Final = 5.0  # between two findings: a lead does not change in a second
_UNPAIRED_S: Final = 30.0  # an observation waits so long for the other price


class PriceDiscovery:
    """Which of mid, trades and oracle leads, by how much, and where the price is made.

    For each pair the Hayashi-Yoshida covariance at lags of -2 to 2 s, 0.25 s apart, over all
    observations, without a common clock (Hoffmann, Rosenbaum and Yoshida 2013):

    lead_trades_s, lead_oracle_s    by how much the mid is ahead of the other; its peak, a parabola
    lead_oracle_trades_s            by how much the oracle is ahead of the tape
    rho_…                           the correlation at that peak
    share_mid     of mid and tape, the mid's part in the common price: Hasbrouck's information
                  share (1995) by one error correction a second, mean of both orders; from 60 s on
    strength      = the largest correlation

    A pair is absent before 30 moves of its rarer price. Half-life 300 s. Prices in logs.
    """

    name: ClassVar[str] = "discovery"
    changes: ClassVar[frozenset[str]] = frozenset(["book", "trades", "oracle"])

    def __init__(self) -> None:
        self._markets: dict[str, _Discovering] = {}

    def step(self, view: MarketView) -> Detection | None:
        """Take one view, return which of its prices leads."""
        ticker, at_s = view.ticker, view.at / _SECOND
        market = self._markets.get(ticker)
        if market is None:
            market = self._markets[ticker] = _Discovering(at_s)
        market.observe(view, at_s)
        if at_s < market.due_s:
            return None
        market.due_s = at_s + _DETECT_NS / _SECOND
        market.share.sample(market.mid.last, market.trades.last)
        if at_s < market.figures_s:
            return None
        market.figures_s = at_s + _DISCOVER_S
        inputs, strength = market.figures()
        return Detection(ticker, self.name, strength, inputs, view.seq) if inputs else None


class _Discovering:
    """The prices of one market, and how they follow each other."""

    def __init__(self, at_s: float) -> None:
        self.mid, self.trades, self.oracle = _Prices(), _Prices(), _Prices()
        self.share, self.due_s, self.figures_s = _Share(), at_s, at_s
        # The rarer price first: it is the one that costs.
        self.pairs = {
            "trades": (_Pair(self.trades, self.mid), -1.0),
            "oracle": (_Pair(self.oracle, self.mid), -1.0),
            "oracle_trades": (_Pair(self.oracle, self.trades), 1.0),
        }

    def observe(self, view: MarketView, at_s: float) -> None:
        """Take the price that a view brings."""
        if view.changed == "book":
            price, prices = view.book.mid_price, self.mid
        elif view.changed == "trades":
            price, prices = view.fresh[-1].price if view.fresh else None, self.trades
        else:
            price, prices = view.oracle.price if view.oracle else None, self.oracle
        if price is not None and prices.add(at_s, price):
            for pair in prices.first_of:
                pair.begin()
            for pair in prices.second_of:
                pair.settle()

    def figures(self) -> tuple[tuple[tuple[str, float], ...], float]:
        found: list[tuple[str, float]] = []
        strength = 0.0
        for name, (pair, sign) in self.pairs.items():
            if (peak := pair.peak()) is not None:
                found += [(f"lead_{name}_s", sign * peak[0]), (f"rho_{name}", peak[1])]
                strength = max(strength, peak[1])
        if found and (share := self.share.of_first()) is not None:
            found.append(("share_mid", share))
        return tuple(found), strength


class _Prices:
    """One price as it was observed: times in s, logs, and the sum of its squared moves."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.logs: list[float] = []
        self.last: float | None = None
        self.first_of: list[_Pair] = []
        self.second_of: list[_Pair] = []
        self._price = self._square = self._moved_s = 0.0

    def add(self, at_s: float, price: float) -> bool:
        """Take an observation; False for one that does not come after the last."""
        times = self.times
        if times and at_s <= times[-1]:
            return False
        if price != self._price:
            log = math.log(price)
            if self.last is not None:
                self._square = self.square(at_s) + (log - self.last) ** 2
            self.last, self._price, self._moved_s = log, price, at_s
        times.append(at_s)
        self.logs.append(self.last or 0.0)
        if len(times) >= 1_024:
            start = min(bisect_left(times, at_s - _UNPAIRED_S - 2 * _MOST_LAG_S), 1_023)
            del times[:start], self.logs[:start]
        return True

    def square(self, at_s: float) -> float:
        return self._square * math.exp((self._moved_s - at_s) / _MEMORY_S)


class _Pair:
    """How one price and another move together at each lag; positive: the first leads."""

    def __init__(self, first: _Prices, second: _Prices) -> None:
        self._first, self._second = first, second
        first.first_of.append(self)
        second.second_of.append(self)
        self._waiting: deque[tuple[float, float]] = deque()
        self._at_s = self._log = self._moves = 0.0
        self._before: list[float] = []
        self._both = [0.0] * len(_LAGS_S)

    def begin(self) -> None:
        """Let the first's newest observation wait until the second's are known as far."""
        at_s = self._first.times[-1]
        self._waiting.append((at_s, self._first.logs[-1]))
        if self._waiting[0][0] < at_s - _UNPAIRED_S:
            self._waiting.clear()
            self._before = []

    def settle(self) -> None:
        """Take what waited for the second's newest observation."""
        waiting, until_s = self._waiting, self._second.times[-1] - _MOST_LAG_S
        while waiting and waiting[0][0] <= until_s:
            self._settle(*waiting.popleft())

    def _settle(self, at_s: float, log: float) -> None:
        # A move of the first goes with all moves of the second that touch its time, shifted by
        # the lag: from the last observation before its start to the first after its end.
        times, logs = self._second.times, self._second.logs
        place = bisect_left(times, at_s - _MOST_LAG_S)
        if not place:
            self._before = []
            return
        before, after = [], []
        for lag in _LAGS_S:
            moment = at_s + lag
            while times[place] < moment:
                place += 1
            after.append(logs[place])
            before.append(logs[place - (times[place] > moment)])
        if self._before:
            keep, move = math.exp((self._at_s - at_s) / _MEMORY_S), log - self._log
            if move:
                self._moves += 1
            self._moves *= keep
            self._both = [
                keep * both + move * (end - start)
                for both, start, end in zip(self._both, self._before, after, strict=True)
            ]
        self._at_s, self._log, self._before = at_s, log, before

    def peak(self) -> tuple[float, float] | None:
        """Return the lag at which they move together most, s, and their correlation there."""
        if self._moves < _LEAST_MOVES:
            return None
        both, top = self._both, max(self._both)
        scale = math.sqrt(self._first.square(self._at_s) * self._second.square(self._at_s))
        if not scale or top <= 0.0:
            return None
        at = both.index(top)
        lag = _LAGS_S[at]
        if 0 < at < len(both) - 1:
            low, high = both[at - 1], both[at + 1]
            if (bend := low - 2.0 * top + high) < 0.0:
                lag += 0.5 * (low - high) / bend * _LAG_STEP_S
        return lag, min(top / scale, 1.0)  # observed apart, they may seem more than one


class _Share:
    """Two prices of one thing, a second at a time: how each makes up for the gap between them."""

    _KEEP: Final = math.exp(-1.0 / _MEMORY_S)

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._count = 0
        # Sums of products of the gap and both moves.
        self._gap = self._gap_1 = self._gap_2 = self._11 = self._12 = self._22 = 0.0

    def sample(self, first: float | None, second: float | None) -> None:
        """Take both prices, a second after the last."""
        if first is None or second is None:
            return
        if self._last is not None:
            gap = self._last[0] - self._last[1]
            one, two, keep = first - self._last[0], second - self._last[1], self._KEEP
            self._gap = keep * self._gap + gap * gap
            self._gap_1 = keep * self._gap_1 + gap * one
            self._gap_2 = keep * self._gap_2 + gap * two
            self._11 = keep * self._11 + one * one
            self._12 = keep * self._12 + one * two
            self._22 = keep * self._22 + two * two
            self._count += 1
        self._last = first, second

    def of_first(self) -> float | None:
        """Return the first's share in the common price, 0 to 1; None while it is unknown."""
        if self._count < 60 or not self._gap:
            return None
        one, two = self._gap_1 / self._gap, self._gap_2 / self._gap
        var_1 = self._11 - one * self._gap_1
        var_2 = self._22 - two * self._gap_2
        both = self._12 - one * self._gap_2
        # Who gives in to the gap follows; the weights of the common price are the other's.
        weight_1, weight_2 = max(two, 0.0), max(-one, 0.0)
        upper = _first_share(weight_1, weight_2, var_1, var_2, both)
        lower = _first_share(weight_2, weight_1, var_2, var_1, both)
        return None if upper is None or lower is None else (upper + 1.0 - lower) / 2.0


def _first_share(
    weight_1: float, weight_2: float, var_1: float, var_2: float, both: float
) -> float | None:
    # Cholesky: what both have in common is the first's.
    if var_1 <= 0.0 or var_2 <= 0.0:
        return None
    deviation = math.sqrt(var_1)
    first = weight_1 * deviation + weight_2 * both / deviation
    rest = weight_2 * weight_2 * max(var_2 - both * both / var_1, 0.0)
    total = first * first + rest
    return first * first / total if total else None


DETECTORS: Final[tuple[Callable[[], Detector], ...]] = (MarketMakers, Arbitrage, PriceDiscovery)


# === Streams ===
# The operators, one line around `step` and around the detectors.


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


def detections(
    detectors: Iterable[Callable[[], Detector]] = DETECTORS,
) -> Callable[[Observable[MarketView]], Observable[Detection]]:
    """Turn market views into what the detectors find, at most one a second, market and detector.

    Cold if the source is; replays nothing; runs on the source's thread; completes and errors with
    it. Each subscriber folds detectors of its own. A change that no detector wants (q) is passed
    over, and so is one before the next finding is due (b):

        views       --b--q--b--o--|
        detections  --D--------D--|
    """
    chosen = tuple(detectors)
    return fold(lambda: [make() for make in chosen], _detect)


def _detect(detectors: Iterable[Detector], view: MarketView) -> list[Detection]:
    changed = view.changed
    found = [detector.step(view) for detector in detectors if changed in detector.changes]
    return [detection for detection in found if detection is not None]
