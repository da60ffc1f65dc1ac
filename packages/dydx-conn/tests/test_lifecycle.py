"""What frames report of orders: each state, each way between them, and what no frame may do."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from dydx_conn import (
    Accounts,
    CancelRequest,
    Frame,
    Header,
    OrderRequest,
    OrderState,
    RecordingWriter,
    Status,
    Subaccount,
    WireWriter,
    account_updates,
    collect,
    limit,
    market_parameters,
    order_id,
    replay,
)
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, of

BTC = market_parameters("BTC-USD")
US = Subaccount("dydx1us", 0)
SHORT = limit(BTC, "BUY", "1", "60000", client_id=7, good_til_block=110)
LONG = limit(BTC, "BUY", "1", "60000", client_id=8, good_til_block_time=1_800_000_000)
ID = order_id(US, SHORT)

# === Frames ===


def node(kind: str, content: dict[str, Any], type: str = "", channel: str = "") -> Frame:
    """Make a frame of the node's link."""
    return Frame(0, 0, 0, "node", kind, json.dumps(content), type, channel)


def sent(order: OrderRequest = SHORT) -> Frame:
    """Report that an order was sent."""
    size = str(BTC.size(order.quantums))
    content = {"ids": [order_id(US, order)], "subaccount": str(US), "size": size}
    return node("sent", {**content, "place": msgspec.to_builtins(order)}, channel="place")


def answer(
    code: int = 0, codespace: str = "clob", *, order: OrderRequest = SHORT, **more: Any
) -> Frame:
    """Answer a broadcast."""
    result = {"code": code, "codespace": codespace if code else "", "log": "", "hash": ""}
    until = order.good_til_block or order.good_til_block_time
    content = {"to": "place", "ids": [order_id(US, order)], "until": until, "result": result}
    return node("http", {**content, **more}, str(code), "broadcast")


def lost(order: OrderRequest = SHORT) -> Frame:
    """Report that a broadcast had no answer."""
    until = order.good_til_block or order.good_til_block_time
    content = {"to": "place", "ids": [order_id(US, order)], "until": until}
    errors = [{"msg": "DEADLINE_EXCEEDED"}]
    return node("http", {**content, "errors": errors}, "-1", "broadcast")


NOTHING = {"equity": "0", "openPerpetualPositions": {}, "assetPositions": {}}


def listing(*orders: dict[str, Any], channel: str = "v4_subaccounts") -> Frame:
    """Begin a subscription of an account that holds nothing, with these orders."""
    held = {"equity": "0", "childSubaccounts": []} if "parent" in channel else NOTHING
    contents = {"subaccount": held, "orders": [*orders]}
    return reported(contents, type="subscribed", channel=channel)


def reported(
    contents: dict[str, Any], *, type: str = "channel_data", channel: str = "v4_subaccounts"
) -> Frame:
    """Report the account, or whatever the channel carries."""
    return WireWriter().message(type, channel, contents, str(US))


def row(status: str, **fields: Any) -> Frame:
    """Report our order by its status."""
    return reported({"orders": [{"id": ID, "status": status, **fields}]})


def fill(size: str, id: str = "f1") -> Frame:
    """Report a fill of our order."""
    known = {"side": "BUY", "price": "60000", "createdAt": "", "liquidity": "TAKER"}
    return reported({"fills": [{"id": id, "size": size, "orderId": ID, **known}]})


def block(height: int, time: str = "2026-01-05T14:00:00Z") -> Frame:
    """Report a block."""
    return WireWriter().block(height, time)


def rest(path: str, body: Any) -> Frame:
    """Answer over HTTP."""
    return WireWriter().answer(path, body)


def orders(frames: Observable[Frame]) -> list[OrderState]:
    """Collect the order states of a stream's account updates."""
    return [state for update in collect(frames.pipe(account_updates())) for state in update.orders]


def states(*frames: Frame) -> list[OrderState]:
    """Fold frames numbered from 1; every state that was emitted."""
    numbered = [msgspec.structs.replace(frame, seq=n) for n, frame in enumerate(frames, 1)]
    return orders(of(*numbered))


