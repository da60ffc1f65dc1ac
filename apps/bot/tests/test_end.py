"""A program that is to end ends, whatever Python was about when it was to."""

import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from bot.__main__ import end_again


def test_an_end_that_python_loses_comes_again_a_moment_later() -> None:
    """It came while a generator was closed that nobody needs: from there nothing is raised."""

    def closing() -> Iterator[None]:
        try:
            yield
        finally:
            signal.raise_signal(signal.SIGINT)

    def run() -> None:
        for _ in closing():
            break  # nobody needs it any more
        threading.Event().wait(30.0)

    former, sys.unraisablehook = sys.unraisablehook, end_again
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
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
