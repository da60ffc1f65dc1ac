"""The recorder, run as a person runs it, against a venue of a few lines on loopback."""

import asyncio
import contextlib
import datetime
import http.server
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import record
import websockets.sync.client
import websockets.sync.server
from dydx_conn import (
    NETWORKS,
    ConnError,
    Frame,
    Header,
    Network,
    Recording,
    RecordingWriter,
    Subaccount,
)

TOOL = Path(record.__file__)
# What mitmproxy imports uses names that its own dependencies have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OWNER = "dydx1kzsvkf2ghjqlysuffdkhcdctknl4rsvcx5hkm5"


class Venue:
    """REST on one port and a socket on another, as a local indexer has them."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        venue = self
        self.stopped: list[str] = []
        self.sent: list[str] = []
        self.compression: list[str] = []

        class Rest(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                venue.stopped.append(self.path)
                body = b'{"markets":{}}'
                self.send_response(404 if "historicalFunding" in self.path else 200)
                self.send_header("RateLimit-Remaining", "99")
                self.send_header("Set-Cookie", "visitor=secret")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
        if context is not None:
            self._rest.socket = context.wrap_socket(self._rest.socket, server_side=True)
        self._ws = websockets.sync.server.serve(self._serve, "127.0.0.1", 0, ssl=context)
        self._threads = [
            threading.Thread(target=server.serve_forever) for server in (self._rest, self._ws)
        ]
        secure = "s" if context else ""
        self.rest = f"http{secure}://127.0.0.1:{self._rest.server_address[1]}"
        self.ws = f"ws{secure}://127.0.0.1:{self._ws.socket.getsockname()[1]}/v4/ws"
        self.network = Network(name="local", rest=self.rest, ws=self.ws, node="", chain_id="")

    def _serve(self, connection: websockets.sync.server.ServerConnection) -> None:
        agreed = connection.response.headers if connection.response else {}
        self.compression.append(agreed.get("Sec-WebSocket-Extensions", ""))
        sent: list[str] = []

        def send(text: str) -> None:
            connection.send(text)
            sent.append(text)

        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            send('{"type":"connected","connection_id":"a","message_id":0}')
            for number in range(1, 100_000):
                with contextlib.suppress(TimeoutError):
                    request = json.loads(connection.recv(timeout=0.02))
                    what = {key: request.get(key) for key in ("channel", "id")}
                    send(json.dumps({"type": "subscribed", "message_id": number, **what}))
                send('{ "type":"channel_data", "text" : "é\\u0000 ünd \\"mehr\\"" }' + " " * 99)
        if len(sent) > len(self.sent):
            self.sent = sent

    def __enter__(self) -> "Venue":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rest.shutdown()
        self._ws.shutdown()
        for thread in self._threads:
            thread.join()
        self._rest.server_close()


@pytest.fixture
def venue() -> Iterator[Venue]:
    """Run a venue for a test."""
    with Venue() as venue:
        yield venue


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what the tool sets for its own process end with the test."""
    for name in ("NO_PROXY", "no_proxy", "DYDX_TOOL_AGAIN"):
        monkeypatch.setenv(name, "")


def arguments(venue: Venue, path: Path, *more: str) -> list[str]:
    """Request a recording of `venue`."""
    return [str(path), "--rest", venue.rest, "--ws", venue.ws, *more]


def started(venue: Venue, path: Path, *more: str) -> "subprocess.Popen[str]":
    """Start the tool as a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(TOOL), *arguments(venue, path, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# No test takes as long; a busy machine may.
PATIENCE_S = 120


def wait_for_bytes(paths: list[Path], size: int) -> None:
    """Wait until each file holds more than `size` bytes."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if all(path.exists() and path.stat().st_size > size for path in paths):
            return
        time.sleep(0.05)
    raise AssertionError(f"expected {size} bytes in each of {paths}")


