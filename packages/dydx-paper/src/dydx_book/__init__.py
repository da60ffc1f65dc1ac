"""Orders and the book they meet on: matched by price, then time, then the chain's exceptions.

    Order ──► OrderBook.place ──► Result: fills, what left the book, the chain's refusal
      │           │       ▲
      │       Accounts    │   who may pay for a match, and what changes hands
      ▼                   │
    Waiting.submit ──► Waiting.enter: prices, time    stateful orders, a block later

The only matching engine of the house: the paper venue trades on it, and so does the stand-in
venue. What is wrong with an order by itself, dydx_conn's `objection` tells before. Orders that
are not short-term go through `Waiting`, a value: `submit` and `withdraw` while a block is made,
`enter` at its end, which says what `trigger_prices` trigger and what to place, post-only first.

Units: `quantums` and `subticks` are integers, signed quantums are positive for long; a trigger
price is an exact `Fraction` of subticks; times are unix seconds.
Source: v4-chain x/clob/memclob, x/clob/abci.go, x/clob/keeper/untriggered_conditional_orders.go.
"""

from bisect import bisect_left, insort_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from functools import partial
from itertools import groupby, islice
from typing import Final, Protocol

import msgspec
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    ConditionType,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
    order_id,
)

__all__ = [
    "MAKER", "TAKER", "TRIGGER_MULTIPLIER", "Accounts", "BookError", "Entry", "Key", "Match",
    "Order", "OrderBook", "Positions", "Result", "Waiting", "can_trigger", "in_two_passes",
    "oracle_subticks", "trigger_prices",
]  # fmt: skip

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it.


class BookError(Exception):
    """What the caller handed in cannot be: a price that is none, an order in the wrong place."""


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
    condition_type: ConditionType = ""
    trigger_subticks: int = 0
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
        # Those of `orders` that go when a position changes sides: few, and asked for often.
        self._reducing: dict[Key, Order] = {}
        # A short-term id keeps its fill amount until the block has passed, a cancel its power.
        self._past: dict[Key, Order] = {}
        self._cancels: dict[Key, int] = {}
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

        A short-term cancel says its `good_til_block`: an order that lasts longer stays, and until
        then no order comes in under this id that does not last longer (ErrOrderIsCanceled).
        Without it the order just goes. What is wrong with a cancel, `cancel_error` tells before.
        """
        if good_til_block and key[2] == SHORT_TERM:
            self._cancels[key] = max(good_til_block, self._cancels.get(key, 0))
        order = self.orders.get(key)
        if order is None or (good_til_block or order.good_til_block) < order.good_til_block:
            return None
        self._remove(order)
        return order

    def cancel_error(
        self, key: Key, *,
        good_til_block: int = 0, good_til_block_time: int = 0, waiting: "Waiting | None" = None,
    ) -> str:  # fmt: skip
        """Name what the chain would refuse a cancel for, or return nothing.

        A short-term cancel must last longer than the one before it, and needs no order; a
        stateful one needs its order, here or `waiting`, and must not end earlier.
        """
        if key[2] == SHORT_TERM:
            known = 0 < good_til_block <= self._cancels.get(key, 0)
            return "ErrMemClobCancelAlreadyExists" if known else ""
        order = self.orders.get(key) or (waiting.find(key) if waiting else None)
        if order is None:
            return "ErrStatefulOrderDoesNotExist"
        early = good_til_block_time < order.good_til_block_time
        return "ErrInvalidStatefulOrderCancellation" if early else ""

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
        self._cancels = {key: until for key, until in self._cancels.items() if until > height}
        return gone

    def _objection(self, order: Order) -> str:
        if self._cancels and 0 < order.good_til_block <= self._cancels.get(order.key, 0):
            return "ErrOrderIsCanceled"
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
                reducing = self._reducing.values()
                for order in [o for o in reducing if o.subaccount == party]:
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
        if order.reduce_only:
            self._reducing[order.key] = order
        insort_left(self._sides[order.side], order, key=_rank)
        self._touch(order)

    def _remove(self, order: Order, reason: str = "", result: Result | None = None) -> None:
        side = self._sides[order.side]
        at = bisect_left(side, _rank(order), key=_rank)
        while side[at] is not order:
            at += 1
        del side[at], self.orders[order.key]
        self._reducing.pop(order.key, None)
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


# === Stateful orders ===
# Long-term and conditional orders belong to a block before they belong to the book: what a block
# took in enters when it is done, and can trade in the next.


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """One market's stateful orders that are not on its book, oldest first.

    `placed` are the long-term orders of the block at hand; `untriggered` the conditional ones.
    """

    placed: tuple[Order, ...] = ()
    untriggered: tuple[Order, ...] = ()

    def find(self, key: Key) -> Order | None:
        """Return the order that waits under this key."""
        return next((o for o in self.placed + self.untriggered if o.key == key), None)

    def submit(self, order: Order, on_book: Collection[Key] = ()) -> tuple["Waiting", str]:
        """Take an order into the block at hand; return the chain's refusal beside, or nothing.

        `on_book` are the ids that rest (`OrderBook.orders`): none may be placed twice. Neither
        collateral nor the side of a trigger is checked. `BookError` for an order of another kind.
        """
        if (order.order_flags, bool(order.condition_type)) not in _WAITS:
            kind = f"order_flags {order.order_flags}, condition_type {order.condition_type!r}"
            raise BookError(f"expected a long-term order or one with a condition, got {kind}")
        if order.key in on_book or self.find(order.key):
            return self, "ErrStatefulOrderAlreadyExists"
        if order.order_flags == CONDITIONAL:
            return Waiting(self.placed, (*self.untriggered, order)), ""
        return Waiting((*self.placed, order), self.untriggered), ""

    def withdraw(self, key: Key) -> tuple["Waiting", Order | None]:
        """Take an order out before it came to the book; return it beside, or nothing."""
        placed, untriggered = (
            tuple(order for order in orders if order.key != key)
            for orders in (self.placed, self.untriggered)
        )
        return Waiting(placed, untriggered), self.find(key)

    def enter(self, prices: Iterable[Fraction], time: int = 0) -> "Entry":
        """End a block at `time`: what expired goes; what is triggered and what was placed enters.

        Conditional orders are held against `prices` (of `trigger_prices`) in the very block that
        took them; without prices none is triggered.
        """
        ended = partial(_ended, time=time)
        late, placed = _parted(self.placed, ended)
        too_late, untriggered = _parted(self.untriggered, ended)
        for price in prices:
            fired, untriggered = _parted(untriggered, partial(can_trigger, price=price))
            # The chain asks first those that trigger when the price falls, oldest first.
            placed += sorted(fired, key=lambda order: not _falling(order))
        waiting = Waiting((), tuple(untriggered))
        return Entry(waiting, in_two_passes(placed), (*late, *too_late))


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What the end of a block did with the orders that waited.

    `entering` is what `OrderBook.place` takes now, in this order; those with a condition have
    just been triggered. `expired` ended before they came to it.
    """

    waiting: Waiting
    entering: tuple[Order, ...] = ()
    expired: tuple[Order, ...] = ()


