"""The replay server, run as a person runs it, before the official client."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
import replay
import tls  # of tools/venue
import websockets.exceptions
import websockets.sync.client
import websockets.sync.connection
from dydx_conn import (
    Frame,
    Header,
    Network,
    Recording,
    RecordingWriter,
    collect,
    find_recording,
    live,
    network,
)
from replay import ClientSide, Clock, RecordedConnection, Stage, read_tape, request_key

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

TOOL = Path(replay.__file__)
# What mitmproxy imports uses names that its own dependencies have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SUBSCRIBE_BOOK = '{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD"}'
SUBSCRIBE_TRADES = '{"type":"subscribe","channel":"v4_trades","id":"BTC-USD"}'
SUBSCRIBE_MARKETS = '{"type":"subscribe","channel":"v4_markets"}'
CONNECTED = '{"type":"connected","connection_id":"one","message_id":0}'
URL = "http://127.0.0.1:3002"
# No event is as late as this; a busy machine may be slow.
PATIENCE_S = 60


class Script:
    """A recording in the making: each event a millisecond after the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header = Header(network="local", rest=URL, ws="", client="", source="a test")
        self.writer = RecordingWriter(path, header)
        self._now = 0

    def add(self, kind: str, after_ms: int = 1, **fields: Any) -> "Script":
        self._now += after_ms * 1_000_000
        self.writer.write(kind, ns=self._now, mono=self._now, **fields)
        return self

    def open(self, link: str = "c1") -> "Script":
        return self.add("open", c=link, u="ws://venue")

    def sent(self, text: str, link: str = "c1") -> "Script":
        return self.add("ws", c=link, d=">", x=text)

    def received(self, text: str, link: str = "c1", after_ms: int = 1) -> "Script":
        return self.add("ws", after_ms, c=link, d="<", x=text)

    def close(self, code: int = 1000, link: str = "c1") -> "Script":
        return self.add("close", c=link, code=code, reason="enough")

    def answered(self, path: str, body: str, **more: Any) -> "Script":
        answer: dict[str, Any] = {"m": "GET", "u": URL + path, "st": 200, "b": body}
        return self.add("http", c="rest", **answer | more)

    def written(self) -> Path:
        self.writer.close()
        return self.path


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Begin a recording for a test."""
    script = Script(tmp_path / "script.jsonl.zst")
    with contextlib.closing(script.writer):
        yield script


class Served:
    """A server of a recording, as a process: where it is, and what it printed at the end."""

    def __init__(self, recording: str | Path, *options: str) -> None:
        command = [sys.executable, str(TOOL), str(recording), "--port", "0", "--ws-port", "0"]
        self._tool = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ""
        self.code: int | None = None

    def __enter__(self) -> "Served":
        assert self._tool.stdout is not None
        for line in self._tool.stdout:
            self.output += line
            if line.startswith("Ctrl-C"):
                break
        self.rest = self._word(r"REST +(\S+)")
        self.ws = self._word(r"WebSocket +(\S+)")
        return self

    def __exit__(self, *_: object) -> None:
        self._tool.send_signal(signal.SIGINT)
        self.end()

    @property
    def network(self) -> Network:
        return replace(network("local"), rest=self.rest, ws=self.ws)

    @property
    def proxy(self) -> tuple[int, str]:
        return int(self._word(r"HTTPS_PROXY=http://127.0.0.1:(\d+)")), self._word(
            r"SSL_CERT_FILE=(\S+)"
        )

    def end(self) -> None:
        """Wait for the end and read the rest of what was printed."""
        self.output += self._tool.communicate(timeout=PATIENCE_S)[0]
        self.code = self._tool.returncode

    def connect(self) -> websockets.sync.client.ClientConnection:
        return websockets.sync.client.connect(self.ws, compression=None)

    def _word(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found, self.output
        return found.group(1)


def received_until_close(connection: websockets.sync.connection.Connection) -> list[str]:
    """Receive to the end."""
    received: list[str] = []
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        while True:
            received.append(str(connection.recv(timeout=PATIENCE_S)))
    return received


def texts_by_link(frames: list[Frame]) -> list[list[str]]:
    """Return what the server sent on each connection, whatever they are called."""
    texts: dict[str, list[str]] = {}
    for frame in frames:
        if frame.kind == "ws":
            texts.setdefault(frame.link, []).append(frame.text)
    return sorted(texts.values())


# === Before the official client ===


@pytest.mark.parametrize("name", ["quickstart", "sixty"])
def test_the_official_client_receives_what_was_recorded_word_for_word(name: str) -> None:
    """On each connection the same texts in the same order, through dydx_conn.live."""
    recorded = list(Recording(find_recording(name)))
    books: dict[str, list[str]] = {}
    for frame in recorded:
        if frame.kind == "sent" and "v4_orderbook" in frame.text:
            books.setdefault(frame.link, []).append(json.loads(frame.text)["id"])
    # The longer list was the first connection's: live fills one before it opens another.
    tickers = [ticker for ids in sorted(books.values(), key=len)[::-1] for ticker in ids]
    received: list[Frame] = []
    ended: list[Frame] = []

    def to_the_last_close(frame: Frame) -> bool:
        received.append(frame)
        # A connection that has ended is tried again, in vain: that end counts for nothing.
        if (frame.kind, frame.type) == ("close", "1000"):
            ended.append(frame)
        return len(ended) < len(books)

    with Served(name, "--speed", "max") as served:
        collect(live(served.network, tickers, pace=to_the_last_close))

    assert texts_by_link(recorded) == texts_by_link(received)
    assert "0 gates unmet" in served.output
    assert re.search(r"frames in [\d.]+ s, [\d,]+/s, played to its end", served.output)


def test_rest_answers_are_those_recorded_headers_and_all() -> None:
    """The official REST client gets every recorded answer, whatever the order of a query."""
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    answers: dict[str, Any] = {}
    for frame in Recording(find_recording("quickstart")):
        if frame.kind == "http" and frame.channel not in answers:  # the first is due at once
            answers[frame.channel] = json.loads(frame.text)

    async def query(rest: str) -> dict[str, Any]:
        markets = IndexerClient(rest).markets
        return {
            "/v4/perpetualMarkets": await markets.get_perpetual_markets(),
            "/v4/trades/perpetualMarket/ETH-USD?limit=100": (
                await markets.get_perpetual_market_trades("ETH-USD", limit=100)
            ),
            "/v4/candles/perpetualMarkets/SOL-USD?resolution=1MIN&limit=100": (
                await markets.get_perpetual_market_candles("SOL-USD", "1MIN", limit=100)
            ),
        }

    with Served("quickstart") as served:
        received = asyncio.run(query(served.rest))
        path = "/v4/candles/perpetualMarkets/SOL-USD?limit=100&resolution=1MIN"
        turned = httpx.get(served.rest + path)

    assert {path: answers[path] for path in received} == received
    assert (
        turned.json() == received["/v4/candles/perpetualMarkets/SOL-USD?resolution=1MIN&limit=100"]
    )
    assert "ratelimit-limit" in turned.headers


def begin_of(name: str, path: Path, count: int) -> list[Frame]:
    """Write the first frames of a bundled recording, and its close, to one of their own."""
    source = Recording(find_recording(name))
    *frames, last = source
    written = [*frames[:count], last]
    with contextlib.closing(RecordingWriter(path, source.header)) as writer:
        for frame in written:
            writer.write_frame(frame)
    return written


def test_a_client_with_production_addresses_is_served_through_the_proxy(tmp_path: Path) -> None:
    """Proxy and certificate are all it is given; no name is looked up, nothing else is requested."""
    from dydx_v4_client.indexer.socket.websocket import IndexerSocket

    path = tmp_path / "begin.jsonl.zst"
    recorded = [frame for frame in begin_of("quickstart", path, 2_000) if frame.kind == "ws"]
    received: list[str] = []
    sockets: list[Any] = []

    def subscribe(opened: Any) -> None:
        sockets.append(opened.sock)
        opened.markets.subscribe()
        opened.send('{"type":"subscribe","channel":"v4_block_height"}')
        for ticker in ("SOL-USD", "ETH-USD", "BTC-USD"):
            opened.trades.subscribe(ticker)
            opened.order_book.subscribe(ticker)

    with Served(path, "--speed", "max", "--proxy", "0") as served:
        port, certificate = served.proxy
        with httpx.Client(proxy=f"http://127.0.0.1:{port}", verify=certificate) as client:
            answer = client.get("https://indexer.dydx.trade/v4/perpetualMarkets")
        official = IndexerSocket(
            "wss://indexer.dydx.trade/v4/ws", on_open=subscribe, on_message=lambda *_: None
        )
        official.on_message = lambda _, text: received.append(text)
        official.run_forever(
            http_proxy_host="127.0.0.1",
            http_proxy_port=port,
            proxy_type="http",
            sslopt={"ca_certs": certificate},
        )
        # The client leaves it open if the venue closes first.
        sockets[0].shutdown()

    assert list(answer.json()["markets"]) == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert [frame.text for frame in recorded] == received


def test_it_serves_over_tls(script: Script, tmp_path: Path) -> None:
    """With a certificate of one's own, for REST and the socket alike."""
    papers = tls.issue(tmp_path)
    script.open().received(CONNECTED).close().answered("/v4/height", "{}")
    context = ssl.create_default_context(cafile=papers.ca)
    options = ["--tls-cert", str(papers.certificate), "--tls-key", str(papers.key)]

    with Served(script.written(), *options) as served:
        answer = httpx.get(served.rest + "/v4/height", verify=context)
        with websockets.sync.client.connect(served.ws, ssl=context) as connection:
            received = received_until_close(connection)

    assert served.rest.startswith("https://")
    assert (answer.status_code, received) == (200, [CONNECTED])


