"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                     OrderBook · Ledger

`PaperVenue` trades one subaccount against recorded books; `paper` lifts it onto a stream. It is
the only rulebook of the venue: whoever needs an exchange stands on these sections.

- Errors: `PaperError` and its children; `Refused`, a value.
- Orders and matches: `Order`, `Fill`, `Result`, who may pay for a match.
- Order book: `OrderBook`, by price, then time, then the chain's exceptions.
- Triggers, Stateful orders: what triggers a conditional order; `Waiting`, a block later.
- Records, History: what a ledger remembers of a subaccount, within `Caps`, page by page.
- Tally, Performance: sums of a whole life, and what to think of it.
- Events, Money, Ledger: one subaccount's money; `rebuild` makes of a journal the same ledger.
- Text, Rows, Account frames: an account in the indexer's own words, field by field.
- Latency, Queue position, Optimism, Limits: what stands between an order and its fill.
- Desk, Venue, Streams: one market as our orders meet it; the venue; the operator.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long; a trigger price is an exact `Fraction` of subticks;
times are unix seconds in orders and unix nanoseconds elsewhere. Fees are rounded up, fills
truncated. Floats appear in `Performance` and as the error of `Optimism` alone.

Bias, on purpose and by name: a message waits out its `Latency`, then for the next book view of
its market, or the next block, so it never trades on what it was decided on; then it is first in
line for what it sees, and nobody reacts to it. A resting order has a `QueuePosition`: it fills
when the other side comes to its price, or by trades beyond what stood before it. How much of
all this the tape bears out, `Optimism` says.

Nothing here reads a clock or opens a socket; chance comes from a seed that is handed in. What the
chain refuses in an order by itself, dydx_conn's `objection` says.
Sources: v4-chain x/clob (memclob, abci.go, keeper), x/subaccounts, x/sending; indexer ender,
vulcan, comlink and socks.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "BookError", "HistoryError", "LedgerError", "Refused",
    # Orders and matches
    "MAKER", "TAKER", "Accounts", "Key", "Match", "Order", "Positions", "Result",
    # Order book
    "OrderBook",
    # Triggers
    "TRIGGER_MULTIPLIER", "can_trigger", "oracle_subticks", "trigger_prices",
    # Stateful orders
    "Entry", "Waiting", "in_two_passes",
    # Records
    "NEVER", "FillRecord", "FundingRecord", "OrderRecord", "PnlPoint", "PositionRecord", "Stamp",
    "TransferRecord",
    # History
    "Caps", "History", "Page", "page_of",
    # Tally
    "Tally",
    # Performance
    "Judged", "Performance", "performance",
    # Events
    "Event", "Filled", "Funded", "Liquidated", "Marked", "Opened", "Regraded", "Settled", "Valued",
    # Money
    "SHARED_FUND", "Charge", "InsuranceFunds", "charge", "collateral_pool", "parent_of", "transfer",
    "withdrawals_blocked",
    # Ledger
    "Holding", "Ledger", "rebuild",
    # Text
    "Fields",
    # Rows
    "asset_fields", "fill_fields", "order_fields", "position_fields", "transfer_fields",
    # Account frames
    "account_frame", "snapshot",
    # Latency
    "Latency", "PaperError",
    # Queue position
    "Place", "QueuePosition",
    # Optimism
    "Optimism",
    # Limits
    "Attempts",
    # Venue
    "PaperVenue",
    # Streams
    "paper",
]
# fmt: on

from bisect import bisect_left, insort_left
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from functools import partial
from itertools import chain, cycle, groupby, islice, pairwise, repeat
from math import sqrt
from operator import itemgetter
from random import Random
from statistics import fmean, stdev
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, cast, get_args

import dydx_risk as margin
import dydx_risk as risk
import msgspec
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    STANDARD_FEE_TIERS,
    TWAP,
    CancelRequest,
    ConditionType,
    Fees,
    FeeTier,
    Frame,
    GridError,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
    cancel_objection,
    code_of,
    event_id,
    fee,
    fee_tier,
    fill_to_quote,
    fold,
    objection,
    order_id,
    stateful_order_limit,
    subaccount_id,
    ws_frame,
)
from dydx_conn import fee as fee_of
from dydx_data import MarketView, stopping
from reactivex import Observable

_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _SECOND_NS

# === Errors ===

# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob". What this venue alone refuses has a code that the chain cannot have.

_OURS: Final = {"ErrTwapOrderNotSimulated": -1}


class HistoryError(Exception):
    """The caller asked for a page that cannot be."""


# A refused order is a value, not an exception: the chain's own name for it.


class BookError(Exception):
    """What the caller handed in cannot be: a price that is none, an order in the wrong place."""


class LedgerError(Exception):
    """Anything this floor refuses as a bug of the caller; expected refusals are `Refused`."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What was not done to a ledger, and why; nothing changed."""

    reason: Literal["DUPLICATE", "OVERFLOW", "BLOCKED", "UNKNOWN", "UNDERCOLLATERALIZED", "SAME"]
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.reason}: expected {self.expected}, got {self.got}"


# === Orders and matches ===

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


# === Records ===


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """When something happened: the frame that caused it, its time, the chain's, its block."""

    seq: int = 0
    at: int = 0
    time_ns: int = 0
    height: int = 0


NEVER: Final = Stamp()


class OrderRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it stands, under the indexer's id; `quantums` and `filled` are unsigned."""

    id: str
    ticker: str
    side: str
    quantums: int
    subticks: int
    filled: int = 0
    status: str = "OPEN"
    reason: str = ""
    time_in_force: str = "GTT"
    order_flags: int = 0
    client_id: int = 0
    reduce_only: bool = False
    created: Stamp = NEVER
    updated: Stamp = NEVER


class FillRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill as it was booked: `quote` is paid if positive, `gain` is what it closed earned.

    `fee` is all that was charged for it, `builder_fee` the builder's part of that.
    """

    id: str
    order_id: str
    ticker: str
    quantums: int
    subticks: int
    quote: int
    fee: int
    builder_fee: int
    insurance: int
    gain: int
    liquidity: str
    status: str
    created: Stamp


class PositionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position from its opening to now or its end.

    `opened` and `closed` are unsigned sums, their costs sums of quantums times subticks.
    `realized` holds funding and no fees; `unrealized` is None without an oracle price.
    """

    id: str
    ticker: str
    status: str
    is_long: bool
    quantums: int
    peak: int
    opened: int
    open_cost: int
    closed: int
    close_cost: int
    fees: int
    net_funding: int
    realized: int
    unrealized: int | None
    created: Stamp
    ended: Stamp | None

    @property
    def entry(self) -> Fraction | None:
        """Return the average entry price in subticks, exact."""
        return Fraction(self.open_cost, self.opened) if self.opened else None

    @property
    def exit(self) -> Fraction | None:
        """Return the average exit price in subticks, exact; None if nothing was closed."""
        return Fraction(self.close_cost, self.closed) if self.closed else None


class FundingRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one position was credited (positive) or paid, floored as the indexer shows it."""

    position_id: str
    ticker: str
    quantums: int
    index: int
    credited: int
    created: Stamp
    status: str = ""


class TransferRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Collateral that came (positive) or went; `other` is the subaccount at the other end."""

    quote_quantums: int
    other: Subaccount | None = None
    created: Stamp = NEVER
    ticker: str = "USDC"

    @property
    def status(self) -> str:
        """Return the indexer's word for it."""
        comes = self.quote_quantums > 0
        if self.other is None:
            return "DEPOSIT" if comes else "WITHDRAWAL"
        return "TRANSFER_IN" if comes else "TRANSFER_OUT"


class PnlPoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the account was worth at a moment; `equity` is None if a position had no price."""

    equity: int | None
    net_transfers: int
    created: Stamp

    @property
    def total_pnl(self) -> int | None:
        """Return the equity that was not brought in."""
        return None if self.equity is None else self.equity - self.net_transfers


# === History ===

# What people ask about afterwards: newest first, fifty at a time, and never more than is kept.


class Caps(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many of each are kept; the oldest go first, of orders the oldest that have ended.

    A fill reported twice is recognised for as long as the first report is kept.
    """

    orders: int = 1_000
    fills: int = 10_000
    positions: int = 1_000
    payments: int = 10_000
    transfers: int = 1_000
    points: int = 17_520  # two years of hours


Row = TypeVar(
    "Row", OrderRecord, FillRecord, PositionRecord, FundingRecord, TransferRecord, PnlPoint
)

PAGE: Final = 50
_MOST_PER_PAGE: Final = 1_000
_LIVE: Final = frozenset({"OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED", "BEST_EFFORT_CANCELED"})


class Page(msgspec.Struct, Generic[Row], frozen=True, gc=False, kw_only=True):
    """Some of what was asked for: `total` rows match, page `page` (from 1) holds `rows`."""

    rows: tuple[Row, ...]
    total: int
    page: int
    limit: int


def page_of(
    rows: Iterable[Row], *, status: str | Collection[str] = (), ticker: str = "",
    since_ns: int | None = None, until_ns: int | None = None, page: int = 1, limit: int = PAGE,
) -> Page[Row]:  # fmt: skip
    """Choose among rows, oldest first, and return one page of them, newest first.

    Created at `since_ns` or later and before `until_ns`, in chain time. The status of a fill is
    its type, that of a transfer its direction. Raises `HistoryError` for a page before the
    first or a limit that is not 1 to 1,000.
    """
    if page < 1 or not 1 <= limit <= _MOST_PER_PAGE:
        expected = f"a page from 1 and a limit of 1 to {_MOST_PER_PAGE}"
        raise HistoryError(f"expected {expected}, got page {page}, limit {limit}")
    wanted = {status} if isinstance(status, str) else set(status)
    found = [
        row
        for row in rows
        if (not wanted or getattr(row, "status", "") in wanted)
        and (not ticker or getattr(row, "ticker", "") == ticker)
        and (since_ns is None or row.created.time_ns >= since_ns)
        and (until_ns is None or row.created.time_ns < until_ns)
    ]
    found.reverse()
    first = (page - 1) * limit
    return Page(rows=tuple(found[first : first + limit]), total=len(found), page=page, limit=limit)


class History:
    """What a ledger remembers, within its caps; every question takes the filters of `page_of`."""

    def __init__(self, caps: Caps):
        self.caps = caps
        self._orders: OrderedDict[str, OrderRecord] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._fills: OrderedDict[str, FillRecord] = OrderedDict()
        self.ended: deque[PositionRecord] = deque(maxlen=caps.positions)
        self._payments: deque[FundingRecord] = deque(maxlen=caps.payments)
        self._transfers: deque[TransferRecord] = deque(maxlen=caps.transfers)
        self.points: deque[PnlPoint] = deque(maxlen=caps.points)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def orders(self, **filters: Any) -> Page[OrderRecord]:
        """Return orders as they stand, by when they were created."""
        return page_of(self._orders.values(), **filters)

    def fills(self, order_id: str = "", **filters: Any) -> Page[FillRecord]:
        """Return fills, of one order if it is named."""
        fills = self._fills.values()
        chosen = (fill for fill in fills if not order_id or fill.order_id == order_id)
        return page_of(chosen, **filters)

    def closed_positions(self, **filters: Any) -> Page[PositionRecord]:
        """Return positions that have ended, the last to end first."""
        return page_of(self.ended, **filters)

    def payments(self, position_id: str = "", **filters: Any) -> Page[FundingRecord]:
        """Return funding payments, of one position if it is named."""
        payments = self._payments
        chosen = (paid for paid in payments if not position_id or paid.position_id == position_id)
        return page_of(chosen, **filters)

    def transfers(self, **filters: Any) -> Page[TransferRecord]:
        """Return deposits, withdrawals and transfers between subaccounts."""
        return page_of(self._transfers, **filters)

    def pnl(self, **filters: Any) -> Page[PnlPoint]:
        """Return the historical profit."""
        return page_of(self.points, **filters)

    def knows_fill(self, id_: str) -> bool:
        """Tell whether a fill of this id was booked, as far back as fills are kept."""
        return id_ in self._fills

    def keep_order(self, order: OrderRecord) -> None:
        """Remember how an order stands; it keeps its place and the moment of its creation."""
        known = self._orders.get(order.id)
        if known is not None:
            order = msgspec.structs.replace(order, created=known.created)
        self._orders[order.id] = order
        self._ended.pop(order.id, None)
        if order.status not in _LIVE:
            self._ended[order.id] = None
        if len(self._orders) > self.caps.orders:
            oldest = next(iter(self._ended or self._orders))
            self._ended.pop(oldest, None)
            del self._orders[oldest]

    def keep_fill(self, fill: FillRecord) -> None:
        """Remember a fill."""
        self._fills[fill.id] = fill
        if len(self._fills) > self.caps.fills:
            self._fills.popitem(last=False)

    def keep(self, row: PositionRecord | FundingRecord | TransferRecord | PnlPoint) -> None:
        """Remember what only ever comes once."""
        shelves: dict[type, deque[Any]] = {
            PositionRecord: self.ended, FundingRecord: self._payments,
            TransferRecord: self._transfers, PnlPoint: self.points,
        }  # fmt: skip
        shelves[type(row)].append(row)


# === Tally ===


class Tally(msgspec.Struct, gc=False, kw_only=True):
    """Sums over the whole life of a ledger, whatever its history forgets.

    A trade is a position from its opening to its end; its profit is after funding and fees.
    Volumes are unsigned quote quantums; `exposed_ns` is time with any position open.
    """

    won: int = 0
    lost: int = 0
    even: int = 0
    gross_profit: int = 0
    gross_loss: int = 0
    maker_volume: int = 0
    taker_volume: int = 0
    exposed_ns: int = 0
    held_since_ns: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def see(self, when: Stamp) -> None:
        """Take a moment in; one without a time says nothing."""
        self.first_ns = self.first_ns or when.time_ns
        self.last_ns = max(self.last_ns, when.time_ns)

    def end(self, profit: int) -> None:
        """Count a trade that has ended."""
        self.won += profit > 0
        self.lost += profit < 0
        self.even += not profit
        self.gross_profit += max(0, profit)
        self.gross_loss += max(0, -profit)


# === Performance ===

# Opinions, hence floats, on conventions stated here. A figure that does not exist is None.

_HOURS_A_YEAR: Final = 24 * 365


class Performance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a ledger did. Money is quote quantums; ratios are fractions (0.06 is six per cent).

    A trade is a position from its opening to its end, its profit after funding and fees; an even
    one is neither won nor lost but counts in `win_rate`. These and the totals run over the
    ledger's whole life, the rest over the points that its history keeps.

    - `profit_factor`: gross profit over gross loss; None without a loss.
    - `max_drawdown`: the deepest fall of equity less transfers from its peak, as money;
      `max_drawdown_ratio`: of one unit invested at the first point, transfers taken out;
      `drawdown_ns`: from the peak of the former until it was reached again, or the last point.
    - `sharpe`, `sortino`: hourly returns, annualised by sqrt(24 * 365), risk-free rate 0. A
      return lies between the last points of two hours that follow on each other; transfers are
      taken out. Sharpe divides by the sample's standard deviation, Sortino by the root of
      the mean square of what is below 0. None with fewer than `least_returns`.
    - `exposure`: share of the time between first and last event with any position open.
    - `turnover`: volume traded over the mean equity of the points.

    Points without equity are left out; ratios are None if equity was ever not positive.
    """

    trades: int
    win_rate: float | None
    profit_factor: float | None
    average_win: float | None
    average_loss: float | None
    max_drawdown: int
    max_drawdown_ratio: float | None
    drawdown_ns: int
    sharpe: float | None
    sortino: float | None
    exposure: float | None
    turnover: float | None
    volume: int
    fees: int
    funding: int
    insurance: int


class Judged(Protocol):
    """What must be known of a ledger to judge it."""

    history: History
    tally: Tally
    fees_paid: int
    funding_paid: int
    insurance_paid: int


def performance(ledger: Judged, least_returns: int = 24) -> Performance:
    """Return how a ledger did, on the conventions of `Performance`."""
    tally, points = ledger.tally, [p for p in ledger.history.points if p.equity is not None]
    trades, volume = tally.won + tally.lost + tally.even, tally.maker_volume + tally.taker_volume
    fall, lasted = _drawdown(points)
    returns = _hourly_returns(points)
    if returns is not None and len(returns) < max(2, least_returns):
        returns = None
    return Performance(
        trades=trades,
        win_rate=_ratio(tally.won, trades),
        profit_factor=_ratio(tally.gross_profit, tally.gross_loss),
        average_win=_ratio(tally.gross_profit, tally.won),
        average_loss=_ratio(tally.gross_loss, tally.lost),
        max_drawdown=fall,
        max_drawdown_ratio=_drawdown_ratio(points),
        drawdown_ns=lasted,
        sharpe=_annual(returns, stdev) if returns else None,
        sortino=_annual(returns, _downside) if returns else None,
        exposure=_exposure(tally),
        turnover=_ratio(volume * len(points), sum(_equity(point) for point in points)),
        volume=volume,
        fees=ledger.fees_paid,
        funding=ledger.funding_paid,
        insurance=ledger.insurance_paid,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def _equity(point: PnlPoint) -> int:
    return point.equity or 0


def _drawdown(points: Sequence[PnlPoint]) -> tuple[int, int]:
    """Return the deepest fall of the profit and how long it took to be made up for."""
    peak, since, deepest, lasted, below = None, 0, 0, 0, False
    for point in points:
        profit, now = _equity(point) - point.net_transfers, point.created.time_ns
        if below:  # the deepest fall until now is the one we are in
            lasted = now - since
        if peak is None or profit >= peak:
            peak, since, below = profit, now, False
        elif peak - profit > deepest:
            deepest, lasted, below = peak - profit, now - since, True
    return deepest, lasted


def _drawdown_ratio(points: Sequence[PnlPoint]) -> float | None:
    grown = peak = 1.0
    deepest = 0.0
    for before, after in pairwise(points):
        if _equity(before) <= 0:
            return None
        grown *= 1 + _return(before, after)
        peak = max(peak, grown)
        deepest = max(deepest, 1 - grown / peak)
    return deepest if len(points) > 1 else None


def _hourly_returns(points: Sequence[PnlPoint]) -> list[float] | None:
    last_of_hour = {point.created.time_ns // _HOUR_NS: point for point in points}
    if any(_equity(point) <= 0 for point in last_of_hour.values()):
        return None
    pairs = pairwise(sorted(last_of_hour.items()))
    return [_return(a, b) for (hour, a), (following, b) in pairs if following == hour + 1]


def _return(before: PnlPoint, after: PnlPoint) -> float:
    moved = after.net_transfers - before.net_transfers
    return (_equity(after) - _equity(before) - moved) / _equity(before)


def _downside(returns: Sequence[float]) -> float:
    return sqrt(fmean(min(0.0, r) ** 2 for r in returns))


def _annual(
    returns: Sequence[float], deviation: Callable[[Sequence[float]], float]
) -> float | None:
    spread = deviation(returns)
    return fmean(returns) / spread * sqrt(_HOURS_A_YEAR) if spread > 0 else None


def _exposure(tally: Tally) -> float | None:
    open_now = tally.last_ns - tally.held_since_ns if tally.held_since_ns else 0
    return _ratio(tally.exposed_ns + open_now, tally.last_ns - tally.first_ns)


# === Events ===

# Every change of a ledger, as it was asked for: applied in order to a ledger opened alike they
# make the same ledger. What was refused changed nothing and leaves no event.


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A ledger began, with what it holds and how much it remembers."""

    subaccount: Subaccount
    deposit: int
    caps: "Caps"


