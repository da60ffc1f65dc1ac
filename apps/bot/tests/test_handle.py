"""The handle of a running bot: who may reach it, what it answers, and what comes of it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bot.live.handle
import bot.run.handles
import pytest
from bot.__main__ import main
from bot.live.handle import (
    chosen,
    flatten_run,
    request,
    within_reach,
)
from bot.report.report import away
from bot.report.status import starting, status_lines, status_of
from bot.run.composition import Bot, Options
from bot.run.handles import directories, running
from dydx_conn import ConnError, Inbox, replay

STATUS: dict[str, Any] = {"acts": 0, "gate": {"state": "ACTIVE"}}


@contextmanager
def going(
    inbox: Inbox | None = None, status: Callable[[], dict[str, Any]] = lambda: STATUS
) -> Iterator[Path]:
    """Let a run go that does nothing but answer between two frames; yields where it is found."""
    over = threading.Event()

    def play() -> None:
        while not over.wait(0.005):
            handle.answer()

    with within_reach(inbox or Inbox(), STATUS) as handle:
        handle.begin(status)
        run = threading.Thread(target=play, name="the run")
        run.start()
        try:
            yield chosen(os.getpid())
        finally:
            over.set()
            run.join()


# === Requests ===


@pytest.mark.parametrize("what", ["halt", "resume"])
def test_a_request_puts_an_act_in_and_does_nothing_else(what: str) -> None:
    """It waits its turn among the frames."""
    inbox = Inbox()
    with going(inbox) as path:
        reply = request(path, what, "a headline")

    act = inbox.take(1, 0.0)
    assert reply == {"taken": what}
    assert act is not None
    assert (act.kind, act.link, act.type, act.text) == ("act", "command", what, "a headline")


def test_the_status_is_made_on_the_runs_own_thread() -> None:
    """No other touches its state."""
    threads: list[str] = []

    def status() -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        return {"state": "as it is"}

    with going(status=status) as path:
        assert request(path, "status") == {"status": {"state": "as it is"}}

    assert threads == ["the run"]


def test_a_run_that_takes_no_frames_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does not wait for ever."""
    monkeypatch.setattr(bot.live.handle, "_ANSWER_S", 0.05)
    refused = pytest.raises(ConnError, match=r"expected an answer within 0\.05 s")

    with within_reach(Inbox(), STATUS) as handle, refused:
        handle.begin(lambda: STATUS)
        request(chosen(None), "status")


def test_a_status_that_fails_does_not_stop_the_run() -> None:
    """Who looks gets the error; the next one is answered."""
    calls: list[int] = []

    def status() -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        return STATUS

    with going(status=status) as path:
        with pytest.raises(ConnError, match="ZeroDivisionError: a bug"):
            request(path, "status")
        assert request(path, "status") == {"status": STATUS}


@pytest.mark.parametrize("line", [b"dance\n", b'{"what":"buy"}\n', b"", b"x" * 10_000 + b"\n"])
def test_what_is_no_request_is_refused(line: bytes) -> None:
    """With what was expected; whoever comes next is served."""
    with going() as path:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            caller.sendall(line)
            caller.shutdown(socket.SHUT_WR)
            reply = caller.recv(4096)
        assert request(path, "status") == {"status": STATUS}

    assert b"expected status, halt, pause, resume, flatten or reload, got" in reply


def test_a_caller_that_hangs_up_is_forgotten() -> None:
    """And the next one is served."""
    with going() as path:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
        assert request(path, "status") == {"status": STATUS}


# === Who may, and where ===


def test_a_caller_for_whom_no_descriptor_is_left_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """He is not tried again at once, and is answered as soon as there is one."""
    handle = bot.live.handle.Handle(Inbox(), {})
    waits: list[float] = []
    monkeypatch.setattr(handle._stopping, "wait", waits.append)

    class Server:
        calls = 0

        def settimeout(self, _: float) -> None:
            return None

        def accept(self) -> None:
            self.calls += 1
            if self.calls == 4:
                handle.stop()
            raise TimeoutError if self.calls % 2 else OSError(24, "Too many open files")

    handle.serve(Server())  # type: ignore[arg-type]  # all that is used of a socket

    assert waits == [0.2, 0.2]


def test_only_its_owner_reaches_a_run_and_nobody_once_it_is_over() -> None:
    """The directory is the permission; the socket goes with its run."""
    with going() as path:
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)]
        assert path.parent == Path(os.environ["XDG_RUNTIME_DIR"]) / "dydx-bot"

    assert modes == [0o600, 0o700]
    assert not path.exists()
    assert running() == {}


