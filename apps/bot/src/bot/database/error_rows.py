"""What goes wrong on the wire, counted by class, endpoint and minute.

    frame ──► Errors.note ──► counts of the minute ──► rows of errors, once a second

A class is what dydx_conn calls it, by what to do about it: an answer's by its status, a node's by
the chain's own number. Only the newest text of each is stored, without secrets.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from dydx_conn import (
    BadAnswer,
    BadRequest,
    Forbidden,
    Frame,
    NotFound,
    RateLimited,
    RestError,
    ServerError,
    Unreachable,
    meaning,
    printable,
    redact,
)

Row = dict[str, Any]

_MINUTE_NS: Final = 60_000_000_000
_MOST: Final = 500  # of one minute; beyond it what differs is counted together
_LONGEST: Final = 200
_SHOWN: Final = 2_000  # of a text, of which secrets are taken out

_BY_STATUS: Final[dict[int, type[RestError]]] = {
    0: Unreachable, 403: Forbidden, 404: NotFound, 429: RateLimited, 451: Forbidden,
}  # fmt: skip
_BY_HUNDRED: Final[dict[int, type[RestError]]] = {4: BadRequest, 5: ServerError}

_IN_ORDER: Final = "1000"  # of RFC 6455

# Whatever names one of many in a path.
_NAMES: Final = (
    (re.compile(r"/[a-z]+1[0-9a-z]{30,}(?=/|$)"), "/{address}"),
    (re.compile(r"/[A-Z0-9,.:]+-USD(?=/|$)"), "/{ticker}"),
    (re.compile(r"/[0-9a-f-]{36}(?=/|$)"), "/{id}"),
    (re.compile(r"/\d+(?=/|$)"), "/{number}"),
)


class Errors:
    """The errors of the minute at hand, and which of them are not written yet."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], int] = {}
        self._fresh: dict[tuple[int, str, str], str] = {}

    def note(self, frame: Frame) -> None:
        """Count what is wrong with a frame, if anything is."""
        if (found := error_of(frame)) is None:
            return
        kind, endpoint, sample = found
        key = frame.at - frame.at % _MINUTE_NS, kind, endpoint
        if key not in self._counts and len(self._counts) >= _MOST:
            key = key[0], kind, "others"
        self._counts[key] = self._counts.get(key, 0) + 1
        self._fresh[key] = sample

    def rows(self, at: int) -> Iterator[Row]:
        """Yield what was counted since the last call, each with the count of its whole minute."""
        fresh, self._fresh = self._fresh, {}
        for (minute, kind, endpoint), sample in fresh.items():
            count = self._counts[minute, kind, endpoint]
            yield {
                "minute": minute, "class": kind, "endpoint": endpoint, "count": count,
                "sample": printable(redact(sample[:_SHOWN]))[:_LONGEST],
            }  # fmt: skip
        over = at - at % _MINUTE_NS
        self._counts = {key: count for key, count in self._counts.items() if key[0] >= over}


def error_of(frame: Frame) -> tuple[str, str, str] | None:
    """Return class, endpoint and text of what is wrong with a frame, None if nothing is."""
    if frame.kind == "http":
        return _of_node(frame) if frame.link == "node" else _of_answer(frame)
    if frame.kind == "close" and frame.type == _IN_ORDER and not frame.text:
        return None  # whoever ends a connection, at the end of a run as well
    if frame.kind in ("close", "gap"):
        kind = "Disconnected" if frame.kind == "close" else "Gap"
        return kind, frame.channel or frame.link, frame.reason or frame.type
    if frame.fault:
        return "WireError", frame.channel or frame.link, frame.fault
    if frame.kind == "ws" and frame.is_refusal:
        return "Refused", frame.channel or frame.link, frame.text
    return None


def _of_answer(frame: Frame) -> tuple[str, str, str] | None:
    if frame.ok and not frame.fault:
        return None
    status, path = frame.status, frame.path
    for name, word in _NAMES:
        path = name.sub(word, path)
    found = _BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100, BadAnswer)
    return found.__name__, path, f"{frame.type} {frame.fault or frame.text}"


class _Result(msgspec.Struct):
    codespace: str = ""
    log: str = ""


class _Answer(msgspec.Struct):
    result: _Result | None = None


def _of_node(frame: Frame) -> tuple[str, str, str] | None:
    if frame.status == 0:
        return None
    try:
        result = msgspec.json.decode(frame.text, type=_Answer).result
    except msgspec.MsgspecError:
        result = None
    if result is None:
        return "Unreachable", f"node {frame.path}", frame.text
    why = f"{meaning(result.codespace, frame.status)} {result.log}"
    return f"{result.codespace} {frame.status}", f"node {frame.path}", why
