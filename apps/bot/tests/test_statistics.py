"""What luck makes of results: intervals, rivals by chance, and the best of many."""

import math
from operator import mul
from random import Random
from statistics import fmean

import pytest
from bot.backtest.statistics import (
    FEWEST_BLOCKS,
    OF_RETURNS,
    OF_TRADES,
    Path,
    against,
    by_chance,
    calmar,
    deflated_sharpe,
    drawn,
    expected_best,
    max_drawdown,
    overfitting,
    probabilistic_sharpe,
    profit_factor,
    resampled,
    sharpe,
    sortino,
    spells,
    total_return,
    win_rate,
)
from hypothesis import given
from hypothesis import strategies as st

RETURNS = st.lists(st.floats(-0.5, 0.5), max_size=60)
WALKS = 100


def walk(seed: int, count: int, drift: float = 0.0) -> list[float]:
    """Make hourly returns of a walk."""
    chance = Random(seed)
    return [chance.gauss(drift, 0.01) for _ in range(count)]


# === Figures ===


@pytest.mark.parametrize(
    ("figure", "of", "expected"),
    [
        (total_return, [0.1, -0.5], -0.45),
        (total_return, [], 0.0),
        (sharpe, [0.01], None),
        (sharpe, [0.01, 0.01], None),
        (sharpe, [0.0, 0.02], 0.01 / (0.02 / math.sqrt(2)) * math.sqrt(8760)),
        (sortino, [0.01, 0.02], None),
        (sortino, [], None),
        (sortino, [0.03, -0.01], 0.01 / math.sqrt(0.0001 / 2) * math.sqrt(8760)),
        (max_drawdown, [0.1, -0.5, 0.2], 0.5),
        (max_drawdown, [], 0.0),
        (calmar, [0.1], None),
        (calmar, [-1.0], None),
        (win_rate, [1.0, -1.0, 0.0, 2.0], 0.5),
        (win_rate, [], None),
        (profit_factor, [3.0, -2.0], 1.5),
        (profit_factor, [3.0], None),
    ],
)
def test_a_figure_is_its_definition_and_unknown_where_it_has_none(figure, of, expected):
    """The values by hand; what is not defined is None."""
    assert figure(of) == (None if expected is None else pytest.approx(expected))


def test_calmar_is_a_years_return_over_the_deepest_fall():
    """One per cent up and half a per cent down an hour, over two hours, as a year."""
    returns = [0.0001, -0.00005]
    a_year = (1.0001 * 0.99995) ** (8760 / 2) - 1

    assert calmar(returns) == pytest.approx(a_year / 0.00005)


@given(RETURNS)
def test_a_drawdown_lies_between_nothing_and_all(returns):
    """No order of returns above -100 % makes it more than all of the peak."""
    assert 0.0 <= max_drawdown(returns) < 1.0


# === Intervals ===


@given(st.lists(st.integers(), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 99))
def test_a_sample_is_as_long_and_of_whole_neighbours(values, block, seed):
    """What follows a value within a block is what follows it in the circle."""
    block = min(block, len(values))
    places = drawn(range(len(values)), block, Random(seed))

    assert len(places) == len(values)
    apart = [n for n in range(1, len(places)) if n % block]
    assert all((places[n] - places[n - 1]) % len(values) == 1 % len(values) for n in apart)


@pytest.mark.no_cover  # it counts over many walks
def test_intervals_hold_the_truth_about_as_often_as_they_claim():
    """Of 100 walks without drift the mean's interval holds 0 in about 95 of 100."""
    hit = 0
    for seed in range(WALKS):
        mean = resampled(walk(seed, 96), {"mean": fmean}, seed=seed, block=4, resamples=100)["mean"]
        assert mean.low is not None
        assert mean.high is not None
        hit += mean.low <= 0.0 <= mean.high

    assert 0.88 <= hit / WALKS <= 0.99


def test_a_drift_is_shown_and_its_absence_is_not():
    """A drift of a third of the deviation over ten days is shown; a walk's is not."""
    drifts = resampled(walk(1, 240, 0.0034), {"return": total_return}, seed=1)["return"]
    stands = resampled(walk(1, 240, 0.0), {"return": total_return}, seed=1)["return"]

    assert (drifts.shown, stands.shown) == (True, False)


