"""The matching engine: price-time priority and the chain's own exceptions to it."""

from collections.abc import Iterable

import pytest
from dydx_conn import CancelRequest, Subaccount, code_of, market_parameters
from dydx_paper import CLEAN, Desk, Match, Order, OrderBook, Placement, Positions, UpdateResult

ALICE, BOB, CARL = Subaccount("alice"), Subaccount("bob"), Subaccount("carl")

BTC = market_parameters("BTC-USD")


Results = tuple[UpdateResult, UpdateResult]
MAKER: Results = ("NewlyUndercollateralized", "Success")
TAKER: Results = ("Success", "StillUndercollateralized")
BOTH: Results = ("NewlyUndercollateralized", "NewlyUndercollateralized")


class Refusing(Positions):
    """Accounts whose n-th collateral check fails for the parties named."""

    def __init__(
        self, failures: dict[int, Results], positions: dict[Subaccount, int] | None = None
    ):
        super().__init__(positions or {})
        self.failures = failures
        self.checks = 0

    def check(self, match: Match) -> Results:
        self.checks += 1
        return self.failures.get(self.checks - 1, CLEAN)


def order(
    who: Subaccount,
    client_id: int,
    side: str,
    quantums: int,
    subticks: int,
    tif: str = "GTT",
    *,
    gtb: int = 20,
    reduce_only: bool = False,
    flags: int = 0,
) -> Order:
    """Make an order of one market."""
    return Order(
        subaccount=who,
        client_id=client_id,
        clob_pair_id=0,
        side=side,  # type: ignore[arg-type]
        quantums=quantums,
        subticks=subticks,
        time_in_force=tif,  # type: ignore[arg-type]
        good_til_block=gtb if flags == 0 else 0,
        good_til_block_time=0 if flags == 0 else 1_000,
        order_flags=flags,
        reduce_only=reduce_only,
    )


def book_of(*orders: Order, accounts: Positions | None = None) -> OrderBook:
    """Place the orders one after another."""
    book = OrderBook(BTC, accounts)
    for resting in orders:
        book.place(resting)
    return book


def fills(result: Placement) -> list[tuple[int, int, int]]:
    """Show fills as (maker's client id, quantums, subticks)."""
    return [(m.maker.client_id, m.quantums, m.subticks) for m in result.fills]


def removed(result: Placement) -> list[tuple[int, str]]:
    """Show removals as (client id, reason)."""
    return [(o.client_id, reason) for o, reason in result.removed]


def remaining(orders: Iterable[Order]) -> dict[int, int]:
    """Show what is left of each order."""
    return {o.client_id: o.remaining for o in orders}


def test_an_order_without_a_counterpart_rests() -> None:
    """A GTT order that crosses nothing becomes the best of its side."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10), order(BOB, 2, "SELL", 7, 12))

    assert (10, 12) == (book.best_bid, book.best_ask)
    assert [(10, 5)] == book.levels("BUY", 5)
    assert [(12, 7)] == book.levels("SELL", 5)


def test_an_empty_book_has_no_best_price() -> None:
    """Nothing rests, so nothing is best."""
    book = OrderBook(BTC)

    assert (None, None) == (book.best_bid, book.best_ask)
    assert [] == book.levels("SELL", 3)


def test_the_best_price_trades_first_and_at_the_makers_price() -> None:
    """A taker walks from the best level and always pays the maker's price."""
    book = book_of(order(BOB, 1, "BUY", 20, 35), order(BOB, 2, "BUY", 5, 40))

    result = book.place(order(ALICE, 3, "SELL", 10, 15))

    assert [(2, 5, 40), (1, 5, 35)] == fills(result)
    assert ("Success", 10) == (result.status, result.filled)
    assert {1: 15} == remaining(book.orders.values())


def test_the_older_order_trades_first_at_one_price() -> None:
    """Time decides inside a level."""
    book = book_of(order(ALICE, 3, "SELL", 5, 10), order(CARL, 2, "SELL", 5, 10))

    assert [(3, 5, 10), (2, 1, 10)] == fills(book.place(order(BOB, 9, "BUY", 6, 10)))


