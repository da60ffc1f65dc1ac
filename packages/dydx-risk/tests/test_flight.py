"""The flight plan: what it orders, what it costs, and what it may never do."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from math import ceil, inf, nan
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    BookContents,
    MarketFields,
    PerpetualMarket,
    collect,
    load_recorded_stream,
    market_parameters,
)
from dydx_data import Book, Chain, DataState, MarketView, Oracle, step
from dydx_risk import (
    FlightPlan,
    FlightPolicy,
    MarginFigures,
    RiskError,
    Rung,
    due,
    joined,
    mul_ppm,
    percent_text,
    plan,
    position_margin,
    replan,
    total_margin,
)
from hypothesis import given
from hypothesis import strategies as st

ETH = market_parameters("ETH-USD")
ONE = 10**9  # quantums of one ETH
USDC = 10**6
POLICY = FlightPolicy()
Levels = list[tuple[str, str]]
DEEP: tuple[Levels, Levels] = (
    [("2999.9", "5"), ("2999", "20"), ("2998", "100")],
    [("3000.1", "5"), ("3001", "20"), ("3002", "100")],
)
THIN: tuple[Levels, Levels] = (
    [("2995", "2"), ("2985", "2"), ("2970", "4")],
    [("3005", "2"), ("3015", "2"), ("3030", "4")],
)


def market(ticker: str = "ETH-USD", **other: Any) -> PerpetualMarket:
    """Describe a market on ETH's grid."""
    return msgspec.structs.replace(ETH, ticker=ticker, **other)


def view(
    levels: tuple[Levels, Levels] | None = DEEP,
    *,
    price: str | None = "3000",
    status: str = "ACTIVE",
    stale: bool = False,
    **other: Any,
) -> MarketView:
    """Make a market's view; without levels its book is unknown, without a price its oracle."""
    grid = market(**other)
    seen = MarketView(grid.ticker, Chain(), {}, MarketFields(), market=grid, status=status)
    if levels is not None:
        seen.book = Book()
        seen.book.known = True
        seen.book.update([BookContents(bids=list(levels[0]), asks=list(levels[1]))])
    if price is not None:
        digits = int(Decimal(price).scaleb(6))
        seen.oracle = Oracle(float(price), digits, -6, 0, 0, price)
    seen.quality.stale = stale
    return seen


def margin_of(
    collateral: int, positions: dict[str, int], views: dict[str, MarketView]
) -> MarginFigures:
    """Sum an account up as risk does."""
    known, unknown = [], []
    for ticker, held in positions.items():
        seen = views.get(ticker)
        if seen is None or seen.market is None or seen.oracle is None:
            unknown.append(ticker)
        else:
            known.append(
                position_margin(seen.market, held, seen.oracle.digits, seen.oracle.exponent)
            )
    return total_margin(collateral, known, unknown)


def drawn(
    usdc: float,
    positions: dict[str, int],
    views: dict[str, MarketView],
    policy: FlightPolicy = POLICY,
) -> FlightPlan:
    """Draw an account's plan from its collateral in USDC."""
    return plan(margin_of(int(usdc * USDC), positions, views), positions, views, policy)


def one(usdc: float, held: int, seen: MarketView, policy: FlightPolicy = POLICY) -> FlightPlan:
    """Draw the plan of an account with one position of `held` quantums."""
    return drawn(usdc, {seen.ticker: held}, {seen.ticker: seen}, policy)


def left_after(rungs: Iterable[Rung], positions: dict[str, int]) -> dict[str, int]:
    """Fire rungs: what is held then."""
    held = dict(positions)
    for rung in rungs:
        assert rung.held == held[rung.ticker]
        held[rung.ticker] += rung.delta
    return held


# === One position ===


@pytest.mark.parametrize(("held", "usdc"), [(10 * ONE, -27_600), (-10 * ONE, 32_400)])
def test_an_account_that_is_near_is_restored_and_no_more(held: int, usdc: float) -> None:
    """The last rung is the smallest on the grid that reaches the target; both sides alike."""
    near = one(usdc, held, view())

    rungs = near.rungs
    assert near.distance_now == pytest.approx(0.0515 if held > 0 else 0.0485, abs=0.003)
    assert 0.10 <= rungs[-1].restores < 0.1002
    assert near.is_enough
    assert near.distance_after == rungs[-1].restores
    assert all(rung.delta * held < 0 for rung in rungs)
    assert all(rung.quantums % ETH.step_base_quantums == 0 for rung in rungs)
    assert due(near, near.distance_now) == rungs


