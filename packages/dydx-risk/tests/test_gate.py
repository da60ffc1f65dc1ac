"""The gate's states and limits, what it reserves, and what it takes for known."""

import json
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any, ClassVar

import pytest
from dydx_conn import Frame, OrderState, PositionState, Profit, instant
from dydx_risk import (
    Approved,
    Denied,
    Policy,
    Reduce,
    Returns,
    Risk,
    Standing,
    Verdict,
    audit_row,
)
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = 86_400 * 10**9
LOOSE = Policy(max_leverage=50, max_order_usdc=1e9, slippage_bps=0)
FREE = Policy(max_leverage=50, max_order_usdc=1e9, slippage_bps=0, keep_above=0.11)

# === States ===


def test_a_known_account_makes_the_gate_active(make_world: Any) -> None:
    """Before a snapshot only reductions pass; with it all that the limits allow."""
    assert Risk().standing.state == "REDUCING"
    assert Risk().standing.reasons == (("UNKNOWN_ACCOUNT", "no account snapshot yet"),)

    assert make_world().risk.standing.state == "ACTIVE"
    assert make_world().risk.standing.reasons == ()


def test_a_halt_stops_entries_and_nothing_else(make_world: Any) -> None:
    """What adds is denied, what shrinks passes, and liquidation is still fled."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.risk.stops.halt("the operator went home")

    denied = world.decide("ETH-USD", 60_000)
    assert (denied.reason, denied.why) == ("HALTED", "halted: the operator went home")
    assert denied.figures == (("halted", "the operator went home"),)
    assert world.risk.standing.state == "HALTED"
    world.oracle("ETH-USD", "2740")
    assert len(world.reductions) == 1
    world.fill(world.reductions[0], "-10000", "4")
    assert isinstance(world.decide("ETH-USD", 3_000), Approved)


@settings(max_examples=60)
@given(
    st.decimals("-3", "3", places=3).filter(lambda size: not 0 < abs(size) < 1),
    st.integers(-20_000, 20_000),
)
def test_no_entry_leaves_after_a_halt(make_world: Any, held: Decimal, target: int) -> None:
    """Whatever is held and wanted: less of it at the most, and never the other side."""
    world = make_world(FREE)
    world.account("30000", {"ETH-USD": (str(held), "3000")} if held else {})
    world.risk.stops.halt("a test")

    verdict = world.decide("ETH-USD", target)

    if isinstance(verdict, Approved):
        assert verdict.order.reduce_only
        assert verdict.order.signed_quantums * held < 0
        assert verdict.order.quantums <= abs(held.scaleb(9))


def test_a_halt_is_taken_back(world: Any) -> None:
    """Then the gate is what the account makes of it."""
    world.risk.stops.halt("")
    assert world.risk.standing.reasons == (("HALTED", "halted: no reason was given"),)

    world.risk.resume()

    assert world.risk.standing.state == "ACTIVE"
    assert isinstance(world.decide("ETH-USD", 3000), Approved)


def test_a_pause_stops_entries_until_it_is_taken_back(make_world: Any) -> None:
    """The gate is REDUCING, as by its own causes; what shrinks passes, and a halt goes before."""
    world = make_world()
    world.account("30000", {"ETH-USD": ("1", "3000")})
    world.risk.stops.pause("by key")

    denied = world.decide("ETH-USD", 60_000)
    assert (denied.reason, denied.why) == ("PAUSED", "entries are paused: by key")
    assert world.risk.standing.state == "REDUCING"
    assert isinstance(world.decide("ETH-USD", 1_000), Approved)
    world.risk.stops.halt("lunch")
    assert world.risk.standing.state == "HALTED"
    world.risk.resume()
    assert world.risk.standing.state == "ACTIVE"

    world.risk.stops.pause("")
    assert world.risk.standing.reasons == (("PAUSED", "entries are paused: no reason was given"),)
    world.risk.stops.unpause()
    assert world.risk.standing.state == "ACTIVE"


def test_what_was_lost_counts_on_over_a_pause(make_world: Any) -> None:
    """Only whoever takes a halt back has it measured from there on."""
    world = make_world(Policy(max_drawdown=0.05))
    world.account("30000", {"ETH-USD": ("5", "3000")})
    world.oracle("ETH-USD", "2000")
    assert "DRAWDOWN" in dict(world.risk.standing.reasons)

    world.risk.stops.pause("")
    world.risk.stops.unpause()

    assert "DRAWDOWN" in dict(world.risk.standing.reasons)


def test_each_change_of_the_gate_is_a_value(make_world: Any) -> None:
    """With the event that it comes with, what it was, what it is, and every reason."""
    world = make_world()
    (known,) = world.changes
    world.at += 10**9
    world.lose()
    world.risk.stops.halt("lunch")
    world.put(Frame(99, world.at + 1, 0, "a person", "act", "lunch", "halt"))
    world.lose()

    assert (known.id, known.was, known.state, known.reasons) == ("G1", "REDUCING", "ACTIVE", ())
    assert known.why == "gate REDUCING -> ACTIVE"
    halted = world.changes[-1]
    assert (halted.seq, halted.at) == (99, world.at + 1)
    assert [(c.id, c.was, c.state) for c in world.changes[1:]] == [
        ("G2", "ACTIVE", "REDUCING"),
        ("G3", "REDUCING", "HALTED"),
    ]
    assert halted.reasons[0] == ("HALTED", "halted: lunch")
    why = "halted: lunch; account frames were lost: close"
    assert halted.why == f"gate REDUCING -> HALTED: {why}"


def test_a_change_comes_before_the_verdict_that_it_explains(make_world: Any) -> None:
    """Time alone makes a polled account unknown, and what follows is denied for it."""
    world = make_world()
    world.lose()
    world.update(polled=True)
    world.at += 60 * 10**9
    world.oracle("ETH-USD", "3000")
    change, verdict = world.changes[-1], world.decide("ETH-USD", 3_000)

    assert (change.was, change.state) == ("ACTIVE", "REDUCING")
    assert (change.seq, change.at) == (verdict.seq, verdict.at)
    assert verdict.reason == "UNKNOWN_ACCOUNT"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["loss", "doubt", "known", "poll", "blind", "halt", "resume"])))
def test_the_last_change_is_what_the_gate_stands_at(make_world: Any, events: list[str]) -> None:
    """No state goes by unreported, none is reported twice, and each but ACTIVE has its reasons."""
    world = make_world(Policy(max_drawdown=0.1, stale_seconds=1))
    acts = {
        "doubt": world.lose,
        "known": lambda: world.account("4000", {"ETH-USD": ("2", "3000")}),
        "poll": lambda: world.update(polled=True),
        "blind": lambda: world.account("4000", {"XYZ-USD": ("2", "3000")}),
        "halt": lambda: world.risk.stops.halt("a test"),
        "resume": world.risk.resume,
        "loss": lambda: world.oracle("ETH-USD", "2500"),
    }
    for event in events:
        acts[event]()
        world.at += 10**9
        world.oracle("ETH-USD", "3000")
        standing, changes = world.risk.standing, world.changes

        assert changes[-1].state == standing.state
        assert bool(standing.reasons) == (standing.state != "ACTIVE")
        assert all(new.was == old.state != new.state for old, new in pairwise(changes))


def test_a_days_loss_ends_the_days_risk(make_world: Any) -> None:
    """Beyond the limit only reductions pass, though the price comes back; till 00:00 UTC."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("4000", {"ETH-USD": ("2", "3000")})
    world.oracle("ETH-USD", "2760")
    assert world.risk.standing.state == "ACTIVE"  # 480 of the 500 are lost

    world.oracle("ETH-USD", "2700")
    world.oracle("ETH-USD", "3000")
    denied = world.decide("ETH-USD", 9000)
    assert (denied.reason, denied.figures) == (
        "DAILY_LOSS",
        (("lost", "600.00"), ("limit", "500.00")),
    )
    assert isinstance(world.decide("ETH-USD", 3000), Approved)
    world.at += DAY
    world.block(300)
    world.book("ETH-USD", [("2999.9", "5")], [("3000.1", "5")])
    world.oracle("ETH-USD", "3000")
    assert world.risk.standing.state == "ACTIVE"


