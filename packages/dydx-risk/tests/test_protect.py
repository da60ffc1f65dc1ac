"""Protections that close, the rest after they acted, and what guard and limits make of transfers."""

from typing import Any

import pytest
from dydx_conn import Profit
from dydx_risk import Approved, Policy, Reduce, Trigger
from hypothesis import given, settings
from hypothesis import strategies as st

LIMITS: dict[str, Any] = {
    "protect": True, "max_drawdown": 0.15, "max_leverage": 4.0, "cool_down_s": 60.0,
}  # fmt: skip
DRAWDOWN = Policy(**LIMITS)
DAILY = Policy(**LIMITS | {"max_drawdown": None, "max_daily_loss": 0.1})
LEVERAGE = Policy(**LIMITS | {"max_drawdown": None})


def _held(make_world: Any, policy: Policy, size: str = "10") -> Any:
    """Open 10,000 USDC of equity with a long of 3,000 USDC times its size, and let a block pass."""
    world = make_world(policy)
    _book(world, 3000)
    world.account(f"{10_000 - 3_000 * float(size):g}", {"ETH-USD": (size, "3000")})
    world.block()
    return world


def _book(world: Any, price: float) -> None:
    bids = [(f"{price - 1:.1f}", "5"), (f"{price - 2:.1f}", "20")]
    world.book("ETH-USD", bids, [(f"{price + 1:.1f}", "5"), (f"{price + 2:.1f}", "20")])


def _fall(world: Any, price: float) -> list[Reduce]:
    """Move the price and, two blocks later, weigh it with no pace; return what was fired."""
    fired = len(world.reductions)
    _pass(world, 2)
    _book(world, price)
    world.oracle("ETH-USD", f"{price:.1f}")
    found: list[Reduce] = world.reductions[fired:]
    return found


def _pass(world: Any, seconds: int) -> None:
    for second in range(seconds):
        world.block()
        world.oracle("BTC-USD", f"{60_000 + second % 2}")


def _filled(world: Any, reduce: Reduce, price: float) -> None:
    held = world.risk.valued.size("ETH-USD") + reduce.order.signed_quantums
    usdc = world.risk.account.collateral - reduce.order.signed_quantums * price / 1_000
    world.fill(reduce, f"{usdc / 1e6:.6f}", f"{held / 1e9:g}")


def test_a_drawdown_is_left_step_by_step(make_world: Any) -> None:
    """A quarter of what may be lost is lost: half the leverage may stay, and at the end nothing."""
    world, fired = _held(make_world, DRAWDOWN), []
    for price in range(2990, 2700, -10):
        for reduce in _fall(world, price):
            fired.append(reduce)
            _filled(world, reduce, price)

    assert [reduce.cause for reduce in fired] == ["DRAWDOWN"] * 3
    equities = [round(reduce.before.net_collateral / 1e10, 2) for reduce in fired]
    assert equities == [0.96, 0.9, 0.86]
    leverages = [reduce.after.leverage or 0 for reduce in fired]
    assert leverages == pytest.approx([1.9, 0.95, 0.0], abs=0.01)
    assert "leverage 3.08, limit 2: 73.3 % of what the drawdown may be is left" in fired[0].why
    # A stop at 15 % would have left no more.
    assert world.risk.margin.net_collateral > 8_500_000_000


def test_what_a_limit_closes_is_sent_again_until_it_is_flat(make_world: Any) -> None:
    """Through the limit at once: all of it, each block, though the price is back."""
    world = _held(make_world, DRAWDOWN)
    world.block()
    fired = [_fall(world, price) for price in (2840, 2841, 2990)]

    assert all(fired)
    assert {reduce.order.quantums for reduce in world.reductions} == {10**10}
    assert {reduce.cause for one in fired for reduce in one} == {"DRAWDOWN"}
    assert world.risk.standing.state == "REDUCING"


