"""The margin arithmetic against a second one, in plain fractions.

It is written from the protocol's rules (x/perpetuals/lib, x/subaccounts/lib, lib/margin, x/clob
liquidations, x/perpetuals/funding) and shares no line with the layer: neither its integers nor its
order of steps. Sizes and prices are exact numbers until a rule rounds them.
"""

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, inf, trunc
from typing import Any, NamedTuple

import msgspec
from dydx_conn import PerpetualMarket
from dydx_risk import (
    Holding,
    LiquidationTerms,
    MarginFigures,
    PositionMargin,
    bankruptcy_price,
    check_update,
    fillable_price,
    fillable_subticks,
    funding_index_delta,
    funding_payment,
    funding_settlement,
    funding_settlement_ppm,
    insurance_fund_delta,
    is_liquidatable,
    liquidation_size,
    position_margin,
    risk_figures,
    total_margin,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

MILLION = 1_000_000

# === The rules, in fractions ===


class Held(NamedTuple):
    """A position as the chain has it: signed base quantums, and all that its margin depends on."""

    market: PerpetualMarket
    quantums: int
    price: int
    exponent: int
    interest: int
    chosen_ppm: int = 0


class Required(NamedTuple):
    """What a position is worth and requires, in quote quantums."""

    worth: int
    initial: int
    maintenance: int


def quote_each(held: Held) -> Fraction:
    """Say what one base quantum is worth at the oracle price, in quote quantums."""
    return held.price * Fraction(10) ** (held.exponent + held.market.atomic_resolution + 6)


def required_of(held: Held) -> Required:
    """Round where the chain does: the notional down, each requirement up, the base one twice."""
    market, each = held.market, quote_each(held)
    notional = floor(abs(held.quantums) * each)
    base = ceil(Fraction(notional * market.imf_ppm, MILLION))
    share = max(scaled_ppm(held), held.chosen_ppm)
    return Required(
        trunc(held.quantums * each),
        ceil(Fraction(notional * share, MILLION)),
        ceil(Fraction(base * market.maintenance_fraction_ppm, MILLION)),
    )


def scaled_ppm(held: Held) -> int:
    """Scale the tier's fraction by open interest between its caps."""
    lower, upper = held.market.open_interest_lower_cap, held.market.open_interest_upper_cap
    interest, tier = floor(held.interest * quote_each(held)), held.market.imf_ppm
    if upper == 0 or interest <= lower:
        return tier
    if interest >= upper:
        return MILLION
    return tier + floor(Fraction(interest - lower, upper - lower) * (MILLION - tier))


class Sums(NamedTuple):
    """A subaccount: net collateral, initial and maintenance margin."""

    net: int
    initial: int
    maintenance: int


def sums_of(usdc: int, positions: list[Held]) -> Sums:
    """Add the USDC, which may be owed, to what the positions are worth."""
    each = [required_of(held) for held in positions]
    return Sums(
        usdc + sum(one.worth for one in each),
        sum(one.initial for one in each),
        sum(one.maintenance for one in each),
    )


def allowed(before: Sums, after: Sums) -> bool:
    """Tell whether the chain lets a change of the subaccount pass."""
    if after.net >= after.initial:
        return True
    if after.maintenance > before.maintenance:
        return False
    if before.maintenance == 0 or after.maintenance == 0:
        return before.maintenance == after.maintenance == 0 and after.net > before.net
    was, now = (Fraction(sums.net, sums.maintenance) for sums in (before, after))
    return now > was or (now == was and after.maintenance <= before.maintenance)


# === Accounts to try it on ===


@st.composite
def markets(draw: Any, ticker: str = "M-USD", kind: str = "CROSS") -> PerpetualMarket:
    """Draw a market: any grid, tier and caps."""
    lower = draw(st.integers(0, 10**14))
    width = draw(st.sampled_from([0, 1, 10**6, 10**12, 10**14]))
    capped = draw(st.booleans())
    return PerpetualMarket(
        ticker=ticker, clob_pair_id=1, perpetual_id=1,
        atomic_resolution=draw(st.integers(-12, -2)),
        quantum_conversion_exponent=draw(st.integers(-12, -4)),
        step_base_quantums=draw(st.sampled_from([1, 10, 10**6])),
        subticks_per_tick=draw(st.sampled_from([1, 1_000, 10**6])),
        imf_ppm=draw(st.integers(1, MILLION)),
        maintenance_fraction_ppm=draw(st.integers(1, MILLION)), market_type=kind,
        open_interest_lower_cap=lower if capped else 0,
        open_interest_upper_cap=lower + width if capped else 0,
    )  # fmt: skip


SIZES = st.integers(-(10**14), 10**14)


@st.composite
def positions(draw: Any, ticker: str = "M-USD", sizes: st.SearchStrategy[int] = SIZES) -> Held:
    """Draw a position in a market of its own, worth from next to nothing to millions."""
    market = draw(markets(ticker))
    # Prices around 10^-6 to 10^5 USDC a unit, in any of the chain's exponents.
    exponent = draw(st.integers(-12, -3))
    price = draw(st.integers(1, 10**13))
    held = Held(
        market, draw(sizes), price, exponent, draw(st.integers(0, 10**15)),
        draw(st.sampled_from([0, 0, 50_000, 333_333, MILLION])),
    )  # fmt: skip
    assume(abs(held.quantums) * quote_each(held) < 10**20)
    return held


USDC = st.integers(-(10**13), 10**13)
ACCOUNTS = st.tuples(
    USDC,
    st.integers(0, 4).flatmap(lambda n: st.tuples(*(positions(f"M{i}-USD") for i in range(n)))),
)
MANY = settings(max_examples=200)


def margin_of(held: Held) -> PositionMargin:
    """Ask the layer."""
    return position_margin(
        held.market, held.quantums, held.price, held.exponent, held.interest, held.chosen_ppm
    )


def figures_of(usdc: int, held: tuple[Held, ...]) -> MarginFigures:
    """Ask the layer for the whole account."""
    return total_margin(usdc, [margin_of(one) for one in held])


def holding_of(held: Held) -> Holding:
    """Describe a position as figures and panels take it, without a chosen leverage."""
    return Holding(
        market=held.market, quantums=held.quantums, price=held.price, exponent=held.exponent,
        open_interest=held.interest, volatility_1h=0.01, funding_8h_ppm=100,
    )  # fmt: skip


# === What they have to agree on ===


@MANY
@given(ACCOUNTS)
def test_worth_and_requirements_are_those_of_the_rules(account: tuple[int, Any]) -> None:
    """Each position, the account, and whether it may be liquidated."""
    usdc, held = account
    margin, right = figures_of(usdc, held), sums_of(usdc, [*held])

    for one in held:
        ours = margin_of(one)
        assert (ours.net_notional, ours.initial_margin, ours.maintenance_margin) == required_of(one)
    assert (margin.net_collateral, margin.initial_margin, margin.maintenance_margin) == right
    assert is_liquidatable(margin.net_collateral, margin.maintenance_margin) == (
        right.maintenance > 0 and right.net < right.maintenance
    )


@MANY
@given(ACCOUNTS, USDC, st.data())
def test_a_change_passes_as_the_rules_let_it(
    account: tuple[int, Any], then: int, data: st.DataObject
) -> None:
    """Of the USDC and of one position, and of the open interest with it."""
    usdc, before = account
    after: list[Held] = list(before)
    shares = st.sampled_from([Fraction(n, 10) for n in (-10, 0, 5, 9, 10, 20)])
    if after:
        changed = data.draw(st.integers(0, len(after) - 1))
        size = int(after[changed].quantums * data.draw(shares))
        interest = after[changed].interest + data.draw(st.integers(0, abs(size)))
        after[changed] = after[changed]._replace(quantums=size, interest=interest)
    # Near the borders, where a quantum decides.
    need = sums_of(0, after)
    least = need.initial - need.net
    then = data.draw(st.sampled_from([then, least, least - 1, usdc, usdc + 1, usdc - 1]))

    ours = check_update(
        figures_of(usdc, before), figures_of(then, tuple(after)), [one.market for one in before]
    )

    assert (ours == "Success") == allowed(sums_of(usdc, [*before]), sums_of(then, after))


@MANY
@given(ACCOUNTS)
def test_at_its_distance_an_account_is_exactly_in_breach(account: tuple[int, Any]) -> None:
    """Every price moves against its position by it: worth and requirement move alike."""
    usdc, held = account
    distance, right = figures_of(usdc, held).distance, sums_of(usdc, [*held])
    each = [required_of(one) for one in held]
    # A per cent of the notional is lost, and a per cent of the requirement with it or against it.
    slope = sum(
        abs(one.worth) + (-one.maintenance if one.worth >= 0 else one.maintenance) for one in each
    )

    if not any(one.worth for one in each):
        assert distance is None
    elif slope > 0:
        assert distance is not None
        exact = Fraction(right.net - right.maintenance, slope)
        assert abs(Fraction(distance) - exact) <= abs(exact) * Fraction(1, 10**12)
    else:
        assert distance in (inf, -inf)


@MANY
@given(
    USDC,
    st.integers(1, 3).flatmap(
        lambda n: st.tuples(*(positions(f"M{i}-USD", st.integers(1, 10**14)) for i in range(n)))
    ),
    st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3),
)
def test_at_its_liquidation_price_a_position_puts_the_account_in_breach(
    usdc: int, held: tuple[Held, ...], signs: list[int]
) -> None:
    """Net collateral is the maintenance margin there, to the digits of the price."""
    held = tuple(
        one._replace(quantums=one.quantums * sign, chosen_ppm=0)
        for one, sign in zip(held, signs, strict=False)
    )
    assume(all(required_of(one).worth for one in held))
    right = sums_of(usdc, [*held])
    shown = risk_figures(usdc, [holding_of(one) for one in held])
    assert shown.margin == figures_of(usdc, held)

    for one, figures in zip(held, shown.positions, strict=True):
        own = required_of(one)
        tier = Fraction(one.market.imf_ppm * one.market.maintenance_fraction_ppm, MILLION**2)
        per_usdc = one.quantums * Fraction(10) ** (one.market.atomic_resolution + 6)

        others = right.net - own.worth, right.maintenance - own.maintenance

        def cushion(
            price: Fraction,
            others: tuple[int, int] = others,
            each: Fraction = per_usdc,
            tier: Fraction = tier,
        ) -> Fraction:
            """Value the position at a price, without rounding, the others as they are."""
            return others[0] + each * price - others[1] - abs(each) * price * tier

        if figures.liquidation_price is None:
            # A line that never is 0 above a price of 0: it stands above or below for good.
            assert (cushion(Fraction(0)) > 0) == (cushion(Fraction(10**30)) > 0) or tier == 1
            assert figures.distance in (inf, -inf)
            continue
        price = Fraction(figures.liquidation_price)
        scale = abs(right.net) + abs(own.worth) + right.maintenance + abs(per_usdc) * price + 1
        assert abs(cushion(price)) <= scale * Fraction(1, 10**20)
        now = one.price * Fraction(10) ** one.exponent
        away = (now - price) / now * (1 if one.quantums > 0 else -1)
        assert figures.distance is not None
        most = max(abs(away), Fraction(1)) * Fraction(1, 10**12)
        assert abs(Fraction(figures.distance) - away) <= most


