"""What each layer, engine and detector costs: rows of `tools/bench.py`.

A stopwatch stands around the one function of each (`step`, `update`, `read`) while a recording is
played through all of them, so that each works on what it would work on. What the stopwatch itself
takes is measured beside them and left out.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final
from unittest.mock import patch

Row = tuple[str, str, str, str]
ROUNDS = 3


class Stopwatch:
    """How long calls of one function took in all, less what looking at the clock takes."""

    def __init__(self) -> None:
        self.ns = self.calls = 0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""
        clock = time.thread_time_ns  # a machine that does more than this takes no part

        def timed(*arguments: Any) -> Any:
            started = clock()
            done = work(*arguments)
            self.ns += clock() - started
            self.calls += 1
            return done

        return timed

    @property
    def net_ns(self) -> float:
        """Return what the calls took without the stopwatch."""
        return max(self.ns - self.calls * _EMPTY_NS, 0.0)


def _empty_ns() -> float:
    watch = Stopwatch()
    nothing = watch.around(lambda _: None)
    for _ in range(20_000):
        nothing(0)
    return watch.ns / watch.calls


_EMPTY_NS: Final = _empty_ns()


def layers(recording: str) -> Iterator[Row]:
    """Play a recording through the bot, with a stopwatch around each layer's step."""
    import dydx_data
    import dydx_paper
    import dydx_risk
    import dydx_signals
    import dydx_strategy
    from bot.run.composition import Bot, Options
    from dydx_conn import load_recorded_stream

    steps: dict[str, Any] = {
        "data, decoding included": dydx_data,
        "paper": dydx_paper.PaperVenue,
        "risk": dydx_risk.Risk,
        "signals, what is read excepted": dydx_signals.Scorer,
        "strategy, and the scores it reads": dydx_strategy.Decider,
    }

    def play() -> dict[str, float]:
        watches = {name: Stopwatch() for name in steps}
        with ExitStack() as stack:
            for name, owner in steps.items():
                timed = watches[name].around(owner.step)
                stack.enter_context(patch.object(owner, "step", timed))
            bot = Bot(Options())
            total = Stopwatch()
            total.around(bot.run)(load_recorded_stream(recording))
        timers = sum(watch.calls for watch in watches.values()) * _EMPTY_NS
        spent = {name: watch.net_ns for name, watch in watches.items()}
        # Reading, hops, accounts, journal.
        spent["the rest"] = total.ns - timers - math.fsum(spent.values())
        return {name: ns / bot.data.frames for name, ns in spent.items()}

    for name, ns in _least(play).items():
        yield f"a frame: {name}", _us(ns), "", ""


def engines(recording: str) -> Iterator[Row]:
    """Let each engine take every view that can change it, and read its score each time."""
    import dydx_signals

    made = getattr(dydx_signals, "ALL", dydx_signals.STANDARD)
    calls = (
        ("update", "a frame", lambda engine, view: engine.update(view)),
        ("read", "a read", lambda engine, view: engine.read(view.ticker)),
    )
    yield from _each(recording, "signal", made, calls)


def detectors(recording: str) -> Iterator[Row]:
    """Let each detector take every view that can change it."""
    import dydx_data

    made = getattr(dydx_data, "DETECTORS", ())
    calls = (("step", "a frame", lambda detector, view: detector.step(view)),)
    yield from _each(recording, "detector", made, calls)


_Calls = Sequence[tuple[str, str, Callable[[Any, Any], Any]]]


def _each(
    recording: str, kind: str, made: Iterable[Callable[[], Any]], calls: _Calls
) -> Iterator[Row]:
    """Play a recording through things that take views; yield a row for each of their calls."""
    from dydx_conn import Recording, find_recording
    from dydx_data import DataState, step

    frames = list(Recording(find_recording(recording)))

    def play() -> dict[str, float]:
        state, things = DataState(), [make() for make in made]
        watches = {(x.name, call): Stopwatch() for x in things for call, _, _ in calls}
        timed = [
            (x, [watches[x.name, call].around(work) for call, _, work in calls]) for x in things
        ]
        for frame in frames:
            for view in step(state, frame):
                if view.live_at:
                    for thing, works in timed:
                        if view.changed in thing.changes:
                            for work in works:
                                work(thing, view)
        return {
            f"{kind} {name}, {per}": watches[name, call].net_ns
            / (len(frames) if per == "a frame" else max(watches[name, call].calls, 1))
            for name in dict.fromkeys(x.name for x in things)
            for call, per, _ in calls
        }

    for name, ns in _least(play).items():
        yield name, _us(ns), "", ""


def _least(play: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the least of each figure over some rounds: noise only ever adds."""
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        gc.collect()
        for name, ns in play().items():
            found[name] = min(ns, found.get(name, ns))
    return found


def _us(ns: float) -> str:
    return f"{ns / 1e3:,.2f} µs"