def in_two_passes(orders: Iterable[Order]) -> tuple[Order, ...]:
    """Return the orders as they enter a book together: first all post-only, then the rest."""
    return tuple(sorted(orders, key=lambda order: order.time_in_force != "POST_ONLY"))


# The kinds that wait: their flags, and whether they have a condition.
_WAITS: Final = {(LONG_TERM, False), (CONDITIONAL, True)}


def _ended(order: Order, time: int) -> bool:
    return 0 < order.good_til_block_time <= time


def _parted(
    orders: Iterable[Order], holds: Callable[[Order], bool]
) -> tuple[list[Order], list[Order]]:
    """Return those for which it holds, and the others."""
    parts: tuple[list[Order], list[Order]] = ([], [])
    for order in orders:
        parts[not holds(order)].append(order)
    return parts


# === Triggers ===

TRIGGER_MULTIPLIER: Final = 5
"""Trades trigger within so many times a market's `min_price_change_ppm` of its oracle price."""


def can_trigger(order: Order, price: Fraction) -> bool:
    """Say whether a price (subticks) triggers a conditional order.

    The chain rounds the price against triggering, up where it must fall and down where it must
    rise; triggers being integers, that is the exact comparison.
    """
    if _falling(order):
        return price <= order.trigger_subticks
    return price >= order.trigger_subticks


def _falling(order: Order) -> bool:
    return (order.side == "BUY") == (order.condition_type == "TAKE_PROFIT")


def trigger_prices(
    oracle: Fraction, trades: Iterable[int], *, min_price_change_ppm: int
) -> list[Fraction]:
    """Return what a block's end holds against triggers, in the chain's order, in subticks.

    The oracle price, then the lowest and the highest trade of the block, each no farther from
    the oracle than `TRIGGER_MULTIPLIER` times the market's `min_price_change_ppm`, which is
    governance's (x/prices MarketParam). `BookError` for an oracle price that is not above zero.
    """
    if oracle <= 0:
        raise BookError(f"expected an oracle price above 0 subticks, got {oracle}")
    reach = oracle * TRIGGER_MULTIPLIER * min_price_change_ppm / 1_000_000
    traded = sorted(trades)
    extremes = [Fraction(at) for at in (*traded[:1], *traded[-1:])]
    return [oracle, *(min(max(at, oracle - reach), oracle + reach) for at in extremes)]


def oracle_subticks(market: PerpetualMarket, digits: int, exponent: int) -> Fraction:
    """Turn an oracle price, digits · 10^exponent USD, into subticks, without rounding."""
    return digits * Fraction(10) ** exponent / Fraction(market.price(1))
