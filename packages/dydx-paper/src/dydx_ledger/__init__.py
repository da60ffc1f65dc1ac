"""One subaccount's money, settled as the chain settles it, and what became of it.

    fills, funding, deposits ──► Ledger ──► collateral, holdings, margin, profit

Every payment has two ends: what leaves the balance is found again in one of the ledger's sums.

Units: money is quote quantums (1e-6 USDC), sizes are signed quantums, positive for long; fees
are rounded up and fills truncated, as the chain does.
Sources: v4-chain x/subaccounts, x/clob/keeper/process_single_match.go; indexer ender.
"""

from collections.abc import Mapping
from typing import Final

import dydx_margin as margin
import msgspec
from dydx_conn import PerpetualMarket, Subaccount, event_id

__all__ = ["NEVER", "Holding", "Ledger", "Stamp"]

# === Values ===


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """When something happened: the frame that caused it, its time, the chain's, its block."""

    seq: int = 0
    at: int = 0
    time_ns: int = 0
    height: int = 0


NEVER: Final = Stamp()


# === Ledger ===


class Holding(msgspec.Struct, gc=False, kw_only=True):
    """One position from its opening to its end, with the indexer's averages.

    Costs are sums of quantums times subticks, so that every average is exact.
    """

    market: PerpetualMarket
    id: str
    is_long: bool
    quantums: int = 0
    peak: int = 0
    opened: int = 0
    open_cost: int = 0
    closed: int = 0
    close_cost: int = 0
    funding_index: int = 0
    net_funding: int = 0
    status: str = "OPEN"
    created: Stamp = NEVER
    ended: Stamp | None = None

    @property
    def realized(self) -> int:
        """Return the profit of what was closed, with funding, without fees: quote quantums."""
        return self.gain_of(self.closed, self.close_cost) + self.net_funding

    def unrealized(self, net_notional: int) -> int:
        """Return the profit of what is open at its present value, in quote quantums."""
        return net_notional - self._per_opened(self.quantums * self.open_cost)

    def gain_of(self, quantums: int, cost: int) -> int:
        """Return what closing `quantums` for `cost` earns over the average entry."""
        gain = cost * self.opened - self.open_cost * quantums
        return self._per_opened(gain if self.is_long else -gain)

    def _per_opened(self, numerator: int) -> int:
        exponent = self.market.quantum_conversion_exponent
        up, down = (int(10 ** max(0, power)) for power in (exponent, -exponent))
        return numerator * up // (self.opened * down)


