"""Another policy while it runs: judged by it from there on, and nothing that happened forgotten."""

from typing import Any

import pytest
from dydx_conn import Frame
from dydx_risk import Policy, RiskError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

LIMITS: dict[str, Any] = {
    "protect": True, "max_leverage": 4.0, "max_daily_loss": 0.05, "max_drawdown": 0.15,
    "cool_down_s": 60.0,
}  # fmt: skip
USUAL = Policy(**LIMITS)


def _policy(**changed: Any) -> Policy:
    return Policy(**LIMITS | changed)


def _held(make_world: Any, policy: Policy, size: str = "10") -> Any:
    world = make_world(policy)
    held = {"ETH-USD": (size, "3000"), "BTC-USD": ("0.01", "60000")}
    world.account(f"{9_400 - 3_000 * float(size):g}", held)
    world.block()
    return world


def _walk(world: Any, prices: list[int], want: float = 0.0) -> list[Any]:
    """Let prices come, a block each, and with each a target of `want`; return all judgements."""
    before = len(world.verdicts), len(world.changes)
    for price in prices:
        world.block()
        world.book(
            "ETH-USD", [(f"{price - 1}", "5"), (f"{price - 2}", "20")],
            [(f"{price + 1}", "5"), (f"{price + 2}", "20")],
        )  # fmt: skip
        world.oracle("ETH-USD", f"{price}")
        if want:
            world.decide("ETH-USD", want)
        _ = world.risk.flight_plan  # as a screen looks at it
    return [*world.verdicts[before[0] :], *world.changes[before[1] :]]


def _act(world: Any) -> None:
    """Put in the act that comes with every change."""
    world.put(Frame(world.seq, world.at, world.at, "file", "act", "{}", "reload"))


PRICES = st.lists(st.integers(2_700, 3_150), min_size=3, max_size=12)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "max_leverage": st.sampled_from([2.0, 3.5, 6.0]),
        "max_order_usdc": st.sampled_from([500.0, 5_000.0]),
        "max_daily_loss": st.sampled_from([None, 0.02, 0.1]),
        "max_daily_loss_usdc": st.sampled_from([None, 300.0]),
        "max_drawdown": st.sampled_from([None, 0.1, 0.3]),
        "max_market_usdc": st.sampled_from([None, 4_000.0]),
        "protect": st.booleans(),
        "cool_down_s": st.sampled_from([0.0, 5.0]),
        "guard_cuts": st.integers(1, 4),
        "guard_slippage_bps": st.integers(50, 200),
        "taker_fee_ppm": st.sampled_from([0, 800]),
        "stale_seconds": st.sampled_from([0.5, 60.0]),
        "act_below": st.sampled_from([0.03, 0.07]),
    },
).map(lambda changed: _policy(**changed))


@settings(max_examples=25)
@given(prices=PRICES, at=st.integers(0, 12), size=st.sampled_from(["0", "4", "10"]))
def test_a_change_to_the_same_changes_nothing(
    make_world: Any, prices: list[int], at: int, size: str
) -> None:
    """Whatever is held, lost or on its way: an equal policy is no other policy."""
    runs = []
    for same in (None, Policy(**dict(USUAL))):
        world = _held(make_world, USUAL, size)
        _walk(world, prices[:at])
        if same is not None:
            world.risk.change(same)
            _act(world)
        _walk(world, prices[at:], 2_000.0)
        runs.append((world.verdicts, world.changes, world.risk.triggers, world.risk.flight_plan))

    assert runs[0] == runs[1]


@settings(max_examples=80)
@given(prices=PRICES, at=st.integers(0, 8), size=st.sampled_from(["0", "4", "8"]), other=OTHERS)
def test_before_it_would_have_judged_otherwise_it_might_have_begun_with_it(
    make_world: Any, prices: list[int], at: int, size: str, other: Policy
) -> None:
    """Up to the change both judge alike: then the rest is as of a run that began with the other."""
    changed, begun = _held(make_world, USUAL, size), _held(make_world, other, size)
    assume(_walk(changed, prices[:at]) == _walk(begun, prices[:at]))
    assume(not (changed.risk._defence.move.is_on or begun.risk._defence.move.is_on))
    changed.risk.change(other)
    for world in (changed, begun):
        _act(world)

    assert changed.risk.flight_plan == begun.risk.flight_plan
    assert _walk(changed, prices[at:], 2_000.0) == _walk(begun, prices[at:], 2_000.0)
    assert changed.risk.triggers == begun.risk.triggers
    assert changed.risk.flight_plan == begun.risk.flight_plan


def test_one_that_the_guard_cannot_fly_by_changes_nothing(make_world: Any) -> None:
    """Whoever has not validated it: all of it is refused before any of it is set."""
    runs = []
    for wrong in (None, USUAL.model_copy(update={"taker_fee_ppm": -1, "max_leverage": 1.0})):
        world = _held(make_world, USUAL)
        _walk(world, [2_970])
        if wrong is not None:
            with pytest.raises(RiskError, match="expected taker_fee_ppm of 0 or more"):
                world.risk.change(wrong)
        runs.append((_walk(world, [2_950, 2_900, 2_800], 2_000.0), world.risk.flight_plan))

    assert world.risk.policy is USUAL
    assert runs[0] == runs[1]


