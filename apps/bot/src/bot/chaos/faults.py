"""Faults: a recording played as it would have come on a bad day, the same day for each seed.

    recording ─► Tape ─► Wire (truth ─► faults ─► edge) ─► Frame

`plan` draws the faults of a seed from `FAULTS`, the table of all kinds; `faulted` plays a tape
with them put in: a source for `Bot.run`, like `replay`. `Wire` knows beside it what is true:
`delivered` holds each book as of the newest server message that has arrived.

True to the wire: a lost message leaves a hole in its connection's message ids, the server goes on
counting, and what arrives is numbered (`seq`) and stamped as received. Synthesised, because no
recording can hold it: the edge, which counts ids with `Continuity` as `live` does and resubscribes
to every channel of a connection with a hole (50 ms later, at most once in 1.1 s; again where an
answer is 10 s overdue); the server's confirmations under its next ids, and snapshots of the true
state, which arrive late under the id that their request took. In between the server sends no update
of that channel: its race between a snapshot and the first update is left out. Account channels are
not resubscribed: a paper run does not read them. Candles come back empty. A corrupt byte is one
that is no UTF-8 any more: a digit flipped to another digit cannot be detected, and TLS lets none
through. The edge reports holes in gap frames to the bots of odd seeds; for even seeds it is silent,
as a recorder is, and the bots must find the holes themselves.

Time is the frames' own and chance comes from the seed: nothing here waits or reads a clock.
"""

import heapq
import re
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec
from dydx_conn import BookContents, ConnError, Continuity, Frame, contents, key_of, ws_frame

__all__ = [
    "FAULTS",
    "Fault",
    "Kind",
    "Ladders",
    "Tape",
    "Wire",
    "faulted",
    "plan",
    "words_of",
]

_MS: Final = 1_000_000
_SECOND: Final = 1_000_000_000
_BOOK: Final = "v4_orderbook"
_TRADES: Final = "v4_trades"
_REST_BOOK: Final = "/v4/orderbooks/perpetualMarket/"

_LevelText = tuple[str, str]
Ladders = tuple[dict[float, _LevelText], dict[float, _LevelText]]
"""Bids and asks as the wire had them: price to (price text, size text)."""
_Change = tuple[int, float, _LevelText | None]  # a side (0 is bids), a price, what stands there now
_Topic = tuple[str, str]  # a channel and an id
_SentAt = tuple[int, int]  # when a message was sent (mono), and after which others

# === Tape ===
# A recording, decoded once, and from which frame to which frame faults may come.


class Tape:
    """A recording decoded once: its frames, and the updates in each message.

    `ready` is where every subscription has been answered: faults come after it. The tape ends
    before the recording's own first loss or close after that: from there on the true state is
    unknown. `ConnError` if that leaves too little.
    """

    def __init__(self, frames: Iterable[Frame], seconds: float | None = None) -> None:
        self.frames = list(frames)
        self.subscribed: dict[str, list[_Topic]] = {}
        self.ready = self._find_ready()
        del self.frames[self._find_end(seconds) :]
        self.decoded = [_decoded(frame) for frame in self.frames]
        books = [
            (what[1], link) for link, all_ in self.subscribed.items() for what in all_ if _of(what)
        ]
        self.link_of = dict(books)
        if not books or len(self.frames) < self.ready + _FEWEST:
            raise ConnError(
                f"expected a recording of books with {_FEWEST} frames or more between their last "
                f"subscription and its first loss or its end, got {len(books)} books and "
                f"{max(len(self.frames) - self.ready, 0)} frames"
            )

    def second(self, index: int) -> float:
        """Return how far a frame is from the beginning, in seconds; -1 is the last one."""
        return (self.frames[index].mono - self.frames[0].mono) / _SECOND

    def _find_ready(self) -> int:
        ready = 0
        for index, frame in enumerate(self.frames):
            if frame.is_snapshot:
                what, known = key_of(frame), self.subscribed.setdefault(frame.link, [])
                ready = ready if what in known else index + 1
                known += [what] if what not in known else []
        return ready

    def _find_end(self, seconds: float | None) -> int:
        last: dict[str, int] = {}
        for index, frame in enumerate(self.frames):
            number = frame.message_id
            if index >= self.ready:
                late = bool(seconds) and self.second(index) >= (seconds or 0)
                follows = frame.kind == "ws" and number == last[frame.link] + 1
                if late or not (follows or frame.kind in ("tick", "http")):
                    return index
            last[frame.link] = max(last.get(frame.link, 0), number)
        return len(self.frames)