class Filled(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill: signed quantums at a price. `quote` (unsigned) overrules it, as deleveraging does.

    The same `id` is booked once; an empty one is made up from the count of fills.
    """

    market: PerpetualMarket
    quantums: int
    subticks: int
    fee: int = 0
    insurance: int = 0
    when: Stamp = NEVER
    quote: int | None = None
    id: str = ""
    order_id: str = ""
    liquidity: str = "TAKER"
    type: str = "LIMIT"
    builder_fee: int = 0


class Valued(msgspec.Struct, frozen=True, gc=False):
    """A market's oracle price or open interest moved."""

    ticker: str
    price: int
    exponent: int
    interest: int | None


class Funded(msgspec.Struct, frozen=True, gc=False):
    """Funding indices moved: what positions owe by it waits until the account is touched."""

    indices: dict[str, int]
    when: Stamp


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The account was touched: what its funding came to went to its balance."""

    when: Stamp


class Regraded(msgspec.Struct, frozen=True, gc=False):
    """Governance changed a market's terms under an open position."""

    market: PerpetualMarket


class Liquidated(msgspec.Struct, frozen=True, gc=False):
    """The chain liquidated some or all of a position; its fills are events of their own."""


class Marked(msgspec.Struct, frozen=True, gc=False):
    """A point of the historical profit was taken."""

    when: Stamp


Event = (
    Opened | Filled | Valued | Funded | Settled | Regraded | Liquidated | Marked
    | TransferRecord | OrderRecord
)  # fmt: skip

# === Money ===

# What fills cost, and when the chain lets collateral leave.

BLOCKED_AFTER_NEGATIVE: Final = 50
_UINT64: Final = 2**64


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a fill costs: the chain's fee (a rebate if negative) and a builder's on top."""

    fee: int
    builder_fee: int = 0

    @property
    def total(self) -> int:
        """Return what the trader pays."""
        return self.fee + self.builder_fee


def charge(
    quote_quantums: int, liquidity: str, fees: Fees, *,
    builder_fee_ppm: int = 0, liquidation: bool = False,
) -> Charge:  # fmt: skip
    """Return what a fill costs one side, each part rounded up, rebates too.

    Who is liquidated pays no taker fee, and who trades against it gets no rebate.
    Source: x/clob/keeper/process_single_match.go.
    """
    if not liquidation:
        builder = fee_of(quote_quantums, builder_fee_ppm)
        return Charge(fees.of(quote_quantums, liquidity), builder)
    return Charge(0 if liquidity == "TAKER" else max(0, fees.of(quote_quantums, "MAKER")))


SHARED_FUND: Final = "insurance-fund"


class InsuranceFunds:
    """What pays where a liquidation brings too little, and gets what it brings too much.

    `balances` (quote quantums) stand under the chain's names: cross markets share one fund, an
    isolated market has its own. The shared one opens with `shared`; the others open empty, as
    those of new markets do. None pays whatever is asked, below zero too.
    Source: x/clob/keeper/deleveraging.go, IsValidInsuranceFundDelta.
    """

    def __init__(self, shared: int | None):
        if shared is not None and shared < 0:
            raise LedgerError(f"expected an insurance fund of 0 or more, got {shared}")
        self.balances = {SHARED_FUND: shared or 0}
        self._bottomless = shared is None

    def covers(self, market: PerpetualMarket, delta: int) -> bool:
        """Tell whether a market's fund can take in `delta`: negative is paid out."""
        after = self.balances.get(_fund_of(market), 0) + delta
        return delta >= 0 or after >= 0 or self._bottomless

    def take(self, market: PerpetualMarket, delta: int) -> None:
        """Take in what a liquidation in a market brought too much, or negative pay it."""
        name = _fund_of(market)
        self.balances[name] = self.balances.get(name, 0) + delta


def _fund_of(market: PerpetualMarket) -> str:
    alone = market.market_type == "ISOLATED"
    return f"{SHARED_FUND}:{market.perpetual_id}" if alone else SHARED_FUND


def withdrawals_blocked(
    height: int, negative_at: int | None = None, outage_at: int | None = None
) -> bool:
    """Tell whether the chain lets nothing leave a collateral pool at a height.

    `negative_at` is the last block that saw an account of that pool worth less than nothing,
    `outage_at` the first one after a chain outage of five minutes. Source: x/subaccounts/keeper.
    """
    seen = (block for block in (negative_at, outage_at) if block is not None)
    return any(height - block < BLOCKED_AFTER_NEGATIVE for block in seen)


def collateral_pool(markets: Iterable[PerpetualMarket]) -> str:
    """Return the pool that holds an account's USDC: an isolated market's ticker, or nothing."""
    isolated = (market.ticker for market in markets if market.market_type == "ISOLATED")
    return next(isolated, "")


def parent_of(subaccount: Subaccount) -> Subaccount:
    """Return the cross subaccount (0 to 127) to which an isolated one belongs, or itself."""
    return Subaccount(subaccount.owner, subaccount.number % 128)


def transfer(
    sender: "Ledger", recipient: "Ledger", quote_quantums: int, when: Stamp = NEVER, *,
    blocked: bool = False,
) -> TransferRecord | Refused:  # fmt: skip
    """Move collateral between two ledgers, a parent and its isolated child say.

    The sender must stay initially collateralised; `blocked` is what `withdrawals_blocked` says
    of either pool. Returns the sender's record. Source: x/sending/types, x/subaccounts/keeper.
    """
    if sender.subaccount == recipient.subaccount:
        return Refused("SAME", "another subaccount as recipient", str(sender.subaccount))
    to = recipient.subaccount
    sent = sender.withdraw(quote_quantums, when, blocked=blocked, other=to)
    if isinstance(sent, TransferRecord):
        recipient.deposit(quote_quantums, when, other=sender.subaccount)
    return sent


# === Ledger ===


class Holding(msgspec.Struct, gc=False, kw_only=True):
    """One position from its opening to its end, with the indexer's averages.

    Costs are sums of quantums times subticks, so that every average is exact.
    """

    market: PerpetualMarket
    id: str
    is_long: bool
    quantums: int = 0
    peak: int = 0
    opened: int = 0
    open_cost: int = 0
    closed: int = 0
    close_cost: int = 0
    funding_index: int = 0
    net_funding: int = 0
    fees: int = 0
    status: str = "OPEN"
    created: Stamp = NEVER
    ended: Stamp | None = None

    @property
    def realized(self) -> int:
        """Return the profit of what was closed, with funding, without fees: quote quantums."""
        return self.gain_of(self.closed, self.close_cost) + self.net_funding

    def unrealized(self, net_notional: int) -> int:
        """Return the profit of what is open at its present value, in quote quantums."""
        return net_notional - self._per_opened(self.quantums * self.open_cost)

    def record(self, net_notional: int | None) -> PositionRecord:
        """Return the position as it stands, at its present value if that is known."""
        return PositionRecord(
            id=self.id, ticker=self.market.ticker, status=self.status, is_long=self.is_long,
            quantums=self.quantums, peak=self.peak, opened=self.opened,
            open_cost=self.open_cost, closed=self.closed, close_cost=self.close_cost,
            fees=self.fees, net_funding=self.net_funding, realized=self.realized,
            unrealized=None if net_notional is None else self.unrealized(net_notional),
            created=self.created, ended=self.ended,
        )  # fmt: skip

    def gain_of(self, quantums: int, cost: int) -> int:
        """Return what closing `quantums` for `cost` earns over the average entry."""
        gain = cost * self.opened - self.open_cost * quantums
        return self._per_opened(gain if self.is_long else -gain)

    def _per_opened(self, numerator: int) -> int:
        exponent = self.market.quantum_conversion_exponent
        up, down = (int(10 ** max(0, power)) for power in (exponent, -exponent))
        return numerator * up // (self.opened * down)


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums. Every payment has its other end in
    `paid_for_fills`, `fees_paid`, `funding_paid` or `insurance_paid`: taken from `deposits`
    they always leave the balance. Fills and transfers settle funding first, as the chain does,
    and margin counts what is `unsettled`. `indices` are the newest funding indices,
    `oracles` price, exponent and open interest by ticker. `builder_paid` is part of
    `fees_paid`. `journal` is handed every change as an `Event`, once it has happened.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int = 0, *, caps: Caps | None = None,
        journal: Callable[[Event], object] | None = None,
    ):  # fmt: skip
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.holdings: dict[str, Holding] = {}
        self.indices: dict[str, int] = {}
        self.paid_for_fills = self.fees_paid = self.funding_paid = self.insurance_paid = 0
        self.builder_paid = self.unsettled = 0
        self.fills = self.liquidations = self.wins = self.losses = 0
        self._realized = self._opened = 0
        self.oracles: dict[str, tuple[int, int, int | None]] = {}
        self._parts: dict[str, margin.PositionMargin] = {}
        self._margin: margin.MarginFigures | None = None
        self.history = History(caps or Caps())
        self.tally = Tally()
        self._days: dict[int, tuple[int, int]] = {}  # maker and taker volume
        self._journal = journal
        if deposit:
            self.history.keep(TransferRecord(quote_quantums=deposit))
        if journal is not None:
            journal(Opened(subaccount, deposit, self.history.caps))

    def __eq__(self, other: object) -> bool:
        """Two ledgers are equal if all that they hold, paid and remember is, to the quantum."""
        return isinstance(other, Ledger) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def deposit(
        self, quote_quantums: int, when: Stamp = NEVER, *, other: Subaccount | None = None
    ) -> None:
        """Bring collateral in, or take it out (negative) without asking whether that is allowed."""
        self._move(TransferRecord(quote_quantums=quote_quantums, other=other, created=when))

    def withdraw(
        self, quote_quantums: int, when: Stamp = NEVER, *, blocked: bool = False,
        other: Subaccount | None = None,
    ) -> TransferRecord | Refused:  # fmt: skip
        """Take collateral out if the chain would allow it; `blocked`: see `withdrawals_blocked`."""
        refused = self._keeps(quote_quantums)
        if blocked:
            refused = Refused("BLOCKED", "a pool from which one may withdraw", "a blocked one")
        if refused is not None:
            return refused
        record = TransferRecord(quote_quantums=-quote_quantums, other=other, created=when)
        self._move(record)
        return record

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int, fee: int = 0,
        insurance: int = 0, when: Stamp = NEVER, *, quote: int | None = None, **terms: Any,
    ) -> list[Holding]:  # fmt: skip
        """Buy (positive) or sell at a price; return the positions touched, the ended first.

        `terms` are the other fields of `Filled`. For fills of one's own making: raises
        `LedgerError` where `take` would answer that it refused.
        """
        touched = self.take(Filled(
            market=market, quantums=quantums, subticks=subticks, fee=fee, insurance=insurance,
            when=when, quote=quote, **terms,
        ))  # fmt: skip
        if isinstance(touched, Refused):
            raise LedgerError(str(touched))
        return touched

    def take(self, fill: Filled) -> list[Holding] | Refused:
        """Book a reported fill; return the positions touched, the ended first, or a refusal."""
        refused = self._judge(fill)
        if refused is not None:
            return refused
        self.fills += 1
        if not fill.id:
            order = fill.order_id or None
            id_ = event_id("fill", self.subaccount, order, fill.when.seq, self.fills)
            fill = msgspec.structs.replace(fill, id=id_)
        settled = self.settle(fill.when)
        paid = self._pay(fill)
        was_flat, market = not self.holdings, fill.market
        gain, touched = self._trade(fill)
        touched += [holding for holding in settled if holding.market.ticker != market.ticker]
        self._expose(was_flat, fill.when)
        self._revalue(market.ticker)
        self.history.keep_fill(FillRecord(
            id=fill.id, order_id=fill.order_id, ticker=market.ticker, quantums=fill.quantums,
            subticks=fill.subticks, quote=paid, fee=fill.fee, builder_fee=fill.builder_fee,
            insurance=fill.insurance, gain=gain, liquidity=fill.liquidity, status=fill.type,
            created=fill.when,
        ))  # fmt: skip
        self._tell(fill)
        return touched

    def value(self, ticker: str, price: int, exponent: int, interest: int | None = None) -> None:
        """Take in a market's oracle price (an integer and its power of ten) and open interest."""
        self.oracles[ticker] = (price, exponent, interest)
        if ticker in self.holdings:
            self._revalue(ticker)
        if self._journal is not None:  # the hot path: no event is made for nobody
            self._journal(Valued(ticker, price, exponent, interest))

    def regrade(self, market: PerpetualMarket) -> None:
        """Take in what governance changed of a market, if a position is open in it."""
        holding = self.holdings.get(market.ticker)
        if holding is not None and holding.market != market:
            holding.market = market
            self._revalue(market.ticker)
            self._tell(Regraded(market))

    def liquidated(self) -> None:
        """Count a liquidation, its fills being booked."""
        self.liquidations += 1
        self._tell(Liquidated())

    def note(self, order: OrderRecord) -> None:
        """Remember how an order stands."""
        self.history.keep_order(order)
        self._tell(order)

    def mark(self, when: Stamp) -> PnlPoint:
        """Take a point of the historical profit; one an hour is what `performance` counts on."""
        point = PnlPoint(equity=self.equity, net_transfers=self.deposits, created=when)
        self.tally.see(when)
        self.history.keep(point)
        self._tell(Marked(when))
        return point

    def positions(self, **filters: Any) -> Page[PositionRecord]:
        """Return positions, the open ones as they stand, with the filters of `page_of`."""
        return page_of(chain(self.history.ended, self._open_records()), **filters)

    def tier(
        self, time_ns: int, total_volume: int = 0, tiers: Sequence[FeeTier] = STANDARD_FEE_TIERS
    ) -> FeeTier:
        """Return the fee tier that the last 30 days' fills earn; `total_volume` is everybody's."""
        since = time_ns // _DAY_NS - _TIER_DAYS
        days = [volumes for day, volumes in self._days.items() if day > since]
        maker, taker = (sum(each) for each in zip(*days, strict=True)) if days else (0, 0)
        return fee_tier(tiers, maker_volume=maker, taker_volume=taker, total_volume=total_volume)

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def part(self, ticker: str) -> margin.PositionMargin:
        """Return what one position adds to the account; nothing if it has no value yet."""
        return self._parts.get(ticker) or margin.PositionMargin()

    def margin_of(self, market: PerpetualMarket, quantums: int) -> margin.PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return margin.position_margin(market, quantums, *self.oracles[market.ticker])

    @property
    def margin(self) -> margin.MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        if self._margin is None:
            unknown = sorted(self.holdings.keys() - self._parts.keys())
            worth = self.collateral + self.unsettled
            self._margin = margin.total_margin(worth, self._parts.values(), unknown)
        return self._margin

    @property
    def breached(self) -> bool:
        """Tell whether the chain may liquidate; never while a position has no price."""
        sums = self.margin
        return sums.known and margin.is_liquidatable(sums.net_collateral, sums.maintenance_margin)

    @property
    def equity(self) -> int | None:
        """Return what the account is worth, if every position has a price."""
        return self.margin.net_collateral if self.margin.known else None

    @property
    def realized_pnl(self) -> int:
        """Return the profit of all that was ever closed, with funding, without fees."""
        return self._realized + sum(holding.realized for holding in self.holdings.values())

    @property
    def unrealized_pnl(self) -> int:
        """Return the profit of what is open and has an oracle price; `margin` names the rest."""
        held = self.holdings
        return sum(held[t].unrealized(part.net_notional) for t, part in self._parts.items())

    def affords(self, market: PerpetualMarket, quantums: int, subticks: int, fee: int) -> bool:
        """Tell whether the chain would let this fill happen, with the open interest it makes.

        Of the two accounts that meet, the other may open a long: that is what counts against us.
        """
        before, ticker = self.margin, market.ticker
        if not before.known or ticker not in self.oracles or not self.admits(market):
            return False
        held, (price, exponent, interest) = self.position(ticker), self.oracles[ticker]
        if interest is not None:
            interest += max(0, held + quantums) - max(0, held) + max(0, -quantums)
        part = margin.position_margin(market, held + quantums, price, exponent, interest)
        quote = market.quote_quantums(abs(quantums), subticks)
        left = self.collateral + self.unsettled - fee - (quote if quantums > 0 else -quote)
        after = margin.total_margin(left, (self._parts | {ticker: part}).values())
        return margin.state_change(before, after) == "Success"

    def admits(self, market: PerpetualMarket) -> bool:
        """Tell whether the isolated rule lets the account trade a market beside what it holds."""
        if market.ticker in self.holdings or not self.holdings:
            return True
        held = [holding.market for holding in self.holdings.values()]
        return not margin.mixes_isolated([*held, market])

    def bankruptcy(self, market: PerpetualMarket, quantums: int) -> int:
        """Return the quote received, at the bankruptcy price, for closing by signed `quantums`."""
        rest = self.margin_of(market, self.position(market.ticker) + quantums)
        return margin.bankruptcy_price(self.margin, self.part(market.ticker), rest)

    def accrue(self, indices: Mapping[str, int], when: Stamp = NEVER) -> list[FundingRecord]:
        """Take in how far funding indices have moved; keep and return each position's payment."""
        payments = []
        for ticker, holding in self.holdings.items():
            since = self.indices.get(ticker, 0)
            index = indices.get(ticker, since)
            if index != since:
                moved = margin.funding_settlement_ppm(holding.quantums, index, since)
                payments.append(FundingRecord(
                    position_id=holding.id, ticker=ticker, quantums=holding.quantums,
                    index=index, credited=moved // margin.PPM, created=when,
                ))  # fmt: skip
                self.history.keep(payments[-1])
        self.indices.update(indices)
        self.unsettled = margin.funding_settlement(map(self.owed_ppm, self.holdings.values()))
        self._margin = None
        self.tally.see(when)
        self._tell(Funded(dict(indices), when))
        return payments

    def settle(self, when: Stamp = NEVER) -> list[Holding]:
        """Settle what is owed, as whatever touches the account does: one floor for all of it."""
        touched = self.owing
        for holding in touched:
            holding.net_funding += self.owed_ppm(holding) // margin.PPM
            holding.funding_index = self.indices[holding.market.ticker]
        self.collateral += self.unsettled
        self.funding_paid -= self.unsettled
        self.unsettled = 0
        if touched:
            self._tell(Settled(when))
        return touched

    @property
    def owing(self) -> list[Holding]:
        """Return the positions whose funding the next touch settles."""
        return [holding for holding in self.holdings.values() if self.owed_ppm(holding)]

    def settle_funding(self, indices: Mapping[str, int], when: Stamp = NEVER) -> list[Holding]:
        """Take in funding indices and settle at once; return the positions touched."""
        self.accrue(indices, when)
        return self.settle(when)

    def owed_ppm(self, holding: Holding) -> int:
        """Return what a position's funding would credit (negative: take) now, in 1e-6 quantums."""
        index = self.indices.get(holding.market.ticker, 0)
        return margin.funding_settlement_ppm(holding.quantums, index, holding.funding_index)

    def _state(self) -> dict[str, object]:
        # Margin is made of the rest when it is asked for; a journal only listens.
        made = {"_margin", "_journal"}
        return {name: what for name, what in vars(self).items() if name not in made}

    def _judge(self, fill: Filled) -> Refused | None:
        if fill.id and self.history.knows_fill(fill.id):
            return Refused("DUPLICATE", "a fill not booked before", fill.id)
        # A deleveraging may pay nothing at all; every other fill has a price.
        priced = fill.subticks if fill.quote is None else 1
        if not (0 < abs(fill.quantums) < _UINT64 and 0 < priced < _UINT64):
            got = f"{fill.quantums} quantums at {fill.subticks} subticks"
            return Refused("OVERFLOW", "a size and a price of 1 to 2**64 - 1", got)
        sums = (fill.fee, fill.insurance, fill.quote or 0, fill.builder_fee)
        if max(map(abs, sums)) >= _UINT64:
            return Refused("OVERFLOW", "payments below 2**64 quote quantums", str(max(sums)))
        return None

    def _keeps(self, quote_quantums: int) -> Refused | None:
        """Judge what would be left after a withdrawal."""
        if not 0 < quote_quantums < _UINT64:
            got = f"{quote_quantums} quote quantums"
            return Refused("OVERFLOW", "1 to 2**64 - 1 quote quantums", got)
        sums = self.margin
        if not sums.known:
            return Refused("UNKNOWN", "a price for every position", ", ".join(sums.unknown))
        if sums.free_collateral < quote_quantums:
            expected = f"at most {max(0, sums.free_collateral)} quote quantums"
            return Refused("UNDERCOLLATERALIZED", expected, str(quote_quantums))
        return None

    def _move(self, record: TransferRecord) -> None:
        if abs(record.quote_quantums) >= _UINT64:
            got = record.quote_quantums
            raise LedgerError(f"expected a transfer below 2**64 quote quantums, got {got}")
        self.settle(record.created)
        self.deposits += record.quote_quantums
        self.collateral += record.quote_quantums
        self._margin = None
        self.tally.see(record.created)
        self.history.keep(record)
        self._tell(record)

    def _pay(self, fill: Filled) -> int:
        """Take a fill off the balance; return its signed quote."""
        size, tally, day = abs(fill.quantums), self.tally, fill.when.time_ns // _DAY_NS
        quote = fill.quote
        if quote is None:
            quote = fill.market.quote_quantums(size, fill.subticks)
        paid = quote if fill.quantums > 0 else -quote
        self.paid_for_fills += paid
        self.fees_paid += fill.fee
        self.builder_paid += fill.builder_fee
        self.insurance_paid += fill.insurance
        self.collateral -= paid + fill.fee + fill.insurance
        made, took = (abs(quote), 0) if fill.liquidity == "MAKER" else (0, abs(quote))
        tally.maker_volume += made
        tally.taker_volume += took
        if day not in self._days:
            self._days = {d: both for d, both in self._days.items() if d > day - _TIER_DAYS}
        maker, taker = self._days.get(day, (0, 0))
        self._days[day] = (maker + made, taker + took)
        return paid

    def _trade(self, fill: Filled) -> tuple[int, list[Holding]]:
        """Close, open, or both; return what closing earned and the positions touched."""
        size, cost = abs(fill.quantums), abs(fill.quantums) * fill.subticks
        fee, gain = fill.fee + fill.insurance, 0
        touched: list[Holding] = []
        holding = self.holdings.get(fill.market.ticker)
        if holding is not None and holding.is_long != (fill.quantums > 0):
            closing = min(size, abs(holding.quantums))
            share, charged = cost * closing // size, fee * closing // size
            holding.fees += charged
            gain = self._close(holding, closing, share, fill)
            touched.append(holding)
            size, cost, fee = size - closing, cost - share, fee - charged
        if size:
            signed = size if fill.quantums > 0 else -size
            opened = self._open(fill.market, signed, cost, fill.when)
            opened.fees += fee
            touched.append(opened)
        return gain, touched

    def _expose(self, was_flat: bool, when: Stamp) -> None:
        tally = self.tally
        tally.see(when)
        if was_flat:
            tally.held_since_ns = when.time_ns
        if not self.holdings:
            since, tally.held_since_ns = tally.held_since_ns, 0
            tally.exposed_ns += max(0, when.time_ns - since) if since else 0

    def _open_records(self) -> Iterable[PositionRecord]:
        for ticker, holding in self.holdings.items():
            part = self._parts.get(ticker)
            yield holding.record(None if part is None else part.net_notional)

    def _tell(self, event: Event) -> None:
        if self._journal is not None:
            self._journal(event)

    def _open(self, market: PerpetualMarket, quantums: int, cost: int, when: Stamp) -> Holding:
        ticker = market.ticker
        holding = self.holdings.get(ticker)
        if holding is None:
            self._opened += 1
            id_ = event_id("position", self.subaccount, ticker, self._opened)
            holding = Holding(market=market, id=id_, is_long=quantums > 0, created=when)
            holding.funding_index = self.indices.get(ticker, 0)
            self.holdings[ticker] = holding
        holding.opened += abs(quantums)
        holding.open_cost += cost
        holding.quantums += quantums
        holding.peak = max(holding.peak, holding.quantums, key=abs)
        return holding

    def _close(self, holding: Holding, size: int, cost: int, fill: Filled) -> int:
        gain = holding.gain_of(size, cost)
        self.wins += gain > 0
        self.losses += gain < 0
        holding.closed += size
        holding.close_cost += cost
        holding.quantums -= size if holding.is_long else -size
        if not holding.quantums:
            ended = "LIQUIDATED" if fill.type == "LIQUIDATED" else "CLOSED"
            holding.status, holding.ended = ended, fill.when
            self._realized += holding.realized
            self.tally.end(holding.realized - holding.fees)
            self.history.keep(holding.record(0))
            del self.holdings[holding.market.ticker]
        return gain

    def _revalue(self, ticker: str) -> None:
        holding, self._margin = self.holdings.get(ticker), None
        if holding is not None and ticker in self.oracles:
            self._parts[ticker] = self.margin_of(holding.market, holding.quantums)
        else:
            self._parts.pop(ticker, None)


