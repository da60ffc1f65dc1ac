"""The live source against a real socket on loopback: what is lost is seen, and comes back."""

import contextlib
import dataclasses
import datetime
import http
import ipaddress
import itertools
import json
import random
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dydx_conn
import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dydx_conn import (
    NETWORKS,
    PER_CONNECTION,
    BookContents,
    Channel,
    ConnError,
    Endpoint,
    Frame,
    Inbox,
    Lag,
    MarketsContents,
    Network,
    NetworkError,
    Subaccount,
    WireError,
    collect,
    connection_states,
    contents,
    endpoint_label,
    key_of,
    live,
    network,
    subscription,
    subscriptions,
)
from dydx_v4_client.indexer.socket.websocket import IndexerSocket
from msgspec.structs import replace
from reactivex import from_iterable
from reactivex import operators as ops
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.frames import Opcode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 60.0

CONNECTED = '{"type":"connected","connection_id":"a","message_id":0}'
MARKETS = '{"markets":{"BTC-USD":{"ticker":"BTC-USD","oraclePrice":null}}}'


@dataclass
class Venue:
    """A socket and REST on one port; `behave` is what each connection does after `connected`."""

    answer: tuple[int, str] = (200, MARKETS)
    context: ssl.SSLContext | None = None
    received: list[list[dict[str, Any]]] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    origins: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.release = threading.Event()
        self.behave: Callable[[ServerConnection, int], None] = lambda *_: None
        # What each request is answered with, after its id is counted; what nothing is, is not.
        self.reply: Callable[[dict[str, Any], list[dict[str, Any]]], Iterable[Any]] = confirm

    def rest(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no request for a socket."""
        if "Upgrade" in request.headers:
            self.origins.append(request.headers.get("Origin"))
            return None
        self.requested.append(request.path)
        status, body = self.answer
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(status, http.HTTPStatus(status).phrase, headers, body.encode())

    def serve(self, connection: ServerConnection) -> None:
        """Greet, confirm what is subscribed, and misbehave as `behave` does."""
        number, received = len(self.received), list[dict[str, Any]]()
        self.received.append(received)
        with contextlib.suppress(ConnectionClosed):
            connection.send(CONNECTED)
            self.behave(connection, number)
            for text in connection:
                request = json.loads(text)
                received.append(request)
                for answer in self.reply(request, received):
                    connection.send(json.dumps(answer))


def confirm(request: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer a request as the venue does, with an id that nothing else takes."""
    what = {"channel": request["channel"], "id": request.get("id")}
    empty: dict[str, Any] = {
        "v4_orderbook": {"bids": [], "asks": []},
        "v4_markets": {"markets": {}},
    }
    message = {"type": f"{request['type']}d", "message_id": len(received), **what}
    return [{**message, "contents": empty.get(request["channel"], {})}]


@contextlib.contextmanager
def running(venue: Venue) -> Iterator[Network]:
    """Open a venue on a port of its own."""
    server: Server = serve(
        venue.serve, "127.0.0.1", 0, process_request=venue.rest, ssl=venue.context
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    here = f"127.0.0.1:{server.socket.getsockname()[1]}"
    s = "s" if venue.context else ""
    try:
        yield Network(
            name="local", rest=f"http{s}://{here}", ws=f"ws{s}://{here}/v4/ws", node="", chain_id=""
        )
    finally:
        venue.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tick and come back faster than a person could bear."""
    monkeypatch.setattr(dydx_conn, "_TICK_NS", 50_000_000)
    monkeypatch.setattr(dydx_conn, "_BACKOFF_S", (0.01, 0.02))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Whatever happened, in the end no thread is left."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        while thread.ident is None:  # it was begun, and does not run yet: nobody can join it
            threading.Event().wait(0.01)
        thread.join(PATIENCE_S)  # the one that polls REST may be about to end
    assert set(threading.enumerate()) - before == set()


def listen(
    where: Network,
    tickers: list[str],
    enough: Callable[[list[Frame]], bool],
    subaccount: Subaccount | None = None,
    **more: Any,
) -> list[Frame]:
    """Receive until there is enough; a test that needs 30,000 frames has failed."""
    frames: list[Frame] = []

    def pace(frame: Frame) -> bool:
        return not enough(frames) and frame.seq < 30_000

    live(where, tickers, subaccount=subaccount, pace=pace, **more).subscribe(frames.append)
    assert enough(frames), [(frame.kind, frame.text[:99]) for frame in frames]
    return frames


def count(kind: str, number: int, type_: str = "") -> Callable[[list[Frame]], bool]:
    """Be content with so many frames of a kind."""
    return lambda frames: (
        sum(f.kind == kind and (not type_ or f.type == type_) for f in frames) >= number
    )


def both(*conditions: Callable[[list[Frame]], bool]) -> Callable[[list[Frame]], bool]:
    """Be content when all are met."""
    return lambda frames: all(condition(frames) for condition in conditions)


# === Receiving ===


def test_the_edge_measures_its_pings_and_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an answer to a ping took, by link, and how REST stands, for whoever looks."""
    monkeypatch.setattr(dydx_conn, "_PING_S", 0.02)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.01)
    monkeypatch.setattr(dydx_conn, "_MEASURED_S", 0.05)
    inbox, venue = Inbox(), Venue()

    def measured(_: list[Frame]) -> bool:
        rest = inbox.vitals.rest
        answered = rest is not None and any(each.answered for each in rest.endpoints.values())
        return answered and len(inbox.vitals.pings.get("c1", ())) > 1

    with running(venue) as here:
        listen(here, ["BTC-USD"], measured, inbox=inbox)

    assert all(0 < seconds < PATIENCE_S for seconds in inbox.vitals.pings["c1"])
    assert inbox.vitals.rest is not None
    assert endpoint_label("/v4/perpetualMarkets?limit=1") in inbox.vitals.rest.endpoints


def test_of_pings_the_newest_are_stored() -> None:
    """A link that lives for days holds no more of them."""
    vitals = Inbox().vitals
    for number in range(100):
        vitals.ponged("c1", float(number))

    assert vitals.pings["c1"] == tuple(map(float, range(36, 100)))


def test_candles_are_requested_at_the_start_the_shortest_first() -> None:
    """Over REST, a page of 240 for each market and resolution, as frames like all others."""
    venue = Venue(answer=(200, '{"markets":{},"candles":[]}'))
    names = ["1HOUR", "1MIN", "5MINS"]
    history = [("v4_candles", f"{name}-USD/{each}") for each in names for name in "ABCD"]
    with running(venue) as here:
        frames = listen(here, ["A-USD"], count("http", 14), history=history)

    answered = [key_of(frame) for frame in frames if frame.kind == "http"]
    pages = [path for path in venue.requested if "/v4/candles/" in path]
    assert {*history} <= {*answered}
    assert (len(pages), all("limit=240" in page for page in pages)) == (12, True)
    # Eight are requested at once: of an hour none before all of a minute.
    assert all("1HOUR" not in page for page in pages[:4])
    assert sum("1HOUR" in page for page in pages[8:]) >= 3


def test_candles_are_requested_again_after_a_gap_and_when_they_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the trades' next snapshot; and as the period that was growing ends."""
    monkeypatch.setattr(dydx_conn, "CANDLE_S", {"1MIN": 0.4, "5MINS": 1_000})
    monkeypatch.setattr(dydx_conn, "_SETTLED_S", 0.0)
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue(answer=(200, '{"markets":{},"candles":[]}'))
    history = [("v4_candles", "BTC-USD/1MIN"), ("v4_candles", "BTC-USD/5MINS")]
    # The first of each, and one again: the first ones are answered, and not what the gap asks for.
    jumping(venue, at=4, by=3, pages=3)

    def pages(frames: list[Frame], name: str) -> int:
        return sum(f.kind == "http" and name in f.channel for f in frames)

    with running(venue) as here:
        frames = listen(
            here, ["BTC-USD"], lambda x: pages(x, "5MINS") >= 2 and pages(x, "1MIN") >= 3,
            history=history,
        )  # fmt: skip

    assert pages(frames, "5MINS") == 2
    assert [frame.message_id for frame in frames if frame.kind == "gap"] == [3]


def test_hourly_rates_are_requested_one_by_one_and_again_after_each_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page of 240 each, in turn: a market's rates are no part of what its books need."""
    monkeypatch.setattr(dydx_conn, "_TICK_S", 0.5)
    monkeypatch.setattr(dydx_conn, "_TICKED_S", 0.0)
    venue = Venue(answer=(200, '{"markets":{},"historicalFunding":[]}'))
    history = [("historical_funding", f"{name}-USD") for name in "ABC"]
    with running(venue) as here:
        frames = listen(here, ["A-USD"], count("http", 7), history=history)

    path = "/v4/historicalFunding/{}-USD?limit=240"
    answered = [frame.channel for frame in frames if frame.channel.startswith("/v4/historical")]
    assert answered[:6] == [path.format(name) for name in "ABCABC"]


def test_a_network_is_received_through_the_official_client() -> None:
    """Markets over REST, then the socket: open, its words, and what it confirms."""
    venue = Venue()
    owner = Subaccount("dydx1owner", 3)
    with running(venue) as here:
        frames = listen(
            here,
            ["BTC-USD", "ETH-USD"],
            both(count("ws", 7, "subscribed"), count("http", 1), count("tick", 2)),
            owner,
        )

    http_frame = next(frame for frame in frames if frame.kind == "http")
    (markets,) = contents(http_frame)
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert isinstance(markets, MarketsContents)
    assert markets.markets["BTC-USD"].oracle_price is None
    assert (http_frame.type, http_frame.text, http_frame.link) == ("200", MARKETS, "rest")
    assert venue.requested == ["/v4/perpetualMarkets"]
    tried, opened, *received = [f for f in frames if f.link == "c1" and f.kind != "sent"]
    sent = [frame for frame in frames if frame.kind == "sent"]
    assert tried.kind == "tick"
    assert (opened.kind, opened.text) == ("open", here.ws)
    assert (received[0].kind, received[0].text, received[0].type) == ("ws", CONNECTED, "connected")
    assert [json.loads(frame.text) for frame in sent] == venue.received[0]
    assert [(message["channel"], message.get("id")) for message in venue.received[0]] == [
        # Books and accounts first: a loss makes them unknown.
        ("v4_orderbook", "BTC-USD"),
        ("v4_orderbook", "ETH-USD"),
        ("v4_subaccounts", "dydx1owner/3"),
        ("v4_markets", None),
        ("v4_block_height", None),
        ("v4_trades", "BTC-USD"),
        ("v4_trades", "ETH-USD"),
    ]
    assert venue.origins == [None]
    assert all(0 < frame.mono for frame in frames)


def test_markets_beyond_a_connections_limit_get_another() -> None:
    """What is not a market's is requested once."""
    venue = Venue()
    tickers = [f"T{i}-USD" for i in range(PER_CONNECTION + 1)]
    with running(venue) as here:
        frames = listen(here, tickers, count("ws", 2 * len(tickers) + 2, "subscribed"))

    books = [
        [message["id"] for message in received if message["channel"] == "v4_orderbook"]
        for received in venue.received
    ]
    channels = Counter(message["channel"] for received in venue.received for message in received)
    assert sorted(map(len, books)) == [1, PER_CONNECTION]
    assert sorted(books[0] + books[1]) == sorted(tickers)
    assert (channels["v4_markets"], channels["v4_block_height"]) == (1, 1)
    assert {frame.link for frame in frames if frame.kind == "ws"} == {"c1", "c2"}


def test_no_tickers_are_a_connection_for_the_markets_alone() -> None:
    """Enough to choose from."""
    venue = Venue()
    with running(venue) as here:
        listen(here, [], count("ws", 2, "subscribed"))

    assert [message["channel"] for message in venue.received[0]] == [
        "v4_markets",
        "v4_block_height",
    ]


def test_binary_messages_are_read_as_text() -> None:
    """Nothing sends them; none may stop the stream."""
    venue = Venue()
    venue.behave = lambda connection, _: connection.send(b'{"type":"pong"}\xff')
    with running(venue) as here:
        frames = listen(here, [], count("ws", 4))

    assert any(frame.text == '{"type":"pong"}\ufffd' and frame.fault for frame in frames)


# === Sharing ===


def test_however_many_subscribe_there_is_one_connection() -> None:
    """A later subscriber, from any thread, joins; one that leaves stops no other."""
    venue = Venue()
    with running(venue) as here:
        first, second, third = list[Frame](), list[Frame](), list[Frame]()
        frames = live(here, ["BTC-USD"], pace=lambda _: not count("tick", 8)(first))

        def join(frame: Frame) -> None:
            first.append(frame)
            if frame.kind == "open":
                other = threading.Thread(target=lambda: frames.subscribe(second.append))
                other.start()
                other.join()
            if frame.type == "connected":
                frames.pipe(ops.take(2)).subscribe(third.append)

        frames.subscribe(join)

    opened = next(n for n, frame in enumerate(first) if frame.kind == "open")
    connected = next(n for n, frame in enumerate(first) if frame.type == "connected")
    assert len(venue.received) == 1
    assert second == first[opened + 1 :]
    assert third == first[connected + 1 :][:2]
    assert [frame.seq for frame in first] == list(range(1, len(first) + 1))


def test_the_first_may_leave_before_the_others() -> None:
    """It is received for them until the last has left, and again for whoever comes then."""
    venue = Venue()
    with running(venue) as here:
        first, second, again = list[Frame](), list[Frame](), list[Frame]()
        frames = live(here, [])

        def join(frame: Frame) -> None:
            if not first:
                frames.pipe(ops.take(9)).subscribe(second.append)
            first.append(frame)

        frames.pipe(ops.take(3)).subscribe(join)
        assert (len(first), len(second), len(venue.received)) == (3, 9, 1)
        frames.pipe(ops.take(1)).subscribe(again.append)

    assert [frame.seq for frame in again] == [1]


def test_who_comes_after_the_end_receives_the_end() -> None:
    """Nothing is opened for them."""
    venue, ends = Venue(), list[str]()
    with running(venue) as here:
        frames = live(here, [], pace=lambda frame: frame.kind != "ws")
        for name in ("first", "late"):
            frames.subscribe(on_completed=partial(ends.append, name))

    assert (ends, len(venue.received)) == (["first", "late"], 1)


def test_a_bug_of_a_subscriber_is_raised_and_closes_the_links() -> None:
    """On the thread that receives, through whatever it shares."""

    def broken(frame: Frame) -> None:
        raise ZeroDivisionError(frame.seq)

    with running(Venue()) as here, pytest.raises(ZeroDivisionError):
        live(here, []).subscribe(broken)


# === Losing ===


def test_a_close_is_seen_with_its_code_and_followed_by_a_new_connection() -> None:
    """The server's reason stands in the close frame; all is resubscribed."""
    venue = Venue()

    def restart(connection: ServerConnection, number: int) -> None:
        if number == 0:
            connection.close(1012, "restart")

    venue.behave = restart
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 4, "subscribed"))

    kinds = [frame.kind for frame in frames if frame.link == "c1" and frame.kind != "sent"]
    close = next(frame for frame in frames if frame.kind == "close")
    assert kinds[:7] == ["tick", "open", "ws", "close", "tick", "open", "ws"]
    assert close.type == "1012"
    assert "restart" in close.text
    assert len(venue.received[1]) == 4