def test_the_distance_that_a_plan_promises_is_what_fills_would_leave() -> None:
    """Fills at the book's prices, fee paid, valued from nothing: the same distance."""
    seen, held, usdc = view(), 10 * ONE, -27_600 * USDC
    near = one(-27_600, held, seen)

    sold = sum(rung.quantums for rung in near.rungs)
    cash = sum(rung.quote - rung.fee for rung in near.rungs)
    after = margin_of(usdc + cash, {"ETH-USD": held - sold}, {"ETH-USD": seen})
    assert after.distance is not None
    assert after.distance == pytest.approx(near.distance_after, abs=1e-9)
    assert near.cost == sum(rung.spread + rung.impact + rung.fee for rung in near.rungs)


def test_costs_are_those_of_the_book() -> None:
    """Five at the best, the rest a level deeper: spread to the mid, impact from the best, fee."""
    policy = FlightPolicy(cuts=1, restore_to=0.9)
    rung = one(-27_600, 10 * ONE, view(), policy).rungs[0]

    # 9.2 or so are sold: from the sixth on, each is 0.9 USDC below the best.
    assert rung.spread == pytest.approx(rung.quantums / ONE * 0.1 * USDC, abs=2)
    assert rung.impact == pytest.approx((rung.quantums / ONE - 5) * 0.9 * USDC, abs=2)
    assert rung.fee == mul_ppm(rung.quote, 500, round_up=True)
    assert rung.loss == rung.cost
    # 3 % of maintenance and three quarters of 5.15 % to liquidation, below the oracle.
    assert rung.subticks == ETH.subticks("2794.2")


def test_a_rung_follows_a_market_nearly_to_liquidation() -> None:
    """From book or oracle, whichever has run farther; without chasing, from the last level."""
    calm, still = view(), FlightPolicy(cuts=1, restore_to=0.9, chase=0)
    ahead = view(([("2899.9", "50")], [("2900.1", "50")]))

    assert one(-27_600, 10 * ONE, calm, still).rungs[0].subticks == ETH.subticks("2910")
    assert one(-22_000, 10 * ONE, ahead).rungs[0].subticks < ETH.subticks("2793.9")
    short = one(32_400, -10 * ONE, calm).rungs[0]
    assert ETH.subticks("3150") < short.subticks < ETH.subticks("3240")


def test_a_rung_gives_up_what_would_bring_no_relief() -> None:
    """A long at 5.15 % is freed of 3 %, and of 5 % more: what is offered lower is not taken."""
    fallen = (
        [("2900", "4"), ("2780", "3"), ("2750", "3")],
        [("3000", "5")],
    )
    deep = FlightPolicy(reach_bps=900, restore_to=0.9, cuts=1, chase=0.5)
    rung = one(-27_600, 10 * ONE, view(fallen), deep).rungs[0]

    # The lowest bid less 1 % would be 2722.5; 7.95 % below 3,000 nothing is gained any more.
    assert (rung.subticks, rung.offered) == (ETH.subticks("2761.8"), 7 * ONE)
    rest = ETH.size(rung.quantums - 7 * ONE).normalize()
    assert f"; {rest} of it is not offered within the bound and may stay; liquidated" in rung.ends
    at_bound = ETH.quote_quantums(rung.quantums, rung.subticks)
    value = ETH.quote_quantums(rung.quantums, ETH.subticks("3000"))
    assert rung.worst_loss == value - at_bound + rung.fee


def test_a_safe_account_carries_its_ladder_too() -> None:
    """Drawn as it would be needed where the first rung fires; nothing is due."""
    safe = one(-20_000, 10 * ONE, view())

    assert safe.distance_now is not None
    assert safe.distance_now > 0.3
    assert safe.drawn_at == pytest.approx(safe.fires_below, abs=1e-5)
    assert safe.is_enough
    assert due(safe, safe.distance_now) == ()
    assert due(safe, 0.05) == safe.rungs
    assert due(safe, None) == safe.rungs


