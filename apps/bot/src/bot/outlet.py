"""The one way out for text: what is printed acts upon no terminal, and shows no secret.

    print, argparse, tracebacks ──► Outlet ──► stdout, stderr
    dashboard, panels: cleaned cell by cell by dydx_panels ──► terminal

Texts of the venue, of a recording or of whoever typed may hold escape sequences, and a key typed in
the wrong place. `guarded` puts an outlet in the place of both streams for as long as a command
runs; what draws, with escape sequences of its own, writes to the stream behind it.
"""

import contextlib
import io
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, TextIO

from dydx_conn import printable, redact

_LINES: Final = 100  # of stderr that stay at hand
_LONGEST: Final = 4_000  # of one that has no end yet


def clean(text: str) -> str:
    """Return a text of one line or more as it may be printed."""
    return "\n".join(map(printable, redact(text).split("\n")))


def one_line(text: str, most: int = 0) -> str:
    """Return a text as one line without secrets, of `most` letters at most, 0 for any number."""
    text = printable(redact(text))
    return text if not most or len(text) <= most else f"{text[: most - 1]}…"


def as_lines(lines: Iterable[str]) -> str:
    """Join lines for printing: a line break within one makes no other of it."""
    return "\n".join(map(printable, lines))


class Outlet(io.TextIOBase):
    """Stands for a text stream; only clean text goes through."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, cleaned; each is looked at by itself."""
        self.stream.write(clean(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return whether a person may be looking."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the number of the file behind it."""
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Return how text becomes bytes."""
        return self.stream.encoding


class Aside(Outlet):
    """Stands for stderr: what cannot be printed there may end nothing.

    The newest whole `lines` stay at hand, and `follow` gets each from then on: a log has them too.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.follow: Callable[[str], None] | None = None
        self._begun = ""

    def write(self, text: str) -> int:
        """Write a text, cleaned, if that is possible."""
        with contextlib.suppress(OSError):
            super().write(text)
        *whole, self._begun = (self._begun + text).split("\n")
        self._begun = self._begun[-_LONGEST:]
        for line in whole:
            self.lines.append(line)
            if self.follow is not None:
                self.follow(line)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if that is possible."""
        with contextlib.suppress(OSError):
            super().flush()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let nothing out but clean text, while a command runs."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Outlet(out), Aside(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug as Python does, cleaned; for `sys.excepthook`."""
    with guarded():
        sys.__excepthook__(kind, error, trace)


def behind(stream: TextIO | Outlet) -> TextIO:
    """Return the stream behind an outlet: for what draws, and cleans what it draws."""
    return stream.stream if isinstance(stream, Outlet) else stream
