"""The trader against a node of this process: what it sends, how often, and what it reports."""

import asyncio
import json
import resource
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dydx_conn
import grpc
import pytest
from dydx_conn import (
    Accounts,
    AuditLog,
    BatchCancel,
    CancelRequest,
    ConnError,
    Frame,
    Inbox,
    Keys,
    Network,
    NetworkError,
    NotQueued,
    OrderRequest,
    OrderState,
    Queued,
    Replace,
    Subaccount,
    Trader,
    WireWriter,
    _Channel,
    cancel,
    limit,
    market_parameters,
    order_id,
    replacement,
    ws_frame,
)
from pydantic import SecretStr
from v4_proto.cosmos.auth.v1beta1 import auth_pb2
from v4_proto.cosmos.auth.v1beta1 import query_pb2 as auth
from v4_proto.cosmos.auth.v1beta1 import query_pb2_grpc as auth_grpc
from v4_proto.cosmos.base.abci.v1beta1 import abci_pb2
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2 as comet
from v4_proto.cosmos.base.tendermint.v1beta1 import query_pb2_grpc as comet_grpc
from v4_proto.cosmos.tx.v1beta1 import service_pb2 as tx_service
from v4_proto.cosmos.tx.v1beta1 import service_pb2_grpc as tx_grpc
from v4_proto.cosmos.tx.v1beta1 import tx_pb2
from v4_proto.dydxprotocol.accountplus.tx_pb2 import TxExtension
from v4_proto.dydxprotocol.clob import tx_pb2 as clob

KEYS = Keys(SecretStr("4b" * 32))
US = Subaccount(KEYS.address, 0)
START: Final = 1_800_000_000
BTC = market_parameters("BTC-USD")

# === A node ===

_SHAPES: Final = {
    "/dydxprotocol.clob.MsgPlaceOrder": clob.MsgPlaceOrder,
    "/dydxprotocol.clob.MsgCancelOrder": clob.MsgCancelOrder,
    "/dydxprotocol.clob.MsgBatchCancel": clob.MsgBatchCancel,
}


@dataclass
class Tx:
    """A transaction as the node received it."""

    message: Any
    sequence: int
    authenticators: list[int]
    memo: str
    fee: list[Any]


