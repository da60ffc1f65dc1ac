"""Figures of risk and the stress table: exact where money is, None where nothing is known."""

from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import msgspec
import pytest
from dydx_conn import PerpetualMarket, market_parameters
from dydx_risk import (
    MOVES_PERCENT,
    PPM,
    Holding,
    MarginFigures,
    RiskError,
    funding_index_delta,
    funding_settlement,
    funding_settlement_ppm,
    is_liquidatable,
    position_margin,
    risk_figures,
    stress_table,
    total_margin,
)
from hypothesis import given
from hypothesis import strategies as st

USDC = 1_000_000
ETH = market_parameters("ETH-USD", open_interest_upper_cap=10**15, open_interest_lower_cap=10**14)
BTC = msgspec.structs.replace(
    ETH, ticker="BTC-USD", clob_pair_id=0, perpetual_id=0, atomic_resolution=-10,
    open_interest_upper_cap=0, open_interest_lower_cap=0,
)  # fmt: skip
LONG = Holding(
    market=ETH, quantums=2 * 10**9, price=3_000, open_interest=0, funding_8h_ppm=800,
    volatility_1h=0.01, beta=1.5,
)  # fmt: skip
SHORT = Holding(
    market=BTC, quantums=-(10**9), price=60_000, open_interest=0, funding_8h_ppm=-80,
    volatility_1h=0.005, beta=1.0,
)  # fmt: skip
MARKETS = [
    msgspec.structs.replace(m, ticker=f"{m.ticker}{n}") for n in range(2) for m in (ETH, BTC)
]


def holdings_of(market: PerpetualMarket) -> st.SearchStrategy[Holding]:
    """Draw what may be held of a market, the unknown included."""
    return st.builds(
        Holding,
        market=st.just(market),
        quantums=st.integers(-(10**14), 10**14),
        price=st.none() | st.integers(-1, 10**9),
        exponent=st.integers(-6, 2),
        open_interest=st.none() | st.integers(0, 10**15),
        selected_leverage=st.sampled_from([None, Fraction(10)]),
        beta=st.none() | st.floats(-3, 5),
    )


ACCOUNTS = st.tuples(*map(holdings_of, MARKETS))


def moved(holding: Holding, price: int, exponent: int = 0) -> Holding:
    """Return the holding at another oracle price."""
    return msgspec.structs.replace(holding, price=price, exponent=exponent)


# --- figures ---


def test_the_figures_of_an_account_are_the_chains() -> None:
    """2 ETH long at 3,000 and 0.1 BTC short at 60,000: 6,000 USDC each."""
    figures = risk_figures(1_000 * USDC, [LONG, SHORT])

    assert figures.margin == MarginFigures(
        1_000 * USDC, 600 * USDC, 360 * USDC, 12_000 * USDC, 12_000 * USDC
    )
    assert figures.net_notional == 0
    assert (figures.long_notional, figures.short_notional) == (6_000 * USDC, 6_000 * USDC)
    assert (figures.margin.usage, figures.margin.distance) == (0.6, 640 / 12_000)
    assert figures.unknown == ()


def test_concentration_is_the_share_of_the_largest_and_the_sum_of_squares() -> None:
    """Two thirds and one third: 4/9 + 1/9."""
    figures = risk_figures(1_000 * USDC, [LONG, moved(SHORT, 30_000)])

    assert figures.largest == "ETH-USD"
    assert figures.largest_share == pytest.approx(2 / 3)
    assert figures.herfindahl == pytest.approx(5 / 9)
    assert [p.share for p in figures.positions] == pytest.approx([2 / 3, 1 / 3])


def test_funding_costs_what_the_chain_would_settle() -> None:
    """800 ppm per 8 h on 6,000 USDC long, -80 on as much short: 0.66 an hour, 15.84 a day."""
    figures = risk_figures(1_000 * USDC, [LONG, SHORT])

    assert [p.funding_1h for p in figures.positions] == [600_000, 60_000]
    assert (figures.funding_1h, figures.funding_1d) == (660_000, 15_840_000)
    assert figures.funding_distance_1d == pytest.approx(15.84 / 12_000)
    assert figures.hours_to_breach == pytest.approx(640 / 0.66)


def test_funding_received_never_breaches() -> None:
    """A negative cost is received: it takes for ever."""
    received = msgspec.structs.replace(LONG, funding_8h_ppm=-800)
    figures = risk_figures(1_000 * USDC, [received])

    assert figures.funding_1h == -600_000
    assert figures.hours_to_breach == inf


