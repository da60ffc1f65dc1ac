"""Cross-margin as the chain computes it, a gate before every order, a guard before liquidation.

    MarketView ────┐
    AccountUpdate ─┼─► verdicts(risk) ─► Approved | Denied | Reduce | GateChange
    Decision ──────┘

`Risk.step` takes an event in: account updates make an `Account`, market views move its
`Valuation`, a decision is put to the gate (`review`), and on every view the guard computes how far
liquidation is and fires what is due of the flight plan (`defend`). Gate and guard are functions
of values; `Risk` holds the state. Only `Approved` and `Reduce` carry an order.

- Errors and words, Margin: `RiskError`; `position_margin` ─► `total_margin` ─► `MarginFigures`.
- Liquidation, Funding: what the chain would take, and at which prices; rate ─► index ─► payment.
- Holdings: `Holding`, one market as an account stands in it.
- Front ends, Explanation: one account as the chain and as a web page shows it, and why they differ.
- Figures, Stress: `risk_figures`, and what a shock makes of them (`stress_table`).
- Sizing and leverage: sizes that survive a shock; a leverage to choose.
- Positions, Unsettled funding, Brackets, Account: what a subaccount holds, by its updates.
- Candidates: what one immediate-or-cancel order would make of an account, before it is one.
- Flight values, Exits: what a rung is; what leaving a position costs.
- Ladder, Plan: below which distance each rung fires (`plan`), and which fire now (`due`).
- Policy, Verdicts: by which rules, and what was decided.
- Returns, Valuation: each market's volatility and beta; each position's margin, and their sum.
- Course, Turns: where equity came from, how fast and far the market takes it, what rests.
- Situation, Objections: what the gate judges by, and what there is against a decision, in words.
- Entries, Cuts: how an entry meets the market, and what of it is not too much.
- Gate, Checks: `review(decision, situation)`, the whole judgement; the limits it held to.
- Retreat, Triggers: how far to go back (`retreat`, `protect`), and at which levels.
- Guard: `defend` fires what is due; `Defence` is what an account's guard remembers.
- Watch, Upkeep: the risk second by second, for panels; what stands on the venue is looked after.
- Outbox, Risk, Streams: what went out, the state, and the operator around it.

The guard defends the distance `restore_to`. Once it is lost a move is on: its room is what prices
may take from there to `act_below`, and stairs lead out before the end of it.
- A quarter of it taken: half leaves, while books still stand; a V keeps the other half.
- Three fifths: all but a quarter; nine tenths: the rest. Each step slows what is lost, so that in a
  fall that lasts more is left than by selling all at `act_below`.
- The move is remembered until its loss is given back, or paid in: by distance alone what was halved
  would start from afar, at five times leverage again, and bleed out. What a gap or a withdrawal
  took of the distance itself is answered at once.
- Pace: what this block took, or the last, the next two may take before an order fills.
- A part waits two blocks for its answer, or it would be sold twice. All of it is sent again each
  block: orders are lost, and reduce-only ones cannot sell more than is held.
Protections climb the same stairs: with the room left to the day's loss and the drawdown goes the
leverage that may be held; at its end all is closed as by a stop, and a V costs less than by one.

A flight plan is a step's ladder of reduce-only IOC orders, the cheapest relief (distance gained per
USDC of cost) first, costed on the book. Every fill that loses less than it relieves is taken, as
far as the guard's own distance is worth; what is offered only beyond that is given up, and named.

Units: sizes are signed quantums (positive is long), base units where a `Decimal`; money is quote
quantums (1e-6 USDC); an oracle price is an integer and its power of ten; fractions are parts per
million; funding rates ppm per 8 hours. Floats appear only as opinions and ratios: distances (0.06
is six per cent), volatilities (standard deviation of the return over one hour) and betas; never in
money. Unknown is danger: what needs an unknown figure is denied, except what shrinks a position,
which no limit may block; a figure that needs it is None, and `unknown` has the reason.

Nothing here reads a clock, does I/O or subscribes: time is a frame's, height a block's.
Sources: v4-chain protocol/lib/margin, x/perpetuals, x/subaccounts, x/clob; indexer
next-funding-cache.ts, comlink helpers.ts; v4-web and v4-abacus subaccount calculators.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    "PPM",
    # Errors and words
    "LiquidationError", "MarginError", "RiskError", "percent_text", "sign_text",
    # Margin
    "MarginFigures", "PositionMargin", "adjusted_imf_ppm", "check_update", "compare_risk",
    "is_liquidatable", "maintenance_margin_ppm", "mixes_isolated", "mul_ppm", "position_margin",
    "state_change", "total_margin",
    # Liquidation
    "LiquidationTerms", "bankruptcy_price", "check_closing", "exact_subticks", "fillable_price",
    "fillable_subticks", "insurance_fund_delta", "liquidation_limits", "liquidation_size",
    # Funding
    "funding_index_delta", "funding_payment", "funding_settlement", "funding_settlement_ppm",
    # Holdings
    "Holding",
    # Front ends
    "AccountView", "ParentView", "ViewName", "account_view", "parent_view",
    # Explanation
    "Difference", "explain",
    # Figures
    "MarginInputs", "PositionFigures", "RiskFigures", "funding_impact", "margin_inputs",
    "risk_figures",
    # Stress
    "MOVES_PERCENT", "StressCell", "StressTable", "stress_table",
    # Sizing and leverage
    "LeverageAdvice", "Proposal", "Sizing", "size_position",
    "suggest_leverage", "volatility_target",
    # Positions
    "Position", "Reservation",
    # Unsettled funding
    "index_delta",
    # Brackets
    "BracketKind", "Levels", "StandingBracket", "bracket_changes",
    # Account
    "Account",
    # Flight values
    "Exit", "FlightPlan", "FlightPolicy", "Rung",
    # Plan
    "due", "plan", "replan",
    # Policy
    "Policy",
    # Verdicts
    "Approved", "Bracket", "Denied", "GateChange", "Judgement", "Reduce", "Verdict", "Withdraw",
    "audit_row",
    # Course
    "Memory",
    # Turns
    "Elapsed", "Turns",
    # Checks
    "Check", "checks",
    # Triggers
    "Trigger",
    # Watch
    "Watch",
    # Risk
    "Risk",
    # Streams
    "verdicts",
]
# fmt: on

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import chain, pairwise
from math import ceil, floor, fsum, inf, isfinite, isnan, log, sqrt
from operator import add, sub
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeGuard, TypeVar, get_args

import msgspec
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    PARENTS,
    SHORT_TERM,
    AccountUpdate,
    CancelRequest,
    ConditionType,
    ConnError,
    Frame,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    PositionState,
    Profit,
    Side,
    Subaccount,
    base_to_quote,
    cancel,
    exact,
    fold,
    is_of,
    order_id,
    quote_to_base,
    stateful_order_limit,
)
from dydx_data import (
    Book,
    FundingTerms,
    Level,
    MarketView,
    ObjectionKind,
    Oracle,
    charged_rate,
    funding_clamp_ppm,
    funding_rate_8h_ppm,
    stopping,
)
from dydx_strategy import Decision, Entry
from pydantic import BaseModel, ConfigDict, Field, model_validator
from reactivex import Observable

PPM: Final = 1_000_000
MOST_SUBTICKS: Final = 2**64 - 1  # an order's size and price are unsigned 64-bit numbers
_HOUR_NS: Final = 3_600 * 10**9
_MINUTE_NS: Final = 60 * 10**9

# === Errors and words ===

# What is refused as a bug of the caller, and how figures read in a reason. Expected refusals are
# values (`Denied`); nothing here decides.


class RiskError(Exception):
    """Anything this layer refuses as a bug of the caller; expected refusals are `Denied`."""


class MarginError(RiskError):
    """Figures that no margin or funding follows from; `expected` and `was` are in words."""

    def __init__(self, expected: str, was: object) -> None:
        super().__init__(expected, was)
        self.expected = expected
        self.was = _text(was)

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.was}"


class LiquidationError(RiskError):
    """A liquidation that would not close: its size is zero, adds, or exceeds the position."""


def _text(value: object) -> str:
    # Python refuses to write integers of more than some thousand digits.
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    return str(value)


def usdc_text(quote_quantums: int) -> str:
    """Word money in USDC, to the cent."""
    return f"{Decimal(quote_quantums).scaleb(-6):,.2f}"


def amount_text(number: Decimal) -> str:
    """Word a size or a price, with all digits that it has."""
    return f"{number.normalize():,f}"


def percent_text(distance: float | None) -> str:
    """Word a distance to liquidation, or a limit of it, for reasons and screens alike.

    Rounded down, so that what is below a limit never reads as above it; negative once it is
    passed; without tenths from 100 % on.
    """
    if distance is None or isnan(distance):
        return "unknown"
    if not -10 < distance < 10:
        return ">999 %" if distance > 0 else "<-999 %"
    tenths = floor(distance * 1e3)
    return f"{tenths / 10} %" if abs(tenths) < 1_000 else f"{tenths // 10} %"


_SIGNS: Final = (" >= ", " ≥ "), (" <= ", " ≤ "), (" -> ", " → ")


def sign_text(why: str) -> str:
    """Write a reason with the signs that people read: reasons are hashed as they were given."""
    for typed, sign in _SIGNS:
        why = why.replace(typed, sign)
    return why


def time_text(ns: int) -> str:
    """Word a time of the event clock, UTC, to the second."""
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%H:%M:%S} UTC"


def share_text(share: float) -> str:
    """Word a share, a volatility or a leverage's fraction, to the hundredth of a per cent."""
    return f"{100 * share:.2f} %"


# === Margin ===

# The chain's own arithmetic, in its own integers and with its own rounding: what everything else
# here is held to. Knows no order, no book and no policy.

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

    `unknown` names the positions left out: if there are any, the sums are not the account's.
    `notional` is gross. `sensitivity` is what the cushion (net collateral less maintenance margin)
    would lose if every oracle price moved against its position by 100 %.
    """

    net_collateral: int
    initial_margin: int = 0
    maintenance_margin: int = 0
    notional: int = 0
    sensitivity: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Return whether every position could be valued."""
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
    counts as the most. It and the chosen leverage raise the initial margin alone. At a price of 0
    all is 0, as on the chain: whether 0 means that there is none, callers decide. `MarginError` for
    a negative price and beyond all size.
    Source: x/perpetuals/lib/lib.go.
    """
    shift = exponent + market.atomic_resolution + 6
    # Written out and not composed of calls: this is the hot path. A test compares it to its parts.
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
    # Called when a margin is 0, negative or too large. A margin of 0 is right where nothing is
    # held or worth anything, and in a tier that requires none.
    if price < 0:
        raise MarginError(f"{market.ticker}: an oracle price of 0 or more", price)
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


def exchanged(margin: MarginFigures, old: PositionMargin, new: PositionMargin) -> MarginFigures:
    """Return an account's margin with one position's terms in the place of its old ones.

    Every price change comes through here, so it is written out; it sums as `total_margin` does.
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


def combined(first: MarginFigures, second: MarginFigures) -> MarginFigures:
    """Add up two margins, figure by figure; what is unknown is the first one's."""
    return MarginFigures(
        first.net_collateral + second.net_collateral,
        first.initial_margin + second.initial_margin,
        first.maintenance_margin + second.maintenance_margin,
        first.notional + second.notional,
        first.sensitivity + second.sensitivity,
        first.unknown,
    )


def is_liquidatable(net_collateral: int, maintenance_margin: int) -> bool:
    """Return whether the chain may liquidate: equal is safe, and so is having no positions."""
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
    """Return whether these markets, held by one subaccount, would break the isolated rule."""
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

# What the chain does to an account in breach, and the price at which it comes to that. Values
# alone: who is liquidated when, the venue decides.

_Amount = TypeVar("_Amount", int, Fraction)


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
    size: _Amount, value: _Amount, equity: _Amount, other_maintenance: _Amount,
    maintenance_e12: _Amount,
) -> tuple[_Amount, _Amount] | None:  # fmt: skip
    """Return the liquidation price as numerator and denominator, in `value` per `size`.

    Others' prices stay as they are. `value` is the signed notional, `maintenance_e12` the
    maintenance fraction in parts per 1e12 (`imf_ppm * maintenance_fraction_ppm`). None where no
    price liquidates: nothing held, or the result is negative. Equity is not floored at zero.
    Integers are the chain's; a front end that rounds nothing uses fractions.
    """
    numerator = (other_maintenance + value - equity) * 1_000_000_000_000
    denominator = size * 1_000_000_000_000 - (size if size >= 0 else -size) * maintenance_e12
    if not denominator or (numerator and (numerator < 0) != (denominator < 0)):
        return None
    return numerator, denominator


def bankruptcy_price(totals: MarginFigures, before: PositionMargin, after: PositionMargin) -> int:
    """Return the quote quantums received for closing at which the account keeps its share.

    `before` and `after` are the position's own terms. For a short it is negative: the account pays.
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
        was = _text(totals.maintenance_margin)
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

# An hour's rate (of dydx_data) moves a market's index, and the index what positions owe. Rates are
# ppm per 8 hours throughout, and an eighth of one is paid each hour.


def funding_index_delta(
    rate_8h_ppm: int, seconds: int, price: int, exponent: int, atomic_resolution: int
) -> int:
    """Return how far a funding rate moves the index: ppm quote quantums per base quantum.

    Truncated toward zero twice, as the chain does. `MarginError` for a price of 0 or less.
    Source: x/perpetuals/funding/funding.go.
    """
    _check_price(price, exponent)
    scaled = base_to_quote(rate_8h_ppm * seconds, price, exponent, atomic_resolution)
    return scaled // 28_800 if scaled >= 0 else -(-scaled // 28_800)


def _check_price(price: int, exponent: int) -> None:
    if price <= 0:
        raise MarginError("an oracle price above 0", price)
    if not -len(_POWERS) < exponent < len(_POWERS):
        raise MarginError(f"an exponent within ±{len(_POWERS)}", exponent)


def funding_settlement_ppm(quantums: int, index_now: int, index_position: int) -> int:
    """Return what a position is credited, in 1e-6 quote quantums: longs pay a rising index."""
    return -(index_now - index_position) * quantums


def funding_settlement(settlements_ppm: Iterable[int]) -> int:
    """Return what an account is credited in quote quantums: one floor for all positions."""
    return sum(settlements_ppm) // PPM  # integers


def funding_payment(settlement_ppm: int) -> int:
    """Return what one position is reported to have paid, in quote quantums; negative if credited.

    Rounded by position, so that payments need not add up to what the account was charged.
    """
    return -(settlement_ppm // PPM)


# === Holdings ===

# One market as an account stands in it: the value that front ends' views, figures, stress and
# sizing all take, of anybody's account. What `Risk` remembers of a position between two prices
# is in its `Valuation`; nothing is remembered here.


class Holding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One market as an account stands in it; `quantums` 0 is a market it could enter.

    The oracle price is `price` at the power of ten `exponent`, open interest in base quantums,
    `entry_price` in USDC per base unit; each None is unknown, and open interest then counts as
    the most. `selected_leverage` is what the owner chose for the market, None if nothing.
    `volatility_1h` is the standard deviation of the return over an hour, `beta` the market's move
    for a move of one of all markets together.
    """

    market: PerpetualMarket
    quantums: int = 0
    price: int | None = None
    exponent: int = 0
    open_interest: int | None = None
    entry_price: Decimal | None = None
    selected_leverage: Fraction | None = None
    funding_8h_ppm: int | None = None
    volatility_1h: float | None = None
    beta: float | None = None

    @property
    def ticker(self) -> str:
        """Name the market."""
        return self.market.ticker

    @property
    def chosen_imf_ppm(self) -> int:
        """Return the fraction that the selected leverage requires, 0 if none is selected."""
        if self.selected_leverage is None:
            return 0
        if self.selected_leverage <= 0:
            what = f"{self.ticker}: a selected leverage above 0"
            raise MarginError(what, self.selected_leverage)
        return ceil(PPM / self.selected_leverage)

    @property
    def objection(self) -> str:
        """Return why the market cannot be valued; empty if it can."""
        if self.price is None:
            return f"{self.ticker}: no oracle price"
        try:
            self.margin()
        except MarginError as error:
            return str(error)
        return ""

    @property
    def volatility(self) -> float | None:
        """Return the volatility if it can be counted on, else None."""
        return self.volatility_1h if _usable(self.volatility_1h) else None

    @property
    def rate_8h_ppm(self) -> int | None:
        """Return the funding rate if it fits the chain's 32 bits, else None."""
        rate = self.funding_8h_ppm
        return rate if rate is not None and abs(rate) < 2**31 else None

    def margin(self, shock_ppm: int = 0) -> PositionMargin:
        """Return its margin as the chain computes it, after a move of the price by `shock_ppm`.

        `MarginError` unless the price is above 0: a market without one is not worth nothing.
        """
        if self.price is None or self.price <= 0:
            raise MarginError(f"{self.ticker}: an oracle price above 0", self.price)
        # A shocked price is exact: six digits more, none rounded. At nothing, nothing is left.
        price, exponent = self.price, self.exponent
        if shock_ppm:
            if shock_ppm <= -PPM:
                return PositionMargin()
            price, exponent = price * (PPM + shock_ppm), exponent - 6
        chosen = self.chosen_imf_ppm if self.selected_leverage is not None else 0
        market, size, interest = self.market, self.quantums, self.open_interest
        return position_margin(market, size, price, exponent, interest, chosen)

    def funding_ppm(self, rate_8h_ppm: int, hours: int) -> int:
        """Return what it is credited over hours, in 1e-6 quote quantums, if nothing else moves."""
        price, exponent, market = self.price or 0, self.exponent, self.market
        delta = funding_index_delta(rate_8h_ppm, 3_600, price, exponent, market.atomic_resolution)
        return hours * funding_settlement_ppm(self.quantums, delta, 0)


def _usable(volatility: float | None) -> TypeGuard[float]:
    # Its square, too: a market that never moves is one that was not measured.
    return volatility is not None and volatility > 0 and 0 < volatility * volatility < inf


def _no_volatility(got: float | None) -> str:
    return f"no usable volatility, {'none is known yet' if got is None else f'got {got}'}"


_Held = dict[str, Holding]
_Terms = dict[str, PositionMargin]


def _held(holdings: Iterable[Holding]) -> _Held:
    held: _Held = {}
    for holding in holdings:
        if holding.ticker in held:
            raise RiskError(f"expected one holding per market, got {holding.ticker} twice")
        held[holding.ticker] = holding
    return {ticker: holding for ticker, holding in held.items() if holding.quantums}


# === Front ends ===

# One account as the chain and three front ends show it, in USDC, base units and prices. All figures
# are exact: rounding is for whoever prints them. An account is its settled USDC in quote quantums
# and what it holds. The indexer's REST adjusts its USDC for unsettled funding, its WebSocket does
# not.

ViewName = Literal["chain", "web", "abacus", "indexer"]


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
    """A parent and its children: `equity` is the sum of all, the other figures are the parent's."""

    equity: Fraction
    parent: AccountView
    children: dict[int, AccountView]


def account_view(
    name: ViewName, collateral: int, holdings: Iterable[Holding], number: int = 0
) -> AccountView:
    """See a subaccount as the chain acts on it, or as one of three front ends shows it.

    `chain` is the one to trust, to the quote quantum. It has no liquidation price of its own: the
    one here is where its liquidation test would turn with all other prices unchanged, without its
    roundings. `web` shows nothing below 0, with the leverages selected; `abacus`, of the mobile
    apps, has no floor and a negative leverage for a short; `indexer` takes the tier's fractions
    alone and rounds nothing (it reports equity and free collateral; the rest follows from its own
    figures).
    """
    style, holdings = _STYLES[name], [*holdings]
    parts = [style.part(held) for held in holdings]
    balance = _usdc(collateral)
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
        number=number,
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
            _position_view(held, part, equity, maintenance, style, number)
            for held, part in zip(holdings, parts, strict=True)
        ),
    )


def parent_view(name: ViewName, family: Mapping[int, tuple[int, Iterable[Holding]]]) -> ParentView:
    """See a parent subaccount (number below 128) with its children, each through one view.

    `family` maps the number of each to its USDC and its holdings.
    """
    children = {number: account_view(name, *account, number) for number, account in family.items()}
    parents = [number for number in children if number < PARENTS]
    if len(parents) != 1:
        raise MarginError("one subaccount below 128, the parent, and its children", list(children))
    equity = sum((child.equity for child in children.values()), Fraction(0))
    return ParentView(equity=equity, parent=children[parents[0]], children=children)


def _position_view(
    held: Holding,
    part: _Part,
    equity: Fraction,
    maintenance: Fraction,
    style: "_Style",
    number: int,
) -> PositionView:
    pnl = percent = None
    if held.entry_price is not None:
        paid = part.size * Fraction(held.entry_price)
        pnl = part.value - paid
        staked = abs(paid) / max(_screen_leverage(held), Fraction(1))
        percent = pnl / staked if staked else None
    lever = part.value if style.signed else part.notional
    others = maintenance - part.maintenance_margin
    mmf_e12 = part.mmf * PPM * PPM
    ratio = liquidation_ratio(part.size, part.value, equity, others, mmf_e12)
    return PositionView(
        **msgspec.structs.asdict(part),
        max_leverage=1 / part.imf if part.imf else None,
        leverage=lever / equity if equity > 0 else None,
        liquidation_price=None if ratio is None else Fraction(*ratio),
        unrealized_pnl=pnl,
        unrealized_pnl_percent=percent,
        margin_mode="CROSS" if number < PARENTS else "ISOLATED",
    )


def _chain_part(held: Holding) -> _Part:
    market, margin, interest = held.market, held.margin(), held.open_interest
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    scaled = upper if interest is None else int(interest * _quantum_value(held))
    return _Part(
        ticker=market.ticker,
        size=_base_size(held),
        value=_usdc(margin.net_notional),
        imf=Fraction(adjusted_imf_ppm(market.imf_ppm, lower, upper, scaled), PPM),
        mmf=Fraction(market.imf_ppm * market.maintenance_fraction_ppm, PPM * PPM),
        initial_margin=_usdc(margin.initial_margin),
        maintenance_margin=_usdc(margin.maintenance_margin),
    )


def _web_part(held: Holding) -> _Part:
    imf = _screen_imf(held)
    return _screen_part(held, imf, max(imf, 1 / _screen_leverage(held)))


def _abacus_part(held: Holding) -> _Part:
    return _screen_part(held, _screen_imf(held), _screen_imf(held))


def _indexer_part(held: Holding) -> _Part:
    return _screen_part(held, _tier_imf(held), _tier_imf(held))


def _screen_part(held: Holding, imf: Fraction, required: Fraction) -> _Part:
    market = held.market
    value = _usdc(held.quantums * _quantum_value(held))
    mmf = Fraction(maintenance_margin_ppm(market.imf_ppm, market.maintenance_fraction_ppm), PPM)
    return _Part(
        ticker=market.ticker,
        size=_base_size(held),
        value=value,
        imf=imf,
        mmf=mmf,
        initial_margin=abs(value) * required,
        maintenance_margin=abs(value) * mmf,
    )


class _Style(msgspec.Struct, frozen=True):
    # How one view differs from another.
    part: Callable[[Holding], _Part]
    floors: bool = False  # equity and free collateral end at 0
    signed: bool = False  # a short's leverage is negative


_STYLES: Final[Mapping[ViewName, _Style]] = {
    "chain": _Style(_chain_part),
    "web": _Style(_web_part, floors=True),
    "abacus": _Style(_abacus_part, signed=True),
    "indexer": _Style(_indexer_part),
}


def _tier_imf(held: Holding) -> Fraction:
    held.margin()  # what the chain cannot value, no view may
    if held.market.imf_ppm <= 0:
        raise MarginError(f"{held.market.ticker}: a tier's imf_ppm above 0", held.market.imf_ppm)
    return Fraction(held.market.imf_ppm, PPM)


def _screen_imf(held: Holding) -> Fraction:
    # Not rounded. Where both caps are equal the front ends apply none, the chain does.
    base = _tier_imf(held)
    lower, upper = held.market.open_interest_lower_cap, held.market.open_interest_upper_cap
    if not upper or lower == upper:
        return base
    if held.open_interest is None:
        return Fraction(1)
    share = max((held.open_interest * _quantum_value(held) - lower) / (upper - lower), Fraction(0))
    return min(base + share * (1 - base), Fraction(1))


def _screen_leverage(held: Holding) -> Fraction:
    # Without a selection the leverage is the most that the tier allows.
    return 1 / _tier_imf(held) if held.selected_leverage is None else held.selected_leverage


def _quantum_value(held: Holding) -> Fraction:
    # In quote quantums, exactly.
    power = held.exponent + held.market.atomic_resolution + 6
    return (held.price or 0) * Fraction(10) ** power


def _base_size(held: Holding) -> Fraction:
    return held.quantums * Fraction(10) ** held.market.atomic_resolution


def _usdc(quote_quantums: int | Fraction) -> Fraction:
    return Fraction(quote_quantums) / PPM


# === Explanation ===

# Where a view and the chain differ, and why, in words and figures. It computes nothing of its
# own: what it compares are the views.

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
    """A figure that a view shows and the chain does not act on; its text has the reasons.

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


def explain(
    collateral: int, holdings: Iterable[Holding], *, rounding: bool = False
) -> list[Difference]:
    """Return where each front end differs from the chain over one account, and why.

    Differences that roundings alone make are left out, unless `rounding` includes them.
    """
    holdings = [*holdings]
    chain, *views = [account_view(name, collateral, holdings) for name in _STYLES]
    found = [each for view in views for each in _differences(holdings, view, chain)]
    return [each for each in found if rounding or each.reasons != (_ROUNDING,)]


def _differences(
    holdings: list[Holding], view: AccountView, chain: AccountView
) -> Iterator[Difference]:
    causes = list(_causes(holdings, view, chain))
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
    holdings: list[Holding], view: AccountView, chain: AccountView
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    # The figures that each can move, the ticker it is about, and its words.
    floors = _STYLES[view.view].floors
    if floors and chain.equity < 0:
        yield _BY_EQUITY, "", f"equity is {_in_words(chain.equity)}, shown no lower than 0"
    if floors and chain.free_collateral < 0:
        lacking = _in_words(-chain.free_collateral)
        yield _BY_INITIAL[1:], "", f"initial margin lacks {lacking}, shown as 0 left"
    seen = zip(holdings, view.positions, chain.positions, strict=True)
    for held, shown, acts in seen:
        ticker, chosen = held.market.ticker, Fraction(held.chosen_imf_ppm, PPM)
        # The chain keeps six decimals of a fraction; a view may keep more.
        if abs(shown.imf - acts.imf) >= Fraction(2, PPM):
            there, here = _exact_percent(acts.imf), _exact_percent(shown.imf)
            reason = f"by its open interest {ticker} requires {there} on the chain, {here} here"
            yield _BY_INITIAL, ticker, reason
        if chosen > acts.imf and view.view != "web":
            reason = (
                f"the leverage chosen for {ticker} requires {_exact_percent(chosen)}, left out here"
            )
            yield _BY_INITIAL, ticker, reason
        if shown.mmf != acts.mmf:
            there, here = _exact_percent(acts.mmf), _exact_percent(shown.mmf)
            yield _BY_MAINTENANCE, ticker, f"{ticker} maintains {there} on the chain, {here} here"


def _in_words(value: Fraction | None) -> str:
    return "undefined" if value is None else f"{float(value):,.6f}".rstrip("0").rstrip(".")


def _exact_percent(fraction: Fraction) -> str:
    return f"{float(fraction * 100):.8g} %"


# === Figures ===

# One account at one instant, for readers: its positions, its concentration, its distance.
# Money is exact; what is not known is None, with the reason. Nothing here is acted upon.


class PositionFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position's figures; None is unknown, and `unknown` has the reasons.

    Money is quote quantums, `size` base units, prices USDC; `quantums` is None while the grid is
    not known. `distance` is this price's own adverse move to `liquidation_price`, all others
    standing still; `sigmas` the same in its own hourly standard deviations. Where no price of this
    market liquidates, the price is None and the distance infinite; where none would save, minus
    infinity. `leverage` is its notional over the account's equity. `funding_1h` is positive when
    paid. `seq` is the frame of the oracle price.
    """

    ticker: str
    size: Decimal
    quantums: int | None = None
    entry_price: Decimal | None = None
    oracle_price: Decimal | None = None
    net_notional: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    unrealized_pnl: Decimal | None = None
    share: float | None = None
    leverage: float | None = None
    liquidation_price: Decimal | None = None
    distance: float | None = None
    sigmas: float | None = None
    funding_1h: int | None = None
    seq: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def returned(self) -> float | None:
        """Return the unrealised profit as a share of what was paid; None if either is unknown."""
        if self.unrealized_pnl is None or not self.entry_price or not self.size:
            return None
        return float(self.unrealized_pnl / abs(self.entry_price * self.size))


class RiskFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account's figures at one instant; None is unknown, and `unknown` has the reasons.

    `margin` has equity, gross notional, usage and `distance`, the adverse move of all prices
    at once that breaches maintenance; `sigmas` is the same with each market moving by so many of
    its own hourly deviations. `funding_distance_1d` is what a day of funding takes off the
    distance, `hours_to_breach` how long funding alone needs to breach (infinite if it is not
    paid). `herfindahl` is the sum of squared shares of gross notional: 1 is a single market.
    """

    margin: MarginFigures | None = None
    net_notional: int | None = None
    long_notional: int | None = None
    short_notional: int | None = None
    sigmas: float | None = None
    funding_1h: int | None = None
    funding_1d: int | None = None
    funding_distance_1d: float | None = None
    hours_to_breach: float | None = None
    largest: str | None = None
    largest_share: float | None = None
    herfindahl: float | None = None
    positions: tuple[PositionFigures, ...] = ()
    unknown: tuple[str, ...] = ()


def risk_figures(collateral: int, holdings: Iterable[Holding]) -> RiskFigures:
    """Compute every figure of risk of an account, from its settled USDC and its holdings."""
    held = _held(holdings)
    objections = {ticker: holding.objection for ticker, holding in held.items()}
    terms = {t: h.margin() for t, h in held.items() if not objections[t]}
    unknown = [reason for reason in objections.values() if reason]
    total = total_margin(collateral, terms.values(), unknown)
    positions = tuple(position_figures(h, terms.get(t), total) for t, h in held.items())
    if unknown:
        return RiskFigures(positions=positions, unknown=tuple(unknown))
    return _account_figures(total, held, terms, positions)


def _account_figures(
    total: MarginFigures, held: _Held, terms: _Terms, positions: tuple[PositionFigures, ...]
) -> RiskFigures:
    values = [term.net_notional for term in terms.values()]
    gross = total.notional
    shares = {t: abs(term.net_notional) / gross for t, term in terms.items()} if gross else {}
    largest = max(shares, key=lambda ticker: shares[ticker], default=None)
    lacking = [reason for p in positions for reason in p.unknown]
    lacking += [] if gross else ["no position of any worth is held"]
    lacking += ["equity is not positive"] if total.net_collateral <= 0 else []
    figures = RiskFigures(
        margin=total,
        net_notional=sum(values),  # integers
        long_notional=sum(value for value in values if value > 0),  # integers
        short_notional=-sum(value for value in values if value < 0),  # integers
        sigmas=_account_sigmas(total, held, terms),
        largest=largest,
        largest_share=shares[largest] if largest is not None else None,
        herfindahl=fsum(share * share for share in shares.values()) if shares else None,
        positions=positions,
        unknown=tuple(lacking),
    )
    impact = msgspec.structs.asdict(funding_impact(total, held.values()))
    return msgspec.structs.replace(figures, **impact)


def _account_sigmas(total: MarginFigures, held: _Held, terms: _Terms) -> float | None:
    # Every price moves against its position at once, by its own deviation: nothing diversifies.
    lost = 0.0
    for ticker, holding in held.items():
        volatility = holding.volatility
        if volatility is None:
            return None
        lost += total_margin(0, [terms[ticker]]).sensitivity * volatility
    if lost <= 0:
        return total.distance  # infinite, or unknown: no price can help or hurt
    return total.cushion / lost


class FundingImpact(msgspec.Struct, frozen=True, gc=False):
    """What funding at the present rates does to an account; the fields are `RiskFigures`' own."""

    funding_1h: int | None = None
    funding_1d: int | None = None
    funding_distance_1d: float | None = None
    hours_to_breach: float | None = None


