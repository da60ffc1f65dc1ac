"""Margin, liquidation, funding and what people are shown of them, as the chain computes them.

    position, oracle price ──► position_margin ──► total_margin ──► MarginFigures
    figures in breach ──► liquidation_size, fillable_price, bankruptcy_price ──► what it costs
    book ──► premium_vote ──► premium_sample ──► funding_rate ──► funding_index_delta ──► payment
    HeldSubaccount ──► chain_view | web_view | abacus_view | indexer_view ──► explain: why not one

Nothing here remembers anything: whoever holds an account, the risk layer, the paper venue or a
script of ten lines, calls these with the figures it has. What cannot be computed raises
`MarginError`, with what was expected and what it was: no figure is silently zero.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC), an
oracle price is an integer and its power of ten, fractions are parts per million. Floats appear
only as distances (0.06 is six per cent) and never in money. Views alone speak in people's
units: USDC, base units and prices, as exact fractions.
Sources: v4-chain protocol/lib/margin, x/perpetuals, x/subaccounts/lib, x/clob; v4-web bonsai
calculators/subaccount.ts; v4-abacus SubaccountCalculator.kt; comlink src/lib/helpers.ts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from math import inf
from typing import Final, Literal

import msgspec
from dydx_conn import PerpetualMarket, base_to_quote, fill_to_quote, quote_to_base

__all__ = [
    "PPM", "AccountView", "Difference", "FundingTerms", "HeldPosition", "HeldSubaccount",
    "LiquidationError", "LiquidationTerms", "MarginError", "MarginFigures", "ParentView",
    "PositionMargin", "PositionView", "RiskError", "StateChange", "UpdateResult", "abacus_view",
    "adjusted_imf_ppm", "bankruptcy_price", "chain_view", "check_closing", "check_update",
    "chosen_imf_ppm", "compare_risk", "exact_subticks", "explain", "fillable_price",
    "fillable_subticks", "funding_clamp_ppm", "funding_index_delta", "funding_payment",
    "funding_rate", "funding_settlement", "funding_settlement_ppm", "impact_subticks",
    "indexer_next_rate", "indexer_view", "insurance_fund_delta", "is_liquidatable",
    "liquidation_limits", "liquidation_ratio", "liquidation_size", "maintenance_margin_ppm",
    "may_choose_leverage", "mixes_isolated", "mul_ppm", "oracle_subticks", "parent_view",
    "position_margin", "premium_sample", "premium_vote", "remove_tails", "state_change",
    "total_margin", "web_view",
]  # fmt: skip

PPM: Final = 1_000_000

# === Errors ===


class RiskError(Exception):
    """Anything this layer refuses as a bug of the caller; expected refusals are `Denied`."""


class MarginError(RiskError):
    """Figures that no margin, funding or view follows from; `expected` and `was` are in words."""

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


# === Holdings ===
# A subaccount as plain figures, for those that keep no account of their own.


class HeldPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A position and what values it: signed quantums, oracle price, open interest in quantums.

    `open_interest` None is unknown. `entry_price` is in USDC per base unit; `selected_leverage`
    is what its owner chose for the market, None if nothing.
    """

    market: PerpetualMarket
    quantums: int
    price: int
    exponent: int
    open_interest: int | None = 0
    entry_price: Fraction | None = None
    selected_leverage: Fraction | None = None

    @property
    def chosen_imf_ppm(self) -> int:
        """Return the fraction that the selected leverage asks for, 0 if none is selected."""
        if self.selected_leverage is None:
            return 0
        if self.selected_leverage <= 0:
            what = f"{self.market.ticker}: a selected leverage above 0"
            raise MarginError(what, self.selected_leverage)
        return _ceil(PPM / self.selected_leverage)

    @property
    def margin(self) -> PositionMargin:
        """Return its margin as the chain computes it."""
        return self.margin_at(self.chosen_imf_ppm)

    def margin_at(self, imf_ppm: int) -> PositionMargin:
        """Return its margin with `imf_ppm` chosen, 0 for none."""
        return position_margin(
            self.market, self.quantums, self.price, self.exponent, self.open_interest, imf_ppm
        )


