"""What goes wrong on the wire: of which class, at which endpoint, and how often, by the minute.

    frame ──► error_of ──► class, endpoint, text ──► Faults: rows of minutes, newest first
                                                └──► rows of the database (bot.database.error_rows)

A class is what dydx_conn calls it, by what to do about it: an answer's by its status, a node's by
the chain's own number. Only the newest text of each is stored, without secrets, and of a minute
and of the run no more than so many classes at endpoints: what differs beyond that is counted
together.
"""

import re
from collections import Counter
from itertools import islice
from typing import Final

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
)

from bot.outlet import one_line

MINUTE_NS: Final = 60_000_000_000
OTHERS: Final = "others"  # the endpoint of what is counted together
_PAIRS: Final = 200  # of a class and an endpoint, of one run
_ROWS: Final = 2_000  # of minutes that are remembered
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


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """So many of one class at one endpoint in a minute, which began at `minute` (event time, ns).

    `last` is when the newest came, `text` what it was: as it came, so that whoever shows it takes
    a sample of it (`sample_of`).
    """

    minute: int
    kind: str
    endpoint: str
    count: int
    last: int
    text: str


class Faults:
    """What went wrong in a run, since somebody looks: the newest minutes, and counts of all.

    Of the run's thread alone: what leaves it is frozen.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # by class and endpoint
        self.left_out = 0  # rows that are remembered no longer
        self._rows: dict[tuple[int, str, str], tuple[int, int, str]] = {}

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._rows)

    def take(self, frame: Frame) -> None:
        """Count what is wrong with a frame, if anything is."""
        if (found := error_of(frame)) is None:
            return
        kind, endpoint, text = found
        if (kind, endpoint) not in self.counts and len(self.counts) >= _PAIRS:
            endpoint = OTHERS
        self.counts[kind, endpoint] += 1
        row = frame.at - frame.at % MINUTE_NS, kind, endpoint
        count = self._rows[row][0] if row in self._rows else 0
        self._rows[row] = count + 1, frame.at, text[:_SHOWN]
        if len(self._rows) > _ROWS:
            del self._rows[next(iter(self._rows))]
            self.left_out += 1

    def page(self, first: int, most: int) -> tuple[Fault, ...]:
        """Return so many rows at most, newest minute first, from the `first` on (0 the newest)."""
        return tuple(
            Fault(minute=minute, kind=kind, endpoint=endpoint, count=count, last=last, text=text)
            for (minute, kind, endpoint), (count, last, text) in islice(
                reversed(self._rows.items()), first, first + most
            )
        )


def sample_of(text: str) -> str:
    """Return a text as it may be shown: without secrets, in print, and not too long."""
    return one_line(text[:_SHOWN], _LONGEST)


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
