"""Sizes that survive a shock, and leverage that a market's own swings allow."""

from math import inf
from typing import Any

import msgspec
import pytest
from dydx_conn import market_parameters
from dydx_risk import (
    PPM,
    Holding,
    MarginFigures,
    Proposal,
    RiskError,
    position_margin,
    size_position,
    suggest_leverage,
    total_margin,
    volatility_target,
)
from hypothesis import given
from hypothesis import strategies as st

USDC = 1_000_000
ETH = market_parameters("ETH-USD")
SCALED = msgspec.structs.replace(
    ETH, open_interest_lower_cap=10**12, open_interest_upper_cap=2 * 10**12
)
BTC = msgspec.structs.replace(ETH, ticker="BTC-USD", clob_pair_id=0, perpetual_id=0)
ENTERED = Holding(market=ETH, price=3_000, open_interest=0, volatility_1h=0.01)
OTHER = Holding(market=BTC, quantums=-(10**8), price=60_000, open_interest=0)


def wanted(usdc: int) -> Proposal:
    """Propose a notional in USDC."""
    return Proposal(usdc * USDC, "because")


# --- proposals ---


@pytest.mark.parametrize(
    ("proposal", "usdc"),
    [
        (volatility_target(1_000 * USDC, 0.0078125, 0.03125, cap=2), 250),
        (volatility_target(1_000 * USDC, 0.01, 1e-150, cap=2), 2_000),
        (volatility_target(1_000 * USDC, -0.01, 0.001, cap=2), -2_000),
    ],
)
def test_a_proposal_is_equity_times_what_its_rule_allows(proposal: Proposal, usdc: int) -> None:
    """Signed, in quote quantums, and never beyond the cap."""
    assert proposal.notional == usdc * USDC
    assert "equity" in proposal.why or "volatility" in proposal.why


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        (volatility_target(None, 0.1, 0.1, cap=1), "equity is unknown"),
        (
            volatility_target(-5, 0.1, 0.1, cap=1),
            "expected a positive equity, got -5 quote quantums",
        ),
        (volatility_target(5, 0.1, None, cap=1), "no usable volatility, none is known yet"),
        (volatility_target(5, 0.1, 0.0, cap=1), "no usable volatility, got 0.0"),
        (volatility_target(5, 0.1, 1e-200, cap=1), "no usable volatility, got 1e-200"),
        (volatility_target(5, 0.1, inf, cap=1), "no usable volatility, got inf"),
    ],
)
def test_what_cannot_be_proposed_has_its_reason(proposal: Proposal, why: str) -> None:
    """Unknown is None: a proposal of 0 would be another thing."""
    assert proposal == Proposal(None, why)


