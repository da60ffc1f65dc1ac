"""The funding outlook: what the venue's figure says of the hour, and what our own votes do."""

from collections.abc import Sequence
from decimal import Decimal

import pytest
from dydx_conn import WireWriter, market_fields
from dydx_data import DataState, FundingOutlook, FundingTerms, funding_outlook, funding_rate, step
from hypothesis import given, settings
from hypothesis import strategies as st

HOUR = 1_767_225_600 * 1_000_000_000  # the writer's first instant is a full hour
SECOND = 1_000_000_000
TERMS = FundingTerms()


def mean_1h(samples: Sequence[int], default_ppm: int = 0) -> str:
    """Write the mean of samples as the indexer does, to 20 places."""
    mean = Decimal(sum(samples)) / len(samples) + default_ppm
    return f"{mean / 8_000_000:.20f}"


def begun(at_s: float = 0.0, **fields: object) -> tuple[DataState, WireWriter]:
    """Begin with one market, whose rate is not known yet, so many seconds into an hour."""
    state, link = DataState(), WireWriter(at=HOUR + int(at_s * SECOND))
    fields = {"price": "100", "nextFundingRate": None, **fields}
    step(state, link.markets(market_fields("BTC-USD", **fields)))  # type: ignore[arg-type]
    step(state, link.block())
    return state, link


def report(state: DataState, link: WireWriter, second: float, rate: str) -> None:
    """Report a rate so many seconds into the hour."""
    link.at = HOUR + int(second * SECOND)
    step(state, link.block())
    step(state, link.trading("BTC-USD", nextFundingRate=rate))


def outlook(state: DataState) -> FundingOutlook:
    """Read it; here it is always known."""
    found = funding_outlook(state.views["BTC-USD"])
    assert found is not None
    return found


@settings(max_examples=15)
@given(st.lists(st.integers(-9_000, 9_000), min_size=60, max_size=60), st.sampled_from([0, 100]))
def test_with_all_samples_known_the_outlook_is_what_the_chain_settles(
    samples: list[int], default: int
) -> None:
    """To the ppm; each sample is at half past, and its share is known with it."""
    state, link = begun(defaultFundingRate1H=f"{Decimal(default) / 8_000_000:f}")
    for count in range(1, 61):
        report(state, link, 60 * count - 29, mean_1h(samples[:count], default))
        known = outlook(state).share_known
        assert known == pytest.approx(count / 60)

    market = state.views["BTC-USD"].market
    assert market is not None
    settled = funding_rate(
        samples, market.imf_ppm, market.maintenance_fraction_ppm, default, terms=TERMS
    )
    assert outlook(state).predicted_ppm == settled
    assert outlook(state).seconds_to_tick == 29


def test_what_is_still_to_come_is_taken_to_be_as_the_newest_sample() -> None:
    """Half of the hour at 100 and the newest at 700: thirty at each, but the one."""
    state, link = begun()
    funding_outlook(state.views["BTC-USD"])  # from now on figures are compared
    report(state, link, 60 * 29 - 29, mean_1h([100] * 29))
    report(state, link, 60 * 30 - 29, mean_1h([100] * 29 + [700]))
    seen = outlook(state)

    assert seen.predicted_ppm == (29 * 100 + 31 * 700) // 60
    assert seen.share_known == 0.5
    assert seen.venue_ppm == pytest.approx(120)
    assert seen.rate_1h == seen.predicted_ppm / 8e6


def test_the_digits_tell_how_many_samples_an_indexer_has() -> None:
    """One that began late has fewer than the hour, and the chain pads what is missing with 0."""
    samples = [903, 151, 420, 610, 377, 12, 95, 818, 266, 741, 530, 89, 404]
    state, link = begun()
    funding_outlook(state.views["BTC-USD"])
    for number in range(9, 14):
        report(state, link, 60 * (40 + number) - 29, mean_1h(samples[:number]))

    assert outlook(state).predicted_ppm == (sum(samples) + 7 * 404) // 60


