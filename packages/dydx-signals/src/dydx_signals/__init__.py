"""Continuous scores: what each market looks like right now, from 0 to 100.

    MarketView ──► scores() ──► Scored (the view and its scores) ──► signal("momentum") ──► Score

`Scored` carries a market's newest `Score` of every signal; each score carries the named figures
it was computed from, so that a person can compute it again. One engine per signal type holds all
markets: `Momentum`, `Imbalance` and `Funding` point a way (above 50 up, below 50 down);
`Volume`, `Volatility` and `Liquidity` are levels (50 is usual for this market). `STANDARD` lists
all six. A signal that cannot be computed yet, or any more, is absent: never a made-up 50.

Each signal is a section of its own: figures, mapping and warm-up are in its engine's docstring,
the state per market in the private class under it. A new signal is a class like these (`Engine`)
and a line in `STANDARD`; which changes of a view reach it is in its `changes`.

Units: prices in USDC per base unit, sizes in base units, `_usd` in USDC, `_bps` in 1e-4, times
in seconds; half-lives are seconds of event time. An average with half-life h keeps
k = 2^(-dt / h) of what it was over dt seconds; tau = h / ln 2.

Nothing here decides to buy, sell or hold, compares two markets, has a threshold or reads a
clock: time is `view.at` alone, and time that steps back counts as no time. Every engine is one O(1)
step per view: what points a way is computed with every tick, a level once a second (and volume
with every trade), so a score's `seq` may be older than its view's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import exp, log, log1p, sqrt
from typing import Any, ClassVar, Final, Protocol

import dydx_data
import msgspec
from dydx_conn import fold
from dydx_data import MarketView
from reactivex import Observable

__all__ = [
    # Errors
    "SignalError",
    # Values
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
    """A set of engines that cannot work: give each its own name and sensible half-lives."""


# === Values ===
# What comes out, what an engine is, and the arithmetic that engines share.


class Score(msgspec.Struct, frozen=True, gc=False):
    """One signal of one market: `value` from 0 to 100, and the figures it came from.

    `seq` is the frame that it was computed at.
    """

    ticker: str
    signal: str
    value: float
    inputs: tuple[tuple[str, float], ...]
    seq: int


class Scored(msgspec.Struct, frozen=True, gc=False):
    """A market and its newest scores, those that exist, in the order of the engines.

    `view` is updated in place by the layer below: read it within the frame, copy what is needed
    later.
    """

    ticker: str
    seq: int
    at: int
    view: MarketView
    scores: tuple[Score, ...]

    def value(self, signal: str) -> float | None:
        """Return the value of one signal; None if it is absent."""
        for score in self.scores:
            if score.signal == signal:
                return score.value
        return None


class Engine(Protocol):
    """One signal type for all markets.

    `changes` names the changes of a view that can change the score; `score` takes such a view
    and returns the market's score, or None while there is none. State is per ticker and in
    the engine alone, so other markets' views make no difference.
    """

    name: ClassVar[str]
    changes: ClassVar[frozenset[str]]

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's score now."""


# Engines get a stale view, too, so that a score can vanish at once.
_BOOK: Final = frozenset(["book", "stale"])
_PRICE: Final = frozenset(["book", "oracle", "stale"])
_TRADES: Final = frozenset(["trades", "book", "oracle", "stale"])

_LN2: Final = log(2.0)
_NS: Final = 1e-9
_SECOND: Final = 1_000_000_000
# No price, size or value on the venue is as large; keeps sums and squares far from inf.
_HUGE: Final = 1e18


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

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's momentum."""
        mid = view.book.mid_price
        if mid is None or mid >= _HUGE:
            return None
        at = view.at
        trend = self._markets.get(view.ticker)
        if trend is None:
            trend = self._markets[view.ticker] = _Trend(mid, at, _Variance(self._variance))
        dt = at - trend.at
        if dt > 0:
            trend.at = at
            decay = exp(dt * self._fast)
            trend.fast = mid + (trend.fast - mid) * decay
            trend.fast_age *= decay
            decay = exp(dt * self._slow)
            trend.slow = mid + (trend.slow - mid) * decay
            trend.slow_age *= decay
        variance = trend.variance
        if at >= variance.due:
            variance.sample(mid, at)
        if variance.count < 5 or at - trend.since < 10 * _SECOND:
            return None
        return self._score(view, trend, variance.value)

    def _score(self, view: MarketView, trend: _Trend, variance: float) -> Score:
        fast, slow, fast_age, slow_age = trend.fast, trend.slow, trend.fast_age, trend.slow_age
        trend_bps = 1e4 * log(fast / slow)
        sigma_bps = 1e4 * sqrt(
            variance
            * (
                self._slow_part * (1.0 - slow_age * slow_age)
                + self._fast_part * (1.0 - fast_age * fast_age)
                - 2.0 * self._both_part * (1.0 - fast_age * slow_age)
            )
        )
        z = trend_bps / sigma_bps
        return Score(
            view.ticker,
            "momentum",
            _logistic(z),
            (
                ("fast", fast),
                ("slow", slow),
                ("trend_bps", trend_bps),
                ("sigma_bps", sigma_bps),
                ("z", z),
            ),
            view.seq,
        )


