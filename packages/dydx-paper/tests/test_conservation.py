"""No quantum of USDC is made or lost, whoever trades, pays, is liquidated or moves money.

The clearing below keeps everyone's purse by itself, in plain integers of its own reckoning, and
is compared with the ledgers after each deed: a sum of the ledgers alone would prove nothing.
"""

from collections import Counter
from typing import Any

import dydx_risk as risk
import msgspec
import pytest
from dydx_conn import STANDARD_FEE_TIERS, Fees, PerpetualMarket, Subaccount, market_parameters
from dydx_paper import (
    Charge,
    InsuranceFunds,
    Ledger,
    Refused,
    Stamp,
    TransferRecord,
    admits,
    bankruptcy,
    charge,
    collateral_pool,
    parent_of,
    transfer,
    update_result,
    withdrawals_blocked,
)
from exchange import settle_funding
from hypothesis import event, given, settings
from hypothesis import strategies as st

BTC = market_parameters("BTC-USD", step_base_quantums=1)
ETH = msgspec.structs.replace(
    BTC, ticker="ETH-USD", clob_pair_id=1, perpetual_id=1, atomic_resolution=-9
)
ALONE = msgspec.structs.replace(BTC, ticker="ALONE-USD", perpetual_id=2, market_type="ISOLATED")
MARKETS = (BTC, ETH, ALONE)
FUND = 50 * 1_000_000
USDC = 1_000_000
PARENT, CHILD = Subaccount("p", 0), Subaccount("p", 128)


def at(price: int) -> int:
    """Return a price of bitcoin in subticks."""
    return price * 100_000


# --- everyone


