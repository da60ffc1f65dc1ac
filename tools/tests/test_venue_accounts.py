"""What the venue's accounts may do, order by order, without sockets."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from dydx_conn import CancelRequest, OrderRequest, Subaccount
from dydx_paper import subaccount_fields
from v4_proto.dydxprotocol.clob import order_pb2, tx_pb2
from v4_proto.dydxprotocol.subaccounts import subaccount_pb2

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

import authenticators  # the folder's modules are siblings
from accounts import Wallet
from exchange import Exchange, Silence, VenueSettings
from indexer import payment_row
from node import BlockRates
from residents import address_of_resident
from tape import SECOND_NS, decimal_text, from_iso

START_NS = from_iso("2026-01-05T13:56:00Z")
US = Subaccount(address_of_resident("this test"), 0)


class Listener(Silence):
    """A sink that stores what is published of our account."""

    def __init__(self) -> None:
        self.published: list[Any] = []

    def publish(self, channel: str, id: str, contents: Any, subaccount: int | None = None) -> None:
        if (channel, id) == ("v4_subaccounts", str(US)):
            self.published.append(contents)


class Desk:
    """A venue in this process and one funded account on it."""

    def __init__(self, usdc: int = 10_000, **settings: Any) -> None:
        self.listener = Listener()
        self.exchange = Exchange(VenueSettings(start_ns=START_NS, **settings), self.listener)
        self.accounts = self.exchange.accounts
        self.accounts.faucet(US, usdc * 1_000_000)

    def place(self, client_id: int = 1, ticker: str = "BTC-USD", **changed: Any) -> tuple[int, str]:
        """Place a short-term buy that would fill at once, changed."""
        tape = self.exchange.tapes[ticker]
        away = changed.pop("away", 1.01)
        fields: dict[str, Any] = {
            "ticker": ticker,
            "clob_pair_id": tape.market.clob_pair_id,
            "side": "BUY",
            "quantums": 10 * tape.market.step_base_quantums,
            "subticks": tape.book.to_subticks(tape.book.mid * away, "BUY"),
            "time_in_force": "IOC",
            "client_id": client_id,
            "good_til_block": self.exchange.height + 10,
        }
        code, codespace, _ = self.accounts.place(US, OrderRequest(**fields | changed))
        return code, codespace

    def stateful(self, client_id: int = 1, flags: int = 64, **changed: Any) -> tuple[int, str]:
        """Place an order that lives in blocks, changed."""
        until = self.exchange.block_ns // SECOND_NS + 3600
        return self.place(
            client_id,
            **{"order_flags": flags, "good_til_block": 0, "good_til_block_time": until} | changed,
        )

    def cancel(self, client_id: int = 1, **fields: Any) -> int:
        request = CancelRequest(ticker="", clob_pair_id=0, client_id=client_id, **fields)
        return self.accounts.cancel(US, request)[0]

    @property
    def later(self) -> int:
        """Return a time after the end of every order here, in unix seconds."""
        return self.exchange.block_ns // SECOND_NS + 7_200

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.exchange.step()

    def order(self, client_id: int = 1) -> Any:
        orders = self.accounts.ledgers[US].history.orders().rows
        return next(record for record in orders if record.client_id == client_id)

    def shown(self) -> tuple[Any, Any]:
        """Return our account as REST has it now, and its orders."""
        view = self.exchange.replicas.rest()
        ledger = view.accounts.ledgers[US]
        return subaccount_fields(ledger, view.height), ledger.history.orders().rows

    def reported(self) -> list[tuple[str, str]]:
        """Return the status and the reason of each order that was reported on our channel."""
        rows = [row for contents in self.listener.published for row in contents.get("orders", ())]
        ours = "ORDER_REMOVAL_REASON_"
        return [(row["status"], row.get("removalReason", "").removeprefix(ours)) for row in rows]


def test_rest_is_as_the_last_block_left_the_account() -> None:
    """What nodes match since has no block yet: the indexer takes in a whole one, or nothing of it.

    An order is a node's own business, and shows at once.
    """
    desk = Desk()
    desk.run(2)
    desk.place()
    height = desk.exchange.height

    early, orders = desk.shown()
    code = desk.accounts.withdraw(US, US.owner, 1_000_000)[0]
    still, _ = desk.shown()
    while desk.exchange.height == height:
        desk.exchange.step()
    late, over = desk.shown()

    assert (early["openPerpetualPositions"], early["latestProcessedBlockHeight"]) == (
        {}, str(height),
    )  # fmt: skip
    assert int(early["updatedAtHeight"]) <= height
    assert (code, still) == (0, early)
    assert [(row.status, row.filled) for row in orders] == [("BEST_EFFORT_OPENED", 0)]
    assert late["updatedAtHeight"] == str(height + 1)
    assert [*late["openPerpetualPositions"]] == ["BTC-USD"]
    assert [row.status for row in over] == ["FILLED"]


def test_a_replacement_needs_a_greater_block_and_keeps_the_id() -> None:
    """The second order takes the place of the first; at the same block it is refused: 20."""
    desk = Desk()
    resting: dict[str, Any] = {"time_in_force": "GTT", "away": 0.9}

    assert desk.place(**resting) == (0, "")
    first = desk.order()
    assert desk.place(**resting) == (20, "clob")
    assert desk.place(**resting, good_til_block=desk.exchange.height + 15) == (0, "")
    opened = ("BEST_EFFORT_OPENED", "")
    assert desk.reported() == [opened, ("BEST_EFFORT_CANCELED", "REPLACED"), opened]
    assert desk.order().status == "BEST_EFFORT_OPENED"
    assert desk.order().id == first.id


def test_a_short_term_order_ends_with_its_block() -> None:
    """After the block it was good for it is cancelled as expired."""
    desk = Desk()
    desk.place(time_in_force="GTT", away=0.9, good_til_block=desk.exchange.height + 3)
    desk.run(6)

    assert (desk.order().status, desk.order().reason) == (
        "CANCELED",
        "ORDER_REMOVAL_REASON_EXPIRED",
    )


def test_an_ioc_that_finds_nothing_is_taken_and_removed() -> None:
    """Code 0: the removal is reported off-chain."""
    desk = Desk()

    assert desk.place(away=0.9) == (0, "")
    assert desk.order().reason == "ORDER_REMOVAL_REASON_IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK"


def test_a_taker_without_collateral_is_taken_and_removed() -> None:
    """Matching ends where the money does, and that is no error either."""
    desk = Desk(usdc=1)

    assert desk.place() == (0, "")
    assert (desk.order().status, desk.order().reason) == (
        "BEST_EFFORT_CANCELED",
        "ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED",
    )


def test_reduce_only_closes_and_no_more() -> None:
    """A sell of twice the position fills the position and is resized."""
    desk = Desk()
    desk.place()
    size = desk.accounts.ledgers[US].position("BTC-USD")
    desk.place(2, side="SELL", away=0.99, reduce_only=True, quantums=2 * size)
    desk.run(2)

    assert desk.accounts.ledgers[US].position("BTC-USD") == 0
    assert desk.order(2).status == "CANCELED"
    assert desk.order(2).reason == "ORDER_REMOVAL_REASON_REDUCE_ONLY_RESIZE"


def test_an_isolated_market_does_not_share_an_account() -> None:
    """With a cross position an isolated market is closed: 2005."""
    desk = Desk(markets=75)
    isolated = next(
        ticker
        for ticker, tape in desk.exchange.tapes.items()
        if tape.market.market_type == "ISOLATED"
    )
    desk.place()

    assert desk.place(2, isolated) == (2005, "clob")


def test_a_long_term_order_rests_after_its_block_and_can_be_cancelled() -> None:
    """It is open at once and on the book one block later; its cancel ends it."""
    desk = Desk()
    book = desk.exchange.tapes["BTC-USD"].book.book

    assert desk.stateful(time_in_force="GTT", away=0.9) == (0, "")
    key = (US, 1, 64)
    assert key not in book.orders
    desk.run(3)
    assert key in book.orders
    assert desk.order().status == "OPEN"
    assert desk.cancel(order_flags=64, good_til_block_time=desk.later) == 0
    assert key not in book.orders
    assert desk.cancel(order_flags=64, good_til_block_time=desk.later) == 3006


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, 3002),
        ({"time_in_force": "GTT", "good_til_block_time": 1}, 3003),
        ({"time_in_force": "GTT", "good_til_block_time": 2**31}, 3004),
        ({"time_in_force": "GTT", "quantums": 10**12}, 3007),
        ({"condition_type": "STOP_LOSS", "time_in_force": "GTT"}, 6000),
    ],
)
def test_stateful_orders_are_refused_by_their_own_codes(changed: dict[str, Any], code: int) -> None:
    """What a long-term order may not be."""
    assert Desk().stateful(**changed) == (code, "clob")


def test_worth_limits_how_many_stateful_orders_stand_open() -> None:
    """Fifty dollars allow one: the second is refused by the equity tier."""
    desk = Desk(usdc=50)
    resting: dict[str, Any] = {"time_in_force": "GTT", "away": 0.5, "quantums": 1_000_000}

    assert desk.stateful(1, **resting) == (0, "")
    assert desk.stateful(2, **resting) == (10001, "clob")


def test_a_stop_sells_what_a_crash_takes_through_its_trigger() -> None:
    """Untriggered in the calm, triggered by the oracle, live one block later, filled."""
    desk = Desk(scenario="crash", calm_s=10)
    tape = desk.exchange.tapes["BTC-USD"]
    trigger = tape.book.to_subticks(tape.book.mid * 0.97, "SELL")
    desk.place()
    desk.stateful(
        2,
        flags=32,
        side="SELL",
        away=0.5,
        condition_type="STOP_LOSS",
        trigger_subticks=trigger,
        reduce_only=True,
    )
    desk.run(9)
    waiting = desk.order(2).status
    desk.run(8)

    assert waiting == "UNTRIGGERED"
    assert desk.order(2).status == "FILLED"
    assert desk.accounts.ledgers[US].position("BTC-USD") == 0


def test_a_cancel_outside_the_window_is_refused() -> None:
    """As a placement would be: 10 behind, 11 beyond."""
    desk = Desk()

    assert desk.cancel(good_til_block=desk.exchange.height) == 10
    assert desk.cancel(good_til_block=desk.exchange.height + 42) == 11
    assert desk.cancel(good_til_block=desk.exchange.height + 41) == 0


def test_a_cancel_that_ends_no_later_than_the_last_is_known() -> None:
    """Code 9: nothing new in it."""
    desk = Desk()
    until = desk.exchange.height + 10

    codes = [desk.cancel(good_til_block=at) for at in (until, until, until + 1)]

    assert codes == [0, 9, 0]


def test_a_stateful_cancel_may_not_end_before_its_order() -> None:
    """Code 29, as long as the order waits for its block and when it rests."""
    desk = Desk()
    desk.stateful(time_in_force="GTT", away=0.9)
    soon = desk.exchange.block_ns // SECOND_NS + 60

    waiting = desk.cancel(order_flags=64, good_til_block_time=soon)
    desk.run(3)
    resting = desk.cancel(order_flags=64, good_til_block_time=soon)

    assert (waiting, resting) == (29, 29)
    assert desk.order().status == "OPEN"


def test_a_reduce_only_stop_without_a_position_is_removed_when_it_triggers() -> None:
    """Its trigger is reached at once, and there is nothing to reduce."""
    desk = Desk()
    trigger = desk.exchange.tapes["BTC-USD"].market.subticks_per_tick
    desk.stateful(
        flags=32, away=0.5, condition_type="STOP_LOSS", trigger_subticks=trigger, reduce_only=True
    )
    desk.run(3)

    assert desk.order().status == "CANCELED"
    assert desk.order().reason == "ORDER_REMOVAL_REASON_REDUCE_ONLY_RESIZE"


def test_a_withdrawal_leaves_the_margin_and_moves_something() -> None:
    """More than is free fails to update the account; nothing is no amount."""
    desk = Desk(usdc=100)
    desk.place()
    free = desk.accounts.ledgers[US].margin.free_collateral

    amounts = free + 1, 0, free
    answers = [desk.accounts.withdraw(US, US.owner, amount)[:2] for amount in amounts]

    assert answers == [(102, "subaccounts"), (500, "subaccounts"), (0, "")]


def test_who_is_worth_less_than_nothing_is_deleveraged_and_may_not_withdraw() -> None:
    """A market without bids and a price that fell through the account's bankruptcy."""
    desk = Desk(usdc=10_000)
    tape = desk.exchange.tapes["BTC-USD"]
    desk.place(quantums=5 * 10**9)
    ledger = desk.accounts.ledgers[US]
    for key in [key for key, order in tape.book.book.orders.items() if order.side == "BUY"]:
        tape.book.book.cancel(key)
    tape.oracle.price = tape.oracle.price * 3 // 4
    desk.accounts.commit()
    desk.accounts.faucet(US, 100_000_000)

    assert ledger.position("BTC-USD") == 0
    assert ledger.history.fills(status="DELEVERAGED").total == 1
    assert desk.accounts.withdraw(US, US.owner, 1)[0] == 102