# === Gates and pace ===


def test_nothing_passes_a_gate_before_the_client_subscribed_to_the_same(script: Script) -> None:
    """The order of different subscribes is free; what follows them waits for each."""
    script.open().received(CONNECTED).sent(SUBSCRIBE_MARKETS).sent(SUBSCRIBE_BOOK).sent(
        SUBSCRIBE_TRADES
    )
    script.received('{"type":"subscribed","channel":"v4_orderbook","id":"BTC-USD"}').received(
        '"more"'
    ).close()

    with Served(script.written(), "--speed", "max") as served, served.connect() as connection:
        greeting = connection.recv(timeout=PATIENCE_S)
        connection.send(SUBSCRIBE_TRADES)
        connection.send(SUBSCRIBE_MARKETS)
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.3)
        connection.send(SUBSCRIBE_BOOK)
        received = received_until_close(connection)

    assert greeting == CONNECTED
    assert received == ['{"type":"subscribed","channel":"v4_orderbook","id":"BTC-USD"}', '"more"']
    assert connection.protocol.close_rcvd is not None
    assert (connection.protocol.close_code, connection.protocol.close_reason) == (1000, "enough")


def test_the_clock_keeps_the_pace_and_starts_again_after_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice as fast is half the wait; a client that was late is not hurried afterwards."""
    now_s = 1000.0
    monkeypatch.setattr("replay.time.monotonic", lambda: now_s)
    clock, hasty = Clock(2.0), Clock(None)

    first = clock.wait_s(5_000_000_000)
    second = clock.wait_s(9_000_000_000)
    now_s += 7.0
    late = clock.wait_s(9_000_000_000)
    clock.rebase(9_000_000_000)
    after = clock.wait_s(10_000_000_000)
    clock.rebase(10_000_000_000)

    assert (first, second, late, after) == (0.0, 2.0, -5.0, 0.5)
    assert clock.wait_s(10_000_000_000) == 0.5
    assert hasty.wait_s(9_000_000_000) == 0.0


def test_texts_come_at_the_recorded_pace(script: Script) -> None:
    """Ten recorded seconds at ten times the speed are one."""
    script.open().received(CONNECTED).received('"later"', after_ms=10_000).close()

    with (
        Served(script.written(), "--speed", "10", "--once") as served,
        served.connect() as connection,
    ):
        connection.recv(timeout=PATIENCE_S)
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.1)
        received = connection.recv(timeout=PATIENCE_S)

    assert received == '"later"'


def test_whom_the_server_waits_for_is_printed(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person sees which subscribe is missing, once."""
    monkeypatch.setattr(replay, "NOTICE_S", 0.01)
    tape = read_tape(script.open().sent(SUBSCRIBE_BOOK).close().written())

    async def wait() -> None:
        stage = Stage(tape, replay.read_job(["x"]))
        # It sends nothing, so its socket is not used.
        player = replay.Player(cast("WebSocket", None), stage, tape.connections[0])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(player.play(script.path, Clock(None)), 0.2)

    asyncio.run(wait())

    waits = "replay: connection 1 waits for a subscribe to v4_orderbook BTC-USD\n"
    assert capsys.readouterr().err == waits