def recorded(command: list[str], enough: Callable[[list[Frame]], bool]) -> int:
    """Record until what is on the disk is enough, and end it by Ctrl-C; return the exit code."""
    path, over = Path(command[0]), threading.Event()

    def interrupt() -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not over.wait(0.1):
            with contextlib.suppress(OSError, ConnError):  # not yet begun
                if enough(list(Recording(path))):
                    break
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=interrupt)
    person.start()
    try:
        return record.main([*command, "--seconds", "600"])
    finally:
        over.set()
        person.join()


def texts(frames: list[Frame], kind: str, link: str = "c1") -> list[str]:
    """Return what was sent on one link."""
    return [frame.text for frame in frames if frame.kind == kind and frame.link == link]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RecordingWriter]:
    """Open a recording for a test."""
    header = Header(network="local", rest="", ws="", client="", source="")
    with contextlib.closing(RecordingWriter(tmp_path / "unit.jsonl.zst", header)) as writer:
        yield writer


# === Recording ===


def test_what_passes_is_recorded_word_for_word_with_the_venues_own_addresses(
    venue: Venue, tmp_path: Path
) -> None:
    """Every kind of event is there, in the server's words, and the proxy nowhere."""
    path = tmp_path / "whole.jsonl.zst"
    command = arguments(venue, path, "--subaccount", f"{OWNER}/0")
    command += ["--tickers", "BTC-USD,ETH-USD", "--candles", "1MIN"]

    def enough(frames: list[Frame]) -> bool:
        kinds = Counter(frame.kind for frame in frames)
        answered = {frame.channel for frame in frames if frame.kind == "http"}
        # The markets, three of the account, four of each market; the socket's own are nine.
        return kinds["tick"] >= 2 and kinds["sent"] >= 9 and len(answered) == 1 + 3 + 4 * 2

    code = recorded(command, enough)

    recording = Recording(path)
    frames = list(recording)
    kinds = Counter(frame.kind for frame in frames)
    assert code == 0
    assert recording.complete
    assert (recording.header.rest, recording.header.ws) == (venue.rest, venue.ws)
    assert recording.header.source == "local stand-in venue"
    assert re.fullmatch(r"dydx-v4-client \d+\.\d+\.\d+", recording.header.client)
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert kinds["open"] == kinds["close"] == 1
    assert kinds["tick"] >= 2
    assert texts(frames, "open") == [venue.ws]
    received = texts(frames, "ws")
    assert venue.sent[: len(received)] == received
    sent = [json.loads(text) for text in texts(frames, "sent")]
    assert {"type": "subscribe", "channel": "v4_subaccounts", "id": f"{OWNER}/0"} in sent
    assert {"v4_markets", "v4_block_height", "v4_orderbook", "v4_trades", "v4_candles"} <= {
        message["channel"] for message in sent
    }
    answers = {frame.channel: frame.type for frame in frames if frame.kind == "http"}
    assert answers["/v4/perpetualMarkets"] == "200"
    assert answers["/v4/orderbooks/perpetualMarket/ETH-USD"] == "200"
    assert answers["/v4/trades/perpetualMarket/BTC-USD?limit=100"] == "200"
    assert answers["/v4/candles/perpetualMarkets/BTC-USD?resolution=1MIN&limit=100"] == "200"
    assert answers["/v4/historicalFunding/BTC-USD?limit=100"] == "404"
    assert f"/v4/addresses/{OWNER}/subaccountNumber/0" in answers
    assert set(venue.stopped) == set(answers)


