"""Notices of accounts that are watched: how far each is from liquidation, and what takes it.

    Group, once a second ──► a Look of each account ──┐
    journals: liquidations, orders ───────────────────┴─► bot.notify

What the layers of a watched account would do is advice: neither their gate nor a guard is notified.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from dydx_conn import AccountUpdate, ConnError, Subaccount
from msgspec.structs import replace

from bot.config.configured import loaded_of
from bot.live.runs import NO_SINKS
from bot.notify.beside import lost_of, open_settings, sinks_of
from bot.notify.entries import noticed
from bot.notify.looks import Figures, Look, Seen
from bot.notify.notice import Heading, Notice, short
from bot.notify.notices import Notices
from bot.run.composition import Bot
from bot.run.journal import JournalEntry
from bot.watch.group import Group

_KINDS: Final = ("liquidation", "order")


def notices_of(
    arguments: argparse.Namespace, group: Group, network: str, *, goes_on: bool = True
) -> list[Notices]:
    """Return what notifies people of watched accounts as it is configured: one, or none."""
    if not loaded_of(arguments).settings.notify.sinks:
        if getattr(arguments, "notify", None):
            raise ConnError(NO_SINKS)
        return []
    settings = open_settings(arguments)
    if not (sinks := sinks_of(settings)):
        return []
    accounts = [short(str(whose)) for whose in group.bots]
    account = accounts[0] if len(accounts) == 1 else f"{len(accounts)} accounts"
    watched = Watched(group)
    heading = Heading(mode="WATCH", network=network, account=account)
    notices = Notices(settings, heading, sinks, watched, goes_on=goes_on)
    watched.put = notices.put
    return [notices]


class Watched:
    """How watched accounts stand, in values that may cross over to another thread."""

    def __init__(self, group: Group) -> None:
        self.put: Callable[[Notice], None] = lambda _: None
        self._group, self._began = group, 0
        self._followed = set[Subaccount]()
        next(iter(group.bots.values())).follow_links()

    def looks(self, at: int) -> tuple[Look, ...]:
        """Return how each account stands; what concerns all of them is in the first."""
        group = self._group
        self._began = self._began or at
        for whose, bot in group.bots.items():
            if whose not in self._followed:
                self._followed.add(whose)
                bot.journal.listeners.append(partial(self._listen, short(str(whose))))
        first, *others = (self._look(at, whose, bot) for whose, bot in group.bots.items())
        bots = [*group.bots.values()]
        links = next((bot.shown.links for bot in bots if bot.shown.links is not None), None)
        troubles = tuple(bots[0].shown.troubles.items())
        lag_s = group.data.chain.lag_ns / 1e9
        lost = lost_of(links, at, self._began)
        return (replace(first, lost=lost, lag_s=lag_s, troubles=troubles), *others)

    def _look(self, at: int, whose: Subaccount, bot: Bot) -> Look:
        standing = self._group.standing(whose)
        known = not standing.trouble and standing.margin.known
        return Look(
            at=at - bot.data.clock.jumped_ns,
            account=short(str(whose)),
            distance=standing.distance,
            figures=Figures(
                equity=standing.margin.net_collateral if known else None,
                profit=self._group.profit(whose),
                fills=bot.journal.counts["fill"],
                losses=(bot.journal.counts["link"] + 1) // 2,
            ),
        )

    def _listen(self, account: str, entry: JournalEntry | AccountUpdate) -> None:
        if not isinstance(entry, JournalEntry):
            return
        notice = noticed(entry)
        if notice is not None and notice.kind in _KINDS:
            subject = f"{account} {notice.subject}"
            self.put(replace(notice, subject=subject, title=f"{account}: {notice.title}"))

    def begins(self, at: int) -> Sequence[Notice]:
        """Return that accounts are watched from now on."""
        return [self._turned(at, "watch began")]

    def ends(self, at: int, seen: Mapping[str, Seen]) -> Sequence[Notice]:
        """Return that nobody watches them any more."""
        return [self._turned(at, "watch ended")]

    def _turned(self, at: int, title: str) -> Notice:
        words = ", ".join(short(str(whose)) for whose in self._group.bots)
        return Notice(
            kind="run", subject=f"{title} {at}", at=at, level="info", title=title, words=words
        )
