import re
from decimal import Decimal
from math import inf
from typing import Any

import pytest
import reactivex
from dydx_conn import (
    MARBLE_CASES,
    AccountUpdate,
    Frame,
    OrderRequest,
    PerpetualMarket,
    PositionState,
    Subaccount,
    collect,
    load_recorded_stream,
    play,
)
from dydx_data import DataState, MarketView, step
from dydx_risk import Approved, Denied, Judgement, MarginFigures, Policy, Reduce, Risk, verdicts
from dydx_strategy import Decision
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError
from reactivex.testing import ReactiveTest, TestScheduler

OWNER = Subaccount("dydx1abc", 0)
LOOSE = Policy(max_leverage=50, max_order_usdc=1e9, slippage_bps=0)

# === Policy ===


def test_a_policy_cannot_be_changed_or_misspelt() -> None:
    """Settings are checked once, where they come in."""
    with pytest.raises(ValidationError, match="frozen"):
        Policy().act_below = 0.5
    with pytest.raises(ValidationError, match="Extra inputs"):
        Policy.model_validate({"act_bellow": 0.5})


def test_a_policy_must_restore_more_than_it_acts_below() -> None:
    """A guard that restores less than it acts below would never end."""
    with pytest.raises(ValidationError, match="act_below < restore_to <= keep_above"):
        Policy(act_below=0.2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"max_market_share": 0.6, "max_account_share": 0.5},
            "expected max_market_share <= max_account_share, got 0.6 and 0.5",
        ),
        (
            {"max_market_usdc": 2_000, "max_account_usdc": 1_000},
            "expected max_market_usdc <= max_account_usdc, got 2000 and 1000",
        ),
        (
            {"market_usdc": {"ETH-USD": 2_000}, "max_account_usdc": 1_000},
            "expected market_usdc of ETH-USD <= max_account_usdc, got 2000 and 1000",
        ),
        (
            {"max_account_share": 6, "max_leverage": 5},
            "expected max_account_share <= max_leverage, got 6 and 5",
        ),
        (
            {"slippage_bps": 50, "guard_slippage_bps": 40},
            "expected slippage_bps <= guard_slippage_bps, got 50 and 40",
        ),
        (
            {"max_daily_loss": 0.2, "max_drawdown": 0.1},
            "expected max_daily_loss <= max_drawdown, got 0.2 and 0.1",
        ),
        ({"bear_move": 1}, "bear_move\n  Input should be less than 1"),
        ({"max_drawdown": 20}, "max_drawdown\n  Input should be less than 1"),
        ({"max_volatility_1h": 2}, "max_volatility_1h\n  Input should be less than 1"),
        ({"market_usdc": {"ETH-USD": 0}}, "market_usdc.ETH-USD\n  Input should be greater than 0"),
        ({"max_order_usdc": inf}, "max_order_usdc\n  Input should be a finite number"),
        (
            {"max_market_share": 3, "max_leverage": 2},
            "max_market_share <= max_leverage, got 3 and 2",
        ),
        ({"warm_up_s": 3_001}, "warm_up_s\n  Input should be less than or equal to 3000"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused_with_its_fields(
    fields: Any, words: str
) -> None:
    """Which fields, what was expected of them, and what they are."""
    with pytest.raises(ValidationError, match=re.escape(words)):
        Policy(**fields)


# === Account ===


def test_before_a_snapshot_nothing_is_known(make_decision: Any) -> None:
    """No frame, no account: the alarm is unknown, and nothing new may be risked."""
    risk = Risk(subaccount=OWNER)

    assert risk.alarm == "unknown"
    assert risk.account.trouble == "no account snapshot yet"


def test_a_snapshot_is_the_account(world: Any) -> None:
    """Collateral, positions and open orders come with it; what it does not name is gone."""
    world.account("1000.5", {"ETH-USD": ("-1.5", "3010.5")})
    account = world.risk.account

    assert account.trouble == ""
    assert account.collateral == 1_000_500_000
    assert account.positions["ETH-USD"].size == Decimal("-1.5")
    assert account.positions["ETH-USD"].quantums == -1_500_000_000
    world.account("-3")
    assert (account.collateral, account.positions) == (-3_000_000, {})


def test_updates_change_what_they_name(world: Any) -> None:
    """A closed position goes, an order that ends or leaves is no open order any more."""
    world.account("1000", {"ETH-USD": ("1", "3000")})
    world.account("1000")
    world.order("o1", "OPEN")
    world.update(height=207)
    account = world.risk.account

    assert (account.collateral, account.positions, account.height) == (1_000_000_000, {}, 207)
    assert list(account.orders.open) == ["o1"]
    world.order("o1", "OPEN", leaving=True)
    assert account.orders.open == {}
    account.expire(206)
    assert account.height == 207


def test_another_subaccount_is_another_account(world: Any) -> None:
    """Updates of other accounts are not ours."""
    update = AccountUpdate(seq=9, at=0, subaccount=Subaccount("dydx1abc", 1), height=9, doubt="?")

    assert not world.risk.account.take(update)
    assert world.risk.account.trouble == ""


def test_a_doubt_stops_new_risk_and_leaves_the_way_out_open(world: Any) -> None:
    """Nothing raises; new risk waits until the doubt is over."""
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.update(doubt="account frame 7 cannot be read")

    assert world.risk.alarm == "unknown"
    assert world.decide("ETH-USD", 9000).reason == "UNKNOWN_ACCOUNT"
    assert isinstance(world.decide("ETH-USD", 0), Approved)
    world.account("10000")
    assert world.risk.alarm == "flat"


def test_a_position_without_its_entry_has_no_profit_yet(world: Any) -> None:
    """It is reported before its fills: what it was bought for is not known, and not nothing."""
    world.account("10000", {"ETH-USD": ("1", "0")})

    (row,) = world.risk.positions()
    assert (row.unrealized_pnl, row.net_notional) == (None, 3_000_000_000)


# === Margin of the account ===


def test_positions_carry_every_figure(world: Any) -> None:
    """Oracle, notional, margins, profit, liquidation price, distance and funding."""
    world.account("-2000", {"ETH-USD": ("1", "2900")})
    (row,) = world.risk.positions()

    assert (row.oracle_price, row.net_notional) == (Decimal(3000), 3_000_000_000)
    assert (row.initial_margin, row.maintenance_margin) == (150_000_000, 90_000_000)
    assert (row.unrealized_pnl, row.funding_1h) == (Decimal(100), 300_000)
    assert row.liquidation_price is not None
    assert float(row.liquidation_price) == pytest.approx(2000 / 0.97)
    assert row.distance == pytest.approx(1 - 2000 / 0.97 / 3000)
    assert world.risk.alarm == "safe"


def test_positions_at_their_price_alone_have_its_figures_and_no_past(make_world: Any) -> None:
    """What a verdict is judged by, and what each figure of it comes from; unknown stays unknown."""
    world = make_world()
    world.account("-2000", {"ETH-USD": ("1", "2900"), "XYZ-USD": ("7", "1")})
    full, cheap = ({row.ticker: row for row in rows} for rows in (world.risk.positions(), world.risk.watcher.priced(world.risk.valued)))  # fmt: skip

    terms = ("net_notional", "initial_margin", "maintenance_margin", "liquidation_price", "seq")
    for ticker, row in cheap.items():
        assert [getattr(row, term) for term in terms] == [getattr(full[ticker], term) for term in terms]  # fmt: skip
    assert cheap["ETH-USD"].funding_1h is None
    assert list(world.risk.watcher.inputs(world.risk.valued)) == ["ETH-USD"]


def test_a_short_is_liquidated_above(world: Any) -> None:
    """The distance of a short is positive upward."""
    world.account("4000", {"ETH-USD": ("-1", "3000")})
    (row,) = world.risk.positions()

    assert float(row.liquidation_price or 0) == pytest.approx(4000 / 1.03)
    assert row.distance == pytest.approx(4000 / 1.03 / 3000 - 1)


def test_an_unknown_oracle_price_is_danger_and_never_zero(make_world: Any) -> None:
    """A position that cannot be valued leaves every figure unknown."""
    world = make_world()
    world.account("5000", {"ETH-USD": ("1", "3000"), "XYZ-USD": ("7", "1")})
    risk = world.risk

    assert risk.margin.unknown == ("XYZ-USD",)
    assert (risk.alarm, risk.margin.distance) == ("unknown", None)
    assert [row.distance for row in risk.positions()] == [None, None]
    assert risk.positions()[1].oracle_price is None
    assert world.decide("ETH-USD", 9000).reason == "UNKNOWN_ORACLE"
    assert isinstance(world.decide("ETH-USD", 1000), Approved)


def test_a_position_is_valued_when_its_market_appears(make_world: Any) -> None:
    """The account may come first: figures follow with the market, and go with its price."""
    world = make_world()
    world.account("5000", {"XYZ-USD": ("7", "1")})
    fields = {"ticker": "XYZ-USD", "clobPairId": "7", "oraclePrice": "100"}
    world.markets({**_eth(), **fields})

    assert world.risk.margin.unknown == ()
    assert world.risk.margin.net_collateral == 5_700_000_000


def _eth() -> dict[str, Any]:
    return {
        "status": "ACTIVE",
        "initialMarginFraction": "0.05",
        "maintenanceMarginFraction": "0.03",
        "atomicResolution": -9,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1_000_000,
        "subticksPerTick": 100_000,
    }


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ETH-USD", "BTC-USD"]),
            st.decimals("1", "99999", places=4),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_moving_with_each_price_equals_valuing_from_nothing(
    make_world: Any,
    moves: list[tuple[str, Decimal]],
) -> None:
    """Sums that are moved a price at a time never drift from sums made from nothing."""
    world = make_world(guard=False)
    world.account("-1000", {"ETH-USD": ("2.5", "3000"), "BTC-USD": ("-0.3", "60000")})
    for ticker, price in moves:
        world.oracle(ticker, str(price))

    assert world.risk.margin == world.margin_from_nothing()


# === Gate ===


def test_a_target_becomes_an_order_toward_less(world: Any) -> None:
    """Size down to the step, price down to the tick, IOC, good for a few blocks, and why."""
    verdict = world.decide("ETH-USD", 9001.5)

    assert isinstance(verdict, Approved)
    assert verdict.order == OrderRequest(
        ticker="ETH-USD",
        clob_pair_id=1,
        side="BUY",
        quantums=3_000_000_000,
        subticks=3_009_100_000,
        time_in_force="IOC",
        client_id=1,
        good_til_block=105,
    )
    assert (verdict.id, verdict.seq, verdict.at) == ("V1", world.seq, world.at)
    assert verdict.before == MarginFigures(10_000_000_000)
    assert verdict.after.net_collateral == 10_000_000_000 - 27_300_000 - 4_513_650
    assert verdict.why == (
        "buy 3 ETH-USD at <= 3,009.1: free collateral 10,000.00 becomes 9,518.19, "
        "leverage 0.90, distance 111 % at the worst price"
    )


def test_client_ids_go_round_at_the_end_of_their_32_bits(world: Any) -> None:
    """An id is a uint32 on the chain; the last one is followed by the first."""
    world.risk.next_client_id = 2**32 - 1
    last = world.decide("ETH-USD", 3000).order

    assert (last.client_id, world.risk.next_client_id) == (2**32 - 1, 0)


def test_a_hold_is_not_judged(world: Any, make_decision: Any) -> None:
    """Only targets become orders."""
    assert world.risk.step(make_decision("ETH-USD", 1.0, action="hold")) == []


def test_one_order_in_flight_per_market(world: Any) -> None:
    """A second decision waits for the answer to the first."""
    world.decide("ETH-USD", 3000)
    denied = world.decide("ETH-USD", 6000)

    assert denied.reason == "IN_FLIGHT"
    assert denied.why == "V1 has no answer: it may fill until block 105, now 100"


def test_an_answer_frees_the_market(world: Any) -> None:
    """A filled order is no longer in flight, and its position counts."""
    verdict = world.decide("ETH-USD", 3000)
    world.fill(verdict, "7000", "0.9")

    assert world.risk.account.orders.reserved == {}
    assert world.decide("ETH-USD", 6000).order.quantums == 1_100_000_000


@pytest.mark.parametrize(("filled", "doubted"), [("0", True), ("0.5", False)])
def test_a_best_effort_cancel_keeps_its_collateral_reserved(
    world: Any, filled: str, doubted: bool
) -> None:
    """Another node may still fill it, until its good-til block is past."""
    world.decide("ETH-USD", 3000)
    world.order("another", "CANCELLED")
    world.order(world.order_id("ETH-USD"), "OPEN", filled, leaving=True)

    (held,) = world.risk.account.orders.reserved.values()
    assert (held.doubted, held.effect.notional) == (doubted, 2_999_000_000 + 1_000_000)
    assert world.decide("ETH-USD", 6000).reason == "IN_FLIGHT"
    world.block(106)
    world.oracle("BTC-USD", "60001")
    assert world.risk.account.orders.reserved == {}


def test_a_best_effort_cancel_may_come_back_canceled(world: Any) -> None:
    """The firm word frees what was reserved at once."""
    world.decide("ETH-USD", 3000)
    for status in ("OPEN", "CANCELLED"):
        assert len(world.risk.account.orders.reserved) == 1
        id_ = next(iter(world.risk.account.orders.reserved))
        world.order(id_, status, leaving=status == "OPEN")

    assert world.risk.account.orders.reserved == {}


def test_an_order_that_nobody_answers_is_forgotten_after_its_last_block(world: Any) -> None:
    """It can fill at its good-til block, and never after."""
    world.decide("ETH-USD", 3000)
    world.block(105)
    world.oracle("BTC-USD", "60001")
    assert len(world.risk.account.orders.in_flight("ETH-USD")) == 1
    world.block(106)
    world.oracle("BTC-USD", "60002")
    assert world.risk.account.orders.reserved == {}


def test_an_order_that_was_dated_later_stays_in_flight_for_longer(world: Any) -> None:
    """The trader counts from the node's block, which is ahead of the one that a view knows."""
    verdict = world.decide("ETH-USD", 3000)
    sent = replace(verdict.order, good_til_block=111)
    world.order(world.order_id("ETH-USD"), "PENDING", order=sent)
    world.block(111)
    world.oracle("BTC-USD", "60001")

    denied = world.decide("ETH-USD", 6000)
    assert denied.why == "V1 has no answer: it may fill until block 111, now 111"
    world.block(112)
    world.oracle("BTC-USD", "60002")
    assert world.risk.account.orders.reserved == {}


def test_two_orders_do_not_share_collateral(make_world: Any) -> None:
    """What an order in flight may need is not free for the next."""
    world = make_world(LOOSE)
    world.book("BTC-USD", [("59999", "9")], [("60001", "9")])
    world.account("1000")
    first = world.decide("ETH-USD", 5000)
    second = world.decide("BTC-USD", 5000)

    assert isinstance(first, Approved)
    assert isinstance(second, Denied)
    assert second.reason == "DISTANCE"
    (reservation,) = world.risk.account.orders.reserved.values()
    assert reservation.effect.notional == 4_998_000_000


def test_a_target_that_is_held_is_below_a_step(world: Any) -> None:
    """Nothing is bumped up to the minimum."""
    denied = world.decide("ETH-USD", 2.9)

    assert (denied.reason, denied.why) == (
        "BELOW_STEP",
        "0.000966666 ETH-USD is left to trade, less than one step of 0.001",
    )
    assert dict(denied.figures) == {"wanted": "0.000966666", "step": "0.001"}


def test_an_unknown_market_is_denied(world: Any) -> None:
    """A ticker never seen, or seen without its grid."""
    assert world.decide("NO-USD", 100).reason == "UNKNOWN_MARKET"


SHUT = ["PAUSED", "CANCEL_ONLY", "FINAL_SETTLEMENT", "INITIALIZING", "POST_ONLY", "NEW_WORD"]


@pytest.mark.parametrize("status", SHUT)
def test_only_an_active_market_takes_orders(make_world: Any, status: str) -> None:
    """The chain refuses even what shrinks (clob 34): to approve it would be an empty promise."""
    world = make_world(status=status)
    world.account("10000", {"ETH-USD": ("-2", "3000")})

    grown, shrunk = world.decide("ETH-USD", -9000), world.decide("ETH-USD", -3000)

    assert (grown.reason, grown.why) == ("STATUS", f"the status is {status}")
    assert (shrunk.reason, shrunk.why) == ("STATUS", f"the status is {status}: no order is taken")
    assert shrunk.figures == (("status", status),)


def test_a_market_of_unknown_status_may_be_left_and_not_entered(make_world: Any) -> None:
    """An unknown is no reason to stay."""
    world = make_world(status=None)
    world.account("10000", {"ETH-USD": ("-2", "3000")})

    assert world.decide("ETH-USD", -9000).reason == "STATUS"
    assert isinstance(world.decide("ETH-USD", -3000), Approved)


def test_without_an_oracle_price_nothing_is_sized(make_world: Any) -> None:
    """A target in USDC means nothing then, but out is out."""
    world = make_world(oraclePrice=None)
    assert world.decide("ETH-USD", 100).reason == "UNKNOWN_ORACLE"

    world.account("10000", {"ETH-USD": ("1.0005", "3000")})
    verdict = world.decide("ETH-USD", 0)
    assert isinstance(verdict, Approved)
    assert (verdict.order.quantums, verdict.order.reduce_only) == (1_000_000_000, True)
    assert verdict.after.net_collateral < 10_000_000_000 + 3_000_000_000


@pytest.mark.parametrize(
    ("bids", "was"), [([], "one-sided"), ([("2999.9", "1")], None), (None, "unknown")]
)
def test_new_risk_needs_both_sides_of_a_known_book(
    make_world: Any, bids: Any, was: str | None
) -> None:
    """A one-sided or unknown book has no fair price."""
    world = make_world()
    ticker = "ETH-USD" if bids is not None else "BTC-USD"
    if bids is not None:
        world.book("ETH-USD", bids, [("3000.1", "1")])
    verdict = world.decide(ticker, 3000)

    assert getattr(verdict, "reason", None) == (was and "NO_BOOK")
    if was:
        assert verdict.why == f"the book is {was}"


def test_shrinking_goes_by_the_oracle_price_where_there_is_no_book(world: Any) -> None:
    """An order that may fill beats a position that cannot be left."""
    world.account("10000", {"BTC-USD": ("-0.1", "60000"), "ETH-USD": ("1", "3000")})
    verdict = world.decide("BTC-USD", -3000)

    assert (verdict.order.side, verdict.order.subticks) == ("BUY", 6_060_000_000)
    assert verdict.why == (
        "buy 0.05 BTC-USD at <= 60,600 shrinks -0.1 to -0.05: that always passes"
    )


def test_without_book_and_oracle_even_leaving_has_no_price(make_world: Any) -> None:
    """Then there is nothing to go by."""
    world = make_world(oraclePrice=None)
    world.book("ETH-USD", [], [])
    world.account("10000", {"ETH-USD": ("1", "3000")})

    assert world.decide("ETH-USD", 0).reason == "NO_BOOK"


def test_dust_cannot_be_left(world: Any) -> None:
    """Less than a step is not an order."""
    world.account("10000", {"ETH-USD": ("0.0005", "3000")})

    assert world.decide("ETH-USD", 0).reason == "BELOW_STEP"


def test_stale_figures_are_not_traded_on(world: Any, make_decision: Any) -> None:
    """What no link has confirmed for longer than the limit is no ground for new risk."""
    late = world.at + 31 * 10**9
    (denied,) = world.risk.step(make_decision("ETH-USD", 3000, world.seq, late))

    assert denied.reason == "STALE"
    assert denied.why == "its link is silent for 31.0 s, limit 30 s"


def test_frames_that_come_too_late_are_no_ground_for_new_risk(world: Any) -> None:
    """An entry is denied, with how late they are; the way out goes on."""
    world.account("10000", {"ETH-USD": ("1", "3000")})
    world.send(world.wire.event("tick", '{"age_ns":2500000000}', link="clock"))
    enters, leaves = world.decide("ETH-USD", 6000), world.decide("ETH-USD", 0)

    assert (enters.reason, dict(enters.figures)["lag_s"]) == ("LAG", "2.5")
    assert enters.why == "frames wait 2.5 s before they are folded, limit 2 s"
    assert (leaves.order.side, leaves.order.reduce_only) == ("SELL", True)


def test_without_a_block_height_no_order_can_expire(make_world: Any) -> None:
    """Neither new risk nor the way out can be addressed to the chain."""
    world = make_world()
    world.state.chain.height = 0
    world.account("10000", {"ETH-USD": ("1", "3000")})

    assert world.decide("ETH-USD", 6000).reason == "UNKNOWN_HEIGHT"
    assert world.decide("ETH-USD", 0).reason == "UNKNOWN_HEIGHT"


def test_an_isolated_market_needs_a_subaccount_of_its_own(make_world: Any) -> None:
    """The chain would refuse it; so do we, before."""
    world = make_world(marketType="ISOLATED")
    assert isinstance(world.decide("ETH-USD", 3000), Approved)

    world = make_world(marketType="ISOLATED")
    world.account("10000", {"BTC-USD": ("0.1", "60000")})
    assert world.decide("ETH-USD", 3000).reason == "ISOLATED"


@pytest.mark.parametrize("first", ["ETH-USD", "BTC-USD"])
def test_an_order_in_flight_makes_a_market_held_for_the_isolated_rule(
    make_world: Any, first: str
) -> None:
    """Whichever of the two fills first, the chain refuses the other."""
    world = make_world(marketType="ISOLATED")
    world.book("BTC-USD", [("59999", "5")], [("60001", "5")])
    second = {"ETH-USD": "BTC-USD", "BTC-USD": "ETH-USD"}[first]

    assert isinstance(world.decide(first, 3000), Approved)
    denied = world.decide(second, 3000)

    assert (denied.reason, denied.figures) == ("ISOLATED", (("held", first),))


def test_a_large_target_is_cut_to_the_order_limit(make_world: Any) -> None:
    """The rest may come with later decisions."""
    world = make_world(Policy(max_order_usdc=10_000))
    verdict = world.decide("ETH-USD", -24_000)

    assert verdict.order.quantums == 3_333_000_000
    assert "cut to 10,000 USDC" in verdict.why


@pytest.mark.parametrize(
    ("policy", "reason", "words"),
    [
        (LOOSE, "MARGIN", "needs 1,500.00 of initial margin, would have 984.00"),
        (Policy(max_order_usdc=1e6, slippage_bps=0), "LEVERAGE", "would be 9.04, limit 5"),
        (
            Policy(max_order_usdc=1e6, max_leverage=50, slippage_bps=0),
            "DISTANCE",
            "distance would be 8.3 %, limit 12.0 %",
        ),
    ],
)
def test_limits_deny_with_figures(make_world: Any, policy: Policy, reason: str, words: str) -> None:
    """Margin, leverage and distance are judged after the worst fill, and denied in numbers."""
    world = make_world(policy)
    world.account("1000")
    denied = world.decide("ETH-USD", 30_000 if reason == "MARGIN" else 9_000)

    assert denied.reason == reason
    assert words in denied.why
    assert [name for name, _ in denied.figures][:2] == ["net_collateral", "initial_margin"]


def test_leverage_without_collateral_is_undefined_and_denied(make_world: Any) -> None:
    """A market without margin does not help an account without equity."""
    world = make_world(
        Policy(slippage_bps=0), initialMarginFraction="0.000001", maintenanceMarginFraction="0"
    )
    world.account("0.0001")
    denied = world.decide("ETH-USD", 3)

    assert denied.reason == "MARGIN"
    world.account("-100")
    assert world.decide("ETH-USD", 3).reason == "MARGIN"


def test_turning_a_position_is_two_orders(make_world: Any) -> None:
    """Out of the long first; into the short when nothing is held and nothing is on its way."""
    world = make_world()
    world.account("4000", {"ETH-USD": ("2", "3000")})

    out, again = world.decide("ETH-USD", -3000), world.decide("ETH-USD", -3000)
    world.fill(out, "9990", "0")
    into = world.decide("ETH-USD", -3000)

    assert (out.order.quantums, out.order.reduce_only) == (2_000_000_000, True)
    assert out.why.endswith("that always passes; the other side waits until nothing is held")
    assert again.reason == "IN_FLIGHT"
    assert (into.order.quantums, into.order.reduce_only) == (1_000_000_000, False)
    assert into.order.side == "SELL"


def test_less_than_a_step_on_the_other_side_is_in_nobodys_way(make_world: Any) -> None:
    """No order could close it, so that waiting for it would never end."""
    world = make_world()
    world.account("4000", {"ETH-USD": ("0.0005", "3000")})

    verdict = world.decide("ETH-USD", -3000)

    assert (verdict.order.quantums, verdict.order.reduce_only) == (1_000_000_000, False)


@settings(max_examples=60)
@given(
    st.integers(1, 50_000),
    st.integers(-500_000, 500_000),
    st.decimals("-9", "9", places=3),
    st.integers(0, 500),
)
def test_an_approved_order_never_ends_below_initial_margin(
    make_world: Any, usdc: int, target: int, held: Decimal, bps: int
) -> None:
    """Filled at its worst price, fee paid, what was approved to grow is collateralised."""
    world = make_world(
        Policy(max_leverage=50, max_order_usdc=1e9, slippage_bps=bps, guard_slippage_bps=500)
    )
    world.account(str(usdc), {"ETH-USD": (str(held), "3000")} if held else {})
    world.risk.guard = False
    verdict = world.decide("ETH-USD", target)

    if isinstance(verdict, Approved) and not verdict.order.reduce_only:
        size = held + Decimal(verdict.order.signed_quantums).scaleb(-9)
        price = Decimal(verdict.order.subticks).scaleb(-6)
        paid = (size - held) * price + abs(size - held) * price * Decimal("0.0005")
        world.account(str(usdc - paid - Decimal("0.000001")), {"ETH-USD": (str(size), "3000")})
        assert world.risk.margin.free_collateral >= -1
    if isinstance(verdict, Approved) and verdict.order.reduce_only:
        assert abs(verdict.order.signed_quantums) <= abs(held.scaleb(9))


# === Guard ===


def _long(make_world: Any, policy: Policy | None = None, *, guard: bool = True) -> Any:
    world = make_world(policy, guard=guard)
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    return world


def test_the_guard_sleeps_while_liquidation_is_far(make_world: Any) -> None:
    """No verdict, no rung, however often the book moves."""
    world = _long(make_world)
    world.oracle("ETH-USD", "2990")

    assert (world.verdicts, world.risk._defence.rung, world.risk.alarm) == ([], 0, "safe")


def _near(make_world: Any, price: str = "2833.1", best: int = 2831) -> Any:
    """Open an account where the price has stood still for long: no fall to count on."""
    world = make_world()
    world.book("ETH-USD", [(f"{best}", "2"), (f"{best - 3}", "20")], [(f"{best + 3}", "5")])
    world.oracle("ETH-USD", price)
    world.block()
    world.block()
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    return world


def test_the_guard_reduces_enough_with_its_reason(make_world: Any) -> None:
    """A quarter of the way from the distance it defends, half leaves, at no worse than a bound."""
    world = _near(make_world)
    world.oracle("ETH-USD", "2832")
    (reduce,) = world.reductions

    assert reduce.order.side == "SELL"
    assert reduce.order.reduce_only
    assert reduce.order.time_in_force == "IOC"
    assert reduce.order.quantums == 5_066_000_000
    assert (reduce.rung, round(reduce.distance, 4)) == (1, 0.0899)
    assert reduce.after.distance == pytest.approx(0.2116, abs=0.001)
    assert reduce.why == (
        "sell 5.066 ETH-USD (of 10) at >= 2,619.6: distance 8.9 % < 9.0 %; restores 21.2 %, costs "
        "23.96 USDC (spread 7.60, impact 9.20, fee 7.17), at that bound 1,083.18; liquidated, 1 a "
        "block, the same would cost up to 231.79"
    )
    assert (reduce.worst_loss, reduce.offered) == (1_083_184_724, reduce.order.quantums)
    assert (reduce.cost, reduce.cause) == (23_963_324, "DISTANCE")
    assert world.risk.alarm == "danger"


def test_a_move_that_goes_on_is_left_step_by_step(make_world: Any) -> None:
    """Half of it, then all but a quarter, then the rest, though the distance is far by then."""
    world, price, usdc, held = _near(make_world), 2833.0, -25_000.0, 10.0
    while held:
        price -= 2
        world.block()
        fired = len(world.reductions)
        world.oracle("ETH-USD", f"{price:.1f}")
        for reduce in world.reductions[fired:]:
            sold = reduce.order.quantums / 1e9
            held, usdc = round(held - sold, 3), usdc + sold * price
            world.fill(reduce, f"{usdc:.6f}", f"{held:g}")

    steps = [(r.order.quantums / 1e10, round(r.distance, 2)) for r in world.reductions]
    assert [share for share, _ in steps] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)
    assert [distance for _, distance in steps] == [0.09, 0.19, 0.38]
    assert "the move took 59." in world.reductions[1].why
    # Selling all at once at 6 % would have left this much.
    assert usdc > 25_000 * (1 / 0.94 - 1)


