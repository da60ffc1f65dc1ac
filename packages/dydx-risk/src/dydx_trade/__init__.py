"""What one order would make of an account: so many steps, at no worse a price, and what is left.

    view, market, signed size ──► ioc ──► Trade ──► after ──► MarginFigures
                                           └──────► walked_quote, slippage_bps

A `Trade` is an immediate-or-cancel order that could be sent, not yet one that may be. It is
reckoned at its worst price, or at what the book shows; what the book does not show costs the
worst. The three `*_text` functions are how figures are worded all over this distribution.

Units: sizes are quantums, money is quote quantums (1e-6 USDC), prices subticks, fees parts per
million; slippage is in basis points, a float. Nothing here decides, remembers or reads a clock.
Sources: v4-chain x/clob/keeper/process_single_match.go, x/subaccounts/lib.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from math import floor, inf, isnan
from typing import Final

import msgspec
from dydx_conn import ConnError, PerpetualMarket, Side, exact
from dydx_data import Level, MarketView
from dydx_margin import MarginFigures, exchanged, mul_ppm, position_margin

__all__ = [
    "MOST_SUBTICKS", "Trade", "amount_text", "ioc", "on_grid", "percent_text", "slipped",
    "usdc_text", "worst_subticks",
]  # fmt: skip

MOST_SUBTICKS: Final = 2**64 - 1  # an order's size and price are unsigned 64-bit numbers

# === Words ===


def usdc_text(quote_quantums: int) -> str:
    """Word money in USDC, to the cent."""
    return f"{Decimal(quote_quantums).scaleb(-6):,.2f}"


def amount_text(number: Decimal) -> str:
    """Word a size or a price, with all digits that it has."""
    return f"{number.normalize():,f}"


def percent_text(distance: float | None) -> str:
    """Word a distance, rounded down, so that what is below a limit also reads as below it."""
    if distance is None or isnan(distance):
        return "unknown"
    return f"{floor(min(max(distance, -99), 99) * 1e3) / 10} %"


# === Trades ===


class Trade(msgspec.Struct, frozen=True, gc=False):
    """An IOC that could be sent: `size` is unsigned and on the grid, `subticks` the worst price."""

    market: PerpetualMarket
    view: MarketView
    side: Side
    size: int
    subticks: int

    @property
    def delta(self) -> int:
        """Return the signed change of the position."""
        return self.size if self.side == "BUY" else -self.size

    @property
    def worst_quote(self) -> int:
        """Return what it trades for at its worst price."""
        return self.market.quote_quantums(self.size, self.subticks)

    @property
    def words(self) -> str:
        """Say what it does."""
        bound = "<=" if self.side == "BUY" else ">="
        size = amount_text(self.market.size(self.size))
        price = amount_text(self.market.price(self.subticks))
        return f"{self.side.lower()} {size} {self.market.ticker} at {bound} {price}"

    @property
    def walked_quote(self) -> int:
        """Return what it trades for on the book shown, the rest of it at its worst price."""
        market, buys, left, quote = self.market, self.side == "BUY", self.size, 0
        levels = self.view.book.asks(50) if buys else self.view.book.bids(50)
        for subticks, shown in on_grid(market, levels):
            if not left or (subticks > self.subticks if buys else subticks < self.subticks):
                break
            taken = min(left, shown)
            quote += market.quote_quantums(taken, subticks)
            left -= taken
        return quote + market.quote_quantums(left, self.subticks)

    @property
    def slippage_bps(self) -> float:
        """Return how much worse than mid it trades on the book shown; inf without two sides."""
        mid, quote = self.view.book.mid_price, self.walked_quote
        if mid is None:
            return inf
        fair = float(self.market.size(self.size)) * mid * 1e6
        return 1e4 * (quote - fair if self.side == "BUY" else fair - quote) / fair

    def after(self, margin: MarginFigures, held: int, quote: int, fee_ppm: int) -> MarginFigures:
        """Return an account's margin once it has traded for `quote`, its fee paid.

        `held` is the signed position that it finds. Without an oracle price only the cash counts.
        """
        view, market, cash = self.view, self.market, quote if self.side == "SELL" else -quote
        cash -= mul_ppm(quote, fee_ppm, round_up=True)
        oracle, interest = view.oracle, view.open_interest
        if oracle is not None:
            price = oracle.digits, oracle.exponent
            old = position_margin(market, held, *price, interest)
            # The match itself may raise the open interest, and with it the fraction.
            interest = None if interest is None else interest + self.size
            new = position_margin(market, held + self.delta, *price, interest)
            margin = exchanged(margin, old, new)
        return msgspec.structs.replace(margin, net_collateral=margin.net_collateral + cash)


def ioc(view: MarketView, market: PerpetualMarket, delta: int, bps: int) -> Trade | None:
    """Make an IOC of a signed size, rounded toward less, at most `bps` beyond the best price.

    It names one tick at least. Without a book the oracle price stands in for the best; None
    without either, and where no order can name the price.
    """
    side: Side = "BUY" if delta > 0 else "SELL"
    level = view.book.best_ask if delta > 0 else view.book.best_bid
    shown = [level.price_text] if view.book.known and level is not None else []
    for text in [*shown, view.oracle.text] if view.oracle is not None else shown:
        try:
            worst = worst_subticks(market, *exact(text), bps, delta > 0)
        except ConnError:
            continue
        if worst > MOST_SUBTICKS - market.subticks_per_tick:
            continue  # a price that no order can name: it was cut to one
        size = abs(delta) - abs(delta) % market.step_base_quantums
        return Trade(market, view, side, size, worst)
    return None


def on_grid(market: PerpetualMarket, levels: Iterable[Level]) -> Iterator[tuple[int, int]]:
    """Yield the subticks and quantums of levels; not of those at which no order can trade."""
    # From floats, which hold a level of any real market exactly: from text it would take longer
    # than all that is made of it.
    tick, step = market.subticks_per_tick, market.step_base_quantums
    per_price = 10.0 ** (market.atomic_resolution - market.quantum_conversion_exponent + 6) / tick
    per_size = 10.0**-market.atomic_resolution
    for level in levels:
        try:
            subticks = round(level.price * per_price) * tick
            quantums = round(level.size * per_size) // step * step
        except OverflowError:
            continue
        if 0 < subticks <= MOST_SUBTICKS and quantums:
            yield subticks, quantums


def worst_subticks(market: PerpetualMarket, price: int, exponent: int, bps: int, buys: bool) -> int:
    """Return the worst price within `bps` of a price in USDC, as `slipped` rounds it."""
    power = exponent - market.quantum_conversion_exponent + market.atomic_resolution + 6
    return slipped(market, price * 10 ** max(power, 0), bps, buys, 10 ** max(-power, 0))


def slipped(market: PerpetualMarket, price: int, bps: int, buys: bool, over: int = 1) -> int:
    """Return what is `bps` worse than `price / over` subticks, to the tick, toward the better.

    What an order can name: at least one tick, and within 64 bits.
    """
    tick, unit = market.subticks_per_tick, 10_000 * over
    limit = price * (10_000 + bps if buys else 10_000 - bps)
    ticks = limit // (unit * tick) if buys else -(-limit // (unit * tick))
    return min(max(ticks, 1), MOST_SUBTICKS // tick) * tick