def test_what_a_limit_order_does_not_fill_rests_at_its_own_price() -> None:
    """The rest of a taker becomes a maker."""
    book = book_of(order(ALICE, 1, "SELL", 5, 10), order(ALICE, 2, "SELL", 50, 40))

    result = book.place(order(BOB, 4, "BUY", 20, 35))

    assert [(1, 5, 10)] == fills(result)
    assert [(35, 15)] == book.levels("BUY", 1)


def test_a_self_trade_removes_the_maker_and_the_taker_goes_on() -> None:
    """The chain never trades a subaccount with itself; another of the same owner it does."""
    book = book_of(
        order(BOB, 1, "SELL", 10, 15),
        order(ALICE, 2, "SELL", 10, 15),
        order(Subaccount("alice", 1), 3, "SELL", 5, 16),
    )

    result = book.place(order(ALICE, 7, "BUY", 35, 1_000))

    assert [(1, 10, 15), (3, 5, 16)] == fills(result)
    assert [(2, "SELF_TRADE_ERROR")] == removed(result)
    assert {7: 20} == remaining(book.orders.values())


def test_an_ioc_order_never_rests() -> None:
    """What is not filled at once is cancelled, and the reason names it."""
    book = book_of(order(ALICE, 4, "BUY", 25, 5), order(BOB, 11, "BUY", 5, 40))

    result = book.place(order(CARL, 1, "SELL", 10, 15, "IOC"))

    assert [(11, 5, 40)] == fills(result)
    assert "ImmediateOrCancelWouldRestOnBook" == result.status
    assert [(1, "IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK")] == removed(result)
    assert book.best_ask is None


def test_a_post_only_order_that_would_trade_is_rejected_whole() -> None:
    """Neither side changes; the code is the chain's 2003."""
    book = book_of(order(BOB, 11, "BUY", 5, 40))

    result = book.place(order(ALICE, 1, "SELL", 10, 15, "POST_ONLY"))

    assert ("ErrPostOnlyWouldCrossMakerOrder", 0) == (result.error, result.filled)
    assert 2003 == code_of(result.error)
    assert {11: 5} == remaining(book.orders.values())
    assert book.best_ask is None


def test_a_post_only_order_rests_when_every_crossing_maker_is_invalid() -> None:
    """Makers that fail collateral are removed on the way, even by a post-only order."""
    book = book_of(
        order(ALICE, 2, "SELL", 5, 10),
        order(ALICE, 3, "SELL", 5, 10),
        accounts=Refusing({0: MAKER, 1: MAKER}),
    )

    result = book.place(order(BOB, 4, "BUY", 20, 35, "POST_ONLY"))

    assert ("Success", "") == (result.status, result.error)
    assert [(2, "UNDERCOLLATERALIZED"), (3, "UNDERCOLLATERALIZED")] == removed(result)
    assert (35, None) == (book.best_bid, book.best_ask)


def test_a_post_only_order_that_meets_a_valid_maker_still_removes_the_invalid() -> None:
    """The first valid match rejects the order; what was invalid before it is gone."""
    book = book_of(
        order(ALICE, 2, "SELL", 5, 10), order(CARL, 1, "SELL", 9, 15), accounts=Refusing({0: MAKER})
    )

    result = book.place(order(BOB, 4, "BUY", 20, 35, "POST_ONLY"))

    assert "ErrPostOnlyWouldCrossMakerOrder" == result.error
    assert {1: 9} == remaining(book.orders.values())


def test_a_taker_that_fails_collateral_stops_and_keeps_its_fills() -> None:
    """Earlier fills stand, the rest is dropped, the makers stay."""
    book = book_of(
        order(BOB, 1, "BUY", 10, 45),
        order(BOB, 2, "BUY", 5, 30),
        order(CARL, 3, "BUY", 15, 25),
        accounts=Refusing({2: TAKER}),
    )

    result = book.place(order(ALICE, 7, "SELL", 25, 15))

    assert ("Undercollateralized", 15) == (result.status, result.filled)
    assert [(7, "UNDERCOLLATERALIZED")] == removed(result)
    assert {3: 15} == remaining(book.orders.values())


