"""The paper venue: recorded books in, the indexer's own account frames out."""

from typing import Any

import pytest
from dydx_conn import Fees, Frame, SubaccountContents, contents, market_fields
from dydx_paper import LedgerError, PaperError, PaperVenue, performance
from dydx_risk import LiquidationTerms
from exchange import HOUR, OWNER, USDC, Exchange, bodies, body, iso
from hypothesis import given, settings
from hypothesis import strategies as st


def test_the_first_view_opens_the_account() -> None:
    """The deposit comes as a snapshot, in the indexer's shape."""
    exchange = Exchange().open()

    frame = exchange.frames[0]
    assert ("ws", "paper", "v4_subaccounts", "dydx1paper/0", "subscribed", 1) == (
        frame.kind, frame.link, frame.channel, frame.id, frame.type, frame.message_id,
    )  # fmt: skip
    (snapshot,) = contents(frame)
    assert isinstance(snapshot, SubaccountContents)
    assert snapshot.subaccount is not None
    assert "100000" == snapshot.subaccount.equity
    assert "100000" == snapshot.subaccount.asset_positions["USDC"].size
    assert 1 == len(exchange.frames)


def test_an_order_waits_for_the_next_book_and_pays_its_price() -> None:
    """It is opened at once, filled at the next book of its market, never at the one it saw."""
    exchange = Exchange().open()

    opened = body(exchange.order("BUY", "0.5", "50100"))
    assert ["BEST_EFFORT_OPENED"] == [order["status"] for order in opened["orders"]]
    assert [] == exchange.trade("BUY", "0.1", "50001")

    done = body(exchange.change(asks=[(50_001, 0), (50_002, 3)]))
    (fill,) = done["fills"]
    assert ("50002", "0.5", "TAKER", "LIMIT", "12.5005") == (
        fill["price"], fill["size"], fill["liquidity"], fill["type"], fill["fee"],
    )  # fmt: skip
    (order,) = done["orders"]
    assert ("FILLED", "0.5", opened["orders"][0]["id"]) == (
        order["status"], order["totalFilled"], order["id"],
    )  # fmt: skip
    (position,) = done["perpetualPositions"]
    assert ("LONG", "OPEN", "0.5", "50002", "-1") == (
        position["side"], position["status"], position["size"], position["entryPrice"],
        position["unrealizedPnl"],
    )  # fmt: skip
    (usdc,) = done["assetPositions"]
    assert ("LONG", "74986.4995") == (usdc["side"], usdc["size"])
    assert "1000" == done["blockHeight"]


def test_a_block_is_as_good_as_a_book() -> None:
    """In a quiet market the next block matches what waits, against the book as it stands."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50100")

    exchange.block()
    done = body(exchange.oracle("50000"))

    assert "50001" == done["fills"][0]["price"]
    assert "1001" == done["fills"][0]["createdAtHeight"]


def test_a_taker_walks_the_recorded_levels() -> None:
    """Each level at its own price; the average is the entry price."""
    exchange = Exchange().open()
    exchange.order("BUY", "2", "50100")

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert [("50001", "1"), ("50010", "1")] == [(f["price"], f["size"]) for f in done["fills"]]
    assert "50005.5" == done["perpetualPositions"][0]["entryPrice"]


def test_what_we_took_stays_taken_until_its_level_changes() -> None:
    """A recorded level does not refill because the recording does not know us."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.6", "50001")
    exchange.change(bids=[(49_999, 1.5)])

    exchange.order("BUY", "0.6", "50001")
    second = body(exchange.change(bids=[(49_999, 1.6)]))
    assert "0.4" == second["fills"][0]["size"]
    assert ("CANCELED", "ORDER_REMOVAL_REASON_IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK") == (
        second["orders"][0]["status"], second["orders"][0]["removalReason"],
    )  # fmt: skip

    exchange.order("BUY", "0.6", "50001")
    third = body(exchange.change(asks=[(50_001, 1)]))
    assert "FILLED" == third["orders"][0]["status"]


def test_an_ioc_order_that_finds_nothing_is_over() -> None:
    """Best effort, with the indexer's reason."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49000")

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert ("BEST_EFFORT_CANCELED", "0") == (
        done["orders"][0]["status"], done["orders"][0]["totalOptimisticFilled"],
    )  # fmt: skip
    assert "fills" not in done


def test_a_short_position_shows_a_negative_size() -> None:
    """Side SHORT, size below zero, and the proceeds on the balance."""
    exchange = Exchange().open()
    exchange.order("SELL", "0.5", "49900")

    done = body(exchange.change(asks=[(50_001, 1.5)]))

    (position,) = done["perpetualPositions"]
    assert ("SHORT", "-0.5", "-0.5") == (position["side"], position["size"], position["maxSize"])
    assert "124987.00025" == done["assetPositions"][0]["size"]


def test_closing_realises_and_closes_the_position() -> None:
    """Exit price, realised profit and CLOSED; the figures count a win."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001")
    exchange.change(bids=[(49_990, 2.5)])
    exchange.order("SELL", "0.5", "50000", reduce_only=True)

    done = body(exchange.change(bids=[(50_101, 1)], asks=[(50_001, 0), (50_010, 0), (50_200, 1)]))

    (position,) = done["perpetualPositions"]
    assert ("CLOSED", "0", "50001", "50101", "50") == (
        position["status"], position["size"], position["entryPrice"], position["exitPrice"],
        position["realizedPnl"],
    )  # fmt: skip
    figures = exchange.venue.figures()
    assert (1, 0) == (figures.wins, figures.losses)
    left = exchange.venue.ledger.collateral
    assert figures.realized_pnl - figures.fees_paid == left - 100_000 * USDC
    assert 2 == figures.fills
    assert figures.equity == left
    assert figures.profit == left - 100_000 * USDC


def test_a_flip_ends_one_position_and_begins_another() -> None:
    """Two positions in one message, the ended one first."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001")
    exchange.change(bids=[(49_990, 2.5)])
    exchange.order("SELL", "0.8", "49999")

    done = body(exchange.change(asks=[(50_010, 2.5)]))

    assert [("LONG", "CLOSED", "0"), ("SHORT", "OPEN", "-0.3")] == [
        (p["side"], p["status"], p["size"]) for p in done["perpetualPositions"]
    ]


# --- resting orders


def test_a_resting_order_fills_last_at_its_price() -> None:
    """Trades at its price were somebody else's: it fills as maker when the other side comes."""
    exchange = Exchange().open()
    opened = body(exchange.order("BUY", "0.5", "49999", "POST_ONLY"))
    assert "BEST_EFFORT_OPENED" == opened["orders"][0]["status"]
    assert [] == exchange.change(asks=[(50_010, 1)])
    assert [] == exchange.trade("SELL", "0.7", "49999")

    part = body(exchange.change(bids=[(49_999, 0), (49_990, 0)], asks=[(49_999, 0.2)]))

    assert ("49999", "0.2", "MAKER", "0.99998") == (
        part["fills"][0]["price"], part["fills"][0]["size"], part["fills"][0]["liquidity"],
        part["fills"][0]["fee"],
    )  # fmt: skip
    assert "OPEN" == part["orders"][0]["status"]
    assert "FILLED" == body(exchange.change(asks=[(49_998, 3)]))["orders"][0]["status"]


def test_a_book_that_crosses_a_resting_order_fills_it() -> None:
    """At our price, as maker, as much as has come."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49999", "GTT")
    exchange.change(asks=[(50_010, 1)])

    part = body(exchange.change(bids=[(49_999, 0), (49_990, 0)], asks=[(49_995, 0.3)]))

    assert [("49999", "0.3", "MAKER")] == [
        (f["price"], f["size"], f["liquidity"]) for f in part["fills"]
    ]
    assert [] == exchange.change(bids=[(49_980, 1)])


def test_a_post_only_order_that_crosses_is_removed() -> None:
    """With the indexer's reason."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001", "POST_ONLY")

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert (
        "ORDER_REMOVAL_REASON_POST_ONLY_WOULD_CROSS_MAKER_ORDER"
        == done["orders"][0]["removalReason"]
    )