# === What was not recorded ===


@pytest.mark.parametrize(
    ("sent", "objection"),
    [
        (SUBSCRIBE_BOOK, ""),
        ('{"type":"subscribe","channel":"v4_trades","id":"BTC-USD"}', ""),
        ('{"type":"ping"}', ""),
        ('{"type":"unsubscribe","channel":"v4_orderbook","id":"ETH-USD"}', ""),
        ("{", "Invalid message: could not parse"),
        ("[]", "Invalid message: type is required"),
        ('{"channel":"v4_trades"}', "Invalid message: type is required"),
        ('{"type":"dance"}', "Invalid message: dance"),
        ('{"type":"subscribe","channel":"v4_orders"}', "Invalid channel: v4_orders"),
        (
            '{"type":"subscribe","channel":"v4_orderbook","id":"ETH-USD"}',
            "Invalid subscription id for channel: (v4_orderbook-ETH-USD)",
        ),
        (
            '{"type":"subscribe","channel":"v4_markets"}',
            "Invalid subscription id for channel: (v4_markets-v4_markets)",
        ),
    ],
)
def test_a_client_is_answered_in_the_venues_words(sent: str, objection: str) -> None:
    """What was recorded passes, even if only its answer was; the rest is refused as the venue does."""
    connection = RecordedConnection("connection 1", "c1", 0)
    connection.gates["v4_orderbook", "BTC-USD"] += 1
    connection.answered["v4_trades", "BTC-USD"] += 1

    assert ClientSide(connection).receive(sent)[0] == objection


