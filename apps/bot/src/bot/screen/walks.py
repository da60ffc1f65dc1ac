"""Decisions from their scores to their fills, orders as they stand, and what trading came to.

    Journal, Executed, the strategy's looks ──► walk ────────► dydx_panels.WalkPart
    Executed ─────────────────────────────────► orders_of ───► dydx_panels.OrderRow
    Executed, Shown ──────────────────────────► performance ─► dydx_panels.PerformancePart
    Risk, the paper ledger ───────────────────► margins, held_costs

What a layer computed goes in as it is; here it is only brought together.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from dydx_panels import HeldCosts, MarginRow, OrderRow, PerformancePart, WalkPart, WalkRow
from dydx_paper import PaperVenue, execution_figures
from dydx_risk import PPM, Approved, Denied, checks
from dydx_strategy import Allocator, Composite, Decision, Look, RankSettings, composite

from bot.run.composition import Bot
from bot.run.executed import SeenOrder
from bot.run.journal import JournalEntry
from bot.screen.allocation import settings_of

WALKS: Final = 40
_JUDGED: Final = ("approved", "denied")
# What an order is, by its time in force and its flags.
_KINDS: Final = {
    "IOC": "at once",
    "FOK": "all or nothing",
    "POST_ONLY": "post-only",
    "GTT": "resting",
}
_PLAIN: Final = ("", "LIMIT", "MARKET")


# === Orders ===


def orders_of(bot: Bot, count: int) -> tuple[OrderRow, ...]:
    """Return the newest orders, those first that are still open."""
    newest = [*reversed(bot.executed.orders.values())]
    newest.sort(key=lambda order: order.state.final)
    known, rows = bot.executed.rows, dict[str, tuple[SeenOrder, OrderRow]]()
    for order in newest[:count]:
        seen = known.get(order.id)
        again = seen if seen is not None and seen[0] is order and order.state.final else None
        rows[order.id] = again or (order, order_row(bot, order))
    bot.executed.rows = rows
    return tuple(row for _, row in rows.values())


def order_row(bot: Bot, order: SeenOrder) -> OrderRow:
    """Return an order as it stands, in words."""
    state, sent = order.state, order.state.order
    view = bot.data.views.get(_ticker(order))
    market = view.market if view is not None else None
    row, price, trigger = state.row, None, None
    if sent is not None and market is not None:
        price = float(market.price(sent.subticks))
        trigger = float(market.price(sent.trigger_subticks)) if sent.trigger_subticks else None
    elif row is not None:
        price = float(row.price) if row.price else None
        trigger = float(row.trigger_price) if row.trigger_price else None
    size = float(state.size) if state.size else None
    if size is None and sent is not None and market is not None:
        size = float(market.size(sent.quantums))
    verdict = bot.journal.find(order.verdict)
    return OrderRow(
        id=order.id, at=order.since, seq=order.seq, ticker=_ticker(order), size=size, market=market,
        side=sent.side if sent is not None else row.side or "" if row is not None else "",
        filled=float(max(state.filled, order.filled)), price=price, trigger=trigger,
        average=None if order.average is None else float(order.average), fee=order.fee,
        kind=_kind(order), status=state.status,
        why=_why(bot, order), verdict=order.verdict, by=_by(verdict),
        age_s=None if state.final else float((bot.data.at - order.since) // 10**9),
        fills=order.fills,
    )  # fmt: skip


def _ticker(order: SeenOrder) -> str:
    return order.state.named.ticker if order.state.named is not None else ""


def _kind(order: SeenOrder) -> str:
    """Say in words how an order was to trade, as we sent it or else as the indexer reports it."""
    sent, row = order.state.order, order.state.row
    kind: str
    force: str
    if sent is not None:
        kind, force, reduces = sent.condition_type, sent.time_in_force, sent.reduce_only
    elif row is not None:
        kind, reduces = row.type or "", bool(row.reduce_only)
        force = "POST_ONLY" if row.post_only else row.time_in_force or ""
    else:
        return ""
    words = "" if kind in _PLAIN else kind.lower().replace("_", " ")
    parts = words, _KINDS.get(force, force), "reduce-only" if reduces else ""
    return ", ".join(filter(None, parts))


def _why(bot: Bot, order: SeenOrder) -> str:
    """Return in words why an order ended before it was filled: ours if we took it back."""
    named, taken_back = order.state.named, bot.executed.taken_back
    if named is not None and order.state.status != "FILLED" and named.client_id in taken_back:
        return taken_back[named.client_id]
    reason = order.state.reason.removeprefix("ORDER_REMOVAL_REASON_")
    if order.state.leaving and not reason:
        return "leaves the book, and may still fill"
    return reason.replace("_", " ").lower() if reason.isupper() else reason


def _by(verdict: JournalEntry | None) -> str:
    if verdict is None:
        return "another"
    if verdict.kind == "reduce":
        return "guard"
    return verdict.parent or verdict.kind


# === The walk ===


def walk(bot: Bot) -> WalkPart:
    """Return the newest decisions, each from its scores to its fills."""
    judged: dict[str, JournalEntry] = {}
    rows: list[WalkRow] = []
    looks = _looks(bot)
    for entry in reversed(bot.journal.entries):
        if entry.kind in _JUDGED and entry.parent:
            judged.setdefault(entry.parent, entry)
        elif entry.kind == "decision":
            rows.append(_walked(bot, entry.value, judged.get(entry.id), looks))
            if len(rows) == WALKS:
                break
    return WalkPart(rows=tuple(rows))


def _walked(
    bot: Bot, decision: Decision, judged: JournalEntry | None, looks: dict[int, tuple[str, Look]]
) -> WalkRow:
    strategy = bot.shown.strategy
    name, look = looks.get(decision.seq, (strategy.name if strategy is not None else "", None))
    verdict = judged.value if judged is not None else None
    orders = bot.executed.of(judged.id) if judged is not None else []
    return WalkRow(
        decision=decision, strategy=name, look=look, composite=_composite(decision, look),
        limits={} if look is not None or strategy is None else _limits(strategy),
        verdict=verdict if isinstance(verdict, Approved | Denied) else None,
        checks=checks(verdict, bot.options.policy) if isinstance(verdict, Approved) else (),
        orders=tuple(order_row(bot, order) for order in orders),
    )  # fmt: skip


def _limits(strategy: Any) -> dict[str, float]:
    return dict(settings_of(strategy).get("thresholds", {}))


def _composite(decision: Decision, look: Look | None) -> Composite | None:
    """Return what the scores came to by the weights that were in force."""
    if look is None or not isinstance(look.settings, RankSettings):
        return None
    return composite(decision.scores, look.settings)


def _looks(bot: Bot) -> dict[int, tuple[str, Look]]:
    """Return by frame how a strategy that ranks saw all markets, and the strategy's name."""
    found: dict[int, tuple[str, Look]] = {}
    for strategy in _strategies(bot):
        looks: Iterable[Look] = getattr(strategy, "looks", ())
        found |= {look.seq: (strategy.name, look) for look in looks}
    return found