def statuses(*frames: Frame) -> list[str]:
    """Fold frames; the status of every state that was emitted."""
    return [state.status for state in states(*frames)]


def last(*frames: Frame) -> OrderState:
    """Fold frames; the state that was emitted last."""
    return states(*frames)[-1]


FULL = {"size": "1", "totalFilled": "1"}
GONE = {"removalReason": "ORDER_REMOVAL_REASON_USER_CANCELED"}

# === From state to state ===


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([], ["PENDING"]),
        ([answer()], ["PENDING"]),
        ([answer(), row("BEST_EFFORT_OPENED")], ["PENDING", "OPEN"]),
        ([row("BEST_EFFORT_OPENED"), answer()], ["PENDING", "OPEN"]),
        ([row("UNTRIGGERED")], ["PENDING", "OPEN"]),
        ([row("OPEN", totalFilled="0.5")], ["PENDING", "PARTIALLY_FILLED"]),
        ([row("OPEN", totalFilled="0.5"), row("FILLED", **FULL)],
         ["PENDING", "PARTIALLY_FILLED", "FILLED"]),
        ([fill("0.5"), fill("0.5", "f2")], ["PENDING", "PARTIALLY_FILLED", "FILLED"]),
        ([row("OPEN"), row("CANCELED", **GONE)], ["PENDING", "OPEN", "CANCELLED"]),
        ([row("CANCELED", totalFilled="1")], ["PENDING", "FILLED"]),
        ([answer(2003)], ["PENDING", "REJECTED"]),
        ([lost()], ["PENDING", "UNRESOLVED"]),
        ([lost(), row("OPEN")], ["PENDING", "UNRESOLVED", "OPEN"]),
        ([lost(), row("FILLED", **FULL)], ["PENDING", "UNRESOLVED", "FILLED"]),
        ([lost(), row("CANCELED")], ["PENDING", "UNRESOLVED", "CANCELLED"]),
        ([lost(), block(112)], ["PENDING", "UNRESOLVED", "CANCELLED"]),
        ([block(112)], ["PENDING", "CANCELLED"]),
        # An answer that only reports a wrong sequence is followed by another one.
        ([answer(32, "sdk", again=True), answer()], ["PENDING"]),
        # The very bytes are known to the node already: they are taken.
        ([answer(19, "sdk"), row("OPEN")], ["PENDING", "OPEN"]),
        # A best-effort cancel is no end.
        ([row("OPEN"), row("BEST_EFFORT_CANCELED", **GONE), row("OPEN", totalFilled="1")],
         ["PENDING", "OPEN", "OPEN", "FILLED"]),
        # Removed by the node, which then gives the reason.
        ([row("BEST_EFFORT_CANCELED"), answer(2003)], ["PENDING", "OPEN", "REJECTED"]),
        # The same three words in each order: answers and the channel come on links of their own.
        ([row("BEST_EFFORT_OPENED"), row("BEST_EFFORT_CANCELED"), answer(2003)],
         ["PENDING", "OPEN", "OPEN", "REJECTED"]),
        ([row("BEST_EFFORT_OPENED"), answer(2003), row("BEST_EFFORT_CANCELED")],
         ["PENDING", "OPEN", "REJECTED"]),
        ([answer(2003), row("BEST_EFFORT_OPENED"), row("BEST_EFFORT_CANCELED")],
         ["PENDING", "REJECTED", "OPEN", "REJECTED"]),
        ([answer(2003), row("BEST_EFFORT_OPENED"), row("BEST_EFFORT_CANCELED"),
          row("BEST_EFFORT_CANCELED"), block(112)],
         ["PENDING", "REJECTED", "OPEN", "REJECTED"]),
        # What has filled was not refused, and a refusal is of the sending that it answers.
        ([answer(2003), row("BEST_EFFORT_OPENED", totalFilled="0.5"), row("BEST_EFFORT_CANCELED")],
         ["PENDING", "REJECTED", "PARTIALLY_FILLED", "PARTIALLY_FILLED"]),
        ([answer(2003), sent(), row("BEST_EFFORT_OPENED"), row("BEST_EFFORT_CANCELED")],
         ["PENDING", "REJECTED", "PENDING", "OPEN", "OPEN"]),
        # The chain's word outranks a node's.
        ([answer(2003), row("OPEN")], ["PENDING", "REJECTED", "OPEN"]),
        ([answer(2003), fill("0.5")], ["PENDING", "REJECTED", "PARTIALLY_FILLED"]),
    ],
)  # fmt: skip
def test_frames_move_an_order_from_state_to_state(frames: list[Frame], expected: list[str]) -> None:
    """What is emitted after the order was sent, one state for each change."""
    assert statuses(sent(), *frames) == expected


