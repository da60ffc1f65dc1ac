"""How much of a result is luck: intervals, rivals by chance, and what many trials do to the best.

    returns, trades ─► resampled ─► Interval of each figure
    what was held, moves of prices ─► by_chance ─► the same turnover at other times ─► Luck
    returns of all variants ─► deflated_sharpe, overfitting ─► what the best of many is worth

Returns are shares of equity, one for each hour, without units; money is in USDC. Pure: chance comes
from a seed, and too little to say anything is None, never a number. Sources: Politis and Romano
1992 (blocks in a circle); Bailey and López de Prado 2012 and 2014 (probabilistic and deflated
Sharpe); Bailey, Borwein, López de Prado and Zhu 2017 (combinatorially symmetric cross-validation).
"""

import math
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate, combinations, groupby
from operator import itemgetter, mul
from random import Random
from statistics import NormalDist, fmean, pstdev, stdev
from typing import Final, NamedTuple, TypeVar

import msgspec

_A = TypeVar("_A")

FEWEST_BLOCKS: Final = 8
_DAY_H: Final = 24  # what happens in an hour hangs together with what happens within a day of it
_RESAMPLES: Final = 1_000
_TAIL: Final = 0.025
_YEAR_H: Final = 24 * 365

# === Figures of returns ===


def total_return(returns: Sequence[float]) -> float:
    """Return what one unit has gained."""
    return math.prod(1 + x for x in returns) - 1


def sharpe(returns: Sequence[float], per_year: float = _YEAR_H) -> float | None:
    """Return mean over deviation, annualised, free of risk at 0; None where it is not defined."""
    if len(returns) < 2 or min(returns) == max(returns):
        return None
    mean = fmean(returns)
    # `statistics.stdev` is exact, and four times as slow: a thousand samples have to be judged.
    variance = math.fsum([(x - mean) ** 2 for x in returns]) / (len(returns) - 1)
    return mean / math.sqrt(variance) * math.sqrt(per_year) if variance else None


def sortino(returns: Sequence[float]) -> float | None:
    """Return mean over the root of the mean square of losses, annualised; None without a loss."""
    losses = math.sqrt(fmean([min(x, 0.0) ** 2 for x in returns])) if returns else 0.0
    return fmean(returns) / losses * math.sqrt(_YEAR_H) if losses else None


def max_drawdown(returns: Sequence[float]) -> float:
    """Return the deepest fall from a peak, as a share of the peak."""
    worth = peak = 1.0
    deepest = 0.0
    for x in returns:
        worth *= 1 + x
        peak = max(peak, worth)
        deepest = max(deepest, 1 - worth / peak)
    return deepest


def calmar(returns: Sequence[float]) -> float | None:
    """Return a year's return at this pace over the deepest fall; None without a fall."""
    worth, deepest = 1 + total_return(returns), max_drawdown(returns)
    if not deepest or worth <= 0:
        return None
    return math.expm1(math.log(worth) * _YEAR_H / len(returns)) / deepest


OF_RETURNS: Final[Mapping[str, Callable[[Sequence[float]], float | None]]] = {
    "return": total_return,
    "sharpe": sharpe,
    "sortino": sortino,
    "max_drawdown": max_drawdown,
    "calmar": calmar,
}


def win_rate(profits: Sequence[float]) -> float | None:
    """Return the share of trades that won; None without trades."""
    return sum(x > 0 for x in profits) / len(profits) if profits else None


def profit_factor(profits: Sequence[float]) -> float | None:
    """Return what was won over what was lost; None without a loss."""
    lost = -math.fsum(x for x in profits if x < 0)
    return math.fsum(x for x in profits if x > 0) / lost if lost else None


def expectancy(profits: Sequence[float]) -> float | None:
    """Return the mean profit of a trade in USDC; None without trades."""
    return fmean(profits) if profits else None


OF_TRADES: Final[Mapping[str, Callable[[Sequence[float]], float | None]]] = {
    "win_rate": win_rate,
    "profit_factor": profit_factor,
    "expectancy": expectancy,
}

