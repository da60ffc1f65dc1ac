"""All layers joined, and the only place that subscribes.

    frame ─► market_views ─┬─► venue ─► account frames ─► (after the frame) ─┐
                           ├─► risk ◄──────────────────────────────────────────┘
                           └─► scores ─► decisions ─► risk ─► verdicts ─► venue
                                         ▲
            what is held, and what became of decisions (bot.run.feedback)

Within a frame the venue looks first, then risk, then opinion: an order is never matched
against the view that caused it, and a decision is judged against what risk has just seen.
Account frames wait until the frame at hand is done and then enter one by one, because a
Subject fed from inside its own dispatch would show later subscribers a reordered world.
The venue is a paper one, or the wire itself (bot.run.wire): only where orders go and where account
frames come from differs. An act (halt, resume …) is a frame too, and takes effect when its turn
comes. What a strategy raises becomes an act, and so does taking too long (bot.run.budget): entries
stop, guard and exits go on.
"""

import re
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import msgspec
from dydx_conn import (
    Accounts,
    AccountUpdate,
    CancelRequest,
    ConnError,
    Frame,
    OrderRequest,
    OrderState,
    Stranger,
    Subaccount,
    fold,
)
from dydx_data import DETECTORS, DataState, Detector, MarketView, detections, market_views
from dydx_paper import PaperVenue
from dydx_risk import (
    Approved,
    Bracket,
    Elapsed,
    Judgement,
    Policy,
    Reduce,
    Risk,
    Withdraw,
    verdicts,
)
from dydx_signals import Scored, Scorer, every, scores
from dydx_strategy import (
    SETTINGS,
    Allocator,
    AllocatorSettings,
    Decider,
    Decision,
    Pace,
    StakesLeft,
    Strategy,
    StrategyError,
    load_allocator,
    load_strategy,
)
from reactivex import Observable, operators
from reactivex.abc import DisposableBase
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.subject import Subject

from bot.config.changes import (
    REFUSE,
    RELOAD,
    UNWATCHED,
    Reply,
    changed,
    changes_of,
    refusal,
    reloaded,
    require_live,
    require_restartless,
    values_of,
)
from bot.config.paper import PaperSettings
from bot.config.passphrase import forget_secrets
from bot.config.profiles import PROFILES, STEADY, profile_of
from bot.ending import between_frames, whole
from bot.run.acts import one_line
from bot.run.budget import REPLAYED, Budget, Supervisor
from bot.run.costs import cost_words, flight_words, worst_case
from bot.run.dealt import Dealt
from bot.run.executed import Executed
from bot.run.feedback import Feedback
from bot.run.journal import Journal
from bot.run.links import Links
from bot.run.meters import Meters
from bot.run.moments import Moment, of_the_run, packed, unpacked
from bot.run.monitor import Monitor
from bot.run.paper import PAPER, Paper, book_model_of, paper_account
from bot.run.resume import ACCOUNT, carry_on
from bot.run.shown import Shown
from bot.run.signals import Make, engines_of, known
from bot.run.way import Looked, Way

if TYPE_CHECKING:
    from bot.config.loaded import Loaded

CURVE_S: Final = 5.0  # between two points of a score's curve


