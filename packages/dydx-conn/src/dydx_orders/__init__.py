"""Orders: build them, refuse them, price them, follow them. Nothing here opens a connection.

    limit, market, stop_loss … ──► OrderRequest ──► Trader (dydx_trader) ──► node
    frames (sent, answers, account, blocks) ──► Lifecycle ──► OrderState

The builders turn a size and a price as a person writes them into an `OrderRequest`, exactly or
rounded toward less, and raise `OrderDenied` for what the chain would refuse. `estimate` says what
an order may cost. `Lifecycle` is a fold over frames: where an answer was lost the order is
UNRESOLVED until the chain or its expiry settles it.

Units: sizes and prices are decimal text or `Decimal`; quantums, subticks and quote quantums are
integers; times are unix seconds of the chain's blocks, never of this machine's clock.
Sources: v4-chain x/clob/types; the official client's node messages.
"""

# One name a line would be a page, here and among the imports.
# fmt: off
# isort: off
__all__ = [
    "MAX_SUBACCOUNT", "WINDOW", "BatchCancel", "Estimate", "Lifecycle", "OrderDenied",
    "OrderState", "Replace", "Result", "Rounding", "Status", "Terms", "batch_cancel_message",
    "blocks_of", "cancel", "cancel_all", "cancel_message", "child", "estimate",
    "fold_order_frame", "good_until", "limit", "market", "orders", "place_message", "refuse",
    "replacement", "stop_loss", "take_profit", "twap",
]

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, Required, TypedDict, Unpack
from urllib.parse import parse_qs, urlsplit

import msgspec
from dydx_conn import (
    CONDITIONAL, LONG_TERM, MAX_BATCH, SHORT_TERM, TWAP, CancelRequest, ConditionType, ConnError,
    ErrorFields, Fees, FillFields, Frame, HeightContents, OrderFields, OrderRequest,
    PerpetualMarket, Side, Subaccount, TimeInForce, code_of, codespace_of, contents, fee, fold,
    meaning, number, objection, stateful_order_limit,
)
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


def refuse(error: str) -> None:
    """Raise `OrderDenied` if there is an error to name."""
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
    refuse(objection(order, market))
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


class Result(msgspec.Struct, kw_only=True):
    """A node's verdict on a transaction: 0, or an error's number in its codespace."""

    code: int
    codespace: str = ""
    log: str = ""

    @property
    def is_taken(self) -> bool:
        """Tell whether the node holds it."""
        # Of sdk 19 the node knows the very bytes: somebody on the way sent them twice.
        return self.code == 0 or self.is_sdk(19)

    @property
    def reason(self) -> str:
        """Return what the verdict means, and what the node said to it."""
        if self.codespace in ("client", "grpc"):
            return self.log
        said = f"{self.codespace} {self.code}: {meaning(self.codespace, self.code)}"
        return f"{said} ({self.log})" if self.log else said

    def is_sdk(self, code: int) -> bool:
        """Tell whether it is this error of the chain's transaction checks."""
        return (self.codespace, self.code) == ("sdk", code)


class _Answer(msgspec.Struct, kw_only=True):
    to: str
    ids: list[str]
    until: int = 0  # the block or time that was asked for: tells a replacement from the replaced
    result: Result | None = None
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
            newest = old.named is None or answer.until in (0, good_until(old.named))
            if result is None and id in self.orders:
                why = answer.errors[0].msg if answer.errors else "no answer"
                yield from self._move(old, "lost", frame.seq, reason=why)
            elif result is None or result.is_taken or not newest:
                if id in self.orders:
                    taken = result is None or result.is_taken
                    behind = None if newest else _answered(before, answer.until, taken)
                    self._put(msgspec.structs.replace(old, before=behind))
            elif before is not None:
                why = f"replacement refused: {result.reason}"
                names = ("size", "named", "order", "before")
                stands = {name: getattr(before, name) for name in names}
                yield from self._move(old, "", frame.seq, reason=why, **stands)
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
        for height, time_ns in blocks_of(frame):
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


def _answered(state: OrderState | None, until: int, taken: bool) -> OrderState | None:
    """Return what stands behind a replacement once one of the requests before it is answered."""
    later = []
    while state is not None and (state.named is None or good_until(state.named) != until):
        later.append(state)
        state = state.before
    if state is not None:
        state = msgspec.structs.replace(state, before=None) if taken else state.before
    for each in reversed(later):
        state = msgspec.structs.replace(each, before=state)
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


def good_until(wish: OrderRequest | CancelRequest) -> int:
    """Return the last block, or for stateful orders the time, of an order or its cancel."""
    return wish.good_til_block or wish.good_til_block_time


def blocks_of(frame: Frame) -> list[tuple[int, int]]:
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
