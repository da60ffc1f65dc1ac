"""The paper venue: match, settle and liquidate as the chain does, on what was recorded.

    MarketView ──────┐
    OrderRequest ────┼──► PaperVenue.step ──► account Frame (the indexer's own words)
    CancelRequest ───┘        │
                     OrderBook · Ledger

`PaperVenue` trades one subaccount against recorded books; `paper` lifts it onto a stream. It
stands on dydx_book, which matches, dydx_ledger, which keeps the money, dydx_history, which
remembers, dydx_indexer, which words it, and dydx_realism, which keeps it honest; their names
stand here too. What the chain refuses by itself, dydx_conn's `objection` says.

Units: `quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, fees parts per
million; signed quantums are positive for long. Fees are rounded up, fills truncated.

Bias, on purpose and by name: a message waits out its `Latency`, then for the next book view of
its market, or the next block, so it never trades on what it was decided on; then it is first in
line for what it sees, and nobody reacts to it. A resting order has a `QueuePosition`: it fills
when the other side comes to its price, or by trades beyond what stood before it. How much of
all this the tape bears out, `Optimism` says.

Nothing here reads a clock or opens a socket; chance comes from a seed that is handed in.
Sources: v4-chain x/clob/memclob, x/clob/keeper, x/subaccounts; indexer ender and vulcan.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from typing import Final, cast, get_args

import dydx_book
import dydx_history
import dydx_indexer
import dydx_ledger
import dydx_realism
import dydx_risk as risk
import msgspec
from dydx_book import *  # noqa: F403 - who trades on paper needs one import
from dydx_book import (
    MAKER,
    TAKER,
    Key,
    Match,
    Order,
    OrderBook,
    Result,
    Waiting,
    oracle_subticks,
    trigger_prices,
)
from dydx_conn import (
    LONG_TERM,
    SHORT_TERM,
    STANDARD_FEE_TIERS,
    TWAP,
    CancelRequest,
    Fees,
    FeeTier,
    Frame,
    GridError,
    OrderRequest,
    PerpetualMarket,
    Side,
    Subaccount,
    cancel_objection,
    code_of,
    event_id,
    fee,
    fill_to_quote,
    fold,
    objection,
    stateful_order_limit,
)
from dydx_data import MarketView
from dydx_history import *  # noqa: F403 - as above
from dydx_history import NEVER, OrderRecord, Stamp
from dydx_indexer import *  # noqa: F403 - as above
from dydx_indexer import (
    Fields,
    account_frame,
    asset_fields,
    fill_fields,
    order_fields,
    position_fields,
    snapshot,
    transfer_fields,
)
from dydx_ledger import *  # noqa: F403 - as above
from dydx_ledger import (
    Holding,
    InsuranceFunds,
    Ledger,
    Refused,
    charge,
    withdrawals_blocked,
)
from dydx_realism import *  # noqa: F403 - as above
from dydx_realism import Attempts, Latency, Optimism, PaperError, Place, QueuePosition
from reactivex import Observable

__all__ = ["Fees", "PaperVenue", "code_of", "objection", "paper"]
__all__ += dydx_book.__all__
__all__ += dydx_history.__all__
__all__ += dydx_indexer.__all__
__all__ += dydx_ledger.__all__
__all__ += dydx_realism.__all__

# === Errors ===
# A refused order is a value, not an exception: the chain's own name for it, and its code in
# the codespace "clob". What this venue alone refuses has a code that the chain cannot have.

_OURS: Final = {"ErrTwapOrderNotSimulated": -1}


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
_SECOND_NS: Final = 1_000_000_000
_HOUR_NS: Final = 3_600 * _SECOND_NS
# A trade may be told this much after its block; an older one is of a snapshot, and triggers none.
_LATE_NS: Final = 2 * _SECOND_NS
_LIQUIDATION: Final = -1
_SETTLED: Final = "FINAL_SETTLEMENT"
_TIERS_BY_VOLUME: Final = [tier for tier in STANDARD_FEE_TIERS if not tier.total_share_ppm]
_CROWD: Final = Subaccount("recorded market", 0)


def _block_and_hour(view: MarketView) -> tuple[int, int]:
    # Without a block stream, seconds stand for blocks: the chain makes about one a second.
    chain = view.chain
    return chain.height or view.at // _SECOND_NS, (chain.time_ns or view.at) // _HOUR_NS


# === Desk ===
# One market as our orders meet it: the recorded market appears on our book as the crowd, as
# makers while an order of ours is matched, as takers when it comes to orders of ours that rest.

_SIDES: Final[tuple[Side, ...]] = ("BUY", "SELL")
_OPPOSITE: Final[dict[str, Side]] = {"BUY": "SELL", "SELL": "BUY"}
_MOST_TAKEN: Final = 256
_WATCHED_LEVELS: Final = 20  # a side; farther orders keep the place in which they were last seen
_TAPE: Final = 0  # the offset of what no recorded level has offered


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

    def __init__(self, venue: PaperVenue, view: MarketView, market: PerpetualMarket):
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
        view = self.view
        trusted = view.book.known and view.oracle is not None and not view.quality.stale
        return trusted and view.status in ("ACTIVE", "")

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