@dataclass
class Node(tx_grpc.ServiceServicer, auth_grpc.QueryServicer, comet_grpc.ServiceServicer):  # type: ignore[misc]  # generated, untyped
    """A node that takes everything, unless `answers` holds something else for a transaction.

    An answer is (code, codespace, log), or a status to fail with, or an event to wait for.
    """

    chain_id: str = "localdydxprotocol"
    height: int = 100
    sequence: int = 5
    answers: deque[Any] = field(default_factory=deque)
    received: list[Tx] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    blocked: grpc.StatusCode | None = None
    address: str = ""

    def BroadcastTx(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        raw = tx_pb2.TxRaw.FromString(request.tx_bytes)
        body = tx_pb2.TxBody.FromString(raw.body_bytes)
        info = tx_pb2.AuthInfo.FromString(raw.auth_info_bytes)
        [packed], chosen = body.messages, TxExtension()
        for extension in body.non_critical_extension_options:
            extension.Unpack(chosen)
        self.received.append(
            Tx(
                _SHAPES[packed.type_url].FromString(packed.value),
                info.signer_infos[0].sequence,
                list(chosen.selected_authenticators),
                body.memo,
                list(info.fee.amount),
            )
        )
        answer = self.answers.popleft() if self.answers else (0, "", "")
        if isinstance(answer, threading.Event):
            answer.wait(60)
            answer = (0, "", "")
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "on purpose")
        code, codespace, log = answer
        response = abci_pb2.TxResponse(
            code=code, codespace=codespace, raw_log=log, txhash="AB" * 32
        )
        return tx_service.BroadcastTxResponse(tx_response=response)

    def Account(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self.requests.append("account")
        if self.blocked is not None:
            context.abort(self.blocked, "on purpose")
        response = auth.QueryAccountResponse()
        found = auth_pb2.BaseAccount(
            address=request.address, account_number=3, sequence=self.sequence
        )
        response.account.Pack(found, type_url_prefix="/")
        return response

    def GetLatestBlock(self, _request: Any, context: Any) -> Any:  # noqa: N802 - as above
        self.requests.append("block")
        if self.blocked is not None:
            context.abort(self.blocked, "on purpose")
        response = comet.GetLatestBlockResponse()
        response.block.header.chain_id = self.chain_id
        response.block.header.height = self.height
        response.block.header.time.FromSeconds(START + self.height - 100)
        return response


@contextmanager
def serving(node: Node) -> Iterator[Node]:
    """Serve a node on the loopback."""
    server = grpc.server(ThreadPoolExecutor(16))
    tx_grpc.add_ServiceServicer_to_server(node, server)
    auth_grpc.add_QueryServicer_to_server(node, server)
    comet_grpc.add_ServiceServicer_to_server(node, server)
    node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield node
    finally:
        server.stop(None).wait()


@pytest.fixture
def node() -> Iterator[Node]:
    """Run a node for one test."""
    before = threading.active_count()
    with serving(Node()) as running:
        yield running
    assert threading.active_count() <= before + 16 + 1  # the server's own, which it leaves


def network(node: Node, *others: Node) -> Network:
    """Return where a node is, and others."""
    addresses = tuple(other.address for other in others)
    return Network("local", "", "", node.address, "localdydxprotocol", other_nodes=addresses)


class Desk:
    """A trader, and the frames that it put into its inbox."""

    def __init__(self, node: Node, *others: Node, **options: Any) -> None:
        self.inbox, self.frames = Inbox(), list[Frame]()
        given: dict[str, Any] = {"keys": KEYS, "subaccount": US, "inbox": self.inbox}
        given |= {"markets": {"BTC-USD": BTC}, "refresh_s": 60.0} | options
        self.trader = Trader(network(node, *others), **given)

    def __enter__(self) -> "Desk":
        self.trader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.trader.close()

    def receive(self, until: Callable[[Frame], bool]) -> Frame:
        """Take frames out of the inbox until one of them is the one waited for."""
        while True:
            frame = self.inbox.take(len(self.frames) + 1, 10.0)
            assert frame is not None, [frame.text for frame in self.frames]
            self.frames.append(frame)
            if until(frame):
                return frame

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer to a broadcast."""
        text = self.receive(lambda frame: frame.channel == "broadcast").text
        return dict(json.loads(text))

    def send(self, *requests: Any, **options: Any) -> list[dict[str, Any]]:
        """Submit requests one by one, waiting for the answer to each."""
        answers = []
        for request in requests:
            assert isinstance(self.trader.submit(request, **options), Queued)
            answers.append(self.answer())
        return answers

    def states(self) -> list[OrderState]:
        """Fold the frames received so far."""
        accounts = Accounts()
        updates = [update for frame in self.frames for update in accounts.step(frame)]
        return [state for update in updates for state in update.orders]


def short(client_id: int = 1, **terms: Any) -> OrderRequest:
    """Build a short-term order."""
    return limit(
        BTC, "BUY", "0.001", "60000", client_id=client_id, **{"good_til_block": 110} | terms
    )


def long(client_id: int = 1) -> OrderRequest:
    """Build a long-term order."""
    return limit(BTC, "BUY", "0.001", "60000", client_id=client_id, good_til_block_time=START + 60)


# === Sending ===


def test_a_short_term_order_goes_out_without_a_sequence(node: Node) -> None:
    """One transaction, free, and no request to the node before it."""
    with Desk(node) as desk:
        [answer] = desk.send(short())
    [tx] = node.received

    assert (tx.message.order.order_id.client_id, tx.sequence, tx.fee, tx.memo) == (1, 0, [], "")
    assert node.requests == ["block", "account"]
    assert answer["result"]["code"] == 0


def test_a_node_that_stops_is_replaced_by_one_that_is_not_behind(node: Node) -> None:
    """Of the same chain; what was sent is not sent again, and heights never go back."""
    behind, fork, second = Node(height=99), Node("dydx-9", height=500), Node(height=101)
    with ExitStack() as stack:
        others = [stack.enter_context(serving(each)) for each in (behind, fork, second)]
        desk = stack.enter_context(Desk(node, *others, refresh_s=0.02))
        node.blocked = grpc.StatusCode.UNAVAILABLE
        node.answers.append(grpc.StatusCode.UNAVAILABLE)
        [lost] = desk.send(short())
        desk.receive(lambda frame: '"height":"101"' in frame.text)
        [taken] = desk.send(short(2))

    assert (lost["errors"][0]["msg"], taken["result"]["code"]) == ("UNAVAILABLE: on purpose", 0)
    assert [len(each.received) for each in (node, behind, fork, second)] == [1, 0, 0, 1]
    heights = [
        int(json.loads(frame.text)["result"]["block"]["header"]["height"])
        for frame in desk.frames
        if frame.channel == "latest_block"
    ]
    assert heights == sorted(heights)


def test_an_order_goes_out_where_no_descriptor_is_left(node: Node) -> None:
    """The connection to the node is there: a call on it opens nothing, and neither may we."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Desk(node, refresh_s=0.02) as desk:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            [answer] = desk.send(short())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert answer["result"]["code"] == 0


def test_a_call_of_the_official_client_that_waits_is_an_error() -> None:
    """None does today: without an event loop nothing would ever wake it."""

    async def waiting() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="expected a call that does not suspend"):
        dydx_conn._called(waiting())


def test_what_is_sent_and_answered_becomes_frames(node: Node) -> None:
    """On the link of the node, with the order's id and without what was signed."""
    with Desk(node) as desk:
        desk.send(short())
    [block, sent, answered] = desk.frames

    assert [frame.link for frame in desk.frames] == ["node"] * 3
    assert (block.kind, block.type, block.channel) == ("http", "0", "latest_block")
    header = {"height": "100", "time": "2027-01-15T08:00:00+00:00"}
    assert json.loads(block.text)["result"]["block"]["header"].items() >= header.items()
    assert (sent.kind, sent.channel, sent.id) == ("sent", "place", order_id(US, short()))
    content = json.loads(sent.text)
    assert content["ids"] == [sent.id]
    assert (content["subaccount"], content["size"]) == (str(US), "0.0010000000")
    assert (answered.kind, answered.type, answered.channel) == ("http", "0", "broadcast")
    assert [state.status for state in desk.states()] == ["PENDING"]