@pytest.mark.parametrize(
    ("result", "status", "error", "reasons"),
    [
        ("NewlyUndercollateralized", "Undercollateralized", "", ["UNDERCOLLATERALIZED"]),
        ("StillUndercollateralized", "Undercollateralized", "", ["UNDERCOLLATERALIZED"]),
        ("UpdateCausedError", "InternalError", "", ["INTERNAL_ERROR"]),
        (
            "ViolatesIsolatedSubaccountConstraints", "ViolatesIsolatedSubaccountConstraints",
            "ErrWouldViolateIsolatedSubaccountConstraints", [],
        ),
    ],
)  # fmt: skip
def test_why_a_taker_may_not_have_a_fill_decides_how_it_ends(
    result: UpdateResult, status: str, error: str, reasons: list[str]
) -> None:
    """Nothing rests, nothing fills, and the maker stays; a maker goes for any of them."""
    book = book_of(order(BOB, 1, "SELL", 5, 10), accounts=Refusing({0: ("Success", result)}))

    placed = book.place(order(ALICE, 2, "BUY", 5, 10))

    assert (status, error) == (placed.status, placed.error)
    assert reasons == [reason for _, reason in placed.removed]
    assert ([(10, 5)], []) == (book.levels("SELL"), book.levels("BUY"))
    book = book_of(order(BOB, 1, "SELL", 5, 10), accounts=Refusing({0: (result, "Success")}))
    placed = book.place(order(ALICE, 2, "BUY", 5, 10))
    assert ["UNDERCOLLATERALIZED"] == [reason for _, reason in placed.removed]
    assert [(10, 5)] == book.levels("BUY")


def test_both_parties_may_fail_collateral_in_one_check() -> None:
    """The maker goes and the taker stops."""
    book = book_of(order(BOB, 1, "BUY", 10, 45), accounts=Refusing({0: BOTH}))

    result = book.place(order(ALICE, 7, "SELL", 25, 15))

    assert [(1, "UNDERCOLLATERALIZED"), (7, "UNDERCOLLATERALIZED")] == removed(result)
    assert {} == book.orders


# --- replacement, cancel, expiry


def test_a_short_term_replacement_carries_its_fills_and_loses_its_place() -> None:
    """A greater good-til-block replaces; what was filled counts against the new size."""
    book = book_of(order(ALICE, 10, "BUY", 8, 30), order(CARL, 5, "BUY", 5, 30))
    book.place(order(BOB, 1, "SELL", 5, 15))

    result = book.place(order(ALICE, 10, "BUY", 15, 30, gtb=21))

    assert "Success" == result.status
    assert {10: 10, 5: 5} == remaining(book.orders.values())
    assert [(5, 1, 30)] == fills(book.place(order(BOB, 2, "SELL", 1, 15)))


def test_a_fully_filled_order_is_remembered_until_its_block_passes() -> None:
    """Its id may come back larger, not equal nor smaller."""
    book = book_of(order(ALICE, 10, "BUY", 5, 30), order(BOB, 1, "SELL", 10, 15))

    assert "ErrOrderFullyFilled" == book.place(order(ALICE, 10, "BUY", 5, 30, gtb=21)).error
    assert [(1, 5, 15)] == fills(book.place(order(ALICE, 10, "BUY", 15, 30, gtb=21)))

    book.expire(21)
    assert "Success" == book.place(order(ALICE, 10, "BUY", 5, 30, gtb=40)).status


