"""What risk's gate lets through, traded on paper after the world has moved on.

The gate judges a decision at its worst price now; the venue fills it at a later book and a later
oracle price. Here both run as in the bot, and whatever happens in between, no fill leaves the
account worse than the chain allows: computed by hand, with the open interest that the fill makes.
"""

import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from dydx_conn import Accounts, Frame
from dydx_data import step
from dydx_paper import Event, Filled, OrderRecord, PaperVenue, rebuild
from dydx_risk import (
    Denied,
    GateChange,
    Holding,
    Judgement,
    MarginFigures,
    Policy,
    Risk,
    Withdraw,
    total_margin,
)
from dydx_strategy import Decision
from exchange import BTC, ETH, OWNER, USDC, Exchange
from hypothesis import event, given, settings
from hypothesis import strategies as st

DEPOSIT = 10_000 * USDC
ALONE = {
    **ETH, "ticker": "ALONE-USD", "clobPairId": "2", "oraclePrice": "2000",
    "marketType": "ISOLATED", "initialMarginFraction": "0.1", "maintenanceMarginFraction": "0.05",
}  # fmt: skip
# So small that an order of ours moves the fraction that it is judged by.
CAPS = {"openInterestLowerCap": "490000", "openInterestUpperCap": "5000000"}
PRICES = {"BTC-USD": 50_000, "ETH-USD": 2_000, "ALONE-USD": 2_000}
# As bold as a policy can be, so that what the chain asks is what decides.
BOLD = Policy(
    act_below=0.001, restore_to=0.002, keep_above=0.002, max_leverage=50, max_order_usdc=10**6,
    slippage_bps=50, guard_slippage_bps=1_000, stale_seconds=10**6, good_til_blocks=20,
    max_oracle_bps=9_000,
)  # fmt: skip


class House(Exchange):
    """Markets, a gate and a venue, wired as the bot wires them; every fill is looked at."""

    def __init__(self, *, guard: bool = False) -> None:
        self.journal: list[Event] = []
        super().__init__(
            PaperVenue(OWNER, DEPOSIT, insurance_fund=1_000 * USDC, journal=self.record)
        )
        self.accounts, self.risk = Accounts(), Risk(BOLD, OWNER, guard=guard)
        self.before = MarginFigures(DEPOSIT)
        self.happened: Counter[str] = Counter()
        self.open()
        self.see(self.wire.markets(BTC, ETH | CAPS, ALONE | CAPS))
        for ticker in PRICES:
            self.crowd_in(ticker, 1_000)
            self.spread(ticker, 0, 4, 50)

    # --- deeds

    def decide(self, ticker: str, target_usdc: int) -> None:
        self.judge(self.risk.step(Decision(
            ticker=ticker, seq=self.seq, at=self.at, action="target", target_usdc=target_usdc,
            previous_usdc=0, urgency=1, score=0, reasons=(), scores=(),
        )))  # fmt: skip

    def spread(self, ticker: str, bps: int, width_bps: int, usdc_thousands: int) -> None:
        """Replace a book: its middle and width in bps of the first price, its depth a level."""
        middle, digits = PRICES[ticker] * (10_000 + bps) / 10_000, 0 if ticker == "BTC-USD" else 1
        away, size = PRICES[ticker] * width_bps / 20_000, usdc_thousands * 1_000 / PRICES[ticker]
        levels = [round(size, 2), round(size * 10, 2)]
        bids, asks = (
            [(round(middle + sign * away * n, digits), size) for n, size in enumerate(levels, 1)]
            for sign in (-1, 1)
        )
        self.book(bids, asks, ticker)

    def move(self, ticker: str, bps: int) -> None:
        self.oracle(round(PRICES[ticker] * (10_000 + bps) / 10_000, 2), ticker)

    def crowd_in(self, ticker: str, thousandths: int) -> None:
        """Let others open contracts: between the caps every one of them costs initial margin."""
        each = 500_000 / PRICES[ticker]
        self.update(ticker, openInterest=str(round(each * thousandths / 1_000, 3)))

    def chase(self, ticker: str, target_usdc: int, oracle_bps: int, book_bps: int) -> None:
        """Decide, and let prices move before the order meets a book."""
        self.decide(ticker, target_usdc)
        self.move(ticker, oracle_bps)
        self.spread(ticker, book_bps, 4, 100)

    def pass_time(self, seconds: int) -> None:
        self.block(second=self.second + seconds)

    def end(self, ticker: str) -> None:
        """Settle a market finally: it is over for good."""
        self.update(ticker, status="FINAL_SETTLEMENT")

    # --- wiring

    def see(self, frame: Frame) -> list[Frame]:
        made: list[Frame] = []
        for view in step(self.state, frame):
            made += self.venue.step(view)
            self.judge(self.risk.step(view))
        self.account(made)
        return self.keep(made)

    def account(self, frames: list[Frame]) -> None:
        for frame in frames:
            for update in self.accounts.step(frame):
                self.judge(self.risk.step(update))

    def judge(self, verdicts: list[Judgement]) -> None:
        for verdict in verdicts:
            if isinstance(verdict, Denied):
                self.happened[f"denied: {verdict.reason}"] += 1
                continue
            if isinstance(verdict, GateChange):
                continue
            self.happened["approved"] += 1
            sent = verdict.cancel if isinstance(verdict, Withdraw) else verdict.order
            self.account(self.keep(self.venue.step(sent)))

    def record(self, change: Event) -> None:
        """Take in a change once it has happened, and hold a fill to the chain's rule."""
        self.journal.append(change)
        if len(self.journal) == 1:  # the ledger has opened, and is not ours yet
            return
        if isinstance(change, Filled):
            self.happened[f"filled: {change.type}"] += 1
            if change.type == "LIMIT":
                self.allowed(self.before, self.figures(change))
        elif isinstance(change, OrderRecord) and change.reason:
            self.happened[change.reason] += 1
        self.before = self.figures()

    def allowed(self, before: MarginFigures, after: MarginFigures) -> None:
        if after.net_collateral >= after.initial_margin:
            return
        self.happened["filled below the initial margin"] += 1
        old, new = before.maintenance_margin, after.maintenance_margin
        assert 0 < new <= old
        assert Fraction(after.net_collateral, new) >= Fraction(before.net_collateral, old)

    def figures(self, fill: Filled | None = None) -> MarginFigures:
        """Compute the account's margin from nothing, with the open interest that a fill made."""
        ledger, held = self.venue.ledger, []
        for ticker, holding in ledger.holdings.items():
            price, exponent, interest = ledger.worth.oracles[ticker]
            assert interest is not None
            if fill is not None and fill.market.ticker == ticker:
                now, was = holding.quantums, holding.quantums - fill.quantums
                interest += max(0, now) - max(0, was) + max(0, -fill.quantums)
            held.append(Holding(
                market=holding.market, quantums=holding.quantums, price=price,
                exponent=exponent, open_interest=interest,
            ))  # fmt: skip
        return total_margin(ledger.collateral, [holding.margin() for holding in held])