class HeldSubaccount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A subaccount: its USDC in quote quantums, funding settled, and its positions.

    The indexer's REST adjusts its USDC for unsettled funding, its WebSocket does not.
    """

    usdc: int
    positions: tuple[HeldPosition, ...] = ()
    number: int = 0

    @property
    def figures(self) -> MarginFigures:
        """Return its margin as the chain computes it."""
        return total_margin(self.usdc, [held.margin for held in self.positions])


def chosen_imf_ppm(market: PerpetualMarket, leverage: Fraction | int) -> int:
    """Return the initial margin fraction that a chosen leverage sets, rounded to less risk.

    `MarginError` outside what the chain accepts: from 1 to what the tier allows.
    Source: MsgUpdateLeverage, x/clob/types/leverage.go.
    """
    allowed = Fraction(PPM, market.imf_ppm) if market.imf_ppm > 0 else Fraction(0)
    if not 1 <= leverage <= allowed:
        raise MarginError(f"{market.ticker}: a leverage from 1 to {float(allowed):g}", leverage)
    return _ceil(PPM / Fraction(leverage))


def may_choose_leverage(
    subaccount: HeldSubaccount, leverages: Mapping[str, Fraction | int]
) -> bool:
    """Tell whether the chain would accept these leverages, by ticker, for a subaccount.

    It must be initially collateralised with them. Leverages chosen earlier for markets that are
    not named here are left out of that test, as the chain leaves them out.
    Source: x/subaccounts/keeper/leverage.go.
    """
    margins = []
    for held in subaccount.positions:
        leverage = leverages.get(held.market.ticker)
        imf_ppm = 0 if leverage is None else chosen_imf_ppm(held.market, leverage)
        margins.append(held.margin_at(imf_ppm))
    return total_margin(subaccount.usdc, margins).free_collateral >= 0


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


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


# === Views ===
# One account, four answers. In USDC, base units and prices, exact: who prints them rounds them.

ViewName = Literal["chain", "web", "abacus", "indexer"]

# Subaccounts below this one are parents; to the chain all are alike.
_PARENTS = 128


class _Part(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    # What a view makes of one position, before it knows the account.
    ticker: str
    size: Fraction
    value: Fraction
    imf: Fraction
    mmf: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction

    @property
    def notional(self) -> Fraction:
        """Return the value without its sign."""
        return abs(self.value)


class PositionView(_Part, frozen=True, gc=False, kw_only=True):
    """One position as a view has it; `size` and `value` are negative for a short.

    `imf` is the market's, open interest included where the view does so; `initial_margin` is
    what counts against the account, with the selected leverage where the view knows of it.
    None is undefined: a leverage of no equity, a liquidation price below 0.
    """

    max_leverage: Fraction | None
    leverage: Fraction | None
    liquidation_price: Fraction | None
    unrealized_pnl: Fraction | None
    unrealized_pnl_percent: Fraction | None
    margin_mode: Literal["CROSS", "ISOLATED"]


class AccountView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One subaccount as a view has it; `raw_free_collateral` may be negative in each."""

    view: ViewName
    number: int
    quote_balance: Fraction
    equity: Fraction
    free_collateral: Fraction
    raw_free_collateral: Fraction
    margin_usage: Fraction | None
    leverage: Fraction | None
    notional: Fraction
    value: Fraction
    initial_margin: Fraction
    maintenance_margin: Fraction
    positions: tuple[PositionView, ...]


class ParentView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A parent and its children: `equity` is everybody's, what else is shown the parent's."""

    equity: Fraction
    parent: AccountView
    children: dict[int, AccountView]


def chain_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the chain acts on it, to the quote quantum; this is the one to trust.

    The chain knows no liquidation price: it is where its test would turn, other prices held,
    its roundings aside.
    """
    return _view(subaccount, "chain")


