"""The painter: draws what browsers look at, on a thread of its own, once for all who see the same.

    Desk.ask(Looks.seen) ──► Snapshot ──► dydx_panels.placed ──► Sheet ──► Watched ──► browsers
            ▲                                                              (the server's loop)
            └── again after 70 ms, at once when the account changed, within a share of a core

It looks fourteen times a second, and only where a frame came since. What that costs, on the run's
thread and on its own, is measured each time; once it is more than `SHARE` of a core the painter
looks less often, as with sixty busy markets: a frame then takes up to two tenths of a second to a
browser (tools/bench.py view). A change of the account is drawn at once all the same. While nobody
looks it sleeps, and the run does nothing for it.
"""

import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

from dydx_conn import AccountUpdate
from dydx_panels import View as Choice
from dydx_panels import placed
from msgspec.structs import replace

from bot.run.composition import Bot
from bot.run.desk import Desk, DeskError
from bot.run.journal import JournalEntry
from bot.serve.looks import Looks, Snapshots, Wanted
from bot.serve.plots import Plots
from bot.serve.sheet import Sheet

PACE_S: Final = 0.07
SOON_S: Final = 0.04  # what became of the account is drawn not sooner after the drawing before
SHARE: Final = 0.045  # of a core, that all browsers together may take of drawing
LONGEST_S: Final = 1.0
_IDLE_S: Final = 0.02
INTEREST_S: Final = 10.0  # how long after the last poll a view is drawn still
_MEMO: Final = 32  # messages of one drawing, by what their readers have
_MOST: Final = 32  # views at a time; the one that was looked at longest ago makes room
# What of the journal is drawn at once; an account's update comes before its entries.
_URGENT: Final = frozenset(["reduce", "gate", "act"])


