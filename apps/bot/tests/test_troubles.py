"""What goes wrong around a run: it goes on, nothing enters any more, and the person is warned."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.live.troubles import Recorder, Terminal, Troubles, recorder
from bot.report.report import report_lines, report_of
from bot.run.composition import Bot, Options
from dydx_conn import NETWORKS, AuditLog, ConnError, Frame, Inbox, Recording, find_recording
from reactivex import from_iterable

NET = NETWORKS["local"]


@pytest.fixture
def frames() -> list[Frame]:
    """Return the first frames of the bundled recording."""
    recording = iter(Recording(find_recording("quickstart")))
    return [next(recording) for _ in range(400)]


@pytest.fixture
def small_files() -> Iterator[int]:
    """Let no file of this process grow beyond a size in bytes; a write beyond it is refused."""
    size, before = 20_000, resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def looked(bot: Bot, who: str, words: str) -> Frame | None:
    """Let a trouble be looked at three times; return the act it led to."""
    inbox = Inbox()
    troubles = Troubles(bot, inbox, {who: lambda: words}, prints=False)
    for _ in range(3):
        troubles.look()
    found = inbox.take(1, 0.0)
    assert inbox.take(2, 0.0) is None
    return found


# === Recording ===


@pytest.mark.usefixtures("small_files")
def test_a_recording_that_does_not_fit_ends_with_its_last_whole_frame(
    frames: list[Frame], tmp_path: Path
) -> None:
    """What is written is readable, and what comes after it is nobody's error."""
    path = tmp_path / "run.jsonl.zst"
    recording = Recorder(path, NET)

    for frame in frames:
        recording.note(frame)
    recording.end()

    read = Recording(path)
    whole = list(read)
    assert recording.trouble == (
        f"expected to record to {path}, got File too large: it ends with frame {whole[-1].seq} "
        "and stays off"
    )
    assert [frame.text for frame in whole] == [frame.text for frame in frames[: len(whole)]]
    assert read.damage == ["the end line is missing or its sum is wrong: it was cut off"]


def test_an_end_that_cannot_be_written_is_a_trouble(tmp_path: Path) -> None:
    """The last second of a recording is lost as any other is."""
    with recorder(tmp_path / "run.jsonl.zst", NET) as (recording,):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        try:
            recording.end()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    assert "it ends with frame 0" in recording.trouble


def test_a_recording_that_cannot_be_begun_is_refused(tmp_path: Path) -> None:
    """Where something is already, and where nothing can be."""
    with pytest.raises(ConnError, match="which exists"):
        Recorder(tmp_path, NET)
    with pytest.raises(ConnError, match="expected to write a recording to"):
        Recorder(tmp_path / "none" / "run", NET)


# === Terminal ===


def test_a_terminal_that_stops_the_run_is_refused_and_one_that_ends_is_noted() -> None:
    """Both go on; whoever ignores a signal already, as nohup does, goes on to."""
    terminal, usual = Terminal(), signal.getsignal(signal.SIGTSTP)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever these tests are run under

    try:
        with terminal.held():
            os.kill(os.getpid(), signal.SIGTSTP)
            os.kill(os.getpid(), signal.SIGTTOU)
            refused = terminal.refused(), terminal.refused()
            os.kill(os.getpid(), signal.SIGHUP)
            terminal.lose("an error")
    finally:
        signal.signal(signal.SIGHUP, before)

    assert refused == (
        "Ctrl-Z is refused: the guard would stop as well (q or Ctrl-C ends the run)",
        "",
    )
    assert terminal.trouble.startswith("expected a terminal to the run's end, got a hangup: ")
    assert signal.getsignal(signal.SIGTSTP) == usual


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal = Terminal()
    try:
        with terminal.held():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)

    assert not terminal.trouble


# === Troubles ===


@pytest.mark.parametrize("who", ["recorder", "audit", "terminal"])
def test_a_trouble_halts_once_and_is_in_the_report(frames: list[Frame], who: str) -> None:
    """In words and as data."""
    bot = Bot(Options())

    act = looked(bot, who, "no space")

    assert act is not None
    assert (act.kind, act.link, act.type, act.text) == ("act", who, "halt", "no space")
    bot.run(from_iterable([*frames[:50], act]))
    report = report_of(bot, name="x")
    assert report["troubles"] == {who: "no space"}
    assert f"TROUBLE      {who}: no space" in report_lines(report)
    assert bot.risk.standing.state == "HALTED"


def test_a_halt_that_cannot_be_stored_is_no_second_halt() -> None:
    """It is reported alone."""
    bot = Bot(Options())

    assert looked(bot, "halt", "no space") is None
    assert bot.shown.troubles == {"halt": "no space"}


def test_a_run_without_a_terminal_is_over_when_nothing_is_held() -> None:
    """A paper account that never traded is flat; one that is not known is not."""
    bot, words = Bot(Options()), [""]
    troubles = Troubles(bot, Inbox(), {"terminal": lambda: words[0]}, prints=False)

    troubles.look()
    before = troubles.is_over
    words[0] = "gone"
    troubles.look()

    assert not before
    assert troubles.is_over is not bool(bot.risk.account.trouble)


# === Audit ===


def test_an_audit_log_tells_what_it_lost(tmp_path: Path, small_files: int) -> None:
    """A line that was cut stands by itself, and the next whole one says how many are missing."""
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as audit:
        for _ in range(12):
            audit.write("event", text="x y " * 600)
        before = path.read_bytes()
        assert audit.trouble.endswith(f"File too large: {audit.failures} lines lost")
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * small_files, resource.RLIM_INFINITY))
        audit.write("event", text="again")

    lines = path.read_bytes().removeprefix(before).splitlines()
    assert f'"event":"lost","lines":{audit.failures}'.encode() in lines[-2]
    assert b'"again"' in lines[-1]