def test_a_broken_link_is_seen_too() -> None:
    """Without a close frame there is no code, but a reason."""
    venue = Venue()
    venue.behave = lambda connection, number: connection.socket.shutdown(2) if number == 0 else None
    with running(venue) as here:
        frames = listen(here, [], count("open", 2))

    close = next(frame for frame in frames if frame.kind == "close")
    assert close.type == "0"
    assert close.text


def test_a_venue_that_is_not_there_is_tried_again_and_again() -> None:
    """Close frames have the reason, a gap frame has REST's failure, no error ends the stream."""
    with running(Venue()) as here:
        pass

    frames = listen(here, [], both(count("close", 3), count("gap", 1)))

    close = next(frame for frame in frames if frame.kind == "close")
    gap = next(frame for frame in frames if frame.kind == "gap")
    assert "refused" in close.text
    assert ": expected 127.0.0.1:" in gap.text
    assert not any(frame.kind == "open" for frame in frames)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect how long is waited between two attempts, without the jitter."""
    waited: list[float] = []
    wait = threading.Event.wait

    def watched(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout in (0.01, 0.02, 0.5):
            waited.append(timeout)
        return wait(event, timeout)

    def jitter(low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return 1.0

    monkeypatch.setattr(dydx_conn, "_BACKOFF_S", (0.01, 0.02, 0.5))
    monkeypatch.setattr(random, "uniform", jitter)
    monkeypatch.setattr(threading.Event, "wait", watched)
    return waited


def test_each_failure_waits_longer(waited: list[float]) -> None:
    """Up to the longest wait, and no further."""
    with running(Venue()) as here:
        pass

    listen(here, [], count("close", 4))

    assert waited[:3] == [0.01, 0.02, 0.5]


def test_a_connection_that_lasted_is_soon_tried_again(
    waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was greeted and dropped is not: the waits grow until one holds."""
    monkeypatch.setattr(dydx_conn, "_LASTING_NS", 1_000_000_000)
    venue = Venue()

    def drop(connection: ServerConnection, number: int) -> None:
        if number == 1:
            venue.release.wait(1.2)
        connection.close(1001)

    venue.behave = drop
    with running(venue) as here:
        listen(here, [], count("close", 4))

    assert waited[:3] == [0.01, 0.01, 0.02]