_FEWEST: Final = 100


def _of(what: _Topic, channel: str = _BOOK) -> bool:
    return what[0] == channel


def _decoded(frame: Frame) -> list[Any]:
    """Decode a message: the changes of a book, or the updates of another channel as JSON."""
    answer = frame.ok and key_of(frame)[0] == _BOOK
    if not answer and (frame.kind != "ws" or frame.fault or frame.type not in _WITH_CONTENTS):
        return []
    if frame.channel == _BOOK or answer:
        return [change for update in contents(frame) for change in _changes(update)]
    updates = msgspec.json.decode(frame.raw)
    return updates if isinstance(updates, list) else [updates]


_WITH_CONTENTS: Final = ("subscribed", "channel_data", "channel_batch_data")


def _changes(update: BookContents) -> Iterator[_Change]:
    for side, levels in enumerate((update.bids, update.asks)):
        for price, size in levels:
            yield side, float(price), (price, size) if float(size) else None


# === Plan ===
# Which faults a seed draws, and where; the kinds of fault are the table `FAULTS` at the end.


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that goes wrong before the recorded frame `index`; `on` is a link or a ticker.

    `amount` is in the unit of its kind. `seed` is its own: it stays what it is when others are
    left out.
    """

    number: int
    kind: str
    index: int
    on: str
    amount: int
    seed: int


def plan(tape: Tape, seed: int) -> list[Fault]:
    """Draw the faults of a seed, in the order in which they come; seed 0 has none."""
    dice = Random(seed)
    end = tape.ready + (len(tape.frames) - tape.ready) * 9 // 10
    at, drawn = tape.ready, list[Fault]()
    for number in range(1, dice.randint(3, 8) + 1):
        kind = dice.choice(list(FAULTS))
        # Trouble seldom comes alone, and it hurts most while the last one is being repaired.
        soon = dice.random() < 0.4 and number > 1
        at = min(at + dice.randrange(60), end) if soon else dice.randrange(tape.ready, end)
        fault = Fault(
            number=number,
            kind=kind,
            index=at,
            on=dice.choice(list(tape.subscribed if FAULTS[kind].of_link else tape.link_of)),
            amount=dice.randint(FAULTS[kind].least, FAULTS[kind].most),
            seed=dice.randrange(2**32),
        )
        drawn.append(fault)
    return sorted(drawn, key=lambda fault: (fault.index, fault.number)) if seed else []


def faulted(tape: Tape, faults: Iterable[Fault], *, announces: bool = True) -> Generator[Frame]:
    """Play a tape with faults put in, as fast as frames are pulled.

    With `announces` a gap frame reports each hole, before the message that shows it.
    """
    return Wire(tape, faults, announces=announces).frames()


# === Truth ===

# What the recording has sent so far, to compare the bot with and to make snapshots of. It is no
# venue: it matches nothing, and it shares no code with the fold that it judges.


class _Truth:
    """Books, trades and markets as the recording has them, undisturbed by faults."""

    def __init__(self) -> None:
        self.books: dict[str, Ladders] = {}
        self._markets: dict[str, dict[str, Any]] = {}
        self._trades: defaultdict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=100))
        self._block: dict[str, Any] = {}

    def learn(self, channel: str, id_: str, updates: list[Any], *, whole: bool = False) -> None:
        """Apply the updates of a message; `whole` is a snapshot."""
        if channel == _BOOK:
            _take_in(self.books, id_, updates, whole=whole)
        for update in updates if channel == _TRADES else ():
            self._trades[id_].extendleft(update["trades"][:: -1 if whole else 1])
        for update in updates if channel == "v4_markets" else ():
            for part in update.values():
                for ticker, fields in part.items():
                    self._markets.setdefault(ticker, {}).update(fields)
        for update in updates if channel == "v4_block_height" else ():
            height = update.get("height") or update.get("blockHeight")
            self._block = {"height": height, "time": update["time"]}

    def snapshot(self, channel: str, id_: str) -> Any:
        """Return the contents of a channel's snapshot as of now."""
        if channel == _BOOK:
            return _levels(self.books[id_])
        if channel == _TRADES:
            return {"trades": list(self._trades[id_])}
        return {"v4_markets": {"markets": self._markets}, "v4_block_height": self._block}.get(
            channel, {"candles": []}
        )

    def uncrossed(self, ticker: str) -> Ladders:
        """Return a book as REST answers it: uncrossed, a hundred levels a side."""
        bids, asks = self.books[ticker]
        lowest = min(asks, default=float("inf"))
        best_bids = sorted((price for price in bids if price < lowest), reverse=True)[:100]
        return {p: bids[p] for p in best_bids}, {p: asks[p] for p in sorted(asks)[:100]}


