"""Each disturbance does what its switch says, by the seed, and nothing without it."""

import asyncio
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "venue"))

from disturbances import HARSH, NONE, Disturbances, Spells
from exchange import Exchange, Silence, VenueSettings  # the folder's modules are siblings
from indexer import ClientConnection, SocketHub, application, fetcher
from node import Stops
from tape import from_iso

START_NS = from_iso("2026-01-05T13:56:00Z")


def venue(sink: Any = None, **switches: Any) -> Exchange:
    """Make a venue of one market with some switches."""
    settings = VenueSettings(
        markets=1, start_ns=START_NS, disturbances=Disturbances(**switches)
    )  # fmt: skip
    return Exchange(settings, sink or Silence())


def run(exchange: Exchange, seconds: float) -> None:
    """Let venue time pass."""
    for _ in range(int(seconds * 10)):
        exchange.step()


class Heights:
    """A sink that stores the heights of blocks, and which the chain was at."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.lags: list[int] = []

    def wanted(self, channel: str, id: str) -> bool:
        return True

    def publish(self, channel: str, id: str, contents: Any, subaccount: int | None = None) -> None:
        if channel == "v4_block_height" and self.exchange is not None:
            self.lags.append(self.exchange.height - int(contents["blockHeight"]))


def test_spells_come_by_the_seed_and_have_their_lengths() -> None:
    """The same seed gives the same; none without an interval."""
    spells = [Spells(Random(7), 20.0, 2.0, 5.0) for _ in range(2)]
    first, again = ([each.on(n * 10**8) for n in range(6000)] for each in spells)
    lengths = [len(run) / 10 for run in "".join("x" if on else " " for on in first).split()]

    assert first == again
    assert all(1.8 <= length <= 5.2 for length in lengths)
    assert 10 < len(lengths) < 45
    assert not any(Spells(Random(7), 0.0, 2.0, 5.0).on(n * 10**8) for n in range(6000))


# === Lags ===


def test_the_indexer_falls_behind_the_node_and_catches_up() -> None:
    """By up to so many blocks; no height is left out, none comes twice, without the switch none."""
    late, prompt = Heights(), Heights()
    late.exchange, prompt.exchange = venue(late, indexer_lag=8), venue(prompt)
    run(late.exchange, 200)
    run(prompt.exchange, 20)

    assert set(prompt.lags) == {0}
    assert min(late.lags) == 0
    assert 4 <= max(late.lags) <= 8
    assert len(late.lags) > 150


def test_rest_is_behind_the_sockets_and_ahead_of_them() -> None:
    """By up to so many blocks, from answer to answer."""
    exchange = venue(replica_lag=3)
    apart = []
    for _ in range(100):
        run(exchange, 1)
        replicas = exchange.replicas
        apart += [replicas.rest().height - replicas.socket_height for _ in range(3)]

    assert min(apart) < 0 < max(apart)
    assert max(map(abs, apart)) <= 3


def test_a_replica_shows_the_accounts_and_trades_of_its_height() -> None:
    """Nothing that a later block did."""
    exchange = venue(replica_lag=5)
    resident = exchange.residents[-1].subaccount
    for _ in range(60):
        run(exchange, 1)
        view = exchange.replicas.rest()
        ledger = view.accounts.ledgers[resident]
        fills = ledger.history.fills(limit=1000).rows
        assert all(fill.created.height <= view.height for fill in fills)
        assert sum(fill.quantums for fill in fills) == ledger.position("BTC-USD")


def test_a_snapshot_is_never_older_than_its_socket() -> None:
    """What comes after it goes on from it, or was in it already."""
    exchange = venue(replica_lag=5, indexer_lag=5)
    for _ in range(50):
        run(exchange, 1)
        assert exchange.replicas.snapshot().height >= exchange.replicas.socket_height


# === Answers ===


def answers(exchange: Exchange, path: str, times: int) -> list[httpx.Response]:
    """Query REST so many times."""

    async def query() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application(exchange, SocketHub(7)))
        async with httpx.AsyncClient(transport=transport, base_url="http://venue") as client:
            return [await client.get(path) for _ in range(times)]

    return asyncio.run(query())


def test_a_share_of_answers_is_none_and_says_so_in_many_ways() -> None:
    """JSON of four authors, HTML and nothing, with an error's status and with 200."""
    path = "/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN"
    wrong = [a for a in answers(venue(errors=0.5), path, 400) if b'"candles"' not in a.content]
    bodies = {answer.content for answer in wrong}

    assert 150 < len(wrong) < 250
    assert {b"", b"{}", b"null"} < bodies
    assert {200, 404, 500, 502, 503, 504} <= {answer.status_code for answer in wrong}
    assert any(b"<html>" in body for body in bodies)
    assert any("problem" in answer.headers.get("content-type", "") for answer in wrong)


