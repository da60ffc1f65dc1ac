"""The frames of a story, step by step, at the cost of a few updates: for many seeds in little time.

    Story ──► the stand-in's moods and displacements ──► prices ──► blocks · oracle · books · trades

What happens is the stand-in's own (`venue/market.py`): its scenarios, listings and displacements.
Its makers and takers are not: a price walks evenly, six levels a side stand around it, and who
takes has no opinion. `step_s` seconds pass between two updates of a market. The same story always
sends the same frames.
"""

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from dydx_conn import Frame, WireWriter

sys.path.insert(0, str(Path(__file__).parent / "venue"))

from disturbances import Spells  # the folder's modules are siblings
from market import STEP_S, Displacement, Factor, Listing, Mood, Scenario, Swing, listings

SECOND: Final = 10**9
START_NS: Final = 1_767_621_600 * SECOND  # on the hour
_FIRST_BLOCK: Final = 1_000  # one a step
_LEVELS: Final = 6
_LEVEL_USD: Final = 20_000.0  # several times the largest position of the default strategies
_APART_BPS: Final = 1.0  # of two levels
_TRADE_USD: Final = 3_000.0
_TRADES_A_SECOND: Final = 0.7
_HOUR_S: Final = 3_600

Levels = dict[str, dict[str, str]]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What happens: a scenario of the stand-in; "calm" is a random walk and nothing else.

    `amplitude_bps` is that of the scenario's displacements, if not its own; 0 are none.
    """

    scenario: str
    seed: int
    markets: int = 2
    seconds: int = _HOUR_S
    step_s: int = 1
    calm_s: float = 30.0
    amplitude_bps: float | None = None


def frames_of(story: Story) -> Iterator[list[Frame]]:
    """Yield the frames of each step."""
    return _Wire(story).run()


class _Market:
    """One market: where its price is, and what the wire shows of it."""

    def __init__(self, listing: Listing, seed: int) -> None:
        self.listing, self.ticker = listing, listing.ticker
        self.fair = listing.price
        self.basis_bps = 0.0
        self._chance = random.Random(f"{seed} edge {listing.ticker}")
        self._displacement = Displacement(seed, listing.market.clob_pair_id, listing.ticker)
        own = max(listing.sigma_bps**2 - (Factor.SIGMA_BPS * listing.beta) ** 2, 1.0)
        self._sigma = math.sqrt(own / 60.0) * 1e-4
        self._tick = float(listing.market.price(listing.market.subticks_per_tick))
        self._decimals = max(0, math.ceil(-math.log10(self._tick) - 1e-9))
        step = listing.market.size(listing.market.step_base_quantums).normalize()
        self._step_decimals = max(0, -int(step.as_tuple().exponent))
        self._shown: Levels = {"bids": {}, "asks": {}}
        self._premiums: list[float] = []
        self._trades = 0

    def move(self, mood: Mood, swing: Swing | None, common: float, step_s: int) -> None:
        """Let a step pass."""
        log = self._chance.gauss(0.0, self._sigma * math.sqrt(step_s) * mood.vol)
        if swing is not None and swing.amplitude_bps:
            log += math.fsum(self._displacement.second(swing) for _ in range(step_s))
        self.fair *= math.exp(common * self.listing.beta + log)
        self.basis_bps = mood.basis_bps * self.listing.beta
        self._premiums.append(self.basis_bps * 1e-4)

    @property
    def oracle(self) -> str:
        """Return the oracle price, which has no basis, as the wire has it."""
        return f"{self.fair:.{self._decimals + 2}f}"

    def rate(self, *, tick: bool) -> str:
        """Return the hourly rate that the hour's premiums come to; a new hour forgets them."""
        rate = math.fsum(self._premiums) / len(self._premiums) / 8 if self._premiums else 0.0
        if tick:
            self._premiums = self._premiums[-1:]
        return f"{rate:.12f}"

    def update(self, mood: Mood) -> dict[str, list[tuple[str, str]]]:
        """Return the update that turns the book shown into the one of now."""
        now = self.book(mood)
        update = {
            side: [(price, "0") for price in self._shown[side] if price not in levels]
            + [(p, size) for p, size in levels.items() if self._shown[side].get(p) != size]
            for side, levels in now.items()
        }
        self._shown = now
        return {side: rows for side, rows in update.items() if rows}

    def book(self, mood: Mood) -> Levels:
        """Return the levels around the price, ever farther from it."""
        centre, half = self._centre, self.listing.spread_bps * mood.spread / 2.0
        usd = _LEVEL_USD * mood.depth
        sides: Levels = {"bids": {}, "asks": {}}
        for side, sign in (("bids", -1), ("asks", 1)):
            for level in range(0 if mood.gone else _LEVELS):
                away = sign * (half + level * _APART_BPS * mood.spread) * 1e-4
                size = usd * self._chance.uniform(0.7, 1.3) / self.fair
                sides[side][self._price(centre * (1 + away), sign)] = self._size(size)
        return sides

    def show(self, mood: Mood) -> dict[str, Any]:
        """Return the levels of the book as it is shown from now on."""
        self._shown = self.book(mood)
        return {side: levels.items() for side, levels in self._shown.items()}

    def trades(self, mood: Mood, step_s: int, height: int) -> list[dict[str, str]]:
        """Return what takers without an opinion do in a step: each pays the half spread."""
        rows, expected = [], _TRADES_A_SECOND * step_s * mood.trades
        count = int(expected) + (self._chance.random() < expected % 1.0)
        half = self.listing.spread_bps * mood.spread / 2.0 * 1e-4
        event = self.listing.market.clob_pair_id << 12
        for number in range(0 if mood.gone else min(count, 12)):
            sign = self._chance.choice((1, -1))
            usd = _TRADE_USD * self._chance.lognormvariate(-0.5, 1.0)
            rows.append({
                "id": f"{height:08x}00000002{event + number:08x}",
                "side": "BUY" if sign > 0 else "SELL", "size": self._size(usd / self.fair),
                "price": self._price(self._centre * (1 + sign * half), sign),
                "type": "LIMIT",
            })  # fmt: skip
        return rows

    def fields(self) -> dict[str, Any]:
        """Return what the indexer reports of the market."""
        market = self.listing.market
        mmf = market.imf_ppm * market.maintenance_fraction_ppm // 1_000_000
        return {
            "clobPairId": str(market.clob_pair_id), "ticker": self.ticker, "status": "ACTIVE",
            "oraclePrice": self.oracle, "nextFundingRate": "0",
            "initialMarginFraction": f"{market.imf_ppm / 1e6:.6f}",
            "maintenanceMarginFraction": f"{mmf / 1e6:.6f}",
            "openInterest": f"{market.size(self.listing.open_interest):f}",
            "openInterestLowerCap": str(market.open_interest_lower_cap // 10**6),
            "openInterestUpperCap": str(market.open_interest_upper_cap // 10**6),
            "atomicResolution": market.atomic_resolution,
            "quantumConversionExponent": market.quantum_conversion_exponent,
            "stepBaseQuantums": market.step_base_quantums,
            "subticksPerTick": market.subticks_per_tick, "marketType": market.market_type,
        }  # fmt: skip

    @property
    def _centre(self) -> float:
        return self.fair * (1.0 + self.basis_bps * 1e-4)

    def _price(self, price: float, sign: int) -> str:
        ticks = price / self._tick
        ticks = math.ceil(ticks - 1e-9) if sign > 0 else math.floor(ticks + 1e-9)
        return f"{ticks * self._tick:.{self._decimals}f}"

    def _size(self, size: float) -> str:
        return f"{max(size, 10.0**-self._step_decimals):.{self._step_decimals}f}"


class _Wire:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.markets = [_Market(one, story.seed) for one in listings(story.markets)]
        self.scenario = Scenario(
            story.scenario, story.seed, story.calm_s, Spells(random.Random(0), 0.0, 0.0, 0.0)
        )
        self.chance = random.Random(f"{story.seed} edge")
        self.writer, self.second = WireWriter(at=START_NS), 0
        self.mood = Mood()
        self.out: list[Frame] = []

    def run(self) -> Iterator[list[Frame]]:
        story = self.story
        for self.second in range(0, story.seconds, story.step_s):
            self.out = []
            self.writer.at = self.writer.mono = START_NS + self.second * SECOND
            self._step(story.step_s)
            if self.second == 0:
                self._begin()
            else:
                self._show(story.step_s)
            yield self.out

    def _step(self, step_s: int) -> None:
        self.mood = mood = self.scenario.mood(float(self.second))
        sigma = Factor.SIGMA_BPS * 1e-4 * math.sqrt(step_s / 60.0) * mood.vol
        common = mood.drift * step_s / STEP_S + self.chance.gauss(0.0, sigma)
        amplitude, swing = self.story.amplitude_bps, mood.swing
        if swing is not None and amplitude is not None:
            swing = replace(swing, amplitude_bps=amplitude)
        for market in self.markets:
            market.move(mood, swing, common, step_s)

    def _begin(self) -> None:
        writer = self.writer
        self.out += [
            writer.message("connected"),
            writer.markets(*(market.fields() for market in self.markets)),
        ]
        for market in self.markets:
            self.out.append(writer.book(market.ticker, **market.show(self.mood)))
            self.out.append(writer.trades(market.ticker, snapshot=True))

    def _show(self, step_s: int) -> None:
        if self.mood.frozen:
            return
        writer, height = self.writer, _FIRST_BLOCK + self.second // step_s
        prices = {market.ticker: {"oraclePrice": market.oracle} for market in self.markets}
        self.out.append(writer.block(height))
        self.out.append(writer.publish("v4_markets", {"oraclePrices": prices}))
        for market in self.markets:
            if update := market.update(self.mood):
                self.out.append(writer.levels(market.ticker, **update))
            if trades := market.trades(self.mood, step_s, height):
                self.out.append(writer.trades(market.ticker, *trades))
        # The indexer works the rates out once a minute; an hour's last stands when it is paid.
        if self.second % 60 < step_s:
            tick = self.second % _HOUR_S < step_s
            rates = {one.ticker: {"nextFundingRate": one.rate(tick=tick)} for one in self.markets}
            self.out.append(writer.publish("v4_markets", {"trading": rates}))