class Hub(Observable[Any]):
    """Where a stream of this run begins: for one thread; one subscriber is called directly.

    Everything here happens on the thread that plays the frames, and nobody subscribes while it
    does. A stock Subject would spend half a microsecond at each of six hops to allow for that, and
    a quarter of one each without its lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_next: Callable[[Any], None] = _leave

    def subscribe(self, on_next: Any = None, *_: Any, **__: Any) -> DisposableBase:
        """Hand each value to `on_next` from here on; nothing ends it.

        Of several subscribers the first is called first, and disposing of one disposes of all.
        """
        before = self.on_next
        self.on_next = on_next if before is _leave else _both(before, on_next)
        return Disposable(self._dispose)

    def _dispose(self) -> None:
        self.on_next = _leave


def _leave(_: Any) -> None:
    """Take what nobody subscribes to."""


def _both(first: Callable[[Any], None], second: Callable[[Any], None]) -> Callable[[Any], None]:
    def on_next(value: Any) -> None:
        first(value)
        second(value)

    return on_next


def _itself(one: Detector) -> Detector:
    return one


class Venue(Protocol):
    """Where orders go and account frames come from."""

    subaccount: Subaccount
    accounts: Accounts  # the one reader of account frames

    @property
    def refusals(self) -> Counter[str]:
        """Return how often an order was not taken, by the reason."""

    def begin(self, risk: Risk) -> None:
        """Learn, before the first frame, who judges the account."""

    def receive(self, frame: Frame) -> Iterable[Frame]:
        """Return the frame if it may be one of the account's."""

    def learn(self, update: AccountUpdate) -> None:
        """Take what became of the account."""

    def strangers(self) -> Iterable[Stranger]:
        """Return the orders of somebody else that were noticed since the last call."""

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in; return the account frames that it caused."""

    def cancel(self, states: Iterable[OrderState]) -> list[Frame]:
        """Take these orders off the books; return the account frames that this caused."""

    def figures(self) -> Any:
        """Return what the account did and what it is worth, as `dydx_paper.AccountFigures`."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may choose about a run; money is in USDC.

    A `strict` run ends where the strategy raises, with what it raised. `policy` and `settings` are
    those of the `profile`: `of` takes them from there. `signals` is what is scored beside the
    standard six and what the strategy names (`signals`), `tuned` by what a signal is made that is
    not as its layer has it, `state` what another run left for it, where that is no frame of the
    source, `account` the name of a paper account. `settings` are those of the strategy, `config` is
    all that was loaded, with its origins. `budget` is how long the strategy may take: whoever
    trades on frames as they come chooses `bot.run.budget.LIVE`. `detectors` are for whoever looks:
    nothing is decided by them.
    """

    strategy: str = "rank"
    signals: str = ""
    tuned: Mapping[str, Mapping[str, float]] = {}
    state: Frame | None = None
    account: str = PAPER
    deposit: int = 10_000
    guard: bool = True
    strict: bool = False
    profile: str = STEADY
    policy: Policy = PROFILES[STEADY].policy
    settings: Pace = PROFILES[STEADY].strategy
    paper: PaperSettings = PaperSettings()
    budget: Budget = REPLAYED
    detectors: bool = False
    config: "Loaded | None" = None

    @classmethod
    def of(cls, profile: str, **chosen: Any) -> Self:
        """Return the options of a profile; `ConnError` lists the known ones."""
        found = profile_of(profile)
        return cls(profile=profile, policy=found.policy, settings=found.strategy, **chosen)

    def changed(self, changes: Mapping[str, Any], scored: Collection[str], who: str) -> Self:
        """Return these with settings changed while it runs and `scored` is what it scores.

        `ConnError` or `StrategyError` where any of it cannot be meant, or needs a restart.
        """
        require_live(changes)
        settings = changed(self.settings, f"strategies.{self.strategy}", changes)
        require_restartless(self.settings, settings, scored)
        config, profile = self.config, changes.get("profile", self.profile)
        profile_of(profile)
        return msgspec.structs.replace(
            self, profile=profile, policy=changed(self.policy, "policy", changes),
            settings=settings, config=None if config is None else reloaded(config, changes, who),
        )  # fmt: skip


class Shared(Protocol):
    """What several runs of the same frames have in common (bot.run.front)."""

    data: DataState
    elapsed: Elapsed

    def scorer(self, options: Options, makes: Sequence[Make]) -> Scorer:
        """Return what scores for a run of these options, with these engines."""


class MadeActs:
    """The acts that a run makes itself: each takes effect after the frame at hand."""

    def __init__(self) -> None:
        # Whoever records the frames of a source takes here those that it does not hold.
        self.record: Callable[[Frame], None] = _leave
        self.waiting: deque[Frame] = deque()
        self._entered: set[tuple[int, str, str]] = set()

    def add(self, act: Frame) -> None:
        """Let an act wait for its turn."""
        self.waiting.append(act)

    def __bool__(self) -> bool:
        """Tell whether any waits for its turn."""
        return bool(self.waiting)

    def is_one(self, act: Frame) -> bool:
        """Tell whether an act of the source is one that this run has made."""
        return (act.seq, act.link, act.type) in self._entered

    def drain(self) -> Iterator[Frame]:
        """Yield what waits, each recorded first."""
        while self.waiting:
            act = self.waiting.popleft()
            self._entered.add((act.seq, act.link, act.type))
            self.record(act)
            yield act


class _Hubs:
    """Where the streams of a run begin."""

    def __init__(self) -> None:
        self.frames, self.views, self.to_strategy = Hub(), Hub(), Hub()
        self.to_venue, self.to_risk, self.to_detectors = Hub(), Hub(), Hub()
        self.to_curves = Hub()


class Bot:
    """The pipeline of one run: give it frames, read its journal and the layers' states.

    `run` takes frames from a source. Several bots may share one fold of the market data, and with
    it the cost of decoding: whoever folds the frames into `data` hands each of them every view
    (`see`) and then the frame (`settle`), and at the end lets go of it (`close`). `strategy` makes
    one that is loaded already; otherwise `options` names it. With what is `shared` it is scored
    for as well: it is handed each market that was scored (`rate`) after the view.
    """

    def __init__(
        self,
        options: Options,
        venue: Venue | None = None,
        data: DataState | None = None,
        strategy: Callable[[], Strategy] | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.options = options
        if data is None:
            data = shared.data if shared else DataState(model=book_model_of(options.paper))
        self.data = data
        self.venue: Venue = venue or Paper(
            paper_account(options.account), options.deposit * 10**6, options.paper
        )
        elapsed = None if shared is None else shared.elapsed
        self.risk = Risk(
            options.policy, self.venue.subaccount, guard=options.guard, elapsed=elapsed
        )
        self.venue.begin(self.risk)
        self.journal = Journal()
        self.executed = Executed(self.journal, self.data)
        self.dealt = Dealt(self.journal, self.executed, self.venue)
        self.meters = Meters()
        ledger = self.venue.ledger if isinstance(self.venue, PaperVenue) else None
        self.shown = Shown(self.data, self.risk, ledger)
        self.made = MadeActs()
        # Who reads the settings again, where somebody may (bot.live.reload).
        self.reload: Callable[[str], Reply] = lambda _: UNWATCHED
        # What the strategy raised, if it did: it is not called any more.
        self.stopped: Exception | None = None
        # When the next point of each market's curves is due, where somebody looks (`follow`).
        self._due: dict[str, int] | None = None
        self._detectors: list[Detector] = []
        self._failure: Exception | None = None
        self._failed: Subject[None] = Subject()
        self._account_frames: deque[Frame] = deque()
        self._hubs = _Hubs()
        # Whether the strategy knows its account; before, nothing comes of what it decides.
        self.informed = True
        # Whether views are scored here, or by whoever shares them out (`rate`).
        self.scores_itself = shared is None
        self.supervisor = Supervisor(options.budget)
        with self.supervisor.loading(options.strategy):
            strategy = strategy or strategy_of(options)
            makes = engines_of(options.signals, strategy, options.tuned)
            self.scorer = Scorer(makes) if shared is None else shared.scorer(options, makes)
            self.feedback = Feedback(self.venue.subaccount) if strategy is not None else None
            self.decider = None if strategy is None else Decider(strategy)
        self.shown.strategy = None if self.decider is None else self.decider.strategy
        if options.detectors:
            self.shown.detected, self._detectors = {}, [make() for make in DETECTORS]
        self._subscriptions = self._compose()
        if options.state is not None:
            self.begin(options.state)

    def run(self, frames: Observable[Frame]) -> None:
        """Fold a source to its end; raises what any layer raised, after letting go of it.

        What a layer raised ends it at once; what the strategy raised (`stopped`) is raised when the
        source has ended. Ctrl-C ends it between two frames, by `Ended`.
        """
        try:
            with self.supervisor.watching(), between_frames():
                bounded = frames.pipe(operators.take_until(self._failed))
                bounded.subscribe(whole(self._take), self.fail)
        finally:
            self._subscriptions.dispose()
        self.close()

    @property
    def failure(self) -> Exception | None:
        """Return what a layer raised, after which nothing here is true any more."""
        return self._failure

    def close(self) -> None:
        """Let go of every stream; raises what a layer or the strategy raised."""
        self._subscriptions.dispose()
        if (error := self._failure or self.stopped) is not None:
            raise error

    def begin(self, state: Frame) -> None:
        """Begin with what another run left; `SignalError` or `ConnError` if it is not that."""
        if state.link == ACCOUNT:
            left = carry_on(state, self.venue, self.risk)
            self.shown.carried = left.words(state.at)
            self.shown.notice = f"the account {self.shown.carried}"
            if isinstance(self.shown.strategy, Allocator):
                self.shown.strategy.recall(left.parts)
        else:
            self.scorer.restore(state)
        self.journal.began(state)

    def parts(self) -> Mapping[str, StakesLeft]:
        """Return what each has of several strategies that share the account."""
        strategy = self.shown.strategy
        return strategy.left if isinstance(strategy, Allocator) else {}

    def follow(self) -> None:
        """Note the curve of each score and each connection from here on, for whoever shows them."""
        self.follow_links()
        self._due = {}
        self._join_again()

    @property
    def follows(self) -> bool:
        """Return whether `follow` was called: a second time it would begin the curves once more."""
        return self._due is not None

    def moment(self) -> Moment:
        """Pack what stands between two frames; `MomentError` where a user's strategy cannot be."""
        return packed(of_the_run(vars(self)), self.journal.digest())

    def go_to(self, then: Moment | Self) -> None:
        """Go on from another moment of this run, or from where another bot of its options stands.

        What is of this process stays, as the machine's figures, and so does what a person chose.
        """
        untrace(self)  # it stands around the streams that end here
        shown, journal = self.shown, self.journal
        if shown.monitor is not None:
            shown.monitor.stages.rest()
        parts = unpacked(then) if isinstance(then, Moment) else of_the_run(vars(then))
        self.__dict__.update(parts)
        self.shown.ticker, self.shown.troubles = shown.ticker, shown.troubles
        self.shown.feeds.vitals, self.shown.notice = shown.feeds.vitals, ""
        self.shown.monitor = shown.monitor
        self.journal.listeners = journal.listeners
        self.supervisor.go_back()
        self._join_again()

    def _join_again(self) -> None:
        self._subscriptions.dispose()
        self._hubs = _Hubs()
        self._subscriptions = self._compose()

    def follow_links(self) -> None:
        """Note from here on when connections are lost and come back, for whoever is to know."""
        if self.shown.links is None:
            self.shown.links = Links(self.journal.linked)

    def place(self, request: OrderRequest | CancelRequest) -> None:
        """Send a request past the gate, between two frames: who trades the account by hand does."""
        self._hubs.to_venue.on_next(request)

    def _compose(self) -> CompositeDisposable:
        venue, step, hubs = self.venue, type(self.venue).step, self._hubs
        streams: list[tuple[Observable[Any], Callable[[Any], None]]] = [
            (hubs.to_venue.pipe(fold(lambda: venue, step)), self._account_frames.append),
            (hubs.to_risk.pipe(verdicts(self.risk)), partial(_judged, self)),
            (hubs.frames.pipe(market_views(self.data)), self.see),
        ]
        if made := [partial(_itself, one) for one in self._detectors]:
            streams[-1] = streams[-1][0], self._see_and_detect
            streams.append((hubs.to_detectors.pipe(detections(made)), self.shown.detect))
        if self._due is not None:
            curves = hubs.to_curves.pipe(every(CURVE_S, self._due))
            streams.append((curves, self.shown.draw))
        # What opinion is made of may fail, and the account is still looked after.
        opinions: list[tuple[str, Observable[Any], Callable[[Any], None]]] = []
        if (decider := self.decider) is not None:
            decisions = fold(lambda: decider, self._decide)
            opinions = [("strategy", hubs.to_strategy.pipe(decisions), self._decided)]
            if self.scores_itself:
                opinions.append(("signals", hubs.views.pipe(scores(self.scorer)), self.rate))
        return CompositeDisposable(
            [stream.subscribe(sink, self.fail) for stream, sink in streams]
            + [stream.subscribe(sink, partial(self.stop, who)) for who, stream, sink in opinions]
        )

    def _take(self, frame: Frame) -> None:
        if frame.kind == "act" and self.made.is_one(frame):
            return  # it was recorded of this very run, which has made it again
        started = time.perf_counter_ns()
        self.shown.last_frames.append(frame)
        if frame.link != "node":  # the node's answers to orders are for the venue
            self._hubs.frames.on_next(frame)
        self.settle(frame)
        if self.options.budget.rests:
            self.supervisor.rest()
        self.meters.latency.add(time.perf_counter_ns() - started)
        self.shown.take(frame)

    @property
    def is_settled(self) -> bool:
        """Return whether nothing waits for the end of the frame at hand."""
        return not (self._account_frames or self.made)

    def settle(self, frame: Frame) -> None:
        """Let in what a frame brought beside views: acts, and what the venue reports by now."""
        # Accounts and acts live in the time of the views.
        if jumped_ns := self.data.clock.jumped_ns:
            frame = msgspec.structs.replace(frame, at=frame.at - jumped_ns)
        if frame.kind == "act":
            self._act(frame)
        elif frame.kind == "state":
            self.begin(frame)
        if received := self.venue.receive(frame):
            self._account_frames.extend(received)
        while self._account_frames:
            for update in self.venue.accounts.step(self._account_frames.popleft()):
                self.account(update)
        for stranger in self.venue.strangers():
            _meet(self, stranger)
        if self.made.waiting:
            for act in self.made.drain():
                self._act(act)

    def account(self, update: AccountUpdate) -> None:
        """Let in what became of the account."""
        self.venue.learn(update)
        self.shown.learn(update)
        self.journal.accounted(update)
        self._hubs.to_risk.on_next(update)
        if self.feedback is not None:
            self.feedback.filled(update, self.data.views)

    def see(self, view: MarketView) -> None:
        """Show a view to the venue, then to risk, then to what makes opinions."""
        self._hubs.to_venue.on_next(view)
        self._hubs.to_risk.on_next(view)
        # The venue sends every market's oracle price; opinions are of those that are subscribed.
        if view.live_at:
            self._hubs.views.on_next(view)

    def _see_and_detect(self, view: MarketView) -> None:
        self.see(view)
        if view.live_at:
            self._hubs.to_detectors.on_next(view)

    def rate(self, scored: Scored) -> None:
        """Show a market that was scored to the strategy, after what is new of the account."""
        self._hubs.to_curves.on_next(scored)
        # Facts first, and never within the strategy's own dispatch.
        if self.feedback is not None and self.informed:
            news = self.feedback.news(self.risk, self.data.views, scored.seq, scored.at)
            if not news and self._rests(scored):
                return  # as nearly always
            for one in news:
                self._hubs.to_strategy.on_next(one)
        self._hubs.to_strategy.on_next(scored)

    def _rests(self, scored: Scored) -> bool:
        decider = self.decider
        if decider is None or self.shown.way is not None:  # who looks is shown every layer
            return False
        if scored.at >= decider.rests_until(self.data.views[scored.ticker]):
            return False
        self.supervisor.pass_over(scored.seq)
        return True

    def _decide(self, decider: Decider, event: Any) -> list[Decision]:
        return self.supervisor.step(decider, event, self.shown.last_frames[-1])

    def _decided(self, decision: Decision) -> None:
        if not self.informed:
            return
        self.journal.decided(decision)
        self._hubs.to_risk.on_next(decision)

    def _make(self, who: str, what: str, why: str, message_id: int = 0) -> None:
        at = self.shown.last_frames[-1]
        self.made.add(Frame(at.seq, at.at, at.mono, who, "act", why, what, message_id=message_id))

    def _act(self, act: Frame) -> None:
        config, were = self.options.config, dict[str, Any]()
        if act.type == RELOAD and config is not None:
            with suppress(ConnError):  # what it says instead is its own effect
                were = values_of(config, changes_of(act.text))
        id_ = self.journal.acted(act, were)
        if act.type in _EFFECTS:
            _EFFECTS[act.type](self, act, id_)

    def stop(self, who: str, error: Exception) -> None:
        """Take in that what makes opinions raised: entries stop, or a strict run ends."""
        # A bug in what makes opinions must not leave the positions to themselves.
        if self.options.strict:
            self.fail(error)
            return
        self.stopped = self.stopped or error
        call = self.supervisor.call * (who == "strategy")
        self._make(who, "halt", raised(error), call)

    def fail(self, error: Exception) -> None:
        """Take in that a layer raised: the run ends, and `failure` is what ended it."""
        # A layer that raises is a bug; a bot with a bug must not go on trading.
        self._failure = self._failure or error
        self._failed.on_next(None)