@pytest.mark.parametrize("status", [403, 451])
def test_a_geo_block_refuses_answers_and_subscriptions(status: int) -> None:
    """With its words, and no word else."""
    exchange = venue(geo_block=status)
    [answer] = answers(exchange, "/v4/height", 1)
    connection = ClientConnection(SocketHub(7), fetcher(exchange), lambda: 0.0)
    connection.receive('{"type":"subscribe","channel":"v4_markets"}')
    connection.answer(1)
    error = json.loads(connection.out[-1])

    assert answer.status_code == status
    assert "you have been blocked" in answer.json()["errors"][0]["msg"]
    assert (error["type"], error["channel"]) == ("error", "v4_markets")
    assert "you have been blocked" in error["message"]


# === Silence, stops, makers ===


def test_a_silent_subscription_stays_so_until_it_is_made_again() -> None:
    """The socket lives, and to subscribe again is refused while it counts as subscribed."""
    hub = SocketHub(7, 5.0)
    exchange = venue(hub)
    connection = ClientConnection(hub, fetcher(exchange), iter(range(100)).__next__)
    connection.open()

    def send(kind: str) -> str:
        connection.receive(f'{{"type":"{kind}","channel":"v4_block_height"}}')
        for message_id in list(connection.waiting):
            connection.answer(message_id)
        return str(json.loads(connection.out[-1])["type"])

    def received() -> int:
        before = len(connection.out)
        run(exchange, 5)
        return len(connection.out) - before

    kinds = [send("subscribe")]
    assert received() > 3
    hub.silence(1)
    hub.silence(10**12)
    assert received() == 0
    kinds += [send("subscribe"), send("unsubscribe"), send("subscribe")]
    assert received() > 3
    assert kinds == ["subscribed", "error", "unsubscribed", "subscribed"]


def test_a_node_that_stops_answers_when_it_goes_on() -> None:
    """What was requested waits, and is not lost."""
    exchange = venue(node_stops=0.001)
    stops = Stops(exchange)

    async def ask() -> list[str]:
        async def service(_details: Any) -> str:
            return "answered"

        stops._spells.on(exchange.now_ns)
        run(exchange, 1)
        answer = asyncio.ensure_future(stops.intercept_service(service, None))
        await asyncio.sleep(0.1)
        states = [str(answer.done())]
        # The spells follow each other at once: time has to end somewhere in between.
        stops._spells = Spells(Random(7), 0.0, 0.0, 0.0)
        return [*states, await answer]

    assert asyncio.run(ask()) == ["False", "answered"]


def test_makers_that_leave_let_a_thin_book_stand_far_from_the_price() -> None:
    """Bids some 9 % below it; then they come back."""
    exchange = venue(makers_leave=10.0)
    tape, away = exchange.tapes["BTC-USD"], []
    for _ in range(900):
        exchange.step()
        bid = tape.book.book.best_bid
        assert bid is not None
        away.append(1 - float(tape.price_text(bid)) / tape.book.fair)

    assert 0.08 < max(away) < 0.11
    assert min(away[600:]) < 0.001


def test_harsh_is_all_of_it_but_the_geo_block() -> None:
    """A bot that is blocked cannot show anything else."""
    names = Disturbances.__dataclass_fields__

    assert {name for name in names if not getattr(HARSH, name)} == {"geo_block"}
    assert not any(getattr(NONE, name) for name in names)