def test_a_host_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the connection, and that was all it did."""
    monkeypatch.setattr(dydx_conn, "_TIMEOUT_S", 0.1)
    monkeypatch.setattr(dydx_conn, "_BACKOFF_S", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        here = Network(
            name="local", rest=f"http://{address}", ws=f"ws://{address}", node="", chain_id=""
        )
        frames = listen(here, [], both(count("close", 1), count("gap", 1)))

    assert "timed out" in next(frame.text for frame in frames if frame.kind == "close")
    assert "within 0.1 s, got none" in next(frame.text for frame in frames if frame.kind == "gap")


def test_a_refused_upgrade_is_seen() -> None:
    """A status of HTTP is no close code, and stands in the reason."""
    venue = Venue()
    refusal = Response(429, "Too Many Requests", Headers({"Connection": "close"}), b"")
    venue.rest = lambda *_: refusal  # type: ignore[method-assign]
    with running(venue) as here:
        frames = listen(here, [], count("close", 1))

    close = next(frame for frame in frames if frame.kind == "close")
    assert close.type == "0"
    assert "429" in close.text


@pytest.mark.parametrize(
    ("status", "body"), [(403, '{"errors":[{"msg":"Not from here"}]}'), (200, "<html>")]
)
def test_a_refused_answer_is_a_frame_and_a_gap(status: int, body: str) -> None:
    """What was received remains, and the missing markets are reported."""
    with running(Venue(answer=(status, body))) as here:
        frames = listen(here, [], both(count("http", 1), count("gap", 1)))

    answer = next(frame for frame in frames if frame.kind == "http")
    assert (answer.type, answer.text) == (str(status), body)


def test_silence_ticks() -> None:
    """A venue that answers nothing is not mistaken for one without requests."""
    with running(Venue()) as here:
        frames = listen(here, [], count("tick", 5))

    stamps = [f.mono for f in frames if f.kind == "tick" and f.link == "clock"]
    assert len(stamps) >= 4
    assert all(later > sooner for sooner, later in itertools.pairwise(stamps))


# === Gaps ===


def jumping(venue: Venue, at: int, by: int, pages: int = 0) -> None:
    """Let the ids of a venue jump once, with a message of trades after so many requests.

    It comes once so many pages of candles have been requested.
    """
    extra = [0]

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        (answer,) = confirm(request, received)
        yield {**answer, "message_id": len(received) + extra[0]}
        if len(received) == at:
            while sum("/v4/candles/" in path for path in venue.requested) < pages:
                if venue.release.wait(0.01):
                    return
            extra[0] += by + 1
            what = {"type": "channel_data", "channel": "v4_trades", "id": "BTC-USD"}
            yield {**what, "message_id": len(received) + extra[0], "contents": {"trades": []}}

    venue.reply = reply


def requests(frames: list[Frame]) -> list[tuple[str, str, str]]:
    """Return what was requested, in order."""
    requests = [json.loads(frame.text) for frame in frames if frame.kind == "sent"]
    return [(message["type"], message["channel"], message.get("id", "")) for message in requests]


def test_lost_messages_are_a_gap_before_the_one_that_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And all that the link carries is resubscribed."""
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue()
    jumping(venue, at=4, by=3)
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 8, "subscribed"))

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    shown = frames[gap.seq]
    assert (gap.link, gap.message_id, gap.text) == (
        "c1", 3, "3 messages lost before message_id 8",
    )  # fmt: skip
    assert (shown.kind, shown.type, shown.message_id) == ("ws", "channel_data", 8)
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    first, again = requests(frames)[:4], requests(frames)[4:]
    assert again == [(type_, *key) for _, *key in first for type_ in ("unsubscribe", "subscribe")]


def test_nothing_is_requested_more_often_than_the_venue_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice a second each; a request that must wait, waits."""
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.4)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.05)
    venue = Venue()
    jumping(venue, at=4, by=1)
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 8, "subscribed"))

    times: dict[str, list[int]] = {}
    for frame in frames:
        if frame.kind == "sent" and '"subscribe"' in frame.text:
            times.setdefault(frame.text, []).append(frame.mono)
    assert [len(stamps) for stamps in times.values()] == [2] * 4
    assert all(0.4e9 <= second - first for first, second in times.values())


@pytest.mark.parametrize(
    ("channel", "id_", "what"),
    [
        ("v4_orderbook", "BTC-USD", {"bids": [["1"]]}),
        ("v4_subaccounts", "dydx1owner/3", {"orders": [{}]}),
        ("v4_subaccounts", "dydx1owner/3", {"orders": [{"id": "good"}, {"id": 7}]}),
    ],
)
def test_what_changes_by_an_update_that_cannot_be_read_is_resubscribed(
    monkeypatch: pytest.MonkeyPatch, channel: str, id_: str, what: Any
) -> None:
    """It alone: whoever keeps it has to give it up."""
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue()

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield from confirm(request, received)
        if len(received) == 5:
            received.append({})  # it takes an id
            update = {"type": "channel_data", "channel": channel, "id": id_}
            yield {**update, "message_id": 6, "contents": what}

    venue.reply = reply
    with running(venue) as here:
        frames = listen(
            here, ["BTC-USD"], count("ws", 6, "subscribed"), Subaccount("dydx1owner", 3)
        )

    assert requests(frames)[5:] == [("unsubscribe", channel, id_), ("subscribe", channel, id_)]
    assert not any(frame.kind == "gap" for frame in frames)


def test_a_message_is_decoded_once_by_all_who_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live looks whether it can be read, and the layers above read it."""
    decode, decoded = dydx_conn._updates, list[int]()

    def counted(frame: Frame) -> Any:
        decoded.extend([frame.seq] if frame.channel == "v4_orderbook" else [])
        return decode(frame)

    monkeypatch.setattr(dydx_conn, "_updates", counted)
    books = list[Frame]()

    def read(frame: Frame) -> None:
        if frame.channel == "v4_orderbook":
            books.append(frame)
            assert contents(frame) is contents(frame)

    with running(Venue()) as here:
        live(here, ["BTC-USD", "ETH-USD"], pace=lambda _: len(books) < 2).subscribe(read)

    assert decoded == [frame.seq for frame in books]


def test_a_resubscription_that_succeeds_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue's word that a book is unsubscribed carries nothing, and is no update unread."""
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.02)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.01)
    venue = Venue()
    jumping(venue, at=4, by=1)
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], both(count("ws", 8, "subscribed"), count("tick", 12)))

    assert len(requests(frames)) == 4 + 2 * 4


def test_what_is_never_answered_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that was lost leaves a hole that its request would explain for ever.

    So would it have explained any other: whoever folds the gap gives up all that the link
    carries, and all of it is requested.
    """
    monkeypatch.setattr(dydx_conn, "_OVERDUE_NS", 1_000_000_000)
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue()

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [] if len(received) == 1 else confirm(request, received)

    venue.reply = reply
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 7, "subscribed"))

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    assert (gap.text, gap.message_id) == ("1 answers overdue: v4_orderbook BTC-USD", 1)
    first, again = requests(frames)[:4], requests(frames)[4:]
    assert sorted(again) == sorted(
        (type_, *key) for _, *key in first for type_ in ("unsubscribe", "subscribe")
    )


def test_what_could_not_be_fetched_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, and without a gap: nothing was lost."""
    monkeypatch.setattr(dydx_conn, "_REFUSED_S", 0.1)
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue()

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (answer,) = confirm(request, received)
        words = {"type": "error", "message": "Internal error, could not fetch data"}
        return [{**answer, **words}] if len(received) == 4 else [answer]

    venue.reply = reply
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 4, "subscribed"))

    assert requests(frames)[5:] == [("subscribe", "v4_trades", "BTC-USD")]
    assert not any(frame.kind == "gap" for frame in frames)


def test_what_is_refused_again_and_again_is_requested_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """REST behind the socket is away: an error a channel, at each try, until it is back."""
    monkeypatch.setattr(dydx_conn, "_REFUSED_S", 0.05)
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.0)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.01)
    monkeypatch.setattr(dydx_conn, "_BACKOFF_S", (0.01, 0.2))
    venue = Venue()

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (answer,) = confirm(request, received)
        tries = sum(x == request for x in received)
        words = {"type": "error", "message": "Internal error, could not fetch data"}
        away = request["type"] == "subscribe" and tries <= 4
        return [{**answer, **words}] if away else [answer]

    venue.reply = reply
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 4, "subscribed"))

    book = '{"type": "subscribe", "channel": "v4_orderbook", "id": "BTC-USD", "batched": true}'
    tries = [frame.mono for frame in frames if frame.kind == "sent" and frame.text == book]
    waits = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert len(waits) == 4
    assert all(wait >= s * 1e9 for wait, s in zip(waits, (0.05, 0.1, 0.2, 0.2), strict=True))
    assert not any(frame.kind == "gap" and frame.link == "c1" for frame in frames)
    states = collect(from_iterable(frames).pipe(connection_states()))
    live_at = next(x.seq for x in states if (x.link, x.state) == ("c1", "live"))
    assert [frame.seq for frame in frames if frame.is_snapshot][-1] == live_at


