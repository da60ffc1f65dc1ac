"""What the indexer remembers of one market: its levels, trades, candles, oracle and funding.

    Market.drain ──► MarketTape.levels, .block ─┬─► the indexer's own JSON shapes, as dicts
    PastMarket (`--history`) ───────────────────┘

`MarketTape` turns subticks and quantums into the wire's decimal text and retains the last
thousand trades and candles. `OracleFeed` follows the fair price; `HourlyFunding` makes rates of
the book with dydx_data's formulas. What lies before the start (candles, funding history, the last
day's figures) is made up on first demand, from the same seed, so that it ends where the market
begins.

Money is integers; floats only for what is made up. No clock, no I/O.
"""

import datetime
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice, pairwise
from random import Random
from typing import Any, Final

from dydx_conn import PerpetualMarket, Side, base_to_quote, fill_to_quote
from dydx_data import FundingHour, FundingTerms, indexer_next_rate, oracle_subticks
from dydx_risk import funding_index_delta
from market import Level, Market, TapeTrade, walk_back
from past import KINDS, PastMarket, PastTrade, TapeCandle, joined

Json = dict[str, Any]

SECOND_NS: Final = 1_000_000_000
START_HEIGHT: Final = 41_000_000
RETAINED: Final = 1000
# With a past behind it, a venue forgets none of what comes after it, within reason.
_RETAINED_ON: Final = 1_000_000

# === Text ===


def iso(time_ns: int) -> str:
    """Write a time as the indexer does, in milliseconds."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"


_iso_ms = lru_cache(maxsize=4096)(lambda time_ms: iso(time_ms * 1_000_000))


def from_iso(text: str) -> int:
    """Read a time the indexer or a client wrote; `ValueError` if it is none."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1) * 1000


def decimal_text(value: int, exponent: int) -> str:
    """Write `value` times ten to the `exponent`, without needless zeros or a power."""
    if exponent >= 0:
        return str(value * 10**exponent)
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, part = divmod(value, 10**-exponent)
    if not part:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{part:0{-exponent}d}".rstrip("0")


def quotient_text(numerator: int, denominator: int, digits: int = 20) -> str:
    """Write a quotient as Postgres writes a numeric: plain, to `digits` places."""
    with localcontext() as context:
        context.prec = 60
        value = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1).scaleb(-digits))
        return f"{value.normalize():f}" if value else "0"


# === Candles ===

RESOLUTIONS: Final = {
    "1MIN": 60,
    "5MINS": 300,
    "15MINS": 900,
    "30MINS": 1800,
    "1HOUR": 3600,
    "4HOURS": 14_400,
    "1DAY": 86_400,
}


class TapeCandles:
    """The candles of one market in one resolution, newest last."""

    def __init__(self, seconds: int, retained: int) -> None:
        self.seconds = seconds
        self.retained: deque[TapeCandle] = deque(maxlen=retained)

    def roll(self, now_s: int, mid: int | None, fair: int, interest: int) -> bool:
        """Open the candle that `now_s` lies in; True if it is a new one."""
        start = now_s - now_s % self.seconds
        last = self.retained[-1] if self.retained else None
        if last is not None and last.start >= start:
            last.mid_close = mid
            return False
        close = last.close if last else fair
        self.retained.append(
            TapeCandle(start, close, close, close, close, 0, 0, 0, interest, mid, mid)
        )
        return True


# === Oracle and funding ===

TERMS: Final = FundingTerms()


# By tier, whose first number is the initial margin: governance's, of x/prices.
_MIN_CHANGE_PPM: Final = {20_000: 1_000, 50_000: 2_500, 100_000: 2_500, 200_000: 4_000}