def test_the_next_block_may_bring_what_this_one_did() -> None:
    """A fall makes rungs due earlier and larger: what is left of the distance after it counts."""
    calm, seen = one(-20_000, 10 * ONE, view()), {"ETH-USD": view()}
    margin = margin_of(-20_000 * USDC, {"ETH-USD": 10 * ONE}, seen)
    falling = plan(margin, {"ETH-USD": 10 * ONE}, seen, fall=margin.sensitivity * 3 // 10)

    assert (calm.distance_next, due(calm, calm.distance_next)) == (calm.distance_now, ())
    assert falling.distance_now == calm.distance_now
    assert falling.distance_next == pytest.approx((calm.distance_now or 0) - 0.3)
    assert falling.drawn_at == falling.distance_now
    assert due(falling, falling.distance_next) == falling.rungs
    assert falling.rungs[-1].restores > 0.3 + POLICY.restore_to
    assert sum(r.quantums for r in falling.rungs) > sum(r.quantums for r in calm.rungs)


def test_what_waits_for_an_answer_is_not_counted_on() -> None:
    """The ladder restores the distance without it, until it is answered."""
    views = {t: view(ticker=t) for t in ("A-USD", "B-USD")}
    positions = dict.fromkeys(views, 5 * ONE)
    margin = margin_of(-27_600 * USDC, positions, views)
    both = plan(margin, positions, views)
    one_waits = plan(margin, positions, views, waiting={"A-USD"})

    assert {rung.ticker for rung in one_waits.rungs} == {"B-USD"}
    assert dict(one_waits.left) == {} or "A-USD" in dict(one_waits.left)
    assert "A-USD stays: its reduction has no answer yet" in one_waits.why
    assert replan(one_waits, margin, {"A-USD": 5 * ONE}, views) == both


def test_a_rung_has_what_doing_nothing_would_cost() -> None:
    """A tenth a block of a large position, 1,000 USDC of a small one, at 1.5 % beyond the book."""
    large = one(-27_600, 10 * ONE, view()).rungs[0]
    small = one(-2_760 * 0.5, ONE // 2, view()).rungs[0]

    assert large.liquidation_quantums == ONE
    assert small.liquidation_quantums == 333_000_000
    assert large.liquidation_cost == large.spread + large.impact + mul_ppm(
        large.quote, 15_000, round_up=True
    )
    assert large.liquidation_cost > large.cost


def test_every_rung_and_plan_speaks_in_figures() -> None:
    """What, at which price, at what cost, to what end, and otherwise."""
    near = one(-27_600, 10 * ONE, view())

    assert near.rungs[0].words == "sell 2.5 ETH-USD (of 10) at >= 2,794.2"
    assert near.rungs[0].ends == (
        "restores 7.8 %, costs 4.00 USDC (spread 0.25, impact 0.00, fee 3.75), at that bound "
        "518.25; liquidated, 1 a block, the same would cost up to 112.75"
    )
    assert near.why.startswith(f"distance 5.1 %; {len(near.rungs)} steps from 5.1 % to 10.0 %, ")


def test_without_positions_there_is_nothing_to_leave() -> None:
    """No rung, no distance, and that is enough."""
    flat = plan(MarginFigures(USDC), {}, {})

    assert (flat.rungs, flat.distance_now, flat.fires_below, flat.cost) == ((), None, None, 0)
    assert flat.is_enough
    assert flat.why == "nothing is held"


def test_a_distance_that_is_no_number_is_worded_as_unknown() -> None:
    """What is beyond all bounds is cut, and its words show it."""
    worded = [percent_text(d) for d in (None, nan, inf, -inf, 10, -10)]

    assert worded == ["unknown", "unknown", ">999 %", "<-999 %", ">999 %", "<-999 %"]


def test_a_distance_is_worded_rounded_down() -> None:
    """What is below a limit reads as below it; what is past liquidation is negative."""
    distances = (0.0599, 0.05999999, 0.06, 0.9999, 1, 1.3857, 0.0, -0.0001, -0.2, -1.5)
    worded = " ".join(percent_text(d).removesuffix(" %") for d in distances)

    assert worded == "5.9 5.9 6.0 99.9 100 138 0.0 -0.1 -20.0 -150"


# === Thin books ===


def test_what_the_book_does_not_show_costs_the_worst() -> None:
    """Beyond the last level within reach, the price is the reach itself, never better."""
    policy = FlightPolicy(cuts=1, reach_bps=100, restore_to=0.5, chase=0)
    shallow = ([("2999", "1"), ("2000", "500")], [("3001", "1")])
    rung = one(-27_000, 10 * ONE, view(shallow), policy).rungs[0]

    beyond = rung.quantums - ONE
    assert rung.quote == ETH.quote_quantums(ONE, ETH.subticks("2999")) + ETH.quote_quantums(
        beyond, ETH.subticks("2969.1")
    )
    assert rung.subticks == ETH.subticks("2910")
    assert rung.depth_share == 10
    assert rung.offered == ONE
    assert f"{beyond // 10**6 / 1000:g} of it is not offered within the bound" in rung.ends


def test_the_cheapest_relief_goes_first() -> None:
    """A deep book before a thin one, and the thin one not at all where the deep one is enough."""
    views = {"A-USD": view(THIN, ticker="A-USD"), "B-USD": view(DEEP, ticker="B-USD")}
    positions = {"A-USD": 5 * ONE, "B-USD": 5 * ONE}
    some = drawn(-27_600, positions, views)
    much = drawn(-27_600, positions, views, FlightPolicy(restore_to=0.5))

    assert {rung.ticker for rung in some.rungs} == {"B-USD"}
    assert [rung.ticker for rung in much.rungs][:4] == ["B-USD"] * 4
    assert much.rungs[-1].ticker == "A-USD"
    # All of it is due at once: B goes as early as A must.
    assert much.rungs[0].fires_below == much.rungs[-1].fires_below


def test_what_is_fired_at_once_is_one_order_a_market() -> None:
    """Sizes and costs add up, the worst price is the last one's."""
    views = {"A-USD": view(THIN, ticker="A-USD"), "B-USD": view(DEEP, ticker="B-USD")}
    positions = {"A-USD": 5 * ONE, "B-USD": 5 * ONE}
    rungs = drawn(-27_600, positions, views, FlightPolicy(restore_to=0.5)).rungs
    orders = joined(rungs)

    assert [rung.ticker for rung in orders] == ["B-USD", "A-USD"]
    assert left_after(orders, positions) == left_after(rungs, positions)
    assert sum(rung.cost for rung in orders) == sum(rung.cost for rung in rungs)
    assert orders[1].subticks == min(r.subticks for r in rungs if r.ticker == "A-USD")
    assert (orders[0].before, orders[1].restores) == (rungs[0].before, rungs[-1].restores)


# === Unknown ===


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view(None), "the book is unknown"),
        (view(([("2999", "5")], [])), "the book is one-sided"),
        (view(([], [])), "the book is empty"),
        (view(stale=True), "the data are stale"),
        (view(([("0.01", "5")], [("3000", "5")])), "no level of the book is on the grid"),
        (view(([("1e29", "5")], [("1.5e29", "5")])), "no level of the book is on the grid"),
    ],
)
@pytest.mark.parametrize("held", [10 * ONE, -10 * ONE])
def test_a_rung_without_a_book_is_blind_in_its_words(
    seen: MarketView, reason: str, held: int
) -> None:
    """Computed at the oracle less half the maintenance margin."""
    blind = one(-20_000 if held > 0 else 40_000, held, seen)

    rung = blind.rungs[0]
    assert rung.blind == reason
    assert rung.impact == pytest.approx(0.015 * 3_000 * USDC * rung.quantums / ONE, abs=2)
    assert rung.depth_share == inf
    assert f"blind ({reason})" in rung.ends


