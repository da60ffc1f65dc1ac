"""How often the indexer may be queried, and whether at all: two pure values of dydx_conn."""

import itertools
import time
from email.utils import formatdate
from typing import Any

import pytest
from dydx_conn import Allowance, Circuit, LimitHeaders
from hypothesis import given
from hypothesis import strategies as st

S = 1_000_000_000
WINDOW = 10 * S


EPOCH_MS = 1_795_000_000_000


def headers(
    remaining: int, *, reset_ms: int, reset_in_s: float, limit: int | None = None
) -> LimitHeaders:
    """The headers of an answer."""
    return LimitHeaders(limit, remaining, EPOCH_MS + reset_ms, int(reset_in_s * S))


# === Allowance ===


def test_a_fresh_allowance_lets_its_whole_limit_go() -> None:
    """And then nothing, until a window after the first answer."""
    allowance = Allowance(3)
    for _ in range(3):
        assert allowance.wait_ns(0) == 0
        allowance = allowance.sent()
    for at in (1 * S, 2 * S, 3 * S):
        allowance = allowance.landed_at(at, LimitHeaders())

    assert allowance.left(3 * S) == 0
    assert allowance.wait_ns(3 * S) == 8 * S
    assert allowance.wait_ns(11 * S) == 0


def test_what_flies_holds_its_place() -> None:
    """A request not answered yet will be counted by the venue, sooner or later."""
    allowance = Allowance(1).sent()

    assert allowance.left(0) == 0
    assert allowance.wait_ns(5 * S) == WINDOW