def funding_impact(margin: MarginFigures, holdings: Iterable[Holding]) -> FundingImpact:
    """Compute funding at the present rates and prices; all unknown if a rate is.

    `margin` is the account's. `MarginError` for a holding whose price is not above 0.
    """
    settled = 0
    for holding in holdings:
        rate = holding.rate_8h_ppm
        if rate is None:
            return FundingImpact()
        settled += holding.funding_ppm(rate, 1)
    day = -funding_settlement([24 * settled])
    paying = settled < 0 or margin.cushion < 0
    return FundingImpact(
        -funding_settlement([settled]),
        day,
        day / margin.sensitivity if margin.sensitivity > 0 else None,
        max(margin.cushion, 0) * PPM / max(-settled, 1) if paying else inf,
    )


def position_figures(
    holding: Holding, term: PositionMargin | None, total: MarginFigures, seq: int = 0
) -> PositionFigures:
    """Compute every figure of a position from its margin and its account's; None is unknown."""
    market, quantums, entry = holding.market, holding.quantums, holding.entry_price
    size = market.size(quantums)
    if term is None or holding.price is None:
        return PositionFigures(
            ticker=market.ticker, size=size, quantums=quantums, entry_price=entry,
            unknown=(holding.objection,),
        )  # fmt: skip
    oracle = Decimal(holding.price).scaleb(holding.exponent)
    rate, volatility, liquidation, distance = holding.rate_8h_ppm, holding.volatility, None, None
    if total.known:
        liquidation, distance = _own_distance(holding, oracle, term, total)
    return PositionFigures(
        ticker=market.ticker,
        size=size,
        quantums=quantums,
        entry_price=entry,
        oracle_price=oracle,
        net_notional=term.net_notional,
        initial_margin=term.initial_margin,
        maintenance_margin=term.maintenance_margin,
        unrealized_pnl=(oracle - entry) * size if entry is not None else None,
        share=abs(term.net_notional) / total.notional if total.known and total.notional else None,
        leverage=(
            abs(term.net_notional) / total.net_collateral
            if total.known and total.net_collateral > 0
            else None
        ),
        liquidation_price=liquidation,
        distance=distance,
        sigmas=distance / volatility if distance is not None and volatility else None,
        funding_1h=None if rate is None else funding_payment(holding.funding_ppm(rate, 1)),
        seq=seq,
        unknown=tuple(_lacking(holding, total)),
    )


class MarginInputs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a position's margin, liquidation price and part of the distance are computed from.

    Money is quote quantums, fractions ppm. `initial_ppm` is `imf_ppm` scaled between the caps by
    the open interest, of which None is unknown and counts as the most, or what the owner chose;
    caps of 0 scale nothing. `sensitivity` is what the cushion loses if this price moves by 100 %
    against the position. What is of the account is None unless all of that is known.
    """

    imf_ppm: int
    initial_ppm: int
    maintenance_fraction_ppm: int
    open_interest: int | None = None
    lower_cap: int = 0
    upper_cap: int = 0
    equity: int | None = None
    others_maintenance: int | None = None
    sensitivity: int | None = None

    @property
    def maintenance_ppm(self) -> float:
        """Return the maintenance margin as a fraction of the notional."""
        return self.imf_ppm * self.maintenance_fraction_ppm / PPM


def margin_inputs(holding: Holding, total: MarginFigures) -> MarginInputs | None:
    """Return what a position's figures are computed from; None if it cannot be valued."""
    if holding.objection:
        return None
    market, term, interest = holding.market, holding.margin(), holding.open_interest
    worth = None
    if interest is not None:
        price = holding.price or 0
        worth = base_to_quote(interest, price, holding.exponent, market.atomic_resolution)
    upper = market.open_interest_upper_cap
    counts = PPM * upper if worth is None else worth
    return MarginInputs(
        imf_ppm=market.imf_ppm,
        initial_ppm=max(
            adjusted_imf_ppm(market.imf_ppm, market.open_interest_lower_cap, upper, counts),
            holding.chosen_imf_ppm,
        ),
        maintenance_fraction_ppm=market.maintenance_fraction_ppm,
        open_interest=worth,
        lower_cap=market.open_interest_lower_cap,
        upper_cap=upper,
        equity=total.net_collateral if total.known else None,
        others_maintenance=total.maintenance_margin - term.maintenance_margin
        if total.known else None,
        sensitivity=total_margin(0, [term]).sensitivity,
    )  # fmt: skip


def _lacking(holding: Holding, total: MarginFigures) -> Iterator[str]:
    ticker = holding.ticker
    if holding.rate_8h_ppm is None:
        wide = ", got one beyond 32 bits" if holding.funding_8h_ppm else ""
        yield f"{ticker}: no usable funding rate{wide}"
    if holding.volatility is None:
        yield f"{ticker}: {_no_volatility(holding.volatility_1h)}"
    if not total.known:
        yield f"{ticker}: no distance, the account is unknown ({total.unknown[0]})"


def _own_distance(
    holding: Holding, oracle: Decimal, term: PositionMargin, total: MarginFigures
) -> tuple[Decimal | None, float]:
    market, size = holding.market, holding.quantums
    others = total.maintenance_margin - term.maintenance_margin
    fraction = market.imf_ppm * market.maintenance_fraction_ppm
    ratio = liquidation_ratio(size, term.net_notional, total.net_collateral, others, fraction)
    if ratio is None:
        return None, inf if total.cushion >= 0 else -inf
    price = (Decimal(ratio[0]) / ratio[1]).scaleb(-6 - market.atomic_resolution)
    away = float((oracle - price) / oracle)
    return price, away if size > 0 else -away


# === Stress ===

# Every scenario is a sum over positions, and a position's part of it depends on that position
# alone. So a table keeps each position's parts and their sums: one price changes one row.

MOVES_PERCENT: Final = (-40, -20, -10, -5, -2, -1, 1, 2, 5, 10, 20, 40)

Scenario = Literal["now", "market", "together", "open interest capped", "funding clamped"]
_Sums = tuple[int, ...]
_WIDTH: Final = 5  # net notional, initial and maintenance margin, notional, sensitivity
_NONE: Final = (0,) * (_WIDTH * (2 + len(MOVES_PERCENT)) + 1)  # now, cap, together; funding
_CAP, _TOGETHER = _WIDTH, 2 * _WIDTH


class StressCell(msgspec.Struct, frozen=True, gc=False):
    """What one shock would leave: None, each, while any position cannot be valued.

    `distance` is None without a position, too; it and `liquidatable` are after the shock.
    """

    scenario: Scenario
    ticker: str = ""
    move_percent: int = 0
    equity: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    distance: float | None = None
    liquidatable: bool | None = None


class _Row(msgspec.Struct, frozen=True):
    holding: Holding
    unknown: str = ""
    sums: _Sums = _NONE
    moved: tuple[_Sums, ...] = (_NONE[:_WIDTH],) * len(MOVES_PERCENT)


_GENESIS: Final = FundingTerms()


class StressTable(msgspec.Struct, frozen=True):
    """An account under every shock; `changed` gives the next table, this one stays as it is.

    `unknown` has the reasons of unknown cells, `lacking` those of positions that no holding can be
    made of. `assumed` names the markets that count with a beta of 1 for want of one.
    Shocks are instant: nothing is traded, and open interest keeps its base quantums.
    """

    collateral: int
    funding_hours: int
    terms: FundingTerms
    rows: dict[str, _Row]
    sums: _Sums = _NONE
    lacking: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return which positions cannot be valued, and why."""
        return (*self.lacking, *(row.unknown for row in self.rows.values() if row.unknown))

    @property
    def assumed(self) -> tuple[str, ...]:
        """Name the markets whose beta is not known and counts as 1."""
        return tuple(t for t, row in self.rows.items() if _beta(row.holding) is None)

    def changed(self, holding: Holding) -> "StressTable":
        """Return the table with one market's new price, size or rate; size 0 removes it."""
        rows, ticker = dict(self.rows), holding.ticker
        old, sums = rows.pop(ticker, None), self.sums
        if old is not None:
            sums = tuple(map(sub, sums, old.sums))
        if holding.quantums:
            row = _stress_row(holding, self.funding_hours, self.terms)
            rows[ticker], sums = row, tuple(map(add, sums, row.sums))
        return msgspec.structs.replace(self, rows=rows, sums=sums)

    def settled(self, collateral: int, lacking: Iterable[str] = ()) -> "StressTable":
        """Return the table with other collateral, and what it lacks; `MarginError` beyond size."""
        total_margin(collateral, ())
        return msgspec.structs.replace(self, collateral=collateral, lacking=tuple(lacking))

    def now(self) -> StressCell:
        """Return the account without a shock."""
        return self._cell(bool(self.unknown), self.sums, "now")

    def market(self, ticker: str) -> list[StressCell]:
        """Return the cells of one market's own moves, the others standing still."""
        if ticker not in self.rows:
            raise RiskError(f"expected a market of {sorted(self.rows)}, got {ticker}")
        return self._own(bool(self.unknown), ticker, self.rows[ticker])

    def together(self) -> list[StressCell]:
        """Return the cells of all markets moving at once, each by its beta."""
        unknown, starts = bool(self.unknown), range(_TOGETHER, len(_NONE) - 1, _WIDTH)
        return [
            self._cell(unknown, self.sums[start : start + _WIDTH], "together", "", move)
            for start, move in zip(starts, MOVES_PERCENT, strict=True)
        ]

    def capped(self) -> StressCell:
        """Return the account with every open interest at its upper cap: initial margin alone."""
        return self._cell(bool(self.unknown), self.sums[_CAP:_TOGETHER], "open interest capped")

    def clamped(self) -> StressCell:
        """Return the account after `funding_hours` of the worst funding, each position paying."""
        net, *others = self.sums[:_WIDTH]
        sums = (net + funding_settlement(self.sums[-1:]), *others)
        return self._cell(bool(self.unknown), sums, "funding clamped")

    def cells(self) -> list[StressCell]:
        """Return every cell: now, each market, all together, open interest, funding."""
        unknown = bool(self.unknown)
        own = [cell for t, row in self.rows.items() for cell in self._own(unknown, t, row)]
        return [self.now(), *own, *self.together(), self.capped(), self.clamped()]

    def _own(self, unknown: bool, ticker: str, row: _Row) -> list[StressCell]:
        others = tuple(map(sub, self.sums[:_WIDTH], row.sums))
        return [
            self._cell(unknown, tuple(map(add, others, moved)), "market", ticker, move)
            for move, moved in zip(MOVES_PERCENT, row.moved, strict=True)
        ]

    def _cell(
        self, unknown: bool, sums: _Sums, scenario: Scenario, ticker: str = "", move: int = 0
    ) -> StressCell:
        if unknown:
            return StressCell(scenario, ticker, move)
        value, initial, maintenance, notional, sensitivity = sums[:_WIDTH]
        net = self.collateral + value
        distance = MarginFigures(net, initial, maintenance, notional, sensitivity).distance
        breached = is_liquidatable(net, maintenance)
        return StressCell(scenario, ticker, move, net, initial, maintenance, distance, breached)


def stress_table(
    collateral: int, holdings: Iterable[Holding], *, funding_hours: int = 8,
    terms: FundingTerms = _GENESIS,
) -> StressTable:  # fmt: skip
    """Compute the whole table from nothing, from settled USDC and holdings.

    `terms` holds the clamp's factor, the chain's at genesis; governance may change it.
    """
    if funding_hours < 0:
        raise RiskError(f"expected funding_hours of 0 or more, got {funding_hours}")
    total_margin(collateral, ())  # refuses what is beyond all size
    rows = {t: _stress_row(holding, funding_hours, terms) for t, holding in _held(holdings).items()}
    columns = zip(_NONE, *(row.sums for row in rows.values()), strict=True)
    sums = tuple(map(sum, columns))  # integers
    return StressTable(collateral, funding_hours, terms, rows, sums)


def _stress_row(holding: Holding, hours: int, terms: FundingTerms) -> _Row:
    try:
        return _known_row(holding, hours, terms)
    except (MarginError, OverflowError) as error:  # now, or only once it is shocked
        return _Row(holding, holding.objection or str(error))


def _known_row(holding: Holding, hours: int, terms: FundingTerms) -> _Row:
    now, beta = _parts(holding.margin()), _beta(holding)
    moved = together = tuple(_parts(holding.margin(move * 10_000)) for move in MOVES_PERCENT)
    if beta is not None and beta != 1:
        shocks = [round(move * 10_000 * beta) for move in MOVES_PERCENT]
        together = tuple(_parts(holding.margin(shock)) for shock in shocks)
    market, (value, initial, *others) = holding.market, now
    # At its upper cap the fraction is 100 %, whatever was chosen.
    capped = abs(value) if market.open_interest_upper_cap else initial
    factor = terms.funding_rate_clamp_factor_ppm
    clamp = funding_clamp_ppm(factor, market.imf_ppm, market.maintenance_fraction_ppm)
    paid = holding.funding_ppm(clamp if holding.quantums > 0 else -clamp, hours)
    return _Row(
        holding, "", (*now, value, capped, *others, *chain.from_iterable(together), paid), moved
    )


def _parts(position: PositionMargin) -> _Sums:
    # As total_margin sums them up, which a test holds it to: half the table's time is here.
    value, required = position.net_notional, position.maintenance_margin
    if value >= 0:
        return value, position.initial_margin, required, value, value - required
    return value, position.initial_margin, required, -value, required - value


def _beta(holding: Holding) -> float | None:
    beta = holding.beta
    return beta if beta is not None and isfinite(beta) else None


# === Sizing and leverage ===

# How large a position is proposed, and how much of it the margin bears when all markets turn
# against it. A size is bounded here, never raised, and nothing is closed for it; a leverage is an
# opinion for a person, which nothing acts upon.


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """A position's proposed notional, signed, in quote quantums; None where there can be none."""

    notional: int | None
    why: str


class Sizing(msgspec.Struct, frozen=True, gc=False):
    """The position to hold, signed quantums on the step; 0 is a denial, and `why` its reason.

    It bounds what is proposed, and never closes what is held.
    `after` is the account's margin after the adverse move, None where it was not computed.
    """

    ticker: str
    quantums: int
    why: str
    limited_by: Literal["proposal", "step", "margin", "volatility", "unknown", "isolated"]
    after: MarginFigures | None = None


def volatility_target(
    equity: int | None, target_1h: float, volatility_1h: float | None, cap: float
) -> Proposal:
    """Propose a position that moves equity by `target_1h` an hour (one standard deviation).

    `cap` bounds it in multiples of equity: a calm hour is not a promise.
    """
    _expect("target_1h", target_1h, least=-inf)
    _expect("cap", cap, least=0)
    if not _usable(volatility_1h):
        return Proposal(None, _no_volatility(volatility_1h))
    leverage = min(max(target_1h / volatility_1h, -cap), cap)
    calm = f"at a volatility of {share_text(volatility_1h)}"
    words = f"{share_text(target_1h)} an hour {calm}, at most {cap:g} times"
    return _proposal(equity, leverage, words)


def _expect(
    name: str, value: float, *, least: float = -inf, above: float = -inf, below: float = inf
) -> None:
    if not (isfinite(value) and least <= value and above < value < below):
        bounds = f"at least {least:g}" if least > above else f"above {above:g}"
        raise RiskError(f"expected {name} {bounds} and below {below:g}, got {value}")


def _proposal(equity: int | None, leverage: float, words: str) -> Proposal:
    if equity is None:
        return Proposal(None, "equity is unknown")
    if equity <= 0:
        return Proposal(None, f"expected a positive equity, got {equity} quote quantums")
    return Proposal(int(equity * Fraction(leverage)), words)


# A position's size to the account's margin once traded, and after the adverse move.
_Stressed = Callable[[int], tuple[MarginFigures, MarginFigures]]


def size_position(
    proposal: Proposal, market: Holding, collateral: int, holdings: Iterable[Holding], *,
    adverse: float, keep_above: float, cost_ppm: int = 0,
) -> Sizing:  # fmt: skip
    """Return the largest position up to the proposal that leaves the account safe after a shock.

    Safe means two things. Once traded, with `cost_ppm` of the notional lost to fee and slippage,
    the account meets its initial margin. After *every* market has then moved by `adverse` (0.2 is
    20 %) against its position, it still has a distance of `keep_above`. Rounded toward zero to the
    step. `market` is the one to size, as it is held now; `holdings` may name it too.
    """
    _expect("adverse", adverse, least=0, below=1)
    _expect("keep_above", keep_above, least=0, below=1)
    _expect("cost_ppm", cost_ppm, least=0)
    others = [h for h in _held(holdings).values() if h.ticker != market.ticker]
    refused = _refusal(proposal, market, others)
    if refused is not None:
        return refused
    try:
        trade = _after_trade(market, collateral, others, ceil(adverse * PPM), cost_ppm)
        return _largest(proposal, market, trade, ceil(keep_above * PPM))
    except MarginError as error:
        return Sizing(market.ticker, 0, str(error), "unknown")


def bound_position(
    notional: int, market: Holding, collateral: int, holdings: Iterable[Holding], *,
    equity: int, adverse: float | None, volatility_1h: float | None, cap: float, cost_ppm: int = 0,
) -> Sizing:  # fmt: skip
    """Bound a wanted position, signed quote quantums, by volatility and by a stressed margin.

    A bound of None is none. `volatility_1h` is as in `volatility_target`, `adverse` as in
    `size_position`: the account is not liquidatable after the move.
    """
    proposal = wanted = Proposal(notional, "the decision's size")
    if volatility_1h is not None:
        most = volatility_target(equity, volatility_1h, market.volatility_1h, cap)
        if most.notional is None:
            proposal = most
        elif abs(notional) > abs(most.notional):
            proposal = Proposal(most.notional if notional > 0 else -most.notional, most.why)
    move = adverse if adverse is not None else 0.0
    sizing = size_position(
        proposal, market, collateral, holdings, adverse=move, keep_above=0, cost_ppm=cost_ppm
    )
    calmed = sizing.limited_by == "proposal" and proposal is not wanted
    return msgspec.structs.replace(sizing, limited_by="volatility") if calmed else sizing


def _refusal(proposal: Proposal, market: Holding, others: list[Holding]) -> Sizing | None:
    reasons = [] if proposal.notional is not None else [proposal.why]
    reasons += [reason for reason in (holding.objection for holding in [market, *others]) if reason]
    if reasons:
        return Sizing(market.ticker, 0, "; ".join(reasons), "unknown")
    if mixes_isolated(holding.market for holding in [market, *others]):
        why = f"{market.ticker} and {others[0].ticker} cannot be held by one subaccount: isolated"
        return Sizing(market.ticker, 0, why, "isolated")
    return None


def _largest(proposal: Proposal, holding: Holding, trade: _Stressed, keep_ppm: int) -> Sizing:
    market, notional, price = holding.market, proposal.notional or 0, holding.price or 0
    wanted = quote_to_base(notional, price, holding.exponent, market.atomic_resolution)
    step = market.step_base_quantums if wanted > 0 else -market.step_base_quantums
    most = wanted // step
    if not notional:
        return Sizing(market.ticker, 0, f"{proposal.why}: nothing is proposed", "proposal")
    if not most:
        why = f"{proposal.why}: {wanted} quantums, below the step of {abs(step)}"
        return Sizing(market.ticker, 0, why, "step")
    steps = _most_steps(most, lambda count: _bears(trade(count * step), keep_ppm))
    after = trade(steps * step)[1]
    if steps == most:
        return Sizing(market.ticker, steps * step, proposal.why, "proposal", after)
    bound = (
        f"the margin bears {steps} of {most} steps at {share_text(keep_ppm / PPM)} after the move"
    )
    return Sizing(market.ticker, steps * step, f"{proposal.why}; {bound}", "margin", after)


def _after_trade(
    market: Holding, collateral: int, others: list[Holding], adverse_ppm: int, cost_ppm: int
) -> _Stressed:
    # The others are the same for every size that is tried.
    resting = [(other, _against(other.quantums, adverse_ppm)) for other in others]
    now = total_margin(collateral, [other.margin() for other in others])
    then = total_margin(collateral, [other.margin(shock) for other, shock in resting])
    held = market.margin().net_notional

    def stressed(quantums: int) -> tuple[MarginFigures, MarginFigures]:
        # The match itself may raise the open interest, and with it the fraction.
        interest, traded = market.open_interest, abs(quantums - market.quantums)
        interest = None if interest is None else interest + traded
        target = msgspec.structs.replace(market, quantums=quantums, open_interest=interest)
        calm, shaken = target.margin(), target.margin(_against(quantums, adverse_ppm))
        cost = mul_ppm(abs(calm.net_notional - held), cost_ppm, round_up=True)
        cash = held - calm.net_notional - cost
        return (
            combined(now, total_margin(cash, [calm])),
            combined(then, total_margin(cash, [shaken])),
        )

    return stressed


def _against(quantums: int, adverse_ppm: int) -> int:
    return -adverse_ppm if quantums > 0 else adverse_ppm


def _bears(stressed: tuple[MarginFigures, MarginFigures], keep_ppm: int) -> bool:
    calm, shaken = stressed
    is_clear = shaken.cushion * PPM >= keep_ppm * shaken.sensitivity
    return calm.free_collateral >= 0 and shaken.cushion >= 0 and is_clear


def _most_steps(most: int, fits: Callable[[int], bool]) -> int:
    # Only a count that was tried and fits is returned, so rounding cannot make it unsafe.
    if fits(most):
        return most
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        if fits(middle):
            least = middle
        else:
            most = middle
    return least


class LeverageAdvice(msgspec.Struct, frozen=True, gc=False):
    """How far to lever one market on its own; `leverage` is None while it cannot be computed.

    `most` is what the initial margin allows at this open interest.
    """

    ticker: str
    leverage: float | None
    most: float | None
    reasons: tuple[str, ...]


def suggest_leverage(
    holding: Holding, *, keep_above: float, hours: float = 24.0, sigmas: float = 3.0
) -> LeverageAdvice:
    """Suggest a leverage at which `sigmas` deviations of `hours` do not liquidate.

    It keeps at least `keep_above` of distance, too, and no more than the initial margin allows.
    The side that needs more counts: a short, whose maintenance grows as the price rises.
    """
    _expect("keep_above", keep_above, least=0, below=1)
    _expect("hours", hours, above=0)
    _expect("sigmas", sigmas, least=0)
    ticker, objection = holding.ticker, holding.objection
    if objection:
        return LeverageAdvice(ticker, None, None, (objection,))
    fraction, words = _initial_fraction(holding)
    if fraction <= 0:
        lacking = f"{ticker}: expected an initial margin above 0, got {fraction} ppm"
        return LeverageAdvice(ticker, None, None, (lacking,))
    most, market, volatility = PPM / fraction, holding.market, holding.volatility
    if volatility is None:
        lacking = f"{ticker}: {_no_volatility(holding.volatility_1h)}"
        return LeverageAdvice(ticker, None, most, (words, lacking))
    swing = sigmas * volatility * sqrt(hours)
    distance = max(swing, keep_above)
    mmf = market.imf_ppm * market.maintenance_fraction_ppm / PPM / PPM
    borne = 1 / (mmf + distance * (1 + mmf)) if mmf + distance > 0 else inf
    kind = "the initial margin binds" if most <= borne else "the distance binds"
    swings = f"{sigmas:g} deviations of {hours:g} h are {share_text(swing)}"
    bears = f"distance {share_text(keep_above)}, maintenance {share_text(mmf)}: {borne:.1f} times"
    return LeverageAdvice(ticker, min(most, borne), most, (words, swings, bears, kind))


def _initial_fraction(holding: Holding) -> tuple[int, str]:
    market, interest = holding.market, holding.open_interest
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    base = max(market.imf_ppm, holding.chosen_imf_ppm)
    if not upper:
        return base, f"initial margin of {share_text(base / PPM)}, not scaled by open interest"
    if interest is None:
        return PPM, "initial margin of 100 %: open interest is unknown and counts as capped"
    whole = msgspec.structs.replace(holding, quantums=interest)
    value = abs(whole.margin().net_notional)
    scaled = max(adjusted_imf_ppm(market.imf_ppm, lower, upper, value), base)
    share = f"{share_text(value / upper)} of the upper cap"
    return scaled, f"initial margin of {share_text(scaled / PPM)} at {share}"


# === Positions ===
# What an account has in one market, and what is set aside for an order without an answer.


class Position(msgspec.Struct, gc=False, kw_only=True):
    """A perpetual position; `size` in base units, negative for a short.

    `entry_price` is None until its fills are reported. `quantums` is the same size on the chain's
    grid: None until the market is known.
    """

    ticker: str
    size: Decimal
    entry_price: Decimal | None
    quantums: int | None = None


class Reservation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Collateral set aside for an order that was sent and not answered yet.

    `effect` is what a fill at the order's worst price would make worse, figure by figure. What it
    would make better is left out: the fill may not come. `doubted` is an order that a node dropped
    unfilled: it may fill on another until `order.good_til_block` is past. `shut` is the chain's
    refusal if its market takes no orders, which the indexer may not have reported yet. `sent` is
    the height at which it went out. Of one that stands and has filled in part, `whole` is the
    effect of all of it.
    """

    order: OrderRequest
    order_id: str
    effect: MarginFigures
    verdict_id: str
    sent: int = 0
    doubted: bool = False
    shut: str = ""
    whole: MarginFigures | None = None

    @property
    def stands(self) -> bool:
        """Return whether it waits on the venue for its price: it shrinks nothing for certain."""
        return self.order.order_flags != SHORT_TERM

    def is_over(self, height: int, time_s: int) -> bool:
        """Return whether it can no longer fill; a height or a time of 0 is not known."""
        if self.stands:
            return 0 < self.order.good_til_block_time < time_s - _LATE_S
        return self.order.good_til_block < height

    def filled(self, state: OrderState) -> Self:
        """Return it as so much of the order has filled: that is in the account already."""
        if not (self.stands and 0 < state.filled < state.size):
            return self
        whole = self.effect if self.whole is None else self.whole
        left = Fraction(state.size - state.filled) / Fraction(state.size)
        figures = {name: _away_from_0(left * getattr(whole, name)) for name in _EFFECT}
        effect = msgspec.structs.replace(whole, **figures)
        return msgspec.structs.replace(self, whole=whole, effect=effect)


_EFFECT: Final = (
    "net_collateral", "initial_margin", "maintenance_margin", "notional", "sensitivity",
)  # fmt: skip
# What ended in a block is reported a little after it.
_LATE_S: Final = 10


def _away_from_0(value: Fraction) -> int:
    return ceil(value) if value > 0 else floor(value)


# How the reason of a refusal begins whose cause is the market's status.
_SHUT: Final = ("clob 34:", "clob 36:")
# And whose cause is how many were sent of late: another run's are not known, and tries count.
_CROWDED: Final = "clob 5001:"


# === Unsettled funding ===
# What passed hours will cost once the chain settles them: the rate of a view, at its price.

_TERMS: Final = FundingTerms()


def index_delta(
    view: MarketView, market: PerpetualMarket, hours: int, *, worst_for: int = 0
) -> int | None:
    """Return how far hours of the view's rate move a funding index; None while it is unknown.

    In ppm quote quantums per base quantum, at the view's oracle price, each hour truncated as the
    chain does it. With a position in `worst_for` an unknown rate is the one that costs it most.
    """
    if view.oracle is None or not (view.funding.known or worst_for):
        return None
    rate_8h_ppm = PPM * PPM if worst_for > 0 else -PPM * PPM
    if view.funding.known:
        rate_8h_ppm = funding_rate_8h_ppm(view.funding.next_rate_text)
    return hours * funding_index_delta(
        charged_rate(rate_8h_ppm, market, _TERMS), 3_600,
        view.oracle.digits, view.oracle.exponent, market.atomic_resolution,
    )  # fmt: skip


@dataclass(slots=True, eq=False)
class _Unsettled:
    """The funding of hours that passed since the chain last touched a subaccount.

    `ppm` is in 1e-6 quote quantums: whoever knows the markets adds to it. `hours_owed` are those,
    by ticker, that had no price to be computed with.
    """

    ppm: int = 0
    hours_owed: dict[str, int] = field(default_factory=dict)

    @property
    def quantums(self) -> int:
        """Return what the chain would credit (negative: take) if it settled funding now."""
        return funding_settlement([self.ppm])


# === Brackets ===
# What leaves a position by itself: reduce-only conditional orders that stand on the venue. Facts of
# them, and what they have to become; nothing here sends or judges.

BracketKind = Literal["STOP_LOSS", "TAKE_PROFIT"]
_KINDS: Final[tuple[BracketKind, ...]] = get_args(BracketKind)
# Grown step by step, a position is covered in pieces: no more of them than this.
_MOST_PIECES: Final = 3


class Levels(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a long or a short is left, in subticks, 0 for nowhere; "" is an earlier run's word."""

    is_long: bool
    stop_loss: int = 0
    take_profit: int = 0
    decision: str = ""

    def trigger(self, kind: BracketKind) -> int:
        """Return the price at which a bracket of this kind fires."""
        return self.stop_loss if kind == "STOP_LOSS" else self.take_profit


