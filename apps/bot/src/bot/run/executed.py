"""What became of each order, and what each fill cost against mid.

    Journal ─► Executed ─► orders as they stand, Execution by Execution

Whoever shows a run reads it; nothing is decided by it. Mid prices are those of the moment: the
book that stands when a verdict or a fill is written down.
"""

from collections import deque
from decimal import Decimal
from typing import Any, Final

import msgspec
from dydx_conn import AccountFill, OrderState
from dydx_data import DataState
from dydx_paper import Execution

from bot.run.journal import Journal, JournalEntry

ORDERS: Final = 200
FILLS: Final = 1_000
_SENT: Final = ("approved", "reduce", "bracket")


class SeenOrder(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it stands: when it was first and last seen, and what its fills came to.

    `paid` is the sum of price times size over its fills, in USDC; `verdict` is the id of what let
    it go, "" of an order that none of ours did.
    """

    id: str
    verdict: str
    state: OrderState
    since: int
    at: int
    seq: int
    filled: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)
    fee: int = 0
    fills: tuple[Execution, ...] = ()

    @property
    def average(self) -> Decimal | None:
        """Return the average price of its fills."""
        return self.paid / self.filled if self.filled else None


class Executed:
    """The newest orders by id, oldest first, and the newest fills."""

    def __init__(self, journal: Journal, data: DataState) -> None:
        self.orders: dict[str, SeenOrder] = {}
        self.fills: deque[Execution] = deque(maxlen=FILLS)
        # What a screen has made of each order, so that it makes it once.
        self.rows: dict[str, tuple[SeenOrder, Any]] = {}
        # Why we took an order back, by its client id.
        self.taken_back: dict[int, str] = {}
        self._journal, self._data = journal, data
        # When each verdict let its order go, and mid at that moment.
        self._sent: dict[str, tuple[int, float | None]] = {}
        journal.within.append(self._take)

    def of(self, verdict: str) -> list[SeenOrder]:
        """Return the orders that a verdict let go, the newest first."""
        return [order for order in reversed(self.orders.values()) if order.verdict == verdict]

    def _take(self, entry: JournalEntry) -> None:
        if entry.kind in _SENT:
            self._sent[entry.id] = entry.at, self._mid(entry.ticker)
            if len(self._sent) > ORDERS:
                del self._sent[next(iter(self._sent))]
        elif entry.kind == "withdraw":
            self.taken_back[entry.value.cancel.client_id] = entry.words
            if len(self.taken_back) > ORDERS:
                del self.taken_back[next(iter(self.taken_back))]
        elif entry.kind == "order":
            self._order(entry)
        elif entry.kind == "fill":
            self._fill(entry)

    def _mid(self, ticker: str) -> float | None:
        view = self._data.views.get(ticker)
        return view.book.mid_price if view is not None and view.book.known else None

    def _order(self, entry: JournalEntry) -> None:
        state: OrderState = entry.value
        known = self.orders.get(entry.id)
        if known is None:
            _make_room(self.orders)
            self.orders[entry.id] = SeenOrder(
                id=entry.id, verdict=entry.parent, state=state, since=entry.at, at=entry.at,
                seq=entry.seq,
            )  # fmt: skip
            return
        self.orders[entry.id] = msgspec.structs.replace(
            known, state=state, at=entry.at, seq=entry.seq, verdict=known.verdict or entry.parent
        )

    def _fill(self, entry: JournalEntry) -> None:
        fill: AccountFill = entry.value
        order = self.orders.get(entry.parent)
        sent_at, mid = self._sent.get(order.verdict if order else "", (None, None))
        execution = Execution(
            id=entry.id, order=entry.parent, ticker=fill.ticker, side=fill.side,
            size=float(fill.size), price=float(fill.price), liquidity=fill.liquidity, fee=fill.fee,
            mid_price=self._mid(fill.ticker), mid_sent=mid,
            waited_ns=None if sent_at is None else entry.at - sent_at, seq=entry.seq, at=entry.at,
        )  # fmt: skip
        self.fills.append(execution)
        if order is not None:
            self.orders[order.id] = msgspec.structs.replace(
                order, filled=order.filled + fill.size, paid=order.paid + fill.price * fill.size,
                fee=order.fee + fill.fee, fills=(*order.fills, execution)[-_FILLS_OF_ONE:],
            )  # fmt: skip


_FILLS_OF_ONE: Final = 40


def _make_room(orders: dict[str, SeenOrder]) -> None:
    """Let go of one of too many: of what has ended the oldest, or else the oldest."""
    if len(orders) >= ORDERS:
        ended = (id_ for id_, order in orders.items() if order.state.final)
        del orders[next(ended, next(iter(orders)))]
