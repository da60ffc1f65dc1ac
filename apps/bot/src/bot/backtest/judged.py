"""How far a result can be believed: intervals, against holding, and against chance.

    figures, trades, what was held of one run or several ─► judged ─► Judged ─► words

Returns are hourly: fewer than a day of them, and trades that are too few, have no interval. A
result within the interval of chance is called luck.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import fsum
from typing import Final, NamedTuple

import msgspec

from bot.backtest.figures import LEAST_RETURNS, Curve, RunFigures, hourly_returns
from bot.backtest.statistics import (
    OF_RETURNS,
    OF_TRADES,
    Interval,
    Luck,
    Path,
    against,
    by_chance,
    resampled,
)

SEED: Final = 0
INTERVALS: Final = (
    "Intervals: where 95 of 100 samples lie, drawn 1,000 times with the same seed: of hourly "
    "returns in blocks of a day, or of an eighth of the hours; of trades in blocks of the cube "
    "root of their number. The fall is by the hour.",
    "Buy and hold: equal shares of the deposit in the markets traded, at the oracle price, from "
    "first to last, without costs or funding.",
    "Chance: random strategies hold the same, as large and as long, at other times and each time "
    "in a random direction, at the same costs. A result within 95 of 100 of them is luck.",
)


class Part(NamedTuple):
    """One run: its figures, what each trade won (USDC), what was held, and the curve of holding."""

    figures: RunFigures
    profits: tuple[float, ...]
    path: Path
    holding: Curve


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Buying and holding: its `profit` (USDC), and by which share of equity the run is `ahead`."""

    profit: float
    ahead: Interval


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How far the result of one run or several can be believed.

    `intervals` has those that are known by the names of figures. `is_luck` is True where chance
    explains the result, or where that cannot be known; `verdict` says it in words.
    """

    intervals: dict[str, Interval]
    holding: Holding | None
    luck: Luck
    is_luck: bool
    verdict: str


def judged(parts: Sequence[Part]) -> Judged:
    """Judge runs, in the order of time, as one result."""
    returns = [hourly_returns(part.figures.equity) for part in parts]
    profits = [profit for part in parts for profit in part.profits]
    known = [part.figures.total.profit for part in parts]
    gained = [profit for profit in known if profit is not None]
    profit = fsum(gained) if len(gained) == len(known) else None
    luck = by_chance([part.path for part in parts], profit, seed=SEED)
    return Judged(
        intervals=_intervals([x for those in returns for x in those], profits),
        holding=_holding(parts, returns),
        luck=luck, is_luck=luck.is_luck, verdict=luck_words(luck),
    )  # fmt: skip


def _intervals(returns: Sequence[float], profits: Sequence[float]) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    if len(returns) >= LEAST_RETURNS:
        found |= resampled(returns, OF_RETURNS, seed=SEED)
    block = max(1, round(len(profits) ** (1 / 3)))
    found |= resampled(profits, OF_TRADES, seed=SEED, block=block)
    return {name: one for name, one in found.items() if one.low is not None}


def _holding(parts: Sequence[Part], returns: Sequence[Sequence[float]]) -> Holding | None:
    if not parts or not all(part.holding for part in parts):
        return None
    profit = fsum(part.holding[-1][1] - part.holding[0][1] for part in parts)
    mine: list[float] = []
    held: list[float] = []
    for part, of_part in zip(parts, returns, strict=True):
        theirs = hourly_returns(part.holding)
        # An account that is worth nothing has no more returns; who holds has.
        count = min(len(theirs), len(of_part))
        mine += of_part[:count]
        held += theirs[:count]
    if len(mine) < LEAST_RETURNS:
        return Holding(profit=profit, ahead=Interval(value=None, low=None, high=None))
    return Holding(profit=profit, ahead=against(mine, held, seed=SEED))


# === Words ===


def luck_words(luck: Luck) -> str:
    """Say whether chance explains a result."""
    if luck.profit is None or luck.low is None or luck.high is None or luck.better is None:
        return "not shown to be more than chance: held too little, or for too short"
    count = round(100 * luck.better)
    others = f"{count} of 100 random strategies of the same turnover did as well"
    if luck.is_luck:
        return f"{'luck, ' if luck.profit > 0 else ''}no better than chance: {others}"
    if luck.profit < luck.low:
        return f"worse than chance: {others}"
    return f"{'' if luck.profit > 0 else 'a loss, if less of one: '}better than chance: {others}"


_NAMES: Final[Mapping[str, str]] = {
    "return": "return", "sharpe": "Sharpe", "sortino": "Sortino", "calmar": "Calmar",
    "max_drawdown": "drawdown, share", "win_rate": "won", "profit_factor": "profit factor",
    "expectancy": "a trade, USDC",
}  # fmt: skip
_SHARES: Final = frozenset(["return", "max_drawdown", "win_rate"])


def interval_rows(found: Judged) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, low and high of each interval, in words."""
    for name, title in _NAMES.items():
        if (one := found.intervals.get(name)) is not None:
            yield title, _number(name, one.value), _number(name, one.low), _number(name, one.high)


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:,.2f} %" if name in _SHARES else f"{value:,.2f}"


def holding_words(found: Judged) -> str:
    """Compare with buying and holding, in words; "" where nothing was traded."""
    if (holding := found.holding) is None:
        return ""
    words, ahead = f"{holding.profit:+,.2f} USDC", holding.ahead
    if ahead.value is None or ahead.low is None or ahead.high is None:
        return words
    what = "ahead of it" if ahead.value >= 0 else "behind it"
    span = f"{100 * ahead.low:+.2f} to {100 * ahead.high:+.2f} %"
    shown = "" if ahead.shown else "; that may be chance"
    return f"{words}; {100 * abs(ahead.value):.2f} % {what} ({span}){shown}"


def named_words(found: Judged) -> list[tuple[str, str]]:
    """Return all of it as names and words, for a page."""
    rows = [("verdict", found.verdict)]
    if words := holding_words(found):
        rows.append(("buy and hold", words))
    rows += [
        (name, f"{value} ({low} to {high})") for name, value, low, high in interval_rows(found)
    ]
    return rows
