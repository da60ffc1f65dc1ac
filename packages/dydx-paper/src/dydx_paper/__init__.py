"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView | OrderRequest | CancelRequest ──► PaperVenue ──► account Frame

`OrderBook` is the only matching engine of the house.

Units: `quantums`, `subticks` and quote quantums are integers. Nothing here reads a clock,
draws a random number or opens a socket.
"""

from bisect import bisect_left, insort
from typing import Final, Protocol

import msgspec
from dydx_conn import (
    SHORT_TERM,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
)

__all__ = [
    "MAKER",
    "TAKER",
    "Accounts",
    "Match",
    "Order",
    "OrderBook",
    "Positions",
    "Result",
    "code_of",
]

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob" (x/clob/types/errors.go).

_CODES: Final = {
    "": 0,
    "ErrInvalidOrderQuantums": 4,
    "ErrInvalidOrderSubticks": 6,
    "ErrOrderIsCanceled": 7,
    "ErrHeightExceedsGoodTilBlock": 10,
    "ErrGoodTilBlockExceedsShortBlockWindow": 11,
    "ErrInvalidPlaceOrder": 12,
    "ErrInvalidReplacement": 20,
    "ErrOrderFullyFilled": 24,
    "ErrOperationConflictsWithClobPairStatus": 34,
    "ErrDeprecatedField": 48,
    "ErrReduceOnlyWouldIncreasePositionSize": 2001,
    "ErrPostOnlyWouldCrossMakerOrder": 2003,
    "ErrImmediateExecutionOrderAlreadyFilled": 2004,
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
        return cls(
            subaccount=subaccount,
            client_id=request.client_id,
            clob_pair_id=request.clob_pair_id,
            side=request.side,
            quantums=request.quantums,
            subticks=request.subticks,
            time_in_force=request.time_in_force,
            reduce_only=request.reduce_only,
            order_flags=request.order_flags,
            good_til_block=request.good_til_block,
            good_til_block_time=request.good_til_block_time,
            client_metadata=request.client_metadata,
        )


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
        "_asks",
        "_bids",
        "_cancelled",
        "_changes",
        "_expiring",
        "_past",
        "_reduce_only",
        "_stateful",
        "accounts",
        "market",
        "orders",
    )

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
        elif order.filled:
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
