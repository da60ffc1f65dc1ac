"""What others report beside the run: lines on stderr, and the standard logging of libraries.

    bot: warning: … on stderr ──► Aside (bot.outlet) ──┐
    logging of uvicorn, apprise, sqlalchemy … ─────────┴──► Line ──► writer

A library writes to no terminal: from warning on its records go through the log alone, redacted as
all else.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from bot.logs.events import Line
from bot.outlet import Aside

Put = Callable[[Line], None]

_OURS: Final = "bot: "
_WARNING: Final = "warning: "


class Reported(logging.Handler):
    """Takes records of libraries into a log; it never raises, and never waits."""

    def __init__(self, put: Put) -> None:
        super().__init__(logging.WARNING)
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            words = record.getMessage()
        except Exception:  # noqa: BLE001 - of a library that formats what it has not
            words = str(record.msg)
        fields = {"logger": record.name, "words": words}
        if record.exc_info and (error := record.exc_info[1]) is not None:
            fields["error"] = f"{type(error).__name__}: {error}"
        at = round(record.created * 1e9)
        level = min(record.levelno, logging.ERROR)
        self._put(Line(event="library", at=at, wall=at, level=level, fields=fields))


@contextlib.contextmanager
def followed(put: Put, is_known: Callable[[str], bool]) -> Iterator[None]:
    """Take what is reported beside a run into its log while it goes.

    That is also what this command has printed on stderr before; what `is_known` to the log by
    itself is left out.
    """

    def printed(text: str) -> None:
        if (line := printed_line(text)) is not None and not is_known(line.fields["words"]):
            put(line)

    handler, root = Reported(put), logging.getLogger()
    stream = sys.stderr if isinstance(sys.stderr, Aside) else None
    if stream is not None:
        for text in stream.lines:
            printed(text)
        stream.follow = printed
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        if stream is not None:
            stream.follow = None


def printed_line(text: str) -> Line | None:
    """Return the line of what was printed on stderr; None if it is no sentence of the bot."""
    if not text.startswith(_OURS):
        return None
    words, now = text.removeprefix(_OURS), time.time_ns()
    event = "warning" if words.startswith(_WARNING) else "message"
    return Line(event=event, at=now, wall=now, fields={"words": words.removeprefix(_WARNING)})
