"""Cross-margin as the chain computes it, a gate before every order and a guard before liquidation.

    MarketView ─┐
    Frame ──────┼─► verdicts(risk) ─► Approved | Denied | Reduce
    Decision ───┘

`Risk.step` is the whole of it, pure: account frames fold into an `Account`, market views move
its margin, a decision is reviewed by the gate, and on every view the guard asks how far
liquidation is. Only `Approved` and `Reduce` carry an order. Beneath lie the plain functions of
dydx_margin, which the paper venue uses too; their names stand here as well.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC), an
oracle price is an integer and its power of ten, fractions are parts per million. Floats appear
only as distances (0.06 is six per cent) and never in money. Unknown is danger: what needs an
unknown figure is denied, except what shrinks a position, which no limit may block.

Nothing here reads a clock, does I/O or subscribes: time is a frame's, height a block's.
Sources: v4-chain protocol/lib/margin, x/perpetuals/lib, x/subaccounts/lib, x/clob/keeper.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from math import floor, inf
from typing import Final, Literal, Self

import dydx_margin
import msgspec
from dydx_conn import (
    ConnError,
    Frame,
    OrderFields,
    OrderRequest,
    PerpetualMarket,
    PositionFields,
    Side,
    Subaccount,
    SubaccountContents,
    WireError,
    contents,
    exact,
    fold,
    order_id,
    quote_to_base,
)
from dydx_data import MarketView, Oracle
from dydx_margin import *  # noqa: F403 - who judges risk needs one import
from dydx_margin import (
    PPM,
    MarginFigures,
    PositionMargin,
    is_liquidatable,
    liquidation_ratio,
    mixes_isolated,
    mul_ppm,
    position_margin,
    total_margin,
)
from dydx_strategy import Decision
from pydantic import BaseModel, ConfigDict, Field, model_validator
from reactivex import Observable

__all__ = [
    "Account", "Alarm", "Approved", "Denied", "Policy", "Position", "PositionFigures", "Reason",
    "Reduce", "Reservation", "Risk", "Verdict", "verdicts",
]  # fmt: skip
__all__ += dydx_margin.__all__

# === Account ===
# What a subaccount holds, as a fold over its own frames: paper's and the venue's are the same.

# A short-term order in one of these never fills again, except that BEST_EFFORT_CANCELED may.
_ENDED = frozenset(["FILLED", "CANCELED", "ERROR"])


class Position(msgspec.Struct, gc=False, kw_only=True):
    """A perpetual position; `size` in base units, negative for a short.

    `quantums` is the same size on the chain's grid: None until the market is known.
    """

    ticker: str
    size: Decimal
    entry_price: Decimal
    realized_pnl: Decimal = Decimal(0)
    net_funding: Decimal = Decimal(0)
    quantums: int | None = None


class Reservation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Collateral set aside for an order that was sent and not answered yet.

    `effect` is what a fill at the order's worst price would change; nothing for a reduction,
    because a fill that may not come must not be counted on.
    """

    order: OrderRequest
    order_id: str
    effect: MarginFigures
    verdict_id: str


