"""How far a score can be believed: the arithmetic of calibration, pure, no clock and no file.

    Observation (score, what the mid did next) ─► measured ─► Calibration
    those before t ─► isotonic ─► IsotonicMap ─► judged on those after t

`rank_correlation` says whether a score and the move after it go together, with an interval that
allows for outcomes that overlap and for markets that move together: whole stretches of time are
drawn, with all markets in them. `isotonic` turns a score into the share of up moves that it was
followed by; what it is worth is measured on later observations alone. Fewer than `FEWEST_BLOCKS`
stretches make no interval: what cannot be known is None.

Moves are of the mid price in bps (1e-4) of it. Up and down are shares of the moves: where the mid
did not move, nobody was right or wrong. Chance comes from a seed. Sources: Spearman 1904; Künsch
1989 (blocks); Ayer et al. 1955 (isotonic regression); Brier 1950.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import Final, NamedTuple

import msgspec

# === Values ===

FEWEST_BLOCKS: Final = 8
BUCKETS: Final = 10
# Of a block only the last horizon reaches into the next one: a fifth of it.
_BLOCK_HORIZONS: Final = 5
_RESAMPLES: Final = 500
# Fewer moves of known outcome than this make no map.
_FEWEST_FITTED: Final = 20
_SECOND: Final = 1_000_000_000
_SEED: Final = 0


class Observation(NamedTuple):
    """A score at a time (ns), the move of the mid after it, and what it would cost to follow.

    `half_spread_bps` is half the spread at that time; `state` is the market's then.
    """

    at: int
    score: float
    move_bps: float
    half_spread_bps: float
    state: str = ""


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """A rank correlation and its 95 % interval, None where there are too few blocks of time."""

    value: float
    low: float | None
    high: float | None
    blocks: int

    @property
    def shown(self) -> bool:
        """Return whether it is shown to be another than 0."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a reliability curve: the scores from `low` up to `low` + 10.

    `share_up` is None where the mid never moved. `net_bps` is the mean move in the way that the
    bucket points (up from 50 on), less half the spread.
    """

    low: float
    count: int
    score: float
    share_up: float | None
    net_bps: float


class Brier(msgspec.Struct, frozen=True, kw_only=True):
    """Mean squared errors of a forecast of "up", after t; 0.25 is a coin's, less is better.

    `score` takes the score as it is (60 is 60 %), `mapped` by its isotonic map, and `base` says
    the share of ups before t each time; the latter two are None without a map.
    """

    count: int
    score: float
    mapped: float | None
    base: float | None


class IsotonicMap(msgspec.Struct, frozen=True, kw_only=True):
    """The share of up moves by score: `shares[i]` holds up to `scores[i]`, the last beyond it."""

    signal: str
    horizon_s: float
    rows: int
    base: float
    scores: tuple[float, ...]
    shares: tuple[float, ...]

    def share_up(self, score: float) -> float:
        """Return the share of up moves that followed such scores."""
        return self.shares[min(bisect_left(self.scores, score), len(self.shares) - 1)]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What one signal was worth at one horizon: all of it, and by the state of the market."""

    signal: str
    horizon_s: float
    count: int
    moved: int
    correlation: Correlation | None
    by_state: dict[str, tuple[int, Correlation | None]]
    curve: tuple[Bucket, ...]
    brier: Brier | None
    map: IsotonicMap | None


# === Measures ===


def measured(
    signal: str,
    horizon_s: float,
    observations: Sequence[Observation],
    known_before: int,
    fitted: IsotonicMap | None = None,
) -> Calibration:
    """Measure a signal at a horizon; a map is fitted on what was known before t, in ns.

    What is judged comes at t or after it: an observation whose outcome reaches over t is in
    neither part. `fitted` is a map of another day, to be judged in place of a new one.
    """
    before = [one for one in observations if one.at + horizon_s * _SECOND <= known_before]
    after = [one for one in observations if one.at >= known_before]
    states = defaultdict[str, list[Observation]](list)
    for one in observations:
        states[one.state].append(one)
    map_ = fitted or isotonic(signal, horizon_s, before)
    return Calibration(
        signal=signal,
        horizon_s=horizon_s,
        count=len(observations),
        moved=sum(1 for one in observations if one.move_bps),
        correlation=rank_correlation(observations, horizon_s),
        by_state={
            state: (len(rows), rank_correlation(rows, horizon_s))
            for state, rows in sorted(states.items())
        },
        curve=reliability(observations),
        brier=_brier(after, map_),
        map=map_,
    )


def reliability(observations: Iterable[Observation]) -> tuple[Bucket, ...]:
    """Return what followed the scores of each tenth of the scale, the empty ones left out."""
    buckets = defaultdict[int, list[Observation]](list)
    for one in observations:
        buckets[min(int(one.score * BUCKETS / 100), BUCKETS - 1)].append(one)
    return tuple(_bucket(index, rows) for index, rows in sorted(buckets.items()))


def _bucket(index: int, rows: Sequence[Observation]) -> Bucket:
    low = index * 100 / BUCKETS
    way = 1.0 if low >= 50 else -1.0
    ups, moves = sum(1 for one in rows if one.move_bps > 0), sum(1 for one in rows if one.move_bps)
    return Bucket(
        low=low,
        count=len(rows),
        score=fmean(one.score for one in rows),
        share_up=ups / moves if moves else None,
        net_bps=fmean(way * one.move_bps - one.half_spread_bps for one in rows),
    )