@pytest.mark.parametrize(
    "frames",
    [
        [row("CANCELED"), row("OPEN")],
        [row("CANCELED"), row("BEST_EFFORT_OPENED")],
        [row("FILLED", **FULL), row("OPEN", totalFilled="0.5")],
        [row("FILLED", **FULL), row("CANCELED")],
        [answer(2003), row("BEST_EFFORT_CANCELED", **GONE)],
        [answer(2003), row("CANCELED")],
        [row("FILLED", **FULL), lost()],
        [row("CANCELED"), answer(12)],
    ],
)
def test_what_is_final_stays(frames: list[Frame]) -> None:
    """Late and doubled reports change nothing, and nothing is emitted."""
    known = states(sent(), frames[0])

    assert states(sent(), *frames) == known
    assert known[-1].final


def test_a_cancelled_order_may_have_filled_before() -> None:
    """Fills that are reported late count; all of it makes it filled after all."""
    late = states(sent(), row("CANCELED", **GONE), fill("0.25"), fill("0.75", "f2"))

    assert [state.status for state in late[1:]] == ["CANCELLED", "CANCELLED", "FILLED"]
    assert [state.filled for state in late[1:]] == [0, Decimal("0.25"), 1]
    assert late[2].reason == "USER_CANCELED"


def test_every_state_names_which_frame_made_it_and_why() -> None:
    """Sequence numbers of the frames, and reasons a person understands."""
    [first, second] = states(sent(), answer(3007))

    assert (first.seq, second.seq) == (1, 2)
    assert second.reason == "clob 3007: the account lacks collateral for it"
    assert last(sent(), lost()).reason == "DEADLINE_EXCEEDED"
    assert last(sent(), block(112)).reason == "EXPIRED"
    log = {"code": 12, "codespace": "clob", "log": "price 3 not a multiple"}
    assert "(price 3 not a multiple)" in last(sent(), answer(12, result=log)).reason


def test_codes_are_judged_within_their_codespace() -> None:
    """32 of the sdk is a wrong sequence, 32 of the book a cancel that is known."""
    assert "sequence" in last(sent(), answer(32, "sdk")).reason
    assert "cancel" in last(sent(), answer(32, "clob")).reason


def test_what_was_never_sent_is_rejected_by_its_reason() -> None:
    """A queued order that was dropped has an answer and nothing sent."""
    dropped = {"code": 1, "codespace": "client", "log": "not sent: closed"}
    state = last(answer(1, result=dropped))

    assert (state.id, state.status, state.reason) == (ID, "REJECTED", "not sent: closed")


def test_an_order_carries_what_was_sent() -> None:
    """The request, its size, and how a cancel would name it."""
    [state] = states(sent())

    assert (state.id, state.subaccount, state.size) == (ID, "dydx1us/0", Decimal(1))
    assert state.order == SHORT
    assert state.named == CancelRequest(
        ticker="BTC-USD", clob_pair_id=0, client_id=7, good_til_block=110
    )


