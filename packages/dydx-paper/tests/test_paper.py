"""The operator: what `step` returns, as a stream."""

import random
from collections import Counter
from typing import Any

import pytest
import reactivex
from dydx_conn import Accounts, Frame
from dydx_paper import Event, Filled, OrderRecord, PaperVenue, paper, rebuild
from dydx_risk import Account
from exchange import OWNER, USDC, Exchange
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex.testing import ReactiveTest, TestScheduler

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


def view() -> Any:
    """Return a view with a book, as it is now."""
    return Exchange().open().state.views["BTC-USD"]


def run(source: Any) -> list[Any]:
    """Subscribe a venue to a source under virtual time; return (time, what) of its messages."""
    scheduler = TestScheduler()
    observer = scheduler.start(
        lambda: paper(PaperVenue(OWNER, USDC))(source(scheduler)), disposed=300
    )
    received = []
    for message in observer.messages:
        notification: Any = message.value
        what = notification.value.type if notification.kind == "N" else notification.kind
        received.append((message.time, what))
    return received


def test_it_completes_with_its_source() -> None:
    """The snapshot comes with the first view, and the end with the end."""
    messages = run(lambda s: s.create_cold_observable(on_next(10, view()), on_completed(20)))

    assert [(210, "subscribed"), (220, "C")] == messages


def test_it_never_ends_before_its_source() -> None:
    """Silence in, silence out."""
    assert [] == run(lambda s: reactivex.never())


def test_nothing_in_is_nothing_out() -> None:
    """An empty source makes no account."""
    assert [(200, "C")] == run(lambda s: reactivex.empty())


def test_it_hands_an_error_on() -> None:
    """An error of the source is the stream's."""
    messages = run(lambda s: s.create_cold_observable(on_next(10, view()), on_error(20, "lost")))

    assert [(210, "subscribed"), (220, "E")] == messages


def test_what_comes_after_the_end_is_not_received() -> None:
    """Late views reach nobody."""
    source = [on_next(10, view()), on_completed(20), on_next(30, view())]

    assert [(210, "subscribed"), (220, "C")] == run(lambda s: s.create_hot_observable(*[
        type(message)(message.time + 200, message.value) for message in source
    ]))  # fmt: skip


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
    assert 1 == len(folded(exchange.frames).open_orders)

    exchange.cancel(1)
    exchange.change(bids=[(49_998, 2)])

    assert 0 == len(folded(exchange.frames).open_orders)


@pytest.mark.parametrize("ticker", ["BTC-USD", "ETH-USD"])
def test_a_view_of_another_market_matches_nothing(ticker: str) -> None:
    """Each market meets its own book."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50100")

    made = exchange.change(bids=[(1_000, 1)], ticker=ticker)

    assert (ticker == "BTC-USD") == bool(made)
