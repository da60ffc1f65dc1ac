"""The live edge of orders: build them, refuse them, send each once, know what became of it.

    limit, market, stop_loss … ──► OrderRequest ──► Trader ──► node
    frames (sent, answers, account, blocks) ──► Lifecycle ──► OrderState

The builders turn a size and a price as a person writes them into an `OrderRequest`, exactly or
rounded toward less, and raise `OrderDenied` for what the chain would refuse. `estimate` says what
an order may cost. `Lifecycle` is a fold over frames: where an answer was lost the order is
UNRESOLVED until the chain or its expiry settles it. `ClientIds` never gives a number twice.
`Trader` alone opens a connection: it signs, sends, and makes frames of what it sent and heard.

Units: sizes and prices are decimal text or `Decimal`; quantums, subticks and quote quantums are
integers; times are unix seconds of the chain's blocks, never of this machine's clock.
Sources: v4-chain x/clob/types, x/accountplus; the official client's NodeClient and Builder.
"""

# One name a line would be a page, here and among the imports.
# fmt: off
# isort: off
__all__ = [
    "MAX_SUBACCOUNT", "WINDOW", "BatchCancel", "ClientIds", "Denied", "Estimate",
    "Lifecycle", "OrderDenied", "OrderState", "Queued", "Replace", "Rounding", "Status", "Terms",
    "Trader", "batch_cancel_message", "cancel", "cancel_all", "cancel_message", "child", "estimate",
    "fold_order_frame", "limit", "market", "orders", "place_message", "replacement",
    "stop_loss", "take_profit", "twap",
]

import asyncio
import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING, Any, Final, Literal, Required, Self, TypedDict, Unpack,
)
from urllib.parse import parse_qs, urlsplit

import msgspec
from dydx_conn import (
    CONDITIONAL, LONG_TERM, MAX_BATCH, SHORT_TERM, TWAP, CancelRequest, ConditionType, ConnError,
    ErrorFields, Fees, FillFields, Frame, HeightContents, Inbox, Network, NetworkError,
    OrderFields, OrderRequest, PerpetualMarket, Side, Subaccount, TimeInForce,
    batch_cancel_objection, cancel_objection, code_of, codespace_of, contents, fee, fold, meaning,
    number, objection, order_id, stateful_order_limit,
)
from dydx_keys import AuditLog, Keys, is_loopback
# isort: on
# fmt: on

if TYPE_CHECKING:
    from reactivex import Observable

# === Errors ===


class OrderDenied(ConnError):  # noqa: N818 - a verdict of ours, and none of the chain
    """An order that the chain would refuse and that is therefore not sent.

    `error` is the chain's name for the reason, `code` its number there.
    """

    def __init__(self, error: str) -> None:
        self.error, self.code = error, code_of(error)
        said = meaning(codespace_of(error), self.code)
        super().__init__(f"the chain would refuse it: {said} ({error})")


def _refuse(error: str) -> None:
    if error:
        raise OrderDenied(error)


# === Values ===

Rounding = Literal["exact", "less"]
Status = Literal[
    "PENDING", "OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "UNRESOLVED"
]

WINDOW: Final = 20  # blocks ahead that a short-term order may name; newer chains take 40
MAX_SUBACCOUNT: Final = 128_000
_PARENTS: Final = 128


