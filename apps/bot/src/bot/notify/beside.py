"""The notices of a run: how its account stands, how it begins and ends, and who is notified.

    settings, bot ──► notices_of ──► Notices, or none where nobody is to be notified

Whatever is looked at is looked at on the run's own thread.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from dydx_paper import AccountFigures
from pydantic import SecretStr

from bot.config.configured import loaded_of, opened_of
from bot.config.notify import NotifySettings, SinkSettings
from bot.notify.looks import Figures, Look, Seen, summary_of
from bot.notify.notice import Heading, Level, Notice, short
from bot.notify.notices import Notices
from bot.notify.sending import address_of
from bot.notify.sink import Sink
from bot.report.report import away, positions_of
from bot.run.composition import Bot
from bot.run.links import Links, reason_words


def notified(arguments: argparse.Namespace, bot: Bot, *, mode: str, network: str) -> list[Notices]:
    """Return what notifies people of a run as it is configured; a passphrase may be needed."""
    return notices_of(bot, open_settings(arguments), mode=mode, network=network)


def open_settings(arguments: argparse.Namespace) -> NotifySettings:
    """Return who is notified of what, with the addresses that are needed for it."""
    settings = loaded_of(arguments).settings.notify
    if settings.enabled and needs_opening(settings):
        return opened_of(arguments).settings.notify
    return settings


def needs_opening(settings: NotifySettings) -> bool:
    """Return whether an address may be sealed."""
    return not all(one.url or one.url_env or one.url_file for one in settings.sinks)


def notices_of(bot: Bot, settings: NotifySettings, *, mode: str, network: str) -> list[Notices]:
    """Return what notifies people of a run: one, or none where no sink is configured."""
    sinks = sinks_of(settings)
    if not sinks:
        return []
    bot.follow_links()
    account = short(str(bot.venue.subaccount))
    of_run = Run(bot, mode, account)
    heading = Heading(mode=mode, network=network, account=account)
    notices = Notices(settings, heading, sinks, of_run, goes_on=mode != "REPLAY")
    bot.journal.listeners.append(notices.listen)
    return [notices]


def sinks_of(settings: NotifySettings) -> dict[str, Sink]:
    """Return the sinks by their names; none where notices are switched off."""
    return {
        one.name: Sink(one.name, address(one, settings.urls), timeout_s=settings.timeout_s)
        for one in settings.sinks
        if settings.enabled
    }


def address(sink: SinkSettings, urls: SecretStr) -> Callable[[], str]:
    """Return what reads the address of a sink: for each attempt, so that it may be mended."""
    return partial(address_of, sink, urls)


class Run:
    """How a run stands, begins and ends, in values that may cross over to another thread."""

    def __init__(self, bot: Bot, mode: str, account: str) -> None:
        self._bot, self._mode, self._account = bot, mode, account
        self._began = 0

    def looks(self, at: int) -> tuple[Look, ...]:
        """Return how the account stands."""
        bot = self._bot
        self._began = self._began or at
        vitals, account = bot.shown.feeds.vitals, bot.risk.account
        return (
            Look(
                at=at - bot.data.clock.jumped_ns,
                account=self._account,
                distance=None if account.trouble else bot.risk.margin.distance,
                lost=lost_of(bot.shown.links, at, self._began),
                lag_s=bot.data.chain.lag_ns / 1e9,
                wait_s=0.0 if vitals is None else vitals.rest_wait_s,
                troubles=tuple(
                    (who, words) for who, words in bot.shown.troubles.items() if who != Notices.name
                ),
                figures=figures_of(bot),
            ),
        )

    def begins(self, at: int) -> list[Notice]:
        """Return that it has begun, and as what."""
        options = self._bot.options
        words = f"profile {options.profile}, strategy {options.strategy.rpartition('/')[2]}"
        if carried := self._bot.shown.carried:
            words += f", {carried}"
        return [_of_run(at, "info", "run began", words)]

    def ends(self, at: int, seen: Mapping[str, Seen]) -> list[Notice]:
        """Return that it is over, with what, and what stays open."""
        bot, held, level = self._bot, _held(self._bot), _ENDS.get(self._mode, "info")
        words = summary_of(seen.get(self._account, Seen()), self.looks(at)[0]).words
        if held:
            words = f"held, and nobody guards it: {held}; {words}"
        if (failure := bot.failure) is not None:
            failed = f"{type(failure).__name__}: {failure}; {words}"
            return [_of_run(at, "critical", "run FAILED", failed)]
        return [_of_run(at, level if held else "info", "run ended", words)]


# How grave it is to end with what is held: on paper nothing is lost by it.
_ENDS: Final[Mapping[str, Level]] = {"TRADE": "critical"}


def _of_run(at: int, level: Level, title: str, words: str) -> Notice:
    return Notice(kind="run", subject=f"{title} {at}", at=at, level=level, title=title, words=words)


def _faults(bot: Bot) -> int:
    # As `counts` has it, without a sum of 250 counters every second.
    data = bot.data
    of_markets = (sum(view.quality.counts.values()) for view in data.views.values())
    return sum(data.quality.counts.values()) + sum(of_markets)


def _held(bot: Bot) -> str:
    rows = positions_of(bot)
    # Once the connections are closed, as at the end of a run, a distance is not known.
    return ", ".join(
        f"{row['ticker']} {row['size']}"
        + (f" ({away(row['distance'])})" if row["distance"] is not None else "")
        for row in rows
    )


def lost_of(links: Links | None, at: int, began: int) -> tuple[float, str] | None:
    """Return for how long connections are lost, in seconds, and why; None while they are live.

    Those that never were live are lost since the run `began`.
    """
    if links is None or links.state in ("", "live"):
        return None
    since = began if links.lost_at is None else links.lost_at
    why = reason_words(links.reason)
    return max(at - since, 0) / 1e9, f"{links.words(at)}{f': {why}' if why else ''}"


def figures_of(bot: Bot) -> Figures:
    """Return what a run has come to."""
    money, counts = bot.venue.figures(), bot.journal.counts
    known = isinstance(money, AccountFigures) or money.complete
    return Figures(
        equity=money.equity,
        profit=money.profit if known else None,
        fees=money.fees_paid if known else None,
        funding=money.funding_paid - money.unsettled if known else None,
        fills=counts["fill"],
        guard=counts["reduce"],
        rejected=counts["order REJECTED"],
        losses=(counts["link"] + 1) // 2,  # of each a line when it is lost, and when it is back
        faults=_faults(bot),
    )
