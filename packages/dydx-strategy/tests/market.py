"""Markets whose views come from frames, and whose scores are whatever a test sets."""

import json
from collections.abc import Iterable
from decimal import Decimal

from dydx_conn import Frame, ws_frame
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
        self.seq = self.messages = 0
        self.alive, self.fresh_at = True, 0.0
        self.write(0, "subscribed", "v4_markets", {"markets": {ticker: DESCRIPTION | fields}})
        self.book(0)

    @property
    def view(self) -> MarketView:
        """The market's view, updated in place."""
        return self.state.views[self.ticker]

    def scored(self, at: float, **values: float) -> Scored:
        """Return scores at a time, of a market whose book and price are fresh."""
        if self.alive and at - self.fresh_at > 10:
            self.fresh_at = at
            self.write(at, "channel_data", "v4_orderbook", {"bids": [["100", "1"]]})
            if self.view.oracle is not None:
                prices = {self.ticker: {"oraclePrice": "100.5"}}
                self.write(at, "channel_data", "v4_markets", {"oraclePrices": prices})
        self.seq += 1
        scores = tuple(Score(self.ticker, name, v, (), self.seq) for name, v in values.items())
        return Scored(self.ticker, self.seq, stamp(at), self.view, scores)

    def book(self, at: float, bid: str = "100", ask: str | None = "101") -> None:
        """Snapshot a book; without an ask it has one side."""
        asks = [{"price": ask, "size": "1"}] if ask else []
        contents = {"bids": [{"price": bid, "size": "1"}], "asks": asks}
        self.write(at, "subscribed", "v4_orderbook", contents)

    def trading(self, at: float, **fields: object) -> None:
        """Change fields of the market."""
        self.write(at, "channel_data", "v4_markets", {"trading": {self.ticker: fields}})

    def close(self, at: float) -> None:
        """Lose the connection, and with it the book."""
        self.take(Frame(seq=self.seq, at=stamp(at), mono=0, link="c1", kind="close", text=""))

    def silence(self, at: float) -> None:
        """Let only the clock speak, from here on."""
        self.alive = False
        self.take(Frame(seq=self.seq, at=stamp(at), mono=0, link="", kind="tick", text=""))

    def write(self, at: float, type_: str, channel: str, contents: object) -> None:
        """Bring one message."""
        self.seq += 1
        self.messages += 1
        head = {"type": type_, "connection_id": "c", "channel": channel}
        message = head | {"message_id": self.messages}
        id_ = {} if channel == "v4_markets" else {"id": self.ticker}
        text = json.dumps(message | id_ | {"contents": contents})
        self.take(ws_frame(self.seq, stamp(at), 0, "c1", text))

    def take(self, frame: Frame) -> None:
        """Fold one frame."""
        for _ in step(self.state, frame):
            pass


class Account:
    """An account in which whatever is decided is held at once, unless a test holds less."""

    def __init__(self, equity_usdc: float | None = 10_000.0, **usdc: float) -> None:
        self.equity_usdc = equity_usdc
        self.usdc = {ticker.replace("_", "-"): value for ticker, value in usdc.items()}

    @property
    def held(self) -> Holdings:
        """Everything it holds, in base units of 100 USDC."""
        rows = [
            Held(ticker=t, size=Decimal(round(x)) / 100, usdc=x, entry_price=100.0, seq=1, at=START)
            for t, x in self.usdc.items()
            if x
        ]
        return Holdings({row.ticker: row for row in rows}, self.equity_usdc)

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


DESCRIPTION: dict[str, object] = {
    "clobPairId": "0",
    "status": "ACTIVE",
    "oraclePrice": "100.5",
    "initialMarginFraction": "0.05",
    "maintenanceMarginFraction": "0.03",
    "atomicResolution": -9,
    "quantumConversionExponent": -9,
    "stepBaseQuantums": 1_000_000,
    "subticksPerTick": 100_000,
}