def test_funding_is_owed_on_the_hour_and_moves_money_at_the_next_touch() -> None:
    """A squeeze makes a long pay: REST counts it at once, the chain's own balance when touched."""
    desk = Desk(scenario="funding-squeeze", calm_s=1)
    desk.place()
    ledger = desk.accounts.ledgers[US]
    before = ledger.collateral
    desk.run(260)
    [payment] = ledger.history.payments().rows
    owed, untouched = -payment.credited, ledger.collateral
    row = subaccount_fields(ledger, desk.exchange.height)
    desk.accounts.faucet(US, 1)

    assert payment.ticker == "BTC-USD"
    assert owed > 0
    # What was received is positive there, as in the venue's update_funding_payments.sql.
    assert payment_row(desk.exchange, ledger, payment)["payment"] == decimal_text(-owed, -6)
    assert untouched == before
    assert row["assetPositions"]["USDC"]["size"] == decimal_text(before - owed, -6)
    position = row["openPerpetualPositions"]["BTC-USD"]
    assert position["netFunding"] == decimal_text(-owed, -6)
    assert ledger.collateral == before - owed + 1
    assert (ledger.paid.funding, ledger.unsettled) == (owed, 0)


def test_a_wallet_takes_its_sequence_or_a_nonce_of_now() -> None:
    """The exact sequence, or milliseconds within half a minute and never twice."""
    wallet, now = Wallet(number=1), 1_800_000_000_000

    assert wallet.objection(0, now) == ""
    assert "expected 0, got 1" in wallet.objection(1, now)
    assert wallet.objection(now + 29_000, now) == ""
    assert "30 s" in wallet.objection(now + 31_000, now)
    wallet.use(now)
    assert "used" in wallet.objection(now, now)
    wallet.use(0)
    assert wallet.sequence == 1