@pytest.mark.parametrize(("price", "state"), [("2750", "ACTIVE"), ("2749.999999", "REDUCING")])
def test_a_days_loss_of_just_the_limit_is_not_beyond_it(
    make_world: Any, price: str, state: str
) -> None:
    """500 may be lost; two quantums more are too much."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("4000", {"ETH-USD": ("2", "3000")})

    world.oracle("ETH-USD", price)

    assert world.risk.standing.state == state


def test_a_day_opens_with_what_the_last_one_closed_with(make_world: Any) -> None:
    """A gap over midnight is lost on the new day, not on none."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("4000", {"ETH-USD": ("2", "3000")})
    world.at += DAY
    world.oracle("ETH-USD", "2700")

    assert world.risk.standing.reasons[0][0] == "DAILY_LOSS"


def test_what_is_paid_in_or_out_is_no_profit(make_world: Any) -> None:
    """A withdrawal is no loss, and a deposit hides none."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.update(profit=Profit(transferred=-9 * 10**9), collateral=10**9)
    assert (world.risk.standing.state, world.risk.account.transferred) == ("ACTIVE", -9 * 10**9)

    world.update(profit=Profit(), collateral=9_400 * 10**6)
    assert world.risk.standing.reasons == (
        (
            "DAILY_LOSS",
            "600.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
        ),
    )


@pytest.mark.parametrize("usdc", [-5_000, 5_000])
def test_a_balance_without_its_cause_is_neither_won_nor_lost(make_world: Any, usdc: int) -> None:
    """A transfer is reported as a balance first, and then as a transfer."""
    policy = Policy(max_daily_loss_usdc=500, max_drawdown=0.06)
    world = make_world(policy)
    world.account("7000", {"ETH-USD": ("1", "3000")})
    moved = usdc * 10**6
    world.update(collateral=7_000 * 10**6 + moved, unexplained=moved)
    world.update(unexplained=0, profit=Profit(transferred=moved))
    assert world.risk.standing.state == "ACTIVE"

    world.update(collateral=7_000 * 10**6, unexplained=-moved)
    world.update(unexplained=0, profit=Profit())
    world.oracle("ETH-USD", "2499")

    lost = (
        "DAILY_LOSS",
        "501.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
    )
    assert world.risk.standing.reasons[0] == lost


def test_who_looks_sees_a_loss_before_its_cause(make_world: Any) -> None:
    """The falls that limits go by wait for the cause; those on a screen go with the equity."""
    world = make_world(Policy())
    world.account("7000", {"ETH-USD": ("1", "3000")})
    world.update(collateral=6_000 * 10**6, unexplained=-1_000 * 10**6)
    waiting = world.risk.falls.today, world.risk.falls_now.today
    world.update(unexplained=0)

    assert waiting == (0, -1_000 * 10**6)
    assert world.risk.falls_now.today == world.risk.falls.today == -1_000 * 10**6


def test_a_size_whose_fills_are_to_come_is_not_judged(make_world: Any) -> None:
    """The balance of a match comes with its size, and its cause after both."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    bought = {"ETH-USD": ("1", "3000")}
    world.update(collateral=1_000 * 10**6, unexplained=-9_000 * 10**6)
    world.account("7000", bought)

    assert world.risk.standing.state == "ACTIVE"


def test_what_came_while_nobody_listened_is_no_profit(make_world: Any) -> None:
    """It hides no loss: at the same prices, more can only have been paid in."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    world.lose()
    world.account("6000", {"ETH-USD": ("3", "3000")})
    assert world.risk.standing.state == "ACTIVE"

    world.oracle("ETH-USD", "2800")

    assert world.risk.standing.reasons == (
        (
            "DAILY_LOSS",
            "600.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
        ),
    )


def test_what_was_paid_in_while_nobody_listened_counts_once(make_world: Any) -> None:
    """Its list comes after the balance: it is neither found nor lost beside that."""
    world = make_world(Policy(max_daily_loss_usdc=500, max_drawdown=0.06))
    world.account("4000", {"ETH-USD": ("2", "3000")})
    world.lose()
    moved = 5_000 * 10**6
    world.update(collateral=9_000 * 10**6, unexplained=moved, doubt="")
    world.update(unexplained=0, profit=Profit(transferred=moved))
    assert world.risk.standing.state == "ACTIVE"

    world.oracle("ETH-USD", "2749")

    lost = (
        "DAILY_LOSS",
        "502.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
    )
    assert world.risk.standing.reasons == (lost,)


def test_what_went_while_nobody_listened_may_be_lost(make_world: Any) -> None:
    """Whether it was withdrawn nobody knows."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    world.lose()

    world.account("400", {"ETH-USD": ("3", "3000")})

    assert world.risk.standing.reasons[0][0] == "DAILY_LOSS"


