"""A run on a terminal: the dashboard, its clock and its keys.

    keyboard thread ──► keys ──► Screen.pace(frame) ──► waits, draws, or ends the run

The source calls `pace` before each frame, so one thread plays, draws and answers keys, and
the panels read a state that stands still. Drawing happens at a fixed rate and never per
frame. `ACTIONS` binds a key to what it does; the panels' own keys are dydx_panels' `KEYS`. What
a key does to the run itself, as halting it, it does by an act (run.acts). The terminal is restored
however the run ends.
"""

import contextlib
import math
import os
import queue
import re
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from dydx_conn import Frame, Inbox
from dydx_panels import KEYS, Dashboard, Snapshot, View, export_svg, run_panel, selectable
from msgspec.structs import replace
from rich.console import Console

from bot.outlet import behind
from bot.report.why import chain
from bot.run.acts import act
from bot.run.composition import Bot
from bot.screen.leave import PATIENCE_NS, Leave
from bot.screen.snapshot import snapshot_of

DRAW_NS: Final = 250_000_000
NEW_NS: Final = 15_000_000_000  # for so long what is new is shown: a long line is read in it
_IDLE_S: Final = 0.05
_LATE_NS: Final = 1_000_000_000
SPEEDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_KEY: Final = re.compile(r"\x1b(?:\[[0-9;]*|O)[A-Za-z~]|.", re.DOTALL)
_ARROWS: Final = {
    **{"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down"},
    **{"\x1b[5~": "pageup", "\x1b[6~": "pagedown"},
}