def test_a_position_without_figures_is_named_and_the_others_still_leave() -> None:
    """Unknown is danger: no distance, never enough; what is known has its rungs."""
    views = {"ETH-USD": view(), "GONE-USD": view(price=None, ticker="GONE-USD")}
    held: dict[str, int | None] = {"ETH-USD": 10 * ONE, "GONE-USD": ONE, "NEW-USD": None}
    margin = margin_of(-27_600 * USDC, {"ETH-USD": 10 * ONE, "GONE-USD": ONE}, views)
    partly = plan(margin, held, views)

    assert partly.unknown == ("GONE-USD", "NEW-USD")
    assert partly.distance_now is None
    assert not partly.is_enough
    assert due(partly, partly.distance_now) == partly.rungs != ()
    assert dict(partly.left) == {
        "GONE-USD": "expected a positive oracle price, got unknown",
        "NEW-USD": "the market is not known",
    }
    assert "unknown: GONE-USD, NEW-USD" in partly.why


@pytest.mark.parametrize(
    ("seen", "held", "why"),
    [
        (view(status="PAUSED"), 10 * ONE, "the status is PAUSED: no IOC is taken"),
        (view(), 999_999, "0.000999999 is less than one step of 0.001"),
    ],
)
def test_what_no_order_can_reduce_is_left_and_named(seen: MarketView, held: int, why: str) -> None:
    """A closed market, less than a step."""
    stuck = one(-20_000 * held / (10 * ONE), held, seen)

    assert stuck.rungs == ()
    assert stuck.left[0][1].startswith(why)
    assert "ETH-USD stays: " in stuck.why