def _take_in(
    books: dict[str, Ladders], ticker: str, changes: Iterable[_Change], *, whole: bool
) -> None:
    if whole:
        books[ticker] = ({}, {})
    if ticker in books:
        for side, price, level in changes:
            if level is None:
                books[ticker][side].pop(price, None)
            else:
                books[ticker][side][price] = level


def _levels(book: Ladders) -> dict[str, list[dict[str, str]]]:
    bids, asks = (sorted(side.items()) for side in book)
    ladder = {"bids": reversed(bids), "asks": asks}
    return {
        side: [{"price": price, "size": size} for _, (price, size) in levels]
        for side, levels in ladder.items()
    }


def _as_changes(book: Ladders) -> list[_Change]:
    return [(side, price, level) for side in (0, 1) for price, level in book[side].items()]


# === Wire ===
# The server, the connections and the edge, simulated: what is sent, what arrives, what is
# requested again. Faults act on it through its public methods alone.

_Action = Callable[..., Iterable[Frame]]


@dataclass(slots=True, eq=False)
class _Hit:
    """A fault at work on the next messages of a connection."""

    kind: str
    way: "_Way"
    dice: Random
    left: int


@dataclass(slots=True, eq=False)
class _Link:
    """One connection: what the server numbered, what arrived, what the edge waits for."""

    name: str
    identity: str = ""
    number: int = 0  # the id that the server gave last
    life: int = 0  # what is under way dies with its connection
    up: bool = True
    stalled_until: int = 0
    troubled_at: int = 0  # when a fault was at work last
    hits: list[_Hit] = field(default_factory=list)
    under_way: dict[int, str] = field(default_factory=dict)  # ids, and the fault that hit them
    unanswered: dict[int, tuple[_Topic, str, int]] = field(default_factory=dict)  # answers, when
    doubted_until: int = 0  # ids may well look wrong for so long
    missing: dict[int, str] = field(default_factory=dict)  # those that later ones came before
    missed: set[int] = field(default_factory=set)  # all that ever were
    mute: set[_Topic] = field(default_factory=set)  # what is not subscribed at the moment
    log: deque[tuple[_SentAt, str, Sequence[_Change], bool]] = field(default_factory=deque)
    ids: Continuity = field(default_factory=Continuity)  # the edge's own count
    wanted: list[_Topic] = field(default_factory=list)  # what the edge is about to request
    requested_at: int = 0

    def lose(self) -> None:
        """Lose the connection, and all that is under way on it."""
        self.life += 1
        self.up = False
        self.number = self.stalled_until = self.requested_at = self.doubted_until = 0
        self.identity = f"chaos-{self.name}-{self.life}"
        self.ids = Continuity()
        for part in (
            self.under_way,
            self.missing,
            self.missed,
            self.unanswered,
            self.mute,
            self.log,
            self.wanted,
        ):
            part.clear()

    def reveal(self, number: int, now: int) -> None:
        """Find what is missing now that a later message has come, or that is no more."""
        for n in [n for n in self.under_way if n < number]:
            self.missing[n] = self.under_way.pop(n)
        self.under_way.pop(number, None)
        self.missing.pop(number, None)
        if number in self.missed:
            self.doubted_until = now + _SECOND
        self.missed.update(self.missing)


