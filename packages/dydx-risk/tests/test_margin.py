import pickle
from fractions import Fraction

import msgspec
import pytest
from dydx_conn import base_to_quote, market_parameters
from dydx_risk import (
    PPM,
    Holding,
    LiquidationError,
    LiquidationTerms,
    MarginError,
    MarginFigures,
    PositionMargin,
    adjusted_imf_ppm,
    bankruptcy_price,
    check_closing,
    check_update,
    compare_risk,
    exact_subticks,
    fillable_price,
    fillable_subticks,
    funding_index_delta,
    funding_settlement,
    funding_settlement_ppm,
    insurance_fund_delta,
    is_liquidatable,
    liquidation_limits,
    liquidation_ratio,
    liquidation_size,
    maintenance_margin_ppm,
    mixes_isolated,
    mul_ppm,
    position_margin,
    state_change,
    total_margin,
)
from hypothesis import assume, given
from hypothesis import strategies as st

ETH = market_parameters("ETH-USD")
SCALED = msgspec.structs.replace(
    ETH, open_interest_lower_cap=1_000_000_000_000, open_interest_upper_cap=2_000_000_000_000
)
SIZES = st.integers(-(10**15), 10**15)
PRICES = st.integers(1, 10**12)
EXPONENTS = st.integers(-9, 3)


def _figures(net: int, initial: int, maintenance: int) -> MarginFigures:
    return MarginFigures(net, initial, maintenance)


def test_a_long_is_worth_its_notional_and_needs_its_fractions_of_it() -> None:
    """2 ETH at 3,000 are 6,000 USDC: 5 % initial, 60 % of that maintenance."""
    assert position_margin(ETH, 2_000_000_000, 3_000_000_000, -6) == PositionMargin(
        6_000_000_000, 300_000_000, 180_000_000
    )


def test_a_short_is_worth_its_negative_and_needs_the_same() -> None:
    """The sign is in the net notional alone."""
    assert position_margin(ETH, -2_000_000_000, 3_000_000_000, -6) == PositionMargin(
        -6_000_000_000, 300_000_000, 180_000_000
    )


def test_a_price_with_a_positive_exponent_is_scaled_up() -> None:
    """A quantum may be worth many quote quantums."""
    assert position_margin(ETH, -7, 3, 5).net_notional == -2100


def test_open_interest_raises_the_initial_margin_alone() -> None:
    """Half way between the caps the fraction is half way to one."""
    price = (3_000_000_000, -6)
    half = position_margin(SCALED, 10**9, *price, 500 * 10**9)

    assert half == PositionMargin(3_000_000_000, 1_575_000_000, 90_000_000)


def test_open_interest_scales_at_a_price_with_a_positive_exponent() -> None:
    """The caps are compared with quote quantums, whatever the exponent."""
    assert position_margin(SCALED, 10, 2, 4, 10**11).initial_margin == 200


@pytest.mark.parametrize("quantums", [-7_000, 0, 10**12])
@pytest.mark.parametrize("interest", [None, 0, 10**12])
def test_at_a_price_of_nothing_all_margin_is_nothing(quantums: int, interest: int | None) -> None:
    """As on the chain; whether 0 means that there is no price, callers decide."""
    assert position_margin(SCALED, quantums, 0, -1, interest) == PositionMargin()


def test_a_holding_without_a_price_is_not_worth_nothing() -> None:
    """0 and unknown are an objection there, and no figure."""
    for price in (None, 0):
        held = Holding(market=ETH, quantums=10**9, price=price)

        assert "oracle price" in held.objection
        with pytest.raises(MarginError, match="an oracle price above 0"):
            held.margin()


def test_unknown_open_interest_counts_as_the_most() -> None:
    """Unknown is danger: where caps exist, the fraction is 100 %."""
    assert position_margin(SCALED, 10**9, 3000, 0, None).initial_margin == 3_000_000_000
    assert position_margin(ETH, 10**9, 3000, 0, None).initial_margin == 150_000_000
    assert position_margin(ETH, 10**9, 3000, 0, None, 60_000).initial_margin == 180_000_000