@pytest.mark.parametrize(
    ("seen", "held", "why"),
    [
        (view(price="0"), ONE, "expected a positive oracle price, got 0"),
        (view(price="-3"), ONE, "expected a positive oracle price, got -3"),
        (view(), 10**300, ""),
    ],
)
def test_a_position_that_cannot_be_valued_is_unknown(seen: MarketView, held: int, why: str) -> None:
    """Not a price, or more than the chain can hold: nothing is invented."""
    lost = plan(MarginFigures(0, unknown=("ETH-USD",)), {"ETH-USD": held}, {"ETH-USD": seen})

    assert (lost.rungs, lost.unknown, lost.distance_now) == ((), ("ETH-USD",), None)
    assert not lost.is_enough
    assert not why or dict(lost.left) == {"ETH-USD": why}


def test_what_costs_more_than_it_relieves_stays() -> None:
    """A part would bring liquidation nearer, and all of it would end in debt."""
    tier: dict[str, Any] = {"imf_ppm": 20_000, "maintenance_fraction_ppm": 100_000}
    hole = ([("2800", "100")], [("3000", "100")])  # 6.7 % below the oracle, 0.2 % to relieve
    early = FlightPolicy(act_below=0.08)
    poor, rich = (one(usdc, 10 * ONE, view(hole, **tier), early) for usdc in (-29_900, -27_000))

    assert poor.rungs == ()
    assert dict(poor.left) == {
        "ETH-USD": "leaving costs 2,014.00 USDC and relieves 60.00 of maintenance margin"
    }
    assert not poor.is_enough
    # With 2,400 USDC, at 8 %, the same exit can be paid for.
    assert rich.rungs
    assert rich.is_enough


def test_what_is_left_of_a_step_leaves_whole() -> None:
    """A single step cannot be cut: after it nothing is held."""
    step = one(-2.76, ETH.step_base_quantums, view())

    assert [rung.quantums for rung in step.rungs] == [ETH.step_base_quantums]
    assert step.distance_after == inf
    assert step.rungs[0].ends.count("leaves nothing") == 1
    assert "to nothing held" in step.why


def test_a_market_that_requires_all_its_value_is_at_no_distance() -> None:
    """Maintenance of 100 %: no price helps or hurts, and selling relieves all the same."""
    tier: dict[str, Any] = {"imf_ppm": 1_000_000, "maintenance_fraction_ppm": 1_000_000}
    safe, breached = (one(usdc, 10 * ONE, view(**tier)) for usdc in (10, -10))

    assert (safe.distance_now, safe.rungs) == (inf, ())
    assert breached.distance_now == -inf
    assert breached.rungs[-1].restores == inf