class _Schedule:
    """The time of a run, and what is still to happen in it; all times in ns of the mono clock."""

    def __init__(self) -> None:
        self.now = self.skew_ns = self._base_ns = self._seq = self._order = 0
        self._later: list[tuple[int, int, _Action, tuple[Any, ...]]] = []

    def after(self, wait_ns: int, act: _Action, *given: Any) -> None:
        """Have something happen later; what it yields is received then."""
        self._order += 1
        heapq.heappush(self._later, (self.now + wait_ns, self._order, act, given))

    def frame(self, kind: str, link: str, text: str = "", **more: Any) -> Frame:
        """Make a frame of something that happens now."""
        return Frame(*self._stamps(), link, kind, text, **more)

    def _reach(self, frame: Frame) -> None:
        """Let it be the time at which a frame was recorded."""
        self.now, self._base_ns = frame.mono, frame.at - frame.mono

    def _until(self, mono: int | None) -> Iterator[Frame]:
        later = self._later
        while later and (mono is None or later[0][0] <= mono):
            self.now, _, act, given = heapq.heappop(later)
            yield from act(*given)

    def _stamps(self) -> tuple[int, int, int]:
        self._seq += 1
        return self._seq, self._base_ns + self.now + self.skew_ns, self.now


class Wire(_Schedule):
    """A tape with faults put in, played once; beside the frames it holds the true state.

    After each frame, `delivered` are the books as of the newest message that arrived, by ticker
    (none while its connection is down), `answered` those of REST answers. REST is `ahead` of the
    socket until the mono time given there; `spoken` is when a link's last message came (mono),
    and "chain" the last block.
    """

    def __init__(self, tape: Tape, faults: Iterable[Fault], *, announces: bool = True) -> None:
        super().__init__()
        self.tape = tape
        self.announces = announces
        self.truth = _Truth()
        self.links = {name: _Link(name) for name in tape.subscribed}
        self.injected: list[Fault] = []
        self.delivered: dict[str, Ladders] = {}
        self.answered: dict[str, Ladders] = {}
        self.ahead: dict[str, int] = {}
        self.spoken: dict[str, int] = {}
        self._due: defaultdict[int, list[Fault]] = defaultdict(list)
        for fault in faults:
            self._due[fault.index].append(fault)

    def frames(self) -> Generator[Frame]:
        """Yield what the bot receives."""
        for index, frame in enumerate(self.tape.frames):
            updates = self.tape.decoded[index]
            yield from self._until(frame.mono)
            self._reach(frame)
            for fault in self._due[index]:
                self.injected.append(fault)
                yield from FAULTS[fault.kind].begin(self, fault)
            if index < self.tape.ready or frame.kind != "ws":
                yield from self._plainly(frame, updates)
            else:
                self._publish_recorded(frame, updates)
                yield from self._until(frame.mono)
        yield from self._until(None)

    def concerned(self, frame: Frame) -> list[str]:
        """Return the connections whose ids a frame may settle; a tick settles overdue answers."""
        if frame.link in self.links:
            return [frame.link]
        return [name for name, link in self.links.items() if link.unanswered]

    def missing(self, link: str) -> dict[int, str]:
        """Return the ids that are missing as far as one can see, and what hit them."""
        return self.links[link].missing if link in self.links else {}

    def calm_ns(self, ticker: str) -> int:
        """Return for how long nothing has gone wrong on a book's connection; 0 while it is down."""
        link = self.links[self.tape.link_of[ticker]]
        return max(self.now - link.troubled_at, 0) if link.up else 0

    def hides(self, link: str) -> bool:
        """Return whether a message is on its way, or lost, that no later id has shown yet."""
        return link in self.links and any(self.links[link].under_way.values())

    def waits(self, link: str) -> bool:
        """Return whether what is missing may still be a late answer."""
        return bool(self.links[link].ids.owed)

    def unconfirmed(self) -> bool:
        """Return whether blocks or prices may be old: they are requested, and no answer came."""
        requested = (key for x in self.links.values() for key in (*x.ids.owed, *x.wanted))
        return any(channel in ("v4_block_height", "v4_markets") for channel, _ in requested)

    def doubtful(self, link: str) -> bool:
        """Return whether ids may look wrong: an answer is lost, or a lost message came late.

        The latter could also mean that the number that jumped ahead of it was the wrong one.
        """
        late = self.now < self.links[link].doubted_until
        return late or any(hit for _, hit, _ in self.links[link].unanswered.values())

    def noticed(self, link: str) -> None:
        """Forget what is missing, because it was noticed, and all answers long overdue."""
        state = self.links[link]
        state.missing.clear()
        state.unanswered = {
            number: answer
            for number, answer in state.unanswered.items()
            if self.now - answer[2] < 15 * _SECOND
        }

    def _plainly(self, frame: Frame, updates: list[Any]) -> Iterator[Frame]:
        """Pass a frame on as it was recorded, and learn from it."""
        link, path = self.links.get(frame.link), frame.path
        if frame.kind == "ws" and link is not None:
            link.number = max(link.number, frame.message_id)
            identity = _IDENTITY.search(frame.text)
            link.identity = identity[1] if identity else ""
            whole = frame.is_snapshot
            self.truth.learn(frame.channel, frame.id, updates, whole=whole)
            if frame.channel == _BOOK:
                link.log.append(((0, 0), frame.id, updates, whole))
            link.ids.take(frame)
            self._come(link, (0, 0), frame)
        elif frame.kind == "sent" and link is not None:
            link.ids.request(frame)
        elif (ticker := path.removeprefix(_REST_BOOK)) in self.tape.link_of and updates:
            self.answer(ticker, updates)
        seq, at, mono = self._stamps()
        yield msgspec.structs.replace(frame, seq=seq, at=at, mono=mono)
        if frame.kind == "tick":
            yield from self._overdue()

    def answer(self, ticker: str, changes: list[_Change]) -> None:
        """Remember the book of a REST answer, as it was some messages ago."""
        _take_in(self.answered, ticker, changes, whole=True)
        # What the socket batches, REST answers at once.
        self.ahead[ticker] = self.now + _SECOND

    # === What the server sends ===

    def _publish_recorded(self, frame: Frame, updates: list[Any]) -> None:
        """Send a recorded message, if its connection is up."""
        link, channel, id_ = self.links[frame.link], frame.channel, frame.id
        self.truth.learn(channel, id_, updates)
        if link.up and key_of(frame) not in link.mute:
            link.number += 1
            text = frame.text
            if frame.message_id != link.number or link.life:
                text = _NUMBER.sub(f'"message_id":{link.number}', text, count=1)
                text = _IDENTITY.sub(f'"connection_id":"{link.identity}"', text, count=1)
            self._send(link, link.number, text, channel, id_, updates)

    def publish(self, channel: str, ticker: str, inner: str, updates: list[Any]) -> None:
        """Send an update of a market that the recording does not hold."""
        link = self.links[self.tape.link_of[ticker]]
        self.truth.learn(channel, ticker, updates)
        if link.up and (channel, ticker) not in link.mute:
            link.number += 1
            text = _message(link, "channel_batch_data", link.number, channel, ticker, f"[{inner}]")
            self._send(link, link.number, text, channel, ticker, updates)

    def _send(
        self, link: _Link, number: int, text: str, channel: str = "", id_: str = "",
        updates: Sequence[Any] = (), *, whole: bool = False,
    ) -> None:  # fmt: skip
        """Put a message on the wire: what is at work on its connection decides what arrives."""
        arrivals, hit_by = [(0, text)], ""
        for hit in link.hits:
            if whole and hit.way is _reorder:
                continue  # no server sends what follows a snapshot before it
            arrivals = [
                (wait + more, arriving)
                for wait, so_far in arrivals
                for more, arriving in hit.way(so_far, hit.dice)
            ]
            hit_by, hit.left = hit.kind, hit.left - 1
        if link.hits:
            link.troubled_at = max(link.troubled_at, self.now)
            link.hits = [hit for hit in link.hits if hit.left]
        # The id of a snapshot is no measure: it may always come late.
        if whole:
            link.unanswered[number] = (channel, id_), hit_by, self.now
        else:
            link.under_way[number] = hit_by
        if channel == _BOOK:
            link.log.append(((self.now, self._order), id_, updates, whole))
        order = self.now, self._order
        stalled_ns = max(link.stalled_until - self.now, 0)
        for wait, arriving in arrivals:
            self.after(
                max(wait, stalled_ns), self._arrive, link, link.life, number, order, arriving
            )

    def _arrive(
        self, link: _Link, life: int, number: int, order: _SentAt, text: str
    ) -> Iterator[Frame]:
        if life != link.life:
            return
        frame = ws_frame(0, 0, self.now, link.name, text)
        if not frame.fault:
            link.reveal(number, self.now)
        trouble = link.ids.take(frame)
        if trouble == "gap":
            yield from self._gap(link, f"before message_id {number}")
        elif trouble == "out_of_order":
            self._want(link, [what for what in self._carried(link) if what == key_of(frame)])
        if not frame.fault:
            self._come(link, order, frame)
        seq, at, mono = self._stamps()
        yield msgspec.structs.replace(frame, seq=seq, at=at, mono=mono)

    def _come(self, link: _Link, order: _SentAt, frame: Frame) -> None:
        """Apply to the delivered books all messages up to the one that has arrived."""
        while link.log and link.log[0][0] <= order:
            _, ticker, changes, whole = link.log.popleft()
            _take_in(self.delivered, ticker, changes, whole=whole)
        for ticker, reached in [*self.ahead.items()]:
            if reached <= order[0] and self.tape.link_of[ticker] == link.name:
                del self.ahead[ticker]
        if not frame.fault:
            self.spoken[link.name] = self.now
        if frame.type == "channel_data" and frame.channel == "v4_block_height":
            self.spoken["chain"] = self.now
        link.unanswered.pop(frame.message_id, None)

    # === What the edge does ===

    def _gap(self, link: _Link, where: str) -> Iterator[Frame]:
        """Resubscribe to all that a connection carries, except what is already requested."""
        owed, lost = link.ids.owed, link.ids.lost
        self._want(link, [what for what in self._carried(link) if what not in owed])
        if self.announces:
            yield self.frame("gap", link.name, f"{lost} messages lost {where}", message_id=lost)

    def _overdue(self) -> Iterator[Frame]:
        for link in self.links.values():
            if late := link.ids.overdue(self.now):
                # They may yet come, after the holes they left were given up.
                link.doubted_until = max(self.now, link.stalled_until) + 5 * _SECOND
                owed = link.ids.owed
                self._want(link, [what for what in self._carried(link) if what not in owed])
                if self.announces:
                    hit = [hit for what, hit, _ in link.unanswered.values() if what in late]
                    link.missing.update({-n: kind for n, kind in enumerate(hit, 1)})
                    yield self.frame("gap", link.name, f"{len(late)} answers overdue")

    def _carried(self, link: _Link) -> list[_Topic]:
        return [what for what in self.tape.subscribed[link.name] if "subaccounts" not in what[0]]

    def _want(self, link: _Link, wanted: list[_Topic]) -> None:
        if not link.wanted:
            soonest = link.requested_at + 1_100 * _MS - self.now
            self.after(max(50 * _MS, soonest), self._resubscribe, link, link.life)
        link.wanted += [what for what in wanted if what not in link.wanted]

    def _resubscribe(self, link: _Link, life: int) -> Iterator[Frame]:
        if life == link.life:
            wanted, link.wanted = link.wanted, []
            yield from self._subscribe(link, wanted, ("unsubscribe", "subscribe"))

    def _subscribe(
        self, link: _Link, wanted: list[_Topic], verbs: tuple[str, ...]
    ) -> Iterator[Frame]:
        link.requested_at = self.now
        for channel, id_ in wanted:
            for verb in verbs:
                request = {"type": verb, "channel": channel} | ({"id": id_} if id_ else {})
                frame = self.frame("sent", link.name, msgspec.json.encode(request).decode())
                link.ids.request(frame)
                yield frame
        self.after(30 * _MS, self._answer, link, link.life, wanted, len(verbs) > 1)

    def _answer(self, link: _Link, life: int, wanted: list[_Topic], again: bool) -> Iterator[Frame]:
        """Answer as the server: the id is taken at once, the snapshot follows."""
        if life == link.life:
            for n, (channel, id_) in enumerate(wanted):
                link.mute.add((channel, id_))
                if again:
                    link.number += 1
                    text = _message(link, "unsubscribed", link.number, channel, id_)
                    self._send(link, link.number, text)
                link.number += 1
                wait_ns = (100 + 5 * n) * _MS
                self.after(wait_ns, self._snapshot, link, life, link.number, channel, id_)
        yield from ()

    def _snapshot(
        self, link: _Link, life: int, number: int, channel: str, id_: str
    ) -> Iterator[Frame]:
        if life == link.life:
            link.mute.discard((channel, id_))
            contents_ = msgspec.json.encode(self.truth.snapshot(channel, id_)).decode()
            text = _message(link, "subscribed", number, channel, id_, contents_)
            changes = _as_changes(self.truth.books[id_]) if channel == _BOOK else []
            self._send(link, number, text, channel, id_, changes, whole=True)
        yield from ()

    def hang_up(self, link: _Link) -> Iterator[Frame]:
        """Close a connection: what it delivered is known no more."""
        link.lose()
        link.troubled_at = self.now
        for ticker, name in self.tape.link_of.items():
            if name == link.name:
                self.delivered.pop(ticker, None)
        yield self.frame("close", link.name, "connection lost", type="1006")

    def open(self, link: _Link) -> Iterator[Frame]:
        """Open a connection and subscribe to all that it carried."""
        # A stall that began in between goes on.
        link.up, link.troubled_at = True, max(link.troubled_at, self.now)
        link.mute.update(self.tape.subscribed[link.name])
        yield self.frame("open", link.name, "wss://")
        self.after(20 * _MS, self._greet, link, link.life)

    def _greet(self, link: _Link, life: int) -> Iterator[Frame]:
        if life == link.life:
            frame = ws_frame(*self._stamps(), link.name, _message(link, "connected", 0))
            link.ids.take(frame)
            yield frame
            yield from self._subscribe(link, self._carried(link), ("subscribe",))


