"""The dashboard of accounts that are watched: one of them at a time, all of them on a panel.

    Group ──► Bot of the account that is chosen ──► Screen
          └─► a row for each ──► panel `accounts`, whose Enter and Tab choose

Its keys are those of any run, but that nothing can be sent: there is nobody to halt.
"""

from collections.abc import Callable, Mapping
from functools import partial
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


def watched(
    group: Group, bot: Bot, name: str, pasts: Callable[[], Pasts], shown: Snapshot
) -> Snapshot:
    """Return a snapshot of one account as that of a group: a row for each, and nothing to send."""
    whose = bot.venue.subaccount
    block = group.block(whose)
    at = "indexer only" if block is None else f"chain at {block}"
    # Nothing is sent, so what may be sent is nothing to read.
    tape = tuple(row for row in shown.tape if row.kind != "gate")
    return replace(
        shown, accounts=account_rows(group, bot, pasts()), tape=tape, gate=None,
        safety=replace(shown.safety, advice=True),
        header=replace(shown.header, source=f"{name} {short(whose)} {at}"),
    )  # fmt: skip


class WatchScreen(Screen):
    """A dashboard of several accounts, of which one is chosen for all panels but their own."""

    def __init__(
        self,
        group: Group,
        chosen: Subaccount,
        pasts: Callable[[], Pasts],
        *,
        name: str,
        shows: Callable[[Bot], object] = lambda bot: None,
        **how: Any,
    ) -> None:
        """Show the account that is `chosen`; `shows` is called where another one is."""
        self._group, self._chosen = group, shows
        for bot in group.bots.values():
            bot.shown.dressed = partial(watched, group, bot, name, pasts)
        super().__init__(group.bots[chosen], mode="WATCH", name=name, **how)
        self.actions.opens[_PANEL] = self._open

    def choose(self, bot: Bot) -> None:
        """Show another account."""
        self.show(bot)
        bot.follow_links()
        self._chosen(bot)

    def _answer(self, key: Key) -> None:
        busy = self.choices.overlaid or self.choices.view.filtering or self.questions.text
        if key in _STEPS and self.choices.view.panel == _PANEL and not busy:
            self._step(_STEPS[key])
            self.redraw.at_once()
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
