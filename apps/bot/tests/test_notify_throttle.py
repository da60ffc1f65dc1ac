"""How many messages come of what happens: in event time, and with counts that are exact."""

import itertools
from typing import Any

import pytest
from bot.config.notify import NotifySettings
from bot.notify.notice import Heading, Held, Message, Notice
from bot.notify.throttle import MOST, Flow, Limits, Tick, flushed, step
from hypothesis import given
from hypothesis import strategies as st

SECOND = 10**9
NOON = 1_796_040_000 * SECOND  # 2026-11-30 12:00:00 UTC
HEADING = Heading(mode="PAPER", network="testnet", account="dydx1…/0")
LIMITS = Limits(repeat_ns=60 * SECOND, messages=3, window_ns=600 * SECOND)


def notice(subject: str = "BTC-USD", at: int = 0, **given: Any) -> Notice:
    """Return a notice some seconds after noon."""
    fields = {"kind": "guard", "level": "warning", "title": f"sold {subject}"} | given
    return Notice(subject=subject, at=NOON + at * SECOND, **fields)


def run(*events: Notice | Tick, limits: Limits = LIMITS) -> tuple[Flow, list[Message]]:
    """Let events happen one after the other."""
    state, sent = Flow(), list[Message]()
    for event in events:
        state, found = step(state, event, limits, HEADING)
        sent += found
    return state, sent


def tick(at: int) -> Tick:
    """Return that it is some seconds after noon."""
    return Tick(NOON + at * SECOND)


def test_what_happens_is_sent_at_once_with_where_and_when() -> None:
    """The title of it, of which run, and in the body the words."""
    _, (message,) = run(notice(words="distance 9.0 %"))

    assert message.title == "PAPER testnet: sold BTC-USD"
    assert message.body == ("distance 9.0 %\n\ndydx1…/0, PAPER testnet, 2026-11-30 12:00:00 UTC")
    assert message.count == 1


def test_the_same_again_is_counted_and_part_of_the_next_one() -> None:
    """However often it comes within a while."""
    state, sent = run(*(notice(at=n) for n in range(15)))
    assert (len(sent), state.waiting) == (1, 14)

    state, (message,) = step(state, tick(61), LIMITS, HEADING)

    assert "… and 13 more like it, since 2026-11-30 12:00:01 UTC" in message.body
    assert (message.count, state.waiting) == (14, 0)


def test_another_subject_brings_what_was_held_back() -> None:
    """One message of both, the newer first."""
    _, sent = run(notice(), notice(at=1), notice("ETH-USD", at=2))

    assert [message.count for message in sent] == [1, 2]
    assert "held back meanwhile:\n- sold BTC-USD (once, at 2026-11-30 12:00:01 UTC)" in sent[1].body


def test_the_last_message_of_a_window_is_for_what_is_critical() -> None:
    """A storm of small things does not silence a liquidation."""
    small = [notice(f"M{n}-USD", at=n) for n in range(50)]
    state, sent = run(*small, notice("X-USD", at=51, level="critical", title="LIQUIDATED"))

    assert [message.count for message in sent] == [1, 1, 49]
    assert sent[-1].title.endswith("LIQUIDATED")
    assert state.waiting == 0


def test_more_critical_ones_wait_for_the_window_to_pass() -> None:
    """And come together then."""
    events = [notice(f"M{n}-USD", at=n, level="critical") for n in range(10)]
    state, sent = run(*events)
    assert (len(sent), state.waiting) == (3, 7)

    _, (message,) = step(state, tick(600), LIMITS, HEADING)

    assert message.count == 7


def test_one_message_is_for_anything() -> None:
    """Where no more than one is allowed, none of it is reserved."""
    limits = Limits(repeat_ns=0, messages=1, window_ns=SECOND)

    assert len(run(notice(), limits=limits)[1]) == 1


def test_what_stands_otherwise_by_now_is_no_repetition() -> None:
    """Halted, resumed, halted: whoever reads the second has to read the third."""
    turns = [
        notice(state, at=n, kind="gate", level="critical")
        for n, state in enumerate(["HALTED", "ACTIVE", "HALTED"])
    ]

    assert len(run(*turns)[1]) == 3


NIGHT = Limits(
    repeat_ns=0, messages=3, window_ns=600 * SECOND, quiet=(13 * 60, 7 * 60), zone="Europe/Berlin"
)


