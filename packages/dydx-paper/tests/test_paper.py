"""The operator: what `step` returns, as a stream."""

import random
from collections import Counter
from typing import Any

import pytest
from dydx_conn import MARBLE_CASES, Accounts, Frame, OrderRequest, play
from dydx_paper import Event, Filled, OrderRecord, PaperVenue, paper, rebuild
from dydx_risk import Account
from exchange import OWNER, USDC, Exchange
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = {"F": "fills", "P": "perpetualPositions", "O": "orders"}


@pytest.mark.parametrize("case", MARBLE_CASES)
def test_frames_are_as_drawn(case: str) -> None:
    """Within the event, for what changes the account alone; they end as their source."""
    exchange = Exchange().open()
    market = exchange.market()
    order = OrderRequest(
        ticker="BTC-USD", clob_pair_id=market.clob_pair_id, side="BUY", client_id=1,
        quantums=market.quantums("0.5"), subticks=market.subticks("50100"),
        good_til_block=exchange.height + 20, time_in_force="IOC",
    )  # fmt: skip
    events: dict[str, Any] = {"v": exchange.state.views["BTC-USD"], "o": order}

    def letter(frame: Frame) -> str:
        if frame.is_snapshot:
            return "S"
        return next(row for row, name in ROWS.items() if f'"{name}":' in frame.text)

    came, drawn = play(paper, paper(PaperVenue(OWNER, 100_000 * USDC)), events, letter, case)

    assert came == drawn


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("order"),
            st.sampled_from(["BUY", "SELL"]),
            st.integers(1, 9),
            st.integers(49_980, 50_020),
            st.sampled_from(["IOC", "GTT", "POST_ONLY"]),
            st.booleans(),
        ),
        st.tuples(st.just("book"), st.integers(49_985, 50_005), st.integers(1, 15)),
        st.tuples(
            st.just("trade"),
            st.sampled_from(["BUY", "SELL"]),
            st.integers(1, 30),
            st.integers(49_980, 50_020),
        ),
        st.tuples(st.just("oracle"), st.integers(47_000, 53_000)),
        st.tuples(st.just("block"), st.sampled_from([1, 1, 1, 3_600])),
        st.tuples(st.just("cancel"), st.integers(1, 10)),
    ),
    max_size=40,
)


def act(exchange: Exchange, action: tuple[Any, ...]) -> None:
    """Do one thing on the exchange."""
    kind, *what = action
    if kind == "order":
        side, tenths, price, tif, reduce_only = what
        exchange.order(
            side, f"0.{tenths}", str(price), tif, reduce_only=reduce_only and tif == "IOC"
        )
    elif kind == "book":
        bid, gap = what
        exchange.book([(bid, 0.5), (bid - 5, 3)], [(bid + gap, 0.5), (bid + gap + 5, 3)])
    elif kind == "trade":
        side, tenths, price = what
        exchange.trade(side, tenths / 10, price)
    elif kind == "oracle":
        exchange.oracle(what[0])
    elif kind == "block":
        exchange.block(second=exchange.second + what[0])
    else:
        exchange.cancel(what[0])


@settings(max_examples=60)
@given(actions, st.sampled_from([0, 10 * USDC, 1_000_000 * USDC]))
def test_money_is_conserved_and_the_frames_report_all_of_it(
    events: list[tuple[Any, ...]], fund: int
) -> None:
    """Whatever happens: every payment has its other end, and the wire reports what the books hold."""
    exchange = Exchange(PaperVenue(OWNER, 1_000 * USDC, insurance_fund=fund)).open()
    for event in events:
        act(exchange, event)

    ledger = exchange.venue.ledger
    paid = ledger.paid.for_fills + ledger.paid.fees + ledger.paid.funding + ledger.paid.insurance
    assert 1_000 * USDC == ledger.collateral + paid
    assert {"insurance-fund": fund + ledger.paid.insurance} == exchange.venue.insurance.balances
    assert fund + ledger.paid.insurance >= 0
    reported = folded(exchange.frames)
    assert ledger.collateral == reported.collateral
    assert {ticker: holding.quantums for ticker, holding in ledger.holdings.items()} == {
        ticker: exchange.market(ticker).quantums(position.size)
        for ticker, position in reported.positions.items()
    }
    assert "" == reported.trouble