def test_a_second_subscribe_is_refused_unless_it_was_recorded() -> None:
    """Each recorded one opens one gate."""
    connection = RecordedConnection("connection 1", "c1", 0)
    key = "v4_orderbook", "BTC-USD"
    connection.gates[key] += 2
    client = ClientSide(connection)

    objections = [client.receive(SUBSCRIBE_BOOK)[0] for _ in range(3)]

    already = "Invalid subscribe message: already subscribed (v4_orderbook-BTC-USD)"
    assert objections == ["", "", already]
    assert [client.may_pass(key) for _ in range(3)] == [True, True, False]


def test_misses_are_answered_counted_and_with_strict_fail(script: Script) -> None:
    """A 404 in the indexer's shape, an error message, and exit code 1 with a list."""
    script.open().received(CONNECTED).received(
        '{"type":"channel_data","message_id":7,"channel":"v4_trades","contents":{}}'
    )
    script.sent(SUBSCRIBE_TRADES).close().answered("/v4/height", '{"height":"1"}')

    with Served(script.written(), "--speed", "max", "--strict") as served:
        miss = httpx.get(served.rest + "/v4/time?a=b")
        wrong_method = httpx.post(served.rest + "/v4/height")
        with served.connect() as connection:
            for _ in range(2):
                connection.recv(timeout=PATIENCE_S)
            connection.send(SUBSCRIBE_BOOK)
            error = json.loads(connection.recv(timeout=PATIENCE_S))

    assert miss.status_code == wrong_method.status_code == 404
    assert miss.json() == {"errors": [{"msg": "GET /v4/time?a=b was not recorded"}]}
    assert error == {
        "type": "error",
        "message": "Invalid subscription id for channel: (v4_orderbook-BTC-USD)",
        "connection_id": "one",
        "message_id": 7,
        "channel": "v4_orderbook",
        "id": "BTC-USD",
    }
    assert served.code == 1
    assert "3 misses, 1 gates unmet" in served.output
    assert "missed 1 times: POST /v4/height" in served.output
    assert "unmet on connection 1: subscribe to v4_trades BTC-USD" in served.output


