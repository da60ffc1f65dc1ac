"""Days before the start: trades, candles, funding hours and blocks that lead to the live market.

    Past         what all markets share: the story, the blocks, the common factor, an hour each
    FairPrice    one market's price through each hour
    PastMarket   one market's hours: trades around its fair price, and the candles they make

Nothing is walked through from the beginning: an hour of a market is made of the seed and its
number when somebody asks for it, and is then the same whoever asks, and after a restart. What ties
hours together is reckoned back from the start, where each price is the live market's first one:
the return of each hour, and how many blocks it has. Within an hour the price is a bridge between
two such points, in steps of five seconds, with volatility that comes in clusters.

Trades stand in blocks; candles are made of the trades by the indexer's rules: a minute with a
block but no trade repeats the last close, and there is none before the first trade. The story has
a trend and a fall in each week; how far they go is the scenario's.

`faults` make the past imperfect, for those who verify it: see `Faults`. Prices and sizes are
floats until they are subticks and quantums. No clock, no I/O.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from random import Random
from typing import Final

from market import Factor, Habits, Listing, habits_of

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
# The price moves in steps of so many seconds, and is between them on a straight line.
_STEP_S: Final = 5
_STEPS: Final = 3600 // _STEP_S
_A_MINUTE: Final = 60 // _STEP_S
_WEEK_H: Final = 168

# === Values ===


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the past; hours and days are reckoned back from the start.

    Of the first market the indexer has nothing of the hour `lost`, and of `untraded` the candles
    without their trades. The last of several markets was listed `listed_days` ago, nothing is older
    than `retained_days`, and the last trade of a full page is the one before it once more.
    """

    lost: int = 40
    untraded: int = 60
    listed_days: int = 3
    retained_days: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much past there is: `hours` of it, and trades a day where not the listing's own."""

    hours: int
    trades_per_day: float | None = None
    faults: Faults | None = None


@dataclass(slots=True)
class TapeCandle:
    """One candle in subticks and quantums; the start is in seconds.

    `value` is the sum of subticks times quantums, so that the volume in USDC is exact.
    """

    start: int
    open: int
    high: int
    low: int
    close: int
    quantums: int
    value: int
    trades: int
    interest: int
    mid_open: int | None
    mid_close: int | None

    def add(self, subticks: int, quantums: int) -> None:
        """Take in one trade."""
        self.high, self.low = max(self.high, subticks), min(self.low, subticks)
        # A candle opens at its first trade, not at the last close.
        if self.trades == 0:
            self.open = self.high = self.low = subticks
        self.close = subticks
        self.quantums += quantums
        self.value += subticks * quantums
        self.trades += 1


def joined(start: int, parts: Iterable[TapeCandle]) -> TapeCandle | None:
    """Make one candle of those that follow each other in it; None of none."""
    whole: TapeCandle | None = None
    for part in parts:
        if whole is None:
            whole = replace(part, start=start)
            continue
        whole.mid_close = part.mid_close
        if not part.trades:
            continue
        if whole.trades:
            whole.high, whole.low = max(whole.high, part.high), min(whole.low, part.low)
        else:
            whole.open, whole.high, whole.low = part.open, part.high, part.low
        whole.close = part.close
        whole.quantums += part.quantums
        whole.value += part.value
        whole.trades += part.trades
    return whole


# === Story ===


@dataclass(frozen=True, slots=True)
class _HourMood:
    """What an hour does to all markets: log returns of the factor, the others multiply."""

    drift: float = 0.0
    fall: float = 0.0
    vol: float = 1.0
    trades: float = 1.0
    spread: float = 1.0


_CALM: Final = _HourMood()
# By scenario: how far the week's trend goes, and its fall, both as shares of the price.
_STORIES: Final = {"trend": (0.2, 0.05), "crash": (0.06, 0.3)}
_QUIET_STORY: Final = (0.08, 0.07)
# A fall within its hour: a gap, a slide, part of the way back. Seconds, and share of the fall.
_FALL: Final = ((0, 0.0), (720, 0.0), (725, 0.25), (960, 1.0), (2200, 0.67), (3600, 0.67))