class OracleFeed:
    """One market's oracle price: an integer, its power of ten, and its text.

    `index` is what the nodes' price daemons see. The chain takes it for its `price` only where it
    lies `min_change_ppm` or more from the last, so that in calm hours it is silent.
    """

    def __init__(self, market: PerpetualMarket, price: float, chance: Random) -> None:
        self.exponent = math.floor(math.log10(price)) - 9
        self.price = self.index = 0
        self.text = ""
        self.min_change_ppm = _MIN_CHANGE_PPM[market.imf_ppm]
        if market.market_type == "ISOLATED":
            self.min_change_ppm = 4_000
        self._market = market
        self._chance = chance

    def observe(self, fair: float) -> bool:
        """Take the fair price in, with some noise; return whether the oracle's changed."""
        seen = fair * (1.0 + self._chance.gauss(0.0, 0.3e-4))
        self.index = max(int(seen * 10.0**-self.exponent), 1)
        least = max(self.price * self.min_change_ppm // 1_000_000, 1)
        if abs(self.index - self.price) < least:
            return False
        self.price, self.text = self.index, decimal_text(self.index, self.exponent)
        return True

    def value(self, quantums: int) -> int:
        """Value a size at the oracle price, in quote quantums."""
        return base_to_quote(quantums, self.price, self.exponent, self._market.atomic_resolution)

    @property
    def subticks(self) -> Fraction:
        """Return the oracle price in subticks, exactly."""
        return oracle_subticks(self._market, self.price, self.exponent)


class HourlyFunding:
    """One market's funding: votes each block, samples each minute, a rate and the index each hour.

    `rows` are the hourly rates as the indexer shows them, oldest first.
    """

    def __init__(
        self,
        book: Market,
        oracle: OracleFeed,
        seed: int,
        chance: Random,
        start_ns: int,
        past: PastMarket | None = None,
    ) -> None:
        self.index = 0
        self.rows: deque[Json] = deque(maxlen=RETAINED)
        self._book, self._oracle = book, oracle
        self._seed, self._start_ns, self._before = seed, start_ns, past
        self._hour = FundingHour(TERMS, self._samples_before(chance))
        # An hour without samples has the default rate alone.
        self._next_rate = indexer_next_rate(self._hour.samples or [0], self.default_ppm)
        self._past: list[Json] = []

    def vote(self) -> None:
        """Vote on the premium over the index price as a proposer does each block."""
        book, oracle = self._book.book, self._oracle
        self._hour.vote(
            self._book.market, book.best_bid, book.best_ask,
            lambda: (book.levels("BUY"), book.levels("SELL")), oracle.index, oracle.exponent,
        )  # fmt: skip

    def sample(self) -> None:
        """Close the minute: its votes become one sample."""
        self._hour.sample()
        self._next_rate = indexer_next_rate(self._hour.samples, self.default_ppm)

    def tick(self, height: int, time_ns: int) -> None:
        """Close the hour: its samples become a rate, which moves the index."""
        market, oracle = self._book.market, self._oracle
        rate = self._hour.settle(market, self.default_ppm)
        self.index += funding_index_delta(
            rate, TERMS.tick_seconds, oracle.price, oracle.exponent, market.atomic_resolution
        )
        self.rows.append(self._row(rate, oracle.text, height, time_ns))

    @property
    def default_ppm(self) -> int:
        """Return the eight-hour rate of a market whose book shows no premium."""
        return 0 if self._book.market.market_type == "CROSS" else 100

    @property
    def next_rate_text(self) -> str:
        """Return the next hourly rate as the indexer estimates it: unclamped, not padded."""
        rate = self._next_rate or Fraction(0)
        return quotient_text(rate.numerator, rate.denominator)

    def newest(self, before_ns: int, before_height: int, limit: int) -> list[Json]:
        """Return hourly rates, newest first, the made-up ones behind the real."""
        if not self._past:
            self._past = (
                self._rows_before() if self._before is None else self._rows_of(self._before)
            )
        chosen = (
            row
            for row in (*reversed(self.rows), *self._past)
            if from_iso(row["effectiveAt"]) <= before_ns
            and int(row["effectiveAtHeight"]) <= before_height
        )
        return list(islice(chosen, limit))

    def _row(self, rate_ppm: int, price: str, height: int, time_ns: int) -> Json:
        return {
            "ticker": self._book.listing.ticker,
            "rate": quotient_text(rate_ppm, 8_000_000),
            "price": price,
            "effectiveAt": iso(time_ns),
            "effectiveAtHeight": str(height),
        }

    def _rows_of(self, past: PastMarket) -> list[Json]:
        exponent = self._oracle.exponent
        return [
            self._row(
                rate, decimal_text(int(price * 10.0**-exponent), exponent), height, ms * 10**6
            )
            for rate, height, ms, price in past.funding(self._moved_share, self.default_ppm)
        ]

    def _rows_before(self) -> list[Json]:
        listing, exponent = self._book.listing, self._oracle.exponent
        chance = Random(f"{self._seed} funding {listing.ticker}")
        hour = 3600 * SECOND_NS
        newest = self._start_ns // hour * hour
        prices = islice(walk_back(chance, listing.price, 0.006), 168)
        rows, rate = [], 0.0
        for number, price in enumerate(prices):
            rate = 0.85 * rate + chance.gauss(0.0, 60.0)
            ppm = int(rate) if chance.random() < self._moved_share else self.default_ppm
            text = decimal_text(int(price * 10.0**-exponent), exponent)
            height = START_HEIGHT - number * 3900
            rows.append(self._row(ppm, text, height, newest - number * hour))
        return rows

    def _samples_before(self, chance: Random) -> list[int]:
        minutes = self._start_ns // SECOND_NS % 3600 // 60
        if chance.random() > self._moved_share:
            return [0] * minutes
        level, samples = chance.gauss(0.0, 90.0), []
        for _ in range(minutes):
            level = 0.97 * level + chance.gauss(0.0, 20.0)
            samples.append(int(level))
        return samples

    @property
    def _moved_share(self) -> float:
        # Four of five hourly rates on the mainnet are exactly zero, but not those of Bitcoin.
        if self._book.market.clob_pair_id == 0:
            return 0.9
        return 0.4 if self._book.listing.volume > 1e7 else 0.2


# === Levels ===


class IndexedLevels:
    """One market's book as the indexer has it: orders that expired stay until it removes them.

    So it is often crossed on the wire. REST uncrosses it, by which level was updated last.
    """

    def __init__(self, book: Market) -> None:
        # Per side, by subticks: the size, and the number of its last update.
        self._levels: dict[Side, dict[int, tuple[int, int]]] = {"BUY": {}, "SELL": {}}
        self._expired: deque[tuple[int, Level]] = deque()
        self._lapsed: Counter[tuple[Side, int]] = Counter()
        self._updates = 0
        for side in self._levels:
            for at, total in book.book.levels(side):
                self._note(side, at, total)

    def change(
        self, levels: Iterable[Level], lapsed: Iterable[Level], height: int
    ) -> Iterator[Level]:
        """Take in what the engine's levels are, and what left them unseen; yield the changes."""
        for side, at, quantums in lapsed:
            self._expired.append((height, (side, at, quantums)))
            self._lapsed[side, at] += quantums
        for side, at, total in levels:
            level = (side, at, total + self._lapsed[side, at])
            if self._note(*level):
                yield level

    def remove_expired(self, height: int) -> Iterator[Level]:
        """Remove what expired up to a height; yield the changes."""
        while self._expired and self._expired[0][0] <= height:
            side, at, quantums = self._expired.popleft()[1]
            self._lapsed[side, at] -= quantums
            level = (side, at, self._levels[side][at][0] - quantums)
            if self._note(*level):
                yield level

    def _note(self, side: Side, at: int, total: int) -> bool:
        levels = self._levels[side]
        if total == levels.get(at, (0, 0))[0]:
            return False
        self._updates += 1
        levels[at] = (total, self._updates)
        if not total:
            del levels[at]
        return True

    def uncrossed(self, n: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the best `n` bids and asks as (subticks, size); of two that cross the newer."""
        bids = sorted(self._levels["BUY"].items(), reverse=True)
        asks = sorted(self._levels["SELL"].items())
        bid = ask = 0
        while bid < len(bids) and ask < len(asks) and bids[bid][0] >= asks[ask][0]:
            if bids[bid][1][1] > asks[ask][1][1]:
                ask += 1
            else:
                bid += 1
        return (
            [(at, total) for at, (total, _) in bids[bid : bid + n]],
            [(at, total) for at, (total, _) in asks[ask : ask + n]],
        )


# === Tape ===


_EVER_NS: Final = 2**62
_OF_LIVE_TRADES: Final = ("id", "size", "price", "side", "createdAt", "type")


@dataclass(slots=True, kw_only=True)
class _Day:
    """The last day's figures: its first price, and what was traded, in USDC and in trades."""

    price: float
    volume: float
    trades: int


class MarketTape:
    """All that REST and the sockets report of one market."""

    def __init__(
        self, market: Market, seed: int, start_ns: int, past: PastMarket | None = None
    ) -> None:
        self.book, self.past = market, past
        listing = market.listing
        self.status = "ACTIVE"
        self.open_interest = listing.open_interest
        retained = RETAINED if past is None else _RETAINED_ON
        self.trades: deque[Json] = deque(maxlen=retained)
        self.candles = {
            name: TapeCandles(seconds, retained) for name, seconds in RESOLUTIONS.items()
        }
        self.fresh_candles = False
        self.levels = IndexedLevels(market)
        self._chance = chance = Random(f"{seed} tape {listing.ticker}")
        self.oracle = OracleFeed(market.market, listing.price, chance)
        self.funding = HourlyFunding(market, self.oracle, seed, chance, start_ns, past)
        self._prices: dict[int, str] = {}
        self._past = Random(f"{seed} past {listing.ticker}") if past is None else None
        day_before = listing.price * math.exp(chance.gauss(0.0, 0.02))
        if past is not None:
            day_before = past.fair.price(max(past.past.end - 24, past.past.first))
        self._day = _Day(
            price=day_before,
            volume=listing.volume * chance.uniform(0.7, 1.3),
            trades=int(listing.trades * chance.uniform(0.7, 1.3)),
        )
        self.oracle.observe(market.fair)
        self._stats: Json = {}
        self.refresh()
        self.roll(start_ns)

    @property
    def market(self) -> PerpetualMarket:
        """Return the market's grid and margins."""
        return self.book.market

    @property
    def _shift(self) -> int:
        return self.market.atomic_resolution - self.market.quantum_conversion_exponent + 6

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.book.listing.ticker

    # --- levels ---

    def price_text(self, subticks: int) -> str:
        """Write a price; the same ones come again and again."""
        text = self._prices.get(subticks)
        if text is None:
            if len(self._prices) > 50_000:
                self._prices.clear()
            text = self._prices[subticks] = decimal_text(subticks, -self._shift)
        return text

    def size_text(self, quantums: int) -> str:
        """Write a size."""
        return decimal_text(quantums, self.market.atomic_resolution)

    def orderbook(self) -> Json:
        """Return the book as REST does: uncrossed, at most a hundred levels a side."""
        sides = self.levels.uncrossed(100)
        return {
            name: [
                {"price": self.price_text(at), "size": self.size_text(total)} for at, total in side
            ]
            for name, side in zip(("bids", "asks"), sides, strict=True)
        }

    def level_update(self, level: Level) -> Json:
        """Return one level as a socket reports it: its whole size."""
        side, subticks, total = level
        row = (self.price_text(subticks), self.size_text(total))
        return {"bids" if side == "BUY" else "asks": [row]}

    # --- trades and candles ---

    def block(self, trades: list[TapeTrade], height: int, time_ns: int) -> list[Json]:
        """Take in the trades of a block, oldest first, and return them as a socket reports them."""
        rolled = self.roll(time_ns)
        rows = []
        for number, trade in enumerate(trades):
            rows.append(self._trade(trade, number, height, time_ns))
            self._count(trade)
        self.fresh_candles = rolled or bool(rows)
        live = [{name: row[name] for name in _OF_LIVE_TRADES} for row in rows]
        # The database orders them by height alone: those of a block come as they may.
        order = self._chance.random()
        if order < 0.4:
            rows.reverse()
        elif order < 0.6:
            self._chance.shuffle(rows)
        self.trades.extend(rows)
        return live

    def _trade(self, trade: TapeTrade, number: int, height: int, time_ns: int) -> Json:
        event = (self.market.clob_pair_id << 12) + number
        return {
            "id": f"{height:08x}00000002{event:08x}",
            "side": trade.side,
            "size": self.size_text(trade.quantums),
            "price": self.price_text(trade.subticks),
            "type": trade.kind,
            "createdAt": iso(time_ns),
            "createdAtHeight": str(height),
        }

    def newest_trades(self, before_ns: int, before_height: int) -> Iterator[Json]:
        """Yield the trades at or before a time and a height, newest first."""
        if self.past is None or before_ns // 1_000_000 >= self.past.past.end_ms:
            yield from self._live_trades(before_ns, before_height)
        if self.past is not None:
            for trade in self.past.trades(before_ns // 1_000_000, before_height):
                yield self._past_trade(trade)

    def trades_page(
        self, before_ns: int, before_height: int, offset: int, limit: int
    ) -> tuple[list[Json], int]:
        """Return a page of the same by event, oldest first, and how many trades there are."""
        rows, before = list[Json](), 0
        if self.past is not None:
            past = self.past.page(before_ns // 1_000_000, before_height, offset, limit)
            rows, before = [self._past_trade(trade) for trade in past[0]], past[1]
        live = sorted(self._live_trades(before_ns, before_height), key=lambda row: str(row["id"]))
        rows += live[max(offset - before, 0) : max(offset + limit - before, 0)]
        return rows, before + len(live)

    def _live_trades(self, before_ns: int, before_height: int) -> Iterator[Json]:
        for row in reversed(self.trades):
            if int(row["createdAtHeight"]) <= before_height and (
                before_ns >= _EVER_NS or from_iso(row["createdAt"]) <= before_ns
            ):
                yield row

    def _past_trade(self, trade: PastTrade) -> Json:
        side, kind = KINDS[trade.kind]
        event = (self.market.clob_pair_id << 12) + trade.number
        return {
            "id": f"{trade.height:08x}00000002{event:08x}",
            "side": side,
            "size": self.size_text(trade.quantums),
            "price": self.price_text(trade.subticks),
            "type": kind,
            "createdAt": _iso_ms(trade.time_ms),
            "createdAtHeight": str(trade.height),
        }

    def _count(self, trade: TapeTrade) -> None:
        for candles in self.candles.values():
            candles.retained[-1].add(trade.subticks, trade.quantums)
        exponent = self.market.quantum_conversion_exponent
        self._day.volume += fill_to_quote(trade.quantums, trade.subticks, exponent) / 1e6
        self._day.trades += 1
        # About a third of all trades open a position that was not there, a third close one.
        step = self.market.step_base_quantums
        change = int(trade.quantums * self._chance.choice((-0.5, 0.0, 0.5)) / step) * step
        self.open_interest = max(self.open_interest + change, step)

    def roll(self, time_ns: int) -> bool:
        """Open the candles of this moment; True if any is new."""
        fair, now_s = int(self.book.mid * 10**self._shift), time_ns // SECOND_NS
        book = self.book.book
        one_sided = book.best_bid is None or book.best_ask is None
        mid = None if one_sided else fair
        first = fair if self.past is None else self.past.close
        rolled = [
            candles.roll(now_s, mid, first, self.open_interest) for candles in self.candles.values()
        ]
        return any(rolled)

    def candle(self, resolution: str, candle: TapeCandle) -> Json:
        """Return one candle as the indexer shows it."""
        candles = self.candles[resolution]
        if self.past is not None and candle is candles.retained[0]:
            parts = (self.past.seam(candles.seconds), candle)
            candle = joined(candle.start, filter(None, parts)) or candle
        return {
            "startedAt": iso(candle.start * SECOND_NS),
            "ticker": self.ticker,
            "resolution": resolution,
            "low": self.price_text(candle.low),
            "high": self.price_text(candle.high),
            "open": self.price_text(candle.open),
            "close": self.price_text(candle.close),
            "baseTokenVolume": self.size_text(candle.quantums),
            "usdVolume": decimal_text(candle.value, self.market.quantum_conversion_exponent - 6),
            "trades": candle.trades,
            "startingOpenInterest": self.size_text(candle.interest),
            "orderbookMidPriceOpen": self._mid_text(candle.mid_open),
            "orderbookMidPriceClose": self._mid_text(candle.mid_close),
        }

    def _mid_text(self, mid: int | None) -> str | None:
        return None if mid is None else decimal_text(mid, -self._shift)

    def newest_candles(self, resolution: str, start: int, end: int, limit: int) -> list[Json]:
        """Return candles that begin in [start, end) seconds, newest first."""
        self._make_up()
        candles = self.candles[resolution]
        live = (candle for candle in reversed(candles.retained) if start <= candle.start < end)
        past: Iterable[TapeCandle] = ()
        if self.past is not None:
            before = min(end, candles.retained[0].start)
            past = self.past.candles(candles.seconds, start, before)
        return [self.candle(resolution, candle) for candle in islice(chain(live, past), limit)]

    def sparkline(self, resolution: str, count: int) -> list[str]:
        """Return closes, newest first."""
        self._make_up()
        candles = self.candles[resolution]
        closes = [candle.close for candle in islice(reversed(candles.retained), count)]
        if self.past is not None and len(closes) < count:
            closes += self.past.closes(candles.seconds, candles.retained[0].start)
        return [self.price_text(close) for close in closes[:count]]

    def _make_up(self) -> None:
        """Invent the candles before the start: minutes first, then on in coarser steps."""
        chance, self._past = self._past, None
        if chance is None:
            return
        price = float(self.book.listing.price)
        for candles in self.candles.values():
            sigma = self.book.listing.sigma_bps * 1e-4 * math.sqrt(candles.seconds / 60)
            first = candles.retained[0]
            closes = list(islice(walk_back(chance, price, sigma), 361))
            for number, (close, opened) in enumerate(pairwise(closes)):
                start = first.start - (number + 1) * candles.seconds
                made = self._past_candle(chance, start, opened, close, sigma, candles.seconds)
                candles.retained.appendleft(made)

    def _past_candle(
        self, chance: Random, start: int, opened: float, close: float, sigma: float, seconds: int
    ) -> TapeCandle:
        tick, scale = self.market.subticks_per_tick, 10.0**self._shift
        high = max(opened, close) * (1 + abs(chance.gauss(0.0, sigma / 2)))
        low = min(opened, close) * (1 - abs(chance.gauss(0.0, sigma / 2)))
        at = [max(int(price * scale / tick), 1) * tick for price in (opened, high, low, close)]
        volume = self.book.listing.volume * seconds / 86_400 * chance.lognormvariate(-0.3, 0.8)
        trades = int(self.book.listing.trades * seconds / 86_400 * chance.lognormvariate(-0.1, 0.4))
        step = self.market.step_base_quantums
        base = volume / close * 10.0**-self.market.atomic_resolution if trades else 0.0
        quantums = int(base / step) * step
        opened_at, high_at, low_at, close_at = at
        return TapeCandle(
            start, opened_at, high_at, low_at, close_at, quantums, quantums * close_at, trades,
            self.book.listing.open_interest, opened_at, close_at,
        )  # fmt: skip

    # --- the market itself ---

    def refresh(self) -> Json:
        """Bring up to date what the indexer works out every so often; return what changed."""
        exponent = self.oracle.exponent
        change = self.oracle.price * 10.0**exponent - self._day.price
        fresh: Json = {
            "priceChange24H": f"{Decimal(repr(round(change, -exponent))):f}",
            "volume24H": f"{self._day.volume:.4f}",
            "trades24H": self._day.trades,
            "nextFundingRate": self.funding.next_rate_text,
            "openInterest": self.size_text(self.open_interest),
        }
        changed = {name: value for name, value in fresh.items() if self._stats.get(name) != value}
        self._stats = fresh
        return changed

    def description(self) -> Json:
        """Return the market as `/perpetualMarkets` lists it."""
        market = self.market
        tick = decimal_text(market.subticks_per_tick, -self._shift)
        mmf_ppm = market.imf_ppm * market.maintenance_fraction_ppm // 1_000_000
        return {
            "clobPairId": str(market.clob_pair_id),
            "ticker": self.ticker,
            "status": self.status,
            "oraclePrice": self.oracle.text,
            **{name: value for name, value in self._stats.items() if name != "openInterest"},
            "initialMarginFraction": decimal_text(market.imf_ppm, -6),
            "maintenanceMarginFraction": decimal_text(mmf_ppm, -6),
            "openInterest": self._stats["openInterest"],
            "atomicResolution": market.atomic_resolution,
            "quantumConversionExponent": market.quantum_conversion_exponent,
            "tickSize": tick,
            "stepSize": self.size_text(market.step_base_quantums),
            "stepBaseQuantums": market.step_base_quantums,
            "subticksPerTick": market.subticks_per_tick,
            "marketType": market.market_type,
            "openInterestLowerCap": str(market.open_interest_lower_cap // 1_000_000),
            "openInterestUpperCap": str(market.open_interest_upper_cap // 1_000_000),
            # Nobody has written it since 2024.
            "baseOpenInterest": "0",
            "defaultFundingRate1H": quotient_text(self.funding.default_ppm, 8_000_000),
        }
