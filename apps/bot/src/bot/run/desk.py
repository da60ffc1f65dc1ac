"""The desk of a run: other threads put questions, and the run's own answers them between frames.

    any thread ──► Desk.ask(question) ──► waits ──┐
    the run's thread, between two frames ──► Desk.answer ──► question(bot) ──► a frozen value

What a question returns crosses over to another thread: it is frozen, or made for it alone. A
question that is put again and again is `latest`: one answer serves whoever asks within its age, so
that a hundred monitors cost a run no more than one does, and none of them waits for a frame.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

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
_ATTEND_S: Final = 0.02


class DeskError(ConnError):
    """A question could not be answered, or not in time; its text says which."""


class _Pending(Generic[T]):
    """One question on its way, and what came of it."""

    def __init__(self, question: Question[T]) -> None:
        self.question = question
        self.done = threading.Event()
        self.value: T | None = None
        self.error = ""


class _Latest:
    """The newest answer to one question, when it was made, and when it was last wanted (mono)."""

    def __init__(self) -> None:
        self.value: Any = None
        self.at, self.wanted = 0, 0


class Desk:
    """Where other threads learn how a run stands; `answer` and `attend` are the run's own."""

    def __init__(self) -> None:
        self._bot: Bot | None = None
        self._waiting: queue.SimpleQueue[_Pending[Any]] = queue.SimpleQueue()
        self._latest: dict[Any, _Latest] = {}
        self._due = 0  # when an answer is to be made again by itself

    def begin(self, bot: Bot) -> None:
        """Answer of this run from now on; of another than before, once somebody goes back in it."""
        self._bot = bot

    # --- any thread ---

    def ask(self, question: Question[T], wait_s: float = PATIENCE_S) -> T:
        """Return the answer to a question; `DeskError` if it fails or does not come in time."""
        pending = _Pending(question)
        self._waiting.put(pending)
        if not pending.done.wait(wait_s):
            raise DeskError(f"expected an answer within {wait_s:g} s, got none: no frames come")
        if pending.error:
            raise DeskError(pending.error)
        return cast(T, pending.value)

    def latest(self, question: Question[T], wait_s: float = PATIENCE_S) -> T:
        """Return an answer that is at most a quarter of a second old, without waiting if there is.

        It is made again by itself for ten seconds. `question` is known again by its identity: a
        function of a module, never a closure.
        """
        now = time.monotonic_ns()
        known = self._latest.get(question)
        if known is not None and now - known.at < _OLD_NS:
            known.wanted = now
            return cast(T, known.value)

        def answered(bot: Bot) -> T:
            value, at = question(bot), time.monotonic_ns()
            fresh = _Latest()
            fresh.value, fresh.at, fresh.wanted = value, at, at
            self._latest[question] = fresh
            self._due = 0
            return value

        return self.ask(answered, wait_s)

    # --- the run's thread, between two frames ---

    def answer(self) -> None:
        """Answer what waits, and make again what is wanted still."""
        if (bot := self._bot) is None:
            return
        while not self._waiting.empty():
            pending = self._waiting.get()
            try:
                pending.value = pending.question(bot)
            except Exception as error:  # noqa: BLE001 - who asks may not stop what runs
                pending.error = f"expected an answer, got {type(error).__name__}: {error}"
            pending.done.set()
        if self._latest and (now := time.monotonic_ns()) >= self._due:
            self._make_again(bot, now)

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
