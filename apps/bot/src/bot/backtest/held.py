"""What was held at which price, period by period: what rivals by chance and holding come from.

    Bots on one pass ─► Held: once a second what each holds, at each period's end the prices
        ─► path_of a bot ─► Path (bot.backtest.statistics)      ─► holding: the curve of who held

A period is a second, or so long that a span has at most MOST. Prices are the oracle's, and what is
held within a period is its mean: who does not ask for it pays nothing for it.
"""

from array import array
from collections.abc import Collection, Sequence
from typing import Final

from dydx_conn import Frame
from dydx_paper import PaperVenue

from bot.backtest.figures import Curve
from bot.backtest.statistics import Path
from bot.run.composition import Bot

_SECOND_NS: Final = 1_000_000_000
MOST: Final = 50_000


class Held:
    """Follows bots that share one pass, from a moment on; `note` is shown each frame first."""

    def __init__(self, bots: Sequence[Bot], since_ns: int, until_ns: int) -> None:
        self._since = since_ns
        self._period = max(-(-(until_ns - since_ns) // MOST), _SECOND_NS)
        self._due, self._number = since_ns, 0
        self._paths = [_Path(bot) for bot in bots]
        self._prices: dict[str, array[float]] = {}

    def note(self, frame: Frame) -> None:
        """Look at what is held before a frame comes, if that is due."""
        if frame.at < self._due:
            return
        self._due = frame.at + _SECOND_NS
        number = (frame.at - self._since) // self._period
        if number > self._number:
            self._end(number)
        for path in self._paths:
            path.look()

    def _end(self, number: int) -> None:
        """End all periods before this one."""
        before = self._number
        self._number = number
        for ticker, view in self._paths[0].bot.data.views.items() if self._paths else ():
            if view.oracle is None or not view.live_at:
                continue
            price = view.oracle.price
            row = self._prices.get(ticker)
            if row is None:  # it has not moved before anybody knew where it was
                row = self._prices[ticker] = array("d", [price] * before)
            row.extend([price] * (number - len(row)))
        for path in self._paths:
            path.end(before, number)

    def path_of(self, bot: Bot) -> Path:
        """Return what a bot held in each period that has ended, and how prices moved in it."""
        path = next(one for one in self._paths if one.bot is bot)
        held = {
            ticker: row
            for ticker, rows in path.rows.items()
            if len(row := _padded(rows, self._number)) and ticker in self._prices
        }
        return Path(held, {ticker: self._moves(ticker) for ticker in held})

    def _moves(self, ticker: str) -> "array[float]":
        prices = self._filled(ticker)
        before = prices[:1] + prices[:-1]
        return array("d", [now / then - 1 for now, then in zip(prices, before, strict=True)])

    def _filled(self, ticker: str) -> "array[float]":
        prices = self._prices[ticker]
        return prices + array("d", prices[-1:] * (self._number - len(prices)))

    def holding(self, tickers: Collection[str], equity: Curve) -> Curve:
        """Return a curve at the times of another: its first worth in equal shares, held."""
        known = [self._filled(ticker) for ticker in tickers if ticker in self._prices]
        if not known or not equity:
            return ()
        curve = []
        for at, _ in equity:
            number = min(max((at - self._since) // self._period - 1, 0), self._number - 1)
            worth = sum(prices[number] / prices[0] for prices in known) / len(known)
            curve.append((at, equity[0][1] * worth))
        return tuple(curve)


class _Path:
    """What one bot holds: the sums of the period at hand, and the periods that have ended."""

    def __init__(self, bot: Bot) -> None:
        self.bot, self._looks = bot, 0
        self._sums: dict[str, float] = {}
        self.rows: dict[str, array[float]] = {}

    def look(self) -> None:
        self._looks += 1
        venue = self.bot.venue
        if not isinstance(venue, PaperVenue) or not self.bot.informed:
            return
        ledger = venue.ledger
        for ticker in ledger.holdings:
            if (part := ledger.worth.parts.get(ticker)) is not None:
                self._sums[ticker] = self._sums.get(ticker, 0.0) + part.net_notional / 1e6

    def end(self, before: int, number: int) -> None:
        for ticker, usdc in self._sums.items():
            row = self.rows.setdefault(ticker, array("d"))
            row.extend([0.0] * (before - len(row)))
            row.extend([usdc / self._looks] * (number - before))
        self._sums.clear()
        self._looks = 0


def _padded(row: "array[float]", count: int) -> "array[float]":
    return row + array("d", [0.0] * (count - len(row)))
