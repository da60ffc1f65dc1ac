"""A venue of the past: no book was recorded, and what fills is rather too little than too much."""

from typing import Any

import pytest
from dydx_conn import HISTORY, WireWriter
from dydx_data import MarketView
from dydx_paper import FillRecord
from dydx_risk import funding_index_delta
from exchange import START, Exchange, iso

BTC = "BTC-USD"
HALF_BPS, IMPACT_BPS = 6.0, 2.0  # of such a market, where nobody calibrated
LATER = START + 86_400


class Past(Exchange):
    """An exchange of which trades or candles alone are known."""

    def __init__(self) -> None:
        super().__init__()
        self._wire = WireWriter(HISTORY)

    def begin(self, second: int = 10, rate: str = "0") -> "Past":
        """Describe the market, and how high the chain stands."""
        from exchange import BTC as FIELDS

        self.see(self.wire.event("open"))
        self.see(self.wire.message("connected"))
        self.see(self.wire.markets({**FIELDS, "oraclePrice": None, "nextFundingRate": rate}))
        self.block(1_000, second)
        return self

    def trades(self, price: Any, side: str = "BUY", size: Any = 1) -> None:
        """Make a block with a trade, and the quiet one after it."""
        self.block()
        self.see(self.wire.trades(BTC, self.row(price, side, size)))
        self.block()

    def row(self, price: Any, side: str, size: Any) -> dict[str, Any]:
        """Write a trade of now."""
        return {"side": side, "size": str(size), "price": str(price)}

    def candle(self, prices: tuple[Any, Any, Any, Any], volume: Any = 100) -> None:
        """Let a minute pass with its open, high, low and close."""
        start = self.second
        self.second += 59
        self.height += 1
        self.see(self.wire.block(self.height))
        self.second += 1
        open_, high, low, close = map(str, prices)
        self.see(self.wire.candles(BTC, "1MIN", {
            "startedAt": iso(start), "open": open_, "high": high, "low": low, "close": close,
            "baseTokenVolume": str(volume), "usdVolume": "1", "trades": 2,
        }))  # fmt: skip

    @property
    def view(self) -> MarketView:
        """Return the market as the data layer has it."""
        return self.state.views[BTC]

    @property
    def held(self) -> int:
        """Return the position, in quantums."""
        return self.venue.ledger.position(BTC)

    def fills(self) -> list[FillRecord]:
        """Return the fills, oldest first."""
        rows = self.venue.ledger.history.fills().rows
        return sorted(rows, key=lambda row: row.event)

    def entry(self) -> float:
        """Return the price of the newest fill."""
        return float(self.market().price(self.fills()[-1].subticks))


def test_a_taker_pays_the_modelled_spread_beyond_the_last_trade() -> None:
    """Half a spread and what the last buyer moved the price by: worse than the tape."""
    past = Past().begin()
    past.trades(50_000)

    past.order("BUY", "0.01", "51000")
    past.trades(50_000)

    assert past.entry() == pytest.approx(50_000 * (1 + IMPACT_BPS / 1e4), abs=1.0)
    past.order("SELL", "0.01", "49000")
    past.trades(50_000)
    assert past.entry() == pytest.approx(50_000 * (1 - 2 * HALF_BPS / 1e4), abs=1.5)


def test_a_large_taker_walks_the_modelled_depth() -> None:
    """What exceeds the best level is bought farther out."""
    past = Past().begin()
    past.trades(50_000)

    past.order("BUY", "2", "51000")
    past.trades(50_000)

    fills = [row.subticks for row in past.fills()]
    assert len(fills) > 2
    assert fills == sorted(fills)


def test_an_order_arrives_in_the_quiet_block_after_what_it_was_decided_on() -> None:
    """A market that is seldom traded is no reason to wait for its next trade."""
    past = Past().begin()
    past.block()
    past.see(past.wire.trades(BTC, past.row(50_000, "BUY", 1)))

    past.order("BUY", "0.01", "51000")
    past.block()

    assert past.held > 0


def test_a_resting_order_fills_only_when_traded_through() -> None:
    """At its price somebody may have stood before it: nobody knows, so nothing fills."""
    past = Past().begin()
    past.trades(50_000)
    past.order("BUY", "0.01", "49900", tif="POST_ONLY", good_til_block=1_015)
    past.trades(50_000)

    past.trades(49_900, "SELL")
    at_its_price = past.held
    past.trades(49_899, "SELL")

    assert (at_its_price, past.entry()) == (0, 49_900)


def test_a_modelled_touch_that_comes_to_a_resting_order_fills_nothing() -> None:
    """The modelled ask falls below it, yet nobody traded beyond its price."""
    past = Past().begin()
    past.trades(50_000)
    past.order("BUY", "0.01", "49990", tif="POST_ONLY", good_til_block=1_015)
    past.trades(50_000)

    past.trades(49_990, "BUY")

    assert past.held == 0


def test_what_was_taken_of_a_model_is_not_there_again_at_once() -> None:
    """A second order within the minute finds its depth gone, and pays more."""
    past = Past().begin(second=0)
    past.trades(50_000)
    past.order("BUY", "0.2", "51000")
    past.trades(50_000)
    first = past.entry()

    past.order("BUY", "0.2", "51000")
    past.trades(50_000)

    assert past.entry() > first