def test_without_a_runtime_directory_it_is_in_the_state_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/directory")

    with going() as path:
        assert path.parent == Path(os.environ["XDG_STATE_HOME"]) / "dydx-bot" / "run"
        assert directories() == [path.parent]
        assert list(running()) == [os.getpid()]


def test_a_runtime_directory_that_is_not_ours_is_passed_over() -> None:
    """What others could write to is no place for it, and no run that is found there is ours."""
    shared = Path(os.environ["XDG_RUNTIME_DIR"]) / "dydx-bot"
    shared.mkdir()
    shared.chmod(0o777)

    with going() as path, socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(shared / "1.sock"))
        planted.listen()
        assert path.parent.name == "run"
        assert list(running()) == [os.getpid()]


def test_a_run_that_cannot_be_reached_goes_on_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/directory")
    state = Path(os.environ["XDG_STATE_HOME"])
    state.write_text("no directory")

    with within_reach(Inbox(), STATUS) as handle:
        handle.answer()

    warned = capsys.readouterr().err
    assert warned.startswith("bot: warning: bot halt cannot reach this run: ")
    assert str(state) in warned


def test_what_a_killed_run_left_behind_is_cleared_away() -> None:
    """Its socket refuses; what is no socket of a run is let alone."""
    place = Path(os.environ["XDG_RUNTIME_DIR"]) / "dydx-bot"
    place.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(place / "1.sock"))
    (place / "notes.sock").write_text("no socket")
    (place / "2.sock").symlink_to(place / "nowhere")

    assert running() == {}
    assert {path.name for path in place.iterdir()} == {"notes.sock", "2.sock"}


# === Which one ===


def test_a_run_that_is_not_there_is_an_error() -> None:
    """By the number that was given, or without one."""
    with pytest.raises(ConnError, match="expected a running bot, got none"):
        chosen(None)
    with pytest.raises(ConnError, match="expected a running bot, got 4711"):
        chosen(4711)


def test_one_of_several_has_to_be_named() -> None:
    """The refusal lists them, with what each one does."""
    with going(status=lambda: {
        "mode": "PAPER", "source": "local A-USD", "account": "dydx1paper/0",
    }) as path:  # fmt: skip
        other = path.with_name("1.sock")
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(other))
            deaf.listen()
            with pytest.MonkeyPatch.context() as hurried:
                hurried.setattr(bot.run.handles, "_PATIENCE_S", 0.3)
                with pytest.raises(ConnError) as refused:
                    chosen(None)
            assert chosen(1) == other
            assert chosen(os.getpid()) == path

    error = str(refused.value)
    assert error.startswith("expected the number of a running bot, one of 1 (no answer), ")
    assert error.endswith(f"{os.getpid()} (PAPER local A-USD dydx1paper/0), got none")


# === The status ===


def halfway() -> Bot:
    """Return a bot that holds something."""
    held = Bot(Options())
    held.run(replay("quickstart", pace=lambda frame: frame.seq < 2500))
    return held


def test_a_status_is_plain_data_and_words() -> None:
    """Mode, gate with its reasons, account, distance, positions."""
    held = halfway()
    held.shown.url = "http://127.0.0.1:8710"
    found = json.loads(json.dumps(status_of(held, "PAPER", "local A-USD")))

    words = "\n".join(status_lines(found))

    assert found["gate"] == {"state": "ACTIVE", "reasons": {}}
    assert found["account"] == "dydx1paper/0"
    assert [row["ticker"] for row in found["positions"]]
    assert f"{found['pid']}, PAPER local A-USD\ntime         {found['at']}\n" in words
    assert max(map(len, words.splitlines())) <= 80
    assert "gate         ACTIVE" in words
    assert f"distance     {away(found['distance_to_liquidation'])}\n" in words
    assert words.count("\nposition ") == len(found["positions"])
    assert "\nanswers at   http://127.0.0.1:8710" in words


def test_an_unknown_account_is_not_reported_safe() -> None:
    """Before the first frame nothing is known, and nothing is held."""
    found = status_of(Bot(Options()), "PAPER", "x")

    words = "\n".join(status_lines(found))

    assert "gate         REDUCING" in words
    assert "no account snapshot yet" in words
    assert "equity unknown" in words
    assert "distance     unknown" in words


# === A real run ===


