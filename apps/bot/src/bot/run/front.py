"""One pass of a source for many variants of a run: what all would fold alike is folded once.

    frames ──► market views ──► engines ──┬─► Back of variant 1: strategy, risk, venue, journal
               folded once      each once ├─► Back of variant 2
                                          └─► …

A variant is `Options`. It decides byte for byte what it would decide alone: nothing is shared but
what no variant changes. Variants may differ in what they score, too: an engine is made once for
all that make it alike. A strategy's own code that changes what it reads changes it for all.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from dydx_conn import ConnError, Frame
from dydx_data import DataState, MarketView, step
from dydx_paper import PaperVenue, block_and_hour
from dydx_risk import Elapsed, Turns
from dydx_signals import ALL, Engine, Scored, Scorer
from reactivex import Observable, operators

from bot.run.budget import watched
from bot.run.composition import Bot, Options
from bot.run.meters import Meters
from bot.run.paper import book_model_of
from bot.run.signals import Make

_OfMarket = Sequence[Scored]  # nothing, or the market that was scored

# What most views change; of these the last three change no price of what is held.
_USUAL: Final = frozenset(["oracle", "funding", "candles", "bar", "book", "trades", "time"])
_PRICELESS: Final = frozenset(["book", "trades", "time"])
_ENDING: Final = ("act", "state")  # frames that every variant takes in
_NEVER: Final = 2**63


def play(
    frames: Observable[Frame],
    variants: Sequence[Options],
    on_frame: Callable[[Frame], None] | None = None,
    *,
    opens_ns: int | None = None,
    closes_ns: int | None = None,
) -> list[Bot]:
    """Play a source once through every variant; return the bot of each, as it stands at the end.

    `on_frame` is called after each frame. What a variant raises ends that variant alone: it is its
    `failure`, or `stopped` if it was its strategy's. Raises what the source raises, and before the
    first frame what no bot can be made of. Nobody may follow or trace a bot meanwhile.

    A span of a source is from `opens_ns` to before `closes_ns`, by the time of its frames. What
    comes before warms up all that is made of the market alone (books, candles, scores, what a
    strategy takes in): no strategy knows its account yet, and nothing comes of what it decides.
    What is held when the span closes stays open, valued as it stands.
    """
    front, errors = Front(variants, opens_ns), list[Exception]()

    def take(frame: Frame) -> None:
        front.take(frame)
        if on_frame is not None:
            on_frame(frame)

    def goes_on(frame: Frame) -> bool:
        return bool(front.running) and (closes_ns is None or frame.at < closes_ns)

    try:
        with watched([bot.supervisor for bot in front.bots]):
            frames.pipe(operators.take_while(goes_on)).subscribe(take, errors.append)
    finally:
        front.close()
    if errors:
        raise errors[0]
    return front.bots


class Front:
    """What the variants share; `take` lets a frame in, to all that are `running`."""

    def __init__(self, variants: Sequence[Options], opens_ns: int | None = None) -> None:
        if len({one.paper.book_model for one in variants}) > 1:
            raise ConnError(
                "expected variants of one paper.book_model, got several: a pass has one"
            )
        self.data = DataState(model=book_model_of(variants[0].paper) if variants else None)
        self.elapsed, self.meters = Elapsed(), Meters()
        self._scoring = Scoring()
        self.scorer = self._scoring.scorer
        self.bots = [Bot(one, shared=self) for one in variants]
        self.running = [Back(bot, self._scoring) for bot in self.bots]
        self._begun = Begun()
        self._newest: MarketView | None = None
        self._opens_ns = _NEVER if opens_ns is None else opens_ns
        for bot in self.bots:
            bot.informed = opens_ns is None
            bot.meters, bot.shown.last_frames = self.meters, self.bots[0].shown.last_frames

    def take(self, frame: Frame) -> None:
        """Let a frame in, to every variant."""
        running = self.running
        if frame.kind == "act":
            # It was recorded of a run like these, which have made it again.
            running = [back for back in running if not back.bot.made.is_one(frame)]
            if not running:
                return
        started, shown = time.perf_counter_ns(), self.bots[0].shown
        shown.last_frames.append(frame)
        if frame.at >= self._opens_ns:
            self._open()
        if frame.link != "node":
            for view in step(self.data, frame):
                self._see(view)
        ends_all = frame.kind in _ENDING or frame.channel == "v4_block_height"
        ended = False
        for back in running:
            if ends_all or not back.is_settled:
                back.settle(frame, self._newest)
                ended = ended or back.bot.failure is not None
        self.meters.latency.add(time.perf_counter_ns() - started)
        shown.take(frame)
        if ended:
            self.running = [back for back in self.running if back.bot.failure is None]

    def close(self) -> None:
        """Let go of every stream; what a report has of the source was counted once for all."""
        for bot in self.bots:
            with suppress(Exception):  # it has it, as its `failure` or as what `stopped` it
                bot.close()
            shown, counted = bot.shown, self.bots[0].shown
            shown.kinds, shown.bytes = Counter(counted.kinds), counted.bytes
            shown.last_loss = counted.last_loss
            bot.scores_itself = True  # whoever goes on from here is alone

    def _open(self) -> None:
        self._opens_ns = _NEVER
        for back in self.running:
            back.open()

    def _see(self, view: MarketView) -> None:
        self._newest = view
        self.elapsed.move(view.at)
        ticker, at, now = view.ticker, view.at, self.elapsed.now
        everywhere, prices = self._begun.take(view)
        scored = self._scoring.step(view) if view.live_at else ()
        trades = view.changed == "trades" or bool(self._scoring.errors)
        for back in self.running:
            held = back.held
            if everywhere or now >= back.until or ticker in back.tickers or (prices and held):
                back.see(view)
            elif ticker in held:
                back.see(view) if view.book.modelled else back.risk.pass_over(view)
            if scored and (trades or back.news or at >= back.due.get(ticker, 0)):
                back.rate(view, scored[back.group])


class Begun:
    """What begins with a view, so that it matters to whoever would else rest."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._moment = 0, 0
        self._seen: set[str] = set()
        self._priced = -1

    def take(self, view: MarketView) -> tuple[bool, bool]:
        """Return whether a view matters everywhere, and whether to all that hold anything."""
        begins = view.changed not in _USUAL or view.ticker not in self._seen
        if self._turns.is_over(view):
            self._turns.begin(view)
            begins = True
        if (moment := block_and_hour(view)) != self._moment:
            self._moment, begins = moment, True
        self._seen.add(view.ticker)
        prices = view.changed not in _PRICELESS and view.seq != self._priced
        if prices:  # the first such view of a frame shows the prices of all
            self._priced = view.seq
        return begins, prices