def test_of_candles_an_order_meets_the_next_open_and_pays_its_spread() -> None:
    """Decided at a close, it trades at the open that nobody knew then."""
    past = Past().begin()
    past.candle((50_000, 50_100, 49_900, 50_050))
    past.order("BUY", "0.01", "52000")
    past.block()
    waits = past.held

    past.candle((50_200, 50_900, 50_100, 50_800))

    assert waits == 0
    assert past.entry() == pytest.approx(50_200 * (1 + HALF_BPS / 1e4), abs=1.5)


def test_what_is_sent_within_a_candle_pays_the_worse_of_open_and_close() -> None:
    """The open was over when it was sent."""
    past = Past().begin()
    past.candle((50_000, 50_100, 49_900, 50_050))
    past.second += 5
    past.block()
    past.oracle(50_060)
    past.order("BUY", "0.01", "52000")
    past.second -= 6

    past.candle((50_200, 50_900, 50_100, 50_800))

    assert past.entry() == pytest.approx(50_800 * (1 + HALF_BPS / 1e4), abs=1.5)


def test_a_resting_order_needs_a_candle_to_go_beyond_its_price() -> None:
    """Touched is not traded through; then it fills at its own price, not at the low."""
    past = Past().begin()
    past.candle((50_000, 50_100, 49_900, 50_050))
    past.order("BUY", "0.01", "49900", tif="GTT", order_flags=64, good_til_block=0,
               good_til_block_time=LATER)  # fmt: skip
    past.candle((50_000, 50_100, 49_900, 50_000))
    touched = past.held

    past.candle((50_000, 50_100, 49_800, 50_000))

    assert (touched, past.entry()) == (0, 49_900)


STOPS = [
    # condition, trigger, candle, price before the spread
    ("STOP_LOSS", 49_500, (50_000, 50_100, 49_400, 50_000), 49_500),
    ("STOP_LOSS", 49_500, (49_000, 49_200, 48_900, 49_100), 49_000),  # it gapped
    ("TAKE_PROFIT", 50_500, (50_000, 50_600, 49_900, 50_000), 50_500),
    ("TAKE_PROFIT", 50_500, (51_000, 51_100, 50_900, 51_000), 50_500),  # no gift of a gap
]


@pytest.mark.parametrize(("condition", "trigger", "candle", "price"), STOPS)
def test_a_stop_fills_at_the_worse_of_trigger_and_open(
    condition: str, trigger: int, candle: tuple[int, int, int, int], price: int
) -> None:
    """Within a candle a stop pays what it gapped to, and a profit is never more than wanted."""
    past = long_with(condition, trigger)

    past.candle(candle)

    assert past.held == 0
    assert past.entry() == pytest.approx(price * (1 - HALF_BPS / 1e4), abs=1.5)


def test_a_candle_that_reaches_both_stops_before_it_takes_a_profit() -> None:
    """Which came first nobody knows: the worse is taken."""
    past = long_with("STOP_LOSS", 49_500)
    conditional(past, "TAKE_PROFIT", 50_500)

    past.candle((50_000, 50_600, 49_400, 50_000))

    assert past.entry() < 49_500


def test_a_candle_that_reaches_no_trigger_leaves_it_waiting() -> None:
    """The venue itself would not fire."""
    past = long_with("STOP_LOSS", 49_500)

    past.candle((50_000, 50_600, 49_501, 50_000))

    assert past.held > 0


def test_a_candle_bears_out_what_it_spans() -> None:
    """The optimism meter goes on: volume at the price, or beyond it, within the minute."""
    past = Past().begin()
    past.candle((50_000, 50_100, 49_900, 50_050))
    past.order("BUY", "0.01", "52000")
    past.candle((50_200, 50_900, 50_100, 50_800))
    past.candle((50_200, 50_900, 50_100, 50_800))

    assert past.venue.optimism.error == 0.0


@pytest.mark.parametrize("rate", ["0.0000125", "-0.0000125", "0.00075"])
def test_an_hour_of_the_past_is_charged_at_its_own_rate_and_price(rate: str) -> None:
    """Not at the one that was expected, nor at the estimated price; as the chain truncates it."""
    past = Past().begin(second=3_500)
    past.trades(50_000)
    past.order("BUY", "1", "52000")
    past.trades(50_000)
    held = past.held

    past.second = 3_600
    past.see(past.wire.publish("v4_markets", {
        "trading": {BTC: {"nextFundingRate": rate}},
        "oraclePrices": {BTC: {"oraclePrice": "50400.5"}},
    }))  # fmt: skip
    past.block(1_100, 3_600)
    past.trades(50_400)

    moved = funding_index_delta(round(float(rate) * 8e6), 3_600, 504_005, -1, -10)
    assert past.venue.ledger.unsettled == -moved * held // 10**6


def conditional(past: Past, condition: str, trigger: int) -> None:
    """Send what closes a long at a trigger."""
    market = past.market()
    past.order(
        "SELL", "0.01", "40000", tif="IOC", order_flags=32, good_til_block=0,
        good_til_block_time=LATER, condition_type=condition,
        trigger_subticks=market.subticks(str(trigger)), reduce_only=True,
    )  # fmt: skip


def long_with(condition: str, trigger: int) -> Past:
    """Hold a long bought at about 50,000, with an order that closes it at a trigger."""
    past = Past().begin()
    past.candle((50_000, 50_010, 49_990, 50_000))
    past.order("BUY", "0.01", "52000")
    past.candle((50_000, 50_010, 49_990, 50_000))
    assert past.held > 0
    conditional(past, condition, trigger)
    return past
