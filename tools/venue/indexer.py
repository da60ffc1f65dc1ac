"""The indexer's two faces: REST under /v4 and the WebSocket at /v4/ws.

    Exchange ──► SocketHub ──► ClientConnection (message_id, 250 ms batches, limits) ──► socket
             └─► routes ──► REST answers, errors and rate-limit headers as documented

`SocketHub` is the exchange's sink: it writes contents once and sends it to whoever subscribed.
`application` is the Starlette app with both faces; it serves any number of ports.

Wire facts held to: `message_id` counts per connection over all channels; a snapshot carries the
id of its request; errors reuse the current id; a batch is an array, oldest first; the JSON ping
gets no answer; sizes in book updates are absolute.
"""

import asyncio
import contextlib
import math
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import uvicorn
from accounts import OPEN_STATES, is_address
from disturbances import BLOCKED, wrong_answer
from dydx_conn import TWAP, Subaccount, event_id, subaccount_id
from dydx_paper import (
    FundingRecord,
    Ledger,
    OrderRecord,
    PnlPoint,
    asset_fields,
    fill_fields,
    order_fields,
    parent_of,
    position_fields,
    subaccount_fields,
    transaction_hash,
    transfer_fields,
)
from dydx_paper import snapshot as account_snapshot
from exchange import VERSIONS, Exchange
from replicas import Books, Indexed
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tape import RESOLUTIONS, Json, MarketTape, decimal_text, from_iso, iso
from tls import Papers

encode: Final = msgspec.json.Encoder().encode

# === Hub ===

BATCH_MS: Final = 250
# The real server fetches each snapshot from REST, and only then begins to listen on its behalf.
# Some answers take longer than others, so that they come in no order.
FETCH_S: Final = 0.02
_LIMITS: Final = {
    "v4_markets": 32,
    "v4_orderbook": 32,
    "v4_trades": 32,
    "v4_candles": 32,
    "v4_subaccounts": 256,
    "v4_parent_subaccounts": 256,
    "v4_block_height": 1,
}
# These channels have no id of their own: everybody subscribes to the same thing.
_GLOBAL: Final = frozenset(["v4_markets", "v4_block_height"])


class SocketHub:
    """Who listens to what; `silence_s` apart in the mean a subscription falls silent."""

    def __init__(self, seed: int, silence_s: float = 0.0) -> None:
        self.connections: set[ClientConnection] = set()
        self.listeners: dict[tuple[str, str], dict[ClientConnection, bool]] = {}
        self.messages = 0
        # When each message of a connection was handed to its socket (monotonic ns), if wanted.
        self.stamps: dict[str, list[int]] | None = None
        self._silence_s, self._next_silence_ns = silence_s, 0
        self._chance = Random(f"{seed} silence")
        self._seed = seed
        self._count = 0

    def wanted(self, channel: str, id: str) -> bool:
        """Return whether anybody subscribed."""
        return (channel, id) in self.listeners

    def publish(self, channel: str, id: str, contents: Json, subaccount: int | None = None) -> None:
        """Hand contents to all who subscribed: now, or with their next batch.

        `subaccount` is the child's number on the channel of a parent subaccount.
        """
        listeners = self.listeners.get((channel, id))
        if not listeners:
            return
        text = encode(contents).decode()
        for connection, batched in listeners.items():
            if batched:
                connection.batches.setdefault((channel, id, subaccount), []).append(text)
            else:
                connection.data("channel_data", (channel, id, subaccount), text)

    def flush(self) -> None:
        """Send what batched subscribers have waiting."""
        for connection in self.connections:
            connection.flush()

    def silence(self, now_ns: int) -> None:
        """Let a subscription die on a living socket if it is time: a new one brings it back."""
        if not self._silence_s or now_ns < self._next_silence_ns:
            return
        if self._next_silence_ns and self.listeners:
            channel, id = self._chance.choice(list(self.listeners))
            listeners = self.listeners[channel, id]
            self.unsubscribe(self._chance.choice(list(listeners)), channel, id)
        wait_s = self._chance.expovariate(1 / self._silence_s)
        self._next_silence_ns = now_ns + int(wait_s * 1e9)

    def write_stamps(self, path: Path) -> None:
        """Write when each message was sent: connection id to monotonic nanoseconds, in order."""
        path.write_bytes(encode(self.stamps))

    def new_id(self) -> str:
        """Return the next connection id."""
        self._count += 1
        chance = Random(f"{self._seed} connection {self._count}")
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    def subscribe(
        self, connection: "ClientConnection", channel: str, id: str, batched: bool
    ) -> None:
        """Register a listener."""
        self.listeners.setdefault((channel, id), {})[connection] = batched

    def unsubscribe(self, connection: "ClientConnection", channel: str, id: str) -> None:
        """Forget a listener."""
        listeners = self.listeners.get((channel, id), {})
        listeners.pop(connection, None)
        if not listeners:
            self.listeners.pop((channel, id), None)
        for key in [key for key in connection.batches if key[:2] == (channel, id)]:
            del connection.batches[key]


# === Connection ===

Feed = tuple[str, str, int | None]
"""A channel, its id, and on a parent's channel the child's number."""

Query = Callable[[str, str], Json]
"""Fetch a channel's snapshot; `ValueError` if there is no such id, `LookupError` with why not."""