class Back:
    """One variant: its bot, which of the scorers is its own, and what it need not look at.

    Before the time `until` or the next turn no view but those of `tickers` matters to its venue
    and its risk, nor to its strategy any score of a market before the time that is `due`, but that
    of trades.
    """

    def __init__(self, bot: Bot, scoring: "Scoring") -> None:
        self.bot, self.risk, self.group = bot, bot.risk, scoring.scorers.index(bot.scorer)
        self.tickers: Collection[str] = ()
        self.held: Collection[str] = ()
        self.until = 0
        self.due: dict[str, int] = {}
        self.news = self.is_settled = True
        self._scoring, self._venue = scoring, cast(PaperVenue, bot.venue)
        self._rates = bot.decider is not None

    def see(self, view: MarketView) -> None:
        """Show a view to its venue and its risk."""
        written = self.bot.journal.written
        self.bot.see(view)
        self.until = _NEVER
        self._turn(written)
        if self.until:
            self.tickers, until = self._venue.concerns()
            self.held, self.until = self.risk.valued.held, min(until, self.risk.rests_until())

    def rate(self, view: MarketView, scored: _OfMarket) -> None:
        """Show a market that was scored to its strategy."""
        bot, error = self.bot, self._scoring.errors.get(self.group)
        if (decider := bot.decider) is None or not self._rates:
            return
        if not self.news and error is None and view.at < (due := decider.rests_until(view)):
            self.due[view.ticker] = due
            return
        self._venue.pass_over(view)
        written = bot.journal.written
        try:
            for one in scored:
                bot.rate(one)
        except Exception as raised:  # noqa: BLE001 - a variant's own end
            error = raised
        if error is not None:
            self._rates = False
            bot.stop("signals", error)
        self._turn(written)

    def settle(self, frame: Frame, newest: MarketView | None) -> None:
        """Let in what a frame brought beside views; `newest` is the last view that there was."""
        bot, written = self.bot, self.bot.journal.written
        if newest is not None:
            self._venue.pass_over(newest)
        try:
            bot.settle(frame)
        except Exception as error:  # noqa: BLE001 - a variant's own end
            bot.fail(error)
        self._turn(written)
        self.until = 0

    def open(self) -> None:
        """Let the strategy know its account from here on."""
        self.bot.informed = self.news = True

    def _turn(self, written: int) -> None:
        """Look at the next view and score, where anything was decided or has become of it."""
        bot = self.bot
        self.is_settled = bot.is_settled and bot.failure is None
        feedback = bot.feedback if bot.informed else None
        self.news = feedback is not None and feedback.is_waiting(self.risk)
        if bot.journal.written != written or not self.is_settled:
            self.until = 0
            self.due.clear()