def test_sizes_beyond_an_order_are_cut_to_what_one_may_be() -> None:
    """An order's size is an unsigned 64-bit number."""
    vast = one(-20_000 * 10**12, 10**13 * ONE, view())

    assert sum(rung.quantums for rung in vast.rungs) < 2**64
    assert vast.rungs


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"act_below": 0.2}, "act_below < restore_to"),
        ({"cuts": 0}, "a cut and a level"),
        ({"haircut_bps": 10_000}, "haircut_bps < 10,000"),
        ({"taker_fee_ppm": -1}, "taker_fee_ppm of 0 or more, got -1"),
        ({"act_below": 0.0}, "0 < act_below"),
        ({"restore_to": 1.0}, "restore_to < 1"),
        ({"levels": 0}, "a cut and a level, got 4 and 0"),
        ({"slippage_bps": -1}, "0 <= slippage_bps < 10,000, got -1"),
        ({"reach_bps": -1}, "0 <= reach_bps < 10,000, got -1"),
        ({"chase": -0.1}, "0 <= chase < 1, got -0.1"),
        ({"chase": 1.0}, "0 <= chase < 1, got 1.0"),
    ],
)
def test_a_policy_that_cannot_be_flown_is_refused(wrong: dict[str, Any], words: str) -> None:
    """With what was expected and what it was."""
    with pytest.raises(RiskError, match=words):
        FlightPolicy(**wrong)


def test_a_market_whose_parameters_are_not_known_is_named_and_the_others_still_leave() -> None:
    """Its price and book may be: without its grid there is no order."""
    views = {"ETH-USD": view(), "BTC-USD": view(ticker="BTC-USD")}
    views["BTC-USD"].market = None

    drawn_ = drawn(-28_500, {"ETH-USD": 10 * ONE, "BTC-USD": ONE}, views)

    assert ("BTC-USD", "the market is not known") in drawn_.left
    assert {rung.ticker for rung in drawn_.rungs} == {"ETH-USD"}


