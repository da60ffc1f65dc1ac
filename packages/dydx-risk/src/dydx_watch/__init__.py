"""What an account's risk looks like, second by second: its figures, every shock, the way out.

    MarketView ──► Returns ──► volatility and beta of each market
    sizes, views, ladder ──► Watcher.look ──► Watch: figures, stress table, flight plan, leverage

A `Watcher` remembers one account: what has not moved since its last look is not reckoned again,
and what it says equals what `risk_figures` and `stress_table` say from nothing. `Returns` follows
oracle prices, because they are what liquidates.

Units: sizes are signed quantums, money is quote quantums (1e-6 USDC), times nanoseconds of event
time; volatilities are standard deviations of the return over one hour, floats, as betas are.
What is not known is None, and `unknown` says why. Nothing here reads a clock or subscribes.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from math import fsum, log, sqrt
from typing import Final

import msgspec
from dydx_conn import PerpetualMarket
from dydx_data import MarketView
from dydx_flight import FlightPlan
from dydx_stress import (
    Holding,
    LeverageAdvice,
    RiskFigures,
    StressTable,
    funding_rate_8h_ppm,
    risk_figures,
    stress_table,
    suggest_leverage,
)

__all__ = ["Returns", "Watch", "Watcher"]

# === Returns ===

_HOUR_NS: Final = 3_600 * 10**9


class Returns:
    """The returns of every market's oracle price over the last hour, a step at a time.

    Volatility is the root of the mean square return, scaled to an hour; beta that of a market to
    the mean of all. None before `least` steps: a market that nobody watched for some minutes is
    not calm. A step that was missed, as when a link is down, is left out.
    """

    def __init__(self, step_ns: int = 10 * 10**9, least: int = 18) -> None:
        self.step_ns, self.least = step_ns, least
        self._steps: deque[dict[str, float]] = deque(maxlen=_HOUR_NS // step_ns)
        self._last: dict[str, float] = {}
        self._at = 0
        self._known: dict[str, tuple[float | None, float | None]] = {}

    def sample(self, at: int, views: Mapping[str, MarketView]) -> None:
        """Take the prices of a moment in, if a step has passed since the last."""
        if at - self._at < self.step_ns:
            return
        prices = {t: v.oracle.price for t, v in views.items() if v.oracle and v.oracle.price > 0}
        if at - self._at < 2 * self.step_ns:
            last = self._last
            returns = {t: log(price / last[t]) for t, price in prices.items() if t in last}
            if returns:
                self._steps.append(returns)
                self._known = {}
        self._at, self._last = at, prices

    def volatility_1h(self, ticker: str) -> float | None:
        """Return a market's volatility, None while it is not known."""
        return self._figures(ticker)[0]

    def beta(self, ticker: str) -> float | None:
        """Return a market's move for a move of one of all together, None while not known."""
        return self._figures(ticker)[1]

    def _figures(self, ticker: str) -> tuple[float | None, float | None]:
        if ticker not in self._known:
            self._known[ticker] = self._reckoned(ticker)
        return self._known[ticker]

    def _reckoned(self, ticker: str) -> tuple[float | None, float | None]:
        pairs = [(step[ticker], fsum(step.values()) / len(step))
                 for step in self._steps if ticker in step]  # fmt: skip
        if len(pairs) < self.least:
            return None, None
        square = fsum(own * own for own, _ in pairs)
        volatility = sqrt(square / len(pairs) * _HOUR_NS / self.step_ns)
        common = fsum(all_ * all_ for _, all_ in pairs)
        return volatility, fsum(own * all_ for own, all_ in pairs) / common if common else None


# === Watch ===

_KEEP_ABOVE: Final = 0.1


class Watch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account's risk at one moment, as of frame `seq`.

    `trouble` says why the account itself is not known for certain, or nothing. `leverage` advises
    each held market on its own, at its volatility and open interest.
    """

    seq: int
    at: int
    trouble: str
    figures: RiskFigures
    stress: StressTable
    plan: FlightPlan
    leverage: tuple[LeverageAdvice, ...] = ()


class Watcher:
    """Looks at one account again and again; `keep_above` is what leverage advice keeps clear."""

    def __init__(self, returns: Returns | None = None, keep_above: float = _KEEP_ABOVE) -> None:
        self.returns = returns or Returns()
        self.keep_above = keep_above
        self._held: dict[str, Holding] = {}
        self._table = stress_table(0, ())

    def look(
        self, view: MarketView, collateral: int, sizes: Mapping[str, int | None],
        views: Mapping[str, MarketView], plan: FlightPlan, trouble: str = "",
    ) -> Watch:  # fmt: skip
        """Look at the account as it is when `view` has come.

        `sizes` are signed quantums by ticker, None where the market's grid is not known.
        """
        held: dict[str, Holding] = {}
        lacking: list[str] = []
        for ticker, quantums in sizes.items():
            seen = views.get(ticker)
            if seen is None or seen.market is None:
                lacking.append(f"{ticker}: the market is not known")
            elif quantums is None:
                lacking.append(f"{ticker}: its size is not known")
            else:
                held[ticker] = self.holding(seen, seen.market, quantums)
        figures = risk_figures(collateral, held.values())
        if lacking:
            figures = RiskFigures(positions=figures.positions, unknown=(*lacking, *figures.unknown))
        return Watch(
            seq=view.seq,
            at=view.at,
            trouble=trouble,
            figures=figures,
            stress=self._shaken(held, collateral, lacking),
            plan=plan,
            leverage=tuple(suggest_leverage(h, keep_above=self.keep_above) for h in held.values()),
        )

    def holding(self, view: MarketView, market: PerpetualMarket, quantums: int) -> Holding:
        """Return a market as an account stands in it, with all that is known of it."""
        oracle, ticker = view.oracle, view.ticker
        return Holding(
            market=market,
            quantums=quantums,
            price=None if oracle is None else oracle.digits,
            exponent=0 if oracle is None else oracle.exponent,
            open_interest=view.open_interest,
            funding_8h_ppm=_rate(view),
            volatility_1h=self.returns.volatility_1h(ticker),
            beta=self.returns.beta(ticker),
        )

    def _shaken(
        self, held: dict[str, Holding], collateral: int, lacking: Iterable[str]
    ) -> StressTable:
        table, old = self._table, self._held
        for ticker in old.keys() - held.keys():
            table = table.changed(msgspec.structs.replace(old[ticker], quantums=0))
        for ticker, holding in held.items():
            if holding != old.get(ticker):
                table = table.changed(holding)
        self._held, self._table = held, table.settled(collateral, lacking)
        return self._table


def _rate(view: MarketView) -> int | None:
    return funding_rate_8h_ppm(view.funding.next_rate_text) if view.funding.known else None
