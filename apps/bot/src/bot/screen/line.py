"""The last line of a dashboard: what is new, else what is wrong, before the keys.

a key's answer, a notice of the run ──► Line ──► words ──► View.message
"""

import math
import time
from typing import Final

from bot.run.composition import Bot

NEW_NS: Final = 15_000_000_000  # for so long what is new is shown: a long line is read in it


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
