"""What nobody at the screen may miss, for as long as it takes to see it.

    Journal ──► Alarms.note ──► over(view) ──► a banner for some seconds, a flash, the bell once

The guard acts within a third of a second of a run, which is gone at once at twenty times the
speed: here the time is that of whoever watches.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from dydx_conn import AccountUpdate, Frame
from dydx_panels import View, wording
from dydx_risk import GateChange
from msgspec.structs import replace

from bot.run.composition import Bot
from bot.run.journal import JournalEntry

BANNER_NS: Final = 8_000_000_000  # a line is read in it
_HALTED: Final = "HALTED"
FLASH_NS: Final = 600_000_000  # seen from the corner of an eye, and over


class Alarm(NamedTuple):
    """What happened: a word for it, the rest in words, and how grave it is."""

    weight: int
    word: str
    words: str


class Alarms:
    """The banner over the panels; `muted` while a recording is only gone through.

    Of what comes together the gravest is shown, and how much more there was.
    """

    def __init__(self, bot: Bot, *, bell: bool = True, muted: Callable[[], bool]) -> None:
        self._bell, self._muted, self._rings = bell, muted, False
        self._shown: Alarm | None = None
        self._more = 0
        self._began_ns = 0
        self.show_of(bot)

    def show_of(self, bot: Bot) -> None:
        """Watch another run, which begins with nothing that was missed."""
        self.forget()
        bot.journal.listeners.append(self.note)

    def forget(self) -> None:
        """Show nothing of what was before: somebody is elsewhere in the recording."""
        self._shown, self._more, self._rings = None, 0, False

    def note(self, entry: JournalEntry | AccountUpdate) -> None:
        """Take what happened; a listener of a journal."""
        if not isinstance(entry, JournalEntry) or self._muted():
            return
        if (alarm := alarm_of(entry)) is not None:
            self._raise(alarm, time.monotonic_ns())
        elif entry.kind == "gate" and self._shown is not None and self._shown.word == _HALTED:
            self.forget()  # whoever resumed it would read of a halt that is over

    def over(self, view: View, now: int) -> View:
        """Return a view with the banner of now, if there is one."""
        shown = self._shown
        if shown is None or now - self._began_ns >= BANNER_NS:
            self._shown, self._more = None, 0
            return view
        more = f" (and {self._more} more)" if self._more else ""
        flash = now - self._began_ns < FLASH_NS
        return replace(view, banner=f"{shown.word}{more}: {shown.words}", flash=flash)

    def rings(self) -> bool:
        """Return whether the bell is to ring, once for what came together."""
        rings, self._rings = self._rings and self._bell, False
        return rings

    def _raise(self, alarm: Alarm, now: int) -> None:
        shown = self._shown
        if shown is not None and now - self._began_ns < BANNER_NS:
            self._more += 1
            if alarm.weight < shown.weight:
                return
        if shown is None or now - self._began_ns >= FLASH_NS:
            self._rings = True
        self._shown, self._began_ns = alarm, now


def alarm_of(entry: JournalEntry) -> Alarm | None:
    """Return what nobody may miss of an entry; None for all that goes on as usual."""
    make = _ALARMS.get(entry.kind)
    return None if make is None else make(entry)


def _acted(entry: JournalEntry) -> Alarm:
    return Alarm(2, wording("reduce", entry.value.order.side).upper(), entry.words)


def _filled(entry: JournalEntry) -> Alarm | None:
    kind = entry.value.type
    return Alarm(3, kind, f"{entry.ticker} {entry.words}") if kind in _TAKEN else None


def _gated(entry: JournalEntry) -> Alarm | None:
    change: GateChange = entry.value
    why = "; ".join(why for _, why in change.reasons).removeprefix("halted: ")
    return Alarm(1, _HALTED, why) if change.state == _HALTED else None


def _stopped(entry: JournalEntry) -> Alarm | None:
    act: Frame = entry.value
    stops = act.link in ("strategy", "signals") and act.type == "halt"
    return Alarm(2, "STRATEGY STOPPED", act.text) if stops else None


# What the venue takes by itself.
_TAKEN: Final = ("LIQUIDATED", "DELEVERAGED")
_ALARMS: Final[dict[str, Callable[[JournalEntry], Alarm | None]]] = {
    "reduce": _acted, "fill": _filled, "gate": _gated, "act": _stopped,
}  # fmt: skip
