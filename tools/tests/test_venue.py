"""The running venue, through the unmodified official client, over loopback."""

import asyncio
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from coincurve import PrivateKey
from dydx_v4_client.faucet_client import FaucetClient
from dydx_v4_client.indexer.candles_resolution import CandlesResolution
from dydx_v4_client.indexer.rest.constants import OrderType
from dydx_v4_client.indexer.rest.indexer_client import IndexerClient
from dydx_v4_client.indexer.socket.websocket import IndexerSocket
from dydx_v4_client.key_pair import KeyPair
from dydx_v4_client.network import LOCAL, make_insecure
from dydx_v4_client.node.builder import TxOptions
from dydx_v4_client.node.client import NodeClient
from dydx_v4_client.node.market import Market
from dydx_v4_client.wallet import Wallet
from servers import VenueProcess, venue_process
from v4_proto.cosmos.tx.v1beta1.tx_pb2 import Tx
from v4_proto.dydxprotocol.clob.order_pb2 import Order
from v4_proto.dydxprotocol.clob.tx_pb2 import OrderBatch
from v4_proto.dydxprotocol.subaccounts.subaccount_pb2 import SubaccountId
from websocket import WebSocket, WebSocketException

VENUE = Path(__file__).parent.parent / "venue"
# `harsh` in the check of that name; wrong answers and empty books are for those who try again, not
# for a client that is the reference here.
OFF = ("--errors", "0", "--makers-leave", "0")
HABITS = ("--habits", os.environ.get("TEST_VENUE_HABITS", "plain"), *OFF)
# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 60
# By the node first; by the chain once the last block of the order is over.
CANCELLED = {"BEST_EFFORT_CANCELED", "CANCELED"}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# === A venue ===


def resident(venue: VenueProcess) -> str:
    """Return who quotes all markets."""
    return venue.find(r"(dydx1\w+)/0  quoter")


def network(venue: VenueProcess) -> Any:
    """Return a venue as the official node client takes one."""
    config = LOCAL.node
    make = lambda channel: type(config)(  # noqa: E731
        config.chain_id, config.chaintoken_denom, config.usdc_denom, channel
    )
    urls = {"rest_indexer": venue.rest, "websocket_indexer": venue.ws, "node_url": venue.node}
    return make_insecure(make, **urls)


@pytest.fixture(scope="module")
def venue() -> Iterator[VenueProcess]:
    """Run one venue for all tests of this file, some blocks old.

    A short-term order lives for twenty blocks: a busy machine needs seconds between two requests.
    """
    options = ("--speed", "5", "--count", "3", "--seed", "5", *HABITS)
    with venue_process(*options, patience_s=PATIENCE_S) as running:
        wait_for_block(running, 41_000_025)
        yield running


class Listener:
    """The official IndexerSocket in a thread, and what it received."""

    def __init__(self, url: str, on_open: Callable[[IndexerSocket], None]) -> None:
        self.received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._connection: WebSocket | None = None

        def opened(ws: IndexerSocket) -> None:
            self._connection = ws.sock
            on_open(ws)

        self.socket = IndexerSocket(
            url,
            on_open=opened,
            on_message=lambda _ws, message: self.received.put(message),
            on_close=lambda _ws, code, reason: self.closed.put((code, reason)),
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self.socket.connect()))

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The way to a prompt stop: the client's own close() waits for a reply it may have had.
        connection = self._connection
        self.socket.keep_running = False
        if connection is not None and connection.connected:
            try:
                connection.send_close(1000)
            except (OSError, WebSocketException):
                pass
        self._thread.join(5)
        if connection is not None:
            connection.shutdown()

    def until(
        self, wanted: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE_S
    ) -> list[Any]:
        """Return all messages up to the first that is wanted."""
        received, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            received.append(self.received.get(timeout=max(end - time.monotonic(), 0.01)))
            if wanted(received[-1]):
                return received
        raise AssertionError(f"waited {seconds} s, received {[m['type'] for m in received]}")


def get(venue: VenueProcess, path: str, **params: Any) -> httpx.Response:
    """Query the indexer without the official client, to see status and headers."""
    return httpx.get(f"{venue.rest}/v4/{path}", params=params)


