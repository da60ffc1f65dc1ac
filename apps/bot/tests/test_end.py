"""A program that is to end ends, whatever Python was about when it was to."""

import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from bot.__main__ import end_again


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
