"""The live connection to dYdX v4: sockets that are watched, and the frames they carry.

    indexer sockets ── links ──┐
    indexer REST ── asker ─────┼─► inbox ─► live ──► Frame ─┬─► connection_states ─► ConnectionState
    whoever has an Inbox ──────┘                            └─► account_updates ───► AccountUpdate

`live` is the one source that opens sockets and starts threads; `Network` says where. A `Link` of
it holds one connection, counts its messages with `Continuity` and asks anew for what was lost;
where sockets fail, REST is asked instead. `connection_states` and `account_updates` are pure
folds over frames, live or replayed. All names of the floors below stand here too, so that one
import is enough for whoever reads frames.

Units: `at` and `mono` are nanoseconds, other times carry their unit in their name.
Sources: socks (v4-chain/indexer, lib/subscription.ts, websocket/index.ts), the official client's
IndexerSocket, websocket-client 1.9 (_app.py).
"""

import asyncio
import contextlib
import datetime
import math
import queue
import random
import re
import selectors
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import dydx_chain
import dydx_rest
import dydx_wire
import msgspec
from dydx_chain import *  # noqa: F403 - as below
from dydx_chain import ConnError, Network, Subaccount
from dydx_rest import *  # noqa: F403 - as above
from dydx_rest import Answer, NotFound, Rest, RestError, Unreachable
from dydx_wire import *  # noqa: F403 - who reads frames needs one import
from dydx_wire import (
    MAX_TEXT,
    AssetPositionFields,
    FillFields,
    Frame,
    FundingPaymentFields,
    HeightContents,
    OrderFields,
    Pacer,
    PositionFields,
    SubaccountFields,
    TransferFields,
    WireError,
    contents,
    fold,
    from_generator,
    ws_frame,
)
from reactivex import Notification, Observable, compose, operators

# One name a line would be a page.
# fmt: off
__all__ = [
    "PER_CONNECTION", "RECENT_NS", "STATES", "AccountUpdate", "ConnectionState", "Continuity",
    "Inbox", "account_updates", "connection_states", "key_of", "live", "subscriptions",
]
# fmt: on
__all__ += dydx_chain.__all__
__all__ += dydx_wire.__all__
__all__ += dydx_rest.__all__

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_DAY: Final = 1_440 * _MINUTE

# === Continuity ===

Key = tuple[str, str]  # a channel and an id: what a subscription is for

_REACH: Final = 1_024  # how many ids back a message may still come
_OVERDUE_NS: Final = 10 * _SECOND
_GLOBAL: Final = frozenset(["v4_markets", "v4_block_height"])  # their answers repeat the channel


def key_of(frame: Frame) -> Key:
    """Return what a message or a request is about; channels that have no ids have none here."""
    return (frame.channel, "" if frame.channel in _GLOBAL else frame.id)


@dataclass(slots=True, eq=False)
class Continuity:
    """One connection's message ids: which came, which are owed, which were lost.

    The venue counts over the whole connection: each request to subscribe or unsubscribe and each
    data message takes an id. A snapshot, or an error in its place, carries the id of its request
    and may come late; so of the holes in the count as many are explained as requests are
    unanswered, and one more is a loss. `asked` tells whether requests are seen at all:
    without them no hole before an answer proves anything. `lost` is how many the last gap was.
    """

    asked: bool = False
    last: int | None = None
    lost: int = 0
    owed: dict[Key, list[int]] = field(default_factory=dict)  # when each was asked, oldest first
    _holes: set[int] = field(default_factory=set)
    _open: set[int] = field(default_factory=set)  # of no concern any more, but may yet come
    _excused: set[int] = field(default_factory=set)  # spent by requests that were refused
    _doubt: int | None = None  # the number before a jump, until it is clear who was right

    def ask(self, frame: Frame) -> None:
        """Count a request, if the frame that was sent is one that will be answered late."""
        request = ws_frame(0, 0, 0, "", frame.text)
        if request.type == "subscribe":
            self.asked = True
            self.owed.setdefault(key_of(request), []).append(frame.mono)

    def take(self, frame: Frame) -> str:
        """Count one message; return what is wrong with its id, or "".

        "gap": `lost` ids before it are lost; "duplicate": it came before; "out_of_order": it
        came after its place. An id of 0 is no number, and nothing is judged by it.
        """
        number, last = frame.message_id, self.last
        if number - 1 == last and not self.owed and self._doubt is None and frame.type != "error":
            self.last = number
            return ""
        if frame.type == "connected" or (number and last is None):
            self._begin(number)
            return self._settle(frame)
        if not number or last is None:
            return ""
        # A snapshot is no witness: its id was taken before, and it may always come late.
        doubt = None
        if frame.type != "subscribed":
            doubt, self._doubt = self._doubt, None
        # An error has no number of its own: it says which was the newest, or its request's.
        owns = frame.type not in ("error", "pong")
        trouble, beyond = "", 0
        if number > last:
            self.last, beyond = number, max(number - _REACH - last - 1, 0)
            self._holes.update(range(last + 1 + beyond, number if owns else number + 1))
        elif owns and doubt is not None and doubt < number < last:
            # It goes on from before the jump: the number that jumped was the wrong one.
            self._begin(number)
        elif owns and not self._fill(number):
            return "duplicate"
        elif owns and frame.type != "subscribed":
            trouble = "out_of_order"
        self._settle(frame)
        self.lost = self._unexplained() + beyond
        if self.lost <= 0:
            return trouble
        self._open |= self._holes
        self._holes.clear()
        self._doubt = last
        return "gap"

    def forget(self) -> None:
        """Begin the count anew with the next message: what is lost before it has been said."""
        if self.last is not None:
            self._doubt, self.last = self.last, None

    def overdue(self, mono: int) -> list[Key]:
        """Return, and no longer expect, what was asked 10 s ago and never answered."""
        late = [key for key, asked in self.owed.items() if mono - asked[0] > _OVERDUE_NS]
        for key in late:
            self._answered(key)
            self._excuse()
        return late

    def _begin(self, number: int) -> None:
        # What came before is not known: it may all yet come.
        self.last, self._holes, self._excused = number, set(), set()
        self._open = set(range(max(1, number - _REACH), number))

    def _fill(self, number: int) -> bool:
        if number in self._excused:
            # The wrong one was excused: whose request was refused is another.
            self._excused.discard(number)
            self._excuse()
        elif number in self._holes or number in self._open:
            self._holes.discard(number)
            self._open.discard(number)
        else:
            return False
        return True

    def _settle(self, frame: Frame) -> str:
        if _is_answer(frame):
            if not self.asked:
                self._open |= self._holes
                self._holes.clear()
            if (key := _settled(frame, self.owed)) is not None:
                self._answered(key)
            # Some servers refuse with the id at hand, though the request's own is spent.
            if frame.type == "error" and frame.message_id not in self._open:
                self._excuse(frame.message_id)
        return ""

    def _answered(self, key: Key) -> None:
        if len(self.owed[key]) > 1:
            del self.owed[key][0]
        else:
            del self.owed[key]

    def _excuse(self, number: int = 0) -> None:
        if self._holes:
            number = number if number in self._holes else min(self._holes)
            self._holes.discard(number)
            self._excused.add(number)

    def _unexplained(self) -> int:
        return len(self._holes) - sum(map(len, self.owed.values())) if self._holes else 0