def _story(scenario: str, seed: int, week: int) -> dict[int, _HourMood]:
    """Return the moods of one week by how many hours they lie before its end."""
    chance = Random(f"{seed} story {week}")
    trend, fall = _STORIES.get(scenario, _QUIET_STORY)
    long = chance.randint(24, 36)
    first = chance.randint(100, 110)
    sign = chance.choice((1.0, -1.0))
    moods = dict[int, _HourMood]()
    for back in range(first, first + long):
        # One way with pullbacks.
        share = chance.uniform(0.6, 2.0) if chance.random() < 0.8 else -chance.uniform(0.2, 0.9)
        moods[back] = _HourMood(sign * math.log1p(trend) * share / long, trades=1.5)
    at = chance.randint(12, 80)
    depth = math.log1p(-fall * chance.uniform(0.93, 1.07))
    moods[at] = _HourMood(0.0, depth, 2.5, 5.0, 4.0)
    for after, calmer in ((1, 0.9), (2, 0.6), (3, 0.4)):
        moods[at - after] = _HourMood(vol=1 + calmer, trades=1 + 2 * calmer, spread=1 + calmer)
    return moods


def _fallen(second: int) -> float:
    for (before, share), (after, then) in pairwise(_FALL):
        if second <= after:
            return share + (then - share) * (second - before) / (after - before)
    return _FALL[-1][1]


# === Past ===


