"""A line for each decision, verdict and fill as it comes, where no dashboard is.

    Journal ──► Stream.note ──► queue, bounded ──► thread ──► stdout, line by line

21:51:30 V1    SOL-USD    allowed: buy 15.1 SOL-USD at ≤ 240.78: free collateral …

`note` never waits in a live run: behind a reader that is too slow, lines are left out and counted,
and the guard goes on. A replay waits for its reader. The thread writes only what can be written at
once, so that it never holds the stream against the report, which comes after it.
"""

import contextlib
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from queue import Empty, Full, Queue
from typing import Final, TextIO

from dydx_conn import AccountUpdate
from dydx_panels import wording

from bot.outlet import one_line
from bot.run.journal import VERDICTS, Journal, JournalEntry
from bot.times import clock

_KINDS: Final = frozenset(["decision", *VERDICTS, "fill", "gate", "act", "link"])
_WAITING: Final = 1_000
_LOOK_S: Final = 0.2  # how often it is looked whether anybody reads still, or the run is over
_LONGEST: Final = 1_000  # letters of a line; a pipe takes 4096 bytes at once, or none
_PATIENCE_S: Final = 2.0  # with a reader that is slow, once a live run is over


class Stream:
    """Prints what happens in a run; `gone` once nobody reads it any more."""

    def __init__(self, out: TextIO, *, waits: bool, lost: Callable[[], None]) -> None:
        self.gone, self.left_out = False, 0
        self._out, self._waits, self._lost = out, waits, lost
        self._queue: Queue[JournalEntry | None] = Queue(_WAITING)  # None: nothing comes any more
        # A file, or whoever reads a pipe, gets all of it, unless COLUMNS says how wide it is.
        cut = out.isatty() or "COLUMNS" in os.environ
        self._width = shutil.get_terminal_size().columns if cut else _LONGEST
        self._over, self._until = threading.Event(), inf
        self._reported, self._printed = 0, False

    def note(self, entry: JournalEntry | AccountUpdate) -> None:
        """Take what has happened, to be printed soon; a listener of a journal."""
        if not isinstance(entry, JournalEntry) or entry.kind not in _KINDS or self.gone:
            return
        try:
            self._queue.put(entry, block=self._waits)
        except Full:
            self.left_out += 1

    def end(self) -> None:
        """Print what waits still, for two seconds after a live run, and stop."""
        if not self._waits:
            self._until = time.monotonic() + _PATIENCE_S
        self._over.set()
        with contextlib.suppress(Full):  # it ends once what waits is printed
            self._queue.put_nowait(None)

    def write(self) -> None:
        """Print until the end, on a thread of its own."""
        try:
            while (entry := self._next()) is not None:
                if self._is_ready(wait=True):
                    self._report_missing()
                    self._print(line(entry, self._width))
                else:
                    self.left_out += 1
            if self._is_ready():
                self._report_missing()
                if self._printed:
                    self._print("")
        finally:
            self._lose()

    def _next(self) -> JournalEntry | None:
        """Return what is to be printed next; None at the end, or once nobody reads any more."""
        while not self.gone:
            try:
                return self._queue.get(timeout=_LOOK_S)
            except Empty:
                if self._over.is_set():
                    break
                self._is_ready()  # or nobody reads any more
        return None

    def _report_missing(self) -> None:
        missing, self._reported = self.left_out - self._reported, self.left_out
        if missing:
            self._print(f"…        {missing:,} lines were left out: the reader was too slow")

    def _print(self, text: str) -> None:
        try:
            self._out.write(f"{text}\n")
            self._out.flush()
            self._printed = True
        except (OSError, ValueError):  # closed at the other end, or at this one
            self._lose()

    def _lose(self) -> None:
        """Print no more; who waits to put an entry in goes on."""
        lost = not (self.gone or self._over.is_set())
        self.gone = True
        with contextlib.suppress(Empty):
            while True:
                self._queue.get_nowait()
        if lost:
            self._lost()

    def _is_ready(self, *, wait: bool = False) -> bool:
        """Return whether a line can be written at once; `wait` until it can, or it is too late."""
        try:
            number = self._out.fileno()
        except (OSError, ValueError):
            return not self.gone  # no file, and so no reader that could be slow
        look = select.poll()
        look.register(number, select.POLLOUT)
        while not self.gone:
            events = dict(look.poll(_LOOK_S * 1e3 if wait else 0)).get(number, 0)
            if events & select.POLLERR:
                self._lose()
            elif events:
                return True
            elif not wait or time.monotonic() > self._until:
                break
        return False


@contextlib.contextmanager
def streaming(
    journal: Journal, *, waits: bool, lost: Callable[[], None] = lambda: None
) -> Iterator[Stream]:
    """Print the entries of a journal while a run goes on; `lost` is called when nobody reads.

    With `waits` the run waits for a slow reader, else lines are left out.
    """
    stream = Stream(sys.stdout, waits=waits, lost=lost)
    thread = threading.Thread(target=stream.write, name="stream", daemon=True)
    thread.start()
    journal.listeners.append(stream.note)
    try:
        yield stream
    finally:
        journal.listeners.remove(stream.note)
        stream.end()
        thread.join()


def line(entry: JournalEntry, width: int = 80) -> str:
    """Return what happened in one line: time, id, ticker, words, cut to a width."""
    words = entry.words
    if entry.kind in VERDICTS:
        side = getattr(getattr(entry.value, "order", None), "side", "")
        words = f"{wording(entry.kind, side)}: {words}"
    # What the venue sends may break a line; it is cut as it will be printed.
    ticker, words = one_line(entry.ticker), one_line(words)
    text = f"{clock(entry.at)[11:19]} {entry.id:<5} {ticker:<10} {words}"
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"