_DAY_NS: Final = 86_400 * 10**9
_TIER_DAYS: Final = 30


def rebuild(events: Iterable[Event], journal: Callable[[Event], object] | None = None) -> Ledger:
    """Make the ledger of a journal again, equal to the quantum in all it holds and remembers.

    A fill that stands twice in the journal is booked once. Raises `LedgerError` for a journal
    that does not begin with `Opened` or opens twice, and for what no ledger would have booked.
    """
    rest = iter(events)
    first = next(rest, None)
    if not isinstance(first, Opened):
        raise LedgerError(f"expected a journal that begins with Opened, got {first}")
    ledger = Ledger(first.subaccount, first.deposit, caps=first.caps, journal=journal)
    for event in rest:
        if isinstance(event, Opened):
            raise LedgerError(f"expected one Opened, got another: {event}")
        _REPLAY[type(event)](ledger, event)
    return ledger


def _book(ledger: Ledger, fill: Filled) -> None:
    refused = ledger.take(fill)
    if isinstance(refused, Refused) and refused.reason != "DUPLICATE":
        raise LedgerError(str(refused))


_REPLAY: Final[dict[type, Callable[[Ledger, Any], object]]] = {
    Filled: _book,
    Valued: lambda ledger, e: ledger.value(e.ticker, e.price, e.exponent, e.interest),
    Funded: lambda ledger, e: ledger.accrue(e.indices, e.when),
    Settled: lambda ledger, e: ledger.settle(e.when),
    Regraded: lambda ledger, e: ledger.regrade(e.market),
    Liquidated: lambda ledger, e: ledger.liquidated(),
    Marked: lambda ledger, e: ledger.mark(e.when),
    TransferRecord: lambda ledger, e: ledger.deposit(e.quote_quantums, e.created, other=e.other),
    OrderRecord: Ledger.note,
}

# === Text ===

Fields = dict[str, Any]
"""A JSON object of the indexer's, by its names."""

_DECIMALS: Final = Context(prec=28)
_LAST_MILLISECOND: Final = 253_402_300_799_999  # of the year 9999


def _iso(ns: int) -> str:
    # A refused order may name a time that no calendar has.
    milliseconds = max(0, min(ns // 1_000_000, _LAST_MILLISECOND))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(number: Decimal) -> str:
    return f"{number.normalize(_DECIMALS):f}" if number else "0"


def _usdc(quote_quantums: int) -> str:
    return _text(Decimal(quote_quantums).scaleb(-6))


def _average(market: PerpetualMarket, cost: int, quantums: int) -> str | None:
    return _text(_DECIMALS.divide(market.price(cost), quantums)) if quantums else None


# === Rows ===

_TYPES: Final = {"": "LIMIT", "STOP_LOSS": "STOP_LIMIT", "TAKE_PROFIT": "TAKE_PROFIT"}


def position_fields(ledger: Ledger, holding: Holding) -> Fields:
    """Tell a position as it stands, the ended one too."""
    market, size = holding.market, holding.market.size
    value = ledger.part(market.ticker).net_notional if holding.quantums else 0
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "positionId": holding.id, "market": market.ticker,
        "side": "LONG" if holding.is_long else "SHORT", "status": holding.status,
        "size": _text(size(holding.quantums)), "maxSize": _text(size(holding.peak)),
        "netFunding": _usdc(holding.net_funding),
        "entryPrice": _average(market, holding.open_cost, holding.opened),
        "exitPrice": _average(market, holding.close_cost, holding.closed),
        "sumOpen": _text(size(holding.opened)), "sumClose": _text(size(holding.closed)),
        "realizedPnl": _usdc(holding.realized),
        "unrealizedPnl": _usdc(holding.unrealized(value)),
        "createdAt": _iso(holding.created.time_ns),
        "createdAtHeight": str(holding.created.height),
        "closedAt": _iso(holding.ended.time_ns) if holding.ended else None,
    }  # fmt: skip


def asset_fields(ledger: Ledger) -> Fields:
    """Tell the USDC balance; a debt is a SHORT of positive size."""
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "assetId": "0", "symbol": "USDC",
        "side": "SHORT" if ledger.collateral < 0 else "LONG",
        "size": _usdc(abs(ledger.collateral)),
    }  # fmt: skip


