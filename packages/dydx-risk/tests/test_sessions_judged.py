"""Accounts of real sessions, as they stood: what gate, plan, stress and sizing make of them."""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from math import inf
from typing import Any

import msgspec
import pytest
from dydx_conn import Accounts, AccountUpdate, Subaccount
from dydx_data import DataState, MarketView, Oracle, step, stopping
from dydx_risk import (
    PPM,
    Approved,
    Denied,
    Holding,
    MarginFigures,
    Policy,
    Proposal,
    Risk,
    account_view,
    is_liquidatable,
    plan,
    position_margin,
    risk_figures,
    size_position,
    stress_table,
    total_margin,
)
from sessions import REAL, Session


@dataclass(frozen=True)
class Whose:
    """An account of a session."""

    session: Session
    name: str

    def __str__(self) -> str:
        return f"{self.session}-{self.name.partition('/')[2]}"

    @property
    def truth(self) -> dict[str, Any]:
        """What the node and the database held of it."""
        truth: dict[str, Any] = self.session.truth["state"][self.name]
        return truth


# One account never had anything.
ACCOUNTS = [
    Whose(session, name)
    for session in REAL
    for name, account in sorted(session.truth["state"].items())
    if account["fills"]
]
# The isolated one has never had a book with both sides.
ENTERING = [whose for whose in ACCOUNTS if str(whose.session) != "13-isolated-and-parent"]
each_account = pytest.mark.parametrize("whose", ACCOUNTS, ids=str)
each_entering = pytest.mark.parametrize("whose", ENTERING, ids=str)


class Stand:
    """An account as risk has it after some frames of its session, judged by whoever looks."""

    def __init__(self, whose: Whose, frames: int) -> None:
        owner, _, number = whose.name.partition("/")
        self.subaccount = Subaccount(owner, int(number))
        self.state, self.updates = DataState(), list[AccountUpdate]()
        self.risk = Risk(Policy(), self.subaccount, guard=False)
        self.last_held = self.last_calm = 0
        accounts = Accounts([self.subaccount])
        for n, frame in enumerate(whose.session.frames[:frames], 1):
            for view in step(self.state, frame):
                self.risk.step(view)
            for update in accounts.step(frame):
                self.updates.append(update)
                self.risk.step(update)
            if self.is_clear and (whose not in ENTERING or self.open_to_entries):
                self.last_held = n if self.risk.valued.held else self.last_held
                self.last_calm = n if self.can_pay else self.last_calm
        # What is compared is of positions alone; orders at rest count as if they had filled.
        self.risk.account.orders.open.clear()

    @property
    def is_clear(self) -> bool:
        """Return whether all is known, and the gate lets everything pass."""
        return self.risk.margin.known and self.risk.standing.state == "ACTIVE"

    @property
    def can_pay(self) -> bool:
        """Return whether at least half of its equity, and 1 USDC, is free."""
        margin = self.risk.margin
        return 2 * margin.free_collateral > margin.net_collateral > 10**6

    @property
    def open_to_entries(self) -> list[str]:
        """Return the markets in which something may be opened."""
        views = self.state.views.values()
        return [v.ticker for v in views if v.book.known and not stopping(v, "entry", self.state.at)]

    @property
    def collateral(self) -> int:
        """Return the settled USDC, in quote quantums."""
        return self.risk.account.settled

    @property
    def held(self) -> dict[str, int]:
        """Return what is held, in signed quantums."""
        return {ticker: one.quantums for ticker, one in self.risk.valued.held.items()}

    def holding(self, ticker: str, quantums: int) -> Holding:
        """Return a market as this account would stand in it."""
        view = self.state.views[ticker]
        assert view.market is not None
        assert view.oracle is not None
        return Holding(
            market=view.market, quantums=quantums, price=view.oracle.digits,
            exponent=view.oracle.exponent, open_interest=view.open_interest,
        )  # fmt: skip

    @property
    def holdings(self) -> list[Holding]:
        """Return what is held, priced as the views have it."""
        return [self.holding(ticker, quantums) for ticker, quantums in self.held.items()]