def test_what_is_left_of_a_move_stays_when_prices_turn(make_world: Any) -> None:
    """The half that stayed is not sold while prices are back, and they end the move."""
    world = _near(make_world)
    world.oracle("ETH-USD", "2832")
    world.fill(world.reductions[0], "-10701", "4.951")
    for price in ("2840", "2866", "2833", "2820"):
        world.block()
        world.block()
        world.oracle("ETH-USD", price)

    assert len(world.reductions) == 1


def test_the_guard_counts_on_another_fall(make_world: Any) -> None:
    """What was lost in this block, or in the last, may be lost twice before an order fills."""
    world = _near(make_world, "2870")
    world.oracle("ETH-USD", "2825")
    (reduce,) = world.reductions

    assert 0.08 < reduce.distance < 0.09
    assert ": distance 8.7 %, after two more such blocks 5.5 % < 6.4 %; leaves" in reduce.why
    assert reduce.order.quantums > 7_500_000_000
    # Two blocks later it is forgotten: half of it is enough at the same distance.
    calm = _near(make_world, "2825.1", 2823)
    calm.oracle("ETH-USD", "2825")
    assert calm.reductions[0].order.quantums < 5_100_000_000
    calm = _near(make_world, "2840")
    calm.oracle("ETH-USD", "2839.9")
    assert calm.verdicts == []