def test_a_chosen_leverage_raises_the_initial_margin_alone() -> None:
    """A custom fraction below the tier's changes nothing."""
    chosen = position_margin(ETH, 10**9, 3000, 0, 0, 200_000)

    assert chosen == PositionMargin(3_000_000_000, 600_000_000, 90_000_000)
    assert position_margin(ETH, 10**9, 3000, 0, 0, 40_000).initial_margin == 150_000_000


@given(SIZES, PRICES, EXPONENTS, st.integers(0, 10**12))
def test_the_hot_path_equals_its_parts(size: int, price: int, exponent: int, interest: int) -> None:
    """What is written out for speed equals the small functions."""
    net = base_to_quote(size, price, exponent, ETH.atomic_resolution)
    imf = adjusted_imf_ppm(
        SCALED.imf_ppm,
        SCALED.open_interest_lower_cap,
        SCALED.open_interest_upper_cap,
        base_to_quote(interest, price, exponent, ETH.atomic_resolution),
    )

    assert position_margin(SCALED, size, price, exponent, interest) == PositionMargin(
        net,
        mul_ppm(abs(net), imf, round_up=True),
        mul_ppm(mul_ppm(abs(net), 50_000, round_up=True), 600_000, round_up=True),
    )


@given(SIZES, PRICES, EXPONENTS, st.integers(0, 10**15))
def test_maintenance_never_exceeds_initial(
    size: int, price: int, exponent: int, interest: int
) -> None:
    """MMR <= IMR, with any open interest."""
    terms = position_margin(SCALED, size, price, exponent, interest)

    assert 0 <= terms.maintenance_margin <= terms.initial_margin


@given(SIZES, SIZES, PRICES, PRICES)
def test_margin_grows_with_size_and_price(a: int, b: int, low: int, high: int) -> None:
    """More of anything never needs less."""
    small, large = sorted((abs(a), abs(b)))
    low, high = sorted((low, high))
    less, more = position_margin(ETH, small, low, -6), position_margin(ETH, -large, high, -6)

    assert less.initial_margin <= more.initial_margin
    assert less.maintenance_margin <= more.maintenance_margin


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_scaled_fraction_stays_between_the_tier_and_all_of_it(lower: int, oi: int) -> None:
    """The fraction is never below the tier's and never above 100 %."""
    assert 50_000 <= adjusted_imf_ppm(50_000, lower, lower + 10**12, oi) <= PPM


def test_the_scaled_fraction_is_a_whole_at_the_upper_cap() -> None:
    """At the upper cap, even where it equals the lower one, the fraction is 100 %."""
    assert adjusted_imf_ppm(50_000, 10, 10, 11) == PPM
    assert adjusted_imf_ppm(50_000, 10, 20, 20) == PPM
    assert adjusted_imf_ppm(50_000, 10, 20, 10) == 50_000
    assert adjusted_imf_ppm(50_000, 0, 0, 10**20) == 50_000


def test_parts_per_million_round_up_or_down() -> None:
    """Fees and margins round up, rebates too."""
    assert mul_ppm(1, 1, round_up=True) == 1
    assert mul_ppm(-1, 1, round_up=True) == 0
    assert mul_ppm(-1, 1, round_up=False) == -1
    assert maintenance_margin_ppm(333_333, 600_000) == 199_999


def test_an_account_is_the_sum_of_its_parts() -> None:
    """Long and short add to the gross notional and offset in the net."""
    total = total_margin(
        10_000, [PositionMargin(6_000, 300, 180), PositionMargin(-2_000, 100, 60)], ["X-USD"]
    )

    assert total == MarginFigures(14_000, 400, 240, 8_000, 5_820 + 2_060, ("X-USD",))
    assert not total.known