def test_an_account_in_breach_has_no_hours_left() -> None:
    """Whether funding is paid or received."""
    assert [0.0, 0.0] == [
        risk_figures(
            -5_900 * USDC, [msgspec.structs.replace(LONG, funding_8h_ppm=rate)]
        ).hours_to_breach
        for rate in (800, -800)
    ]


def test_a_positions_distance_is_its_own_price_alone_and_in_its_own_volatility() -> None:
    """One long: the price falls until 0.97 of it is what was borrowed."""
    figures = risk_figures(-5_000 * USDC, [LONG])
    position, margin = figures.positions[0], figures.margin
    expected = Decimal(2_500) / Decimal("0.97")

    assert position.liquidation_price is not None
    assert float(position.liquidation_price) == pytest.approx(float(expected))
    assert position.distance == pytest.approx(1 - float(expected) / 3_000)
    assert position.sigmas == pytest.approx((1 - float(expected) / 3_000) / 0.01)
    assert position.distance == pytest.approx(margin.distance if margin else None)
    assert position.sigmas == pytest.approx(figures.sigmas)


def test_a_short_is_liquidated_above_its_price() -> None:
    """7,000 USDC bear a short of 0.1 BTC up to 7,000 / 0.103."""
    position = risk_figures(7_000 * USDC, [SHORT]).positions[0]

    assert float(position.liquidation_price or 0) == pytest.approx(70_000 / 1.03)
    assert position.distance == pytest.approx(70_000 / 1.03 / 60_000 - 1)


def test_the_accounts_sigmas_count_on_no_diversification() -> None:
    """Both against it at once: 5,820 at 1 % and 6,180 at 0.5 %."""
    figures = risk_figures(1_000 * USDC, [LONG, SHORT])

    assert figures.sigmas == pytest.approx(640 / (58.2 + 30.9))


def test_a_long_that_is_paid_for_is_never_liquidated() -> None:
    """No price of it does, so the distance is infinite."""
    position = risk_figures(1_000 * USDC, [LONG]).positions[0]

    assert (position.liquidation_price, position.distance) == (None, inf)


def test_a_breach_that_no_price_cures_is_infinitely_far_gone() -> None:
    """A short whose account is in debt: not even a price of nothing would save it."""
    position = risk_figures(-1 * USDC, [SHORT]).positions[0]

    assert (position.liquidation_price, position.distance) == (None, -inf)


def test_a_maintenance_of_all_of_it_leaves_no_price_that_matters() -> None:
    """Sensitivity is nothing, so is the price: distances are infinite."""
    whole = msgspec.structs.replace(ETH, imf_ppm=PPM, maintenance_fraction_ppm=PPM)
    figures = risk_figures(1, [msgspec.structs.replace(LONG, market=whole)])

    assert figures.margin is not None
    assert (figures.margin.distance, figures.sigmas) == (inf, inf)
    assert figures.funding_distance_1d is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": None}, "ETH-USD: no oracle price"),
        ({"price": 0}, "expected ETH-USD: an oracle price above 0, got 0"),
        ({"price": -3}, "expected ETH-USD: an oracle price above 0, got -3"),
        ({"exponent": 500}, "expected ETH-USD: an exponent within ±200, got 500"),
        ({"open_interest": -1}, "expected ETH-USD: open interest of 0 or more, got -1"),
    ],
)
def test_what_cannot_be_valued_makes_the_account_unknown(
    change: dict[str, Any], reason: str
) -> None:
    """Nothing is zero for want of a price, and the other position has the reason why it has no distance."""
    bad = msgspec.structs.replace(LONG, **change)
    figures = risk_figures(1_000 * USDC, [bad, SHORT])

    assert (figures.margin, figures.sigmas, figures.funding_1h) == (None, None, None)
    assert figures.unknown == (reason,)
    assert figures.positions[0].net_notional is None
    assert figures.positions[0].unknown == (reason,)
    assert figures.positions[1].net_notional == -6_000 * USDC
    assert figures.positions[1].distance is None
    assert reason in figures.positions[1].unknown[0]


@pytest.mark.parametrize("volatility", [None, 0.0, -1.0, inf])
def test_no_volatility_is_unknown_and_not_taken_for_calm(volatility: float | None) -> None:
    """Distances in deviations are None, the others stand."""
    still = msgspec.structs.replace(SHORT, volatility_1h=volatility, funding_8h_ppm=None)
    figures = risk_figures(7_000 * USDC, [still])

    assert (figures.sigmas, figures.positions[0].sigmas) == (None, None)
    assert (figures.funding_1h, figures.hours_to_breach) == (None, None)
    assert figures.margin is not None
    assert figures.margin.distance is not None
    got = "none is known yet" if volatility is None else f"got {volatility}"
    assert figures.unknown == (
        "BTC-USD: no usable funding rate",
        f"BTC-USD: no usable volatility, {got}",
    )


