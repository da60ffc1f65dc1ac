"""Figures of risk, what a shock would make of them, and sizes that survive one.

    collateral, holdings ─┬─► risk_figures ──► distances, usage, funding, concentration
                          ├─► stress_table ──► StressTable ── changed(holding) ──► StressTable
                          └─► fixed_fraction | volatility_target | kelly ──► size_position
    market, its volatility ──► suggest_leverage

A `Holding` is one market as the account stands in it, with what is known of it: the oracle
price, open interest, funding rate, volatility and beta. Whatever is not known is None, and so is
every figure that needs it; `unknown` then says why. Nothing is ever taken for zero.

Units: sizes are signed quantums (positive is long), money is quote quantums (1e-6 USDC) and
exact, fractions are parts per million, funding rates are ppm per 8 hours as on the chain and
funding costs positive when paid. Floats are opinions: distances (0.06 is six per cent),
volatilities (standard deviation of the return over one hour) and betas.
Nothing here remembers, reads a clock or sees a book: slippage is a figure handed in.
Sources: v4-chain x/perpetuals (funding clamp, open interest caps), x/subaccounts/lib.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from math import ceil, inf, isfinite, sqrt
from operator import add, sub
from typing import Final, Literal, TypeGuard

import msgspec
from dydx_conn import ConnError, PerpetualMarket, number, quote_to_base
from dydx_margin import (
    PPM,
    FundingTerms,
    MarginError,
    MarginFigures,
    PositionMargin,
    RiskError,
    adjusted_imf_ppm,
    funding_clamp_ppm,
    funding_index_delta,
    funding_payment,
    funding_settlement,
    funding_settlement_ppm,
    is_liquidatable,
    liquidation_ratio,
    mixes_isolated,
    mul_ppm,
    position_margin,
    total_margin,
)

__all__ = [
    "MOVES_PERCENT", "FundingImpact", "Holding", "LeverageAdvice", "PositionRisk", "RiskFigures",
    "Sizing", "StressCell", "StressTable", "Wish", "bound_position", "fixed_fraction",
    "funding_impact", "funding_rate_8h_ppm", "kelly", "risk_figures", "size_position",
    "stress_table", "suggest_leverage", "volatility_target",
]  # fmt: skip

# === Holdings ===


class Holding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One market as an account stands in it; `quantums` 0 is a market it could enter.

    The oracle price is `price` at the power of ten `exponent`, open interest in base quantums,
    `volatility_1h` the standard deviation of the return over an hour, `beta` the market's move
    for a move of one of all markets together.
    """

    market: PerpetualMarket
    quantums: int = 0
    price: int | None = None
    exponent: int = 0
    open_interest: int | None = None
    chosen_imf_ppm: int = 0
    funding_8h_ppm: int | None = None
    volatility_1h: float | None = None
    beta: float | None = None

    @property
    def ticker(self) -> str:
        """Name the market."""
        return self.market.ticker


def funding_rate_8h_ppm(rate_1h: Decimal | str) -> int:
    """Turn the indexer's hourly rate into the chain's ppm per 8 hours, truncated as there."""
    try:
        return int(Fraction(number(rate_1h)) * 8 * PPM)
    except (ConnError, ValueError, ArithmeticError):
        raise RiskError(f"expected an hourly funding rate, got {rate_1h}") from None


def _objection(holding: Holding) -> str:
    # What keeps a market from being valued, or nothing.
    if holding.price is None:
        return f"{holding.ticker}: no oracle price"
    try:
        _margin(holding)
    except MarginError as error:
        return str(error)
    return ""


def _volatility(holding: Holding) -> float | None:
    return holding.volatility_1h if _usable(holding.volatility_1h) else None


def _rate(holding: Holding) -> int | None:
    # The chain's own are 32 bits wide.
    rate = holding.funding_8h_ppm
    return rate if rate is not None and abs(rate) < 2**31 else None


def _usable(volatility: float | None) -> TypeGuard[float]:
    # Its square, too: a market that never moves is one nobody has measured.
    return volatility is not None and volatility > 0 and 0 < volatility * volatility < inf