def test_a_refusal_explains_what_it_means(node: Node) -> None:
    """By codespace and code, in words; the order is rejected."""
    node.answers.append((2003, "clob", "would cross"))
    with Desk(node) as desk:
        desk.send(short())

    assert desk.states()[-1].status == "REJECTED"
    assert "post-only" in desk.states()[-1].reason


def test_stateful_orders_count_the_sequence_themselves(node: Node) -> None:
    """Queried once, then one more for each that was taken; one at a time, in order."""
    with Desk(node) as desk:
        for n in range(5):
            desk.trader.submit(long(n))
        answers = [desk.answer() for _ in range(5)]

    assert [tx.sequence for tx in node.received] == [5, 6, 7, 8, 9]
    assert [tx.message.order.order_id.client_id for tx in node.received] == [0, 1, 2, 3, 4]
    assert all(answer["result"]["code"] == 0 for answer in answers)
    assert node.requests.count("account") == 1


def test_a_wrong_sequence_is_set_right_and_the_order_sent_again(node: Node) -> None:
    """The refusal names which one was expected; the order was not taken before."""
    node.answers.append((32, "sdk", "account sequence mismatch, expected 9, got 5"))
    with Desk(node) as desk:
        [first] = desk.send(long(1))
        second = desk.answer()
        desk.send(long(2))

    assert [tx.sequence for tx in node.received] == [5, 9, 10]
    assert (first["again"], second["again"]) == (True, False)
    assert [state.status for state in desk.states()] == ["PENDING"] * 2


def test_a_sequence_that_is_not_reported_is_queried(node: Node) -> None:
    """Where the refusal does not name it, the account does."""
    node.answers.append((32, "sdk", "incorrect account sequence"))
    node.sequence = 5
    with Desk(node) as desk:
        node.sequence = 8
        desk.send(long())
        desk.answer()

    assert [tx.sequence for tx in node.received] == [5, 8]


def test_a_sequence_that_is_never_right_is_given_up(node: Node) -> None:
    """Three times, then the order is rejected."""
    node.answers.extend([(32, "sdk", "account sequence mismatch, expected 9, got 5")] * 3)
    with Desk(node) as desk:
        desk.send(long())
        answers = [desk.answer() for _ in range(2)]

    assert len(node.received) == 3
    assert answers[-1]["again"] is False
    assert desk.states()[-1].status == "REJECTED"


# What refuses a wrong sequence without its name: a signature is over it, too.
UNSIGNED: Final = [
    *(("dydxaccountplus", code) for code in (100, 104, 105)),
    ("sdk", 4),
]
VERIFY: Final = "signature verification failed; please verify account number (3), sequence (8)"


@pytest.mark.parametrize(("codespace", "code"), UNSIGNED)
def test_a_signature_over_a_wrong_sequence_is_made_again(
    node: Node, codespace: str, code: int
) -> None:
    """The account is read once; it stands elsewhere, so that was it, and later orders go through."""
    node.answers.append((code, codespace, VERIFY))
    with Desk(node) as desk:
        node.sequence = 8
        [first] = desk.send(long(1))
        second = desk.answer()
        desk.send(long(2))

    assert [tx.sequence for tx in node.received] == [5, 8, 9]
    assert (first["again"], second["again"]) == (True, False)
    assert node.requests.count("account") == 2
    assert [state.status for state in desk.states()] == ["PENDING"] * 2


@pytest.mark.parametrize(("codespace", "code"), UNSIGNED)
def test_a_signature_that_is_wrong_for_another_reason_is_refused(
    node: Node, codespace: str, code: int
) -> None:
    """The account stands where it was believed to: sent once, and the reason is in words."""
    node.answers.append((code, codespace, VERIFY))
    with Desk(node) as desk:
        [answer] = desk.send(long(1))
        desk.send(long(2))

    assert [tx.sequence for tx in node.received] == [5, 5]
    assert answer["again"] is False
    assert node.requests.count("account") == 2
    assert desk.states()[1].status == "REJECTED"
    assert "unknown error" not in desk.states()[1].reason


def test_a_sequence_that_cannot_be_read_again_is_queried_before_the_next_order(node: Node) -> None:
    """The order that it was wrong for is refused: nobody knows whether that was it."""
    with Desk(node) as desk:
        node.answers.append((100, "dydxaccountplus", VERIFY))
        node.blocked = grpc.StatusCode.UNAVAILABLE
        [answer] = desk.send(long(1))
        node.blocked, node.sequence = None, 8
        desk.send(long(2))

    assert [tx.sequence for tx in node.received] == [5, 8]
    assert answer["again"] is False


def test_a_transaction_that_the_node_has_already_used_its_sequence(node: Node) -> None:
    """Of sdk 19 the node holds the very bytes."""
    node.answers.append((19, "sdk", "tx already in mempool"))
    with Desk(node) as desk:
        desk.send(long(1), long(2))

    assert [tx.sequence for tx in node.received] == [5, 6]