class Closing(Exception):  # noqa: N818  # an end, not a failure
    """The server ends the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ClientConnection:
    """One socket: its subscriptions, its message counter and its limits."""

    # What a client that does not read may owe before it is cut off.
    MOST_WAITING: Final = 50_000

    def __init__(self, hub: SocketHub, snapshot: Query, now: Callable[[], float]) -> None:
        self.id = hub.new_id()
        self.message_id = 0
        self.batches: dict[Feed, list[str]] = {}
        self.subscriptions: dict[str, set[str]] = {}
        # Subscriptions whose snapshot is being fetched, by the id of their message.
        self.waiting: dict[int, tuple[str, str, bool]] = {}
        self.out: deque[str] = deque()
        self.ready = asyncio.Event()
        self._hub = hub
        self._snapshot = snapshot
        self._now = now
        self._attempts: dict[tuple[str, str], deque[float]] = {}
        self._invalid: deque[float] = deque()

    def open(self) -> None:
        """Greet."""
        self._hub.connections.add(self)
        self._send(f'{{"type":"connected","connection_id":"{self.id}","message_id":0}}')

    def close(self) -> None:
        """Give up all subscriptions."""
        self.waiting.clear()
        for channel, ids in self.subscriptions.items():
            for id in ids:
                self._hub.unsubscribe(self, channel, id)
        self._hub.connections.discard(self)

    def receive(self, text: str) -> None:
        """Carry out a client's message; `Closing` if it sends too many."""
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError):
            return self._reject("Invalid message: could not parse")
        if not isinstance(message, dict) or not message.get("type"):
            return self._reject("Invalid message: type is required")
        kind = message["type"]
        if kind == "ping":
            # The real server knows the message and answers nothing.
            return None
        if kind not in ("subscribe", "unsubscribe"):
            return self._reject(f"Invalid message: {kind}")
        channel = message.get("channel")
        if channel not in VERSIONS:
            return self._reject(f"Invalid channel: {channel}")
        id = channel if channel in _GLOBAL else message.get("id")
        if not isinstance(id, str) or not id:
            return self._reject(f"Invalid subscription id for channel: ({channel}-{id})")
        if kind == "unsubscribe":
            return self._unsubscribe(channel, id)
        return self._subscribe(channel, id, message.get("batched") is True)

    def data(self, kind: str, feed: Feed, contents: str) -> None:
        """Send contents of a channel: the envelope is ours, the contents are shared."""
        channel, id, subaccount = feed
        self.message_id += 1
        child = f',"subaccountNumber":{subaccount}' if channel == "v4_parent_subaccounts" else ""
        self._send(
            f'{{"type":"{kind}","connection_id":"{self.id}","message_id":{self.message_id},'
            f'{_named(channel, id)}"channel":"{channel}","version":"{VERSIONS[channel]}",'
            f'"contents":{contents}{child}}}'
        )

    def flush(self) -> None:
        """Send each waiting batch as one message."""
        if self.batches:
            batches, self.batches = self.batches, {}
            for feed, texts in batches.items():
                self.data("channel_batch_data", feed, f"[{','.join(texts)}]")

    def _subscribe(self, channel: str, id: str, batched: bool) -> None:
        self._limit_attempts(channel, id)
        ids = self.subscriptions.setdefault(channel, set())
        if id in ids:
            return self._error(
                f"Invalid subscribe message: already subscribed ({channel}-{id})", channel, id
            )
        waits = sum(waiting[0] == channel for waiting in self.waiting.values())
        if len(ids) + waits >= _LIMITS[channel]:
            return self._error(
                f"Per-connection subscription limit reached for {channel} "
                f"(limit: {_LIMITS[channel]}).",
                channel,
                id,
            )
        self.message_id += 1
        self.waiting[self.message_id] = channel, id, batched
        return None

    def answer(self, message_id: int) -> None:
        """Send the snapshot that a message requested: under its id, whatever went out since."""
        if message_id not in self.waiting:
            return None  # closed or unsubscribed meanwhile
        channel, id, batched = self.waiting.pop(message_id)
        ids = self.subscriptions.setdefault(channel, set())
        try:
            contents = encode(self._snapshot(channel, id)).decode()
        except ValueError:
            return self._error(
                f"Invalid subscription id for channel: ({channel}-{id})", channel, id
            )
        except LookupError as error:
            return self._error(str(error), channel, id)
        self._send(
            f'{{"type":"subscribed","connection_id":"{self.id}","message_id":{message_id},'
            f'"channel":"{channel}",{_named(channel, id)}"contents":{contents}}}'
        )
        ids.add(id)
        self._hub.subscribe(self, channel, id, batched)
        return None

    def _limit_attempts(self, channel: str, id: str) -> None:
        attempts = self._attempts.setdefault((channel, id), deque())
        if self._too_often(attempts):
            message = f"Too many subscribe attempts for channel {channel}-{id}. Please reconnect."
            self._error(message, channel, id)
            raise Closing(1008, message)

    def _unsubscribe(self, channel: str, id: str) -> None:
        self.message_id += 1
        self.waiting = {n: one for n, one in self.waiting.items() if one[:2] != (channel, id)}
        self.subscriptions.get(channel, set()).discard(id)
        self._hub.unsubscribe(self, channel, id)
        self._send(
            f'{{"type":"unsubscribed","connection_id":"{self.id}","message_id":{self.message_id},'
            f'{_named(channel, id)}"channel":"{channel}"}}'
        )

    def _reject(self, message: str) -> None:
        self._error(message)
        if self._too_often(self._invalid):
            raise Closing(1008, "Too many invalid messages. Please reconnect and try again.")

    def _too_often(self, times: deque[float], most: int = 2, seconds: float = 1.0) -> bool:
        now = self._now()
        while times and times[0] <= now - seconds:
            times.popleft()
        times.append(now)
        return len(times) > most

    def _error(self, message: str, channel: str = "", id: str = "") -> None:
        error: Json = {"type": "error", "message": message, "connection_id": self.id}
        error["message_id"] = self.message_id
        if channel:
            error |= {"channel": channel, "id": id}
        self._send(encode(error).decode())

    def _send(self, text: str) -> None:
        if len(self.out) < self.MOST_WAITING:
            self.out.append(text)
            self._hub.messages += 1
            self.ready.set()


