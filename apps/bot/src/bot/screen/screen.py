"""A run on a terminal: the dashboard, its clock and its keys.

    keyboard thread ──► keys ──► Screen.pace(frame) ──► waits, draws, or ends the run

The source calls `pace` before each frame, so one thread plays, draws and answers keys, and
the panels read a state that stands still. Drawing happens at a fixed rate and never per
frame. `ACTIONS` binds a key to what it does; the panels' own keys are dydx_panels' `KEYS`. What
a key does to the run itself, as halting it, it does by an act (run.acts). The terminal is restored
however the run ends. What it is made of, each in its own file beside this one:

- keyboard: what is pressed.
- player: the clock of a recording, its speed, pauses and steps.
- choices: what the person chose to see.
- question: what needs a yes, and how the run ends.
- line: what the last line says before its keys; alarms: what nobody may miss.
- travel: the way back and forth in a recording.
"""

import contextlib
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from dydx_conn import Frame, Inbox
from dydx_panels import KEYS, Dashboard, Snapshot, View, export_svg, selectable
from msgspec.structs import replace
from rich.console import Console

from bot.outlet import behind
from bot.report.why import chain
from bot.run.composition import Bot
from bot.screen.alarms import Alarms
from bot.screen.choices import Choices
from bot.screen.keyboard import CONTINUED, SUSPEND, Click, Key, Keyboard, stopping, suspend
from bot.screen.leave import Leave
from bot.screen.line import Line
from bot.screen.picture import saved
from bot.screen.player import Player
from bot.screen.question import Questions
from bot.screen.snapshot import snapshot_of
from bot.screen.travel import Travel

DRAW_NS: Final = 250_000_000
_STOPS: Final = (SUSPEND, CONTINUED)