def test_the_stack_of_a_node_that_fails_inside_is_cut_off(node: Node) -> None:
    """Its cause stays; what is left of a long one says how long it was."""
    stack = "\nstack:\ngoroutine 1 [running]:\n" + "runtime/debug.Stack()\n" * 500
    node.answers.append((111222, "undefined", "recovered: invalid memory address" + stack))
    node.answers.append((12, "clob", "x" * 5_000))
    with Desk(node) as desk:
        panic, long_winded = desk.send(short(1), short(2))

    size = len(stack) + len("recovered: invalid memory address")
    log = f"recovered: invalid memory address … ({size})"
    assert panic["result"]["log"] == log
    assert desk.states()[1].reason == f"undefined 111222: the node failed inside ({log})"
    assert long_winded["result"]["log"] == "x" * 400 + " … (5000)"


def test_a_refused_stateful_order_uses_no_sequence(node: Node) -> None:
    """The next one has it."""
    node.answers.append((3007, "clob", "collateral"))
    with Desk(node) as desk:
        desk.send(long(1), long(2))

    assert [tx.sequence for tx in node.received] == [5, 5]


def test_timestamp_nonces_are_the_chains_time_and_never_the_same(node: Node) -> None:
    """Milliseconds of the last block and on; each greater than the one before."""
    with Desk(node, nonces=True) as desk:
        for n in range(5):
            desk.trader.submit(long(n))
        for _ in range(5):
            desk.answer()
    nonces = sorted(tx.sequence for tx in node.received)

    assert len(set(nonces)) == 5
    assert START * 1000 <= nonces[0] < nonces[-1] < (START + 30) * 1000


def test_a_nonce_that_is_off_is_made_from_a_newer_block(node: Node) -> None:
    """The chain's time is requested again."""
    node.answers.append((32, "sdk", "timestamp nonce not within 30 s"))
    with Desk(node, nonces=True) as desk:
        node.height = 1_000
        desk.send(long())
        desk.answer()
    [first, second] = [tx.sequence for tx in node.received]

    assert second - first >= 899_000


# === Answers that never come ===


@pytest.mark.parametrize("order", [short(), long()])
def test_a_lost_answer_is_unresolved_and_the_order_never_sent_again(
    node: Node, order: OrderRequest
) -> None:
    """The node took it and did not answer before the deadline."""
    held = threading.Event()
    node.answers.append(held)
    with Desk(node, deadline_s=0.2) as desk:
        [answer] = desk.send(order)
        again = desk.trader.submit(order)
        held.set()

    assert len(node.received) == 1
    assert "DEADLINE_EXCEEDED" in answer["errors"][0]["msg"]
    assert [state.status for state in desk.states()] == ["PENDING", "UNRESOLVED"]
    assert isinstance(again, NotQueued)
    assert again.error in ("ErrInvalidReplacement", "ErrStatefulOrderAlreadyExists")


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "UNKNOWN"])
def test_a_broken_connection_leaves_an_order_unresolved(node: Node, status: str) -> None:
    """It may have been broken after the order had gone through."""
    node.answers.append(grpc.StatusCode[status])
    with Desk(node) as desk:
        desk.send(short())

    assert desk.states()[-1].status == "UNRESOLVED"
    assert len(node.received) == 1


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"])
def test_what_a_gateway_turns_away_is_rejected(node: Node, status: str) -> None:
    """It has handed nothing on."""
    node.answers.append(grpc.StatusCode[status])
    with Desk(node) as desk:
        desk.send(short())

    assert desk.states()[-1].status == "REJECTED"
    assert status in desk.states()[-1].reason


def test_after_a_lost_answer_the_sequence_is_queried(node: Node) -> None:
    """The lost one may have used it, or not."""
    node.answers.append(grpc.StatusCode.UNAVAILABLE)
    with Desk(node) as desk:
        desk.send(long(1))
        node.sequence = 6
        desk.send(long(2))

    assert [tx.sequence for tx in node.received] == [5, 6]


def test_without_a_sequence_nothing_is_sent(node: Node) -> None:
    """The node does not report it: the order is rejected, and was never out."""
    node.answers.append(grpc.StatusCode.UNAVAILABLE)
    with Desk(node) as desk:
        desk.send(long(1))
        node.blocked = grpc.StatusCode.UNAVAILABLE
        desk.send(long(2))

    assert len(node.received) == 1
    assert desk.states()[-1].status == "REJECTED"
    assert "not sent" in desk.states()[-1].reason


def test_submitting_never_waits_for_the_node(node: Node) -> None:
    """With every thread of it held, requests queue up; beyond the capacity they are denied."""
    held = threading.Event()
    node.answers.extend([held] * 20)
    with Desk(node, capacity=20) as desk:
        answers = [desk.trader.submit(short(n)) for n in range(21)]
        held.set()
        for _ in range(20):
            desk.answer()

    assert [type(answer) for answer in answers] == [Queued] * 20 + [NotQueued]
    assert "at most 20" in answers[-1].reason  # type: ignore[union-attr]  # as just asserted
    assert len(node.received) == 20


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (short(), cancel(short())),
        (short(), BatchCancel(cancels=(cancel(short(3)), cancel(short())))),
        (short(), short(good_til_block=111)),
        (long(), cancel(long())),
        (replacement(long(), long(4)), cancel(long(4))),
    ],
    ids=["cancel", "batch", "replacement", "stateful", "successor"],
)
def test_what_is_requested_of_one_order_goes_out_in_turn(node: Node, first: Any, then: Any) -> None:
    """A cancel never overtakes its order; requests about others do not wait."""
    held = threading.Event()
    node.answers.append(held)
    with Desk(node, nonces=True) as desk:
        queued = desk.trader.submit(first)
        while node.answers:  # until the node has it
            desk.trader._sender.stop.wait(0.01)
        last = desk.trader.submit(then)
        [other] = desk.send(short(2))
        held.set()
        answers = [desk.answer()["ids"] for _ in range(3 if isinstance(first, Replace) else 2)]

    assert isinstance(queued, Queued)
    assert isinstance(last, Queued)
    assert other["ids"] == [order_id(US, short(2))]
    assert (answers[0], answers[-1]) == (list(queued.ids), list(last.ids))