@pytest.mark.parametrize("count", [0, 1, FEWEST_BLOCKS - 1])
def test_too_little_makes_no_interval(count):
    """A value may be known and its interval not."""
    found = resampled(walk(1, count), OF_RETURNS)

    assert {(x.low, x.high, x.shown) for x in found.values()} == {(None, None, False)}


def test_a_figure_that_many_samples_do_not_have_has_no_interval():
    """Two losses among sixteen trades: one sample in eight has none, and no profit factor."""
    found = resampled([1.0] * 14 + [-1.0] * 2, OF_TRADES, block=1, resamples=300)

    assert found["profit_factor"].value == 7.0
    assert found["profit_factor"].low is None
    assert found["win_rate"].low is not None


def test_the_same_seed_draws_the_same_interval():
    """Nothing but the seed decides."""
    returns = walk(3, 48)

    assert resampled(returns, OF_RETURNS, seed=5) == resampled(returns, OF_RETURNS, seed=5)


# === Luck ===


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), max_size=50))
def test_spells_are_all_periods_in_which_something_is_held(path):
    """None is lost, and a spell has one direction, as large as its periods."""
    found = spells(path)

    assert sum(end - begin for begin, end, _ in found) == sum(x != 0 for x in path)
    for begin, end, usdc in found:
        assert all(x * usdc > 0 for x in path[begin:end])
        assert (end - begin) * usdc**2 == pytest.approx(sum(x * x for x in path[begin:end]))


@pytest.mark.replays
def test_a_strategy_that_sees_the_future_is_not_luck():
    """Long in each period that rises, short in each that falls."""
    moves = walk(2, 120)
    held = [1_000.0 if x > 0 else -1_000.0 for x in moves]
    profit = sum(h * x for h, x in zip(held, moves, strict=True))

    luck = by_chance([Path({"BTC-USD": held}, {"BTC-USD": moves})], profit)

    assert not luck.is_luck
    assert luck.better == 0.0


@pytest.mark.no_cover  # it counts over many walks
def test_a_strategy_that_tosses_a_coin_is_luck_about_as_often_as_claimed():
    """Of 60 coins about 57 lie within the interval, whatever they cost, also in two runs."""
    lucky = 0
    for seed in range(60):
        chance, walks = Random(f"coin {seed}"), (walk(seed, 72), walk(seed + 100, 48))
        paths = [
            Path({"A-USD": [chance.choice((-500.0, 0.0, 500.0)) for _ in moves]}, {"A-USD": moves})
            for moves in walks
        ]
        gained = [sum(map(mul, p.held["A-USD"], p.moves["A-USD"])) for p in paths]
        lucky += by_chance(paths, sum(gained) - 3.0, seed=seed, rivals=100).is_luck

    assert lucky >= 53


def test_markets_that_move_together_are_one_bet():
    """Two of the same moves, held at once, may win or lose twice what one does."""
    moves = walk(3, 200)
    held = [100.0 * (n % 7 < 3) for n in range(200)]
    one = by_chance([Path({"A-USD": held}, {"A-USD": moves})], 0.0)
    two = by_chance([Path({"A-USD": held, "B-USD": held}, {"A-USD": moves, "B-USD": moves})], 0.0)

    assert one.high is not None
    assert two.high == pytest.approx(2 * one.high)


def test_who_held_nothing_is_not_judged():
    """Without a spell there are no rivals, and nothing is shown; nor of an unknown profit."""
    nothing = Path({"A-USD": [0.0] * 50}, {"A-USD": [0.01] * 50})
    short = Path({"A-USD": [1.0] * 5}, {"A-USD": [0.01] * 5})
    long = Path({"A-USD": [1.0] * 50}, {"A-USD": [0.01] * 50})

    for paths, profit in (([], 0.0), ([nothing], 0.0), ([short], 0.0), ([long], None)):
        luck = by_chance(paths, profit)
        assert (luck.profit, luck.low, luck.better, luck.is_luck) == (profit, None, None, True)