class BatchCancel(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A wish to take up to 100 short-term orders off their books, all until one block."""

    cancels: tuple[CancelRequest, ...]


class Replace(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A stateful order cancelled and, once its cancel is taken, another one placed."""

    cancel: CancelRequest
    order: OrderRequest


def child(parent: int, index: int) -> int:
    """Return the number of a parent's child: `index` 0 is the parent, 1 its first isolated one."""
    number = parent + _PARENTS * index
    if not (0 <= parent < _PARENTS and index >= 0 and number <= MAX_SUBACCOUNT):
        what = f"expected a parent to {_PARENTS - 1}, a number to {MAX_SUBACCOUNT}"
        raise ConnError(f"{what}, got child {index} of parent {parent}")
    return number


# === Builders ===


class Terms(TypedDict, total=False):
    """What any order may say of itself, beside its side, size and price.

    One of the two ends makes an order short-term or long-term. `rounding` "exact" refuses what
    is off the grid with a `GridError`; "less" rounds a size down, a buy's price down and a sell's
    up, and a trigger the way the chain would: it fires later. Nothing is rounded up to a minimum.
    """

    client_id: Required[int]
    good_til_block: int
    good_til_block_time: int
    reduce_only: bool
    rounding: Rounding
    time_in_force: TimeInForce
    client_metadata: int
    builder_address: str
    builder_fee_ppm: int


_Amount = Decimal | str


def limit(
    market: PerpetualMarket, side: Side, size: _Amount, price: _Amount, **terms: Unpack[Terms]
) -> OrderRequest:
    """Build an order that fills at its price or better, and rests until its end if it may.

    As IOC it never rests; as POST_ONLY it only does, and the chain refuses it if it would cross.
    """
    return _build(market, side, size, price, **terms)


def market(
    market: PerpetualMarket, side: Side, size: _Amount, worst: _Amount, **terms: Unpack[Terms]
) -> OrderRequest:
    """Build what front ends call a market order: an IOC that names the `worst` price it takes."""
    return _build(market, side, size, worst, _AT_ONCE, **terms)


def stop_loss(
    market: PerpetualMarket, side: Side, size: _Amount, trigger: _Amount, price: _Amount, *,
    at_once: bool = False, **terms: Unpack[Terms],
) -> OrderRequest:  # fmt: skip
    """Build an order that waits for the price to get as bad as `trigger`.

    Then it is a limit order, or `at_once` a market order with `price` as the worst it takes.
    """
    return _conditional(market, side, size, trigger, price, "STOP_LOSS", at_once, **terms)


def take_profit(
    market: PerpetualMarket, side: Side, size: _Amount, trigger: _Amount, price: _Amount, *,
    at_once: bool = False, **terms: Unpack[Terms],
) -> OrderRequest:  # fmt: skip
    """Build an order that waits for the price to get as good as `trigger`; else as `stop_loss`."""
    return _conditional(market, side, size, trigger, price, "TAKE_PROFIT", at_once, **terms)


def twap(
    market: PerpetualMarket, side: Side, size: _Amount, price: _Amount = "0", *,
    duration_s: int, interval_s: int, tolerance_ppm: int, **terms: Unpack[Terms],
) -> OrderRequest:  # fmt: skip
    """Build an order that the chain works off in equal parts; without a price, near the oracle's.

    `duration_s` is 300 to 86400, `interval_s` 30 to 3600 and a divisor of it; `tolerance_ppm` is
    how far from the oracle price a part may fill.
    """
    more: dict[str, Any] = {"order_flags": TWAP, "twap_duration_s": duration_s}
    more |= {"twap_interval_s": interval_s, "twap_tolerance_ppm": tolerance_ppm}
    return _build(market, side, size, price, more, **terms)


# The metadata is what front ends know a market order by.
_AT_ONCE: Final = {"time_in_force": "IOC", "client_metadata": 1}


def _conditional(
    market: PerpetualMarket, side: Side, size: _Amount, trigger: _Amount, price: _Amount,
    condition: ConditionType, at_once: bool, **terms: Unpack[Terms],
) -> OrderRequest:  # fmt: skip
    # A stop to buy and a take-profit to sell fire when the price rises to the trigger.
    rising = (condition == "STOP_LOSS") == (side == "BUY")
    against: Side = "SELL" if rising else "BUY"
    subticks = _subticks(market, against, trigger, terms.get("rounding", "exact"))
    more = {"order_flags": CONDITIONAL, "condition_type": condition, "trigger_subticks": subticks}
    return _build(market, side, size, price, more | (_AT_ONCE if at_once else {}), **terms)


def _build(
    market: PerpetualMarket, side: Side, size: _Amount, price: _Amount,
    more: Mapping[str, Any] | None = None, rounding: Rounding = "exact", **terms: Any,
) -> OrderRequest:  # fmt: skip
    flags = LONG_TERM if terms.get("good_til_block_time") else SHORT_TERM
    fields = {"time_in_force": "GTT", "order_flags": flags, **terms, **(more or {})}
    quantums = market.quantums(size) if rounding == "exact" else market.floor_quantums(size)
    order = OrderRequest(
        ticker=market.ticker, clob_pair_id=market.clob_pair_id, side=side, quantums=quantums,
        subticks=_subticks(market, side, price, rounding), **fields,
    )  # fmt: skip
    _refuse(objection(order, market))
    return order


def _subticks(market: PerpetualMarket, side: Side, price: _Amount, rounding: Rounding) -> int:
    if rounding == "exact":
        return market.subticks(price)
    return market.floor_subticks(price) if side == "BUY" else market.ceil_subticks(price)


# === Replacements and cancels ===


def replacement(old: OrderRequest, new: OrderRequest) -> OrderRequest | Replace:
    """Return what puts `new` in the place of `old`, as the chain allows; else `OrderDenied`.

    A short-term order keeps its id, side and time in force and names a greater block; what it
    has filled counts for the new one. A stateful order is cancelled, and another one with a new
    client id is placed: what fills before the cancel is in a block adds to the new one.
    """
    if old.order_flags == SHORT_TERM == new.order_flags:
        alike = ("client_id", "clob_pair_id", "side", "time_in_force", "reduce_only")
        same = all(getattr(old, name) == getattr(new, name) for name in alike)
        if not same or new.good_til_block <= old.good_til_block:
            raise OrderDenied("ErrInvalidReplacement")
        return new
    if SHORT_TERM in (old.order_flags, new.order_flags) or old.client_id == new.client_id:
        raise OrderDenied("ErrStatefulOrderAlreadyExists")
    return Replace(cancel=cancel(old), order=new)


def cancel(order: OrderRequest, *, good_til_block: int = 0) -> CancelRequest:
    """Return the cancel of an order; a second one needs a greater `good_til_block`."""
    # Below the order's own end it would stay on the book.
    block = max(order.good_til_block, good_til_block) if order.order_flags == SHORT_TERM else 0
    return CancelRequest(
        ticker=order.ticker, clob_pair_id=order.clob_pair_id, client_id=order.client_id,
        order_flags=order.order_flags, good_til_block=block,
        good_til_block_time=order.good_til_block_time,
    )  # fmt: skip


_Cancels = dict[str, list[CancelRequest | BatchCancel]]


def cancel_all(states: "Iterable[OrderState]", *, good_til_block: int = 0) -> _Cancels:
    """Return what takes all these orders off the book, by subaccount.

    Short-term orders go in batches of up to 100, each until the last of their blocks or until
    `good_til_block` if that is later; the others one by one.
    """
    wishes: _Cancels = {}
    short: dict[str, list[CancelRequest]] = {}
    for state in states:
        if state.named is not None and not state.final:
            of_kind: Any = short if state.named.order_flags == SHORT_TERM else wishes
            of_kind.setdefault(state.subaccount, []).append(state.named)
    for subaccount, named in short.items():
        for part in (named[i : i + MAX_BATCH] for i in range(0, len(named), MAX_BATCH)):
            until = max(good_til_block, *(wish.good_til_block for wish in part))
            cancels = [msgspec.structs.replace(wish, good_til_block=until) for wish in part]
            wishes.setdefault(subaccount, []).append(BatchCancel(cancels=tuple(cancels)))
    return wishes


# === Estimates ===


class Estimate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an order may cost, in quote quantums, and why the chain would refuse it, if it would.

    `quote` is its worth at its own price or the oracle's, whichever is more; `fee` the worse of
    maker's and taker's, with the builder's; `gas` is free for orders and cancels of any kind;
    `initial_margin` what it adds to what the account must hold. `affordable` is None if the
    account is not known. A short-term order that is not affordable is taken, and removed as
    UNDERCOLLATERALIZED when it meets another; a conditional one when it is triggered.
    """

    quote: int
    fee: int
    gas: int = 0
    initial_margin: int
    affordable: bool | None = None
    objection: str = ""


def estimate(
    order: OrderRequest, market: PerpetualMarket, fees: Fees, *, oracle_subticks: int = 0,
    position: int = 0, net_collateral: int | None = None, initial_margin: int = 0,
    open_stateful: int = 0, imf_ppm: int = 0,
) -> Estimate:  # fmt: skip
    """Say what an order may cost at worst, as if it were filled whole at its own price.

    `position` is in signed quantums; `net_collateral` and the account's present `initial_margin`
    in quote quantums; `open_stateful` how many stateful orders stand. `imf_ppm` is the market's
    margin where its open interest or a chosen leverage has raised it above the tier's.
    """
    mark = oracle_subticks or order.subticks
    own = market.quote_quantums(order.quantums, order.subticks or mark)
    fair = market.quote_quantums(order.quantums, mark)
    quote = max(own, fair)
    charged = fee(quote, max(fees.taker_ppm, fees.maker_ppm)) + fee(quote, order.builder_fee_ppm)
    growth = abs(position + order.signed_quantums) - abs(position)
    margin = fee(market.quote_quantums(growth, mark), imf_ppm or market.imf_ppm)
    affordable, error = None, ""
    if net_collateral is not None:
        # Bought below the oracle's price, or sold above it, it is worth more at once, or less.
        gain = fair - own if order.side == "BUY" else own - fair
        free = net_collateral + gain - initial_margin - max(margin, 0)
        # What makes a position smaller is always taken: nothing may block the way out.
        affordable = growth <= 0 or free >= charged
        maker = fee(own, fees.maker_ppm) + fee(own, order.builder_fee_ppm)
        full = open_stateful >= stateful_order_limit(net_collateral)
        if order.order_flags != SHORT_TERM and full:
            error = "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
        elif order.order_flags in (LONG_TERM, TWAP) and growth > 0 and free < maker:
            error = "ErrStatefulOrderCollateralizationCheckFailed"
    return Estimate(
        quote=quote, fee=charged, initial_margin=margin, affordable=affordable, objection=error,
    )  # fmt: skip


# === Messages ===
# The official client's own `order` writes its number over the client metadata, and its `Market`
# counts in floats: the message is written here, from integers.

_SIDES: Final = {"BUY": 1, "SELL": 2}
_TIMES: Final = {"GTT": 0, "IOC": 1, "POST_ONLY": 2}
_CONDITIONS: Final = {"": 0, "STOP_LOSS": 1, "TAKE_PROFIT": 2}


def place_message(order: OrderRequest, subaccount: Subaccount) -> Any:
    """Write the chain's MsgPlaceOrder."""
    from dydx_v4_client.node.message import place_order
    from v4_proto.dydxprotocol.clob.order_pb2 import Order

    message = Order(
        side=_SIDES[order.side], quantums=order.quantums, subticks=order.subticks,
        time_in_force=_TIMES[order.time_in_force], reduce_only=order.reduce_only,
        client_metadata=order.client_metadata, condition_type=_CONDITIONS[order.condition_type],
        conditional_order_trigger_subticks=order.trigger_subticks, **_named(order, subaccount),
    )  # fmt: skip
    message.MergeFromString(_recent_fields(order))
    return place_order(message)


def cancel_message(wish: CancelRequest, subaccount: Subaccount) -> Any:
    """Write the chain's MsgCancelOrder."""
    from dydx_v4_client.node.message import cancel_order

    return cancel_order(**_named(wish, subaccount))


def batch_cancel_message(batch: BatchCancel, subaccount: Subaccount) -> Any:
    """Write the chain's MsgBatchCancel."""
    from dydx_v4_client.node.message import batch_cancel
    from dydx_v4_client.node.message import subaccount as subaccount_id
    from v4_proto.dydxprotocol.clob.tx_pb2 import OrderBatch

    batches: dict[int, Any] = {}
    for wish in batch.cancels:
        group = batches.setdefault(wish.clob_pair_id, OrderBatch(clob_pair_id=wish.clob_pair_id))
        group.client_ids.append(wish.client_id)
    owner = subaccount_id(subaccount.owner, subaccount.number)
    return batch_cancel(owner, list(batches.values()), batch.cancels[0].good_til_block)


def _named(order: OrderRequest | CancelRequest, subaccount: Subaccount) -> dict[str, Any]:
    from dydx_v4_client.node.message import order_id

    owner, number = subaccount.owner, subaccount.number
    id = order_id(owner, number, order.client_id, order.clob_pair_id, order.order_flags)
    # One end or the other: the chain reads which of the two is written, not which is zero.
    if order.order_flags == SHORT_TERM:
        return {"order_id": id, "good_til_block": order.good_til_block}
    return {"order_id": id, "good_til_block_time": order.good_til_block_time}


def _recent_fields(order: OrderRequest) -> bytes:
    """Write what v4_proto 8.2 does not know: TWAP at 12, where it has the builder, who is at 13.

    Source: proto/dydxprotocol/clob/order.proto as the chain and the TypeScript client have it.
    """
    from v4_proto.dydxprotocol.clob.order_pb2 import BuilderCodeParameters

    written = b""
    if order.order_flags == TWAP:
        numbers = (order.twap_duration_s, order.twap_interval_s, order.twap_tolerance_ppm)
        pairs = [_varint(field << 3) + _varint(n) for field, n in enumerate(numbers, 1) if n]
        written += _embedded(12, b"".join(pairs))
    if order.builder_address:
        who, ppm = order.builder_address, order.builder_fee_ppm
        builder = BuilderCodeParameters(builder_address=who, fee_ppm=ppm)
        written += _embedded(13, builder.SerializeToString())
    return written


def _embedded(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    # Seven bits a byte, the lowest first, the eighth says that there is more.
    rest, low = divmod(value, 128)
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


# === Lifecycle ===


class OrderState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is known of one order after the frame `seq`; sizes in base units.

    `leaving` says that a node has taken it off its book, which is no promise: it may still fill
    until its last block has passed. `named` is how a cancel would name it, None if not known;
    `order` is what we sent, None if somebody else did; `size` 0 is not known.
    """

    id: str
    subaccount: str = ""
    status: Status
    reason: str = ""
    size: Decimal = Decimal(0)
    filled: Decimal = Decimal(0)
    leaving: bool = False
    named: CancelRequest | None = None
    order: OrderRequest | None = None
    before: "OrderState | None" = None  # what stands if the replacement on its way is refused
    seq: int

    @property
    def final(self) -> bool:
        """Tell whether nothing more is to come, but for fills that are told late."""
        return self.status in _FINAL


_FINAL: Final = ("FILLED", "CANCELLED", "REJECTED")
_LIVE: Final = ("PENDING", "OPEN", "PARTIALLY_FILLED", "UNRESOLVED")
# What an event makes of a status; what is not listed stays as it is.
_NEXT: Final[Mapping[str, Mapping[Status, Status]]] = {
    "refused": {"PENDING": "REJECTED", "UNRESOLVED": "REJECTED"},
    "lost": {"PENDING": "UNRESOLVED"},
    # The chain's word outranks one node's: an order it shows was not refused.
    "seen": {"PENDING": "OPEN", "UNRESOLVED": "OPEN", "REJECTED": "OPEN"},
    "leaving": {"PENDING": "OPEN", "UNRESOLVED": "OPEN"},
    "absent": {"OPEN": "UNRESOLVED", "PARTIALLY_FILLED": "UNRESOLVED"},
    "filled": dict.fromkeys((*_LIVE, "CANCELLED", "REJECTED"), "FILLED"),
    "cancelled": dict.fromkeys(_LIVE, "CANCELLED"),
    "expired": dict.fromkeys(_LIVE, "CANCELLED"),
}

# The indexer's words for an order (postgres order-types.ts).
_WORDS: Final = {
    **dict.fromkeys(("BEST_EFFORT_OPENED", "OPEN", "UNTRIGGERED"), "seen"),
    **{"FILLED": "filled", "BEST_EFFORT_CANCELED": "leaving"},
    **dict.fromkeys(("CANCELED", "ERROR"), "cancelled"),
}

# What the indexer tells of a block may come a little after the block's height: only then is an
# order that nobody spoke of again certain to be gone.
_GRACE_BLOCKS, _GRACE_S = 1, 2
_KEPT: Final = 4096


class _Sent(msgspec.Struct, kw_only=True):
    ids: list[str]
    subaccount: str
    size: Decimal = Decimal(0)
    place: OrderRequest | None = None


class _Result(msgspec.Struct, kw_only=True):
    code: int
    codespace: str = ""
    log: str = ""

    @property
    def is_taken(self) -> bool:
        # Of sdk 19 the node knows the very bytes: somebody on the way sent them twice.
        return self.code == 0 or self.is_sdk(19)

    @property
    def reason(self) -> str:
        if self.codespace in ("client", "grpc"):
            return self.log
        said = f"{self.codespace} {self.code}: {meaning(self.codespace, self.code)}"
        return f"{said} ({self.log})" if self.log else said

    def is_sdk(self, code: int) -> bool:
        return (self.codespace, self.code) == ("sdk", code)


class _Answer(msgspec.Struct, kw_only=True):
    to: str
    ids: list[str]
    until: int = 0  # the block or time that was asked for: tells a replacement from the replaced
    result: _Result | None = None
    errors: list[ErrorFields] = []
    again: bool = False  # refused for its sequence alone, and sent anew with the right one


class Lifecycle:
    """The orders of all subaccounts as the frames tell of them; `orders` by id, oldest first.

    `height` and `time` are of the last block that the indexer told of: a node is ahead of it,
    and what the indexer has not told yet must not count as never having been.
    """

    def __init__(self) -> None:
        self.orders: dict[str, OrderState] = {}
        self.height = self.time = 0
        self._live: set[str] = set()
        self._fills: dict[str, dict[str, Decimal]] = {}

    def open(self) -> list[OrderState]:
        """Return the orders that may still fill, oldest first."""
        return [state for state in self.orders.values() if not state.final]

    def _sent(self, frame: Frame) -> Iterable[OrderState]:
        sent = msgspec.json.decode(frame.text, type=_Sent)
        if sent.place is None:
            return
        before = self.orders.get(sent.ids[0])
        live = before if before is not None and not before.final else None
        if live is not None and live.order == sent.place:
            return  # anew, since the first was refused for its sequence alone
        # What an id has filled counts for the order that takes its place.
        filled = Decimal(0) if before is None else before.filled
        status: Status = "PENDING" if live is None else live.status
        yield self._put(OrderState(
            id=sent.ids[0], subaccount=sent.subaccount, status=status, size=sent.size,
            filled=filled, named=cancel(sent.place), order=sent.place, before=live, seq=frame.seq,
        ))  # fmt: skip

    def _answer(self, frame: Frame) -> Iterable[OrderState]:
        answer = msgspec.json.decode(frame.text, type=_Answer)
        for id in () if answer.again or answer.to != "place" else answer.ids:
            # Unknown if it was not even sent, or if the recording began later.
            old = self.orders.get(id, OrderState(id=id, status="PENDING", seq=frame.seq))
            result, before = answer.result, old.before
            newest = before is None or old.named is None or answer.until == _until(old.named)
            if result is None and id in self.orders:
                why = answer.errors[0].msg if answer.errors else "no answer"
                yield from self._move(old, "lost", frame.seq, reason=why)
            elif result is None or result.is_taken or not newest:
                if id in self.orders:
                    self._put(msgspec.structs.replace(old, before=None))
            elif before is not None:
                why = f"replacement refused: {result.reason}"
                stands = {name: getattr(before, name) for name in ("size", "named", "order")}
                yield from self._move(old, "", frame.seq, reason=why, before=None, **stands)
            else:
                yield from self._move(old, "refused", frame.seq, reason=result.reason)

    def _account(self, frame: Frame) -> Iterable[OrderState]:
        for said in contents(frame):
            yield from self._changes(frame.id, said.orders, said.fills, frame.seq)
            if frame.type == "subscribed":
                yield from self._absent(frame, {row.id for row in said.orders})
            yield from self._block(int(said.block_height or 0), 0, frame.seq)

    def _history(self, frame: Frame) -> Iterable[OrderState]:
        [said] = contents(frame)
        owner = "".join(parse_qs(urlsplit(frame.channel).query).get("address", []))
        rows = said if isinstance(said, list) else [said] if isinstance(said, OrderFields) else []
        yield from self._changes(f"{owner}/0", rows, getattr(said, "fills", []), frame.seq)

    def _changes(
        self, id: str, rows: Iterable[OrderFields], fills: Iterable[FillFields], seq: int
    ) -> Iterable[OrderState]:
        owner, _, number = id.partition("/")
        for row in rows:
            # A parent's channel and a list of orders hold rows of several subaccounts.
            own = number if row.subaccount_number is None else row.subaccount_number
            yield from self._row(row, f"{owner}/{own}", seq)
        for fill in fills:
            yield from self._fill(fill, seq)

    def _row(self, row: OrderFields, subaccount: str, seq: int) -> Iterable[OrderState]:
        new = OrderState(id=row.id, subaccount=subaccount, status="UNRESOLVED", seq=seq)
        old = self.orders.get(row.id, new)
        event = _WORDS.get(row.status or "", "")
        known: dict[str, Any] = {"filled": number(row.total_filled or "0")}
        if row.size and old.order is None:
            known["size"] = number(row.size)
        if old.named is None:
            known["named"] = _name_of(row)
        if event:
            reason = (row.removal_reason or "").removeprefix("ORDER_REMOVAL_REASON_")
            gone = event in ("leaving", "cancelled")
            known["reason"] = (reason or old.reason or row.status) if gone else ""
            known["leaving"] = event == "leaving"
        yield from self._move(old, event, seq, **known)

    def _fill(self, fill: FillFields, seq: int) -> Iterable[OrderState]:
        old = self.orders.get(fill.order_id or "")
        if old is not None:
            # By id: the socket, a snapshot and REST tell of the same fill.
            fills = self._fills.setdefault(old.id, {})
            fills[fill.id] = number(fill.size)
            yield from self._move(old, "", seq, filled=sum(fills.values(), Decimal(0)))

    def _absent(self, frame: Frame, told: set[str]) -> Iterable[OrderState]:
        """Doubt what a snapshot should list and does not: it ended while nobody listened."""
        for id in sorted(self._live - told):
            owner, _, own = self.orders[id].subaccount.partition("/")
            if frame.channel == "v4_parent_subaccounts":
                own = str(int(own) % _PARENTS)
            if f"{owner}/{own}" == frame.id:
                why = "absent from a snapshot"
                yield from self._move(self.orders[id], "absent", frame.seq, reason=why)

    def _blocks(self, frame: Frame) -> Iterable[OrderState]:
        for height, time_ns in _blocks(frame):
            yield from self._block(height, time_ns // 1_000_000_000, frame.seq)

    def _block(self, height: int, time_s: int, seq: int) -> Iterable[OrderState]:
        self.height, self.time = max(self.height, height), max(self.time, time_s)
        for old in [self.orders[id] for id in sorted(self._live)]:
            if old.named is not None:
                block, until = old.named.good_til_block, old.named.good_til_block_time
                if 0 < block < self.height - _GRACE_BLOCKS or 0 < until < self.time - _GRACE_S:
                    yield from self._move(old, "expired", seq, reason=old.reason or "EXPIRED")

    def _move(self, old: OrderState, event: str, seq: int, **known: Any) -> Iterable[OrderState]:
        """Apply an event to an order: its state if that changed anything."""
        filled = max(old.filled, known.pop("filled", old.filled))
        status: Status = _NEXT.get(event, {}).get(old.status, old.status)
        if event == "refused" and old.leaving and not filled:
            status = "REJECTED"  # a node removed it and then said why
        if status == old.status and event in ("refused", "lost", "absent"):
            return
        doubted = status in ("PENDING", "UNRESOLVED", "REJECTED") and filled > old.filled
        if doubted or (status == "OPEN" and filled):
            status = "PARTIALLY_FILLED"
        if 0 < known.get("size", old.size) <= filled:
            status = "FILLED"
        if status in _FINAL:
            known |= {"leaving": False, "before": None}
            # The first reason it ended for is the true one.
            ended = {"reason": old.reason} if old.final else {}
            known |= {"reason": ""} if status == "FILLED" else ended
        new = msgspec.structs.replace(old, status=status, filled=filled, **known)
        if new != old or old.id not in self.orders:
            yield self._put(msgspec.structs.replace(new, seq=seq))

    def _put(self, state: OrderState) -> OrderState:
        self.orders[state.id] = state
        (self._live.discard if state.final else self._live.add)(state.id)
        if len(self.orders) > _KEPT:
            for id in [id for id, kept in self.orders.items() if kept.final][:1]:
                del self.orders[id]
                self._fills.pop(id, None)
        return state


def _name_of(row: OrderFields) -> CancelRequest | None:
    if not (row.client_id and row.clob_pair_id and row.order_flags):
        return None
    until = row.good_til_block_time
    return CancelRequest(
        ticker=row.ticker or "", clob_pair_id=int(row.clob_pair_id), client_id=int(row.client_id),
        order_flags=int(row.order_flags), good_til_block=int(row.good_til_block or 0),
        good_til_block_time=int(datetime.fromisoformat(until).timestamp()) if until else 0,
    )  # fmt: skip


def _until(wish: OrderRequest | CancelRequest) -> int:
    return wish.good_til_block or wish.good_til_block_time


def _blocks(frame: Frame) -> list[tuple[int, int]]:
    """Return the height and the time in nanoseconds of each block that a frame tells of."""
    told = [said for said in contents(frame) if isinstance(said, HeightContents)]
    heights = [int(said.block_height or said.height) for said in told]
    times = [datetime.fromisoformat(said.time).timestamp() for said in told]
    return [(height, int(at * 1e9)) for height, at in zip(heights, times, strict=True)]


_READERS: Final[
    Mapping[tuple[str, bool, str], Callable[[Lifecycle, Frame], Iterable[OrderState]]]
] = {
    # A recording keeps a sent frame's text, and not what stood beside it.
    **{("sent", True, what): Lifecycle._sent for what in ("", "place", "cancel", "batch_cancel")},
    ("http", True, "broadcast"): Lifecycle._answer,
    ("ws", False, "v4_subaccounts"): Lifecycle._account,
    ("ws", False, "v4_parent_subaccounts"): Lifecycle._account,
    ("ws", False, "v4_block_height"): Lifecycle._blocks,
    ("http", False, "orders"): Lifecycle._history,
    ("http", False, "fills"): Lifecycle._history,
    ("http", False, "height"): Lifecycle._blocks,
}


def fold_order_frame(state: Lifecycle, frame: Frame) -> Iterable[OrderState]:
    """Fold one frame; return the states it changed, none if it cannot be read."""
    channel = frame.channel
    # Of a path what was asked, without whom it was asked about.
    asked = channel.partition("?")[0].split("/")[2] if channel.startswith("/v4/") else channel
    reader = _READERS.get((frame.kind, frame.link == "node", asked))
    if reader is None:
        return ()
    changed: list[OrderState] = []
    with contextlib.suppress(ConnError, msgspec.DecodeError, ValueError):
        # What was read before it broke has changed the state, and is told.
        changed.extend(reader(state, frame))
    return changed


def orders() -> "Callable[[Observable[Frame]], Observable[OrderState]]":
    """Emit an order's state whenever a frame changes it.

    Hot or cold as the source is, ends with it, on its thread; a frame that cannot be read
    changes nothing.

        source  --sent-answer-update-----height-|
        orders  --P-----------O----------C------|
    """
    return fold(Lifecycle, fold_order_frame)


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
    ) -> tuple[_Result, str]:
        """Sign and send; the answer says what the node's mempool made of it, and the hash."""
        from dydx_v4_client.node.builder import TxOptions

        chosen = TxOptions(list(authenticators), wallet.sequence, wallet.account_number)
        options = chosen if authenticators else None
        signed = self._client.builder.build(wallet, message, tx_options=options)
        said = asyncio.run(self._client.broadcast(signed)).tx_response
        return _Result(code=said.code, codespace=said.codespace, log=said.raw_log), said.txhash

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


class Trader:
    """Signs and sends orders for the subaccounts of one owner, each once, on threads of its own.

    `submit` never waits. What is sent and what is answered goes into the `inbox` as frames of
    the link "node" and into the audit log, without signature or transaction bytes. Short-term
    orders go in parallel and need no sequence; the others one after the other with the exact
    one, or, with `nonces`, in parallel with the chain's time in its place. A key that is not the
    owner's needs the `authenticators` that the owner gave it.

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
        self._guard, self._stop = threading.Lock(), threading.Event()
        self._waiting = 0
        self._open = self._lost = False
        self._asked: dict[str, int] = {}  # what was handed over, and until which block

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
                for height, time_ns in _blocks(frame):
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

        Once the node has left a call without an answer, what is still queued is not sent.
        """
        with self._guard:
            was_open, self._open = self._open, False
        if was_open:
            self._stop.set()
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
                threads = self._pool if job.short or self._nonces else self._turn
                sending = threads.submit(self._deliver, job)
            sending.add_done_callback(self._end)
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
        _refuse(self._objection(wish, subaccount))
        what, write = _MESSAGES[type(wish)]
        ids, message = tuple(order_id(subaccount, part) for part in parts), write(wish, subaccount)
        size = Decimal(0)
        if isinstance(wish, OrderRequest):
            self._once(ids[0], wish)
            size = self._markets[wish.ticker].size(wish.quantums)
        short = parts[0].order_flags == SHORT_TERM
        return _Job(what, ids, subaccount, wish, message, size, short, _until(parts[0]))

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

    def _end(self, _: "Future[None]") -> None:
        with self._guard:
            self._waiting -= 1

    def _deliver(self, job: _Job) -> None:
        taken = self._send(job, 0) if job.short else self._send_numbered(job)
        if job.then is not None and taken is not None and taken.is_taken:
            self._deliver(job.then)
        elif job.then is not None:
            # Not a second order beside the first, which may still stand.
            self._drop(job.then, "the cancel before it was not taken")

    def _send_numbered(self, job: _Job) -> _Result | None:
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

    def _learn_sequence(self, used: int, result: _Result | None) -> None:
        if result is not None and result.code == 0:
            self._sequence = used + 1
        elif result is None or result.is_sdk(4) or result.is_sdk(32):
            expected = _EXPECTED.search(result.log) if result is not None else None
            self._sequence = int(expected[1]) if expected else None

    def _send(self, job: _Job, sequence: int, *, again: bool = False) -> _Result | None:
        """Send once; None if no answer came, and then nobody knows."""
        import grpc

        if self._stop.is_set() and self._lost:
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
            result, txhash = _Result(code=code, codespace="grpc", log=_why(error)), ""
        except Exception as error:
            # Not of the network, and yet after the sending may have begun: that must be told too.
            self._answer(job, errors=[{"msg": type(error).__name__}])
            raise
        self._lost, said = False, msgspec.to_builtins(result) | {"hash": txhash}
        return self._answer(job, result, result=said, again=again and result.is_sdk(32))

    def _drop(self, job: _Job, why: str) -> None:
        """Say that what was queued is not sent after all."""
        result = _Result(code=1, codespace="client", log=f"not sent: {why}")
        self._answer(job, result=msgspec.to_builtins(result))

    def _answer(self, job: _Job, found: _Result | None = None, **said: Any) -> _Result | None:
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
