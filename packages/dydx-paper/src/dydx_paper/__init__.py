"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                     OrderBook · Ledger

`OrderBook` is the only matching engine of the house: price, time, and the chain's exceptions.
`Ledger` is one subaccount's money. `PaperVenue` trades one subaccount against recorded books;
`paper` lifts it onto a stream. `objection` says what the chain would refuse, and why.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long. Fees are rounded up, fills truncated.

Bias, on purpose and constant: an order waits for the next book view of its market, or the next
block, so it never trades on what it was decided on; then it is first in line for what it sees,
and nobody reacts to it. Resting orders fill late: when trades have eaten the whole queue that
stood before them, went through their price, or the other side crossed it.

Nothing here reads a clock, draws a random number or opens a socket.
Sources: v4-chain x/clob/memclob, x/clob/keeper, x/subaccounts; indexer ender and vulcan.
"""

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    SHORT_TERM,
    CancelRequest,
    Frame,
    GridError,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
    event_id,
    fill_to_quote,
    fold,
    order_id,
    subaccount_id,
    ws_frame,
)
from dydx_risk import (
    PPM,
    LiquidationTerms,
    MarginFigures,
    PositionMargin,
    bankruptcy_price,
    fillable_price,
    fillable_subticks,
    funding_index_delta,
    funding_settlement,
    funding_settlement_ppm,
    insurance_fund_delta,
    is_liquidatable,
    liquidation_size,
    maintenance_margin_ppm,
    mixes_isolated,
    mul_ppm,
    position_margin,
    state_change,
    total_margin,
)
from reactivex import Observable

if TYPE_CHECKING:
    from dydx_data import MarketView, Trade

__all__ = [
    "MAKER",
    "TAKER",
    "Accounts",
    "FeeTier",
    "Fees",
    "Figures",
    "Fill",
    "Holding",
    "Ledger",
    "Match",
    "Order",
    "OrderBook",
    "PaperVenue",
    "Positions",
    "Rejection",
    "Result",
    "Stamp",
    "asset_fields",
    "basic_objection",
    "code_of",
    "fee_tier",
    "fill_fields",
    "objection",
    "order_fields",
    "paper",
    "position_fields",
    "staking_discount_ppm",
]

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob" (x/clob/types/errors.go).

_CODES: Final = {
    "": 0,
    "ErrConditionalOrderNotSimulated": -1,  # ours, not the chain's: a limit of this venue
    "ErrInvalidClob": 3,
    "ErrInvalidOrderQuantums": 4,
    "ErrInvalidOrderSubticks": 6,
    "ErrOrderIsCanceled": 7,
    "ErrHeightExceedsGoodTilBlock": 10,
    "ErrGoodTilBlockExceedsShortBlockWindow": 11,
    "ErrInvalidPlaceOrder": 12,
    "ErrInvalidReplacement": 20,
    "ErrOrderFullyFilled": 24,
    "ErrInvalidOrderGoodTilBlock": 27,
    "ErrOperationConflictsWithClobPairStatus": 34,
    "ErrDeprecatedField": 48,
    "ErrReduceOnlyWouldIncreasePositionSize": 2001,
    "ErrPostOnlyWouldCrossMakerOrder": 2003,
    "ErrImmediateExecutionOrderAlreadyFilled": 2004,
    "ErrWouldViolateIsolatedSubaccountConstraints": 2005,
    "ErrInvalidStatefulOrderGoodTilBlockTime": 3001,
    "ErrLongTermOrdersCannotRequireImmediateExecution": 3002,
    "ErrTimeExceedsGoodTilBlockTime": 3003,
    "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow": 3004,
    "ErrStatefulOrderAlreadyExists": 3005,
    "ErrStatefulOrderDoesNotExist": 3006,
    "ErrInvalidConditionType": 6000,
    "ErrReduceOnlyDisabled": 9003,
}


def code_of(error: str) -> int:
    """Return the chain's code of an error name: 0 for none."""
    return _CODES[error]


# === Values ===

Key = tuple[Subaccount, int, int]
"""An order's identity in one market: its subaccount, client id and flags."""

MAKER: Final = 1
TAKER: Final = 2

_SELF_TRADE: Final = "SELF_TRADE_ERROR"
_UNDERCOLLATERALIZED: Final = "UNDERCOLLATERALIZED"
_REDUCE_ONLY_RESIZE: Final = "REDUCE_ONLY_RESIZE"
_WOULD_REST: Final = "IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK"
_POST_ONLY_CROSSED: Final = "POST_ONLY_WOULD_CROSS_MAKER_ORDER"


class Order(msgspec.Struct, gc=False, kw_only=True):
    """An order as the book holds it; the book itself counts `filled` up.

    `good_til_block` 0 never expires: background liquidity of a venue.
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

    @property
    def key(self) -> Key:
        """Return the identity under which the book knows the order."""
        return (self.subaccount, self.client_id, self.order_flags)

    @property
    def remaining(self) -> int:
        """Return the quantums not filled yet."""
        return self.quantums - self.filled

    @classmethod
    def of(cls, subaccount: Subaccount, request: OrderRequest) -> "Order":
        """Make the order that a request asks for."""
        asked = {name: getattr(request, name) for name in _ASKED}
        return cls(subaccount=subaccount, **asked)


_ASKED: Final = tuple(
    name for name in Order.__struct_fields__ if name in OrderRequest.__struct_fields__
)


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """When something happened: the frame that caused it, its time, the chain's, its block."""

    seq: int = 0
    at: int = 0
    time_ns: int = 0
    height: int = 0


_NEVER: Final = Stamp()


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
    taken at all. `removed` holds what left the book unfilled, the taker's own rest included,
    each with the indexer's removal reason.
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

    __slots__ = ("positions",)

    def __init__(self, positions: dict[Subaccount, int] | None = None):
        self.positions = {} if positions is None else positions

    def position(self, subaccount: Subaccount) -> int:
        """Return the signed position, 0 for a stranger."""
        return self.positions.get(subaccount, 0)

    def check(self, match: Match) -> int:
        """Find nobody short of collateral."""
        return 0

    def settle(self, match: Match) -> None:
        """Move the quantums from seller to buyer."""
        bought = match.quantums if match.taker.side == "BUY" else -match.quantums
        taker, maker = match.taker.subaccount, match.maker.subaccount
        self.positions[taker] = self.positions.get(taker, 0) + bought
        self.positions[maker] = self.positions.get(maker, 0) - bought


# === Order book ===


