"""What an order may cost at worst: known before it is sent, shown beside the verdict on it.

    order, view of its market, risk ──► worst_case ──► Estimate ──► audit log, journal

The fees are those of the lowest tier, the worst that anybody pays.
"""

from typing import TYPE_CHECKING

from dydx_conn import Estimate, Fees, OrderRequest, estimate
from dydx_data import MarketView

if TYPE_CHECKING:
    from dydx_risk import Approved, Bracket, Reduce, Risk


def worst_case(order: OrderRequest, view: MarketView | None, risk: "Risk") -> Estimate | None:
    """Return what an order may cost at worst; None if nobody knows its market."""
    if view is None or view.market is None:
        return None
    market, oracle, bid = view.market, view.oracle, view.book.best_bid
    held = risk.account.positions.get(order.ticker)
    known = risk.margin.known and not risk.account.trouble
    return estimate(
        order,
        market,
        Fees(),
        oracle_subticks=market.ceil_subticks(oracle.text) if oracle is not None else 0,
        best_bid_subticks=market.ceil_subticks(bid.price_text) if bid is not None else 0,
        position=(held.quantums or 0) if held is not None else 0,
        net_collateral=risk.margin.net_collateral if known else None,
        initial_margin=risk.margin.initial_margin,
    )


def flight_words(verdict: "Approved | Reduce | Bracket", risk: "Risk") -> str:
    """Put in words what other orders, on their way, take off the free collateral; "" for nothing.

    A verdict counts it as spent; the margin as it is does not.
    """
    others = (
        reserved.effect
        for reserved in risk.account.orders.reserved.values()
        if reserved.verdict_id != verdict.id
    )
    taken = sum(effect.initial_margin - effect.net_collateral for effect in others)  # integers
    shown = taken and not verdict.order.reduce_only
    return (
        f"; {taken / 1e6:,.2f} USDC of free collateral are in flight with others" if shown else ""
    )


def cost_words(found: Estimate | None) -> str:
    """Put what an order may cost in a few words; "" if that is not known."""
    if found is None:
        return ""
    fee, margin = (f"{money / 1e6:,.2f}" for money in (found.fee, max(found.initial_margin, 0)))
    return f"; fee up to {fee}, margin up to {margin} USDC, no gas"
