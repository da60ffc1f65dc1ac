"""Play the texts of a recording through nautilus_trader: one side of `tools/bench.py peer`.

    text ─► msgspec ─► OrderBookDeltas, TradeTick ─► BacktestEngine ─► Score (a Strategy) ─► orders

It is written as its users would: the wire's JSON is decoded into typed structs, a price or size is
made by `Price(float, precision)`, which is its fastest way from text, a snapshot is a clear and
adds, and an update of a batch is one delta a level. The engine runs its order books (L2_MBP), its
risk engine and a simulated venue with margin; the strategy takes the mid price of each update into
two exponential averages, makes of them and of the best sizes a score of 0 to 100, buys or sells
above 70 or below 30 and closes between 45 and 55. Logging and the analysis at the end are off.

It runs in an environment of its own (bench_peer) and imports none of the bot but its recordings.
"""

import gc
import json
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import Recording, find_recording

warnings.simplefilter("ignore")  # of pandas, which nautilus_trader calls by names that are to go

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig  # noqa: E402
from nautilus_trader.config import LoggingConfig  # noqa: E402
from nautilus_trader.indicators import ExponentialMovingAverage  # noqa: E402
from nautilus_trader.model.currencies import USDC  # noqa: E402
from nautilus_trader.model.data import (  # noqa: E402
    BookOrder,
    OrderBookDelta,
    OrderBookDeltas,
    TradeTick,
)
from nautilus_trader.model.enums import (  # noqa: E402
    AccountType,
    AggressorSide,
    BookAction,
    BookType,
    OmsType,
    OrderSide,
)
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue  # noqa: E402
from nautilus_trader.model.instruments import CryptoPerpetual  # noqa: E402
from nautilus_trader.model.objects import Currency, Money, Price, Quantity  # noqa: E402
from nautilus_trader.trading.strategy import Strategy  # noqa: E402

VENUE: Final = Venue("DYDX")
STAKE_USDC: Final = 500.0

# === Wire ===


class Envelope(msgspec.Struct):
    """A message of the indexer, its contents not decoded yet."""

    type: str
    channel: str = ""
    id: str = ""
    contents: msgspec.Raw = msgspec.Raw(b"null")


class Level(msgspec.Struct):
    """A level of a snapshot."""

    price: str
    size: str


class Snapshot(msgspec.Struct):
    """A whole book."""

    bids: list[Level]
    asks: list[Level]


class Update(msgspec.Struct):
    """Levels that changed: price, size, offset."""

    bids: list[tuple[str, ...]] = []
    asks: list[tuple[str, ...]] = []


class Trade(msgspec.Struct):
    """A trade of the tape."""

    id: str
    side: str
    price: str
    size: str


class Trades(msgspec.Struct):
    """The trades of one update."""

    trades: list[Trade]


class Market(msgspec.Struct, rename="camel"):
    """What a market's instrument is made of."""

    tick_size: str
    step_size: str
    initial_margin_fraction: str
    maintenance_margin_fraction: str


class Markets(msgspec.Struct):
    """All markets, as the snapshot of v4_markets has them."""

    markets: dict[str, Market]


_envelope = msgspec.json.Decoder(Envelope).decode
_snapshot = msgspec.json.Decoder(Snapshot).decode
_updates = msgspec.json.Decoder(list[Update]).decode
_trades = msgspec.json.Decoder(list[Trades]).decode
_markets = msgspec.json.Decoder(Markets).decode