def test_an_end_without_a_reason_is_its_own_reason() -> None:
    """The indexer gives none with some ends; one that came before it stands."""
    ended = last(sent(), row("CANCELED"))
    after = last(sent(), row("BEST_EFFORT_CANCELED", **GONE), row("CANCELED"))

    assert (ended.status, ended.reason) == ("CANCELLED", "CANCELED")
    assert (after.status, after.reason) == ("CANCELLED", "USER_CANCELED")


@pytest.mark.parametrize("refused_at", range(3))
def test_a_refusal_has_its_reason_whenever_it_comes(refused_at: int) -> None:
    """The node's own words, before, between and after what the channel shows of the order."""
    frames = [row("BEST_EFFORT_OPENED"), row("BEST_EFFORT_CANCELED", **GONE)]
    frames.insert(refused_at, answer(2003))

    ended = last(sent(), *frames)

    assert (ended.status, ended.leaving) == ("REJECTED", False)
    assert ended.reason.startswith("clob 2003: ")


def test_a_best_effort_cancel_is_reported_as_leaving() -> None:
    """Open still, with the reason; gone when its last block has passed."""
    leaving = row("BEST_EFFORT_CANCELED", **GONE)
    state = last(sent(), row("OPEN"), leaving)
    ended = last(sent(), row("OPEN"), leaving, block(111), block(112))

    assert (state.status, state.leaving, state.reason) == ("OPEN", True, "USER_CANCELED")
    assert (ended.status, ended.leaving, ended.reason) == ("CANCELLED", False, "USER_CANCELED")
    assert ended.seq == 5


def test_an_order_ends_one_block_after_its_last() -> None:
    """What the indexer reports of a block may come after the block's height."""
    assert statuses(sent(), block(111)) == ["PENDING"]
    assert statuses(sent(), block(112)) == ["PENDING", "CANCELLED"]
    assert statuses(sent(), reported({"blockHeight": "112"})) == ["PENDING", "CANCELLED"]


def test_a_stateful_order_ends_by_the_chains_time() -> None:
    """The time of blocks, and a little more."""
    early, late = block(5, "2027-01-15T08:00:02Z"), block(6, "2027-01-15T08:00:03Z")

    assert statuses(sent(LONG), early) == ["PENDING"]
    assert statuses(sent(LONG), early, late) == ["PENDING", "CANCELLED"]


@pytest.mark.parametrize("more", [{}, {"clientId": "3", "clobPairId": "0", "orderFlags": "0"}])
def test_an_order_without_an_end_ends_with_the_chains_window(more: dict[str, Any]) -> None:
    """The cancel of one that the indexer does not know names no block: 40 blocks and it is over."""
    unknown = {"id": "x", "status": "BEST_EFFORT_CANCELED", **more, **GONE}
    ghost = reported({"orders": [unknown], "blockHeight": "1000"})
    again = reported({"orders": [unknown], "blockHeight": "1030"})

    accounts, left = Accounts(), []
    for seq, frame in enumerate([ghost, again, *map(block, (1041, 1042)), again], 1):
        accounts.step(msgspec.structs.replace(frame, seq=seq))
        left.append([state.leaving for state in accounts.orders.open()])

    assert left == [[True], [True], [True], [], []]


def test_an_order_of_another_client_that_is_replaced_ends_later() -> None:
    """Under the same id, even if the first was over when the second was reported."""
    first = {"orderFlags": "0", "clientId": "3", "clobPairId": "0", "goodTilBlock": "110"}
    placed = row("BEST_EFFORT_OPENED", size="1", **first)
    later = row("BEST_EFFORT_OPENED", size="1", **{**first, "goodTilBlock": "115"})

    assert statuses(placed, later, block(112)) == ["OPEN", "OPEN"]
    assert statuses(placed, block(112), later, block(114)) == ["OPEN", "CANCELLED", "OPEN"]
    assert statuses(placed, block(112), placed, block(114)) == ["OPEN", "CANCELLED"]


