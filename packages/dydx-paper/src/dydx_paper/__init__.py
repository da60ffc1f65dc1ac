"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                     OrderBook · Ledger

`OrderBook` is the only matching engine of the house: price, time, and the chain's exceptions.
`Ledger` is one subaccount's money. `PaperVenue` trades one subaccount against recorded books;
`paper` lifts it onto a stream. What the chain would refuse, dydx_conn's `objection` says.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long. Fees are rounded up, fills truncated.

Bias, on purpose and constant: an order waits for the next book view of its market, or the next
block, so it never trades on what it was decided on; then it is first in line for what it sees,
and nobody reacts to it. Resting orders fill last: when the other side comes to their price.

Nothing here reads a clock, draws a random number or opens a socket.
Sources: v4-chain x/clob/memclob, x/clob/keeper, x/subaccounts; indexer ender and vulcan.
"""

from bisect import bisect_left, insort_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from itertools import groupby, islice
from typing import Any, Final, Protocol

import dydx_risk as risk
import msgspec
from dydx_conn import (
    CONDITIONAL,
    SHORT_TERM,
    TWAP,
    CancelRequest,
    Fees,
    Frame,
    GridError,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    TimeInForce,
    code_of,
    event_id,
    fill_to_quote,
    fold,
    objection,
    order_id,
    subaccount_id,
    ws_frame,
)
from dydx_data import MarketView
from reactivex import Observable

__all__ = [
    "MAKER", "TAKER", "Accounts", "Fees", "Holding", "Ledger", "Match", "Order",
    "OrderBook", "PaperVenue", "Positions", "Result", "Stamp", "code_of",
    "objection", "paper",
]  # fmt: skip

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob". What this venue alone refuses has a code that the chain cannot have.

_OURS: Final = {"ErrConditionalOrderNotSimulated": -1, "ErrTwapOrderNotSimulated": -1}
_NOT_SIMULATED: Final = dict(zip((CONDITIONAL, TWAP), _OURS, strict=True))


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
        up, down = (int(10 ** max(0, power)) for power in (exponent, -exponent))
        return numerator * up // (self.opened * down)


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums. Every payment has its other end in
    `paid_for_fills`, `fees_paid`, `funding_paid` or `insurance_paid`: taken from `deposits`
    they always leave the balance. `indices` are the funding indices settled last,
    `oracles` price, exponent and open interest by ticker.
    """

    def __init__(self, subaccount: Subaccount, deposit: int = 0):
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.holdings: dict[str, Holding] = {}
        self.indices: dict[str, int] = {}
        self.paid_for_fills = self.fees_paid = self.funding_paid = self.insurance_paid = 0
        self.fills = self.liquidations = self.wins = self.losses = 0
        self._realized = self._opened = 0
        self.oracles: dict[str, tuple[int, int, int | None]] = {}
        self._parts: dict[str, risk.PositionMargin] = {}
        self._margin: risk.MarginFigures | None = None

    def deposit(self, quote_quantums: int) -> None:
        """Bring collateral in, or take it out (negative)."""
        self.deposits += quote_quantums
        self.collateral += quote_quantums
        self._margin = None

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int, fee: int = 0,
        insurance: int = 0, when: Stamp = _NEVER, *, quote: int | None = None,
    ) -> list[Holding]:  # fmt: skip
        """Buy (positive) or sell at a price; return the positions touched, the ended first.

        `quote` (unsigned quote quantums) overrules the price, as deleveraging does.
        """
        size, cost = abs(quantums), abs(quantums) * subticks
        paid = market.quote_quantums(size, subticks) if quote is None else quote
        paid = paid if quantums > 0 else -paid
        self.fills += 1
        self.paid_for_fills += paid
        self.fees_paid += fee
        self.insurance_paid += insurance
        self.collateral -= paid + fee + insurance
        touched: list[Holding] = []
        holding = self.holdings.get(market.ticker)
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

    def value(self, ticker: str, price: int, exponent: int, interest: int | None = None) -> None:
        """Take in a market's oracle price (an integer and its power of ten) and open interest."""
        self.oracles[ticker] = (price, exponent, interest)
        if ticker in self.holdings:
            self._revalue(ticker)

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def part(self, ticker: str) -> risk.PositionMargin:
        """Return what one position adds to the account; nothing if it has no value yet."""
        return self._parts.get(ticker) or risk.PositionMargin()

    def margin_of(self, market: PerpetualMarket, quantums: int) -> risk.PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return risk.position_margin(market, quantums, *self.oracles[market.ticker])

    @property
    def margin(self) -> risk.MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        if self._margin is None:
            unknown = sorted(self.holdings.keys() - self._parts.keys())
            self._margin = risk.total_margin(self.collateral, self._parts.values(), unknown)
        return self._margin

    @property
    def breached(self) -> bool:
        """Tell whether the chain may liquidate; never while a position has no price."""
        sums = self.margin
        return sums.known and risk.is_liquidatable(sums.net_collateral, sums.maintenance_margin)

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
        """Return the profit of what is open, at the latest oracle prices."""
        held = self.holdings
        return sum(held[t].unrealized(part.net_notional) for t, part in self._parts.items())

    def affords(self, market: PerpetualMarket, quantums: int, subticks: int, fee: int) -> bool:
        """Tell whether the chain would let this fill happen to the account."""
        before, ticker = self.margin, market.ticker
        if not before.known or ticker not in self.oracles:
            return False
        quote = market.quote_quantums(abs(quantums), subticks)
        paid = (quote if quantums > 0 else -quote) + fee
        part = self.margin_of(market, self.position(ticker) + quantums)
        after = risk.total_margin(self.collateral - paid, (self._parts | {ticker: part}).values())
        return risk.state_change(before, after) == "Success"

    def bankruptcy(self, market: PerpetualMarket, quantums: int) -> int:
        """Return the quote received, at the bankruptcy price, for closing by signed `quantums`."""
        rest = self.margin_of(market, self.position(market.ticker) + quantums)
        return risk.bankruptcy_price(self.margin, self.part(market.ticker), rest)

    def settle_funding(self, indices: Mapping[str, int]) -> list[Holding]:
        """Settle what the funding indices moved; one floor for the account, as the chain."""
        self.indices.update(indices)
        credits: list[int] = []
        touched: list[Holding] = []
        for ticker, holding in self.holdings.items():
            index, since = self.indices.get(ticker, 0), holding.funding_index
            if index != since:
                credits.append(risk.funding_settlement_ppm(holding.quantums, index, since))
                holding.funding_index = index
                holding.net_funding += credits[-1] // risk.PPM
                touched.append(holding)
        credited = risk.funding_settlement(credits)
        self.collateral += credited
        self.funding_paid -= credited
        self._margin = None
        return touched

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
        holding, self._margin = self.holdings.get(ticker), None
        if holding is not None and ticker in self.oracles:
            self._parts[ticker] = self.margin_of(holding.market, holding.quantums)
        else:
            self._parts.pop(ticker, None)