def paid(usdc: int, *, cause: bool) -> dict[str, Profit]:
    """Return the profit of an account that was paid so much, its transfer reported or not yet."""
    amount = usdc * 10**6
    return {"profit": Profit(transferred=amount) if cause else Profit(funding=-amount)}


@pytest.mark.parametrize("usdc", [-600, 5_000])
@pytest.mark.parametrize("lost", [False, True])
def test_a_transfer_that_is_reported_late_was_no_profit_and_no_loss(
    make_world: Any, usdc: int, lost: bool
) -> None:
    """After its block is over, or after an outage: what was judged of it is taken back."""
    world = make_world(Policy(max_daily_loss_usdc=500, max_drawdown=0.1))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    if lost:
        world.lose()
    balance = {"collateral": (1_000 + usdc) * 10**6, "settled": True}
    world.update(**balance, **paid(usdc, cause=False))
    tripped = world.risk.standing.state

    world.update(**balance, **paid(usdc, cause=True))
    explained = world.risk.standing
    world.oracle("ETH-USD", "2830")  # 510 USDC

    assert tripped == ("REDUCING" if usdc < 0 else "ACTIVE")
    assert explained == Standing(state="ACTIVE")
    assert world.risk.standing.reasons == (
        (
            "DAILY_LOSS",
            "510.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
        ),
    )


def test_a_deposit_that_is_listed_before_its_balance_counts_once(make_world: Any) -> None:
    """REST may have the transfer while the account is still unknown."""
    world = make_world(Policy(max_daily_loss_usdc=500, max_drawdown=0.1))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    world.lose()
    world.update(doubt="account frames were lost: close", **paid(5_000, cause=True))

    world.update(collateral=6_000 * 10**6, settled=True, **paid(5_000, cause=True))

    assert world.risk.standing == Standing(state="ACTIVE")


def test_a_loss_stays_one_when_a_transfer_is_explained(make_world: Any) -> None:
    """What prices took is judged again, not forgiven."""
    world = make_world(Policy(max_daily_loss_usdc=500))
    world.account("1000", {"ETH-USD": ("3", "3000")})
    world.oracle("ETH-USD", "2800")
    world.update(collateral=400 * 10**6, settled=True, **paid(-600, cause=False))

    world.update(collateral=400 * 10**6, settled=True, **paid(-600, cause=True))

    assert world.risk.standing.reasons == (
        (
            "DAILY_LOSS",
            "600.00 USDC were lost since 00:00 UTC, limit 500.00: nothing enters until 00:00 UTC",
        ),
    )


def test_a_drawdown_waits_for_a_person(make_world: Any) -> None:
    """From the peak, whatever the day; after a resume it is measured from there."""
    world = make_world(Policy(max_drawdown=0.1))
    world.account("4000", {"ETH-USD": ("2", "3000")})
    world.oracle("ETH-USD", "3500")
    world.at += DAY
    world.oracle("ETH-USD", "2940")
    world.oracle("ETH-USD", "3400")
    why = "drawdown 10.1 %, limit 10.0 %: measured anew when resumed"
    assert world.risk.standing.reasons == (("DRAWDOWN", why),)

    world.risk.resume()
    assert world.risk.standing.state == "ACTIVE"


def test_what_is_worth_nothing_is_drawn_down_all_the_more(make_world: Any) -> None:
    """An account in debt has no share left to lose."""
    world = make_world(Policy(max_drawdown=0.9))
    world.account("-100")

    assert world.risk.standing.reasons[0][0] == "DRAWDOWN"


# === Limits ===


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"max_account_usdc": 6_000}, "NOTIONAL: notional in USDC would be 9,000.00"),
        ({"max_account_share": 0.375}, "NOTIONAL: notional in equities would be 0.56, limit 0.38"),
        ({"max_market_usdc": 2}, "MARKET_NOTIONAL: notional of ETH-USD in USDC would be 3,000"),
        (
            {"max_market_usdc": 2e5, "market_usdc": {"ETH-USD": 1}},
            "MARKET_NOTIONAL: notional of ETH-USD in USDC would be 3,000.00, limit 1.00",
        ),
        (
            {"max_market_share": 0.0001},
            "MARKET_NOTIONAL: notional of ETH-USD in equities would be 0.19, limit 0.00",
        ),
        ({"max_positions": 1}, "POSITIONS: positions would be 2.00, limit 1.00"),
        ({"max_slippage_bps": 1}, "SLIPPAGE: slippage in bps would be"),
    ],
)
def test_limits_name_what_would_be_and_what_may(make_world: Any, policy: Any, words: str) -> None:
    """Each denial names its figure and the limit, as text and as figures."""
    world = make_world(Policy(**policy))
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    world.book("ETH-USD", [("2999", "5")], [("3001", "5")])
    denied = world.decide("ETH-USD", 3000)

    assert f"{denied.reason}: {denied.why}".startswith(words)
    assert [name for name, _ in denied.figures] == ["would_be", "limit"]


@pytest.mark.parametrize(
    ("limits", "target", "size", "words"),
    [
        # Of 16,000; each USDC of the order costs 0.1 bps to the ask, 30 bps at worst, and the fee.
        (
            {"max_market_share": 0.1},
            3_000,
            "0.533",
            "cut to 0.1 of notional of ETH-USD in equities",
        ),
        ({"max_market_share": 0.1}, -3_000, "0.533", "cut to 0.1 of notional of ETH-USD in equit"),
        ({"max_account_share": 0.5}, 3_000, "0.665", "cut to 0.5 of notional in equities"),
        ({"max_account_share": 0.5, "max_market_share": 0.1}, 3_000, "0.533", "cut to 0.1 of"),
        ({"max_account_usdc": 8_000}, 3_000, "0.666", "cut to 8000 of notional in USDC"),
        ({"max_market_usdc": 2_000}, 3_000, "0.666", "cut to 2000 of notional of ETH-USD in USDC"),
        (
            {"max_market_usdc": 2e5, "market_usdc": {"ETH-USD": 1_000}},
            3_000,
            "0.333",
            "cut to 1000 of notional of ETH-USD in USDC",
        ),
    ],
)
def test_an_order_is_cut_to_the_tightest_limit_of_notional(
    make_world: Any, limits: Any, target: float, size: str, words: str
) -> None:
    """What is left of it beside what is held, its own cost deducted, to the step."""
    world = make_world(Policy(**limits))
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    cut = world.decide("ETH-USD", target)

    assert isinstance(cut, Approved), cut.why
    assert abs(cut.order.signed_quantums) == int(Decimal(size).scaleb(9))
    assert words in cut.why