def test_many_requests_of_one_order_delay_no_other(node: Node) -> None:
    """However long the first has no answer."""
    held = threading.Event()
    node.answers.append(held)
    with Desk(node) as desk:
        desk.trader.submit(short())
        while node.answers:
            desk.trader._sender.stop.wait(0.01)
        for block in range(111, 121):
            desk.trader.submit(short(good_til_block=block))
        [other] = desk.send(short(2))
        held.set()

    assert other["ids"] == [order_id(US, short(2))]
    assert len(node.received) == 12


def test_the_cancel_of_an_order_without_an_answer_is_sent_at_the_end(node: Node) -> None:
    """It may stand: that is what the cancel is for."""
    held = threading.Event()
    node.answers.append(held)
    with Desk(node, deadline_s=0.3) as desk:
        desk.trader.submit(short())
        desk.trader.submit(cancel(short()))
    held.set()
    kinds = [type(tx.message).__name__ for tx in node.received]

    assert kinds == ["MsgPlaceOrder", "MsgCancelOrder"]


def test_closing_sends_what_was_queued(node: Node) -> None:
    """Queued means that it will be sent."""
    with Desk(node) as desk:
        for n in range(20):
            desk.trader.submit(long(n))

    assert len(node.received) == 20
    denied = desk.trader.submit(long(21))
    assert isinstance(denied, NotQueued)
    assert "not started or closed" in denied.reason
    desk.trader.close()


def test_closing_does_not_wait_for_a_dead_node_again_and_again(node: Node) -> None:
    """After one lost answer the rest is dropped, and reported as dropped."""
    held = threading.Event()
    node.answers.extend([held] * 5)
    with Desk(node, deadline_s=0.2) as desk:
        for n in range(5):
            desk.trader.submit(long(n))
    held.set()
    answers = [desk.answer() for _ in range(5)]

    assert len(node.received) == 1
    assert "errors" in answers[0]
    assert all("not sent" in answer["result"]["log"] for answer in answers[1:])


# === What is not sent ===


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (short(good_til_block=100), "ErrHeightExceedsGoodTilBlock"),
        (short(good_til_block=122), "ErrGoodTilBlockExceedsShortBlockWindow"),
        (cancel(short(good_til_block=142)), "ErrGoodTilBlockExceedsShortBlockWindow"),
        (cancel(short(good_til_block=99)), "ErrHeightExceedsGoodTilBlock"),
        (
            limit(BTC, "BUY", "1", "1", client_id=1, good_til_block_time=START),
            "ErrTimeExceedsGoodTilBlockTime",
        ),
        (
            limit(BTC, "BUY", "1", "1", client_id=1, good_til_block_time=START + 96 * 86_400),
            "ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
        ),
        (BatchCancel(cancels=()), "ErrInvalidBatchCancel"),
        (BatchCancel(cancels=(cancel(short()),) * 2), "ErrInvalidBatchCancel"),
        (
            BatchCancel(cancels=tuple(cancel(short(n)) for n in range(101))),
            "ErrInvalidBatchCancel",
        ),
        (
            OrderRequest(
                ticker="ETH-USD", clob_pair_id=1, side="BUY", quantums=1, subticks=1,
                time_in_force="GTT", client_id=1, good_til_block=110,
            ),
            "ErrInvalidClob",
        ),
    ],
)  # fmt: skip
def test_what_the_chain_would_refuse_now_is_denied(node: Node, order: Any, error: str) -> None:
    """By its height and its time; nothing goes out."""
    with Desk(node) as desk:
        denied = desk.trader.submit(order)

    assert isinstance(denied, NotQueued)
    assert denied.error == error
    assert error in denied.reason
    assert node.received == []


def test_a_market_that_is_not_active_is_denied(node: Node) -> None:
    """By its status."""
    with Desk(node, statuses={"BTC-USD": "PAUSED"}) as desk:
        denied = desk.trader.submit(short())

    assert isinstance(denied, NotQueued)
    assert denied.error == "ErrOrderConflictsWithClobPairStatus"


def test_what_no_message_can_hold_is_denied(node: Node) -> None:
    """For example a client id of 33 bits in a cancel."""
    with Desk(node) as desk:
        request = CancelRequest(ticker="", clob_pair_id=0, client_id=2**32, good_til_block=110)
        denied = desk.trader.submit(request)

    assert isinstance(denied, NotQueued)


@pytest.mark.parametrize("number", [-1, 128_001])
def test_a_subaccount_that_cannot_be_is_denied(node: Node, number: int) -> None:
    """Numbers go from 0 to 128,000."""
    with Desk(node) as desk:
        denied = desk.trader.submit(short(), number)

    assert isinstance(denied, NotQueued)
    assert denied.error == "ErrInvalidSubaccountIdNumber"


