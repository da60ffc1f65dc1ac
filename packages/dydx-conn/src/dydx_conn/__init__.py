"""The wire of dYdX v4: every text that crosses it becomes one frame.

    recording ── replay ──┐
    indexer ──── live ────┴──► Frame ──► contents (typed, decoded once)

`Frame` is the only source of truth for the layers above; `contents` decodes what it carries.
`replay` and `live` are the two sources; `RecordingWriter` and `read_recording` hold the file
format between them. `PerpetualMarket`, `OrderRequest` and the unit functions are the chain's
own grid, and `fold` is the operator that each layer above is built from.

Units: `at` and `mono` are nanoseconds; `size` and `price` are decimal text or `Decimal`;
`quantums`, `subticks` and quote quantums (1e-6 USDC) are integers. No float ever touches
money here. Only the last section, Live, opens sockets, starts threads or reads a clock, and
`dydx_v4_client` is imported there on first use.

Sources: indexer REST and WebSocket as served by comlink and socks (v4-chain/indexer);
units from v4-chain/protocol lib/quantums.go and x/clob/types.
"""

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
import types
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeVar

import httpx
import msgspec
import zstandard
from reactivex import Observable, abc
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

    `kind` is one of: ws (from the server), sent (from the client), http (a REST answer), open,
    close, gap (frames known to be lost), tick (the clock). `seq` counts from 1 and names the
    frame for ever; an account frame made on paper carries the `seq` of the frame that caused it.
    `fault` is empty, or says why the text could not be read as what its kind promises.
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
        """Return `owner/number`."""
        return f"{self.owner}/{self.number}"