@cache
def stands(whose: Whose) -> tuple[Stand, Stand]:
    """Return an account when it last held anything, if it did, and when it last could enter."""
    whole = Stand(whose, len(whose.session.frames))
    calm, held = whole.last_calm, whole.last_held or whole.last_calm
    first = Stand(whose, held)
    return first, first if calm == held else Stand(whose, calm)


def stand(whose: Whose) -> Stand:
    """Return an account at the last moment at which it held anything."""
    return stands(whose)[0]


def margin_of(collateral: int, holdings: Iterable[Holding], percent: int = 100) -> MarginFigures:
    """Compute a margin from nothing, all prices at some per cent of what they are."""
    terms = []
    for one in holdings:
        assert one.price is not None
        price = one.price * percent, one.exponent - 2
        terms.append(position_margin(one.market, one.quantums, *price, one.open_interest))
    return total_margin(collateral, terms)


# === Gate ===

FREE = {"max_leverage": 50, "max_order_usdc": 1e9, "act_below": 1e-6, "restore_to": 2e-6,
        "keep_above": 2e-6, "max_oracle_bps": 9_999}  # fmt: skip


class Entry:
    """A decision to add to an account as it stands, judged again and again."""

    def __init__(self, whose: Whose, make_decision: Any, times_equity: float = 2.0) -> None:
        self.stand, self.make = stands(whose)[1], make_decision
        risk = self.stand.risk
        self.ticker = self.stand.open_to_entries[0]
        self.held = risk.valued.size(self.ticker)
        self.sign = -1 if self.held < 0 else 1
        self.equity = risk.margin.net_collateral / 1e6
        view = self.stand.state.views[self.ticker]
        assert view.market is not None
        assert view.oracle is not None
        self.view, self.market, self.oracle = view, view.market, view.oracle
        self.usdc = self.value(self.held) + self.sign * times_equity * self.equity

    def value(self, quantums: int) -> float:
        """Return what so much is worth at the oracle price, in USDC."""
        return float(self.market.size(quantums) * Decimal(self.oracle.text))

    def judge(self, usdc: float | None = None, **limits: Any) -> Approved | Denied:
        """Put it to the gate under a policy; nothing stays of it.

        What rests of the session's own orders is not in what is computed by hand here.
        """
        risk = self.stand.risk
        resting, risk.account.orders.open = risk.account.orders.open, {}
        risk.policy = Policy(**FREE | limits)
        target = self.usdc if usdc is None else usdc
        state = self.stand.state
        [verdict] = risk.step(self.make(self.ticker, target, state.seq, state.at))
        risk.account.orders.reserved.clear()
        risk.policy, risk.account.orders.open = Policy(), resting
        assert isinstance(verdict, Approved | Denied)
        return verdict


