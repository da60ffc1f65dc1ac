"""The bar of what takes long: drawn for who waits at a terminal, and for nobody else."""

import io
import re
import subprocess
import sys

import pytest
from bot.outlet import Outlet
from bot.progress import Progress, left


class Terminal(io.StringIO):
    """A stream at which a person looks."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> str:
        """Return all that was drawn, without its escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal of 100 columns that can draw."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def test_a_terminal_shows_how_much_is_done(terminal: Terminal) -> None:
    """With what it is, and a few words of what became of it."""
    with Progress("seeds", 4, terminal) as progress:
        for failed in range(4):
            progress.step(f"{failed} failed")

    assert progress.is_shown
    assert re.search(r"seeds .*4 of 4 .*3 failed", terminal.seen())


def test_it_is_gone_when_it_is_over(terminal: Terminal) -> None:
    """The report that follows begins where the bar was, and the cursor is there again."""
    with Progress("seeds", 4, terminal) as progress:
        progress.step()

    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")
    assert "\x1b[?25h" in terminal.getvalue()


def test_another_part_begins_with_nothing_done(terminal: Terminal) -> None:
    """In place of the first."""
    with Progress("seeds", 4, terminal) as progress:
        progress.at(3)
        progress.begin("failures shrunk", 2)
        progress.step()

    assert re.search(r"failures shrunk .*1 of 2", terminal.seen())


def test_rows_that_pass_are_counted_now_and_then(terminal: Terminal) -> None:
    """All of them are yielded."""
    with Progress("frames", 1_000, terminal) as progress:
        passed = [*progress.through(range(1_000))]

    assert passed == [*range(1_000)]
    assert "960 of 1,000" in terminal.seen()


@pytest.mark.parametrize("words", ["\x1b]0;EVIL\x07", "[bold]"])
def test_words_of_others_act_upon_no_terminal(terminal: Terminal, words: str) -> None:
    """A recording may be called anything."""
    with Progress(words, 1, Outlet(terminal)) as progress:
        progress.step(words)

    assert "\x1b]" not in terminal.getvalue()
    assert "\x07" not in terminal.getvalue()
    assert "[bold]" in terminal.seen() or words != "[bold]"


def test_a_pipe_gets_nothing() -> None:
    """What is iterated is the same."""
    pipe = io.StringIO()
    with Progress("seeds", 2, pipe) as progress:
        progress.begin("frames", 3)
        progress.at(1, "well")
        passed = [*progress.through("abc")]

    assert (passed, pipe.getvalue(), progress.is_shown) == (["a", "b", "c"], "", False)


@pytest.mark.parametrize("is_one_terminal", [True, False])
def test_a_line_of_the_report_goes_above_the_bar_or_to_stdout(
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_one_terminal: bool,
) -> None:
    """Where stdout is a file, nothing of it is lost to the terminal."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_one_terminal)

    with Progress("kills", 2, terminal) as progress:
        progress.line("killed after [3] s")

    shown = "killed after [3] s" in terminal.seen()
    assert shown is is_one_terminal
    assert capsys.readouterr().out == ("" if is_one_terminal else "killed after [3] s\n")


def test_in_a_pipe_nothing_is_loaded_for_it() -> None:
    """Rich takes a tenth of a second."""
    code = (
        "import sys; from bot.progress import Progress\n"
        "with Progress('seeds', 1) as progress: progress.step()\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.2, "0:00 left"), (69.6, "1:10 left"), (3_725, "1:02:05 left")],
)
def test_time_left_is_shown_as_a_clock_does(seconds: float | None, words: str) -> None:
    """Unknown is no word at all."""
    assert left(seconds) == words