def test_the_pace_alone_wakes_the_guard(make_world: Any) -> None:
    """At 9.5 % no step is due; after two more that take 0.9 % each one is."""
    world = _near(make_world, "2873.7")
    world.oracle("ETH-USD", "2847.8")
    (reduce,) = world.reductions
    calm = _near(make_world, "2847.9")
    calm.oracle("ETH-USD", "2847.8")

    assert (reduce.distance > 0.09, calm.verdicts) == (True, [])
    assert ": distance 9.4 %, after two more such blocks 7.6 % < 9.0 %; restores" in reduce.why


def test_the_last_blocks_pace_counts_as_this_ones(make_world: Any) -> None:
    """0.4 % were lost in the last block, 0.1 % in this: 0.4 % may be lost in each of the next."""
    world = _near(make_world, "2873")
    world.oracle("ETH-USD", "2861")
    world.block()
    assert world.verdicts == []

    world.oracle("ETH-USD", "2857")

    (reduce,) = world.reductions
    assert ": distance 9.7 %, after two more such blocks 8.9 % < 9.0 %; restores" in reduce.why
    # Without it, 9.7 % is far enough, whatever was lost in a block before the last.
    late = _near(make_world, "2873")
    late.oracle("ETH-USD", "2861")
    for price in ("60001", "60002"):
        late.block()
        late.oracle("BTC-USD", price)
    late.oracle("ETH-USD", "2857")
    assert late.verdicts == []


