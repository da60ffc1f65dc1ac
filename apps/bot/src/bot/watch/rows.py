"""Watched accounts as rows: for the panel, for a pipe, and for the report at the end.

Group, pasts ──► account_rows ──► dydx_panels.AccountRow
Standing ──► line ──► a line when something changed
Group ──► report_lines, report_json
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import inf, isinf
from typing import Any, Final

from dydx_conn import PARENTS, Network, Subaccount
from dydx_panels import AccountRow
from dydx_risk import MarginFigures, due, percent_text, sign_text

from bot.run.composition import Bot
from bot.times import clock
from bot.watch.account import NO_KEY, past_json, past_lines
from bot.watch.group import Group, Standing
from bot.watch.past import Past
from bot.watch.reading import FIGURES, INDEXER_ONLY, exact_usdc

Pasts = Mapping[Subaccount, Past]

# === The panel ===


def account_rows(group: Group, chosen: Bot, pasts: Pasts) -> tuple[AccountRow, ...]:
    """Return a row for each account, as it stands; the panels show `chosen`."""
    return tuple(_row(group, whose, bot is chosen, pasts) for whose, bot in group.bots.items())


def _row(group: Group, whose: Subaccount, chosen: bool, pasts: Pasts) -> AccountRow:
    bot, earlier = group.bots[whose], pasts.get(whose)
    account, margin = bot.risk.account, _margin(bot)
    known = not account.trouble
    distance = None if margin is None else margin.distance
    return AccountRow(
        id=str(whose),
        kind="isolated" if whose.number >= PARENTS else "cross",
        equity=None if margin is None else margin.net_collateral / 1e6,
        profit=_profit(group, whose),
        day=None if earlier is None else _float(earlier.spans["24 h"]),
        leverage=None if margin is None else margin.leverage,
        distance=distance,
        positions=len(account.positions) if known or account.positions else None,
        orders=len(account.orders.open) if known else None,
        block=group.block(whose),
        height=account.height or None,
        trouble=trouble_of(group, whose),
        due=is_due(bot),
        chosen=chosen,
        lines=(*_chosen(group, whose), *(() if earlier is None else past_lines(earlier))),
    )


def is_due(bot: Bot) -> bool:
    """Return whether a step of the way out is due now, by the limits of the profile."""
    watch = bot.shown.watch()
    if watch is None or watch.plan.distance_now is None:
        return False
    return bool(due(watch.plan, watch.plan.distance_next))


def _chosen(group: Group, whose: Subaccount) -> Iterator[str]:
    """Yield what the chain requires where a leverage was chosen, which the indexer leaves out."""
    seen = group.seen.get(whose)
    held = [] if seen is None else [h for h in seen.holdings if h.selected_leverage is not None]
    if seen is None or seen.margin is None or not held:
        return
    margin = seen.margin
    figures = f"initial margin {margin.initial_margin / 1e6:,.2f}"
    free = f"free {margin.free_collateral / 1e6:,.2f} USDC on the chain at {seen.height}"
    yield f"{figures}, {free}: a leverage is chosen for {', '.join(h.ticker for h in held)}"


def _margin(bot: Bot) -> MarginFigures | None:
    margin = bot.risk.margin
    return None if bot.risk.account.trouble or margin.unknown else margin


def trouble_of(group: Group, whose: Subaccount) -> str:
    """Return why an account is not known for certain, or what else is to be known of it; or ""."""
    bot = group.bots[whose]
    account, unknown = bot.risk.account, bot.risk.margin.unknown
    if account.trouble:
        lost = bot.shown.last_loss
        is_why = lost is not None and lost.reason and account.trouble.endswith(f" at {lost.seq}")
        return f"{account.trouble} ({lost.reason})" if lost and is_why else account.trouble
    if unknown:
        many = sum(view.market is not None for view in bot.data.views.values())  # integers
        what = f"cannot be valued: {', '.join(unknown)}"
        if not many:
            return f"{what}, no prices yet"
        return f"{what}, no price among the {many} markets that the indexer reports"
    if not (account.collateral or account.positions):
        return group.notes.get(whose, "")
    return ""


def _profit(group: Group, whose: Subaccount) -> float | None:
    profit = group.profit(whose)
    return None if profit is None else profit / 1e6


def _float(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


# === A pipe ===

# A distance that moved by less, or by less of itself where it is far away, is not printed.
_STEP: Final = 0.005
_SHARE: Final = 0.05


class Changes:
    """What is worth a line: a state, what is held, each half per cent of distance."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._printed: dict[Subaccount, tuple[tuple[object, ...], float]] = {}

    def line(self, standing: Standing) -> str:
        """Return a line about what has changed since the last one; "" if nothing has."""
        whose, away = standing.whose, standing.distance
        trouble = trouble_of(self._group, whose)
        what = trouble, standing.alarm, standing.positions, away is None, standing.block is None
        before, at = self._printed.get(whose, ((), inf))
        near = away is None or abs(away - at) < max(_STEP, _SHARE * abs(away))
        if what == before and near:
            return ""
        self._printed[whose] = what, inf if away is None else away
        return f"{clock(standing.at)[11:19]} {short(whose)} {words_of(standing, trouble)}"


