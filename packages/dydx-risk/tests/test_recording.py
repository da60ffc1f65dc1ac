"""Accounts as the recorded sessions held them: every figure of them, computed plainly.

An account at a moment is its settled USDC and its holdings. What is expected of it here is written
in fractions from the protocol's rules, each rule as one expression.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import ceil, floor, inf, isqrt, sqrt, trunc

import msgspec
import pytest
from dydx_conn import Accounts, Subaccount
from dydx_data import DataState, step
from dydx_risk import (
    MOVES_PERCENT,
    Holding,
    LiquidationTerms,
    MarginFigures,
    Proposal,
    Risk,
    StressCell,
    account_view,
    bankruptcy_price,
    check_update,
    compare_risk,
    explain,
    fillable_price,
    funding_impact,
    funding_index_delta,
    insurance_fund_delta,
    is_liquidatable,
    liquidation_size,
    risk_figures,
    size_position,
    stress_table,
    suggest_leverage,
    total_margin,
)
from sessions import REAL, Session

PPM = 10**6
TERMS = LiquidationTerms()


@dataclass(frozen=True)
class Moment:
    """What an account held between two frames."""

    collateral: int
    holdings: tuple[Holding, ...]

    @property
    def margin(self) -> MarginFigures:
        """Its margin as the layer computes it."""
        return total_margin(self.collateral, [held.margin() for held in self.holdings])

    def after(self, changed: Holding, cash: int = 0) -> MarginFigures:
        """Its margin with another size or price in one market."""
        rows = [changed if h.ticker == changed.ticker else h for h in self.holdings]
        return total_margin(self.collateral + cash, [held.margin() for held in rows])

    def moved(self, share: Fraction) -> MarginFigures:
        """Its margin after a move of every price against its position."""
        rows = [
            h.margin(round(-share * PPM * (1 if h.quantums > 0 else -1))) for h in self.holdings
        ]
        return total_margin(self.collateral, rows)


@cache
def moments(session: Session, account: str) -> tuple[Moment, ...]:
    """Replay a session; return up to eight of the accounts that it went through, evenly spread."""
    owner, number = account.split("/")
    subaccount = Subaccount(owner, int(number))
    state, accounts, risk = DataState(), Accounts([subaccount]), Risk(None, subaccount, guard=False)
    found: dict[tuple[object, ...], Moment] = {}
    for frame in session.frames:
        for view in step(state, frame):
            risk.step(view)
        for update in accounts.step(frame):
            risk.step(update)
        if risk.account.trouble or not risk.margin.known or not risk.valued.held:
            continue
        rows = tuple(holding(state, ticker, risk) for ticker in risk.valued.held)
        key = risk.account.settled, *((h.ticker, h.quantums, h.price) for h in rows)
        found.setdefault(key, Moment(risk.account.settled, rows))
    rows_found = [*found.values()]
    return tuple(rows_found[:: max(1, len(rows_found) // 8)][:8])


def holding(state: DataState, ticker: str, risk: Risk) -> Holding:
    """Return what is held in a market, with what the venue reported of it."""
    view, exposure = state.views[ticker], risk.valued.held[ticker]
    assert view.market is not None
    assert view.oracle is not None
    return Holding(
        market=view.market,
        quantums=exposure.quantums,
        price=view.oracle.digits,
        exponent=view.oracle.exponent,
        open_interest=view.open_interest,
        entry_price=exposure.position.entry_price,
        funding_8h_ppm=int(8 * PPM * Decimal(view.funding.next_rate_text)),
    )


ACCOUNTS = [
    pytest.param(session, account, id=f"{session}-{account.partition('/')[2]}")
    for session in REAL
    for account in sorted(session.truth["state"])
]
each_account = pytest.mark.parametrize(("session", "account"), ACCOUNTS)


# === What the protocol says ===


def value(held: Holding, quantums: int | None = None) -> Fraction:
    """Return what a size is worth at the oracle price, in quote quantums, signed and exact."""
    size = held.quantums if quantums is None else quantums
    assert held.price is not None
    return size * held.price * Fraction(10) ** (held.exponent + held.market.atomic_resolution + 6)


def imf(held: Holding) -> int:
    """Return the initial margin fraction by open interest, in ppm."""
    market = held.market
    lower, upper = market.open_interest_lower_cap, market.open_interest_upper_cap
    if not upper:
        return market.imf_ppm
    if held.open_interest is None:
        return PPM
    interest = trunc(value(held, held.open_interest))
    share = min(max(Fraction(interest - lower, upper - lower), Fraction(0)), Fraction(1))
    return market.imf_ppm + floor((PPM - market.imf_ppm) * share)


def required(held: Holding) -> tuple[int, int]:
    """Return the initial and the maintenance margin of a position."""
    notional, market = abs(trunc(value(held))), held.market
    base = ceil(Fraction(notional * market.imf_ppm, PPM))
    initial = ceil(Fraction(notional * imf(held), PPM))
    return initial, ceil(Fraction(base * market.maintenance_fraction_ppm, PPM))


def maintenance(held: Holding) -> Fraction:
    """Return the maintenance fraction, without its roundings."""
    return Fraction(held.market.imf_ppm * held.market.maintenance_fraction_ppm, PPM**2)


def summed(moment: Moment) -> tuple[int, int, int]:
    """Return net collateral, initial and maintenance margin of an account."""
    net = moment.collateral + sum(trunc(value(held)) for held in moment.holdings)
    initial, least = zip(*map(required, moment.holdings), strict=True)
    return net, sum(initial), sum(least)


def resized(held: Holding, quantums: int) -> Holding:
    """Return a holding of another size."""
    return msgspec.structs.replace(held, quantums=quantums)


# === Margin ===


@each_account
def test_the_margin_of_an_account_is_the_sum_of_its_rules(session: Session, account: str) -> None:
    """Net collateral, both margins, and what is derived of them."""
    for moment in moments(session, account):
        net, initial, least = summed(moment)
        margin = moment.margin
        notional = sum(abs(trunc(value(held))) for held in moment.holdings)
        assert (margin.net_collateral, margin.initial_margin) == (net, initial)
        assert (margin.maintenance_margin, margin.notional) == (least, notional)
        assert (margin.free_collateral, margin.cushion) == (net - initial, net - least)
        assert is_liquidatable(net, least) == (net < least)
        assert margin.leverage == (notional / net if net > 0 else None)
        assert margin.usage == (initial / net if net > 0 else None)


@each_account
def test_the_distance_is_the_move_after_which_the_account_is_liquidatable(
    session: Session, account: str
) -> None:
    """All prices against it at once: a hundredth of a per cent less is safe, so much more is not."""
    for moment in moments(session, account):
        distance = moment.margin.distance
        assert distance is not None
        for more in (-Fraction(1, 10_000), Fraction(1, 10_000)):
            share = Fraction(distance) + more
            if abs(share) < 1:
                margin = moment.moved(share)
                breached = is_liquidatable(margin.net_collateral, margin.maintenance_margin)
                assert breached == (more > 0)


@each_account
def test_what_shrinks_is_allowed_and_what_overdraws_is_not(session: Session, account: str) -> None:
    """Half a position at its oracle price, unless less than nothing is left to bear the rest.

    The whole free collateral and a quantum more is refused.
    """
    for moment in moments(session, account):
        margin, markets = moment.margin, [held.market for held in moment.holdings]
        for held in moment.holdings:
            less = resized(held, trunc(Fraction(held.quantums, 2)))
            cash = trunc(value(held)) - trunc(value(less))
            lost = margin.net_collateral < 0
            verdict = "StillUndercollateralized" if lost else "Success"
            assert check_update(margin, moment.after(less, cash), markets) == verdict
            assert compare_risk(moment.after(less, cash), margin) == (1 if lost else -1)
        spent = msgspec.structs.replace(
            margin, net_collateral=margin.net_collateral - max(margin.free_collateral, 0) - 1
        )
        poor = margin.free_collateral < 0
        why = "StillUndercollateralized" if poor else "NewlyUndercollateralized"
        assert check_update(margin, spent, markets) == why
        assert compare_risk(spent, margin) == 1


# === Liquidation ===


@each_account
def test_at_its_liquidation_price_a_market_alone_brings_the_account_to_its_maintenance(
    session: Session, account: str
) -> None:
    """Price p' = (e - s·p - other maintenance) / (|s|·mmf - s), the others as they are."""
    for moment in moments(session, account):
        net, _, least = summed(moment)
        views = account_view("chain", moment.collateral, moment.holdings).positions
        figures = risk_figures(moment.collateral, moment.holdings).positions
        for held, view, row in zip(moment.holdings, views, figures, strict=True):
            size = held.quantums * Fraction(10) ** held.market.atomic_resolution
            now = trunc(value(held))
            left = Fraction(net - now - (least - required(held)[1]), PPM)
            price = left / (abs(size) * maintenance(held) - size)
            assert view.liquidation_price == (price if price >= 0 else None)
            if price < 0:
                assert (row.liquidation_price, row.distance) == (None, inf)
                continue
            oracle = value(held) / PPM / size
            away = (oracle - price) / oracle * (1 if size > 0 else -1)
            assert row.liquidation_price == pytest.approx(
                Decimal(float(price)), rel=Decimal("1e-9")
            )
            assert row.distance == pytest.approx(float(away), abs=1e-9)