# What the venue says instead of a snapshot; of other errors there is nothing that they answer.
_REFUSALS: Final = (
    "could not fetch", "already subscribed", "Invalid subscription id",
    "Per-connection subscription limit", "Too many subscribe attempts",
)  # fmt: skip


def _is_answer(frame: Frame) -> bool:
    refuses = frame.channel != "" or any(words in frame.text for words in _REFUSALS)
    return frame.type == "subscribed" or (frame.type == "error" and refuses)


def _settled(frame: Frame, asked: Iterable[Key]) -> Key | None:
    """Return which request an answer is to; some refusals name none, or in their text alone."""
    key, rest = key_of(frame), list(asked)
    if key in rest or frame.channel or not rest:
        return key if key in rest else None
    return next((key for key in rest if "-".join(key) in frame.text), rest[0])


# === States ===


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A transition: what a link is from frame `seq` on, what it was, and why.

    `link` is a connection's name, "chain" for the venue's blocks, or "" for all together: they
    are what the worst of them is.
    """

    seq: int
    at: int
    link: str
    was: str
    state: str
    reason: str


# From the best to the worst.
STATES: Final = ("live", "subscribing", "connecting", "stale", "backing_off", "polling", "closed")
_LOSS: Final = {"close": "backing_off", "give_up": "polling", "end": "closed"}
# What is not in the table changes nothing. `answered`: nothing that was asked is open any more;
# `word`: something was said; `silence`: nothing was, for too long.
_TABLE: Final[dict[str, dict[str, str]]] = {
    "connecting": {"open": "subscribing", "word": "live", "silence": "stale", **_LOSS},
    "subscribing": {"answered": "live", "silence": "stale", **_LOSS},
    "live": {"gap": "subscribing", "silence": "stale", **_LOSS},
    "stale": {"open": "subscribing", "word": "live", **_LOSS},
    "backing_off": {"attempt": "connecting", "open": "subscribing", **_LOSS},
    "polling": {"open": "subscribing", "end": "closed"},
    "closed": {},
}
_SILENCE_NS: Final = 30 * _SECOND
_NO_BLOCK_NS: Final = 10 * _SECOND
_LAG_NS: Final = 30 * _SECOND
_LASTING_NS: Final = 5 * _SECOND  # a connection that held for so long was no failed attempt
_ATTEMPTS: Final = 5
_CLOCK: Final = ("", "clock")  # whose ticks are the time's; a link's own is a new attempt

_Event = tuple[str, str, str]  # a link, what happened to it, and why


@dataclass(slots=True, eq=False)
class _Watched:
    heard: int  # when it said or did something last, on the monotonic clock
    state: str = "connecting"
    reason: str = ""
    opened: int = 0
    failures: int = 0
    asked: dict[Key, None] = field(default_factory=dict)  # in the order of asking


class _Connections:
    """How all links stand: the fold behind `connection_states`, and what `live` acts upon."""

    def __init__(self) -> None:
        self.links: dict[str, _Watched] = {}
        self._overall = "connecting"
        self._height = 0
        self._last = Frame(0, 0, 0, "", "tick")

    def step(self, frame: Frame) -> list[ConnectionState]:
        """Fold one frame; return the transitions it makes, that of all together last."""
        self._last = frame
        what = _EVENTS.get(frame.kind)
        named = frame.link or frame.kind in ("gap", "tick")
        return self._turn(frame, what(self, frame)) if what and named else []

    def end(self) -> list[ConnectionState]:
        """Close all links: no frame will come any more."""
        return self._turn(self._last, [(name, "end", "the frames ended") for name in self.links])

    def _turn(self, frame: Frame, events: Iterable[_Event]) -> list[ConnectionState]:
        made: list[ConnectionState] = []
        for name, event, reason in events:
            link = self.links[name]
            state = _TABLE[link.state].get(event, link.state)
            if state != link.state:
                made.append(_transition(frame, name, link.state, state, reason))
                link.state, link.reason = state, reason
        if made:
            name, worst = max(self.links.items(), key=lambda item: STATES.index(item[1].state))
            reason = "all links are" if worst.state == "live" else f"{name}: {worst.reason}"
            if worst.state != self._overall:
                made.append(_transition(frame, "", self._overall, worst.state, reason))
                self._overall = worst.state
        return made

    def _link(self, frame: Frame) -> _Watched:
        return self.links.setdefault(frame.link, _Watched(frame.mono))

    def _on_message(self, frame: Frame) -> Iterator[_Event]:
        link = self.links.get(frame.link) or self._link(frame)
        link.heard = frame.mono
        if _is_answer(frame):
            if (key := _settled(frame, link.asked)) is not None:
                del link.asked[key]
            if not link.asked:
                yield frame.link, "answered", "all that was asked is answered"
        elif link.state != "live" and frame.type != "connected":
            yield frame.link, "word", "it speaks"
        if frame.channel == "v4_block_height":
            yield from self._on_block(frame)

    def _on_block(self, frame: Frame) -> Iterator[_Event]:
        for height, time_ns in _blocks(frame):
            if height <= self._height and frame.type != "subscribed":
                continue
            chain = self.links.setdefault("chain", _Watched(frame.mono))
            self._height, chain.heard, lag_ns = height, frame.mono, frame.at - time_ns
            # A stand-in, or its recording, may live in another year than its receiver.
            late = _LAG_NS < lag_ns < _DAY
            reason = f"block {height} is {lag_ns / _SECOND:.0f} s behind the clock"
            yield "chain", "silence" if late else "word", reason if late else f"block {height}"

    def _on_sent(self, frame: Frame) -> Iterator[_Event]:
        request = ws_frame(0, 0, 0, "", frame.text)
        if request.type == "subscribe":
            self._link(frame).asked[key_of(request)] = None
        yield from ()

    def _on_open(self, frame: Frame) -> Iterator[_Event]:
        link = self._link(frame)
        link.opened = link.heard = frame.mono
        link.asked.clear()
        yield frame.link, "open", "connected"

    def _on_close(self, frame: Frame) -> Iterator[_Event]:
        link = self._link(frame)
        lasted = link.opened and frame.mono - link.opened > _LASTING_NS
        link.opened, link.failures = 0, 0 if lasted else link.failures + 1
        code = "" if frame.type in ("", "0") else f"{frame.type} "
        reason = f"{code}{frame.text or 'closed'}"
        if link.failures >= _ATTEMPTS:
            yield frame.link, "give_up", f"{link.failures} attempts failed, at last: {reason}"
        else:
            yield frame.link, "close", reason

    def _on_gap(self, frame: Frame) -> Iterator[_Event]:
        for name, link in self.links.items():
            if link.opened and frame.link in ("", name):
                yield name, "gap", frame.text

    def _on_tick(self, frame: Frame) -> Iterator[_Event]:
        if frame.link not in _CLOCK:
            self._link(frame).heard = frame.mono
            yield frame.link, "attempt", "the wait is over"
            return
        for name, link in self.links.items():
            what, most_ns = _PATIENCE.get(name, ("message", _SILENCE_NS))
            if (silence_ns := frame.mono - link.heard) > most_ns:
                yield name, "silence", f"no {what} for {silence_ns / _SECOND:.0f} s"


def _transition(frame: Frame, link: str, was: str, state: str, reason: str) -> ConnectionState:
    return ConnectionState(
        seq=frame.seq, at=frame.at, link=link, was=was, state=state, reason=reason
    )


_PATIENCE: Final = {"chain": ("new block", _NO_BLOCK_NS)}
_EVENTS: Final[dict[str, Callable[[_Connections, Frame], Iterable[_Event]]]] = {
    "ws": _Connections._on_message,
    "http": _Connections._on_block,
    "sent": _Connections._on_sent,
    "open": _Connections._on_open,
    "close": _Connections._on_close,
    "gap": _Connections._on_gap,
    "tick": _Connections._on_tick,
}


def _blocks(frame: Frame) -> Iterator[tuple[int, int]]:
    if frame.kind == "http" and not frame.channel.startswith("/v4/height"):
        return
    # What cannot be read is no block; the layer above counts it.
    with contextlib.suppress(WireError, ValueError, ArithmeticError):
        for block in contents(frame):
            if isinstance(block, HeightContents):
                moment = datetime.datetime.fromisoformat(block.time)
                moment = moment.replace(tzinfo=moment.tzinfo or datetime.UTC)
                time_ns = (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
                yield int(block.block_height or block.height), time_ns


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def connection_states() -> Callable[[Observable[Frame]], Observable[ConnectionState]]:
    """Tell each transition of each link, and of all together, with its reason.

    Cold if the source is; replays nothing; on the source's thread; the same frames make the same
    transitions. When the source completes all links are closed, and so is the stream.

        frames  --open--ws--tick----close--|
        states  --s-----l---s--------b-----c|
    """

    def step(state: _Connections, event: Notification[Frame]) -> list[ConnectionState]:
        if event.kind == "E":
            raise event.exception  # type: ignore[attr-defined]  # of OnError alone
        return state.step(event.value) if event.has_value else state.end()

    return compose(operators.materialize(), fold(_Connections, step))


# === Accounts ===


class AccountUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What became known of subaccount `owner`/`number` in frame `seq`.

    `what` says what `value` is: an order (all that is known of it, however little the frame
    said), a fill, position, asset, transfer, funding payment, or the subaccount's sum; of a frame
    that cannot be read, which is unreadable, the reason.
    """

    seq: int
    at: int
    owner: str
    number: int
    what: str
    value: Any