def test_figures_derive_what_people_look_for() -> None:
    """Free collateral, cushion, leverage, usage and distance follow from the sums."""
    total = total_margin(-3_000, [PositionMargin(6_000, 300, 180)])

    assert (total.free_collateral, total.cushion, total.known) == (2_700, 2_820, True)
    assert (total.leverage, total.usage) == (2.0, 0.1)
    assert total.distance == pytest.approx(2_820 / 5_820)


def test_what_is_unknown_has_no_figure() -> None:
    """An unknown oracle price leaves no leverage, usage or distance: never a zero."""
    unknown = MarginFigures(10, 1, 1, 20, 19, ("ETH-USD",))

    assert (unknown.leverage, unknown.usage, unknown.distance) == (None, None, None)
    assert MarginFigures(0, 1, 1, 20, 19).leverage is None
    assert MarginFigures(0, 1, 1, 20, 19).usage is None
    assert MarginFigures(10).distance is None


def test_a_maintenance_of_everything_is_insensitive() -> None:
    """With MMF 100 % a long's price changes nothing: the distance is endless, or lost."""
    assert MarginFigures(20, 20, 20, 20, 0).distance == float("inf")
    assert MarginFigures(19, 20, 20, 20, 0).distance == float("-inf")


@given(
    st.integers(1_100, 12_000),
    st.lists(st.integers(-(10**9), 10**9).filter(lambda n: abs(n) > 1000), min_size=1, max_size=5),
)
def test_distance_is_the_move_that_breaches_maintenance(leverage_pm: int, sizes: list[int]) -> None:
    """Moved by a hair less the account is safe, by a hair more it is liquidatable."""
    scale = 10**9
    held = [_at(size, 1.0, scale) for size in sizes]
    equity = sum(abs(terms.net_notional) for terms in held) * 1_000 // leverage_pm
    usdc = equity - sum(terms.net_notional for terms in held)
    distance = total_margin(usdc, held).distance
    assert distance is not None
    assume(distance < 0.9)

    def moved(by: float) -> MarginFigures:
        prices = [1 - by if size > 0 else 1 + by for size in sizes]
        terms = [_at(s, p, scale) for s, p in zip(sizes, prices, strict=True)]
        return total_margin(usdc, terms)

    safe, lost = moved(distance - 1e-6), moved(distance + 1e-6)

    assert not is_liquidatable(safe.net_collateral, safe.maintenance_margin)
    assert is_liquidatable(lost.net_collateral, lost.maintenance_margin)


def _at(size: int, price: float, scale: int) -> PositionMargin:
    return position_margin(ETH, size * scale, round(price * 10**9), -6)


def test_liquidatable_is_less_than_maintenance_and_something_held() -> None:
    """Equal is safe, and an account without positions is never liquidated."""
    assert is_liquidatable(99, 100)
    assert not is_liquidatable(100, 100)
    assert not is_liquidatable(-5, 0)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (_figures(10, 5, 3), _figures(5, 5, 3), "Success"),
        (_figures(10, 5, 3), _figures(4, 5, 3), "NewlyUndercollateralized"),
        (_figures(4, 5, 3), _figures(3, 5, 3), "StillUndercollateralized"),
        (_figures(4, 10, 6), _figures(3, 5, 3), "Success"),
        (_figures(4, 5, 3), _figures(4, 9, 4), "StillUndercollateralized"),
        (_figures(-4, 0, 0), _figures(-3, 0, 0), "Success"),
        (_figures(-4, 0, 0), _figures(-4, 0, 0), "StillUndercollateralized"),
        (_figures(-4, 5, 3), _figures(-3, 0, 0), "StillUndercollateralized"),
    ],
)
def test_a_poor_account_may_only_get_less_risky(
    before: MarginFigures, after: MarginFigures, expected: str
) -> None:
    """The chain takes what ends well collateralised, or no riskier than it began."""
    assert state_change(before, after) == expected


