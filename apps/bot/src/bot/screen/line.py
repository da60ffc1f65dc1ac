"""The last line of a dashboard: what is new, else what is wrong, beside the keys.

a key's answer, a notice of the run ──► Line.words ──► View.message, for some seconds
troubles, a strategy that stopped ────► Line.note ───► View.note, which leaves room for the keys
"""

import time
from typing import Final

from bot.config.changes import REFUSE
from bot.run.composition import Bot

NEW_NS: Final = 15_000_000_000  # for so long what is new is shown: a long line is read in it
_GLANCE_NS: Final = 3_000_000_000
_LETTER_NS: Final = 50_000_000


class Line:
    """What the last line of a dashboard shows beside its keys.

    What is new hides the keys for a while; what is wrong for longer is new once, and leaves them
    room from then on. `ended` is what is shown of a run that has ended.
    """

    def __init__(self, bot: Bot) -> None:
        self.ended = ""
        self._bot = bot
        self._new, self._until_ns = "", 0
        self._wrong = ""

    def show_of(self, bot: Bot) -> None:
        """Show what is wrong with another run."""
        self._bot, self._wrong = bot, ""

    def show(self, text: str, *, for_ns: int = NEW_NS) -> None:
        """Show a text for some seconds, or until there is another one."""
        self._new, self._until_ns = text, time.monotonic_ns() + for_ns

    def answer(self, text: str) -> None:
        """Show what came of a key, for as long as it takes to read."""
        self.show(text, for_ns=_GLANCE_NS + len(text) * _LETTER_NS)

    def words(self) -> str:
        """Return what is new, if anything is."""
        shown = self._bot.shown
        if (wrong := self._wrongs()) != self._wrong:
            self._wrong = wrong
            self.show(wrong)
        if shown.notice:
            self.show(shown.notice)
            shown.notice = ""
        return self._new if time.monotonic_ns() < self._until_ns else ""

    def note(self) -> str:
        """Return what is so for longer."""
        return " · ".join(filter(None, (self.ended, self._wrongs(), self._refused())))

    def _refused(self) -> str:
        edit = self._bot.shown.edited
        if edit is None or edit.value.type != REFUSE:
            return ""
        return f"AN EDIT OF THE SETTINGS IS REFUSED: {edit.id}"

    def _wrongs(self) -> str:
        if troubles := self._bot.shown.troubles:
            return " · ".join(troubles.values())
        stopped = self._bot.stopped is not None
        return "THE STRATEGY IS STOPPED: nothing enters, the guard goes on" if stopped else ""
