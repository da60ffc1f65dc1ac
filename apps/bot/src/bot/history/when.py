"""Times and names as a person types them: read, or refused with what was expected.

2026-11-30, 2026-11-30T07:15, 2h, yesterday ──► since, until ──► nanoseconds, UTC
a name, and those known ──► chosen ──► the known one, or a refusal with the nearest
"""

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from dydx_conn import ConnError

from bot.times import utc

_EXPECTED: Final = (
    "expected a date or time of UTC such as 2026-11-30 or 2026-11-30T07:15, today, yesterday, or "
    "how long ago, such as 45s, 30m, 2h, 3d or 1w"
)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS: Final = {"today": 0, "yesterday": 1}
_SHOWN: Final = 12


class TypedError(ConnError):
    """A word of a person's that is none of those that can be meant."""


def span(
    since: str | None, until: str | None, now_ns: int,
    names: tuple[str, str] = ("--since", "--until"),
) -> tuple[int | None, int | None]:  # fmt: skip
    """Read the beginning and the end of a time, which it does not reach; None for unlimited.

    A day as the end is a day in whole. `names` are those of the options, for a refusal.
    """
    low = None if since is None else _read(names[0], since, now_ns)[0]
    high = None if until is None else _read(names[1], until, now_ns)[1]
    if low is not None and high is not None and low >= high:
        what = f"expected {names[0]} before {names[1]}, got {utc(low)} and {utc(high)} (UTC)"
        raise TypedError(what)
    return low, high


def moment(name: str, text: str, now_ns: int) -> int:
    """Read a time; of a day it is the beginning. `name` is the option's, for a refusal."""
    return _read(name, text, now_ns)[0]


def span_words(since: int | None, until: int | None) -> str:
    """Put in words which time is shown; "" for all of it."""
    parts = (("from", since), ("to", until))
    words = " ".join(f"{name} {utc(at)}" for name, at in parts if at is not None)
    return f"{words} UTC" if words else ""


def _read(name: str, text: str, now_ns: int) -> tuple[int, int]:
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    word = text.strip().lower()
    try:
        if (ago := re.fullmatch(r"(\d{1,9})([smhdw])", word)) is not None:
            at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return (_ns(at), _ns(at))
        if word in _DAYS:
            day = now.replace(hour=0, minute=0, second=0) - timedelta(days=_DAYS[word])
            return _ns(day), _ns(day + timedelta(days=1))
        if word == "now":
            return now_ns, now_ns
        at = datetime.fromisoformat(text.strip())
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        whole = re.fullmatch(r"\d{4}-?\d\d-?\d\d", word) is not None
        return _ns(at), _ns(at + timedelta(days=1) if whole else at)
    except (ValueError, OverflowError):
        raise TypedError(f"{name}: {_EXPECTED}, got {text!r}") from None


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _ns(at: datetime) -> int:
    # By integers: a float of seconds has no nanoseconds.
    return (at - _EPOCH) // timedelta(microseconds=1) * 1_000


def chosen(what: str, text: str, known: Iterable[str]) -> str:
    """Return the known name that was typed, in any case; else it is refused with the nearest."""
    names = sorted(set(known))
    by_case = {name.lower(): name for name in names}
    if (found := by_case.get(text.strip().lower())) is not None:
        return found
    near = difflib.get_close_matches(text.strip().lower(), by_case, 1, 0.5)
    near = near or [name for name in by_case if name.startswith(text.strip().lower())][:1]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    listed = f"{', '.join(names[:_SHOWN])}{more}" if names else "none so far"
    hint = f"; the nearest is {by_case[near[0]]}" if near else ""
    raise TypedError(f"expected {what} of those there are: {listed}; got {text!r}{hint}")