def _named(channel: str, id: str) -> str:
    """Return the id of a message, which one channel has none of."""
    return "" if channel == "v4_markets" else f'"id":"{id}",'


# === Snapshots ===


def snapshot(view: Indexed, channel: str, id: str) -> Json:
    """Return what a new subscriber receives first; the REST twin's answer."""
    if channel == "v4_markets":
        return {"markets": _markets(view)}
    if channel == "v4_block_height":
        return {"height": str(view.height), "time": iso(view.block_ns)}
    if channel == "v4_candles":
        ticker, _, resolution = id.partition("/")
        if resolution not in RESOLUTIONS:
            raise ValueError(id)
        tape = _listed(view, ticker)
        return {"candles": tape.newest_candles(resolution, 0, 2**62, 100)}
    if channel in ("v4_subaccounts", "v4_parent_subaccounts"):
        return _subaccount_snapshot(view, channel, id)
    tape = _listed(view, id)
    if channel == "v4_trades":
        return {"trades": list(islice(tape.newest_trades(2**62, view.height), 100))}
    return tape.orderbook()


def fetcher(exchange: Exchange) -> Query:
    """Return what fetches snapshots: REST, so what disturbs it disturbs them."""
    disturbances = exchange.settings.disturbances
    chance = Random(f"{exchange.settings.seed} snapshots")

    def fetch(channel: str, id: str) -> Json:
        if disturbances.geo_block:
            raise LookupError(BLOCKED)
        if chance.random() < disturbances.errors:
            raise LookupError(f"Internal error, could not fetch data for subscription: {channel}.")
        return snapshot(exchange.replicas.snapshot(), channel, id)

    return fetch


def _subaccount_snapshot(view: Indexed, channel: str, id: str) -> Json:
    owner, _, number = id.partition("/")
    if not is_address(owner) or not number.isdecimal() or int(number) > 128_000:
        raise ValueError(id)
    accounts, subaccount = view.accounts, Subaccount(owner, int(number))
    if channel == "v4_subaccounts":
        family = [ledger] if (ledger := known(accounts, subaccount)) else []
    else:
        family = children(accounts, owner, int(number))
    if not any(map(funded, family)):
        # Money may still come: the real server too lets a client wait for it.
        return {}
    orders = [
        order_row(view, ledger, record)
        for ledger in family
        for record in reversed(ledger.history.orders(limit=_MOST).rows)
        if record.order_flags != TWAP
        and (record.status in OPEN_STATES or _may_still_fill(view, record))
    ]
    if channel == "v4_subaccounts":
        return account_snapshot(family[0], view.height, orders)
    row = parent_row(view, owner, int(number), family)
    return {"subaccount": row, "orders": orders, "blockHeight": str(view.height)}


def _may_still_fill(view: Indexed, record: OrderRecord) -> bool:
    late = record.good_til_block > view.height - 20
    return record.status == "BEST_EFFORT_CANCELED" and late


def _listed(view: Indexed, ticker: str) -> MarketTape:
    tape = view.tapes.get(ticker)
    if tape is None:
        raise ValueError(ticker)
    return tape


def _markets(view: Indexed) -> Json:
    return {ticker: tape.description() for ticker, tape in view.tapes.items()}


# === Parameters ===


class Refusal(Exception):  # noqa: N818  # an answer, not a failure
    """A request the indexer answers with errors."""

    def __init__(self, status: int, **error: object) -> None:
        super().__init__(error.get("msg"))
        self.status = status
        self.error = error


