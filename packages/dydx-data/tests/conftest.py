"""Wire texts as the indexer sends them, numbered and stamped like one connection's."""

import json
from typing import Any

import pytest
from dydx_conn import Frame, ws_frame
from hypothesis import HealthCheck, settings

# A property is about what comes out, not about how busy the machine was.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SECOND = 1_000_000_000
# 2026-01-01T00:00:00Z
NEW_YEAR = 1_767_225_600 * SECOND
_BOOT = NEW_YEAR - 1_000 * SECOND  # where `mono` counts from


class Wire:
    """One connection: each call makes its next frame; `at` is moved by the test.

    `skew` is what the wall clock has jumped by; `mono` goes on whatever it does.
    """

    def __init__(self, link: str = "c1") -> None:
        self.link = link
        self.seq = 0
        self.at = NEW_YEAR
        self.skew = 0
        self.number = 0

    def raw(self, text: str) -> Frame:
        self.seq += 1
        return ws_frame(self.seq, self.at + self.skew, self.at - _BOOT, self.link, text)

    def message(
        self, type_: str, channel: str, id_: str | None, contents: Any, **more: Any
    ) -> Frame:
        self.number += 1
        body = {"type": type_, "connection_id": "4d", "message_id": self.number, "channel": channel}
        if id_ is not None:
            body["id"] = id_
        return self.raw(json.dumps({**body, "contents": contents, **more}))

    def frame(self, kind: str, **fields: Any) -> Frame:
        self.seq += 1
        fields = {"link": self.link, "text": "", **fields}
        stamps: Any = {"at": self.at + self.skew, "mono": self.at - _BOOT}
        return Frame(seq=self.seq, kind=kind, **stamps, **fields)

    def answer(self, path: str, body: Any, status: str = "200") -> Frame:
        text = body if isinstance(body, str) else json.dumps(body)
        return self.frame("http", link="rest", channel=path, type=status, text=text)

    def snapshot(
        self, bids: list[Any], asks: list[Any], ticker: str = "BTC-USD", **more: Any
    ) -> Frame:
        levels = {"bids": _levels(bids), "asks": _levels(asks)}
        return self.message("subscribed", "v4_orderbook", ticker, levels, **more)

    def book(self, *updates: Any, ticker: str = "BTC-USD", **more: Any) -> Frame:
        return self.message("channel_batch_data", "v4_orderbook", ticker, list(updates), **more)

    def trades(self, *trades: Any, ticker: str = "BTC-USD", type_: str = "channel_data") -> Frame:
        return self.message(type_, "v4_trades", ticker, {"trades": list(trades)})

    def markets(self, contents: Any, type_: str = "channel_data") -> Frame:
        return self.message(type_, "v4_markets", None, contents)

    def height(self, height: int, time: str) -> Frame:
        return self.message(
            "channel_data", "v4_block_height", None, {"blockHeight": str(height), "time": time}
        )


def _levels(pairs: list[Any]) -> list[dict[str, str]]:
    return [{"price": price, "size": size} for price, size in pairs]


MARKET = {
    "clobPairId": "0",
    "ticker": "BTC-USD",
    "status": "ACTIVE",
    "oraclePrice": "100.5",
    "priceChange24H": "1",
    "volume24H": "1",
    "trades24H": 1,
    "nextFundingRate": "0.00001",
    "initialMarginFraction": "0.05",
    "maintenanceMarginFraction": "0.03",
    "openInterest": "12.5",
    "atomicResolution": -10,
    "quantumConversionExponent": -9,
    "tickSize": "1",
    "stepSize": "0.0001",
    "stepBaseQuantums": 1000000,
    "subticksPerTick": 100000,
    "marketType": "CROSS",
}


@pytest.fixture(scope="session")
def wire() -> type[Wire]:
    """The connection to write frames with."""
    return Wire


@pytest.fixture
def market() -> dict[str, Any]:
    """One market as a snapshot describes it."""
    return dict(MARKET)


@pytest.fixture(scope="session")
def trade() -> Any:
    """A trade as the venue writes it: `trade(id, side, size, price, createdAt)`."""

    def make(id_: str, side: str, size: str, price: str, created_at: str) -> dict[str, str]:
        return {
            "id": id_,
            "side": side,
            "size": size,
            "price": price,
            "createdAt": created_at,
            "type": "LIMIT",
        }

    return make