def test_quiet_hours_hold_back_what_is_not_critical() -> None:
    """It comes after them, or with what is critical."""
    state, sent = run(notice(at=3_600), limits=NIGHT)
    assert (sent, state.waiting) == ([], 1)

    _, (critical,) = step(state, notice("X", at=3_601, level="critical"), NIGHT, HEADING)
    _, (morning,) = step(state, tick(18 * 3_600), NIGHT, HEADING)

    assert (critical.count, morning.count) == (2, 1)


@pytest.mark.parametrize(
    ("clock", "quiet"),
    [(-1, False), (0, True), (10 * 3600, True), (18 * 3600 - 1, True), (18 * 3600, False)],
)
def test_quiet_hours_go_over_midnight_in_their_own_timezone(clock: int, quiet: bool) -> None:
    """13:00 to 07:00 in Berlin is 12:00 to 06:00 UTC in winter."""
    assert NIGHT.are_quiet(NOON + clock * SECOND) is quiet


def test_quiet_hours_of_a_day_are_so_too() -> None:
    """From the settings, to the minute."""
    limits = Limits.of(NotifySettings(quiet="12:00-12:30", repeat_s=1, minutes=2, messages=4))

    assert (limits.repeat_ns, limits.window_ns) == (SECOND, 120 * SECOND)
    assert limits.messages == 4
    assert [limits.are_quiet(NOON + s * SECOND) for s in (-1, 0, 1799, 1800)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_clock_that_is_set_back_far_silences_nothing() -> None:
    """What was sent in a future that is none counts no more."""
    state, _ = run(*(notice(f"M{n}-USD") for n in range(9)))

    _, sent = step(state, notice("Z-USD", at=-86_400), LIMITS, HEADING)

    assert len(sent) == 1


def test_what_is_held_back_is_bounded_and_its_counts_are_not() -> None:
    """Beyond so many kinds and subjects they are counted by kind."""
    events = [notice(f"M{n}-USD") for n in range(3 * MOST)]
    state, sent = run(*events)

    assert len(state.held) <= MOST + 1
    assert state.waiting + sum(message.count for message in sent) == len(events)

    state, (rest,) = flushed(state, HEADING)

    assert (state.waiting, rest.count) == (0, 3 * MOST - 2)
    assert len(rest.title) + len(rest.body) < 2_000  # as the narrowest of services takes
    assert flushed(state, HEADING)[1] == ()


def test_secrets_and_what_moves_a_cursor_do_not_leave() -> None:
    """Though the venue or a strategy sent them."""
    key = "0x" + "ab" * 32
    _, (message,) = run(notice(title=f"\x1b[2J {key}", words=f"private_key={key}\x07"))

    assert key not in message.title + message.body
    assert "\x1b" not in message.title
    assert "\x07" not in message.body


KINDS = st.sampled_from(["guard", "order", "gate", "run"])
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 90), KINDS, st.integers(0, 4),
        st.sampled_from(["info", "warning", "critical"]), st.integers(1, 5), st.booleans(),
    ),
    max_size=120,
)  # fmt: skip


@given(EVENTS, st.integers(1, 5), st.integers(0, 100), st.booleans())
def test_every_event_is_in_exactly_one_message_or_waits(
    events: list[tuple[int, Any, int, Any, int, bool]], most: int, repeat: int, quiet: bool
) -> None:
    """And no window has more messages than it may, whatever comes."""
    limits = Limits(
        repeat_ns=repeat * SECOND, messages=most, window_ns=200 * SECOND,
        quiet=(12 * 60, 12 * 60 + 20) if quiet else None,
    )  # fmt: skip
    at, happened, sent, state = 0, 0, list[Message](), Flow()
    for later, kind, subject, level, count, is_tick in events:
        at += later
        event: Notice | Tick = tick(at)
        if not is_tick:
            event = notice(str(subject), at=at, kind=kind, level=level, count=count)
            happened += count
        state, found = step(state, event, limits, HEADING)
        sent += found
        assert sum(message.count for message in sent) + state.waiting == happened

    times = [message.at for message in sent]
    assert all(b - a >= limits.window_ns for a, b in zip(times, times[most:], strict=False))
    assert all(a <= b for a, b in itertools.pairwise(times))


def test_what_is_added_is_as_grave_as_the_gravest() -> None:
    """Of a liquidation and what came after it."""
    held = Held(NOON, 1, notice(level="critical")).add(notice(at=5, level="info", count=3))

    assert (held.count, held.newest.level, held.since) == (4, "critical", NOON)
