"""Orders and the book they meet on: matched by price, then time, then the chain's exceptions.

    Order ──► OrderBook.place ──► Result: fills, what left the book, the chain's refusal
                  │
              Accounts: who may pay for a match, and what changes hands

The only matching engine of the house: the paper venue trades on it, and so does the stand-in
venue. What is wrong with an order by itself, dydx_conn's `objection` tells before.

Units: `quantums` and `subticks` are integers, signed quantums are positive for long.
Source: v4-chain x/clob/memclob.
"""

from bisect import bisect_left, insort_left
from collections import Counter
from collections.abc import Mapping
from itertools import groupby, islice
from typing import Final, Protocol

import msgspec
from dydx_conn import (
    SHORT_TERM,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
    order_id,
)

__all__ = [
    "MAKER", "TAKER", "Accounts", "Key", "Match", "Order", "OrderBook", "Positions", "Result",
]  # fmt: skip

# === Values ===

Key = tuple[Subaccount, int, int]
"""An order's identity in one market: its subaccount, client id and flags."""

MAKER: Final = 1
TAKER: Final = 2


class Order(msgspec.Struct, gc=False, kw_only=True):
    """An order as the book holds it; the book itself counts `filled` up.

    `id` is the indexer's, empty for who needs none; `good_til_block` 0 never expires.
    """

    subaccount: Subaccount
    client_id: int
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce = "GTT"
    reduce_only: bool = False
    order_flags: int = SHORT_TERM
    good_til_block: int = 0
    good_til_block_time: int = 0
    client_metadata: int = 0
    liquidation: bool = False
    filled: int = 0
    id: str = ""

    @property
    def key(self) -> Key:
        """Return the identity under which the book knows the order."""
        return (self.subaccount, self.client_id, self.order_flags)

    @property
    def sign(self) -> int:
        """Return 1 for who buys, -1 for who sells."""
        return 1 if self.side == "BUY" else -1

    @property
    def remaining(self) -> int:
        """Return the quantums not filled yet."""
        return self.quantums - self.filled

    @classmethod
    def of(cls, subaccount: Subaccount, request: OrderRequest) -> "Order":
        """Make the order that a request asks for."""
        asked = {name: getattr(request, name) for name in _ASKED}
        return cls(subaccount=subaccount, id=order_id(subaccount, request), **asked)


_ASKED: Final = [f for f in Order.__struct_fields__ if f in OrderRequest.__struct_fields__]


class Match(msgspec.Struct, frozen=True, gc=False):
    """Two orders that meet: always at the maker's price."""

    maker: Order
    taker: Order
    quantums: int
    subticks: int


class Result(msgspec.Struct, gc=False):
    """What became of a placement.

    `status` is the chain's word for how matching ended (Success, Undercollateralized,
    ImmediateOrCancelWouldRestOnBook, ReduceOnlyResized); `error` names why the order was not
    taken at all. `removed` is what left the book unfilled, with the indexer's reason for each.
    """

    order: Order
    status: str = "Success"
    error: str = ""
    fills: list[Match] = []
    removed: list[tuple[Order, str]] = []

    @property
    def filled(self) -> int:
        """Return the quantums that this placement filled."""
        return sum(match.quantums for match in self.fills)


class Accounts(Protocol):
    """What a book must know of the accounts that trade on it."""

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position in this market."""

    def check(self, match: Match) -> int:
        """Return who could not pay for the match: 0, `MAKER`, `TAKER` or both."""

    def settle(self, match: Match) -> None:
        """Change hands; called only after a clean check."""


class Positions:
    """Accounts of unlimited collateral: positions and nothing else."""

    def __init__(self, positions: Mapping[Subaccount, int] | None = None):
        self.positions = Counter(positions)

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position, 0 for a stranger."""
        return self.positions[subaccount]

    def check(self, match: Match) -> int:
        """Find nobody short of collateral."""
        return 0

    def settle(self, match: Match) -> None:
        """Move the quantums from seller to buyer."""
        for order in (match.taker, match.maker):
            self.positions[order.subaccount] += order.sign * match.quantums