@pytest.fixture
def replayed() -> Iterator[subprocess.Popen[str]]:
    """Play a recording in a process of its own, at twenty times real time."""
    typed = [sys.executable, "-m", "bot", "replay", "quickstart", "--speed", "20", "--json"]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2_000):
        if running():
            break
        threading.Event().wait(0.01)
    yield process
    process.kill()
    process.communicate()


def test_a_bot_that_runs_is_halted_resumed_and_looked_at(
    replayed: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command prints what came of it; the run's report lists both acts."""
    assert main(["halt", "--pause", "--why", "lunch"]) == 0
    paused = capsys.readouterr().out
    assert main(["halt", "--why", "a headline"]) == 0
    halted = capsys.readouterr().out
    assert main(["status", "--json"]) == 1
    status = json.loads(capsys.readouterr().out)
    assert main(["resume", str(replayed.pid)]) == 0
    resumed = capsys.readouterr().out
    main(["status"])
    assert f"run          {replayed.pid}, REPLAY quickstart" in capsys.readouterr().out
    replayed.send_signal(signal.SIGINT)
    report = json.loads(replayed.communicate(timeout=60)[0])

    assert "entries are paused: lunch (by command)" in paused
    assert "gate         HALTED\n             halted: a headline (by command)" in halted
    assert status["gate"]["state"] == "HALTED"
    assert "HALTED" not in resumed
    assert [row["words"] for row in report["samples"]["acts"]] == [
        "pause by command: lunch",
        "halt by command: a headline",
        "resume by command: no reason was given",
    ]
    assert report["acts"] == 3
    assert running() == {}


def test_an_act_without_effect_is_a_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run answers, and takes no frames."""
    monkeypatch.setattr(bot.live.handle, "_EFFECT_S", 0.1)
    with going():
        assert main(["halt"]) == 1

    assert "expected halt within 0.1 s" in capsys.readouterr().err


def test_a_run_that_starts_is_halted_as_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for what may take long: its act is the first."""
    inbox = Inbox()
    with within_reach(inbox, starting("TRADE", "testnet", "dydx1us/0")):
        assert main(["status"]) == 1
        stands = capsys.readouterr().out
        assert main(["halt", "--why", "a headline"]) == 0
        halted = capsys.readouterr().out

    act = inbox.take(1, 0.0)
    assert act is not None
    assert (act.type, act.text) == ("halt", "a headline")
    assert (
        f"run          {os.getpid()}, TRADE testnet\ntime         its start\ngate         STARTING"
        in stands
    )
    assert "halt: takes effect as the run begins" in halted


def stands(gate: str, *held: str, **reasons: str) -> dict[str, Any]:
    """Make a status: what a run holds, and its gate."""
    rows = [{"ticker": t, "size": "+1", "words": "far"} for t in held]
    return {
        "pid": os.getpid(), "mode": "TRADE", "source": "x", "at": "now", "account": "a",
        "gate": {"state": gate, "reasons": reasons}, "alarm": "safe", "equity_usdc": 1.0,
        "distance_to_liquidation": None, "positions": rows, "by_hand": [], "acts": 0,
    }  # fmt: skip


def test_flatten_waits_until_nothing_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    """And it is known; not before the act has taken effect."""
    unknown = stands("HALTED", UNKNOWN_ACCOUNT="frames were lost")
    course = [stands("ACTIVE"), stands("HALTED", "BTC-USD"), unknown, stands("HALTED")]
    inbox = Inbox()
    with going(inbox, lambda: course.pop(0)):
        assert flatten_run(None, "a headline") == 0

    act = inbox.take(1, 0.0)
    assert act is not None
    assert (act.type, act.link, act.text) == ("flatten", "command", "a headline")
    assert course == []
    assert "gate         HALTED" in capsys.readouterr().out


def test_what_a_run_cannot_close_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried again; the exit code is 1."""
    monkeypatch.setattr(bot.live.handle, "_LEAVE_S", 0.3)
    monkeypatch.setattr(bot.live.handle, "_AGAIN_S", 0.1)
    inbox = Inbox()
    with going(inbox, lambda: stands("HALTED", "BTC-USD")):
        assert flatten_run(os.getpid(), "") == 1

    acts = 0
    while inbox.take(1, 0.0) is not None:
        acts += 1
    assert 2 <= acts <= 4
    assert "expected BTC-USD +1 to be closed within 0.3 s" in capsys.readouterr().err


def test_no_run_to_halt_is_a_two(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["halt"]) == 2

    assert capsys.readouterr().err.startswith("bot: expected a running bot, got none")
