"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                 PaperMarket · PaperAccount
                 Desk · Clearing · Ledger

`PaperVenue` trades one subaccount against recorded books; `paper` lifts it onto a stream. It is
the only rulebook of the venue: whoever needs an exchange (tools/venue) stands on these sections.

- Errors: `PaperError` and its children; `Refused`, a value.
- Orders and matches: `Order`, `Match`, `Placement`, who may pay for a match.
- Order book: `OrderBook`, by price, then time, then the chain's exceptions.
- Triggers, Stateful orders: what triggers a conditional order; `Waiting` for the block, `Desk`.
- Records, History: what a ledger remembers of a subaccount, within `Caps`, page by page; beside
  what is exact, `IndexedSums`: a position as the indexer reckons it.
- Tally, Performance: sums of a whole life, and what to think of it. Trades, Executions: each
  position from its opening to its end (`trade_figures`), each fill against mid.
- Events, Money: what can happen to a ledger; fees, insurance funds, blocked withdrawals.
- Positions, Bookings, Ledger: one subaccount's holdings and its money. Account figures: its sums.
- Collateral, Journal: `update_result`, `transfer`; `rebuild` makes of a journal the same ledger.
- Saved state: `VenueState` and what comes after it (`Digest`, `resumed`), as JSON, for a next run.
- Text, Rows, Account frames: an account in the indexer's own words, field by field, and `Changes`
  in the indexer's own order: what nodes saw, each match by what it left, then its fills.
- Liquidation, Settlement: who is closed at which price; how a match changes hands (`Clearing`).
- Latency, Queue position, Optimism, Limits: what stands between an order and its fill.
- Recorded market: the recorded levels as a crowd on our book; `matches`.
- Paper account, Paper market: our money, one market. Enforcement, Return: what the chain takes, and
  an account that an earlier run left. Venue, Streams: all of it, the operator.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long; a trigger price is an exact `Fraction` of subticks;
times are unix seconds in orders and unix nanoseconds elsewhere. Fees are rounded up, fills
truncated. Floats are for opinions alone: `Performance`, trades, executions, `Optimism`'s error.

Bias, on purpose and by name: a message waits out its `Latency`, then for the next book view of
its market, or the next block, so it never trades on what it was decided on; then it is first in
line for what it sees, and nobody reacts to it. A resting order has a `QueuePosition`: it fills
when the other side comes to its price, or by trades beyond what stood before it. How much of
all this the tape bears out, `Optimism` measures.

Where no book was recorded the data layer models one (`view.book.modelled`). Taking pays its spread
and walks its depth; what rests fills only when a trade goes beyond its price. Of candles, orders
meet the next one's open or worse, and stops the worse of trigger and open (`PaperMarket.play`).

Nothing here reads a clock or opens a socket; chance comes from a seed that is handed in. What the
chain refuses in an order by itself, dydx_conn's `objection` finds.
Sources: v4-chain x/clob (memclob, abci.go, keeper), x/subaccounts, x/sending; indexer ender,
vulcan, comlink and socks.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "BookError", "HistoryError", "LedgerError", "PaperError", "Refused",
    # Orders and matches
    "CLEAN", "Match", "Order", "Placement", "Positions", "UpdateResult",
    # Order book
    "FAILED", "OrderBook",
    # Triggers
    "TRIGGER_MULTIPLIER", "trigger_prices",
    # Stateful orders
    "BlockEnd", "Desk", "Waiting",
    # Records
    "FillRecord", "FundingRecord", "OrderRecord", "PnlPoint", "Stamp", "filled_record",
    "order_record", "status_of",
    # History
    "Caps", "History",
    # Tally
    "Tally",
    # Performance
    "Performance", "performance",
    # Trades
    "MarketTrades", "RoundTrip", "TradeFigures", "distribution", "trade_figures",
    # Executions
    "Execution", "ExecutionFigures", "execution_figures",
    # Events
    "Event", "Filled",
    # Money
    "SHARED_FUND", "InsuranceFunds", "charge", "parent_of",
    # Positions
    "Booking", "LedgerPosition",
    # Bookings
    "DELEVERAGED",
    # Ledger
    "Ledger",
    # Account figures
    "AccountFigures", "figures",
    # Collateral
    "admits", "bankruptcy", "transfer", "update_result",
    # Journal
    "rebuild",
    # Saved state
    "Carried", "Digest", "Entry", "VenueState", "from_json", "frozen", "in_parts", "ledger_state",
    "restore", "resumed", "to_json",
    # Text
    "transaction_hash",
    # Rows
    "asset_fields", "fill_fields", "order_fields", "order_update_fields", "position_fields",
    "position_update_fields", "settled_order_fields", "subaccount_fields", "transfer_fields",
    # Account frames
    "Changes", "Message", "missing_record", "snapshot", "update",
    # Liquidation
    "Backstop", "deleveraging", "liquidation_order",
    # Settlement
    "Clearing", "House", "submit",
    # Latency
    "Latency",
    # Queue position
    "block_and_hour",
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

import contextlib
import hashlib
from bisect import bisect_left, insort_left
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import partial
from itertools import chain, cycle, groupby, islice, pairwise, repeat
from math import floor, fsum, isfinite, log10, sqrt
from operator import itemgetter
from random import Random
from statistics import fmean, median, stdev
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, get_args

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
from dydx_data import Bar, Book, MarketView, ModelledBook, Trade, oracle_subticks, stopping
from dydx_risk import (
    PPM,
    LiquidationTerms,
    MarginFigures,
    PositionMargin,
    RiskError,
    bankruptcy_price,
    fillable_price,
    fillable_subticks,
    funding_index_delta,
    funding_settlement,
    funding_settlement_ppm,
    index_delta,
    insurance_fund_delta,
    is_liquidatable,
    liquidation_size,
    mixes_isolated,
    position_margin,
    state_change,
    total_margin,
)
from reactivex import Observable

_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _SECOND_NS

# === Errors ===

# One base, with a child for each part that a caller can hold wrongly. What the venue itself refuses
# is a value: `Refused` of a ledger, the chain's name of an error (`Placement.error`) of an order.


class PaperError(Exception):
    """Anything this layer refuses as a bug of the caller: a latency below 0, an unknown queue."""


class BookError(PaperError):
    """What the caller handed in cannot be: a price that is none, an order in the wrong place."""


class HistoryError(PaperError):
    """The caller requested a page that cannot exist."""


class LedgerError(PaperError):
    """A payment that no account could make or get, or a journal that is none."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What was not done to a ledger, and why; nothing changed."""

    reason: Literal["DUPLICATE", "OVERFLOW", "BLOCKED", "UNKNOWN", "UNDERCOLLATERALIZED", "SAME"]
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.reason}: expected {self.expected}, got {self.got}"


# === Orders and matches ===

# What a book holds and what it answers, as plain values, and what it must know of the accounts that
# trade on it. Nothing here knows a market's state.

Key = tuple[Subaccount, int, int]
"""An order's identity in one market: its subaccount, client id and flags."""


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
    builder_fee_ppm: int = 0
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
    def of(cls, subaccount: Subaccount, request: OrderRequest) -> Self:
        """Make the order of a request."""
        alike = {name: getattr(request, name) for name in _REQUESTED}
        return cls(subaccount=subaccount, id=order_id(subaccount, request), **alike)


_REQUESTED: Final = [f for f in Order.__struct_fields__ if f in OrderRequest.__struct_fields__]


class Match(msgspec.Struct, frozen=True, gc=False):
    """Two orders that meet: always at the maker's price."""

    maker: Order
    taker: Order
    quantums: int
    subticks: int


class Placement(msgspec.Struct, gc=False):
    """What became of a placement.

    `status` is the chain's word for how matching ended (Success, Undercollateralized,
    InternalError, ImmediateOrCancelWouldRestOnBook, ReduceOnlyResized); `error` names why the
    order was not taken at all. `removed` is what left the book unfilled, with the indexer's reason
    for each.
    """

    order: Order
    status: str = "Success"
    error: str = ""
    fills: list[Match] = []
    removed: list[tuple[Order, str]] = []

    @property
    def filled(self) -> int:
        """Return the quantums that this placement filled."""
        return sum(match.quantums for match in self.fills)  # integers


UpdateResult = Literal[
    "Success", "NewlyUndercollateralized", "StillUndercollateralized", "UpdateCausedError",
    "ViolatesIsolatedSubaccountConstraints", "LiquidationRequiresDeleveraging",
    "LiquidationExceededSubaccountMaxInsuranceLost",
]  # fmt: skip
"""What a fill would do to an account, in the chain's words (x/subaccounts, x/clob)."""

CLEAN: Final[tuple[UpdateResult, UpdateResult]] = ("Success", "Success")


class Parties(Protocol):
    """What a book must know of the accounts that trade on it."""

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position in this market."""

    def check(self, match: Match) -> tuple[UpdateResult, UpdateResult]:
        """Return what the match would do to the maker and to the taker."""

    def settle(self, match: Match) -> None:
        """Change hands; called only after a clean check."""


class Positions:
    """Accounts of unlimited collateral: positions and nothing else."""

    def __init__(self, positions: Mapping[Subaccount, int] | None = None):
        self.positions = Counter(positions)

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position, 0 for a stranger."""
        return self.positions[subaccount]

    def check(self, match: Match) -> tuple[UpdateResult, UpdateResult]:
        """Find nobody short of collateral."""
        return CLEAN

    def settle(self, match: Match) -> None:
        """Move the quantums from seller to buyer."""
        for order in (match.taker, match.maker):
            self.positions[order.subaccount] += order.sign * match.quantums


# === Order book ===

# Matching, and nothing else: price, then time, then the chain's exceptions. `Parties` decides who
# can pay; dydx_conn's `objection` has judged the order by itself before it comes here.


class OrderBook:
    """One market's orders, matched by price, then time, then the chain's exceptions.

    dydx_conn's `objection` judges an order by itself before. Source: x/clob/memclob.
    """

    def __init__(
        self, market: PerpetualMarket, accounts: Parties | None = None, *,
        track_changes: bool = False,
    ):  # fmt: skip
        self.market = market
        self.accounts: Parties = accounts or Positions()
        self.orders: dict[Key, Order] = {}
        # By rank, then by age: the order that trades next is the last.
        self._sides: dict[Side, list[Order]] = {"BUY": [], "SELL": []}
        # Those of `orders` that go when a position changes sides: few, and read often.
        self._reducing: dict[Key, Order] = {}
        # A short-term id keeps its fill amount until the block has passed, a cancel its power.
        self._past: dict[Key, Order] = {}
        self._cancels: dict[Key, int] = {}
        self._changes: dict[tuple[Side, int], None] | None = {} if track_changes else None

    @property
    def best_bid(self) -> int | None:
        """Return the highest bid price, in subticks."""
        bids = self._sides["BUY"]
        return bids[-1].subticks if bids else None

    @property
    def best_ask(self) -> int | None:
        """Return the lowest ask price, in subticks."""
        asks = self._sides["SELL"]
        return asks[-1].subticks if asks else None

    def levels(self, side: Side, n: int | None = None) -> list[tuple[int, int]]:
        """Return the best `n` levels, or all, as (subticks, quantums), best first."""
        by_price = groupby(reversed(self._sides[side]), key=lambda order: order.subticks)
        return [
            (at, sum(order.remaining for order in orders))  # integers
            for at, orders in islice(by_price, n)
        ]

    def take_changes(self) -> list[tuple[Side, int, int]]:
        """Return (side, subticks, quantums now) of levels touched since the last call."""
        changes, self._changes = self._changes or {}, {}
        now = {side: dict(self.levels(side)) for side in self._sides}
        return [(side, at, now[side].get(at, 0)) for side, at in changes]

    def place(self, order: Order) -> Placement:
        """Match an order and rest what may rest; whatever happens is in the result."""
        result = Placement(order, error=self._objection(order))
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

        A short-term cancel has a `good_til_block`: an order that lasts longer stays, and until
        then no order comes in under this id that does not last longer (ErrOrderIsCanceled).
        Without it the order just goes. `Desk` refuses wrong cancels before.
        """
        if good_til_block and key[2] == SHORT_TERM:
            self._cancels[key] = max(good_til_block, self.cancelled_until(key))
        order = self.orders.get(key)
        if order is None or (good_til_block or order.good_til_block) < order.good_til_block:
            return None
        self._remove(order)
        return order

    def cancelled_until(self, key: Key) -> int:
        """Return the block until which a short-term cancel keeps an id out, 0 for none."""
        return self._cancels.get(key, 0)

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

    def _match(self, order: Order, result: Placement) -> None:
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
            maker_may, taker_may = self.accounts.check(match)
            if maker_may != "Success":  # whatever it is, the chain removes a maker for this
                self._remove(maker, "UNDERCOLLATERALIZED", result)
            if taker_may != "Success":
                result.status = _STATUSES.get(taker_may, "Undercollateralized")
                result.error = _ERRORS.get(taker_may, "")
                return
            if maker_may == "Success" and not self._trade(match, result):
                return

    def _tradable(self, order: Order) -> int:
        if not order.reduce_only:
            return order.remaining
        return min(order.remaining, -order.sign * self.accounts.position(order.subaccount))

    def _trade(self, match: Match, result: Placement) -> bool:
        """Fill one match; return whether the taker may go on."""
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

    def _finish(self, order: Order, result: Placement) -> None:
        """Rest what is left of an order, or record why it may not."""
        if order.remaining and not result.error:
            if result.status == "Success" and order.time_in_force != "IOC":
                self._rest(order)
                return
            if result.status == "Success":
                result.status = "ImmediateOrCancelWouldRestOnBook"
            result.removed.append((order, _REMOVALS.get(result.status, "")))
        self._remember(order)

    def _rest(self, order: Order) -> None:
        self.orders[order.key] = order
        if order.reduce_only:
            self._reducing[order.key] = order
        insort_left(self._sides[order.side], order, key=_rank)
        self._touch(order)

    def _remove(self, order: Order, reason: str = "", result: Placement | None = None) -> None:
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


# How matching ends for a taker that may not have a fill; every other result is lack of collateral.
_STATUSES: Final[dict[UpdateResult, str]] = {
    "UpdateCausedError": "InternalError",
    "LiquidationRequiresDeleveraging": "LiquidationRequiresDeleveraging",
    "LiquidationExceededSubaccountMaxInsuranceLost":
        "LiquidationExceededSubaccountMaxInsuranceLost",
    "ViolatesIsolatedSubaccountConstraints": "ViolatesIsolatedSubaccountConstraints",
}  # fmt: skip
# Nothing was filled before it: who may not open a position has opened none.
_ERRORS: Final[dict[UpdateResult, str]] = {
    "ViolatesIsolatedSubaccountConstraints": "ErrWouldViolateIsolatedSubaccountConstraints",
}
FAILED: Final = {
    "ErrPostOnlyWouldCrossMakerOrder": "POST_ONLY_WOULD_CROSS_MAKER_ORDER",
    "ErrWouldViolateIsolatedSubaccountConstraints": "VIOLATES_ISOLATED_SUBACCOUNT_CONSTRAINTS",
}
"""Errors that matching ends with: nodes had taken the order in, and report why they removed it."""

# The indexer's reason for the end of what is left of a taker; a liquidation has none.
_REMOVALS: Final = {
    "Undercollateralized": "UNDERCOLLATERALIZED",
    "InternalError": "INTERNAL_ERROR",
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

# Which price triggers a conditional order, and which prices a block holds against it: exact in
# fractions of subticks.

TRIGGER_MULTIPLIER: Final = 5
"""Trades trigger within so many times a market's `min_price_change_ppm` of its oracle price."""


def can_trigger(order: Order, price: Fraction) -> bool:
    """Return whether a price (subticks) triggers a conditional order.

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


# === Stateful orders ===

# Long-term and conditional orders belong to a block before they belong to the book: what a block
# took in enters when it is done, and can trade in the next.


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """One market's stateful orders that are not on its book, oldest first.

    `placed` are the long-term orders of the block at hand; `untriggered` the conditional ones.
    """

    placed: tuple[Order, ...] = ()
    untriggered: tuple[Order, ...] = ()

    @property
    def empty(self) -> bool:
        """Return whether none waits."""
        return not (self.placed or self.untriggered)

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

    def enter(self, prices: Iterable[Fraction], time: int = 0) -> "BlockEnd":
        """End a block at `time`: what expired goes; what is triggered and what was placed enters.

        Conditional orders are held against `prices` (of `trigger_prices`) in the very block that
        took them; without prices none is triggered.
        """
        ended = partial(_ended, time=time)
        late, placed = _parted(self.placed, ended)
        too_late, untriggered = _parted(self.untriggered, ended)
        for price in prices:
            fired, untriggered = _parted(untriggered, partial(can_trigger, price=price))
            # The chain checks first those that trigger when the price falls, oldest first.
            placed += sorted(fired, key=lambda order: not _falling(order))
        waiting = Waiting((), tuple(untriggered))
        return BlockEnd(waiting, in_two_passes(placed), (*late, *too_late))


class BlockEnd(msgspec.Struct, frozen=True, gc=False):
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


class Desk:
    """One market's orders: those on its book, and those that are on their way to it.

    `traded` are the lowest and the highest trade price of the block at hand, in subticks.
    """

    __slots__ = ("book", "traded", "waiting")

    def __init__(self, book: OrderBook):
        self.book, self.waiting = book, Waiting()
        self.traded: tuple[int, ...] = ()

    @property
    def stateful(self) -> int:
        """Count the stateful orders that are open."""
        open_ = chain(self.book.orders.values(), self.waiting.placed)
        rest = sum(order.order_flags != SHORT_TERM for order in open_)  # integers
        return rest + len(self.waiting.untriggered)

    def withdraw(self, subaccount: Subaccount, cancel: CancelRequest) -> tuple[Order | None, str]:
        """Take an order off; return it, if it was there, and the chain's refusal, or nothing."""
        key = (subaccount, cancel.client_id, cancel.order_flags)
        if error := self._refusal(key, cancel):
            return None, error
        self.waiting, order = self.waiting.withdraw(key)
        return order or self.book.cancel(key, cancel.good_til_block or None), ""

    def _refusal(self, key: Key, cancel: CancelRequest) -> str:
        # A short-term cancel must last longer than the one before it, and needs no order; a
        # stateful one needs its order, and must not end earlier.
        if key[2] == SHORT_TERM:
            known = 0 < cancel.good_til_block <= self.book.cancelled_until(key)
            return "ErrMemClobCancelAlreadyExists" if known else ""
        order = self.book.orders.get(key) or self.waiting.find(key)
        if order is None:
            return "ErrStatefulOrderDoesNotExist"
        early = cancel.good_til_block_time < order.good_til_block_time
        return "ErrInvalidStatefulOrderCancellation" if early else ""

    def stand(self, order: Order, *, waits: bool) -> None:
        """Let an order stand again, of which a block took notice before."""
        if waits:
            placed, untriggered = self.waiting.placed, self.waiting.untriggered
            self.waiting = Waiting(placed, (*untriggered, order))
        else:
            self.book.place(order)

    def see(self, subticks: int) -> None:
        """Take in the price of a trade."""
        low, high = self.traded or (subticks, subticks)
        self.traded = min(subticks, low), max(subticks, high)

    def end_block(
        self, oracle: Fraction | None, time: int, min_price_change_ppm: int
    ) -> "BlockEnd":
        """End a block at `time` (unix seconds): what waited enters, expires or goes on waiting.

        `oracle` is the market's price in subticks; without it nothing is triggered.
        """
        traded, self.traded = self.traded, ()
        if self.waiting.empty:
            return BlockEnd(self.waiting)
        prices = []
        if oracle is not None:
            prices = trigger_prices(oracle, traded, min_price_change_ppm=min_price_change_ppm)
        entry = self.waiting.enter(prices, time)
        self.waiting = entry.waiting
        return entry

    def trigger(self, path: Sequence[int]) -> list[Order]:
        """Return what enters as prices (subticks) are passed: stops before what takes profit."""
        entry = self.waiting.enter(map(Fraction, path))
        self.waiting, self.traded = entry.waiting, ()
        return sorted(entry.entering, key=lambda order: order.condition_type == "TAKE_PROFIT")

    def clear(self) -> list[Order]:
        """Take out, and return, all that rests or waits."""
        gone = [*self.book.orders.values(), *self.waiting.placed, *self.waiting.untriggered]
        for key in list(self.book.orders):
            self.book.cancel(key)
        self.waiting = Waiting()
        return gone


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