def short(whose: Subaccount) -> str:
    """Name an account by the ends of its address."""
    return f"{whose.owner[:8]}…{whose.owner[-5:]}/{whose.number}"


def words_of(standing: Standing, trouble: str) -> str:
    """Put in words how an account stands, and by whose word."""
    if trouble and not (standing.positions == 0 and not standing.trouble):
        was = f"; it was {percent_text(standing.margin.distance)}" if standing.positions else ""
        return f"UNKNOWN: {trouble}{was if standing.margin.distance is not None else ''}"
    margin = standing.margin
    equity = f"equity {margin.net_collateral / 1e6:,.2f}"
    where = f"exact at block {standing.block}" if standing.block is not None else INDEXER_ONLY
    if not standing.positions:
        return f"FLAT, {equity}; {trouble or where}"
    leverage = "" if margin.leverage is None else f", leverage {margin.leverage:.2f}x"
    away = f"{'LIQUIDATABLE, ' * (standing.alarm == 'liquidatable')}{percent_text(margin.distance)}"
    count = f"{standing.positions} position{'s' * (standing.positions > 1)}"
    return f"{away} to liquidation, {equity}{leverage}, {count}; {where}"


# === The report ===


def report_lines(net: Network, group: Group, pasts: Pasts) -> Iterator[str]:
    """Yield what is printed at the end."""
    yield f"{net.name} ({net.chain_id}), {NO_KEY}"
    for whose in group.bots:
        standing, profit = group.standing(whose), _profit(group, whose)
        yield f"{whose}"
        yield f"  {words_of(standing, trouble_of(group, whose))}"
        closest = group.bots[whose].risk.closest
        earned = "unknown" if profit is None else f"{profit:+,.2f}"
        near = "no position so far" if closest is None else f"closest {percent_text(closest)}"
        yield f"  while watched: profit {earned}, {near}"
        yield from (f"  {each}" for each in (*_chosen(group, whose), *_held(group, whose)))
        if (earlier := pasts.get(whose)) is not None:
            yield from (f"  {each}" for each in past_lines(earlier))
    if group.no_chain and any(group.standing(each).block is None for each in group.bots):
        yield f"{INDEXER_ONLY}: {group.no_chain}"


def _held(group: Group, whose: Subaccount) -> Iterator[str]:
    doubt = "last known: " * bool(group.bots[whose].risk.account.trouble)
    for row in group.bots[whose].risk.positions():
        level = row.liquidation_price
        never = level is None or level <= 0
        at = "no price of it liquidates" if never else f"liquidated at {level:,.7g}"
        yield f"{doubt}{row.ticker} {row.size.normalize():+f}, {at}"
    if not doubt:
        yield from advice(group, whose)


def advice(group: Group, whose: Subaccount) -> Iterator[str]:
    """Yield the way out of an account, a step each: nothing of it is sent.

    By the limits of the profile that is chosen: which order, where, what it restores and costs.
    """
    plan = group.bots[whose].risk.flight_plan
    firing = due(plan, plan.distance_now)
    # A step that is not due yet has a reason, too: it would read as if it were.
    if due(plan, plan.distance_next) and plan.step is not None and plan.step.why:
        yield f"advice by the limits of the profile: {sign_text(plan.step.why)}"
    for rung in plan.rungs[:_STEPS]:
        when = "now" if rung in firing else f"below {percent_text(rung.fires_below)}"
        yield f"advice, {when}: {sign_text(rung.words)}, {rung.ends}"
    if len(plan.rungs) > _STEPS:
        more = len(plan.rungs) - _STEPS
        cost = f"{plan.cost / 1e6:,.2f} USDC in all"
        yield f"advice: {more} more step{'s' * (more > 1)}, {cost}"
    for ticker, why in plan.left:
        yield f"advice: {ticker} stays: {why}"


_STEPS: Final = 3


def report_json(net: Network, group: Group, pasts: Pasts) -> dict[str, Any]:
    """Return the same for a program: amounts are exact, as text, None is unknown."""
    return {
        "network": net.name,
        "chain_id": net.chain_id,
        "chain_unknown_because": group.no_chain or None,
        "accounts": [_json(group, whose, pasts) for whose in group.bots],
    }


def _json(group: Group, whose: Subaccount, pasts: Pasts) -> dict[str, Any]:
    standing, risk = group.standing(whose), group.bots[whose].risk
    margin = _margin(group.bots[whose])
    away, profit = standing.distance, group.profit(whose)
    return {
        "address": whose.owner,
        "subaccount": whose.number,
        "key": None,
        "block": standing.block,
        "height": risk.account.height or None,
        "trouble": trouble_of(group, whose) or None,
        **{name: exact_usdc(getattr(margin, name, None)) for name in FIGURES},
        "unsettled_funding": exact_usdc(
            None if margin is None else risk.account.unsettled.quantums
        ),
        "leverage": None if margin is None else margin.leverage,
        "distance": None if away is None or isinf(away) else away,
        "closest": risk.closest,
        "profit_while_watched": exact_usdc(profit),
        "positions": [
            {"ticker": row.ticker, "size": f"{row.size.normalize():f}"} for row in risk.positions()
        ],
        "orders": len(risk.account.orders.open),
        "advice": [*advice(group, whose)],
        "past": past_json(pasts.get(whose)),
    }
