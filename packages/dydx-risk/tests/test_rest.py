"""What risk need not look at, and time that several accounts share."""

from dydx_conn import market_fields
from dydx_risk import Elapsed, Policy, Risk
from world import SECOND, World


def test_a_book_in_the_same_turn_changes_nothing_that_was_judged() -> None:
    """With any view but those that it names a step returns nothing; a held market has moved."""
    world = World()
    world.markets(market_fields("ETH-USD", price="3000"), market_fields("BTC-USD", price="60000"))
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.block()
    world.oracle("ETH-USD", "3001")

    assert world.risk.rests_until() == 2**63
    world.risk.valued.moved.clear()
    margin = world.risk.margin
    world.book("BTC-USD", [("59999", "1")], [("60001", "1")])
    assert (world.risk.margin, world.risk.valued.moved) == (margin, set())
    for ticker in ("BTC-USD", "ETH-USD"):
        world.risk.pass_over(world.state.views[ticker])
    assert world.risk.valued.moved == {"ETH-USD"}


def test_a_polled_account_is_looked_at_with_every_view() -> None:
    """It grows old by itself."""
    world = World()
    world.account("10000")
    world.update(polled=True)

    assert world.risk.rests_until() == 0


def test_a_gate_that_rests_is_looked_at_when_the_rest_is_over() -> None:
    """Entries open again with the first view after it."""
    world = World(Policy(cool_down_s=60.0))
    world.account("10000")
    world.risk._rest.begin((), world.at, 60 * SECOND, whole=True)

    assert world.risk.rests_until() == world.at + 60 * SECOND


def test_time_may_be_shared() -> None:
    """Whoever moves it first moves it for all that have it, once."""
    elapsed, world = Elapsed(), World()
    first, second = Risk(elapsed=elapsed), Risk(elapsed=elapsed)
    world.markets(market_fields("ETH-USD", price="3000"))
    view = world.state.views["ETH-USD"]
    view.at += SECOND
    for risk in (first, second):
        risk.step(view)

    assert elapsed.now == view.at