class _Trend:
    __slots__ = ("at", "fast", "fast_age", "since", "slow", "slow_age", "variance")

    def __init__(self, mid: float, at: int, variance: _Variance) -> None:
        self.at = self.since = at
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

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's volume level."""
        at = view.at
        traded = self._markets.get(view.ticker)
        if traded is None:
            traded = self._markets[view.ticker] = _Traded(at)
        if view.changed == "trades":
            self._age(traded, at)
            _count(traded, view.fresh)
        elif at < traded.due:
            return traded.score
        else:
            self._age(traded, at)
        traded.due = at + _SECOND
        traded.score = self._score(view, traded)
        return traded.score

    def _age(self, traded: _Traded, at: int) -> None:
        dt = at - traded.at
        if dt > 0:
            now_decay, usual_decay = exp(dt * self._now), exp(dt * self._usual)
            traded.at = at
            traded.now *= now_decay
            traded.usual *= usual_decay
            traded.now_age *= now_decay
            traded.usual_age *= usual_decay

    def _score(self, view: MarketView, traded: _Traded) -> Score | None:
        if traded.count < 3 or view.at - traded.since < 15 * _SECOND:
            return None
        now = traded.now / (self._now_tau * (1.0 - traded.now_age))
        usual = traded.usual / (self._usual_tau * (1.0 - traded.usual_age))
        # Both underflow to nothing after some days without a trade.
        if not usual > 0.0:
            return None
        return Score(
            view.ticker,
            "volume",
            _share(now, usual),
            (("now_usd_s", now), ("usual_usd_s", usual), ("trades", float(traded.count))),
            view.seq,
        )


class _Traded:
    __slots__ = ("at", "count", "due", "now", "now_age", "score", "since", "usual", "usual_age")

    def __init__(self, at: int) -> None:
        self.at = self.since = at
        self.due = 0
        self.now = self.usual = 0.0
        self.now_age = self.usual_age = 1.0
        self.count = 0
        self.score: Score | None = None


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

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's volatility level."""
        swings = self._markets.get(view.ticker)
        if swings is None:
            swings = self._markets[view.ticker] = _Swings(*self._taus)
        if swings.take(view) and swings.now.count >= 10:
            swings.score = self._score(view, swings.now.value, swings.usual.value)
        return swings.score

    def _score(self, view: MarketView, now: float, usual: float) -> Score:
        now_bps = 1e4 * sqrt(now)
        return Score(
            view.ticker,
            "volatility",
            _share(now, usual),
            (
                ("now_bps", now_bps),
                ("usual_bps", 1e4 * sqrt(usual)),
                ("minute_bps", now_bps * _SQRT_60),
            ),
            view.seq,
        )


_SQRT_60: Final = sqrt(60.0)


class _Swings:
    __slots__ = ("by_mid", "now", "score", "usual")

    def __init__(self, now_tau: float, usual_tau: float) -> None:
        self.score: Score | None = None
        self.now, self.usual = _Variance(now_tau), _Variance(usual_tau)
        self.by_mid = True

    def take(self, view: MarketView) -> bool:
        price = view.book.mid_price
        by_mid = price is not None
        if price is None:
            oracle = view.oracle
            if oracle is None:
                self.score = None
                return False
            price = oracle.price
        if by_mid is not self.by_mid:
            self.by_mid = by_mid
            self.now.restart()
            self.usual.restart()
        at = view.at
        if at < self.now.due or price >= _HUGE:
            return False
        self.now.sample(price, at)
        self.usual.sample(price, at)
        return True


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

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's imbalance."""
        book = view.book
        bid, ask = book.best_bid, book.best_ask
        if bid is None or ask is None:
            return None
        bid_size, ask_size = bid.size, ask.size
        if not 0.0 < bid_size + ask_size < _HUGE:
            return None
        raw = (bid_size - ask_size) / (bid_size + ask_size)
        at = view.at
        average = self._markets.get(view.ticker)
        if average is None:
            average = self._markets[view.ticker] = _Smoothed(raw, at)
        dt = at - average.at
        if dt > 0:
            average.at = at
            average.value = raw + (average.value - raw) * exp(dt * self._rate)
        if at - average.since < 5 * _SECOND:
            return None
        smoothed = average.value
        return Score(
            view.ticker,
            "imbalance",
            50.0 + 50.0 * smoothed,
            (
                ("bid_size", bid_size),
                ("ask_size", ask_size),
                ("raw", raw),
                ("smoothed", smoothed),
            ),
            view.seq,
        )


