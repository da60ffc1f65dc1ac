"""Continuous scores: what each market looks like right now, from 0 to 100.

    MarketView ──► scores() ──► Scored (the market, read within the frame) ──► signal("momentum")
                     │
                  Scorer ── Engine.update(view), with every tick ── Engine.read(ticker), when read

A `Score` is a value: from 0 to 100, with the named figures it was computed from and the frames it
rests on, so that a person can compute it again. An engine folds every tick of its markets and makes
a score only when somebody reads it. One engine per signal type holds all markets: `Momentum`,
`Imbalance` and `Funding` point a way (above 50 up, below 50 down); `Volume`, `Volatility` and
`Liquidity` are levels (50 is usual for this market). `STANDARD` lists all six. A signal that
cannot be computed yet, or any more, is absent: never a made-up 50.

Each signal is a section of its own: figures, mapping and warm-up are in its engine's docstring,
the state per market in the private class under it. A new signal is a class like these (`Engine`)
and a line in `STANDARD`; which changes of a view reach it is in its `changes`.

Units: prices in USDC per base unit, sizes in base units, `_usd` in USDC, `_bps` in 1e-4, times
in seconds; half-lives are seconds of event time. An average with half-life h keeps
k = 2^(-dt / h) of what it was over dt seconds; tau = h / ln 2.

Nothing here decides to buy, sell or hold, compares two markets, has a threshold or reads a
clock: time is `view.at` alone, and time that steps back counts as no time. Every engine is one O(1)
step per view: what points a way folds every tick, a level once a second (and volume every trade).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp, log, log1p, sqrt
from typing import Any, ClassVar, Final, Protocol, Self

import dydx_data
import msgspec
from dydx_conn import fold
from dydx_data import MarketView
from reactivex import Observable

__all__ = [
    # Errors
    "SignalError",
    # Values
    "Board",
    "Engine",
    "Score",
    "Scored",
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
    # Streams
    "STANDARD",
    "Scorer",
    "scores",
    "signal",
]

# === Errors ===


class SignalError(Exception):
    """Engines that cannot work, or a `Scored` that is read after its frame."""


# === Values ===
# What comes out, what an engine is, and the arithmetic that engines share.


class Score(msgspec.Struct, frozen=True, gc=False):
    """One signal of one market: `value` from 0 to 100, and the figures it came from.

    `seq` is the frame that it is of, the newest of its market; `first` is the oldest frame that
    it was computed from: the frames from `first` to `seq` alone give the same score.
    """

    ticker: str
    signal: str
    value: float
    inputs: tuple[tuple[str, float], ...]
    seq: int
    first: int = 0

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
    names: tuple[str, ...]

    def read(self, ticker: str, signal: str) -> Score | None:
        """Return one score of one market; None if it is absent."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """A market as of frame `seq`: its view and its newest scores, made when they are read.

    All of it is read within the frame, as views and engines go on with the next one: a `Scored`
    kept longer raises `SignalError`. A `Score` is a value and stays.
    """

    ticker: str
    seq: int
    at: int
    board: Board

    @property
    def view(self) -> MarketView:
        """Return the market's view, updated in place by the layer below."""
        return self._now().views[self.ticker]

    @property
    def scores(self) -> tuple[Score, ...]:
        """Make the scores that exist, in the order of the engines."""
        board, ticker = self._now(), self.ticker
        made = (board.read(ticker, name) for name in board.names)
        return tuple(score for score in made if score is not None)

    @property
    def markets(self) -> Mapping[str, Scored]:
        """Return every market that was scored, as of this frame."""
        return _Markets(self._now(), self.seq, self.at)

    def score(self, signal: str) -> Score | None:
        """Return the score of one signal; None if it is absent."""
        return self._now().read(self.ticker, signal)

    def value(self, signal: str) -> float | None:
        """Return the value of one signal; None if it is absent."""
        score = self._now().read(self.ticker, signal)
        return None if score is None else score.value

    def _now(self) -> Board:
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