class PerpetualMarket(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The parameters of one perpetual that the chain calculates with.

    `step_base_quantums` is the size grid and the smallest size; `subticks_per_tick` the price
    grid. `imf_ppm` is the tier's base fraction; maintenance is that times
    `maintenance_fraction_ppm`. Open-interest caps are quote quantums, 0 for none.
    """

    ticker: str
    clob_pair_id: int
    perpetual_id: int
    atomic_resolution: int
    quantum_conversion_exponent: int
    step_base_quantums: int
    subticks_per_tick: int
    imf_ppm: int
    maintenance_fraction_ppm: int
    open_interest_lower_cap: int = 0
    open_interest_upper_cap: int = 0
    market_type: str = "CROSS"

    def quantums(self, size: Decimal | str) -> int:
        """Convert base units to quantums, exactly; `GridError` off the step."""
        return _on_grid(self.ticker, "size", size, -self.atomic_resolution, self.step_base_quantums)

    def subticks(self, price: Decimal | str) -> int:
        """Convert a price to subticks, exactly; `GridError` off the tick."""
        return _on_grid(self.ticker, "price", price, self._price_shift, self.subticks_per_tick)

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


class OrderRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it would be sent: to the chain by the live edge, or to the paper venue.

    `quantums` is unsigned, `side` gives the direction. Short-term orders (flags 0) carry
    `good_til_block`, the others `good_til_block_time` (unix seconds).
    """

    ticker: str
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce
    client_id: int
    reduce_only: bool = False
    order_flags: int = SHORT_TERM
    good_til_block: int = 0
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


def subaccount_id(subaccount: Subaccount) -> str:
    """Return the indexer's id of a subaccount."""
    return str(uuid.uuid5(_INDEXER_NAMESPACE, f"{subaccount.owner}-{subaccount.number}"))


def order_id(subaccount: Subaccount, order: OrderRequest | CancelRequest) -> str:
    """Return the indexer's id of an order, known before it is sent."""
    name = f"{subaccount_id(subaccount)}-{order.client_id}-{order.clob_pair_id}-{order.order_flags}"
    return str(uuid.uuid5(_INDEXER_NAMESPACE, name))


def event_id(*parts: object) -> str:
    """Return a uuid made of `parts` alone: the same parts always give the same id."""
    return str(uuid.uuid5(_INDEXER_NAMESPACE, "-".join(map(str, parts))))


# === Units ===


def base_to_quote(quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Value base quantums at an oracle price in quote quantums, truncated toward zero.

    Source: v4-chain lib/quantums.go, BaseToQuoteQuantums.
    """
    return _scale(quantums * price, exponent + atomic_resolution + 6)


def quote_to_base(quote_quantums: int, price: int, exponent: int, atomic_resolution: int) -> int:
    """Convert quote quantums to base quantums at an oracle price, truncated toward zero.

    The chain divides twice, first by the power of ten and then by the price.
    """
    return _truncate(_scale(quote_quantums, -(exponent + atomic_resolution + 6)), price)


def fill_to_quote(quantums: int, subticks: int, quantum_conversion_exponent: int) -> int:
    """Value a fill in quote quantums, truncated toward zero (x/clob/types/quantums.go)."""
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
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise GridError(f"expected a decimal number, got {_sample(str(text))}") from None
    # An exponent of a billion is a number to Decimal, and an endless sum to an integer.
    if not number.is_finite() or abs(number.adjusted()) > 40 or len(str(text)) > 80:
        raise GridError(f"expected a number of sensible size, got {_sample(str(text))}")
    return number


def _on_grid(ticker: str, what: str, value: Decimal | str, shift: int, grid: int) -> int:
    steps, unit = _steps(value, shift, grid)
    if steps % unit:
        multiple = Decimal(grid).scaleb(-shift).normalize()
        raise GridError(f"{ticker}: expected a {what} in multiples of {multiple:f}, got {value}")
    return steps // unit * grid


def _steps(value: Decimal | str, shift: int, grid: int) -> tuple[int, int]:
    # Counts grid steps as a fraction of integers: Decimal would round at 28 digits.
    digits, exponent = exact(value)
    power = exponent + shift
    return (digits * 10**power, grid) if power >= 0 else (digits, grid * 10**-power)


# === Wire ===
# What the venue says, as it says it, as far as a bot uses it (a frame keeps the whole text):
# field names follow the indexer's, in snake case. Any field may be missing from an update and
# null in a snapshot; decimals stay text.


def _indexer_name(name: str) -> str:
    """Turn a field name into the indexer's: camel case, but 24H and 1H with a capital."""
    head, *tail = name.split("_")
    return head + "".join(part.upper() if part[0].isdigit() else part.capitalize() for part in tail)


class _Wire(msgspec.Struct, gc=False, rename=_indexer_name):
    pass


class _PriceAndSize(_Wire, kw_only=True):
    price: str
    size: str


class _BookSnapshot(_Wire, kw_only=True):
    bids: list[_PriceAndSize] = []
    asks: list[_PriceAndSize] = []


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


class TradesContents(_Wire, kw_only=True):
    """Trades, in a snapshot newest first, in an update oldest first."""

    trades: list[TradeFields]


class CandleFields(_Wire, kw_only=True):
    """One candle; the start is its identity."""

    started_at: str
    ticker: str
    resolution: str = ""
    low: str
    high: str
    open: str
    close: str
    base_token_volume: str
    usd_volume: str
    trades: int


class CandlesContents(_Wire, kw_only=True):
    """Candles, newest first."""

    candles: list[CandleFields]


class MarketFields(_Wire, kw_only=True):
    """A market's description; an update carries only the fields that changed."""

    id: str | None = None
    clob_pair_id: str | None = None
    ticker: str | None = None
    status: str | None = None
    oracle_price: str | None = None
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


class OraclePriceFields(_Wire, kw_only=True):
    """An oracle price; `price` is how older servers named it."""

    oracle_price: str | None = None
    price: str | None = None


class MarketsContents(_Wire, kw_only=True):
    """All markets (a snapshot), or what changed in some of them."""

    markets: dict[str, MarketFields] = {}
    trading: dict[str, MarketFields] = {}
    oracle_prices: dict[str, OraclePriceFields] = {}


class PositionFields(_Wire, kw_only=True):
    """A perpetual position; `size` is negative for a short."""

    market: str
    side: str
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
    asset_id: str


class OrderFields(_Wire, kw_only=True):
    """An order, or the part of it that changed: a best-effort update may carry little."""

    id: str
    client_id: str | None = None
    clob_pair_id: str | None = None
    side: Side | None = None
    size: str | None = None
    price: str | None = None
    status: str | None = None
    time_in_force: str | None = None
    reduce_only: bool | None = None
    order_flags: str | None = None
    good_til_block: str | None = None
    ticker: str | None = None
    total_filled: str | None = None
    total_optimistic_filled: str | None = None
    removal_reason: str | None = None


class FillFields(_Wire, kw_only=True):
    """A fill; `fee` is negative for a rebate. REST says `market`, the socket `ticker`."""

    id: str
    side: Side
    size: str
    price: str
    fee: str = "0"
    liquidity: str
    type: str
    order_id: str | None = None
    ticker: str | None = None
    market: str | None = None
    created_at: str


class TransferFields(_Wire, kw_only=True):
    """Collateral that came or went."""

    size: str
    symbol: str
    type: str
    created_at: str


class SubaccountFields(_Wire, kw_only=True):
    """A subaccount as the indexer sums it up (no open-interest scaling: not for margin)."""

    address: str
    subaccount_number: int
    equity: str
    free_collateral: str
    open_perpetual_positions: dict[str, PositionFields] = {}
    asset_positions: dict[str, AssetPositionFields] = {}


class SubaccountContents(_Wire, kw_only=True):
    """A subaccount snapshot (`subaccount` and `orders`), or whatever changed in it."""

    subaccount: SubaccountFields | None = None
    orders: list[OrderFields] = []
    fills: list[FillFields] = []
    perpetual_positions: list[PositionFields] = []
    asset_positions: list[AssetPositionFields] = []
    transfers: TransferFields | None = None
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


def _many(shape: Any) -> Any:
    # A type made at run time; written out, mypy would take it for an annotation.
    return types.GenericAlias(list, (shape,))


_envelope = msgspec.json.Decoder(_Envelope).decode

_CHANNELS: dict[str, Any] = {
    "v4_orderbook": BookContents,
    "v4_trades": TradesContents,
    "v4_candles": CandleFields,
    "v4_markets": MarketsContents,
    "v4_subaccounts": SubaccountContents,
    "v4_parent_subaccounts": SubaccountContents,
    "v4_block_height": HeightContents,
}
_SNAPSHOTS = {**_CHANNELS, "v4_orderbook": _BookSnapshot, "v4_candles": CandlesContents}
_TYPES: dict[str, dict[str, Any]] = {
    "subscribed": _SNAPSHOTS,
    "channel_data": _CHANNELS,
    "channel_batch_data": {channel: _many(shape) for channel, shape in _CHANNELS.items()},
}
_DECODERS: dict[tuple[str, str], Callable[[msgspec.Raw], Any]] = {
    (type_, channel): msgspec.json.Decoder(shape).decode
    for type_, shapes in _TYPES.items()
    for channel, shape in shapes.items()
}
# What decoding a text can raise; brackets that nest too deep are a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
# A message without contents is still a message; only these types may say nothing.
_CONTROL = frozenset(["connected", "unsubscribed", "error", "pong"])

MAX_TEXT: Final = 16 * 1024 * 1024


def ws_frame(seq: int, at: int, mono: int, link: str, text: str) -> Frame:
    """Make a frame of one message from the server; never fails, a bad text gets a `fault`."""
    if len(text) > MAX_TEXT:
        fault = f"expected a message of at most {MAX_TEXT} characters, got {len(text)}"
        return Frame(seq, at, mono, link, "ws", text, fault=fault)
    try:
        head = _envelope(text)
    except _UNREADABLE as error:
        fault = f"expected a JSON message of the indexer, got {_sample(text)}: {error}"
        return Frame(seq, at, mono, link, "ws", text, fault=fault)
    return Frame(
        *(seq, at, mono, link, "ws", text),
        *(head.type, head.channel, head.id or "", head.message_id, head.contents),
    )


def contents(frame: Frame) -> list[Any]:
    """Decode what a frame carries, oldest first; empty for control messages.

    The channel decides the type: `BookContents`, `TradesContents`, `CandlesContents`,
    `MarketsContents`, `SubaccountContents` or `HeightContents`. REST answers give what
    `rest_contents` gives. `WireError` says what was expected and what it was.
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
        return _as_updates(decode(frame.raw))
    except _UNREADABLE as error:
        what = f"{frame.type} contents of {frame.channel}"
        raise WireError(f"expected {what}, got {_sample(frame.text)}: {error}") from None


def _as_updates(decoded: Any) -> list[Any]:
    updates = decoded if isinstance(decoded, list) else [decoded]
    if updates and isinstance(updates[0], CandleFields):
        return [CandlesContents(candles=[candle]) for candle in updates]
    if updates and isinstance(updates[0], _BookSnapshot):
        sides = (updates[0].bids, updates[0].asks)
        bids, asks = ([(level.price, level.size) for level in side] for side in sides)
        return [BookContents(bids=bids, asks=asks)]
    return updates


def _sample(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def perpetual_market(fields: MarketFields) -> PerpetualMarket:
    """Read a market's parameters; `WireError` names those that are missing or no number."""
    missing = [name for name in _REQUIRED if getattr(fields, name) is None]
    if missing:
        raise WireError(f"expected market {fields.ticker or '?'} to state {', '.join(missing)}")
    try:
        imf_ppm, mmf_ppm = (ppm(getattr(fields, name)) for name in _REQUIRED[-2:])
        clob_pair_id = int(fields.clob_pair_id or "")
        numbers = {name: getattr(fields, name) for name in _REQUIRED[2:-2]}
        market = PerpetualMarket(
            ticker=fields.ticker or "",
            clob_pair_id=clob_pair_id,
            # Only updates name the perpetual; on every network so far it is the pair's number.
            perpetual_id=int(fields.id or clob_pair_id),
            imf_ppm=imf_ppm,
            # The indexer publishes the product; the chain keeps the factor.
            maintenance_fraction_ppm=round(mmf_ppm * 1_000_000 / imf_ppm),
            # Caps come in USDC, and the chain counts quote quantums.
            open_interest_lower_cap=int(_number(fields.open_interest_lower_cap or "0").scaleb(6)),
            open_interest_upper_cap=int(_number(fields.open_interest_upper_cap or "0").scaleb(6)),
            market_type=fields.market_type or "CROSS",
            **numbers,
        )
    except (ValueError, ZeroDivisionError, GridError) as error:
        raise WireError(f"expected market {fields.ticker} to state numbers: {error}") from None
    # Powers of ten: an absurd one would not end in an error, but not end.
    for name in ("atomic_resolution", "quantum_conversion_exponent"):
        if abs(getattr(market, name)) > 40:
            raise WireError(f"expected market {fields.ticker} to state a sensible {name}: {market}")
    if min(market.imf_ppm, market.step_base_quantums, market.subticks_per_tick) <= 0:
        raise WireError(f"expected market {fields.ticker} to state positive numbers: {market}")
    return market


_REQUIRED = (
    *("ticker", "clob_pair_id", "atomic_resolution", "quantum_conversion_exponent"),
    *("step_base_quantums", "subticks_per_tick"),
    *("initial_margin_fraction", "maintenance_margin_fraction"),
)


# === REST ===
# An answer's path decides its type, as a message's channel does on the socket.


def _answer(**fields: Any) -> Any:
    name = f"{next(iter(fields)).title().replace('_', '')}Contents"
    return msgspec.defstruct(name, list(fields.items()), bases=(_Wire,), kw_only=True)


def _texts(*names: str) -> Any:
    return _answer(**dict.fromkeys(names, str))


ErrorsContents = _answer(errors=_many(_texts("msg")))

_REST_SHAPES: dict[str, Any] = {
    r"/v4/perpetualMarkets": MarketsContents,
    r"/v4/orderbooks/perpetualMarket/[^/]+": _BookSnapshot,
    r"/v4/trades/perpetualMarket/[^/]+": TradesContents,
    r"/v4/candles/perpetualMarkets/[^/]+": CandlesContents,
    r"/v4/historicalFunding/[^/]+": _answer(
        historical_funding=_many(_texts("ticker", "rate", "price", "effective_at"))
    ),
    r"/v4/sparklines": dict[str, list[str]],
    r"/v4/time": _answer(iso=str, epoch=float),
    r"/v4/height": HeightContents,
    r"/v4/addresses/[^/]+": _answer(subaccounts=list[SubaccountFields]),
    r"/v4/addresses/[^/]+/subaccountNumber/\d+": SubaccountContents,
    r"/v4/perpetualPositions": _answer(positions=list[PositionFields]),
    r"/v4/assetPositions": _answer(positions=list[AssetPositionFields]),
    r"/v4/orders": list[OrderFields],
    r"/v4/orders/[^/]+": OrderFields,
    r"/v4/fills": _answer(fills=list[FillFields]),
    r"/v4/transfers": _answer(transfers=list[TransferFields]),
    r"/v4/historical-pnl": _answer(
        historical_pnl=_many(_texts("equity", "total_pnl", "net_transfers", "created_at"))
    ),
}
_REST_DECODERS = [
    (re.compile(path), msgspec.json.Decoder(shape).decode) for path, shape in _REST_SHAPES.items()
]
_decode_errors = msgspec.json.Decoder(ErrorsContents).decode


def rest_contents(path: str, body: str) -> Any:
    """Decode a REST answer by the path that was asked for (a query is ignored).

    A book comes as `BookContents`, a refusal as `ErrorsContents`; `WireError` if the path is
    unknown or the body is not what it should answer.
    """
    route = path.partition("?")[0]
    decode = next((decode for shape, decode in _REST_DECODERS if shape.fullmatch(route)), None)
    if decode is None:
        raise WireError(f"expected the path of an indexer endpoint, got {path!r}")
    with contextlib.suppress(*_UNREADABLE):
        return _decode_errors(body)
    try:
        decoded = decode(body)
    except _UNREADABLE as error:
        raise WireError(f"expected the answer of {route}, got {_sample(body)}: {error}") from None
    return _as_updates(decoded)[0] if isinstance(decoded, _BookSnapshot) else decoded


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


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
    k: str
    i: int = 0
    c: str = ""
    ns: int = 0
    mono: int = 0
    ens: int = 0
    d: str = ""
    x: str = ""
    u: str = ""
    st: int = 0
    b: str = ""
    code: int = 0
    reason: str = ""
    n: int = 0
    why: str = ""
    sha256: str = ""


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_header = msgspec.json.Decoder(Header).decode


class RecordingWriter:
    """Append events to a recording so that whatever is killed, what was closed stays readable.

    The clock is the caller's: every event brings its `ns` (UTC) and `mono`. `close` writes the
    `end` line that marks a complete recording; `contextlib.closing` calls it for you.
    """

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
        fields: dict[str, Any] = {"c": frame.link}
        if frame.kind in ("ws", "sent"):
            fields |= {"d": "<" if frame.kind == "ws" else ">", "x": frame.text}
        for letter, name in _LETTERS.get(frame.kind, {}).items():
            value = getattr(frame, name)
            fields[letter] = int(value) if name == "type" else value
        kind = "ws" if frame.kind == "sent" else frame.kind
        return self.write(kind, ns=frame.at, mono=frame.mono, **fields)

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
    "http": {"b": "text", "st": "type", "u": "channel"},
    "open": {"u": "text"},
    "close": {"reason": "text", "code": "type"},
    "gap": {"why": "text", "n": "message_id"},
    "tick": {},
}


class Recording:
    """A recording on disk: iterate it for its frames, as often as you like.

    `RecordingError` on opening if it is missing, empty, no recording, or of a newer version.
    Damage inside is no error: a gap frame stands where lines were lost, `damage` lists each
    place, and `complete` tells, after iterating, whether the end was written and its sum holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.complete = False
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame in order; damage and the sum are judged on the way."""
        self.damage = []
        self.complete = False
        sha256, seq, at, mono = hashlib.sha256(), 0, self.header.ns, 0
        for text in self._lines():
            line = self._line(text)
            if line is None:
                yield Frame(seq, at, mono, "", "gap", self.damage[-1])
                continue
            if line.k == "end":
                self.complete = line.sha256 == sha256.hexdigest() and not self.damage
                continue
            sha256.update(text)  # type: ignore[arg-type]
            seq, at, mono = line.i or seq, line.ens or line.ns or at, line.mono or mono
            frame = _frame(line, at)
            if frame is not None:
                yield frame
        if not self.complete and not self.damage:
            self.damage.append("the end line is missing or its sum is wrong: it was cut off")

    def _line(self, text: bytes | str) -> _Line | None:
        if isinstance(text, str):
            self.damage.append(text)
            return None
        try:
            return _decode_line(text)
        except _UNREADABLE as error:
            self.damage.append(f"expected a recorded event, got {text[:60]!r}: {error}")
            return None

    def _read_header(self) -> Header:
        if not self.path.is_file():
            raise RecordingError(f"expected a recording at {self.path}, found no such file")
        if self.path.stat().st_size == 0:
            raise RecordingError(f"expected a recording at {self.path}, the file is empty")
        first = next(self._lines(), "nothing")
        try:
            header = _decode_header(first)
        except _UNREADABLE as error:
            what = f"expected {self.path} to begin with a recording's header"
            raise RecordingError(f"{what}, found {first[:80]!r}: {error}") from None
        if header.v > VERSION:
            raise RecordingError(
                f"expected {self.path} to be of format version {VERSION} or older, "
                f"it is {header.v}: a newer release of this program wrote it"
            )
        return header

    def _lines(self) -> Iterator[bytes | str]:
        """Yield each line, or a sentence in place of those that cannot be read."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            position = data.find(_ZSTD_MAGIC)
            if position != 0:
                yield f"expected a zstd frame at the start, got {data[:8]!r}"
            while position != -1:
                block, end = _unpack(data, position)
                if block is None:
                    # Whole again at the next frame; the magic number marks it.
                    end = data.find(_ZSTD_MAGIC, position + 4)
                    where = "the end" if end == -1 else f"byte {end}"
                    yield f"bytes {position} to {where} are damaged: their lines are lost"
                    position = end
                    continue
                yield from block.splitlines(keepends=True)
                position = data.find(_ZSTD_MAGIC, end)
                if end < len(data) and position != end:
                    yield f"bytes {end} to {position} belong to no block: lines may be lost"


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


def _frame(line: _Line, at: int) -> Frame | None:
    if line.k == "ws" and line.d == "<":
        return ws_frame(line.i, at, line.mono, line.c, line.x)
    if line.k == "ws":
        return Frame(line.i, at, line.mono, line.c, "sent", line.x)
    if line.k not in _LETTERS:
        return None
    parts = {name: getattr(line, letter) for letter, name in _LETTERS[line.k].items()}
    if "type" in parts:
        parts["type"] = str(parts["type"])
    if "channel" in parts:
        # Answers are told apart by what was asked, not by which host was asked.
        parts["channel"] = re.sub(r"^\w+://[^/]+", "", parts["channel"])
    return Frame(line.i, at, line.mono, line.c, line.k, **parts)


def find_recording(name: str) -> Path:
    """Return the path of a bundled recording by name, or of any recording by path.

    A name is looked for in `recordings/` of the working directory and its parents, then in
    those of this file. `RecordingError` lists what is there instead.
    """
    if name.endswith(".zst") or "/" in name:
        return Path(name)
    starts = (Path.cwd(), Path(__file__).resolve().parent)
    folders = [folder / "recordings" for start in starts for folder in (start, *start.parents)]
    for folder in folders:
        if (folder / f"{name}.jsonl.zst").is_file():
            return folder / f"{name}.jsonl.zst"
    found = {path.name.split(".")[0] for f in folders for path in f.glob("*.jsonl.zst")}
    known = ", ".join(sorted(found)) or "none found"
    raise RecordingError(f"expected the path of a recording or one of: {known}; got {name!r}")


# === Streams ===


def fold(
    start: Callable[[], _S], step: Callable[[_S, _A], Iterable[_B]]
) -> Callable[[Observable[_A]], Observable[_B]]:
    """Fold events into a state of one's own and emit what each step puts out, in order.

    Hot or cold as the source is; completes and errors with it; runs on its thread. An
    exception in `step` is a bug and ends the stream with it.

        source  --a-----b----|
        fold    --x-y---z----|
    """

    def operator(source: Observable[_A]) -> Observable[_B]:
        def subscribe(
            observer: abc.ObserverBase[_B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            # Made here and not outside: two subscribers must not share a state.
            state = start()
            emit = observer.on_next

            def on_next(event: _A) -> None:
                try:
                    for output in step(state, event):
                        emit(output)
                except Exception as error:  # noqa: BLE001 - Rx's contract: operators hand errors on
                    observer.on_error(error)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


Pacer = Callable[[Frame], bool]


def replay(
    recording: "str | Path | Recording",
    *,
    speed: float | None = None,
    scheduler: VirtualTimeScheduler | None = None,
    pace: Pacer | None = None,
) -> Observable[Frame]:
    """Play a recording (a name, a path, an open one): at once, or `speed` times real time.

    Cold: each subscriber plays it from the start, on its own thread, inside `subscribe`.
    Completes at the recording's end; errors with `RecordingError` if it cannot be read. A
    virtual `scheduler` is advanced to each frame before it is emitted (seconds since the
    first), so that timed operators wait in the recording's time. `pace` sees each frame first:
    it may wait, and ends the replay by returning False.

        replay  --f-f---f|
    """
    if speed is not None:
        at_speed(speed)  # refused here, rather than by whoever subscribes

    def frames() -> Generator[Frame]:
        path = find_recording(recording) if isinstance(recording, str) else recording
        yield from path if isinstance(path, Recording) else Recording(path)

    def pacer() -> Pacer:
        wait = pace or (at_speed(speed) if speed is not None else _at_once)
        return wait if scheduler is None else _advancing(scheduler, wait)

    return _frames(frames, pacer)


def load_recorded_stream(name: str) -> Observable[Frame]:
    """Return a bundled recording as a cold stream of frames, as fast as it can be read."""
    return replay(name)


def collect(source: Observable[_A]) -> list[_A]:
    """Subscribe, and return what was emitted; raises what the stream errors with.

    For sources that end within `subscribe`, as a replay does.
    """
    values: list[_A] = []
    errors: list[Exception] = []
    source.subscribe(values.append, errors.append)
    if errors:
        raise errors[0]
    return values


def _at_once(_: Frame) -> bool:
    return True


def _advancing(scheduler: VirtualTimeScheduler, pace: Pacer) -> Pacer:
    start: list[tuple[float, int]] = []

    def advance(frame: Frame) -> bool:
        if not pace(frame):
            return False
        now = scheduler.to_seconds(scheduler.now)
        if not start:
            start.append((now, frame.mono))
        # advance_to, never start(): that deadlocks or drifts on equal instants.
        scheduler.advance_to(max(start[0][0] + (frame.mono - start[0][1]) / 1e9, now))
        return True

    return advance


def _frames(
    source: Callable[[], Generator[Frame]], pacer: Callable[[], Pacer]
) -> Observable[Frame]:
    def subscribe(
        observer: abc.ObserverBase[Frame], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        stopped = BooleanDisposable()

        def run(*_: object) -> None:
            pace = pacer()
            # Closed even if an observer raises: live ends its threads there.
            with contextlib.closing(source()) as frames:
                try:
                    for frame in frames:
                        if not pace(frame):
                            break
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
# The only place that opens sockets, starts threads, sleeps or reads a clock.


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where a venue answers: REST, socket and node, and the chain it must say it is."""

    name: str
    rest: str
    ws: str
    node: str
    chain_id: str


def _public(name: str, indexer: str, node: str, chain_id: str) -> Network:
    ws = f"wss://{indexer}/v4/ws"
    return Network(name=name, rest=f"https://{indexer}", ws=ws, node=node, chain_id=chain_id)


_TESTNET = ("indexer.v4testnet.dydx.exchange", "test-dydx-grpc.kingnodes.com:443", "dydx-testnet-4")
_MAINNET = ("indexer.dydx.trade", "dydx-ops-grpc.kingnodes.com:443", "dydx-mainnet-1")
NETWORKS: Final[Mapping[str, Network]] = {
    "mainnet": _public("mainnet", *_MAINNET),
    "testnet": _public("testnet", *_TESTNET),
    "local": Network(
        name="local",
        rest="http://127.0.0.1:3002",
        ws="ws://127.0.0.1:3003/v4/ws",
        node="127.0.0.1:9090",
        chain_id="localdydxprotocol",
    ),
}

# What one connection may hold of one channel (socks, per-connection limits).
PER_CONNECTION: Final = 32


def network(name: str) -> Network:
    """Return a network by name; `NetworkError` lists the names."""
    if name not in NETWORKS:
        raise NetworkError(f"expected one of {', '.join(NETWORKS)}; got network {name!r}")
    return NETWORKS[name]


def at_speed(speed: float) -> Pacer:
    """Return a pacer that plays frames `speed` times as fast as they came."""
    if not speed > 0:
        raise ConnError(f"expected a speed above 0, got {speed}")
    start: list[tuple[int, int]] = []

    def pace(frame: Frame) -> bool:
        now = time.monotonic_ns()
        if not start:
            start.append((frame.mono, now))
        due = start[0][1] + (frame.mono - start[0][0]) / speed
        if due > now:
            time.sleep((due - now) / 1e9)
        return True

    return pace


def live(
    network: Network,
    tickers: Iterable[str],
    *,
    subaccount: Subaccount | None = None,
    pace: Pacer | None = None,
) -> Observable[Frame]:
    """Receive a network's frames: markets, block height, and each ticker's book and trades.

    Cold: each subscriber opens connections of its own (share it), and receives on its own
    thread, inside `subscribe`, until `pace` says False or it is disposed. A lost connection is
    a close frame, and is opened anew with back-off; no error ends the stream. A tick frame
    passes every second, so that silence is seen.

        live  --open-ws-ws-tick-close----open-ws-
    """
    wanted = list(tickers)
    return _frames(lambda: _receive(network, wanted, subaccount), lambda: pace or _at_once)


_TICK_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_TIMEOUT_S: Final = 10.0


def _receive(
    network: Network, tickers: list[str], subaccount: Subaccount | None
) -> Generator[Frame]:
    """Yield frames until closed; the one place where other threads' texts cross over."""
    inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    groups = [tickers[i : i + PER_CONNECTION] for i in range(0, len(tickers), PER_CONNECTION)]
    links = [
        _Link(network, f"c{n}", _subscriptions(group, n == 1, subaccount), inbox)
        for n, group in enumerate(groups or [[]], 1)
    ]
    rest = threading.Thread(target=_fetch_markets, args=(network, inbox), daemon=True)
    rest.start()
    for link in links:
        link.start()
    tick_due, seq = time.monotonic() + _TICK_S, 0
    try:
        while True:
            with contextlib.suppress(queue.Empty):
                event = inbox.get(timeout=max(tick_due - time.monotonic(), 0.0))
                seq += 1
                yield event(seq)
            if time.monotonic() >= tick_due:
                tick_due += _TICK_S
                seq += 1
                yield _stamped(kind="tick", link="clock")(seq)
    finally:
        for link in links:
            link.leave()
        for link in links:
            link.end()


_Event = Callable[[int], Frame]


def _stamped(*, kind: str, link: str, text: str = "", type: str = "", channel: str = "") -> _Event:
    # Stamped where it was received, numbered where it is put in order.
    at, mono = time.time_ns(), time.monotonic_ns()
    if kind == "ws":
        return lambda seq: ws_frame(seq, at, mono, link, text)
    return lambda seq: Frame(
        seq=seq, at=at, mono=mono, link=link, kind=kind, text=text, type=type, channel=channel
    )


def _fetch_markets(network: Network, inbox: "queue.SimpleQueue[_Event]") -> None:
    """Ask for the markets once; the socket's own snapshot repeats them."""
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    client = IndexerClient(network.rest, api_timeout=_TIMEOUT_S)
    path = "/v4/perpetualMarkets"

    # The client parses an answer and drops its text; frames keep the text.
    async def get(request_path: str, params: Mapping[str, Any] | None = None) -> Any:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
            answer = await http.get(network.rest + request_path)
        status = str(answer.status_code)
        inbox.put(_stamped(kind="http", link="rest", text=answer.text, type=status, channel=path))
        answer.raise_for_status()
        return answer.json()

    client.markets.get = get
    try:
        asyncio.run(client.markets.get_perpetual_markets())
    except (httpx.HTTPError, ValueError) as error:
        why = f"{path} was not answered: {type(error).__name__}: {error}"
        inbox.put(_stamped(kind="gap", link="rest", text=why))


def _subscriptions(
    tickers: list[str], first: bool, subaccount: Subaccount | None
) -> Callable[[Any], None]:
    """Return what a connection asks for once it is open; the first asks for what is shared."""

    def subscribe(app: Any) -> None:
        if first:
            app.markets.subscribe()
            app.send('{"type":"subscribe","channel":"v4_block_height"}')
        for ticker in tickers:
            app.order_book.subscribe(ticker)
            app.trades.subscribe(ticker)
        if first and subaccount is not None:
            app.subaccounts.subscribe(subaccount.owner, subaccount.number)

    return subscribe


class _Link(threading.Thread):
    """One connection, kept open: subscribe, listen, and after a loss try again."""

    def __init__(
        self,
        network: Network,
        name: str,
        subscribe: Callable[[Any], None],
        inbox: "queue.SimpleQueue[_Event]",
    ) -> None:
        super().__init__(name=f"dydx {name}", daemon=True)
        self._network = network
        self._link = name
        self._subscribe = subscribe
        self._inbox = inbox
        self._stopping = threading.Event()
        self._app: Any = None
        self._opened: Any = None
        self._failures = 0
        self._closed = (0, "")

    def run(self) -> None:
        while not self._stopping.is_set():
            self._closed, opened = (0, ""), time.monotonic()
            self._listen()
            code, reason = self._closed
            self._put("close", reason, str(code))
            # A venue that greets and drops us is as gone as one that does not answer.
            if time.monotonic() - opened > _BACKOFF_S[-1]:
                self._failures = 0
            wait = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self._failures += 1
            # Jitter, or every bot of a restarted venue comes back in the same instant.
            self._stopping.wait(wait * random.uniform(0.5, 1.0))

    def leave(self) -> None:
        """Let the thread say goodbye and end."""
        self._stopping.set()
        self._wake(socket.SHUT_RD)

    def end(self) -> None:
        """Wait a second for the goodbye, then hang up."""
        self.join(timeout=1.0)
        if self.is_alive():
            self._wake(socket.SHUT_RDWR)
            self.join(timeout=1.0)

    def _wake(self, how: int) -> None:
        # Not the client's close(): that reads the venue's answer away from our thread, which
        # waits for it. Nor SSLSocket's shutdown: that would say goodbye in plain text.
        # There is nothing to wake before it is connected, nor after it is lost.
        with contextlib.suppress(AttributeError, TypeError, OSError):
            self._app.keep_running = False
            socket.socket.shutdown(self._opened.sock, how)

    def _listen(self) -> None:
        import websocket
        from dydx_v4_client.indexer.socket.websocket import IndexerSocket

        # Or a host that takes the connection and says nothing would be waited for in silence.
        websocket.setdefaulttimeout(_TIMEOUT_S)
        app = IndexerSocket(
            self._network.ws,
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
        self._put("open", self._network.ws)
        send = app.send

        # What we ask is a frame too: it tells a snapshot that is late from one that is lost.
        def said(text: str) -> None:
            self._put("sent", text)
            send(text)

        app.send = said
        self._subscribe(app)

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

    def _put(self, kind: str, text: str, type: str = "") -> None:
        self._inbox.put(_stamped(kind=kind, link=self._link, text=text, type=type))
