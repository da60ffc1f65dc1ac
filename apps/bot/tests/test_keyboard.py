"""What a person presses: bytes of a terminal become keys, and the terminal is given back."""

import os
import pty
import queue
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest
from bot.live.troubles import handled
from bot.screen.keyboard import (
    CONTINUED,
    SUSPEND,
    Click,
    Key,
    Keyboard,
    parsed,
    stopping,
    suspend,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("aK?", ["a", "K", "?"]),
        ("\x1b[A\x1bOB\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        ("\t\x1b[Z\r\n", ["tab", "back-tab", "\r", "\r"]),
        ("\x1b[H\x1b[4~\x1b[5~\x1b[15~", ["home", "end", "pageup"]),
        ("\x1b[<0;12;7M\x1b[<0;12;7m", [Click("click", 11, 6)]),
        ("\x1b[<64;1;1M\x1b[<65;300;80M", [Click("up", 0, 0), Click("down", 299, 79)]),
        ("\x1b[<2;12;7M", []),
        ("\x1b\x1b", ["\x1b"]),
        ("\x1a", [SUSPEND]),
    ],
)
def test_bytes_become_keys(text: str, keys: list[object]) -> None:
    """A letter is itself, a sequence has a name, and what is unknown is no key."""
    assert parsed(text)[0] == keys


@pytest.mark.parametrize("cut", [1, 2, 4, 8, 9])
def test_a_sequence_may_come_in_two_parts(cut: int) -> None:
    """What is begun waits for the rest: no Esc of it, and no letters."""
    whole = "\x1b[<0;12;7M"
    keys, rest = parsed("j" + whole[:cut])

    assert keys == ["j"]
    assert parsed(rest + whole[cut:]) == ([Click("click", 11, 6)], "")


def test_a_name_of_a_stop_is_no_letter() -> None:
    """Nobody can type it."""
    assert all(len(name) > 1 for name in (SUSPEND, CONTINUED))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Put a terminal in the place of the standard input; yields the end of who types."""
    person, program = pty.openpty()
    with open(program) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield person
    os.close(person)


def test_an_esc_alone_is_a_key_after_a_moment(terminal: int) -> None:
    """As soon as nothing follows it; what follows is a key of its own."""
    keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
    keyboard = Keyboard(keys)
    keyboard.start()

    os.write(terminal, b"\x1b")
    first = keys.get(timeout=30.0)
    os.write(terminal, b"j\x1b[A")
    later = [keys.get(timeout=30.0) for _ in range(2)]
    keyboard.stop()

    assert (first, later) == ("\x1b", ["j", "up"])


def test_a_terminal_can_be_given_back_and_taken_again(terminal: int) -> None:
    """It gets the modes that it had at first, whatever a shell did meanwhile."""
    keyboard = Keyboard(queue.SimpleQueue())
    before = termios.tcgetattr(terminal)

    for _ in range(2):
        keyboard.start()
        assert termios.tcgetattr(terminal)[3] != before[3]
        keyboard.stop()
        assert termios.tcgetattr(terminal)[3] == before[3]


def test_a_stop_and_its_end_are_keys_while_a_screen_is_there() -> None:
    """They wait in the queue; then the signals are what they were."""
    keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
    before = signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)

    with stopping(keys) as is_key:
        os.kill(os.getpid(), signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGCONT)

    assert is_key
    assert [keys.get(timeout=30.0), keys.get(timeout=30.0)] == [SUSPEND, CONTINUED]
    assert (signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)) == before


def test_a_stop_that_somebody_else_takes_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live run refuses it by itself; a system without it has none."""
    keys: queue.SimpleQueue[Key] = queue.SimpleQueue()
    with handled({signal.SIGTSTP: signal.SIG_IGN}), stopping(keys) as is_key:
        assert not is_key
    monkeypatch.delattr(signal, "SIGTSTP")
    with stopping(keys) as is_key:
        assert not is_key

    assert keys.empty()


def test_a_program_stops_as_a_shell_expects_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the signal itself, with its own effect, which is ours again afterwards."""
    sent: list[object] = []

    def kill(process: int, number: int) -> None:
        sent.append((process, number, signal.getsignal(signal.SIGTSTP)))

    monkeypatch.setattr(os, "kill", kill)
    with stopping(queue.SimpleQueue()):
        ours = signal.getsignal(signal.SIGTSTP)
        suspend()
        assert signal.getsignal(signal.SIGTSTP) is ours

    assert sent == [(os.getpid(), signal.SIGTSTP, signal.SIG_DFL)]


def test_ctrl_z_stops_a_replay_and_it_is_drawn_whole_when_it_goes_on(
    read_until: Callable[[int, bytes], bytes],
) -> None:
    """The shell gets its terminal back meanwhile: lines, cursor, mouse and the screen before."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    # A shell of the terminal that controls jobs: it goes on when the bot is stopped.
    jobs = '"$0" -m bot; stty -a; echo "stopped"; fg'
    script = 'exec sh -mc "$2" "$0" <"$1" >"$1" 2>&1'
    shell = ["sh", "-c", script, sys.executable, os.ttyname(slave), jobs]
    environment = {**os.environ, "TERM": "xterm-256color"}
    job = subprocess.Popen(shell, env=environment, start_new_session=True)

    painted = read_until(master, b"liquidation")
    os.write(master, b"\x1a")
    stopped = read_until(master, b"stopped")
    again = read_until(master, b"liquidation")
    os.write(master, b"q")
    left = read_until(master, b"run hash")

    assert b"\x1b[?1000h" in painted
    assert b"\x1b[?1000l" in stopped
    assert b"\x1b[?25h" in stopped
    assert b"\x1b[?1049l" in stopped
    assert b" icanon" in stopped
    assert b"\x1b[?1049h" in again
    assert b"run hash" in left
    assert job.wait(timeout=60) == 0
    os.close(master)
    os.close(slave)
