"""The venue's socket connection and its words, without a socket, and read by dydx_conn."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from dydx_conn import contents, rest_contents, ws_frame
from dydx_paper import PnlPoint, Stamp

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from exchange import Exchange, Silence, VenueSettings  # the folder's modules are siblings
from indexer import ClientConnection, Closing, RateLimits, SocketHub, application, snapshot
from node import CHAIN_ID, address_of
from tape import from_iso

START_NS = from_iso("2026-01-05T13:56:00Z")


class Client:
    """A connection to a venue in this process; `now` is its wall clock."""

    def __init__(self, **settings: Any) -> None:
        self.hub = SocketHub(7)
        self.exchange = Exchange(VenueSettings(start_ns=START_NS, **settings), self.hub)
        self.now = 0.0
        self.connection = ClientConnection(
            self.hub, lambda channel, id: snapshot(self.exchange, channel, id), lambda: self.now
        )
        self.connection.open()

    def send(self, **message: Any) -> None:
        self.connection.receive(json.dumps(message))
        for message_id in list(self.connection.waiting):
            self.connection.answer(message_id)

    def subscribe(self, channel: str, id: str | None = None, **more: Any) -> None:
        named = {"id": id} if id is not None else {}
        self.send(type="subscribe", channel=channel, **named, **more)

    def run(self, seconds: float) -> None:
        for step in range(int(seconds * 10)):
            self.exchange.step()
            if step % 5 in (2, 4):
                self.hub.flush()

    def received(self) -> list[dict[str, Any]]:
        out = [json.loads(text) for text in self.connection.out]
        self.connection.out.clear()
        return out


def test_every_message_is_read_by_the_connection_layer() -> None:
    """What the venue sends on every channel, in a crash, decodes without a complaint."""
    client = Client(scenario="crash", calm_s=5)
    gambler = str(client.exchange.residents[-1].subaccount)
    for batched in (False, True):
        client.subscribe("v4_markets", batched=batched)
        client.subscribe("v4_block_height", batched=batched)
        for channel in ("v4_orderbook", "v4_trades"):
            client.subscribe(channel, "SOL-USD" if batched else "BTC-USD", batched=batched)
        client.subscribe("v4_candles", "BTC-USD/1MIN" if batched else "BTC-USD/1DAY")
    client.subscribe("v4_subaccounts", gambler)
    client.subscribe("v4_parent_subaccounts", gambler)
    client.run(60)
    texts = list(client.connection.out)
    channels = set()

    for number, text in enumerate(texts):
        frame = ws_frame(number, 0, 0, "venue", text)
        # dydx_conn subscribes to no parent: its snapshot has children where others have positions.
        if (frame.type, frame.channel) != ("subscribed", "v4_parent_subaccounts"):
            contents(frame)
        channels.add((frame.type, frame.channel))

    assert len(texts) > 1000
    assert len({channel for kind, channel in channels if kind == "channel_data"}) == 7


def test_a_gambler_in_a_crash_is_liquidated_bit_by_bit() -> None:
    """Fills of type LIQUIDATED come on the account's channel until it is safe or flat."""
    client = Client(scenario="crash", calm_s=60)
    gambler = client.exchange.residents[-1].subaccount
    client.run(58)
    client.subscribe("v4_subaccounts", str(gambler))
    client.run(90)
    fills = [
        fill
        for message in client.received()
        for fill in (message.get("contents") or {}).get("fills", [])
        if fill["type"] == "LIQUIDATED"
    ]

    assert len(fills) > 3
    assert {fill["side"] for fill in fills} == {"SELL"}


def test_every_account_balances_to_the_last_quantum() -> None:
    """What left a balance is in fills, fees, funding or insurance, for every resident."""
    client = Client(scenario="crash", calm_s=130)
    client.run(260)

    for ledger in client.exchange.accounts.ledgers.values():
        where = ledger.paid
        paid = where.for_fills + where.fees + where.funding + where.insurance
        assert ledger.collateral == ledger.deposits - paid


def test_a_batch_is_an_array_and_single_messages_are_objects() -> None:
    """Batched subscribers get one message per flush, oldest first; the others each update."""
    client = Client()
    client.subscribe("v4_orderbook", "BTC-USD", batched=True)
    client.subscribe("v4_orderbook", "ETH-USD", batched=False)
    client.run(1)
    data = [message for message in client.received() if message["type"].endswith("data")]
    batched = [message for message in data if message["id"] == "BTC-USD"]
    single = [message for message in data if message["id"] == "ETH-USD"]

    assert len(batched) == 4
    assert all(isinstance(message["contents"], list) for message in batched)
    assert len(single) > 10
    assert all(isinstance(message["contents"], dict) for message in single)