class StandingBracket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A bracket that was sent, or found of an earlier run.

    `left` are the quantums that it may still trade, `sent` is the height at which it went out,
    `seen` whether the venue has reported it. Its cancel went out `tries` times, last at the height
    `cancel_sent`.
    """

    order_id: str
    ticker: str
    kind: BracketKind
    side: Side
    trigger: int
    quantums: int
    left: int
    named: CancelRequest
    sent: int
    seen: bool = False
    cancel_sent: int = 0
    tries: int = 0

    @classmethod
    def of(cls, id_: str, order: OrderRequest, height: int) -> Self:
        """Return what stands of an order that was sent at a height."""
        return cls(
            order_id=id_, ticker=order.ticker, side=order.side, trigger=order.trigger_subticks,
            kind="STOP_LOSS" if order.condition_type == "STOP_LOSS" else "TAKE_PROFIT",
            quantums=order.quantums, left=order.quantums, named=cancel(order), sent=height,
        )  # fmt: skip

    @classmethod
    def found(cls, state: OrderState, market: PerpetualMarket, height: int) -> Self | None:
        """Return what stands of a reported order, None if it is no bracket."""
        row, named = state.row, state.named
        if row is None or named is None or named.order_flags != CONDITIONAL:
            return None
        if not row.reduce_only or row.side is None or not row.trigger_price:
            return None
        try:
            trigger = market.floor_subticks(row.trigger_price)
            left = market.floor_quantums(state.size - state.filled)
        except ConnError:
            return None
        takes = (row.type or "").startswith("TAKE_PROFIT")
        return cls(
            order_id=state.id, ticker=market.ticker, side=row.side, trigger=trigger,
            kind="TAKE_PROFIT" if takes else "STOP_LOSS", quantums=left, left=left,
            named=named, sent=height, seen=True,
        )  # fmt: skip

    def reported(self, state: OrderState) -> Self:
        """Return it as its venue reports it."""
        part = state.filled / state.size if state.size else Decimal(0)
        left = self.quantums - round(self.quantums * part)
        seen = self.seen or state.status in ("OPEN", "PARTIALLY_FILLED")
        return msgspec.structs.replace(self, left=left, seen=seen)


class Change(NamedTuple):
    """What has to become of a market's brackets: those to withdraw, and those to place."""

    withdraw: list[StandingBracket]
    place: list[tuple[BracketKind, int]]


def bracket_changes(
    held: int,
    levels: Levels | None,
    standing: Iterable[StandingBracket],
    kinds: Iterable[BracketKind] = _KINDS,
) -> Change:
    """Return what makes the brackets that stand cover what is held, and no more, at its levels.

    `held` is in signed quantums; what is placed, in unsigned ones. What fits stays where it is.
    Of other kinds than these nothing is judged.
    """
    change, size, side = Change([], []), abs(held), "SELL" if held > 0 else "BUY"
    meant = levels if levels is not None and held and levels.is_long == (held > 0) else None
    pieces = [*standing]
    for kind in kinds:
        trigger, covered, fits = meant.trigger(kind) if meant else 0, 0, list[StandingBracket]()
        for piece in (piece for piece in pieces if piece.kind == kind):
            as_meant = trigger == piece.trigger and side == piece.side
            if as_meant and covered + piece.left <= size:
                covered += piece.left
                fits.append(piece)
            else:
                change.withdraw.append(piece)
        if trigger and covered < size:
            if len(fits) >= _MOST_PIECES:
                change.withdraw.extend(fits)
                covered = 0
            change.place.append((kind, size - covered))
    return change


# === Account ===
# What a subaccount holds for margin and gate: the account updates of dydx_conn, and beside them
# what only this layer knows, what is reserved in flight and the funding of hours not settled yet.


class _AccountOrders:
    """What of a subaccount's orders is out: open, reserved in flight, or standing on the venue.

    All by order id: `open` as reported, `reserved` with what each does to the margin at worst.
    `brackets` stand on the venue, `failed` are those that ended unfilled and why, to be taken by
    who looks after them. `strays` are orders of ours that stand and that nothing here knows: an
    earlier run sent them, whose client ids are in `earlier`, or they were given up. `crowded` is
    the height at which one was refused for the account's pace, `time_s` the chain's clock.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self._subaccount = subaccount
        self.open: dict[str, OrderState] = {}
        self.reserved: dict[str, Reservation] = {}
        self.brackets: dict[str, StandingBracket] = {}
        self.failed: list[tuple[StandingBracket, str]] = []
        self.strays: dict[str, OrderState] = {}
        self.earlier: tuple[tuple[int, int], ...] = ()
        self.crowded: int | None = None
        self.time_s = 0
        self._stood: dict[int, None] = {}  # client ids of what this run let stand, newest last

    def take(self, state: OrderState, height: int) -> None:
        """Take in what became of an order, as it was reported at a height."""
        if state.final or state.leaving:
            self.open.pop(state.id, None)
        else:
            self.open[state.id] = state
        if state.reason.startswith(_CROWDED):
            self.crowded = height
        reservation = self.reserved.get(state.id)
        if reservation is None:
            self._stand(state)
            return
        if state.order is not None:
            # As it was sent: dated by the node's block, it may fill for longer.
            reservation = msgspec.structs.replace(reservation, order=state.order)
            self.reserved[state.id] = reservation
        if state.status in ("FILLED", "CANCELLED") or (reservation.stands and state.final):
            del self.reserved[state.id]
        elif reservation.stands:
            self.reserved[state.id] = reservation.filled(state)
        elif state.leaving or state.status == "REJECTED":
            # An order that a node dropped unfilled may have ended; one that it saw fill waits for
            # its block.
            # A market that takes no orders would refuse the next one as well: that can wait.
            shut = state.reason if state.reason.startswith(_SHUT) else ""
            doubted = not (state.filled or shut)
            reservation = msgspec.structs.replace(reservation, doubted=doubted, shut=shut)
            self.reserved[state.id] = reservation

    def _stand(self, state: OrderState) -> None:
        # What stands on the venue beside what is reserved: brackets, and what nobody here knows.
        bracket, named = self.brackets.get(state.id), state.named
        if bracket is not None and state.final:
            del self.brackets[state.id]
            if state.status != "FILLED" and not bracket.cancel_sent:
                self.failed.append((bracket, state.reason or state.status))
        elif bracket is not None:
            self.brackets[state.id] = bracket.reported(state)
        elif state.final or named is None or named.order_flags not in (CONDITIONAL, LONG_TERM):
            self.strays.pop(state.id, None)
        elif named.client_id in self._stood or is_of(named.client_id, self.earlier):
            self.strays[state.id] = state

    def remember(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Know the client ids of earlier runs: what of theirs still stands is looked after."""
        self.earlier = (*ranges,)

    def stand(self, order: OrderRequest) -> str:
        """Note that an order of ours goes out to stand on the venue; return its id."""
        self._stood[order.client_id] = None
        if len(self._stood) > _MOST_STOOD:
            del self._stood[next(iter(self._stood))]
        return order_id(self._subaccount, order)

    def reserve(
        self, order: OrderRequest, effect: MarginFigures, verdict_id: str, height: int
    ) -> None:
        """Note that an order goes out at a height, and what it does to the margin at worst."""
        id_ = order_id(self._subaccount, order)
        if order.order_flags != SHORT_TERM:
            self.stand(order)
        self.reserved[id_] = Reservation(
            order=order, order_id=id_, effect=effect, verdict_id=verdict_id, sent=height
        )

    @property
    def stateful(self) -> int:
        """Return how many orders of the account stand on the venue, or are on their way there."""
        sent = {i for i, held in self.reserved.items() if held.stands} | self.brackets.keys()
        return len(sent | {i for i, state in self.open.items() if _is_stateful(state)})

    @property
    def resting(self) -> list[OrderState]:
        """Return the open orders that somebody else sent."""
        return [state for state in self.open.values() if self._is_anothers(state)]

    def _is_anothers(self, state: OrderState) -> bool:
        ours = state.id in self.reserved or state.id in self.brackets
        return state.order is None and not ours

    def in_flight(self, ticker: str) -> list[Reservation]:
        """Return what is reserved in a market."""
        return [held for held in self.reserved.values() if held.order.ticker == ticker]

    def expire(self, height: int) -> None:
        """Drop, at a block, the orders without an answer that can no longer fill."""
        reserved, time_s = self.reserved, self.time_s
        self.reserved = {i: r for i, r in reserved.items() if not r.is_over(height, time_s)}


# More than the venue lets stand, whose ends are reported within minutes.
_MOST_STOOD: Final = 1_024


def _is_stateful(state: OrderState) -> bool:
    return state.named is not None and state.named.order_flags != SHORT_TERM


class Account:
    """One subaccount: collateral, positions, orders, and the funding of hours not settled yet.

    `trouble` is empty, or the reason why the account is not known for certain; what is known
    stays all the same, and `unreadable` names the positions of unknown size. `polled` is set
    while REST is queried because sockets fail: what is known is then as old as `at`. `transferred`
    is what was paid in since the start, `profit` what it did since its first snapshot,
    `unexplained` what of the balance has no reported cause yet. An update with `settled` clears
    what is `unsettled`. `by_hand` are the markets that somebody else trades in.
    """

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.collateral = self.transferred = self.unexplained = 0
        self.profit = Profit()
        self.unsettled = _Unsettled()
        self.positions: dict[str, Position] = {}
        self.unreadable: set[str] = set()
        self.orders = _AccountOrders(subaccount)
        self.by_hand: set[str] = set()
        self.height = self.seq = self.at = 0
        self.trouble, self.polled = "no account snapshot yet", False

    def take(self, update: AccountUpdate) -> bool:
        """Take an update in; return whether it is of this account."""
        if update.subaccount != self.subaccount:
            return False
        self.seq, self.at = update.seq, update.at
        self.trouble, self.polled = update.doubt, update.polled
        self.unreadable = set(update.unreadable)
        for position in update.positions:
            self._hold(position)
        if update.collateral is not None:
            self.collateral = update.collateral
        if update.settled:
            self.unsettled = _Unsettled()
        self.transferred += update.profit.transferred - self.profit.transferred
        self.unexplained, self.profit = update.unexplained, update.profit
        for order in update.orders:
            self.orders.take(order, self.height)
        self.expire(update.height)
        if self.by_hand:
            resting = {x.named.ticker for x in self.orders.resting if x.named is not None}
            self.by_hand &= self.positions.keys() | self.unreadable | resting
        return True

    def _hold(self, state: PositionState) -> None:
        if not state.size:
            self.positions.pop(state.ticker, None)
            return
        self.positions[state.ticker] = Position(
            ticker=state.ticker, size=state.size, entry_price=state.entry_price or None
        )

    @property
    def is_in_doubt(self) -> bool:
        """Return whether the equity is: a balance may be reported before its cause."""
        return bool(self.trouble or self.unexplained)

    @property
    def settled(self) -> int:
        """Return the collateral as it were if the chain settled funding now."""
        return self.collateral + self.unsettled.quantums

    def expire(self, height: int, time_s: int = 0) -> None:
        """Move to a block; drop the orders without an answer that can no longer fill."""
        self.orders.time_s = max(self.orders.time_s, time_s)
        if height > self.height:
            self.height = height
            self.orders.expire(height)


# === Candidates ===

# One immediate-or-cancel order before it is judged: its grid, its worst price, and what the
# account would be once it filled. It is not sent from here.


# Ten seconds of a history in which nothing happens, at two blocks a second.
_MODELLED_BLOCKS: Final = 20


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An IOC before it is judged: unsigned `size` on the grid, `subticks` the worst price."""

    market: PerpetualMarket
    view: MarketView
    side: Side
    size: int
    subticks: int

    @property
    def delta(self) -> int:
        """Return the signed change of the position."""
        return self.size if self.side == "BUY" else -self.size

    def standing(
        self, client_id: int, until_s: int, kind: ConditionType = "", trigger: int = 0
    ) -> OrderRequest:
        """Return the order that waits for its price until a second, by the chain's clock.

        Without a trigger it rests, post-only; of a `kind` it takes once that price has come.
        """
        return OrderRequest(
            ticker=self.market.ticker, clob_pair_id=self.market.clob_pair_id, side=self.side,
            quantums=self.size, subticks=self.subticks, client_id=client_id,
            time_in_force="IOC" if kind else "POST_ONLY",
            order_flags=CONDITIONAL if kind else LONG_TERM, good_til_block_time=until_s,
            condition_type=kind, trigger_subticks=trigger,
        )  # fmt: skip

    @property
    def worst_quote(self) -> int:
        """Return what it trades for at its worst price."""
        return self.market.quote_quantums(self.size, self.subticks)

    @property
    def words(self) -> str:
        """Return in words what it does."""
        bound = "<=" if self.side == "BUY" else ">="
        size = amount_text(self.market.size(self.size))
        price = amount_text(self.market.price(self.subticks))
        return f"{self.side.lower()} {size} {self.market.ticker} at {bound} {price}"

    def is_beyond(self, level: Level) -> bool:
        """Return whether a level of the side that it takes is worse than its worst price."""
        subticks = next((subticks for subticks, _ in on_grid(self.market, [level])), self.subticks)
        return subticks > self.subticks if self.side == "BUY" else subticks < self.subticks

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

    def request(self, client_id: int, *, good_til_blocks: int, reduce_only: bool) -> OrderRequest:
        """Return the order to send, good for so many blocks after the one that the view knows.

        By a modelled book it is good for as long as the next look at that may take.
        """
        if self.view.book.modelled:
            good_til_blocks = max(good_til_blocks, _MODELLED_BLOCKS)
        return OrderRequest(
            ticker=self.market.ticker,
            clob_pair_id=self.market.clob_pair_id,
            side=self.side,
            quantums=self.size,
            subticks=self.subticks,
            time_in_force="IOC",
            client_id=client_id,
            reduce_only=reduce_only,
            good_til_block=self.view.chain.height + good_til_blocks,
        )

    def after(
        self, margin: MarginFigures, held: int, quote: int, fee_ppm: int, interest: int | None
    ) -> MarginFigures:
        """Return an account's margin once it has traded for `quote`, its fee paid.

        `held` is the signed position that it finds, `interest` the open interest that `margin`
        was computed with. Without an oracle price only the cash counts.
        """
        oracle, market, cash = self.view.oracle, self.market, quote
        cash = (quote if self.side == "SELL" else -quote) - mul_ppm(quote, fee_ppm, round_up=True)
        if oracle is not None:
            price = oracle.digits, oracle.exponent
            old = position_margin(market, held, *price, interest)
            # The match itself may raise the open interest, and with it the fraction.
            interest = None if interest is None else interest + self.size
            new = position_margin(market, held + self.delta, *price, interest)
            margin = exchanged(margin, old, new)
        return msgspec.structs.replace(margin, net_collateral=margin.net_collateral + cash)


def ioc(
    view: MarketView, market: PerpetualMarket, delta: int, bps: int, oracle_bps: int | None = None
) -> Candidate | None:
    """Make an IOC of a signed size, rounded toward less, at most `bps` beyond the best price.

    Nor is its price more than `oracle_bps` worse than the oracle price, where both are known; it is
    at least one tick. Without a book the oracle price stands in for the best one. None without
    either, and where the price does not fit an order.
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
            continue  # a price that no order can have: it was cut to one
        if oracle_bps is not None and (oracle := view.oracle) is not None and oracle.digits > 0:
            bound = worst_subticks(market, oracle.digits, oracle.exponent, oracle_bps, delta > 0)
            worst = min(worst, bound) if delta > 0 else max(worst, bound)
        size = abs(delta) - abs(delta) % market.step_base_quantums
        return Candidate(market, view, side, size, worst)
    return None


def on_grid(market: PerpetualMarket, levels: Iterable[Level]) -> Iterator[tuple[int, int]]:
    """Yield the subticks and quantums of levels; not of those at which no order can trade."""
    # From floats, which hold a level of any real market exactly: parsing the text would take longer
    # than all the rest.
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


