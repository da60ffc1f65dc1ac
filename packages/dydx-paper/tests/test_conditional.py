"""Stateful orders: a block later, triggered, cancelled, limited."""

from typing import Any

import pytest
from dydx_conn import CancelRequest
from dydx_paper import PaperVenue
from exchange import OWNER, START, USDC, Exchange, body

STOP: dict[str, Any] = {"order_flags": 32, "good_til_block": 0, "condition_type": "STOP_LOSS"}
LONG_TERM: dict[str, Any] = {"order_flags": 64, "good_til_block": 0}
LATER = START + 86_400


def holding() -> Exchange:
    """Open an exchange on which we hold 0.5 BTC."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001")
    exchange.change(bids=[(49_990, 3)])
    return exchange


def conditional(exchange: Exchange, trigger: str, side: str = "SELL", **fields: Any) -> Any:
    """Send a conditional order for 0.5 BTC, by default a stop loss that sells at any price."""
    subticks = exchange.market().subticks(trigger)
    given = STOP | {"trigger_subticks": subticks, "good_til_block_time": LATER} | fields
    price = given.pop("price", "40000")
    return exchange.order(side, "0.5", price, given.pop("tif", "IOC"), **given)


def block(exchange: Exchange, price: Any = 50_000) -> list[Any]:
    """End a block, and let the market see it with an oracle price."""
    exchange.block()
    return exchange.oracle(price)


def test_a_stop_waits_and_fires_with_the_oracle_price() -> None:
    """UNTRIGGERED under its own type, then filled a block after the price came."""
    exchange = holding()
    assert [] == conditional(exchange, "49500", reduce_only=True)
    (reported,) = body(block(exchange))["orders"]
    assert ("UNTRIGGERED", "STOP_LIMIT", "49500") == (
        reported["status"], reported["type"], reported["triggerPrice"],
    )  # fmt: skip
    assert [] == exchange.oracle(49_400)

    done = body(block(exchange, 49_400))

    assert "FILLED" == done["orders"][0]["status"]
    assert ("SELL", "49999", "0.5") == tuple(done["fills"][0][k] for k in ("side", "price", "size"))
    assert {} == exchange.venue.ledger.holdings


def test_a_trade_triggers_as_far_as_the_oracle_lets_it() -> None:
    """A trade 0.4 % away does; one far away counts as half a percent."""
    exchange = holding()
    conditional(exchange, "49800")
    block(exchange)
    exchange.trade("SELL", "0.1", "49800")
    exchange.trade("SELL", "0.1", "49900")
    assert "FILLED" == body(block(exchange))["orders"][0]["status"]

    conditional(exchange, "49700")
    block(exchange)
    exchange.trade("SELL", "0.1", "40000")
    assert [] == block(exchange)


def test_a_take_profit_that_finds_nothing_is_over() -> None:
    """Triggered, it is IOC like any other."""
    exchange = holding()
    conditional(exchange, "50000", condition_type="TAKE_PROFIT", price="60000")

    done = body(block(exchange))["orders"][0]

    assert ("CANCELED", "TAKE_PROFIT") == (done["status"], done["type"])
    assert "IMMEDIATE_OR_CANCEL" in done["removalReason"]


def test_without_an_oracle_price_nothing_is_triggered() -> None:
    """Nobody knows whether it should be."""
    exchange = holding()
    conditional(exchange, "60000")
    exchange.state.views["BTC-USD"].oracle = None
    exchange.block()

    reported = body(exchange.change(bids=[(49_990, 2)]))["orders"]

    assert ["UNTRIGGERED"] == [order["status"] for order in reported]


def test_an_untriggered_order_expires_and_can_be_cancelled() -> None:
    """By the chain's time, or by us while it waits."""
    exchange = holding()
    conditional(exchange, "40000", good_til_block_time=START + 13)
    conditional(exchange, "40000", client_id=77)
    block(exchange)
    exchange.cancel(77, order_flags=32, good_til_block=0, good_til_block_time=LATER)

    done = body(exchange.change(bids=[(49_990, 1)]))["orders"]
    assert [("77", "CANCELED")] == [(order["clientId"], order["status"]) for order in done]

    assert [] == block(exchange)
    (ended,) = body(block(exchange))["orders"]
    assert "ORDER_REMOVAL_REASON_EXPIRED" == ended["removalReason"]


