"""What a next run remembers of one that ended: a restart forgets no loss, and no rest."""

from typing import Any

import msgspec
import pytest
from dydx_conn import Profit
from dydx_risk import Approved, Denied, Memory, Policy

LIMITS: dict[str, Any] = {"protect": True, "max_leverage": 20.0, "cool_down_s": 60.0}
DAILY = Policy(**LIMITS | {"max_daily_loss": 0.1})
DRAWDOWN = Policy(**LIMITS | {"max_drawdown": 0.15})
DAY_NS = 86_400 * 10**9


def _run(make_world: Any, policy: Policy, equity: float, price: float = 3_000.0) -> Any:
    """Begin a run of an account of this equity, with a long of 10 ETH; nothing is reported yet."""
    world = make_world(policy)
    _price(world, price)
    world.usdc = equity - 10 * price
    return world


def _price(world: Any, price: float) -> None:
    bids, asks = [(f"{price - 1:.1f}", "50")], [(f"{price + 1:.1f}", "50")]
    world.book("ETH-USD", bids, asks)
    world.oracle("ETH-USD", f"{price:.1f}")


def test_an_account_that_is_not_known_yet_has_paid_nothing_in() -> None:
    """All of its equity is what the run before had."""
    from world import World

    world = World(DAILY)
    world.risk.recall(Memory(day=0, opened=10**10, peak=10**10, equity=10**10), 0)
    world.update(collateral=10**10)

    assert 1.0 == world.risk._course.room
    assert 0 == world.risk._course.paid_in
    assert "" == _reason(world)


def _report(world: Any, at: int = 0) -> None:
    world.at = max(world.at, at)
    world.account(f"{world.usdc:g}", {"ETH-USD": ("10", "3000")})
    world.block()


def _fall(world: Any, price: float) -> None:
    world.block()
    _price(world, price)


def _next(make_world: Any, policy: Policy, memory: Memory, *usdc: float, later: int = 0) -> Any:
    """Begin another run of it, from JSON, at an equity and with what was paid in."""
    world = _run(make_world, policy, usdc[0])
    saved = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
    assert saved == memory
    world.risk.recall(saved, memory.now + later, *(int(paid * 1e6) for paid in usdc[1:]))
    _report(world, memory.now + later)
    _price(world, 3_000)  # time comes with views
    return world


def _reason(world: Any) -> str:
    return next(iter(dict(world.risk.standing.reasons)), "")


def test_a_loss_goes_on_counting_on_the_same_day(make_world: Any) -> None:
    """600 USDC before the restart and 600 after it are more than 1,000; neither is alone."""
    world = _run(make_world, DAILY, 10_000)
    _report(world)
    _fall(world, 2_940)
    assert "" == _reason(world)

    again = _next(make_world, DAILY, world.risk.memory, 9_400)
    assert "" == _reason(again)
    _fall(again, 2_940)
    assert "DAILY_LOSS" == _reason(again)


@pytest.mark.parametrize(("later", "reason"), [(3_600 * 10**9, "DAILY_LOSS"), (DAY_NS, "")])
def test_what_was_lost_stands_until_the_day_is_over(
    make_world: Any, later: int, reason: str
) -> None:
    """A restart opens nothing, and the next day does."""
    world = _run(make_world, DAILY, 10_000)
    _report(world)
    _fall(world, 2_880)

    again = _next(make_world, DAILY, world.risk.memory, 8_800, later=later)
    assert reason == _reason(again)


def test_a_drawdown_is_measured_from_the_peak_of_all_runs(make_world: Any) -> None:
    """From 11,000 USDC, though the restart finds 10,000."""
    world = _run(make_world, DRAWDOWN, 10_000)
    _report(world)
    _fall(world, 3_100)
    _fall(world, 3_000)

    again = _next(make_world, DRAWDOWN, world.risk.memory, 10_000)
    assert pytest.approx(1 - 1_000 / 1_650) == again.risk._course.room
    _fall(again, 2_930)
    assert "DRAWDOWN" == _reason(again)


@pytest.mark.parametrize(("paid", "room"), [(-5_000.0, 0.6), (5_000.0, 1 - 400 / 1_500)])
def test_what_was_paid_in_meanwhile_is_no_profit_and_what_was_paid_out_no_loss(
    make_world: Any, paid: float, room: float
) -> None:
    """Half of it was withdrawn while no bot ran: of the 400 USDC lost 200 remain, of 500."""
    world = _run(make_world, DAILY, 10_000)
    _report(world)
    _fall(world, 2_960)

    again = _next(make_world, DAILY, world.risk.memory, 9_600 + paid, paid)
    assert "" == _reason(again)
    assert pytest.approx(room, abs=0.05) == again.risk._course.room