def web_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the web front end shows it: nothing below 0, leverages selected."""
    return _view(subaccount, "web")


def abacus_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the mobile apps' abacus does: no floor, a short's leverage negative."""
    return _view(subaccount, "abacus")


def indexer_view(subaccount: HeldSubaccount) -> AccountView:
    """See a subaccount as the indexer does: the tier's fractions alone, nothing rounded.

    It says equity and free collateral; the rest follows from its own figures.
    """
    return _view(subaccount, "indexer")


def parent_view(
    view: Callable[[HeldSubaccount], AccountView], subaccounts: Iterable[HeldSubaccount]
) -> ParentView:
    """See a parent subaccount (number below 128) with its children, each through `view`."""
    children = {held.number: view(held) for held in subaccounts}
    parents = [number for number in children if number < _PARENTS]
    if len(parents) != 1:
        raise MarginError("one subaccount below 128, the parent, and its children", list(children))
    equity = sum((child.equity for child in children.values()), Fraction(0))
    return ParentView(equity=equity, parent=children[parents[0]], children=children)


def _view(subaccount: HeldSubaccount, name: ViewName) -> AccountView:
    style = _STYLES[name]
    parts = [style.part(held) for held in subaccount.positions]
    balance = _usdc(subaccount.usdc)
    value, notional, initial, maintenance = (
        sum((getattr(part, figure) for part in parts), Fraction(0))
        for figure in ("value", "notional", "initial_margin", "maintenance_margin")
    )
    equity = balance + value
    if style.floors:
        equity = max(equity, Fraction(0))
    raw = equity - initial
    free = max(raw, Fraction(0)) if style.floors else raw
    return AccountView(
        view=name,
        number=subaccount.number,
        quote_balance=balance,
        equity=equity,
        free_collateral=free,
        raw_free_collateral=raw,
        margin_usage=1 - free / equity if equity > 0 else None,
        leverage=notional / equity if equity > 0 else None,
        notional=notional,
        value=value,
        initial_margin=initial,
        maintenance_margin=maintenance,
        positions=tuple(
            _position_view(held, part, equity, maintenance, style, subaccount.number)
            for held, part in zip(subaccount.positions, parts, strict=True)
        ),
    )


def _position_view(
    held: HeldPosition,
    part: _Part,
    equity: Fraction,
    maintenance: Fraction,
    style: "_Style",
    number: int,
) -> PositionView:
    pnl = percent = None
    if held.entry_price is not None:
        pnl = part.value - part.size * held.entry_price
        staked = abs(part.size * held.entry_price) / max(_screen_leverage(held), Fraction(1))
        percent = pnl / staked if staked else None
    lever = part.value if style.signed else part.notional
    others = maintenance - part.maintenance_margin
    against = part.size - abs(part.size) * part.mmf
    price = (others + part.value - equity) / against if against else None
    return PositionView(
        **msgspec.structs.asdict(part),
        max_leverage=1 / part.imf if part.imf else None,
        leverage=lever / equity if equity > 0 else None,
        liquidation_price=None if price is None or price < 0 else price,
        unrealized_pnl=pnl,
        unrealized_pnl_percent=percent,
        margin_mode="CROSS" if number < _PARENTS else "ISOLATED",
    )


def _chain_part(held: HeldPosition) -> _Part:
    market, margin, interest = held.market, held.margin, held.open_interest
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    scaled = upper if interest is None else int(interest * _quantum_value(held))
    return _Part(
        ticker=market.ticker,
        size=_size(held),
        value=_usdc(margin.net_notional),
        imf=Fraction(adjusted_imf_ppm(market.imf_ppm, lower, upper, scaled), PPM),
        mmf=Fraction(market.imf_ppm * market.maintenance_fraction_ppm, PPM * PPM),
        initial_margin=_usdc(margin.initial_margin),
        maintenance_margin=_usdc(margin.maintenance_margin),
    )