@pytest.mark.parametrize(
    ("replacement", "error"),
    [
        (order(ALICE, 10, "BUY", 15, 30, gtb=20), "ErrInvalidReplacement"),
        (order(ALICE, 10, "BUY", 15, 30, gtb=19), "ErrInvalidReplacement"),
        (order(ALICE, 10, "SELL", 15, 30, gtb=21), "ErrInvalidReplacement"),
        (order(ALICE, 10, "BUY", 15, 30, "IOC", gtb=21), "ErrInvalidReplacement"),
        (order(ALICE, 10, "BUY", 5, 30, gtb=21), "ErrOrderFullyFilled"),
    ],
)
def test_a_replacement_must_be_later_alike_and_larger(replacement: Order, error: str) -> None:
    """An invalid replacement leaves the standing order where it is."""
    book = book_of(order(BOB, 1, "SELL", 5, 15), order(ALICE, 10, "BUY", 12, 30))

    assert error == book.place(replacement).error
    assert {10: 7} == remaining(book.orders.values())


def test_an_ioc_order_fills_only_once() -> None:
    """A partly filled IOC cannot be sent again under its id."""
    book = book_of(order(BOB, 11, "BUY", 5, 40), order(ALICE, 1, "SELL", 10, 15, "IOC"))

    result = book.place(order(ALICE, 1, "SELL", 10, 15, "IOC", gtb=21))

    assert "ErrImmediateExecutionOrderAlreadyFilled" == result.error


def test_a_stateful_order_cannot_be_replaced() -> None:
    """Cancel it, then place another."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10, flags=64))

    assert (
        "ErrStatefulOrderAlreadyExists" == book.place(order(ALICE, 1, "BUY", 6, 10, flags=64)).error
    )


def test_a_cancelled_order_leaves_the_book() -> None:
    """Cancel gives the order back, or nothing when there was none."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10), order(ALICE, 2, "BUY", 5, 10))

    gone = book.cancel((ALICE, 1, 0))

    assert gone is not None
    assert 1 == gone.client_id
    assert book.cancel((ALICE, 1, 0)) is None
    assert [(10, 5)] == book.levels("BUY", 9)


def test_a_short_term_cancel_of_an_earlier_block_leaves_the_order() -> None:
    """It was meant for an order that has been replaced since."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10, gtb=20))

    assert book.cancel((ALICE, 1, 0), good_til_block=19) is None
    assert {1: 5} == remaining(book.orders.values())
    assert book.cancel((ALICE, 1, 0), good_til_block=22) is not None
    assert {} == book.orders


def test_a_short_term_cancel_keeps_later_orders_out_until_its_block() -> None:
    """What would not outlive the cancel is refused (7): it may have been sent before it."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10, gtb=20))
    book.cancel((ALICE, 1, 0), good_til_block=22)

    assert "ErrOrderIsCanceled" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=22)).error
    assert 7 == code_of("ErrOrderIsCanceled")
    assert {} == book.orders
    assert "" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=23)).error
    assert "" == book.place(order(ALICE, 2, "BUY", 5, 10, gtb=22)).error


def test_a_short_term_cancel_needs_no_order_to_keep_one_out() -> None:
    """A cancel may overtake what it cancels, on the way to the node."""
    book = OrderBook(BTC)

    assert book.cancel((ALICE, 1, 0), good_til_block=20) is None
    assert "ErrOrderIsCanceled" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=20)).error


def test_a_cancel_is_forgotten_when_its_block_has_passed() -> None:
    """From then on no order could come in that it would keep out."""
    book = OrderBook(BTC)
    book.cancel((ALICE, 1, 0), good_til_block=20)

    book.expire(19)
    assert "ErrOrderIsCanceled" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=20)).error
    book.expire(20)
    assert "" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=20)).error


def test_a_short_term_cancel_sent_again_must_last_longer() -> None:
    """As long or shorter changes nothing, and is refused (9)."""
    book = OrderBook(BTC)
    book.cancel((ALICE, 1, 0), good_til_block=20)
    again = [
        CancelRequest(ticker="", clob_pair_id=0, client_id=1, good_til_block=at)
        for at in (19, 20, 21, 21)
    ]
    errors = [Desk(book).withdraw(ALICE, cancel)[1] for cancel in again]

    known = "ErrMemClobCancelAlreadyExists"
    assert [known, known, "", known] == errors
    assert 9 == code_of("ErrMemClobCancelAlreadyExists")

    book.cancel((ALICE, 1, 0), good_til_block=19)
    assert "ErrOrderIsCanceled" == book.place(order(ALICE, 1, "BUY", 5, 10, gtb=20)).error


