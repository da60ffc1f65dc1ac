"""A tour: stops where something happens first, each with its panel and its text."""

import io
import os
import pty
import select
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bot.__main__ import main
from bot.run.composition import Bot, Options
from bot.screen.keyboard import SUSPEND
from bot.screen.screen import Screen
from bot.screen.tour import STAY_S, STOPS, Stop, Tour, TourScreen
from dydx_conn import Frame
from dydx_panels import PANELS
from rich.console import Console


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.title)
def test_a_stop_has_a_panel_and_three_lines_of_text(stop: Stop) -> None:
    """On a terminal of 80 columns nothing of it is cut."""
    assert stop.panel in ("", *PANELS)
    assert stop.key or not stop.panel
    assert len(textwrap.wrap(stop.text, 76)) <= 3


@pytest.mark.replays
def test_in_a_pipe_the_tour_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every stop of the bundled recording in order, with its panel; nothing was refused in it."""
    assert main(["tour"]) == 0

    printed = capsys.readouterr().out
    titles = [stop.title for stop in STOPS if stop.title != "the first refusal"]
    places = [printed.find(f"{n} · {title}\n") for n, title in enumerate(titles, 1)]
    assert -1 not in places
    assert places == sorted(places)
    for words in ("Decision walk", "Way out", "guard sold", "Candles", "Equity"):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_tour_passes_over_what_a_recording_does_not_hold(
    short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first minute has a decision and no crash; the last stop is there all the same."""
    assert main(["tour", str(short)]) == 0

    printed = capsys.readouterr().out
    assert "1 · the dashboard\n" in printed
    assert "· the first decision\n" in printed
    assert f"· {STOPS[-1].title}\n" in printed
    assert "guard sold" not in printed


@pytest.fixture
def screen(at_once: Callable[[Screen], Screen]) -> Screen:
    """Return a tour on a made-up terminal whose waits pass at once."""
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    return at_once(
        TourScreen(Bot(Options()), mode="REPLAY", name="quickstart", speed=200.0, console=console)
    )


def to_the_first_stop(screen: TourScreen, frames: list[Frame]) -> Iterator[Frame]:
    """Play until the tour stops; return the frames behind."""
    rest = iter(frames)
    while not (len(screen.bot.shown.distances) > 5 and screen.bot.shown.watched):
        screen.bot._take(next(rest))
    return rest


def test_a_stop_shows_its_text_and_goes_on_by_itself(
    screen: TourScreen, clock: Any, frames: list[Frame]
) -> None:
    """After some seconds, and the recording has stood still meanwhile."""
    rest, began = to_the_first_stop(screen, frames), clock.now

    assert screen.pace(next(rest))

    drawn = screen.terminal.console.file.getvalue()  # type: ignore[attr-defined]
    assert "the dashboard" in drawn
    assert "any key goes on" in drawn
    assert (clock.now - began) / 1e9 == pytest.approx(STAY_S, abs=0.2)
    assert screen.view.guide == ""


def test_any_key_goes_on_at_once(screen: TourScreen, clock: Any, frames: list[Frame]) -> None:
    """And does nothing else."""
    rest, began = to_the_first_stop(screen, frames), clock.now
    screen.terminal.keys.put("x")

    assert screen.pace(next(rest))

    assert (clock.now - began) / 1e9 < 0.2
    assert screen.view.panel == ""


def test_a_tour_that_is_stopped_goes_on_at_the_same_stop(
    screen: TourScreen, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's Ctrl-Z and fg are no keys of the tour."""
    rest, suspended = to_the_first_stop(screen, frames), list[bool]()

    def stopped(*, suspends: bool) -> str:
        suspended.append(suspends)
        screen.terminal.keys.put("q")
        return ""

    monkeypatch.setattr(screen.terminal, "stop_and_go_on", stopped)
    screen.terminal.keys.put(SUSPEND)
    screen.pace(next(rest))

    assert suspended == [True]


def test_q_leaves_the_tour(screen: TourScreen, frames: list[Frame]) -> None:
    """At a stop, as anywhere."""
    rest = to_the_first_stop(screen, frames)
    screen.terminal.keys.put("q")

    assert not screen.pace(next(rest))


def test_between_two_stops_keys_do_what_they_do(screen: TourScreen, frames: list[Frame]) -> None:
    """Before the first there is nothing to go on from."""
    screen.terminal.keys.put("t")

    assert screen.pace(frames[0])
    assert screen.view.panel == "tape"


def test_a_stop_names_the_key_of_its_panel(screen: TourScreen, clock: Any) -> None:
    """So that it is found again."""
    screen._halt_at(STOPS[1], clock.now)

    assert "5 shows decisions at any time" in screen.view.guide
    assert screen.view.panel == "decisions"


def test_the_last_stop_ends_the_tour(screen: TourScreen, clock: Any) -> None:
    """By itself, as the others go on."""
    began = clock.now

    assert not screen.stay()

    assert (clock.now - began) / 1e9 == pytest.approx(STAY_S, abs=0.2)
    assert screen.finished


def test_what_never_happens_is_passed_over() -> None:
    """A later stop that is due comes before an earlier one that is not."""
    bot = Bot(Options())
    stops = [Stop("a", lambda _: False, "", ""), Stop("b", lambda _: True, "", "")]
    tour = Tour(bot, stops)

    found = tour.look()

    assert found is stops[1]
    assert tour.look() is None
    assert tour.title(stops[1]) == "1 · b"


def test_on_a_terminal_the_tour_is_a_dashboard_and_q_leaves_it() -> None:
    """End to end: it stops, a key goes on, q gives the terminal back."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bot", "tour"]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)

    text = until(ours, b"the dashboard")
    os.write(ours, b"x")
    text += until(ours, b"the first decision")
    os.write(ours, b"q")
    text += until(ours, b"\x1b[?1049l")

    assert process.wait(timeout=30) == 0
    assert b"goes on" in text


def until(terminal: int, words: bytes) -> bytes:
    """Read what is drawn until some words are there."""
    text = b""
    while words not in text:
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, text[-2_000:]
        text += os.read(terminal, 65_536)
    return text