class Line:
    """What the last line of a dashboard shows before its keys: what is new, else what is wrong.

    What is new makes way after a while: the keys, and what is wrong, matter for longer.
    """

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._new, self._until_ns = "", 0.0

    def show(self, text: str, *, for_ns: int | None = NEW_NS) -> None:
        """Show a text for some seconds, or until there is another one."""
        self._new = text
        self._until_ns = math.inf if for_ns is None else time.monotonic_ns() + for_ns

    def words(self) -> str:
        """Return what is to be shown now."""
        shown = self._bot.shown
        if shown.notice:
            self.show(shown.notice)
            shown.notice = ""
        if self._new and time.monotonic_ns() < self._until_ns:
            return self._new
        if shown.troubles:
            return " · ".join(shown.troubles.values())
        stopped = self._bot.stopped is not None
        return "THE STRATEGY IS STOPPED: nothing enters, the guard goes on" if stopped else ""


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
    ) -> None:
        self.bot = bot
        bot.follow()
        self.mode = mode
        self.name = name
        self.speed = speed
        self.finished = False
        self.view = View(panel=panel)
        self._line = Line(bot)
        self._console = console or Console(file=behind(sys.stdout))
        self._dashboard = Dashboard(self._console)
        self._keys: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._keyboard = Keyboard(self._keys)
        self._anchor: tuple[int, int] | None = None
        self._due_draw_ns = 0
        self._step_until: int | None = None
        self._quit = False
        self._frozen: Snapshot | None = None
        # Whether the terminal is closed, and what is to be done about it: by itself the run ends.
        self._blind, self._lost = False, lost
        self._recording = recording
        # Where acts go, what is called between frames, and how many acts there are once the last
        # one has entered.
        self._inbox, self._idle = inbox or Inbox(), idle or (lambda: None)
        self._acts = 0
        # How a run with real orders ends, and until when somebody who ended it is asked.
        self._leave, self._asked_until = leave, 0
        if leave is not None:
            leave.on_screen = True

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._keyboard.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Give the terminal back, whatever happened."""
        with contextlib.suppress(OSError):
            self._dashboard.shutdown()
        self._keyboard.stop()

    # --- time ---

    def pace(self, frame: Frame) -> bool:
        """Hold a frame until it is due, drawing and answering keys meanwhile; False to end."""
        while not self._quit:
            now = time.monotonic_ns()
            self._idle()
            self._look_who_ends(now)
            self._draw_if_due(now)
            wait_ns = self._wait_ns(frame, now)
            if wait_ns <= 0:
                while not self._keys.empty():
                    self._answer(self._keys.get())
                return self._goes_on
            self._answer(self._next_key(min(wait_ns, self._due_draw_ns - now) / 1e9))
        return self._goes_on

    @property
    def _goes_on(self) -> bool:
        # Whoever halts and leaves at once has halted: the run ends behind the act.
        return not self._quit or self.bot.journal.counts["act"] < self._acts

    def stay(self) -> None:
        """Show the last picture until a key ends it, once the source has ended by itself."""
        if self._quit or self._blind:
            return
        self.finished = True
        self._line.show("the end: q quits, w shows why", for_ns=None)
        while not self._quit:
            self._idle()
            self._draw_if_due(time.monotonic_ns())
            self._answer(self._next_key(DRAW_NS / 1e9))

    def _wait_ns(self, frame: Frame, now: int) -> int:
        if self.speed is None:
            return 0  # live frames do not wait, and neither may the guard
        if self.view.paused:
            if self._inbox.waiting:
                return 0  # an act enters with the frame after it
            stepping = self._step_until is not None
            if stepping and self.bot.journal.counts["target"] < (self._step_until or 0):
                return 0
            self._step_until = None
            self._anchor = None
            return int(_IDLE_S * 1e9)
        if self._anchor is None:
            self._anchor = (frame.mono, now)
        recorded, started = self._anchor
        wait_ns = int((frame.mono - recorded) / self.speed) - (now - started)
        if wait_ns < -_LATE_NS:
            self._anchor = None  # the program was stopped: go on from here, do not catch up
        return wait_ns

    def _draw_if_due(self, now: int) -> None:
        if now >= self._due_draw_ns:
            self.draw()
            self._due_draw_ns = time.monotonic_ns() + DRAW_NS

    def draw(self) -> None:
        """Draw what stands now."""
        if self._blind:
            return
        self.bot.meters.sample()
        view = replace(self.view, message=self._line.words())
        started = time.perf_counter_ns()
        try:
            self._dashboard.draw(self.snapshot(), view)
        except OSError as error:  # the terminal is closed
            self._blind, self._quit = True, self._quit or self._lost is None
            if self._lost is not None:
                self._lost(error.strerror or str(error))
        self.bot.meters.draw_ms = (time.perf_counter_ns() - started) / 1e6

    def snapshot(self) -> Snapshot:
        """Return the run as the panels want it; a live run that is paused stands still here."""
        if self._frozen is not None:
            return self._frozen
        return snapshot_of(
            self.bot, mode=self.mode, name=self.name, speed=self.speed, panel=self.view.panel
        )

    # --- keys ---

    def _next_key(self, seconds: float) -> str:
        self.bot.supervisor.rest()
        try:
            return self._keys.get(timeout=max(seconds, 0.001))
        except queue.Empty:
            return ""

    def _answer(self, key: str) -> None:
        if not key:
            return
        if self.view.confirm:
            self._confirm(key)
        elif self.view.filtering:
            self.view = typed(self.view, key)
        elif key in ACTIONS:
            ACTIONS[key](self)
        elif key in KEYS:
            name = KEYS[key]
            self.view = replace(self.view, panel="" if self.view.panel == name else name)
        self._due_draw_ns = 0

    def quit(self) -> None:
        """End the run, or close the overlay that is open; what is held for real needs a `y`."""
        if self.view.why or self.view.help:
            self.close()
        elif self._leave is not None and not self.finished and (open_ := self._leave.open):
            # What is held is on the screen; more would not fit on one of 80 columns.
            self.view = replace(self.view, confirm=f"end? c closes, y leaves, n goes on: {open_}")
        else:
            self._quit = True

    def _look_who_ends(self, now: int) -> None:
        """Ask whoever ended the run by a signal as if by a key; without an answer it ends."""
        if self._leave is None or not self._leave.requested.is_set():
            return
        if self._blind:
            self._quit = True  # nobody is there to answer
        elif not self._asked_until:
            self._asked_until = now + PATIENCE_NS
            self.view = replace(self.view, why=(), help=False)
            self.quit()
        elif now >= self._asked_until:
            self._quit = True

    def close(self) -> None:
        """Close the overlay that is open, or else the panel shown alone; never the run."""
        if self.view.why or self.view.help:
            self.view = replace(self.view, why=(), help=False)
        else:
            self.view = replace(self.view, panel="")

    def pause(self) -> None:
        """Stop the recording, or let it go on; a live run only stands still on the screen."""
        self._anchor = None
        if self.speed is None:
            self._frozen = None if self.view.paused else self.snapshot()
        self.view = replace(self.view, paused=not self.view.paused)

    def step(self) -> None:
        """Go on to the next decision to change a target, then pause; not in a live run."""
        if self.speed is None:
            return
        self.view = replace(self.view, paused=True)
        self._step_until = self.bot.journal.counts["target"] + 1

    def hurry(self, sign: int) -> None:
        """Play a recording at the next higher speed, or with -1 at the next lower one."""
        speed = self.speed
        beyond = [each for each in SPEEDS[::sign] if speed and sign * each > sign * speed]
        if beyond:
            self.speed, self._anchor = beyond[0], None

    def help(self) -> None:
        """Show or hide what the keys do."""
        self.view = replace(self.view, help=not self.view.help)

    def search(self) -> None:
        """Begin to type a filter."""
        self.view = replace(self.view, filtering=True, filter="")

    def move(self, rows: int) -> None:
        """Move the selection, or scroll the overlay that is open."""
        if self.view.why:
            self.view = replace(self.view, scroll=max(self.view.scroll + rows, 0))
        else:
            last = len(selectable(self.snapshot(), self.view)) - 1
            row = min(max(self.view.selected + rows, 0), last)
            self.view = replace(self.view, selected=row)

    def why(self) -> None:
        """Explain the selected row; where a panel has no such rows, the newest of its market."""
        if self.view.why:
            self.view = replace(self.view, why=())
            return
        shown = self.snapshot()
        ids = selectable(shown, self.view)
        row = ids[min(max(self.view.selected, 0), len(ids) - 1)] if ids else ""
        tried = (row, *selectable(shown, View(filter=row)), *selectable(shown, View()))
        entry = next(filter(None, map(self.bot.journal.find, tried)), None)
        if entry is not None:
            lines = tuple(chain(entry, self.bot.journal, self._recording))
            if self._recording is None:
                lines = (*lines, "their texts are stored only with --record")
            paused = self.view.paused or self.speed is not None
            self.view = replace(self.view, why=lines, why_title=entry.id, scroll=0, paused=paused)
            self._anchor = None

    def switch(self) -> None:
        """Show the question whether to halt, or to resume what is halted; `y` does it."""
        halted = self.bot.risk.standing.state == "HALTED"
        self._ask("halt", f"{'resume' if halted else 'halt'} trading? y / n")

    def flatten(self) -> None:
        """Show the question whether to close all positions; `y` does it, and halts."""
        self._ask("close", "flatten: close all positions and halt? y / n")

    def _ask(self, what: str, question: str) -> None:
        over = f"the run is over: nothing is left to {what}"
        if self.finished:
            self._line.show(over)
        else:
            self.view = replace(self.view, confirm=question)

    def _confirm(self, key: str) -> None:
        what = self.view.confirm.split()[0].rstrip(":")
        self.view = replace(self.view, confirm="")
        if what == "end?":
            self._end(key)
        elif key in ("y", "Y"):
            act(self._inbox, "key", what, "")
            self._acts = self.bot.journal.counts["act"] + 1
            if self._frozen is not None:  # whoever acts wants to see what comes of it
                self.pause()

    def _end(self, key: str) -> None:
        self._quit = key in ("y", "Y", "c", "C")
        if self._leave is not None:
            self._leave.closes = self._leave.closes or key in ("c", "C")
            if not self._quit:
                self._leave.requested.clear()
        self._asked_until = 0

    def save(self) -> None:
        """Write what is on the screen as an SVG beside the working directory's files."""
        path = Path(f"bot-{self.bot.journal.hash[:8]}-{self.bot.data.seq}.svg")
        picture = export_svg(self.snapshot(), self.view, *self._console.size)
        self._line.show(saved(path, picture))