def test_risk_is_ratio_then_maintenance_then_collateral() -> None:
    """With an equal ratio the larger maintenance margin is the riskier."""
    assert compare_risk(_figures(3, 0, 2), _figures(2, 0, 2)) == -1
    assert compare_risk(_figures(4, 0, 4), _figures(2, 0, 2)) == 1
    assert compare_risk(_figures(1, 0, 0), _figures(2, 0, 0)) == 1
    assert compare_risk(_figures(2, 0, 2), _figures(2, 0, 2)) == 0


def test_an_isolated_market_stands_alone() -> None:
    """One isolated position, or any number of cross ones."""
    isolated = msgspec.structs.replace(ETH, market_type="ISOLATED")

    assert not mixes_isolated([isolated])
    assert not mixes_isolated([ETH, ETH])
    assert mixes_isolated([ETH, isolated])


@given(
    st.integers(10**9, 10**12),
    st.booleans(),
    st.integers(1_100, 20_000),
    st.integers(0, 10**10),
)
def test_the_liquidation_price_is_where_the_chain_begins(
    size: int, is_long: bool, leverage_pm: int, other: int
) -> None:
    """A little on the safe side nothing happens, a little beyond the account is liquidatable."""
    quantums = size if is_long else -size
    terms = position_margin(ETH, quantums, 3_000_000_000, -6)
    equity = abs(terms.net_notional) * 1000 // leverage_pm
    maintenance = ETH.imf_ppm * ETH.maintenance_fraction_ppm
    ratio = liquidation_ratio(quantums, terms.net_notional, equity, other, maintenance)
    assume(ratio is not None)
    assert ratio is not None
    price = Fraction(*ratio) * 10**3 * 10**9
    collateral = equity - terms.net_notional

    def breached(at: Fraction) -> bool:
        moved = position_margin(ETH, quantums, max(0, round(at)), -9)
        net = collateral + moved.net_notional
        return is_liquidatable(net, moved.maintenance_margin + other)

    nudge = (1 if is_long else -1) * max(Fraction(10**6), price / 10**6)

    assume(price - abs(nudge) > 0)
    assert not breached(price + nudge)
    assert breached(price - nudge)


def test_no_price_liquidates_what_owes_nothing() -> None:
    """Nothing held, a long bought with its own money, a fraction of one: no price."""
    assert liquidation_ratio(0, 0, 100, 0, 3 * 10**10) is None
    assert liquidation_ratio(10, 100, 200, 0, 3 * 10**10) is None
    assert liquidation_ratio(10, 100, 50, 0, 10**12) is None
    assert liquidation_ratio(10, 100, 100, 0, 0) == (0, 10**13)


def test_the_bankruptcy_price_shares_what_collateral_is_left() -> None:
    """Closing all of a long gives back its notional less the whole net collateral."""
    before, after = PositionMargin(5_000, 1_000, 500), PositionMargin()
    totals = total_margin(-4_501, [before])

    assert bankruptcy_price(totals, before, after) == 4_501


@pytest.mark.parametrize(
    ("net_collateral", "notional", "quantums"),
    [
        (100, 5_000, 4_967),  # a third of 100 is left to the account: 33.3, as 33
        (-100, 5_000, 5_034),  # and a third of a debt of 100 is covered: 33.3, as 34
        (100, -5_000, -5_033),
        (-100, -5_000, -4_966),
    ],
)
def test_the_bankruptcy_price_rounds_the_share_down(
    net_collateral: int, notional: int, quantums: int
) -> None:
    """Toward less for the account, as the chain's division of big integers does: never up."""
    before, other = PositionMargin(notional, 1_000, 500), PositionMargin(9_000, 2_000, 1_000)
    totals = total_margin(net_collateral - notional - 9_000, [before, other])

    assert totals.net_collateral == net_collateral
    assert bankruptcy_price(totals, before, PositionMargin()) == quantums


def test_the_fillable_price_gives_up_part_of_the_maintenance_margin() -> None:
    """Just at maintenance nothing is given up; under water the whole spread is."""
    position = PositionMargin(5_000, 1_000, 500)
    terms = LiquidationTerms(spread_to_maintenance_margin_ratio_ppm=100_000)

    assert fillable_price(total_margin(-4_500, [position]), position, 10, terms) == 500
    assert fillable_price(total_margin(-5_100, [position]), position, 10, terms) == 495
    assert fillable_price(total_margin(-4_750, [position]), position, 10, terms) == Fraction(995, 2)


