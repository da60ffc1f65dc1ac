"""Where a margin, a liquidation price and a distance come from, so that a person can compute it."""

import re
from decimal import Decimal

import pytest
from dydx_conn import market_parameters
from dydx_panels import MarginRow, SafetyPart, Snapshot, Theme, View, panel
from dydx_risk import Holding, PositionFigures, margin_inputs, risk_figures
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

BTC, ETH = market_parameters("BTC-USD"), market_parameters("ETH-USD")
SIZES = st.integers(-500, 500).filter(lambda size: abs(size) > 5)


def account(settled: int, *held: Holding) -> Snapshot:
    """Return an account with some USDC and these holdings."""
    figures = risk_figures(settled * 10**6, held)
    margin = figures.margin
    assert margin is not None
    rows = tuple(
        MarginRow(figures=row, inputs=margin_inputs(one, margin), market=one.market)
        for row, one in zip(figures.positions, held, strict=True)
    )
    return Snapshot(safety=SafetyPart(margin=margin), margins=rows)


def holding(market: str, hundredths: int, price: int) -> Holding:
    """Return so many hundredths of a coin at a price."""
    of = BTC if market == "BTC" else ETH
    coins = hundredths * 10**-of.atomic_resolution // 100
    return Holding(market=of, quantums=coins, price=price, entry_price=Decimal(price))


def drawn(snapshot: Snapshot, selected: int = 0, width: int = 200) -> str:
    """Draw the panel alone, in letters that everybody types."""
    view = View(panel="margin", selected=selected)
    return panel("margin", snapshot, width, 40, view, Theme(unicode=False)).text


def found(pattern: str, text: str) -> list[float]:
    """Read the figures of a formula as a person would."""
    match = re.search(
        pattern.replace("#", r"(-?[\d,]+(?:\.\d+)?)").replace("±", r"([+-][\d,.]+)"), text
    )
    assert match is not None, text
    return [float(figure.replace(",", "")) for figure in match.groups()]


@settings(max_examples=25)
@given(SIZES, SIZES, st.integers(-100_000, 1_000_000))
def test_each_formula_gives_what_stands_behind_it(btc: int, eth: int, settled: int) -> None:
    """Equity, margins, parts and the distance, computed from the figures as they are written."""
    snapshot = account(settled, holding("BTC", btc, 90_000), holding("ETH", eth, 3_000))
    margin = snapshot.safety.margin
    assert margin is not None
    assume(margin.distance is not None and abs(margin.distance) < 5)
    text = drawn(snapshot)

    equity, usdc, net = found("equity # = # USDC ± positions", text)
    assert equity == pytest.approx(usdc + net, abs=0.02)
    above, required, loses, distance = found(r"\(# - #\) / # = # %", text)
    # A distance is written to 0.1 % below 100 and to 1 above, rounded down.
    assert distance == pytest.approx((above - required) / loses * 100, abs=1.01)
    notional, fraction, initial = found("initial +# x # % = # USDC", text)
    assert initial == pytest.approx(notional * fraction / 100, abs=0.02)
    notional, tier, part, maintenance = found("maintenance +# x # % x # % = # USDC", text)
    assert maintenance == pytest.approx(notional * tier / 100 * part / 100, abs=0.02)


@settings(max_examples=25)
@given(SIZES, st.integers(-30_000, 300_000))
def test_the_liquidation_price_comes_out_of_its_formula(btc: int, settled: int) -> None:
    """The others' maintenance, the notional and the equity over the size less its fraction."""
    snapshot = account(settled, holding("BTC", btc, 90_000), holding("ETH", 100, 3_000))
    price = snapshot.margins[0].figures.liquidation_price
    assume(price is not None and price > 0)

    others, value, equity, size, same, fraction, result = found(
        r"liquidation +\(# ± - #\) / \(# - # x # %\) = #", drawn(snapshot)
    )

    by_hand = (others + value - equity) / (size - same * fraction / 100)
    assert result == pytest.approx(by_hand, rel=1e-3, abs=2)


def test_the_parts_of_all_positions_are_what_the_distance_divides_by() -> None:
    """A long's notional less its maintenance margin, a short's with it."""
    snapshot = account(50_000, holding("BTC", 30, 90_000), holding("ETH", -200, 3_000))

    parts = [found("its part +# [+-] # = # USDC", drawn(snapshot, n))[-1] for n in (0, 1)]

    assert sum(parts) == pytest.approx(found(r"\) / # = ", drawn(snapshot))[0], abs=0.02)


def test_open_interest_that_raises_the_fraction_is_shown(full: Snapshot) -> None:
    """With the caps between which it scales, and the tier's own fraction."""
    text = drawn(full)

    assert "of the tier; open interest" in text
    assert "scales from 25.00 M to 50.00 M USDC" in text
    assert "does not raise 5 % here" in drawn(full, 1)


def test_unknown_open_interest_counts_as_the_most(full: Snapshot) -> None:
    """It is unknown, and not 0."""
    first = full.margins[0]
    assert first.inputs is not None
    row = replace(first, inputs=replace(first.inputs, open_interest=None))

    assert "open interest unknown: it counts as the most" in drawn(replace(full, margins=(row,)))


def test_an_account_that_is_not_known_has_no_formulas() -> None:
    """What cannot be valued is unknown in its row, too."""
    row = MarginRow(figures=PositionFigures(ticker="LINK-USD", size=Decimal(10)))
    text = drawn(Snapshot(margins=(row,)))

    assert "unknown: what the account has is not certain" in text
    assert "LINK-USD" in text
    assert "liquidation  " not in text


def test_a_position_among_unknown_ones_has_no_liquidation_price(full: Snapshot) -> None:
    """Its own margins are known all the same."""
    first = full.margins[0]
    assert first.inputs is not None
    inputs = replace(first.inputs, equity=None, others_maintenance=None)
    text = drawn(replace(full, margins=(replace(first, inputs=inputs),)))

    assert "unknown: not all of the account is" in text
    assert "initial  " in text


def test_a_long_that_no_price_liquidates_says_so() -> None:
    """Its formula gives a price below 0, or none."""
    text = drawn(account(1_000_000, holding("BTC", 100, 90_000)))

    assert "no price liquidates" in text or "none that a market can have" in text
    assert "own distance" not in text


def test_a_flat_account_has_sums_and_no_distance() -> None:
    """Nothing is divided by nothing."""
    text = drawn(account(1_000))

    assert "equity 1,000.00 = 1,000.00 USDC +0.00 positions" in text
    assert "no open position is known" in text


def test_positions_show_what_each_of_them_is_and_has_cost(full: Snapshot) -> None:
    """Notional, leverage, return, funding and fees so far; unknown where nobody counts."""
    text = panel("positions", replace(full, margins=()), 250, 12, View(panel="positions")).text
    eth, btc, link = (line for line in text.split("\n") if "-USD" in line)

    assert "-0.0412" in eth
    assert "-3.16" in eth
    assert "-0.25 %" in eth
    assert "+0.0091" in btc
    assert link.count("unknown") >= 7


def test_positions_alone_have_the_formulas_of_the_selected_one(full: Snapshot) -> None:
    """On the dashboard, where no margins are copied, they are a list."""
    alone = panel("positions", full, 120, 30, View(panel="positions", selected=1)).text
    listed = panel("positions", replace(full, margins=()), 120, 30).text

    assert "BTC-USD SHORT oracle price of" in alone
    assert "liquidation  " in alone
    assert "liquidation  " not in listed