class Pot:
    """All parties: four traders, two of them parent and child, and where else money can be."""

    def __init__(self) -> None:
        names = (PARENT, CHILD, Subaccount("q", 0), Subaccount("r", 0))
        self.ledgers = [Ledger(name) for name in names]
        # Purses of traders by number, and of everybody else by name.
        self.purses: Counter[int | str] = Counter()
        self.funds = InsuranceFunds(FUND)
        self.pay("outside", "insurance", FUND)
        self.indices: Counter[str] = Counter()
        self.happened: set[str] = set()
        for ledger in self.ledgers:
            for market in MARKETS:
                ledger.value(market.ticker, 100, 0)

    def pay(self, giver: int | str, taker: int | str, quote: int) -> None:
        self.purses[giver] -= quote
        self.purses[taker] += quote

    def check(self) -> None:
        """Hold purses against ledgers, and everybody against nothing."""
        purses = self.purses
        assert 0 == sum(purses.values())
        for n, ledger in enumerate(self.ledgers):
            assert purses[n] == ledger.collateral
            sums = (
                ledger.paid.for_fills,
                ledger.paid.fees,
                ledger.paid.funding,
                ledger.paid.insurance,
            )
            assert ledger.deposits - sum(sums) == ledger.collateral
        assert purses["fees"] + purses["builder"] == sum(it.paid.fees for it in self.ledgers)
        assert purses["builder"] == sum(it.paid.builder for it in self.ledgers)
        shared, alone = purses["insurance"], purses["insurance, isolated"]
        assert shared + alone == FUND + sum(it.paid.insurance for it in self.ledgers)
        balances = self.funds.balances
        assert (shared, alone) == (balances["insurance-fund"], balances.get("insurance-fund:2", 0))
        assert min(shared, alone) >= 0
        assert -purses["outside"] == FUND + sum(it.deposits for it in self.ledgers)
        assert 0 == sum(it.paid.for_fills for it in self.ledgers)
        for market in MARKETS:
            assert 0 == sum(it.position(market.ticker) for it in self.ledgers)
        # Longs are shorts, and each account's settlement is floored: the pool keeps the rest.
        assert 0 <= purses["funding"] == sum(it.paid.funding for it in self.ledgers)

    # --- deeds

    def deposit(self, who: int, quote: int) -> None:
        self.ledgers[who].deposit(quote)
        self.pay("outside", who, quote)

    def withdraw(self, who: int, quote: int) -> None:
        if isinstance(self.ledgers[who].withdraw(quote), TransferRecord):
            self.pay(who, "outside", quote)

    def move(self, giver: int, taker: int, quote: int) -> None:
        if isinstance(transfer(self.ledgers[giver], self.ledgers[taker], quote), TransferRecord):
            self.pay(giver, taker, quote)

    def trade(
        self, maker: int, taker: int, market: PerpetualMarket, steps: int, price: int,
        tier: int, builder_ppm: int,
    ) -> None:  # fmt: skip
        if maker == taker:
            return
        # Prime, so that quotes and funding have something to round.
        size, fees = steps * 9_999_991, STANDARD_FEE_TIERS[tier]
        quote = market.quote_quantums(abs(size), at(price))
        sides = ((taker, size, "TAKER", builder_ppm), (maker, -size, "MAKER", 0))
        for who, signed, liquidity, ppm in sides:
            cost = charge(quote, liquidity, fees, builder_fee_ppm=ppm)
            self.ledgers[who].fill(
                market, signed, at(price), cost.total, liquidity=liquidity,
                builder_fee=cost.builder_fee,
            )  # fmt: skip
            self.pay(who, "fees", cost.fee)
            self.pay(who, "builder", cost.builder_fee)
        buyer, seller = (taker, maker) if size > 0 else (maker, taker)
        self.pay(buyer, seller, quote)

    def revalue(self, market: PerpetualMarket, price: int) -> None:
        for ledger in self.ledgers:
            ledger.value(market.ticker, price, 0)

    def fund(self, market: PerpetualMarket, delta: int) -> None:
        before = dict(self.indices)
        self.indices[market.ticker] += delta
        for who, ledger in enumerate(self.ledgers):
            ppm = sum(
                -(self.indices[t] - before.get(t, 0)) * ledger.position(t) for t in self.indices
            )
            settle_funding(ledger, self.indices)
            self.pay("funding", who, ppm // 1_000_000)

    def _breached(self, who: int) -> tuple[Ledger, PerpetualMarket, int] | None:
        ledger = self.ledgers[who]
        if not ledger.breached:
            return None
        holding = next(iter(ledger.holdings.values()))
        return ledger, holding.market, holding.quantums

    def liquidate(self, who: int, maker: int, price: int) -> None:
        """Close a tenth or more at a maker's price; the insurance fund gains, or pays if it can."""
        found = self._breached(who)
        if found is None or who == maker:
            return
        ledger, market, held = found
        terms = risk.LiquidationTerms()
        oracle, exponent, _ = ledger.worth.oracles[market.ticker]
        size = risk.liquidation_size(market, held, oracle, exponent, terms)
        quote = market.quote_quantums(abs(size), at(price))
        received = quote if size < 0 else -quote
        broke_at = bankruptcy(ledger, market, size)
        delta = risk.insurance_fund_delta(broke_at, received, terms.max_liquidation_fee_ppm)
        if not self.funds.covers(market, delta):
            self.happened.add("refused by the fund")
            return
        self.happened.add("paid for by the fund" if delta < 0 else "liquidated")
        self.funds.take(market, delta)
        rebate = charge(quote, "MAKER", Fees(maker_ppm=-110), liquidation=True).total
        ledger.fill(market, size, at(price), insurance=delta, type="LIQUIDATED")
        self.ledgers[maker].fill(market, -size, at(price), rebate, liquidity="MAKER")
        self.pay(maker, who, received)
        self.pay(who, "insurance, isolated" if market is ALONE else "insurance", delta)
        self.pay(maker, "fees", rebate)

    def deleverage(self, who: int) -> None:
        """Close against everyone on the other side, at the bankruptcy price, free of fees."""
        found = self._breached(who)
        if found is None or self.ledgers[who].margin.net_collateral >= 0:
            return
        ledger, market, held = found
        for other, counterparty in enumerate(self.ledgers):
            theirs = counterparty.position(market.ticker)
            left = ledger.position(market.ticker)
            if not left or not theirs or (theirs > 0) == (held > 0) or not ledger.breached:
                continue
            self.happened.add("deleveraged")
            size = min(abs(left), abs(theirs)) * (-1 if held > 0 else 1)
            received = bankruptcy(ledger, market, size)
            quote = received if size < 0 else -received
            ledger.fill(market, size, 0, quote=quote, type="DELEVERAGED")
            counterparty.fill(market, -size, 0, quote=quote, type="OFFSETTING")
            self.pay(other, who, received)


people = st.integers(0, 3)
prices = st.integers(1, 400)
markets = st.sampled_from(MARKETS)
amounts = st.integers(1, 500 * USDC)
deeds = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), people, amounts),
        st.tuples(st.just("withdraw"), people, amounts),
        st.tuples(st.just("move"), people, people, amounts),
        st.tuples(
            st.just("trade"), people, people, markets, st.integers(-999, 999).filter(bool),
            prices, st.integers(0, 8), st.integers(0, 10_000),
        ),
        st.tuples(
            st.just("trade"), people, people, markets, st.integers(1_000, 90_000),
            prices, st.integers(0, 8), st.just(0),
        ),
        st.tuples(st.just("revalue"), markets, prices),
        st.tuples(st.just("fund"), markets, st.integers(-10_000, 10_000)),
        st.tuples(st.just("liquidate"), people, people, prices),
        st.tuples(st.just("deleverage"), people),
    ),
    max_size=50,
)  # fmt: skip


