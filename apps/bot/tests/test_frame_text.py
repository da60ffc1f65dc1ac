"""The whole text of a frame that was chosen, down to its last letter."""

import io
from collections.abc import Iterator

import pytest
from bot.report.why import frame_lines
from bot.run.composition import Bot, Options
from bot.screen.screen import Screen
from dydx_conn import Frame, Recording, find_recording, replay
from rich.console import Console

RECORDING = find_recording("quickstart")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return the recording's first frames."""
    found = []
    for frame in Recording(RECORDING):
        found.append(frame)
        if frame.seq >= 60:
            break
    return found


@pytest.fixture
def screen() -> Iterator[Screen]:
    """Return the screen of a run that has just begun, the newest frames shown alone."""
    bot = Bot(Options(strategy="none"))
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    screen = Screen(bot, mode="REPLAY", name="quickstart", speed=20.0, console=console)
    bot.run(replay("quickstart", pace=lambda frame: frame.seq <= 60))
    try:
        screen._answer("0")
        yield screen
    finally:
        screen.terminal.dashboard.shutdown()


@pytest.mark.parametrize("key", ["w", "\r"])
def test_a_selected_frame_is_shown_whole(screen: Screen, key: str) -> None:
    """The list shows where its contents begin; the overlay every letter of it."""
    screen._answer("down")
    frame = screen.snapshot().wire.samples[max(screen.view.selected, 0)]

    screen._answer(key)

    assert frame.text in screen.view.why
    assert any(f"#{frame.seq} " in line and "letters:" in line for line in screen.view.why)


def test_a_frame_that_is_gone_from_the_screen_is_read_from_the_recording(
    frames: list[Frame],
) -> None:
    """Without one it is gone."""
    old = frames[4]

    head, text = frame_lines(old.seq, (), RECORDING)

    assert text == old.text
    assert head.startswith(f"#{old.seq} {old.link} {old.kind}")
    assert frame_lines(old.seq, frames, None) == [head, text]
    assert frame_lines(old.seq, (), None) == []