class Parameters:
    """A request's query, read as the indexer validates it."""

    def __init__(self, request: Request) -> None:
        self._query = request.query_params

    def text(self, name: str, *, among: tuple[str, ...] = (), required: bool = False) -> str:
        """Return a parameter's text, "" if it is not there."""
        value = self._query.get(name, "")
        if (not value and required) or (value and among and value not in among):
            listed = f"{name} must be one of {','.join(among)}" if among else f"{name} is required"
            self._refuse(name, listed)
        return value

    def number(self, name: str, default: int, least: int = 0, most: int = 2**53) -> int:
        """Return a parameter's number."""
        value = self._query.get(name)
        if value is None:
            return default
        if not value.isdecimal() or not least <= int(value) <= most:
            under = f" less than {most + 1}" if most < 2**53 else ""
            words = f"a non-negative integer{under}"
            if name == "limit":
                words = f"a positive integer that is not greater than max: {most}"
            self._refuse(name, f"{name} must be {words}")
        return int(value)

    def moment(self, name: str, default_ns: int) -> int:
        """Return a parameter's time in nanoseconds."""
        value = self._query.get(name)
        if not value:
            return default_ns
        try:
            return from_iso(value)
        except ValueError:
            self._refuse(name, f"{name} must be a valid ISO 8601 date")
            return default_ns

    @property
    def limit(self) -> int:
        """Return how many rows are requested."""
        return self.number("limit", 1000, 1, 1000)

    def page(self, name: str, rows: list[Json]) -> Json:
        """Cut rows to the limit, or to a page if pages are requested."""
        limit, page = self.limit, self.number("page", 0, 1)
        if not page:
            return {name: rows[:limit]}
        offset = (page - 1) * limit
        return {
            name: rows[offset : offset + limit],
            "pageSize": limit,
            "totalResults": len(rows),
            "offset": offset,
        }

    def _refuse(self, name: str, message: str) -> None:
        value = self._query.get(name)
        error: Json = {"msg": message, "param": name, "location": "query"}
        if value is not None:
            error["value"] = value
        raise Refusal(400, **error)


# === REST: the market ===

Answer = Callable[[Indexed, Request, Parameters], Any]


def perpetual_markets(view: Indexed, _request: Request, query: Parameters) -> Json:
    """Answer /perpetualMarkets."""
    ticker = query.text("ticker") or query.text("market")
    if ticker:
        return {"markets": {ticker: _tape(view, ticker, "query").description()}}
    markets = _markets(view)
    return {"markets": dict(islice(markets.items(), query.limit))}


def orderbook(view: Indexed, request: Request, _query: Parameters) -> Json:
    """Answer /orderbooks/perpetualMarket/{ticker}."""
    return _tape(view, request.path_params["ticker"], "").orderbook()