_NUMBER: Final = re.compile(r'"message_id": ?\d+')
_IDENTITY: Final = re.compile(r'"connection_id": ?"([^"]*)"')


def _message(
    link: _Link, type_: str, number: int, channel: str = "", id_: str = "", contents_: str = ""
) -> str:
    # What has no id is answered by the name of its channel.
    about = f',"channel":"{channel}","id":"{id_ or channel}"' if channel else ""
    body = f',"version":"1.0.0","contents":{contents_}' if contents_ else ""
    identity = f'"connection_id":"{link.identity}"'
    return f'{{"type":"{type_}",{identity},"message_id":{number}{about}{body}}}'


# === Faults ===
# What becomes of one message: the texts that arrive in its place, each after so many ns.

_Way = Callable[[str, Random], list[tuple[int, str]]]


def _drop(text: str, dice: Random) -> list[tuple[int, str]]:
    return []


def _duplicate(text: str, dice: Random) -> list[tuple[int, str]]:
    return [(0, text), (dice.randrange(400) * _MS, text)]


def _reorder(text: str, dice: Random) -> list[tuple[int, str]]:
    return [(dice.randint(1, 800) * _MS, text)]


def _corrupt(text: str, dice: Random) -> list[tuple[int, str]]:
    at = dice.randrange(len(text))
    return [(0, f"{text[:at]}\ufffd{text[at + 1 :]}")]