def typed(view: View, key: str) -> View:
    """Return the view after a key was typed into its filter."""
    if key in ("\r", "\n", "\x1b"):
        return replace(view, filtering=False, filter="" if key == "\x1b" else view.filter)
    if key in ("\x7f", "\b"):
        return replace(view, filter=view.filter[:-1])
    return replace(view, filter=view.filter + key) if key.isprintable() else view


def saved(path: Path, picture: str) -> str:
    """Write a picture; return in words what came of it."""
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        return f"expected to save {path}, got {error}"
    return f"saved {path}"


ACTIONS: Final[dict[str, Callable[[Screen], None]]] = {
    "q": Screen.quit,
    "\x1b": Screen.close,
    "\x03": Screen.quit,
    " ": Screen.pause,
    ".": Screen.step,
    "+": lambda screen: screen.hurry(1),
    "=": lambda screen: screen.hurry(1),
    "-": lambda screen: screen.hurry(-1),
    "?": Screen.help,
    "h": Screen.help,
    "/": Screen.search,
    "w": Screen.why,
    "\r": Screen.why,
    "s": Screen.save,
    "K": Screen.switch,
    "F": Screen.flatten,
    "up": lambda screen: screen.move(-1),
    "k": lambda screen: screen.move(-1),
    "down": lambda screen: screen.move(1),
    "j": lambda screen: screen.move(1),
    "pageup": lambda screen: screen.move(-10),
    "pagedown": lambda screen: screen.move(10),
}


