"""Cross-margin as the chain computes it, a gate before every order and a guard before liquidation.

    MarketView ─┐
    Frame ──────┼─► verdicts(risk) ─► Approved | Denied | Reduce
    Decision ───┘                        └─► watches(risk) ─► Watch

`Risk.step` is the whole of it, pure: account frames fold into an `Account`, market views move
its margin, a decision is reviewed by the gate, and on every view the guard asks how far
liquidation is and fires what is due of the flight plan. Only `Approved` and `Reduce` carry an
order. Beneath lie floors of plain functions and values (dydx_margin, which the paper venue uses
too, dydx_views, dydx_account, dydx_stress, dydx_trade, dydx_flight, dydx_verdict, dydx_watch);
their names stand here as well.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC), an
oracle price is an integer and its power of ten, fractions are parts per million. Floats appear
only as distances (0.06 is six per cent) and never in money. Unknown is danger: what needs an
unknown figure is denied, except what shrinks a position, which no limit may block.

Nothing here reads a clock, does I/O or subscribes: time is a frame's, height a block's.
Sources: v4-chain protocol/lib/margin, x/perpetuals/lib, x/subaccounts/lib, x/clob/keeper.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from math import inf
from typing import Final

import dydx_account
import dydx_flight
import dydx_margin
import dydx_stress
import dydx_trade
import dydx_verdict
import dydx_views
import dydx_watch
import msgspec
from dydx_account import *  # noqa: F403 - who judges risk needs one import
from dydx_account import Account, Position, Reservation, index_delta
from dydx_conn import (
    Frame,
    OrderRequest,
    PerpetualMarket,
    Subaccount,
    fold,
    order_id,
    quote_to_base,
)
from dydx_data import MarketView, Oracle
from dydx_flight import *  # noqa: F403 - as above
from dydx_flight import FlightPlan, Rung, due, joined, replan
from dydx_margin import *  # noqa: F403 - as above
from dydx_margin import (
    PPM,
    MarginError,
    MarginFigures,
    PositionMargin,
    exchanged,
    funding_settlement_ppm,
    is_liquidatable,
    liquidation_ratio,
    mixes_isolated,
    mul_ppm,
    position_margin,
    total_margin,
)
from dydx_strategy import Decision
from dydx_stress import *  # noqa: F403 - as above
from dydx_stress import Sizing, bound_position
from dydx_trade import *  # noqa: F403 - as above
from dydx_trade import Trade, amount_text, ioc, percent_text, usdc_text
from dydx_verdict import *  # noqa: F403 - as above
from dydx_verdict import (
    Alarm,
    Approved,
    Denied,
    GateState,
    Policy,
    PositionFigures,
    Reason,
    Reduce,
    Standing,
    Verdict,
)
from dydx_views import *  # noqa: F403 - as above
from dydx_watch import *  # noqa: F403 - as above
from dydx_watch import Returns, Watch, Watcher
from reactivex import Observable

__all__ = ["Risk", "verdicts", "watches"]
__all__ += dydx_verdict.__all__
__all__ += dydx_watch.__all__
__all__ += dydx_flight.__all__
__all__ += dydx_trade.__all__
__all__ += dydx_stress.__all__
__all__ += dydx_account.__all__
__all__ += dydx_views.__all__
__all__ += dydx_margin.__all__

# === Risk ===

# What puts the gate into which state; with none of it, it is ACTIVE. REDUCING lets pass what
# shrinks a position; HALTED, a person's word, nothing but the guard's own reductions.
_STATES: Final[dict[Reason, GateState]] = {
    "HALTED": "HALTED",
    "UNKNOWN_ACCOUNT": "REDUCING",
    "UNKNOWN_ORACLE": "REDUCING",
    "DAILY_LOSS": "REDUCING",
    "DRAWDOWN": "REDUCING",
}
_Objection = tuple[Reason, str, Mapping[str, object]]
_Event = MarketView | Frame | Decision
# What a denial tells, in USDC, of the margin that would have been.
_TOLD: Final = ("net_collateral", "initial_margin", "maintenance_margin", "notional")

_MINUTE_NS: Final = 60_000_000_000
_HOUR_NS: Final = 3_600_000_000_000
_DAY_NS: Final = 24 * _HOUR_NS
_TURN_NS: Final = 2_000_000_000
_NOBODY = Subaccount("")


class Risk:
    """The account, its margin, the gate and the guard: one object, one step per event.

    `margin` is current after each step; `closest` is the smallest distance seen so far; `rung`
    counts how often the guard fired since the account was last safe. Without `guard` nothing
    reduces; `flight_plan` is what it would fire, and is there without it too.
    `halt` and `resume` are the kill switch; `standing` says what the gate lets pass, and why.
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
        self._valued_seq = -1
        self._watcher = Watcher(Returns(), self.policy.keep_above)
        self._flight = self.policy.flight
        self._earliest = self._flight.earliest
        self._plan = FlightPlan(policy=self._flight)
        self._drawn: tuple[MarginFigures, int] = (self.margin, 0)  # what the plan was drawn for
        self._stirred: set[str] = set()  # tickers that moved since it was drawn
        self._waited: frozenset[str] = frozenset()
        # A turn is a block, or two seconds in which none came.
        self._turn, self._height, self._turned_at, self._hour = 0, -1, 0, ("", 0)
        # The distance lost in it, and in the one before. An order fills in a block that may move
        # on as this one does, or as the last one did.
        self._pace = self._last_pace = self._ahead = 0.0
        self._weighed: tuple[MarginFigures, int] = (self.margin, -1)  # and what came of nothing
        self._acted: dict[str, int] = {}  # the turn of the guard's last word, by its subject
        self._now = 0  # event time, in nanoseconds
        self._halted = ""
        self._sent: deque[int] = deque()
        self._course = _Course()
        self._unheard: int | None = None  # equity before a snapshot that ends a doubt
        self._stale_ns = round(self.policy.stale_seconds * 1_000_000_000)

    def step(self, event: MarketView | Frame | Decision) -> list[Verdict]:
        """Take one event in and put out the verdicts that it caused, in order."""
        if event.at > self._now:
            self._now = event.at
        if isinstance(event, MarketView):
            return self._see(event)
        if isinstance(event, Frame):
            doubted, before = self.account.trouble, self.margin
            if self.account.fold(event):
                if doubted and before.known and self._course.day >= 0:
                    self._unheard = before.net_collateral
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

    @property
    def standing(self) -> Standing:
        """Say what the gate lets pass now, with every reason."""
        dangers = [*self._dangers()]
        states = {_STATES[reason] for reason, *_ in dangers}
        state: GateState = "HALTED" if "HALTED" in states else "REDUCING" if states else "ACTIVE"
        return Standing(state=state, reasons=tuple((reason, why) for reason, why, _ in dangers))

    def halt(self, reason: str) -> None:
        """Let nothing pass from here on; the guard alone goes on reducing."""
        self._halted = reason or "no reason was given"

    def resume(self) -> None:
        """Take a halt back, and measure loss and drawdown anew from here."""
        self._halted, self._course = "", _Course()
        self._settle(self.margin)

    def watch(self, view: MarketView) -> Watch:
        """Look at the account as it is: every figure, every shock, and the way out."""
        account = self.account
        sizes = {t: self._quantums(t) for t in [*self._exposures, *account.unreadable]}
        plan, views = self.flight_plan, self._views
        return self._watcher.look(view, account.settled, sizes, views, plan, account.trouble)

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
        self._stirred |= old.keys() | self.account.positions.keys() | self.account.unreadable
        self._stirred.update(self._plan.unknown)
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
        blind = {t for t, e in self._exposures.items() if e.terms is None}
        unknown = sorted(blind | self.account.unreadable)
        self._settle(total_margin(self.account.settled, known, unknown))

    def _settle(self, margin: MarginFigures) -> None:
        self.margin, distance, account = margin, margin.distance, self.account
        if distance is not None and (self.closest is None or distance < self.closest):
            self.closest = distance
        if not (margin.unknown or account.trouble):
            if self._unheard is not None:
                # What came while nobody listened is no profit: prices are the same, it was paid in.
                account.transferred += max(0, margin.net_collateral - self._unheard)
                self._unheard = None
            day = self._now // _DAY_NS
            self._course.move(margin.net_collateral, account.transferred, day, self.policy)

    def _see(self, view: MarketView) -> list[Verdict]:
        self._views.setdefault(view.ticker, view)
        if view.chain.height != self._height or view.at - self._turned_at >= _TURN_NS:
            self._begin_turn(view)
        if not (self._exposures or self.account.unreadable):
            return []
        before = self.margin
        self._value(view)
        if self.margin is not before and self.margin.unknown == before.unknown:
            # Positions stood still: what was lost is the market's doing.
            lost = before.net_collateral - self.margin.net_collateral
            self._pace += lost / max(before.sensitivity, 1)
            self._ahead = max(self._pace, self._last_pace, 0.0)
        return self._defend(view) if self.guard else []

    def _value(self, view: MarketView) -> None:
        if view.ticker in self._exposures:
            self._stirred.add(view.ticker)
        if view.seq != self._valued_seq and view.changed not in ("book", "trades"):
            # One frame may move many markets, and its views come one by one: catch up with all.
            self._valued_seq = view.seq
            views = self._views
            if moved := [t for t, e in self._exposures.items() if t in views and e.value(views[t])]:
                self._stirred.update(moved)
                self._sum()
        elif (exposure := self._exposures.get(view.ticker)) is not None:
            old = exposure.terms
            if exposure.value(view) and old is not None and exposure.terms is not None:
                self._settle(exchanged(self.margin, old, exposure.terms))
            elif exposure.terms is not old:
                self._sum()

    def _begin_turn(self, view: MarketView) -> None:
        self.account.expire(view.chain.height)
        self._watcher.returns.sample(view.at, self._views)
        self._turn, self._height, self._turned_at = self._turn + 1, view.chain.height, view.at
        self._last_pace, self._pace = self._pace, 0.0
        self._ahead = max(self._last_pace, 0.0)
        self._count_hours(view)

    def _count_hours(self, view: MarketView) -> None:
        # Hours are the chain's; until it has told its time, which may be another than ours, ours.
        clock = "chain" if view.chain.time_ns else "ours"
        hour = (view.chain.time_ns or view.at) // _HOUR_NS
        passed = hour - self._hour[1] if self._hour[0] == clock else 0
        if passed > 0 or self.account.hours_owed:
            self._fund(max(passed, 0))
        if passed >= 0:
            self._hour = clock, hour

    def _fund(self, hours: int) -> None:
        # The rate that was told last is the hour's, or nearly; an unknown one is the worst. Without
        # a price there is no figure yet: the hours are owed until there is.
        owed, self.account.hours_owed = self.account.hours_owed, {}
        for ticker, e in self._exposures.items():
            due, delta = hours + owed.get(ticker, 0), None
            if e.view is not None and e.market is not None:
                delta = index_delta(e.view, e.market, due, worst_for=e.quantums)
            if delta is not None:
                self.account.unsettled_ppm += funding_settlement_ppm(e.quantums, delta, 0)
            elif due:
                self.account.hours_owed[ticker] = due
        self._sum()

    # === Gate ===

    def _review(self, decision: Decision) -> Verdict | None:
        if decision.action != "target":
            return None
        if self._halted:
            return self._deny(decision, *next(self._dangers()))
        view = self._views.get(decision.ticker)
        market = view.market if view is not None else None
        if view is None or market is None:
            why = f"{decision.ticker} is not known yet"
            return self._deny(decision, "UNKNOWN_MARKET", why, {"markets_known": len(self._views)})
        held = self._held(market.ticker)
        target = _at_oracle(decision.target_usdc, view, market)
        if target is None and decision.target_usdc * held < 0:
            # How far to go on the other side needs a price; to leave this one does not.
            return self._exit(decision, view, market, -held)
        if target is None:
            why, told = f"no oracle price of {market.ticker}", {"ticker": market.ticker}
            return self._deny(decision, "UNKNOWN_ORACLE", why, told)
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
        # No limit may block the way out, only the grid can; nothing is sent out twice.
        pending = self._reducing(market.ticker)
        going = sum(r.order.quantums for r in pending if not r.doubted)
        if going >= abs(delta):
            return self._deny(decision, *self._waiting(pending[-1]))
        delta += going if delta < 0 else -going
        trade = ioc(view, market, delta, self.policy.guard_slippage_bps)
        if trade is None:
            why, told = "neither a book nor an oracle price to go by", {"known": view.book.known}
            return self._deny(decision, "NO_BOOK", why, told)
        if not trade.size:
            return self._below_step(decision, market, delta)
        if not view.chain.height:
            return self._deny(decision, "UNKNOWN_HEIGHT", "no block height seen yet", {"height": 0})
        held = self._held(market.ticker)
        after = trade.after(self.margin, held, trade.worst_quote, self.policy.taker_fee_ppm)
        old, new = (amount_text(market.size(size)) for size in (held, held + trade.delta))
        why = f"{trade.words} shrinks {old} to {new}: that always passes"
        order = self._send(trade, _cost(self.margin, after), reduce_only=True)
        return self._approve(decision, order, after, why)

    def _enter(
        self, decision: Decision, view: MarketView, market: PerpetualMarket, delta: int
    ) -> Verdict:
        objection = next(self._unready(decision, view, market), None)
        if objection is not None:
            return self._deny(decision, *objection)
        base, held = self.reserved_margin(), self._held(market.ticker)
        sizing = self._sized(view, market, delta, base)
        if sizing is not None:
            if abs(sizing.quantums) <= abs(held) and sizing.quantums * held >= 0:
                told = {"wanted": held + delta, "borne": sizing.quantums}
                return self._deny(decision, "SIZE", f"no more is borne: {sizing.why}", told)
            delta = sizing.quantums - held
        most = _at_oracle(self.policy.max_order_usdc, view, market) or 0
        trade = ioc(view, market, max(-most, min(most, delta)), self.policy.slippage_bps)
        if trade is None or not trade.size:
            return self._below_step(decision, market, delta)
        after = trade.after(base, held, trade.worst_quote, self.policy.taker_fee_ppm)
        beyond = next(self._beyond(after, trade, held), None)  # the first objection wins
        if beyond is not None:
            return self._deny(decision, *beyond)
        cut = f", cut to {self.policy.max_order_usdc:,.0f} USDC" if abs(delta) > most else ""
        cut += f", sized by {sizing.why}" if sizing is not None else ""
        why = (
            f"{trade.words}{cut}: free collateral {usdc_text(base.free_collateral)} becomes "
            f"{usdc_text(after.free_collateral)}, leverage {after.leverage or 0:.2f}, distance "
            f"{percent_text(after.distance)} at the worst price"
        )
        order = self._send(trade, _cost(base, after), reduce_only=False)
        return self._approve(decision, order, after, why)

    def _sized(
        self, view: MarketView, market: PerpetualMarket, delta: int, base: MarginFigures
    ) -> Sizing | None:
        """Bound what a trade leads to by what is to be borne; None where nothing bounds it.

        Orders in flight count as filled.
        """
        policy, oracle = self.policy, view.oracle
        if (policy.bear_move is None and policy.max_volatility_1h is None) or oracle is None:
            return None
        trade = ioc(view, market, delta, policy.slippage_bps)
        if trade is None or not trade.size:
            return None
        price, held = (oracle.digits, oracle.exponent), self._held(market.ticker)
        fair = abs(position_margin(market, trade.size, *price).net_notional)
        lost = trade.worst_quote - fair if trade.side == "BUY" else fair - trade.worst_quote
        lost = max(lost, 0) + mul_ppm(trade.worst_quote, policy.taker_fee_ppm, round_up=True)
        views, watcher, collateral = self._views, self._watcher, self.account.settled
        sizes = {ticker: self._held(ticker) for ticker in self._exposures}
        for order in [r.order for r in self.account.reserved.values() if not r.order.reduce_only]:
            if (grid := views[order.ticker].market) is not None:
                quote = grid.quote_quantums(order.quantums, order.subticks)
                collateral -= quote if order.side == "BUY" else -quote
                collateral -= mul_ppm(quote, policy.taker_fee_ppm, round_up=True)
            sizes[order.ticker] = sizes.get(order.ticker, 0) + order.signed_quantums
        seen = [(views[ticker], size) for ticker, size in sizes.items()]
        holdings = [watcher.holding(v, v.market, size) for v, size in seen if v.market is not None]
        sizing = bound_position(
            position_margin(market, held + trade.delta, *price).net_notional,
            watcher.holding(view, market, held), collateral, holdings,
            equity=base.net_collateral, adverse=policy.bear_move,
            volatility_1h=policy.max_volatility_1h, cap=policy.max_leverage,
            cost_ppm=lost * PPM // max(fair, 1) + 2,
        )  # fmt: skip
        return None if sizing.limited_by == "wish" else sizing

    def _dangers(self) -> Iterator[_Objection]:
        """Yield what keeps the gate from being ACTIVE."""
        account, course, policy = self.account, self._course, self.policy
        if self._halted:
            yield "HALTED", f"halted: {self._halted}", {"halted": self._halted}
        age = self._now - account.at
        if account.trouble:
            yield "UNKNOWN_ACCOUNT", account.trouble, {"last_frame": account.seq}
        elif account.polled and age > self._stale_ns:
            why = f"the account was polled {age / 1e9:.1f} s ago, limit {policy.stale_seconds:g} s"
            yield "UNKNOWN_ACCOUNT", why, {"age_s": age / 1e9, "limit_s": policy.stale_seconds}
        if unknown := ", ".join(self.margin.unknown):
            yield "UNKNOWN_ORACLE", f"no oracle price of {unknown}", {"unknown": unknown}
        if course.lost is not None:
            lost, most = usdc_text(course.lost), policy.max_daily_loss_usdc
            why = f"{lost} USDC were lost since 00:00 UTC, limit {most:,.2f}"
            yield "DAILY_LOSS", why, {"lost": lost, "limit": most}
        if course.sunk is not None:
            sunk, limit = percent_text(course.sunk), percent_text(policy.max_drawdown)
            yield "DRAWDOWN", f"drawdown {sunk}, limit {limit}", {"drawdown": sunk, "limit": limit}

    def _unready(
        self, decision: Decision, view: MarketView, market: PerpetualMarket
    ) -> Iterator[_Objection]:
        book, oracle, ticker = view.book, view.oracle, market.ticker
        if pending := self.account.in_flight(ticker):
            yield self._waiting(pending[-1])
        yield from self._dangers()
        if view.status != "ACTIVE":
            was = view.status or "unknown"
            yield "STATUS", f"expected an ACTIVE market, it is {was}", {"status": was}
        if oracle is None:
            yield "UNKNOWN_ORACLE", f"no oracle price of {ticker}", {"unknown": ticker}
        if not book.known or book.best_bid is None or book.best_ask is None:
            was = "one-sided" if book.known else "unknown"
            yield "NO_BOOK", f"expected bids and asks, the book is {was}", {"book": was}
        yield from self._stale(decision, view)
        if not view.chain.height:
            yield "UNKNOWN_HEIGHT", "no block height seen yet", {"height": 0}
        others = [e.market for t, e in self._exposures.items() if t != ticker and e.market]
        if mixes_isolated([market, *others]):
            held = " ".join(other.ticker for other in others)
            yield "ISOLATED", "an isolated market needs a subaccount of its own", {"held": held}

    def _waiting(self, pending: Reservation) -> _Objection:
        last, now = pending.order.good_til_block, self.account.height
        why = f"{pending.verdict_id} has no answer: it may fill until block {last}, now {now}"
        return "IN_FLIGHT", why, {"verdict": pending.verdict_id, "until": last, "now": now}

    def _stale(self, decision: Decision, view: MarketView) -> Iterator[_Objection]:
        limit, oracle = self.policy.stale_seconds, view.oracle
        age = decision.at - min(view.book.at, oracle.at if oracle is not None else 0)
        if view.quality.stale or age > self._stale_ns:
            why = f"book or oracle is {age / 1e9:.1f} s old, limit {limit:g} s"
            yield "STALE", why, {"age_s": age / 1e9, "limit_s": limit}
        # The margin is no younger than the oldest price in it.
        since, held = decision.at - self._stale_ns, self._exposures.items()
        old = [(e.oracle.at, t) for t, e in held if e.oracle is not None and e.oracle.at < since]
        if old:
            at, ticker = min(old)
            age = decision.at - at
            why = f"the oracle price of {ticker} is {age / 1e9:.1f} s old, limit {limit:g} s"
            yield "STALE", why, {"ticker": ticker, "age_s": age / 1e9, "limit_s": limit}

    def _beyond(self, after: MarginFigures, trade: Trade, held: int) -> Iterator[_Objection]:
        policy, distance, leverage = self.policy, after.distance, after.leverage
        if after.free_collateral < 0:
            needs, has = usdc_text(after.initial_margin), usdc_text(after.net_collateral)
            yield "MARGIN", f"needs {needs} of initial margin, would have {has}", _in_usdc(after)
        if leverage is None or leverage > policy.max_leverage:
            was = "undefined" if leverage is None else f"{leverage:.2f}"
            yield (
                "LEVERAGE",
                f"leverage would be {was}, limit {policy.max_leverage:g}",
                _in_usdc(after),
            )
        if distance is not None and distance < policy.keep_above:
            limit = percent_text(policy.keep_above)
            why = f"distance would be {percent_text(distance)}, limit {limit}"
            yield "DISTANCE", why, _in_usdc(after)
        for reason, what, would_be, most in self._measured(after, trade, held):
            if not would_be <= most:  # nor if it is no number
                why = f"{what} would be {would_be:,.2f}, limit {most:,.2f}"
                yield reason, why, {"would_be": f"{would_be:.6f}", "limit": f"{most:.6f}"}

    def _measured(
        self, after: MarginFigures, trade: Trade, held: int
    ) -> Iterator[tuple[Reason, str, float, float]]:
        """Yield what a policy limits: what it would be, and the most it may."""
        policy, ticker, oracle = self.policy, trade.market.ticker, trade.view.oracle
        if (most := policy.max_account_usdc) is not None:
            yield "NOTIONAL", "notional in USDC", after.notional / 1e6, most
        most = policy.market_usdc.get(ticker, policy.max_market_usdc)
        if most is not None and oracle is not None:
            price = oracle.digits, oracle.exponent
            value = position_margin(trade.market, held + trade.delta, *price).net_notional
            yield "MARKET_NOTIONAL", f"notional of {ticker} in USDC", abs(value) / 1e6, most
        if (most := policy.max_positions) is not None and ticker not in self._exposures:
            orders = [held.order for held in self.account.reserved.values()]
            growing = {order.ticker for order in orders if not order.reduce_only}
            markets = self._exposures.keys() | self.account.unreadable | growing | {ticker}
            yield "POSITIONS", "positions", len(markets), most
        if (most := policy.max_orders_per_minute) is not None:
            yield "ORDER_RATE", "orders in a minute", self._sent_lately() + 1, most
        if (most := policy.max_slippage_bps) is not None:
            yield "SLIPPAGE", "slippage in bps", trade.slippage_bps, most

    def reserved_margin(self) -> MarginFigures:
        """Return the margin as if every order in flight had filled at its worst."""
        margin = self.margin
        for reservation in self.account.reserved.values():
            margin = _moved(margin, reservation.effect)
        return margin

    def _held(self, ticker: str) -> int:
        return self._exposures[ticker].quantums if ticker in self._exposures else 0

    # === Guard ===

    @property
    def flight_plan(self) -> FlightPlan:
        """Return the ladder as it is now, over what can be valued."""
        return self._ladder(self._estimate() if self.margin.unknown else self.margin)

    def _defend(self, view: MarketView) -> list[Verdict]:
        # Blind to a part, it acts on the rest, and on what that part was bought for.
        margin = self._estimate() if self.margin.unknown else self.margin
        near = margin.cushion < (self._earliest + self._ahead) * margin.sensitivity
        if not (near or margin.unknown):
            self.rung = 0
            return []
        blind = ", ".join(margin.unknown)
        heard: list[Verdict] = []
        if blind and self._is_due("blind"):
            why = f"guard: blind, no oracle of {blind}"
            heard.append(self._deny(view, "UNKNOWN_ORACLE", why, {"unknown": blind}))
        # Books alone are weighed once a turn, prices whenever they move.
        weighed = self._weighed[0] is self.margin and self._weighed[1] == self._turn
        if near and not weighed and self._acted.get("near") != self._turn:
            self._weighed = self.margin, self._turn
            heard += self._relieve(view, margin)
        return heard

    def _is_due(self, what: str) -> bool:
        if self._acted.get(what) == self._turn:
            return False
        self._acted[what] = self._turn
        return True

    def _estimate(self) -> MarginFigures:
        held = self._exposures.values()
        terms = [e.terms or e.at_entry for e in held]
        return total_margin(self.account.settled, terms, self.margin.unknown)

    def _ladder(self, margin: MarginFigures) -> FlightPlan:
        fall = int(self._ahead * max(margin.sensitivity, 0))
        waiting = frozenset(t for t in self._exposures if self._is_reducing(t))
        stirred = self._stirred | (waiting ^ self._waited)
        if stirred or self._drawn != (margin, fall):
            held = {ticker: self._quantums(ticker) for ticker in stirred}
            self._plan = replan(self._plan, margin, held, self._views, fall=fall, waiting=waiting)
            self._stirred, self._waited, self._drawn = set(), waiting, (margin, fall)
        return self._plan

    def _quantums(self, ticker: str) -> int | None:
        exposure = self._exposures.get(ticker)
        if exposure is None:
            return None if ticker in self.account.unreadable else 0
        return exposure.quantums if exposure.market is not None else None

    def _relieve(self, view: MarketView, margin: MarginFigures) -> list[Verdict]:
        """Fire what is due of the ladder, or say why nothing can be."""
        if not view.chain.height:
            return self._helpless(view, margin, "UNKNOWN_HEIGHT", "no block height is known")
        plan = self._ladder(margin)
        rungs = joined(due(plan, plan.distance_next))
        if rungs:
            self.rung += 1
            self._acted["near"] = self._turn
        elif not (plan.rungs or self._waited):
            return self._helpless(view, margin, "BELOW_STEP", "no reduction would relieve it")
        verdicts: list[Verdict] = []
        start = _away(margin)
        for rung in rungs:
            near = _nearness(start, plan.distance_next or 0.0, rung.fires_below)
            reduce = self._reduce(view, rung, margin, near)
            verdicts.append(reduce)
            margin = reduce.after
        return verdicts

    def _helpless(
        self, view: MarketView, margin: MarginFigures, reason: Reason, but: str
    ) -> list[Verdict]:
        distance = _away(margin)
        if distance >= self.policy.act_below or not self._is_due("near"):
            return []
        told, limit = percent_text(distance), percent_text(self.policy.act_below)
        why = f"guard: distance {told} < {limit}, but {but}"
        return [self._deny(view, reason, why, {"distance": told, "limit": limit})]

    def _is_reducing(self, ticker: str) -> bool:
        # Two reductions cannot flip a position, so that one in doubt is not waited for.
        return any(not r.doubted for r in self._reducing(ticker))

    def _reducing(self, ticker: str) -> list[Reservation]:
        # One sent before the position changed sides reduces nothing.
        held = self._held(ticker)
        waiting = self.account.in_flight(ticker)
        return [r for r in waiting if r.order.reduce_only and r.order.signed_quantums * held < 0]

    def _reduce(self, view: MarketView, rung: Rung, before: MarginFigures, near: str) -> Reduce:
        seen, fee_ppm = self._views[rung.ticker], self.policy.taker_fee_ppm
        trade = Trade(rung.market, seen, rung.side, rung.quantums, rung.subticks)
        after = trade.after(before, rung.held, rung.quote, fee_ppm)
        order = self._send(trade, _cost(before, after), reduce_only=True)
        # Orders of one moment are told one after the other, whatever cuts each is made of.
        rung = msgspec.structs.replace(rung, restores=_away(after) if after.notional else inf)
        return Reduce(
            id=self._next_id(),
            order=order,
            seq=view.seq,
            at=view.at,
            # What was estimated for a part that is not known stays marked as unknown.
            before=before,
            after=after,
            distance=_away(before),
            rung=self.rung,
            cost=rung.cost,
            why=f"{rung.words}: {near}; {rung.ends}",
        )

    def _send(self, trade: Trade, effect: MarginFigures, *, reduce_only: bool) -> OrderRequest:
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
        self._sent_lately()
        self._sent.append(self._now)
        id_ = order_id(self.account.subaccount, order)
        self.account.reserved[id_] = Reservation(
            order=order,
            order_id=id_,
            effect=effect,
            verdict_id=f"V{self._verdicts + 1}",
        )
        return order

    def _sent_lately(self) -> int:
        while self._sent and self._sent[0] <= self._now - _MINUTE_NS:
            self._sent.popleft()
        return len(self._sent)

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
        self, cause: Decision | MarketView, reason: Reason, why: str, figures: Mapping[str, object]
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
        wanted = amount_text(market.size(abs(delta)))
        step = amount_text(market.size(market.step_base_quantums))
        why = f"{wanted} {market.ticker} is left to trade, less than one step of {step}"
        return self._deny(decision, "BELOW_STEP", why, {"wanted": wanted, "step": step})

    def _next_id(self) -> str:
        self._verdicts += 1
        return f"V{self._verdicts}"


