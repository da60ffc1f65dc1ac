"""A run on a terminal: keys, clock, drawing, and the terminal given back."""

import io
import os
import pty
import queue
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bot.run.composition import Bot, Options
from bot.screen.keyboard import KEYLESS, Key, Keyboard
from bot.screen.leave import PATIENCE_NS, Leave
from bot.screen.line import NEW_NS
from bot.screen.question import Questions
from bot.screen.screen import Screen
from dydx_conn import AccountUpdate, Frame, Subaccount, collect, load_recorded_stream, replay
from dydx_panels import View, selectable
from msgspec.structs import replace
from rich.console import Console


@pytest.fixture
def frames() -> list[Frame]:
    """Return the recording's first frames."""
    return collect(load_recorded_stream("quickstart"))[:2500]


@pytest.fixture
def screen(at_once: Callable[[Screen], Screen]) -> Screen:
    """Return a screen on a made-up terminal whose waits pass at once."""
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    return at_once(
        Screen(Bot(Options()), mode="REPLAY", name="quickstart", speed=20.0, console=console)
    )


def press(screen: Screen, *keys: str) -> None:
    """Press keys one after the other."""
    for key in keys:
        screen._answer(key)


def test_frames_are_held_until_they_are_due(
    screen: Screen, clock: Any, frames: list[Frame]
) -> None:
    """At twenty times real time, twenty recorded seconds take one."""
    began = clock.now
    last = next(f for f in frames if f.mono - frames[0].mono > 20e9)

    assert screen.pace(frames[0])
    assert screen.pace(last)

    waited = (clock.now - began) / 1e9
    assert waited == pytest.approx((last.mono - frames[0].mono) / 1e9 / 20, abs=0.05)


@pytest.mark.replays
def test_a_run_is_drawn_while_it_goes(screen: Screen, frames: list[Frame]) -> None:
    """What is on the screen is the run: its mode, its markets, its decisions."""
    screen.bot.run(replay("quickstart", pace=lambda f: f.seq < 1500 and screen.pace(f)))
    screen.draw()

    assert "REPLAY" in screen.terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert screen.snapshot().decisions
    assert screen.bot.meters.draw_ms is not None
    assert frames


@pytest.mark.replays
def test_the_hash_is_the_same_with_the_dashboard_on(screen: Screen) -> None:
    """Drawing and pacing change nothing of what the bot does."""
    plain = Bot(Options())
    plain.run(replay("quickstart", pace=lambda f: f.seq < 1500))

    screen.bot.run(replay("quickstart", pace=lambda f: f.seq < 1500 and screen.pace(f)))

    assert screen.bot.journal.hash == plain.journal.hash


def test_q_ends_the_run(screen: Screen, frames: list[Frame]) -> None:
    """The source ends at its next frame."""
    screen.pace(frames[0])
    press(screen, "q")

    assert not screen.pace(frames[1])
    screen.stay()
    assert not screen.finished


def test_a_key_that_waits_in_the_queue_is_answered_before_the_next_frame(
    screen: Screen, frames: list[Frame]
) -> None:
    """Also when no frame has to wait."""
    screen.player.speed = None
    screen.terminal.keys.put("q")

    assert not screen.pace(frames[0])