def test_a_full_nodes_report_makes_no_later_one_of_the_chain_old() -> None:
    """Its height is its own: only rows that name their block are compared."""
    opened = {"orders": [{"id": ID, "status": "BEST_EFFORT_OPENED"}], "blockHeight": "109"}
    filled = row("FILLED", updatedAtHeight="108", **FULL)

    assert statuses(sent(), reported(opened), filled) == ["PENDING", "OPEN", "FILLED"]


# === TWAP orders ===

# As the indexer reports them: the whole first, then each leg under the whole's id.
WHOLE = {
    "clientId": "4", "clobPairId": "0", "side": "BUY", "size": "300", "price": "0",
    "orderFlags": "128", "goodTilBlockTime": "2026-01-05T14:20:00.000Z", "ticker": "LINK-USD",
}  # fmt: skip
LEG = {
    "clientId": "4", "clobPairId": "0", "side": "BUY", "size": "30", "price": "2.508",
    "orderFlags": "256", "goodTilBlockTime": "2026-01-05T14:00:03.000Z", "ticker": "LINK-USD",
    "type": "TWAP", "duration": "300", "interval": "30", "createdAtHeight": "100",
    "createdAt": "2026-01-05T14:00:00.000Z",
}  # fmt: skip


def leg(filled: int, at: int, **more: Any) -> Frame:
    """Report that a leg filled, as the venue does: its own size, the whole's total."""
    return row("FILLED", totalFilled=str(filled), updatedAtHeight=str(at), **{**LEG, **more})


def test_a_twap_goes_on_after_its_first_leg() -> None:
    """FILLED is reported of a leg: the whole keeps its size, its end and the name of its cancel."""
    state = last(row("OPEN", **WHOLE), leg(30, 101), block(110, "2026-01-05T14:00:30Z"))

    assert (state.status, state.filled, state.size) == (
        "PARTIALLY_FILLED",
        Decimal(30),
        Decimal(300),
    )
    assert state.named == CancelRequest(
        ticker="LINK-USD", clob_pair_id=0, client_id=4, order_flags=128,
        good_til_block_time=1_767_622_800,
    )  # fmt: skip
    assert state.row is not None
    assert (state.row.order_flags, state.row.size, state.row.duration) == ("128", "300", "300")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (leg(300, 120), "FILLED"),
        (row("CANCELED", updatedAtHeight="120", **WHOLE, **GONE), "CANCELLED"),
        (block(700, "2026-01-05T14:05:03Z"), "CANCELLED"),
    ],
)
def test_a_twap_ends_filled_cancelled_or_with_its_duration(end: Frame, status: str) -> None:
    """The chain places no leg after that, whatever the order's own time."""
    state = last(row("OPEN", **WHOLE), leg(30, 101), end)

    assert (state.status, int(state.filled)) == (status, 300 if status == "FILLED" else 30)


def test_a_twap_that_is_first_reported_by_a_leg_is_no_leg() -> None:
    """How much it buys is not known; its end is."""
    state = last(leg(60, 101))
    ended = last(leg(60, 101), block(700, "2026-01-05T14:05:03Z"))

    assert (state.status, state.size, state.filled) == ("PARTIALLY_FILLED", Decimal(0), Decimal(60))
    assert state.named is not None
    assert state.named.order_flags == 128
    assert ended.status == "CANCELLED"


def test_the_parts_of_a_twap_are_the_chains() -> None:
    """They are no orders of ours: nobody places or cancels one."""
    part = {"id": "part", "status": "OPEN", "orderFlags": "256", "clientId": "4", "size": "30"}

    assert states(reported({"orders": [{**part, "clobPairId": "0"}]})) == []


def test_a_snapshot_that_lists_no_twap_is_no_word_of_it() -> None:
    """The venue's never do; nor what a full node took off its book."""
    snapshot = reported({"orders": []}, type="subscribed")

    assert statuses(row("OPEN", **WHOLE), snapshot) == ["OPEN"]
    assert statuses(row("BEST_EFFORT_CANCELED", **GONE), snapshot) == ["OPEN"]


# === Replacements ===

LATER = limit(BTC, "BUY", "2", "61000", client_id=7, good_til_block=115)