def test_a_block_begins_with_the_pace_of_the_last(make_world: Any) -> None:
    """Before any price has moved in it: what was paid out brings the account too near."""
    world = _near(make_world, "2873")
    world.oracle("ETH-USD", "2861")
    world.block()
    world.account("-25045", {"ETH-USD": ("10", "3000")})

    world.book("ETH-USD", [("2858", "2"), ("2855", "20")], [("2861", "5")])

    (reduce,) = world.reductions
    assert ": distance 9.7 %, after two more such blocks 8.8 % < 9.0 %; restores" in reduce.why


def test_between_blocks_the_guard_weighs_what_a_price_moved(make_world: Any) -> None:
    """Not every book: where nothing is due yet, nothing is sent, and the next price may change that."""
    world = _near(make_world, "2845")
    world.oracle("ETH-USD", "2844")
    for size in ("3", "4", "5"):
        world.book("ETH-USD", [("2842", size), ("2838", "20")], [("2846", "5")])
    assert world.verdicts == []

    world.oracle("ETH-USD", "2832")
    assert len(world.reductions) == 1


def test_an_account_carries_its_ladder_at_every_moment(make_world: Any) -> None:
    """Far from danger, unguarded and blind: what would be fired, and what has no way out."""
    world = _long(make_world, guard=False)
    far = world.risk.flight_plan
    world.book("ETH-USD", [("2999", "1")], [("3001", "1")])
    thin = world.risk.flight_plan

    assert {rung.ticker for rung in far.rungs} == {"ETH-USD"}
    assert far.distance_now == world.risk.margin.distance
    assert far.fires_below == pytest.approx(0.09)
    assert thin.cost > far.cost
    assert world.risk.flight_plan is thin
    world.account("0", {"ETH-USD": ("1", "3000"), "XRP-USD": ("5", "0.5")})
    assert world.risk.flight_plan.unknown == ("XRP-USD",)
    world.account("100")
    assert world.risk.flight_plan.why == "nothing is held"