def test_what_a_snapshot_may_have_missed_is_requested_over_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The venue listens for us only after it has fetched the snapshot: books and accounts race."""
    monkeypatch.setattr(dydx_conn, "_RACE_S", 0.05)
    venue, wanted = (
        Venue(),
        {
            "/v4/addresses/dydx1owner/subaccountNumber/3",
            "/v4/orderbooks/perpetualMarket/BTC-USD",
            "/v4/perpetualMarkets",
        },
    )
    with running(venue) as here:
        us = Subaccount("dydx1owner", 3)
        listen(here, ["BTC-USD"], lambda _: wanted <= {*venue.requested}, us)

    assert wanted <= {*venue.requested}


def test_the_markets_are_requested_until_they_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first request may fail, as it does before another indexer is chosen."""
    monkeypatch.setattr(dydx_conn, "_RETRY_S", 0.05)
    venue = Venue()
    answered = venue.rest

    def rest(connection: ServerConnection, request: Request) -> Response | None:
        venue.answer = (
            200,
            '{"markets":{}}' if "/v4/perpetualMarkets" in venue.requested else "{}",
        )
        return answered(connection, request)

    venue.rest = rest  # type: ignore[method-assign]
    with running(venue) as here:
        frames = listen(here, [], count("http", 2))

    assert [frame.text for frame in frames if frame.kind == "http"] == ["{}", '{"markets":{}}']


def test_what_an_account_did_during_a_lost_connection_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The socket does not repeat it: orders, fills and transfers come over REST, as frames."""
    monkeypatch.setattr(dydx_conn, "_RACE_S", 0.01)
    query = ["address=dydx1owner", "limit=100", "subaccountNumber=3"]
    wanted = [(f"/v4/{what}", query) for what in ("fills", "orders", "transfers")]
    venue = Venue()
    answered = venue.rest

    def rest(connection: ServerConnection, request: Request) -> Response | None:
        of = next((x for x in ("orders", "fills", "transfers") if f"/{x}?" in request.path), "")
        known = {"orders": "[]", "fills": '{"fills":[]}', "transfers": '{"transfers":[]}'}
        # What the account holds is not answered: the others are requested all the same.
        venue.answer = (200, known[of]) if of else (502, "Bad Gateway")
        return answered(connection, request)

    venue.rest = rest  # type: ignore[method-assign]

    def lose(connection: ServerConnection, number: int) -> None:
        if number == 0:
            venue.release.wait(0.5)
            connection.close(1012)

    def again(frames: list[Frame]) -> bool:
        opened = [n for n, frame in enumerate(frames) if frame.kind == "open"]
        since = [x for x in frames[opened[-1] :] if x.kind == "http"] if opened[1:] else []
        seen = [(x.path, sorted(x.channel.partition("?")[2].split("&"))) for x in since]
        return all(request in seen for request in wanted)

    venue.behave = lose
    with running(venue) as here:
        listen(here, [], again, Subaccount("dydx1owner", 3))


def test_fills_are_requested_page_by_page_until_they_reach_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page of a thousand since the loss is followed by the next; older ones are not requested."""
    monkeypatch.setattr(dydx_conn, "_RACE_S", 0.01)
    monkeypatch.setattr(dydx_conn, "_MOST", 3)
    venue, heights = Venue(), [[130, 129, 128], [127, 126, 79], [78, 77, 76]]
    answered = venue.rest

    def rest(connection: ServerConnection, request: Request) -> Response | None:
        page = re.search(r"/fills\?.*page=(\d)", request.path)
        rows = [
            {
                "id": f"f{height}", "side": "BUY", "size": "1", "price": "1", "fee": "0",
                "createdAt": "2026-01-01T00:00:01.000Z", "createdAtHeight": str(height),
                "liquidity": "TAKER", "type": "LIMIT",
            }
            for height in (heights[int(page[1]) - 1] if page else ())
        ]  # fmt: skip
        empty = "[]" if "/orders?" in request.path else '{"transfers":[]}'
        venue.answer = 200, json.dumps({"fills": rows}) if "/fills" in request.path else empty
        return answered(connection, request)

    venue.rest = rest  # type: ignore[method-assign]

    def lose(connection: ServerConnection, number: int) -> None:
        if number == 0:
            message = {"type": "channel_data", "channel": "v4_block_height", "message_id": 1}
            contents = {"blockHeight": "100", "time": "2026-01-01T00:00:00.000Z"}
            connection.send(json.dumps({**message, "contents": contents}))
            venue.release.wait(0.2)
            connection.close(1012)

    def paged(frames: list[Frame]) -> list[str]:
        return re.findall(r"fills\?\S*page=(\d)", " ".join(frame.channel for frame in frames))

    def enough(frames: list[Frame]) -> bool:
        pages = [n for n, frame in enumerate(frames) if paged([frame])]
        return len(pages) >= 2 and any(
            "/transfers?" in frame.channel for frame in frames[pages[1] :]
        )

    venue.behave = lose
    with running(venue) as here:
        frames = listen(here, [], enough, Subaccount("dydx1owner", 3))

    assert paged(frames) == ["1", "2"]


# === Silence ===


def test_a_silent_link_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks alive, answers pings, and carries nothing."""
    monkeypatch.setattr(dydx_conn, "_SILENCE_NS", 200_000_000)
    with running(Venue()) as here:
        frames = listen(here, ["BTC-USD"], count("open", 2))

    close = next(frame for frame in frames if frame.kind == "close")
    assert close.text.startswith("no message for ")


def test_a_half_open_link_is_found_by_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to answer it, and nothing reports that."""
    monkeypatch.setattr(dydx_conn, "_PING_S", 0.1)
    monkeypatch.setattr(dydx_conn, "_PONG_S", 1.0)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.02)
    venue = Venue()

    def hang(connection: ServerConnection, number: int) -> None:
        if number == 0:
            connection.protocol.receive_data = lambda data: None  # type: ignore[method-assign]

    venue.behave = hang
    with running(venue) as here:
        frames = listen(here, [], both(count("open", 2), count("ws", 3)))

    close = next(frame for frame in frames if frame.kind == "close")
    assert "expected an answer to a ping within 1 s" in close.text
    assert sum(frame.kind == "close" for frame in frames) == 1


def test_a_quiet_link_is_pinged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sooner than the next ping would be due."""
    monkeypatch.setattr(dydx_conn, "_QUIET_S", 0.05)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.02)
    venue = Venue()
    pings: list[bytes] = []

    def listening(connection: ServerConnection, _: int) -> None:
        receive = connection.protocol.recv_frame

        def watched(frame: Any) -> None:
            if frame.opcode is Opcode.PING:
                pings.append(frame.data)
            receive(frame)

        connection.protocol.recv_frame = watched  # type: ignore[method-assign]

    venue.behave = listening
    with running(venue) as here:
        frames = listen(here, [], lambda _: len(pings) >= 3)

    assert not any(frame.kind == "close" for frame in frames)


def test_half_open_links_are_found_within_twenty_seconds() -> None:
    """Our pings and the patience with their answers, together."""
    assert dydx_conn._PING_S + dydx_conn._PONG_S + 2 * dydx_conn._POLL_S < 20


def test_the_venues_ping_is_answered_whatever_a_subscriber_does() -> None:
    """The thread that reads only puts into the inbox."""
    venue = Venue()
    answered = threading.Event()
    venue.behave = lambda connection, _: (
        answered.set() if connection.ping().wait(PATIENCE_S) else None
    )

    def pace(frame: Frame) -> bool:
        return not answered.wait(PATIENCE_S)

    with running(venue) as here:
        live(here, [], pace=pace).subscribe()

    assert answered.is_set()


def test_links_that_answer_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ping after ping."""
    monkeypatch.setattr(dydx_conn, "_PING_S", 0.02)
    monkeypatch.setattr(dydx_conn, "_PONG_S", 1.0)
    monkeypatch.setattr(dydx_conn, "_POLL_S", 0.01)
    with running(Venue()) as here:
        frames = listen(here, [], count("tick", 30))

    assert not any(frame.kind == "close" for frame in frames)


# === Hostile ===