class Watched:
    """One view that somebody looks at; `sheet` is its newest drawing, whole at any moment."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.sheet = wanted, Sheet(name=wanted.name)
        self.seen_s = time.monotonic()
        self.viewers = 0  # on a WebSocket; nobody else looks for longer than once
        self.memo: dict[object, object] = {}
        self._sent: tuple[int, dict[int, str]] = 0, {}

    def changes(self, since: int) -> tuple[int, str]:
        """Return the newest version and what changed since another; made once for all who wait."""
        sheet = self.sheet
        if self._sent[0] != sheet.version:
            self._sent = sheet.version, {}
        made = self._sent[1]
        if since not in made:
            if len(made) >= _MEMO:
                made.clear()  # of whoever polls with numbers of his own
            made[since] = sheet.changes(since)
        return sheet.version, made[since]


def _interest(view: Watched) -> tuple[bool, float]:
    return view.viewers > 0, view.seen_s


class Painter:
    """Draws the views of one run while somebody looks; made when a server begins, closed with it.

    Its thread begins with the first look. `wakes` are called on it once there are newer sheets:
    they only hand over to a server's loop.
    """

    def __init__(self, desk: Desk, mode: str, name: str) -> None:
        self._desk, self._looks = desk, Looks(mode, name)
        self._plots = Plots()
        self.wakes: list[Callable[[], None]] = []
        self._views: dict[Wanted, Watched] = {}
        self._lock = threading.Lock()
        self._woken, self._closed = threading.Event(), threading.Event()
        # Never lower than in a process before this one: a page may outlive it.
        self._versions = itertools.count(time.time_ns() // 1_000_000)
        self._thread: threading.Thread | None = None
        self._interval_s, self._drawn_s = PACE_S, 0.0
        self._spent_s = 0.0
        # The account's curve begins with the run, whoever looks at it later.
        desk.put(lambda bot: bot.follow_links(), lambda _: None)

    # --- any thread ---

    def look(self, wanted: Wanted) -> Watched:
        """Return a view, drawn from now on and until nobody has looked for ten seconds."""
        with self._lock:
            if (view := self._views.get(wanted)) is None:
                if len(self._views) >= _MOST:
                    del self._views[min(self._views.values(), key=_interest).wanted]
                view = self._views[wanted] = Watched(wanted)
            view.seen_s = time.monotonic()
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._paint, name="painter", daemon=True)
                self._thread.start()
        if not view.sheet.version:
            self._woken.set()
        return view

    def close(self) -> None:
        """Draw no more."""
        self._closed.set()
        self._woken.set()

    def note(self, made: JournalEntry | AccountUpdate) -> None:
        """Take what happened in the run, on its thread: what became of the account is urgent."""
        if isinstance(made, AccountUpdate) or made.kind in _URGENT:
            self._woken.set()

    # --- the painter's own thread ---

    def _paint(self) -> None:
        while not self._closed.is_set():
            views = self._watched()
            if not views:
                self._rest()
                continue
            began_s = time.monotonic()
            due_s = began_s + (self._interval_s if self._draw(views) else _IDLE_S)
            if self._woken.wait(max(due_s - time.monotonic(), 0.001)):
                self._woken.clear()
                self._closed.wait(max(self._drawn_s + SOON_S - time.monotonic(), 0.0))

    def _watched(self) -> list[Watched]:
        """Return the views that somebody looks at; the others are forgotten."""
        since = time.monotonic() - INTEREST_S
        with self._lock:
            for view in [*self._views.values()]:
                if view.seen_s < since and not view.viewers:
                    del self._views[view.wanted]
            return [*self._views.values()]

    def _rest(self) -> None:
        """Let go of the run, and sleep until somebody looks."""
        try:
            self._desk.ask(self._let_go)
        except DeskError:
            pass  # it is over, or stands still: there is nothing to let go of
        while not (self._closed.is_set() or self._views):
            self._woken.wait()
            self._woken.clear()

    def _let_go(self, bot: Bot) -> None:
        if self.note in bot.journal.listeners:
            bot.journal.listeners.remove(self.note)
        self._looks.leave(bot)

    def _draw(self, views: list[Watched]) -> bool:
        """Draw what is new; False if nothing is."""
        keys = frozenset(view.wanted.key for view in views)
        at_once = any(not view.sheet.version or view.sheet.trouble for view in views)
        began = time.thread_time()

        def seen_by(bot: Bot) -> Snapshots | None:
            if self.note not in bot.journal.listeners:
                bot.journal.listeners.append(self.note)
            return self._looks.seen(bot, keys, at_once=at_once)

        try:
            seen = self._desk.ask(seen_by)
            self._drawn_s = time.monotonic()
            if seen is None:
                return False
            for view in views:
                self._publish(view, seen)
        except DeskError as error:
            self._stall(views, str(error))
            return True
        except Exception as error:  # noqa: BLE001 - a panel that cannot be drawn ends no other
            self._stall(views, f"expected a drawing, got {type(error).__name__}")
            return True
        self._wake()
        self._plots.take(seen)
        spent_s = seen.took_ns / 1e9 + time.thread_time() - began
        self._spent_s += (spent_s - self._spent_s) / 4  # a mean over the last few
        self._interval_s = min(max(PACE_S, self._spent_s / SHARE), LONGEST_S)
        return True

    def _publish(self, view: Watched, seen: Snapshots) -> None:
        wanted, snapshot = view.wanted, seen.snapshots.get(view.wanted.key)
        if snapshot is None:
            return
        choice = Choice(panel=wanted.panel)
        bands = placed(snapshot, choice, wanted.columns, wanted.rows, memo=view.memo)
        version, sheet = next(self._versions), view.sheet
        charts = self._plots.of(wanted.market)
        if charts != sheet.charts[1]:
            sheet = replace(sheet, charts=(version, charts))
        view.sheet = sheet.drawn(
            version, bands, seen.markets, seq=seen.seq, mono=seen.mono,
            age_s=snapshot.header.data_age_s, ended=seen.ended,
        )  # fmt: skip

    def _wake(self) -> None:
        for wake in [*self.wakes]:
            wake()

    def _stall(self, views: list[Watched], why: str) -> None:
        """Say in every view why nothing newer comes, and try again in a second."""
        self._interval_s = LONGEST_S
        for view in views:
            view.sheet = replace(view.sheet, version=next(self._versions), trouble=why)
        self._wake()
