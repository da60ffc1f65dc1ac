"""The dashboard of accounts that are watched: one of them at a time, all of them on a panel.

    Group ──► Bot of the account that is chosen ──► Screen
          └─► a row for each ──► panel `accounts`, whose Enter and Tab choose

Its keys are those of any run, but that nothing can be sent: there is nobody to halt.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from dydx_conn import Subaccount
from dydx_panels import Snapshot
from msgspec.structs import replace

from bot.run.composition import Bot
from bot.screen.keyboard import Key
from bot.screen.screen import Screen
from bot.watch.group import Group
from bot.watch.rows import Pasts, account_rows, short

_PANEL: Final = "accounts"
_STEPS: Final[Mapping[Key, int]] = {"tab": 1, "back-tab": -1}


class WatchScreen(Screen):
    """A dashboard of several accounts, of which one is chosen for all panels but their own."""

    def __init__(
        self, group: Group, chosen: Subaccount, pasts: Callable[[], Pasts], **how: Any
    ) -> None:
        self._group, self._pasts = group, pasts
        super().__init__(group.bots[chosen], mode="WATCH", **how)
        self.actions.opens[_PANEL] = self._open

    def snapshot(self) -> Snapshot:
        """Return the account that is chosen, beside a row for each."""
        shown = super().snapshot()
        if shown is self.actions.frozen:
            return shown
        rows = account_rows(self._group, self.bot, self._pasts())
        return replace(
            shown, accounts=rows, safety=replace(shown.safety, advice=True), gate=None,
            header=replace(shown.header, source=f"{self.name} {self._named()}"),
        )  # fmt: skip

    def _named(self) -> str:
        whose = self.bot.venue.subaccount
        block = self._group.block(whose)
        at = "indexer only" if block is None else f"chain at {block}"
        return f"{short(whose)} {at}"

    def choose(self, bot: Bot) -> None:
        """Show another account."""
        self.show(bot)
        bot.follow_links()

    def _answer(self, key: Key) -> None:
        busy = self.choices.overlaid or self.choices.view.filtering or self.questions.text
        if key in _STEPS and self.choices.view.panel == _PANEL and not busy:
            self._step(_STEPS[key])
            self._due_draw_ns = 0
        else:
            super()._answer(key)

    def _step(self, by: int) -> None:
        bots = [*self._group.bots.values()]
        at = bots.index(self.bot) if self.bot in bots else 0
        self.choose(bots[(at + by) % len(bots)])

    def _open(self, account: str) -> str:
        """Show the account of a row of the panel."""
        for whose, bot in self._group.bots.items():
            if str(whose) == account:
                self.choose(bot)
                self.choices.back()
        return ""
