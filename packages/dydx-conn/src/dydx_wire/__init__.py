"""What crosses the wire of dYdX v4: every text becomes one frame, and keeps its words.

    text ──► Frame ──► contents (typed, decoded once)
    recording ── replay ──► Frame ── fold ──► whatever a layer makes of it

`Frame` is the only source of truth for the layers above; `contents` decodes what it carries,
`rest_contents` and `node_contents` an answer by what was asked. `perpetual_market` reads a
market's grid. `RecordingWriter` and `Recording` hold the file format, `replay` plays it, and
`fold` is the operator that each layer above is built from.

Units: `at` and `mono` are nanoseconds; amounts, prices and rates stay the venue's decimal text.
Nothing here opens a socket or starts a thread; only a replay at a speed reads a clock.
Sources: comlink and socks (v4-chain/indexer), lib/quantums.go and x/clob/types (protocol).
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    "MAX_TEXT", "VERSION", "AssetPositionFields", "BookContents", "CandleFields",
    "CandlesContents", "ComplianceFields", "ErrorFields", "ErrorsContents", "FillFields",
    "Frame", "FundingFields", "FundingPaymentFields", "Header", "HeightContents",
    "MarketFields", "MarketsContents", "OrderFields", "Pacer", "PartyFields", "PnlFields",
    "PositionFields", "Recording", "RecordingError", "RecordingWriter", "RewardFields",
    "ScreenFields", "Sparklines", "SubaccountContents", "SubaccountFields", "TimeFields",
    "TradeFields", "TradeHistoryFields", "TradesContents", "TransferFields", "WireError",
    "collect", "contents", "find_recording", "fold", "from_generator", "load_recorded_stream",
    "node_contents", "perpetual_market", "replay", "rest_contents", "ws_frame",
]
# fmt: on

import contextlib
import hashlib
import mmap
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec
import zstandard
from dydx_chain import ConnError, GridError, PerpetualMarket, Side, number, ppm
from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase
from reactivex.disposable import BooleanDisposable
from reactivex.scheduler import CurrentThreadScheduler, VirtualTimeScheduler

_A = TypeVar("_A")
_B = TypeVar("_B")
_S = TypeVar("_S")

# === Errors ===


class WireError(ConnError):
    """A text that is not what the venue documents: skip it, count it, go on."""


class RecordingError(ConnError):
    """A recording that cannot be read at all: choose another file."""


# === Values ===


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


class _Page(_Wire, kw_only=True):
    # Where an answer stands in a list that was asked for by pages; absent without `page`.
    page_size: int | None = None
    total_results: int | None = None
    offset: int | None = None


def _page(**fields: Any) -> Any:
    return msgspec.defstruct("Page", list(fields.items()), bases=(_Page,), kw_only=True)


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
    starting_open_interest: str | None = None
    orderbook_mid_price_open: str | None = None
    orderbook_mid_price_close: str | None = None


# Newest first in a snapshot, oldest first in an update.
TradesContents = _page(trades=list[TradeFields])
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
    price_change_24h: str | None = msgspec.field(default=None, name="priceChange24H")
    volume_24h: str | None = msgspec.field(default=None, name="volume24H")
    trades_24h: int | None = msgspec.field(default=None, name="trades24H")
    default_funding_rate_1h: str | None = msgspec.field(default=None, name="defaultFundingRate1H")


class MarketsContents(_Wire, kw_only=True):
    """All markets (a snapshot), or what changed in some of them."""

    markets: dict[str, MarketFields] = {}
    trading: dict[str, MarketFields] = {}
    oracle_prices: dict[str, MarketFields] = {}


class PositionFields(_Wire, kw_only=True):
    """A perpetual position; `size` is negative for a short, sums and `max_size` as the venue has.

    `net_funding` is what was received; an update carries no times.
    """

    market: str
    status: str
    size: str
    side: str = ""
    entry_price: str = "0"
    exit_price: str | None = None
    realized_pnl: str | None = None
    unrealized_pnl: str | None = None
    net_funding: str = "0"
    max_size: str | None = None
    sum_open: str | None = None
    sum_close: str | None = None
    created_at: str | None = None
    created_at_height: str | None = None
    closed_at: str | None = None
    position_id: str | None = None
    subaccount_number: int | None = None


class AssetPositionFields(_Wire, kw_only=True):
    """A balance of an asset, on the venue always USDC; `side` SHORT means owed."""

    symbol: str
    side: str
    size: str
    asset_id: str = "0"
    subaccount_number: int | None = None


class OrderFields(_Wire, kw_only=True):
    """An order, or the part of it that changed: a best-effort update may carry little.

    Of the two ends one is null: `good_til_block` for a short-term order, a time in ISO text for
    the others. Post-only is a flag of its own, beside a `time_in_force` of GTT. `duration` and
    `interval` (seconds) and `price_tolerance` (ppm) are a TWAP's; numbers come as text.
    """

    id: str
    subaccount_id: str | None = None
    subaccount_number: int | None = None
    client_id: str | None = None
    clob_pair_id: str | None = None
    ticker: str | None = None
    side: Side | None = None
    size: str | None = None
    price: str | None = None
    type: str | None = None
    status: str | None = None
    time_in_force: str | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    order_flags: str | None = None
    good_til_block: str | None = None
    good_til_block_time: str | None = None
    trigger_price: str | None = None
    client_metadata: str | None = None
    total_filled: str | None = None
    total_optimistic_filled: str | None = None
    removal_reason: str | None = None
    created_at: str | None = None
    created_at_height: str | None = None
    updated_at: str | None = None
    updated_at_height: str | None = None
    duration: str | None = None
    interval: str | None = None
    price_tolerance: str | None = None
    builder_address: str | None = None
    fee_ppm: str | None = None


class FillFields(TradeFields, kw_only=True):
    """Our side of a trade; `fee` is negative for a rebate. REST says `market` for `ticker`.

    What the position was before is told by REST alone, what the socket alone tells is the quote
    amount and the transaction.
    """

    fee: str = "0"
    liquidity: str
    order_id: str | None = None
    ticker: str | None = None
    market: str | None = None
    created_at_height: str | None = None
    client_metadata: str | None = None
    clob_pair_id: str | None = None
    subaccount_number: int | None = None
    builder_fee: str | None = None
    affiliate_rev_share: str | None = None
    quote_amount: str | None = None
    transaction_hash: str | None = None
    position_size_before: str | None = None
    position_side_before: str | None = None
    entry_price_before: str | None = None


class PartyFields(_Wire, kw_only=True):
    """One end of a transfer: a subaccount, or a wallet, which has no number."""

    address: str
    subaccount_number: int | None = None


class TransferFields(_Wire, kw_only=True):
    """Money moved: TRANSFER_IN, TRANSFER_OUT, DEPOSIT or WITHDRAWAL, as the account sees it."""

    id: str = ""  # of REST alone
    sender: PartyFields
    recipient: PartyFields
    size: str
    symbol: str
    type: str
    created_at: str = ""
    created_at_height: str = ""
    transaction_hash: str = ""


class RewardFields(_Wire, kw_only=True):
    """What trading earned in a block, in the chain's token."""

    trading_reward: str
    created_at: str = ""
    created_at_height: str = ""