def _moved(margin: MarginFigures, effect: MarginFigures) -> MarginFigures:
    return MarginFigures(
        margin.net_collateral + effect.net_collateral,
        margin.initial_margin + effect.initial_margin,
        margin.maintenance_margin + effect.maintenance_margin,
        margin.notional + effect.notional,
        margin.sensitivity + effect.sensitivity,
        margin.unknown,
    )


def _cost(before: MarginFigures, after: MarginFigures) -> MarginFigures:
    # What is better after it may not come, and must not be counted on: figure by figure.
    return MarginFigures(
        min(0, after.net_collateral - before.net_collateral),
        max(0, after.initial_margin - before.initial_margin),
        max(0, after.maintenance_margin - before.maintenance_margin),
        max(0, after.notional - before.notional),
        max(0, after.sensitivity - before.sensitivity),
    )


def _away(margin: MarginFigures) -> float:
    # Over what is known, where `distance` says None as soon as anything is not.
    return margin.cushion / max(margin.sensitivity, 1)


def _nearness(distance: float, then: float, fires_below: float) -> str:
    now, then_, limit = percent_text(distance), percent_text(then), percent_text(fires_below)
    if distance >= fires_below:
        return f"distance {now}, after another such block {then_} < {limit}"
    return f"distance {now} < {limit}" + (f", {then_} after another such block" * (then_ != now))