def test_those_ahead_are_waited_for() -> None:
    """The expected wait grows by a window with each limit's worth of requests before."""
    allowance = Allowance(2).sent().landed_at(0, LimitHeaders())

    waits = [allowance.wait_ns(4 * S, ahead) // S for ahead in range(5)]

    assert waits == [0, 6, 10, 16, 20]


def test_others_at_the_same_address_are_counted() -> None:
    """When 2 remain by the headers, no more than 2 are sent before its window ends."""
    allowance = Allowance(100).sent().landed_at(0, headers(2, reset_ms=1, reset_in_s=7))

    assert allowance.left(0) == 2
    assert allowance.sent().sent().wait_ns(S) == 6 * S
    assert allowance.sent().sent().left(8 * S) > 0


def test_answers_may_overtake_each_other() -> None:
    """In one window the venue only counts down, so the lowest count holds."""
    allowance = Allowance(100).sent().sent()
    late = headers(99, reset_ms=5003, reset_in_s=9)

    first = allowance.landed_at(0, headers(10, reset_ms=5000, reset_in_s=9))
    both = first.landed_at(S, late)

    assert (first.left(0), both.left(S)) == (9, 10)


def test_a_new_window_replaces_the_old_one() -> None:
    """And an answer of the window before counts no more."""
    allowance = Allowance(100).sent().sent().sent()
    allowance = allowance.landed_at(0, headers(1, reset_ms=5_000, reset_in_s=1))
    allowance = allowance.landed_at(S, headers(50, reset_ms=15_000, reset_in_s=10))
    allowance = allowance.landed_at(S, headers(0, reset_ms=5_000, reset_in_s=0))

    assert allowance.left(S) == 50


def test_the_limit_is_the_one_the_venue_reports() -> None:
    """Its configuration may change while we run."""
    allowance = Allowance(100).sent().landed_at(0, headers(19, reset_ms=9, reset_in_s=9, limit=20))

    assert (allowance.limit, allowance.left(0)) == (20, 19)


def test_a_question_that_was_lost_may_have_been_counted() -> None:
    """So it is taken from what remains."""
    allowance = Allowance(100).sent().sent()
    allowance = allowance.landed_at(0, headers(5, reset_ms=9, reset_in_s=9)).landed_at(0, None)

    assert allowance.left(0) == 4


def test_a_refusal_stops_the_whole_group() -> None:
    """For as long as the venue orders; and doubling, if it allows a retry and refuses again."""
    allowance = Allowance(100)
    pauses = []
    for _ in range(4):
        refusal = LimitHeaders(refused=True, retry_in_ns=0)
        allowance = allowance.sent().landed_at(0, refusal)
        pauses.append(allowance.wait_ns(0) / S)
    refused = Allowance(100).sent().landed_at(0, LimitHeaders(refused=True, retry_in_ns=3 * S))

    assert pauses == [0.2, 0.4, 0.8, 1.6]
    assert (refused.wait_ns(S), refused.left(S), refused.left(3 * S)) == (2 * S, 0, 99)


def test_an_answer_ends_the_doubling() -> None:
    """The next refusal starts the count again."""
    allowance = Allowance(100)
    for refused in (True, True, False, True):
        allowance = allowance.sent().landed_at(0, LimitHeaders(refused=refused))

    assert allowance.refusals == 1


@given(
    limit=st.integers(1, 5),
    moves=st.lists(st.tuples(st.integers(0, 4 * S), st.integers(0, 6 * S)), max_size=40),
    phase=st.integers(0, WINDOW),
)
def test_no_window_of_the_venues_is_ever_exceeded(
    limit: int, moves: list[tuple[int, int]], phase: int
) -> None:
    """Wherever its windows begin, whenever in its flight a request is counted."""
    allowance, now, landings, counted = Allowance(limit), 0, list[int](), list[int]()
    for pause, flight in moves:
        now += pause
        while True:
            for landing in [landing for landing in landings if landing <= now]:
                allowance = allowance.landed_at(landing, LimitHeaders())
                landings.remove(landing)
            wait = allowance.wait_ns(now)
            if not wait:
                break
            now = min([now + wait, *landings])
        allowance = allowance.sent()
        landings.append(now + flight)
        landings.sort()
        counted.append(now + (flight * phase // WINDOW))

    counted.sort()
    for first, late in zip(counted, counted[limit:], strict=False):
        assert late - first >= WINDOW


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3 * S)), max_size=60), st.integers(2, 6))
def test_what_the_venue_reports_is_never_exceeded(
    moves: list[tuple[bool, int]], limit: int
) -> None:
    """With somebody else at the same address, as far as the last answer knew of them."""
    allowance, now, end, used = Allowance(limit), 0, 0, 0
    for other, pause in moves:
        now += pause
        if now >= end:
            end, used = now + WINDOW, 0
        if other:
            used += 1
            continue
        if allowance.wait_ns(now):
            continue
        known = allowance.remaining if now < allowance.reset_ns else limit
        used += 1
        assert allowance.sent().left(now) <= max(known - 1, 0)
        limits = headers(max(limit - used, 0), reset_ms=end // 10**6, reset_in_s=(end - now) / S)
        allowance = allowance.sent().landed_at(now, limits)
        assert allowance.left(now) <= max(limit - used, 0)


@given(
    st.integers(1, 4),
    st.integers(0, 4),
    st.lists(st.integers(0, 2 * WINDOW), max_size=6),
    st.integers(0, 2 * WINDOW),
    st.integers(0, 20),
)
def test_the_expected_wait_never_shrinks_down_the_queue(
    limit: int, flying: int, ages: list[int], now: int, ahead: int
) -> None:
    """Who stands behind waits at least as long, and it is 0 exactly for those who may go."""
    landed = tuple(sorted(now - age for age in ages))
    allowance = Allowance(limit, flying=flying, landed=landed)

    waits = [allowance.wait_ns(now, place) for place in range(ahead + 1)]

    assert waits == sorted(waits)
    assert waits.count(0) == min(allowance.left(now), ahead + 1)


# === Headers ===

DATE = formatdate(1_795_000_000, usegmt=True)


def read(*, refused: bool = False, wall_ns: int = 0, **headers: str) -> LimitHeaders:
    """Read headers whose names have underscores here."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return LimitHeaders.read(named, refused=refused, wall_ns=wall_ns)


def test_the_end_of_the_window_is_counted_from_the_answers_own_date() -> None:
    """A wrong clock on this machine does not matter."""
    limits = read(
        ratelimit_limit="100", ratelimit_remaining="7", ratelimit_reset="1795000004250", date=DATE
    )

    assert limits == LimitHeaders(100, 7, 1795000004250, int(4.25 * S))


def test_a_date_without_a_zone_is_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this machine is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        limits = read(ratelimit_reset="1795000004250", date=DATE.replace("GMT", "-0000"))
    finally:
        monkeypatch.undo()
        time.tzset()

    assert limits.reset_in_ns == 4_250_000_000


def test_without_a_date_our_clock_has_to_do() -> None:
    """It is the only other one."""
    limits = read(ratelimit_reset="2500", wall_ns=2 * S)

    assert limits.reset_in_ns == S // 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "2500", "ratelimit_reset": "1795000004250"}, 2.5),
        ({"retry_after": "25"}, 25.0),
        ({"retry_after": "Fri, 20 Nov 2026 22:47:47 GMT"}, 0.0),
        ({"retry_after": "999999999999"}, 86_400.0),
        ({}, 0.0),
    ],
)
def test_the_indexer_sends_milliseconds_and_a_proxy_seconds(
    headers: dict[str, Any], seconds: float
) -> None:
    """Distinguished by the limit's headers, which the indexer alone sends."""
    assert read(refused=True, date=DATE, **headers).retry_in_ns == seconds * S


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "9" * 40, "٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨"])
def test_headers_that_are_no_numbers_are_ignored(text: str) -> None:
    """Whatever a proxy makes of them."""
    limits = read(ratelimit_limit=text, ratelimit_remaining=text, ratelimit_reset=text, date=text)

    assert limits == LimitHeaders()


