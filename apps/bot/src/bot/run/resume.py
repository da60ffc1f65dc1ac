"""What a run of an account carries over from the one before it.

    database ──► bot.database.remains ──► Left ──► Frame(kind="state", link="account") ──► carry_on
    each frame's events, risk's memory ──► Carrying (beside a run) ──► the database's writer

A paper account is as it was to the quantum: the state that its last run began with, and frame by
frame what happened since. Risk remembers its day, of real orders too. It enters as a frame, so that
a recording replays to the same hash with no database at hand.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from dydx_conn import AccountUpdate, ConnError, Frame, Inbox
from dydx_paper import (
    Carried,
    Digest,
    Entry,
    Event,
    Ledger,
    LedgerError,
    PaperVenue,
    VenueState,
    from_json,
    frozen,
    in_parts,
    restore,
    to_json,
)
from dydx_risk import Memory, Risk
from dydx_strategy import StakesLeft

from bot.run.journal import JournalEntry

ACCOUNT: Final = "account"  # the link of the frame
_SECOND_NS: Final = 1_000_000_000
_SOON_NS: Final = 100_000_000
_PAUSE_S: Final = 0.0005  # between two parts of it: the thread of the frames goes first
_EVENTS: Final = 5_000  # a state is stored again after so many: a next run reads no more of them
# What may have gone out, and is in no row yet, when a run is killed.
_AHEAD: Final = 1_024

Parts = Mapping[str, StakesLeft]

# === Left ===
# What a run left, as the next one reads it, and in words.


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left for the next of its account.

    `run` and `ledger` are its numbers in the database, 0 of an account that begins, `seq` and `at`
    of the newest frame that is in it, and `ended` whether it ended by itself. `lost` counts the
    rows that are missing, `paid_in` is what came since, in quote quantums, where that is known.
    `parts` is what of it each had of several strategies that share the account, `until` the end of
    the run, or the newest sign of it.
    """

    run: int
    at: int
    until: int = 0
    seq: int = 0
    ended: bool
    ledger: int = 0
    lost: int = 0
    paid_in: int = 0
    venue: VenueState | None = None
    memory: Memory | None = None
    parts: dict[str, StakesLeft] = {}

    @property
    def text(self) -> str:
        """Return it as a frame carries it."""
        return to_json(self)

    @property
    def deposits(self) -> int:
        """Return what was ever deposited, in quote quantums."""
        return 0 if self.venue is None else self.venue.ledger.deposits

    @property
    def tickers(self) -> list[str]:
        """Return the markets in which something is held, or stands."""
        if self.venue is None:
            return []
        ledger = ledger_of(self.venue)
        stand = (order.ticker for order in ledger.history.live)
        return [*dict.fromkeys((*ledger.holdings, *stand))]

    def words(self, now: int) -> str:
        """Put in one line what goes on, from which run, how long ago, and why that ended."""
        if not self.run:
            return "begins, with client ids that no earlier run of it has used"
        how = "ended" if self.ended else "was killed"
        ago = _ago(max(now - max(self.at, self.until), 0) // _SECOND_NS)
        lost = f"; {self.lost} rows of it are missing" if self.lost else ""
        since = f"goes on from run {self.run}, which {how} {ago} ago"
        if self.venue is None:
            paid = f", but for {self.paid_in / 1e6:+,.2f} USDC paid in" if self.paid_in else ""
            return f"{since}: the day's loss, the drawdown and rests count on{paid}{lost}"
        ledger, memory = ledger_of(self.venue), self.memory
        # Prices moved on after the newest event of the ledger: risk knows what it came to.
        equity = memory.equity if memory is not None and memory.day >= 0 else ledger.equity
        worth = "unknown" if equity is None else f"{equity / 1e6:,.2f} USDC"
        held = [
            f"{ticker} {holding.market.size(holding.quantums).normalize():+f}"
            for ticker, holding in ledger.holdings.items()
        ]
        what = f"equity {worth}, {', '.join(held) or 'nothing held'}"
        if number := len(ledger.history.standing):
            what += f", {_standing(number)}"
        return f"{since}, with {what}{lost}"


def _standing(number: int) -> str:
    orders = "1 order that stands" if number == 1 else f"{number} orders that stand"
    return f"{orders} (what would have filled or triggered meanwhile is not known)"


def _ago(seconds: int) -> str:
    for most, each, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < most:
            return f"{seconds // each} {name}"
    return f"{seconds // 86_400} days"


def ledger_of(state: VenueState) -> Ledger:
    """Return a ledger as a state has it; the state is used up by it."""
    state = from_json(to_json(state), VenueState)
    ledger = Ledger(state.ledger.subaccount)
    restore(ledger, state.ledger)
    return ledger


def carry_on(frame: Frame, venue: object, risk: Risk) -> Left:
    """Let a venue and its risk go on with what a frame carries; `ConnError` if it is not that."""
    try:
        left = from_json(frame.text, Left)
        if isinstance(venue, PaperVenue) and left.venue is not None:
            venue.resume(left.venue)
    except LedgerError as error:
        raise ConnError(f"expected what a run of this account left, got: {error}") from None
    memory = left.memory or Memory()
    if not isinstance(venue, PaperVenue):  # whose numbers go by time
        ours = msgspec.structs.replace(memory, next_client_id=risk.next_client_id)
        risk.recall(ours, frame.at, left.paid_in)
        return left
    ours = msgspec.structs.replace(memory, next_client_id=unused_id(left))
    risk.recall(ours, frame.at, left.paid_in)
    risk.account.orders.remember([(1, risk.next_client_id)])
    return left


def beyond(left: Left, earlier: Iterable[tuple[int, int]]) -> Left:
    """Return it with a client id above the ranges that earlier runs have claimed.

    A run that is killed as it begins may have sent orders of which no row was written.
    """
    memory = left.memory or Memory()
    first = max([memory.next_client_id, *(until for _, until in earlier)])
    return msgspec.structs.replace(
        left, memory=msgspec.structs.replace(memory, next_client_id=first)
    )


def beginning(earlier: Iterable[tuple[int, int]]) -> Left | None:
    """Return with what an account begins that earlier runs left client ids of alone, if any."""
    return beyond(Left(run=0, at=0, ended=True), ids) if (ids := [*earlier]) else None


def unused_id(left: Left) -> int:
    """Return a client id above all that a run can have sent, though its last rows are lost."""
    used = [left.memory.next_client_id] if left.memory is not None else []
    used += [order.client_id for order in left.venue.ledger.orders] if left.venue else []
    return (max(used, default=0) + _AHEAD) % 2**32


class Shared(msgspec.Struct, frozen=True):
    """What of a checkpoint is of several strategies."""

    parts: dict[str, StakesLeft] = {}


# === Writing ===
# What goes into the database while a run goes on: beside it, at most a row a frame.


class Carrying:
    """Stores what a next run needs; the last one's comes before all other frames.

    A row a frame in which something happened to the account, and of risk's memory, where it
    changed, one a second, or soon after such a frame; but where a position is to be left goes to
    the writer before the order that enters it goes out, and `hurry` lets it write. Rows are made by
    the writer's thread.
    """

    name = "memory"
    trouble = ""

    def __init__(
        self, venue: object, risk: Risk, put: Callable[[str, Any], None],
        left: Left | None = None, hurry: Callable[[], None] = lambda: None,
        parts: Callable[[], Parts] = dict,
    ) -> None:  # fmt: skip
        self._hurry = hurry
        self._venue = venue if isinstance(venue, PaperVenue) else None
        self._risk, self._put, self._left = risk, put, left
        self._digest: Digest | None = None
        self._memory: Memory | None = None
        self._parts, self._known = parts, dict[str, StakesLeft]()
        self._rows, self._stored, self._due = 0, 0, 0
        self._last: Frame | None = None  # the newest frame

    def begin(self, inbox: Inbox) -> None:
        """Put in what the last run left, and store with what this one begins."""
        left, venue = self._left, self._venue
        if left is not None:
            text = left.text
            id_ = hashlib.sha256(text.encode()).hexdigest()[:16]
            inbox.put("state", text, id=f"{left.run}/{id_}", link=ACCOUNT)
        if venue is not None:
            at = left.at if left is not None else 0
            self._begin(venue, (left and left.venue) or venue.state, at)
        if left is not None and left.memory is not None:
            memory = left.memory
            if venue is not None:
                memory = msgspec.structs.replace(memory, next_client_id=unused_id(left))
            self._known = left.parts
            self._remember(memory)

    def hear(self, event: JournalEntry | AccountUpdate) -> None:
        """Store where a position is to be left, of an entry that is about to go out."""
        if isinstance(event, JournalEntry) and event.kind == "approved":
            memory, was = self._risk.memory, self._memory or Memory()
            if memory.levels != was.levels:
                self._remember(memory)
                self._hurry()

    def note(self, frame: Frame) -> None:
        """Store what the frame before this one did."""
        # Of each frame: no call where nothing happened.
        if (digest := self._digest) is not None and digest.events:
            self._store(digest)
            # Whose a fill is, strategies learn with the next score.
            self._due = min(self._due, frame.mono + _SOON_NS)
        if frame.mono >= self._due:
            self._due = frame.mono + _SECOND_NS
            self._check()
        self._last = frame

    def end(self) -> None:
        """Store what the last frame did."""
        if self._digest is not None and self._digest.events:
            self._store(self._digest)
        self._check()

    def _begin(self, venue: PaperVenue, state: VenueState, at: int) -> None:
        self._digest, self._stored = Digest(venue.ledger), 0
        venue.ledger.journal = self._digest.take
        self._row("state", at, _state_row, frozen(state))

    def _store(self, digest: Digest) -> None:
        if (venue := self._venue) is None:
            return
        events, (_, at) = digest.drain(), self._moment
        self._stored += len(events)
        self._row("frame", at, _entry_row, events, venue.carried)
        if self._stored >= _EVENTS:
            self._begin(venue, venue.state, at)

    @property
    def _moment(self) -> tuple[int, int]:
        """Return the number and the time of the newest frame."""
        return (0, 0) if self._last is None else (self._last.seq, self._last.at)

    def _row(self, kind: str, at: int, make: Callable[..., dict[str, Any]], *of: Any) -> None:
        self._rows += 1
        row = {"n": self._rows, "seq": self._moment[0], "at": at, "kind": kind}
        self._put("ledger_events", partial(make, row, *of))

    def _check(self) -> None:
        memory = self._risk.memory
        known, self._known = self._known, {**self._parts()}
        changed = _aside(memory) != _aside(self._memory) or known != self._known
        if memory.day >= 0 and changed:
            self._remember(memory)

    def _remember(self, memory: Memory) -> None:
        self._memory = memory
        seq, at = self._moment
        row = {"seq": seq, "at": at or memory.now}
        self._put("checkpoints", partial(_memory_row, row, memory, self._known))


def _aside(memory: Memory | None) -> Memory | None:
    # Time goes on by itself.
    return None if memory is None else msgspec.structs.replace(memory, now=0)


def _state_row(row: Mapping[str, Any], state: VenueState) -> dict[str, Any]:
    parts = []
    for part in in_parts(state):  # as the text of JSON that it is in its column
        parts.append(msgspec.json.encode(part)[1:-1])
        time.sleep(_PAUSE_S)
    return {**row, "data": msgspec.Raw(b'"%b"' % b"".join(parts))}


def _entry_row(row: Mapping[str, Any], events: Iterable[Event], carried: Carried) -> dict[str, Any]:
    return {**row, "data": to_json(Entry.of(events, carried))}


def _memory_row(row: Mapping[str, Any], memory: Memory, parts: Parts) -> dict[str, Any]:
    more = {"parts": parts} if parts else {}
    return {**row, "data": to_json({**msgspec.structs.asdict(memory), **more})}
