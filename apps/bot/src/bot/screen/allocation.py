"""Who trades the account, as a panel shows it: several strategies, or the one that has all of it.

Allocator.results, or the account ─┐
Journal: newest of each market ────┴─► strategies ──► dydx_panels.StrategiesPart
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from dydx_panels import StrategiesPart, StrategyRow, TapeRow, TargetRow, wording
from dydx_strategy import (
    Allocator,
    Composite,
    Decision,
    Pace,
    RankSettings,
    Strategy,
    StrategyResult,
    WatchSettings,
    composite,
)
from pydantic import BaseModel

from bot.run.composition import Bot
from bot.run.journal import JournalEntry

# What a decision can become; an order that stands on the venue for another is of none.
_JUDGED: Final = ("approved", "denied", "reduce")
_CUTS: Final = ("denied", "reduce")
# Settings that every strategy has are no thresholds of one.
_COMMON: Final = {*Pace.model_fields, *WatchSettings.model_fields}


class _Newest(NamedTuple):
    """The newest entry of each market: what was decided, and what became of it."""

    decided: dict[str, JournalEntry]
    judged: dict[str, JournalEntry]


def strategies(bot: Bot) -> StrategiesPart:
    """Return who trades the account, and what each of them wants, has and has come to."""
    strategy, newest = bot.shown.strategy, _newest(bot)
    if strategy is None:
        return StrategiesPart()
    if isinstance(strategy, Allocator):
        results = strategy.results()
        rows = map(_result, results, strategy.strategies)
        targets = (
            _allocated(bot, one, result, ticker, newest)
            for one, result in zip(strategy.strategies, results, strict=True)
            for ticker in result.decided
        )
        return StrategiesPart(rows=tuple(rows), targets=_largest_first(targets))
    wanted = (_wanted(bot, strategy, entry, newest) for entry in newest.decided.values())
    return StrategiesPart(rows=(_alone(bot, strategy),), targets=_largest_first(wanted))


def _newest(bot: Bot) -> _Newest:
    newest = _Newest({}, {})
    for entry in bot.journal.entries:
        if entry.kind == "decision":
            newest.decided[entry.ticker] = entry
        elif entry.kind in _JUDGED:
            newest.judged[entry.ticker] = entry
    return newest


def _largest_first(rows: Iterable[TargetRow]) -> tuple[TargetRow, ...]:
    """Sort rows by what is at stake in them, of equal ones those decided last first."""

    def stake(row: TargetRow) -> tuple[float, int]:
        at_stake = max(abs(row.wants or 0.0), abs(row.held or 0.0))
        return -at_stake, -(row.decision.seq if row.decision else 0)

    return tuple(sorted(rows, key=stake))


# === One strategy ===


def _alone(bot: Bot, strategy: Strategy) -> StrategyRow:
    """Return the one strategy; what the account did is its result."""
    did, standing = bot.venue.figures(), bot.risk.standing
    why = "; ".join(words for _, words in standing.reasons)
    return StrategyRow(
        title=strategy.name,
        state="trades" if standing.state == "ACTIVE" else f"{standing.state}: {why}",
        pnl_usdc=did.profit / 1e6,
        fees_usdc=did.fees_paid / 1e6,
        **settings_of(strategy),
    )


def _wanted(bot: Bot, strategy: Strategy, entry: JournalEntry, newest: _Newest) -> TargetRow:
    """Return what it decided last of a market; what risk made of it may be a cut."""
    decision: Decision = entry.value
    verdict = _verdict(newest, decision)
    cut = verdict is not None and verdict.kind in _CUTS
    return TargetRow(
        strategy=strategy.name,
        ticker=entry.ticker,
        wants=decision.target_usdc,
        held=_held(bot, entry.ticker),
        cuts=(f"{wording(verdict.kind)}: {verdict.text}",) if cut and verdict else (),
        decision=decision,
        composite=_composite(strategy, decision),
        verdict=None if cut else verdict,
        id=decision.id,
    )


def _held(bot: Bot, ticker: str) -> float | None:
    """Return what is held of a market at its price; None where either is not known."""
    account = bot.risk.account
    if account.trouble and not account.positions:
        return None
    found = (row.net_notional for row in bot.risk.positions() if row.ticker == ticker)
    quote = next(found, 0)
    return None if quote is None else quote / 1e6


# === Several ===


def _result(result: StrategyResult, strategy: Strategy) -> StrategyRow:
    return StrategyRow(
        title=result.title,
        state=result.state,
        share=result.share,
        pnl_usdc=result.pnl_usdc,
        best_usdc=result.best_usdc,
        fees_usdc=sum(stake.fees for stake in result.stakes.values()) / 1e6,  # integers
        **settings_of(strategy),
    )


def _allocated(
    bot: Bot, strategy: Strategy, result: StrategyResult, ticker: str, newest: _Newest
) -> TargetRow:
    """Return what one of several wants of a market; what it has is a part of the account's."""
    decision, stake, view = (
        result.decided[ticker],
        result.stakes.get(ticker),
        bot.data.views[ticker],
    )
    held: float | None = 0.0
    if stake is not None and stake.quantums:
        held = None
        if view.market is not None and view.oracle is not None:
            held = float(view.market.size(stake.quantums)) * view.oracle.price
    netted = newest.decided.get(ticker)
    return TargetRow(
        strategy=result.title,
        ticker=ticker,
        wants=result.wants.get(ticker, 0.0),
        allowed=result.allocated.get(ticker, 0.0),
        held=held,
        cuts=result.cuts.get(ticker, ()),
        decision=decision,
        composite=_composite(strategy, decision),
        verdict=_verdict(newest, netted.value) if netted else None,
        id=netted.id if netted else "",
    )


# === Both ===


def _verdict(newest: _Newest, decision: Decision) -> TapeRow | None:
    """Return what became of a market's newest decision, or of what is held since."""
    entry = newest.judged.get(decision.ticker)
    if entry is None or entry.seq < decision.seq:
        return None
    return TapeRow(
        at=entry.at, kind=entry.kind, text=entry.words, ticker=entry.ticker, id=entry.id,
        seq=entry.seq,
    )  # fmt: skip


def settings_of(strategy: Strategy) -> dict[str, Any]:
    """Return the weights, thresholds and newest look of a strategy whose settings are known."""
    settings: Any = getattr(strategy, "settings", None)
    if not isinstance(settings, BaseModel):
        return {}
    look = getattr(strategy, "looked", None)
    fields = settings.model_dump()
    weights = fields.pop("weights", {})
    limits = {
        name: float(value)
        for name, value in fields.items()
        if name not in _COMMON and isinstance(value, int | float)
    }
    if weights:  # a composite is compared with these, and the rest is about size
        limits = {name: limits[name] for name in ("enter", "full", "exit") if name in limits}
    return {"weights": weights, "thresholds": limits, "look": look}


def _composite(strategy: Strategy, decision: Decision) -> Composite | None:
    """Return what the scores of a decision came to, for a strategy that weighs them so."""
    settings = getattr(strategy, "settings", None)
    return composite(decision.scores, settings) if isinstance(settings, RankSettings) else None