# === Wire ===
# The indexer's own contents, field by field.

_DECIMALS: Final = Context(prec=28)

Fields = dict[str, Any]


def _iso(ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(number: Decimal) -> str:
    return f"{number.normalize(_DECIMALS):f}" if number else "0"


def _usdc(quote_quantums: int) -> str:
    return _text(Decimal(quote_quantums).scaleb(-6))


def _average(market: PerpetualMarket, cost: int, quantums: int) -> str | None:
    return _text(_DECIMALS.divide(market.price(cost), quantums)) if quantums else None


def _position_fields(ledger: Ledger, holding: Holding) -> Fields:
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


def _asset_fields(ledger: Ledger) -> Fields:
    # A debt is a SHORT of positive size.
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "assetId": "0", "symbol": "USDC",
        "side": "SHORT" if ledger.collateral < 0 else "LONG",
        "size": _usdc(abs(ledger.collateral)),
    }  # fmt: skip


def _order_fields(order: Order, market: PerpetualMarket, when: Stamp, status: str) -> Fields:
    stateful = order.order_flags != SHORT_TERM
    return {
        "id": order.id, "subaccountId": subaccount_id(order.subaccount),
        "clientId": str(order.client_id), "clobPairId": str(order.clob_pair_id),
        "side": order.side, "size": _text(market.size(order.quantums)),
        "price": _text(market.price(order.subticks)), "type": "LIMIT",
        "timeInForce": "IOC" if order.time_in_force == "IOC" else "GTT",
        "postOnly": order.time_in_force == "POST_ONLY", "reduceOnly": order.reduce_only,
        "orderFlags": str(order.order_flags),
        "goodTilBlock": None if stateful else str(order.good_til_block),
        "goodTilBlockTime": _iso(order.good_til_block_time * _SECOND_NS) if stateful else None,
        "ticker": market.ticker, "clientMetadata": str(order.client_metadata),
        "totalFilled": _text(market.size(order.filled)),
        "updatedAt": _iso(when.time_ns), "updatedAtHeight": str(when.height),
        "status": status,
    }  # fmt: skip


