"""The way of a frame through the layers: what it changed in each, and how long each took.

    hubs of a run ─► Way, around each ─► spans, nested ─► Journey of the newest frame, and of the
    facts before, facts after ─────────┘                  newest that led to a decision; histograms

While somebody looks, a stopwatch stands around each of the places where a stream of the run begins,
and nowhere else: nobody else pays for it, and what is decided is the same. What a layer takes is
its own time, without that of the layers that it calls. Scores are made when they are read, so that
the strategy's time holds those that it reads.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, Final, NamedTuple

from dydx_conn import AccountUpdate, ConnError, Frame, contents
from dydx_data import DataState, MarketView
from dydx_risk import Risk
from dydx_signals import Scorer

from bot.run.journal import Journal, JournalEntry
from bot.run.meters import LatencyHistogram, Meters
from bot.run.stages import OF_HUB, Hubbed, stopwatch

# In the order of the way; the last is what is none of the others': reading, hops, the journal.
STAGES: Final = (
    "decoding", "data", "venue", "risk", "signals", "strategy", "verdict", "order", "account",
    "the rest",
)  # fmt: skip
_LATER: Final = 40  # entries of later frames that are shown of a decision


class Facts(NamedTuple):
    """What a frame may change: each stage's figures by name, as they were at one moment."""

    of: Mapping[str, Mapping[str, float | None]]


_NO_FACTS: Final = Facts({})


class Span(NamedTuple):
    """One call of a stage: when it began, counted from the frame's beginning, and its own time."""

    stage: str
    at_ns: int
    took_ns: int


class Journey:
    """One frame on its way: `spans` in the order in which they began, `entries` what came of it.

    `later` are entries of later frames that those led to: what became of an order, its fills.
    """

    def __init__(self, frame: Frame, before: Facts) -> None:
        self.frame, self.before = frame, before
        self.after: Facts | None = None
        self.spans: list[Span] = []
        self.decoded: Sequence[Any] = ()
        self.entries: list[JournalEntry] = []
        self.later: list[JournalEntry] = []
        self.took_ns = 0

    @property
    def decides(self) -> bool:
        """Return whether a target or a step of the guard came of it."""
        return any(
            entry.kind == "reduce" or (entry.kind == "decision" and entry.value.action == "target")
            for entry in self.entries
        )

    def follow(self, made: JournalEntry) -> None:
        """Take an entry of a later frame, if one of this frame led to it."""
        known = (*self.entries, *self.later)
        if len(self.later) < _LATER and any(made.parent == one.id for one in known):
            self.later.append(made)

    def took(self) -> dict[str, tuple[int, int, int]]:
        """Return by stage when it first began, its own time in all, and how often it was called."""
        found: dict[str, tuple[int, int, int]] = {}
        for stage, at_ns, took_ns in sorted(self.spans, key=itemgetter(1)):
            first, total, calls = found.get(stage, (at_ns, 0, 0))
            found[stage] = min(first, at_ns), total + took_ns, calls + 1
        counted = sum(total for _, total, _ in found.values())  # integers
        found["the rest"] = 0, max(self.took_ns - counted, 0), 1
        return found


class Looked(NamedTuple):
    """The layers' states that facts are taken of."""

    data: DataState
    risk: Risk
    scorer: Scorer
    journal: Journal
    meters: Meters