RECENT_NS: Final = 1_500_000_000  # what the socket said so lately, an answer may not know yet
_REMEMBERED: Final = 10_000  # things of a kind; the oldest is forgotten

# What is told of an account, and what makes it the same thing when it is told again.
_THINGS: Final[dict[type, tuple[str, tuple[str, ...]]]] = {
    SubaccountFields: ("subaccount", ()),
    OrderFields: ("order", ("id",)),
    FillFields: ("fill", ("id",)),
    PositionFields: ("position", ("market",)),
    AssetPositionFields: ("asset", ("symbol",)),
    # By the socket it has no id.
    TransferFields: (
        "transfer",
        ("transaction_hash", "created_at_height", "type", "size", "symbol", "sender", "recipient"),
    ),
    FundingPaymentFields: ("funding", ("ticker", "created_at")),
}
_ONCE: Final = (FillFields, TransferFields, FundingPaymentFields)  # they happened, and stay so
_SUBACCOUNT = re.compile(r"/v4/addresses/([^/]+)/(?:s|parentS)ubaccountNumber/(\d+)")
_LISTS = re.compile(r"/v4/(orders|fills|transfers|fundingPayments)(/parentSubaccount(Number)?)?")
_ACCOUNTS: Final = ("v4_subaccounts", "v4_parent_subaccounts")


