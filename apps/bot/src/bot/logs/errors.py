"""What goes wrong on the wire, as lines: the first of its class at once, the others counted.

    frame ──► Repeated.note ──► "error" ──► … ──► "errors", once its minute is over

A class is what `bot errors` has (bot.database.error_rows). One that did not come for a whole minute
is new again, so that a storm is two lines a minute of each class and endpoint.
"""

import time
from collections.abc import Iterator
from typing import Final

from dydx_conn import Frame

from bot.logs.events import Line
from bot.run.faults import MINUTE_NS, OTHERS, error_of
from bot.times import iso

_MOST: Final = 200  # classes and endpoints of a minute; beyond them endpoints are counted together


class Repeated:
    """The errors of the minute at hand, by class and endpoint."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[tuple[str, str], int] = {}  # after the one that has a line
        self._samples: dict[tuple[str, str], str] = {}

    def note(self, frame: Frame) -> Iterator[Line]:
        """Yield the line of a frame that is the first of its kind to be wrong, if it is."""
        if (found := error_of(frame)) is None:
            return
        kind, endpoint, sample = found
        if (kind, endpoint) not in self._counts and len(self._counts) >= _MOST:
            endpoint = OTHERS
        yield from self.over(frame.at)
        is_first = (kind, endpoint) not in self._counts
        self._counts[kind, endpoint] = 0 if is_first else self._counts[kind, endpoint] + 1
        self._samples[kind, endpoint] = sample
        if is_first:
            fields = {"seq": frame.seq, "class": kind, "endpoint": endpoint, "sample": sample}
            yield Line(event="error", at=frame.at, wall=time.time_ns(), fields=fields)

    def over(self, at: int) -> Iterator[Line]:
        """Yield how many more came in the minute before, once it is over."""
        minute = at - at % MINUTE_NS
        if minute == self._minute:
            return
        yield from self.rest(at)
        # What did not come within it is no longer known, and has a line when it comes.
        self._counts = {key: 0 for key, count in self._counts.items() if count}
        self._minute = minute

    def rest(self, at: int) -> Iterator[Line]:
        """Yield the counts of the minute at hand, as at the end of a run."""
        for (kind, endpoint), count in self._counts.items():
            if count:
                fields = {
                    "class": kind, "endpoint": endpoint, "count": count,
                    "minute": iso(self._minute), "sample": self._samples[kind, endpoint],
                }  # fmt: skip
                yield Line(event="errors", at=at, wall=time.time_ns(), fields=fields)