class SubaccountFields(_Wire, kw_only=True):
    """A subaccount as the indexer sums it up; a parent has children in place of positions."""

    address: str = ""
    subaccount_number: int | None = None
    parent_subaccount_number: int | None = None
    equity: str
    free_collateral: str = "0"
    margin_enabled: bool | None = None
    open_perpetual_positions: dict[str, PositionFields] = {}
    asset_positions: dict[str, AssetPositionFields] = {}
    child_subaccounts: list["SubaccountFields"] = []
    updated_at_height: str | None = None
    latest_processed_block_height: str | None = None


class SubaccountContents(_Wire, kw_only=True):
    """A snapshot (`subaccount` and `orders`; empty if never funded), or whatever changed.

    Funding payments come by REST alone; a change of `net_funding` is what the socket says.
    """

    subaccount: SubaccountFields | None = None
    orders: list[OrderFields] = []
    fills: list[FillFields] = []
    perpetual_positions: list[PositionFields] = []
    asset_positions: list[AssetPositionFields] = []
    transfers: TransferFields | None = None  # one, for all its name
    trading_reward: RewardFields | None = None
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
        if "\ufffd" in text:
            # Where a byte was no character. It may parse, short of a level: better lost and known.
            raise msgspec.DecodeError("a byte of it was corrupted")
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
            stated[cap] = int(number(stated.get(cap, "0")).scaleb(6))
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