def test_a_limit_order_takes_what_it_can_and_rests() -> None:
    """OPEN after a partial fill, as the indexer words it."""
    exchange = Exchange().open()
    exchange.order("BUY", "1.5", "50001", "GTT")

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert ("OPEN", "1", "1.5") == (
        done["orders"][0]["status"], done["orders"][0]["totalFilled"], done["orders"][0]["size"],
    )  # fmt: skip


def test_a_short_term_order_expires_with_its_block() -> None:
    """CANCELED, EXPIRED, on the first frame that shows the block."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49000", "GTT", good_til_block=1_002)
    exchange.block()
    assert [] == exchange.oracle(50_000)

    exchange.block()
    done = body(exchange.oracle(50_000))

    assert ("CANCELED", "ORDER_REMOVAL_REASON_EXPIRED") == (
        done["orders"][0]["status"], done["orders"][0]["removalReason"],
    )  # fmt: skip


def test_an_order_that_waited_past_its_block_is_not_filled() -> None:
    """Heights may run ahead unseen; what is over by then can fill no more."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "51000", good_til_block=1_002)
    exchange.state.chain.height = 1_010

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert ("CANCELED", "ORDER_REMOVAL_REASON_EXPIRED") == (
        done["orders"][0]["status"], done["orders"][0]["removalReason"],
    )  # fmt: skip
    assert "fills" not in done


def test_a_long_term_order_expires_with_its_time() -> None:
    """It is OPEN once a block has it, and CANCELED by the chain's clock."""
    exchange = Exchange().open()
    until = exchange.at // 1_000_000_000 + 30
    assert [] == exchange.order(
        "BUY", "0.5", "49000", "GTT", order_flags=64, good_til_block=0, good_til_block_time=until
    )
    assert "OPEN" == body(exchange.change(bids=[(49_998, 1)]))["orders"][0]["status"]
    exchange.block()
    assert [] == exchange.oracle(50_000)

    done = body(exchange.block(second=41) + exchange.oracle(50_000))

    assert "ORDER_REMOVAL_REASON_EXPIRED" == done["orders"][0]["removalReason"]


def test_a_cancel_takes_as_long_as_an_order() -> None:
    """What trades before it arrives still fills; then the rest is gone."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49999", "GTT")
    exchange.change(asks=[(50_010, 1)])
    assert [] == exchange.cancel(1)

    done = body(exchange.change(asks=[(49_999, 0.2)], bids=[(49_999, 0), (49_990, 0)]))
    assert "fills" in done

    assert ("BEST_EFFORT_CANCELED", "ORDER_REMOVAL_REASON_USER_CANCELED") == (
        done["orders"][0]["status"], done["orders"][0]["removalReason"],
    )  # fmt: skip
    assert [] == exchange.cancel(1)


def test_an_unfilled_short_term_order_is_cancelled_with_best_effort() -> None:
    """The indexer's word while the block is open."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "49000", "GTT")
    exchange.change(asks=[(50_010, 1)])
    exchange.cancel(1)

    assert (
        "BEST_EFFORT_CANCELED" == body(exchange.change(asks=[(50_010, 2)]))["orders"][0]["status"]
    )


def test_a_cancel_of_an_order_that_has_gone_reports_nothing() -> None:
    """It filled while the cancel was on its way."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001", "GTT")
    exchange.cancel(1)

    assert "FILLED" == body(exchange.change(asks=[(50_010, 2)]))["orders"][0]["status"]


def test_a_replacement_keeps_what_was_filled() -> None:
    """Same id, later block, larger size."""
    exchange = Exchange().open()
    exchange.order("BUY", "1.5", "50001", "GTT", client_id=7, good_til_block=1_010)
    exchange.change(bids=[(49_999, 1.5)])
    replaced, opened = bodies(
        exchange.order("BUY", "2", "50001", "GTT", client_id=7, good_til_block=1_011)
    )

    assert "ORDER_REMOVAL_REASON_REPLACED" == replaced["orders"][0]["removalReason"]
    assert ("BEST_EFFORT_OPENED", "2") == (
        opened["orders"][0]["status"], opened["orders"][0]["size"],
    )  # fmt: skip
    assert [] == exchange.change(bids=[(49_999, 1.6)])
    exchange.order("BUY", "3", "50001", "GTT", client_id=7, good_til_block=1_011)
    assert [] == exchange.change(bids=[(49_999, 1.7)])
    assert {"ErrInvalidReplacement": 1} == exchange.venue.refusals
    (done,) = body(exchange.change(asks=[(50_001, 0.7)]))["orders"]
    assert ("OPEN", "2", "1.7") == (done["status"], done["size"], done["totalFilled"])


def test_two_orders_of_one_id_in_one_moment_are_distinguished() -> None:
    """The second meets the first's fill and is refused; nothing breaks."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001", client_id=7)
    exchange.order("BUY", "0.5", "50001", client_id=7)

    done = body(exchange.change(bids=[(49_999, 1.6)]))

    assert ["FILLED"] == [order["status"] for order in done["orders"]]
    assert {"ErrInvalidReplacement": 1} == exchange.venue.refusals


def test_a_client_id_may_serve_again_after_its_block() -> None:
    """The chain forgets a filled short-term id once it cannot fill any more."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50001", client_id=7, good_til_block=1_002)
    exchange.change(bids=[(49_999, 1.6)])
    for _ in range(3):
        exchange.block()
        exchange.oracle(50_000)
    exchange.order("SELL", "0.5", "49999", client_id=7)

    assert "fills" in body(exchange.change(bids=[(49_999, 1.7)]))


# --- refusals


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tif": "FOK"}, "clob 48: ErrDeprecatedField"),
        ({"tif": "GTT", "reduce_only": True}, "clob 9003: ErrReduceOnlyDisabled"),
        ({"quantums": 1_500_000}, "clob 12: ErrInvalidPlaceOrder"),
        ({"subticks": 123}, "clob 12: ErrInvalidPlaceOrder"),
        ({"quantums": -1}, "clob 4: ErrInvalidOrderQuantums"),
        ({"subticks": -1}, "clob 6: ErrInvalidOrderSubticks"),
        ({"good_til_block": 0}, "clob 5: ErrInvalidOrderGoodTilBlock"),
        ({"good_til_block": 1_000}, "clob 10: ErrHeightExceedsGoodTilBlock"),
        ({"good_til_block": 1_042}, "clob 11: ErrGoodTilBlockExceedsShortBlockWindow"),
        ({"order_flags": 64}, "clob 3001: ErrInvalidStatefulOrderGoodTilBlockTime"),
        ({"order_flags": 64, "good_til_block_time": 5}, "clob 3002: ErrLongTermOrdersCannotRequireImmediateExecution"),
        ({"tif": "GTT", "order_flags": 64, "good_til_block_time": 5}, "clob 3003: ErrTimeExceedsGoodTilBlockTime"),
        (
            {"tif": "GTT", "order_flags": 64, "good_til_block_time": 2_000_000_000},
            "clob 3004: ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
        ),
        ({"condition_type": "STOP_LOSS"}, "clob 6000: ErrInvalidConditionType"),
        (
            {"tif": "GTT", "order_flags": 64, "good_til_block_time": 10**18},
            "clob 3001: ErrInvalidStatefulOrderGoodTilBlockTime",
        ),
        (
            {
                "order_flags": 128, "tif": "GTT", "good_til_block_time": 1_700_000_000,
                "twap_duration_s": 300, "twap_interval_s": 30,
            },
            "clob -1: ErrTwapOrderNotSimulated",
        ),
    ],
)  # fmt: skip
def test_what_the_chain_refuses_is_refused_with_its_reason(
    fields: dict[str, object], reason: str
) -> None:
    """An answer under the order's own id, at once, and nothing on the book."""
    exchange = Exchange().open()
    options = {"side": "BUY", "size": "0.5", "price": "50100"} | fields

    done = body(exchange.order(**options))  # type: ignore[arg-type]

    assert [("CANCELED", reason)] == [(o["status"], o["removalReason"]) for o in done["orders"]]
    assert {reason.partition(": ")[2]: 1} == exchange.venue.refusals