def test_a_share_of_equity_counts_what_is_in_flight(make_world: Any) -> None:
    """Two orders of one moment share the limit, and the second gets what the first has left."""
    world = make_world(Policy(max_account_share=0.5))
    world.book("BTC-USD", [("59999", "5")], [("60001", "5")])
    first, second = world.decide("ETH-USD", 3_000), world.decide("BTC-USD", 3_000)
    third = world.decide("BTC-USD", 6_000)

    assert "cut" not in first.why
    assert "cut to 0.5 of notional in equities" in second.why
    assert second.after.notional <= second.after.net_collateral / 2
    assert second.after.notional > 0.49 * second.after.net_collateral
    assert third.reason == "IN_FLIGHT"


def test_no_share_of_nothing_may_be_entered(make_world: Any) -> None:
    """An account in debt has no share left: what it would be is infinite."""
    world = make_world(Policy(max_market_share=0.5))
    world.account("-100")
    denied = world.decide("ETH-USD", 3_000)

    assert (denied.reason, denied.why) == (
        "MARKET_NOTIONAL",
        "notional of ETH-USD in equities would be inf, limit 0.50",
    )


@settings(max_examples=60)
@given(
    st.integers(100, 50_000),
    st.integers(-300_000, 300_000).filter(bool),
    st.decimals("-5", "5", places=3),
    st.floats(0.001, 3),
    st.floats(1, 3),
    st.integers(0, 500),
)
def test_whatever_is_approved_is_within_its_share(
    make_world: Any, usdc: int, target: int, held: Decimal, share: float, more: float, bps: int
) -> None:
    """Filled at its worst price: no more of the equity that is left than the policy lets in."""
    world = make_world(
        Policy(
            max_market_share=share, max_account_share=share * more, max_leverage=50,
            max_order_usdc=1e9, slippage_bps=bps, guard_slippage_bps=500,
        ),
        guard=False,
    )  # fmt: skip
    cash = Decimal(usdc) - held * 3_000
    world.account(str(cash), {"ETH-USD": (str(held), "3000")} if held else {})
    verdict = world.decide("ETH-USD", target)

    if isinstance(verdict, Approved) and not verdict.order.reduce_only:
        size = held + Decimal(verdict.order.signed_quantums).scaleb(-9)
        price = Decimal(verdict.order.subticks).scaleb(-6)
        paid = (size - held) * price + abs(size - held) * price * Decimal("0.0005")
        equity = cash - paid + size * 3_000
        assert abs(size) * 3_000 <= Decimal(share) * equity + Decimal("0.000001")
    elif isinstance(verdict, Denied) and verdict.reason == "MARKET_NOTIONAL":
        # No step more would have been within it.
        assert (abs(held) + Decimal("0.001")) * 3_000 > Decimal(share) * usdc * Decimal("0.94")


# === Warm-up ===


def test_a_market_is_entered_when_enough_of_it_is_known(make_world: Any) -> None:
    """Watched for a minute; what is held may be left at once."""
    world, known = make_world(Policy(warm_up_s=60), guard=False), []
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    leaving = world.decide("BTC-USD", 0)
    for _ in range(8):
        world.at += 9_000_000_000
        world.block()
        world.oracle("ETH-USD", "3000")
        known.append(world.decide("ETH-USD", 3_000))
        world.risk.account.orders.reserved.clear()

    assert isinstance(leaving, Approved)
    assert [type(verdict) for verdict in known] == [Denied] * 6 + [Approved] * 2
    assert (known[2].reason, known[2].why, dict(known[2].figures)) == (
        "WARM_UP",
        "20 s of the last hour of ETH-USD are known, expected 60 s",
        {"known_s": "20.0", "limit_s": "60.0"},
    )


def test_candles_that_were_sent_are_a_market_that_is_known(make_world: Any) -> None:
    """A first look at a market with an hour of candles is enough, and its volatility known."""
    world = make_world(Policy(warm_up_s=300, max_volatility_1h=0.02), guard=False)
    closes = [str(3000 + n % 2) for n in range(7)]
    minutes = [
        {
            "startedAt": f"2026-07-14T09:{30 - n:02}:00.000Z", "open": close, "high": close,
            "low": close, "close": close, "baseTokenVolume": "1", "usdVolume": "3000", "trades": 1,
        }
        for n, close in enumerate(closes)
    ]  # fmt: skip
    world.at = instant("2026-07-14T09:31:00.000Z")
    world.block()
    unknown = world.decide("ETH-USD", 3_000)
    world.send(world.wire.candles("ETH-USD", "1MIN", *minutes, snapshot=True))
    world.at += 9_000_000_000
    world.block()
    world.book("ETH-USD", *([("2999.9", "50")], [("3000.1", "50")]))
    world.account("10000")
    known = world.decide("ETH-USD", 3_000)

    assert unknown.reason == "WARM_UP"
    assert isinstance(known, Approved), known.why


def test_a_market_may_have_more_than_the_others(make_world: Any) -> None:
    """What a policy sets for one ticker stands in place of the limit of all."""
    policy = Policy(max_market_usdc=1_000, market_usdc={"ETH-USD": 4_000})

    assert isinstance(make_world(policy).decide("ETH-USD", 3000), Approved)


def test_more_of_a_market_that_is_held_is_no_further_position(make_world: Any) -> None:
    """The limit counts markets."""
    world = make_world(Policy(max_positions=1))
    world.account("10000", {"ETH-USD": ("1", "3000")})

    assert isinstance(world.decide("ETH-USD", 6000), Approved)


def test_orders_are_counted_by_the_minute_of_event_time(make_world: Any) -> None:
    """Reductions count and pass; the rest waits for the minute to go by."""
    world = make_world(Policy(max_orders_per_minute=1))
    world.account("10000", {"ETH-USD": ("2", "3000")})
    for target in (4500, 3000):
        assert isinstance(world.decide("ETH-USD", target), Approved)
        id_ = world.order_id("ETH-USD")
        world.order(id_, "CANCELLED")
    assert world.decide("ETH-USD", 9000).figures == (
        ("would_be", "3.000000"),
        ("limit", "1.000000"),
    )

    world.at += 60 * 10**9
    world.block(101)
    world.book("ETH-USD", [("2999.9", "5")], [("3000.1", "5")])
    world.oracle("ETH-USD", "3000.5")
    assert isinstance(world.decide("ETH-USD", 9000), Approved)