def test_the_guard_waits_two_blocks_for_the_answer_of_a_part(make_world: Any) -> None:
    """An order in flight is not doubled and nothing is complained about; then it counts as lost."""
    world, fired = _near(make_world), []
    for price in ("2832", "2831.9", "2831.8"):
        world.oracle("ETH-USD", price)
        fired.append(len(world.verdicts))
        world.block()

    assert fired == [1, 1, 2]


def test_to_leave_whole_the_guard_sends_again_each_block(make_world: Any) -> None:
    """Reduce-only as they are, two orders cannot sell more than is held."""
    world, fired = _near(make_world), []
    for price in ("2730", "2729", "2728"):
        world.oracle("ETH-USD", price)
        world.oracle("ETH-USD", f"{price}.5")
        fired.append(len(world.verdicts))
        world.block()

    assert fired == [1, 2, 3]
    assert {reduce.order.quantums for reduce in world.reductions} == {10_000_000_000}


def test_unanswered_the_guard_fires_again(make_world: Any) -> None:
    """Once the last block of an order is past, the next is counted as a further one."""
    world = _long(make_world)
    for price in ("2740", "2738", "2736"):
        world.book("ETH-USD", [("2700", "0.1")], [("2741", "5")])
        world.oracle("ETH-USD", price)
        world.block(world.height + 6)

    assert [reduce.rung for reduce in world.reductions] == [1, 2, 3]


