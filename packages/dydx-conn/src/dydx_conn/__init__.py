"""The wire of dYdX v4: every text that crosses it becomes one frame.

    recording ── replay ──┐
    indexer ──── live ────┴──► Frame ──► contents (typed, decoded once)

`Frame` is the only source of truth for the layers above; `contents` decodes what it carries.
`replay` and `live` are the two sources, `RecordingWriter` and `Recording` hold the file format
between them. `PerpetualMarket`, `OrderRequest` and the unit functions are the chain's own grid,
and `fold` is the operator that each layer above is built from.

Units: `at` and `mono` are nanoseconds; `size` and `price` are decimal text or `Decimal`;
`quantums`, `subticks` and quote quantums (1e-6 USDC) are integers, and no float touches money.
Only the last section, Live, opens sockets and starts threads; only it, and a replay at a speed,
read a clock.
Sources: comlink and socks (v4-chain/indexer), lib/quantums.go and x/clob/types (protocol).
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    "CONDITIONAL", "LONG_TERM", "MAX_TEXT", "NETWORKS", "PER_CONNECTION", "SHORT_TERM", "VERSION",
    "AssetPositionFields", "BookContents", "CancelRequest", "CandleFields", "CandlesContents",
    "ConditionType", "ConnError", "ErrorsContents", "FillFields", "Frame", "GridError", "Header",
    "HeightContents", "MarketFields", "MarketsContents", "Network", "NetworkError", "OrderFields",
    "OrderRequest", "Pacer", "PerpetualMarket", "PositionFields", "Recording", "RecordingError",
    "RecordingWriter", "Side", "Subaccount", "SubaccountContents", "SubaccountFields",
    "TimeInForce", "TradeFields", "TradesContents", "WireError", "base_to_quote", "collect",
    "contents", "event_id", "exact", "fill_to_quote", "find_recording", "fold", "live",
    "load_recorded_stream", "network", "node_contents", "order_id", "perpetual_market", "ppm",
    "quote_to_base", "replay", "rest_contents", "subaccount_id", "ws_frame",
]
# fmt: on

import asyncio
import contextlib
import hashlib
import mmap
import queue
import random
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal, TypeVar

import httpx
import msgspec
import zstandard
from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase
from reactivex.disposable import BooleanDisposable
from reactivex.scheduler import CurrentThreadScheduler, VirtualTimeScheduler

_A = TypeVar("_A")
_B = TypeVar("_B")
_S = TypeVar("_S")

# === Errors ===


class ConnError(Exception):
    """Anything this layer refuses; children say what the caller should do."""


class WireError(ConnError):
    """A text that is not what the venue documents: skip it, count it, go on."""


class GridError(ConnError):
    """A size or price that is not on the market's grid: do not send it."""


class RecordingError(ConnError):
    """A recording that cannot be read at all: choose another file."""


class NetworkError(ConnError):
    """A network that is unknown or cannot be reached: check the name, then wait."""


# === Values ===

Side = Literal["BUY", "SELL"]
TimeInForce = Literal["GTT", "IOC", "POST_ONLY"]
ConditionType = Literal["", "STOP_LOSS", "TAKE_PROFIT"]
SHORT_TERM: Final = 0
CONDITIONAL: Final = 32
LONG_TERM: Final = 64


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One thing that crossed the wire, or that the wire failed to carry.

    `kind` is ws (from the server), sent (from the client), http (an answer), open, close, gap
    (frames lost) or tick (the clock). `seq` counts from 1 and names the frame; one made on paper
    has that of its cause. `fault` says what is wrong with a text that cannot be read.
    """

    seq: int
    at: int
    mono: int
    link: str
    kind: str
    text: str = ""
    type: str = ""
    channel: str = ""
    id: str = ""
    message_id: int = 0
    raw: msgspec.Raw = msgspec.Raw(b"")
    fault: str = ""


class Subaccount(msgspec.Struct, frozen=True, gc=False, order=True):
    """An owner's numbered account; as text it is the id of the subaccount channels."""

    owner: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.owner}/{self.number}"


_Positive = Annotated[int, msgspec.Meta(gt=0)]
_Fraction = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
# An absurd power of ten would not end in an error, but not end.
_Power = Annotated[int, msgspec.Meta(ge=-40, le=40)]