def test_what_a_liquidation_would_cost_is_rounded_up() -> None:
    """Spread, impact and its fee of 1.5 %, to the next quantum: never less than is charged."""
    rungs = one(-28_400, 10_001 * ONE // 1_000, view(), FlightPolicy(cuts=7)).rungs

    fees = [Fraction(rung.quote * 15, 1_000) for rung in rungs]
    assert any(fee.denominator > 1 for fee in fees)
    assert [rung.liquidation_cost - rung.spread - rung.impact for rung in rungs] == [
        ceil(fee) for fee in fees
    ]


def test_a_policy_may_go_to_its_bounds() -> None:
    """None of an exit's allowances, one cut and one level; or nearly everything."""
    none: dict[str, Any] = {
        "slippage_bps": 0, "reach_bps": 0, "haircut_bps": 0, "chase": 0.0, "taker_fee_ppm": 0,
    }  # fmt: skip
    most: dict[str, Any] = {
        "slippage_bps": 9_999,
        "reach_bps": 9_999,
        "haircut_bps": 9_999,
        "chase": 0.99,
    }

    assert FlightPolicy(**none, cuts=1, levels=1).cuts == 1
    assert FlightPolicy(**most).chase == 0.99


# === Always ===

_OFFSETS = st.lists(st.integers(1, 600), min_size=0, max_size=4, unique=True).map(sorted)
_SIZES = st.integers(1, 50_000)


@st.composite
def books(draw: st.DrawFn) -> tuple[Levels, Levels] | None:
    """Draw a book around 3,000 USDC, of any thinness; none is unknown."""
    if draw(st.integers(0, 9)) == 0:
        return None
    sides: list[Levels] = []
    for sign in (-1, 1):
        offsets = draw(_OFFSETS)
        sides.append(
            [
                (str(Decimal(30_000 + sign * n) / 10), str(Decimal(draw(_SIZES)) / 1000))
                for n in offsets
            ]
        )
    return sides[0], sides[1]


@st.composite
def accounts(draw: st.DrawFn) -> tuple[MarginFigures, dict[str, int], dict[str, MarketView]]:
    """Draw an account of up to four positions, at a distance of -5 % to 40 %."""
    tickers = [f"M{n}-USD" for n in range(draw(st.integers(1, 4)))]
    positions = {
        t: draw(st.integers(1, 20_000)) * draw(st.sampled_from((-1, 1))) * 1_000_000
        for t in tickers
    }
    views = {
        t: view(
            draw(books()),
            ticker=t,
            price=str(Decimal(draw(st.integers(2_900, 3_100)))),
            stale=draw(st.booleans()),
            imf_ppm=draw(st.sampled_from((20_000, 50_000, 200_000))),
        )
        for t in tickers
    }
    bare = margin_of(0, positions, views)
    distance = draw(st.integers(-50_000, 400_000))
    collateral = bare.sensitivity * distance // 1_000_000 - bare.cushion
    return margin_of(collateral, positions, views), positions, views


@given(accounts())
def test_firing_all_rungs_leaves_the_account_flat_or_restored(account: Any) -> None:
    """Or names each position for which closing costs more than it relieves; never a flip."""
    margin, positions, views = account
    drawn = plan(margin, positions, views)

    after = left_after(drawn.rungs, positions)
    flat = not any(after.values())
    assert flat or drawn.is_enough or {t for t, n in after.items() if n} == set(dict(drawn.left))
    assert all(0 <= abs(after[t]) <= abs(n) and after[t] * n >= 0 for t, n in positions.items())
    assert all(rung.quantums > 0 and rung.delta * rung.held < 0 for rung in drawn.rungs)


@given(accounts())
def test_each_rung_brings_the_account_farther_away(account: Any) -> None:
    """Cumulative distance never falls, costs are never negative, and all is due at once."""
    drawn = plan(*account)

    reached = [drawn.drawn_at, *(rung.restores for rung in drawn.rungs)]
    assert reached == sorted(reached)  # type: ignore[type-var] # a distance is known here
    assert [rung.before for rung in drawn.rungs] == reached[:-1]
    parts = [(r.spread, r.impact, r.fee, r.loss, r.liquidation_cost) for r in drawn.rungs]
    assert all(figure >= 0 for part in parts for figure in part)
    assert {rung.fires_below for rung in drawn.rungs} <= {POLICY.act_below}
    assert all(rung.words and rung.ends for rung in drawn.rungs)


@given(accounts())
def test_selling_as_planned_leaves_no_less_than_was_promised(account: Any) -> None:
    """Fills at the quoted prices, valued from nothing, reach what the last rung restores."""
    margin, positions, views = account
    drawn = plan(margin, positions, views)
    if drawn.drawn_at != margin.distance or not drawn.rungs:
        return

    cash = sum((r.quote if r.side == "SELL" else -r.quote) - r.fee for r in drawn.rungs)
    settled = margin.net_collateral - margin_of(0, positions, views).net_collateral
    after = margin_of(settled + cash, left_after(drawn.rungs, positions), views)
    if after.distance is None:
        assert drawn.distance_after == inf
    else:
        assert after.distance >= drawn.rungs[-1].restores - 1e-9


@given(accounts())
def test_a_fill_at_a_rungs_worst_price_brings_no_account_nearer(account: Any) -> None:
    """However bad the fill: farther from liquidation, or nothing is held and nothing is owed."""
    margin, positions, views = account
    drawn = plan(margin, positions, views)
    if drawn.drawn_at != margin.distance or not (margin.distance or 0) > 0:
        return

    for rung in joined(drawn.rungs):
        quote = rung.market.quote_quantums(rung.quantums, rung.subticks)
        cash = (quote if rung.side == "SELL" else -quote) - mul_ppm(quote, 500, round_up=True)
        settled = margin.net_collateral - margin_of(0, positions, views).net_collateral
        after = margin_of(settled + cash, left_after([rung], positions), views)
        # A figure of each fill is rounded by a quantum.
        assert after.cushion >= -2
        assert after.distance is None or after.distance >= margin.distance - 1e-5


@given(accounts(), books(), st.integers(-20_000, 20_000))
def test_a_plan_drawn_again_is_the_plan_drawn_from_nothing(
    account: Any, book: tuple[Levels, Levels] | None, steps: int
) -> None:
    """One market's book, price and position move; the others stay as they were costed."""
    margin, positions, views = account
    old = plan(margin, positions, views)
    ticker = min(positions)
    views[ticker] = view(book, ticker=ticker, price="2950")
    positions[ticker] = steps * 1_000_000
    held = {t: n for t, n in positions.items() if n}
    collateral = margin.net_collateral
    margin = margin_of(collateral, held, views)

    again = replan(old, margin, {ticker: positions[ticker]}, {ticker: views[ticker]})
    assert again == plan(margin, held, views)


# === In time ===


def around(price: Decimal, size: str) -> tuple[Levels, Levels]:
    """Send a book of ten levels a side around a price, a tenth of a percent apart."""
    sides = [
        [(f"{price * (1000 + sign * n) / 1000:.1f}", size) for n in range(1, 11)]
        for sign in (-1, 1)
    ]
    return sides[0], sides[1]


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=40),
    st.sampled_from((-1, 1)),
    st.sampled_from(("2", "50")),
)
def test_who_follows_the_plan_is_not_liquidated(
    moves: list[tuple[int, int]], side: int, size: str
) -> None:
    """Prices jump up to 4 % a step, either way; what is due is filled on the book of the step."""
    prices = {"A-USD": Decimal(3000), "B-USD": Decimal(3000)}
    positions = {"A-USD": 10 * ONE, "B-USD": 10 * ONE * side}
    views = {t: view(around(p, size), ticker=t, price=str(p)) for t, p in prices.items()}
    bare = margin_of(0, positions, views)
    settled = bare.sensitivity // 10 - bare.cushion  # a distance of 10 %
    ladder = plan(margin_of(settled, positions, views), positions, views)
    for jumps in moves:
        for ticker, jump in zip(prices, jumps, strict=True):
            prices[ticker] = (prices[ticker] * (1000 + jump) / 1000).quantize(Decimal("0.1"))
            price = prices[ticker]
            views[ticker] = view(around(price, size), ticker=ticker, price=str(price))
        margin = margin_of(settled, positions, views)
        assert margin.cushion >= 0
        ladder = replan(ladder, margin, positions, views)
        if margin.distance is not None:
            for rung in joined(due(ladder, margin.distance)):
                positions[rung.ticker] += rung.delta
                settled += (rung.quote if rung.side == "SELL" else -rung.quote) - rung.fee
        ladder = replan(ladder, margin_of(settled, positions, views), positions, views)
        after = margin_of(settled, positions, views).distance
        assert after is None or after >= POLICY.act_below


