"""From what a margin is computed from, a person comes to the same margin."""

from decimal import Decimal
from fractions import Fraction

import pytest
from dydx_conn import PerpetualMarket, market_parameters
from dydx_risk import Holding, MarginInputs, margin_inputs, position_margin, risk_figures
from dydx_risk import total_margin as total_of
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

BTC, ETH = market_parameters("BTC-USD"), market_parameters("ETH-USD")
USDC = 1_000_000
CAPPED = replace(
    ETH, open_interest_lower_cap=10_000_000 * USDC, open_interest_upper_cap=50_000_000 * USDC
)


def holding(market: PerpetualMarket, size: float, price: int, interest: int | None = 0) -> Holding:
    """Return so many coins at a price in USDC; the interest is in coins."""
    coin = 10**-market.atomic_resolution
    counted = None if interest is None else interest * coin
    return Holding(market=market, quantums=int(size * coin), price=price, open_interest=counted,
                   entry_price=Decimal(price - 10))  # fmt: skip


def inputs(of: Holding, *others: Holding, collateral: int = 0) -> MarginInputs:
    """Return what a position's figures come from, among others."""
    total = total_of(collateral, [one.margin() for one in (of, *others)])
    found = margin_inputs(of, total)
    assert found is not None
    return found


@given(st.integers(1, 10**6), st.integers(0, 40_000))
def test_the_initial_margin_is_the_notional_by_the_fraction(size: int, interest: int) -> None:
    """Rounded up, and scaled by open interest between its caps."""
    of = holding(CAPPED, size / 100, 3_000, interest)
    seen, term = inputs(of), of.margin()

    assert -(-term.net_notional * seen.initial_ppm // 10**6) == term.initial_margin
    base = -(-term.net_notional * seen.imf_ppm // 10**6)
    assert -(-base * seen.maintenance_fraction_ppm // 10**6) == term.maintenance_margin


def test_open_interest_scales_between_the_caps_alone() -> None:
    """At the lower cap the tier's own fraction, half way half of the rest, at the upper all."""
    fractions = [inputs(holding(CAPPED, 1, 2_000, n)).initial_ppm for n in (5_000, 15_000, 25_000)]

    assert fractions == [CAPPED.imf_ppm, (CAPPED.imf_ppm + 10**6) // 2, 10**6]


def test_unknown_open_interest_counts_as_the_most() -> None:
    """It is None, and the whole notional is required."""
    seen = inputs(holding(CAPPED, 1, 2_000, None))

    assert (seen.open_interest, seen.initial_ppm) == (None, 10**6)


def test_what_the_owner_chose_raises_the_fraction() -> None:
    """Twice the equity at most is half of the notional."""
    seen = inputs(replace(holding(BTC, 1, 90_000), selected_leverage=Fraction(2)))

    assert seen.initial_ppm == 500_000


SIZES = st.floats(-5, 5).filter(lambda size: abs(size) > 0.01)


@given(SIZES, SIZES, st.integers(-(10**12), 10**12))
def test_the_distance_is_the_cushion_over_the_parts(btc: float, eth: float, settled: int) -> None:
    """What each price could take, together, against what is left above maintenance."""
    held = [holding(BTC, btc, 90_000), holding(ETH, eth, 3_000)]
    margin = risk_figures(settled, held).margin
    parts = [
        inputs(one, other, collateral=settled).sensitivity for one, other in (held, held[::-1])
    ]

    assert margin is not None
    assert sum(part or 0 for part in parts) == margin.sensitivity


@given(SIZES, st.integers(-(10**12), 10**12))
def test_the_liquidation_price_comes_out_of_its_inputs(size: float, settled: int) -> None:
    """(others' maintenance + notional - equity) / (size - |size| times the fraction)."""
    of, other = holding(BTC, size, 90_000), holding(ETH, 1, 3_000)
    seen = inputs(of, other, collateral=settled)
    row = risk_figures(settled, [of, other]).positions[0]

    assert seen.others_maintenance is not None
    assert seen.equity is not None
    value = position_margin(BTC, of.quantums, 90_000, 0).net_notional
    fraction = seen.imf_ppm * seen.maintenance_fraction_ppm / 1e12
    coins = of.quantums / 10**10
    price = (seen.others_maintenance + value - seen.equity) / 1e6 / (coins - abs(coins) * fraction)
    if row.liquidation_price is None:
        assert price <= 0.01
    else:
        assert float(row.liquidation_price) == pytest.approx(price, rel=1e-6, abs=1e-3)


def test_a_market_without_a_price_has_no_inputs() -> None:
    """Unknown, and not 0."""
    assert margin_inputs(Holding(market=BTC, quantums=1), total_of(0, ())) is None


def test_a_position_has_its_leverage_and_its_return() -> None:
    """2,000 of 1,000 USDC are twice, and 10 of 990 paid are 1 per cent."""
    [row] = risk_figures(-1_000 * USDC, [holding(ETH, 2, 1_000)]).positions

    assert (row.leverage, row.returned) == pytest.approx((2.0, 10 / 990))


def test_without_equity_there_is_no_leverage_and_without_an_entry_no_return() -> None:
    """Neither is 0."""
    of = replace(holding(ETH, 2, 1_000), entry_price=None)
    [row] = risk_figures(-3_000 * USDC, [of]).positions

    assert (row.leverage, row.returned) == (None, None)
