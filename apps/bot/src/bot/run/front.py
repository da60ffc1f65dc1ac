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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from dydx_conn import ConnError, Frame
from dydx_data import DataState, MarketView, step
from dydx_signals import ALL, Engine, Scored, Scorer
from reactivex import Observable, operators

from bot.run.budget import watched
from bot.run.composition import Bot, Options
from bot.run.meters import Meters
from bot.run.paper import book_model_of
from bot.run.signals import Make

_OfMarket = Sequence[Scored]  # nothing, or the market that was scored


def play(
    frames: Observable[Frame],
    variants: Sequence[Options],
    on_frame: Callable[[Frame], None] | None = None,
) -> list[Bot]:
    """Play a source once through every variant; return the bot of each, as it stands at the end.

    `on_frame` is called after each frame. What a variant raises ends that variant alone: it is its
    `failure`, or `stopped` if it was its strategy's. Raises what the source raises, and before the
    first frame what no bot can be made of. Nobody may follow or trace a bot meanwhile.
    """
    front, errors = Front(variants), list[Exception]()
    passing = frames.pipe(operators.take_while(lambda _: bool(front.running)))

    def take(frame: Frame) -> None:
        front.take(frame)
        if on_frame is not None:
            on_frame(frame)

    try:
        with watched([bot.supervisor for bot in front.bots]):
            passing.subscribe(take, errors.append)
    finally:
        front.close()
    if errors:
        raise errors[0]
    return front.bots


class Front:
    """What the variants share; `take` lets a frame in, to all that are `running`."""

    def __init__(self, variants: Sequence[Options]) -> None:
        if len({one.paper.book_model for one in variants}) > 1:
            raise ConnError(
                "expected variants of one paper.book_model, got several: a pass has one"
            )
        self.data = DataState(model=book_model_of(variants[0].paper) if variants else None)
        self.meters = Meters()
        self._scoring = Scoring()
        self.bots = [
            Bot(one, data=self.data, scorer=partial(self._scoring.scorer, one)) for one in variants
        ]
        self.running = [Back(bot, self._scoring) for bot in self.bots]
        for bot in self.bots:
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
        if frame.link != "node":
            for view in step(self.data, frame):
                self._see(view)
        for back in running:
            back.settle(frame)
        self.meters.latency.add(time.perf_counter_ns() - started)
        shown.take(frame)
        if any(back.bot.failure is not None for back in self.running):
            self.running = [back for back in self.running if back.bot.failure is None]

    def close(self) -> None:
        """Let go of every stream; what a report has of the source was counted once for all."""
        for bot in self.bots:
            with suppress(Exception):  # it has it, as its `failure` or as what `stopped` it
                bot.close()
            shown, counted = bot.shown, self.bots[0].shown
            shown.kinds, shown.bytes = Counter(counted.kinds), counted.bytes
            shown.last_loss = counted.last_loss

    def _see(self, view: MarketView) -> None:
        scored = self._scoring.step(view) if view.live_at else []
        for back in self.running:
            back.see(view)
            if scored:
                back.rate(scored[back.group])


class Back:
    """One variant: its bot, and which of the scorers is its own."""

    def __init__(self, bot: Bot, scoring: "Scoring") -> None:
        self.bot, self.group = bot, scoring.scorers.index(bot.scorer)
        self._scoring, self._rates = scoring, bot.shown.strategy is not None

    def see(self, view: MarketView) -> None:
        """Show a view to its venue and its risk."""
        self.bot.see(view)

    def rate(self, scored: _OfMarket) -> None:
        """Show a market that was scored to its strategy."""
        if not self._rates:
            return
        error = self._scoring.errors.get(self.group)
        try:
            for one in scored:
                self.bot.rate(one)
        except Exception as raised:  # noqa: BLE001 - a variant's own end
            error = raised
        if error is not None:
            self._rates = False
            self.bot.stop("signals", error)

    def settle(self, frame: Frame) -> None:
        """Let in what a frame brought beside views."""
        try:
            self.bot.settle(frame)
        except Exception as error:  # noqa: BLE001 - a variant's own end
            self.bot.fail(error)


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
