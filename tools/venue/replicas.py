"""What the indexer knows while the chain is ahead of it: late messages, answers from replicas.

    block ──► Late ──(so many blocks later)──► sockets
          └─► Replicas ──► View ──► REST, and the snapshots of sockets

The whole indexer is up to `indexer_lag` blocks behind the node, which varies; each of its faces is
up to `replica_lag` more, apart from each other: so REST is behind the sockets or ahead of them.
What needs no block (books, best-effort states of orders) is never late. Without a lag a view is the
exchange as its last block left it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import msgspec
from accounts import BlockClock, Sink, Twap, copied
from disturbances import Disturbances
from dydx_conn import Subaccount
from dydx_paper import Ledger, OrderRecord
from tape import RETAINED, Json, MarketTape


class Books(Protocol):
    """The accounts that a view shows."""

    @property
    def ledgers(self) -> Mapping[Subaccount, Ledger]:
        """Return the ledgers."""

    @property
    def whole(self) -> Mapping[Subaccount, Ledger]:
        """Return those that changed since the last block, as it left them."""

    @property
    def twaps(self) -> Mapping[str, Twap]:
        """Return the TWAP orders."""


class Indexed(BlockClock, Protocol):
    """What the indexer has taken in of the chain: its last block is the last of this one."""

    @property
    def tapes(self) -> Mapping[str, MarketTape]:
        """Return the markets."""

    @property
    def accounts(self) -> Books:
        """Return the accounts."""


@dataclass(frozen=True, slots=True)
class _Books:
    ledgers: Mapping[Subaccount, Ledger]
    twaps: Mapping[str, Twap]
    whole: Mapping[Subaccount, Ledger] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """The accounts as they stood after a block; markets are shown up to its height."""

    height: int
    block_ns: int
    tapes: Mapping[str, MarketTape]
    accounts: Books
    clock: BlockClock

    @property
    def now_ns(self) -> int:
        """Return the time, which no replica is behind."""
        return self.clock.now_ns


class Settled(Mapping[Subaccount, Ledger]):
    """The ledgers as the last block left them, with the orders that nodes took in since.

    What nodes have matched since is of the block at hand, whose height nobody has seen: the
    indexer takes in a whole block or nothing of it.
    """

    def __init__(self, accounts: Books) -> None:
        self._live, self._whole = accounts.ledgers, accounts.whole

    def __iter__(self) -> Iterator[Subaccount]:
        return iter(self._live)

    def __len__(self) -> int:
        return len(self._live)

    def __getitem__(self, whose: Subaccount) -> Ledger:
        live, whole = self._live[whose], self._whole.get(whose)
        if whole is None:
            return live
        shown = copied(whole)
        for record in live.history.orders(limit=RETAINED).rows[::-1]:
            known = whole.history.order(record.id)
            if record is not known:
                shown.history.keep_order(_unmatched(record, known))
        return shown


def _unmatched(record: OrderRecord, known: OrderRecord | None) -> OrderRecord:
    """Return an order without what the block at hand has filled of it."""
    if record.filled == (known.filled if known is not None else 0):
        return record
    opened = "BEST_EFFORT_OPENED"
    return known or msgspec.structs.replace(record, filled=0, status=opened, reason="")


class Late:
    """A sink that holds back what a block settled until the sockets have come to the block."""

    def __init__(self, sink: Sink, disturbances: Disturbances) -> None:
        self._sink = sink
        self._lags = bool(disturbances.indexer_lag or disturbances.replica_lag)
        self._block: int | None = None
        self._held: deque[tuple[int, tuple[str, str, Json, int | None]]] = deque()

    def wanted(self, channel: str, id: str) -> bool:
        """Return whether anybody subscribed, or may until it is published."""
        return self._lags or self._sink.wanted(channel, id)

    def publish(self, channel: str, id: str, contents: Json, subaccount: int | None = None) -> None:
        """Publish contents, or hold them back if they are a block's."""
        if self._block is None:
            self._sink.publish(channel, id, contents, subaccount)
        else:
            self._held.append((self._block, (channel, id, contents, subaccount)))

    def begin(self, height: int) -> None:
        """Begin a block: what follows is settled by it."""
        self._block = height

    def end(self, height: int) -> None:
        """End the block, and publish what was settled up to a height."""
        self._block = None
        while self._held and self._held[0][0] <= height:
            self._sink.publish(*self._held.popleft()[1])


class Replicas:
    """The last blocks as the indexer saw them, and how far behind each of its faces is."""

    def __init__(self, chain: Indexed, disturbances: Disturbances, seed: int) -> None:
        self._chain = chain
        self._indexer_lag, self._replica_lag = disturbances.indexer_lag, disturbances.replica_lag
        self._chance = Random(f"{seed} replicas")
        self._views: deque[View] = deque(maxlen=self._indexer_lag + self._replica_lag + 1)
        self._head = self.socket_height = chain.height

    def commit(self) -> None:
        """Take in a block, and choose how far the indexer and its sockets are now."""
        chain, chance = self._chain, self._chance
        height = chain.height
        if self._views.maxlen == 1:
            self._head = self.socket_height = height
            return
        accounts = chain.accounts
        ledgers = {whose: copied(ledger) for whose, ledger in accounts.ledgers.items()}
        books = _Books(ledgers, dict(accounts.twaps))
        self._views.append(View(height, chain.block_ns, chain.tapes, books, chain))
        # An indexer falls behind block by block, and catches up by several at once.
        lag = height - self._head
        if lag > self._indexer_lag or chance.random() < 0.25:
            lag = chance.randint(0, self._indexer_lag)
        self._head = max(self._head, height - lag)
        behind = self._head - chance.randint(0, self._replica_lag)
        self.socket_height = max(self.socket_height, behind)

    def rest(self) -> Indexed:
        """Return what one replica knows: the next answer may come from another."""
        return self._view(self._head - self._chance.randint(0, self._replica_lag))

    def snapshot(self) -> Indexed:
        """Return what a new subscriber is shown: nothing older than what its socket is at."""
        behind = self._head - self._chance.randint(0, self._replica_lag)
        return self._view(max(behind, self.socket_height))

    def _view(self, height: int) -> Indexed:
        if not self._views:
            chain, accounts = self._chain, self._chain.accounts
            books = _Books(Settled(accounts), accounts.twaps)
            return View(chain.height, chain.block_ns, chain.tapes, books, chain)
        return next((view for view in self._views if view.height >= height), self._views[-1])


def up_to(height: int, rows: Any) -> list[Json]:
    """Choose the rows that blocks up to a height created."""
    return [row for row in rows if int(row["createdAtHeight"]) <= height]
