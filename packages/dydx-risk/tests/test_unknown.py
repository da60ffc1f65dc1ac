"""What is unknown, late or absurd counts as danger, and what is in flight as what it may cost."""

from typing import Any

from dydx_risk import Approved, Policy, Risk, ioc

SECOND = 1_000_000_000


def test_an_order_in_flight_counts_with_all_that_it_makes_worse(make_world: Any) -> None:
    """Bought far below the oracle it gains at once, and takes its share of every limit."""
    world = make_world(Policy(max_account_usdc=8_000, max_order_usdc=8_000))
    world.oracle("ETH-USD", "3260")
    world.book("BTC-USD", [("59999", "5")], [("60001", "5")])

    first = world.decide("ETH-USD", 7_000)
    second = world.decide("BTC-USD", 7_000)

    assert isinstance(first, Approved)
    assert isinstance(second, Approved)
    assert 7_990 < second.after.notional / 1e6 <= 8_000
    reserved = next(iter(world.risk.account.orders.reserved.values()))
    assert reserved.effect.net_collateral <= 0 < reserved.effect.notional


def test_a_reduction_of_the_other_side_is_not_waited_for(make_world: Any) -> None:
    """The position has turned since: what was to shrink it shrinks nothing any more."""
    world = make_world(Policy(max_leverage=50))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    world.block(101)
    world.oracle("ETH-USD", "3000")
    assert isinstance(world.decide("ETH-USD", 0), Approved)

    world.account("9450", {"ETH-USD": ("-3", "3000")})
    world.block()
    world.oracle("ETH-USD", "3001")
    world.book("ETH-USD", [("2999.9", "5")], [("3000.1", "5")])

    assert world.risk.alarm == "danger"
    assert [reduce.order.side for reduce in world.reductions] == ["BUY"]


def test_an_hour_without_an_oracle_price_is_owed_until_there_is_one(make_world: Any) -> None:
    """Funding is not forgiven because it cannot be computed yet."""
    settled = []
    for gone in (False, True):
        world = make_world()
        world.account("10000", {"ETH-USD": ("3", "3000")})
        hours = {102: "09:59:59", 103: "10:00:01", 104: "10:00:02", 105: "10:00:03"}
        for height, time in hours.items():
            if gone and height == 103:
                world.state.views["ETH-USD"].oracle = None
            world.block(height, f"2026-07-14T{time}.000Z")
            world.book("BTC-USD", [("59999", "1")], [("60001", "1")])
            if not gone or height != 103:
                world.oracle("ETH-USD", "3000")
        settled.append(world.risk.account.unsettled.quantums)

    assert settled[0] < 0
    assert settled[1] == settled[0]


def test_what_is_owed_of_hours_is_paid_once(make_world: Any) -> None:
    """A new balance has the funding of those hours in it."""
    world = make_world()
    world.account("10000", {"ETH-USD": ("3", "3000")})
    for height, time in {102: "09:59:59", 103: "10:00:01", 104: "10:00:02"}.items():
        world.state.views["ETH-USD"].oracle = None
        world.block(height, f"2026-07-14T{time}.000Z")
        world.book("BTC-USD", [("59999", "1")], [("60001", "1")])
    assert world.risk.account.unsettled.hours_owed == {"ETH-USD": 1}

    world.account("9999.1", {"ETH-USD": ("3", "3000")})
    world.oracle("ETH-USD", "3000")

    assert (world.risk.account.unsettled.quantums, world.risk.account.unsettled.hours_owed) == (
        0,
        {},
    )


def test_a_position_is_left_for_its_other_side_without_an_oracle_price(make_world: Any) -> None:
    """As far as nothing; what lies beyond waits for a price."""
    world = make_world()
    world.account("10000", {"ETH-USD": ("3", "3000")})
    world.state.views["ETH-USD"].oracle = None
    world.book("ETH-USD", [("2999.9", "5")], [("3000.1", "5")])

    verdict = world.decide("ETH-USD", -5_000)

    assert isinstance(verdict, Approved)
    assert (verdict.order.side, verdict.order.quantums) == ("SELL", 3 * 10**9)
    assert verdict.order.reduce_only


def test_the_guard_reports_that_it_is_blind_with_nothing_else_held(make_world: Any) -> None:
    """The only position has a size that cannot be read."""
    world = make_world()
    world.account("100", {"ETH-USD": ("junk", "3000")})

    judged = world.block(101) + world.oracle("BTC-USD", "60000")

    assert [verdict.why for verdict in judged] == ["guard: blind, no oracle of ETH-USD"]


def test_a_position_beyond_all_size_is_unknown(make_world: Any) -> None:
    """Nothing is raised, and nothing is valued."""
    world = make_world()
    world.account("10000", {"ETH-USD": ("1" + "0" * 38, "3000")})
    world.block(101)

    world.oracle("ETH-USD", "1" + "0" * 29)

    assert world.risk.margin.unknown == ("ETH-USD",)
    assert world.risk.alarm == "unknown"


def test_no_order_names_a_price_beyond_64_bits(make_world: Any) -> None:
    """What it would be cut to is far worse than what was proposed."""
    world = make_world(atomicResolution=2, quantumConversionExponent=-10)
    view = world.state.views["ETH-USD"]
    view.oracle = None
    world.book("ETH-USD", [("46827", "500")], [("46828", "500")])

    assert ioc(view, view.market, -(10**9), 30) is None


# === Open interest ===

CAPS = {"openInterestLowerCap": "1000000", "openInterestUpperCap": "2000000"}


def initial_margin(world: Any) -> float:
    """Return it as a share of the notional."""
    margin = world.risk.margin
    return float(margin.initial_margin / margin.notional)


def test_what_is_held_is_open_interest_though_no_report_has_it(make_world: Any) -> None:
    """Half way between its caps, a market of 500 ETH requires half of what is left above 5 %."""
    world = make_world(openInterest="0", **CAPS)

    world.account("1000000", {"ETH-USD": ("-500", "3000")})

    assert initial_margin(world) == 0.525


def test_what_was_bought_counts_until_the_reports_must_have_it(make_world: Any) -> None:
    """Reports are late by up to a minute; what was held at first is in them."""
    world = make_world(openInterest="400", **CAPS)
    world.risk = Risk(Policy(max_leverage=50), world.risk.account.subaccount)
    world.account("1000000", {"ETH-USD": ("50", "3000")})
    world.block()
    world.oracle("ETH-USD", "3000")
    at_first = initial_margin(world)

    world.account("700000", {"ETH-USD": ("150", "3000")})
    bought = initial_margin(world)
    world.account("1300000", {"ETH-USD": ("-50", "3000")})
    turned = initial_margin(world)
    order = world.decide("ETH-USD", -153_000)
    later = []
    for _ in range(3):
        world.block(world.height + 90)
        world.oracle("ETH-USD", "3000")
        later.append(initial_margin(world))

    assert (at_first, bought, turned) == (0.24, 0.525, 0.6675)
    assert later == [0.6675, 0.6675, 0.24]
    # The order itself may open what it sells, on top of that: 551 ETH are 0.67035 of the notional.
    assert order.after.initial_margin == 102_563_550_000


def test_the_figures_on_the_screen_count_the_same_open_interest(make_world: Any) -> None:
    """A panel shows the initial margin that the gate judges by."""
    world = make_world(openInterest="0", **CAPS)
    world.account("1000000", {"ETH-USD": ("500", "3000")})
    figures = world.risk.watch(world.state.views["ETH-USD"]).figures

    assert figures.margin == world.risk.margin
    assert world.risk.positions()[0].initial_margin == world.risk.margin.initial_margin