class Keyboard:
    """Keys as they are pressed, read on a thread of their own; quiet where there are none."""

    def __init__(self, keys: "queue.SimpleQueue[str]") -> None:
        self._keys = keys
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._saved: list[Any] | None = None

    def start(self) -> None:
        """Take single keys from the terminal."""
        if sys.stdin.isatty():
            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
            self._thread.start()

    def stop(self) -> None:
        """Give the terminal its lines back."""
        self._stopping.set()
        if self._saved is not None:
            self._thread.join(timeout=1.0)
            with contextlib.suppress(OSError, termios.error):  # of a terminal that is closed
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
            self._saved = None

    def _read(self) -> None:
        while not self._stopping.is_set():
            ready, _, _ = select.select([sys.stdin], [], [], 0.1)
            if ready:
                try:
                    text = os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")
                except OSError:
                    return
                if not text:
                    return  # the terminal is closed: it would be ready for ever
                # Arrows come as sequences, and several presses may come at once.
                for key in _KEY.findall(text):
                    self._keys.put(_ARROWS.get(key, key if len(key) == 1 else ""))


def print_panel(bot: Bot, name: str, panel: str) -> None:
    """Print one panel of a run as it stands."""
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=None, panel=panel)
    run_panel(panel, shown, Console(file=behind(sys.stdout)), View(panel=panel))


def write_svg(bot: Bot, name: str, path: Path, width: int, height: int) -> None:
    """Write the whole dashboard of a run as it stands."""
    shown = snapshot_of(bot, mode="REPLAY", name=name, speed=20.0)
    path.write_text(export_svg(shown, View(), width, height), encoding="utf-8")