class PerpetualMarket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The parameters of a perpetual, as the chain calculates with them."""

    ticker: str
    clob_pair_id: int
    perpetual_id: int
    atomic_resolution: _Power
    quantum_conversion_exponent: _Power
    step_base_quantums: _Positive
    subticks_per_tick: _Positive
    imf_ppm: _Positive  # the tier's base fraction
    maintenance_fraction_ppm: _Fraction  # of the initial margin; may be 0
    open_interest_lower_cap: int = 0  # in quote quantums, 0 for none
    open_interest_upper_cap: int = 0
    market_type: str = "CROSS"

    def quantums(self, size: Decimal | str) -> int:
        """Convert base units to quantums, exactly; `GridError` off the step."""
        return self._on_grid("size", size, -self.atomic_resolution, self.step_base_quantums)

    def subticks(self, price: Decimal | str) -> int:
        """Convert a price to subticks, exactly; `GridError` off the tick."""
        return self._on_grid("price", price, self._price_shift, self.subticks_per_tick)

    def size(self, quantums: int) -> Decimal:
        """Convert quantums to base units."""
        return Decimal(quantums).scaleb(self.atomic_resolution)

    def price(self, subticks: int) -> Decimal:
        """Convert subticks to a price in USDC per base unit."""
        return Decimal(subticks).scaleb(-self._price_shift)

    def floor_quantums(self, size: Decimal | str) -> int:
        """Round a size toward zero to the step: toward less risk, and maybe to nothing."""
        value, unit = _steps(size, -self.atomic_resolution, self.step_base_quantums)
        return _truncate(value, unit) * self.step_base_quantums

    def floor_subticks(self, price: Decimal | str) -> int:
        """Round a price down to the tick."""
        value, unit = _steps(price, self._price_shift, self.subticks_per_tick)
        return value // unit * self.subticks_per_tick

    def ceil_subticks(self, price: Decimal | str) -> int:
        """Round a price up to the tick."""
        value, unit = _steps(price, self._price_shift, self.subticks_per_tick)
        return -(-value // unit) * self.subticks_per_tick

    def quote_quantums(self, quantums: int, subticks: int) -> int:
        """Return the quote quantums of a fill, truncated toward zero as the chain does."""
        return fill_to_quote(quantums, subticks, self.quantum_conversion_exponent)

    @property
    def _price_shift(self) -> int:
        return self.atomic_resolution - self.quantum_conversion_exponent + 6

    def _on_grid(self, what: str, value: Decimal | str, shift: int, grid: int) -> int:
        steps, unit = _steps(value, shift, grid)
        if steps % unit:
            what = f"{self.ticker}: expected a {what} in multiples of"
            raise GridError(f"{what} {Decimal(grid).scaleb(-shift).normalize():f}, got {value}")
        return steps // unit * grid


class OrderRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it would be sent, to the chain or to the paper venue."""

    ticker: str
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce
    client_id: int
    reduce_only: bool = False
    order_flags: int = SHORT_TERM
    good_til_block: int = 0  # of a short-term order; the others have a time, in unix seconds
    good_til_block_time: int = 0
    client_metadata: int = 0
    condition_type: ConditionType = ""
    trigger_subticks: int = 0

    @property
    def signed_quantums(self) -> int:
        """Return the size with its direction: positive buys."""
        return self.quantums if self.side == "BUY" else -self.quantums


class CancelRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A wish to take an order off the book, named as the chain names it."""

    ticker: str
    clob_pair_id: int
    client_id: int
    order_flags: int = SHORT_TERM
    good_til_block: int = 0
    good_til_block_time: int = 0


# The indexer derives its ids from this namespace; so do we, and paper ids equal live ones.
_INDEXER_NAMESPACE = uuid.UUID("0f9da948-a6fb-4c45-9edc-4685c3f3317d")


def event_id(*parts: object) -> str:
    """Return a uuid made of `parts` alone: the same parts always give the same id."""
    return str(uuid.uuid5(_INDEXER_NAMESPACE, "-".join(map(str, parts))))


def subaccount_id(subaccount: Subaccount) -> str:
    """Return the indexer's id of a subaccount."""
    return event_id(subaccount.owner, subaccount.number)


def order_id(subaccount: Subaccount, order: OrderRequest | CancelRequest) -> str:
    """Return the indexer's id of an order, known before it is sent."""
    owner = subaccount_id(subaccount)
    return event_id(owner, order.client_id, order.clob_pair_id, order.order_flags)


# === Units ===


