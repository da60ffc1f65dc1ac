"""Markets whose views come from frames, and whose scores are whatever a test sets."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from dydx_conn import Frame, WireWriter, market_fields
from dydx_data import DataState, MarketView, step
from dydx_signals import Score, Scored
from dydx_strategy import Decision, Held, Holdings

SECOND = 1_000_000_000
START = 1_784_000_000 * SECOND


class Market:
    """One market on a connection of its own; times are seconds after the start."""

    def __init__(self, ticker: str = "BTC-USD", **fields: object) -> None:
        self.ticker = ticker
        self.state = DataState(stale_after_ns=100 * SECOND)
        self._wire = WireWriter()
        self.alive, self.fresh_at = True, 0.0
        self.take(self.wire(0).markets(market_fields(ticker, price="100.5", **fields)))
        self.book(0)

    @property
    def view(self) -> MarketView:
        """The market's view, updated in place."""
        return self.state.views[self.ticker]

    def scored(self, at: float, **values: float) -> Scored:
        """Return scores at a time, of a market whose book and price are fresh."""
        if self.alive and at - self.fresh_at > 10:
            self.fresh_at = at
            self.take(self.wire(at).levels(self.ticker, [("100", "1")]))
            if self.view.oracle is not None:
                self.take(self.wire(at).oracle(self.ticker, "100.5"))
        self._wire.seq += 1
        seq = self._wire.seq
        scores = {name: Score(self.ticker, name, v, (), seq) for name, v in values.items()}
        return scored_by(self.view, scores, seq, stamp(at))

    def book(self, at: float, bid: str = "100", ask: str | None = "101") -> None:
        """Snapshot a book; without an ask it has one side."""
        asks = [(ask, "1")] if ask else []
        self.take(self.wire(at).book(self.ticker, [(bid, "1")], asks))

    def trading(self, at: float, **fields: object) -> None:
        """Change fields of the market."""
        self.take(self.wire(at).trading(self.ticker, **fields))

    def close(self, at: float) -> None:
        """Lose the connection, and with it the book."""
        self.take(self.wire(at).event("close"))

    def silence(self, at: float) -> None:
        """Let only the clock speak, from here on."""
        self.alive = False
        self.take(self.wire(at).event("tick", link=""))

    def wire(self, at: float) -> WireWriter:
        """Return what writes at a time."""
        self._wire.at = self._wire.mono = stamp(at)
        return self._wire

    def take(self, frame: Frame) -> None:
        """Fold one frame."""
        for _ in step(self.state, frame):
            pass


@dataclass
class Set:
    """Scores that a test has set, of every market that it scored so far: always of this frame."""

    seq: int
    views: dict[str, MarketView]
    made: dict[str, dict[str, Score]]

    def read(self, ticker: str, signal: str) -> Score | None:
        """Return a score that was set."""
        return self.made[ticker].get(signal)

    def scores(self, ticker: str) -> tuple[Score, ...]:
        """Return the scores that were set."""
        return (*self.made[ticker].values(),)

    def values(self, ticker: str) -> dict[str, float]:
        """Return the values that were set."""
        return {signal: score.value for signal, score in self.made[ticker].items()}


# What was scored last in each market, by whatever test.
_VIEWS: dict[str, MarketView] = {}
_MADE: dict[str, dict[str, Score]] = {}


def scored_by(view: MarketView, scores: dict[str, Score], seq: int, at: int) -> Scored:
    """Score a market, beside all that were scored before."""
    _VIEWS[view.ticker], _MADE[view.ticker] = view, scores
    return Scored(view.ticker, seq, at, Set(seq, {**_VIEWS}, {**_MADE}))


class Account:
    """An account in which whatever is decided is held at once, unless a test holds less."""

    def __init__(self, equity_usdc: float | None = 10_000.0, **usdc: float) -> None:
        self.equity_usdc = equity_usdc
        self.usdc = {ticker.replace("_", "-"): value for ticker, value in usdc.items()}
        self.closed = False

    @property
    def held(self) -> Holdings:
        """Everything it holds, in base units of 100 USDC."""
        rows = [
            Held(ticker=t, size=Decimal(round(x)) / 100, usdc=x, entry_price=100.0, seq=1, at=START)
            for t, x in self.usdc.items()
            if x
        ]
        return Holdings({row.ticker: row for row in rows}, self.equity_usdc, self.closed)

    def take(self, decided: Iterable[Decision]) -> list[Decision]:
        """Hold what was decided, and return it."""
        decisions = list(decided)
        for one in decisions:
            if one.action == "target":
                self.usdc[one.ticker] = one.target_usdc
        return decisions


def stamp(at: float) -> int:
    """Turn seconds after the start into a time."""
    return START + round(at * SECOND)