def test_answers_come_in_order_and_the_last_one_stays(script: Script) -> None:
    """Each request its own row; status and headers as recorded."""
    script.answered("/v4/height", "1").answered(
        "/v4/height", "2", st=429, rh={"retry-after": "350"}
    )
    script.answered("/v4/time", "3")

    with (
        Served(script.written(), "--strict") as served,
        httpx.Client(base_url=served.rest) as client,
    ):
        received = [
            client.get(path) for path in ("/v4/height", "/v4/time", "/v4/height", "/v4/height")
        ]

    assert [answer.text for answer in received] == ["1", "3", "2", "2"]
    assert received[2].status_code == 429
    assert received[2].headers["retry-after"] == "350"
    assert served.code == 0


# === Connections ===


def test_a_client_that_leaves_early_finds_its_connection_again(script: Script) -> None:
    """From its beginning; when all is played to the end, there is no further one."""
    script.open().received(CONNECTED).sent(SUBSCRIBE_BOOK).received('"book"').close(1012)

    with Served(script.written(), "--speed", "max") as served:
        with served.connect() as connection:
            connection.recv(timeout=PATIENCE_S)
        with served.connect() as connection:
            connection.send(SUBSCRIBE_BOOK)
            received = received_until_close(connection)
        code = connection.protocol.close_code
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            served.connect()

    assert (received, code) == ([CONNECTED, '"book"'], 1012)
    assert refused.value.response.status_code == 503
    assert "0 of 2 frames" in served.output or "1 of 2 frames" in served.output
    assert "0 gates unmet" in served.output


def test_once_ends_with_the_last_connection_and_again_begins_again(script: Script) -> None:
    """What a script wants, and what a person wants who starts the bot twice."""
    path = script.open().received(CONNECTED).close().written()

    with Served(path, "--once") as once, once.connect() as connection:
        received_until_close(connection)
        once.end()
    with Served(path, "--again") as again:
        for _ in range(2):
            with again.connect() as connection:
                assert received_until_close(connection) == [CONNECTED]

    assert once.code == again.code == 0


def test_each_client_gets_the_connection_that_subscribed_to_the_same(script: Script) -> None:
    """Whoever connects first; one that sends nothing gets the first, after a while."""
    script.open("c1").open("c2").received('"one"', "c1").received('"two"', "c2")
    script.sent(SUBSCRIBE_BOOK, "c1").sent(SUBSCRIBE_TRADES, "c2").close(1000, "c1").close(
        1001, "c2"
    )

    with (
        Served(script.written(), "--speed", "max") as served,
        served.connect() as second,
        served.connect() as first,
    ):
        second.send(SUBSCRIBE_TRADES)
        received_by_second = received_until_close(second)
        received_by_first = first.recv(timeout=PATIENCE_S)
        first.send(SUBSCRIBE_BOOK)
        received_until_close(first)

    assert (received_by_first, received_by_second) == ('"one"', ['"two"'])
    assert second.protocol.close_code == 1001


@pytest.mark.parametrize("code", [0, 1006])
def test_a_connection_that_broke_off_breaks_off_again(script: Script, code: int) -> None:
    """No goodbye was recorded, so none is sent."""
    script.open().received(CONNECTED).close(code)

    with Served(script.written(), "--speed", "max") as served, served.connect() as connection:
        received = received_until_close(connection)

    assert received == [CONNECTED]
    assert connection.protocol.close_code == 1006