class Screen:
    """The dashboard of one run; use as a context manager, and hand `pace` to the source."""

    # More than fifteen attributes: here a run, its clock, its keys and its picture meet, each two
    # or three values, and every method reads two of the four.

    def __init__(
        self,
        bot: Bot,
        *,
        mode: str,
        name: str,
        speed: float | None = None,
        recording: Path | None = None,
        console: Console | None = None,
        inbox: Inbox | None = None,
        idle: Callable[[], None] | None = None,
        leave: Leave | None = None,
        lost: Callable[[str], None] | None = None,
        panel: str = "",
        mouse: bool = False,
        bell: bool = True,
        travel: Travel | None = None,
    ) -> None:
        self.bot = bot
        bot.follow()
        self.mode, self.name = mode, name
        self._inbox = inbox or Inbox()
        self.player = Player(speed, lambda: bot.journal.counts["target"])
        self.choices = Choices(panel, self.snapshot)
        self.questions = Questions(bot, self._inbox, leave)
        self.line = Line(bot)
        self.alarms = Alarms(bot, bell=bell, muted=lambda: self._is_leaving)
        self._console = console or Console(file=behind(sys.stdout))
        self._dashboard = Dashboard(self._console, mouse=mouse)
        self._keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
        self._keyboard = Keyboard(self._keys)
        self._stops = contextlib.ExitStack()
        self._due_draw_ns = 0
        self._frozen: Snapshot | None = None
        # Whether the terminal is closed, and what is to be done about it: by itself the run ends.
        self._blind, self._lost = False, lost
        self._recording = recording
        self._idle = idle or (lambda: None)  # called between frames
        self._travel = travel  # of a recording: the way back and forth
        if travel is not None:
            travel.at_end, travel.meanwhile, travel.say = (
                self.stay,
                self._on_the_way,
                self.line.show,
            )

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._stops.enter_context(stopping(self._keys))
        self._take()
        return self

    def __exit__(self, *raised: object) -> None:
        """Give the terminal back, whatever happened."""
        self._give_back()
        self._stops.close()

    def _take(self) -> None:
        if trouble := self._keyboard.start():
            self.line.show(trouble)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):
            self._dashboard.shutdown()
        self._keyboard.stop()

    @property
    def finished(self) -> bool:
        """Return whether the source has ended by itself."""
        return self.questions.over

    @property
    def view(self) -> View:
        """Return what the person chose, as it is drawn."""
        return replace(self.choices.view, paused=self.player.paused, confirm=self.questions.text)

    # --- time ---

    def pace(self, frame: Frame) -> bool:
        """Hold a frame until it is due, drawing and answering keys meanwhile; False to end."""
        while not self.questions.quits:
            now = time.monotonic_ns()
            self._idle()
            if self.questions.look_who_ends(now, blind=self._blind):
                self.choices.close()  # an overlay would hide what is held
            self._draw_if_due(now)
            if self._is_leaving:
                return True
            wait_ns = self._wait_ns(frame, now)
            if wait_ns <= 0:
                while not self._keys.empty():
                    self._answer(self._keys.get())
                return self.questions.goes_on
            self._answer(self._next_key(min(wait_ns, self._due_draw_ns - now) / 1e9))
        return self.questions.goes_on

    def _wait_ns(self, frame: Frame, now: int) -> int:
        return self.player.wait_ns(frame, now, at_once=bool(self._inbox.waiting))

    def stay(self) -> bool:
        """Show the last picture until a key ends it, once the source has ended by itself.

        Return whether a person goes back instead.
        """
        if self.questions.quits or self._blind:
            return False
        self.questions.over = True
        back = "" if self._travel is None else ", , and [ go back"
        self.line.show(f"the end: q quits, w shows why{back}", for_ns=None)
        while not self._ends_or_leaves():
            self._idle()
            self._draw_if_due(time.monotonic_ns())
            self._answer(self._next_key(DRAW_NS / 1e9))
        self.questions.over = self.questions.quits
        return self._is_leaving

    def _ends_or_leaves(self) -> bool:
        return self.questions.quits or self._is_leaving

    @property
    def _is_leaving(self) -> bool:
        # Somebody wants to be elsewhere in the recording: the frame at hand is not the next.
        return self._travel is not None and self._travel.goal is not None

    def go(self, way: Callable[[Travel], None], *, pauses: bool = False) -> None:
        """Go elsewhere in the recording; a live run has no other place."""
        if self._travel is None:
            self.line.show("only a recording goes back, and only without --database")
            return
        way(self._travel)
        self.questions.restart()
        self.line.show("")
        self.player.restart()
        if pauses and not self.player.paused:
            self.player.pause()

    def _on_the_way(self, share: float) -> bool:
        """Show how far it is, between two frames of a long way; False if a key ends it."""
        self.line.show(f"on the way: {share:.0%}, esc stops here")
        self._idle()
        self.draw()
        self.line.show("")
        self._due_draw_ns = 0
        key = "" if self._keys.empty() else self._keys.get()
        if key != "\x1b":
            self._answer(key)
        return key != "\x1b" and not self._ends_or_leaves()

    def _draw_if_due(self, now: int) -> None:
        if now >= self._due_draw_ns:
            self.draw()
            self._due_draw_ns = time.monotonic_ns() + DRAW_NS

    def draw(self) -> None:
        """Draw what stands now."""
        if self._blind:
            return
        self.bot.meters.sample()
        view = replace(self.view, message=self.line.words())
        view = self.alarms.over(view, time.monotonic_ns())
        started = time.perf_counter_ns()
        try:
            if self.alarms.rings():
                self._dashboard.bell()
            self._dashboard.draw(self.snapshot(), view)
        except OSError as error:  # the terminal is closed
            self._blind = True
            if self._lost is None:
                self.questions.quits = True
            else:
                self._lost(error.strerror or str(error))
        self.bot.meters.draw_ms = (time.perf_counter_ns() - started) / 1e6

    def snapshot(self) -> Snapshot:
        """Return the run as the panels want it; a live run that is paused stands still here."""
        if self._frozen is not None:
            return self._frozen
        speed, panel = self.player.speed, self.choices.view.panel
        timeline = None if self._travel is None else self._travel.timeline
        return snapshot_of(
            self.bot, mode=self.mode, name=self.name, speed=speed, panel=panel, timeline=timeline
        )

    # --- keys ---

    def _next_key(self, seconds: float) -> Key:
        self.bot.supervisor.rest()
        try:
            return self._keys.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return ""

    def _answer(self, key: Key) -> None:
        if not key:
            return
        if isinstance(key, Click):
            return  # later
        if key in _STOPS:
            self._stop_and_go_on(key)
        elif self.questions.text:
            self._confirm(key)
        elif self.choices.view.filtering:
            self.choices.type(key)
        elif key in ACTIONS:
            ACTIONS[key](self)
        elif key in KEYS:
            self.choices.show(KEYS[key])
        self._due_draw_ns = 0

    def _stop_and_go_on(self, key: str) -> None:
        self._give_back()
        if key == SUSPEND:
            suspend()
        self.player.restart()
        self._take()

    def _confirm(self, key: str) -> None:
        self.questions.answer(key)
        if self._frozen is not None and self._inbox.waiting:
            self.pause()  # whoever acts wants to see what comes of it

    def quit(self) -> None:
        """End the run, or close the overlay that is open; what is held for real needs a `y`."""
        if self.choices.overlaid:
            self.choices.close()
        else:
            self.questions.quit()

    def pause(self) -> None:
        """Stop the recording, or let it go on; a live run only stands still on the screen."""
        if self.player.is_live:
            self._frozen = None if self.player.paused else self.snapshot()
        self.player.pause()

    def why(self) -> None:
        """Explain the selected row; where a panel has no such rows, the newest of its market."""
        view = self.choices.view
        if view.why:
            self.choices.close()
            return
        shown, journal = self.snapshot(), self.bot.journal
        ids = selectable(shown, view)
        row = ids[min(max(view.selected, 0), len(ids) - 1)] if ids else ""
        tried = (row, *selectable(shown, View(filter=row)), *selectable(shown, View()))
        entry = next(filter(None, map(journal.find, tried)), None)
        if entry is not None:
            lines = tuple(chain(entry, journal, self._recording))
            if self._recording is None:
                lines = (*lines, "their texts are stored only with --record")
            self.choices.explain(entry.id, lines)
            if not (self.player.paused or self.player.is_live):
                self.player.pause()

    def save(self) -> None:
        """Write what is on the screen as an SVG beside the working directory's files."""
        path = Path(f"bot-{self.bot.journal.hash[:8]}-{self.bot.data.seq}.svg")
        picture = export_svg(self.snapshot(), self.view, *self._console.size)
        self.line.show(saved(path, picture))

    def asks(self, question: Callable[[Questions], str]) -> None:
        """Ask what needs a yes, or say what came of it."""
        if answer := question(self.questions):
            self.line.show(answer)


