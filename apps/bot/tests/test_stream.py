"""Lines as they come: what they look like, and what a reader who is slow or gone does to a run."""

import argparse
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from bot.__main__ import main
from bot.commands import parser
from bot.live.runs import run_plain
from bot.live.stream import Stream, line, streaming
from bot.run.composition import Bot, Options
from bot.run.journal import Journal, JournalEntry
from dydx_conn import Frame
from reactivex import Observable, from_iterable

AT = 1_700_000_000 * 10**9


def entry(kind: str = "decision", id_: str = "D1", **fields: str) -> JournalEntry:
    """Make an entry of a journal."""
    given: dict[str, Any] = {
        "ticker": "BTC-USD",
        "words": "target +0 → +100 USDC: score 61",
    } | fields
    return JournalEntry(id=id_, kind=kind, seq=1, at=AT, value=None, **given)


def test_a_line_has_time_id_ticker_and_words() -> None:
    """In columns; of a verdict it says which kind it is."""
    lines = [
        line(entry()),
        line(entry("denied", "V12", ticker="ETH-USD", words="no")),
        line(entry("gate", "G1", ticker="", words="gate ACTIVE -> HALTED")),
    ]

    assert lines == [
        "22:13:20 D1    BTC-USD    target +0 → +100 USDC: score 61",
        "22:13:20 V12   ETH-USD    refused: no",
        "22:13:20 G1               gate ACTIVE -> HALTED",
    ]


def test_a_line_is_cut_to_its_width() -> None:
    """And says so."""
    text = line(entry(words="score 61 " * 20), 80)

    assert len(text) <= 80
    assert text.endswith("…")


def test_a_line_is_one_line_whatever_the_venue_sends() -> None:
    """It is cut as it is printed, so that nothing hides behind the cut."""
    assert line(entry(ticker="EVIL\nrun hash", words="\x1b[31mred")).count("\n") == 0
    assert "\x1b" not in line(entry(words="\x1b[31mred"))


def test_what_happens_is_printed_in_order_and_a_line_parts_it_from_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decisions, verdicts, fills, acts and the gate; orders are not."""
    out, journal = io.StringIO(), Journal()
    monkeypatch.setattr("sys.stdout", out)

    with streaming(journal, waits=True):
        (note,) = journal.listeners
        for kind in ("decision", "order", "approved", "fill"):
            note(entry(kind, kind[0].upper()))

    assert [text[9:10] for text in out.getvalue().splitlines()] == ["D", "A", "F", ""]
    assert journal.listeners == []


@pytest.mark.parametrize(
    ("terminal", "columns", "longest"), [(0, "", 300), (1, "", 80), (0, "40", 40)]
)
def test_a_line_is_whole_but_on_a_terminal_or_where_columns_are_given(
    terminal: bool, columns: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a pipe or a file can search all of it."""
    out, journal = io.StringIO(), Journal()
    monkeypatch.setattr(out, "isatty", lambda: bool(terminal))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)

    with streaming(journal, waits=True):
        journal.listeners[0](long := entry(words="score 61 " * 20))

    assert out.getvalue().splitlines()[0] == line(long, longest)


def test_a_run_without_events_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No empty line above its report."""
    monkeypatch.setattr("sys.stdout", out := io.StringIO())

    with streaming(Journal(), waits=True):
        pass

    assert out.getvalue() == ""


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, io.TextIOWrapper]]:
    """Return a pipe that takes no more: where it is read, and the stream that writes to it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"." * 4096)
    os.set_blocking(write, True)
    monkeypatch.setattr("bot.live.stream._WAITING", 3)
    monkeypatch.setattr("bot.live.stream._LOOK_S", 0.01)
    with os.fdopen(write, "w") as out:
        yield read, out
    os.close(read)


def started(stream: Stream) -> threading.Thread:
    """Let a stream print."""
    thread = threading.Thread(target=stream.write, daemon=True)
    thread.start()
    return thread


