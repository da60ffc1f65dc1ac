"""What may go wrong around a run on live frames, and takes neither its guard nor its exits down.

    recording, audit log, halt on disk ──► Troubles.look ──► an act that halts ──► nothing enters
    terminal closed, Ctrl-Z ──► Terminal ──────┘        └──► screen, status, report, exit code

Nothing is traded that is not written down, and nothing enters that nobody can watch: a lost
recording, audit log or terminal halts, on paper as with real orders, because paper is where a
person learns what would happen. What is held is guarded and may leave. A lost recording stays off:
frames after a hole would replay to another run.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from dydx_conn import ConnError, Frame, Header, Inbox, Network, RecordingWriter

from bot.hangup import passed
from bot.run.acts import act
from bot.run.beside import Beside
from bot.run.composition import Bot
from bot.system import by_number, reason

# === Recording ===
# The frames of a run, written down for as long as that is possible.


class Recorder:
    """Writes frames to a new recording; `ConnError` if it cannot be begun, `trouble` if it ends."""

    name = "recorder"

    def __init__(self, path: Path, net: Network, run: str = "", settings: str = "") -> None:
        if path.exists():
            raise ConnError(f"expected a path where nothing is yet, got {path}, which exists")
        try:
            self._writer = RecordingWriter(path, Header.of(net, run, settings=settings))
        except OSError as error:
            raise ConnError(
                f"expected to write a recording to {path}, got {reason(error)}"
            ) from None
        self.trouble, self._noted = "", 0

    def figures(self) -> dict[str, int]:
        """Return how many frames are written, and how many of them a kill would leave."""
        return {"written": self._noted, "safe on disk": self._writer.whole}

    def begin(self, inbox: Inbox) -> None:
        """Have begun already: a path that is no good is refused before the network is looked at."""

    def note(self, frame: Frame) -> None:
        """Write a frame down, unless the recording has ended."""
        if not self.trouble:
            with self._ending():
                self._writer.write_frame(frame)
                self._noted += 1

    def end(self) -> None:
        """End the recording; a second call does nothing."""
        if not self.trouble:
            with self._ending():
                self._writer.close()

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"expected to record to {self._writer.path}, got {error.strerror or error}"
            self.trouble = f"{what}: it ends with frame {self._writer.whole} and stays off"


@contextlib.contextmanager
def recorder(
    path: Path | None, net: Network, run: str = "", settings: str = ""
) -> Iterator[list[Beside]]:
    """Write the frames of a run to a recording, if a path was given: one, or none."""
    if path is None:
        yield []
        return
    recording = Recorder(path, net, run, settings)
    try:
        yield [recording]
    finally:
        recording.end()


# === Terminal ===
# A terminal that is closed, or that wants to stop the run.

_REFUSED: Final = "Ctrl-Z is refused: the guard would stop as well (q or Ctrl-C ends the run)"
# Of whoever reads or writes in the background; a stop would be the guard's.
_IGNORED: Final = ("SIGTTIN", "SIGTTOU")


Handler = Callable[..., object] | signal.Handlers


@contextlib.contextmanager
def handled(
    handlers: Mapping[int, Handler], left: Collection[Handler] = (signal.SIG_IGN, passed)
) -> Iterator[None]:
    """Take signals, and give them back at the end; those are `left` that somebody ignores."""
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        if before[number] not in left:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


class Terminal:
    """The terminal of a run on live frames: `trouble` once it is lost."""

    name = "terminal"

    def __init__(self) -> None:
        self.trouble = ""
        self._refusals = 0

    def lose(self, why: str) -> None:
        """Note that nobody can watch any more."""
        what = f"expected a terminal to the run's end, got {why}"
        ends = "it ends when nothing is held, and bot status reaches it"
        self.trouble = self.trouble or f"{what}: {ends}"

    def refused(self) -> str:
        """Return what to tell whoever wanted to stop the run, once."""
        refusals, self._refusals = self._refusals, 0
        return _REFUSED if refusals else ""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take the terminal's signals, but those that somebody ignores already (nohup)."""

        def stopped(*_: object) -> None:
            self._refusals += 1

        handlers: dict[str, Handler] = {
            "SIGHUP": lambda *_: self.lose("a hangup"),
            "SIGTSTP": stopped,
            **dict.fromkeys(_IGNORED, signal.SIG_IGN),
        }
        with handled(by_number(handlers)):
            yield


# === Troubles ===
# All of them, looked at between two frames.

# Those that halt: a halt that cannot be stored is one already.
_HALTING: Final = ("recorder", "audit", "terminal")


class Troubles:
    """Looks at what may go wrong; each trouble is noted, and acts, once."""

    def __init__(
        self, bot: Bot, inbox: Inbox, sources: Mapping[str, Callable[[], str]], *, prints: bool
    ) -> None:
        self._bot, self._inbox, self._prints = bot, inbox, prints
        self._sources = (*sources.items(),)  # walked at each frame

    def look(self) -> None:
        """Note what is wrong by now; what halts puts its act in."""
        found = self._bot.shown.troubles
        for who, trouble in self._sources:
            if (words := trouble()) and who not in found:
                found[who] = words
                self.warn(words)
                if who in _HALTING:
                    act(self._inbox, who, "halt", words)

    def warn(self, words: str) -> None:
        """Print a line at once, where no dashboard would be in its way."""
        if self._prints:
            print(f"bot: warning: {words}", file=sys.stderr)

    @property
    def is_over(self) -> bool:
        """Return whether the terminal is lost, and nothing is left to guard or to cancel."""
        account = self._bot.risk.account
        left = account.trouble or account.orders.open or self._bot.risk.positions()
        return "terminal" in self._bot.shown.troubles and not left
