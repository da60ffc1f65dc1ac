"""Walk-forward: choose by what was known, judge by what came after it, again and again.

    since ├──── train ────┼─ test ─┤
          .        ├──── train ────┼─ test ─┤
          .                 ├──── train ────┼─ test ─┤ until

Tests follow on each other without a gap, and no hour of one was trained on before it. What all of
them together made is what somebody would have made who chose that way. Pure, but for `judged`,
which whoever walks hands in.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from dydx_conn import ConnError

from bot.backtest.figures import RunFigures
from bot.times import iso


class Fold(NamedTuple):
    """One step: trained from `since_ns` to `from_ns`, tested from there to `until_ns`."""

    since_ns: int
    from_ns: int
    until_ns: int


def folds(since_ns: int, until_ns: int, train_ns: int, test_ns: int) -> list[Fold]:
    """Return the steps of a span; what is left at its end and shorter than a test is not used.

    `ConnError` if not even one fits.
    """
    if train_ns <= 0 or test_ns <= 0:
        raise ConnError(f"expected times to train and to test above 0, got {train_ns}, {test_ns}")
    begins = range(since_ns, until_ns - train_ns - test_ns + 1, test_ns)
    if not begins:
        hours = [round(ns / 3.6e12, 2) for ns in (train_ns + test_ns, until_ns - since_ns)]
        what = f"expected at least {hours[0]:g} hours, to train and to test once"
        raise ConnError(f"{what}, got {hours[1]:g} from {iso(since_ns)} on")
    return [Fold(at, at + train_ns, at + train_ns + test_ns) for at in begins]


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to: which was `chosen`, by what worth, and how it went on.

    `train` and `test` are the objective's values of the chosen one, None where it has none;
    `best` is the best that any had in the test: what choosing better could have made.
    """

    fold: Fold
    chosen: str
    train: float | None
    test: float | None
    best: float | None
    figures: RunFigures


Judged = Callable[[Sequence[str], int, int, int], Sequence[RunFigures]]
Objective = Callable[[RunFigures], float | None]


def walked(
    steps: Sequence[Fold], names: Sequence[str], judged: Judged, objective: Objective
) -> list[Walked]:
    """Walk the steps: choose the best of each training by the objective, judge it by its test.

    `judged` plays variants by name from a time on, lets them trade from another on, to a third,
    and returns the figures of each. Of equal ones the first is chosen; without a value (no trade,
    say) a variant is chosen only where none has one.
    """
    return [_step(fold, names, judged, objective) for fold in steps]


def _step(fold: Fold, names: Sequence[str], judged: Judged, objective: Objective) -> Walked:
    trained = [objective(x) for x in judged(names, fold.since_ns, fold.since_ns, fold.from_ns)]
    # Warmed up by what it was trained on: what it knows at the first hour of the test is known.
    tested = judged(names, fold.since_ns, fold.from_ns, fold.until_ns)
    worths = [objective(x) for x in tested]
    best = max(range(len(names)), key=lambda n: (_or_least(trained[n]), -n))
    return Walked(
        fold=fold, chosen=names[best], train=trained[best], test=worths[best],
        best=max((x for x in worths if x is not None), default=None), figures=tested[best],
    )  # fmt: skip


def _or_least(value: float | None) -> float:
    return float("-inf") if value is None else value