def test_a_closed_market_refuses() -> None:
    """Only what is open for trading takes orders."""
    exchange = Exchange().open()
    exchange.update("BTC-USD", status="PAUSED")

    assert "clob 34: ErrOrderConflictsWithClobPairStatus" in str(
        exchange.order("BUY", "0.5", "50100")
    )


def test_a_market_in_its_beginnings_takes_post_only_orders() -> None:
    """It gathers liquidity first; nothing trades until it is active."""
    exchange = Exchange().open()
    exchange.update("BTC-USD", status="INITIALIZING")

    assert "BEST_EFFORT_OPENED" in str(exchange.order("BUY", "0.5", "49000", "POST_ONLY"))
    assert [] == exchange.change(asks=[(48_999, 2)])
    assert [] == exchange.change(asks=[(48_998, 2)])
    exchange.update("BTC-USD", status="ACTIVE")
    assert "FILLED" in str(exchange.change(asks=[(48_998, 1)]))


def test_an_order_for_an_unknown_market_is_only_counted() -> None:
    """Nothing was received of it, so there is nothing to name the order by."""
    exchange = Exchange()
    exchange.state.views["BTC-USD"] = Exchange().open().state.views["BTC-USD"]

    frames = exchange.order("BUY", "0.5", "50100")

    assert ["subscribed"] == [frame.type for frame in frames]
    assert {"ErrInvalidClob": 1} == exchange.venue.refusals


def test_a_cancel_of_nothing_is_reported_without_an_end() -> None:
    """A short-term one, by all that is known of it; a stateful one is refused."""
    exchange = Exchange().open()
    exchange.cancel(5)
    exchange.cancel(5, order_flags=64, good_til_block=0, good_til_block_time=5)

    (order,) = body(exchange.change(bids=[(49_999, 1.5)]))["orders"]

    assert ("5", "BEST_EFFORT_CANCELED") == (order["clientId"], order["status"])
    assert {
        "id", "subaccountId", "clientId", "clobPairId", "status", "orderFlags", "ticker",
        "removalReason",
    } == set(order)  # fmt: skip


def test_a_taker_without_collateral_is_removed() -> None:
    """The chain lets it fail in matching: UNDERCOLLATERALIZED."""
    exchange = Exchange(deposit=1_000 * USDC).open()
    exchange.order("BUY", "1", "50100")

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert ("BEST_EFFORT_CANCELED", "ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED") == (
        done["orders"][0]["status"], done["orders"][0]["removalReason"],
    )  # fmt: skip


def test_an_unaffordable_order_fills_as_far_as_it_can() -> None:
    """Maker by maker, until one is too much: the rest is dropped, what was filled stands."""
    exchange = Exchange(deposit=3_000 * USDC).open()
    exchange.book([(49_999, 1)], [(50_001, 0.5), (50_002, 0.5), (50_003, 5)])
    exchange.order("BUY", "4", "50100")

    done = body(exchange.change(bids=[(49_998, 1)]))

    assert ["0.5", "0.5"] == [fill["size"] for fill in done["fills"]]
    assert ("CANCELED", "1", "ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED") == (
        done["orders"][0]["status"], done["orders"][0]["totalFilled"], done["orders"][0]["removalReason"],
    )  # fmt: skip


def test_an_order_that_the_isolated_rule_forbids_is_removed_for_that() -> None:
    """A cross position is held: the node answers 2005, the indexer names the rule."""
    exchange = Exchange().open()
    alone = {"clobPairId": "2", "id": "2", "marketType": "ISOLATED"}
    row = market_fields("ISO-USD", price="2000", **alone)
    exchange.see(exchange.wire.publish("v4_markets", {"trading": {"ISO-USD": row}}))
    exchange.oracle(2_000, "ISO-USD")
    exchange.book([(1_999, 5)], [(2_001, 5)], "ISO-USD")
    exchange.order("BUY", "0.1", "50100")
    exchange.change(bids=[(49_998, 1)])
    exchange.order("BUY", "1", "2010", ticker="ISO-USD")

    (order,) = body(exchange.book([(1_999, 5)], [(2_001, 5)], "ISO-USD"))["orders"]

    assert (
        "BEST_EFFORT_CANCELED", "ORDER_REMOVAL_REASON_VIOLATES_ISOLATED_SUBACCOUNT_CONSTRAINTS",
    ) == (order["status"], order["removalReason"])  # fmt: skip


def test_a_reduce_only_order_without_a_position_is_rejected() -> None:
    """2001, when it comes to matching."""
    exchange = Exchange().open()
    exchange.order("SELL", "1", "49000", reduce_only=True)

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    assert "clob 2001: ErrReduceOnlyWouldIncreasePositionSize" == done["orders"][0]["removalReason"]


def test_a_reduce_only_order_closes_no_more_than_the_position() -> None:
    """The rest is dropped as a resize."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.3", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.order("SELL", "1", "49000", reduce_only=True)

    done = body(exchange.change(bids=[(49_999, 1.6)]))

    assert ("CANCELED", "0.3", "ORDER_REMOVAL_REASON_REDUCE_ONLY_RESIZE") == (
        done["orders"][0]["status"], done["orders"][0]["totalFilled"], done["orders"][0]["removalReason"],
    )  # fmt: skip


# --- books that cannot be believed


def test_an_unknown_book_fills_nothing() -> None:
    """After a lost connection an IOC order finds nothing, and a limit order rests."""
    exchange = Exchange().open()
    exchange.lose()
    exchange.order("BUY", "0.1", "50100")
    exchange.order("BUY", "0.2", "50100", "GTT")

    exchange.state.chain.height += 1
    frames = exchange.venue.step(exchange.state.views["BTC-USD"])

    assert [("0.1", "BEST_EFFORT_CANCELED")] == [
        (order["size"], order["status"]) for order in body(frames)["orders"]
    ]
    filled = body(exchange.book([(49_999, 1)], [(50_050, 1)]))["fills"]
    assert [("50100", "MAKER")] == [(fill["price"], fill["liquidity"]) for fill in filled]


def test_an_order_that_never_met_a_book_expires() -> None:
    """It waited for a book until its block passed."""
    exchange = Exchange().open()
    exchange.lose()
    exchange.order("BUY", "0.2", "50100", "GTT", good_til_block=1_002)

    exchange.state.chain.height = 1_002
    frames = exchange.venue.step(exchange.state.views["BTC-USD"])

    assert "ORDER_REMOVAL_REASON_EXPIRED" == body(frames)["orders"][0]["removalReason"]


def test_a_level_off_the_grid_is_passed_over() -> None:
    """Nobody could have traded at it."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50100")

    done = body(exchange.change(asks=[("50000.5", 1)]))
    assert "50001" == done["fills"][0]["price"]

    exchange.order("BUY", "0.5", "49000", "GTT")
    exchange.change(asks=[("50000.5", 2)])
    assert [] == exchange.trade("SELL", "1", "48999.5")


# --- funding


