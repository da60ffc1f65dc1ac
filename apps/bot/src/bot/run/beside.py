"""What goes beside a run on live frames, and decides nothing: recordings, logs, what outlives it.

    begin ──► note, of each frame before it enters ──► … ──► end, however the run ends

A run goes on whatever happens beside it: what fails is in `trouble`, in words, and looked at
between two frames (bot.live.troubles).
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from dydx_conn import Frame, Inbox

from bot.ending import begin_frame


class Beside(Protocol):
    """One thing beside a run; `name` is what its trouble is called by, "" while there is none."""

    name: str

    @property
    def trouble(self) -> str:
        """Return what is wrong with it, "" if nothing is."""

    def begin(self, inbox: Inbox) -> None:
        """Begin, before the first frame; what is put into the inbox comes before all others."""

    def note(self, frame: Frame) -> None:
        """Take a frame that is about to enter; it never raises, and never waits."""

    def end(self) -> None:
        """End: no frame comes any more."""


@runtime_checkable
class Counting(Protocol):
    """What counts what it does, as whoever writes down does."""

    def figures(self) -> dict[str, int]:
        """Return by name how much was written, waits or is lost; read from any thread."""


def noting(beside: Sequence[Beside]) -> Callable[[Frame], None]:
    """Return what shows a frame to each, in order."""
    notes = [one.note for one in beside]  # looked up once, and called of every frame

    def note(frame: Frame) -> None:
        begin_frame()
        for each in notes:
            each(frame)

    return note


@contextlib.contextmanager
def begun(beside: Sequence[Beside], inbox: Inbox) -> Iterator[None]:
    """Begin each, in order, and end all of them however the run ends."""
    with contextlib.ExitStack() as ends:
        for one in beside:
            ends.callback(one.end)
            one.begin(inbox)
        yield


def warned(one: Beside) -> int:
    """Print what is wrong with one at the end of a run; return the exit code, 0 if nothing is."""
    if one.trouble:
        print(f"bot: warning: {one.trouble}", file=sys.stderr)
    return int(bool(one.trouble))
