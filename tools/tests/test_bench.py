"""The bench: it reports what it measured, and refuses what it does not know."""

import gc
import socket
import subprocess
import sys
import tracemalloc

import pytest
from bench import (
    BENCHES,
    best,
    endangered_account,
    flight,
    held_account,
    main,
    paper,
    resting_orders,
    saturated,
)
from bench_layers import Stopwatch, detectors, engines, layers
from bench_live import Ear, crossing, kernel_bytes, live, quantile, since_sent
from bench_run import ended, looks, parsed, rows
from dydx_conn import find_recording


def test_a_bench_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the names that there are."""
    with pytest.raises(SystemExit) as refused:
        main(["astrology"])

    printed = capsys.readouterr().err
    assert refused.value.code == 2
    assert all(name in printed for name in BENCHES)


def test_the_best_of_several_rounds_is_shown() -> None:
    """Noise only adds, so the least is nearest to the truth."""
    calls: list[int] = []

    assert best(lambda: calls.append(1), rounds=3, repeats=4) > 0
    assert len(calls) == 12


def test_each_layer_engine_and_detector_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the set as it is: a new one is measured without a word here."""
    monkeypatch.setattr("bench_layers.ROUNDS", 1)
    short = str(
        find_recording("quickstart").parent / "localnet" / "01-one-taker-fill" / "frames.jsonl.zst"
    )

    found = {figure: float(took.split()[0]) for figure, took, _, _ in layers(short)}
    read = [figure for figure, *_ in engines(short)]

    assert [*found] == [
        "a frame: data, decoding included", "a frame: paper", "a frame: risk",
        "a frame: signals, what is read excepted", "a frame: strategy, and the scores it reads",
        "a frame: the rest",
    ]  # fmt: skip
    assert found["a frame: data, decoding included"] > 0
    assert {"signal momentum, a frame", "signal momentum, a read"} <= {*read}
    assert len(read) == 2 * len({figure.partition(",")[0] for figure in read})
    assert all(figure.startswith("detector") for figure, *_ in detectors(short))


def test_a_stopwatch_leaves_itself_out() -> None:
    """What it returns is what the function returns, and a function that does nothing takes it."""
    watch = Stopwatch()

    assert watch.around(lambda a, b: a + b)(1, 2) == 3
    assert watch.calls == 1
    assert 0 <= watch.net_ns <= watch.ns


@pytest.mark.parametrize("count", [1, 25])
def test_the_account_that_is_measured_is_a_real_one(count: int) -> None:
    """Every position has an oracle price, a margin and a liquidation price."""
    risk, view, prices = held_account(count)

    positions = risk.positions()
    assert len(positions) == count
    assert risk.margin.known
    assert all(p.maintenance_margin and p.initial_margin for p in positions)
    assert [price.text for price in prices] == ["3000.25", "3000.75"]
    assert view.ticker == "M0-USD"


def test_the_account_that_must_leave_is_in_danger_everywhere() -> None:
    """Longs and shorts at a distance of 1 %, each with a two-sided book deep enough to leave."""
    margin, positions, views = endangered_account(4)

    assert margin.distance == pytest.approx(0.01)
    assert sorted(held > 0 for held in positions.values()) == [False, False, True, True]
    assert positions.keys() == views.keys()
    for view in views.values():
        assert (len(view.book.bids()), len(view.book.asks())) == (100, 100)


def test_the_flight_plan_is_measured_beside_its_budget() -> None:
    """From nothing, with the number of its rungs, and after one book moved."""
    drawn, again = flight("")

    assert drawn[0].startswith("flight plan, 20 positions, ")
    assert drawn[3] == "< 2 ms"
    assert all(row[1].endswith(" µs") for row in (drawn, again))


def test_the_orders_that_are_measured_rest() -> None:
    """On both sides of a known book, unfilled, and still there after a block."""
    venue, view = resting_orders(10)

    view.chain.height += 1
    venue.step(view)

    desk = venue.markets[view.ticker].desk
    assert len(desk.book.orders) == 10
    assert (len(desk.book.levels("BUY")), len(desk.book.levels("SELL"))) == (5, 5)
    assert view.book.known
    assert venue.figures().fills == 0


def test_the_paper_venue_is_measured_beside_its_budget() -> None:
    """Frames a second beside what looking at them takes, and a block."""
    frames, block = paper("")

    assert frames[0] == "paper venue, book frames, 10 orders rest"
    assert frames[3] == "≥ 100,000 f/s"
    assert all(figure.endswith(" f/s") for figure in frames[1:3])
    assert block[1].endswith(" µs")