def test_a_days_loss_closes_by_its_share_of_what_the_day_opened_with(make_world: Any) -> None:
    """1,000 of 10,000 USDC; the day after, what it may lose is new."""
    world = _held(make_world, DAILY)
    (reduce,) = _fall(world, 2890)

    assert (reduce.cause, reduce.order.quantums) == ("DAILY_LOSS", 10**10)
    _filled(world, reduce, 2890)
    assert dict(world.risk.standing.reasons)["DAILY_LOSS"] == (
        "1,100.00 USDC were lost since 00:00 UTC, limit 1,000.00: nothing enters until 00:00 UTC"
    )
    world.at += 86_400 * 10**9
    _pass(world, 1)  # nothing is held, so that no price and no report moves it
    assert world.risk.standing.state == "ACTIVE"


def test_leverage_above_its_limit_goes_back_below_it_and_stays(make_world: Any) -> None:
    """4.05 becomes 3.8, so that the next price does not pass it again."""
    world = _held(make_world, LEVERAGE, "13")
    (reduce,) = _fall(world, 2970)

    assert reduce.cause == "LEVERAGE"
    assert ": leverage 4.02, limit 4; " in reduce.why
    assert reduce.after.leverage == pytest.approx(3.8, abs=0.01)
    _filled(world, reduce, 2970)
    assert [_fall(world, price) for price in (2968, 2972, 2967)] == [[], [], []]


def test_without_protect_limits_stop_entries_alone(make_world: Any) -> None:
    """As a person may prefer who closes by hand."""
    world = _held(make_world, Policy(**LIMITS | {"protect": False}))

    assert _fall(world, 2840) == []
    assert world.risk.standing.state == "REDUCING"
    assert [trigger.cause for trigger in world.risk.triggers] == ["DISTANCE"]


def _transfer(world: Any, usdc: float, *, cause_known: bool = True) -> None:
    account = world.risk.account
    paid = account.profit.transferred + int(usdc * 1e6) * cause_known
    world.update(
        collateral=account.collateral + int(usdc * 1e6), profit=Profit(transferred=paid),
        unexplained=0 if cause_known else int(usdc * 1e6), settled=True,
    )  # fmt: skip


@pytest.mark.parametrize("cause_known", [True, False])
def test_a_withdrawal_is_no_loss(make_world: Any, cause_known: bool) -> None:
    """Nor before its cause is reported; a drawdown of 15 % would be 1,500 USDC."""
    world = _held(make_world, DRAWDOWN, "3")
    _transfer(world, -4_000, cause_known=cause_known)

    assert _fall(world, 2999) == []
    assert world.risk._course.room > 0.99


@pytest.mark.parametrize("price", [2_000, 1_000])
@pytest.mark.parametrize("limit", ["max_drawdown", "max_daily_loss"])
def test_a_withdrawal_makes_no_loss_greater(make_world: Any, limit: str, price: float) -> None:
    """5 or 10 % of 10,000 USDC are lost, and are 5 or 10 % still when most of it is withdrawn."""
    policy = Policy(**LIMITS | {"max_drawdown": None, "max_leverage": 50.0} | {limit: 0.2})
    world = _held(make_world, policy, "0.5")
    _fall(world, price)
    _transfer(world, -8_000)
    _fall(world, price + 0.1)

    assert world.reductions == []
    assert world.risk._course.room == pytest.approx(1 - (3_000 - price) / 20_000 / 0.2, abs=1e-3)
    assert world.risk.standing.state == "ACTIVE"


def test_a_withdrawal_leaves_a_loss_in_usdc_as_it_was(make_world: Any) -> None:
    """Of 600 USDC that a day may lose 500 are lost, whatever is withdrawn."""
    limits = {"max_drawdown": None, "max_leverage": 50.0, "max_daily_loss_usdc": 600.0}
    world = _held(make_world, Policy(**LIMITS | limits), "0.5")
    _fall(world, 2_000)
    _transfer(world, -4_000)
    _fall(world, 2_000.1)

    assert world.risk._course.room == pytest.approx(1 / 6, abs=1e-3)


def test_an_account_in_doubt_closes_nothing(make_world: Any) -> None:
    """Its equity is not known, whatever it seems to be."""
    world = _held(make_world, DRAWDOWN)
    world.lose()

    assert _fall(world, 2860) == []