# === Venue ===


class PaperVenue:
    """One subaccount on a venue made of recorded books; `step` is all there is to it.

    `refusals` counts what the chain would not have taken; the insurance fund is bottomless.
    """

    def __init__(
        self, subaccount: Subaccount, deposit: int, *,
        fees: Fees | None = None, terms: risk.LiquidationTerms | None = None,
    ):  # fmt: skip
        self.subaccount = subaccount
        self.ledger = Ledger(subaccount, deposit)
        self.fees = fees or Fees()
        self.terms = terms or risk.LiquidationTerms()
        self.refusals: Counter[str] = Counter()
        self._views: dict[str, MarketView] = {}
        self._desks: dict[str, _Desk] = {}
        self._busy: set[str] = set()
        self._now: MarketView | None = None
        self._idle = False
        self._block = self._hour = self._messages = 0
        self._liquidated: dict[str, int] = {}
        # What the step at hand changed, gathered into one message.
        self._told_fills: list[Fields] = []
        self._told_orders: dict[str, Fields] = {}
        self._touched: dict[str, Holding] = {}

    def step(self, event: MarketView | OrderRequest | CancelRequest) -> list[Frame]:
        """Take one event in; return the account frames that it caused."""
        if isinstance(event, MarketView):
            self._now = self._views[event.ticker] = event
            if self._idle:  # most views are of markets in which nothing of ours is at stake
                return _NOTHING
        first = [] if self._messages else [self._snapshot()]
        if isinstance(event, OrderRequest):
            self._request(event)
        elif isinstance(event, CancelRequest):
            self._wait(self._desks.get(event.ticker), event)
        else:
            self._see(event)
        return first + self._flush()

    def figures(self) -> Ledger:
        """Return what the account did and what it is worth: its ledger, which goes on living."""
        return self.ledger

    def _request(self, request: OrderRequest) -> None:
        view = self._views.get(request.ticker)
        if view is None or view.market is None:
            self.refusals["ErrInvalidClob"] += 1  # and no market to name it by in an answer
            return
        self._value(view)
        order, chain, ticker = Order.of(self.subaccount, request), view.chain, view.ticker
        desk = self._desks.get(ticker) or _Desk(self, view, view.market)
        self._desks[ticker] = desk
        seconds = chain.time_ns // _SECOND_NS
        error = objection(
            request, view.market, status=view.status, height=chain.height, time=seconds
        )
        error = error or _NOT_SIMULATED.get(order.order_flags, "")
        if error:
            self._refuse(desk, order, error)
            return
        # A quiet desk hears of no blocks: let ids that have served their time go first.
        desk.book.expire(chain.height)
        self._wait(desk, order)
        if order.order_flags == SHORT_TERM:
            self._tell(desk, order)

    def _wait(self, desk: "_Desk | None", request: Order | CancelRequest) -> None:
        if desk is not None:
            if self._idle:  # it saw no blocks go by: they are counted from here
                self._block, self._hour = _block_and_hour(desk.view)
            desk.inbox.append(request)
            self._busy.add(desk.market.ticker)

    def _refuse(self, desk: "_Desk", order: Order, error: str) -> None:
        self.refusals[error] += 1
        # What stands under this id goes on: a refusal speaks of the request alone.
        if order.id not in self._told_orders and order.key not in desk.book.orders:
            fields = self._tell(desk, order)
            code = _OURS.get(error) or code_of(error)
            fields |= {"status": "CANCELED", "removalReason": f"clob {code}: {error}"}

    def _see(self, view: MarketView) -> None:
        block, hour = _block_and_hour(view)
        if view.changed not in ("book", "trades"):
            self._value(view)
        if block != self._block:
            self._new_block(block, hour)
        if view.ticker in self._busy and view.changed == "book":
            self._meet(self._desks[view.ticker])
        if self.ledger.breached:
            self._liquidate()

    def _value(self, view: MarketView) -> None:
        oracle, market = view.oracle, view.market
        for kept in (self.ledger.holdings.get(view.ticker), self._desks.get(view.ticker)):
            if kept is not None and market is not None:
                # Governance moves grids, margin fractions and caps under open positions.
                kept.market = market
        if oracle is not None:
            self.ledger.value(view.ticker, oracle.digits, oracle.exponent, view.open_interest)

    def _new_block(self, block: int, hour: int) -> None:
        self._liquidated.clear()
        for ticker in sorted(self._busy):
            desk = self._desks[ticker]
            self._meet(desk)
            chain = desk.view.chain
            for order in desk.book.expire(chain.height, chain.time_ns // _SECOND_NS):
                self._tell(desk, order, "EXPIRED")
        if self._hour and hour > self._hour:
            self._fund(hour - self._hour)
        self._block, self._hour = block, max(self._hour, hour)

    def _fund(self, hours: int) -> None:
        indices = self.ledger.indices
        for ticker, holding in self.ledger.holdings.items():
            view, market = self._desks[ticker].view, holding.market
            if view.oracle is None or not view.funding.known:
                continue
            mmf_ppm = risk.maintenance_margin_ppm(market.imf_ppm, market.maintenance_fraction_ppm)
            most = 6 * (market.imf_ppm - mmf_ppm)
            rate_8h_ppm = int(Decimal(view.funding.next_rate_text) * 8 * risk.PPM)
            indices[ticker] = indices.get(ticker, 0) + risk.funding_index_delta(
                min(max(rate_8h_ppm, -most), most), 3_600 * hours,
                view.oracle.digits, view.oracle.exponent, market.atomic_resolution,
            )  # fmt: skip
        self._touched |= {holding.id: holding for holding in self.ledger.settle_funding(indices)}

    def _meet(self, desk: "_Desk") -> None:
        """Let what rests and what waits meet the book as it is now."""
        for taker in desk.crossing():
            self._report(desk, desk.book.place(taker))
        waiting, desk.inbox = desk.inbox, []
        for event in waiting:
            if isinstance(event, Order):
                if 0 < event.good_til_block < desk.view.chain.height:
                    self._tell(desk, event, "EXPIRED")
                else:
                    self._take(desk, event)
                continue
            key = (self.subaccount, event.client_id, event.order_flags)
            order = desk.book.cancel(key, event.good_til_block or None)
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
        self._report(desk, result)
        return result

    def fill(
        self, desk: "_Desk", order: Order, quantums: int, subticks: int, liquidity: str,
        type_: str, fee: int = 0, insurance: int = 0, *, quote: int | None = None,
    ) -> None:  # fmt: skip
        """Book a fill of ours and tell it."""
        market, when, id_ = desk.market, self._when(), order.id or None
        signed = order.sign * quantums
        touched = self.ledger.fill(market, signed, subticks, fee, insurance, when, quote=quote)
        if type_ == "LIQUIDATED" and touched[0].ended:
            touched[0].status = type_
        self._touched |= {holding.id: holding for holding in touched}
        self._told_fills.append({
            "id": event_id("fill", self.subaccount, id_, when.seq, self.ledger.fills),
            "subaccountId": subaccount_id(self.subaccount), "side": order.side,
            "size": _text(market.size(quantums)), "price": _text(market.price(subticks)),
            "fee": _usdc(fee + insurance), "liquidity": liquidity, "type": type_, "orderId": id_,
            "clobPairId": str(order.clob_pair_id), "ticker": market.ticker,
            "quoteAmount": _usdc(market.quote_quantums(quantums, subticks)),
            "clientMetadata": str(order.client_metadata),
            "createdAt": _iso(when.time_ns), "createdAtHeight": str(when.height),
        })  # fmt: skip

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

    def _tell(self, desk: "_Desk", order: Order, reason: str = "") -> Fields:
        """Tell how an order stands, or the indexer's reason for its end."""
        firm = order.filled or order.order_flags != SHORT_TERM or reason == "EXPIRED"
        status = "OPEN" if firm else "BEST_EFFORT_OPENED"
        if reason:
            status = "CANCELED" if firm else "BEST_EFFORT_CANCELED"
        elif not order.remaining:
            status = "FILLED"
        fields = _order_fields(order, desk.market, self._when(), status)
        if reason:
            fields["totalOptimisticFilled"] = fields["totalFilled"]
            fields["removalReason"] = f"ORDER_REMOVAL_REASON_{reason}"
        self._told_orders[order.id] = fields
        return fields

    def _liquidate(self) -> None:
        """Liquidate position after position, each once a block, until the account is safe."""
        # The chain starts at a pseudo-random position; the oldest one is ours.
        for ticker, holding in list(self.ledger.holdings.items()):
            desk = self._desks[ticker]
            left = self.terms.max_subaccount_notional - sum(self._liquidated.values())
            unsafe = self.ledger.breached and left > 0 and desk.readable
            if unsafe and ticker not in self._liquidated:
                self._liquidated[ticker] = self._liquidate_position(desk, holding, left)

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
        order = Order(
            subaccount=self.subaccount, client_id=0, clob_pair_id=market.clob_pair_id,
            side="BUY" if size > 0 else "SELL", quantums=abs(size), subticks=worst,
            time_in_force="IOC", order_flags=_LIQUIDATION, liquidation=True,
        )  # fmt: skip
        filled = self._take(desk, order).filled
        if filled:
            ledger.liquidations += 1
        elif margin.net_collateral < 0:
            # Nobody buys: a counterparty takes the whole position at its bankruptcy price.
            quote = -order.sign * ledger.bankruptcy(market, -held)
            price = fill_to_quote(quote, 1, -market.quantum_conversion_exponent) // abs(held)
            self.fill(desk, order, abs(held), price, "TAKER", "DELEVERAGED", quote=quote)
        return abs(ledger.margin_of(market, filled).net_notional)

    def _when(self) -> Stamp:
        view = self._now
        if view is None:
            return _NEVER
        return Stamp(view.seq, view.at, view.chain.time_ns or view.at, view.chain.height)

    def _flush(self) -> list[Frame]:
        """Tell what the step changed in one message, if it changed anything."""
        desks = self._desks
        self._busy = {t for t in self._busy if desks[t].inbox or desks[t].book.orders}
        self._idle = not (self.ledger.holdings or self._busy)
        if not (self._told_orders or self._touched):
            return _NOTHING
        positions = [_position_fields(self.ledger, holding) for holding in self._touched.values()]
        changes = {
            "fills": self._told_fills,
            "perpetualPositions": positions,
            "assetPositions": [_asset_fields(self.ledger)] if positions else [],
            "orders": list(self._told_orders.values()),
            "blockHeight": str(self._when().height),
        }
        frame = self._frame("channel_data", {name: what for name, what in changes.items() if what})
        self._told_fills, self._told_orders, self._touched = [], {}, {}
        return [frame]

    def _snapshot(self) -> Frame:
        ledger, margin, height = self.ledger, self.ledger.margin, str(self._when().height)
        held = {t: _position_fields(ledger, h) for t, h in ledger.holdings.items()}
        subaccount = {
            "address": self.subaccount.owner, "subaccountNumber": self.subaccount.number,
            "equity": _usdc(margin.net_collateral),
            "freeCollateral": _usdc(margin.free_collateral),
            "openPerpetualPositions": held, "assetPositions": {"USDC": _asset_fields(ledger)},
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
_LIQUIDATION: Final = -1
_CROWD: Final = Subaccount("recorded market", 0)


def _block_and_hour(view: MarketView) -> tuple[int, int]:
    # Without a block stream, seconds stand for blocks: the chain makes about one a second.
    chain = view.chain
    return chain.height or view.at // _SECOND_NS, (chain.time_ns or view.at) // _HOUR_NS


# === Desk ===
# One market as our orders meet it: the recorded market appears on our book as the crowd, as
# makers while an order of ours is matched, as takers when it comes to orders of ours that rest.

_SIDES: Final[tuple[Side, ...]] = ("BUY", "SELL")


class _Desk:
    __slots__ = ("_taken", "book", "inbox", "market", "venue", "view")

    def __init__(self, venue: PaperVenue, view: MarketView, market: PerpetualMarket):
        self.venue, self.view, self.market = venue, view, market
        self.book = OrderBook(market, self)
        self.inbox: list[Order | CancelRequest] = []
        # What we took of a recorded level, by its side, subticks and version.
        self._taken: Counter[tuple[Side, int, int]] = Counter()

    @property
    def readable(self) -> bool:
        """Tell whether the book can be believed and the market trades."""
        view = self.view
        trusted = view.book.known and view.oracle is not None and not view.quality.stale
        return trusted and view.status in ("ACTIVE", "")

    def position(self, subaccount: Subaccount) -> int:
        ours = subaccount == self.venue.subaccount  # the crowd has no position to speak of
        return self.venue.ledger.position(self.market.ticker) if ours else 0

    def check(self, match: Match) -> int:
        """Judge our collateral; the crowd's orders were good when they were recorded."""
        order, _, liquidity, quote = self._parties(match)
        signed, fee = order.sign * match.quantums, self.venue.fees.of(quote, liquidity)
        affords = self.venue.ledger.affords
        if order.liquidation or affords(self.market, signed, match.subticks, fee):
            return 0
        return TAKER if liquidity == "TAKER" else MAKER

    def settle(self, match: Match) -> None:
        """Book the match and remember what it took from the recorded level."""
        order, crowd, liquidity, quote = self._parties(match)
        fee, insurance, type_ = self.venue.fees.of(quote, liquidity), 0, "LIMIT"
        if order.liquidation:
            bankruptcy = self.venue.ledger.bankruptcy(self.market, order.sign * match.quantums)
            most = self.venue.terms.max_liquidation_fee_ppm
            insurance = risk.insurance_fund_delta(bankruptcy, -order.sign * quote, most)
            fee, type_ = 0, "LIQUIDATED"
        size, price = match.quantums, match.subticks
        self.venue.fill(self, order, size, price, liquidity, type_, fee, insurance)
        self._taken[crowd.side, crowd.subticks, crowd.client_metadata] += match.quantums

    def _parties(self, match: Match) -> tuple[Order, Order, str, int]:
        quote = self.market.quote_quantums(match.quantums, match.subticks)
        if match.taker.subaccount == self.venue.subaccount:
            return match.taker, match.maker, "TAKER", quote
        return match.maker, match.taker, "MAKER", quote

    def crowd(self, side: Side, subticks: int) -> Iterable[Order]:
        """Yield what the recorded book offers a taker, as orders, up to its limit."""
        book, buys = self.view.book, side == "BUY"
        opposite: Side = "SELL" if buys else "BUY"
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
                yield Order(
                    subaccount=_CROWD, client_id=number, clob_pair_id=self.market.clob_pair_id,
                    side=opposite, quantums=left, subticks=at, client_metadata=level.offset,
                )  # fmt: skip

    def crossing(self) -> Iterable[Order]:
        """Yield the recorded levels that have come to orders of ours, as takers."""
        for side in _SIDES:
            best = self.book.best_bid if side == "BUY" else self.book.best_ask
            for order in () if best is None else self.crowd(side, best):
                order.time_in_force = "IOC"
                yield order


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
