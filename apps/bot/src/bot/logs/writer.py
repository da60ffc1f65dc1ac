"""The one thread that writes a log: lines are made, redacted and appended beside the run.

    put ──► at most 10,000 in memory ──► every fifth of a second: rendering ──► file, stderr

`put` neither renders nor waits, but in a replay, which waits for the log. What does not fit is
counted and has a line of its own; where the file cannot be written the thread tries again until it
can, and `trouble` says so meanwhile. Every text passes `redact`, whatever it is of.
"""

import threading
import time
from collections import deque
from typing import Any, Final, TextIO

from bot.logs.events import Line, entry_line
from bot.logs.file import LogFile
from bot.logs.rendering import Rendering
from bot.run.journal import JournalEntry

MOST: Final = 10_000  # things in memory, above which they are counted alone
_BATCH: Final = 500
_EVERY_S: Final = 0.2  # what is lost by a kill -9 is no older
_RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LAST: Final = len(_RETRY_S) - 1
_END_S: Final = 5.0
_NEVER: Final = float("inf")

Thing = Line | tuple[JournalEntry, int]  # what a line is made of; an entry, and when it was noted


class _Outage:
    """A time in which nothing can be written: why, how often it failed, when it is tried again."""

    def __init__(self) -> None:
        self.why, self.failures, self.until = "", 0, 0.0

    def begin(self, why: str) -> None:
        """Note that it failed, once more or for the first time."""
        self.why, self.until = why, time.monotonic() + _RETRY_S[min(self.failures, _LAST)]
        self.failures += 1


class LogWriter:
    """Writes lines to a file, to people, or to both; `trouble` is what is wrong, "" if nothing is.

    `run` stands in every line. In a replay `waits` lets the run wait for room.
    """

    def __init__(
        self,
        file: LogFile | None,
        run: str,
        *,
        level: int,
        human: TextIO | None = None,
        waits: bool = False,
    ) -> None:
        self.trouble, self.level = "", level
        self.written = self.dropped = 0
        self._file, self._waits, self._rendering = file, waits, Rendering(run, human)
        self._waiting: deque[Thing] = deque()
        self._lines: list[bytes] = []  # made, and not in the file yet
        self._wake, self._room = threading.Event(), threading.Event()
        self._reported, self._outage, self._ends = 0, _Outage(), _NEVER
        self._thread = threading.Thread(target=self._live, name="log", daemon=True)

    def start(self) -> None:
        """Begin to write; what was put before is written first."""
        self._thread.start()

    def put(self, thing: Thing) -> None:
        """Let a line be written soon, from any thread; it never waits and never raises."""
        if len(self._waiting) < MOST:
            self._waiting.append(thing)
        else:
            self.dropped += 1

    def put_run(self, thing: Thing) -> None:
        """Let a line of the run be written: a replay waits for room, as long as lines are taken."""
        while self._waits and len(self._waiting) >= MOST and not self._outage.failures:
            self._room.clear()
            self._wake.set()
            if not self._thread.is_alive():
                break
            self._room.wait(_EVERY_S)
        self.put(thing)

    def figures(self) -> dict[str, int]:
        """Return how many lines are written, wait and were dropped; read from any thread."""
        waiting = len(self._waiting) + len(self._lines)
        return {"written": self.written, "waiting": waiting, "dropped": self.dropped}

    def close(self, patience_s: float = _END_S) -> None:
        """Write what waits and end, within a bound: what is left then is counted as dropped."""
        self._ends = time.monotonic() + patience_s / 2
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(patience_s)
        elif self._file is not None:
            self._file.close()
        if left := len(self._waiting) + len(self._lines):
            self.dropped += left
            self.trouble = f"{self._words()}: {left} lines were dropped"

    # --- the thread ---

    def _live(self) -> None:
        try:
            while self._ends == _NEVER or self._waiting or self._lines:
                self._wake.wait(_EVERY_S)
                self._wake.clear()
                self._turn()
                if self._outage.failures and time.monotonic() > self._ends:
                    break
        finally:
            if self._file is not None:
                self._file.close()

    def _turn(self) -> None:
        """Write what waits, some at a time, unless the file is not to be tried again yet."""
        ends = self._ends < _NEVER
        while (self._waiting or self._lines) and (ends or time.monotonic() >= self._outage.until):
            if not self._lines:
                self._make()
            if not self._append():
                return

    def _make(self) -> None:
        """Make the next lines; what was dropped before them comes first."""
        if self.dropped != self._reported:
            count, self._reported = self.dropped - self._reported, self.dropped
            self._render(_now("lines_dropped", count=count))
        for _ in range(min(len(self._waiting), _BATCH)):
            thing = self._waiting.popleft()
            try:
                line = thing if isinstance(thing, Line) else entry_line(*thing)
                if line is not None:
                    self._render(line)
            except Exception as error:  # noqa: BLE001 - one line is no reason to end all others
                words = f"expected a line of the log, got {type(error).__name__}: {error}"
                self._render(_now("trouble", who="log", words=words))
        self._room.set()

    def _append(self) -> bool:
        if self._file is None:
            self.written += len(self._lines)
            self._lines = []
            return True
        done = self._file.append(self._lines)
        self.written += done
        self._lines = self._lines[done:]
        if self._file.error:
            self._outage.begin(self._file.error)
            self._room.set()  # a replay does not wait for a disk
            self.trouble = self._words()
            return False
        if self._outage.failures:
            self._outage.failures, self.trouble = 0, ""
            self._render(_now("log_resumed", words=self._words()))
        return True

    def _words(self) -> str:
        path = "stderr" if self._file is None else self._file.path
        return f"expected to write the log {path}, got {self._outage.why or 'no time for it'}"

    def _render(self, line: Line) -> None:
        if line.severity < self.level:
            return
        text = self._rendering.line(line)
        if self._file is not None:
            self._lines.append(text)


def _now(event: str, **fields: Any) -> Line:
    now = time.time_ns()
    return Line(event=event, at=now, wall=now, fields=fields)