def test_a_restored_account_starts_from_the_first_rung(make_world: Any) -> None:
    """Once prices have given back what they took, the next danger is a new one."""
    world = _near(make_world)
    world.oracle("ETH-USD", "2832")
    world.fill(world.verdicts[0], "-10701", "4.951")
    for price in ("2845", "2866", "2867"):
        world.block()
        world.oracle("ETH-USD", price)

    assert (world.risk.alarm, world.risk._defence.rung) == ("safe", 0)


def test_the_guard_can_be_switched_off(make_world: Any) -> None:
    """Then nothing reduces, and the account is left to the chain."""
    world = _long(make_world, guard=False)
    world.oracle("ETH-USD", "2500")

    assert world.verdicts == []
    assert world.risk.alarm == "liquidatable"
    assert world.risk.closest is not None
    assert world.risk.closest < 0


def test_the_guard_closes_all_where_a_part_is_not_enough(make_world: Any) -> None:
    """Far under water nothing less will do."""
    world = _long(make_world)
    world.book("ETH-USD", [("2509", "20")], [("2511", "20")])
    world.oracle("ETH-USD", "2510")
    (reduce,) = world.reductions

    assert reduce.order.quantums == 10_000_000_000
    assert "leaves nothing" in reduce.why


def test_the_guard_takes_the_cheapest_position_that_suffices(make_world: Any) -> None:
    """Two positions could restore the distance: the one with the better book is reduced."""
    world = make_world()
    world.account("-48600", {"ETH-USD": ("10", "3000"), "BTC-USD": ("0.5", "60000")})
    world.book("ETH-USD", [("2600", "50")], [("2700", "5")])
    world.book("BTC-USD", [("55990", "50")], [("56010", "5")])
    world.risk.guard = False
    world.oracle("ETH-USD", "2650")
    for price in ("56002", "56001", "56000"):
        world.oracle("BTC-USD", price)
        world.block()
    world.risk.guard = True
    world.oracle("ETH-USD", "2649.9")
    (reduce,) = world.reductions

    assert reduce.order.ticker == "BTC-USD"


def test_the_guard_takes_the_greatest_relief_where_none_suffices(make_world: Any) -> None:
    """If no single position is enough, the one that helps most goes first, the next at once."""
    world = make_world()
    world.account("-63500", {"ETH-USD": ("10", "3000"), "BTC-USD": ("0.6", "60000")})
    world.oracle("ETH-USD", "2999")
    first, second = world.reductions

    assert (first.order.ticker, first.order.quantums) == ("ETH-USD", 10_000_000_000)
    assert second.order.ticker == "BTC-USD"
    assert second.before == first.after


def test_the_guard_follows_a_market_that_runs_away(make_world: Any) -> None:
    """Its bound starts from the oracle where the book lags behind, and ends before liquidation."""
    world = _long(make_world)
    world.book("ETH-USD", [("2800", "20")], [("2801", "5")])
    world.oracle("ETH-USD", "2740")
    (reduce,) = world.reductions

    # Three quarters of 5.94 % to liquidation, and 3 % of maintenance, below 2,740.
    assert reduce.order.subticks == 2_535_900_000


