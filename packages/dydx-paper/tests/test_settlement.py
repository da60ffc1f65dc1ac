"""Matches between accounts of any venue: who pays, what is liquidated, what the indexer reads."""

from typing import Any

import msgspec
import pytest
from dydx_conn import Fees, Subaccount, market_parameters
from dydx_paper import (
    Attempts,
    Backstop,
    Clearing,
    Filled,
    InsuranceFunds,
    Ledger,
    Match,
    Order,
    OrderBook,
    Stamp,
    deleveraging,
    liquidation_order,
    order_record,
    status_of,
    subaccount_fields,
)
from dydx_risk import LiquidationTerms

ALICE, BOB, CROWD = Subaccount("alice"), Subaccount("bob"), Subaccount("crowd")
BTC = market_parameters("BTC-USD")
COIN, USDC = 10**10, 10**6


def at(price: int) -> int:
    """Return a price in subticks."""
    return price * 100_000


class House:
    """Two accounts with money, and a crowd without a ledger, at 50,000."""

    def __init__(self, *, fund: int | None = 0, maker_ppm: int = -110, **terms: int) -> None:
        self.ledgers = {who: Ledger(who, 10_000 * USDC) for who in (ALICE, BOB)}
        self.backstop = Backstop(LiquidationTerms(**terms), InsuranceFunds(fund))
        self.fees = Fees(maker_ppm=maker_ppm)
        self.booked: list[Filled] = []
        self.book_of = OrderBook(BTC, Clearing(self, BTC))
        self.price(50_000)

    def fees_of(self, ledger: Ledger) -> Fees:
        return self.fees

    def book(self, order: Order, fill: Filled) -> None:
        self.booked.append(fill)
        self.ledgers[order.subaccount].book(fill)

    def price(self, price: int) -> None:
        for ledger in self.ledgers.values():
            ledger.value("BTC-USD", price * 10**5, -5, 100 * COIN)

    def place(self, who: Subaccount, side: str, quantums: int, price: int, **terms: Any) -> Any:
        return self.book_of.place(order(who, side, quantums, price, **terms))


def order(who: Subaccount, side: str, quantums: int, price: int, **terms: Any) -> Order:
    """Return an order for so many quantums at a price in USDC."""
    fields: dict[str, Any] = {
        "subaccount": who, "client_id": 1, "clob_pair_id": 0, "side": side, "quantums": quantums,
        "subticks": at(price),
    }  # fmt: skip
    return Order(**fields | terms)


