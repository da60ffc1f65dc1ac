"""Frames as the wire would bring them, written one message at a time."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from dydx_conn import Frame, WireWriter, market_fields
from dydx_data import DataState, MarketView, step
from dydx_signals import STANDARD, Engine, Score, Scored, Scorer

SECOND = 1_000_000_000


class Tape:
    """The frames of some markets, of which no price and no rate is known at first.

    `at` is seconds after the start, and may go back.
    """

    def __init__(self, *tickers: str) -> None:
        self._wire = WireWriter()
        self._start, self._mono = self._wire.at, self._wire.mono
        known = [market_fields(ticker, price=None, nextFundingRate=None) for ticker in tickers]
        self.frames: list[Frame] = [self._wire.message("connected"), self._wire.markets(*known)]

    def wire(self, at: float) -> WireWriter:
        """Return what writes at a time."""
        past = round(at * SECOND)
        self._wire.at, self._wire.mono = self._start + past, self._mono + past
        return self._wire

    def book(
        self, at: float, ticker: str, bid: float, ask: float, bids: float = 1, asks: float = 1
    ) -> None:
        """Begin with a book of one level a side, or none where its size is 0."""
        sides = [[(price, size)] if size else [] for price, size in ((bid, bids), (ask, asks))]
        self.frames.append(self.wire(at).book(ticker, *sides))

    def trade(self, at: float, ticker: str, price: float, size: float) -> None:
        """Print one trade."""
        self.frames.append(self.wire(at).trade(ticker, "BUY", size, price))

    def oracle(self, at: float, ticker: str, price: float) -> None:
        """Change an oracle price."""
        self.frames.append(self.wire(at).oracle(ticker, price))

    def funding(self, at: float, ticker: str, rate: str) -> None:
        """Change a funding rate."""
        self.frames.append(self.wire(at).trading(ticker, nextFundingRate=rate))

    def wait(self, at: float) -> None:
        """Let a time come in which nothing happens."""
        self.frames.append(self.wire(at).event("tick", link="clock"))

    def close(self, at: float) -> None:
        """Lose the connection."""
        self.frames.append(self.wire(at).event("close"))


def views(frames: Iterable[Frame]) -> Iterable[MarketView]:
    """Fold frames into views, one at a time: a view is only read before the next."""
    # Other markets' frames decide when a silence is noticed: no silence here is that long.
    state = DataState(stale_after_ns=10**18)
    for frame in frames:
        yield from step(state, frame)


class Read(NamedTuple):
    """All that a `Scored` was when it was read, within its frame."""

    ticker: str
    seq: int
    at: int
    scores: tuple[Score, ...]

    @classmethod
    def of(cls, scored: Scored) -> Self:
        """Read it now."""
        return cls(scored.ticker, scored.seq, scored.at, scored.scores)

    def value(self, signal: str) -> float | None:
        """Return the value of one signal; None if it is absent."""
        return next((score.value for score in self.scores if score.signal == signal), None)


def scored(
    frames: Iterable[Frame], engines: Iterable[Callable[[], Engine]] = STANDARD
) -> list[Read]:
    """Score frames with some engines, and read all scores with every tick."""
    scorer = Scorer(engines)
    return [Read.of(one) for view in views(frames) for one in scorer.step(view)]