# What is remembered of an account, frozen: an order as it stood, a fill, a position, a payment. How
# the indexer words them is the business of the rows below.


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """When something happened: the frame that caused it, its time, the chain's, its block."""

    seq: int = 0
    at: int = 0
    time_ns: int = 0
    height: int = 0


NEVER: Final = Stamp()


class OrderRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it stands, under the indexer's id; `quantums` and `filled` are unsigned.

    `reason` is the indexer's for its removal, or the chain's for refusing it; of an order with 0
    `quantums` no more than its id is known. `twap` is a TWAP's duration and interval in seconds
    and its tolerance in ppm.
    """

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
    good_til_block: int = 0
    good_til_block_time: int = 0
    client_metadata: int = 0
    condition_type: ConditionType = ""
    trigger_subticks: int = 0
    builder_fee_ppm: int = 0
    twap: tuple[int, int, int] | None = None
    created: Stamp = NEVER
    updated: Stamp = NEVER

    @property
    def is_settled(self) -> bool:
        """Return whether a block has seen it: of a short-term order, its first fill."""
        return bool(self.filled) or self.order_flags != SHORT_TERM

    @property
    def remembered(self) -> "OrderRecord":
        """Return it as it is remembered: what is left of an IOC order ends with its fill."""
        over = self.filled and (self.order_flags, self.time_in_force) == (SHORT_TERM, "IOC")
        if self.status == "BEST_EFFORT_CANCELED" and over:
            return msgspec.structs.replace(self, status="CANCELED")
        return self


_REMOVED: Final = "ORDER_REMOVAL_REASON_"
_ALIKE: Final = [f for f in OrderRecord.__struct_fields__ if f in Order.__struct_fields__]


def order_record(
    order: Order, ticker: str, status: str, when: Stamp, *, removal: str = "", refusal: str = ""
) -> OrderRecord:
    """Return how an order stands at a moment, in the indexer's word for it.

    `removal` is the indexer's reason for its end, `refusal` the chain's for not taking it.
    """
    alike = {name: getattr(order, name) for name in _ALIKE}
    reason = _REMOVED + removal if removal else refusal
    return OrderRecord(
        ticker=ticker, status=status, reason=reason, created=when, updated=when, **alike
    )


def status_of(order: Order, reason: str = "", *, waits: bool = False) -> str:
    """Return the indexer's word for how an order stands, or for its end for a `reason`.

    `waits` is for one whose condition has not triggered it. Of a short-term order nodes alone
    know, and what they took off may still fill: only its last block ends it.
    """
    stateful = order.order_flags != SHORT_TERM
    if reason:
        return "CANCELED" if stateful or reason == "EXPIRED" else "BEST_EFFORT_CANCELED"
    if not order.remaining:
        return "FILLED"
    return "UNTRIGGERED" if waits else "OPEN" if stateful else "BEST_EFFORT_OPENED"


def filled_record(order: Order, ticker: str, quantums: int, when: Stamp) -> OrderRecord:
    """Return an order as a fill of it leaves it, before the book has counted that."""
    filled = order.filled + quantums
    record = order_record(order, ticker, fill_status(order, filled), when)
    return msgspec.structs.replace(record, filled=filled)


def fill_status(order: Order, filled: int) -> str:
    """Return the indexer's word for an order of which a block has filled so much (ender)."""
    if filled >= order.quantums:
        return "FILLED"
    # An IOC order is filled in one block only, so that what is left of it has ended.
    over = order.order_flags == SHORT_TERM and order.time_in_force == "IOC"
    return "CANCELED" if over else "OPEN"


class FillRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill as it was booked: `quote` is paid if positive.

    `fee` is all that was charged for it, `builder_fee` the builder's part of that. `before` is
    the position as the indexer had it, unless a deleveraging made the fill.
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
    liquidity: str
    status: str
    created: Stamp
    client_metadata: int = 0
    event: str = ""
    is_long: bool = False
    before: "IndexedSums | None" = None