def _judged(bot: Bot, judgement: Judgement) -> None:
    if bot.feedback is not None:
        bot.feedback.judged(judgement, bot.data.views)
    if isinstance(judgement, Withdraw):
        bot.journal.judged(judgement)
        bot._hubs.to_venue.on_next(judgement.cancel)
    elif isinstance(judgement, Approved | Reduce | Bracket):
        order = judgement.order
        worst = worst_case(order, bot.data.views.get(order.ticker), bot.risk)
        costs = flight_words(judgement, bot.risk) + cost_words(worst)
        bot.journal.judged(judgement, costs, bot.risk.positions())
        bot._hubs.to_venue.on_next(order)
    else:
        bot.journal.judged(judgement, held=bot.risk.watcher.priced(bot.risk.valued))


def _meet(bot: Bot, stranger: Stranger) -> None:
    # Somebody else is at the account: another machine, or its owner's hand.
    beside = bot.options.policy.hand_beside
    if beside and stranger.ticker:
        bot.risk.account.by_hand.add(stranger.ticker)
    known = beside or stranger.stood or bot.risk.standing.state == "HALTED"
    what, why = "adopt" if known else "halt", "somebody else trades the account: "
    if stranger.stood:
        why = "an order from before the run traded: "
    elif not stranger.order_id:
        what, why = "note", ""  # it may be for another subaccount, which is no harm here
    bot._make("account", what, one_line(why + stranger.words))


