"""What goes wrong on the wire, counted by class, endpoint and minute: rows of the database.

frame ──► Errors.note (bot.run.faults) ──► counts of the minute ──► rows, once a second
"""

from collections.abc import Iterator
from typing import Any, Final

from dydx_conn import Frame

from bot.run.faults import MINUTE_NS, OTHERS, error_of, sample_of

Row = dict[str, Any]

_MOST: Final = 500  # of one minute; beyond it what differs is counted together


class Errors:
    """The errors of the minute at hand, and which of them are not written yet."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], int] = {}
        self._fresh: dict[tuple[int, str, str], str] = {}

    def note(self, frame: Frame) -> None:
        """Count what is wrong with a frame, if anything is."""
        if (found := error_of(frame)) is None:
            return
        kind, endpoint, sample = found
        key = frame.at - frame.at % MINUTE_NS, kind, endpoint
        if key not in self._counts and len(self._counts) >= _MOST:
            key = key[0], kind, OTHERS
        self._counts[key] = self._counts.get(key, 0) + 1
        self._fresh[key] = sample

    def rows(self, at: int) -> Iterator[Row]:
        """Yield what was counted since the last call, each with the count of its whole minute."""
        fresh, self._fresh = self._fresh, {}
        for (minute, kind, endpoint), sample in fresh.items():
            count = self._counts[minute, kind, endpoint]
            yield {
                "minute": minute, "class": kind, "endpoint": endpoint, "count": count,
                "sample": sample_of(sample),
            }  # fmt: skip
        over = at - at % MINUTE_NS
        self._counts = {key: count for key, count in self._counts.items() if key[0] >= over}