def test_fillable_subticks_favour_the_account_and_stay_on_the_grid() -> None:
    """Up when a long is closed, down when a short is, at least a tick, at most what fits."""
    grid = {"quantum_conversion_exponent": -2, "subticks_per_tick": 100}

    assert fillable_subticks(Fraction(5, 2), is_long=True, **grid) == 300
    assert fillable_subticks(Fraction(5, 2), is_long=False, **grid) == 200
    assert fillable_subticks(Fraction(0), is_long=False, **grid) == 100
    assert fillable_subticks(Fraction(10**30), is_long=True, **grid) == 18446744073709551600
    assert exact_subticks(Fraction(5, 2), -2) == 250


def test_what_is_worth_a_quantum_has_a_leverage_and_what_is_worth_nothing_has_none() -> None:
    """The border is at nothing left, not near it."""
    least, nothing = MarginFigures(1, initial_margin=2, notional=5), MarginFigures(0, notional=5)

    assert (least.leverage, least.usage) == (5.0, 2.0)
    assert (nothing.leverage, nothing.usage) == (None, None)


@pytest.mark.parametrize(("quantums", "delta"), [(10, 0), (10, 5), (-10, -5), (10, -11)])
def test_a_closing_must_close(quantums: int, delta: int) -> None:
    """A size that is zero, adds or flips is refused with what was expected."""
    words = f"expected to close up to {-quantums} quantums, got {delta}$"
    with pytest.raises(LiquidationError, match=words):
        check_closing(quantums, delta)
    check_closing(10, -10)


def test_a_liquidation_takes_a_part_and_never_less_than_a_step() -> None:
    """Ten per cent, at least the minimum notional, floored to the step; dust goes whole."""
    terms = LiquidationTerms(min_position_notional=1_000_000_000, max_position_portion_ppm=100_000)
    price = (3_000_000_000, -6)

    assert liquidation_size(ETH, 10 * 10**9, *price, terms) == -1_000_000_000
    assert liquidation_size(ETH, -10 * 10**9, *price, terms) == 1_000_000_000
    assert liquidation_size(ETH, 10**9, *price, terms) == -333_000_000
    assert liquidation_size(ETH, 3 * 10**8, *price, terms) == -300_000_000
    assert liquidation_size(ETH, 10**6, *price, terms) == -(10**6)
    tiny = msgspec.structs.replace(terms, max_subaccount_notional=1)
    assert liquidation_size(ETH, 10**9, *price, tiny) == -(10**6)
    assert liquidation_limits(500, terms) == (500, 500)


def test_the_insurance_fund_gains_a_capped_fee_and_pays_what_lacks() -> None:
    """A surplus over bankruptcy pays up to the fee; a shortfall is the fund's."""
    assert insurance_fund_delta(4_500, 4_600, 15_000) == 69
    assert insurance_fund_delta(4_500, 4_510, 15_000) == 10
    assert insurance_fund_delta(4_500, 4_400, 15_000) == -100
    assert insurance_fund_delta(-4_600, -4_500, 15_000) == 67


def test_the_funding_index_moves_by_an_eighth_of_the_rate_an_hour() -> None:
    """100 ppm per 8 h at 3,000 USDC for one hour; rounded toward zero on both sides."""
    assert funding_index_delta(100, 3600, 3_000_000_000, -6, -9) == 37
    assert funding_index_delta(-100, 3600, 3_000_000_000, -6, -9) == -37
    assert funding_index_delta(1, 28_800, 5, 4, -9) == 50


def test_longs_pay_a_rising_index_and_the_account_floors_once() -> None:
    """The floor is of the sum, against the account."""
    credits = [funding_settlement_ppm(10, 100_037, 37), funding_settlement_ppm(-3, 7, 0)]

    assert credits == [-1_000_000, 21]
    assert funding_settlement(credits) == -1