def test_funding_is_owed_on_the_hour_and_paid_when_the_account_is_touched() -> None:
    """A long pays a positive rate: one part in 100,000 of its notional at the oracle price."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.block(second=HOUR - 1)
    assert [] == exchange.oracle(50_000)

    ledger, before = exchange.venue.ledger, exchange.venue.ledger.margin.net_collateral
    exchange.block(second=HOUR + 1)
    assert [] == exchange.oracle(50_000)
    assert (-500_000, 0) == (ledger.unsettled, ledger.paid.funding)
    assert before - 500_000 == ledger.margin.net_collateral

    exchange.order("SELL", "0.5", "49999")
    done = body(exchange.change(bids=[(49_999, 1.4)]))
    (position,) = done["perpetualPositions"]
    assert "-0.5" == position["netFunding"]
    assert (0, 500_000) == (ledger.unsettled, ledger.paid.funding)
    figures = exchange.venue.figures()
    assert figures.equity == 100_000 * USDC + figures.profit
    exchange.block(second=HOUR + 2)
    assert [] == exchange.oracle(50_000)


def test_a_transfer_settles_what_every_position_owes() -> None:
    """And reports it; a withdrawal that is refused touches nothing."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.block(second=HOUR + 1)
    exchange.oracle(50_000)

    assert [] == exchange.keep(exchange.venue.withdraw(10**15))
    assert -500_000 == exchange.venue.ledger.unsettled
    reported = body(exchange.keep(exchange.venue.deposit(USDC)))
    assert "-0.5" == reported["perpetualPositions"][0]["netFunding"]
    exchange.block(second=2 * HOUR + 1)
    exchange.oracle(50_000)
    reported = body(exchange.keep(exchange.venue.withdraw(USDC)))
    assert "-1" == reported["perpetualPositions"][0]["netFunding"]
    assert 0 == exchange.venue.ledger.unsettled


def test_a_rate_beyond_the_bound_is_clamped_and_an_unknown_one_not_paid() -> None:
    """The bound is six times what initial margin exceeds maintenance by, over eight hours."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.update("BTC-USD", nextFundingRate="0.5")

    assert [] == exchange.block(second=HOUR + 1) + exchange.oracle(50_000)

    assert -750 * USDC == exchange.venue.ledger.unsettled


def test_silence_about_funding_costs_nothing() -> None:
    """No rate was ever announced."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.state.views["BTC-USD"].funding = type(exchange.state.views["BTC-USD"].funding)()

    assert [] == exchange.block(second=HOUR + 1) + exchange.oracle(50_000)


def long_without_a_rate() -> Exchange:
    """Open an exchange on which an hour passed over 1 BTC while no rate was known."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])
    exchange.state.views["BTC-USD"].funding = type(exchange.state.views["BTC-USD"].funding)()
    assert [] == exchange.block(second=HOUR + 1) + exchange.oracle(50_000)
    assert {"BTC-USD": 1} == exchange.venue.funding_owed
    return exchange


def test_an_hour_whose_rate_is_unknown_counts_once_it_is_known() -> None:
    """It was owed, not forgiven."""
    exchange = long_without_a_rate()
    assert [] == exchange.oracle(50_000)

    exchange.update("BTC-USD", nextFundingRate="0.00001")

    assert ({}, -500_000) == (exchange.venue.funding_owed, exchange.venue.ledger.unsettled)


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_position_that_changes_while_it_owes_pays_the_most(side: str) -> None:
    """What was held then is forgotten with the fill, and the unknown counts as danger."""
    exchange = long_without_a_rate()
    exchange.order(side, "0.5", "50010" if side == "BUY" else "49999")

    exchange.change(bids=[(49_998, 1)])

    assert ({}, 750 * USDC) == (exchange.venue.funding_owed, exchange.venue.ledger.paid.funding)


def test_an_hour_without_an_oracle_price_is_owed_too() -> None:
    """The next price shows how much."""
    exchange = Exchange().open()
    exchange.order("SELL", "1", "49999")
    exchange.change(asks=[(50_001, 1.5)])
    exchange.state.views["BTC-USD"].oracle = None
    exchange.block(second=HOUR + 1)
    exchange.change(asks=[(50_001, 1.6)])

    exchange.oracle(50_000)
    assert 500_000 == exchange.venue.ledger.unsettled


# --- transfers and what fills cost besides


def test_deposits_and_withdrawals_are_reported_as_the_indexer_does() -> None:
    """A wallet at one end, the subaccount at the other, and the balance after."""
    exchange = Exchange().open()
    reported = body(exchange.keep(exchange.venue.deposit(500 * USDC)))

    transfer = reported["transfers"]
    assert ("DEPOSIT", "500", "USDC", {"address": "dydx1paper"}, 0) == (
        transfer["type"], transfer["size"], transfer["symbol"], transfer["sender"],
        transfer["recipient"]["subaccountNumber"],
    )  # fmt: skip
    assert "100500" == reported["assetPositions"][0]["size"]
    reported = body(exchange.keep(exchange.venue.withdraw(100_500 * USDC)))
    assert ("WITHDRAWAL", 0) == (
        reported["transfers"]["type"], reported["transfers"]["sender"]["subaccountNumber"],
    )  # fmt: skip
    assert "0" == reported["assetPositions"][0]["size"]
    for frame in exchange.frames:
        assert contents(frame)


def test_what_collateral_needs_cannot_be_withdrawn() -> None:
    """Nothing moves, and the refusal is counted."""
    exchange = leveraged()

    assert [] == exchange.venue.withdraw(1_000 * USDC)
    assert {"UNDERCOLLATERALIZED": 1} == exchange.venue.refusals
    assert 3_000 * USDC == exchange.venue.ledger.equity


def test_an_account_just_worth_less_than_nothing_may_not_withdraw() -> None:
    """Its pool is closed for fifty blocks."""
    exchange = leveraged()
    exchange.book([(40_000, 5)], [(48_600, 1)])
    exchange.oracle(46_000)
    exchange.venue.deposit(100 * USDC)

    assert [] == exchange.venue.withdraw(1)
    assert {"BLOCKED": 1} == exchange.venue.refusals
    exchange.order("BUY", "0.0001", "1", "GTT")
    exchange.block(height=exchange.height + 51)
    exchange.oracle(46_000)
    assert exchange.venue.withdraw(1)


def test_what_happened_in_an_isolated_pool_closes_no_other() -> None:
    """What is left after the isolated position is gone is of the shared pool, which saw nothing."""
    exchange = leveraged()
    exchange.update("BTC-USD", marketType="ISOLATED")
    exchange.book([(40_000, 5)], [(48_600, 1)])
    exchange.oracle(46_000)
    exchange.venue.deposit(100 * USDC)

    assert exchange.venue.ledger.holdings == {}
    assert exchange.venue.withdraw(1)


def test_a_deposit_opens_the_account_and_must_be_one() -> None:
    """Before any view, with the snapshot first; of nothing it is a mistake."""
    venue = PaperVenue(OWNER, 0)

    snapshot, balance, transfer = bodies(venue.deposit(1))
    assert ({}, "0.000001", "DEPOSIT") == (
        snapshot, balance["assetPositions"][0]["size"], transfer["transfers"]["type"],
    )  # fmt: skip
    with pytest.raises(PaperError, match="expected a deposit above 0"):
        venue.deposit(0)
    assert ["subscribed"] == [frame.type for frame in PaperVenue(OWNER, 0).withdraw(1)]


def test_a_builder_is_paid_on_top() -> None:
    """Separate from the venue's fee, taken with it from the balance."""
    exchange = Exchange().open()
    builder: dict[str, Any] = {"builder_address": BUILDER, "builder_fee_ppm": 1_000}
    exchange.order("BUY", "0.5", "50001", **builder)

    done = body(exchange.change(bids=[(49_999, 1.5)]))

    (fill,) = done["fills"]
    assert ("12.50025", "25.0005") == (fill["fee"], fill["builderFee"])
    ledger = exchange.venue.ledger
    assert (37_500_750, 25_000_500) == (ledger.paid.fees, ledger.paid.builder)