def trace(bot: Bot) -> Way:
    """Follow the frames of a run through its layers from here on; the same way while it goes on.

    `Way.end` ends it; then the next call begins another. Nothing that is decided depends on it.
    """
    if bot.shown.way is None:
        of = Looked(bot.data, bot.risk, bot.scorer, bot.journal, bot.meters)
        if bot.shown.monitor is not None:
            bot.shown.monitor.stages.rest()
        bot.shown.way = Way(_named(bot), of)
        bot.shown.way.begin()
    return bot.shown.way


def _named(bot: Bot) -> dict[str, Hub]:
    hubs = bot._hubs
    return {
        "frames": hubs.frames, "to_venue": hubs.to_venue, "to_risk": hubs.to_risk,
        "views": hubs.views, "to_strategy": hubs.to_strategy,
    }  # fmt: skip


def monitor(bot: Bot) -> Monitor:
    """Count for monitors from here on what nobody else needs; the same while the run goes on.

    Nothing that is decided depends on it. Connections are followed as well (`follow_links`).
    """
    bot.follow_links()
    if bot.shown.monitor is None:
        bot.shown.monitor = Monitor(partial(_named, bot))
    return bot.shown.monitor


def untrace(bot: Bot) -> None:
    """Follow the frames of a run no longer."""
    if bot.shown.way is not None:
        bot.shown.way.end()
        bot.shown.way = None


