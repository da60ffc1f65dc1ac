"""Wire texts of a small exchange, so that the venue under test meets real views."""

import json
from typing import Any

from dydx_conn import (
    CancelRequest,
    Frame,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    WireWriter,
    contents,
    market_fields,
)
from dydx_data import DataState, MarketView, step
from dydx_paper import NEVER, Ledger, LedgerPosition, PaperVenue, Stamp

OWNER = Subaccount("dydx1paper", 0)
HOUR = 3_600
START = 1_700_000_000 - 1_700_000_000 % HOUR  # on an hour
USDC = 1_000_000

BTC = market_fields("BTC-USD", price="50000", nextFundingRate="0.00001", openInterest="100")
ETH = market_fields("ETH-USD", price="2000", nextFundingRate="-0.00002")


class Exchange:
    """An indexer, the data layer behind it, and one paper account on it."""

    def __init__(self, venue: PaperVenue | None = None, deposit: int = 100_000 * USDC):
        self.state = DataState()
        self.venue = venue or PaperVenue(OWNER, deposit)
        self.frames: list[Frame] = []
        self.seq = 0
        self.second = 0
        self.height = 0
        self.client = 0
        self._wire = WireWriter()

    # --- the world moves

    def open(self, height: int = 1_000, second: int = 10) -> "Exchange":
        """Send the snapshots: markets, a block, and a book for BTC."""
        self.see(self.wire.message("connected"))
        self.block(height, second, snapshot=True)
        self.see(self.wire.markets(BTC, ETH))
        self.book([(49_999, 1), (49_990, 2)], [(50_001, 1), (50_010, 2)])
        return self

    def book(self, bids: list[Any], asks: list[Any], ticker: str = "BTC-USD") -> list[Frame]:
        """Replace a book."""
        return self.see(self.wire.book(ticker, bids, asks))

    def change(
        self, bids: list[Any] | None = None, asks: list[Any] | None = None, ticker: str = "BTC-USD"
    ) -> list[Frame]:
        """Change levels of a book."""
        return self.see(self.wire.levels(ticker, bids or [], asks or []))

    def trade(self, side: Side, size: Any, price: Any, ticker: str = "BTC-USD") -> list[Frame]:
        """Print a trade on the tape, a second later."""
        self.second += 1
        return self.see(self.wire.trade(ticker, side, size, price))

    def block(
        self, height: int | None = None, second: int | None = None, *, snapshot: bool = False
    ) -> list[Frame]:
        """Make a block; the market's next frame shows it."""
        self.height = self.height + 1 if height is None else height
        self.second = self.second + 1 if second is None else second
        return self.see(self.wire.block(self.height, snapshot=snapshot))

    def oracle(self, price: Any, ticker: str = "BTC-USD") -> list[Frame]:
        """Move an oracle price."""
        return self.see(self.wire.oracle(ticker, price))

    def update(self, ticker: str, **fields: Any) -> list[Frame]:
        """Change a market's description."""
        return self.see(self.wire.trading(ticker, **fields))

    def lose(self) -> list[Frame]:
        """Lose the connection."""
        return self.see(self.wire.event("close"))

    # --- we act

    def order(
        self,
        side: str,
        size: str,
        price: str,
        tif: str = "IOC",
        ticker: str = "BTC-USD",
        **fields: Any,
    ) -> list[Frame]:
        """Send an order; `client` names it by default."""
        market = self.market(ticker)
        self.client += 1
        fields = {"client_id": self.client, "good_til_block": self.height + 20} | fields
        request = OrderRequest(
            ticker=ticker,
            clob_pair_id=market.clob_pair_id,
            side=side,  # type: ignore[arg-type]
            quantums=fields.pop("quantums", None) or market.quantums(size),
            subticks=fields.pop("subticks", None) or market.subticks(price),
            time_in_force=tif,  # type: ignore[arg-type]
            **fields,
        )
        return self.keep(self.venue.step(request))

    def cancel(self, client: int, ticker: str = "BTC-USD", **fields: Any) -> list[Frame]:
        """Send a cancel."""
        fields = {"good_til_block": self.height + 20} | fields
        request = CancelRequest(
            ticker=ticker, clob_pair_id=self.market(ticker).clob_pair_id, client_id=client, **fields
        )
        return self.keep(self.venue.step(request))

    def market(self, ticker: str = "BTC-USD") -> PerpetualMarket:
        """Return a market's parameters."""
        market = self.state.views[ticker].market
        assert market is not None
        return market

    # --- underneath

    @property
    def at(self) -> int:
        """Return the time of reception."""
        return (START + self.second) * 1_000_000_000

    @property
    def wire(self) -> WireWriter:
        """Return what writes the next frame."""
        wire = self._wire
        wire.seq, wire.at, wire.mono, wire.height = self.seq, self.at, self.at, self.height
        return wire

    def see(self, frame: Frame) -> list[Frame]:
        """Let a frame rise to the venue."""
        self.seq = frame.seq
        made: list[Frame] = []
        views: list[MarketView] = list(step(self.state, frame))
        for view in views:
            made += self.venue.step(view)
        return self.keep(made)

    def keep(self, made: list[Frame]) -> list[Frame]:
        """Remember the account frames of the whole run."""
        self.frames += made
        return made


def iso(second: int) -> str:
    """Write a second of the exchange's clock."""
    import datetime

    moment = datetime.datetime.fromtimestamp(START + second, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bodies(frames: list[Frame]) -> list[Any]:
    """Return the contents of each frame, as the parsed JSON, once dydx_conn has read it."""
    assert all(contents(frame) or '"contents":{}' in frame.text for frame in frames)
    return [json.loads(frame.text)["contents"] for frame in frames]


def body(frames: list[Frame]) -> Any:
    """Return what frames come to: all fills, and of all else what was reported last."""
    merged: dict[str, Any] = {}
    assert frames
    for part in bodies(frames):
        merged |= {name: what for name, what in part.items() if not isinstance(what, list)}
        for name, key in _KEYS.items():
            rows = {row[key]: row for row in merged.get(name, [])}
            for row in part.get(name, []):
                rows[row[key]] = rows.get(row[key], {}) | row
            merged |= {name: list(rows.values())} if rows else {}
    return merged


_KEYS = {
    "fills": "id",
    "orders": "id",
    "perpetualPositions": "positionId",
    "assetPositions": "symbol",
}


def settle_funding(
    ledger: Ledger, indices: dict[str, int], when: Stamp = NEVER
) -> list[LedgerPosition]:
    """Take in funding indices and settle at once; return the positions touched."""
    ledger.accrue(indices, when)
    return ledger.settle(when)