def test_a_recording_of_live_with_its_node_and_vain_attempts_is_understood(script: Script) -> None:
    """The node is no connection, and what never opened is none either."""
    script.add("close", c="c1", code=0, reason="refused").add("open", c="node", u="")
    script.sent("{}", "node").add("http", c="node", u="latest_block", st=0, b="{}")
    script.open().received(CONNECTED).close().sent("late").add(
        "close", c="c1", code=0, reason="refused"
    )
    script.received('"its open line was lost"').sent("no JSON").sent("{}").sent(
        '{"type":"unsubscribe"}'
    )

    tape = read_tape(script.written())

    assert [(one.texts, one.gates.total()) for one in tape.connections] == [(1, 0), (1, 0)]
    assert tape.answers == {}


def test_a_query_is_the_same_in_any_order() -> None:
    """And a path however it is written."""
    one = request_key("GET", "/v4/a%2Fb", "x=1&y=&x=0")

    assert one == request_key("GET", "/v4/a/b", "y=&x=0&x=1")


# === Trouble ===


def test_a_damaged_and_cut_recording_is_served_as_far_as_it_is_readable(tmp_path: Path) -> None:
    """It prints what is lost, and at the end of what is there it goes away."""
    whole = find_recording("quickstart").read_bytes()
    path = tmp_path / "damaged.jsonl.zst"
    half = bytearray(whole[: len(whole) // 2])
    half[len(half) // 2] ^= 0xFF
    path.write_bytes(half)
    received: list[str] = []

    with Served(path, "--speed", "max") as served, served.connect() as connection:
        connection.send(SUBSCRIBE_MARKETS)
        connection.send('{"type":"subscribe","channel":"v4_block_height"}')
        for ticker in ("BTC-USD", "ETH-USD", "SOL-USD"):
            for channel in ("v4_orderbook", "v4_trades"):
                connection.send(json.dumps({"type": "subscribe", "channel": channel, "id": ticker}))
        received = received_until_close(connection)

    readable = [frame.text for frame in Recording(path) if frame.kind == "ws"]
    assert readable == received
    assert connection.protocol.close_code == 1001
    assert served.output.count("are damaged: their lines are lost") == 2


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["no-such-recording"], "expected the path of a recording or one of"),
        (["FOLDER/nowhere.zst"], "got no such file"),
        (["FOLDER/text.zst"], "compressed with zstd"),
        (["quickstart", "--port", "70000"], "expected port 70000 to be free, but"),
        (["quickstart", "--tls-cert", "FOLDER/text.zst"], "expected a certificate in"),
    ],
)
def test_what_cannot_be_served_is_explained(
    command: list[str], printed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2 and a sentence."""
    (tmp_path / "text.zst").write_text("neither a recording nor a certificate")

    here = [word.replace("FOLDER", str(tmp_path)) for word in command]
    code = replay.main(["--port", "0", "--ws-port", "0", *here])

    assert code == 2
    assert printed in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--port", "--ws-port", "--proxy"])
def test_a_busy_port_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever it is, and it prints which."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        code = replay.main(["quickstart", "--port", "0", "--ws-port", "0", option, str(port)])

    assert code == 2
    assert str(port) in capsys.readouterr().err


def test_an_empty_recording_is_refused(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing in it to serve."""
    path = script.add("tick").written()

    code = replay.main([str(path), "--port", "0"])

    assert code == 2
    assert "expected answers or connections in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--speed", "0"],
        ["--speed", "fast"],
        ["--once", "--again"],
        ["--proxy", "1", "--tls-cert", "x"],
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the parser, with exit code 2."""
    with pytest.raises(SystemExit) as refused:
        replay.read_job(["quickstart", *options])

    assert refused.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_its_needs_it_starts_again_with_the_tools_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under uv it helps itself."""
    started: list[list[str]] = []
    monkeypatch.setenv("DYDX_TOOL_AGAIN", "")
    monkeypatch.setenv("UV", "/bin/uv")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))

    code = replay.main(["no-such-recording"])

    assert code == 2
    assert started[0][-2:] == [str(TOOL), "no-such-recording"]