@given(st.lists(st.tuples(st.integers(0, 90), st.sampled_from([0, 0, 3_600, -3_600, 86_400]))))
@settings(max_examples=40)
def test_a_clock_that_jumps_holds_no_entry_up(
    make_world: Any, steps: list[tuple[int, int]]
) -> None:
    """A minute after the last jump an entry passes, and within it the rate still holds."""
    world = make_world(Policy(max_orders_per_minute=1, max_daily_loss_usdc=1_000))
    jumped, mono = 10 * 86_400, world.wire.mono

    def see(seconds: float) -> None:
        nonlocal mono
        mono += round(seconds * 10**9)
        world.at = mono + jumped * 10**9
        wire, world.height = world.wire, world.height + 1
        wire.mono = mono
        world.send(wire.block(world.height, "2026-07-14T09:31:07.000Z"))
        wire = world.wire
        wire.mono = mono
        world.send(wire.oracle("ETH-USD", "3000"))
        world.update()  # stamped by the clock as it is

    def enter() -> Verdict:
        view = world.state.views["ETH-USD"]
        world.seq, world.at = view.seq, view.at  # a decision has the time of its view
        verdict: Verdict = world.decide("ETH-USD", 3_000)
        world.risk.account.orders.reserved.clear()
        return verdict

    see(1)
    enter()
    for seconds, jump in steps:
        jumped += jump
        see(seconds)
        enter()
    see(61)
    see(1)
    passed, held_back = enter(), enter()

    assert isinstance(passed, Approved), passed
    assert isinstance(held_back, Denied)
    assert held_back.reason == "ORDER_RATE"


def test_volatility_goes_on_after_a_clock_that_went_back(make_world: Any) -> None:
    """An hour must not be waited for: the returns go on from the next step."""
    world, returns = make_world(), Returns(least=3)
    for at_s in (4_000, 4_010, 400, 410, 420, 430):
        world.oracle("ETH-USD", str(3_000 + at_s))
        returns.sample(at_s * 10**9, world.state.views)

    assert returns.volatility_1h("ETH-USD") is not None


def test_the_margin_is_no_younger_than_its_oldest_price(make_world: Any) -> None:
    """A position whose price may have moved unseen makes the account unknown, whatever is traded."""
    world = make_world()
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    world.send(world.wire.message("unsubscribed", "v4_markets"))
    world.at += 40 * 10**9
    world.block(101)
    world.book("ETH-USD", [("2999.9", "5")], [("3000.1", "5")])
    world.oracle("ETH-USD", "3000.5")
    denied = world.decide("ETH-USD", 3000)

    assert denied.reason == "STALE"
    assert denied.why == "the oracle price of BTC-USD is not confirmed for 41.0 s, limit 30 s"


def test_a_quiet_holding_stops_no_market(make_world: Any) -> None:
    """The chain refuses small moves: while blocks and the link are fresh, the last price counts."""
    world = make_world()
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    for _ in range(300):
        world.block()

    assert isinstance(world.decide("ETH-USD", 3000), Approved)


@settings(max_examples=60)
@given(
    st.decimals("-4", "4", places=3).filter(lambda size: abs(size) >= 1),
    st.floats(0, 0.9),
    st.integers(-20_000, 20_000),
    st.sampled_from(["doubt", "book", "loss", "in flight", "halt", "nothing"]),
    st.floats(0.01, 10_000),
)
def test_no_limit_blocks_what_shrinks(
    make_world: Any, held: Decimal, share: float, usdc: int, trouble: str, tight: float
) -> None:
    """Whatever the limits and the doubts: toward zero there is always a way."""
    policy = Policy(
        max_account_usdc=tight,
        max_market_usdc=tight,
        max_account_share=min(tight, 5),
        max_market_share=min(tight, 5),
        warm_up_s=3_000,
        bear_move=0.99,
        max_volatility_1h=0.0001,
        max_positions=1,
        max_orders_per_minute=1,
        max_slippage_bps=tight / 1e6,
        max_daily_loss_usdc=tight,
        max_drawdown=0.0001,
        stale_seconds=0.5,
    )
    world = make_world(policy, guard=False)
    world.account("30000", {"ETH-USD": (str(held), "3000")})
    if trouble == "in flight":
        world.risk.policy = FREE
        world.decide("ETH-USD", float(held) * 3100)
        world.risk.policy = policy
    world.account(str(usdc), {"ETH-USD": (str(held), "3000")})
    if trouble == "loss":
        world.oracle("ETH-USD", "2000" if held > 0 else "4000")
    if trouble == "doubt":
        world.lose()
    if trouble == "halt":
        world.risk.stops.halt("a test")
    if trouble == "book":
        world.book("ETH-USD", [], [])
    price = float(world.risk.positions()[0].oracle_price)
    verdict = world.decide("ETH-USD", float(held) * share * price)

    assert isinstance(verdict, Approved)
    assert verdict.order.reduce_only
    assert 0 < verdict.order.quantums <= abs(held.scaleb(9))


def test_an_order_raises_the_open_interest_that_its_own_margin_is_scaled_by(
    make_world: Any,
) -> None:
    """Between the caps: 3,000 more of 30,000,000 make 5 % of initial margin a little more."""
    caps = {"openInterestLowerCap": "20000000", "openInterestUpperCap": "50000000"}
    world = make_world(openInterest="10000", **caps)

    verdict = world.decide("ETH-USD", 3_000)

    # 10,001 ETH at 3,000 USDC: (30,003,000 - 20,000,000) of 30,000,000 of the way to 100 %.
    share = Fraction(1, 20) + Fraction(19, 20) * Fraction(10_003_000, 30_000_000)
    assert abs(verdict.after.initial_margin - 3_000 * 10**6 * share) <= 3_000
    alone = Fraction(1, 20) + Fraction(19, 20) * Fraction(10_000_000, 30_000_000)
    assert verdict.after.initial_margin > 3_000 * 10**6 * alone + 200_000


# === Sizing ===


def test_an_order_is_cut_to_what_survives_a_move_of_every_market(make_world: Any) -> None:
    """A proposal of 40,000 with 10,000: what remains after a fall by a fifth is not liquidated."""
    world = make_world(Policy(bear_move=0.2, max_order_usdc=1e6, max_leverage=50, keep_above=0.11))
    verdict = world.decide("ETH-USD", 60_000)

    assert isinstance(verdict, Approved)
    assert "sized by the decision's size; the margin bears" in verdict.why
    worth = verdict.after.notional / 1e6
    assert 40_000 < worth < 45_000
    # 20 % lost, 3 % of the rest to maintain: a step more would be too much.
    assert 10_000 - 0.2 * worth - 0.03 * 0.8 * worth < 160