# === TWAP ===


def test_a_twap_order_is_worked_off_in_equal_parts() -> None:
    """Ten parts of one step, one each half minute; the whole is filled after the last."""
    desk = Desk()
    terms: dict[str, Any] = {"time_in_force": "GTT", "subticks": 0, "quantums": 10_000_000}
    slices = {"twap_duration_s": 300, "twap_interval_s": 30, "twap_tolerance_ppm": 10_000}
    assert desk.stateful(1, 128, **terms, **slices) == (0, "")

    desk.run(95)
    some = desk.order().filled
    desk.run(210)

    assert some == 4_000_000
    assert (desk.order().status, desk.order().filled) == ("FILLED", 10_000_000)
    assert desk.accounts.ledgers[US].position("BTC-USD") == 10_000_000


def test_a_twap_order_that_finds_nothing_expires() -> None:
    """Its own limit is worse than the book: parts go by unfilled, then the time is up."""
    desk = Desk()
    low = desk.exchange.tapes["BTC-USD"].market.subticks_per_tick
    terms: dict[str, Any] = {"time_in_force": "GTT", "subticks": low, "quantums": 10_000_000}
    slices = {"twap_duration_s": 300, "twap_interval_s": 30, "twap_tolerance_ppm": 0}
    desk.stateful(1, 128, **terms, **slices)
    until = desk.exchange.block_ns // SECOND_NS + 60
    desk.stateful(2, 128, **terms, **slices, good_til_block_time=until)
    desk.stateful(3, 128, **terms, **slices)
    assert desk.cancel(3, order_flags=128, good_til_block_time=desk.later) == 0

    desk.run(70)
    early = desk.order(1).status
    desk.run(240)

    assert early == "OPEN"
    assert (desk.order(1).status, desk.order(1).reason) == (
        "CANCELED",
        "ORDER_REMOVAL_REASON_EXPIRED",
    )
    assert (desk.order(2).status, desk.order(2).reason) == (
        "CANCELED",
        "ORDER_REMOVAL_REASON_EXPIRED",
    )
    assert (desk.order(3).status, desk.order(3).reason) == (
        "CANCELED",
        "ORDER_REMOVAL_REASON_USER_CANCELED",
    )


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"twap_interval_s": 29}, 12),
        ({"twap_duration_s": 299}, 12),
        ({"twap_tolerance_ppm": 1_000_000}, 12),
        ({"quantums": 9_000_000}, 12),
        ({"quantums": 10**13}, 3007),
    ],
)
def test_a_twap_order_that_does_not_fit_is_refused(changed: dict[str, Any], code: int) -> None:
    """Its times, its tolerance, parts of less than a step, and collateral at the oracle's price."""
    terms: dict[str, Any] = {"time_in_force": "GTT", "subticks": 0, "quantums": 10_000_000}
    slices = {"twap_duration_s": 300, "twap_interval_s": 30, "twap_tolerance_ppm": 10_000}

    assert Desk().stateful(1, 128, **{**terms, **slices, **changed}) == (code, "clob")