@settings(max_examples=300)
@given(deeds)
def test_usdc_is_conserved_to_the_quantum_over_everybody(what: list[tuple[Any, ...]]) -> None:
    """Traders, fees, builder, insurance funds, funding pool and the world outside, at each step."""
    pot = Pot()
    for name, *args in what:
        getattr(pot, name)(*args)
        pot.check()
    for name in sorted(pot.happened):
        event(name)


@pytest.mark.parametrize(("rise", "deed"), [(109, "liquidate"), (300, "deleverage")])
def test_a_breach_is_settled_to_the_quantum(rise: int, deed: str) -> None:
    """By the fund while there is one to pay, by the other side where there is none."""
    pot = Pot()
    for who in range(4):
        pot.deposit(who, 100 * USDC)
    pot.trade(2, 3, BTC, -9_000, 100, 0, 0)  # nine coins of a hundred each, sold short
    pot.revalue(BTC, rise)
    assert pot.ledgers[3].breached

    getattr(pot, deed)(*((3, 2, rise) if deed == "liquidate" else (3,)))

    pot.check()
    assert abs(pot.ledgers[3].position("BTC-USD")) < 9_000 * 9_999_991


def test_a_fund_pays_until_it_cannot() -> None:
    """A loss within its balance is paid for, one beyond it moves nothing at all."""
    pot = Pot()
    for who in range(4):
        pot.deposit(who, 100 * USDC)
    pot.trade(2, 3, BTC, -9_000, 100, 0, 0)
    pot.revalue(BTC, 114)

    pot.liquidate(3, 2, 114)
    assert {"paid for by the fund"} == pot.happened
    pot.revalue(BTC, 300)
    held = pot.ledgers[3].position("BTC-USD")
    pot.liquidate(3, 2, 300)

    pot.check()
    assert "refused by the fund" in pot.happened
    assert held == pot.ledgers[3].position("BTC-USD") < 0