def test_an_order_is_cut_to_a_usual_hours_volatility(make_world: Any) -> None:
    """Where nobody knows the market's, nothing is sized; what fits is left as proposed."""
    world = make_world(Policy(max_volatility_1h=0.01))
    unknown = world.decide("ETH-USD", 10_000)
    for step in range(60):
        world.at += 5 * 1_000_000_000
        world.block()
        world.at -= 1_000_000_000
        world.oracle("ETH-USD", "3003" if step % 4 < 2 else "3000")
    world.book("ETH-USD", *([("2999.9", "50")], [("3000.1", "50")]))
    small, large = world.decide("ETH-USD", 1_000), None
    world.risk.account.orders.reserved.clear()
    large = world.decide("ETH-USD", 10_000)

    assert (unknown.reason, unknown.why, dict(unknown.figures)) == (
        "VOLATILITY_UNKNOWN",
        "ETH-USD cannot be sized: no usable volatility, none is known yet",
        {"volatility_1h": "None", "known_s": "0.0"},
    )
    assert "sized" not in small.why
    assert "sized by 1.00 % an hour at a volatility of" in large.why
    # A step of ten seconds moves it by 0.1 %, an hour by 1.9: about half of equity is enough.
    assert 5_000 < large.after.notional / 1e6 < 5_700


def test_what_is_in_flight_is_borne_too(make_world: Any) -> None:
    """The second order has the room that the first has left."""
    policy = Policy(bear_move=0.2, max_order_usdc=1e6, max_leverage=50, keep_above=0.11)
    world = make_world(policy)
    world.book("BTC-USD", [("59999", "5")], [("60001", "5")])
    first = world.decide("ETH-USD", 30_000)
    second = world.decide("BTC-USD", 30_000)
    third = world.decide("BTC-USD", 60_000)

    assert "sized" not in first.why
    assert second.after.notional / 1e6 < 45_000
    assert "sized by" in second.why
    assert third.reason == "IN_FLIGHT"


def test_a_position_that_is_too_large_is_not_made_larger(make_world: Any) -> None:
    """Nor smaller: sizing bounds what is proposed, and never closes what is held."""
    world = make_world(Policy(bear_move=0.33, max_order_usdc=1e6, max_leverage=50, keep_above=0.11))
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    denied = world.decide("ETH-USD", 33_000)

    assert denied.reason == "SIZE"
    assert "the margin bears" in denied.why
    assert dict(denied.figures)["wanted"] == "11000000000"
    assert isinstance(world.decide("ETH-USD", 27_000), Approved)


@settings(max_examples=60)
@given(
    st.integers(1_000, 50_000),
    st.integers(-300_000, 300_000).filter(bool),
    st.decimals("-5", "5", places=3),
    st.floats(0.01, 0.6),
)
def test_whatever_is_approved_survives_the_bear(
    make_world: Any, usdc: int, target: int, held: Decimal, move: float
) -> None:
    """Filled at its worst price, then every market moves against it: not liquidatable."""
    world = make_world(
        Policy(bear_move=move, max_order_usdc=1e9, max_leverage=50, keep_above=0.11), guard=False
    )
    cash = usdc - float(held) * 3_000
    world.account(f"{cash:.6f}", {"ETH-USD": (str(held), "3000")} if held else {})
    verdict = world.decide("ETH-USD", target)

    if isinstance(verdict, Approved) and not verdict.order.reduce_only:
        size = held + Decimal(verdict.order.signed_quantums).scaleb(-9)
        price = Decimal(verdict.order.subticks).scaleb(-6)
        paid = (size - held) * price + abs(size - held) * price * Decimal("0.0005")
        world.account(f"{Decimal(cash) - paid:.6f}", {"ETH-USD": (str(size), "3000")})
        bear = 3_000 * (1 - move if size > 0 else 1 + move)
        world.oracle("ETH-USD", f"{bear:.6f}")
        assert world.risk.alarm in ("safe", "danger", "flat")


# === In flight ===


def test_the_way_out_is_not_behind_the_way_in(world: Any) -> None:
    """An order in flight that adds does not keep one that reduces waiting."""
    world.account("10000", {"ETH-USD": ("1", "3000")})
    first = world.decide("ETH-USD", 6000)
    second = world.decide("ETH-USD", 0)

    assert isinstance(first, Approved)
    assert (second.order.reduce_only, second.order.quantums) == (True, 1_000_000_000)
    assert len(world.risk.account.orders.in_flight("ETH-USD")) == 2


def test_what_is_on_its_way_out_is_not_sent_twice(world: Any) -> None:
    """A second decision to leave sends the rest of it, or waits."""
    world.account("10000", {"ETH-USD": ("3", "3000")})
    world.decide("ETH-USD", 6000)

    assert world.decide("ETH-USD", 6000).reason == "IN_FLIGHT"
    assert world.decide("ETH-USD", 3000).order.quantums == 1_000_000_000
    denied = world.decide("ETH-USD", 3000)
    assert dict(denied.figures) == {"verdict": "V3", "until": "105", "now": "100"}


def test_the_guard_does_not_wait_for_an_order_in_doubt(make_world: Any) -> None:
    """Reductions cannot flip a position: one that a node dropped is tried again at once."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.oracle("ETH-USD", "2740")
    id_ = world.order_id("ETH-USD")
    world.order(id_, "OPEN", leaving=True)
    world.block()
    world.oracle("ETH-USD", "2735")

    assert [reduce.rung for reduce in world.reductions] == [1, 2]
    assert len(world.risk.account.orders.in_flight("ETH-USD")) == 2


SHUT = "clob 34: the market's status does not allow it"


@pytest.mark.parametrize(("reason", "sent"), [(SHUT, 2), ("sdk 20: the mempool is full", 7)])
def test_a_market_that_the_chain_shut_is_not_tried_at_every_block(
    make_world: Any, reason: str, sent: int
) -> None:
    """The indexer may report its status later: until then one reduction in five blocks."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.oracle("ETH-USD", "2740")

    for n in range(1, 7):
        world.order(world.order_id("ETH-USD"), "REJECTED", reason=reason)
        world.block()
        world.oracle("ETH-USD", str(2740 - n))

    assert len(world.reductions) == sent


def test_an_exit_that_the_chain_refused_says_why_the_next_one_waits(world: Any) -> None:
    """Not that there was no answer."""
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.decide("ETH-USD", 0)
    world.order(world.order_id("ETH-USD"), "REJECTED", reason=SHUT)

    denied = world.decide("ETH-USD", 0)

    assert denied.reason == "IN_FLIGHT"
    assert denied.why == f"V1 was refused, {SHUT}: until block 105, now 100"


