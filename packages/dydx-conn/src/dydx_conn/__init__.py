"""The connection to dYdX v4: what crosses the wire, how it is received, and how orders are sent.

    indexer sockets ── links ──┐
    indexer REST ── polling ───┼─► inbox ─► live ──► Frame ─┬─► contents: typed, decoded once
    a node's answers ── Trader ┘    recording ── replay ──► ├─► connection_states ─► ConnectionState
                                                            └─► account_updates ───► AccountUpdate
    limit, market … ──► OrderRequest ──► Trader ──► node

A `Frame` is the only source of truth for the layers above: whatever crosses the wire, or fails
to, becomes one, numbered and stamped, its text unchanged. `live` is the one source that opens
sockets and `replay` plays a recording; `fold` is the operator that each layer is built from.

- Errors: `ConnError` and what its children require of the caller.
- Units: exact conversions between decimal text, quantums, quote quantums and nanoseconds.
- Values: `Subaccount`, `PerpetualMarket`, `OrderRequest`, `CancelRequest`, and their ids.
- Networks: `Network`, the addresses of a venue; `network` by name; `choose_address` of several.
- Refusals: the chain's error codes with their meaning; `OrderDenied`.
- Validity: `objection`, what the chain refuses before it looks at a book.
- Fees: the table of tiers, `STANDARD_FEE_TIERS`; `fee_tier`, `fee_ppm`, `fee`.
- Orders: `limit`, `market`, `stop_loss`, `take_profit`, `twap`, `client_ids`, `replacement`,
  `cancel`, `estimate`.
- Frames, Contents, Account contents: `Frame`, the `Lag` that a tick reports, and the fields of what
  a frame carries: one class a row.
- Endpoints, Channels: a row for each endpoint of REST, and for each channel of the socket.
- Decoding: `ws_frame`, `contents`: from text to values; `odd_rows`, what was left out.
- Past rows, History: `History`, `unfold`: pages of the past as the frames that they stand for.
- Recording format, Recording writer, Recordings: `RecordingWriter`, `Recording`, `find_recording`.
- Wire writer: `WireWriter`, `market_fields`, `market_parameters`: what a test feeds the layers.
- Streams: `fold`, `replay`, `collect`; `play`, which tests an operator by its marbles.
- Continuity: which messages of a connection are lost.
- Connection states: how each link stands, as a table; `connection_states`.
- Silence: which subscriptions have died on a connection that lives.
- Order states, Lifecycle: what became of each order: `OrderState`.
- Account blocks, Account state, Account rows, Account readings, Accounts: the one reader of account
  frames, judged by block, height and id; `account_updates`.
- Origins: which orders of an account somebody else sent: `Origins`, `Stranger`.
- Limits and circuits, REST requests, REST metrics, REST exchange, REST: `Rest`.
- Links: one socket: subscribing, pings, back-off, and how soon a book is subscribed again.
- Polling, Live: REST in place of sockets; `Inbox` with its `Vitals`, and `live`, the one source.
- Keys: `Keys`, one signing key that is never shown; `rotate`; `seal` and `unseal` other secrets.
- Audit: `redact` and `printable`, what leaves the program; `AuditLog`, requests and answers.
- Chain state, Chain messages, Node channel, Node: `chain_tip`, `chain_account`, `chain_state`, and
  what is signed, in the chain's own words.
- Sending, Trader: `Trader` judges an order, sends it once, and reports what became of it.

Units: `at` and `mono` are nanoseconds, other times carry their unit in their name. `size` and
`price` are decimal text or `Decimal`; `quantums`, `subticks` and quote quantums (1e-6 USDC) are
integers, rates parts per million; no float touches money.

Only Limits and what stands below it wait, open a connection or start a thread, and only a replay
at a speed reads a clock above it. A secret in the clear is never a local variable of a function
that raises. What is heavy (grpc, the wallet, httpx, the socket client, pydantic) is imported on
first use: a reader of frames does not pay for it.

Sources: v4-chain protocol (lib/quantums.go, x/clob, x/feetiers, x/subaccounts, x/accountplus),
v4-chain indexer (comlink, socks, postgres), the official client, RFC 7914, BIP-39 and BIP-44.
"""

# One name a line would be a page.
# fmt: off
__all__ = [
    # Errors
    "BadAnswer", "BadRequest", "ConnError", "Forbidden", "GridError", "KeyProblem", "NetworkError",
    "NotFound", "RateLimited", "RecordingError", "RestError", "ServerError", "Unreachable",
    "Untrusted", "WireError",
    # Units
    "base_to_quote", "exact", "fill_to_quote", "instant", "number", "ppm", "quote_to_base",
    # Values
    "CONDITIONAL", "LONG_TERM", "PARENTS", "SHORT_TERM", "TWAP", "BatchCancel", "CancelRequest",
    "ConditionType", "OrderRequest", "PerpetualMarket", "Replace", "Side", "Subaccount",
    "TimeInForce", "event_id", "order_id", "subaccount_id",
    # Networks
    "NETWORKS", "Network", "choose_address", "is_loopback", "network",
    # Refusals
    "OrderDenied", "code_of",
    # Validity
    "address_objection", "cancel_objection", "objection", "takes",
    # Fees
    "STANDARD_FEE_TIERS", "FeeTier", "Fees", "MarketDiscount", "StakingLevel", "fee", "fee_ppm",
    "fee_tier", "staking_discount_ppm", "stateful_order_limit",
    # Orders
    "Estimate", "Terms", "cancel", "client_ids", "estimate", "limit", "market", "replacement",
    "stop_loss", "take_profit", "twap",
    # Frames
    "Frame", "Lag",
    # Contents
    "BookContents", "CandleFields", "CandlesContents", "ErrorsContents", "HeightContents",
    "MarketFields", "MarketsContents", "TradeFields", "TradesContents",
    # Account contents
    "AssetPositionFields", "ComplianceFields", "FillFields", "OrderFields", "PositionFields",
    "SubaccountContents", "TransferFields",
    # Endpoints
    "ENDPOINTS", "Endpoint",
    # Channels
    "CANDLE_S", "CHANNELS", "PER_CONNECTION", "Channel", "key_of", "subscription",
    # Decoding
    "OddRow", "contents", "node_contents", "odd_rows", "perpetual_market", "rest_contents",
    "ws_frame",
    # History
    "HISTORY", "History", "unfold",
    # Recording format
    "Header",
    # Recording writer
    "RecordingWriter",
    # Recordings
    "Recording", "find_recording", "recording_folders",
    # Wire writer
    "WireWriter", "market_fields", "market_parameters",
    # Streams
    "MARBLE_CASES", "Pacer", "collect", "fold", "from_generator", "load_recorded_stream", "play",
    "replay",
    # Continuity
    "Continuity",
    # Connection states
    "ConnectionState", "Connections", "connection_states",
    # Order states
    "OrderState",
    # Lifecycle
    "Lifecycle", "cancel_all",
    # Account blocks
    "AccountFill", "Profit",
    # Account state
    "AccountUpdate", "PositionState",
    # Accounts
    "Accounts", "account_updates",
    # Origins
    "Origins", "Stranger", "is_of",
    # REST requests
    "Answer",
    # REST metrics
    "EndpointMetrics", "GroupMetrics", "Metrics", "endpoint_label",
    # REST
    "Rest",
    # Links
    "Inbox", "Vitals",
    # Live
    "live",
    # Keys
    "Keys", "rotate", "seal", "unseal",
    # Audit
    "AuditLog", "is_secret", "printable", "redact",
    # Chain state
    "ChainAccount", "ChainMarket", "ChainPosition", "ChainState", "ChainTip",
    # Node
    "chain_account", "chain_state", "chain_tip",
    # Trader
    "NotQueued", "Queued", "Trader",
]
# fmt: on

import asyncio
import base64
import contextlib
import email.utils
import hashlib
import heapq
import io
import itertools
import json
import logging
import math
import mmap
import os
import queue
import random
import re
import secrets
import selectors
import socket
import ssl
import stat
import sys
import threading
import time
import uuid
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from functools import lru_cache, partial
from importlib.util import find_spec
from ipaddress import ip_address
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    Required,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
)
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec
import zstandard
from msgspec.inspect import DictType, ListType, StructType, Type, UnionType, type_info
from reactivex import Notification, Observable, compose, operators
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase
from reactivex.disposable import BooleanDisposable
from reactivex.scheduler import CurrentThreadScheduler, VirtualTimeScheduler

if TYPE_CHECKING:
    import httpx
    from dydx_v4_client.key_pair import KeyPair
    from dydx_v4_client.wallet import Wallet
    from pydantic import SecretBytes, SecretStr

_A = TypeVar("_A")
_B = TypeVar("_B")
_S = TypeVar("_S")
_T = TypeVar("_T")

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 1_440 * _MINUTE
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# === Errors ===
# What goes wrong, by what the caller should do about it; attributes are data. Of a `RestError`
# `tries` is how often a request is sent before it is raised, `verdict` how its endpoint stands.


class ConnError(Exception):
    """Anything the connection refuses; its children are named by what to do about it."""


class GridError(ConnError):
    """A size or price that is not on the market's grid: do not send it."""


class NetworkError(ConnError):
    """A network that is unknown or cannot be reached: check the name, then wait."""


class WireError(ConnError):
    """A text that is not what the venue documents: skip it, count it, go on."""


class RecordingError(ConnError):
    """A recording that cannot be read at all: choose another file."""


Verdict = Literal["good", "bad", "gone"]


class RestError(ConnError):
    """A request that the indexer did not answer; its children are named by what to do."""

    tries: ClassVar[int] = 1
    verdict: ClassVar[Verdict] = "good"  # what it means for the endpoint's health

    def __init__(self, message: str, *, path: str = "", status: int = 0, wait_s: float = 0) -> None:
        super().__init__(message)
        self.path = path
        self.status = status  # 0 if nothing was answered
        self.wait_s = wait_s


class BadRequest(RestError):
    """The request itself is wrong (400): correct it; the message names the parameter."""


class Forbidden(RestError):
    """The venue refuses this region or address (403, 451): stop trading.

    Its endpoint gets no request until `wait_s` are over.
    """


_BARRED: Final = (403, 451)
_BARRED_S: Final = 600.0  # until it is tried again: a proxy may err, and be corrected


class NotFound(RestError):
    """There is no such ticker, order or subaccount (404): check the name."""

    never_funded = False  # of a subaccount: it begins to exist with its first deposit


class RateLimited(RestError):
    """The queue is longer than the caller's patience: send less, or retry after `wait_s`."""

    verdict = "gone"


class ServerError(RestError):
    """The venue is in trouble (5xx), retries with back-off failed too: wait."""

    tries = 4
    verdict = "bad"


class Unreachable(RestError):
    """Nothing was answered in time, or no connection made, three times: wait."""

    tries = 3
    verdict = "bad"


class Untrusted(Unreachable):
    """The certificate cannot be trusted: check the address, and this machine's clock."""

    tries = 1


class BadAnswer(RestError):
    """What came is no answer: a page of HTML, an error under a 200, too much; twice. Report it."""

    tries = 2  # whoever stands before the venue answered in its place, and may not again
    verdict = "bad"


class KeyProblem(ConnError):
    """A key that cannot be used; the message gives the reason and no part of the key."""


# === Units ===
# Exact conversions between decimal text, integers and nanoseconds, rounded as the chain rounds.
# No float comes in here.


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
    # Nearly all are short and plain, and this is on the way of every price.
    if isinstance(text, str) and len(text) <= 40:
        whole, _, part = text.partition(".")
        if (plain := whole + part).isdecimal():
            return int(plain), -len(part)
    sign, digits, exponent = number(text).as_tuple()
    return int("".join(map(str, digits))) * (-1 if sign else 1), int(exponent)


def ppm(fraction: str) -> int:
    """Read a decimal fraction such as "0.05" as parts per million."""
    return int((number(fraction) * 1_000_000).to_integral_value())


@lru_cache(maxsize=4096)  # what happened in one block shares its text
def instant(text: str) -> int:
    """Read ISO time as nanoseconds, as UTC if it names no zone; `ValueError` if it is none."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _iso(ns: int) -> str:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _scale(value: int, exponent: int) -> int:
    power: int = 10 ** abs(exponent)
    if exponent >= 0:
        return value * power
    return value // power if value >= 0 else -(-value // power)


def _truncate(value: int, divisor: int) -> int:
    # `//` floors; the chain's big.Int.Quo goes toward zero.
    return value // divisor if (value >= 0) == (divisor > 0) else -(-value // divisor)


def number(text: Decimal | str) -> Decimal:
    """Read a decimal number of sensible size; `GridError` if it is not one."""
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


# === Values ===
# What accounts, markets and orders are, as the chain counts them: quantums, subticks, flags. Their
# ids are the indexer's. Nothing here judges whether the chain would take an order.

Side = Literal["BUY", "SELL"]
TimeInForce = Literal["GTT", "IOC", "POST_ONLY"]
ConditionType = Literal["", "STOP_LOSS", "TAKE_PROFIT"]
SHORT_TERM: Final = 0
CONDITIONAL: Final = 32
LONG_TERM: Final = 64
TWAP: Final = 128  # the chain cuts it into suborders of its own, with flags 256


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
        return _scale(quantums * subticks, self.quantum_conversion_exponent)

    @property
    def _price_shift(self) -> int:
        return self.atomic_resolution - self.quantum_conversion_exponent + 6

    def _on_grid(self, what: str, value: Decimal | str, shift: int, grid: int) -> int:
        steps, unit = _steps(value, shift, grid)
        if steps % unit:
            what = f"{self.ticker}: expected a {what} in multiples of"
            raise GridError(f"{what} {Decimal(grid).scaleb(-shift).normalize():f}, got {value}")
        return steps // unit * grid


def _always(default: Any) -> Any:
    # Written down though it is the default, as it was before orders had terms that are not:
    # what was hashed then hashes alike.
    return msgspec.field(default_factory=lambda: default)


class OrderRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An order as it would be sent, to the chain or to the paper venue.

    A TWAP order is cut into `twap_duration_s / twap_interval_s` pieces, each at most
    `twap_tolerance_ppm` worse than the oracle; `subticks` 0 sets it no limit besides.
    """

    ticker: str
    clob_pair_id: int
    side: Side
    quantums: int
    subticks: int
    time_in_force: TimeInForce
    client_id: int
    reduce_only: bool = _always(False)
    order_flags: int = _always(SHORT_TERM)
    # Of a short-term order; the others have a time, in unix seconds.
    good_til_block: int = _always(0)
    good_til_block_time: int = _always(0)
    client_metadata: int = _always(0)
    condition_type: ConditionType = _always("")
    trigger_subticks: int = _always(0)
    twap_duration_s: int = 0
    twap_interval_s: int = 0
    twap_tolerance_ppm: int = 0
    builder_address: str = ""
    builder_fee_ppm: int = 0

    @property
    def signed_quantums(self) -> int:
        """Return the size with its direction: positive buys."""
        return self.quantums if self.side == "BUY" else -self.quantums


class CancelRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A request to take an order off the book, named as the chain names it."""

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
    # A uuid of version 5, written out: each order's review waits for one.
    named = _INDEXER_NAMESPACE.bytes + "-".join(map(str, parts)).encode()
    made = bytearray(hashlib.sha1(named, usedforsecurity=False).digest()[:16])
    made[6], made[8] = made[6] & 0x0F | 0x50, made[8] & 0x3F | 0x80
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@lru_cache(maxsize=1_024)  # it is part of every order's id
def subaccount_id(subaccount: Subaccount) -> str:
    """Return the indexer's id of a subaccount."""
    return event_id(subaccount.owner, subaccount.number)


def order_id(subaccount: Subaccount, order: OrderRequest | CancelRequest) -> str:
    """Return the indexer's id of an order, known before it is sent."""
    owner = subaccount_id(subaccount)
    return event_id(owner, order.client_id, order.clob_pair_id, order.order_flags)


Rounding = Literal["exact", "less"]
Status = Literal[
    "PENDING", "OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "UNRESOLVED"
]

WINDOW: Final = 20  # blocks ahead that a short-term order may name; newer chains take 40
PARENTS: Final = 128  # subaccounts below it are parents; p + 128 · k is an isolated child of p


class BatchCancel(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A request to take up to 100 short-term orders off their books, all until one block."""

    cancels: tuple[CancelRequest, ...]


class Replace(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A stateful order cancelled and, once its cancel is taken, another one placed."""

    cancel: CancelRequest
    order: OrderRequest


# === Networks ===
# The addresses of each venue, a row each, and which of several is used. For other addresses make
# another `Network`.


@dataclass(frozen=True, slots=True)
class Network:
    """Where a venue answers: REST, socket and node, and the id its chain must report.

    Others are used where the first one fails; an indexer's are a pair, of REST and a socket.
    `source` is what it is, in words, for the header of a recording.
    """

    name: str
    rest: str
    ws: str
    node: str
    chain_id: str
    usdc_denom: str = "ibc/8E27BA2D5493AF5636760E354E46004562C46AB7EC0CC4C1CA14E9E20E2545B5"
    chain_denom: str = "adv4tnt"
    source: str = ""
    other_rest: tuple[str, ...] = ()
    other_ws: tuple[str, ...] = ()
    other_nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an indexer that is not a pair."""
        if len(self.other_rest) != len(self.other_ws):
            counts = f"{1 + len(self.other_rest)} of rest and {1 + len(self.other_ws)} of ws"
            raise NetworkError(f"expected as many addresses of rest as of ws, got {counts}")

    @property
    def rests(self) -> tuple[str, ...]:
        """Return where REST answers, the first one first."""
        return (self.rest, *self.other_rest)

    @property
    def sockets(self) -> tuple[str, ...]:
        """Return the sockets, of the same indexers in the same order."""
        return (self.ws, *self.other_ws)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the nodes, the first one first."""
        return (self.node, *self.other_nodes)


# A row for the indexer's addresses and one for the node's.
NETWORKS: Final[Mapping[str, Network]] = {
    "mainnet": Network("mainnet", "https://indexer.dydx.trade", "wss://indexer.dydx.trade/v4/ws",
                       "dydx-ops-grpc.kingnodes.com:443", "dydx-mainnet-1", chain_denom="adydx",
                       other_nodes=("oegs.dydx.trade:443", "dydx-dao-grpc-1.polkachu.com:443",
                                    "dydx-grpc.publicnode.com:443"),
                       source="dYdX mainnet"),
    "testnet": Network("testnet", "https://indexer.v4testnet.dydx.exchange",
                       "wss://indexer.v4testnet.dydx.exchange/v4/ws",
                       "test-dydx-grpc.kingnodes.com:443", "dydx-testnet-4",
                       source="dYdX testnet"),
    "local": Network("local", "http://127.0.0.1:3002", "ws://127.0.0.1:3003/v4/ws",
                     "127.0.0.1:9090", "localdydxprotocol", source="local stand-in venue"),
}  # fmt: skip


def network(name: str) -> Network:
    """Return a network by name; `NetworkError` lists the names."""
    if name not in NETWORKS:
        raise NetworkError(f"expected one of {', '.join(NETWORKS)}, got network {name!r}")
    return NETWORKS[name]


_BEHIND: Final = 20  # blocks: more is not the time that a block takes to arrive everywhere


def choose_address(using: int, heights: Sequence[int | None], floor: int = 0) -> int:
    """Return which of several addresses to use: the one in use for as long as it is fit.

    Fit is what reports a height, `floor` (the newest seen so far) or later, that is not behind
    the best one. The first fit one else, or if none is, the one in use.

    >>> choose_address(0, [None, 99, 105], floor=100)
    2
    """
    least = max(floor, *(height - _BEHIND for height in heights if height is not None), 0)
    fit = [n for n, height in enumerate(heights) if height is not None and height >= least]
    return using if using in fit or not fit else fit[0]


def is_loopback(address: str) -> bool:
    """Return whether an address, with or without scheme and port, is of this machine."""
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    with contextlib.suppress(ValueError):
        return host == "localhost" or ip_address(host).is_loopback
    return False


# === Refusals ===
# The chain's errors by codespace and code: its name for each, and what it means to a person.
# Where two codespaces share a name, that of the order book is meant: it comes last.

_ERRORS: Final[Mapping[str, Mapping[int, tuple[str, str]]]] = {
    "sdk": {
        2: ("ErrTxDecode", "the transaction cannot be read"),
        4: ("ErrUnauthorized", "not authorised: wrong key, chain id, account or sequence"),
        5: ("ErrInsufficientFunds", "insufficient funds for the amount and its fee"),
        6: ("ErrUnknownRequest", "the chain has no such message"),
        7: ("ErrInvalidAddress", "an address is none of dYdX"),
        8: ("ErrInvalidPubKey", "the key that signed is not the account's own"),
        9: ("ErrUnknownAddress", "the account does not exist: nobody ever sent it anything"),
        11: ("ErrOutOfGas", "out of gas: a higher gas limit is needed"),
        12: ("ErrMemoTooLarge", "the memo is too long"),
        13: ("ErrInsufficientFee", "the fee is too low"),
        15: ("ErrNoSignatures", "nobody has signed"),
        18: ("ErrInvalidRequest", "no such request, or no permissioned key for its message"),
        19: ("ErrTxInMempoolCache", "this very transaction is already in the node's mempool"),
        20: ("ErrMempoolIsFull", "the node's mempool is full: try later"),
        21: ("ErrTxTooLarge", "the transaction is too large"),
        28: ("ErrInvalidChainID", "wrong chain id"),
        30: ("ErrTxTimeoutHeight", "the transaction came after its last block"),
        32: ("ErrWrongSequence",
             "wrong sequence number, or a timestamp nonce used or over 30 s off"),
    },
    "undefined": {
        111222: ("ErrPanic", "the node failed inside"),
    },
    "dydxaccountplus": {
        1: ("ErrAuthenticatorNotFound", "there is no such permissioned key"),
        2: ("ErrInvalidAccountAddress", "the address is none of dYdX"),
        3: ("ErrAuthenticatorDataExceedsMaximumLength", "the key's permissions are too long"),
        4: ("ErrSmartAccountNotActive", "the network takes no permissioned keys now"),
        5: ("ErrInitializingAuthenticator", "the key's permissions cannot be read"),
        6: ("ErrTxnHasMultipleSigners", "a permissioned key signs alone"),
        100: ("ErrSignatureVerification",
              "the permissioned key did not sign this, or for another sequence"),
        101: ("ErrMessageTypeVerification", "the permissioned key may not send this message"),
        102: ("ErrClobPairIdVerification", "the permissioned key may not trade this market"),
        103: ("ErrSubaccountVerification", "the permissioned key may not use this subaccount"),
        104: ("ErrAllOfVerification", "the permissioned key may not do all of this"),
        105: ("ErrAnyOfVerification", "the permissioned key may do none of this"),
    },
    "subaccounts": {
        102: ("ErrFailedToUpdateSubaccounts",
              "the account cannot afford it, or withdrawals are held back"),
        200: ("ErrInvalidSubaccountIdNumber", "the subaccount's number is above 128000"),
        201: ("ErrInvalidSubaccountIdOwner", "the owner is not an address of dYdX"),
        402: ("ErrCannotModifyPerpOpenInterestForOIMF",
              "the open interest could not be counted in"),
        403: ("ErrCannotRevertPerpOpenInterestForOIMF",
              "the open interest could not be counted out"),
        500: ("ErrAssetTransferQuantumsNotPositive", "the amount is not above zero"),
        700: ("ErrInvalidLeverage", "the leverage makes no sense"),
        701: ("ErrLeverageExceedsMaximum", "the leverage is above what the market allows"),
        702: ("ErrInitialMarginPpmIsZero", "the market has no initial margin"),
        703: ("ErrLeverageViolatesMarginRequirements", "at this leverage margin would be lacking"),
    },
    "clob": {
        2: ("ErrMemClobOrderDoesNotExist", "the node knows no such order"),
        3: ("ErrInvalidOrderSide", "the side is neither buy nor sell"),
        4: ("ErrInvalidOrderQuantums", "the size is not above zero"),
        5: ("ErrInvalidOrderGoodTilBlock", "a short-term order must have a last block"),
        6: ("ErrInvalidOrderSubticks", "the price is not above zero"),
        7: ("ErrOrderIsCanceled", "already cancelled: a new one needs a later last block"),
        8: ("ErrInvalidClob", "there is no such market"),
        9: ("ErrMemClobCancelAlreadyExists", "a cancel that lasts as long is already known"),
        10: ("ErrHeightExceedsGoodTilBlock", "its last block has passed"),
        11: ("ErrGoodTilBlockExceedsShortBlockWindow", "its last block is too far ahead"),
        12: ("ErrInvalidPlaceOrder", "off the market's grid, or a TWAP's times do not fit"),
        20: ("ErrInvalidReplacement",
             "only the same side and kind with a later last block replaces"),
        24: ("ErrOrderFullyFilled", "nothing of the order is left to fill"),
        29: ("ErrInvalidStatefulOrderCancellation", "the cancel ends before the order does"),
        30: ("ErrOrderReprocessed", "this very order is already known"),
        32: ("ErrStatefulOrderCancellationAlreadyExists", "a cancel of it is already on its way"),
        34: ("ErrOrderConflictsWithClobPairStatus", "the market's status does not allow it"),
        36: ("ErrOperationConflictsWithClobPairStatus", "the market's status does not allow it"),
        44: ("ErrInvalidTimeInForce", "there is no such time in force"),
        45: ("ErrInvalidBatchCancel", "a batch is up to 100 short-term orders, each once"),
        46: ("ErrBatchCancelFailed", "some of the batch could not be cancelled"),
        47: ("ErrClobNotInitialized", "the node has just started: try in the next block"),
        48: ("ErrDeprecatedField", "fill-or-kill is no longer supported"),
        49: ("ErrInvalidTwapOrderPlacement", "the TWAP order cannot be placed"),
        50: ("ErrInvalidBuilderCode", "a builder has an address and a fee of 1 to 10000 ppm"),
        2001: ("ErrReduceOnlyWouldIncreasePositionSize",
               "reduce-only, but it would add to the position"),
        2002: ("ErrReduceOnlyWouldChangePositionSide",
               "reduce-only, but it would turn the position"),
        2003: ("ErrPostOnlyWouldCrossMakerOrder", "a post-only order would have traded at once"),
        2004: ("ErrImmediateExecutionOrderAlreadyFilled",
               "an immediate-or-cancel order fills once"),
        2005: ("ErrWouldViolateIsolatedSubaccountConstraints",
               "an isolated market needs a subaccount of its own"),
        3000: ("ErrInvalidOrderFlag", "there is no such kind of order"),
        3001: ("ErrInvalidStatefulOrderGoodTilBlockTime",
               "an order that is not short-term must have an end"),
        3002: ("ErrLongTermOrdersCannotRequireImmediateExecution",
               "a long-term order cannot be immediate-or-cancel"),
        3003: ("ErrTimeExceedsGoodTilBlockTime", "the time at which it ends has passed"),
        3004: ("ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow",
               "it would last longer than 95 days"),
        3005: ("ErrStatefulOrderAlreadyExists",
               "already placed, and cannot be replaced: cancel it first"),
        3006: ("ErrStatefulOrderDoesNotExist", "there is no such order to cancel"),
        3007: ("ErrStatefulOrderCollateralizationCheckFailed",
               "the account lacks collateral for it"),
        3008: ("ErrStatefulOrderPreviouslyCancelled", "cancelled before it was placed"),
        3009: ("ErrStatefulOrderPreviouslyRemoved", "removed before it was placed"),
        3010: ("ErrStatefulOrderCancellationFailedForAlreadyRemovedOrder",
               "the order is already gone"),
        5001: ("ErrBlockRateLimitExceeded", "too many orders and cancels in the last blocks"),
        6000: ("ErrInvalidConditionType", "conditional orders alone stop a loss or take a profit"),
        6001: ("ErrInvalidConditionalOrderTriggerSubticks",
               "conditional orders alone have a trigger"),
        6002: ("ErrConditionalOrderUntriggered", "the order has not been triggered yet"),
        9003: ("ErrReduceOnlyDisabled", "reduce-only orders must be immediate-or-cancel"),
        10001: ("ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit",
                "the account's worth allows no more open orders"),
        11002: ("ErrInvalidLeverage", "the leverage makes no sense"),
        11003: ("ErrLeverageExceedsMaximum", "the leverage is above what the market allows"),
        11004: ("ErrInitialMarginPpmIsZero", "the market has no initial margin"),
    },
}  # fmt: skip
_BY_NAME: Final = {
    name: (codespace, code)
    for codespace, errors in _ERRORS.items()
    for code, (name, _) in errors.items()
}


def meaning(codespace: str, code: int) -> str:
    """Return what a node's code means, for a person; codes count within their codespace alone."""
    if code == 0:
        return "accepted"
    unknown = ("", f"unknown error {code} of {codespace or 'an unnamed codespace'}")
    return _ERRORS.get(codespace, {}).get(code, unknown)[1]


def code_of(error: str) -> int:
    """Return the chain's code of an error name, 0 for none; `KeyError` if it has no such error."""
    return _BY_NAME[error][1] if error else 0


def codespace_of(error: str) -> str:
    """Return the codespace of an error name, empty for none; `KeyError` as `code_of`."""
    return _BY_NAME[error][0] if error else ""


class OrderDenied(ConnError):
    """An order that the chain would refuse and that is therefore not sent.

    `error` is the chain's name for the reason, `code` its number there.
    """

    def __init__(self, error: str) -> None:
        self.error, self.code = error, code_of(error)
        why = meaning(codespace_of(error), self.code)
        super().__init__(f"expected a request the chain accepts, got {error}: {why}")


def refuse(error: str) -> None:
    """Raise `OrderDenied` if there is an error to name."""
    if error:
        raise OrderDenied(error)


# === Validity ===
# What the chain refuses before it looks at a book, in its order; the first objection wins.
# Sources: ValidateBasic of x/clob/types/message_*.go; then x/clob/keeper, orders.go.

SHORT_BLOCK_WINDOW: Final = 40  # blocks after the next one; older deployments refuse beyond 20
STATEFUL_WINDOW_S: Final = 95 * 86_400
MAX_BUILDER_FEE_PPM: Final = 10_000
MAX_BATCH: Final = 100
_MAX_SUBACCOUNT: Final = 128_000

_Objections = Iterable[tuple[str, bool | int]]


def objection(
    order: OrderRequest, market: PerpetualMarket, *, subaccount: Subaccount | None = None,
    status: str = "ACTIVE", height: int = 0, time: int = 0, oracle_subticks: int = 0,
) -> str:  # fmt: skip
    """Name what the chain would refuse an order for before matching, or return nothing.

    `height` is the last block and `time` its unix seconds; `subaccount`, `height`, `time` and
    `oracle_subticks` are not judged where they are unknown (None or 0). What depends on the
    account is judged elsewhere: collateral, position, equity tier, orders already known.
    """
    return _first(_unsound(order, subaccount)) or _first([
        ("ErrInvalidClob", order.clob_pair_id != market.clob_pair_id),
        ("ErrInvalidPlaceOrder", order.subticks % market.subticks_per_tick),
        ("ErrInvalidPlaceOrder", order.quantums % market.step_base_quantums),
        ("ErrOrderConflictsWithClobPairStatus", not _admitted(order, status, oracle_subticks)),
        *_untimely(order, height, time),
        ("ErrInvalidPlaceOrder", order.trigger_subticks % market.subticks_per_tick),
        ("ErrInvalidPlaceOrder",
         order.order_flags == TWAP and _leg_quantums(order) < market.step_base_quantums),
    ])  # fmt: skip


def takes(status: str, time_in_force: TimeInForce) -> bool:
    """Return whether a market of this status takes such orders; an empty status is not judged.

    >>> takes("POST_ONLY", "IOC"), takes("POST_ONLY", "POST_ONLY"), takes("PAUSED", "GTT")
    (False, True, False)
    """
    return time_in_force in _TAKEN.get(status, ())


# The chain knows ACTIVE, INITIALIZING and FINAL_SETTLEMENT, the indexer has more words. An order
# that reduces is an order like any other (clob 34); a cancel is taken in all of them, and a status
# that nobody knows takes nothing.
_TAKEN: Final[Mapping[str, tuple[TimeInForce, ...]]] = {
    "": ("GTT", "IOC", "POST_ONLY"),
    "ACTIVE": ("GTT", "IOC", "POST_ONLY"),
    "POST_ONLY": ("POST_ONLY",),
    "INITIALIZING": ("POST_ONLY",),  # if it is short-term, and on its side of the oracle price
    "CANCEL_ONLY": (),
    "PAUSED": (),
    "FINAL_SETTLEMENT": (),
}


def cancel_objection(
    cancel: CancelRequest, *, subaccount: Subaccount | None = None,
    height: int = 0, time: int = 0, order_ends: int = 0,
) -> str:  # fmt: skip
    """Name what the chain would refuse a cancel for, or return nothing; unknowns as `objection`.

    `order_ends` is the `good_til_block_time` of the order: its cancel must not end earlier. (A
    short-term cancel that ends earlier is taken, and leaves the order on the book.)
    """
    until = cancel.good_til_block_time
    stateful = cancel.order_flags != SHORT_TERM
    return _first([
        *_misnamed(subaccount),
        ("ErrInvalidOrderFlag", cancel.order_flags not in _FLAGS),
        *_endless(cancel),
        *_untimely(cancel, height, time),
        ("ErrInvalidStatefulOrderCancellation", stateful and until < order_ends),
    ])  # fmt: skip


def batch_cancel_objection(
    cancels: Sequence[CancelRequest], *, subaccount: Subaccount | None = None, height: int = 0
) -> str:
    """Name what the chain would refuse a batch of cancels for, or return nothing.

    A batch holds short-term orders of one subaccount, each once, and ends at one block.
    """
    repeats = Counter((cancel.clob_pair_id, cancel.client_id) for cancel in cancels)
    ends = {(cancel.order_flags, cancel.good_til_block) for cancel in cancels}
    return _first([
        *_misnamed(subaccount),
        ("ErrInvalidBatchCancel", len(repeats) < len(cancels) or len(cancels) > MAX_BATCH),
        ("ErrInvalidBatchCancel", len(ends) > 1),
        *(each for cancel in cancels[:1] for each in (
            ("ErrInvalidBatchCancel", cancel.order_flags != SHORT_TERM),
            *_endless(cancel), *_untimely(cancel, height, 0),
        )),
    ])  # fmt: skip


def is_address(text: str) -> bool:
    """Return whether a text is an address of dYdX: bech32 of 20 bytes, its checksum right."""
    return not address_objection(text)


def address_objection(text: str) -> str:
    """Return why a text is no address of dYdX, "" if it is one.

    >>> address_objection("osmo1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5helwsw")
    'expected an address that begins with dydx1, got one that begins with osmo1'
    """
    import bech32

    prefix, words = bech32.bech32_decode(text)
    octets = bech32.convertbits(words or [], 5, 8, pad=False)
    if prefix == "dydx" and octets is not None and len(octets) == 20:
        return ""
    if prefix is not None and prefix != "dydx":
        return f"expected an address that begins with dydx1, got one that begins with {prefix}1"
    shown = text if len(text) <= 64 else f"{text[:61]}…"
    what = f"expected an address of dYdX (dydx1 and 38 more letters and digits), got {shown!r}"
    if prefix is None and re.fullmatch(r"dydx1[ac-hj-np-z02-9]{38}", text.lower()):
        return f"{what}: its checksum is wrong, a character of it must be"
    return what


def _first(objections: _Objections) -> str:
    return next((error for error, holds in objections if holds), "")


def _unsound(order: OrderRequest, subaccount: Subaccount | None) -> _Objections:
    # A request may come from outside, where types are promises.
    side, time_in_force, condition = map(
        str, (order.side, order.time_in_force, order.condition_type)
    )
    ioc, twap = time_in_force == "IOC", order.order_flags == TWAP
    conditional, trigger = order.order_flags == CONDITIONAL, order.trigger_subticks
    return [
        ("ErrDeprecatedField", time_in_force == "FOK"),
        *_misnamed(subaccount),
        ("ErrInvalidOrderSide", side not in ("BUY", "SELL")),
        ("ErrInvalidTimeInForce", time_in_force not in ("GTT", "IOC", "POST_ONLY")),
        ("ErrInvalidConditionType", condition not in ("", "STOP_LOSS", "TAKE_PROFIT")),
        ("ErrInvalidOrderQuantums", not 0 < order.quantums < 2**64),
        *_endless(order),
        ("ErrInvalidOrderFlag", order.order_flags not in _FLAGS),
        ("ErrLongTermOrdersCannotRequireImmediateExecution",
         ioc and order.order_flags == LONG_TERM),
        ("ErrReduceOnlyDisabled", order.reduce_only and not ioc),
        ("ErrInvalidOrderSubticks", not (0 if twap else 1) <= order.subticks < 2**64),
        ("ErrInvalidConditionType", conditional != bool(condition)),
        ("ErrInvalidConditionalOrderTriggerSubticks", conditional != (0 < trigger < 2**64)),
        ("ErrInvalidBuilderCode", not _is_builder(order.builder_address, order.builder_fee_ppm)),
        ("ErrInvalidPlaceOrder", twap and not _is_twap(order)),
        # Where the chain has no word for it: what its message has no room for.
        ("ErrInvalidPlaceOrder", not 0 <= order.client_id < 2**32),
        ("ErrInvalidPlaceOrder", not 0 <= order.client_metadata < 2**32),
    ]  # fmt: skip


_FLAGS: Final = (SHORT_TERM, CONDITIONAL, LONG_TERM, TWAP)


def _misnamed(subaccount: Subaccount | None) -> _Objections:
    if subaccount is None:
        return []
    return [
        ("ErrInvalidSubaccountIdNumber", not 0 <= subaccount.number <= _MAX_SUBACCOUNT),
        ("ErrInvalidSubaccountIdOwner", not is_address(subaccount.owner)),
    ]


def _endless(request: OrderRequest | CancelRequest) -> _Objections:
    block, until = request.good_til_block, request.good_til_block_time
    short = request.order_flags == SHORT_TERM
    return [
        ("ErrInvalidOrderGoodTilBlock", short and not 0 < block < 2**32),
        ("ErrInvalidStatefulOrderGoodTilBlockTime",
         request.order_flags in _FLAGS and not short and not 0 < until < 2**32),
    ]  # fmt: skip


def _untimely(request: OrderRequest | CancelRequest, height: int, time: int) -> _Objections:
    block, until = request.good_til_block, request.good_til_block_time
    # Judged for the next block, the first one that it could be in.
    if request.order_flags == SHORT_TERM:
        far = 0 < height < block - 1 - SHORT_BLOCK_WINDOW
        return [
            ("ErrHeightExceedsGoodTilBlock", block <= height),
            ("ErrGoodTilBlockExceedsShortBlockWindow", far),
        ]
    far = 0 < time < until - STATEFUL_WINDOW_S
    return [
        ("ErrTimeExceedsGoodTilBlockTime", until <= time),
        ("ErrGoodTilBlockTimeExceedsStatefulOrderTimeWindow", far),
    ]


def _admitted(order: OrderRequest, status: str, oracle_subticks: int) -> bool:
    if status == "INITIALIZING":
        # Liquidity gathers around the oracle price, on the right side of it.
        ahead = order.subticks - oracle_subticks
        crosses = ahead > 0 if order.side == "BUY" else ahead < 0
        if order.order_flags != SHORT_TERM or (oracle_subticks and crosses):
            return False
    return takes(status, order.time_in_force)


def _is_builder(address: str, fee_ppm: int) -> bool:
    if not address and not fee_ppm:
        return True
    return 0 < fee_ppm <= MAX_BUILDER_FEE_PPM and is_address(address)


def _is_twap(order: OrderRequest) -> bool:
    duration, interval = order.twap_duration_s, order.twap_interval_s
    timely = 300 <= duration <= 86_400 and 30 <= interval <= 3_600 and duration % interval == 0
    return timely and 0 <= order.twap_tolerance_ppm < 1_000_000


def _leg_quantums(order: OrderRequest) -> int:
    return order.quantums // (order.twap_duration_s // order.twap_interval_s)


# === Fees ===
# What fills cost. Governance sets tiers and discounts: these are the chain's defaults, a node
# reports today's. Rates are parts per million, amounts quote quantums; rounded up, which costs
# rebates.


class Fees(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What fills cost, in parts per million of their quote; a negative one is a rebate."""

    taker_ppm: int = 500
    maker_ppm: int = 100

    def of(self, quote_quantums: int, liquidity: str) -> int:
        """Return the fee of a fill in quote quantums, rounded up: rebates too."""
        return fee(quote_quantums, self.taker_ppm if liquidity == "TAKER" else self.maker_ppm)


class FeeTier(Fees, frozen=True, gc=False, kw_only=True):
    """Fees, and what one must have traded in 30 days to pay them.

    `volume` is in quote quantums, the shares are of all that was traded on the chain.
    """

    name: str
    volume: int = 0
    total_share_ppm: int = 0
    maker_share_ppm: int = 0


class StakingLevel(msgspec.Struct, frozen=True, gc=False):
    """What staking `min_staked` of the token's smallest unit takes off a positive fee."""

    min_staked: int
    discount_ppm: int


class MarketDiscount(msgspec.Struct, frozen=True, gc=False):
    """What a market charges of every fee and rebate from `start` until before `end` (unix s)."""

    clob_pair_id: int
    start: int
    end: int
    charge_ppm: int

    def at(self, clob_pair_id: int, time: int) -> int:
        """Return the parts per million charged in a market at a time: all, unless it is on."""
        on = clob_pair_id == self.clob_pair_id and self.start <= time < self.end
        return self.charge_ppm if on else _PPM


_PPM: Final = 1_000_000
# Name, volume in millions of USDC, shares of the total and of makers, taker and maker fee.
STANDARD_FEE_TIERS: Final = tuple(
    FeeTier(
        name=name, volume=millions * 10**12, total_share_ppm=total, maker_share_ppm=maker_share,
        taker_ppm=taker, maker_ppm=maker,
    )
    for name, millions, total, maker_share, taker, maker in (
        ("1", 0, 0, 0, 500, 100),
        ("2", 1, 0, 0, 450, 100),
        ("3", 5, 0, 0, 400, 50),
        ("4", 25, 0, 0, 350, 0),
        ("5", 125, 0, 0, 300, 0),
        ("6", 125, 5_000, 0, 250, -50),
        ("7", 125, 5_000, 10_000, 250, -90),
        ("8", 125, 5_000, 20_000, 250, -110),
        ("9", 125, 5_000, 40_000, 250, -110),
    )
)  # fmt: skip


def fee_tier(
    tiers: Sequence[FeeTier] = STANDARD_FEE_TIERS, *, maker_volume: int = 0,
    taker_volume: int = 0, total_volume: int = 0, is_vault: bool = False, least: int = 0,
) -> FeeTier:  # fmt: skip
    """Choose a trader's tier: upward until the first whose requirements do not all hold.

    Volumes are of 30 days, in quote quantums; `total_volume` is everybody's. A vault has the
    top tier; `least` is the index below which a referred trader does not fall.
    """
    if is_vault:
        return tiers[-1]
    index = 0
    for i, tier in enumerate(tiers):
        both = maker_volume + taker_volume
        if (
            both < max(tier.volume, total_volume * tier.total_share_ppm // _PPM)
            or maker_volume < total_volume * tier.maker_share_ppm // _PPM
        ):
            break
        index = i
    return tiers[max(index, min(least, len(tiers) - 1))]


def fee_ppm(ppm: int, *, charge_ppm: int = _PPM, discount_ppm: int = 0) -> int:
    """Apply a market's charge to a tier's fee, then a staking discount to what is above zero.

    Each is truncated toward zero, so that a discounted rebate is never larger.
    """
    charged = _truncate(ppm * charge_ppm, _PPM)
    return charged * (_PPM - discount_ppm) // _PPM if charged > 0 else charged


def staking_discount_ppm(
    levels: Mapping[str, Sequence[StakingLevel]], tier: str, staked: int
) -> int:
    """Return the discount of the highest level reached among those of a tier's name."""
    reached = (level for level in levels.get(tier, ()) if staked >= level.min_staked)
    return max(reached, key=lambda level: level.min_staked, default=StakingLevel(0, 0)).discount_ppm


def fee(quote_quantums: int, ppm: int) -> int:
    """Return a fee in quote quantums, rounded up, which makes rebates smaller.

    A builder's fee is computed alike and added.
    """
    return -(-quote_quantums * ppm // _PPM)


# Net collateral in quote quantums, and the open stateful orders that it allows.
EQUITY_TIERS: Final[Sequence[tuple[int, int]]] = (
    (0, 0), (20 * 10**6, 1), (100 * 10**6, 5), (1_000 * 10**6, 10), (10_000 * 10**6, 100),
    (100_000 * 10**6, 200),
)  # fmt: skip


def stateful_order_limit(
    net_collateral: int, tiers: Sequence[tuple[int, int]] = EQUITY_TIERS
) -> int:
    """Return how many long-term, conditional and TWAP orders may be open at once.

    `net_collateral` is in quote quantums. Short-term orders are not limited by it any more.
    """
    return max((limit for least, limit in tiers if net_collateral >= least), default=0)


# === Orders ===
# From a person's size and price to what is sent: built, numbered, replaced, cancelled, estimated.
# Exact or refused; only `rounding="less"` rounds, and never to more.


class Terms(TypedDict, total=False):
    """The optional terms of any order, besides its side, size and price.

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


def client_ids(at: int) -> Iterator[int]:
    """Number the orders of a run that begins at `at` (ns): 32 bits each, none of an earlier run.

    The numbers begin where the clock stands, counting 500 a second: a run that places fewer than
    that, in the long run, repeats none of those before it, restarted or not. They come round after
    99 days, when no order of the last time lives: the longest stands 95. The same beginning gives
    the same numbers, so that a replay does, and two runs must not share a subaccount.
    """
    return (number % 2**32 for number in itertools.count(at // 2_000_000))


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


class Estimate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an order may cost at worst, in quote quantums, and why the chain would refuse it.

    `quote` is what it is worth at the worst of its own price, the oracle's and, for a sale, the
    best bid; `fee` the worse of a taker's and a maker's of that, with the builder's (each of
    several fills may round up by one more); `gas` is free for orders and cancels of any kind;
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
    best_bid_subticks: int = 0, position: int = 0, net_collateral: int | None = None,
    initial_margin: int = 0, open_stateful: int = 0, imf_ppm: int = 0,
) -> Estimate:  # fmt: skip
    """Return what an order may cost at worst, as if it were filled whole.

    `position` is in signed quantums; `net_collateral` and the account's present `initial_margin`
    in quote quantums; `open_stateful` how many stateful orders stand. `imf_ppm` is the market's
    margin where its open interest or a chosen leverage has raised it above the tier's.
    """
    own = order.subticks or oracle_subticks
    fair = oracle_subticks or own
    # A buy never pays more than its own price; a sale may be paid more, and is charged for it.
    worst = max(own, fair, best_bid_subticks if order.side == "SELL" else 0)
    growth, imf_ppm = _growth(order, position), imf_ppm or market.imf_ppm
    found = Estimate(
        quote=market.quote_quantums(order.quantums, worst),
        fee=_charge(order, market, worst, max(fees.taker_ppm, fees.maker_ppm)),
        initial_margin=fee(market.quote_quantums(growth, worst), imf_ppm),
    )
    if net_collateral is None:
        return found
    # Bought below the oracle's price, or sold above it, it is worth more at once, or less.
    gain = market.quote_quantums(order.quantums, fair) - market.quote_quantums(order.quantums, own)
    margin = fee(market.quote_quantums(growth, fair), imf_ppm)
    free = net_collateral - initial_margin - max(margin, 0)
    free += gain if order.side == "BUY" else -gain
    error = ""
    if order.order_flags != SHORT_TERM and open_stateful >= stateful_order_limit(net_collateral):
        error = "ErrOrderWouldExceedMaxOpenOrdersEquityTierLimit"
    elif order.order_flags in (LONG_TERM, TWAP) and growth > 0:
        # Resting, it would pay a maker's fee at its own price, and the chain looks at that.
        short = free < _charge(order, market, own, fees.maker_ppm)
        error = "ErrStatefulOrderCollateralizationCheckFailed" if short else ""
    # What makes a position smaller is always taken: nothing may block the way out.
    affordable = growth <= 0 or free >= found.fee
    return msgspec.structs.replace(found, affordable=affordable, objection=error)


def _growth(order: OrderRequest, position: int) -> int:
    return abs(position + order.signed_quantums) - abs(position)


def _charge(order: OrderRequest, market: PerpetualMarket, subticks: int, ppm: int) -> int:
    quote = market.quote_quantums(order.quantums, subticks)
    return fee(quote, ppm) + fee(quote, order.builder_fee_ppm)


# === Frames ===
# The one value that everything above is folded from: it holds the text that crossed the wire, and
# names what its parts hold.


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One thing that crossed the wire, or that the wire failed to carry.

    `seq` counts from 1 and names the frame; one that a frame caused has that of its cause. `at` is
    wall time and `mono` a monotonic clock. `fault` is what is wrong with a text that cannot be
    read. What the other parts hold depends on the kind; properties name them where it is not plain:

        kind   what                 text      type    channel           id        message_id
        ws     from the server      message   its     its               its       its
        sent   from the client      request           to a node         order id
        http   an answer            body      status  path with query
        open   a link connected     address
        close  a link was lost      reason    code, or 403
                                              and 451
        gap    messages were lost   reason              its, if of    its       how many
                                                        one alone
        tick   of "clock": a second  what waits
               passed, or frames are  (`Lag`)
               late; of a link: it
               tries to connect
        act    somebody did it:     why       what: halt, resume, flatten …          0, or at
               `link` is who                                                        which call
        state  what another run    a file                              hash of
               left for this one                                       its run
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

    @property
    def is_snapshot(self) -> bool:
        """Return whether it is the first message of a subscription, which is complete."""
        return self.type == "subscribed"

    @property
    def is_refusal(self) -> bool:
        """Return whether the server refuses a request with it."""
        return self.type == "error"

    @property
    def ok(self) -> bool:
        """Return whether it is an answer of the indexer that is no refusal."""
        return self.kind == "http" and self.type == "200"

    @property
    def status(self) -> int:
        """Return an answer's HTTP status, a node's code (-1: none came), a close's code; else 0."""
        numbered = self.kind in ("http", "close") and self.type.removeprefix("-").isdecimal()
        return int(self.type) if numbered else 0

    @property
    def path(self) -> str:
        """Return the path of a REST request, without its query; "" for other frames."""
        return self.channel.partition("?")[0] if self.kind == "http" else ""

    @property
    def reason(self) -> str:
        """Return why a link or messages were lost, or what is wrong with the text."""
        return self.text if self.kind in ("close", "gap") else self.fault

    @property
    def lost(self) -> int:
        """Return how many messages a gap lost, as far as it is known; of other frames 0."""
        return self.message_id if self.kind == "gap" else 0


class Lag(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How late frames are taken, as the text of a tick reports it; one without text says nothing.

    `age_ns` is how long the frame behind the tick has waited, and 0 once nothing is late any more;
    `waiting` is how many wait. `books` is, by ticker, up to which frame the updates of a book are
    folded together, counted from the tick: what the book was in between, nobody needs to see.
    """

    age_ns: int = 0
    waiting: int = 0
    books: dict[str, int] = {}

    @classmethod
    def of(cls, tick: Frame) -> "Lag":
        """Read what a tick reports; `WireError` if it cannot be read."""
        try:
            return msgspec.json.decode(tick.text, type=cls)
        except (ValueError, RecursionError) as error:
            raise WireError(f"expected a tick's lag, got {tick.text[:60]!r}: {error}") from None


# === Contents ===
# What the venue sends, as far as a bot uses it: the indexer's names in snake case, decimals as
# text. Any field may be missing from an update and null in a snapshot.


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    pass


class _WireRow(_Wire):
    # One that stands by itself: where it cannot be read, it alone is left out.
    pass


class _Page(_Wire, kw_only=True):
    # Where an answer stands in a list that was requested by pages; absent without `page`.
    page_size: int | None = None
    total_results: int | None = None
    offset: int | None = None


class BookContents(_Wire, kw_only=True):
    """Book levels as (price, size); a size is the level's new total and "0" removes it."""

    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


class _Level(_Wire):
    price: str
    size: str


class _BookSnapshot(_Wire):
    bids: list[_Level]
    asks: list[_Level]

    def book(self) -> BookContents:
        # In the shape of the updates: both are read alike.
        bids, asks = ([(level.price, level.size) for level in x] for x in (self.bids, self.asks))
        return BookContents(bids=bids, asks=asks)


class TradeFields(_WireRow, kw_only=True):
    """A trade on the tape; `side` is the taker's."""

    id: str = ""
    side: Side
    size: str
    price: str
    type: str = "LIMIT"
    created_at: str


class TradesContents(_Page, kw_only=True):
    """Trades, newest first in a snapshot and an answer, oldest first in an update."""

    trades: list[TradeFields]


class CandleFields(_WireRow, kw_only=True):
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


class CandlesContents(_Wire, kw_only=True):
    """Candles, newest first in a snapshot and an answer; one in an update."""

    candles: list[CandleFields]


class MarketFields(_WireRow, kw_only=True):
    """A market's description, or what changed in it; older servers write `price` for oracle's."""

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


class _AllMarkets(MarketsContents, kw_only=True):
    # What has none of a snapshot's fields is no snapshot.
    markets: dict[str, MarketFields]


class FundingFields(_WireRow, kw_only=True):
    """A market's funding of an hour; `rate` is per hour, and positive if longs pay."""

    ticker: str
    rate: str
    price: str
    effective_at: str
    effective_at_height: str = ""


class HeightContents(_Wire, kw_only=True):
    """A block; its field is `height` in a snapshot, `blockHeight` in updates."""

    height: str = ""
    block_height: str = ""
    time: str

    def __post_init__(self) -> None:
        """Refuse what names no block."""
        if not (self.block_height or self.height):
            raise ValueError("Expected the height of a block, got none")

    @property
    def block(self) -> tuple[int, int]:
        """Return its height and its time in nanoseconds; `ValueError` if one of them is none."""
        return int(self.block_height or self.height), instant(self.time)


class TimeFields(_Wire, kw_only=True):
    """The indexer's clock: `epoch` in seconds."""

    iso: str
    epoch: float


class ErrorFields(_Wire, kw_only=True, omit_defaults=True):
    """A refusal: `param` names what was wrong with a request, `code` why a region is refused."""

    msg: str
    param: str | None = None
    location: str | None = None
    value: Any = None
    code: str | int | None = None


class ErrorsContents(_Wire, kw_only=True):
    """What is no answer over REST: a refusal in the venue's words, or in those of a proxy."""

    errors: list[ErrorFields]

    @property
    def reason(self) -> str:
        """Return the words in one line."""
        reasons = (
            e.msg + (f" ({e.param})" if e.param else "") + (f" [{e.code}]" if e.code else "")
            for e in self.errors
        )
        return "; ".join(reasons)[:500] or "no reason"


Sparklines = dict[str, list[str]]  # closing prices by ticker, newest first

# === Account contents ===
# What the venue reports of accounts, by socket and REST: orders, fills, positions, balances, and
# money that moved. Any field may be missing from an update.


class PositionFields(_WireRow, kw_only=True):
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


class AssetPositionFields(_WireRow, kw_only=True):
    """A balance of an asset, on the venue always USDC; `side` SHORT means owed."""

    symbol: str
    side: str
    size: str
    asset_id: str = "0"
    subaccount_number: int | None = None


class OrderFields(_WireRow, kw_only=True):
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


class EventBytes(_Wire):
    """An event's id as older indexers wrote it: its twelve bytes, one number each."""

    data: list[Annotated[int, msgspec.Meta(ge=0, le=255)]]

    def __str__(self) -> str:
        """Return the hexadecimal text that is written today."""
        return bytes(self.data).hex()


class FillFields(TradeFields, kw_only=True):
    """Our side of a trade; `fee` is negative for a rebate. REST writes `market` for `ticker`.

    REST alone reports what the position was before; the socket alone reports the quote
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
    event_id: str | EventBytes | None = None
    transaction_hash: str | None = None
    position_size_before: str | None = None
    position_side_before: str | None = None
    entry_price_before: str | None = None


class PartyFields(_Wire, kw_only=True):
    """One end of a transfer: a subaccount, or a wallet, which has no number."""

    address: str
    subaccount_number: int | None = None


class TransferFields(_WireRow, kw_only=True):
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


class RewardFields(_WireRow, kw_only=True):
    """What trading earned in a block, in the chain's token."""

    trading_reward: str
    created_at: str = ""
    created_at_height: str = ""


_ABSENT: Final[Any] = msgspec.UNSET


class SubaccountFields(_Wire, kw_only=True):
    """A subaccount as the indexer sums it up; a parent has children in place of what is held."""

    address: str = ""
    subaccount_number: int | None = None
    parent_subaccount_number: int | None = None
    equity: str
    free_collateral: str = "0"
    margin_enabled: bool | None = None
    open_perpetual_positions: dict[str, PositionFields] = _ABSENT
    asset_positions: dict[str, AssetPositionFields] = _ABSENT
    child_subaccounts: list["SubaccountFields"] | None = None
    updated_at_height: str | None = None
    latest_processed_block_height: str | None = None

    def __post_init__(self) -> None:
        """Refuse what does not report what is held: that is not the same as to hold nothing."""
        for table in ("open_perpetual_positions", "asset_positions"):
            if getattr(self, table) is _ABSENT:
                if self.child_subaccounts is None:
                    raise ValueError("Expected positions and balances, or children, got neither")
                setattr(self, table, {})


class SubaccountContents(_Wire, kw_only=True):
    """A snapshot (`subaccount` and `orders`; empty if never funded), or whatever changed.

    Funding payments come by REST alone; the socket reports a change of `net_funding`.
    """

    subaccount: SubaccountFields | None = None
    orders: list[OrderFields] = []
    fills: list[FillFields] = []
    perpetual_positions: list[PositionFields] = []
    asset_positions: list[AssetPositionFields] = []
    transfers: TransferFields | None = None  # one, for all its name
    trading_reward: RewardFields | None = None
    block_height: str | None = None


class _OneSubaccount(SubaccountContents, kw_only=True):
    subaccount: SubaccountFields


class FundingPaymentFields(_WireRow, kw_only=True):
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


class PnlFields(_WireRow, kw_only=True):
    """What an account was worth; /pnl names its height `created_at_height`."""

    equity: str
    total_pnl: str
    net_transfers: str
    created_at: str
    created_at_height: str | None = None
    block_height: str | None = None
    block_time: str | None = None


class TradeHistoryFields(_WireRow, kw_only=True):
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


class ComplianceFields(_Wire, kw_only=True):
    """How an address stands: COMPLIANT, FIRST_STRIKE…, CLOSE_ONLY or BLOCKED, and why."""

    status: str
    reason: str | None = None
    updated_at: str | None = None


class ScreenFields(_Wire, kw_only=True):
    """Whether an address is refused, as the older endpoint reports it."""

    restricted: bool
    reason: str | None = None


# === Endpoints ===
# The endpoints of the indexer's REST interface: each path with the shape of its answer, and how
# a list is walked. Channels, decoding and `Rest` read this one table; nothing here sends a request.

_MOST: Final = 1000  # rows that an answer may have


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint of the indexer: `{name}` in its path is filled in, all else is its query.

    `part` of the answer is its value, or all of it. Of a list `key` identifies a row; it
    is walked by `pages`, and back in time from a row's `time` by the parameter `bound`. `parent`
    is the path of its twin, which answers for all children of a parent. A page of it has `rows`.
    """

    path: str
    shape: Any
    part: str = ""
    parent: str = ""
    key: tuple[str, ...] = ()
    pages: bool = False
    time: str = ""
    bound: str = ""
    rows: int = 100


# The type `list[shape]` of a shape made at run time, where mypy would take that for a variable.
_many = list.__class_getitem__


class _Between(_Page, kw_only=True):
    transfers_subset: list[TransferFields]
    total_net_transfers: str


def _page(part: str, row: type) -> Any:
    # The shape of a list that no layer above names: it has one field of its own.
    return msgspec.defstruct("Page", [(part, _many(row))], bases=(_Page,), kw_only=True)


def _list(path: str, part: str, row: type, *key: str, **walk: Any) -> Endpoint:
    # Of an account.
    twin = "/parentSubaccount" if "funding" in path else "/parentSubaccountNumber"
    return Endpoint(path, _page(part, row), part, path + twin, key, **walk)


_IN_TIME: Final[Any] = {"time": "created_at", "bound": "createdBeforeOrAt"}
_PAGED: Final[Any] = {"pages": True, **_IN_TIME}


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "perpetual_markets": Endpoint("/v4/perpetualMarkets", _AllMarkets, "markets"),
    "order_book": Endpoint("/v4/orderbooks/perpetualMarket/{ticker}", _BookSnapshot),
    "trades": Endpoint("/v4/trades/perpetualMarket/{ticker}", TradesContents, "trades",
                       key=("id",), **_PAGED),
    "candles": Endpoint("/v4/candles/perpetualMarkets/{ticker}", CandlesContents, "candles",
                        key=("started_at",), time="started_at", bound="toISO", rows=240),
    "historical_funding": Endpoint("/v4/historicalFunding/{ticker}",
                                   _page("historical_funding", FundingFields),
                                   "historical_funding", key=("effective_at",),
                                   time="effective_at", bound="effectiveBeforeOrAt", rows=240),
    "sparklines": Endpoint("/v4/sparklines", Sparklines),
    "height": Endpoint("/v4/height", HeightContents),
    "time": Endpoint("/v4/time", TimeFields),
    "screen": Endpoint("/v4/screen", ScreenFields),
    "compliance": Endpoint("/v4/compliance/screen/{address}", ComplianceFields),
    "subaccounts": Endpoint("/v4/addresses/{address}", _page("subaccounts", SubaccountFields),
                            "subaccounts"),
    "subaccount": Endpoint(
        "/v4/addresses/{address}/subaccountNumber/{subaccountNumber}",
        _OneSubaccount, "subaccount",
        "/v4/addresses/{address}/parentSubaccountNumber/{parentSubaccountNumber}"),
    "positions": _list("/v4/perpetualPositions", "positions", PositionFields,
                       "market", "created_at", "subaccount_number", **_IN_TIME),
    "asset_positions": _list("/v4/assetPositions", "positions", AssetPositionFields, "symbol"),
    "orders": Endpoint("/v4/orders", list[OrderFields], "",
                       "/v4/orders/parentSubaccountNumber", key=("id",)),
    "order": Endpoint("/v4/orders/{id}", OrderFields),
    "fills": _list("/v4/fills", "fills", FillFields, "id", **_PAGED),
    "trade_history": _list("/v4/tradeHistory", "trade_history", TradeHistoryFields, "id"),
    "transfers": _list("/v4/transfers", "transfers", TransferFields, "id", **_PAGED),
    "transfers_between": Endpoint("/v4/transfers/between", _Between, "transfers_subset"),
    "funding_payments": _list("/v4/fundingPayments", "funding_payments", FundingPaymentFields,
                              "ticker", "created_at", "subaccount_number", pages=True),
    "historical_pnl": _list("/v4/historical-pnl", "historical_pnl", PnlFields,
                            "created_at", "block_height", **_PAGED),
    "pnl": _list("/v4/pnl", "pnl", PnlFields, "created_at"),
}  # fmt: skip

# === Channels ===
# The socket's channels. Subscribing, decoding, polling, the count of lost messages and the layers
# above read this one table: a new channel is a row of it.

Key = tuple[str, str]  # a channel and an id: what a subscription is for

PER_CONNECTION: Final = 32  # subscriptions to one channel that a connection may hold (socks)


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel is subscribed to by, sends, and is replaced by where its socket fails.

    `kind` is what it carries. `id` names the parts of its ids as REST names them; a channel
    without ids is one for all, and its messages repeat its name in place of one. `snapshot` is
    the shape of what it sends first, `update` of what follows. `rest` are the endpoints that its
    snapshot is made from, and that replace it. With `changes` an update holds only what changed:
    what fell between snapshot and subscription has to be requested. `version` is of its updates.
    Silent for longer than `quiet_s`, it may be dead: REST is requested to compare.
    """

    name: str
    kind: str
    id: str = ""
    version: str = "1.0.0"
    batched: bool = False
    changes: bool = False
    quiet_s: float = 30.0
    snapshot: Any
    update: Any
    rest: tuple[Endpoint, ...]

    @property
    def is_global(self) -> bool:
        """Return whether there is one for all, without ids."""
        return not self.id

    def parameters(self, id_: str) -> dict[str, Any]:
        """Return the parts of an id by their names."""
        return dict(zip(self.id.split("/"), id_.split("/"), strict=False)) if self.id else {}


def _of_accounts(name: str, id_: str) -> Channel:
    rest = tuple(ENDPOINTS[what] for what in ("subaccount", "orders", "fills", "transfers"))
    return Channel(
        name=name, kind="account", id=id_, version="3.0.0", changes=True,
        snapshot=SubaccountContents, update=SubaccountContents, rest=rest,
    )  # fmt: skip


CHANNELS: Final[dict[str, Channel]] = {row.name: row for row in (
    Channel(name="v4_markets", kind="markets", batched=True,
            snapshot=_AllMarkets, update=MarketsContents,
            rest=(ENDPOINTS["perpetual_markets"],)),
    Channel(name="v4_block_height", kind="block", quiet_s=3.0,
            snapshot=HeightContents, update=HeightContents, rest=(ENDPOINTS["height"],)),
    Channel(name="v4_orderbook", kind="book", id="ticker", batched=True, changes=True,
            quiet_s=4.0,
            snapshot=_BookSnapshot, update=BookContents, rest=(ENDPOINTS["order_book"],)),
    Channel(name="v4_trades", kind="trades", id="ticker", version="2.1.0", batched=True,
            snapshot=TradesContents, update=TradesContents, rest=(ENDPOINTS["trades"],)),
    Channel(name="v4_candles", kind="candles", id="ticker/resolution", batched=True,
            snapshot=CandlesContents, update=CandleFields, rest=(ENDPOINTS["candles"],)),
    _of_accounts("v4_subaccounts", "address/subaccountNumber"),
    _of_accounts("v4_parent_subaccounts", "address/parentSubaccountNumber"),
)}  # fmt: skip


# How many seconds a candle of each resolution lasts.
CANDLE_S: Final[Mapping[str, int]] = {
    "1MIN": 60, "5MINS": 300, "15MINS": 900, "30MINS": 1_800, "1HOUR": 3_600, "4HOURS": 14_400,
    "1DAY": 86_400,
}  # fmt: skip


def key_of(frame: Frame) -> Key:
    """Return the channel and id that a message or a request is about, or an answer stands in for.

    A channel that has no ids has none here. What stands in for no channel is about ("", "").
    """
    if frame.kind == "http":
        return _key_of_answer(frame.channel)
    row = CHANNELS.get(frame.channel)
    return (frame.channel, "" if row is not None and row.is_global else frame.id)


def subscription(text: str) -> Key:
    """Read CHANNEL or CHANNEL:ID; `ConnError` says what was expected.

    >>> subscription("v4_candles:BTC-USD/1MIN")
    ('v4_candles', 'BTC-USD/1MIN')
    """
    channel, _, id_ = text.partition(":")
    if (row := CHANNELS.get(channel)) is None:
        raise ConnError(f"expected a channel of {', '.join(CHANNELS)}, got {channel!r}")
    names, parts = (text.split("/") if text else [] for text in (row.id, id_))
    if len(parts) != len(names) or not all(parts):
        form = f"{channel}:{row.id}" if row.id else channel
        raise ConnError(f"expected {form}, got {text!r}")
    return channel, id_


def subscriptions(
    tickers: Iterable[str], resolutions: Iterable[str] = (), subaccount: Subaccount | None = None,
    *, parent: bool = False, also: Iterable[Key] = (),
) -> list[list[Key]]:  # fmt: skip
    """Spread subscriptions over as few connections as hold them; the first has the global ones.

    >>> [len(keys) for keys in subscriptions([f"M{n}-USD" for n in range(40)])]
    [66, 16]
    """
    rows, resolutions = [*CHANNELS.values()], tuple(resolutions)
    keys = [(row.name, "") for row in rows if row.is_global]
    for ticker in dict.fromkeys(tickers):
        ids = {"ticker": [ticker], "ticker/resolution": [f"{ticker}/{x}" for x in resolutions]}
        keys += [(row.name, id_) for row in rows for id_ in ids.get(row.id, ())]
    if subaccount is not None:
        whose = "address/parentSubaccountNumber" if parent else "address/subaccountNumber"
        keys += [(row.name, str(subaccount)) for row in rows if row.id == whose]
    counts: Counter[str] = Counter()
    groups: defaultdict[int, list[Key]] = defaultdict(list)
    for channel, id_ in dict.fromkeys([*keys, *also]):
        groups[counts[channel] // PER_CONNECTION].append((channel, id_))
        counts[channel] += 1
    return [*groups.values()]


@lru_cache(maxsize=1_024)
def _endpoint_of(route: str) -> tuple[Endpoint, str, Mapping[str, str]] | None:
    """Return the endpoint of a path, which of its patterns matched, and what fills that."""
    extra = (endpoint for row in CHANNELS.values() for endpoint in row.rest)
    for endpoint in (*ENDPOINTS.values(), *extra):
        for path in filter(None, (endpoint.path, endpoint.parent)):
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
            if found := re.fullmatch(pattern, route):
                return endpoint, path, {name: unquote(x) for name, x in found.groupdict().items()}
    return None


def _key_of_answer(target: str) -> Key:
    route, _, query = target.partition("?")
    if (found := _endpoint_of(route)) is not None:
        filled = {**found[2], **dict(parse_qsl(query))}
        for row in CHANNELS.values():
            names = row.id.split("/") if row.id else []
            if found[0] in row.rest and filled.keys() >= {*names}:
                return row.name, "/".join(filled[name] for name in names)
    return ("", "")


# === Decoding ===
# From text to values: an envelope makes a frame, and what was requested (a channel, a path, the
# name of a request to a node) decides the type. Any text ends in values or in a `WireError`.


class OddRow(msgspec.Struct, frozen=True):
    """A row that is not of its shape: the list or table it is in, its name there, and why."""

    part: str
    name: str
    row: Any
    reason: str

    def __str__(self) -> str:
        """Return it in one line."""
        where = f"{self.part} {self.name}".strip()
        return f"{where}: {self.reason[:1].lower()}{self.reason[1:]}, in {self.row!r:.80}"


class _Envelope(msgspec.Struct, gc=False):
    type: str
    message_id: int = 0
    channel: str = ""
    id: str | None = None
    contents: msgspec.Raw = msgspec.Raw(b"")


_TYPES: Final = ("subscribed", "channel_data", "channel_batch_data")
_DECODERS: Final[dict[tuple[str, str], Callable[[msgspec.Raw], Any]]] = {}  # made when needed
_SHAPES: Final[dict[tuple[str, str], Any]] = {}  # of the decoders
# Those of which a whole value is the list of updates, as of nearly all messages.
_WHOLE: Final[dict[tuple[str, str], Callable[[msgspec.Raw], list[Any]]]] = {}
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
# What decoding a text can raise; brackets that nest too deep are a RecursionError.
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
# A message without contents is still a message; only these types may have none.
_CONTROL = frozenset(["connected", "unsubscribed", "error", "pong"])

MAX_TEXT: Final = 16 * 1024 * 1024


def ws_frame(seq: int, at: int, mono: int, link: str, text: str) -> Frame:
    """Make a frame of one message from the server; never fails, a bad text gets a `fault`."""
    try:
        if len(text) > MAX_TEXT:
            raise msgspec.DecodeError(f"expected at most {MAX_TEXT} characters, got {len(text)}")
        if "\ufffd" in text:
            # Where a byte was no character. It may parse, short of a level: better lost and known.
            raise msgspec.DecodeError("expected UTF-8, got a corrupted byte")
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

    The channel decides the type, as the path does for an answer; `WireError` if it cannot. An
    answer with another status than 200 is `ErrorsContents`, whatever its body. A row that is not
    of its shape is left out, see `odd_rows`. A second call for the same frame returns the same
    list: do not change it.
    """
    last = _LAST[0]
    if last[0] is frame:
        return last[1]
    if frame.kind == "ws" and (decode := _WHOLE.get((frame.type, frame.channel))) is not None:
        try:
            _LAST[0] = frame, decode(frame.raw), ()
            return _LAST[0][1]
        except _UNREADABLE:
            pass  # row by row, then
    if frame.fault:
        raise WireError(frame.fault)
    if frame.kind == "http":
        odd: list[OddRow] = []
        _LAST[0] = frame, [_answer_in(frame, odd)], odd
    elif frame.kind != "ws" or frame.type in _CONTROL:
        return []
    else:
        _LAST[0] = frame, *_updates(frame)
    return _LAST[0][1]


def odd_rows(frame: Frame) -> Sequence[OddRow]:
    """Return the rows that `contents` leaves out of a frame, each with its reason."""
    if _LAST[0][0] is not frame:
        contents(frame)
    of, _, odd = _LAST[0]
    return odd if of is frame else ()


# `live` looks whether an update can be read, then the layers above read it: decoded once.
_LAST: Final[list[tuple[Frame | None, list[Any], Sequence[OddRow]]]] = [(None, [], ())]


def _answer_in(frame: Frame, odd: list[OddRow]) -> Any:
    # A node's status is the chain's verdict on what was sent, in an answer of the same shape.
    if frame.link != "node" and not frame.ok:
        return _refusal_in(frame.text)
    return rest_contents(frame.channel, frame.text, odd)


def _updates(frame: Frame) -> tuple[list[Any], Sequence[OddRow]]:
    odd: Sequence[OddRow] = ()
    decode = _DECODERS.get((frame.type, frame.channel)) or _decoder(frame.type, frame.channel)
    try:
        decoded = decode(frame.raw)
    except _UNREADABLE as error:
        odd = []
        decoded = _readable_part(frame.raw, _SHAPES[frame.type, frame.channel], error, odd)
        if decoded is None:
            what = f"{frame.type} contents of {frame.channel}"
            raise WireError(f"expected {what}, got {frame.text[:80]!r}: {error}") from None
    if type(decoded) is _BookSnapshot:
        return [decoded.book()], odd
    updates = decoded if isinstance(decoded, list) else [decoded]
    if frame.channel == "v4_candles" and not frame.is_snapshot:
        return [CandlesContents(candles=[candle]) for candle in updates], odd
    return updates, odd


def _decoder(type_: str, channel: str) -> Callable[[msgspec.Raw], Any]:
    row = CHANNELS.get(channel)
    if row is None or type_ not in _TYPES:
        raise WireError(f"expected a known message, got {type_!r} on {channel!r}")
    shape = row.snapshot if type_ == "subscribed" else row.update
    is_batch = type_ == "channel_batch_data"
    shape = _SHAPES[type_, channel] = _many(shape) if is_batch else shape
    decode = _DECODERS.setdefault((type_, channel), msgspec.json.Decoder(shape).decode)
    if is_batch and channel != "v4_candles":
        _WHOLE[type_, channel] = decode
    return decode


# -- Row by row, where the whole cannot be read


def _readable_part(
    text: msgspec.Raw | str, shape: Any, error: Exception, odd: list[OddRow]
) -> Any | None:
    """Return a value without the rows that are not of their shape; None if nothing is left."""
    sieve = _Sieve()
    with contextlib.suppress(*_UNREADABLE):
        if isinstance(error, msgspec.ValidationError):
            given = sieve.sift(msgspec.json.decode(text), type_info(shape))
            decoded = msgspec.convert(given, shape)
            odd += sieve.odd
            return decoded if sieve.good else None
    return None


class _Sieve:
    """What sorts rows by whether they are of their shape, in a plain value of any depth."""

    def __init__(self) -> None:
        self.odd: list[OddRow] = []
        self.good = 0

    def sift(self, given: Any, of: Type, part: str = "", name: str = "") -> Any:
        """Return a value without its odd rows; `_LEFT_OUT` if it is one."""
        if isinstance(of, UnionType):
            of = next((one for one in of.types if isinstance(one, _COMPOUND)), of)
        if isinstance(of, StructType) and issubclass(of.cls, _WireRow):
            return self._judged(given, of.cls, part, name)
        if isinstance(of, StructType) and isinstance(given, dict):
            types = {field.encode_name: field.type for field in of.fields}
            return self._each((k, v, types[k], k, "") for k, v in given.items() if k in types)
        if isinstance(of, DictType) and isinstance(given, dict):
            return self._each((k, v, of.value_type, part, k) for k, v in given.items())
        if isinstance(of, ListType) and isinstance(given, list):
            rows = enumerate(given)
            taken = self._each((n, v, of.item_type, part, _name_in(v, n)) for n, v in rows)
            return [*taken.values()]
        return given

    def _each(self, parts: Iterable[tuple[Any, Any, Type, str, str]]) -> dict[Any, Any]:
        sifted = {key: self.sift(*given) for key, *given in parts}
        return {key: value for key, value in sifted.items() if value is not _LEFT_OUT}

    def _judged(self, row: Any, shape: type, part: str, name: str) -> Any:
        try:
            msgspec.convert(row, shape)
        except msgspec.ValidationError as error:
            self.odd.append(OddRow(part, name, row, str(error)))
            return _LEFT_OUT
        self.good += 1
        return row


_LEFT_OUT: Final = object()
_COMPOUND: Final = (StructType, DictType, ListType)


def _name_in(row: Any, number: int) -> str:
    names = [row.get(name) for name in ("id", "market", "symbol")] if isinstance(row, dict) else []
    return next((name for name in names if isinstance(name, str)), str(number))


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
        what = f"expected the parameters of market {fields.ticker}"
        raise WireError(f"{what}, got {type(error).__name__}: {error}") from None


def rest_contents(path: str, body: str, odd: list[OddRow] | None = None) -> Any:
    """Decode the body of a 200 by the path that was requested; a refusal is `ErrorsContents`.

    `WireError` if the path is unknown or the body is not what it should answer. With a list
    `odd`, rows that are not of their shape are left out and added to that.
    """
    route = path.partition("?")[0]
    found = _endpoint_of(route)
    shape = _NODE_ANSWERS.get(route) if found is None else found[0].shape
    if shape is None:
        raise WireError(f"expected the path of an indexer endpoint, got {path!r}")
    if (refusal := _refused(body)) is not None:
        return refusal
    try:
        decoded = _answer_decoder(shape)(body)
    except _UNREADABLE as error:
        decoded = None if odd is None else _readable_part(body, shape, error, odd)
        if decoded is None:
            what = f"expected the answer of {route}"
            raise WireError(f"{what}, got {body[:80]!r}: {error}") from None
    return decoded.book() if type(decoded) is _BookSnapshot else decoded


def node_contents(kind: str, text: str) -> Any:
    """Decode a node's answer in JSON by the name of the request, as `rest_contents` a path."""
    return rest_contents(kind, text)


def _refused(body: str) -> ErrorsContents | None:
    with contextlib.suppress(*_UNREADABLE):
        return msgspec.json.decode(body, type=ErrorsContents)
    return None


def _refusal_in(body: str) -> ErrorsContents:
    """Read a body that is no answer: the indexer's own refusal, or what a proxy writes."""
    return _refused(body) or ErrorsContents(errors=[ErrorFields(msg=_words_in(body))])


def _words_in(body: str) -> str:
    if re.match(r"\s*<(!doctype|html)", body, re.IGNORECASE):
        title = re.search(r"<title>([^<]{0,80})", body[:10_000], re.IGNORECASE)
        return f"a page of HTML, {title[1].strip()!r}" if title else "a page of HTML"
    with contextlib.suppress(*_UNREADABLE):
        given = msgspec.json.decode(body, type=dict[str, Any])
        words = (given.get(name) for name in ("message", "error", "detail", "title"))
        if word := next((word for word in words if word and isinstance(word, str)), ""):
            return repr(word[:80])
    return repr(body[:80]) if body else "an empty body"


def is_never_funded(path: str, status: int, body: str) -> bool:
    """Return whether an answer is that the indexer knows no such subaccount.

    A proxy's 404 is not: only the indexer writes its refusals as it does.
    """
    is_account = path.startswith("/v4/addresses/") and status == 404
    return is_account and _refused(body) is not None


@lru_cache(maxsize=64)
def _answer_decoder(shape: Any) -> Callable[[str], Any]:
    return msgspec.json.Decoder(shape).decode


def _texts(*names: str) -> Any:
    return _with(**dict.fromkeys(names, str))


def _with(**fields: Any) -> Any:
    return msgspec.defstruct("Answer", list(fields.items()), bases=(_Wire,))


_TIERS = _many(_with(usd_tnc_required=str, limit=int))
_EQUITY_TIERS = _with(short_term_order_equity_tiers=_TIERS, stateful_order_equity_tiers=_TIERS)
_FEE_TIER = _with(name=str, absolute_volume_requirement=str, maker_fee_ppm=int, taker_fee_ppm=int)
_NODE_ANSWERS: Final[Mapping[str, Any]] = {
    "equity_tiers": _with(equity_tier_limit_config=_EQUITY_TIERS),
    "fee_tiers": _with(params=_with(tiers=_many(_FEE_TIER))),
    "user_fee_tier": _with(index=int, tier=_FEE_TIER),
    "withdrawal_capacity": _with(limiter_capacity_list=_many(_texts("capacity"))),
    "broadcast": _with(result=_with(code=int, log=str, codespace=str, hash=str)),
    "latest_block": _with(result=_with(block=_with(header=_texts("height", "time")))),
    "genesis": msgspec.defstruct("Genesis", [("chain_id", str), ("genesis_time", str)]),
}

# === Past rows ===
# A venue's lists of the past: what a row of each is, and where in the chain it stands.


class _PastRow(_Wire, kw_only=True):
    # What places a row in time, whichever list it is of.
    id: str = ""
    ticker: str = ""
    created_at: str = ""
    created_at_height: str = ""
    started_at: str = ""
    resolution: str = ""
    rate: str = ""
    price: str = ""
    effective_at: str = ""
    effective_at_height: str = ""


class _Past(msgspec.Struct, frozen=True, order=True, gc=False):
    # A row in the order in which rows are played: candles are over before what comes at their
    # end, and an hour's funding is settled before the trades of its block.
    at: int
    rank: int
    height: int
    order: int
    key: str
    about: str  # the id of its message
    text: str
    time: str = ""


_CANDLE, _FUNDING, _TRADE = range(3)
_decode_past = msgspec.json.Decoder(_PastRow).decode
_decode_lists = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_EVENT: Final = re.compile("[0-9a-f]{24}")


def _height(text: str) -> int:
    return int(text) if text else 0


def _placed_trade(row: _PastRow, names: Mapping[str, str], text: str) -> tuple[_Past, int]:
    # The socket's rows have no height, but their ids begin with it.
    stated = row.created_at_height or (str(int(row.id[:8], 16)) if _EVENT.fullmatch(row.id) else "")
    at, height, about = instant(row.created_at), _height(stated), names["ticker"]
    # One without an id is known from others by all that it is.
    return _Past(at, _TRADE, height, 0, row.id or text, about, text, row.created_at), at


def _placed_candle(row: _PastRow, names: Mapping[str, str], text: str) -> tuple[_Past, int]:
    started_at, resolution = instant(row.started_at), row.resolution or names["resolution"]
    if (period_s := CANDLE_S.get(resolution)) is None:
        raise ValueError(f"expected a known resolution, got {resolution[:40]!r}")
    end, about = started_at + period_s * _SECOND, f"{names['ticker']}/{resolution}"
    return _Past(end, _CANDLE, 0, period_s, row.started_at, about, text), started_at


def _placed_funding(row: _PastRow, names: Mapping[str, str], text: str) -> tuple[_Past, int]:
    at, height = instant(row.effective_at), _height(row.effective_at_height)
    number(row.rate), number(row.price)
    about = names["ticker"]
    return _Past(at, _FUNDING, height, 0, row.effective_at, about, text, row.effective_at), at


class _Place(NamedTuple):
    # Of a list: its kind, which part of a page it is, and what places a row of it.
    kind: str
    part: str
    place: Callable[..., tuple[_Past, int]]


_PLACES: Final[Mapping[str, _Place]] = {
    ENDPOINTS["trades"].path: _Place("trades", "trades", _placed_trade),
    ENDPOINTS["candles"].path: _Place("candles", "candles", _placed_candle),
    ENDPOINTS["historical_funding"].path: _Place("funding", "historicalFunding", _placed_funding),
}

_OF_NO_LIST: Final = _Place("", "", _placed_trade)


# === History ===
# What a venue has of the past is lists, by pages. Unfolded they are the frames that a link would
# have carried: each row at its own time, its text unchanged, none before it happened.

HISTORY: Final = "history"  # the link that frames of the past come on
_PULSE_NS: Final = _SECOND  # after a block with rows one more comes, in which orders arrive
_QUIET_NS: Final = 10 * _SECOND  # and one now and then where nothing happens: it is not silence
_JUST_NS: Final = 1_000_000  # before the full ten seconds, so that candles find the height of then
_FASTEST_BLOCK_NS: Final = _SECOND // 2

# What a market's description says of the day on which it was fetched, not of the day played.
_OF_THE_DAY: Final = frozenset([
    "oraclePrice", "price", "nextFundingRate", "openInterest", "baseOpenInterest",
    "priceChange24H", "volume24H", "trades24H",
])  # fmt: skip

# A market that has ended since was traded until then: whether it still is, nobody knew.
_TRADED: Final = msgspec.Raw(b'"ACTIVE"')


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording holds of the past: pages of lists, in place of frames as they came.

    A page's frame (`http`) has as its `id` the start of its window (ISO, UTC); windows of
    `window_s` come in order from `since_ns` to `until_ns`, and of a page what lies within its
    window counts. `kinds` are among trades, candles and funding, `origin` says where it is from
    if that is not the venue.
    """

    markets: tuple[str, ...]
    kinds: tuple[str, ...]
    since_ns: int
    until_ns: int
    window_s: int
    origin: str = ""


def unfold(
    history: History,
    frames: Iterable[Frame],
    server: str = "",
    kinds: Sequence[str] | None = None,
) -> Iterator[Frame]:
    """Turn the frames of fetched pages into those of the link "history", in block order.

    First the link opens and describes the markets, as active and with the parameters of the day of
    the fetch; then each row comes at its own time, a candle at its end, an hour's funding with its
    price. Between them stand blocks: one a second after each with rows, then every 10 s, of a
    height that is reckoned from the rows before it; of all of them, where there are no trades:
    there one more follows the candles of an end. Without funding rates the market's default is
    charged. What cannot be read, or should be there and is not, is a gap. At most one window, and
    the candles that outlast it, is in memory. Pages of other `kinds` are left out; None is all.
    """
    unfolding = _Unfolding(history, server, kinds)
    for frame in frames:
        if frame.kind == "gap":
            unfolding.lose(frame.text)
        elif frame.kind == "http" and not frame.id:
            unfolding.describe(frame)
        elif frame.kind == "http":
            yield from unfolding.take(frame)
    yield from unfolding.play()


class _PastChain:
    """The newest block, and how high the next one stands of which no row says it.

    It follows the pace of the rows so far: an order is good for some blocks, and would be over
    before it arrived if all that a silence took came at once. If the next rows are of a height
    that is reckoned already, they join the block at hand. Where no row has a height it stands
    still while nothing happens: what waits for a candle may not end before that is over.
    """

    __slots__ = ("_first", "_last", "advances", "at", "height")

    def __init__(self) -> None:
        self.height = self.at = 0
        self.advances = False  # something has happened since
        self._first = self._last = (0, 0)  # rows: a height, and its time

    def see(self, height: int, at: int) -> None:
        """Take the height of a row."""
        self._last = height, at
        if not self._first[0]:
            self._first = self._last

    def reckoned(self, at: int) -> int:
        """Return the height of a block without rows."""
        least = self.height + (self.advances or at // _HOUR != self.at // _HOUR)
        (first, first_at), (last, last_at) = self._first, self._last
        if not last:
            return least
        span = last_at - first_at
        usual, per_ns = (last - first, span) if span >= _MINUTE else (1, _SECOND)
        return max(last + usual * (at - last_at) // per_ns, least)

    def enter(self, height: int, at: int) -> None:
        """Go on to a block."""
        self.height, self.at, self.advances = height, at, False


class _Unfolding:
    """The window at hand, and how far the link has come."""

    def __init__(self, history: History, server: str, kinds: Sequence[str] | None) -> None:
        self._history, self._server, self._kinds = history, server, kinds
        self._decides_by_candles = "trades" not in history.kinds
        self._seq, self._messages = 0, -1
        self._window = 0
        self._rows: list[_Past] = []
        self._seen: set[tuple[str, str]] = set()
        self._gaps: list[str] = []
        self._described: dict[str, msgspec.Raw] = {}
        self._tip = (0, 0)  # the height of the day of the fetch, and its time
        self._at, self._chain, self._owes_pulse = 0, _PastChain(), False

    def describe(self, page: Frame) -> None:
        """Take what was requested once: the markets, and how high the chain stood."""
        try:
            if page.path == "/v4/perpetualMarkets" and page.ok and not self._seq:
                self._described |= _without_the_day(page.text, self._history)
            elif page.path == "/v4/height" and page.ok:
                self._tip = rest_contents(page.channel, page.text).block
        except (ConnError, ValueError, AttributeError, *_UNREADABLE) as error:
            self.lose(f"{page.path} cannot be read: {error}")

    def take(self, page: Frame) -> Iterator[Frame]:
        """Take a page; play the window before it, if it is of the next one."""
        try:
            window = instant(page.id)
        except ValueError:
            return self.lose(f"expected a page with the start of its window, got {page.id[:40]!r}")
        if not self._history.since_ns <= window < self._history.until_ns:
            return self.lose(f"expected a window of the span of the header, got {page.id[:40]}")
        if window < self._window:
            return self.lose(f"expected windows in their order, got {page.id} late")
        if window > self._window:
            yield from self.play(window) if self._window else ()
            if window != (due := self._due()):
                self.lose(f"expected the window of {_iso(due)}, got that of {page.id} next")
            self._window = window
        found = _endpoint_of(page.path)
        kind = found[0].path if found else ""
        lists = _PLACES.get(kind, _OF_NO_LIST)
        if self._kinds is not None and lists.kind not in self._kinds:
            return
        if not page.ok:
            return self.lose(f"expected the answer of {page.channel[:120]}, got {page.type}")
        self._read(page, lists, found[2] if found else {})

    def _due(self) -> int:
        """Return the start of the window that has to come next."""
        step = self._history.window_s * _SECOND
        return self._window + step if self._window else self._history.since_ns

    def lose(self, why: str) -> None:
        """Report, with the window at hand, that something of it is lost."""
        self._gaps.append(why)

    def play(self, until: int = 0) -> Iterator[Frame]:
        """Play all rows, or those before `until` with the candles that end there."""
        if not self._seq:
            yield from self._begin()
        yield from self._lost()
        self._seen.clear()
        rows = sorted(self._rows)
        end = bisect_left(rows, (until, _FUNDING), key=lambda row: (row.at, row.rank))
        rows, self._rows = (rows[:end], rows[end:]) if until else (rows, [])
        for place, alike in itertools.groupby(rows, lambda row: (row.at, row.rank, row.height)):
            yield from self._pass(place[0])
            yield from self._play([*alike])
        if not until:
            yield from self._end()

    def _end(self) -> Iterator[Frame]:
        """Let time pass to the end of the last window: of what is behind it nothing is known."""
        end, due = self._history.until_ns, self._due()
        yield from self._pass(max(min(end, due), self._at + 2 * _PULSE_NS))
        if due < end:
            self.lose(f"expected the window of {_iso(due)}, got the end")
        yield from self._lost()

    def _lost(self) -> Iterator[Frame]:
        for why in self._gaps:
            self._seq += 1
            yield Frame(self._seq, self._at, self._at, HISTORY, "gap", why)
        self._gaps.clear()

    def _play(self, group: list[_Past]) -> Iterator[Frame]:
        """Play rows of one kind and block; an hour's funding before the block that charges it."""
        first = group[0]
        self._at = max(self._at, first.at)
        if is_hour := first.rank == _FUNDING:
            yield from self.funding(group)
        chain = self._chain
        if first.height:
            chain.see(first.height, self._at)
        if first.height > chain.height or is_hour:
            yield self._block(max(first.height, chain.height + 1), self._at, first.time)
        if not is_hour:
            yield from (self.trades if first.rank == _TRADE else self.candles)(group)
        if first.rank == _CANDLE and self._decides_by_candles and self._at % _HOUR:
            yield self._block(chain.height, self._at)  # all of them are known now
        chain.advances = True
        self._owes_pulse = self._owes_pulse or first.rank != _CANDLE

    def _begin(self) -> Iterator[Frame]:
        self._at = self._window or self._history.since_ns
        self._seq += 1
        yield Frame(self._seq, self._at, self._at, HISTORY, "open", self._server)
        yield self._frame('"type":"connected","connection_id":"history"')
        if self._described:
            markets = msgspec.json.encode({"markets": self._described}).decode()
            yield self._message("v4_markets", markets, kind="subscribed")
        else:
            self.lose("the page of /v4/perpetualMarkets is missing: no market is described")
        height, time_ns = self._tip
        earlier = height - (time_ns - self._at) // _FASTEST_BLOCK_NS  # no block came faster
        first = min((row.height - 1 for row in self._rows if row.height), default=earlier)
        yield self._block(max(first, 1), self._at)

    def _pass(self, until: int) -> Iterator[Frame]:
        """Make the blocks before an instant, of heights that do not depend on what comes then."""
        while True:
            since = max(self._chain.at, self._at)
            just = 0 if self._decides_by_candles else _JUST_NS
            quiet = (since + just) // _QUIET_NS * _QUIET_NS + _QUIET_NS - just
            if quiet % _HOUR == 0:
                quiet += _QUIET_NS
            at = since + _PULSE_NS if self._owes_pulse else quiet
            if at // _HOUR != since // _HOUR:
                at = quiet  # the block that begins an hour is that of its funding
            if at >= until:
                return
            self._at = at
            yield self._block(self._chain.reckoned(at), at)

    def _block(self, height: int, at: int, time: str = "") -> Frame:
        self._chain.enter(height, at)
        self._owes_pulse = False
        fields = f'{{"blockHeight":"{height}","time":"{time or _iso(at)}"}}'
        return self._message("v4_block_height", fields, "v4_block_height")

    def trades(self, rows: list[_Past]) -> Iterator[Frame]:
        """Play the trades of a block, market by market."""
        by_ticker: dict[str, list[str]] = {}
        for row in rows:
            by_ticker.setdefault(row.about, []).append(row.text)
        for ticker, texts in by_ticker.items():
            yield self._message("v4_trades", f'{{"trades":[{",".join(texts)}]}}', ticker)

    def candles(self, rows: list[_Past]) -> Iterator[Frame]:
        """Play candles, the shorter ones first."""
        for row in rows:
            yield self._message("v4_candles", row.text, row.about)

    def funding(self, rows: list[_Past]) -> Iterator[Frame]:
        """Play an hour's rates and prices, of all markets at once: all are charged at once."""
        trading: dict[str, Any] = {}
        prices: dict[str, Any] = {}
        for row in rows:
            given = _decode_past(row.text)
            trading[row.about] = {"nextFundingRate": given.rate}
            prices[row.about] = {
                "oraclePrice": given.price, "effectiveAt": given.effective_at,
                "effectiveAtHeight": given.effective_at_height,
            }  # fmt: skip
        contents = {"trading": trading, "oraclePrices": prices}
        yield self._message("v4_markets", msgspec.json.encode(contents).decode())

    def _message(
        self, channel: str, contents: str, id_: str = "", kind: str = "channel_data"
    ) -> Frame:
        about = f'"id":{msgspec.json.encode(id_).decode()},' if id_ else ""
        head = f'"type":"{kind}","connection_id":"history",{about}"channel":"{channel}"'
        version = CHANNELS[channel].version
        return self._frame(f'{head},"version":"{version}","contents":{contents}')

    def _frame(self, fields: str) -> Frame:
        self._seq += 1
        self._messages += 1
        text = f'{{{fields},"message_id":{self._messages}}}'
        return ws_frame(self._seq, self._at, self._at, HISTORY, text)

    def _read(self, page: Frame, of: "_Place", named: Mapping[str, str]) -> None:
        """Add a page's rows of its window, each once."""
        try:
            rows = _decode_rows(_decode_lists(page.text)[of.part])
        except (KeyError, *_UNREADABLE) as error:
            return self.lose(f"expected the answer of {page.channel[:120]}, got {error}")
        names = {**named, **dict(parse_qsl(page.channel.partition("?")[2]))}
        until, odd = self._window + self._history.window_s * _SECOND, []
        for raw in rows:
            try:
                row, inside = of.place(_decode_past(raw), names, bytes(raw).decode())
            except (ValueError, ConnError, KeyError, *_UNREADABLE) as error:
                odd.append(error)
                continue
            if "trades" not in self._history.kinds:
                row = msgspec.structs.replace(row, height=0)
            name = (f"{row.rank} {row.about}", row.key)
            if self._window <= inside < until and name not in self._seen:
                self._seen.add(name)
                self._rows.append(row)
        if odd:
            which = f"{len(odd)} of {len(rows)} rows of {page.channel[:120]}"
            self.lose(f"{which} cannot be read: {str(odd[0])[:200]}")


def _without_the_day(text: str, history: History) -> dict[str, Any]:
    """Return the descriptions of the history's markets without what was not known then."""
    shape = dict[str, dict[str, dict[str, msgspec.Raw]]]
    described: dict[str, Any] = {}
    for ticker, fields in msgspec.json.decode(text, type=shape)["markets"].items():
        if ticker in history.markets:
            lasting = {name: raw for name, raw in fields.items() if name not in _OF_THE_DAY}
            lasting["status"] = _TRADED
            if "funding" not in history.kinds:
                usual = fields.get("defaultFundingRate1H", msgspec.Raw(b'"0"'))
                lasting["nextFundingRate"] = usual
            described[ticker] = lasting
    return described


# === Recording format ===
# A recording is one JSON event a line, in zstd frames that stand alone: a killed writer loses
# what it had not closed, a flipped bit costs the frame it is in, and `zstd -dc` reads it all.

VERSION: Final = 1
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BLOCK_BYTES: Final = 64 * 1024
_BLOCK_NS: Final = 1_000_000_000

# A block closes soon after 64 KiB, but its last line may be a message of the largest size; whoever
# packs a recording again may make one block of it.
_MAX_BLOCK: Final = 4 * MAX_TEXT

# Recorded text packs 8 to 20 times. A file that unpacks to more than this is no recording.
_RATIO: Final = 50
_SPARE: Final = 4 * 1024 * 1024


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The first line of a recording; `source` is the real venue, or what stood in for it.

    `run` and `settings` are whoever recorded's to read: what a run was, and by what it decided.
    `history` is of recordings that were fetched or imported afterwards.
    """

    v: int = VERSION
    network: str
    rest: str
    ws: str
    client: str
    source: str
    run: str = ""
    settings: str = ""
    history: History | None = None
    ns: int = 0

    @classmethod
    def of(
        cls,
        network: Network,
        run: str = "",
        *,
        settings: str = "",
        client: str = "dydx-v4-client",
    ) -> "Header":
        """Make the header of a recording of a network that begins now; no password is in it."""
        source = network.source or f"{network.name}, chain {network.chain_id}"
        known = NETWORKS.get(network.name, network)
        moved = (known.rest, known.ws) != (network.rest, network.ws)
        if moved and not is_loopback(known.rest) and network.source == known.source:
            source += f", by way of {_without_password(network.rest)}"  # which may be anything
        return cls(
            network=network.name, rest=_without_password(network.rest),
            ws=_without_password(network.ws), client=client, source=source, run=run,
            settings=settings, ns=time.time_ns(),
        )  # fmt: skip


def _without_password(text: str) -> str:
    """Return a text whose addresses (https://me:…@host) have no password any more."""
    return _LOGIN.sub(r"\1***", text)


_LOGIN: Final = re.compile(r"""(://[^\s/@:'"]*:)[^\s/@'"]+(?=@)""")
_NUMBERS = ("i", "ns", "mono", "ens", "st", "code", "n")
_TEXTS = ("c", "d", "x", "u", "b", "id", "reason", "who", "what", "why", "sha256")
_LINE: list[Any] = [("k", str), *((n, int, 0) for n in _NUMBERS), *((n, str, "") for n in _TEXTS)]
_Line: Any = msgspec.defstruct("_Line", _LINE, gc=False)
_decode_line = msgspec.json.Decoder(_Line).decode
_NAMES: Final = ("u", "id", "n", "x")

# Which letter of an event holds which part of its frame.
_LETTERS: Final[dict[str, dict[str, str]]] = {
    "ws": {"c": "link", "x": "text"},
    "sent": {"c": "link", "x": "text", "u": "channel", "id": "id"},
    "http": {"c": "link", "u": "channel", "st": "type", "b": "text", "id": "id"},
    "open": {"c": "link", "u": "text"},
    "close": {"c": "link", "code": "type", "reason": "text"},
    "gap": {"c": "link", "n": "message_id", "why": "text", "u": "channel", "id": "id"},
    "tick": {"c": "link", "x": "text"},
    "act": {"who": "link", "what": "type", "why": "text", "n": "message_id"},
    "state": {"c": "link", "id": "id", "x": "text"},
}


def _block_end(data: mmap.mmap, start: int) -> int:
    """Return where a block ends, without unpacking it; `WireError` if it is damaged (RFC 8878)."""
    try:
        frame = data[start : start + 18]
        end = start + zstandard.frame_header_size(frame)
        checksum = 4 * zstandard.get_frame_parameters(frame).has_checksum
    except zstandard.ZstdError as error:
        raise WireError(f"expected a zstd frame, got {error}") from None
    last = 0
    while not last and end + 3 <= len(data):
        # Three bytes: whether it is the last part, its kind (1: one byte, repeated), its size.
        part = int.from_bytes(data[end : end + 3], "little")
        last, kind, size = part & 1, part >> 1 & 3, part >> 3
        end += 3 + (1 if kind == 1 else size)
    if not last or end + checksum > len(data):
        raise WireError("expected the end of a zstd frame, got the end of the file")
    return end + checksum


def _unpacked(packed: bytes, most: int) -> bytes:
    """Unpack a block; `WireError` if it is damaged, or unpacks to more than `most` bytes."""
    what = f"expected an intact block that unpacks to at most {most} bytes"
    try:
        # A stated size is reserved before anything is unpacked; -1 is none.
        if (size := zstandard.frame_content_size(packed)) > most:
            raise WireError(f"{what}, got {size}")
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_BLOCK)
        return unpacker.decompress(packed, max_output_size=most)
    except zstandard.ZstdError as error:
        raise WireError(f"{what}, got {error}") from None


# === Recording writer ===
# Appends events to a recording, whole frames of zstd at a time.


class RecordingWriter:
    """Append events to a recording; killed at any time, what was closed stays readable."""

    def __init__(self, path: Path, header: Header) -> None:
        self._begin(path, "wb")
        self._append({"k": "hdr", **msgspec.to_builtins(header), "v": VERSION})
        self.flush()

    @classmethod
    def resume(cls, path: Path, events: int) -> Self:
        """Go on with a recording behind its first `events`, with which a block has to end.

        What follows them is cut off; `RecordingError` if they cannot be read whole.
        """
        writer = cls.__new__(cls)
        writer._begin(path, "r+b")
        file = writer._file
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                while writer._lines <= events:  # the header is a line too
                    end = _block_end(data, writer._size)
                    writer._take(_unpacked(data[writer._size : end], _MAX_BLOCK), end)
            if writer._lines != events + 1:
                raise WireError(f"a block that ends with another, {writer._lines - 1}")
        except (*_UNREADABLE, WireError) as error:
            file.close()
            what = f"expected {path} to be whole up to its event {events}"
            raise RecordingError(f"{what}, got {error}") from None
        file.truncate(writer._size)
        file.seek(writer._size)
        return writer

    def _begin(self, path: Path, mode: Literal["wb", "r+b"]) -> None:
        self.path = path
        self.seq = self._lines = 0
        self._newest: int | None = None  # the number that the frame written last came with
        self._file = path.open(mode, buffering=0)
        self.whole = self._size = 0  # the number of the last event in a whole block, and its end
        self._compress = zstandard.ZstdCompressor(level=9, write_checksum=True).compress
        self._sha256 = hashlib.sha256()
        self._block = bytearray()
        self._opened = 0

    def _take(self, block: bytes, end: int) -> None:
        # Count a block that is there already as if it had been written now.
        self._sha256.update(block)
        lines = block.splitlines()
        self._lines, self._size = self._lines + len(lines), end
        self.seq = self.whole = _decode_line(lines[-1]).i if lines else self.seq

    def write(self, kind: str, *, ns: int, mono: int, **fields: Any) -> int:
        """Append one event and return its number; `fields` are the format's own letters."""
        self.seq += 1
        return self._write(kind, ns, mono, fields)

    def write_frame(self, frame: Frame) -> int:
        """Append a frame as the event that it was.

        An act with the number of the frame before it, whose consequence it is, is written with
        that number too: it shifts no other's.
        """
        fields = {letter: getattr(frame, part) for letter, part in _LETTERS[frame.kind].items()}
        fields |= {letter: int(fields[letter]) for letter in ("st", "code") if letter in fields}
        # A socket's message needs no name besides its text; a request to a node has one. A number
        # is of gaps that know it, and of acts that stop a strategy; a tick's text is of lag alone.
        fields = {letter: part for letter, part in fields.items() if part or letter not in _NAMES}
        kind = "ws" if frame.kind == "sent" else frame.kind
        if kind == "ws":
            fields["d"] = "<" if frame.kind == "ws" else ">"
        if kind != "act" or frame.seq != self._newest:
            self.seq += 1
        self._newest = frame.seq
        return self._write(kind, frame.at, frame.mono, fields)

    def _write(self, kind: str, ns: int, mono: int, fields: dict[str, Any]) -> int:
        if not self._block:
            self._opened = mono
        self._append({"k": kind, "i": self.seq, "ns": ns, "mono": mono, **fields})
        if len(self._block) >= _BLOCK_BYTES or mono - self._opened >= _BLOCK_NS:
            self.flush()
        return self.seq

    def flush(self) -> None:
        """Close the block at hand and give it to the operating system.

        `OSError` if that is not possible: the recording ends where its last whole block does.
        """
        if self._block:
            packed = left = memoryview(self._compress(bytes(self._block)))
            self._block.clear()
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                self._cut()
                raise
            self._size, self.whole = self._size + len(packed), self.seq

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            self._file.truncate(self._size)
        self._file.close()

    def leave(self) -> None:
        """Close the file without an end line: it is to be gone on with (`resume`)."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def close(self) -> None:
        """Write the end line and close the file; a second call does nothing."""
        if not self._file.closed:
            end = {"k": "end", "i": self.seq + 1, "lines": self._lines}
            self._append({**end, "sha256": self._sha256.hexdigest()})
            self.flush()
            self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(line) + b"\n"
        self._block += encoded
        self._lines += 1
        self._sha256.update(encoded)


# === Recordings ===
# Reads a recording, from its beginning or its end, past whatever of it is damaged.


class Recording:
    """A recording on disk: iterate it for its frames; `RecordingError` if it is none.

    Damage inside is no error: a gap frame stands where lines were lost, `damage` lists each
    place, and `complete` is, after iterating, whether the end was written and its sum holds.
    One of history is iterated as the frames that its `pages` stand for (`unfold`): all, or those
    of `kinds` alone, of which it must have the first. What the pages lack is damage, too.
    """

    def __init__(self, path: Path, kinds: Sequence[str] | None = None) -> None:
        self.path = path
        self.damage: list[str] = []
        self.complete = False
        self.header = self._read_header()
        self.kinds = kinds
        if kinds is not None:
            self._limit(kinds)

    def _limit(self, kinds: Sequence[str]) -> None:
        what, history = f"expected a history of {kinds[0]}", self.header.history
        if history is None or kinds[0] not in history.kinds:
            has = "no history" if history is None else f"one of {', '.join(history.kinds)}"
            raise RecordingError(f"{what}, got {has} in {self.path.name}")
        some = (*(kind for kind in history.kinds if kind in kinds),)
        history = msgspec.structs.replace(history, kinds=some)
        self.header = msgspec.structs.replace(self.header, history=history)

    def __iter__(self) -> Iterator[Frame]:
        history = self.header.history
        if history is None:
            return self.pages()
        return self._unfolded(history, self.pages())

    def _unfolded(self, history: History, pages: Iterable[Frame]) -> Iterator[Frame]:
        for frame in unfold(history, pages, self.header.rest, self.kinds):
            if frame.kind == "gap" and frame.text not in self.damage:
                self.damage.append(frame.text)
            yield frame

    def since(self, at_ns: int) -> Iterator[Frame]:
        """Return the frames from a moment on, or from little before it.

        Of history the windows before it are passed over; else it is all of them, since what a book
        holds is known from its beginning alone.
        """
        history = self.header.history
        if history is None or at_ns <= history.since_ns:
            return iter(self)
        window_ns = history.window_s * _SECOND
        at_ns = min(at_ns, history.until_ns - 1)
        begin_ns = at_ns - (at_ns - history.since_ns) % window_ns
        begin, later = _iso(begin_ns), msgspec.structs.replace(history, since_ns=begin_ns)
        return self._unfolded(
            later, (page for page in self.pages() if not page.id or page.id >= begin)
        )

    def pages(self) -> Iterator[Frame]:
        """Return the frames as they are stored: of history its pages."""
        self.damage, self.complete = [], False
        sha256, seq, at, mono = hashlib.sha256(), 0, self.header.ns, 0
        lost = self.header is _LOST_HEADER  # with it no event is lost
        for text in self.lines():
            try:
                line = _decode_line(text)
            except _UNREADABLE as error:
                # Lines in a row are one place, of which the first is shown.
                if text and not lost:
                    self.damage.append(f"expected a recorded event, got {text[:60]!r}: {error}")
                if not lost:
                    yield Frame(seq, at, mono, "", "gap", self.damage[-1])
                lost = True
                continue
            lost = False
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

    def newest(self, kind: Literal["ws", "http"] = "ws") -> Frame | None:
        """Return the last message, or the last answer as it is stored; None where there is none.

        It is read from the end of the file alone.
        """
        for line in self._from_end():
            at = line.ens or line.ns
            if line.k == "http" == kind:
                return self._frame(line, at)
            if line.k == "ws" == kind and line.d == "<":
                return ws_frame(line.i, at, line.mono, line.c, line.x)
        return None

    def stated_sum(self) -> str:
        """Return the sum over all lines that the end line states; "" where it was cut off.

        It is read from the end of the file alone: whether it holds, only iterating shows.
        """
        line = next(self._from_end(), None)
        return str(line.sha256) if line is not None and line.k == "end" else ""

    def _from_end(self) -> Iterator[Any]:
        """Yield the lines that can be read, the last first."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            end = len(data)
            start = data.rfind(_ZSTD_MAGIC, 0, end)
            while start != -1:
                with contextlib.suppress(WireError):  # what is damaged is looked over
                    block = _unpacked(data[start:end], _MAX_BLOCK)
                    for text in reversed(block.splitlines()):
                        with contextlib.suppress(*_UNREADABLE):
                            yield _decode_line(text)
                    end = start
                start = data.rfind(_ZSTD_MAGIC, 0, start)

    def _read_header(self) -> Header:
        if not self.path.is_file() or not self.path.stat().st_size:
            raise RecordingError(f"expected a recording at {self.path}, got {_no_file(self.path)}")
        lines = self.lines()
        first = next(lines, b"")
        try:
            header = msgspec.json.decode(first, type=Header)
        except _UNREADABLE as error:
            events = [*itertools.islice(filter(None, lines), _LOOKED_AT)]
            if any(map(_is_page, events)):
                what = f"expected the header of {self.path}, got damage"
                raise RecordingError(
                    f"{what}: without it nothing of the past has its place"
                ) from None
            if not first and events and _is_event(events[0]):
                return _LOST_HEADER  # its block alone is damaged
            raise RecordingError(self._no_header(first, error)) from None
        if header.v > VERSION:
            what = f"expected {self.path} to be of format version {VERSION} or older"
            raise RecordingError(f"{what}, got {header.v}: a newer release wrote it")
        return header

    def _no_header(self, first: bytes, error: Exception) -> str:
        with self.path.open("rb") as file:
            start = file.readline(_BLOCK_BYTES)
        if not start.startswith(_ZSTD_MAGIC):
            return f"expected {self.path} to be compressed with zstd, got {_no_zstd(start)}"
        found = f"damage: {self.damage[0]}" if self.damage else f"{first[:80]!r}: {error}"
        return f"expected {self.path} to begin with a recording's header, got {found}"

    def lines(self) -> Iterator[bytes]:
        """Return each event as it was written; an empty line stands for those that are lost."""
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            start = unpacked = released = 0
            while start < len(data):
                if start - released >= _RELEASED:
                    released = _release(data, released, start)
                try:
                    end = _block_end(data, start)
                    most = min(_SPARE + _RATIO * end - unpacked, _MAX_BLOCK)
                    block = _unpacked(data[start:end], most)
                except WireError as error:
                    # Whole again at the next block; the magic number marks it.
                    end = data.find(_ZSTD_MAGIC, start + 1)
                    end = len(data) if end == -1 else end
                    where = f"bytes {start} to {end} are damaged"
                    self.damage.append(f"{where}: their lines are lost ({error})")
                    yield b""
                else:
                    unpacked += len(block)
                    yield from io.BytesIO(block)
                start = end

    @staticmethod
    def _frame(line: Any, at: int) -> Frame:
        kind = "sent" if line.k == "ws" else line.k
        parts = {part: getattr(line, letter) for letter, part in _LETTERS[kind].items()}
        if "type" in parts:
            parts["type"] = str(parts["type"])
        if "channel" in parts:
            # Answers are identified by path and query, not by host.
            parts["channel"] = re.sub(r"^\w+://[^/]+", "", parts["channel"])
        return Frame(line.i, at, line.mono, kind=kind, **parts)


# What stands for a header that is damaged; the events after it are as good as ever.
_LOST_HEADER: Final = Header(network="", rest="", ws="", client="", source="its header is damaged")


def _no_file(path: Path) -> str:
    """Name what is at a path where there is no file with content."""
    if not path.exists():
        return "no such file"
    if path.is_dir():
        held = min(map(str, path.glob("*.jsonl.zst")), default="")
        return f"a directory, with {held} in it" if held else "a directory"
    return "an empty file" if path.is_file() else "no file but a device, a pipe or a socket"


# What other files begin with.
_OTHERS: Final = {
    b"\x1f\x8b": "a file of gzip",
    b"BZh": "a file of bzip2",
    b"\xfd7zXZ": "a file of xz",
    b"PK\x03\x04": "a zip archive",
    b"SQLite format 3": "a database of SQLite",
}


def _no_zstd(start: bytes) -> str:
    """Name what a file is that begins with this line and not as a recording does."""
    with contextlib.suppress(*_UNREADABLE):
        msgspec.json.decode(start, type=Header)
        return "an unpacked recording: zstd packs it"
    known = (what for magic, what in _OTHERS.items() if start.startswith(magic))
    return next(known, f"a file that begins with {start[:16]!r}")


def _is_event(text: bytes) -> bool:
    with contextlib.suppress(*_UNREADABLE):
        k = _decode_line(text).k
        return k in ("ws", "end") or k in _LETTERS
    return False


def _is_page(text: bytes) -> bool:
    with contextlib.suppress(*_UNREADABLE):
        line = _decode_line(text)
        return line.k == "http" and bool(line.id)
    return False


_LOOKED_AT: Final = 8  # events, for a page of history: three answers stand before the first


def _release(data: mmap.mmap, start: int, end: int) -> int:
    """Let go of pages that were read: they count as memory of the process; return up to where."""
    whole = end - end % mmap.ALLOCATIONGRANULARITY
    if sys.platform != "win32":  # it has no such call
        data.madvise(mmap.MADV_DONTNEED, start, whole - start)
    return whole


_RELEASED: Final = 2**20


def recording_folders() -> list[Path]:
    """Return where recordings are looked for by name, the nearest first; not all need be there.

    `recordings/` here, above, and where this program is; then that of the user's data directory.
    """
    above = [*(Path.cwd() / "x").parents, *Path(__file__).resolve().parents]
    given = os.environ.get("XDG_DATA_HOME", "")
    data = Path(given) if given.startswith("/") else Path.home() / ".local/share"
    return [folder / "recordings" for folder in (*dict.fromkeys(above), data / "dydx-bot")]


def find_recording(name: str) -> Path:
    """Return the path of a recording in one of `recording_folders`; a path stays what it is.

    So does the name of anything else that is here: whoever opens it reports what it is.
    """
    if name.endswith(".zst") or "/" in name:
        return Path(name)
    paths = [path for folder in recording_folders() for path in folder.glob("*.jsonl.zst")]
    found = {path.name.removesuffix(".jsonl.zst"): path for path in reversed(paths)}
    if name not in found and name and Path(name).exists():
        return Path(name)
    if name not in found:
        known = ", ".join(sorted(found)) or "none found"
        near = get_close_matches(name, found, n=1)
        hint = f" (the nearest is {near[0]})" if near else ""
        expected = f"expected the path of a recording or one of {known}"
        raise RecordingError(f"{expected}, got {name!r}{hint}")
    return found[name]


# === Wire writer ===
# The way back: frames whose texts are as the indexer writes them, for the tests of what is
# built on frames. Rows have the indexer's own names; a missing field gets a default. Nothing that
# trades uses it.

_GRIDS: Final = {"BTC-USD": (0, -10), "ETH-USD": (1, -9)}  # clob pair and atomic resolution
_UNNUMBERED: Final = ("error", "pong")  # their message ids are the last one's
# What a row has besides what it is given; None is filled in where the writer knows better.
_FILLED_IN: Final[Mapping[str, Mapping[str, Any]]] = {
    "trades": {"id": None, "type": "LIMIT", "createdAt": None, "createdAtHeight": None},
    "fills": {
        "id": None, "fee": "0", "type": "LIMIT", "eventId": None, "orderId": None,
        "createdAt": None, "liquidity": "TAKER", "createdAtHeight": None,
    },
    "perpetualPositions": {
        "side": None, "status": "OPEN", "netFunding": "0", "entryPrice": "0", "exitPrice": None,
        "sumOpen": "0", "sumClose": "0", "realizedPnl": "0", "unrealizedPnl": "0",
    },
}  # fmt: skip

_Plain = Decimal | float | str
_Levels = Iterable[tuple[_Plain, _Plain]]
_Row = Mapping[str, Any]


def market_fields(ticker: str, *, price: _Plain | None, **other: Any) -> dict[str, Any]:
    """Describe a market in the indexer's own fields; `other` fields, so named, replace them.

    BTC-USD and ETH-USD have their true numbers and grids, any other market the number 2 and the
    grid of ETH-USD. A market without an oracle price, None, is yet to begin. `baseOpenInterest`
    is left out: the venue has long ceased to write it.
    """
    pair, resolution = _GRIDS.get(ticker, (2, -9))
    fields: dict[str, Any] = {
        "clobPairId": str(pair), "ticker": ticker, "status": "ACTIVE",
        "oraclePrice": None if price is None else _plain(price), "priceChange24H": "0",
        "volume24H": "0", "trades24H": 0, "nextFundingRate": "0.0000125",
        "initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03",
        "openInterest": "1000", "atomicResolution": resolution, "quantumConversionExponent": -9,
        "tickSize": "", "stepSize": "", "stepBaseQuantums": 1_000_000, "subticksPerTick": 100_000,
        "marketType": "CROSS", "openInterestLowerCap": "0", "openInterestUpperCap": "0",
        "defaultFundingRate1H": "0",
    } | other  # fmt: skip
    resolution, exponent = fields["atomicResolution"], fields["quantumConversionExponent"]
    tick = Decimal(fields["subticksPerTick"]).scaleb(exponent - resolution - 6)
    step = Decimal(fields["stepBaseQuantums"]).scaleb(resolution)
    return {**fields, "tickSize": _plain(tick), "stepSize": _plain(step), **other}


def market_parameters(ticker: str, **other: int | str) -> PerpetualMarket:
    """Describe the same market as the chain has it; `other` parameters, so named, replace them."""
    pair, resolution = _GRIDS.get(ticker, (2, -9))
    known: dict[str, int | str] = {
        "ticker": ticker, "clob_pair_id": pair, "perpetual_id": pair,
        "atomic_resolution": resolution, "quantum_conversion_exponent": -9,
        "step_base_quantums": 1_000_000, "subticks_per_tick": 100_000, "imf_ppm": 50_000,
        "maintenance_fraction_ppm": 600_000,
    }  # fmt: skip
    return msgspec.convert(known | other, PerpetualMarket)


def _plain(amount: _Plain) -> str:
    # The indexer writes no exponents; a text is what a test wants it to be.
    return amount if isinstance(amount, str) else f"{Decimal(str(amount)).normalize():f}"


def _usdc(balance: _Plain) -> dict[str, Any]:
    size = _plain(balance)
    side = "SHORT" if size.startswith("-") else "LONG"
    return {"assetId": "0", "symbol": "USDC", "side": side, "size": size.removeprefix("-")}


class WireWriter:
    """Write what happens on a venue, frame by frame, as its indexer would send it.

    `seq` numbers the frames, `ids` the messages of each link as the venue does: an id that is
    spent without a message is a message lost. The next frame is of `link`, is stamped `at` and
    `mono` (ns), which `wait` moves on, and belongs to the block `height`.

    >>> contents(WireWriter().levels("ETH-USD", bids=[(2999.9, 0)]))
    [BookContents(bids=[('2999.9', '0')], asks=[])]
    """

    def __init__(self, link: str = "c1", *, at: int = 1_767_225_600 * _SECOND) -> None:
        self.link, self.at, self.mono = link, at, 1_000 * _SECOND
        self.seq = self.height = 0
        self.ids: Counter[str] = Counter()
        self._pairs: dict[str, str] = {}
        self._events = 0

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.at += round(seconds * _SECOND)
        self.mono += round(seconds * _SECOND)

    def event(self, kind: str, text: str = "", **parts: Any) -> Frame:
        """Write what is no message: open, sent, close, gap or tick; `parts` are the frame's."""
        self.seq += 1
        parts = {"link": self.link, **parts}
        return Frame(seq=self.seq, at=self.at, mono=self.mono, kind=kind, text=text, **parts)

    def answer(self, path: str, body: Any, status: int | str = 200) -> Frame:
        """Write an answer over REST; what is no text is written as JSON."""
        text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
        return self.event("http", text, link="rest", channel=path, type=str(status))

    def raw(self, text: str) -> Frame:
        """Write a message with exactly this text."""
        self.seq += 1
        return ws_frame(self.seq, self.at, self.mono, self.link, text)

    def message(
        self, type: str, channel: str = "", contents: Any = None, id: str = "", **more: Any
    ) -> Frame:
        """Write a message of any type and contents, wrong ones too; None is without contents."""
        # A connection counts from 0, and an error has no number of its own.
        number = 0 if type == "connected" else self.ids[self.link] + (type not in _UNNUMBERED)
        self.ids[self.link] = number
        head = {"type": type, "connection_id": event_id("link", self.link), "message_id": number}
        id = id or channel * (channel == "v4_block_height")
        row, about = CHANNELS.get(channel), {"channel": channel, "id": id}
        if row is not None and type.startswith("channel_"):
            about = {"id": id, "channel": channel, "version": row.version}
        about = {name: value for name, value in about.items() if value}
        body = {} if contents is None else {"contents": contents}
        return self.raw(msgspec.json.encode({**head, **about, **more, **body}).decode())

    def publish(self, channel: str, *contents: Any, id: str = "", snapshot: bool = False) -> Frame:
        """Write a snapshot or a change; several in one batch, of accounts and blocks but one."""
        if snapshot:
            return self.message("subscribed", channel, contents[0], id)
        if CHANNELS[channel].batched:
            return self.message("channel_batch_data", channel, contents, id)
        return self.message("channel_data", channel, contents[0], id)

    def markets(self, *fields: _Row) -> Frame:
        """Begin with all markets, each described by `market_fields`."""
        self._pairs |= {row["ticker"]: str(row["clobPairId"]) for row in fields}
        all_ = {row["ticker"]: row for row in fields}
        return self.publish("v4_markets", {"markets": all_}, snapshot=True)

    def trading(self, ticker: str, /, **fields: Any) -> Frame:
        """Change fields of a market."""
        return self.publish("v4_markets", {"trading": {ticker: fields}})

    def oracle(self, ticker: str, price: _Plain) -> Frame:
        """Change an oracle price."""
        pair = self._pairs.get(ticker, "")
        fields = {
            "oraclePrice": _plain(price), "effectiveAt": _iso(self.at),
            "effectiveAtHeight": str(self.height), "marketId": int(pair) if pair.isdigit() else 0,
        }  # fmt: skip
        return self.publish("v4_markets", {"oraclePrices": {ticker: fields}})

    def block(self, height: int = 0, time: str = "", *, snapshot: bool = False) -> Frame:
        """Make a block: by default the next one, now."""
        self.height = height or self.height + 1
        name = "height" if snapshot else "blockHeight"
        contents = {name: str(self.height), "time": time or _iso(self.at)}
        return self.publish("v4_block_height", contents, snapshot=snapshot)

    def book(self, ticker: str, bids: _Levels = (), asks: _Levels = ()) -> Frame:
        """Begin with a whole book, levels of price and size."""
        sides = {
            side: [{"price": _plain(price), "size": _plain(size)} for price, size in levels]
            for side, levels in (("bids", bids), ("asks", asks))
        }
        return self.publish("v4_orderbook", sides, id=ticker, snapshot=True)

    def levels(self, ticker: str, bids: _Levels = (), asks: _Levels = ()) -> Frame:
        """Change levels of a book to a new total size, or to 0."""
        sides = {
            side: [(_plain(price), _plain(size)) for price, size in levels]
            for side, levels in (("bids", bids), ("asks", asks))
        }
        return self.publish("v4_orderbook", {k: v for k, v in sides.items() if v}, id=ticker)

    def trade(self, ticker: str, side: Side, size: _Plain, price: _Plain) -> Frame:
        """Print a trade on the tape; `side` is the taker's."""
        return self.trades(ticker, {"side": side, "size": _plain(size), "price": _plain(price)})

    def trades(self, ticker: str, *rows: _Row, snapshot: bool = False) -> Frame:
        """Print trades; a snapshot has its newest first."""
        contents = {"trades": self._filled("trades", rows)}
        return self.publish("v4_trades", contents, id=ticker, snapshot=snapshot)

    def candles(self, ticker: str, resolution: str, *rows: _Row, snapshot: bool = False) -> Frame:
        """Change candles, given with all their fields; a snapshot has its newest first."""
        candles = [{"ticker": ticker, "resolution": resolution, **row} for row in rows]
        contents = [{"candles": candles}] if snapshot else candles
        id_ = f"{ticker}/{resolution}"
        return self.publish("v4_candles", *contents, id=id_, snapshot=snapshot)

    def account(
        self, whose: Subaccount, usdc: _Plain, positions: Iterable[_Row] = (),
        orders: Iterable[_Row] = (),
    ) -> Frame:  # fmt: skip
        """Begin with all that an account has; its equity is the balance alone."""
        held, height = self._filled("perpetualPositions", positions), str(self.height)
        summary = {
            "address": whose.owner, "subaccountNumber": whose.number, "equity": _plain(usdc),
            "freeCollateral": _plain(usdc),
            "openPerpetualPositions": {row["market"]: row for row in held},
            "assetPositions": {"USDC": _usdc(usdc)}, "marginEnabled": True,
            "updatedAtHeight": height, "latestProcessedBlockHeight": height,
        }  # fmt: skip
        contents = {"subaccount": summary, "orders": list(orders), "blockHeight": height}
        return self.publish("v4_subaccounts", contents, id=str(whose), snapshot=True)

    def account_update(
        self, whose: Subaccount, *, usdc: _Plain | None = None, **contents: Any
    ) -> Frame:
        """Change an account: its `usdc`, `fills`, `perpetualPositions`, `orders`, `transfers`."""
        made = {
            name: self._filled(name, rows) if name in _FILLED_IN else rows
            for name, rows in contents.items()
        }
        if usdc is not None:
            made["assetPositions"] = [_usdc(usdc)]
        made["blockHeight"] = str(self.height)
        return self.publish("v4_subaccounts", made, id=str(whose))

    def _filled(self, kind: str, rows: Iterable[_Row]) -> list[dict[str, Any]]:
        return [{**self._known(kind, row), **row} for row in rows]

    def _known(self, kind: str, row: _Row) -> dict[str, Any]:
        self._events += 1
        event, now = f"{self.height:08x}{2:08x}{self._events:08x}", _iso(self.at)
        known = {
            "id": event, "eventId": event, "createdAt": now, "createdAtHeight": str(self.height),
            "side": "SHORT" if str(row.get("size", "")).startswith("-") else "LONG",
        }  # fmt: skip
        return {k: known.get(k) if v is None else v for k, v in _FILLED_IN[kind].items()}


# === Streams ===
# The operator that each layer is built from, and the source that needs no network. Nothing here
# subscribes but `collect`, which is for tests and tools.

Pacer = Callable[[Frame], bool]
_Scheduler = SchedulerBase | None


def fold(
    start: Callable[[], _S], step: Callable[[_S, _A], Iterable[_B]]
) -> Callable[[Observable[_A]], Observable[_B]]:
    """Fold events into a state of one's own and emit what each step puts out, in order.

    Hot or cold as the source is, ends with it, on its thread; what `step` raises is an error.

        source  --a------b--|
        fold    --(x,y)--z--|
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

        replay  f-f---(f,|)
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


MARBLE_CASES: Final = ("completes", "never", "empty", "error", "late")
_MARBLES: Final = re.compile(r"^ +\w+ +(\S*-\S*\|\)?)$", re.MULTILINE)
_AT_END: Final = re.compile(r"\([^()]*\|\)|\|")  # the end, and what is emitted with it


def play(
    described: Callable[..., Any], operator: Callable[[Observable[_A]], Observable[_B]],
    values: Mapping[str, _A], letter: Callable[[_B], str] = str, case: str = "completes",
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """Play the marbles in a docstring through its operator; return what came and what is drawn.

    The first line is the source, in virtual time, whose letters stand for `values`; the second
    the result, in which `letter` names what comes out. Beside what is drawn there are the cases
    of a source that emits nothing ("never"), only ends ("empty"), fails where it ended ("error")
    or goes on after its end ("late"). In marbles, `(a,b)` are two letters of one instant.
    """
    from reactivex.observable.marbles import parse
    from reactivex.testing import TestScheduler
    from reactivex.testing.marbles import messages_to_records

    def records(marbles: str, lookup: Mapping[Any, Any]) -> list[Any]:
        parsed = parse(marbles, time_shift=200.0, lookup=lookup, error=error)
        return messages_to_records(parsed)  # subscribed to at 200

    scheduler, error = TestScheduler(), ConnError("the source failed")
    source, result = _marbles(described, case)
    hot = scheduler.create_hot_observable(records(source, values))
    came = scheduler.start(lambda: hot.pipe(operator, operators.map(letter)))
    return came.messages, records(result, {})


def _marbles(described: Callable[..., Any], case: str = "completes") -> list[str]:
    lines = _MARBLES.findall(described.__doc__ or "")
    if case in ("never", "empty"):
        end = "|" if case == "empty" else ""
        return [re.sub(r"[^-|]", "-", _AT_END.sub("|", line)).replace("|", end) for line in lines]
    if case == "error":
        return [_AT_END.sub("#", line) for line in lines]
    if case == "late":
        first = re.sub(r"[^A-Za-z]", "", lines[0])[0]
        return [f"{lines[0]}--{first}", *lines[1:]]
    return list(lines)


# === Continuity ===
# Which messages of a connection are lost, by the venue's own count, which runs over all channels.
# A fold of frames: `live` resubscribes by it, and the data layer judges by it in a replay too.

_REACH: Final = 1_024  # how many ids back a message may still come
_OVERDUE_NS: Final = 10 * _SECOND


@dataclass(slots=True, eq=False)
class Continuity:
    """One connection's message ids: which came, which are owed, which were lost.

    The venue counts over the whole connection: each request to subscribe or unsubscribe and each
    data message takes an id. A snapshot, or an error in its place, carries the id of its request
    and may come late; so of the holes in the count as many are explained as requests are
    unanswered, and one more is a loss. `sees_requests` is whether requests are seen at all:
    without them no hole before an answer proves anything. `lost` is how many the last gap was,
    `carries` what was ever requested.
    """

    sees_requests: bool = False
    last: int | None = None
    lost: int = 0
    owed: dict[Key, list[int]] = field(default_factory=dict)  # when each was sent, oldest first
    carries: set[Key] = field(default_factory=set)
    _holes: set[int] = field(default_factory=set)
    _open: set[int] = field(default_factory=set)  # of no concern any more, but may yet come
    _excused: set[int] = field(default_factory=set)  # spent by requests that were refused
    _late: set[int] = field(default_factory=set)  # of answers that are no longer expected
    _doubt: int | None = None  # the number before a jump, until it is clear who was right
    _jumped: int = 0  # the number that it jumped to, if that was the wrong one

    def request(self, frame: Frame) -> None:
        """Count a request, if the frame that was sent is one that will be answered late."""
        sent = ws_frame(0, 0, 0, "", frame.text)
        if sent.type == "subscribe":
            self.sees_requests = True
            self.owed.setdefault(key_of(sent), []).append(frame.mono)
            self.carries.add(key_of(sent))

    def take(self, frame: Frame) -> str:
        """Count one message; return what is wrong with its id, or "".

        "gap": `lost` ids before it are lost; "duplicate": it came before; "out_of_order": it
        came after its place. An id of 0 is no number, and nothing is judged by it.
        """
        number, last = frame.message_id, self.last
        if number - 1 == last and not self.owed and self._doubt is None and frame.type != "error":
            self.last = number
            return ""
        if frame.type == "connected" or (number and last is None):
            self._begin(number, self._doubt)
            return self._settle(frame)
        if not number or last is None:
            return ""
        # A snapshot is no witness: its id was taken before, and it may always come late.
        doubt = None
        if not frame.is_snapshot:
            doubt, self._doubt = self._doubt, None
        # An error has no number of its own: it repeats the newest one, or its request's.
        owns = frame.type not in ("error", "pong")
        trouble, beyond, is_late = "", 0, frame.is_snapshot and number in self._late
        if number > last:
            self.last, beyond = number, max(number - _REACH - last - 1, 0)
            self._holes.update(range(last + 1 + beyond, number if owns else number + 1))
            self._holes.discard(self._jumped)
        elif owns and doubt is not None and doubt < number < last:
            # It goes on from before the jump: the number that jumped was the wrong one, or came
            # too early. It is missed no more, and may yet come.
            self._begin(number)
            self._open.add(last)
            self._jumped = last
        elif owns and not self._fill(number):
            return "duplicate"
        elif owns and not frame.is_snapshot:
            trouble = "out_of_order"
        self._settle(frame, is_late=is_late)
        self.lost = self._unexplained() + beyond
        if self.lost <= 0:
            return trouble
        self._open |= self._holes
        self._holes.clear()
        self._doubt = last
        return "gap"

    def forget(self) -> None:
        """Restart the count at the next message: the loss before it is already reported."""
        if self.last is not None:
            self._doubt, self.last = self.last, None

    def overdue(self, mono: int) -> list[Key]:
        """Return, and no longer expect, what was requested 10 s ago and never answered."""
        late = [key for key, sent in self.owed.items() if mono - sent[0] > _OVERDUE_NS]
        for key in late:
            self._answered(key)
            if self._holes:
                number = min(self._holes)
                self._holes.discard(number)
                self._late.add(number)
        return late

    def _begin(self, number: int, since: int | None = None) -> None:
        # What is not known to have come before may all yet come.
        begin = max(1, number - _REACH)
        may_come = set(range(begin, number))
        if since is not None and since < number:
            known = self._open | self._holes | self._late | self._excused
            may_come = {n for n in known if n >= begin} | set(range(max(begin, since + 1), number))
        self.last, self._open = number, may_come
        self._holes, self._excused, self._late = set(), set(), set()

    def _fill(self, number: int) -> bool:
        if number in self._excused:
            # The wrong one was excused: whose request was refused is another.
            self._excused.discard(number)
            self._excuse()
        elif number in self._holes or number in self._open or number in self._late:
            for numbers in (self._holes, self._open, self._late):
                numbers.discard(number)
        else:
            return False
        return True

    def _settle(self, frame: Frame, *, is_late: bool = False) -> str:
        if not is_late and _is_answer(frame):  # else what was requested again is unanswered
            if not self.sees_requests:
                self._open |= self._holes
                self._holes.clear()
            if (key := _settled(frame, self.owed)) is not None:
                self._answered(key)
            # Some servers refuse with the id at hand, though the request's own is spent.
            if frame.is_refusal and frame.message_id not in self._open:
                self._excuse(frame.message_id)
        return ""

    def _answered(self, key: Key) -> None:
        if len(self.owed[key]) > 1:
            del self.owed[key][0]
        else:
            del self.owed[key]

    def _excuse(self, number: int = 0) -> None:
        if self._holes:
            number = number if number in self._holes else min(self._holes)
            self._holes.discard(number)
            self._excused.add(number)

    def _unexplained(self) -> int:
        if not self._holes:
            return 0
        return len(self._holes) - sum(map(len, self.owed.values()))  # integers


# What the venue sends instead of a snapshot; other errors answer no request.
_REFUSING_WORDS: Final = (
    "could not fetch", "already subscribed", "Invalid subscription id",
    "Per-connection subscription limit", "Too many subscribe attempts",
)  # fmt: skip


def _is_answer(frame: Frame) -> bool:
    refuses = frame.channel != "" or any(words in frame.text for words in _REFUSING_WORDS)
    return frame.is_snapshot or (frame.is_refusal and refuses)


def _is_for_now(frame: Frame) -> bool:
    """Return whether it refuses a request that will be answered later: what it asks is away."""
    return frame.is_refusal and "could not fetch" in frame.text


def _settled(frame: Frame, requested: Iterable[Key]) -> Key | None:
    """Return which request an answer is to; some refusals name none, or in their text alone."""
    key, rest = key_of(frame), list(requested)
    if key in rest or frame.channel or not rest:
        return key if key in rest else None
    return next((key for key in rest if "-".join(key) in frame.text), rest[0])


# === Connection states ===
# How each link stands, as a table of states and events. A fold of frames: a recording gives the
# same states as its run. `live` polls and reconnects by it.


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A transition: what a link is from frame `seq` on, what it was, and why.

    `link` is a connection's name, "chain" for the venue's blocks, or "" for all together: they
    are what the worst of them is.
    """

    seq: int
    at: int
    link: str
    was: str
    state: str
    reason: str


# From the best to the worst.
STATES: Final = ("live", "subscribing", "connecting", "stale", "backing_off", "polling", "closed")
_LOSS: Final = {"close": "backing_off", "give_up": "polling", "end": "closed"}
# What is not in the table changes nothing. `answered`: no request is open any more;
# `message`: one arrived; `silence`: none did, for too long.
_TABLE: Final[dict[str, dict[str, str]]] = {
    "connecting": {"open": "subscribing", "message": "live", "silence": "stale", **_LOSS},
    "subscribing": {"answered": "live", "silence": "stale", **_LOSS},
    "live": {"gap": "subscribing", "silence": "stale", **_LOSS},
    "stale": {"open": "subscribing", "message": "live", **_LOSS},
    "backing_off": {"attempt": "connecting", "open": "subscribing", **_LOSS},
    "polling": {"open": "subscribing", "end": "closed"},
    "closed": {},
}
_SILENCE_NS: Final = 30 * _SECOND
_NO_BLOCK_NS: Final = 10 * _SECOND
_LAG_NS: Final = 30 * _SECOND
_LASTING_NS: Final = 5 * _SECOND  # a connection that held for so long was no failed attempt
_ATTEMPTS: Final = 5
_NEWS: Final = frozenset({"channel_data", "channel_batch_data"})  # what answers no request
_CLOCK: Final = ("", "clock")  # whose ticks are the time's; a link's own is a new attempt

_Event = tuple[str, str, str]  # a link, what happened to it, and why


@dataclass(slots=True, eq=False)
class _Watched:
    received: int  # when its last message or event came, on the monotonic clock
    state: str = "connecting"
    reason: str = ""
    opened: int = 0
    failures: int = 0
    requested: dict[Key, None] = field(default_factory=dict)  # oldest first
    carries: set[Key] = field(default_factory=set)  # what it was ever subscribed to


class Connections:
    """How all links stand: the fold behind `connection_states`, and what `live` acts upon."""

    def __init__(self) -> None:
        self.links: dict[str, _Watched] = {}
        self._overall = "connecting"
        self.height = 0
        self._last = Frame(0, 0, 0, "", "tick")

    def step(self, frame: Frame) -> list[ConnectionState]:
        """Fold one frame; return the transitions it makes, that of all together last."""
        self._last = frame
        if frame.type in _NEWS and frame.channel != "v4_block_height":
            # Nearly every frame: where its link is live, it says only that it still is.
            link = self.links.get(frame.link)
            if link is not None and link.state == "live" and frame.kind == "ws":
                link.received = frame.mono
                return []
        what = _EVENTS.get(frame.kind)
        named = frame.link or frame.kind in ("gap", "tick")
        return self._turn(frame, what(self, frame)) if what and named else []

    def end(self) -> list[ConnectionState]:
        """Close all links: no frame will come any more."""
        return self._turn(self._last, [(name, "end", "the frames ended") for name in self.links])

    def _turn(self, frame: Frame, events: Iterable[_Event]) -> list[ConnectionState]:
        made: list[ConnectionState] = []
        for name, event, reason in events:
            link = self.links[name]
            state = _TABLE[link.state].get(event, link.state)
            if state != link.state:
                made.append(_transition(frame, name, link.state, state, reason))
                link.state, link.reason = state, reason
        if made:
            # What is over is no part of the whole, unless all is.
            going = [item for item in self.links.items() if item[1].state != "closed"]
            all_ = going or self.links.items()
            name, worst = max(all_, key=lambda item: STATES.index(item[1].state))
            reason = "all links are" if worst.state == "live" else f"{name}: {worst.reason}"
            if worst.state != self._overall:
                made.append(_transition(frame, "", self._overall, worst.state, reason))
                self._overall = worst.state
        return made

    def _link(self, frame: Frame) -> _Watched:
        return self.links.setdefault(frame.link, _Watched(frame.mono))

    def _on_message(self, frame: Frame) -> Iterator[_Event]:
        link = self.links.get(frame.link) or self._link(frame)
        link.received = frame.mono
        if _is_answer(frame):
            key = _settled(frame, link.requested)
            if key is not None and not _is_for_now(frame):
                del link.requested[key]
            if not link.requested:
                yield frame.link, "answered", "all requests are answered"
        elif link.state != "live" and frame.type != "connected":
            yield frame.link, "message", "a message arrived"
        if frame.channel == "v4_block_height":
            yield from self._on_block(frame)

    def _on_block(self, frame: Frame) -> Iterator[_Event]:
        for height, time_ns in blocks_of(frame):
            if height <= self.height and not frame.is_snapshot:
                continue
            chain = self.links.setdefault("chain", _Watched(frame.mono))
            self.height, chain.received, lag_ns = height, frame.mono, frame.at - time_ns
            # A stand-in, or its recording, may live in another year than its receiver.
            late = _LAG_NS < lag_ns < _DAY
            reason = f"block {height} is {lag_ns / _SECOND:.0f} s behind the clock"
            yield "chain", "silence" if late else "message", reason if late else f"block {height}"

    def _on_sent(self, frame: Frame) -> Iterator[_Event]:
        request = ws_frame(0, 0, 0, "", frame.text)
        if request.type == "subscribe":
            link, key = self._link(frame), key_of(request)
            link.requested[key] = None
            link.carries.add(key)
            yield from self._replaced(frame.link, key)

    def _replaced(self, by: str, key: Key) -> Iterator[_Event]:
        # A recorder gives each connection a new name: what it carried goes on under another name.
        for name, link in self.links.items():
            if name != by and link.state in _LOSS.values() and key in link.carries:
                link.carries.discard(key)
                if not link.carries:
                    yield name, "end", f"{by} carries on"

    def _on_open(self, frame: Frame) -> Iterator[_Event]:
        link = self._link(frame)
        link.opened = link.received = frame.mono
        link.requested.clear()
        yield frame.link, "open", "connected"

    def _on_close(self, frame: Frame) -> Iterator[_Event]:
        link = self._link(frame)
        lasted = link.opened and frame.mono - link.opened > _LASTING_NS
        link.opened, link.failures = 0, 0 if lasted else link.failures + 1
        code = f"{frame.status} " if frame.status >= 1000 else ""
        reason = f"{code}{frame.reason or 'closed'}"
        if frame.status in _BARRED:
            yield frame.link, "give_up", reason
        elif link.failures >= _ATTEMPTS:
            yield frame.link, "give_up", f"{link.failures} attempts failed, at last: {reason}"
        else:
            yield frame.link, "close", reason

    def _on_gap(self, frame: Frame) -> Iterator[_Event]:
        for name, link in self.links.items():
            if link.opened and frame.link in ("", name):
                yield name, "gap", frame.reason or "messages were lost"

    def _on_tick(self, frame: Frame) -> Iterator[_Event]:
        if frame.link not in _CLOCK:
            self._link(frame).received = frame.mono
            yield frame.link, "attempt", "the wait is over"
            return
        for name, link in self.links.items():
            what, most_ns = _PATIENCE.get(name, ("message", _SILENCE_NS))
            if (silence_ns := frame.mono - link.received) > most_ns:
                yield name, "silence", f"no {what} for {silence_ns / _SECOND:.0f} s"


def _transition(frame: Frame, link: str, was: str, state: str, reason: str) -> ConnectionState:
    return ConnectionState(
        seq=frame.seq, at=frame.at, link=link, was=was, state=state, reason=reason
    )


_PATIENCE: Final = {"chain": ("new block", _NO_BLOCK_NS)}
_EVENTS: Final[dict[str, Callable[[Connections, Frame], Iterable[_Event]]]] = {
    "ws": Connections._on_message,
    "http": Connections._on_block,
    "sent": Connections._on_sent,
    "open": Connections._on_open,
    "close": Connections._on_close,
    "gap": Connections._on_gap,
    "tick": Connections._on_tick,
}


def blocks_of(frame: Frame) -> Iterator[tuple[int, int]]:
    """Yield the height and the time in nanoseconds of each block that a frame reports."""
    if frame.kind == "http" and not frame.channel.startswith("/v4/height"):
        return
    # What cannot be read is no block; the layer above counts it.
    with contextlib.suppress(WireError, ValueError, ArithmeticError):
        for part in contents(frame):
            if isinstance(part, HeightContents):
                yield part.block


def connection_states(
    standing: Connections | None = None,
) -> Callable[[Observable[Frame]], Observable[ConnectionState]]:
    """Emit each transition of each link, and of all together, with its reason.

    Cold if the source is; replays nothing; on the source's thread; the same frames make the same
    transitions. When the source completes all links are closed, and so is the stream. With
    `standing`, its maker holds how they stand. Below, a link turns subscribing, live, stale and
    backing off; in capitals, so do all together.

        frames  --o------m------t------c------|
        states  --(s,S)--(l,L)--(t,T)--(b,B)--(c,C,|)
    """

    def step(state: Connections, event: Notification[Frame]) -> list[ConnectionState]:
        if event.kind == "E":
            raise event.exception  # type: ignore[attr-defined]  # of OnError alone
        return state.step(event.value) if event.has_value else state.end()

    return compose(
        operators.materialize(), fold(Connections if standing is None else lambda: standing, step)
    )


# === Silence ===
# Which subscriptions have died on a connection that lives. A fold of frames: `live` requests over
# REST, and subscribes again, by it; nothing here does.


class Silent(msgspec.Struct, frozen=True):
    """A subscription that is silent, for how long, in ns; and whether it is proven to be dead."""

    key: Key
    link: str
    since_ns: int
    is_dead: bool


@dataclass(slots=True, eq=False)
class _Quiet:
    link: str
    received: int  # when its last message came, on the monotonic clock
    due: int  # when it is to be compared with REST
    compared: int = 0  # how often it was
    answers: dict[str, str] = field(default_factory=dict)  # of REST since, by path with query
    differed: int = 0  # when one was another than before; 0: none was


class Silence:
    """Judge the subscriptions of all connections by what REST answers while they are silent.

    A calm market is silent too, so that silence alone proves nothing. What is silent for longer
    than its channel's `quiet_s` is due to be compared with REST, again after 2 s and then ever
    more rarely. Two answers that differ, and no message within 2 s of that, are the proof. An
    account is due 5 s after anything was sent to the node, or placed: then silence is no calm.
    Below, a snapshot, ticks and answers; what is Compared, and Dead.

        frames  --s--t--a--u--b--v--|
        judged  -----C-----C-----D--|
    """

    def __init__(self) -> None:
        self._quiet: dict[Key, _Quiet] = {}

    def step(self, frame: Frame) -> list[Silent]:
        """Fold one frame; at a tick return what is dead, and what is due to be compared."""
        kind = frame.kind
        if kind == "ws":
            self._on_message(frame)
        elif kind == "tick" and frame.link in _CLOCK:
            return self._on_tick(frame.mono)
        elif kind == "http" and frame.ok:
            self._on_answer(frame)
        elif kind == "sent" and frame.link == "node":
            self._on_sent(frame.mono)
        elif kind in ("open", "close"):
            self._quiet = {k: x for k, x in self._quiet.items() if x.link != frame.link}
        return []

    def _on_message(self, frame: Frame) -> None:
        row = CHANNELS.get(frame.channel)
        if row is None:
            return
        key = key_of(frame)
        quiet, patience_ns = self._quiet.get(key), int(row.quiet_s * _SECOND)
        if row.kind == "account" and '"BEST_EFFORT_OPENED"' in frame.text:
            patience_ns = _REPORTED_NS  # its end, or a fill, is to follow within blocks
        due = frame.mono + patience_ns
        if frame.type in _CONTROL:
            self._quiet.pop(key, None)  # to be subscribed again, or refused
        elif frame.is_snapshot or (quiet is not None and quiet.compared):
            self._quiet[key] = _Quiet(frame.link, frame.mono, due)
        elif quiet is not None:
            quiet.received, quiet.due = frame.mono, due

    def _on_answer(self, frame: Frame) -> None:
        quiet = self._quiet.get(key_of(frame))
        # An answer may be older than a message that came shortly before it; and what is computed
        # when it is requested, as equity is, differs from the one before without an event.
        if quiet is None or not quiet.compared or frame.path.startswith("/v4/addresses/"):
            return
        before = quiet.answers.setdefault(frame.channel, frame.text)
        if before != frame.text and not quiet.differed:
            quiet.differed = frame.mono

    def _on_sent(self, mono: int) -> None:
        for (channel, _), quiet in self._quiet.items():
            if CHANNELS[channel].kind == "account":
                quiet.due = min(quiet.due, mono + _REPORTED_NS)
                quiet.compared = min(quiet.compared, 1)

    def _on_tick(self, mono: int) -> list[Silent]:
        dead, due = list[Silent](), list[tuple[int, int, Key]]()
        for key, quiet in self._quiet.items():
            if quiet.differed and mono - quiet.differed >= _ON_ITS_WAY_NS:
                dead.append(Silent(key, quiet.link, mono - quiet.received, is_dead=True))
            elif mono >= quiet.due:
                due.append((quiet.compared, quiet.due, key))
        for silent in dead:
            del self._quiet[silent.key]
        # What fell silent just now comes first: what was compared often may well be calm.
        return [
            *dead,
            *(self._compare(key, mono) for *_, key in heapq.nsmallest(_COMPARISONS, due)),
        ]

    def _compare(self, key: Key, mono: int) -> Silent:
        quiet = self._quiet[key]
        quiet.due = mono + min(_ON_ITS_WAY_NS << quiet.compared, _MINUTE)
        quiet.compared += 1
        return Silent(key, quiet.link, mono - quiet.received, is_dead=False)


_ON_ITS_WAY_NS: Final = 2 * _SECOND  # a message may follow the answer that shows its content
_REPORTED_NS: Final = 5 * _SECOND  # what a node took is reported sooner, as a rule
_COMPARISONS: Final = 3  # a second, of a hundred requests in ten that REST takes


# === Order states ===
# How an order stands, and what each report makes of that: a state machine as a table.


class OrderState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is known of one order after the frame `seq`; sizes in base units.

    `leaving` means that a node has taken it off its book, which is no promise: it may fill
    until its last block has passed. `named` is how a cancel would name it, None if not known;
    `order` is what we sent, None if another client did; `size` 0 is not known. `row` is all that
    the indexer has reported of it, None before it reported anything, and `height` the newest
    block of those reports.
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
    row: OrderFields | None = None
    height: int = 0
    seq: int

    @property
    def final(self) -> bool:
        """Return whether nothing more is to come, but for fills that are reported late."""
        return self.status in _FINAL


_FINAL: Final = ("FILLED", "CANCELLED", "REJECTED")
_LIVE: Final = ("PENDING", "OPEN", "PARTIALLY_FILLED", "UNRESOLVED")

# What an event makes of a status; what is not listed stays as it is.
_NEXT: Final[Mapping[str, Mapping[Status, Status]]] = {
    "refused": {"PENDING": "REJECTED", "UNRESOLVED": "REJECTED"},
    "lost": {"PENDING": "UNRESOLVED"},
    # The chain's report outranks one node's: an order it shows was not refused.
    "seen": {"PENDING": "OPEN", "UNRESOLVED": "OPEN", "REJECTED": "OPEN"},
    "placed": {"CANCELLED": "OPEN"},
    "leaving": {"PENDING": "OPEN", "UNRESOLVED": "OPEN"},
    "absent": {"OPEN": "UNRESOLVED", "PARTIALLY_FILLED": "UNRESOLVED"},
    "filled": dict.fromkeys((*_LIVE, "CANCELLED", "REJECTED"), "FILLED"),
    "cancelled": dict.fromkeys(_LIVE, "CANCELLED"),
    "expired": dict.fromkeys(_LIVE, "CANCELLED"),
}

# The indexer's words for an order (postgres order-types.ts).
_EVENT_OF: Final = {
    **dict.fromkeys(("BEST_EFFORT_OPENED", "OPEN", "UNTRIGGERED"), "seen"),
    **{"FILLED": "filled", "BEST_EFFORT_CANCELED": "leaving"},
    **dict.fromkeys(("CANCELED", "ERROR"), "cancelled"),
}


# === Lifecycle ===
# What became of each order, by every source: the fold of what was sent, what a node answered and
# what the indexer reports. Nothing here decodes a frame's contents or knows what an account holds.

# What the indexer reports of a block may come a little after the block's height: only then is an
# order that no frame mentioned again certain to be gone.
_GRACE_BLOCKS, _GRACE_S = 1, 2
_MOST_ORDERS: Final = 4096
_LEG: Final = "256"  # the flags of a TWAP's parts


class _Sent(msgspec.Struct, kw_only=True):
    ids: list[str]
    subaccount: str
    size: Decimal = Decimal(0)
    place: OrderRequest | None = None


class TxResult(msgspec.Struct, kw_only=True):
    """A node's verdict on a transaction: 0, or an error's number in its codespace."""

    code: int
    codespace: str = ""
    log: str = ""

    @property
    def is_taken(self) -> bool:
        """Return whether the node holds it."""
        # Of sdk 19 the node knows the very bytes: somebody on the way sent them twice.
        return self.code == 0 or self.is_sdk(19)

    @property
    def reason(self) -> str:
        """Return what the verdict means, and the node's own log."""
        if self.codespace in ("client", "grpc"):
            return self.log
        why = f"{self.codespace} {self.code}: {meaning(self.codespace, self.code)}"
        return f"{why} ({self.log})" if self.log else why

    def is_sdk(self, *codes: int) -> bool:
        """Return whether it is one of these errors of the chain's transaction checks."""
        return self.codespace == "sdk" and self.code in codes

    @property
    def is_over(self) -> bool:
        """Return whether it was refused since its last block has passed, and for nothing else."""
        return self.codespace == "clob" and self.code == 10

    @property
    def may_be_sequence(self) -> bool:
        """Return whether a wrong sequence may be all that it was refused for.

        A signature is over the sequence: under a permissioned key, alone or within others, no more
        than that it does not verify is reported.
        """
        authenticator = self.codespace == "dydxaccountplus" and self.code in (100, 104, 105)
        return authenticator or self.is_sdk(4, 32)


class _Answer(msgspec.Struct, kw_only=True):
    to: str
    ids: list[str]
    until: int = 0  # the block or time requested: separates a replacement from the replaced
    result: TxResult | None = None
    errors: list[ErrorFields] = []
    again: bool = False  # refused for its sequence or its end alone, and sent again with another


class Lifecycle:
    """The orders of all subaccounts; `orders` by id, oldest first.

    `height` and `time` are of the last block that the indexer reported: a node is ahead of it,
    and what the indexer has not reported yet must not count as never having been.
    """

    def __init__(self) -> None:
        self.orders: dict[str, OrderState] = {}
        self.height = self.time = 0
        self._live: set[str] = set()
        self._again: set[str] = set()  # refused, and to be sent again
        self._refusals: dict[str, str] = {}  # why a node refused what was sent last
        self._fills: dict[str, dict[str, Decimal]] = {}
        self._undated: dict[str, int] = {}  # the block at which an order without an end was seen

    def open(self) -> list[OrderState]:
        """Return the orders that may still fill, oldest first."""
        return [state for state in self.orders.values() if not state.final]

    def sent(self, frame: Frame) -> Iterator[OrderState]:
        """Take what was sent to a node."""
        sent = msgspec.json.decode(frame.text, type=_Sent)
        if sent.place is None:
            return
        before = self.orders.get(sent.ids[0])
        live = before if before is not None and not before.final else None
        if live is not None and live.order == sent.place:
            self._again.discard(sent.ids[0])
            return  # sent again, since the first was refused for its sequence alone
        self._refusals.pop(sent.ids[0], None)
        # One that is sent again with another end replaces what its first try was to replace.
        behind = live.before if live is not None and sent.ids[0] in self._again else live
        self._again.discard(sent.ids[0])
        # What an id has filled counts for the order that takes its place.
        filled = Decimal(0) if before is None else before.filled
        status: Status = "PENDING" if live is None else live.status
        yield self._put(OrderState(
            id=sent.ids[0], subaccount=sent.subaccount, status=status, size=sent.size,
            filled=filled, named=cancel(sent.place), order=sent.place, before=behind, seq=frame.seq,
        ))  # fmt: skip

    def answered(self, frame: Frame) -> Iterator[OrderState]:
        """Take what a node answered to it."""
        answer = msgspec.json.decode(frame.text, type=_Answer)
        self._again.update(answer.ids if answer.again and answer.to == "place" else ())
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
                    behind = None if newest else _behind(before, answer.until, taken)
                    self._put(msgspec.structs.replace(old, before=behind))
            elif before is not None:
                why = f"replacement refused: {result.reason}"
                names = ("size", "named", "order", "before")
                stands = {name: getattr(before, name) for name in names}
                yield from self._move(old, "", frame.seq, reason=why, **stands)
            else:
                self._refusals[id] = result.reason
                yield from self._move(old, "refused", frame.seq, reason=result.reason)

    def reported(self, row: OrderFields, subaccount: str, seq: int) -> Iterator[OrderState]:
        """Take a row that the indexer reports; one older than what is known changes nothing."""
        new = OrderState(id=row.id, subaccount=subaccount, status="UNRESOLVED", seq=seq)
        old = self.orders.get(row.id, new)
        # Rows of the database name their block; a full node's come before and after it.
        at = int(row.updated_at_height or 0)
        if 0 < at < old.height:
            return
        if row.order_flags == _LEG:
            if row.duration is None:
                return  # the chain's own order: what it fills is reported as its TWAP's
            row = _whole(row)
        event = _event_of(row, old)
        known: dict[str, Any] = {
            "subaccount": old.subaccount or subaccount,
            "filled": number(row.total_filled or "0"),
            "row": row if old.row is None else _merged(old.row, row),
            "height": max(at, old.height),
        }
        if row.size and old.order is None:
            known["size"] = number(row.size)
        if old.named is None or (old.order is None and _ends_later(row, old.named)):
            known["named"] = _name_of(row) or old.named
        if event:
            reason = (row.removal_reason or "").removeprefix("ORDER_REMOVAL_REASON_")
            gone = event in ("leaving", "cancelled")
            known["reason"] = (reason or old.reason or row.status) if gone else ""
            known["leaving"] = event == "leaving"
        yield from self._move(old, event, seq, **known)

    def filled(
        self, order_id: str, fill_id: str, size: Decimal, subaccount: str, seq: int
    ) -> Iterator[OrderState]:
        """Take a fill of an order; the same one reported again changes nothing."""
        old = self.orders.get(order_id)
        if old is not None:
            fills = self._fills.setdefault(old.id, {})
            fills[fill_id] = size
            total = sum(fills.values(), Decimal(0))
            whose = old.subaccount or subaccount
            yield from self._move(old, "", seq, filled=total, subaccount=whose)

    def listed(self, whose: Callable[[str], bool], ids: set[str], seq: int) -> Iterator[OrderState]:
        """Doubt what a snapshot should list and does not: it ended while no link was open."""
        for old in [self.orders[id] for id in sorted(self._live - ids)]:
            # A snapshot lists neither a TWAP, nor what a full node took off its book.
            is_twap = old.named is not None and old.named.order_flags == TWAP
            if whose(old.subaccount) and not (is_twap or old.leaving):
                why = "absent from a snapshot"
                yield from self._move(old, "absent", seq, reason=why)

    def block(self, height: int, time_s: int, seq: int) -> Iterator[OrderState]:
        """Move to a block: an order past its end that no frame mentioned is gone."""
        self.height, self.time = max(self.height, height), max(self.time, time_s)
        for old in [self.orders[id] for id in sorted(self._live)]:
            block, until = self._end(old)
            if 0 < block < self.height - _GRACE_BLOCKS or 0 < until < self.time - _GRACE_S:
                yield from self._move(old, "expired", seq, reason=old.reason or "EXPIRED")

    def _end(self, state: OrderState) -> tuple[int, int]:
        """Return the last block and the last second in which an order may fill; 0 is unknown."""
        named, row = state.named, state.row
        if named is not None and (named.good_til_block or named.order_flags != SHORT_TERM):
            until = named.good_til_block_time
            if row is not None and row.duration and row.created_at:
                ends = instant(row.created_at) // 1_000_000_000 + int(row.duration)
                until = min(until or ends, ends)
            return named.good_til_block, until
        # No end of it was reported, but the chain takes no order that ends after its window.
        return self._undated.setdefault(state.id, self.height) + SHORT_BLOCK_WINDOW, 0

    def _move(self, old: OrderState, event: str, seq: int, **known: Any) -> Iterator[OrderState]:
        """Apply an event to an order: its state if that changed anything."""
        filled = max(old.filled, known.pop("filled", old.filled))
        status: Status = _NEXT.get(event, {}).get(old.status, old.status)
        gone = status == "OPEN" and not filled and known.get("leaving", old.leaving)
        if gone and old.id in self._refusals:
            # The node refused it and took it off its book; the two come in either order.
            status, known["reason"] = "REJECTED", self._refusals[old.id]
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
        # Another row with the same content is stored, but is no update.
        same = msgspec.structs.replace(new, row=old.row, height=old.height) == old
        if not same or old.id not in self.orders:
            yield self._put(msgspec.structs.replace(new, seq=seq))
        elif new != old:
            self._put(new)

    def _put(self, state: OrderState) -> OrderState:
        self.orders[state.id] = state
        (self._live.discard if state.final else self._live.add)(state.id)
        if state.final:
            self._undated.pop(state.id, None)
        if len(self.orders) > _MOST_ORDERS:
            over = (id for id, known in self.orders.items() if known.final)
            if (oldest := next(over, None)) is not None:
                del self.orders[oldest]
                self._fills.pop(oldest, None)
                self._refusals.pop(oldest, None)
        return state


def _behind(state: OrderState | None, until: int, taken: bool) -> OrderState | None:
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


def _merged(old: OrderFields, new: OrderFields) -> OrderFields:
    # An update names what changed: what it leaves out keeps its value.
    given = {k: v for k, v in msgspec.structs.asdict(new).items() if v is not None}
    return msgspec.structs.replace(old, **given)


def _event_of(row: OrderFields, old: OrderState) -> str:
    """Return what a row reports to have happened, by the table of the indexer's words."""
    event = _EVENT_OF.get(row.status or "", "")
    if event == "filled" and row.order_flags == str(TWAP):
        return "seen"  # a leg of it was; the whole is filled when its size is
    reopens = event == "seen" and old.status == "CANCELLED" and old.order is None
    return "placed" if reopens and old.named and _ends_later(row, old.named) else event


def _ends_later(row: OrderFields, named: CancelRequest) -> bool:
    """Return whether a row is of an order that took another's place under the same id."""
    until, known = _name_of(row), good_until(named)
    return until is not None and good_until(until) > known


def _whole(leg: OrderFields) -> OrderFields:
    """Return what a leg's row reports of its TWAP, under whose id it comes.

    Size, price and end are the leg's own; what was filled is the whole's.
    """
    return msgspec.structs.replace(
        leg, order_flags=str(TWAP), status="OPEN", size=None, price=None, good_til_block_time=None
    )


def _name_of(row: OrderFields) -> CancelRequest | None:
    if not (row.client_id and row.clob_pair_id and row.order_flags):
        return None
    until = row.good_til_block_time
    return CancelRequest(
        ticker=row.ticker or "", clob_pair_id=int(row.clob_pair_id), client_id=int(row.client_id),
        order_flags=int(row.order_flags), good_til_block=int(row.good_til_block or 0),
        good_til_block_time=(instant(until) // 1_000_000_000 if until else 0),
    )  # fmt: skip


def good_until(request: OrderRequest | CancelRequest) -> int:
    """Return the last block, or for stateful orders the time, of an order or its cancel."""
    return request.good_til_block or request.good_til_block_time


_Cancels = dict[str, list[CancelRequest | BatchCancel]]


def cancel_all(
    states: Iterable[OrderState], *, good_til_block: int = 0, good_til_block_time: int = 0
) -> _Cancels:
    """Return what takes all these orders off the book, by subaccount.

    Short-term orders go in batches of up to 100, each until the last of their blocks or until
    `good_til_block` if that is later; the others one by one, until `good_til_block_time` where
    their own end is not known. The parts of a TWAP are the chain's: its own cancel ends them.
    """
    cancels: _Cancels = {}
    short: dict[str, list[CancelRequest]] = {}
    for state in states:
        if state.named is None or state.final or state.named.order_flags not in _FLAGS:
            continue
        if state.named.order_flags == SHORT_TERM:
            short.setdefault(state.subaccount, []).append(state.named)
        else:
            until = state.named.good_til_block_time or good_til_block_time
            named = msgspec.structs.replace(state.named, good_til_block_time=until)
            cancels.setdefault(state.subaccount, []).append(named)
    for subaccount, of_short in short.items():
        for part in (of_short[i : i + MAX_BATCH] for i in range(0, len(of_short), MAX_BATCH)):
            until = max(good_til_block, *(request.good_til_block for request in part))
            batch = [msgspec.structs.replace(request, good_til_block=until) for request in part]
            cancels.setdefault(subaccount, []).append(BatchCancel(cancels=tuple(batch)))
    return cancels


# === Account blocks ===
# What an account is worth and has earned, as a fold over blocks: pure, and the same in whatever
# order, by whichever source and however often the facts of a block are reported. A block's facts
# are its fills, its transfers, and the sizes and balances that the venue reported under its
# height. Nothing here decodes, and no `realizedPnl` of the venue is believed.


class AccountFill(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One fill of ours. `quote` and `fee` are quote quantums; a rebate's fee is negative.

    A liquidation's `fee` is what the insurance fund took, and its `order_id` is empty, as that of
    a deleveraging is. `event_id` (hexadecimal: height, transaction, event) orders the fills of a
    block; REST omits it, and it is found again from `id` where it is one of the block's first.
    `held` is what the position was before, in signed base units.
    """

    id: str
    order_id: str
    ticker: str
    side: Side
    size: Decimal
    price: Decimal
    quote: int
    fee: int
    liquidity: str
    type: str
    height: int
    created_at: str
    event_id: str = ""
    held: Decimal | None = None

    @property
    def signed(self) -> Decimal:
        """Return the size with its direction: positive buys."""
        return self.size if self.side == "BUY" else -self.size

    @property
    def paid_in(self) -> int:
        """Return what it added to the balance, in quote quantums."""
        return (-self.quote if self.side == "BUY" else self.quote) - self.fee


class Profit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an account did since its first snapshot, in quote quantums; costs are positive.

    `realized` is before fees and funding, over the average cost of what was closed; a position
    that closed counts as won or lost by that. `complete` is False where fills are missing.
    """

    realized: int = 0
    fees: int = 0
    funding: int = 0
    insurance: int = 0
    transferred: int = 0
    fills: int = 0
    liquidations: int = 0
    wins: int = 0
    losses: int = 0
    complete: bool = True


class _Lot(msgspec.Struct, frozen=True, gc=False):
    """A position folded from fills: `cost` is its average, in quote quantums per base unit."""

    size: Decimal = Decimal(0)
    cost: Fraction = Fraction(0)
    gained: Fraction = Fraction(0)  # since it was opened


class _Sums(msgspec.Struct, gc=False):
    """An account at the end of a block; `balance` is in quote quantums, None if not known."""

    lots: dict[str, _Lot] = {}
    balance: int | None = None
    realized: Fraction = Fraction(0)
    profit: Profit = Profit()


class _Snapshot(msgspec.Struct, frozen=True):
    """All that an account held at the end of a block: sizes and average entries, by ticker.

    `unreadable` are the tickers of which no more is known than that there is a position.
    """

    held: dict[str, tuple[Decimal, Decimal]]
    balance: int | None
    unreadable: frozenset[str] = frozenset()


class _Facts(msgspec.Struct, gc=False):
    """What was reported under one height, and the account as it was before it.

    `sizes` and `balances` stand in the order in which they came: while the block is new its last
    one is believed. `broken` is why the reports of a ticker do not add up. `inner` means that money
    moved between children of one parent: its channel reports that, but neither whose nor how much.
    `torn` means that frames of it were lost: fills may go beyond the sizes that came. `first`
    means that the account begins with its snapshot, so that its fills are history;
    `early` that its snapshot has the positions of before it.
    """

    height: int
    before: _Sums
    fills: dict[str, AccountFill] = {}
    transfers: dict[tuple[Any, ...], int] = {}
    sizes: dict[str, list[tuple[Decimal, Decimal]]] = {}
    balances: list[int] = []
    snapshot: _Snapshot | None = None
    broken: dict[str, str] = {}
    inner: bool = False
    torn: bool = False
    first: bool = False
    early: bool = False


_height_of = attrgetter("height")


def _after(block: _Facts) -> _Sums:
    """Return the account at the end of a block; `block.broken` receives what does not add up."""
    before, snapshot = block.before, block.snapshot
    sums = _Sums(dict(before.lots), before.balance, before.realized, before.profit)
    block.broken = {}
    block.early = early = snapshot is not None and _is_early(block, snapshot)
    if snapshot is not None and early:
        _match(sums, snapshot)
    if early or not block.first:
        _trade_all(sums, block, whole=not block.torn and (snapshot is None or early))
    _settle(sums, block)
    if snapshot is not None and not early:
        _match(sums, snapshot)
        _compare(block, snapshot)
    if block.first:
        # Profit counts from its end, and what the snapshot has of its fills is not known for sure.
        sums.realized, sums.profit = Fraction(0), Profit(complete=sums.lots == before.lots)
    return sums


def _is_early(block: _Facts, snapshot: _Snapshot) -> bool:
    """Return whether a snapshot has the positions of before the block that it names.

    The indexer reads an account's row, its positions and its balance apart from each other: while
    it commits a block it may answer with the new height and the old positions. These are all of
    one read, and one with which the block's fills come to what the socket reports betrays them.
    """
    moved: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in block.fills.values():
        moved[fill.ticker] += fill.signed
    for ticker, signed in moved.items():
        was, _ = snapshot.held.get(ticker, (Decimal(0), Decimal(0)))
        sizes = [size for size, _ in block.sizes.get(ticker, ())]
        if signed and was == block.before.lots.get(ticker, _Lot()).size and was + signed in sizes:
            return True
    return False


def _compare(block: _Facts, snapshot: _Snapshot) -> None:
    """Hold a snapshot to what the socket reports of its block: one of those sizes is the last."""
    for ticker, reported in block.sizes.items():
        size, _ = snapshot.held.get(ticker, (Decimal(0), Decimal(0)))
        known = ticker not in snapshot.unreadable and not block.torn
        if known and size not in [each for each, _ in reported]:
            was = f"{reported[-1][0]:f} was reported"
            block.broken[ticker] = f"a snapshot has {size:f} {ticker}, {was}"


def _trade_all(sums: _Sums, block: _Facts, *, whole: bool) -> None:
    """Trade the fills of a block, and hold them to its sizes if all of those came."""
    by_ticker: defaultdict[str, list[AccountFill]] = defaultdict(list)
    for fill in block.fills.values():
        by_ticker[fill.ticker].append(fill)
    for ticker, fills in by_ticker.items():
        _trade(sums, ticker, fills)
        if ticker not in block.sizes and whole:
            block.broken[ticker] = f"fills of {ticker} are reported without its position"
    for ticker, reported in block.sizes.items():
        held = sums.lots.get(ticker, _Lot()).size
        if whole and held not in [size for size, _ in reported]:
            was = f"{reported[-1][0]:f} was reported"
            block.broken[ticker] = f"fills add up to {held:f} {ticker}, {was}"
            # The venue goes on from what it reports: if the next block bears that out, so do we.
            _jump(sums, ticker, *reported[-1])


def _trade(sums: _Sums, ticker: str, fills: list[AccountFill]) -> None:
    """Trade the fills of one block in one market, in the order of their events."""
    lot, profit = sums.lots.get(ticker, _Lot()), sums.profit
    for fill in _in_order(fills, lot.size):
        was, lot, gained = lot, *_traded(lot, fill)
        sums.realized += gained
        closed = bool(was.size) and (not lot.size or (lot.size > 0) != (was.size > 0))
        won = was.gained + gained if closed else Fraction(0)
        insured = fill.type == "LIQUIDATED"
        profit = msgspec.structs.replace(
            profit,
            fees=profit.fees + (0 if insured else fill.fee),
            insurance=profit.insurance + (fill.fee if insured else 0),
            fills=profit.fills + 1,
            liquidations=profit.liquidations + insured,
            wins=profit.wins + (won > 0),
            losses=profit.losses + (won < 0),
        )
    sums.profit = profit
    if lot.size:
        sums.lots[ticker] = lot
    else:
        sums.lots.pop(ticker, None)


def _in_order(fills: list[AccountFill], held: Decimal) -> Iterable[AccountFill]:
    """Sort the fills of one block and market by their events, or by what each found held."""
    if len(fills) == 1 or all(fill.event_id for fill in fills):
        return sorted(fills, key=lambda fill: fill.event_id)
    left, ordered = sorted(fills, key=lambda fill: (fill.event_id, fill.id)), []
    while left:
        after = next((fill for fill in left if fill.held == held), left[0])
        left.remove(after)
        ordered.append(after)
        held += after.signed
    return ordered


def _traded(lot: _Lot, fill: AccountFill) -> tuple[_Lot, Fraction]:
    """Return a position after a fill, and what that realised in quote quantums."""
    size, quote = lot.size + fill.signed, Fraction(fill.quote)
    price = quote / Fraction(fill.size)
    if not lot.size or (lot.size > 0) == (fill.signed > 0):
        cost = (lot.cost * Fraction(abs(lot.size)) + quote) / Fraction(abs(size))
        return _Lot(size, _bounded(cost), lot.gained), Fraction(0)
    closed = Fraction(min(abs(lot.size), fill.size))
    gained = (price - lot.cost) * closed * (1 if lot.size > 0 else -1)
    if size and (size > 0) != (lot.size > 0):
        return _Lot(size, price), gained
    return _Lot(size, lot.cost, lot.gained + gained), gained


def _bounded(cost: Fraction) -> Fraction:
    # Thousands of additions would make a fraction of thousands of digits; 30 are beyond any money.
    return cost if cost.denominator < 10**60 else Fraction(round(cost * 10**30), 10**30)


def _settle(sums: _Sums, block: _Facts) -> None:
    """Find the balance at the end of a block; what fills and transfers leave open is funding.

    Several balances of one block may come, one after each match, and in any order: from the one
    at its end the fills explain all others, and of two that do so it leaves the least open.
    """
    given, funding = sum(block.transfers.values()), 0  # integers
    if sums.balance is not None:
        expected = sums.balance + _moved(block)
        steps = _explained(sums.balance, block)

        def apart(end: int) -> tuple[int, int, int]:
            left = expected - end
            explained = sum(balance + left in steps for balance in {*block.balances})  # integers
            return -explained, abs(left), end

        sums.balance = min(_ends(block), key=apart, default=expected)
        if block.inner and not block.transfers:
            given = sums.balance - expected
        else:
            funding = expected - sums.balance
    profit = sums.profit
    sums.profit = msgspec.structs.replace(
        profit, transferred=profit.transferred + given, funding=profit.funding + funding
    )


def _ends(block: _Facts) -> list[int]:
    """Return the balances that may be the one at the end of a block."""
    snapshot, before = block.snapshot, block.before.balance
    if snapshot is not None and snapshot.balance is not None:
        moved = _moved(block)
        # It is read apart from the positions, and may be early where they are not.
        early = block.early or (moved and snapshot.balance == before)
        later = [balance for balance in block.balances if early and balance != before]
        return later or [snapshot.balance]
    # The last of a torn block may be lost; what it settled shows in the next.
    return [] if block.torn else block.balances


def _explained(balance: int, block: _Facts) -> set[int]:
    """Return what the fills of a block make of a balance, one by one, and transfers besides."""
    fills = sorted(block.fills.values(), key=lambda fill: (fill.event_id, fill.id))
    given = sum(block.transfers.values())  # integers
    moved = itertools.accumulate((fill.paid_in for fill in fills), initial=balance)
    return {after + paid for after in moved for paid in (0, given)}


def _moved(block: _Facts) -> int:
    """Return by how much fills and transfers change the balance in a block."""
    given = sum(block.transfers.values())  # integers
    return given + sum(fill.paid_in for fill in block.fills.values())  # integers


def _jump(sums: _Sums, ticker: str, size: Decimal, entry: Decimal) -> None:
    """Take what is reported for what is held: fills of it are missing."""
    sums.profit = msgspec.structs.replace(sums.profit, complete=False)
    known = sums.lots.pop(ticker, _Lot())
    if size:
        cost = Fraction(entry) * 10**6 if entry else known.cost
        sums.lots[ticker] = _Lot(size, cost)


def _begun(snapshot: _Snapshot) -> _Sums:
    """Return an account that begins with a snapshot."""
    lots = {
        ticker: _Lot(size, Fraction(entry) * 10**6)
        for ticker, (size, entry) in snapshot.held.items()
    }
    return _Sums(lots, snapshot.balance)


def _match(sums: _Sums, snapshot: _Snapshot) -> None:
    """Hold an account to a snapshot: what differs was traded unseen, and the snapshot is right."""
    for ticker in [*sums.lots, *snapshot.held]:
        if ticker in snapshot.unreadable:
            continue
        size, entry = snapshot.held.get(ticker, (Decimal(0), Decimal(0)))
        if sums.lots.get(ticker, _Lot()).size != size:
            _jump(sums, ticker, size, entry)
    if sums.balance is None and snapshot.balance is not None:
        sums.balance = snapshot.balance


# === Account state ===
# The one reader of account frames: sockets and REST, whole and in parts, early, late and twice.
# Every fact goes to its block; what an account holds is what its blocks come to. What cannot be
# read, was lost or does not add up is a doubt with its reason, and hides nothing else.


class PositionState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A perpetual position: signed base units, and the average entry price in USDC.

    `size` 0 means that it closed; `entry_price` 0 that it is not known yet: a new position is
    reported before its fills.
    """

    ticker: str
    size: Decimal
    entry_price: Decimal


class AccountUpdate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a frame changed in what is known of a subaccount, and what is in doubt after it.

    `height` is the newest block reported of the account. `orders` are those whose state changed,
    `fills`, `transfers` and `funding` come once each, `positions` when they change. `collateral`
    is its USDC in quote quantums, None before it is known; `unexplained` is how much of its change
    neither fills nor transfers explain yet: a balance is reported before its cause, and what has
    none once its block is over is funding. `settled` means that the chain settled its funding
    since the last update. `doubt` is empty if all that is held is certain;
    `unreadable` names positions of which no size is known; `polled` means that no socket carries
    the account: what is held comes from REST, as long as that is polled.
    """

    seq: int
    at: int
    subaccount: Subaccount
    height: int
    orders: tuple[OrderState, ...] = ()
    fills: tuple[AccountFill, ...] = ()
    positions: tuple[PositionState, ...] = ()
    transfers: tuple[TransferFields, ...] = ()
    funding: tuple[FundingPaymentFields, ...] = ()
    collateral: int | None = None
    unexplained: int = 0
    settled: bool = False
    profit: Profit = Profit()
    doubt: str = ""
    unreadable: tuple[str, ...] = ()
    polled: bool = False


_ACCOUNTS: Final = frozenset(name for name, row in CHANNELS.items() if row.kind == "account")
_LISTS: Final = tuple(
    ENDPOINTS[what] for what in ("subaccount", "orders", "fills", "transfers", "funding_payments")
)
_UNSEEN: Final = "no account snapshot yet"
_MOST_BLOCKS: Final = 64  # whose facts may still come; what comes for an older one is only counted
_MOST_FILLS: Final = 16_384
_PAID_IN: Final = {"DEPOSIT": 1, "TRANSFER_IN": 1, "WITHDRAWAL": -1, "TRANSFER_OUT": -1}
_BAD_ROW = (ConnError, ValueError, ArithmeticError)


class _Account:
    """One subaccount: its blocks, the doubts by their cause, and what was reported last."""

    __slots__ = (
        "begun", "blocks", "carried", "doubts", "height", "ids", "link", "lost", "over",
        "positions", "settled_at", "shown", "subaccount", "sums", "unlisted", "unreadable",
    )  # fmt: skip

    def __init__(self, subaccount: Subaccount) -> None:
        self.subaccount = subaccount
        self.blocks: list[_Facts] = []  # by height
        self.sums = _Sums()
        self.begun: int | None = None  # the height of the first snapshot; what is older is history
        self.ids: dict[Any, None] = {}  # of what happened once: fills, transfers, payments
        self.doubts: dict[str, str] = {"snapshot": _UNSEEN}
        self.unreadable: set[str] = set()
        self.positions: dict[str, PositionState] = {}
        self.height = self.over = 0
        self.settled_at = -1  # the newest height under which a balance was reported
        self.link, self.carried = "", False  # the socket's, and whether it reports the account
        self.lost = 0  # the block in which frames were lost, until all lists have come since
        self.unlisted: set[str] = set()  # those lists that have not
        self.shown: Any = None  # what the last update held besides its lists

    @property
    def doubt(self) -> str:
        """Return the first reason why what is held is not certain."""
        return next(iter(self.doubts.values()), "")

    @property
    def profit(self) -> Profit:
        """Return what was earned; what a block that is not over leaves open may still come."""
        new, profit = next(iter(self._open()), None), self.sums.profit
        before = profit if new is None else new.before.profit
        funding, complete = before.funding, before.complete
        if new is not None and new.snapshot is not None:
            complete = profit.complete  # nothing more of it comes by itself
        # To the nearest: an entry that a snapshot reports is cut at its twentieth digit or so.
        realized = round(self.sums.realized)
        return msgspec.structs.replace(
            profit, realized=realized, funding=funding,
            complete=complete and "fills" not in self.unlisted,
        )  # fmt: skip

    @property
    def collateral(self) -> int | None:
        """Return the balance as it is believed now."""
        newest = next((block for block in reversed(self.blocks) if block.balances), None)
        if newest is not None and newest.height > self.over:
            return (_ends(newest) or newest.balances)[-1]
        return self.sums.balance

    @property
    def unexplained(self) -> int:
        """Return what fills and transfers leave open of the balance while more may be reported."""
        new, balance = [block for block in self._open() if not block.first], self.collateral
        if not new or balance is None or new[0].before.balance is None or new[-1].inner:
            return 0
        return balance - new[0].before.balance - sum(_moved(block) for block in new)  # integers

    def block(self, height: int) -> _Facts | None:
        """Return the block of a height, made on first sight; None for one too old to matter."""
        blocks = self.blocks
        at = bisect_left(blocks, height, key=lambda block: block.height)
        if at < len(blocks) and blocks[at].height == height:
            return blocks[at]
        if height == self.begun:
            return None
        # What came during a loss may be of more blocks than these, and be listed newest first.
        if at == 0 and len(blocks) >= _MOST_BLOCKS and not self.unlisted:
            return None
        made = _Facts(height, _after(blocks[at - 1]) if at else _Sums(), {}, {}, {}, [], None, {})
        if at == 0 and blocks:
            made.before = blocks[0].before
        blocks.insert(at, made)
        if len(blocks) > _MOST_BLOCKS and not self.unlisted:
            del blocks[:-_MOST_BLOCKS]
        return made

    def transfers_of(self, height: int) -> list[tuple[Any, ...]]:
        """Return what tells the transfers of a block apart."""
        return [key for block in self.blocks if block.height == height for key in block.transfers]

    def begin(self, height: int, snapshot: _Snapshot) -> None:
        """Begin with a snapshot: profit counts from here, and what is older is history."""
        self.begun, self.sums = height, _begun(snapshot)
        self.blocks = [_Facts(height, self.sums, {}, {}, {}, [], snapshot, {}, first=True)]

    def lose(self) -> None:
        """Note that frames were lost: of the newest block, and of any that is not over."""
        torn = [block for block in self.blocks if block.height > self.over] or self.blocks[-1:]
        for block in torn:
            block.torn = True
        if torn:
            self.lost = min(self.lost, torn[0].height) if self.unlisted else torn[0].height
            self.unlisted = {"fills", "transfers"}

    def reach(self, what: str, heights: Sequence[int], most: int) -> None:
        """Note that a list came, newest first; one of `most` rows may lack what is older."""
        if len(heights) < most or min(heights, default=0) <= self.lost:
            self.unlisted.discard(what)

    def _open(self) -> list[_Facts]:
        """Return the blocks of which more may be reported: new ones, and those since a loss."""
        over, snapshots = self.over, [b.height for b in self.blocks if b.snapshot is not None]
        # A list that never comes must not excuse what a balance lost for ever.
        if self.unlisted and snapshots and over <= snapshots[-1] + _MOST_BLOCKS:
            over = min(over, self.lost - 1)
        return [block for block in self.blocks if block.height > over]

    def refold(self, height: int) -> None:
        """Fold the blocks again from a height on, then judge those that are over."""
        at = bisect_left(self.blocks, height, key=_height_of)
        for block, following in pairwise(self.blocks[at:]):
            following.before = _after(block)
        self.sums = _after(self.blocks[-1])
        self.judge()

    def judge(self) -> None:
        """Report what does not add up in blocks that are over: the newest reason of a ticker."""
        broken: dict[str, str] = {}
        for block in self.blocks:
            if block.snapshot is not None:
                broken = {}
            if block.height <= self.over and (broken or block.broken):
                for ticker in block.sizes:
                    broken.pop(ticker, None)
                broken |= {t: f"block {block.height}: {why}" for t, why in block.broken.items()}
        self.doubts.pop("block", None)
        if broken:
            self.doubts["block"] = "; ".join(broken.values())

    def move(self, height: int) -> bool:
        """Note that a block is over: all its reports have come. Return whether that may matter."""
        if height <= self.over:
            return False
        before, self.over = self.over, height
        at = bisect_right(self.blocks, before, key=_height_of)
        new = at < len(self.blocks) and self.blocks[at].height <= height
        return new or bool(self.unlisted)

    def hold(self) -> tuple[PositionState, ...]:
        """Work out the positions that are believed now; return those that changed."""
        held: dict[str, PositionState] = {}
        for ticker, lot in self.sums.lots.items():
            price = Decimal(lot.cost.numerator) / lot.cost.denominator / 10**6
            held[ticker] = PositionState(ticker=ticker, size=lot.size, entry_price=price)
        for ticker, (size, entry) in self._reported().items():
            known = held.get(ticker)
            if known is None or known.size != size:
                entry = entry or (known.entry_price if known is not None else entry)
                held[ticker] = PositionState(ticker=ticker, size=size, entry_price=entry)
        for ticker in self.unreadable & self.positions.keys():
            held[ticker] = self.positions[ticker]
        held = {ticker: state for ticker, state in held.items() if state.size}
        gone = [ticker for ticker in self.positions if ticker not in held]
        changed = [state for ticker, state in held.items() if self.positions.get(ticker) != state]
        changed += [PositionState(ticker=t, size=Decimal(0), entry_price=Decimal(0)) for t in gone]
        self.positions = held
        return tuple(changed)

    def _reported(self) -> dict[str, tuple[Decimal, Decimal]]:
        # What the venue reported last of a ticker is believed while its block is new, and where
        # fills do not add up to it; a snapshot leaves no doubt.
        last: dict[str, tuple[_Facts, tuple[Decimal, Decimal]]] = {}
        for block in self.blocks:
            if block.snapshot is not None:
                last.clear()
            if block.snapshot is None or block.early:
                last.update((ticker, (block, rows[-1])) for ticker, rows in block.sizes.items())
        return {
            ticker: row
            for ticker, (block, row) in last.items()
            if block.height > self.over or ticker in block.broken
        }


class _Known:
    """All that is known: the orders, and the accounts that are of interest."""

    def __init__(self, only: frozenset[Subaccount]) -> None:
        self.orders = Lifecycle()
        self.accounts: dict[Subaccount, _Account] = {}
        self.parents: dict[Subaccount, int] = {}  # the height of the newest snapshot of a parent
        self._only = only

    def of(self, owner: str, number: int) -> _Account | None:
        """Return an account, made on first sight; None if it is of no interest."""
        subaccount = Subaccount(owner, number)
        if self._only and subaccount not in self._only:
            return None
        account = self.accounts.get(subaccount)
        if account is None:
            account = self.accounts[subaccount] = _Account(subaccount)
            parent = Subaccount(owner, number % PARENTS)
            if parent in self.parents:
                # A snapshot lists all children but those that were never funded.
                account.begin(self.parents[parent], _Snapshot({}, 0))
                account.doubts = {}
        return account

    def family(self, owner: str, number: int, *, of_parent: bool) -> list[_Account]:
        """Return what is known of one subaccount, or of all children of a parent."""
        return [
            account
            for whose, account in self.accounts.items()
            if whose.owner == owner
            and (whose.number % PARENTS if of_parent else whose.number) == number
        ]

    def update(
        self, account: _Account, frame: Frame, *, always: bool = False, **lists: Any
    ) -> list[AccountUpdate]:
        """Return what changed of an account since its last update, if anything did."""
        positions = account.hold()
        shown: dict[str, Any] = {
            "collateral": account.collateral,
            "unexplained": account.unexplained,
            "doubt": account.doubt,
            "unreadable": tuple(sorted(account.unreadable)),
            "polled": not account.carried,
            "profit": account.profit,
        }
        if not (always or positions or any(lists.values()) or shown != account.shown):
            return []
        account.shown = shown
        return [
            AccountUpdate(
                seq=frame.seq, at=frame.at, subaccount=account.subaccount, height=account.height,
                positions=positions, **shown, **lists,
            )
        ]  # fmt: skip


# === Account rows ===
# From the rows of one frame to the blocks of the accounts that they are of, each row by itself.


class _Rows:
    """The rows of one frame, each on its way to the account it is of."""

    def __init__(self, known: _Known, frame: Frame, owner: str) -> None:
        self.known, self.frame, self.owner = known, frame, owner
        self.whole = self.polled = False
        self.most, self.unfolded = _MOST, dict[int, int]()
        self.of_parent = frame.channel == "v4_parent_subaccounts"
        self.lists: dict[int, dict[str, list[Any]]] = {}
        self.settled: set[int] = set()
        self.faults: list[str] = []
        self.odd: dict[str, list[str]] = {}  # names of the rows that were left out, by their list

    def _account(self, own: int, row: Any = None) -> _Account | None:
        given = getattr(row, "subaccount_number", None)
        account = self.known.of(self.owner, own if given is None else int(given))
        if account is not None:
            self.lists.setdefault(account.subaccount.number, {})
        return account

    def _note(self, account: _Account, what: str, value: Any) -> None:
        self.lists[account.subaccount.number].setdefault(what, []).append(value)

    def _height(self, text: str | None) -> int:
        try:
            return int(text or 0)
        except ValueError as error:
            self.faults.append(f"cannot be read: {error}")
            return 0

    def _each(self, take: Callable[[Any, int, int], None], row: Any, own: int, at: int) -> None:
        # One that cannot be read must not hide the others.
        try:
            take(row, own, at)
        except _BAD_ROW as error:
            self.faults.append(f"cannot be read: {error}")

    def _block(self, account: _Account, height: int) -> _Facts | None:
        """Return the block that a fact belongs to, and take note that those before it are over."""
        # A list has what happened before the snapshot; a socket may have more of its block to come.
        if account.begun is None or height < account.begun + self.polled:
            return None
        account.height = max(account.height, height)
        account.move(height - 1)
        return account.block(height)

    def _balance(self, row: AssetPositionFields, own: int, at: int) -> None:
        account = self._account(own, row)
        if account is None or row.symbol != "USDC":
            return
        balance = abs(_quote_quantums(row.size)) * (-1 if row.side == "SHORT" else 1)
        block = self._block(account, _when(account, at))
        if block is not None:
            block.balances.append(balance)
            self._settle(account, block.height)
            account.refold(block.height)

    def _refold(self, account: _Account, height: int) -> None:
        # A list, of a thousand rows maybe, is folded once and not row by row.
        if self.polled:
            number = account.subaccount.number
            self.unfolded[number] = min(height, self.unfolded.get(number, height))
        else:
            account.refold(height)

    def _settle(self, account: _Account, height: int) -> None:
        if height > account.settled_at:
            account.settled_at = height
            self.settled.add(account.subaccount.number)

    def _positions(self, rows: Iterable[PositionFields], own: int, at: int) -> None:
        # A flip reports the old position closed beside the new one: what is open counts.
        sizes: dict[tuple[int, str], tuple[Decimal, Decimal]] = {}
        for row in rows:
            account = self._account(own, row)
            if account is None:
                continue
            key = (account.subaccount.number, row.market)
            try:
                size = number(row.size) if row.status == "OPEN" else Decimal(0)
                sizes[key] = (
                    (size, number(row.entry_price)) if size or key not in sizes else sizes[key]
                )
                account.unreadable.discard(row.market)
            except _BAD_ROW as error:
                account.unreadable.add(row.market)
                self.faults.append(f"cannot be read: {error}")
        for (given, ticker), reported in sizes.items():
            account = self.known.of(self.owner, given)
            block = None if account is None else self._block(account, _when(account, at))
            if account is not None and block is not None:
                block.sizes.setdefault(ticker, []).append(reported)
                account.refold(block.height)

    def _fill(self, row: FillFields, own: int, at: int) -> None:
        account = self._account(own, row)
        if account is None:
            return
        fill, seq, whose = (
            _fill_of(row, _when(account, at)),
            self.frame.seq,
            str(account.subaccount),
        )
        for state in self.known.orders.filled(fill.order_id, fill.id, fill.size, whose, seq):
            self._note(account, "orders", state)
        block = self._block(account, fill.height)
        if block is None or not fill.ticker:
            return
        known, new = block.fills.get(fill.id), self._once(account, ("fill", fill.id))
        if new:
            fill = fill if fill.event_id else _with_event(fill)
            self._note(account, "fills", fill)
        if new or (known is not None and fill.event_id and not known.event_id):
            block.fills[fill.id] = fill
            self._refold(account, block.height)

    def _once(self, account: _Account, key: Any) -> bool:
        if key in account.ids:
            return False
        account.ids[key] = None
        if len(account.ids) > _MOST_FILLS:
            del account.ids[next(iter(account.ids))]
        return True

    def _transfer(self, row: TransferFields, own: int, at: int) -> None:
        account = self._account(own)
        if account is None:
            return
        height = int(row.created_at_height or 0) or _when(account, at)
        ends = msgspec.structs.astuple(row.sender), msgspec.structs.astuple(row.recipient)
        key = (row.transaction_hash, height, row.type, row.size, row.symbol, *ends[0], *ends[1])
        amount = _PAID_IN.get(row.type, 0) * _quote_quantums(row.size)
        block = None if height == account.begun else self._block(account, height)
        family = self.known.family(self.owner, own % PARENTS, of_parent=True)
        listed = [known for each in family for known in each.transfers_of(height)]
        # A parent's list names no child: it may be what a channel has reported of one.
        if any(known != key and _is_alike(known, key) for known in listed):
            return
        if block is not None and self._once(account, key):
            self._note(account, "transfers", row)
            if row.symbol == "USDC":
                block.transfers[key] = amount
                self._refold(account, height)

    def _inner(self, own: int, at: int) -> None:
        account = self._account(own)
        block = None if account is None else self._block(account, _when(account, at))
        if account is not None and block is not None:
            block.inner = True
            account.refold(block.height)

    def _payment(self, row: FundingPaymentFields, own: int, _: int) -> None:
        account = self._account(own, row)
        if account is not None and self._once(account, (row.ticker, row.created_at)):
            self._note(account, "funding", row)

    def _orders(self, rows: Iterable[OrderFields], own: int, at: int) -> None:
        for row in rows:
            self._each(self._order, row, own, at)

    def _order(self, row: OrderFields, own: int, at: int) -> None:
        account = self._account(own, row)
        if account is not None:
            orders, seq = self.known.orders, self.frame.seq
            for state in orders.reported(row, str(account.subaccount), seq):
                self._note(account, "orders", state)

    def _listed(self, rows: Iterable[OrderFields], own: int) -> None:
        def whose(subaccount: str) -> bool:
            owner, _, given = subaccount.partition("/")
            if owner != self.owner:
                return False
            return own == (int(given) % PARENTS if self.of_parent else int(given))

        ids = {*(row.id for row in rows), *self.odd.get("orders", ())}
        for state in self.known.orders.listed(whose, ids, self.frame.seq):
            self._pass_on(state)

    def _pass_on(self, state: OrderState) -> None:
        owner, _, given = state.subaccount.partition("/")
        account = self._account(int(given)) if owner == self.owner else None
        if account is not None:
            self._note(account, "orders", state)


def _is_alike(key: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Return whether two reports may be of one transfer: who is not named may be anybody."""
    return all(a == b or None in (a, b) for a, b in zip(key, other, strict=True))


def _when(account: _Account, height: int) -> int:
    # What names no block belongs to the newest, or else to the first after the snapshot.
    return height or max(account.height, (account.begun or 0) + 1)


def _fill_of(row: FillFields, height: int) -> AccountFill:
    size, price = number(row.size), number(row.price)
    held = None
    if row.position_size_before is not None:
        held = number(row.position_size_before) * (-1 if row.position_side_before == "SHORT" else 1)
    return AccountFill(
        id=row.id, order_id=row.order_id or "", ticker=row.ticker or row.market or "",
        side=row.side, size=size, price=price, quote=int((size * price).scaleb(6)),
        fee=_quote_quantums(row.fee), liquidity=row.liquidity, type=row.type,
        height=int(row.created_at_height or height), created_at=row.created_at,
        event_id=str(row.event_id or ""), held=held,
    )  # fmt: skip


def _with_event(fill: AccountFill) -> AccountFill:
    """Find the event of a fill that REST reports without it: the fill's id is made of it."""
    for event in range(_MOST_EVENTS):
        text = f"{fill.height:08x}{_MATCHES:08x}{event:08x}"
        if event_id(text, fill.liquidity) == fill.id:
            return msgspec.structs.replace(fill, event_id=text)
    return fill


# All matches of a block are events of its first transaction; two numbers before it are the block's.
_MATCHES: Final = 2
_MOST_EVENTS: Final = 256


def _quote_quantums(usdc: str) -> int:
    return int(number(usdc).scaleb(6))


# === Account readings ===
# From one frame of the account's channels or endpoints to the updates of its accounts: its parts,
# its snapshots, its updates.


class _Reading(_Rows):
    """One frame of the account's channels or endpoints: its parts, its snapshots, its updates."""

    def contents(self) -> list[Any]:
        """Decode the frame, and take note of the rows that are left out."""
        try:
            decoded = contents(self.frame)
        except WireError as error:
            self.faults.append(f"cannot be read: {error}")
            return []
        for row in odd_rows(self.frame):
            self.faults.append(f"cannot be read: {row}")
            self.odd.setdefault(row.part, []).append(row.name)
        return decoded

    def take(self, part: SubaccountContents, account: _Account, own: int) -> None:
        """Take what one message reports, each row by itself."""
        height = self._height(part.block_height)
        if self.whole:
            # Who was never funded gets an empty snapshot, not one without its subaccount.
            if part.subaccount is None and msgspec.json.decode(self.frame.raw) != {}:
                self.faults.append(f"is of no subaccount: {self.frame.text[:80]!r}")
                return
            self._snapshots(part.subaccount or _NOTHING, own, height)
            self._listed(part.orders, own)
        account.unreadable |= {*self.odd.get("perpetualPositions", ())}
        if part.perpetual_positions:
            self._positions(part.perpetual_positions, own, height)
        for asset in part.asset_positions:
            self._each(self._balance, asset, own, height)
        self._orders(part.orders, own, height)
        for fill in part.fills:
            self._each(self._fill, fill, own, height)
        if part.transfers is not None:
            self._each(self._transfer, part.transfers, own, height)
        elif self.of_parent and part == SubaccountContents(block_height=part.block_height):
            self._inner(own, height)
        for state in self.known.orders.block(height, 0, self.frame.seq) if height else ():
            self._pass_on(state)

    def answer(self, answer: Any, own: int) -> None:
        """Take an answer of REST: a subaccount, or a list of one kind."""
        if isinstance(answer, _OneSubaccount):
            self._snapshots(answer.subaccount, own, 0)
            return
        if isinstance(answer, list):
            self._orders(answer, own, 0)
        for fill in reversed(getattr(answer, "fills", ())):
            self._each(self._fill, fill, own, 0)
        for transfer in reversed(getattr(answer, "transfers", ())):
            self._each(self._transfer, transfer, own, 0)
        for payment in getattr(answer, "funding_payments", ()):
            self._each(self._payment, payment, own, 0)
        self._fold(answer, own)

    def _fold(self, answer: Any, own: int) -> None:
        """Fold what a list has brought, once for all of its rows, and take note that it came."""
        for number, height in self.unfolded.items():
            if (account := self.known.of(self.owner, number)) is not None:
                account.refold(height)
        for what in () if self.odd else ("fills", "transfers"):
            if (rows := getattr(answer, what, None)) is not None:
                heights = [self._height(row.created_at_height) for row in rows]
                for account in self.known.family(self.owner, own, of_parent=self.of_parent):
                    account.reach(what, heights, self.most)

    def updates(self, account: _Account) -> list[AccountUpdate]:
        """Return an update for each subaccount that the frame is about, the first for `account`."""
        if self.faults:
            why = f"account frame {self.frame.seq} {'; '.join(self.faults)}"
            account.doubts["frame"] = why
        made: list[AccountUpdate] = []
        for own in dict.fromkeys([account.subaccount.number, *self.lists]):
            of = self.known.of(self.owner, own)
            if of is not None:
                lists = {name: tuple(rows) for name, rows in self.lists.get(own, {}).items()}
                settled = own in self.settled
                made += self.known.update(of, self.frame, always=True, settled=settled, **lists)
        return made

    def _snapshots(self, held: SubaccountFields, own: int, at: int) -> None:
        if held.address not in ("", self.owner):
            self.faults.append(f"is of {held.address}, expected {self.owner}")
        elif held is not _NOTHING and self.of_parent == (held.child_subaccounts is None):
            what = "the children of" if self.of_parent else "subaccount"
            self.faults.append(f"is of subaccount {held.subaccount_number}, expected {what} {own}")
        elif self.of_parent:
            for child in held.child_subaccounts or ():
                if child.subaccount_number is None:
                    self.faults.append("has a child without its number")
                else:
                    self._snapshot(child, child.subaccount_number, at)
            self._unlisted(held, own, at)
        elif held.subaccount_number in (None, own):
            self._snapshot(held, own, at)
        else:
            self.faults.append(f"is of subaccount {held.subaccount_number}, expected {own}")

    def _snapshot(self, held: SubaccountFields, own: int, at: int) -> None:
        account = self._account(own)
        if account is None:
            return
        # It is of the end of the block that changed the account last, and knows all until the
        # block that was processed last.
        known = self._height(held.latest_processed_block_height) or at
        if not (known or account.positions or account.collateral):
            known = account.height  # never funded: there was no block yet to name
        height = self._height(held.updated_at_height) or known
        snapshot, begins = self._snapshot_of(account, held), account.begun is None
        if account.begun is None:
            account.begin(height, snapshot)
        elif height >= account.begun:
            block = account.block(height)
            if block is not None:
                block.snapshot = snapshot
                block.before = _begun(snapshot) if block.first else block.before
                block.balances += [] if snapshot.balance is None else [snapshot.balance]
                account.move(height - 1)
                account.refold(height)
        if begins or known >= account.height:
            self._clear(account)
        account.height = max(account.height, known)
        self._settle(account, height)

    def _unlisted(self, held: SubaccountFields, parent: int, at: int) -> None:
        """Begin with nothing what a parent's snapshot does not list: it was never funded."""
        children = held.child_subaccounts or ()
        for child in children:
            at = max(at, self._height(child.latest_processed_block_height))
        self.known.parents[Subaccount(self.owner, parent)] = at
        listed = {child.subaccount_number for child in children}
        for known in self.known.family(self.owner, parent, of_parent=True):
            number = known.subaccount.number
            if number not in listed and not (known.positions or known.collateral):
                self._snapshot(_NOTHING, number, at)
            elif number not in listed and not 0 < at < known.height:
                self.faults.append(f"does not list subaccount {number}")

    def _clear(self, account: _Account) -> None:
        # A snapshot that is not behind ends every doubt but that a list was not answered.
        given = account.doubts.get("block")
        lists = {cause: why for cause, why in account.doubts.items() if cause.startswith("/")}
        account.doubts = ({} if given is None else {"block": given}) | (
            lists if self.polled else {}
        )

    def _snapshot_of(self, account: _Account, held: SubaccountFields) -> _Snapshot:
        account.unreadable = {*self.odd.get("openPerpetualPositions", ())}
        sizes: dict[str, tuple[Decimal, Decimal]] = {}
        for row in held.open_perpetual_positions.values():
            try:
                sizes[row.market] = number(row.size), number(row.entry_price)
            except _BAD_ROW as error:
                account.unreadable.add(row.market)
                self.faults.append(f"cannot be read: {error}")
        balance: int | None = None if "assetPositions" in self.odd else 0
        for asset in held.asset_positions.values():
            try:
                if asset.symbol == "USDC":
                    owed = -1 if asset.side == "SHORT" else 1
                    balance = owed * abs(_quote_quantums(asset.size))
            except _BAD_ROW as error:
                balance = None
                self.faults.append(f"cannot be read: {error}")
        return _Snapshot(sizes, balance, frozenset(account.unreadable))


_NOTHING: Final = SubaccountFields(equity="0", open_perpetual_positions={}, asset_positions={})


# === Accounts ===
# Which frames are of accounts, and what each kind of them does. Nothing above decodes again.


class Accounts:
    """The accounts of all frames, or those of some subaccounts alone; `orders` is their orders.

    `step` folds one frame. What is reported twice, late, in two halves, by a replica that lags, or
    by REST before the socket, changes nothing; an answer that is not a 200 with the expected
    content changes nothing, and is a doubt with its reason.
    """

    def __init__(self, subaccounts: Iterable[Subaccount] = ()) -> None:
        self._known = _Known(frozenset(subaccounts))

    @property
    def orders(self) -> Lifecycle:
        """Return the orders of all these accounts."""
        return self._known.orders

    def step(self, frame: Frame) -> list[AccountUpdate]:
        """Fold one frame; return what it changed, an update for each subaccount. Never raises."""
        read = _READERS.get(frame.kind)
        return read(self, frame) if read is not None else _NO_UPDATES

    # -- Which frames

    def _on_message(self, frame: Frame) -> list[AccountUpdate]:
        if frame.channel in _ACCOUNTS:
            return self._on_account(frame)
        return self._on_block(frame) if frame.channel == "v4_block_height" else _NO_UPDATES

    def _on_answer(self, frame: Frame) -> list[AccountUpdate]:
        if frame.link == "node":
            is_broadcast = frame.path == "broadcast"
            return self._on_order(frame, self.orders.answered) if is_broadcast else _NO_UPDATES
        found = _endpoint_of(frame.path)
        if found is None:
            return _NO_UPDATES
        endpoint, _, named = found
        if endpoint is ENDPOINTS["height"]:
            return self._on_block(frame)
        if endpoint is ENDPOINTS["order"]:
            return self._on_order(frame, self._one_order)
        of = {**named, **dict(parse_qsl(frame.channel.partition("?")[2]))}
        parent = "parentSubaccountNumber" in of
        number = of["parentSubaccountNumber"] if parent else of.get("subaccountNumber", "")
        if endpoint not in _LISTS or not number.isdecimal():
            return _NO_UPDATES
        reading = _Reading(self._known, frame, of.get("address", ""))
        reading.polled, reading.of_parent = True, parent
        if (limit := of.get("limit", "")).isdecimal():
            reading.most = int(limit)
        return self._on_list(reading, int(number))

    def _on_sent(self, frame: Frame) -> list[AccountUpdate]:
        if frame.link != "node":
            return _NO_UPDATES
        return self._on_order(frame, self.orders.sent)

    def _on_loss(self, frame: Frame) -> list[AccountUpdate]:
        updates: list[AccountUpdate] = []
        for account in self._known.accounts.values():
            of_it = not frame.channel or _is_about(frame, account.subaccount)
            if frame.link in ("", account.link) and of_it:
                # An attempt that fails loses nothing of what REST answered since.
                if account.carried or frame.kind == "gap":
                    why = f"account frames were lost: {frame.kind} at {frame.seq}"
                    account.doubts["link"] = why
                account.lose()
                account.carried = False
                updates += self._known.update(account, frame)
        return updates

    def _on_order(
        self, frame: Frame, take: Callable[[Frame], Iterable[OrderState]]
    ) -> list[AccountUpdate]:
        states: list[OrderState] = []
        with contextlib.suppress(ConnError, msgspec.DecodeError, ValueError):
            # What was read before it broke has changed the state, and is passed on.
            states.extend(take(frame))
        return self._ordered(frame, states)

    def _one_order(self, frame: Frame) -> Iterator[OrderState]:
        [row] = contents(frame)
        if isinstance(row, OrderFields) and row.id in self.orders.orders:
            whose = self.orders.orders[row.id].subaccount
            yield from self.orders.reported(row, whose, frame.seq)

    def _ordered(self, frame: Frame, states: Iterable[OrderState]) -> list[AccountUpdate]:
        whose: dict[str, list[OrderState]] = {}
        for state in states:
            whose.setdefault(state.subaccount, []).append(state)
        updates: list[AccountUpdate] = []
        for name, changed in whose.items():
            owner, _, number = name.partition("/")
            account = self._known.of(owner, int(number) if number.isdecimal() else 0)
            if account is not None:
                updates += self._known.update(account, frame, orders=tuple(changed))
        return updates

    def _on_block(self, frame: Frame) -> list[AccountUpdate]:
        states: list[OrderState] = []
        updates: list[AccountUpdate] = []
        for height, time_ns in blocks_of(frame):
            states += self.orders.block(height, time_ns // 1_000_000_000, frame.seq)
            for account in self._known.accounts.values():
                if account.move(height - 1 - _GRACE_BLOCKS):
                    account.judge()
                    updates += self._known.update(account, frame)
        return [*updates, *self._ordered(frame, states)] if states or updates else _NO_UPDATES

    def _on_account(self, frame: Frame) -> list[AccountUpdate]:
        owner, _, number = frame.id.partition("/")
        # On a parent's channel the envelope names the child.
        child = msgspec.json.decode(frame.text, type=_Addressed).subaccount_number
        at = child if isinstance(child, int) else int(number) if number.isdecimal() else None
        account = None if at is None else self._known.of(owner, at)
        if account is None or at is None:
            return _NO_UPDATES
        if frame.is_refusal or frame.type == "unsubscribed":
            account.doubts["channel"] = f"account frames end: {frame.type} at {frame.seq}"
            account.carried = False
            return self._known.update(account, frame)
        reading = _Reading(self._known, frame, owner)
        reading.whole = frame.is_snapshot
        account.link, account.carried = frame.link, True
        for part in reading.contents():
            reading.take(part, account, at)
        return reading.updates(account)

    def _on_list(self, reading: _Reading, number: int) -> list[AccountUpdate]:
        frame, account = reading.frame, self._known.of(reading.owner, number)
        if account is None:
            return _NO_UPDATES
        path, answer = frame.path, next(iter(reading.contents()), None)
        account.doubts.pop(path, None)
        if answer is None or isinstance(answer, ErrorsContents):
            if not _is_unfunded(account, frame):
                refused = answer and (
                    f"expected an answer of {path}, got {frame.status}: {answer.reason}"
                )
                account.doubts[path] = refused or "; ".join(reading.faults)
            return self._known.update(account, frame)
        reading.answer(answer, number)
        return reading.updates(account)


_NO_UPDATES: Final[list[AccountUpdate]] = []


def _is_about(frame: Frame, subaccount: Subaccount) -> bool:
    # A loss of one channel alone is no loss of another account's, on the same link.
    if frame.channel not in _ACCOUNTS:
        return False
    of_parent = CHANNELS[frame.channel].id.endswith("parentSubaccountNumber")
    number = subaccount.number % PARENTS if of_parent else subaccount.number
    return frame.id in ("", str(Subaccount(subaccount.owner, number)))


class _Addressed(msgspec.Struct, rename="camel"):
    subaccount_number: Any = None


def _is_unfunded(account: _Account, frame: Frame) -> bool:
    # A subaccount that was never funded is answered with 404: nothing new of one known to be empty,
    # nor of one that was until lately, as a replica lags.
    if account.begun is None or not is_never_funded(frame.path, frame.status, frame.text):
        return False
    first, *later = account.blocks
    was_empty = first.height == account.begun and first.snapshot == _Snapshot({}, 0)
    lately = all(block.height > account.over - _MOST_BLOCKS for block in later)
    return (was_empty and lately) or not (account.positions or account.collateral)


_READERS: Final[dict[str, Callable[[Accounts, Frame], list[AccountUpdate]]]] = {
    "ws": Accounts._on_message,
    "http": Accounts._on_answer,
    "sent": Accounts._on_sent,
    "close": Accounts._on_loss,
    "gap": Accounts._on_loss,
}


def account_updates(
    accounts: Accounts | None = None,
) -> Callable[[Observable[Frame]], Observable[AccountUpdate]]:
    """Report what changes of accounts: orders, fills, positions, balances and doubts.

    With `accounts`, its maker can read the orders; without it, each subscriber folds its
    own. Hot or cold as the source is, on its thread; replays nothing; ends with it. A snapshot,
    a fill, the same fill again and a close are an update, a fill, an update and a doubt:

        frames   --s--f--f--c--|
        updates  --u--F--u--D--|
    """
    return fold(lambda: Accounts() if accounts is None else accounts, Accounts.step)


# === Origins ===
# Who sent the orders of an account: this run, a run of ours before it, or somebody else. What the
# venue does by itself (liquidation, deleveraging, a TWAP's legs) has no sender of its own.


class Stranger(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order that somebody else sent while we looked, and in `words` how it was noticed.

    `order_id` is empty where no more is known than that somebody signs for the same address: a
    sequence is one for all its subaccounts, and may be used up by what an earlier run sent last.
    One that `stood` before we looked is noticed by its first fill.
    """

    order_id: str
    ticker: str
    words: str
    stood: bool = False


def is_of(client_id: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Return whether a client id is in one of these ranges: a first, and one after a last."""
    return any((client_id - first) % 2**32 < (end - first) % 2**32 for first, end in ranges)


class _Doubt(msgspec.Struct, frozen=True):
    stranger: Stranger
    until: int  # the block after which nothing that explains it is waited for


class Origins:
    """Tells the orders of one account by who sent them; `found` are the strangers, once each.

    Ours is what a frame shows to have been sent, and what has a client id in one of the ranges of
    `earlier`: its first, and the one after its last, modulo 2**32. `standing` are the orders that
    were there before we looked: in the first snapshot or in the first list of REST, or of a block
    before that snapshot; and a TWAP that is reported before that list, which alone would name it.

    A fill may be reported before its order, and only that has a client id: for `_PATIENCE_BLOCKS`
    it is in doubt. What ends without a fill is nobody's business.
    """

    def __init__(self, orders: Lifecycle) -> None:
        self.earlier: tuple[tuple[int, int], ...] = ()
        self.standing: dict[str, OrderState] = {}
        self._orders = orders
        self._moved: set[str] = set()  # of those that stood, what has filled since
        self._judged: dict[str, None] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._found: list[Stranger] = []
        self._begun: int | None = None  # the block of the first snapshot
        self._listing = self._listed = False

    def observe(self, frame: Frame) -> None:
        """Note, before its updates are taken, whether a frame is the first list of all orders."""
        self._listed = self._listed or self._listing
        self._listing = not self._listed and _is_orders_list(frame)
        if frame.link == "node" and frame.path == "broadcast" and frame.type == "32":
            self._found += _who_signed(frame)

    def take(self, update: AccountUpdate) -> None:
        """Take what an update reports of orders and fills."""
        for state in update.orders:
            self._judge(state, at_start=self._begun is None or self._listing)
        for fill in update.fills:
            known = self._orders.orders.get(fill.order_id)
            if fill.order_id in self.standing and fill.order_id not in self._moved:
                self._moved.add(fill.order_id)
                named = self.standing[fill.order_id].named
                self._found.append(_who_traded(fill, named, stood=True))
            elif known is not None:
                self._judge(known, fill)
            elif fill.order_id and fill.order_id not in self._judged:
                self._doubt(fill.order_id, _who_traded(fill))
        if self._begun is None and update.collateral is not None:
            self._begun = update.height

    def found(self) -> Sequence[Stranger]:
        """Return the strangers that were noticed since the last call."""
        if not (self._found or self._doubts):
            return ()  # as nearly always: it is called with every frame
        height = self._orders.height
        for id_, doubt in [*self._doubts.items()]:
            if doubt.until < height:
                self._find(id_, doubt.stranger)
        found, self._found = self._found, []
        return found

    def _judge(
        self, state: OrderState, fill: AccountFill | None = None, *, at_start: bool = False
    ) -> None:
        if state.id in self._judged:
            return
        named, begun = state.named, self._begun or 0
        if state.order is not None or (named is not None and is_of(named.client_id, self.earlier)):
            self._settle(state.id)
        elif not state.final and (at_start or 0 < state.height <= begun or self._unlisted(named)):
            self._stand(state)
        elif fill is not None or not (state.final or state.leaving):
            stranger = _who_placed(state) if fill is None else _who_traded(fill, named)
            (self._doubt if named is None else self._find)(state.id, stranger)

    def _unlisted(self, named: CancelRequest | None) -> bool:
        return not self._listed and named is not None and named.order_flags == TWAP

    def _stand(self, state: OrderState) -> None:
        self.standing[state.id] = state
        self._settle(state.id)

    def _doubt(self, id_: str, stranger: Stranger) -> None:
        until = self._orders.height + _PATIENCE_BLOCKS
        self._doubts.setdefault(id_, _Doubt(stranger, until))

    def _find(self, id_: str, stranger: Stranger) -> None:
        self._found.append(stranger)
        self._settle(id_)

    def _settle(self, id_: str) -> None:
        self._doubts.pop(id_, None)
        self._judged[id_] = None
        if len(self._judged) > _MOST_JUDGED:
            del self._judged[next(iter(self._judged))]


# An indexer may be 30 blocks behind its node, and reports one thing after the other.
_PATIENCE_BLOCKS: Final = 30
_MOST_JUDGED: Final = 65_536


def _is_orders_list(frame: Frame) -> bool:
    return frame.kind == "http" and frame.path == ENDPOINTS["orders"].path and frame.ok


def _who_signed(frame: Frame) -> Iterator[Stranger]:
    with contextlib.suppress(msgspec.DecodeError):
        result = msgspec.json.decode(frame.text, type=_Answer).result
        if result is not None and result.is_sdk(32):
            words = f"another client signs for the address: {result.log}"
            yield Stranger(order_id="", ticker="", words=words)


def _who_placed(state: OrderState) -> Stranger:
    row, ticker = state.row, "" if state.named is None else state.named.ticker
    known = row is not None and row.side
    what = f"{row.side} {row.size} {ticker} at {row.price}" if row and known else "an order"
    words = f"{what}{_which(state.named)} is {state.status}"
    return Stranger(order_id=state.id, ticker=ticker, words=words)


def _who_traded(
    fill: AccountFill, named: CancelRequest | None = None, *, stood: bool = False
) -> Stranger:
    words = f"{fill.side} {fill.size:f} {fill.ticker} filled at {fill.price:f}{_which(named)}"
    return Stranger(order_id=fill.order_id, ticker=fill.ticker, words=words, stood=stood)


def _which(named: CancelRequest | None) -> str:
    return "" if named is None else f" (client id {named.client_id})"


# === Limits and circuits ===
# Two values that keep `Rest` within the venue's limits, and off an endpoint that fails. The venue
# counts per address and group, in windows of ten seconds that begin when it likes; an endpoint that
# fails again and again is left alone, then tried with a single request. Neither reads a clock.

_WINDOW_NS: Final = 10 * _SECOND
_MS_NS: Final = 1_000_000
_SAME_MS: Final = 1000
_MOST_LIMIT: Final = 10_000
_RATES: Final[Mapping[str, int]] = {
    "default": 100,
    "orders": 100,
    "fills": 100,
    "sparklines": 100,
    "historical-pnl": 100,
    "pnl": 100,
    "fundingPayments": 100,
    "candles": 1000,
}


class LimitHeaders(msgspec.Struct, frozen=True):
    """The rate limit in an answer's headers; None where they name none."""

    limit: int | None = None
    remaining: int | None = None
    reset_ms: int = 0  # the venue's epoch: it names the window
    reset_in_ns: int = 0
    refused: bool = False
    retry_in_ns: int = 0

    @classmethod
    def read(cls, headers: Mapping[str, str], *, refused: bool, wall_ns: int) -> Self:
        """Read headers; `wall_ns` is our clock, used if the answer does not carry its own."""
        limit, remaining, reset_ms, retry = (
            int(text) if (text := headers.get(name, "")).isdecimal() and len(text) < 16 else None
            for name in ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after")
        )
        sent_ns = _date_ns(headers)
        reset_in_ns = (reset_ms or 0) * _MS_NS - (wall_ns if sent_ns is None else sent_ns)
        # The indexer counts in milliseconds, against the standard; a proxy before it in seconds.
        unit = _SECOND if reset_ms is None else _MS_NS
        retry_in_ns = min((retry or 0) * unit, 86_400 * _SECOND)
        # No limit, or one without bound, is no limit that anybody set.
        limit = limit if limit and limit <= _MOST_LIMIT else None
        return cls(limit, remaining, reset_ms or 0, reset_in_ns, refused, retry_in_ns)


def _date_ns(headers: Mapping[str, str]) -> int | None:
    """Return the wall time of an answer by its Date header, which knows whole seconds."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        stamp = email.utils.parsedate_to_datetime(headers.get("date", ""))
        # Of "-0000" it makes a time without a zone, and that is not the one of this machine.
        return int(stamp.replace(tzinfo=stamp.tzinfo or UTC).timestamp()) * _SECOND
    return None


class Allowance(msgspec.Struct, frozen=True):
    """How many requests a group may send: never above its limit in any window of the venue's.

    A request holds its place from its sending until a window after its answer, and
    the venue counts it in between; so neither latency nor where a window begins can exceed the
    limit. Others may send from the same address: the headers count as well.
    """

    limit: int
    flying: int = 0  # sent, not yet answered
    landed: tuple[int, ...] = ()  # when the answers of the last window came, oldest first
    remaining: int = 0  # the least the venue reported, in the window that ends at reset_ns
    reset_ms: int = 0
    reset_ns: int = 0
    not_before_ns: int = 0
    refusals: int = 0  # since the last answer that was none

    def wait_ns(self, now_ns: int, ahead: int = 0) -> int:
        """Return how long to wait, with `ahead` requests to be sent before; 0 is now."""
        waits = [self.not_before_ns - now_ns]
        taken = [at + _WINDOW_NS for at in self._live(now_ns)] + [now_ns + _WINDOW_NS] * self.flying
        places = [now_ns] * (self.limit - len(taken)) + taken
        rounds, place = divmod(ahead + len(places) - self.limit, len(places))
        waits.append(places[place] + rounds * _WINDOW_NS - now_ns)
        if now_ns < self.reset_ns and (short := ahead + 1 - self._reported_left()) > 0:
            waits.append(self.reset_ns - now_ns + (short - 1) // self.limit * _WINDOW_NS)
        return max(0, *waits)

    def left(self, now_ns: int) -> int:
        """Return how many requests may be sent now."""
        left = self.limit - self.flying - len(self._live(now_ns))
        if now_ns < self.reset_ns:
            left = min(left, self._reported_left())
        return 0 if now_ns < self.not_before_ns else max(left, 0)

    def sent(self) -> "Allowance":
        """Count a request."""
        return msgspec.structs.replace(self, flying=self.flying + 1)

    def landed_at(self, now_ns: int, limits: LimitHeaders | None) -> "Allowance":
        """Count its answer, or (None) that there was none: it may have been counted even so."""
        after = msgspec.structs.replace(
            self, flying=self.flying - 1, landed=(*self._live(now_ns), now_ns)
        )
        if limits is None:
            return msgspec.structs.replace(after, remaining=max(self.remaining - 1, 0))
        return after._believing(limits, now_ns)

    def _believing(self, limits: LimitHeaders, now_ns: int) -> "Allowance":
        refusals = self.refusals + 1 if limits.refused else 0
        # A venue that answers "at once" and refuses again gets ever fewer requests.
        pause_ns = max(limits.retry_in_ns, 100 * _MS_NS << min(refusals, 7)) if refusals else 0
        not_before_ns = max(self.not_before_ns, now_ns + pause_ns if refusals else 0)
        after = msgspec.structs.replace(
            self, limit=limits.limit or self.limit, refusals=refusals, not_before_ns=not_before_ns
        )
        # The end of one window is reported with a few milliseconds of difference.
        later_ms = limits.reset_ms - self.reset_ms
        if limits.remaining is None or later_ms < -_SAME_MS:
            return after
        same = later_ms <= _SAME_MS
        # Answers overtake each other; within a window the venue only counts down.
        remaining = min(self.remaining, limits.remaining) if same else limits.remaining
        reset_ns = now_ns + min(max(limits.reset_in_ns, 0), _WINDOW_NS)
        return msgspec.structs.replace(
            after,
            remaining=remaining,
            reset_ms=max(self.reset_ms, limits.reset_ms),
            reset_ns=min(self.reset_ns, reset_ns) if same else reset_ns,
        )

    def _live(self, now_ns: int) -> tuple[int, ...]:
        return tuple(at for at in self.landed if at + _WINDOW_NS > now_ns)

    def _reported_left(self) -> int:
        # What flies may be in the count already, or not yet.
        return self.remaining - self.flying


_TOLERATED: Final = 5  # failures in a row
_COOL_NS: Final = 5 * _SECOND  # doubled with each trial that fails, up to sixteen times

_CIRCUIT: Final[Mapping[tuple[str, str], str]] = {
    ("closed", "good"): "closed",
    ("closed", "bad"): "closed",
    ("closed", "worn"): "open",  # bad, once too often
    ("closed", "gone"): "closed",
    ("closed", "request"): "closed",
    ("open", "good"): "closed",  # sent before it opened
    ("open", "bad"): "open",
    ("open", "gone"): "open",
    ("open", "request"): "open",
    ("open", "cooled"): "half-open",  # a request, after the pause
    ("half-open", "good"): "closed",
    ("half-open", "bad"): "open",
    ("half-open", "gone"): "open",  # the trial was given up, or not let through
    ("half-open", "request"): "half-open",
}


class Circuit(msgspec.Struct, frozen=True):
    """Whether an endpoint gets requests."""

    state: str = "closed"
    failures: int = 0  # in a row
    trips: int = 0  # openings since it was last closed
    since_ns: int = 0  # when it opened

    def request(self, now_ns: int) -> tuple["Circuit", bool]:
        """Return the circuit after a request came, and whether it may be sent."""
        cooled = self.state == "open" and self.retry_in_ns(now_ns) == 0
        state = _CIRCUIT[self.state, "cooled" if cooled else "request"]
        return msgspec.structs.replace(self, state=state), cooled or state == "closed"

    def answer(self, verdict: Verdict, now_ns: int) -> "Circuit":
        """Return the circuit after a request was answered (good), failed, or was given up."""
        failures = self.failures + (verdict == "bad")
        worn = self.state == "closed" and failures >= _TOLERATED and verdict == "bad"
        state = _CIRCUIT[self.state, "worn" if worn else verdict]
        if verdict == "good":
            return Circuit()
        if worn or (self.state, verdict) == ("half-open", "bad"):
            return Circuit(state, failures, self.trips + 1, now_ns)
        return msgspec.structs.replace(self, state=state, failures=failures)

    def retry_in_ns(self, now_ns: int) -> int:
        """Return how long it stays open; 0 if it is not, or a trial is due."""
        if self.state != "open":
            return 0
        return max(self.since_ns + (_COOL_NS << min(self.trips - 1, 4)) - now_ns, 0)


# === REST requests ===
# How a request is written, and what the status and text of its answer mean. Nothing is sent here.


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What the indexer answered; `stale` if that was `age_s` ago, and its endpoint fails now.

    `odd` are the rows that were left out of it, as they are not of their shape.
    """

    value: _T
    age_s: float = 0.0
    stale: bool = False
    odd: tuple[OddRow, ...] = ()


def _target(path: str, parameters: Mapping[str, Any] | None) -> str:
    stated = {name: value for name, value in (parameters or {}).items() if value is not None}
    query = urlencode(
        sorted((name, _text(value)) for name, value in stated.items()), quote_via=quote, safe=",:"
    )
    return f"{path}?{query}" if query else path


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ",".join(map(_text, value))


def _segment(name: str) -> str:
    # A ticker or an address becomes one part of a path, whatever is written in it.
    if name in ("", ".", ".."):
        raise BadRequest(f"expected a ticker, an address or an id, got {name!r}")
    return quote(name, safe="")


MAX_BODY: Final = 16 * 1024 * 1024
_STATUS_ERRORS: Final[Mapping[int, type[RestError]]] = {
    403: Forbidden,
    404: NotFound,
    429: RateLimited,
    451: Forbidden,
    # Any other by its hundred.
    3: BadAnswer,
    4: BadRequest,
    5: ServerError,
}
_CERTIFICATES: Final[Mapping[int, str]] = {
    9: "that is not valid yet",
    10: "that has expired",
    18: "that it signed itself",
    19: "whose chain ends in one that signed itself",
    20: "that nobody known here has signed",
    62: "of another host",
    64: "of another host",
}


def _refusal(path: str, status: int, text: str) -> RestError | None:
    if status == 200:
        return None
    kind = _STATUS_ERRORS.get(status) or _STATUS_ERRORS.get(status // 100, BadAnswer)
    if kind is NotFound and _refused(text) is None:
        kind = BadAnswer  # a proxy's own
    error = kind(f"expected the answer of {path}, got {status}: {_reason_of(status, text)}",
                 path=path, status=status)  # fmt: skip
    if isinstance(error, NotFound):
        error.never_funded = is_never_funded(path, status, text)
    return error


def _reason_of(status: int, text: str) -> str:
    barred = " (the venue refuses this region or address)" if status in _BARRED else ""
    return _refusal_in(text).reason + barred


def _unicode(path: str, status: int, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        what = f"expected the answer of {path} in UTF-8, got {error}"
        raise BadAnswer(what, path=path, status=status) from None


_Decode = Callable[[str, str, list[OddRow]], Any]


def _decoded(path: str, status: int, text: str, decode: _Decode) -> Answer[Any]:
    odd: list[OddRow] = []
    try:
        value = decode(path, text, odd)
    except (WireError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = str(error).rpartition(f"{text[:80]!r}: ")[2]  # without what the message repeats
        what = f"expected the answer of {path}, got {status} with {_refusal_in(text).reason}: {why}"
        raise BadAnswer(what, path=path, status=status) from None
    if isinstance(value, ErrorsContents):
        what = f"expected the answer of {path}, got {status} with an error: {value.reason}"
        raise BadAnswer(what, path=path, status=status)
    return Answer(value, odd=tuple(odd))


def _height_in(value: Any) -> int:
    # What an answer reports of how far its indexer has come; 0 if it does not.
    with contextlib.suppress(ValueError):
        if isinstance(value, HeightContents):
            return value.block[0]
        if isinstance(value, _OneSubaccount):
            return int(value.subaccount.latest_processed_block_height or 0)
    return 0


def _untyped(_path: str, text: str, _odd: list[OddRow]) -> Any:
    refusal = _refused(text)
    return msgspec.json.decode(text) if refusal is None else refusal


def _unreachable(error: BaseException, host: str, path: str) -> Unreachable:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        got = f"{type(error).__name__}: {error}".removesuffix(": ")
        return Unreachable(f"expected {host} to answer {path}, got {got}", path=path)
    got = _CERTIFICATES.get(cause.verify_code, f"that fails: {cause.verify_message}")
    what = f"expected a certificate of {host} to trust, got one {got}"
    return Untrusted(f"{what}; check the address and this machine's clock", path=path)


# === REST metrics ===
# What happened, by endpoint and by group of endpoints that share a limit, as values ready for JSON.

_SAMPLES: Final = 5  # failures stored of each class and endpoint


class ErrorSample(msgspec.Struct, frozen=True):
    """One failure as it was, for a person; `at_ns` is wall time."""

    at_ns: int
    error: str
    status: int
    message: str


class EndpointMetrics(msgspec.Struct, frozen=True):
    """How an endpoint has answered; rates and latencies are of its last 512 exchanges."""

    requested: int
    answered: int
    stale: int  # earlier answers served in place of new ones
    errors: dict[str, int]
    samples: dict[str, tuple[ErrorSample, ...]]  # the last few of each class, oldest first
    per_minute: float
    errors_per_minute: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    circuit: str
    retry_in_s: float  # until an open circuit lets one request through
    good_age_s: float | None  # since the last good answer
    retried: int = 0  # requests that were sent again after a failure


class GroupMetrics(msgspec.Struct, frozen=True):
    """How a group of endpoints stands with its rate limit."""

    limit: int
    left: int
    flying: int
    queued: int
    wait_s: float  # what the next request can expect
    waits: int
    waited_s: float
    limited: int  # how often the venue answered 429


class Metrics(msgspec.Struct, frozen=True):
    """All that happened, ready for `msgspec.json.encode`.

    `skew_s` is how far this machine's clock is ahead of the venue's, give or take `skew_within_s`.
    """

    endpoints: dict[str, EndpointMetrics]
    groups: dict[str, GroupMetrics]
    errors: dict[str, int]
    skew_s: float | None
    skew_within_s: float


def endpoint_label(target: str) -> str:
    """Return what a path is called by in `Metrics`, whatever market or account it names."""
    # Without what differs from one request to the next: there are few endpoints.
    route = target.partition("?")[0]
    if (found := _endpoint_of(route)) is not None:
        return re.sub(r"\{\w+\}", "*", found[1])
    return re.sub(r"/(dydx1\w+|\d+)(?=/|$)", "/*", route)


def _group(target: str) -> str:
    first = re.split(r"[/?]", target.removeprefix("/v4/"), maxsplit=1)[0]
    first = {"tradeHistory": "fills"}.get(first, first)
    return first if first in _RATES else "default"


class _Group:
    """The requests that wait for one allowance, oldest first."""

    def __init__(self, limit: int) -> None:
        self.allowance = Allowance(limit)
        self.queue: list[tuple[int, asyncio.Event]] = []
        self.waits = 0
        self.waited_ns = 0
        self.limited = 0

    def wake(self) -> None:
        """Let the first look again."""
        if self.queue:
            self.queue[0][1].set()

    def metrics(self, now_ns: int) -> GroupMetrics:
        return GroupMetrics(
            limit=self.allowance.limit,
            left=self.allowance.left(now_ns),
            flying=self.allowance.flying,
            queued=len(self.queue),
            wait_s=self.allowance.wait_ns(now_ns, len(self.queue)) / 1e9,
            waits=self.waits,
            waited_s=self.waited_ns / 1e9,
            limited=self.limited,
        )


class _Tally:
    """What an endpoint has done."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.barred: Forbidden | None = None
        self.barred_ns = 0  # until when
        self.requested = self.answered = self.stale = self.retried = 0
        self.good_ns: int | None = None
        self.errors: Counter[str] = Counter()
        self.samples: dict[str, deque[ErrorSample]] = {}
        self.recent: deque[tuple[int, int, bool]] = deque(maxlen=512)  # when, how long, well?

    def note(self, error: RestError, wall_ns: int) -> None:
        """Count a failure and store it as a sample."""
        kind = type(error).__name__
        self.errors[kind] += 1
        samples = self.samples.setdefault(kind, deque(maxlen=_SAMPLES))
        samples.append(ErrorSample(wall_ns, kind, error.status, str(error)))

    def metrics(self, now_ns: int) -> EndpointMetrics:
        recent = tuple(self.recent)  # another thread may look
        took = sorted(ns / 1e6 for _, ns, _ in recent) or [0.0]
        minute = [well for at, _, well in recent if at > now_ns - 60 * _SECOND]
        # When the memory of exchanges does not reach back a minute, extrapolate.
        full = len(minute) == self.recent.maxlen
        share = 60 * _SECOND / max(now_ns - recent[0][0], 1) if full else 1.0
        return EndpointMetrics(
            requested=self.requested,
            answered=self.answered,
            stale=self.stale,
            errors=dict(self.errors),
            samples={kind: tuple(samples) for kind, samples in self.samples.items()},
            per_minute=len(minute) * share,
            errors_per_minute=minute.count(False) * share,
            p50_ms=took[len(took) // 2],
            p99_ms=took[len(took) * 99 // 100],
            max_ms=took[-1],
            circuit=self.circuit.state,
            retry_in_s=self.circuit.retry_in_ns(now_ns) / 1e9,
            good_age_s=None if self.good_ns is None else (now_ns - self.good_ns) / 1e9,
            retried=self.retried,
        )


# === REST exchange ===
# The one place that speaks HTTP: it queues under the limits, sends, retries, and caches what
# was answered last. For one event loop; every wait has a bound.

OnAnswer = Callable[[str, str, int, str, Mapping[str, str]], None]

_CACHED_CHARACTERS: Final = 32 * 1024 * 1024  # characters of last good answers
_CONNECTIONS: Final = 32
_RETRY_BACKOFF_S: Final = 0.25
_BACKOFF_MOST_S: Final = 8.0


class _Times(msgspec.Struct, frozen=True):
    """What tests put in the place of time and chance; for how long an answer, a turn may take."""

    clock_ns: Callable[[], int]
    wall_ns: Callable[[], int]
    sleep: Callable[[float], Awaitable[object]]
    chance: Callable[[], float]
    timeout_s: float
    patience_s: float


class _Memory:
    """The last good answers by path and query, and when they came; the oldest make room."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._size = 0

    def put(self, target: str, at_ns: int, text: str) -> None:
        if target in self._texts:
            self._size -= len(self._texts.pop(target)[1])
        self._texts[target] = at_ns, text
        self._size += len(text)
        while self._size > _CACHED_CHARACTERS:
            self._size -= len(self._texts.popitem(last=False)[1][1])

    def get(self, target: str) -> tuple[int, str] | None:
        return self._texts.get(target)


class _Desk:
    """The queue for requests: it sends each in its turn, retries, and counts."""

    def __init__(
        self, network: Network, *, on_answer: OnAnswer | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns, wall_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random, verify: ssl.SSLContext | None = None,
        timeout_s: float = 10.0, patience_s: float = 60.0,
    ) -> None:  # fmt: skip
        if verify and not (verify.verify_mode == ssl.CERT_REQUIRED and verify.check_hostname):
            raise ConnError(
                "expected a TLS context that verifies certificates and hosts, got another"
            )
        self._hosts = [address.rstrip("/") for address in network.rests]
        self._using, self._moving = 0, asyncio.Lock()
        self.newest = 0  # the height last seen: no indexer behind it is used in place of another
        self._on_answer, self._verify = on_answer, verify
        self._times = _Times(clock_ns, wall_ns, sleep, chance, timeout_s, patience_s)
        self._http: Any = None
        self._client: Any = None
        self._seats = asyncio.Semaphore(_CONNECTIONS)
        self._groups = {name: _Group(limit) for name, limit in _RATES.items()}
        self._tallies: dict[str, _Tally] = {}
        self._tickets = itertools.count()
        self._memory = _Memory()
        self._skew: tuple[float | None, float] = (None, 0.0)

    async def __aenter__(self) -> Self:
        import httpx
        from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

        self._http = httpx.AsyncClient(
            # A handshake that hangs must end by itself: cancelled, it would leave a socket open.
            timeout=httpx.Timeout(self._times.timeout_s, connect=self._times.timeout_s * 0.4),
            verify=self._verify or httpx.create_ssl_context(),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            # Only what can be unpacked piece by piece, within bounds.
            headers={"accept-encoding": "gzip", "accept": "application/json"},
            follow_redirects=False,
        )
        self._client = IndexerClient(self._hosts[0], self._times.timeout_s)
        # Its own requests have no real timeout, a connection each, and drop text and headers.
        for name in ("markets", "account", "utility", "megavault", "affiliate"):
            module = getattr(self._client, name)
            typed = name in ("markets", "account", "utility")
            module.get = self._get if typed else partial(self._get, decode=_untyped)
            module.post = _no_post
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def where(self) -> str:
        """The host that is used now."""
        return urlsplit(self._hosts[self._using]).netloc.rpartition("@")[2]

    @property
    def client(self) -> Any:
        """The official client, for what has no method here; its calls return an `Answer` too."""
        if self._client is None:
            raise ConnError("expected to be in `async with Rest(…) as rest`, got a call outside")
        return self._client

    @property
    def metrics(self) -> Metrics:
        """All that happened so far."""
        now_ns, tallies, groups = self._times.clock_ns(), {**self._tallies}, {**self._groups}
        return Metrics(
            endpoints={name: tally.metrics(now_ns) for name, tally in tallies.items()},
            groups={name: group.metrics(now_ns) for name, group in groups.items()},
            errors=dict(sum((tally.errors for tally in tallies.values()), Counter())),
            skew_s=self._skew[0],
            skew_within_s=self._skew[1],
        )

    @property
    def wait_s(self) -> float:
        """Return for how long a request waits by now until a rate limit lets it go; 0 if none."""
        now_ns = self._times.clock_ns()
        waiting = (group.allowance for group in [*self._groups.values()] if group.queue)
        return max((allowance.wait_ns(now_ns) / 1e9 for allowance in waiting), default=0.0)

    async def _get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: _Decode = rest_contents,
    ) -> Answer[Any]:
        target = _target(path, params)
        tally = self._tallies.setdefault(endpoint_label(target), _Tally())
        wait_ns = tally.barred_ns - self._times.clock_ns()
        if tally.barred is not None and wait_ns > 0:
            error, wait_s = tally.barred, wait_ns / 1e9
            raise Forbidden(str(error), path=target, status=error.status, wait_s=wait_s)
        tally.circuit, may = tally.circuit.request(self._times.clock_ns())
        if not may:
            retry_s = tally.circuit.retry_in_ns(self._times.clock_ns()) / 1e9
            what = (
                f"expected {endpoint_label(target)} to work, got {tally.circuit.failures} failures"
            )
            shut = Unreachable(f"{what}: retry in {retry_s:.1f} s",
                               path=target, wait_s=retry_s)  # fmt: skip
            return self._recall(target, tally, shut, decode)
        turn = next(self._tickets), self._times.clock_ns() + int(self._times.patience_s * 1e9)
        tries = 0
        while True:
            using = self._using
            try:
                return await self._try(target, tally, turn, decode)
            except RestError as error:
                if isinstance(error, RateLimited) and error.status:
                    continue  # in its turn, when the venue allows; patience ends it
                tries += 1
                if tries >= error.tries or tally.circuit.state == "open":
                    if error.verdict != "bad" or not await self._moved(using):
                        return self._recall(target, tally, error, decode)
                    tries = 0
            tally.retried += 1
            # Full jitter: many who failed together must not come back together.
            await self._times.sleep(
                min(_RETRY_BACKOFF_S * 2**tries, _BACKOFF_MOST_S) * self._times.chance()
            )

    async def _moved(self, using: int) -> bool:
        """Return whether another indexer is used now that a request failed at this one."""
        async with self._moving:
            if self._using == using and len(self._hosts) > 1:
                self._using = choose_address(using, await self.heights(), self.newest)
                if self._using != using:
                    for tally in self._tallies.values():
                        tally.circuit = Circuit()
        return self._using != using

    async def heights(self) -> list[int | None]:
        """Query all indexers for their newest block, None where none comes; never raises."""
        return await asyncio.gather(*map(self._height_of, self._hosts))

    async def _height_of(self, host: str) -> int | None:
        route = ENDPOINTS["height"].path
        with contextlib.suppress(RestError, WireError, ValueError):
            status, _, body = await self._fetch(route, host)
            if status == 200 and (height := _height_in(rest_contents(route, body.decode()))):
                return height
        return None

    async def _try(
        self, target: str, tally: _Tally, turn: tuple[int, int], decode: _Decode
    ) -> Answer[Any]:
        group = self._groups[_group(target)]
        verdict: Verdict = "gone"
        try:
            await self._turn(group, *turn, target)
            answer, text = await self._exchange(target, tally, group, decode)
            verdict = "good"
            tally.good_ns = self._times.clock_ns()
            self._memory.put(target, tally.good_ns, text)
            return answer
        except RestError as error:
            verdict = error.verdict
            group.limited += error.status == 429
            if isinstance(error, Forbidden):
                tally.barred = error
                tally.barred_ns = self._times.clock_ns() + int(_BARRED_S * 1e9)
            tally.note(error, self._times.wall_ns())
            raise
        finally:
            tally.circuit = tally.circuit.answer(verdict, self._times.clock_ns())

    async def _turn(self, group: _Group, ticket: int, until_ns: int, target: str) -> None:
        wake = asyncio.Event()
        place, came_ns = (ticket, wake), self._times.clock_ns()
        heapq.heappush(group.queue, place)
        try:
            while True:
                wake.clear()
                now_ns = self._times.clock_ns()
                # Who was refused has the older ticket, and goes first.
                ahead = sum(other < ticket for other, _ in group.queue)  # integers
                wait_ns = group.allowance.wait_ns(now_ns, ahead)
                if not ahead and not wait_ns:
                    break
                if now_ns + wait_ns > until_ns:
                    what = f"expected a turn for {target} within {self._times.patience_s:g} s"
                    raise RateLimited(f"{what}, got one in {wait_ns / 1e9:.1f} s by the limit",
                                      path=target, wait_s=wait_ns / 1e9)  # fmt: skip
                await self._pause(wake, None if ahead else wait_ns / 1e9)
        finally:
            group.queue.remove(place)
            heapq.heapify(group.queue)
            group.wake()
        group.allowance = group.allowance.sent()
        group.waits += now_ns > came_ns
        group.waited_ns += now_ns - came_ns

    async def _pause(self, wake: asyncio.Event, wait_s: float | None) -> None:
        either: list[asyncio.Future[object]] = [asyncio.ensure_future(wake.wait())]
        if wait_s is not None:
            either.append(asyncio.ensure_future(self._times.sleep(wait_s)))
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in either:
                each.cancel()

    async def _exchange(
        self, target: str, tally: _Tally, group: _Group, decode: _Decode
    ) -> tuple[Answer[Any], str]:
        tally.requested += 1
        limits, began_ns, well = None, None, False
        try:
            async with self._seats:
                began_ns = self._times.clock_ns()
                status, headers, body = await self._fetch(target, self._hosts[self._using])
            limits = LimitHeaders.read(
                headers, refused=status == 429, wall_ns=self._times.wall_ns()
            )
            tally.answered += 1
            self._compare_clocks(headers, self._times.clock_ns() - began_ns)
            text = _unicode(target, status, body)
            if self._on_answer is not None:
                self._on_answer("GET", target, status, text, headers)
            if refusal := _refusal(target, status, text):
                raise refusal
            answer, well = _decoded(target, status, text, decode), True
            self.newest = max(self.newest, _height_in(answer.value))
            return answer, text
        finally:
            now_ns = self._times.clock_ns()
            group.allowance = group.allowance.landed_at(now_ns, limits)
            group.wake()
            if began_ns is not None:
                tally.recent.append((now_ns, now_ns - began_ns, well))

    async def _fetch(self, target: str, host: str) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        where = urlsplit(host).netloc.rpartition("@")[2]  # to be shown
        try:
            async with (
                asyncio.timeout(self._times.timeout_s),
                self._http.stream("GET", host + target) as response,
            ):
                return response.status_code, response.headers, await _body(response, target)
        except (TimeoutError, httpx.TimeoutException):
            what = f"expected an answer of {where} to {target} within {self._times.timeout_s:g} s"
            raise Unreachable(f"{what}, got none", path=target) from None
        except httpx.TransportError as error:
            raise _unreachable(error, where, target) from error

    def _compare_clocks(self, headers: Mapping[str, str], took_ns: int) -> None:
        # A Date is cut to the second, and was written while we waited.
        if (sent_ns := _date_ns(headers)) is not None:
            ahead_ns = self._times.wall_ns() - took_ns // 2 - sent_ns - _SECOND // 2
            self._skew = ahead_ns / 1e9, (_SECOND + took_ns) / 2e9

    def _recall(self, target: str, tally: _Tally, error: RestError, decode: _Decode) -> Answer[Any]:
        known = self._memory.get(target)
        if tally.circuit.state == "closed" or known is None:
            raise error
        tally.stale += 1
        at_ns, text = known
        age_s = (self._times.clock_ns() - at_ns) / 1e9
        return replace(_decoded(target, 200, text, decode), age_s=age_s, stale=True)


async def _body(response: "httpx.Response", target: str) -> bytes:
    def bad(expected: str, got: str) -> BadAnswer:
        what = f"expected {expected} for {target}, got {got}"
        return BadAnswer(what, path=target, status=response.status_code)

    encoding = response.headers.get("content-encoding", "identity")
    if encoding not in ("gzip", "deflate", "identity"):
        raise bad("gzip or plain text", encoding)
    unpack = None if encoding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            # Never unpacked whole: a kilobyte of gzip can be a megabyte of text.
            body += unpack.decompress(chunk, MAX_BODY + 1 - len(body)) if unpack else chunk
            if len(body) > MAX_BODY:
                raise bad(f"at most {MAX_BODY} bytes", "more")
    except zlib.error as error:
        raise bad(encoding, str(error)) from None
    if unpack is not None and not unpack.eof:
        raise bad(encoding, "no end of it")
    return bytes(body)


async def _no_post(path: str, *_: object, **__: object) -> None:
    raise BadRequest(f"expected a GET, got a POST of {path}", path=path)


# === REST ===
# The endpoints as methods with types: each requests a row of `ENDPOINTS`, and `walk` goes
# through any list to its end.


class Rows(TypedDict, total=False):
    """Which rows of a list, newest first: at most `limit` (1000), up to an instant in ISO."""

    limit: int | None
    created_before_or_at: str | None


class Pages(Rows, total=False):
    """The same, or page 1, 2, … of `limit` rows."""

    page: int | None


class Spans(Pages, total=False):
    """The same, or from an instant on."""

    created_on_or_after: str | None


class OrderChoice(TypedDict, total=False):
    """Which orders: of a ticker, a side, a type, some statuses; or those that end soon."""

    ticker: str | None
    side: str | None
    type: str | None
    status: Sequence[str] | None
    limit: int | None
    good_til_block_before_or_at: int | None
    good_til_block_time_before_or_at: str | None
    return_latest_orders: bool | None


class Rest(_Desk):
    """The indexer's endpoints; an async context manager, for one event loop.

        async with Rest(network("testnet")) as rest:
            book = await rest.order_book("BTC-USD")
            if not book.stale:
                print(book.value.bids[0])
            async for fill in rest.walk(ENDPOINTS["fills"], Subaccount("dydx1…", 0)):
                print(fill.created_at, fill.size, fill.price)

    Each request waits its turn under the limit of its group, in order, for at most `patience_s`;
    takes at most `timeout_s` a try; and raises a `RestError`, or returns an earlier answer that
    states its age, if its endpoint keeps failing. `parent` selects all children of a parent
    subaccount together.

    `on_answer` is called with each exchange that brought a text, refusals too: method, path with
    sorted query, status, body, headers. Clocks, sleep and chance are parameters so that tests
    don't wait.
    """

    # -- One request

    async def request(
        self, endpoint: Endpoint, subaccount: Subaccount | None = None, *,
        parent: bool = False, **parameters: Any,
    ) -> Answer[Any]:  # fmt: skip
        """Query an endpoint: what its path does not name goes into the query, None nowhere.

        Parameters are named as here or as the venue does. An account's lists are of a
        `subaccount`, or of all children of a `parent`.
        """
        query = {re.sub("_(.)", lambda m: m[1].upper(), name): v for name, v in parameters.items()}
        if subaccount is not None:
            number = "parentSubaccountNumber" if parent else "subaccountNumber"
            query |= {"address": subaccount.owner, number: subaccount.number}
        path = endpoint.parent if "parentSubaccountNumber" in query else endpoint.path
        path = re.sub(r"\{(\w+)\}", lambda name: _segment(str(query.pop(name[1]))), path)
        # By way of the official client, whose requests are ours.
        answer = await self.client.markets.get(path, query)
        value = getattr(answer.value, endpoint.part) if endpoint.part else answer.value
        return Answer(value, answer.age_s, answer.stale, answer.odd)

    async def walk(
        self, endpoint: Endpoint, subaccount: Subaccount | None = None, **parameters: Any
    ) -> AsyncIterator[Any]:
        """Yield every row of a list once, newest first, however many pages; as `request`.

        Never from memory of a failing endpoint; `BadAnswer` after a page with a row that is not of
        its shape.
        """
        key, seen = attrgetter(*endpoint.key), set[Hashable]()
        page, before = (1 if endpoint.pages else None), None
        while True:
            where = {endpoint.bound: before} if page is None else {"page": page}
            query = {**parameters, **where, "limit": _MOST}
            answer = await self.request(endpoint, subaccount, **query)
            rows = _fresh(answer)
            # What is new pushes rows to later pages, where they are seen again.
            new = {key(row): row for row in rows if key(row) not in seen}
            seen.update(new)
            for row in new.values():
                yield row
            if answer.odd:
                raise BadAnswer(f"expected rows of {endpoint.path}, got {answer.odd[0]}")
            if len(rows) < _MOST:
                return
            if page is not None:
                # The same page again: some parents' lists know no pages, and do not report it.
                page = page + 1 if new else None
                if page is None and not endpoint.bound:
                    what = "expected the next page, got the same again"
                    raise BadAnswer(f"{what}: the walk cannot go on")
            elif before == getattr(rows[-1], endpoint.time):
                what = f"expected less than {_MOST} rows at one instant"
                raise BadAnswer(f"{what}, got more at {before}: the walk cannot go on")
            else:
                before = getattr(rows[-1], endpoint.time)

    # -- The market

    async def perpetual_markets(self, ticker: str | None = None) -> Answer[dict[str, MarketFields]]:
        """Return all markets by ticker, or the one."""
        return await self.request(ENDPOINTS["perpetual_markets"], ticker=ticker)

    async def order_book(self, ticker: str) -> Answer[BookContents]:
        """Return a book: at most 100 levels a side, uncrossed by the venue."""
        return await self.request(ENDPOINTS["order_book"], ticker=ticker)

    async def trades(self, ticker: str, **rows: Unpack[Pages]) -> Answer[list[TradeFields]]:
        """Return a market's trades."""
        return await self.request(ENDPOINTS["trades"], ticker=ticker, **rows)

    async def candles(
        self, ticker: str, resolution: str, *, from_iso: str | None = None,
        to_iso: str | None = None, limit: int | None = None,
    ) -> Answer[list[CandleFields]]:  # fmt: skip
        """Return candles that start at `from_iso` or later, and before `to_iso`."""
        span: Any = {"fromISO": from_iso, "toISO": to_iso, "limit": limit}
        return await self.request(
            ENDPOINTS["candles"], ticker=ticker, resolution=resolution, **span
        )

    async def historical_funding(
        self, ticker: str, *, limit: int | None = None, effective_before_or_at: str | None = None
    ) -> Answer[list[FundingFields]]:
        """Return a market's hourly funding rates."""
        span: Any = {"limit": limit, "effective_before_or_at": effective_before_or_at}
        return await self.request(ENDPOINTS["historical_funding"], ticker=ticker, **span)

    async def sparklines(self, period: str = "ONE_DAY") -> Answer[dict[str, list[str]]]:
        """Return closing prices by ticker, of ONE_DAY by hours or of SEVEN_DAYS by four hours."""
        return await self.request(ENDPOINTS["sparklines"], time_period=period)

    async def height(self) -> Answer[HeightContents]:
        """Return the block that the indexer has come to; the chain is ahead of it."""
        return await self.request(ENDPOINTS["height"])

    async def time(self) -> Answer[TimeFields]:
        """Return the indexer's clock."""
        return await self.request(ENDPOINTS["time"])

    async def screen(self, address: str) -> Answer[ScreenFields]:
        """Return whether an address is restricted, as the older endpoint has it."""
        return await self.request(ENDPOINTS["screen"], address=address)

    async def compliance(self, address: str) -> Answer[ComplianceFields]:
        """Return how an address stands with the venue."""
        return await self.request(ENDPOINTS["compliance"], address=address)

    # -- Accounts

    async def subaccounts(self, address: str) -> Answer[list[SubaccountFields]]:
        """Return all subaccounts of an address; `NotFound` if none was ever funded."""
        return await self.request(ENDPOINTS["subaccounts"], address=address)

    async def subaccount(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> Answer[SubaccountFields]:
        """Return a subaccount, or a parent with its children; `NotFound` if never funded."""
        return await self.request(ENDPOINTS["subaccount"], subaccount, parent=parent)

    async def positions(
        self, subaccount: Subaccount, *, parent: bool = False,
        status: Sequence[str] | None = None, **rows: Unpack[Rows],
    ) -> Answer[list[PositionFields]]:  # fmt: skip
        """Return perpetual positions: OPEN, CLOSED, LIQUIDATED ones, or all."""
        return await self.request(
            ENDPOINTS["positions"], subaccount, parent=parent, status=status, **rows
        )

    async def asset_positions(
        self, subaccount: Subaccount, *, parent: bool = False
    ) -> Answer[list[AssetPositionFields]]:
        """Return what a subaccount holds in assets: USDC, owed if its side is SHORT."""
        return await self.request(ENDPOINTS["asset_positions"], subaccount, parent=parent)

    async def orders(
        self, subaccount: Subaccount, *, parent: bool = False, **chosen: Unpack[OrderChoice]
    ) -> Answer[list[OrderFields]]:
        """Return orders, of some statuses (OPEN, UNTRIGGERED, BEST_EFFORT_OPENED…) or all."""
        return await self.request(ENDPOINTS["orders"], subaccount, parent=parent, **chosen)

    async def order(self, order_id: str) -> Answer[OrderFields]:
        """Return one order by the indexer's id; `NotFound` if it has not seen it."""
        return await self.request(ENDPOINTS["order"], id=order_id)

    async def fills(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        **rows: Unpack[Pages],
    ) -> Answer[list[FillFields]]:  # fmt: skip
        """Return fills; with `page`, in the order in which the venue pages them."""
        return await self.request(
            ENDPOINTS["fills"], subaccount, parent=parent, **_market(ticker), **rows
        )

    async def trade_history(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        limit: int | None = None, page: int | None = None,
    ) -> Answer[list[TradeHistoryFields]]:  # fmt: skip
        """Return what fills did to positions, with the profit of each."""
        return await self.request(
            ENDPOINTS["trade_history"],
            subaccount,
            parent=parent,
            **_market(ticker),
            limit=limit,
            page=page,
        )

    async def transfers(
        self, subaccount: Subaccount, *, parent: bool = False, **rows: Unpack[Pages]
    ) -> Answer[list[TransferFields]]:
        """Return deposits, withdrawals and transfers."""
        return await self.request(ENDPOINTS["transfers"], subaccount, parent=parent, **rows)

    async def transfers_between(
        self, source: Subaccount, recipient: Subaccount, *, created_before_or_at: str | None = None
    ) -> Answer[list[TransferFields]]:
        """Return the transfers between two subaccounts."""
        return await self.request(
            ENDPOINTS["transfers_between"],
            source_address=source.owner, source_subaccount_number=source.number,
            recipient_address=recipient.owner, recipient_subaccount_number=recipient.number,
            created_before_or_at=created_before_or_at,
        )  # fmt: skip

    async def funding_payments(
        self, subaccount: Subaccount, *, parent: bool = False, ticker: str | None = None,
        limit: int | None = None, page: int | None = None, after_or_at: str | None = None,
    ) -> Answer[list[FundingPaymentFields]]:  # fmt: skip
        """Return funding payments, of one hour and position each."""
        rows = {"limit": limit, "page": page, "after_or_at": after_or_at, "ticker": ticker}
        return await self.request(ENDPOINTS["funding_payments"], subaccount, parent=parent, **rows)

    async def historical_pnl(
        self, subaccount: Subaccount, *, parent: bool = False, **rows: Unpack[Spans]
    ) -> Answer[list[PnlFields]]:
        """Return equity and total profit as they were, hour by hour."""
        return await self.request(ENDPOINTS["historical_pnl"], subaccount, parent=parent, **rows)

    async def pnl(
        self, subaccount: Subaccount, *, parent: bool = False, daily: bool | None = None,
        **rows: Unpack[Spans],
    ) -> Answer[list[PnlFields]]:  # fmt: skip
        """Return the same as the newer endpoint counts it, by the hour or `daily`."""
        return await self.request(ENDPOINTS["pnl"], subaccount, parent=parent, daily=daily, **rows)


def _market(ticker: str | None) -> dict[str, Any]:
    return {"market": ticker, "marketType": ticker and "PERPETUAL"}


def _fresh(answer: Answer[list[_T]]) -> list[_T]:
    if answer.stale:
        what = "expected the next page, got one from memory"
        raise Unreachable(f"{what} that is {answer.age_s:.0f} s old: the endpoint fails")
    return answer.value


# === Links ===
# Sockets, a thread each, and the inbox through which what they read comes to one thread. A link
# reads, writes and pings on its own thread, and is the one thing that connects again.


class Vitals:
    """What the edge measures of itself, for whoever looks; each value is replaced as a whole.

    `pings` are, by link, how long the newest answers to a ping took, in seconds, oldest first;
    `rest` is how REST stood a second ago, None where nothing requests, `rest_wait_s` for how long
    a request waited then until a rate limit let it go.
    """

    def __init__(self) -> None:
        self.pings: dict[str, tuple[float, ...]] = {}
        self.rest: Metrics | None = None
        self.rest_wait_s = 0.0

    def ponged(self, link: str, seconds: float) -> None:
        """Note how long the answer to a ping took."""
        self.pings[link] = (*self.pings.get(link, ())[1 - _PINGS :], seconds)


_PINGS: Final = 64


class Inbox:
    """The one place where texts of other threads cross over: put here, they come out of `live`.

    Thread-safe, never full, never waits. Stamped where they are put, numbered where `live` takes
    them, in the order in which they were put. `vitals` are of what puts them here. While it waits
    for the next one, `take` calls `attend`, if there is one, on its own thread; that returns in how
    many seconds to call it again.
    """

    def __init__(self) -> None:
        self.vitals = Vitals()
        self.attend: Callable[[], float] | None = None
        self._queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def put(
        self, kind: str, text: str = "", type: str = "", channel: str = "", id: str = "",
        message_id: int = 0, *, link: str,
    ) -> None:  # fmt: skip
        """Make a frame of this; its parts mean what they mean in `Frame`."""
        stamps = (time.time_ns(), time.monotonic_ns(), link, kind)
        self._queue.put((*stamps, text, type, channel, id, message_id))

    @property
    def waiting(self) -> bool:
        """Return whether something was put and not yet taken."""
        return not self._queue.empty()

    def take(self, seq: int, timeout_s: float) -> Frame | None:
        """Return what was put first as frame number `seq`; None if nothing came in time."""
        try:
            at, mono, link, kind, text, *rest = self._next(max(timeout_s, 0.0))
        except queue.Empty:
            return None
        if kind == "ws":
            return ws_frame(seq, at, mono, link, text)
        return Frame(seq, at, mono, link, kind, text, *rest)

    def _next(self, timeout_s: float) -> tuple[Any, ...]:
        ends = time.monotonic() + timeout_s
        while self.attend is not None and timeout_s > 0 and self._queue.empty():
            wait_s = self.attend()
            timeout_s = ends - time.monotonic()
            if wait_s >= timeout_s:
                break
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=wait_s)
        return self._queue.get(timeout=max(timeout_s, 0.0))


# At once after a mere loss; some times a second while a venue restarts, as most are back within a
# quarter of a minute and what is waited beyond that is data missed; then ever more rarely.
_BACKOFF_S: Final = (
    0.005, *[0.1] * 20, *[0.25] * 30, *[0.5] * 10, *[1.0] * 12, 2.0, 4.0, 8.0, 15.0, 30.0,
)  # fmt: skip
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.1  # how often a silent link looks at the clock
# A quiet link is pinged, so that a busy link which is half open is found within 5 s; and
# every link now and then, so that any is within 20 s.
_PING_S: Final = 14.0
_QUIET_S: Final = 1.5
_PONG_S: Final = 3.0
_WHOLE_S: Final = 20.0
# A key may be subscribed to twice a second; on the way requests may come closer together.
_AGAIN_S: Final = 1.1


class _Link(threading.Thread):
    """One connection, held open: subscribe, read, and reconnect after a loss.

    The one place where anything is reconnected. A loop, as RxPY's `retry` knows no back-off and
    has no `retry_when`; and below `share`, which would replay its first error for ever.

    All that is read, written and pinged is so on this thread: TLS allows for no other. What is
    read goes to the inbox, so that nothing a subscriber does delays the answer to the venue's ping.
    """

    def __init__(
        self,
        url: str,
        name: str,
        keys: list[Key],
        inbox: Inbox,
        trust: ssl.SSLContext | None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        # What a loss makes unknown is requested first; the rest is merely late.
        self.keys = sorted(keys, key=lambda key: not CHANNELS[key[0]].changes)
        self._trust = trust
        self.url, self._put, self._vitals = url, partial(inbox.put, link=name), inbox.vitals
        self.other: Callable[[str], str] = lambda url: url  # where to go after two failures
        self._stopping, self._moving = threading.Event(), False
        self._app: Any = None
        self._opened: Any = None
        self._closed = (0, "")
        self._wanted: queue.SimpleQueue[tuple[Key, float]] = queue.SimpleQueue()
        self._due: dict[Key, float] = {}
        self._requested: dict[Key, float] = {}
        self._coming = 0, 0.0  # of the message that is coming in: its size, and since when

    def again(self, keys: Iterable[Key], after_s: float = 0.0) -> None:
        """Resubscribe to what was lost, from any thread: as soon as the venue allows."""
        for key in keys:
            self._wanted.put((key, time.monotonic() + after_s))

    def drop(self, reason: str) -> None:
        """Close the connection, from any thread, and so reconnect."""
        self._note(0, reason)
        # Not the client's close(): that reads the venue's answer away from our thread, which
        # waits for it. Nor SSLSocket's shutdown: that would send a close frame in plain text.
        with contextlib.suppress(AttributeError, TypeError, OSError):
            self._app.keep_running = False
            socket.socket.shutdown((self._opened or self._app.sock).sock, socket.SHUT_RDWR)

    def move(self, reason: str) -> None:
        """Close the connection, from any thread, and connect to another indexer."""
        self._moving = True
        self.drop(reason)

    def leave(self) -> None:
        """Begin to end, from any thread: with a close frame, if a connection is open."""
        self._stopping.set()
        if self._opened is None:
            self.drop("leaving")
        else:
            self._app.keep_running = False

    def end(self) -> None:
        """Wait for the end: a second for the close frame, then close the socket."""
        self.join(timeout=1.0)
        if self.is_alive():
            self.drop("leaving")
            self.join(timeout=1.0)

    def run(self) -> None:
        """Connect and reconnect until it is to leave."""
        failures = 0
        while not self._stopping.is_set():
            self._closed, begun_ns = (0, ""), time.monotonic_ns()
            self._put("tick")
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - whatever it is, a link is tried again
                self._lost(error)
            code, reason = self._closed
            self._put("close", reason, str(code))
            # A venue that greets and drops us is as gone as one that does not answer.
            if time.monotonic_ns() - begun_ns > _LASTING_NS:
                failures = 0
            wait = _BARRED_S if code in _BARRED else _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            # Jitter, or every bot of a restarted venue comes back in the same instant.
            stopped = self._stopping.wait(wait * random.uniform(0.5, 1.0))
            if (failures > 1 or self._moving) and not stopped:
                self.url, self._moving = self.other(self.url), False

    def _listen(self) -> None:
        from dydx_v4_client.indexer.socket.websocket import IndexerSocket

        self._opened = None
        app: Any = IndexerSocket(
            self.url,
            # Called before it connects, where alone one socket can be given a timeout: else a
            # host that takes the connection and sends nothing would be waited for in silence.
            header=lambda: app.sock.settimeout(_TIMEOUT_S) or [],
            on_close=lambda _, code, reason: self._note(code or 0, reason or "closed"),
            on_error=lambda _, error: self._lost(error),
        )
        # The client would parse every message; frames hold the text.
        app.on_message = lambda _, text: self._message(text)
        # Its own loop writes pings on a second thread, by a wall clock that may be set.
        dispatcher = app.create_dispatcher(None)
        dispatcher.read = self._read
        app.create_dispatcher = lambda *_: dispatcher
        self._app = app
        # Its own connect() would leave certificates unchecked.
        app.run_forever(
            sslopt={
                "cert_reqs": ssl.CERT_REQUIRED,
                "check_hostname": True,
                "context": self._trust,
            },
            skip_utf8_validation=True,
            suppress_origin=True,
        )
        if self._opened is not None:
            self._opened.shutdown()  # the client leaves it open if the venue closed first

    def _subscribe(self, key: Key, *, again: bool = False) -> None:
        from dydx_v4_client.indexer.socket.websocket import Channel

        channel = Channel(self._app)
        channel.channel, id_ = key
        names = {"id": id_} if id_ else {}
        if again:
            channel.unsubscribe(**names)
        self._requested[key] = time.monotonic()
        batched = {"batched": True} if CHANNELS[key[0]].batched else {}
        channel.subscribe(**names, **batched)

    def _send(self, send: Callable[[str], None], text: str) -> None:
        self._put("sent", text)
        send(text)

    # -- Reading

    def _read(self, sock: Any, read: Callable[[], bool], _check: Callable[[], bool]) -> None:
        self._begin(self._app.sock)
        pending = getattr(sock, "pending", lambda: 0)
        received = pinged = due = time.monotonic()
        answer_due = math.inf
        self._app.on_pong = lambda *_: self._vitals.ponged(self.name, time.monotonic() - pinged)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            while self._app.keep_running:
                ready = pending() or selector.select(_POLL_S)
                if ready and not read():
                    return None
                now = time.monotonic()
                received = now if ready else received
                if now < due:
                    continue
                due = now + _POLL_S
                self._resubscribe(now)
                if received > pinged:  # by whatever: the pong may wait behind it
                    answer_due = math.inf
                elif now >= answer_due:
                    return self.drop(f"expected an answer to a ping within {_PONG_S:g} s, got none")
                if now >= min(pinged + _PING_S, received + _QUIET_S) and answer_due == math.inf:
                    self._app.sock.ping()
                    pinged, answer_due = now, now + _PONG_S
        return None

    def _begin(self, opened: Any) -> None:
        self._opened = opened
        if self._stopping.is_set():
            self._app.keep_running = False
            return
        # The client follows where it is led, also to where nothing is encrypted.
        if self.url.startswith("wss:") and not isinstance(opened.sock, ssl.SSLSocket):
            raise ConnError(f"expected {self.url} to stay encrypted, got an open connection")
        buffer = opened.frame_buffer
        buffer.recv = partial(self._receive, opened, buffer.recv)
        self._put("open", self.url)
        # A request is a frame too: with it a late snapshot is not mistaken for a lost one.
        self._app.send = partial(self._send, self._app.send)
        self._due, self._requested, self._wanted = {}, {}, queue.SimpleQueue()
        for key in self.keys:
            self._subscribe(key)

    def _resubscribe(self, now: float) -> None:
        while not self._wanted.empty():
            key, due = self._wanted.get()
            self._due[key] = min(due, self._due.get(key, math.inf))
        for key, due in [*self._due.items()]:
            if now >= max(due, self._requested.get(key, 0.0) + _AGAIN_S):
                del self._due[key]
                self._subscribe(key, again=True)

    def _receive(self, opened: Any, receive: Callable[[int], bytes], most: int) -> bytes:
        # The client would take in a message without end, or wait for one for ever.
        now, buffer = time.monotonic(), opened.frame_buffer
        if buffer.header is None and opened.cont_frame.cont_data is None:
            self._coming = 0, now
        came, since = self._coming
        if (size := max(came, buffer.length or 0)) > MAX_TEXT:
            raise ConnError(f"expected a message of at most {MAX_TEXT} bytes, got {size} or more")
        if now - since > _WHOLE_S:
            raise ConnError(f"expected a whole message within {_WHOLE_S:g} s, got a part")
        chunk = receive(most)
        self._coming = came + len(chunk), since
        return chunk

    def _message(self, text: str | bytes) -> None:
        self._put("ws", text if isinstance(text, str) else text.decode("utf-8", "replace"))

    # -- Losing

    def _lost(self, error: Any) -> None:
        # The venue's close frame comes as an error too, and so does what is no handshake.
        code = getattr(error, "status_code", None) or 0
        if code >= 1000:
            self._note(code, error.reason or "closed")
        elif code:
            body = (error.resp_body or b"").decode("utf-8", "replace")
            why = f"expected a socket of {self.url}, got {code}: {_reason_of(code, body)}"
            self._note(code if code in _BARRED else 0, why)
        self._note(0, f"{type(error).__name__}: {error}")

    def _note(self, code: int, reason: str) -> None:
        # The first reason for its end is the true one; what follows are echoes.
        if not self._closed[1]:
            self._closed = (code, reason)


# === Polling ===
# REST beside the sockets: the markets at first, what a snapshot may have missed, and all that a
# failing link carries. Its answers are frames; a request that fails is a gap.

_RACE_S: Final = 3.0  # an answer so long after a snapshot has what that missed
_RETRY_S: Final = 5.0
_ROUND_S: Final = 1.0  # answers are cached for a second
_SETTLED_S: Final = 3.0  # after its end a candle is the venue's last word, on all its replicas
_MEASURED_S: Final = 1.0
_FILLING: Final = 8  # pages of candles that are requested at once
_TICK_S: Final = 3_600  # how often funding is settled
_TICKED_S: Final = 10.0  # after its tick an hour's rate is on all replicas
_MARKETS: Final[Key] = ("v4_markets", "")


class _Poller(threading.Thread):
    """Requests over REST: for the markets, after the race of a snapshot, where a socket fails.

    The answers are frames by way of the inbox; a request that stays unanswered is one gap frame.
    """

    def __init__(self, network: Network, inbox: Inbox, history: Sequence[Key]) -> None:
        super().__init__(name="rest", daemon=True)
        self._network = network
        self._history = [key for key in history if key[0] in CHANNELS]
        self._rated = [key for key in history if key[0] not in CHANNELS]
        self._wanted: asyncio.PriorityQueue[tuple[int, Key]] = asyncio.PriorityQueue()
        self._waiting: set[Key] = set()  # keys in that queue
        self._growing: set[Key] = set()  # keys to be requested when their period is over
        self._put, self._vitals = partial(inbox.put, link="rest"), inbox.vitals
        self._rest = Rest(network, on_answer=self._answered, timeout_s=_TIMEOUT_S)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._tasks: dict[Any, asyncio.Task[Any]] = {}
        self._unanswered: set[tuple[Key, str] | type[RestError]] = set()  # reported as such
        self._lost: dict[Key, int] = {}  # from which block on lists may lack rows
        # Hundreds of markets take turns; accounts do not wait behind them.
        self._turn = asyncio.Semaphore(8)

    def mend(self, key: Key) -> None:
        """Request, from any thread, what the snapshot of a key may have missed."""
        if CHANNELS[key[0]].changes:
            self._call(self._start, key, partial(self._until, key, _RACE_S))

    def fill(self, ticker: str) -> None:
        """Request, from any thread, a page of each of a market's candles: some may be lost."""
        for key in self._history:
            if key[1].partition("/")[0] == ticker:
                self._call(self._want, key)

    def lost(self, keys: Iterable[Key], height: int) -> None:
        """Take note, from any thread, that from a block on all of these keys may be lost."""
        for key in keys:
            if height and CHANNELS[key[0]].kind == "account":
                self._call(self._lost.setdefault, key, height - _BEHIND)

    def compare(self, key: Key) -> None:
        """Request, from any thread, what a key that is silent stands for."""
        # A failure is a doubt of what was known: it is not left to the next comparison.
        self._call(self._start, ("compare", key), partial(self._until, key, 0.0))

    def poll(self, link: str, keys: Iterable[Key]) -> None:
        """Request, from any thread, all that a link carried, round after round."""
        for key in keys:
            self._call(self._start, (link, key), partial(self._rounds, key))

    def spare(self, link: str, keys: Iterable[Key]) -> None:
        """Stop, from any thread, the polling of what a link carries again."""
        for key in keys:
            self._call(self._end, (link, key))

    def other(self, url: str) -> str:
        """Return, on another thread, which socket to try after one: of an indexer not behind."""
        sockets = self._network.sockets
        if len(sockets) == 1 or not self.is_alive():
            return url
        asking = asyncio.run_coroutine_threadsafe(self._rest.heights(), self._loop)
        try:
            heights = asking.result(timeout=_PONG_S)
        except (TimeoutError, RuntimeError):
            return url
        using = sockets.index(url)
        heights[using] = None
        return sockets[choose_address(using, heights, self._rest.newest)]

    def saw(self, height: int) -> None:
        """Take note of the newest block that sockets reported."""
        self._rest.newest = max(self._rest.newest, height)

    def compare_indexers(self, links: Iterable["_Link"]) -> None:
        """Move, from any thread, the links whose indexer no block comes from to one that has it."""
        if len(self._network.sockets) > 1:
            self._call(self._start, "indexers", partial(self._compared, [*links]))

    def leave(self) -> None:
        """Begin to end, from any thread."""
        self._call(self._stopping.set)

    def end(self) -> None:
        """Wait for the end, which nothing delays."""
        self.join(timeout=2.0)

    def run(self) -> None:
        """Poll until it is to leave; any other end is a gap frame, and a traceback."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except Exception as error:
            self._put("gap", f"REST polling ended by {type(error).__name__}: {error}")
            raise

    async def _main(self) -> None:
        async with self._rest:
            self._start(_MARKETS, partial(self._until, _MARKETS, 0.0))
            for key in self._history:
                self._want(key)
            for number in range(_FILLING if self._history else 0):
                self._start(("candles", number), self._filling)
            self._start("rates", self._rates)
            self._start("vitals", self._measured)
            await self._stopping.wait()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _call(self, do: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(do, *arguments)

    def _want(self, key: Key) -> None:
        """Queue a page of candles, the shortest first, and once more when its newest is over."""
        period_s = CANDLE_S.get(key[1].rpartition("/")[2], 0)
        self._queue(period_s, key)
        if period_s and key not in self._growing:
            self._growing.add(key)
            left_s = period_s - time.time() % period_s + _SETTLED_S
            self._loop.call_later(left_s, self._over, period_s, key)

    def _over(self, period_s: int, key: Key) -> None:
        self._growing.discard(key)
        self._queue(period_s, key)

    def _queue(self, period_s: int, key: Key) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            self._wanted.put_nowait((period_s, key))

    async def _filling(self) -> None:
        while True:
            _, key = await self._wanted.get()
            self._waiting.discard(key)
            # Not in turn with the books: candles have a limit of their own.
            while not self._stopping.is_set() and await self._request(key):
                await asyncio.sleep(_RETRY_S)

    async def _rates(self) -> None:
        """Request each market's hourly rates, now and after each tick.

        One at a time: they share a limit with the books, which do not wait for them.
        """
        left = self._rated
        while self._rated:
            rates = ENDPOINTS["historical_funding"]
            left = [key for key in left if not await self._one(key, rates, None)]
            wait_s = _TICK_S - time.time() % _TICK_S + _TICKED_S
            await asyncio.sleep(min(wait_s, _RETRY_S) if left else wait_s)
            left = left or self._rated

    async def _measured(self) -> None:
        """Publish how REST stands, every second: its figures are this thread's alone."""
        while True:
            self._vitals.rest, self._vitals.rest_wait_s = self._rest.metrics, self._rest.wait_s
            await asyncio.sleep(_MEASURED_S)

    def _start(self, name: Any, poll: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._end(name)
        self._tasks[name] = task = self._loop.create_task(poll())
        task.add_done_callback(self._ended)

    def _end(self, name: Any) -> None:
        if task := self._tasks.pop(name, None):
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        # No task awaits it: its error is reported here or not at all.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._put("gap", f"a request to REST ended by {type(error).__name__}: {error}")

    async def _until(self, key: Key, wait_s: float) -> None:
        left: Sequence[Endpoint] = CHANNELS[key[0]].rest
        await asyncio.sleep(wait_s)
        while left := await self._in_turn(key, left):
            await asyncio.sleep(_RETRY_S)

    async def _compared(self, links: list["_Link"]) -> None:
        sockets, was = self._network.sockets, self._rest.newest
        while self._rest.newest == was:
            heights = await self._rest.heights()
            for link in links:
                using = sockets.index(link.url)
                if choose_address(using, heights, was) != using:
                    link.move(f"expected a block after {was}, got none; another indexer has it")
            await asyncio.sleep(_RETRY_S)

    async def _rounds(self, key: Key) -> None:
        by_market = CHANNELS[key[0]].id.startswith("ticker")
        while True:
            next_due = self._loop.time() + _ROUND_S
            await (self._in_turn(key) if by_market else self._request(key))
            await asyncio.sleep(max(next_due - self._loop.time(), 0.0))

    async def _in_turn(self, key: Key, of: Sequence[Endpoint] | None = None) -> list[Endpoint]:
        async with self._turn:
            return await self._request(key, of)

    async def _request(self, key: Key, of: Sequence[Endpoint] | None = None) -> list[Endpoint]:
        """Request all that a key stands for, or a part; return what was not answered."""
        since = self._lost.pop(key, None)
        # After a loss each endpoint is walked back to it: a part would leave the others out.
        every = CHANNELS[key[0]].rest if of is None or since is not None else of
        left = [*every]
        try:
            # One that fails keeps no other from being requested.
            left = [endpoint for endpoint in every if not await self._one(key, endpoint, since)]
        finally:
            if since is not None and left:
                self._lost[key] = since
        return left

    async def _one(self, key: Key, endpoint: Endpoint, since: int | None) -> bool:
        channel, id_ = key
        where, rows = self._rest.where, endpoint.rows if endpoint.key else None
        named = CHANNELS[channel].parameters(id_) if channel in CHANNELS else {"ticker": id_}
        try:
            if since is not None and endpoint.pages:
                async for row in self._rest.walk(endpoint, **named):
                    if int(row.created_at_height or 0) < since:
                        break
            else:
                answer = await self._rest.request(endpoint, **named, limit=rows)
                if answer.stale:
                    raise Unreachable("expected a new answer, got an old one: the endpoint fails")
        except RestError as error:
            # That an account was never funded is an answer: there is nothing.
            if not (isinstance(error, NotFound) and error.never_funded):
                self._failed(key, endpoint, error)
                return False
        self._unanswered -= {Unreachable, Untrusted, (key, endpoint.path)}
        if self._rest.where != where:
            self._put("gap", f"expected answers of {where}, got none: {self._rest.where} is used")
        return True

    def _failed(self, key: Key, endpoint: Endpoint, error: RestError) -> None:
        what: tuple[Key, str] | type[RestError] = (key, endpoint.path)
        if isinstance(error, Unreachable | Forbidden):
            what = type(error)  # REST as a whole: reported once
        if what not in self._unanswered:
            self._unanswered.add(what)
            self._put("gap", f"{f'REST for {key[0]} {key[1]}'.rstrip()}: {error}")

    def _answered(self, _method: str, path: str, status: int, body: str, _headers: Any) -> None:
        self._put("http", body, str(status), path)


# === Live ===
# All sources joined on one thread: frames in one order, numbered, each after the gaps it shows.

_TICK_NS: Final = _SECOND
_LATE_NS: Final = 250_000_000  # as often as the venue sends: what waits longer is behind its market
_REFUSED_S: Final = 1.0  # a subscription refused for now is requested again after it, then rarer


def live(
    network: Network,
    tickers: Iterable[str],
    *,
    subaccount: Subaccount | None = None,
    parent: bool = False,
    resolutions: Iterable[str] = (),
    also: Iterable[Key] = (),
    history: Iterable[Key] = (),
    pace: Pacer | None = None,
    inbox: Inbox | None = None,
) -> Observable[Frame]:
    """Receive a network's frames: markets, blocks, and each ticker's book, trades and candles.

    With a `subaccount` its account too, or as `parent` that of all its children; `resolutions`
    are of the candles, `also` are further channels with their ids. `history` names the candles of
    which a page is requested over REST at the start and after each gap, the shortest first, and
    once more when the period that was growing is over: ("v4_candles", "BTC-USD/1MIN"); and the
    markets whose hourly rates are, at the start and after each tick of funding:
    ("historical_funding", "BTC-USD"). What others put into `inbox` comes out among the rest.

    Shared: however many subscribe, it is received once. The first subscriber opens the links, and
    all are called on its thread, inside its `subscribe`; a later one receives from then on, and
    nothing from before. The links close when the last has left; the next one opens them again.
    It completes, for good, once `pace` returns False; no error ends it, but what a subscriber
    raises is raised where it is received.

    Lost messages are a gap frame before the one that shows it, and are resubscribed. A lost link
    is a close frame, and connects again; after five attempts in vain REST is polled meanwhile. A
    tick of "clock" passes every second, one of a link with each attempt. Where frames are taken
    more than 250 ms after they were received, a tick before them reports how late (`Lag`).

        first   --tick-open-ws-ws-gap-ws-tick-close--tick-open-
        second           |--ws-ws-gap-ws-tick-|
    """
    keys = subscriptions(tickers, resolutions, subaccount, parent=parent, also=also)
    history, over = (*history,), list[bool]()

    def receive() -> Generator[Frame]:
        if not over:
            yield from _receive(network, keys, history, pace, inbox)
            over.append(True)

    return from_generator(receive).pipe(operators.share())


def _receive(
    network: Network, groups: list[list[Key]], history: Sequence[Key], pace: Pacer | None,
    inbox: Inbox | None,
) -> Generator[Frame]:  # fmt: skip
    inbox = inbox or Inbox()
    # Made once: to read all that is trusted takes longer than to connect.
    encrypted = any(address.startswith("wss:") for address in network.sockets)
    trust = ssl.create_default_context() if encrypted else None
    named = {f"c{n}": keys for n, keys in enumerate(groups, 1)}
    links = {name: _Link(network.ws, name, keys, inbox, trust) for name, keys in named.items()}
    poller = _Poller(network, inbox, history)
    for link in links.values():
        link.other = poller.other
    intake = _Intake(inbox, _Watch(links, poller).frames)
    threads: list[_Poller | _Link] = [poller, *links.values()]
    for thread in threads:
        thread.start()
    tick_due, seq = time.monotonic_ns() + _TICK_NS, 0
    try:
        while True:
            if (now := time.monotonic_ns()) >= tick_due:
                tick_due += _TICK_NS
                inbox.put("tick", link="clock")
            for each in intake.take(seq + 1, now, (tick_due - now) / _SECOND):
                if pace is not None and not pace(each):
                    return
                yield each
                seq = each.seq
    finally:
        for thread in threads:
            thread.leave()
        for thread in threads:
            thread.end()


class _Intake:
    """What `live` takes from its inbox: all of it, in order, with ticks that report a lag.

    Once a frame has waited for more than 250 ms, a tick goes before it and every 250 ms from then
    on, until nothing is late any more. It is stamped as the frame behind it: frames that waited are
    of the time at which they came, and time does not go back. `watch` is given each frame as soon
    as it is seen, and returns it with what goes before it.
    """

    def __init__(self, inbox: Inbox, watch: Callable[[Frame], Sequence[Frame]]) -> None:
        self._inbox, self._watch = inbox, watch
        self._waiting: deque[Frame] = deque()
        self._report_due: int | None = None  # None: nothing is late
        self._last = Frame(0, 0, 0, "", "tick")

    def take(self, seq: int, now: int, timeout_s: float) -> Sequence[Frame]:
        """Return what comes next, from number `seq` on; nothing if nothing came in time.

        `now` is the monotonic time at the call, in nanoseconds.
        """
        if self._report_due is None:
            frame = self._inbox.take(seq, timeout_s)
            if frame is None:
                return ()
            frames = self._watch(frame)
            if now - frame.mono <= _LATE_NS:  # as nearly always
                return frames
            self._waiting.extend(frames)
        elif self._waiting and now < self._report_due:
            return self._numbered(seq, 1)
        return self._report(seq, now)

    def _report(self, seq: int, now: int) -> Sequence[Frame]:
        waiting = self._waiting
        while (frame := self._inbox.take(seq, 0)) is not None:
            waiting.extend(self._watch(frame))
        head = waiting[0] if waiting else self._last
        lag, self._report_due = Lag(), None
        if waiting and (age_ns := now - head.mono) > _LATE_NS:
            self._report_due = now + _LATE_NS
            lag = Lag(age_ns=age_ns, waiting=len(waiting), books=_together(waiting))
        text = msgspec.json.encode(lag).decode()
        # With a frame at least: the tick itself may take so long that the next one is due.
        count = len(waiting) if self._report_due is None else 1
        return [
            Frame(seq, head.at, head.mono, "clock", "tick", text),
            *self._numbered(seq + 1, count),
        ]

    def _numbered(self, seq: int, count: int) -> Sequence[Frame]:
        frames = [self._waiting.popleft() for _ in range(count)]
        self._last = frames[-1] if frames else self._last
        return [msgspec.structs.replace(each, seq=n) for n, each in enumerate(frames, seq)]


def _together(frames: Iterable[Frame]) -> dict[str, int]:
    """Return, by ticker, the place of the last of the frames that updates its book."""
    last: dict[str, int] = {}
    for place, frame in enumerate(frames, 1):
        row = CHANNELS.get(frame.channel) if frame.kind == "ws" else None
        if row is not None and row.kind == "book" and frame.type not in ("subscribed", *_CONTROL):
            last[frame.id] = place
    return last


class _Watch:
    """What `live` does about the frames: report gaps, resubscribe, reconnect, poll."""

    def __init__(self, links: Mapping[str, _Link], poller: _Poller) -> None:
        self._links, self._poller = links, poller
        self._ids = {name: Continuity() for name in links}
        self._connections = Connections()
        self._silence = Silence()
        self._refused: Counter[Key] = Counter()  # how often in a row
        self._missed: set[Key] = set()  # tapes that lost something, until they are back

    def frames(self, frame: Frame) -> list[Frame]:
        """Return a frame, and before it the gaps that it shows; do what they require."""
        if frame.kind in ("tick", "close"):
            self._poller.saw(self._connections.height)
        gaps = [*self._gaps(frame), *self._silent(frame)]
        for n, gap in enumerate(gaps):
            gaps[n] = msgspec.structs.replace(gap, seq=frame.seq + n)
        if gaps:
            frame = msgspec.structs.replace(frame, seq=frame.seq + len(gaps))
        for each in (*gaps, frame):
            if each.kind in ("close", "gap") and each.link in self._links:
                keys = self._links[each.link].keys
                self._poller.lost(keys, self._connections.height)
                self._missed.update(key for key in keys if CHANNELS[key[0]].kind == "trades")
            for turn in self._connections.step(each):
                if turn.link in self._links:
                    self._turned(self._links[turn.link], turn)
                elif turn.link == "chain" and turn.state == "stale":
                    self._poller.compare_indexers(self._links.values())
        return [*gaps, frame]

    def _gaps(self, frame: Frame) -> list[Frame]:
        ids = self._ids.get(frame.link)
        if frame.kind == "tick":
            return [*self._overdue(frame)] if frame.link in _CLOCK else []
        if ids is None:
            return []
        if frame.kind == "open":
            self._ids[frame.link] = Continuity()
        elif frame.kind == "sent":
            ids.request(frame)
        elif frame.kind == "ws":
            return self._judged(ids, frame)
        return []

    def _judged(self, ids: Continuity, frame: Frame) -> list[Frame]:
        link, trouble = self._links[frame.link], ids.take(frame)
        if frame.is_snapshot:
            self._poller.mend(key_of(frame))
            self._refused.pop(key_of(frame), None)
            if key_of(frame) in self._missed:
                self._missed.discard(key_of(frame))
                self._poller.fill(frame.id)
        elif _is_for_now(frame) and frame.channel:
            times = self._refused[key_of(frame)]
            self._refused[key_of(frame)] += 1
            link.again([key_of(frame)], min(_REFUSED_S * 2**times, _BACKOFF_S[-1]))
        row = CHANNELS.get(frame.channel)
        changes = row is not None and (row.changes or row.kind == "markets")
        if trouble == "out_of_order" or (changes and not _readable(frame)):
            link.again([key_of(frame)])  # what it would have changed is unknown
        if trouble != "gap":
            return []
        # Anything that the link carries may have been among it; what is owed comes anyway.
        link.again(key for key in link.keys if key not in ids.owed)
        why = f"{ids.lost} messages lost before message_id {frame.message_id}"
        return [_gap(frame, frame.link, ids.lost, why)]

    def _overdue(self, frame: Frame) -> Iterator[Frame]:
        for name, ids in self._ids.items():
            if late := ids.overdue(frame.mono):
                # Its hole may have been another's: the gap costs all that the link carries.
                link = self._links[name]
                link.again(key for key in link.keys if key in late or key not in ids.owed)
                what = ", ".join(" ".join(key).strip() for key in late[:3])
                why = f"{len(late)} answers overdue: {what}{' …' if len(late) > 3 else ''}"
                yield _gap(frame, name, len(late), why)

    def _silent(self, frame: Frame) -> Iterator[Frame]:
        for silent in self._silence.step(frame):
            if not silent.is_dead:
                self._poller.compare(silent.key)
                continue
            self._links[silent.link].again([silent.key])
            why = f"no message for {silent.since_ns / _SECOND:.0f} s, and REST shows a change"
            channel, id_ = silent.key
            gap = _gap(frame, silent.link, 0, f"{' '.join(silent.key).strip()}: {why}")
            yield msgspec.structs.replace(gap, channel=channel, id=id_)

    def _turned(self, link: _Link, turn: ConnectionState) -> None:
        if turn.state == "polling":
            self._poller.poll(link.name, link.keys)
        elif turn.state == "live":
            self._poller.spare(link.name, link.keys)
        elif turn.state == "stale":
            link.drop(turn.reason)


def _readable(frame: Frame) -> bool:
    try:
        odd = odd_rows(frame)
    except WireError:
        return False
    # What an account's update leaves out is in its snapshot; what a snapshot does, in none.
    return frame.is_snapshot or not (odd and CHANNELS[frame.channel].changes)


def _gap(frame: Frame, link: str, lost: int, why: str) -> Frame:
    return Frame(frame.seq, frame.at, frame.mono, link, "gap", why, message_id=lost)


# === Keys ===
# One signing key, from the environment, a keyring or an encrypted file, and never shown again. A
# secret in the clear is no local variable of a function that raises: a traceback may show those.
# The file is one JSON object: how the passphrase becomes a key, whose key it is, the sealed text.
# By the same scheme `seal` encrypts anything else, under a format of its own.

_FORMAT: Final = "dydx-keys"
_SEALED: Final = "dydx-sealed"
_KINDS: Final = {_FORMAT: "an encrypted key file", _SEALED: "sealed text"}
_VERSION: Final = 1
_COST: Final = 2**17  # 128 MiB and a third of a second for each guess
_COSTS: Final = range(2**14, 2**20 + 1)  # less protects nothing, more would never end
_SHORTEST: Final = 8


def seal(plain: bytes, passphrase: "SecretStr") -> bytes:
    """Encrypt bytes as a key file encrypts its key; `KeyProblem` if the passphrase is too short.

    What is returned is JSON in lines, a third longer, with all that `unseal` needs but the
    passphrase.
    """
    from pydantic import SecretBytes

    secret = SecretBytes(plain)
    del plain
    return _Sealed.seal(secret, passphrase, format=_SEALED).text()


def unseal(sealed: bytes, passphrase: "SecretStr") -> bytes:
    """Decrypt what `seal` made; `KeyProblem` separates a damaged text from a wrong passphrase."""
    return _Sealed.parse(sealed, "unseal", format=_SEALED).open(passphrase).get_secret_value()


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int
    address: str  # whose key it is; empty where it is no key
    kdf: str
    cost: int
    salt: str
    token: str
    sha256: str = ""  # over the rest: separates a damaged file from a wrong passphrase

    @classmethod
    def seal(
        cls, secret: "SecretBytes", passphrase: "SecretStr", *, format: str, address: str = ""
    ) -> Self:
        if len(passphrase.get_secret_value()) < _SHORTEST:
            raise KeyProblem(f"expected a passphrase of {_SHORTEST} or more characters, got less")
        salt = secrets.token_bytes(16)
        token = _fernet(passphrase, salt, _COST).encrypt(secret.get_secret_value())
        sealed = cls(
            format=format,
            version=_VERSION,
            address=address,
            kdf="scrypt",
            cost=_COST,
            salt=base64.b64encode(salt).decode(),
            token=token.decode(),
        )
        return msgspec.structs.replace(sealed, sha256=sealed._sum())

    @classmethod
    def seal_key(cls, secret: "SecretStr", address: str, passphrase: "SecretStr") -> Self:
        from pydantic import SecretBytes

        plain = SecretBytes(secret.get_secret_value().encode())
        return cls.seal(plain, passphrase, format=_FORMAT, address=address)

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            text = path.read_bytes()
        except OSError as error:
            raise KeyProblem(f"expected {_KINDS[_FORMAT]} at {path}, got {error}") from None
        return cls.parse(text, str(path), format=_FORMAT)

    @classmethod
    def parse(cls, text: bytes, source: str, *, format: str) -> Self:
        try:
            sealed = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise KeyProblem(f"{source}: expected {_KINDS[format]}, got {error}") from None
        if (sealed.format, sealed.kdf) != (format, "scrypt") or sealed.version > _VERSION:
            was = f"{sealed.format} {sealed.version} with {sealed.kdf}"
            raise KeyProblem(f"{source}: expected {format} {_VERSION} with scrypt, got {was}")
        if sealed.sha256 != sealed._sum() or sealed.cost not in _COSTS:
            raise KeyProblem(f"{source}: expected it as it was written, got a damaged one")
        return sealed

    def open(self, passphrase: "SecretStr") -> "SecretBytes":
        from cryptography.fernet import InvalidToken
        from pydantic import SecretBytes

        with contextlib.suppress(InvalidToken, ValueError):
            fernet = _fernet(passphrase, base64.b64decode(self.salt), self.cost)
            return SecretBytes(fernet.decrypt(self.token))
        what = f"the key of {self.address}" if self.address else "the sealed text"
        raise KeyProblem(f"expected the passphrase of {what}, got another")

    def text(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def write(self, path: Path, *, new: bool) -> None:
        """Write it whole or not at all; a new file replaces none."""
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        problem = ""
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self.text())
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a file is, a rename would take its place.
            os.link(part, path) if new else os.replace(part, path)
        except OSError as error:
            problem = str(error)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        if problem:
            raise KeyProblem(f"expected to write a key file at {path}, got {problem}")

    def _sum(self) -> str:
        rest = msgspec.json.encode(msgspec.structs.replace(self, sha256=""))
        return hashlib.sha256(rest).hexdigest()


def _fernet(passphrase: "SecretStr", salt: bytes, cost: int) -> Any:
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    derive = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive
    return Fernet(base64.urlsafe_b64encode(derive(passphrase.get_secret_value().encode())))


SERVICE: Final = "dydx-conn"  # the name under which the system's keyring is queried
_LENGTHS: Final = (12, 15, 18, 21, 24)
_HEX_KEY: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")


class Keys:
    """One signing key; `address` is all that it shows, `source` is where it came from.

    The text is a BIP-39 mnemonic in English or 64 hexadecimal digits. `KeyProblem` names what is
    wrong with it, or that its address is not the `expected` one.
    """

    __slots__ = ("_pair", "_secret", "address", "source")

    def __init__(self, secret: "SecretStr", *, source: str = "given", expected: str = "") -> None:
        self._secret = secret
        self.source = source
        self._pair = _key_pair(secret, source)
        self.address = self.wallet(0, 0).address
        if expected and expected != self.address:
            raise KeyProblem(f"{source}: expected the key of {expected}, got {self.address}'s")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        mnemonic: str = "DYDX_MNEMONIC",
        private_key: str = "DYDX_PRIVATE_KEY",
        expected: str = "",
    ) -> Self:
        """Read the one of two environment variables that is set.

        Both are taken out of the process's own environment, where all that runs in it, and what
        it starts, could read them. What the system remembers of its start keeps them.
        """
        from pydantic import SecretStr

        given = os.environ if environment is None else environment
        found = [
            (name, SecretStr(given[name])) for name in (mnemonic, private_key) if given.get(name)
        ]
        if environment is None:
            for name in (mnemonic, private_key):
                os.environ.pop(name, None)
        del given, environment  # a traceback that shows locals would show all of it
        if len(found) != 1:
            was = "both" if found else "neither"
            raise KeyProblem(f"expected one of {mnemonic} and {private_key} to be set, got {was}")
        name, secret = found[0]
        return cls(secret, source=name, expected=expected)

    @classmethod
    def from_keyring(cls, name: str, *, expected: str = "") -> Self:
        """Read a key from the system's keyring; needs the extra `keyring`."""
        secret = _from_keyring(name)
        return cls(secret, source=f"keyring:{name}", expected=expected)

    @classmethod
    def from_file(cls, path: Path | str, passphrase: "SecretStr", *, expected: str = "") -> Self:
        """Read a key from an encrypted file."""
        from pydantic import SecretStr

        file = _Sealed.read(Path(path))
        # What is no text is no mnemonic either, and is reported as such.
        plain = SecretStr(file.open(passphrase).get_secret_value().decode(errors="replace"))
        keys = cls(plain, source=str(path), expected=expected)
        if keys.address != file.address:
            raise KeyProblem(f"{path}: expected the key of {file.address}, got {keys.address}'s")
        return keys

    def save(self, path: Path | str, passphrase: "SecretStr") -> None:
        """Write the key to a new encrypted file that only its owner may read."""
        _Sealed.seal_key(self._secret, self.address, passphrase).write(Path(path), new=True)

    def wallet(self, account_number: int, sequence: int) -> "Wallet":
        """Return the official client's wallet; no request is sent to a node."""
        from dydx_v4_client.wallet import Wallet

        return Wallet(self._pair, account_number, sequence)

    def __repr__(self) -> str:
        return f"Keys({getattr(self, 'address', 'not read')}, from {self.source})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        # Who dumps a configuration copies it: the copy is this very object, and as silent.
        return self

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("expected keys to be read where they are needed, got a pickle of them")


def rotate(path: Path | str, old: "SecretStr", new: "SecretStr") -> None:
    """Encrypt a key file with a new passphrase; until that is done the old file stands."""
    keys = Keys.from_file(path, old)
    _Sealed.seal_key(keys._secret, keys.address, new).write(Path(path), new=False)


def _key_pair(secret: "SecretStr", source: str) -> "KeyPair":
    from dydx_v4_client.key_pair import KeyPair

    problem = _objection(secret)
    if not problem:
        with contextlib.suppress(ValueError):
            if _is_hex(secret):
                return KeyPair.from_hex(secret.get_secret_value().strip()[-64:])
            return KeyPair.from_mnemonic(" ".join(_words(secret)))
        # Not in an `except`: the error would hold the frames in which the secret was seen.
        problem = "expected a private key of secp256k1, got zero or one not below its order"
    raise KeyProblem(f"{source}: {problem}")


def _is_hex(secret: "SecretStr") -> bool:
    return _HEX_KEY.fullmatch(secret.get_secret_value().strip()) is not None


def _objection(secret: "SecretStr") -> str:
    """Return what is wrong with a key's text, or ""; the place of a word, not the word."""
    if _is_hex(secret):
        return ""
    count = len(_words(secret))
    if count == 1:
        digits = len(secret.get_secret_value().strip())
        return f"expected a mnemonic or 64 hexadecimal digits, got one word of {digits} characters"
    if count not in _LENGTHS:
        return f"expected a mnemonic of {', '.join(map(str, _LENGTHS))} words, got {count}"
    unknown = [str(n) for n, word in enumerate(_words(secret), 1) if word not in _english()]
    if unknown:
        return f"expected words of the English BIP-39 list, got others at {', '.join(unknown)}"
    if not _checks(secret):
        return "expected a mnemonic with a right checksum, got a word wrong or out of place"
    return ""


def _words(secret: "SecretStr") -> list[str]:
    return secret.get_secret_value().lower().split()


def _checks(secret: "SecretStr") -> bool:
    from bip_utils import Bip39Languages, Bip39MnemonicValidator

    validator = Bip39MnemonicValidator(Bip39Languages.ENGLISH)
    return bool(validator.IsValid(" ".join(_words(secret))))


@lru_cache
def _english() -> frozenset[str]:
    # Read and not imported: whoever looks for secrets in a text does not wait for a wallet.
    package = find_spec("bip_utils")
    if package is None or package.origin is None:
        raise KeyProblem("expected the package bip-utils, got none")
    words = Path(package.origin).parent / "bip" / "bip39" / "wordlist" / "english.txt"
    return frozenset(words.read_text(encoding="utf-8").split())


def _from_keyring(name: str) -> "SecretStr":
    from pydantic import SecretStr

    try:
        import keyring
        import keyring.errors
    except ImportError:
        problem = "expected the extra keyring, got none: install dydx-conn[keyring]"
    else:
        try:
            found = keyring.get_password(SERVICE, name)
        except keyring.errors.KeyringError as error:
            problem = f"expected an answer of the system's keyring, got {error}".splitlines()[0]
        else:
            if found:
                return SecretStr(found)
            problem = f"expected a key, got none: `keyring set {SERVICE} {name}` stores one"
    raise KeyProblem(f"keyring:{name}: {problem}")


# === Audit ===
# Requests and answers in writing, without anything that looks like a secret: better a word too
# many removed than a key in a file.

_GONE: Final = "[redacted]"
_SECRETS: Final = (
    r"mnemonic|seed_?phrase|passphrase|password|private_?key|secret|signatures?|tx_?bytes"
    r"|tx_?raw|auth_?info_?bytes|body_?bytes"
)
_NAME: Final = re.compile(rf"(?:\w*_)?(?:{_SECRETS})", re.IGNORECASE)
# A name and its value, in JSON, in the repr of Python, or as a shell has it.
_SECRET_FIELDS: Final = re.compile(
    rf"""((?:{_SECRETS})(?:\\?["'])?\s*[:=]\s*)(?:(\\?["']).*?\2|(?<==)[^\s"'\\]+)""",
    re.IGNORECASE | re.DOTALL,
)
_BEARER: Final = re.compile(r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)
_DIGITS: Final = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?[0-9a-fA-F]{64,}(?![0-9A-Za-z])")
# The hash of a transaction looks like a private key, and is as public as the chain.
_HASH: Final = re.compile(r"(?:tx_?|transaction_?)?hash\W{1,5}$", re.IGNORECASE)
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_-])(?!/v4/)[A-Za-z0-9+/_-]{80,}={0,2}")
_BYTES: Final = re.compile(r"""\bb(['"])(?=(?:(?!\1).)*?\\x)(?:(?!\1)[^\\]|\\.){32,}\1""")
# The letter of an escaped line break is not the first one of the word after it.
_WORD: Final = re.compile(r"(?<=\\[nrt])[A-Za-z]+|(?<![A-Za-z\\])[A-Za-z]+")
_BETWEEN: Final = 8  # characters between two words of a mnemonic: quotes, commas, numbers


def redact(text: str) -> str:
    """Return the text without what looks like a secret, or like a signed transaction.

    That is: twelve words of the BIP-39 list in a row, one of which may be mistyped, 64 hexadecimal
    digits that are not called a hash, long base64, the bytes of Python, the password of an address,
    the token of a header, and the value of whatever is named as a secret.
    """
    text = _without_mnemonics(text)  # first: a name takes no more than one bare word with it
    text = _SECRET_FIELDS.sub(rf"\1{_GONE}", _without_password(text))
    text = _BEARER.sub(rf"\1{_GONE}", text)
    text = _DIGITS.sub(_unless_hash, text)
    text = _BASE64.sub(_GONE, text)
    return _BYTES.sub(_GONE, text)


def is_secret(text: str) -> bool:
    """Return whether a text holds a mnemonic, or is a private key."""
    return bool(_HEX_KEY.fullmatch(text.strip())) or _without_mnemonics(text) != text


def printable(text: str) -> str:
    """Return the text as one line upon which no terminal acts: a "?" for what it would act upon.

    Control characters (C0, C1, DEL), those that hide text or turn its direction, line breaks.
    """
    return _UNPRINTABLE.sub("?", text)


_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def _unless_hash(found: re.Match[str]) -> str:
    before = found.string[max(found.start() - 32, 0) : found.start()]
    return found[0] if _HASH.search(before) else _GONE


def _without_mnemonics(text: str) -> str:
    places = [word.span() for word in _WORD.finditer(text)]
    size = _LENGTHS[0]
    if len(places) < size:
        return text
    known = [text[start:end].lower() in _english() for start, end in places]
    near = [start - end <= _BETWEEN for (_, end), (start, _) in pairwise(places)]
    hidden: set[int] = set()
    for n in range(len(places) - size + 1):
        if known[n : n + size].count(False) <= 1 and all(near[n : n + size - 1]):
            # Where the first or last is no word of the list, it may be of the text around.
            hidden.update(range(n + (not known[n]), n + size - (not known[n + size - 1])))
    out, copied = [], 0
    for n in sorted(hidden):
        if n - 1 not in hidden:
            out += [text[copied : places[n][0]], _GONE]
        copied = places[n][1]
    return "".join([*out, text[copied:]])


_LONGEST: Final = 2_000  # characters of one text; more of an answer is a recording's business


class AuditLog:
    """Requests to a venue and its answers, one JSON object a line, redacted.

    Lines are appended to a file that only its owner may read, each in one write and at once.
    Any thread may write. A line that cannot be written, or not whole, is counted in `failures`,
    with `last_failure`, and never an error: nothing here may stop a trade or a way out of one.
    The next one is tried again, on a line of its own, after one that has how many were lost.
    """

    def __init__(self, path: Path | str, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path = Path(path)
        self.lines = self.failures = 0
        self.last_failure = ""
        self._lost = 0  # of the failures, how many the file itself tells of
        self._torn = False  # whether it ends within a line
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._file = os.open(self.path, flags, 0o600)
            os.fchmod(self._file, stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            raise ConnError(f"expected to write an audit log to {path}, got {error}") from None

    def write(self, event: str, *, at: int | None = None, **fields: Any) -> None:
        """Append one event; `at` is in nanoseconds, by default now."""
        try:
            ns = self._clock_ns() if at is None else at
            line = {"ns": ns, **_jsonable({"event": event, **fields})}
            text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            # Whoever shows the file on a terminal shows no more than text.
            text = _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)
            with self._lock:
                self._append(text.encode("utf-8", "replace") + b"\n", ns)
                self.lines += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it may not reach a trade
            self.failures += 1
            self.last_failure = f"{type(error).__name__}: {redact(str(error))}"

    @property
    def trouble(self) -> str:
        """Return what was lost of it and why, "" if nothing was."""
        if not self.failures:
            return ""
        lost = f"{self.failures} line{'s' * (self.failures > 1)} lost"
        return f"expected to write all to {self.path}, got {self.last_failure}: {lost}"

    def _append(self, line: bytes, ns: int) -> None:
        if self._lost != self.failures:
            lost = {"ns": ns, "event": "lost", "lines": self.failures - self._lost}
            line = (
                b"\n" * self._torn + json.dumps(lost, separators=(",", ":")).encode() + b"\n" + line
            )
        written = os.write(self._file, line)
        if written < len(line):
            self._torn = True
            raise OSError(f"expected {len(line)} bytes to be written, got {written}")
        self._lost, self._torn = self.failures, False

    def answered(
        self, method: str, path: str, status: int, body: str, headers: Mapping[str, str]
    ) -> None:
        """Write down a REST answer; its text only if it is a refusal. Fits `Rest.on_answer`."""
        reported = {name: text for name, text in headers.items() if name.lower() in _LIMIT_HEADERS}
        if status >= 400:
            reported["body"] = body
        self.write(
            "rest", method=method, path=path, status=status, size=len(body), content=reported
        )

    def passed(self, frame: Frame) -> None:
        """Write down a link's requests, answers, opening, gaps and closing; not what it carried.

        And each act. What passed between us and a node is written where it is signed.
        """
        if frame.kind == "http" and frame.link != "node":
            self.answered("GET", frame.channel, frame.status, frame.text, {})
        elif frame.kind in ("open", "sent", "gap", "close") and frame.link != "node":
            parts = {"code": frame.status, "text": frame.text, "lost": frame.lost}
            reported = {name: value for name, value in parts.items() if value}
            self.write(
                f"socket {frame.kind}",
                at=frame.at,
                link=frame.link,
                seq=frame.seq,
                content=reported,
            )
        elif frame.kind == "act":
            act = {"who": frame.link, "what": frame.type, "why": frame.text}
            self.write("act", at=frame.at, seq=frame.seq, **act)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_LIMIT_HEADERS: Final = ("ratelimit-remaining", "ratelimit-reset", "retry-after")


def _jsonable(value: Any, depth: int = 6) -> Any:
    """Turn anything into what JSON has, redacted; what it is not made for, into its text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth and isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if depth and isinstance(value, Mapping):
        pairs = ((str(name), inner) for name, inner in value.items())
        return {redact(name): _field(name, inner, depth - 1) for name, inner in pairs}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(inner, depth - 1) for inner in value]
    whole = str(value)
    text = redact(whole[: 10 * _LONGEST])  # megabytes are no reason to wait
    return text if len(whole) <= _LONGEST else f"{text[:_LONGEST]}… ({len(whole)})"


def _field(name: str, value: Any, depth: int) -> Any:
    if _NAME.fullmatch(name):
        return _GONE
    is_hash = _HASH.fullmatch(f"{name}:") and _DIGITS.fullmatch(str(value))
    return value if is_hash else _jsonable(value, depth)


# === Chain state ===
# What a node reports of the chain: its newest block, accounts and markets at one height. Values
# alone.


@dataclass(frozen=True, slots=True)
class ChainTip:
    """A node's newest block: whose it is, its height, its time and when it came, in ns."""

    chain_id: str
    height: int
    time_ns: int
    at: int


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """A perpetual position as the chain holds it: signed quantums of 10 ** `atomic_resolution`.

    `funding_index` is where its funding was settled last, `index_now` where its market's stands.
    `chosen_imf_ppm` is the initial margin of a leverage that the owner chose, 0 for none.
    """

    ticker: str
    quantums: int
    atomic_resolution: int
    funding_index: int
    index_now: int
    chosen_imf_ppm: int = 0

    @property
    def size(self) -> Decimal:
        """Return the size in base units, negative for a short."""
        return Decimal(self.quantums).scaleb(self.atomic_resolution)


@dataclass(frozen=True, slots=True)
class ChainAccount:
    """A subaccount as the chain holds it at a height, its funding not settled.

    `collateral` is USDC in quote quantums, negative if owed.
    """

    height: int
    collateral: int
    positions: tuple[ChainPosition, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainMarket:
    """A perpetual as the chain has it: what a margin and a settlement of funding need.

    The oracle price is `price` at the power of ten `exponent`, None where the chain has none;
    `open_interest` in base quantums, `funding_index` in ppm quote quantums per base quantum.
    """

    market: PerpetualMarket
    price: int | None
    exponent: int
    open_interest: int
    funding_index: int


@dataclass(frozen=True, slots=True)
class ChainState:
    """Some subaccounts and the markets that they hold, by ticker, at one height of the chain.

    `whole` is False where blocks came between the answers of a node that cannot be queried for
    one height: then it is as of `height` or a little later. `time_ns` is that block's time.
    """

    chain_id: str
    height: int
    time_ns: int
    accounts: Mapping[Subaccount, ChainAccount]
    markets: Mapping[str, ChainMarket]
    whole: bool = True


# === Chain messages ===
# What is signed is written here, and what the official client cannot read is read.

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
        conditional_order_trigger_subticks=order.trigger_subticks, **_identity(order, subaccount),
    )  # fmt: skip
    message.MergeFromString(_recent_fields(order))
    return place_order(message)


def cancel_message(request: CancelRequest, subaccount: Subaccount) -> Any:
    """Write the chain's MsgCancelOrder."""
    from dydx_v4_client.node.message import cancel_order

    return cancel_order(**_identity(request, subaccount))


def batch_cancel_message(batch: BatchCancel, subaccount: Subaccount) -> Any:
    """Write the chain's MsgBatchCancel."""
    from dydx_v4_client.node.message import batch_cancel
    from dydx_v4_client.node.message import subaccount as subaccount_id
    from v4_proto.dydxprotocol.clob.tx_pb2 import OrderBatch

    batches: dict[int, Any] = {}
    for request in batch.cancels:
        group = batches.setdefault(
            request.clob_pair_id, OrderBatch(clob_pair_id=request.clob_pair_id)
        )
        group.client_ids.append(request.client_id)
    owner = subaccount_id(subaccount.owner, subaccount.number)
    return batch_cancel(owner, list(batches.values()), batch.cancels[0].good_til_block)


def _identity(order: OrderRequest | CancelRequest, subaccount: Subaccount) -> dict[str, Any]:
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
    # Seven bits a byte, the lowest first, the eighth is set if there is more.
    rest, low = divmod(value, 128)
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _integer(packed: bytes) -> int:
    """Read an integer as the chain packs it: 2, or 3 if it is negative, and its bytes.

    Source: protocol/dtypes/serializable_int.go, which is Go's own encoding of a big integer.

    >>> _integer(b""), _integer(bytes([2, 1, 0])), _integer(bytes([3, 1, 0]))
    (0, 256, -256)
    """
    size = int.from_bytes(packed[1:])
    return -size if packed[:1] == b"\3" else size


def _fields(packed: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Read the fields of a message whose shape the official client does not have.

    >>> [*_fields(bytes([8, 7, 16, 200, 1]))]
    [(1, 7), (2, 200)]
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while at < len(packed):
            byte, at = packed[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return value

    while at < len(packed):
        tag, value = varint(), varint()
        if tag & 7 == 2:  # a length, and so many bytes
            yield tag >> 3, packed[at : at + value]
            at += value
        else:
            yield tag >> 3, value


# === Node channel ===
# One gRPC channel to a node, on the caller's thread: each call has a deadline, none is made twice.


class _Channel:
    """A gRPC channel: every call has a deadline, and none is made twice.

    The official client calls nothing of a channel but `unary_unary`.
    """

    def __init__(self, node: str, deadline_s: float) -> None:
        import grpc

        address = node.rpartition("//")[2]
        # gRPC may send again what it believes lost: an order must not be.
        options = [("grpc.enable_retries", 0)]
        self._deadline_s = deadline_s
        # At which height the chain is queried, 0 for its newest; and of which it answered.
        self.height, self.heights = 0, set[str]()
        # Plain text is for a node on this machine; certificates are verified everywhere else.
        self._channel = (
            grpc.insecure_channel(address, options)
            if is_loopback(address)
            else grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        )

    def unary_unary(self, *path: Any, **shapes: Any) -> Callable[[Any], Any]:
        call = self._channel.unary_unary(*path, **shapes)
        if self.height:
            return partial(self._at_height, call)
        return partial(call, timeout=self._deadline_s)

    def unary_stream(self, *path: Any, **shapes: Any) -> Any:
        # A stub of the order books makes one, which nothing calls.
        return self._channel.unary_stream(*path, **shapes)

    def _at_height(self, call: Any, request: Any) -> Any:
        chosen = ((_HEIGHT, str(self.height)),)
        answer, about = call.with_call(request, timeout=self._deadline_s, metadata=chosen)
        # A node that knows no heights answers of its newest block, and does not report which.
        self.heights.add(str(dict(about.initial_metadata()).get(_HEIGHT, "")))
        return answer

    def close(self) -> None:
        self._channel.close()


_HEIGHT: Final = "x-cosmos-block-height"  # cosmos-sdk types/grpc: of a query, and of its answer


def _called(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call of the official client does: it is a coroutine, and waits in gRPC alone.

    An event loop for it would want three descriptors a call: without one left no order went out.
    """
    try:
        call.send(None)
    except StopIteration as returned:
        return returned.value
    call.close()
    raise RuntimeError("expected a call that does not suspend, got one that does")


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    # As it is imported, the client warns of an address in its own configuration.
    logger = logging.getLogger("dydx_v4_client.network")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


_CAUSE: Final = 400  # characters of a node's log; where it failed inside, its stack follows


def _cause(log: str) -> str:
    """Return what a log reports, without the stack of a node that failed inside."""
    first = re.split(r"\\n|\n|\bstack:", log.strip(), maxsplit=1)[0].rstrip()
    cause = first[:_CAUSE].rstrip()
    return cause if len(cause) == len(log.strip()) else f"{cause} … ({len(log)})"


def _why(error: Any) -> str:
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    return f"{error.code().name}: {str(error.details()).rpartition('last error: ')[2]}"


# The official client's own `order` writes its number over the client metadata, and its `Market`
# counts in floats: the message is written here, from integers.


# === Node ===
# A node's answers, and what is sent to it through the official client. It is signed for one chain:
# the node must be of that one.


def chain_tip(network: Network, *, deadline_s: float = 5.0) -> ChainTip:
    """Query the network's node for its newest block; `NetworkError` if none comes in time."""
    return _answer(network, deadline_s, "a block", lambda node: node.latest_block())


def chain_account(
    network: Network, subaccount: Subaccount, *, deadline_s: float = 5.0
) -> ChainAccount:
    """Query the network's node for a subaccount, an empty one where none was funded.

    It takes some queries, a position one, each of up to `deadline_s`; `NetworkError` if one fails.
    Source: x/subaccounts and x/perpetuals, their queries.
    """
    return _answer(network, deadline_s, str(subaccount), lambda node: node.subaccount(subaccount))


def chain_state(
    network: Network, subaccounts: Iterable[Subaccount], *, deadline_s: float = 5.0
) -> ChainState:
    """Query the network's node for subaccounts and the markets that they hold, at one height.

    An empty account is one that was never funded. It takes two queries an account and three a
    market, each of up to `deadline_s`; `NetworkError` if one fails. No key: anybody may query.
    Source: x/subaccounts, x/perpetuals, x/prices and x/clob, their queries.
    """
    wanted = tuple(dict.fromkeys(subaccounts))
    what = ", ".join(map(str, wanted[:2])) + " …" * (len(wanted) > 2)
    return _answer(network, deadline_s, what, lambda node: node.state(wanted))


def _answer(network: Network, deadline_s: float, what: str, query: "Callable[[_Node], _A]") -> _A:
    import grpc

    with contextlib.closing(_Node(network, deadline_s)) as node:
        try:
            return query(node)
        except grpc.RpcError as error:
            problem = _why(error)
    where = " or ".join(network.nodes)
    raise NetworkError(f"expected {what} of the node {where}, got {problem}")


_BLOCKS_TRIED: Final = 5
_PINNED: Final = 2  # tries at a named height, before the newest is taken as it comes
_MOST_PAIRS: Final = 10_000
_ISOLATED: Final = 2  # of perpetual.proto's PerpetualMarketType


class _Node:
    """A node, called on the caller's thread; what goes wrong is a `grpc.RpcError`.

    Where it gives no block, the first other one that does is used from then on, if it is of the
    same chain and not behind. Nothing that was sent is sent again.
    """

    def __init__(self, network: Network, deadline_s: float) -> None:
        self._network, self._deadline_s, self._height = network, deadline_s, 0
        self._channels: dict[str, tuple[_Channel, Any]] = {}
        self.address = network.node

    @property
    def _client(self) -> Any:
        return self._client_of(self.address)

    def _client_of(self, address: str) -> Any:
        with _unwarned():
            from dydx_v4_client.node.builder import Builder
            from dydx_v4_client.node.client import NodeClient

        if address not in self._channels:
            channel = _Channel(address, self._deadline_s)
            builder = Builder(self._network.chain_id, self._network.usdc_denom, memo="")
            # Its own count of sequences would query the account before each order.
            client = NodeClient(channel, builder, manage_sequence=False)
            self._channels[address] = channel, client
        return self._channels[address][1]

    def latest_block(self) -> ChainTip:
        """Return the newest block, of another node if this one does not give it."""
        import grpc

        try:
            tip = self._tip_of(self.address)
        except grpc.RpcError:
            others = (self._other(each) for each in self._network.nodes if each != self.address)
            found = next(filter(None, others), None)
            if found is None:
                raise
            self.address, tip = found
        self._height = max(self._height, tip.height)
        return tip

    def _other(self, address: str) -> tuple[str, ChainTip] | None:
        import grpc

        with contextlib.suppress(grpc.RpcError):
            tip = self._tip_of(address)
            if tip.chain_id == self._network.chain_id and tip.height >= self._height:
                return address, tip
        return None

    def _tip_of(self, address: str) -> ChainTip:
        header = _called(self._client_of(address).latest_block()).block.header
        return ChainTip(header.chain_id, header.height, header.time.ToNanoseconds(), time.time_ns())

    def subaccount(self, subaccount: Subaccount) -> ChainAccount:
        """Return a subaccount at one height, or at that height or later if blocks come too fast."""
        for _ in range(_BLOCKS_TRIED):
            height, found = self.latest_block().height, self._subaccount(subaccount)
            if self.latest_block().height == height:
                break
        return replace(found, height=height)

    def _subaccount(self, subaccount: Subaccount) -> ChainAccount:
        collateral, rows = self._held(subaccount)
        return ChainAccount(0, collateral, tuple(map(self._position, rows)))

    def _held(self, subaccount: Subaccount) -> tuple[int, Sequence[Any]]:
        found = _called(self._client.get_subaccount(subaccount.owner, subaccount.number))
        rows = found.perpetual_positions
        usdc = [_integer(row.quantums) for row in found.asset_positions if row.asset_id == 0]
        balances = [_integer(row.quote_balance) for row in rows]
        return sum(usdc + balances), rows  # integers

    def _position(self, row: Any) -> ChainPosition:
        market = _called(self._client.get_perpetual(row.perpetual_id)).perpetual
        return ChainPosition(
            market.params.ticker, _integer(row.quantums), market.params.atomic_resolution,
            _integer(row.funding_index), _integer(market.funding_index),
        )  # fmt: skip

    def state(self, subaccounts: Sequence[Subaccount]) -> ChainState:
        """Return subaccounts with their markets at one height, or nearly so if blocks come fast."""
        import grpc

        for attempt in range(_BLOCKS_TRIED):
            tip = self.latest_block()
            channel, _ = self._channels[self.address]
            # One of several behind an address may not have come to that height yet, and some refuse
            # whoever names one: they are queried for their newest alone.
            channel.height, channel.heights = (tip.height if attempt < _PINNED else 0), set()
            try:
                found = self._state(subaccounts, tip)
            except grpc.RpcError:
                if attempt >= _PINNED:
                    raise
                continue
            finally:
                channel.height = 0
            if channel.heights == {str(tip.height)} or self.latest_block().height == tip.height:
                return found
        return replace(found, whole=False)

    def _state(self, subaccounts: Sequence[Subaccount], tip: ChainTip) -> ChainState:
        rows = {whose: self._held(whose) for whose in subaccounts}
        ids = {row.perpetual_id for _, held in rows.values() for row in held}
        tiers = {row.id: row for row in self._tiers()} if ids else {}
        markets = {id_: self._market(id_, tiers) for id_ in sorted(ids)}
        accounts = {
            whose: ChainAccount(tip.height, usdc, tuple(
                ChainPosition(
                    markets[row.perpetual_id].market.ticker, _integer(row.quantums),
                    markets[row.perpetual_id].market.atomic_resolution,
                    _integer(row.funding_index), markets[row.perpetual_id].funding_index,
                )
                for row in held
            ))
            for whose, (usdc, held) in rows.items()
        }  # fmt: skip
        for whose, account in accounts.items():
            if account.positions:
                accounts[whose] = replace(account, positions=self._chosen(whose, account, markets))
        by_ticker = {row.market.ticker: row for row in markets.values()}
        return ChainState(tip.chain_id, tip.height, tip.time_ns, accounts, by_ticker)

    def _chosen(
        self, whose: Subaccount, account: ChainAccount, markets: Mapping[int, ChainMarket]
    ) -> tuple[ChainPosition, ...]:
        import grpc

        # The official client has no message for it: a string and a number there, pairs of numbers
        # back. Older software knows no chosen leverage.
        request = _embedded(1, whose.owner.encode()) + b"\x10" + _varint(whose.number)
        query = self._client.channel.unary_unary("/dydxprotocol.clob.Query/Leverage")
        found: bytes = b""
        try:
            found = query(request)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
        rows = [dict(_fields(row)) for _, row in _fields(found) if isinstance(row, bytes)]
        by_pair = {row.get(1, 0): row.get(2, 0) for row in rows}
        pairs = {row.market.ticker: row.market.clob_pair_id for row in markets.values()}
        return tuple(
            replace(held, chosen_imf_ppm=int(by_pair.get(pairs[held.ticker], 0)))
            for held in account.positions
        )

    def _tiers(self) -> Iterable[Any]:
        from v4_proto.dydxprotocol.perpetuals import query_pb2, query_pb2_grpc

        # The official client has no call for it.
        stub = query_pb2_grpc.QueryStub(self._client.channel)
        return [*stub.AllLiquidityTiers(query_pb2.QueryAllLiquidityTiersRequest()).liquidity_tiers]

    def _market(self, perpetual_id: int, tiers: Mapping[int, Any]) -> ChainMarket:
        found = _called(self._client.get_perpetual(perpetual_id)).perpetual
        price = _called(self._client.get_price(found.params.market_id))
        pair = self._pair(perpetual_id)
        tier = tiers[found.params.liquidity_tier]
        market = PerpetualMarket(
            ticker=found.params.ticker, perpetual_id=perpetual_id, clob_pair_id=pair.id,
            atomic_resolution=found.params.atomic_resolution,
            quantum_conversion_exponent=pair.quantum_conversion_exponent,
            step_base_quantums=pair.step_base_quantums,
            subticks_per_tick=pair.subticks_per_tick,
            imf_ppm=tier.initial_margin_ppm,
            maintenance_fraction_ppm=tier.maintenance_fraction_ppm,
            open_interest_lower_cap=tier.open_interest_lower_cap,
            open_interest_upper_cap=tier.open_interest_upper_cap,
            market_type="ISOLATED" if found.params.market_type == _ISOLATED else "CROSS",
        )  # fmt: skip
        return ChainMarket(
            market, price.price or None, price.exponent, _integer(found.open_interest),
            _integer(found.funding_index),
        )  # fmt: skip

    def _pair(self, perpetual_id: int) -> Any:
        import grpc

        # Both are numbered alike by habit, not by rule.
        try:
            pairs = [_called(self._client.get_clob_pair(perpetual_id))]
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            pairs = []
        for pair in itertools.chain(pairs, self._pairs()):
            if pair.perpetual_clob_metadata.perpetual_id == perpetual_id:
                return pair
        raise NetworkError(
            f"expected a pair of perpetual {perpetual_id} of the node {self.address}, got none"
        )

    def _pairs(self) -> Iterator[Any]:
        from v4_proto.dydxprotocol.clob import query_pb2, query_pb2_grpc

        # The official client's call returns the first hundred.
        stub = query_pb2_grpc.QueryStub(self._client.channel)
        request = query_pb2.QueryAllClobPairRequest(pagination={"limit": _MOST_PAIRS})
        yield from stub.ClobPairAll(request).clob_pair

    def account(self, address: str) -> tuple[int, int]:
        """Return an account's number and the sequence of its next transaction."""
        found = _called(self._client.get_account(address))
        return found.account_number, found.sequence

    def broadcast(
        self, wallet: Any, message: Any, authenticators: Sequence[int]
    ) -> tuple[TxResult, str]:
        """Sign and send; return the verdict of the node's mempool, and the hash."""
        from dydx_v4_client.node.builder import TxOptions

        chosen = TxOptions(list(authenticators), wallet.sequence, wallet.account_number)
        options = chosen if authenticators else None
        signed = self._client.builder.build(wallet, message, tx_options=options)
        answer = _called(self._client.broadcast(signed)).tx_response
        result = TxResult(code=answer.code, codespace=answer.codespace, log=_cause(answer.raw_log))
        return result, answer.txhash

    def close(self) -> None:
        for channel, _ in self._channels.values():
            channel.close()


# === Sending ===
# What one transaction needs on its way to a node: the chain's clock, the account's sequence, the
# frames that report it. Used from many threads; each value guards what is shared in it.

_Single = OrderRequest | CancelRequest | BatchCancel
_Request = _Single | Replace


class _Job(msgspec.Struct, frozen=True):
    """A transaction to be sent; `then` is another one, once this one is taken."""

    what: str
    ids: tuple[str, ...]
    subaccount: Subaccount
    request: _Single
    message: Any
    size: Decimal
    short: bool
    until: int
    height: int  # of the chain, when that was chosen
    then: "_Job | None" = None

    @property
    def about(self) -> tuple[str, ...]:
        return self.ids + (self.then.about if self.then else ())

    def later(self, height: int) -> "_Job":
        """Return a short-term one as it is at another height: its end is as far ahead."""
        until = self.until + max(height - self.height, 0)
        request = _ending(self.request, until)
        _, write = _MESSAGES[type(request)]
        message = write(request, self.subaccount)
        return msgspec.structs.replace(
            self, request=request, message=message, until=until, height=height
        )


def _ending(request: _Single, until: int) -> _Single:
    """Return a short-term request with another last block."""
    if isinstance(request, BatchCancel):
        parts = (msgspec.structs.replace(part, good_til_block=until) for part in request.cancels)
        return BatchCancel(cancels=tuple(parts))
    return msgspec.structs.replace(request, good_til_block=until)


_MESSAGES: Final[Mapping[type, tuple[str, Callable[[Any, Subaccount], Any]]]] = {
    OrderRequest: ("place", place_message),
    CancelRequest: ("cancel", cancel_message),
    BatchCancel: ("batch_cancel", batch_cancel_message),
}


class _Log:
    """Reports what is sent and answered: to the inbox, as frames of the node, and to the audit."""

    def __init__(self, inbox: Inbox, audit: AuditLog | None) -> None:
        self._inbox, self._audit = inbox, audit

    def put(self, kind: str, content: Any, type: str, channel: str, id: str = "") -> None:
        self._inbox.put(kind, msgspec.json.encode(content).decode(), type, channel, id, link="node")
        self.write("sent" if kind == "sent" else channel, content=content)

    def write(self, event: str, **fields: Any) -> None:
        if self._audit is not None:
            self._audit.write(f"node {event}", **fields)


class _Clock:
    """The chain's last block, as node and frames report it: never ahead of the chain.

    The indexer's block is behind the node's, by up to 30: who dates by it dates by `ahead`.
    """

    def __init__(self) -> None:
        self._last = (0, 0, 0)  # its height and time, and when it came
        self._reported = self._behind = 0  # by the indexer, and by how much when the node answered

    def learn(self, height: int, time_ns: int) -> None:
        """Take a block of the node."""
        self._behind = max(height - self._reported, 0) if self._reported else 0
        self._advance(height, time_ns)

    def observe(self, height: int, time_ns: int) -> None:
        """Take a block that the indexer reports."""
        self._reported = max(self._reported, height)
        self._advance(height, time_ns)

    def _advance(self, height: int, time_ns: int) -> None:
        if height > self.height:
            self._last = (height, time_ns, time.monotonic_ns())  # at once: others are reading

    @property
    def height(self) -> int:
        return self._last[0]

    @property
    def ahead(self) -> int:
        """How many blocks the chain is ahead of the indexer; 0 while that reported none."""
        return max(self.height - self._reported, self._behind) if self._reported else 0

    @property
    def now_ns(self) -> int:
        """The block's time, and what passed since; 0 before there is one."""
        height, time_ns, came_ns = self._last
        return time_ns + time.monotonic_ns() - came_ns if height else 0


class _Sequence:
    """The account's number, and which sequence its next transaction has.

    With `nonces` that is the chain's time in milliseconds, or one more than was used last.
    """

    def __init__(self, clock: _Clock, *, nonces: bool) -> None:
        self.number = 0
        self.nonces = nonces
        self._clock = clock
        self._next: int | None = None  # None: query it
        self._nonce, self._guard = 0, threading.Lock()

    def take(self, node: _Node, owner: str) -> int:
        """Return a sequence to send with; a `grpc.RpcError` if the node does not answer."""
        if self.nonces:
            with self._guard:
                self._nonce = max(self._clock.now_ns // 1_000_000, self._nonce + 1)
                return self._nonce
        # Until the answer has come, nobody knows which is the next one.
        known, self._next = self._next, None
        return self.query(node, owner) if known is None else known

    def query(self, node: _Node, owner: str) -> int:
        self.number, sequence = node.account(owner)
        self._next = sequence
        return sequence

    def learn(self, used: int, result: TxResult, node: _Node, owner: str) -> bool:
        """Take the verdict on what a sequence was used for; return whether that was wrong."""
        import grpc

        if self.nonces:
            return result.is_sdk(32)
        if not result.may_be_sequence:
            self._next = used + result.is_taken
            return False
        if result.is_sdk(32) and (expected := _EXPECTED.search(result.log)):
            self._next = int(expected[1])
            return True
        with contextlib.suppress(grpc.RpcError):  # else it is queried before the next is sent
            return self.query(node, owner) != used
        return False


_EXPECTED: Final = re.compile(r"expected (\d+), got \d+")
# With these a gateway reports that the node has not seen it.
_NOT_HANDED_ON: Final = re.compile("INVALID_ARG|PERMISSION_DENIED|UNAUTHENTICATED|UNIMPLEMENTED")


class _Sender:
    """Signs jobs and sends each once; frames report what becomes of it."""

    def __init__(
        self, keys: Keys, owner: str, log: _Log, *, nonces: bool, authenticators: Sequence[int],
        on_later: Callable[[_Job], None],
    ) -> None:  # fmt: skip
        self.clock = _Clock()
        self.sequence = _Sequence(self.clock, nonces=nonces)
        self.stop = threading.Event()
        self.node: _Node
        self._keys, self._owner, self._log = keys, owner, log
        self._authenticators = tuple(authenticators)
        self._on_later = on_later
        self._lost = False  # the last answer did not come

    def open(self, network: Network, deadline_s: float) -> None:
        """Connect, read block and account; `NetworkError` if the node does not give them."""
        import grpc

        self.node, problem = _Node(network, deadline_s), ""
        try:
            chain_id = self._learned(self.node.latest_block())
            if chain_id == network.chain_id:
                self.sequence.query(self.node, self._owner)
            else:
                problem = f"one of {chain_id}"
        except grpc.RpcError as error:
            problem = _why(error)
        if problem:
            self.node.close()
            what = f"expected a node of {network.chain_id} at {network.node}"
            raise NetworkError(f"{what} that gives block and account, got {problem}")

    def refresh(self) -> None:
        """Read the newest block, if the node answers."""
        import grpc

        try:
            self._learned(self.node.latest_block())
        except (grpc.RpcError, OSError) as error:  # OSError: no descriptor is left for the call
            # The height stays a lower bound: orders end sooner, and none is good for too long.
            self._log.write("unanswered", requested="latest_block", why=_why(error))

    def _learned(self, tip: ChainTip) -> str:
        self.clock.learn(tip.height, tip.time_ns)
        at = datetime.fromtimestamp(tip.time_ns / 1e9, UTC).isoformat()
        header = {"height": str(tip.height), "time": at, "chain_id": tip.chain_id}
        self._log.put("http", {"result": {"block": {"header": header}}}, "0", "latest_block")
        return tip.chain_id

    def send(self, job: _Job) -> None:
        """Send a job, and what is to follow it if it is taken."""
        taken = None
        try:
            taken = self._send_short(job) if job.short else self._send_numbered(job)
        finally:
            if job.then is not None and taken is not None and taken.is_taken:
                self.send(job.then)
            elif job.then is not None:
                # Not a second order beside the first, which may still stand.
                self._drop(job.then, "the cancel before it was not taken")

    def _send_short(self, job: _Job) -> TxResult | None:
        """Send without a sequence, and once more with a later end if its last block had passed.

        Between two answers the node may be further on than we know, or have stopped to answer.
        """
        result, again = self._send(job, 0, 1)
        if again:
            self.refresh()
            later = job.later(self.clock.height)
            self._on_later(later)
            result, _ = self._send(later, 0)
        return result

    def _send_numbered(self, job: _Job) -> TxResult | None:
        """Send with a sequence, and again with the right one if it was wrong."""
        import grpc

        for tries in (2, 1, 0):
            try:
                sequence = self.sequence.take(self.node, self._owner)
            except (grpc.RpcError, OSError) as error:
                self._drop(job, f"the account's sequence is not known: {_why(error)}")
                return None
            result, again = self._send(job, sequence, tries)
            if not again:
                break
            if self.sequence.nonces:
                self.refresh()  # our idea of the chain's time was off
        return result

    def _send(self, job: _Job, sequence: int, tries: int = 0) -> tuple[TxResult | None, bool]:
        """Send once; return the verdict, None if no answer came, and whether to send again.

        That is, if its sequence or its end was all that was wrong, and `tries` are left. Without
        an answer its fate is unknown.
        """
        import grpc

        if self.stop.is_set() and self._lost and not (job.short and job.what != "place"):
            self._drop(job, "closed, and the node does not answer")
            return None, False
        wallet = self._keys.wallet(self.sequence.number, sequence)
        content: dict[str, Any] = {"ids": job.ids, "subaccount": str(job.subaccount)}
        content |= {"size": str(job.size), "sequence": sequence, job.what: job.request}
        self._log.put("sent", content, "", job.what, job.ids[0])
        try:
            result, txhash = self.node.broadcast(wallet, job.message, self._authenticators)
        except grpc.RpcError as error:
            if not _NOT_HANDED_ON.match(error.code().name):
                self._answer(job, errors=[{"msg": _why(error)}])
                return None, False
            code = error.code().value[0]
            result, txhash = TxResult(code=code, codespace="grpc", log=_why(error)), ""
        except Exception as error:
            # Not of the network, and yet after the sending may have begun: that is reported too.
            self._answer(job, errors=[{"msg": type(error).__name__}])
            raise
        self._lost, verdict = False, msgspec.to_builtins(result) | {"hash": txhash}
        wrong = (
            result.is_over
            if job.short
            else self.sequence.learn(sequence, result, self.node, self._owner)
        )
        self._answer(job, result=verdict, again=wrong and tries > 0)
        return result, wrong and tries > 0

    def _drop(self, job: _Job, why: str) -> None:
        """Report that what was queued is not sent after all."""
        result = TxResult(code=1, codespace="client", log=f"not sent: {why}")
        self._answer(job, result=msgspec.to_builtins(result))

    def _answer(self, job: _Job, **content: Any) -> None:
        code = content.get("result", {}).get("code", -1)
        about = {"to": job.what, "ids": job.ids, "until": job.until}
        self._log.put("http", about | content, str(code), "broadcast")
        self._lost = self._lost or code < 0


# === Trader ===
# What may go out, and in which turn. It judges before it sends, and never waits.


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A request that will be sent; `ids` are the orders it is about, as frames will name them."""

    ids: tuple[str, ...]


class NotQueued(msgspec.Struct, frozen=True, gc=False):
    """A request that is not sent; `error` is the chain's name for the reason, or empty."""

    reason: str
    error: str = ""


def _refusal_of(
    request: _Single, subaccount: Subaccount, market: PerpetualMarket | None, *,
    status: str, height: int, time: int, window: int,
) -> str:  # fmt: skip
    """Name what the chain would refuse a request for now, or return nothing; as `objection`."""
    if isinstance(request, BatchCancel):
        error = batch_cancel_objection(request.cancels, subaccount=subaccount, height=height)
        return error if request.cancels else "ErrInvalidBatchCancel"
    if isinstance(request, CancelRequest):
        return cancel_objection(request, subaccount=subaccount, height=height, time=time)
    # What a chain has taken for longer than our own window, it lets go for as long.
    if request.order_flags == SHORT_TERM and request.good_til_block > height + 1 + window:
        return "ErrGoodTilBlockExceedsShortBlockWindow"
    if market is None:
        return "ErrInvalidClob"
    given: Any = {"subaccount": subaccount, "height": height, "time": time}
    return objection(request, market, status=status, **given)


def _job(request: _Single, subaccount: Subaccount, size: Decimal, height: int) -> _Job:
    parts = request.cancels if isinstance(request, BatchCancel) else (request,)
    what, write = _MESSAGES[type(request)]
    ids = tuple(order_id(subaccount, part) for part in parts)
    short = parts[0].order_flags == SHORT_TERM
    message = write(request, subaccount)
    until = good_until(parts[0])
    return _Job(what, ids, subaccount, request, message, size, short, until, height)


class _Turns:
    """Work on threads: what concerns one order in turn, else in parallel or, `alone`, one by one.

    Hold `guard` to look and then put: what was looked at is then still so.
    """

    def __init__(self, capacity: int) -> None:
        self.guard = threading.Condition()
        self._open, self._waiting, self._capacity = False, 0, capacity
        self._latest: dict[str, Future[None]] = {}  # by order, the last of its work on its way

    def open(self) -> None:
        self._pool, self._line = ThreadPoolExecutor(8, "node"), ThreadPoolExecutor(1, "turn")
        self._open = True

    def room(self) -> None:
        """Raise `ConnError` if nothing can be put."""
        if not self._open:
            raise ConnError("expected a running trader, got one not started or closed")
        if self._waiting >= self._capacity:
            raise ConnError(f"expected at most {self._capacity} requests in flight, got one more")

    def put(self, ids: tuple[str, ...], work: Callable[[], None], *, alone: bool) -> None:
        """Have work done after all that was put before about one of these orders."""
        self._waiting += 1
        before = [self._latest[id] for id in ids if id in self._latest]
        done: Future[None] = Future()
        self._latest |= dict.fromkeys(ids, done)
        threads = self._line if alone else self._pool
        self._after(before, partial(threads.submit, self._do, ids, work, done))

    def close(self) -> bool:
        """Take nothing more; return whether it was open. What was put is still done."""
        with self.guard:
            was_open, self._open = self._open, False
        return was_open

    def end(self) -> None:
        """Wait until all is done, then end the threads."""
        with self.guard:
            self.guard.wait_for(lambda: not self._waiting)
        self._line.shutdown()
        self._pool.shutdown()

    def _after(self, before: "list[Future[None]]", begin: Callable[[], object]) -> None:
        # Until those before it are done, it holds no thread.
        for earlier in before:
            if not earlier.done():
                earlier.add_done_callback(lambda _: self._after(before, begin))
                return
        begin()

    def _do(self, ids: tuple[str, ...], work: Callable[[], None], done: "Future[None]") -> None:
        try:
            work()
        finally:
            with self.guard:
                for id in ids:
                    if self._latest.get(id) is done:
                        del self._latest[id]
            done.set_result(None)
            with self.guard:
                self._waiting -= 1
                self.guard.notify_all()


class Trader:
    """Signs and sends orders for the subaccounts of one owner, each once, on threads of its own.

    `submit` never waits. What is sent and what is answered goes into the `inbox` as frames of
    the link "node" and into the audit log, without signature or transaction bytes. Short-term
    orders go in parallel and need no sequence; the others one after the other with the exact
    one, or, with `nonces`, in parallel with the chain's time in its place. Requests about one order
    go out in turn: a cancel never overtakes it. A key that is not the owner's needs the
    `authenticators` that the owner gave it.

    `markets` is read at each `submit` and may grow; `statuses` names those that are not ACTIVE.
    A short-term request is dated by the indexer's height, which `observe` learns, and sent as if
    by the node's; one that is refused since its last block has passed is sent once more.
    """

    def __init__(
        self, network: Network, keys: Keys, subaccount: Subaccount, inbox: Inbox,
        audit: AuditLog | None = None, *, markets: Mapping[str, PerpetualMarket],
        statuses: Mapping[str, str] | None = None, authenticators: Sequence[int] = (),
        nonces: bool = False, window: int = WINDOW, capacity: int = 256,
        deadline_s: float = 5.0, refresh_s: float = 2.0,
    ) -> None:  # fmt: skip
        if keys.address != subaccount.owner and not authenticators:
            what = f"expected the key of {subaccount.owner} or authenticators, got"
            raise ConnError(f"{what} the key of {keys.address}")
        self.network, self.subaccount = network, subaccount
        self._markets, self._statuses, self._window = markets, statuses or {}, window
        self._deadline_s, self._refresh_s = deadline_s, refresh_s
        self._log = log = _Log(inbox, audit)
        self._sender = _Sender(
            keys, subaccount.owner, log, nonces=nonces, authenticators=authenticators,
            on_later=self._moved,
        )  # fmt: skip
        self._turns = _Turns(capacity)
        # What was handed over: until which block it was to be, and is.
        self._handed: dict[str, tuple[int, int]] = {}
        self._watch = threading.Thread(target=self._keep_time, name="block-clock", daemon=True)

    # --- the chain's clock

    @property
    def height(self) -> int:
        """Return the last block's height as far as node and frames have reported; a lower bound."""
        return self._sender.clock.height

    @property
    def time(self) -> int:
        """Return the chain's time in unix seconds: the last block's, and what passed since."""
        return self._sender.clock.now_ns // 1_000_000_000

    def good_til_block(self, blocks: int = 10) -> int:
        """Return the block that is so many ahead, within the window."""
        return self.height + min(blocks, self._window)

    def good_til_block_time(self, seconds: int = STATEFUL_WINDOW_S) -> int:
        """Return the chain's time in so many seconds: this machine's clock may be wrong."""
        return self.time + seconds

    def observe(self, frame: Frame) -> None:
        """Learn a later height from the indexer's frames; others change nothing."""
        if frame.kind == "ws" and frame.channel == "v4_block_height":
            with contextlib.suppress(ConnError, ValueError):
                for block in contents(frame):
                    self._sender.clock.observe(*block.block)

    def _keep_time(self) -> None:
        while not self._sender.stop.wait(self._refresh_s):
            self._sender.refresh()

    # --- life

    def start(self) -> None:
        """Connect and learn block and account; `NetworkError` if the node does not give them.

        Also if it is a node of another chain: nothing is signed for that.
        """
        self._sender.open(self.network, self._deadline_s)
        self._watch.start()
        self._turns.open()

    def close(self) -> None:
        """Take nothing more, send what is queued, and end; a second call does nothing.

        Once the node has left a call without an answer, what is still queued is not sent, but for
        cancels of short-term orders.
        """
        if self._turns.close():
            self._sender.stop.set()
            self._turns.end()
            self._watch.join()
            self._sender.node.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- requests

    def submit(self, request: _Request, number: int | None = None) -> Queued | NotQueued:
        """Hand over a request, for another subaccount `number` of the owner if given; never waits.

        Queued means that it will be sent once, and that frames will report the rest.
        """
        own = self.subaccount
        try:
            with self._turns.guard:
                self._turns.room()
                job = self._judged(
                    request, own if number is None else Subaccount(own.owner, number)
                )
                alone = not (job.short or self._sender.sequence.nonces)
                self._turns.put(job.about, partial(self._sender.send, job), alone=alone)
        except (ConnError, ValueError, TypeError) as problem:
            denied = NotQueued(str(problem), getattr(problem, "error", ""))
            self._log.write("denied", request=request, reason=denied.reason)
            return denied
        return Queued(job.ids)

    def _judged(self, request: _Request, subaccount: Subaccount) -> _Job:
        if isinstance(request, Replace):
            first = self._judged(request.cancel, subaccount)
            return msgspec.structs.replace(first, then=self._judged(request.order, subaccount))
        wanted = request if isinstance(request, OrderRequest) else None
        request = self._dated(request, subaccount)
        order = request if isinstance(request, OrderRequest) else None
        market = self._markets.get(order.ticker) if order else None
        status = self._statuses.get(order.ticker, "ACTIVE") if order else "ACTIVE"
        refuse(_refusal_of(
            request, subaccount, market, status=status,
            height=self.height, time=self.time, window=self._window,
        ))  # fmt: skip
        job = _job(
            request,
            subaccount,
            market.size(order.quantums) if order and market else Decimal(0),
            self.height,
        )
        if order is not None and wanted is not None:
            self._once(job.ids[0], wanted, order.good_til_block)
        return job

    def _dated(self, request: _Single, subaccount: Subaccount) -> _Single:
        """Return a short-term request as one that counts from the chain's block.

        It was dated by the indexer's, which is behind; and no cancel ends before its order.
        """
        parts = request.cancels if isinstance(request, BatchCancel) else (request,)
        ends = {part.good_til_block for part in parts if part.order_flags == SHORT_TERM}
        if len(ends) != 1:
            return request  # it has a time, or is refused
        [until] = ends
        until = max(until, min(until + self._sender.clock.ahead, self.height + self._window))
        if not isinstance(request, OrderRequest):
            handed = (self._handed.get(order_id(subaccount, part)) for part in parts)
            until = max(until, *(sent for _, sent in filter(None, handed)), 0)
        return _ending(request, until)

    def _once(self, id: str, order: OrderRequest, until: int) -> None:
        """Refuse what was handed over before; a greater block makes it a replacement."""
        if id in self._handed and order.order_flags != SHORT_TERM:
            raise OrderDenied("ErrStatefulOrderAlreadyExists")
        if order.good_til_block <= self._handed.get(id, (-1, 0))[0]:
            raise OrderDenied("ErrInvalidReplacement")
        self._handed[id] = order.good_til_block, until
        if len(self._handed) > _HANDED:
            del self._handed[next(iter(self._handed))]

    def _moved(self, job: _Job) -> None:
        # No cancel ends before its order.
        with self._turns.guard:
            for id in job.ids if job.what == "place" else ():
                if id in self._handed:
                    self._handed[id] = self._handed[id][0], job.until


_HANDED: Final = 65_536  # orders that are remembered; the oldest is forgotten
