"""The whole way of an order: built, signed, judged by the venue's node, reported by its indexer."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from dydx_conn import (
    Accounts,
    AuditLog,
    Frame,
    Inbox,
    Keys,
    MarketFields,
    Network,
    NotQueued,
    OrderRequest,
    OrderState,
    PerpetualMarket,
    Queued,
    Replace,
    Subaccount,
    Trader,
    cancel,
    cancel_all,
    client_ids,
    limit,
    live,
    market,
    perpetual_market,
    replacement,
    stop_loss,
    take_profit,
    twap,
)
from dydx_v4_client.faucet_client import FaucetClient
from dydx_v4_client.key_pair import KeyPair
from dydx_v4_client.network import LOCAL, make_insecure
from dydx_v4_client.node.authenticators import Authenticator, AuthenticatorType
from dydx_v4_client.node.client import NodeClient
from dydx_v4_client.wallet import Wallet
from leaks import plant
from pydantic import SecretStr
from servers import venue_process

# `harsh` in the check of that name.
HABITS = ("--habits", os.environ.get("TEST_VENUE_HABITS", "plain"))
# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 60

# === A venue, and a session on it ===


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Run a venue for all tests of this file; blocks come five times as fast."""
    with venue_process("--speed", "5", "--count", "2", *HABITS, patience_s=PATIENCE_S) as found:
        yield Network(**found.fields | {"name": "local"})


class Session:
    """A funded key, its trader, and one stream in which both speak: frames and order states."""

    def __init__(self, network: Network, seed: int, **options: Any) -> None:
        self.network, self.keys = network, Keys(SecretStr(plant(f"{seed:02x}" * 32)))
        self.us = options.pop("subaccount", Subaccount(self.keys.address, 0))
        self.inbox, self.accounts = Inbox(), Accounts()
        self.states: list[OrderState] = []
        self.codes: dict[str, str] = {}  # the node's last answer to an order, by its id
        self._arrived, self._ready, self._over = threading.Condition(), threading.Event(), False
        self.markets = markets(network)
        self.btc = self.markets["BTC-USD"]
        self.price = float(oracle(network))
        given: dict[str, Any] = {"markets": self.markets, "refresh_s": 0.5} | options
        self.trader = Trader(network, self.keys, self.us, self.inbox, **given)
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        frames = live(
            self.network, [], subaccount=self.us, parent=True, inbox=self.inbox, pace=self._receive
        )
        frames.subscribe()

    def _receive(self, frame: Any) -> bool:
        self.trader.observe(frame)
        with self._arrived:
            if frame.channel == "broadcast":
                answer = msgspec.json.decode(frame.text)
                # What is sent again with another end is not answered yet.
                final = {} if answer.get("again") else dict.fromkeys(answer["ids"], frame.type)
                self.codes |= final
            for update in self.accounts.step(frame):
                self.states.extend(update.orders)
            self._arrived.notify_all()
        if frame.type == "subscribed" and frame.channel == "v4_parent_subaccounts":
            self._ready.set()
        return not self._over

    def __enter__(self) -> "Session":
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        self.trader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.trader.close()
        self._over = True
        self._thread.join()

    def send(self, order: Any, number: int | None = None) -> Queued:
        answer = self.trader.submit(order, number)
        assert isinstance(answer, Queued), answer
        return answer

    def answered(self, queued: Queued) -> str:
        """Wait for the node's answer to an order; return its code, "0" if it took it."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: queued.ids[0] in self.codes, timeout=PATIENCE_S)
            return self.codes[queued.ids[0]]

    def settled(self, id: str, until: Callable[[OrderState], bool]) -> list[OrderState]:
        """Wait until an order's state is as expected; return all its states until then."""

        def states() -> list[OrderState]:
            return [state for state in self.states if state.id == id]

        with self._arrived:
            found = self._arrived.wait_for(lambda: any(map(until, states())), timeout=PATIENCE_S)
            assert found, states()
            return states()

    def until(self, queued: Queued, status: str) -> list[str]:
        """Wait for an order to reach a status; return all that it had."""
        states = self.settled(queued.ids[0], lambda state: state.status == status)
        return [state.status for state in states]

    def short(self, client_id: int, away: float = 0.9, blocks: int = 18) -> OrderRequest:
        """Build a resting buy."""
        end = self.trader.good_til_block(blocks)
        return limit(
            self.btc, "BUY", "0.001", f"{self.price * away:.6f}", rounding="less",
            client_id=client_id, good_til_block=end,
        )  # fmt: skip

    def long(self, client_id: int, away: float = 0.9) -> OrderRequest:
        """Build a resting buy that outlives its blocks."""
        return limit(self.btc, "BUY", "0.001", f"{self.price * away:.6f}", **self.later(client_id))

    def later(self, client_id: int) -> Any:
        """Name who an order is, and that it ends in an hour of the chain's time."""
        until = self.trader.good_til_block_time(3600)
        return {"client_id": client_id, "good_til_block_time": until, "rounding": "less"}