def _no_volatility(got: float | None) -> str:
    return f"no usable volatility, {'none is known yet' if got is None else f'got {got}'}"


def _margin(holding: Holding, shock_ppm: int = 0) -> PositionMargin:
    # A shocked price is exact: six digits more, none rounded. At nothing, nothing is left.
    price, exponent = holding.price or 0, holding.exponent
    if shock_ppm:
        if shock_ppm <= -PPM:
            return PositionMargin()
        price, exponent = price * (PPM + shock_ppm), exponent - 6
    market, size, interest = holding.market, holding.quantums, holding.open_interest
    return position_margin(market, size, price, exponent, interest, holding.chosen_imf_ppm)


def _funding_ppm(holding: Holding, rate_8h_ppm: int, hours: int) -> int:
    # What it is credited, in 1e-6 quote quantums, if nothing else moves.
    price, exponent, market = holding.price or 0, holding.exponent, holding.market
    delta = funding_index_delta(rate_8h_ppm, 3_600, price, exponent, market.atomic_resolution)
    return hours * funding_settlement_ppm(holding.quantums, delta, 0)


_Held = dict[str, Holding]
_Terms = dict[str, PositionMargin]


def _held(holdings: Iterable[Holding]) -> _Held:
    held: _Held = {}
    for holding in holdings:
        if holding.ticker in held:
            raise RiskError(f"expected one holding per market, got {holding.ticker} twice")
        held[holding.ticker] = holding
    return {ticker: holding for ticker, holding in held.items() if holding.quantums}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


# === Figures ===