class _Smoothed:
    __slots__ = ("at", "since", "value")

    def __init__(self, value: float, at: int) -> None:
        self.at = self.since = at
        self.value = value


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

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's liquidity level."""
        book = view.book
        mid, bid, ask = book.mid_price, book.best_bid, book.best_ask
        if mid is None or bid is None or ask is None:
            return None
        at = view.at
        depth = self._markets.get(view.ticker)
        if depth is not None and at < depth.due:
            return depth.score
        spread_bps = 1e4 * (ask.price - bid.price) / mid
        resting_usd = (book.bid_total + book.ask_total) * mid
        if not 0.0 < resting_usd < _HUGE:
            return None
        # The log of one more than the figure: a book of a few cents must not reach far below 0.
        level = log1p(resting_usd / max(spread_bps, 0.01))
        if depth is None:
            depth = self._markets[view.ticker] = _Depth(level, at)
        dt = at - depth.at
        depth.at, depth.due = at, at + _SECOND
        depth.now = level + (depth.now - level) * exp(dt * self._now)
        depth.usual = level + (depth.usual - level) * exp(dt * self._usual)
        if at - depth.since >= 5 * _SECOND:
            depth.score = self._score(view, depth, spread_bps, resting_usd)
        return depth.score

    def _score(
        self, view: MarketView, depth: _Depth, spread_bps: float, resting_usd: float
    ) -> Score:
        return Score(
            view.ticker,
            "liquidity",
            _logistic(depth.now - depth.usual),
            (
                ("spread_bps", spread_bps),
                ("resting_usd", resting_usd),
                ("now_usd_per_bp", exp(depth.now)),
                ("usual_usd_per_bp", exp(depth.usual)),
            ),
            view.seq,
        )


class _Depth:
    __slots__ = ("at", "due", "now", "score", "since", "usual")

    def __init__(self, level: float, at: int) -> None:
        self.at = self.since = self.due = at
        self.score: Score | None = None
        self.now = self.usual = level


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
        self._markets: dict[str, tuple[dydx_data.FundingRate, Score | None]] = {}

    def score(self, view: MarketView) -> Score | None:
        """Take one view, return the market's funding score."""
        funding = view.funding
        known = self._markets.get(view.ticker)
        # An oracle price comes with every block, another rate once a minute.
        if known is not None and known[0] is funding:
            return known[1]
        score = self._score(view, funding) if funding.known else None
        self._markets[view.ticker] = funding, score
        return score

    def _score(self, view: MarketView, funding: dydx_data.FundingRate) -> Score | None:
        rate_bps = 1e4 * funding.next_rate_1h
        if not -_HUGE < rate_bps < _HUGE:
            return None
        return Score(
            view.ticker,
            "funding",
            _logistic(-rate_bps / self._scale),
            (("rate_1h_bps", rate_bps), ("scale_bps", self._scale)),
            view.seq,
        )


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
    """All engines over all markets: the state that `scores` folds views into."""

    def __init__(self, engines: Iterable[Callable[[], Engine]] = STANDARD) -> None:
        self._engines: Sequence[Engine] = [make() for make in engines]
        names = [engine.name for engine in self._engines]
        if len(set(names)) < len(names):
            raise SignalError(f"expected engines of different names, got {names}")
        self._listeners: dict[str, list[tuple[int, Callable[[MarketView], Score | None]]]] = {}
        self._rows: dict[str, list[Score | None]] = {}

    def step(self, view: MarketView) -> tuple[Scored, ...]:
        """Take one view; return its market with all scores, or nothing if none could change."""
        changed = view.changed
        ticker = view.ticker
        row = self._rows.get(ticker)
        if row is None:
            row = self._rows[ticker] = [None] * len(self._engines)
        listeners = self._listeners.get(changed)
        if listeners is None:
            listeners = self._listeners[changed] = self._listening(changed)
        for index, score in listeners:
            row[index] = score(view)
        if changed in _SILENT:
            return ()
        return (Scored(ticker, view.seq, view.at, view, tuple(filter(None, row))),)

    def _listening(self, changed: str) -> list[tuple[int, Callable[[MarketView], Score | None]]]:
        return [
            (index, engine.score)
            for index, engine in enumerate(self._engines)
            if changed in engine.changes
        ]


def scores(
    engines: Iterable[Callable[[], Engine]] = STANDARD,
) -> Callable[[Observable[MarketView]], Observable[Scored]]:
    """Score every market on every view that can change a score: one shared stream in, one out.

    Hot or cold as the source is, replays nothing, runs on the source's thread, completes and
    errors with it. Engines are made per subscription. A book, a trade and an oracle price can
    change scores, a count of trouble (q) cannot:

        views   --b--q--t--o--|
        scores  --S-----S--S--|
    """
    chosen = tuple(engines)
    return fold(lambda: Scorer(chosen), Scorer.step)


def signal(name: str) -> Callable[[Observable[Scored]], Observable[Score]]:
    """Keep one signal's scores, each when it was computed: all markets in one stream.

    Hot or cold as the source is, replays nothing, runs on the source's thread, completes and
    errors with it. Where another signal was computed (o), this one's score stands, and is no news:

        scores  --F--o--F--|
        signal  --f-----f--|
    """

    def step(_: Any, scored: Scored) -> tuple[Score, ...]:
        # A score that this view did not change has an older frame's number.
        return tuple(
            score for score in scored.scores if score.signal == name and score.seq == scored.seq
        )

    return fold(tuple, step)