def test_who_is_worth_less_than_its_position_pays_to_be_rid_of_it() -> None:
    """A long deleveraged below a price of zero: the quote is negative, and still has two ends."""
    giver, taker = Ledger(PARENT, -5), Ledger(CHILD, 100)
    giver.fill(BTC, 10**10, at(1))
    taker.fill(BTC, -(10**10), at(1))
    before = giver.collateral

    giver.fill(BTC, -(10**10), 0, quote=-7)
    taker.fill(BTC, 10**10, 0, quote=-7)

    assert (-7, 95) == (giver.collateral - before, giver.collateral + taker.collateral)


def test_funding_is_floored_once_for_the_account() -> None:
    """Two halves owed make one quantum, not two; shown by position they are two."""
    ledger = Ledger(PARENT, 100)
    ledger.fill(BTC, 1, 1)
    ledger.fill(ETH, 1, 1)

    settle_funding(ledger, {"BTC-USD": 500_000, "ETH-USD": 500_000})

    assert (1, 99) == (ledger.paid.funding, ledger.collateral)
    assert [-1, -1] == [paid.credited for paid in ledger.history.payments().rows]


# --- fees


@pytest.mark.parametrize(
    ("quote", "liquidity", "fees", "builder", "expected"),
    [
        (1, "TAKER", Fees(), 0, Charge(1)),
        (1, "MAKER", Fees(maker_ppm=-110), 0, Charge(0)),
        (10_001, "MAKER", Fees(maker_ppm=-110), 0, Charge(-1)),
        (1_000_000, "TAKER", Fees(), 10_000, Charge(500, 10_000)),
        (1, "TAKER", Fees(), 1, Charge(1, 1)),
    ],
)
def test_each_part_of_a_charge_is_rounded_up(
    quote: int, liquidity: str, fees: Fees, builder: int, expected: Charge
) -> None:
    """The chain's, the builder's, and rebates too."""
    assert expected == charge(quote, liquidity, fees, builder_fee_ppm=builder)
    assert expected.fee + expected.builder_fee == expected.total


def test_a_liquidation_has_no_taker_fee_and_no_maker_rebate() -> None:
    """A maker's fee it does have."""
    assert Charge(0) == charge(10**6, "TAKER", Fees(), liquidation=True)
    assert Charge(0) == charge(10**6, "MAKER", Fees(maker_ppm=-110), liquidation=True)
    assert Charge(100) == charge(10**6, "MAKER", Fees(), liquidation=True)


def test_a_tier_is_earned_by_thirty_days_of_trading() -> None:
    """Two and a half million on two days reach the second tier until they are forgotten."""
    day = 86_400 * 10**9
    ledger = Ledger(PARENT, 10**13)
    assert "1" == ledger.volumes.tier(0).name
    for n in (0, 1):
        when = Stamp(time_ns=(1_000 + n) * day)
        ledger.fill(BTC, 25 * 10**10, at(50_000), when=when, liquidity=("MAKER", "TAKER")[n])

    assert "2" == ledger.volumes.tier(1_001 * day).name
    assert "2" == ledger.volumes.tier(1_030 * day).name
    assert "1" == ledger.volumes.tier(1_031 * day).name
    ledger.fill(BTC, 10**10, at(1), when=Stamp(time_ns=2_000 * day))
    assert [2_000] == list(ledger.volumes.days)


# --- withdrawals and isolated subaccounts


@pytest.mark.parametrize(
    ("height", "negative_at", "outage_at", "blocked"),
    [
        (100, None, None, False),
        (100, 100, None, True),
        (149, 100, None, True),
        (150, 100, None, False),
        (149, None, 100, True),
        (150, None, 100, False),
        (160, 100, 111, True),
        (1_000, 100, None, False),
    ],
)
def test_nothing_leaves_for_fifty_blocks_after_a_negative_account(
    height: int, negative_at: int | None, outage_at: int | None, blocked: bool
) -> None:
    """Or after an outage; the fiftieth block is free again."""
    assert blocked == withdrawals_blocked(height, negative_at, outage_at)


