"""Margin, liquidation and funding exactly as the chain computes them, as plain functions.

    position, oracle price ──► position_margin ──► total_margin ──► MarginFigures
    figures in breach ──► liquidation_size, fillable_price, bankruptcy_price ──► what it costs

Nothing here remembers anything: whoever holds an account, the risk layer, the paper venue or a
script of ten lines, calls these with the figures it has.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC), an
oracle price is an integer and its power of ten, fractions are parts per million. Floats appear
only as distances (0.06 is six per cent) and never in money.
Sources: v4-chain protocol/lib/margin, x/perpetuals/lib, x/subaccounts/lib, x/clob/keeper.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import inf
from typing import Final, Literal

import msgspec
from dydx_conn import PerpetualMarket, base_to_quote, quote_to_base

__all__ = [
    "PPM", "LiquidationError", "LiquidationTerms", "MarginFigures", "PositionMargin", "RiskError",
    "StateChange", "adjusted_imf_ppm", "bankruptcy_price", "check_closing", "compare_risk",
    "exact_subticks", "fillable_price", "fillable_subticks", "funding_index_delta",
    "funding_settlement", "funding_settlement_ppm", "insurance_fund_delta", "is_liquidatable",
    "liquidation_limits", "liquidation_ratio", "liquidation_size", "maintenance_margin_ppm",
    "mixes_isolated", "mul_ppm", "position_margin", "state_change", "total_margin",
]  # fmt: skip

PPM: Final = 1_000_000

# === Errors ===


class RiskError(Exception):
    """Anything this layer refuses as a bug of the caller; expected refusals are `Denied`."""


class LiquidationError(RiskError):
    """A liquidation that would not close: its size is zero, adds, or exceeds the position."""


# === Margin ===

_POWERS = tuple(10**exponent for exponent in range(200))

StateChange = Literal["Success", "NewlyUndercollateralized", "StillUndercollateralized"]


class PositionMargin(msgspec.Struct, frozen=True, gc=False):
    """What one position adds to its account; `net_notional` is negative for a short."""

    net_notional: int = 0
    initial_margin: int = 0
    maintenance_margin: int = 0


class MarginFigures(msgspec.Struct, frozen=True, gc=False):
    """The margin of an account, over every position whose oracle price is known.

    `unknown` names the others: if it names any, the sums are not the account's. `notional`
    is gross. `sensitivity` is what the cushion (net collateral less maintenance margin) would
    lose if every oracle price moved against its position by 100 %.
    """

    net_collateral: int
    initial_margin: int = 0
    maintenance_margin: int = 0
    notional: int = 0
    sensitivity: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Tell whether every position could be valued."""
        return not self.unknown

    @property
    def free_collateral(self) -> int:
        """Return what is left above the initial margin; negative if it is lacking."""
        return self.net_collateral - self.initial_margin

    @property
    def cushion(self) -> int:
        """Return what is left above the maintenance margin; negative if liquidatable."""
        return self.net_collateral - self.maintenance_margin

    @property
    def leverage(self) -> float | None:
        """Return gross notional over net collateral; None unless that is positive and known."""
        if self.unknown or self.net_collateral <= 0:
            return None
        return self.notional / self.net_collateral

    @property
    def usage(self) -> float | None:
        """Return initial margin over net collateral; None unless that is positive and known."""
        if self.unknown or self.net_collateral <= 0:
            return None
        return self.initial_margin / self.net_collateral

    @property
    def distance(self) -> float | None:
        """Return the adverse move of all oracle prices at once that breaches maintenance.

        Negative if breached; None without a position, and None if anything is `unknown`.
        """
        if self.unknown or not self.notional:
            return None
        if self.sensitivity <= 0:  # maintenance of 100 %: no price can help or hurt
            return inf if self.cushion >= 0 else -inf
        return self.cushion / self.sensitivity