def test_a_replacement_keeps_what_was_filled_and_ends_later() -> None:
    """One id, and the newer request."""
    state = last(sent(), row("OPEN", totalFilled="0.5"), sent(LATER), answer(order=LATER))
    after = statuses(sent(), row("OPEN"), sent(LATER), answer(order=LATER), block(112))

    assert (state.status, state.filled, state.size) == (
        "PARTIALLY_FILLED",
        Decimal("0.5"),
        Decimal(2),
    )
    assert state.order == LATER
    assert after == ["PENDING", "OPEN", "OPEN"]


def test_a_refused_replacement_leaves_the_order_as_it_was() -> None:
    """With its own size and its own end, and what it filled meanwhile."""
    frames = [sent(), row("OPEN"), sent(LATER), fill("0.5"), answer(20, order=LATER)]
    state = last(*frames)

    assert (state.status, state.order, state.size) == ("PARTIALLY_FILLED", SHORT, Decimal(1))
    assert (state.filled, state.before) == (Decimal("0.5"), None)
    assert "replacement refused: clob 20" in state.reason
    assert last(*frames, block(112)).status == "CANCELLED"


def test_an_answer_to_the_first_is_none_to_its_replacement() -> None:
    """Two on their way under one id: the requested block separates them."""
    state = last(sent(), sent(LATER), answer(2003), answer(2003, order=LATER))

    assert (state.status, state.order) == ("REJECTED", LATER)


def test_a_late_answer_to_the_first_keeps_it_in_reserve() -> None:
    """Taken, it stands again if its replacement is refused; refused, it does not."""
    taken = last(sent(), sent(LATER), answer(), answer(20, order=LATER))
    third = limit(BTC, "BUY", "3", "61000", client_id=7, good_til_block=118)
    second = last(
        sent(), sent(LATER), sent(third), answer(20, order=LATER), answer(20, order=third)
    )

    assert (taken.status, taken.order) == ("PENDING", SHORT)
    assert (second.status, second.order) == ("PENDING", SHORT)


def test_a_refusal_of_another_request_is_none_of_what_stands() -> None:
    """The replacement was refused, then the first was taken."""
    state = last(sent(), sent(LATER), answer(20, order=LATER), answer())
    gone = last(sent(), lost(), answer(20, order=LATER))

    assert (state.status, state.order) == ("PENDING", SHORT)
    assert gone.status == "UNRESOLVED"


def test_a_lost_replacement_leaves_the_order_open() -> None:
    """One of the two stands, and both end with the later block."""
    frames = [sent(), row("OPEN"), sent(LATER), lost(LATER)]

    assert statuses(*frames) == ["PENDING", "OPEN", "OPEN"]
    assert statuses(*frames, block(112)) == ["PENDING", "OPEN", "OPEN"]
    assert statuses(*frames, block(117))[-1] == "CANCELLED"


def test_an_order_that_filled_before_its_replacement_was_refused_is_filled() -> None:
    """Nothing to go back to."""
    frames = [sent(), row("OPEN"), sent(LATER), row("FILLED", totalFilled="1")]

    assert last(*frames, answer(24, order=LATER)).status == "FILLED"


# === Orders of others, snapshots, REST ===

ROW = {
    "id": "elsewhere", "clientId": "9", "clobPairId": "1", "orderFlags": "64", "ticker": "ETH-USD",
    "size": "2", "totalFilled": "0.5", "status": "OPEN", "goodTilBlockTime": "2027-01-15T08:00:00Z",
    "subaccountNumber": 128,
}  # fmt: skip


def test_an_order_that_was_placed_elsewhere_is_known_too() -> None:
    """With all that a cancel needs to name it."""
    state = last(reported({"orders": [ROW]}))

    assert (state.id, state.subaccount, state.status) == (
        "elsewhere",
        "dydx1us/128",
        "PARTIALLY_FILLED",
    )
    assert (state.order, state.size) == (None, Decimal(2))
    assert state.named == CancelRequest(
        ticker="ETH-USD", clob_pair_id=1, client_id=9, order_flags=64,
        good_til_block_time=1_800_000_000,
    )  # fmt: skip