def _web_part(held: HeldPosition) -> _Part:
    imf = _screen_imf(held)
    return _screen_part(held, imf, max(imf, 1 / _screen_leverage(held)))


def _abacus_part(held: HeldPosition) -> _Part:
    return _screen_part(held, _screen_imf(held), _screen_imf(held))


def _indexer_part(held: HeldPosition) -> _Part:
    return _screen_part(held, _tier_imf(held), _tier_imf(held))


def _screen_part(held: HeldPosition, imf: Fraction, asked: Fraction) -> _Part:
    market = held.market
    value = _usdc(held.quantums * _quantum_value(held))
    mmf = Fraction(maintenance_margin_ppm(market.imf_ppm, market.maintenance_fraction_ppm), PPM)
    return _Part(
        ticker=market.ticker,
        size=_size(held),
        value=value,
        imf=imf,
        mmf=mmf,
        initial_margin=abs(value) * asked,
        maintenance_margin=abs(value) * mmf,
    )


class _Style(msgspec.Struct, frozen=True):
    # What tells one view from another.
    part: Callable[[HeldPosition], _Part]
    floors: bool = False  # equity and free collateral end at 0
    signed: bool = False  # a short's leverage is negative


_STYLES: Final[Mapping[ViewName, _Style]] = {
    "chain": _Style(_chain_part),
    "web": _Style(_web_part, floors=True),
    "abacus": _Style(_abacus_part, signed=True),
    "indexer": _Style(_indexer_part),
}


def _tier_imf(held: HeldPosition) -> Fraction:
    held.margin_at(held.chosen_imf_ppm)  # what the chain cannot value, no view may
    if held.market.imf_ppm <= 0:
        raise MarginError(f"{held.market.ticker}: a tier's imf_ppm above 0", held.market.imf_ppm)
    return Fraction(held.market.imf_ppm, PPM)


def _screen_imf(held: HeldPosition) -> Fraction:
    # Not rounded, and where both caps are one the front ends see no cap: the chain does.
    base = _tier_imf(held)
    lower, upper = held.market.open_interest_lower_cap, held.market.open_interest_upper_cap
    if not upper or lower == upper:
        return base
    if held.open_interest is None:
        return Fraction(1)
    share = max((held.open_interest * _quantum_value(held) - lower) / (upper - lower), Fraction(0))
    return min(base + share * (1 - base), Fraction(1))


def _screen_leverage(held: HeldPosition) -> Fraction:
    # Nothing selected is the most that the tier allows.
    return 1 / _tier_imf(held) if held.selected_leverage is None else held.selected_leverage


def _quantum_value(held: HeldPosition) -> Fraction:
    # In quote quantums, exactly.
    return held.price * Fraction(10) ** (held.exponent + held.market.atomic_resolution + 6)


def _size(held: HeldPosition) -> Fraction:
    return held.quantums * Fraction(10) ** held.market.atomic_resolution


def _usdc(quote_quantums: int | Fraction) -> Fraction:
    return Fraction(quote_quantums) / PPM


# === Explanation ===
# Where a view and the chain differ, and why, in words and figures.

# What each cause can move.
_BY_INITIAL: Final = ("initial_margin", "free_collateral", "margin_usage")
_BY_EQUITY: Final = (
    "equity", "free_collateral", "margin_usage", "leverage", "liquidation_price",
)  # fmt: skip
_BY_MAINTENANCE: Final = ("maintenance_margin", "liquidation_price")
_OF_ACCOUNT: Final = (
    "equity", "free_collateral", "initial_margin", "maintenance_margin", "margin_usage",
    "leverage",
)  # fmt: skip
_OF_POSITION: Final = ("initial_margin", "liquidation_price")
_ROUNDING = "the chain rounds each position to 0.000001 USDC"