class _Ledger:
    """What accounts have, each thing as it was said last."""

    def __init__(self) -> None:
        self._known: dict[type, dict[Any, Any]] = {kind: {} for kind in _THINGS}
        self._said: dict[type, dict[Any, int]] = {kind: {} for kind in _THINGS}

    def step(self, frame: Frame) -> Iterator[AccountUpdate]:
        """Return what is new in a frame; what was known already, from wherever, is not."""
        told = None if frame.fault else _account_of(frame)
        if told is None:
            return
        owner, number = told
        update = partial(AccountUpdate, seq=frame.seq, at=frame.at, owner=owner)
        try:
            rows = [*self._rows(contents(frame), owner, number)]
        except (WireError, ValueError) as error:
            yield update(number=number, what="unreadable", value=str(error))
            return
        for child, row in rows:
            if (value := self._learn(frame, (owner, child), row)) is not None:
                yield update(number=child, what=_THINGS[type(row)][0], value=value)

    def _rows(self, part: Any, owner: str, number: int) -> Iterator[tuple[int, Any]]:
        if isinstance(part, (list, dict)):
            for each in part.values() if isinstance(part, dict) else part:
                yield from self._rows(each, owner, number)
            return
        own = getattr(part, "subaccount_number", None)
        number = number if own is None else int(own)
        if type(part) in _THINGS:
            yield number, part
        if isinstance(part, SubaccountFields):
            yield from self._closed(part, owner, number)
        if isinstance(part, SubaccountFields) or type(part) not in _THINGS:
            for name in getattr(part, "__struct_fields__", ()):
                yield from self._rows(getattr(part, name), owner, number)

    def _closed(
        self, part: SubaccountFields, owner: str, number: int
    ) -> Iterator[tuple[int, PositionFields]]:
        # A sum names every open position: what it does not name was closed unseen.
        if part.child_subaccounts:
            return
        for key, known in self._known[PositionFields].items():
            unnamed = known.market not in part.open_perpetual_positions
            if key[:2] == (owner, number) and known.status == "OPEN" and unnamed:
                yield number, msgspec.structs.replace(known, status="CLOSED", size="0")

    def _learn(self, frame: Frame, who: tuple[str, int], row: Any) -> Any:
        kind = type(row)
        known, said = self._known[kind], self._said[kind]
        key = (*who, *(_plain(getattr(row, name)) for name in _THINGS[kind][1]))
        was = known.get(key)
        if frame.kind == "ws":
            said[key] = frame.mono
        elif frame.mono - said.get(key, -RECENT_NS) < RECENT_NS:
            return None
        now = row if was is None else was if kind in _ONCE else _merged(was, row)
        if now == was:
            return None
        known[key] = now
        for kept in (known, said):
            if len(kept) > _REMEMBERED:
                del kept[next(iter(kept))]
        return now


def _merged(was: Any, row: Any) -> Any:
    # A part that is not said again is as it was.
    said = {k: v for k, v in msgspec.structs.asdict(row).items() if v is not None}
    return msgspec.structs.replace(was, **said)


def _plain(value: Any) -> Any:
    return msgspec.structs.astuple(value) if isinstance(value, msgspec.Struct) else value


class _Addressed(msgspec.Struct, rename="camel"):
    subaccount_number: Any = None


def _account_of(frame: Frame) -> tuple[str, int] | None:
    if frame.kind == "ws" and frame.channel in _ACCOUNTS:
        owner, _, number = frame.id.partition("/")
        # On a parent's channel the envelope names the child.
        child = msgspec.json.decode(frame.text, type=_Addressed).subaccount_number
        at = child if isinstance(child, int) else int(number) if number.isdecimal() else None
        return None if at is None else (owner, at)
    if frame.kind != "http":
        return None
    path, _, query = frame.channel.partition("?")
    if one := _SUBACCOUNT.fullmatch(path):
        return one[1], int(one[2])
    asked = dict(parse_qsl(query)) if _LISTS.fullmatch(path) else {}
    number = asked.get("subaccountNumber", asked.get("parentSubaccountNumber", ""))
    return (asked.get("address", ""), int(number)) if number.isdecimal() else None


