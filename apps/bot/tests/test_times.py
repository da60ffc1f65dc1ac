"""Times as text: cut, never rounded, and never in local time."""

from bot.times import clock, iso, utc

AT = 1_795_999_999_999_999_999  # a nanosecond before the next second


def test_a_time_is_cut_to_what_is_shown() -> None:
    """A time that is rounded up would be in a second, or a year, that has not begun."""
    shown = iso(AT), clock(AT), utc(AT), utc(AT, year=False)

    assert shown == (
        "2026-11-30T00:53:19.999999Z", "2026-11-30 00:53:19.999Z", "2026-11-30 00:53:19",
        "11-30 00:53:19",
    )  # fmt: skip


def test_a_time_that_is_not_known_is_none() -> None:
    """It is null for a program, not 1970."""
    assert iso(None) is None
