"""The live edge of orders: sign, send each once, and make frames of what was sent and heard.

    OrderRequest, CancelRequest … ──► Trader ──► node
                                        └──► Inbox: sent, answers, blocks ──► Lifecycle

`Trader` alone opens a connection. Wishes about the same order go out in the order they were
submitted in, each once the one before it is answered; others do not wait for one another.
`ClientIds` never gives a number twice.

Units: sizes are `Decimal`; times are unix seconds of the chain's blocks, never of this machine's
clock, where not said otherwise.
Sources: v4-chain x/accountplus; the official client's NodeClient and Builder.
"""

# One name a line would be a page, here and among the imports.
# fmt: off
# isort: off
__all__ = ["ClientIds", "Denied", "Queued", "Trader", "Wish"]

import asyncio
import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self

import msgspec
from dydx_conn import (
    SHORT_TERM, CancelRequest, ConnError, Frame, Inbox, Network, NetworkError, OrderRequest,
    PerpetualMarket, Subaccount, batch_cancel_objection, cancel_objection, objection, order_id,
)
from dydx_keys import AuditLog, Keys, is_loopback
from dydx_orders import (
    WINDOW, BatchCancel, OrderDenied, Replace, Result, batch_cancel_message, blocks_of,
    cancel_message, good_until, place_message, refuse,
)
# isort: on
# fmt: on

# === Client ids ===


class ClientIds:
    """Numbers for orders, each given once: over restarts, threads and processes that share `path`.

    The file holds the first number that nobody has been promised. A new file begins where the
    clock stands, counting 500 a second: so it comes round after 99 days, when no order of the last
    time lives any more (the longest stands 95), and a lost file does no harm.
    """

    RESERVED: Final = 256  # a write to the disk for so many numbers; a restart skips the rest

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._next = self._end = 0

    def __call__(self) -> int:
        """Return a number of 32 bits that was never returned; `ConnError` if the file is broken."""
        with self._lock:
            if self._next == self._end:
                self._next = self._reserve()
                self._end = self._next + self.RESERVED
            self._next += 1
            return (self._next - 1) % (1 << 32)

    def _reserve(self) -> int:
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
                # Until it is closed: two processes must not read the same number.
                fcntl.flock(lock, fcntl.LOCK_EX)
                start = self._read()
                with part.open("w") as file:
                    file.write(f"{(start + self.RESERVED) % (1 << 32)}\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self.path)
        except OSError as error:
            raise ConnError(f"expected to keep client ids in {self.path}: {error}") from None
        return start

    def _read(self) -> int:
        if not self.path.exists():
            return int(self._clock() * 500) % (1 << 32)
        text = self.path.read_text("ascii", "replace")
        if not text.strip().isdecimal():
            raise ConnError(f"expected a number in {self.path}, got {text[:40]!r}")
        return int(text)


# === Node ===
# The official NodeClient, with what it lacks: a deadline on every call, and no second sending.


_Block = tuple[str, int, int]  # chain id, height, time in nanoseconds


class _Node:
    """One node, asked in whichever thread calls; what goes wrong is a `grpc.RpcError`."""

    def __init__(self, network: Network, deadline_s: float) -> None:
        from dydx_v4_client.node.builder import Builder
        from dydx_v4_client.node.client import NodeClient

        self._channel = channel = _channel(network.node)

        def call(*path: Any, **shapes: Any) -> Callable[[Any], Any]:
            return partial(channel.unary_unary(*path, **shapes), timeout=deadline_s)

        # Of a channel the client's stubs ask for nothing but `unary_unary`; and its own keeper
        # of sequences would ask for the account before each order.
        builder = Builder(network.chain_id, network.usdc_denom, memo="")
        self._client = NodeClient(SimpleNamespace(unary_unary=call), builder, manage_sequence=False)

    def latest_block(self) -> _Block:
        header = asyncio.run(self._client.latest_block()).block.header
        return header.chain_id, header.height, header.time.ToNanoseconds()

    def account(self, address: str) -> tuple[int, int]:
        found = asyncio.run(self._client.get_account(address))
        return found.account_number, found.sequence

    def broadcast(
        self, wallet: Any, message: Any, authenticators: Sequence[int]
    ) -> tuple[Result, str]:
        """Sign and send; the answer says what the node's mempool made of it, and the hash."""
        from dydx_v4_client.node.builder import TxOptions

        chosen = TxOptions(list(authenticators), wallet.sequence, wallet.account_number)
        options = chosen if authenticators else None
        signed = self._client.builder.build(wallet, message, tx_options=options)
        said = asyncio.run(self._client.broadcast(signed)).tx_response
        return Result(code=said.code, codespace=said.codespace, log=said.raw_log), said.txhash

    def close(self) -> None:
        self._channel.close()


def _channel(node: str) -> Any:
    import grpc

    address = node.rpartition("//")[2]
    # gRPC may send anew what it believes lost: an order must not be.
    options = [("grpc.enable_retries", 0)]
    if is_loopback(address):
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)