def test_the_same_order_is_taken_once_and_replaced_by_a_later_one(node: Node) -> None:
    """A greater block makes it a replacement; a stateful order has none."""
    with Desk(node) as desk:
        desk.send(short(), long())
        denied = [desk.trader.submit(request) for request in (short(), long())]
        desk.send(short(good_til_block=111))

    assert [answer.error for answer in denied if isinstance(answer, NotQueued)] == [
        "ErrInvalidReplacement",
        "ErrStatefulOrderAlreadyExists",
    ]
    assert len(node.received) == 3


def test_what_was_handed_over_long_ago_is_forgotten(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a trader that runs for months would grow."""
    monkeypatch.setattr("dydx_conn._HANDED", 3)
    with Desk(node) as desk:
        desk.send(*(short(n) for n in range(5)))

    assert len(desk.trader._handed) == 3


# === Cancels, replacements, subaccounts, keys ===


def test_cancels_and_batches_go_out_as_such(node: Node) -> None:
    """Short-term ones without a sequence, stateful ones with."""
    batch = BatchCancel(cancels=(cancel(short(1)), cancel(short(2))))
    with Desk(node) as desk:
        answers = desk.send(cancel(short()), cancel(long()), batch)
    kinds = [(type(tx.message).__name__, tx.sequence) for tx in node.received]

    assert kinds == [("MsgCancelOrder", 0), ("MsgCancelOrder", 5), ("MsgBatchCancel", 0)]
    assert [answer["to"] for answer in answers] == ["cancel", "cancel", "batch_cancel"]
    assert len(answers[2]["ids"]) == 2


def test_a_stateful_order_is_replaced_once_its_cancel_is_taken(node: Node) -> None:
    """Two transactions in order."""
    with Desk(node) as desk:
        desk.send(long(1), replacement(long(1), long(2)))
        desk.answer()
    messages = [type(tx.message).__name__ for tx in node.received]

    assert messages == ["MsgPlaceOrder", "MsgCancelOrder", "MsgPlaceOrder"]
    assert [tx.sequence for tx in node.received] == [5, 6, 7]


@pytest.mark.parametrize("answer", [(3006, "clob", ""), grpc.StatusCode.UNAVAILABLE])
def test_without_its_cancel_the_other_order_is_not_placed(node: Node, answer: Any) -> None:
    """It may have been filled, or stand: no second one beside it."""
    with Desk(node) as desk:
        desk.send(long(1))
        node.answers.append(answer)
        desk.send(replacement(long(1), long(2)))
        dropped = desk.answer()

    assert len(node.received) == 2
    assert "cancel before it was not taken" in dropped["result"]["log"]
    assert desk.states()[-1].status == "REJECTED"


def test_a_dropped_cancel_takes_its_order_with_it(node: Node) -> None:
    """Neither is sent, and both are reported as not sent."""
    with Desk(node) as desk:
        desk.send(long(1))
        node.answers.append(grpc.StatusCode.UNAVAILABLE)
        desk.send(long(2))
        node.blocked = grpc.StatusCode.UNAVAILABLE
        [first] = desk.send(replacement(long(1), long(3)))
        second = desk.answer()

    assert (first["to"], second["to"]) == ("cancel", "place")
    assert len(node.received) == 2


def test_a_cancel_that_breaks_off_takes_its_order_with_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was raised, frames report both; and closing does not hang on it."""
    with Desk(node) as desk:

        def broken(*_: Any) -> Any:
            raise ValueError("on purpose")

        monkeypatch.setattr(desk.trader._sender.node, "broadcast", broken)
        desk.trader.submit(replacement(long(), long(2)))
        answers = [desk.answer() for _ in range(2)]

    assert "errors" in answers[0]
    assert answers[1]["ids"] == [order_id(US, long(2))]
    assert "not sent" in answers[1]["result"]["log"]


def test_children_of_the_owner_trade_with_the_same_key(node: Node) -> None:
    """An isolated child is named in the message, and its orders have ids of their own."""
    with Desk(node) as desk:
        queued = desk.trader.submit(short(), 128)
        desk.answer()
    [tx] = node.received

    assert tx.message.order.order_id.subaccount_id.number == 128
    assert isinstance(queued, Queued)
    assert queued.ids == (order_id(Subaccount(US.owner, 128), short()),)


def test_another_ones_key_needs_what_the_owner_gave_it(node: Node) -> None:
    """With authenticators it signs for the owner; without it is refused at once."""
    permitted = Keys(SecretStr("5c" * 32))
    with Desk(node, keys=permitted, authenticators=[4]) as desk:
        desk.send(short(), long())

    assert [tx.authenticators for tx in node.received] == [[4], [4]]
    assert [tx.sequence for tx in node.received] == [0, 5]
    with pytest.raises(ConnError, match="authenticators"):
        Desk(node, keys=permitted)


# === The chain's clock ===


def block(height: int) -> Frame:
    """Report a block as the indexer does."""
    return WireWriter().block(height, "2027-01-15T08:10:00.000Z")


def test_ends_are_counted_from_the_nodes_block_and_time(node: Node) -> None:
    """Never from this machine's clock; frames bring them forward, and never back."""
    with Desk(node) as desk:
        trader = desk.trader
        assert (trader.height, trader.good_til_block()) == (100, 110)
        assert trader.good_til_block(99) == 120
        assert START <= trader.time < START + 30
        assert START + 60 <= trader.good_til_block_time(60) < START + 90
        trader.observe(block(105))
        trader.observe(block(103))
        trader.observe(ws_frame(1, 0, 0, "c1", "{"))
        trader.observe(Frame(1, 0, 0, "c1", "ws", "", "channel_data", "v4_block_height"))
        assert trader.height == 105
        assert trader.time >= START + 600


@pytest.mark.parametrize("behind", [0, 1, 4, 5, 6, 30, 200])
def test_a_short_term_order_is_dated_by_the_later_height(node: Node, behind: int) -> None:
    """Dated by an indexer that is behind it would be dead on arrival; frames report it as sent."""
    node.height = 300
    with Desk(node) as desk:
        desk.trader.observe(block(300 - behind))
        desk.trader._sender.refresh()
        desk.send(short(good_til_block=300 - behind + 5))
    [sent] = [frame for frame in desk.frames if frame.kind == "sent"]

    assert node.received[0].message.order.good_til_block == 305
    assert json.loads(sent.text)["place"]["good_til_block"] == 305
    assert desk.states()[0].named == cancel(short(good_til_block=305))


def test_between_two_answers_of_the_node_the_indexer_stays_as_far_behind(node: Node) -> None:
    """Its blocks come at the chain's pace; until it is further on than the node was."""
    with Desk(node) as desk:
        desk.trader.observe(block(94))
        desk.trader._sender.refresh()
        for client_id, height in enumerate([94, 96, 100], 1):
            desk.trader.observe(block(height))
            desk.send(short(client_id, good_til_block=height + 5))

    assert [tx.message.order.good_til_block for tx in node.received] == [105, 107, 111]


OVER: Final = (10, "clob", "GoodTilBlock 103 is less than the current blockHeight 107")


def test_an_end_that_had_passed_is_chosen_again_once(node: Node) -> None:
    """The node was further on than it had reported: nothing was taken, so none is sent twice."""
    order = short(good_til_block=103)
    node.answers.append(OVER)
    with Desk(node) as desk:
        node.height = 107
        [first] = desk.send(order)
        second = desk.answer()
        desk.send(cancel(order))

    assert [tx.message.order.good_til_block for tx in node.received[:2]] == [103, 110]
    assert node.received[2].message.good_til_block == 110
    assert (first["again"], second["again"], second["until"]) == (True, False, 110)
    assert [state.status for state in desk.states()] == ["PENDING"] * 2
    assert desk.states()[-1].named == cancel(short(good_til_block=110))
    assert desk.states()[-1].before is None


def test_an_end_that_has_passed_again_is_refused(node: Node) -> None:
    """Also of a cancel; of an order the state says so."""
    node.answers.extend([OVER] * 4)
    with Desk(node) as desk:
        desk.send(short(good_til_block=103))
        desk.answer()
        desk.send(BatchCancel(cancels=(cancel(short(2)),)))
        last = desk.answer()

    assert len(node.received) == 4
    assert (last["again"], last["result"]["code"]) == (False, 10)
    assert [state.status for state in desk.states()] == ["PENDING", "REJECTED"]


def test_a_replacement_that_is_sent_again_leaves_what_it_was_to_replace(node: Node) -> None:
    """Refused in the end, the order before it stands, not its own first try."""
    node.answers.extend([(0, "", ""), OVER, OVER])
    with Desk(node) as desk:
        node.height = 104
        desk.send(short(good_til_block=103))
        desk.send(short(good_til_block=105))
        desk.answer()

    last = desk.states()[-1]
    assert last.named == cancel(short(good_til_block=103))
    assert (last.status, last.before) == ("PENDING", None)


def test_an_end_too_far_ahead_is_still_refused(node: Node) -> None:
    """The indexer's delay excuses no more than itself."""
    with Desk(node) as desk:
        desk.trader.observe(block(94))
        desk.trader._sender.refresh()
        near = desk.trader.submit(short(1, good_til_block=114))
        far = desk.trader.submit(short(2, good_til_block=122))

    assert isinstance(near, Queued)
    assert node.received[0].message.order.good_til_block == 120
    assert far == NotQueued(far.reason, "ErrGoodTilBlockExceedsShortBlockWindow")  # type: ignore[union-attr]


def test_no_cancel_ends_before_its_order(node: Node) -> None:
    """The order was dated further ahead than requested: its cancel would leave it on the book."""
    order, other = short(1, good_til_block=103), short(2, good_til_block=103)
    with Desk(node) as desk:
        desk.trader.observe(block(94))
        desk.trader._sender.refresh()
        desk.send(order)
        desk.trader.observe(block(100))
        desk.trader._sender.refresh()
        desk.send(cancel(order), BatchCancel(cancels=(cancel(other), cancel(order))))
        desk.send(cancel(other))
    placed, alone, batch, unplaced = [tx.message for tx in node.received]

    assert placed.order.good_til_block == 109
    assert (alone.good_til_block, batch.good_til_block) == (109, 109)
    assert unplaced.good_til_block == 103


def test_an_order_of_a_wider_window_can_be_cancelled(node: Node) -> None:
    """Another client may have placed it 40 blocks ahead; our own never are."""
    theirs = cancel(short(1, good_til_block=120), good_til_block=141)
    with Desk(node) as desk:
        desk.send(theirs, BatchCancel(cancels=(theirs,)))

    assert [tx.message.good_til_block for tx in node.received] == [141, 141]


def test_the_same_order_is_taken_once_however_late_the_indexer_is(node: Node) -> None:
    """What was requested counts: a later date of our own makes it no replacement."""
    with Desk(node) as desk:
        desk.trader.observe(block(98))
        desk.trader._sender.refresh()
        desk.send(short(good_til_block=103))
        node.height = 104
        desk.trader._sender.refresh()
        again = desk.trader.submit(short(good_til_block=103))

    assert again == NotQueued(again.reason, "ErrInvalidReplacement")  # type: ignore[union-attr]
    assert len(node.received) == 1


def test_the_block_is_queried_from_time_to_time(node: Node) -> None:
    """And a node that does not answer leaves it where it was."""
    with Desk(node, refresh_s=0.01) as desk:
        node.height = 107
        desk.receive(lambda frame: '"107"' in frame.text)
        node.blocked = grpc.StatusCode.UNAVAILABLE
        known = len(node.requests)
        while len(node.requests) < known + 2:
            desk.trader._sender.stop.wait(0.01)

        assert desk.trader.height == 107


# === Starting ===


def test_a_node_of_another_chain_is_refused(node: Node) -> None:
    """Nothing is signed for a chain that is not the one configured."""
    node.chain_id = "dydx-mainnet-1"

    with pytest.raises(NetworkError, match=r"expected a node of localdydxprotocol.*dydx-mainnet-1"):
        Desk(node).trader.start()


def test_a_node_that_does_not_answer_is_reported(node: Node) -> None:
    """Not there, or there and silent about block or account."""
    node.blocked = grpc.StatusCode.NOT_FOUND
    with pytest.raises(NetworkError, match="NOT_FOUND"):
        Desk(node).trader.start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        node.address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NetworkError, match="UNAVAILABLE"):
            Desk(node, deadline_s=2.0).trader.start()


