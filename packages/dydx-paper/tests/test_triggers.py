"""Stateful orders before they come to the book: what waits, what triggers it, when it enters."""

from fractions import Fraction

import pytest
from dydx_conn import (
    CONDITIONAL,
    LONG_TERM,
    CancelRequest,
    OrderRequest,
    Subaccount,
    code_of,
    market_parameters,
)
from dydx_paper import (
    TRIGGER_MULTIPLIER,
    BookError,
    Desk,
    Key,
    Order,
    OrderBook,
    Positions,
    Waiting,
    can_trigger,
    in_two_passes,
    trigger_prices,
)
from hypothesis import given
from hypothesis import strategies as st

ALICE, BOB = Subaccount("alice"), Subaccount("bob")

BTC = market_parameters("BTC-USD")


def stateful(
    client_id: int,
    side: str = "BUY",
    condition: str = "",
    trigger: int = 0,
    *,
    tif: str = "GTT",
    subticks: int = 100,
    until: int = 1_000,
    reduce_only: bool = False,
) -> Order:
    """Make a long-term order, or a conditional one if it has a condition."""
    return Order(
        subaccount=ALICE,
        client_id=client_id,
        clob_pair_id=0,
        side=side,  # type: ignore[arg-type]
        quantums=10,
        subticks=subticks,
        time_in_force=tif,  # type: ignore[arg-type]
        reduce_only=reduce_only,
        order_flags=CONDITIONAL if condition else LONG_TERM,
        good_til_block_time=until,
        condition_type=condition,  # type: ignore[arg-type]
        trigger_subticks=trigger,
    )


def waiting_for(*orders: Order) -> Waiting:
    """Submit orders one after another."""
    waiting = Waiting()
    for order in orders:
        waiting, error = waiting.submit(order)
        assert "" == error
    return waiting


def ids(orders: tuple[Order, ...]) -> list[int]:
    """Show orders by their client ids."""
    return [order.client_id for order in orders]


# --- what triggers


@pytest.mark.parametrize(
    ("side", "condition", "price", "fires"),
    [
        ("BUY", "STOP_LOSS", 100, True),
        ("BUY", "STOP_LOSS", 99, False),
        ("SELL", "STOP_LOSS", 100, True),
        ("SELL", "STOP_LOSS", 101, False),
        ("BUY", "TAKE_PROFIT", 100, True),
        ("BUY", "TAKE_PROFIT", 101, False),
        ("SELL", "TAKE_PROFIT", 100, True),
        ("SELL", "TAKE_PROFIT", 99, False),
    ],
)
def test_side_and_condition_decide_which_way_a_price_triggers(
    side: str, condition: str, price: int, fires: bool
) -> None:
    """Stops fire when the market goes against their side, takers of profit when it goes with it."""
    assert fires == can_trigger(stateful(1, side, condition, 100), Fraction(price))