def test_a_slow_snapshot_keeps_the_id_of_its_request() -> None:
    """What is sent while the snapshot is fetched has later ids and comes first."""
    client = Client()
    client.subscribe("v4_block_height")
    client.received()
    client.connection.receive('{"type":"subscribe","channel":"v4_trades","id":"BTC-USD"}')
    client.run(2)
    client.connection.answer(2)
    received = client.received()

    assert received[-1]["type"] == "subscribed"
    assert received[-1]["message_id"] == 2
    assert [message["message_id"] for message in received[:-1]] == list(range(3, 2 + len(received)))


def test_a_connection_takes_thirty_two_subscriptions_of_a_channel() -> None:
    """The thirty-third is refused and the rest goes on."""
    client = Client(markets=33)
    for ticker in client.exchange.tapes:
        client.subscribe("v4_trades", ticker)
    *before, last = client.received()

    assert [message["type"] for message in before] == ["connected", *["subscribed"] * 32]
    assert last["message"].startswith("Per-connection subscription limit reached for v4_trades")
    assert last["message_id"] == 32


def test_a_second_subscription_is_refused_and_the_third_attempt_closes() -> None:
    """Twice a second per channel and id is the most; then 1008."""
    client = Client()
    client.subscribe("v4_orderbook", "BTC-USD")
    client.subscribe("v4_orderbook", "BTC-USD")

    with pytest.raises(Closing) as closing:
        client.subscribe("v4_orderbook", "BTC-USD")

    words = [message.get("message", "") for message in client.received()]
    assert words[-2] == "Invalid subscribe message: already subscribed (v4_orderbook-BTC-USD)"
    assert words[-1].startswith("Too many subscribe attempts for channel v4_orderbook-BTC-USD")
    assert closing.value.code == 1008


def test_attempts_are_forgotten_after_a_second() -> None:
    """A patient client may try again and again."""
    client = Client()
    for _ in range(5):
        client.subscribe("v4_orderbook", "BTC-USD")
        client.now += 0.6

    assert [message["type"] for message in client.received()].count("error") == 4


def test_unsubscribing_ends_the_data() -> None:
    """After `unsubscribed` nothing more of that channel comes."""
    client = Client()
    client.subscribe("v4_orderbook", "BTC-USD", batched=True)
    client.run(0.2)
    client.send(type="unsubscribe", channel="v4_orderbook", id="BTC-USD")
    client.run(1)

    assert [message["type"] for message in client.received()] == [
        "connected",
        "subscribed",
        "unsubscribed",
    ]
    assert not client.hub.listeners


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "subscribe", "channel": "v4_orders"}, "Invalid channel: v4_orders"),
        (
            {"type": "subscribe", "channel": "v4_trades"},
            "Invalid subscription id for channel: (v4_trades-None)",
        ),
        (
            {"type": "subscribe", "channel": "v4_trades", "id": "NO-USD"},
            "Invalid subscription id for channel: (v4_trades-NO-USD)",
        ),
        (
            {"type": "subscribe", "channel": "v4_candles", "id": "BTC-USD/2MIN"},
            "Invalid subscription id for channel: (v4_candles-BTC-USD/2MIN)",
        ),
        (
            {"type": "subscribe", "channel": "v4_subaccounts", "id": "me/0"},
            "Invalid subscription id for channel: (v4_subaccounts-me/0)",
        ),
    ],
)
def test_what_cannot_be_subscribed_is_refused(message: dict[str, Any], error: str) -> None:
    """An error with the text of the real server; the connection stays open."""
    client = Client()
    client.send(**message)

    assert client.received()[-1]["message"] == error


def test_children_are_distinguished_on_the_parents_channel() -> None:
    """Updates of subaccount 128 come on the parent's channel with their number."""
    client = Client()
    owner = client.exchange.residents[0].subaccount.owner
    client.subscribe("v4_parent_subaccounts", f"{owner}/0")
    child = type(client.exchange.residents[0].subaccount)(owner, 128)
    client.exchange.accounts.faucet(child, 1_000_000)
    client.received()
    client.run(1.5)
    of_child = [m for m in client.received() if m["subaccountNumber"] == 128]

    assert any("transfers" in message["contents"] for message in of_child)


