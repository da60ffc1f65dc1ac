"""How a run is ended by Ctrl-C, or politely by another signal: between two frames.

    signal ──► within a frame: noted ──► the end of the frame ──► Ended
        └────► between two, where it waits for the next one ────► Ended
        └────► once more, within the same frame ──► KeyboardInterrupt, which nobody reports on

A frame that was struck within would leave a fill without its position, and a report on half of it.
What takes these signals otherwise (a run with real orders, a worker) is left to it. Signals are of
the process, and of its main thread: so is what is noted here.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

# Which signals end a program.
ENDS: Final = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


class Ended(KeyboardInterrupt):
    """Somebody ended a run, which stands as its last whole frame left it."""


class _Ending:
    """Whether a frame is at hand, and whether it is to be the last."""

    def __init__(self) -> None:
        self.is_within = self.is_noted = False

    def take(self, *_: object) -> None:
        """Take a signal."""
        if not self.is_within:
            raise Ended
        if self.is_noted:
            raise KeyboardInterrupt
        self.is_noted = True


_ending: Final = _Ending()


def begin_frame() -> None:
    """Let nothing end the run until the frame at hand is taken; a second call does nothing."""
    _ending.is_within = True


def end_frame() -> None:
    """Let a run end from here on; `Ended` if somebody ended it meanwhile."""
    _ending.is_within = False
    if _ending.is_noted:
        raise Ended


def whole(take: Callable[[T], object]) -> Callable[[T], None]:
    """Return what takes each frame whole, and then lets a run end."""

    def taken(frame: T) -> None:
        _ending.is_within = True
        take(frame)
        end_frame()

    return taken


@contextlib.contextmanager
def between_frames() -> Iterator[None]:
    """Let whoever ends a run do so between two frames, by `Ended`; the second time at once."""
    default = signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    mine = [number for number in ENDS if is_main and signal.getsignal(number) is default]
    for number in mine:
        signal.signal(number, _ending.take)
    try:
        yield
        if mine:
            end_frame()
    finally:
        if mine:
            _ending.is_within = _ending.is_noted = False
        for number in mine:
            signal.signal(number, default)
