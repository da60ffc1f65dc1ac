"""Walk-forward: chosen by what was known, judged by what came after."""

from itertools import pairwise

import pytest
from bot.backtest.figures import Figures, RunFigures
from bot.backtest.walks import Fold, folds, walked
from dydx_conn import ConnError
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.integers(1, 50)


def figures(profit: float | None) -> RunFigures:
    """Make figures of which only the profit matters."""
    return RunFigures(
        run_hash="", fidelity="book", optimism=None, since_ns=0, until_ns=0,
        total=Figures(profit=profit), markets={}, equity=(),
    )  # fmt: skip


def profit_of(of: RunFigures) -> float | None:
    """Judge by profit."""
    return of.total.profit


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
    profits = {("a", 2): 1.0, ("b", 2): 2.0, ("a", 3): 9.0, ("b", 3): -1.0}
    played = []

    def judged(names, since, opens, until):
        played.append((since, opens, until))
        return [figures(profits[name, until]) for name in names]

    step = walked([Fold(0, 2, 3)], ["a", "b"], judged, profit_of)[0]

    assert (step.chosen, step.train, step.test, step.best) == ("b", 2.0, -1.0, 9.0)
    assert played == [(0, 0, 2), (0, 2, 3)]


@pytest.mark.parametrize(
    ("trained", "chosen"), [((None, -5.0), "b"), ((None, None), "a"), ((1.0, 1.0), "a")]
)
def test_an_unknown_worth_is_chosen_last_and_the_first_of_equals(trained, chosen):
    """A loss that is known beats what nobody knows."""

    def judged(_names, _since, opens, _until):
        return [figures(x) for x in (trained if opens == 0 else (None, None))]

    step = walked([Fold(0, 2, 3)], ["a", "b"], judged, profit_of)[0]

    assert (step.chosen, step.test, step.best) == (chosen, None, None)