def _strategies(bot: Bot) -> Iterator[Any]:
    strategy = bot.shown.strategy
    yield from strategy.strategies if isinstance(strategy, Allocator) else filter(None, [strategy])


# === What it came to ===


def performance(bot: Bot) -> PerformancePart:
    """Return what trading came to: the account, its trades and its fills."""
    did, fills = bot.venue.figures(), bot.executed.fills
    return PerformancePart(
        performance=bot.shown.performance(), trades=bot.shown.trades(),
        costs=execution_figures(fills), executions=tuple(reversed(fills))[:WALKS],
        won=did.wins, lost=did.losses, fills=did.fills, fees=did.fees_paid,
        funding=did.funding_paid, insurance=did.insurance_paid,
        queue=bot.venue.queue if isinstance(bot.venue, PaperVenue) else "",
        complete=getattr(did, "complete", True),
    )  # fmt: skip


# === Positions ===


def held_costs(bot: Bot) -> tuple[HeldCosts, ...]:
    """Return what each open position has cost so far; of the wire nobody counts it by position."""
    if not isinstance(bot.venue, PaperVenue):
        return ()
    ledger = bot.venue.ledger
    return tuple(
        HeldCosts(
            ticker=ticker, fees=-held.fees, funding=held.net_funding,
            owed=ledger.owed_ppm(held) // PPM,
        )
        for ticker, held in ledger.holdings.items()
    )  # fmt: skip


def margins(bot: Bot) -> tuple[MarginRow, ...]:
    """Return what each position requires, the nearest to liquidation first."""
    inputs, views = bot.risk.watcher.inputs(bot.risk.valued), bot.data.views
    return tuple(
        MarginRow(
            figures=row, inputs=inputs.get(row.ticker),
            market=views[row.ticker].market if row.ticker in views else None,
        )
        for row in bot.risk.positions()
    )  # fmt: skip