class Watch:
    """Takes in every change of a venue's ledger: no reduce-only order may add to a position."""

    def __init__(self) -> None:
        self.journal: list[Event] = []
        self.reducing: set[str] = set()
        self.held: Counter[str] = Counter()
        self.reduced = 0
        self.venue = PaperVenue(OWNER, 5_000 * USDC, journal=self.record)
        self.ledger = self.venue.ledger

    def record(self, change: Event) -> None:
        self.journal.append(change)
        if isinstance(change, OrderRecord) and change.reduce_only:
            self.reducing.add(change.id)
        elif isinstance(change, Filled):
            ticker = change.market.ticker
            before, after = self.held[ticker], self.held[ticker] + change.quantums
            self.held[ticker] = after
            if change.order_id in self.reducing:
                self.reduced += 1
                assert abs(after) < abs(before)
                assert after * before >= 0


def watched(exchange: Exchange) -> Watch:
    """Put a venue that is watched on an exchange that has not opened."""
    watch = Watch()
    exchange.venue = watch.venue
    return watch


def check_books(exchange: Exchange) -> None:
    """Our own orders never cross, none is empty or filled beyond its size."""
    for market in exchange.venue.markets.values():
        desk = market.desk
        bid, ask = desk.book.best_bid, desk.book.best_ask
        assert bid is None or ask is None or bid < ask
        for order in desk.book.orders.values():
            assert 0 <= order.filled < order.quantums
            assert order.subaccount == OWNER  # the recorded market comes and goes
            assert order.time_in_force != "IOC"


@settings(max_examples=60)
@given(actions)
def test_random_order_flow_breaks_neither_book_nor_ledger(events: list[tuple[Any, ...]]) -> None:
    """No own book is crossed, no size negative, no reduce-only fill adds; the journal holds all."""
    exchange = Exchange()
    watch = watched(exchange)
    exchange.open()

    for event in events:
        act(exchange, event)
        check_books(exchange)

    assert watch.ledger == rebuild(watch.journal)
    assert all(watch.held[t] == h.quantums for t, h in watch.ledger.holdings.items())


def test_a_long_random_flow_reduces_too() -> None:
    """The same for 400 deeds, so that reduce-only orders do meet positions."""
    exchange, chance = Exchange(), random.Random(7)
    watch = watched(exchange)
    exchange.open()

    for _ in range(400):
        act(exchange, drawn(chance))
        check_books(exchange)

    assert watch.reduced > 5
    assert watch.ledger == rebuild(watch.journal)


def drawn(chance: random.Random) -> tuple[Any, ...]:
    """Draw one deed, of the kinds that `actions` has."""
    side, price = chance.choice(["BUY", "SELL"]), chance.randint(49_980, 50_020)
    tif = chance.choice(["IOC", "GTT", "POST_ONLY"])
    return chance.choice([
        ("order", side, chance.randint(1, 9), price, tif, chance.random() < 0.5),
        ("order", side, chance.randint(1, 9), price, "IOC", True),
        ("book", chance.randint(49_985, 50_005), chance.randint(1, 15)),
        ("trade", side, chance.randint(1, 30), price),
        ("block", 1),
        ("cancel", chance.randint(1, 400)),
    ])  # fmt: skip


def folded(frames: list[Frame]) -> Account:
    """Fold account frames as the layers below do, to which they must look like live ones."""
    account, accounts = Account(OWNER), Accounts()
    for frame in frames:
        for update in accounts.step(frame):
            account.take(update)
    return account


def test_risk_sees_open_orders_come_and_go() -> None:
    """The account that risk folds knows the order while it rests and forgets it after."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49000", "GTT")
    exchange.change(bids=[(49_998, 1)])
    assert 1 == len(folded(exchange.frames).orders.open)

    exchange.cancel(1)
    exchange.change(bids=[(49_998, 2)])

    assert 0 == len(folded(exchange.frames).orders.open)


@pytest.mark.parametrize("ticker", ["BTC-USD", "ETH-USD"])
def test_a_view_of_another_market_matches_nothing(ticker: str) -> None:
    """Each market meets its own book."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50100")

    made = exchange.change(bids=[(1_000, 1)], ticker=ticker)

    assert (ticker == "BTC-USD") == bool(made)