@pytest.mark.replays
def test_a_recording_moves_the_plan_book_by_book() -> None:
    """Over the bundled recording: drawn again where a frame moved it, equal to drawn from nothing."""
    state, ladder, compared, sighted = DataState(), FlightPlan(), 0, 0
    positions: dict[str, int] = {}
    for frame in collect(load_recorded_stream("account")):
        moved = step(state, frame)
        for seen in moved:
            if seen.ticker not in positions and seen.market is not None and seen.oracle is not None:
                positions[seen.ticker] = worth(10_000, seen) * (-1) ** len(positions)
        held = {seen.ticker: positions[seen.ticker] for seen in moved if seen.ticker in positions}
        if not held:
            continue
        margin = margin_of(10_000 * USDC, positions, state.views)
        ladder = replan(ladder, margin, held, {seen.ticker: seen for seen in moved})
        sighted += all(not rung.blind for rung in ladder.rungs)
        if frame.seq % 13 == 0:
            compared += 1
            assert ladder == plan(margin, positions, state.views)
            assert all(rung.words and rung.delta * rung.held < 0 for rung in ladder.rungs)

    assert (compared > 100, sighted > 1_000, ladder.is_enough) == (True, True, True)
    # The recording ends with a close: what is not known any more is left blindly.
    assert {rung.blind for rung in ladder.rungs} == {"the book is unknown"}


def worth(usdc: int, seen: MarketView) -> int:
    """Return how many quantums on the grid are worth so much, at least one step."""
    grid, oracle = seen.market, seen.oracle
    assert grid is not None
    assert oracle is not None
    size = Decimal(usdc) / Decimal(oracle.text)
    return max(grid.floor_quantums(size), grid.step_base_quantums)
