"""How a line of the log is written: its fields in order, redacted, as JSON and in columns.

    Line ─► Rendering ─► structlog: level, redaction ─┬─► bytes, for the file
                                                      └─► columns, on the stream of people

structlog is loaded with the first line, on the thread that writes. Every text passes `redact`,
whatever it is of; what a terminal would act upon is a question mark.
"""

from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, TextIO

import msgspec
from dydx_conn import printable, redact

from bot.logs.events import Line
from bot.times import iso

_LONGEST: Final = 2_000  # characters of one text
_PRINTED: Final = ("warning", "message")  # what stands on stderr already

Logger = Any  # of structlog, whose loggers have the methods that they are made with


class Rendering:
    """Renders lines of one `run`, and prints them for people where there is a stream for that."""

    def __init__(self, run: str, human: TextIO | None) -> None:
        self._run, self._human = run, human
        self._loggers: tuple[Logger, Logger] | None = None

    def line(self, line: Line) -> bytes:
        """Return a line as the file has it, and print it for people."""
        if self._loggers is None:
            self._loggers = loggers(self._run, self._human)
        for_file, for_people = self._loggers
        fields = {"ts": iso(line.at), "wall": iso(line.wall), **line.fields}
        text: bytes = for_file.log(line.severity, line.event, **fields)
        if self._human is not None and line.event not in _PRINTED:
            del fields["wall"]
            self._print(for_people.log(line.severity, line.event, **fields))
        return text + b"\n"

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._human, flush=True)
        except (OSError, ValueError):
            self._human = None  # nobody reads it any more


# === structlog ===

_FIRST: Final = ("ts", "wall", "level", "event", "run")


def loggers(run: str, human: TextIO | None) -> tuple[Logger, Logger]:
    """Return what makes lines of JSON, as bytes, and lines for people, as text."""
    import structlog

    lowest = structlog.make_filtering_bound_logger(0)  # what is not wanted does not come so far

    def logger(*processors: Callable[..., Any], **known: str) -> Logger:
        steps = [structlog.processors.add_log_level, _redacted, *processors]
        made = structlog.wrap_logger(structlog.ReturnLogger(), steps, wrapper_class=lowest)
        return made.bind(**known)

    as_json = structlog.processors.JSONRenderer(serializer=_json)
    if human is None:
        return logger(_ordered, as_json, run=run), None
    colors = not human.closed and human.isatty()
    in_columns = structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="ts", sort_keys=False, pad_event_to=18
    )
    return logger(_ordered, as_json, run=run), logger(in_columns)


def _redacted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: redacted(name, value) for name, value in event.items()}


def redacted(name: str, value: Any) -> Any:
    """Return the value of a field, each text a line without secrets, and not too long."""
    if isinstance(value, str):
        return _short(name, value) if len(value) <= _SHORT else _clean(name, value)
    if isinstance(value, Mapping):
        return {redacted("", str(key)): redacted(str(key), part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(name, part) for part in value]
    return value


def _clean(name: str, text: str) -> str:
    text = text[: 10 * _LONGEST]
    # Beside its name: what is called a hash is none, and what is called a password is one.
    before = f"{name}="
    found = redact(before + text)
    found = found.removeprefix(before) if found.startswith(before) else redact(text)
    return printable(found)[:_LONGEST]


_SHORT: Final = 24  # of what comes again and again: tickers, sides, states
_short = lru_cache(maxsize=4_096)(_clean)


def _ordered(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    first = {name: event[name] for name in _FIRST if name in event}
    return {**first, **{name: value for name, value in event.items() if name not in first}}


def _json(event: Mapping[str, Any], **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)