def fragments(size: int, pause_s: float, over: threading.Event) -> Iterator[str]:
    """Send a message without an end."""
    while not over.wait(pause_s):
        yield "x" * size


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (lambda _: "x" * 64 * 2**20, "at most 16777216 bytes, got 67108864 or more"),
        (lambda over: fragments(2**20, 0.0, over), "at most 16777216 bytes"),
        (
            lambda over: fragments(1, 0.02, over),
            "expected a whole message within 0.2 s, got a part",
        ),
    ],
)
def test_a_message_without_end_ends_the_connection(
    words: Callable[[threading.Event], Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 64 MB, one without an end, one that drips; what came before remains."""
    monkeypatch.setattr(dydx_conn, "_WHOLE_S", 0.2 if "whole" in reason else 20.0)
    venue = Venue()

    def shout(connection: ServerConnection, number: int) -> None:
        if number == 0:
            connection.send('{"type":"pong"}')
            connection.send(words(venue.release))

    venue.behave = shout
    with running(venue) as here:
        frames = listen(here, [], both(count("open", 2), count("ws", 5)))

    close = next(frame for frame in frames if frame.kind == "close")
    assert reason in close.text
    assert [frame.type for frame in frames if frame.kind == "ws"][:3] == [
        "connected", "pong", "connected",
    ]  # fmt: skip
    assert max(len(frame.text) for frame in frames) < 1000


def test_a_page_in_place_of_a_socket_is_seen() -> None:
    """Some guard in front of the venue answers everyone."""
    venue = Venue()
    page = "<html>busy</html>"
    headers = Headers({"Content-Length": str(len(page)), "Content-Type": "text/html"})
    venue.rest = lambda *_: Response(200, "OK", headers, page.encode())  # type: ignore[method-assign]
    with running(venue) as here:
        frames = listen(here, [], both(count("close", 1), count("gap", 1)))

    close = next(frame for frame in frames if frame.kind == "close")
    assert close.text == f"expected a socket of {here.ws}, got 200: a page of HTML"
    assert close.status == 0
    assert "got 200 with a page of HTML" in next(f.text for f in frames if f.kind == "gap")
    assert next(frame.text for frame in frames if frame.kind == "http") == page


@pytest.mark.parametrize("status", [403, 451])
def test_a_region_that_is_refused_is_requested_once_of_each_endpoint(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Sockets and REST: it stops, with the venue's reason in plain words, once."""
    monkeypatch.setattr(dydx_conn, "_ROUND_S", 0.02)
    monkeypatch.setattr(dydx_conn, "_RETRY_S", 0.02)
    why = "Because you appear to be a resident of a jurisdiction that violates our terms of use"
    body = json.dumps({"errors": [{"code": "GEOBLOCKED", "msg": why}]}).encode()
    paths: list[str] = []
    headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})

    def refuse(_: ServerConnection, request: Request) -> Response:
        paths.append(request.path.partition("?")[0])
        return Response(status, "Forbidden", headers, body)

    venue = Venue()
    venue.rest = refuse  # type: ignore[method-assign,assignment]
    with running(venue) as here:
        enough = both(count("http", 5), count("gap", 1), count("tick", 9))
        frames = listen(here, ["BTC-USD"], enough, Subaccount("d", 3))

    gaps = [frame.text for frame in frames if frame.kind == "gap"]
    states = collect(from_iterable(frames).pipe(connection_states()))
    # Two requests of the markets may be on their way at once.
    assert 5 <= len({*paths}) <= len(paths) <= len({*paths}) + 1
    assert len(gaps) == 1
    assert f"got {status}: {why}" in gaps[0]
    (reason,) = {frame.text for frame in frames if frame.kind == "close"}
    assert reason.endswith(
        f"got {status}: {why} [GEOBLOCKED] (the venue refuses this region or address)"
    )
    assert next(state.reason for state in states if state.state == "polling") == reason


# === Several indexers ===


def height_of(height: int) -> str:
    """Report a height as REST does; `running` answers every path with it."""
    return json.dumps({"height": str(height), "time": "2026-01-01T00:00:00Z", "markets": {}})


def both_of(first: Network, second: Network) -> Network:
    """Return one network with two indexers."""
    return dataclasses.replace(first, other_rest=(second.rest,), other_ws=(second.ws,))


@pytest.mark.parametrize(("behind", "moves"), [(0, True), (1, False)])
def test_a_socket_that_fails_is_replaced_by_one_that_is_not_behind(
    behind: int, moves: bool
) -> None:
    """Heights never go back; REST of an indexer whose socket fails may well work."""
    first = Venue(answer=(200, height_of(9)))
    second = Venue(answer=(200, height_of(9 - behind)))

    def report_and_leave(
        request: dict[str, Any], received: list[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        [answer] = confirm(request, received)
        if request["channel"] == "v4_block_height":
            answer["contents"] = {"height": "9", "time": "2026-01-01T00:00:00Z"}
        yield answer
        if request["channel"] == "v4_block_height":
            raise ConnectionClosedOK(None, None)

    first.behave = lambda connection, number: connection.close(1001) if number else None
    first.reply = report_and_leave

    def enough(frames: list[Frame]) -> bool:
        opened = [frame.text for frame in frames if frame.kind == "open"]
        return len(opened) > 5 or opened[-1:] == [two.ws]

    with running(first) as one, running(second) as two:
        frames = listen(both_of(one, two), [], enough)

    opened = [frame.text for frame in frames if frame.kind == "open"]
    assert (two.ws in opened) == moves
    assert opened[0] == one.ws


def test_an_indexer_that_stands_still_is_left_for_one_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its socket answers pings and its REST works, and the chain is far ahead of it."""
    monkeypatch.setattr(dydx_conn, "_PATIENCE", {"chain": ("new block", 100_000_000)})
    monkeypatch.setattr(dydx_conn, "_RETRY_S", 0.05)
    first = Venue(answer=(200, height_of(9)))
    second = Venue(answer=(200, height_of(20)))

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> list[Any]:
        [answer] = confirm(request, received)
        if request["channel"] == "v4_block_height":
            answer["contents"] = {"height": "9", "time": "2026-01-01T00:00:00Z"}
        return [answer]

    first.reply = reply
    with running(first) as one, running(second) as two:

        def enough(frames: list[Frame]) -> bool:
            if len(second.requested) == 3:  # not far enough ahead until now
                second.answer = (200, height_of(40))
            return any(frame.kind == "open" and frame.text == two.ws for frame in frames)

        frames = listen(both_of(one, two), [], enough)

    (reason,) = [frame.text for frame in frames if frame.kind == "close"]
    assert reason == "expected a block after 9, got none; another indexer has it"
    assert len(second.requested) >= 3


# === Polling ===


def test_where_sockets_fail_rest_is_polled_until_they_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Books, trades, candles, blocks and the account; and no more once the socket is back."""
    monkeypatch.setattr(dydx_conn, "_ATTEMPTS", 3)
    monkeypatch.setattr(dydx_conn, "_ROUND_S", 0.05)
    venue = Venue(answer=(404, '{"errors":[{"msg":"none"}]}'))
    refusal = Response(503, "Unavailable", Headers({"Connection": "close"}), b"")
    answer, shut = venue.rest, threading.Event()

    def guard(connection: ServerConnection, request: Request) -> Response | None:
        upgrade = "Upgrade" in request.headers
        return refusal if upgrade and not shut.is_set() else answer(connection, request)

    venue.rest = guard  # type: ignore[method-assign]
    requests: list[int] = []

    def enough(frames: list[Frame]) -> bool:
        polled = {f.channel.partition("?")[0] for f in frames if f.kind == "http"}
        if len(polled) >= 9 and not shut.is_set():
            shut.set()
        if count("ws", 6, "subscribed")(frames):
            requests.append(len(venue.requested))
        return len(requests) > 40

    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], enough, Subaccount("d", 3), resolutions=["1MIN"])

    answers = {f.channel for f in frames if f.kind == "http"}
    states = collect(from_iterable(frames).pipe(connection_states()))
    assert answers == {
        "/v4/perpetualMarkets", "/v4/height", "/v4/orderbooks/perpetualMarket/BTC-USD",
        "/v4/trades/perpetualMarket/BTC-USD?limit=100",
        "/v4/candles/perpetualMarkets/BTC-USD?limit=240&resolution=1MIN",
        "/v4/addresses/d/subaccountNumber/3",
        *(f"/v4/{of}?address=d&limit=100&subaccountNumber=3" for of in ("orders", "fills")),
        "/v4/transfers?address=d&limit=100&subaccountNumber=3",
    }  # fmt: skip
    assert [x.state for x in states if x.link == "c1" and x.state != "connecting"] == [
        "backing_off", "backing_off", "polling", "subscribing", "live", "closed",
    ]  # fmt: skip
    assert requests[10] == requests[-1]


