"""The proof of calibration in small: eight random walks, and an hour or three of a planted drift."""

import pytest
from calibration import coverage, planted, up_share
from dydx_signals import STANDARD


def test_on_random_walks_no_score_is_worth_anything() -> None:
    """Of the standard six, nearly every interval has 0 in it (100 seeds: 95 of 100).

    Scores of one walk go wrong together, all nineteen more than six: two seeds would say little.
    """
    known, inside = coverage(8, 2_400)
    six = [cell for cell in known if cell[0] in {make().name for make in STANDARD}]

    assert len({signal for signal, _ in six}) == len(STANDARD)
    assert sum(inside[cell] for cell in six) >= 21 / 24 * sum(known[cell] for cell in six)


def test_a_planted_drift_is_found() -> None:
    """The curve is near the odds that were planted, in every tenth that scores fell into."""
    rows = planted(1, 10_000)

    assert len(rows) >= 6
    for _, count, got, true in rows:
        if count >= 1_000:
            assert got == pytest.approx(true, abs=0.07)


def test_the_share_of_ups_is_that_of_the_steps() -> None:
    """Three steps of even odds go up in half of all cases; sure ones always, or never."""
    assert up_share([0.5] * 3) == pytest.approx(0.5)
    assert (up_share([1.0] * 3), up_share([0.0] * 3)) == (1.0, 0.0)
    assert up_share([0.9, 0.9, 0.0]) == pytest.approx(0.81)