_LN2: Final = log(2.0)
_NS: Final = 1e-9
_SECOND: Final = 1_000_000_000
# No price, size or value on the venue is as large; keeps sums and squares far from inf.
_HUGE: Final = 1e18
# The `seq` of a state whose score cannot be computed any more.
_ABSENT: Final = -1


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


def _logistic(z: float) -> float:
    # Beyond 40 the result no longer differs from 0 or 100, and exp would overflow at 710.
    if z > 40.0:
        return 100.0
    return 100.0 / (1.0 + exp(-z)) if z > -40.0 else 0.0


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

    def __init__(self, fast: float = 10.0, slow: float = 60.0, variance: float = 120.0) -> None:
        _apart(fast, slow)
        fast_tau, slow_tau = _tau(fast), _tau(slow)
        self._fast, self._slow = -_NS / fast_tau, -_NS / slow_tau
        # The three A's of the docstring, aged for ever.
        self._fast_part, self._slow_part = fast_tau / 2.0, slow_tau / 2.0
        self._both_part = fast_tau * slow_tau / (fast_tau + slow_tau)
        self._variance = _tau(variance)
        self._markets: dict[str, _Trend] = {}

    def update(self, view: MarketView) -> None:
        """Fold the mid price of a view."""
        mid, at = view.book.mid_price, view.at
        trend = self._markets.get(view.ticker)
        if mid is None or mid >= _HUGE:
            if trend is not None:
                trend.seq = _ABSENT
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
        trend = self._markets.get(ticker)
        if trend is None or trend.seq == _ABSENT or trend.variance.count < 5:
            return None
        if trend.at - trend.since < 10 * _SECOND:
            return None
        fast, slow, fast_age, slow_age = trend.fast, trend.slow, trend.fast_age, trend.slow_age
        trend_bps = 1e4 * log(fast / slow)
        sigma_bps = 1e4 * sqrt(
            trend.variance.value
            * (
                self._slow_part * (1.0 - slow_age * slow_age)
                + self._fast_part * (1.0 - fast_age * fast_age)
                - 2.0 * self._both_part * (1.0 - fast_age * slow_age)
            )
        )
        inputs = {
            "fast": fast, "slow": slow, "trend_bps": trend_bps, "sigma_bps": sigma_bps,
            "z": trend_bps / sigma_bps,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, trend.seq, trend.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the trend in standard deviations."""
        return _logistic(1e4 * log(inputs["fast"] / inputs["slow"]) / inputs["sigma_bps"])


class _Trend:
    __slots__ = (
        "at", "fast", "fast_age", "first", "seq", "since", "slow", "slow_age", "variance",
    )  # fmt: skip

    def __init__(self, view: MarketView, mid: float, variance: _Variance) -> None:
        self.at = self.since = view.at
        self.seq = self.first = view.seq
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
            self._squares = self._squares * decay + step * step
            self._time = self._time * decay + dt
            self.value = max(self._squares / self._time, _STILL)
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

    now_usd_s   = traded USDC per second, half-life 20 s
    usual_usd_s = traded USDC per second, half-life 300 s
                  (each: sum of k-weighted USDC / (tau · (1 - e^(-t / tau))), t the age in s)
    value       = 100 · now / (now + usual): 50 as always, 67 twice, 33 half

    Warm-up: 15 s and 3 trades. Trades more than 5 s older than the newest of their message
    are history (a snapshot's) and do not count.
    """

    name: ClassVar[str] = "volume"
    changes: ClassVar[frozenset[str]] = _TRADES

    def __init__(self, now: float = 20.0, usual: float = 300.0) -> None:
        _apart(now, usual)
        self._now_tau, self._usual_tau = _tau(now), _tau(usual)
        self._now, self._usual = -_NS / self._now_tau, -_NS / self._usual_tau
        self._markets: dict[str, _Traded] = {}

    def update(self, view: MarketView) -> None:
        """Fold the trades of a view, or that time has gone by without any."""
        at = view.at
        traded = self._markets.get(view.ticker)
        if traded is None:
            traded = self._markets[view.ticker] = _Traded(view)
        if view.changed == "trades":
            self._age(traded, at)
            _count(traded, view.fresh)
        elif at < traded.due:
            return
        else:
            self._age(traded, at)
        traded.seq, traded.due = view.seq, at + _SECOND

    def read(self, ticker: str) -> Score | None:
        """Return a market's volume level."""
        traded = self._markets.get(ticker)
        if traded is None or traded.count < 3 or traded.at - traded.since < 15 * _SECOND:
            return None
        now = traded.now / (self._now_tau * (1.0 - traded.now_age))
        usual = traded.usual / (self._usual_tau * (1.0 - traded.usual_age))
        # Both underflow to nothing after some days without a trade.
        if not usual > 0.0:
            return None
        inputs = {"now_usd_s": now, "usual_usd_s": usual, "trades": float(traded.count)}
        return Score.of(self, ticker, inputs, traded.seq, traded.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of what is traded now in now and usual."""
        return _share(inputs["now_usd_s"], inputs["usual_usd_s"])

    def _age(self, traded: _Traded, at: int) -> None:
        dt = at - traded.at
        if dt > 0:
            now_decay, usual_decay = exp(dt * self._now), exp(dt * self._usual)
            traded.at = at
            traded.now *= now_decay
            traded.usual *= usual_decay
            traded.now_age *= now_decay
            traded.usual_age *= usual_decay


class _Traded:
    __slots__ = (
        "at", "count", "due", "first", "now", "now_age", "seq", "since", "usual", "usual_age",
    )  # fmt: skip

    def __init__(self, view: MarketView) -> None:
        self.at = self.since = view.at
        self.seq = self.first = view.seq
        self.due = 0
        self.now = self.usual = 0.0
        self.now_age = self.usual_age = 1.0
        self.count = 0


def _count(traded: _Traded, fresh: Sequence[dydx_data.Trade]) -> None:
    if not fresh:
        return
    # Against the newest of the same message: block time and our clock need not agree.
    since = max(trade.at_ns for trade in fresh) - 5 * _SECOND
    for trade in fresh:
        usd = trade.price * trade.size
        if trade.at_ns >= since and usd < _HUGE:
            traded.now += usd
            traded.usual += usd
            traded.count += 1


# === Volatility ===


class Volatility:
    """How much the price moves now against what is usual for this market.

    now_bps, usual_bps = standard deviation of log returns per square root of a second, in bps,
                         over steps of at least 1 s, half-lives 30 s and 300 s, at least 0.05 bps
    value              = 100 · now² / (now² + usual²): 50 as always, 80 twice, 90 three times

    The price is the mid, or the oracle's while the book is unknown or one-sided; a change of
    source is not a return. Warm-up: 10 returns. `minute_bps` is now_bps · sqrt(60), for reading.
    One jump raises what is usual as well: alone it reaches 91 at most, and 80 is rough already.
    """

    name: ClassVar[str] = "volatility"
    changes: ClassVar[frozenset[str]] = _PRICE

    def __init__(self, now: float = 30.0, usual: float = 300.0) -> None:
        _apart(now, usual)
        self._taus = _tau(now), _tau(usual)
        self._markets: dict[str, _Swings] = {}

    def update(self, view: MarketView) -> None:
        """Fold the price of a view."""
        swings = self._markets.get(view.ticker)
        if swings is None:
            swings = self._markets[view.ticker] = _Swings(view, *self._taus)
        swings.take(view)

    def read(self, ticker: str) -> Score | None:
        """Return a market's volatility level."""
        swings = self._markets.get(ticker)
        if swings is None or swings.seq == _ABSENT or swings.now.count < 10:
            return None
        now_bps = 1e4 * sqrt(swings.now.value)
        inputs = {
            "now_bps": now_bps, "usual_bps": 1e4 * sqrt(swings.usual.value),
            "minute_bps": now_bps * _SQRT_60,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, swings.seq, swings.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of the variance now in now and usual."""
        now, usual = inputs["now_bps"], inputs["usual_bps"]
        return _share(now * now, usual * usual)


_SQRT_60: Final = sqrt(60.0)


class _Swings:
    __slots__ = ("by_mid", "first", "now", "seq", "usual")

    def __init__(self, view: MarketView, now_tau: float, usual_tau: float) -> None:
        self.seq, self.first = _ABSENT, view.seq
        self.now, self.usual = _Variance(now_tau), _Variance(usual_tau)
        self.by_mid = True

    def take(self, view: MarketView) -> None:
        price = view.book.mid_price
        by_mid = price is not None
        if price is None:
            oracle = view.oracle
            if oracle is None:
                self.seq = _ABSENT
                return
            price = oracle.price
        if by_mid is not self.by_mid:
            self.by_mid = by_mid
            self.now.restart()
            self.usual.restart()
        at = view.at
        if at < self.now.due or price >= _HUGE:
            return
        self.seq = view.seq
        self.now.sample(price, at)
        self.usual.sample(price, at)


# === Imbalance ===


class Imbalance:
    """Which side of the book is heavier where the next trade happens.

    bid_size, ask_size = base units at the best bid and the best ask
    raw                = (bid_size - ask_size) / (bid_size + ask_size), from -1 to 1
    smoothed           = average of raw, half-life 5 s
    value              = 50 + 50 · smoothed

    Warm-up: 5 s. Absent while the book is unknown or one-sided.
    """

    name: ClassVar[str] = "imbalance"
    changes: ClassVar[frozenset[str]] = _BOOK

    def __init__(self, half_life: float = 5.0) -> None:
        self._rate = -_NS / _tau(half_life)
        self._markets: dict[str, _Smoothed] = {}

    def update(self, view: MarketView) -> None:
        """Fold the best levels of a view."""
        book = view.book
        bid, ask = book.best_bid, book.best_ask
        average = self._markets.get(view.ticker)
        both = 0.0 if bid is None or ask is None else bid.size + ask.size
        if bid is None or ask is None or not 0.0 < both < _HUGE:
            if average is not None:
                average.seq = _ABSENT
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
        average = self._markets.get(ticker)
        if average is None or average.seq == _ABSENT or average.at - average.since < 5 * _SECOND:
            return None
        bid_size, ask_size = average.bid_size, average.ask_size
        inputs = {
            "bid_size": bid_size, "ask_size": ask_size,
            "raw": (bid_size - ask_size) / (bid_size + ask_size), "smoothed": average.value,
        }  # fmt: skip
        return Score.of(self, ticker, inputs, average.seq, average.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the smoothed imbalance, moved from -1 … 1 to the scale."""
        return 50.0 + 50.0 * inputs["smoothed"]


class _Smoothed:
    __slots__ = ("ask_size", "at", "bid_size", "first", "seq", "since", "value")

    def __init__(self, view: MarketView, value: float) -> None:
        self.at = self.since = view.at
        self.seq = self.first = view.seq
        self.value = value
        self.bid_size = self.ask_size = 0.0


# === Liquidity ===


class Liquidity:
    """How cheaply one could trade now against what is usual for this market.

    resting_usd = (bid_total + ask_total) · mid price, the whole known book in USDC
    per_bp      = resting_usd / spread_bps (a spread below 0.01 bps counts as 0.01)
    now, usual  = geometric averages of per_bp + 1, half-lives 5 s and 300 s
    value       = 100 · now / (now + usual): 50 as always, 33 half as liquid

    Warm-up: 5 s. Absent while the book is unknown or one-sided.
    """

    name: ClassVar[str] = "liquidity"
    changes: ClassVar[frozenset[str]] = _BOOK

    def __init__(self, now: float = 5.0, usual: float = 300.0) -> None:
        _apart(now, usual)
        self._now, self._usual = -_NS / _tau(now), -_NS / _tau(usual)
        self._markets: dict[str, _Depth] = {}

    def update(self, view: MarketView) -> None:
        """Fold the book of a view, once a second."""
        depth = self._markets.get(view.ticker)
        book = view.book
        mid, bid, ask = book.mid_price, book.best_bid, book.best_ask
        if mid is None or bid is None or ask is None:
            if depth is not None:
                depth.seq = _ABSENT
            return
        at = view.at
        if depth is not None and at < depth.due:
            depth.seq = view.seq
            return
        spread_bps = 1e4 * (ask.price - bid.price) / mid
        resting_usd = (book.bid_total + book.ask_total) * mid
        if not 0.0 < resting_usd < _HUGE:
            if depth is not None:
                depth.seq = _ABSENT
            return
        # The log of one more than the figure: a book of a few cents must not reach far below 0.
        level = log1p(resting_usd / max(spread_bps, 0.01))
        if depth is None:
            depth = self._markets[view.ticker] = _Depth(view, level)
        dt = at - depth.at
        depth.at, depth.due, depth.seq = at, at + _SECOND, view.seq
        depth.spread_bps, depth.resting_usd = spread_bps, resting_usd
        depth.now = level + (depth.now - level) * exp(dt * self._now)
        depth.usual = level + (depth.usual - level) * exp(dt * self._usual)

    def read(self, ticker: str) -> Score | None:
        """Return a market's liquidity level."""
        depth = self._markets.get(ticker)
        if depth is None or depth.seq == _ABSENT or depth.at - depth.since < 5 * _SECOND:
            return None
        inputs = {
            "spread_bps": depth.spread_bps, "resting_usd": depth.resting_usd,
            "now_usd_per_bp": exp(depth.now), "usual_usd_per_bp": exp(depth.usual),
        }  # fmt: skip
        return Score.of(self, ticker, inputs, depth.seq, depth.first)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the share of the liquidity now in now and usual."""
        return _share(inputs["now_usd_per_bp"], inputs["usual_usd_per_bp"])


class _Depth:
    __slots__ = (
        "at", "due", "first", "now", "resting_usd", "seq", "since", "spread_bps", "usual",
    )  # fmt: skip

    def __init__(self, view: MarketView, level: float) -> None:
        self.at = self.since = self.due = view.at
        self.seq = self.first = view.seq
        self.now = self.usual = level
        self.spread_bps = self.resting_usd = 0.0


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
        rate = self._markets.get(ticker)
        if rate is None or not rate.known:
            return None
        rate_bps = 1e4 * rate.next_rate_1h
        if not -_HUGE < rate_bps < _HUGE:
            return None
        inputs = {"rate_1h_bps": rate_bps, "scale_bps": self._scale}
        return Score.of(self, ticker, inputs, rate.seq, rate.seq)

    def value(self, inputs: Mapping[str, float]) -> float:
        """Return the logistic of the rate in units of the scale, turned round."""
        return _logistic(-inputs["rate_1h_bps"] / inputs["scale_bps"])


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

# Counts of trouble and a market's parameters emit no scores.
_SILENT: Final = frozenset(["quality", "market"])


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
        self._seqs: dict[str, int] = {}
        self._engines = dict(zip(self.names, made, strict=True))
        self._updates: dict[str, list[Callable[[MarketView], None]]] = {}
        self._made: dict[str, dict[str, Score | None]] = {}

    def step(self, view: MarketView) -> tuple[Scored, ...]:
        """Take one view; return its market, or nothing if no score could change."""
        changed, ticker = view.changed, view.ticker
        self.seq = self._seqs[ticker] = seq = view.seq
        made = self._made.get(ticker)
        if made is None:
            self._made[ticker], self.views[ticker] = {}, view
        elif made:
            made.clear()
        updates = self._updates.get(changed)
        if updates is None:
            updates = self._updates[changed] = self._updating(changed)
        for update in updates:
            update(view)
        return () if changed in _SILENT else (Scored(ticker, seq, view.at, self),)

    def read(self, ticker: str, signal: str) -> Score | None:
        """Return one score of one market, as of its newest frame; None if it is absent."""
        made, engine = self._made.get(ticker), self._engines.get(signal)
        if made is None or engine is None:
            return None
        if signal not in made:
            score = engine.read(ticker)
            if score is not None and score.seq != self._seqs[ticker]:
                # Nothing changed it since: the value stands for the newest frame as well.
                score = msgspec.structs.replace(score, seq=self._seqs[ticker])
            made[signal] = score
        return made[signal]

    def scores(self, ticker: str) -> tuple[Score, ...]:
        """Return the scores of one market that exist, at any time between two frames."""
        made = (self.read(ticker, name) for name in self.names)
        return tuple(score for score in made if score is not None)

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
