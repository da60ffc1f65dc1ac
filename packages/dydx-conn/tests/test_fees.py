"""What trading costs: tiers, discounts, roundings, gas, and what an account's worth allows."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from dydx_conn import (
    EQUITY_TIERS,
    NETWORKS,
    STANDARD_FEE_TIERS,
    Fees,
    FeeTier,
    MarketDiscount,
    StakingLevel,
    fee,
    fee_ppm,
    fee_tier,
    staking_discount_ppm,
    stateful_order_limit,
)
from hypothesis import given
from hypothesis import strategies as st

USDC = 10**6
MILLION = 10**6 * USDC
rates = st.integers(min_value=-(10**6), max_value=10**6)
shares = st.integers(min_value=0, max_value=10**6)

# === Tiers ===


@pytest.mark.parametrize(
    ("volumes", "tier"),
    [
        ({}, "1"),
        ({"taker_volume": MILLION - 1}, "1"),
        ({"taker_volume": MILLION}, "2"),
        ({"maker_volume": 2 * MILLION, "taker_volume": 3 * MILLION}, "3"),
        ({"taker_volume": 25 * MILLION}, "4"),
        ({"taker_volume": 125 * MILLION}, "9"),
        ({"taker_volume": 125 * MILLION, "total_volume": 25_001 * MILLION}, "5"),
        ({"taker_volume": 125 * MILLION, "total_volume": 25_000 * MILLION}, "6"),
        ({"maker_volume": 250 * MILLION, "total_volume": 25_000 * MILLION}, "7"),
        ({"maker_volume": 500 * MILLION, "total_volume": 25_000 * MILLION}, "8"),
        ({"maker_volume": 999 * MILLION, "total_volume": 25_000 * MILLION}, "8"),
        ({"maker_volume": 1_000 * MILLION, "total_volume": 25_000 * MILLION}, "9"),
    ],
)
def test_a_tier_is_reached_by_volume_and_shares(volumes: dict[str, Any], tier: str) -> None:
    """Up to the first whose requirements do not all hold; no trades, no share required."""
    assert fee_tier(**volumes).name == tier


def test_no_tier_is_skipped() -> None:
    """What fails in between ends the climb, though a higher tier requires less."""
    tiers = [
        FeeTier(name="low", taker_ppm=30, maker_ppm=3),
        FeeTier(name="high", volume=10, taker_ppm=20, maker_ppm=2),
        FeeTier(name="free", taker_ppm=0, maker_ppm=0),
    ]

    assert fee_tier(tiers, taker_volume=9).name == "low"
    assert fee_tier(tiers, taker_volume=10).name == "free"


@pytest.mark.parametrize(
    ("given_", "tier"),
    [
        ({"is_vault": True}, "9"),
        ({"least": 2}, "3"),
        ({"least": 2, "taker_volume": 25 * MILLION}, "4"),
        ({"least": 99}, "9"),
    ],
)
def test_vaults_and_referred_traders_start_higher(given_: dict[str, Any], tier: str) -> None:
    """A vault at the top; who was referred no lower than governance sets."""
    assert fee_tier(**given_).name == tier


def test_the_standard_tiers_never_cost_more_further_up() -> None:
    """And every one requires at least what the one below it requires."""
    for below, above in pairwise(STANDARD_FEE_TIERS):
        assert (above.taker_ppm, above.maker_ppm) <= (below.taker_ppm, below.maker_ppm)
        assert above.volume >= below.volume
        assert above.total_share_ppm >= below.total_share_ppm
        assert above.maker_share_ppm >= below.maker_share_ppm


# === Discounts ===


@pytest.mark.parametrize(
    ("clob_pair_id", "time", "charged"),
    [
        (1, 1_000, 250_000),
        (1, 2_999, 250_000),
        (1, 999, 1_000_000),
        (1, 3_000, 1_000_000),
        (2, 2_000, 1_000_000),
    ],
)
def test_a_market_charges_less_while_its_discount_lasts(
    clob_pair_id: int, time: int, charged: int
) -> None:
    """From its start until before its end, and in its own market alone."""
    assert MarketDiscount(1, 1_000, 3_000, 250_000).at(clob_pair_id, time) == charged


LEVELS = {"3": [StakingLevel(100, 50_000), StakingLevel(1_000, 100_000)]}


@pytest.mark.parametrize(
    ("tier", "staked", "off"),
    [("3", 99, 0), ("3", 100, 50_000), ("3", 999, 50_000), ("3", 10**30, 100_000), ("4", 500, 0)],
)
def test_staking_takes_off_what_the_highest_level_reached_grants(
    tier: str, staked: int, off: int
) -> None:
    """Of one's own tier; a tier without levels takes off nothing."""
    assert staking_discount_ppm(LEVELS, tier, staked) == off


