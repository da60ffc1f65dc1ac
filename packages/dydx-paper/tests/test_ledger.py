"""One subaccount's money: exact over any sequence of fills, funding and liquidations."""

from fractions import Fraction
from random import Random

import pytest
from dydx_conn import Fees, Subaccount, market_parameters
from dydx_paper import (
    Ledger,
    Match,
    Order,
    OrderBook,
    Parties,
    Refused,
    UpdateResult,
    update_result,
)
from exchange import settle_funding
from hypothesis import given
from hypothesis import strategies as st

ME = Subaccount("me")
BTC = market_parameters("BTC-USD")
COIN = 10**10  # quantums of one BTC
USDC = 1_000_000


def at(price: int) -> int:
    """Return a price in subticks."""
    return price * 100_000


def test_a_fill_moves_quote_and_fee_off_the_balance() -> None:
    """Bought for 25,000 USDC at 500 ppm."""
    ledger = Ledger(ME, 100_000 * USDC)

    ledger.fill(BTC, COIN // 2, at(50_000), Fees().of(25_000 * USDC, "TAKER"))

    assert 74_987_500_000 == ledger.collateral
    assert COIN // 2 == ledger.position("BTC-USD")
    assert 0 == ledger.position("ETH-USD")


@pytest.mark.parametrize(
    ("fees", "liquidity", "fee"),
    [
        (Fees(), "TAKER", 1),
        (Fees(), "MAKER", 1),
        (Fees(maker_ppm=-110), "MAKER", 0),
        (Fees(maker_ppm=0), "MAKER", 0),
    ],
)
def test_a_fee_is_rounded_up(fees: Fees, liquidity: str, fee: int) -> None:
    """Of one USDC quantum upward: a rebate loses its fraction, a fee gains one."""
    assert fee == fees.of(1, liquidity)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_reduction_leaves_the_entry_and_an_addition_averages_it(sign: int) -> None:
    """Bought at 50,000, half sold 2,000 above, one more bought at 53,000: the rest cost 52,000."""
    ledger = Ledger(ME, 100_000 * USDC)
    ledger.value("BTC-USD", 53_000, 0)

    ledger.fill(BTC, sign * COIN, at(50_000))
    ledger.fill(BTC, -sign * COIN // 2, at(52_000))
    ledger.fill(BTC, sign * COIN, at(53_000))

    assert (sign * 1_000 * USDC, sign * 1_500 * USDC) == (
        ledger.realized_pnl, ledger.unrealized_pnl,
    )  # fmt: skip
    ledger.fill(BTC, -sign * COIN // 2, at(51_000))
    assert (sign * 500 * USDC, sign * 1_000 * USDC) == (ledger.realized_pnl, ledger.unrealized_pnl)
    assert (0, 0) == (ledger.tally.won, ledger.tally.lost)  # it is one trade, and goes on


@pytest.mark.no_cover  # long, and on the lines of the others
def test_an_average_stays_exact_enough_however_long_it_is_held() -> None:
    """Never flat in ten thousand fills: the average's fraction stays short, the profit right."""
    ledger, chance = Ledger(ME, 10**15), Random(7)
    ledger.value("BTC-USD", 50_000, 0)
    ledger.fill(BTC, 10**9 * BTC.step_base_quantums, at(50_000))
    for _ in range(5_000):
        ledger.fill(BTC, chance.randint(1, 9**9) * BTC.step_base_quantums, at(50_001))
        ledger.fill(BTC, -chance.randint(1, 9**9) * BTC.step_base_quantums, at(50_000))

    held = ledger.holdings["BTC-USD"]
    assert held.cost.denominator <= 10**60
    assert 0 == ledger.realized_pnl + ledger.unrealized_pnl - (ledger.equity or 0) + ledger.deposits


def test_what_cannot_be_valued_affords_nothing_and_breaches_nothing() -> None:
    """Without an oracle price nobody knows the margin."""
    ledger = Ledger(ME, 100 * USDC)
    assert update_result(ledger, BTC, COIN, at(50_000), 0) != "Success"

    ledger.fill(BTC, COIN, at(50_000))

    assert ("BTC-USD",) == ledger.margin.unknown
    assert not ledger.breached
    ledger.value("BTC-USD", 49_000, 0)
    assert ledger.breached


def test_an_account_affords_what_leaves_it_initially_collateralised() -> None:
    """Twenty times its collateral at 5 %, less what the fee takes."""
    ledger = Ledger(ME, 2_500 * USDC)
    ledger.value("BTC-USD", 50_000, 0)

    assert update_result(ledger, BTC, COIN, at(50_000), 0) == "Success"
    assert update_result(ledger, BTC, COIN, at(50_000), 1) != "Success"
    assert update_result(ledger, BTC, -COIN, at(50_000), 0) == "Success"
    assert update_result(ledger, BTC, -2 * COIN, at(50_000), 0) != "Success"


def test_a_poor_account_may_still_reduce() -> None:
    """Under the initial margin only less risk is affordable."""
    ledger = Ledger(ME, 2_500 * USDC)
    ledger.value("BTC-USD", 50_000, 0)
    ledger.fill(BTC, COIN, at(50_000))
    ledger.value("BTC-USD", 49_000, 0)

    assert update_result(ledger, BTC, -COIN // 2, at(49_000), 0) == "Success"
    assert update_result(ledger, BTC, COIN // 2, at(49_000), 0) != "Success"


def test_funding_is_settled_when_the_account_is_touched_with_one_floor() -> None:
    """Three hours at 0.6 quantums: 1.8 owed are two, where each hour by itself would be three."""
    ledger = Ledger(ME, 100 * USDC)
    ledger.value("BTC-USD", 50_000, 0)
    ledger.fill(BTC, 600_000, at(1))
    for hour in (1, 2, 3):
        ledger.accrue({"BTC-USD": hour})
    assert (-2, 3) == (ledger.unsettled, ledger.history.payments().total)
    assert [-1, -1, -1] == [row.credited for row in ledger.history.payments().rows]
    held = ledger.collateral
    ledger.deposit(USDC)
    assert (held + USDC - 2, 0, 2) == (ledger.collateral, ledger.unsettled, ledger.paid.funding)
    assert -2 == ledger.holdings["BTC-USD"].net_funding


def test_what_is_not_settled_counts_in_every_margin() -> None:
    """What may be withdrawn, and what may be bought, is less by what is owed."""
    ledger = Ledger(ME, 2_500 * USDC)
    ledger.value("BTC-USD", 50_000, 0)
    ledger.fill(BTC, COIN // 2, at(50_000))
    free = ledger.margin.free_collateral
    ledger.accrue({"BTC-USD": 10**6 * 100 * USDC // COIN})

    assert ledger.unsettled < 0
    assert free + ledger.unsettled == ledger.margin.free_collateral
    assert isinstance(ledger.withdraw(free), Refused)
    assert update_result(ledger, BTC, COIN // 2, at(50_000), 0) != "Success"


def test_a_new_position_takes_the_current_funding_index() -> None:
    """What was owed before it is not its debt."""
    ledger = Ledger(ME, 1_000 * USDC)
    settle_funding(ledger, {"BTC-USD": 500})
    ledger.fill(BTC, COIN, at(50_000))

    assert [] == settle_funding(ledger, {"BTC-USD": 500})
    assert 1 == len(settle_funding(ledger, {"BTC-USD": 600}))
    assert (COIN * 100 // 1_000_000, -COIN * 100 // 1_000_000) == (
        ledger.paid.funding,
        ledger.holdings["BTC-USD"].net_funding,
    )


def test_a_deposit_adds_to_the_balance() -> None:
    """And a withdrawal takes from it."""
    ledger = Ledger(ME)
    ledger.deposit(5)
    ledger.deposit(-2)

    assert (3, 3) == (ledger.collateral, ledger.deposits)


fills = st.lists(
    st.tuples(
        st.integers(-50, 50).filter(bool).map(lambda n: n * BTC.step_base_quantums),
        st.integers(1, 90_000).map(at),
        st.integers(-5, 500),
    ),
    max_size=30,
)


@given(fills, st.integers(1, 90_000))
def test_profit_is_what_the_cash_shows(trades: list[tuple[int, int, int]], oracle: int) -> None:
    """Realised and unrealised profit, over any fills, are the change in what all is worth."""
    ledger = Ledger(ME, 10**12)
    ledger.value("BTC-USD", oracle, 0)
    quote = Fraction(0)
    for quantums, subticks, fee in trades:
        ledger.fill(BTC, quantums, subticks, fee)
        quote -= Fraction(quantums * subticks, 10**9)

    worth = quote + Fraction(ledger.position("BTC-USD") * oracle, 10**4)
    # Each closed or open position rounds once, each valuation once.
    assert abs(ledger.realized_pnl + ledger.unrealized_pnl - worth) <= len(trades) + 2


@given(fills, st.lists(st.integers(-10_000, 10_000), max_size=5))
def test_every_payment_has_its_other_end(
    trades: list[tuple[int, int, int]], indices: list[int]
) -> None:
    """Trader, counterparties, fees, funding pool and insurance fund hold what was deposited."""
    ledger = Ledger(ME, 10**12)
    for index, (quantums, subticks, fee) in enumerate(trades):
        ledger.fill(BTC, quantums, subticks, fee, insurance=fee // 2)
        if index < len(indices):
            settle_funding(ledger, {"BTC-USD": indices[index]})

    others = ledger.paid.for_fills + ledger.paid.fees + ledger.paid.funding + ledger.paid.insurance
    assert ledger.deposits == ledger.collateral + others


@given(fills, st.integers(1, 90_000))
def test_the_running_margin_is_the_margin(trades: list[tuple[int, int, int]], oracle: int) -> None:
    """Sums updated incrementally equal the sums taken afresh."""
    ledger = Ledger(ME, 10**9)
    for quantums, subticks, _ in trades:
        ledger.fill(BTC, quantums, subticks)
        ledger.value("BTC-USD", oracle, 0)

    margin = ledger.margin
    breached = 0 < margin.maintenance_margin and margin.net_collateral < margin.maintenance_margin
    assert breached == ledger.breached


# --- a market of ledgers


class Clearing(Parties):
    """Everyone's ledgers, on one book: what a venue of many accounts is made of."""

    def __init__(self, people: int) -> None:
        self.ledgers = {
            Subaccount("p", n): Ledger(Subaccount("p", n), 500 * USDC) for n in range(people)
        }
        for ledger in self.ledgers.values():
            ledger.value("BTC-USD", 100, 0)

    def position(self, subaccount: Subaccount) -> int:
        return self.ledgers[subaccount].position("BTC-USD")

    def legs(self, match: Match) -> list[tuple[Ledger, int, int]]:
        bought = match.quantums if match.taker.side == "BUY" else -match.quantums
        quote = BTC.quote_quantums(match.quantums, match.subticks)
        return [
            (self.ledgers[match.maker.subaccount], -bought, Fees().of(quote, "MAKER")),
            (self.ledgers[match.taker.subaccount], bought, Fees().of(quote, "TAKER")),
        ]

    def check(self, match: Match) -> tuple[UpdateResult, UpdateResult]:
        maker, taker = (
            update_result(ledger, BTC, signed, match.subticks, fee)
            for ledger, signed, fee in self.legs(match)
        )
        return maker, taker

    def settle(self, match: Match) -> None:
        for ledger, signed, fee in self.legs(match):
            ledger.fill(BTC, signed, match.subticks, fee)


orders = st.lists(
    st.tuples(
        st.integers(0, 3),  # who
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 300),  # steps
        st.integers(90, 110),  # price
        st.sampled_from(["GTT", "GTT", "IOC", "POST_ONLY"]),
        st.booleans(),  # reduce-only, where the chain would allow it
        st.integers(0, 2),  # 0: cancel the one before instead
    ),
    max_size=60,
)


@given(orders)
def test_a_book_never_crosses_and_never_loses_a_quantum(
    placements: list[tuple[int, str, int, int, str, bool, int]],
) -> None:
    """Whatever is placed: no crossed book, no negative size, no money made or lost."""
    clearing = Clearing(4)
    book = OrderBook(BTC, clearing)
    for n, (who, side, steps, price, tif, reduce_only, keep) in enumerate(placements):
        order = Order(
            subaccount=Subaccount("p", who),
            client_id=n,
            clob_pair_id=0,
            side=side,  # type: ignore[arg-type]
            quantums=steps * BTC.step_base_quantums * 1_000,
            subticks=at(price),
            time_in_force=tif,  # type: ignore[arg-type]
            reduce_only=reduce_only and tif == "IOC",
            good_til_block=20,
        )
        before = clearing.position(order.subaccount)
        result = book.place(order)
        if order.reduce_only and result.filled:
            assert abs(clearing.position(order.subaccount)) < abs(before)
        assert result.filled == order.filled <= order.quantums
        if not keep:
            book.cancel(order.key)

        bid, ask = book.best_bid, book.best_ask
        assert bid is None or ask is None or bid < ask
        levels = book.levels("BUY", 99) + book.levels("SELL", 99)
        assert all(quantums > 0 for _, quantums in levels)
        assert sum(q for _, q in levels) == sum(o.remaining for o in book.orders.values())

    people = clearing.ledgers.values()
    assert 0 == sum(ledger.position("BTC-USD") for ledger in people)
    assert 4 * 500 * USDC == sum(ledger.collateral + ledger.paid.fees for ledger in people)
    assert all(not ledger.breached for ledger in people)