def test_a_silent_rest_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is polled."""
    monkeypatch.setattr(dydx_conn, "_ATTEMPTS", 1)
    monkeypatch.setattr(dydx_conn, "_ROUND_S", 0.01)
    venue = Venue(answer=(400, '{"errors":[{"msg":"Not like this"}]}'))
    venue.behave = lambda connection, _: connection.close(1001)
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], both(count("http", 16), count("gap", 4)))

    message = Counter(
        frame.text for frame in frames if frame.kind == "gap" and frame.link == "rest"
    )
    assert set(message.values()) == {1}
    # A refusal of each request; a busy machine may be late with an answer, which is another.
    assert sum("Not like this" in text for text in message) == 4


def test_a_question_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task awaits it: a gap frame has the reason, and the other requests go on."""
    monkeypatch.setattr(dydx_conn, "_RACE_S", 0.01)
    broken = Endpoint("/v4/books/{of}", BookContents)  # no id has such a part
    row = replace(dydx_conn.CHANNELS["v4_orderbook"], rest=(broken,))
    monkeypatch.setitem(dydx_conn.CHANNELS, "v4_orderbook", row)
    with running(Venue()) as here:
        frames = listen(here, ["BTC-USD"], both(count("gap", 1), count("http", 1)))

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    assert (gap.link, gap.reason) == ("rest", "a request to REST ended by KeyError: 'of'")


def test_rest_that_cannot_even_begin_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends, loudly, and the sockets go on."""
    monkeypatch.setattr(httpx, "AsyncClient", None)
    ended: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda died: ended.append(died.thread.name))
    with running(Venue()) as here:
        frames = listen(here, [], both(count("gap", 1), count("ws", 3)))

    (gap,) = [frame for frame in frames if frame.kind == "gap"]
    assert gap.reason.startswith("REST polling ended by TypeError: ")
    assert ended == ["rest"]


def test_a_link_that_dies_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it died of is why it closed."""
    dying = iter([True])
    create = IndexerSocket.create_dispatcher

    def die(app: IndexerSocket, *arguments: Any) -> Any:
        if next(dying, False):
            raise ValueError("on purpose")
        return create(app, *arguments)

    monkeypatch.setattr(IndexerSocket, "create_dispatcher", die)
    with running(Venue()) as here:
        frames = listen(here, [], both(count("close", 1), count("ws", 3)))

    assert next(f.reason for f in frames if f.kind == "close") == "ValueError: on purpose"


# === Silence ===


def test_a_subscription_that_dies_on_a_living_link_is_requested_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """REST is requested meanwhile; what its answers show is a gap of that subscription alone."""
    quick = replace(dydx_conn.CHANNELS["v4_orderbook"], quiet_s=0.1)
    monkeypatch.setitem(dydx_conn.CHANNELS, "v4_orderbook", quick)
    monkeypatch.setattr(dydx_conn, "_ON_ITS_WAY_NS", 100_000_000)
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    venue = Venue()
    path = "/v4/orderbooks/perpetualMarket/BTC-USD"

    def rest(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == path:
            price = 100 + venue.requested.count(path)
            venue.answer = (200, json.dumps({"bids": [{"price": f"{price}", "size": "1"}]}))
        return answered(connection, request)

    answered, venue.rest = venue.rest, rest  # type: ignore[method-assign]
    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], count("ws", 5, "subscribed"))

    [gap] = [frame for frame in frames if frame.kind == "gap" and frame.link == "c1"]
    assert (gap.link, gap.channel, gap.id, gap.lost) == ("c1", "v4_orderbook", "BTC-USD", 0)
    assert gap.reason.startswith("v4_orderbook BTC-USD: no message for ")
    assert venue.requested.count(path) >= 2
    assert requests(frames)[4:] == [
        ("unsubscribe", "v4_orderbook", "BTC-USD"), ("subscribe", "v4_orderbook", "BTC-USD"),
    ]  # fmt: skip


def test_a_comparison_that_fails_is_soon_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is a doubt of an account that was known: it does not wait for the next one."""
    rare = replace(dydx_conn.CHANNELS["v4_subaccounts"], quiet_s=0.1)
    monkeypatch.setitem(dydx_conn.CHANNELS, "v4_subaccounts", rare)
    monkeypatch.setattr(dydx_conn, "_RETRY_S", 0.1)
    monkeypatch.setattr(dydx_conn, "_MINUTE", 10**15)
    monkeypatch.setattr(dydx_conn, "_ON_ITS_WAY_NS", 10**15)
    monkeypatch.setattr(dydx_conn, "_RACE_S", 1000.0)
    venue = Venue()
    answered = venue.rest

    def rest(connection: ServerConnection, request: Request) -> Response | None:
        fills = sum("/fills?" in path for path in [*venue.requested, request.path])
        known = {"/orders?": "[]", "/transfers?": '{"transfers":[]}'}
        known |= {"/fills?": "null" if fills < 3 else '{"fills":[]}'}
        of = next((part for part in known if part in request.path), "")
        venue.answer = (200, known.get(of, '{"subaccount":{}}'))
        return answered(connection, request)

    def again(frames: list[Frame]) -> bool:
        return any(f.kind == "http" and f.path == "/v4/fills" and f.text != "null" for f in frames)

    venue.rest = rest  # type: ignore[method-assign]
    with running(venue) as here:
        frames = listen(here, [], again, Subaccount("dydx1owner", 3))

    assert sum("/fills?" in path for path in venue.requested) == 3
    assert sum("/orders?" in path for path in venue.requested) == 1
    assert frames[-1].mono - frames[0].mono < 30 * 10**9


# === A new channel ===


class Weather(msgspec.Struct):
    """What a channel carries that the venue does not have."""

    sky: str


def add_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add one of each market and one for all: a row each is all that it takes."""
    for name, id_ in {"v4_weather": "ticker", "v4_tides": ""}.items():
        path = f"/v4/{name[3:]}" + ("/{ticker}" if id_ else "")
        row = Channel(
            name=name, kind="weather", id=id_, batched=True, changes=bool(id_),
            snapshot=Weather, update=Weather, rest=(Endpoint(path, Weather),),
        )  # fmt: skip
        monkeypatch.setitem(dydx_conn.CHANNELS, name, row)


WEATHER: dict[str, Any] = {"contents": {"sky": "blue"}}
BATCH: dict[str, Any] = {"type": "channel_batch_data", "contents": [{"sky": "grey"}]}


def test_a_new_channel_is_subscribed_to_read_counted_and_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A snapshot, a batch, a loss that is seen and resubscribed, and a request over REST."""
    monkeypatch.setattr(dydx_conn, "_AGAIN_S", 0.05)
    monkeypatch.setattr(dydx_conn, "_RACE_S", 0.01)
    add_channels(monkeypatch)
    venue = Venue(answer=(200, '{"markets":{},"sky":"red"}'))
    lost = [0]

    def reply(request: dict[str, Any], received: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        (answer,) = confirm(request, received)
        number = len(received) + lost[0]
        if request["channel"] in ("v4_weather", "v4_tides"):
            answer |= WEATHER | {
                "id": request.get("id", request["channel"])
            }  # as the venue repeats it
        yield {**answer, "message_id": number}
        if len(received) == 6:
            lost[0] += 3  # two of them never come
            tides = {"channel": "v4_tides", "id": "v4_tides", "message_id": number + 3}
            yield {**answer, **BATCH, **tides}

    venue.reply = reply
    with running(venue) as here:
        frames = listen(
            here, ["BTC-USD"],
            both(count("ws", 12, "subscribed"), lambda _: "/v4/weather/BTC-USD" in venue.requested),
        )  # fmt: skip

    first = [
        message for message in venue.received[0] if message["channel"] in ("v4_weather", "v4_tides")
    ][:2]
    assert [(message["channel"], message.get("id"), message["batched"]) for message in first] == [
        ("v4_weather", "BTC-USD", True), ("v4_tides", None, True),
    ]  # fmt: skip
    found = [frame for frame in frames if frame.channel in ("v4_weather", "v4_tides")]
    assert [x for f in found[:3] for x in contents(f)] == [
        Weather("blue"), Weather("blue"), Weather("grey"),
    ]  # fmt: skip
    assert {key_of(frame) for frame in found} == {("v4_weather", "BTC-USD"), ("v4_tides", "")}
    assert [frame.lost for frame in frames if frame.kind == "gap" and frame.link == "c1"] == [2]
    again = requests(frames)[6:]
    assert {("subscribe", "v4_weather", "BTC-USD"), ("subscribe", "v4_tides", "")} <= {*again}
    assert "/v4/tides" not in venue.requested  # what it sends is whole


def test_a_new_channel_is_polled_where_its_socket_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the path of its row, and the answer stands in for the channel."""
    monkeypatch.setattr(dydx_conn, "_ATTEMPTS", 1)
    monkeypatch.setattr(dydx_conn, "_ROUND_S", 0.01)
    add_channels(monkeypatch)
    venue = Venue(answer=(200, '{"sky":"red"}'))
    venue.behave = lambda connection, _: connection.close(1001)
    names = {("v4_weather", "BTC-USD"), ("v4_tides", "")}
    seen = set[tuple[str, str]]()

    def enough(frames: list[Frame]) -> bool:
        seen.update(map(key_of, frames[-2:]))  # not all of them each time: it would never end
        return names <= seen

    with running(venue) as here:
        frames = listen(here, ["BTC-USD"], enough)

    answers = [frame for frame in frames if key_of(frame) in names]
    assert [x for frame in answers for x in contents(frame)] == [Weather("red")] * len(answers)
    assert {frame.path for frame in answers} == {"/v4/weather/BTC-USD", "/v4/tides"}