def test_a_short_is_bought_back(make_world: Any) -> None:
    """The guard of a short buys, at no more than a bound."""
    world = make_world()
    world.account("35000", {"ETH-USD": ("-10", "3000")})
    world.book("ETH-USD", [("3199", "1")], [("3201", "1"), ("3202", "20")])
    world.oracle("ETH-USD", "3210")
    (reduce,) = world.reductions

    assert (reduce.order.side, reduce.order.reduce_only) == ("BUY", True)
    assert reduce.order.subticks == 3_447_200_000
    assert "leaves nothing" in reduce.why


def test_a_guard_that_cannot_act_reports_it_once_a_block(make_world: Any) -> None:
    """Dust that no order can reduce is an objection, not silence."""
    world = make_world()
    world.account("-1.49", {"ETH-USD": ("0.0005", "3000")})
    world.oracle("ETH-USD", "3000.1")
    world.oracle("ETH-USD", "3000.2")
    (denied,) = world.verdicts

    assert (denied.reason, denied.decision) == ("BELOW_STEP", None)
    assert "no reduction would relieve it" in denied.why


@pytest.mark.parametrize("status", SHUT)
def test_the_guard_leaves_elsewhere_what_a_market_without_orders_does_not_let_out(
    make_world: Any, status: str
) -> None:
    """It says what cannot be closed, once, and sells what can be."""
    world = make_world()
    world.book("BTC-USD", [("59999", "9")], [("60001", "9")])
    world.account("-52000", {"ETH-USD": ("10", "3000"), "BTC-USD": ("0.5", "60000")})
    world.send(world.wire.trading("ETH-USD", status=status))
    for price in ("2750", "2749", "2748"):
        world.oracle("ETH-USD", price)
        world.block()

    shut, *rest = world.verdicts
    assert (shut.ticker, shut.reason, shut.decision) == ("ETH-USD", "STATUS", None)
    assert shut.why == (
        "guard: distance 6.7 %, and 27,500.00 USDC of ETH-USD cannot be closed: the status is "
        f"{status}: no IOC is taken"
    )
    assert dict(shut.figures) == {"distance": "6.7 %", "unclosable": "27,500.00"}
    assert {reduce.order.ticker for reduce in rest} == {"BTC-USD"}


def test_what_cannot_be_closed_is_reported_when_the_status_changes(make_world: Any) -> None:
    """Not every block; and when the market takes orders, it is left."""
    world = _long(make_world)
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    for status in ("PAUSED", "PAUSED", "FINAL_SETTLEMENT", "FINAL_SETTLEMENT", "ACTIVE"):
        world.send(world.wire.trading("ETH-USD", status=status))
        for price in ("2740", "2739"):
            world.block(world.height + 6)
            world.oracle("ETH-USD", price)

    reported = [(one.reason, one.why.split(": ")[-2]) for one in world.verdicts[:2]]
    assert reported == [
        ("STATUS", "the status is PAUSED"),
        ("STATUS", "the status is FINAL_SETTLEMENT"),
    ]
    assert world.verdicts[2:] == world.reductions != []


def test_a_guard_without_a_block_height_reports_it(make_world: Any) -> None:
    """An order without a last block cannot be sent."""
    world = make_world()
    world.state.chain.height = 0
    world.account("-25000", {"ETH-USD": ("10", "3000")})
    world.oracle("ETH-USD", "2740")

    assert world.verdicts[0].reason == "UNKNOWN_HEIGHT"


@pytest.mark.parametrize(
    ("price", "size"), [("2735", "1e-50"), ("2735", "1e45"), ("1e-50", "1"), ("2735", "1" * 85)]
)
def test_a_level_that_no_order_can_name_does_not_stop_the_guard(
    make_world: Any, price: str, size: str
) -> None:
    """Nobody can trade there: what else is shown counts, or else the oracle price."""
    for bids in ([(price, size)], [("2738", "2"), (price, size)]):
        world = _long(make_world)
        world.book("ETH-USD", bids, [("2741", "5")])
        world.oracle("ETH-USD", "2740")

        assert len(world.reductions) == 1


def test_a_frame_that_moves_many_markets_is_judged_whole(make_world: Any) -> None:
    """Its views come one by one, and already the first sees all of it."""
    world = make_world()
    world.account("-25000", {"ETH-USD": ("5", "3000"), "BTC-USD": ("0.2", "60000")})
    prices = {"ETH-USD": {"oraclePrice": "2990"}, "BTC-USD": {"oraclePrice": "48000"}}
    frame = world.wire.publish("v4_markets", {"oraclePrices": prices})

    first, *_ = step(world.state, frame)
    world.risk.step(first)
    seen = world.risk.margin

    assert seen == world.margin_from_nothing()
    assert seen.known
    assert seen.net_collateral == (-25_000 + 5 * 2_990 + 9_600) * 10**6


def test_a_guard_that_is_blind_reports_it(make_world: Any) -> None:
    """Unknown is danger: an account with a position without a price is not called safe."""
    world = make_world()
    world.account("0", {"ETH-USD": ("1", "3000"), "XRP-USD": ("5", "0.5")})
    world.oracle("ETH-USD", "2740")

    assert {verdict.reason for verdict in world.verdicts} == {"UNKNOWN_ORACLE"}
    assert "XRP-USD" in world.verdicts[0].why


def test_the_guard_goes_on_though_blocks_stop(make_world: Any) -> None:
    """Prices without blocks: every two seconds instead of every block."""
    world = _long(make_world)
    world.oracle("ETH-USD", "2740")
    world.order(world.order_id("ETH-USD"), "CANCELLED")
    world.oracle("ETH-USD", "2735")
    assert len(world.reductions) == 1

    world.at += 3 * 1_000_000_000
    world.oracle("ETH-USD", "2734")
    assert len(world.reductions) == 2


def test_nothing_is_sold_that_costs_more_than_it_relieves(make_world: Any) -> None:
    """At an absurd bid a sale would bring liquidation nearer."""
    world = _long(make_world)
    world.book("ETH-USD", [("900", "50")], [("3001", "5")])
    world.oracle("ETH-USD", "2740")

    assert isinstance(world.verdicts[0], Denied)