BUILDER = "dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5"


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_fill_is_judged_by_the_open_interest_it_makes(side: str) -> None:
    """At the lower cap every new contract raises the margin of all of them."""
    exchange = Exchange(deposit=10_000 * USDC).open()
    caps = {"openInterestLowerCap": "5000000", "openInterestUpperCap": "5100000"}
    exchange.update("BTC-USD", **caps)
    assert exchange.market().open_interest_upper_cap
    exchange.order(side, "1", "50001" if side == "BUY" else "49999")

    done = body(exchange.change(bids=[(49_990, 1.5)]))

    assert "ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED" == done["orders"][0]["removalReason"]
    assert 10_000 * USDC == exchange.venue.ledger.collateral


def test_what_was_taken_is_forgotten_with_its_levels() -> None:
    """A venue that trades for a year remembers no more than the books of today."""
    exchange = Exchange(deposit=10_000_000 * USDC).open()
    for number in range(300):
        price = 50_001 + number
        exchange.order("BUY", "0.0001", str(price))
        exchange.book([(49_999, 1)], [(price, 1)])

    assert 300 == exchange.venue.ledger.tally.fills
    assert len(exchange.venue.markets["BTC-USD"].crowd._taken) <= 257


def test_the_ledger_remembers_orders_fills_and_hours() -> None:
    """What is queried later, under the indexer's ids."""
    exchange = Exchange().open()
    exchange.order("BUY", "1", "50001")
    done = body(exchange.change(bids=[(49_999, 1.5)]))
    exchange.block(second=HOUR + 1)
    exchange.oracle(50_000)
    exchange.order("BUY", "1", "50001", "FOK")

    history = exchange.venue.ledger.history
    assert ["CANCELED", "FILLED"] == [order.status for order in history.orders().rows]
    assert "clob 48: ErrDeprecatedField" == history.orders().rows[0].reason
    (fill,) = history.fills(order_id=done["orders"][0]["id"]).rows
    assert (done["fills"][0]["id"], "TAKER") == (fill.id, fill.liquidity)
    assert 1 == history.pnl().total == history.payments().total


# --- liquidation


def leveraged(
    size: str = "1", deposit: int = 3_000 * USDC, side: str = "BUY", **options: Any
) -> Exchange:
    """Open an exchange on which the account has bought BTC at 50,000 with little collateral."""
    venue = PaperVenue(OWNER, 10_000 * USDC, fees=Fees(taker_ppm=0), **options)
    exchange = Exchange(venue).open()
    exchange.order(side, size, "50000")
    exchange.book(
        *(([(49_900, 1)], [(50_000, 1)]) if side == "BUY" else ([(50_000, 1)], [(50_100, 1)]))
    )
    venue.ledger.deposit(deposit - 10_000 * USDC)
    return exchange


def test_a_breach_of_maintenance_liquidates_a_part() -> None:
    """A tenth of the position, at the book, LIQUIDATED, without a taker fee."""
    exchange = leveraged()
    exchange.book([(48_400, 5)], [(48_600, 1)])
    assert [] == exchange.oracle(48_500)

    done = body(exchange.oracle(48_400))

    (fill,) = done["fills"]
    assert ("SELL", "0.1", "48400", "TAKER", "LIQUIDATED", None) == (
        fill["side"], fill["size"], fill["price"], fill["liquidity"], fill["type"], fill["orderId"],
    )  # fmt: skip
    # 1,400 USDC of collateral over 1,452 of margin: the share that 0.1 BTC releases is 140.
    assert "72.6" == fill["fee"]
    assert "0.9" == done["perpetualPositions"][0]["size"]
    figures = exchange.venue.figures()
    assert (1, 72_600_000, 0) == (figures.liquidations, figures.insurance_paid, figures.fees_paid)


def test_a_position_is_liquidated_once_a_block() -> None:
    """The next block goes on while the account is in breach."""
    exchange = leveraged()
    exchange.book([(48_000, 5)], [(48_600, 1)])
    assert "fills" in body(exchange.oracle(48_000))
    assert [] == exchange.oracle(47_999)

    exchange.block()

    assert "fills" in body(exchange.oracle(48_000))


def test_a_short_is_liquidated_at_the_asks() -> None:
    """The same, the other way."""
    exchange = leveraged(side="SELL")
    exchange.book([(51_000, 5)], [(51_600, 1)])

    done = body(exchange.oracle(51_600))

    assert ("BUY", "51600") == (done["fills"][0]["side"], done["fills"][0]["price"])


def test_a_margin_fraction_that_rises_can_breach() -> None:
    """The chain's parameters change under an open position, and it is judged by the new ones."""
    exchange = Exchange(deposit=4_000 * USDC).open()
    exchange.order("BUY", "1", "50001")
    exchange.change(bids=[(49_999, 1.5)])

    made = exchange.update("BTC-USD", initialMarginFraction="0.2", maintenanceMarginFraction="0.1")

    assert "LIQUIDATED" == body(made)["fills"][0]["type"]


def test_a_small_position_is_liquidated_whole() -> None:
    """Under 1,000 USDC all of it goes."""
    exchange = leveraged("0.01", 15 * USDC)
    exchange.book([(48_000, 5)], [(48_600, 1)])

    done = body(exchange.oracle(48_500))

    assert ("CLOSED", "0") == (
        done["perpetualPositions"][0]["status"], done["perpetualPositions"][0]["size"],
    )  # fmt: skip


def test_without_a_buyer_at_the_fillable_price_nothing_is_liquidated() -> None:
    """The book is too far away; the account stays in breach."""
    exchange = leveraged()
    exchange.book([(40_000, 5)], [(48_600, 1)])

    assert [] == exchange.oracle(48_400)


def test_a_bankrupt_account_without_a_buyer_is_deleveraged() -> None:
    """At the bankruptcy price: nothing is left and nothing is owed."""
    exchange = leveraged()
    exchange.book([(40_000, 5)], [(48_600, 1)])

    done = body(exchange.oracle(46_000))

    (fill,) = done["fills"]
    assert ("DELEVERAGED", "1", "47000", "0") == (
        fill["type"], fill["size"], fill["price"], fill["fee"],
    )  # fmt: skip
    ledger = exchange.venue.ledger
    assert (0, 0) == (ledger.collateral, ledger.tally.liquidations)


def test_a_bankrupt_account_with_a_buyer_is_paid_for_by_the_insurance_fund() -> None:
    """The fund makes up for what the book paid under the bankruptcy price."""
    exchange = leveraged("0.01", 15 * USDC)
    exchange.book([(48_000, 5)], [(48_600, 1)])

    exchange.oracle(48_200)

    ledger = exchange.venue.ledger
    assert (-5 * USDC, 0) == (ledger.paid.insurance, ledger.collateral)
    assert {"insurance-fund": 999_995 * USDC} == exchange.venue.insurance.balances


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"insurance_fund": 5 * USDC}, 0),
        ({"insurance_fund": None}, -5 * USDC),
        ({"insurance_fund": 5 * USDC - 1}, None),
        ({"terms": LiquidationTerms(max_subaccount_insurance_lost=5 * USDC)}, 999_995 * USDC),
        ({"terms": LiquidationTerms(max_subaccount_insurance_lost=5 * USDC - 1)}, None),
    ],
)
def test_what_the_fund_cannot_or_may_not_pay_is_deleveraged(
    options: dict[str, Any], left: int | None
) -> None:
    """At the bankruptcy price, without a fee: the account ends at nothing, the fund is whole."""
    exchange = leveraged("0.01", 15 * USDC, **options)
    exchange.book([(48_000, 5)], [(48_600, 1)])
    before = dict(exchange.venue.insurance.balances)

    (fill,) = body(exchange.oracle(48_200))["fills"]

    ledger, after = exchange.venue.ledger, exchange.venue.insurance.balances
    if left is None:
        assert ("DELEVERAGED", "48500", "0") == (fill["type"], fill["price"], fill["fee"])
        assert (0, before) == (ledger.paid.insurance, after)
    else:
        assert ("LIQUIDATED", "48000", "-5") == (fill["type"], fill["price"], fill["fee"])
        assert {"insurance-fund": left} == after
    assert (0, {}) == (ledger.collateral, ledger.holdings)