def _truncate(text: str, dice: Random) -> list[tuple[int, str]]:
    return [(0, text[: dice.randrange(len(text))])]


# What begins at once, and may go on later.


def _hits(way: _Way) -> "_Begin":
    def begin(wire: Wire, fault: Fault) -> Iterator[Frame]:
        hit = _Hit(fault.kind, way, Random(fault.seed), fault.amount)
        wire.links[fault.on].hits.append(hit)
        yield from ()

    return begin


def _delay(wire: Wire, fault: Fault) -> Iterator[Frame]:
    link = wire.links[fault.on]
    link.troubled_at = link.stalled_until = max(link.stalled_until, wire.now + fault.amount * _MS)
    yield from ()


def _cross(wire: Wire, fault: Fault) -> Iterator[Frame]:
    """Bid what the third best ask asks, or ask what the third best bid bids, for a while."""
    dice, (bids, asks) = Random(fault.seed), wire.truth.books[fault.on]
    side = dice.randrange(2)
    prices = sorted(bids, reverse=True) if side else sorted(asks)
    if len(prices) > 2:
        price = prices[dice.randrange(3)]
        level = (asks, bids)[side][price]
        _put(wire, fault.on, side, price, level)
        wire.after(fault.amount * _MS, _uncross, wire, fault.on, side, price, level)
    yield from ()