def test_an_update_with_few_fields_is_not_taken_for_more() -> None:
    """Of an unknown order without a status nobody knows what it is."""
    [state] = states(reported({"orders": [{"id": "x"}]}))

    assert (state.status, state.named, state.size) == ("UNRESOLVED", None, Decimal(0))


@pytest.mark.parametrize("channel", ["v4_subaccounts", "v4_parent_subaccounts"])
def test_what_a_snapshot_does_not_list_has_ended_while_nobody_listened(channel: str) -> None:
    """The reason is unknown: unresolved until REST, fills or its end settle it."""
    snapshot = listing(channel=channel)
    frames = [sent(), row("OPEN"), snapshot]
    history = rest(
        "/v4/orders?address=dydx1us&subaccountNumber=0", [{"id": ID, "status": "FILLED"}]
    )

    assert statuses(*frames) == ["PENDING", "OPEN", "UNRESOLVED"]
    assert last(*frames, history).status == "FILLED"
    assert statuses(sent(), snapshot) == ["PENDING"]


def test_a_snapshot_judges_its_own_subaccounts() -> None:
    """A parent's its children, a subaccount's itself alone."""
    child = reported({"orders": [ROW]})
    own = listing()
    parents = listing(channel="v4_parent_subaccounts")

    assert statuses(child, own) == ["PARTIALLY_FILLED"]
    assert statuses(child, parents) == ["PARTIALLY_FILLED", "UNRESOLVED"]
    listed = listing({"id": ID, "status": "OPEN"})
    assert statuses(sent(), row("OPEN"), listed) == ["PENDING", "OPEN"]


def test_rest_answers_report_what_sockets_missed() -> None:
    """Orders, one order, fills and heights."""
    fills = rest(
        "/v4/fills?address=dydx1us&subaccountNumber=0",
        {"fills": [{"id": "f1", "side": "BUY", "size": "0.5", "price": "1", "createdAt": "",
                    "liquidity": "MAKER", "orderId": ID}]},
    )  # fmt: skip
    one = rest(f"/v4/orders/{ID}", {"id": ID, "status": "OPEN"})
    height = rest("/v4/height", {"height": "112", "time": "2026-01-05T14:00:00Z"})

    assert last(sent(), fills).filled == Decimal("0.5")
    assert last(sent(), fills, fill("0.5")).filled == Decimal("0.5")
    assert last(sent(), one).status == "OPEN"
    assert last(sent(), height).status == "CANCELLED"


@pytest.mark.parametrize(
    "frame",
    [
        node("sent", {"ids": []}),
        node("http", {"to": "place"}, "0", "broadcast"),
        node("http", {"to": "cancel", "ids": [ID], "result": {"code": 9}}, "9", "broadcast"),
        node("sent", {"ids": [ID], "subaccount": "x/0", "cancel": {}}, channel="cancel"),
        Frame(0, 0, 0, "node", "http", "<html>", "0", "broadcast"),
        Frame(0, 0, 0, "rest", "http", "<html>", "200", "/v4/orders"),
        Frame(0, 0, 0, "rest", "http", '{"errors":[{"msg":"no"}]}', "404", "/v4/orders"),
        Frame(0, 0, 0, "rest", "http", '{"errors":[{"msg":"no"}]}', "404", "/v4/fills"),
        Frame(0, 0, 0, "clock", "tick"),
        row("OPEN", totalFilled="many"),
        row("OPEN", totalFilled="NaN"),
        reported({"orders": [{"id": "y", "clientId": "a", "clobPairId": "b", "orderFlags": "c"}]}),
        reported({"blockHeight": "tall"}),
        block(112, "yesterday"),
        reported({}, channel="v4_trades"),
    ],
)
def test_what_cannot_be_read_changes_nothing(frame: Frame) -> None:
    """Another layer decides whether they matter."""
    assert statuses(sent(), frame) == ["PENDING"]