# === Order book ===


class OrderBook:
    """One market's orders, matched by price, then time, then the chain's exceptions.

    What is wrong with an order by itself, `objection` tells before. Source: x/clob/memclob.
    """

    def __init__(
        self, market: PerpetualMarket, accounts: Accounts | None = None, *,
        track_changes: bool = False,
    ):  # fmt: skip
        self.market = market
        self.accounts: Accounts = accounts or Positions()
        self.orders: dict[Key, Order] = {}
        # By rank, then by age: the order that trades next is the last.
        self._sides: dict[Side, list[Order]] = {"BUY": [], "SELL": []}
        # A short-term id keeps its fill amount until the block has passed.
        self._past: dict[Key, Order] = {}
        self._changes: dict[tuple[Side, int], None] | None = {} if track_changes else None

    @property
    def best_bid(self) -> int | None:
        """Return the highest price bid, in subticks."""
        bids = self._sides["BUY"]
        return bids[-1].subticks if bids else None

    @property
    def best_ask(self) -> int | None:
        """Return the lowest price asked, in subticks."""
        asks = self._sides["SELL"]
        return asks[-1].subticks if asks else None

    def levels(self, side: Side, n: int | None = None) -> list[tuple[int, int]]:
        """Return the best `n` levels, or all, as (subticks, quantums), best first."""
        by_price = groupby(reversed(self._sides[side]), key=lambda order: order.subticks)
        return [(at, sum(o.remaining for o in orders)) for at, orders in islice(by_price, n)]

    def take_changes(self) -> list[tuple[Side, int, int]]:
        """Return (side, subticks, quantums now) of levels touched since the last call."""
        changes, self._changes = self._changes or {}, {}
        now = {side: dict(self.levels(side)) for side in self._sides}
        return [(side, at, now[side].get(at, 0)) for side, at in changes]

    def place(self, order: Order) -> Result:
        """Match an order and rest what may rest; whatever happens is in the result."""
        result = Result(order, error=self._objection(order))
        if result.error:
            return result
        if order.key in self.orders:
            self._remove(self.orders[order.key])
        if order.key in self._past:
            order.filled = self._past.pop(order.key).filled
        self._match(order, result)
        self._finish(order, result)
        return result

    def cancel(self, key: Key, good_til_block: int | None = None) -> Order | None:
        """Take an order off the book and return it, if it was there.

        A short-term cancel whose `good_til_block` is smaller than the order's leaves it.
        """
        order = self.orders.get(key)
        if order is None or (good_til_block or order.good_til_block) < order.good_til_block:
            return None
        self._remove(order)
        return order

    def expire(self, height: int, time: int = 0) -> list[Order]:
        """Remove and return what ended with block `height` or by `time` (unix seconds)."""
        gone = [
            order
            for order in self.orders.values()
            if 0 < order.good_til_block <= height or 0 < order.good_til_block_time <= time
        ]
        for order in gone:
            self._remove(order)
        self._past = {key: o for key, o in self._past.items() if o.good_til_block > height}
        return gone

    def _objection(self, order: Order) -> str:
        standing = self.orders.get(order.key) or self._past.get(order.key)
        refused = _replacement_objection(standing, order) if standing else ""
        adds = order.reduce_only and order.sign * self.accounts.position(order.subaccount) >= 0
        return refused or ("ErrReduceOnlyWouldIncreasePositionSize" if adds else "")

    def _match(self, order: Order, result: Result) -> None:
        opposite = self._sides["SELL" if order.side == "BUY" else "BUY"]
        while order.remaining and opposite and _rank(opposite[-1]) + _rank(order) >= 0:
            maker = opposite[-1]
            quantums = min(self._tradable(maker), self._tradable(order))
            selfish = maker.subaccount == order.subaccount
            if selfish or quantums <= 0:
                reason = "SELF_TRADE_ERROR" if selfish else "REDUCE_ONLY_RESIZE"
                self._remove(maker, reason, result)
                continue
            match = Match(maker, order, quantums, maker.subticks)
            failed = self.accounts.check(match)
            if failed & MAKER:
                self._remove(maker, "UNDERCOLLATERALIZED", result)
            if failed & TAKER:
                result.status = "Undercollateralized"
                return
            if not failed and not self._trade(match, result):
                return

    def _tradable(self, order: Order) -> int:
        if not order.reduce_only:
            return order.remaining
        return min(order.remaining, -order.sign * self.accounts.position(order.subaccount))

    def _trade(self, match: Match, result: Result) -> bool:
        """Fill one match; say whether the taker may go on."""
        maker, taker = match.maker, match.taker
        if taker.time_in_force == "POST_ONLY":
            result.error = "ErrPostOnlyWouldCrossMakerOrder"
            return False
        parties = (taker.subaccount, maker.subaccount)
        before = [self.accounts.position(party) for party in parties]
        self.accounts.settle(match)
        result.fills.append(match)
        taker.filled += match.quantums
        maker.filled += match.quantums
        self._touch(maker)
        if not maker.remaining:
            self._remove(maker)
        after = [self.accounts.position(party) for party in parties]
        for party, old, new in zip(parties, before, after, strict=True):
            if old != new and old * new <= 0:  # it closed, opened or turned
                held = self.orders.values()
                for order in [o for o in held if o.reduce_only and o.subaccount == party]:
                    self._remove(order, "REDUCE_ONLY_RESIZE", result)
        if taker.reduce_only and after[0] == 0 and taker.remaining:
            result.status = "ReduceOnlyResized"
            return False
        return True

    def _finish(self, order: Order, result: Result) -> None:
        """Rest what is left of an order, or say why it may not."""
        if order.remaining and not result.error:
            if result.status == "Success" and order.time_in_force != "IOC":
                self._rest(order)
                return
            if result.status == "Success":
                result.status = "ImmediateOrCancelWouldRestOnBook"
            result.removed.append((order, _REMOVALS[result.status]))
        self._remember(order)

    def _rest(self, order: Order) -> None:
        self.orders[order.key] = order
        insort_left(self._sides[order.side], order, key=_rank)
        self._touch(order)

    def _remove(self, order: Order, reason: str = "", result: Result | None = None) -> None:
        side = self._sides[order.side]
        at = bisect_left(side, _rank(order), key=_rank)
        while side[at] is not order:
            at += 1
        del side[at], self.orders[order.key]
        self._remember(order)
        self._touch(order)
        if result is not None:
            result.removed.append((order, reason))

    def _remember(self, order: Order) -> None:
        if order.filled and order.good_til_block:
            self._past[order.key] = order

    def _touch(self, order: Order) -> None:
        if self._changes is not None:
            self._changes[order.side, order.subticks] = None


def _rank(order: Order) -> int:
    # Two orders cross if their ranks add up to 0 or more.
    return order.sign * order.subticks


_REMOVALS: Final = {
    "Undercollateralized": "UNDERCOLLATERALIZED",
    "ReduceOnlyResized": "REDUCE_ONLY_RESIZE",
    "ImmediateOrCancelWouldRestOnBook": "IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK",
}


def _replacement_objection(standing: Order, order: Order) -> str:
    alike = standing.side == order.side and standing.reduce_only == order.reduce_only
    alike = alike and standing.time_in_force == order.time_in_force
    # At equal blocks the chain compares hashes, which nobody can rely on: refused here.
    later = order.good_til_block > standing.good_til_block
    objections = {
        "ErrStatefulOrderAlreadyExists": order.order_flags != SHORT_TERM,
        "ErrInvalidReplacement": not alike or not later,
        "ErrImmediateExecutionOrderAlreadyFilled": order.time_in_force == "IOC" and standing.filled,
        "ErrOrderFullyFilled": order.quantums <= standing.filled,
    }
    return next((error for error, holds in objections.items() if holds), "")