class IndexedSums(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position's sums as the indexer keeps them (ender): sizes in quantums, prices in USDC.

    They follow fills, which it takes after the match has moved the position: so the whole of a
    fill counts for the position that its match left, also where that was turned by it. `peak` is
    the greatest number that the size has been, so that of a short the smallest size; `earned` is
    with fees and without funding, and without what liquidations and deleveragings brought.
    """

    peak: int = 0
    opened: int = 0
    entry: Decimal = Decimal(0)
    closed: int = 0
    exit: Decimal | None = None
    earned: Decimal = Decimal(0)

    @property
    def size(self) -> int:
        """Return the size that the sums come to, unsigned."""
        return abs(self.opened - self.closed)

    def filled(self, *, opens: bool, quantums: int, price: Decimal) -> "IndexedSums":
        """Return the sums after a fill of so many quantums, unsigned, to either side."""
        if opens:
            entry = _weighted(self.entry, self.opened, price, quantums)
            return msgspec.structs.replace(self, opened=self.opened + quantums, entry=entry)
        out = _weighted(self.exit or Decimal(0), self.closed, price, quantums)
        return msgspec.structs.replace(self, closed=self.closed + quantums, exit=out)


_DECIMALS: Final = Context(prec=60, rounding=ROUND_HALF_UP)
_TWENTY_PLACES: Final = Decimal("1e-20")


def _weighted(first: Decimal, of_first: int, second: Decimal, of_second: int) -> Decimal:
    sum_ = _DECIMALS.add(
        _DECIMALS.multiply(first, Decimal(of_first)), _DECIMALS.multiply(second, Decimal(of_second))
    )
    return _DECIMALS.quantize(_DECIMALS.divide(sum_, of_first + of_second), _TWENTY_PLACES)


class PositionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position from its opening to now or its end.

    `realized` holds funding and no fees; `unrealized` is None without an oracle price. `indexed`
    are the sums as the indexer has them, whose profit differs where a position turned or grew
    after it had shrunk.
    """

    id: str
    ticker: str
    status: str
    is_long: bool
    quantums: int
    fees: int
    net_funding: int
    realized: int
    unrealized: int | None
    created: Stamp
    ended: Stamp | None
    indexed: IndexedSums = IndexedSums()


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
    """Collateral that came (positive) or went.

    `other` is the subaccount at the other end, or else `wallet` its address, the owner's if empty.
    """

    quote_quantums: int
    other: Subaccount | None = None
    created: Stamp = NEVER
    ticker: str = "USDC"
    wallet: str = ""

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

# What can be queried afterwards: newest first, fifty at a time, within the caps. The ledger writes
# it; REST, panels and reports read it.


class Caps(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many of each are retained; the oldest go first, of orders the oldest that have ended.

    A fill reported twice is recognised for as long as the first report is retained.
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
    """One page of a query: `total` rows match, page `page` (from 1) holds `rows`."""

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
    """What a ledger remembers, within its caps; every query takes the filters of `page_of`."""

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

    def order(self, id_: str) -> OrderRecord | None:
        """Return how an order stands, if it is remembered."""
        return self._orders.get(id_)

    def knows_fill(self, id_: str) -> bool:
        """Return whether a fill of this id was booked, as far back as fills are retained."""
        return id_ in self._fills

    def keep_order(self, order: OrderRecord) -> OrderRecord:
        """Remember how an order stands; it keeps its place, and once settled its creation."""
        known = self._orders.get(order.id)
        # What no block has seen is in no table: it is created by its first fill.
        if known is not None and known.is_settled:
            order = msgspec.structs.replace(order, created=known.created)
        self._orders[order.id] = order
        self._ended.pop(order.id, None)
        if order.status not in _LIVE:
            self._ended[order.id] = None
        if len(self._orders) > self.caps.orders:
            oldest = next(iter(self._ended or self._orders))
            self._ended.pop(oldest, None)
            del self._orders[oldest]
        return order

    def keep_fill(self, fill: FillRecord) -> None:
        """Remember a fill."""
        self._fills[fill.id] = fill
        if len(self._fills) > self.caps.fills:
            self._fills.popitem(last=False)

    def shelves(self) -> dict[str, list[Any]]:
        """Return all that is remembered, by its name in a `LedgerState`."""
        return {
            "orders": [*self._orders.values()], "ended": [*self._ended],
            "fills": [*self._fills.values()], "positions": [*self.ended],
            "payments": [*self._payments], "transfers": [*self._transfers],
            "points": [*self.points],
        }  # fmt: skip

    @classmethod
    def of(cls, saved: Any) -> Self:
        """Remember what `shelves` returned, as the fields of a state."""
        history = cls(saved.caps)
        history._orders.update((order.id, order) for order in saved.orders)
        history._ended.update(dict.fromkeys(saved.ended))
        history._fills.update((fill.id, fill) for fill in saved.fills)
        for row in (*saved.positions, *saved.payments, *saved.transfers, *saved.points):
            history.keep(row)
        return history

    @property
    def live(self) -> list[OrderRecord]:
        """Return the orders that have not ended, oldest first."""
        return [order for order in self._orders.values() if order.status in _LIVE]

    @property
    def standing(self) -> list[OrderRecord]:
        """Return those of them that stand for longer than some blocks."""
        return [order for order in self.live if order.order_flags != SHORT_TERM]

    def keep(self, row: PositionRecord | FundingRecord | TransferRecord | PnlPoint) -> None:
        """Remember what only ever comes once."""
        shelves: dict[type, deque[Any]] = {
            PositionRecord: self.ended, FundingRecord: self._payments,
            TransferRecord: self._transfers, PnlPoint: self.points,
        }  # fmt: skip
        shelves[type(row)].append(row)


# === Tally ===

# Sums over the whole life of a ledger, whatever its history forgets: what it paid, what became of
# its trades, what it traded day by day. Nothing is derived from them here.

_DAY_NS: Final = 86_400 * _SECOND_NS
_TIER_DAYS: Final = 30


class Paid(msgspec.Struct, gc=False, kw_only=True):
    """Where an account's money went, in quote quantums; what is negative came in.

    Taken from what was deposited these always leave the balance. `builder` is part of `fees`.
    """

    for_fills: int = 0
    fees: int = 0
    builder: int = 0
    funding: int = 0
    insurance: int = 0

    def fill(self, quote: int, *, fee: int, builder: int, insurance: int) -> int:
        """Count what a fill costs, its signed quote first; return all of it."""
        self.for_fills += quote
        self.fees += fee
        self.builder += builder
        self.insurance += insurance
        return quote + fee + insurance


class Tally(msgspec.Struct, gc=False, kw_only=True):
    """Counts of fills and of whole trades.

    A trade is a position from its opening to its end; its profit is after funding and fees.
    `gained` is what closing ever earned, without funding and fees. Money and volumes are quote
    quantums; `exposed_ns` is time with any position open.
    """

    fills: int = 0
    liquidations: int = 0
    opened: int = 0
    gained: Fraction = Fraction(0)
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

    def trade(self, when: Stamp, made: int, took: int) -> None:
        """Count a fill and its quote quantums, as maker or as taker."""
        self.fills += 1
        self.maker_volume += made
        self.taker_volume += took
        self.see(when)

    def see(self, when: Stamp) -> None:
        """Take a moment in; one without a time changes nothing."""
        self.first_ns = self.first_ns or when.time_ns
        self.last_ns = max(self.last_ns, when.time_ns)

    def expose(self, when: Stamp, *, was_flat: bool, flat: bool) -> None:
        """Take in whether any position was open before and after a fill."""
        if was_flat:
            self.held_since_ns = when.time_ns
        if flat:
            since, self.held_since_ns = self.held_since_ns, 0
            self.exposed_ns += max(0, when.time_ns - since) if since else 0

    def close(self, gain: Fraction) -> None:
        """Count what a fill that closed has earned."""
        self.gained += gain

    def end(self, profit: int) -> None:
        """Count a trade that has ended."""
        self.won += profit > 0
        self.lost += profit < 0
        self.even += not profit
        self.gross_profit += max(0, profit)
        self.gross_loss += max(0, -profit)


class Volumes(msgspec.Struct, gc=False):
    """What was traded on each of the last 30 days, as maker and as taker: what a fee tier is by."""

    days: dict[int, tuple[int, int]] = {}

    def add(self, when: Stamp, made: int, took: int) -> None:
        """Count a fill's quote quantums, and forget the days that are past."""
        day = when.time_ns // _DAY_NS
        if day not in self.days:
            self.days = {d: both for d, both in self.days.items() if d > day - _TIER_DAYS}
        maker, taker = self.days.get(day, (0, 0))
        self.days[day] = (maker + made, taker + took)

    def tier(
        self, time_ns: int, total_volume: int | None = None,
        tiers: Sequence[FeeTier] = STANDARD_FEE_TIERS,
    ) -> FeeTier:  # fmt: skip
        """Return the fee tier they earn at a time.

        `total_volume` is everybody's: unknown, no tier that requires a share of it is reached.
        """
        if total_volume is None:
            tiers, total_volume = [tier for tier in tiers if not tier.total_share_ppm], 0
        since = time_ns // _DAY_NS - _TIER_DAYS
        days = [volumes for day, volumes in self.days.items() if day > since]
        maker, taker = map(sum, zip(*days, strict=True)) if days else (0, 0)  # integers
        return fee_tier(tiers, maker_volume=maker, taker_volume=taker, total_volume=total_volume)


# === Performance ===

# What to think of a ledger: opinions, hence floats, on conventions stated here. A figure that does
# not exist is None.

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
    paid: Paid


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
        turnover=_ratio(volume * len(points), sum(map(_equity, points))),  # integers
        volume=volume,
        fees=ledger.paid.fees,
        funding=ledger.paid.funding,
        insurance=ledger.paid.insurance,
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


# === Trades ===

# Positions that have ended, one by one and together: opinions again, in USDC as floats. Computed
# from what a history still has, when somebody looks.

_BARS: Final = 12


class RoundTrip(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position from its opening to its end; money in USDC, `pnl` after funding and fees.

    `entry` and `exit` are average prices, `size` is all that was opened, in base units, and `usdc`
    that at its entry; of a market that is not known they are None. `share` is of the equity that
    the account last had before.
    """

    ticker: str
    is_long: bool
    pnl: float
    fees: float
    funding: float
    entry: float
    exit: float | None
    size: float | None
    usdc: float | None
    share: float | None
    opened: Stamp
    ended: Stamp

    @property
    def held_s(self) -> float:
        """Return how long it was held, in seconds of the chain's time."""
        return max(self.ended.time_ns - self.opened.time_ns, 0) / _SECOND_NS

    @property
    def returned(self) -> float | None:
        """Return its profit as a share of what it opened."""
        return self.pnl / self.usdc if self.usdc else None


class MarketTrades(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the trades of one market came to, in USDC."""

    ticker: str
    trades: int
    won: int
    pnl: float
    fees: float
    funding: float
    best: float
    worst: float


class TradeFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a history's trades come to; what does not exist without one is None.

    `trips` are the newest first. `bars` is the distribution of their profits, (from, to, how many)
    in USDC with 0 at an edge. `expectancy` is the mean profit, `payoff` the average profit over the
    average loss.
    """

    trips: tuple[RoundTrip, ...] = ()
    markets: tuple[MarketTrades, ...] = ()
    bars: tuple[tuple[float, float, int], ...] = ()
    expectancy: float | None = None
    payoff: float | None = None
    best: RoundTrip | None = None
    worst: RoundTrip | None = None
    held_s: tuple[float, float, float] | None = None  # least, median, most
    usdc: tuple[float, float, float] | None = None
    share: tuple[float, float, float] | None = None


def trade_figures(
    history: History, deposits: int, markets: Mapping[str, PerpetualMarket]
) -> TradeFigures:
    """Return the trades that a history remembers, and what they come to."""
    worth = _Worths(history.points, deposits)
    trips = [_round_trip(record, markets.get(record.ticker), worth) for record in history.ended]
    if not trips:
        return TradeFigures()
    profits = [trip.pnl for trip in trips]
    won, lost = [x for x in profits if x > 0], [-x for x in profits if x < 0]
    return TradeFigures(
        trips=tuple(reversed(trips)),
        markets=_by_market(trips),
        bars=distribution(profits, _BARS),
        expectancy=fmean(profits),
        payoff=fmean(won) / fmean(lost) if won and lost else None,
        best=max(trips, key=lambda trip: trip.pnl),
        worst=min(trips, key=lambda trip: trip.pnl),
        held_s=_spread([trip.held_s for trip in trips]),
        usdc=_spread([trip.usdc for trip in trips if trip.usdc is not None]),
        share=_spread([trip.share for trip in trips if trip.share is not None]),
    )


class _Worths:
    """What an account was worth before a moment, by the points of its history."""

    def __init__(self, points: Iterable[PnlPoint], deposits: int) -> None:
        known = [point for point in points if point.equity is not None]
        self._at = [point.created.time_ns for point in known]
        self._equity = [_equity(point) for point in known]
        self._deposits = deposits

    def before(self, time_ns: int) -> int:
        """Return the equity of the last point before a moment, what was deposited if none is."""
        place = bisect_left(self._at, time_ns)
        return self._equity[place - 1] if place else self._deposits


def _round_trip(
    record: PositionRecord, market: PerpetualMarket | None, worth: _Worths
) -> RoundTrip:
    sums, equity = record.indexed, worth.before(record.created.time_ns)
    size = None if market is None else float(market.size(abs(sums.opened)))
    usdc = None if size is None else size * float(sums.entry)
    return RoundTrip(
        ticker=record.ticker, is_long=record.is_long, pnl=(record.realized - record.fees) / 1e6,
        fees=record.fees / 1e6, funding=record.net_funding / 1e6, entry=float(sums.entry),
        exit=None if sums.exit is None else float(sums.exit), size=size, usdc=usdc,
        share=usdc * 1e6 / equity if usdc is not None and equity > 0 else None,
        opened=record.created, ended=record.ended or record.created,
    )  # fmt: skip


def _by_market(trips: Iterable[RoundTrip]) -> tuple[MarketTrades, ...]:
    found: dict[str, list[RoundTrip]] = {}
    for trip in trips:
        found.setdefault(trip.ticker, []).append(trip)
    rows = [
        MarketTrades(
            ticker=ticker, trades=len(those), won=sum(trip.pnl > 0 for trip in those),  # integers
            pnl=fsum(trip.pnl for trip in those), fees=fsum(trip.fees for trip in those),
            funding=fsum(trip.funding for trip in those),
            best=max(trip.pnl for trip in those), worst=min(trip.pnl for trip in those),
        )
        for ticker, those in found.items()
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (-row.pnl, row.ticker)))


def distribution(values: Sequence[float], bars: int) -> tuple[tuple[float, float, int], ...]:
    """Count values in at most so many bars of one round width, 0 at an edge, from least to most.

    >>> distribution([-3.0, 0.5, 4.0, 11.0], 4)
    ((-5.0, 0.0, 1), (0.0, 5.0, 2), (5.0, 10.0, 0), (10.0, 15.0, 1))
    """
    known = [value for value in values if isfinite(value)]
    if not known:
        return ()
    width = _round_width((max(known) - min(known)) / max(bars - 1, 1))
    counts = Counter(floor(value / width) for value in known)
    first, last = min(counts), max(counts)
    return tuple((n * width, (n + 1) * width, counts[n]) for n in range(first, last + 1))


def _round_width(least: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is no less."""
    if least <= 0.01:
        return 0.01  # USDC: nobody looks closer
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= least * 0.999999)


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the least, the median and the most."""
    return (min(values), median(values), max(values)) if values else None


# === Executions ===

# Fills beside the market that they met: what crossing or waiting has cost against mid. Whoever
# trades notes them, on paper or on the wire.


class Execution(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill, and mid prices in USDC: as it filled, and as its order was let go; None is unknown.

    `size` is unsigned, in base units, `fee` in quote quantums, `waited_ns` from the order's way out
    to the fill. `id` and `order` are by whoever noted it.
    """

    id: str
    order: str
    ticker: str
    side: str
    size: float
    price: float
    liquidity: str
    fee: int
    mid_price: float | None = None
    mid_sent: float | None = None
    waited_ns: int | None = None
    seq: int = 0
    at: int = 0

    @property
    def usdc(self) -> float:
        """Return what was traded."""
        return self.size * self.price

    @property
    def slippage_bps(self) -> float | None:
        """Return how much worse it is than mid was as its order was let go; negative is better."""
        return self._worse_than(self.mid_sent)

    @property
    def slippage(self) -> float | None:
        """Return the same in USDC."""
        bps = self.slippage_bps
        return None if bps is None else bps * self.usdc / 1e4

    @property
    def spread_bps(self) -> float | None:
        """Return how much worse it is than mid at its own moment; negative is better."""
        return self._worse_than(self.mid_price)

    def _worse_than(self, mid: float | None) -> float | None:
        if not mid:
            return None
        return (self.price - mid) / mid * 1e4 * (1 if self.side == "BUY" else -1)


class ExecutionFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What fills of one liquidity cost: `usdc` traded, `fee` in USDC and in bps of that.

    `slippage_bps` and `spread_bps` are means by USDC over the fills whose mid is known, as
    `Execution` has them; `slippage` is the former in USDC. `waited_s` is the median.
    """

    liquidity: str
    fills: int
    usdc: float
    fee: float
    fee_bps: float | None
    slippage: float | None
    slippage_bps: float | None
    spread_bps: float | None
    worst_bps: float | None
    waited_s: float | None


def execution_figures(executions: Iterable[Execution]) -> tuple[ExecutionFigures, ...]:
    """Return what fills cost against mid, by liquidity: what took apart from what made."""
    found: dict[str, list[Execution]] = {}
    for one in executions:
        found.setdefault(one.liquidity, []).append(one)
    return tuple(_figures_of(liquidity, found[liquidity]) for liquidity in sorted(found))


def _figures_of(liquidity: str, those: Sequence[Execution]) -> ExecutionFigures:
    usdc, fee_ = fsum(one.usdc for one in those), sum(one.fee for one in those) / 1e6  # integers
    slipped = [(bps, one.usdc) for one in those if (bps := one.slippage_bps) is not None]
    spreads = [(bps, one.usdc) for one in those if (bps := one.spread_bps) is not None]
    waited = [one.waited_ns / 1e9 for one in those if one.waited_ns is not None]
    lost = [one.slippage for one in those if one.slippage is not None]
    return ExecutionFigures(
        liquidity=liquidity, fills=len(those), usdc=usdc, fee=fee_,
        fee_bps=fee_ / usdc * 1e4 if usdc else None,
        slippage=fsum(lost) if lost else None,
        slippage_bps=_mean_by(slipped), spread_bps=_mean_by(spreads),
        worst_bps=max((bps for bps, _ in slipped), default=None),
        waited_s=median(waited) if waited else None,
    )  # fmt: skip


def _mean_by(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the mean of values, each weighed by what stands beside it."""
    whole = fsum(of for _, of in pairs)
    return fsum(value * of for value, of in pairs) / whole if whole else None


# === Events ===

# Every change of a ledger, as it was requested: applied in order to a ledger opened alike they
# make the same ledger. What was refused changed nothing and leaves no event.


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A ledger began, with what it holds and how much it remembers."""

    subaccount: Subaccount
    deposit: int
    caps: Caps


class Filled(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill: signed quantums at a price. `quote` (unsigned) overrules it, as deleveraging does.

    The same `id` is booked once; an empty one is made up from the count of fills, and so is an
    empty `event`, the indexer's id of what it is of in its block.
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
    client_metadata: int = 0
    event: str = ""


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

# What fills cost, who pays for what a liquidation brings too little, and when the chain lets
# collateral leave. No account is touched here.

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
        builder = fee(quote_quantums, builder_fee_ppm)
        return Charge(fees.of(quote_quantums, liquidity), builder)
    return Charge(0 if liquidity == "TAKER" else max(0, fees.of(quote_quantums, "MAKER")))


SHARED_FUND: Final = "insurance-fund"


class InsuranceFunds:
    """What pays where a liquidation brings too little, and gets what it brings too much.

    `balances` (quote quantums) stand under the chain's names: cross markets share one fund, an
    isolated market has its own. The shared one opens with `shared`; the others open empty, as
    those of new markets do. With `shared` None they pay without limit, below zero too.
    Source: x/clob/keeper/deleveraging.go, IsValidInsuranceFundDelta.
    """

    def __init__(self, shared: int | None):
        if shared is not None and shared < 0:
            raise LedgerError(f"expected an insurance fund of 0 or more, got {shared}")
        self.balances = {SHARED_FUND: shared or 0}
        self._bottomless = shared is None

    def covers(self, market: PerpetualMarket, delta: int) -> bool:
        """Return whether a market's fund can take in `delta`: negative is paid out."""
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
    """Return whether the chain lets nothing leave a collateral pool at a height.

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


# === Positions ===

# One position with its cost, and what all of them are worth at the newest oracle prices. A
# price that moves is taken in once, however often the margin is read; money is the ledger's.


class LedgerPosition(msgspec.Struct, gc=False, kw_only=True):
    """One position from its opening to its end.

    `cost` is what was paid (of a short: received, negative) for what is held, at the average price
    of its entry: closing a part leaves that price as it is, adding averages it. `gained` is what
    closing has earned so far. Both are exact, in quote quantums.
    """

    market: PerpetualMarket
    id: str
    is_long: bool
    quantums: int = 0
    cost: Fraction = Fraction(0)
    gained: Fraction = Fraction(0)
    funding_index: int = 0
    net_funding: int = 0
    fees: int = 0
    status: str = "OPEN"
    created: Stamp = NEVER
    ended: Stamp | None = None
    indexed: IndexedSums = IndexedSums()

    @property
    def realized(self) -> int:
        """Return the profit of what was closed, with funding, without fees: quote quantums."""
        return round(self.gained) + self.net_funding

    def unrealized(self, net_notional: int) -> int:
        """Return the profit of what is open at its present value, in quote quantums."""
        return round(net_notional - self.cost)

    def record(self, net_notional: int | None) -> PositionRecord:
        """Return the position as it stands, at its present value if that is known."""
        return PositionRecord(
            id=self.id, ticker=self.market.ticker, status=self.status, is_long=self.is_long,
            quantums=self.quantums, fees=self.fees, net_funding=self.net_funding,
            realized=self.realized,
            unrealized=None if net_notional is None else self.unrealized(net_notional),
            created=self.created, ended=self.ended, indexed=self.indexed,
        )  # fmt: skip

    def open(self, quantums: int, paid: Fraction) -> None:
        """Add signed quantums."""
        self.cost = _bounded(self.cost + paid)
        self.quantums += quantums
        self._index()

    def close(self, quantums: int, paid: Fraction) -> Fraction:
        """Take signed quantums off; return what that earned."""
        cost = self.cost * Fraction(-quantums, self.quantums)
        gain = -paid - cost
        self.cost = _bounded(self.cost - cost)
        self.gained += gain
        self.quantums += quantums
        if self.quantums:
            self._index()
        return gain

    def _index(self) -> None:
        sums = self.indexed
        peak = max(sums.peak or self.quantums, self.quantums)
        self.indexed = msgspec.structs.replace(sums, peak=peak)


def _bounded(cost: Fraction) -> Fraction:
    # Thousands of reductions would make a fraction of thousands of digits; 30 are beyond any money.
    return cost if cost.denominator < 10**60 else Fraction(round(cost * 10**30), 10**30)


class Booking(msgspec.Struct, frozen=True, gc=False):
    """What a fill did, in the indexer's order.

    First the match: `states` are the positions that it touched, one that it ended first, with the
    sums of before the fill, and the `balance` after it. Then the `fill`, with the `position` that
    it counts for.
    """

    fill: FillRecord
    states: list[PositionRecord]
    balance: int
    position: PositionRecord


class Worth:
    """An account's positions at the newest oracle prices, and the margin that they make.

    `oracles` are price, exponent and open interest by ticker, `parts` what each held position
    adds; one without a price has none, and leaves the margin unknown.
    """

    def __init__(self) -> None:
        self.oracles: dict[str, tuple[int, int, int | None]] = {}
        self.parts: dict[str, PositionMargin] = {}
        self._total: MarginFigures | None = None
        self._cash = 0

    def __eq__(self, other: object) -> bool:
        """Compare prices and parts; the sum follows from them."""
        return isinstance(other, Worth) and (self.oracles, self.parts) == (
            other.oracles, other.parts,
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def oracle(self, ticker: str) -> Decimal | None:
        """Return a market's latest oracle price, in USDC."""
        known = self.oracles.get(ticker)
        return None if known is None else Decimal(known[0]).scaleb(known[1])

    def hold(self, market: PerpetualMarket, quantums: int) -> None:
        """Value a position as it is from now on; 0 quantums are none."""
        self._total = None
        if quantums and market.ticker in self.oracles:
            self.parts[market.ticker] = self.margin_of(market, quantums)
        else:
            self.parts.pop(market.ticker, None)

    def margin_of(self, market: PerpetualMarket, quantums: int) -> PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return position_margin(market, quantums, *self.oracles[market.ticker])

    def total(self, cash: int, holdings: Mapping[str, object]) -> MarginFigures:
        """Return the margin of the account with so many quote quantums and these positions."""
        if self._total is None or self._cash != cash:
            unknown = sorted(holdings.keys() - self.parts.keys())
            self._total, self._cash = total_margin(cash, self.parts.values(), unknown), cash
        return self._total


# === Bookings ===

# What a fill comes to, what it counts for a position, and what could not have happened.


def _unbookable(fill: Filled) -> Refused | None:
    """Return why no account could have had such a fill, or nothing."""
    # A deleveraging may pay nothing at all; every other fill has a price.
    priced = fill.subticks if fill.quote is None else 1
    if not (0 < abs(fill.quantums) < _UINT64 and 0 < priced < _UINT64):
        got = f"{fill.quantums} quantums at {fill.subticks} subticks"
        return Refused("OVERFLOW", "a size and a price of 1 to 2**64 - 1", got)
    sums = (fill.fee, fill.insurance, fill.quote or 0, fill.builder_fee)
    if max(map(abs, sums)) >= _UINT64:
        return Refused("OVERFLOW", "payments below 2**64 quote quantums", str(max(sums)))
    return None


def _quote(fill: Filled) -> int:
    """Return what a fill pays, negative what it brings, in quote quantums."""
    quote = fill.quote
    if quote is None:
        quote = fill.market.quote_quantums(abs(fill.quantums), fill.subticks)
    return quote if fill.quantums > 0 else -quote


DELEVERAGED: Final = ("DELEVERAGED", "OFFSETTING")
"""The types of a fill that no order made, of either side: at no price of a book, free of fees."""


def _fill_record(fill: Filled, quote: int, position: LedgerPosition) -> FillRecord:
    return FillRecord(
        id=fill.id, order_id=fill.order_id, ticker=fill.market.ticker, quantums=fill.quantums,
        subticks=fill.subticks, quote=quote, fee=fill.fee, builder_fee=fill.builder_fee,
        insurance=fill.insurance, liquidity=fill.liquidity, status=fill.type,
        created=fill.when, client_metadata=fill.client_metadata, event=fill.event,
        is_long=position.is_long,
        before=None if fill.type in DELEVERAGED else position.indexed,
    )  # fmt: skip


def _count(position: LedgerPosition, fill: Filled, quote: int) -> None:
    """Let a fill count for a position as the indexer does, once its match has moved it."""
    sums, size, opens = (
        position.indexed,
        abs(fill.quantums),
        position.is_long == (fill.quantums > 0),
    )
    price = fill_price(fill.market, fill.quantums, fill.subticks, quote, fill.type)
    position.indexed = sums.filled(opens=opens, quantums=size, price=price)
    if fill.type not in _UNEARNED:
        earned = -Decimal(fill.fee - fill.builder_fee + fill.insurance).scaleb(-6)
        if not opens and sums.opened:
            closed = fill.market.size(min(size, sums.size))
            apart = price - sums.entry if position.is_long else sums.entry - price
            earned += _DECIMALS.multiply(apart, closed)
        earned += sums.earned
        position.indexed = msgspec.structs.replace(position.indexed, earned=earned)


# What the indexer forgets in the profit that REST shows.
_UNEARNED: Final = (*DELEVERAGED, "LIQUIDATED", "LIQUIDATION")


def fill_price(
    market: PerpetualMarket, quantums: int, subticks: int, quote: int, type_: str
) -> Decimal:
    """Return the price of a fill in USDC; that of a deleveraging follows from what it paid."""
    if type_ not in DELEVERAGED:
        return market.price(subticks)
    price = _DECIMALS.divide(Decimal(abs(quote)).scaleb(-6), market.size(abs(quantums)))
    return _DECIMALS.quantize(price, _SIXTEEN_PLACES)


_SIXTEEN_PLACES: Final = Decimal("1e-16")


def _unspared(margin: MarginFigures, quote_quantums: int) -> Refused | None:
    """Return why an account of this margin may not give so much away, or nothing."""
    if not 0 < quote_quantums < _UINT64:
        got = f"{quote_quantums} quote quantums"
        return Refused("OVERFLOW", "1 to 2**64 - 1 quote quantums", got)
    if not margin.known:
        return Refused("UNKNOWN", "a price for every position", ", ".join(margin.unknown))
    if margin.free_collateral < quote_quantums:
        expected = f"at most {max(0, margin.free_collateral)} quote quantums"
        return Refused("UNDERCOLLATERALIZED", expected, str(quote_quantums))
    return None


# === Ledger ===

# One account's money. Whatever happens to it is one of the events above, and leaves it as one; what
# could not have happened is refused. Whether the chain would let a fill happen: see Collateral.


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums: `deposits` less what `paid` names.
    Fills and transfers settle funding first, as the chain does, and margin counts what is
    `unsettled`. `touched` is the block of the last fill or transfer, `indices` are the newest
    funding indices. `journal` is handed every change as an `Event`, once it has happened.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int = 0, *, caps: Caps | None = None,
        journal: Callable[[Event], object] | None = None,
    ):  # fmt: skip
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.unsettled = self.touched = 0
        self.holdings: dict[str, LedgerPosition] = {}
        self.indices: dict[str, int] = {}
        self.paid, self.tally, self.volumes = Paid(), Tally(), Volumes()
        self.worth = Worth()
        self.history = History(caps or Caps())
        self.journal = journal
        if deposit:
            self.history.keep(TransferRecord(quote_quantums=deposit))
        if journal is not None:
            journal(Opened(subaccount, deposit, self.history.caps))

    def __eq__(self, other: object) -> bool:
        """Two ledgers are equal if all that they hold, paid and remember is, to the quantum."""
        return isinstance(other, Ledger) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def _state(self) -> dict[str, object]:
        # A journal is no part of what a ledger holds.
        return {name: what for name, what in vars(self).items() if name != "journal"}

    # --- what happens to it

    def deposit(
        self, quote_quantums: int, when: Stamp = NEVER, *, other: Subaccount | None = None,
        wallet: str = "",
    ) -> TransferRecord:  # fmt: skip
        """Bring collateral in, or take it out (negative); `withdraw` checks what is allowed."""
        record = TransferRecord(
            quote_quantums=quote_quantums, other=other, created=when, wallet=wallet
        )
        self._move(record)
        return record

    def withdraw(
        self, quote_quantums: int, when: Stamp = NEVER, *, blocked: bool = False,
        other: Subaccount | None = None, wallet: str = "",
    ) -> TransferRecord | Refused:  # fmt: skip
        """Take collateral out if the chain would allow it; `blocked`: see `withdrawals_blocked`."""
        refused = _unspared(self.margin, quote_quantums)
        if blocked:
            refused = Refused("BLOCKED", "a pool from which one may withdraw", "a blocked one")
        if refused is not None:
            return refused
        return self.deposit(-quote_quantums, when, other=other, wallet=wallet)

    def _move(self, record: TransferRecord) -> None:
        if abs(record.quote_quantums) >= _UINT64:
            got = record.quote_quantums
            raise LedgerError(f"expected a transfer below 2**64 quote quantums, got {got}")
        self.settle(record.created)
        self.touched = max(self.touched, record.created.height)
        self.deposits += record.quote_quantums
        self.collateral += record.quote_quantums
        self.tally.see(record.created)
        self.history.keep(record)
        self._record(record)

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int, fee: int = 0,
        insurance: int = 0, when: Stamp = NEVER, **terms: Any,
    ) -> Booking:  # fmt: skip
        """Buy (positive) or sell at a price: `book` of the fill; `terms` are its other fields."""
        return self.book(Filled(
            market=market, quantums=quantums, subticks=subticks, fee=fee, insurance=insurance,
            when=when, **terms,
        ))  # fmt: skip

    def book(self, fill: Filled) -> Booking:
        """Book a fill of one's own making; return what it did.

        Raises `LedgerError` where `take` would answer that it refused.
        """
        booked = self.take(fill)
        if isinstance(booked, Refused):
            raise LedgerError(str(booked))
        return booked

    def take(self, fill: Filled) -> Booking | Refused:
        """Book a reported fill; return what it did, or a refusal."""
        refused = _unbookable(fill)
        if fill.id and self.history.knows_fill(fill.id):
            refused = Refused("DUPLICATE", "a fill not booked before", fill.id)
        if refused is not None:
            return refused
        fill = self._identified(fill)
        settled, was_flat, ticker = self.settle(fill.when), not self.holdings, fill.market.ticker
        self.touched = max(self.touched, fill.when.height)
        quote = _quote(fill)
        self.collateral -= self.paid.fill(
            quote, fee=fill.fee, builder=fill.builder_fee, insurance=fill.insurance
        )
        made, took = (abs(quote), 0) if fill.liquidity == "MAKER" else (0, abs(quote))
        self.tally.trade(fill.when, made, took)
        self.volumes.add(fill.when, made, took)
        touched = self._trade(fill, quote)
        self.worth.hold(touched[-1].market, self.position(ticker))
        self.tally.expose(fill.when, was_flat=was_flat, flat=not self.holdings)
        others = [holding for holding in settled if holding.market.ticker != ticker]
        states = [self.standing(holding) for holding in touched + others]
        record = _fill_record(fill, quote, touched[-1])
        _count(touched[-1], fill, quote)
        for ended in touched:
            if ended.ended is not None:
                self.history.keep(ended.record(0))
        self.history.keep_fill(record)
        self._record(fill)
        return Booking(record, states, self.collateral, self.standing(touched[-1]))

    def _identified(self, fill: Filled) -> Filled:
        number = self.tally.fills + 1
        if not fill.event:
            # The indexer's: the block, the transaction, and the event in it.
            event = f"{fill.when.height:08x}00000002{number:08x}"
            fill = msgspec.structs.replace(fill, event=event)
        if not fill.id:
            ids = self.subaccount, fill.order_id or None, fill.when.seq, number
            fill = msgspec.structs.replace(fill, id=event_id("fill", *ids))
        return fill

    def _trade(self, fill: Filled, quote: int) -> list[LedgerPosition]:
        """Close, open, or both; return the positions touched."""
        size, fee, paid = fill.quantums, fill.fee + fill.insurance, Fraction(quote)
        touched: list[LedgerPosition] = []
        holding = self.holdings.get(fill.market.ticker)
        if holding is not None and holding.is_long != (size > 0):
            closing = min(size, -holding.quantums, key=abs)
            share, charged = paid * closing / size, fee * closing // size
            holding.fees += charged
            self.tally.close(holding.close(closing, share))
            if not holding.quantums:
                self._end(holding, fill.when)
            touched.append(holding)
            size, paid, fee = size - closing, paid - share, fee - charged
        if size:
            opened = self.holdings.get(fill.market.ticker) or self._begin(fill)
            if touched:  # to the indexer, what one that turned has earned goes on
                opened.indexed = IndexedSums(earned=touched[0].indexed.earned)
            opened.open(size, paid)
            opened.fees += fee
            touched.append(opened)
        return touched

    def _begin(self, fill: Filled) -> LedgerPosition:
        ticker = fill.market.ticker
        self.tally.opened += 1
        holding = self.holdings[ticker] = LedgerPosition(
            market=fill.market, is_long=fill.quantums > 0, created=fill.when,
            id=event_id("position", self.subaccount, ticker, self.tally.opened),
            funding_index=self.indices.get(ticker, 0),
        )  # fmt: skip
        return holding

    def _end(self, holding: LedgerPosition, when: Stamp) -> None:
        holding.status, holding.ended = "CLOSED", when
        self.tally.end(holding.realized - holding.fees)
        del self.holdings[holding.market.ticker]

    def value(self, ticker: str, price: int, exponent: int, interest: int | None = None) -> None:
        """Take in a market's oracle price (an integer and its power of ten) and open interest."""
        self.worth.oracles[ticker] = (price, exponent, interest)
        if (holding := self.holdings.get(ticker)) is not None:
            self.worth.hold(holding.market, holding.quantums)
        if self.journal is not None:  # the hot path: no event is made for nobody
            self.journal(Valued(ticker, price, exponent, interest))

    def regrade(self, market: PerpetualMarket) -> None:
        """Take in what governance changed of a market, if a position is open in it."""
        holding = self.holdings.get(market.ticker)
        if holding is not None and holding.market != market:
            holding.market = market
            self.worth.hold(market, holding.quantums)
            self._record(Regraded(market))

    def accrue(self, indices: Mapping[str, int], when: Stamp = NEVER) -> list[FundingRecord]:
        """Take in how far funding indices have moved; keep and return each position's payment."""
        payments = []
        for ticker, holding in self.holdings.items():
            since = self.indices.get(ticker, 0)
            index = indices.get(ticker, since)
            if index != since:
                moved = funding_settlement_ppm(holding.quantums, index, since)
                payments.append(FundingRecord(
                    position_id=holding.id, ticker=ticker, quantums=holding.quantums,
                    index=index, credited=moved // PPM, created=when,
                ))  # fmt: skip
                self.history.keep(payments[-1])
        self.indices.update(indices)
        self.unsettled = funding_settlement(map(self.owed_ppm, self.holdings.values()))
        self.tally.see(when)
        self._record(Funded(dict(indices), when))
        return payments

    def settle(self, when: Stamp = NEVER) -> list[LedgerPosition]:
        """Settle what is owed, as whatever touches the account does: one floor for all of it."""
        touched = self.owing
        for holding in touched:
            holding.net_funding += self.owed_ppm(holding) // PPM
            holding.funding_index = self.indices[holding.market.ticker]
        self.collateral += self.unsettled
        self.paid.funding -= self.unsettled
        self.unsettled = 0
        if touched:
            self._record(Settled(when))
        return touched

    def liquidated(self) -> None:
        """Count a liquidation, its fills being booked."""
        self.tally.liquidations += 1
        self._record(Liquidated())

    def note(self, order: OrderRecord) -> OrderRecord:
        """Remember how an order stands; return it as it is remembered, since its creation."""
        order = self.history.keep_order(order)
        self._record(order)
        return order

    def mark(self, when: Stamp) -> PnlPoint:
        """Take a point of the historical profit; one an hour is what `performance` counts on."""
        point = PnlPoint(equity=self.equity, net_transfers=self.deposits, created=when)
        self.tally.see(when)
        self.history.keep(point)
        self._record(Marked(when))
        return point

    def _record(self, event: Event) -> None:
        if self.journal is not None:
            self.journal(event)

    # --- how it stands

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def positions(self, **filters: Any) -> Page[PositionRecord]:
        """Return positions, the open ones as they stand, with the filters of `page_of`."""
        held = map(self.standing, self.holdings.values())
        return page_of(chain(self.history.ended, held), **filters)

    def standing(self, holding: LedgerPosition) -> PositionRecord:
        """Return a position as it stands, at its present value if that is known; ended, at 0."""
        part = self.worth.parts.get(holding.market.ticker)
        if holding.ended is not None:
            return holding.record(0)
        return holding.record(None if part is None else part.net_notional)

    @property
    def owing(self) -> list[LedgerPosition]:
        """Return the positions whose funding the next touch settles."""
        return [holding for holding in self.holdings.values() if self.owed_ppm(holding)]

    def owed_ppm(self, holding: LedgerPosition) -> int:
        """Return what a position's funding would credit (negative: take) now, in 1e-6 quantums."""
        index = self.indices.get(holding.market.ticker, 0)
        return funding_settlement_ppm(holding.quantums, index, holding.funding_index)

    @property
    def margin(self) -> MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        return self.worth.total(self.collateral + self.unsettled, self.holdings)

    @property
    def breached(self) -> bool:
        """Return whether the chain may liquidate; never while a position has no price."""
        sums = self.margin
        return sums.known and is_liquidatable(sums.net_collateral, sums.maintenance_margin)

    @property
    def equity(self) -> int | None:
        """Return what the account is worth, if every position has a price."""
        return self.margin.net_collateral if self.margin.known else None

    @property
    def realized_pnl(self) -> int:
        """Return the profit of all that was ever closed, with funding, without fees."""
        return round(self.tally.gained) - self.paid.funding

    @property
    def unrealized_pnl(self) -> int:
        """Return the profit of what is open and has an oracle price; `margin` names the rest."""
        held, parts = self.holdings, self.worth.parts.items()
        return sum(held[of].unrealized(part.net_notional) for of, part in parts)  # integers


# === Account figures ===

# What an account did and what it is worth, all at once.


class AccountFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account did and what it is worth, for whoever shows it: quote quantums, counts.

    `wins` and `losses` are trades that ended with a profit or a loss, after funding and fees;
    `realized_pnl` holds the funding that was settled, and no fees. `equity` None is unknown.
    """

    fills: int = 0
    wins: int = 0
    losses: int = 0
    liquidations: int = 0
    realized_pnl: int = 0
    unrealized_pnl: int = 0
    fees_paid: int = 0
    funding_paid: int = 0
    insurance_paid: int = 0
    unsettled: int = 0
    equity: int | None = None

    @property
    def profit(self) -> int:
        """Return what all of it brought, after fees, funding and what insurance took."""
        won = self.realized_pnl + self.unrealized_pnl + self.unsettled
        return won - self.fees_paid - self.insurance_paid


def figures(ledger: Ledger) -> AccountFigures:
    """Return what a ledger did and what it is worth."""
    tally, paid = ledger.tally, ledger.paid
    return AccountFigures(
        fills=tally.fills, wins=tally.won, losses=tally.lost, liquidations=tally.liquidations,
        realized_pnl=ledger.realized_pnl, unrealized_pnl=ledger.unrealized_pnl,
        fees_paid=paid.fees, funding_paid=paid.funding, insurance_paid=paid.insurance,
        unsettled=ledger.unsettled, equity=ledger.equity,
    )  # fmt: skip


# === Collateral ===

# What the chain requires of an account before it lets a fill or a transfer happen, and what closing
# a position would bring. Pure but for `transfer`, which moves the money.


def update_result(
    ledger: Ledger, market: PerpetualMarket, quantums: int, subticks: int, fee: int
) -> UpdateResult:
    """Return what a fill would do to an account, with the open interest it makes.

    Of the two accounts that meet, the other may open a long: that is what counts against us.
    Without a price for all that is held the chain could not tell: UpdateCausedError.
    """
    before, worth, ticker = ledger.margin, ledger.worth, market.ticker
    if not admits(ledger, market):
        return "ViolatesIsolatedSubaccountConstraints"
    if not before.known or ticker not in worth.oracles:
        return "UpdateCausedError"
    held, (price, exponent, interest) = ledger.position(ticker), worth.oracles[ticker]
    if interest is not None:
        interest += max(0, held + quantums) - max(0, held) + max(0, -quantums)
    part = position_margin(market, held + quantums, price, exponent, interest)
    quote = market.quote_quantums(abs(quantums), subticks)
    left = ledger.collateral + ledger.unsettled - fee - (quote if quantums > 0 else -quote)
    after = total_margin(left, (worth.parts | {ticker: part}).values())
    return state_change(before, after)


def admits(ledger: Ledger, market: PerpetualMarket) -> bool:
    """Return whether the isolated rule lets an account trade a market beside what it holds."""
    if market.ticker in ledger.holdings or not ledger.holdings:
        return True
    held = [holding.market for holding in ledger.holdings.values()]
    return not mixes_isolated([*held, market])


def bankruptcy(ledger: Ledger, market: PerpetualMarket, quantums: int) -> int:
    """Return the quote received, at the bankruptcy price, for closing by signed `quantums`."""
    worth = ledger.worth
    rest = worth.margin_of(market, ledger.position(market.ticker) + quantums)
    return bankruptcy_price(ledger.margin, worth.parts[market.ticker], rest)


def transfer(
    sender: Ledger, recipient: Ledger, quote_quantums: int, when: Stamp = NEVER, *,
    blocked: bool = False,
) -> TransferRecord | Refused:  # fmt: skip
    """Move collateral between two ledgers, as between a parent and its isolated child.

    The sender must stay initially collateralised; `blocked` is `withdrawals_blocked`
    of either pool. Returns the sender's record. Source: x/sending/types, x/subaccounts/keeper.
    """
    if sender.subaccount == recipient.subaccount:
        return Refused("SAME", "another subaccount as recipient", str(sender.subaccount))
    to = recipient.subaccount
    sent = sender.withdraw(quote_quantums, when, blocked=blocked, other=to)
    if isinstance(sent, TransferRecord):
        recipient.deposit(quote_quantums, when, other=sender.subaccount)
    return sent


# === Journal ===

# A ledger made again from its events, for whoever keeps them: the same to the quantum, in all that
# it holds, paid and remembers.


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
    follow(ledger, rest)
    return ledger


def follow(ledger: Ledger, events: Iterable[Event]) -> None:
    """Let all that a journal has after its opening happen to a ledger; raises as `rebuild` does."""
    for event in events:
        if isinstance(event, Opened):
            raise LedgerError(f"expected one Opened, got another: {event}")
        _REPLAY[type(event)](ledger, event)


def _book(ledger: Ledger, fill: Filled) -> None:
    if not ledger.history.knows_fill(fill.id):
        ledger.book(fill)


_REPLAY: Final[dict[type, Callable[[Ledger, Any], object]]] = {
    Filled: _book,
    Valued: lambda ledger, e: ledger.value(e.ticker, e.price, e.exponent, e.interest),
    Funded: lambda ledger, e: ledger.accrue(e.indices, e.when),
    Settled: lambda ledger, e: ledger.settle(e.when),
    Regraded: lambda ledger, e: ledger.regrade(e.market),
    Liquidated: lambda ledger, e: ledger.liquidated(),
    Marked: lambda ledger, e: ledger.mark(e.when),
    TransferRecord: lambda ledger, e: ledger.deposit(
        e.quote_quantums, e.created, other=e.other, wallet=e.wallet
    ),
    OrderRecord: Ledger.note,
}

# === Saved state ===

# What outlives a run of a paper venue, as JSON: the state it began with, and frame by frame what
# happened since. Prices of markets in which nothing is held are the market's, and are not in it.


class LedgerState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that a ledger holds, paid and remembers, as of one moment.

    `ended` are the ids of the orders that have, in that order; `oracles` those of what is held.
    """

    subaccount: Subaccount
    caps: Caps
    collateral: int
    deposits: int
    unsettled: int
    touched: int
    indices: dict[str, int]
    holdings: list[LedgerPosition]
    oracles: dict[str, tuple[int, int, int | None]]
    paid: Paid
    tally: Tally
    volumes: Volumes
    orders: list[OrderRecord]
    ended: list[str]
    fills: list[FillRecord]
    positions: list[PositionRecord]
    payments: list[FundingRecord]
    transfers: list[TransferRecord]
    points: list[PnlPoint]


class Carried(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a venue has beside its ledger.

    Hours of funding owed by ticker, what the insurance funds hold, and when each collateral pool
    last had an account worth less than nothing.
    """

    owed: dict[str, int] = {}
    funds: dict[str, int] = {}
    negative_at: dict[str, int] = {}


class VenueState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A paper venue as of one moment; what was on its way to it is over."""

    ledger: LedgerState
    carried: Carried = Carried()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What one frame did to a venue: a ledger's events by the names of their types, in order."""

    events: list[tuple[str, msgspec.Raw]]
    carried: Carried = Carried()

    @classmethod
    def of(cls, events: Iterable[Event], carried: Carried) -> Self:
        """Make the entry of these events."""
        return cls([(type(e).__name__, msgspec.Raw(to_json(e).encode())) for e in events], carried)

    def read(self) -> Iterator[Event]:
        """Yield the events; `LedgerError` for what is none."""
        for name, text in self.events:
            if (kind := _EVENTS.get(name)) is None:
                raise LedgerError(f"expected one of {', '.join(_EVENTS)}, got {name!r}")
            yield from_json(bytes(text), kind)


_EVENTS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in get_args(Event)}

Saved = TypeVar("Saved")


def to_json(what: object) -> str:
    """Write a state, an entry or an event, exactly; `from_json` reads it."""
    return msgspec.json.encode(what, enc_hook=str).decode()


def from_json(text: str | bytes, kind: type[Saved]) -> Saved:
    """Read what `to_json` wrote; `LedgerError` says what is wrong with it."""
    with _as_saved(kind):
        return msgspec.json.decode(text, type=kind, dec_hook=lambda type_, text: type_(text))


# What a number, a price or a depth that no venue has ends in.
_DAMAGE: Final = (
    msgspec.MsgspecError, ArithmeticError, LookupError, RecursionError, RiskError, ValueError,
)  # fmt: skip


@contextlib.contextmanager
def _as_saved(kind: type) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise LedgerError(f"expected a {kind.__name__} as it was saved, got {error}") from None


_SHELVES: Final = ("orders", "ended", "fills", "positions", "payments", "transfers", "points")
_AT_ONCE: Final = 500  # rows of a shelf


def frozen(state: VenueState) -> VenueState:
    """Return it as it is now, whatever its ledger does later, for another thread to write."""
    ledger = state.ledger
    shelves = {name: getattr(ledger, name) for name in _SHELVES}  # of values that never change
    rest = msgspec.structs.replace(ledger, **{name: [] for name in _SHELVES})
    copied = from_json(to_json(rest), LedgerState)
    return VenueState(ledger=msgspec.structs.replace(copied, **shelves), carried=state.carried)


def in_parts(state: VenueState) -> Iterator[str]:
    """Write it as `to_json` does, some rows at a time: a long one lets no other thread wait."""
    yield '{"ledger":'
    for number, name in enumerate(LedgerState.__struct_fields__):
        what = getattr(state.ledger, name)
        yield f'{"," if number else "{"}"{name}":'
        if name not in _SHELVES:
            yield to_json(what)
            continue
        for at in range(0, len(what), _AT_ONCE):
            yield f"{',' if at else '['}{to_json(what[at : at + _AT_ONCE])[1:-1]}"
        yield "]" if what else "[]"
    yield f'}},"carried":{to_json(state.carried)}}}'


def ledger_state(ledger: Ledger) -> LedgerState:
    """Return a ledger's state as of now; it shares what may change with the ledger."""
    history, worth = ledger.history, ledger.worth
    return LedgerState(
        subaccount=ledger.subaccount, caps=history.caps, collateral=ledger.collateral,
        deposits=ledger.deposits, unsettled=ledger.unsettled, touched=ledger.touched,
        indices=dict(ledger.indices), holdings=[*ledger.holdings.values()],
        oracles={t: worth.oracles[t] for t in ledger.holdings if t in worth.oracles},
        paid=ledger.paid, tally=ledger.tally, volumes=ledger.volumes, **history.shelves(),
    )  # fmt: skip


def restore(ledger: Ledger, state: LedgerState) -> None:
    """Let a ledger hold, and remember, what a state has; `LedgerError` if it cannot be that."""
    if state.subaccount != ledger.subaccount:
        raise LedgerError(f"expected a ledger of {ledger.subaccount}, got {state.subaccount}")
    with _as_saved(LedgerState):
        _restore(ledger, state)


def _restore(ledger: Ledger, state: LedgerState) -> None:
    for name in ("collateral", "deposits", "unsettled", "touched", "paid", "tally", "volumes"):
        setattr(ledger, name, getattr(state, name))
    ledger.indices = dict(state.indices)
    ledger.holdings = {holding.market.ticker: holding for holding in state.holdings}
    ledger.history = History.of(state)
    ledger.worth = Worth()
    ledger.worth.oracles.update(state.oracles)
    for holding in state.holdings:
        ledger.worth.hold(holding.market, holding.quantums)


def resumed(state: VenueState, entries: Iterable[Entry]) -> VenueState:
    """Return what a venue became that began with a state, which is used up by it.

    `LedgerError` says what of it, or of an entry, is not as it was saved.
    """
    ledger, carried = Ledger(state.ledger.subaccount), state.carried
    restore(ledger, state.ledger)
    for entry in entries:
        with _as_saved(Entry):
            follow(ledger, entry.read())
        carried = entry.carried
    return VenueState(ledger=ledger_state(ledger), carried=carried)


class Digest:
    """A journal for a ledger that stores what it needs to be the same again, and no more.

    Of prices that is the newest of what is held, before an event and after the last one; most
    are neither. `events` are those that have not been drained.
    """

    __slots__ = ("_ledger", "_valued", "events")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.events: list[Event] = []
        self._valued: dict[str, tuple[int, int, int | None]] = {}

    def take(self, event: Event) -> None:
        """Take an event in; the ledger's own journal, once it has happened."""
        if type(event) is Valued:
            return
        also = (event.market.ticker,) if isinstance(event, Filled) else ()
        self._value(also)
        self.events.append(event)

    def drain(self) -> list[Event]:
        """Return what happened since the last call, and begin again."""
        if self.events:
            self._value()
        events, self.events = self.events, []
        return events

    def _value(self, also: tuple[str, ...] = ()) -> None:
        known = self._ledger.worth.oracles
        for ticker in (*self._ledger.holdings, *also):
            price = known.get(ticker)
            if price is not None and price != self._valued.get(ticker):
                self._valued[ticker] = price
                self.events.append(Valued(ticker, *price))


# === Text ===

# Numbers and times as the indexer writes them: plain decimals without needless zeros, milliseconds
# UTC.

Fields = dict[str, Any]
"""A JSON object of the indexer's, by its names."""

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


def transaction_hash(*parts: object) -> str:
    """Return what stands for a transaction's hash: the same parts always give the same one."""
    return hashlib.sha256(event_id(*parts).encode()).hexdigest().upper()


# === Rows ===

# A record in the indexer's words, field by field: as its channels write it (ender and vulcan), and
# as its REST and its snapshots do (comlink).

_TYPES: Final = {"": "LIMIT", "STOP_LOSS": "STOP_LIMIT", "TAKE_PROFIT": "TAKE_PROFIT"}


def position_update_fields(
    ledger: Ledger, market: PerpetualMarket, record: PositionRecord
) -> Fields:
    """Return a position as ender reports it; its realised profit is without fees.

    One whose market has no price has gained nothing.
    """
    subaccount, sums = ledger.subaccount, record.indexed
    apart = (sums.exit or Decimal(0)) - sums.entry
    gained = _DECIMALS.multiply(apart if record.is_long else -apart, market.size(sums.closed))
    return {
        "address": subaccount.owner, "subaccountNumber": subaccount.number,
        "positionId": record.id,
    } | _sums(ledger, market, record, gained)  # fmt: skip


def position_fields(
    ledger: Ledger, market: PerpetualMarket, record: PositionRecord, owed: int = 0
) -> Fields:
    """Return a position as comlink does: with its fees, and the funding that it is `owed`."""
    record = msgspec.structs.replace(record, net_funding=record.net_funding + owed)
    return _sums(ledger, market, record, record.indexed.earned) | {
        "createdAt": _iso(record.created.time_ns),
        "createdAtHeight": str(record.created.height),
        "closedAt": _iso(record.ended.time_ns) if record.ended else None,
        "subaccountNumber": ledger.subaccount.number,
    }


def _sums(
    ledger: Ledger, market: PerpetualMarket, record: PositionRecord, gained: Decimal
) -> Fields:
    sums, size = record.indexed, market.size(record.quantums)
    funding = Decimal(record.net_funding).scaleb(-6)
    oracle = ledger.worth.oracle(market.ticker)
    unrealized = 0 if oracle is None else _DECIMALS.multiply(oracle - sums.entry, size)
    return {
        "market": market.ticker, "side": "LONG" if record.is_long else "SHORT",
        "status": record.status, "size": _text(size), "maxSize": _text(market.size(sums.peak)),
        "netFunding": _text(funding), "entryPrice": _text(sums.entry),
        "exitPrice": None if sums.exit is None else _text(sums.exit),
        "sumOpen": _text(market.size(sums.opened)), "sumClose": _text(market.size(sums.closed)),
        "realizedPnl": _text(_DECIMALS.add(gained, funding)),
        "unrealizedPnl": _text(Decimal(unrealized)),
    }  # fmt: skip


def balance_fields(subaccount: Subaccount, quote_quantums: int) -> Fields:
    """Return a USDC balance as ender reports it; what is no money is SHORT, like a debt."""
    return {
        "address": subaccount.owner, "subaccountNumber": subaccount.number,
        "positionId": event_id(subaccount_id(subaccount), _USDC_ID),
    } | _balance(quote_quantums)  # fmt: skip


def asset_fields(subaccount: Subaccount, quote_quantums: int) -> Fields:
    """Return a USDC balance as comlink does; a debt is a SHORT of positive size."""
    return _balance(quote_quantums) | {"subaccountNumber": subaccount.number}


_USDC_ID: Final = "0"


def _balance(quote_quantums: int) -> Fields:
    side = "LONG" if quote_quantums > 0 else "SHORT"
    return {
        "assetId": _USDC_ID, "symbol": "USDC", "side": side, "size": _usdc(abs(quote_quantums)),
    }  # fmt: skip


# What each author writes of an order. What is not known, or not of its kind, nodes leave out.
_ORDER_HEAD: Final = ("id", "subaccountId", "clientId", "clobPairId")
_ORDER_ROWS: Final = {
    "placed": (
        *_ORDER_HEAD, "side", "size", "price", "status", "type", "timeInForce", "postOnly",
        "reduceOnly", "orderFlags", "goodTilBlock", "goodTilBlockTime", "ticker", "createdAtHeight",
        "updatedAt", "updatedAtHeight", "clientMetadata", "triggerPrice",
    ),
    "removed": (
        *_ORDER_HEAD, "side", "size", "totalFilled", "totalOptimisticFilled", "price", "type",
        "status", "timeInForce", "postOnly", "reduceOnly", "orderFlags", "goodTilBlock",
        "goodTilBlockTime", "ticker", "removalReason", "createdAtHeight", "updatedAt",
        "updatedAtHeight", "clientMetadata", "triggerPrice",
    ),
    "missing": (
        *_ORDER_HEAD, "status", "orderFlags", "ticker", "removalReason", "createdAtHeight",
        "updatedAt", "updatedAtHeight", "price", "size", "clientMetadata", "reduceOnly", "side",
        "timeInForce", "totalFilled", "goodTilBlock", "goodTilBlockTime", "type",
    ),
    "listed": (
        *_ORDER_HEAD, "side", "size", "totalFilled", "price", "type", "status", "timeInForce",
        "postOnly", "reduceOnly", "orderFlags", "goodTilBlock", "goodTilBlockTime", "ticker",
        "createdAt", "createdAtHeight", "updatedAt", "updatedAtHeight", "clientMetadata",
        "triggerPrice", "orderRouterAddress", "subaccountNumber", "duration", "interval",
        "priceTolerance",
    ),
}  # fmt: skip
_SETTLED_ROW: Final = (
    "id", "side", "size", "type", "price", "feePpm", "status", "clientId", "duration", "interval",
    "createdAt", "updatedAt", "clobPairId", "orderFlags", "reduceOnly", "timeInForce",
    "totalFilled", "goodTilBlock", "subaccountId", "triggerPrice", "builderAddress",
    "clientMetadata", "priceTolerance", "createdAtHeight", "updatedAtHeight", "goodTilBlockTime",
    "orderRouterAddress", "postOnly", "ticker",
)  # fmt: skip


def settled_order_fields(
    subaccount: Subaccount, market: PerpetualMarket, record: OrderRecord
) -> Fields:
    """Return an order as a block's events report it (ender): all of its row, nulls included."""
    fields = _order(subaccount, market, record)
    return {name: fields.get(name) for name in _SETTLED_ROW}


def order_update_fields(
    subaccount: Subaccount, market: PerpetualMarket, record: OrderRecord, *, missing: bool = False
) -> Fields:
    """Return what is reported of an order without fills: that it was placed, or removed and why.

    Of a `missing` one no node knew any more: what is reported is what the indexer's table has.
    """
    if record.status == "UNTRIGGERED":
        return settled_order_fields(subaccount, market, record)
    fields = _order(subaccount, market, record)
    if not record.reason:
        if record.order_flags == TWAP:  # nodes report it before any block
            fields |= dict.fromkeys(("createdAtHeight", "updatedAt", "updatedAtHeight"))
        return _picked(fields, "placed")
    if missing:
        return _picked(fields | {"reduceOnly": record.reduce_only or None}, "missing")
    by_user = record.reason == _REMOVED + "USER_CANCELED"
    settled = by_user and record.order_flags in (LONG_TERM, CONDITIONAL)
    del fields["totalOptimisticFilled" if settled else "totalFilled"]
    return _picked(fields, "removed")


def order_fields(subaccount: Subaccount, market: PerpetualMarket, record: OrderRecord) -> Fields:
    """Return an order as comlink does, in a snapshot and by REST."""
    return _picked(_order(subaccount, market, record), "listed")


def _picked(fields: Fields, row: str) -> Fields:
    return {name: fields[name] for name in _ORDER_ROWS[row] if fields.get(name) is not None}


# Why nodes take a stateful order off their books before a block does.
_BY_NODES: Final = frozenset(
    _REMOVED + reason
    for reason in (*_REMOVALS.values(), "SELF_TRADE_ERROR", "POST_ONLY_WOULD_CROSS_MAKER_ORDER",
                   "VIOLATES_ISOLATED_SUBACCOUNT_CONSTRAINTS")
)  # fmt: skip


def _is_by_nodes(record: OrderRecord) -> bool:
    """Return whether nodes removed it first, and left the block's own removal nothing to find."""
    stateful = record.order_flags != SHORT_TERM
    return stateful and record.status == "CANCELED" and record.reason in _BY_NODES


def _order(subaccount: Subaccount, market: PerpetualMarket, record: OrderRecord) -> Fields:
    """Return all that may be reported of an order, None for what is not of its kind."""
    stateful, is_settled = record.order_flags != SHORT_TERM, record.is_settled
    fields: Fields = {
        "id": record.id, "subaccountId": subaccount_id(subaccount),
        "subaccountNumber": subaccount.number, "clientId": str(record.client_id),
        "clobPairId": str(market.clob_pair_id), "ticker": market.ticker, "status": record.status,
        "orderFlags": str(record.order_flags), "removalReason": record.reason or None,
    }  # fmt: skip
    if not record.quantums:
        return fields
    duration, interval, tolerance = map(str, record.twap) if record.twap else (None, None, None)
    filled, condition = _text(market.size(record.filled)), record.condition_type
    return fields | {
        "side": record.side, "size": _text(market.size(record.quantums)),
        "price": _text(market.price(record.subticks)),
        # A refused order's condition may be anything.
        "type": "TWAP" if record.twap else _TYPES.get(record.condition_type, "LIMIT"),
        "timeInForce": "IOC" if record.time_in_force == "IOC" else "GTT",
        "postOnly": record.time_in_force == "POST_ONLY", "reduceOnly": record.reduce_only,
        "goodTilBlock": None if stateful else str(record.good_til_block),
        "goodTilBlockTime": _iso(record.good_til_block_time * _SECOND_NS) if stateful else None,
        "clientMetadata": str(record.client_metadata),
        "totalFilled": filled, "totalOptimisticFilled": filled,
        "createdAt": _iso(record.created.time_ns) if is_settled else None,
        "createdAtHeight": str(record.created.height) if is_settled else None,
        "updatedAt": _iso(record.updated.time_ns) if is_settled else None,
        "updatedAtHeight": str(record.updated.height) if is_settled else None,
        "duration": duration, "interval": interval, "priceTolerance": tolerance,
        "orderRouterAddress": "",
        "triggerPrice": _text(market.price(record.trigger_subticks)) if condition else None,
    }  # fmt: skip


def fill_fields(subaccount: Subaccount, market: PerpetualMarket, record: FillRecord) -> Fields:
    """Return a fill; its fee is without the builder's, and with what insurance took."""
    bought, before = record.quantums > 0, record.before
    price = fill_price(market, record.quantums, record.subticks, record.quote, record.status)
    return {
        "id": record.id, "fee": _usdc(record.fee - record.builder_fee + record.insurance),
        "side": "BUY" if bought else "SELL", "size": _text(market.size(abs(record.quantums))),
        "type": record.status, "price": _text(price), "eventId": record.event,
        "orderId": record.order_id or None, "createdAt": _iso(record.created.time_ns),
        "liquidity": record.liquidity,
        "builderFee": _usdc(record.builder_fee) if record.builder_fee else None,
        "clobPairId": str(market.clob_pair_id),
        "quoteAmount": _usdc(record.quote if bought else -record.quote),
        "subaccountId": subaccount_id(subaccount), "builderAddress": None,
        "clientMetadata": str(record.client_metadata) if record.order_id else None,
        "orderRouterFee": None, "createdAtHeight": str(record.created.height),
        "transactionHash": transaction_hash("matches", record.created.height),
        "entryPriceBefore": _text(before.entry) if before and before.entry else None,
        "affiliateRevShare": "0", "orderRouterAddress": None,
        "positionSideBefore": before and ("LONG" if record.is_long else "SHORT"),
        "positionSizeBefore": before and f"{_left(market, before):f}",
        "ticker": market.ticker,
    }  # fmt: skip


def _left(market: PerpetualMarket, sums: IndexedSums) -> Decimal:
    # The indexer's difference has the places of its sums: of 73.5 and 49.5 it is 24.0.
    opened, closed = (market.size(sum_).normalize() for sum_ in (sums.opened, sums.closed))
    return opened - closed


def transfer_fields(subaccount: Subaccount, record: TransferRecord) -> Fields:
    """Return a transfer: to or from another subaccount, or else a wallet."""
    ours = _party(subaccount)
    other = _party(record.other) if record.other else {"address": record.wallet or subaccount.owner}
    sender, recipient = (other, ours) if record.quote_quantums > 0 else (ours, other)
    return {
        "sender": sender, "recipient": recipient, "symbol": record.ticker,
        "size": _usdc(abs(record.quote_quantums)), "type": record.status,
        "createdAt": _iso(record.created.time_ns),
        "createdAtHeight": str(record.created.height),
        "transactionHash": transaction_hash("transfer", record.created.time_ns),
    }  # fmt: skip


def _party(subaccount: Subaccount) -> Fields:
    return {"address": subaccount.owner, "subaccountNumber": subaccount.number}


def subaccount_fields(ledger: Ledger, height: int) -> Fields:
    """Return an account as REST and a snapshot do: funding counts before it is settled.

    The indexer knows the tier's fraction alone: no open interest makes its free collateral less.
    `height` is the block processed last; what the one at hand has changed already is stamped with
    that one.
    """
    updated, subaccount = ledger.touched or height, ledger.subaccount
    usdc = ledger.collateral + ledger.unsettled
    equity, required = Decimal(usdc).scaleb(-6), Decimal(0)
    for ticker, held in ledger.holdings.items():
        if (oracle := ledger.worth.oracle(ticker)) is not None:
            notional = _DECIMALS.multiply(held.market.size(held.quantums), oracle)
            equity += notional
            required += _DECIMALS.multiply(abs(notional), Decimal(held.market.imf_ppm).scaleb(-6))
    return {
        "address": subaccount.owner, "subaccountNumber": subaccount.number,
        "equity": _text(equity), "freeCollateral": _text(equity - required),
        "openPerpetualPositions": {
            ticker: position_fields(
                ledger, held.market, ledger.standing(held), ledger.owed_ppm(held) // PPM
            )
            for ticker, held in ledger.holdings.items()
        },
        "assetPositions": {"USDC": asset_fields(subaccount, usdc)} if usdc else {},
        "marginEnabled": True, "updatedAtHeight": str(updated),
        "latestProcessedBlockHeight": str(max(height, updated)),
    }  # fmt: skip


# === Account frames ===

# What happened to a subaccount as the messages of its channel: a snapshot first, then what nodes
# report at once (vulcan), and block by block what the chain settled (ender), match by match.


class Message(msgspec.Struct, gc=False, kw_only=True):
    """One message of a subaccount's channel that is still to be written, in records."""

    fills: list[FillRecord] = []
    positions: list[PositionRecord] = []
    balance: int | None = None
    order: OrderRecord | None = None
    missing: bool = False  # no node knew the order any more
    transfer: TransferRecord | None = None


class Changes:
    """What happened to one subaccount and is still to be reported, in the indexer's order.

    What nodes saw comes first. Of the chain's: each match by what it left, the sums as they were;
    all fills of an order with the last of them; a transfer after the balance that it left.
    """

    def __init__(self) -> None:
        self.markets: dict[str, PerpetualMarket] = {}
        self._seen: list[Message] = []
        self._settled: list[Message] = []

    def __bool__(self) -> bool:
        return bool(self._seen or self._settled)

    def fill(
        self, ledger: Ledger, market: PerpetualMarket, booking: Booking,
        order: OrderRecord | None = None,
    ) -> None:  # fmt: skip
        """Report a match, and with its fill the order as it now stands; a liquidation has none."""
        self._know(market, *(held.market for held in ledger.holdings.values()))
        earlier: list[FillRecord] = []
        if order is not None and (message := self._filled(order.id)) is not None:
            earlier = message.fills
            self._settled.remove(message)
        self._settled += (
            Message(positions=booking.states, balance=booking.balance),
            Message(fills=[*earlier, booking.fill], positions=[booking.position], order=order),
        )

    def transfer(self, ledger: Ledger, moved: TransferRecord, owing: list[LedgerPosition]) -> None:
        """Report money that moved, and the positions whose funding that settled."""
        self._know(*(holding.market for holding in owing))
        positions = [ledger.standing(holding) for holding in owing]
        self._settled += (
            Message(positions=positions, balance=ledger.collateral), Message(transfer=moved),
        )  # fmt: skip

    def order(self, market: PerpetualMarket, record: OrderRecord, *, missing: bool = False) -> None:
        """Report how an order stands without fills."""
        self._know(market)
        if record.status.startswith("BEST_EFFORT"):
            self._seen.append(Message(order=record, missing=missing))
        else:
            if by_nodes := _is_by_nodes(record):
                gone = msgspec.structs.replace(record, status="BEST_EFFORT_CANCELED")
                self._seen.append(Message(order=gone))
            self._settled.append(Message(order=record, missing=by_nodes))
        filled = self._filled(record.id)
        if record.status == "BEST_EFFORT_CANCELED" and filled is not None and filled.order:
            # The block finds that nodes have taken it off already.
            status = "CANCELED" if filled.order.status == "CANCELED" else record.status
            filled.order = msgspec.structs.replace(filled.order, status=status)

    def names(self, order_id: str) -> bool:
        """Return whether anything is to be reported of an order."""
        messages = chain(self._seen, self._settled)
        return any(m.order is not None and m.order.id == order_id for m in messages)

    def take_seen(self) -> list[Message]:
        """Return the messages about what nodes saw alone; the others stay."""
        messages, self._seen = self._seen, []
        return messages

    def take(self) -> list[Message]:
        """Return the messages, and begin again."""
        messages, self._settled = self.take_seen() + self._settled, []
        return messages

    def _know(self, *markets: PerpetualMarket) -> None:
        self.markets |= {market.ticker: market for market in markets}

    def _filled(self, order_id: str) -> Message | None:
        of_order = (m for m in self._settled if m.fills and m.order and m.order.id == order_id)
        return next(of_order, None)


def missing_record(
    ledger: Ledger, market: PerpetualMarket, cancel: CancelRequest
) -> OrderRecord | None:
    """Return what is reported of the cancel of an order that no node knows; None if it is full.

    What no block has seen is in no table either: then no more than its id is known.
    """
    id_, reason = order_id(ledger.subaccount, cancel), _REMOVED + "USER_CANCELED"
    known = ledger.history.order(id_)
    if known is not None and known.filled:
        gone = msgspec.structs.replace(known, status="BEST_EFFORT_CANCELED", reason=reason)
        return gone if known.filled < known.quantums else None
    return OrderRecord(
        id=id_, ticker=market.ticker, side="", quantums=0, subticks=0, reason=reason,
        status="BEST_EFFORT_CANCELED", client_id=cancel.client_id,
    )  # fmt: skip


def update(
    ledger: Ledger, markets: Mapping[str, PerpetualMarket], message: Message, height: int
) -> Fields:
    """Return the contents of a message; `markets` are those that it names."""
    us, order, moved = ledger.subaccount, message.order, message.transfer
    write: Callable[[Subaccount, PerpetualMarket, OrderRecord], Fields] = settled_order_fields
    if not message.fills:
        write = partial(order_update_fields, missing=message.missing)
    parts = {
        "fills": [fill_fields(us, markets[fill.ticker], fill) for fill in message.fills],
        "perpetualPositions": [
            position_update_fields(ledger, markets[held.ticker], held) for held in message.positions
        ],
        "assetPositions": (
            [] if message.balance is None else [balance_fields(us, message.balance)]
        ),
        "transfers": moved and transfer_fields(us, moved),
        "orders": [] if order is None else [write(us, markets[order.ticker], order)],
        "blockHeight": str(height),
    }
    return {name: what for name, what in parts.items() if what}


def snapshot(ledger: Ledger, height: int, orders: Iterable[Fields] = ()) -> Fields:
    """Return the contents that a subscription begins with; `orders` are the open ones' rows.

    Of an account that was never funded there is nothing to report.
    """
    if not (ledger.touched or ledger.collateral or ledger.deposits):  # never funded
        return {}
    subaccount = subaccount_fields(ledger, height)
    return {"subaccount": subaccount, "orders": list(orders), "blockHeight": str(height)}


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


# === Liquidation ===

# What the chain does to an account in breach, and to one worth less than nothing: which order it
# makes, what a block lets it take, and who pays for what that brings too little.

_LIQUIDATION: Final = -1


class Backstop:
    """The insurance funds, and what the block at hand still lets liquidations take.

    It counts notional by position and what the funds lost by subaccount, and remembers by
    collateral pool when an account was last seen worth less than nothing (`negative_at`).
    """

    def __init__(self, terms: LiquidationTerms, funds: InsuranceFunds):
        self.terms, self.funds = terms, funds
        self._taken: dict[Subaccount, dict[str, int]] = {}
        self._lost: Counter[Subaccount] = Counter()
        self.negative_at: dict[str, int] = {}

    def begin_block(self) -> None:
        """Forget what the last block took."""
        self._taken.clear()
        self._lost.clear()

    def left(self, subaccount: Subaccount, ticker: str) -> int:
        """Return the notional that may be liquidated of a position: each once a block."""
        taken = self._taken.get(subaccount, {})
        most = self.terms.max_subaccount_notional
        return 0 if ticker in taken else max(0, most - sum(taken.values()))  # integers

    def took(self, subaccount: Subaccount, ticker: str, notional: int) -> None:
        """Count a position as liquidated in this block."""
        self._taken.setdefault(subaccount, {})[ticker] = notional

    def result(
        self, subaccount: Subaccount, market: PerpetualMarket, delta: int
    ) -> UpdateResult:  # fmt: skip
        """Return whether the market's fund can take `delta` in, and the block lets it."""
        lost = self._lost[subaccount] - min(0, delta)
        if delta < 0 and lost > self.terms.max_subaccount_insurance_lost:
            return "LiquidationExceededSubaccountMaxInsuranceLost"
        return "Success" if self.funds.covers(market, delta) else "LiquidationRequiresDeleveraging"

    def take(self, subaccount: Subaccount, market: PerpetualMarket, delta: int) -> None:
        """Let the market's fund take in what a match brings, or negative pay for it."""
        self._lost[subaccount] -= min(0, delta)
        self.funds.take(market, delta)

    def notice(self, ledger: Ledger, block: int) -> None:
        """Remember the block if the account is worth less than nothing."""
        if ledger.margin.net_collateral < 0:
            self.negative_at[_pool_of(ledger)] = block

    def blocks(self, ledger: Ledger, block: int) -> bool:
        """Return whether nothing may leave the account's collateral pool."""
        return withdrawals_blocked(block, self.negative_at.get(_pool_of(ledger)))


def _pool_of(ledger: Ledger) -> str:
    return collateral_pool(holding.market for holding in ledger.holdings.values())


def liquidation_order(ledger: Ledger, holding: LedgerPosition, terms: LiquidationTerms) -> Order:
    """Return the order by which the chain closes a position, or some of it, at any price down to.

    `terms.max_subaccount_notional` is what the block still allows the subaccount.
    """
    market, held = holding.market, holding.quantums
    price, exponent, _ = ledger.worth.oracles[market.ticker]
    part = ledger.worth.parts[market.ticker]
    worst = fillable_subticks(
        fillable_price(ledger.margin, part, held, terms), is_long=holding.is_long,
        quantum_conversion_exponent=market.quantum_conversion_exponent,
        subticks_per_tick=market.subticks_per_tick,
    )  # fmt: skip
    return _closing(ledger, market, liquidation_size(market, held, price, exponent, terms), worst)


def deleveraging(ledger: Ledger, holding: LedgerPosition) -> tuple[Order, int]:
    """Return the order that hands a whole position to a counterparty, and what it pays for it.

    At the bankruptcy price of an account worth less than nothing, else at the oracle's; free of
    fees. The quote quantums are unsigned, but may be negative: then the account pays to sell.
    """
    market, held = holding.market, holding.quantums
    received = ledger.worth.parts[market.ticker].net_notional
    if ledger.margin.net_collateral < 0:
        received = bankruptcy(ledger, market, -held)
    quote = received if held > 0 else -received
    price = fill_to_quote(quote, 1, -market.quantum_conversion_exponent) // abs(held)
    return _closing(ledger, market, -held, price), quote


def _closing(ledger: Ledger, market: PerpetualMarket, quantums: int, subticks: int) -> Order:
    return Order(
        subaccount=ledger.subaccount, client_id=0, clob_pair_id=market.clob_pair_id,
        side="BUY" if quantums > 0 else "SELL", quantums=abs(quantums), subticks=subticks,
        time_in_force="IOC", order_flags=_LIQUIDATION, liquidation=True,
    )  # fmt: skip


# === Settlement ===

# How a match changes hands between accounts, whatever venue they are of: those with a ledger pay,
# are charged and must be able to, the others are a crowd that always can.


class House(Protocol):
    """What must be known of a venue to settle a match on it."""

    @property
    def ledgers(self) -> Mapping[Subaccount, Ledger]:
        """Return the accounts that pay."""

    @property
    def backstop(self) -> Backstop:
        """Return what stands behind liquidations."""

    def fees_of(self, ledger: Ledger) -> Fees:
        """Return what an account's fills cost in the block at hand."""

    def book(self, order: Order, fill: Filled) -> None:
        """Book one side of a match; the venue adds when it happened."""


class Clearing:
    """The accounts of one market as its book meets them."""

    __slots__ = ("_house", "market")

    def __init__(self, house: House, market: PerpetualMarket):
        self._house, self.market = house, market

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position; the crowd has none to speak of."""
        ledger = self._house.ledgers.get(subaccount)
        return 0 if ledger is None else ledger.position(self.market.ticker)

    def check(self, match: Match) -> tuple[UpdateResult, UpdateResult]:
        """Judge the collateral of those who have a ledger, and the fund behind a liquidation."""
        maker, taker = (
            "Success" if ledger is None else self._result(ledger, order, match, liquidity)
            for ledger, order, liquidity in self._parties(match)
        )
        return maker, taker

    def settle(self, match: Match) -> None:
        """Book the match with those who have a ledger."""
        for ledger, order, liquidity in self._parties(match):
            if ledger is not None:
                self._house.book(order, self._fill(ledger, order, match, liquidity))

    def _parties(self, match: Match) -> tuple[tuple[Ledger | None, Order, str], ...]:
        ledgers = self._house.ledgers
        return (
            (ledgers.get(match.maker.subaccount), match.maker, "MAKER"),
            (ledgers.get(match.taker.subaccount), match.taker, "TAKER"),
        )

    def _result(self, ledger: Ledger, order: Order, match: Match, liquidity: str) -> UpdateResult:
        if order.liquidation:
            delta = self._insurance(ledger, order, match)
            return self._house.backstop.result(ledger.subaccount, self.market, delta)
        due = self._charge(ledger, order, match, liquidity).total
        return update_result(ledger, self.market, order.sign * match.quantums, match.subticks, due)

    def _fill(self, ledger: Ledger, order: Order, match: Match, liquidity: str) -> Filled:
        due, insurance, type_ = self._charge(ledger, order, match, liquidity), 0, "LIMIT"
        if order.liquidation:
            insurance, type_ = self._insurance(ledger, order, match), "LIQUIDATED"
            self._house.backstop.take(ledger.subaccount, self.market, insurance)
        elif match.taker.liquidation:
            type_ = "LIQUIDATION"
        return Filled(
            market=self.market, quantums=order.sign * match.quantums, subticks=match.subticks,
            fee=due.total, builder_fee=due.builder_fee, insurance=insurance, type=type_,
            liquidity=liquidity, order_id=order.id, client_metadata=order.client_metadata,
        )  # fmt: skip

    def _charge(self, ledger: Ledger, order: Order, match: Match, liquidity: str) -> Charge:
        return charge(
            self.market.quote_quantums(match.quantums, match.subticks), liquidity,
            self._house.fees_of(ledger), builder_fee_ppm=order.builder_fee_ppm,
            liquidation=match.taker.liquidation,
        )  # fmt: skip

    def _insurance(self, ledger: Ledger, order: Order, match: Match) -> int:
        """Return what a match of a liquidation brings the insurance fund; negative it pays."""
        quote = self.market.quote_quantums(match.quantums, match.subticks)
        broke_at = bankruptcy(ledger, self.market, order.sign * match.quantums)
        most = self._house.backstop.terms.max_liquidation_fee_ppm
        return insurance_fund_delta(broke_at, -order.sign * quote, most)


def submit(desk: Desk, ledger: Ledger, market: PerpetualMarket, order: Order, fees: Fees) -> str:
    """Take a stateful order into the block at hand; name what the chain refuses it for, if so.

    A long-term one is judged as if filled at its own price, with the builder's fee computed from
    base quantums, as the chain does it there alone.
    """
    waiting, error = desk.waiting.submit(order, desk.book.orders)
    if not error and order.order_flags == LONG_TERM:
        quote = market.quote_quantums(order.quantums, order.subticks)
        cost = fees.of(quote, "MAKER") + fee(order.quantums, order.builder_fee_ppm)
        quantums = order.sign * order.quantums
        if update_result(ledger, market, quantums, order.subticks, cost) != "Success":
            error = "ErrStatefulOrderCollateralizationCheckFailed"
    if not error:
        desk.waiting = waiting
    return error


# === Latency ===

# How long a message of ours is on its way: a recipe, and the draws of one run. Time itself comes
# with the views.


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

# How much stands before an order of ours at its price, estimated from the recorded levels and the
# tape. A level is recorded as a sum: whose part of it leaves is a matter of the model.

QueuePosition = Literal["pessimistic", "proportional", "optimistic"]
"""Who is thought to leave when a level that we rest at shrinks without a trade.

Pessimistic: those behind us, until none is left. Proportional: everybody alike. Optimistic:
nobody stands before us in the first place.
"""

_SIDES: Final[tuple[Side, ...]] = ("BUY", "SELL")
_OPPOSITE: Final[dict[str, Side]] = {"BUY": "SELL", "SELL": "BUY"}
_TAPE_LAG_BLOCKS: Final = 2  # book and tape show one trade within so many blocks
_WATCHED_LEVELS: Final = 20  # a side; farther orders keep the place in which they were last seen


class Place:
    """Where an order rests: the price and size of its level, and how much of it stands before.

    `gone` left the book and may yet be printed on the tape, `printed` the other way round: no
    trade counts twice. All in quantums.
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
        matched = min(fell, self.printed)
        self.printed -= matched
        left = (fell - matched) * self.ahead // self.visible if fell and proportional else 0
        left = max(left, self.ahead - size)
        self.ahead -= left
        self.gone += left
        self.visible, self.offset = size, offset

    def pass_by(self, quantums: int, block: int) -> int:
        """Take in a trade at the level; return what of it goes beyond those before us."""
        self._forget(block)
        matched = min(quantums, self.gone)
        self.gone -= matched
        spent = min(quantums - matched, self.ahead)
        self.ahead -= spent
        self.printed += spent
        return quantums - matched - spent

    def _forget(self, block: int) -> None:
        if block - self.block > _TAPE_LAG_BLOCKS:
            self.gone = self.printed = 0
        self.block = block


class Places:
    """Where our orders rest in the queues of one market's recorded levels.

    What left a level and was made up for between two looks we may have been behind of: it still
    stands before us.
    """

    __slots__ = ("_by_side", "_model")

    def __init__(self, model: QueuePosition):
        self._model = model
        self._by_side: dict[Side, dict[Key, Place]] = {side: {} for side in _SIDES}

    def stand(self, order: Order, market: PerpetualMarket, view: MarketView) -> None:
        """Take the last place at an order's price: all that is visible there stands before."""
        price = float(market.price(order.subticks))
        levels = view.book.bids() if order.side == "BUY" else view.book.asks()
        level = next((level for level in levels if level.price == price), None)
        visible, offset = 0, 0
        if level is not None:
            visible, offset = market.floor_quantums(level.size_text), level.offset
        ahead = 0 if self._model == "optimistic" else visible
        place = Place(price, visible, ahead, offset, view.chain.time_ns)
        self._by_side[order.side][order.key] = place

    def watch(self, resting: Collection[Key], market: PerpetualMarket, view: MarketView) -> None:
        """Take in how the levels at which we rest have changed: each block, and at each trade."""
        block, proportional = block_and_hour(view)[0], self._model == "proportional"
        for side, places in self._by_side.items():
            for key in [key for key in places if key not in resting] if places else ():
                del places[key]
            if not places:
                continue
            book, buys = view.book, side == "BUY"
            shown = book.bids(_WATCHED_LEVELS) if buys else book.asks(_WATCHED_LEVELS)
            levels = {level.price: level for level in shown}
            worst = shown[-1].price if len(shown) == _WATCHED_LEVELS else None
            for place in places.values():
                level = levels.get(place.price)
                if level is not None:
                    if level.offset != place.offset:
                        size = market.floor_quantums(level.size_text)
                        place.see(size, level.offset, block, proportional=proportional)
                elif place.visible and (worst is None or (place.price > worst) == buys):
                    place.see(0, 0, block, proportional=proportional)

    def reached(
        self, side: Side, resting: Mapping[Key, Order], market: PerpetualMarket, view: MarketView,
        *, at: int, quantums: int, at_ns: int,
    ) -> int:  # fmt: skip
        """Return how many quantums of a trade at a price reach orders of ours on a side.

        A trade beyond our price has passed all that stood before us; one of a block from before
        we stood there reaches nothing.
        """
        places = self._by_side[side]
        if not places:
            return 0
        self.watch(resting, market, view)
        total, step, block = 0, market.step_base_quantums, block_and_hour(view)[0]
        # Of a modelled book nobody knows who stood before us: a price has to be traded through.
        nearest = 1 if view.book.modelled else 0
        ours = [order for order in resting.values() if order.side == side]
        for order in sorted(ours, key=lambda order: -order.sign * order.subticks):
            beyond, place = order.sign * (order.subticks - at), places[order.key]
            if beyond < nearest or at_ns <= place.since_ns:
                continue
            if beyond:
                place.ahead = 0
            spare = place.pass_by(quantums, block) if not beyond else quantums
            wanted = min(order.remaining, spare - total)
            total += max(0, wanted - wanted % step)
        return total


def block_and_hour(view: MarketView) -> tuple[int, int]:
    """Return the block and the hour since 1970 that a view belongs to."""
    # Without a block stream, seconds stand for blocks: the chain makes about one a second.
    chain = view.chain
    return chain.height or view.at // _SECOND_NS, (chain.time_ns or view.at) // _HOUR_NS


# === Optimism ===

# How far the tape bears out what we assumed to trade: a figure beside the profit, which it changes
# nothing of.


_NEVER_DUE: Final = 2**63


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

    def concerns(self) -> tuple[list[str], int]:
        """Return of which markets fills are still to be judged, and when the oldest is at last."""
        claims = self._claims
        return [claim.ticker for claim in claims], claims[0].until if claims else _NEVER_DUE

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

    def observe(self, ticker: str, side: str, subticks: int, quantums: int, at_ns: int) -> None:
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

# What an owner may send: by its form, by how much of it within how many blocks (all of these hold
# at once, and failed attempts count), and by the equity. Source: x/clob/rate_limit and
# equity_tier_limit; governance may change them.

_RATES: Final = {
    # Stateful or not: blocks, and the most within them.
    True: ((1, 2), (100, 20)),
    False: ((5, 4_000),),
}
_RATED: Final = {True: "stateful orders", False: "short-term orders and cancels"}


class Attempts:
    """What one owner sent block by block, held against what the chain takes."""

    def __init__(self) -> None:
        self._sent: dict[bool, Counter[int]] = {kind: Counter() for kind in _RATES}

    def objection(self, block: int, *, stateful: bool, weight: int = 1) -> str:
        """Count an attempt in a block, a batch of cancels as two; return the limit it exceeds."""
        sent, rates = self._sent[stateful], _RATES[stateful]
        sent[block] += weight
        for past in [past for past in sent if past <= block - rates[-1][0]]:
            del sent[past]
        for blocks, most in rates:
            recent = (number for past, number in sent.items() if past > block - blocks)
            count = sum(recent)  # integers
            if count > most:
                kind = f"{most} {_RATED[stateful]} per {blocks} blocks"
                return f"rate of {count} exceeds the limit of {kind}"
        return ""


class Limits:
    """What the chain takes of what one owner sends; each message that is judged is counted."""

    __slots__ = ("_attempts", "_ledger")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._attempts = ledger, Attempts()

    def of_order(
        self, order: OrderRequest, view: MarketView, market: PerpetualMarket,
        open_orders: Iterable[int],
    ) -> str:  # fmt: skip
        """Name the chain's error for an order, or nothing.

        `open_orders` counts the stateful ones that stand or are on their way, market by market.
        """
        height, seconds = view.chain.height, view.chain.time_ns // _SECOND_NS
        error = objection(order, market, status=view.status, height=height, time=seconds)
        if error:
            return error
        if order.order_flags == TWAP:
            return "ErrTwapOrderNotSimulated"
        stateful = order.order_flags != SHORT_TERM
        if error := self._of_pace(view, stateful=stateful):
            return error
        if stateful:
            worth = self._ledger.equity  # an unknown one allows none
            limit = 0 if worth is None else stateful_order_limit(worth)
            if sum(open_orders) >= limit:  # integers
                return "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
        return ""

    def of_cancel(self, cancel: CancelRequest, view: MarketView) -> str:
        """Name the chain's error for a cancel, or nothing."""
        height, seconds = view.chain.height, view.chain.time_ns // _SECOND_NS
        error = cancel_objection(cancel, height=height, time=seconds)
        if error or cancel.order_flags != SHORT_TERM:
            return error
        return self._of_pace(view, stateful=False)

    def _of_pace(self, view: MarketView, *, stateful: bool) -> str:
        exceeded = self._attempts.objection(block_and_hour(view)[0], stateful=stateful)
        return "ErrBlockRateLimitExceeded" if exceeded else ""


# === Recorded market ===

# One market's recorded book on ours: as makers while an order of ours is matched, as takers when
# it comes to orders of ours that rest. What stands against a match, dydx_data's `stopping` decides.

_MOST_TAKEN: Final = 256
_TAPE: Final = 0  # the offset of what no recorded level has offered
_CROWD: Final = Subaccount("recorded market", 0)


def matches(view: MarketView) -> bool:
    """Return whether the venue would match on what is known of a market."""
    return not stopping(view, "match")


def traded(view: MarketView) -> Iterator[tuple[Trade, int, int]]:
    """Yield the trades that a view has just brought, each with its subticks and quantums."""
    if (market := view.market) is None:
        return
    for trade in view.fresh:
        try:
            yield trade, market.subticks(trade.price_text), market.quantums(trade.size_text)
        except GridError:  # no trade of this market
            continue


class Crowd:
    """The recorded levels of one market as orders, less what we took of each already."""

    __slots__ = ("_near", "_taken", "_view", "moment")

    def __init__(self, view: MarketView):
        self._view = view
        self.moment: Book | None = None  # the book of a moment within a candle, while it is played
        # What we took of a recorded level, by its side, subticks and version.
        self._taken: Counter[tuple[Side, int, int]] = Counter()
        # Our best price of a side, in subticks and as the views write it.
        self._near: dict[Side, tuple[int, float]] = dict.fromkeys(_SIDES, (0, 0.0))

    def offers(self, market: PerpetualMarket, side: Side, subticks: int) -> Iterator[Order]:
        """Yield what the recorded book offers a taker of this side, up to its limit."""
        book, buys, opposite = self.moment or self._view.book, side == "BUY", _OPPOSITE[side]
        levels = (book.asks() if buys else book.bids()) if matches(self._view) else []
        for number, level in enumerate(levels):
            try:
                at = market.subticks(level.price_text)
                if at > subticks if buys else at < subticks:
                    return
                left = market.quantums(level.size_text)
            except GridError:  # nobody could have traded there
                continue
            left -= self._taken[opposite, at, level.offset]
            if left > 0:
                yield crowd_order(market, opposite, left, at, number, level.offset)

    def crossing(self, market: PerpetualMarket, book: OrderBook) -> Iterator[Order]:
        """Yield the recorded levels that have come to orders of ours, as takers."""
        recorded = self._view.book
        for side in _SIDES if book.orders and not recorded.modelled else ():
            buys = side == "BUY"
            ours = book.best_bid if buys else book.best_ask
            theirs = recorded.best_ask if buys else recorded.best_bid
            if ours is None or theirs is None:
                continue
            if self._near[side][0] != ours:
                self._near[side] = (ours, float(market.price(ours)))
            near = self._near[side][1]
            if theirs.price > near if buys else theirs.price < near:
                continue  # as nearly always, and known without a look at the levels
            for order in self.offers(market, side, ours):
                order.time_in_force = "IOC"
                yield order

    def took(self, order: Order, quantums: int) -> None:
        """Remember what we took of a recorded level; what a trade brought us was none's."""
        if order.client_metadata != _TAPE:
            self._taken[order.side, order.subticks, order.client_metadata] += quantums
            if len(self._taken) > _MOST_TAKEN:
                self._forget()

    def _forget(self) -> None:
        """Forget what was taken of levels that have changed since."""
        sides = {"SELL": self._view.book.asks(), "BUY": self._view.book.bids()}
        offsets = {(side, level.offset) for side, levels in sides.items() for level in levels}
        current = {key: size for key, size in self._taken.items() if (key[0], key[2]) in offsets}
        self._taken = Counter(current)


def crowd_order(
    market: PerpetualMarket, side: Side, quantums: int, subticks: int, number: int = 0,
    offset: int = _TAPE,
) -> Order:  # fmt: skip
    """Return an order of the recorded market; its metadata is the version of its level."""
    return Order(
        subaccount=_CROWD, client_id=number, clob_pair_id=market.clob_pair_id,
        side=side, quantums=quantums, subticks=subticks, client_metadata=offset,
    )  # fmt: skip


# === Paper account ===

# Our side of the venue: what happens to our money, and the frames that report it. It knows no book;
# the markets below decide what it books and reports.


class Seen:
    """What a venue has seen: each market's view, the newest of them, and the block it is in."""

    __slots__ = ("block", "hour", "now", "views")

    def __init__(self) -> None:
        self.now: MarketView | None = None
        self.views: dict[str, MarketView] = {}
        self.block = self.hour = 0

    @property
    def at(self) -> int:
        """Return the event time, in nanoseconds: that of the newest view."""
        return 0 if self.now is None else self.now.at

    @property
    def when(self) -> Stamp:
        """Return the moment of the newest view."""
        view = self.now
        if view is None:
            return NEVER
        return Stamp(view.seq, view.at, view.chain.time_ns or view.at, view.chain.height)


def hours_delta(view: MarketView, market: PerpetualMarket, hours: range) -> tuple[int, int]:
    """Return how far hours moved a funding index, and how many of them nothing is known of.

    Each is the one that ended as it began, counted since 1970. By the rates that the venue
    answered, elsewhere by that of now; at the price of now.
    """
    if (oracle := view.oracle) is None:
        return 0, len(hours)
    rates = {at // _HOUR_NS: rate for at, rate in view.premium.rates.items()}
    known = [round(rate * 8 * PPM) for hour, rate in rates.items() if hour in hours]
    left = len(hours) - len(known)
    terms = oracle.digits, oracle.exponent, market.atomic_resolution
    moved = sum(funding_index_delta(rate, 3_600, *terms) for rate in known)  # integers
    rest = index_delta(view, market, left) if left else 0
    return (moved, left) if rest is None else (moved + rest, 0)


def order_of(subaccount: Subaccount, record: OrderRecord, market: PerpetualMarket) -> Order:
    """Return an order as it stands in the records of an account."""
    alike = {name: getattr(record, name) for name in _ALIKE}
    return Order(subaccount=subaccount, clob_pair_id=market.clob_pair_id, **alike)


class PaperAccount:
    """Our subaccount at a venue: its ledger, and what the event at hand did to it.

    `refusals` counts what the chain would not have taken. `owed` are hours of funding by ticker
    whose price or rate is not known yet: they accrue when it is, or at the worst rate once the
    position changes. `messages` counts the frames.
    """

    def __init__(self, ledger: Ledger, seen: Seen, backstop: Backstop, fees: Fees | None = None):
        self.ledger, self.backstop = ledger, backstop
        self.ledgers = {ledger.subaccount: ledger}
        self.refusals: Counter[str] = Counter()
        self.owed: dict[str, int] = {}
        self._seen = seen
        self._chosen_fees = fees
        self._tier: tuple[int, FeeTier] | None = None  # and the block it was found in
        self._changes = Changes()
        self.messages = 0

    # --- money

    def fees_of(self, ledger: Ledger) -> Fees:
        """Return what fills cost in the block at hand: what was chosen, or the account's tier.

        The tier is that of its own fills of 30 days, until the block before. What everybody
        traded is not known, so those tiers that require a share of it are never reached.
        """
        if self._chosen_fees is not None:
            return self._chosen_fees
        when = self._seen.when
        block = when.height or when.time_ns // _SECOND_NS
        if self._tier is None or block != self._tier[0]:
            self._tier = block, ledger.volumes.tier(when.time_ns)
        return self._tier[1]

    def book(self, order: Order, fill: Filled) -> None:
        """Book a fill of ours."""
        ticker, when = fill.market.ticker, self._seen.when
        if ticker in self.owed:
            # What was held is about to be forgotten: what it owes cannot wait any longer.
            self.fund_late(ticker, worst_for=self.ledger.position(ticker))
        booking = self.ledger.book(msgspec.structs.replace(fill, when=when))
        record = filled_record(order, ticker, abs(fill.quantums), when) if order.id else None
        if record is not None:
            record = self.ledger.note(record)
        self._changes.fill(self.ledger, fill.market, booking, record)

    def fund(self, hours: range) -> None:
        """Accrue hours of funding, and owe those of which no price or rate is known."""
        indices = dict(self.ledger.indices)
        for ticker, holding in self.ledger.holdings.items():
            delta, left = hours_delta(self._seen.views[ticker], holding.market, hours)
            if left:
                self.owed[ticker] = self.owed.get(ticker, 0) + left
            indices[ticker] = indices.get(ticker, 0) + delta
        self.ledger.accrue(indices, self._seen.when)

    @property
    def carried(self) -> Carried:
        """Return what stands beside the ledger."""
        backstop = self.backstop
        return Carried(
            owed=dict(self.owed), funds=dict(backstop.funds.balances),
            negative_at=dict(backstop.negative_at),
        )  # fmt: skip

    def carry_on(self, carried: Carried) -> None:
        """Take over what stood beside the ledger of an earlier run."""
        self.owed |= carried.owed
        self.backstop.funds.balances |= carried.funds
        self.backstop.negative_at |= carried.negative_at

    def fund_late(self, ticker: str, *, worst_for: int = 0) -> None:
        """Accrue the hours that are owed, if the rate is known or at the worst one for a size."""
        view = self._seen.views[ticker]
        if view.market is None:
            return
        delta = index_delta(view, view.market, self.owed[ticker], worst_for=worst_for)
        if delta is not None:
            del self.owed[ticker]
            moved = {ticker: self.ledger.indices.get(ticker, 0) + delta}
            self.ledger.accrue(moved, self._seen.when)

    def deposit(self, quote_quantums: int) -> None:
        """Bring USDC in from the wallet."""
        owing = self.ledger.owing
        moved = self.ledger.deposit(quote_quantums, self._seen.when)
        self._changes.transfer(self.ledger, moved, owing)

    def withdraw(self, quote_quantums: int, block: int) -> None:
        """Take USDC out to the wallet, if collateral and the pool allow it."""
        owing, blocked = self.ledger.owing, self.backstop.blocks(self.ledger, block)
        moved = self.ledger.withdraw(quote_quantums, self._seen.when, blocked=blocked)
        if isinstance(moved, Refused):
            self.refusals[moved.reason] += 1
        else:
            self._changes.transfer(self.ledger, moved, owing)

    # --- reports

    def report(
        self, market: PerpetualMarket, order: Order, reason: str = "", *, waits: bool = False,
        filled: int | None = None,
    ) -> None:  # fmt: skip
        """Report how an order stands, or the indexer's reason for its end.

        `filled` is what nodes had matched of it before they removed it, all of it if None.
        """
        status, ticker, when = status_of(order, reason, waits=waits), market.ticker, self._seen.when
        record = order_record(order, ticker, status, when, removal=reason)
        created = self.ledger.note(record.remembered).created
        seen = record.filled if filled is None else filled
        record = msgspec.structs.replace(record, created=created, filled=seen)
        self._changes.order(market, record)

    def miss(self, market: PerpetualMarket, cancel: CancelRequest) -> None:
        """Report the cancel of a short-term order that no node knows."""
        if record := missing_record(self.ledger, market, cancel):
            self._changes.order(market, record, missing=True)

    def refuse(self, market: PerpetualMarket, order: Order, error: str, *, stands: bool) -> None:
        """Count a refusal, and report it unless another order `stands` under this id."""
        self.refusals[error] += 1
        # What stands goes on: a refusal speaks of the request alone.
        if not stands and not self._changes.names(order.id):
            refusal = f"clob {_OURS.get(error) or code_of(error)}: {error}"
            when = self._seen.when
            record = order_record(order, market.ticker, "CANCELED", when, refusal=refusal)
            self._changes.order(market, self.ledger.note(record))

    def greeting(self) -> list[Frame]:
        """Return the snapshot with which the account's channel begins, if it has not begun."""
        if self.messages:
            return []
        # The block at hand is not over, and may yet change it: this is as of the one before.
        height, us = self._height - 1, self.ledger.subaccount
        views = ((o, self._seen.views.get(o.ticker)) for o in self.ledger.history.standing)
        markets = ((order, view.market) for order, view in views if view is not None)
        rows = [order_fields(us, market, order) for order, market in markets if market is not None]
        contents = snapshot(self.ledger, height, rows)
        if contents and self.ledger.touched > height + 1:  # another chain, by its blocks
            contents["subaccount"] |= dict.fromkeys(_HEIGHTS, str(height))
        return [self._frame("subscribed", contents)]

    def flush(self) -> list[Frame]:
        """Report what has changed, message by message."""
        if not self._changes:
            return []
        ledger, markets, height = self.ledger, self._changes.markets, self._height
        return [
            self._frame("channel_data", update(ledger, markets, message, height))
            for message in self._changes.take()
        ]

    def _frame(self, type_: str, contents: Fields) -> Frame:
        self.messages += 1
        us = self.ledger.subaccount
        return account_frame(us, type_, contents, self.messages, self._seen.when)

    @property
    def _height(self) -> int:
        return self._seen.when.height


_HEIGHTS: Final = ("updatedAtHeight", "latestProcessedBlockHeight")
# What this venue alone refuses has a code that the chain cannot have.
_OURS: Final = {"ErrTwapOrderNotSimulated": -1}

# === Paper market ===

# One market of the venue: our orders on a book of our own, the recorded market around them, and
# what a view, a trade or the end of a block does to both.


class PaperMarket:
    """One market as our orders meet it.

    `inbox` is what is on its way, with its arrival.
    """

    __slots__ = (
        "_account", "_clearing", "_optimism", "_places", "_played", "_seen", "crowd", "desk",
        "inbox", "view",
    )  # fmt: skip

    def __init__(
        self, account: PaperAccount, seen: Seen, optimism: Optimism, view: MarketView,
        market: PerpetualMarket, queue: QueuePosition,
    ):  # fmt: skip
        self._account, self._seen, self._optimism, self.view = account, seen, optimism, view
        self._clearing = Clearing(account, market)
        self._places = Places(queue)
        self.desk = Desk(OrderBook(market, self._clearing))
        self.crowd, self._played = Crowd(view), 0
        self.inbox: list[tuple[int, Order | CancelRequest]] = []

    @property
    def market(self) -> PerpetualMarket:
        """Return its parameters, as governance has them now."""
        return self._clearing.market

    @market.setter
    def market(self, market: PerpetualMarket) -> None:
        self._clearing.market = market

    @property
    def busy(self) -> bool:
        """Return whether anything of ours is on its way, waits or rests."""
        # Read at each step of ours: written out, not composed.
        desk, waiting = self.desk, self.desk.waiting
        return bool(self.inbox or desk.book.orders or waiting.placed or waiting.untriggered)

    @property
    def stateful(self) -> int:
        """Count our stateful orders, those on their way too."""
        sent = (sent for _, sent in self.inbox if isinstance(sent, Order))
        coming = sum(order.order_flags != SHORT_TERM for order in sent)  # integers
        return self.desk.stateful + coming

    def meet(self, at: int) -> None:
        """Let what rests, and what has arrived at `at`, meet the book as it is now.

        Where candles are all there is, it meets the next one.
        """
        if self.view.book.fidelity == _CANDLES:
            bar, now = self.view.bar, self._seen.now
            # Once, as it comes: what is sent after that meets the next one.
            if bar is not None and now is self.view and self._played < bar.seq == now.seq:
                self._played = bar.seq
                self.play(bar, at)
            return
        self.cross()
        if not self.inbox:
            return
        for _, event in self._arrived(at):
            if isinstance(event, Order):
                self._enter(event)
            else:
                self._withdraw(event)

    def _arrived(self, at: int) -> list[tuple[int, Order | CancelRequest]]:
        due = sorted((sent for sent in self.inbox if sent[0] <= at), key=itemgetter(0))
        self.inbox = [sent for sent in self.inbox if sent[0] > at]
        return due

    def play(self, bar: Bar, at: int) -> None:
        """Let a candle happen to what was sent before it was over.

        What arrived by its open meets a book around that; later, around the worse of open and
        close. What it triggers meets one around its trigger, a stop around the worse of that and
        the open, before any profit is taken. What rests fills at its own price if the candle went
        beyond that; short-term it lasts no longer than the candle.
        """
        since = bar.at_ns - bar.period_ns + _SECOND_NS
        for arrived, event in self._arrived(at):
            if isinstance(event, CancelRequest):
                self._withdraw(event)
                continue
            worse = max if event.side == "BUY" else min
            with self._within(bar.open if arrived <= since else worse(bar.open, bar.close)):
                self._enter(event)
        for order in self.desk.trigger([*map(self._subticks, (bar.open, bar.low, bar.high))]):
            self._fire(order, bar)
        self._pass_through(bar)
        book = self.desk.book
        for order in [x for x in book.orders.values() if x.order_flags == SHORT_TERM]:
            book.cancel(order.key)
            self.report(order, "EXPIRED")
        self.expire(self.view.chain.height, self.view.chain.time_ns // _SECOND_NS)

    def _fire(self, order: Order, bar: Bar) -> None:
        """Let an order enter that a candle has triggered, or that waited for its block."""
        price = bar.open
        if order.condition_type:
            self.report(order)
            trigger = float(self.market.price(order.trigger_subticks))
            worse = max if order.side == "BUY" else min
            price = worse(trigger, price) if order.condition_type == "STOP_LOSS" else trigger
        with self._within(price):
            self.take(order)

    def _pass_through(self, bar: Bar) -> None:
        """Fill what the candle's prices went beyond, up to its volume; hold it against fills."""
        low, high = self._subticks(bar.low), self._subticks(bar.high)
        volume = self.market.floor_quantums(f"{bar.volume:.12f}")
        tick = self.market.subticks_per_tick
        for side, beyond in (("SELL", low + tick), ("BUY", high - tick)) if volume else ():
            taker = crowd_order(self.market, "SELL" if side == "SELL" else "BUY", volume, beyond)
            taker.time_in_force = "IOC"
            self._conclude(self.desk.book.place(taker))
        for side, at in (("BUY", high), ("SELL", low)):
            self._optimism.observe(self.market.ticker, side, at, volume // 2, bar.at_ns)

    @contextlib.contextmanager
    def _within(self, price: float) -> Iterator[None]:
        """Show the modelled book around a price of the candle at hand."""
        book = self.view.book
        if isinstance(book, ModelledBook):
            self.crowd.moment = book.around(price)
        try:
            yield
        finally:
            self.crowd.moment = None

    def _subticks(self, price: float) -> int:
        return self.market.floor_subticks(f"{price:.12f}")

    def cross(self) -> None:
        """Let the recorded levels that have run over what rests fill it."""
        for taker in self.crowd.crossing(self.market, self.desk.book):
            self._conclude(self.desk.book.place(taker))

    def take(self, order: Order) -> Placement:
        """Place an order of ours among the recorded levels, for as long as it matches."""
        book, (side, limit) = self.desk.book, (order.side, order.subticks)
        crowd = list(self.crowd.offers(self.market, side, limit))
        for level in crowd:
            self._conclude(book.place(level))
        result = book.place(order)
        for level in crowd:
            book.cancel(level.key)
        if order.key in book.orders:
            self._places.stand(order, self.market, self.view)
        self._conclude(result)
        return result

    def observe(self, trade: Trade, at: int, quantums: int) -> None:
        """Let a trade of the tape trigger what waits and reach what rests."""
        if trade.at_ns >= self.view.chain.time_ns - _LATE_NS:
            self.desk.see(at)
        side, book = _OPPOSITE[trade.side], self.desk.book
        reached = matches(self.view) and self._places.reached(
            side, book.orders, self.market, self.view, at=at, quantums=quantums, at_ns=trade.at_ns
        )
        if reached:
            taker = crowd_order(self.market, _OPPOSITE[side], reached, at)
            taker.time_in_force = "IOC"
            self._conclude(book.place(taker))

    def end_block(self, min_price_change_ppm: int) -> None:
        """Let in what the block took in and what it triggered, and end what it ended."""
        view, desk = self.view, self.desk
        if view.book.fidelity == _CANDLES:  # what a block triggers, the candle does
            return self.expire(view.chain.height, view.chain.time_ns // _SECOND_NS)
        if matches(view):
            self._places.watch(desk.book.orders, self.market, view)
        oracle, seconds = view.oracle, view.chain.time_ns // _SECOND_NS
        price = None
        if oracle is not None and not desk.waiting.empty:
            price = oracle_subticks(self.market, oracle.digits, oracle.exponent)
        entry = desk.end_block(price, seconds, min_price_change_ppm)
        for order in entry.expired:
            self.report(order, "EXPIRED")
        for order in entry.entering:
            if order.condition_type:
                self.report(order)
            self.take(order)
        self.expire(view.chain.height, seconds)

    def stand(self, order: Order, *, waits: bool) -> None:
        """Let an order stand again as it stood, last in the queue of its price."""
        self.desk.stand(order, waits=waits)
        if order.key in self.desk.book.orders:
            self._places.stand(order, self.market, self.view)

    def expire(self, height: int, time: int = 0) -> None:
        """End what was good until this block or time (unix seconds)."""
        for order in self.desk.book.expire(height, time):
            self.report(order, "EXPIRED")

    def open(self, order: Order) -> None:
        """Report that a short-term order was sent, and which one it replaces."""
        if (standing := self.desk.book.orders.get(order.key)) is not None:
            self.report(standing, "REPLACED")
        self.report(order)

    def report(self, order: Order, reason: str = "", filled: int | None = None) -> None:
        """Report how an order stands, or the indexer's reason for its end."""
        waits = order in self.desk.waiting.untriggered
        self._account.report(self.market, order, reason, waits=waits, filled=filled)

    def refuse(self, order: Order, error: str) -> None:
        """Refuse an order for what the chain would refuse it for."""
        stands = order.key in self.desk.book.orders
        self._account.refuse(self.market, order, error, stands=stands)

    def _enter(self, order: Order) -> None:
        if self.view.status == _SETTLED:
            self.refuse(order, "ErrOrderConflictsWithClobPairStatus")
        elif order.order_flags != SHORT_TERM:
            account = self._account
            fees = account.fees_of(account.ledger)
            if error := submit(self.desk, account.ledger, self.market, order, fees):
                self.refuse(order, error)
            else:
                self.report(order)
        elif 0 < order.good_til_block < self.view.chain.height:
            self.report(order, "EXPIRED")
        else:
            self.take(order)

    def _withdraw(self, cancel: CancelRequest) -> None:
        order, error = self.desk.withdraw(self._account.ledger.subaccount, cancel)
        if error:
            self._account.refusals[error] += 1
        elif order is not None:
            self.report(order, "USER_CANCELED")
        elif cancel.order_flags == SHORT_TERM:
            self._account.miss(self.market, cancel)

    def _conclude(self, result: Placement) -> None:
        """Report what a placement removed, or why it failed; fills are reported when booked."""
        order = result.order
        for match in result.fills:
            self._witness(match)
        for gone, reason in result.removed:
            if gone.id:
                self.report(gone, reason, gone.filled - result.filled if gone is order else None)
        if result.error in FAILED:
            self.report(order, FAILED[result.error])
        elif result.error:
            self.refuse(order, result.error)

    def _witness(self, match: Match) -> None:
        """Remember what a match took from the recorded market, until the tape bears it out."""
        market, (quantums, at) = self.market, (match.quantums, match.subticks)
        crowd = match.maker if match.maker.subaccount == _CROWD else match.taker
        self.crowd.took(crowd, quantums)
        self._optimism.claim(
            market.ticker, match.taker.side, at, quantums, market.quote_quantums(quantums, at),
            since_ns=self.view.chain.time_ns, at=self._seen.at,
            witnessed=crowd.client_metadata == _TAPE,
        )  # fmt: skip


_CANDLES: Final = "candles"
# A trade may be reported this much after its block; an older one is of a snapshot: no trigger.
_LATE_NS: Final = 2 * _SECOND_NS
_SETTLED: Final = "FINAL_SETTLEMENT"

# === Enforcement ===

# What the chain takes of our account in its markets: who is in breach, worth less than nothing, or
# in a market that is finally settled.


class Enforcement:
    """Liquidates, deleverages and finally settles what one account holds."""

    __slots__ = ("_account", "_markets", "_seen")

    def __init__(self, account: PaperAccount, seen: Seen, markets: Mapping[str, PaperMarket]):
        self._account, self._seen, self._markets = account, seen, markets

    def liquidate(self) -> None:
        """Liquidate position after position, each once a block, until the account is safe."""
        # The chain starts at a pseudo-random position; the oldest one is ours.
        ledger, backstop = self._account.ledger, self._account.backstop
        backstop.notice(ledger, self._seen.block)
        for ticker in list(ledger.holdings):
            market, left = self._markets[ticker], backstop.left(ledger.subaccount, ticker)
            if left <= 0 or not matches(market.view):
                continue
            # What the book has run over fills first, and may be all that is needed.
            market.cross()
            if ledger.breached and ticker in ledger.holdings:
                taken = self._liquidate_position(market, ledger.holdings[ticker], left)
                backstop.took(ledger.subaccount, ticker, taken)

    def _liquidate_position(self, market: PaperMarket, holding: LedgerPosition, left: int) -> int:
        """Liquidate some of a position, at most `left`; return the notional it took."""
        ledger, terms = self._account.ledger, self._account.backstop.terms
        worthless = ledger.margin.net_collateral < 0
        terms = msgspec.structs.replace(terms, max_subaccount_notional=left)
        filled = market.take(liquidation_order(ledger, holding, terms)).filled
        if filled:
            ledger.liquidated()
        elif worthless:
            # Nobody buys, or at prices that the fund cannot make up for.
            self._deleverage(holding)
        return abs(ledger.worth.margin_of(market.market, filled).net_notional)

    def settle_finally(self, market: PaperMarket) -> None:
        """End all orders of a market that is finally settled, then what is held in it."""
        ledger = self._account.ledger
        holding = ledger.holdings.get(market.market.ticker)
        for order in market.desk.clear():
            market.report(order, "FINAL_SETTLEMENT")
        if holding is not None and ledger.margin.known:
            self._deleverage(holding)

    def _deleverage(self, holding: LedgerPosition) -> None:
        """Hand a whole position to a counterparty: the market that was recorded."""
        account = self._account
        account.backstop.notice(account.ledger, self._seen.block)
        order, quote = deleveraging(account.ledger, holding)
        account.book(order, Filled(
            market=holding.market, quantums=order.sign * order.quantums, subticks=order.subticks,
            quote=quote, type="DELEVERAGED",
        ))  # fmt: skip


# === Return ===

# An account that an earlier run left: until its markets are known nothing is reported of it; then
# it is, with what stands, after the funding of the hours in which nobody looked.

_PATIENCE_NS: Final = 10 * _SECOND_NS  # until the rates of the hours are answered


class Return:
    """An account that comes back, until it does.

    It does so when its markets are known, and of a position over missed hours their rates, which
    are waited for no longer than 10 s.
    """

    __slots__ = ("_account", "_hour", "_seen", "_since")

    def __init__(self, account: PaperAccount, seen: Seen) -> None:
        self._account, self._seen, self._since = account, seen, 0
        self._hour = account.ledger.tally.last_ns // _HOUR_NS  # the last one that was accrued

    def is_due(self, now: MarketView) -> bool:
        """Return whether all is known that the account needs to go on."""
        self._since = self._since or now.at
        needed, held = self._views, self._account.ledger.holdings
        if any(view is None or view.market is None or view.oracle is None for view in needed):
            return False
        if now.at - self._since >= _PATIENCE_NS:
            return True
        missed = bool(held and self._hours)
        known = all(self._seen.views[ticker].premium.rates for ticker in held)
        return bool(now.chain.time_ns) and (known or not missed)

    def finish(
        self, market_of: Callable[[MarketView, PerpetualMarket], PaperMarket]
    ) -> list[Frame]:
        """Accrue what was missed, report the account, and let its orders stand again.

        Those that ended meanwhile, as all short-term ones did, are reported so after it.
        """
        account, seen, hours = self._account, self._seen, self._hours
        ledger, views = account.ledger, self._views
        if seen.now is not None:
            seen.block, seen.hour = block_and_hour(seen.now)
        seconds = 0 if seen.now is None else seen.now.chain.time_ns // _SECOND_NS
        if hours:
            account.fund(hours)
            ledger.mark(seen.when)
        first = account.greeting()
        markets = {v.ticker: market_of(v, v.market) for v in views if v and v.market is not None}
        for record in ledger.history.live:
            market = markets[record.ticker]
            order = order_of(ledger.subaccount, record, market.market)
            if order.order_flags == SHORT_TERM or _ended(order, seconds):
                market.report(order, "EXPIRED")
            else:
                market.stand(order, waits=record.status == "UNTRIGGERED")
        return first

    @property
    def _views(self) -> list[MarketView | None]:
        ledger = self._account.ledger
        tickers = dict.fromkeys((*ledger.holdings, *(o.ticker for o in ledger.history.live)))
        return [self._seen.views.get(ticker) for ticker in tickers]

    @property
    def _hours(self) -> range:
        if not self._hour or self._seen.now is None:
            return range(0)
        return range(self._hour + 1, block_and_hour(self._seen.now)[1] + 1)


# === Venue ===

# All of it joined: what arrives when, what a block does, and who is liquidated. It holds no rule of
# its own that could stand above.


class PaperVenue:
    """One subaccount on a venue made of recorded books: `step`, and `deposit`, are all of it.

    `markets` are those that we sent anything to, `optimism` measures how far the tape bears out
    what was filled. `min_price_change_ppm` is governance's, of x/prices: it bounds the trade prices
    that trigger conditional orders. Without `fees` the account's own tier is charged, as it trades.
    `journal` is the ledger's.

    `insurance_fund` is what the cross markets' fund holds at first, in quote quantums, None for
    one that never ends: read a node for today's. The default is a million USDC, no more than the
    chain lets one account lose of it in a block: the others who lose in the same crash draw on
    the real one too. `insurance` is what is left.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int, *,
        fees: Fees | None = None, terms: LiquidationTerms | None = None,
        latency: Latency | None = None, queue: QueuePosition = "pessimistic",
        min_price_change_ppm: int = 1_000, insurance_fund: int | None = 1_000_000_000_000,
        journal: Callable[[Event], object] | None = None,
    ):  # fmt: skip
        if queue not in get_args(QueuePosition):
            raise PaperError(f"expected one of {get_args(QueuePosition)}, got queue {queue!r}")
        backstop = Backstop(terms or LiquidationTerms(), InsuranceFunds(insurance_fund))
        self.subaccount, self.queue = subaccount, queue
        self.min_price_change_ppm = min_price_change_ppm
        self.optimism = Optimism()
        self._seen = Seen()
        ledger = Ledger(subaccount, deposit, journal=journal)
        self._account = PaperAccount(ledger, self._seen, backstop, fees)
        self._delays, self._limits = (latency or Latency()).draws(), Limits(ledger)
        self.markets: dict[str, PaperMarket] = {}
        self._busy: set[str] = set()
        self._idle = self._is_calm = False
        self._valued_seq = -1
        self._chain = Enforcement(self._account, self._seen, self.markets)
        self._return: Return | None = None

    # --- what it shows

    @property
    def ledger(self) -> Ledger:
        """Return the account's ledger, which goes on living."""
        return self._account.ledger

    @property
    def fees(self) -> Fees:
        """Return what fills cost in the block at hand."""
        return self._account.fees_of(self._account.ledger)

    @property
    def refusals(self) -> Counter[str]:
        """Return what the chain would not have taken, by its name of the error."""
        return self._account.refusals

    @property
    def funding_owed(self) -> dict[str, int]:
        """Return the hours by ticker whose price or rate is not known yet."""
        return self._account.owed

    @property
    def insurance(self) -> InsuranceFunds:
        """Return the insurance funds, and what is left in them."""
        return self._account.backstop.funds

    def figures(self) -> AccountFigures:
        """Return what the account did and what it is worth."""
        return figures(self.ledger)

    @property
    def carried(self) -> Carried:
        """Return what it has beside the ledger."""
        return self._account.carried

    @property
    def state(self) -> VenueState:
        """Return what a next run resumes; what is on its way, and short-term, is over then."""
        return VenueState(ledger=ledger_state(self.ledger), carried=self.carried)

    def concerns(self) -> tuple[Collection[str], int]:
        """Return whose views matter to it, and until when no others do; 0 if all of them do.

        But one that begins a block or an hour, that is the first of its market, or the first of a
        frame that changes a price while anything is held. With any other `step` would return
        nothing, and whoever leaves it out calls `pass_over` before the next thing that it does.
        """
        account = self._account
        if self._return is not None or account.owed or not account.messages:
            return (), 0
        if self._idle:
            return (), _NEVER_DUE
        if self.ledger.breached:
            return (), 0
        tickers, until = self.optimism.concerns()
        return {*tickers, *self._busy}, until

    # --- what it takes

    def pass_over(self, view: MarketView) -> None:
        """Take note of the newest view, of a market it has seen, that does not matter to it."""
        self._seen.now = view

    def resume(self, state: VenueState) -> None:
        """Go on, before the first event, where a venue of the same subaccount stopped.

        The account is reported once its markets are known (`Return`). What the tape was to bear
        out, what we took of recorded levels, and our places in queues are forgotten.
        """
        restore(self.ledger, state.ledger)
        self._account.carry_on(state.carried)
        self._return = Return(self._account, self._seen)

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in; return the account frames that it caused."""
        if isinstance(event, MarketView):
            seen = self._seen
            seen.now = seen.views[event.ticker] = event
            # Most views are of markets in which nothing of ours is at stake; hours are counted.
            if self._idle and block_and_hour(event)[1] <= seen.hour:
                return []
            if self._is_calm and self._pass(event):
                return []
        first = None if self._account.messages else self._greet(event)
        if isinstance(event, MarketView):
            if first or self._return is None:
                self._see(event)
        else:
            self._send(event)
        then = self._flush()
        return first + then if first else then

    def deposit(self, quote_quantums: int) -> list[Frame]:
        """Bring USDC in from the wallet; return the account frames of it."""
        if quote_quantums <= 0:
            raise PaperError(f"expected a deposit above 0 quote quantums, got {quote_quantums}")
        first = self._account.greeting()
        self._account.deposit(quote_quantums)
        return first + self._flush()

    def withdraw(self, quote_quantums: int) -> list[Frame]:
        """Take USDC out to the wallet; return the account frames of it.

        What collateral, or an account just worth less than nothing, does not allow moves nothing
        and is counted in `refusals`, by the ledger's reason.
        """
        first, seen = self._account.greeting(), self._seen
        # While nothing is at stake blocks go by unseen.
        block = seen.block if seen.now is None else block_and_hour(seen.now)[0]
        self._account.withdraw(quote_quantums, block)
        return first + self._flush()

    def _flush(self) -> list[Frame]:
        """Report what the event changed, and find out whether anything is at stake."""
        markets = self.markets
        self._busy = {ticker for ticker in self._busy if markets[ticker].busy}
        watching = self.optimism.pending or self._account.owed
        self._idle = not (self.ledger.holdings or self._busy or watching)
        self._is_calm = not (watching or self._return or self.ledger.breached)
        return self._account.flush()

    def _greet(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Report the account, as soon as it is back."""
        if (back := self._return) is None:
            return self._account.greeting()
        if not isinstance(event, MarketView) or not back.is_due(event):
            return []
        self._return, self._valued_seq = None, -1
        self._value(event)
        self._catch_up(event.seq)
        first = back.finish(self._market)
        self._busy.update(self.markets)
        return first

    # --- messages of ours

    def _send(self, sent: OrderRequest | CancelRequest) -> None:
        """Send one on its way, unless the chain would not take it."""
        view = self._seen.views.get(sent.ticker)
        if view is None or view.market is None:
            self.refusals["ErrInvalidClob"] += 1  # and no market to name it by in an answer
            return
        market = self._market(view, view.market)
        if isinstance(sent, OrderRequest):
            self._request(market, sent)
        elif error := self._limits.of_cancel(sent, view):
            self.refusals[error] += 1
        else:
            self._wait(market, sent)

    def _request(self, market: PaperMarket, request: OrderRequest) -> None:
        view, order = market.view, Order.of(self.subaccount, request)
        self._value(view)
        open_orders = (market.stateful for market in self.markets.values())
        if error := self._limits.of_order(request, view, market.market, open_orders):
            market.refuse(order, error)
            return
        # A quiet market processes no blocks: let ids that have served their time go first.
        market.expire(view.chain.height)
        self._wait(market, order)
        if order.order_flags == SHORT_TERM:
            market.open(order)

    def _market(self, view: MarketView, market: PerpetualMarket) -> PaperMarket:
        known = self.markets.get(view.ticker)
        if known is None:
            known = PaperMarket(self._account, self._seen, self.optimism, view, market, self.queue)
            self.markets[view.ticker] = known
        return known

    def _wait(self, market: PaperMarket, sent: Order | CancelRequest) -> None:
        seen = self._seen
        if self._idle:  # it saw no blocks go by: they are counted from here
            seen.block, seen.hour = block_and_hour(market.view)
        market.inbox.append((seen.at + next(self._delays), sent))
        self._busy.add(market.market.ticker)

    # --- views

    def _pass(self, view: MarketView) -> bool:
        """Take in a view that can fill and end nothing; return False for one that may.

        While positions are held and all is calm, nearly every view is one: of a market in which
        nothing of ours waits, within the block at hand. `_see` would do the same with it.
        """
        if view.ticker in self._busy or view.status == _SETTLED or view.book.modelled:
            return False
        chain, changed = view.chain, view.changed
        if (chain.height or view.at // _SECOND_NS) != self._seen.block:
            return False
        if changed not in ("book", "trades"):
            if view.ticker in self.markets:  # of others nothing is held, and none has an order
                self._value(view)
            if view.seq != self._valued_seq:
                self._catch_up(view.seq)
                self._is_calm = not self.ledger.breached
        return self._is_calm

    def _see(self, view: MarketView) -> None:
        block, hour = block_and_hour(view)
        ticker, changed = view.ticker, view.changed
        if changed not in ("book", "trades"):
            self._value(view)
            self._catch_up(view.seq)
        elif view.book.modelled:  # with its trades the oracle price is reckoned again
            self._value(view)
        if ticker in self._account.owed:
            self._account.fund_late(ticker)
        if block != self._seen.block:
            self._new_block(block, hour)
        if changed in ("book", "bar") and ticker in self._busy:
            self.markets[ticker].meet(self._seen.at)
        elif changed == "trades":
            self._observe(view)
        if self.optimism.pending:
            self.optimism.settle(view.at)
        if view.status == _SETTLED and ticker in self.markets:
            self._chain.settle_finally(self.markets[ticker])
        if self.ledger.breached:
            self._chain.liquidate()

    def _value(self, view: MarketView) -> None:
        oracle, market, ticker, ledger = view.oracle, view.market, view.ticker, self._account.ledger
        if market is not None:
            # Governance moves grids, margin fractions and caps under open positions.
            if ticker in ledger.holdings:
                ledger.regrade(market)
            if (known := self.markets.get(ticker)) is not None:
                known.market = market
        if oracle is not None:
            price = oracle.digits, oracle.exponent, view.open_interest
            if price != ledger.worth.oracles.get(ticker):
                ledger.value(ticker, *price)

    def _catch_up(self, seq: int) -> None:
        """Value all that is held again: one frame moves many prices, and then the chain looks."""
        if seq != self._valued_seq:
            self._valued_seq = seq
            for ticker in list(self.ledger.holdings):
                self._value(self._seen.views[ticker])

    def _new_block(self, block: int, hour: int) -> None:
        seen = self._seen
        self._account.backstop.begin_block()
        for ticker in sorted(self._busy):
            self.markets[ticker].meet(seen.at)
            self.markets[ticker].end_block(self.min_price_change_ppm)
        if seen.hour and hour > seen.hour:
            self._account.fund(range(seen.hour + 1, hour + 1))
            self.ledger.mark(seen.when)
        seen.block, seen.hour = block, max(seen.hour, hour)

    def _observe(self, view: MarketView) -> None:
        """Hold trades of the tape against our fills, and let them reach what rests and waits."""
        market = self.markets[view.ticker] if view.ticker in self._busy else None
        for trade, at, size in traded(view) if market or self.optimism.pending else ():
            self.optimism.observe(view.ticker, trade.side, at, size, trade.at_ns)
            if market is not None:
                market.observe(trade, at, size)


# === Streams ===

# The venue on a stream: one line around `PaperVenue.step`.


def paper(
    venue: PaperVenue,
) -> Callable[[Observable[MarketView | OrderRequest | CancelRequest]], Observable[Frame]]:
    """Trade on a paper venue: its account frames, as the indexer would send them.

    Hot or cold as the source is; replays nothing but the snapshot that comes first; runs on the
    source's thread; completes and errors with it. The state is the venue's own, so that panels
    can read it: give each subscriber a venue. The first view (v) brings the snapshot (S), an order
    (o) the update that opens it (O), the next view the position (P) and then the fill (F):

        events  --v--o--v--v--|
        frames  --S--O--(P,F)-|
    """
    return fold(lambda: venue, PaperVenue.step)
