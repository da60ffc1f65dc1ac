"""How many messages come of what happens: a pure step in event time, for one sink.

    Notice ─┐
    Tick ───┴─► step(state, event, limits) ──► Message, with all that was held back before it

Every notice is the subject of exactly one message, or counted in exactly one: what is the same
again within a while, comes in quiet hours, or is more than a sink may get, is held back and is part
of the next message. Of the messages of a window the last is for what is critical, and for
a run that ends.
"""

from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from bot.config.notify import NotifySettings, minutes_of
from bot.notify.notice import LEVELS, Heading, Held, Message, Notice, message_of

MOST: Final = 100  # kinds and subjects that are held back apart; the rest together by kind
_OTHERS: Final = "others"
_OF_STATES: Final = frozenset(["gate", "connection", "distance"])


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a sink gets: at most `messages` in `window_ns`; `quiet` is minutes of a day."""

    repeat_ns: int
    messages: int
    window_ns: int
    quiet: tuple[int, int] | None = None
    zone: str = "UTC"

    @classmethod
    def of(cls, settings: NotifySettings) -> "Limits":
        """Return those of the settings."""
        begin, _, end = settings.quiet.partition("-")
        return cls(
            repeat_ns=round(settings.repeat_s * 1e9),
            messages=settings.messages,
            window_ns=round(settings.minutes * 60e9),
            quiet=(minutes_of(begin), minutes_of(end)) if settings.quiet else None,
            zone=settings.timezone,
        )

    def are_quiet(self, at: int) -> bool:
        """Return whether an event time (ns, UTC) is in quiet hours."""
        if self.quiet is None:
            return False
        now = datetime.fromtimestamp(at // 10**9, ZoneInfo(self.zone))
        minute, (begin, end) = now.hour * 60 + now.minute, self.quiet
        return begin <= minute < end if begin < end else not end <= minute < begin


class Tick(msgspec.Struct, frozen=True):
    """Nothing happened, and it is later."""

    at: int


class Flow(msgspec.Struct, frozen=True):
    """What one sink got and is to get: when it was sent to, when of what, and what is held back."""

    at: int = 0
    sent: tuple[int, ...] = ()
    last: dict[str, int] = {}
    held: dict[str, Held] = {}

    @property
    def waiting(self) -> int:
        """Return how many events are held back."""
        return sum(one.count for one in self.held.values())


def step(
    state: Flow, event: Notice | Tick, limits: Limits, heading: Heading
) -> tuple[Flow, tuple[Message, ...]]:
    """Take in what happened, or that time has passed; return what is to be sent now, if anything.

    events    --a--a--b--|--tick
    messages  --a-----b+1a------
    """
    state = _later(state, event.at, limits)
    if isinstance(event, Notice):
        state = msgspec.structs.replace(state, held=_with(state.held, event))
    return _released(state, limits, heading)


def flushed(state: Flow, heading: Heading) -> tuple[Flow, tuple[Message, ...]]:
    """Return all that is held back in a message of its own, whatever the limits."""
    if not state.held:
        return state, ()
    held = sorted(state.held.values(), key=lambda one: (-_grave(one), one.newest.at))
    message = message_of(heading, held[0], held[1:], state.at)
    return msgspec.structs.replace(state, held={}), (message,)


def _later(state: Flow, at: int, limits: Limits) -> Flow:
    """Forget what is too long ago to count; a clock that was set back far begins again."""
    back = max(limits.window_ns, limits.repeat_ns)
    at = at if at < state.at - back else max(at, state.at)
    if at == state.at:
        return state
    sent = tuple(then for then in state.sent if 0 <= at - then < limits.window_ns)
    last = {key: then for key, then in state.last.items() if 0 <= at - then < limits.repeat_ns}
    return Flow(at, sent, last, state.held)


def _with(held: dict[str, Held], notice: Notice) -> dict[str, Held]:
    key = notice.key
    if key not in held and len(held) >= MOST:
        key = f"{notice.kind} {_OTHERS}"
    known = held.get(key)
    found = Held(notice.at, notice.count, notice) if known is None else known.add(notice)
    return {**held, key: found}


def _released(state: Flow, limits: Limits, heading: Heading) -> tuple[Flow, tuple[Message, ...]]:
    ripe = _ripe(state, limits)
    if not ripe:
        return state, ()
    lead = max(ripe, key=lambda key: (_grave(state.held[key]), state.held[key].newest.at))
    spare = int(limits.messages > 1 and not _counts_most(state.held[lead].newest))
    if len(state.sent) >= limits.messages - spare:
        return state, ()
    others = [one for key, one in state.held.items() if key != lead]
    others.sort(key=lambda one: (-_grave(one), one.newest.at))
    message = message_of(heading, state.held[lead], others, state.at)
    # What stands otherwise by now is no repetition: halted, resumed, halted.
    turned = {one.newest.kind for one in state.held.values()} & _OF_STATES
    last = {key: then for key, then in state.last.items() if key.split()[0] not in turned}
    last |= dict.fromkeys(state.held, state.at)
    return Flow(state.at, (*state.sent, state.at), last, {}), (message,)


def _ripe(state: Flow, limits: Limits) -> list[str]:
    """Return what of all that is held back may be sent now, but for how many messages there are."""
    if not state.held:
        return []
    quiet = limits.are_quiet(state.at)
    return [
        key for key, held in state.held.items()
        if key not in state.last and (not quiet or held.newest.level == "critical")
    ]  # fmt: skip


def _counts_most(notice: Notice) -> bool:
    return notice.level == "critical" or notice.kind == "run"


def _grave(held: Held) -> int:
    return LEVELS.index(held.newest.level)