def test_a_funding_rate_beyond_all_size_is_unknown() -> None:
    """The chain's are 32 bits wide: what is wider was misread."""
    figures = risk_figures(1_000 * USDC, [msgspec.structs.replace(LONG, funding_8h_ppm=10**400)])

    assert (figures.funding_1h, figures.hours_to_breach) == (None, None)
    assert figures.unknown == ("ETH-USD: no usable funding rate, got one beyond 32 bits",)


def test_an_empty_account_has_no_distance_and_reads_so() -> None:
    """Nothing held, nothing concentrated; debt is reported, too."""
    figures = risk_figures(0, [msgspec.structs.replace(LONG, quantums=0, price=None)])

    assert (figures.sigmas, figures.largest, figures.herfindahl) == (None, None, None)
    assert figures.unknown == ("no position of any worth is held", "equity is not positive")


def test_a_market_named_twice_is_a_bug_of_the_caller() -> None:
    """Which of the two would count?"""
    with pytest.raises(RiskError, match="expected one holding per market, got ETH-USD twice"):
        risk_figures(0, [LONG, LONG])


# --- the stress table ---


@given(st.integers(-(10**12), 10**12), ACCOUNTS, st.data())
def test_what_changes_one_by_one_is_what_is_computed_from_nothing(
    collateral: int, account: tuple[Holding, ...], drawn: st.DataObject
) -> None:
    """Any order of changes, unknown prices and closed positions among them, cell by cell."""
    changes = drawn.draw(st.lists(st.sampled_from(MARKETS).flatmap(holdings_of), max_size=6))
    table = stress_table(collateral, account)
    latest = {holding.ticker: holding for holding in account}
    for change in changes:
        table, latest[change.ticker] = table.changed(change), change

    fresh = stress_table(collateral, latest.values())

    assert (fresh.rows, fresh.sums) == (table.rows, table.sums)
    assert sorted(map(repr, fresh.cells())) == sorted(map(repr, table.cells()))


@given(st.integers(-(10**12), 10**12), ACCOUNTS)
def test_every_cell_is_the_margin_at_the_shocked_prices(
    collateral: int, account: tuple[Holding, ...]
) -> None:
    """One market at a time and all together, held to the margin of the whole account."""
    held = [msgspec.structs.replace(h, price=max(h.price or 1, 1)) for h in account if h.quantums]
    table = stress_table(collateral, held)

    def margin(shocks: dict[str, int]) -> tuple[Any, ...]:
        terms = [
            position_margin(
                h.market, h.quantums, max((h.price or 0) * (PPM + shocks.get(h.ticker, 0)), 0),
                h.exponent - 6, h.open_interest, h.chosen_imf_ppm,
            )
            for h in held
            if shocks.get(h.ticker, 0) > -PPM
        ]  # fmt: skip
        total = total_margin(collateral, terms)
        breached = is_liquidatable(total.net_collateral, total.maintenance_margin)
        return (
            total.net_collateral, total.initial_margin, total.maintenance_margin,
            total.distance, breached,
        )  # fmt: skip

    def figures(cell) -> tuple[Any, ...]:
        return (
            cell.equity, cell.initial_margin, cell.maintenance_margin, cell.distance,
            cell.liquidatable,
        )  # fmt: skip

    assert margin({}) == figures(table.now())
    for holding in held:
        for move, cell in zip(MOVES_PERCENT, table.market(holding.ticker), strict=True):
            assert (holding.ticker, move) == (cell.ticker, cell.move_percent)
            assert margin({holding.ticker: move * 10_000}) == figures(cell)
    for move, cell in zip(MOVES_PERCENT, table.together(), strict=True):
        betas = {h.ticker: 1.0 if h.beta is None else h.beta for h in held}
        shocks = {ticker: round(move * 10_000 * beta) for ticker, beta in betas.items()}
        assert margin(shocks) == figures(cell)


def test_a_shock_shows_who_would_be_liquidated() -> None:
    """Long 2 ETH on 1,000 USDC of its own: 10 % down leaves 400 over 162, 20 % nothing."""
    cells = {c.move_percent: c for c in stress_table(-5_000 * USDC, [LONG]).market("ETH-USD")}

    assert (cells[-10].equity, cells[-10].maintenance_margin) == (400 * USDC, 162 * USDC)
    assert [False, True] == [cells[move].liquidatable for move in (-10, -20)]
    assert (cells[-20].distance or 0) < 0