def test_a_slow_reader_holds_nothing_up_and_reads_how_many_lines_it_missed(
    full: tuple[int, io.TextIOWrapper],
) -> None:
    """A live run goes on at once; what found no place in the queue is counted."""
    read, out = full
    stream = Stream(out, waits=False, lost=lambda: None)

    for number in range(10):
        stream.note(entry(id_=f"D{number}"))
    left_out = stream.left_out
    thread = started(stream)
    os.read(read, 1 << 20)
    stream.end()
    thread.join()

    assert left_out == 7
    text = os.read(read, 1 << 16).decode()
    assert text.splitlines()[0] == "…        7 lines were left out: the reader was too slow"
    assert [row[9:11] for row in text.splitlines()[1:-1]] == ["D0", "D1", "D2"]


def test_nobody_waits_for_a_reader_when_the_run_is_over(
    full: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report is printed, after two seconds at the most."""
    monkeypatch.setattr("bot.live.stream._PATIENCE_S", 0.0)
    stream = Stream(full[1], waits=False, lost=lambda: None)
    stream.note(entry())
    thread = started(stream)

    stream.end()
    thread.join(5)

    assert not thread.is_alive()
    assert stream.left_out == 1


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Return a pipe that nobody reads any more, to be put in the place of standard output."""
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr("bot.live.stream._LOOK_S", 0.01)
    out = os.fdopen(write, "w")
    yield out
    with contextlib.suppress(BrokenPipeError):
        out.close()


def test_a_reader_that_went_away_is_noticed_before_anything_happens(
    gone: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits to put an entry in goes on, and nothing is printed."""
    monkeypatch.setattr("sys.stdout", gone)
    journal, lost = Journal(), threading.Event()

    with streaming(journal, waits=True, lost=lost.set) as stream:
        assert lost.wait(5)
        for _ in range(2_000):
            stream.note(entry())

    assert stream.gone


def plain(mode: str, lost: Callable[[str], None] | None = None) -> int:
    """Run frames without an end, at most ten thousand; return how many were played."""
    arguments: argparse.Namespace = parser().parse_args(["paper"])
    played: list[Frame] = []

    def source(pace: Callable[[Frame], bool]) -> Observable[Frame]:
        def frames() -> Iterator[Frame]:
            for seq in range(1, 10_001):
                frame = Frame(seq, AT, seq, "c", "tick", "")
                if not pace(frame) or ended.wait(0.001):
                    return
                played.append(frame)
                yield frame

        return from_iterable(frames())

    ended = threading.Event()

    def leave(why: str) -> None:
        if lost is not None:
            lost(why)
        ended.set()

    run_plain(arguments, Bot(Options(strategy="none")), source, mode=mode, lost=leave)
    return len(played)


def test_a_paper_run_ends_with_its_reader(gone: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every program in a pipe does: nothing is at stake."""
    monkeypatch.setattr("sys.stdout", gone)
    reasons: list[str] = []

    assert plain("PAPER", reasons.append) < 10_000
    assert reasons == []


def test_a_run_with_real_orders_outlives_its_reader(
    gone: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a terminal lost: what is held is guarded, and the run decides when it is over."""
    monkeypatch.setattr("sys.stdout", gone)
    reasons: list[str] = []

    assert plain("TRADE", reasons.append) < 10_000
    assert reasons == ["a reader that went away"]


def test_a_replay_whose_reader_went_away_is_no_failure(
    gone: TextIO, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bot | head` ends quietly."""
    monkeypatch.setattr("sys.stdout", gone)
    assert main(["replay", str(short)]) == 0


def test_a_replay_prints_each_decision_and_fill_above_its_report(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Aligned, each within 80 columns."""
    assert main(["replay", str(short)]) == 0

    rows, _, report = capsys.readouterr().out.partition("\n\n")
    ids = {row[9:10] for row in rows.splitlines()}
    assert {"D", "V", "F"} <= ids
    assert "…" not in rows
    assert len(report.splitlines()) == 6


@pytest.mark.replays
@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_a_quiet_run_prints_its_report_alone(
    option: str, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so does one whose report is for a program."""
    assert main(["replay", str(short), option]) == 0

    assert capsys.readouterr().out.startswith("{" if option == "--json" else "equity ")