def test_rate_limits_count_per_client_and_group_in_windows_of_ten_seconds() -> None:
    """A hundred pass, the next waits; another client, group or window is not touched."""
    now = 1000.0
    limits = RateLimits(lambda: now)
    passed = [limits.take("a", "/v4/height")[1] for _ in range(101)]
    headers, _ = limits.take("a", "/v4/height")

    assert passed == [True] * 100 + [False]
    assert headers["Retry-After"] == "10000"
    assert limits.take("b", "/v4/height")[1]
    assert limits.take("a", "/v4/candles/perpetualMarkets/BTC-USD")[0]["RateLimit-Limit"] == "1000"
    now += 10
    assert limits.take("a", "/v4/height")[1]


def test_the_market_list_reads_back_as_markets() -> None:
    """`/perpetualMarkets` is what dydx_conn takes markets from."""
    exchange = Exchange(VenueSettings(markets=250, start_ns=START_NS), Silence())
    body = json.dumps(snapshot(exchange, "v4_markets", "v4_markets"))

    assert len(rest_contents("/v4/perpetualMarkets", body).markets) == 250


def rest(exchange: Exchange, *paths: str) -> list[Any]:
    """Return what REST answers to each path, decoded as dydx_conn does."""

    async def query() -> list[Any]:
        transport = httpx.ASGITransport(application(exchange, SocketHub(7)))
        async with httpx.AsyncClient(transport=transport, base_url="http://venue") as client:
            return [rest_contents(path, (await client.get(path)).text) for path in paths]

    return asyncio.run(query())


def test_what_two_subaccounts_sent_each_other_is_listed_and_summed() -> None:
    """From the first one's side: what it had back counts against what it sent."""
    exchange = Exchange(VenueSettings(start_ns=START_NS), Silence())
    one, other = (resident.subaccount for resident in exchange.residents[:2])
    for sender, to, amount in ((one, other, 5_000_000), (other, one, 2_000_000)):
        exchange.accounts.transfer(sender, to, amount)
        exchange.block()
    between = "/v4/transfers/between?sourceAddress={}&recipientAddress={}"
    numbers = "&sourceSubaccountNumber=0&recipientSubaccountNumber=0"

    seen, turned, unknown, refused = rest(
        exchange,
        between.format(one.owner, other.owner) + numbers,
        between.format(other.owner, one.owner) + numbers,
        between.format("dydx1nobody", one.owner) + numbers,
        "/v4/transfers/between",
    )

    assert [(row.type, row.size) for row in seen.transfers_subset] == [
        ("TRANSFER_IN", "2"),
        ("TRANSFER_OUT", "5"),
    ]
    assert (seen.total_net_transfers, turned.total_net_transfers) == ("3", "-3")
    assert (unknown.transfers_subset, unknown.total_net_transfers) == ([], "0")
    assert refused.errors[0].msg == "sourceAddress is required"


def test_a_parents_profit_is_queried_like_a_childs() -> None:
    """Under the same name with an end of its own."""
    exchange = Exchange(VenueSettings(start_ns=START_NS), Silence())
    owner = exchange.residents[0].subaccount.owner

    [answer] = rest(
        exchange, f"/v4/pnl/parentSubaccountNumber?address={owner}&parentSubaccountNumber=0"
    )

    assert isinstance(answer.pnl, list)


def test_historical_profit_has_what_was_paid_in_within_the_hour_and_pnl_all_of_it() -> None:
    """As the indexer: the older endpoint counts transfers since its point before."""
    exchange = Exchange(VenueSettings(start_ns=START_NS), Silence())
    whose = exchange.residents[0].subaccount
    ledger = exchange.accounts.ledgers[whose]
    for hour, paid_in in enumerate((100, 100, 150), start=1):
        created = Stamp(hour, START_NS - (4 - hour) * 3_600 * 10**9)
        point = PnlPoint(equity=200_000_000, net_transfers=paid_in * 10**6, created=created)
        ledger.history.keep(point)
    query = f"?address={whose.owner}&subaccountNumber=0"

    hourly, whole = rest(exchange, f"/v4/historical-pnl{query}", f"/v4/pnl{query}")

    assert [row.net_transfers for row in hourly.historical_pnl] == ["50", "0", "100"]
    assert [row.net_transfers for row in whole.pnl] == ["150", "100", "100"]
    assert [row.total_pnl for row in hourly.historical_pnl] == ["50", "100", "100"]


def test_addresses_are_derived_as_the_chain_does() -> None:
    """The generator's key gives the account of BIP 173's example, under our prefix."""
    generator = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")

    assert address_of(generator)[:-6] == "dydx1w508d6qejxtdg4y5r3zarvary0c5xw7k"
    assert CHAIN_ID == "localdydxprotocol"