# --- bad input


@pytest.mark.parametrize(
    ("quantums", "price", "exponent", "interest", "message"),
    [
        (10**9, -5, 0, 0, "ETH-USD: an oracle price of 0 or more, got -5"),
        (-(10**9), -5, 0, 0, "ETH-USD: an oracle price of 0 or more, got -5"),
        (10**9, 1, 300, 0, "ETH-USD: an exponent within ±200, got 300"),
        (10**9, 1, -300, 0, "ETH-USD: an exponent within ±200, got -300"),
        (10**80, 1, 0, 0, "10\\^60 quote quantums, got 5"),
        (10**4000, 1, 0, 0, "10\\^60 quote quantums, got an integer of 132"),
        (10**9, 1, 0, -7, "ETH-USD: open interest of 0 or more, got -7"),
    ],
)
def test_what_cannot_be_valued_is_refused_in_words(
    quantums: int, price: int, exponent: int, interest: int, message: str
) -> None:
    """No figure is silently zero: the error names what was expected and what it got."""
    with pytest.raises(MarginError, match=message):
        position_margin(SCALED, quantums, price, exponent, interest)


def test_what_is_worth_nothing_is_no_error() -> None:
    """No position, or one of less than a quote quantum, has a margin of nothing."""
    assert position_margin(ETH, 0, 3000, 0) == PositionMargin()
    assert position_margin(ETH, 1, 1, -6) == PositionMargin()


def test_a_tier_may_require_nothing() -> None:
    """The chain knows such tiers: the notional counts all the same."""
    free = msgspec.structs.replace(ETH, imf_ppm=0)

    assert position_margin(free, 10**9, 3000, 0) == PositionMargin(3_000_000_000)


@pytest.mark.parametrize("collateral", [10**60, -(10**60)])
def test_collateral_beyond_all_size_is_refused(collateral: int) -> None:
    """A figure that no account has is somebody's mistake."""
    with pytest.raises(MarginError, match="collateral within"):
        total_margin(collateral, [])


def test_a_margin_error_carries_its_figures() -> None:
    """Attributes for programs, words for people, and both survive a process boundary."""
    error = pickle.loads(pickle.dumps(MarginError("a price", 0)))

    assert (error.expected, error.was, str(error)) == ("a price", "0", "expected a price, got 0")


def test_nothing_is_liquidated_without_a_maintenance_margin() -> None:
    """There is no share of it to keep, and no price to fill at."""
    none = _figures(-1, 0, 0)
    with pytest.raises(LiquidationError, match="a maintenance margin above 0, got 0"):
        bankruptcy_price(none, PositionMargin(), PositionMargin())
    with pytest.raises(LiquidationError, match="a maintenance margin above 0, got 0"):
        fillable_price(none, PositionMargin(), 1, LiquidationTerms())
    with pytest.raises(LiquidationError, match="expected a position, got 0 quantums"):
        fillable_price(_figures(0, 1, 1), PositionMargin(), 0, LiquidationTerms())


def test_an_update_is_judged_by_isolation_before_collateral() -> None:
    """A rich account may not mix markets either."""
    isolated = msgspec.structs.replace(ETH, market_type="ISOLATED")
    rich, poor = _figures(10, 5, 3), _figures(4, 5, 3)

    assert check_update(rich, poor, [ETH, isolated]) == "ViolatesIsolatedSubaccountConstraints"
    assert check_update(rich, poor, [isolated]) == "NewlyUndercollateralized"
    assert check_update(poor, rich, [ETH, ETH]) == "Success"


def test_an_update_with_an_unknown_price_is_not_judged() -> None:
    """The sums are not the account's: neither answer would be true."""
    unknown = MarginFigures(1, unknown=("SOL-USD",))
    with pytest.raises(MarginError, match="every position to have a price, got none for SOL-USD"):
        check_update(_figures(1, 0, 0), unknown, [ETH])