def _uncross(
    wire: Wire, ticker: str, side: int, price: float, level: _LevelText
) -> Iterator[Frame]:
    if wire.truth.books[ticker][side].get(price) == level:
        _put(wire, ticker, side, price, (level[0], "0"))
    yield from ()


def _put(wire: Wire, ticker: str, side: int, price: float, level: _LevelText) -> None:
    inner = msgspec.json.encode({("bids", "asks")[side]: [level]}).decode()
    wire.publish(_BOOK, ticker, inner, [(side, price, None if level[1] == "0" else level)])


def _refuse(wire: Wire, fault: Fault) -> Iterator[Frame]:
    """Refuse a book over REST; answer the retry, from a cache of up to a second."""
    refused = '{"errors":[{"msg":"Too many requests"}]}'
    yield wire.frame("http", "rest", refused, type="429", channel=_REST_BOOK + fault.on)
    cached_ns = Random(fault.seed).randrange(_SECOND)
    wire.after(fault.amount * _MS, _look_up, wire, fault.on, cached_ns)


def _look_up(wire: Wire, ticker: str, cached_ns: int) -> Iterator[Frame]:
    wire.after(cached_ns, _relent, wire, ticker, wire.truth.uncrossed(ticker))
    yield from ()


def _relent(wire: Wire, ticker: str, book: Ladders) -> Iterator[Frame]:
    wire.answer(ticker, _as_changes(book))
    text = msgspec.json.encode(_levels(book)).decode()
    yield wire.frame("http", "rest", text, type="200", channel=_REST_BOOK + ticker)


