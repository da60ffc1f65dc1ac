"""The desk of a run: other threads put questions, and the run's own answers them between frames.

    any thread ──► Desk.ask(question) ──► waits ──┐
               ──► Desk.put(question, then) ──────┤
    the run's thread, between two frames ──► Desk.answer ──► question(bot) ──► a frozen value

What a question returns crosses over to another thread: it is frozen, or made for it alone. A
question that is put again and again is `latest`: one answer serves whoever asks within its age, so
that a hundred monitors cost a run no more than one does, and none of them waits for a frame.

A recording that is played as fast as it can be gives way to who is being answered (`Desk.guest`,
`gives_way`); what comes from a network never waits for anybody.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, cast

from dydx_conn import ConnError

from bot.run.composition import Bot

T = TypeVar("T")
Question = Callable[[Bot], T]

PATIENCE_S: Final = 3.0  # ticks come every second: a run that does not answer for so long is stuck
_AGE_NS: Final = 250_000_000
# How long after the last question its answer is made again by itself.
_INTEREST_NS: Final = 10_000_000_000
# What is older is of a run that stands still: whoever asks waits for it, or learns so.
_OLD_NS: Final = 2_000_000_000
_ATTEND_S: Final = 0.005
# How long a recording gives way at a time, and how long it then plays on at least.
_WAY_S: Final = 0.010
_AGAIN_S: Final = 0.005
_OVER: Final = "expected a run that goes on, got one that is over"


class DeskError(ConnError):
    """A question could not be answered, or not in time; its text says which."""


class _Latest:
    """The newest answer to one question, when it was made, and when it was last wanted (mono)."""

    def __init__(self) -> None:
        self.value: Any = None
        self.at, self.wanted = 0, 0


class Desk:
    """Where other threads learn how a run stands; `answer` and `attend` are the run's own.

    `wake` is called, on any thread, where a question was put: whoever holds frames looks up then.
    """

    def __init__(self, *, gives_way: bool = False) -> None:
        self.wake: Callable[[], object] = lambda: None
        self._gives_way = gives_way
        self._bot: Bot | None = None
        self._waiting: queue.SimpleQueue[tuple[Question[Any], Callable[[Any], object]]]
        self._waiting = queue.SimpleQueue()
        self._latest: dict[Any, _Latest] = {}
        self._due = 0  # when an answer is to be made again by itself
        self._is_over = False
        self._guests, self._counting = 0, threading.Lock()
        self._turned = threading.Event()  # a question was put, or nobody is answered any more
        self._way_due_s = 0.0

    def begin(self, bot: Bot) -> None:
        """Answer of this run from now on; of another than before, where another one is shown."""
        self._bot, self._is_over = bot, False
        self._latest.clear()

    def end(self) -> None:
        """Answer no more: whoever waits, or comes later, learns at once that the run is over."""
        self._is_over = True
        self._refuse()

    # --- any thread ---

    def put(self, question: Question[T], then: Callable[[T | DeskError], object]) -> None:
        """Put a question; `then` gets what came of it, on the run's thread, and never raises."""
        self._waiting.put((question, then))
        self._turned.set()
        self.wake()
        if self._is_over:
            self._refuse()

    def _refuse(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()[1](DeskError(_OVER))

    @contextlib.contextmanager
    def guest(self) -> Iterator[None]:
        """Let a recording give way while somebody is answered."""
        with self._counting:
            self._guests += 1
        try:
            yield
        finally:
            with self._counting:
                self._guests -= 1
            if not self._guests:
                self._turned.set()

    def ask(self, question: Question[T], wait_s: float = PATIENCE_S) -> T:
        """Return the answer to a question; `DeskError` if it fails or does not come in time."""
        done, found = threading.Event(), list[T | DeskError]()

        def then(value: T | DeskError) -> None:
            found.append(value)
            done.set()

        self.put(question, then)
        if not done.wait(wait_s):
            raise DeskError(f"expected an answer within {wait_s:g} s, got none: no frames come")
        if isinstance(found[0], DeskError):
            raise found[0]
        return found[0]

    def latest(self, question: Question[T], wait_s: float = PATIENCE_S) -> T:
        """Return an answer that is at most a quarter of a second old, without waiting if there is.

        It is made again by itself for ten seconds. `question` is known again by its identity: a
        function of a module, never a closure.
        """
        known = self.known(question)
        return known if known is not None else self.ask(self.repeated(question), wait_s)

    def known(self, question: Question[T]) -> T | None:
        """Return the answer that is there already, if it is not too old."""
        now = time.monotonic_ns()
        known = self._latest.get(question)
        if known is None or now - known.at >= _OLD_NS:
            return None
        known.wanted = now
        return cast(T, known.value)

    def repeated(self, question: Question[T]) -> Question[T]:
        """Return the question as one whose answer is made again by itself from now on."""

        def answered(bot: Bot) -> T:
            value, at = question(bot), time.monotonic_ns()
            fresh = _Latest()
            fresh.value, fresh.at, fresh.wanted = value, at, at
            self._latest[question] = fresh
            self._due = 0
            return value

        return answered

    # --- the run's thread, between two frames ---

    def answer(self) -> None:
        """Answer what waits, and make again what is wanted still; a recording gives way, too."""
        self._answer()
        if self._guests and self._gives_way:
            self._give_way()

    def _answer(self) -> None:
        if (bot := self._bot) is None:
            return
        while not self._waiting.empty():
            question, then = self._waiting.get()
            try:
                value = question(bot)
            except Exception as error:  # noqa: BLE001 - who asks may not stop what runs
                value = DeskError(f"expected an answer, got {type(error).__name__}: {error}")
            then(value)
        if self._latest and (now := time.monotonic_ns()) >= self._due:
            self._make_again(bot, now)

    def _give_way(self) -> None:
        # Two threads that compute at once take the interpreter from each other a thousand times a
        # second, and each does a third of what it could: that one waits takes less of both.
        if (began := time.monotonic()) < self._way_due_s:
            return
        while self._guests and (left_s := began + _WAY_S - time.monotonic()) > 0:
            self._turned.clear()
            self._answer()
            if self._guests:
                self._turned.wait(left_s)
        self._way_due_s = time.monotonic() + _AGAIN_S

    def attend(self) -> float:
        """Answer while no frame comes; return in how many seconds to do so again (`Inbox`)."""
        self.answer()
        return _ATTEND_S

    def _make_again(self, bot: Bot, now: int) -> None:
        self._due = now + _AGE_NS
        for question, known in [*self._latest.items()]:
            if now - known.wanted >= _INTEREST_NS:
                del self._latest[question]  # nobody looks any more
                continue
            try:
                known.value = question(bot)
            except Exception:  # noqa: BLE001 - whoever asks next learns of it
                del self._latest[question]
            else:
                known.at = now
