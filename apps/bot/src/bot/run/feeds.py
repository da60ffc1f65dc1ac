"""What came in, for whoever looks: by link, by channel and market, and REST answers by endpoint.

    frame ─► Feeds.take ─► counts ─► Feeds.rates, since somebody looks

Nothing here is read by a layer. Counts are of the whole run; rates are of about ten seconds of
event time, and begin when they are first read.
"""

import re
from collections import Counter, deque
from typing import Final

from dydx_conn import Frame, Vitals, endpoint_label

Flow = tuple[str, str]  # a channel and its id

_APART_NS: Final = 1_000_000_000
_MARKS: Final = 11


class Feeds:
    """Counts of frames; `vitals` is what the edge measures of itself, None where there is none."""

    def __init__(self) -> None:
        self.vitals: Vitals | None = None
        self._came: Counter[tuple[str, str, str]] = Counter()  # by link, channel and id
        # REST answers by endpoint and status, and lost connections by their reason.
        self.answers: Counter[tuple[str, int]] = Counter()
        self.losses: Counter[str] = Counter()
        self._marks: deque[tuple[int, Counter[Flow]]] = deque(maxlen=_MARKS)

    def take(self, frame: Frame) -> None:
        """Count a frame."""
        kind = frame.kind
        if kind == "ws":
            self._came[frame.link, frame.channel, frame.id] += 1
        elif kind == "http":
            self.answers[endpoint_label(frame.path), frame.status] += 1
        elif kind in ("close", "gap"):
            # However the numbers in it differ, it is one reason.
            self.losses[_NUMBER.sub("…", frame.reason)[:_REASON] or kind] += 1

    @property
    def flows(self) -> Counter[Flow]:
        """Return how many frames came of each channel and market."""
        flows: Counter[Flow] = Counter()
        for (_, channel, id_), count in self._came.items():
            flows[channel, id_] += count
        return flows

    @property
    def links(self) -> Counter[str]:
        """Return how many frames came by each link."""
        links: Counter[str] = Counter()
        for (link, _, _), count in self._came.items():
            links[link] += count
        return links

    def rates(self, at: int) -> dict[Flow, float]:
        """Return how many frames a second came of each at an event time, where that is known."""
        marks = self._marks
        if not marks or not 0 <= at - marks[-1][0] < _APART_NS:
            if marks and at < marks[-1][0]:
                marks.clear()  # time went back: it is another run's, or a replay's past
            marks.append((at, self.flows))
        then, before = marks[0]
        seconds = (at - then) / 1e9
        if seconds <= 0:
            return {}
        return {flow: (count - before[flow]) / seconds for flow, count in self.flows.items()}


_REASON: Final = 120
_NUMBER: Final = re.compile(r"\d[\d.,]*")