def base_to_quote(quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Value base quantums at an oracle price, toward zero (lib/quantums.go)."""
    return _scale(quantums * price, exponent + atomic_resolution + 6)


def quote_to_base(quote_quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Convert quote quantums to base quantums, dividing twice toward zero as the chain does."""
    return _truncate(_scale(quote_quantums, -(exponent + atomic_resolution + 6)), price)


def fill_to_quote(quantums: int, subticks: int, quantum_conversion_exponent: int) -> int:
    """Value a fill in quote quantums, toward zero (x/clob/types/quantums.go)."""
    return _scale(quantums * subticks, quantum_conversion_exponent)


def exact(text: Decimal | str) -> tuple[int, int]:
    """Split decimal text into an integer and a power of ten: "63132.81" is (6313281, -2)."""
    sign, digits, exponent = _number(text).as_tuple()
    return int("".join(map(str, digits))) * (-1 if sign else 1), int(exponent)


def ppm(fraction: str) -> int:
    """Read a decimal fraction such as "0.05" as parts per million."""
    return int((_number(fraction) * 1_000_000).to_integral_value())


def _scale(value: int, exponent: int) -> int:
    return value * 10**exponent if exponent >= 0 else _truncate(value, 10**-exponent)


def _truncate(value: int, divisor: int) -> int:
    # `//` floors; the chain's big.Int.Quo goes toward zero.
    return value // divisor if (value >= 0) == (divisor > 0) else -(-value // divisor)


def _number(text: Decimal | str) -> Decimal:
    with contextlib.suppress(InvalidOperation):
        number = Decimal(text)
        # An exponent of a billion is a number to Decimal, and an endless sum to an integer.
        if number.is_finite() and abs(number.adjusted()) <= 40 and len(str(text)) <= 80:
            return number
    raise GridError(f"expected a number of sensible size, got {str(text)[:80]!r}")


def _steps(value: Decimal | str, shift: int, grid: int) -> tuple[int, int]:
    # Counts grid steps as a fraction of integers: Decimal would round at 28 digits.
    digits, exponent = exact(value)
    power = exponent + shift
    return (digits * 10**power, grid) if power >= 0 else (digits, grid * 10**-power)


# === Wire ===
# What the venue says, as far as a bot uses it: the indexer's names in snake case, decimals as
# text. Any field may be missing from an update and null in a snapshot.


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    pass


# The type `list[shape]` of a shape made at run time, where mypy would take that for a variable.
_many = list.__class_getitem__


def _answer(**fields: Any) -> Any:
    # A shape that no layer above names: made of its fields alone.
    return msgspec.defstruct("Answer", list(fields.items()), bases=(_Wire,))


def _texts(*names: str) -> Any:
    return _answer(**dict.fromkeys(names, str))


class BookContents(_Wire, kw_only=True):
    """Book levels as (price, size); a size is the level's new total and "0" removes it."""

    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


class TradeFields(_Wire, kw_only=True):
    """A trade on the tape; `side` is the taker's."""

    id: str = ""
    side: Side
    size: str
    price: str
    type: str = "LIMIT"
    created_at: str


class CandleFields(_Wire, kw_only=True):
    """One candle; the start is its identity."""

    started_at: str
    resolution: str = ""
    low: str
    high: str
    open: str
    close: str
    base_token_volume: str
    usd_volume: str
    trades: int


# Newest first in a snapshot, oldest first in an update.
TradesContents = _answer(trades=list[TradeFields])
CandlesContents = _answer(candles=list[CandleFields])


class MarketFields(_Wire, kw_only=True):
    """A market's description, or what changed in it; older servers say `price` for the oracle's."""

    id: str | None = None
    clob_pair_id: str | None = None
    ticker: str | None = None
    status: str | None = None
    oracle_price: str | None = None
    price: str | None = None
    next_funding_rate: str | None = None
    initial_margin_fraction: str | None = None
    maintenance_margin_fraction: str | None = None
    open_interest: str | None = None
    base_open_interest: str | None = None
    atomic_resolution: int | None = None
    quantum_conversion_exponent: int | None = None
    step_base_quantums: int | None = None
    subticks_per_tick: int | None = None
    market_type: str | None = None
    open_interest_lower_cap: str | None = None
    open_interest_upper_cap: str | None = None


class MarketsContents(_Wire, kw_only=True):
    """All markets (a snapshot), or what changed in some of them."""

    markets: dict[str, MarketFields] = {}
    trading: dict[str, MarketFields] = {}
    oracle_prices: dict[str, MarketFields] = {}


class PositionFields(_Wire, kw_only=True):
    """A perpetual position; `size` is negative for a short."""

    market: str
    status: str
    size: str
    entry_price: str = "0"
    realized_pnl: str | None = None
    net_funding: str = "0"


class AssetPositionFields(_Wire, kw_only=True):
    """A balance of an asset, on the venue always USDC; `side` SHORT means owed."""

    symbol: str
    side: str
    size: str


class OrderFields(_Wire, kw_only=True):
    """An order, or the part of it that changed: a best-effort update may carry little."""

    id: str
    client_id: str | None = None
    side: Side | None = None
    size: str | None = None
    price: str | None = None
    status: str | None = None
    reduce_only: bool | None = None
    ticker: str | None = None
    total_filled: str | None = None
    total_optimistic_filled: str | None = None
    removal_reason: str | None = None


class FillFields(TradeFields, kw_only=True):
    """Our side of a trade; `fee` is negative for a rebate. REST says `market` for `ticker`."""

    fee: str = "0"
    liquidity: str
    order_id: str | None = None
    ticker: str | None = None
    market: str | None = None


class SubaccountFields(_Wire, kw_only=True):
    """A subaccount as the indexer sums it up; a parent has children in place of positions."""

    subaccount_number: int | None = None
    parent_subaccount_number: int | None = None
    equity: str
    open_perpetual_positions: dict[str, PositionFields] = {}
    asset_positions: dict[str, AssetPositionFields] = {}
    child_subaccounts: list["SubaccountFields"] = []


class SubaccountContents(_Wire, kw_only=True):
    """A snapshot (`subaccount` and `orders`; empty if never funded), or whatever changed."""

    subaccount: SubaccountFields | None = None
    orders: list[OrderFields] = []
    fills: list[FillFields] = []
    perpetual_positions: list[PositionFields] = []
    asset_positions: list[AssetPositionFields] = []
    block_height: str | None = None


class HeightContents(_Wire, kw_only=True):
    """A block; the snapshot says `height`, the updates `blockHeight`."""

    height: str = ""
    block_height: str = ""
    time: str


class _Envelope(msgspec.Struct, gc=False):
    type: str
    message_id: int = 0
    channel: str = ""
    id: str | None = None
    contents: msgspec.Raw = msgspec.Raw(b"")


_LEVELS = _many(_texts("price", "size"))
_BookSnapshot = _answer(bids=_LEVELS, asks=_LEVELS)

# What a channel sends at first, and then.
_CHANNELS: dict[str, tuple[Any, Any]] = {
    "v4_orderbook": (_BookSnapshot, BookContents),
    "v4_trades": (TradesContents, TradesContents),
    "v4_candles": (CandlesContents, CandleFields),
    "v4_markets": (MarketsContents, MarketsContents),
    "v4_subaccounts": (SubaccountContents, SubaccountContents),
    "v4_parent_subaccounts": (SubaccountContents, SubaccountContents),
    "v4_block_height": (HeightContents, HeightContents),
}
_TYPES = ("subscribed", "channel_data", "channel_batch_data")
_DECODERS: dict[tuple[str, str], Callable[[msgspec.Raw], Any]] = {
    (type_, channel): msgspec.json.Decoder(shape).decode
    for channel, (snapshot, update) in _CHANNELS.items()
    for type_, shape in zip(_TYPES, (snapshot, update, _many(update)), strict=True)
}
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
# What decoding a text can raise; brackets that nest too deep are a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
# A message without contents is still a message; only these types may say nothing.
_CONTROL = frozenset(["connected", "unsubscribed", "error", "pong"])

MAX_TEXT: Final = 16 * 1024 * 1024


def ws_frame(seq: int, at: int, mono: int, link: str, text: str) -> Frame:
    """Make a frame of one message from the server; never fails, a bad text gets a `fault`."""
    try:
        if len(text) > MAX_TEXT:
            raise msgspec.DecodeError(f"at most {MAX_TEXT} characters, got {len(text)}")
        head = _decode_envelope(text)
    except _UNREADABLE as error:
        fault = f"expected a JSON message of the indexer, got {text[:80]!r}: {error}"
        return Frame(seq, at, mono, link, "ws", text, fault=fault)
    # By position and in two rows, ours and theirs: it is made for every message.
    return Frame(
        seq, at, mono, link, "ws", text,
        head.type, head.channel, head.id or "", head.message_id, head.contents,
    )  # fmt: skip


def contents(frame: Frame) -> list[Any]:
    """Decode what a frame carries, oldest first; empty for control messages.

    The channel decides the type, as the path does for an answer; `WireError` says why not.
    """
    if frame.fault:
        raise WireError(frame.fault)
    if frame.kind == "http":
        return [rest_contents(frame.channel, frame.text)]
    if frame.kind != "ws" or frame.type in _CONTROL:
        return []
    decode = _DECODERS.get((frame.type, frame.channel))
    if decode is None:
        raise WireError(f"expected a known message, got {frame.type!r} on {frame.channel!r}")
    try:
        decoded = decode(frame.raw)
    except _UNREADABLE as error:
        what = f"{frame.type} contents of {frame.channel}"
        raise WireError(f"expected {what}, got {frame.text[:80]!r}: {error}") from None
    # Snapshots and updates look alike to who reads them: levels are pairs, candles are lists.
    if type(decoded) is _BookSnapshot:
        return [_book(decoded)]
    updates = decoded if isinstance(decoded, list) else [decoded]
    if frame.channel == "v4_candles" and frame.type != "subscribed":
        return [CandlesContents(candles=[candle]) for candle in updates]
    return updates


def _book(snapshot: Any) -> BookContents:
    sides = (snapshot.bids, snapshot.asks)
    bids, asks = ([(level.price, level.size) for level in side] for side in sides)
    return BookContents(bids=bids, asks=asks)


def perpetual_market(fields: MarketFields) -> PerpetualMarket:
    """Read a market's parameters; `WireError` names one that is missing or makes no sense."""
    stated = {k: v for k, v in msgspec.structs.asdict(fields).items() if v not in (None, "")}
    try:
        for cap in ("open_interest_lower_cap", "open_interest_upper_cap"):
            # They come in USDC, and the chain counts quote quantums.
            stated[cap] = int(_number(stated.get(cap, "0")).scaleb(6))
        if {"initial_margin_fraction", "maintenance_margin_fraction"} <= stated.keys():
            imf_ppm = stated["imf_ppm"] = ppm(stated["initial_margin_fraction"])
            product_ppm = ppm(stated["maintenance_margin_fraction"])
            # The indexer publishes the product; the chain keeps the factor.
            stated["maintenance_fraction_ppm"] = round(product_ppm * 1_000_000 / imf_ppm)
        # Only updates name the perpetual; on every network so far it is the pair's number.
        stated["perpetual_id"] = stated.get("id", fields.clob_pair_id)
        return msgspec.convert(stated, PerpetualMarket, strict=False)
    except (msgspec.ValidationError, GridError, ZeroDivisionError) as error:
        raise WireError(f"expected the parameters of market {fields.ticker}: {error}") from None


# === Answers ===
# What was asked decides the type: a path of the indexer, or the name of a question to a node.

ErrorsContents = _answer(errors=_many(_texts("msg")))
_FUNDING = _texts("ticker", "rate", "price", "effective_at")
_TRANSFER = _texts("size", "symbol", "type", "created_at")
_PNL = _texts("equity", "total_pnl", "net_transfers", "created_at")
_TIERS = _many(_answer(usd_tnc_required=str, limit=int))
_EQUITY_TIERS = _answer(short_term_order_equity_tiers=_TIERS, stateful_order_equity_tiers=_TIERS)
_FEE_TIER = _answer(name=str, absolute_volume_requirement=str, maker_fee_ppm=int, taker_fee_ppm=int)

_ANSWERS: dict[str, Any] = {
    r"/v4/perpetualMarkets": MarketsContents,
    r"/v4/orderbooks/perpetualMarket/[^/]+": _BookSnapshot,
    r"/v4/trades/perpetualMarket/[^/]+": TradesContents,
    r"/v4/candles/perpetualMarkets/[^/]+": CandlesContents,
    r"/v4/historicalFunding/[^/]+": _answer(historical_funding=_many(_FUNDING)),
    r"/v4/sparklines": dict[str, list[str]],
    r"/v4/time": _answer(iso=str, epoch=float),
    r"/v4/height": HeightContents,
    r"/v4/addresses/[^/]+": _answer(subaccounts=list[SubaccountFields]),
    r"/v4/addresses/[^/]+/(s|parentS)ubaccountNumber/\d+": SubaccountContents,
    r"/v4/perpetualPositions": _answer(positions=list[PositionFields]),
    r"/v4/assetPositions": _answer(positions=list[AssetPositionFields]),
    r"/v4/orders": list[OrderFields],
    r"/v4/orders/[^/]+": OrderFields,
    r"/v4/fills": _answer(fills=list[FillFields]),
    r"/v4/transfers": _answer(transfers=_many(_TRANSFER)),
    r"/v4/historical-pnl": _answer(historical_pnl=_many(_PNL)),
    "equity_tiers": _answer(equity_tier_limit_config=_EQUITY_TIERS),
    "fee_tiers": _answer(params=_answer(tiers=_many(_FEE_TIER))),
    "user_fee_tier": _answer(index=int, tier=_FEE_TIER),
    "withdrawal_capacity": _answer(limiter_capacity_list=_many(_texts("capacity"))),
    "broadcast": _answer(result=_answer(code=int, log=str, codespace=str, hash=str)),
    "latest_block": _answer(result=_answer(block=_answer(header=_texts("height", "time")))),
    "genesis": msgspec.defstruct("Genesis", [("chain_id", str), ("genesis_time", str)]),
}
_ANSWER_DECODERS = [
    (re.compile(asked), msgspec.json.Decoder(shape).decode) for asked, shape in _ANSWERS.items()
]


def rest_contents(path: str, body: str) -> Any:
    """Decode a REST answer by the path that was asked; a refusal is `ErrorsContents`.

    `WireError` if the path is unknown or the body is not what it should answer.
    """
    route = path.partition("?")[0].removesuffix("/parentSubaccountNumber")
    decode = next((decode for asked, decode in _ANSWER_DECODERS if asked.fullmatch(route)), None)
    if decode is None:
        raise WireError(f"expected the path of an indexer endpoint, got {path!r}")
    with contextlib.suppress(*_UNREADABLE):
        return msgspec.json.decode(body, type=ErrorsContents)
    try:
        decoded = decode(body)
    except _UNREADABLE as error:
        raise WireError(f"expected the answer of {route}, got {body[:80]!r}: {error}") from None
    return _book(decoded) if type(decoded) is _BookSnapshot else decoded


def node_contents(kind: str, text: str) -> Any:
    """Decode a node's answer in JSON by the name of the question, as `rest_contents` a path."""
    return rest_contents(kind, text)


# === Recordings ===
# A recording is one JSON event a line, in zstd frames that stand alone: a killed writer loses
# what it had not closed, a flipped bit costs the frame it is in, and `zstd -dc` reads it all.

VERSION: Final = 1
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BLOCK_BYTES: Final = 64 * 1024
_BLOCK_NS: Final = 1_000_000_000
# A block closes soon after 64 KiB, but its last line may be a message of the largest size.
_MAX_BLOCK: Final = 8 * MAX_TEXT


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a recording says of itself; `source` tells a stand-in from the real venue."""

    v: int = VERSION
    network: str
    rest: str
    ws: str
    client: str
    source: str
    run: str = ""
    ns: int = 0


_NUMBERS = ("i", "ns", "mono", "ens", "st", "code", "n")
_WORDS = ("c", "d", "x", "u", "b", "reason", "why", "sha256")
_LINE: list[Any] = [("k", str), *((n, int, 0) for n in _NUMBERS), *((n, str, "") for n in _WORDS)]
_Line: Any = msgspec.defstruct("_Line", _LINE, gc=False)
_decode_line = msgspec.json.Decoder(_Line).decode


class RecordingWriter:
    """Append events to a recording; killed at any time, what was closed stays readable."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.seq = 0
        self._file: IO[bytes] = path.open("wb")
        self._compress = zstandard.ZstdCompressor(level=9, write_checksum=True).compress
        self._sha256 = hashlib.sha256()
        self._block = bytearray()
        self._opened = 0
        self._append({"k": "hdr", **msgspec.to_builtins(header), "v": VERSION})
        self.flush()

    def write(self, kind: str, *, ns: int, mono: int, **fields: Any) -> int:
        """Append one event and return its number; `fields` are the format's own letters."""
        if not self._block:
            self._opened = mono
        self.seq += 1
        self._append({"k": kind, "i": self.seq, "ns": ns, "mono": mono, **fields})
        if len(self._block) >= _BLOCK_BYTES or mono - self._opened >= _BLOCK_NS:
            self.flush()
        return self.seq

    def write_frame(self, frame: Frame) -> int:
        """Append a frame as the event that it was."""
        kind = "ws" if frame.kind == "sent" else frame.kind
        fields = {letter: getattr(frame, part) for letter, part in _LETTERS[kind].items()}
        fields |= {letter: int(fields[letter]) for letter in ("st", "code") if letter in fields}
        if kind == "ws":
            fields["d"] = "<" if frame.kind == "ws" else ">"
        return self.write(kind, ns=frame.at, mono=frame.mono, c=frame.link, **fields)

    def flush(self) -> None:
        """Close the block at hand and give it to the operating system."""
        if self._block:
            self._file.write(self._compress(bytes(self._block)))
            self._file.flush()
            self._block.clear()

    def close(self) -> None:
        """Write the end line and close the file; a second call does nothing."""
        if not self._file.closed:
            end = {"k": "end", "i": self.seq + 1, "lines": self.seq + 1}
            self._append({**end, "sha256": self._sha256.hexdigest()})
            self.flush()
            self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(line) + b"\n"
        self._block += encoded
        self._sha256.update(encoded)


# Which letter of an event holds which part of its frame.
_LETTERS: Final[dict[str, dict[str, str]]] = {
    "ws": {"x": "text"},
    "http": {"u": "channel", "st": "type", "b": "text"},
    "open": {"u": "text"},
    "close": {"code": "type", "reason": "text"},
    "gap": {"n": "message_id", "why": "text"},
    "tick": {},
}


class Recording:
    """A recording on disk: iterate it for its frames; `RecordingError` if it is none.

    Damage inside is no error: a gap frame stands where lines were lost, `damage` lists each
    place, and `complete` tells, after iterating, whether the end was written and its sum holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.complete = False
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Frame]:
        self.damage, self.complete = [], False
        sha256, seq, at, mono = hashlib.sha256(), 0, self.header.ns, 0
        for text in self._lines():
            try:
                line = _decode_line(text)
            except _UNREADABLE as error:
                if text:
                    self.damage.append(f"expected a recorded event, got {text[:60]!r}: {error}")
                yield Frame(seq, at, mono, "", "gap", self.damage[-1])
                continue
            if line.k == "end":
                self.complete = line.sha256 == sha256.hexdigest() and not self.damage
                continue
            sha256.update(text)
            seq, at, mono = line.i or seq, line.ens or line.ns or at, line.mono or mono
            if line.k == "ws" and line.d == "<":
                yield ws_frame(line.i, at, line.mono, line.c, line.x)
            elif line.k in _LETTERS:
                yield self._frame(line, at)
        if not self.complete and not self.damage:
            self.damage.append("the end line is missing or its sum is wrong: it was cut off")

    def _read_header(self) -> Header:
        if not self.path.is_file() or not self.path.stat().st_size:
            found = "found no such file" if not self.path.exists() else "it is no file"
            found = "the file is empty" if self.path.is_file() else found
            raise RecordingError(f"expected a recording at {self.path}, {found}")
        with self.path.open("rb") as file:
            if (start := file.read(4)) != _ZSTD_MAGIC:
                what = "expected a recording, which is compressed with zstd"
                raise RecordingError(f"{what}, {self.path} begins with {start!r}")
        first = next(self._lines(), b"")
        try:
            header = msgspec.json.decode(first, type=Header)
        except _UNREADABLE as error:
            found = " ".join([*self.damage, f"{first[:80]!r}: {error}"])
            what = f"expected {self.path} to begin with a recording's header"
            raise RecordingError(f"{what}, found {found}") from None
        if header.v > VERSION:
            what = f"expected {self.path} to be of format version {VERSION} or older"
            raise RecordingError(f"{what}, it is {header.v}: a newer release wrote it")
        return header

    def _lines(self) -> Iterator[bytes]:
        # An empty line stands for those that cannot be read, once `damage` tells which.
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            start = 0
            while start < len(data):
                block, end = self._unpack(data, start)
                if block is None:
                    # Whole again at the next block; the magic number marks it.
                    end = data.find(_ZSTD_MAGIC, start + 1)
                    end = len(data) if end == -1 else end
                    self.damage.append(f"bytes {start} to {end} are damaged: their lines are lost")
                yield from [b""] if block is None else block.splitlines(keepends=True)
                start = end

    @staticmethod
    def _unpack(data: mmap.mmap, start: int) -> tuple[bytes | None, int]:
        # Frames are small and their packed size is written nowhere: feed until it says it is done.
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        block, position = b"", start
        try:
            if zstandard.frame_content_size(data[start : start + 18]) > _MAX_BLOCK:
                return None, start
            while not unpacker.eof and position < len(data) and len(block) <= _MAX_BLOCK:
                chunk = data[position : position + _BLOCK_BYTES]
                block += unpacker.decompress(chunk)
                position += len(chunk) - len(unpacker.unused_data)
        except zstandard.ZstdError:
            return None, start
        return (block, position) if unpacker.eof else (None, start)

    @staticmethod
    def _frame(line: Any, at: int) -> Frame:
        parts = {part: getattr(line, letter) for letter, part in _LETTERS[line.k].items()}
        if "type" in parts:
            parts["type"] = str(parts["type"])
        if "channel" in parts:
            # Answers are told apart by what was asked, not by which host was asked.
            parts["channel"] = re.sub(r"^\w+://[^/]+", "", parts["channel"])
        kind = "sent" if line.k == "ws" else line.k
        return Frame(line.i, at, line.mono, line.c, kind, **parts)


def find_recording(name: str) -> Path:
    """Return the path of a recording in `recordings/`, here or above; a path stays what it is."""
    if name.endswith(".zst") or "/" in name:
        return Path(name)
    folders = [*(Path.cwd() / "x").parents, *Path(__file__).resolve().parents]
    paths = [path for f in folders for path in (f / "recordings").glob("*.jsonl.zst")]
    found = {path.name.removesuffix(".jsonl.zst"): path for path in reversed(paths)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none found"
        raise RecordingError(f"expected the path of a recording or one of: {known}; got {name!r}")
    return found[name]


# === Streams ===

Pacer = Callable[[Frame], bool]
_Scheduler = SchedulerBase | None


def fold(
    start: Callable[[], _S], step: Callable[[_S, _A], Iterable[_B]]
) -> Callable[[Observable[_A]], Observable[_B]]:
    """Fold events into a state of one's own and emit what each step puts out, in order.

    Hot or cold as the source is, ends with it, on its thread; what `step` raises is an error.

        source  --a-----b----|
        fold    --x-y---z----|
    """

    def operator(source: Observable[_A]) -> Observable[_B]:
        def subscribe(observer: ObserverBase[_B], on: _Scheduler = None) -> DisposableBase:
            # Made here and not outside: two subscribers must not share a state.
            state = start()
            emit = observer.on_next

            def on_next(event: _A) -> None:
                try:
                    for output in step(state, event):
                        emit(output)
                except Exception as error:  # noqa: BLE001 - Rx's contract: operators hand errors on
                    observer.on_error(error)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=on)

        return Observable(subscribe)

    return operator


def replay(
    recording: "str | Path | Recording",
    *,
    speed: float | None = None,
    scheduler: VirtualTimeScheduler | None = None,
    pace: Pacer | None = None,
) -> Observable[Frame]:
    """Play a recording (a name, a path, an open one): at once, or `speed` times real time.

    Cold: each subscriber plays it from the start, on its own thread, inside `subscribe`, to its
    end or a `RecordingError`. A virtual `scheduler` is advanced to each frame before it is
    emitted. `pace` sees each frame first: it may wait, and ends the replay by returning False.

        replay  --f-f---f|
    """
    if speed is not None and not speed > 0:
        raise ConnError(f"expected a speed above 0, got {speed}")

    def frames() -> Generator[Frame]:
        source = find_recording(recording) if isinstance(recording, str) else recording
        begun: tuple[int, float, float] | None = None
        for frame in source if isinstance(source, Recording) else Recording(source):
            if pace is not None and not pace(frame):
                return
            now_s = 0.0 if scheduler is None else scheduler.to_seconds(scheduler.now)
            begun = begun or (frame.mono, time.monotonic(), now_s)
            since_s = (frame.mono - begun[0]) / 1e9
            if speed is not None:
                time.sleep(max(begun[1] + since_s / speed - time.monotonic(), 0.0))
            if scheduler is not None:
                # advance_to, never start(): that deadlocks or drifts on equal instants.
                scheduler.advance_to(max(begun[2] + since_s, now_s))
            yield frame

    return _frames(frames)


load_recorded_stream = replay  # as a test reads best: a bundled recording by its name


def collect(source: Observable[_A]) -> list[_A]:
    """Subscribe, return what was emitted by the end of it, raise what the stream errors with."""
    values: list[_A] = []
    errors: list[Exception] = []
    source.subscribe(values.append, errors.append)
    if errors:
        raise errors[0]
    return values


def _frames(source: Callable[[], Generator[Frame]]) -> Observable[Frame]:
    def subscribe(observer: ObserverBase[Frame], _: _Scheduler = None) -> DisposableBase:
        stopped = BooleanDisposable()

        def run(*_: object) -> None:
            # Closed even if an observer raises: live ends its threads there.
            with contextlib.closing(source()) as frames:
                try:
                    for frame in frames:
                        observer.on_next(frame)
                        if stopped.is_disposed:
                            return
                except ConnError as error:
                    observer.on_error(error)
            observer.on_completed()

        # Through the trampoline, so that `take(1)` holds the disposable before the first frame.
        CurrentThreadScheduler.singleton().schedule(run)
        return stopped

    return Observable(subscribe)


# === Live ===
# The only place that opens sockets and starts threads.


@dataclass(frozen=True, slots=True)
class Network:
    """Where a venue answers: REST, socket and node, and the chain it must say it is."""

    name: str
    rest: str
    ws: str
    node: str
    chain_id: str


# A row for the indexer's addresses and one for the node's.
NETWORKS: Final[Mapping[str, Network]] = {
    "mainnet": Network("mainnet", "https://indexer.dydx.trade", "wss://indexer.dydx.trade/v4/ws",
                       "dydx-ops-grpc.kingnodes.com:443", "dydx-mainnet-1"),
    "testnet": Network("testnet", "https://indexer.v4testnet.dydx.exchange",
                       "wss://indexer.v4testnet.dydx.exchange/v4/ws",
                       "test-dydx-grpc.kingnodes.com:443", "dydx-testnet-4"),
    "local": Network("local", "http://127.0.0.1:3002", "ws://127.0.0.1:3003/v4/ws",
                     "127.0.0.1:9090", "localdydxprotocol"),
}  # fmt: skip

PER_CONNECTION: Final = 32  # subscriptions to one channel that a connection may hold (socks)


def network(name: str) -> Network:
    """Return a network by name; `NetworkError` lists the names."""
    if name not in NETWORKS:
        raise NetworkError(f"expected one of {', '.join(NETWORKS)}; got network {name!r}")
    return NETWORKS[name]


def live(
    network: Network,
    tickers: Iterable[str],
    *,
    subaccount: Subaccount | None = None,
    pace: Pacer | None = None,
) -> Observable[Frame]:
    """Receive a network's frames: markets, block height, and each ticker's book and trades.

    Cold: each subscriber opens connections of its own (share it), and receives on its own
    thread, inside `subscribe`, until `pace` says False or it is disposed; no error ends it. A
    lost connection is a close frame, and is opened anew. A tick passes every second.

        live  --open-ws-ws-tick-close----open-ws-
    """
    return _frames(partial(_receive, network, list(tickers), subaccount, pace))


_Put = Callable[..., None]
_TICK_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_TIMEOUT_S: Final = 10.0


def _receive(
    network: Network, tickers: list[str], subaccount: Subaccount | None, pace: Pacer | None
) -> Generator[Frame]:
    # The one place where other threads' texts cross over.
    inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def put(kind: str, text: str = "", *more: str, link: str) -> None:
        # Stamped where it was received, numbered where it is put in order.
        inbox.put((time.time_ns(), time.monotonic_ns(), link, kind, text, *more))

    groups = [tickers[i : i + PER_CONNECTION] for i in range(0, len(tickers), PER_CONNECTION)]
    links = [
        _Link(network.ws, f"c{n}", partial(_subscribe, group, subaccount, first=n == 1), put)
        for n, group in enumerate(groups or [[]], 1)
    ]
    rest = threading.Thread(target=_fetch_markets, args=(network, put), daemon=True)
    for thread in (rest, *links):
        thread.start()
    tick_due, seq = time.monotonic() + _TICK_S, 0
    try:
        while True:
            if time.monotonic() >= tick_due:
                tick_due += _TICK_S
                put("tick", link="clock")
            with contextlib.suppress(queue.Empty):
                at, mono, name, kind, *said = inbox.get(timeout=max(tick_due - time.monotonic(), 0))
                seq += 1
                stamps = (seq, at, mono, name)
                frame = ws_frame(*stamps, *said) if kind == "ws" else Frame(*stamps, kind, *said)
                if pace is not None and not pace(frame):
                    return
                yield frame
    finally:
        for part in (_Link.leave, _Link.end):
            for link in links:
                part(link)


def _fetch_markets(network: Network, put: _Put) -> None:
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    # The client parses an answer and drops its text; frames keep the text.
    async def get(path: str, params: Mapping[str, Any] | None = None) -> Any:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            answer = await http.get(network.rest + path)
        put("http", answer.text, str(answer.status_code), path, link="rest")
        answer.raise_for_status()
        return answer.json()

    client = IndexerClient(network.rest)
    client.markets.get = get
    try:
        asyncio.run(client.markets.get_perpetual_markets())
    except (httpx.HTTPError, ValueError) as error:
        put("gap", f"the markets were not answered: {type(error).__name__}: {error}", link="rest")


def _subscribe(tickers: list[str], subaccount: Subaccount | None, app: Any, *, first: bool) -> None:
    # The first connection asks for what is not a market's.
    if first:
        app.markets.subscribe()
        app.send('{"type":"subscribe","channel":"v4_block_height"}')
    for ticker in tickers:
        app.order_book.subscribe(ticker)
        app.trades.subscribe(ticker)
    if first and subaccount is not None:
        app.subaccounts.subscribe(subaccount.owner, subaccount.number)


class _Link(threading.Thread):
    """One connection, kept open: subscribe, listen, and after a loss try again."""

    def __init__(self, url: str, name: str, subscribe: Callable[[Any], None], put: _Put) -> None:
        super().__init__(name=name, daemon=True)
        self._url, self._subscribe = url, subscribe
        self._put = partial(put, link=name)
        self._stopping = threading.Event()
        self._app: Any = None
        self._opened: Any = None
        self._closed = (0, "")

    def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._closed, opened = (0, ""), time.monotonic()
            self._listen()
            code, reason = self._closed
            self._put("close", reason, str(code))
            # A venue that greets and drops us is as gone as one that does not answer.
            if time.monotonic() - opened > _BACKOFF_S[-1]:
                failures = 0
            wait = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            # Jitter, or every bot of a restarted venue comes back in the same instant.
            self._stopping.wait(wait * random.uniform(0.5, 1.0))

    def leave(self) -> None:
        self._stopping.set()
        self._wake(socket.SHUT_RD)

    def end(self) -> None:
        # A second for the goodbye, then hang up.
        self.join(timeout=1.0)
        if self.is_alive():
            self._wake(socket.SHUT_RDWR)
            self.join(timeout=1.0)

    def _wake(self, how: int) -> None:
        # Not the client's close(): that reads the venue's answer away from our thread, which
        # waits for it. Nor SSLSocket's shutdown: that would say goodbye in plain text.
        with contextlib.suppress(AttributeError, TypeError, OSError):
            self._app.keep_running = False
            socket.socket.shutdown(self._opened.sock, how)

    def _listen(self) -> None:
        import websocket
        from dydx_v4_client.indexer.socket.websocket import IndexerSocket

        # Or a host that takes the connection and says nothing would be waited for in silence.
        websocket.setdefaulttimeout(_TIMEOUT_S)
        app = IndexerSocket(
            self._url,
            on_open=self._connected,
            on_close=lambda _, code, reason: self._note(code or 0, reason or "closed"),
            on_error=lambda _, error: self._lost(error),
        )
        # The client would parse every message; frames keep the text.
        app.on_message = lambda _, text: self._message(text)
        self._app = app
        # Its own connect() would leave certificates unchecked and never ping.
        app.run_forever(
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True},
            ping_interval=15,
            ping_timeout=5,
            skip_utf8_validation=True,
            suppress_origin=True,
        )
        if self._opened is not None:
            self._opened.shutdown()  # the client leaves it open if the venue said goodbye first

    def _connected(self, app: Any) -> None:
        self._opened = app.sock
        if self._stopping.is_set():
            app.keep_running = False
            return
        self._put("open", self._url)
        # What we ask is a frame too: it tells a snapshot that is late from one that is lost.
        app.send = partial(self._say, app.send)
        self._subscribe(app)

    def _say(self, send: Callable[[str], None], text: str) -> None:
        self._put("sent", text)
        send(text)

    def _message(self, text: str | bytes) -> None:
        self._put("ws", text if isinstance(text, str) else text.decode("utf-8", "replace"))

    def _lost(self, error: Any) -> None:
        # The venue's goodbye comes as an error too; an HTTP status is no close code.
        code = getattr(error, "status_code", None) or 0
        if code >= 1000:
            self._note(code, error.reason or "closed")
        self._note(0, f"{type(error).__name__}: {error}")

    def _note(self, code: int, reason: str) -> None:
        # The first word on why it ended is the true one; what follows are echoes.
        if not self._closed[1]:
            self._closed = (code, reason)