def test_a_long_term_order_enters_a_block_later() -> None:
    """It cannot trade in the block that takes it in."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001", "GTT", good_til_block_time=LATER, **LONG_TERM)
    (opened,) = body(exchange.change(bids=[(49_990, 1)]))["orders"]

    assert "OPEN" == opened["status"]
    assert "FILLED" == body(block(exchange))["orders"][0]["status"]


def test_post_only_orders_of_a_block_enter_first() -> None:
    """So our own taker meets our maker: which goes, as in any self-trade."""
    exchange = Exchange().open()
    common: dict[str, Any] = {"good_til_block_time": LATER, **LONG_TERM}
    exchange.order("BUY", "0.5", "50001", "GTT", **common)
    exchange.order("SELL", "0.5", "50000", "POST_ONLY", **common)

    done = body(block(exchange))["orders"]

    assert ["CANCELED", "FILLED"] == sorted(order["status"] for order in done)
    assert "SELF_TRADE_ERROR" in str(done)


def test_a_long_term_order_needs_collateral_when_it_is_placed() -> None:
    """As if it filled whole at its own price: code 3007."""
    exchange = Exchange(deposit=1_000 * USDC).open()
    exchange.order("BUY", "1", "49000", "GTT", good_til_block_time=LATER, **LONG_TERM)

    done = body(block(exchange))["orders"]

    assert "clob 3007: ErrStatefulOrderCollateralizationCheckFailed" == done[0]["removalReason"]


def test_the_same_stateful_order_is_placed_once() -> None:
    """Code 3005, which leaves the one that stands alone."""
    exchange = Exchange().open()
    for _ in range(2):
        exchange.order(
            "BUY", "0.1", "49000", "GTT", client_id=5, good_til_block_time=LATER, **LONG_TERM
        )

    assert "OPEN" == body(exchange.change(bids=[(49_990, 1)]))["orders"][0]["status"]
    assert [] == block(exchange)
    assert {"ErrStatefulOrderAlreadyExists": 1} == exchange.venue.refusals


@pytest.mark.parametrize("ticker", ["BTC-USD", "NONE-USD"])
def test_a_cancel_of_what_is_unknown_is_counted(ticker: str) -> None:
    """Code 3006 for a stateful order, and no market at all."""
    exchange = Exchange().open()
    exchange.cancel(5, order_flags=64, good_til_block=0, good_til_block_time=LATER)
    exchange.cancel(5, order_flags=64, good_til_block=0, good_til_block_time=5)
    assert [] == exchange.change(bids=[(49_990, 1)])
    assert {
        "ErrStatefulOrderDoesNotExist": 1, "ErrTimeExceedsGoodTilBlockTime": 1,
    } == exchange.venue.refusals  # fmt: skip

    venue = PaperVenue(OWNER, USDC)
    venue.step(CancelRequest(ticker=ticker, clob_pair_id=0, client_id=1))
    assert {"ErrInvalidClob": 1} == venue.refusals


@pytest.mark.parametrize(("usdc", "limit"), [(19, 0), (20, 1), (100, 5)])
def test_worth_limits_how_many_stateful_orders_are_open(usdc: int, limit: int) -> None:
    """Long-term and conditional together, those on their way too: code 10001."""
    exchange = Exchange(deposit=usdc * USDC).open()
    for number in range(limit + 1):
        if number % 2:
            conditional(exchange, "40000", quantums=1_000_000)
        else:
            exchange.order("BUY", "0.0001", "1000", "GTT", good_til_block_time=LATER, **LONG_TERM)
        if number % 2:
            block(exchange)

    assert {"ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit": 1} == exchange.venue.refusals
    assert "clob 10001" in str(exchange.frames)


def test_two_stateful_orders_a_block_and_twenty_in_a_hundred() -> None:
    """The third is refused with 5001, and so is the 21st; failed attempts count."""
    exchange = Exchange().open()

    def place() -> None:
        exchange.order("BUY", "0.0001", "1000", "GTT", good_til_block_time=LATER, **LONG_TERM)

    for _ in range(3):
        place()
    assert {"ErrBlockRateLimitExceeded": 1} == exchange.venue.refusals
    for _ in range(9):
        block(exchange)
        place()
        place()
    assert 1 + 1 == exchange.venue.refusals["ErrBlockRateLimitExceeded"]
    exchange.block(height=exchange.height + 101)
    exchange.oracle(50_000)
    place()
    assert 2 == exchange.venue.refusals["ErrBlockRateLimitExceeded"]


def test_short_term_orders_and_cancels_share_a_limit() -> None:
    """4,000 within five blocks."""
    exchange = Exchange().open()
    for number in range(4_000):
        exchange.cancel(number)
    exchange.cancel(5)

    assert "clob 5001: ErrBlockRateLimitExceeded" in str(exchange.order("BUY", "0.1", "50001"))
    assert {"ErrBlockRateLimitExceeded": 2} == exchange.venue.refusals
