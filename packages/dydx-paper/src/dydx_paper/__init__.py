"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                     OrderBook · Ledger

`PaperVenue` trades one subaccount against recorded books; `paper` lifts it onto a stream. It
stands on dydx_book, which matches, and dydx_ledger, which keeps the money; their names stand
here too. What the chain would refuse, dydx_conn's `objection` says.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long. Fees are rounded up, fills truncated.

Bias, on purpose and constant: an order waits for the next book view of its market, or the next
block, so it never trades on what it was decided on; then it is first in line for what it sees,
and nobody reacts to it. Resting orders fill last: when the other side comes to their price.

Nothing here reads a clock, draws a random number or opens a socket.
Sources: v4-chain x/clob/memclob, x/clob/keeper, x/subaccounts; indexer ender and vulcan.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final

import dydx_book
import dydx_ledger
import dydx_risk as risk
import msgspec
from dydx_book import *  # noqa: F403 - who trades on paper needs one import
from dydx_book import MAKER, TAKER, Match, Order, OrderBook, Result
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
    code_of,
    event_id,
    fill_to_quote,
    fold,
    objection,
    subaccount_id,
    ws_frame,
)
from dydx_data import MarketView
from dydx_ledger import *  # noqa: F403 - as above
from dydx_ledger import NEVER, Holding, Ledger, Stamp
from reactivex import Observable

__all__ = ["Fees", "PaperVenue", "code_of", "objection", "paper"]
__all__ += dydx_book.__all__
__all__ += dydx_ledger.__all__

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob". What this venue alone refuses has a code that the chain cannot have.

_OURS: Final = {"ErrConditionalOrderNotSimulated": -1, "ErrTwapOrderNotSimulated": -1}
_NOT_SIMULATED: Final = dict(zip((CONDITIONAL, TWAP), _OURS, strict=True))


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
            return NEVER
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