def test_a_recording_ends_well_when_stopped_and_stays_readable_when_killed(
    venue: Venue, tmp_path: Path
) -> None:
    """SIGTERM writes the end line, as Ctrl-C does above; kill -9 costs a beat or two."""
    signals = [signal.SIGTERM, signal.SIGKILL]
    paths = [tmp_path / f"{number.name}.jsonl.zst" for number in signals]
    tools = [started(venue, path, "--seconds", "600", "--tickers", "A-USD") for path in paths]
    wait_for_bytes(paths, 1500)

    killed_at = time.time_ns()
    for tool, number in zip(tools, signals, strict=True):
        tool.send_signal(number)
    outputs = [tool.communicate(timeout=PATIENCE_S) for tool in tools]

    stopped, killed = recordings = [Recording(path) for path in paths]
    frames, left = [list(recording) for recording in recordings]
    assert [tool.returncode for tool in tools] == [0, -signal.SIGKILL], outputs
    assert [stopped.complete, killed.complete] == [True, False]
    assert frames[-1].kind == "close"
    assert len(left) > 10
    assert not any(frame.kind == "gap" for frame in left)
    # A beat is a second; a machine that is busy may be late with one.
    assert killed_at - left[-1].at < 5e9
    assert len(killed.damage) == 1
    assert "events" in outputs[0][0]


def test_compressed_messages_are_recorded_as_text(venue: Venue, tmp_path: Path) -> None:
    """A client that agrees on compression with the venue changes nothing in the file."""
    path = tmp_path / "deflated.jsonl.zst"
    header = Header(network="local", rest="", ws="", client="", source="")
    received: list[object] = []

    def listen(port: int) -> None:
        address = f"ws://127.0.0.1:{port}/v4/ws"
        with websockets.sync.client.connect(address, compression="deflate") as connection:
            connection.send('{"channel":"v4_trades","id":"ETH-USD"}')
            received.extend(connection.recv() for _ in range(4))

    async def scenario() -> record.Capture:
        async with record.proxy(venue.network, 0) as (master, port):
            with contextlib.closing(RecordingWriter(path, header)) as writer:
                capture = record.Capture(writer, venue.network, give_up=lambda: None)
                master.addons.add(capture)
                await asyncio.to_thread(listen, port)
                await capture.links_closed(within=PATIENCE_S)
                master.addons.remove(capture)
        return capture

    capture = asyncio.run(scenario())

    frames = list(Recording(path))
    assert "permessage-deflate" in venue.compression[0]
    assert capture.errors == []
    assert texts(frames, "ws")[:4] == received
    assert texts(frames, "sent") == ['{"channel":"v4_trades","id":"ETH-USD"}']
    assert (frames[-1].kind, frames[-1].type) == ("close", "1000")


def test_cookies_are_not_recorded_and_limits_are(venue: Venue, tmp_path: Path) -> None:
    """Of an answer's headers only those that show how the venue treats us are recorded."""
    path = tmp_path / "headers.jsonl.zst"

    recorded(
        arguments(venue, path, "--tickers", ""),
        lambda frames: any(frame.kind == "http" for frame in frames),
    )

    import zstandard

    with zstandard.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    headers = [line["rh"] for line in lines if line["k"] == "http"]
    assert [{"ratelimit-remaining"}] == [
        set(recorded) & {"ratelimit-remaining"} for recorded in headers
    ]
    assert "secret" not in json.dumps(lines)


# === Trouble ===