def _halt(bot: Bot, act: Frame, _: str) -> None:
    # A reason that stands is worth more than none.
    if act.text or not bot.risk.stops.halted:
        why = f"{act.text or 'no reason was given'} (by {act.link})"
        bot.risk.stops.halt(why, foreign=act.link == "account")
    bot._hubs.to_risk.on_next(act)


def _resume(bot: Bot, act: Frame, _: str) -> None:
    bot.risk.resume()
    bot._hubs.to_risk.on_next(act)


def _pause(bot: Bot, act: Frame, _: str) -> None:
    bot.risk.stops.pause(f"{act.text} (by {act.link})" if act.text else f"by {act.link}")
    bot._hubs.to_risk.on_next(act)


def _unpause(bot: Bot, act: Frame, _: str) -> None:
    bot.risk.stops.unpause()
    bot._hubs.to_risk.on_next(act)


def _flatten(bot: Bot, act: Frame, id_: str) -> None:
    # Nothing enters any more, and what is held leaves, through the gate.
    _halt(bot, act, id_)
    for row in bot.risk.positions():
        leave = Decision(
            ticker=row.ticker, seq=act.seq, at=act.at, action="target", target_usdc=0.0,
            previous_usdc=(row.net_notional or 0) / 1e6, urgency=1.0, score=0.0,
            reasons=(f"flatten by {act.link}: {act.text}",), scores=(), id=id_,
        )  # fmt: skip
        bot._hubs.to_risk.on_next(leave)