class ErrorFields(_Wire, kw_only=True, omit_defaults=True):
    """A refusal: `param` names what was wrong with a request, `code` why a region is refused."""

    msg: str
    param: str | None = None
    location: str | None = None
    value: Any = None
    code: str | int | None = None


class FundingFields(_Wire, kw_only=True):
    """A market's funding of an hour; `rate` is per hour, and positive if longs pay."""

    ticker: str
    rate: str
    price: str
    effective_at: str
    effective_at_height: str = ""


class FundingPaymentFields(_Wire, kw_only=True):
    """What one position paid (negative) or was paid at one hour, in USDC."""

    created_at: str
    created_at_height: str = ""
    perpetual_id: str = ""
    ticker: str
    oracle_price: str
    size: str
    side: str
    rate: str
    payment: str
    funding_index: str = ""
    subaccount_number: str | int = 0


class PnlFields(_Wire, kw_only=True):
    """What an account was worth; /pnl says its height as `created_at_height`."""

    equity: str
    total_pnl: str
    net_transfers: str
    created_at: str
    created_at_height: str | None = None
    block_height: str | None = None
    block_time: str | None = None


class TradeHistoryFields(_Wire, kw_only=True):
    """What an order did to a position: OPEN, EXTEND, PARTIAL_CLOSE, CLOSE or a liquidation."""

    id: str
    action: str
    side: Side
    market_id: str
    execution_price: str
    entry_price: str
    prev_size: str
    additional_size: str
    value: str
    net_fee: str
    net_realized_pnl: str
    net_realized_pnl_percent: str | None = None
    position_side: str | None = None
    order_type: str | None = None
    order_id: str | None = None
    time: str
    margin_mode: str = ""
    subaccount_number: int | None = None


class TimeFields(_Wire, kw_only=True):
    """The indexer's clock: `epoch` in seconds."""

    iso: str
    epoch: float


class ComplianceFields(_Wire, kw_only=True):
    """How an address stands: COMPLIANT, FIRST_STRIKE…, CLOSE_ONLY or BLOCKED, and why."""

    status: str
    reason: str | None = None
    updated_at: str | None = None


class ScreenFields(_Wire, kw_only=True):
    """Whether an address is refused, as the older endpoint says it."""

    restricted: bool
    reason: str | None = None


ErrorsContents = _answer(errors=list[ErrorFields])
Sparklines = dict[str, list[str]]
_TIERS = _many(_answer(usd_tnc_required=str, limit=int))
_EQUITY_TIERS = _answer(short_term_order_equity_tiers=_TIERS, stateful_order_equity_tiers=_TIERS)
_FEE_TIER = _answer(name=str, absolute_volume_requirement=str, maker_fee_ppm=int, taker_fee_ppm=int)