def test_nothing_enters_a_market_that_was_reduced_until_it_has_rested(make_world: Any) -> None:
    """A minute of event time, in that market alone, and longer if it is reduced again."""
    world = _held(make_world, LEVERAGE, "13")
    (reduce,) = _fall(world, 2970)
    _filled(world, reduce, 2970)
    denied = world.decide("ETH-USD", 37_500)
    world.book("BTC-USD", [("59990", "1")], [("60010", "1")])
    assert isinstance(world.decide("BTC-USD", 1_000), Approved)

    assert denied.reason == "COOL_DOWN"
    assert denied.why.startswith("ETH-USD was reduced: nothing enters until ")
    assert denied.why.endswith(" UTC, for 60 s")
    _pass(world, 61)
    world.oracle("ETH-USD", "2970.1")
    assert isinstance(world.decide("ETH-USD", 37_500), Approved)


def test_after_all_was_closed_nothing_enters_anywhere(make_world: Any) -> None:
    """The gate says so, until the minute is over; then the drawdown is measured from there."""
    world = _held(make_world, DRAWDOWN)
    (reduce,) = _fall(world, 2840)
    _filled(world, reduce, 2840)
    world.book("BTC-USD", [("59990", "1")], [("60010", "1")])
    denied = world.decide("BTC-USD", 1_000)

    assert denied.reason == "DRAWDOWN"
    ends = ": measured anew once nothing is held and entries have rested, or when resumed"
    assert denied.why.endswith(ends)
    assert "all was closed: nothing enters for " in dict(world.risk.standing.reasons)["COOL_DOWN"]
    _pass(world, 61)
    assert (world.risk.standing.state, world.risk._course.room) == ("ACTIVE", 1.0)


def _closed_before_the_limit(make_world: Any, **limits: Any) -> Any:
    """Fall in steps that the stairs keep up with: all is closed with a part of the room left."""
    world = _held(make_world, Policy(**LIMITS | limits))
    for price in range(2990, 2700, -10):
        for reduce in _fall(world, price):
            _filled(world, reduce, price)
    world.book("BTC-USD", [("59990", "1")], [("60010", "1")])
    assert 0 < world.risk._course.room < 0.1
    return world


def test_a_drawdown_that_bears_nothing_more_is_over_once_it_has_rested(make_world: Any) -> None:
    """As one beyond its limit: else a flat account with no room would never trade again."""
    world = _closed_before_the_limit(make_world)
    denied = world.decide("BTC-USD", 1_000)

    assert denied.reason == "DRAWDOWN"
    assert "of what the drawdown may be is left: nothing enters until it is measured" in denied.why
    assert world.risk.standing.state == "REDUCING"
    _pass(world, 61)
    assert (world.risk.standing.state, world.risk._course.room) == ("ACTIVE", 1.0)
    assert isinstance(world.decide("BTC-USD", 1_000), Approved)


def test_without_a_cool_down_a_room_that_bears_nothing_waits_for_a_person(make_world: Any) -> None:
    """Its reason names nobody else."""
    world = _closed_before_the_limit(make_world, cool_down_s=0.0)
    _pass(world, 61)

    assert world.decide("BTC-USD", 1_000).why.endswith("measured from here, when resumed")
    world.risk.resume()
    assert world.risk.standing.state == "ACTIVE"


def test_a_days_loss_that_bears_nothing_more_is_over_with_the_day(make_world: Any) -> None:
    """The gate says so, with what is left, and is open when the day is over."""
    world = _closed_before_the_limit(make_world, max_drawdown=None, max_daily_loss=0.15)
    _pass(world, 61)
    denied = world.decide("BTC-USD", 1_000)

    assert denied.reason == "DAILY_LOSS"
    assert denied.why.endswith(
        "of what the day's loss may be is left: nothing enters until 00:00 UTC"
    )
    world.at += 86_400 * 10**9
    _pass(world, 2)
    assert "DAILY_LOSS" not in dict(world.risk.standing.reasons)


def test_without_a_cool_down_a_drawdown_ends_by_a_person_alone(make_world: Any) -> None:
    """However long it is flat."""
    world = _held(make_world, Policy(**LIMITS | {"cool_down_s": 0.0}))
    (reduce,) = _fall(world, 2840)
    _filled(world, reduce, 2840)
    _pass(world, 61)

    assert world.risk.standing.state == "REDUCING"
    world.risk.resume()
    assert world.risk.standing.state == "ACTIVE"