def test_a_hook_that_fails_leaves_a_gap_and_fails_the_recording(
    writer: RecordingWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mitmproxy swallows a hook's exception; the recording must not."""
    from mitmproxy.test.tflow import twebsocketflow

    capture = record.Capture(writer, NETWORKS["local"], give_up=lambda: None)
    flow = twebsocketflow()
    job = record.read_job([str(writer.path), "--force"])

    capture.websocket_message(flow)  # never opened: its link has no name
    capture.websocket_start(flow)
    flow = twebsocketflow()
    code = record.verdict(capture, job)

    writer.close()
    assert code == 1
    assert "websocket_message: KeyError" in capsys.readouterr().err
    assert [frame.kind for frame in Recording(writer.path)] == ["gap", "open"]


def test_a_writer_that_fails_ends_the_recording(writer: RecordingWriter) -> None:
    """On a full disk nothing is gained by going on."""
    ended: list[bool] = []
    capture = record.Capture(writer, NETWORKS["local"], give_up=lambda: ended.append(True))
    writer.close()

    capture.tick()

    assert ended
    assert capture.errors


def test_requests_that_go_unanswered_are_gaps(writer: RecordingWriter) -> None:
    """The recording shows that an answer is missing, and which."""
    from mitmproxy.test.tflow import tflow, twebsocketflow

    capture = record.Capture(writer, NETWORKS["local"], give_up=lambda: None)

    capture.error(tflow(err=True))
    capture.error(twebsocketflow(err=True))

    writer.close()
    gaps = list(Recording(writer.path))
    assert [(gap.kind, gap.link, gap.text) for gap in gaps] == [("gap", "rest", "/path: error")]
    assert len(capture.refusals) == 2


def test_a_venue_that_takes_no_connection_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, a sentence, and no file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    path = tmp_path / "none.jsonl.zst"

    code = record.main([str(path), "--rest", f"http://127.0.0.1:{port}"])

    assert code == 2
    assert f"to take connections at http://127.0.0.1:{port}" in capsys.readouterr().err
    assert not path.exists()


def test_a_venue_that_sends_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recording without a message from the venue is none, and the reason is printed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    with Venue(context) as venue:
        code = recorded(
            arguments(venue, tmp_path / "none.jsonl.zst", "--tickers", ""),
            lambda frames: any("certificate" in frame.text.lower() for frame in frames),
        )

    assert code == 2
    assert "certificate" in capsys.readouterr().err.lower()


def test_a_busy_port_is_refused(
    venue: Venue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mitmproxy only logs it; we end with code 2 and name the port."""
    path = tmp_path / "none.jsonl.zst"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        code = record.main(arguments(venue, path, "--port", str(port)))

    assert code == 2
    assert f"expected to listen on 127.0.0.1:{port}, but" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["x", "--network", "moonnet"], "expected one of mainnet, testnet, local"),
        (["x", "--subaccount", OWNER], "ADDRESS/NUMBER"),
        (["x", "--subaccount", f"{OWNER}/one"], "ADDRESS/NUMBER"),
        (["x", "--candles", "2MIN"], "expected candles of one of 1MIN"),
        (["x", "--also", "v4_weather:BTC-USD"], "expected a channel of v4_markets"),
        (["x", "--also", "v4_candles:BTC-USD"], "expected v4_candles:ticker/resolution"),
        (["x", "--network", "no/such.toml"], "expected a network in TOML at no/such.toml"),
        (["x", "--rest", "ftp://somewhere"], "expected an address"),
        (["x", "--ws", "somewhere"], "expected an address"),
        (["./no/such/place/x.zst"], "to be a directory"),
        ([str(TOOL)], "exists; choose another name, or add --force"),
    ],
)
def test_a_request_that_cannot_be_met_is_explained(
    command: list[str], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one sentence that names what was expected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        default = ["--rest", f"http://127.0.0.1:{server.getsockname()[1]}"]

        code = record.main([command[0], *default, *command[1:]])

    assert code == 2
    assert printed in capsys.readouterr().err


# === The job ===


def test_a_name_is_a_file_in_recordings_and_a_path_is_a_path() -> None:
    """Short to type, and free to go elsewhere."""
    job = record.read_job(["calm-9", "--tickers", "BTC-USD,ETH-USD", "--subaccount", f"{OWNER}/7"])

    assert job.path == TOOL.parent.parent / "recordings" / "calm-9.jsonl.zst"
    assert job.tickers == ("BTC-USD", "ETH-USD")
    assert job.subaccount == Subaccount(OWNER, 7)
    assert job.venue == NETWORKS["local"]


def test_real_networks_are_named_in_the_header(tmp_path: Path) -> None:
    """What is market data of dYdX is marked so, and what is not is not."""
    job = record.read_job([str(tmp_path / "t.jsonl.zst"), "--network", "testnet"])

    header = record.header(job)

    assert header.source == "dYdX testnet"
    assert header.ws == "wss://indexer.v4testnet.dydx.exchange/v4/ws"


NETWORK = """
name = "mine"
rest = "{rest}"
ws = "{ws}"
node = "127.0.0.1:9090"
chain_id = "mine-1"
"""


@pytest.mark.parametrize(
    ("line", "source"),
    [("", "mine, chain mine-1"), ('source = "my own node and indexer"', "my own node and indexer")],
)
def test_a_network_of_a_file_is_recorded_under_its_own_name(
    line: str, source: str, venue: Venue, tmp_path: Path
) -> None:
    """With what it says of itself, and further channels: subaccounts, parents, another market."""
    file, path = tmp_path / "mine.toml", tmp_path / "mine.jsonl.zst"
    file.write_text(NETWORK.format(rest=venue.rest, ws=venue.ws) + line)
    also = [f"v4_subaccounts:{OWNER}/1", f"v4_parent_subaccounts:{OWNER}/0", "v4_orderbook:B-USD"]
    command = [str(path), "--network", str(file), "--tickers", "A-USD"]
    command += [word for one in also for word in ("--also", one)]

    def enough(frames: list[Frame]) -> bool:
        return len({frame.text for frame in frames if frame.kind == "sent"}) >= 7

    code = recorded(command, enough)

    recording = Recording(path)
    requests = [json.loads(text) for text in texts(list(recording), "sent")]
    assert code == 0
    assert (recording.header.network, recording.header.source) == ("mine", source)
    assert (recording.header.rest, recording.header.ws) == (venue.rest, venue.ws)
    assert {*also} <= {f"{request['channel']}:{request.get('id')}" for request in requests}


def test_another_address_is_not_recorded_as_the_network_itself(tmp_path: Path) -> None:
    """What answers there may be anything."""
    rest = "https://proxy.example"
    job = record.read_job([str(tmp_path / "t.jsonl.zst"), "--network", "testnet", "--rest", rest])

    assert record.header(job).source == "dYdX testnet, by way of https://proxy.example"


def test_the_client_sees_the_venues_paths_at_the_proxy() -> None:
    """Nothing but the address changes."""
    seen = record.through(NETWORKS["mainnet"], 4711)

    assert (seen.rest, seen.ws) == ("http://127.0.0.1:4711", "ws://127.0.0.1:4711/v4/ws")


def test_without_mitmproxy_the_tool_starts_again_with_its_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under uv it helps itself, once; without uv it prints what to type."""
    started: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    monkeypatch.setenv("UV", "/bin/uv")

    record.become_able(TOOL, ["quickstart"], ["mitmproxy"])
    with pytest.raises(SystemExit):
        record.become_able(TOOL, ["quickstart"], ["mitmproxy"])

    root = str(TOOL.parent.parent)
    command = ["run", "--project", root, "--group", "tools", str(TOOL), "quickstart"]
    assert started == [["/bin/uv", *command]]
    assert f"mitmproxy not installed; type: uv {' '.join(command)}" in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [True, False])
def test_how_far_it_is_is_a_bar_on_a_terminal_and_a_line_at_the_end(
    writer: RecordingWriter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
) -> None:
    """In a pipe stderr stays as it is, for errors alone."""
    capture = record.Capture(writer, NETWORKS["local"], give_up=lambda: None)
    job: Any = SimpleNamespace(seconds=0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    asyncio.run(record.watch(capture, job, asyncio.Event()))

    out, err = capsys.readouterr()
    assert re.fullmatch(r"recording \d+/0 s: \d+ frames, .*, 0 markets, 0 errors\n", out)
    assert ("recorded seconds" in err) is is_terminal
    assert is_terminal or not err


def self_signed(folder: Path) -> Path:
    """Make a certificate that nobody vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(encoding))
    return pem