def _jump(wire: Wire, fault: Fault) -> Iterator[Frame]:
    wire.skew_ns += fault.amount * _MS
    yield from ()


def _storm(wire: Wire, fault: Fault) -> Iterator[Frame]:
    link = wire.links[fault.on]
    if link.up:
        yield from _fall(wire, link, link.life, Random(fault.seed), fault.amount)


def _fall(wire: Wire, link: _Link, life: int, dice: Random, left: int) -> Iterator[Frame]:
    if life == link.life:
        yield from wire.hang_up(link)
        wire.after(dice.randint(50, 1_500) * _MS, _rise, wire, link, dice, left)


def _rise(wire: Wire, link: _Link, dice: Random, left: int) -> Iterator[Frame]:
    yield from wire.open(link)
    if left > 1:
        wire.after(dice.randint(10, 1_000) * _MS, _fall, wire, link, link.life, dice, left - 1)


_Begin = Callable[[Wire, Fault], Iterator[Frame]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it befalls, the least and the most of it, and the words for it."""

    begin: _Begin
    least: int
    most: int
    words: str
    of_link: bool = True


FAULTS: Final[dict[str, Kind]] = {
    "drop": Kind(_hits(_drop), 1, 6, "messages of {on} that are lost: {amount}"),
    "duplicate": Kind(_hits(_duplicate), 1, 5, "messages of {on} that come twice: {amount}"),
    "reorder": Kind(_hits(_reorder), 1, 3, "messages of {on} that come late: {amount}"),
    "delay": Kind(_delay, 200, 15_000, "{on} stalls for {amount} ms, then a burst"),
    "corrupt": Kind(_hits(_corrupt), 1, 3, "messages of {on} with a bad byte: {amount}"),
    "truncate": Kind(_hits(_truncate), 1, 3, "messages of {on} that are cut short: {amount}"),
    "cross": Kind(_cross, 20, 3_000, "the book of {on} crosses for {amount} ms", of_link=False),
    "stall": Kind(_delay, 32_000, 60_000, "{on} is silent for {amount} ms, then a burst"),
    "429": Kind(_refuse, 300, 3_000, "REST refuses {on} for {amount} ms", of_link=False),
    "clock jump": Kind(_jump, -7_200_000, 7_200_000, "the clock jumps by {amount} ms"),
    "reconnect": Kind(_storm, 1, 5, "times in a row that {on} is lost: {amount}"),
}


def words_of(fault: Fault) -> str:
    """Describe what goes wrong."""
    return FAULTS[fault.kind].words.format(on=fault.on, amount=f"{fault.amount:,}")