class Difference(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A figure that a view shows and the chain does not act on; its text says why.

    `figure` is a field of `AccountView`, or with a `ticker` of `PositionView`. `shown` and
    `acts` are the view's and the chain's, None where undefined.
    """

    view: ViewName
    figure: str
    ticker: str
    shown: Fraction | None
    acts: Fraction | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.ticker} {self.figure}".strip().replace("_", " ")
        shown, acts = _in_words(self.shown), _in_words(self.acts)
        return f"{self.view}: {what} {shown}, on the chain {acts}: {'; '.join(self.reasons)}"


def explain(subaccount: HeldSubaccount, *, rounding: bool = False) -> list[Difference]:
    """Tell where each front end differs from the chain over one subaccount, and why.

    Differences that roundings alone make are left out, unless `rounding` asks for them.
    """
    chain = chain_view(subaccount)
    found = [
        difference
        for view in (web_view, abacus_view, indexer_view)
        for difference in _differences(subaccount, view(subaccount), chain)
    ]
    return [each for each in found if rounding or each.reasons != (_ROUNDING,)]


def _differences(
    subaccount: HeldSubaccount, view: AccountView, chain: AccountView
) -> Iterator[Difference]:
    causes = list(_causes(subaccount, view, chain))
    pairs: list[tuple[str, str, AccountView | PositionView, AccountView | PositionView]] = [
        ("", figure, view, chain) for figure in _OF_ACCOUNT
    ]
    for shown, acts in zip(view.positions, chain.positions, strict=True):
        pairs += [(shown.ticker, figure, shown, acts) for figure in _OF_POSITION]
    for ticker, figure, left, right in pairs:
        if getattr(left, figure) != getattr(right, figure):
            # A position's own requirement has nothing to do with the others'.
            about = ("", ticker) if ticker and figure == "initial_margin" else None
            reasons = [
                reason
                for figures, cause, reason in causes
                if figure in figures and (about is None or cause in about)
            ]
            yield Difference(
                view=view.view,
                figure=figure,
                ticker=ticker,
                shown=getattr(left, figure),
                acts=getattr(right, figure),
                reasons=tuple(reasons) or (_ROUNDING,),
            )


def _causes(
    subaccount: HeldSubaccount, view: AccountView, chain: AccountView
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    # The figures that each can move, the ticker it is about, and its words.
    floors = _STYLES[view.view].floors
    if floors and chain.equity < 0:
        yield _BY_EQUITY, "", f"equity is {_in_words(chain.equity)}, shown no lower than 0"
    if floors and chain.free_collateral < 0:
        lacking = _in_words(-chain.free_collateral)
        yield _BY_INITIAL[1:], "", f"initial margin lacks {lacking}, shown as 0 left"
    seen = zip(subaccount.positions, view.positions, chain.positions, strict=True)
    for held, shown, acts in seen:
        ticker, chosen = held.market.ticker, Fraction(held.chosen_imf_ppm, PPM)
        # The chain keeps six decimals of a fraction; a view may keep more.
        if abs(shown.imf - acts.imf) >= Fraction(2, PPM):
            there, here = _percent(acts.imf), _percent(shown.imf)
            reason = f"by its open interest {ticker} asks {there} on the chain, {here} here"
            yield _BY_INITIAL, ticker, reason
        if chosen > acts.imf and view.view != "web":
            reason = f"the leverage chosen for {ticker} asks {_percent(chosen)}, left out here"
            yield _BY_INITIAL, ticker, reason
        if shown.mmf != acts.mmf:
            there, here = _percent(acts.mmf), _percent(shown.mmf)
            yield _BY_MAINTENANCE, ticker, f"{ticker} maintains {there} on the chain, {here} here"


def _in_words(value: Fraction | None) -> str:
    return "undefined" if value is None else f"{float(value):,.6f}".rstrip("0").rstrip(".")


def _percent(fraction: Fraction) -> str:
    return f"{float(fraction * 100):.8g} %"
