"""A program that is to end ends, whatever it was about when it was to; a run between two frames."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from bot.__main__ import end_again
from bot.ending import Ended, begin_frame, between_frames, whole


def lose(number: int) -> None:
    """Get a signal from where nothing is raised, and go on."""

    def closing() -> Iterator[None]:
        try:
            yield
        finally:
            signal.raise_signal(number)

    for _ in closing():
        break  # nobody needs it any more
    threading.Event().wait(5.0)


def test_an_end_that_python_loses_comes_again_a_moment_later() -> None:
    """It came while a generator was closed that nobody needs: from there nothing is raised."""
    former, sys.unraisablehook = sys.unraisablehook, end_again
    try:
        with pytest.raises(KeyboardInterrupt):
            lose(signal.SIGINT)
    finally:
        sys.unraisablehook = former


def test_it_comes_again_where_ctrl_c_is_ignored() -> None:
    """As below nohup: whoever ends such a run sends another signal, which is not."""
    former, sys.unraisablehook = sys.unraisablehook, end_again
    ignoring = signal.signal(signal.SIGINT, signal.SIG_IGN)
    ending = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            lose(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, ending)
        signal.signal(signal.SIGINT, ignoring)
        sys.unraisablehook = former


def test_whatever_else_python_cannot_raise_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As it always is."""

    class Closing:
        def __del__(self) -> None:
            raise ValueError("no end of a program")

    former, sys.unraisablehook = sys.unraisablehook, end_again
    try:
        Closing()
    finally:
        sys.unraisablehook = former

    assert "ValueError: no end of a program" in capsys.readouterr().err


# === Between two frames ===


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def run(*steps: Callable[[], object]) -> None:
    """Do this as a run does, which may be ended between two frames."""
    with between_frames():
        for step in steps:
            step()


def unreached() -> None:
    """Be what a run that has ended does not come to."""
    pytest.fail("it goes on")


def test_a_frame_is_taken_whole_whatever_ends_the_run() -> None:
    """Ctrl-C within it ends the run behind it."""
    taken: list[str] = []

    def take(frame: str) -> None:
        interrupt()
        taken.append(frame)

    with pytest.raises(Ended):
        run(partial(whole(take), "a"), unreached)

    assert taken == ["a"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_noted_of_a_frame_before_it_is_taken_is_of_it() -> None:
    """A recording, say, has the frames that the run has."""
    taken: list[str] = []

    with pytest.raises(Ended):
        run(begin_frame, interrupt, partial(whole(taken.append), "a"), unreached)

    assert taken == ["a"]


def test_between_two_frames_it_ends_at_once() -> None:
    """As while it waits for the next one, or pauses."""
    with pytest.raises(Ended):
        run(partial(whole(str), "a"), interrupt, unreached)


def test_the_second_time_a_run_ends_at_once() -> None:
    """Nobody reports on half a frame: it is no `Ended`."""
    with pytest.raises(KeyboardInterrupt) as raised:
        run(begin_frame, interrupt, interrupt, unreached)

    assert raised.type is KeyboardInterrupt


def test_what_takes_a_signal_already_still_gets_it() -> None:
    """A run with real orders cancels them first."""
    got: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: got.append(number))
    try:
        run(interrupt)
    finally:
        signal.signal(signal.SIGINT, former)

    assert got == [signal.SIGINT]


def test_an_end_that_was_noted_is_none_of_the_next_run() -> None:
    """What a run raises otherwise comes first."""

    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        run(begin_frame, interrupt, fail)

    run(partial(whole(str), "a"))