@settings(max_examples=60)
@given(
    st.decimals("-20", "20", places=4).filter(lambda size: abs(size) >= Decimal("0.01")),
    st.integers(1_500, 12_000),
    st.integers(1, 400),
    st.integers(1, 300),
)
def test_the_guard_never_flips_a_position(
    make_world: Any, size: Decimal, leverage_pm: int, drop_pm: int, spread: int
) -> None:
    """It sells at most what is held and buys at most what is owed, on the grid."""
    world = make_world()
    equity = abs(size) * 3000 * 1000 / leverage_pm
    usdc = equity - size * 3000
    world.account(f"{usdc:.6f}", {"ETH-USD": (str(size), "3000")})
    price = 3000 - 3 * drop_pm if size > 0 else 3000 + 3 * drop_pm
    world.book("ETH-USD", [(str(price - spread), "1")], [(str(price + spread), "1")])
    world.oracle("ETH-USD", str(price))

    for reduce in world.reductions:
        assert reduce.order.reduce_only
        assert 0 < reduce.order.quantums <= abs(size.scaleb(9))
        assert reduce.order.quantums % 1_000_000 == 0
        assert (reduce.order.signed_quantums > 0) == (size < 0)


@pytest.mark.parametrize("leverage", [3, 4, 5])
def test_a_guarded_account_survives_the_crash_that_liquidates_an_unguarded_one(
    make_world: Any,
    leverage: int,
) -> None:
    """Thirty per cent in ninety blocks, a thin book: the guard sells its way down."""
    outcomes = {guard: _crash(make_world, leverage, guard=guard) for guard in (True, False)}

    assert outcomes[True] > 0
    assert outcomes[False] < 0


def _crash(make_world: Any, leverage: int, *, guard: bool) -> float:
    world = make_world(guard=guard)
    held, price = Decimal(10) * leverage / 3, Decimal(3000)
    held = held.quantize(Decimal("0.001"))
    usdc = Decimal(10_000) - held * price
    world.account(str(usdc), {"ETH-USD": (str(held), "3000")})
    for block in range(90):
        price = Decimal(3000) * (Decimal(1) - Decimal("0.36") * block / 90)
        bids = [(f"{price * (1000 - 2 * n) / 1000:.1f}", "0.4") for n in range(1, 8)]
        world.book("ETH-USD", bids, [(f"{price + 5:.1f}", "0.4")])
        before = len(world.reductions)
        world.block()
        world.oracle("ETH-USD", f"{price:.2f}")
        for reduce in world.reductions[before:]:
            usdc, held = _sold(reduce, bids, usdc, held, world.state.views["ETH-USD"].market)
            world.fill(reduce, f"{usdc:.6f}", str(held))
    return -1.0 if (world.risk.closest or 0) < 0 else 1.0


def _sold(
    reduce: Reduce, bids: Any, usdc: Decimal, held: Decimal, market: PerpetualMarket
) -> tuple[Decimal, Decimal]:
    left, bound = market.size(reduce.order.quantums), market.price(reduce.order.subticks)
    for text, size in bids:
        if left and Decimal(text) >= bound:
            taken = min(left, Decimal(size))
            left, held = left - taken, held - taken
            usdc += taken * Decimal(text) * Decimal("0.9995")
    return usdc, held


# === Recording ===


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Read the recording once."""
    return collect(load_recorded_stream("quickstart"))


@pytest.mark.replays
@pytest.mark.parametrize(("ticker", "leverage"), [("BTC-USD", 5), ("ETH-USD", 5), ("SOL-USD", 5)])
def test_in_the_recorded_crash_only_the_guarded_account_survives(
    make_world: Any, frames: list[Frame], ticker: str, leverage: int
) -> None:
    """A long bought before the crash, its reductions filled from the next recorded book."""
    guarded = _replayed(make_world(guard=True), frames, ticker, leverage)
    unguarded = _replayed(make_world(guard=False), frames, ticker, leverage)

    assert guarded.risk.closest > 0
    assert guarded.reductions
    assert all(reduce.after.cushion > 0 for reduce in guarded.reductions)
    assert unguarded.risk.closest < 0
    assert unguarded.verdicts == []


def _replayed(world: Any, frames: list[Frame], ticker: str, leverage: int) -> Any:
    world.risk = Risk(subaccount=OWNER, guard=world.risk.guard)
    world.state, usdc, held, sent = DataState(), Decimal(0), Decimal(0), None
    for frame in frames:
        for view in step(world.state, frame):
            if view.ticker == ticker and view.oracle and not held:
                price = Decimal(view.oracle.text)
                held = (Decimal(10_000) * leverage / price).quantize(Decimal("0.001"))
                usdc = Decimal(10_000) - held * price
                world.account(str(usdc), {ticker: (str(held), str(price))})
            if view.market and view.ticker == ticker and sent and view.changed == "book":
                levels = [(level.price_text, level.size_text) for level in view.book.bids(50)]
                usdc, held = _sold(sent, levels, usdc, held, view.market)
                world.fill(sent, f"{usdc:.6f}", str(held))
                sent = None
            judged = world.put(view)
            sent = next((v for v in judged if isinstance(v, Reduce)), sent)
    return world


# === Streams ===


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_verdicts_are_as_drawn(world: Any, make_decision: Any, case: str) -> None:
    """Within the event, for what is judged alone; they end as their source."""
    stamp: Any = {"seq": world.seq, "at": world.at, "subaccount": OWNER, "height": world.height}
    long = PositionState(ticker="ETH-USD", size=Decimal(4), entry_price=Decimal(3000))
    events = {
        "v": world.state.views["ETH-USD"],
        "d": make_decision("ETH-USD", 3000, world.seq, world.at),
        "u": AccountUpdate(**stamp, collateral=-11_200_000_000, settled=True, positions=(long,)),
        "x": AccountUpdate(**stamp, doubt="account frames were lost: close"),
    }

    def letter(judged: Judgement) -> str:
        return type(judged).__name__[0]

    came, drawn = play(verdicts, verdicts(world.risk), events, letter, case)

    assert came == drawn


def test_what_comes_after_disposal_is_not_judged(world: Any, make_decision: Any) -> None:
    """No verdict, and nothing is reserved."""
    scheduler = TestScheduler()
    late = ReactiveTest.on_next(400, make_decision("ETH-USD", 3000, world.seq, world.at))
    source = scheduler.create_hot_observable(late)

    judged = scheduler.start(lambda: source.pipe(verdicts(world.risk)), disposed=300)

    assert judged.messages == []
    assert world.risk.account.orders.reserved == {}


def test_without_a_risk_each_subscriber_has_its_own(make_decision: Any) -> None:
    """Two subscribers must not share a counter, let alone an account."""
    decision: MarketView | AccountUpdate | Decision = make_decision("ETH-USD", 1.0)
    stream = reactivex.of(decision).pipe(verdicts())
    judged: list[Judgement] = []
    for _ in range(2):
        stream.subscribe(judged.append)

    assert [verdict.id for verdict in judged] == ["V1", "V1"]