def slipped(
    market: PerpetualMarket, price: int, bps: int, buys: bool, over: int = 1, whole: int = 10_000
) -> int:
    """Return what is `bps` worse than `price / over` subticks, to the tick, toward the better.

    With another `whole`, `bps` are parts of that. The result fits an order: at least one tick, and
    within 64 bits.
    """
    tick, unit = market.subticks_per_tick, whole * over
    limit = price * (whole + bps if buys else whole - bps)
    ticks = limit // (unit * tick) if buys else -(-limit // (unit * tick))
    return min(max(ticks, 1), MOST_SUBTICKS // tick) * tick


# === Flight values ===

# Values alone: the policy, the rungs of a ladder, a position's exit with its cost, and the plan of
# all. They are computed in Exits, Ladder and Plan.


Cause = Literal["DISTANCE", "DAILY_LOSS", "DRAWDOWN", "LEVERAGE"]


class FlightPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """When to leave and how; `act_below` and `restore_to` are distances to liquidation.

    `restore_to` is defended: a move that takes it is given way to step by step, and below
    `act_below` nothing is left (see Guard). A position leaves in at most `cuts` cuts. An order
    takes the first `levels` of a book, no farther than `reach_bps` from the best price. Its worst
    price is `chase` of the way to liquidation, at most of `act_below`, beyond the oracle price or
    the last level that it needs, whichever is farther; or `slippage_bps` beyond that level, but
    never so far that a fill would bring no relief. `haircut_bps`, but no more than half the
    maintenance margin, is taken from the oracle where no book is known.
    """

    act_below: float = 0.06
    restore_to: float = 0.10
    cuts: int = 4
    levels: int = 25
    slippage_bps: int = 100
    reach_bps: int = 300
    haircut_bps: int = 300
    chase: float = 0.75
    taker_fee_ppm: int = 500
    terms: LiquidationTerms = LiquidationTerms()

    def __post_init__(self) -> None:
        """Refuse, as `RiskError`, what could not be flown."""
        if not 0 < self.act_below < self.restore_to < 1:
            distances = self.act_below, self.restore_to
            raise RiskError(f"expected 0 < act_below < restore_to < 1, got {distances}")
        if self.cuts < 1 or self.levels < 1:
            raise RiskError(f"expected a cut and a level, got {self.cuts} and {self.levels}")
        for name in ("slippage_bps", "reach_bps", "haircut_bps"):
            if not 0 <= getattr(self, name) < 10_000:
                raise RiskError(f"expected 0 <= {name} < 10,000, got {getattr(self, name)}")
        if self.taker_fee_ppm < 0:
            raise RiskError(f"expected taker_fee_ppm of 0 or more, got {self.taker_fee_ppm}")
        if not 0 <= self.chase < 1:
            raise RiskError(f"expected 0 <= chase < 1, got {self.chase}")


class Rung(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One reduce-only IOC order and what it is for.

    `quantums` is unsigned, `held` the signed position that it finds, `subticks` its worst
    price. `quote` is what it trades for on the present book; `spread`, `impact` and `fee` are
    its `cost`, `loss` what it takes from net collateral at the oracle price. When all rungs before
    it have filled, it moves the distance from `before` to `restores`, which is inf if nothing is
    held then.

    `offered` is how much of it the book shows at no worse than the worst price: the rest may stay.
    `worst_loss` is the `loss` of a fill of all of it at that price.

    `liquidation_cost` is what the same size would cost if the chain liquidated it, in parts of
    `liquidation_quantums` a block, at the highest fee. `blind` is why the book does not count,
    empty if it does. `depth_share` is the part of the visible depth that leaving the position
    takes, inf where none is visible.
    """

    market: PerpetualMarket
    side: Side
    quantums: int
    held: int
    subticks: int
    quote: int
    spread: int
    impact: int
    fee: int
    loss: int
    before: float
    restores: float
    fires_below: float
    depth_share: float
    liquidation_quantums: int
    liquidation_cost: int
    offered: int = 0
    worst_loss: int = 0
    blind: str = ""

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.market.ticker

    @property
    def cost(self) -> int:
        """Return what it costs in quote quantums: spread, impact and fee."""
        return self.spread + self.impact + self.fee

    @property
    def delta(self) -> int:
        """Return the signed change of the position."""
        return self.quantums if self.side == "BUY" else -self.quantums

    @property
    def words(self) -> str:
        """Return in words what it does."""
        market, bound = self.market, "<=" if self.side == "BUY" else ">="
        part = "all" if self.delta == -self.held else f"of {_size(market, abs(self.held))}"
        return (
            f"{self.side.lower()} {_size(market, self.quantums)} {self.ticker} ({part}) at {bound} "
            f"{amount_text(market.price(self.subticks))}"
        )

    @property
    def ends(self) -> str:
        """Return in words how it ends, what it costs, and what doing nothing would cost."""
        end = (
            "leaves nothing" if self.restores == inf else f"restores {percent_text(self.restores)}"
        )
        return (
            f"{end}, costs {usdc_text(self.cost)} USDC (spread {usdc_text(self.spread)}, impact "
            f"{usdc_text(self.impact)}, fee {usdc_text(self.fee)}){self._given_up}; liquidated, "
            f"{_size(self.market, self.liquidation_quantums)} a block, the same would cost up to "
            f"{usdc_text(self.liquidation_cost)}"
        )

    @property
    def _given_up(self) -> str:
        most = f", at that bound {usdc_text(self.worst_loss)}"
        if self.blind:
            return f", blind ({self.blind}): the oracle less a haircut{most}"
        if self.offered >= self.quantums:
            return most
        rest = _size(self.market, self.quantums - self.offered)
        return f"{most}; {rest} of it is not offered within the bound and may stay"


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A part of an exit, from `start` to `end` of its size: what it costs and relieves.

    `maintenance`, `sensitivity` and `notional` are what the account's own fall by.
    """

    start: int
    end: int
    quote: int
    spread: int
    impact: int
    fee: int
    loss: int
    maintenance: int
    sensitivity: int
    notional: int
    cost: int  # spread, impact and fee


class Exit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position's way out, costed on its book; `replan` uses it again where nothing moved.

    `size` is the unsigned quantums that orders can close, `shown` the levels that they would
    take: size and quote up to and with each, and its subticks. What is not shown trades at
    `bound`. `double_mid` is the sum of the best bid and the best ask.
    """

    market: PerpetualMarket
    held: int
    price: int
    exponent: int
    size: int
    fee_ppm: int
    bound: int
    best: int = 0
    double_mid: int = 0
    shown: tuple[tuple[int, int, int], ...] = ()
    depth_share: float = inf
    liquidation_quantums: int = 0
    cuts: tuple[Cut, ...] = ()
    blind: str = ""

    @property
    def ticker(self) -> str:
        """Return the market's ticker."""
        return self.market.ticker


class Stuck(msgspec.Struct, frozen=True, gc=False):
    """A position that no order can reduce, and why; without figures unless it is `known`.

    `shut` is what it is worth, in quote quantums, where its market takes no orders: what cannot be
    closed until the status is another.
    """

    ticker: str
    why: str
    known: bool = False
    shut: int = 0


class Step(msgspec.Struct, frozen=True, gc=False):
    """How far to go back, and below which distance.

    `share` of what is held may stay. `below` is inf where it is due at any distance; `why` has the
    figures in words.
    """

    below: float
    share: float
    cause: Cause = "DISTANCE"
    why: str = ""


def is_whole(step: Step | None) -> bool:
    """Return whether nothing may stay."""
    return step is not None and not step.share


class FlightPlan(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The ladder, cheapest relief first, and what it would come to.

    All of it is due at once, below `step.below`. `distance_now` is None if it is unknown or nothing
    is held. `distance_next` is what the next two blocks may leave of it, over all that could be
    valued; rungs are `due` by it. `drawn_at` is the distance that the rungs start from: the present
    one, or where they would fire if that is nearer. `distance_after` and `cost` are after all
    rungs. `unknown` names the positions that have no figure at all, `left` those that have no
    (further) way out, and why.
    """

    policy: FlightPolicy = FlightPolicy()
    step: Step | None = None
    rungs: tuple[Rung, ...] = ()
    distance_now: float | None = None
    distance_next: float | None = None
    drawn_at: float | None = None
    distance_after: float | None = None
    cost: int = 0
    unknown: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    exits: tuple[Exit | Stuck, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Return whether all rungs restore what the policy requires, or leave nothing held."""
        after = self.distance_after
        return not self.unknown and (after is None or after >= self.policy.restore_to)

    @property
    def shut(self) -> tuple[Stuck, ...]:
        """Return what cannot be closed because its market takes no orders."""
        return tuple(one for one in self.exits if isinstance(one, Stuck) and one.shut)

    @property
    def fires_below(self) -> float | None:
        """Return the distance below which the first rung is due; None without a rung."""
        return self.rungs[0].fires_below if self.rungs else None

    @property
    def why(self) -> str:
        """Return in words how far liquidation is, what the ladder does about it, and cannot do."""
        parts = [f"distance {percent_text(self.distance_now)}" if self.exits else "nothing is held"]
        if self.rungs:
            after = self.distance_after
            end = "to nothing held" if after == inf else f"to {percent_text(after)}"
            count = f"{len(self.rungs)} step{'s' * (len(self.rungs) > 1)}"
            ends = f"from {percent_text(self.drawn_at)} {end}, the first below"
            cost = f"{percent_text(self.fires_below)}, cost {usdc_text(self.cost)} USDC"
            parts.append(f"{count} {ends} {cost}")
        if self.unknown:
            parts.append(f"unknown: {', '.join(self.unknown)}")
        parts += [f"{ticker} stays: {why}" for ticker, why in self.left]
        return "; ".join(parts)


def _size(market: PerpetualMarket, quantums: int) -> str:
    return amount_text(market.size(quantums))


# === Exits ===

# One position, one book: how much can leave, in which cuts, and what each costs. The objections of
# dydx_data stop an exit; without an oracle price none can be computed.


def _exit(
    ticker: str, quantums: int | None, view: MarketView | None, policy: FlightPolicy
) -> Exit | Stuck:
    market = view.market if view is not None else None
    if view is None or market is None:
        return Stuck(ticker, "the market is not known")
    if quantums is None:
        return Stuck(ticker, "its size is not known")
    oracle = view.oracle
    if oracle is None or oracle.digits <= 0:
        was = "unknown" if oracle is None else oracle.text
        return Stuck(ticker, f"expected a positive oracle price, got {was}")
    if stops := stopping(view, "guard"):
        why = f"{stops[0].why}: no IOC is taken"
        return Stuck(ticker, why, known=True, shut=_worth(market, quantums, oracle))
    step = market.step_base_quantums
    size = min(abs(quantums), MOST_SUBTICKS) // step * step
    if not size:
        least = f"less than one step of {_size(market, step)}"
        return Stuck(ticker, f"{_size(market, abs(quantums))} is {least}", known=True)
    # Sent blind it fills only where it brings relief: count on half of what leaving frees.
    freed = market.imf_ppm * market.maintenance_fraction_ppm * 10_000 // PPM // PPM
    haircut = min(policy.haircut_bps, max(freed // 2, 1))
    bound = worst_subticks(market, oracle.digits, oracle.exponent, haircut, quantums < 0)
    way = Exit(
        market=market, held=quantums, price=oracle.digits, exponent=oracle.exponent, size=size,
        fee_ppm=policy.taker_fee_ppm, bound=bound, blind=_blindness(view),
    )  # fmt: skip
    try:
        return _costed(way if way.blind else _on_book(way, view.book, policy), policy)
    except RiskError as error:  # a figure beyond what the chain can hold
        return Stuck(ticker, str(error))


def _worth(market: PerpetualMarket, quantums: int, oracle: Oracle) -> int:
    try:
        return abs(position_margin(market, quantums, oracle.digits, oracle.exponent).net_notional)
    except MarginError:  # beyond what the chain can hold
        return 0


def _costed(way: Exit, policy: FlightPolicy) -> Exit:
    market, step = way.market, way.market.step_base_quantums
    takes = abs(liquidation_size(market, way.held, way.price, way.exponent, policy.terms))
    # Equal cuts on the grid; where there are fewer steps, each is one.
    steps, count = way.size // step, min(policy.cuts, way.size // step)
    borders = [_border(way, steps * n // count * step) for n in range(count + 1)]
    cuts = tuple(_between(way, *ends) for ends in pairwise(borders))
    return msgspec.structs.replace(way, liquidation_quantums=takes, cuts=cuts)


def _blindness(view: MarketView) -> str:
    return next((objection.why for objection in stopping(view, "book")), "")


def _on_book(way: Exit, book: Book, policy: FlightPolicy) -> Exit:
    market, buys = way.market, way.held < 0
    levels = book.asks(policy.levels) if buys else book.bids(policy.levels)
    across = book.best_bid if buys else book.best_ask
    tradable = list(on_grid(market, levels))
    opposite = next(on_grid(market, [across] if across is not None else []), None)
    if not tradable or opposite is None:
        return msgspec.structs.replace(way, blind="no level of the book is on the grid")
    best = tradable[0][0]
    bound = slipped(market, best, policy.reach_bps, buys)
    depth = size = quote = 0
    shown: list[tuple[int, int, int]] = []
    for subticks, quantums in tradable:
        if subticks > bound if buys else subticks < bound:
            break
        depth += quantums
        if size < way.size:
            size += quantums
            quote += market.quote_quantums(quantums, subticks)
            shown.append((size, quote, subticks))
    return msgspec.structs.replace(
        way, bound=bound, best=best, double_mid=best + opposite[0], shown=tuple(shown),
        depth_share=way.size / depth,
    )  # fmt: skip


class _Border(msgspec.Struct, frozen=True, gc=False):
    """How it stands when so much has left: what that traded for, what is held and required."""

    left: int
    quote: int
    value: int
    required: int


def _border(way: Exit, left: int) -> _Border:
    held = way.held + left if way.held < 0 else way.held - left
    terms = position_margin(way.market, held, way.price, way.exponent)
    return _Border(left, _exit_quote(way, left), abs(terms.net_notional), terms.maintenance_margin)


def _cut(way: Exit, start: int, end: int) -> Cut:
    return _between(way, _border(way, start), _border(way, end))


def _between(way: Exit, start: _Border, end: _Border) -> Cut:
    market, size, quote = way.market, end.left - start.left, end.quote - start.quote
    value, required = start.value - end.value, start.required - end.required
    fee = mul_ppm(quote, way.fee_ppm, round_up=True)
    best = middle = value
    if not way.blind:
        best = market.quote_quantums(size, way.best)
        middle = market.quote_quantums(size, way.double_mid) // 2
    # A short leaves dearer: the same figures with the other sign.
    sign = -1 if way.held < 0 else 1
    spread, impact = max(sign * (middle - best), 0), max(sign * (best - quote), 0)
    return Cut(
        start=start.left,
        end=end.left,
        quote=quote,
        spread=spread,
        impact=impact,
        fee=fee,
        loss=max(sign * (value - quote), 0) + fee,
        maintenance=required,
        sensitivity=value - sign * required,
        notional=value,
        cost=spread + impact + fee,
    )


def _exit_quote(way: Exit, size: int) -> int:
    """Return what so much of the exit trades for, from the best level on."""
    level = bisect_left(way.shown, (size,))
    above, quote, _ = way.shown[level - 1] if level else (0, 0, 0)
    subticks = way.shown[level][2] if level < len(way.shown) else way.bound
    return quote + way.market.quote_quantums(size - above, subticks)


# === Ladder ===

# Which cut comes next: the one that gains the most distance per USDC of cost. It orders what
# Exits costed, and reads no book.


class _Stand(msgspec.Struct, frozen=True, gc=False):
    """Where the account would stand: what makes its distance, and what two blocks may take."""

    cushion: int
    sensitivity: int
    notional: int
    fall: int

    @property
    def distance(self) -> float:
        return self._away(self.cushion)

    @property
    def distance_next(self) -> float:
        """Return the distance that the next two blocks may leave."""
        return self._away(self.cushion - self.fall)

    def _away(self, cushion: int) -> float:
        # Nothing held, or maintenance of 100 %: no price can help or hurt. To end in debt is no
        # way out, and the chain would not let such a fill happen.
        if not self.notional or self.sensitivity <= 0:
            return inf if cushion >= 0 else -inf
        return cushion / self.sensitivity

    def after(self, cut: Cut) -> "_Stand":
        return _Stand(
            self.cushion + cut.maintenance - cut.loss,
            self.sensitivity - cut.sensitivity,
            self.notional - cut.notional,
            self.fall,
        )


def _draw(
    margin: MarginFigures, exits: tuple[Exit | Stuck, ...], policy: FlightPolicy, fall: int,
    step: Step | None,
) -> FlightPlan:  # fmt: skip
    ways = [exit_ for exit_ in exits if isinstance(exit_, Exit)]
    none = [exit_ for exit_ in exits if isinstance(exit_, Stuck)]
    unknown = sorted({*margin.unknown, *(stuck.ticker for stuck in none if not stuck.known)})
    stuck = [(stuck.ticker, stuck.why) for stuck in none]
    if not margin.notional:
        left = tuple(stuck)
        return FlightPlan(policy=policy, unknown=tuple(unknown), left=left, exits=exits)
    below = policy.act_below if step is None else step.below
    stand = start = _first_stand(margin, below, fall)
    goal = _goal(margin, start, policy, step)
    climbed: list[tuple[Exit, Cut, _Stand]] = []
    ahead = {way.ticker: (way, way.cuts) for way in ways if way.cuts}
    while stand.distance_next < goal and (best := _cheapest(stand, ahead.values())):
        way, cut = best
        if stand.after(cut).distance_next >= goal:
            cut = _just_enough(stand, way, cut, goal)
        stand = stand.after(cut)
        climbed.append((way, cut, stand))
        rest = ahead[way.ticker][1][1:]
        if rest:
            ahead[way.ticker] = way, rest
        else:
            del ahead[way.ticker]
    if stand.distance_next < goal:
        stuck += [_costly(way, cuts[0].start) for way, cuts in ahead.values()]
    return FlightPlan(
        policy=policy,
        step=step,
        rungs=_rungs(start, climbed, policy, below),
        distance_now=None if unknown else margin.distance,
        distance_next=_Stand(
            margin.cushion, margin.sensitivity, margin.notional, fall
        ).distance_next,
        drawn_at=start.distance,
        distance_after=stand.distance,
        cost=sum(cut.cost for _, cut, _ in climbed),  # integers
        unknown=tuple(unknown),
        left=tuple(sorted(stuck)),
        exits=exits,
    )


def _first_stand(margin: MarginFigures, below: float, fall: int) -> _Stand:
    cushion, sensitivity = margin.cushion, margin.sensitivity
    if sensitivity > 0 and below < 1:
        fires = mul_ppm(sensitivity, int(below * PPM), round_up=False)
        cushion = min(cushion, fires + fall)
    return _Stand(cushion, sensitivity, margin.notional, fall)


def _goal(margin: MarginFigures, start: _Stand, policy: FlightPolicy, step: Step | None) -> float:
    """Return the distance to reach: that of an account which holds only the step's share."""
    if step is None:
        return policy.restore_to
    if step.share <= 0:
        return inf
    required = margin.maintenance_margin
    equity, share = start.cushion + required, step.share
    return max((equity - share * required) / max(share * start.sensitivity, 1), policy.restore_to)


def _cheapest(
    stand: _Stand, ahead: Iterable[tuple[Exit, tuple[Cut, ...]]]
) -> tuple[Exit, Cut] | None:
    # The hot path of a plan: as `after(cut).distance` has it, without making a stand.
    cushion, sensitivity, notional = stand.cushion, stand.sensitivity, stand.notional
    before, most, most_gain, found = stand.distance, 0.0, 0.0, None
    for way, cuts in ahead:
        cut = cuts[0]
        left, cost = sensitivity - cut.sensitivity, cut.cost
        if left > 0 and cut.notional != notional:
            gain = (cushion + cut.maintenance - cut.loss) / left - before
        else:
            gain = stand.after(cut).distance - before
        if gain > 0:
            worth = gain / cost if cost else inf
            if worth > most or (worth == most and gain > most_gain):
                most, most_gain, found = worth, gain, (way, cut)
    return found


def _just_enough(stand: _Stand, way: Exit, cut: Cut, goal: float) -> Cut:
    if goal == inf:
        return cut
    # The distance rises with the size up to one peak and falls after it, so there is one least size
    # that is enough, and `cut` is beyond it. Rounded up by a step: the distance must be reached.
    step = way.market.step_base_quantums
    low, high, enough = 0, (cut.end - cut.start) // step, cut
    while high - low > 1:
        middle = (low + high) // 2
        part = _cut(way, cut.start, cut.start + middle * step)
        if stand.after(part).distance_next >= goal:
            high, enough = middle, part
        else:
            low = middle
    return enough


def _costly(way: Exit, done: int) -> tuple[str, str]:
    rest = _cut(way, done, way.size)
    cost, relief = usdc_text(rest.loss), usdc_text(rest.maintenance)
    return way.ticker, f"leaving costs {cost} USDC and relieves {relief} of maintenance margin"


def _rungs(
    start: _Stand, climbed: list[tuple[Exit, Cut, _Stand]], policy: FlightPolicy, below: float
) -> tuple[Rung, ...]:
    rungs: list[Rung] = []
    away = min(max(start.distance, 0.0), 1.0)
    ways = {way.ticker: way for way, _, _ in climbed}
    limits = {ticker: _limits(way, away, policy) for ticker, way in ways.items()}
    before = [start, *(stand for _, _, stand in climbed)]
    for (way, cut, stand), earlier in zip(climbed, before, strict=False):
        reach = earlier.distance, stand.distance
        worst = _worst(way, cut.end, *limits[way.ticker], policy)
        rungs.append(_rung(way, cut, reach, below, worst, policy))
    return tuple(rungs)


def _rung(
    way: Exit, cut: Cut, reach: tuple[float, float], fires_below: float, worst: int,
    policy: FlightPolicy,
) -> Rung:  # fmt: skip
    buys = way.held < 0
    penalty = mul_ppm(cut.quote, policy.terms.max_liquidation_fee_ppm, round_up=True)
    at_worst = way.market.quote_quantums(cut.end - cut.start, worst)
    return Rung(
        market=way.market,
        side="BUY" if buys else "SELL",
        quantums=cut.end - cut.start,
        held=way.held + cut.start if buys else way.held - cut.start,
        subticks=worst,
        quote=cut.quote,
        spread=cut.spread,
        impact=cut.impact,
        fee=cut.fee,
        loss=cut.loss,
        before=reach[0],
        restores=reach[1],
        fires_below=fires_below,
        depth_share=way.depth_share,
        liquidation_quantums=way.liquidation_quantums,
        # It meets the same book, pays no taker fee, and the highest fee of a liquidation.
        liquidation_cost=cut.spread + cut.impact + penalty,
        offered=_offered(way, cut.start, cut.end, worst),
        worst_loss=cut.loss + max(at_worst - cut.quote if buys else cut.quote - at_worst, 0),
        blind=way.blind,
    )


def _limits(way: Exit, away: float, policy: FlightPolicy) -> tuple[int, int]:
    """Return how far a running market is followed at a distance from liquidation, and at most.

    A fill relieves as long as it loses less than the maintenance margin that it frees, and what
    the distance is worth; what is offered only beyond that is given up.
    """
    mmf = way.market.imf_ppm * way.market.maintenance_fraction_ppm / PPM / PPM
    # The fee of a purchase is the greater, the dearer it is.
    fee = policy.taker_fee_ppm / PPM
    relieves = (mmf + away * (1 + mmf if way.held < 0 else 1 - mmf) - fee) / (1 + fee)
    # Far from liquidation there is no hurry that would be worth more.
    followed = mmf + policy.chase * min(away, policy.act_below)
    return _from_oracle(way, followed), _from_oracle(way, relieves)


def _worst(way: Exit, end: int, followed: int, last: int, policy: FlightPolicy) -> int:
    """Return the worst price of an order that takes so much: what it needs, or `followed`."""
    level, buys = bisect_left(way.shown, (end,)), way.held < 0
    deepest = way.shown[level][2] if level < len(way.shown) else way.bound
    # A book that is ahead of the oracle runs on as well.
    runs = min(int(10_000 * policy.chase * policy.act_below), 9_999)
    needed = slipped(way.market, deepest, max(policy.slippage_bps, runs), buys)
    return min(max(needed, followed), last) if buys else max(min(needed, followed), last)


def _from_oracle(way: Exit, share: float) -> int:
    bps = min(max(int(10_000 * share), 0), 9_999)
    return worst_subticks(way.market, way.price, way.exponent, bps, way.held < 0)


def _offered(way: Exit, start: int, end: int, worst: int) -> int:
    """Return how much of a part of an exit the book shows at no worse than a price."""
    buys, within = way.held < 0, 0
    for size, _, subticks in way.shown:
        if subticks > worst if buys else subticks < worst:
            break
        within = size
    return max(min(end, within) - start, 0)


# === Plan ===

# A plan drawn, drawn again where something moved, and what of it is due. It fires nothing.


def plan(
    margin: MarginFigures,
    positions: Mapping[str, int | None],
    views: Mapping[str, MarketView],
    policy: FlightPolicy | None = None,
    *,
    fall: int = 0,
    waiting: Collection[str] = (),
    step: Step | None = None,
) -> FlightPlan:
    """Draw the ladder of an account: its margin, its positions and their markets.

    `margin` is the account's, over every position that could be valued; `positions` are signed
    quantums by ticker, None where the grid is not known. A view is read, never stored. `fall` is
    what the next two blocks may take from the cushion, in quote quantums. `waiting` are tickers
    with a reduction that was not answered yet: the ladder restores the distance without them.
    Without a `step` it fires below the policy's `act_below` and goes back to its `restore_to`.
    """
    empty = FlightPlan(policy=policy) if policy is not None else FlightPlan()
    return replan(empty, margin, positions, views, fall=fall, waiting=waiting, step=step)


def replan(
    old: FlightPlan,
    margin: MarginFigures,
    positions: Mapping[str, int | None],
    views: Mapping[str, MarketView],
    *,
    fall: int = 0,
    waiting: Collection[str] = (),
    step: Step | None = None,
) -> FlightPlan:
    """Draw it again after some markets or positions moved; the result is the same as `plan`'s.

    `positions` names those whose size, book, oracle price or status may have changed, and those
    that began or ceased to wait; 0 is closed. `views` has their markets. All others stay as they
    were costed.
    """
    policy, exits = old.policy, {exit_.ticker: exit_ for exit_ in old.exits}
    for ticker, quantums in positions.items():
        exits.pop(ticker, None)
        if ticker in waiting:
            exits[ticker] = Stuck(ticker, "its reduction has no answer yet", known=True)
        elif quantums != 0:
            exits[ticker] = _exit(ticker, quantums, views.get(ticker), policy)
    return _draw(margin, tuple(exits[ticker] for ticker in sorted(exits)), policy, fall, step)


def due(plan: FlightPlan, distance: float | None) -> tuple[Rung, ...]:
    """Return the rungs to fire at this distance, in order: a rung never before a cheaper one.

    A distance of None is unknown, hence danger: every rung is due. The caller may first wait for
    the figure, as at the start of a run.
    """
    near = -inf if distance is None else distance
    return tuple(rung for rung in plan.rungs if near < rung.fires_below)


def joined(rungs: Collection[Rung]) -> tuple[Rung, ...]:
    """Make one rung of those of one market: what is fired at once is one order a market.

    Its place is that of the first; its worst price, and what it restores, those of the last.
    """
    merged: dict[str, Rung] = {}
    for rung in rungs:
        first = merged.get(rung.ticker)
        if first is not None:
            sums = {name: getattr(first, name) + getattr(rung, name) for name in _ADD_UP}
            rung = msgspec.structs.replace(
                rung, held=first.held, before=first.before, fires_below=first.fires_below, **sums
            )
        merged[rung.ticker] = rung
    return tuple(merged.values())


_ADD_UP: Final = (
    "quantums", "quote", "spread", "impact", "fee", "loss", "liquidation_cost", "offered",
    "worst_loss",
)  # fmt: skip


class Planner:
    """The ladder of one account, drawn again only where something moved.

    `waiting` are the tickers whose reduction had no answer when it was drawn.
    """

    def __init__(self, policy: FlightPolicy) -> None:
        self.plan = FlightPlan(policy=policy)
        self.waiting: frozenset[str] = frozenset()
        self._drawn: tuple[MarginFigures, int, Step | None] | None = None

    def draw(
        self, margin: MarginFigures, moved: Mapping[str, int | None],
        views: Mapping[str, MarketView], *, fall: int, waiting: frozenset[str],
        step: Step | None,
    ) -> FlightPlan:  # fmt: skip
        """Return the ladder now; `moved` are the positions that may be others, as in `replan`."""
        if moved or self._drawn != (margin, fall, step):
            self.plan = replan(
                self.plan, margin, moved, views, fall=fall, waiting=waiting, step=step
            )
            self.waiting, self._drawn = waiting, (margin, fall, step)
        return self.plan


# === Policy ===

# How much risk a person allows, checked where it comes in. Limits only: what they are held
# against is the gate's and the guard's to compute.


def _limit(unit: str, le: float | None = None, lt: float | None = None) -> Any:
    return Field(default=None, gt=0, le=le, lt=lt, description=unit)


class Policy(BaseModel):
    """How much risk may be taken; the defaults suit a paper account of 10,000 USDC.

    `act_below`, `restore_to` and `keep_above` are distances to liquidation (0.06 is six per
    cent): below the first the guard leaves nothing, it defends the second step by step, and no
    order that adds risk may come nearer than the third. Every limit is judged as if all orders in
    flight had filled; None is no limit. An order is cut to the limits of notional, and denied where
    they leave nothing of it. No limit blocks what shrinks a position.

    With `protect` the limits on loss, drawdown and leverage close what is held, and not entries
    alone. After guard or protection acted, nothing enters the markets in which they did for
    `cool_down_s` seconds of event time, and after a whole exit nothing at all.
    """

    # Its validator is built when the first is made, not at import.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    act_below: float = Field(
        default=0.06, gt=0, lt=1,
        description="distance to liquidation below which the guard leaves nothing, 0.06 is 6 %",
    )  # fmt: skip
    restore_to: float = Field(
        default=0.10, gt=0, lt=1, description="distance that the guard defends, step by step"
    )
    keep_above: float = Field(
        default=0.12,
        gt=0,
        lt=1,
        description="distance below which no order that adds risk may come",
    )
    max_leverage: float = Field(
        default=5.0, gt=0, le=50, description="gross notional of the account, in equities"
    )
    max_order_usdc: float = Field(
        default=20_000.0, gt=0, description="notional of one order, USDC: it is cut to that"
    )
    slippage_bps: int = Field(
        default=30, ge=0, le=1_000,
        description="how far beyond the best price an order may trade, in bps",
    )  # fmt: skip
    guard_slippage_bps: int = Field(
        default=100, ge=0, le=1_000,
        description="how far beyond the best price an order of the guard may trade, in bps",
    )  # fmt: skip
    max_oracle_bps: int = Field(
        default=200, gt=0, lt=10_000,
        description="how much worse than the oracle price an order may trade, in bps: all but the "
        "guard's, and a target of 0 at urgency 1",
    )  # fmt: skip
    stop_slippage_bps: int = Field(
        default=500, ge=0, le=5_000,
        description="how much worse than its trigger, or the oracle price beyond it, a stop on the "
        "venue may trade, in bps: it is to leave in a fall, whose books are thin",
    )  # fmt: skip
    guard_cuts: int = Field(
        default=4, ge=1, le=10, description="steps in which the guard goes from keeping to nothing"
    )
    guard_levels: int = Field(
        default=25, ge=1, le=1_000, description="levels of a book that an order of the guard takes"
    )
    guard_reach_bps: int = Field(
        default=300, ge=0, lt=10_000,
        description="how far from the best price the guard counts on a book, in bps",
    )  # fmt: skip
    guard_haircut_bps: int = Field(
        default=300, ge=0, lt=10_000,
        description="what the guard takes from the oracle price where no book is known, in bps",
    )  # fmt: skip
    guard_chase: float = Field(
        default=0.75, ge=0, lt=1,
        description="how much of the way to liquidation the worst price of the guard may give up",
    )  # fmt: skip
    taker_fee_ppm: int = Field(
        default=500, ge=0, le=100_000, description="what taking costs, in parts per million"
    )
    good_til_blocks: int = Field(
        default=5, ge=1, le=20, description="blocks for which an order that crosses is good"
    )
    stale_seconds: float = Field(
        default=30.0, gt=0, description="how long a price is believed without a confirmation, in s"
    )
    warm_up_s: float = Field(
        default=0.0, ge=0, le=3_000,  # a step of 10 s may take 12, and counts for 10
        description="how many seconds of a market's last hour must be known before it is entered: "
        "watched, or from candles that the venue has sent",
    )  # fmt: skip
    max_account_share: float | None = _limit("gross notional of the account, in equities", le=50)
    max_market_share: float | None = _limit("notional of one market, in equities", le=50)
    max_account_usdc: float | None = _limit("gross notional of the account at oracle prices, USDC")
    max_market_usdc: float | None = _limit("notional of one market at its oracle price, USDC")
    market_usdc: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="`max_market_usdc` of single tickers, in its place"
    )
    max_positions: int | None = _limit("markets with a position or an order in flight")
    max_orders_per_minute: int | None = _limit("orders sent in 60 s of event time")
    max_slippage_bps: float | None = _limit("average price by the book shown, from mid, in bps")
    max_daily_loss_usdc: float | None = _limit("equity lost since 00:00 UTC, in USDC")
    max_daily_loss: float | None = _limit(
        "equity lost since 00:00 UTC, of what the day opened with", lt=1
    )
    max_drawdown: float | None = _limit("equity lost since its peak, 0.2 is 20 %", lt=1)
    protect: bool = Field(
        default=False,
        description="limits on loss, drawdown and leverage close what is held, not entries alone",
    )
    cool_down_s: float = Field(
        default=0.0, ge=0, le=7 * 86_400,
        description="s of event time without an entry where guard or protection acted",
    )  # fmt: skip
    bear_move: float | None = _limit(
        "an order is cut to what survives this move of every market against its position", lt=1
    )
    max_volatility_1h: float | None = _limit(
        "an order is cut so that a usual hour of its market moves equity by no more than this", lt=1
    )
    hand_beside: bool = Field(
        default=False,
        description="somebody else may trade the account beside the bot: what they do in a market "
        "makes it theirs until they are out of it, in place of a halt",
    )

    @property
    def stale_ns(self) -> int:
        """Return how long a price is believed without a confirmation, in nanoseconds."""
        return round(self.stale_seconds * 1_000_000_000)

    @property
    def cool_down_ns(self) -> int:
        """Return how long nothing enters after guard or protection acted, in nanoseconds."""
        return round(self.cool_down_s * 1_000_000_000)

    def day_share(self, opened: int) -> float | None:
        """Return the share of what a day opened with, quote quantums, that may be lost in it.

        None without a limit; of two the tighter one.
        """
        limits = [] if self.max_daily_loss is None else [self.max_daily_loss]
        if self.max_daily_loss_usdc is not None:
            limits.append(self.max_daily_loss_usdc * 1e6 / max(opened, 1))
        return min(limits, default=None)

    @property
    def flight(self) -> FlightPolicy:
        """Return what the guard flies by."""
        return FlightPolicy(
            act_below=self.act_below,
            restore_to=self.restore_to,
            cuts=self.guard_cuts,
            levels=self.guard_levels,
            slippage_bps=self.guard_slippage_bps,
            reach_bps=self.guard_reach_bps,
            haircut_bps=self.guard_haircut_bps,
            chase=self.guard_chase,
            taker_fee_ppm=self.taker_fee_ppm,
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        distances = self.act_below, self.restore_to, self.keep_above
        if not distances[0] < distances[1] <= distances[2]:
            raise ValueError(f"expected act_below < restore_to <= keep_above, got {distances}")
        return self

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        single = {f"market_usdc of {ticker}": usdc for ticker, usdc in self.market_usdc.items()}
        named = dict(self) | single
        for low, high in (*_AT_MOST, *((name, "max_account_usdc") for name in single)):
            least, most = named[low], named[high]
            if least is not None and most is not None and least > most:
                raise ValueError(f"expected {low} <= {high}, got {least:g} and {most:g}")
        return self


# Which field may not be above which. A market cannot have more than the account; nobody enters
# beyond what may be held, nor at a price that he could not leave at; the peak is no lower than what
# the day opened with, so that a day's loss beyond the drawdown would never count.
_AT_MOST: Final = (
    ("max_market_share", "max_account_share"),
    ("max_market_usdc", "max_account_usdc"),
    ("max_account_share", "max_leverage"),
    ("max_market_share", "max_leverage"),
    ("max_daily_loss", "max_drawdown"),
    ("slippage_bps", "guard_slippage_bps"),
)


# === Verdicts ===

# What was decided about an order or about the gate itself, and why: the values that go up. Only
# `Approved`, `Reduce` and `Bracket` carry an order, so that nothing else can become one.

_MARGIN_NAMES: Final = ("net_collateral", "initial_margin", "maintenance_margin", "notional")
Reason = Literal[
    "UNKNOWN_ACCOUNT", "UNKNOWN_MARKET", "UNKNOWN_ORACLE", "UNKNOWN_HEIGHT", "STATUS", "STALE",
    "LAG", "NO_BOOK", "OFF_ORACLE", "IN_FLIGHT", "BELOW_STEP", "ISOLATED", "LEVERAGE", "DISTANCE",
    "MARGIN", "NOTIONAL", "MARKET_NOTIONAL", "POSITIONS", "ORDER_RATE", "SLIPPAGE", "SIZE",
    "DAILY_LOSS", "DRAWDOWN", "COOL_DOWN", "HALTED", "FOREIGN", "WARM_UP", "VOLATILITY_UNKNOWN",
    "INTENT", "BRACKET", "PAUSED",
]  # fmt: skip
GateState = Literal["ACTIVE", "REDUCING", "HALTED"]
Alarm = Literal["unknown", "flat", "safe", "danger", "liquidatable"]


class Standing(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of the gate, and every reason for it, the gravest first."""

    state: GateState
    reasons: tuple[tuple[Reason, str], ...] = ()


class Approved(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A decision that may become this order; `after` is at its worst price, fees paid.

    `levels` are where what is held then is left by brackets on the venue, None for nowhere.
    """

    id: str
    order: OrderRequest
    decision: Decision
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    why: str
    levels: Levels | None = None


class Denied(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An objection; `decision` is None where the guard itself could not act."""

    id: str
    ticker: str
    decision: Decision | None
    seq: int
    at: int
    reason: Reason
    figures: tuple[tuple[str, str], ...] = ()
    why: str


class Reduce(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The guard's order: a rung of its flight plan, or several of one market.

    `cause` is what it answers: the distance to liquidation, or a protection's limit. `cost` is the
    estimated loss to spread, impact and fee in quote quantums, `worst_loss` what is lost against
    the oracle price if all of it fills at the order's worst price. `offered` is how many quantums
    the book shows at no worse than that: what is offered beyond it is given up. `rung` counts the
    times that the guard fired since the account was last safe.
    """

    id: str
    order: OrderRequest
    seq: int
    at: int
    before: MarginFigures
    after: MarginFigures
    distance: float
    rung: int
    cost: int
    worst_loss: int = 0
    offered: int = 0
    cause: Cause = "DISTANCE"
    why: str


class Bracket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A reduce-only order to stand on the venue and leave a position at its trigger.

    `decision` says at which; "" is one of an earlier run, whose bracket was found.
    """

    id: str
    order: OrderRequest
    kind: BracketKind
    decision: str
    seq: int
    at: int
    why: str


class Withdraw(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The cancel of an order of ours that stands on the venue; only less can come of it."""

    id: str
    ticker: str
    cancel: CancelRequest
    seq: int
    at: int
    why: str


class GateChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The gate is in another state from this event on, and every reason for it."""

    id: str
    seq: int
    at: int
    was: GateState
    state: GateState
    reasons: tuple[tuple[Reason, str], ...] = ()

    @property
    def why(self) -> str:
        """Return in words from what to what it changed, and why."""
        reasons = "; ".join(why for _, why in self.reasons)
        return f"gate {self.was} -> {self.state}" + (f": {reasons}" if reasons else "")


Verdict = Approved | Denied | Reduce | Bracket | Withdraw
Judgement = Verdict | GateChange


def audit_row(verdict: Verdict) -> dict[str, str]:
    """Flatten a verdict into one row, every figure as text: what JSON or CSV can take.

    Money is quote quantums, sizes quantums, prices subticks, `at` nanoseconds; a figure that is
    not known is `unknown`, one that a verdict does not have is left out.
    """
    row = {"verdict": type(verdict).__name__}
    for name in verdict.__struct_fields__:
        value = getattr(verdict, name)
        if isinstance(value, MarginFigures):
            row |= _flat(value, f"{name}_")
        elif isinstance(value, Decision):
            row |= {"decision": value.id, "target_usdc": str(value.target_usdc)}
        elif isinstance(value, OrderRequest | CancelRequest):
            order = msgspec.structs.asdict(value)
            row |= {f"order_{key}": str(part) for key, part in order.items()}
        elif isinstance(value, tuple):
            row |= {f"figure_{key}": part for key, part in value}
        elif value is not None:
            row[name] = str(value)
    return row


def _flat(margin: MarginFigures, prefix: str) -> dict[str, str]:
    row = {name: str(getattr(margin, name)) for name in _MARGIN_NAMES}
    for name in ("free_collateral", "cushion", "leverage", "distance"):
        value = getattr(margin, name)
        nothing = value is None and margin.known and not margin.notional
        row[name] = "none" if nothing else "unknown" if value is None else str(value)
    if margin.unknown:
        row |= dict.fromkeys(row, "unknown") | {"unknown": " ".join(margin.unknown)}
    return {prefix + name: text for name, text in row.items()}


# === Returns ===

# How much each market moves, from the oracle prices that went by and the candles before them: an
# opinion, in floats, which sizes and shocks may use and no margin does.


class Returns:
    """The returns of every market over the last hour: of its oracle price, a step at a time.

    What was before the first step counts by the closes of the candles of a minute that the venue
    has sent, if it reaches up to it. A step that was missed, as when a link is down, is left out,
    and so is a market that is stale.

    Volatility is the root of the mean square return, scaled to an hour; beta that of a market to
    the mean of all. None before `least` steps, or as much time in candles: a market that was not
    watched for some minutes is not calm.
    """

    def __init__(self, step_ns: int = 10 * 10**9, least: int = 18) -> None:
        self.step_ns, self.least = step_ns, least
        self._steps: deque[tuple[int, dict[str, float], float]] = deque()  # the last is their mean
        self._last: dict[str, float] = {}
        self._at = 0
        self._views: Mapping[str, MarketView] = {}
        self._first: dict[str, int] = {}  # when each market's price was first seen
        self._known: dict[str, _Past] = {}

    def sample(self, at: int, views: Mapping[str, MarketView]) -> None:
        """Take the prices of a moment in, if a step has passed since the last."""
        passed_ns = at - self._at
        if 0 <= passed_ns < self.step_ns:
            return
        self._views, self._known = views, {}
        prices = {
            ticker: view.oracle.price for ticker, view in views.items()
            if view.oracle and view.oracle.price > 0 and not view.quality.stale
        }  # fmt: skip
        for ticker in prices.keys() - self._first.keys():
            self._first[ticker] = at
        if self.step_ns <= passed_ns < 2 * self.step_ns:
            last = self._last
            returns = {t: log(price / last[t]) for t, price in prices.items() if t in last}
            if returns:
                self._steps.append((at, returns, fsum(returns.values()) / len(returns)))
        # A clock that was set back leaves what it has numbered ahead of it to the number of steps.
        steps, most = self._steps, _HOUR_NS // self.step_ns
        while steps and (steps[0][0] <= at - _HOUR_NS or len(steps) > most):
            steps.popleft()
        self._at, self._last = at, prices

    def volatility_1h(self, ticker: str) -> float | None:
        """Return a market's volatility, None while it is not known."""
        return self._past(ticker).volatility_1h

    def beta(self, ticker: str) -> float | None:
        """Return a market's move for a move of one of all together, None while not known."""
        return self._past(ticker).beta

    def known_s(self, ticker: str) -> float:
        """Return how many seconds of a market's last hour are known."""
        return self._past(ticker).known_ns / 1e9

    def _past(self, ticker: str) -> "_Past":
        # Candles may come between two steps, whoever looked in between.
        minutes, past = self._minutes(ticker), self._known.get(ticker)
        if past is None or past.minutes != minutes:
            past = self._known[ticker] = self._computed(ticker, minutes)
        return past

    def _computed(self, ticker: str, minutes: list[float]) -> "_Past":
        pairs = [(step[ticker], mean) for _, step, mean in self._steps if ticker in step]
        known_ns = len(pairs) * self.step_ns + len(minutes) * _MINUTE_NS
        volatility = beta = None
        if known_ns >= self.least * self.step_ns:
            square = fsum(own * own for own, _ in pairs) + fsum(own * own for own in minutes)
            volatility = sqrt(square * _HOUR_NS / known_ns)
        if len(pairs) >= self.least and (common := fsum(all_ * all_ for _, all_ in pairs)):
            beta = fsum(own * all_ for own, all_ in pairs) / common
        return _Past(minutes, known_ns, volatility, beta)

    def _minutes(self, ticker: str) -> list[float]:
        """Return the returns of the minutes before a market was watched, of those of this hour."""
        candles = self._views[ticker].candles.get("1MIN") if ticker in self._views else None
        first = self._first.get(ticker)
        # Those that were made here, of trades, may lack what was missed.
        if candles is None or first is None or candles.reported_at <= first - 3 * _MINUTE_NS:
            return []
        since, until = self._at - _HOUR_NS, min(candles.reported_at, first)
        closes = candles.closes_between(since, until - _MINUTE_NS + 1)
        return [log(after / before) for before, after in pairwise(closes)]


class _Past(NamedTuple):
    # What is known of a market's last hour: the returns of its minutes, and what they make of it.
    minutes: list[float]
    known_ns: int
    volatility_1h: float | None
    beta: float | None


def priced(
    view: MarketView, market: PerpetualMarket, quantums: int, interest: int | None
) -> Holding:
    """Return a market as an account stands in it, with no more than its margin needs."""
    price, exponent = (view.oracle.digits, view.oracle.exponent) if view.oracle else (None, 0)
    return Holding(
        market=market, quantums=quantums, price=price, exponent=exponent, open_interest=interest
    )


def observed(
    view: MarketView, market: PerpetualMarket, quantums: int, returns: Returns,
    interest: int | None, entry_price: Decimal | None = None,
) -> Holding:  # fmt: skip
    """Return a market as an account stands in it, with all that is known of it."""
    ticker, funding = view.ticker, view.funding
    return msgspec.structs.replace(
        priced(view, market, quantums, interest),
        entry_price=entry_price,
        funding_8h_ppm=funding_rate_8h_ppm(funding.next_rate_text) if funding.known else None,
        volatility_1h=returns.volatility_1h(ticker),
        beta=returns.beta(ticker),
    )


# === Valuation ===

# What is held and what it is worth, a price at a time: the sums that gate and guard judge by. It
# folds; it judges nothing and sends nothing.


class Exposure(msgspec.Struct, eq=False):
    """A position with the terms last computed for it, and what they were computed from.

    `grown` is what the account's own trades may have added to open interest since its report.
    """

    position: Position
    grown: Decimal = Decimal(0)
    quantums: int = 0
    maintenance_e12: int = 0
    view: MarketView | None = None
    market: PerpetualMarket | None = None
    oracle: Oracle | None = None
    reported: int | None = None
    open_interest: int | None = None
    terms: PositionMargin | None = None

    def value(self, view: MarketView) -> bool:
        """Value it at a view's price; return whether anything that its terms need has changed."""
        oracle, market, reported = view.oracle, view.market, view.open_interest
        same = oracle is self.oracle and market is self.market and reported == self.reported
        if same and self.view is not None:
            return False
        self.view, self.oracle, self.reported = view, oracle, reported
        if market is not self.market and market is not None:
            self.quantums = int(self.position.size.scaleb(-market.atomic_resolution))
            self.position.quantums = self.quantums
            self.maintenance_e12 = market.imf_ppm * market.maintenance_fraction_ppm
        self.market, self.terms = market, None
        self.open_interest = interest = known_interest(view, self.quantums, self.grown)
        if market is not None and oracle is not None and oracle.digits > 0:
            digits, exponent = oracle.digits, oracle.exponent
            try:
                self.terms = position_margin(market, self.quantums, digits, exponent, interest)
            except MarginError:
                pass  # beyond what the chain can hold: not known either
        return True

    @property
    def at_entry(self) -> PositionMargin:
        """Return the margin as far as it is known without an oracle price."""
        value = int((self.position.size * (self.position.entry_price or 0)).scaleb(6))
        maintenance = -(-abs(value) * self.maintenance_e12 // PPM**2)
        return PositionMargin(value, maintenance, maintenance)


def known_interest(view: MarketView, held: int, grown: Decimal) -> int | None:
    """Return the least open interest that the chain may count, in base quantums; None if unknown.

    It is reported up to a minute late. By then it has what is held in it, and it may have all by
    which the account's own position has `grown` since, in base units.
    """
    market, reported = view.market, view.open_interest
    if reported is None or market is None:
        return None
    own = int(grown.scaleb(-market.atomic_resolution)) if grown else 0
    return max(reported + own, held, -held)


# In how many blocks a report of open interest surely has what was traded: some two minutes.
_REPORT_BLOCKS: Final = 200


# An order fills in the next block, which the indexer reports within another.
_ANSWER_BLOCKS: Final = 2


class Valuation:
    """What an account holds, valued: each position's margin, and their sum, `margin`.

    A change of one price changes one position's terms, and the sum by their difference: it costs
    the same however many are held. `moved` gathers the tickers whose position or market changed;
    the caller that reads them clears it.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.views: dict[str, MarketView] = {}
        self.held: dict[str, Exposure] = {}
        self.margin = MarginFigures(0)
        self.moved: set[str] = set()
        self._seq = -1
        self._grown: dict[str, list[tuple[int, Decimal]]] = {}  # at which heights, by how much
        self._loaded = False

    def load(self) -> None:
        """Take in what the account holds now; a position that stayed keeps its terms."""
        old, self.held = self.held, {}
        positions, unreadable = self.account.positions, self.account.unreadable
        self.moved.update(old, positions, unreadable, self.margin.unknown)
        for ticker, position in positions.items():
            exposure = old.get(ticker)
            if exposure is None or exposure.position is not position:
                self._grow(ticker, exposure.position if exposure is not None else None, position)
                exposure = Exposure(position, self._growth(ticker))
                if ticker in self.views:
                    exposure.value(self.views[ticker])
            self.held[ticker] = exposure
        self._loaded = self._loaded or not self.account.trouble
        self.sum()

    def _grow(self, ticker: str, before: Position | None, after: Position) -> None:
        # What was held when the account was first seen is in the reports already.
        was, now = before.size if before is not None else Decimal(0), after.size
        grown = abs(now) - (abs(was) if (was > 0) == (now > 0) else 0)
        if grown > 0 and self._loaded:
            self._grown.setdefault(ticker, []).append((self.account.height, grown))

    def _growth(self, ticker: str) -> Decimal:
        return sum((grown for _, grown in self._grown.get(ticker, ())), Decimal(0))

    def settle_interest(self) -> None:
        """Let go of own growth that is so long ago that the reports of open interest have it."""
        since = self.account.height - _REPORT_BLOCKS
        for ticker, rows in self._grown.items():
            if not rows or rows[0][0] >= since:
                continue
            self._grown[ticker] = [row for row in rows if row[0] >= since]
            exposure = self.held.get(ticker)
            if exposure is not None and exposure.view is not None:
                # Without a price its terms are computed again.
                exposure.grown, exposure.oracle = self._growth(ticker), None
                exposure.value(exposure.view)
                self.sum()

    def interest(self, view: MarketView) -> int | None:
        """Return a market's open interest as the margin counts it, None if unknown."""
        return known_interest(view, self.size(view.ticker), self._growth(view.ticker))

    def see(self, view: MarketView) -> None:
        """Take in what a view has that moves the margin: `margin` is another object if it did."""
        held = self.held
        if view.ticker in held:
            self.moved.add(view.ticker)
        if view.seq != self._seq and view.changed not in ("book", "trades"):
            # One frame may move many markets, and its views come one by one: catch up with all.
            self._seq = view.seq
            views = self.views
            if moved := [t for t, e in held.items() if t in views and e.value(views[t])]:
                self.moved.update(moved)
                self.sum()
        elif (exposure := held.get(view.ticker)) is not None:
            old = exposure.terms
            if exposure.value(view) and old is not None and exposure.terms is not None:
                self.margin = exchanged(self.margin, old, exposure.terms)
            elif exposure.terms is not old:
                self.sum()

    def fund(self, hours: int) -> None:
        """Let hours of funding pass that the venue has not settled yet.

        The rate that was reported last is the hour's, or nearly; an unknown one is the worst.
        Without a price there is no figure yet: the hours are owed until there is.
        """
        account = self.account
        owed, account.unsettled.hours_owed = account.unsettled.hours_owed, {}
        for ticker, e in self.held.items():
            due, delta = hours + owed.get(ticker, 0), None
            if e.view is not None and e.market is not None:
                delta = index_delta(e.view, e.market, due, worst_for=e.quantums)
            if delta is not None:
                account.unsettled.ppm += funding_settlement_ppm(e.quantums, delta, 0)
            elif due:
                account.unsettled.hours_owed[ticker] = due
        self.sum()

    def settle_at(self, collateral: int) -> None:
        """Take what the chain would have if it settled funding now, in quote quantums.

        Of an account that holds what is known here; it takes the place of what was reckoned for
        hours that passed.
        """
        self.account.unsettled.ppm = (collateral - self.account.collateral) * PPM
        self.account.unsettled.hours_owed = {}
        self.sum()

    def sum(self) -> None:
        """Sum up from every position's terms."""
        known = [e.terms for e in self.held.values() if e.terms is not None]
        blind = {t for t, e in self.held.items() if e.terms is None}
        unknown = sorted(blind | self.account.unreadable)
        self.margin = total_margin(self.account.settled, known, unknown)

    @property
    def estimate(self) -> MarginFigures:
        """Return the margin with what has no price counted at what it was bought for."""
        if not self.margin.unknown:
            return self.margin
        terms = [e.terms or e.at_entry for e in self.held.values()]
        return total_margin(self.account.settled, terms, self.margin.unknown)

    @property
    def reserved(self) -> MarginFigures:
        """Return the margin as if every order in flight had filled at its worst, others' too."""
        margin = self.margin
        for reservation in self.account.orders.reserved.values():
            margin = combined(margin, reservation.effect)
        for order, quote in self.resting():
            held, interest = self.size(order.market.ticker), self.interest(order.view)
            after = order.after(self.margin, held, quote, 0, interest)
            margin = combined(margin, worsened(self.margin, after))
        return margin

    def resting(self) -> Iterator[tuple[Candidate, int]]:
        """Yield what somebody else's open orders may still trade, and for what, fees left out.

        Not those that only reduce: they make nothing worse but the price they get.
        """
        for state in self.account.orders.resting:
            view = None if state.named is None else self.views.get(state.named.ticker)
            order = None if view is None else _standing_order(state, view)
            if order is not None:
                yield order

    def size(self, ticker: str) -> int:
        """Return the signed quantums held, 0 while the grid is not known."""
        return self.held[ticker].quantums if ticker in self.held else 0

    def known_size(self, ticker: str) -> int | None:
        """Return the signed quantums held, None where they cannot be known."""
        exposure = self.held.get(ticker)
        if exposure is None:
            return None if ticker in self.account.unreadable else 0
        return exposure.quantums if exposure.market is not None else None

    def reductions(self, ticker: str) -> list[Reservation]:
        """Return what is in flight and would shrink the position, reduce-only or not.

        One that was sent before the position changed sides reduces nothing, and what waits for its
        price, nothing for certain.
        """
        held, waiting = self.size(ticker), self.account.orders.in_flight(ticker)
        return [r for r in waiting if r.order.signed_quantums * held < 0 and not r.stands]

    def reducing(self, patience: int = _ANSWER_BLOCKS) -> frozenset[str]:
        """Return the tickers whose reduction is waited for, so many blocks and no longer.

        One in doubt is not, nor one without an answer for longer: it may be lost, and reduce-only
        as they are, two of them cannot flip a position.
        """
        late = self.account.height - patience
        return frozenset(
            t for t in self.held
            if any(r.shut or (r.sent > late and not r.doubted) for r in self.reductions(t))
        )  # fmt: skip


def _standing_order(state: OrderState, view: MarketView) -> tuple[Candidate, int] | None:
    row, market, oracle = state.row, view.market, view.oracle
    if row is None or row.side is None or row.reduce_only or market is None or oracle is None:
        return None
    size = market.floor_quantums(state.size - state.filled)
    if not 0 < size < 2**64:
        return None  # nothing is left, or it is no order of the chain's
    try:
        price = exact(row.price or "0")
        # A TWAP without a price fills near the oracle's.
        digits, exponent = price if price[0] > 0 else (oracle.digits, oracle.exponent)
        quote = abs(position_margin(market, size, digits, exponent).net_notional)
    except (ConnError, MarginError):
        quote = abs(position_margin(market, size, oracle.digits, oracle.exponent).net_notional)
    return Candidate(market, view, row.side, size, 0), quote


def worsened(before: MarginFigures, after: MarginFigures) -> MarginFigures:
    """Return what a change makes worse, figure by figure: what an order's reservation counts."""
    # What is better after it may not come, and must not be counted on.
    return MarginFigures(
        min(0, after.net_collateral - before.net_collateral),
        max(0, after.initial_margin - before.initial_margin),
        max(0, after.maintenance_margin - before.maintenance_margin),
        max(0, after.notional - before.notional),
        max(0, after.sensitivity - before.sensitivity),
    )


# === Course ===

# Where the equity came from: what a day and a peak lost, and what of the past outlives a run. Event
# time only.

_DAY_NS: Final = 24 * _HOUR_NS


class Memory(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What risk knows of the past that no account shows, for a next run of it: a frozen value.

    Equities in quote quantums, as if nothing had been paid in yet; `paid_of_day` and
    `paid_since_peak` are what of them was funding, or left for no cause. Times are event time in
    ns; `rests` are by ticker, `rests_all` is of all; `sent` are the orders of the last minute. The
    limits are those that `lost` and `sunk` are beyond. A `Move` is in it no more than its prices
    are: where the distance is lost another begins.
    """

    now: int = 0
    day: int = -1
    opened: int = 0
    peak: int = 0
    equity: int = 0
    withdrawn: int = 0
    paid_of_day: int = 0
    paid_since_peak: int = 0
    lost: int | None = None
    sunk: float | None = None
    max_daily_loss: float | None = None
    max_daily_loss_usdc: float | None = None
    max_drawdown: float | None = None
    cause: str = ""
    closest: float | None = None
    rests_all: int = 0
    rests: tuple[tuple[str, int], ...] = ()
    sent: tuple[int, ...] = ()
    levels: tuple[tuple[str, Levels], ...] = ()
    next_client_id: int = 1

    def beside(
        self, now: int, closest: float | None, client_id: int, levels: Mapping[str, Levels]
    ) -> Self:
        """Return it with the closest distance, the next client id, and where positions leave."""
        return msgspec.structs.replace(
            self, now=now, closest=closest, next_client_id=client_id, levels=(*levels.items(),)
        )

    def as_of(self, now: int) -> Self:
        """Return it by a clock that may have been set back: what lasts lasts no longer by that."""
        ahead = max(self.now - now, 0)
        return msgspec.structs.replace(
            self, now=self.now - ahead, rests_all=max(self.rests_all - ahead, 0),
            rests=tuple((ticker, until - ahead) for ticker, until in self.rests),
            sent=tuple(at - ahead for at in self.sent),
        )  # fmt: skip

    def judged_by(self, policy: Policy) -> Policy:
        """Return a policy with the limits that were those of the run before."""
        names = ("max_daily_loss", "max_daily_loss_usdc", "max_drawdown")
        return policy.model_copy(update={name: getattr(self, name) for name in names})


class Falls:
    """How deep the profit fell below its peak over a whole run, by what the market and fees took.

    A run that goes on with an account goes on from its peak. Quote quantums. `depth` is how far
    below it is now, `deepest` how far it ever was, and `share` that as a share of the equity there
    was at the peak. `today` is what was won or lost since the UTC day began: what a run was not
    there for is none of it.
    """

    __slots__ = ("_day", "_opened", "_profit", "deepest", "peak", "share")

    def __init__(self) -> None:
        self.peak = self.deepest = self._profit = self._opened = 0
        self._day = -1
        self.share = 0.0

    @property
    def depth(self) -> int:
        """Return how far the profit is below its peak."""
        return self.peak - self._profit

    @property
    def today(self) -> int:
        """Return what was won since the day began, negative if it was lost."""
        return self._profit - self._opened

    def begin(self, profit: int) -> None:
        """Count profit from another point on: what it fell until now, and won today, it has."""
        self._opened += profit - self._profit
        self.peak, self._profit = profit + self.depth, profit

    def recall(self, profit: int, day: int, opened: int, peak: int) -> None:
        """Go on from what an earlier run knew, with the day that it was in and its peak."""
        self.peak, self._profit, self._day, self._opened = peak, profit, day, opened

    def move(self, profit: int, equity: int, day: int) -> None:
        """Take the profit of the moment in, the equity with it, and which UTC day it is."""
        if day != self._day:
            # A day opens with what the last one closed with.
            self._day, self._opened = day, self._profit
        self._profit = profit
        if profit > self.peak:
            self.peak = profit
        elif self.peak - profit > self.deepest:
            self.deepest, self.share = self.peak - profit, self.share_of(equity)

    def moved(self, by: int, equity: int) -> "Falls":
        """Return the same once the profit has moved, with the equity that leaves; a copy."""
        then = Falls()
        for name in Falls.__slots__:
            setattr(then, name, getattr(self, name))
        then.move(self._profit + by, equity, self._day)
        return then

    def share_of(self, equity: int) -> float:
        """Return how deep it is now as a share of the equity at the peak, by that of now."""
        depth = self.depth
        return depth / max(equity + depth, 1)

    def today_of(self, equity: int) -> float:
        """Return what was won today as a share of the equity at its beginning, by that of now."""
        return self.today / max(equity - self.today, 1)

    def explain(self, moved: int) -> None:
        """Take out of the peak, and of the profit, what was none, as is reported late."""
        self.peak -= moved
        self._profit -= moved


class Course:
    """How the equity went since the UTC day began and since its peak, without transfers.

    Quote quantums. `lost` and `sunk` are set where a limit was passed, and stay so: the loss until
    the day is over, the drawdown until a `reopen`, both until a late report explains them. `cause`
    is in words where most of what was lost is funding, or left without a reported cause. `room`
    is the share of what may be lost that is left, 1 if all is, and `tightest` which limit it is of.
    Whoever withdraws half of the equity withdraws half of what its shares count as lost with it.
    """

    __slots__ = (
        "_begun", "_doubted", "_found", "_funding", "_paid_in", "_withdrawn", "cause", "day",
        "falls", "lost", "opened", "peak", "profit", "room", "sunk", "tightest",
    )  # fmt: skip

    def __init__(self, falls: Falls | None = None) -> None:
        self.day = -1
        self._begun = False  # whether the equity was ever known, in this run
        self.falls = falls or Falls()  # of the run, which goes on where a course begins again
        self.opened = self.peak = self.profit = 0
        self.lost: int | None = None
        self.sunk: float | None = None
        self.cause = ""
        self.room = 1.0
        self.tightest: Cause = "LEVERAGE"
        self._funding = 0, 0  # what had been paid when the day opened, and at the peak
        self._doubted: int | None = None  # profit before a snapshot that ends a doubt
        self._found = 0  # what came while the account was unknown
        self._withdrawn = 0  # what of the day's loss went with withdrawals
        self._paid_in = 0  # what transfers had brought when it was known last

    def memory(self, funding: int, policy: Policy) -> Memory:
        """Return what a next run has to know of it; `funding` is what was paid in all."""
        had = self.paid_in
        return Memory(
            day=self.day, opened=self.opened + had, peak=self.peak + had, equity=self.profit + had,
            withdrawn=self._withdrawn, paid_of_day=funding - self._funding[0],
            paid_since_peak=funding - self._funding[1], lost=self.lost, sunk=self.sunk,
            max_daily_loss=policy.max_daily_loss, max_daily_loss_usdc=policy.max_daily_loss_usdc,
            max_drawdown=policy.max_drawdown, cause=self.cause,
        )  # fmt: skip

    def recall(self, memory: Memory, policy: Policy) -> None:
        """Go on from what an earlier run knew, with nothing paid in since, by this policy."""
        self.day, self.opened, self.peak = memory.day, memory.opened, memory.peak
        self.profit, self._withdrawn = memory.equity, memory.withdrawn
        self.lost, self.sunk, self.cause = memory.lost, memory.sunk, memory.cause
        self._funding = -memory.paid_of_day, -memory.paid_since_peak
        self.falls.recall(memory.equity, memory.day, memory.opened, memory.peak)
        self.judge_by(memory.judged_by(policy), policy)

    def doubt(self, equity: int) -> None:
        """Note the equity as it was before the account is known again."""
        if self._begun:
            self._doubted = equity - self._paid_in

    def explain(self, moved: int) -> None:
        """Take a cause in that is reported late: until now its amount was won or lost for none."""
        self.lost = self.sunk = None  # judged again without it
        if self._found:
            self._found = max(self._found - moved, 0)
        else:
            self.peak -= max(moved, 0)
            self.falls.explain(max(moved, 0))

    def move(self, equity: int, paid_in: int, day: int, policy: Policy, funding: int = 0) -> None:
        """Take the equity of the moment in; `funding` is what was paid or left for no cause."""
        if self._doubted is not None:
            # What came while the account was unknown is a deposit, not a profit.
            self._found += max(0, equity - paid_in - self._doubted)
            self._doubted = None
        had, self._paid_in, self._begun = self.paid_in, paid_in, True
        paid_in = self.paid_in
        profit = equity - paid_in
        if self.day < 0:
            had = paid_in
            self.peak = self.profit = profit
            self.falls.begin(profit)
            self._funding = funding, funding
        if day != self.day:
            # A day opens with what the last one closed with.
            self.day, self.opened, self.lost = day, self.profit, None
            self._funding, self._withdrawn = (funding, self._funding[1]), 0
        self.profit = profit
        self.falls.move(profit, equity, day)
        if paid_in < had and equity > 0:
            self._withdraw(had - paid_in, equity)
        if profit > self.peak:
            self.peak, self._funding = profit, (self._funding[0], funding)
        share, usdc = policy.max_daily_loss, policy.max_daily_loss_usdc
        if not (share is None and usdc is None and policy.max_drawdown is None):
            self._limit(profit, paid_in, policy, funding)

    def judge_by(self, was: Policy, policy: Policy) -> None:
        """Hold what was beyond its limit against another one, where that is another."""
        if self.lost is not None and self.day_limit(was) != (limit := self.day_limit(policy)):
            self.lost = self.lost if limit is not None and self.lost > limit[1] else None
        if self.sunk is not None and was.max_drawdown != (share := policy.max_drawdown):
            self.sunk = self.sunk if share is not None and self.sunk > share else None
        if self.day_limit(policy) is None and policy.max_drawdown is None:
            self.room, self.tightest = 1.0, "LEVERAGE"

    def _withdraw(self, usdc: int, left: int) -> None:
        # A loss of 5 % is one of 5 % still.
        had = left + usdc
        self.peak -= max(self.peak - self.profit, 0) * usdc // had
        self._withdrawn += max(self.opened - self._withdrawn - self.profit, 0) * usdc // had

    def _limit(self, profit: int, paid_in: int, policy: Policy, funding: int) -> None:
        self.room, self.tightest = 1.0, "LEVERAGE"
        if (limit := self.day_limit(policy)) is not None:
            lost, most = limit[0] - profit, limit[1]
            if lost > most:
                self.lost = max(lost, self.lost or 0)
                self.cause = _cause(lost, funding - self._funding[0])
            self._leave("DAILY_LOSS", 0.0 if self.lost is not None else 1 - lost / max(most, 1))
        if (limit := self.peak_limit(policy)) is not None:
            sunk, most = limit[0] - profit, limit[1]
            if sunk > most:
                share = sunk / max(self.peak + paid_in, 1)
                self.sunk = max(share, self.sunk or 0.0)
                self.cause = _cause(sunk, funding - self._funding[1])
            self._leave("DRAWDOWN", 0.0 if self.sunk is not None else 1 - sunk / max(most, 1))

    def _leave(self, cause: Cause, room: float) -> None:
        if room < self.room:
            self.room, self.tightest = room, cause

    def day_limit(self, policy: Policy) -> tuple[int, int] | None:
        """Return from where the day's loss counts, and how much it may be; None without a limit."""
        limits = []
        if (usdc := policy.max_daily_loss_usdc) is not None:
            limits.append((self.opened, int(usdc * 1e6)))
        if (share := policy.max_daily_loss) is not None:
            since = self.opened - self._withdrawn
            limits.append((since, int(share * max(since + self.paid_in, 0))))
        return max(limits, key=lambda limit: limit[0] - limit[1], default=None)

    def peak_limit(self, policy: Policy) -> tuple[int, int] | None:
        """Return from where the drawdown counts, and how much it may be; None without a limit."""
        if (share := policy.max_drawdown) is None:
            return None
        return self.peak, int(share * max(self.peak + self.paid_in, 0))

    @property
    def paid_in(self) -> int:
        """Return what transfers brought, and what came while the account was unknown."""
        return self._paid_in + self._found

    def falls_by(self, margin: MarginFigures, account: Account) -> Falls:
        """Return the falls by the equity of the moment, which no limit goes by; take nothing in.

        `falls` stands still while a balance waits for its cause, as may be for a block.
        """
        if margin.unknown or account.trouble or not account.is_in_doubt:
            return self.falls
        equity = margin.net_collateral
        return self.falls.moved(equity - account.transferred - self._found - self.profit, equity)

    def reopen(self) -> None:
        """Measure the drawdown from here on: what was lost before has had its rest."""
        self.sunk, self.peak, self._funding = None, self.profit, (self._funding[0],) * 2


def _cause(lost: int, paid: int) -> str:
    return "; most of it is funding, or left without a reported cause" if 2 * paid > lost else ""


# === Turns ===

# How fast and how far the market takes the equity, and what rests after guard or protection acted.
# Event time and blocks only.

_TURN_NS: Final = 2_000_000_000


class Elapsed:
    """The time of the views, `now` in nanoseconds, as it only goes on.

    A clock that is set an hour ahead and back again counts for an hour at most, and then holds
    nothing up: a limit on what a minute sees waits for a minute.
    """

    __slots__ = ("last", "now")

    def __init__(self) -> None:
        self.now = self.last = 0

    def move(self, at: int) -> None:
        """Move to a view's time."""
        self.now += max(at - self.last, 0)
        self.last = at


class Turns:
    """Time as the chain counts it, and what each turn of it took off the distance.

    A turn is a block, or two seconds in which none came. An order fills in a block that may move
    on as this one does, or as the last one did, and it may have to be sent again: `ahead` is twice
    the greater loss of the two.
    """

    __slots__ = ("_hour", "_last", "_lost", "ahead", "began", "height", "turn")

    def __init__(self) -> None:
        self.turn, self.height, self.began = 0, -1, 0
        self.ahead = self._lost = self._last = 0.0
        self._hour: tuple[str, int] = "", 0

    def is_over(self, view: MarketView) -> bool:
        """Return whether a view belongs to another turn."""
        is_over = not 0 <= view.at - self.began < _TURN_NS
        return is_over or view.chain.height != self.height

    def begin(self, view: MarketView) -> int:
        """Begin a turn with a view; return how many full hours ended since the last."""
        self.turn, self.height, self.began = self.turn + 1, view.chain.height, view.at
        self._last, self._lost = self._lost, 0.0
        self.ahead = _BLOCKS_AHEAD * max(self._last, 0.0)
        # Hours are the chain's, or the receiver's until the chain's time is known: they may differ.
        clock = "chain" if view.chain.time_ns else "ours"
        hour = (view.chain.time_ns or view.at) // _HOUR_NS
        passed = hour - self._hour[1] if self._hour[0] == clock else 0
        if passed >= 0:
            self._hour = clock, hour
        return max(passed, 0)

    def move(self, before: MarginFigures, after: MarginFigures) -> None:
        """Count what prices took while positions stood still."""
        self._lost += (before.net_collateral - after.net_collateral) / max(before.sensitivity, 1)
        self.ahead = _BLOCKS_AHEAD * max(self._lost, self._last, 0.0)


_BLOCKS_AHEAD: Final = 2  # with one, less is left in gaps, in falls that last and in recoveries

# While so much of the room is left, or less, so much of a holding may stay. No step bears more
# than what it has left, so that nothing is held at the end of the room however long a fall lasts;
# fewer steps cost less where prices turn, more of them less where they do not. Of the tables
# tried on seeded crashes none was better in falls and in recoveries.
_STAIRS: Final = ((0.1, 0.0), (0.4, 0.25), (0.75, 0.5))


def borne(room: float) -> float:
    """Return the share of a holding that may stay while so much of the room is left."""
    return next((share for left, share in _STAIRS if room <= left), 1.0)


def is_spent(course: Course, policy: Policy) -> bool:
    """Return whether what is left of a limit bears nothing: with `protect` all was closed by it."""
    return policy.protect and course.room <= _STAIRS[0][0]


def is_sunk(course: Course, policy: Policy) -> bool:
    """Return whether the drawdown lets nothing enter: passed, or too near for anything."""
    return course.sunk is not None or (course.tightest == "DRAWDOWN" and is_spent(course, policy))


# In words of a sentence, the limits that have a room.
_LIMITS: Final[Mapping[Cause, str]] = {"DAILY_LOSS": "the day's loss", "DRAWDOWN": "the drawdown"}


class Move:
    """A move of prices against the account, from where it took the distance that is defended.

    Quote quantums: `room` is what prices may take from there until the guard leaves whole, `spent`
    what they took. `held` is the notional held then, at the prices of now. What is withdrawn is no
    move, nor is what trading costs. A move is over when prices, or who paid in, gave back what they
    took, or the account holds nothing, or more than then: what little comes in between, as by an
    order that was on its way, makes nobody forget it.
    """

    __slots__ = ("_fell", "held", "room", "spent")

    def __init__(self) -> None:
        self.room = self.spent = self.held = 0.0
        self._fell = 0.0  # what would be spent if all of it were still held

    def begin(self, margin: MarginFigures, act_below: float, restore_to: float) -> None:
        """Begin one, which may have come some way already, or has not come yet."""
        self.room = (restore_to - act_below) * margin.sensitivity
        self.spent = self._fell = restore_to * margin.sensitivity - margin.cushion
        self.held = float(margin.notional)

    @property
    def is_on(self) -> bool:
        """Return whether a move was begun and has not given back what it took."""
        return self.room > 0

    def judge_by(self, was: Policy, policy: Policy) -> None:
        """Go on as if it had begun by the distances of another policy."""
        before, now = (was.act_below, was.restore_to), (policy.act_below, policy.restore_to)
        if not self.is_on or before == now:
            return
        sensitivity = self.room / (before[1] - before[0])
        self.room = (now[1] - now[0]) * sensitivity
        if higher := now[1] - before[1]:
            self._spend(higher * sensitivity)

    def go(self, before: MarginFigures, after: MarginFigures) -> None:
        """Count what prices did while positions stood still, if one is on."""
        if not self.room:
            return
        lost, notional = before.net_collateral - after.net_collateral, max(before.notional, 1)
        self.spent += lost
        self._fell += lost * self.held / notional
        self.held *= after.notional / notional
        if self._fell < 0:
            self.end()

    def hold(self, notional: int, paid_in: int, *, flat: bool) -> None:
        """Count what is paid in against it, and what is held by now, in quote quantums."""
        if paid_in > 0:
            self._spend(-paid_in)
        # What was held then is a product of floats.
        if flat or notional > 1.01 * self.held:
            self.end()

    def _spend(self, usdc: float) -> None:
        self.spent += usdc
        self._fell += usdc
        if self._fell < 0:
            self.end()

    def end(self) -> None:
        """Let the next danger begin another."""
        self.room = 0.0


class CoolDown:
    """Where nothing enters, and until when: event time that only goes on, in nanoseconds."""

    __slots__ = ("_until", "all_until")

    def __init__(self) -> None:
        self.all_until = 0
        self._until: dict[str, int] = {}

    def begin(self, tickers: Iterable[str], now: int, lasts_ns: int, *, whole: bool) -> None:
        """Rest in these markets from now on, after a `whole` exit in all; 0 is no rest."""
        if not lasts_ns:
            return
        self._until |= dict.fromkeys(tickers, now + lasts_ns)
        if whole:
            self.all_until = now + lasts_ns

    def memory(self, memory: Memory, now: int) -> Memory:
        """Return a memory with the rests that are not over."""
        rests = (each for each in self._until.items() if each[1] > now)
        return msgspec.structs.replace(memory, rests_all=self.all_until, rests=(*rests,))

    def recall(self, memory: Memory) -> None:
        """Go on resting as an earlier run did."""
        self.all_until, self._until = memory.rests_all, dict(memory.rests)

    def until(self, ticker: str) -> int:
        """Return when a market may be entered again."""
        return max(self._until.get(ticker, 0), self.all_until)


# === Situation ===

# All that the gate judges by, and what keeps it from being open at all.

_Objection = tuple[Reason, str, Mapping[str, object]]


class Stops:
    """What people stopped: `halted` and `paused` are their reasons, "" for nothing.

    Exits and guard go on, as ever. A halt is `foreign` where others trade the account. The next
    step of `Risk` reports what the gate became by it.
    """

    def __init__(self) -> None:
        self.halted = self.paused = ""
        self.foreign = False

    def halt(self, reason: str, *, foreign: bool = False) -> None:
        """Let exits and guard alone go on until `Risk.resume`."""
        self.halted, self.foreign = reason or "no reason was given", foreign

    def pause(self, reason: str) -> None:
        """Let nothing enter until a person takes it back."""
        self.paused = reason or "no reason was given"

    def unpause(self) -> None:
        """Take a pause back; what was lost counts on."""
        self.paused = ""


class Situation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that the gate judges by, at the event time `now` (ns).

    `rest` is where nothing enters yet, `stops` what people stopped. `sent` is how many orders the
    last minute saw, `standing` how many entries that stand the last blocks did; `number` and
    `client_id` are the next verdict's and the next order's.
    """

    policy: Policy
    valued: Valuation
    course: Course
    returns: Returns
    now: int
    rest: CoolDown = msgspec.field(default_factory=CoolDown)
    stops: Stops = msgspec.field(default_factory=Stops)
    sent: int = 0
    standing: int = 0
    number: int = 1
    client_id: int = 1


def standing(now: Situation) -> Standing:
    """Return what the gate lets pass, with every reason."""
    return Standing(
        state=state_of(now), reasons=tuple((reason, why) for reason, why, _ in dangers(now))
    )


def state_of(now: Situation) -> GateState:
    """Return what the gate lets pass in a situation."""
    until = now.rest.all_until
    return gate_state(now.valued, now.course, now.policy, now.now, now.stops, until)


def gate_state(
    valued: Valuation, course: Course, policy: Policy, now: int, stops: Stops, all_until: int,
) -> GateState:  # fmt: skip
    """Return what the gate lets pass: all, or only what shrinks a position.

    REDUCING ends with its causes; HALTED, set by a person or a watchdog, when it is resumed.
    """
    # Computed after every event: no more than `dangers` has in words, which a test holds it to.
    account = valued.account
    if stops.halted:
        return "HALTED"
    if stops.paused or account.trouble or valued.margin.unknown:
        return "REDUCING"
    if course.lost is not None or course.sunk is not None or is_spent(course, policy):
        return "REDUCING"
    if now < all_until:
        return "REDUCING"
    return "REDUCING" if account.polled and now - account.at > policy.stale_ns else "ACTIVE"


def dangers(now: Situation) -> Iterator[_Objection]:
    """Yield what keeps the gate from being ACTIVE, the gravest first."""
    account, course, policy = now.valued.account, now.course, now.policy
    if why := now.stops.halted:
        yield "FOREIGN" if now.stops.foreign else "HALTED", f"halted: {why}", {"halted": why}
    if why := now.stops.paused:
        yield "PAUSED", f"entries are paused: {why}", {"paused": why}
    age = now.now - account.at
    if account.trouble:
        yield "UNKNOWN_ACCOUNT", account.trouble, {"last_frame": account.seq}
    elif account.polled and age > policy.stale_ns:
        why = f"the account was polled {age / 1e9:.1f} s ago, limit {policy.stale_seconds:g} s"
        yield "UNKNOWN_ACCOUNT", why, {"age_s": age / 1e9, "limit_s": policy.stale_seconds}
    if unknown := ", ".join(now.valued.margin.unknown):
        yield "UNKNOWN_ORACLE", f"no oracle price of {unknown}", {"unknown": unknown}
    if course.lost is not None:
        _, bound = course.day_limit(policy) or (0, 0)
        lost, most = usdc_text(course.lost), usdc_text(bound)
        why = f"{lost} USDC were lost since 00:00 UTC, limit {most}{course.cause}"
        figures = {"lost": lost, "limit": most}
        yield "DAILY_LOSS", f"{why}: nothing enters until 00:00 UTC", figures
    if course.sunk is not None:
        sunk, limit = percent_text(course.sunk), percent_text(policy.max_drawdown)
        flat = "once nothing is held and entries have rested, or " if policy.cool_down_s else ""
        why = f"drawdown {sunk}, limit {limit}{course.cause}: measured anew {flat}when resumed"
        yield "DRAWDOWN", why, {"drawdown": sunk, "limit": limit}
    if course.lost is None and course.sunk is None and is_spent(course, policy):
        yield _spent(course, policy)
    if (left := now.rest.all_until - now.now) > 0:
        why = f"all was closed: nothing enters for {left / 1e9:.0f} s"
        yield "COOL_DOWN", why, {"left_s": left / 1e9}


def _spent(course: Course, policy: Policy) -> _Objection:
    left, of_day = percent_text(max(course.room, 0.0)), course.tightest == "DAILY_LOSS"
    flat = "once nothing is held and entries have rested, or " if policy.cool_down_s else ""
    ends = "until 00:00 UTC" if of_day else f"until it is measured from here, {flat}when resumed"
    why = f"{left} of what {_LIMITS[course.tightest]} may be is left: nothing enters {ends}"
    return "DAILY_LOSS" if of_day else "DRAWDOWN", why, {"left": left}


# === Objections ===

# What there is against a decision, in words and figures: by its market, its account, what is in
# flight, and by each limit that a fill at the worst price would be beyond.

# The reason of a denial, by the objection of dydx_data.
_REASONS: Final[Mapping[ObjectionKind, Reason]] = {
    "STATUS": "STATUS",
    "UNKNOWN_STATUS": "STATUS",
    "UNKNOWN_MARKET": "UNKNOWN_MARKET",
    "UNKNOWN_ORACLE": "UNKNOWN_ORACLE",
    "UNKNOWN_BOOK": "NO_BOOK",
    "ONE_SIDED": "NO_BOOK",
    "STALE": "STALE",
    "LAG": "LAG",
}

_NO_HEIGHT: Final[_Objection] = ("UNKNOWN_HEIGHT", "no block height seen yet", {"height": 0})


class _Room(msgspec.Struct, frozen=True, gc=False):
    # A limit of notional: the whole account's or one market's, in USDC or in equities.
    reason: Reason
    what: str
    limit: float
    of_account: bool
    in_equities: bool

    def most(self, others: int, own: int, equity: int, cost_ppm: int) -> int:
        """Return how large a position may be, in quote quantums, once growing has cost its part."""
        others *= self.of_account
        if not self.in_equities:
            return int(self.limit * 1e6) - others
        share = floor(self.limit * PPM)
        most = share * (equity * PPM + cost_ppm * own) - others * PPM**2
        return most // (PPM**2 + share * cost_ppm)

    def used(self, others: int, own: int, equity: int) -> float:
        """Return what is used of the limit, in its own unit: inf of an equity of nothing."""
        unit = equity if self.in_equities else 10**6
        return (own + others * self.of_account) / unit if unit > 0 else inf


def _rooms(policy: Policy, ticker: str) -> Iterator[_Room]:
    """Yield the limits of notional that a policy sets."""
    market = f"notional of {ticker}"
    if (most := policy.max_account_usdc) is not None:
        yield _Room("NOTIONAL", "notional in USDC", most, True, False)
    if (most := policy.max_account_share) is not None:
        yield _Room("NOTIONAL", "notional in equities", most, True, True)
    if (most := policy.market_usdc.get(ticker, policy.max_market_usdc)) is not None:
        yield _Room("MARKET_NOTIONAL", f"{market} in USDC", most, False, False)
    if (most := policy.max_market_share) is not None:
        yield _Room("MARKET_NOTIONAL", f"{market} in equities", most, False, True)


class _Case(msgspec.Struct, frozen=True, gc=False):
    # A decision with the market it is about, what is held of it, and its limits of notional.
    decision: Decision
    view: MarketView
    market: PerpetualMarket
    held: int
    now: Situation
    rooms: tuple[_Room, ...]


def _unready(case: _Case) -> Iterator[_Objection]:
    """Yield what speaks against any new risk in this market now, whatever its size."""
    valued, ticker = case.now.valued, case.market.ticker
    if pending := valued.account.orders.in_flight(ticker):
        yield _waiting(pending[-1], valued.account.height)
    yield from _astray(valued.account, ticker)
    yield from dangers(case.now)
    yield from _resting(case)
    yield from _untradable(case.view, case.decision.at, case.now.policy)
    yield from _outdated(valued.held, case.decision.at, case.now.policy)
    beside = [view for t in _occupied(valued) if t != ticker and (view := valued.views.get(t))]
    others = [market for view in beside if (market := view.market) is not None]
    if mixes_isolated([case.market, *others]):
        held = " ".join(sorted(other.ticker for other in others))
        yield "ISOLATED", "an isolated market needs a subaccount of its own", {"held": held}
    yield from _unmeasured(case)


def _astray(account: Account, ticker: str) -> Iterator[_Objection]:
    """Yield that an order of an earlier run may still fill: with another one it would be twice."""
    for state in account.orders.strays.values():
        if state.named is not None and state.named.ticker == ticker:
            number = state.named.client_id
            why = f"an order of an earlier run, client id {number}, is still to be taken back"
            yield "IN_FLIGHT", why, {"client_id": number}
            return


def _unmeasured(case: _Case) -> Iterator[_Objection]:
    """Yield what is not known of a market's past: one that was not watched is not calm."""
    policy, returns, ticker = case.now.policy, case.now.returns, case.market.ticker
    if (least := policy.warm_up_s) and (known_s := returns.known_s(ticker)) < least:
        why = f"{known_s:.0f} s of the last hour of {ticker} are known, expected {least:g} s"
        yield "WARM_UP", why, {"known_s": known_s, "limit_s": least}
    if policy.max_volatility_1h is not None:
        volatility = returns.volatility_1h(ticker)
        if not _usable(volatility):
            why = f"{ticker} cannot be sized: {_no_volatility(volatility)}"
            figures = {"volatility_1h": volatility, "known_s": returns.known_s(ticker)}
            yield "VOLATILITY_UNKNOWN", why, figures


def _resting(case: _Case) -> Iterator[_Objection]:
    ticker, rest, now = case.market.ticker, case.now.rest, case.now.now
    if (left := rest.until(ticker) - now) > 0 and rest.all_until <= now:
        why = f"{ticker} was reduced: nothing enters until {time_text(case.decision.at + left)}"
        yield "COOL_DOWN", f"{why}, for {left / 1e9:.0f} s", {"left_s": left / 1e9}


def _untradable(view: MarketView, at: int, policy: Policy) -> Iterator[_Objection]:
    """Yield what a market itself has against being entered: all that a view can deny."""
    for objection in stopping(view, "entry", at, policy.stale_ns):
        yield _REASONS[objection.kind], objection.why, dict(objection.figures)
    if not view.chain.height:
        yield _NO_HEIGHT


def _outdated(held: Mapping[str, Exposure], at: int, policy: Policy) -> Iterator[_Objection]:
    # The margin is no younger than the oldest price in it. One that nobody moves is not old.
    since = at - policy.stale_ns
    aged = [(t, e.view) for t, e in held.items() if e.oracle and e.oracle.at < since]
    old = [(view.priced_at, ticker) for ticker, view in aged if view is not None]
    oldest, ticker = min(old, default=(at, ""))
    if oldest < since:
        age, limit = at - oldest, policy.stale_seconds
        words = f"is not confirmed for {age / 1e9:.1f} s, limit {limit:g} s"
        why = f"the oracle price of {ticker} {words}"
        yield "STALE", why, {"ticker": ticker, "age_s": age / 1e9, "limit_s": limit}


def _waiting(pending: Reservation, height: int) -> _Objection:
    last = pending.order.good_til_block
    if pending.stands:
        until = pending.order.good_til_block_time
        why = f"{pending.verdict_id} waits for its price until {time_text(until * 10**9)}"
        return "IN_FLIGHT", why, {"verdict": pending.verdict_id, "until": until, "now": height}
    why = f"{pending.verdict_id} has no answer: it may fill until block {last}, now {height}"
    if pending.shut:
        why = f"{pending.verdict_id} was refused, {pending.shut}: until block {last}, now {height}"
    return "IN_FLIGHT", why, {"verdict": pending.verdict_id, "until": last, "now": height}


def _off_oracle(candidate: Candidate, bound_bps: int) -> _Objection | None:
    """Return that the book offers nothing within the bound around the oracle price, if so."""
    book, oracle, buys = candidate.view.book, candidate.view.oracle, candidate.side == "BUY"
    level = book.best_ask if buys else book.best_bid
    if level is None or oracle is None or oracle.digits <= 0:
        return None
    off = 100 * abs(level.price / oracle.price - 1)
    # Nearly always far from the bound; at it, what counts is the grid.
    if 100 * off < bound_bps - 1 or not candidate.is_beyond(level):
        return None
    name, way = ("ask", "above") if buys else ("bid", "below")
    why = (
        f"the best {name} {level.price_text} is {off:.1f} % {way} the oracle price {oracle.text}, "
        f"limit {bound_bps / 100:g} %"
    )
    figures = {name: level.price_text, "oracle": oracle.text, "limit_bps": bound_bps}
    return "OFF_ORACLE", why, figures


def _below_step(market: PerpetualMarket, delta: int) -> _Objection:
    wanted = amount_text(market.size(abs(delta)))
    step = amount_text(market.size(market.step_base_quantums))
    why = f"{wanted} {market.ticker} is left to trade, less than one step of {step}"
    return "BELOW_STEP", why, {"wanted": wanted, "step": step}


def _beyond(case: _Case, candidate: Candidate, after: MarginFigures) -> Iterator[_Objection]:
    """Yield which limits the account would be beyond, were the candidate filled at its worst."""
    policy, distance, leverage = case.now.policy, after.distance, after.leverage
    if after.free_collateral < 0:
        needs, has = usdc_text(after.initial_margin), usdc_text(after.net_collateral)
        yield "MARGIN", f"needs {needs} of initial margin, would have {has}", _in_usdc(after)
    limit_ = leverage_limit(case.now.course, policy)
    if leverage is None or leverage > limit_:
        was = "undefined" if leverage is None else f"{leverage:.2f}"
        why = f"leverage would be {was}, limit {limit_:g}"
        yield "LEVERAGE", why, _in_usdc(after)
    if distance is not None and distance < policy.keep_above:
        limit = percent_text(policy.keep_above)
        why = f"distance would be {percent_text(distance)}, limit {limit}"
        yield "DISTANCE", why, _in_usdc(after)
    for reason, what, would_be, most in _measured(case, candidate):
        if not would_be <= most:  # nor if it is no number
            yield _passed(reason, what, would_be, most)


def _measured(case: _Case, candidate: Candidate) -> Iterator[tuple[Reason, str, float, float]]:
    """Yield what a policy limits: what it would be, and the most it may."""
    policy, ticker, valued = case.now.policy, case.market.ticker, case.now.valued
    most: float | None = policy.max_positions
    if most is not None and ticker not in valued.held:
        yield "POSITIONS", "positions", len(_occupied(valued) | {ticker}), most
    if (most := policy.max_orders_per_minute) is not None:
        yield "ORDER_RATE", "orders in a minute", case.now.sent + 1, most
    if (most := policy.max_slippage_bps) is not None:
        yield "SLIPPAGE", "slippage in bps", candidate.slippage_bps, most


def _occupied(valued: Valuation) -> Set[str]:
    """Return the markets in which something is held, or will be if what is in flight fills."""
    account = valued.account
    if not (account.orders.reserved or account.unreadable or account.orders.open):
        return valued.held.keys()
    orders = [reservation.order for reservation in account.orders.reserved.values()]
    growing = {order.ticker for order in orders if not order.reduce_only}
    growing |= {order.market.ticker for order, _ in valued.resting()}
    return valued.held.keys() | account.unreadable | growing


def leverage_limit(course: Course, policy: Policy) -> float:
    """Return the gross leverage that may be held: with `protect` it goes with the room left."""
    return policy.max_leverage * (borne(course.room) if policy.protect else 1.0)


def _passed(reason: Reason, what: str, would_be: float, most: float) -> _Objection:
    why = f"{what} would be {would_be:,.2f}, limit {most:,.2f}"
    return reason, why, {"would_be": f"{would_be:.6f}", "limit": f"{most:.6f}"}


def _in_usdc(margin: MarginFigures) -> dict[str, str]:
    return {name: usdc_text(getattr(margin, name)) for name in _MARGIN_NAMES}


def _refused(case: _Case, objection: _Objection) -> Denied:
    return _denied(case.decision, objection, case.now.number)


def _denied(
    cause: Decision | MarketView, objection: _Objection, number: int, ticker: str = ""
) -> Denied:
    reason, why, figures = objection
    return Denied(
        id=f"V{number}",
        ticker=ticker or cause.ticker,
        decision=cause if isinstance(cause, Decision) else None,
        seq=cause.seq,
        at=cause.at,
        reason=reason,
        figures=tuple((name, str(figure)) for name, figure in figures.items()),
        why=why,
    )


# === Entries ===

# How an entry meets the market, at once, at rest or behind a trigger, and where it is left again.


def _take(case: _Case, delta: int) -> Candidate | _Objection:
    """Make an entry that crosses the book at once."""
    policy = case.now.policy
    bound = policy.max_oracle_bps
    candidate = ioc(case.view, case.market, delta, policy.slippage_bps, bound)
    if candidate is None or not candidate.size:
        return _below_step(case.market, delta)
    return _off_oracle(candidate, bound) or candidate


def _make(case: _Case, delta: int) -> Candidate | _Objection:
    """Make an entry that rests behind the best price of its own side, nor beyond the oracle's."""
    view, market, buys = case.view, case.market, delta > 0
    own, bps = view.book.best_bid if buys else view.book.best_ask, case.decision.entry_offset_bps
    level = next(on_grid(market, [own] if own is not None else []), None)
    if level is None or view.oracle is None:
        name = "bid" if buys else "ask"
        return "NO_BOOK", f"no best {name} of {market.ticker} to rest behind", {"side": name}
    # In parts per million, and away from the market.
    limit = slipped(market, level[0], -round(100 * bps), buys, whole=PPM)
    bound_bps = case.now.policy.max_oracle_bps
    bound = worst_subticks(market, view.oracle.digits, view.oracle.exponent, bound_bps, buys)
    return _standing(case, delta, min(limit, bound) if buys else max(limit, bound))


def _stop(case: _Case, delta: int) -> Candidate | _Objection:
    """Make an entry that waits for its trigger: beyond the oracle price, which else fires it."""
    market, buys, oracle = case.market, delta > 0, case.view.oracle
    trigger, now = _on_tick(market, case.decision.trigger_price, buys), _oracle_subticks(case)
    if oracle is None or (trigger <= now if buys else trigger >= now):
        way = "above" if buys else "below"
        price = case.decision.trigger_price
        return _misplaced("trigger", price, way, _price_words(market, now), "the oracle price")
    return _standing(case, delta, slipped(market, trigger, case.now.policy.slippage_bps, buys))


_ENTRIES: Final[Mapping[Entry, Callable[[_Case, int], Candidate | _Objection]]] = {
    "take": _take,
    "make": _make,
    "stop": _stop,
}


def _standing(case: _Case, delta: int, subticks: int) -> Candidate | _Objection:
    """Make an entry that stands on the venue, if it takes one more."""
    market, now, account = case.market, case.now, case.now.valued.account
    size = abs(delta) - abs(delta) % market.step_base_quantums
    if not size:
        return _below_step(market, delta)
    if not case.view.chain.time_ns:
        return "UNKNOWN_HEIGHT", "no block time seen yet: an order that stands has an end", {}
    most, open_ = stateful_order_limit(now.valued.margin.net_collateral), account.orders.stateful
    if open_ >= most:
        why = f"{open_} orders stand on the venue, it takes {most} of an equity like this"
        return "ORDER_RATE", why, {"open": open_, "limit": most}
    if now.standing >= _MOST_STANDING:
        why = f"{now.standing} orders that stand in {_PACE_BLOCKS} blocks, limit {_MOST_STANDING}"
        return "ORDER_RATE", why, {"sent": now.standing, "limit": _MOST_STANDING}
    return Candidate(market, case.view, "BUY" if delta > 0 else "SELL", size, subticks)


# The chain takes 20 orders that stand in 100 blocks, and 2 in a block: half are the brackets'.
_PACE_BLOCKS: Final = 100
_MOST_IN_PACE: Final = 20
_MOST_IN_BLOCK: Final = 2
_ONE_BLOCK_NS: Final = 1_500_000_000
_MOST_STANDING: Final = _MOST_IN_PACE // 2


def _request(case: _Case, candidate: Candidate, *, reduce_only: bool) -> OrderRequest:
    """Return the order of a decision: what shrinks takes, whatever the entry."""
    now, decision = case.now, case.decision
    if reduce_only or decision.entry == "take":
        blocks = now.policy.good_til_blocks
        return candidate.request(now.client_id, good_til_blocks=blocks, reduce_only=reduce_only)
    until_s = case.view.chain.time_ns // 10**9 + ceil(decision.patience_s)
    if decision.entry == "make":
        return candidate.standing(now.client_id, until_s)
    trigger = _on_tick(case.market, decision.trigger_price, candidate.side == "BUY")
    return candidate.standing(now.client_id, until_s, "STOP_LOSS", trigger)


def _wait_words(case: _Case, order: OrderRequest) -> str:
    if order.order_flags == SHORT_TERM:
        return ""
    how = ", resting as a maker"
    if order.trigger_subticks:
        passes = "rises to" if order.side == "BUY" else "falls to"
        how = f" once the price {passes} {_price_words(case.market, order.trigger_subticks)}"
    return f"{how}, for {case.decision.patience_s:g} s"


def _entry_price(case: _Case, candidate: Candidate | None = None) -> int:
    """Return the price, in subticks, at which a position is entered: brackets stand around it."""
    decision = case.decision
    if candidate is not None and decision.entry == "make":
        return candidate.subticks
    if candidate is not None and decision.entry == "stop":
        return _on_tick(case.market, decision.trigger_price, candidate.side == "BUY")
    return _oracle_subticks(case)


def _intended(case: _Case, price: int) -> Levels | _Objection | None:
    """Return where a decision leaves; an objection where that would be at once."""
    levels, decision = _levels_as_decided(case), case.decision
    if levels is None:
        return None
    what = "the oracle price" if decision.entry == "take" else f"the entry's {decision.entry}"
    words = _price_words(case.market, price)
    low, high = "stop loss", "take profit"
    below, above = decision.stop_loss, decision.take_profit
    lower, upper = levels.stop_loss, levels.take_profit
    if not levels.is_long:
        low, high, below, above, lower, upper = high, low, above, below, upper, lower
    if below and not 0 < lower < price:
        return _misplaced(low, below, "below", words, what)
    if above and upper <= price:
        return _misplaced(high, above, "above", words, what)
    return levels


def _levels_as_decided(case: _Case) -> Levels | None:
    """Return where a decision leaves, on the grid: to the tick that fires later."""
    decision, market = case.decision, case.market
    if not (decision.stop_loss or decision.take_profit):
        return None
    is_long = decision.target_usdc > 0
    return Levels(
        is_long=is_long, decision=decision.id,
        stop_loss=_on_tick(market, decision.stop_loss, not is_long),
        take_profit=_on_tick(market, decision.take_profit, is_long),
    )  # fmt: skip


def _on_tick(market: PerpetualMarket, price: float, rising: bool) -> int:
    """Return a trigger in subticks, rounded as the chain would: away from firing."""
    text = f"{Decimal(repr(price)):f}"
    subticks = market.ceil_subticks(text) if rising else market.floor_subticks(text)
    return min(subticks, MOST_SUBTICKS // market.subticks_per_tick * market.subticks_per_tick)


def _oracle_subticks(case: _Case) -> int:
    oracle = case.view.oracle
    if oracle is None:
        return 0
    return worst_subticks(case.market, oracle.digits, oracle.exponent, 0, buys=True)


def _misplaced(what: str, price: float, way: str, words: str, than: str) -> _Objection:
    why = f"the {what} {price:,.10g} is not {way} {than} {words}: it would fire at once"
    return "INTENT", why, {what.replace(" ", "_"): price, "price": words}


def _price_words(market: PerpetualMarket, subticks: int) -> str:
    return amount_text(market.price(subticks))


def _side_word(decision: Decision) -> str:
    return "long" if decision.target_usdc > 0 else "short"


# === Cuts ===

# An entry that is too large is cut to what may be held, borne and sent, or denied where that leaves
# nothing of it.


class _Cut(msgspec.Struct, frozen=True, gc=False):
    # The unsigned quantums that an order is cut to, and by what, in words.
    size: int
    why: str


class _Fitted(msgspec.Struct, frozen=True, gc=False):
    # A candidate cut to what bounds it, the account once it filled at its worst, the cuts in words.
    candidate: Candidate
    after: MarginFigures
    why: str


def _fitted(case: _Case, candidate: Candidate, base: MarginFigures) -> _Fitted | _Objection:
    """Cut a candidate to all that bounds its size; an objection where that leaves nothing of it."""
    why = ""
    for cut in (_to_what_is_borne, _to_one_order):
        found = cut(case, candidate, base)
        if isinstance(found, tuple):
            return found
        if found is not None:
            candidate, why = msgspec.structs.replace(candidate, size=found.size), why + found.why
    after = _after(case, candidate, base)
    if next(_exceeded(case, candidate, after), None) is None:
        return _Fitted(candidate, after, why)
    found = _to_limits(case, candidate, base)
    if isinstance(found, tuple):
        return found
    candidate = msgspec.structs.replace(candidate, size=found.size)
    after = _after(case, candidate, base)
    # What is left is below each limit by its cost: no rounding may make it more.
    return next(_exceeded(case, candidate, after), _Fitted(candidate, after, why + found.why))


def _after(case: _Case, candidate: Candidate, base: MarginFigures) -> MarginFigures:
    interest, fee_ppm = case.now.valued.interest(case.view), case.now.policy.taker_fee_ppm
    return candidate.after(base, case.held, candidate.worst_quote, fee_ppm, interest)


def _exceeded(case: _Case, candidate: Candidate, after: MarginFigures) -> Iterator[_Objection]:
    """Yield which limits of notional the account would be beyond."""
    if case.rooms:
        own = _notional(case, case.held + candidate.delta)
        for room in case.rooms:
            used = room.used(after.notional - own, own, after.net_collateral)
            if not used <= room.limit:
                yield _passed(room.reason, room.what, used, room.limit)


def _to_limits(case: _Case, candidate: Candidate, base: MarginFigures) -> _Cut | _Objection:
    """Cut a candidate to the limits of notional; an objection where they leave nothing of it."""
    market, held, rooms, oracle = case.market, case.held, case.rooms, case.view.oracle
    own, wanted = _notional(case, held), _notional(case, held + candidate.delta)
    others, equity, cost_ppm = base.notional - own, base.net_collateral, _cost_ppm(case, candidate)
    mosts = [room.most(others, own, equity, cost_ppm) for room in rooms]
    room, most = rooms[mosts.index(min(mosts))], max(min(mosts), 0)
    price = (oracle.digits, oracle.exponent) if oracle is not None else (1, 0)
    borne = quote_to_base(most, *price, market.atomic_resolution)
    size = borne - (held if candidate.side == "BUY" else -held)
    size -= size % market.step_base_quantums
    if size <= 0:
        return _passed(room.reason, room.what, room.used(others, wanted, equity), room.limit)
    return _Cut(min(size, candidate.size), f", cut to {room.limit:g} of {room.what}")


def _notional(case: _Case, quantums: int) -> int:
    """Return what so much of the market is worth, unsigned; nothing where that is not known."""
    oracle = case.view.oracle
    if oracle is None:
        return 0
    return abs(position_margin(case.market, quantums, oracle.digits, oracle.exponent).net_notional)


def _cost_ppm(case: _Case, candidate: Candidate) -> int:
    """Return what a candidate loses at its worst price, fee paid, in ppm of what it trades."""
    worst, fair = candidate.worst_quote, _notional(case, candidate.size)
    lost = max(worst - fair if candidate.side == "BUY" else fair - worst, 0)
    lost += mul_ppm(worst, case.now.policy.taker_fee_ppm, round_up=True)
    return lost * PPM // max(fair, 1) + 2


def _to_what_is_borne(
    case: _Case, candidate: Candidate, base: MarginFigures
) -> _Cut | _Objection | None:
    """Cut a candidate by the policy's stress and volatility; an objection where nothing is left."""
    market, policy, oracle, held = case.market, case.now.policy, case.view.oracle, case.held
    if (policy.bear_move is None and policy.max_volatility_1h is None) or oracle is None:
        return None
    wanted = held + candidate.delta
    collateral, holdings = _filled(case.now)
    sizing = bound_position(
        position_margin(market, wanted, oracle.digits, oracle.exponent).net_notional,
        observed(case.view, market, held, case.now.returns, case.now.valued.interest(case.view)),
        collateral, holdings,
        equity=base.net_collateral, adverse=policy.bear_move,
        volatility_1h=policy.max_volatility_1h, cap=leverage_limit(case.now.course, policy),
        cost_ppm=_cost_ppm(case, candidate),
    )  # fmt: skip
    if sizing.limited_by == "proposal":
        return None
    if abs(sizing.quantums) <= abs(held) and sizing.quantums * held >= 0:
        figures = {"wanted": wanted, "borne": sizing.quantums}
        return "SIZE", f"no more is borne: {sizing.why}", figures
    size, step = abs(sizing.quantums - held), market.step_base_quantums
    return _Cut(size // step * step, f", sized by {sizing.why}")


def _to_one_order(case: _Case, candidate: Candidate, _: MarginFigures) -> _Cut | _Objection | None:
    """Cut a candidate to what one order may be; an objection where that is less than a step."""
    market, usdc = case.market, case.now.policy.max_order_usdc
    most, step = _at_oracle(usdc, case.view, market) or 0, market.step_base_quantums
    if candidate.size <= most:
        return None
    if most < step:
        return _below_step(market, candidate.delta)
    return _Cut(most // step * step, f", cut to {usdc:,.0f} USDC")


def _filled(now: Situation) -> tuple[int, list[Holding]]:
    # The account with every order in flight filled at its worst price, fee paid.
    valued, fee_ppm = now.valued, now.policy.taker_fee_ppm
    views, collateral = valued.views, valued.account.settled
    sizes = {ticker: valued.size(ticker) for ticker in valued.held}
    for order in [
        r.order for r in valued.account.orders.reserved.values() if not r.order.reduce_only
    ]:
        if (grid := views[order.ticker].market) is not None:
            quote = grid.quote_quantums(order.quantums, order.subticks)
            collateral -= quote if order.side == "BUY" else -quote
            collateral -= mul_ppm(quote, fee_ppm, round_up=True)
        sizes[order.ticker] = sizes.get(order.ticker, 0) + order.signed_quantums
    for other, quote in valued.resting():
        collateral -= quote if other.side == "BUY" else -quote
        ticker = other.market.ticker
        sizes[ticker] = sizes.get(ticker, 0) + other.delta
    seen = [(views[ticker], size) for ticker, size in sizes.items()]
    return collateral, [
        priced(view, view.market, size, valued.interest(view))
        for view, size in seen
        if view.market is not None
    ]


def _at_oracle(usdc: float, view: MarketView, market: PerpetualMarket) -> int | None:
    quote, oracle = int(usdc * 1_000_000), view.oracle
    if not quote:
        return 0
    if oracle is None:
        return None
    return quote_to_base(quote, oracle.digits, oracle.exponent, market.atomic_resolution)


# === Gate ===

# Judges one decision by values alone: `review` sends, stores and raises nothing.
# What shrinks a position meets no limit here, what adds risk meets every one.


def review(decision: Decision, now: Situation) -> Approved | Denied:
    """Judge one decision; the first objection wins, and what is too much is cut where it can be."""
    views, target_usdc = now.valued.views, decision.target_usdc
    view = views.get(decision.ticker)
    market = view.market if view is not None else None
    if view is None or market is None:
        why = f"{decision.ticker} is not known yet"
        return _denied(decision, ("UNKNOWN_MARKET", why, {"markets_known": len(views)}), now.number)
    held, ticker = now.valued.size(market.ticker), market.ticker
    leaves_now = decision.urgency >= 1.0 and not target_usdc
    if ticker in now.valued.account.by_hand and not leaves_now:
        why = f"somebody else trades {ticker}: it is left to them until nothing is held or rests"
        return _denied(decision, ("FOREIGN", why, {"ticker": ticker}), now.number)
    case = _Case(decision, view, market, held, now, (*_rooms(now.policy, ticker),))
    target = _at_oracle(target_usdc, view, market)
    if target_usdc * held < 0 and abs(held) >= market.step_base_quantums:
        # Two orders, the second when the first is done: sent as one or side by side, the far side
        # would open whole wherever another exit has matched first.
        return _leave(case, -held)
    if target is None:
        unpriced: _Objection = "UNKNOWN_ORACLE", f"no oracle price of {ticker}", {"ticker": ticker}
        return _denied(decision, unpriced, now.number)
    if held and target * held >= 0 and abs(target) < abs(held):
        return _leave(case, target - held)
    return _enter(case, target - held)


def only_brackets(decision: Decision) -> bool:
    """Return whether a decision changes nothing but where what is held is left."""
    return decision.target_usdc == decision.previous_usdc != 0


def review_brackets(decision: Decision, now: Situation) -> Levels | Denied | None:
    """Judge where what is held shall be left; None for nowhere."""
    view = now.valued.views.get(decision.ticker)
    if view is None or view.market is None:
        why = f"{decision.ticker} is not known yet"
        return _denied(decision, ("UNKNOWN_MARKET", why, {}), now.number)
    held = now.valued.size(decision.ticker)
    case = _Case(decision, view, view.market, held, now, ())
    if decision.target_usdc * held <= 0:
        why = f"no {_side_word(decision)} is held that a stop or a profit could leave"
        return _refused(case, ("INTENT", why, {"held": held}))
    found = _intended(case, _entry_price(case))
    return found if isinstance(found, Levels | None) else _refused(case, found)


def _leave(case: _Case, delta: int) -> Approved | Denied:
    # No limit may block the way out, only the grid, what the venue refuses anyhow, and a price that
    # only an urgent exit would take; nothing is sent out twice.
    view, market, valued, policy = case.view, case.market, case.now.valued, case.now.policy
    if stops := stopping(view, "exit"):
        reason, why = _REASONS[stops[0].kind], f"{stops[0].why}: no order is taken"
        return _refused(case, (reason, why, dict(stops[0].figures)))
    pending = valued.reductions(market.ticker)
    going = sum(r.order.quantums for r in pending if not r.doubted)  # integers
    if going >= abs(delta):
        return _refused(case, _waiting(pending[-1], valued.account.height))
    delta += going if delta < 0 else -going
    urgent = case.decision.urgency >= 1.0 and not case.decision.target_usdc
    bound = None if urgent else policy.max_oracle_bps
    candidate = ioc(view, market, delta, policy.guard_slippage_bps, bound)
    if candidate is None:
        why, figures = "neither a book nor an oracle price to go by", {"known": view.book.known}
        return _refused(case, ("NO_BOOK", why, figures))
    if not candidate.size:
        return _refused(case, _below_step(market, delta))
    if bound is not None and (off := _off_oracle(candidate, bound)) is not None:
        why = f"{off[1]}; a target of 0 at urgency 1 is not bound"
        return _refused(case, (off[0], why, off[2]))
    if not view.chain.height:
        return _refused(case, _NO_HEIGHT)
    interest, worst = valued.interest(view), candidate.worst_quote
    after = candidate.after(valued.margin, case.held, worst, policy.taker_fee_ppm, interest)
    old, new = (amount_text(market.size(size)) for size in (case.held, case.held + candidate.delta))
    why = f"{candidate.words} shrinks {old} to {new}: that always passes"
    if case.decision.target_usdc * case.held < 0:
        why += "; the other side waits until nothing is held"
    order = _request(case, candidate, reduce_only=True)
    # Passed already, a stop is one that has been hit: nothing to refuse.
    levels = _levels_as_decided(case) if case.decision.target_usdc * case.held > 0 else None
    return _approved(case, order, after, why, levels)


def _enter(case: _Case, delta: int) -> Approved | Denied:
    objection = next(_unready(case), None)
    if objection is not None:
        return _refused(case, objection)
    base, candidate = case.now.valued.reserved, _ENTRIES[case.decision.entry](case, delta)
    if not isinstance(candidate, Candidate):
        return _refused(case, candidate)
    levels = _intended(case, _entry_price(case, candidate))
    if isinstance(levels, tuple):
        return _refused(case, levels)
    fit = _fitted(case, candidate, base)
    if isinstance(fit, tuple):
        return _refused(case, fit)
    candidate, after = fit.candidate, fit.after
    beyond = next(_beyond(case, candidate, after), None)
    if beyond is not None:
        return _refused(case, beyond)
    order = _request(case, candidate, reduce_only=False)
    why = (
        f"{candidate.words}{_wait_words(case, order)}{fit.why}: free collateral "
        f"{usdc_text(base.free_collateral)} becomes {usdc_text(after.free_collateral)}, leverage "
        f"{after.leverage or 0:.2f}, distance {percent_text(after.distance)} at the worst price"
    )
    return _approved(case, order, after, why, levels)


def _approved(
    case: _Case, order: OrderRequest, after: MarginFigures, why: str, levels: Levels | None
) -> Approved:
    now, decision = case.now, case.decision
    return Approved(
        id=f"V{now.number}",
        order=order,
        decision=decision,
        seq=decision.seq,
        at=decision.at,
        before=now.valued.margin,
        after=after,
        why=why + _level_words_of(case, levels),
        levels=levels,
    )


def _level_words_of(case: _Case, levels: Levels | None) -> str:
    if levels is None:
        return ""
    named = (("a stop loss", levels.stop_loss), ("a take profit", levels.take_profit))
    words = [f"{name} at {_price_words(case.market, price)}" for name, price in named if price]
    return f"; {' and '.join(words)} on the venue for all that is held"


# === Checks ===

# The limits that an order was held to, with its figures, for whoever reads a verdict: what the gate
# computed by is in its margin after. Judges nothing.


class Check(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A limit: what would be, were the order filled at its worst, and the most or least allowed.

    `unit` is "USDC", "x" (of the equity) or "%" (a fraction); `would_be` None is not known.
    """

    reason: Reason
    what: str
    would_be: float | None
    limit: float
    unit: str
    is_least: bool = False

    @property
    def passed(self) -> bool:
        """Return whether it is within the limit; what is not known is not."""
        if self.would_be is None:
            return False
        return self.would_be >= self.limit if self.is_least else self.would_be <= self.limit


def checks(verdict: Approved, policy: Policy) -> tuple[Check, ...]:
    """Return each limit of the account that an entry was held to; none of what shrinks.

    By the policy as it is now, at `max_leverage`: what `protect` takes off that is not known here.
    """
    after = verdict.after
    if verdict.order.reduce_only:
        return ()
    usdc, equity = after.notional / 1e6, after.net_collateral / 1e6
    rows: list[tuple[Reason, str, float | None, float | None, str]] = [
        ("MARGIN", "initial margin, of the equity", after.initial_margin / 1e6, equity, "USDC"),
        ("LEVERAGE", "leverage", after.leverage, policy.max_leverage, "x"),
        ("DISTANCE", "distance to liquidation", after.distance, policy.keep_above, "%"),
        ("NOTIONAL", "notional", usdc, policy.max_account_usdc, "USDC"),
        ("NOTIONAL", "notional, of the equity", after.leverage, policy.max_account_share, "x"),
    ]
    return tuple(
        Check(
            reason=reason, what=what, would_be=would_be, limit=limit, unit=unit,
            is_least=reason == "DISTANCE",
        )
        for reason, what, would_be, limit, unit in rows if limit is not None
    )  # fmt: skip


# === Retreat ===

# How far to go back, and below which distance: the guard by the move it is in, a protection by the
# room that is left.


def retreat(margin: MarginFigures, move: Move, policy: Policy, ahead: float) -> Step | None:
    """Return how far the guard goes back next, and below which distance; None if nothing is held.

    `ahead` is what the next two blocks may take of the distance. What is due is the last step that
    it passes, what is not yet is the first that it has not.
    """
    sensitivity, notional = margin.sensitivity, margin.notional
    if not notional:
        return None
    if sensitivity <= 0:  # maintenance of 100 %: no price helps
        return Step(inf, 0.0, "DISTANCE", "beyond liquidation") if margin.cushion < 0 else None
    begun = move
    if not move.is_on:
        begun = Move()
        begun.begin(margin, policy.act_below, policy.restore_to)
    held, step = notional / max(begun.held, 1.0), None
    distance = margin.cushion / sensitivity
    next_ = distance - ahead
    for left, share in reversed(_STAIRS):
        if held <= 1.03 * share:
            continue
        gone = (1 - left) * begun.room - begun.spent
        # What was paid out is no move, but the distance is what it is.
        least = policy.act_below + left * (policy.restore_to - policy.act_below)
        below = max((margin.cushion - gone) / sensitivity, least)
        if step is not None and next_ >= below:
            break
        why = _given_way(distance, next_, below, begun.spent / begun.room if held < 0.97 else 0.0)
        step = Step(below, share / held, "DISTANCE", why)
    return step


def _given_way(distance: float, then: float, below: float, spent: float) -> str:
    now, then_ = percent_text(distance), percent_text(then)
    if distance >= below:
        words = f"distance {now}, after two more such blocks {_less_text(then, below)}"
    else:
        words = f"distance {_less_text(distance, below)}"
        words += f", {then_} after two more such blocks" * (then_ != now)
    return words + (f", the move took {percent_text(spent)} of what it may" if spent > 0 else "")


def protect(margin: MarginFigures, course: Course, policy: Policy) -> Step | None:
    """Return how far a protection goes back, None if no limit is passed.

    It goes back to a twentieth below the limit, so that the next price does not pass it again.
    """
    limit, equity = leverage_limit(course, policy), margin.net_collateral
    if margin.notional <= limit * equity or not margin.notional:
        return None
    share = _BELOW_LIMIT * limit * max(equity, 0) / margin.notional
    was = "undefined" if margin.leverage is None else f"{margin.leverage:.2f}"
    cause: Cause = "LEVERAGE" if borne(course.room) == 1 else course.tightest
    return Step(inf, share, cause, f"leverage {was}, limit {limit:g}{_room_words(course)}")


_BELOW_LIMIT: Final = 0.95


def _room_words(course: Course) -> str:
    if borne(course.room) == 1:
        return ""
    left = percent_text(max(course.room, 0.0))
    return f": {left} of what {_LIMITS[course.tightest]} may be is left"


def is_near(margin: MarginFigures, policy: Policy, ahead: float) -> bool:
    """Return whether the distance that is defended is lost, or may be two blocks on."""
    return margin.cushion < (policy.restore_to + ahead) * margin.sensitivity


def due_step(
    margin: MarginFigures, move: Move, course: Course | None, policy: Policy, ahead: float
) -> Step | None:
    """Return how far to go back now: what asks for most of guard and protections.

    Without a `course` nothing protects. It changes nothing: whoever looks would change what the
    guard does.
    """
    step = None
    if move.room or is_near(margin, policy, ahead):
        step = retreat(margin, move, policy, ahead)
        if step is not None and _away(margin) - ahead >= step.below:
            step = None
    other = protect(margin, course, policy) if course is not None else None
    if other is not None and (step is None or other.share < step.share):
        return other
    return step


def _away(margin: MarginFigures) -> float:
    # Over what is known, where `distance` is None as soon as anything is not.
    return margin.cushion / max(margin.sensitivity, 1)


def _less_text(distance: float, limit: float) -> str:
    """Word a distance that is below a limit, to as many digits as tell them apart."""
    was, limit_text = percent_text(distance), percent_text(limit)
    if was == limit_text:
        was, limit_text = f"{100 * distance:.3f} %", f"{100 * limit:.3f} %"
    return f"{was} < {limit_text}" if was != limit_text else f"{was}, just below {limit_text}"


# === Triggers ===

# Every rule that reduces, and the level at which it acts next: for readers, nothing goes by it.


class Trigger(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A rule that reduces: the level at which it acts next, and the figure that it looks at.

    Of the guard both are distances to liquidation, of the loss and the drawdown equities in quote
    quantums, of the leverage multiples of the equity. It acts where the figure is below the
    level, of the leverage above. `share` may stay: of what is held, or of the policy's leverage
    where a loss or a drawdown acts. `away` is the move of every price against its position within
    one block after which it acts, 0 where it acts now, inf where none makes it: a leverage may need
    a greater one. None is unknown.
    """

    cause: Cause
    level: float
    now: float | None
    share: float
    why: str
    away: float | None = None


def triggers(
    margin: MarginFigures, move: Move, course: Course, policy: Policy, ahead: float
) -> tuple[Trigger, ...]:
    """Return every rule with the level at which it acts next and why it is there, nearest first."""
    rows = (
        msgspec.structs.replace(row, away=_away_from(row, margin, ahead))
        for row in _levels(margin, move, course, policy, ahead)
    )
    return tuple(sorted(rows, key=lambda row: -inf if row.away is None else row.away))


def _away_from(row: Trigger, margin: MarginFigures, ahead: float) -> float | None:
    notional = margin.notional
    if row.now is None or not notional:
        return None if row.now is None and notional else inf
    if row.cause == "DISTANCE":
        # What a block takes, the next ones may take as well; or what the last one took.
        left = row.now - row.level
        return max(min(left / (1 + _BLOCKS_AHEAD), left - ahead), 0.0)
    if row.cause == "LEVERAGE":
        return max(_lost_at(row.level, margin) / notional, 0.0)
    return max((row.now - row.level) / notional, 0.0)


def _lost_at(leverage: float, margin: MarginFigures) -> float:
    """Return what is lost, at least, until the leverage is so much.

    As if all were short, so that a move adds to the notional: no holding is there sooner.
    """
    return (leverage * margin.net_collateral - margin.notional) / (leverage + 1)


def _levels(
    margin: MarginFigures, move: Move, course: Course, policy: Policy, ahead: float
) -> Iterator[Trigger]:
    if (step := retreat(margin, move, policy, ahead)) is not None:
        yield Trigger(
            cause="DISTANCE", level=step.below, now=margin.distance, share=step.share,
            why=_level_words(move, policy, ahead),
        )  # fmt: skip
    if not policy.protect:
        return
    limit, held = leverage_limit(course, policy), margin.leverage
    share = 1.0 if not held else min(_BELOW_LIMIT * limit / held, 1.0)
    why = f"no more than {policy.max_leverage:g} times the equity{_room_words(course)}"
    yield Trigger(cause="LEVERAGE", level=limit, now=held, share=share, why=why)
    if (loss := course.day_limit(policy)) is not None:
        yield _loss_level("DAILY_LOSS", loss, margin, course, policy)
    if (loss := course.peak_limit(policy)) is not None:
        yield _loss_level("DRAWDOWN", loss, margin, course, policy)


def _loss_level(
    cause: Cause, loss: tuple[int, int], margin: MarginFigures, course: Course, policy: Policy
) -> Trigger:
    since, most = loss
    lost, room = since - course.profit, 1 - (since - course.profit) / max(most, 1)
    ahead = [step for step in _STAIRS if step[0] < room] or _STAIRS[:1]
    # A step acts where it is passed, or later, once the leverage is above what may stay by it.
    levels = [
        (max((1 - left) * most - lost, _lost_at(policy.max_leverage * share, margin)), share)
        for left, share in ahead
    ]
    away, stays = (
        min(levels) if margin.notional else ((1 - ahead[-1][0]) * most - lost, ahead[-1][1])
    )
    top, end = since + course.paid_in, since + course.paid_in - most
    return Trigger(
        cause=cause, level=course.profit + course.paid_in - away,
        now=None if margin.unknown else float(margin.net_collateral), share=stays,
        why=f"from {usdc_text(top)} USDC down to {usdc_text(end)}, where nothing stays",
    )  # fmt: skip


def _level_words(move: Move, policy: Policy, ahead: float) -> str:
    top, bottom = percent_text(policy.restore_to), percent_text(policy.act_below)
    words = f"from {top} down to {bottom}, where nothing stays"
    if move.is_on and move.spent > 0:
        words += f"; a move took {percent_text(move.spent / move.room)} of the way"
    return words + (f"; two more such blocks take {percent_text(ahead)}" if ahead > 0 else "")


# === Guard ===

# Answers a danger by values alone: `defend` fires what is due of the plan, or returns why nothing
# can be. It never adds, never flips, and no limit of the gate stops it. `Defence` is its memory.


class Danger(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account near liquidation, or with a part that cannot be valued, as a view shows it.

    `margin` counts what has no price at what it was bought for. `plan` is None where there is no
    cause to fire; `is_waiting` is of reductions without an answer, `reports_blindness` of parts
    without a price, `shut` are positions to report whose market takes no orders. `interests` are
    the open interests that the margin counts. `rung` counts this time, too; `number` and
    `client_id` are the next to give.
    """

    view: MarketView
    policy: Policy
    margin: MarginFigures
    views: Mapping[str, MarketView]
    plan: FlightPlan | None = None
    is_waiting: bool = False
    reports_blindness: bool = False
    shut: tuple[Stuck, ...] = ()
    interests: Mapping[str, int | None] = {}
    rung: int = 1
    number: int = 1
    client_id: int = 1


def defend(danger: Danger) -> list[Reduce | Denied]:
    """Answer a danger: what is due of the plan, an order a market, or why nothing can be."""
    view, plan, answers = danger.view, danger.plan, list[Reduce | Denied]()
    if danger.reports_blindness:
        blind = ", ".join(danger.margin.unknown)
        why = f"guard: blind, no oracle of {blind}"
        answers.append(_denied(view, ("UNKNOWN_ORACLE", why, {"unknown": blind}), danger.number))
    if plan is None:
        return answers
    for stuck in danger.shut:
        answers.append(_unclosable(danger, stuck, danger.number + len(answers)))
    number = danger.number + len(answers)
    if not view.chain.height:
        return answers + _helpless(danger, "UNKNOWN_HEIGHT", "no block height is known", number)
    rungs = joined(due(plan, plan.distance_next))
    if not (rungs or plan.rungs or danger.is_waiting):
        if plan.left and len(plan.left) == len(plan.shut):
            return answers  # it was reported when the status changed
        left = "; ".join(f"{ticker} stays: {why}" for ticker, why in plan.left)
        but = f"no reduction would relieve it ({left})"
        return answers + _helpless(danger, "BELOW_STEP", but, number)
    margin = danger.margin
    for n, rung in enumerate(rungs):
        reduce = _reduced(danger, rung, margin, number + n, danger.client_id + n)
        answers.append(reduce)
        margin = reduce.after
    return answers


def _unclosable(danger: Danger, stuck: Stuck, number: int) -> Denied:
    was, worth, why = percent_text(_away(danger.margin)), usdc_text(stuck.shut), stuck.why
    words = f"guard: distance {was}, and {worth} USDC of {stuck.ticker} cannot be closed: {why}"
    figures = {"distance": was, "unclosable": worth}
    return _denied(danger.view, ("STATUS", words, figures), number, stuck.ticker)


def _helpless(danger: Danger, reason: Reason, but: str, number: int) -> list[Denied]:
    distance, act_below = _away(danger.margin), danger.policy.act_below
    if distance >= act_below:
        return []
    was, limit = percent_text(distance), percent_text(act_below)
    why = f"guard: distance {_less_text(distance, act_below)}, but {but}"
    return [_denied(danger.view, (reason, why, {"distance": was, "limit": limit}), number)]


def _reduced(
    danger: Danger, rung: Rung, before: MarginFigures, number: int, client_id: int
) -> Reduce:
    step = danger.plan.step if danger.plan is not None else None
    policy, seen = danger.policy, danger.views[rung.ticker]
    candidate = Candidate(rung.market, seen, rung.side, rung.quantums, rung.subticks)
    interest = danger.interests.get(rung.ticker, seen.open_interest)
    after = candidate.after(before, rung.held, rung.quote, policy.taker_fee_ppm, interest)
    blocks = policy.good_til_blocks
    # Orders of one moment are reported one after the other, whatever cuts each is made of.
    rung = msgspec.structs.replace(rung, restores=_away(after) if after.notional else inf)
    return Reduce(
        id=f"V{number}",
        order=candidate.request(client_id, good_til_blocks=blocks, reduce_only=True),
        seq=danger.view.seq,
        at=danger.view.at,
        # What was estimated for a part that is not known stays marked as unknown.
        before=before,
        after=after,
        distance=_away(before),
        rung=danger.rung,
        cost=rung.cost,
        worst_loss=rung.worst_loss,
        offered=rung.offered,
        cause="DISTANCE" if step is None else step.cause,
        why=f"{rung.words}: {'' if step is None else step.why}; {rung.ends}",
    )


class Defence:
    """The guard of one account: the move it is in, its ladder, and what it has answered already.

    A cause is answered once a turn, a price weighed once. `rung` counts how often it fired since
    the account was last safe. `calm` is the margin at which it found nothing to do, until anything
    else that it goes by may have changed.
    """

    __slots__ = (
        "_answered", "_planner", "_shut", "_turns", "_valued", "_weighed", "calm", "move", "rung",
    )  # fmt: skip

    def __init__(self, valued: Valuation, turns: Turns, policy: Policy) -> None:
        self.move, self.rung = Move(), 0
        self.calm: MarginFigures | None = None
        self._valued, self._turns, self._planner = valued, turns, Planner(policy.flight)
        self._answered: dict[str, int] = {}
        self._shut: dict[str, str] = {}
        self._weighed: tuple[MarginFigures | None, int] = None, -1

    def answer(
        self, view: MarketView, policy: Policy, course: Course, number: int, client_id: int
    ) -> list[Reduce | Denied]:
        """Answer what a view shows, if anything is due; numbered on from what is next to give."""
        # Blind to a part, it acts on the rest, and on what that part was bought for.
        valued, turn = self._valued, self._turns.turn
        margin = valued.estimate if valued.margin.unknown else valued.margin
        self._follow(margin, policy)
        step = self._due(margin, policy, course)
        reports_blindness = bool(margin.unknown) and self._is_blindness_due(turn)
        acts = step is not None and self._is_danger_due(valued.margin, turn)
        if not (reports_blindness or acts):
            return []
        plan = self._ladder(margin, step) if acts else None
        answers = defend(Danger(
            view=view, policy=policy, margin=margin, views=valued.views, plan=plan,
            shut=self._newly_shut(plan), is_waiting=bool(self._planner.waiting),
            interests={t: e.open_interest for t, e in valued.held.items()},
            reports_blindness=reports_blindness, rung=self.rung + 1,
            number=number, client_id=client_id,
        ))  # fmt: skip
        if len(answers) > reports_blindness:
            self._answered["near"] = turn
            self.rung += any(isinstance(answer, Reduce) for answer in answers)
        return answers

    def plan(self, policy: Policy, course: Course) -> FlightPlan:
        """Return the ladder as it is now, of what is due or would be next."""
        margin = self._valued.estimate
        step = self._due(margin, policy, course)
        return self._ladder(margin, step or retreat(margin, self.move, policy, self._turns.ahead))

    @property
    def is_whole(self) -> bool:
        """Return whether what was answered last leaves nothing."""
        return is_whole(self._planner.plan.step)

    def judge_by(self, was: Policy, policy: Policy) -> None:
        """Go on by another policy."""
        self._planner = Planner(policy.flight)
        self.move.judge_by(was, policy)

    def _follow(self, margin: MarginFigures, policy: Policy) -> None:
        """Begin a move where the distance that is defended is lost."""
        if self.move.room:
            return
        if is_near(margin, policy, self._turns.ahead):
            self.move.begin(margin, policy.act_below, policy.restore_to)
        else:
            self.rung = 0

    def _due(self, margin: MarginFigures, policy: Policy, course: Course) -> Step | None:
        # An equity that is in doubt closes nothing.
        is_sure = policy.protect and not (margin.unknown or self._valued.account.is_in_doubt)
        ahead = self._turns.ahead
        return due_step(margin, self.move, course if is_sure else None, policy, ahead)

    def _ladder(self, margin: MarginFigures, step: Step | None) -> FlightPlan:
        valued, planner = self._valued, self._planner
        # A limit is gone back below and no farther: pace is the guard's.
        paced = step is None or step.cause == "DISTANCE"
        fall = int(self._turns.ahead * max(margin.sensitivity, 0)) if paced else 0
        # To leave whole, it is sent again each block; a part is not to be sold twice.
        waiting = valued.reducing(1 if is_whole(step) else _ANSWER_BLOCKS)
        tickers = valued.moved | (waiting ^ planner.waiting)
        moved = {ticker: valued.known_size(ticker) for ticker in tickers}
        valued.moved.clear()
        return planner.draw(margin, moved, valued.views, fall=fall, waiting=waiting, step=step)

    def _is_blindness_due(self, turn: int) -> bool:
        """Return whether blindness is to be reported in this turn; it counts as reported."""
        last, self._answered["blind"] = self._answered.get("blind"), turn
        return last != turn

    def _is_danger_due(self, margin: MarginFigures, turn: int) -> bool:
        """Return whether to weigh a danger: prices whenever they move, books once a turn."""
        if self._answered.get("near") == turn:
            return False
        if self._weighed[0] is margin and self._weighed[1] == turn:
            return False
        self._weighed = margin, turn
        return True

    def _newly_shut(self, plan: FlightPlan | None) -> tuple[Stuck, ...]:
        """Return what cannot be closed and was not reported since its status changed."""
        if plan is None:
            return ()
        was, self._shut = self._shut, {one.ticker: one.why for one in plan.shut}
        return tuple(one for one in plan.shut if was.get(one.ticker) != one.why)


# === Watch ===

# An account looked at once a second, for panels: every figure, every shock, and the way
# out. It decides nothing.

_KEEP_ABOVE: Final = 0.1


class Watch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account's risk at one moment, as of frame `seq`.

    `trouble` is why the account itself is not known for certain, or empty. `leverage` advises
    each held market on its own, at its volatility and open interest.
    """

    seq: int
    at: int
    trouble: str
    figures: RiskFigures
    stress: StressTable
    plan: FlightPlan
    triggers: tuple[Trigger, ...] = ()
    leverage: tuple[LeverageAdvice, ...] = ()


class Watcher:
    """Looks at one account again and again; `keep_above` is what leverage advice keeps clear."""

    def __init__(self, returns: Returns, keep_above: float = _KEEP_ABOVE) -> None:
        self.returns = returns
        self.keep_above = keep_above
        self._held: dict[str, Holding] = {}
        self._table = stress_table(0, ())

    def look(
        self, view: MarketView, valued: Valuation, plan: FlightPlan,
        triggers: tuple[Trigger, ...] = (),
    ) -> Watch:  # fmt: skip
        """Look at the account as it is when `view` has come."""
        collateral, trouble = valued.account.settled, valued.account.trouble
        held, lacking = self._holdings(valued)
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
            triggers=triggers,
            leverage=tuple(suggest_leverage(h, keep_above=self.keep_above) for h in held.values()),
        )

    def positions(self, valued: Valuation) -> list[PositionFigures]:
        """Return every position with its figures, the nearest to liquidation first."""
        rows = [self._position(exposure, valued.margin) for exposure in valued.held.values()]
        return sorted(rows, key=lambda row: inf if row.distance is None else row.distance)

    def priced(self, valued: Valuation) -> list[PositionFigures]:
        """Return every position at its price alone: what is known of the past is left out."""
        rows: list[PositionFigures] = []
        for exposure in valued.held.values():
            view, market, oracle = exposure.view, exposure.market, exposure.oracle
            if view is None or market is None:
                rows.append(self._position(exposure, valued.margin))
                continue
            holding = priced(view, market, exposure.quantums, exposure.open_interest)
            seq = oracle.seq if oracle is not None else 0
            rows.append(position_figures(holding, exposure.terms, valued.margin, seq))
        return rows

    def inputs(self, valued: Valuation) -> dict[str, MarginInputs]:
        """Return what each position's figures are computed from, where it can be valued."""
        held = {ticker: self._observed(exposure) for ticker, exposure in valued.held.items()}
        found = {t: margin_inputs(h, valued.margin) for t, h in held.items() if h is not None}
        return {ticker: inputs for ticker, inputs in found.items() if inputs is not None}

    def _position(self, exposure: Exposure, total: MarginFigures) -> PositionFigures:
        position, holding = exposure.position, self._observed(exposure)
        if holding is None:
            return PositionFigures(
                ticker=position.ticker, size=position.size, entry_price=position.entry_price,
                unknown=(f"{position.ticker}: the market is not known",),
            )  # fmt: skip
        seq = exposure.oracle.seq if exposure.oracle is not None else 0
        return position_figures(holding, exposure.terms, total, seq)

    def _observed(self, exposure: Exposure) -> Holding | None:
        view, market, entry = exposure.view, exposure.market, exposure.position.entry_price
        if view is None or market is None:
            return None
        interest = exposure.open_interest
        return observed(view, market, exposure.quantums, self.returns, interest, entry)

    def _holdings(self, valued: Valuation) -> tuple[dict[str, Holding], list[str]]:
        held: dict[str, Holding] = {}
        lacking: list[str] = []
        for ticker in [*valued.held, *valued.account.unreadable]:
            seen, quantums = valued.views.get(ticker), valued.known_size(ticker)
            if seen is None or seen.market is None:
                lacking.append(f"{ticker}: the market is not known")
            elif quantums is None:
                lacking.append(f"{ticker}: its size is not known")
            else:
                interest = valued.interest(seen)
                held[ticker] = observed(seen, seen.market, quantums, self.returns, interest)
        return held, lacking

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


# === Upkeep ===

# Looks after what stands on the venue: brackets go with their position, and an entry that nobody
# wants any more leaves its book. It adds no risk, and the guard waits for none of it.

_ANSWERED: Final = 10  # blocks in which the venue reports what was sent to it
_LATE_BLOCKS: Final = 40  # in which a fill may be reported after all
_MOST_TRIES: Final = 3  # cancels of an order that the venue has never reported
_LONGEST_BLOCKS: Final = 256  # between two tries of a bracket that is refused
_STANDS_S: Final = 90 * 86_400  # the chain takes 95 days
_FOR_STOPS: Final = 4  # of what the chain takes in its time, no profit's
_CROWDED_BLOCKS: Final = 10  # in which nothing is sent after a refusal for its pace


class StandingPace:
    """How many orders that stand went out in the last blocks.

    Blocks may be reported late and many at once: what goes out within a second and a half may be of
    one block of the chain, whatever heights are known.
    """

    __slots__ = ("_account", "_sent")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sent: deque[tuple[int, int]] = deque()  # at which heights, and when

    def count(self, height: int, now: int) -> None:
        """Count one that goes out at this height and event time."""
        self._sent.append((height, now))

    def sent(self, height: int) -> int:
        """Return how many the chain still counts at this height."""
        sent = self._sent
        while sent and sent[0][0] <= height - _PACE_BLOCKS:
            sent.popleft()
        crowded = self._account.orders.crowded
        if crowded is not None and height - crowded < _CROWDED_BLOCKS:
            return _MOST_IN_PACE
        return len(sent)

    def has_room(self, height: int, now: int, kind: BracketKind) -> bool:
        """Return whether one more may go out; a profit leaves room for stops."""
        # An event may have been stamped by a clock that is wrong: then heights alone count.
        sent = (at == height or 0 <= now - when < _ONE_BLOCK_NS for at, when in self._sent)
        in_block = sum(sent)  # integers
        most = _MOST_IN_PACE - (_FOR_STOPS if kind == "TAKE_PROFIT" else 0)
        return in_block < _MOST_IN_BLOCK and self.sent(height) < most


class Look(msgspec.Struct, frozen=True, gc=False):
    """The moment at which what stands is looked at: an event, and what the gate judges by."""

    event: MarketView | AccountUpdate | Decision | Frame
    now: Situation

    @property
    def valued(self) -> Valuation:
        """Return what is held, and its margin."""
        return self.now.valued

    def why_not(self, ticker: str) -> str:
        """Return why no entry may stand in a market; empty if one may."""
        now = self.now
        if (state := state_of(now)) != "ACTIVE":
            return f"the gate is {state}"
        return f"{ticker} was reduced" if now.rest.until(ticker) > now.now else ""


class Upkeep:
    """What stands on the venue for one account, and where its positions are to be left.

    `levels` are by ticker. A bracket that the venue refuses, or that ended unfilled, is placed
    again after 1, 2, 4 … blocks; a cancel is sent again until the venue reports the order's end.
    """

    def __init__(self, account: Account) -> None:
        self.pace = StandingPace(account)
        self.levels: dict[str, Levels] = {}
        self._account = account
        self._flat: dict[str, int] = {}  # since which height nothing is held of a market
        self._failures: dict[tuple[str, BracketKind], tuple[int, int]] = {}  # how many, and when
        self._unwanted: set[str] = set()  # markets whose entries are taken back
        self._cancel_sent: dict[str, int] = {}  # when an entry's cancel went out

    @property
    def is_idle(self) -> bool:
        """Return whether nothing stands, and nothing is to."""
        account = self._account
        if self.levels or account.orders.brackets or account.orders.strays:
            return False
        return not any(held.stands for held in account.orders.reserved.values())

    def mean(self, ticker: str, levels: Levels | None) -> None:
        """Leave what is held of a market at other prices from now on; None is at none."""
        for kind in _KINDS:
            self._failures.pop((ticker, kind), None)
        if levels is None:
            self.levels.pop(ticker, None)
        else:
            self.levels[ticker] = levels
            self._flat.pop(ticker, None)

    def decide(self, decision: Decision) -> None:
        """Take back the entries of a market that a decision does not add to."""
        ticker, target = decision.ticker, decision.target_usdc
        entries = [r.order for r in self._account.orders.in_flight(ticker) if r.stands]
        if any(target * order.signed_quantums <= 0 for order in entries) or (
            abs(target) <= abs(decision.previous_usdc)
        ):
            self._unwanted.add(ticker)

    def take_back(self) -> None:
        """Take back all entries."""
        self._unwanted |= {
            r.order.ticker for r in self._account.orders.reserved.values() if r.stands
        }

    def look(self, look: Look) -> Iterator[Bracket | Withdraw | Denied]:
        """Yield what has to go out now, numbered on from the look's numbers."""
        account, number, client_id = self._account, look.now.number, look.now.client_id
        strays = self._adopt(look)
        verdicts = self._failed(look), self._entries(look, strays), self._brackets(look)
        for verdict in chain.from_iterable(verdicts):
            if isinstance(verdict, Bracket):
                order = msgspec.structs.replace(verdict.order, client_id=client_id)
                verdict = msgspec.structs.replace(verdict, order=order)
                id_, client_id = account.orders.stand(order), (client_id + 1) % 2**32
                account.orders.brackets[id_] = StandingBracket.of(id_, order, account.height)
                self.pace.count(account.height, look.event.at)
            yield msgspec.structs.replace(verdict, id=f"V{number}")
            number += 1

    def _adopt(self, look: Look) -> dict[str, CancelRequest]:
        """Take on the brackets of an earlier run, and where they leave; return what is none."""
        account, entries = self._account, dict[str, CancelRequest]()
        for id_, state in [*account.orders.strays.items()]:
            view = look.valued.views.get(state.named.ticker) if state.named is not None else None
            if view is None or view.market is None:
                continue
            found = StandingBracket.found(state, view.market, account.height)
            if found is None and state.named is not None:
                entries[id_] = state.named
            if found is None:
                continue
            del account.orders.strays[id_]
            account.orders.brackets[id_] = found
            is_long = found.side == "SELL"
            known = self.levels.get(found.ticker)
            if known is None:
                known = Levels(is_long=is_long)
            if not known.decision and known.is_long == is_long and not known.trigger(found.kind):
                name = "stop_loss" if found.kind == "STOP_LOSS" else "take_profit"
                known = msgspec.structs.replace(known, **{name: found.trigger})
                self.levels[found.ticker] = known
        return entries

    def _failed(self, look: Look) -> Iterator[Denied]:
        failed, self._account.orders.failed = self._account.orders.failed, []
        for bracket, reason in failed:
            key, view = (bracket.ticker, bracket.kind), look.valued.views[bracket.ticker]
            count, _ = self._failures.get(key, (0, 0))
            if self._account.height - bracket.sent > _LONGEST_BLOCKS:
                count = 0  # it stood long enough: this is another story
            self._failures[key] = count + 1, self._account.height
            if not (look.valued.size(bracket.ticker) and view.market is not None):
                continue
            price = _price_words(view.market, bracket.trigger)
            why = f"the {_kind_words(bracket.kind)} of {bracket.ticker} at {price} ended: {reason}"
            figures = {"trigger": price, "times": count + 1}
            yield _denied_bracket(look, bracket.ticker, why, figures)

    def _entries(self, look: Look, strays: Mapping[str, CancelRequest]) -> Iterator[Withdraw]:
        """Yield the cancels of entries that stand and may not, or are not wanted."""
        account = self._account
        entries = {
            r.order_id: cancel(r.order) for r in account.orders.reserved.values() if r.stands
        }
        self._cancel_sent = {
            i: at for i, at in self._cancel_sent.items() if i in entries or i in strays
        }
        self._unwanted &= {named.ticker for named in entries.values()}
        for id_, named in (*entries.items(), *strays.items()):
            why = look.why_not(named.ticker)
            if named.ticker in self._unwanted:
                why = "it is not wanted any more"
            if id_ in strays:
                why = "nobody knows what it is for"
            if why and self._is_due(self._cancel_sent.get(id_)):
                self._cancel_sent[id_] = account.height
                yield self._withdraw(look, named, f"the entry is taken back: {why}")

    def _is_due(self, sent: int | None) -> bool:
        return sent is None or self._account.height - sent >= _ANSWERED

    def _brackets(self, look: Look) -> Iterator[Bracket | Withdraw]:
        account, valued = self._account, look.valued
        if account.trouble:
            return  # what is held is not known: what stands reduces, and no more
        standing = [*account.orders.brackets.values()]
        tickers = [*dict.fromkeys((*(bracket.ticker for bracket in standing), *self.levels))]
        for ticker in tickers:
            if (held := valued.known_size(ticker)) is not None:
                self._forget(ticker, held)
        # Stops first: what the venue may have no room for are profits.
        for kind in _KINDS:
            for ticker in tickers:
                pieces = [b for b in standing if b.ticker == ticker and b.kind == kind]
                yield from self._cover(look, ticker, kind, pieces)

    def _cover(
        self, look: Look, ticker: str, kind: BracketKind, pieces: list[StandingBracket]
    ) -> Iterator[Bracket | Withdraw]:
        """Yield what makes the brackets of a kind cover what is held of a market."""
        view, held = look.valued.views.get(ticker), look.valued.known_size(ticker)
        if view is None or view.market is None or held is None:
            return
        stays = [b for b in pieces if not (b.cancel_sent or self._is_lost(b))]
        can, levels = self._can_place(view, kind, look.event.at), self.levels.get(ticker)
        if levels is not None and not can and stays:
            # Elsewhere than it is to be is better than nowhere.
            name = "stop_loss" if kind == "STOP_LOSS" else "take_profit"
            meant = levels.trigger(kind) and stays[-1].trigger
            levels = msgspec.structs.replace(levels, **{name: meant})
        change = bracket_changes(held, levels, stays, (kind,))
        again = [b for b in pieces if b not in stays and self._is_due(b.cancel_sent or None)]
        yield from self._cancels(look, [*change.withdraw, *again], held)
        if levels is not None and can:
            for _, quantums in change.place:
                yield self._place(look, view, view.market, levels, kind, quantums)

    def _forget(self, ticker: str, held: int) -> None:
        """Let go of where a position was left, once it is certain to be none any more."""
        height = self._account.height
        if held or self._account.orders.in_flight(ticker):
            self._flat.pop(ticker, None)
        elif height - self._flat.setdefault(ticker, height) > _LATE_BLOCKS:
            self.mean(ticker, None)
            self._flat.pop(ticker, None)

    def _is_lost(self, bracket: StandingBracket) -> bool:
        # Without an answer it may stand or not; reduce-only as they are, two of them do no harm.
        return not bracket.seen and self._account.height - bracket.sent > _ANSWERED

    def _cancels(
        self, look: Look, brackets: Iterable[StandingBracket], held: int
    ) -> Iterator[Withdraw]:
        account = self._account
        why = "what is held, or where it is left, changed" if held else "nothing is held any more"
        for bracket in brackets:
            if bracket.tries >= _MOST_TRIES and not bracket.seen:
                del account.orders.brackets[bracket.order_id]
                continue
            account.orders.brackets[bracket.order_id] = msgspec.structs.replace(
                bracket, cancel_sent=max(account.height, 1), tries=bracket.tries + 1
            )
            words = _kind_words(bracket.kind)
            yield self._withdraw(look, bracket.named, f"the {words} is taken back: {why}")

    def _can_place(self, view: MarketView, kind: BracketKind, now: int) -> bool:
        """Return whether the venue takes a bracket in a market now."""
        account, ticker = self._account, view.ticker
        count, since = self._failures.get((ticker, kind), (0, 0))
        if count and account.height - since < min(2 ** (count - 1), _LONGEST_BLOCKS):
            return False
        if ticker in account.by_hand or not view.chain.time_ns or stopping(view, "exit"):
            return False
        return self.pace.has_room(account.height, now, kind)

    def _place(
        self, look: Look, view: MarketView, market: PerpetualMarket, levels: Levels,
        kind: BracketKind, quantums: int,
    ) -> Bracket:  # fmt: skip
        until_s = view.chain.time_ns // 10**9 + _STANDS_S
        order = _bracket_order(view, market, levels, kind, quantums, look.now.policy)
        order = msgspec.structs.replace(order, good_til_block_time=until_s)
        return Bracket(
            id="", order=order, kind=kind, decision=levels.decision, seq=look.event.seq,
            at=look.event.at, why=_bracket_words(market, order),
        )  # fmt: skip

    def _withdraw(self, look: Look, named: CancelRequest, why: str) -> Withdraw:
        if not named.good_til_block_time:
            until = self._account.orders.time_s + _STANDS_S  # no cancel ends before its order
            named = msgspec.structs.replace(named, good_til_block_time=until)
        return Withdraw(
            id="", ticker=named.ticker, cancel=named, seq=look.event.seq, at=look.event.at, why=why
        )


def _bracket_order(
    view: MarketView, market: PerpetualMarket, levels: Levels, kind: BracketKind, quantums: int,
    policy: Policy,
) -> OrderRequest:  # fmt: skip
    """Return a bracket: its worst price goes by its trigger, or the oracle price beyond it."""
    buys, trigger, oracle = not levels.is_long, levels.trigger(kind), view.oracle
    price, bps = trigger, policy.slippage_bps
    if kind == "STOP_LOSS":
        bps = policy.stop_slippage_bps
        if oracle is not None:
            now = worst_subticks(market, oracle.digits, oracle.exponent, 0, buys)
            price = max(trigger, now) if buys else min(trigger, now)
    return OrderRequest(
        ticker=market.ticker, clob_pair_id=market.clob_pair_id, side="BUY" if buys else "SELL",
        quantums=quantums, subticks=slipped(market, price, bps, buys), client_id=0,
        time_in_force="IOC", reduce_only=True, order_flags=CONDITIONAL, condition_type=kind,
        trigger_subticks=trigger,
    )  # fmt: skip


def _bracket_words(market: PerpetualMarket, order: OrderRequest) -> str:
    rises = (order.condition_type == "STOP_LOSS") == (order.side == "BUY")
    bound = "<=" if order.side == "BUY" else ">="
    size, trigger, worst = (
        amount_text(number)
        for number in (
            market.size(order.quantums),
            market.price(order.trigger_subticks),
            market.price(order.subticks),
        )
    )
    return (
        f"{_kind_words(order.condition_type)} on the venue: {order.side.lower()} {size} "
        f"{market.ticker} at {bound} {worst} once the price {'rises' if rises else 'falls'} to "
        f"{trigger}, reduce-only"
    )


def _kind_words(kind: str) -> str:
    return kind.lower().replace("_", " ")


def _denied_bracket(look: Look, ticker: str, why: str, figures: Mapping[str, object]) -> Denied:
    return Denied(
        id="", ticker=ticker, decision=None, seq=look.event.seq, at=look.event.at, reason="BRACKET",
        figures=tuple((name, str(figure)) for name, figure in figures.items()), why=why,
    )  # fmt: skip


# === Outbox ===

# What has gone out of one account, and how the gate was reported.

_Event = MarketView | AccountUpdate | Decision | Frame


class Outbox:
    """What has gone out: how many verdicts and gate changes, the gate's state as last reported."""

    __slots__ = ("_sent", "changes", "state", "verdicts")

    def __init__(self) -> None:
        self.verdicts = self.changes = 0
        self.state: GateState = "REDUCING"  # nothing is known yet
        self._sent: deque[int] = deque()

    def memory(self, memory: Memory) -> Memory:
        """Return a memory with the orders of the last minute."""
        return msgspec.structs.replace(memory, sent=(*self._sent,))

    def recall(self, memory: Memory) -> None:
        """Count what went out of an earlier run."""
        self._sent = deque(memory.sent)

    def order(self, at: int) -> None:
        """Count an order that goes out at this event time."""
        self._sent.append(at)

    def change(self, event: _Event, now: Standing) -> GateChange:
        """Report that the gate is not what it was."""
        self.changes += 1
        was, self.state = self.state, now.state
        return GateChange(
            id=f"G{self.changes}", seq=event.seq, at=event.at, was=was, state=now.state,
            reasons=now.reasons,
        )  # fmt: skip

    def lately(self, now: int) -> int:
        """Return how many orders went out in the last minute of event time."""
        sent, since = self._sent, now - _MINUTE_NS
        while sent and sent[0] <= since:
            sent.popleft()
        return len(sent)


# === Risk ===

# Holds the state of one account and calls the pure functions above: it folds events and counts
# what it lets pass. It judges nothing itself.

_NOBODY = Subaccount("")
_NEVER: Final = 2**63
_NOTHING: Final[list[Judgement]] = []  # of a view that changed nothing, not even what is known


def alarm(margin: MarginFigures, trouble: str, restore_to: float) -> Alarm:
    """Return where an account stands, danger below the distance that is defended."""
    if trouble or margin.unknown:
        return "unknown"
    if margin.distance is None:
        return "flat"
    if is_liquidatable(margin.net_collateral, margin.maintenance_margin):
        return "liquidatable"
    return "danger" if margin.distance < restore_to else "safe"


def nearer(first: float | None, second: float | None) -> float | None:
    """Return the smaller of two distances; None is of nothing held."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


class Risk:
    """The account, its margin, the gate and the guard: one object, one step per event.

    `valued` is what is held and its margin, current after each step; `closest` is the smallest
    distance seen so far, `falls` how deep the profit fell. Without `guard` nothing reduces;
    `flight_plan` is what it would fire, and is there without it too. `stops` and `resume` are the
    kill switch; `standing` is what the gate lets pass, and why. `watcher` has each position's
    figures, for whoever looks. Several on the same views may share the time that has `elapsed`.
    """

    def __init__(
        self, policy: Policy | None = None, subaccount: Subaccount = _NOBODY, *,
        guard: bool = True, elapsed: Elapsed | None = None,
    ) -> None:  # fmt: skip
        self.policy = policy or Policy()
        self.account = Account(subaccount)
        self.guard = guard
        self.closest: float | None = None
        self.next_client_id = 1
        self.valued = Valuation(self.account)
        self.falls, self.stops = Falls(), Stops()
        self._course = Course(self.falls)
        self._turns = Turns()
        self._defence = Defence(self.valued, self._turns, self.policy)
        self._rest = CoolDown()
        self.watcher = Watcher(Returns(), self.policy.keep_above)
        self._elapsed, self._seen_at = elapsed or Elapsed(), -1
        self._outbox = Outbox()
        self._upkeep = Upkeep(self.account)

    def step(self, event: _Event) -> list[Judgement]:
        """Take one event in; put out what the gate became by it, and the verdicts, in order.

        A frame is an act that `stops`, `resume` or `change` has just put into effect.
        """
        elapsed = self._elapsed
        if isinstance(event, MarketView):
            # By what was seen here: whoever shares the time may have moved it already.
            is_later, self._seen_at = event.at != self._seen_at, event.at
            if is_later:
                elapsed.move(event.at)
            verdicts = self._see(event)
            if verdicts is _NOTHING and not is_later:
                return []  # nor can the gate be another: one frame may bring hundreds of views
        else:
            # It may have been stamped by a clock that is wrong now.
            if not elapsed.now:
                elapsed.move(event.at)
            verdicts = self._learn(event)
        now, stops, until = elapsed.now, self.stops, self._rest.all_until
        state = gate_state(self.valued, self._course, self.policy, now, stops, until)
        changed = state != self._outbox.state
        return [self._outbox.change(event, self.standing), *verdicts] if changed else verdicts

    def _learn(self, event: AccountUpdate | Decision | Frame) -> list[Judgement]:
        self._defence.calm = None
        if isinstance(event, AccountUpdate):
            return self._take(event)
        return self._judge(event) if isinstance(event, Decision) else self._keep_up(event)

    @property
    def margin(self) -> MarginFigures:
        """Return the account's margin, over every position that can be valued."""
        return self.valued.margin

    @property
    def falls_now(self) -> Falls:
        """Return the falls by the equity of this moment; for whoever looks, no limit goes by it."""
        return self._course.falls_by(self.margin, self.account)

    @property
    def alarm(self) -> Alarm:
        """Return where the account stands; `unknown` is no better than danger."""
        return alarm(self.margin, self.account.trouble, self.policy.restore_to)

    @property
    def standing(self) -> Standing:
        """Return what the gate lets pass now, with every reason."""
        return standing(self._situation())

    def rests_until(self) -> int:
        """Return until when (`Elapsed`) no view matters but what is named here; 0 if all do.

        A view matters that begins a turn, that is the first of its market, or the first of a frame
        that changes a price while anything is held: with any other `step` would return nothing, if
        it did so with the last and nothing else came since. Whoever leaves one out calls
        `pass_over`.
        """
        if self.account.polled:
            return 0
        until = self._rest.all_until
        return until if until > self._elapsed.now else _NEVER

    def pass_over(self, view: MarketView) -> None:
        """Take note that a market that is held, or of which a position is unreadable, moved."""
        if view.ticker in self.valued.held:
            self.valued.moved.add(view.ticker)

    @property
    def flight_plan(self) -> FlightPlan:
        """Return the ladder as it is now, over what can be valued."""
        return self._defence.plan(self.policy, self._course)

    def settle_at(self, collateral: int) -> None:
        """Take what the chain would have if it settled funding now, as a node reports it."""
        self.valued.settle_at(collateral)
        self._settle()

    def resume(self) -> None:
        """Take a halt or a pause back, and measure loss and drawdown from here on."""
        self.stops, self._course = Stops(), Course(self.falls)
        self._settle()

    @property
    def memory(self) -> Memory:
        """Return what a next run of the account has to know of this one."""
        course = self._course.memory(self.account.profit.funding, self.policy)
        now = self._elapsed.now
        course = course.beside(now, self.closest, self.next_client_id, self._upkeep.levels)
        return self._outbox.memory(self._rest.memory(course, now))

    def recall(self, memory: Memory, now: int, paid_in: int = 0) -> None:
        """Begin `now` with what a run of the account left, and with what was paid in since."""
        memory = memory.as_of(now)
        self.closest, self.next_client_id = memory.closest, memory.next_client_id
        self.account.transferred, self._upkeep.levels = paid_in, dict(memory.levels)
        self._course.recall(memory, self.policy)
        self._rest.recall(memory)
        self._outbox.recall(memory)

    def change(self, policy: Policy) -> None:
        """Judge by another policy from here on; nothing that happened is forgotten.

        The next step reports what the gate became by it.
        """
        if policy == (was := self.policy):
            return
        # First, as it may raise: one that the guard cannot fly by changes nothing.
        self._defence.judge_by(was, policy)
        self.policy, self.watcher.keep_above = policy, policy.keep_above
        self._course.judge_by(was, policy)
        self.valued.moved.update(self.valued.held, self.account.unreadable)
        self._settle()

    def watch(self, view: MarketView) -> Watch:
        """Look at the account as it is: every figure, every shock, and the way out."""
        return self.watcher.look(view, self.valued, self.flight_plan, self.triggers)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Return every rule that reduces, the level at which it acts now, and why there."""
        margin = self.valued.estimate
        return triggers(margin, self._defence.move, self._course, self.policy, self._turns.ahead)

    def positions(self) -> list[PositionFigures]:
        """Return every position with its figures, the nearest to liquidation first."""
        return self.watcher.positions(self.valued)

    def _take(self, update: AccountUpdate) -> list[Judgement]:
        account, before = self.account, self.valued.margin
        doubted, paid_in, funding = account.trouble, account.transferred, account.profit.funding
        if account.take(update):
            account.at = self._elapsed.now
            if doubted and before.known:
                self._course.doubt(before.net_collateral)
            moved = account.transferred - paid_in
            if moved and moved == account.profit.funding - funding:
                self._course.explain(moved)
            self.valued.load()
            notional, flat = self.valued.margin.notional, not self.valued.held
            self._defence.move.hold(notional, moved, flat=flat)
            self._settle()
        return self._keep_up(update)

    def _see(self, view: MarketView) -> list[Judgement]:
        valued, turns = self.valued, self._turns
        valued.views.setdefault(view.ticker, view)
        if begins := turns.is_over(view):
            self._begin_turn(view)
        if not (valued.held or self.account.unreadable):
            return self._keep_up(view) if begins else _NOTHING
        before = valued.margin
        valued.see(view)
        if valued.margin is before:
            if before is self._defence.calm:  # as nearly always
                return _NOTHING
        else:
            self._settle()
            if valued.margin.unknown == before.unknown:
                # Positions stood still: what was lost is the market's doing.
                turns.move(before, valued.margin)
                self._defence.move.go(before, valued.margin)
        verdicts = self._defend(view) if self.guard else []
        if begins or verdicts:
            return verdicts + self._keep_up(view)
        if self.guard:
            self._defence.calm = valued.margin
        return verdicts

    def _begin_turn(self, view: MarketView) -> None:
        self._defence.calm = None
        self.account.expire(view.chain.height, view.chain.time_ns // 10**9)
        self.valued.settle_interest()
        self.watcher.returns.sample(view.at, self.valued.views)
        hours = self._turns.begin(view)
        if self._elapsed.now // _DAY_NS != self._course.day:
            self._settle()  # a day ends for whoever holds nothing, too
        self._reopen()
        if hours or self.account.unsettled.hours_owed:
            before = self.valued.margin
            self.valued.fund(hours)
            self._defence.move.go(before, self.valued.margin)
            self._settle()

    def _reopen(self) -> None:
        # Flat and rested, it may begin again: without a cool-down only a person says so.
        rested = self.policy.cool_down_s and self._rest.all_until <= self._elapsed.now
        if rested and not self.valued.held and is_sunk(self._course, self.policy):
            self._course.reopen()
            self._settle()

    def _settle(self) -> None:
        margin, account = self.valued.margin, self.account
        self._defence.calm = None
        self.closest = nearer(self.closest, margin.distance)
        if not (margin.unknown or account.is_in_doubt):
            day, paid_in = self._elapsed.now // _DAY_NS, account.transferred
            course, was = self._course, is_sunk(self._course, self.policy)
            course.move(margin.net_collateral, paid_in, day, self.policy, account.profit.funding)
            if not was and is_sunk(course, self.policy):
                self._rest.begin((), self._elapsed.now, self.policy.cool_down_ns, whole=True)

    def _judge(self, decision: Decision) -> list[Judgement]:
        if decision.action != "target":
            return []
        if not (upkeep := self._upkeep).is_idle:
            upkeep.decide(decision)
        if only_brackets(decision):
            levels = review_brackets(decision, self._situation())
            if isinstance(levels, Denied):
                self._outbox.verdicts += 1
                return [levels, *self._keep_up(decision)]
            upkeep.mean(decision.ticker, levels)
            return self._keep_up(decision)
        verdict = review(decision, self._situation())
        self._outbox.verdicts += 1
        if isinstance(verdict, Approved):
            valued, reduces = self.valued, verdict.order.reduce_only
            self._reserve(verdict, valued.margin if reduces else valued.reserved)
            target, held = decision.target_usdc, valued.size(decision.ticker)
            if target and target * held >= 0:  # of a turn, what is held goes as it was to go
                upkeep.mean(decision.ticker, verdict.levels)
        return [verdict, *self._keep_up(decision)]

    def _keep_up(self, event: _Event) -> list[Judgement]:
        """Look after what stands on the venue."""
        if self._upkeep.is_idle:
            return []
        verdicts = [*self._upkeep.look(Look(event, self._situation()))]
        self._outbox.verdicts += len(verdicts)
        for bracket in verdicts:
            if isinstance(bracket, Bracket):
                self.next_client_id = (bracket.order.client_id + 1) % 2**32
                self._outbox.order(self._elapsed.now)
        return [*verdicts]

    def _situation(self) -> Situation:
        return Situation(
            policy=self.policy, valued=self.valued, course=self._course,
            returns=self.watcher.returns, now=self._elapsed.now, rest=self._rest,
            stops=self.stops,
            sent=self._outbox.lately(self._elapsed.now),
            standing=self._upkeep.pace.sent(self.account.height),
            number=self._outbox.verdicts + 1, client_id=self.next_client_id,
        )  # fmt: skip

    def _defend(self, view: MarketView) -> list[Judgement]:
        outbox, policy = self._outbox, self.policy
        number, client_id = outbox.verdicts + 1, self.next_client_id
        answers = self._defence.answer(view, policy, self._course, number, client_id)
        outbox.verdicts += len(answers)
        if reductions := [answer for answer in answers if isinstance(answer, Reduce)]:
            for reduce in reductions:
                self._reserve(reduce, reduce.before)
            tickers, whole = [r.order.ticker for r in reductions], self._defence.is_whole
            self._rest.begin(tickers, self._elapsed.now, policy.cool_down_ns, whole=whole)
            self._upkeep.take_back()  # nothing is added to what the guard reduces
        return [*answers]

    def _reserve(self, verdict: Approved | Reduce, base: MarginFigures) -> None:
        order = verdict.order
        self.next_client_id = (order.client_id + 1) % 2**32  # a uint32 on the chain
        self._outbox.order(self._elapsed.now)
        effect, height = worsened(base, verdict.after), self.account.height
        self.account.orders.reserve(order, effect, verdict.id, height)
        if order.order_flags != SHORT_TERM:
            self._upkeep.pace.count(height, verdict.at)


# === Streams ===

# The state machine as an operator: one line around `Risk.step`. Nothing subscribes here.


def verdicts(risk: Risk | None = None) -> Callable[[Observable[_Event]], Observable[Judgement]]:
    """Judge every event with one `Risk`; without one, each subscriber has its own.

    Hot or cold as the source is; completes and errors with it; runs on its thread. Here a decision
    (d) is approved (A); an account update (u) is near liquidation, and the next view (v) brings the
    reduction (R); an update after lost frames (x) changes the gate (G):

        events    --v--d--u--v--x--|
        verdicts  -----A-----R--G--|
    """
    return fold(lambda: risk if risk is not None else Risk(), Risk.step)