@each_account
def test_what_a_liquidation_takes_leaves_the_account_its_share(
    session: Session, account: str
) -> None:
    """At the bankruptcy price net collateral per maintenance margin stays, but for a quantum."""
    for moment in moments(session, account):
        margin = moment.margin
        for held in moment.holdings:
            for part in (1, 2):
                left = resized(held, held.quantums - held.quantums // part)
                quote = bankruptcy_price(margin, held.margin(), left.margin())
                after = moment.after(left, quote)
                share = Fraction(margin.net_collateral * after.maintenance_margin)
                share /= margin.maintenance_margin
                assert 0 <= after.net_collateral - share < 1 + 1e-9


@each_account
def test_a_liquidation_asks_for_no_less_than_its_fillable_price(
    session: Session, account: str
) -> None:
    """(PNNV - ABR · SMMR · PMMR) / PS; ABR is 1 - TNC / TMMR, from 0 to 1."""
    for moment in moments(session, account):
        net, _, least = summed(moment)
        for poorer in (0, net - least // 2, net + 1):
            margin = msgspec.structs.replace(moment.margin, net_collateral=net - poorer)
            share = min(max(1 - Fraction(net - poorer, least), Fraction(0)), Fraction(1))
            for held in moment.holdings:
                price = trunc(value(held)) - share * Fraction(3, 2) * required(held)[1]
                found = fillable_price(margin, held.margin(), held.quantums, TERMS)
                assert found == price / held.quantums


@each_account
def test_a_liquidation_takes_a_tenth_or_a_thousand_usdc(session: Session, account: str) -> None:
    """On the step, never more than is held, and the other way round."""
    for moment in moments(session, account):
        for held in moment.holdings:
            assert held.price is not None
            size = liquidation_size(held.market, held.quantums, held.price, held.exponent, TERMS)
            notional = abs(trunc(value(held)))
            allowed = max(min(1_000 * PPM, notional), notional // 10)
            assert size * held.quantums < 0
            if allowed >= notional:
                assert size == -held.quantums
                continue
            unit, least = held.market.step_base_quantums, held.market.step_base_quantums
            worth = trunc(abs(value(held, size)))
            assert worth <= allowed or abs(size) == least
            assert abs(value(held, abs(size) + unit)) + 1 > allowed
            assert size % unit == 0


@each_account
def test_the_insurance_fund_takes_what_is_left_up_to_its_fee_and_pays_what_lacks(
    session: Session, account: str
) -> None:
    """At most 1.5 % of what was traded."""
    for moment in moments(session, account):
        for held in moment.holdings:
            empty = resized(held, 0)
            ruin = bankruptcy_price(moment.margin, held.margin(), empty.margin())
            traded = trunc(value(held))
            surplus = traded - ruin
            most = floor(Fraction(abs(traded) * 15, 1_000))
            assert insurance_fund_delta(ruin, traded, 15_000) == min(surplus, most)
            assert insurance_fund_delta(traded, traded - 7, 15_000) == -7


# === Views and figures ===


@each_account
def test_each_front_end_shows_what_its_own_rules_make_of_the_account(
    session: Session, account: str
) -> None:
    """The indexer rounds nothing and knows no open interest; the web shows nothing below 0."""
    for moment in moments(session, account):
        net, initial, least = summed(moment)
        chain = account_view("chain", moment.collateral, moment.holdings)
        assert chain.equity * PPM == net
        assert chain.free_collateral * PPM == net - initial
        assert chain.maintenance_margin * PPM == least

        equity = Fraction(moment.collateral) + sum(map(value, moment.holdings))
        tier = sum(abs(value(h)) * Fraction(h.market.imf_ppm, PPM) for h in moment.holdings)
        indexer = account_view("indexer", moment.collateral, moment.holdings)
        assert (indexer.equity * PPM, indexer.free_collateral * PPM) == (equity, equity - tier)
        if equity > 0:
            assert indexer.margin_usage == tier / equity
            assert indexer.leverage == sum(abs(value(h)) for h in moment.holdings) / equity

        web = account_view("web", moment.collateral, moment.holdings)
        assert web.equity * PPM == max(equity, 0)
        assert web.free_collateral >= 0


@each_account
def test_what_is_explained_is_what_differs(session: Session, account: str) -> None:
    """Each with the figure shown, the one acted on, and a reason; nothing that differs is left."""
    for moment in moments(session, account):
        found = explain(moment.collateral, moment.holdings, rounding=True)
        chain = account_view("chain", moment.collateral, moment.holdings)
        for name in ("web", "abacus", "indexer"):
            view = account_view(name, moment.collateral, moment.holdings)
            figures = (
                "equity", "free_collateral", "initial_margin", "maintenance_margin", "margin_usage",
                "leverage",
            )  # fmt: skip
            differ = {
                (figure, getattr(view, figure), getattr(chain, figure))
                for figure in figures
                if getattr(view, figure) != getattr(chain, figure)
            }
            explained = {
                (one.figure, one.shown, one.acts)
                for one in found
                if one.view == name and not one.ticker
            }
            assert explained == differ
        assert all(one.reasons for one in found)


@each_account
def test_the_figures_of_an_account_add_up(session: Session, account: str) -> None:
    """Long less short is net, the shares are of the gross, profit is against the entry."""
    for moment in moments(session, account):
        values = {held.ticker: trunc(value(held)) for held in moment.holdings}
        gross = sum(map(abs, values.values()))
        shares = {ticker: abs(worth) / gross for ticker, worth in values.items()}
        figures = risk_figures(moment.collateral, moment.holdings)
        assert figures.net_notional == sum(values.values())
        assert figures.long_notional == sum(worth for worth in values.values() if worth > 0)
        assert figures.short_notional == -sum(worth for worth in values.values() if worth < 0)
        assert figures.largest_share == max(shares.values())
        assert figures.herfindahl == pytest.approx(sum(share**2 for share in shares.values()))
        for held, row in zip(moment.holdings, figures.positions, strict=True):
            oracle = Decimal(held.price or 0).scaleb(held.exponent)
            assert row.share == shares[held.ticker]
            assert row.oracle_price == oracle
            assert (row.initial_margin, row.maintenance_margin) == required(held)
            if held.entry_price is not None:
                assert row.unrealized_pnl == (oracle - held.entry_price) * row.size


@each_account
def test_funding_costs_an_eighth_of_its_rate_an_hour(session: Session, account: str) -> None:
    """Of what the positions are worth, longs paying a positive rate; a day costs 24 of it."""
    for moment in moments(session, account):
        rates = [Fraction(held.funding_8h_ppm or 0, 8 * PPM) for held in moment.holdings]
        hour = sum((value(h) * r for h, r in zip(moment.holdings, rates, strict=True)), Fraction(0))
        impact, margin = funding_impact(moment.margin, moment.holdings), moment.margin
        assert impact.funding_1h is not None
        assert impact.funding_1d is not None
        # The chain cuts the index to whole ppm of a quantum for each base quantum.
        slack = Fraction(sum(abs(held.quantums) for held in moment.holdings), PPM) + 1
        assert abs(impact.funding_1h - hour) <= slack
        assert abs(impact.funding_1d - 24 * hour) <= 24 * slack
        assert impact.funding_distance_1d == impact.funding_1d / margin.sensitivity


@each_account
def test_an_index_moves_by_its_rate_truncated_twice(session: Session, account: str) -> None:
    """At the recorded prices, at the recorded rate and its mirror, over an hour and over a second.

    Truncated toward zero, so that a negative rate moves it as far as a positive one.
    """
    for moment in moments(session, account):
        for held in moment.holdings:
            assert held.price is not None
            unit = value(held, 1)
            for rate in (held.funding_8h_ppm or 0, 9_999, 1):
                for seconds in (3_600, 1):
                    moved = trunc(Fraction(trunc(rate * seconds * unit), 28_800))
                    grid = seconds, held.price, held.exponent, held.market.atomic_resolution
                    assert funding_index_delta(rate, *grid) == moved
                    assert funding_index_delta(-rate, *grid) == -moved


@each_account
def test_each_cell_of_the_stress_table_is_the_account_after_that_move(
    session: Session, account: str
) -> None:
    """One market's price, or all at once: revalued from nothing."""
    for moment in moments(session, account):
        table = stress_table(moment.collateral, moment.holdings)
        for index, move in enumerate(MOVES_PERCENT):
            together = table.together()[index]
            shaken = [held.margin(move * 10_000) for held in moment.holdings]
            assert cell_of(together) == figures_of(total_margin(moment.collateral, shaken))
            for held in moment.holdings:
                one = [h.margin(move * 10_000 * (h is held)) for h in moment.holdings]
                found = table.market(held.ticker)[index]
                assert cell_of(found) == figures_of(total_margin(moment.collateral, one))
        assert cell_of(table.now()) == figures_of(moment.margin)


def cell_of(cell: StressCell) -> tuple[object, ...]:
    """Return what a cell says of an account."""
    return cell.equity, cell.initial_margin, cell.maintenance_margin, cell.liquidatable


def figures_of(margin: MarginFigures) -> tuple[object, ...]:
    """Return the same of its margin."""
    net, least = margin.net_collateral, margin.maintenance_margin
    return net, margin.initial_margin, least, net < least


# === Sizing ===


@each_account
@pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
def test_a_size_is_the_largest_that_stands_the_move(
    session: Session, account: str, side: int
) -> None:
    """After ten per cent against every position 3 % of distance are left; a step more breaks it."""
    for moment in moments(session, account):
        for held in moment.holdings:
            proposal = Proposal(side * 40 * max(moment.margin.net_collateral, 10**9), "all")
            sizing = size_position(
                proposal, held, moment.collateral, moment.holdings,
                adverse=0.1, keep_above=0.03, cost_ppm=500,
            )  # fmt: skip
            unit = side * held.market.step_base_quantums
            assert sizing.quantums % unit == 0
            if sizing.quantums:
                assert stands(moment, held, sizing.quantums)
            assert sizing.limited_by == "margin"
            assert not stands(moment, held, sizing.quantums + unit)


def stands(moment: Moment, held: Holding, quantums: int) -> bool:
    """Say whether an account may hold so much, and what is left of it after the move."""
    interest = held.open_interest
    grown = None if interest is None else interest + abs(quantums - held.quantums)
    target = msgspec.structs.replace(held, quantums=quantums, open_interest=grown)
    traded = trunc(value(held)) - trunc(value(target))
    cash = traded - ceil(Fraction(abs(traded) * 500, PPM))
    rows = tuple(target if h is held else h for h in moment.holdings)
    calm = Moment(moment.collateral + cash, rows)
    shaken = calm.moved(Fraction(1, 10))
    return (
        calm.margin.free_collateral >= 0
        and shaken.cushion >= 0
        and shaken.cushion * 100 >= 3 * shaken.sensitivity
    )


@each_account
def test_a_leverage_is_advised_that_stands_three_deviations_of_a_day(
    session: Session, account: str
) -> None:
    """1 / (mmf + d · (1 + mmf)), at most what the initial margin allows."""
    for moment in moments(session, account):
        for held, volatility in zip(moment.holdings, spread(len(moment.holdings)), strict=True):
            known = msgspec.structs.replace(held, volatility_1h=volatility)
            advice = suggest_leverage(known, keep_above=0.05)
            mmf = float(maintenance(held))
            away = max(3 * volatility * sqrt(24), 0.05)
            assert advice.most == pytest.approx(PPM / imf(held))
            borne = 1 / (mmf + away * (1 + mmf))
            assert advice.leverage == pytest.approx(min(borne, PPM / imf(held)))


def spread(count: int) -> Iterable[float]:
    """Return so many volatilities of an hour, calm to wild."""
    return [0.002 * isqrt(1 + 9 * index) for index in range(count)]


def test_the_sessions_held_enough() -> None:
    """So nothing above passes because nothing was held."""
    held: Sequence[Moment] = [m for row in ACCOUNTS for m in moments(*row.values)]
    assert len(held) > 80
    assert {held.quantums > 0 for one in held for held in one.holdings} == {True, False}
