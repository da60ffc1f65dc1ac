"""The frames of a path, second by second, as an indexer would send them.

    Path ──► prices, second by second ──► blocks · oracle prices · books ──► (shown, true) frames

A frame that is shown and what is true differ only where books are pulled: the bots see the one,
the venue fills by the other.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from crash_paths import Asset, Event, Path
from dydx_conn import Frame, WireWriter

SECOND: Final = 10**9
START_NS: Final = 1_767_621_360 * SECOND
FIRST_BLOCK: Final = 1_000  # a block a second
Sent = tuple[Frame, Frame]
"""What is shown, and what is true."""

_LEVELS: Final = 6  # a side, ever farther from the price
_INTEREST_CAPS: Final = (20_000_000, 50_000_000)  # USDC; the initial margin scales between them


def frames_of(path: Path) -> Iterator[list[Sent]]:
    """Yield the frames of each second."""
    return _Wire(path).run()


def height_at(second: int) -> int:
    """Return the block of a second."""
    return FIRST_BLOCK + second


class _Market:
    """One market's price and book, second by second."""

    def __init__(self, asset: Asset, number: int) -> None:
        self.asset, self.number = asset, number
        self.price = self.low = asset.price
        self.past: list[float] = []
        # A tick is about a twenty-thousandth of the price, a step worth up to a dollar.
        self.tick_power = round(math.log10(asset.price / 20_000))
        self.tick, self.decimals = 10.0**self.tick_power, max(0, -self.tick_power)
        self.step_power = math.floor(-math.log10(asset.price))
        self.shown: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def fields(self) -> dict[str, Any]:
        """Return what the indexer reports of the market."""
        resolution = self.step_power - 6  # a million quantums a step
        lower, upper = _INTEREST_CAPS
        return {
            "clobPairId": str(self.number), "ticker": self.asset.ticker, "status": "ACTIVE",
            "oraclePrice": self.text(self.price), "nextFundingRate": "0",
            "initialMarginFraction": f"{self.imf:.4f}",
            "maintenanceMarginFraction": f"{self.asset.maintenance:.4f}",
            "openInterest": self.interest(1.0), "atomicResolution": resolution,
            "openInterestLowerCap": str(lower), "openInterestUpperCap": str(upper),
            # A thousand subticks a tick.
            "quantumConversionExponent": self.tick_power + resolution + 3,
            "stepBaseQuantums": 1_000_000, "subticksPerTick": 1_000,
        }  # fmt: skip

    @property
    def imf(self) -> float:
        """Return the initial margin fraction of its tier."""
        return self.asset.maintenance / 0.6

    def interest(self, times: float) -> str:
        """Return the open interest at which the initial margin is so many times its least."""
        lower, upper = _INTEREST_CAPS
        share = min(1.0, (times - 1) * self.imf / (1 - self.imf))
        usdc = lower + share * (upper - lower) if times > 1 else lower / 20
        return f"{usdc / self.price:.9f}"

    def text(self, price: float) -> str:
        """Write a price on the market's tick."""
        return f"{round(price / self.tick) * self.tick:.{self.decimals}f}"

    def ago(self, seconds: int) -> float:
        """Return the price of so many seconds ago."""
        return self.past[max(0, len(self.past) - 1 - seconds)]

    def book(self, price: float, depth: float, gone: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the levels around a price: a share of each side's depth, ever farther away."""
        size = self.asset.depth_usdc * depth / _LEVELS / self.asset.price
        text = f"{size:.{max(0, -self.step_power)}f}"
        sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        for side, sign in (("bids", -1), ("asks", 1)):
            for level in range(_LEVELS) if side not in gone and float(text) else ():
                sides[side][self.text(price * (1 + sign * (0.0002 + 0.0010 * level)))] = text
        return sides

    def changes(self, now: dict[str, dict[str, str]]) -> dict[str, list[tuple[str, str]]]:
        """Return the update that turns the book shown into the one of now."""
        update = {
            side: [(price, "0") for price in self.shown[side] if price not in levels]
            + [*levels.items()]
            for side, levels in now.items()
        }
        self.shown = now
        return {side: rows for side, rows in update.items() if rows}


class _Wire:
    def __init__(self, path: Path) -> None:
        self.path, self.side = path, path.side
        self.markets = [_Market(asset, n) for n, asset in enumerate(path.assets)]
        self.chance = random.Random(f"noise of {path.seed}")
        self.writer = WireWriter(at=START_NS)
        self.hours = self.second = 0
        self.out: list[Sent] = []

    def run(self) -> Iterator[list[Sent]]:
        for second in range(self.path.seconds):
            self.second, self.out = second, []
            self._stamp()
            if second == 0:
                self._begin()
            happening = [e for e in self.path.events if e.at_s <= second < e.until_s]
            for event in happening:
                self._move(event)
            for market in self.markets:
                market.past.append(market.price)
            kinds = {event.kind: event for event in happening}
            self._send(self.writer.block(height_at(second)))
            if "frozen" not in kinds:
                self._prices(kinds)
            self._books(happening, kinds)
            yield self.out

    # --- prices

    def _begin(self) -> None:
        self._send(self.writer.message("connected"))
        self._send(self.writer.markets(*(market.fields() for market in self.markets)))
        for market in self.markets:
            market.past.append(market.price)
            self._snapshot(market, 1.0, ())

    def _move(self, event: Event) -> None:
        if event.kind == "squeeze" and self.second == event.at_s:
            self._squeeze(event)
        for market in self.markets:
            market.price = max(self._moved(event, market), market.asset.price * 0.01)

    def _moved(self, event: Event, market: _Market) -> float:
        price, beta = market.price, market.asset.beta
        if event.kind in ("slide", "gap", "rebound"):
            share = event.size if event.kind == "gap" else event.size / event.for_s
            share = -share if event.kind == "rebound" else share
            return price * (1 - self.side * min(share * beta, 0.9))
        if event.kind == "recovery":
            if self.second == event.at_s:
                market.low = price
            return price + event.size / event.for_s * (market.asset.price - market.low)
        if event.kind == "noise":
            return price * (1 + self.chance.gauss(0.0, event.size))
        return price

    def _squeeze(self, event: Event) -> None:
        # Whichever side of a market the account holds is the one that pays.
        self.hours += event.for_s
        self._stamp()
        trading = {
            market.asset.ticker: {
                "nextFundingRate": f"{math.copysign(event.size, market.asset.held_usdc):.6f}"
            }
            for market in self.markets
        }
        self._send(self.writer.publish("v4_markets", {"trading": trading}))

    def _prices(self, kinds: dict[str, Event]) -> None:
        lag = kinds.get("oracle lags")
        ago = 0 if lag is None else round(lag.size)
        prices = {m.asset.ticker: {"oraclePrice": m.text(m.ago(ago))} for m in self.markets}
        self._send(self.writer.publish("v4_markets", {"oraclePrices": prices}))
        interest = kinds.get("interest")
        if interest is not None:
            share = (self.second - interest.at_s + 1) / interest.for_s
            times = 1 + share * (interest.size - 1)
            trading = {m.asset.ticker: {"openInterest": m.interest(times)} for m in self.markets}
            self._send(self.writer.publish("v4_markets", {"trading": trading}))

    # --- books

    def _books(self, happening: Sequence[Event], kinds: dict[str, Event]) -> None:
        depth = min((e.size for e in happening if e.kind == "thin"), default=1.0)
        taker = "bids" if self.side > 0 else "asks"
        gone = ("bids", "asks") if "vanish" in kinds else (taker,) if "one side" in kinds else ()
        lost = kinds.get("lost")
        if lost is not None and self.second == lost.at_s:
            self._send(self.writer.event("gap", "frames lost"))
        if lost is not None or "stall" in kinds or "frozen" in kinds:
            return
        ended = any(e.kind == "lost" and self.second == e.until_s for e in self.path.events)
        ago = round(kinds["book lags"].size) if "book lags" in kinds else 0
        for market in self.markets:
            if ended:
                self._snapshot(market, depth, gone)
                continue
            update = market.changes(market.book(market.ago(ago), depth, gone))
            if update:
                self._update(market, update, kinds.get("pulled"))

    def _update(self, market: _Market, update: Any, pulled: Event | None) -> None:
        """Change a book; what is true of it, once it is pulled, is a part of what it shows."""
        shown = self.writer.levels(market.asset.ticker, **update)
        if pulled is None:
            self._send(shown)
            return
        step = max(0, -market.step_power)
        left = {
            side: [(price, f"{float(size) * pulled.size:.{step}f}") for price, size in rows]
            for side, rows in update.items()
        }
        # The same message, word for word but for the sizes.
        self.writer.seq -= 1
        self.writer.ids[self.writer.link] -= 1
        self.out.append((shown, self.writer.levels(market.asset.ticker, **left)))

    def _snapshot(self, market: _Market, depth: float, gone: Sequence[str]) -> None:
        market.shown = market.book(market.price, depth, gone)
        levels = {side: rows.items() for side, rows in market.shown.items()}
        self._send(self.writer.book(market.asset.ticker, **levels))

    # --- frames

    def _stamp(self) -> None:
        # The hours of a squeeze pass between two seconds.
        now = START_NS + (self.second + self.hours * 3_600) * SECOND
        self.writer.at = self.writer.mono = now

    def _send(self, frame: Frame) -> None:
        self.out.append((frame, frame))
