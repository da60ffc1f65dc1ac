"""Figures from which a person can work out a decision again, by hand."""

import math

import pytest
from dydx_signals import Score
from dydx_strategy import Look, RankAndTarget, RankSettings, composite
from hypothesis import given
from hypothesis import strategies as st
from market import Account, Market

SIGNALS = ("momentum", "imbalance", "funding", "volume", "volatility", "liquidity")
VALUES = st.dictionaries(st.sampled_from(SIGNALS), st.floats(0, 100), max_size=6)


def scores_of(values: dict[str, float]) -> list[Score]:
    """Make scores of these values."""
    return [Score("A-USD", name, value, (), 1, 1) for name, value in values.items()]


def looked(*values: float) -> Look:
    """Let several markets be looked at together; return what the strategy saw."""
    strategy, account = RankAndTarget(RankSettings(weights={"momentum": 1})), Account()
    markets = [Market(f"M{place}-USD") for place in range(len(values))]
    for at in (0, 5):
        for market, value in zip(markets, values, strict=True):
            account.take(strategy.step(market.scored(at, momentum=value), account.held))
    [look] = strategy.looks
    return look


@given(VALUES)
def test_a_composite_is_50_and_its_parts_times_its_factors(values: dict[str, float]) -> None:
    """What is added, then what scales it, within 0 to 100: no figure is missing."""
    made = composite(scores_of(values), RankSettings())

    added = math.fsum(part.part for part in made.parts)
    scaled = added * math.prod(part.factor for part in made.parts)
    by_hand = min(max(50.0 + scaled, 0.0), 100.0)
    assert made.value == pytest.approx(50.0 if made.missing else by_hand)


@given(VALUES)
def test_a_part_is_its_share_of_the_weights_that_are_there(values: dict[str, float]) -> None:
    """A weight of a score that is missing counts for nothing."""
    made = composite(scores_of(values), RankSettings())

    weighed = [part for part in made.parts if part.weight]
    whole = sum(part.weight for part in weighed)
    by_hand = [(part.value - 50.0) * part.weight / whole for part in weighed]
    assert [part.part for part in weighed] == pytest.approx(by_hand)


def test_too_few_scores_come_to_no_opinion_and_say_which_lack() -> None:
    """Below the quorum the composite is 50, of nothing."""
    made = composite(scores_of({"imbalance": 99.0}), RankSettings())

    assert (made.value, made.parts, made.missing) == (50.0, (), "it has no momentum, funding yet")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4).filter(lambda x: max(x) >= 60))
def test_a_size_is_worked_out_from_equity_share_and_strength(values: list[float]) -> None:
    """market_share of the equity, times the least and what the strength adds to it."""
    look = looked(*values)
    settings = look.settings

    least, equity = settings.smallest_share, look.equity_usdc or 0.0
    by_hand = [
        round(settings.market_share * equity * (least + (1.0 - least) * row.strength))
        for row in look.markets
    ]
    assert [abs(row.earns_usdc) for row in look.markets] == by_hand


def test_the_runner_up_stands_behind_with_the_reason_why_it_gets_nothing() -> None:
    """The strongest first; what has no place, and what is below its threshold, say so."""
    look = looked(66.0, 90.0, 55.0, 30.0, 62.0)

    assert [(row.ticker, row.why.partition(":")[0]) for row in look.markets] == [
        ("M1-USD", "score 90.0 ≥ 60 to go long"),
        ("M3-USD", "score 30.0 ≤ 40 to go short"),
        ("M0-USD", "score 66.0 ≥ 60 to go long"),
        ("M4-USD", "no place"),
        ("M2-USD", "score 55.0 < 60 to go long"),
    ]
    assert [row.gets_usdc != 0 for row in look.markets] == [True, True, True, False, False]


def test_a_size_that_the_room_cuts_shows_what_it_wanted() -> None:
    """Of 30,000 USDC the third gets what two of 12,000 leave."""
    look = looked(90.0, 80.0, 76.0)

    assert [row.wants_usdc for row in look.markets] == [12_000.0] * 3
    assert [row.gets_usdc for row in look.markets] == [12_000.0, 12_000.0, 6_000.0]
    assert (look.gross_usdc, look.limit_usdc, look.taken) == (0.0, 30_000.0, 0)


def test_a_look_that_decides_nothing_is_the_newest_and_no_more() -> None:
    """What decided something is remembered; what did not is shown until the next look."""
    strategy, account, market = RankAndTarget(RankSettings()), Account(), Market()
    for at in (0, 5):
        account.take(strategy.step(market.scored(at, momentum=50.0, imbalance=50.0), account.held))

    assert strategy.looked is not None
    assert not strategy.looks


def test_what_is_silenced_is_scaled_by_nothing_of_no_sign() -> None:
    """At the extreme a factor is 0, and reads so."""
    made = composite(
        scores_of({"momentum": 0.0, "imbalance": 0.0, "liquidity": 5.0}), RankSettings()
    )

    assert [str(part.factor) for part in made.parts if not part.weight] == ["0.0"]
