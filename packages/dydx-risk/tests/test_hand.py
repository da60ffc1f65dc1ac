"""Somebody else at the account: a halt with its reason, or a market that is left to them."""

from decimal import Decimal
from typing import Any

import pytest
from dydx_conn import CancelRequest, OrderFields, OrderState
from dydx_risk import Approved, Policy

FREE = Policy(max_leverage=50, max_order_usdc=1e9, slippage_bps=0, keep_above=0.11)


def resting(id: str = "theirs", status: Any = "OPEN", **fields: Any) -> OrderState:
    """Make an order of ETH that we did not send: by default one that buys 10 at 2,900."""
    row: dict[str, Any] = {"side": "BUY", "price": "2900", "reduceOnly": False} | fields
    named = CancelRequest(ticker="ETH-USD", clob_pair_id=1, client_id=5, order_flags=64)
    fields_ = OrderFields(
        id=id, side=row["side"], price=row["price"], reduce_only=row["reduceOnly"]
    )
    size = Decimal(fields.get("size", "10"))
    return OrderState(
        id=id, status=status, size=size, filled=Decimal(fields.get("filled", "0")), named=named,
        row=fields_, seq=1,
    )  # fmt: skip


def test_what_somebody_else_did_halts_under_its_own_reason(make_world: Any) -> None:
    """Until it is resumed; the guard goes on."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.risk.stops.halt("an order of somebody else (by account)", foreign=True)

    denied = world.decide("ETH-USD", 60_000)
    assert (denied.reason, denied.why) == (
        "FOREIGN", "halted: an order of somebody else (by account)"
    )  # fmt: skip
    assert world.risk.standing.state == "HALTED"
    world.oracle("ETH-USD", "2740")
    assert len(world.reductions) == 1
    world.risk.resume()
    assert world.risk.standing.state == "ACTIVE"
    world.risk.stops.halt("a person")
    assert world.risk.standing.reasons == (("HALTED", "halted: a person"),)


def test_a_market_of_theirs_is_left_to_them_and_guarded(make_world: Any) -> None:
    """Whatever the strategy wants there, but to leave at once; other markets are as ever."""
    world = make_world(FREE)
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.risk.account.by_hand.add("ETH-USD")

    for target in (60_000, 1_000, 0, -1_000):
        denied = world.decide("ETH-USD", target)
        assert (denied.reason, denied.figures) == ("FOREIGN", (("ticker", "ETH-USD"),))
    assert world.decide("BTC-USD", 1_000).reason != "FOREIGN"
    assert world.risk.standing.state == "ACTIVE"
    world.oracle("ETH-USD", "2740")
    assert len(world.reductions) == 1


def test_whoever_flattens_leaves_their_market_too(make_world: Any, make_decision: Any) -> None:
    """A target of 0 at urgency 1."""
    world = make_world(FREE)
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.risk.account.by_hand.add("ETH-USD")

    (verdict,) = world.put(make_decision("ETH-USD", 0, world.seq, world.at, urgency=1.0))

    assert isinstance(verdict, Approved)


def test_a_market_is_ours_again_once_they_are_out_of_it(make_world: Any) -> None:
    """Nothing held and nothing at rest."""
    world = make_world(FREE)
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.update(orders=(resting(),))
    world.risk.account.by_hand.add("ETH-USD")

    world.account("10000")
    assert world.decide("ETH-USD", 3_000).reason == "FOREIGN"
    world.update(orders=(resting(status="CANCELLED"),))
    assert isinstance(world.decide("ETH-USD", 3_000), Approved)


def test_what_they_may_still_buy_counts_in_the_margin(make_world: Any) -> None:
    """At its price, as if it had filled: here there is room for 10 ETH, not for 20."""
    policy = Policy(max_leverage=5, max_order_usdc=1e9, slippage_bps=0, keep_above=0.11)
    free, beside = make_world(policy), make_world(policy)
    beside.update(orders=(resting(),))

    assert isinstance(free.decide("ETH-USD", 30_000), Approved)
    denied = beside.decide("ETH-USD", 30_000)
    assert denied.reason == "LEVERAGE"
    assert denied.why == "leverage would be 6.01, limit 5"


@pytest.mark.parametrize(
    ("fields", "notional"),
    [
        ({}, 30_000),
        ({"side": "SELL", "price": "3100"}, 30_000),
        ({"filled": "4"}, 18_000),
        ({"filled": "10"}, 0),
        ({"reduceOnly": True}, 0),
        ({"price": "0"}, 30_000),
        ({"price": "much"}, 30_000),
        ({"price": f"1{'0' * 60}"}, 30_000),
        ({"side": None}, 0),
        ({"size": f"1{'0' * 40}"}, 0),
    ],
)
def test_each_order_counts_by_what_is_left_of_it(
    make_world: Any, fields: dict[str, Any], notional: int
) -> None:
    """None that only reduces; one without a price at the oracle's."""
    world = make_world()
    world.update(orders=(resting(**fields),))

    assert world.risk.valued.reserved.notional == notional * 10**6


def test_one_that_buys_above_the_oracle_price_loses_the_difference(make_world: Any) -> None:
    """What it would make better is not counted on."""
    world = make_world()
    world.update(orders=(resting(price="3100"),))

    assert world.risk.valued.reserved.net_collateral == 9_000 * 10**6


def test_a_market_in_which_they_may_buy_is_one_more(make_world: Any) -> None:
    """As one in which an order of ours is in flight; and a bear move hits it too."""
    policy = Policy(max_positions=1, max_leverage=50, max_order_usdc=1e9, bear_move=0.5)
    world = make_world(policy)
    world.book("BTC-USD", [("59990", "5")], [("60010", "5")])
    world.update(orders=(resting(size="1"),))

    assert world.decide("BTC-USD", 3_000).reason == "POSITIONS"
    sized = make_world(Policy(max_leverage=50, max_order_usdc=1e9, bear_move=0.5))
    alone = sized.decide("ETH-USD", 15_000).order.quantums
    beside = make_world(Policy(max_leverage=50, max_order_usdc=1e9, bear_move=0.5))
    beside.update(orders=(resting(size="3"),))
    assert beside.decide("ETH-USD", 15_000).order.quantums < alone


def test_an_order_in_a_market_that_is_not_known_counts_when_it_is(make_world: Any) -> None:
    """There is no price to count it by."""
    world = make_world()
    state = resting()
    assert state.named is not None
    named = CancelRequest(ticker="DOGE-USD", clob_pair_id=9, client_id=5, order_flags=64)
    unknown = OrderState(id="x", status="OPEN", size=Decimal(1), named=named, row=state.row, seq=1)
    bare = OrderState(id="y", status="OPEN", seq=1)
    world.update(orders=(unknown, bare))

    assert world.risk.valued.reserved.notional == 0
