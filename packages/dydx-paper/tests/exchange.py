"""Wire texts of a small exchange, so that the venue under test meets real views."""

import json
from typing import Any

from dydx_conn import (
    CancelRequest,
    Frame,
    OrderRequest,
    PerpetualMarket,
    Subaccount,
    contents,
    ws_frame,
)
from dydx_data import DataState, MarketView, step
from dydx_paper import NEVER, Ledger, LedgerPosition, PaperVenue, Stamp

OWNER = Subaccount("dydx1paper", 0)
HOUR = 3_600
START = 1_700_000_000 - 1_700_000_000 % HOUR  # on an hour
USDC = 1_000_000

MARKETS: dict[str, dict[str, Any]] = {
    "BTC-USD": {
        "clobPairId": "0",
        "ticker": "BTC-USD",
        "status": "ACTIVE",
        "oraclePrice": "50000",
        "nextFundingRate": "0.00001",
        "initialMarginFraction": "0.05",
        "maintenanceMarginFraction": "0.03",
        "openInterest": "100",
        "atomicResolution": -10,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1_000_000,
        "subticksPerTick": 100_000,
    },
    "ETH-USD": {
        "clobPairId": "1",
        "ticker": "ETH-USD",
        "status": "ACTIVE",
        "oraclePrice": "2000",
        "nextFundingRate": "-0.00002",
        "initialMarginFraction": "0.05",
        "maintenanceMarginFraction": "0.03",
        "openInterest": "1000",
        "atomicResolution": -9,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1_000_000,
        "subticksPerTick": 100_000,
    },
}


class Exchange:
    """An indexer, the data layer behind it, and one paper account on it."""

    def __init__(self, venue: PaperVenue | None = None, deposit: int = 100_000 * USDC):
        self.state = DataState()
        self.venue = venue or PaperVenue(OWNER, deposit)
        self.frames: list[Frame] = []
        self.seq = 0
        self.message = 0
        self.second = 0
        self.height = 0
        self.client = 0

    # --- the world moves

    def open(self, height: int = 1_000, second: int = 10) -> "Exchange":
        """Send the snapshots: markets, a block, and a book for BTC."""
        self.feed({"type": "connected"})
        self.block(height, second, "subscribed")
        self.send("v4_markets", "", {"markets": MARKETS}, "subscribed")
        self.book([(49_999, 1), (49_990, 2)], [(50_001, 1), (50_010, 2)])
        return self

    def book(self, bids: list[Any], asks: list[Any], ticker: str = "BTC-USD") -> list[Frame]:
        """Replace a book."""
        levels = {
            side: [{"price": str(price), "size": str(size)} for price, size in pairs]
            for side, pairs in (("bids", bids), ("asks", asks))
        }
        return self.send("v4_orderbook", ticker, levels, "subscribed")

    def change(
        self, bids: list[Any] | None = None, asks: list[Any] | None = None, ticker: str = "BTC-USD"
    ) -> list[Frame]:
        """Change levels of a book."""
        sides = {"bids": bids or [], "asks": asks or []}
        levels = {side: [[str(p), str(s)] for p, s in pairs] for side, pairs in sides.items()}
        return self.send("v4_orderbook", ticker, levels)

    def trade(self, side: str, size: Any, price: Any, ticker: str = "BTC-USD") -> list[Frame]:
        """Print a trade on the tape, a second later."""
        self.second += 1
        fields = {
            "id": f"t{self.seq}",
            "side": side,
            "size": str(size),
            "price": str(price),
            "type": "LIMIT",
            "createdAt": iso(self.second),
            "createdAtHeight": str(self.height),
        }
        return self.send("v4_trades", ticker, {"trades": [fields]})

    def block(
        self, height: int | None = None, second: int | None = None, type_: str = "channel_data"
    ) -> list[Frame]:
        """Make a block; the market's next frame shows it."""
        self.height = self.height + 1 if height is None else height
        self.second = self.second + 1 if second is None else second
        name = "height" if type_ == "subscribed" else "blockHeight"
        return self.send(
            "v4_block_height", "", {name: str(self.height), "time": iso(self.second)}, type_
        )

    def oracle(self, price: Any, ticker: str = "BTC-USD") -> list[Frame]:
        """Move an oracle price."""
        fields = {"oraclePrice": str(price), "effectiveAtHeight": str(self.height)}
        return self.send("v4_markets", "", {"oraclePrices": {ticker: fields}})

    def update(self, ticker: str, **fields: Any) -> list[Frame]:
        """Change a market's description."""
        return self.send("v4_markets", "", {"trading": {ticker: fields}})

    def lose(self) -> list[Frame]:
        """Lose the connection."""
        self.seq += 1
        return self.see(Frame(seq=self.seq, at=self.at, mono=0, link="c1", kind="close", text=""))

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

    def send(
        self, channel: str, id_: str, contents: Any, type_: str = "channel_data"
    ) -> list[Frame]:
        """Send a message of a channel."""
        message = {"type": type_, "channel": channel, "contents": contents}
        return self.feed(message | ({"id": id_} if id_ else {}))

    def feed(self, message: dict[str, Any]) -> list[Frame]:
        """Send a message, numbered."""
        numbered = message | {"connection_id": "c", "message_id": self.message}
        self.message += 1
        self.seq += 1
        return self.see(ws_frame(self.seq, self.at, self.at, "c1", json.dumps(numbered)))

    def see(self, frame: Frame) -> list[Frame]:
        """Let a frame rise to the venue."""
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


def body(frames: list[Frame]) -> Any:
    """Return the contents of the one frame there is, as the parsed JSON."""
    assert len(frames) == 1, frames
    assert contents(frames[0])
    return json.loads(frames[0].text)["contents"]


def settle_funding(
    ledger: Ledger, indices: dict[str, int], when: Stamp = NEVER
) -> list[LedgerPosition]:
    """Take in funding indices and settle at once; return the positions touched."""
    ledger.accrue(indices, when)
    return ledger.settle(when)