# === Intervals ===


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and where 95 of 100 such samples have it; None where it cannot be known."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def shown(self) -> bool:
        """Return whether it is shown to be another than 0."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


def resampled(
    values: Sequence[float],
    figures: Mapping[str, Callable[[Sequence[float]], float | None]],
    *,
    seed: int = 0,
    block: int = 0,
    resamples: int = _RESAMPLES,
) -> dict[str, Interval]:
    """Return each figure with its interval, of samples drawn by whole blocks, in a circle.

    `block` is how many values hang together: for returns the hours of a day, or less where that
    would leave fewer than `FEWEST_BLOCKS`. Fewer values than those make no interval, and neither
    does a figure that is not defined for one sample in twenty.
    """
    block = block or max(1, min(_DAY_H, len(values) // FEWEST_BLOCKS))
    found: dict[str, list[float]] = {name: [] for name in figures}
    if len(values) >= FEWEST_BLOCKS * block:
        chance = Random(seed)
        for _ in range(resamples):
            sample = drawn(values, block, chance)
            for name, figure in figures.items():
                if (value := figure(sample)) is not None:
                    found[name].append(value)
    return {
        name: Interval(value=figure(values), low=low, high=high)
        for name, figure in figures.items()
        for low, high in [_ends(found[name], resamples)]
    }


def drawn(values: Sequence[_A], block: int, chance: Random) -> list[_A]:
    """Draw as many values as there are, in blocks that begin anywhere and go on at the start."""
    count = len(values)
    sample: list[_A] = []
    while len(sample) < count:
        first = chance.randrange(count)
        sample += values[first : first + block]
        sample += values[: max(0, first + block - count)]
    return sample[:count]


def _ends(found: list[float], resamples: int) -> tuple[float | None, float | None]:
    if len(found) < max(1, 0.95 * resamples):
        return None, None
    found.sort()
    return _quantile(found, _TAIL), _quantile(found, 1 - _TAIL)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


# === Luck ===
# What came by chance alone: as much held at other times and the other way round, and no decision
# at all.


class Path(NamedTuple):
    """What was `held` in each period by ticker (USDC, positive for long), and how prices moved.

    `moves` are shares of the price, period by period; all are of the same periods.
    """

    held: Mapping[str, Sequence[float]]
    moves: Mapping[str, Sequence[float]]


class Luck(msgspec.Struct, frozen=True, kw_only=True):
    """A profit (USDC) against rivals that trade as much, at times and in directions by chance.

    Of a hundred of these, 95 lie between `low` and `high`; `better` is the share of them that did
    at least as well. None where nothing was held, or too short.
    """

    profit: float | None
    low: float | None
    high: float | None
    better: float | None

    @property
    def is_luck(self) -> bool:
        """Return whether chance alone explains it; what cannot be known counts as luck."""
        if self.profit is None or self.low is None or self.high is None:
            return True
        return self.low <= self.profit <= self.high


def by_chance(
    paths: Sequence[Path], profit: float | None, *, seed: int = 0, rivals: int = _RESAMPLES
) -> Luck:
    """Compare the profit of one run, or of several, with that of rivals of the same turnover.

    A rival holds the same in all markets, as large and as long, but all of it earlier or later by
    one time, in a circle, and each stretch in which anything is held in a direction of its own.
    What a run came to beside the moves of its periods (costs, and what was won within a period) a
    rival comes to as well. `ValueError` where lengths differ.
    """
    found = [_stretches(path) for path in paths]
    spells = sum(len(stretch) for each, _ in found for stretch in each)
    known = profit is not None and spells > 0
    if profit is None or not known or max(periods for _, periods in found) < FEWEST_BLOCKS:
        return Luck(profit=profit, low=None, high=None, better=None)
    rivals = min(rivals, max(_FEWEST_RIVALS, _MOST_SPELLS // spells))
    chance, beside = Random(seed), profit - math.fsum(map(_gained, paths))
    rows = sorted(
        beside + math.fsum(_rival(*each, chance) for each in found) for _ in range(rivals)
    )
    low, high = _quantile(rows, _TAIL), _quantile(rows, 1 - _TAIL)
    better = sum(x >= profit for x in rows) / rivals
    return Luck(profit=profit, low=low, high=high, better=better)


_FEWEST_RIVALS: Final = 200
_MOST_SPELLS: Final = 2_000_000  # that are placed in all: about a second

_Spell = tuple[Sequence[float], int, int, float]  # sums of moves, from, to, USDC


def _gained(path: Path) -> float:
    return math.fsum(sum(map(mul, held, path.moves[ticker])) for ticker, held in path.held.items())


def _rival(stretches: Sequence[Sequence[_Spell]], periods: int, chance: Random) -> float:
    later, gained = chance.randrange(periods or 1), 0.0
    for stretch in stretches:
        of_stretch = 0.0
        for sums, begin, end, usdc in stretch:
            of_stretch += usdc * (sums[end + later] - sums[begin + later])
        gained += of_stretch if chance.random() < 0.5 else -of_stretch
    return gained


def _stretches(path: Path) -> tuple[list[list[_Spell]], int]:
    """Return the spells of all markets, those that overlap together; and how many periods."""
    spells_of: list[_Spell] = []
    for ticker, held in path.held.items():
        moves = path.moves[ticker]
        if len(held) != len(moves):
            what = f"expected a move of {ticker} for each of {len(held)} periods"
            raise ValueError(f"{what}, got {len(moves)}")
        sums = array("d", accumulate((*moves, *moves), initial=0.0))  # in a circle
        spells_of += [(sums, *spell) for spell in spells(held)]
    spells_of.sort(key=itemgetter(1, 2))
    stretches: list[list[_Spell]] = []
    until = -1
    for spell in spells_of:
        if spell[1] >= until:
            stretches.append([])
        stretches[-1].append(spell)
        until = max(until, spell[2])
    return stretches, max(map(len, path.held.values()), default=0)


def spells(held: Sequence[float]) -> list[tuple[int, int, float]]:
    """Return the stretches in which something was held one way: from, to before, and how much.

    How much is the root of the mean square: what it might win or lose is as uncertain as it was.
    """
    found, begin = [], 0
    for sign, run in groupby(held, lambda x: (x > 0) - (x < 0)):
        sizes = [*run]
        end = begin + len(sizes)
        if sign:
            found.append((begin, end, sign * math.sqrt(fmean([x * x for x in sizes]))))
        begin = end
    return found


def against(returns: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Interval:
    """Return by how much returns add up to more than others of the same hours, with its interval.

    The others are those of buying and holding, say. `ValueError` where lengths differ.
    """
    ahead = [mine - theirs for mine, theirs in zip(returns, other, strict=True)]
    return resampled(ahead, {"ahead": math.fsum}, seed=seed)["ahead"]


# === Many trials ===
# The best of many looks good by chance alone: how good, and how often it goes on to be good.

_EULER: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()


def probabilistic_sharpe(returns: Sequence[float], above: float = 0.0) -> float | None:
    """Return the probability that the Sharpe ratio of one period is truly `above` this.

    It allows for skewness and fat tails. None with fewer than three returns, or of no spread.
    """
    count = len(returns)
    if count < 3 or not (spread := pstdev(returns)):
        return None
    mean = fmean(returns)
    ratio = mean / stdev(returns)
    skew = fmean([((x - mean) / spread) ** 3 for x in returns])
    kurtosis = fmean([((x - mean) / spread) ** 4 for x in returns])
    wide = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    if wide <= 0:
        return None
    return _NORMAL.cdf((ratio - above) * math.sqrt(count - 1) / math.sqrt(wide))


def expected_best(ratios: Sequence[float]) -> float:
    """Return the Sharpe ratio to expect of the best of these trials if none were any good."""
    count = len(ratios)
    if count < 2:
        return 0.0
    far = _NORMAL.inv_cdf(1 - 1 / count), _NORMAL.inv_cdf(1 - 1 / (count * math.e))
    return stdev(ratios) * ((1 - _EULER) * far[0] + _EULER * far[1])


def deflated_sharpe(trials: Sequence[Sequence[float]], best: int) -> float | None:
    """Return the probability that the best of all trials is better than the best of luck.

    `trials` has the returns of each variant that was tried, also of those that nobody looked at
    again. None where the best has no Sharpe ratio.
    """
    ratios = [ratio for x in trials if (ratio := sharpe(x, 1.0)) is not None]
    return probabilistic_sharpe(trials[best], expected_best(ratios))


class Overfitting(msgspec.Struct, frozen=True, kw_only=True):
    """How often the best of one half is among the worse of the other half.

    `probability` is that share, over all `halves`; `lost` the share of halves in which the best of
    the one made a loss in the other.
    """

    probability: float
    lost: float
    halves: int


def overfitting(trials: Sequence[Sequence[float]], parts: int = 10) -> Overfitting | None:
    """Cut time into `parts`, choose by each half of them, and judge by the other half.

    Variants are judged by Sharpe ratio; of equal ones the first is chosen. None with fewer than two
    variants or two returns a part. `ValueError` for parts that are odd, or variants whose returns
    are not of the same hours.
    """
    if parts < 2 or parts % 2:
        raise ValueError(f"expected an even number of parts, got {parts}")
    lengths = {len(x) for x in trials}
    if len(lengths) > 1:
        raise ValueError(f"expected as many returns of each variant, got {sorted(lengths)}")
    size = min(lengths, default=0) // parts
    if len(trials) < 2 or size < 2:
        return None
    sums = [[_moments(x[n * size : (n + 1) * size]) for n in range(parts)] for x in trials]
    every = frozenset(range(parts))
    worse = lost = count = 0
    for half in combinations(range(parts), parts // 2):
        chosen_by = [_ratio(of_variant, half) for of_variant in sums]
        judged_by = [_ratio(of_variant, every.difference(half)) for of_variant in sums]
        best = chosen_by.index(max(chosen_by))
        result = judged_by[best]
        # The middle of those that are equal: a rank that no order of the variants changes.
        below = sum(x < result for x in judged_by)
        equal = sum(x == result for x in judged_by)
        worse += 2 * below + equal <= len(trials)
        lost += result < 0
        count += 1
    return Overfitting(probability=worse / count, lost=lost / count, halves=count)


def _moments(returns: Sequence[float]) -> tuple[int, float, float]:
    return len(returns), math.fsum(returns), math.fsum(x * x for x in returns)


def _ratio(sums: Sequence[tuple[int, float, float]], parts: Collection[int]) -> float:
    """Return mean over deviation of some parts, 0 where nothing moved."""
    count = sum(sums[n][0] for n in parts)
    mean = sum(sums[n][1] for n in parts) / count
    variance = sum(sums[n][2] for n in parts) / count - mean * mean
    return mean / math.sqrt(variance) if variance > 1e-18 else 0.0