def _cancel(bot: Bot, _: Frame, __: str) -> None:
    # All but what leaves a position by itself: it would be unguarded, until that is placed again.
    bot._account_frames.extend(bot.venue.cancel(open_orders(bot)))


def open_orders(bot: Bot) -> list[OrderState]:
    """Return the orders that may still fill, whoever placed them, but the stops of what is held."""
    stays = bot.risk.account.orders.brackets
    open_ = bot.venue.accounts.orders.open()
    return [state for state in open_ if not (state.leaving or state.id in stays)]


def _reload(bot: Bot, act: Frame, id_: str) -> None:
    # All of it is read and validated before any of it is set.
    was = bot.options
    try:
        changes = changes_of(act.text)
        options = was.changed(changes, bot.scorer.names, act.link)
    except (ConnError, StrategyError) as error:
        bot._make(act.link, REFUSE, one_line(refusal(str(error))))
        return
    bot.risk.change(options.policy)
    if options.settings is not was.settings:  # equal ones may have another order
        bot._hubs.to_strategy.on_next(options.settings)
    bot.options = options
    bot._hubs.to_risk.on_next(act)
    _edited(bot, act, id_)


def _edited(bot: Bot, _: Frame, id_: str) -> None:
    bot.shown.edited = written = bot.journal.find(id_)
    bot.shown.notice = "" if written is None else written.words


_EFFECTS: Final[dict[str, Callable[[Bot, Frame, str], None]]] = {
    "halt": _halt,
    "resume": _resume,
    "pause": _pause,
    "unpause": _unpause,
    "flatten": _flatten,
    "cancel": _cancel,
    RELOAD: _reload,
    REFUSE: _edited,
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


def strategy_of(options: Options) -> Callable[[], Strategy] | None:
    """Return what makes the strategy.

    "none" is no opinion at all: the guard looks after an account that a person trades by hand.
    """
    if options.strategy == "none":
        return None
    if isinstance(options.settings, AllocatorSettings):
        forget_secrets()
        return load_allocator(options.settings, known(options.signals))
    kind, make = SETTINGS.get(options.strategy, (None, None))
    if kind is not None and make is not None and isinstance(options.settings, kind):
        return partial(make, options.settings)
    forget_secrets()
    return load_strategy(options.strategy, known(options.signals))
