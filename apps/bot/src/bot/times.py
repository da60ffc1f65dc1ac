"""Times as text: UTC, from nanoseconds since 1970, cut and never rounded.

    iso      for a program    2026-11-30T07:15:00.123456Z
    clock    for people       2026-11-30 07:15:00.123Z
    utc      for people       2026-11-30 07:15:00

They are made of integers: a float of seconds has no nanoseconds.
"""

from datetime import UTC, datetime
from typing import Final, overload

_SECOND_NS: Final = 1_000_000_000


@overload
def iso(at: int) -> str: ...
@overload
def iso(at: None) -> None: ...
def iso(at: int | None) -> str | None:
    """Return a time for a program: ISO 8601, to the microsecond; None of one that is not known.

    >>> iso(1_500_000_000)
    '1970-01-01T00:00:01.500000Z'
    """
    if at is None:
        return None
    return f"{_of(at):%Y-%m-%dT%H:%M:%S}.{at % _SECOND_NS // 1_000:06d}Z"


def clock(at: int) -> str:
    """Return a time for people, to the millisecond.

    >>> clock(1_500_000_000)
    '1970-01-01 00:00:01.500Z'
    """
    return f"{_of(at):%Y-%m-%d %H:%M:%S}.{at % _SECOND_NS // 1_000_000:03d}Z"


def utc(at: int, *, year: bool = True) -> str:
    """Return a time for people, to the second, with its `year` or without."""
    text = f"{_of(at):%Y-%m-%d %H:%M:%S}"
    return text if year else text[5:]


def _of(at: int) -> datetime:
    return datetime.fromtimestamp(at // _SECOND_NS, UTC)