TERMS = st.builds(
    LiquidationTerms,
    bankruptcy_adjustment_ppm=st.integers(0, 2 * MILLION),
    spread_to_maintenance_margin_ratio_ppm=st.integers(0, 2 * MILLION),
    max_liquidation_fee_ppm=st.integers(0, MILLION),
    min_position_notional=st.integers(0, 10**10),
    max_position_portion_ppm=st.integers(1, MILLION),
    max_subaccount_notional=st.integers(1, 10**12),
)


@MANY
@given(ACCOUNTS, st.fractions(0, 1), TERMS)
def test_a_liquidation_is_priced_by_the_rules(
    account: tuple[int, Any], share: Fraction, terms: LiquidationTerms
) -> None:
    """Bankruptcy price, fillable price, its ticks, its size, and who pays the difference."""
    usdc, held = account
    right = sums_of(usdc, [*held])
    assume(right.maintenance > 0 and held[0].quantums)
    one, totals, before = held[0], figures_of(usdc, held), required_of(held[0])
    closed = max(1, int(abs(one.quantums) * share))
    left = one._replace(quantums=one.quantums - (closed if one.quantums > 0 else -closed))
    after = required_of(left)

    keeps = Fraction(right.net * abs(after.maintenance - before.maintenance), right.maintenance)
    broke = ceil(-(after.worth - before.worth) - keeps)
    assert bankruptcy_price(totals, margin_of(one), margin_of(left)) == broke

    lost = 1 - Fraction(right.net, right.maintenance)
    lost = min(
        max(lost * Fraction(terms.bankruptcy_adjustment_ppm, MILLION), Fraction(0)), Fraction(1)
    )
    spread = Fraction(terms.spread_to_maintenance_margin_ratio_ppm, MILLION)
    worst = (before.worth - lost * spread * before.maintenance) / Fraction(one.quantums)
    assert fillable_price(totals, margin_of(one), one.quantums, terms) == worst

    tick = one.market.subticks_per_tick * Fraction(10) ** one.market.quantum_conversion_exponent
    ticks = ceil(worst / tick) if one.quantums > 0 else floor(worst / tick)
    assume(ticks * one.market.subticks_per_tick < 2**63)
    assert fillable_subticks(
        worst, is_long=one.quantums > 0, subticks_per_tick=one.market.subticks_per_tick,
        quantum_conversion_exponent=one.market.quantum_conversion_exponent,
    ) == max(ticks, 1) * one.market.subticks_per_tick  # fmt: skip

    paid = broke + floor(abs(broke) * Fraction(share))
    gets = min(paid - broke, floor(Fraction(terms.max_liquidation_fee_ppm * abs(paid), MILLION)))
    assert insurance_fund_delta(broke, paid, terms.max_liquidation_fee_ppm) == (
        gets if paid > broke else paid - broke
    )