def account_updates() -> Callable[[Observable[Frame]], Observable[AccountUpdate]]:
    """Tell what changes of accounts: each order, fill and balance, from sockets and answers.

    Hot or cold as the source is, on its thread; replays nothing; ends with it. A fill, transfer or
    payment comes once, whoever tells of it first; an order or position when it changes.

        frames   --s------f--f---|
        updates  --opa----f------|
    """
    return fold(_Ledger, _Ledger.step)


# === Subscriptions ===

PER_CONNECTION: Final = 32  # subscriptions to one channel that a connection may hold (socks)
_BATCHED: Final = frozenset(["v4_markets", "v4_orderbook", "v4_trades", "v4_candles"])


def subscriptions(
    tickers: Iterable[str],
    resolutions: Iterable[str] = (),
    subaccount: Subaccount | None = None,
    *,
    parent: bool = False,
) -> list[list[Key]]:
    """Spread what is asked for over as few connections as hold it; the first has all that is one.

    >>> [len(keys) for keys in subscriptions([f"M{n}-USD" for n in range(40)])]
    [66, 16]
    """
    resolutions = tuple(resolutions)
    keys = [("v4_markets", ""), ("v4_block_height", "")]
    for ticker in dict.fromkeys(tickers):
        keys += [("v4_orderbook", ticker), ("v4_trades", ticker)]
        keys += [("v4_candles", f"{ticker}/{resolution}") for resolution in resolutions]
    if subaccount is not None:
        keys.append((_ACCOUNTS[parent], f"{subaccount.owner}/{subaccount.number}"))
    counts: Counter[str] = Counter()
    groups: defaultdict[int, list[Key]] = defaultdict(list)
    for channel, id_ in keys:
        groups[counts[channel] // PER_CONNECTION].append((channel, id_))
        counts[channel] += 1
    return [*groups.values()]


# === Inbox ===


class Inbox:
    """The one place where other threads' words cross over: put here, they come out of `live`.

    Thread-safe, never full, never waits. Stamped where they are put, numbered where `live` takes
    them, in the order in which they were put.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def put(
        self, kind: str, text: str = "", type: str = "", channel: str = "", id: str = "",
        message_id: int = 0, *, link: str,
    ) -> None:  # fmt: skip
        """Make a frame of this; its parts mean what they mean in `Frame`."""
        stamps = (time.time_ns(), time.monotonic_ns(), link, kind)
        self._queue.put((*stamps, text, type, channel, id, message_id))

    def take(self, seq: int, timeout_s: float) -> Frame | None:
        """Return what was put first as frame number `seq`; None if nothing came in time."""
        try:
            at, mono, link, kind, text, *rest = self._queue.get(timeout=max(timeout_s, 0))
        except queue.Empty:
            return None
        if kind == "ws":
            return ws_frame(seq, at, mono, link, text)
        return Frame(seq, at, mono, link, kind, text, *rest)


# === Links ===

# At once after a mere loss; about once a second while a venue restarts, as most are back within a
# quarter of a minute and what is waited beyond that is data missed; then ever more rarely.
_BACKOFF_S: Final = (0.02, 0.25, *[0.5] * 4, *[1.0] * 12, 2.0, 4.0, 8.0, 15.0, 30.0)
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.1  # how often a silent link looks at the clock
# Whoever is quiet is asked, so that a busy link which is half open is found within 5 s; and
# everyone now and then, so that any is within 20 s.
_PING_S: Final = 14.0
_QUIET_S: Final = 1.5
_PONG_S: Final = 3.0
_WHOLE_S: Final = 20.0
# A key may be subscribed to twice a second; on the way requests may come closer together.
_AGAIN_S: Final = 1.1


class _Link(threading.Thread):
    """One connection, kept open: subscribe, listen, and after a loss try again.

    All that is read, written and pinged is so on this thread: TLS allows for no other. What is
    read goes to the inbox, so that nothing a subscriber does keeps the venue's ping waiting.
    """

    def __init__(self, url: str, name: str, keys: list[Key], inbox: Inbox) -> None:
        super().__init__(name=name, daemon=True)
        self.keys = keys
        self._url, self._put = url, partial(inbox.put, link=name)
        self._stopping = threading.Event()
        self._app: Any = None
        self._opened: Any = None
        self._closed = (0, "")
        self._wanted: queue.SimpleQueue[tuple[Key, float]] = queue.SimpleQueue()
        self._due: dict[Key, float] = {}
        self._asked: dict[Key, float] = {}
        self._size, self._since = 0, 0.0  # of the message that is coming in

    def again(self, keys: Iterable[Key], after_s: float = 0.0) -> None:
        """Ask anew for what was lost, from any thread: as soon as the venue allows."""
        for key in keys:
            self._wanted.put((key, time.monotonic() + after_s))

    def drop(self, reason: str) -> None:
        """Hang up, from any thread, and so begin anew."""
        self._note(0, reason)
        # Not the client's close(): that reads the venue's answer away from our thread, which
        # waits for it. Nor SSLSocket's shutdown: that would say goodbye in plain text.
        with contextlib.suppress(AttributeError, TypeError, OSError):
            self._app.keep_running = False
            socket.socket.shutdown((self._opened or self._app.sock).sock, socket.SHUT_RDWR)

    def leave(self) -> None:
        """Begin to end, from any thread: with a goodbye, if there is anyone to say it to."""
        self._stopping.set()
        if self._opened is None:
            self.drop("leaving")
        else:
            self._app.keep_running = False

    def end(self) -> None:
        """Wait for the end: a second for the goodbye, then hang up."""
        self.join(timeout=1.0)
        if self.is_alive():
            self.drop("leaving")
            self.join(timeout=1.0)

    def run(self) -> None:
        """Connect, again and again, until told to leave."""
        failures = 0
        while not self._stopping.is_set():
            self._closed, begun_ns = (0, ""), time.monotonic_ns()
            self._put("tick")
            self._listen()
            code, reason = self._closed
            self._put("close", reason, str(code))
            # A venue that greets and drops us is as gone as one that does not answer.
            if time.monotonic_ns() - begun_ns > _LASTING_NS:
                failures = 0
            wait = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            # Jitter, or every bot of a restarted venue comes back in the same instant.
            self._stopping.wait(wait * random.uniform(0.5, 1.0))

    def _listen(self) -> None:
        from dydx_v4_client.indexer.socket.websocket import IndexerSocket

        self._opened = None
        app: Any = IndexerSocket(
            self._url,
            # Called before it connects, where alone one socket can be given a timeout: else a
            # host that takes the connection and says nothing would be waited for in silence.
            header=lambda: app.sock.settimeout(_TIMEOUT_S) or [],
            on_close=lambda _, code, reason: self._note(code or 0, reason or "closed"),
            on_error=lambda _, error: self._lost(error),
        )
        # The client would parse every message; frames keep the text.
        app.on_message = lambda _, text: self._message(text)
        # Its own loop writes pings on a second thread, by a wall clock that may be set.
        dispatcher = app.create_dispatcher(None)
        dispatcher.read = self._read
        app.create_dispatcher = lambda *_: dispatcher
        self._app = app
        # Its own connect() would leave certificates unchecked.
        app.run_forever(
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True},
            skip_utf8_validation=True,
            suppress_origin=True,
        )
        if self._opened is not None:
            self._opened.shutdown()  # the client leaves it open if the venue said goodbye first

    def _subscribe(self, key: Key, *, anew: bool = False) -> None:
        from dydx_v4_client.indexer.socket.websocket import Channel

        channel = Channel(self._app)
        channel.channel, id_ = key
        names = {"id": id_} if id_ else {}
        if anew:
            channel.unsubscribe(**names)
        self._asked[key] = time.monotonic()
        channel.subscribe(**names, **({"batched": True} if channel.channel in _BATCHED else {}))

    def _say(self, send: Callable[[str], None], text: str) -> None:
        self._put("sent", text)
        send(text)

    # -- Reading

    def _read(self, sock: Any, read: Callable[[], bool], _check: Callable[[], bool]) -> None:
        self._begin(self._app.sock)
        pending = getattr(sock, "pending", lambda: 0)
        heard = pinged = due = time.monotonic()
        answer_due = math.inf
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            while self._app.keep_running:
                ready = pending() or selector.select(_POLL_S)
                if ready and not read():
                    return None
                now = time.monotonic()
                heard = now if ready else heard
                if now < due:
                    continue
                due = now + _POLL_S
                self._ask_anew(now)
                if heard > pinged:  # by whatever: the pong may wait behind it
                    answer_due = math.inf
                elif now >= answer_due:
                    return self.drop(f"expected an answer to a ping within {_PONG_S:g} s")
                if now >= min(pinged + _PING_S, heard + _QUIET_S) and answer_due == math.inf:
                    self._app.sock.ping()
                    pinged, answer_due = now, now + _PONG_S
        return None

    def _begin(self, opened: Any) -> None:
        self._opened = opened
        if self._stopping.is_set():
            self._app.keep_running = False
            return
        # The client follows where it is led, also to where nothing is encrypted.
        if self._url.startswith("wss:") and not isinstance(opened.sock, ssl.SSLSocket):
            raise ConnError(f"expected {self._url} to stay encrypted, but it led elsewhere")
        buffer = opened.frame_buffer
        buffer.recv = partial(self._receive, opened, buffer.recv)
        self._put("open", self._url)
        # What we ask is a frame too: it tells a snapshot that is late from one that is lost.
        self._app.send = partial(self._say, self._app.send)
        self._due, self._asked, self._wanted = {}, {}, queue.SimpleQueue()
        for key in self.keys:
            self._subscribe(key)

    def _ask_anew(self, now: float) -> None:
        while not self._wanted.empty():
            key, due = self._wanted.get()
            self._due[key] = min(due, self._due.get(key, math.inf))
        for key, due in [*self._due.items()]:
            if now >= max(due, self._asked.get(key, 0.0) + _AGAIN_S):
                del self._due[key]
                self._subscribe(key, anew=True)

    def _receive(self, opened: Any, receive: Callable[[int], bytes], most: int) -> bytes:
        # The client would take in a message without end, or wait for one for ever.
        now, buffer = time.monotonic(), opened.frame_buffer
        if buffer.header is None and opened.cont_frame.cont_data is None:
            self._size, self._since = 0, now
        if (size := max(self._size, buffer.length or 0)) > MAX_TEXT:
            raise ConnError(f"expected a message of at most {MAX_TEXT} bytes, got {size} or more")
        if now - self._since > _WHOLE_S:
            raise ConnError(f"expected a message to be whole within {_WHOLE_S:g} s")
        chunk = receive(most)
        self._size += len(chunk)
        return chunk

    def _message(self, text: str | bytes) -> None:
        self._put("ws", text if isinstance(text, str) else text.decode("utf-8", "replace"))

    # -- Losing

    def _lost(self, error: Any) -> None:
        # The venue's goodbye comes as an error too; an HTTP status is no close code.
        code = getattr(error, "status_code", None) or 0
        if code >= 1000:
            self._note(code, error.reason or "closed")
        self._note(0, f"{type(error).__name__}: {error}")

    def _note(self, code: int, reason: str) -> None:
        # The first word on why it ended is the true one; what follows are echoes.
        if not self._closed[1]:
            self._closed = (code, reason)


# === Answers ===

_RACE_S: Final = 3.0  # what is asked so long after a snapshot knows what that has missed
_ROUND_S: Final = 1.0  # answers are cached for a second
_ROWS: Final = 100
_RACING: Final = frozenset(["v4_orderbook", *_ACCOUNTS])
_MARKETS: Final[Key] = ("v4_markets", "")
_Question = Callable[[], Awaitable[Answer[Any]]]


class _Asker(threading.Thread):
    """Who asks REST: for the markets, after the race of a snapshot, and where a socket fails.

    The answers are frames by way of the inbox; a question that stays unanswered is one gap frame.
    """

    def __init__(self, network: Network, inbox: Inbox) -> None:
        super().__init__(name="rest", daemon=True)
        self._put = partial(inbox.put, link="rest")
        self._rest = Rest(network, on_answer=self._answered, timeout_s=_TIMEOUT_S)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._tasks: dict[Any, asyncio.Task[Any]] = {}
        self._unanswered: set[Key | None] = set()  # None: nobody is there to answer anything
        # Hundreds of markets take turns; accounts do not wait behind them.
        self._turn = asyncio.Semaphore(8)

    def mend(self, key: Key) -> None:
        """Ask, from any thread, for what the snapshot of a key may have missed."""
        if key[0] in _RACING:
            self._call(self._start, key, partial(self._later, key))

    def poll(self, link: str, keys: Iterable[Key]) -> None:
        """Ask, from any thread, for all that a link carried, round after round."""
        for key in keys:
            self._call(self._start, (link, key), partial(self._rounds, key))

    def spare(self, link: str, keys: Iterable[Key]) -> None:
        """Ask no more, from any thread, for what a link carries again."""
        for key in keys:
            self._call(self._end, (link, key))

    def leave(self) -> None:
        """Begin to end, from any thread."""
        self._call(self._stopping.set)

    def end(self) -> None:
        """Wait for the end, which nothing delays."""
        self.join(timeout=2.0)

    def run(self) -> None:
        """Ask until told to leave."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        async with self._rest:
            self._start(_MARKETS, partial(self._in_turn, _MARKETS))
            await self._stopping.wait()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _call(self, do: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(do, *arguments)

    def _start(self, name: Any, ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._end(name)
        self._tasks[name] = self._loop.create_task(ask())

    def _end(self, name: Any) -> None:
        if task := self._tasks.pop(name, None):
            task.cancel()

    async def _later(self, key: Key) -> None:
        await asyncio.sleep(_RACE_S)
        while not await self._in_turn(key):
            await asyncio.sleep(_RETRY_S)

    async def _rounds(self, key: Key) -> None:
        while True:
            next_due = self._loop.time() + _ROUND_S
            await (self._in_turn(key) if key[0] in _BY_TICKER else self._ask(key))
            await asyncio.sleep(max(next_due - self._loop.time(), 0.0))

    async def _in_turn(self, key: Key) -> bool:
        async with self._turn:
            return await self._ask(key)

    async def _ask(self, key: Key) -> bool:
        channel, id_ = key
        try:
            for ask in _QUESTIONS[channel](self._rest, id_):
                if (await ask()).stale:
                    raise Unreachable("it fails, and what it said before is old")
        except NotFound:
            pass  # the answer is that there is nothing: an account was never funded, say
        except RestError as error:
            what = None if isinstance(error, Unreachable) else key
            if what not in self._unanswered:
                self._unanswered.add(what)
                asked = f"expected REST to answer for {channel} {id_}".rstrip()
                self._put("gap", f"{asked}, but: {type(error).__name__}: {error}")
            return False
        self._unanswered -= {None, key}
        return True

    def _answered(self, _method: str, path: str, status: int, body: str, _headers: Any) -> None:
        self._put("http", body, str(status), path)


def _account(rest: Rest, id_: str, *, parent: bool) -> list[_Question]:
    owner, _, number = id_.partition("/")
    of: dict[str, Any] = {"subaccount": Subaccount(owner, int(number)), "parent": parent}
    return [
        partial(rest.subaccount, **of),
        partial(rest.orders, **of, limit=_ROWS),
        partial(rest.fills, **of, limit=_ROWS),
    ]


def _candles(rest: Rest, id_: str) -> list[_Question]:
    ticker, _, resolution = id_.partition("/")
    return [partial(rest.candles, ticker, resolution, limit=_ROWS)]


_BY_TICKER: Final = frozenset(["v4_orderbook", "v4_trades", "v4_candles"])
# What to ask in place of a channel: what its snapshot is made from.
_QUESTIONS: Final[dict[str, Callable[[Rest, str], list[_Question]]]] = {
    "v4_markets": lambda rest, _: [rest.perpetual_markets],
    "v4_block_height": lambda rest, _: [rest.height],
    "v4_orderbook": lambda rest, id_: [partial(rest.order_book, id_)],
    "v4_trades": lambda rest, id_: [partial(rest.trades, id_, limit=_ROWS)],
    "v4_candles": _candles,
    "v4_subaccounts": partial(_account, parent=False),
    "v4_parent_subaccounts": partial(_account, parent=True),
}


# === Live ===

_TICK_S: Final = 1.0
_RETRY_S: Final = 5.0


def live(
    network: Network,
    tickers: Iterable[str],
    *,
    subaccount: Subaccount | None = None,
    parent: bool = False,
    resolutions: Iterable[str] = (),
    pace: Pacer | None = None,
    inbox: Inbox | None = None,
) -> Observable[Frame]:
    """Receive a network's frames: markets, blocks, and each ticker's book, trades and candles.

    With a `subaccount` its account too, or as `parent` that of all its children; `resolutions`
    are of the candles. What others put into `inbox` comes out among the rest.

    Cold: each subscriber opens connections of its own (share it), and receives on its own
    thread, inside `subscribe`, until `pace` says False or it is disposed; no error ends it. Lost
    messages are a gap frame before the one that shows it, and are asked for anew. A lost
    connection is a close frame, and is opened anew; after five attempts in vain REST is polled
    meanwhile. A tick of "clock" passes every second, one of a link with each attempt.

        live  --tick-open-ws-ws-gap-ws-tick-close--tick-open-
    """
    keys = subscriptions(tickers, resolutions, subaccount, parent=parent)
    return from_generator(partial(_receive, network, keys, pace, inbox))


def _receive(
    network: Network, groups: list[list[Key]], pace: Pacer | None, inbox: Inbox | None
) -> Generator[Frame]:
    inbox = inbox or Inbox()
    links = {f"c{n}": _Link(network.ws, f"c{n}", keys, inbox) for n, keys in enumerate(groups, 1)}
    asker = _Asker(network, inbox)
    watch = _Watch(links, asker)
    threads: list[_Asker | _Link] = [asker, *links.values()]
    for thread in threads:
        thread.start()
    tick_due, seq = time.monotonic() + _TICK_S, 0
    try:
        while True:
            if time.monotonic() >= tick_due:
                tick_due += _TICK_S
                inbox.put("tick", link="clock")
            frame = inbox.take(seq + 1, tick_due - time.monotonic())
            for each in watch.frames(frame) if frame is not None else ():
                if pace is not None and not pace(each):
                    return
                yield each
                seq = each.seq
    finally:
        for thread in threads:
            thread.leave()
        for thread in threads:
            thread.end()


class _Watch:
    """What `live` does about what it sees: tell of gaps, ask anew, hang up, poll."""

    def __init__(self, links: Mapping[str, _Link], asker: _Asker) -> None:
        self._links, self._asker = links, asker
        self._ids = {name: Continuity() for name in links}
        self._connections = _Connections()

    def frames(self, frame: Frame) -> list[Frame]:
        """Return a frame, and before it the gaps that it shows; see to what they ask for."""
        gaps = self._gaps(frame)
        for n, gap in enumerate(gaps):
            gaps[n] = msgspec.structs.replace(gap, seq=frame.seq + n)
        if gaps:
            frame = msgspec.structs.replace(frame, seq=frame.seq + len(gaps))
        for each in (*gaps, frame):
            for turn in self._connections.step(each):
                if turn.link in self._links:
                    self._turned(self._links[turn.link], turn)
        return [*gaps, frame]

    def _gaps(self, frame: Frame) -> list[Frame]:
        ids = self._ids.get(frame.link)
        if frame.kind == "tick":
            return [*self._overdue(frame)] if frame.link in _CLOCK else []
        if ids is None:
            return []
        if frame.kind == "open":
            self._ids[frame.link] = Continuity()
        elif frame.kind == "sent":
            ids.ask(frame)
        elif frame.kind == "ws":
            return self._judged(ids, frame)
        return []

    def _judged(self, ids: Continuity, frame: Frame) -> list[Frame]:
        link, trouble = self._links[frame.link], ids.take(frame)
        if frame.type == "subscribed":
            self._asker.mend(key_of(frame))
        elif frame.type == "error" and "could not fetch" in frame.text and frame.channel:
            link.again([key_of(frame)], _RETRY_S)
        if trouble == "out_of_order" or (frame.channel == "v4_orderbook" and not _readable(frame)):
            link.again([key_of(frame)])  # nobody can say what it would have changed
        if trouble != "gap":
            return []
        # Anything that the link carries may have been among it; what is owed comes anyway.
        link.again(key for key in link.keys if key not in ids.owed)
        why = f"{ids.lost} messages lost before message_id {frame.message_id}"
        return [_gap(frame, frame.link, ids.lost, why)]

    def _overdue(self, frame: Frame) -> Iterator[Frame]:
        for name, ids in self._ids.items():
            if late := ids.overdue(frame.mono):
                # Its hole may have been another's: the gap costs all that the link carries.
                link = self._links[name]
                link.again(key for key in link.keys if key in late or key not in ids.owed)
                what = ", ".join(" ".join(key).strip() for key in late[:3])
                why = f"{len(late)} answers overdue: {what}{' …' if len(late) > 3 else ''}"
                yield _gap(frame, name, len(late), why)

    def _turned(self, link: _Link, turn: ConnectionState) -> None:
        if turn.state == "polling":
            self._asker.poll(link.name, link.keys)
        elif turn.state == "live":
            self._asker.spare(link.name, link.keys)
        elif turn.state == "stale":
            link.drop(turn.reason)


def _readable(frame: Frame) -> bool:
    try:
        return bool(contents(frame)) or frame.type == "error"
    except WireError:
        return False


def _gap(frame: Frame, link: str, lost: int, why: str) -> Frame:
    return Frame(frame.seq, frame.at, frame.mono, link, "gap", why, message_id=lost)