@settings(max_examples=60)
@given(
    st.integers(2_000, 60_000),
    st.lists(
        st.tuples(st.sampled_from(["ETH-USD", "BTC-USD"]), st.integers(-90_000, 90_000)),
        min_size=1,
        max_size=5,
    ),
    st.decimals("-4", "4", places=3),
)
def test_whatever_of_the_orders_in_flight_fills_the_account_is_collateralised(
    make_world: Any, usdc: int, decided: list[tuple[str, int]], held: Decimal
) -> None:
    """Any subset, each at its worst price, fee paid: initial margin is never lacking."""
    world = make_world(FREE, guard=False)
    world.book("BTC-USD", [("59999", "9")], [("60001", "9")])
    world.account(str(usdc), {"ETH-USD": (str(held), "3000")} if held else {})
    if world.risk.margin.free_collateral < 0:
        return
    orders = [v.order for t, w in decided if isinstance(v := world.decide(t, w), Approved)]
    grows = [order for order in orders if not order.reduce_only]

    for chosen in (c for n in range(1, len(grows) + 1) for c in combinations(grows, n)):
        sizes, cash = {"ETH-USD": held, "BTC-USD": Decimal(0)}, Decimal(usdc)
        for order in chosen:
            digits = 9 if order.ticker == "ETH-USD" else 10
            size = Decimal(order.signed_quantums).scaleb(-digits)
            price = Decimal(order.subticks).scaleb(-6 if order.ticker == "ETH-USD" else -5)
            cash -= size * price + abs(size) * price * Decimal("0.0005") + Decimal("0.000001")
            sizes[order.ticker] += size
        world.account(f"{cash:f}", {t: (str(size), "3000") for t, size in sizes.items() if size})
        assert world.risk.margin.free_collateral >= -2


def test_an_order_beyond_the_position_is_a_way_out_too(make_world: Any) -> None:
    """Sent while nothing was held, it meets a long now: neither gate nor guard sends beside it."""
    world = make_world(LOOSE)
    short = world.decide("ETH-USD", -60_000)
    world.account("-25000", {"ETH-USD": ("10", "3000")})

    leaving = world.decide("ETH-USD", 0)
    world.oracle("ETH-USD", "2740")

    assert (short.order.signed_quantums, leaving.reason) == (-20 * 10**9, "IN_FLIGHT")
    assert world.reductions == []
    world.order(world.order_id("ETH-USD"), "CANCELLED")
    world.block()
    world.oracle("ETH-USD", "2739")
    assert [reduce.order.quantums <= 10 * 10**9 for reduce in world.reductions] == [True]


@settings(max_examples=100)
@given(
    st.integers(3_000, 60_000),
    st.decimals("-4", "4", places=3),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["ETH-USD", "BTC-USD"]), st.integers(-90_000, 90_000)),
            st.tuples(st.just("fill"), st.integers(0, 9)),
            st.tuples(st.just("move"), st.integers(2_700, 3_300)),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_in_whatever_order_orders_fill_no_position_is_one_that_nobody_decided(
    make_world: Any, usdc: int, held: Decimal, events: list[tuple[str, int]], guard: bool
) -> None:
    """At their worst prices: exits never flip, entries end where decided, and are collateralised."""
    world = make_world(FREE, guard=guard)
    world.book("BTC-USD", [("59999", "9")], [("60001", "9")])
    cash = usdc - held * 3_000
    world.account(f"{cash:f}", {"ETH-USD": (str(held), "3000")} if held else {})
    flight = Flight(world, cash)
    for what, figure in [*events, *[("fill", 0)] * 12]:
        if what == "fill":
            flight.fill(figure)
        elif what == "move":
            flight.prices_moved = True
            world.oracle("ETH-USD", str(figure))
            world.block()
        else:
            world.decide(what, figure)
        flight.take()


class Flight:
    """Every order in flight, filled in any order as the chain does: at the worst, reduce-only cut."""

    DIGITS: ClassVar = {"ETH-USD": (9, 6), "BTC-USD": (10, 5)}

    def __init__(self, world: Any, cash: Decimal) -> None:
        self.world, self.cash = world, cash
        self.orders: list[tuple[Any, int]] = []
        self._seen = len(world.verdicts)
        self.prices_moved = False

    def held(self, ticker: str) -> int:
        return int(self.world.risk.valued.size(ticker))

    def take(self) -> None:
        """Take in the orders that were sent, each with where it was decided to end."""
        new, self._seen = self.world.verdicts[self._seen :], len(self.world.verdicts)
        for verdict in new:
            if not isinstance(verdict, Denied):
                order = verdict.order
                self.orders.append((order, self.held(order.ticker) + order.signed_quantums))

    def fill(self, which: int) -> None:
        if not self.orders:
            return
        order, decided = self.orders.pop(which % len(self.orders))
        before, delta = self.held(order.ticker), order.signed_quantums
        if order.reduce_only:
            size = min(abs(delta), abs(before)) if delta * before < 0 else 0
            delta = size if delta > 0 else -size
        reserved = self.world.risk.account.orders.reserved.values()
        id_ = next((held.order_id for held in reserved if held.order is order), "")
        if not id_:  # its last block is past
            return
        base, price = self.DIGITS[order.ticker]
        size = Decimal(delta).scaleb(-base)
        quote = size * Decimal(order.subticks).scaleb(-price)
        self.cash -= quote + abs(quote) * Decimal("0.0005") + Decimal("0.000001")
        after = Decimal(before + delta).scaleb(-base)
        self.world.update(
            positions=(PositionState(ticker=order.ticker, size=after, entry_price=Decimal(3000)),),
            collateral=int(self.cash.scaleb(6)),
            settled=True,
            orders=(OrderState(id=id_, status="FILLED", seq=self.world.seq),),
        )
        if order.reduce_only:
            assert abs(before + delta) <= abs(before)
            assert (before + delta) * before >= 0
            return
        assert abs(before + delta) <= abs(decided)
        assert before * delta >= 0
        if not self.prices_moved:
            assert self.world.risk.margin.free_collateral >= -3


# === What is known ===


def test_a_position_that_cannot_be_read_does_not_hide_the_others(world: Any) -> None:
    """The broken one is unknown, the others are known."""
    world.account("500", {"BTC-USD": ("many", "60000"), "ETH-USD": ("2", "3000")})

    assert world.risk.margin.unknown == ("BTC-USD",)
    assert isinstance(world.decide("ETH-USD", 3000), Approved)