class PositionRisk(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position's figures; None is unknown, and `unknown` says why.

    `distance` is this price's own adverse move to `liquidation_price`, all others standing
    still; `gap` the same in USDC per base unit, `sigmas` in its own hourly standard deviations.
    The price is None with an infinite distance where no price of this market liquidates, or
    (minus infinity) where none would save. `funding_1h` is positive when paid.
    """

    ticker: str
    quantums: int
    oracle_price: Decimal | None = None
    net_notional: int | None = None
    share: float | None = None
    liquidation_price: Decimal | None = None
    gap: Decimal | None = None
    distance: float | None = None
    sigmas: float | None = None
    funding_1h: int | None = None
    unknown: tuple[str, ...] = ()


class RiskFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An account's figures at one instant; None is unknown, and `unknown` says why.

    `margin` tells equity, gross notional, usage and `distance`, the adverse move of all prices
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
    positions: tuple[PositionRisk, ...] = ()
    unknown: tuple[str, ...] = ()


def risk_figures(collateral: int, holdings: Iterable[Holding]) -> RiskFigures:
    """Compute every figure of risk of an account, from its settled USDC and its holdings."""
    held = _held(holdings)
    objections = {ticker: _objection(holding) for ticker, holding in held.items()}
    terms = {t: _margin(h) for t, h in held.items() if not objections[t]}
    unknown = [reason for reason in objections.values() if reason]
    total = total_margin(collateral, terms.values(), unknown)
    positions = tuple(_position_risk(h, terms.get(t), total) for t, h in held.items())
    if unknown:
        return RiskFigures(positions=positions, unknown=tuple(unknown))
    return _account_figures(total, held, terms, positions)


def _account_figures(
    total: MarginFigures, held: _Held, terms: _Terms, positions: tuple[PositionRisk, ...]
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
        net_notional=sum(values),
        long_notional=sum(value for value in values if value > 0),
        short_notional=-sum(value for value in values if value < 0),
        sigmas=_account_sigmas(total, held, terms),
        largest=largest,
        largest_share=shares[largest] if largest is not None else None,
        herfindahl=sum(share * share for share in shares.values()) if shares else None,
        positions=positions,
        unknown=tuple(lacking),
    )
    impact = msgspec.structs.asdict(funding_impact(total, held.values()))
    return msgspec.structs.replace(figures, **impact)


def _account_sigmas(total: MarginFigures, held: _Held, terms: _Terms) -> float | None:
    # All against us at once, each by its own deviation: no diversification is counted on.
    lost = 0.0
    for ticker, holding in held.items():
        volatility = _volatility(holding)
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
    """Reckon funding at the present rates and prices; all unknown if a rate is.

    `margin` is the account's. `MarginError` for a holding whose price is not above 0.
    """
    settled = 0
    for holding in holdings:
        rate = _rate(holding)
        if rate is None:
            return FundingImpact()
        settled += _funding_ppm(holding, rate, 1)
    day = -funding_settlement([24 * settled])
    paying = settled < 0 or margin.cushion < 0
    return FundingImpact(
        -funding_settlement([settled]),
        day,
        day / margin.sensitivity if margin.sensitivity > 0 else None,
        max(margin.cushion, 0) * PPM / max(-settled, 1) if paying else inf,
    )


def _position_risk(
    holding: Holding, term: PositionMargin | None, total: MarginFigures
) -> PositionRisk:
    ticker, size = holding.ticker, holding.quantums
    if term is None or holding.price is None:
        return PositionRisk(ticker=ticker, quantums=size, unknown=(_objection(holding),))
    oracle = Decimal(holding.price).scaleb(holding.exponent)
    rate, volatility, lacking = _rate(holding), _volatility(holding), []
    if rate is None:
        wide = ", got one beyond 32 bits" if holding.funding_8h_ppm else ""
        lacking.append(f"{ticker}: no usable funding rate{wide}")
    if volatility is None:
        lacking.append(f"{ticker}: {_no_volatility(holding.volatility_1h)}")
    liquidation, distance = None, None
    if total.known:
        liquidation, distance = _own_distance(holding, oracle, term, total)
    else:
        lacking += [f"{ticker}: no distance, the account is unknown ({total.unknown[0]})"]
    return PositionRisk(
        ticker=ticker,
        quantums=size,
        oracle_price=oracle,
        net_notional=term.net_notional,
        share=abs(term.net_notional) / total.notional if total.known and total.notional else None,
        liquidation_price=liquidation,
        gap=abs(oracle - liquidation) if liquidation is not None else None,
        distance=distance,
        sigmas=distance / volatility if distance is not None and volatility else None,
        funding_1h=None if rate is None else funding_payment(_funding_ppm(holding, rate, 1)),
        unknown=tuple(lacking),
    )


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

    `unknown` says why cells are unknown: `lacking` are the reasons of positions that no holding
    can be made of. `assumed` names the markets that count with a beta of 1 for want of one.
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
        """Say which positions cannot be valued, and why."""
        return (*self.lacking, *(row.unknown for row in self.rows.values() if row.unknown))

    @property
    def assumed(self) -> tuple[str, ...]:
        """Name the markets whose beta is not known and counts as 1."""
        return tuple(t for t, row in self.rows.items() if _beta(row.holding) is None)

    def changed(self, holding: Holding) -> "StressTable":
        """Return the table with one market as it is now: its price, size or rate; 0 leaves."""
        rows, ticker = dict(self.rows), holding.ticker
        old, sums = rows.pop(ticker, None), self.sums
        if old is not None:
            sums = tuple(map(sub, sums, old.sums))
        if holding.quantums:
            row = _row(holding, self.funding_hours, self.terms)
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
    rows = {t: _row(holding, funding_hours, terms) for t, holding in _held(holdings).items()}
    sums = tuple(map(sum, zip(_NONE, *(row.sums for row in rows.values()), strict=True)))
    return StressTable(collateral, funding_hours, terms, rows, sums)


def _row(holding: Holding, hours: int, terms: FundingTerms) -> _Row:
    try:
        return _known_row(holding, hours, terms)
    except (MarginError, OverflowError) as error:  # now, or only once it is shocked
        return _Row(holding, _objection(holding) or str(error))


def _known_row(holding: Holding, hours: int, terms: FundingTerms) -> _Row:
    now, beta = _parts(_margin(holding)), _beta(holding)
    moved = together = tuple(_parts(_margin(holding, move * 10_000)) for move in MOVES_PERCENT)
    if beta is not None and beta != 1:
        shocks = [round(move * 10_000 * beta) for move in MOVES_PERCENT]
        together = tuple(_parts(_margin(holding, shock)) for shock in shocks)
    market, (value, initial, *others) = holding.market, now
    # At its upper cap the fraction is 100 %, whatever was chosen.
    capped = abs(value) if market.open_interest_upper_cap else initial
    factor = terms.funding_rate_clamp_factor_ppm
    clamp = funding_clamp_ppm(factor, market.imf_ppm, market.maintenance_fraction_ppm)
    paid = _funding_ppm(holding, clamp if holding.quantums > 0 else -clamp, hours)
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


# === Sizing ===
# How much one would like, and how much of it the margin bears when all markets turn against it.


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A position's wanted notional, signed, in quote quantums; None where none can be named."""

    notional: int | None
    why: str


class Sizing(msgspec.Struct, frozen=True, gc=False):
    """The position to hold, signed quantums on the step; 0 is a denial, and `why` its reason.

    It bounds what is wished for, and never asks to close what is held.
    `after` is the account's margin after the adverse move, None where it was not computed.
    """

    ticker: str
    quantums: int
    why: str
    limited_by: Literal["wish", "step", "margin", "volatility", "unknown", "isolated"]
    after: MarginFigures | None = None

    @property
    def denied(self) -> bool:
        """Tell whether nothing may be held."""
        return not self.quantums


def fixed_fraction(equity: int | None, fraction: float, stop: float = 1.0) -> Wish:
    """Wish to lose at most `fraction` of equity if the price moves by `stop` against it."""
    _expect("fraction", fraction, least=-inf)
    _expect("stop", stop, least=1e-4)
    words = f"{_percent(fraction)} of equity at a stop of {_percent(stop)}"
    return _wish(equity, fraction / stop, words)


def volatility_target(
    equity: int | None, target_1h: float, volatility_1h: float | None, cap: float
) -> Wish:
    """Wish for a position that moves equity by `target_1h` an hour (one standard deviation).

    `cap` bounds it in multiples of equity: a calm hour is not a promise.
    """
    _expect("target_1h", target_1h, least=-inf)
    _expect("cap", cap, least=0)
    if not _usable(volatility_1h):
        return Wish(None, _no_volatility(volatility_1h))
    leverage = min(max(target_1h / volatility_1h, -cap), cap)
    calm = f"at a volatility of {_percent(volatility_1h)}"
    words = f"{_percent(target_1h)} an hour {calm}, at most {cap:g} times"
    return _wish(equity, leverage, words)


def kelly(
    equity: int | None, edge_1h: float | None, volatility_1h: float | None, cap: float,
    share: float = 0.5,
) -> Wish:  # fmt: skip
    """Wish for a share of Kelly's fraction, edge over variance, at most `cap` times equity.

    `edge_1h` is the expected return of an hour, costs deducted; a negative one wishes a short.
    """
    _expect("cap", cap, least=0)
    _expect("share", share, above=0)
    if edge_1h is None or not isfinite(edge_1h):
        return Wish(None, f"no usable edge, got {edge_1h}")
    if not _usable(volatility_1h):
        return Wish(None, _no_volatility(volatility_1h))
    whole = edge_1h / (volatility_1h * volatility_1h)
    leverage = min(max(share * whole, -cap), cap)
    words = f"{share:g} of Kelly's {whole:.2f} times equity, at most {cap:g} times"
    return _wish(equity, leverage, words)


def _expect(
    name: str, value: float, *, least: float = -inf, above: float = -inf, below: float = inf
) -> None:
    if not (isfinite(value) and least <= value and above < value < below):
        bounds = f"at least {least:g}" if least > above else f"above {above:g}"
        raise RiskError(f"expected {name} {bounds} and below {below:g}, got {value}")


def _wish(equity: int | None, leverage: float, words: str) -> Wish:
    if equity is None:
        return Wish(None, "equity is unknown")
    if equity <= 0:
        return Wish(None, f"expected a positive equity, got {equity} quote quantums")
    return Wish(int(equity * Fraction(leverage)), words)


# A position's size to the account's margin once traded, and after the adverse move.
_Stressed = Callable[[int], tuple[MarginFigures, MarginFigures]]


def size_position(
    wish: Wish, market: Holding, collateral: int, holdings: Iterable[Holding], *,
    adverse: float, keep_above: float, cost_ppm: int = 0,
) -> Sizing:  # fmt: skip
    """Return the largest position up to the wish that leaves the account safe after a shock.

    Safe is initially collateralised once traded, `cost_ppm` of the notional lost to fee and
    slippage, and at a distance of `keep_above` still after *every* market has moved by `adverse`
    (0.2 is 20 %) against its position. Rounded toward zero to the step. `market` is the one to
    size, as it is held now; `holdings` may name it too.
    """
    _expect("adverse", adverse, least=0, below=1)
    _expect("keep_above", keep_above, least=0, below=1)
    _expect("cost_ppm", cost_ppm, least=0)
    others = [h for h in _held(holdings).values() if h.ticker != market.ticker]
    refused = _refusal(wish, market, others)
    if refused is not None:
        return refused
    try:
        trade = _after_trade(market, collateral, others, ceil(adverse * PPM), cost_ppm)
        return _largest(wish, market, trade, ceil(keep_above * PPM))
    except MarginError as error:
        return Sizing(market.ticker, 0, str(error), "unknown")


def bound_position(
    notional: int, market: Holding, collateral: int, holdings: Iterable[Holding], *,
    equity: int, adverse: float | None, volatility_1h: float | None, cap: float, cost_ppm: int = 0,
) -> Sizing:  # fmt: skip
    """Bound a wanted position, signed quote quantums, by volatility and by a stressed margin.

    None is no bound; otherwise `volatility_1h` is as in `volatility_target`, `adverse` as in
    `size_position`, with liquidation not reached after the move.
    """
    wish = wanted = Wish(notional, "the decision's size")
    if volatility_1h is not None:
        most = volatility_target(equity, volatility_1h, market.volatility_1h, cap)
        if most.notional is None:
            wish = most
        elif abs(notional) > abs(most.notional):
            wish = Wish(most.notional if notional > 0 else -most.notional, most.why)
    move = adverse if adverse is not None else 0.0
    sizing = size_position(
        wish, market, collateral, holdings, adverse=move, keep_above=0, cost_ppm=cost_ppm
    )
    calmed = sizing.limited_by == "wish" and wish is not wanted
    return msgspec.structs.replace(sizing, limited_by="volatility") if calmed else sizing


def _refusal(wish: Wish, market: Holding, others: list[Holding]) -> Sizing | None:
    reasons = [] if wish.notional is not None else [wish.why]
    reasons += [reason for reason in map(_objection, [market, *others]) if reason]
    if reasons:
        return Sizing(market.ticker, 0, "; ".join(reasons), "unknown")
    if mixes_isolated(holding.market for holding in [market, *others]):
        why = f"{market.ticker} and {others[0].ticker} cannot be held by one subaccount: isolated"
        return Sizing(market.ticker, 0, why, "isolated")
    return None


def _largest(wish: Wish, holding: Holding, trade: _Stressed, keep_ppm: int) -> Sizing:
    market, notional, price = holding.market, wish.notional or 0, holding.price or 0
    wanted = quote_to_base(notional, price, holding.exponent, market.atomic_resolution)
    step = market.step_base_quantums if wanted > 0 else -market.step_base_quantums
    most = wanted // step
    if not notional:
        return Sizing(market.ticker, 0, f"{wish.why}: nothing is wished for", "wish")
    if not most:
        why = f"{wish.why}: {wanted} quantums, below the step of {abs(step)}"
        return Sizing(market.ticker, 0, why, "step")
    steps = _most_steps(most, lambda count: _bears(trade(count * step), keep_ppm))
    after = trade(steps * step)[1]
    if steps == most:
        return Sizing(market.ticker, steps * step, wish.why, "wish", after)
    bound = f"the margin bears {steps} of {most} steps at {_percent(keep_ppm / PPM)} after the move"
    return Sizing(market.ticker, steps * step, f"{wish.why}; {bound}", "margin", after)


def _after_trade(
    market: Holding, collateral: int, others: list[Holding], adverse_ppm: int, cost_ppm: int
) -> _Stressed:
    # The others are the same for every size that is tried.
    resting = [(other, _against(other.quantums, adverse_ppm)) for other in others]
    now = total_margin(collateral, [_margin(other) for other in others])
    then = total_margin(collateral, [_margin(other, shock) for other, shock in resting])
    held = _margin(market).net_notional

    def stressed(quantums: int) -> tuple[MarginFigures, MarginFigures]:
        # The match itself may raise the open interest, and with it the fraction.
        interest, traded = market.open_interest, abs(quantums - market.quantums)
        interest = None if interest is None else interest + traded
        target = msgspec.structs.replace(market, quantums=quantums, open_interest=interest)
        calm, shaken = _margin(target), _margin(target, _against(quantums, adverse_ppm))
        cost = mul_ppm(abs(calm.net_notional - held), cost_ppm, round_up=True)
        cash = held - calm.net_notional - cost
        return _joined(now, calm, cash), _joined(then, shaken, cash)

    return stressed


def _against(quantums: int, adverse_ppm: int) -> int:
    return -adverse_ppm if quantums > 0 else adverse_ppm


def _joined(total: MarginFigures, term: PositionMargin, cash: int) -> MarginFigures:
    own = total_margin(cash, [term])
    return MarginFigures(
        *map(add, msgspec.structs.astuple(total)[:_WIDTH], msgspec.structs.astuple(own))
    )


def _bears(stressed: tuple[MarginFigures, MarginFigures], keep_ppm: int) -> bool:
    calm, shaken = stressed
    kept = shaken.cushion * PPM >= keep_ppm * shaken.sensitivity
    return calm.free_collateral >= 0 and shaken.cushion >= 0 and kept


def _most_steps(most: int, fits: Callable[[int], bool]) -> int:
    # Only what was tried and fits is ever returned, so rounding cannot make it unsafe.
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


# === Leverage ===


class LeverageAdvice(msgspec.Struct, frozen=True, gc=False):
    """How far to lever one market on its own; `leverage` is None while it cannot be said.

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
    ticker, objection = holding.ticker, _objection(holding)
    if objection:
        return LeverageAdvice(ticker, None, None, (objection,))
    fraction, words = _initial_fraction(holding)
    if fraction <= 0:
        lacking = f"{ticker}: expected an initial margin above 0, got {fraction} ppm"
        return LeverageAdvice(ticker, None, None, (lacking,))
    most, market, volatility = PPM / fraction, holding.market, _volatility(holding)
    if volatility is None:
        lacking = f"{ticker}: {_no_volatility(holding.volatility_1h)}"
        return LeverageAdvice(ticker, None, most, (words, lacking))
    swing = sigmas * volatility * sqrt(hours)
    distance = max(swing, keep_above)
    kept = market.imf_ppm * market.maintenance_fraction_ppm / PPM / PPM
    borne = 1 / (kept + distance * (1 + kept)) if kept + distance > 0 else inf
    kind = "the initial margin binds" if most <= borne else "the distance binds"
    swings = f"{sigmas:g} deviations of {hours:g} h are {_percent(swing)}"
    bears = f"kept {_percent(keep_above)}, maintenance {_percent(kept)}: {borne:.1f} times"
    return LeverageAdvice(ticker, min(most, borne), most, (words, swings, bears, kind))


def _initial_fraction(holding: Holding) -> tuple[int, str]:
    market, interest = holding.market, holding.open_interest
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    base = max(market.imf_ppm, holding.chosen_imf_ppm)
    if not upper:
        return base, f"initial margin of {_percent(base / PPM)}, not scaled by open interest"
    if interest is None:
        return PPM, "initial margin of 100 %: open interest is unknown and counts as capped"
    whole = msgspec.structs.replace(holding, quantums=interest)
    value = abs(_margin(whole).net_notional)
    scaled = max(adjusted_imf_ppm(market.imf_ppm, lower, upper, value), base)
    share = f"{_percent(value / upper)} of the upper cap"
    return scaled, f"initial margin of {_percent(scaled / PPM)} at {share}"