# === Always ===

FRAMES = st.one_of(
    st.sampled_from(
        [
            *(sent(), answer(), answer(2003), answer(19, "sdk"), lost(), sent(LATER)),
            *(answer(order=LATER), answer(20, order=LATER), lost(LATER)),
            listing(),
        ]
    ),
    st.builds(
        lambda status, filled: row(status, totalFilled=str(filled)),
        st.sampled_from(
            ["OPEN", "FILLED", "CANCELED", "BEST_EFFORT_OPENED", "BEST_EFFORT_CANCELED", "ODD"]
        ),
        st.decimals("0", "2", places=2),
    ),
    st.builds(
        lambda size, id: fill(str(size), id),
        st.decimals("0", "1", places=2),
        st.sampled_from("abc"),
    ),
    st.builds(block, st.integers(100, 120)),
)


def test_an_order_is_of_the_account_that_reports_it() -> None:
    """Its refusal, of a request that is in no frame, names none; a snapshot then doubts it."""
    refused, opened, doubted = states(answer(2003), row("OPEN", totalFilled="0.00"), listing())

    assert (refused.subaccount, refused.status) == ("", "REJECTED")
    assert (opened.subaccount, opened.status) == (str(US), "OPEN")
    assert (doubted.subaccount, doubted.status) == (str(US), "UNRESOLVED")


def test_an_order_is_of_the_account_that_reports_its_fill() -> None:
    """A refusal names none, and neither does the row that never came; a snapshot then doubts it."""
    refused, filled, doubted = states(answer(2003), fill("0.01", "a"), listing())

    assert (refused.subaccount, refused.status) == ("", "REJECTED")
    assert (filled.subaccount, filled.filled) == (str(US), Decimal("0.01"))
    assert (doubted.subaccount, doubted.status) == (str(US), "UNRESOLVED")


@given(st.lists(FRAMES, max_size=20))
def test_no_frames_make_a_fill_smaller_or_bring_an_order_back(frames: list[Frame]) -> None:
    """What is filled never shrinks; filled and cancelled orders live again only if sent again.

    A rejected one may: the chain's word that it stands outranks one node's that it does not.
    """
    accounts, known = Accounts(), None
    state = accounts.orders
    for seq, frame in enumerate(frames, 1):
        updates = accounts.step(msgspec.structs.replace(frame, seq=seq))
        for new in [order for update in updates for order in update.orders]:
            assert new.seq == seq
            assert new.status in get_args(Status)
            assert not (new.final and (new.leaving or new.before))
            if known is not None:
                assert new.filled >= known.filled
                if known.status == "FILLED" and frame.kind != "sent":
                    assert new.status == "FILLED"
                if known.status == "CANCELLED" and frame.kind != "sent":
                    assert new.status in ("CANCELLED", "FILLED")
            known = new
        assert {order.id for order in state.open()} == state._live


def test_what_is_remembered_is_bounded() -> None:
    """The oldest that are over go first; what may still fill stays."""
    accounts = Accounts()
    state = accounts.orders
    accounts.step(sent())
    for n in range(5_000):
        rows = {"orders": [{"id": f"o{n}", "status": "CANCELED"}]}
        accounts.step(reported(rows))

    assert len(state.orders) == 4096
    assert ID in state.orders
    assert "o4999" in state.orders


def test_a_recorded_session_replays_to_the_same_states(tmp_path: Path) -> None:
    """Frames of the node keep all that the fold needs when they go to disk."""
    frames = [sent(), answer(), row("OPEN"), fill("0.5"), lost(LONG), block(112)]
    header = Header(network="local", rest="", ws="", client="", source="a test")
    path = tmp_path / "session.jsonl.zst"
    writer = RecordingWriter(path, header)
    for seq, frame in enumerate(frames, 1):
        writer.write_frame(msgspec.structs.replace(frame, seq=seq))
    writer.close()

    assert orders(replay(path)) == states(*frames)