@MANY
@given(positions(sizes=st.integers(1, 10**14)), st.sampled_from([1, -1]), TERMS)
def test_a_liquidation_takes_what_the_rules_allow(
    one: Held, sign: int, terms: LiquidationTerms
) -> None:
    """Part of the position, to the step, or all where all fits or is a step."""
    market, notional = one.market, abs(required_of(one).worth)
    portion = floor(Fraction(notional * terms.max_position_portion_ppm, MILLION))
    most = min(
        max(min(terms.min_position_notional, notional), portion), terms.max_subaccount_notional
    )
    step, size = market.step_base_quantums, one.quantums
    if most < notional and size > step:
        # To base quantums in two divisions, each rounded down.
        whole = Fraction(most) / Fraction(10) ** (one.exponent + market.atomic_resolution + 6)
        wanted = floor(Fraction(floor(whole), one.price))
        size = min(max(wanted - wanted % step, step), size)

    taken = liquidation_size(market, sign * one.quantums, one.price, one.exponent, terms)

    assert taken == -sign * size


@MANY
@given(
    st.lists(
        st.tuples(
            positions(),
            st.integers(-(10**6), 10**6),
            st.integers(0, 48),
            st.integers(-(10**9), 10**9),
        ),
        max_size=4,
    )
)
def test_funding_moves_an_index_and_settles_by_the_rules(
    rows: list[tuple[Held, int, int, int]],
) -> None:
    """Truncated twice on its way to the index; one floor for the account, one for each report."""
    settled = Fraction(0)
    ours: list[int] = []
    for one, rate, hours, index in rows:
        moved = trunc(rate * 3_600 * hours * quote_each(one))
        moved = trunc(Fraction(moved, 28_800))
        seconds, resolution = 3_600 * hours, one.market.atomic_resolution
        delta = funding_index_delta(rate, seconds, one.price, one.exponent, resolution)
        ours.append(funding_settlement_ppm(one.quantums, index + delta, index))
        credit = Fraction(-moved * one.quantums, MILLION)
        settled += credit

        assert delta == moved
        assert funding_payment(ours[-1]) == -floor(credit)
    assert funding_settlement(ours) == floor(settled)