class OrderBook:
    """One market's orders, matched by price, then time, then the chain's exceptions.

    Validity of an order by itself (grid, flags, market status) is not judged here but in
    `objection`, before. Not thread-safe. Source: x/clob/memclob/memclob.go.
    """

    __slots__ = (
        "_asks", "_bids", "_cancelled", "_changes", "_expiring", "_past", "_reduce_only",
        "_stateful", "accounts", "market", "orders",
    )  # fmt: skip

    def __init__(
        self,
        market: PerpetualMarket,
        accounts: Accounts | None = None,
        *,
        track_changes: bool = False,
    ):
        self.market = market
        self.accounts: Accounts = Positions() if accounts is None else accounts
        self.orders: dict[Key, Order] = {}
        self._bids = _BookSide("BUY", 1)
        self._asks = _BookSide("SELL", -1)
        self._reduce_only: dict[Subaccount, dict[Key, Order]] = {}
        self._stateful: dict[Key, Order] = {}
        # A short-term id keeps its fill amount, and its cancel, until the block has passed.
        self._past: dict[Key, Order] = {}
        self._cancelled: dict[Key, int] = {}
        self._expiring: dict[int, list[Key]] = {}
        self._changes: dict[tuple[Side, int], None] | None = {} if track_changes else None

    @property
    def best_bid(self) -> int | None:
        """Return the highest price bid, in subticks."""
        return self._bids.best

    @property
    def best_ask(self) -> int | None:
        """Return the lowest price asked, in subticks."""
        return self._asks.best

    def levels(self, side: Side, n: int) -> list[tuple[int, int]]:
        """Return the best `n` levels as (subticks, quantums), best first."""
        book_side = self._bids if side == "BUY" else self._asks
        ranks = book_side.ranks[: -n - 1 : -1]
        return [(abs(rank), book_side.levels[abs(rank)].quantums) for rank in ranks]

    def place(self, order: Order) -> Result:
        """Match an order and rest what may rest; whatever happens is in the result."""
        result = Result(order)
        result.error = self._objection(order)
        if result.error:
            return result
        self._take_over(order)
        opposite = self._asks if order.side == "BUY" else self._bids
        if opposite.crosses(order.subticks):
            self._match(order, opposite, result)
        if order.filled < order.quantums:
            self._finish(order, result)
        else:
            self._remember(order)
        return result

    def cancel(self, key: Key, good_til_block: int | None = None) -> Order | None:
        """Take an order off the book and return it, if it was there.

        With `good_til_block` the rules of a short-term cancel hold: a smaller one than the
        order's leaves it, and later placements up to it are refused.
        """
        order = self.orders.get(key)
        if good_til_block is not None:
            if order is not None and good_til_block < order.good_til_block:
                return None
            self._cancelled[key] = good_til_block
            self._expiring.setdefault(good_til_block, []).append(key)
        if order is not None:
            self._remove(order)
        return order

    def expire(self, height: int, time: int = 0) -> list[Order]:
        """Remove and return what ended with block `height` or by `time` (unix seconds)."""
        gone: list[Order] = []
        for block in sorted(block for block in self._expiring if block <= height):
            for key in self._expiring.pop(block):
                self._forget(key, block)
                order = self.orders.get(key)
                if order is not None and order.good_til_block == block:
                    self._remove(order)
                    gone.append(order)
        if self._stateful:
            late = [o for o in self._stateful.values() if o.good_til_block_time <= time]
            for order in late:
                self._remove(order)
            gone += late
        return gone

    def take_changes(self) -> list[tuple[Side, int, int]]:
        """Return (side, subticks, quantums now) of levels touched since the last call."""
        changes = self._changes or {}
        self._changes = {}
        return [
            (side, subticks, (self._bids if side == "BUY" else self._asks).total(subticks))
            for side, subticks in changes
        ]

    def _objection(self, order: Order) -> str:
        key = order.key
        standing = self.orders.get(key)
        if standing is None and self._past:
            standing = self._past.get(key)
        if standing is not None:
            objection = _replacement_objection(standing, order)
            if objection:
                return objection
        if self._cancelled and self._cancelled.get(key, -1) >= order.good_til_block:
            return "ErrOrderIsCanceled"
        if order.reduce_only:
            position = self.accounts.position(order.subaccount)
            if (position >= 0) if order.side == "BUY" else (position <= 0):
                return "ErrReduceOnlyWouldIncreasePositionSize"
        return ""

    def _take_over(self, order: Order) -> None:
        standing = self.orders.get(order.key)
        if standing is not None:
            self._remove(standing)
        if self._past:
            standing = self._past.pop(order.key, standing)
        if standing is not None:
            order.filled = standing.filled

    def _match(self, order: Order, opposite: "_BookSide", result: Result) -> None:
        while order.filled < order.quantums and opposite.crosses(order.subticks):
            maker = opposite.first()
            if maker.subaccount == order.subaccount:
                self._drop(maker, _SELF_TRADE, result)
                continue
            quantums = self._tradable(maker, order)
            if quantums <= 0:
                self._drop(maker, _REDUCE_ONLY_RESIZE, result)
                continue
            match = Match(maker, order, quantums, maker.subticks)
            failed = self.accounts.check(match)
            if failed & MAKER:
                self._drop(maker, _UNDERCOLLATERALIZED, result)
            if failed & TAKER:
                result.status = "Undercollateralized"
                return
            if not failed and not self._trade(match, opposite, result):
                return

    def _tradable(self, maker: Order, taker: Order) -> int:
        quantums = min(maker.remaining, taker.remaining)
        for order in (maker, taker):
            if order.reduce_only:
                position = self.accounts.position(order.subaccount)
                quantums = min(quantums, -position if order.side == "BUY" else position)
        return quantums

    def _trade(self, match: Match, opposite: "_BookSide", result: Result) -> bool:
        """Fill one match; say whether the taker may go on."""
        maker, taker = match.maker, match.taker
        if taker.time_in_force == "POST_ONLY":
            result.error = "ErrPostOnlyWouldCrossMakerOrder"
            return False
        parties = (taker.subaccount, maker.subaccount)
        before = [self.accounts.position(party) for party in parties]
        self.accounts.settle(match)
        after = [self.accounts.position(party) for party in parties]
        taker.filled += match.quantums
        maker.filled += match.quantums
        opposite.levels[maker.subticks].quantums -= match.quantums
        if self._changes is not None:
            self._changes[opposite.side, maker.subticks] = None
        if maker.filled == maker.quantums:
            self._remove(maker)
        result.fills.append(match)
        for party, old, new in zip(parties, before, after, strict=True):
            if party in self._reduce_only and _sign(old) != _sign(new):
                for order in list(self._reduce_only[party].values()):
                    self._drop(order, _REDUCE_ONLY_RESIZE, result)
        if taker.reduce_only and after[0] == 0 and taker.remaining:
            result.status = "ReduceOnlyResized"
            return False
        return True

    def _finish(self, order: Order, result: Result) -> None:
        """Rest what is left of an order, or say why it may not."""
        if result.status == "Success" and order.time_in_force != "IOC" and not result.error:
            self._rest(order)
            return
        if result.status == "Success":
            result.status = "ImmediateOrCancelWouldRestOnBook"
        if not result.error:
            result.removed.append((order, _REMOVALS[result.status]))
        if order.filled:
            self._remember(order)

    def _rest(self, order: Order) -> None:
        key = order.key
        self.orders[key] = order
        (self._bids if order.side == "BUY" else self._asks).add(key, order)
        if order.good_til_block:
            self._expiring.setdefault(order.good_til_block, []).append(key)
        if order.good_til_block_time:
            self._stateful[key] = order
        if order.reduce_only:
            self._reduce_only.setdefault(order.subaccount, {})[key] = order
        if self._changes is not None:
            self._changes[order.side, order.subticks] = None

    def _remove(self, order: Order) -> None:
        key = order.key
        del self.orders[key]
        (self._bids if order.side == "BUY" else self._asks).discard(key, order)
        if order.reduce_only:
            siblings = self._reduce_only[order.subaccount]
            del siblings[key]
            if not siblings:
                del self._reduce_only[order.subaccount]
        if order.good_til_block_time:
            del self._stateful[key]
        if order.filled:
            self._remember(order)
        if self._changes is not None:
            self._changes[order.side, order.subticks] = None

    def _drop(self, order: Order, reason: str, result: Result) -> None:
        self._remove(order)
        result.removed.append((order, reason))

    def _remember(self, order: Order) -> None:
        if order.good_til_block:
            key = order.key
            self._past[key] = order
            self._expiring.setdefault(order.good_til_block, []).append(key)

    def _forget(self, key: Key, block: int) -> None:
        past = self._past.get(key)
        if past is not None and past.good_til_block <= block:
            del self._past[key]
        if self._cancelled.get(key, block + 1) <= block:
            del self._cancelled[key]


_REMOVALS: Final = {
    "Undercollateralized": _UNDERCOLLATERALIZED,
    "ReduceOnlyResized": _REDUCE_ONLY_RESIZE,
    "ImmediateOrCancelWouldRestOnBook": _WOULD_REST,
}


def _replacement_objection(standing: Order, order: Order) -> str:
    if order.order_flags != SHORT_TERM:
        return "ErrStatefulOrderAlreadyExists"
    alike = (
        order.side == standing.side
        and order.time_in_force == standing.time_in_force
        and order.reduce_only == standing.reduce_only
    )
    # At equal blocks the chain compares hashes, which nobody can rely on: refused here.
    if not alike or order.good_til_block <= standing.good_til_block:
        return "ErrInvalidReplacement"
    if order.time_in_force == "IOC" and standing.filled:
        return "ErrImmediateExecutionOrderAlreadyFilled"
    return "ErrOrderFullyFilled" if order.quantums <= standing.filled else ""


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