def _in_usdc(margin: MarginFigures) -> dict[str, str]:
    return {name: usdc_text(getattr(margin, name)) for name in _TOLD}


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

    @property
    def at_entry(self) -> PositionMargin:
        """Return the margin as far as it is known without an oracle price."""
        value = int((self.position.size * self.position.entry_price).scaleb(6))
        maintenance = -(-abs(value) * self.maintenance_e12 // PPM**2)
        return PositionMargin(value, maintenance, maintenance)

    def revalue(self) -> None:
        market, oracle = self.market, self.oracle
        if market is None or oracle is None:
            self.terms = None
            return
        digits, exponent, interest = oracle.digits, oracle.exponent, self.open_interest
        try:
            self.terms = position_margin(market, self.quantums, digits, exponent, interest)
        except MarginError:
            self.terms = None  # beyond what the chain can hold: not known either


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


class _Course:
    """How the equity went, transfers taken out: quote quantums since the UTC day and the peak.

    `lost` and `sunk` are set where a limit was passed, and stay so: the loss until the day is
    over, the drawdown until somebody resumes.
    """

    __slots__ = ("day", "lost", "opened", "peak", "profit", "sunk")

    def __init__(self) -> None:
        self.day = -1
        self.opened = self.peak = self.profit = 0
        self.lost: int | None = None
        self.sunk: float | None = None

    def move(self, equity: int, paid_in: int, day: int, policy: Policy) -> None:
        """Take the equity of the moment in."""
        profit = equity - paid_in
        if self.day < 0:
            self.peak = self.profit = profit
        if day != self.day:
            # A day opens with what the last one closed with.
            self.day, self.opened, self.lost = day, self.profit, None
        self.profit = profit
        if profit > self.peak:
            self.peak = profit
        most, lost = policy.max_daily_loss_usdc, self.opened - profit
        if most is not None and lost > most * 1e6:
            self.lost = max(lost, self.lost or 0)
        most, sunk = policy.max_drawdown, self.peak - profit
        if most is not None and sunk > most * (self.peak + paid_in):
            share = sunk / max(self.peak + paid_in, 1)
            self.sunk = max(share, self.sunk or 0.0)


# === Streams ===


def verdicts(risk: Risk | None = None) -> Callable[[Observable[_Event]], Observable[Verdict]]:
    """Judge every event with one `Risk`; without one, each subscriber has its own.

    Hot or cold as the source is; completes and errors with it; runs on its thread.

        events    --view--decision--frame--view--|
        verdicts  --------Approved---------Reduce|
    """
    return fold(lambda: risk if risk is not None else Risk(), Risk.step)


def watches(
    risk: Risk, every_ns: int = 1_000_000_000
) -> Callable[[Observable[MarketView]], Observable[Watch]]:
    """Look at the account of `risk` at most once in so much event time.

    Subscribe it behind `verdicts`, so that the account has seen what the watch is of. Hot or cold
    as the source is; completes and errors with it; runs on its thread.

        views    --v-v-v---v-v--|
        watches  --W-------W----|
    """

    def step(due: list[int], view: MarketView) -> list[Watch]:
        if view.at < due[0]:
            return []
        due[0] = view.at + every_ns
        return [risk.watch(view)]

    return fold(lambda: [0], step)