def position_margin(
    market: PerpetualMarket,
    quantums: int,
    price: int,
    exponent: int,
    open_interest: int | None = 0,
    chosen_imf_ppm: int = 0,
) -> PositionMargin:
    """Value one position at an oracle price and compute its margin requirements.

    `open_interest` is in base quantums; None is unknown and, in a market that scales by it,
    counts as the most. It and the chosen leverage raise the initial margin alone.
    Source: x/perpetuals/lib/lib.go.
    """
    shift = exponent + market.atomic_resolution + 6
    # Written out, not composed: this is the hot path, and a test holds it to its parts.
    unit, scale = (price * _POWERS[shift], 1) if shift >= 0 else (price, _POWERS[-shift])
    notional = (quantums if quantums >= 0 else -quantums) * unit // scale
    imf, upper = market.imf_ppm, market.open_interest_upper_cap
    base = initial = -(-notional * imf // PPM)
    if upper:
        interest = PPM * upper if open_interest is None else open_interest * unit // scale
        if interest > market.open_interest_lower_cap:
            imf = adjusted_imf_ppm(imf, market.open_interest_lower_cap, upper, interest)
    if chosen_imf_ppm > imf:
        imf = chosen_imf_ppm
    if imf != market.imf_ppm:
        initial = -(-notional * imf // PPM)
    maintenance = -(-base * market.maintenance_fraction_ppm // PPM)
    return PositionMargin(notional if quantums >= 0 else -notional, initial, maintenance)


def adjusted_imf_ppm(imf_ppm: int, lower_cap: int, upper_cap: int, open_interest: int) -> int:
    """Scale the initial margin fraction by open interest; all but the fraction quote quantums."""
    if not upper_cap or open_interest <= lower_cap:
        return imf_ppm
    if open_interest >= upper_cap:
        return PPM
    return imf_ppm + (PPM - imf_ppm) * (open_interest - lower_cap) // (upper_cap - lower_cap)


def maintenance_margin_ppm(imf_ppm: int, maintenance_fraction_ppm: int) -> int:
    """Return the maintenance fraction of a tier; the chain uses it to clamp funding alone."""
    return mul_ppm(imf_ppm, maintenance_fraction_ppm, round_up=False)


def mul_ppm(value: int, ppm: int, *, round_up: bool) -> int:
    """Multiply by parts per million, rounding toward plus or minus infinity."""
    return -(-value * ppm // PPM) if round_up else value * ppm // PPM


def total_margin(
    collateral: int, positions: Iterable[PositionMargin], unknown: Iterable[str] = ()
) -> MarginFigures:
    """Sum an account up: its settled USDC, which may be negative, and its positions."""
    net, initial, maintenance, notional, sensitivity = collateral, 0, 0, 0, 0
    for position in positions:
        value, required = position.net_notional, position.maintenance_margin
        net += value
        initial += position.initial_margin
        maintenance += required
        notional += abs(value)
        # Maintenance shrinks with a long's falling price and grows with a short's rising one.
        sensitivity += value - required if value >= 0 else required - value
    return MarginFigures(net, initial, maintenance, notional, sensitivity, tuple(unknown))


def is_liquidatable(net_collateral: int, maintenance_margin: int) -> bool:
    """Tell whether the chain may liquidate: equal is safe, and so is having no positions."""
    return maintenance_margin > 0 and maintenance_margin > net_collateral


def state_change(before: MarginFigures, after: MarginFigures) -> StateChange:
    """Judge a change as the chain does: well collateralised after, or at least not riskier.

    Source: x/subaccounts/lib, IsValidStateTransitionForUndercollateralizedSubaccount.
    """
    old, new = before.maintenance_margin, after.maintenance_margin
    if old and new:
        better = new <= old and compare_risk(after, before) <= 0
    else:
        better = old == new and after.net_collateral > before.net_collateral
    if better or after.net_collateral >= after.initial_margin:
        return "Success"
    poor = before.net_collateral < before.initial_margin
    return "StillUndercollateralized" if poor else "NewlyUndercollateralized"


def compare_risk(first: MarginFigures, second: MarginFigures) -> int:
    """Return -1 if the first is less risky, 1 if more: by NC / MMR, then by MMR, then by NC."""
    nc, mmr = first.net_collateral, first.maintenance_margin
    left = nc * second.maintenance_margin, -mmr, nc
    right = second.net_collateral * mmr, -second.maintenance_margin, second.net_collateral
    return (left < right) - (left > right)


def mixes_isolated(markets: Iterable[PerpetualMarket]) -> bool:
    """Tell whether these markets, held by one subaccount, would break the isolated rule."""
    held = list(markets)
    return len(held) > 1 and any(market.market_type == "ISOLATED" for market in held)


# === Liquidation ===
# What the chain does to an account in breach, and the price at which it comes to that.


class LiquidationTerms(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The chain's liquidation settings; governance may change them: read them at start-up."""

    bankruptcy_adjustment_ppm: int = 1_000_000
    spread_to_maintenance_margin_ratio_ppm: int = 1_500_000
    max_liquidation_fee_ppm: int = 15_000
    min_position_notional: int = 1_000_000_000
    max_position_portion_ppm: int = 100_000
    max_subaccount_notional: int = 100_000_000_000


def liquidation_ratio(
    size: int, value: int, equity: int, other_maintenance: int, maintenance_e12: int
) -> tuple[int, int] | None:
    """Return the liquidation price as numerator and denominator, in `value` per `size`.

    Others' prices stay as they are. `value` is the signed notional, `maintenance_e12` the
    maintenance fraction in parts per 1e12 (`imf_ppm * maintenance_fraction_ppm`). None where no
    price liquidates: nothing held, or the result is negative. Equity is not floored at zero.
    """
    numerator = (other_maintenance + value - equity) * 1_000_000_000_000
    denominator = size * 1_000_000_000_000 - (size if size >= 0 else -size) * maintenance_e12
    if not denominator or (numerator and (numerator < 0) != (denominator < 0)):
        return None
    return numerator, denominator


def bankruptcy_price(totals: MarginFigures, before: PositionMargin, after: PositionMargin) -> int:
    """Return the quote quantums received for closing at which the account keeps its share.

    `before` and `after` are the position's own terms. Negative is paid, for a short.
    Source: x/clob/keeper/liquidations.go, GetBankruptcyPriceInQuoteQuantums.
    """
    released = abs(after.maintenance_margin - before.maintenance_margin)
    share = totals.net_collateral * released // totals.maintenance_margin
    return before.net_notional - after.net_notional - share


def fillable_price(
    totals: MarginFigures, position: PositionMargin, quantums: int, terms: LiquidationTerms
) -> Fraction:
    """Return the worst price of a liquidation, exact, in quote quantums per base quantum."""
    lost = 1 - Fraction(totals.net_collateral, totals.maintenance_margin)
    share = min(max(lost * terms.bankruptcy_adjustment_ppm / PPM, Fraction(0)), Fraction(1))
    spread = Fraction(terms.spread_to_maintenance_margin_ratio_ppm, PPM)
    return (position.net_notional - share * spread * position.maintenance_margin) / quantums


def fillable_subticks(
    price: Fraction, *, is_long: bool, quantum_conversion_exponent: int, subticks_per_tick: int
) -> int:
    """Align a fillable price to the ticks: up for closing a long, down for a short, never 0."""
    ticks = exact_subticks(price, quantum_conversion_exponent) / subticks_per_tick
    aligned = -(-ticks.numerator // ticks.denominator) if is_long else int(ticks // 1)
    highest = (2**64 - 1) // subticks_per_tick
    return min(max(aligned, 1), highest) * subticks_per_tick


def exact_subticks(price: Fraction, quantum_conversion_exponent: int) -> Fraction:
    """Turn quote quantums per base quantum into subticks, without rounding."""
    return price / Fraction(10) ** quantum_conversion_exponent


def check_closing(quantums: int, delta: int) -> None:
    """Raise `LiquidationError` unless `delta` closes some or all of a position of `quantums`."""
    if not delta or (delta > 0) == (quantums > 0) or abs(delta) > abs(quantums):
        raise LiquidationError(f"expected to close up to {-quantums} quantums, got {delta}")


def liquidation_limits(notional: int, terms: LiquidationTerms) -> tuple[int, int]:
    """Return the least and the most notional that one liquidation of a position may take."""
    least = min(terms.min_position_notional, notional)
    most = mul_ppm(notional, terms.max_position_portion_ppm, round_up=False)
    return least, max(least, most)


def liquidation_size(
    market: PerpetualMarket, quantums: int, price: int, exponent: int, terms: LiquidationTerms
) -> int:
    """Return the signed quantums that one liquidation trades: part of the position, or all.

    `terms.max_subaccount_notional` is what this block still allows the subaccount.
    """
    size = abs(quantums)
    notional = abs(position_margin(market, quantums, price, exponent).net_notional)
    allowed = min(liquidation_limits(notional, terms)[1], terms.max_subaccount_notional)
    step = market.step_base_quantums
    if allowed < notional and size > step:
        base = quote_to_base(allowed, price, exponent, market.atomic_resolution)
        size = min(max(base // step * step, step), size)
    return -size if quantums > 0 else size


def insurance_fund_delta(
    bankruptcy_quote: int, fill_quote: int, max_liquidation_fee_ppm: int
) -> int:
    """Return what a liquidation pays to the insurance fund; negative if the fund pays it.

    Both quotes are signed as received by the account: negative when it buys.
    """
    surplus = fill_quote - bankruptcy_quote
    if surplus <= 0:
        return surplus
    return min(surplus, mul_ppm(abs(fill_quote), max_liquidation_fee_ppm, round_up=False))


# === Funding ===


def funding_index_delta(
    rate_8h_ppm: int, seconds: int, price: int, exponent: int, atomic_resolution: int
) -> int:
    """Return how far a funding rate moves the index: ppm quote quantums per base quantum.

    Truncated toward zero twice, as the chain does. Source: x/perpetuals/funding/funding.go.
    """
    scaled = base_to_quote(rate_8h_ppm * seconds, price, exponent, atomic_resolution)
    return scaled // 28_800 if scaled >= 0 else -(-scaled // 28_800)


def funding_settlement_ppm(quantums: int, index_now: int, index_position: int) -> int:
    """Return what a position is credited, in 1e-6 quote quantums: longs pay a rising index."""
    return -(index_now - index_position) * quantums


def funding_settlement(settlements_ppm: Iterable[int]) -> int:
    """Return what an account is credited in quote quantums: one floor for all positions."""
    return sum(settlements_ppm) // PPM
