"""Runs of one variant on several recordings, as one: each with a fresh account, one after another.

    RunFigures of each recording ─► joined ─► Figures in total, and market by market

What is counted or paid adds up. The equity curve is that of one account which goes on: each run
adds what it won to what those before it left, and an hour that two runs share has no return. What
is a share of time is weighed by the time of each run.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import fsum
from typing import Final

from msgspec.structs import replace

from bot.backtest.figures import Curve, Figures, RunFigures, hourly_returns, ratios_of

CARRIED: Final = (
    "Each recording is a run of its own with a fresh account; the total adds up what was won, in "
    "the order of time. A fall of a market is the deepest of any run."
)


def joined(runs: Sequence[RunFigures]) -> Figures:
    """Return what an account came to over all runs, given in the order of time."""
    total = _sums([(run.total, run) for run in runs])
    returns = [one for run in runs for one in hourly_returns(run.equity)]
    usdc, share = fall_of(joined_curve(runs))
    # Within a run it is known at every frame, between runs by the hour.
    return replace(
        total, max_drawdown=_most([usdc, *(run.total.max_drawdown for run in runs)]),
        max_drawdown_share=_most([share, *(run.total.max_drawdown_share for run in runs)]),
        drawdown_s=_most([run.total.drawdown_s for run in runs]), **ratios_of(returns),
    )  # fmt: skip


def joined_markets(runs: Sequence[RunFigures]) -> dict[str, Figures]:
    """Return the same by market, which has no curve of its own: its fall is the deepest of any."""
    found: dict[str, Figures] = {}
    for ticker in sorted({ticker for run in runs for ticker in run.markets}):
        parts = [(run.markets.get(ticker, _UNTRADED), run) for run in runs]
        traded = [figures for figures, _ in parts if figures.fills]
        if len(runs) == 1:
            found[ticker] = parts[0][0]
            continue
        found[ticker] = replace(
            _sums(parts),
            max_drawdown=_most([one.max_drawdown for one in traded]),
            max_drawdown_share=_most([one.max_drawdown_share for one in traded]),
            drawdown_s=_most([one.drawdown_s for one in traded]),
        )
    return found


_UNTRADED: Final = Figures(profit=0.0, exposure=0.0, leverage=0.0, turnover=0.0, funding_paid=0.0)


def joined_curve(runs: Sequence[RunFigures]) -> Curve:
    """Return one curve of all runs: each begins with what those before it left."""
    curve: list[tuple[int, float]] = []
    for run in runs:
        if run.equity:
            by = curve[-1][1] - run.equity[0][1] if curve else 0.0
            curve += [(at, worth + by) for at, worth in run.equity]
    return tuple(curve)


def fall_of(curve: Curve) -> tuple[float, float]:
    """Return the deepest fall of a curve: USDC, and as a share of its peak."""
    peak = deepest = share = 0.0
    for _, worth in curve:
        peak = max(peak, worth)
        deepest = max(deepest, peak - worth)
        share = max(share, (peak - worth) / peak if peak > 0 else 0.0)
    return deepest, share


def _sums(parts: Sequence[tuple[Figures, RunFigures]]) -> Figures:
    figures = [one for one, _ in parts]
    spans = [float(run.until_ns - run.since_ns) for _, run in parts]
    trades, won = sum(one.trades for one in figures), sum(one.won for one in figures)  # integers
    gained = fsum(one.gross_profit for one in figures)
    lost = fsum(one.gross_loss for one in figures)
    exits: Counter[str] = Counter()
    for one in figures:
        exits.update(one.exits)
    slipped = [one for one in figures if one.slippage is not None]

    def added(name: str) -> float | None:
        return _added([getattr(one, name) for one in figures])

    def weighed(name: str) -> float | None:
        return _mean([getattr(one, name) for one in figures], spans)

    return Figures(
        profit=added("profit"), trades=trades, won=won, win_rate=won / trades if trades else None,
        profit_factor=gained / lost if lost else None, gross_profit=gained, gross_loss=lost,
        expectancy=(gained - lost) / trades if trades else None,
        exposure=weighed("exposure"), leverage=weighed("leverage"),
        fills=sum(one.fills for one in figures), volume=fsum(one.volume for one in figures),
        turnover=added("turnover"), fees_paid=fsum(one.fees_paid for one in figures),
        funding_paid=added("funding_paid"), insurance_paid=added("insurance_paid"),
        slippage=fsum(one.slippage or 0.0 for one in slipped) if slipped else None,
        slippage_bps=_mean([one.slippage_bps for one in slipped], [one.volume for one in slipped]),
        closest=_least([one.closest for one in figures]),
        reductions=sum(one.reductions for one in figures),
        liquidations=sum(one.liquidations for one in figures), exits=dict(exits.most_common()),
    )  # fmt: skip


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _added(values: Sequence[float | None]) -> float | None:
    """Return the sum, None where any of it is unknown."""
    known = _known(values)
    return fsum(known) if len(known) == len(values) else None


def _extreme(
    choose: Callable[[list[float]], float], values: Sequence[float | None]
) -> float | None:
    known = _known(values)
    return choose(known) if known else None


def _most(values: Sequence[float | None]) -> float | None:
    return _extreme(max, values)


def _least(values: Sequence[float | None]) -> float | None:
    return _extreme(min, values)


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None]
    whole = fsum(weight for _, weight in pairs)
    return fsum(value * weight for value, weight in pairs) / whole if whole else None