class Account:
    """One subaccount: collateral, positions, open orders, and what is reserved in flight.

    `trouble` is empty, or says why the account is not known for certain: before the first
    snapshot, or after a frame that was lost or could not be read. The next snapshot clears it.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.collateral = 0
        self.positions: dict[str, Position] = {}
        self.open_orders: dict[str, OrderFields] = {}
        self.reserved: dict[str, Reservation] = {}
        self.height = self.seq = self.at = 0
        self.link, self.trouble = "", "no account snapshot yet"

    def fold(self, frame: Frame) -> bool:
        """Take one frame in; tell whether positions or collateral may have changed."""
        if frame.kind in ("close", "gap") and frame.link in ("", self.link):
            self.trouble = self.trouble or f"account frames were lost: {frame.kind} at {frame.seq}"
        if frame.channel != "v4_subaccounts" or frame.id != str(self.subaccount):
            return False
        try:
            for change in contents(frame):
                self._apply(change, snapshot=frame.type == "subscribed")
        except (ConnError, ValueError, ArithmeticError, RecursionError) as error:
            self.trouble = f"account frame {frame.seq} cannot be read: {error}"
        self.seq, self.at, self.link = frame.seq, frame.at, frame.link
        return True

    def _apply(self, change: SubaccountContents, *, snapshot: bool) -> None:
        positions, assets = change.perpetual_positions, change.asset_positions
        if snapshot:
            held = change.subaccount
            if held is None:
                raise WireError("expected a snapshot to hold a subaccount")
            positions = list(held.open_perpetual_positions.values())
            assets = list(held.asset_positions.values())
            self.positions, self.open_orders, self.collateral = {}, {}, 0
        for asset in assets:
            if asset.symbol == "USDC":
                owed = -1 if asset.side == "SHORT" else 1
                self.collateral = owed * abs(int(_decimal(asset.size).scaleb(6)))
        for position in positions:
            self._hold(position)
        for order in change.orders:
            self._order(order)
        if change.block_height:
            self.expire(int(change.block_height))
        if snapshot:
            self.trouble = ""

    def _hold(self, fields: PositionFields) -> None:
        size = _decimal(fields.size)
        if fields.status != "OPEN" or not size:
            self.positions.pop(fields.market, None)
            return
        self.positions[fields.market] = Position(
            ticker=fields.market,
            size=size,
            entry_price=_decimal(fields.entry_price),
            realized_pnl=_decimal(fields.realized_pnl or "0"),
            net_funding=_decimal(fields.net_funding),
        )

    def _order(self, fields: OrderFields) -> None:
        status = fields.status
        ended = status in _ENDED
        if ended or status == "BEST_EFFORT_CANCELED":
            self.open_orders.pop(fields.id, None)
        else:
            self.open_orders[fields.id] = _merged(self.open_orders.get(fields.id), fields)
        # An order that a node dropped unfilled is over; one it saw fill waits for the block.
        filled = _decimal(fields.total_optimistic_filled or fields.total_filled or "0")
        if ended or (status == "BEST_EFFORT_CANCELED" and not filled):
            self.reserved = {t: r for t, r in self.reserved.items() if r.order_id != fields.id}

    def expire(self, height: int) -> None:
        """Move to a block; forget orders that no answer came for and that can fill no more."""
        if height <= self.height:
            return
        self.height = height
        reserved = self.reserved
        self.reserved = {t: r for t, r in reserved.items() if r.order.good_til_block >= height}


def _decimal(text: str) -> Decimal:
    exact(text)  # refuses what is no number, or one of more digits than there is memory
    return Decimal(text)


def _merged(old: OrderFields | None, new: OrderFields) -> OrderFields:
    # An update names what changed: what it leaves out keeps its value.
    given = {k: v for k, v in msgspec.structs.asdict(new).items() if v is not None}
    return msgspec.structs.replace(old, **given) if old is not None else new


# === Verdicts ===


class Policy(BaseModel):
    """How much risk may be taken; the defaults suit a paper account of 10,000 USDC.

    `act_below`, `restore_to` and `keep_above` are distances to liquidation (0.06 is six per
    cent): the guard acts below the first, sizes its order to reach the second, and no order
    that adds risk may come nearer than the third.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    act_below: float = Field(default=0.06, gt=0, lt=1)
    restore_to: float = Field(default=0.10, gt=0, lt=1)
    keep_above: float = Field(default=0.12, gt=0, lt=1)
    max_leverage: float = Field(default=5.0, gt=0, le=50)
    max_order_usdc: float = Field(default=20_000.0, gt=0)
    slippage_bps: int = Field(default=30, ge=0, le=1_000)
    guard_slippage_bps: int = Field(default=100, ge=0, le=1_000)
    guard_rungs: int = Field(default=4, ge=1, le=10)
    taker_fee_ppm: int = Field(default=500, ge=0, le=100_000)
    good_til_blocks: int = Field(default=5, ge=1, le=20)
    stale_seconds: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        distances = self.act_below, self.restore_to, self.keep_above
        if not distances[0] < distances[1] <= distances[2]:
            raise ValueError(f"expected act_below < restore_to <= keep_above, got {distances}")
        return self


# What a denial tells, in USDC, of the margin that would have been.
_TOLD: Final = ("net_collateral", "initial_margin", "maintenance_margin", "notional")
Reason = Literal[
    "UNKNOWN_ACCOUNT", "UNKNOWN_MARKET", "UNKNOWN_ORACLE", "UNKNOWN_HEIGHT", "STATUS", "STALE",
    "NO_BOOK", "IN_FLIGHT", "BELOW_STEP", "ISOLATED", "LEVERAGE", "DISTANCE", "MARGIN",
]  # fmt: skip