# === REST ===


def test_it_prints_plainly_that_it_is_a_stand_in(venue: VenueProcess) -> None:
    """The first line leaves no doubt, and every address it prints is on the loopback."""
    assert "not dYdX" in venue.printed.splitlines()[0]
    assert all("127.0.0.1" in line for line in venue.printed.splitlines() if "://" in line)


def test_the_official_indexer_client_reads_every_market_endpoint(venue: VenueProcess) -> None:
    """Shapes as documented, through `IndexerClient`."""

    async def read() -> tuple[Any, ...]:
        client = IndexerClient(venue.rest)
        return (
            await client.markets.get_perpetual_markets(),
            await client.markets.get_perpetual_market_orderbook("BTC-USD"),
            await client.markets.get_perpetual_market_trades("ETH-USD"),
            await client.markets.get_perpetual_market_candles("BTC-USD", "1MIN", limit=3),
            await client.markets.get_perpetual_market_historical_funding("ETH-USD"),
            await client.markets.get_perpetual_market_sparklines(),
            await client.utility.get_time(),
            await client.utility.get_height(),
        )

    markets, book, trades, candles, funding, sparklines, now, height = asyncio.run(read())

    btc = markets["markets"]["BTC-USD"]
    assert (btc["tickSize"], btc["stepSize"], btc["clobPairId"]) == ("1", "0.0001", "0")
    assert float(book["bids"][0]["price"]) < float(book["asks"][0]["price"])
    assert 10 < len(book["bids"]) <= 100
    assert {"id", "side", "size", "price", "type", "createdAt", "createdAtHeight"} == set(
        trades["trades"][0]
    )
    assert len(candles["candles"]) == 3
    assert candles["candles"][0]["startedAt"] > candles["candles"][1]["startedAt"]
    assert len(funding["historicalFunding"]) > 100
    assert len(sparklines["SOL-USD"]) == 24
    assert ISO.fullmatch(now["iso"])
    assert ISO.fullmatch(height["time"])
    assert int(height["height"]) > 41_000_000


def test_the_official_indexer_client_reads_every_account_endpoint(venue: VenueProcess) -> None:
    """A resident's account, orders, fills, positions, transfers and worth."""

    async def read() -> tuple[Any, ...]:
        account = IndexerClient(venue.rest).account
        who = (resident(venue), 0)
        return (
            await account.get_subaccounts(resident(venue)),
            await account.get_subaccount(*who),
            await account.get_parent_subaccount(*who),
            await seen(
                lambda: account.get_subaccount_orders(*who, limit=5),
                lambda orders: len(orders) == 5,
            ),
            await account.get_subaccount_fills(*who),
            await account.get_subaccount_perpetual_positions(*who),
            await account.get_subaccount_asset_positions(*who),
            await account.get_subaccount_transfers(*who),
            # A resident's fifth order and its first mark come as the venue's clock goes on.
            await seen(
                lambda: account.get_subaccount_historical_pnls(*who),
                lambda pnl: pnl["historicalPnl"],
            ),
            await account.get_funding_payments(*who),
        )

    many, one, parent, orders, fills, positions, assets, transfers, pnl, _ = asyncio.run(read())

    assert many["subaccounts"][0]["address"] == resident(venue)
    assert one["subaccount"]["assetPositions"]["USDC"]["symbol"] == "USDC"
    assert parent["subaccount"]["childSubaccounts"][0]["subaccountNumber"] == 0
    assert isinstance(orders, list)
    assert len(orders) == 5
    assert asyncio.run(IndexerClient(venue.rest).account.get_order(orders[0]["id"]))["id"]
    assert set(fills) == {"fills"}
    assert set(positions) == {"positions"}
    assert assets["positions"][0]["assetId"] == "0"
    assert transfers["transfers"][0]["type"] == "DEPOSIT"
    assert float(pnl["historicalPnl"][0]["equity"]) > 0