class _Level:
    __slots__ = ("orders", "quantums")

    def __init__(self) -> None:
        self.orders: dict[Key, Order] = {}
        self.quantums = 0


class _BookSide:
    """The orders of one side; `ranks` are signed prices, the best of them last."""

    __slots__ = ("levels", "ranks", "side", "sign")

    def __init__(self, side: Side, sign: int):
        self.side: Side = side
        self.sign = sign
        self.ranks: list[int] = []
        self.levels: dict[int, _Level] = {}

    @property
    def best(self) -> int | None:
        return abs(self.ranks[-1]) if self.ranks else None

    def crosses(self, subticks: int) -> bool:
        """Tell whether the best price satisfies a taker's limit."""
        return bool(self.ranks) and self.ranks[-1] >= self.sign * subticks

    def first(self) -> Order:
        return next(iter(self.levels[abs(self.ranks[-1])].orders.values()))

    def total(self, subticks: int) -> int:
        level = self.levels.get(subticks)
        return level.quantums if level is not None else 0

    def add(self, key: Key, order: Order) -> None:
        level = self.levels.get(order.subticks)
        if level is None:
            level = self.levels[order.subticks] = _Level()
            insort(self.ranks, self.sign * order.subticks)
        level.orders[key] = order
        level.quantums += order.quantums - order.filled

    def discard(self, key: Key, order: Order) -> None:
        level = self.levels[order.subticks]
        del level.orders[key]
        level.quantums -= order.quantums - order.filled
        if not level.orders:
            del self.levels[order.subticks]
            del self.ranks[bisect_left(self.ranks, self.sign * order.subticks)]


# === Validity ===
# What the chain refuses before it looks at the book.

STATEFUL_WINDOW_SECONDS: Final = 95 * 86_400


def basic_objection(order: OrderRequest) -> str:
    """Name what is wrong with an order by itself, or return nothing.

    Source: x/clob/types/message_place_order.go, ValidateBasic, in its order.
    """
    if order.quantums <= 0:
        return "ErrInvalidOrderQuantums"
    if order.time_in_force not in ("GTT", "IOC", "POST_ONLY"):
        return "ErrDeprecatedField"
    if order.order_flags == SHORT_TERM:
        if order.good_til_block <= 0:
            return "ErrInvalidOrderGoodTilBlock"
    elif order.good_til_block_time <= 0:
        return "ErrInvalidStatefulOrderGoodTilBlockTime"
    if order.order_flags == LONG_TERM and order.time_in_force == "IOC":
        return "ErrLongTermOrdersCannotRequireImmediateExecution"
    if order.subticks <= 0:
        return "ErrInvalidOrderSubticks"
    if order.reduce_only and order.time_in_force != "IOC":
        return "ErrReduceOnlyDisabled"
    if (order.condition_type != "") != (order.order_flags == CONDITIONAL):
        return "ErrInvalidConditionType"
    return ""


def objection(
    order: OrderRequest,
    market: PerpetualMarket,
    *,
    status: str = "ACTIVE",
    height: int = 0,
    time: int = 0,
    short_block_window: int = 40,
) -> str:
    """Name what the chain would refuse an order for before matching, or return nothing.

    `height` is the last block and `time` its unix seconds; 0 is unknown and not judged.
    """
    basic = basic_objection(order)
    if basic:
        return basic
    on_grid = not (
        order.quantums % market.step_base_quantums or order.subticks % market.subticks_per_tick
    )
    if order.clob_pair_id != market.clob_pair_id or not on_grid:
        return "ErrInvalidPlaceOrder"
    resting = order.time_in_force == "POST_ONLY" and status in ("INITIALIZING", "POST_ONLY")
    if status not in ("ACTIVE", "") and not resting:
        return "ErrOperationConflictsWithClobPairStatus"
    return _expiry_objection(order, height, time, short_block_window)


def _expiry_objection(order: OrderRequest, height: int, time: int, window: int) -> str:
    if order.order_flags == SHORT_TERM:
        if height and order.good_til_block < height + 1:
            return "ErrHeightExceedsGoodTilBlock"
        if height and order.good_til_block > height + 1 + window:
            return "ErrGoodTilBlockExceedsShortBlockWindow"
        return ""
    if time and order.good_til_block_time <= time:
        return "ErrTimeExceedsGoodTilBlockTime"
    if time and order.good_til_block_time > time + STATEFUL_WINDOW_SECONDS:
        return "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow"
    return ""


# === Fees ===