def test_rows_are_printed_beside_their_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a figure: what, measured, floor, budget."""
    rows = iter([("a figure", "1 µs", "0.5 µs", "< 2 µs")])
    monkeypatch.setitem(BENCHES, "margin", lambda _: rows)

    assert main(["margin"]) == 0
    assert "a figure" in capsys.readouterr().out


def test_what_onlookers_got_is_reported() -> None:
    """How often, how long it took, and what did not come."""
    watched = {"looks": {"/metrics": [0.02, 0.01, 0.04]}, "drawn": 9, "failed": 1}

    found = {figure.strip(): (got, more) for figure, got, more, _ in looks(watched, 3)}

    assert found == {
        "/metrics, 3 times": ("20 ms", "40 ms at most"),
        "messages to an open page": ("9", ""),
        "notices, looks that failed": ("3, 1", ""),
    }


def test_a_bot_that_reports_nothing_ends_it_with_its_words() -> None:
    """Whoever measures sees why."""
    with pytest.raises(SystemExit, match="expected a venue, got none"):
        parsed(b"", "bot: expected a venue, got none")


def test_a_bot_that_does_not_end_is_not_waited_for() -> None:
    """A machine that is too busy is no reason to hang."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, stdout=-1) as bot:
        with pytest.raises(SystemExit, match="the machine is too busy to measure it"):
            ended(bot, 0.01)
        bot.kill()


# === Live ===


def test_the_nth_message_sent_is_the_nth_that_came() -> None:
    """Joined by connection; what came before the measurement began is left out."""
    measured = {
        "since": 100,
        "messages": {"a": [[95, 110, 120], [99, 112, 125]], "b": [[200], [230]]},
    }
    sent = {"a": [90, 101, 103, 140], "b": [195], "other": [1]}

    assert since_sent(sent, measured) == [11, 22, 35]
    assert crossing(sent, measured) == [2, 5, 30]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0), ([3], 0.99, 3), ([3, 1, 2], 0.5, 2), ([3, 1, 2], 1.0, 3)],
)
def test_a_quantile_is_one_of_the_values(values: list[int], share: float, expected: int) -> None:
    """The value below which a share of all lie; 0 of none."""
    assert quantile(values, share) == expected


def test_an_ear_measures_from_the_last_snapshot_until_its_time_is_up() -> None:
    """Errors are counted, each connection has columns of its own."""
    ear = Ear(snapshots=2, seconds=0.0)
    hello = '{"type":"connected","connection_id":"x","message_id":0}'
    answer = '{"type":"subscribed","connection_id":"x"}'

    assert ear.receive("c1", hello, 1)
    assert ear.receive("c1", '{"type":"error","message":"no"}', 2)
    assert ear.receive("c1", answer, 3)
    assert not ear.since
    assert ear.receive("c1", answer, 4)
    assert not ear.receive("c1", '{"type":"channel_data"}', 5)
    reported = ear.report()
    assert (reported["errors"], reported["frames"], reported["closes"]) == (1, 2, "0, 0")
    assert reported["messages"]["x"][0] == [1, 2, 3, 4, 5]


def test_the_kernel_counts_what_came_on_our_connections() -> None:
    """Bytes that were received on each connection that is open, and how many there are."""
    before, connections = kernel_bytes()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as mine,
    ):
        theirs, _ = server.accept()
        with theirs:
            theirs.sendall(bytes(1000))
            mine.recv(1000, socket.MSG_WAITALL)
            after = kernel_bytes()

    assert after == (before + 1000, connections + 2)


def test_two_markets_are_received_live_over_tls() -> None:
    """Every row has its figure and its floor; nothing is refused."""
    reported = live("", 2, 0.3, speeds=(1,))
    rows = {figure.strip(): (measured, floor) for figure, measured, floor, _ in reported}

    assert rows["errors, closes, closes with 1008"] == ("0, 0, 0", "0, 0, 0")
    assert all(measured and floor for measured, floor in rows.values())
    assert rows["venue's send to subscriber, p50"][0].endswith(" ms")


def test_the_memory_of_full_rings_is_flat_over_a_day() -> None:
    """Of one market here, what its objects take; the bench has 250, and a process of its own.

    A process's own memory also grows and shrinks by what ran in it before.
    """

    def in_use_mb() -> float:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 1e6

    saturated(1)  # what is made once and stays is no memory of a market
    tracemalloc.start()
    try:
        before, full, later = saturated(1, in_use_mb)
    finally:
        tracemalloc.stop()

    assert before < full / 4
    assert later < 1.02 * full


def test_a_whole_run_stands_beside_a_bare_one() -> None:
    """Each figure of both; what only the whole one does is 0 in the other."""
    latency = {"p50": 50.0, "p99": 1_500.0, "p99.9": 3_000.0, "max": 9_000.0}
    machine = {"frames_per_s": 2_000.0, "latency_us": latency}
    bare = {"machine": machine, "cpu": 0.081, "memory_mb": 121.04, "stored": 0, "reloads": 0}
    whole = bare | {"cpu": 0.1, "stored": 260_000, "reloads": 4}

    found = {figure.strip(): (ours, theirs) for figure, ours, theirs, _ in rows("60", whole, bare)}

    assert found["CPU, of a core"] == ("10.0%", "8.1%")
    assert found["memory"] == ("121.0 MB", "121.0 MB")
    assert found["frame to order, p99"] == ("1,500 µs", "1,500 µs")
    assert found["reloads"] == ("4", "0")
    assert found["database, with its log"] == ("0.26 MB", "0.00 MB")
