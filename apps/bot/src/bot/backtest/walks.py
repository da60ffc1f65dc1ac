"""Walk-forward: choose by what was known, judge by what came after it, again and again.

    since ├──── train ────┼─ test ─┤
          .        ├──── train ────┼─ test ─┤
          .                 ├──── train ────┼─ test ─┤ until

Tests follow on each other without a gap, and no hour of one was trained on before it. What all of
them together made is what somebody would have made who chose that way. Pure, but for `judge`,
which whoever walks hands in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

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


class Objective(NamedTuple):
    """Which figure is to be best, and whether that is the highest or the least."""

    name: str
    is_least: bool = False

    @classmethod
    def of(cls, name: str) -> "Objective":
        """Return the objective of a name among `OBJECTIVES`."""
        return cls(name, OBJECTIVES[name] == "minimize")

    def value(self, figures: RunFigures) -> float | None:
        """Return the figure; None where it does not exist."""
        value: float | None = getattr(figures.total, self.name)
        return value

    def worth(self, value: float | None) -> float:
        """Return a number that is higher of what is better, and least of what is unknown."""
        if value is None:
            return float("-inf")
        return -value if self.is_least else value


OBJECTIVES: Final = {
    "profit": "maximize", "sharpe": "maximize", "sortino": "maximize", "calmar": "maximize",
    "win_rate": "maximize", "profit_factor": "maximize", "expectancy": "maximize",
    "closest": "maximize", "max_drawdown": "minimize", "max_drawdown_share": "minimize",
    "drawdown_s": "minimize", "exposure": "minimize", "leverage": "minimize",
    "turnover": "minimize", "volume": "minimize", "fees_paid": "minimize",
    "slippage": "minimize", "slippage_bps": "minimize", "reductions": "minimize",
    "liquidations": "minimize",
}  # fmt: skip


class Ran(NamedTuple):
    """What a variant came to in a span, and what it raised, "" for nothing."""

    figures: RunFigures
    failure: str = ""


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """What one step came to: which was `chosen`, by what worth, and how it went on.

    `train` and `test` are the objective's values of the chosen one, None where it has none;
    `best` is the best that any had in the test: what choosing better could have made. `trained`
    and `tested` are what each came to, by the number of its name.
    """

    fold: Fold
    chosen: int
    train: float | None
    test: float | None
    best: float | None
    trained: tuple[Ran, ...]
    tested: tuple[Ran, ...]


Judge = Callable[[int, int], Sequence[Ran]]


def walked(steps: Sequence[Fold], judge: Judge, objective: Objective) -> Iterator[Walked]:
    """Walk the steps: choose the best of each training by the objective, judge it by its test.

    `judge` lets all variants trade from a time on, up to another, and returns what each came to.
    Of equal ones the first is chosen; without a value (no trade, say), or where it raised, a
    variant is chosen only where none is better.
    """
    for fold in steps:
        trained = (*judge(fold.since_ns, fold.from_ns),)
        values = [None if ran.failure else objective.value(ran.figures) for ran in trained]
        chosen = max(range(len(values)), key=lambda n: (objective.worth(values[n]), -n))
        # Warmed up by what is before it: what it knows at the first hour of the test is known.
        tested = (*judge(fold.from_ns, fold.until_ns),)
        found = [objective.value(ran.figures) for ran in tested]
        yield Walked(
            fold=fold, chosen=chosen, train=values[chosen], test=found[chosen],
            best=max(found, key=objective.worth), trained=trained, tested=tested,
        )  # fmt: skip