def test_an_account_worth_something_is_not_deleveraged() -> None:
    """The fund cannot pay and the match fails: it stays in breach, and nothing happens to it."""
    exchange = leveraged("0.01", 15 * USDC, insurance_fund=4 * USDC)
    exchange.book([(48_000, 5)], [(48_700, 1)])

    assert [] == exchange.oracle(48_600)
    assert exchange.venue.ledger.breached
    assert {"insurance-fund": 4 * USDC} == exchange.venue.insurance.balances


@pytest.mark.parametrize(("most", "paid"), [(50, 95), (49, 0)])
def test_a_block_loses_up_to_its_limit_of_the_fund(most: int, paid: int) -> None:
    """The next block may lose as much again."""
    terms = LiquidationTerms(max_subaccount_insurance_lost=most * USDC)
    exchange = leveraged("1", 1_000 * USDC, terms=terms)
    exchange.book([(40_000, 5)], [(49_200, 1)])
    exchange.change(bids=[(48_500, 5)])

    for oracle in (49_100, 49_101):
        exchange.block()
        exchange.oracle(oracle)

    assert paid == exchange.venue.ledger.paid.insurance // -USDC


def test_a_fee_for_a_liquidation_raises_the_fund() -> None:
    """As much as the account pays."""
    exchange = leveraged()
    exchange.book([(48_400, 5)], [(48_600, 1)])

    exchange.oracle(48_400)

    assert {"insurance-fund": 1_000_072_600_000} == exchange.venue.insurance.balances


def test_an_isolated_market_has_a_fund_of_its_own() -> None:
    """It opens empty, however rich the shared one is."""
    exchange = leveraged("0.01", 15 * USDC)
    exchange.update("BTC-USD", marketType="ISOLATED")
    exchange.book([(48_000, 5)], [(48_600, 1)])

    (fill,) = body(exchange.oracle(48_200))["fills"]

    assert "DELEVERAGED" == fill["type"]
    exchange = leveraged()
    exchange.update("BTC-USD", marketType="ISOLATED")
    exchange.book([(48_400, 5)], [(48_600, 1)])
    exchange.oracle(48_400)
    assert 72_600_000 == exchange.venue.insurance.balances["insurance-fund:0"]
    assert 1_000_000 * USDC == exchange.venue.insurance.balances["insurance-fund"]


def test_a_fund_below_nothing_cannot_be() -> None:
    """Nobody owes it."""
    with pytest.raises(LedgerError, match="expected an insurance fund of 0 or more"):
        PaperVenue(OWNER, 0, insurance_fund=-1)


# --- final settlement


@pytest.mark.parametrize(
    ("side", "oracle", "price", "quote", "left"),
    [
        ("BUY", "48400.123456789", "48400.123456", "48400.123456", 1_400_123_456),
        ("BUY", "47000", "47000", "47000", 0),
        ("BUY", "46000", "47000", "47000", 0),
        ("SELL", "51600", "51600", "51600", 1_400_000_000),
        ("SELL", "54000", "53000", "53000", 0),
    ],
)
def test_a_market_that_is_finally_settled_closes_its_positions(
    side: str, oracle: str, price: str, quote: str, left: int
) -> None:
    """At the oracle price, or at the bankruptcy price of an account worth less than nothing."""
    exchange = leveraged(side=side)
    exchange.book([], [])

    done = body(finally_settle(exchange, oracle))

    (fill,), (position,) = done["fills"], done["perpetualPositions"]
    assert ("DELEVERAGED", price, "0") == (fill["type"], fill["price"], fill["fee"])
    assert quote == fill["quoteAmount"]
    assert ("CLOSED", "0") == (position["status"], position["size"])
    ledger = exchange.venue.ledger
    assert (left, 0, 0) == (ledger.collateral, ledger.paid.insurance, ledger.paid.fees)
    assert [] == exchange.oracle(45_000)


def finally_settle(exchange: Exchange, oracle: str) -> list[Frame]:
    """End the BTC market and move its oracle price, in one message."""
    settled = {"trading": {"BTC-USD": {"status": "FINAL_SETTLEMENT"}}}
    prices = {"oraclePrices": {"BTC-USD": {"oraclePrice": oracle}}}
    return exchange.see(exchange.wire.publish("v4_markets", settled | prices))


def test_a_final_settlement_ends_all_orders_of_its_market() -> None:
    """Those that rest, wait for a block or for a price; what is still on its way is refused."""
    exchange = Exchange().open()
    until = exchange.at // 1_000_000_000 + 300
    stateful: dict[str, Any] = {"good_til_block": 0, "good_til_block_time": until}
    exchange.order("BUY", "0.1", "49000", "GTT")
    exchange.order("SELL", "0.5", "2100", "GTT", ticker="ETH-USD")
    exchange.order(
        "SELL", "0.1", "40000", "IOC", order_flags=32, condition_type="STOP_LOSS",
        trigger_subticks=exchange.market().subticks("45000"), **stateful,
    )  # fmt: skip
    exchange.order("BUY", "0.1", "48000", "GTT", order_flags=64, **stateful)
    exchange.book([(1_999, 1)], [(2_001, 1)], ticker="ETH-USD")
    exchange.change(bids=[(49_998, 1)])

    done = body(exchange.update("BTC-USD", status="FINAL_SETTLEMENT"))

    assert [("BEST_EFFORT_CANCELED", "0"), ("CANCELED", "64"), ("CANCELED", "32")] == [
        (order["status"], order["orderFlags"]) for order in done["orders"]
    ]
    reasons = {order["removalReason"] for order in done["orders"]}
    assert {"ORDER_REMOVAL_REASON_FINAL_SETTLEMENT"} == reasons
    assert not exchange.venue.markets["BTC-USD"].busy
    assert exchange.venue.markets["ETH-USD"].busy


