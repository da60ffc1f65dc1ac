"""A run on a terminal: the dashboard, its clock and its keys.

    keyboard thread ──► keys ──► Screen.pace(frame) ──► waits, draws, or ends the run

The source calls `pace` before each frame, so one thread plays, draws and answers keys, and
the panels read a state that stands still. While nothing comes of a network, the inbox lets it
`attend`. What became of the account is drawn at once, all else at a fixed rate, and never a
frame for itself. The terminal is restored however the run ends. What a screen is made of, each in
its own file beside this one:

- terminal: what is drawn on and taken from, and given back; redraw: when it is drawn.
- keyboard: what is pressed and clicked, and what stops the program.
- actions: what each key does; choices: what of it is a view.
- player: the clock of a recording, its speed, pauses and steps.
- question: what needs an answer, and how the run ends.
- travel: the way back and forth in a recording.
- line: what the last line says beside its keys; alarms: what nobody may miss.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from dydx_conn import AccountUpdate, Frame, Inbox
from dydx_panels import KEYS, Snapshot, View
from msgspec.structs import replace
from rich.console import Console

from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.run.kinds import Kinds
from bot.screen.actions import ACTIONS, Actions
from bot.screen.alarms import Alarms
from bot.screen.choices import Choices
from bot.screen.keyboard import CONTINUED, SUSPEND, Click, Key
from bot.screen.leave import Leave
from bot.screen.line import Line
from bot.screen.player import Player
from bot.screen.question import Questions
from bot.screen.redraw import DRAW_NS, Redraw
from bot.screen.snapshot import snapshot_of
from bot.screen.terminal import Terminal
from bot.screen.travel import Travel

_ATTEND_NS: Final = 50_000_000  # how long a key may wait while no frame comes
OF_THE_SHELL: Final = (SUSPEND, CONTINUED)
# What of the journal is drawn at once; an account's update comes before its entries.
_URGENT: Final = ("reduce", "gate", "act")


class Screen:
    """The dashboard of one run; use as a context manager, and hand `pace` to the source."""

    def __init__(
        self,
        bot: Bot,
        *,
        mode: str,
        name: str,
        speed: float | None = None,
        recording: Path | None = None,
        kinds: Kinds = None,
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
        self.terminal, self.redraw = Terminal(console, mouse=mouse), Redraw()
        self.player = Player(speed, lambda: bot.journal.counts["target"])
        self.choices = Choices(panel, self.snapshot)
        self.questions = Questions(bot, self._inbox, leave, trades=mode != "WATCH")
        self.line = Line(bot)
        self.actions = Actions(
            bot, self.choices, self.player, self.questions, self.line, snapshot=self.snapshot,
            size=lambda: self.terminal.console.size, recording=recording, kinds=kinds,
            travel=travel,
        )  # fmt: skip
        self.alarms = Alarms(bot, bell=bell, muted=lambda: self._is_under_way)
        # What is to be done about a terminal that is closed: by itself the run ends.
        self._lost = lost or self._end
        self._idle = idle or (lambda: None)  # called between frames
        bot.journal.listeners.append(self._note)
        self._travel = travel  # of a recording: the way back and forth
        if travel is not None:
            travel.at_end, travel.meanwhile = self.stay, self._on_the_way
            travel.say = self.line.show

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._show_trouble(self.terminal.open())
        self._inbox.attend = self.attend
        return self

    def __exit__(self, *raised: object) -> None:
        """Give the terminal back, whatever happened."""
        self._inbox.attend = None
        self.terminal.close()

    def _end(self, _: str) -> None:
        self.questions.quits = True

    def _show_trouble(self, trouble: str) -> None:
        if trouble:
            self.line.show(trouble)
            self.terminal.dead |= ACTIONS.keys() | KEYS.keys()

    def show(self, bot: Bot) -> None:
        """Show another bot's run; a picture that stands still becomes one of that."""
        for listener in (self._note, self.alarms.note):
            self.bot.journal.listeners.remove(listener)
        self.bot = self.actions.bot = bot
        self.line.show_of(bot)
        self.alarms.show_of(bot)
        bot.journal.listeners.append(self._note)
        if self.actions.frozen is not None:
            self.actions.frozen = None
            self.actions.frozen = self.snapshot()

    @property
    def finished(self) -> bool:
        """Return whether the source has ended by itself."""
        return self.questions.over

    @property
    def view(self) -> View:
        """Return what the person chose, as it is drawn."""
        return replace(
            self.choices.view, paused=self.player.paused, confirm=self.questions.text,
            message=self.line.words(), note=self.line.note(),
            off=self.actions.off | self.terminal.dead,
        )  # fmt: skip

    # --- time ---

    def pace(self, frame: Frame) -> bool:
        """Hold a frame until it is due, drawing and answering keys meanwhile; False to end."""
        while not self.questions.quits:
            now = self._look()
            if self._is_leaving:
                self.alarms.forget()
                return True
            wait_ns = self._wait_ns(frame, now)
            if wait_ns <= 0:
                self._answer_all()
                break
            self._answer(self._next_key(min(wait_ns, self.redraw.due_ns - now) / 1e9))
        if self.questions.quits:
            self.draw()  # to close what is held takes a while
        return self.questions.goes_on

    def look(self) -> None:
        """Look up from holding a frame, from any thread: somebody put a question."""
        self.terminal.keys.put("")

    def attend(self) -> float:
        """Draw and answer keys while no frame comes; return in how many seconds to do so again."""
        quits, now = self.questions.quits, self._look()
        self._answer_all()
        if self.questions.quits and not quits:
            self._inbox.put("tick", link="clock")  # `pace` ends the source, and needs a frame
        return min(max(self.redraw.due_ns - now, 0), _ATTEND_NS) / 1e9

    def _look(self) -> int:
        """Do what is due between two frames; return when that began."""
        now = time.monotonic_ns()
        self._idle()
        if self.questions.look_who_ends(now, blind=self.terminal.closed):
            self.choices.close()  # an overlay would hide what is held
        self._draw_if_due(now)
        return now

    def _wait_ns(self, frame: Frame, now: int) -> int:
        return self.player.wait_ns(frame, now, at_once=bool(self._inbox.waiting))

    def stay(self) -> bool:
        """Show the last picture until a key ends it, once the source has ended by itself.

        Return whether a person goes back instead.
        """
        if self.questions.quits or self.terminal.closed:
            return False
        self.questions.over = True
        back = "" if self._travel is None else "; , or [ goes back"
        self.line.ended = f"the end: q quits, w shows why{back}"
        while not self._ends_or_leaves():
            self._idle()
            self._draw_if_due(time.monotonic_ns())
            self._answer(self._next_key(DRAW_NS / 1e9))
        self.questions.over, self.line.ended = self.questions.quits, ""
        self.alarms.forget()
        return self._is_leaving

    def _ends_or_leaves(self) -> bool:
        return self.questions.quits or self._is_leaving

    @property
    def _is_leaving(self) -> bool:
        # Somebody wants to be elsewhere in the recording: the frame at hand is not the next.
        return self._travel is not None and self._travel.goal is not None

    @property
    def _is_under_way(self) -> bool:
        return self._travel is not None and self._travel.is_under_way

    def _on_the_way(self, share: float) -> bool:
        """Show how far it is, between two frames of a long way; False if a key ends it."""
        self.line.show(f"on the way: {100 * share:.0f} %, esc stops here")
        self._idle()
        self.draw()
        self.line.show("")
        self.redraw.at_once()
        key = "" if self.terminal.keys.empty() else self.terminal.keys.get()
        if key != "\x1b":
            self._answer(key)
        return key != "\x1b" and not self._ends_or_leaves()

    # --- drawing ---

    def _note(self, entry: JournalEntry | AccountUpdate) -> None:
        if (
            self.redraw.urgent_ns
            or self._is_under_way
            or not (isinstance(entry, AccountUpdate) or entry.kind in _URGENT)
        ):
            return
        now, frames = time.monotonic_ns(), self.bot.shown.last_frames
        self.redraw.soon(frames[-1].mono if self.player.is_live and frames else now, now)

    def _draw_if_due(self, now: int) -> None:
        if now >= self.redraw.due_ns:
            self.draw()
            self.redraw.later(time.monotonic_ns())

    def draw(self) -> None:
        """Draw what stands now."""
        if self.terminal.closed:
            return
        self.bot.meters.sample()
        started = time.monotonic_ns()
        view = self.alarms.over(self.view, started)
        if closed := self.terminal.draw(self.snapshot(), view, bell=self.alarms.rings()):
            self._lost(closed)
        drawn, waited_since = time.monotonic_ns(), self.redraw.drawn(started)
        self.bot.meters.draw_ms = (drawn - started) / 1e6
        if waited_since:
            self.bot.meters.shown.add(max(drawn - waited_since, 0))

    def snapshot(self) -> Snapshot:
        """Return the run as the panels want it; a live run that is paused stands still here."""
        if self.actions.frozen is not None:
            return self.actions.frozen
        speed, panel = self.player.speed, self.choices.view.panel
        timeline = None if self._travel is None else self._travel.timeline
        self.bot.shown.speed, self.bot.shown.timeline = speed, timeline
        return snapshot_of(
            self.bot, mode=self.mode, name=self.name, speed=speed, panel=panel, timeline=timeline
        )

    # --- keys ---

    def _next_key(self, seconds: float) -> Key:
        self.bot.supervisor.rest()
        return self.terminal.next_key(seconds)

    def _answer_all(self) -> None:
        while not self.terminal.keys.empty():
            self._answer(self.terminal.keys.get())

    def _answer(self, key: Key) -> None:
        if not key:
            return
        if isinstance(key, Click):
            self.actions.click(key, self.view)
        elif key in OF_THE_SHELL:
            self._show_trouble(self.terminal.stop_and_go_on(suspends=key == SUSPEND))
            self.player.restart()
        else:
            self.actions.press(key)
        self.redraw.at_once()