class Way:
    """Follows the frames of a run from `begin` to `end`, with a stopwatch around each hub.

    `settle` is called after each frame. `newest` is the newest frame, `decided` the newest of those
    that led to a decision; both are read between two frames. `latencies` are by stage. Facts are
    taken while `looks`: without them a frame costs a few microseconds more than it would, with them
    twice as much as alone.
    """

    def __init__(self, hubs: Mapping[str, Hubbed], of: Looked) -> None:
        self.newest: Journey | None = None
        self.decided: Journey | None = None
        self.latencies = {stage: LatencyHistogram() for stage in STAGES}
        self.looks = True
        self.elsewhere = False  # whether a browser shows it: no panel of a terminal ends it then
        self._begun_ns = time.monotonic_ns()
        self._hubs, self._of = hubs, of
        self._plain: dict[str, Callable[[Any], None]] = {}
        self._inner: list[int] = []  # what the calls within each open call took
        self._started = self._total_ns = self._own_ns = 0

    @property
    def elapsed_s(self) -> float:
        """Return for how long the frames are followed, in seconds of the clock."""
        return (time.monotonic_ns() - self._begun_ns) / 1e9

    def begin(self) -> None:
        """Put the stopwatches around the hubs."""
        for name, hub in self._hubs.items():
            self._plain[name] = hub.on_next
            hub.on_next = stopwatch(OF_HUB[name], hub.on_next, self._inner, self._took)
        self._hubs["frames"].on_next = self._begun(self._hubs["frames"].on_next)
        self._of.journal.listeners.append(self._note)

    def end(self) -> None:
        """Take them off again; what was seen stays."""
        self.settle()
        for name, on_next in self._plain.items():
            self._hubs[name].on_next = on_next
        self._of.journal.listeners.remove(self._note)

    def settle(self) -> None:
        """Bring the newest journey to its end: its frame is over, and all that it led to."""
        journey = self.newest
        if journey is None or journey.after is not None:
            return
        journey.took_ns = self._of.meters.latency.total_ns - self._total_ns - self._own_ns
        journey.after = self._facts(journey.frame.id)
        for stage, (_, took_ns, _) in journey.took().items():
            self.latencies[stage].add(took_ns)
        if journey.decides:
            self.decided = journey

    def _begun(self, on_next: Callable[[Any], None]) -> Callable[[Any], None]:
        def begin(frame: Frame) -> None:
            looking = time.perf_counter_ns()
            journey = Journey(frame, self._facts(frame.id))
            self.newest, self._total_ns = journey, self._of.meters.latency.total_ns
            self._started = started = time.perf_counter_ns()
            self._own_ns = started - looking
            # The fold that comes next takes what was decoded here.
            with suppress(ConnError, ValueError):
                journey.decoded = contents(frame)
            journey.spans.append(Span("decoding", 0, time.perf_counter_ns() - started))
            on_next(frame)

        return begin

    def _took(self, stage: str, begun_ns: int, took_ns: int) -> None:
        if self.newest is not None and self.newest.after is None:
            self.newest.spans.append(Span(stage, begun_ns - self._started, took_ns))

    def _note(self, made: JournalEntry | AccountUpdate) -> None:
        if not isinstance(made, JournalEntry):
            return
        if self.newest is not None and self.newest.after is None:
            self.newest.entries.append(made)
        if self.decided is not None:
            self.decided.follow(made)

    def _facts(self, ticker: str) -> Facts:
        if not self.looks:
            return _NO_FACTS
        of, view = self._of, self._of.data.views.get(ticker)
        account, margin = of.risk.account, of.risk.margin
        scores = of.scorer.scores(ticker) if view is not None else ()
        facts: dict[str, Mapping[str, float | None]] = {
            "data": dict(_seen(view)) if view is not None else {},
            "signals": {score.signal: score.value for score in scores},
        }
        if account.trouble:  # what is not certain is no fact
            return Facts(facts)
        held = account.positions.get(ticker)
        facts["account"] = {
            "size": float(held.size) if held is not None else 0.0,
            "open_orders": float(len(account.orders.open)),
        }
        if margin.known:
            facts["risk"] = {
                "net_collateral": margin.net_collateral / 1e6,
                "initial_margin": margin.initial_margin / 1e6,
                "distance": margin.distance,
            }
        return Facts(facts)


def _seen(view: MarketView) -> Iterator[tuple[str, float | None]]:
    """Yield what a frame may change of a market."""
    book, oracle = view.book, view.oracle
    bid, ask = book.best_bid, book.best_ask
    yield "best_bid", bid.price if bid else None
    yield "bid_size", bid.size if bid else None
    yield "best_ask", ask.price if ask else None
    yield "ask_size", ask.size if ask else None
    yield "mid_price", book.mid_price
    yield "spread_bps", book.spread_bps
    yield "last_trade", view.trades[-1].price if view.trades else None
    yield "volume_60s", view.flow.over("1MIN").usd
    yield "oracle_price", oracle.price if oracle else None
    yield "funding_1h", view.funding.next_rate_1h if view.funding.known else None