def order_fields(order: Order, market: PerpetualMarket, when: Stamp, status: str) -> Fields:
    """Tell how an order stands, in the indexer's word for its status."""
    stateful = order.order_flags != SHORT_TERM
    fields = {
        "id": order.id, "subaccountId": subaccount_id(order.subaccount),
        "clientId": str(order.client_id), "clobPairId": str(order.clob_pair_id),
        "side": order.side, "size": _text(market.size(order.quantums)),
        "price": _text(market.price(order.subticks)),
        "type": _TYPES.get(order.condition_type, "LIMIT"),  # of a refused order it may be anything
        "timeInForce": "IOC" if order.time_in_force == "IOC" else "GTT",
        "postOnly": order.time_in_force == "POST_ONLY", "reduceOnly": order.reduce_only,
        "orderFlags": str(order.order_flags),
        "goodTilBlock": None if stateful else str(order.good_til_block),
        "goodTilBlockTime": _iso(order.good_til_block_time * 1_000_000_000) if stateful else None,
        "ticker": market.ticker, "clientMetadata": str(order.client_metadata),
        "totalFilled": _text(market.size(order.filled)),
        "updatedAt": _iso(when.time_ns), "updatedAtHeight": str(when.height),
        "status": status,
    }  # fmt: skip
    if order.condition_type:
        fields["triggerPrice"] = _text(market.price(order.trigger_subticks))
    return fields


def fill_fields(
    order: Order, market: PerpetualMarket, quantums: int, subticks: int, *, id_: str,
    liquidity: str, type_: str, quote: int, fee: int, builder_fee: int, when: Stamp,
) -> Fields:  # fmt: skip
    """Tell a fill of an order; `fee` is without the builder's, in quote quantums as `quote`."""
    fields = {
        "id": id_, "subaccountId": subaccount_id(order.subaccount), "side": order.side,
        "size": _text(market.size(quantums)), "price": _text(market.price(subticks)),
        "fee": _usdc(fee), "liquidity": liquidity, "type": type_, "orderId": order.id or None,
        "clobPairId": str(order.clob_pair_id), "ticker": market.ticker,
        "quoteAmount": _usdc(quote), "clientMetadata": str(order.client_metadata),
        "createdAt": _iso(when.time_ns), "createdAtHeight": str(when.height),
    }  # fmt: skip
    return fields | ({"builderFee": _usdc(builder_fee)} if builder_fee else {})


def transfer_fields(subaccount: Subaccount, quote_quantums: int, when: Stamp) -> Fields:
    """Tell a deposit from the wallet, or negative a withdrawal to it."""
    wallet = {"address": subaccount.owner}
    ours = wallet | {"subaccountNumber": subaccount.number}
    sender, recipient = (wallet, ours) if quote_quantums > 0 else (ours, wallet)
    return {
        "sender": sender, "recipient": recipient, "symbol": "USDC",
        "size": _usdc(abs(quote_quantums)),
        "type": "DEPOSIT" if quote_quantums > 0 else "WITHDRAWAL",
        "createdAt": _iso(when.time_ns), "createdAtHeight": str(when.height),
        "transactionHash": "",
    }  # fmt: skip


# === Account frames ===


def snapshot(ledger: Ledger, when: Stamp) -> Fields:
    """Return the contents that a subscription begins with; no order is open yet."""
    # The block at hand is not over, and may yet change it: this is as of the one before.
    margin, height = ledger.margin, str(when.height - 1)
    subaccount = {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "equity": _usdc(margin.net_collateral),
        "freeCollateral": _usdc(margin.free_collateral),
        "openPerpetualPositions": {
            ticker: position_fields(ledger, held) for ticker, held in ledger.holdings.items()
        },
        "assetPositions": {"USDC": asset_fields(ledger)},
        "marginEnabled": True, "updatedAtHeight": height,
        "latestProcessedBlockHeight": height,
    }  # fmt: skip
    return {"subaccount": subaccount, "orders": [], "blockHeight": height}


def account_frame(
    subaccount: Subaccount, type_: str, contents: Fields, number: int, when: Stamp
) -> Frame:
    """Return the `number`th frame of a subaccount's channel: "subscribed" or "channel_data"."""
    message = {
        "type": type_, "connection_id": event_id("connection", subaccount),
        "message_id": number, "id": str(subaccount),
        "channel": "v4_subaccounts", "version": "3.0.0", "contents": contents,
    }  # fmt: skip
    # A view carries no monotonic time: pacing is the recording's business.
    text = msgspec.json.encode(message).decode()
    return ws_frame(when.seq, when.at, when.at, "paper", text)


# === Latency ===


class PaperError(Exception):
    """The caller asked for a venue that cannot be: a latency below 0, an unknown queue model."""


class Latency(msgspec.Struct, frozen=True):
    """How long each message of ours is on its way, in nanoseconds of event time: a recipe.

    The samples are used in their order, over and over; with a `seed`, drawn among by chance, the
    same draws each time. What has arrived still waits for the next book view or block. Messages
    may overtake each other, as they do on the wire. `PaperError` without samples or below 0.
    """

    samples: tuple[int, ...] = (0,)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.samples or min(self.samples) < 0:
            raise PaperError(f"expected latencies of 0 ns or more, got {self.samples[:8]}")

    @classmethod
    def constant(cls, ns: int) -> "Latency":
        """Take the same time for every message; 0 is the next book view or block."""
        return cls((ns,))

    @classmethod
    def measured(cls, samples: Iterable[int]) -> "Latency":
        """Take what was measured, in that order, and begin again at its end."""
        return cls(tuple(samples))

    @classmethod
    def sampled(cls, seed: int, samples: Iterable[int]) -> "Latency":
        """Draw among what was measured, by a seed: the same seed gives the same run."""
        return cls(tuple(samples), seed)

    def draws(self) -> Iterator[int]:
        """Return the latencies of one run, message by message, without end."""
        if self.seed is None:
            return cycle(self.samples)
        chance = Random(self.seed)
        return (chance.choice(self.samples) for _ in repeat(None))


# === Queue position ===

QueuePosition = Literal["pessimistic", "proportional", "optimistic"]
"""Who is thought to leave when a level that we rest at shrinks without a trade.

Pessimistic: those behind us, until none is left. Proportional: everybody alike. Optimistic:
nobody stands before us in the first place.
"""

_TAPE_LAG_BLOCKS: Final = 2  # book and tape tell of one trade within so many blocks


class Place:
    """Where an order rests: the price and size of its level, and how much of it stands before.

    `gone` left the book and may yet be told by the tape, `printed` the other way round: no trade
    counts twice. All in quantums.
    """

    __slots__ = ("ahead", "block", "gone", "offset", "price", "printed", "since_ns", "visible")

    def __init__(self, price: float, visible: int, ahead: int, offset: int, since_ns: int):
        self.price, self.visible, self.ahead, self.offset = price, visible, ahead, offset
        self.since_ns = since_ns
        self.gone = self.printed = self.block = 0

    def see(self, size: int, offset: int, block: int, *, proportional: bool) -> None:
        """Take in the level's size as the book now shows it."""
        self._forget(block)
        fell = max(0, self.visible - size)
        told = min(fell, self.printed)
        self.printed -= told
        left = (fell - told) * self.ahead // self.visible if fell and proportional else 0
        left = max(left, self.ahead - size)
        self.ahead -= left
        self.gone += left
        self.visible, self.offset = size, offset

    def pass_by(self, quantums: int, block: int) -> int:
        """Take in a trade at the level; return what of it goes beyond those before us."""
        self._forget(block)
        told = min(quantums, self.gone)
        self.gone -= told
        spent = min(quantums - told, self.ahead)
        self.ahead -= spent
        self.printed += spent
        return quantums - told - spent

    def _forget(self, block: int) -> None:
        if block - self.block > _TAPE_LAG_BLOCKS:
            self.gone = self.printed = 0
        self.block = block


# === Optimism ===


class _Claim(msgspec.Struct, gc=False):
    """A fill of ours, until the tape has shown as much at its price or beyond."""

    ticker: str
    side: Side
    subticks: int
    quantums: int
    quote: int
    left: int
    since_ns: int
    until: int


class Optimism:
    """What a venue assumed to trade at our prices, against what the tape shows traded there.

    A fill is borne out by trades of its market at its price or beyond, with the same taker's
    side, from its block on and within `window_ns` of event time; no trade bears out two fills.
    `assumed` and `traded` are quote quantums by ticker, of the fills that are judged.
    """

    def __init__(self, window_ns: int = 10_000_000_000):
        self.window_ns = window_ns
        self.assumed: Counter[str] = Counter()
        self.traded: Counter[str] = Counter()
        self._claims: deque[_Claim] = deque()

    @property
    def error(self) -> float | None:
        """Return the share of all fills that the tape does not bear out: 0 all do, 1 none."""
        return _share_missing(self.traded.total(), self.assumed.total())

    def of(self, ticker: str) -> float | None:
        """Return the error in one market; None without a fill there."""
        return _share_missing(self.traded[ticker], self.assumed[ticker])

    @property
    def pending(self) -> int:
        """Count the fills that are still to be judged."""
        return len(self._claims)

    def claim(
        self, ticker: str, side: Side, subticks: int, quantums: int, quote: int, *,
        since_ns: int = 0, at: int = 0, witnessed: bool = False,
    ) -> None:  # fmt: skip
        """Take in a fill, of a taker of this side; `witnessed` if a trade itself made it."""
        until, left = at + self.window_ns, 0 if witnessed else quantums
        claim = _Claim(ticker, side, subticks, quantums, quote, left, since_ns, until)
        if witnessed:
            self._judge(claim)
        else:
            self._claims.append(claim)

    def hear(self, ticker: str, side: str, subticks: int, quantums: int, at_ns: int) -> None:
        """Take in a trade of the tape: the older of two fills has it first."""
        sign = 1 if side == "BUY" else -1
        for claim in self._claims:
            alike = claim.ticker == ticker and claim.side == side and claim.since_ns <= at_ns
            if alike and sign * (subticks - claim.subticks) >= 0:
                found = min(claim.left, quantums)
                claim.left -= found
                quantums -= found

    def settle(self, now: int) -> None:
        """Judge the fills that are borne out, or whose time is over at `now`."""
        while self._claims and (self._claims[0].until <= now or not self._claims[0].left):
            self._judge(self._claims.popleft())

    def _judge(self, claim: _Claim) -> None:
        self.assumed[claim.ticker] += claim.quote
        borne_out = claim.quantums - claim.left
        self.traded[claim.ticker] += claim.quote * borne_out // claim.quantums


def _share_missing(found: int, of: int) -> float | None:
    return 1 - found / of if of else None


# === Limits ===

# Every attempt counts, failed ones too. Sources: x/clob/rate_limit; governance may change them.

_RATES: Final = {
    # Stateful or not: blocks, and the most within them.
    True: ((1, 2), (100, 20)),
    False: ((5, 4_000),),
}


class Attempts:
    """What was sent block by block, held against what the chain takes."""

    def __init__(self) -> None:
        self._sent: dict[bool, Counter[int]] = {kind: Counter() for kind in _RATES}

    def exceed(self, block: int, *, stateful: bool) -> bool:
        """Count one attempt in a block; tell whether it is one too many."""
        sent, rates = self._sent[stateful], _RATES[stateful]
        sent[block] += 1
        for past in [past for past in sent if past <= block - rates[-1][0]]:
            del sent[past]
        return any(
            sum(number for past, number in sent.items() if past > block - blocks) > most
            for blocks, most in rates
        )


# === Desk ===

# One market as our orders meet it: the recorded market appears on our book as the crowd, as
# makers while an order of ours is matched, as takers when it comes to orders of ours that rest.

