"""Funding rates: votes on the premium, the minute's sample, the hour's rate."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from dydx_conn import market_parameters
from dydx_data import (
    DataError,
    FundingHour,
    FundingTerms,
    charged_rate,
    funding_clamp_ppm,
    funding_rate,
    funding_rate_8h_ppm,
    impact_subticks,
    indexer_next_rate,
    oracle_subticks,
    premium_sample,
    premium_vote,
    remove_tails,
)
from hypothesis import given
from hypothesis import strategies as st

# One quantum at one subtick is 1e-8 quote quantums; the oracle's 10,000 is 1e8 subticks.
BTC = market_parameters(
    "BTC-USD", quantum_conversion_exponent=-8, step_base_quantums=1, subticks_per_tick=1
)
TERMS = FundingTerms()
CLAMP = 1_200_000
PPMS = st.integers(-(2**31), 2**31 - 1)


def _vote(bids: list[tuple[int, int]], asks: list[tuple[int, int]], price: int = 10_000) -> int:
    return premium_vote(BTC, bids, asks, price, 0, impact_notional=5 * 10**9, clamp_ppm=CLAMP)


def test_an_oracle_price_is_exact_in_subticks() -> None:
    """Nothing is rounded before the premium is taken."""
    assert oracle_subticks(BTC, 10_000, 0) == 100_000_000
    assert oracle_subticks(BTC, 1, -9) == Fraction(1, 10**5)


@pytest.mark.parametrize("price", [0, -1])
def test_an_oracle_price_of_nothing_is_refused(price: int) -> None:
    """A zero price would make any premium; the chain refuses it too."""
    with pytest.raises(
        DataError, match=rf"BTC-USD: expected an oracle price above 0 .*, got {price} and 0"
    ):
        _vote([], [], price)


def test_inside_the_spread_nothing_is_voted() -> None:
    """An index between the best bid and the best ask has no premium."""
    assert _vote([(99_990_000, 10**10)], [(100_010_000, 10**10)]) == 0


def test_an_empty_book_votes_nothing() -> None:
    """No side, no premium."""
    assert _vote([], []) == 0


def test_bids_above_the_index_vote_a_premium_and_asks_below_it_a_discount() -> None:
    """Truncated toward zero: 5,000.5 ppm are 5,000, either way."""
    assert _vote([(100_500_050, 10**12)], [(110_000_000, 1)]) == 5_000
    assert _vote([(1, 1)], [(99_499_950, 10**12)]) == -5_000


def test_one_side_is_enough_to_vote() -> None:
    """Without asks the bids still stand above the index."""
    assert _vote([(100_500_050, 10**12)], []) == 5_000
    assert _vote([], [(99_499_950, 10**12)]) == -5_000


def test_a_thin_side_votes_nothing() -> None:
    """What cannot fill the impact notional is no price."""
    assert _vote([(100_500_000, 10)], []) == 0


def test_an_impact_price_beyond_the_index_votes_nothing() -> None:
    """The best bid stands above the index, what a trader would get does not."""
    assert _vote([(99_000_000, 10**12), (100_100_000, 10)], []) == 0


def test_a_vote_is_clamped() -> None:
    """Ten times the index votes the clamp, and no more."""
    assert _vote([(10**9, 10**12)], []) == CLAMP
    assert premium_vote(
        BTC, [], [(1, 10**18)], 10_000, 0, impact_notional=1, clamp_ppm=100
    ) == -100  # fmt: skip


@pytest.mark.parametrize(
    ("bids", "asks"), [([2], [1]), ([2], [1, 3]), ([2, 0], [1]), ([0, 2], [3, 1])]
)
def test_a_crossed_book_is_refused(bids: list[int], asks: list[int]) -> None:
    """A crossed book has no premium: which side would be believed? The best levels decide."""
    with pytest.raises(DataError, match="a book that is not crossed, got bid 2 and ask 1"):
        _vote([(at, 1) for at in bids], [(at, 1) for at in asks])


def test_the_impact_price_is_an_average_over_the_levels_it_takes() -> None:
    """Half of the notional at 200, half at 100: the last level is taken in part."""
    levels = [(200, 100), (100, 10_000)]

    assert impact_subticks(levels, 40_000, 0) == Fraction(40_000, 100 + 200)


def test_the_size_of_an_impact_is_rounded_up() -> None:
    """A third of a quantum is a quantum: the price is the worse for it."""
    assert impact_subticks([(300, 1)], 100, 0) == 100


def test_no_impact_notional_is_the_best_price() -> None:
    """The chain then takes the best order, and nothing from an empty side."""
    assert impact_subticks([(300, 1), (200, 1)], 0, 0) == 300
    assert impact_subticks([], 0, 0) is None


def test_a_negative_impact_notional_is_refused() -> None:
    """It is an amount."""
    with pytest.raises(DataError, match="an impact notional of 0 or more, got -1"):
        impact_subticks([], -1, 0)


@given(
    st.lists(st.tuples(st.integers(1, 2**40), st.integers(1, 2**40)), max_size=8),
    st.integers(1, 2**40),
)
def test_an_impact_price_is_never_better_than_the_best(
    levels: list[tuple[int, int]], notional: int
) -> None:
    """Selling into bids averages at most the best bid."""
    price = impact_subticks(sorted(levels, reverse=True), notional, 0)

    assert price is None or price <= max(levels)[0]


@pytest.mark.parametrize(
    ("votes", "count", "sample"),
    [
        ([51, 51, -100, -100], 4, -25),
        ([51, 51, 100, 100], 4, 76),
        ([-5, -10], 4, -3),
        ([7], 1, 7),
        ([1000], 4, 0),
        ([1, 2, 3], 2, 2),
    ],
)
def test_a_sample_is_the_median_vote_rounded_away_from_zero(
    votes: list[int], count: int, sample: int
) -> None:
    """Blocks without a vote count as 0; no vote is ever dropped."""
    terms = FundingTerms(min_num_votes_per_sample=1)

    assert premium_sample(votes, count, terms=terms) == sample


def test_too_few_votes_are_filled_up_with_zeros() -> None:
    """Fifteen are expected: seven cannot move the median, eight can."""
    assert premium_sample([9] * 7, terms=TERMS) == 0
    assert premium_sample([9] * 8, terms=TERMS) == 9


def test_a_sample_of_nothing_is_refused() -> None:
    """No votes, and none expected: there is no median."""
    with pytest.raises(DataError, match="a vote"):
        premium_sample([], terms=FundingTerms(min_num_votes_per_sample=0))


@pytest.mark.parametrize(
    ("removed_ppm", "rest"),
    [
        (0, [0, -1, -3, 5, 7]),
        (250_000, [-1, 0, 5]),
        (100_000, [-3, -1, 0, 5]),
        (500_000, [0, -1, -3, 5, 7]),
        (800_000, [0, -1, -3, 5, 7]),
    ],
)
def test_tails_go_from_both_ends_and_the_odd_one_from_the_top(
    removed_ppm: int, rest: list[int]
) -> None:
    """A share of nothing or of all drops none, and the order stays."""
    assert remove_tails([0, -1, -3, 5, 7], removed_ppm) == rest


@given(st.lists(PPMS), st.integers(0, 10**6))
def test_tails_never_take_everything(samples: list[int], removed_ppm: int) -> None:
    """What had samples keeps some."""
    assert bool(remove_tails(samples, removed_ppm)) == bool(samples)


def test_a_rate_is_the_mean_of_the_hour_truncated() -> None:
    """A minute without a sample counts as 0."""
    assert funding_rate([1_000] * 60, 50_000, 600_000, terms=TERMS) == 1_000
    assert funding_rate([1_000] * 30, 50_000, 600_000, terms=TERMS) == 500
    assert funding_rate([119], 50_000, 600_000, terms=TERMS) == 1
    assert funding_rate([-119], 50_000, 600_000, terms=TERMS) == -1


def test_the_default_is_added_before_the_clamp() -> None:
    """An isolated market's 100 ppm are charged even when nobody votes."""
    assert funding_rate([], 50_000, 600_000, 100, terms=TERMS) == 100
    assert funding_rate([10**6] * 60, 50_000, 600_000, 100, terms=TERMS) == 120_000