def test_a_position_of_old_is_better_than_none(world: Any) -> None:
    """What was held before an unreadable word is still acted on, and still unknown."""
    world.account("500", {"BTC-USD": ("1", "60000")})
    world.update(unreadable=("BTC-USD",), doubt="cannot be read")
    assert world.risk.account.positions["BTC-USD"].size == 1
    assert world.risk.margin.unknown == ("BTC-USD",)

    world.update(unreadable=())
    assert world.risk.margin.unknown == ()


def test_the_guard_acts_on_what_is_known_while_the_account_is_in_doubt(make_world: Any) -> None:
    """Lost frames stop new risk, not the flight from liquidation."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.lose()
    world.oracle("ETH-USD", "2740")

    assert [type(verdict) for verdict in world.verdicts] == [Reduce]


def test_a_guard_blind_to_one_position_saves_the_other(make_world: Any) -> None:
    """What has no price counts at what it was bought for, and the blindness is reported."""
    world = make_world()
    world.account("-25100", {"ETH-USD": ("10", "3000"), "XRP-USD": ("200", "0.5")})
    world.oracle("ETH-USD", "2740")
    denied, reduce = world.verdicts

    assert (denied.reason, dict(denied.figures)) == ("UNKNOWN_ORACLE", {"unknown": "XRP-USD"})
    assert (reduce.order.ticker, reduce.order.reduce_only) == ("ETH-USD", True)


# === Polled ===


def test_rest_stands_in_for_a_socket_that_is_down(world: Any) -> None:
    """While frames are lost REST reports what is held: risk is not blind, and the gate not shut."""
    world.lose()
    assert world.risk.standing.state == "REDUCING"

    world.update(collateral=7 * 10**9, polled=True)
    assert world.risk.account.polled
    assert isinstance(world.decide("ETH-USD", 6000), Approved)
    world.account("7000")
    assert not world.risk.account.polled


def test_an_answer_that_is_old_is_no_knowledge(world: Any) -> None:
    """Polling may fail too: then the account is as old as its last answer."""
    world.lose()
    world.at += 2 * 10**9
    world.oracle("ETH-USD", "3000")
    world.update(polled=True)
    world.at += 31 * 10**9
    world.block(101)
    world.oracle("ETH-USD", "3001")

    assert world.risk.standing.reasons == (
        ("UNKNOWN_ACCOUNT", "the account was polled 32.0 s ago, limit 30 s"),
    )


# === Audit ===


def test_an_approval_is_one_row_of_text(world: Any) -> None:
    """Order, decision and margin before and after: every figure, and JSON can take it."""
    row = audit_row(world.decide("ETH-USD", 3000))

    assert json.loads(json.dumps(row)) == row
    assert set(map(type, row.values())) == {str}
    assert (row["verdict"], row["id"], row["decision"]) == ("Approved", "V1", f"D{world.seq}")
    assert (row["order_ticker"], row["order_quantums"]) == ("ETH-USD", "1000000000")
    assert (row["before_distance"], row["before_net_collateral"]) == ("none", "10000000000")
    assert row["after_notional"] == "3000000000"


def test_a_denial_and_a_reduction_are_rows_too(make_world: Any) -> None:
    """A denial carries its figures, a reduction its cost; what is unknown reads so."""
    world = make_world(Policy(max_account_usdc=1))
    denied = world.decide("ETH-USD", 3000)
    assert isinstance(denied, Denied)
    assert audit_row(denied)["figure_limit"] == "1.000000"

    world.account("-25100", {"ETH-USD": ("10", "3000"), "XRP-USD": ("200", "0.5")})
    world.book("ETH-USD", [("2738", "20")], [("2741", "5")])
    world.oracle("ETH-USD", "2740")
    blind, row = (audit_row(verdict) for verdict in world.verdicts[-2:])
    assert "decision" not in blind
    assert (row["before_net_collateral"], row["before_unknown"]) == ("unknown", "XRP-USD")
    assert (row["rung"], int(row["cost"]) > 0) == ("1", True)


# === Funding ===


def _hours_pass(world: Any, hours: int = 1) -> None:
    world.height += hours
    world.at += hours * 3_600_000_000_000
    stamp = f"2026-07-14T{9 + world.height - 100:02}:31:07.000Z"
    world.send(world.wire.block(world.height, stamp))
    world.oracle("ETH-USD", "3000")


def test_funding_that_the_chain_has_not_settled_counts(world: Any) -> None:
    """An hour at 0.01 %: 3 USDC of a notional of 30,000, though no frame has reported it."""
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    _hours_pass(world)
    assert world.risk.margin.net_collateral == 9_997_000_000
    assert world.risk.account.collateral == -20_000_000_000

    _hours_pass(world, 3)
    assert world.risk.margin.net_collateral == 9_988_000_000
    assert world.risk.watch(world.state.views["ETH-USD"]).stress.now().equity == 9_988_000_000
    assert world.margin_from_nothing() == world.risk.margin


def test_a_short_is_paid(world: Any) -> None:
    """What longs owe."""
    world.account("40000", {"ETH-USD": ("-10", "3000")})
    _hours_pass(world)

    assert world.risk.margin.net_collateral == 10_003_000_000


def test_what_reports_a_new_balance_has_settled_it(world: Any) -> None:
    """A fill settles; a snapshot of the same balance does not, an answer of REST has it in."""
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    _hours_pass(world)
    world.account("-20000", {"ETH-USD": ("10", "3000")})
    assert world.risk.margin.net_collateral == 9_997_000_000

    world.update(collateral=-20_003 * 10**6, settled=True)
    assert world.risk.margin.net_collateral == 9_997_000_000
    assert world.risk.account.unsettled.quantums == 0
    _hours_pass(world)
    assert world.risk.account.unsettled.quantums == -3_000_000
    world.account("-20006", {"ETH-USD": ("10", "3000")})
    assert (world.risk.account.unsettled.quantums, world.risk.account.settled) == (
        0,
        -20_006_000_000,
    )


def test_an_unknown_rate_costs_the_most_that_there_is(make_world: Any) -> None:
    """12 % in eight hours at a spread of two per cent: 1.5 % of 30,000 an hour, either side."""
    for size, usdc in (("10", "-20000"), ("-10", "40000")):
        world = make_world(nextFundingRate=None)
        world.account(usdc, {"ETH-USD": (size, "3000")})
        _hours_pass(world)
        assert world.risk.account.unsettled.quantums == -450_000_000