def _brier(after: Sequence[Observation], map_: IsotonicMap | None) -> Brier | None:
    rows = [one for one in after if one.move_bps]
    if not rows:
        return None

    def error(forecast: Callable[[float], float]) -> float:
        return fmean((forecast(one.score) - (one.move_bps > 0)) ** 2 for one in rows)

    return Brier(
        count=len(rows),
        score=error(lambda score: score / 100),
        mapped=None if map_ is None else error(map_.share_up),
        base=None if map_ is None else error(lambda _: map_.base),
    )


# === Rank correlation ===


def rank_correlation(observations: Sequence[Observation], horizon_s: float) -> Correlation | None:
    """Return how far scores and moves go together by rank, -1 to 1, with its 95 % interval.

    Ranks are signed (Wilcoxon's): of the score's distance to 50 and of the move's to 0. No mean is
    removed, as Spearman's would be: a score made of past moves shares their mean with the moves
    after it, which on a random walk of a quarter of an hour alone makes -0.08. Blocks of five
    horizons are drawn with replacement, with the ranks as they are. The interval is the deviation
    of the draws, in Fisher's z, times Student's t for so many blocks: percentiles of few blocks
    would be too narrow. None where nothing moved, or no score was off 50.
    """
    scores = signed_ranks([one.score - 50.0 for one in observations])
    moves = signed_ranks([one.move_bps for one in observations])
    length = max(round(_BLOCK_HORIZONS * horizon_s * _SECOND), 1)
    blocks = defaultdict[int, list[float]](lambda: [0.0, 0.0, 0.0])
    for one, x, y in zip(observations, scores, moves, strict=True):
        block = blocks[one.at // length]
        block[0] += x * x
        block[1] += y * y
        block[2] += x * y
    value = _cosine([*blocks.values()])
    if value is None:
        return None
    # Blocks in which nothing moved, or no score was off 50, say nothing either way.
    speaking = sum(1 for xx, yy, _ in blocks.values() if xx * yy > 0.0)
    low, high = _interval(value, [*blocks.values()], speaking, Random(_SEED))
    return Correlation(value=value, low=low, high=high, blocks=speaking)


def _interval(
    value: float, blocks: Sequence[Sequence[float]], speaking: int, chance: Random
) -> tuple[float, float] | tuple[None, None]:
    if speaking < FEWEST_BLOCKS:
        return None, None
    count = len(blocks)
    drawn = [_z(_cosine(chance.choices(blocks, k=count)) or 0.0) for _ in range(_RESAMPLES)]
    # The variance of n blocks drawn from n is short by a share 1 / n, and by what outcomes that
    # overlap have in common across the ends of blocks: a third of a horizon of each.
    short = (1.0 - 1.0 / speaking) * (1.0 - 1.0 / (3.0 * _BLOCK_HORIZONS))
    reach = student_t(speaking - 1) * stdev(drawn) / math.sqrt(short)
    return math.tanh(_z(value) - reach), math.tanh(_z(value) + reach)


def _z(correlation: float) -> float:
    return math.atanh(min(max(correlation, -0.999_999), 0.999_999))


def student_t(freedom: int) -> float:
    """Return the two-sided 95 % point of Student's t (Cornish and Fisher; ±0.2 % from 7 on).

    >>> round(student_t(9), 2), round(student_t(1000), 2)
    (2.26, 1.96)
    """
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def signed_ranks(values: Sequence[float]) -> list[float]:
    """Return each value's sign times the rank of its size, up to 1; sizes alike share a rank.

    >>> signed_ranks([5, -1, 0, -5])
    [0.875, -0.5, 0.0, -0.875]
    """
    order = sorted(range(len(values)), key=lambda index: abs(values[index]))
    found, begin = [0.0] * len(values), 0
    while begin < len(order):
        end, size = begin, abs(values[order[begin]])
        while end < len(order) and abs(values[order[end]]) == size:
            end += 1
        for index in order[begin:end]:
            rank = (begin + end + 1) / 2 / len(values)
            found[index] = math.copysign(rank, values[index]) if size else 0.0
        begin = end
    return found


def _cosine(blocks: Sequence[Sequence[float]]) -> float | None:
    """Return the correlation around (0, 0) over blocks; None where one side is all 0."""
    xx, yy, xy = map(sum, zip(*blocks, strict=True)) if blocks else (0.0, 0.0, 0.0)
    return min(max(xy / math.sqrt(xx * yy), -1.0), 1.0) if xx * yy > 0.0 else None


# === Isotonic map ===


def isotonic(
    signal: str, horizon_s: float, observations: Iterable[Observation]
) -> IsotonicMap | None:
    """Fit the share of up moves that never falls as the score rises: adjacent violators pooled.

    None where too few moves are known. The result is a table: how it comes about does not matter
    to whoever uses it.
    """
    rows = sorted((one.score, one.move_bps > 0) for one in observations if one.move_bps)
    if len(rows) < _FEWEST_FITTED:
        return None
    pools: list[tuple[float, int, int]] = []  # the highest score, ups, all
    for score, up in rows:
        pools.append((score, int(up), 1))
        # Equal scores are one; and a share may not be below the one before.
        while len(pools) > 1 and (
            pools[-2][0] == pools[-1][0]
            or pools[-2][1] * pools[-1][2] >= pools[-1][1] * pools[-2][2]
        ):
            top, ups, count = pools.pop()
            _, more, others = pools.pop()
            pools.append((top, ups + more, count + others))
    return IsotonicMap(
        signal=signal,
        horizon_s=horizon_s,
        rows=len(rows),
        base=sum(up for _, up in rows) / len(rows),
        scores=tuple(top for top, _, _ in pools),
        shares=tuple(ups / count for _, ups, count in pools),
    )