def test_tails_are_removed_from_the_padded_hour() -> None:
    """One wild minute of sixty does not count once a tail is cut."""
    terms = FundingTerms(removed_tail_ppm=50_000)

    assert funding_rate([6_000_000], 50_000, 600_000, terms=terms) == 0


@given(st.lists(PPMS, max_size=80), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_rate_never_exceeds_its_clamp(samples: list[int], imf: int, fraction: int) -> None:
    """Six times initial less maintenance margin, either way."""
    most = funding_clamp_ppm(6_000_000, imf, fraction)

    assert -most <= funding_rate(samples, imf, fraction, terms=TERMS) <= most


@given(st.lists(PPMS, max_size=60))
def test_a_rate_mirrors_its_samples(samples: list[int]) -> None:
    """Truncation knows no sign: longs and shorts are treated alike."""
    mirrored = [-sample for sample in samples]
    rates = [funding_rate(each, 50_000, 600_000, terms=TERMS) for each in (samples, mirrored)]

    assert rates[0] == -rates[1]


def test_an_hour_of_no_minutes_is_refused() -> None:
    """There is nothing to take the mean of."""
    with pytest.raises(DataError, match="a sample"):
        funding_rate([], 1, 0, terms=FundingTerms(tick_seconds=0))
    with pytest.raises(DataError, match="more than 0 seconds, got 0"):
        funding_rate([], 1, 0, terms=FundingTerms(sample_seconds=0))


def test_a_part_of_a_minute_is_a_minute() -> None:
    """The number of samples is rounded up."""
    assert FundingTerms(sample_seconds=7, tick_seconds=60).samples_per_tick == 9


def test_the_indexer_neither_pads_nor_clamps() -> None:
    """One sample of 8,000 ppm is 0.1 % an hour to it, and almost nothing to the chain."""
    assert indexer_next_rate([8_000]) == Fraction(1, 1000)
    assert indexer_next_rate([8_000], 800) == Fraction(11, 10_000)
    assert indexer_next_rate([]) is None
    assert funding_rate([8_000], 50_000, 600_000, terms=TERMS) == 133


@pytest.mark.parametrize("level", [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_a_level_of_nothing_is_refused(level: tuple[int, int]) -> None:
    """A book holds sizes and prices; anything else is a fault further down."""
    with pytest.raises(DataError, match="a level above 0 quantums and subticks, got"):
        impact_subticks([level], 1, 0)


def test_a_price_beyond_all_exponents_is_refused() -> None:
    """Before anybody computes a power of ten that fills the memory."""
    with pytest.raises(DataError, match=r"BTC-USD: .* within ±200, got 1 and 1000000"):
        oracle_subticks(BTC, 1, 10**6)


@pytest.mark.parametrize(
    "rate", ["NaN", Decimal("Infinity"), "much", "1e-10000000", "1e9999999", "nan"]
)
def test_a_funding_rate_that_is_no_number_of_a_chain_is_refused(rate: Any) -> None:
    """At once: an exponent of millions is a number to some, and never ends."""
    with pytest.raises(DataError, match=f"expected an hourly funding rate, got {rate}"):
        funding_rate_8h_ppm(rate)


def test_an_hourly_rate_is_converted_to_eight_hours_toward_zero() -> None:
    """As on the chain."""
    assert [100, -100, 0] == [
        funding_rate_8h_ppm(rate) for rate in ("0.0000125", Decimal("-0.00001251"), "0.0000001")
    ]


def test_a_rate_is_charged_up_to_the_clamp() -> None:
    """Six times the initial less the maintenance margin, either way."""
    most = funding_clamp_ppm(6_000_000, BTC.imf_ppm, BTC.maintenance_fraction_ppm)

    assert [charged_rate(rate, BTC, TERMS) for rate in (7, most + 1, -most - 1)] == [7, most, -most]


@given(st.lists(st.lists(st.integers(-9_000, 9_000), min_size=15, max_size=80), max_size=5))
def test_an_hour_folds_votes_to_samples_to_a_rate(minutes: list[list[int]]) -> None:
    """The same as the pure functions make of them; the next hour begins with nothing."""
    hour = FundingHour(TERMS)
    for votes in minutes:
        hour.votes += votes
        hour.sample()
    samples = [premium_sample(votes, terms=TERMS) for votes in minutes]

    assert hour.samples == samples
    assert hour.settle(BTC, 100) == funding_rate(
        samples, BTC.imf_ppm, BTC.maintenance_fraction_ppm, 100, terms=TERMS
    )
    assert (hour.votes, hour.samples) == ([], [])


def test_a_vote_looks_at_the_levels_only_where_the_oracle_price_is_outside_the_spread() -> None:
    """Inside it, it is 0 whatever they are."""
    hour, sides, read = FundingHour(TERMS), ([(100_100_000, 10**10)], [(100_200_000, 9)]), []

    def levels() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        read.append(True)
        return sides

    hour.vote(BTC, 99_990_000, 100_010_000, levels, 10_000, 0)
    hour.vote(BTC, None, None, levels, 10_000, 0)
    inside = len(read)
    hour.vote(BTC, 100_100_000, 100_200_000, levels, 10_000, 0)

    assert (inside, len(read), hour.votes) == (0, 1, [0, 0, 999])  # the size is rounded up
