"""The soak: lapses are measured to the nanosecond, and what broke a promise is reported."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from chaos import ProxyFault
from dydx_conn import Frame, ws_frame
from dydx_data import step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from soak import (
    SECOND,
    Client,
    Count,
    Freshness,
    Log,
    Span,
    Task,
    clip,
    differences,
    freshness,
    growth,
    length,
    main,
    promises,
    recoveries,
    report,
    without,
)

# A property is about what comes out, not about how busy the machine was.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# === Freshness ===


def lapses_of(events: Sequence[tuple[bool, int]], until: int, bound: int = 5) -> list[Span]:
    """Fold events of a market that was requested at 0; return all its lapses."""
    market = Freshness(bound, 0)
    found = [market.see(known, at) for known, at in events]
    return [lapse for lapse in [*found, market.end(until)] if lapse]


def test_a_market_is_not_fresh_before_its_first_book() -> None:
    """From the beginning until the snapshot, or to the end if none came."""
    assert lapses_of([(True, 3)], until=4) == [(0, 3)]
    assert lapses_of([], until=9) == [(0, 9)]


def test_silence_is_a_lapse_from_where_the_bound_was_passed() -> None:
    """Data as old as the bound are fresh, and older ones are not."""
    assert lapses_of([(True, 1), (True, 6)], until=7) == [(0, 1)]
    assert lapses_of([(True, 1), (True, 10)], until=11) == [(0, 1), (6, 10)]
    assert lapses_of([(True, 1)], until=20) == [(0, 1), (6, 20)]


def test_a_lost_book_is_a_lapse_from_its_loss_to_its_return() -> None:
    """Losing it twice changes nothing; losing it in silence counts from the bound."""
    assert lapses_of([(True, 1), (False, 3), (False, 4), (True, 8)], until=9) == [(0, 1), (3, 8)]
    assert lapses_of([(True, 1), (False, 9), (True, 12)], until=13) == [(0, 1), (6, 12)]


def test_the_longest_quiet_of_a_known_book_is_measured() -> None:
    """A book that is lost and known to be is not quiet: it is known to be unknown."""
    market = Freshness(5, 0)
    for known, at in [(True, 1), (True, 4), (False, 11), (True, 90)]:
        market.see(known, at)

    assert market.longest_quiet_ns == 7


@PATIENT
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=20), st.integers(1, 20))
def test_lapses_are_what_a_look_at_every_instant_finds(
    events: list[tuple[bool, int]], bound: int
) -> None:
    """Nothing is counted twice, nothing left out: an instant is fresh or in one lapse."""
    events = sorted(events, key=lambda event: event[1])
    lapses = lapses_of(events, until=250, bound=bound)

    def stale(instant: int) -> bool:
        so_far = [event for event in events if event[1] <= instant]
        if not so_far or not so_far[-1][0]:
            return True
        return instant - so_far[-1][1] >= bound

    assert length(lapses) == sum(stale(instant) for instant in range(250))
    assert lapses == sorted(lapses)


SPANS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 10)).map(lambda at: (at[0], at[0] + at[1]))
)


@PATIENT
@given(SPANS, SPANS)
def test_holes_are_taken_out_instant_by_instant(spans: list[Span], holes: list[Span]) -> None:
    """What is left lies in a span and in no hole."""
    spans = spans[:1]
    left = without(spans, holes)

    def covered(by: Sequence[Span], instant: int) -> bool:
        return any(a <= instant < b for a, b in by)

    for instant in range(70):
        wanted = covered(spans, instant) and not covered(holes, instant)
        assert covered(left, instant) == wanted
    assert clip(left, (10, 20)) == [span for span in clip(left, (10, 20)) if 10 <= span[0]]


# === Counting ===


def message(number: int, type_: str = "channel_data", link: str = "c1", **more: Any) -> Frame:
    """Make one message of the venue."""
    fields = {"type": type_, "message_id": number, "connection_id": "x", **more}
    return ws_frame(number + 1, 0, 0, link, json.dumps(fields))


def counted(*frames: Frame) -> Count:
    """Count frames of one connection, and close it."""
    count = Count()
    for frame in frames:
        count.see(frame)
    count.see(Frame(99, 0, 0, "c1", "close"))
    return count


def test_a_connection_without_holes_has_lost_nothing() -> None:
    """Errors repeat a number; a late snapshot carries an early one; gaps that are reported count."""
    requested = [
        Frame(1, 0, 0, "c1", "sent", '{"type":"subscribe","channel":"v4_trades","id":"A"}'),
        Frame(1, 0, 0, "c1", "sent", '{"type": "ping"}'),
    ]
    clean = [message(0, "connected"), *requested, message(2), message(1, "subscribed"), message(3)]

    assert counted(*clean, message(3, "error"), message(4)).lost == 0
    assert counted(*clean, Frame(9, 0, 0, "c1", "gap")).noticed == 1


def test_a_hole_below_the_highest_number_is_a_loss() -> None:
    """Two of four never came; an answer still owed would explain one."""
    frames = [message(0, "connected"), message(1), message(4)]
    requested = Frame(1, 0, 0, "c1", "sent", '{"type":"subscribe"}')

    assert counted(*frames).lost == 2
    assert counted(frames[0], requested, *frames[1:]).lost == 1


# === Verdict ===

MARKETS = ("A-USD", "B-USD")
BOOK = {"bids": [(10.0, 1.0)], "asks": [(11.0, 2.0)]}
THEIRS = {
    "bids": [{"price": "10", "size": "1"}],
    "asks": [{"price": "11", "size": "2.0"}],
}


def seconds(a: float, b: float) -> Span:
    """Write a span in seconds."""
    return int(a * SECOND), int(b * SECOND)


def fault(kind: str, a: float, b: float, held_s: float = 0.0) -> ProxyFault:
    """Write a fault in seconds."""
    return ProxyFault(kind, *seconds(a, b), 1, held_s)


def a_log(**changed: Any) -> Log:
    """Return a log of ten minutes in which every promise held."""
    samples = [
        {"sample": n * SECOND, "memory_mb": 50.0, "cpu_s": n / 10, "frames": 10 * n, "threads": 3}
        for n in range(1, 11)
    ]
    end = {
        "kinds": {"open": 2, "close": 1, "channel_data": 100},
        "troubles": {},
        "lost": 0,
        "noticed": 0,
        "living": {"x": 50},
        "books": dict.fromkeys(MARKETS, BOOK),
        "longest_quiet_ns": SECOND,
        "left": [],
    }
    log = Log(
        lapses={ticker: [seconds(0, 1)] for ticker in MARKETS},
        old={ticker: [seconds(0, 1)] for ticker in MARKETS},
        samples=samples,
        faults=[fault("rst", 100, 100), fault("half_open", 200, 215, held_s=15)],
        end=end | changed.pop("end", {}),
        held_ns=601 * SECOND,
        stop_s=0.5,
        exit_code=0,
        theirs=dict.fromkeys(MARKETS, THEIRS),
        sent={"x": 50, "gone": 7},
    )
    return dataclasses.replace(log, **changed)


def broken(log: Log) -> list[str]:
    """Name the promises that were broken, by their first words."""
    return [promise.name for promise in promises(log) if not promise.held]


def test_a_log_without_trouble_breaks_no_promise() -> None:
    """Every line holds, and each market was fresh all the time."""
    log = a_log()

    assert broken(log) == []
    assert freshness(log, log.lapses) == dict.fromkeys(MARKETS, (1.0, 1.0, 1.0))


def test_each_share_counts_what_its_name_means() -> None:
    """15.5 s lost, 15 of them while the fault was in force; 0.5 s over two faults a minute each."""
    lapses = {"A-USD": [seconds(0, 1), seconds(200, 215.5)], "B-USD": [seconds(0, 1)]}
    of_all, without_fault, a_minute = freshness(a_log(), lapses)["A-USD"]

    assert of_all == pytest.approx(1 - 15.5 / 600)
    assert without_fault == pytest.approx(1 - 0.5 / 585)
    assert a_minute == pytest.approx(1 - 0.25 / 60)


def test_a_recovery_runs_from_the_end_of_its_fault_to_the_last_market() -> None:
    """The first lapse shows when it was noticed; a fault without a lapse hurt nobody."""
    lapses = {
        "A-USD": [seconds(0, 1), seconds(205, 216)],
        "B-USD": [seconds(0, 1), seconds(206, 218)],
    }
    unhurt, hurt = recoveries(a_log(lapses=lapses))

    assert (unhurt.kind, unhurt.noticed_s, unhurt.back_s) == ("rst", None, None)
    assert (hurt.kind, hurt.noticed_s, hurt.back_s) == ("half_open", 5.0, 3.0)


def test_a_run_without_faults_has_nothing_to_recover_from() -> None:
    """It is judged like any other."""
    assert recoveries(a_log(faults=[])) == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"lapses": {"A-USD": [seconds(0, 1), seconds(300, 301)]}}, "fresh"),
        ({"end": {"lost": 1}}, "messages lost"),
        ({"sent": {"x": 51}}, "messages not come"),
        ({"end": {"books": {"A-USD": None}}}, "books unlike"),
        ({"faults": [fault("half_open", 100, 140, held_s=40)]}, "half-open"),
        ({"end": {"left": ["thread c1"]}}, "left behind"),
        ({"exit_code": -9}, "left behind"),
        ({"stop_s": 9.0}, "a stop"),
    ],
)
def test_each_promise_can_be_broken(changed: dict[str, Any], name: str) -> None:
    """Its line shows it, and no other does."""
    found = broken(a_log(**changed))

    assert len(found) == 1
    assert found[0].startswith(name)


def test_a_loss_that_was_noticed_is_no_broken_promise() -> None:
    """What must not happen is to lose without knowing."""
    assert broken(a_log(end={"lost": 1, "noticed": 1})) == []


def test_memory_that_grows_after_the_warm_up_is_reported() -> None:
    """The first fifth warms up; the last fifth must not hold more than the second."""
    samples = [
        {"sample": n * SECOND, "memory_mb": mb, "cpu_s": 0.0, "frames": n, "threads": 1}
        for n, mb in enumerate([20, 50, 60, 60, 60, 60, 60, 60, 90, 90])
    ]

    assert growth(samples) == (20, 60, 90)
    assert broken(a_log(samples=samples))[0].startswith("memory")


def test_a_book_that_differs_is_reported_level_by_level() -> None:
    """Phantom, missing, another size; a book that is unknown at the end is no book."""
    wrong = {"bids": [(9.0, 1.0)], "asks": [(11.0, 3.0)]}

    assert differences(BOOK, THEIRS) == []
    assert differences(None, THEIRS) == ["not known"]
    found = ["missing bids 10.0", "other size asks 11.0", "phantom bids 9.0"]
    assert differences(wrong, THEIRS) == found


def test_the_report_shows_what_was_compressed_and_what_was_broken() -> None:
    """A fault every ten seconds is not one every minute, and is not sold as that."""
    options = argparse.Namespace(speed=1.0, seed=7, bound=5.0, fault_every=10.0)
    printed = "\n".join(report(options, a_log(end={"left": ["thread c1"]})))

    assert "compressed: a fault every 10 s" in printed
    assert "half_open" in printed
    assert printed.count("BROKEN") == 1


# === Client ===


def test_the_client_reports_lapses_samples_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Frame by frame, as lines for its parent."""
    client = Client(Task("", "", ("A-USD",), 5.0))
    client.markets["A-USD"] = Freshness(5 * SECOND, 0)
    levels = {"bids": [{"price": "10", "size": "1"}], "asks": [{"price": "11", "size": "2"}]}
    snapshot: dict[str, Any] = {"channel": "v4_orderbook", "id": "A-USD", "contents": levels}
    answer = msgspec.structs.replace(message(1, "subscribed", **snapshot), mono=3 * SECOND)
    frames = [message(0, "connected"), answer]

    for frame in frames:
        assert client.pace(frame)
        for view in step(client.state, frame):
            client.on_view(view)
    client.stopping = True
    assert not client.pace(Frame(3, 0, 4 * SECOND, "clock", "tick"))
    client.end()

    log = Log()
    for line in capsys.readouterr().out.splitlines():
        log.take(line)
    assert log.samples[0]["memory_mb"] > 1
    assert log.lapses["A-USD"][0] == (0, 3 * SECOND)
    assert log.end["books"] == {"A-USD": {"bids": [[10.0, 1.0]], "asks": [[11.0, 2.0]]}}
    assert log.end["living"] == {"x": 2}
    assert log.end["lost"] == 0


# === Whole ===


def test_a_short_soak_runs_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Venue, proxy and client over TLS for some seconds: nothing lost, no phantom, nothing left.

    How fresh data were is not judged here: seconds are too few to judge.
    """
    short = ["--minutes", "0.1", "--settle", "3", "--fault-every", "2", "--count", "2"]

    assert main(short) in (0, 1)
    printed = capsys.readouterr().out
    verdicts = {
        line[:60].strip(): line.rstrip().endswith("held")
        for line in printed.splitlines()
        if line.endswith(("held", "BROKEN"))
    }
    held = [name for name, held in verdicts.items() if held]
    assert any(name.startswith("messages lost unnoticed") for name in held), printed
    assert any(name.startswith("books unlike") for name in held), printed
    assert any(name.startswith("left behind") for name in held), printed


def test_a_venue_that_cannot_run_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the reason: nothing was learned of the connection."""
    assert main(["--count", "0"]) == 2
    assert "expected the venue to print" in capsys.readouterr().err