@pytest.mark.parametrize("text", ["0", "99999999"])
def test_an_absurd_limit_is_not_believed(text: str) -> None:
    """It would stop everything for ever, or bound nothing."""
    assert read(ratelimit_limit=text).limit is None


# === Circuit ===


def after(*events: tuple[float, str]) -> list[str]:
    """Return the states that a circuit goes through: marbles of (second, event)."""
    circuit, states = Circuit(), []
    for second, event in events:
        if event == "request":
            circuit, may = circuit.request(int(second * S))
            states.append(circuit.state if may else f"{circuit.state}, refused")
        else:
            circuit = circuit.answer(event, int(second * S))  # type: ignore[arg-type]  # a marble
            states.append(circuit.state)
    return states


BAD = [(float(second), "bad") for second in range(5)]  # the fifth, at 4 s, opens it


def test_a_circuit_stays_closed_while_failures_are_not_in_a_row() -> None:
    """Four bad ones, a good one, and four again."""
    some = BAD[:4]

    assert set(after(*some, (5, "good"), *some)) == {"closed"}


def test_five_failures_in_a_row_open_it() -> None:
    """And no request is sent until it has cooled for five seconds."""
    states = after(*BAD, (4.1, "request"), (8.9, "request"), (9, "request"), (9.1, "request"))

    assert states[3:] == [
        *("closed", "open", "open, refused", "open, refused"),
        *("half-open", "half-open, refused"),
    ]


@pytest.mark.parametrize(
    ("event", "state"), [("good", "closed"), ("bad", "open"), ("gone", "open")]
)
def test_one_trial_decides(event: str, state: str) -> None:
    """A given-up trial decides nothing, and the next may try at once."""
    states = after(*BAD, (9, "request"), (9.5, event), (9.6, "request"))

    follows = {"good": "closed", "bad": "open, refused", "gone": "half-open"}
    assert states[-2:] == [state, follows[event]]


def test_each_trial_that_fails_doubles_the_pause() -> None:
    """Up to sixteen times."""
    circuit, now, pauses = Circuit(), 0, []
    for _ in range(5):
        circuit = circuit.answer("bad", now)
    for _ in range(7):
        pauses.append(circuit.retry_in_ns(now) // S)
        now += circuit.retry_in_ns(now)
        circuit, may = circuit.request(now)
        assert may
        circuit = circuit.answer("bad", now)

    assert pauses == [5, 10, 20, 40, 80, 80, 80]


def test_a_straggler_that_succeeds_closes_it() -> None:
    """It was sent before the circuit opened; one that fails does not prolong the pause."""
    assert after(*BAD, (6, "good"))[-1] == "closed"
    assert after(*BAD, (6, "bad"), (9, "request"))[-1] == "half-open"
    assert after(*BAD, (6, "gone"))[-1] == "open"


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["request", "good", "bad", "gone"]))))
def test_the_table_has_an_answer_for_everything(moves: list[tuple[int, str]]) -> None:
    """And a circuit with request after request lets one through in the end."""
    times = itertools.accumulate(pause for pause, _ in moves)
    states = after(*zip(map(float, times), [event for _, event in moves], strict=True))
    end = sum(pause for pause, _ in moves) + 81.0
    last = after(*zip(map(float, itertools.accumulate(p for p, _ in moves)),
                      [e for _, e in moves], strict=True), (end, "gone"), (end, "request"))  # fmt: skip

    assert {state.split(",")[0] for state in states} <= {"closed", "open", "half-open"}
    assert last[-1] in ("closed", "half-open")