class Past:
    """What the markets share, by the hour since the epoch; `end` is the hour of the start."""

    def __init__(
        self, history: History, scenario: str, seed: int, start_ns: int, start_height: int
    ) -> None:
        self.seed, self.history = seed, history
        self.end_ms = start_ns // 1_000_000
        self.end = self.end_ms // HOUR_MS
        hours = history.hours
        if history.faults:
            hours = min(hours, history.faults.retained_days * 24)
        self.first = self.end - hours
        self._scenario, self._start_height = scenario, start_height
        self._stories = dict[int, dict[int, _HourMood]]()
        self.noise = lru_cache(maxsize=65_536)(self._noise)
        self.blocks = lru_cache(maxsize=64)(self._blocks)
        self.factor = lru_cache(maxsize=64)(self._factor)
        counts = (self._count(hour) for hour in range(self.end - 1, self.first - 1, -1))
        last = start_height - len(self.blocks(self.end))
        self._heights = list(accumulate(counts, int.__sub__, initial=last))

    def mood(self, hour: int) -> _HourMood:
        """Return what an hour holds."""
        week, back = divmod(self.end - hour, _WEEK_H)
        if week not in self._stories:
            self._stories[week] = _story(self._scenario, self.seed, week)
        return self._stories[week].get(back, _CALM)

    def _noise(self, *key: object) -> float:
        """Draw a normal deviate that belongs to a key."""
        return Random(f"{self.seed} {key}").gauss(0.0, 1.0)

    def volatility(self, hour: int, *whose: object) -> float:
        """Return how volatile an hour is: around 1, like its day, and no two alike."""
        day, alone = self.noise("day", hour // 24, *whose), self.noise("hour", hour, *whose)
        return math.exp(0.3 * day + 0.25 * alone - 0.1525) * self.mood(hour).vol

    # --- blocks ---

    def height(self, hour: int) -> int:
        """Return the height of an hour's first block."""
        return self._heights[self.end - hour]

    def first_block(self, hour: int) -> tuple[int, int]:
        """Return the height and the time in ms of the first block of an hour."""
        first_ms = next(self._times(hour))
        # An hour that has just begun at the start has its first block there.
        if first_ms >= self.end_ms:
            return self._start_height, self.end_ms
        return self.height(hour), first_ms

    def _count(self, hour: int) -> int:
        return Random(f"{self.seed} height {hour}").randint(3840, 3960)

    def _blocks(self, hour: int) -> "array[int]":
        """Return the times in ms of an hour's blocks: 0.6 to 1.4 of their mean apart."""
        times = array("q", self._times(hour))
        return times[: bisect_left(times, self.end_ms)]

    def _times(self, hour: int) -> Iterator[int]:
        count, draw = self._count(hour), Random(f"{self.seed} blocks {hour}").random
        for n in range(count):
            yield hour * HOUR_MS + int((n + 0.3 + 0.4 * draw()) * HOUR_MS / count)

    # --- the common factor ---

    def moved(self, hour: int) -> float:
        """Return the common log return of an hour."""
        mood = self.mood(hour)
        sigma = Factor.SIGMA_BPS * 1e-4 * math.sqrt(60) * self.volatility(hour)
        return sigma * self.noise("factor", hour) + mood.drift + mood.fall * _FALL[-1][1]

    def _factor(self, hour: int) -> tuple[list[float], list[float]]:
        """Return the factor's log price in an hour's steps, from 0, and each minute's turmoil."""
        chance = Random(f"{self.seed} factor {hour}")
        fall = self.mood(hour).fall
        levels = _levels(chance, self.volatility(hour))
        sigma = Factor.SIGMA_BPS * 1e-4 / math.sqrt(_A_MINUTE)
        path = _bridge(chance, sigma, levels, self.moved(hour) - fall * _FALL[-1][1])
        if fall:
            path = [at + fall * _fallen(n * _STEP_S) for n, at in enumerate(path)]
            levels = [
                level * (4.0 if 720 <= 60 * n < 1080 else 1.0) for n, level in enumerate(levels)
            ]
        return path, levels


def _levels(chance: Random, volatility: float) -> list[float]:
    """Return the volatility of each minute of an hour: like its five minutes, and by itself."""
    fives = [chance.gauss(0.0, 0.4) for _ in range(12)]
    return [volatility * math.exp(fives[n // 5] + chance.gauss(0.0, 0.3) - 0.25) for n in range(60)]


def _bridge(chance: Random, sigma: float, levels: Sequence[float], total: float) -> list[float]:
    """Return a path of an hour's steps from 0 to `total`; `sigma` is a step's at level 1."""
    gauss = chance.gauss
    path = list(
        accumulate((gauss(0.0, sigma * levels[n // _A_MINUTE]) for n in range(_STEPS)), initial=0.0)
    )
    slope = (total - path[-1]) / _STEPS
    return [at + slope * n for n, at in enumerate(path)]


def _among(candles: list[TapeCandle], start: int, end: int) -> list[TapeCandle]:
    first, last = (bisect_left(candles, at, key=lambda candle: candle.start) for at in (start, end))
    return candles[first:last]


# === Fair price ===


class FairPrice:
    """What one market is worth at any time: the common factor, and a path of its own beside it."""

    def __init__(self, past: Past, listing: Listing) -> None:
        self._past, self._listing, self._idio = past, listing, habits_of(listing).idio
        market = listing.market
        # Subticks of a price of one USDC.
        self.scale = 10.0 ** (market.atomic_resolution - market.quantum_conversion_exponent + 6)
        self.path = lru_cache(maxsize=8)(self._path)
        self._logs = self._logs_back()

    def price(self, hour: int) -> float:
        """Return the price at the beginning of an hour."""
        return self._listing.price * math.exp(self._logs[self._past.end - hour])

    def mid(self, path: Sequence[float], ms: int) -> int:
        """Return the price on an hour's path, so many ms after its beginning, in subticks."""
        return int(math.exp(along(path, ms)) * self.scale)

    def _path(self, hour: int) -> tuple[list[float], list[float]]:
        """Return the log of the price in an hour's steps, and how lively each minute is."""
        path, lively = self._path_from_zero(hour)
        level = math.log(self.price(hour))
        return [at + level for at in path], lively

    def _logs_back(self) -> list[float]:
        """Return the log of the price at the beginning of each hour, from the newest back."""
        past, beta = self._past, self._listing.beta
        at_start = along(self._path_from_zero(past.end)[0], past.end_ms - past.end * HOUR_MS)
        hours = range(past.end - 1, past.first - 1, -1)
        returns = (beta * past.moved(hour) + self._moved(hour) for hour in hours)
        return list(accumulate(returns, float.__sub__, initial=-at_start))

    def _moved(self, hour: int) -> float:
        past, ticker = self._past, self._listing.ticker
        sigma = self._idio * math.sqrt(60) * past.volatility(hour, ticker)
        return sigma * past.noise("alone", hour, ticker)

    def _path_from_zero(self, hour: int) -> tuple[list[float], list[float]]:
        past, beta, ticker = self._past, self._listing.beta, self._listing.ticker
        chance = Random(f"{past.seed} path {ticker} {hour}")
        common, turmoil = past.factor(hour)
        own = _levels(chance, past.volatility(hour, ticker))
        alone = _bridge(chance, self._idio / math.sqrt(_A_MINUTE), own, self._moved(hour))
        path = [beta * ours + mine for ours, mine in zip(common, alone, strict=True)]
        return path, [ours + mine for ours, mine in zip(turmoil, own, strict=True)]


def along(path: Sequence[float], ms: int) -> float:
    """Return where an hour's path is so many ms after its beginning."""
    step, rest = divmod(ms, _STEP_S * 1000)
    if not rest:
        return path[step]
    return path[step] + (path[step + 1] - path[step]) * rest / (_STEP_S * 1000)


# === One market ===


@dataclass(frozen=True, slots=True)
class PastTrade:
    """One trade: its block's height and time in ms, its place there, and what was traded."""

    height: int
    time_ms: int
    number: int
    kind: int
    subticks: int
    quantums: int


# What a trade's kind says: the taker's side, and whether it was a liquidation.
KINDS: Final = (("BUY", "LIMIT"), ("SELL", "LIMIT"), ("SELL", "LIQUIDATED"))


class _Hour:
    """A market's trades of an hour by their events; `listed` is how the database lists them."""

    def __init__(self) -> None:
        self.block, self.number, self.kind = array("h"), array("h"), array("b")
        self.subticks, self.quantums = array("q"), array("q")
        self.listed = array("i")

    def __len__(self) -> int:
        return len(self.block)

    def add(self, block: int, number: int, kind: int, subticks: int, quantums: int) -> None:
        """Append one trade."""
        self.block.append(block)
        self.number.append(number)
        self.kind.append(kind)
        self.subticks.append(subticks)
        self.quantums.append(quantums)

    def shuffle(self, chance: Random) -> None:
        """Let the trades of a block be listed in no order, as in the indexer's database."""
        begin, count = 0, len(self)
        while begin < count:
            end = bisect_right(self.block, self.block[begin], begin)
            order = list(range(begin, end))
            if len(order) > 1 and chance.random() < 0.6:
                if chance.random() < 0.66:
                    order.reverse()
                else:
                    chance.shuffle(order)
            self.listed.extend(order)
            begin = end


class PastMarket:
    """One market's past: any hour on demand."""

    def __init__(self, past: Past, listing: Listing, *, late: bool = False) -> None:
        self.past, self.listing = past, listing
        self._whose = listing.ticker
        self._market = listing.market
        self._habits: Habits = habits_of(listing)
        faults = past.history.faults
        self.first = past.first
        if late and faults:
            self.first = max(self.first, past.end - faults.listed_days * 24)
        self.listed_late = self.first > past.first
        self.fair = FairPrice(past, listing)
        self.hour: Callable[[int], _Hour] = lru_cache(maxsize=1024)(self._hour)
        self.minutes: Callable[[int], list[TapeCandle]] = lru_cache(maxsize=1024)(self._minutes)
        self._seam = lru_cache(maxsize=8)(self.candle)
        self.close = self._close_before(past.end + 1) or int(listing.price * self.fair.scale)

    # --- trades ---

    def count(self, hour: int) -> int:
        """Return how many trades an hour has as the indexer lists them."""
        if not self.first <= hour <= self.past.end or self._unlisted(hour):
            return 0
        return len(self.hour(hour)) if hour == self.past.end else self._drawn(hour)

    def _unlisted(self, hour: int) -> bool:
        """Return whether the indexer has lost the trades of this hour."""
        faults = self.past.history.faults
        return self._lost(hour) or (
            faults is not None and self._is_first and self.past.end - hour == faults.untraded
        )

    def _lost(self, hour: int) -> bool:
        faults = self.past.history.faults
        return faults is not None and self._is_first and self.past.end - hour == faults.lost

    @property
    def _is_first(self) -> bool:
        return self._market.clob_pair_id == 0

    def _drawn(self, hour: int) -> int:
        """Draw how many trades happen in an hour."""
        if hour < self.first:
            return 0
        chance = Random(f"{self.past.seed} count {self._whose} {hour}")
        a_day = self.past.history.trades_per_day or self.listing.trades
        lively = 0.5 + 0.5 * self.past.volatility(hour)
        expected = a_day / 24 * self.past.mood(hour).trades * lively
        expected *= math.exp(chance.gauss(0.0, 0.3) - 0.045)
        # Poisson's, by its normal where they are many.
        return max(int(expected + math.sqrt(expected) * chance.gauss(0.0, 1.0) + 0.5), 0)

    def trades(self, before_ms: int, before_height: int) -> Iterator[PastTrade]:
        """Yield trades at or before a time and a height, newest first, those of a block anyhow."""
        past = self.past
        for hour in range(min(past.end, before_ms // HOUR_MS), self.first - 1, -1):
            base = past.height(hour)
            if base > before_height or not self.count(hour):
                continue
            held, blocks = self.hour(hour), past.blocks(hour)
            last = min(bisect_right(blocks, before_ms), before_height - base + 1) - 1
            for n in range(bisect_right(held.block, last) - 1, -1, -1):
                yield self._trade(held, blocks, base, held.listed[n])

    def page(
        self, before_ms: int, before_height: int, offset: int, limit: int
    ) -> tuple[list[PastTrade], int]:
        """Return a page of the trades at or before, oldest first, and how many there are."""
        past = self.past
        rows, total = list[PastTrade](), 0
        for hour in range(self.first, past.end + 1):
            base = past.height(hour)
            if hour * HOUR_MS > before_ms or base > before_height:
                break
            count = self.count(hour)
            whole = (hour + 1) * HOUR_MS <= before_ms and base + 3960 <= before_height
            skipped = total + count <= offset or total >= offset + limit
            if count and not (whole and skipped):
                held, blocks = self.hour(hour), past.blocks(hour)
                last = min(bisect_right(blocks, before_ms), before_height - base + 1) - 1
                count = bisect_right(held.block, last)
                chosen = range(count)[max(offset - total, 0) : max(offset + limit - total, 0)]
                rows += [self._trade(held, blocks, base, n) for n in chosen]
            total += count
        return rows, total

    @staticmethod
    def _trade(held: _Hour, blocks: Sequence[int], base: int, n: int) -> PastTrade:
        block = held.block[n]
        return PastTrade(
            base + block, blocks[block], held.number[n], held.kind[n],
            held.subticks[n], held.quantums[n],
        )  # fmt: skip

    def _hour(self, hour: int) -> _Hour:
        """Make the trades of an hour."""
        made = _Hour()
        count, blocks = self._drawn(hour), self.past.blocks(hour)
        begin = hour * HOUR_MS
        if count:
            path, lively = self.fair.path(hour)
            chance = Random(f"{self.past.seed} trades {self._whose} {hour}")
            for when, joins in self._times(chance, lively, count):
                block = bisect_left(blocks, begin + when)
                if block == len(blocks) and hour == self.past.end:
                    break
                block = min(block, len(blocks) - 1)
                self._take(made, chance, path, (block, blocks[block] - begin, joins), hour)
        made.shuffle(Random(f"{self.past.seed} listed {self._whose} {hour}"))
        return made

    @staticmethod
    def _times(chance: Random, lively: Sequence[float], count: int) -> Iterator[tuple[int, bool]]:
        """Yield when trades happen in an hour, in ms, and which of them go with the one before."""
        draw = chance.random
        weights = list(accumulate(level * (0.4 + draw()) for level in lively))
        minutes = chance.choices(range(60), cum_weights=weights, k=count)
        when = 0
        for moment in sorted(minute + draw() for minute in minutes):
            # Half of all trades are caused by the one before, or are more of the same order.
            joins = draw() < 0.35
            when = when if joins and when else int(moment * MINUTE_MS)
            yield when, joins

    def _take(
        self,
        made: _Hour,
        chance: Random,
        path: Sequence[float],
        moment: tuple[int, int, bool],
        hour: int,
    ) -> None:
        """Add one trade around the fair price: its side, how far from it, and how much."""
        block, ms, joins = moment
        mood, draw = self.past.mood(hour), chance.random
        log = along(path, ms)
        same = bool(made.block) and made.block[-1] == block
        if joins and same:
            kind = made.kind[-1]
        else:
            step = ms // (_STEP_S * 1000)
            drift = path[min(step + _A_MINUTE, _STEPS)] - path[max(step - _A_MINUTE, 0)]
            kind = 0 if draw() < 0.5 + 0.35 * math.tanh(drift * 600.0) else 1
            if kind and mood.fall and drift < -0.01 and draw() < 0.2:
                kind = 2
        half = self.listing.spread_bps * mood.spread * 0.5e-4 * (0.85 + 0.8 * draw() ** 3)
        sign = -1 if kind else 1
        tick, step_size = self._market.subticks_per_tick, self._market.step_base_quantums
        ticks = sign * math.ceil(sign * math.exp(log + sign * half) * self.fair.scale / tick)
        ticks += sign * (joins and same and draw() < 0.5)
        usd = self._habits.mean_usd * math.exp(chance.gauss(-0.98, 1.4))
        base = usd * math.exp(-log) * 10.0**-self._market.atomic_resolution
        quantums = max(int(base / step_size), 1) * step_size
        number = made.number[-1] + 1 if same else 0
        made.add(block, number, kind, max(ticks, 1) * tick, quantums)

    # --- candles ---

    def _minutes(self, hour: int) -> list[TapeCandle]:
        """Make the minutes of an hour of its trades."""
        made, candles = self.hour(hour), list[TapeCandle]()
        blocks, begin = self.past.blocks(hour), hour * HOUR_MS
        close, n = self._close_before(hour), 0
        path: Sequence[float] | None = None
        end_ms = self.past.end_ms
        for minute in range(60):
            start = begin + minute * MINUTE_MS
            after = bisect_left(blocks, start + MINUTE_MS)
            if after == bisect_left(blocks, start):
                continue
            traded = n < len(made) and made.block[n] < after
            if close is None and not traded:
                continue
            path = path or self.fair.path(hour)[0]
            mids = (min(start, end_ms), min(start + MINUTE_MS, end_ms))
            at = made.subticks[n] if close is None else close
            candle = TapeCandle(
                start // 1000, at, at, at, at, 0, 0, 0, self.interest(start),
                *(self.fair.mid(path, ms - begin) for ms in mids),
            )  # fmt: skip
            while n < len(made) and made.block[n] < after:
                candle.add(made.subticks[n], made.quantums[n])
                n += 1
            close = candle.close
            candles.append(candle)
        return candles

    def _close_before(self, hour: int) -> int | None:
        """Return the price of the last trade before an hour, None if there is none."""
        for earlier in range(hour - 1, self.first - 1, -1):
            if self._drawn(earlier):
                made = self.hour(earlier)
                if made:
                    return made.subticks[-1]
        return None

    def interest(self, ms: int) -> int:
        """Return the open interest at a time: it drifts by some percent, to the listing's."""

        def level(ms: int) -> float:
            day, rest = divmod(ms, 24 * HOUR_MS)
            before, after = (self.past.noise("oi", day + n, self._whose) for n in (0, 1))
            return before + (after - before) * rest / (24 * HOUR_MS)

        change = math.exp(0.04 * (level(ms) - level(self.past.end_ms)))
        step = self._market.step_base_quantums
        return max(int(self.listing.open_interest * change / step), 1) * step

    def candles(self, seconds: int, start: int, end: int) -> Iterator[TapeCandle]:
        """Yield candles of a resolution that begin in [start, end) seconds, newest first.

        The one that the start lies in is as far as it has come there.
        """
        first = self.first * 3600
        end = min(end, self.past.end_ms // 1000 + 1)
        for begin in range((end - 1) // seconds * seconds, start - 1, -seconds):
            # What began before the past does is not whole, unless the market began in it.
            if begin < first and not (self.listed_late and begin + seconds > first):
                return
            candle = self.candle(seconds, begin)
            if candle is not None:
                yield candle

    def hours(self, start: int, end: int, most: int) -> range:
        """Return the hours of candles in [start, end) seconds, at `most` so far back from it."""
        last = min(end, self.past.end_ms // 1000)
        first = max(start, last - most) // 3600
        return range(last // 3600, max(first, self.first) - 1, -1)

    def candle(self, seconds: int, start: int) -> TapeCandle | None:
        """Return the candle that begins at a time, None if there is none."""
        hours = range(max(start // 3600, self.first), (start + seconds - 1) // 3600 + 1)
        parts = (
            candle
            for hour in hours
            if hour <= self.past.end and not self._lost(hour)
            for candle in _among(self.minutes(hour), start, start + seconds)
        )
        return joined(start, parts)

    def closes(self, seconds: int, before: int) -> Iterator[int]:
        """Yield what candles before a time closed at, newest first, about: the fair price then."""
        tick = self._market.subticks_per_tick
        for start in range(before, self.first * 3600, -seconds):
            hour = start // 3600
            if hour <= self.past.end:
                yield max(int(self.fair.price(hour) * self.fair.scale / tick), 1) * tick

    def seam(self, seconds: int) -> TapeCandle | None:
        """Return what came before the start of the candle that it lies in; None if nothing did."""
        end = self.past.end_ms // 1000
        return self._seam(seconds, end - end % seconds)

    # --- funding ---

    def funding(
        self, moved_share: float, default_ppm: int
    ) -> Iterator[tuple[int, int, int, float]]:
        """Yield each hour's rate in ppm of eight hours, height, time in ms and price, newest first.

        A share of the hours has a premium, the others the default.
        """
        past = self.past
        for hour in range(past.end, self.first - 1, -1):
            if self._lost(hour) or (hour == self.first and self.listed_late):
                continue
            mood, rate = past.mood(hour - 1), float(default_ppm)
            chance = Random(f"{past.seed} funding {self._whose} {hour}")
            if chance.random() < moved_share or mood is not _CALM:
                rate = 60.0 * past.noise("premium", hour // 8, self._whose) + chance.gauss(
                    0.0, 40.0
                )
                rate += mood.drift * 20_000.0 + mood.fall * 3_000.0
            height, time_ms = past.first_block(hour)
            yield int(rate), height, time_ms, self.fair.price(hour)
