"""The values of a score so far, for whoever looks: a curve of the newest, and how they spread.

    Bot.follow ─► a point of each score, every five seconds ─► Marks.add ─► points, quantiles, bins

Nothing here is read by a layer. It takes half a kilobyte a score, however long the run.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

POINTS: Final = 60
_STEPS: Final = 101  # a count for each whole point from 0 to 100


class Marks:
    """The values of one score of one market, oldest first; `count` of them so far."""

    __slots__ = ("_counts", "count", "high", "low", "points")

    def __init__(self) -> None:
        self.points: deque[float] = deque(maxlen=POINTS)
        self.count = 0
        self.low, self.high = 100.0, 0.0
        self._counts = array("Q", bytes(8 * _STEPS))

    def add(self, value: float) -> None:
        """Add a value from 0 to 100."""
        self.points.append(value)
        self.count += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        self._counts[round(min(max(value, 0.0), 100.0))] += 1

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the values that shares of all do not exceed, to the whole point; none of none."""
        if not self.count:
            return []
        passed = [*accumulate(self._counts)]
        places = (bisect_left(passed, max(share * self.count, 1)) for share in shares)
        return [min(max(float(value), self.low), self.high) for value in places]

    def bins(self, number: int = 10) -> list[int]:
        """Return how many values lie in each of so many equal parts of 0 to 100."""
        edges = [-(-100 * place // number) for place in range(number)] + [_STEPS]
        return [sum(self._counts[a:b]) for a, b in pairwise(edges)]  # integers