@given(st.lists(st.booleans(), max_size=5))
def test_an_isolated_market_is_alone_in_its_subaccount(isolated: list[bool]) -> None:
    """Whatever the collateral."""
    held = [
        PerpetualMarket(
            ticker=f"M{n}-USD", clob_pair_id=n, perpetual_id=n, atomic_resolution=-6,
            quantum_conversion_exponent=-9, step_base_quantums=1, subticks_per_tick=1,
            imf_ppm=1, maintenance_fraction_ppm=1, market_type="ISOLATED" if alone else "CROSS",
        )
        for n, alone in enumerate(isolated)
    ]  # fmt: skip
    rich = MarginFigures(10**12)

    mixed = any(isolated) and len(isolated) > 1
    expected = "ViolatesIsolatedSubaccountConstraints" if mixed else "Success"
    assert check_update(rich, rich, held) == expected


# === Through frames ===


@settings(max_examples=60)
@given(
    USDC,
    st.integers(-(10**7), 10**7).filter(bool),
    st.integers(0, 2 * 10**7),
    st.lists(st.integers(1, 10**7), min_size=1, max_size=5),
    st.booleans(),
)
def test_what_comes_by_the_wire_has_the_margin_of_the_rules(
    make_world: Any, usdc: int, size: int, interest: int, prices: list[int], capped: bool
) -> None:
    """A price at a time; open interest is at least what is held."""
    caps = {"openInterestLowerCap": "1000000.5", "openInterestUpperCap": "20000000"}
    reported = f"{Decimal(interest).scaleb(-3):f}"
    world = make_world(guard=False, openInterest=reported, **(caps if capped else {}))
    amount = f"{Decimal(size).scaleb(-3):f}"
    world.account(f"{Decimal(usdc).scaleb(-6):f}", {"ETH-USD": (amount, "3000")})

    for price in prices:
        world.oracle("ETH-USD", f"{Decimal(price).scaleb(-2):f}")
        market = world.state.views["ETH-USD"].market
        # What was bought before the report could count it is open interest on top of it.
        known = max(interest + abs(size), abs(size)) * 10**6
        right = sums_of(usdc, [Held(market, size * 10**6, price, -2, known)])
        margin = world.risk.margin
        assert (margin.net_collateral, margin.initial_margin, margin.maintenance_margin) == right


def test_the_rules_know_the_figures_of_a_real_market() -> None:
    """SUI-USD of 2024: 8.8 million open at 3.70, caps of 20 and 50 million, 10 % and 50 %."""
    sui = PerpetualMarket(
        ticker="SUI-USD", clob_pair_id=9, perpetual_id=9, atomic_resolution=-5,
        quantum_conversion_exponent=-9, step_base_quantums=10**6, subticks_per_tick=10**6,
        imf_ppm=100_000, maintenance_fraction_ppm=500_000,
        open_interest_lower_cap=20 * 10**12, open_interest_upper_cap=50 * 10**12,
    )  # fmt: skip
    held = Held(sui, 10_000 * 10**5, 37, -1, 8_800_000 * 10**5)

    assert required_of(held) == (37_000 * MILLION, 17_641_600_000, 1_850 * MILLION)
    assert msgspec.structs.astuple(margin_of(held)) == required_of(held)
