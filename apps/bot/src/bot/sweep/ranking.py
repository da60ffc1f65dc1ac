"""Which variants are best, by how much, and whether that is more than the luck of many trials.

Swept ─► ranked: by the objective; of several those on the front first ─► Ranked
hourly returns of all variants ─► bot.backtest.statistics ─► intervals, Overfit
"""

from collections.abc import Callable, Mapping, Sequence
from math import fsum, inf
from typing import Any, Final

import msgspec

from bot.backtest.figures import hourly_returns
from bot.backtest.statistics import (
    Interval,
    Overfitting,
    deflated_sharpe,
    overfitting,
    resampled,
    sharpe,
    total_return,
)
from bot.backtest.walks import OBJECTIVES
from bot.sweep.block import Outcome
from bot.sweep.run import Plan, Swept, figure, key_of, objectives_of

HOUR_NS = 3_600_000_000_000


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A variant and what it came to over all sources.

    `objectives` are means over the sources, None where one does not exist; `profit` (USDC),
    `trades` and `liquidations` are sums, `drawdown` the worst share of equity. `on_front` is a
    variant that no other one beats in every objective; of a single one, in that and in drawdown.
    """

    config_hash: str
    changes: dict[str, Any]
    objectives: tuple[float, ...] | None
    profit: float | None
    trades: int
    drawdown: float | None
    liquidations: int
    failure: str
    on_front: bool


def ranked(swept: Swept, plan: Plan) -> list[Ranked]:
    """Return all variants, the best first: by the first objective, of several the front before.

    Variants without a value are last.
    """
    rows = [
        _row(swept, plan, config, changes.changes) for config, changes in swept.variants.items()
    ]
    several = len(plan.objectives) > 1
    points = {row.config_hash: _point(row, row.objectives, plan) for row in rows if row.objectives}
    front = {*front_of([*points.values()])}
    rows = [
        msgspec.structs.replace(row, on_front=points.get(row.config_hash) in front) for row in rows
    ]

    def order(row: Ranked) -> tuple[Any, ...]:
        if row.objectives is None:
            return True, False, (), row.config_hash
        falling = tuple(-value for value in _upward(row.objectives, plan))
        return False, several and not row.on_front, falling, row.config_hash

    return sorted(rows, key=order)


def _point(row: Ranked, objectives: tuple[float, ...], plan: Plan) -> tuple[float, ...]:
    """Return what must not be beaten, more of each being better."""
    upward = _upward(objectives, plan)
    if len(upward) > 1:
        return upward
    return (*upward, -inf if row.drawdown is None else -row.drawdown)


def front_of(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return the points that no other one beats: at least as high in each, higher in one.

    >>> front_of([(1, 5), (2, 4), (1, 4)])
    [(1, 5), (2, 4)]
    """
    distinct = dict.fromkeys(points)
    return [
        one for one in distinct
        if not any(
            other != one and all(b >= a for a, b in zip(one, other, strict=True))
            for other in distinct
        )
    ]  # fmt: skip


def _upward(values: tuple[float, ...], plan: Plan) -> tuple[float, ...]:
    """Return objectives such that more is better."""
    return tuple(
        value if OBJECTIVES[name] == "maximize" else -value
        for name, value in zip(plan.objectives, values, strict=True)
    )


def _outcomes(swept: Swept, plan: Plan, config: str) -> list[Outcome]:
    variant = swept.variants[config]
    keys = (key_of(plan, source, variant) for source in plan.sources)
    return [swept.outcomes[key] for key in keys if key in swept.outcomes]


def _row(swept: Swept, plan: Plan, config: str, changes: dict[str, Any]) -> Ranked:
    outcomes = _outcomes(swept, plan, config)
    totals = [one.figures.total for one in outcomes]
    profits = [total.profit for total in totals if total.profit is not None]
    falls = [fall for total in totals if (fall := figure(total, "max_drawdown_share")) is not None]
    return Ranked(
        config_hash=config,
        changes=changes,
        objectives=objectives_of(outcomes, plan),
        profit=fsum(profits) if outcomes and len(profits) == len(totals) else None,
        trades=sum(total.trades for total in totals),  # integers
        drawdown=max(falls, default=None),
        liquidations=sum(total.liquidations for total in totals),  # integers
        failure=next((one.failure for one in outcomes if one.failure), ""),
        on_front=False,
    )


# === Luck ===


class Overfit(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the best once all trials are counted; None where it cannot be known.

    `deflated` is the probability that it is better than the best of luck, `chosen` how often the
    best of one half of the time was among the worse of the other. `hours` is how much was played.
    """

    hours: float
    trials: int
    deflated: float | None
    chosen: Overfitting | None


def returns_of(swept: Swept, plan: Plan, config: str) -> list[float]:
    """Return the hourly returns of a variant on all sources, one after the other."""
    outcomes = _outcomes(swept, plan, config)
    return [part for one in outcomes for part in hourly_returns(one.figures.equity)]


def overfit(swept: Swept, plan: Plan, rows: Sequence[Ranked]) -> Overfit:
    """Return what the many trials leave of the best of these rows."""
    judged = [row.config_hash for row in rows if row.objectives is not None]
    trials = [returns_of(swept, plan, config) for config in judged]
    # Of an account that was worth nothing for a while there are fewer of them.
    same = len({*map(len, trials)}) == 1
    runs = [one.figures for one in _outcomes(swept, plan, judged[0])] if judged else []
    return Overfit(
        hours=sum(run.until_ns - run.since_ns for run in runs) / HOUR_NS,  # integers
        trials=len(trials),
        deflated=deflated_sharpe(trials, 0) if len(trials) > 1 else None,
        chosen=overfitting(trials) if same else None,
    )


def intervals(swept: Swept, plan: Plan, config: str) -> dict[str, Interval]:
    """Return return and Sharpe ratio of a variant, each with where 95 of 100 samples have it."""
    return resampled(returns_of(swept, plan, config), _FIGURES)


_FIGURES: Final[Mapping[str, Callable[[Sequence[float]], float | None]]] = {
    "return": total_return,
    "sharpe": sharpe,
}