def test_a_trader_is_started_and_closed_as_a_context(node: Node) -> None:
    """And is itself what the block holds."""
    desk = Desk(node)
    with desk.trader as trader:
        assert trader is desk.trader
        assert isinstance(trader.submit(short()), Queued)

    assert len(node.received) == 1
    assert isinstance(trader.submit(short(2)), NotQueued)


def test_a_trader_that_was_never_started_denies(node: Node) -> None:
    """And closes without a word."""
    trader = Desk(node).trader

    assert isinstance(trader.submit(short()), NotQueued)
    trader.close()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("test-dydx-grpc.kingnodes.com:443", "secure"),
        ("https://dydx-ops-grpc.kingnodes.com:443", "secure"),
        ("10.0.0.7:9090", "secure"),
        ("127.0.0.1.example.com:9090", "secure"),
        ("127.0.0.1:9090", "insecure"),
        ("http://localhost:9090", "insecure"),
    ],
)
def test_only_a_node_on_this_machine_is_spoken_to_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, address: str, kind: str
) -> None:
    """TLS everywhere else, and gRPC sends nothing a second time by itself."""
    made: list[tuple[str, Any]] = []
    monkeypatch.setattr(grpc, "secure_channel", lambda *given: made.append(("secure", given)))
    monkeypatch.setattr(grpc, "insecure_channel", lambda *given: made.append(("insecure", given)))
    _Channel(address, 1.0)
    [(found, given)] = made

    assert found == kind
    assert given[0] == address.rpartition("//")[2]
    assert ("grpc.enable_retries", 0) in given[-1]