_ANSWERS: dict[str, Any] = {
    r"/v4/perpetualMarkets": MarketsContents,
    r"/v4/orderbooks/perpetualMarket/[^/]+": _BookSnapshot,
    r"/v4/trades/perpetualMarket/[^/]+": TradesContents,
    r"/v4/candles/perpetualMarkets/[^/]+": CandlesContents,
    r"/v4/historicalFunding/[^/]+": _answer(historical_funding=list[FundingFields]),
    r"/v4/sparklines": Sparklines,
    r"/v4/time": TimeFields,
    r"/v4/height": HeightContents,
    r"/v4/screen": ScreenFields,
    r"/v4/compliance/screen/[^/]+": ComplianceFields,
    r"/v4/addresses/[^/]+": _answer(subaccounts=list[SubaccountFields]),
    r"/v4/addresses/[^/]+/(s|parentS)ubaccountNumber/\d+": SubaccountContents,
    r"/v4/perpetualPositions": _answer(positions=list[PositionFields]),
    r"/v4/assetPositions": _answer(positions=list[AssetPositionFields]),
    r"/v4/orders": list[OrderFields],
    r"/v4/orders/[^/]+": OrderFields,
    r"/v4/fills": _page(fills=list[FillFields]),
    r"/v4/tradeHistory": _page(trade_history=list[TradeHistoryFields]),
    r"/v4/transfers": _page(transfers=list[TransferFields]),
    r"/v4/transfers/between": _page(transfers_subset=list[TransferFields], total_net_transfers=str),
    r"/v4/fundingPayments": _page(funding_payments=list[FundingPaymentFields]),
    r"/v4/historical-pnl": _page(historical_pnl=list[PnlFields]),
    r"/v4/pnl": _page(pnl=list[PnlFields]),
    "equity_tiers": _answer(equity_tier_limit_config=_EQUITY_TIERS),
    "fee_tiers": _answer(params=_answer(tiers=_many(_FEE_TIER))),
    "user_fee_tier": _answer(index=int, tier=_FEE_TIER),
    "withdrawal_capacity": _answer(limiter_capacity_list=_many(_texts("capacity"))),
    "broadcast": _answer(result=_answer(code=int, log=str, codespace=str, hash=str)),
    "latest_block": _answer(result=_answer(block=_answer(header=_texts("height", "time")))),
    "genesis": msgspec.defstruct("Genesis", [("chain_id", str), ("genesis_time", str)]),
}
_TWIN = re.compile(r"/parentSubaccount(Number)?$")
_ANSWER_DECODERS = [
    (re.compile(asked), msgspec.json.Decoder(shape).decode) for asked, shape in _ANSWERS.items()
]


def rest_contents(path: str, body: str) -> Any:
    """Decode a REST answer by the path that was asked; a refusal is `ErrorsContents`.

    `WireError` if the path is unknown or the body is not what it should answer.
    """
    # A parent's twin answers in the same shape; fundingPayments spells it shorter.
    route = _TWIN.sub("", path.partition("?")[0])
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
_WORDS = ("c", "d", "x", "u", "b", "id", "reason", "why", "sha256")
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
        fields = {letter: getattr(frame, part) for letter, part in _LETTERS[frame.kind].items()}
        fields |= {letter: int(fields[letter]) for letter in ("st", "code") if letter in fields}
        # What sockets say needs no name besides its text, what is asked of a node has one.
        fields = {letter: part for letter, part in fields.items() if part or letter not in _NAMES}
        kind = "ws" if frame.kind == "sent" else frame.kind
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


_NAMES: Final = ("u", "id")
# Which letter of an event holds which part of its frame.
_LETTERS: Final[dict[str, dict[str, str]]] = {
    "ws": {"x": "text"},
    "sent": {"x": "text", "u": "channel", "id": "id"},
    "http": {"u": "channel", "st": "type", "b": "text", "id": "id"},
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
        for text in self.lines():
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
        first = next(self.lines(), b"")
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

    def lines(self) -> Iterator[bytes]:
        """Return each event as it was written; an empty line stands for those that are lost."""
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
        kind = "sent" if line.k == "ws" else line.k
        parts = {part: getattr(line, letter) for letter, part in _LETTERS[kind].items()}
        if "type" in parts:
            parts["type"] = str(parts["type"])
        if "channel" in parts:
            # Answers are told apart by what was asked, not by which host was asked.
            parts["channel"] = re.sub(r"^\w+://[^/]+", "", parts["channel"])
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

    return from_generator(frames)


load_recorded_stream = replay  # as a test reads best: a bundled recording by its name


def collect(source: Observable[_A]) -> list[_A]:
    """Subscribe, return what was emitted by the end of it, raise what the stream errors with."""
    values: list[_A] = []
    errors: list[Exception] = []
    source.subscribe(values.append, errors.append)
    if errors:
        raise errors[0]
    return values


def from_generator(source: Callable[[], Generator[Frame]]) -> Observable[Frame]:
    """Emit what a generator yields, as a stream; each subscriber makes a generator of its own.

    Cold, on the subscriber's thread, inside `subscribe`; ends with the generator, which is
    closed when the subscriber leaves, and errors with a `ConnError` that it raises.

        from_generator  --f-f-f--|
    """

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
