"""What is done only after an answer: to halt, to close all, to leave what is held, to save.

    K, F, s, q, a signal ──► Questions ──► View.confirm ──► the next key ──► an act, or the end

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
    """Its text, what each key does, and what any other does; each may return what to say."""

    text: str
    answers: Mapping[str, Callable[[], str | None]]
    otherwise: Callable[[], str | None] = lambda: "nothing is done"


class Questions:
    """The question that stands, and whether the run is to end.

    Without `trades` nothing takes an act; nor once the source is `over`. `acted` is whether an act
    was put in, until somebody sets it back.
    """

    def __init__(self, bot: Bot, inbox: Inbox, leave: Leave | None, *, trades: bool = True) -> None:
        self.quits = self.over = self.acted = False
        self._bot, self._inbox, self._leave, self._trades = bot, inbox, leave, trades
        self._standing: Question | None = None
        self._acts = 0  # how many acts there are once the last one has entered
        self._until = 0  # until when it waits for whoever ended the run by a signal
        if leave is not None:
            leave.on_screen = True

    # --- questions ---

    @property
    def text(self) -> str:
        """Return the question that stands; "" for none."""
        return self._standing.text if self._standing is not None else ""

    def ask(self, question: Question) -> None:
        """Let a question stand until the next key."""
        self._standing = question

    def answer(self, key: str) -> str | None:
        """Take the key that answers the question."""
        question, self._standing = self._standing, None
        if question is None:
            return None
        return question.answers.get(key.lower(), question.otherwise)()

    # --- acts ---

    def refusal(self, word: str) -> str:
        """Return why nothing can be done to the run; "" if it can."""
        if not self._trades:
            return f"an account is watched without a key: there is nothing to {word}"
        return f"the run is over: nothing is left to {word}" if self.over else ""

    def halt(self) -> None:
        """Ask whether to halt, or to resume what is halted."""
        halted = self._bot.risk.standing.state == "HALTED"
        what = "resume" if halted else "halt"
        self.ask(Question(f"{what} trading? y / n", {"y": lambda: self._act(what)}))

    def flatten(self) -> None:
        """Ask whether to close all positions and halt."""
        text = "flatten: close all positions and halt? y / n"
        self.ask(Question(text, {"y": lambda: self._act("flatten")}))

    def pause_entries(self) -> str:
        """Pause entries, or let them go on: no question, as nothing is lost by either."""
        reasons = dict(self._bot.risk.standing.reasons)
        if "PAUSED" not in reasons:
            self._act("pause")
            return "entries are paused: exits and guard go on (P lets them enter again)"
        self._act("unpause")
        return "entries go on" + ("" if len(reasons) == 1 else ", as far as the gate lets them")

    def _act(self, what: str) -> None:
        act(self._inbox, "key", what, "")
        self._acts, self.acted = self._bot.journal.counts["act"] + 1, True

    # --- the end ---

    @property
    def goes_on(self) -> bool:
        """Return whether the run goes on; whoever halts and leaves at once has halted first."""
        return not self.quits or self._bot.journal.counts["act"] < self._acts

    def restart(self) -> None:
        """Wait for no act any more: the recording goes on from another place."""
        self._acts = 0

    def quit(self) -> None:
        """End the run; what is held for real needs an answer."""
        if self._leave is None or self.over or not (held := self._leave.open):
            self.quits = True
            return
        # What is held is on the screen; more would not fit on one of 80 columns.
        text = f"end? c closes, y leaves, n goes on: {held}"
        answers = {"y": self._end, "c": lambda: self._end(closes=True)}
        self.ask(Question(text, answers, self._stay))

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

    def _end(self, *, closes: bool = False) -> str:
        self.quits, self._until = True, 0
        if self._leave is not None:
            self._leave.closes = self._leave.closes or closes
        return "closing what is held, then the end" if closes else "the end"

    def _stay(self) -> str:
        self._until = 0
        if self._leave is not None:
            self._leave.requested.clear()
        return "the run goes on"