def test_a_cancel_that_leaves_the_order_still_keeps_earlier_ones_out() -> None:
    """The order on the book outlives it; its id stays closed to what would not."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10, gtb=20))

    assert book.cancel((ALICE, 1, 0), good_til_block=19) is None
    assert "ErrOrderIsCanceled" == book.place(order(ALICE, 1, "BUY", 9, 10, gtb=19)).error
    assert {1: 5} == remaining(book.orders.values())


def test_a_cancelled_id_keeps_what_it_filled() -> None:
    """Cancel and come back larger: the fills still count, until the block has passed."""
    book = book_of(order(ALICE, 1, "BUY", 8, 30, gtb=20), order(BOB, 1, "SELL", 5, 15))
    book.cancel((ALICE, 1, 0), good_til_block=20)

    assert "ErrOrderFullyFilled" == book.place(order(ALICE, 1, "BUY", 5, 30, gtb=21)).error
    assert "" == book.place(order(ALICE, 1, "BUY", 9, 30, gtb=21)).error
    assert {1: 4} == remaining(book.orders.values())


def test_a_book_without_blocks_lets_an_order_just_go() -> None:
    """Whoever takes an order back on its own account closes no id."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10), order(ALICE, 2, "BUY", 5, 10, flags=64))
    book.cancel((ALICE, 1, 0))
    book.cancel((ALICE, 2, 64), good_til_block=99)

    assert "" == book.place(order(ALICE, 1, "BUY", 5, 10)).error
    assert "" == book.place(order(ALICE, 2, "BUY", 5, 10, flags=64)).error


def test_orders_expire_with_their_block_and_their_time() -> None:
    """A short-term order's last chance is its own block, a long-term order's its own time."""
    book = book_of(
        order(ALICE, 1, "BUY", 5, 10, gtb=20),
        order(ALICE, 2, "BUY", 5, 11, gtb=21),
        order(ALICE, 3, "BUY", 5, 12, flags=64),
        order(ALICE, 4, "BUY", 5, 9, gtb=0),
    )

    assert [] == book.expire(19)
    assert [1] == [o.client_id for o in book.expire(20)]
    assert [2, 3] == [o.client_id for o in book.expire(30, time=1_000)]
    assert {4: 5} == remaining(book.orders.values())


def test_an_order_replaced_or_cancelled_does_not_expire_again() -> None:
    """Expiry speaks of what still rests, under its newest block."""
    book = book_of(order(ALICE, 1, "BUY", 5, 10, gtb=20), order(ALICE, 2, "BUY", 5, 10, gtb=20))
    book.cancel((ALICE, 2, 0))
    book.place(order(ALICE, 1, "BUY", 6, 10, gtb=25))

    assert [] == book.expire(20)
    assert {1: 6} == remaining(book.orders.values())


# --- reduce-only


def test_a_reduce_only_order_must_stand_against_a_position() -> None:
    """With the position, or without one, it is refused at placement (2001)."""
    book = OrderBook(BTC, Positions({ALICE: 15}))

    assert (
        "ErrReduceOnlyWouldIncreasePositionSize"
        == book.place(order(ALICE, 1, "BUY", 5, 10, reduce_only=True)).error
    )
    assert (
        "ErrReduceOnlyWouldIncreasePositionSize"
        == book.place(order(BOB, 1, "SELL", 5, 10, reduce_only=True)).error
    )
    assert "Success" == book.place(order(ALICE, 1, "SELL", 5, 10, reduce_only=True)).status


def test_a_reduce_only_taker_stops_when_its_position_is_flat() -> None:
    """It fills no more than the position, and the rest is dropped as a resize."""
    book = book_of(order(BOB, 1, "BUY", 20, 30), accounts=Positions({ALICE: 12}))

    result = book.place(order(ALICE, 2, "SELL", 20, 10, "IOC", reduce_only=True))

    assert ("ReduceOnlyResized", 12) == (result.status, result.filled)
    assert [(2, "REDUCE_ONLY_RESIZE")] == removed(result)
    assert 0 == book.accounts.position(ALICE)