@pytest.mark.parametrize(
    "call",
    [
        lambda: volatility_target(5, inf, 0.1, cap=1),
        lambda: volatility_target(5, 0.1, 0.1, cap=inf),
        lambda: size_position(wanted(1), ENTERED, 0, [], adverse=1.0, keep_above=0.1),
        lambda: size_position(wanted(1), ENTERED, 0, [], adverse=0.1, keep_above=-0.1),
        lambda: size_position(wanted(1), ENTERED, 0, [], adverse=0.1, keep_above=0, cost_ppm=-1),
        lambda: suggest_leverage(ENTERED, keep_above=1.0),
        lambda: suggest_leverage(ENTERED, keep_above=0.1, hours=0),
        lambda: suggest_leverage(ENTERED, keep_above=0.1, sigmas=-1),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_bug_of_the_caller(call) -> None:
    """The error names what was expected and what it got."""
    with pytest.raises(RiskError, match=r"expected \w+ (at least|above) .* and below .*, got"):
        call()


# --- sizes ---


def test_a_size_the_margin_bears_is_the_proposal_rounded_down_to_the_step() -> None:
    """1,000 USDC at 3,000 are 0.3333 ETH; the step is 0.001."""
    sizing = size_position(wanted(1_000), ENTERED, 10_000 * USDC, [], adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by) == (333_000_000, "proposal")


def test_a_short_is_rounded_toward_nothing_too() -> None:
    """Never one step more."""
    sizing = size_position(wanted(-1_000), ENTERED, 10_000 * USDC, [], adverse=0.2, keep_above=0.1)

    assert sizing.quantums == -333_000_000


def test_the_margin_at_stressed_prices_bounds_the_size() -> None:
    """After 20 % down a long of N keeps 10 %: 1,000 - 0.2 N - 0.03 * 0.8 N >= 0.0776 N."""
    sizing = size_position(wanted(100_000), ENTERED, 1_000 * USDC, [], adverse=0.2, keep_above=0.1)

    assert sizing.quantums == int(1_000 / (0.2 + 0.024 + 0.0776) / 3) * 1_000_000
    assert sizing.limited_by == "margin"
    assert sizing.after is not None
    assert 0.1 <= (sizing.after.distance or 0) < 0.101
    assert "the margin bears 1105 of 33333 steps" in sizing.why


def test_cost_and_other_positions_leave_less() -> None:
    """Fees are gone, and the others turn against the account as well."""
    alone, dear, beside = (
        size_position(
            wanted(100_000), ENTERED, collateral, others, adverse=0.2, keep_above=0.1, cost_ppm=cost
        ).quantums
        for collateral, others, cost in (
            (1_000 * USDC, [], 0),
            (1_000 * USDC, [], 10_000),
            (8_500 * USDC, [OTHER], 0),
        )
    )

    assert alone > dear > beside > 0


def test_a_size_below_the_step_is_denied_and_not_raised_to_it() -> None:
    """2 USDC are less than 0.001 ETH."""
    sizing = size_position(wanted(2), ENTERED, 10**10, [], adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by) == (0, "step")
    assert sizing.why == "because: 666666 quantums, below the step of 1000000"


def test_a_proposal_of_nothing_is_no_size() -> None:
    """It is not below the step: nothing was proposed."""
    sizing = size_position(wanted(0), ENTERED, 10**10, [], adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by) == (0, "proposal")
    assert sizing.why == "because: nothing is proposed"


def test_a_margin_that_bears_nothing_denies() -> None:
    """Zero, with its figures."""
    sizing = size_position(wanted(100), ENTERED, 0, [], adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by) == (0, "margin")
    assert "the margin bears 0 of 33 steps" in sizing.why


@pytest.mark.parametrize(
    ("proposal", "market", "others", "why"),
    [
        (Proposal(None, "no edge"), ENTERED, [], "no edge"),
        (wanted(1), msgspec.structs.replace(ENTERED, price=None), [], "ETH-USD: no oracle price"),
        (
            wanted(1), ENTERED, [msgspec.structs.replace(OTHER, price=None)],
            "BTC-USD: no oracle price",
        ),
        (
            wanted(3 * 10**70), ENTERED, [],
            f"expected ETH-USD: a margin from 0 to 10^60 quote quantums, got {15 * 10**74}",
        ),
    ],
)  # fmt: skip
def test_what_is_unknown_denies_and_is_named(
    proposal: Proposal, market: Holding, others: list[Holding], why: str
) -> None:
    """Unknown is danger, wherever in the account it stands."""
    sizing = size_position(proposal, market, 10**10, others, adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by, sizing.why) == (0, "unknown", why)


def test_an_isolated_market_is_not_sized_beside_another() -> None:
    """The chain would refuse the order whatever its size."""
    isolated = msgspec.structs.replace(
        ENTERED, market=msgspec.structs.replace(ETH, market_type="ISOLATED")
    )
    sizing = size_position(wanted(100), isolated, 10**12, [OTHER], adverse=0.2, keep_above=0.1)

    assert (sizing.quantums, sizing.limited_by) == (0, "isolated")


def test_unknown_open_interest_counts_as_capped() -> None:
    """Then a position needs all of its notional."""
    unknown = msgspec.structs.replace(ENTERED, market=SCALED, open_interest=None)
    sizing = size_position(wanted(5_000), unknown, 900 * USDC, [], adverse=0.0, keep_above=0.0)

    assert sizing.quantums == 300_000_000


@given(
    collateral=st.integers(-(10**10), 10**12),
    usdc=st.integers(-(10**6), 10**6),
    held=st.integers(-2_000, 2_000),
    other=st.integers(-(10**9), 10**9),
    adverse=st.floats(0, 0.9),
    keep_above=st.floats(0, 0.5),
    cost_ppm=st.integers(0, 20_000),
    interest=st.integers(0, 10**12),
)
def test_no_size_leaves_the_account_nearer_than_it_may_be(
    collateral: int, usdc: int, held: int, other: int, adverse: float, keep_above: float,
    cost_ppm: int, interest: int,
) -> None:  # fmt: skip
    """Whatever is proposed: on the step, within that, and safe after the shock, to the quantum."""
    market = msgspec.structs.replace(
        ENTERED, market=SCALED, quantums=held * 10**6, open_interest=interest
    )
    beside = msgspec.structs.replace(OTHER, quantums=other)

    sizing = size_position(
        wanted(usdc), market, collateral, [market, beside], adverse=adverse,
        keep_above=keep_above, cost_ppm=cost_ppm,
    )  # fmt: skip

    size = sizing.quantums
    assert size % 10**6 == 0
    assert abs(size) * 3_000 // 1_000 <= abs(usdc) * USDC
    assert size * usdc >= 0
    if size:
        shock = -(-round(adverse * 10**12) // 10**6)
        assert _distance_remains(market, beside, collateral, size, shock, cost_ppm, keep_above)


def _distance_remains(
    market: Holding, beside: Holding, collateral: int, size: int, shock: int, cost: int,
    keep_above: float,
) -> bool:  # fmt: skip
    # Written out in full: trade at the oracle price, pay, then let each price turn.
    traded = abs(size * 3 - market.quantums * 3)
    cash = collateral - (size - market.quantums) * 3 - -(-traded * cost // PPM)
    interest = (market.open_interest or 0) + abs(size - market.quantums)

    def after(shock: int) -> MarginFigures:
        moved = [PPM - shock if q > 0 else PPM + shock for q in (size, beside.quantums)]
        return total_margin(
            cash,
            [
                position_margin(SCALED, size, 3_000 * moved[0], -6, interest),
                position_margin(BTC, beside.quantums, 60_000 * moved[1], -6, 0),
            ],
        )

    return (
        after(0).free_collateral >= 0
        and after(shock).cushion >= 0
        and (after(shock).distance or 0) >= keep_above - 2e-6
    )


# --- leverage ---


def test_leverage_leaves_room_for_the_markets_own_swings() -> None:
    """3 deviations of a day at 1 % an hour are 14.7 %, with 3 % of maintenance on top."""
    advice = suggest_leverage(ENTERED, keep_above=0.1)

    assert advice.leverage == pytest.approx(1 / (0.03 + 3 * 0.01 * 24**0.5 * 1.03))
    assert advice.most == 20
    assert advice.reasons[-1] == "the distance binds"
    assert "not scaled by open interest" in advice.reasons[0]


def test_a_calm_market_still_keeps_the_policys_distance() -> None:
    """What was calm for an hour need not stay so."""
    calm = msgspec.structs.replace(ENTERED, volatility_1h=1e-6)

    assert suggest_leverage(calm, keep_above=0.1).leverage == pytest.approx(1 / 0.133)


@pytest.mark.parametrize(
    ("interest", "most", "words"),
    [
        (0, 20, "initial margin of 5.00 % at 0.00 % of the upper cap"),
        (500 * 10**9, 1 / 0.525, "initial margin of 52.50 % at 75.00 % of the upper cap"),
        (None, 1, "initial margin of 100 %: open interest is unknown and counts as capped"),
    ],
)
def test_open_interest_near_its_cap_leaves_less_leverage(
    interest: int | None, most: float, words: str
) -> None:
    """The fraction that the next trade would meet."""
    scaled = msgspec.structs.replace(ENTERED, market=SCALED, open_interest=interest)
    advice = suggest_leverage(scaled, keep_above=0.0, sigmas=0.0)

    assert advice.leverage == pytest.approx(most)
    assert advice.most == pytest.approx(most)
    assert (words, "the initial margin binds") == (advice.reasons[0], advice.reasons[-1])


def test_a_tier_without_maintenance_is_bound_by_its_initial_margin() -> None:
    """With no distance to keep, nothing else binds."""
    free = msgspec.structs.replace(
        ENTERED, market=msgspec.structs.replace(ETH, maintenance_fraction_ppm=0)
    )

    assert suggest_leverage(free, keep_above=0.0, sigmas=0.0).leverage == 20


@pytest.mark.parametrize(
    ("change", "most", "reason"),
    [
        ({"price": None}, None, "ETH-USD: no oracle price"),
        ({"volatility_1h": None}, 20, "ETH-USD: no usable volatility, none is known yet"),
        ({"market": msgspec.structs.replace(ETH, imf_ppm=0)}, None,
         "ETH-USD: expected an initial margin above 0, got 0 ppm"),
        ({"market": SCALED, "open_interest": -1}, None,
         "expected ETH-USD: open interest of 0 or more, got -1"),
    ],
)  # fmt: skip
def test_no_leverage_is_suggested_for_what_is_unknown(
    change: dict[str, Any], most: float | None, reason: str
) -> None:
    """None with its reason, and not 1."""
    advice = suggest_leverage(msgspec.structs.replace(ENTERED, **change), keep_above=0.1)

    assert (advice.leverage, advice.most, advice.reasons[-1]) == (None, most, reason)