def test_an_order_on_its_way_to_a_settled_market_is_refused() -> None:
    """The chain takes none there any more."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.1", "50100", "GTT")
    assert [] == exchange.update("BTC-USD", status="FINAL_SETTLEMENT")

    done = body(exchange.change(bids=[(49_998, 1)]))

    (order,) = done["orders"]
    assert "CANCELED" == order["status"]
    assert "clob 34: ErrOrderConflictsWithClobPairStatus" == order["removalReason"]


def test_a_final_settlement_waits_until_the_account_can_be_valued() -> None:
    """At which price depends on what all of it is worth."""
    exchange = leveraged(deposit=10_000 * USDC)
    exchange.order("BUY", "1", "2000", ticker="ETH-USD")
    exchange.book([(1_999, 50)], [(2_000, 25)], "ETH-USD")
    ledger = exchange.venue.ledger
    ledger.worth.parts.pop("ETH-USD")
    ledger.worth._total = None
    assert [] == exchange.update("BTC-USD", status="FINAL_SETTLEMENT")

    exchange.oracle(2_001, "ETH-USD")
    done = body(exchange.oracle(50_001))

    assert [("DELEVERAGED", "50001")] == [(f["type"], f["price"]) for f in done["fills"]]
    assert {"ETH-USD"} == set(ledger.holdings)


def test_who_is_settled_below_nothing_may_not_withdraw() -> None:
    """Its pool has just seen an account worth less than nothing."""
    exchange = leveraged()
    exchange.book([], [])
    finally_settle(exchange, "46000")
    exchange.venue.deposit(100 * USDC)

    assert [] == exchange.venue.withdraw(1)
    assert {"BLOCKED": 1} == exchange.venue.refusals


def test_an_unknown_book_liquidates_nothing() -> None:
    """Nobody knows at what."""
    exchange = leveraged()
    exchange.lose()
    view = exchange.state.views["BTC-USD"]
    exchange.venue.ledger.value("BTC-USD", 40_000, 0)

    assert [] == exchange.venue.step(view)


def test_a_block_liquidates_up_to_its_limit() -> None:
    """What one block may take from one subaccount is bounded, over all its positions."""
    terms = LiquidationTerms(max_subaccount_notional=4_000 * USDC)
    venue = PaperVenue(OWNER, 10_000 * USDC, fees=Fees(taker_ppm=0), terms=terms)
    exchange = Exchange(venue).open()
    exchange.order("BUY", "1", "50000")
    exchange.book([(47_000, 5)], [(50_000, 1)])
    exchange.order("BUY", "25", "2000", ticker="ETH-USD")
    exchange.book([(1_999, 50)], [(2_000, 25)], "ETH-USD")
    venue.ledger.deposit(-4_000 * USDC)

    done = body(exchange.oracle(46_800))

    assert {"LIQUIDATED"} == {fill["type"] for fill in done["fills"]}
    assert 0 < sum(float(fill["quoteAmount"]) for fill in done["fills"]) <= 4_100


# --- wire


def test_fees_may_be_chosen_and_rebates_round_in_the_venues_favour() -> None:
    """A maker rebate is a negative fee."""
    exchange = Exchange(
        PaperVenue(OWNER, 100_000 * USDC, fees=Fees(taker_ppm=0, maker_ppm=-110))
    ).open()
    exchange.order("BUY", "0.5", "49999", "GTT")
    exchange.change(asks=[(50_010, 1)])

    part = body(exchange.change(bids=[(49_999, 0), (49_990, 0)], asks=[(49_999, 0.5)]))

    assert "-2.749945" == part["fills"][0]["fee"]


def test_the_fee_tier_follows_the_volume_of_thirty_days() -> None:
    """From the block after the fill that reached it, until the month has passed."""
    exchange = Exchange(deposit=10_000_000 * USDC).open()
    exchange.book([(49_999, 99)], [(50_001, 99)])

    fees = [taker_ppm(exchange, "BUY", "20"), taker_ppm(exchange, "SELL", "20")]
    exchange.block()
    fees.append(taker_ppm(exchange, "BUY", "1"))
    exchange.block(second=29 * 86_400)
    fees.append(taker_ppm(exchange, "SELL", "1"))
    exchange.block(second=31 * 86_400)
    fees.append(taker_ppm(exchange, "BUY", "1"))

    assert [500, 500, 450, 450, 500] == fees
    assert "1" == getattr(exchange.venue.fees, "name", None)


def test_no_volume_of_its_own_earns_a_share_of_everybodys() -> None:
    """What all the others trade is not known: the tiers that require a share stay closed."""
    exchange = Exchange(deposit=1_000_000_000 * USDC).open()
    exchange.book([(49_999, 9_000)], [(50_001, 9_000)])
    taker_ppm(exchange, "BUY", "8000")
    exchange.block()

    assert 300 == taker_ppm(exchange, "SELL", "8000")


def test_fees_that_were_chosen_stay() -> None:
    """Whatever is traded, and before anything is."""
    venue = PaperVenue(OWNER, 10_000_000 * USDC, fees=Fees(taker_ppm=300))
    exchange = Exchange(venue).open()
    exchange.book([(49_999, 99)], [(50_001, 99)])
    taker_ppm(exchange, "BUY", "30")
    exchange.block()

    assert 300 == taker_ppm(exchange, "SELL", "30")
    assert "1" == getattr(PaperVenue(OWNER, 0).fees, "name", None)


def taker_ppm(exchange: Exchange, side: str, size: str) -> int:
    """Trade at the best price and return what it cost, in parts per million."""
    exchange.order(side, size, "50001" if side == "BUY" else "49999")
    fills = exchange.venue.ledger.history.fills
    known = fills().total
    exchange.change(bids=[(49_000 + exchange.seq, 1)])
    (fill,) = fills(limit=fills().total - known).rows
    return round(fill.fee * 1_000_000 / abs(fill.quote))


def test_the_same_events_give_the_same_bytes() -> None:
    """Ids, times and figures come from the frames alone."""

    def run() -> list[str]:
        exchange = Exchange().open()
        exchange.order("BUY", "1.5", "50010", "GTT")
        exchange.change(bids=[(49_998, 1)])
        exchange.order("SELL", "0.7", "49000")
        exchange.block(second=HOUR + 1)
        exchange.oracle(50_000)
        return [frame.text for frame in exchange.frames]

    assert run() == run()


def test_every_frame_names_the_frame_that_caused_it() -> None:
    """Its seq and time are those of the newest view; its messages count."""
    exchange = Exchange().open()
    made = exchange.order("BUY", "1.5", "50010")

    filled = exchange.change(bids=[(49_998, 1)])

    assert exchange.seq - 1 == made[0].seq
    assert {exchange.seq} == {frame.seq for frame in filled}
    assert [1, 2, 3, 4, 5] == [frame.message_id for frame in exchange.frames]


# --- what comes together, late, or not at all


def test_a_hedged_account_is_judged_when_all_prices_of_a_frame_have_moved() -> None:
    """As on the chain, whichever of them the frame names first."""
    for tickers in (["BTC-USD", "ETH-USD"], ["ETH-USD", "BTC-USD"]):
        exchange = Exchange(PaperVenue(OWNER, 5_500 * USDC)).open()
        exchange.book([(1_999.9, 100), (1_990, 100)], [(2_000.1, 100)], "ETH-USD")
        exchange.order("BUY", "1", "50010")
        exchange.change(bids=[(49_998, 1)])
        exchange.order("SELL", "25", "1990", ticker="ETH-USD")
        exchange.change(bids=[(1_999.8, 1)], ticker="ETH-USD")
        fallen = {"BTC-USD": {"oraclePrice": "46000"}, "ETH-USD": {"oraclePrice": "1840"}}

        prices = {ticker: fallen[ticker] for ticker in tickers}
        exchange.see(exchange.wire.publish("v4_markets", {"oraclePrices": prices}))

        ledger = exchange.venue.ledger
        assert (0, False) == (ledger.tally.liquidations, ledger.breached)
        assert {"BTC-USD", "ETH-USD"} == set(ledger.holdings)


@pytest.mark.parametrize("eth", ["0", "40"])
def test_a_liquidation_never_flips_what_our_own_order_has_closed(eth: str) -> None:
    """The book ran over it while the market was paused: it fills first."""
    exchange = Exchange(PaperVenue(OWNER, (9_000 if eth != "0" else 5_500) * USDC)).open()
    exchange.book([(1_999.9, 100), (1_990, 100)], [(2_000.1, 100)], "ETH-USD")
    exchange.order("BUY", "1", "50010")
    exchange.change(bids=[(49_998, 1)])
    if eth != "0":
        exchange.order("BUY", eth, "2010", ticker="ETH-USD")
        exchange.change(bids=[(1_999.8, 1)], ticker="ETH-USD")
    exchange.book([(46_400, 5)], [(46_500, 5)])
    exchange.order("SELL", "1", "46450", tif="GTT")
    exchange.change(bids=[(46_399, 1)])
    exchange.update("BTC-USD", status="PAUSED")
    exchange.book([(46_460, 5)], [(46_500, 5)])
    if eth != "0":
        exchange.oracle(1_900, "ETH-USD")
    exchange.oracle(45_000)

    exchange.update("BTC-USD", status="ACTIVE")

    assert 0 == exchange.venue.ledger.position("BTC-USD")


def test_an_order_that_ends_while_nothing_happens_is_reported_by_the_next_one() -> None:
    """A quiet market processes no blocks."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.1", "49000", "GTT", good_til_block=exchange.height + 1)
    exchange.change(bids=[(49_998, 1)])
    exchange.block()
    exchange.block()

    reported = body(exchange.order("BUY", "0.1", "48000", "GTT"))

    assert ["BEST_EFFORT_OPENED", "CANCELED"] == [row["status"] for row in reported["orders"]]
    assert "ORDER_REMOVAL_REASON_EXPIRED" == reported["orders"][1]["removalReason"]


