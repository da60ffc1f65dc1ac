"""Margin, liquidation and funding, as the chain computes them.

    position, oracle price ──► position_margin ──► total_margin ──► MarginFigures
    figures before, after ──► check_update ──► UpdateResult: would the chain take the change
    figures in breach ──► liquidation_size, fillable_price, bankruptcy_price ──► what it costs
    book ──► premium_vote ──► premium_sample ──► funding_rate ──► funding_index_delta ──► payment

Whoever holds an account, the risk layer, the paper venue or a script of ten lines, calls these
with the figures it has. What cannot be computed raises `MarginError`, and what is no liquidation
`LiquidationError`, with what was expected and what it was: no figure is silently zero.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC), an
oracle price is an integer and its power of ten, fractions are parts per million. Prices that
fall between subticks or quantums are exact fractions. Floats appear only as ratios (a distance
of 0.06 is six per cent) and never in money.
Nothing here remembers anything, reads a clock, does I/O or subscribes.
Sources: v4-chain protocol/lib/margin, x/perpetuals, x/subaccounts, x/clob; for
`indexer_next_rate` alone, indexer next-funding-cache.ts.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import inf
from typing import Final, Literal

import msgspec
from dydx_conn import PerpetualMarket, base_to_quote, fill_to_quote, quote_to_base

__all__ = [
    "PPM", "FundingTerms", "LiquidationError", "LiquidationTerms", "MarginError", "MarginFigures",
    "PositionMargin", "RiskError", "StateChange", "UpdateResult", "adjusted_imf_ppm",
    "bankruptcy_price", "check_closing", "check_update", "chosen_imf_ppm", "compare_risk",
    "exact_subticks", "exchanged", "fillable_price", "fillable_subticks", "funding_clamp_ppm",
    "funding_index_delta", "funding_payment", "funding_rate", "funding_settlement",
    "funding_settlement_ppm", "impact_subticks", "indexer_next_rate", "insurance_fund_delta",
    "is_liquidatable", "liquidation_limits", "liquidation_ratio", "liquidation_size",
    "maintenance_margin_ppm", "mixes_isolated", "mul_ppm", "oracle_subticks", "position_margin",
    "premium_sample", "premium_vote", "remove_tails", "state_change", "total_margin",
]  # fmt: skip

PPM: Final = 1_000_000

# === Errors ===


class RiskError(Exception):
    """Anything this layer refuses as a bug of the caller; expected refusals are `Denied`."""


class MarginError(RiskError):
    """Figures that no margin or funding follows from; `expected` and `was` are in words."""

    def __init__(self, expected: str, was: object) -> None:
        super().__init__(expected, was)
        self.expected = expected
        self.was = _said(was)

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.was}"


class LiquidationError(RiskError):
    """A liquidation that would not close: its size is zero, adds, or exceeds the position."""


def _said(value: object) -> str:
    # Python refuses to write integers of more than some thousand digits.
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return str(value)


# === Margin ===

_POWERS = tuple(10**exponent for exponent in range(200))

# No account of the chain comes near: sizes and prices are 64 bits wide there.
_MOST = 10**60

StateChange = Literal["Success", "NewlyUndercollateralized", "StillUndercollateralized"]
UpdateResult = StateChange | Literal["ViolatesIsolatedSubaccountConstraints"]


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
    `MarginError` without a price and beyond all size.
    Source: x/perpetuals/lib/lib.go.
    """
    shift = exponent + market.atomic_resolution + 6
    # Written out, not composed: this is the hot path, and a test holds it to its parts.
    try:
        if shift < 0:
            unit, scale = price, _POWERS[-shift]
        else:
            unit, scale = price * _POWERS[shift], 1
    except IndexError:
        raise MarginError(
            f"{market.ticker}: an exponent within ±{len(_POWERS)}", exponent
        ) from None
    notional = (quantums if quantums >= 0 else -quantums) * unit // scale
    tier = imf = market.imf_ppm
    upper = market.open_interest_upper_cap
    base = initial = -(-notional * imf // PPM)
    if not 0 < base < _MOST:
        _examine(market, price, base)
    if upper:
        interest = PPM * upper if open_interest is None else open_interest * unit // scale
        if interest > market.open_interest_lower_cap:
            imf = adjusted_imf_ppm(imf, market.open_interest_lower_cap, upper, interest)
        elif interest < 0:
            raise MarginError(f"{market.ticker}: open interest of 0 or more", open_interest)
    if chosen_imf_ppm > imf:
        imf = chosen_imf_ppm
    if imf != tier:
        initial = -(-notional * imf // PPM)
    maintenance = -(-base * market.maintenance_fraction_ppm // PPM)
    return PositionMargin(notional if quantums >= 0 else -notional, initial, maintenance)


def _examine(market: PerpetualMarket, price: int, base: int) -> None:
    # One comparison leads here: the margin is nothing, less, or beyond all size. Nothing is
    # right where there is nothing to value, and in a tier that asks for nothing.
    if price <= 0:
        raise MarginError(f"{market.ticker}: an oracle price above 0", price)
    if base:
        raise MarginError(f"{market.ticker}: a margin from 0 to 10^60 quote quantums", base)


def adjusted_imf_ppm(imf_ppm: int, lower_cap: int, upper_cap: int, open_interest: int) -> int:
    """Scale the initial margin fraction by open interest; all but the fraction quote quantums."""
    if not upper_cap or open_interest <= lower_cap:
        return imf_ppm
    if open_interest >= upper_cap:
        return PPM
    return imf_ppm + (PPM - imf_ppm) * (open_interest - lower_cap) // (upper_cap - lower_cap)


def chosen_imf_ppm(market: PerpetualMarket, leverage: Fraction | int) -> int:
    """Return the initial margin fraction that a chosen leverage sets, rounded to less risk.

    `MarginError` outside what the chain accepts: from 1 to what the tier allows.
    Source: MsgUpdateLeverage, x/clob/types/leverage.go.
    """
    allowed = Fraction(PPM, market.imf_ppm) if market.imf_ppm > 0 else Fraction(0)
    if not 1 <= leverage <= allowed:
        raise MarginError(f"{market.ticker}: a leverage from 1 to {float(allowed):g}", leverage)
    return _ceil(PPM / Fraction(leverage))


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


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
    if not -_MOST < collateral < _MOST:
        raise MarginError("collateral within ±10^60 quote quantums", collateral)
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


def exchanged(margin: MarginFigures, old: PositionMargin, new: PositionMargin) -> MarginFigures:
    """Return an account's margin with one position's terms in the place of its old ones.

    Each price change comes by here: summed up by hand, as `total_margin` does.
    """
    was, value = old.net_notional, new.net_notional
    had, required = old.maintenance_margin, new.maintenance_margin
    return MarginFigures(
        margin.net_collateral + value - was,
        margin.initial_margin + new.initial_margin - old.initial_margin,
        margin.maintenance_margin + required - had,
        margin.notional + abs(value) - abs(was),
        margin.sensitivity
        + (value - required if value >= 0 else required - value)
        - (was - had if was >= 0 else had - was),
        margin.unknown,
    )


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
    types = [market.market_type for market in markets]
    return len(types) > 1 and "ISOLATED" in types


def check_update(
    before: MarginFigures, after: MarginFigures, markets: Iterable[PerpetualMarket]
) -> UpdateResult:
    """Judge an update of one subaccount as the chain does: the isolated rule, then collateral.

    `markets` are those held before and those the update trades. `MarginError` where a position
    could not be valued: the chain knows every price. Source: x/subaccounts/keeper.
    """
    if unknown := before.unknown + after.unknown:
        raise MarginError("every position to have a price", f"none for {', '.join(unknown)}")
    if mixes_isolated(markets):
        return "ViolatesIsolatedSubaccountConstraints"
    return state_change(before, after)


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
    max_subaccount_insurance_lost: int = 1_000_000_000_000


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
    _check_breachable(totals)
    released = abs(after.maintenance_margin - before.maintenance_margin)
    share = totals.net_collateral * released // totals.maintenance_margin
    return before.net_notional - after.net_notional - share


def fillable_price(
    totals: MarginFigures, position: PositionMargin, quantums: int, terms: LiquidationTerms
) -> Fraction:
    """Return the worst price of a liquidation, exact, in quote quantums per base quantum."""
    _check_breachable(totals)
    if not quantums:
        raise LiquidationError("expected a position, got 0 quantums")
    lost = 1 - Fraction(totals.net_collateral, totals.maintenance_margin)
    share = min(max(lost * terms.bankruptcy_adjustment_ppm / PPM, Fraction(0)), Fraction(1))
    spread = Fraction(terms.spread_to_maintenance_margin_ratio_ppm, PPM)
    return (position.net_notional - share * spread * position.maintenance_margin) / quantums


def _check_breachable(totals: MarginFigures) -> None:
    if totals.maintenance_margin <= 0:
        was = _said(totals.maintenance_margin)
        raise LiquidationError(f"expected a maintenance margin above 0, got {was}")


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
# Blocks vote on the premium, minutes take the median, hours the mean. Rates are ppm per 8 hours
# throughout, and an eighth of one is paid each hour.


class FundingTerms(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The chain's funding settings; governance may change them: read them at start-up."""

    premium_vote_clamp_factor_ppm: int = 60_000_000
    funding_rate_clamp_factor_ppm: int = 6_000_000
    min_num_votes_per_sample: int = 15
    removed_tail_ppm: int = 0
    sample_seconds: int = 60
    tick_seconds: int = 3_600

    @property
    def samples_per_tick(self) -> int:
        """Return how many samples an hour should have; missing ones count as 0."""
        if self.sample_seconds <= 0:
            raise MarginError("a funding sample of more than 0 seconds", self.sample_seconds)
        return -(-self.tick_seconds // self.sample_seconds)


def premium_vote(
    market: PerpetualMarket,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    price: int,
    exponent: int,
    *,
    impact_notional: int,
    clamp_ppm: int,
) -> int:
    """Return what a proposer votes: how far the book stands from the oracle price, in ppm.

    A side is (subticks, quantums) in any order, of makers that can pay for their orders.
    Nothing is voted inside the spread, nor where the side cannot fill `impact_notional` quote
    quantums. `clamp_ppm` bounds it: `funding_clamp_ppm` of the vote's factor.
    `MarginError` for a crossed book and a price of 0 or less.
    Source: x/clob/memclob/memclob.go, GetPricePremium.
    """
    index = oracle_subticks(market, price, exponent)
    buys, sells = sorted(bids, key=_subticks, reverse=True), sorted(asks, key=_subticks)
    if buys and sells and buys[0][0] >= sells[0][0]:
        spread = f"{buys[0][0]} bid and {sells[0][0]} asked"
        raise MarginError(f"{market.ticker}: a book that is not crossed", spread)
    side, sign = [], 0
    if buys and index < buys[0][0]:
        side, sign = buys, 1
    elif sells and index > sells[0][0]:
        side, sign = sells, -1
    impact = impact_subticks(side, impact_notional, market.quantum_conversion_exponent)
    if impact is None or (impact - index) * sign <= 0:
        return 0
    return max(min(int((impact / index - 1) * PPM), clamp_ppm), -clamp_ppm)


def _subticks(level: tuple[int, int]) -> int:
    # At one price the order of time stays.
    return level[0]


def oracle_subticks(market: PerpetualMarket, price: int, exponent: int) -> Fraction:
    """Return an oracle price in a market's subticks, exactly; `MarginError` if 0 or less."""
    _check_price(f"{market.ticker}: ", price, exponent)
    shift = exponent - market.quantum_conversion_exponent + market.atomic_resolution + 6
    return price * Fraction(10) ** shift


def _check_price(whose: str, price: int, exponent: int) -> None:
    if price <= 0:
        raise MarginError(f"{whose}an oracle price above 0", price)
    if not -len(_POWERS) < exponent < len(_POWERS):
        raise MarginError(f"{whose}an exponent within ±{len(_POWERS)}", exponent)


def impact_subticks(
    levels: Iterable[tuple[int, int]], impact_notional: int, quantum_conversion_exponent: int
) -> Fraction | None:
    """Return the average price of trading a notional into a side; None if it is too thin.

    `levels` are (subticks, quantums), best first. The size that fills it is rounded up.
    Source: x/clob/memclob/memclob.go, getImpactPriceSubticks.
    """
    if impact_notional < 0:
        raise MarginError("an impact notional of 0 or more", impact_notional)
    left, size = impact_notional, Fraction(0)
    for subticks, quantums in levels:
        if subticks <= 0 or quantums <= 0:
            level = f"{quantums} at {subticks}"
            raise MarginError("a level of more than 0 quantums and subticks", level)
        if not impact_notional:
            return Fraction(subticks)
        quote = fill_to_quote(quantums, subticks, quantum_conversion_exponent)
        size += quantums if left > quote else Fraction(left * quantums, quote)
        left -= quote
        if left <= 0:
            average = Fraction(impact_notional, _ceil(size))
            return exact_subticks(average, quantum_conversion_exponent)
    return None


def premium_sample(votes: Iterable[int], count: int = 0, *, terms: FundingTerms) -> int:
    """Return a minute's sample: the median vote, an even count's mean rounded away from zero.

    Blocks that voted nothing count as 0: `count` is of all blocks that could vote.
    """
    ordered = _padded(votes, max(count, terms.min_num_votes_per_sample))
    ordered.sort()
    if not ordered:
        raise MarginError("a vote, or a least number of votes above 0", "neither")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    both = ordered[middle - 1] + ordered[middle]
    return _ceil(Fraction(both, 2)) if both > 0 else both // 2


def remove_tails(samples: Iterable[int], removed_tail_ppm: int) -> list[int]:
    """Drop that share of the lowest and of the highest samples; the odd one goes off the top.

    Asked to drop nothing, or all, it drops nothing, as the chain.
    """
    kept = list(samples)
    removed = mul_ppm(len(kept), removed_tail_ppm * 2, round_up=False)
    if not 0 < removed < len(kept):
        return kept
    bottom = removed // 2
    return sorted(kept)[bottom : len(kept) - (removed - bottom)]


def funding_rate(
    samples: Iterable[int],
    imf_ppm: int,
    maintenance_fraction_ppm: int,
    default_ppm: int = 0,
    *,
    terms: FundingTerms,
) -> int:
    """Return the rate that an hour's samples make, in ppm per 8 hours; longs pay if positive.

    Missing samples count as 0; the mean is truncated, the default added, the sum clamped.
    Source: x/perpetuals/keeper/perpetual.go, MaybeProcessNewFundingTickEpoch.
    """
    kept = remove_tails(_padded(samples, terms.samples_per_tick), terms.removed_tail_ppm)
    if not kept:
        raise MarginError("a sample, or a tick of more than 0 seconds", "neither")
    rate = int(Fraction(sum(kept), len(kept))) + default_ppm
    most = funding_clamp_ppm(terms.funding_rate_clamp_factor_ppm, imf_ppm, maintenance_fraction_ppm)
    return max(min(rate, most), -most)


def funding_clamp_ppm(factor_ppm: int, imf_ppm: int, maintenance_fraction_ppm: int) -> int:
    """Return the bound of a premium or rate: a multiple of initial less maintenance margin."""
    spread = imf_ppm - maintenance_margin_ppm(imf_ppm, maintenance_fraction_ppm)
    return mul_ppm(spread, factor_ppm, round_up=False)


def indexer_next_rate(samples: Iterable[int], default_ppm: int = 0) -> Fraction | None:
    """Return `nextFundingRate` as the indexer says it: hourly, a fraction, None without samples.

    Neither padded nor clamped: a market that few blocks vote on will be charged less.
    """
    said = list(samples)
    return (Fraction(sum(said), len(said)) + default_ppm) / (8 * PPM) if said else None


def funding_index_delta(
    rate_8h_ppm: int, seconds: int, price: int, exponent: int, atomic_resolution: int
) -> int:
    """Return how far a funding rate moves the index: ppm quote quantums per base quantum.

    Truncated toward zero twice, as the chain does. `MarginError` for a price of 0 or less.
    Source: x/perpetuals/funding/funding.go.
    """
    _check_price("", price, exponent)
    scaled = base_to_quote(rate_8h_ppm * seconds, price, exponent, atomic_resolution)
    return scaled // 28_800 if scaled >= 0 else -(-scaled // 28_800)


def funding_settlement_ppm(quantums: int, index_now: int, index_position: int) -> int:
    """Return what a position is credited, in 1e-6 quote quantums: longs pay a rising index."""
    return -(index_now - index_position) * quantums


def funding_settlement(settlements_ppm: Iterable[int]) -> int:
    """Return what an account is credited in quote quantums: one floor for all positions."""
    return sum(settlements_ppm) // PPM


def funding_payment(settlement_ppm: int) -> int:
    """Return what one position is said to have paid, in quote quantums; negative if credited.

    Rounded by position, so that payments need not add up to what the account was charged.
    """
    return -(settlement_ppm // PPM)


def _padded(values: Iterable[int], count: int) -> list[int]:
    known = list(values)
    return known + [0] * (count - len(known))