def test_a_withdrawal_leaves_the_initial_margin() -> None:
    """To the quantum, and its refusal names how much may go."""
    ledger = Ledger(PARENT, 1_000 * USDC)
    ledger.value("BTC-USD", 10_000, 0)
    ledger.fill(BTC, 10**10, at(10_000))

    refused = ledger.withdraw(500 * USDC + 1)

    expected = "at most 500000000 quote quantums"
    assert Refused("UNDERCOLLATERALIZED", expected, "500000001") == refused
    assert TransferRecord(quote_quantums=-500 * USDC) == ledger.withdraw(500 * USDC)
    assert 500 * USDC == ledger.deposits


@pytest.mark.parametrize("quote", [0, -1, 2**64])
def test_a_withdrawal_of_impossible_size_is_refused(quote: int) -> None:
    """One takes something out, and not more than there can be."""
    refused = Ledger(PARENT, 5).withdraw(quote)

    assert isinstance(refused, Refused)
    assert "OVERFLOW" == refused.reason


def test_nothing_is_withdrawn_while_the_margin_is_unknown_or_the_pool_blocked() -> None:
    """Unknown counts as danger."""
    ledger = Ledger(PARENT, 5 * USDC)
    blocked = ledger.withdraw(1, blocked=True)
    ledger.fill(BTC, 10**10, at(1))
    unknown = ledger.withdraw(1)

    assert isinstance(blocked, Refused)
    assert isinstance(unknown, Refused)
    assert ("BLOCKED", "UNKNOWN", "BTC-USD") == (blocked.reason, unknown.reason, unknown.got)
    assert "UNKNOWN: expected a price for every position, got BTC-USD" == str(unknown)


def test_money_moves_between_parent_and_isolated_child() -> None:
    """Both remember it, each from its own end."""
    parent, child = Ledger(PARENT, 100), Ledger(CHILD)

    sent = transfer(parent, child, 60, Stamp(height=7))

    assert (40, 60) == (parent.collateral, child.collateral)
    assert TransferRecord(quote_quantums=-60, other=CHILD, created=Stamp(height=7)) == sent
    (came,) = child.history.transfers().rows
    assert ("TRANSFER_IN", PARENT) == (came.status, came.other)
    assert PARENT == parent_of(CHILD) == parent_of(PARENT)


def test_a_transfer_refused_moves_nothing() -> None:
    """Too much, blocked, or to oneself."""
    parent, child = Ledger(PARENT, 100), Ledger(CHILD)

    refusals = [
        transfer(parent, child, 101),
        transfer(parent, child, 1, blocked=True),
        transfer(parent, parent, 1),
    ]

    assert ["UNDERCOLLATERALIZED", "BLOCKED", "SAME"] == [
        refused.reason for refused in refusals if isinstance(refused, Refused)
    ]
    assert (Ledger(PARENT, 100), Ledger(CHILD)) == (parent, child)


def test_an_isolated_market_stands_alone() -> None:
    """Beside it nothing may be opened, nor it beside anything; its pool has its name."""
    cross, isolated = Ledger(PARENT, 10**9), Ledger(CHILD, 10**9)
    for ledger, held in ((cross, BTC), (isolated, ALONE)):
        for market in (BTC, ETH, ALONE):
            ledger.value(market.ticker, 100, 0)
        ledger.fill(held, 10**9, at(100))

    assert (True, True, False) == tuple(admits(cross, it) for it in (BTC, ETH, ALONE))
    assert (False, False, True) == tuple(admits(isolated, it) for it in (BTC, ETH, ALONE))
    assert update_result(cross, ETH, 10**8, at(100), 0) == "Success"
    violates = "ViolatesIsolatedSubaccountConstraints"
    assert update_result(cross, ALONE, 10**8, at(100), 0) == violates
    assert update_result(isolated, ALONE, -(10**8), at(100), 0) == "Success"
    assert ("", "ALONE-USD") == (collateral_pool([BTC, ETH]), collateral_pool([ALONE]))