class Approved(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A decision that may become this order; `after` is at its worst price, fees paid."""

    id: str
    order: OrderRequest
    decision: Decision
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    why: str


class Denied(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An objection; `decision` is None where the guard itself could not act."""

    id: str
    ticker: str
    decision: Decision | None
    seq: int
    at: int
    reason: Reason
    figures: tuple[tuple[str, str], ...] = ()
    why: str


class Reduce(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The guard's order; `cost` is the estimated loss to spread and fee in quote quantums."""

    id: str
    order: OrderRequest
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    distance: float
    rung: int
    cost: int
    why: str


Verdict = Approved | Denied | Reduce
_Event = MarketView | Frame | Decision

Alarm = Literal["unknown", "flat", "safe", "danger", "liquidatable"]


class PositionFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position with every figure that its oracle price allows; None is unknown.

    Money is quote quantums, prices USDC. `distance` is this price's own adverse move to
    `liquidation_price`, all others standing still; `funding_1h` what the next hour costs
    (positive is paid).
    """

    ticker: str
    size: Decimal
    entry_price: Decimal
    oracle_price: Decimal | None = None
    net_notional: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    unrealized_pnl: Decimal | None = None
    liquidation_price: Decimal | None = None
    distance: float | None = None
    funding_1h: int | None = None
    seq: int = 0


# === Trades ===
# A wish made concrete: so many steps, at no worse a price, and what is left after it.


class _Trade(msgspec.Struct, frozen=True, gc=False):
    """An IOC that could be sent: `size` is unsigned and on the grid, `subticks` the worst."""

    market: PerpetualMarket
    view: MarketView
    side: Side
    size: int
    subticks: int

    @property
    def delta(self) -> int:
        return self.size if self.side == "BUY" else -self.size

    @property
    def worst_quote(self) -> int:
        return self.market.quote_quantums(self.size, self.subticks)

    @property
    def words(self) -> str:
        bound = "<=" if self.side == "BUY" else ">="
        size = _amount(self.market.size(self.size))
        price = _amount(self.market.price(self.subticks))
        return f"{self.side.lower()} {size} {self.market.ticker} at {bound} {price}"


def _trade(view: MarketView, market: PerpetualMarket, delta: int, bps: int) -> _Trade | None:
    # Toward less of it. Without a book the oracle price stands in for the best.
    side: Side = "BUY" if delta > 0 else "SELL"
    level = view.book.best_ask if delta > 0 else view.book.best_bid
    shown = [level.price_text] if view.book.known and level is not None else []
    for text in [*shown, view.oracle.text] if view.oracle is not None else shown:
        limit = Decimal(text) * (10_000 + (bps if delta > 0 else -bps)) / 10_000
        try:
            worst = market.floor_subticks(limit) if delta > 0 else market.ceil_subticks(limit)
        except ConnError:
            continue  # a price that no order can name
        size = abs(delta) - abs(delta) % market.step_base_quantums
        return _Trade(market, view, side, size, max(worst, market.subticks_per_tick))
    return None


def _walked_quote(trade: _Trade) -> int:
    # What the book does not show costs the worst.
    market, buys, left, quote = trade.market, trade.side == "BUY", trade.size, 0
    for level in trade.view.book.asks(50) if buys else trade.view.book.bids(50):
        try:
            subticks = market.floor_subticks(level.price_text)
            shown = market.floor_quantums(level.size_text)
        except ConnError:
            continue  # nobody can trade there
        if not left or (subticks > trade.subticks if buys else subticks < trade.subticks):
            break
        taken = min(left, shown)
        quote += market.quote_quantums(taken, subticks)
        left -= taken
    return quote + market.quote_quantums(left, trade.subticks)


def _after(
    margin: MarginFigures, trade: _Trade, held: int, quote: int, fee_ppm: int
) -> MarginFigures:
    view, market, cash = trade.view, trade.market, quote if trade.side == "SELL" else -quote
    cash -= mul_ppm(quote, fee_ppm, round_up=True)
    oracle, interest = view.oracle, view.open_interest
    if oracle is not None:
        price = oracle.digits, oracle.exponent
        old = position_margin(market, held, *price, interest)
        # The match itself may raise the open interest, and with it the fraction.
        interest = None if interest is None else interest + trade.size
        new = position_margin(market, held + trade.delta, *price, interest)
        margin = _exchanged(margin, old, new)
    return msgspec.structs.replace(margin, net_collateral=margin.net_collateral + cash)


def _exchanged(margin: MarginFigures, old: PositionMargin, new: PositionMargin) -> MarginFigures:
    return _moved(_moved(margin, total_margin(0, [old]), -1), total_margin(0, [new]))


def _moved(margin: MarginFigures, effect: MarginFigures, sign: int = 1) -> MarginFigures:
    return MarginFigures(
        margin.net_collateral + sign * effect.net_collateral,
        margin.initial_margin + sign * effect.initial_margin,
        margin.maintenance_margin + sign * effect.maintenance_margin,
        margin.notional + sign * effect.notional,
        margin.sensitivity + sign * effect.sensitivity,
        margin.unknown,
    )


def _usdc(quote_quantums: int) -> str:
    return f"{Decimal(quote_quantums).scaleb(-6):,.2f}"


def _amount(number: Decimal) -> str:
    return f"{number.normalize():,f}"


def _percent(distance: float | None) -> str:
    # Rounded down, so that what is below a limit also reads as below it.
    return "unknown" if distance is None else f"{floor(min(max(distance, -99), 99) * 1e3) / 10} %"


# === Risk ===

_NOBODY = Subaccount("")


class Risk:
    """The account, its margin, the gate and the guard: one object, one step per event.

    `margin` is current after each step; `closest` is the smallest distance seen so far; `rung`
    counts the guard's orders since the account was last safe. Without `guard` nothing reduces.
    """

    def __init__(
        self, policy: Policy | None = None, subaccount: Subaccount = _NOBODY, *, guard: bool = True
    ) -> None:
        self.policy = policy or Policy()
        self.account = Account(subaccount)
        self.guard = guard
        self.margin = MarginFigures(0)
        self.closest: float | None = None
        self.rung = 0
        self._views: dict[str, MarketView] = {}
        self._exposures: dict[str, _Exposure] = {}
        self.next_client_id = 1
        self._verdicts = 0
        self._guarded_at = self._guarded_ns = self._valued_seq = -1
        self._act_below_ppm = round(self.policy.act_below * PPM)
        self._stale_ns = round(self.policy.stale_seconds * 1_000_000_000)

    def step(self, event: MarketView | Frame | Decision) -> list[Verdict]:
        """Take one event in and put out the verdicts that it caused, in order."""
        if isinstance(event, MarketView):
            return self._watch(event)
        if isinstance(event, Frame):
            if self.account.fold(event):
                self._load()
            return []
        verdict = self._review(event)
        return [] if verdict is None else [verdict]

    @property
    def alarm(self) -> Alarm:
        """Say where the account stands; `unknown` is no better than danger."""
        margin, distance = self.margin, self.margin.distance
        if self.account.trouble or margin.unknown:
            return "unknown"
        if distance is None:
            return "flat"
        if is_liquidatable(margin.net_collateral, margin.maintenance_margin):
            return "liquidatable"
        return "danger" if distance < self.policy.act_below else "safe"

    def positions(self) -> list[PositionFigures]:
        """Return every position with its figures, the nearest to liquidation first."""
        ratios = self.liquidation_ratios()
        rows = [_row(exposure, ratios[ticker]) for ticker, exposure in self._exposures.items()]
        return sorted(rows, key=lambda row: inf if row.distance is None else row.distance)

    def liquidation_ratios(self) -> dict[str, tuple[int, int] | None]:
        """Return each position's `liquidation_ratio`, in quote quantums per quantum."""
        if self.margin.unknown:
            return dict.fromkeys(self._exposures)
        equity, maintenance = self.margin.net_collateral, self.margin.maintenance_margin
        ratios: dict[str, tuple[int, int] | None] = {}
        for ticker, held in self._exposures.items():
            terms = held.terms or PositionMargin()
            value, others = terms.net_notional, maintenance - terms.maintenance_margin
            ratios[ticker] = liquidation_ratio(
                held.quantums, value, equity, others, held.maintenance_e12
            )
        return ratios

    def revalue(self) -> None:
        """Value the account from nothing: what the steps add up to, made anew."""
        for exposure in self._exposures.values():
            exposure.revalue()
        self._sum()

    def _load(self) -> None:
        old, self._exposures = self._exposures, {}
        for ticker, position in self.account.positions.items():
            exposure = old.get(ticker)
            if exposure is None or exposure.position is not position:
                exposure = _Exposure(position)
                if ticker in self._views:
                    exposure.value(self._views[ticker])
            self._exposures[ticker] = exposure
        self._sum()

    def _sum(self) -> None:
        known = [e.terms for e in self._exposures.values() if e.terms is not None]
        unknown = sorted(t for t, e in self._exposures.items() if e.terms is None)
        self._settle(total_margin(self.account.collateral, known, unknown))

    def _settle(self, margin: MarginFigures) -> None:
        self.margin, distance = margin, margin.distance
        if distance is not None and (self.closest is None or distance < self.closest):
            self.closest = distance

    def _watch(self, view: MarketView) -> list[Verdict]:
        self._views.setdefault(view.ticker, view)
        self.account.expire(view.chain.height)
        if view.seq != self._valued_seq and view.changed not in ("book", "trades"):
            # One frame may move many markets, and its views come one by one: catch up with all.
            self._valued_seq = view.seq
            views = self._views
            if [t for t, e in self._exposures.items() if t in views and e.value(views[t])]:
                self._sum()
        elif (exposure := self._exposures.get(view.ticker)) is not None:
            old = exposure.terms
            if exposure.value(view) and old is not None and exposure.terms is not None:
                self._settle(_exchanged(self.margin, old, exposure.terms))
            elif exposure.terms is not old:
                self._sum()
        return self._defend(view) if self.guard and self._exposures else []

    # === Gate ===

    def _review(self, decision: Decision) -> Verdict | None:
        if decision.action != "target":
            return None
        view = self._views.get(decision.ticker)
        market = view.market if view is not None else None
        if view is None or market is None:
            return self._deny(decision, "UNKNOWN_MARKET", f"{decision.ticker} is not known yet")
        pending = self.account.reserved.get(decision.ticker)
        if pending is not None:
            last, now = pending.order.good_til_block, self.account.height
            why = f"{pending.verdict_id} has no answer: it may fill until block {last}, now {now}"
            return self._deny(decision, "IN_FLIGHT", why)
        held = self._held(market.ticker)
        target = _at_oracle(decision.target_usdc, view, market)
        if target is None:
            return self._deny(decision, "UNKNOWN_ORACLE", f"no oracle price of {market.ticker}")
        if held and target * held >= 0 and abs(target) < abs(held):
            return self._exit(decision, view, market, target - held)
        verdict = self._enter(decision, view, market, target - held)
        if isinstance(verdict, Denied) and target * held < 0:
            # The far side is refused, and nobody hears of it: the near side may still be left.
            self._verdicts -= 1
            return self._exit(decision, view, market, -held)
        return verdict

    def _exit(
        self, decision: Decision, view: MarketView, market: PerpetualMarket, delta: int
    ) -> Verdict:
        # No limit may block the way out, only the grid can.
        trade = _trade(view, market, delta, self.policy.guard_slippage_bps)
        if trade is None:
            return self._deny(decision, "NO_BOOK", "neither a book nor an oracle price to go by")
        if not trade.size:
            return self._below_step(decision, market, delta)
        if not view.chain.height:
            return self._deny(decision, "UNKNOWN_HEIGHT", "no block height seen yet")
        held = self._held(market.ticker)
        after = _after(self.margin, trade, held, trade.worst_quote, self.policy.taker_fee_ppm)
        old, new = (_amount(market.size(size)) for size in (held, held + trade.delta))
        why = f"{trade.words} shrinks {old} to {new}: that always passes"
        order = self._send(trade, MarginFigures(0), reduce_only=True)
        return self._approve(decision, order, after, why)

    def _enter(
        self, decision: Decision, view: MarketView, market: PerpetualMarket, delta: int
    ) -> Verdict:
        objection = next(self._unready(decision, view, market), None)
        if objection is not None:
            return self._deny(decision, *objection)
        most = _at_oracle(self.policy.max_order_usdc, view, market) or 0
        trade = _trade(view, market, max(-most, min(most, delta)), self.policy.slippage_bps)
        if trade is None or not trade.size:
            return self._below_step(decision, market, delta)
        base, held = self.reserved_margin(), self._held(market.ticker)
        after = _after(base, trade, held, trade.worst_quote, self.policy.taker_fee_ppm)
        for reason, why in self._beyond(after):  # the first objection wins
            told = {name: _usdc(getattr(after, name)) for name in _TOLD}
            return self._deny(decision, reason, why, **told)
        cut = f", cut to {self.policy.max_order_usdc:,.0f} USDC" if abs(delta) > most else ""
        why = (
            f"{trade.words}{cut}: free collateral {_usdc(base.free_collateral)} becomes "
            f"{_usdc(after.free_collateral)}, leverage {after.leverage or 0:.2f}, distance "
            f"{_percent(after.distance)} at the worst price"
        )
        worse = after.free_collateral < base.free_collateral
        effect = _moved(after, base, -1) if worse else MarginFigures(0)
        order = self._send(trade, effect, reduce_only=False)
        return self._approve(decision, order, after, why)

    def _unready(
        self, decision: Decision, view: MarketView, market: PerpetualMarket
    ) -> Iterator[tuple[Reason, str]]:
        book, oracle, ticker = view.book, view.oracle, market.ticker
        if self.account.trouble:
            yield "UNKNOWN_ACCOUNT", self.account.trouble
        if view.status != "ACTIVE":
            yield "STATUS", f"expected an ACTIVE market, it is {view.status or 'unknown'}"
        if oracle is None or self.margin.unknown:
            yield "UNKNOWN_ORACLE", f"no oracle price of {', '.join(self.margin.unknown) or ticker}"
        if not book.known or book.best_bid is None or book.best_ask is None:
            was = "one-sided" if book.known else "unknown"
            yield "NO_BOOK", f"expected bids and asks, the book is {was}"
        age = decision.at - min(book.at, oracle.at if oracle is not None else 0)
        if view.quality.stale or age > self._stale_ns:
            limit = self.policy.stale_seconds
            yield "STALE", f"book or oracle is {age / 1e9:.1f} s old, limit {limit:g} s"
        if not view.chain.height:
            yield "UNKNOWN_HEIGHT", "no block height seen yet"
        others = [e.market for t, e in self._exposures.items() if t != ticker and e.market]
        if mixes_isolated([market, *others]):
            yield "ISOLATED", "an isolated market needs a subaccount of its own"

    def _beyond(self, after: MarginFigures) -> Iterator[tuple[Reason, str]]:
        policy, distance, leverage = self.policy, after.distance, after.leverage
        if after.free_collateral < 0:
            needs, has = _usdc(after.initial_margin), _usdc(after.net_collateral)
            yield "MARGIN", f"needs {needs} of initial margin, would have {has}"
        if leverage is None or leverage > policy.max_leverage:
            was = "undefined" if leverage is None else f"{leverage:.2f}"
            yield "LEVERAGE", f"leverage would be {was}, limit {policy.max_leverage:g}"
        if distance is not None and distance < policy.keep_above:
            limit = _percent(policy.keep_above)
            yield "DISTANCE", f"distance would be {_percent(distance)}, limit {limit}"

    def reserved_margin(self) -> MarginFigures:
        """Return the margin as if every order in flight had filled at its worst."""
        margin = self.margin
        for reservation in self.account.reserved.values():
            margin = _moved(margin, reservation.effect)
        return margin

    def _held(self, ticker: str) -> int:
        return self._exposures[ticker].quantums if ticker in self._exposures else 0

    # === Guard ===

    def _defend(self, view: MarketView) -> list[Verdict]:
        margin = self.margin
        near = margin.cushion * PPM < self._act_below_ppm * margin.sensitivity
        if not (near or margin.unknown):
            self.rung = 0
            return []
        height = view.chain.height
        # Once a block; and should blocks stop while prices go on, every two seconds.
        if height == self._guarded_at and view.at - self._guarded_ns < 2_000_000_000:
            return []
        self._guarded_at, self._guarded_ns = height, view.at
        if unknown := ", ".join(margin.unknown):
            return [self._deny(view, "UNKNOWN_ORACLE", f"guard: blind, no oracle of {unknown}")]
        waiting = any(ticker in self.account.reserved for ticker in self._exposures)
        plans = [plan for exposure in self._exposures.values() if (plan := self._plan(exposure))]
        if not plans or not height:
            if waiting:
                return []
            but = "no reduction would relieve it" if height else "no block height is known"
            reason: Reason = "BELOW_STEP" if height else "UNKNOWN_HEIGHT"
            distance, limit = _percent(margin.distance), _percent(self.policy.act_below)
            return [self._deny(view, reason, f"guard: distance {distance} < {limit}, but {but}")]
        self.rung += 1
        if enough := [plan for plan in plans if plan.is_enough]:
            return [self._reduce(view, min(enough, key=lambda plan: plan.cost))]
        return [self._reduce(view, max(plans, key=lambda plan: plan.after.distance or 0.0))]

    def _plan(self, exposure: "_Exposure") -> "_Plan | None":
        terms, market, held = exposure.terms, exposure.market, exposure.quantums
        ticker, fee_ppm = exposure.position.ticker, self.policy.taker_fee_ppm
        if terms is None or market is None or ticker in self.account.reserved:
            return None
        # Each rung accepts a worse price: a thin book must not be the end.
        slippage = self.policy.guard_slippage_bps * min(self.rung + 1, self.policy.guard_rungs)
        trade = _trade(self._views[ticker], market, -held, slippage)
        if trade is None or not trade.size:
            return None
        most, step, quote = trade.size, market.step_base_quantums, _walked_quote(trade)
        # The size depends on the cost and the cost on the size: two rounds settle it.
        for _ in range(2):
            after = _after(self.margin, trade, held, quote, fee_ppm)
            cost = self.margin.net_collateral - after.net_collateral
            share = _share(self.margin, terms, cost * abs(held) // trade.size, self.policy)
            if share is None:
                return None
            size = min(-int(-share * abs(held) // step) * step, most)
            trade = msgspec.structs.replace(trade, size=size)
            quote = _walked_quote(trade)
        after = _after(self.margin, trade, held, quote, fee_ppm)
        # A hair's breadth below is enough: the book moves more than that before the fill.
        is_enough = not after.notional or (after.distance or 0.0) >= self.policy.restore_to * 0.98
        return _Plan(trade, self.margin.net_collateral - after.net_collateral, after, is_enough)

    def _reduce(self, view: MarketView, plan: "_Plan") -> Reduce:
        distance, after = self.margin.distance or 0.0, plan.after
        restored = f"restores {_percent(after.distance)}" if after.notional else "closes it all"
        why = (
            f"distance {_percent(distance)} < {_percent(self.policy.act_below)}: "
            f"{plan.trade.words} {restored}, costs about {_usdc(plan.cost)} USDC"
        )
        order = self._send(plan.trade, MarginFigures(0), reduce_only=True)
        return Reduce(
            id=self._next_id(),
            order=order,
            seq=view.seq,
            at=view.at,
            before=self.margin,
            after=after,
            distance=distance,
            rung=self.rung,
            cost=plan.cost,
            why=why,
        )

    def _send(self, trade: _Trade, effect: MarginFigures, *, reduce_only: bool) -> OrderRequest:
        order = OrderRequest(
            ticker=trade.market.ticker,
            clob_pair_id=trade.market.clob_pair_id,
            side=trade.side,
            quantums=trade.size,
            subticks=trade.subticks,
            time_in_force="IOC",
            client_id=self.next_client_id,
            reduce_only=reduce_only,
            good_til_block=trade.view.chain.height + self.policy.good_til_blocks,
        )
        self.next_client_id += 1
        self.account.reserved[order.ticker] = Reservation(
            order=order,
            order_id=order_id(self.account.subaccount, order),
            effect=effect,
            verdict_id=f"V{self._verdicts + 1}",
        )
        return order

    def _approve(
        self, decision: Decision, order: OrderRequest, after: MarginFigures, why: str
    ) -> Approved:
        return Approved(
            id=self._next_id(),
            order=order,
            decision=decision,
            seq=decision.seq,
            at=decision.at,
            before=self.margin,
            after=after,
            why=why,
        )

    def _deny(
        self, cause: Decision | MarketView, reason: Reason, why: str, **figures: object
    ) -> Denied:
        return Denied(
            id=self._next_id(),
            ticker=cause.ticker,
            decision=cause if isinstance(cause, Decision) else None,
            seq=cause.seq,
            at=cause.at,
            reason=reason,
            figures=tuple((name, str(figure)) for name, figure in figures.items()),
            why=why,
        )

    def _below_step(self, decision: Decision, market: PerpetualMarket, delta: int) -> Denied:
        wanted = _amount(market.size(abs(delta)))
        step = _amount(market.size(market.step_base_quantums))
        why = f"{wanted} {market.ticker} is left to trade, less than one step of {step}"
        return self._deny(decision, "BELOW_STEP", why, wanted=wanted, step=step)

    def _next_id(self) -> str:
        self._verdicts += 1
        return f"V{self._verdicts}"


class _Exposure(msgspec.Struct, eq=False):
    """A position with the terms last computed for it, and what they were computed from."""

    position: Position
    quantums: int = 0
    maintenance_e12: int = 0
    view: MarketView | None = None
    market: PerpetualMarket | None = None
    oracle: Oracle | None = None
    open_interest: int | None = None
    terms: PositionMargin | None = None

    def value(self, view: MarketView) -> bool:
        oracle, market, interest = view.oracle, view.market, view.open_interest
        same = oracle is self.oracle and market is self.market and interest == self.open_interest
        if same and self.view is not None:
            return False
        self.view, self.oracle, self.open_interest = view, oracle, interest
        if market is not self.market and market is not None:
            self.quantums = int(self.position.size.scaleb(-market.atomic_resolution))
            self.position.quantums = self.quantums
            self.maintenance_e12 = market.imf_ppm * market.maintenance_fraction_ppm
        self.market = market
        self.revalue()
        return True

    def revalue(self) -> None:
        market, oracle = self.market, self.oracle
        self.terms = None
        if market is not None and oracle is not None:
            price = oracle.digits, oracle.exponent
            self.terms = position_margin(market, self.quantums, *price, self.open_interest)


def _row(exposure: _Exposure, ratio: tuple[int, int] | None) -> PositionFigures:
    position, view, oracle = exposure.position, exposure.view, exposure.oracle
    market, terms = exposure.market, exposure.terms
    row = PositionFigures(
        ticker=position.ticker, size=position.size, entry_price=position.entry_price
    )
    if view is None or oracle is None or market is None or terms is None:
        return row
    price, liquidation, distance = Decimal(oracle.text), None, None
    if ratio is not None:
        liquidation = (Decimal(ratio[0]) / ratio[1]).scaleb(-6 - market.atomic_resolution)
        move = float((price - liquidation) / price) if price else 0.0
        distance = move if position.size > 0 else -move
    rate = view.funding.next_rate_text
    return msgspec.structs.replace(
        row,
        oracle_price=price,
        net_notional=terms.net_notional,
        initial_margin=terms.initial_margin,
        maintenance_margin=terms.maintenance_margin,
        unrealized_pnl=(price - position.entry_price) * position.size,
        liquidation_price=liquidation,
        distance=distance,
        funding_1h=int(terms.net_notional * Decimal(rate)) if rate else None,
        seq=oracle.seq,
    )


def _at_oracle(usdc: float, view: MarketView, market: PerpetualMarket) -> int | None:
    quote, oracle = int(usdc * 1_000_000), view.oracle
    if not quote:
        return 0
    if oracle is None:
        return None
    return quote_to_base(quote, oracle.digits, oracle.exponent, market.atomic_resolution)


class _Plan(msgspec.Struct, frozen=True, gc=False):
    trade: _Trade
    cost: int
    after: MarginFigures
    is_enough: bool


def _share(
    margin: MarginFigures, terms: PositionMargin, cost: int, policy: Policy
) -> Fraction | None:
    # With the share f closed at a whole cost c the cushion is B + f (m - c) and the sensitivity
    # D - f d: their ratio shall be `restore_to`. None if closing costs more than it relieves.
    target = Fraction(policy.restore_to).limit_denominator(PPM)
    required, value = terms.maintenance_margin, terms.net_notional
    own = value - required if value >= 0 else required - value
    relief = required - cost + target * own
    return (target * margin.sensitivity - margin.cushion) / relief if relief > 0 else None


# === Streams ===


def verdicts(risk: Risk | None = None) -> Callable[[Observable[_Event]], Observable[Verdict]]:
    """Judge every event with one `Risk`; without one, each subscriber has its own.

    Hot or cold as the source is; completes and errors with it; runs on its thread.

        events    --view--decision--frame--view--|
        verdicts  --------Approved---------Reduce|
    """
    return fold(lambda: risk if risk is not None else Risk(), Risk.step)
