"""What is done only after a yes: to halt, to close all, to leave what is held.

    K, F, q, a signal ──► Questions ──► View.confirm ──► the next key ──► an act, or the end

A question stands in the place of the keys until a key answers it; any key that is no answer is a
no. Whoever ends a run by a signal gets it as if by a key, and after a while no longer.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dydx_conn import Inbox

from bot.run.acts import act
from bot.run.composition import Bot
from bot.screen.leave import PATIENCE_NS, Leave


class Question(NamedTuple):
    """Its text, what each key does, and what any other does."""

    text: str
    answers: Mapping[str, Callable[[], None]]
    otherwise: Callable[[], None] = lambda: None


class Questions:
    """The question that stands, and whether the run is to end.

    `acts` is how many acts there are once the last one has entered, `over` whether the source has
    ended: nothing would take an act.
    """

    def __init__(self, bot: Bot, inbox: Inbox, leave: Leave | None) -> None:
        self.quits = False
        self.over = False
        self._bot, self._inbox, self._leave = bot, inbox, leave
        self._standing: Question | None = None
        self._acts = 0
        self._until = 0  # until when it waits for whoever ended the run by a signal
        if leave is not None:
            leave.on_screen = True

    @property
    def text(self) -> str:
        """Return the question that stands; "" for none."""
        return self._standing.text if self._standing is not None else ""

    @property
    def goes_on(self) -> bool:
        """Return whether the run goes on; whoever halts and leaves at once has halted first."""
        return not self.quits or self._bot.journal.counts["act"] < self._acts

    def restart(self) -> None:
        """Wait for no act any more: the recording goes on from another place."""
        self._acts = 0

    def answer(self, key: str) -> None:
        """Take the key that answers the question."""
        question, self._standing = self._standing, None
        if question is not None:
            question.answers.get(key.lower(), question.otherwise)()

    def halt(self) -> str:
        """Ask whether to halt, or to resume what is halted; return why not, or ""."""
        halted = self._bot.risk.standing.state == "HALTED"
        what = "resume" if halted else "halt"
        return self._ask("halt", what, f"{what} trading? y / n")

    def pause_entries(self) -> str:
        """Pause entries, or let them enter again: no question, as nothing is lost by either.

        Return what comes of it, or why it cannot be done.
        """
        if self.over:
            return "the run is over: nothing enters any more"
        reasons = dict(self._bot.risk.standing.reasons)
        self._act("unpause" if "PAUSED" in reasons else "pause")
        if "PAUSED" in reasons:
            return "entries go on" + ("" if len(reasons) == 1 else ", as far as the gate lets them")
        return "entries are paused: exits and guard go on (P lets them enter again)"

    def flatten(self) -> str:
        """Ask whether to close all positions and halt; return why not, or ""."""
        return self._ask("close", "flatten", "flatten: close all positions and halt? y / n")

    def _ask(self, word: str, what: str, text: str) -> str:
        if self.over:
            return f"the run is over: nothing is left to {word}"
        self._standing = Question(text, {"y": lambda: self._act(what)})
        return ""

    def _act(self, what: str) -> None:
        act(self._inbox, "key", what, "")
        self._acts = self._bot.journal.counts["act"] + 1

    def quit(self) -> None:
        """End the run; what is held for real needs an answer."""
        if self._leave is None or self.over or not (held := self._leave.open):
            self.quits = True
            return
        # What is held is on the screen; more would not fit on one of 80 columns.
        text = f"end? c closes, y leaves, n goes on: {held}"
        answers = {"y": self._end, "c": lambda: self._end(closes=True)}
        self._standing = Question(text, answers, self._stay)

    def look_who_ends(self, now: int, *, blind: bool) -> bool:
        """Ask whoever ended the run by a signal, if so; without an answer it ends.

        Return whether the question is new.
        """
        if self._leave is None or not self._leave.requested.is_set():
            return False
        if blind or (self._until and now >= self._until):
            self.quits = True  # nobody is there to answer
        elif not self._until:
            self._until = now + PATIENCE_NS
            self.quit()
            return True
        return False

    def _end(self, *, closes: bool = False) -> None:
        self.quits, self._until = True, 0
        if self._leave is not None:
            self._leave.closes = self._leave.closes or closes

    def _stay(self) -> None:
        self._until = 0
        if self._leave is not None:
            self._leave.requested.clear()