# === What a node counts and permits ===

NAMED = order_pb2.OrderId(
    subaccount_id=subaccount_pb2.SubaccountId(owner="us", number=3), order_flags=64, clob_pair_id=1
)
PLACE = tx_pb2.MsgPlaceOrder(order=order_pb2.Order(order_id=NAMED))
CANCEL = tx_pb2.MsgCancelOrder(order_id=NAMED)
BATCH = tx_pb2.MsgBatchCancel(
    subaccount_id=NAMED.subaccount_id, short_term_cancels=[tx_pb2.OrderBatch(clob_pair_id=1)]
)


def test_stateful_orders_are_two_a_block_and_twenty_in_a_hundred() -> None:
    """Attempts count, whoever else sends; cancels of them do not."""
    rates = BlockRates()
    objections = [rates.objection("us", PLACE, 1) for _ in range(3)]
    assert objections[:2] == ["", ""]
    assert "limit of 2 stateful orders per 1 blocks" in objections[2]
    assert rates.objection("them", PLACE, 1) == ""
    assert rates.objection("us", CANCEL, 1) == ""

    later = [rates.objection("us", PLACE, height) for height in range(2, 20)]
    assert later[:17] == [""] * 17
    assert "limit of 20" in later[17]
    assert rates.objection("us", PLACE, 101) == ""