def test_transfers_of_the_run_before_are_in_its_equity(make_world: Any) -> None:
    """The next one begins with nothing paid in, and goes on from there."""
    world = _run(make_world, DAILY, 10_000)
    _report(world)
    world.update(
        collateral=world.risk.account.collateral + 2_000 * 10**6,
        profit=Profit(transferred=2_000 * 10**6), settled=True,
    )  # fmt: skip
    memory = world.risk.memory

    assert (12_000 * 10**6, 12_000 * 10**6) == (memory.equity, memory.opened)
    assert 1.0 == _next(make_world, DAILY, memory, 12_000).risk._course.room


def test_a_rest_goes_on_until_it_is_over(make_world: Any) -> None:
    """A market that was reduced 20 s before the restart is entered 40 s after it."""
    world = _run(make_world, Policy(**LIMITS | {"max_leverage": 3.0}), 10_000)
    _report(world)
    _fall(world, 2_999)
    assert world.reductions
    world.at += 20 * 10**9
    _price(world, 2_999)

    again = _next(make_world, Policy(**LIMITS), world.risk.memory, 10_000)
    denied = again.decide("ETH-USD", 40_000)
    assert isinstance(denied, Denied)
    assert "COOL_DOWN" == denied.reason
    again.at += 41 * 10**9
    again.block()
    _price(again, 3_000)
    assert isinstance(again.decide("ETH-USD", 40_000), Approved)


def test_no_client_id_serves_again_and_the_minutes_orders_count(make_world: Any) -> None:
    """Nor is the closest distance forgotten."""
    world = _run(make_world, Policy(max_leverage=20, max_orders_per_minute=1), 10_000)
    _report(world)
    first = world.decide("ETH-USD", 40_000)
    assert isinstance(first, Approved)

    memory = world.risk.memory
    assert memory.next_client_id == first.order.client_id + 1
    again = _next(make_world, world.risk.policy, memory, 10_000)
    denied = again.decide("ETH-USD", 40_000)
    assert isinstance(denied, Denied)
    assert again.risk.closest == memory.closest is not None


@pytest.mark.parametrize("limits", [{}, {"max_daily_loss": 0.5, "max_drawdown": 0.5}])
def test_a_loss_is_held_against_the_limits_of_the_run_that_goes_on(
    make_world: Any, limits: dict[str, float]
) -> None:
    """As when the policy changes within a run: what is beyond no limit of it stops nothing."""
    strict = Policy(**LIMITS | {"max_daily_loss": 0.1, "max_drawdown": 0.1})
    world = _run(make_world, strict, 10_000)
    _report(world)
    _fall(world, 2_880)
    assert {"DAILY_LOSS", "DRAWDOWN"} <= dict(world.risk.standing.reasons).keys()

    again = _next(make_world, Policy(**LIMITS | limits), world.risk.memory, 8_800)
    assert {"COOL_DOWN"} == dict(again.risk.standing.reasons).keys()


@pytest.mark.parametrize("ahead_s", [0, 3_600, 365 * 86_400])
def test_a_clock_that_was_set_back_holds_nothing_up(make_world: Any, ahead_s: int) -> None:
    """A rest of 40 s more, and the orders of a minute, are over after one by the clock of now."""
    policy = Policy(max_leverage=20, max_orders_per_minute=1, cool_down_s=60)
    world = _run(make_world, policy, 10_000)
    _report(world)
    assert isinstance(world.decide("ETH-USD", 40_000), Approved)
    memory, ahead = world.risk.memory, ahead_s * 10**9
    memory = msgspec.structs.replace(
        memory, now=memory.now + ahead, sent=tuple(at + ahead for at in memory.sent),
        rests=(("ETH-USD", memory.now + ahead + 40 * 10**9),), rests_all=memory.now + ahead + 1,
    )  # fmt: skip

    again = _next(make_world, policy, memory, 10_000, later=-ahead)
    assert isinstance(again.decide("ETH-USD", 40_000), Denied)
    again.at += 61 * 10**9
    _report(again)
    _price(again, 3_000)
    assert isinstance(again.decide("ETH-USD", 40_000), Approved)