def markets(network: Network) -> dict[str, PerpetualMarket]:
    """Read the markets' parameters."""
    return {
        ticker: perpetual_market(msgspec.convert(fields, MarketFields, strict=False))
        for ticker, fields in answered(network, "perpetualMarkets", "markets").items()
    }


def oracle(network: Network) -> str:
    """Query the oracle's price of the first market."""
    found = answered(network, "perpetualMarkets?ticker=BTC-USD", "markets")
    return str(found["BTC-USD"]["oraclePrice"])


def answered(network: Network, path: str, part: str) -> Any:
    """Return a part of an answer of REST; what is no answer is requested again."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            return httpx.get(f"{network.rest}/v4/{path}").json()[part]
        time.sleep(0.1)
    raise AssertionError(f"expected an answer of {path}")


def fund(network: Network, keys: Keys, number: int = 0, usdc: float = 50_000) -> None:
    """Let the faucet pay."""
    asyncio.run(FaucetClient(network.rest).fill(keys.address, number, usdc))


@pytest.fixture
def session(network: Network, request: pytest.FixtureRequest) -> Iterator[Session]:
    """Open a session with a key of the test's own."""
    seed = 1 + sum(map(ord, request.node.name)) % 200
    fund(network, Keys(SecretStr(plant(f"{seed:02x}" * 32))))
    wait_for_makers(network)
    with Session(network, seed) as opened:
        yield opened


def wait_for_makers(network: Network) -> None:
    """Wait while the makers have left the first market: what is to fill would not."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        asks = answered(network, "orderbooks/perpetualMarket/BTC-USD", "asks")
        if asks and float(asks[0]["price"]) < 1.01 * float(oracle(network)):
            return
        time.sleep(0.2)


def undated(order: OrderRequest | None) -> OrderRequest | None:
    """Return a short-term order without its end, which the trader dates by the node's height."""
    return order and msgspec.structs.replace(order, good_til_block=0)


# === Short-term ===


def test_a_market_order_is_sent_and_filled(session: Session) -> None:
    """Its id is known before it is sent, and is the indexer's; the fill is reported once."""
    order = market(
        session.btc, "BUY", "0.01", f"{session.price * 1.05:.6f}", rounding="less",
        client_id=next(client_ids(time.time_ns())), good_til_block=session.trader.good_til_block(),
    )  # fmt: skip
    queued = session.send(order)

    statuses = session.until(queued, "FILLED")

    last = session.states[-1]
    assert statuses[0] == "PENDING"
    assert statuses[-1] == "FILLED"
    assert (last.id, str(last.filled)) == (queued.ids[0], "0.01")
    assert undated(last.order) == undated(order)


def test_a_resting_order_is_replaced_and_cancelled(session: Session) -> None:
    """By a later one of the same id; a cancel by the node is no end, the last block is."""
    first = session.short(1, blocks=14)
    queued = session.send(first)
    session.until(queued, "OPEN")
    second = msgspec.structs.replace(
        first, quantums=2_000_000, good_til_block=first.good_til_block + 5
    )
    session.send(replacement(first, second))
    session.settled(
        queued.ids[0],
        lambda state: undated(state.order) == undated(second) and state.status == "OPEN",
    )
    session.send(cancel(second))

    states = session.settled(queued.ids[0], lambda state: state.status == "CANCELLED")

    assert [state.status for state in states if state.leaving][-1] == "OPEN"
    assert states[-1].reason == "USER_CANCELED"


def test_all_orders_are_cancelled_at_once(session: Session) -> None:
    """Short-term ones in one batch, the stateful one by itself."""
    queued = [session.send(session.short(n)) for n in range(3)]
    queued.append(session.send(session.long(10)))
    for each in queued:
        session.until(each, "OPEN")
    cancels = cancel_all(
        session.accounts.orders.open(), good_til_block=session.trader.good_til_block(18)
    )
    for order in cancels[str(session.us)]:
        session.send(order)

    ends = [session.until(each, "CANCELLED")[-1] for each in queued]

    assert len(cancels[str(session.us)]) == 2
    assert ends == ["CANCELLED"] * 4
    assert session.accounts.orders.open() == []