def trades(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /trades/perpetualMarket/{ticker}, newest first."""
    tape = _tape(view, request.path_params["ticker"])
    before = query.moment("createdBeforeOrAt", 2**62)
    # A height of 0 is none to the indexer.
    most = min(query.number("createdBeforeOrAtHeight", 0) or 2**53, view.height)
    limit, page = query.limit, query.number("page", 0, 1)
    if page:
        # Pages go the other way, from the oldest on.
        rows, total = tape.trades_page(before, most, (page - 1) * limit, limit)
        offset = (page - 1) * limit
        return {"trades": rows, "pageSize": limit, "totalResults": total, "offset": offset}
    rows = list(islice(tape.newest_trades(before, most), limit))
    past = tape.past
    if past is not None and past.past.history.faults and limit > 1 and len(rows) == limit:
        rows[-1] = rows[-2]
    return {"trades": rows}


def candles(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /candles/perpetualMarkets/{ticker}."""
    tape = _tape(view, request.path_params["ticker"])
    resolution = query.text("resolution", among=tuple(RESOLUTIONS), required=True)
    start = math.ceil(query.moment("fromISO", 0) / 1e9)
    end = math.ceil(query.moment("toISO", 2**62) / 1e9)
    return {"candles": tape.newest_candles(resolution, start, end, query.limit)}


async def make_candles(view: Indexed, request: Request, query: Parameters) -> None:
    """Make what candles of the past are of, an hour at a time: sockets have their turn between."""
    tape = view.tapes.get(request.path_params.get("ticker", ""))
    seconds = RESOLUTIONS.get(query.text("resolution"))
    if tape is None or tape.past is None or seconds is None:
        return
    start, end = query.moment("fromISO", 0), query.moment("toISO", 2**62)
    most = (query.limit + 1) * seconds
    for hour in tape.past.hours(start // 10**9, end // 10**9, most):
        tape.past.minutes(hour)
        await asyncio.sleep(0)


def sparklines(view: Indexed, _request: Request, query: Parameters) -> Json:
    """Answer /sparklines."""
    period = query.text("timePeriod", among=tuple(_SPARKLINES), required=True)
    resolution, count = _SPARKLINES[period]
    return {ticker: tape.sparkline(resolution, count) for ticker, tape in view.tapes.items()}


_SPARKLINES: Final = {"ONE_DAY": ("1HOUR", 24), "SEVEN_DAYS": ("4HOURS", 42)}


def historical_funding(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /historicalFunding/{ticker}."""
    tape = _tape(view, request.path_params["ticker"])
    before = query.moment("effectiveBeforeOrAt", 2**62)
    height = query.number("effectiveBeforeOrAtHeight", 0) or 2**53
    newest = tape.funding.newest(before, min(height, view.height), query.limit)
    return {"historicalFunding": newest}


def height(view: Indexed, _request: Request, _query: Parameters) -> Json:
    """Answer /height."""
    return {"height": str(view.height), "time": iso(view.block_ns)}


def venue_time(view: Indexed, _request: Request, _query: Parameters) -> Json:
    """Answer /time: the venue's own."""
    return {"iso": iso(view.now_ns), "epoch": round(view.now_ns / 1e9, 3)}


def screen(_view: Indexed, _request: Request, _query: Parameters) -> Json:
    """Answer /screen: nobody is restricted here."""
    return {"restricted": False}


def compliance(view: Indexed, _request: Request, _query: Parameters) -> Json:
    """Answer /compliance/screen/{address}."""
    return {"status": "COMPLIANT", "updatedAt": iso(view.block_ns)}


def _tape(view: Indexed, ticker: str, location: str = "params") -> MarketTape:
    tape = view.tapes.get(ticker)
    if tape is not None:
        return tape
    if location:
        raise Refusal(400, msg="ticker must be a valid ticker (BTC-USD, etc)", param="ticker",
                      location=location, value=ticker)  # fmt: skip
    # Of books alone it looks only when it answers.
    raise Refusal(404, msg=f"{ticker} not found in markets of type PERPETUAL")


def _until(query: Parameters, rows: list[Json]) -> list[Json]:
    """Choose rows created at or before what the query names."""
    before = query.moment("createdBeforeOrAt", 2**62)
    height = query.number("createdBeforeOrAtHeight", 2**53)
    return [
        row
        for row in rows
        if int(row["createdAtHeight"]) <= height and from_iso(row["createdAt"]) <= before
    ]


# === REST: rows ===

# What REST adds to dydx_paper's rows, or leaves out of them.

_MOST: Final = 1_000


def funded(ledger: Ledger) -> bool:
    """Return whether money ever came to a subaccount: before that there is none."""
    return bool(ledger.history.transfers(limit=1).total)


def known(accounts: Books, subaccount: Subaccount) -> Ledger | None:
    """Return a subaccount's ledger if money ever came to it."""
    ledger = accounts.ledgers.get(subaccount)
    return ledger if ledger is not None and funded(ledger) else None


def children(accounts: Books, owner: str, parent: int) -> list[Ledger]:
    """Return the ledgers of a parent subaccount and its children."""
    family = sorted(one for one in accounts.ledgers if parent_of(one) == Subaccount(owner, parent))
    return [accounts.ledgers[one] for one in family]


def order_row(view: Indexed, ledger: Ledger, record: OrderRecord) -> Json:
    """Return an order as REST does; a TWAP's with its terms."""
    subaccount, tape = ledger.subaccount, view.tapes[record.ticker]
    row = order_fields(subaccount, tape.market, record)
    if twap := view.accounts.twaps.get(record.id):
        request = twap.request
        row |= {
            "type": "TWAP", "duration": str(request.twap_duration_s),
            "interval": str(request.twap_interval_s),
            "priceTolerance": str(request.twap_tolerance_ppm),
        }  # fmt: skip
    return row


def position_rows(view: Indexed, ledger: Ledger) -> Iterator[Json]:
    """Yield a subaccount's positions, newest first, the open ones before the ended."""
    for record in ledger.positions(limit=_MOST).rows:
        yield position_fields(ledger, view.tapes[record.ticker].market, record)


def asset_row(ledger: Ledger) -> Json:
    """Return the USDC balance: funding counts before it is settled."""
    return asset_fields(ledger.subaccount, ledger.collateral + ledger.unsettled)


_FILL_FIELDS: Final = (
    "id", "side", "liquidity", "type", "price", "size", "fee", "createdAt", "createdAtHeight",
    "orderId", "clientMetadata",
)  # fmt: skip


def fill_rows(view: Indexed, ledger: Ledger, ticker: str) -> Iterator[Json]:
    """Yield a subaccount's fills, newest first, of one market if it is named."""
    for record in ledger.history.fills(ticker=ticker, limit=_MOST).rows:
        row = fill_fields(ledger.subaccount, view.tapes[record.ticker].market, record)
        yield {name: row[name] for name in _FILL_FIELDS} | {
            "affiliateRevShare": "0", "market": record.ticker, "marketType": "PERPETUAL",
            "subaccountNumber": ledger.subaccount.number,
        }  # fmt: skip


def transfer_rows(ledger: Ledger) -> list[Json]:
    """Return a subaccount's transfers, newest first, each under an id of its own."""
    rows: list[Json] = []
    for record in reversed(ledger.history.transfers(limit=_MOST).rows):
        row = transfer_fields(ledger.subaccount, record)
        alike = sum({**other, "id": ""} == {**row, "id": ""} for other in rows)
        id = event_id("transfer", ledger.subaccount, record.created.time_ns, row, alike)
        rows.append({"id": id, **row, "transactionHash": transaction_hash(id)})
    return rows[::-1]


def payment_row(view: Indexed, ledger: Ledger, record: FundingRecord) -> Json:
    """Return a funding payment, positive where it was received; with its hour's rate and price."""
    tape = view.tapes[record.ticker]
    paid = next(
        row for row in tape.funding.rows if row["effectiveAtHeight"] == str(record.created.height)
    )
    return {
        "createdAt": iso(record.created.time_ns), "createdAtHeight": str(record.created.height),
        "perpetualId": str(tape.market.perpetual_id), "ticker": record.ticker,
        "oraclePrice": paid["price"], "size": tape.size_text(abs(record.quantums)),
        "side": "LONG" if record.quantums > 0 else "SHORT", "rate": paid["rate"],
        "payment": decimal_text(record.credited, -6),
        "subaccountNumber": str(ledger.subaccount.number), "fundingIndex": str(record.index),
    }  # fmt: skip


def pnl_row(ledger: Ledger, point: PnlPoint, net_transfers: int) -> Json:
    """Return what a subaccount was worth at a moment, and what the answer calls paid in."""
    subaccount, when = ledger.subaccount, point.created
    return {
        "id": event_id("pnl", subaccount, when.height), "subaccountId": subaccount_id(subaccount),
        "equity": decimal_text(point.equity or 0, -6),
        "totalPnl": decimal_text(point.total_pnl or 0, -6),
        "netTransfers": decimal_text(net_transfers, -6),
        "createdAt": iso(when.time_ns), "blockHeight": str(when.height),
        "blockTime": iso(when.time_ns),
    }  # fmt: skip


def parent_row(view: Indexed, owner: str, number: int, family: list[Ledger]) -> Json:
    """Return a parent subaccount with its children."""
    rows = [subaccount_fields(ledger, view.height) for ledger in family if funded(ledger)]
    equity = sum(ledger.margin.net_collateral for ledger in family)
    return {
        "address": owner, "parentSubaccountNumber": number, "equity": decimal_text(equity, -6),
        "freeCollateral": rows[0]["freeCollateral"], "childSubaccounts": rows,
    }  # fmt: skip


# === REST: accounts ===


def addresses(view: Indexed, request: Request, _query: Parameters) -> Json:
    """Answer /addresses/{address}."""
    owner = request.path_params["address"]
    ledgers = view.accounts.ledgers.values()
    found = [ledger for ledger in ledgers if ledger.subaccount.owner == owner and funded(ledger)]
    rows = [subaccount_fields(ledger, view.height) for ledger in found]
    if not rows:
        raise Refusal(404, msg=f"No subaccounts found for address {owner}")
    return {"subaccounts": rows, "totalTradingRewards": "0"}


def subaccount(view: Indexed, request: Request, _query: Parameters) -> Json:
    """Answer /addresses/{address}/subaccountNumber/{number}."""
    owner, number = request.path_params["address"], request.path_params["number"]
    ledger = _funded(view, Subaccount(owner, number))
    return {"subaccount": subaccount_fields(ledger, view.height)}


def parent_subaccount(view: Indexed, request: Request, _query: Parameters) -> Json:
    """Answer /addresses/{address}/parentSubaccountNumber/{number}."""
    owner, number = request.path_params["address"], request.path_params["number"]
    family = children(view.accounts, owner, number)
    if not any(map(funded, family)):
        raise Refusal(404, msg=f"No subaccounts found for address {owner} and "
                               f"parentSubaccountNumber {number}")  # fmt: skip
    return {"subaccount": parent_row(view, owner, number, family)}


def _funded(view: Indexed, subaccount: Subaccount) -> Ledger:
    ledger = known(view.accounts, subaccount)
    if ledger is None:
        raise Refusal(404, msg=f"No subaccount found with address {subaccount.owner} "
                               f"and subaccountNumber {subaccount.number}")  # fmt: skip
    return ledger


def _family(view: Indexed, request: Request, query: Parameters) -> list[Ledger]:
    """Return the subaccount a query names, or the children of the parent it names."""
    owner = query.text("address", required=True)
    accounts = view.accounts
    if "/parentSubaccount" in request.url.path:
        query.text("parentSubaccountNumber", required=True)
        parent = query.number("parentSubaccountNumber", 0, 0, 127)
        return children(accounts, owner, parent)
    query.text("subaccountNumber", required=True)
    found = known(accounts, Subaccount(owner, query.number("subaccountNumber", 0, 0, 128_000)))
    return [] if found is None else [found]


def perpetual_positions(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /perpetualPositions."""
    wanted = [word for word in query.text("status").split(",") if word]
    rows = [
        row
        for ledger in _family(view, request, query)
        for row in position_rows(view, ledger)
        if not wanted or row["status"] in wanted
    ]
    return {"positions": _until(query, rows)[: query.limit]}


def asset_positions(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /assetPositions."""
    return {"positions": [asset_row(ledger) for ledger in _family(view, request, query)]}


def orders(view: Indexed, request: Request, query: Parameters) -> list[Json]:
    """Answer /orders: a bare array, newest first."""
    words = {
        "status": [word for word in query.text("status").split(",") if word],
        "side": [query.text("side", among=("", "BUY", "SELL"))],
        "ticker": [query.text("ticker")],
        "type": [query.text("type")],
    }
    wanted = {name: chosen for name, chosen in words.items() if any(chosen)}
    most = query.number("goodTilBlockBeforeOrAt", 2**53)
    rows = [
        order_row(view, ledger, record)
        for ledger in _family(view, request, query)
        for record in ledger.history.orders(limit=_MOST).rows
        if record.good_til_block <= most
    ]
    chosen = (row for row in rows if all(row[name] in some for name, some in wanted.items()))
    return list(islice(chosen, query.limit))


def order(view: Indexed, request: Request, _query: Parameters) -> Json:
    """Answer /orders/{id}."""
    id = request.path_params["id"]
    for ledger in view.accounts.ledgers.values():
        if record := ledger.history.order(id):
            return order_row(view, ledger, record)
    raise Refusal(404, msg=f"Unable to find order id {id}")


def fills(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /fills, newest first."""
    market = query.text("market") or query.text("ticker")
    family = _family(view, request, query)
    rows = [row for ledger in family for row in fill_rows(view, ledger, market)]
    return query.page("fills", _until(query, rows))


def transfers(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /transfers, newest first."""
    family = _family(view, request, query)
    rows = [row for ledger in family for row in transfer_rows(ledger)]
    return query.page("transfers", _until(query, rows))


def transfers_between(view: Indexed, _request: Request, query: Parameters) -> Json:
    """Answer /transfers/between: what one subaccount sent another or had from it, and the sum."""
    source, recipient = (
        Subaccount(
            query.text(f"{end}Address", required=True),
            query.number(f"{end}SubaccountNumber", 0, 0, 128_000),
        )
        for end in ("source", "recipient")
    )
    theirs = {"address": recipient.owner, "subaccountNumber": recipient.number}
    ledger = view.accounts.ledgers.get(source)
    moved = transfer_rows(ledger) if ledger else ()
    rows = [row for row in moved if theirs in (row["sender"], row["recipient"])]
    sent = (Decimal(row["size"]) * (1 if row["recipient"] == theirs else -1) for row in rows)
    listed = query.page("transfersSubset", _until(query, rows))
    return listed | {"totalNetTransfers": f"{sum(sent, Decimal(0)):f}"}


def funding_payments(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /fundingPayments, newest first."""
    ticker, family = query.text("ticker"), _family(view, request, query)
    rows = [
        payment_row(view, ledger, record)
        for ledger in family
        for record in ledger.history.payments(ticker=ticker, limit=_MOST).rows
    ]
    return query.page("fundingPayments", _until(query, rows))


def historical_pnl(view: Indexed, request: Request, query: Parameters) -> Json:
    """Answer /historical-pnl and /pnl, newest first.

    The one has what was paid in since the point before, the other all of it so far.
    """
    family = _family(view, request, query)
    name = "pnl" if request.url.path.startswith("/v4/pnl") else "historicalPnl"
    before = query.moment("createdBeforeOrAt", 2**62)
    after = query.moment("createdOnOrAfter", 0)
    rows = list[Json]()
    for ledger in family:
        points = ledger.history.pnl(limit=_MOST).rows
        for point, older in zip_longest(points, points[1:]):
            earlier = older.net_transfers if older is not None and name != "pnl" else 0
            if after <= point.created.time_ns <= before:
                rows.append(pnl_row(ledger, point, point.net_transfers - earlier))
    return query.page(name, rows)


ROUTES: Final[dict[str, Answer]] = {
    "/v4/perpetualMarkets": perpetual_markets,
    "/v4/orderbooks/perpetualMarket/{ticker}": orderbook,
    "/v4/trades/perpetualMarket/{ticker}": trades,
    "/v4/candles/perpetualMarkets/{ticker}": candles,
    "/v4/sparklines": sparklines,
    "/v4/historicalFunding/{ticker}": historical_funding,
    "/v4/height": height,
    "/v4/time": venue_time,
    "/v4/screen": screen,
    "/v4/compliance/screen/{address}": compliance,
    "/v4/addresses/{address}": addresses,
    "/v4/addresses/{address}/subaccountNumber/{number:int}": subaccount,
    "/v4/addresses/{address}/parentSubaccountNumber/{number:int}": parent_subaccount,
    "/v4/perpetualPositions": perpetual_positions,
    "/v4/perpetualPositions/parentSubaccountNumber": perpetual_positions,
    "/v4/assetPositions": asset_positions,
    "/v4/assetPositions/parentSubaccountNumber": asset_positions,
    "/v4/orders": orders,
    "/v4/orders/parentSubaccountNumber": orders,
    "/v4/orders/{id}": order,
    "/v4/fills": fills,
    "/v4/fills/parentSubaccountNumber": fills,
    "/v4/transfers": transfers,
    "/v4/transfers/parentSubaccountNumber": transfers,
    "/v4/transfers/between": transfers_between,
    "/v4/fundingPayments": funding_payments,
    "/v4/fundingPayments/parentSubaccount": funding_payments,
    "/v4/historical-pnl": historical_pnl,
    "/v4/historical-pnl/parentSubaccountNumber": historical_pnl,
    "/v4/pnl": historical_pnl,
    "/v4/pnl/parentSubaccountNumber": historical_pnl,
}

# === Application ===

# Requests per ten seconds and address, by the first part of the path; the rest share a group.
_RATES: Final = {
    "candles": 1000,
    **dict.fromkeys(
        ["orders", "fills", "sparklines", "historical-pnl", "pnl", "fundingPayments"], 100
    ),
}
_WINDOW_S: Final = 10.0


class RateLimits:
    """A fixed window per client and group, as the indexer keeps it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def take(self, client: str, path: str) -> tuple[dict[str, str], bool]:
        """Count a request; return its headers and whether it is within the limit."""
        first = path.removeprefix("/v4/").partition("/")[0]
        group = {"tradeHistory": "fills"}.get(first, first if first in _RATES else "default")
        most = _RATES.get(group, 100)
        now = self._now()
        end, used = self._windows.get((client, group), (0.0, 0))
        if now >= end:
            end, used = now + _WINDOW_S, 0
        self._windows[client, group] = end, used + 1
        headers = {
            "RateLimit-Limit": str(most),
            "RateLimit-Remaining": str(max(most - used - 1, 0)),
            "RateLimit-Reset": str(int(end * 1000)),
        }
        if used >= most:
            # In milliseconds, against the HTTP standard: as the indexer does.
            headers["Retry-After"] = str(int((end - now) * 1000))
        return headers, used < most


def application(exchange: Exchange, hub: SocketHub) -> Starlette:
    """Return the ASGI app with REST and the WebSocket."""
    limits, disturbances = RateLimits(time.time), exchange.settings.disturbances
    chance, fetch = Random(f"{exchange.settings.seed} answers"), fetcher(exchange)

    def endpoint(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            client = request.client.host if request.client else ""
            headers, allowed = limits.take(client, request.url.path)
            if not allowed:
                return _json({"errors": [{"msg": "Too many requests"}]}, 429, headers)
            if disturbances.geo_block:
                blocked = {"errors": [{"msg": BLOCKED, "code": "GEOBLOCKED"}]}
                return _json(blocked, disturbances.geo_block, headers)
            if chance.random() < disturbances.errors:
                status, body, kind = wrong_answer(chance)
                return Response(body, status, media_type=kind)
            try:
                query = Parameters(request)
                if exchange.settings.history is not None:
                    await make_candles(exchange, request, query)
                return _json(answer(exchange.replicas.rest(), request, query), 200, headers)
            except Refusal as refusal:
                return _json({"errors": [refusal.error]}, refusal.status, headers)

        return respond

    async def socket(websocket: WebSocket) -> None:
        await _serve(websocket, fetch, hub)

    async def faucet(request: Request) -> Response:
        # Where the official FaucetClient looks, though not on the indexer's address.
        return _faucet(exchange, request.url.path, await request.body())

    taps = [Route(f"/faucet/{name}", faucet, methods=["POST"]) for name in _TAPS]
    routes = [Route(path, endpoint(answer)) for path, answer in ROUTES.items()]
    sockets = [WebSocketRoute(path, socket) for path in ("/v4/ws", "/")]
    return Starlette(
        routes=[*routes, *taps, *sockets], exception_handlers={HTTPException: _not_there}
    )


_TAPS: Final = ("tokens", "native-token")


class _FaucetRequest(msgspec.Struct, rename="camel"):
    address: str
    subaccount_number: int = 0
    amount: float = 0.0


def _faucet(exchange: Exchange, path: str, body: bytes) -> Response:
    try:
        payment = msgspec.json.decode(body, type=_FaucetRequest)
    except msgspec.DecodeError as error:
        return _json({"errors": [{"msg": str(error)}]}, 400, {})
    if not is_address(payment.address) or not 0 <= payment.amount <= 1e9:
        return _json({"errors": [{"msg": "expected a dydx address and an amount"}]}, 400, {})
    if path.endswith("native-token"):
        exchange.accounts.bank.open(payment.address).native += 10**20
    else:
        to = Subaccount(payment.address, payment.subaccount_number)
        exchange.accounts.faucet(to, int(payment.amount * 1e6))
    return Response(status_code=202)


async def _not_there(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _json({"errors": [{"msg": str(getattr(error, "detail", error))}]}, status, {})


def _json(content: Any, status: int, headers: dict[str, str]) -> Response:
    return Response(encode(content), status, headers, media_type="application/json; charset=utf-8")


async def _serve(websocket: WebSocket, fetch: Query, hub: SocketHub) -> None:
    await websocket.accept()
    loop = asyncio.get_running_loop()
    connection = ClientConnection(hub, fetch, loop.time)
    connection.open()
    chance = Random(connection.id)
    stamps = None if hub.stamps is None else hub.stamps.setdefault(connection.id, [])
    writer = asyncio.create_task(_write(websocket, connection, stamps))
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                break
            before = set(connection.waiting)
            connection.receive(message.get("text") or (message.get("bytes") or b"").decode())
            for message_id in set(connection.waiting) - before:
                loop.call_later(FETCH_S * chance.uniform(0.25, 2.0), connection.answer, message_id)
    except Closing as closing:
        writer.cancel()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            while connection.out:
                await websocket.send_text(connection.out.popleft())
            await websocket.close(closing.code, closing.reason)
    except UnicodeDecodeError:
        await websocket.close(1007)
    finally:
        connection.close()
        writer.cancel()


async def _write(
    websocket: WebSocket, connection: ClientConnection, stamps: list[int] | None
) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        while True:
            await connection.ready.wait()
            connection.ready.clear()
            while connection.out:
                if stamps is not None:
                    stamps.append(time.monotonic_ns())
                await websocket.send_text(connection.out.popleft())


class Server(uvicorn.Server):
    """Uvicorn, with signals left to whoever runs it; over TLS if it has `papers`."""

    def __init__(self, app: Starlette, papers: Papers | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                # The indexer pings every 30 s and gives up 10 s later.
                ws_ping_interval=30.0,
                ws_ping_timeout=10.0,
                ws_max_queue=1024,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
                ssl_certfile=papers.certificate if papers else None,
                ssl_keyfile=papers.key if papers else None,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