async def seen(query: Callable[[], Awaitable[Any]], enough: Callable[[Any], bool]) -> Any:
    """Query until an answer is enough: a replica may be some blocks behind."""
    for _ in range(PATIENCE_S * 10):
        with contextlib.suppress(httpx.HTTPStatusError, LookupError):
            answer = await query()
            if enough(answer):
                return answer
        await asyncio.sleep(0.1)
    raise AssertionError("no replica answered as expected")


def wait_for_block(venue: VenueProcess, height: int) -> None:
    """Listen until the chain has come to a height."""

    def there(message: dict[str, Any]) -> bool:
        contents = message.get("contents", {})
        return int(contents.get("height") or contents.get("blockHeight") or 0) >= height

    def subscribe(ws: IndexerSocket) -> None:
        ws.send(json.dumps({"type": "subscribe", "channel": "v4_block_height"}))

    with Listener(venue.ws, subscribe) as listener:
        listener.until(there)


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        ("orderbooks/perpetualMarket/NO-USD", {}, 404, "NO-USD"),
        ("perpetualMarkets", {"ticker": "NO-USD"}, 400, "valid ticker"),
        ("perpetualMarkets", {"limit": 0}, 400, "limit"),
        ("trades/perpetualMarket/BTC-USD", {"limit": 1001}, 400, "1000"),
        ("candles/perpetualMarkets/BTC-USD", {}, 400, "resolution"),
        ("candles/perpetualMarkets/BTC-USD", {"resolution": "2MIN"}, 400, "1MIN"),
        ("candles/perpetualMarkets/BTC-USD", {"resolution": "1MIN", "toISO": "x"}, 400, "8601"),
        ("sparklines", {}, 400, "timePeriod"),
        ("addresses/dydx1nobody", {}, 404, "No subaccounts found"),
        ("addresses/dydx1nobody/subaccountNumber/0", {}, 404, "No subaccount found"),
        ("orders", {"address": "dydx1nobody"}, 400, "subaccountNumber"),
        ("orders/none", {}, 404, "Unable to find order"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_answered_as_documented(
    venue: VenueProcess, path: str, params: dict[str, Any], status: int, message: str
) -> None:
    """A status, and a list of errors with their message."""
    response = get(venue, path, **params)

    assert (response.status_code, message in response.json()["errors"][0]["msg"]) == (status, True)


def test_pages_walk_through_all_rows(venue: VenueProcess) -> None:
    """`page` switches on offset paging and shows how much there is."""
    path = "trades/perpetualMarket/ETH-USD"
    # Old enough for every replica.
    before = int(get(venue, "height").json()["height"]) - 15
    query = {"limit": 2, "createdBeforeOrAtHeight": before}
    first, second = (get(venue, path, page=page, **query).json() for page in (1, 2))

    assert (first["pageSize"], first["offset"], second["offset"]) == (2, 0, 2)
    assert first["totalResults"] == second["totalResults"] > 3
    assert not {row["id"] for row in first["trades"]} & {row["id"] for row in second["trades"]}


def test_too_many_requests_are_turned_away_with_a_wait_in_milliseconds(venue: VenueProcess) -> None:
    """A hundred a group in ten seconds; the headers count down, other groups are untouched."""
    url = f"{venue.rest}/v4/pnl?address=dydx1nobody&subaccountNumber=0"

    async def query_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            return await asyncio.gather(*(client.get(url) for _ in range(101)))

    *taken, refused = sorted(asyncio.run(query_all()), key=lambda answer: answer.status_code)

    assert {answer.status_code for answer in taken} == {200}
    assert refused.status_code == 429
    assert refused.json() == {"errors": [{"msg": "Too many requests"}]}
    assert refused.headers["RateLimit-Limit"] == "100"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert 1_000 < int(refused.headers["Retry-After"]) <= 10_000
    assert int(refused.headers["RateLimit-Reset"]) > 1e12
    assert get(venue, "height").status_code == 200


# === WebSocket ===


def test_the_official_socket_receives_every_channel(venue: VenueProcess) -> None:
    """connected, then snapshots, then data of each channel, under one message counter."""

    def subscribe(ws: IndexerSocket) -> None:
        ws.markets.subscribe()
        ws.order_book.subscribe("BTC-USD")
        ws.order_book.subscribe("ETH-USD", batched=False)
        ws.trades.subscribe("ETH-USD")
        ws.candles.subscribe("ETH-USD", CandlesResolution.ONE_MINUTE)
        ws.subaccounts.subscribe(resident(venue), 0)
        ws.send(json.dumps({"type": "subscribe", "channel": "v4_block_height"}))

    missing = {"v4_markets", "v4_orderbook", "v4_trades", "v4_candles", "v4_subaccounts"}
    missing |= {"v4_block_height"}

    def enough(message: dict[str, Any]) -> bool:
        if message["type"].endswith("data"):
            missing.discard(message["channel"])
        return not missing

    with Listener(venue.ws, subscribe) as listener:
        received = listener.until(enough)

    assert received[0]["type"] == "connected"
    # A snapshot carries the id of its request and may come after what has a later one.
    ids = [message["message_id"] for message in received]
    assert sorted(ids) == list(range(len(received)))
    subscribed = [message for message in received if message["type"] == "subscribed"]
    assert sorted(message["message_id"] for message in subscribed) == list(range(1, 8))
    assert {message["connection_id"] for message in received} == {received[0]["connection_id"]}
    for message in received:
        batch = message["type"] == "channel_batch_data"
        if message["type"].endswith("data"):
            assert isinstance(message["contents"], list) == batch
            assert message["version"]
    assert {
        m["type"] for m in received if m.get("id") == "ETH-USD" and m["channel"] == "v4_orderbook"
    } == {
        "subscribed",
        "channel_data",
    }


def test_the_socket_is_also_where_the_official_local_configuration_looks(
    venue: VenueProcess,
) -> None:
    """LOCAL names no path: the root serves the same."""
    root = venue.find(r"WebSocket\s+(\S+:\d+)\n")
    with Listener(root, lambda ws: None) as listener:
        assert listener.until(lambda message: True)[0]["type"] == "connected"


def test_a_ping_in_json_is_not_answered(venue: VenueProcess) -> None:
    """The next thing received is the answer to what came after the ping."""

    def send(ws: IndexerSocket) -> None:
        ws.send(json.dumps({"type": "ping"}))
        ws.send(json.dumps({"type": "unsubscribe", "channel": "v4_trades", "id": "BTC-USD"}))

    with Listener(venue.ws, send) as listener:
        received = listener.until(lambda message: message["type"] != "connected")

    assert [message["type"] for message in received] == ["connected", "unsubscribed"]


def test_invalid_messages_close_the_connection_with_1008(venue: VenueProcess) -> None:
    """Two a second are answered with errors; the third is one too many."""

    def send(ws: IndexerSocket) -> None:
        for text in ("{", "{}", '{"type":"dance"}'):
            ws.send(text)

    with Listener(venue.ws, send) as listener:
        code, _ = listener.closed.get(timeout=PATIENCE_S)
        received = listener.until(lambda message: "dance" in message.get("message", ""))

    assert code == 1008
    assert [message["message"] for message in received[1:]] == [
        "Invalid message: could not parse",
        "Invalid message: type is required",
        "Invalid message: dance",
    ]


def test_a_venue_ends_cleanly_on_sigterm_with_clients_connected() -> None:
    """Exit code 0, promptly, and the last word on the terminal."""
    with (
        venue_process("--count", "1") as running,
        Listener(running.ws, lambda ws: ws.markets.subscribe()) as listener,
    ):
        listener.until(lambda message: message["type"] == "subscribed")
        code = running.stop(PATIENCE_S)
        assert running.process.stdout is not None
        rest = running.process.stdout.read()

    assert (code, rest) == (0, "venue: closed\n")


@pytest.mark.parametrize(
    "options",
    [
        ["--count", "0"],
        ["--count", "251"],
        ["--speed", "0"],
        ["--start", "noon"],
        ["--calm", "-1"],
    ],
)
def test_a_bad_option_is_refused_with_what_was_expected(options: list[str]) -> None:
    """Exit code 2, and a sentence."""
    done = subprocess.run(
        [sys.executable, str(VENUE), *options], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert f"expected {options[0]}" in done.stderr


def test_the_name_that_count_had_is_taken_and_not_shown() -> None:
    """Who wrote a script for it need not change it."""
    query = [[sys.executable, str(VENUE), *typed] for typed in (["--markets", "0"], ["--help"])]

    refused, shown = (
        subprocess.run(each, capture_output=True, text=True, check=False) for each in query
    )

    assert "expected --count between 1 and 250, got 0" in refused.stderr
    assert "--markets" not in shown.stdout
    assert "None)" not in shown.stdout
    assert "(default: 3)" in shown.stdout


# === Node ===


@dataclass
class Trader:
    """A funded key of this test's own, at the official client's node."""

    venue: VenueProcess
    node: NodeClient
    wallet: Wallet

    @property
    def address(self) -> str:
        return str(self.wallet.address)

    async def order(self, ticker: str, client_id: int, **changed: Any) -> tuple[Order, Any]:
        """Make an order that would fill, change it, and place it."""
        markets = await IndexerClient(self.venue.rest).markets.get_perpetual_markets(ticker)
        info = markets["markets"][ticker]
        market = Market(info)
        height = await self.node.latest_block_height()
        order = market.order(
            market.order_id(self.address, 0, client_id, 0),
            OrderType.LIMIT,
            Order.SIDE_BUY,
            size=0.02,
            price=float(info["oraclePrice"]) * 1.02,
            time_in_force=Order.TIME_IN_FORCE_IOC,
            reduce_only=False,
            good_til_block=height + 18,
        )
        for name, value in changed.items():
            setattr(order, name, value(height) if callable(value) else value)
        return order, await self.node.place_order(self.wallet, order)


async def trader(venue: VenueProcess, seed: bytes, usdc: float = 10_000) -> Trader:
    """Make a key out of `seed`, let the faucet fund it, and connect."""
    key = KeyPair(PrivateKey(seed * 32))
    wallet = Wallet(key, 0, 0)
    await FaucetClient(venue.rest).fill(wallet.address, 0, usdc)
    node = await NodeClient.connect(network(venue).node)
    account = await node.get_account(wallet.address)
    wallet.account_number, wallet.sequence = account.account_number, account.sequence
    return Trader(venue, node, wallet)


def test_the_official_client_places_an_order_that_fills_and_sees_it_everywhere(
    venue: VenueProcess,
) -> None:
    """NodeClient places, IndexerSocket receives, IndexerClient reads: one and the same fill."""
    ours = asyncio.run(trader(venue, b"\x01"))

    def filled(message: dict[str, Any]) -> bool:
        return "fills" in (message.get("contents") or {})

    with Listener(venue.ws, lambda ws: ws.subaccounts.subscribe(ours.address, 0)) as listener:
        listener.until(lambda message: message["type"] == "subscribed")
        order, answer = asyncio.run(ours.order("ETH-USD", 77))
        received = listener.until(filled)
    reported = [order for m in received for order in (m.get("contents") or {}).get("orders", [])]
    contents = received[-1]["contents"]

    async def read() -> tuple[Any, ...]:
        account, who = IndexerClient(venue.rest).account, (ours.address, 0)
        return (
            await seen(
                lambda: account.get_subaccount_orders(*who),
                lambda rows: rows[0]["status"] == "FILLED",
            ),
            await seen(lambda: account.get_subaccount_fills(*who), lambda got: got["fills"]),
            await seen(
                lambda: account.get_subaccount(*who),
                lambda got: got["subaccount"]["openPerpetualPositions"],
            ),
            await ours.node.get_subaccount(ours.address, 0),
        )

    orders, fills, subaccount, on_chain = asyncio.run(read())

    assert answer.tx_response.code == 0
    assert [order["status"] for order in reported] == ["BEST_EFFORT_OPENED", "FILLED"]
    assert contents["fills"][0]["ticker"] == "ETH-USD"
    assert contents["fills"][0]["liquidity"] == "TAKER"
    assert contents["perpetualPositions"][0]["size"] == "0.02"
    assert received[-2]["contents"]["assetPositions"][0]["symbol"] == "USDC"
    assert (orders[0]["clientId"], orders[0]["status"]) == ("77", "FILLED")
    assert orders[0]["id"] == reported[0]["id"]
    assert {fill["id"] for fill in fills["fills"]} == {fill["id"] for fill in contents["fills"]}
    assert subaccount["subaccount"]["openPerpetualPositions"]["ETH-USD"]["size"] == "0.02"
    assert on_chain.perpetual_positions[0].quantums == b"\x02" + order.quantums.to_bytes(4, "big")


def test_a_tampered_transaction_is_refused(venue: VenueProcess) -> None:
    """Neither another signature nor another body passes for the signed one: sdk 4."""

    async def tamper() -> list[Any]:
        ours = await trader(venue, b"\x02")
        order, _ = await ours.order("BTC-USD", 1)
        order.order_id.client_id = 2
        good = ours.node.builder.build(ours.wallet, _place(order))
        flipped, altered = Tx.FromString(good.SerializeToString()), Tx()
        signature = bytearray(good.signatures[0])
        signature[10] ^= 1
        flipped.signatures[0] = bytes(signature)
        altered.CopyFrom(good)
        altered.body.memo = "something else"
        return [(await ours.node.broadcast(tx)).tx_response for tx in (flipped, altered, good)]

    flipped, altered, good = asyncio.run(tamper())

    assert (flipped.codespace, flipped.code) == ("sdk", 4)
    assert (altered.codespace, altered.code) == ("sdk", 4)
    assert good.code == 0


def _place(order: Order) -> Any:
    from dydx_v4_client.node.message import place_order

    return place_order(order)


def test_nobody_trades_for_somebody_else(venue: VenueProcess) -> None:
    """A good signature of the wrong key is no signature: sdk 8."""

    async def impersonate() -> Any:
        ours = await trader(venue, b"\x03")
        order, _ = await ours.order("BTC-USD", 1)
        order.order_id.subaccount_id.owner = resident(venue)
        return await ours.node.place_order(ours.wallet, order)

    answer = asyncio.run(impersonate()).tx_response

    assert (answer.codespace, answer.code) == ("sdk", 8)


def test_a_wrong_chain_or_account_number_spoils_the_signature(venue: VenueProcess) -> None:
    """Both are part of what is signed."""

    async def mistake() -> list[Any]:
        ours = await trader(venue, b"\x04")
        order, _ = await ours.order("BTC-USD", 1)
        order.order_id.client_id = 2
        options = TxOptions([], 0, ours.wallet.account_number + 1)
        wrong_number = ours.node.builder.build(ours.wallet, _place(order), tx_options=options)
        ours.node.builder.chain_id = "dydx-mainnet-1"
        wrong_chain = ours.node.builder.build(ours.wallet, _place(order))
        return [(await ours.node.broadcast(tx)).tx_response for tx in (wrong_number, wrong_chain)]

    assert [(a.codespace, a.code) for a in asyncio.run(mistake())] == [("sdk", 4), ("sdk", 4)]


@pytest.mark.parametrize(
    ("changed", "codespace", "code"),
    [
        ({"quantums": 0}, "clob", 4),
        ({"subticks": 0}, "clob", 6),
        ({"good_til_block": lambda height: height - 3}, "clob", 10),
        ({"good_til_block": lambda height: height + 500}, "clob", 11),
        ({"quantums": 1_500_000}, "clob", 12),
        ({"subticks": 123}, "clob", 12),
        ({"time_in_force": 3}, "clob", 48),
        ({"reduce_only": True}, "clob", 2001),
        ({"time_in_force": 2}, "clob", 2003),
        ({"reduce_only": True, "time_in_force": 0}, "clob", 9003),
    ],
)
def test_the_chain_refuses_by_codespace_and_code(
    venue: VenueProcess, changed: dict[str, Any], codespace: str, code: int
) -> None:
    """Each bad order has its own number."""

    async def place() -> Any:
        ours = await trader(venue, b"\x05")
        client_id = code * 10 + len(changed)
        return (await ours.order("BTC-USD", client_id, **changed))[1].tx_response

    answer = asyncio.run(place())

    assert (answer.codespace, answer.code) == (codespace, code)


def test_the_same_transaction_is_taken_once(venue: VenueProcess) -> None:
    """The second time it is already in the cache: sdk 19."""

    async def twice() -> list[int]:
        ours = await trader(venue, b"\x06")
        order, _ = await ours.order("BTC-USD", 1)
        order.order_id.client_id = 2
        tx = ours.node.builder.build(ours.wallet, _place(order))
        return [(await ours.node.broadcast(tx)).tx_response.code for _ in range(2)]

    assert asyncio.run(twice()) == [0, 19]


def test_a_resting_order_is_seen_and_cancelled(venue: VenueProcess) -> None:
    """A bid far below rests, shows in the book, and goes with its cancel."""

    async def rest_and_cancel() -> tuple[Any, ...]:
        ours = await trader(venue, b"\x07")
        low = {"time_in_force": 2, "subticks": 50_000 * 100_000, "quantums": 7_000_000}
        order, placed = await ours.order("BTC-USD", 9, **low)
        client = IndexerClient(venue.rest)

        async def orders(among: Collection[str]) -> Any:
            rows = client.account.get_subaccount_orders
            return await seen(lambda: rows(ours.address, 0), lambda got: got[0]["status"] in among)

        resting = await orders({"BEST_EFFORT_OPENED"})
        book = await client.markets.get_perpetual_market_orderbook("BTC-USD")
        cancelled = await ours.node.cancel_order(
            ours.wallet, order.order_id, good_til_block=order.good_til_block
        )
        after = await orders(CANCELLED)
        return placed, resting, book, cancelled, after

    placed, resting, book, cancelled, after = asyncio.run(rest_and_cancel())

    assert placed.tx_response.code == cancelled.tx_response.code == 0
    assert resting[0]["status"] == "BEST_EFFORT_OPENED"
    assert {"price": "50000", "size": "0.0007"} in book["bids"]
    assert after[0]["status"] in CANCELLED


def test_a_batch_of_cancels_goes_with_one_message(venue: VenueProcess) -> None:
    """Two orders, one cancel; a repeated client id is refused: clob 45."""

    async def batch() -> tuple[Any, ...]:
        ours = await trader(venue, b"\x08")
        low = {"time_in_force": 2, "subticks": 40_000 * 100_000, "quantums": 1_000_000}
        for client_id in (1, 2):
            order, _ = await ours.order("BTC-USD", client_id, **low)
        id = SubaccountId(owner=ours.address, number=0)
        answers = [
            await ours.node.batch_cancel_orders(
                ours.wallet,
                id,
                [OrderBatch(clob_pair_id=0, client_ids=ids)],
                good_til_block=order.good_til_block,
            )
            for ids in ([1, 2], [1, 1])
        ]
        client = IndexerClient(venue.rest)
        orders = await seen(
            lambda: client.account.get_subaccount_orders(ours.address, 0),
            lambda got: len(got) == 2 and {order["status"] for order in got} <= CANCELLED,
        )
        return [answer.tx_response.code for answer in answers], orders

    codes, orders = asyncio.run(batch())

    assert codes == [0, 45]
    assert {order["status"] for order in orders} <= CANCELLED


def test_long_term_orders_use_the_sequence_and_rest_after_their_block(venue: VenueProcess) -> None:
    """The sequence counts what is taken; a second order of the same id is not: clob 3005."""

    async def place() -> tuple[Any, ...]:
        ours = await trader(venue, b"\x09")
        now = await IndexerClient(venue.rest).utility.get_time()
        order, _ = await ours.order("BTC-USD", 1)
        order.order_id.order_flags = 64
        order.time_in_force = 0
        order.subticks = 50_000 * 100_000
        order.good_til_block_time = int(now["epoch"]) + 3600
        answers = [(await ours.node.place_order(ours.wallet, order)).tx_response for _ in range(2)]
        sequence = (await ours.node.get_account(ours.address)).sequence
        stale = ours.node.builder.build(ours.wallet, _place(order))
        ours.wallet.sequence = sequence + 7
        wrong = ours.node.builder.build(ours.wallet, _place(order))
        late = (await ours.node.broadcast(wrong)).tx_response
        return (
            [(a.codespace, a.code) for a in answers],
            sequence,
            (late.codespace, late.code),
            stale,
        )

    answers, sequence, wrong, _ = asyncio.run(place())

    assert answers == [("", 0), ("clob", 3005)]
    assert sequence == 1
    assert wrong == ("sdk", 32)


def test_money_moves_between_wallet_and_subaccounts_for_a_fee(venue: VenueProcess) -> None:
    """Deposit, transfer and withdrawal are simulated, paid for and done; the free fee is not enough."""

    async def move() -> tuple[Any, ...]:
        ours = await trader(venue, b"\x0a", usdc=100)
        zero, one = (SubaccountId(owner=ours.address, number=n) for n in (0, 1))
        answers = [
            await ours.node.deposit(ours.wallet, ours.address, zero, 0, 50_000_000),
            await ours.node.transfer(ours.wallet, zero, one, 0, 30_000_000),
            await ours.node.withdraw(ours.wallet, one, ours.address, 0, 10_000_000),
            await ours.node.withdraw(ours.wallet, one, ours.address, 0, 10**12),
        ]
        from dydx_v4_client.node.message import deposit

        unpaid = await ours.node.broadcast_message(
            ours.wallet, deposit(ours.address, zero, 0, 1_000_000)
        )
        query = IndexerClient(venue.rest).account.get_subaccounts

        def moved(found: Any) -> bool:
            return [float(row["equity"]) for row in found["subaccounts"]] == [120.0, 20.0]

        found = await seen(lambda: query(ours.address), moved)
        return [answer.tx_response.code for answer in (*answers, unpaid)], found

    codes, found = asyncio.run(move())

    assert codes == [0, 0, 0, 102, 13]
    assert len(found["subaccounts"]) == 2


def test_the_node_answers_what_the_official_client_queries(venue: VenueProcess) -> None:
    """Blocks, balances, tiers, pairs, prices and perpetuals."""

    async def query_all() -> tuple[Any, ...]:
        ours = await trader(venue, b"\x0b")
        node = ours.node
        return (
            await node.latest_block(),
            await node.get_node_info(),
            await node.get_account_balances(ours.address),
            await node.get_fee_tiers(),
            await node.get_user_fee_tier(ours.address),
            await node.get_equity_tier_limit_config(),
            await node.get_clob_pairs(),
            await node.get_clob_pair(1),
            await node.get_price(0),
            await node.get_prices(),
            await node.get_perpetual(0),
            await node.get_perpetuals(),
            await node.get_subaccounts(),
            await node.get_user_stats(ours.address),
            await node.get_authenticators(ours.address),
        )

    block, info, balances, tiers, tier, equity, pairs, pair, price, all_prices, *rest = asyncio.run(
        query_all()
    )

    assert block.block.header.chain_id == "localdydxprotocol"
    assert "stand-in" in info.application_version.app_name
    assert len(balances.balances) == 2
    assert (tiers.params.tiers[0].taker_fee_ppm, tier.tier.maker_fee_ppm) == (500, 100)
    assert (
        equity.equity_tier_limit_config if hasattr(equity, "equity_tier_limit_config") else equity
    )
    assert (len(pairs.clob_pair), pair.id) == (3, 1)
    assert price.price * 10.0**price.exponent > 10_000
    assert len(all_prices.market_prices) == 3
    assert rest[0].perpetual.params.ticker == "BTC-USD"


def test_an_address_nobody_funded_has_no_account(venue: VenueProcess) -> None:
    """NOT_FOUND at the node, and an empty snapshot that waits for money on the socket."""
    stranger = Wallet(KeyPair(PrivateKey(b"\x7f" * 32)), 0, 0).address

    async def query_all() -> None:
        node = await NodeClient.connect(network(venue).node)
        await node.get_account(stranger)

    with pytest.raises(Exception, match="NOT_FOUND"):
        asyncio.run(query_all())
    with Listener(venue.ws, lambda ws: ws.subaccounts.subscribe(stranger, 0)) as listener:
        received = listener.until(lambda message: message["type"] == "subscribed")
    assert received[-1]["contents"] == {}