def test_a_clock_that_jumps_back_does_not_prolong_a_rest(make_world: Any) -> None:
    """It is counted in time that only goes on: 60 s after the jump it is over."""
    world = _held(make_world, DRAWDOWN)
    (reduce,) = _fall(world, 2840)
    _filled(world, reduce, 2840)
    world.at -= 3_600 * 10**9
    _pass(world, 62)

    assert world.risk.standing.state == "ACTIVE"


def test_every_rule_says_at_which_level_it_acts_now(make_world: Any) -> None:
    """Of guard, leverage, loss and drawdown: level, figure, what may stay, and why."""
    policy = Policy(**LIMITS | {"max_daily_loss": 0.1})
    rows = {row.cause: row for row in _held(make_world, policy).risk.triggers}

    assert [*rows] == ["DAILY_LOSS", "DRAWDOWN", "LEVERAGE", "DISTANCE"]  # the nearest first
    guard = rows["DISTANCE"]
    assert guard.away == pytest.approx(0.2227 / 3, abs=1e-3)
    assert (guard.level, guard.now) == pytest.approx((0.09, 0.3127), abs=1e-3)
    assert (guard.share, guard.why) == (0.5, "from 10.0 % down to 6.0 %, where nothing stays")
    assert rows["LEVERAGE"] == Trigger(
        cause="LEVERAGE", level=4.0, now=3.0, share=1.0, why="no more than 4 times the equity",
        away=10_000 / 150_000,
    )  # fmt: skip
    assert rows["DAILY_LOSS"] == Trigger(
        cause="DAILY_LOSS", level=9.75e9, now=1e10, share=0.5,
        why="from 10,000.00 USDC down to 9,000.00, where nothing stays", away=250 / 30_000,
    )  # fmt: skip
    assert (rows["DRAWDOWN"].level, rows["DRAWDOWN"].share) == (9.625e9, 0.5)


@pytest.mark.parametrize("start", [3_000, 2_970, 3_040])
@pytest.mark.parametrize("size", ["3", "10", "13", "20", "-3", "-10", "-12", "-20"])
@pytest.mark.parametrize(
    "policy", [Policy(), DRAWDOWN, DAILY, LEVERAGE, Policy(**LIMITS | {"max_daily_loss": 0.1})]
)
def test_what_is_said_to_act_next_acts_at_its_level_and_not_before(
    make_world: Any, policy: Policy, size: str, start: float
) -> None:
    """In one block, and near; of longs a leverage may come later: prices take their notional along.

    Far away a move changes what a further move would take.
    """
    fired = []
    for factor in (0.9, 1.1):
        world = _held(make_world, policy, size)
        _fall(world, start)
        _pass(world, 2)
        row = next(row for row in world.risk.triggers if world.reductions or row.away)
        move = (row.away or 0.0) * factor * (1 if size.startswith("-") else -1)
        world.oracle("ETH-USD", f"{start * (1 + move):.1f}")
        fired.append([reduce.cause for reduce in world.reductions])

    if row.away and row.away < 0.1:
        is_bound = row.cause == "DISTANCE" or size.startswith("-")
        assert fired[0] == []
        assert fired[1] or not is_bound


