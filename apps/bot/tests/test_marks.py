"""The values of a score so far: how they spread, in half a kilobyte."""

import math

import pytest
from bot.run.marks import POINTS, Marks
from hypothesis import given
from hypothesis import strategies as st


def marks_of(values: list[float]) -> Marks:
    """Add values one by one."""
    marks = Marks()
    for value in values:
        marks.add(value)
    return marks


@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_quantile_is_that_of_the_sorted_values_to_a_point(values: list[float], q: float) -> None:
    """However many there were, it is right to half a point."""
    exact = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]

    (found,) = marks_of(values).quantiles((q,))

    assert found == pytest.approx(exact, abs=0.5001)
    assert min(values) <= found <= max(values)


@given(st.lists(st.floats(0, 100), max_size=80))
def test_bins_hold_every_value_once(values: list[float]) -> None:
    """A histogram leaves nothing out."""
    assert sum(marks_of(values).bins()) == len(values)


def test_the_newest_points_are_the_curve() -> None:
    """The curve forgets what the counts remember."""
    marks = marks_of([float(n % 100) for n in range(300)])

    assert list(marks.points) == [float(n % 100) for n in range(300 - POINTS, 300)]
    assert (marks.low, marks.high, marks.count) == (0.0, 99.0, 300)
    assert marks.quantiles((0.1, 0.5, 0.9)) == [9.0, 49.0, 89.0]
    assert marks.bins() == [30] * 10
    assert Marks().quantiles((0.5,)) == []