_SIDES: Final[tuple[Side, ...]] = ("BUY", "SELL")
_OPPOSITE: Final[dict[str, Side]] = {"BUY": "SELL", "SELL": "BUY"}
_MOST_TAKEN: Final = 256
_WATCHED_LEVELS: Final = 20  # a side; farther orders keep the place in which they were last seen
_TAPE: Final = 0  # the offset of what no recorded level has offered
_CROWD: Final = Subaccount("recorded market", 0)


def _block_and_hour(view: MarketView) -> tuple[int, int]:
    # Without a block stream, seconds stand for blocks: the chain makes about one a second.
    chain = view.chain
    return chain.height or view.at // _SECOND_NS, (chain.time_ns or view.at) // _HOUR_NS


class _Ours(Order, gc=False, kw_only=True):
    """An order of ours: what its builder takes of each fill is not the book's business."""

    builder_fee_ppm: int = 0

    @classmethod
    def sent(cls, subaccount: Subaccount, request: OrderRequest) -> "_Ours":
        order = cast("_Ours", cls.of(subaccount, request))
        order.builder_fee_ppm = request.builder_fee_ppm
        return order


def _builder_ppm(order: Order) -> int:
    return order.builder_fee_ppm if isinstance(order, _Ours) else 0


class _Desk:
    __slots__ = (
        "_near", "_places", "_taken", "book", "inbox", "market", "traded", "venue", "view",
        "waiting",
    )  # fmt: skip

    def __init__(self, venue: "PaperVenue", view: MarketView, market: PerpetualMarket):
        self.venue, self.view, self.market = venue, view, market
        self.book = OrderBook(market, self)
        # What is on its way, with its arrival; stateful orders that are not on the book; the
        # lowest and the highest trade of the block, in subticks.
        self.inbox: list[tuple[int, Order | CancelRequest]] = []
        self.waiting = Waiting()
        self.traded: tuple[int, ...] = ()
        # What we took of a recorded level, by its side, subticks and version.
        self._taken: Counter[tuple[Side, int, int]] = Counter()
        self._places: dict[Side, dict[Key, Place]] = {side: {} for side in _SIDES}
        # Our best price of a side, in subticks and as the views write it.
        self._near: dict[Side, tuple[int, float]] = dict.fromkeys(_SIDES, (0, 0.0))

    @property
    def readable(self) -> bool:
        """Tell whether the book can be believed and the market trades."""
        return not stopping(self.view, "match")

    @property
    def busy(self) -> bool:
        """Tell whether anything of ours is on its way, waits or rests."""
        waiting = self.waiting
        return bool(self.inbox or self.book.orders or waiting.placed or waiting.untriggered)

    @property
    def stateful(self) -> int:
        """Count our stateful orders, those on their way too."""
        sent = (request for _, request in self.inbox if isinstance(request, Order))
        open_ = chain(sent, self.book.orders.values(), self.waiting.placed)
        long = sum(order.order_flags != SHORT_TERM for order in open_)
        return long + len(self.waiting.untriggered)

    def arrived(self, at: int) -> Sequence[Order | CancelRequest]:
        """Take out what has arrived, in the order of its arrival."""
        if not self.inbox:
            return ()
        due = sorted((sent for sent in self.inbox if sent[0] <= at), key=itemgetter(0))
        self.inbox = [sent for sent in self.inbox if sent[0] > at]
        return [request for _, request in due]

    def clear(self) -> list[Order]:
        """Take out, and return, all that rests or waits."""
        gone = [*self.book.orders.values(), *self.waiting.placed, *self.waiting.untriggered]
        for key in list(self.book.orders):
            self.book.cancel(key)
        self.waiting = Waiting()
        return gone

    # --- collateral

    def position(self, subaccount: Subaccount) -> int:
        ours = subaccount == self.venue.subaccount  # the crowd has no position to speak of
        return self.venue.ledger.position(self.market.ticker) if ours else 0

    def check(self, match: Match) -> int:
        """Judge our collateral; the crowd's orders were good when they were recorded."""
        order, _, liquidity, quote = self._parties(match)
        if order.liquidation:
            delta = self._insurance(order, match.quantums, quote)
            return 0 if self.venue.insures(self.market, delta) else TAKER
        due = charge(quote, liquidity, self.venue.fees, builder_fee_ppm=_builder_ppm(order))
        signed = order.sign * match.quantums
        if self.venue.ledger.affords(self.market, signed, match.subticks, due.total):
            return 0
        return TAKER if liquidity == "TAKER" else MAKER

    def settle(self, match: Match) -> None:
        """Book the match and remember what it took from the recorded level."""
        order, crowd, liquidity, quote = self._parties(match)
        size, at, venue, view = match.quantums, match.subticks, self.venue, self.view
        due = charge(
            quote, liquidity, venue.fees,
            builder_fee_ppm=_builder_ppm(order), liquidation=order.liquidation,
        )  # fmt: skip
        insurance, type_ = 0, "LIMIT"
        if order.liquidation:
            insurance, type_ = self._insurance(order, size, quote), "LIQUIDATED"
            venue.insure(self.market, insurance)
        venue.fill(
            self, order, size, at, liquidity, type_, due.total, insurance,
            builder_fee=due.builder_fee,
        )  # fmt: skip
        offset = crowd.client_metadata
        venue.optimism.claim(
            self.market.ticker, match.taker.side, at, size, quote,
            since_ns=view.chain.time_ns, at=venue.at, witnessed=offset == _TAPE,
        )  # fmt: skip
        if offset != _TAPE:
            self._taken[crowd.side, crowd.subticks, offset] += size
            if len(self._taken) > _MOST_TAKEN:
                self._forget_taken()

    def _insurance(self, order: Order, quantums: int, quote: int) -> int:
        """Return what a match of a liquidation brings the insurance fund; negative it pays."""
        bankruptcy = self.venue.ledger.bankruptcy(self.market, order.sign * quantums)
        most = self.venue.terms.max_liquidation_fee_ppm
        return risk.insurance_fund_delta(bankruptcy, -order.sign * quote, most)

    def _forget_taken(self) -> None:
        """Forget what was taken of levels that have changed since."""
        sides = {"SELL": self.view.book.asks(), "BUY": self.view.book.bids()}
        offsets = {(side, level.offset) for side, levels in sides.items() for level in levels}
        kept = {key: size for key, size in self._taken.items() if (key[0], key[2]) in offsets}
        self._taken = Counter(kept)

    def _parties(self, match: Match) -> tuple[Order, Order, str, int]:
        quote = self.market.quote_quantums(match.quantums, match.subticks)
        if match.taker.subaccount == self.venue.subaccount:
            return match.taker, match.maker, "TAKER", quote
        return match.maker, match.taker, "MAKER", quote

    # --- the recorded market

    def crowd(self, side: Side, subticks: int) -> Iterable[Order]:
        """Yield what the recorded book offers a taker, as orders, up to its limit."""
        book, buys = self.view.book, side == "BUY"
        opposite = _OPPOSITE[side]
        levels = (book.asks() if buys else book.bids()) if self.readable else []
        for number, level in enumerate(levels):
            try:
                at = self.market.subticks(level.price_text)
                if at > subticks if buys else at < subticks:
                    return
                left = self.market.quantums(level.size_text)
            except GridError:  # nobody could have traded there
                continue
            left -= self._taken[opposite, at, level.offset]
            if left > 0:
                yield self._crowd_order(opposite, left, at, number, level.offset)

    def crossing(self) -> Iterable[Order]:
        """Yield the recorded levels that have come to orders of ours, as takers."""
        for side in _SIDES if self.book.orders else ():
            buys, recorded = side == "BUY", self.view.book
            ours = self.book.best_bid if buys else self.book.best_ask
            theirs = recorded.best_ask if buys else recorded.best_bid
            if ours is None or theirs is None:
                continue
            if self._near[side][0] != ours:
                self._near[side] = (ours, float(self.market.price(ours)))
            near = self._near[side][1]
            if theirs.price > near if buys else theirs.price < near:
                continue  # as nearly always, and told without a look at the levels
            for order in self.crowd(side, ours):
                order.time_in_force = "IOC"
                yield order

    def trigger_prices(self) -> list[Fraction]:
        """Return what the block's end holds against triggers; nothing without an oracle price."""
        oracle = self.view.oracle
        if oracle is None:
            return []
        price = oracle_subticks(self.market, oracle.digits, oracle.exponent)
        most = self.venue.min_price_change_ppm
        return trigger_prices(price, self.traded, min_price_change_ppm=most)

    def _crowd_order(
        self, side: Side, quantums: int, subticks: int, number: int, offset: int
    ) -> Order:
        return Order(
            subaccount=_CROWD, client_id=number, clob_pair_id=self.market.clob_pair_id,
            side=side, quantums=quantums, subticks=subticks, client_metadata=offset,
        )  # fmt: skip

    # --- our place in the queue

    def stand(self, order: Order) -> None:
        """Take the last place at an order's price: all that is visible there stands before."""
        book, market = self.view.book, self.market
        price = float(market.price(order.subticks))
        levels = book.bids() if order.side == "BUY" else book.asks()
        level = next((level for level in levels if level.price == price), None)
        visible, offset = 0, 0
        if level is not None:
            visible, offset = market.floor_quantums(level.size_text), level.offset
        ahead = 0 if self.venue.queue == "optimistic" else visible
        place = Place(price, visible, ahead, offset, self.view.chain.time_ns)
        self._places[order.side][order.key] = place

    def watch(self) -> None:
        """Take in how the levels at which we rest have changed: each block, and at each trade.

        What left and was made up for in between we may have been behind of: it still stands.
        """
        orders, book = self.book.orders, self.view.book
        if not self.readable:
            return
        block, proportional = _block_and_hour(self.view)[0], self.venue.queue == "proportional"
        for side, places in self._places.items():
            for key in [key for key in places if key not in orders] if places else ():
                del places[key]
            if not places:
                continue
            shown = book.bids(_WATCHED_LEVELS) if side == "BUY" else book.asks(_WATCHED_LEVELS)
            levels = {level.price: level for level in shown}
            worst = shown[-1].price if len(shown) == _WATCHED_LEVELS else None
            for place in places.values():
                level = levels.get(place.price)
                if level is not None:
                    if level.offset != place.offset:
                        size = self.market.floor_quantums(level.size_text)
                        place.see(size, level.offset, block, proportional=proportional)
                elif place.visible and (worst is None or (place.price > worst) == (side == "BUY")):
                    place.see(0, 0, block, proportional=proportional)

    def reached(self, taker: str, at: int, quantums: int, at_ns: int) -> Order | None:
        """Return what of a trade reaches orders of ours, as a taker's order, if anything.

        A trade beyond our price has passed all that stood before us; one of a block from before
        we stood there says nothing.
        """
        side = _OPPOSITE[taker]
        places, block = self._places[side], _block_and_hour(self.view)[0]
        if not places or not self.readable:
            return None
        self.watch()
        total, step = 0, self.market.step_base_quantums
        ours = [order for order in self.book.orders.values() if order.side == side]
        for order in sorted(ours, key=lambda order: -order.sign * order.subticks):
            beyond = order.sign * (order.subticks - at)
            place = places[order.key]
            if beyond < 0 or at_ns <= place.since_ns:
                continue
            if beyond:
                place.ahead = 0
            spare = place.pass_by(quantums, block) if not beyond else quantums
            wanted = min(order.remaining, spare - total)
            total += max(0, wanted - wanted % step)
        if not total:
            return None
        order = self._crowd_order(_OPPOSITE[side], total, at, 0, _TAPE)
        order.time_in_force = "IOC"
        return order


# === Venue ===


