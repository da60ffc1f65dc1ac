"""How an account did by month and by year: what it returned, how far it fell, its trades.

    points of equity, trades as they ended ─► months_of ─► months, a year below those of it

A month returns what it ended with over what the one before it ended with, UTC; transfers are taken
out. Its fall is from the highest point since its own beginning.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from bot.pages.shape import Month, exact
from bot.times import iso

_DAY_NS = 86_400_000_000_000


class Point(NamedTuple):
    """What an account was worth at a time (ns), and what of that was brought in: quote quantums."""

    at: int
    equity: int
    transfers: int = 0


def months_of(points: Sequence[Point], ended: Iterable[tuple[int, int]]) -> tuple[Month, ...]:
    """Return the months, and below the months of each year the year; nothing of a day or less.

    `ended` are trades by when they ended (ns) and what they came to, quote quantums.
    """
    if len(points) < 2 or points[-1].at - points[0].at <= _DAY_NS:
        return ()
    trades, found = sorted(ended), list[Month]()
    before = points[0]
    for year, of_year in groupby(points, lambda point: iso(point.at)[:4]):
        those, first, months = [*of_year], before, list[Month]()
        for name, of_month in groupby(those, lambda point: iso(point.at)[:7]):
            rows = [*of_month]
            months.append(_month(name, before, rows, trades))
            before = rows[-1]
        found += months
        if len(months) > 1:
            found.append(_month(year, first, those, trades))
    return tuple(found)


def _month(
    name: str, before: Point, points: Sequence[Point], trades: Sequence[tuple[int, int]]
) -> Month:
    ended = [net for at, net in trades if iso(at).startswith(name)]
    won = _profit(points[-1]) - _profit(before)
    return Month(
        name=name, net=exact(won), returned=won / before.equity if before.equity > 0 else None,
        drawdown=_fall([before, *points]), trades=len(ended),
        won=sum(net > 0 for net in ended),  # integers
    )  # fmt: skip


def _profit(point: Point) -> int:
    return point.equity - point.transfers


def _fall(points: Sequence[Point]) -> float | None:
    """Return the deepest fall of the profit, as a share of the equity at the peak."""
    peak, worth, deepest = _profit(points[0]), points[0].equity, 0.0
    for point in points:
        if _profit(point) >= peak:
            peak, worth = _profit(point), point.equity
        elif worth <= 0:
            return None
        else:
            deepest = max(deepest, (peak - _profit(point)) / worth)
    return deepest