def test_short_term_orders_and_cancels_are_counted_together() -> None:
    """Four thousand in five blocks; a batch counts two."""
    rates, order = BlockRates(), tx_pb2.MsgPlaceOrder()
    for _ in range(1_999):
        assert rates.objection("us", BATCH, 1) == ""
    assert [rates.objection("us", order, 2) for _ in range(2)] == ["", ""]
    assert "limit of 4000" in rates.objection("us", order, 5)
    assert rates.objection("us", order, 6) == ""


def composed(*inner: tuple[str, bytes]) -> bytes:
    """Write authenticators as the official client does."""
    rows = [{"type": kind, "config": base64.b64encode(config).decode()} for kind, config in inner]
    return json.dumps(rows).encode()


KEY = ("SignatureVerification", b"key")
SENDS = ("MessageFilter", b"/dydxprotocol.clob.MsgPlaceOrder,/dydxprotocol.clob.MsgCancelOrder")


@pytest.mark.parametrize(
    ("held", "message", "code"),
    [
        (KEY, PLACE, 0),
        (("SignatureVerification", b"other"), PLACE, 100),
        (SENDS, PLACE, 0),
        (SENDS, BATCH, 101),
        (("ClobPairIdFilter", b"0,1"), CANCEL, 0),
        (("ClobPairIdFilter", b"0"), CANCEL, 102),
        (("ClobPairIdFilter", b"0"), BATCH, 102),
        (("ClobPairIdFilter", b"0"), tx_pb2.OrderBatch(), 102),
        (("SubaccountFilter", b"3"), PLACE, 0),
        (("SubaccountFilter", b"0,1,2"), PLACE, 103),
        (("SubaccountFilter", b"0"), BATCH, 103),
        (("AllOf", composed(KEY, SENDS)), PLACE, 0),
        (("AllOf", composed(KEY, SENDS)), BATCH, 104),
        (("AnyOf", composed(KEY, SENDS)), BATCH, 0),
        (("AnyOf", composed(SENDS)), BATCH, 105),
    ],
)
def test_an_authenticator_permits_what_it_names(
    held: tuple[str, bytes], message: Any, code: int
) -> None:
    """By key, message, market and subaccount, and by all or any of these."""
    assert authenticators.is_sound(*held)
    assert authenticators.objection({7: held}, [7], b"key", message)[0] == code


@pytest.mark.parametrize("chosen", [[], [8], [7, 7]])
def test_a_message_needs_one_authenticator_that_there_is(chosen: list[int]) -> None:
    """One each."""
    assert authenticators.objection({7: KEY}, chosen, b"key", PLACE)[0] == 1


@pytest.mark.parametrize(
    "wrong", [("Odd", b""), ("AllOf", b"{"), ("AllOf", b"[1]"), ("AnyOf", composed(("Odd", b"")))]
)
def test_an_authenticator_that_cannot_be_read_is_unsound(wrong: tuple[str, bytes]) -> None:
    """Of an unknown type, or with something else in it than authenticators."""
    assert not authenticators.is_sound(*wrong)