def test_a_reduce_only_taker_that_is_flat_between_makers_stops() -> None:
    """A maker that happens to fill the position whole ends it too."""
    book = book_of(
        order(BOB, 1, "BUY", 12, 30), order(BOB, 2, "BUY", 9, 29), accounts=Positions({ALICE: 12})
    )

    result = book.place(order(ALICE, 2, "SELL", 20, 10, "IOC", reduce_only=True))

    assert ("ReduceOnlyResized", 12) == (result.status, result.filled)
    assert [(29, 9)] == book.levels("BUY", 2)


def test_a_changed_sign_takes_all_resting_reduce_only_orders_along() -> None:
    """Of the taker and of the maker, in this market."""
    book = book_of(
        order(ALICE, 2, "BUY", 20, 30, reduce_only=True),
        order(BOB, 13, "SELL", 35, 35),
        order(BOB, 1, "SELL", 15, 50, reduce_only=True),
        accounts=Positions({ALICE: -20, BOB: 15}),
    )

    result = book.place(order(ALICE, 14, "BUY", 30, 50))

    assert [(13, 30, 35)] == fills(result)
    assert {(2, "REDUCE_ONLY_RESIZE"), (1, "REDUCE_ONLY_RESIZE")} == set(removed(result))
    assert {13: 5} == remaining(book.orders.values())


def test_a_reduce_only_maker_fills_no_more_than_its_position() -> None:
    """Then it goes, with its siblings, and the taker goes on."""
    book = book_of(
        order(ALICE, 2, "BUY", 20, 30, reduce_only=True),
        order(ALICE, 6, "BUY", 10, 5, reduce_only=True),
        accounts=Positions({ALICE: -15}),
    )

    result = book.place(order(BOB, 8, "SELL", 20, 10))

    assert [(2, 15, 30)] == fills(result)
    assert [2, 6] == sorted(o.client_id for o, _ in result.removed)
    assert {8: 5} == remaining(book.orders.values())


def test_a_reduce_only_maker_whose_position_went_elsewhere_is_removed() -> None:
    """Positions may change outside this book; the stale order must not open one."""
    accounts = Positions({ALICE: -15})
    book = book_of(order(ALICE, 2, "BUY", 20, 30, reduce_only=True), accounts=accounts)
    accounts.positions[ALICE] = 0

    result = book.place(order(BOB, 8, "SELL", 20, 10))

    assert [] == fills(result)
    assert [(2, "REDUCE_ONLY_RESIZE")] == removed(result)


def test_a_failed_check_leaves_reduce_only_sizes_alone() -> None:
    """The taker fails, the maker keeps its full size."""
    book = book_of(
        order(BOB, 3, "SELL", 20, 10, reduce_only=True),
        accounts=Refusing({0: TAKER}, {ALICE: -10, BOB: 10}),
    )

    result = book.place(order(ALICE, 2, "BUY", 20, 30, reduce_only=True))

    assert "Undercollateralized" == result.status
    assert {3: 20} == remaining(book.orders.values())


# --- what a venue needs beside


def test_the_book_reports_which_levels_changed() -> None:
    """A venue turns these into wire updates: absolute sizes, 0 for a level that is gone."""
    book = OrderBook(BTC, track_changes=True)
    book.place(order(BOB, 1, "BUY", 20, 35))
    book.place(order(BOB, 2, "BUY", 5, 40))

    assert [("BUY", 35, 20), ("BUY", 40, 5)] == sorted(book.take_changes())
    assert [] == book.take_changes()

    book.place(order(ALICE, 3, "SELL", 10, 35, gtb=30))
    assert [("BUY", 35, 15), ("BUY", 40, 0)] == sorted(book.take_changes())


def test_no_error_has_no_code() -> None:
    """Code 0 is success, and an unknown name is nobody's code."""
    assert (0, 9003) == (code_of(""), code_of("ErrReduceOnlyDisabled"))
