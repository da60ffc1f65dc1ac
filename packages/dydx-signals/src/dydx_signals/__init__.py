"""Continuous scores: what each market looks like right now, from 0 to 100.

    MarketView ──► scores() ──► Scored (the market, read within the frame) ──► signal("momentum")
                     │
                  Scorer ── Engine.update(view), with every tick ── Engine.read(ticker), when read

A `Score` is a value: from 0 to 100, with the named figures it was computed from and the frames it
rests on, so that a person can compute it again. An engine folds every tick of its markets and makes
a score only when somebody reads it; what cannot be computed yet, or any more, is absent: never a
made-up 50. One engine per signal type holds all markets. `STANDARD` are six of the engines,
`ALL` every one:

    Errors, Values                  `SignalError`; `Score`, `Scored`, and `Engine`, the protocol
    Day                             what is usual for a market, from run to run
    Momentum, Trend                 where the price goes, over a minute and over a quarter hour
    Volume, Volatility, Liquidity   levels: 50 is usual for this market
    Imbalance, Microprice, Depth    which side of the book is heavier
    Funding, Carry, Basis           what holding costs, by the rate and by the oracle price
    Taker flow, Liquidations        who takes, and who is forced to
    Reversion, Interest             back to what was paid; what new positions back
    Returns                         jumps, and the share of what went up
    Streams                         `Scorer`, `scores`, `signal`, `every`, `latest`, `window`
    Formulas                        each mapping in words; `worked`, a score computed by hand

Each signal is a section of its own: figures, mapping and warm-up are in its engine's docstring, the
state per market in the private class under it. A new signal is a class like these (`Engine`) and a
line in `ALL`; which changes of a view reach it is in its `changes`, what it declares to hold in
`points` and `free` (`bot signals check` tries it).

Units: prices in USDC per base unit, sizes in base units, `_usd` in USDC, `_bps` in 1e-4, times
in seconds; half-lives are seconds of event time. An average with half-life h keeps
k = 2^(-dt / h) of what it was over dt seconds; tau = h / ln 2.

Nothing here decides to buy, sell or hold, compares two markets, has a threshold or reads a
clock: time is `view.at` alone, and time that steps back counts as no time. Every engine is one O(1)
step per view: what points a way folds every tick, a level once a second (and volume every trade).
"""

from __future__ import annotations

import math
import re
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import exp, floor, log, log1p, log2, sqrt
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, TypeVar

import dydx_data
import msgspec
from dydx_conn import Frame, fold
from dydx_data import MarketView
from reactivex import Observable

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "SignalError",
    # Values
    "Board", "Engine", "Score", "Scored",
    # Day
    "Day",
    # Momentum
    "Momentum",
    # Volume
    "Volume",
    # Volatility
    "Volatility",
    # Imbalance
    "Imbalance",
    # Liquidity
    "Liquidity",
    # Funding
    "Funding",
    # Microprice
    "Microprice",
    # Taker flow
    "TakerFlow", "TakerFlow10s", "TakerFlow1min", "TakerFlow5min",
    # Depth
    "BookDepth",
    # Trend
    "Trend",
    # Reversion
    "Reversion",
    # Basis
    "Basis",
    # Carry
    "Carry",
    # Interest
    "Interest",
    # Liquidations
    "Liquidations",
    # Returns
    "Jumps", "Strength",
    # Streams
    "ALL", "STANDARD", "Scorer", "every", "latest", "scores", "signal", "window",
    # Formulas
    "Worked", "worked",
]
# fmt: on

# === Errors ===


class SignalError(Exception):
    """Engines that cannot work, or a `Scored` that is read after its frame."""


# === Values ===
# What comes out, what an engine is, and the arithmetic that engines share.


class Score(msgspec.Struct, frozen=True, gc=False):
    """One signal of one market: `value` from 0 to 100, and the figures it came from.

    `seq` and `at` are its frame, the newest of its market, and that frame's time; `first` is the
    oldest frame that it was computed from: the frames from `first` to `seq` alone give the same.
    """

    ticker: str
    signal: str
    value: float
    inputs: tuple[tuple[str, float], ...]
    seq: int
    first: int = 0
    at: int = 0

    @classmethod
    def of(
        cls, engine: Engine, ticker: str, inputs: Mapping[str, float], seq: int, first: int
    ) -> Self:
        """Make the score that an engine's inputs come to."""
        return cls(ticker, engine.name, engine.value(inputs), (*inputs.items(),), seq, first)


class Engine(Protocol):
    """One signal type for all markets: it folds views, and is read apart from that.

    `changes` names the changes of a view that can change the score: `update` takes every such
    view, and most scores are never read. State is per ticker and in the engine alone, so
    other markets' views make no difference.
    """

    name: ClassVar[str]
    changes: ClassVar[frozenset[str]]
    # What it declares, to be checked: whether it points a way, so that 50 is the mirror, and of
    # the scale of what ("price", "size") and the shift of which ("time") it is free.
    points: ClassVar[bool]
    free: ClassVar[frozenset[str]]

    def update(self, view: MarketView) -> None:
        """Fold one view."""

    def read(self, ticker: str) -> Score | None:
        """Return a market's score now, None while there is none; changes nothing."""

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the value that a score's inputs come to: nothing else goes into it."""


class Board(Protocol):
    """Where a `Scored` reads from, as of its newest frame `seq`: a `Scorer`."""

    seq: int
    views: dict[str, MarketView]

    def read(self, ticker: str, signal: str) -> Score | None:
        """Return one score of one market; None if it is absent."""

    def scores(self, ticker: str) -> tuple[Score, ...]:
        """Return each score of a market that exists, in the order of the engines."""

    def values(self, ticker: str) -> dict[str, float]:
        """Return by signal the value of each score of a market that exists."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """A market as of frame `seq`: its view and its newest scores, made when they are read.

    All of it is read within the frame, as views and engines go on with the next one: a `Scored`
    read later raises `SignalError`. A `Score` is a value and stays.
    """

    ticker: str
    seq: int
    at: int
    board: Board

    @property
    def view(self) -> MarketView:
        """Return the market's view, updated in place by the layer below."""
        return self.now.views[self.ticker]

    @property
    def scores(self) -> tuple[Score, ...]:
        """Make the scores that exist, in the order of the engines."""
        return self.now.scores(self.ticker)

    @property
    def values(self) -> Mapping[str, float]:
        """Return by signal the value of each score that exists, for less than the scores cost."""
        return self.now.values(self.ticker)

    @property
    def markets(self) -> Mapping[str, Scored]:
        """Return every market that was scored, as of this frame."""
        return _Markets(self.now, self.seq, self.at)

    def score(self, signal: str) -> Score | None:
        """Return the score of one signal; None if it is absent."""
        return self.now.read(self.ticker, signal)

    def value(self, signal: str) -> float | None:
        """Return the value of one signal; None if it is absent."""
        score = self.now.read(self.ticker, signal)
        return None if score is None else score.value

    @property
    def now(self) -> Board:
        """Return where it reads from; `SignalError` after its frame."""
        if self.board.seq != self.seq:
            raise SignalError(
                f"expected {self.ticker} as of frame {self.seq} to be read within that frame, "
                f"got frame {self.board.seq}"
            )
        return self.board


class _Markets(Mapping[str, Scored]):
    """Every market as of one frame."""

    def __init__(self, board: Board, seq: int, at: int) -> None:
        self._board, self._seq, self._at = board, seq, at

    def __getitem__(self, ticker: str) -> Scored:
        if ticker not in self._board.views:
            raise KeyError(ticker)
        return Scored(ticker, self._seq, self._at, self._board)

    def __iter__(self) -> Iterator[str]:
        return iter(self._board.views)

    def __len__(self) -> int:
        return len(self._board.views)


# Engines get a stale view, too, so that a score can vanish at once.
_BOOK: Final = frozenset(["book", "stale"])
_PRICE: Final = frozenset(["book", "oracle", "stale"])
_TRADES: Final = frozenset(["trades", "book", "oracle", "stale"])

_FREE: Final = frozenset(["price", "size", "time"])

_LN2: Final = log(2.0)
_NS: Final = 1e-9
_SECOND: Final = 1_000_000_000
# No price, size or value on the venue is as large; keeps sums and squares far from inf.
_HUGE: Final = 1e18
# The `seq` of a state whose score cannot be computed any more.
_ABSENT: Final = -1


class _Followed(Protocol):
    """What an engine knows of one market, as of the frame `seq`."""

    seq: int


def _let_go(of: _Followed | None) -> None:
    """Let a market have no score until the next view of which one can be computed."""
    if of is not None:
        of.seq = _ABSENT


def _tau(half_life: float) -> float:
    if not 0.001 <= half_life <= 86_400.0:
        raise SignalError(f"expected a half-life from 1 ms to a day, got {half_life!r} s")
    return half_life / _LN2


def _apart(fast: float, slow: float) -> None:
    # Two averages nearer than this differ by less than their rounding, once they are young.
    if not 2.0 * fast <= slow:
        raise SignalError(
            f"expected half-lives of which one is at least twice the other, "
            f"got {fast!r} and {slow!r} s"
        )


def _share(part: float, usual: float) -> float:
    # 50 where both are equal; the logistic of the log of their ratio, without the logs.
    return 100.0 * part / (part + usual)


def _centred(lean: float) -> float:
    # A lean of -1 … 1, beyond which rounding may go by the last digit.
    return 50.0 + 50.0 * min(max(lean, -1.0), 1.0)


def _logistic(z: float) -> float:
    # Beyond 40 the result no longer differs from 0 or 100, and exp would overflow at 710.
    if z > 40.0:
        return 100.0
    return 100.0 / (1.0 + exp(-z)) if z > -40.0 else 0.0


# === Day ===
# What is usual for a market: the figures of a day, which leave a run as text and enter the next.

_FINE: Final = 16.0  # buckets an octave: a median is within 2.2 %
_HOUR: Final = 3_600 * _SECOND
_LEAST: Final = 1e-9
_HIGHEST: Final = 16_000  # bucket: 2 to the power of 1,000, near the end of floats


