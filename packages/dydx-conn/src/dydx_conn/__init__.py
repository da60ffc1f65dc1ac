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

import contextlib
import datetime
import hashlib
import mmap
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self, TypeVar

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


class Frame(msgspec.Struct, frozen=True, gc=False, kw_only=True):
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
    text: str
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
        steps = int(_number(size).scaleb(-self.atomic_resolution) / self.step_base_quantums)
        return steps * self.step_base_quantums

    def floor_subticks(self, price: Decimal | str) -> int:
        """Round a price down to the tick."""
        ticks = int(_number(price).scaleb(self._price_shift) // self.subticks_per_tick)
        return ticks * self.subticks_per_tick

    def ceil_subticks(self, price: Decimal | str) -> int:
        """Round a price up to the tick."""
        ticks = -int(-_number(price).scaleb(self._price_shift) // self.subticks_per_tick)
        return ticks * self.subticks_per_tick

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


def exact(text: str) -> tuple[int, int]:
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
        raise GridError(f"expected a decimal number, got {text!r}") from None
    if not number.is_finite():
        raise GridError(f"expected a finite number, got {text!r}")
    return number


def _on_grid(ticker: str, what: str, value: Decimal | str, shift: int, grid: int) -> int:
    scaled = _number(value).scaleb(shift)
    if scaled % grid:
        unit = Decimal(grid).scaleb(-shift)
        raise GridError(f"{ticker}: expected a {what} in multiples of {unit:f}, got {value}")
    return int(scaled)


# === Wire ===
# What the venue says, as it says it: field names follow the indexer's, in snake case. Any
# field may be missing from an update and null in a snapshot; decimals stay text.


def _indexer_name(name: str) -> str:
    """Turn a field name into the indexer's: camel case, but 24H and 1H with a capital."""
    head, *tail = name.split("_")
    return head + "".join(part.upper() if part[0].isdigit() else part.capitalize() for part in tail)


class _Wire(msgspec.Struct, gc=False, rename=_indexer_name):
    pass


class Level(_Wire, kw_only=True):
    """One price of a book snapshot."""

    price: str
    size: str


class _BookSnapshot(_Wire, kw_only=True):
    bids: list[Level] = []
    asks: list[Level] = []


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
    created_at_height: str = ""


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
    starting_open_interest: str = "0"
    orderbook_mid_price_open: str | None = None
    orderbook_mid_price_close: str | None = None


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
    price_change_24h: str | None = None
    volume_24h: str | None = None
    trades_24h: int | None = None
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
    default_funding_rate_1h: str | None = None


class OraclePriceFields(_Wire, kw_only=True):
    """An oracle price; `price` is how older servers named it."""

    oracle_price: str | None = None
    price: str | None = None
    effective_at: str | None = None
    effective_at_height: str | None = None


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
    max_size: str = "0"
    entry_price: str = "0"
    exit_price: str | None = None
    realized_pnl: str | None = None
    unrealized_pnl: str | None = None
    net_funding: str = "0"
    sum_open: str = "0"
    sum_close: str = "0"
    created_at: str | None = None
    created_at_height: str | None = None
    closed_at: str | None = None
    subaccount_number: int | None = None


class AssetPositionFields(_Wire, kw_only=True):
    """A balance of an asset, on the venue always USDC; `side` SHORT means owed."""

    symbol: str
    side: str
    size: str
    asset_id: str
    subaccount_number: int | None = None


class OrderFields(_Wire, kw_only=True):
    """An order, or the part of it that changed: a best-effort update may carry little."""

    id: str
    subaccount_id: str | None = None
    client_id: str | None = None
    clob_pair_id: str | None = None
    side: Side | None = None
    size: str | None = None
    price: str | None = None
    status: str | None = None
    type: str | None = None
    time_in_force: str | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    order_flags: str | None = None
    good_til_block: str | None = None
    good_til_block_time: str | None = None
    ticker: str | None = None
    total_filled: str | None = None
    total_optimistic_filled: str | None = None
    trigger_price: str | None = None
    removal_reason: str | None = None
    client_metadata: str | None = None
    created_at_height: str | None = None
    updated_at: str | None = None
    updated_at_height: str | None = None
    subaccount_number: int | None = None


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
    clob_pair_id: str | None = None
    quote_amount: str | None = None
    client_metadata: str | None = None
    created_at: str
    created_at_height: str = ""
    subaccount_id: str | None = None


class TransferParty(_Wire, kw_only=True):
    """An end of a transfer: a wallet, or a subaccount of one."""

    address: str
    subaccount_number: int | None = None


class TransferFields(_Wire, kw_only=True):
    """Collateral that came or went."""

    sender: TransferParty
    recipient: TransferParty
    size: str
    symbol: str
    type: str
    created_at: str
    created_at_height: str = ""
    transaction_hash: str = ""
    id: str = ""


class SubaccountFields(_Wire, kw_only=True):
    """A subaccount as the indexer sums it up (no open-interest scaling: not for margin)."""

    address: str
    subaccount_number: int
    equity: str
    free_collateral: str
    open_perpetual_positions: dict[str, PositionFields] = {}
    asset_positions: dict[str, AssetPositionFields] = {}
    margin_enabled: bool = True
    updated_at_height: str = ""
    latest_processed_block_height: str = ""


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


Contents = (
    BookContents
    | TradesContents
    | CandlesContents
    | MarketsContents
    | SubaccountContents
    | HeightContents
)


class _Envelope(msgspec.Struct, gc=False):
    type: str
    connection_id: str = ""
    message_id: int = 0
    channel: str = ""
    id: str | None = None
    contents: msgspec.Raw = msgspec.Raw(b"")
    message: str = ""


_envelope: Callable[[str], _Envelope] = msgspec.json.Decoder(_Envelope).decode

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
_TYPES = {
    "subscribed": _SNAPSHOTS,
    "channel_data": _CHANNELS,
    "channel_batch_data": {channel: list[shape] for channel, shape in _CHANNELS.items()},
}
_DECODERS: dict[tuple[str, str], Callable[[msgspec.Raw], Any]] = {
    (type_, channel): msgspec.json.Decoder(shape).decode
    for type_, shapes in _TYPES.items()
    for channel, shape in shapes.items()
}
# A message without contents is still a message; only these types may say nothing.
_CONTROL = frozenset(["connected", "unsubscribed", "error", "pong"])

MAX_TEXT: Final = 16 * 1024 * 1024


def ws_frame(seq: int, at: int, mono: int, link: str, text: str) -> Frame:
    """Make a frame of one message from the server; never fails, a bad text gets a `fault`."""
    if len(text) > MAX_TEXT:
        fault = f"expected a message of at most {MAX_TEXT} characters, got {len(text)}"
        return Frame(seq=seq, at=at, mono=mono, link=link, kind="ws", text=text, fault=fault)
    try:
        envelope = _envelope(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        fault = f"expected a JSON message of the indexer, got {_sample(text)}: {error}"
        return Frame(seq=seq, at=at, mono=mono, link=link, kind="ws", text=text, fault=fault)
    return Frame(
        seq=seq,
        at=at,
        mono=mono,
        link=link,
        kind="ws",
        text=text,
        type=envelope.type,
        channel=envelope.channel,
        id=envelope.id or "",
        message_id=envelope.message_id,
        raw=envelope.contents,
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
        raise WireError(
            f"expected a known message, got type {frame.type!r} on channel {frame.channel!r}"
        )
    try:
        decoded = decode(frame.raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(
            f"expected {frame.type} contents of {frame.channel}, "
            f"got {_sample(frame.text)}: {error}"
        ) from None
    return _as_updates(frame.type, decoded)


def _as_updates(type_: str, decoded: Any) -> list[Any]:
    updates = decoded if type_ == "channel_batch_data" else [decoded]
    if isinstance(decoded, _BookSnapshot):
        return [
            BookContents(
                bids=[(level.price, level.size) for level in decoded.bids],
                asks=[(level.price, level.size) for level in decoded.asks],
            )
        ]
    if updates and isinstance(updates[0], CandleFields):
        return [CandlesContents(candles=[candle]) for candle in updates]
    return list(updates)


def _sample(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def perpetual_market(fields: MarketFields) -> PerpetualMarket:
    """Read a market's parameters; `WireError` names those that are missing or no number."""
    missing = [name for name in _REQUIRED if getattr(fields, name) is None]
    if missing:
        raise WireError(f"expected market {fields.ticker or '?'} to state {', '.join(missing)}")
    try:
        return _perpetual_market(fields)
    except (ValueError, GridError) as error:
        raise WireError(f"expected market {fields.ticker} to state numbers: {error}") from None


_REQUIRED = (
    "ticker",
    "clob_pair_id",
    "atomic_resolution",
    "quantum_conversion_exponent",
    "step_base_quantums",
    "subticks_per_tick",
    "initial_margin_fraction",
    "maintenance_margin_fraction",
)


def _perpetual_market(fields: MarketFields) -> PerpetualMarket:
    imf_ppm = ppm(fields.initial_margin_fraction or "")
    if imf_ppm <= 0:
        raise ValueError(f"initialMarginFraction is {fields.initial_margin_fraction}")
    mmf_ppm = ppm(fields.maintenance_margin_fraction or "")
    step, tick = fields.step_base_quantums or 0, fields.subticks_per_tick or 0
    if step <= 0 or tick <= 0:
        raise ValueError(f"stepBaseQuantums is {step} and subticksPerTick {tick}")
    clob_pair_id = int(fields.clob_pair_id or "")
    return PerpetualMarket(
        ticker=fields.ticker or "",
        clob_pair_id=clob_pair_id,
        # Only updates name the perpetual; on every network so far it is the clob pair's number.
        perpetual_id=int(fields.id) if fields.id else clob_pair_id,
        atomic_resolution=fields.atomic_resolution or 0,
        quantum_conversion_exponent=fields.quantum_conversion_exponent or 0,
        step_base_quantums=step,
        subticks_per_tick=tick,
        imf_ppm=imf_ppm,
        # The indexer publishes the product; the chain keeps the factor.
        maintenance_fraction_ppm=round(mmf_ppm * 1_000_000 / imf_ppm),
        open_interest_lower_cap=_cap(fields.open_interest_lower_cap),
        open_interest_upper_cap=_cap(fields.open_interest_upper_cap),
        market_type=fields.market_type or "CROSS",
    )


def _cap(text: str | None) -> int:
    # Caps come in USDC, and the chain counts quote quantums.
    return int(_number(text).scaleb(6)) if text else 0


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
                except Exception as error:  # Rx's contract: an operator hands errors on
                    observer.on_error(error)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator
