"""How long a strategy may take: what takes longer is interrupted, on the thread that called it.

    scores, news ──► Supervisor.step ──► Decider ──► decisions, or a StrategyError
    interval timer, while a frame is decided on ──► tick ──► Overrun, raised inside the strategy
    a recorded stop ──► Foreseen.stops ──► the strategy is not called where it was stopped

The guard runs on the same thread, so a strategy that loops or sleeps would take it down. The timer
never runs while the run waits for a frame or a key: before Python 3.13 a signal makes
`SimpleQueue.get` forget its timeout. Where nothing is waited for it is set once. Ticks are counted
and not their distance in time: those of a process that was stopped, or that the machine had no
time for, come as one. What a call had decided by then is discarded whole.

Not held: one call into C that does not come back, threads of the strategy's own, `os._exit`, and
code that goes out of its way to catch all. A run outside the main thread is not watched at all, and
Windows has no such timer (nor termios and flock, without which the bot does not start there).
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
from dydx_conn import Frame, Recording
from dydx_signals import Scored
from dydx_strategy import Decider, Decision, StrategyError

from bot.run.kinds import Kinds
from bot.system import IS_UNIX

# === Budgets ===
# How long is too long, where money may be at stake and where it is not.

TICK_S: Final = 0.05
# Time outside the strategy pays for twice as much inside: two thirds of all time is too much.
_PAYS: Final = 2


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How long calls of a strategy may take, in seconds; each is 0.05 s more at most.

    `first_s` is for all calls until the first `step` has returned, which may compile or import;
    `call_s` for each after it. `busy_s` is how long calls may take more than two thirds of all time
    (None: for ever). `load_s` is for its file to be run and the strategy to be made. `rests`: stop
    the timer after each frame, as the source may wait for the next one.
    """

    call_s: float
    first_s: float
    busy_s: float | None = None
    load_s: float = 30.0
    rests: bool = False


# A step takes microseconds; half a second without the guard is what a bad one may cost, once.
LIVE: Final = Budget(call_s=0.5, first_s=5.0, busy_s=1.0, rests=True)
# Nothing is at stake in a recording but that it ends, and no clock may change what it does.
REPLAYED: Final = Budget(call_s=5.0, first_s=30.0)


# === Supervision ===
# One strategy of one run: each call of it is counted, and interrupted where it takes too long.


class Overrun(BaseException):
    """A call took longer than its budget; raised within it."""