class Day:
    """What a positive figure was over the last 24 hours of event time: its median and its ranks.

    A histogram of seconds, in log-spaced buckets, by hour: an hour leaves as a whole when it is a
    day old. What is added is sorted in when it is read. `first` is the oldest frame that is in it,
    of a day that came as text (`restore`) the frame that it came with.
    """

    __slots__ = (
        "_below",
        "_counts",
        "_hour",
        "_middle",
        "_new",
        "_past",
        "_seconds",
        "_slot",
        "first",
    )

    def __init__(self) -> None:
        self.first = _ABSENT
        self._seconds = 0
        self._new: dict[int, int] = {}  # what is not sorted in yet
        self._counts: dict[int, int] = {}
        self._middle = self._below = 0  # the median's bucket, and the seconds in those below it
        self._hour = 0
        self._slot: dict[int, int] = {}
        # A closed hour and its buckets, packed: as dicts, a day of 250 markets takes 40 MB.
        self._past: deque[tuple[int, array[int]]] = deque()

    def add(self, figure: float, at: int, seconds: int) -> None:
        """Count that a figure stood for so many seconds until `at`, for a minute at most."""
        if (hour := at // _HOUR) != self._hour:
            self._turn(hour)
        bucket, new = floor(_FINE * log2(figure if figure > _LEAST else _LEAST)), self._new
        if seconds != 1:  # as nearly always it is
            seconds = min(max(seconds, 1), 60)
        new[bucket] = new.get(bucket, 0) + seconds

    @property
    def seconds(self) -> int:
        """Return how many seconds of the day are known."""
        if self._new:
            self._sort_in()
        return self._seconds

    @property
    def median(self) -> float:
        """Return the figure that half of the day is below; `SignalError` while nothing is known."""
        if not self.seconds:
            raise SignalError("expected a day of which something is known, got none of it")
        within = (self.seconds / 2.0 - self._below) / self._counts[self._middle]
        return math.exp2((self._middle + within) / _FINE)

    @property
    def hours(self) -> float:
        """Return how many hours of the day are known."""
        return self.seconds / 3_600.0

    def rank(self, figure: float) -> float:
        """Return the share of the day, in percent, that was below a figure."""
        bucket = floor(_FINE * log2(figure if figure > _LEAST else _LEAST))
        seconds, counts, middle = self.seconds, self._counts, self._middle
        if -len(counts) < bucket - middle < len(counts):
            # From the median on: what is now is seldom far from what is usual.
            below = self._below
            for lower in range(middle, bucket):
                below += counts.get(lower, 0)
            for lower in range(bucket, middle):
                below -= counts.get(lower, 0)
        else:
            below = sum(count for lower, count in counts.items() if lower < bucket)  # integers
        return 100.0 * (below + counts.get(bucket, 0) / 2.0) / seconds

    def rows(self) -> list[list[int]]:
        """Return its hours, each as hour, bucket, seconds, and so on in pairs."""
        self._sort_in()
        slots = [*self._past, (self._hour, _packed(self._slot))] if self._slot else self._past
        return [[hour, *packed] for hour, packed in slots]

    def restore(self, rows: Iterable[list[int]], first: int) -> None:
        """Begin with the hours of another run; those of the day that went before come first."""
        self.__init__()  # type: ignore[misc] # a new day
        for hour, *pairs in sorted(rows):
            self._begin(hour)
            self._new.update(zip(pairs[::2], pairs[1::2], strict=True))
        self.first = first

    def _sort_in(self) -> None:
        for bucket, seconds in self._new.items():
            self._slot[bucket] = self._slot.get(bucket, 0) + seconds
            self._count(bucket, seconds)
        self._new.clear()
        self._balance()

    def _turn(self, hour: int) -> None:
        if hour < self._hour - 1:  # hours of another clock
            self.restore((), self.first)
        if hour > self._hour:
            self._begin(hour)

    def _begin(self, hour: int) -> None:
        self._sort_in()
        if self._slot:
            self._past.append((self._hour, _packed(self._slot)))
        self._hour, self._slot = hour, {}
        while self._past and self._past[0][0] <= hour - 24:
            _, packed = self._past.popleft()
            for bucket, seconds in zip(packed[::2], packed[1::2], strict=True):
                self._count(bucket, -seconds)

    def _count(self, bucket: int, seconds: int) -> None:
        if not self._seconds:
            self._middle, self._below = bucket, 0
        self._seconds += seconds
        count = self._counts.get(bucket, 0) + seconds
        if bucket < self._middle:
            self._below += seconds
        if count:
            self._counts[bucket] = count
        else:
            del self._counts[bucket]

    def _balance(self) -> None:
        # The median moves by a bucket or two: to follow it costs less than to look for it.
        counts, half = self._counts, self._seconds / 2.0
        while self._below > half:
            self._middle -= 1
            self._below -= counts.get(self._middle, 0)
        while self._below + counts.get(self._middle, 0) <= half and self._seconds:
            self._below += counts.get(self._middle, 0)
            self._middle += 1


def _packed(slot: dict[int, int]) -> array[int]:
    return array("h", [number for row in sorted(slot.items()) for number in row])


def _first(view: MarketView, day: Day | None = None) -> int:
    """Return the oldest frame of what a view holds, or that a day came with."""
    book, oracle = view.book, view.oracle
    first = min(view.seq, book.first) if book.known else view.seq
    if oracle is not None and oracle.seq:
        first = min(first, oracle.seq)
    return first if day is None or day.first == _ABSENT else min(first, day.first)


# === Momentum ===


class Momentum:
    """Where the mid price goes, measured in what a trendless market would do by chance.

    fast, slow = averages of the mid price (half-lives 10 s and 60 s)
    trend_bps  = 1e4 · ln(fast / slow)
    sigma_bps  = the standard deviation of trend_bps if the price were a random walk of the
                 variance seen: sqrt(v · (A(slow, slow) + A(fast, fast) - 2 · A(fast, slow))), where
                 A(x, y) = (1 - e^(-t / c)) · c, c = 1 / (1 / tau_x + 1 / tau_y), t the age in s
    v          = variance of log returns per second, over steps of at least 1 s, half-life 120 s
    z          = trend_bps / sigma_bps
    value      = 100 / (1 + e^-z): 50 no trend, 73 one sigma up, 27 one sigma down

    Window: half-life 60 s. Warm-up: 10 s and 5 returns. Absent while the book is unknown or
    one-sided. A market that does not move at all has z = 0: v is at least (0.05 bps)² per s.
    """

    name: ClassVar[str] = "momentum"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, fast: float = 10.0, slow: float = 60.0, variance: float = 120.0) -> None:
        _apart(fast, slow)
        fast_tau, slow_tau = _tau(fast), _tau(slow)
        self._fast, self._slow = -_NS / fast_tau, -_NS / slow_tau
        self._taus = fast_tau, slow_tau
        self._variance = _tau(variance)
        self._markets: dict[str, _Trend] = {}

    def update(self, view: MarketView) -> None:
        """Fold the mid price of a view."""
        mid, at = view.book.mid_price, view.at
        trend = self._markets.get(view.ticker)
        if mid is None or mid >= _HUGE:
            _let_go(trend)
            return
        if trend is None:
            trend = self._markets[view.ticker] = _Trend(view, mid, _Variance(self._variance))
        trend.seq = view.seq
        dt = at - trend.at
        if dt > 0:
            trend.at = at
            decay = exp(dt * self._fast)
            trend.fast = mid + (trend.fast - mid) * decay
            trend.fast_age *= decay
            decay = exp(dt * self._slow)
            trend.slow = mid + (trend.slow - mid) * decay
            trend.slow_age *= decay
        if at >= trend.variance.due:
            trend.variance.sample(mid, at)

    def read(self, ticker: str) -> Score | None:
        """Return a market's momentum."""
        if (trend := self._ready(ticker)) is None:
            return None
        fast, slow, sigma_bps = trend.fast, trend.slow, self._sigma_bps(trend)
        trend_bps = 1e4 * log(fast / slow)
        inputs = {
            "fast": fast, "slow": slow, "trend_bps": trend_bps, "sigma_bps": sigma_bps,
            "z": trend_bps / sigma_bps,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, trend.seq, trend.first)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's momentum."""
        if (trend := self._ready(ticker)) is None:
            return None
        inputs = {"fast": trend.fast, "slow": trend.slow, "sigma_bps": self._sigma_bps(trend)}
        return self.value(inputs)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the trend in standard deviations."""
        return _logistic(1e4 * log(inputs["fast"] / inputs["slow"]) / inputs["sigma_bps"])

    def _ready(self, ticker: str) -> _Trend | None:
        trend = self._markets.get(ticker)
        if trend is None or trend.seq == _ABSENT or trend.variance.count < 5:
            return None
        return trend if trend.at - trend.since >= 10 * _SECOND else None

    def _sigma_bps(self, trend: _Trend) -> float:
        ages = trend.fast_age, trend.slow_age
        return 1e4 * _chance(trend.variance.value, *self._taus, *ages)


def _chance(variance: float, fast: float, slow: float, fast_age: float, slow_age: float) -> float:
    """Return the deviation of ln(fast / slow) of a random walk; ages are e^(-t / tau)."""
    both = fast * slow / (fast + slow)
    return sqrt(
        variance
        * (
            slow / 2.0 * (1.0 - slow_age * slow_age)
            + fast / 2.0 * (1.0 - fast_age * fast_age)
            - 2.0 * both * (1.0 - fast_age * slow_age)
        )
    )


class _Trend:
    __slots__ = (
        "at", "fast", "fast_age", "first", "seq", "since", "slow", "slow_age", "variance",
    )  # fmt: skip

    def __init__(self, view: MarketView, mid: float, variance: _Variance) -> None:
        self.at = self.since = view.at
        self.seq, self.first = view.seq, _first(view)
        self.fast = self.slow = mid
        # e^(-age / tau): what is left of the moment the averages were both the first price.
        self.fast_age = self.slow_age = 1.0
        self.variance = variance


class _Variance:
    """Variance of log returns per second, from returns over at least a second.

    Shorter steps would measure the flicker of the best prices instead of the price. `due` is
    when the next price is wanted: the caller compares it first, and calls seldom.
    """

    __slots__ = ("_at", "_price", "_rate", "_squares", "_time", "count", "due", "value")

    def __init__(self, tau: float) -> None:
        self._rate = -1.0 / tau
        self._at = 0
        self._price = 0.0
        self._squares = self._time = 0.0
        self.count = 0
        self.due = 0
        self.value = _STILL

    def sample(self, price: float, at: int) -> None:
        if self._price:
            dt = (at - self._at) * _NS
            decay = exp(dt * self._rate)
            step = log(price / self._price)
            self._squares = squares = self._squares * decay + step * step
            self._time = time = self._time * decay + dt
            value = squares / time
            self.value = value if value > _STILL else _STILL
            self.count += 1
        self._price, self._at, self.due = price, at, at + _SECOND

    def restart(self) -> None:
        """Forget the last price but not the variance: the next price is from another source."""
        self._price = 0.0
        self.due = 0


# No market counts as stiller than (0.05 bps)² per second, about one tick of the stillest.
_STILL: Final = 0.05e-4 * 0.05e-4


# === Volume ===


class Volume:
    """How much is traded now against what is usual for this market.

    now_usd_s   = traded USDC per second, half-life 20 s: the sum of k-weighted USDC over
                  tau · (1 - e^(-t / tau)), t the age in s
    usual_usd_s = the day's median of it, second by second; 1 USDC a second at least
    value       = 100 · now / (now + usual): 50 as always, 67 twice, 33 half

    Warm-up: 15 s and 3 trades; `day_h` is how many hours of the day are known. Trades more than
    5 s older than the newest of their message are history (a snapshot's) and do not count. A market
    that never trades is not active by its own measure: that is what the least usual is for, and
    why the value is not the same at another scale of size.
    """

    name: ClassVar[str] = "volume"
    changes: ClassVar[frozenset[str]] = _TRADES
    points: ClassVar[bool] = False
    free: ClassVar[frozenset[str]] = frozenset(["time"])

    def __init__(self, now: float = 20.0) -> None:
        self._tau = _tau(now)
        self._rate = -_NS / self._tau
        self._markets: dict[str, _Traded] = {}
        self.days: dict[str, Day] = {}

    def update(self, view: MarketView) -> None:
        """Fold the trades of a view, or that time has gone by without any."""
        at = view.at
        traded = self._markets.get(view.ticker)
        if traded is None:
            day = self.days.setdefault(view.ticker, Day())
            traded = self._markets[view.ticker] = _Traded(view, day)
        traded.seq = view.seq
        if view.changed == "trades":
            self._age(traded, at)
            _count(traded, view.fresh)
        elif at < traded.due:
            return
        else:
            self._age(traded, at)
        if at >= traded.due and at - traded.since >= 15 * _SECOND:
            seconds = (at - traded.due) // _SECOND + 1
            traded.day.add(self._now(traded), at, seconds)
            traded.due = at + _SECOND

    def read(self, ticker: str) -> Score | None:
        """Return a market's volume level."""
        if (traded := self._ready(ticker)) is None:
            return None
        now, day = self._now(traded), traded.day
        inputs = {
            "now_usd_s": now, "usual_usd_s": max(day.median, 1.0), "trades": float(traded.count),
            "day_rank": day.rank(now), "day_h": day.hours,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, traded.seq, traded.first)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's volume level."""
        if (traded := self._ready(ticker)) is None:
            return None
        usual = max(traded.day.median, 1.0)
        return self.value({"now_usd_s": self._now(traded), "usual_usd_s": usual})

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of what is traded now in now and usual."""
        return _share(inputs["now_usd_s"], inputs["usual_usd_s"])

    def _ready(self, ticker: str) -> _Traded | None:
        traded = self._markets.get(ticker)
        if traded is None or traded.count < 3 or not traded.day.seconds:
            return None
        return traded if traded.at - traded.since >= 15 * _SECOND else None

    def _now(self, traded: _Traded) -> float:
        return traded.now / (self._tau * (1.0 - traded.age))

    def _age(self, traded: _Traded, at: int) -> None:
        dt = at - traded.at
        if dt > 0:
            decay = exp(dt * self._rate)
            traded.at = at
            traded.now *= decay
            traded.age *= decay


class _Traded:
    __slots__ = ("age", "at", "count", "day", "due", "first", "now", "seq", "since")

    def __init__(self, view: MarketView, day: Day) -> None:
        self.at = self.since = view.at
        self.seq = view.seq
        self.first = _first(view, day)
        self.due = view.at + 15 * _SECOND
        self.now, self.age = 0.0, 1.0
        self.count = 0
        self.day = day


def _count(traded: _Traded, fresh: Sequence[dydx_data.Trade]) -> None:
    for trade in _current(fresh):
        traded.now += trade.price * trade.size
        traded.count += 1


def _current(fresh: Sequence[dydx_data.Trade]) -> Iterator[dydx_data.Trade]:
    """Yield the trades of a message that are now, and not a snapshot's history."""
    if not fresh:
        return
    # Against the newest of the same message: block time and our clock need not agree.
    since = max(trade.at_ns for trade in fresh) - 5 * _SECOND
    for trade in fresh:
        if trade.at_ns >= since and trade.price * trade.size < _HUGE:
            yield trade


# === Volatility ===


class Volatility:
    """How much the price moves now against what is usual for this market.

    now_bps   = standard deviation of log returns per square root of a second, in bps, over steps
                of at least 1 s, half-life 30 s, at least 0.05 bps
    usual_bps = the day's median of it; 5 bps at most
    value     = 100 · now² / (now² + usual²): 50 as always, 80 twice, 90 three times

    The price is the mid, or the oracle's while the book is unknown or one-sided; a change of
    source is not a return. Warm-up: 10 returns; `day_h` is how many hours of the day are known.
    `minute_bps` is now_bps · sqrt(60), for reading. What moves by 39 bps a minute day and night is
    rough by any measure: that is what the largest usual is for.
    """

    name: ClassVar[str] = "volatility"
    changes: ClassVar[frozenset[str]] = _PRICE
    points: ClassVar[bool] = False
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, now: float = 30.0) -> None:
        self._tau = _tau(now)
        self._markets: dict[str, _Swings] = {}
        self.days: dict[str, Day] = {}

    def update(self, view: MarketView) -> None:
        """Fold the price of a view."""
        swings = self._markets.get(view.ticker)
        if swings is None:
            day = self.days.setdefault(view.ticker, Day())
            swings = self._markets[view.ticker] = _Swings(view, self._tau, day)
        swings.take(view)

    def read(self, ticker: str) -> Score | None:
        """Return a market's volatility level."""
        if (swings := self._ready(ticker)) is None:
            return None
        now_bps, day = 1e4 * sqrt(swings.now.value), swings.day
        inputs = {
            "now_bps": now_bps, "usual_bps": min(day.median, _ROUGH_BPS),
            "minute_bps": now_bps * _SQRT_60, "day_rank": day.rank(now_bps), "day_h": day.hours,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, swings.seq, swings.first)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's volatility level."""
        if (swings := self._ready(ticker)) is None:
            return None
        usual_bps = min(swings.day.median, _ROUGH_BPS)
        return self.value({"now_bps": 1e4 * sqrt(swings.now.value), "usual_bps": usual_bps})

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of the variance now in now and usual."""
        now, usual = inputs["now_bps"], inputs["usual_bps"]
        return _share(now * now, usual * usual)

    def _ready(self, ticker: str) -> _Swings | None:
        swings = self._markets.get(ticker)
        if swings is None or swings.seq == _ABSENT or swings.now.count < 10:
            return None
        return swings


_SQRT_60: Final = sqrt(60.0)
_ROUGH_BPS: Final = 5.0


class _Swings:
    __slots__ = ("at", "by_mid", "day", "first", "now", "seq")

    def __init__(self, view: MarketView, tau: float, day: Day) -> None:
        self.seq = _ABSENT
        self.first = _first(view, day)
        self.now = _Variance(tau)
        self.by_mid = True
        self.at, self.day = view.at, day

    def take(self, view: MarketView) -> None:
        price = view.book.mid_price
        by_mid = price is not None
        if by_mid and self.by_mid and view.at < self.now.due:
            return  # as nearly always
        if price is None:
            oracle = view.oracle
            if oracle is None:
                self.seq = _ABSENT
                return
            price = oracle.price
        if by_mid is not self.by_mid:
            self.by_mid = by_mid
            self.now.restart()
        at = view.at
        if at < self.now.due or price >= _HUGE:
            return
        self.seq = view.seq
        self.now.sample(price, at)
        if self.now.count >= 10:
            self.day.add(1e4 * sqrt(self.now.value), at, (at - self.at) // _SECOND)
        self.at = at


# === Imbalance ===


class Imbalance:
    """Which side of the book is heavier where the next trade happens.

    bid_size, ask_size = base units at the best bid and the best ask
    raw                = (bid_size - ask_size) / (bid_size + ask_size), from -1 to 1
    smoothed           = average of raw, half-life 5 s
    value              = 50 + 50 · smoothed

    Warm-up: 5 s. Absent while the book is unknown, one-sided or modelled.
    """

    name: ClassVar[str] = "imbalance"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float = 5.0) -> None:
        self._rate = -_NS / _tau(half_life)
        self._markets: dict[str, _Smoothed] = {}

    def update(self, view: MarketView) -> None:
        """Fold the best levels of a view."""
        book = view.book
        bid, ask = book.best_bid, book.best_ask
        average = self._markets.get(view.ticker)
        both = 0.0 if bid is None or ask is None else bid.size + ask.size
        if bid is None or ask is None or not 0.0 < both < _HUGE or book.modelled:
            _let_go(average)
            return
        raw = (bid.size - ask.size) / both
        at = view.at
        if average is None:
            average = self._markets[view.ticker] = _Smoothed(view, raw)
        average.bid_size, average.ask_size, average.seq = bid.size, ask.size, view.seq
        dt = at - average.at
        if dt > 0:
            average.at = at
            average.value = raw + (average.value - raw) * exp(dt * self._rate)

    def read(self, ticker: str) -> Score | None:
        """Return a market's imbalance."""
        if (average := self._ready(ticker)) is None:
            return None
        bid_size, ask_size = average.bid_size, average.ask_size
        inputs = {
            "bid_size": bid_size, "ask_size": ask_size,
            "raw": (bid_size - ask_size) / (bid_size + ask_size), "smoothed": average.value,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, average.seq, average.first)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's imbalance."""
        average = self._ready(ticker)
        return None if average is None else self.value({"smoothed": average.value})

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the smoothed imbalance, moved from -1 … 1 to the scale."""
        return _centred(inputs["smoothed"])

    def _ready(self, ticker: str) -> _Smoothed | None:
        average = self._markets.get(ticker)
        if average is None or average.seq == _ABSENT or average.at - average.since < 5 * _SECOND:
            return None
        return average


class _Smoothed:
    __slots__ = ("ask_size", "at", "bid_size", "first", "seq", "since", "value")

    def __init__(self, view: MarketView, value: float) -> None:
        self.at = self.since = view.at
        self.seq, self.first = view.seq, _first(view)
        self.value = value
        self.bid_size = self.ask_size = 0.0


# === Liquidity ===


class Liquidity:
    """How cheaply one could trade now against what is usual for this market, and at all.

    resting_usd = (bid_total + ask_total) · mid price, the whole known book in USDC
    per_bp      = resting_usd / spread_bps (a spread below 0.01 bps counts as 0.01)
    now         = geometric average of per_bp + 1, half-life 5 s
    usual       = the day's median of now
    cost_N_bps  = what trading N USDC at once costs against the mid price, by walking the book, the
                  mean of both sides; what the book cannot fill costs 1,000 bps
    value       = 100 · now / (now + usual) / (1 + (cost_10k_bps / 40)⁴):
                  50 as always, 33 half as liquid; where 10,000 USDC cost 40 bps, half of that

    Warm-up: 5 s; `day_h` is how many hours of the day are known. Absent while the book is unknown
    or one-sided; of a modelled one the input `modelled` is 1. What cannot be traded is thin however
    usual that is: below 20 bps the cost takes nothing, beyond 85 it leaves nothing, and that is in
    USDC at any scale of price and size.
    """

    name: ClassVar[str] = "liquidity"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = False
    free: ClassVar[frozenset[str]] = frozenset(["time"])

    def __init__(self, now: float = 5.0) -> None:
        self._now = -_NS / _tau(now)
        self._markets: dict[str, _Depth] = {}
        self.days: dict[str, Day] = {}

    def update(self, view: MarketView) -> None:
        """Fold the book of a view, once a second."""
        depth = self._markets.get(view.ticker)
        book, at = view.book, view.at
        mid, bid, ask = book.mid_price, book.best_bid, book.best_ask
        if mid is None or bid is None or ask is None:
            _let_go(depth)
            return
        if depth is not None and at < depth.due:
            depth.seq = view.seq
            return
        spread_bps = 1e4 * (ask.price - bid.price) / mid
        resting_usd = (book.bid_total + book.ask_total) * mid
        if not 0.0 < resting_usd < _HUGE:
            _let_go(depth)
            return
        # The log of one more than the figure: a book of a few cents must not reach far below 0.
        level = log1p(resting_usd / max(spread_bps, 0.01))
        if depth is None:
            day = self.days.setdefault(view.ticker, Day())
            depth = self._markets[view.ticker] = _Depth(view, level, day)
        dt = at - depth.at
        depth.at, depth.due, depth.seq = at, at + _SECOND, view.seq
        depth.book = book
        depth.spread_bps, depth.resting_usd = spread_bps, resting_usd
        depth.now = level + (depth.now - level) * exp(dt * self._now)
        depth.day.add(exp(depth.now), at, dt // _SECOND)

    def read(self, ticker: str) -> Score | None:
        """Return a market's liquidity level."""
        if (depth := self._ready(ticker)) is None or (mid := depth.book.mid_price) is None:
            return None
        # The book is walked for whoever reads it: once a second in 60 markets costs 4 % of a run.
        below, above = _costs(depth.book.bids(), mid), _costs(depth.book.asks(), mid)
        small, middle, large = [(bid + ask) / 2.0 for bid, ask in zip(below, above, strict=True)]
        now, day = exp(depth.now), depth.day
        inputs = {
            "spread_bps": depth.spread_bps, "resting_usd": depth.resting_usd,
            "now_usd_per_bp": now, "usual_usd_per_bp": day.median, "cost_1k_bps": small,
            "cost_10k_bps": middle, "cost_100k_bps": large, "day_rank": day.rank(now),
            "day_h": day.hours,
        }  # fmt: skip
        if depth.book.modelled:
            inputs["modelled"] = 1.0
        return Score.of(self, ticker, inputs, depth.seq, depth.first)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's liquidity level: the book is walked half as far."""
        if (depth := self._ready(ticker)) is None or (mid := depth.book.mid_price) is None:
            return None
        cost = (_cost_10k(depth.book.bids, mid) + _cost_10k(depth.book.asks, mid)) / 2.0
        now, usual = exp(depth.now), depth.day.median
        return self.value({"now_usd_per_bp": now, "usual_usd_per_bp": usual, "cost_10k_bps": cost})

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of the liquidity now in now and usual, as far as one can trade."""
        thin = (inputs["cost_10k_bps"] / 40.0) ** 4
        return _share(inputs["now_usd_per_bp"], inputs["usual_usd_per_bp"]) / (1.0 + thin)

    def _ready(self, ticker: str) -> _Depth | None:
        depth = self._markets.get(ticker)
        if depth is None or depth.seq == _ABSENT or depth.at - depth.since < 5 * _SECOND:
            return None
        return depth


class _Depth:
    __slots__ = (
        "at", "book", "day", "due", "first", "now", "resting_usd", "seq", "since", "spread_bps",
    )  # fmt: skip

    def __init__(self, view: MarketView, level: float, day: Day) -> None:
        self.at = self.since = self.due = view.at
        self.seq = view.seq
        self.first = _first(view, day)
        self.now = level
        self.spread_bps = self.resting_usd = 0.0
        self.book, self.day = view.book, day


_NOTIONALS: Final = (1e3, 1e4, 1e5)
_BEYOND_BPS: Final = 1_000.0


def _costs(levels: Iterable[dydx_data.Level], mid: float) -> list[float]:
    """Return what each notional costs on one side, in bps of the mid, by USDC."""
    costs: list[float] = []
    wanted, spent, paid = _NOTIONALS[0], 0.0, 0.0
    for level in levels:
        price = level.price
        usd, away_bps = price * level.size, abs(1e4 * (price / mid - 1.0))
        then = spent + usd
        while then >= wanted:
            costs.append((paid + (wanted - spent) * away_bps) / wanted)
            if len(costs) == len(_NOTIONALS):
                return costs
            wanted = _NOTIONALS[len(costs)]
        spent, paid = then, paid + usd * away_bps
    rest = _NOTIONALS[len(costs) :]
    return costs + [(paid + (wanted - spent) * _BEYOND_BPS) / wanted for wanted in rest]


def _cost_10k(side: Callable[[int | None], list[dydx_data.Level]], mid: float) -> float:
    """Return the second of `_costs`, to the last digit: as a rule of the first few levels."""
    for count in (_FEW, None):
        levels, spent, paid = side(count), 0.0, 0.0
        for level in levels:
            price = level.price
            usd, away_bps = price * level.size, abs(1e4 * (price / mid - 1.0))
            then = spent + usd
            if then >= _TEN_THOUSAND:
                return (paid + (_TEN_THOUSAND - spent) * away_bps) / _TEN_THOUSAND
            spent, paid = then, paid + usd * away_bps
        if len(levels) < _FEW:
            break
    return (paid + (_TEN_THOUSAND - spent) * _BEYOND_BPS) / _TEN_THOUSAND


_FEW: Final = 8
_TEN_THOUSAND: Final = 1e4  # as `_NOTIONALS` has it: compiled, none of it can be read here


# === Funding ===


class Funding:
    """What holding costs: a positive rate is paid by longs, so it scores below 50.

    rate_1h_bps = the next hourly funding rate, in bps of the position
    value       = 100 / (1 + e^(rate_1h_bps / 0.25)): 50 free, 27 longs pay 0.25 bps an hour

    0.25 bps an hour is 22 % a year; on the venue 19 of 20 rates are within half of that.
    No warm-up: the rate is the venue's own forecast. Absent until the venue has named one.
    """

    name: ClassVar[str] = "funding"
    # The venue sends rates among other changes of a market.
    changes: ClassVar[frozenset[str]] = frozenset(["funding", "market", "oracle", "status"])
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, scale_bps: float = 0.25) -> None:
        if not 0.0 < scale_bps < _HUGE:
            raise SignalError(f"expected a scale above 0 bps, got {scale_bps!r}")
        self._scale = scale_bps
        self._markets: dict[str, dydx_data.FundingRate] = {}

    def update(self, view: MarketView) -> None:
        """Fold the rate of a view."""
        self._markets[view.ticker] = view.funding

    def read(self, ticker: str) -> Score | None:
        """Return a market's funding score."""
        if (inputs := self._inputs(ticker)) is None:
            return None
        rate = self._markets[ticker]
        return Score.of(self, ticker, inputs, rate.seq, rate.seq)

    def value_of(self, ticker: str) -> float | None:
        """Return the value alone of a market's funding score."""
        inputs = self._inputs(ticker)
        return None if inputs is None else self.value(inputs)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the rate in units of the scale, turned round."""
        return _logistic(-inputs["rate_1h_bps"] / inputs["scale_bps"])

    def _inputs(self, ticker: str) -> dict[str, float] | None:
        rate = self._markets.get(ticker)
        if rate is None or not rate.known:
            return None
        rate_bps = 1e4 * rate.next_rate_1h
        if not -_HUGE < rate_bps < _HUGE:
            return None
        return {"rate_1h_bps": rate_bps, "scale_bps": self._scale}


# === Microprice ===


class Microprice:
    """Where the best sizes say the price goes next, measured in what it moves by chance.

    micro     = (bid · ask_size + ask · bid_size) / (bid_size + ask_size)
    edge_bps  = average of 1e4 · ln(micro / mid), half-life 2 s
    sigma_bps = standard deviation of the mid's log returns over 10 s, in bps; v as in `Momentum`
    value     = 100 / (1 + e^(-edge / sigma)): 50 where both sizes are equal, 73 where the edge is
                as large as a usual move of 10 s

    Window: half-life 120 s (the variance). Warm-up: 5 returns, each of at least a second. Absent
    while the book is unknown, one-sided or modelled.
    """

    name: ClassVar[str] = "microprice"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float = 2.0, variance: float = 120.0) -> None:
        self._rate, self._variance = -_NS / _tau(half_life), _tau(variance)
        self._markets: dict[str, _Edge] = {}

    def update(self, view: MarketView) -> None:
        """Fold the best levels of a view."""
        book, edge = view.book, self._markets.get(view.ticker)
        bid, ask, at = book.best_bid, book.best_ask, view.at
        mid = None if book.modelled else book.mid_price
        if bid is None or ask is None or mid is None or not mid * (bid.size + ask.size) < _HUGE:
            _let_go(edge)
            return
        micro = (bid.price * ask.size + ask.price * bid.size) / (bid.size + ask.size)
        edge_bps = 1e4 * log(micro / mid)
        if edge is None:
            edge = self._markets[view.ticker] = _Edge(view, edge_bps, _Variance(self._variance))
        edge.micro, edge.mid, edge.seq = micro, mid, view.seq
        dt = at - edge.at
        if dt > 0:
            edge.at = at
            edge.value = edge_bps + (edge.value - edge_bps) * exp(dt * self._rate)
        if at >= edge.variance.due:
            edge.variance.sample(mid, at)

    def read(self, ticker: str) -> Score | None:
        """Return a market's microprice score."""
        edge = self._markets.get(ticker)
        if edge is None or edge.seq == _ABSENT or edge.variance.count < 5:
            return None
        inputs = {
            "micro": edge.micro, "mid": edge.mid, "edge_bps": edge.value,
            "sigma_bps": 1e4 * sqrt(10.0 * edge.variance.value),
        }  # fmt: skip
        return Score.of(self, ticker, inputs, edge.seq, edge.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the edge in standard deviations."""
        return _logistic(inputs["edge_bps"] / inputs["sigma_bps"])


class _Edge:
    __slots__ = ("at", "first", "micro", "mid", "seq", "value", "variance")

    def __init__(self, view: MarketView, value: float, variance: _Variance) -> None:
        self.at = view.at
        self.seq, self.first = view.seq, _first(view)
        self.value, self.variance = value, variance
        self.micro = self.mid = 0.0


# === Taker flow ===


class TakerFlow:
    """Who takes, of what was traded in a window of time: a class for each window.

    buys_usd, sells_usd = what takers bought and sold in the window, in USDC
    value = 50 + 50 · (buys - sells) / (buys + sells) · n / (n + 1), n the trades: 50 where both
            took as much; a few trades say less than many

    The window moves in twentieths of itself. Warm-up: 3 trades in it; absent with fewer. A
    snapshot's history does not count (as in `Volume`).
    """

    name: ClassVar[str]
    seconds: ClassVar[int]
    changes: ClassVar[frozenset[str]] = _TRADES
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self) -> None:
        self._markets = defaultdict[str, _Taken](partial(_Taken, self.seconds * _SECOND))

    def update(self, view: MarketView) -> None:
        """Fold the trades of a view, or that time has gone by."""
        self._markets[view.ticker].take(view)

    def read(self, ticker: str) -> Score | None:
        """Return a market's taker flow."""
        taken = self._markets.get(ticker)
        if taken is None or (sums := taken.sums()) is None:
            return None
        buys, sells, _, _, count, first = sums
        inputs = {"buys_usd": buys, "sells_usd": sells, "trades": float(count)}
        return Score.of(self, ticker, inputs, taken.seq, first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the balance of takers, the less the fewer the trades."""
        buys, sells, count = inputs["buys_usd"], inputs["sells_usd"], inputs["trades"]
        return _centred((buys - sells) / (buys + sells) * count / (count + 1.0))


class TakerFlow10s(TakerFlow):
    """Taker flow of 10 seconds."""

    name: ClassVar[str] = "taker_flow_10s"
    seconds: ClassVar[int] = 10


class TakerFlow1min(TakerFlow):
    """Taker flow of a minute."""

    name: ClassVar[str] = "taker_flow_1min"
    seconds: ClassVar[int] = 60


class TakerFlow5min(TakerFlow):
    """Taker flow of five minutes."""

    name: ClassVar[str] = "taker_flow_5min"
    seconds: ClassVar[int] = 300


class _Row:
    __slots__ = ("buys", "first", "forced_buys", "forced_sells", "number", "sells", "trades")

    def __init__(self, number: int, first: int) -> None:
        self.number, self.first = number, first
        self.buys = self.sells = self.forced_buys = self.forced_sells = 0.0
        self.trades = 0


class _Taken:
    """What takers took in a window: twenty rows at most, each of a twentieth of it."""

    __slots__ = ("at", "rows", "seq", "width")

    def __init__(self, window_ns: int) -> None:
        self.at = self.seq = 0
        self.width = window_ns // 20
        self.rows: deque[_Row] = deque()

    def take(self, view: MarketView) -> None:
        self.at, self.seq = max(view.at, self.at), view.seq
        if view.changed != "trades":
            return
        rows, number = self.rows, self.at // self.width
        for trade in _current(view.fresh):
            if not rows or rows[-1].number != number:
                rows.append(_Row(number, view.seq))
            row, usd = rows[-1], trade.price * trade.size
            forced = usd if trade.type in _FORCED else 0.0
            row.trades += 1
            if trade.side == "BUY":
                row.buys, row.forced_buys = row.buys + usd, row.forced_buys + forced
            else:
                row.sells, row.forced_sells = row.sells + usd, row.forced_sells + forced
        while rows and rows[0].number <= number - 20:
            rows.popleft()

    def sums(self) -> tuple[float, float, float, float, int, int] | None:
        """Sum what stands in the window; None with fewer than three trades."""
        last = self.at // self.width - 20
        rows = [row for row in self.rows if row.number > last]
        count = sum(row.trades for row in rows)  # integers
        if count < 3:
            return None
        buys, sells = math.fsum(row.buys for row in rows), math.fsum(row.sells for row in rows)
        forced_buys = math.fsum(row.forced_buys for row in rows)
        forced_sells = math.fsum(row.forced_sells for row in rows)
        return buys, sells, forced_buys, forced_sells, count, rows[0].first


_FORCED: Final = frozenset(["LIQUIDATED", "DELEVERAGED"])


# === Depth ===


class BookDepth:
    """Which side of the book is heavier near the price, level by level.

    bid_depth, ask_depth = sum of the sizes of the 20 best levels, each weighted by
                           e^(-d / 10), d its distance from the mid price in bps
    value = 50 + 50 · (bid_depth - ask_depth) / (bid_depth + ask_depth): 50 where both weigh the
            same

    No average and no warm-up: it is the book as it stands. Absent while that is unknown, one-sided
    or modelled.
    """

    name: ClassVar[str] = "depth"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, distance_bps: float = 10.0) -> None:
        if not 0.0 < distance_bps < _HUGE:
            raise SignalError(f"expected a distance above 0 bps, got {distance_bps!r}")
        self._distance = distance_bps
        self._markets: dict[str, _Standing] = {}

    def update(self, view: MarketView) -> None:
        """Take note of where the book of a view is, and since when it stands."""
        standing = self._markets.get(view.ticker)
        if standing is None:
            standing = self._markets[view.ticker] = _Standing(view)
        standing.seq = view.seq
        if not view.book.known or view.book.modelled:
            standing.first = _ABSENT
        elif standing.first == _ABSENT:
            standing.first = view.book.first

    def read(self, ticker: str) -> Score | None:
        """Return a market's depth imbalance, of the book as it stands."""
        standing = self._markets.get(ticker)
        if standing is None or standing.first == _ABSENT:
            return None
        book, mid = standing.book, standing.book.mid_price
        if mid is None:
            return None
        bids, asks = self._weigh(book.bids(20), mid), self._weigh(book.asks(20), mid)
        if not 0.0 < bids + asks < _HUGE:
            return None
        inputs = {"bid_depth": bids, "ask_depth": asks}
        return Score.of(self, ticker, inputs, standing.seq, standing.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the balance of both sides."""
        bids, asks = inputs["bid_depth"], inputs["ask_depth"]
        return _centred((bids - asks) / (bids + asks))

    def _weigh(self, levels: Iterable[dydx_data.Level], mid: float) -> float:
        scale = -1e4 / self._distance
        return math.fsum(x.size * exp(scale * abs(x.price / mid - 1.0)) for x in levels)


class _Standing:
    __slots__ = ("book", "first", "seq")

    def __init__(self, view: MarketView) -> None:
        self.seq, self.first, self.book = view.seq, _ABSENT, view.book


# === Trend ===


class Trend:
    """Whether the price goes the same way over minutes as over seconds.

    averages  = of the mid price, half-lives 15, 60, 240 and 960 s
    z_i       = ln(faster / slower) of each neighbouring pair, in standard deviations of a random
                walk (as in `Momentum`)
    agreement = |sum of z| / sum of |z|: 1 where all point the same way, 0 where they cancel out
    value     = 100 / (1 + e^(-mean(z) · agreement)): 50 no trend, or horizons that disagree

    Window: half-life 960 s. Warm-up: 60 s and 5 returns. Absent while the book is unknown or
    one-sided.
    """

    name: ClassVar[str] = "trend"
    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self) -> None:
        self._taus = tuple(map(_tau, (15.0, 60.0, 240.0, 960.0)))
        self._rates = tuple(-_NS / tau for tau in self._taus)
        self._markets: dict[str, _Horizons] = {}

    def update(self, view: MarketView) -> None:
        """Fold the mid price of a view."""
        mid, at = view.book.mid_price, view.at
        horizons = self._markets.get(view.ticker)
        if mid is None or mid >= _HUGE:
            _let_go(horizons)
            return
        if horizons is None:
            horizons = self._markets[view.ticker] = _Horizons(view, mid, len(self._taus))
        horizons.seq = view.seq
        dt = at - horizons.at
        if dt > 0:
            horizons.at = at
            values, ages = horizons.values, horizons.ages
            for index, rate in enumerate(self._rates):
                decay = exp(dt * rate)
                values[index] = mid + (values[index] - mid) * decay
                ages[index] *= decay
        if at >= horizons.variance.due:
            horizons.variance.sample(mid, at)

    def read(self, ticker: str) -> Score | None:
        """Return a market's trend."""
        known = self._markets.get(ticker)
        if known is None or known.seq == _ABSENT or known.variance.count < 5:
            return None
        if known.at - known.since < 60 * _SECOND:
            return None
        rows = list(zip(self._taus, known.ages, known.values, strict=True))
        inputs = {}
        pairs = zip(("z_15_60", "z_60_240", "z_240_960"), rows[:-1], rows[1:], strict=True)
        for name, (fast_tau, fast_age, fast), (slow_tau, slow_age, slow) in pairs:
            sigma = _chance(known.variance.value, fast_tau, slow_tau, fast_age, slow_age)
            inputs[name] = log(fast / slow) / sigma
        return Score.of(self, ticker, inputs, known.seq, known.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the mean of the horizons, as far as they agree."""
        values = inputs["z_15_60"], inputs["z_60_240"], inputs["z_240_960"]
        total, size = math.fsum(values), math.fsum(map(abs, values))
        return _logistic(total / 3.0 * abs(total) / size) if size else 50.0


class _Horizons:
    __slots__ = ("ages", "at", "first", "seq", "since", "values", "variance")

    def __init__(self, view: MarketView, mid: float, count: int) -> None:
        self.at = self.since = view.at
        self.seq, self.first = view.seq, _first(view)
        self.values, self.ages = [mid] * count, [1.0] * count
        self.variance = _Variance(_tau(300.0))


# === Reversion ===


class Reversion:
    """How far the price stands from what was paid, and how soon it has come back so far.

    vwap         = average price of what was traded, by USDC, half-life 300 s
    deviation    = ln(mid / vwap), each second; sigma its root mean square, half-life 300 s
    half_life_s  = ln 2 · dt / -ln(phi), phi the regression of each deviation on the one before, dt
                   the time between; 1 s to an hour
    value        = 100 / (1 + e^(deviation / sigma / (1 + half_life_s / 60))): below the average of
                   what was paid it is above 50, the more the sooner it used to come back; 50 at it

    Warm-up: 60 s, 3 trades and 20 deviations. Absent while the book is unknown or one-sided.
    """

    name: ClassVar[str] = "reversion"
    changes: ClassVar[frozenset[str]] = frozenset(["book", "trades", "stale"])
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float = 300.0) -> None:
        self._rate = -_NS / _tau(half_life)
        self._markets: dict[str, _Deviation] = {}

    def update(self, view: MarketView) -> None:
        """Fold the trades and the mid price of a view."""
        state = self._markets.get(view.ticker)
        if state is None:
            state = self._markets[view.ticker] = _Deviation(view)
        at, mid = view.at, view.book.mid_price
        if view.changed == "trades":
            decay = exp(max(at - state.traded_at, 0) * self._rate)
            state.usd, state.size, state.traded_at = state.usd * decay, state.size * decay, at
            for trade in _current(view.fresh):
                state.usd, state.size = (
                    state.usd + trade.price * trade.size,
                    state.size + trade.size,
                )
                state.trades += 1
        if mid is None or mid >= _HUGE:
            state.seq = _ABSENT
            return
        state.seq, state.mid = view.seq, mid
        if at >= state.due and state.trades >= 3 and state.size > 0.0:
            state.sample(mid, at, self._rate)

    def read(self, ticker: str) -> Score | None:
        """Return a market's reversion."""
        state = self._markets.get(ticker)
        if state is None or state.seq == _ABSENT or state.count < 20 or not state.size > 0.0:
            return None
        if state.at - state.since < 60 * _SECOND:
            return None
        inputs = {
            "mid": state.mid, "vwap": state.usd / state.size,
            "sigma_bps": max(1e4 * sqrt(state.squares / state.steps), 0.05),
            "half_life_s": state.half_life,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, state.seq, state.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the deviation, turned round, the less the slower it comes back."""
        z = 1e4 * log(inputs["mid"] / inputs["vwap"]) / inputs["sigma_bps"]
        return _logistic(-z / (1.0 + inputs["half_life_s"] / 60.0))


class _Deviation:
    __slots__ = (
        "at", "count", "due", "first", "last", "mid", "products", "seq", "since", "size", "squares",
        "steps", "time", "traded_at", "trades", "usd"
    )  # fmt: skip

    def __init__(self, view: MarketView) -> None:
        self.at = self.since = self.traded_at = view.at
        self.seq, self.first = view.seq, _first(view)
        self.due = self.count = self.trades = 0
        self.usd = self.size = self.mid = self.last = 0.0
        self.squares = self.products = self.steps = self.time = 0.0

    def sample(self, mid: float, at: int, rate: float) -> None:
        deviation = log(mid * self.size / self.usd)
        if self.count:
            dt = at - self.at
            decay = exp(max(dt, 0) * rate)
            self.products = self.products * decay + deviation * self.last
            self.squares = self.squares * decay + deviation * deviation
            self.steps = self.steps * decay + 1.0
            self.time = self.time * decay + dt * _NS
        self.last = deviation
        self.at, self.due, self.count = at, at + _SECOND, self.count + 1

    @property
    def half_life(self) -> float:
        phi = self.products / self.squares if self.squares else 0.0
        if phi <= 0.0:
            return 1.0
        if phi >= 1.0:
            return 3_600.0
        return min(max(_LN2 * self.time / self.steps / -log(phi), 1.0), 3_600.0)


# === Basis ===


class Basis:
    """How far the market stands from the oracle price: what is dear scores below 50.

    basis_bps = average of 1e4 · ln(mid / oracle), half-life 10 s
    value     = 100 / (1 + e^(basis_bps / 5)): 50 at the oracle price, 27 at 5 bps above it

    Window: half-life 10 s. Warm-up: 5 s. Absent without a book of two sides or an oracle price, and
    while that may be missing an update.
    """

    name: ClassVar[str] = "basis"
    changes: ClassVar[frozenset[str]] = _PRICE
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, scale_bps: float = 5.0, half_life: float = 10.0) -> None:
        if not 0.0 < scale_bps < _HUGE:
            raise SignalError(f"expected a scale above 0 bps, got {scale_bps!r}")
        self._scale, self._rate = scale_bps, -_NS / _tau(half_life)
        self._markets: dict[str, _Gap] = {}

    def update(self, view: MarketView) -> None:
        """Fold the mid and the oracle price of a view."""
        gap, mid, oracle, at = (
            self._markets.get(view.ticker),
            view.book.mid_price,
            view.oracle,
            view.at,
        )
        if mid is None or mid >= _HUGE or oracle is None or view.price_missed:
            _let_go(gap)
            return
        basis_bps = 1e4 * log(mid / oracle.price)
        if gap is None:
            gap = self._markets[view.ticker] = _Gap(view, oracle, basis_bps)
        gap.mid, gap.oracle, gap.seq = mid, oracle.price, view.seq
        dt = at - gap.at
        if dt > 0:
            gap.at = at
            gap.value = basis_bps + (gap.value - basis_bps) * exp(dt * self._rate)

    def read(self, ticker: str) -> Score | None:
        """Return a market's basis score."""
        gap = self._markets.get(ticker)
        if gap is None or gap.seq == _ABSENT or gap.at - gap.since < 5 * _SECOND:
            return None
        inputs = {
            "mid": gap.mid, "oracle": gap.oracle, "basis_bps": gap.value, "scale_bps": self._scale
        }  # fmt: skip
        return Score.of(self, ticker, inputs, gap.seq, gap.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the basis in units of the scale, turned round."""
        return _logistic(-inputs["basis_bps"] / inputs["scale_bps"])


class _Gap:
    __slots__ = ("at", "first", "mid", "oracle", "seq", "since", "value")

    def __init__(self, view: MarketView, oracle: dydx_data.Oracle, value: float) -> None:
        self.at = self.since = view.at
        self.seq, self.first = view.seq, _first(view)
        self.value, self.mid, self.oracle = value, 0.0, oracle.price


# === Carry ===


class Carry:
    """What holding earns, in what the rate has been of late: a rate that longs pay is below 50.

    rate_1h_bps = the venue's next hourly rate, in bps of the position
    usual_bps   = root mean square of the hourly rates that the venue answered, 24 to 240 of them;
                  without these of the rates of this run, by the time they stood, half-life a day;
                  at least 0.01 bps
    value       = 100 / (1 + e^(rate / usual)): 50 free, 27 where longs pay as much as is usual

    `history_h` are the answered hours. Warm-up: those, or 3 rates. Absent until then, and where no
    rate is known.
    """

    name: ClassVar[str] = "carry"
    changes: ClassVar[frozenset[str]] = frozenset(["funding", "market", "oracle", "status"])
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float = 86_400.0) -> None:
        self._rate = -_NS / _tau(half_life)
        self._markets: dict[str, _Rates] = {}

    def update(self, view: MarketView) -> None:
        """Fold the rate of a view."""
        rate, rates = view.funding, self._markets.get(view.ticker)
        if rates is not None and rates.rate is rate:
            return
        if not rate.known or not abs(rate.next_rate_1h) < _HUGE:
            return
        if rates is None:
            rates = self._markets[view.ticker] = _Rates(rate, view)
        else:
            rates.take(rate, view.at, self._rate)
        rates.seq = view.seq

    def read(self, ticker: str) -> Score | None:
        """Return a market's carry."""
        rates = self._markets.get(ticker)
        if rates is None:
            return None
        history = [rate for rate in rates.premium.rates.values() if abs(rate) < _HUGE]
        if len(history) >= 24:
            # Which frame answered is not known: the oldest that it may be.
            square, first = math.fsum(x * x for x in history) / len(history), 1
        elif rates.count >= 3 and rates.time:
            square, first = rates.squares / rates.time, rates.first
        else:
            return None
        inputs = {
            "rate_1h_bps": 1e4 * rates.rate.next_rate_1h,
            "usual_bps": max(1e4 * sqrt(square), 0.01),
            "history_h": float(len(history)),
        }
        return Score.of(self, ticker, inputs, rates.seq, first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the rate in what is usual, turned round."""
        return _logistic(-inputs["rate_1h_bps"] / inputs["usual_bps"])


class _Rates:
    __slots__ = ("at", "count", "first", "premium", "rate", "seq", "squares", "time")

    def __init__(self, rate: dydx_data.FundingRate, view: MarketView) -> None:
        self.rate, self.at, self.count = rate, view.at, 1
        self.premium = view.premium
        self.seq = self.first = rate.seq
        self.squares = self.time = 0.0

    def take(self, rate: dydx_data.FundingRate, at: int, decay_rate: float) -> None:
        stood = max(at - self.at, 0)
        decay = exp(stood * decay_rate)
        self.squares = self.squares * decay + self.rate.next_rate_1h**2 * stood * _NS
        self.time = self.time * decay + stood * _NS
        self.rate, self.at, self.count = rate, at, self.count + 1


# === Interest ===


class Interest:
    """Whether new positions back the way the price goes: open interest and price together.

    growth_bps = 1e4 · ln(open interest / its average, half-life 300 s)
    z          = ln(mid / its average, half-life 300 s) in standard deviations of a random walk
    value      = 100 / (1 + e^(-growth_bps / 10 · tanh(z))): above 50 where open interest grows as
                 the price rises, or shrinks as it falls; 50 where one of them stands still

    Window: half-life 300 s. Warm-up: 60 s and 5 returns. Absent without an open interest, and while
    the book is unknown or one-sided.
    """

    name: ClassVar[str] = "interest"
    changes: ClassVar[frozenset[str]] = frozenset(["book", "funding", "market", "status", "stale"])
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float = 300.0) -> None:
        self._tau = _tau(half_life)
        self._markets: dict[str, _Backing] = {}

    def update(self, view: MarketView) -> None:
        """Fold the open interest and the mid price of a view."""
        backing, mid, at = self._markets.get(view.ticker), view.book.mid_price, view.at
        interest = float(view.open_interest or 0)
        if mid is None or mid >= _HUGE or not interest > 0.0:
            _let_go(backing)
            return
        if backing is None:
            backing = self._markets[view.ticker] = _Backing(view, mid, interest, self._tau)
        backing.mid, backing.interest, backing.seq = mid, interest, view.seq
        dt = at - backing.at
        if dt > 0:
            backing.at = at
            decay = exp(-dt * _NS / self._tau)
            backing.usual = interest + (backing.usual - interest) * decay
            backing.price = mid + (backing.price - mid) * decay
            backing.age *= decay
        if at >= backing.variance.due:
            backing.variance.sample(mid, at)

    def read(self, ticker: str) -> Score | None:
        """Return a market's open-interest score."""
        backing = self._markets.get(ticker)
        if backing is None or backing.seq == _ABSENT or backing.variance.count < 5:
            return None
        if backing.at - backing.since < 60 * _SECOND:
            return None
        chance = sqrt(backing.variance.value * self._tau / 2.0 * (1.0 - backing.age * backing.age))
        inputs = {
            "open_interest": backing.interest, "usual_interest": backing.usual,
            "mid": backing.mid, "average": backing.price, "sigma_bps": 1e4 * chance,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, backing.seq, backing.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of growth times the way of the price."""
        growth_bps = 1e4 * log(inputs["open_interest"] / inputs["usual_interest"])
        z = 1e4 * log(inputs["mid"] / inputs["average"]) / inputs["sigma_bps"]
        return _logistic(growth_bps / 10.0 * math.tanh(z))


class _Backing:
    __slots__ = (
        "age", "at", "first", "interest", "mid", "price", "seq", "since", "usual", "variance",
    )  # fmt: skip

    def __init__(self, view: MarketView, mid: float, interest: float, tau: float) -> None:
        self.at = self.since = view.at
        self.seq = view.seq
        # Which frame reported the open interest is not known: the oldest that it may be.
        self.first = 1
        self.mid = self.price = mid
        self.interest = self.usual = interest
        self.age, self.variance = 1.0, _Variance(tau)


# === Liquidations ===


class Liquidations:
    """Who is forced out, of what was traded in the last five minutes.

    forced_buys_usd, forced_sells_usd = what was traded by liquidation or deleveraging, in USDC, by
                                        the taker's side
    value = 50 + 50 · (forced_buys - forced_sells) / all: above 50 shorts are forced to buy, below
            50 longs to sell; 50 where nobody is

    The window moves in steps of 15 s. Warm-up: 3 trades in it; absent with fewer.
    """

    name: ClassVar[str] = "liquidations"
    changes: ClassVar[frozenset[str]] = _TRADES
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self) -> None:
        self._markets = defaultdict[str, _Taken](partial(_Taken, 300 * _SECOND))

    def update(self, view: MarketView) -> None:
        """Fold the trades of a view, or that time has gone by."""
        self._markets[view.ticker].take(view)

    def read(self, ticker: str) -> Score | None:
        """Return who is forced in a market."""
        taken = self._markets.get(ticker)
        if taken is None or (sums := taken.sums()) is None:
            return None
        buys, sells, forced_buys, forced_sells, _, first = sums
        inputs = {
            "forced_buys_usd": forced_buys, "forced_sells_usd": forced_sells,
            "traded_usd": buys + sells,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, taken.seq, first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the balance of what was forced, as a share of all."""
        forced = inputs["forced_buys_usd"] - inputs["forced_sells_usd"]
        return _centred(forced / inputs["traded_usd"])


# === Returns ===
# Jumps and strength: the mid price's steps of at least a second, looked at one by one.


class _OfSteps:
    """What is made of the mid price's steps of at least a second, weighted by age."""

    changes: ClassVar[frozenset[str]] = _BOOK
    points: ClassVar[bool] = True
    free: ClassVar[frozenset[str]] = _FREE

    def __init__(self, half_life: float) -> None:
        self._rate = -_NS / _tau(half_life)
        self._markets: dict[str, _Steps] = {}

    def update(self, view: MarketView) -> None:
        """Fold the mid price of a view."""
        steps = self._markets.get(view.ticker)
        if steps is None:
            steps = self._markets[view.ticker] = _Steps(view)
        steps.take(view, self._rate)


class Jumps(_OfSteps):
    """Whether the price jumps instead of walking, and which way.

    r           = log returns over at least 1 s, over the root of their time
    jump_share  = 1 - (pi / 2 · sum of |r| · |r before|) / sum of r², at least 0 (bipower variation:
                  what of the variance is not a walk's), half-life 120 s
    signed      = sum of sign(r) · r² / sum of r²
    value       = 50 + 50 · jump_share · signed: 50 where it walks or does not move, or jumps both
                  ways

    Window: half-life 120 s. Warm-up: 30 returns. Absent while the book is unknown or one-sided.
    """

    name: ClassVar[str] = "jumps"

    def __init__(self, half_life: float = 120.0) -> None:
        super().__init__(half_life)

    def read(self, ticker: str) -> Score | None:
        """Return a market's jumps."""
        steps = self._markets.get(ticker)
        if steps is None or steps.seq == _ABSENT or steps.count < 30:
            return None
        squares = steps.ups_squared + steps.downs_squared
        walk = min(math.pi / 2.0 * steps.products / squares, 1.0) if squares else 1.0
        signed = (steps.ups_squared - steps.downs_squared) / squares if squares else 0.0
        inputs = {"jump_share": 1.0 - walk, "signed": signed, "returns": float(steps.count)}
        return Score.of(self, ticker, inputs, steps.seq, steps.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the jumps' share, by their sign."""
        return _centred(inputs["jump_share"] * inputs["signed"])


class Strength(_OfSteps):
    """How much of the way was up: the relative strength index, on event time.

    gains, losses = averages of log returns over at least 1 s, up and down, half-life 60 s
    value         = 100 · gains / (gains + losses): 50 as much up as down

    Window: half-life 60 s. Warm-up: 10 returns. Absent while the book is unknown or one-sided, and
    where the price has not moved.
    """

    name: ClassVar[str] = "strength"

    def __init__(self, half_life: float = 60.0) -> None:
        super().__init__(half_life)

    def read(self, ticker: str) -> Score | None:
        """Return a market's strength."""
        steps = self._markets.get(ticker)
        if steps is None or steps.seq == _ABSENT or steps.count < 10:
            return None
        if not steps.ups + steps.downs > 0.0:
            return None
        inputs = {"gains_bps": 1e4 * steps.ups, "losses_bps": 1e4 * steps.downs}
        return Score.of(self, ticker, inputs, steps.seq, steps.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the gains' share."""
        return _share(inputs["gains_bps"], inputs["losses_bps"])


class _Steps:
    """Sums over the mid price's steps of at least a second, weighted by age."""

    __slots__ = (
        "at", "before", "count", "downs", "downs_squared", "due", "first", "price", "products",
        "seq", "ups", "ups_squared",
    )  # fmt: skip

    def __init__(self, view: MarketView) -> None:
        self.seq, self.first = _ABSENT, _first(view)
        self.at = self.due = self.count = 0
        self.price = self.before = self.products = 0.0
        self.ups = self.downs = self.ups_squared = self.downs_squared = 0.0

    def take(self, view: MarketView, rate: float) -> None:
        mid, at = view.book.mid_price, view.at
        if mid is None or mid >= _HUGE:
            # A price after a loss is not a step from the one before it.
            self.seq, self.price = _ABSENT, 0.0
            return
        self.seq = view.seq
        if self.price and at < self.due:
            return
        if self.price:
            self._step(log(mid / self.price), at - self.at, rate)
        self.price, self.at, self.due = mid, at, at + _SECOND

    def _step(self, moved: float, dt: int, rate: float) -> None:
        decay, r = exp(dt * rate), moved / sqrt(dt * _NS)
        self.products = self.products * decay + abs(r) * self.before
        self.before, self.count = abs(r), self.count + 1
        self.ups = self.ups * decay + max(moved, 0.0)
        self.downs = self.downs * decay + max(-moved, 0.0)
        self.ups_squared = self.ups_squared * decay + (r * r if r > 0.0 else 0.0)
        self.downs_squared = self.downs_squared * decay + (r * r if r < 0.0 else 0.0)


# === Streams ===
# The engines together: `Scorer` gives each view to the engines that it can change.
STANDARD: Final[tuple[Callable[[], Engine], ...]] = (
    Momentum,
    Volume,
    Volatility,
    Imbalance,
    Liquidity,
    Funding,
)
ALL: Final[tuple[Callable[[], Engine], ...]] = (
    *STANDARD,
    Microprice,
    TakerFlow10s,
    TakerFlow1min,
    TakerFlow5min,
    BookDepth,
    Trend,
    Reversion,
    Basis,
    Carry,
    Interest,
    Liquidations,
    Jumps,
    Strength,
)

# Counts of trouble and a market's parameters emit no scores.
_SILENT: Final = frozenset(["quality", "market", "bar", "time"])


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What a run leaves: by level and market, the rows of its day (`Day.rows`)."""

    source: str
    levels: dict[str, dict[str, list[_Hours]]]


# An hour, then pairs of bucket and seconds, which is an array of 16 bits in a day.
_Hours = Annotated[list[Annotated[int, msgspec.Meta(ge=-30_000)]], msgspec.Meta(min_length=1)]


def _rows(state: _State) -> Iterator[list[int]]:
    return (row for days in state.levels.values() for rows in days.values() for row in rows)


def _is_hour(row: list[int]) -> bool:
    pairs = zip(row[1::2], row[2::2], strict=False)
    return len(row) % 2 == 1 and all(b <= _HIGHEST and 0 < s <= 3_660 for b, s in pairs)


class Scorer:
    """All engines over all markets: the state that `scores` folds views into.

    A score is made when it is first read after its market's newest view, and not again.
    """

    def __init__(self, engines: Iterable[Callable[[], Engine]] = STANDARD) -> None:
        made = [make() for make in engines]
        self.names = tuple(engine.name for engine in made)
        if len(set(self.names)) < len(made):
            raise SignalError(f"expected engines of different names, got {list(self.names)}")
        self.seq = 0
        self.views: dict[str, MarketView] = {}
        self._ticks: dict[str, tuple[int, int]] = {}
        self._engines = dict(zip(self.names, made, strict=True))
        self._updates: dict[str, list[Callable[[MarketView], None]]] = {}
        self._made: dict[str, dict[str, Score | None]] = {}
        # Of ours alone: one of a user's may inherit from them, and read otherwise.
        self._value_of: dict[str, Callable[[str], float | None]] = {
            engine.name: getattr(engine, "value_of")  # noqa: B009 - no engine needs to have it
            for engine in made
            if type(engine) in STANDARD
        }

    def step(self, view: MarketView) -> tuple[Scored, ...]:
        """Take one view; return its market, or nothing if no score could change."""
        scored, changed = self.note(view), view.changed
        updates = self._updates.get(changed)
        if updates is None:
            updates = self._updates[changed] = self._updating(changed)
        for update in updates:
            update(view)
        return scored

    def note(self, view: MarketView) -> tuple[Scored, ...]:
        """Take one view as `step` does, where somebody else lets the engines fold it.

        So do several scorers that read the same engines: each engine folds a view once.
        """
        ticker = view.ticker
        self.seq = seq = view.seq
        self._ticks[ticker] = seq, view.at
        made = self._made.get(ticker)
        if made is None:
            self._made[ticker], self.views[ticker] = {}, view
        elif made:
            made.clear()
        return () if view.changed in _SILENT else (Scored(ticker, seq, view.at, self),)

    def read(self, ticker: str, signal: str) -> Score | None:
        """Return one score of one market, as of its newest frame; None if it is absent."""
        made, engine = self._made.get(ticker), self._engines.get(signal)
        if made is None or engine is None:
            return None
        if signal not in made:
            score = engine.read(ticker)
            if score is not None:
                # Where nothing changed it since, the value stands for the newest tick as well.
                seq, at = self._ticks[ticker]
                score = Score(
                    score.ticker, score.signal, score.value, score.inputs, seq, score.first, at
                )
            made[signal] = score
        return made[signal]

    def values(self, ticker: str) -> dict[str, float]:
        """Return by signal the value of each score of a market that exists; no score is made.

        For whoever weighs all markets and says why of a few of them.
        """
        made, value_of = self._made.get(ticker, {}), self._value_of
        values: dict[str, float] = {}
        for name in self.names:
            find = value_of.get(name)
            if find is None or name in made:
                score = self.read(ticker, name)
                value = None if score is None else score.value
            else:
                value = find(ticker)
            if value is not None:
                values[name] = value
        return values

    def scores(self, ticker: str) -> tuple[Score, ...]:
        """Return the scores of one market that exist, at any time between two frames."""
        made = [self.read(ticker, name) for name in self.names]
        return tuple([score for score in made if score is not None])

    def state(self, source: str) -> str:
        """Return as text what a run leaves for the next: the day of each level in each market.

        `source` is the hash of the run that it is of.
        """
        return b"".join(self.state_parts(source)).decode()

    def state_parts(self, source: str) -> Iterator[bytes]:
        """Yield `state` in parts: a day each, as it stands when it is taken, between two views.

        A day of 250 markets takes a fifth of a second, and no frame waits so long.
        """
        yield b'{"source":%b,"levels":{' % msgspec.json.encode(source)
        for level, (name, days) in enumerate(self._days().items()):
            yield b"%b%b:{" % (b"," * bool(level), msgspec.json.encode(name))
            comma = b""
            for ticker, day in [*days.items()]:
                if day.seconds:
                    row = msgspec.json.encode(ticker), msgspec.json.encode(day.rows())
                    yield b"%b%b:%b" % (comma, *row)
                    comma = b","
            yield b"}"
        yield b"}}"

    def restore(self, frame: Frame) -> None:
        """Begin with what another run left; `SignalError` for a frame that holds no such thing.

        It comes before the first view: levels that have begun are not changed.
        """
        try:
            state = msgspec.json.decode(frame.text, type=_State)
            if odd := next((row for row in _rows(state) if not _is_hour(row)), None):
                raise ValueError(f"{str(odd)[:60]} for an hour and pairs of bucket and seconds")
        except (msgspec.MsgspecError, ValueError) as error:
            raise SignalError(f"expected the state of a run, got {error}") from error
        known = self._days()
        for name, days in state.levels.items():
            for ticker, rows in days.items():
                if name in known and ticker not in known[name]:
                    known[name][ticker] = day = Day()
                    day.restore(rows, frame.seq)

    def _days(self) -> dict[str, dict[str, Day]]:
        """Return the days of each engine that has some, which outlive a run."""
        # By the attribute and no protocol: compiled, a protocol is none any more at run time.
        found = ((name, getattr(engine, "days", None)) for name, engine in self._engines.items())
        return {name: days for name, days in found if days is not None}

    def _updating(self, changed: str) -> list[Callable[[MarketView], None]]:
        return [engine.update for engine in self._engines.values() if changed in engine.changes]


def scores(
    engines: Iterable[Callable[[], Engine]] | Scorer = STANDARD,
) -> Callable[[Observable[MarketView]], Observable[Scored]]:
    """Score every market on every view that can change a score: one shared stream in, one out.

    Hot or cold as the source is, replays nothing, runs on the source's thread, completes and
    errors with it. Engines are made per subscription; with a `Scorer`, its maker can read all
    scores. A book, a trade and an oracle price can change scores, a count of trouble (q) cannot:

        views   --b--q--t--o--|
        scores  --S-----S--S--|
    """
    if isinstance(engines, Scorer):
        scorer = engines
        return fold(lambda: scorer, Scorer.step)
    chosen = tuple(engines)
    return fold(lambda: Scorer(chosen), Scorer.step)


def signal(name: str) -> Callable[[Observable[Scored]], Observable[Score]]:
    """Emit one signal's score with every tick of each market: all markets in one stream.

    Hot or cold as the source is, replays nothing, runs on the source's thread, completes and
    errors with it. Where nothing changed it (o), the value stands, with the tick's frame; where
    the signal is absent (n), nothing comes:

        scores  --F--o--n--|
        signal  --f--f-----|
    """

    def step(_: Any, scored: Scored) -> tuple[Score, ...]:
        score = scored.score(name)
        return () if score is None else (score,)

    return fold(tuple, step)


_Timed = TypeVar("_Timed", Scored, Score)
_Folded = TypeVar("_Folded")


def every(
    seconds: float, due: dict[str, int] | None = None
) -> Callable[[Observable[_Timed]], Observable[_Timed]]:
    """Pass at most one of each market in so many seconds of event time: the first of each.

    With `due`, its maker holds when the next of each market is. Hot or cold as the source is,
    replays nothing, runs on the source's thread, completes and errors with it. Here a and b are a
    second apart, as are b and c, and `seconds` is 2:

        scores  --a--b--c--|
        every   --a-----c--|
    """
    period = _period(seconds)

    def step(due: dict[str, int], one: _Timed) -> tuple[_Timed, ...]:
        ticker, at = one.ticker, one.at
        if at < due.get(ticker, at):
            return ()
        due[ticker] = at + period
        return (one,)

    return fold(dict[str, int] if due is None else lambda: due, step)


def latest(*signals: str) -> Callable[[Observable[Scored]], Observable[tuple[Score, ...]]]:
    """Emit some signals of a market together, with every tick, while all of them exist.

    What combine_latest would do, without the states that never were: all are of one frame. Hot or
    cold as the source is, replays nothing, runs on the source's thread, completes and errors with
    it. At n one of them is absent:

        scores  --F--n--G--|
        latest  --f-----f--|
    """
    if not signals:
        raise SignalError("expected names of signals, got none")

    def step(_: Any, scored: Scored) -> tuple[tuple[Score, ...], ...]:
        read, ticker, made = scored.now.read, scored.ticker, []
        for name in signals:
            score = read(ticker, name)
            if score is None:
                return ()
            made.append(score)
        return (tuple(made),)

    return fold(tuple, step)


def window(
    seconds: float, fold_one: Callable[[Sequence[Score]], _Folded]
) -> Callable[[Observable[Score]], Observable[_Folded]]:
    """Fold each market's scores of the last so many seconds, with every score that comes.

    `fold_one` takes them oldest first, and must not keep them. Hot or cold as the source is,
    replays nothing, runs on the source's thread, completes and errors with it, and with what
    `fold_one` raises. Here scores are a second apart and `seconds` is 2: A is folded from a alone,
    B from two scores:

        scores  --a--b--c--|
        window  --A--B--B--|
    """
    period = _period(seconds)

    def step(windows: dict[str, deque[Score]], score: Score) -> tuple[_Folded, ...]:
        scores = windows.get(score.ticker)
        if scores is None:
            scores = windows[score.ticker] = deque()
        scores.append(score)
        last = score.at - period
        while scores[0].at <= last:
            scores.popleft()
        return (fold_one(scores),)

    return fold(dict[str, deque[Score]], step)


def _period(seconds: float) -> int:
    if not 0.0 < seconds <= 86_400.0:
        raise SignalError(f"expected more than 0 seconds and at most a day, got {seconds!r}")
    return round(seconds * _SECOND)


# === Formulas ===
# Each engine's `value`, as a person would write it down: from the named inputs to the score, step
# by step, in words and beside them as a function. Nothing is decided by it; tests hold both to the
# engines and to each other.

_Step = tuple[str, Callable[[SimpleNamespace], float]]

_BY_TAKERS: Final[tuple[_Step, ...]] = (
    ("lean = (buys_usd - sells_usd) / (buys_usd + sells_usd)",
     lambda of: (of.buys_usd - of.sells_usd) / (of.buys_usd + of.sells_usd)),
    ("value = leaning(lean * trades / (trades + 1))",
     lambda of: _centred(of.lean * of.trades / (of.trades + 1.0))),
)  # fmt: skip
_FORMULAS: Final[Mapping[str, tuple[_Step, ...]]] = {
    "momentum": (
        ("z = 10000 * ln(fast / slow) / sigma_bps",
         lambda of: 1e4 * log(of.fast / of.slow) / of.sigma_bps),
        ("value = logistic(z)", lambda of: _logistic(of.z)),
    ),
    "volume": (
        ("value = 100 * now_usd_s / (now_usd_s + usual_usd_s)",
         lambda of: _share(of.now_usd_s, of.usual_usd_s)),
    ),
    "volatility": (
        ("value = 100 * now_bps**2 / (now_bps**2 + usual_bps**2)",
         lambda of: _share(of.now_bps**2, of.usual_bps**2)),
    ),
    "imbalance": (("value = leaning(smoothed)", lambda of: _centred(of.smoothed)),),
    "liquidity": (
        ("share = 100 * now_usd_per_bp / (now_usd_per_bp + usual_usd_per_bp)",
         lambda of: _share(of.now_usd_per_bp, of.usual_usd_per_bp)),
        ("thin = (cost_10k_bps / 40)**4", lambda of: (of.cost_10k_bps / 40.0) ** 4),
        ("value = share / (1 + thin)", lambda of: of.share / (1.0 + of.thin)),
    ),
    "funding": (
        ("value = logistic(-rate_1h_bps / scale_bps)",
         lambda of: _logistic(-of.rate_1h_bps / of.scale_bps)),
    ),
    "microprice": (
        ("value = logistic(edge_bps / sigma_bps)",
         lambda of: _logistic(of.edge_bps / of.sigma_bps)),
    ),
    "taker_flow_10s": _BY_TAKERS,
    "taker_flow_1min": _BY_TAKERS,
    "taker_flow_5min": _BY_TAKERS,
    "depth": (
        ("value = leaning((bid_depth - ask_depth) / (bid_depth + ask_depth))",
         lambda of: _centred((of.bid_depth - of.ask_depth) / (of.bid_depth + of.ask_depth))),
    ),
    "trend": (
        ("mean = (z_15_60 + z_60_240 + z_240_960) / 3",
         lambda of: math.fsum((of.z_15_60, of.z_60_240, of.z_240_960)) / 3.0),
        ("agreed = abs(3 * mean) / (abs(z_15_60) + abs(z_60_240) + abs(z_240_960))",
         lambda of: abs(3.0 * of.mean)
         / math.fsum(map(abs, (of.z_15_60, of.z_60_240, of.z_240_960)))),
        ("value = logistic(mean * agreed)", lambda of: _logistic(of.mean * of.agreed)),
    ),
    "reversion": (
        ("z = 10000 * ln(mid / vwap) / sigma_bps",
         lambda of: 1e4 * log(of.mid / of.vwap) / of.sigma_bps),
        ("value = logistic(-z / (1 + half_life_s / 60))",
         lambda of: _logistic(-of.z / (1.0 + of.half_life_s / 60.0))),
    ),
    "basis": (
        ("value = logistic(-basis_bps / scale_bps)",
         lambda of: _logistic(-of.basis_bps / of.scale_bps)),
    ),
    "carry": (
        ("value = logistic(-rate_1h_bps / usual_bps)",
         lambda of: _logistic(-of.rate_1h_bps / of.usual_bps)),
    ),
    "interest": (
        ("growth_bps = 10000 * ln(open_interest / usual_interest)",
         lambda of: 1e4 * log(of.open_interest / of.usual_interest)),
        ("z = 10000 * ln(mid / average) / sigma_bps",
         lambda of: 1e4 * log(of.mid / of.average) / of.sigma_bps),
        ("value = logistic(growth_bps / 10 * tanh(z))",
         lambda of: _logistic(of.growth_bps / 10.0 * math.tanh(of.z))),
    ),
    "liquidations": (
        ("value = leaning((forced_buys_usd - forced_sells_usd) / traded_usd)",
         lambda of: _centred((of.forced_buys_usd - of.forced_sells_usd) / of.traded_usd)),
    ),
    "jumps": (
        ("value = leaning(jump_share * signed)", lambda of: _centred(of.jump_share * of.signed)),
    ),
    "strength": (
        ("value = 100 * gains_bps / (gains_bps + losses_bps)",
         lambda of: _share(of.gains_bps, of.losses_bps)),
    ),
}  # fmt: skip
# What stands in a formula beside names of inputs; calculators have those of no meaning.
_FUNCTIONS: Final = {
    "ln": "",
    "abs": "",
    "tanh": "",
    "logistic": "logistic(z) = 100 / (1 + e^-z)",
    "leaning": "leaning(x) = 50 + 50 * x, from 0 to 100",
}
_NAME: Final = re.compile(r"[a-z]\w*")
_TWICE: Final = re.compile(r"\((\(-[^()]*\))\)")  # brackets around those of a negative number


class Worked(msgspec.Struct, frozen=True, gc=False):
    """One step of a score's calculation: `name` = `formula` = `numbers` = `value`.

    `value` is None where the inputs do not have one; `means` says what the functions in it are.
    """

    name: str
    formula: str
    numbers: str
    value: float | None
    means: tuple[str, ...] = ()


def worked(score: Score) -> tuple[Worked, ...]:
    """Work a score out from its inputs, a step at a time, the last of which is its value.

    What has no value, as its inputs are missing or divide by zero, is the last step; a user's own
    signal has none.
    """
    known = SimpleNamespace(**dict(score.inputs))
    steps: list[Worked] = []
    for line, compute in _FORMULAS.get(score.signal, ()):
        name, _, formula = line.partition(" = ")
        used = dict.fromkeys(_NAME.findall(formula))
        means = tuple(filter(None, (_FUNCTIONS.get(word) for word in used)))
        numbers = _TWICE.sub(r"\1", _NAME.sub(partial(_number_of, known), formula))
        try:
            value = compute(known)
        except (ArithmeticError, ValueError, AttributeError):
            value = None
        steps.append(Worked(name, formula, numbers, value, means))
        if value is None:
            break
        setattr(known, name, value)
    return tuple(steps)


def _number_of(known: SimpleNamespace, word: re.Match[str]) -> str:
    value = getattr(known, word.group(), None)
    if value is None:
        return word.group()
    return f"({value:.6g})" if value < 0 else f"{value:.6g}"