class Ledger:
    """One subaccount's money, settled as the chain settles it.

    `collateral` is the USDC balance in quote quantums. Every payment has its other end in
    `paid_for_fills`, `fees_paid`, `funding_paid` or `insurance_paid`: taken from `deposits`
    they always leave the balance. `indices` are the funding indices settled last,
    `oracles` price, exponent and open interest by ticker.
    """

    def __init__(self, subaccount: Subaccount, deposit: int = 0):
        self.subaccount = subaccount
        self.collateral = self.deposits = deposit
        self.holdings: dict[str, Holding] = {}
        self.indices: dict[str, int] = {}
        self.paid_for_fills = self.fees_paid = self.funding_paid = self.insurance_paid = 0
        self.fills = self.liquidations = self.wins = self.losses = 0
        self._realized = self._opened = 0
        self.oracles: dict[str, tuple[int, int, int | None]] = {}
        self._parts: dict[str, margin.PositionMargin] = {}
        self._margin: margin.MarginFigures | None = None

    def deposit(self, quote_quantums: int) -> None:
        """Bring collateral in, or take it out (negative)."""
        self.deposits += quote_quantums
        self.collateral += quote_quantums
        self._margin = None

    def fill(
        self, market: PerpetualMarket, quantums: int, subticks: int, fee: int = 0,
        insurance: int = 0, when: Stamp = NEVER, *, quote: int | None = None,
    ) -> list[Holding]:  # fmt: skip
        """Buy (positive) or sell at a price; return the positions touched, the ended first.

        `quote` (unsigned quote quantums) overrules the price, as deleveraging does.
        """
        size, cost = abs(quantums), abs(quantums) * subticks
        paid = market.quote_quantums(size, subticks) if quote is None else quote
        paid = paid if quantums > 0 else -paid
        self.fills += 1
        self.paid_for_fills += paid
        self.fees_paid += fee
        self.insurance_paid += insurance
        self.collateral -= paid + fee + insurance
        touched: list[Holding] = []
        holding = self.holdings.get(market.ticker)
        if holding is not None and holding.is_long != (quantums > 0):
            closing = min(size, abs(holding.quantums))
            share = cost * closing // size
            self._close(holding, closing, share, when)
            touched.append(holding)
            size, cost = size - closing, cost - share
        if size:
            touched.append(self._open(market, size if quantums > 0 else -size, cost, when))
        self._revalue(market.ticker)
        return touched

    def value(self, ticker: str, price: int, exponent: int, interest: int | None = None) -> None:
        """Take in a market's oracle price (an integer and its power of ten) and open interest."""
        self.oracles[ticker] = (price, exponent, interest)
        if ticker in self.holdings:
            self._revalue(ticker)

    def position(self, ticker: str) -> int:
        """Return the signed quantums held."""
        holding = self.holdings.get(ticker)
        return 0 if holding is None else holding.quantums

    def part(self, ticker: str) -> margin.PositionMargin:
        """Return what one position adds to the account; nothing if it has no value yet."""
        return self._parts.get(ticker) or margin.PositionMargin()

    def margin_of(self, market: PerpetualMarket, quantums: int) -> margin.PositionMargin:
        """Return the margin of a size of a market at its latest oracle price."""
        return margin.position_margin(market, quantums, *self.oracles[market.ticker])

    @property
    def margin(self) -> margin.MarginFigures:
        """Return the account's margin at the latest oracle prices."""
        if self._margin is None:
            unknown = sorted(self.holdings.keys() - self._parts.keys())
            self._margin = margin.total_margin(self.collateral, self._parts.values(), unknown)
        return self._margin

    @property
    def breached(self) -> bool:
        """Tell whether the chain may liquidate; never while a position has no price."""
        sums = self.margin
        return sums.known and margin.is_liquidatable(sums.net_collateral, sums.maintenance_margin)

    @property
    def equity(self) -> int | None:
        """Return what the account is worth, if every position has a price."""
        return self.margin.net_collateral if self.margin.known else None

    @property
    def realized_pnl(self) -> int:
        """Return the profit of all that was ever closed, with funding, without fees."""
        return self._realized + sum(holding.realized for holding in self.holdings.values())

    @property
    def unrealized_pnl(self) -> int:
        """Return the profit of what is open, at the latest oracle prices."""
        held = self.holdings
        return sum(held[t].unrealized(part.net_notional) for t, part in self._parts.items())

    def affords(self, market: PerpetualMarket, quantums: int, subticks: int, fee: int) -> bool:
        """Tell whether the chain would let this fill happen to the account."""
        before, ticker = self.margin, market.ticker
        if not before.known or ticker not in self.oracles:
            return False
        quote = market.quote_quantums(abs(quantums), subticks)
        paid = (quote if quantums > 0 else -quote) + fee
        part = self.margin_of(market, self.position(ticker) + quantums)
        after = margin.total_margin(self.collateral - paid, (self._parts | {ticker: part}).values())
        return margin.state_change(before, after) == "Success"

    def bankruptcy(self, market: PerpetualMarket, quantums: int) -> int:
        """Return the quote received, at the bankruptcy price, for closing by signed `quantums`."""
        rest = self.margin_of(market, self.position(market.ticker) + quantums)
        return margin.bankruptcy_price(self.margin, self.part(market.ticker), rest)

    def settle_funding(self, indices: Mapping[str, int]) -> list[Holding]:
        """Settle what the funding indices moved; one floor for the account, as the chain."""
        self.indices.update(indices)
        credits: list[int] = []
        touched: list[Holding] = []
        for ticker, holding in self.holdings.items():
            index, since = self.indices.get(ticker, 0), holding.funding_index
            if index != since:
                credits.append(margin.funding_settlement_ppm(holding.quantums, index, since))
                holding.funding_index = index
                holding.net_funding += credits[-1] // margin.PPM
                touched.append(holding)
        credited = margin.funding_settlement(credits)
        self.collateral += credited
        self.funding_paid -= credited
        self._margin = None
        return touched

    def _open(self, market: PerpetualMarket, quantums: int, cost: int, when: Stamp) -> Holding:
        ticker = market.ticker
        holding = self.holdings.get(ticker)
        if holding is None:
            self._opened += 1
            id_ = event_id("position", self.subaccount, ticker, self._opened)
            holding = Holding(market=market, id=id_, is_long=quantums > 0, created=when)
            holding.funding_index = self.indices.get(ticker, 0)
            self.holdings[ticker] = holding
        holding.opened += abs(quantums)
        holding.open_cost += cost
        holding.quantums += quantums
        holding.peak = max(holding.peak, holding.quantums, key=abs)
        return holding

    def _close(self, holding: Holding, size: int, cost: int, when: Stamp) -> None:
        gain = holding.gain_of(size, cost)
        self.wins += gain > 0
        self.losses += gain < 0
        holding.closed += size
        holding.close_cost += cost
        holding.quantums -= size if holding.is_long else -size
        if not holding.quantums:
            holding.status, holding.ended = "CLOSED", when
            self._realized += holding.realized
            del self.holdings[holding.market.ticker]

    def _revalue(self, ticker: str) -> None:
        holding, self._margin = self.holdings.get(ticker), None
        if holding is not None and ticker in self.oracles:
            self._parts[ticker] = self.margin_of(holding.market, holding.quantums)
        else:
            self._parts.pop(ticker, None)