def test_a_post_only_order_that_would_cross_is_rejected(session: Session) -> None:
    """By the node, with its code, in words; what its channel shows of it may come later."""
    for client_id in range(1, 10):
        wait_for_makers(session.network)
        order = msgspec.structs.replace(
            session.short(client_id, away=1.05), time_in_force="POST_ONLY"
        )
        queued = session.send(order)
        if session.answered(queued) != "0":
            break  # where it took it the makers had left by then: there was nothing to cross

    states = session.settled(queued.ids[0], lambda state: state.status == "REJECTED")

    reasons = [state.reason for state in states if state.status == "REJECTED"]
    assert reasons[0].startswith("clob 2003: ")


def test_a_lost_answer_is_settled_by_the_chain(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node took it, nobody received that; the account's channel shows it."""

    class Lost(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.DEADLINE_EXCEEDED

        def details(self) -> str:
            return "lost"

    real = session.trader._sender.node.broadcast
    sent = []

    def lossy(*given: Any) -> Any:
        sent.append(real(*given))
        raise Lost

    monkeypatch.setattr(session.trader._sender.node, "broadcast", lossy)
    queued = session.send(session.long(1))

    statuses = session.until(queued, "OPEN")

    assert statuses[0] == "PENDING"
    assert len(sent) == 1
    assert isinstance(session.trader.submit(session.long(1)), NotQueued)


# === Stateful ===


def test_a_stateful_order_is_replaced_by_another(session: Session) -> None:
    """Cancelled, then the other one placed, each with its sequence."""
    first = session.long(1)
    queued = session.send(first)
    session.until(queued, "OPEN")
    swap = replacement(first, session.long(2, away=0.8))
    assert isinstance(swap, Replace)
    session.send(swap)

    session.until(queued, "CANCELLED")
    [second] = session.accounts.orders.open()
    assert session.until(Queued((second.id,)), "OPEN")[-1] == "OPEN"


def test_two_traders_of_one_account_find_the_right_sequence(
    session: Session, network: Network
) -> None:
    """The second one's is stale: code 32 names the right one, and the order goes through."""
    other = Inbox()
    with Trader(network, session.keys, session.us, other, markets=session.markets) as second:
        session.until(session.send(session.long(1)), "OPEN")
        queued = second.submit(session.long(2))
        assert isinstance(queued, Queued)
        answers: list[Frame] = []
        while len(answers) < 2:
            frame = other.take(len(answers) + 1, PATIENCE_S)
            assert frame is not None
            answers += [frame] if frame.channel == "broadcast" else []
        session.until(queued, "OPEN")

    assert [frame.type for frame in answers] == ["32", "0"]


def test_nonces_stand_in_for_sequences(network: Network) -> None:
    """The chain's time in milliseconds, from a clock that is the chain's."""
    fund(network, Keys(SecretStr(plant("e0" * 32))))
    with Session(network, 0xE0, nonces=True) as session:
        queued = [session.send(session.long(n)) for n in range(2)]
        for each in queued:
            session.until(each, "OPEN")


def test_a_stop_waits_and_a_satisfied_take_profit_fires(session: Session) -> None:
    """Untriggered is open; a trigger that holds already fires at the end of the block."""
    price, later = session.price, session.later
    stop = stop_loss(
        session.btc, "SELL", "0.001", f"{price * 0.5:.6f}", f"{price * 0.4:.6f}", at_once=True,
        **later(1),
    )  # fmt: skip
    profit = take_profit(
        session.btc, "BUY", "0.001", f"{price * 1.2:.6f}", f"{price * 1.1:.6f}", at_once=True,
        **later(2),
    )  # fmt: skip
    waiting, firing = session.send(stop), session.send(profit)

    assert session.until(firing, "FILLED")[-1] == "FILLED"
    assert session.until(waiting, "OPEN")[-1] == "OPEN"
    session.send(cancel(stop))
    assert session.until(waiting, "CANCELLED")[-1] == "CANCELLED"


def test_a_twap_order_is_worked_off(session: Session) -> None:
    """Its terms reach the chain where it reads them; the first part fills at once."""
    order = twap(
        session.btc, "BUY", "0.01", duration_s=300, interval_s=30, tolerance_ppm=20_000,
        **session.later(1),
    )  # fmt: skip
    queued = session.send(order)

    session.until(queued, "PARTIALLY_FILLED")
    session.send(cancel(order))
    assert session.until(queued, "CANCELLED")[-1] == "CANCELLED"


def test_too_many_stateful_orders_in_a_block_are_refused(session: Session) -> None:
    """Two a block, or twenty in a hundred where a busy machine is slow: 5001, in words."""
    for n in range(30):
        session.send(session.long(n))

    with session._arrived:
        assert session._arrived.wait_for(
            lambda: any("5001" in state.reason for state in session.states), timeout=PATIENCE_S
        )
    [refused] = [state for state in session.states if "5001" in state.reason][:1]
    assert refused.status == "REJECTED"
    assert "too many orders" in refused.reason


def test_collateral_and_worth_are_judged_by_the_node(network: Network) -> None:
    """3007 for what cannot be paid, 10001 for one order more than fifty dollars allow."""
    fund(network, Keys(SecretStr(plant("e1" * 32))), usdc=50)
    with Session(network, 0xE1) as session:
        big = msgspec.structs.replace(session.long(1, away=1.0), quantums=10**12)
        poor = session.settled(session.send(big).ids[0], lambda state: state.final)
        session.until(session.send(session.long(2)), "OPEN")
        more = session.settled(session.send(session.long(3)).ids[0], lambda state: state.final)

    assert poor[-1].reason.startswith("clob 3007: ")
    assert more[-1].reason.startswith("clob 10001: ")


# === Subaccounts and other keys ===


def test_an_isolated_child_trades_beside_its_parent(session: Session, network: Network) -> None:
    """Its orders have ids of their own, and are reported on the parent's channel."""
    fund(network, session.keys, number=128)
    own, childs = session.send(session.short(1)), session.send(session.short(1), 128)

    assert own.ids != childs.ids
    for queued, number in ((own, 0), (childs, 128)):
        session.until(queued, "OPEN")
        assert (
            session.accounts.orders.orders[queued.ids[0]].subaccount
            == f"{session.us.owner}/{number}"
        )


def test_a_permitted_key_trades_for_the_owner_and_does_no_more(network: Network) -> None:
    """It places; to cancel it was not permitted: accountplus 101 or what holds it."""
    owner, friend = Keys(SecretStr(plant("e2" * 32))), Keys(SecretStr(plant("e3" * 32)))
    fund(network, owner)
    public = friend.wallet(0, 0).public_key.key
    may = [
        Authenticator.signature_verification(public),
        Authenticator.message_filter("/dydxprotocol.clob.MsgPlaceOrder"),
    ]
    composed = Authenticator.compose(AuthenticatorType.AllOf, may)
    id = asyncio.run(permit(network, SecretStr(plant("e2" * 32)), composed))

    us = Subaccount(owner.address, 0)
    with Session(network, 0xE3, subaccount=us, authenticators=[id]) as session:
        order = session.long(1)
        placed = session.send(order)
        session.until(placed, "OPEN")
        answers: list[Any] = []
        session.trader._log._inbox = Sink(answers)  # type: ignore[assignment]  # as long as it puts
        session.send(cancel(order))
        session.trader.close()

    assert answers[-1][2] == "104"
    assert "accountplus" in answers[-1][1]


class Sink:
    """An inbox that keeps what is put into it."""

    def __init__(self, frames: list[Any]) -> None:
        self._frames = frames

    def put(self, *frame: Any, **_: Any) -> None:
        """Keep it."""
        self._frames.append(frame)


async def permit(network: Network, secret: SecretStr, authenticator: Authenticator) -> int:
    """Let the owner add an authenticator through the official client; return its number."""
    config = LOCAL.node
    make = lambda channel: type(config)(  # noqa: E731 - as the client's own makers
        config.chain_id, config.chaintoken_denom, config.usdc_denom, channel
    )
    made = make_insecure(
        make, rest_indexer=network.rest, websocket_indexer=network.ws, node_url=network.node
    )
    node = await NodeClient.connect(made.node)
    wallet = Wallet(KeyPair.from_hex(secret.get_secret_value()), 0, 0)
    account = await node.get_account(wallet.address)
    wallet.account_number, wallet.sequence = account.account_number, account.sequence
    answer = await node.add_authenticator(wallet, authenticator)
    assert answer.tx_response.code == 0, answer.tx_response.raw_log
    held = await node.get_authenticators(wallet.address)
    made.node.channel.close()
    return int(held.account_authenticators[-1].id)


def test_the_audit_of_a_session_holds_no_secret(network: Network, tmp_path: Path) -> None:
    """Everything requested and answered, and no key."""
    fund(network, Keys(SecretStr(plant("e4" * 32))))
    with (
        AuditLog(tmp_path / "audit.jsonl") as audit,
        Session(network, 0xE4, audit=audit) as session,
    ):
        session.until(session.send(session.short(1)), "OPEN")
    text = (tmp_path / "audit.jsonl").read_text()

    assert "node sent" in text
    assert "node broadcast" in text
    assert "e4" * 8 not in text