@given(
    price=st.fractions(min_value=Fraction(1, 7), max_value=300),
    trigger=st.integers(1, 300),
    side=st.sampled_from(["BUY", "SELL"]),
    condition=st.sampled_from(["STOP_LOSS", "TAKE_PROFIT"]),
)
def test_a_price_between_subticks_is_rounded_against_triggering(
    price: Fraction, trigger: int, side: str, condition: str
) -> None:
    """Up where it must fall, down where it must rise: the exact comparison is that very rule."""
    falls = (side, condition) in {("BUY", "TAKE_PROFIT"), ("SELL", "STOP_LOSS")}
    rounded = -(-price.numerator // price.denominator) if falls else price // 1

    fires = can_trigger(stateful(1, side, condition, trigger), price)

    assert (rounded <= trigger if falls else rounded >= trigger) == fires


def test_a_block_triggers_by_its_oracle_and_by_its_lowest_and_highest_trade() -> None:
    """The trades between do not matter, and without trades the oracle stands alone."""
    oracle = Fraction(50_000)

    assert [50_000, 49_900, 50_100] == trigger_prices(
        oracle, [50_000, 50_100, 49_900, 50_050], min_price_change_ppm=1_000
    )
    assert [50_000] == trigger_prices(oracle, [], min_price_change_ppm=1_000)


def test_trades_far_from_the_oracle_are_taken_at_the_bound() -> None:
    """Five times 0.1 % of 50 001 is 250.005: a bound may lie between subticks."""
    prices = trigger_prices(Fraction(50_001), [1, 90_000], min_price_change_ppm=1_000)

    assert 5 == TRIGGER_MULTIPLIER
    assert [50_001, Fraction(49_750_995, 1_000), Fraction(50_251_005, 1_000)] == prices


@pytest.mark.parametrize("oracle", [0, -5])
def test_an_oracle_price_that_is_none_is_an_error(oracle: int) -> None:
    """No trigger is judged by a price that cannot be."""
    with pytest.raises(BookError, match=f"above 0 subticks, got {oracle}"):
        trigger_prices(Fraction(oracle), [], min_price_change_ppm=1_000)


# --- what waits, and when it enters


def test_a_long_term_order_enters_when_its_block_is_done() -> None:
    """It waits while the block is made, and is handed to the book once."""
    waiting = waiting_for(stateful(1), stateful(2))

    entry = waiting.enter([])

    assert [1, 2] == ids(entry.entering)
    assert Waiting() == entry.waiting
    assert () == entry.waiting.enter([]).entering


def test_a_conditional_order_waits_until_a_price_triggers_it() -> None:
    """And it fires once; the others wait on."""
    waiting = waiting_for(
        stateful(1, "BUY", "STOP_LOSS", 110), stateful(2, "BUY", "STOP_LOSS", 120)
    )

    quiet = waiting.enter([Fraction(100)])
    fired = quiet.waiting.enter([Fraction(115)])

    assert ([], [1, 2]) == (ids(quiet.entering), ids(quiet.waiting.untriggered))
    assert ([1], [2]) == (ids(fired.entering), ids(fired.waiting.untriggered))


def test_a_trigger_already_met_fires_at_the_end_of_its_own_block() -> None:
    """Nobody asks at placement on which side of the price a trigger lies."""
    waiting = waiting_for(stateful(1, "SELL", "STOP_LOSS", 120))

    assert [1] == ids(waiting.enter([Fraction(100)]).entering)


def test_without_a_price_nothing_triggers() -> None:
    """An oracle nobody knows triggers nothing, and the order is still there."""
    waiting = waiting_for(stateful(1, "SELL", "STOP_LOSS", 120))

    entry = waiting.enter([])

    assert ((), [1]) == (entry.entering, ids(entry.waiting.untriggered))


def test_orders_enter_post_only_first_and_long_term_before_triggered() -> None:
    """Two passes over the same order: so a resting quote never trades with its own block."""
    waiting = waiting_for(
        stateful(1, "BUY", "STOP_LOSS", 90),
        stateful(2, "BUY", "TAKE_PROFIT", 110, tif="POST_ONLY"),
        stateful(3),
        stateful(4, tif="POST_ONLY"),
        stateful(5, "BUY", "TAKE_PROFIT", 110),
    )

    # Among the triggered, those that wait for a fall come first.
    assert [4, 2, 3, 5, 1] == ids(waiting.enter([Fraction(100)]).entering)


def test_a_later_price_triggers_later() -> None:
    """What the oracle triggers comes before what only a trade triggers."""
    waiting = waiting_for(
        stateful(1, "BUY", "TAKE_PROFIT", 95), stateful(2, "BUY", "STOP_LOSS", 100)
    )

    assert [2, 1] == ids(waiting.enter([Fraction(100), Fraction(94)]).entering)


def test_what_expires_with_the_block_neither_enters_nor_triggers() -> None:
    """Its time is over before anybody looks at its trigger."""
    waiting = waiting_for(
        stateful(1, until=10), stateful(2, "BUY", "STOP_LOSS", 1, until=10), stateful(3, until=11)
    )

    entry = waiting.enter([Fraction(100)], time=10)

    assert ([3], [1, 2]) == (ids(entry.entering), ids(entry.expired))
    assert Waiting() == entry.waiting


def test_what_is_withdrawn_never_enters() -> None:
    """A cancel finds orders of both kinds, and reports when there was none."""
    waiting = waiting_for(stateful(1), stateful(2, "BUY", "STOP_LOSS", 1))

    waiting, first = waiting.withdraw((ALICE, 1, LONG_TERM))
    waiting, second = waiting.withdraw((ALICE, 2, CONDITIONAL))
    waiting, third = waiting.withdraw((ALICE, 2, CONDITIONAL))

    assert first is not None
    assert second is not None
    assert (1, 2, None) == (first.client_id, second.client_id, third)
    assert Waiting() == waiting


def test_a_stateful_order_cannot_be_placed_twice() -> None:
    """Neither while it waits nor while it rests: 3005, and what stands goes on."""
    waiting = waiting_for(stateful(1), stateful(2, "BUY", "STOP_LOSS", 1))
    book = OrderBook(BTC)
    book.place(stateful(3))

    for again in (stateful(1), stateful(2, "BUY", "STOP_LOSS", 5), stateful(3)):
        after, error = waiting.submit(again, book.orders)

        assert (waiting, "ErrStatefulOrderAlreadyExists") == (after, error)
    assert 3005 == code_of("ErrStatefulOrderAlreadyExists")


@pytest.mark.parametrize(
    ("flags", "condition"), [(0, ""), (CONDITIONAL, ""), (LONG_TERM, "STOP_LOSS"), (128, "")]
)
def test_an_order_of_another_kind_does_not_wait(flags: int, condition: str) -> None:
    """Short-term orders go to the book at once; a condition and its flag come together."""
    order = stateful(1)
    order.order_flags, order.condition_type = flags, condition  # type: ignore[assignment]

    with pytest.raises(BookError, match=f"got order_flags {flags}, condition_type '{condition}'"):
        Waiting().submit(order)


def test_an_order_made_of_a_request_keeps_its_condition() -> None:
    """What was requested is what waits."""
    request = OrderRequest(
        ticker="BTC-USD",
        clob_pair_id=0,
        side="SELL",
        quantums=10,
        subticks=100,
        time_in_force="IOC",
        client_id=1,
        order_flags=CONDITIONAL,
        good_til_block_time=1_000,
        condition_type="STOP_LOSS",
        trigger_subticks=90,
    )

    order = Order.of(ALICE, request)

    assert ("STOP_LOSS", 90) == (order.condition_type, order.trigger_subticks)


def test_two_passes_keep_the_order_within_each() -> None:
    """Time still decides among equals."""
    orders = [stateful(n, tif="POST_ONLY" if n % 2 else "GTT") for n in range(6)]

    assert [1, 3, 5, 0, 2, 4] == ids(in_two_passes(orders))


# --- on the book, a block later


def test_a_triggered_ioc_that_finds_nothing_is_removed() -> None:
    """It was live for one moment, and the reason names what happened."""
    waiting = waiting_for(stateful(1, "SELL", "STOP_LOSS", 120, tif="IOC", reduce_only=True))
    book = OrderBook(BTC, Positions({ALICE: 10}))

    (order,) = waiting.enter([Fraction(100)]).entering
    result = book.place(order)

    assert [(order, "IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK")] == result.removed
    assert {} == book.orders


def test_a_triggered_stop_closes_the_position_it_was_made_for() -> None:
    """Reduce-only and IOC: it takes what the position is, no more."""
    book = OrderBook(BTC, Positions({ALICE: 7}))
    book.place(Order(subaccount=BOB, client_id=1, clob_pair_id=0, side="BUY", quantums=50,
                     subticks=100, good_til_block=9))  # fmt: skip
    stop = stateful(1, "SELL", "STOP_LOSS", 120, tif="IOC", reduce_only=True)

    (order,) = waiting_for(stop).enter([Fraction(100)]).entering
    result = book.place(order)

    assert (7, "ReduceOnlyResized") == (result.filled, result.status)
    assert 0 == book.accounts.position(ALICE)


def withdrawn(key: Key, until: int) -> tuple[Order | None, str]:
    """Cancel on a desk where two orders wait and one rests."""
    desk = Desk(OrderBook(BTC))
    desk.waiting = waiting_for(stateful(1), stateful(2, "BUY", "STOP_LOSS", 1))
    desk.book.place(stateful(3))
    subaccount, client_id, flags = key
    cancel = CancelRequest(
        ticker="", clob_pair_id=0, client_id=client_id, order_flags=flags,
        good_til_block_time=until,
    )  # fmt: skip
    return desk.withdraw(subaccount, cancel)


def test_a_stateful_cancel_needs_its_order() -> None:
    """Waiting or resting, it is found; of an order that is neither the chain knows nothing."""
    known = [(ALICE, 1, LONG_TERM), (ALICE, 2, CONDITIONAL), (ALICE, 3, LONG_TERM)]
    for key in known:
        assert (None, "ErrInvalidStatefulOrderCancellation") == withdrawn(key, 999)
        order, error = withdrawn(key, 1_000)
        assert (key, "") == (order and order.key, error)
    for key in [(BOB, 1, LONG_TERM), (ALICE, 2, LONG_TERM)]:
        assert (None, "ErrStatefulOrderDoesNotExist") == withdrawn(key, 1_000)
    assert (3006, 29) == tuple(
        map(code_of, ("ErrStatefulOrderDoesNotExist", "ErrInvalidStatefulOrderCancellation"))
    )
