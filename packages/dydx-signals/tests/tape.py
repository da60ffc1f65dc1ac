"""Frames as the wire would bring them, written one message at a time."""

import json
from collections.abc import Callable, Iterable

from dydx_conn import Frame, ws_frame
from dydx_data import DataState, MarketView, step
from dydx_signals import STANDARD, Engine, Scored, Scorer

SECOND = 1_000_000_000
START = 1_784_000_000 * SECOND


class Tape:
    """Writes frames; `at` is seconds after the start. Message ids count as the venue's do."""

    def __init__(self, *tickers: str) -> None:
        self.frames: list[Frame] = []
        self.write(0, {"type": "connected"})
        described = {ticker: DESCRIPTION | {"ticker": ticker} for ticker in tickers}
        self.write(0, subscribed("v4_markets", "", {"markets": described}))

    def write(self, at: float, message: dict[str, object]) -> None:
        count = len(self.frames)
        text = json.dumps({"connection_id": "c", "message_id": count} | message)
        stamp = START + round(at * SECOND)
        self.frames.append(ws_frame(count + 1, stamp, stamp, "c1", text))

    def book(
        self, at: float, ticker: str, bid: float, ask: float, bids: float = 1, asks: float = 1
    ) -> None:
        """Snapshot a book of one level a side."""
        contents = {
            "bids": [{"price": str(bid), "size": str(bids)}] if bids else [],
            "asks": [{"price": str(ask), "size": str(asks)}] if asks else [],
        }
        self.write(at, subscribed("v4_orderbook", ticker, contents))

    def trade(self, at: float, ticker: str, price: float, size: float, made: float = 0) -> None:
        """Tell of one trade, made `made` seconds after the start."""
        second = int(made or at)
        trade = {
            "id": f"t{len(self.frames)}",
            "side": "BUY",
            "size": str(size),
            "price": str(price),
            "type": "LIMIT",
            "createdAt": f"2026-07-14T03:{second // 60:02d}:{second % 60:02d}.000Z",
            "createdAtHeight": "1",
        }
        self.write(at, update("v4_trades", ticker, {"trades": [trade]}))

    def oracle(self, at: float, ticker: str, price: float) -> None:
        prices = {"oraclePrices": {ticker: {"oraclePrice": str(price)}}}
        self.write(at, update("v4_markets", "", prices))

    def funding(self, at: float, ticker: str, rate: str) -> None:
        trading = {"trading": {ticker: {"nextFundingRate": rate}}}
        self.write(at, update("v4_markets", "", trading))

    def close(self, at: float) -> None:
        stamp = START + round(at * SECOND)
        count = len(self.frames) + 1
        self.frames.append(Frame(seq=count, at=stamp, mono=stamp, link="c1", kind="close", text=""))


DESCRIPTION = {
    "clobPairId": "0",
    "status": "ACTIVE",
    "initialMarginFraction": "0.05",
    "maintenanceMarginFraction": "0.03",
    "atomicResolution": -9,
    "quantumConversionExponent": -9,
    "stepBaseQuantums": 1_000_000,
    "subticksPerTick": 100_000,
}


def subscribed(channel: str, id_: str, contents: object) -> dict[str, object]:
    """Make a snapshot message."""
    return {"type": "subscribed", "channel": channel, "contents": contents} | _id(id_)


def update(channel: str, id_: str, contents: object) -> dict[str, object]:
    """Make an update message."""
    message = {"type": "channel_data", "channel": channel, "version": "1.0.0"}
    return message | {"contents": contents} | _id(id_)


def _id(id_: str) -> dict[str, object]:
    return {"id": id_} if id_ else {}


def views(frames: Iterable[Frame]) -> Iterable[MarketView]:
    """Fold frames into views, one at a time: a view is only read before the next."""
    # Other markets' frames decide when a silence is noticed: no silence here is that long.
    state = DataState(stale_after_ns=10**18)
    for frame in frames:
        yield from step(state, frame)


def scored(
    frames: Iterable[Frame], engines: Iterable[Callable[[], Engine]] = STANDARD
) -> list[Scored]:
    """Score frames with some engines."""
    scorer = Scorer(engines)
    return [one for view in views(frames) for one in scorer.step(view)]