def test_hours_are_marked_while_nothing_is_held() -> None:
    """What was won or lost between two of them is in the course of the account."""
    exchange = Exchange().open()
    for _ in range(3):
        exchange.order("BUY", "1", "50010")
        exchange.change(bids=[(49_000, 1)])
        exchange.order("SELL", "1", "48000", reduce_only=True)
        exchange.change(bids=[(48_999, 1)])
        exchange.book([(49_000, 5)], [(50_001, 5)])
        for _ in range(14):  # until nothing waits for the tape any more
            exchange.trade("BUY", "0.001", "50001")
        exchange.block(second=exchange.second + 3_600)
        exchange.oracle(50_000)

    ledger = exchange.venue.ledger
    assert not ledger.holdings
    assert 3 == len(ledger.history.points)
    assert performance(ledger).max_drawdown > 0


def test_withdrawals_are_free_again_fifty_blocks_after_though_nobody_traded() -> None:
    """Blocks go by unseen while nothing is at stake."""
    exchange = Exchange(PaperVenue(OWNER, 2_500 * USDC, insurance_fund=0)).open()
    exchange.order("BUY", "0.8", "50010")
    exchange.change(bids=[(49_000, 1)])
    exchange.book([(30_000, "0.001")], [(50_001, 1)])
    exchange.oracle(40_000)
    exchange.venue.deposit(1_000 * USDC)
    assert [] == exchange.venue.withdraw(500 * USDC)

    for _ in range(60):
        exchange.block()
        exchange.oracle(40_000)

    assert [] != exchange.venue.withdraw(500 * USDC)


def test_an_old_trade_of_a_snapshot_triggers_nothing() -> None:
    """The chain looks at the trades of its block."""
    exchange = Exchange().open(second=1_000)
    exchange.order("BUY", "0.1", "50010")
    exchange.change(bids=[(49_998, 1)])
    exchange.order(
        "SELL", "0.1", "49000", "IOC", order_flags=32, condition_type="STOP_LOSS",
        trigger_subticks=exchange.market().subticks("49800"), good_til_block=0,
        good_til_block_time=exchange.at // 1_000_000_000 + 90_000, reduce_only=True,
    )  # fmt: skip
    exchange.change(bids=[(49_997, 1)])
    exchange.block()
    trade = {
        "id": "old", "side": "SELL", "size": "0.1", "price": "49700", "type": "LIMIT",
        "createdAt": iso(100), "createdAtHeight": "400",
    }  # fmt: skip

    exchange.see(exchange.wire.trades("BTC-USD", trade, snapshot=True))
    exchange.block()
    exchange.change(bids=[(49_995, 1)])

    assert 10**9 == exchange.venue.ledger.position("BTC-USD")


@pytest.mark.parametrize(
    "terms", [{"condition_type": "X"}, {"order_flags": 64, "good_til_block_time": -(10**15)}]
)
def test_what_no_order_can_be_is_refused_in_words(terms: dict[str, Any]) -> None:
    """And nothing is raised."""
    exchange = Exchange().open()

    exchange.order("BUY", "0.1", "50010", **terms)

    assert 1 == sum(exchange.venue.refusals.values())


def test_what_a_step_returns_is_the_callers() -> None:
    """Who adds to it adds to nothing that comes later."""
    exchange = Exchange().open()
    view = exchange.state.views["BTC-USD"]

    exchange.venue.step(view).append(exchange.wire.message("connected"))

    assert exchange.venue.step(view) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["price", "other", "book", "block", "trade", "buy", "sell", "rest"]),
        st.integers(-40, 40),
    ),
    min_size=4, max_size=30,
)  # fmt: skip


@settings(max_examples=25)
@given(steps=STEPS)
def test_a_view_that_is_passed_over_would_have_changed_nothing(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever happens meanwhile, a venue that looks closely at every view reports the same."""
    runs = []
    for looks in (False, True):
        exchange = leveraged()
        if looks:
            exchange.venue._pass = lambda view: False  # type: ignore[method-assign]
        for what, much in steps:
            _go_on(exchange, what, 50_000 + 50 * much)
        runs.append((exchange.frames, exchange.venue.state, exchange.venue.refusals))

    assert runs[0] == runs[1]


def _go_on(exchange: Exchange, what: str, price: int) -> None:
    if what == "price":
        exchange.oracle(price)
    elif what == "other":
        exchange.oracle(price // 25, "ETH-USD")
    elif what == "book":
        exchange.book([(price - 1, 1)], [(price + 1, 1)])
    elif what == "block":
        exchange.block()
    elif what == "trade":
        exchange.trade("BUY", "0.5", price)
    elif what == "rest":
        exchange.order("BUY", "0.1", str(price), tif="GTT")
    else:
        exchange.order(what.upper(), "0.2", str(price))


# === What it need not look at ===

NEVER_DUE = 2**63


def test_a_venue_at_rest_is_concerned_by_no_market() -> None:
    """Every view matters until the account is reported; then none, until something is sent."""
    exchange = Exchange()
    assert exchange.venue.concerns() == ((), 0)

    exchange.open()
    assert exchange.venue.concerns() == ((), NEVER_DUE)
    exchange.order("BUY", "0.5", "50100")
    exchange.oracle("2001", "ETH-USD")
    assert exchange.venue.concerns() == ({"BTC-USD"}, NEVER_DUE)


def test_a_fill_that_is_still_to_be_borne_out_concerns_it() -> None:
    """Trades of its market may bear it out, until its time is over."""
    exchange = Exchange().open()
    exchange.order("BUY", "0.5", "50100")
    exchange.change(bids=[(49_999, 2)])

    filled_at = exchange.state.at
    assert exchange.venue.concerns() == ({"BTC-USD"}, filled_at + exchange.venue.optimism.window_ns)


def test_an_account_in_breach_is_concerned_by_every_view() -> None:
    """It is liquidated as soon as its market matches again."""
    exchange = Exchange(deposit=6_000 * USDC).open()
    exchange.order("BUY", "0.9", "50100")
    exchange.change(bids=[(49_999, 2)])
    exchange.change(bids=[(49_999, 0), (49_990, 0)], asks=[(50_001, 0), (50_010, 0)])
    exchange.block()
    exchange.oracle("44000")

    assert exchange.venue.ledger.breached
    assert exchange.venue.concerns() == ((), 0)


def test_what_was_passed_over_still_moves_time_on() -> None:
    """An order is on its way from the newest view, whether or not it was looked at."""
    looked, passed = Exchange().open(), Exchange().open()
    for exchange in (looked, passed):
        exchange.second += 5
        view = exchange.state.views["ETH-USD"]
        view.at += 5_000_000_000
    looked.venue.step(looked.state.views["ETH-USD"])
    passed.venue.pass_over(passed.state.views["ETH-USD"])

    for exchange in (looked, passed):
        exchange.order("BUY", "0.5", "50100")
    markets = [exchange.venue.markets["BTC-USD"] for exchange in (looked, passed)]
    assert markets[0].inbox[0][0] == markets[1].inbox[0][0] == looked.state.views["ETH-USD"].at