def leverage(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Return gross notional over equity, once filled."""
    return after.notional / after.net_collateral


def distance(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Return the adverse move of all prices that breaches maintenance, once filled."""
    return (after.net_collateral - after.maintenance_margin) / after.sensitivity


def notional(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Return what all markets come to in USDC, once filled."""
    held = entry.stand.held.items()
    others = [(one, size) for one, size in held if one != entry.ticker]
    worth = [entry.stand.holding(one, size).margin().net_notional for one, size in others]
    return sum(map(abs, worth)) / 1e6 + in_market(entry, after, delta)


def in_market(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Return what its own market comes to in USDC, once filled."""
    return abs(entry.value(entry.held + delta))


def market_leverage(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Return what its own market comes to in equities, once filled."""
    return in_market(entry, after, delta) / (after.net_collateral / 1e6)


def slippage(entry: Entry, after: MarginFigures, delta: int) -> float:
    """Walk the book by hand; what it does not show trades at the worst price."""
    levels = entry.view.book.asks() if delta > 0 else entry.view.book.bids()
    left, paid = entry.market.size(abs(delta)), Decimal(0)
    worst = entry.market.price(WORST[0])
    for level in levels:
        price = Decimal(level.price_text)
        if price > worst if delta > 0 else price < worst:
            break
        taken = min(left, Decimal(level.size_text))
        left, paid = left - taken, paid + taken * price
    paid += left * worst
    mid = entry.view.book.mid_price
    assert mid is not None
    return abs(float(paid / entry.market.size(abs(delta))) / mid - 1) * 10_000


WORST = [0]  # subticks of the order at hand

_Figure = Callable[[Entry, MarginFigures, int], float]
LIMITS: dict[str, tuple[str, _Figure, Callable[[Entry, float], Any]]] = {
    "max_leverage": ("LEVERAGE", leverage, lambda _, most: most),
    "keep_above": ("DISTANCE", distance, lambda _, most: most),
    "max_slippage_bps": ("SLIPPAGE", slippage, lambda _, most: most),
}
# What an order is cut to.
CUTS: dict[str, tuple[str, _Figure, Callable[[Entry, float], Any]]] = {
    "max_account_usdc": ("NOTIONAL", notional, lambda _, most: most),
    "max_account_share": ("NOTIONAL", leverage, lambda _, most: most),
    "max_market_usdc": ("MARKET_NOTIONAL", in_market, lambda _, most: most),
    "max_market_share": ("MARKET_NOTIONAL", market_leverage, lambda _, most: most),
    "market_usdc": ("MARKET_NOTIONAL", in_market, lambda entry, most: {entry.ticker: most}),
}


@each_entering
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_denies_just_what_is_beyond_it(
    make_decision: Any, whose: Whose, limit: str
) -> None:
    """A thousandth on its side of the figure, as computed by hand, passes; on the other does not."""
    entry, (reason, figure, setting) = Entry(whose, make_decision), LIMITS[limit]
    free = entry.judge()
    assert isinstance(free, Approved), free.why
    WORST[0] = free.order.subticks
    reached = figure(entry, free.after, free.order.signed_quantums)

    more, less = (0.999, 1.001) if limit == "keep_above" else (1.001, 0.999)
    passed = entry.judge(**{limit: setting(entry, reached * more)})
    denied = entry.judge(**{limit: setting(entry, reached * less)})

    assert isinstance(passed, Approved), passed.why
    assert isinstance(denied, Denied)
    assert denied.reason == reason


@each_entering
@pytest.mark.parametrize("limit", CUTS)
def test_an_order_is_cut_to_a_limit_of_notional(
    make_decision: Any, whose: Whose, limit: str
) -> None:
    """As much as the limit leaves, computed by hand, and a step more would be beyond it."""
    entry, (reason, figure, setting) = Entry(whose, make_decision), CUTS[limit]
    free = entry.judge()
    assert isinstance(free, Approved), free.why
    whole = free.order.signed_quantums
    reached = figure(entry, free.after, whole)
    before = figure(entry, entry.stand.risk.margin, 0)
    half = (reached + before) / 2

    passed = entry.judge(**{limit: setting(entry, reached * 1.001)})
    cut = entry.judge(**{limit: setting(entry, half)})
    denied = entry.judge(**{limit: setting(entry, max(before * 0.999, 1e-9))})

    assert isinstance(passed, Approved), passed.why
    assert passed.order.signed_quantums == whole
    assert isinstance(cut, Approved), cut.why
    assert ", cut to " in cut.why
    size = cut.order.signed_quantums
    per_step = (reached - before) * entry.market.step_base_quantums / abs(whole)
    assert half - 2 * per_step - 1e-4 * half < figure(entry, cut.after, size) <= half
    assert isinstance(denied, Denied)
    assert denied.reason == reason


@each_entering
def test_a_limit_lets_out_whatever_is_held(make_decision: Any, whose: Whose) -> None:
    """The narrowest of all of them blocks no exit: all of it, and no more."""
    narrow = {
        "max_leverage": 1e-6, "max_account_usdc": 1e-6, "max_market_usdc": 1e-6,
        "max_account_share": 1e-6, "max_market_share": 1e-6, "warm_up_s": 3_000,
        "max_positions": 1, "max_orders_per_minute": 1, "max_slippage_bps": 1e-6,
        "bear_move": 0.99, "max_volatility_1h": 1e-9, "keep_above": 0.99,
    }  # fmt: skip
    entry = Entry(whose, make_decision)
    for ticker, quantums in entry.stand.held.items():
        entry.ticker = ticker
        for _ in range(2):  # the second of a minute too
            verdict = entry.judge(0, **narrow)
            if stopping(entry.stand.state.views[ticker], "exit"):
                continue
            assert isinstance(verdict, Approved) or verdict.reason == "OFF_ORACLE", verdict.why
            if isinstance(verdict, Approved):
                assert verdict.order.reduce_only
                assert verdict.order.signed_quantums == -quantums


@each_entering
def test_the_largest_entry_is_the_last_that_pays_its_initial_margin(
    make_decision: Any, whose: Whose
) -> None:
    """A step more is denied for it, whatever the policy allows."""
    entry = Entry(whose, make_decision)
    per_step = entry.value(entry.market.step_base_quantums)
    start = entry.value(entry.held)
    least, most = 1, int(60 * entry.equity / per_step) + 2

    def put(steps: int) -> Approved | Denied:
        return entry.judge(start + entry.sign * (steps + 0.5) * per_step)

    while most - least > 1:
        middle = (least + most) // 2
        if isinstance(put(middle), Approved):
            least = middle
        else:
            most = middle
    last, first = put(least), put(most)

    assert isinstance(last, Approved)
    assert last.after.net_collateral >= last.after.initial_margin
    assert isinstance(first, Denied)
    assert first.reason in ("MARGIN", "LEVERAGE")
    order = last.order
    held, paid = entry.held + order.signed_quantums, entry.market.quote_quantums(
        order.quantums, order.subticks
    )  # fmt: skip
    fee = -(-paid * 500 // PPM)
    others = [one for one in entry.stand.holdings if one.ticker != entry.ticker]
    mine = entry.stand.holding(entry.ticker, held)
    cash = entry.stand.collateral - entry.sign * paid - fee
    by_hand = margin_of(cash, [*others, mine])
    assert last.after.net_collateral == by_hand.net_collateral
    # The match itself may raise the open interest, and with it what is required.
    assert last.after.initial_margin >= by_hand.initial_margin


@each_entering
def test_a_second_order_in_a_minute_is_denied_where_one_is_allowed(
    make_decision: Any, whose: Whose
) -> None:
    """By event time: nothing else of it stays."""
    entry = Entry(whose, make_decision)
    risk = entry.stand.risk
    sent = risk._outbox.lately(risk._elapsed.now)  # of the tests before, all at this moment

    verdicts = [entry.judge(max_orders_per_minute=sent + allowed) for allowed in (1, 1, 3)]

    assert [isinstance(one, Approved) for one in verdicts] == [True, False, True]
    assert isinstance(verdicts[1], Denied)
    assert verdicts[1].reason == "ORDER_RATE"


# === Plan ===


def moved(view: MarketView, percent: int) -> MarketView:
    """Return a market with its oracle price at some per cent of what it is."""
    there, oracle = copy(view), view.oracle
    assert oracle is not None
    price = Decimal(oracle.text) * percent / 100
    digits, exponent = oracle.digits * percent, oracle.exponent - 2
    there.oracle = Oracle(float(price), digits, exponent, oracle.at, oracle.seq, str(price))
    return there


def cash_at(account: Stand, distance: float, percent: int = 100) -> int:
    """Return the USDC that would leave an account at a distance to its liquidation."""
    margin = margin_of(account.collateral, account.holdings, percent)
    return account.collateral - margin.cushion + int(distance * margin.sensitivity)


@each_account
@pytest.mark.parametrize("distance", [0.5, 0.05, 0.03, 0.01])
def test_a_plan_sells_no_more_than_is_held_and_reaches_what_it_says(
    whose: Whose, distance: float
) -> None:
    """With cash for so much distance, on the real book: each rung's is the account's after it."""
    account = stand(whose)
    for percent in (90, 100, 110):
        views = {ticker: moved(account.state.views[ticker], percent) for ticker in account.held}
        cash = cash_at(account, distance, percent)
        margin = margin_of(cash, account.holdings, percent)
        drawn = plan(margin, account.held, views)
        left, net, is_cheap = dict(account.held), margin.net_collateral, False
        for rung in drawn.rungs:
            assert rung.held == left[rung.ticker]
            assert rung.delta * rung.held < 0
            assert 0 < rung.quantums <= abs(rung.held)
            assert rung.quantums % rung.market.step_base_quantums == 0
            left[rung.ticker] += rung.delta
            cash += (rung.quote if rung.delta < 0 else -rung.quote) - rung.fee
            rest = [account.holding(ticker, size) for ticker, size in left.items() if size]
            after = margin_of(cash, rest, percent)
            # A price better than the oracle's is not counted on.
            is_cheap |= net - after.net_collateral < 0
            net = after.net_collateral
            if drawn.drawn_at == drawn.distance_now:
                away = inf if after.distance is None else after.distance
                assert away >= rung.restores - 1e-4
                assert is_cheap or away <= rung.restores + 1e-4
        if distance < drawn.policy.act_below and account.held:
            assert drawn.left or (drawn.rungs and drawn.is_enough)


@each_account
def test_a_plan_does_not_depend_on_the_order_of_markets(whose: Whose) -> None:
    """Nor do the figures, nor a risk that meets the views the other way round."""
    account = stand(whose)
    risk, views, held = account.risk, account.state.views, account.held
    backward = dict(reversed(held.items()))
    other = Risk(Policy(), account.subaccount, guard=False)
    for update in account.updates:
        other.step(update)
    for view in reversed(views.values()):
        other.step(view)

    assert plan(risk.margin, held, views) == plan(risk.margin, backward, views)
    assert other.margin == risk.margin
    here, there = (
        risk_figures(account.collateral, holdings)
        for holdings in (account.holdings, account.holdings[::-1])
    )
    assert here.margin == there.margin == risk.margin
    assert sorted(here.positions, key=str) == sorted(there.positions, key=str)


@each_account
def test_at_its_liquidation_price_a_position_is_liquidated_and_not_before(whose: Whose) -> None:
    """With cash for 20 %: a hundredth per cent on either side, by a margin from nothing."""
    account = stand(whose)
    cash = cash_at(account, 0.2)
    for row in risk_figures(cash, account.holdings).positions:
        assert row.liquidation_price is not None
        breached = []
        for far in ("0.9999", "1.0001"):
            digits = int((row.liquidation_price * Decimal(far)).scaleb(12))
            there = [
                msgspec.structs.replace(one, price=digits, exponent=-12)
                if one.ticker == row.ticker else one
                for one in account.holdings
            ]  # fmt: skip
            margin = margin_of(cash, there)
            breached.append(is_liquidatable(margin.net_collateral, margin.maintenance_margin))
        assert breached == ([True, False] if row.size > 0 else [False, True])


# === Stress ===


@each_account
def test_each_cell_of_a_stress_table_is_the_margin_at_those_prices(whose: Whose) -> None:
    """Of one market alone and of all at once: computed again from nothing."""
    account = stand(whose)
    table = stress_table(account.collateral, account.holdings)
    for cell in table.cells():
        if cell.scenario in ("market", "together", "now"):
            percents = {
                one.ticker: 100 + cell.move_percent
                if cell.ticker in ("", one.ticker) else 100
                for one in account.holdings
            }  # fmt: skip
            value = account.collateral
            initial = maintenance = 0
            for one in account.holdings:
                alone = margin_of(0, [one], percents[one.ticker])
                value += alone.net_collateral
                initial += alone.initial_margin
                maintenance += alone.maintenance_margin
            made = cell.equity, cell.initial_margin, cell.maintenance_margin
            assert made == (value, initial, maintenance)
            assert cell.liquidatable == (value < maintenance)


@each_account
def test_a_table_after_a_change_is_the_table_of_what_changed(whose: Whose) -> None:
    """A price at a time comes to the same as all of it at once."""
    account = stand(whose)
    table = stress_table(account.collateral, account.holdings)
    there = [
        msgspec.structs.replace(one, price=(one.price or 0) * 103, exponent=one.exponent - 2)
        for one in account.holdings
    ]
    for one in there:
        table = table.changed(one)

    assert {*table.cells()} == {*stress_table(account.collateral, there).cells()}


# === Sizing ===


@each_account
@pytest.mark.parametrize("adverse", [0.0, 0.05, 0.3])
def test_a_size_is_the_largest_that_bears_the_move(whose: Whose, adverse: float) -> None:
    """It holds its margins before and after all markets moved against it; a step more does not."""
    account = stand(whose)
    ticker = next(iter(account.held), next(iter(whose.session.truth["markets"])))
    held, equity = account.held.get(ticker, 0), account.risk.margin.net_collateral
    market = account.holding(ticker, held)
    others = [one for one in account.holdings if one.ticker != ticker]
    against = round(adverse * 100)

    def bears(quantums: int) -> bool:
        price, grid = market.price or 0, market.market
        traded = abs(quantums - held)
        grown = None if market.open_interest is None else market.open_interest + traded
        mine = msgspec.structs.replace(market, quantums=quantums, open_interest=grown)
        now, then = position_margin(grid, held, price, market.exponent), mine.margin()
        cash = account.collateral + now.net_notional - then.net_notional
        calm = margin_of(cash, [*others, mine])
        net, required = cash, 0
        for one in [*others, mine]:
            way = 100 - against if one.quantums > 0 else 100 + against
            shaken = margin_of(0, [one], way)
            net += shaken.net_collateral
            required += shaken.maintenance_margin
        return calm.free_collateral >= 0 and net >= required

    for fraction in (-60.0, 60.0):
        proposal = Proposal(int(equity * fraction), "so many equities")
        sizing = size_position(
            proposal, market, account.collateral, others, adverse=adverse, keep_above=0
        )
        step = market.market.step_base_quantums * (1 if fraction > 0 else -1)
        assert sizing.limited_by == "margin" or equity <= 0
        if sizing.quantums:
            assert bears(sizing.quantums)
        if sizing.limited_by == "margin":
            assert not bears(sizing.quantums + step)


# === Front ends ===


@each_account
def test_the_views_are_what_the_chain_and_the_indexer_say(whose: Whose) -> None:
    """At the block that the truth is of: the node's margins, and REST's equity without rounding."""
    account, truth, markets = stand(whose), whose.truth, whose.session.truth["markets"]
    holdings = [
        msgspec.structs.replace(
            account.holding(row["ticker"], row["quantums"]),
            price=markets[row["ticker"]]["oracle_price"],
            exponent=markets[row["ticker"]]["oracle_exponent"],
            open_interest=markets[row["ticker"]]["open_interest_quantums"],
        )
        for row in truth["positions"]
    ]
    collateral = truth["usdc_quantums"] + truth["unsettled_funding"]

    chain = account_view("chain", collateral, holdings)
    names = "net_collateral", "initial_margin", "maintenance_margin"
    made = chain.equity, chain.initial_margin, chain.maintenance_margin
    assert [figure * 10**6 for figure in made] == [truth[name] for name in names]
    rest = truth["comlink"]["subaccount"]["subaccount"]
    shown = account_view("indexer", collateral, holdings)
    assert shown.equity == Fraction(rest["equity"])
    assert shown.free_collateral == Fraction(rest["freeCollateral"])