def test_a_plain_text_node_elsewhere_is_refused(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its TLS does not hold: nothing is sent to it."""
    monkeypatch.setattr("dydx_conn.is_loopback", lambda _: False)

    with pytest.raises(NetworkError, match="UNAVAILABLE"):
        Desk(node, deadline_s=2.0).trader.start()


# === The audit ===


def test_everything_is_written_down_and_no_secret(node: Node, tmp_path: Path) -> None:
    """Sent, answered, denied, unanswered; no key, signature or transaction bytes."""
    with AuditLog(tmp_path / "audit.jsonl") as audit:
        with Desk(node, audit=audit) as desk:
            desk.send(short())
            desk.trader.submit(short())
        lines = [json.loads(line) for line in audit.path.read_text().splitlines()]

    assert [line["event"] for line in lines] == [
        "node latest_block",
        "node sent",
        "node broadcast",
        "node denied",
    ]
    assert lines[1]["content"]["place"]["client_id"] == 1
    text = audit.path.read_text() + "".join(frame.text for frame in desk.frames)
    for secret in ("4b" * 32, "signature", "tx_bytes"):
        assert secret not in text


def test_a_bug_while_sending_is_reported_and_not_hidden(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order may be out: unresolved, and never again."""

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with Desk(node) as desk:
        monkeypatch.setattr(desk.trader._sender.node, "broadcast", broken)
        [answer] = desk.send(short())

    assert answer["errors"] == [{"msg": "RuntimeError"}]
    assert desk.states()[-1].status == "UNRESOLVED"
