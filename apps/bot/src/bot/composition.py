"""All layers joined, and the only place that subscribes.

    frame ─► market_views ─┬─► venue ─► account frames ─► (after the frame) ─┐
                           ├─► risk ◄──────────────────────────────────────────┘
                           └─► scores ─► decisions ─► risk ─► verdicts ─► venue
                                         ▲
            what is held, and what became of decisions (bot.feedback)

Within a frame the venue looks first, then risk, then opinion: an order is never matched
against the view that caused it, and a decision is judged against what risk has just seen.
Account frames wait until the frame at hand is done and then enter one by one, because a
Subject fed from inside its own dispatch would show later subscribers a reordered world.
The venue is a paper one, or the wire itself (bot.wire): only where orders go and where account
frames come from differs. An act (halt, resume …) is a frame too, and takes effect when its turn
comes. What a strategy raises becomes an act: entries stop, guard and exits go on.
"""

import re
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from dydx_conn import (
    Accounts,
    AccountUpdate,
    CancelRequest,
    Frame,
    OrderRequest,
    Subaccount,
    fold,
)
from dydx_data import DataState, MarketView, market_views
from dydx_paper import PaperVenue, Performance, performance
from dydx_risk import Approved, GateChange, Judgement, Policy, Reduce, Risk, Watch, verdicts
from dydx_signals import Score, Scored, scores
from dydx_strategy import (
    Decision,
    RankAndTarget,
    RankSettings,
    Strategy,
    StrategyError,
    decisions,
    load_strategy,
)
from reactivex import Observable, operators
from reactivex.disposable import CompositeDisposable
from reactivex.subject import Subject

from bot.costs import cost_words, worst_case
from bot.feedback import Feedback
from bot.journal import Journal
from bot.meters import Meters

PAPER = Subaccount("dydx1paper", 0)


class Hub(Subject[Any]):
    """A Subject for one thread: no lock, and no copy of its observers, for each event.

    Everything here happens on the thread that plays the frames, and nobody subscribes while it
    does; a stock Subject would spend half a microsecond at each of six hops to allow for both.
    """

    def on_next(self, value: Any) -> None:
        """Hand a value to each observer, in the order in which they came."""
        for observer in self.observers:
            observer.on_next(value)


class Venue(Protocol):
    """Where orders go and account frames come from."""

    subaccount: Subaccount
    accounts: Accounts  # the one reader of account frames

    def begin(self, risk: Risk) -> None:
        """Learn, before the first frame, who judges the account."""

    def receive(self, frame: Frame) -> Iterable[Frame]:
        """Return the frame if it may be one of the account's."""

    def learn(self, update: AccountUpdate) -> None:
        """Take what became of the account."""

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in; return the account frames that it caused."""

    def figures(self) -> Any:
        """Return what the account did and what it is worth, as `dydx_paper.AccountFigures`."""


class Paper(PaperVenue):
    """A paper venue: its account frames are its own, and none comes by the wire."""

    def __init__(self, subaccount: Subaccount, deposit: int) -> None:
        super().__init__(subaccount, deposit)
        self.accounts = Accounts([subaccount])

    def begin(self, risk: Risk) -> None:
        """Need nobody's judgement."""

    def receive(self, frame: Frame) -> Iterable[Frame]:
        """Return nothing: an account on the wire is somebody else's."""
        return ()

    def learn(self, update: AccountUpdate) -> None:
        """Know it already: its own ledger holds more."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may choose about a run; money is in USDC.

    A `strict` run ends where the strategy raises, with what it raised.
    """

    strategy: str = "rank"
    deposit: int = 10_000
    guard: bool = True
    strict: bool = False
    policy: Policy = msgspec.field(
        default_factory=lambda: Policy(act_below=0.10, restore_to=0.15, keep_above=0.18)
    )