class PaperVenue:
    """One subaccount on a venue made of recorded books: `step`, and `deposit`, are all of it.

    `refusals` counts what the chain would not have taken, `optimism` says how far the tape bears
    out what was filled, `funding_owed` are hours by ticker whose price or rate is not known
    yet: they accrue when it is, or at the worst rate once the position changes.
    `min_price_change_ppm` is governance's, of x/prices: it bounds the trade prices that trigger
    conditional orders. Without `fees` the account's own tier is charged, as it trades.

    `insurance_fund` is what the cross markets' fund holds at first, in quote quantums, None for
    one that never ends: read a node for today's. It is a million USDC unless told, no more than
    the chain lets one account lose of it in a block: the others who lose in the same crash draw
    on the real one too. `insurance` says what is left.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int, *,
        fees: Fees | None = None, terms: risk.LiquidationTerms | None = None,
        latency: Latency | None = None, queue: QueuePosition = "pessimistic",
        min_price_change_ppm: int = 1_000, insurance_fund: int | None = 1_000_000_000_000,
    ):  # fmt: skip
        if queue not in get_args(QueuePosition):
            raise PaperError(f"expected one of {get_args(QueuePosition)}, got queue {queue!r}")
        self.subaccount = subaccount
        self.ledger = Ledger(subaccount, deposit)
        self._chosen_fees = fees
        self._tier: FeeTier | None = None
        self._tier_block = 0
        self.terms = terms or risk.LiquidationTerms()
        self.insurance = InsuranceFunds(insurance_fund)
        self.queue = queue
        self.min_price_change_ppm = min_price_change_ppm
        self.refusals: Counter[str] = Counter()
        self.optimism = Optimism()
        self.funding_owed: dict[str, int] = {}
        self._negative_at: int | None = None
        self._delays = (latency or Latency()).draws()
        self._attempts = Attempts()
        self._views: dict[str, MarketView] = {}
        self._desks: dict[str, _Desk] = {}
        self._busy: set[str] = set()
        self._now: MarketView | None = None
        self._idle = False
        self._block = self._hour = self._messages = 0
        self._valued_seq = -1
        # Of the block at hand: notional liquidated by ticker, and what the fund lost by it.
        self._liquidated: dict[str, int] = {}
        self._insurance_lost = 0
        # What the step at hand changed, gathered into one message.
        self._told_fills: list[Fields] = []
        self._told_orders: dict[str, Fields] = {}
        self._touched: dict[str, Holding] = {}
        self._transfer: Fields | None = None

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in; return the account frames that it caused."""
        if isinstance(event, MarketView):
            self._now = self._views[event.ticker] = event
            # Most views are of markets in which nothing of ours is at stake; hours are counted.
            if self._idle and _block_and_hour(event)[1] <= self._hour:
                return _NOTHING
        first = [] if self._messages else [self._snapshot()]
        if isinstance(event, OrderRequest):
            self._request(event)
        elif isinstance(event, CancelRequest):
            self._cancel(event)
        else:
            self._see(event)
        return first + self._flush()

    @property
    def at(self) -> int:
        """Return the event time, in nanoseconds: that of the newest view."""
        return 0 if self._now is None else self._now.at

    @property
    def fees(self) -> Fees:
        """Return what fills cost in the block at hand: what was chosen, or the account's tier.

        The tier is that of its own fills of 30 days, until the block before. What everybody
        traded is not known, so those tiers that ask for a share of it are never reached.
        """
        if self._chosen_fees is not None:
            return self._chosen_fees
        when = self._when()
        block = when.height or when.time_ns // _SECOND_NS
        if self._tier is None or block != self._tier_block:
            tier = self.ledger.tier(when.time_ns, tiers=_TIERS_BY_VOLUME)
            self._tier, self._tier_block = tier, block
        return self._tier

    def deposit(self, quote_quantums: int) -> list[Frame]:
        """Bring USDC in from the wallet; return the account frames of it."""
        if quote_quantums <= 0:
            raise PaperError(f"expected a deposit above 0 quote quantums, got {quote_quantums}")
        first = [] if self._messages else [self._snapshot()]
        self._touch(self.ledger.owing)
        self.ledger.deposit(quote_quantums, self._when())
        self._transfer = transfer_fields(self.subaccount, quote_quantums, self._when())
        return first + self._flush()

    def withdraw(self, quote_quantums: int) -> list[Frame]:
        """Take USDC out to the wallet; return the account frames of it.

        What collateral, or an account just worth less than nothing, does not allow moves nothing
        and is counted in `refusals`, by the ledger's reason.
        """
        first = [] if self._messages else [self._snapshot()]
        # While nothing is at stake blocks go by unseen.
        block = self._block if self._now is None else _block_and_hour(self._now)[0]
        blocked = withdrawals_blocked(block, self._negative_at)
        owing = self.ledger.owing
        moved = self.ledger.withdraw(quote_quantums, self._when(), blocked=blocked)
        if isinstance(moved, Refused):
            self.refusals[moved.reason] += 1
        else:
            self._touch(owing)
            self._transfer = transfer_fields(self.subaccount, -quote_quantums, self._when())
        return first + self._flush()

    def figures(self) -> Ledger:
        """Return what the account did and what it is worth: its ledger, which goes on living."""
        return self.ledger

    def _touch(self, holdings: Iterable[Holding]) -> None:
        self._touched |= {holding.id: holding for holding in holdings}

    def _request(self, request: OrderRequest) -> None:
        view = self._views.get(request.ticker)
        if view is None or view.market is None:
            self.refusals["ErrInvalidClob"] += 1  # and no market to name it by in an answer
            return
        self._value(view)
        order, height = _Ours.sent(self.subaccount, request), view.chain.height
        desk = self._desk(view, view.market)
        seconds = view.chain.time_ns // _SECOND_NS
        error = objection(request, view.market, status=view.status, height=height, time=seconds)
        if error := error or self._limit(order, view):
            self._refuse(desk, order, error)
            return
        # A quiet desk hears of no blocks: let ids that have served their time go first.
        for ended in desk.book.expire(height):
            self._tell(desk, ended, "EXPIRED")
        self._wait(desk, order)
        if order.order_flags == SHORT_TERM:
            self._tell(desk, order)

    def _limit(self, order: Order, view: MarketView) -> str:
        """Name the limit that an order exceeds, or nothing."""
        if order.order_flags == TWAP:
            return "ErrTwapOrderNotSimulated"
        stateful = order.order_flags != SHORT_TERM
        if self._attempts.exceed(_block_and_hour(view)[0], stateful=stateful):
            return "ErrBlockRateLimitExceeded"
        if stateful:
            worth = self.ledger.equity  # an unknown one allows none
            limit = 0 if worth is None else stateful_order_limit(worth)
            if sum(desk.stateful for desk in self._desks.values()) >= limit:
                return "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
        return ""

    def _cancel(self, cancel: CancelRequest) -> None:
        view = self._views.get(cancel.ticker)
        if view is None or view.market is None:
            self.refusals["ErrInvalidClob"] += 1
            return
        seconds, short = view.chain.time_ns // _SECOND_NS, cancel.order_flags == SHORT_TERM
        error = cancel_objection(cancel, height=view.chain.height, time=seconds)
        if not error and short and self._attempts.exceed(_block_and_hour(view)[0], stateful=False):
            error = "ErrBlockRateLimitExceeded"
        if error:
            self.refusals[error] += 1
        else:
            self._wait(self._desk(view, view.market), cancel)

    def _desk(self, view: MarketView, market: PerpetualMarket) -> "_Desk":
        return self._desks.get(view.ticker) or self._desks.setdefault(
            view.ticker, _Desk(self, view, market)
        )

    def _wait(self, desk: "_Desk", request: "Order | CancelRequest") -> None:
        if self._idle:  # it saw no blocks go by: they are counted from here
            self._block, self._hour = _block_and_hour(desk.view)
        desk.inbox.append((self._when().at + next(self._delays), request))
        self._busy.add(desk.market.ticker)

    def _refuse(self, desk: "_Desk", order: Order, error: str) -> None:
        self.refusals[error] += 1
        # What stands under this id goes on: a refusal speaks of the request alone.
        if order.id not in self._told_orders and order.key not in desk.book.orders:
            code = _OURS.get(error) or code_of(error)
            self._tell(desk, order, refusal=f"clob {code}: {error}")

    def _see(self, view: MarketView) -> None:
        block, hour = _block_and_hour(view)
        if view.changed not in ("book", "trades"):
            self._value(view)
            self._catch_up(view.seq)
        if view.ticker in self.funding_owed:
            self._fund_late(view)
        if block != self._block:
            self._new_block(block, hour)
        if view.changed == "book" and view.ticker in self._busy:
            self._meet(self._desks[view.ticker])
        elif view.changed == "trades":
            self._hear(view)
        if self.optimism.pending:
            self.optimism.settle(view.at)
        if view.status == _SETTLED and view.ticker in self._desks:
            self._settle_finally(self._desks[view.ticker])
        if self.ledger.breached:
            self._liquidate()

    def _value(self, view: MarketView) -> None:
        oracle, market = view.oracle, view.market
        if market is not None:
            # Governance moves grids, margin fractions and caps under open positions.
            self.ledger.regrade(market)
            if desk := self._desks.get(view.ticker):
                desk.market = market
        if oracle is not None:
            told = oracle.digits, oracle.exponent, view.open_interest
            if told != self.ledger.oracles.get(view.ticker):
                self.ledger.value(view.ticker, *told)

    def _catch_up(self, seq: int) -> None:
        """Value all that is held anew: one frame moves many prices, and then the chain looks."""
        if seq != self._valued_seq:
            self._valued_seq = seq
            for ticker in list(self.ledger.holdings):
                self._value(self._views[ticker])

    def _new_block(self, block: int, hour: int) -> None:
        self._liquidated.clear()
        self._insurance_lost = 0
        for ticker in sorted(self._busy):
            desk = self._desks[ticker]
            self._meet(desk)
            desk.watch()
            self._end_block(desk)
        if self._hour and hour > self._hour:
            self._fund(hour - self._hour)
            self.ledger.mark(self._when())
        self._block, self._hour = block, max(self._hour, hour)

    def _end_block(self, desk: "_Desk") -> None:
        """Let in what the block took in and what it triggered, and end what it ended."""
        height, seconds = desk.view.chain.height, desk.view.chain.time_ns // _SECOND_NS
        if desk.waiting.placed or desk.waiting.untriggered:
            entry = desk.waiting.enter(desk.trigger_prices(), seconds)
            desk.waiting = entry.waiting
            for order in entry.expired:
                self._tell(desk, order, "EXPIRED")
            for order in entry.entering:
                self._take(desk, order)
        desk.traded = ()
        for order in desk.book.expire(height, seconds):
            self._tell(desk, order, "EXPIRED")

    def _fund(self, hours: int) -> None:
        indices = dict(self.ledger.indices)
        for ticker, holding in self.ledger.holdings.items():
            delta = risk.index_delta(self._desks[ticker].view, holding.market, hours)
            if delta is None:
                self.funding_owed[ticker] = self.funding_owed.get(ticker, 0) + hours
            else:
                indices[ticker] = indices.get(ticker, 0) + delta
        self.ledger.accrue(indices, self._when())

    def _fund_late(self, view: MarketView, *, worst_for: int = 0) -> None:
        """Accrue the hours that are owed, if the rate is known or at the worst one for a size."""
        hours, market = self.funding_owed[view.ticker], self._desks[view.ticker].market
        delta = risk.index_delta(view, market, hours, worst_for=worst_for)
        if delta is not None:
            del self.funding_owed[view.ticker]
            indices = self.ledger.indices
            moved = {view.ticker: indices.get(view.ticker, 0) + delta}
            self.ledger.accrue(moved, self._when())

    def _hear(self, view: MarketView) -> None:
        """Hold trades of the tape against our fills, and let them reach what rests and waits."""
        busy, market = view.ticker in self._busy, view.market
        if market is None or not (busy or self.optimism.pending):
            return
        for trade in view.fresh:
            try:
                at, size = market.subticks(trade.price_text), market.quantums(trade.size_text)
            except GridError:  # no trade of this market
                continue
            self.optimism.hear(view.ticker, trade.side, at, size, trade.at_ns)
            if busy:
                desk = self._desks[view.ticker]
                if trade.at_ns >= view.chain.time_ns - _LATE_NS:
                    low, high = desk.traded or (at, at)
                    desk.traded = min(at, low), max(at, high)
                if taker := desk.reached(trade.side, at, size, trade.at_ns):
                    self._report(desk, desk.book.place(taker))

    def _meet(self, desk: "_Desk") -> None:
        """Let what rests and what waits meet the book as it is now."""
        self._cross(desk)
        for event in desk.arrived(self._when().at):
            if not isinstance(event, Order):
                self._withdraw(desk, event)
            elif desk.view.status == _SETTLED:
                self._refuse(desk, event, "ErrOrderConflictsWithClobPairStatus")
            elif event.order_flags != SHORT_TERM:
                self._submit(desk, event)
            elif 0 < event.good_til_block < desk.view.chain.height:
                self._tell(desk, event, "EXPIRED")
            else:
                self._take(desk, event)

    def _cross(self, desk: "_Desk") -> None:
        """Let the levels that have run over what rests fill it."""
        for taker in desk.crossing():
            self._report(desk, desk.book.place(taker))

    def _submit(self, desk: "_Desk", order: Order) -> None:
        """Take a stateful order into the block at hand."""
        waiting, error = desk.waiting.submit(order, desk.book.orders)
        if not error and order.order_flags == LONG_TERM:
            # The chain judges it as if filled at its own price, with the builder's fee reckoned
            # from base quantums, as it does there alone.
            quote = desk.market.quote_quantums(order.quantums, order.subticks)
            cost = self.fees.of(quote, "MAKER") + fee(order.quantums, _builder_ppm(order))
            signed = order.sign * order.quantums
            if not self.ledger.affords(desk.market, signed, order.subticks, cost):
                error = "ErrStatefulOrderCollateralizationCheckFailed"
        if error:
            self._refuse(desk, order, error)
            return
        desk.waiting = waiting
        if order.condition_type:
            self._tell(desk, order)

    def _withdraw(self, desk: "_Desk", cancel: CancelRequest) -> None:
        key = (self.subaccount, cancel.client_id, cancel.order_flags)
        block, until = cancel.good_til_block, cancel.good_til_block_time
        if error := desk.book.cancel_error(
            key, good_til_block=block, good_til_block_time=until, waiting=desk.waiting
        ):
            self.refusals[error] += 1
            return
        desk.waiting, order = desk.waiting.withdraw(key)
        order = order or desk.book.cancel(key, block or None)
        if order is not None:
            self._tell(desk, order, "USER_CANCELED")

    def _take(self, desk: "_Desk", order: Order) -> Result:
        """Place an order of ours among the recorded levels, for as long as it matches."""
        crowd = list(desk.crowd(order.side, order.subticks))
        for level in crowd:
            self._report(desk, desk.book.place(level))
        result = desk.book.place(order)
        for level in crowd:
            desk.book.cancel(level.key)
        if order.key in desk.book.orders:
            desk.stand(order)
        self._report(desk, result)
        return result

    def fill(
        self, desk: "_Desk", order: Order, quantums: int, subticks: int, liquidity: str,
        type_: str, fee: int = 0, insurance: int = 0, *,
        quote: int | None = None, builder_fee: int = 0,
    ) -> None:  # fmt: skip
        """Book a fill of ours and tell it."""
        market, when, id_ = desk.market, self._when(), order.id or None
        signed = order.sign * quantums
        if market.ticker in self.funding_owed:
            # What was held is about to be forgotten: what it owes cannot wait any longer.
            self._fund_late(desk.view, worst_for=self.ledger.position(market.ticker))
        touched = self.ledger.fill(
            market, signed, subticks, fee, insurance, when, quote=quote, order_id=order.id,
            liquidity=liquidity, type=type_, builder_fee=builder_fee,
        )  # fmt: skip
        self._touch(touched)
        told = event_id("fill", self.subaccount, id_, when.seq, self.ledger.fills)
        self._told_fills.append(fill_fields(
            order, market, quantums, subticks, id_=told, liquidity=liquidity, type_=type_,
            quote=market.quote_quantums(quantums, subticks) if quote is None else quote,
            fee=fee - builder_fee + insurance, builder_fee=builder_fee, when=when,
        ))  # fmt: skip

    def _report(self, desk: "_Desk", result: Result) -> None:
        """Tell what a placement did to orders that have an id: to ours, but for liquidations."""
        order = result.order
        makers = [(match.maker, "") for match in result.fills]
        for touched, reason in makers + result.removed:
            if touched.id:
                self._tell(desk, touched, reason)
        standing = desk.book.orders.get(order.key)
        if result.error == "ErrPostOnlyWouldCrossMakerOrder":
            self._tell(desk, order, "POST_ONLY_WOULD_CROSS_MAKER_ORDER")
        elif result.error:
            self._refuse(desk, order, result.error)
        if order.id and (standing is not None or not order.remaining):
            self._tell(desk, standing or order)

    def _tell(self, desk: "_Desk", order: Order, reason: str = "", *, refusal: str = "") -> None:
        """Tell how an order stands, or the indexer's or the chain's reason for its end."""
        firm = order.filled or order.order_flags != SHORT_TERM or reason == "EXPIRED"
        status = "OPEN" if firm else "BEST_EFFORT_OPENED"
        if reason:
            status = "CANCELED" if firm else "BEST_EFFORT_CANCELED"
        elif not order.remaining:
            status = "FILLED"
        elif desk.waiting.find(order.key) is order:
            status = "UNTRIGGERED"
        status = "CANCELED" if refusal else status
        market, when = desk.market, self._when()
        fields = order_fields(order, market, when, status)
        if reason:
            fields["totalOptimisticFilled"] = fields["totalFilled"]
            refusal = f"ORDER_REMOVAL_REASON_{reason}"
        if refusal:
            fields["removalReason"] = refusal
        self._told_orders[order.id] = fields
        self.ledger.note(OrderRecord(
            id=order.id, ticker=market.ticker, side=order.side, quantums=order.quantums,
            subticks=order.subticks, filled=order.filled, status=status, reason=refusal,
            time_in_force=order.time_in_force, order_flags=order.order_flags,
            client_id=order.client_id, reduce_only=order.reduce_only, created=when, updated=when,
        ))  # fmt: skip

    def _liquidate(self) -> None:
        """Liquidate position after position, each once a block, until the account is safe."""
        # The chain starts at a pseudo-random position; the oldest one is ours.
        if self.ledger.margin.net_collateral < 0:
            self._negative_at = self._block
        for ticker in list(self.ledger.holdings):
            desk = self._desks[ticker]
            left = self.terms.max_subaccount_notional - sum(self._liquidated.values())
            if left <= 0 or not desk.readable or ticker in self._liquidated:
                continue
            # What the book has run over fills first, and may be all that is needed.
            self._cross(desk)
            if self.ledger.breached and ticker in self.ledger.holdings:
                held = self.ledger.holdings[ticker]
                self._liquidated[ticker] = self._liquidate_position(desk, held, left)

    def _liquidate_position(self, desk: "_Desk", holding: Holding, left: int) -> int:
        """Liquidate some of a position, at most `left`; return the notional it took."""
        market, ledger, held = desk.market, self.ledger, holding.quantums
        margin, part = ledger.margin, ledger.part(market.ticker)
        allowed = msgspec.structs.replace(self.terms, max_subaccount_notional=left)
        size = risk.liquidation_size(market, held, *ledger.oracles[market.ticker][:2], allowed)
        worst = risk.fillable_subticks(
            risk.fillable_price(margin, part, held, self.terms), is_long=holding.is_long,
            quantum_conversion_exponent=market.quantum_conversion_exponent,
            subticks_per_tick=market.subticks_per_tick,
        )  # fmt: skip
        filled = self._take(desk, self._closing(market, size, worst)).filled
        if filled:
            ledger.liquidated()
        elif margin.net_collateral < 0:
            # Nobody buys, or at prices that the fund cannot make up for.
            self._deleverage(desk, holding)
        return abs(ledger.margin_of(market, filled).net_notional)

    def _settle_finally(self, desk: "_Desk") -> None:
        """End all orders of a market that is finally settled, then what is held in it."""
        holding = self.ledger.holdings.get(desk.market.ticker)
        for order in desk.clear():
            self._tell(desk, order, "FINAL_SETTLEMENT")
        if holding is not None and self.ledger.margin.known:
            self._deleverage(desk, holding)

    def _deleverage(self, desk: "_Desk", holding: Holding) -> None:
        """Hand a whole position to a counterparty, the market that was recorded, free of fees.

        At the bankruptcy price of an account worth less than nothing, else at the oracle's.
        """
        market, ledger, held = holding.market, self.ledger, holding.quantums
        received = ledger.part(market.ticker).net_notional
        if ledger.margin.net_collateral < 0:
            self._negative_at = self._block
            received = ledger.bankruptcy(market, -held)
        quote = received if held > 0 else -received
        price = fill_to_quote(quote, 1, -market.quantum_conversion_exponent) // abs(held)
        order = self._closing(market, -held, price)
        self.fill(desk, order, abs(held), price, "TAKER", "DELEVERAGED", quote=quote)

    def _closing(self, market: PerpetualMarket, quantums: int, subticks: int) -> Order:
        """Return the order that the chain makes to close signed quantums by."""
        return Order(
            subaccount=self.subaccount, client_id=0, clob_pair_id=market.clob_pair_id,
            side="BUY" if quantums > 0 else "SELL", quantums=abs(quantums), subticks=subticks,
            time_in_force="IOC", order_flags=_LIQUIDATION, liquidation=True,
        )  # fmt: skip

    def insures(self, market: PerpetualMarket, delta: int) -> bool:
        """Tell whether the insurance fund can pay for a match, and the block let it."""
        lost = self._insurance_lost - min(0, delta)
        within = delta >= 0 or lost <= self.terms.max_subaccount_insurance_lost
        return within and self.insurance.covers(market, delta)

    def insure(self, market: PerpetualMarket, delta: int) -> None:
        """Let the insurance fund take in what a match brings, or negative pay for it."""
        self._insurance_lost -= min(0, delta)
        self.insurance.take(market, delta)

    def _when(self) -> Stamp:
        view = self._now
        if view is None:
            return NEVER
        return Stamp(view.seq, view.at, view.chain.time_ns or view.at, view.chain.height)

    def _flush(self) -> list[Frame]:
        """Tell what the step changed in one message, if it changed anything."""
        desks = self._desks
        self._busy = {t for t in self._busy if desks[t].busy}
        watching = self.optimism.pending or self.funding_owed
        self._idle = not (self.ledger.holdings or self._busy or watching)
        if not (self._told_orders or self._touched or self._transfer):
            return _NOTHING
        positions = [position_fields(self.ledger, holding) for holding in self._touched.values()]
        changes = {
            "fills": self._told_fills,
            "perpetualPositions": positions,
            "assetPositions": [asset_fields(self.ledger)] if positions or self._transfer else [],
            "transfers": self._transfer,
            "orders": list(self._told_orders.values()),
            "blockHeight": str(self._when().height),
        }
        frame = self._frame("channel_data", {name: what for name, what in changes.items() if what})
        self._told_fills, self._told_orders, self._touched = [], {}, {}
        self._transfer = None
        return [frame]

    def _snapshot(self) -> Frame:
        return self._frame("subscribed", snapshot(self.ledger, self._when()))

    def _frame(self, type_: str, contents: Fields) -> Frame:
        self._messages += 1
        return account_frame(self.subaccount, type_, contents, self._messages, self._when())


_NOTHING: Final[list[Frame]] = []
# A trade may be told this much after its block; an older one is of a snapshot, and triggers none.
_LATE_NS: Final = 2 * _SECOND_NS
_LIQUIDATION: Final = -1
_SETTLED: Final = "FINAL_SETTLEMENT"
_TIERS_BY_VOLUME: Final = [tier for tier in STANDARD_FEE_TIERS if not tier.total_share_ppm]

# === Streams ===


def paper(
    venue: PaperVenue,
) -> Callable[[Observable[MarketView | OrderRequest | CancelRequest]], Observable[Frame]]:
    """Trade on a paper venue: its account frames, as the indexer would send them.

    Hot or cold as the source is; replays nothing but the snapshot that comes first; runs on the
    source's thread; completes and errors with it. The state is the venue's own, so that panels
    can read it: give each subscriber a venue.

        events  --v--o--v----v--|
        frames  --S--a--a-------|
    """
    return fold(lambda: venue, PaperVenue.step)