class Reader:
    """Makes nautilus's data of texts, and an instrument of each market that it learns of."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._known: dict[str, tuple[Any, int, int]] = {}  # by ticker: id, both precisions

    def read(self, at: int, text: str) -> Sequence[Any]:
        """Return what a message holds for the engine."""
        head = _envelope(text)
        if head.channel == "v4_markets" and head.type == "subscribed":
            self._learn(at, _markets(head.contents))
        elif head.id in self._known and head.channel == "v4_orderbook":
            deltas = [*(self._whole if head.type == "subscribed" else self._changed)(at, head)]
            return [OrderBookDeltas(self._known[head.id][0], deltas)] if deltas else ()
        elif head.id in self._known and head.channel == "v4_trades" and head.type != "subscribed":
            return [*self._ticks(at, head)]
        return ()

    def _whole(self, at: int, head: Envelope) -> Iterator[Any]:
        known, prices, sizes = self._known[head.id]
        book = _snapshot(head.contents)
        yield OrderBookDelta.clear(known, 0, at, at)
        for side, levels in ((OrderSide.BUY, book.bids), (OrderSide.SELL, book.asks)):
            for level in levels:
                price, size = Price(float(level.price), prices), Quantity(float(level.size), sizes)
                order = BookOrder(side, price, size, 0)
                yield OrderBookDelta(known, BookAction.ADD, order, 0, 0, at, at)

    def _changed(self, at: int, head: Envelope) -> Iterator[Any]:
        known, prices, sizes = self._known[head.id]
        for update in _updates(head.contents):
            for side, levels in ((OrderSide.BUY, update.bids), (OrderSide.SELL, update.asks)):
                for level in levels:
                    size = float(level[1])
                    action = BookAction.UPDATE if size else BookAction.DELETE
                    price = Price(float(level[0]), prices)
                    order = BookOrder(side, price, Quantity(size, sizes), 0)
                    yield OrderBookDelta(known, action, order, 0, 0, at, at)

    def _ticks(self, at: int, head: Envelope) -> Iterator[Any]:
        known, prices, sizes = self._known[head.id]
        for update in _trades(head.contents):
            for trade in update.trades:
                buys = trade.side == "BUY"
                yield TradeTick(
                    known, Price(float(trade.price), prices), Quantity(float(trade.size), sizes),
                    AggressorSide.BUYER if buys else AggressorSide.SELLER, TradeId(trade.id),
                    at, at,
                )  # fmt: skip

    def _learn(self, at: int, found: Markets) -> None:
        for ticker, market in found.markets.items():
            known = InstrumentId(Symbol(f"{ticker}-PERP"), VENUE)
            prices, sizes = precision(market.tick_size), precision(market.step_size)
            self._known[ticker] = known, prices, sizes
            base = Currency.from_str(ticker.partition("-")[0])
            self._engine.add_instrument(
                CryptoPerpetual(
                    known, Symbol(ticker), base, USDC, USDC, False, prices, sizes,
                    Price.from_str(market.tick_size), Quantity.from_str(market.step_size), at, at,
                    margin_init=Decimal(market.initial_margin_fraction),
                    margin_maint=Decimal(market.maintenance_margin_fraction),
                    maker_fee=Decimal("0.0001"), taker_fee=Decimal("0.0005"),
                )
            )  # fmt: skip


def precision(step: str) -> int:
    """Return how many places a step has."""
    exponent = Decimal(step).normalize().as_tuple().exponent
    return max(-int(exponent), 0)


# === Strategy ===


class Score(Strategy):  # type: ignore[misc]  # it ships no types
    """Trades on a score of two averages of the mid price and of the best sizes."""

    def on_start(self) -> None:
        """Subscribe to the book and the trades of each market."""
        self.orders = 0
        self.averages: dict[Any, tuple[Any, Any]] = {}
        for instrument in self.cache.instruments():
            fast, slow = ExponentialMovingAverage(20), ExponentialMovingAverage(200)
            self.averages[instrument.id] = fast, slow
            self.subscribe_order_book_deltas(instrument.id, book_type=BookType.L2_MBP)
            self.subscribe_trade_ticks(instrument.id)

    def on_order_book_deltas(self, deltas: Any) -> None:
        """Take one update of a book; trade if its score says so."""
        known = deltas.instrument_id
        book = self.cache.order_book(known)
        bid, ask = book.best_bid_price(), book.best_ask_price()
        if bid is None or ask is None:
            return
        mid = (float(bid) + float(ask)) / 2
        fast, slow = self.averages[known]
        fast.update_raw(mid)
        slow.update_raw(mid)
        if slow.initialized:
            bids, asks = float(book.best_bid_size()), float(book.best_ask_size())
            trend = 2e5 * (fast.value / slow.value - 1)
            self._trade(known, mid, 50 + trend + 10 * (bids - asks) / (bids + asks))

    def _trade(self, known: Any, mid: float, score: float) -> None:
        flat = self.portfolio.is_flat(known)
        if flat and not 30 <= score <= 70:
            self.orders += 1
            side = OrderSide.BUY if score > 70 else OrderSide.SELL
            size = self.cache.instrument(known).make_qty(STAKE_USDC / mid)
            self.submit_order(self.order_factory.market(known, side, size))
        elif not flat and 45 < score < 55:
            self.orders += 1
            self.close_all_positions(known)


# === Run ===


def play(recording: str, times: int = 2) -> dict[str, Any]:
    """Play a recording some times; return the least CPU, and memory."""
    frames = Recording(find_recording(recording))
    texts = [(frame.at, frame.text) for frame in frames if frame.kind == "ws"]
    runs = [_once(texts) for _ in range(times)]
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    least: dict[str, Any] = min(runs, key=lambda run: float(run["cpu_s"]))
    return {**least, "frames": len(texts), "memory_mb": memory_mb}


def _once(texts: Sequence[tuple[int, str]]) -> dict[str, Any]:
    gc.collect()
    gc.disable()  # on both sides: neither is to pay for what the other left
    began = time.process_time()
    config = BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
    engine = BacktestEngine(config)
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.MARGIN, [Money(10_000, USDC)], base_currency=USDC,
        default_leverage=Decimal(20), book_type=BookType.L2_MBP,
    )  # fmt: skip
    reader, strategy = Reader(engine), Score()
    found = [item for at, text in texts for item in reader.read(at, text)]
    parsed = time.process_time()
    engine.add_strategy(strategy)
    engine.add_data(found)
    engine.run()
    ended = time.process_time()
    gc.enable()
    filled = sum(order.is_closed and order.filled_qty > 0 for order in engine.cache.orders())
    orders = strategy.orders
    engine.dispose()
    return {
        "cpu_s": ended - began, "parsed_s": parsed - began, "orders": orders, "filled": filled,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[2])))
