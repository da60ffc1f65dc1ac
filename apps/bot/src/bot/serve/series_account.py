"""What Prometheus gets of decisions, orders and the account.

    Sources ──► ACCOUNT, rows of one metric each

Counts are of the run, money is in USDC. While what is held is not certain nothing of it has a
sample.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from bot.serve.sample import Sample, Series, Sources, one, usdc

_GATES: Final = ("ACTIVE", "REDUCING", "HALTED")

# === Decisions and orders ===


def _journal(prefix: str, *names: str) -> Callable[[Sources], Iterator[Sample]]:
    """Yield counts of the journal: of these names, 0 as well, or of all that begin alike."""

    def samples(seen: Sources) -> Iterator[Sample]:
        counts = dict(seen.run.journal)
        if names:
            yield from (((name,), counts.get(f"{prefix}{name}", 0)) for name in names)
            return
        yield from (
            ((name.removeprefix(prefix),), count)
            for name, count in counts.items() if name.startswith(prefix)
        )  # fmt: skip

    return samples


def _written(name: str) -> Callable[[Sources], Iterable[Sample]]:
    return one(lambda seen: dict(seen.run.journal).get(name, 0))


def _rows(name: str) -> Callable[[Sources], Iterable[Sample]]:
    return lambda seen: [((key,), count) for key, count in getattr(seen.run, name)]


_ORDERS: Final = (
    Series("decisions_total", "counter", "Decisions, by what they would do.", ("action",),
           _journal("", "target", "hold")),
    Series("verdicts_total", "counter", "Verdicts of the gate and acts of the guard (reduce).",
           ("verdict",), _journal("", "approved", "denied", "reduce", "bracket", "withdraw")),
    Series("order_updates_total", "counter", "Updates of orders, by the status they came to.",
           ("status",), _journal("order ")),
    Series("open_orders", "gauge", "Orders that stand, by status.", ("status",),
           _rows("open_orders")),
    Series("order_refusals_total", "counter", "Orders that were not taken, by reason.",
           ("reason",), _rows("refusals")),
    Series("fills_total", "counter", "Fills.", (), _written("fill")),
    Series("trades_total", "counter", "Trades that ended, by whether they won.", ("result",),
           _rows("trades")),
    Series("liquidations_total", "counter", "Liquidations.", (),
           one(lambda seen: seen.run.liquidations)),
    Series("acts_total", "counter", "Acts of persons and watchdogs.", (), _written("act")),
    Series("gate_changes_total", "counter", "Changes of the gate.", (), _written("gate")),
    Series("journal_entries_total", "counter", "What was written down of all this.", (),
           one(lambda seen: seen.run.written)),
)  # fmt: skip

# === Account ===


def _money(name: str) -> Callable[[Sources], Iterable[Sample]]:
    return one(lambda seen: usdc(getattr(seen.run.account.money, name)))


def _margin(name: str, *, is_money: bool = True) -> Callable[[Sources], Iterable[Sample]]:
    def value(seen: Sources) -> float | None:
        margin = seen.run.account.margin
        found = None if margin is None else getattr(margin, name)
        return usdc(found) if is_money else found

    return one(value)


def _held(value: Callable[[Any], Any]) -> Callable[[Sources], Iterator[Sample]]:
    def samples(seen: Sources) -> Iterator[Sample]:
        for row in seen.run.account.positions:
            found = value(row)
            yield (row.ticker,), None if found is None else float(found)

    return samples


def _gate(seen: Sources) -> Iterable[Sample]:
    state = seen.run.account.standing.state
    return [((name,), float(name == state)) for name in _GATES]


_HELD: Final = (
    Series("account_known", "gauge", "1 if what the account holds is certain.", (),
           one(lambda seen: float(not seen.run.account.trouble))),
    Series("gate_state", "gauge", "1 for what the gate lets pass by now, else 0.", ("state",),
           _gate),
    Series("guard_enabled", "gauge", "1 if the guard may act.", (),
           one(lambda seen: float(seen.run.account.guard))),
    Series("strategy_stopped", "gauge", "1 once the strategy raised, or took too long.", (),
           one(lambda seen: float(bool(seen.run.stopped)))),
    Series("equity_usdc", "gauge", "What the account is worth.", (), _money("equity")),
    Series("realized_pnl_usdc", "gauge", "Won or lost by trades, settled funding with it.", (),
           _money("realized_pnl")),
    Series("unrealized_pnl_usdc", "gauge", "What open positions have won or lost.", (),
           _money("unrealized_pnl")),
    Series("funding_usdc", "gauge", "Funding received, negative if paid.", (), _money("funding")),
    Series("fees_paid_usdc", "gauge", "Fees paid, less what makers got.", (), _money("fees_paid")),
    Series("insurance_paid_usdc", "gauge", "What the insurance fund took in liquidations.", (),
           _money("insurance_paid")),
    Series("day_pnl_usdc", "gauge", "Won or lost since the UTC day began.", (), _money("today")),
    Series("drawdown_ratio", "gauge", "How far below its peak the profit is, of the equity.", (),
           one(lambda seen: seen.run.account.money.drawdown)),
    Series("free_collateral_usdc", "gauge", "Above the initial margin.", (),
           _margin("free_collateral")),
    Series("initial_margin_usdc", "gauge", "Initial margin of all positions.", (),
           _margin("initial_margin")),
    Series("maintenance_margin_usdc", "gauge", "Below this equity it is liquidated.", (),
           _margin("maintenance_margin")),
    Series("notional_usdc", "gauge", "All positions, long and short added up.", (),
           _margin("notional")),
    Series("margin_usage_ratio", "gauge", "Initial margin of the equity.", (),
           _margin("usage", is_money=False)),
    Series("leverage_ratio", "gauge", "Notional of the equity.", (),
           _margin("leverage", is_money=False)),
    Series("distance_to_liquidation_ratio", "gauge",
           "The adverse move of all prices at once that liquidates; none while flat.", (),
           _margin("distance", is_money=False)),
    Series("position_notional_usdc", "gauge", "A position, negative if it is short.", ("market",),
           _held(lambda row: usdc(row.net_notional))),
    Series("position_unrealized_pnl_usdc", "gauge", "What a position has won or lost.", ("market",),
           _held(attrgetter("unrealized_pnl"))),
    Series("position_distance_ratio", "gauge",
           "The move of this price alone that liquidates; infinite where none does.", ("market",),
           _held(attrgetter("distance"))),
)  # fmt: skip

ACCOUNT: Final[tuple[Series, ...]] = (*_ORDERS, *_HELD)