def test_both_sides_pay_and_nothing_is_lost_between_them() -> None:
    """The maker gets its rebate, the taker its builder's bill; the crowd has no books."""
    house = House()
    house.place(ALICE, "SELL", COIN // 10, 50_000)
    house.place(BOB, "BUY", COIN // 10, 50_000, builder_fee_ppm=1_000)

    maker, taker = house.booked
    assert (maker.liquidity, maker.quantums, maker.fee) == ("MAKER", -COIN // 10, -550_000)
    assert (taker.liquidity, taker.fee, taker.builder_fee) == ("TAKER", 7_500_000, 5_000_000)
    left = [ledger.collateral + ledger.paid.fees for ledger in house.ledgers.values()]
    assert sum(left) == 20_000 * USDC
    house.place(CROWD, "BUY", COIN // 10, 50_000)
    assert len(house.booked) == 2


def test_each_side_that_cannot_pay_is_named() -> None:
    """Twenty times the money and more fails, whoever it is; a crowd never does."""
    clearing = Clearing(House(), BTC)
    rich, poor = COIN // 10, 6 * COIN

    def failed(maker: Subaccount, taker: Subaccount, quantums: int) -> list[bool]:
        match = Match(
            order(maker, "SELL", quantums, 50_000), order(taker, "BUY", quantums, 50_000),
            quantums, at(50_000),
        )  # fmt: skip
        return [result == "NewlyUndercollateralized" for result in clearing.check(match)]

    assert failed(ALICE, BOB, rich) == [False, False]
    assert failed(ALICE, BOB, poor) == [True, True]
    assert failed(CROWD, BOB, poor) == [False, True]
    assert failed(ALICE, CROWD, poor) == [True, False]
    assert clearing.position(CROWD) == 0


def breached(**terms: int) -> tuple[House, Order]:
    """Let Alice buy 3 BTC from Bob and lose 5 %, and return what the chain would close of it."""
    house = House(**terms)
    for ledger in house.ledgers.values():
        ledger.deposit(90_000 * USDC)
    house.place(BOB, "SELL", 3 * COIN, 50_000)
    house.place(ALICE, "BUY", 3 * COIN, 50_000)
    alice = house.ledgers[ALICE]
    alice.deposit(-91_000 * USDC)
    house.price(48_000)
    assert alice.breached
    house.booked.clear()
    left = house.backstop.left(ALICE, "BTC-USD")
    terms_ = msgspec.structs.replace(house.backstop.terms, max_subaccount_notional=left)
    return house, liquidation_order(alice, alice.holdings["BTC-USD"], terms_)


def test_who_trades_against_a_liquidation_gets_no_rebate() -> None:
    """A part of the position, at no worse than the fillable price, for no taker fee."""
    house, close = breached()
    house.place(BOB, "BUY", COIN, 48_000)
    house.book_of.place(close)

    maker, taker = house.booked
    assert (close.side, close.quantums, close.filled) == ("SELL", 3 * COIN // 10, 3 * COIN // 10)
    assert (maker.type, maker.fee) == ("LIQUIDATION", 0)
    assert (taker.type, taker.fee, taker.insurance > 0) == ("LIQUIDATED", 0, True)
    assert house.backstop.funds.balances["insurance-fund"] == taker.insurance


def test_a_block_liquidates_a_position_once_and_an_account_so_much() -> None:
    """What is left of the block falls with each position taken, and comes back with the next."""
    backstop = House(max_subaccount_notional=1_000).backstop

    backstop.took(ALICE, "BTC-USD", 400)
    assert [backstop.left(ALICE, ticker) for ticker in ("BTC-USD", "ETH-USD")] == [0, 600]
    assert backstop.left(BOB, "BTC-USD") == 1_000
    backstop.begin_block()
    assert backstop.left(ALICE, "BTC-USD") == 1_000


def test_what_a_block_may_cost_the_fund_is_counted_by_account() -> None:
    """One account's losses leave the other's share alone."""
    backstop = House(fund=None, max_subaccount_insurance_lost=10).backstop

    backstop.take(ALICE, BTC, -8)
    exceeded = "LiquidationExceededSubaccountMaxInsuranceLost"
    assert [backstop.result(who, BTC, -3) for who in (ALICE, BOB)] == [exceeded, "Success"]
    assert backstop.result(ALICE, BTC, 3) == "Success"


def test_a_deleveraging_leaves_a_bankrupt_account_with_nothing() -> None:
    """The whole position goes at the price at which just that is so."""
    house, _ = breached()
    alice = house.ledgers[ALICE]
    house.price(46_000)
    handed, quote = deleveraging(alice, alice.holdings["BTC-USD"])
    house.book(handed, Filled(
        market=BTC, quantums=-3 * COIN, subticks=handed.subticks, quote=quote, type="DELEVERAGED",
    ))  # fmt: skip

    assert (handed.side, handed.quantums, alice.collateral) == ("SELL", 3 * COIN, 0)


def test_rest_counts_funding_before_it_is_settled_and_knows_no_open_interest() -> None:
    """Owed funding is off the balance and in the position; the tier's fraction alone is needed."""
    house = House()
    house.place(BOB, "SELL", COIN // 10, 50_000)
    house.place(ALICE, "BUY", COIN // 10, 50_000)
    alice = house.ledgers[ALICE]
    before = alice.collateral
    alice.accrue({"BTC-USD": 2_000})

    row = subaccount_fields(alice, 7)

    assert alice.collateral == before
    assert row["openPerpetualPositions"]["BTC-USD"]["netFunding"] == "-2"
    assert row["assetPositions"]["USDC"]["size"] == "4995.5"
    assert (row["equity"], row["freeCollateral"]) == ("9995.5", "9745.5")
    assert row["latestProcessedBlockHeight"] == "7"


@pytest.mark.parametrize(
    ("terms", "reason", "waits", "status"),
    [
        ({}, "", False, "BEST_EFFORT_OPENED"),
        ({"filled": 5}, "", False, "FILLED"),
        ({"order_flags": 64}, "", False, "OPEN"),
        ({"order_flags": 32}, "", True, "UNTRIGGERED"),
        ({}, "USER_CANCELED", False, "BEST_EFFORT_CANCELED"),
        ({}, "EXPIRED", False, "CANCELED"),
        ({"filled": 1}, "USER_CANCELED", False, "BEST_EFFORT_CANCELED"),
        ({"order_flags": 64}, "USER_CANCELED", False, "CANCELED"),
    ],
)
def test_an_order_stands_as_the_indexer_words_it(
    terms: dict[str, int], reason: str, waits: bool, status: str
) -> None:
    """Of a short-term order nodes alone know: only its own block ends it for good."""
    assert status_of(order(ALICE, "BUY", 5, 1, **terms), reason, waits=waits) == status


def test_a_record_names_the_removal_or_the_refusal() -> None:
    """In the indexer's word, or the chain's."""
    ours = order(ALICE, "BUY", 5, 1, id="x")
    ledger = Ledger(ALICE)

    removed = order_record(ours, "BTC-USD", "CANCELED", Stamp(height=3), removal="EXPIRED")
    refused = order_record(ours, "BTC-USD", "CANCELED", Stamp(), refusal="clob 12: no")
    ledger.note(removed)

    assert (removed.reason, removed.updated.height) == ("ORDER_REMOVAL_REASON_EXPIRED", 3)
    assert refused.reason == "clob 12: no"
    assert (ledger.history.order("x"), ledger.history.order("y")) == (removed, None)


def test_a_limit_is_named_with_what_exceeds_it() -> None:
    """A batch counts two."""
    attempts = Attempts()

    objections = [
        attempts.objection(1, stateful=True, weight=2),
        attempts.objection(1, stateful=True),
    ]

    assert objections == ["", "rate of 3 exceeds the limit of 2 stateful orders per 1 blocks"]