# === Inbox ===


def test_what_others_put_in_comes_out_among_the_rest() -> None:
    """From any thread, stamped and numbered, with all its parts."""
    inbox = Inbox()
    speaker = threading.Thread(
        target=lambda: inbox.put("http", "{}", "0", "broadcast", "7", link="node")
    )
    speaker.start()
    speaker.join()
    inbox.put("gap", "why", message_id=3, link="node")
    with running(Venue()) as here:
        frames = listen(here, [], count("ws", 3), inbox=inbox)

    answer, gap = (frame for frame in frames if frame.link == "node")
    assert (answer.kind, answer.text, answer.type) == ("http", "{}", "0")
    assert (answer.channel, answer.id) == ("broadcast", "7")
    assert (gap.text, gap.message_id) == ("why", 3)
    assert 0 < answer.mono <= gap.mono
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))


def test_an_empty_inbox_gives_nothing() -> None:
    """Nor waits longer than it may."""
    assert Inbox().take(1, -1.0) is None
    assert not Inbox().waiting


def test_while_nothing_comes_somebody_may_attend() -> None:
    """As often as it wants to be, on the thread that waits; what comes meanwhile ends it."""
    inbox, calls = Inbox(), list[str]()

    def attend() -> float:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            inbox.put("tick", link="clock")
        return 0.0

    inbox.attend = attend
    frame = inbox.take(1, 60.0)

    assert frame is not None
    assert calls == [threading.current_thread().name] * 3
    assert inbox.take(2, 0.001) is None
    assert len(calls) > 3


def test_what_is_there_already_waits_for_nobody() -> None:
    """Nor does whoever may not wait."""
    inbox = Inbox()
    inbox.attend = lambda: pytest.fail("nothing was waited for")
    inbox.put("tick", link="clock")

    assert inbox.take(1, 1.0) is not None
    assert inbox.take(2, 0.0) is None


def test_an_act_is_who_what_and_why() -> None:
    """It waits until it is taken, and becomes a frame like any other."""
    inbox = Inbox()
    inbox.put("act", "a headline", "halt", link="command")
    assert inbox.waiting

    act = inbox.take(7, 0.0)

    assert act is not None
    assert (act.seq, act.kind) == (7, "act")
    assert (act.link, act.type, act.text) == ("command", "halt", "a headline")
    assert not inbox.waiting


# === Lag ===

LATE_NS = 250_000_001


class Pile:
    """An inbox that is filled from a script, and what is taken from it at a time of one's choice."""

    def __init__(self, *texts: str) -> None:
        self.inbox, self.seq, self.watched = Inbox(), 0, list[str]()
        self.intake = dydx_conn._Intake(self.inbox, self._watch)
        self.put(*texts)

    def put(self, *texts: str) -> None:
        """Let messages come in."""
        for text in texts:
            self.inbox.put("ws", text, link="c1")

    def take(self, late_ns: int = 0) -> list[Frame]:
        """Take what comes next when the frames that came by now have waited for so long."""
        probe = Inbox()
        probe.put("tick", link="")
        now = probe.take(0, 0)
        assert now is not None
        frames = [*self.intake.take(self.seq + 1, now.mono + late_ns, 0)]
        assert [frame.seq for frame in frames] == [*range(self.seq + 1, self.seq + 1 + len(frames))]
        self.seq += len(frames)
        return frames

    def _watch(self, frame: Frame) -> list[Frame]:
        self.watched.append(frame.text)
        if "lost" not in frame.text:
            return [frame]
        gap = Frame(frame.seq, frame.at, frame.mono, "c1", "gap", "lost", message_id=1)
        return [gap, replace(frame, seq=frame.seq + 1)]


def update_of(ticker: str, channel: str = "v4_orderbook", type: str = "channel_batch_data") -> str:
    """Return the text of a message that changes what a channel carries."""
    return json.dumps({"type": type, "channel": channel, "id": ticker, "contents": []})


def test_frames_that_are_taken_in_time_are_what_they_were() -> None:
    """One at a time, and no tick among them."""
    pile = Pile(update_of("A-USD"), update_of("A-USD"))

    taken = [[frame.kind for frame in pile.take()] for _ in range(3)]

    assert taken == [["ws"], ["ws"], []]


def test_a_tick_before_what_waited_too_long_reports_how_long_and_how_many() -> None:
    """Stamped as the frame behind it, so that time does not go back, and all behind it follow."""
    texts = [update_of("A-USD"), update_of("B-USD", "v4_trades"), update_of("A-USD")]
    pile = Pile(*texts)

    tick, first = pile.take(LATE_NS)
    [second] = pile.take()
    [third] = pile.take()

    lag = Lag.of(tick)
    assert (tick.kind, tick.link, tick.at, tick.mono) == ("tick", "clock", first.at, first.mono)
    assert lag.age_ns > 250_000_000
    assert (lag.waiting, lag.books) == (3, {"A-USD": 3})
    assert [frame.text for frame in (first, second, third)] == texts


def test_books_alone_are_folded_together_and_no_snapshot() -> None:
    """Up to the last update of each, counted from the tick; gaps that are found on the way count."""
    pile = Pile(
        update_of("A-USD"), update_of("A-USD"), update_of("lost-USD"),
        update_of("B-USD", type="subscribed"), update_of("A-USD", "v4_trades"),
        update_of("B-USD", type="channel_data"), update_of("A-USD", type="unsubscribed"),
    )  # fmt: skip

    frames = [*pile.take(LATE_NS)]
    lag = Lag.of(frames[0])
    frames += [frame for _ in range(lag.waiting - 1) for frame in pile.take()]

    assert [frame.kind for frame in frames] == ["tick", "ws", "ws", "gap", *["ws"] * 5]
    assert lag.books == {"A-USD": 2, "lost-USD": 4, "B-USD": 7}
    assert frames[lag.books["B-USD"]].id == "B-USD"


def test_a_lag_is_reported_again_and_its_end_at_once() -> None:
    """What came meanwhile belongs to the next report; what is not late comes with the last."""
    pile = Pile(*[update_of("A-USD")] * 2)
    pile.take(LATE_NS)
    pile.put(update_of("B-USD"))

    again, _ = pile.take(3 * LATE_NS)
    pile.take()
    pile.put(update_of("C-USD"), update_of("D-USD"))
    over, *rest = pile.take()
    pile.put(update_of("E-USD"))

    assert Lag.of(again).books == {"A-USD": 1, "B-USD": 2}
    assert Lag.of(over) == Lag()
    assert [frame.id for frame in rest] == ["C-USD", "D-USD"]
    assert [frame.id for frame in pile.take()] == ["E-USD"]


def test_a_lag_is_over_when_nothing_waits() -> None:
    """Its last tick is stamped as the last frame."""
    pile = Pile(update_of("A-USD"))
    _, only = pile.take(LATE_NS)

    [over] = pile.take()

    assert (Lag.of(over), over.at, over.mono) == (Lag(), only.at, only.mono)
    assert pile.take() == []


def test_each_report_brings_a_frame() -> None:
    """However long a tick takes by itself: else frames would wait for ever."""
    pile = Pile(*[update_of("A-USD")] * 5)

    frames = [pile.take(n * LATE_NS) for n in range(1, 6)]

    assert [[frame.kind for frame in taken] for taken in frames] == [["tick", "ws"]] * 5


def test_a_lag_that_cannot_be_read_is_a_wire_error() -> None:
    """Whoever folds it counts it."""
    with pytest.raises(WireError, match=r"expected a tick's lag, got '\{'"):
        Lag.of(Frame(1, 1, 1, "clock", "tick", "{"))


def test_a_network_that_is_taken_too_slowly_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is numbered, in order, with the lag's ticks among it, and then comes as ever."""
    monkeypatch.setattr(dydx_conn, "_LATE_NS", 0)
    inbox = Inbox()

    def enough(frames: list[Frame]) -> bool:
        if len(frames) == 1:
            for _ in range(3):
                inbox.put("act", type="note", link="key")
        return any(frame.text == "{}" for frame in frames)

    with running(Venue()) as here:
        frames = listen(here, ["BTC-USD"], enough, inbox=inbox)

    lags = [Lag.of(frame) for frame in frames if frame.kind == "tick" and frame.text]
    assert max(lag.waiting for lag in lags) >= 2
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame.mono for frame in frames] == sorted(frame.mono for frame in frames)
    assert sum(frame.kind == "act" for frame in frames) >= 3


# === Subscriptions ===