class Bot:
    """The pipeline of one run: give it frames, read its journal and the layers' states."""

    def __init__(self, options: Options, venue: Venue | None = None) -> None:
        self.options = options
        self.data = DataState()
        self.venue: Venue = venue or Paper(PAPER, options.deposit * 10**6)
        self.risk = Risk(options.policy, self.venue.subaccount, guard=options.guard)
        self.venue.begin(self.risk)
        self.journal = Journal()
        self.meters = Meters()
        # What the panels show beside the layers' own states.
        self.scored: dict[str, tuple[Score, ...]] = {}
        self.kinds: Counter[str] = Counter()
        self.last_frames: deque[Frame] = deque(maxlen=12)
        # Event time and distance to liquidation, about once a second of event time.
        self.distances: deque[tuple[int, float | None]] = deque(maxlen=120)
        self._distance_due = 0
        self._looked: Watch | None = None
        self._did: tuple[object, Performance] | None = None
        self.bytes = 0
        self.last_loss: Frame | None = None
        # What the strategy raised, if it did: it is not called any more.
        self.stopped: Exception | None = None
        # Whoever records the frames of a source takes here those that the run makes itself.
        self.record: Callable[[Frame], None] = lambda _: None
        self._made: deque[Frame] = deque()
        self._entered: set[tuple[int, str, str]] = set()
        self._strategy = _strategy(options)
        self._feedback = Feedback(self.venue.subaccount)
        self._account_frames: deque[Frame] = deque()
        self._failure: Exception | None = None
        self._failed: Subject[None] = Subject()
        self._frames, self._views, self._to_strategy = Hub(), Hub(), Hub()
        self._to_venue, self._to_risk = Hub(), Hub()
        self._subscriptions = self._compose()

    def run(self, frames: Observable[Frame]) -> None:
        """Fold a source to its end; raises what any layer raised, after letting go of it.

        What a layer raised ends it at once; what the strategy raised (`stopped`) is raised when the
        source has ended.
        """
        try:
            frames.pipe(operators.take_until(self._failed)).subscribe(self._take, self._fail)
        finally:
            self._subscriptions.dispose()
        if (error := self._failure or self.stopped) is not None:
            raise error

    def place(self, request: OrderRequest | CancelRequest) -> None:
        """Send a request past the gate, between two frames: who trades the account by hand does."""
        self._to_venue.on_next(request)

    @property
    def watched(self) -> list[MarketView]:
        """Return the markets whose book or trades have come, in the order they came in."""
        return [view for view in self.data.views.values() if view.live_at]

    def watch(self) -> Watch | None:
        """Look at the account between two frames, at most once a second of event time.

        For a screen alone, which calls it before it draws. As a stream beside the others it took a
        fifth of the throughput of a replay at full speed, and a millisecond of every frame that
        it fell on.
        """
        known, views = self._looked, self.data.views.values()
        if known is not None and self.data.at - known.at < 1_000_000_000:
            return known
        newest = max(views, key=lambda view: view.seq, default=None)
        self._looked = None if newest is None else self.risk.watch(newest)
        return self._looked

    def performance(self) -> Performance | None:
        """Return how the paper account did, computed again when it traded or an hour was marked."""
        if not isinstance(self.venue, PaperVenue):
            return None
        ledger = self.venue.ledger
        tally, points = ledger.tally, ledger.history.points
        known = tally.fills, tally.liquidations, ledger.paid.funding, len(points)
        if self._did is None or self._did[0] != known:
            self._did = known, performance(ledger)
        return self._did[1]

    def _compose(self) -> CompositeDisposable:
        venue, step = self.venue, type(self.venue).step
        streams: list[tuple[Observable[Any], Callable[[Any], None]]] = [
            (self._to_venue.pipe(fold(lambda: venue, step)), self._account_frames.append),
            (self._to_risk.pipe(verdicts(self.risk)), self._judged),
            (self._frames.pipe(market_views(self.data)), self._see),
        ]
        # What opinion is made of may fail, and the account is still looked after.
        opinions: list[tuple[str, Observable[Any], Callable[[Any], None]]] = []
        if self._strategy is not None:
            opinions = [
                ("strategy", self._to_strategy.pipe(decisions(self._strategy)), self._decided),
                ("signals", self._views.pipe(scores()), self._rate),
            ]
        return CompositeDisposable(
            [stream.subscribe(sink, self._fail) for stream, sink in streams]
            + [stream.subscribe(sink, partial(self._stop, who)) for who, stream, sink in opinions]
        )

    def _take(self, frame: Frame) -> None:
        if frame.kind == "act" and (frame.seq, frame.link, frame.type) in self._entered:
            return  # it was recorded of this very run, which has made it again
        started = time.perf_counter_ns()
        self.last_frames.append(frame)
        if frame.link != "node":  # the node's answers to orders are for the venue
            self._frames.on_next(frame)
        if frame.kind == "act":
            self._act(frame)
        self._account_frames.extend(self.venue.receive(frame))
        while self._account_frames:
            for update in self.venue.accounts.step(self._account_frames.popleft()):
                self.venue.learn(update)
                self.journal.accounted(update)
                self._to_risk.on_next(update)
                if self._strategy is not None:
                    self._feedback.filled(update)
        while self._made:
            act = self._made.popleft()
            self._entered.add((act.seq, act.link, act.type))
            self.record(act)
            self._act(act)
        self.meters.latency.add(time.perf_counter_ns() - started)
        self.kinds[frame.channel or frame.kind] += 1
        self.bytes += len(frame.text)
        if frame.kind in ("close", "gap"):
            self.last_loss = frame
        if self.data.at >= self._distance_due:
            self._distance_due = self.data.at + 1_000_000_000
            self.distances.append((self.data.at, self.risk.margin.distance))

    def _see(self, view: MarketView) -> None:
        self._to_venue.on_next(view)
        self._to_risk.on_next(view)
        # The venue sends every market's oracle price; opinions are of those that are subscribed.
        if view.live_at:
            self._views.on_next(view)

    def _rate(self, scored: Scored) -> None:
        self.scored[scored.ticker] = scored.scores
        # Facts first, and never within the strategy's own dispatch.
        for news in self._feedback.news(self.risk, self.data.views, scored.seq, scored.at):
            self._to_strategy.on_next(news)
        self._to_strategy.on_next(scored)

    def _decided(self, decision: Decision) -> None:
        self.journal.decided(decision)
        self._to_risk.on_next(decision)

    def _judged(self, judgement: Judgement) -> None:
        if self._strategy is not None and not isinstance(judgement, GateChange):
            self._feedback.judged(judgement, self.data.views)
        if isinstance(judgement, Approved | Reduce):
            order = judgement.order
            worst = worst_case(order, self.data.views.get(order.ticker), self.risk)
            self.journal.judged(judgement, cost_words(worst))
            self._to_venue.on_next(order)
        else:
            self.journal.judged(judgement)

    def _act(self, act: Frame) -> None:
        id_ = self.journal.acted(act)
        if act.type in _EFFECTS:
            _EFFECTS[act.type](self, act, id_)

    def _halt(self, act: Frame, _: str) -> None:
        self.risk.halt(f"{act.text or 'no reason was given'} (by {act.link})")
        self._to_risk.on_next(act)

    def _resume(self, act: Frame, _: str) -> None:
        self.risk.resume()
        self._to_risk.on_next(act)

    def _flatten(self, act: Frame, id_: str) -> None:
        # Nothing enters any more, and what is held leaves, through the gate.
        self._halt(act, id_)
        for row in self.risk.positions():
            leave = Decision(
                ticker=row.ticker, seq=act.seq, at=act.at, action="target", target_usdc=0.0,
                previous_usdc=(row.net_notional or 0) / 1e6, urgency=1.0, score=0.0,
                reasons=(f"flatten by {act.link}: {act.text}",), scores=(), id=id_,
            )  # fmt: skip
            self._to_risk.on_next(leave)

    def _stop(self, who: str, error: Exception) -> None:
        # A bug in what makes opinions must not leave the positions to themselves.
        if self.options.strict:
            self._fail(error)
            return
        self.stopped = self.stopped or error
        at = self.last_frames[-1]
        self._made.append(Frame(at.seq, at.at, at.mono, who, "act", raised(error), "halt"))

    def _fail(self, error: Exception) -> None:
        # A layer that raises is a bug; a bot with a bug must not go on trading.
        self._failure = self._failure or error
        self._failed.on_next(None)


_EFFECTS: Final[dict[str, Callable[[Bot, Frame, str], None]]] = {
    "halt": Bot._halt,
    "resume": Bot._resume,
    "flatten": Bot._flatten,
}
_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]{6,}")
_LONGEST: Final = 300


def raised(error: Exception) -> str:
    """Put in one line what was raised and where, the same on every run: no address in memory."""
    text = str(error)
    if not isinstance(error, StrategyError):  # which names the place itself
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {text} at {Path(where.filename).name}:{where.lineno}"
    return _ADDRESS.sub("0x…", " ".join(text.split()))[:_LONGEST]


def _strategy(options: Options) -> Callable[[], Strategy] | None:
    """Return what makes the strategy; the standard one holds up to 4.5 times the equity.

    "none" is no opinion at all: the guard looks after an account that a person trades by hand.

    It is patient: a score must stay bad for 45 s before it closes, so that noise does not
    trade. The guard is there for what cannot wait.
    """
    if options.strategy == "none":
        return None
    if options.strategy != RankAndTarget.name:
        return load_strategy(options.strategy)
    settings = RankSettings(
        gross_share=4.5,
        market_share=1.6,
        smallest_share=0.8,
        confirm_s=45.0,
    )
    return lambda: RankAndTarget(settings)
