"""Notices of what the journal of a run has: the guard, the gate, orders, the strategy, settings.

    JournalEntry ──► noticed ──► Notice, or None for all that goes on as usual

Called on the run's own thread: it is one look into a table for nearly every entry.
"""

from collections.abc import Callable
from typing import Final

from dydx_conn import AccountFill, Frame, OrderState
from dydx_panels import wording
from dydx_risk import GateChange, Reduce

from bot.config.changes import RELOAD, is_of_settings
from bot.notify.notice import Level, Notice
from bot.run.journal import JournalEntry

# What the venue takes by itself.
_TAKEN: Final = ("LIQUIDATED", "DELEVERAGED")
_LOST: Final = ("REJECTED", "UNRESOLVED")


def noticed(entry: JournalEntry) -> Notice | None:
    """Return what people are to be notified of in an entry; None if it is nothing."""
    make = _MADE_OF.get(entry.kind)
    return None if make is None else make(entry)


def _guarded(entry: JournalEntry) -> Notice:
    order: Reduce = entry.value
    side = order.order.side
    title = f"{wording('reduce', side)} {entry.ticker}"
    return Notice(
        kind="guard", subject=entry.ticker, at=entry.at, level="critical", title=title,
        words=entry.words,
    )  # fmt: skip


_FIRST: Final = "G1"
# By the state of the gate: how grave it is, and what a trader calls it.
_GATES: Final[dict[str, tuple[Level, str]]] = {
    "HALTED": ("critical", "halted"),
    "REDUCING": ("warning", "reducing: exits only"),
    "PAUSED": ("warning", "entries paused"),
    "ACTIVE": ("info", "active: entries may trade again"),
}


def _gated(entry: JournalEntry) -> Notice | None:
    change: GateChange = entry.value
    if entry.id == _FIRST and change.state == "ACTIVE":
        return None  # as it is with every run, once the account is known
    reasons = [reason for reason, _ in change.reasons]
    state = "PAUSED" if "PAUSED" in reasons and change.state != "HALTED" else change.state
    level, title = _GATES[state]
    return Notice(
        kind="gate", subject=state, at=entry.at, level=level, title=title, words=entry.words
    )


def _filled(entry: JournalEntry) -> Notice | None:
    fill: AccountFill = entry.value
    if fill.type not in _TAKEN:
        return None
    return Notice(
        kind="liquidation", subject=entry.ticker, at=entry.at, level="critical",
        title=f"{fill.type} {entry.ticker}", words=entry.words,
    )  # fmt: skip


def _ordered(entry: JournalEntry) -> Notice | None:
    order: OrderState = entry.value
    if order.status not in _LOST:
        return None
    title = f"order {wording(order.status)} {entry.ticker}".rstrip()
    return Notice(
        kind="order", subject=f"{order.status} {entry.ticker}", at=entry.at, level="warning",
        title=title, words=entry.words,
    )  # fmt: skip


def _acted(entry: JournalEntry) -> Notice | None:
    act: Frame = entry.value
    if act.type == "halt" and act.link in ("strategy", "signals"):
        return Notice(
            kind="strategy", subject=act.link, at=entry.at, level="critical",
            title=f"{act.link} failed: entries are stopped", words=entry.words,
        )  # fmt: skip
    if not is_of_settings(act):
        return None
    done = act.type == RELOAD
    return Notice(
        kind="reload", subject="done" if done else "refused", at=entry.at,
        level="info" if done else "warning",
        title="settings changed" if done else "settings not changed", words=entry.words,
    )  # fmt: skip


_MADE_OF: Final[dict[str, Callable[[JournalEntry], Notice | None]]] = {
    "reduce": _guarded, "gate": _gated, "fill": _filled, "order": _ordered, "act": _acted,
}  # fmt: skip