def test_subscriptions_are_spread_over_as_few_connections_as_hold_them() -> None:
    """32 of a channel each: 250 markets on eight, three resolutions of candles on three times so."""
    tickers = [f"M{n}-USD" for n in range(250)]
    owner = Subaccount("dydx1a", 0)

    plain = subscriptions(tickers)
    rich = subscriptions(tickers, ["1MIN", "5MINS", "1HOUR"], owner, parent=True)

    assert [len(keys) for keys in plain] == [66, *[64] * 6, 52]
    assert len(rich) == 24
    for groups in (plain, rich):
        held = [Counter(channel for channel, _ in keys) for keys in groups]
        assert max(count for counts in held for count in counts.values()) == PER_CONNECTION
    assert ("v4_parent_subaccounts", "dydx1a/0") in rich[0]
    assert ("v4_candles", "M249-USD/1HOUR") in rich[-1]
    assert subscriptions(["A-USD", "A-USD"], ["1MIN"])[0][2:] == [
        ("v4_orderbook", "A-USD"), ("v4_trades", "A-USD"), ("v4_candles", "A-USD/1MIN"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("v4_markets", ("v4_markets", "")),
        ("v4_orderbook:A-USD", ("v4_orderbook", "A-USD")),
        ("v4_candles:A-USD/1MIN", ("v4_candles", "A-USD/1MIN")),
        ("v4_parent_subaccounts:dydx1a/0", ("v4_parent_subaccounts", "dydx1a/0")),
    ],
)
def test_a_further_channel_is_named_with_its_id(text: str, key: tuple[str, str]) -> None:
    """And subscribed to beside the others, once."""
    assert subscription(text) == key
    assert subscriptions(["A-USD"], also=[key, ("v4_trades", "A-USD")])[0].count(key) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v4_weather", "a channel of v4_markets, v4_block_height"),
        ("v4_markets:A-USD", "v4_markets, got 'v4_markets:A-USD'"),
        ("v4_orderbook", "v4_orderbook:ticker, got 'v4_orderbook'"),
        ("v4_candles:A-USD", "v4_candles:ticker/resolution, got"),
        ("v4_subaccounts:/0", "v4_subaccounts:address/subaccountNumber, got"),
    ],
)
def test_a_further_channel_without_its_id_is_refused(text: str, expected: str) -> None:
    """With the form that was expected."""
    with pytest.raises(ConnError, match=f"expected {expected}"):
        subscription(text)


def test_candles_and_a_parents_account_are_requested_as_the_venue_wants_it() -> None:
    """Candles in batches, accounts at once."""
    venue = Venue()
    with running(venue) as here:
        listen(
            here, ["A-USD"], count("ws", 6, "subscribed"), Subaccount("dydx1a", 0),
            resolutions=["1MIN"], parent=True,
        )  # fmt: skip

    account, candles = venue.received[0][1], venue.received[0][5]
    assert candles == {
        "type": "subscribe", "channel": "v4_candles", "id": "A-USD/1MIN", "batched": True,
    }  # fmt: skip
    assert account == {"type": "subscribe", "channel": "v4_parent_subaccounts", "id": "dydx1a/0"}


# === Ending ===


@pytest.mark.parametrize("attempt", range(5))
def test_stopping_at_once_leaves_nothing_behind(attempt: int) -> None:
    """Even while the connection is being made; the fixture counts the threads."""
    with running(Venue()) as here:
        seen: list[Frame] = []

        live(here, ["BTC-USD"], pace=lambda _: False).subscribe(seen.append)

    assert seen == []


def test_stopping_while_a_venue_makes_up_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is made too late is not used any more."""
    venue = Venue()
    answer = venue.rest

    def late(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            venue.release.wait(1.5)
        return answer(connection, request)

    venue.rest = late  # type: ignore[method-assign]
    with running(venue) as here:
        listen(here, [], count("tick", 2))

    assert venue.received in ([], [[]])


@pytest.mark.parametrize("attempt", range(5))
def test_stopping_sends_a_close_frame(attempt: int) -> None:
    """In the middle of a conversation, with a close frame to the server."""
    venue = Venue()
    codes: list[int | None] = []
    gone = threading.Event()

    def chatter(connection: ServerConnection, _: int) -> None:
        try:
            while True:
                connection.send('{"type":"pong"}')
                venue.release.wait(0.001)
        except ConnectionClosed as closed:
            codes.append(closed.rcvd.code if closed.rcvd else None)
            gone.set()

    venue.behave = chatter
    with running(venue) as here:
        listen(here, [], count("ws", 30))
        gone.wait(PATIENCE_S)

    assert codes == [1000]


def test_whoever_takes_enough_is_done() -> None:
    """Disposing ends the connections as the end of the stream does."""
    with running(Venue()) as here:
        frames = collect(live(here, []).pipe(ops.take(9)))

    assert [frame.seq for frame in frames] == list(range(1, 10))


def test_a_venue_that_answers_no_goodbye_is_hung_up_on() -> None:
    """It neither speaks nor listens; the fixture counts the threads."""
    venue = Venue()
    silent = threading.Event()

    def hang(connection: ServerConnection, _: int) -> None:
        # What the close frame would wake is the thread that reads; let it not answer.
        connection.protocol.receive_data = lambda data: None  # type: ignore[method-assign]
        silent.set()

    venue.behave = hang
    with running(venue) as here:
        listen(here, [], count("ws", 1))

    assert silent.is_set()


# === Trust ===


def certificate(folder: Path, host: x509.GeneralName, years: int = 100) -> Path:
    """Make a certificate that vouches for itself, from 2020 on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2020 + years))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "server.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def secured(pem: Path) -> Venue:
    """Open a venue behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return Venue(context=context)


HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("indexer.example")


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """Over REST and over the socket, where the client itself would not look."""
    with running(secured(certificate(tmp_path, HERE))) as here:
        frames = listen(here, [], both(count("close", 1), count("gap", 1)))

    assert "CERTIFICATE_VERIFY_FAILED" in next(f.text for f in frames if f.kind == "close")
    assert "expected a certificate of " in next(f.text for f in frames if f.kind == "gap")
    assert not any(frame.kind in ("open", "ws", "http") for frame in frames)


def test_a_certificate_of_another_host_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of one that is trusted."""
    pem = certificate(tmp_path, ELSEWHERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with running(secured(pem)) as here:
        frames = listen(here, [], both(count("close", 1), count("gap", 1)))

    assert "not valid for '127.0.0.1'" in next(f.text for f in frames if f.kind == "close")


def test_a_trusted_certificate_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the refusals above are about trust, and not about TLS."""
    pem = certificate(tmp_path, HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with running(secured(pem)) as here:
        frames = listen(here, [], both(count("ws", 3), count("http", 1)))

    assert not any(frame.kind in ("close", "gap") for frame in frames)


def test_what_is_trusted_is_read_once_however_often_it_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than to connect, and meanwhile books are unknown."""
    pem = certificate(tmp_path, HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    read, reads = ssl.SSLContext.load_default_certs, list[str]()

    def counted(context: ssl.SSLContext, *arguments: Any) -> None:
        reads.append(threading.current_thread().name)
        read(context, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", counted)
    venue = secured(pem)
    venue.behave = lambda connection, number: connection.close(1012) if number < 3 else None
    with running(venue) as here:
        listen(here, [], count("open", 4))

    assert len(venue.received) == 4
    assert not {"c1"} & {*reads}


def test_a_certificate_that_has_expired_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was trusted once."""
    pem = certificate(tmp_path, HERE, years=1)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with running(secured(pem)) as here:
        frames = listen(here, [], both(count("close", 1), count("gap", 1)))

    assert "certificate has expired" in next(f.text for f in frames if f.kind == "close")
    assert "expected a certificate of " in next(f.text for f in frames if f.kind == "gap")


def test_a_venue_that_leads_away_from_encryption_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would follow; nothing is requested there."""
    pem = certificate(tmp_path, HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    plain, secure = Venue(), secured(pem)
    with running(plain) as there:
        away = Response(302, "Found", Headers({"Location": there.ws, "Content-Length": "0"}), b"")
        secure.rest = lambda *_: away  # type: ignore[method-assign]
        with running(secure) as here:
            frames = listen(here, [], count("close", 1))

    assert "to stay encrypted" in next(f.text for f in frames if f.kind == "close")
    assert [message for received in plain.received for message in received] == []
    assert not any(frame.kind in ("open", "sent") for frame in frames)


# === Networks ===


def test_networks_are_known_by_name() -> None:
    """And an unknown one is answered with the known."""
    assert network("testnet") == NETWORKS["testnet"]
    with pytest.raises(NetworkError, match="as of ws, got 1 of rest and 2 of ws"):
        dataclasses.replace(NETWORKS["testnet"], other_ws=("wss://x",))
    assert all(known.ws.startswith("wss://") for known in map(network, ["mainnet", "testnet"]))
    with pytest.raises(NetworkError, match="one of mainnet, testnet, local, got network 'moon'"):
        network("moon")