class Fees(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What fills cost, in parts per million of their quote; a negative one is a rebate."""

    taker_ppm: int = 500
    maker_ppm: int = 100

    def of(self, quote_quantums: int, liquidity: str) -> int:
        """Return the fee of a fill in quote quantums, rounded up: rebates too."""
        charged = self.taker_ppm if liquidity == "TAKER" else self.maker_ppm
        return mul_ppm(quote_quantums, charged, round_up=True)

    def discounted(self, charge_ppm: int = PPM, staking_discount_ppm: int = 0) -> "Fees":
        """Apply a market's charge, then what staking saves, each truncated; rebates save none."""
        taker, maker = (
            int(Fraction(fee * charge_ppm, PPM)) for fee in (self.taker_ppm, self.maker_ppm)
        )
        left = PPM - staking_discount_ppm
        return Fees(
            taker_ppm=taker * left // PPM if taker > 0 else taker,
            maker_ppm=maker * left // PPM if maker > 0 else maker,
        )


class FeeTier(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A row of the chain's fee table: what it asks for, in quote quantums and ppm of 30 days."""

    name: str
    volume: int
    total_share_ppm: int = 0
    maker_share_ppm: int = 0
    fees: Fees


def fee_tier(
    tiers: Sequence[FeeTier], maker: int, taker: int, everybody: int, *, is_vault: bool = False
) -> FeeTier:
    """Return the tier that 30-day volumes reach: up while each row's demands are met.

    Source: x/feetiers/keeper, getUserFeeTier.
    """
    if is_vault:
        return tiers[-1]
    reached = tiers[0]
    for tier in tiers[1:]:
        if (
            maker + taker < tier.volume
            or (maker + taker) * PPM < tier.total_share_ppm * everybody
            or maker * PPM < tier.maker_share_ppm * everybody
        ):
            break
        reached = tier
    return reached


def staking_discount_ppm(levels: Sequence[tuple[int, int]], staked: int) -> int:
    """Return the discount of the highest (stake, discount) level that a stake reaches."""
    return max((discount for least, discount in levels if 0 < staked >= least), default=0)


# === Ledger ===


class Holding(msgspec.Struct, gc=False, kw_only=True):
    """One position from its opening to its end, with the indexer's averages.

    Costs are sums of quantums times subticks, so that every average is exact. `net_funding` is
    what funding brought, in quote quantums.
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
    status: str = "OPEN"
    created: Stamp = _NEVER
    ended: Stamp | None = None

    @property
    def realized(self) -> int:
        """Return the profit of what was closed, with funding, without fees: quote quantums."""
        return self.gain_of(self.closed, self.close_cost) + self.net_funding

    def unrealized(self, net_notional: int) -> int:
        """Return the profit of what is open at its present value, in quote quantums."""
        return net_notional - self._per_opened(self.quantums * self.open_cost)

    def gain_of(self, quantums: int, cost: int) -> int:
        """Return what closing `quantums` for `cost` earns over the average entry."""
        gain = cost * self.opened - self.open_cost * quantums
        return self._per_opened(gain if self.is_long else -gain)

    def _per_opened(self, numerator: int) -> int:
        exponent = self.market.quantum_conversion_exponent
        up, down = _POWERS[max(0, exponent)], _POWERS[max(0, -exponent)]
        return numerator * up // (self.opened * down)


_POWERS: Final[list[int]] = [10**power for power in range(40)]
_NO_MARGIN: Final = PositionMargin()


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums. Every payment has its other end in
    `paid_for_fills`, `fees_paid`, `funding_paid` or `insurance_paid`: taken from `deposits`
    they always leave the balance.
    """

    def __init__(self, subaccount: Subaccount, deposit: int = 0):
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.holdings: dict[str, Holding] = {}
        self.paid_for_fills = self.fees_paid = self.funding_paid = self.insurance_paid = 0
        self.wins = self.losses = 0
        self._realized = self._opened = 0
        self._oracles: dict[str, tuple[int, int, int | None]] = {}
        self._parts: dict[str, PositionMargin] = {}
        self._net = self._initial = self._maintenance = 0
        self._unvalued: set[str] = set()
        self._indices: dict[str, int] = {}

    def deposit(self, quote_quantums: int) -> None:
        """Bring collateral in, or take it out (negative)."""
        self.deposits += quote_quantums
        self.collateral += quote_quantums

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int,
        fee: int = 0, insurance: int = 0, when: Stamp = _NEVER,
    ) -> list[Holding]:  # fmt: skip
        """Buy (positive) or sell at a price; return the positions touched, the ended first."""
        size = abs(quantums)
        self.fees_paid += fee
        self.insurance_paid += insurance
        self.collateral -= fee + insurance
        quote = market.quote_quantums(size, subticks)
        return self.exchange(market, quantums, quote, when, cost=size * subticks)

    def exchange(
        self, market: PerpetualMarket, quantums: int, quote: int,
        when: Stamp = _NEVER, *, cost: int | None = None,
    ) -> list[Holding]:  # fmt: skip
        """Swap signed quantums against `quote` (unsigned) quote quantums, as deleveraging does."""
        if cost is None:
            cost = fill_to_quote(quote, 1, -market.quantum_conversion_exponent)
        paid = quote if quantums > 0 else -quote
        self.paid_for_fills += paid
        self.collateral -= paid
        touched: list[Holding] = []
        holding, size = self.holdings.get(market.ticker), abs(quantums)
        if holding is not None and holding.is_long != (quantums > 0):
            closing = min(size, abs(holding.quantums))
            share = cost * closing // size
            self._close(holding, closing, share, when)
            touched.append(holding)
            size, cost = size - closing, cost - share
        if size:
            touched.append(self._open(market, size if quantums > 0 else -size, cost, when))
        self._revalue(market.ticker)
        return touched

    def value(
        self, ticker: str, price: int, exponent: int, open_interest: int | None = None
    ) -> None:
        """Take in a market's oracle price (an integer and its power of ten)."""
        self._oracles[ticker] = (price, exponent, open_interest)
        if ticker in self.holdings:
            self._revalue(ticker)

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def part(self, ticker: str) -> PositionMargin:
        """Return what one position adds to the account; nothing if it has no value yet."""
        return self._parts.get(ticker, _NO_MARGIN)

    def margin_of(self, market: PerpetualMarket, quantums: int) -> PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return position_margin(market, quantums, *self._oracles[market.ticker])

    @property
    def margin(self) -> MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        return total_margin(self.collateral, self._parts.values(), sorted(self._unvalued))

    @property
    def breached(self) -> bool:
        """Tell whether the chain may liquidate; never while a position has no price."""
        net = self.collateral + self._net
        return not self._unvalued and is_liquidatable(net, self._maintenance)

    @property
    def realized(self) -> int:
        """Return the profit of all that was ever closed, with funding, without fees."""
        return self._realized + sum(holding.realized for holding in self.holdings.values())

    @property
    def unrealized(self) -> int:
        """Return the profit of what is open, at the latest oracle prices."""
        held, parts = self.holdings, self._parts
        return sum(held[t].unrealized(part.net_notional) for t, part in parts.items())

    def affords(self, market: PerpetualMarket, quantums: int, subticks: int, fee: int) -> bool:
        """Tell whether the chain would let this fill happen to the account."""
        if self._unvalued or market.ticker not in self._oracles:
            return False
        quote = market.quote_quantums(abs(quantums), subticks)
        old = self.part(market.ticker)
        new = self.margin_of(market, self.position(market.ticker) + quantums)
        net = self.collateral + self._net
        paid = (quote if quantums > 0 else -quote) + fee
        after = MarginFigures(
            net - paid + new.net_notional - old.net_notional,
            self._initial + new.initial_margin - old.initial_margin,
            self._maintenance + new.maintenance_margin - old.maintenance_margin,
        )
        before = MarginFigures(net, self._initial, self._maintenance)
        return state_change(before, after) == "Success"

    def settle_funding(self, indices: Mapping[str, int]) -> list[Holding]:
        """Settle what the funding indices moved; one floor for the account, as the chain."""
        self._indices.update(indices)
        credits: list[int] = []
        touched: list[Holding] = []
        for ticker, holding in self.holdings.items():
            index = self._indices.get(ticker, 0)
            if index != holding.funding_index:
                credit = funding_settlement_ppm(holding.quantums, index, holding.funding_index)
                holding.funding_index = index
                holding.net_funding += credit // PPM
                credits.append(credit)
                touched.append(holding)
        credited = funding_settlement(credits)
        self.collateral += credited
        self.funding_paid -= credited
        return touched

    def _open(self, market: PerpetualMarket, quantums: int, cost: int, when: Stamp) -> Holding:
        ticker = market.ticker
        holding = self.holdings.get(ticker)
        if holding is None:
            self._opened += 1
            holding = self.holdings[ticker] = Holding(
                market=market,
                id=event_id("position", self.subaccount, ticker, self._opened),
                is_long=quantums > 0,
                funding_index=self._indices.get(ticker, 0),
                created=when,
            )
        holding.opened += abs(quantums)
        holding.open_cost += cost
        holding.quantums += quantums
        holding.peak = max(holding.peak, holding.quantums, key=abs)
        return holding

    def _close(self, holding: Holding, size: int, cost: int, when: Stamp) -> None:
        gain = holding.gain_of(size, cost)
        self.wins += gain > 0
        self.losses += gain < 0
        holding.closed += size
        holding.close_cost += cost
        holding.quantums -= size if holding.is_long else -size
        if not holding.quantums:
            holding.status, holding.ended = "CLOSED", when
            self._realized += holding.realized
            del self.holdings[holding.market.ticker]

    def _revalue(self, ticker: str) -> None:
        old = self._parts.pop(ticker, _NO_MARGIN)
        new = _NO_MARGIN
        holding = self.holdings.get(ticker)
        self._unvalued.discard(ticker)
        if holding is not None and ticker in self._oracles:
            new = self._parts[ticker] = self.margin_of(holding.market, holding.quantums)
        elif holding is not None:
            self._unvalued.add(ticker)
        self._net += new.net_notional - old.net_notional
        self._initial += new.initial_margin - old.initial_margin
        self._maintenance += new.maintenance_margin - old.maintenance_margin


# === Wire ===
# The indexer's own contents, field by field.

_DECIMALS: Final = Context(prec=28)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Fields = dict[str, Any]


class Fill(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One fill of the venue's account; a liquidation's `fee` went to the insurance fund."""

    id: str
    when: Stamp
    ticker: str
    side: Side
    liquidity: str
    type: str
    price: Decimal
    size: Decimal
    quantums: int
    subticks: int
    quote: int
    fee: int
    order_id: str | None


def _iso(ns: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(number: Decimal) -> str:
    return f"{number.normalize(_DECIMALS):f}" if number else "0"


def _plain(number: Decimal) -> Decimal:
    return Decimal(_text(number))


def _usdc(quote_quantums: int) -> str:
    return _text(Decimal(quote_quantums).scaleb(-6))


def _average(market: PerpetualMarket, cost: int, quantums: int) -> str | None:
    return _text(_DECIMALS.divide(market.price(cost), quantums)) if quantums else None


def position_fields(ledger: Ledger, holding: Holding) -> Fields:
    """Write a position as the subaccount channel does, valued at the latest oracle price."""
    market = holding.market
    value = ledger.part(market.ticker).net_notional if holding.quantums else 0
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "positionId": holding.id, "market": market.ticker,
        "side": "LONG" if holding.is_long else "SHORT", "status": holding.status,
        "size": _text(market.size(holding.quantums)),
        "maxSize": _text(market.size(holding.peak)),
        "netFunding": _usdc(holding.net_funding),
        "entryPrice": _average(market, holding.open_cost, holding.opened),
        "exitPrice": _average(market, holding.close_cost, holding.closed),
        "sumOpen": _text(market.size(holding.opened)),
        "sumClose": _text(market.size(holding.closed)),
        "realizedPnl": _usdc(holding.realized),
        "unrealizedPnl": _usdc(holding.unrealized(value)),
        "createdAt": _iso(holding.created.time_ns),
        "createdAtHeight": str(holding.created.height),
        "closedAt": _iso(holding.ended.time_ns) if holding.ended else None,
    }  # fmt: skip


def asset_fields(ledger: Ledger) -> Fields:
    """Write the USDC balance; a debt is a SHORT of positive size."""
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "assetId": "0", "symbol": "USDC",
        "side": "SHORT" if ledger.collateral < 0 else "LONG",
        "size": _usdc(abs(ledger.collateral)),
    }  # fmt: skip


def order_fields(id_: str, order: Order, market: PerpetualMarket, when: Stamp) -> Fields:
    """Write an order, all but its status."""
    stateful = order.order_flags != SHORT_TERM
    expiry = _iso(order.good_til_block_time * 1_000_000_000) if stateful else None
    return {
        "id": id_, "subaccountId": subaccount_id(order.subaccount),
        "clientId": str(order.client_id), "clobPairId": str(order.clob_pair_id),
        "side": order.side, "size": _text(market.size(order.quantums)),
        "price": _text(market.price(order.subticks)), "type": "LIMIT",
        "timeInForce": "IOC" if order.time_in_force == "IOC" else "GTT",
        "postOnly": order.time_in_force == "POST_ONLY", "reduceOnly": order.reduce_only,
        "orderFlags": str(order.order_flags),
        "goodTilBlock": None if stateful else str(order.good_til_block),
        "goodTilBlockTime": expiry, "ticker": market.ticker,
        "clientMetadata": str(order.client_metadata),
        "totalFilled": _text(market.size(order.filled)),
        "updatedAt": _iso(when.time_ns), "updatedAtHeight": str(when.height),
    }  # fmt: skip


def fill_fields(subaccount: Subaccount, fill: Fill, order: Order) -> Fields:
    """Write a fill of one side."""
    return {
        "id": fill.id, "subaccountId": subaccount_id(subaccount), "side": fill.side,
        "size": _text(fill.size), "price": _text(fill.price), "fee": _usdc(fill.fee),
        "liquidity": fill.liquidity, "type": fill.type, "orderId": fill.order_id,
        "clobPairId": str(order.clob_pair_id), "ticker": fill.ticker,
        "quoteAmount": _usdc(fill.quote), "clientMetadata": str(order.client_metadata),
        "createdAt": _iso(fill.when.time_ns), "createdAtHeight": str(fill.when.height),
    }  # fmt: skip


class _Changes:
    """What one step changed, gathered into one message."""

    __slots__ = ("fills", "orders", "positions")

    def __init__(self) -> None:
        self.orders: dict[str, Fields] = {}
        self.fills: list[Fields] = []
        self.positions: dict[str, Holding] = {}

    def contents(self, ledger: Ledger, height: int) -> Fields:
        contents: Fields = {}
        if self.fills:
            contents["fills"] = self.fills
        if self.positions:
            held = [position_fields(ledger, holding) for holding in self.positions.values()]
            contents["perpetualPositions"] = held
            contents["assetPositions"] = [asset_fields(ledger)]
        if self.orders:
            contents["orders"] = list(self.orders.values())
        if contents:
            contents["blockHeight"] = str(height)
        return contents


# === Venue ===


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A request that the chain would not have taken, under the chain's own name and code."""

    when: Stamp
    ticker: str
    client_id: int
    error: str
    code: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue's account did so far; money in quote quantums, no equity if unknown."""

    equity: int | None
    collateral: int
    realized_pnl: int
    unrealized_pnl: int
    fees_paid: int
    funding_paid: int
    insurance_paid: int
    fills: int
    liquidations: int
    deleveragings: int
    wins: int
    losses: int
    orders: dict[str, int]
    rejections: int
    recent_fills: tuple[Fill, ...]
    recent_rejections: tuple[Rejection, ...]

    @property
    def win_rate(self) -> float | None:
        """Return the share of closing fills that earned; None before the first."""
        closed = self.wins + self.losses
        return self.wins / closed if closed else None


class PaperVenue:
    """One subaccount on a venue made of recorded books; `step` is all there is to it.

    `positions` opens at the start, per ticker, (signed quantums, subticks) without a fee, as soon
    as the market and its oracle price are known. The insurance fund is bottomless.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int, *,
        fees: Fees | None = None, terms: LiquidationTerms | None = None,
        positions: Mapping[str, tuple[int, int]] | None = None,
        short_block_window: int = 40, recent: int = 64,
    ):  # fmt: skip
        self.subaccount = subaccount
        self.ledger = Ledger(subaccount, deposit)
        self.fees = fees or Fees()
        self.terms = terms or LiquidationTerms()
        self.fills = self.liquidations = self.deleveragings = self.rejections = 0
        self.recent_fills: deque[Fill] = deque(maxlen=recent)
        self.recent_rejections: deque[Rejection] = deque(maxlen=recent)
        self._window = short_block_window
        self._opening = dict(positions or {})
        self._views: dict[str, MarketView] = {}
        self._desks: dict[str, _Desk] = {}
        self._busy: set[str] = set()
        self._now: MarketView | None = None
        self._idle = False
        self._block = self._hour = self._messages = 0
        self._ended: Counter[str] = Counter()
        self._funding: dict[str, int] = {}
        self._liquidated: set[str] = set()
        self._liquidated_notional = 0
        self._changes = _Changes()

    def step(self, event: "MarketView | OrderRequest | CancelRequest") -> list[Frame]:
        """Take one event in; return the account frames that it caused."""
        if isinstance(event, OrderRequest):
            self._request(event)
            return self._flush()
        if isinstance(event, CancelRequest):
            self._cancel(event)
            return []
        self._now = event
        self._views[event.ticker] = event
        # Most views are of markets in which nothing of ours is at stake.
        return _NOTHING if self._idle else self._see(event)

    def figures(self) -> Figures:
        """Sum up what the account did and what it is worth now."""
        ledger, margin = self.ledger, self.ledger.margin
        standing = (status for desk in self._desks.values() for status in desk.statuses.values())
        return Figures(
            equity=margin.net_collateral if margin.known else None,
            collateral=ledger.collateral,
            realized_pnl=ledger.realized, unrealized_pnl=ledger.unrealized,
            fees_paid=ledger.fees_paid, funding_paid=ledger.funding_paid,
            insurance_paid=ledger.insurance_paid, fills=self.fills,
            liquidations=self.liquidations, deleveragings=self.deleveragings,
            wins=ledger.wins, losses=ledger.losses,
            orders=dict(self._ended + Counter(standing)), rejections=self.rejections,
            recent_fills=tuple(self.recent_fills),
            recent_rejections=tuple(self.recent_rejections),
        )  # fmt: skip

    def _see(self, view: "MarketView") -> list[Frame]:
        # Without a block stream, seconds stand for blocks: the chain makes about one a second.
        block = view.chain.height or view.at // _SECOND_NS
        first = [] if self._messages else [self._snapshot()]
        ticker, changed = view.ticker, view.changed
        if self._opening:
            self._open_positions(view)
        if block != self._block:
            self._new_block(block)
        if changed in ("oracle", "market") and ticker in self.ledger.holdings:
            self._revalue(view)
        if ticker in self._busy and changed == "trades":
            self._hear(self._desks[ticker])
        elif ticker in self._busy and changed == "book":
            self._meet(self._desks[ticker])
        if self.ledger.breached:
            self._liquidate()
        return first + self._flush()

    # --- requests

    def _request(self, request: OrderRequest) -> None:
        view = self._views.get(request.ticker)
        market = None if view is None else view.market
        if view is None or market is None:
            self._reject(request, "ErrInvalidClob")
            return
        chain, status = view.chain, view.status
        error = objection(
            request, market, status=status, height=chain.height,
            time=chain.time_ns // _SECOND_NS, short_block_window=self._window,
        )  # fmt: skip
        held = {holding.market.ticker: holding.market for holding in self.ledger.holdings.values()}
        if not error and request.order_flags == CONDITIONAL:
            error = "ErrConditionalOrderNotSimulated"
        if not error and mixes_isolated((held | {market.ticker: market}).values()):
            error = "ErrWouldViolateIsolatedSubaccountConstraints"
        if error:
            self._reject(request, error)
            return
        desk = self._desk(view, market)
        # A quiet desk hears of no blocks: let ids that have served their time go first.
        desk.book.expire(chain.height)
        order = Order.of(self.subaccount, request)
        desk.id_of(order)
        self._wait(desk, request)
        if request.order_flags == SHORT_TERM:
            self._tell(desk, order, "BEST_EFFORT_OPENED")

    def _cancel(self, request: CancelRequest) -> None:
        desk = self._desks.get(request.ticker)
        key = (self.subaccount, request.client_id, request.order_flags)
        if desk is not None and key in desk.ids:
            self._wait(desk, request)
        elif request.order_flags != SHORT_TERM:
            self._reject(request, "ErrStatefulOrderDoesNotExist")

    def _wait(self, desk: "_Desk", request: OrderRequest | CancelRequest) -> None:
        when = self._when()
        if self._idle:
            self._block = when.height or when.at // _SECOND_NS
            self._hour = when.time_ns // _HOUR_NS
        desk.inbox.append(_Entry(request, when.seq, self._block))
        self._busy.add(desk.market.ticker)

    def _reject(self, request: OrderRequest | CancelRequest, error: str) -> None:
        code, ticker, client_id = code_of(error), request.ticker, request.client_id
        self.rejections += 1
        self.recent_rejections.append(Rejection(self._when(), ticker, client_id, error, code))
        desk = self._desks.get(ticker)
        standing = (
            desk is not None and (self.subaccount, client_id, request.order_flags) in desk.ids
        )
        # What stands under this id goes on: a refusal speaks of the request alone.
        if isinstance(request, OrderRequest) and not standing:
            id_ = order_id(self.subaccount, request)
            self._changes.orders[id_] = {
                "id": id_, "subaccountId": subaccount_id(self.subaccount), "ticker": ticker,
                "clientId": str(client_id), "clobPairId": str(request.clob_pair_id),
                "orderFlags": str(request.order_flags), "status": "CANCELED",
                "removalReason": f"clob {code}: {error}",
            }  # fmt: skip

    # --- the market moves

    def _new_block(self, block: int) -> None:
        self._block = block
        self._liquidated.clear()
        self._liquidated_notional = 0
        for ticker in sorted(self._busy):
            desk = self._desks[ticker]
            self._meet(desk)
            chain = desk.view.chain
            for order in desk.book.expire(chain.height, chain.time_ns // _SECOND_NS):
                self._end(desk, order, "EXPIRED")
            for request in desk.give_up(chain.height):
                self._end(desk, Order.of(self.subaccount, request), "EXPIRED")
            self._settle_down(desk)
        hour = self._when().time_ns // _HOUR_NS
        if self._hour and hour > self._hour:
            self._fund(hour - self._hour)
        self._hour = hour

    def _fund(self, hours: int) -> None:
        for ticker, holding in self.ledger.holdings.items():
            view, market = self._views[ticker], holding.market
            if view.oracle is None or not view.funding.known:
                continue
            mmf_ppm = maintenance_margin_ppm(market.imf_ppm, market.maintenance_fraction_ppm)
            most = 6 * (market.imf_ppm - mmf_ppm)
            rate_8h_ppm = int(Decimal(view.funding.next_rate_text) * 8 * PPM)
            self._funding[ticker] = self._funding.get(ticker, 0) + funding_index_delta(
                min(max(rate_8h_ppm, -most), most), 3_600 * hours,
                view.oracle.digits, view.oracle.exponent, market.atomic_resolution,
            )  # fmt: skip
        self._touch(self.ledger.settle_funding(self._funding))

    def _value(self, view: "MarketView") -> bool:
        oracle = view.oracle
        if oracle is not None:
            self.ledger.value(view.ticker, oracle.digits, oracle.exponent, view.open_interest)
        return oracle is not None

    def _revalue(self, view: "MarketView") -> None:
        if view.market is not None:
            # Governance moves margin fractions and caps under open positions.
            self.ledger.holdings[view.ticker].market = view.market
            desk = self._desk(view, view.market)
            desk.market = desk.book.market = view.market
        self._value(view)

    def _open_positions(self, view: "MarketView") -> None:
        if view.ticker in self._opening and view.market is not None and self._value(view):
            quantums, subticks = self._opening.pop(view.ticker)
            self._touch(self.ledger.fill(view.market, quantums, subticks, when=self._when()))

    def _meet(self, desk: "_Desk") -> None:
        """Let what rests and what waits meet the book as it is now."""
        readable = desk.readable and self._value(desk.view)
        if readable and desk.book.orders:
            for order in desk.crossing():
                self._report(desk, desk.book.place(order))
        waiting, desk.inbox = desk.inbox, []
        for entry in waiting:
            request = entry.request
            if desk.view.book.seq <= entry.seq and self._block <= entry.block:
                desk.inbox.append(entry)
            elif isinstance(request, CancelRequest):
                self._take_back(desk, request)
            elif readable:
                self._take(desk, Order.of(self.subaccount, request), request)
            elif request.time_in_force == "IOC":
                # An unknown book shows nothing to fill against, and this order cannot wait.
                self._end(desk, Order.of(self.subaccount, request), _WOULD_REST)
            else:
                desk.inbox.append(entry)
        self._settle_down(desk)

    def _hear(self, desk: "_Desk") -> None:
        """Fill resting orders that the tape says would have been reached."""
        if desk.readable and desk.book.orders and self._value(desk.view):
            for trade in desk.view.fresh:
                for order in desk.reached(trade):
                    self._report(desk, desk.book.place(order))
            self._settle_down(desk)

    def _take(self, desk: "_Desk", order: Order, request: OrderRequest | None = None) -> Result:
        crowd = [desk.book.place(level).order for level in desk.crowd(order.side, order.subticks)]
        result = desk.book.place(order)
        for level in crowd:
            desk.book.cancel(level.key)
        self._report(desk, result, request)
        return result

    def _take_back(self, desk: "_Desk", request: CancelRequest) -> None:
        key = (self.subaccount, request.client_id, request.order_flags)
        block = request.good_til_block if request.order_flags == SHORT_TERM else None
        order = desk.book.cancel(key, block)
        if order is not None:
            self._end(desk, order, "USER_CANCELED")

    def _settle_down(self, desk: "_Desk") -> None:
        if not desk.inbox and not desk.book.orders:
            self._busy.discard(desk.market.ticker)

    def _desk(self, view: "MarketView", market: PerpetualMarket) -> "_Desk":
        desk = self._desks.get(market.ticker)
        if desk is None:
            desk = self._desks[market.ticker] = _Desk(self, view, market)
        return desk

    # --- what came of it

    def settle(self, desk: "_Desk", match: Match) -> None:
        """Book one match of ours; called by the book itself."""
        market, when = desk.market, self._when()
        order, liquidity = desk.ours(match)
        signed = match.quantums if order.side == "BUY" else -match.quantums
        quote = market.quote_quantums(match.quantums, match.subticks)
        insurance = self._insurance(market, signed, quote) if order.liquidation else 0
        fee = 0 if order.liquidation else self.fees.of(quote, liquidity)
        touched = self.ledger.fill(market, signed, match.subticks, fee, insurance, when)
        if order.liquidation and touched[0].ended:
            touched[0].status = "LIQUIDATED"
        self._touch(touched)
        type_ = "LIQUIDATED" if order.liquidation else "LIMIT"
        self._record(desk, match, order, liquidity, type_, fee + insurance)

    def _insurance(self, market: PerpetualMarket, signed: int, quote: int) -> int:
        ledger = self.ledger
        rest = ledger.margin_of(market, ledger.position(market.ticker) + signed)
        bankruptcy = bankruptcy_price(ledger.margin, ledger.part(market.ticker), rest)
        received = -quote if signed > 0 else quote
        return insurance_fund_delta(bankruptcy, received, self.terms.max_liquidation_fee_ppm)

    def _record(
        self, desk: "_Desk", match: Match, order: Order, liquidity: str, type_: str, fee: int
    ) -> None:
        market, when, id_ = desk.market, self._when(), desk.ids.get(order.key)
        quantums, subticks = match.quantums, match.subticks
        self.fills += 1
        fill = Fill(
            id=event_id("fill", self.subaccount, id_, when.seq, self.fills),
            when=when, ticker=market.ticker, side=order.side, liquidity=liquidity, type=type_,
            price=_plain(market.price(subticks)), size=_plain(market.size(quantums)),
            quantums=quantums, subticks=subticks,
            quote=market.quote_quantums(quantums, subticks), fee=fee, order_id=id_,
        )  # fmt: skip
        self.recent_fills.append(fill)
        self._changes.fills.append(fill_fields(self.subaccount, fill, order))

    def _report(self, desk: "_Desk", result: Result, request: OrderRequest | None = None) -> None:
        """Tell what a placement did to every order of ours in it."""
        for match in result.fills:
            if match.maker.subaccount == self.subaccount:
                self._tell(desk, match.maker, "OPEN" if match.maker.remaining else "FILLED")
        for order, reason in result.removed:
            if order.subaccount == self.subaccount and not order.liquidation:
                self._end(desk, order, reason)
        if request is not None:
            self._placed(desk, result, request)

    def _placed(self, desk: "_Desk", result: Result, request: OrderRequest) -> None:
        order, standing = result.order, desk.book.orders.get(result.order.key)
        if result.error == "ErrPostOnlyWouldCrossMakerOrder":
            self._end(desk, order, _POST_ONLY_CROSSED)
            return
        if not order.remaining:
            self._tell(desk, order, "FILLED")
        elif standing is not None:
            if standing is order:
                desk.rest(order, self._when().time_ns)
            opened = standing.filled or standing.order_flags != SHORT_TERM
            self._tell(desk, standing, "OPEN" if opened else "BEST_EFFORT_OPENED")
        elif result.error:
            desk.forget(order.key)
        if result.error:
            self._reject(request, result.error)

    def _end(self, desk: "_Desk", order: Order, reason: str) -> None:
        final = reason == "EXPIRED" or order.filled or order.order_flags != SHORT_TERM
        fields = self._tell(desk, order, "CANCELED" if final else "BEST_EFFORT_CANCELED")
        fields["totalOptimisticFilled"] = fields["totalFilled"]
        fields["removalReason"] = f"ORDER_REMOVAL_REASON_{reason}"

    def _tell(self, desk: "_Desk", order: Order, status: str) -> Fields:
        id_ = desk.id_of(order)
        fields = order_fields(id_, order, desk.market, self._when())
        fields["status"] = desk.statuses[order.key] = status
        self._changes.orders[id_] = fields
        if status in _ENDED:
            self._ended[status] += 1
            desk.forget(order.key)
        return fields

    def _touch(self, holdings: Iterable[Holding]) -> None:
        for holding in holdings:
            self._changes.positions[holding.id] = holding

    # --- liquidation

    def _liquidate(self) -> None:
        """Liquidate position after position, each once a block, until the account is safe."""
        holdings = sorted(self.ledger.holdings.values(), key=lambda h: h.market.clob_pair_id)
        # The chain starts at a pseudo-random position; the block's number is ours.
        first = self._block % len(holdings)
        for holding in holdings[first:] + holdings[:first]:
            ticker = holding.market.ticker
            desk = self._desk(self._views[ticker], holding.market)
            if self.ledger.breached and ticker not in self._liquidated and desk.readable:
                self._liquidated.add(ticker)
                self._liquidate_position(desk, holding)

    def _liquidate_position(self, desk: "_Desk", holding: Holding) -> None:
        market, ledger, oracle = desk.market, self.ledger, desk.view.oracle
        left = self.terms.max_subaccount_notional - self._liquidated_notional
        if left <= 0 or oracle is None:
            return
        totals, part = ledger.margin, ledger.part(market.ticker)
        allowed = msgspec.structs.replace(self.terms, max_subaccount_notional=left)
        held, price, exponent = holding.quantums, oracle.digits, oracle.exponent
        size = liquidation_size(market, held, price, exponent, allowed)
        worst = fillable_subticks(
            fillable_price(totals, part, held, self.terms), is_long=holding.is_long,
            quantum_conversion_exponent=market.quantum_conversion_exponent,
            subticks_per_tick=market.subticks_per_tick,
        )  # fmt: skip
        order = Order(
            subaccount=self.subaccount, client_id=0, clob_pair_id=market.clob_pair_id,
            side="BUY" if size > 0 else "SELL", quantums=abs(size), subticks=worst,
            time_in_force="IOC", order_flags=_LIQUIDATION, liquidation=True,
        )  # fmt: skip
        filled = self._take(desk, order).filled
        self._liquidated_notional += abs(ledger.margin_of(market, filled).net_notional)
        if filled:
            self.liquidations += 1
        elif totals.net_collateral < 0:
            self._deleverage(desk, holding, order, bankruptcy_price(totals, part, _NO_MARGIN))

    def _deleverage(self, desk: "_Desk", holding: Holding, order: Order, received: int) -> None:
        """Hand the whole position to a counterparty at its bankruptcy price."""
        self.deleveragings += 1
        market, held = desk.market, holding.quantums
        quote = received if holding.is_long else -received
        self._touch(self.ledger.exchange(market, -held, quote, self._when()))
        price = fill_to_quote(quote, 1, -market.quantum_conversion_exponent) // abs(held)
        match = Match(order, order, abs(held), price)
        self._record(desk, match, order, "TAKER", "DELEVERAGED", 0)

    # --- frames

    def _when(self) -> Stamp:
        view = self._now
        if view is None:
            return _NEVER
        return Stamp(view.seq, view.at, view.chain.time_ns or view.at, view.chain.height)

    def _flush(self) -> list[Frame]:
        self._idle = not (self.ledger.holdings or self._busy or self._opening)
        contents = self._changes.contents(self.ledger, self._when().height)
        if not contents:
            return []
        self._changes = _Changes()
        first = [] if self._messages else [self._snapshot()]
        return [*first, self._frame("channel_data", contents)]

    def _snapshot(self) -> Frame:
        ledger, margin, height = self.ledger, self.ledger.margin, str(self._when().height)
        held = {t: position_fields(ledger, h) for t, h in ledger.holdings.items()}
        subaccount = {
            "address": self.subaccount.owner, "subaccountNumber": self.subaccount.number,
            "equity": _usdc(margin.net_collateral),
            "freeCollateral": _usdc(margin.free_collateral),
            "openPerpetualPositions": held, "assetPositions": {"USDC": asset_fields(ledger)},
            "marginEnabled": True, "updatedAtHeight": height,
            "latestProcessedBlockHeight": height,
        }  # fmt: skip
        contents = {"subaccount": subaccount, "orders": [], "blockHeight": height}
        return self._frame("subscribed", contents)

    def _frame(self, type_: str, contents: Fields) -> Frame:
        when = self._when()
        self._messages += 1
        message = {
            "type": type_, "connection_id": event_id("connection", self.subaccount),
            "message_id": self._messages, "id": str(self.subaccount),
            "channel": "v4_subaccounts", "version": "3.0.0", "contents": contents,
        }  # fmt: skip
        # A view carries no monotonic time: pacing is the recording's business.
        text = msgspec.json.encode(message).decode()
        return ws_frame(when.seq, when.at, when.at, "paper", text)


_NOTHING: Final[list[Frame]] = []
_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _SECOND_NS
_ENDED: Final = frozenset(["FILLED", "CANCELED", "BEST_EFFORT_CANCELED"])
_LIQUIDATION: Final = -1
_CROWD: Final = Subaccount("recorded market", 0)


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """A request on its way: what it was decided on, so that it meets something later."""

    request: OrderRequest | CancelRequest
    seq: int
    block: int


# === Desk ===
# One market as our orders meet it.

_SIDES: Final[tuple[Side, ...]] = ("BUY", "SELL")
_TAPE: Final = -1


class _Desk:
    """What the venue's account does in one market, and whom it meets there.

    The recorded market appears on our book as the crowd: as makers while an order of ours is
    matched, as takers when it comes to orders of ours that rest.
    """

    __slots__ = (
        "_ahead", "_prices", "_rested", "_taken", "book", "ids", "inbox", "market", "statuses",
        "venue", "view",
    )  # fmt: skip

    def __init__(self, venue: PaperVenue, view: "MarketView", market: PerpetualMarket):
        self.venue = venue
        self.view = view
        self.market = market
        self.book = OrderBook(market, self)
        self.inbox: list[_Entry] = []
        self.ids: dict[Key, str] = {}
        self.statuses: dict[Key, str] = {}
        self._taken: dict[tuple[Side, int], tuple[int, int]] = {}
        self._ahead: dict[Key, int] = {}
        self._rested: dict[Key, int] = {}
        self._prices: dict[str, int] = {}

    @property
    def readable(self) -> bool:
        """Tell whether the book can be believed and the market trades."""
        view = self.view
        return view.book.known and not view.quality.stale and view.status in ("ACTIVE", "")

    def id_of(self, order: Order) -> str:
        """Return the indexer's id of an order of ours, and know the order by it."""
        id_ = self.ids.get(order.key)
        if id_ is None:
            named = CancelRequest(
                ticker=self.market.ticker, clob_pair_id=order.clob_pair_id,
                client_id=order.client_id, order_flags=order.order_flags,
            )  # fmt: skip
            id_ = self.ids[order.key] = order_id(order.subaccount, named)
        return id_

    def ours(self, match: Match) -> tuple[Order, str]:
        """Return our side of a match."""
        if match.taker.subaccount == self.venue.subaccount:
            return match.taker, "TAKER"
        return match.maker, "MAKER"

    def position(self, subaccount: Subaccount) -> int:
        """Return our position; the crowd has none to speak of."""
        ours = subaccount == self.venue.subaccount
        return self.venue.ledger.position(self.market.ticker) if ours else 0

    def check(self, match: Match) -> int:
        """Judge our collateral; the crowd's orders were good when they were recorded."""
        order, liquidity = self.ours(match)
        signed = match.quantums if order.side == "BUY" else -match.quantums
        quote = self.market.quote_quantums(match.quantums, match.subticks)
        fee = self.venue.fees.of(quote, liquidity)
        affords = self.venue.ledger.affords
        if order.liquidation or affords(self.market, signed, match.subticks, fee):
            return 0
        return TAKER if liquidity == "TAKER" else MAKER

    def settle(self, match: Match) -> None:
        """Book the match and remember what it took from the recorded level."""
        self.venue.settle(self, match)
        crowd = match.maker if match.taker.subaccount == self.venue.subaccount else match.taker
        if crowd.client_id != _TAPE:
            level, offset = (crowd.side, crowd.subticks), crowd.client_metadata
            self._taken[level] = (self._taken_of(level, offset) + match.quantums, offset)

    def crowd(self, side: Side, subticks: int) -> Iterable[Order]:
        """Yield what the recorded book offers a taker, as orders, up to its limit."""
        book = self.view.book
        opposite: Side = "SELL" if side == "BUY" else "BUY"
        levels = book.asks() if side == "BUY" else book.bids()
        for number, level in enumerate(levels):
            at = self._subticks(level.price_text)
            if (at > subticks) if side == "BUY" else (0 < at < subticks):
                return
            left = self._quantums(level.size_text) - self._taken_of((opposite, at), level.offset)
            if at and left > 0:
                yield self._crowd_order(opposite, left, at, number, level.offset)

    def crossing(self) -> Iterable[Order]:
        """Yield the recorded levels that have come to orders of ours, as takers."""
        for side in _SIDES:
            while (best := self._best(side)) is not None and self._within_reach(side, best):
                order = next(iter(self.crowd(side, best)), None)
                if order is None:
                    break
                order.time_in_force = "IOC"
                yield order

    def reached(self, trade: "Trade") -> Iterable[Order]:
        """Yield the takers that a recorded trade sends to orders of ours, one by one.

        A trade through a price fills up to its size. One at the price first eats the queue that
        stood there before us: cancellations in that queue are not counted in our favour.
        """
        subticks, left = self._subticks(trade.price_text), self._quantums(trade.size_text)
        if not subticks:
            return
        side: Side = "BUY" if trade.side == "BUY" else "SELL"
        sign = 1 if side == "SELL" else -1
        ours = [order for order in self.book.orders.values() if order.side != side]
        for order in sorted(ours, key=lambda order: -sign * order.subticks):
            through = sign * (order.subticks - subticks)
            if through < 0 or trade.at_ns <= self._rested[order.key]:
                continue
            fillable = left
            if through == 0:
                fillable -= self._ahead[order.key]
                self._ahead[order.key] = max(0, -fillable)
            if fillable > 0:
                size = min(fillable, order.remaining)
                taker = self._crowd_order(side, size, order.subticks, _TAPE, 0)
                taker.time_in_force = "IOC"
                yield taker
                left -= taker.filled

    def rest(self, order: Order, time_ns: int) -> None:
        """Take an order's place at the end of its queue."""
        book = self.view.book
        levels = book.bids() if order.side == "BUY" else book.asks()
        self._ahead[order.key] = sum(
            self._quantums(level.size_text)
            for level in levels
            if self._subticks(level.price_text) == order.subticks
        )
        self._rested[order.key] = time_ns

    def give_up(self, height: int) -> list[OrderRequest]:
        """Drop and return the orders whose block passed before they met a book."""
        late = [
            entry.request for entry in self.inbox
            if isinstance(entry.request, OrderRequest)
            and 0 < entry.request.good_til_block <= height
        ]  # fmt: skip
        self.inbox = [entry for entry in self.inbox if entry.request not in late]
        return late

    def forget(self, key: Key) -> None:
        """Drop what was kept of an order that has ended."""
        for kept in (self.ids, self.statuses, self._ahead, self._rested):
            kept.pop(key, None)

    def _within_reach(self, side: Side, subticks: int) -> bool:
        """Tell at little cost whether the recorded best price may have come to ours."""
        buys = side == "BUY"
        best = self.view.book.best_ask if buys else self.view.book.best_bid
        if best is None:
            return False
        at = self._subticks(best.price_text)
        return not at or (at <= subticks if buys else at >= subticks)

    def _best(self, side: Side) -> int | None:
        return self.book.best_bid if side == "BUY" else self.book.best_ask

    # Off this market's grid is 0: nothing that could be traded.
    def _subticks(self, price: str) -> int:
        subticks = self._prices.get(price)
        if subticks is None:
            try:
                subticks = self.market.subticks(price)
            except GridError:
                subticks = 0
            if len(self._prices) >= 4_096:
                self._prices.clear()
            self._prices[price] = subticks
        return subticks

    def _quantums(self, size: str) -> int:
        try:
            return self.market.quantums(size)
        except GridError:
            return 0

    def _taken_of(self, level: tuple[Side, int], offset: int) -> int:
        quantums, then = self._taken.get(level, (0, offset))
        return quantums if then == offset else 0

    def _crowd_order(
        self, side: Side, quantums: int, subticks: int, number: int, offset: int
    ) -> Order:
        return Order(
            subaccount=_CROWD, client_id=number, clob_pair_id=self.market.clob_pair_id,
            side=side, quantums=quantums, subticks=subticks, client_metadata=offset,
        )  # fmt: skip


# === Streams ===


def paper(
    venue: PaperVenue,
) -> Callable[[Observable["MarketView | OrderRequest | CancelRequest"]], Observable[Frame]]:
    """Trade on a paper venue: its account frames, as the indexer would send them.

    Hot or cold as the source is; replays nothing but the snapshot that comes first; runs on the
    source's thread; completes and errors with it. The state is the venue's own, so that panels
    can read it: give each subscriber a venue.

        events  --v--o--v----v--|
        frames  --S--a--a-------|
    """
    return fold(lambda: venue, PaperVenue.step)