def test_the_level_moves_with_a_move(make_world: Any) -> None:
    """Half is gone: the distance is far, and yet it acts soon; after another block, sooner."""
    world = _held(make_world, Policy())
    price = next(p for p in range(2_980, 2_000, -10) if _fall(world, p))
    _filled(world, world.reductions[0], price)
    row = next(row for row in world.risk.triggers if row.cause == "DISTANCE")

    assert 0.09 < row.level < (row.now or 0)
    assert row.share == pytest.approx(0.5, abs=0.05)
    assert "of the way; two more such blocks take " in row.why


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-60, 40), st.integers(-1_500, 1_500)), min_size=3, max_size=25),
    st.sampled_from((DRAWDOWN, DAILY, LEVERAGE)),
    st.sampled_from(("13", "3", "-10")),
)
def test_what_is_fired_shrinks_and_a_transfer_fires_no_loss(
    make_world: Any, moves: list[tuple[int, int]], policy: Policy, size: str
) -> None:
    """Prices and transfers in any order: no reduction adds or flips, none is for what was paid out."""
    world, price = _held(make_world, policy, size), 3000.0
    for move, usdc in moves:
        before, held = len(world.reductions), world.risk.valued.size("ETH-USD")
        room = world.risk._course.room
        _transfer(world, usdc)
        world.block()
        losses = [r for r in world.reductions[before:] if r.cause in ("DRAWDOWN", "DAILY_LOSS")]
        assert room < 0.8 or losses == []
        left = world.risk.margin.net_collateral
        assert left < 1_000_000_000 or world.risk._course.room >= room - 1e-6
        price = max(price + move, 1_500.0)
        _fall(world, price)
        for reduce in world.reductions[before:]:
            assert reduce.order.reduce_only
            assert reduce.order.signed_quantums * held < 0
            assert reduce.order.quantums <= abs(held)
        if world.reductions[before:]:
            _filled(world, world.reductions[-1], price)


NEAR = Policy(act_below=0.06, restore_to=0.10, keep_above=0.12, max_leverage=50)


def _slide(world: Any, *prices: int) -> list[tuple[int, int]]:
    """Let prices fall and all that is fired fill; return at which price, how many quantums."""
    fired = []
    for price in prices:
        for reduce in _fall(world, price):
            fired.append((price, reduce.order.quantums))
            _filled(world, reduce, price)
    return fired


@pytest.mark.parametrize("first", [2965, 2975])
def test_who_looks_at_an_account_changes_nothing(make_world: Any, first: int) -> None:
    """What was withdrawn brings it near; whoever looks before the next price begins no move."""
    fired = []
    for looks in (False, True):
        world = _held(make_world, NEAR, "25")
        _transfer(world, -540)
        if looks:
            assert world.risk.flight_plan.rungs
        world.oracle("ETH-USD", f"{first}")
        (reduce,) = world.reductions
        _filled(world, reduce, first)
        fired.append([(first, reduce.order.quantums), *_slide(world, *range(first - 5, 2800, -1))])

    assert fired[0] == fired[1]


@pytest.mark.parametrize("grown", ["0.01", "2"])
def test_what_comes_in_during_a_move_ends_it_for_nobody(make_world: Any, grown: str) -> None:
    """Half is left, and an order on its way fills: the rest leaves as early, with what came."""
    fired = []
    for size in ("0", grown):
        world = _held(make_world, NEAR, "25")
        ((price, _),) = _slide(world, *range(2990, 2950, -5))
        account, held = world.risk.account, world.risk.valued.size("ETH-USD") / 1e9
        usdc = account.collateral / 1e6 - float(size) * price
        world.account(f"{usdc:.6f}", {"ETH-USD": (f"{held + float(size):.9f}", "3000")})
        fired.append(_slide(world, *range(2950, 2600, -5)))
        assert world.risk.margin.net_collateral > 6_800_000_000

    assert [price for price, _ in fired[0]] == [2870, 2715]
    assert fired[1][-1][0] >= 2715


def test_what_is_paid_in_against_a_move_ends_it(make_world: Any) -> None:
    """Half was sold; then its owner saves the rest, and it is not sold far from liquidation."""
    world = _held(make_world, NEAR, "25")
    (half,) = _slide(world, *range(2990, 2940, -5))
    _transfer(world, 200_000)

    assert not _slide(world, *range(2940, 2600, -5))
    assert half == (2955, 12_908_000_000)
    assert world.risk.margin.distance == pytest.approx(6.67, abs=0.01)


def test_what_is_paid_in_gives_a_move_back_as_prices_do(make_world: Any) -> None:
    """A small part of what prices took: the move goes on, and a quarter is left later."""
    without, with_some = (_held(make_world, NEAR, "25") for _ in range(2))
    for world in (without, with_some):
        _slide(world, *range(2990, 2940, -5))
    _transfer(with_some, 300)

    (sooner, _), (later, _) = (
        _slide(world, *range(2940, 2800, -5))[0] for world in (without, with_some)
    )
    assert sooner > later > 2800