def test_moves_of_other_periods_are_refused():
    """A path and its moves are of the same periods."""
    with pytest.raises(ValueError, match="expected a move of A-USD for each of 2 periods, got 1"):
        by_chance([Path({"A-USD": [1.0, 1.0]}, {"A-USD": [0.1]})], 0.0)


def test_what_is_ahead_of_holding_is_their_difference():
    """Half of the market's moves and a steady gain over them."""
    market = walk(4, 96)
    mine = [x + 0.001 for x in market]

    ahead = against(mine, market)

    assert ahead.value == pytest.approx(0.096)
    assert ahead.shown


# === Many trials ===


def test_the_probability_of_a_sharpe_is_half_at_what_was_measured():
    """The measured ratio is as likely too high as too low; a lower one is surer."""
    returns = walk(1, 200, 0.002)
    ratio = sharpe(returns, 1.0)
    assert ratio is not None

    assert probabilistic_sharpe(returns, ratio) == pytest.approx(0.5)
    assert (probabilistic_sharpe(returns, 0.0) or 0.0) > 0.5
    assert probabilistic_sharpe([0.1, 0.1, 0.1]) is None
    assert probabilistic_sharpe([0.1, 0.2]) is None


def test_the_best_of_more_trials_is_expected_to_be_better():
    """By chance alone: a hundred walks have a better best than ten."""
    ratios = [sharpe(walk(seed, 100), 1.0) or 0.0 for seed in range(100)]

    assert 0.0 == expected_best(ratios[:1]) < expected_best(ratios[:10]) < expected_best(ratios)
    assert expected_best(ratios) == pytest.approx(max(ratios), rel=0.35)


def test_the_best_of_many_walks_is_deflated_and_a_true_edge_is_not():
    """What looks sure by itself is not, as the best of a hundred."""
    walks = [walk(seed, 200) for seed in range(100)]
    best = max(range(100), key=lambda n: sharpe(walks[n], 1.0) or 0.0)
    edge = [*walks, walk(1_000, 200, 0.005)]

    assert (probabilistic_sharpe(walks[best]) or 0.0) > 0.95
    assert (deflated_sharpe(walks, best) or 1.0) < 0.8
    assert (deflated_sharpe(edge, 100) or 0.0) > 0.95


@pytest.mark.no_cover  # it counts over many walks
def test_the_best_of_walks_is_as_often_among_the_worse_half():
    """Without an edge it is a coin; with one it is hardly ever."""
    found = [
        overfitting([walk(1_000 * at + seed, 120) for seed in range(20)], 8) for at in range(12)
    ]
    edge = [*[walk(seed, 120) for seed in range(20)], walk(1_000, 120, 0.006)]

    assert 0.3 <= fmean([x.probability for x in found if x is not None]) <= 0.75
    sure = overfitting(edge, 8)
    assert sure is not None
    assert sure.probability < 0.05
    assert sure.halves == 70


def test_equal_variants_are_a_coin_that_never_wins():
    """Twins say nothing: the chosen one stands in the middle, which is not above it."""
    twins = overfitting([walk(1, 40)] * 4, 4)

    assert twins is not None
    assert twins.probability == 1.0


@pytest.mark.parametrize(("trials", "parts"), [([], 4), ([[0.1] * 8], 4), ([[0.1], [0.2]], 4)])
def test_too_few_trials_or_hours_are_not_judged(trials, parts):
    """One variant cannot be the best of several."""
    assert overfitting(trials, parts) is None


def test_parts_that_cannot_be_halved_and_returns_of_other_hours_are_refused():
    """The caller is wrong, not the market."""
    with pytest.raises(ValueError, match="expected an even number of parts, got 5"):
        overfitting([[0.1] * 50] * 2, 5)
    with pytest.raises(ValueError, match=r"as many returns of each variant, got \[3, 4\]"):
        overfitting([[0.1] * 3, [0.1] * 4], 2)


@given(st.permutations(range(6)))
def test_the_order_of_variants_does_not_matter(order):
    """Where no two are equal."""
    trials = [walk(seed, 48) for seed in range(6)]

    assert overfitting([trials[n] for n in order], 4) == overfitting(trials, 4)