def test_what_the_gate_becomes_by_it_is_reported(make_world: Any) -> None:
    """300 lost of 10,000: beyond a limit of 2 %, within one of 5 %; the act is the cause."""
    world = _held(make_world, USUAL)
    _walk(world, [2_970])
    seen = len(world.changes)
    for share in (0.02, 0.05):
        world.risk.change(_policy(max_daily_loss=share))
        _act(world)

    changes = world.changes[seen:]
    assert [change.state for change in changes] == ["REDUCING", "ACTIVE"]
    assert "300.00 USDC were lost since 00:00 UTC, limit 200.00" in changes[0].why


def test_what_was_lost_stays_so_beyond_the_new_limit(make_world: Any) -> None:
    """600 were lost of which 300 came back: 5.5 % forgives none of it, 7 % does."""
    world = _held(make_world, _policy(protect=False))
    _walk(world, [2_940, 2_970])
    states = []
    for share in (0.055, 0.07):
        world.risk.change(_policy(protect=False, max_daily_loss=share))
        _act(world)
        states.append(world.risk.standing.state)

    assert states == ["REDUCING", "ACTIVE"]


def test_a_drawdown_beyond_a_new_limit_closes_and_rests(make_world: Any) -> None:
    """As if it had come now; without any limit nothing is left of it but the rest."""
    world = _held(make_world, USUAL)
    _walk(world, [2_960])
    world.risk.change(_policy(max_daily_loss=0.03, max_drawdown=0.03))
    _act(world)
    fired = _walk(world, [2_959])
    world.risk.change(_policy(max_daily_loss=None, max_drawdown=None))
    _act(world)

    assert fired[0].cause in ("DAILY_LOSS", "DRAWDOWN")
    assert [reason for reason, _ in world.risk.standing.reasons] == ["COOL_DOWN"]


def test_what_is_in_flight_stays_in_flight(make_world: Any) -> None:
    """A second entry is denied as the first one has no answer yet, by whatever policy."""
    world = make_world(USUAL)
    world.block()
    first = world.decide("ETH-USD", 2_000.0)
    reserved = dict(world.risk.account.orders.reserved)
    world.risk.change(_policy(max_order_usdc=500.0, max_market_usdc=2_500.0))

    assert dict(world.risk.account.orders.reserved) == reserved
    assert world.risk.next_client_id == first.order.client_id + 1


def test_a_move_goes_on_as_if_it_had_begun_by_the_new_distances(make_world: Any) -> None:
    """The same fall, begun by either: what it took, and what it may take, is the same."""
    wide = {"restore_to": 0.22, "keep_above": 0.3}
    worlds = []
    for policy in (_policy(**wide, act_below=0.06), _policy(**wide, act_below=0.02)):
        world = _held(make_world, policy.model_copy(update={"protect": False}), "12")
        _walk(world, [2_880])
        worlds.append(world)
    changed, begun = worlds
    changed.risk.change(begun.risk.policy)
    _act(changed)

    now, then = changed.risk._defence.move, begun.risk._defence.move
    assert now.is_on
    assert (now.room, now.spent, now.held) == pytest.approx((then.room, then.spent, then.held))


def test_a_distance_that_is_not_defended_any_more_ends_the_move(make_world: Any) -> None:
    """At 20 % from liquidation nothing is near where 10 % are defended."""
    near = _policy(restore_to=0.25, keep_above=0.3, protect=False)
    world = _held(make_world, near, "12")
    _walk(world, [2_900])
    was_on = world.risk._defence.move.is_on
    world.risk.change(USUAL)

    assert (was_on, world.risk._defence.move.is_on) == (True, False)


def test_a_blind_account_is_judged_by_it_once_it_is_known(make_world: Any) -> None:
    """What is lost while the account is in doubt is held against the limit of then."""
    world = _held(make_world, USUAL)
    world.lose()
    world.risk.change(_policy(max_daily_loss=0.02))
    _walk(world, [2_970])
    blind = [reason for reason, _ in world.risk.standing.reasons]
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    _walk(world, [2_969])

    assert blind == ["UNKNOWN_ACCOUNT"]
    assert "DAILY_LOSS" in dict(world.risk.standing.reasons)


class _Restless:
    """The guard of an account that is looked at with every view."""

    calm = property(lambda self: None, lambda self, margin: None)


@settings(max_examples=25)
@given(prices=PRICES, size=st.sampled_from(["4", "8", "10"]), want=st.sampled_from([0.0, 2_000.0]))
def test_a_guard_that_found_nothing_to_do_would_find_nothing_again(
    make_world: Any, prices: list[int], size: str, want: float
) -> None:
    """One that weighs its account with every view, and not where a price moved, does the same."""
    runs = []
    for looks in (False, True):
        world = _held(make_world, USUAL, size)
        if looks:
            risk, kind = world.risk, type(world.risk._defence)
            restless = type("Restless", (_Restless, kind), {})
            risk._defence = restless(risk.valued, risk._turns, risk.policy)
        runs.append((_walk(world, prices, want), world.risk.triggers, world.risk.closest))

    assert runs[0] == runs[1]