ACTIONS: Final[dict[str, Callable[[Screen], None]]] = {
    "q": Screen.quit,
    "\x1b": lambda screen: screen.choices.back(),
    "\x03": Screen.quit,
    " ": Screen.pause,
    ".": lambda screen: screen.player.step(),
    ",": lambda screen: screen.go(Travel.back_to_decision, pauses=True),
    "]": lambda screen: screen.go(lambda travel: travel.on(60.0)),
    "[": lambda screen: screen.go(lambda travel: travel.on(-60.0)),
    "home": lambda screen: screen.go(Travel.to_start),
    "end": lambda screen: screen.go(Travel.to_end, pauses=True),
    "+": lambda screen: screen.player.hurry(1),
    "=": lambda screen: screen.player.hurry(1),
    "-": lambda screen: screen.player.hurry(-1),
    "?": lambda screen: screen.choices.help(),
    "h": lambda screen: screen.choices.help(),
    "/": lambda screen: screen.choices.search(),
    "w": Screen.why,
    "\r": Screen.why,
    "s": Screen.save,
    "K": lambda screen: screen.asks(Questions.halt),
    "P": lambda screen: screen.asks(Questions.pause_entries),
    "F": lambda screen: screen.asks(Questions.flatten),
    "up": lambda screen: screen.choices.move(-1),
    "k": lambda screen: screen.choices.move(-1),
    "down": lambda screen: screen.choices.move(1),
    "j": lambda screen: screen.choices.move(1),
    "pageup": lambda screen: screen.choices.move(-10),
    "pagedown": lambda screen: screen.choices.move(10),
}