class Supervisor:
    """Calls the strategy of a run: `watching` is entered around it, `rest` called before a wait."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        # The recorded stops that a replay obeys, by the frame they came at.
        self.stops: dict[int, Frame] = {}
        self.call = 0  # of this frame, counted from 1
        self._seq = -1
        self._cold, self._allowed_s = True, budget.first_s
        self._watching = self._armed = False
        self._inside = False  # a call that may be interrupted
        self._ticks = 0  # that fell into it
        self._overrun: Overrun | None = None
        self._busy_ns = self._left_ns = 0

    def step(self, decider: Decider, event: Any, at: Frame) -> list[Decision]:
        """Hand an event to the strategy; `StrategyError` if it takes too long.

        `at` is the frame at hand: where a recording says that the strategy was stopped there, it
        is, at the same call, without being called.
        """
        self.call = self.call + 1 if at.seq == self._seq else 1
        self._seq = at.seq
        if (stop := self.stops.get(at.seq)) is not None and stop.message_id == self.call:
            raise StrategyError(stop.text)
        if self._watching and not self._armed:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
        entered_ns = time.monotonic_ns()
        try:
            decided = self._call(decider, event)
            self._account(entered_ns)
        except Overrun as overrun:
            self._inside = False  # it may have come in between
            called = _called(decider.strategy, event)
            raise StrategyError(f"expected {called} to return {overrun}") from overrun
        except (Exception, KeyboardInterrupt):  # Ctrl-C is the person's
            raise
        except BaseException as error:  # a cancelled task's, or one of its own: the guard goes on
            called, got = _called(decider.strategy, event), type(error).__name__
            raise StrategyError(f"expected {called} to return, got {got}: {error}") from error
        if self._cold and type(event) is Scored:
            self._cold, self._allowed_s = False, self.budget.call_s
        return decided

    def pass_over(self, seq: int) -> None:
        """Count a call within a frame that is left out, as nothing would come of it."""
        self.call = self.call + 1 if seq == self._seq else 1
        self._seq = seq

    def rest(self) -> None:
        """Stop the timer until the strategy is called again: the run may wait now."""
        if self._armed:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def go_back(self) -> None:
        """Count calls from the first again: the next frame may be one that was here already."""
        self._seq = -1

    @contextlib.contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """Bound the running of a strategy's file; `StrategyError` if it takes too long."""
        with self.watching():
            if self._watching:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
            self._allowed_s, self._ticks, self._inside = self.budget.load_s, 0, True
            try:
                yield
            except Overrun as overrun:
                raise StrategyError(f"expected {name} to load {overrun}") from overrun
            finally:
                self._inside, self._allowed_s = False, self.budget.first_s

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take the timer's signal; on the main thread alone, as only there one can be taken.

        A system without such a timer bounds nothing: there recordings are played, nothing live.
        """
        with watched([self]):
            yield

    def _call(self, decider: Decider, event: Any) -> list[Decision]:
        self._ticks = 0
        try:
            self._inside = True
            decided = decider.step(event)
        finally:
            self._inside = False
        if self._overrun is not None:  # which the strategy swallowed
            raise self._overrun
        return decided

    def _account(self, entered_ns: int) -> None:
        if (busy_s := self.budget.busy_s) is None:
            return
        outside_ns, now = entered_ns - self._left_ns, time.monotonic_ns()
        self._left_ns = now
        # No single call is enough: it may be the process that was stopped.
        inside_ns = min(now - entered_ns, int(self._allowed_s * 1e9))
        self._busy_ns = max(self._busy_ns - _PAYS * outside_ns, 0) + inside_ns
        if self._busy_ns > max(busy_s, self._allowed_s) * 1e9:
            what = "soon enough to leave a third of all time to the guard"
            raise Overrun(f"{what}, got less for {busy_s:g} s")

    def begin_watching(self) -> None:
        """Expect ticks from here on."""
        self._watching = True

    def end_watching(self) -> bool:
        """Expect no more ticks; return whether a call was ever interrupted."""
        self._watching = self._armed = False
        return self._overrun is not None

    def tick(self, _: int, frame: FrameType | None) -> None:
        """Take a signal of the timer: it interrupts the call at hand, if that takes too long."""
        self._ticks += 1
        if not self._inside or self._ticks * TICK_S <= self._allowed_s:
            return
        again = self._overrun is not None
        self._overrun = Overrun(f"within {self._allowed_s:g} s, got no return")
        if again:
            _insist(self._overrun, frame)
        raise self._overrun


@contextlib.contextmanager
def watched(supervisors: Sequence[Supervisor]) -> Iterator[None]:
    """Take the timer's signal for several runs on one pass of frames, as `Supervisor.watching`."""
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and IS_UNIX):
        yield
        return

    def tick(number: int, frame: FrameType | None) -> None:
        for each in supervisors:  # no more than one is within a call
            each.tick(number, frame)

    handler = supervisors[0].tick if len(supervisors) == 1 else tick
    before, tracing = signal.signal(signal.SIGALRM, handler), sys.gettrace()
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    for each in supervisors:
        each.begin_watching()
    try:
        yield
    finally:
        overruns = [each.end_watching() for each in supervisors]
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
        if any(overruns):
            sys.settrace(tracing)


def _called(strategy: object, event: object) -> str:
    """Name the method and where it begins: the line that it was interrupted at is chance."""
    name = "step" if type(event) is Scored else "learn"
    code = getattr(getattr(strategy, name, None), "__code__", None)
    where = f" at {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""
    return name + where


def _insist(overrun: Overrun, frame: FrameType | None) -> None:
    """Raise at the next line as well: that is the clause which swallowed it the last time."""

    def trace(_: FrameType, event: str, __: object) -> Any:
        if event == "line":
            raise overrun  # and Python traces no more
        return trace

    sys.settrace(trace)
    while frame is not None and frame.f_code.co_filename != _LAYER:
        frame.f_trace = trace
        frame = frame.f_back


# As its code has it: in an executable that is not where the file stands.
_LAYER: Final = Decider.step.__code__.co_filename


# === Recorded stops ===
# What a recording says of the strategy is known before the frame that it is about.


class Foreseen(Recording):
    """A recording that knows, before it yields a frame, whether the strategy was stopped at it."""

    def __init__(self, path: Path, kinds: Kinds = None) -> None:
        super().__init__(path, kinds)
        self.stops: dict[int, Frame] = {}

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; the acts that a frame led to have its number, and come with it."""
        held: list[Frame] = []
        for frame in super().__iter__():
            if held and (frame.kind != "act" or frame.seq != held[0].seq):
                yield from held
                held = []
            held.append(frame)
            if frame.kind == "act" and frame.link == "strategy" and frame.message_id:
                self.stops[frame.seq] = frame
        yield from held