def test_pause_holds_the_recording_and_the_same_key_lets_it_go_on(
    screen: Screen, clock: Any, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time that was paused is not caught up."""
    screen.pace(frames[0])
    press(screen, " ")
    began, waits = clock.now, [""] * 20 + [" "]

    def wait(seconds: float) -> str:
        clock.now += int(seconds * 1e9) + 1
        return waits.pop(0) if waits else ""

    monkeypatch.setattr(screen, "_next_key", wait)
    assert screen.pace(frames[1])

    assert clock.now - began >= 20 * 50_000_000 * 0.9
    assert not screen.view.paused


def test_a_step_goes_on_to_the_next_decision(screen: Screen, frames: list[Frame]) -> None:
    """Paused, `.` plays until a target changes, and pauses again."""
    decided: list[int] = []

    def pace(frame: Frame) -> bool:
        if frame.seq == frames[0].seq:
            press(screen, ".")
        if screen.bot.journal.counts["target"]:
            decided.append(screen.bot.journal.counts["target"])
            assert screen._wait_ns(frame, 0) > 0
            return False
        return screen.pace(frame)

    screen.bot.run(replay("quickstart", pace=pace))

    assert decided


def test_plus_and_minus_change_the_speed(screen: Screen) -> None:
    """In steps, and never below or above what there is."""
    press(screen, "+")
    assert screen.player.speed == 50.0
    press(screen, "-", "-")
    assert screen.player.speed == 10.0
    press(screen, *["-"] * 20)
    assert screen.player.speed == 1.0
    press(screen, *["+"] * 20)
    assert screen.player.speed == 1000.0


def test_a_live_run_has_no_speed_to_change(screen: Screen) -> None:
    """Real time is what it is."""
    screen.player.speed = None
    press(screen, "+", "-")

    assert screen.player.speed is None


def test_number_keys_show_one_panel_and_go_back(screen: Screen) -> None:
    """The same key twice is back to the dashboard."""
    press(screen, "3")
    assert screen.view.panel == "markets"
    press(screen, "3")
    assert screen.view.panel == ""


def test_help_opens_and_q_closes_it_before_it_quits(screen: Screen, frames: list[Frame]) -> None:
    """A key closes what is open first."""
    press(screen, "?")
    assert screen.view.help
    press(screen, "q")
    assert not screen.view.help
    assert screen.pace(frames[0])


def test_escape_closes_what_is_open_and_never_the_run(screen: Screen, frames: list[Frame]) -> None:
    """Whoever wants to leave a panel does not end what guards the account."""
    screen.pace(frames[0])
    press(screen, "v", "?", "\x1b")
    assert (screen.view.panel, screen.view.help) == ("venue", False)
    press(screen, "\x1b", "\x1b")

    assert screen.view.panel == ""
    assert screen.pace(frames[1])


@pytest.fixture
def leave(screen: Screen) -> Leave:
    """Let the screen show a run with real orders that holds something."""
    screen.bot.run(replay("account", pace=lambda _: not screen.bot.risk.positions()))
    assert screen.bot.risk.positions()
    leave = Leave(screen.bot, lambda _: True, flatten=False)
    screen.questions = screen.actions.questions = Questions(screen.bot, screen._inbox, leave)
    return leave


def test_leaving_what_is_held_for_real_needs_a_yes(
    screen: Screen, leave: Leave, frames: list[Frame]
) -> None:
    """Nobody guards it afterwards: one key by mistake is not enough."""
    press(screen, "q")
    # A footer has a cell before the question, and one on each side of it.
    question = "end? c closes, y leaves, n goes on: 12 positions stay open, unguarded"
    assert screen.view.confirm == question.replace("12 positions stay", "1 position stays")
    assert len(question) <= 80 - 3
    press(screen, "n", "q")
    assert screen.pace(frames[0])
    assert inbox_of(screen) == []

    press(screen, "y")

    assert not screen.pace(frames[1])
    assert not leave.closes


def test_whoever_leaves_may_have_it_closed(
    screen: Screen, leave: Leave, frames: list[Frame]
) -> None:
    """The run ends, and what ends it closes what is held first."""
    press(screen, "q", "c")

    assert not screen.pace(frames[0])
    assert leave.closes
    assert leave.holds(frames[1])


def test_a_signal_is_answered_as_a_key(
    screen: Screen, leave: Leave, frames: list[Frame], clock: Any
) -> None:
    """An overlay is no excuse; who stays is not ended, and who does not answer is."""
    press(screen, "?")
    leave.requested.set()
    assert screen.pace(frames[0])
    assert screen.view.confirm.startswith("end?")
    press(screen, "n")
    assert not leave.requested.is_set()
    assert screen.pace(frames[1])

    leave.requested.set()
    assert screen.pace(frames[2])
    clock.now += PATIENCE_NS

    assert not screen.pace(frames[3])
    assert not leave.closes


def test_a_signal_ends_a_run_that_holds_nothing(screen: Screen, frames: list[Frame]) -> None:
    """At once."""
    leave = Leave(screen.bot, lambda _: True, flatten=False)
    screen.questions = screen.actions.questions = Questions(screen.bot, screen._inbox, leave)
    leave.requested.set()

    assert not screen.pace(frames[0])


@pytest.mark.replays
@pytest.mark.parametrize("panel", ["v", "2", "1"])
def test_w_explains_the_newest_of_a_row_without_an_explanation_of_its_own(
    screen: Screen, panel: str
) -> None:
    """The newest entry about the market of the selected row, else the newest of all."""
    screen.bot.run(replay("quickstart", pace=lambda f: f.seq < 1500))
    press(screen, panel)
    ticker = [*selectable(screen.snapshot(), screen.view), ""][0]
    press(screen, "w")

    explained = screen.bot.journal.find(screen.view.why_title)
    assert explained is not None
    assert ticker in ("", explained.ticker)


def test_a_filter_is_typed_mended_set_and_dropped(screen: Screen) -> None:
    """Letters go to the filter while it is open; escape forgets it."""
    press(screen, "/", "e", "t", "x", "\x7f", "h", "\x01", "\r")
    assert (screen.view.filter, screen.view.filtering) == ("eth", False)
    press(screen, "/", "q", "\x1b")
    assert screen.view.filter == ""
    assert not screen.questions.quits


def test_w_explains_the_selected_row_and_scrolls(screen: Screen) -> None:
    """The overlay holds the chain down to the wire; arrows scroll it; w closes it."""
    screen.bot.run(replay("quickstart", pace=lambda f: f.seq < 1500))
    press(screen, "down", "w")
    assert screen.view.why
    assert screen.view.paused
    press(screen, "down", "pagedown", "up")
    assert screen.view.scroll == 10
    press(screen, "w")
    assert not screen.view.why


def test_w_before_anything_happened_does_nothing(screen: Screen) -> None:
    """There is nothing to explain yet."""
    press(screen, "w", "up", "j", "x", "")

    assert not screen.view.why


@pytest.mark.parametrize(
    ("form", "suffix", "begins"),
    [("s", ".svg", "<svg"), ("h", ".html", "<!DOCTYPE html>"), ("t", ".txt", " REDUCING ")],
)
def test_s_saves_what_is_seen(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    form: str, suffix: str, begins: str,
) -> None:  # fmt: skip
    """As a picture, a page or a text in the working directory, and nothing is overwritten."""
    monkeypatch.chdir(tmp_path)
    press(screen, "3", "s")
    assert screen.view.confirm == "save as: s SVG, h HTML, t text"
    press(screen, form, "s", form)

    files = sorted(tmp_path.iterdir(), key=lambda path: len(path.name))
    assert [path.suffix for path in files] == [suffix, suffix]
    assert files[1].name == f"{files[0].stem}-2{suffix}"
    assert screen.line.words() == f"saved {files[1].name} in {tmp_path}"
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith(begins)
    assert "Markets" in text.replace("&#160;", " ")
    assert "save as" not in text


def test_any_other_key_saves_nothing(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says so."""
    monkeypatch.chdir(tmp_path)
    press(screen, "s", "\x1b")

    assert screen.line.words() == "nothing is saved"
    assert not list(tmp_path.iterdir())


def test_the_last_picture_stays_until_a_key(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the end of a recording the screen waits for the person."""
    keys = ["", "", "q"]
    monkeypatch.setattr(screen, "_next_key", lambda _: keys.pop(0))

    screen.stay()

    assert screen.finished
    assert not keys


def test_without_a_terminal_the_keyboard_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read, and nothing is changed that would have to be put back."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
    keyboard = Keyboard(keys)

    keyboard.start()
    keyboard.stop()

    assert keys.empty()


def test_a_system_without_termios_says_that_it_has_no_keys(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on without them."""
    monkeypatch.setattr("bot.screen.keyboard.HAS_TERMIOS", False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    with screen:
        assert screen.line.words() == KEYLESS


def test_a_live_run_that_is_paused_stands_still_on_the_screen_alone(
    screen: Screen, frames: list[Frame]
) -> None:
    """The guard goes on; only the picture waits."""
    screen.player.speed = None
    screen.bot.run(replay("quickstart", pace=lambda f: f.seq < 500))
    press(screen, " ")
    seen = screen.snapshot()

    assert screen.pace(frames[0])
    assert screen.snapshot() is seen
    press(screen, ".", " ")
    assert screen.snapshot() is not seen


def test_a_run_that_was_stopped_goes_on_from_where_it_is(
    screen: Screen, clock: Any, frames: list[Frame]
) -> None:
    """After Ctrl-Z and fg the recording does not sprint."""
    screen.pace(frames[0])
    clock.now += 60_000_000_000
    screen.pace(frames[1])
    began = clock.now

    later = next(f for f in frames if f.mono - frames[1].mono > 20e9)
    screen.pace(frames[2])
    screen.pace(later)

    assert clock.now - began > 0.9e9


# === The kill switch ===


def inbox_of(screen: Screen) -> list[tuple[str, str]]:
    """Return who did what, of what a screen put in."""
    taken = iter(lambda: screen._inbox.take(1, 0.0), None)
    return [(frame.link, frame.type) for frame in taken]


def test_the_kill_switch_needs_a_yes_to_halt(screen: Screen, frames: list[Frame]) -> None:
    """The question is in the footer until it is answered; the answer is an act."""
    screen.pace(frames[0])
    press(screen, "K")
    assert screen.view.confirm == "halt trading? y / n"
    for no in ("n", "\x1b", "K", "q"):
        press(screen, no, "K")
    assert inbox_of(screen) == []

    press(screen, "y")

    assert inbox_of(screen) == [("key", "halt")]
    assert screen.view.confirm == ""
    assert not screen.questions.quits


def test_the_panic_key_needs_a_yes_to_close_all(screen: Screen, frames: list[Frame]) -> None:
    """It is an act as well, and there is none once the run is over."""
    screen.pace(frames[0])
    press(screen, "F")
    assert screen.view.confirm == "flatten: close all positions and halt? y / n"
    for no in ("n", "F", "K"):
        press(screen, no, "F")
    assert inbox_of(screen) == []

    press(screen, "y")
    screen.questions.over = True
    press(screen, "F")

    assert inbox_of(screen) == [("key", "flatten")]
    assert screen.line.words() == "the run is over: nothing is left to close"


def test_who_halts_and_leaves_at_once_has_halted(screen: Screen, frames: list[Frame]) -> None:
    """The run ends behind the act, and not before."""
    screen.pace(frames[0])
    press(screen, "K", "y", "q")

    assert screen.pace(frames[1])
    screen.bot.journal.acted(frames[1])
    assert not screen.pace(frames[2])


def test_where_it_is_halted_the_same_key_resumes(screen: Screen, frames: list[Frame]) -> None:
    """The first row shows HALTED."""
    screen.pace(frames[0])
    screen.bot.risk.stops.halt("a headline")
    gate = screen.snapshot().gate
    assert gate is not None
    assert gate.state == "HALTED"

    press(screen, "K")
    assert screen.view.confirm == "resume trading? y / n"
    press(screen, "Y")

    assert inbox_of(screen) == [("key", "resume")]


def test_an_act_enters_a_paused_recording_with_one_frame(
    screen: Screen, frames: list[Frame]
) -> None:
    """Whoever halts in a pause sees it halted, and the pause goes on."""
    screen.pace(frames[0])
    press(screen, " ", "K", "y")

    assert screen._wait_ns(frames[1], 1) == 0
    inbox_of(screen)
    assert screen._wait_ns(frames[2], 1) > 0
    assert screen.view.paused


def test_an_act_lets_a_live_picture_go_on(screen: Screen, frames: list[Frame]) -> None:
    """What stood still on the screen alone does so no more: the halt is seen."""
    screen.player.speed = None
    screen.pace(frames[0])
    press(screen, " ")
    assert screen.actions.frozen is not None

    press(screen, "K", "y")

    assert screen.actions.frozen is None
    assert not screen.view.paused


def test_a_run_that_is_over_cannot_be_halted(screen: Screen) -> None:
    """Nothing would take the act."""
    screen.questions.over = True

    press(screen, "K")

    assert screen.line.words() == "the run is over: nothing is left to halt"
    assert inbox_of(screen) == []


def test_a_strategy_that_raised_is_shown_on_the_screen(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As long as there is no other message."""
    monkeypatch.chdir(tmp_path)
    drawn: list[View] = []
    monkeypatch.setattr(screen.terminal.dashboard, "draw", lambda _, view: drawn.append(view))
    screen.bot.stopped = ValueError("a bug")

    screen.draw()
    press(screen, "s", "t")
    screen.draw()

    assert drawn[0].message.startswith("THE STRATEGY IS STOPPED")
    assert drawn[1].message.startswith("saved ")
    assert drawn[1].note.startswith("THE STRATEGY IS STOPPED")


def test_what_is_wrong_around_the_run_is_shown(
    screen: Screen, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new for some seconds, and from then on beside the keys."""
    drawn: list[View] = []
    monkeypatch.setattr(screen.terminal.dashboard, "draw", lambda _, view: drawn.append(view))
    screen.bot.shown.troubles = {"audit": "no space", "terminal": "a hangup"}

    screen.draw()
    screen.bot.shown.notice = "Ctrl-Z is refused"
    screen.draw()
    clock.now += NEW_NS - 1
    screen.draw()
    clock.now += 1
    screen.draw()

    assert [view.message for view in drawn] == [
        "no space · a hangup",
        "Ctrl-Z is refused",
        "Ctrl-Z is refused",
        "",
    ]
    assert {view.note for view in drawn} == {"no space · a hangup"}


def test_a_terminal_that_is_closed_ends_a_recording_and_no_live_run(
    screen: Screen, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is drawn any more; whoever ends the run then gets no question on it."""
    tries: list[int] = []

    def closed(*_: object) -> None:
        tries.append(1)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(screen.terminal.dashboard, "draw", closed)
    lost: list[str] = []
    leave = Leave(screen.bot, lambda _: True, flatten=False)
    live = Screen(screen.bot, mode="PAPER", name="x", lost=lost.append, leave=leave)
    live.terminal.dashboard = screen.terminal.dashboard

    goes_on = live.pace(frames[0])
    live.draw()
    live.stay()
    leave.requested.set()

    assert (goes_on, lost, len(tries)) == (True, ["Input/output error"], 1)
    assert not live.pace(frames[1])
    assert not screen.pace(frames[0])


def test_a_picture_that_cannot_be_saved_ends_nothing(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The reason is on the screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bot.screen.picture._MOST", 2)
    press(screen, "s", "t", "s", "t")
    name = f"bot-{screen.bot.journal.hash[:8]}-0.txt"
    assert screen.line.words() == f"expected to save {name}, got 1 of them already"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    press(screen, "s", "t")

    assert screen.line.words() == f"expected to save {name}, got No space left on device"


def test_a_keyboard_whose_terminal_is_closed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be ready to read for ever."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        keyboard = Keyboard(queue.SimpleQueue())
        keyboard.start()
        os.close(ours)

        thread = keyboard._thread
        assert thread is not None
        thread.join(5.0)

        assert not thread.is_alive()
        keyboard.stop()


def test_between_frames_requests_are_answered(clock: Any, frames: list[Frame]) -> None:
    """In a pause too, and after the end."""
    calls: list[int] = []
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(
        Bot(Options()),
        mode="PAPER",
        name="x",
        console=console,
        idle=lambda: calls.append(clock.now),
    )
    screen.pace(frames[0])
    screen.terminal.keys.put("q")
    screen.stay()
    screen.terminal.dashboard.shutdown()

    assert len(calls) == 2


# === Drawn at once ===


def drawings(screen: Screen, clock: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note when it is drawn, a drawing taking a millisecond."""
    drawn: list[int] = []

    def draw(*_: object) -> None:
        drawn.append(clock.now)
        clock.now += 1_000_000

    monkeypatch.setattr(screen.terminal.dashboard, "draw", draw)
    return drawn


def changed(screen: Screen) -> None:
    """Let something become of the account."""
    for listener in screen.bot.journal.listeners:
        listener(AccountUpdate(seq=1, at=1, subaccount=Subaccount("dydx1us", 0), height=1))


def test_what_becomes_of_the_account_is_drawn_at_once(
    screen: Screen, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how long that took is measured; all else waits for its turn."""
    drawn = drawings(screen, clock, monkeypatch)
    screen.attend()
    clock.now += 60_000_000
    screen.attend()
    assert len(drawn) == 1

    changed(screen)
    screen.attend()

    assert len(drawn) == 2
    assert screen.bot.meters.shown.count == 1
    assert screen.bot.meters.shown.max_ns == 1_000_000


def test_it_is_drawn_no_more_than_ten_times_a_second(
    screen: Screen, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it changes; the newest state is what is drawn then."""
    drawn = drawings(screen, clock, monkeypatch)
    began = clock.now
    while clock.now < began + 3_000_000_000:
        changed(screen)
        wait_s = screen.attend()
        clock.now += max(int(wait_s * 1e9), 1_000_000)

    for at in drawn:
        assert sum(at <= other < at + 1_000_000_000 for other in drawn) <= 10
    assert len(drawn) >= 28
    assert screen.bot.meters.shown.count >= 27


def test_a_live_change_counts_from_the_frame_that_brought_it(
    screen: Screen, clock: Any, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time for which it waited to be taken."""
    screen.player.speed = None
    drawings(screen, clock, monkeypatch)
    screen.bot.shown.last_frames.append(replace(frames[0], mono=clock.now))
    clock.now += 30_000_000

    changed(screen)
    screen.attend()

    assert screen.bot.meters.shown.max_ns == 31_000_000


def test_while_nothing_comes_of_a_network_keys_are_answered(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inbox that waits lets the screen attend to them, no longer than 50 ms apart."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with screen:
        screen.terminal.keys.put("3")
        assert screen._inbox.attend is not None
        wait_s = screen._inbox.attend()

    assert screen.view.panel == "markets"
    assert 0 <= wait_s <= 0.05
    assert screen._inbox.attend is None


def test_whoever_quits_waits_for_no_frame_of_a_quiet_network(screen: Screen) -> None:
    """One is put in, for the source to end with."""
    screen.terminal.keys.put("q")
    screen.attend()
    screen.attend()

    assert inbox_of(screen) == [("clock", "")]


def test_a_screen_may_show_another_run(screen: Screen, clock: Any) -> None:
    """Its account is then the one that is drawn at once."""
    other, former = Bot(Options()), screen.bot
    press(screen, " ")
    screen.show(other)
    screen.draw()
    changed(screen)

    assert screen.actions.bot is other
    assert screen.redraw.urgent_ns
    assert screen._note not in former.journal.listeners


ReadUntil = Callable[[int, bytes], bytes]


def on_a_terminal(*typed: str) -> tuple[int, int, "subprocess.Popen[bytes]"]:
    """Run the bot on a terminal of its own, 24 rows by 80 columns: both its ends, and the bot."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    # A new session's first terminal is its own: opened by name, it gets Ctrl-C from there.
    words = " ".join(["exec", '"$0"', "-m", "bot", *typed, '<"$1"', '>"$1"', "2>&1"])
    played = ["sh", "-c", words, sys.executable, os.ttyname(slave)]
    environment = {**os.environ, "TERM": "xterm-256color"}
    return master, slave, subprocess.Popen(played, env=environment, start_new_session=True)


def test_on_a_real_terminal_a_key_halts_and_resumes(read_until: ReadUntil) -> None:
    """It needs a yes; the first row shows what came of it."""
    master, slave, bot = on_a_terminal("replay", "--speed", "5", "--report")

    read_until(master, b"liquidation")
    seen = b""
    for keys, wanted in ((b"K", b"halt trading?"), (b"y", b"HALTED"), (b"K", b"resume trading?")):
        os.write(master, keys)
        seen = read_until(master, wanted)
        assert wanted in seen
    os.write(master, b"yq")
    left = read_until(master, b"run hash")

    assert b"halt by key: no reason was given" in left
    assert b"resume by key: no reason was given" in left
    assert bot.wait(timeout=60) == 0
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("end", ["q", "ctrl-c", "terminate"])
def test_on_a_real_terminal_it_is_restored_however_the_run_ends(
    end: str, read_until: ReadUntil
) -> None:
    """The alternate screen is left, the cursor shown, the lines are lines again."""
    master, slave, bot = on_a_terminal()
    before = termios.tcgetattr(slave)

    painted = read_until(master, b"liquidation")
    {
        "q": lambda: os.write(master, b"\x1b[B\x1bOA\x1b[15~\x1b[6~q"),
        "ctrl-c": lambda: os.write(master, b"\x03"),
        "terminate": lambda: bot.send_signal(signal.SIGTERM),
    }[end]()
    left = read_until(master, b"\x1b[?1049l")

    assert b"\x1b[?1049h" in painted
    assert b"\x1b[?25h" in left
    assert bot.wait(timeout=60) in (0, 130)
    assert termios.tcgetattr(slave)[:4] == before[:4]
    os.close(master)
    os.close(slave)
