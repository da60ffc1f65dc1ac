"""How the account went over a whole run, in so few points that a screen can draw all of them.

    event time, margin, falls ──► Curve.take ──► columns of at most MOST points

A point stands for a second of event time; what moves the account within one is taken at once. Once
there are as many as are drawn, two become one and each stands for twice as long: a run of a minute
and one of a month cost the same, at every frame one comparison.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from dydx_risk import Falls, MarginFigures

MOST: Final = 600
SECOND_NS: Final = 1_000_000_000


# at, seq, equity, low, high, profit, fall, distance, leverage
Row = tuple[int, int, float, float, float, float, float, float | None, float | None]


class Columns(msgspec.Struct, frozen=True, gc=False):
    """The points, oldest first, a tuple for each figure; money is USDC.

    `at` is event time, `seqs` the newest frame of each point. `equity` is how its time ended, `low`
    and `high` the least and the most of it in between; `distance` is the closest, `leverage` the
    highest, each None where nothing was held. `profit` is since the first point, transfers aside,
    `fall` how deep it was below its peak at most, as a share of the equity there.
    """

    at: tuple[int, ...] = ()
    seqs: tuple[int, ...] = ()
    equity: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    profit: tuple[float, ...] = ()
    fall: tuple[float, ...] = ()
    distance: tuple[float | None, ...] = ()
    leverage: tuple[float | None, ...] = ()


class Result(msgspec.Struct, frozen=True, gc=False):
    """What the account won and lost when its last point was taken: USDC, and shares of equity."""

    today: float
    depth: float
    depth_share: float
    deepest: float
    deepest_share: float
    leverage_now: float | None


class Curve:
    """The points of one run, thinned as it goes on; `every_ns` is how long each of them stands."""

    def __init__(self, most: int = MOST) -> None:
        self.every_ns = SECOND_NS
        self._most, self._due, self._worth = most, 0, 0
        self._rows: list[Row] = []
        self._began: int | None = None  # the profit from which it counts
        self._columns: Columns | None = None
        self.result: Result | None = None

    def take(self, at: int, seq: int, margin: MarginFigures, paid_in: int, falls: Falls) -> None:
        """Take in how the account stands, if that is due; what is not known is left out.

        It is due once a second, and when the equity has moved by a thousandth. What was `paid_in`
        since the start, quote quantums, is no profit.
        """
        moved = 1_000 * abs(margin.net_collateral - self._worth) > abs(self._worth)
        if margin.unknown or (at < self._due and not moved):
            return
        self._due, self._worth = at + SECOND_NS, margin.net_collateral
        profit = margin.net_collateral - paid_in
        if self._began is None:
            self._began = profit
        equity, since = margin.net_collateral / 1e6, (profit - self._began) / 1e6
        fall = falls.share_of(margin.net_collateral)
        self.result = Result(
            falls.today / 1e6,
            falls.depth / 1e6,
            fall,
            falls.deepest / 1e6,
            falls.share,
            margin.leverage,
        )
        row = at, seq, equity, equity, equity, since, fall, margin.distance, margin.leverage
        if self._rows and at // self.every_ns == self._rows[-1][0] // self.every_ns:
            self._rows[-1] = _joined(self._rows[-1], row)
        else:
            self._rows.append(row)
        if len(self._rows) > self._most:
            self.every_ns *= 2
            self._rows = thinned(self._rows, self.every_ns)
        self._columns = None

    @property
    def columns(self) -> Columns:
        """Return all points; the same value again until there is another one."""
        if self._columns is None:
            self._columns = columns_of(self._rows)
        return self._columns


def columns_of(rows: Sequence[Row]) -> Columns:
    """Return points as a tuple for each of their figures."""
    return Columns(*zip(*rows, strict=True)) if rows else Columns()


def thinned(rows: Sequence[Row], every_ns: int) -> list[Row]:
    """Make one point of those that share so long a time: no extreme of any is lost."""
    found = [*rows[:1]]
    for row in rows[1:]:
        if row[0] // every_ns == found[-1][0] // every_ns:
            found[-1] = _joined(found[-1], row)
        else:
            found.append(row)
    return found


def _joined(one: Row, other: Row) -> Row:
    """Make one point of two that follow each other: no extreme of either is lost."""
    at, seq, equity, low, high, profit, fall, distance, leverage = other
    return (
        at, seq, equity, min(one[3], low), max(one[4], high), profit, max(one[6], fall),
        _extreme(min, one[7], distance), _extreme(max, one[8], leverage),
    )  # fmt: skip


def _extreme(choose: Callable[[Iterable[float]], float], *figures: float | None) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return choose(known) if known else None