# In USDC: near what the deposit allows at twenty times, ten times, and less.
WANTED = [sign * n * 1_000 for sign in (-1, 1) for n in (0, 40, 60, 80, 95, 120, 150, 170, 185)]

tickers = st.sampled_from(sorted(PRICES))
deeds = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), tickers, st.sampled_from(WANTED)),
        st.tuples(
            st.just("chase"), tickers, st.sampled_from(WANTED), st.integers(-500, 500),
            st.integers(-60, 60),
        ),
        st.tuples(
            st.just("spread"), tickers, st.integers(-100, 100), st.integers(2, 50),
            st.integers(1, 200),
        ),
        st.tuples(st.just("move"), tickers, st.integers(-600, 600)),
        st.tuples(st.just("crowd_in"), tickers, st.integers(950, 1_100)),
        st.tuples(st.just("pass_time"), st.sampled_from([1, 1, 1, 1, 3_600])),
        st.tuples(st.just("end"), st.sampled_from(["ALONE-USD", "ETH-USD"])),
    ),
    min_size=4,
    max_size=30,
)  # fmt: skip


@settings(max_examples=100)
@given(deeds, st.booleans())
def test_what_the_gate_approves_never_breaks_the_initial_margin(
    what: list[tuple[Any, ...]], guard: bool
) -> None:
    """At its execution, or the fill did not make the account riskier: the chain's own rule."""
    house = House(guard=guard)

    for name, *args in what:
        getattr(house, name)(*args)

    assert "" == house.risk.account.trouble
    assert house.venue.ledger.collateral == house.risk.account.collateral
    assert house.venue.ledger == rebuild(house.journal)
    for name in sorted(house.happened):
        event(name)


@pytest.mark.no_cover  # long, and on the lines of the others
def test_long_runs_meet_every_side_of_the_rule() -> None:
    """Fills, denials, orders that the venue stops, fills of accounts already below the margin."""
    happened: Counter[str] = Counter()
    for seed in range(20):
        house, chance = House(guard=seed % 2 == 1), random.Random(seed)
        for _ in range(200):
            name, *args = drawn(chance)
            getattr(house, name)(*args)
        assert house.venue.ledger == rebuild(house.journal)
        held = set(house.venue.ledger.holdings)
        for ticker in PRICES:
            house.end(ticker)
            house.move(ticker, 0)
        assert not house.venue.ledger.holdings
        assert house.venue.ledger == rebuild(house.journal)
        assert house.venue.ledger.collateral == house.risk.account.collateral
        assert not held or house.happened["filled: DELEVERAGED"]
        happened += house.happened

    assert min(happened["approved"], happened["filled: LIMIT"], happened["denied: MARGIN"]) > 50
    assert happened["ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED"] > 5
    assert happened["filled below the initial margin"]
    assert happened["filled: LIQUIDATED"]


def drawn(chance: random.Random) -> tuple[Any, ...]:
    """Draw one deed, decisions above all."""
    ticker = chance.choices(sorted(PRICES), [1, 6, 5])[0]
    deeds: list[tuple[Any, ...]] = [
        ("decide", ticker, chance.choice(WANTED)),
        (
            "chase",
            ticker,
            chance.choice(WANTED),
            chance.randint(-500, 500),
            chance.randint(-60, 60),
        ),
        (
            "spread",
            ticker,
            chance.randint(-100, 100),
            chance.randint(2, 50),
            chance.randint(1, 200),
        ),
        ("move", ticker, chance.randint(-600, 600)),
        ("crowd_in", ticker, chance.randint(950, 1_100)),
        ("pass_time", 1),
    ]
    return chance.choices(deeds, [1, 4, 2, 2, 1, 3])[0]