@pytest.mark.parametrize(
    ("rate", "charge", "discount", "expected"),
    [
        (500, 1_000_000, 0, 500),
        (30, 250_000, 0, 7),
        (3, 250_000, 0, 0),
        (-110, 500_000, 0, -55),
        (-3, 250_000, 0, 0),
        (-7, 500_000, 0, -3),
        (500, 1_000_000, 333_333, 333),
        (-110, 1_000_000, 500_000, -110),
        (500, 0, 500_000, 0),
        (500, 1_000_000, 1_000_000, 0),
    ],
)
def test_a_rate_is_truncated_after_each_discount(
    rate: int, charge: int, discount: int, expected: int
) -> None:
    """First the market's, of fees and rebates, then staking's, of fees alone."""
    assert fee_ppm(rate, charge_ppm=charge, discount_ppm=discount) == expected


@given(rate=rates, charge=shares, discount=shares)
def test_a_discount_never_turns_a_fee_around(rate: int, charge: int, discount: int) -> None:
    """Between nothing and what it was."""
    left = fee_ppm(rate, charge_ppm=charge, discount_ppm=discount)

    assert abs(left) <= abs(rate)
    assert left * rate >= 0


# === Amounts ===


@given(quote=st.integers(min_value=0, max_value=10**24), rate=rates)
def test_a_fee_is_rounded_up(quote: int, rate: int) -> None:
    """Toward the protocol, rebates too: exactly the ceiling."""
    assert fee(quote, rate) == math.ceil(Fraction(quote) * rate / 10**6)


def test_a_fill_pays_by_who_was_there_first() -> None:
    """Takers and makers have rates of their own, of a tier as of any fees."""
    tier = STANDARD_FEE_TIERS[6]

    assert (Fees().of(1_000, "TAKER"), Fees().of(1_000, "MAKER")) == (1, 1)
    assert (tier.of(10**6, "TAKER"), tier.of(10**6, "MAKER")) == (250, -90)


# === Limits ===


@pytest.mark.parametrize(
    ("worth", "limit"),
    [
        (-1, 0),
        (0, 0),
        (20 * USDC - 1, 0),
        (20 * USDC, 1),
        (999 * USDC, 5),
        (10_000 * USDC, 100),
        (10**9 * USDC, 200),
    ],
)
def test_an_accounts_worth_allows_so_many_stateful_orders(worth: int, limit: int) -> None:
    """The highest tier reached decides; governance may set others."""
    assert stateful_order_limit(worth) == limit
    assert stateful_order_limit(worth, [(0, 4)]) == (4 if worth >= 0 else 0)


def test_equity_tiers_only_rise() -> None:
    """More worth never allows less."""
    assert sorted(EQUITY_TIERS) == list(EQUITY_TIERS)
    assert sorted(limit for _, limit in EQUITY_TIERS) == [limit for _, limit in EQUITY_TIERS]


# === Coins ===


def test_networks_name_the_coins_that_they_take() -> None:
    """USDC came by the same bridge everywhere; the chain's own token has a test name."""
    assert {name: network.chain_denom for name, network in NETWORKS.items()} == {
        "mainnet": "adydx",
        "testnet": "adv4tnt",
        "local": "adv4tnt",
    }
    assert len({network.usdc_denom for network in NETWORKS.values()}) == 1