# === Trader ===

_Request = OrderRequest | CancelRequest | BatchCancel
Wish = _Request | Replace


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A wish that will be sent; `ids` are the orders it is about, as frames will name them."""

    ids: tuple[str, ...]


class Denied(msgspec.Struct, frozen=True, gc=False):
    """A wish that is not sent; `error` is the chain's name for the reason, or empty."""

    reason: str
    error: str = ""


_MESSAGES: Final[Mapping[type, tuple[str, Callable[[Any, Subaccount], Any]]]] = {
    OrderRequest: ("place", place_message),
    CancelRequest: ("cancel", cancel_message),
    BatchCancel: ("batch_cancel", batch_cancel_message),
}


class _Job(msgspec.Struct, frozen=True):
    what: str
    ids: tuple[str, ...]
    subaccount: Subaccount
    request: _Request
    message: Any
    size: Decimal
    short: bool
    until: int
    then: "_Job | None" = None

    @property
    def about(self) -> tuple[str, ...]:
        return self.ids + (self.then.about if self.then else ())


class Trader:
    """Signs and sends orders for the subaccounts of one owner, each once, on threads of its own.

    `submit` never waits. What is sent and what is answered goes into the `inbox` as frames of
    the link "node" and into the audit log, without signature or transaction bytes. Short-term
    orders go in parallel and need no sequence; the others one after the other with the exact
    one, or, with `nonces`, in parallel with the chain's time in its place. What is wished of one
    order goes out in turn: a cancel never overtakes it. A key that is not the owner's needs the
    `authenticators` that the owner gave it.

    `markets` is read at each `submit` and may grow; `statuses` names those that are not ACTIVE.
    """

    def __init__(
        self, network: Network, keys: Keys, subaccount: Subaccount, inbox: Inbox,
        audit: AuditLog | None = None, *, markets: Mapping[str, PerpetualMarket],
        statuses: Mapping[str, str] | None = None, authenticators: Sequence[int] = (),
        nonces: bool = False, window: int = WINDOW, capacity: int = 256,
        deadline_s: float = 5.0, refresh_s: float = 5.0,
    ) -> None:  # fmt: skip
        if keys.address != subaccount.owner and not authenticators:
            what = f"expected the key of {subaccount.owner} or authenticators, got"
            raise ConnError(f"{what} the key of {keys.address}")
        self.network, self.subaccount = network, subaccount
        self._keys, self._inbox, self._audit = keys, inbox, audit
        self._markets, self._statuses = markets, statuses or {}
        self._authenticators, self._nonces = tuple(authenticators), nonces
        self._window, self._capacity = window, capacity
        self._deadline_s, self._refresh_s = deadline_s, refresh_s
        self._last = (0, 0, 0)  # a block's height and time, and when it was heard
        self._number = self._nonce = 0
        self._sequence: int | None = None  # of the next transaction; None: ask
        self._guard, self._stop = threading.Condition(), threading.Event()
        self._waiting = 0
        self._open = self._lost = False
        self._asked: dict[str, int] = {}  # what was handed over, and until which block
        self._latest: dict[str, Future[None]] = {}  # by order, the last wish on its way

    # --- the chain's clock

    @property
    def height(self) -> int:
        """Return the last block's height as far as node and frames have told; a lower bound."""
        return self._last[0]

    @property
    def time(self) -> int:
        """Return the chain's time in unix seconds: the last block's, and what passed since."""
        return self._now_ns() // 1_000_000_000

    def good_til_block(self, blocks: int = 10) -> int:
        """Return the block that is so many ahead, within the window."""
        return self.height + min(blocks, self._window)

    def good_til_block_time(self, seconds: int) -> int:
        """Return the chain's time in so many seconds: this machine's clock may be wrong."""
        return self.time + seconds

    def observe(self, frame: Frame) -> None:
        """Learn a later height from the indexer's frames; others change nothing."""
        if frame.kind == "ws" and frame.channel == "v4_block_height":
            with contextlib.suppress(ConnError, ValueError):
                for height, time_ns in blocks_of(frame):
                    self._learn(height, time_ns)

    def _learn(self, height: int, time_ns: int) -> None:
        if height > self.height:
            self._last = (height, time_ns, time.monotonic_ns())  # at once: others are reading

    def _now_ns(self) -> int:
        height, time_ns, heard_ns = self._last
        return time_ns + time.monotonic_ns() - heard_ns if height else 0

    # --- life

    def start(self) -> None:
        """Connect and learn block and account; `NetworkError` if the node does not say them.

        Also if it is a node of another chain: nothing is signed for that.
        """
        import grpc

        self._node = _Node(self.network, self._deadline_s)
        try:
            chain_id = self._heard(self._node.latest_block())
            if chain_id != self.network.chain_id:
                self._node.close()
                what = f"expected a node of {self.network.chain_id} at {self.network.node}"
                raise NetworkError(f"{what}, it is of {chain_id}")
            self._learn_account()
        except grpc.RpcError as error:
            self._node.close()
            what = f"expected block and account of the node {self.network.node}"
            raise NetworkError(f"{what}, but {_why(error)}") from None
        # In parallel, and one after the other.
        self._pool, self._turn = ThreadPoolExecutor(8, "node"), ThreadPoolExecutor(1, "turn")
        self._watch = threading.Thread(target=self._keep_time, name="block-clock", daemon=True)
        self._watch.start()
        self._open = True

    def close(self) -> None:
        """Take nothing more, hear out what was queued, and end; a second call does nothing.

        Once the node has left a call without an answer, what is still queued is not sent, but for
        cancels of short-term orders.
        """
        with self._guard:
            was_open, self._open = self._open, False
        if was_open:
            self._stop.set()
            with self._guard:
                self._guard.wait_for(lambda: not self._waiting)
            self._turn.shutdown()
            self._pool.shutdown()
            self._watch.join()
            self._node.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _learn_account(self) -> None:
        self._number, self._sequence = self._node.account(self.subaccount.owner)

    def _keep_time(self) -> None:
        while not self._stop.wait(self._refresh_s):
            self._refresh()

    def _refresh(self) -> None:
        import grpc

        try:
            self._heard(self._node.latest_block())
        except grpc.RpcError as error:
            # The height stays a lower bound: orders end sooner, and none is good for too long.
            self._write("unanswered", asked="latest_block", why=_why(error))

    def _heard(self, block: _Block) -> str:
        chain_id, height, time_ns = block
        self._learn(height, time_ns)
        at = datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat()
        header = {"height": str(height), "time": at, "chain_id": chain_id}
        self._put("http", {"result": {"block": {"header": header}}}, "0", "latest_block")
        return chain_id

    # --- wishes

    def submit(self, wish: Wish, number: int | None = None) -> Queued | Denied:
        """Hand over a wish, for another subaccount `number` of the owner if given; never waits.

        Queued means that it will be sent once, and that frames will tell the rest.
        """
        own = self.subaccount
        try:
            with self._guard:
                job = self._job(wish, own if number is None else Subaccount(own.owner, number))
                self._waiting += 1
                before = [self._latest[id] for id in job.about if id in self._latest]
                sent: Future[None] = Future()
                self._latest |= dict.fromkeys(job.about, sent)
            self._follow(before, job, sent)
        except (ConnError, ValueError, TypeError) as problem:
            denied = Denied(str(problem), getattr(problem, "error", ""))
            self._write("denied", wish=wish, reason=denied.reason)
            return denied
        return Queued(job.ids)

    def _job(self, wish: Wish, subaccount: Subaccount) -> _Job:
        if not self._open:
            raise ConnError("expected a trader that is started and not closed")
        if self._waiting >= self._capacity:
            raise ConnError(f"expected at most {self._capacity} wishes on their way: it is full")
        if isinstance(wish, Replace):
            first = self._job(wish.cancel, subaccount)
            return msgspec.structs.replace(first, then=self._job(wish.order, subaccount))
        parts = wish.cancels if isinstance(wish, BatchCancel) else (wish,)
        refuse(self._objection(wish, subaccount))
        what, write = _MESSAGES[type(wish)]
        ids, message = tuple(order_id(subaccount, part) for part in parts), write(wish, subaccount)
        size = Decimal(0)
        if isinstance(wish, OrderRequest):
            self._once(ids[0], wish)
            size = self._markets[wish.ticker].size(wish.quantums)
        short = parts[0].order_flags == SHORT_TERM
        return _Job(what, ids, subaccount, wish, message, size, short, good_until(parts[0]))

    def _objection(self, wish: _Request, subaccount: Subaccount) -> str:
        height, now = self.height, {"height": self.height, "time": self.time}
        if isinstance(wish, BatchCancel):
            error = batch_cancel_objection(wish.cancels, subaccount=subaccount, height=height)
            return error if wish.cancels else "ErrInvalidBatchCancel"
        if wish.order_flags == SHORT_TERM and wish.good_til_block > height + 1 + self._window:
            return "ErrGoodTilBlockExceedsShortBlockWindow"
        if isinstance(wish, CancelRequest):
            return cancel_objection(wish, subaccount=subaccount, **now)
        market = self._markets.get(wish.ticker)
        if market is None:
            return "ErrInvalidClob"
        status = self._statuses.get(wish.ticker, "ACTIVE")
        return objection(wish, market, subaccount=subaccount, status=status, **now)

    def _once(self, id: str, order: OrderRequest) -> None:
        """Refuse what was handed over before; a greater block makes it a replacement."""
        if id in self._asked and order.order_flags != SHORT_TERM:
            raise OrderDenied("ErrStatefulOrderAlreadyExists")
        if order.good_til_block <= self._asked.get(id, -1):
            raise OrderDenied("ErrInvalidReplacement")
        self._asked[id] = order.good_til_block
        if len(self._asked) > _REMEMBERED:
            del self._asked[next(iter(self._asked))]

    # --- sending, on the threads

    def _follow(self, before: "list[Future[None]]", job: _Job, sent: "Future[None]") -> None:
        """Give a job to the threads once those before it are sent; until then it holds none."""
        for earlier in before:
            if not earlier.done():
                earlier.add_done_callback(lambda _: self._follow(before, job, sent))
                return
        threads = self._pool if job.short or self._nonces else self._turn
        threads.submit(self._deliver, job, sent)

    def _deliver(self, job: _Job, sent: "Future[None]") -> None:
        try:
            self._send_all(job)
        finally:
            with self._guard:
                for id in job.about:
                    if self._latest.get(id) is sent:
                        del self._latest[id]
            sent.set_result(None)
            with self._guard:
                self._waiting -= 1
                self._guard.notify_all()

    def _send_all(self, job: _Job) -> None:
        taken = None
        try:
            taken = self._send(job, 0) if job.short else self._send_numbered(job)
        finally:
            if job.then is not None and taken is not None and taken.is_taken:
                self._send_all(job.then)
            elif job.then is not None:
                # Not a second order beside the first, which may still stand.
                self._drop(job.then, "the cancel before it was not taken")

    def _send_numbered(self, job: _Job) -> Result | None:
        """Send with a sequence, and anew with the right one if it was wrong."""
        import grpc

        for last in (False, False, True):
            try:
                sequence = self._next_sequence()
            except grpc.RpcError as error:
                self._drop(job, f"the account's sequence is not known: {_why(error)}")
                return None
            result = self._send(job, sequence, again=not last)
            self._learn_sequence(sequence, result)
            if result is None or not result.is_sdk(32):
                break
            if self._nonces:
                self._refresh()  # our idea of the chain's time was off
        return result

    def _next_sequence(self) -> int:
        if self._nonces:
            with self._guard:
                # The chain's time in milliseconds, or one more than was used last.
                self._nonce = max(self._now_ns() // 1_000_000, self._nonce + 1)
                return self._nonce
        if self._sequence is None:
            self._learn_account()
        return self._sequence or 0

    def _learn_sequence(self, used: int, result: Result | None) -> None:
        if result is not None and result.code == 0:
            self._sequence = used + 1
        elif result is None or result.is_sdk(4) or result.is_sdk(32):
            expected = _EXPECTED.search(result.log) if result is not None else None
            self._sequence = int(expected[1]) if expected else None

    def _send(self, job: _Job, sequence: int, *, again: bool = False) -> Result | None:
        """Send once; None if no answer came, and then nobody knows."""
        import grpc

        if self._stop.is_set() and self._lost and not (job.short and job.what != "place"):
            self._drop(job, "closed, and the node does not answer")
            return None
        wallet = self._keys.wallet(self._number, sequence)
        told: dict[str, Any] = {"ids": job.ids, "subaccount": str(job.subaccount)}
        told |= {"size": str(job.size), "sequence": sequence, job.what: job.request}
        self._put("sent", told, "", job.what, job.ids[0])
        try:
            result, txhash = self._node.broadcast(wallet, job.message, self._authenticators)
        except grpc.RpcError as error:
            if not _NOT_HANDED_ON.match(error.code().name):
                return self._answer(job, errors=[{"msg": _why(error)}])
            code = error.code().value[0]
            result, txhash = Result(code=code, codespace="grpc", log=_why(error)), ""
        except Exception as error:
            # Not of the network, and yet after the sending may have begun: that must be told too.
            self._answer(job, errors=[{"msg": type(error).__name__}])
            raise
        self._lost, said = False, msgspec.to_builtins(result) | {"hash": txhash}
        return self._answer(job, result, result=said, again=again and result.is_sdk(32))

    def _drop(self, job: _Job, why: str) -> None:
        """Say that what was queued is not sent after all."""
        result = Result(code=1, codespace="client", log=f"not sent: {why}")
        self._answer(job, result=msgspec.to_builtins(result))

    def _answer(self, job: _Job, found: Result | None = None, **said: Any) -> Result | None:
        code = said.get("result", {}).get("code", -1)
        about = {"to": job.what, "ids": job.ids, "until": job.until}
        self._put("http", about | said, str(code), "broadcast")
        self._lost = self._lost or code < 0
        return found

    def _put(self, kind: str, told: Any, type: str, channel: str, id: str = "") -> None:
        self._inbox.put(kind, msgspec.json.encode(told).decode(), type, channel, id, link="node")
        self._write("sent" if kind == "sent" else channel, told=told)

    def _write(self, event: str, **fields: Any) -> None:
        if self._audit is not None:
            self._audit.write(f"node {event}", **fields)


_EXPECTED: Final = re.compile(r"expected (\d+), got \d+")
_REMEMBERED: Final = 65_536
# With these a gateway says that the node has not seen it.
_NOT_HANDED_ON: Final = re.compile("INVALID_ARG|PERMISSION_DENIED|UNAUTHENTICATED|UNIMPLEMENTED")


def _why(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"
