"""How long each layer takes, of a few frames: what a monitor may look at for months.

    hubs of a run ──► a stopwatch around each, for one frame in 53 ──► a histogram a stage

A stopwatch around every call of every frame would cost a few microseconds of each
(bot.run.way, which does so while somebody looks). What repeats in the wire, as ticks do, repeats
by no prime number: the frames that are measured are like the others.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from dydx_conn import AccountUpdate, CancelRequest, OrderRequest
from dydx_strategy import Decision

from bot.run.meters import LatencyHistogram

# What a hub stands for, but for values that are of another stage.
OF_HUB: Final = {
    "frames": "data", "to_venue": "venue", "to_risk": "risk", "views": "signals",
    "to_strategy": "strategy",
}  # fmt: skip
OF_VALUE: Final[Mapping[type, str]] = {
    Decision: "verdict", OrderRequest: "order", CancelRequest: "order", AccountUpdate: "account",
}  # fmt: skip
MEASURED: Final = ("data", "venue", "risk", "signals", "strategy", "verdict", "order", "account")
EVERY: Final = 53


class Hubbed(Protocol):
    """A place where a stream begins: what is called with each value."""

    on_next: Callable[[Any], None]


def stopwatch(
    of_hub: str,
    on_next: Callable[[Any], None],
    within: list[int],
    took: Callable[[str, int, int], None],
) -> Callable[[Any], None]:
    """Return what calls `on_next`, and `took` with its stage, its beginning and its own time.

    Times are in nanoseconds. `within` is shared by all stopwatches of a run: it holds, for each
    call that is going on, what the calls inside it took, which is none of its own.
    """
    clock = time.perf_counter_ns

    def timed(value: Any) -> None:
        stage, begun = OF_VALUE.get(type(value), of_hub), clock()
        within.append(0)
        try:
            on_next(value)
        finally:
            whole, inner = clock() - begun, within.pop()
            if within:
                within[-1] += whole
            took(stage, begun, whole - inner)

    return timed


class Stages:
    """Measures one frame in `EVERY`; `settle` is called after each, between two frames.

    `latencies` are by stage: its own time of a frame, in which it was called at all. `hubs` returns
    the places where streams begin by now: a run that goes back in time makes them again.
    """

    def __init__(self, hubs: Callable[[], Mapping[str, Hubbed]]) -> None:
        self.latencies = {stage: LatencyHistogram() for stage in MEASURED}
        self._hubs = hubs
        self._plain: list[tuple[Hubbed, Callable[[Any], None]]] = []
        self._within: list[int] = []
        self._took: dict[str, int] = {}
        self._left = EVERY

    def settle(self, *, measured_by_others: bool) -> None:
        """Let a frame be over; begin to measure the next one if it is its turn."""
        self._left -= 1
        if self._plain:
            self.rest()
            for stage, took_ns in self._took.items():
                self.latencies[stage].add(took_ns)
            self._took = {}
        if self._left <= 0 and not measured_by_others:
            self._left = EVERY
            self._begin()

    def rest(self) -> None:
        """Take the stopwatches off, if they are on."""
        while self._plain:
            hub, on_next = self._plain.pop()
            hub.on_next = on_next

    def _begin(self) -> None:
        self._within.clear()
        for name, hub in self._hubs().items():
            self._plain.append((hub, hub.on_next))
            hub.on_next = stopwatch(OF_HUB[name], hub.on_next, self._within, self._add)

    def _add(self, stage: str, _: int, took_ns: int) -> None:
        self._took[stage] = self._took.get(stage, 0) + max(took_ns, 0)
