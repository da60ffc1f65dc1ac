"""Walk-forward: chosen by what was known, judged by what came after."""

from itertools import pairwise

import pytest
from bot.backtest.figures import Figures, RunFigures
from bot.backtest.walks import Fold, Objective, Ran, folds, walked
from dydx_conn import ConnError
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

TIMES = st.integers(1, 50)


def figures(profit: float | None) -> RunFigures:
    """Make figures of which only the profit matters."""
    return RunFigures(
        run_hash="", fidelity="book", optimism=None, since_ns=0, until_ns=0,
        total=Figures(profit=profit), markets={}, equity=(),
    )  # fmt: skip


PROFIT = Objective.of("profit")


@given(st.integers(0, 99), st.integers(0, 300), TIMES, TIMES)
def test_tests_follow_on_each_other_and_nothing_is_trained_on_its_own_test(
    since, span, train, test
):
    """Without gap or overlap, within the span, and as many as fit."""
    if span < train + test:
        with pytest.raises(ConnError, match="expected at least"):
            folds(since, since + span, train, test)
        return
    steps = folds(since, since + span, train, test)

    assert all(before.until_ns == after.from_ns for before, after in pairwise(steps))
    assert all((x.from_ns - x.since_ns, x.until_ns - x.from_ns) == (train, test) for x in steps)
    assert steps[0].since_ns == since
    assert 0 <= since + span - steps[-1].until_ns < test


@pytest.mark.parametrize(("train", "test"), [(0, 1), (1, 0), (-1, 1)])
def test_no_time_to_train_or_test_is_refused(train, test):
    """What was expected and what it was."""
    with pytest.raises(ConnError, match="above 0, got"):
        folds(0, 10, train, test)


def test_a_span_that_is_too_short_says_how_long_it_must_be():
    """In hours, and from when."""
    hour = 3_600_000_000_000
    with pytest.raises(ConnError, match="at least 3 hours, to train and to test once, got 2 from"):
        folds(0, 2 * hour, 2 * hour, hour)


def test_the_best_of_the_training_is_judged_by_its_test_alone():
    """What another would have made in the test changes nothing but what was possible."""
    profits = {2: (1.0, 2.0), 3: (9.0, -1.0)}
    played = []

    def judge(since, until):
        played.append((since, until))
        return [Ran(figures(x)) for x in profits[until]]

    step = next(walked([Fold(0, 2, 3)], judge, PROFIT))

    assert (step.chosen, step.train, step.test, step.best) == (1, 2.0, -1.0, 9.0)
    assert played == [(0, 2), (2, 3)]


@pytest.mark.parametrize(
    ("trained", "chosen"), [((None, -5.0), 1), ((None, None), 0), ((1.0, 1.0), 0)]
)
def test_an_unknown_worth_is_chosen_last_and_the_first_of_equals(trained, chosen):
    """A loss that is known beats what nobody knows."""

    def judge(since, _until):
        return [Ran(figures(x)) for x in (trained if since == 0 else (None, None))]

    step = next(walked([Fold(0, 2, 3)], judge, PROFIT))

    assert (step.chosen, step.test, step.best) == (chosen, None, None)


def test_what_raised_in_its_training_is_not_chosen():
    """However much it had made by then."""

    def judge(_since, _until):
        return [Ran(figures(9.0), "ValueError"), Ran(figures(-1.0))]

    assert next(walked([Fold(0, 2, 3)], judge, PROFIT)).chosen == 1


def test_of_what_is_to_be_small_the_least_is_chosen():
    """A drawdown, say."""
    falls = [Ran(replace(figures(0.0), total=Figures(max_drawdown=x))) for x in (3.0, 1.0, None)]
    step = next(walked([Fold(0, 2, 3)], lambda *_: falls, Objective.of("max_drawdown")))

    assert (step.chosen, step.best) == (1, 1.0)
