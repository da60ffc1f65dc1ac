"""The terminal is written sparingly and always given back."""

import io
import operator
import re

import pytest
from dydx_panels import Dashboard, HeaderPart, Snapshot, TapeRow, Theme, View, dashboard
from msgspec.structs import replace
from rich.console import Console


def terminal(width: int = 80, height: int = 24) -> Console:
    """Make a console that believes it is a terminal."""
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True,
        color_system="truecolor", legacy_windows=False, _environ={},
    )  # fmt: skip


def played(text: str, width: int, height: int) -> list[str]:
    """Play what was written on an empty screen: cursor moves, clears and letters."""
    screen = [[" "] * width for _ in range(height)]
    row = column = 0
    for escape, letter in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z])|(.)", text, re.DOTALL):
        if escape.endswith("H"):
            numbers = escape[2:-1].split(";")
            row, column = (int(numbers[0]) - 1, int(numbers[1]) - 1) if numbers[0] else (0, 0)
        elif escape.endswith("J"):
            screen = [[" "] * width for _ in range(height)]
        elif letter:
            screen[row][column] = letter
            column += 1
    return ["".join(cells) for cells in screen]


def test_what_is_written_is_what_is_drawn(full: Snapshot) -> None:
    """Played back, the escapes give the screen, with no letter outside it."""
    console, view = terminal(), View(selected=1)
    board = Dashboard(console)
    try:
        with console.capture() as capture:
            written = board.draw(full, view)
    finally:
        board.shutdown()

    assert 24 == written
    assert dashboard(full, view, 80, 24).text.split("\n") == played(capture.get(), 80, 24)


def test_only_the_rows_that_changed_are_written(full: Snapshot) -> None:
    """A tick of the clock is one row; nothing new is no row and no byte."""
    console = terminal()
    board = Dashboard(console)
    later = replace(full, header=replace(full.header, clock_ns=1_000_000_000))
    longer = replace(later, tape=(TapeRow(0, "gap", "new"), *full.tape))
    try:
        board.draw(full)
        with console.capture() as same:
            assert 0 == board.draw(replace(full))
        with console.capture() as ticked:
            assert 1 == board.draw(later)
        before, after = (dashboard(one, View(), 80, 24).rows for one in (later, longer))
        assert sum(map(operator.ne, before, after)) == board.draw(longer) > 1
    finally:
        board.shutdown()

    assert "" == same.get()
    assert "\x1b[1;1H" in ticked.get()
    assert "\x1b[2;1H" not in ticked.get()


def test_many_frames_end_at_the_screen_of_the_last(full: Snapshot) -> None:
    """However the rows were written, the sum of them is the newest screen."""
    console = terminal(120, 40)
    board = Dashboard(console)
    views = [View(), View(panel="book"), View(help=True), View(filter="eth"), View(paused=True)]
    try:
        with console.capture() as capture:
            for view in views:
                board.draw(full, view)
                board.draw(Snapshot(), view)
    finally:
        board.shutdown()

    assert dashboard(Snapshot(), views[-1], 120, 40).text == "\n".join(
        played(capture.get(), 120, 40)
    )


def test_a_new_size_redraws_everything(full: Snapshot) -> None:
    """Nothing of the old shape is left."""
    console = terminal()
    board = Dashboard(console)
    try:
        board.draw(full)
        console.size = (100, 30)
        with console.capture() as capture:
            assert 30 == board.draw(full)
    finally:
        board.shutdown()

    assert "\x1b[2J" in capture.get()
    assert dashboard(full, View(), 100, 30).text == "\n".join(played(capture.get(), 100, 30))


def test_the_terminal_is_given_back_once(full: Snapshot) -> None:
    """The alternate screen and the cursor are restored; a second shutdown does nothing."""
    console = terminal()
    board = Dashboard(console)
    with console.capture() as capture:
        try:
            board.draw(full)
        finally:
            board.shutdown()
            board.shutdown()

    assert 1 == capture.get().count("\x1b[?1049h") == capture.get().count("\x1b[?1049l")
    assert capture.get().rindex("\x1b[?25h") > capture.get().index("\x1b[?25l")


def crash(board: Dashboard, snapshot: Snapshot) -> None:
    """Fail between two pictures."""
    try:
        board.draw(snapshot)
        raise ZeroDivisionError
    finally:
        board.shutdown()


def test_the_terminal_is_given_back_after_a_crash(full: Snapshot) -> None:
    """`finally` is enough, whatever was raised."""
    console = terminal()
    board = Dashboard(console)
    with console.capture() as capture, pytest.raises(ZeroDivisionError):
        crash(board, full)

    assert "\x1b[?1049l" in capture.get()


def test_a_dashboard_that_never_drew_has_nothing_to_give_back() -> None:
    """No escape is written before the first picture."""
    console = terminal()
    with console.capture() as capture:
        Dashboard(console).shutdown()

    assert "" == capture.get()


def test_a_dashboard_may_be_opened_again(full: Snapshot) -> None:
    """After a shutdown the next picture is drawn whole."""
    board = Dashboard(terminal())
    try:
        assert 24 == board.draw(full)
        board.shutdown()
        assert 24 == board.draw(full)
    finally:
        board.shutdown()


def test_colours_are_written_as_the_terminal_can_show_them(full: Snapshot) -> None:
    """A terminal with all colours gets the palette's own."""
    console = terminal()
    board = Dashboard(console)
    try:
        with console.capture() as capture:
            board.draw(full)
    finally:
        board.shutdown()

    assert "38;2;47;191;143" in capture.get()


def test_no_colour_writes_no_colour(full: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is honoured by the console and by the theme made from it."""
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    board = Dashboard(console)
    try:
        with console.capture() as capture:
            board.draw(full)
    finally:
        board.shutdown()

    assert Theme(unicode=True, colours="") == Theme.of(console)
    assert re.search(r"\x1b\[[0-9;]*[34][0-8][;m]", capture.get()) is None


@pytest.mark.parametrize(
    ("chosen", "unicode"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "", "LC_CTYPE": "POSIX", "LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}, True),
    ],
)
def test_the_plain_locale_gets_ascii(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], unicode: bool
) -> None:
    """Where it was chosen; a container without any locale has a terminal that shows blocks."""
    for name, locale in chosen.items():
        monkeypatch.setenv(name, locale)

    assert Theme.of(Console(file=io.StringIO(), force_terminal=True)).unicode is unicode


def test_a_terminal_that_cannot_show_blocks_gets_ascii() -> None:
    """The encoding decides."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, height=24, force_terminal=True, legacy_windows=False)
    board = Dashboard(console)
    try:
        board.draw(Snapshot(header=HeaderPart(mode="REPLAY", speed=20.0)))
    finally:
        board.shutdown()
        file.flush()

    assert not Theme.of(console).unicode
    assert b"REPLAY x20" in file.buffer.getvalue()


def test_the_bell_rings_while_the_screen_is_shown() -> None:
    """Neither before nor after it: somebody else has the terminal then."""
    file = io.StringIO()
    board = Dashboard(Console(file=file, width=80, height=24, force_terminal=True))
    board.bell()
    try:
        board.draw(Snapshot())
        before = file.getvalue().count("\a")
        board.bell()
    finally:
        board.shutdown()
    board.bell()

    assert (before, file.getvalue().count("\a")) == (0, 1)
