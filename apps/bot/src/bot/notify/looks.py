"""Notices of how a run stands: what falls below a threshold, lasts too long, or is due.

    run, once a second ──► Look ──► step(state, look, settings) ──► Notice

A threshold that is passed is noticed once, and again only after it was clearly left: a distance
that moves about a limit is no storm of notices. What is unknown passes none.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from dydx_risk import percent_text

from bot.config.notify import Kind, NotifySettings, minutes_of
from bot.notify.notice import Level, Notice, times
from bot.times import utc

_CLEARLY: Final = 1.1  # times a distance, to have left it
_HALF: Final = 0.5  # of a lag or a wait, to be over


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has come to: money in quote quantums, counts; None is unknown."""

    equity: int | None = None
    profit: int | None = None
    fees: int | None = None
    funding: int | None = None
    fills: int = 0
    guard: int = 0
    rejected: int = 0
    losses: int = 0  # of connections
    faults: int = 0  # in what was received


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How one account stands at an event time (ns, UTC).

    `distance` None is unknown, or nothing is held; `lost` is for how many seconds connections are
    lost and why, None while they are live; `troubles` are by where they are.
    """

    at: int
    account: str = ""
    distance: float | None = None
    lost: tuple[float, str] | None = None
    lag_s: float = 0.0
    wait_s: float = 0.0
    troubles: tuple[tuple[str, str], ...] = ()
    figures: Figures | None = None


class Noticed(msgspec.Struct, frozen=True, kw_only=True):
    """What of an account was noticed so far.

    `below` is how many of the distances it has fallen below, `closest` the least of them since the
    last summary, `began` since when that counts and from what on.
    """

    below: int = 0
    lost: bool = False
    lagging: bool = False
    waiting: bool = False
    troubles: frozenset[str] = frozenset()
    closest: float | None = None
    due: int = 0
    began: tuple[int, Figures | None] = (0, None)


def step(
    state: Noticed, look: Look, settings: NotifySettings
) -> tuple[Noticed, tuple[Notice, ...]]:
    """Compare how it stands with the thresholds; return what is to be noticed."""
    found: list[Notice] = []
    below = _below(state.below, look, settings, found)
    lost = _lost(state.lost, look, settings, found)
    lagging = _lasting("lag", state.lagging, look, look.lag_s, settings.lag_s, found)
    waiting = _lasting("limit", state.waiting, look, look.wait_s, settings.wait_s, found)
    found += _troubled(state.troubles, look)
    known = [one for one in (state.closest, look.distance) if one is not None]
    state = Noticed(
        below=below, lost=lost, lagging=lagging, waiting=waiting,
        troubles=state.troubles | {who for who, _ in look.troubles},
        closest=min(known, default=None), due=state.due, began=state.began,
    )  # fmt: skip
    return _summed(state, look, settings, found), tuple(found)


# === Thresholds ===


def _below(was: int, look: Look, settings: NotifySettings, found: list[Notice]) -> int:
    """Notice a distance that has fallen below another level, and one that is clear of all."""
    distance, levels = look.distance, sorted(settings.distance_below, reverse=True)
    if distance is None:
        return was
    now = sum(distance < level for level in levels)
    if now > was:
        grave: Level = "critical" if now == len(levels) else "warning"
        limit = percent_text(levels[now - 1])
        found.append(
            Notice(
                kind="distance", subject=f"{look.account} {limit}", at=look.at, level=grave,
                title=f"{percent_text(distance)} from liquidation, below {limit}",
                words="so far may all prices move against what is held",
            )
        )  # fmt: skip
        return now
    left = sum(distance < level * _CLEARLY for level in levels)
    if was and not left:
        found.append(
            Notice(
                kind="distance", subject=f"{look.account} clear", at=look.at, level="info",
                title=f"{percent_text(distance)} from liquidation, clear of all levels",
            )
        )  # fmt: skip
    return min(was, left)


def _lost(was: bool, look: Look, settings: NotifySettings, found: list[Notice]) -> bool:
    """Notice connections that are lost for too long, and that are back after that."""
    if look.lost is None:
        if was:
            found.append(
                Notice(
                    kind="connection", subject="back", at=look.at, level="info",
                    title="connected again",
                )
            )  # fmt: skip
        return False
    seconds, why = look.lost
    if not was and seconds >= settings.disconnected_s:
        found.append(
            Notice(
                kind="connection", subject="lost", at=look.at, level="critical",
                title=f"disconnected for {seconds:.0f} s", words=why,
            )
        )  # fmt: skip
        return True
    return was


# By kind: its title, and what it means.
_LASTING: Final = {
    "lag": ("frames wait {:.1f} s", "this machine does not keep up with what comes"),
    "limit": ("a rate limit makes requests wait {:.0f} s", "requests to REST are late by that"),
}


def _lasting(
    kind: Kind, was: bool, look: Look, seconds: float, limit: float, found: list[Notice]
) -> bool:
    """Notice what takes longer than its limit, once until it is well below."""
    if not was and seconds > limit:
        title, words = _LASTING[kind]
        found.append(
            Notice(
                kind=kind, subject="", at=look.at, level="warning",
                title=title.format(seconds), words=words,
            )
        )  # fmt: skip
        return True
    return was and seconds > limit * _HALF


def _troubled(was: frozenset[str], look: Look) -> Iterator[Notice]:
    for who, words in look.troubles:
        if who not in was:
            yield Notice(
                kind="trouble", subject=who, at=look.at, level="critical",
                title=f"trouble with {who}", words=words,
            )  # fmt: skip


# === Summary ===


def _summed(state: Noticed, look: Look, settings: NotifySettings, found: list[Notice]) -> Noticed:
    """Notice once a day what has come of it since the summary before, or since the run began."""
    if not settings.summary_at:
        return state
    if not state.due:
        due = next_at(settings.summary_at, settings.timezone, look.at)
        return msgspec.structs.replace(state, due=due, began=(look.at, look.figures))
    if look.at < state.due:
        # Equity may be unknown at first: then it counts from where it is known.
        since, before = state.began
        late = before is None or before.equity is None
        return msgspec.structs.replace(state, began=(since, look.figures)) if late else state
    found.append(summary_of(state, look))
    return msgspec.structs.replace(
        state, due=next_at(settings.summary_at, settings.timezone, look.at), closest=look.distance,
        began=(look.at, look.figures),
    )  # fmt: skip


def summary_of(state: Noticed, look: Look) -> Notice:
    """Return what has come of it since `state.began`: money in USDC."""
    since, before = state.began
    now, was = look.figures or Figures(), before or Figures()
    lines = [
        f"equity {usdc(now.equity)}",
        f"PnL {_changed(now.profit, was.profit, sign=True)}",
        f"fees {_changed(now.fees, was.fees)}",
        f"funding {_changed(now.funding, was.funding)}",
        _counted(now.fills - was.fills, "fill"),
        f"closest to liquidation {percent_text(state.closest)}",
        f"guard acted {times(now.guard - was.guard)}",
        f"{_counted(now.rejected - was.rejected, 'order')} rejected",
        f"connections lost {times(now.losses - was.losses)}",
        f"{_counted(now.faults - was.faults, 'fault')} in what was received",
    ]
    return Notice(
        kind="summary", subject=f"{look.account} {look.at}", at=look.at, level="info",
        title=f"summary since {utc(since)} UTC", words=", ".join(lines),
    )  # fmt: skip


def usdc(quantums: int | None, *, sign: bool = False) -> str:
    """Word an amount of quote quantums in USDC."""
    if quantums is None:
        return "unknown"
    amount = round(quantums / 1e6, 2) or 0.0  # and no -0.00
    return f"{amount:+,.2f} USDC" if sign else f"{amount:,.2f} USDC"


def _changed(now: int | None, was: int | None, *, sign: bool = False) -> str:
    return usdc(None if now is None or was is None else now - was, sign=sign)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def next_at(time_of_day: str, zone: str, at: int) -> int:
    """Return when it is that time of day next (ns, UTC), later than an event time."""
    now = datetime.fromtimestamp(at // 10**9, ZoneInfo(zone))
    minutes = minutes_of(time_of_day)
    day = now.replace(hour=minutes // 60, minute=minutes % 60, second=0, microsecond=0)
    # By the day and not by hours: of days on which clocks change one has 23 of them.
    due = day if day > now else day + timedelta(days=1)
    return round(due.timestamp()) * 10**9