def test_beta_scales_the_common_move_and_stops_at_nothing() -> None:
    """A beta of 3 at -40 % would be -120 %: the price is nothing, not less."""
    wild = msgspec.structs.replace(LONG, beta=3.0)
    table = stress_table(0, [wild])

    assert table.together()[0].equity == 0
    assert table.together()[0].distance is None
    assert table.assumed == ()


@pytest.mark.parametrize(
    "change",
    [{"beta": 1e300}, {"beta": 1.7e308}, {"quantums": 19 * 10**63, "price": 1}, {"price": None}],
)
def test_what_no_shock_can_value_is_unknown_in_the_table(change: dict[str, Any]) -> None:
    """Beyond all size, and only once shocked: reported, and never raised at whoever watches."""
    table = stress_table(0, [msgspec.structs.replace(LONG, **change)])

    assert len(table.unknown) == 1
    assert table.now().equity is None


@pytest.mark.parametrize("beta", [None, inf, nan])
def test_an_unknown_beta_counts_as_one_and_is_named(beta: float | None) -> None:
    """The common move is then the market's own."""
    table = stress_table(0, [msgspec.structs.replace(LONG, beta=beta)])

    assert [c.equity for c in table.market("ETH-USD")] == [c.equity for c in table.together()]
    assert table.assumed == ("ETH-USD",)


def test_capped_open_interest_raises_the_initial_margin_alone() -> None:
    """Where caps exist the fraction becomes 100 %."""
    table = stress_table(1_000 * USDC, [LONG, SHORT])

    assert table.capped() == msgspec.structs.replace(
        table.now(), scenario="open interest capped", initial_margin=6_300 * USDC
    )


def test_clamped_funding_is_paid_by_every_position_for_the_hours() -> None:
    """6 x (5 % - 3 %) per 8 hours is 1.5 % an hour, whichever side one is on."""
    table = stress_table(1_000 * USDC, [LONG, SHORT], funding_hours=2)

    assert table.clamped().equity == (1_000 - 2 * 180) * USDC
    assert table.clamped().maintenance_margin == table.now().maintenance_margin
    assert table.clamped().scenario == "funding clamped"


@given(st.integers(-(10**14), 10**14), st.integers(1, 10**9), st.integers(0, 100))
def test_clamped_funding_is_what_the_chain_would_settle(size: int, price: int, hours: int) -> None:
    """Hour by hour to the index, one floor at the end."""
    table = stress_table(0, [Holding(market=ETH, quantums=size, price=price)], funding_hours=hours)
    rate = 120_000 if size > 0 else -120_000
    index = sum(funding_index_delta(rate, 3_600, price, 0, -9) for _ in range(hours))

    paid = funding_settlement([funding_settlement_ppm(size, index, 0)])

    assert paid == (table.clamped().equity or 0) - (table.now().equity or 0)


def test_one_unknown_position_makes_every_cell_unknown_with_its_reason() -> None:
    """The others' own cells, too: equity is the account's."""
    table = stress_table(10**9, [msgspec.structs.replace(LONG, price=None), SHORT])

    assert table.unknown == ("ETH-USD: no oracle price",)
    assert len(table.cells()) == 1 + 3 * len(MOVES_PERCENT) + 2
    assert {(c.equity, c.distance, c.liquidatable) for c in table.cells()} == {(None, None, None)}


def test_a_table_stays_as_it_is_when_its_successor_differs() -> None:
    """Values: a scan may keep every one."""
    table = stress_table(10**9, [LONG])
    before = table.now()

    assert table.settled(5).now().equity == 6_000 * USDC + 5
    assert table.changed(moved(LONG, 1)).now() != before
    assert table.changed(msgspec.structs.replace(LONG, quantums=0)).rows == {}
    assert table.now() == before


def test_a_market_that_is_entered_gets_its_row() -> None:
    """One by one from an empty account, and what is not held stays out."""
    empty = stress_table(0, [])

    assert stress_table(0, [LONG, SHORT]) == empty.changed(LONG).changed(SHORT)
    assert empty == empty.changed(msgspec.structs.replace(LONG, quantums=0))


def test_a_market_that_is_not_held_has_no_row() -> None:
    """A bug of the caller, in the caller's units."""
    with pytest.raises(RiskError, match="expected a market of"):
        stress_table(0, [LONG]).market("BTC-USD")


def test_collateral_beyond_all_size_is_refused() -> None:
    """At first, and when it settles."""
    for call in (lambda: stress_table(10**400, []), lambda: stress_table(0, []).settled(10**400)):
        with pytest.raises(RiskError, match="expected collateral within"):
            call()


def test_negative_hours_are_refused() -> None:
    """Funding does not run backwards."""
    with pytest.raises(RiskError, match="expected funding_hours of 0 or more, got -1"):
        stress_table(0, [], funding_hours=-1)