class Scoring:
    """What is scored for all variants: an engine folds a view once, whoever reads it.

    `errors` has what an engine of a user's own raised, by the number of each scorer that reads it.
    """

    def __init__(self) -> None:
        self.scorers: list[Scorer] = []
        self.errors: dict[int, Exception] = {}
        self._engines: dict[Any, Engine] = {}
        self._groups: dict[Any, Scorer] = {}
        self._folding: dict[str, list[Engine]] = {}

    def scorer(self, options: Options, makes: Sequence[Make]) -> Scorer:
        """Return what scores with these engines, for whoever's options are alike in that."""
        made = [make() for make in makes]
        keys = (*(_alike(options, engine) for engine in made),)
        if keys not in self._groups:
            engines = [self._engines.setdefault(*each) for each in zip(keys, made, strict=True)]
            self._groups[keys] = Scorer([partial(_itself, engine) for engine in engines])
            self.scorers.append(self._groups[keys])
        return self._groups[keys]

    def step(self, view: MarketView) -> list[_OfMarket]:
        """Take one view; return for each scorer its market, or nothing if no score could change."""
        scored: list[_OfMarket] = [scorer.note(view) for scorer in self.scorers]
        engines = self._folding.get(view.changed)
        if engines is None:
            known = self._engines.values()
            engines = [engine for engine in known if view.changed in engine.changes]
            self._folding[view.changed] = engines
        for engine in engines:
            try:
                engine.update(view)
            except Exception as error:  # noqa: BLE001 - of a user's own, and a variant's own end
                self._lose(engine, error)
        for number in self.errors:
            scored[number] = ()
        return scored

    def _lose(self, lost: Engine, error: Exception) -> None:
        self._engines = {key: each for key, each in self._engines.items() if each is not lost}
        self._folding = {}
        for keys, scorer in self._groups.items():
            if not all(key in self._engines for key in keys):
                self.errors.setdefault(self.scorers.index(scorer), error)


def _alike(options: Options, engine: Engine) -> Any:
    """Return what engines have in common that give the same scores on the same frames."""
    name, state = engine.name, options.state
    mine = "" if type(engine) in ALL else options.signals  # of a user's file
    tuned = (*sorted(options.tuned.get(name, {}).items()),)
    return name, mine, tuned, "" if state is None else state.text


def _itself(engine: Engine) -> Engine:
    return engine