def test_a_rate_beyond_the_clamp_is_charged_up_to_it() -> None:
    """Six times the initial less the maintenance margin."""
    state, link = begun()
    report(state, link, 3_571, mean_1h([500_000]))
    seen = outlook(state)

    assert seen.is_clamped
    assert seen.predicted_ppm == seen.clamp_ppm == 120_000


def test_a_new_hour_begins_with_nothing_known_and_the_last_level() -> None:
    """A figure that comes before the first sample is still the last hour's."""
    state, link = begun()
    report(state, link, 3_571, mean_1h([600] * 60))
    link.wait(40)
    report(state, link, 3_611, mean_1h([600] * 60))
    seen = outlook(state)

    assert (seen.share_known, seen.predicted_ppm, seen.seconds_to_tick) == (0.0, 600, 3_589)


def test_without_parameters_or_any_sample_there_is_no_outlook() -> None:
    """Unknown is absent."""
    state, link = DataState(), WireWriter()
    step(state, link.trading("BTC-USD", nextFundingRate="0.0001"))
    unknown = funding_outlook(state.views["BTC-USD"])
    state, link = begun()

    assert unknown is None
    assert funding_outlook(state.views["BTC-USD"]) is None


def test_our_own_votes_are_cast_from_when_somebody_reads() -> None:
    """Whole minutes alone; they stand for the venue's figure where it has none."""
    state, link = begun(5)
    step(state, link.book("BTC-USD", [("101", "10000")], [("102", "10000")]))
    view = state.views["BTC-USD"]
    for second in range(6, 100):
        link.at = HOUR + second * SECOND
        step(state, link.block())
    unread = (dict(view.premium.own), funding_outlook(view))
    for second in range(100, 280):
        link.at = HOUR + second * SECOND
        step(state, link.block())
    seen = outlook(state)

    assert unread == ({}, None)
    # The minutes to 3:30 and 4:30 were voted on from their first block to their last.
    assert [*view.premium.own.values()] == [9_999, 9_999]  # the size is rounded up
    assert (seen.own_ppm, seen.venue_ppm, seen.share_known) == (9_999, None, 0)
    assert seen.predicted_ppm == 9_999


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([("101", "0.00000000000001")], [("102", "1")]),
        ([("101.00001", "1")], [("101.000011", "1")]),
        ([], [("0.0000001", "1")]),
    ],
    ids=["size", "touching", "price"],
)
def test_levels_off_the_grid_stop_no_vote(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]]
) -> None:
    """The chain has none; the block is folded, and the markets after it are voted on."""
    state, link = begun()
    funding_outlook(state.views["BTC-USD"])
    step(state, link.book("BTC-USD", bids, asks))
    for _ in range(130):
        link.wait(1)
        step(state, link.block())

    assert len(state.views["BTC-USD"].premium.own) == 1


def test_hourly_rates_come_from_answers_each_once() -> None:
    """In order of time, at most 240; an odd row costs itself alone."""
    state, link = begun()
    rows = [
        {"ticker": "BTC-USD", "rate": f"0.{n:04d}", "price": "1",
         "effectiveAt": f"2025-12-{1 + n // 24:02d}T{n % 24:02d}:00:00.000Z"}
        for n in range(250)
    ]  # fmt: skip
    path = "/v4/historicalFunding/BTC-USD?limit=100"
    step(state, link.answer(path, {"historicalFunding": rows[::-1][:100]}))
    odd = {**rows[0], "rate": "much"}
    step(state, link.answer(path, {"historicalFunding": [odd, *rows[::-1]]}))
    step(state, link.answer(path, {"errors": []}, 404))
    step(state, link.answer(path, "no answer"))
    view = state.views["BTC-USD"]

    assert [*view.premium.rates.values()] == [n / 10_000 for n in range(10, 250)]
    assert view.quality.counts == {"malformed": 2}
