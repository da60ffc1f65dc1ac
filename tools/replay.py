"""Serve a recording to the unmodified official client, as the venue once sent it.

    recording ──► RecordedTape ──► Stage ──► REST and WebSocket on this machine ──► official client
                                        └── mitmproxy, if production addresses are to stay

    uv run --group tools tools/replay.py quickstart --speed 20
    uv run --group tools tools/replay.py quickstart --port 0 --speed max --once --strict

REST is answered by method, path and sorted query: the recorded answers in order, then the last
one again. A WebSocket is given the next recorded connection with the same first subscribe.
There each recorded subscribe is a gate: nothing that came after it is sent before the client has
subscribed to the same; then the texts follow at the recorded pace, word for word, to the recorded
close. A client that leaves early finds its connection waiting, from its beginning. What was never
recorded is a miss, counted, and answered as the venue would. Nothing here opens a connection.

Exit code: 0 served, 1 with `--strict` if anything was missed, 2 nothing to serve, or nowhere.
Sources: socks and comlink (v4-chain/indexer) for the words, dydx_conn for the file.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from dydx_conn import CHANNELS, ConnError, Frame, Recording, find_recording
from record import CannotRecordError, become_able, intercepting

if TYPE_CHECKING:
    import uvicorn
    from mitmproxy.http import HTTPFlow
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

NEEDS: Final = ("starlette", "uvicorn", "websockets", "mitmproxy")


class CannotServeError(Exception):
    """There is nothing to serve, or nowhere to serve it: change the arguments."""


def main(arguments: Sequence[str]) -> int:
    """Serve what the arguments request until stopped; return the exit code."""
    job = read_job(arguments)
    become_able(Path(__file__), arguments, NEEDS)
    try:
        return asyncio.run(serve(job))
    except (CannotServeError, CannotRecordError, ConnError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2


# === The job ===


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """What to serve, how fast and where; no speed is as fast as it can, no proxy is none."""

    recording: str
    speed: float | None = 1.0
    port: int = 0
    ws_port: int = 0
    tls_cert: str | None = None
    tls_key: str | None = None
    proxy: int | None = None
    strict: bool = False
    once: bool = False
    again: bool = False


def read_job(arguments: Sequence[str]) -> ReplayJob:
    """Read the command line; what makes no sense ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="tools/replay.py", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("recording", metavar="RECORDING", help="a name in recordings/, or a path")
    add("--speed", type=read_speed, default=1.0, metavar="N|max", help="times real time (1)")
    add("--port", type=int, default=3002, help="REST and WebSocket (3002); 0 for any free one")
    extra = "the same again, where the official LOCAL configuration looks for it (3003)"
    add("--ws-port", type=int, default=3003, metavar="PORT", help=extra)
    add("--tls-cert", metavar="PEM", help="serve https and wss with this certificate")
    add("--tls-key", metavar="PEM", help="its key, if that is in a file of its own")
    front = "run mitmproxy there, for a client that keeps production addresses; 0 for any"
    add("--proxy", type=int, metavar="PORT", help=front)
    add("--strict", action="store_true", help="list misses and unmet gates, and exit with 1")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--once", action="store_true", help="end when all has been played")
    ending.add_argument("--again", action="store_true", help="begin again when all has been played")
    options = parser.parse_args(arguments)
    if options.proxy is not None and options.tls_cert:
        parser.error("expected --proxy or --tls-cert: the proxy brings certificates of its own")
    return ReplayJob(**vars(options))


def read_speed(text: str) -> float | None:
    """Read a speed; None is as fast as it can."""
    with contextlib.suppress(ValueError):
        if text == "max" or 0 < float(text) < float("inf"):
            return None if text == "max" else float(text)
    raise argparse.ArgumentTypeError(f"expected a speed above 0 or max, got {text!r}")


# === Tape ===
# What a recording holds, in the order in which a server needs it. Answers are few and in memory;
# the texts of a connection stay in the file until they are due.

Key = tuple[str, str]
"""A channel and the id in it."""

RequestKey = tuple[str, str, tuple[tuple[str, str], ...]]
"""A request: method, path, and its query in the order of the alphabet."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """A recorded REST answer."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class RecordedConnection:
    """A recorded connection: where in the file it stands and what was subscribed to on it."""

    name: str
    link: str
    first: int
    last: int = 0
    texts: int = 0
    gates: "Counter[Key]" = field(default_factory=Counter)
    answered: "Counter[Key]" = field(default_factory=Counter)
    over: bool = False


@dataclass(slots=True)
class RecordedTape:
    """A recording, read once."""

    recording: Recording
    answers: dict[RequestKey, list[RecordedAnswer]] = field(default_factory=dict)
    connections: list[RecordedConnection] = field(default_factory=list)

    @property
    def texts(self) -> int:
        """Count what the server sends on all connections."""
        return sum(connection.texts for connection in self.connections)


def read_tape(path: Path) -> RecordedTape:
    """Read a recording; `RecordingError` or `CannotServeError` if there is nothing in it."""
    tape = RecordedTape(Recording(path))
    tape.answers = read_answers(tape.recording)
    open_now: dict[str, RecordedConnection] = {}
    for position, frame in enumerate(tape.recording):
        note(tape, open_now, position, frame)
    if not (tape.answers or tape.connections):
        raise CannotServeError(f"expected answers or connections in {path}, found none")
    return tape


def note(
    tape: RecordedTape, open_now: dict[str, RecordedConnection], position: int, frame: Frame
) -> None:
    """Enter one frame into its connection, if it belongs to one."""
    # The node's calls are no connection. A text without one lost its open line to damage.
    begins = frame.kind == "open" or (frame.kind == "ws" and frame.link not in open_now)
    if begins and frame.link != "node":
        name = f"connection {len(tape.connections) + 1}"
        open_now[frame.link] = RecordedConnection(name, frame.link, position)
        tape.connections.append(open_now[frame.link])
    connection = open_now.get(frame.link)
    if connection is None:
        return
    connection.last = position
    if frame.kind == "ws":
        connection.texts += 1
        if frame.type == "subscribed":
            connection.answered[key_of(frame.channel, frame.id)] += 1
    elif frame.kind == "sent" and (key := gate_of(frame.text)):
        connection.gates[key] += 1
    elif frame.kind == "close":
        del open_now[frame.link]


def read_answers(recording: Recording) -> dict[RequestKey, list[RecordedAnswer]]:
    """Read all REST answers, in order by request."""
    answers: dict[RequestKey, list[RecordedAnswer]] = {}
    # The reader's own lines: a frame keeps neither the method nor the headers.
    for line in recording.lines():
        # A line that is no answer is not worth decoding, a damaged one not possible.
        if b'"http"' in line[:16]:
            with contextlib.suppress(msgspec.DecodeError):
                event = msgspec.json.decode(line)
                parts = urlsplit(event["u"])
                if parts.path.startswith("/"):
                    key = request_key(event.get("m", "GET"), parts.path, parts.query)
                    answer = RecordedAnswer(event["st"], event.get("rh", {}), event["b"])
                    answers.setdefault(key, []).append(answer)
    return answers


def request_key(method: str, path: str, query: str) -> RequestKey:
    """Name a request; the order of its parameters is nobody's business."""
    return method, unquote(path), tuple(sorted(parse_qsl(query, keep_blank_values=True)))


def gate_of(text: str) -> Key | None:
    """Return what a recorded client's message subscribed to; None if it did not."""
    try:
        message = json.loads(text)
        is_subscribe = message["type"] == "subscribe"
        return key_of(message["channel"], message.get("id") or "") if is_subscribe else None
    except (ValueError, TypeError, KeyError):
        return None


def key_of(channel: str, id: str) -> Key:
    """Name a subscription; some channels have one alone, whatever the message calls it."""
    row = CHANNELS.get(channel)
    return channel, channel if row is not None and row.is_global else id


# === Subscriptions ===
# What a client sends, judged by what was recorded; the words are the venue's.


class ClientSide:
    """The client's side of one connection: what it subscribed to, what it still may."""

    def __init__(self, connection: RecordedConnection) -> None:
        self.passed: Counter[Key] = Counter()
        self._subscribed: Counter[Key] = Counter()
        # The request of an answer that is there may be lost: it is taken when it comes.
        self._left = connection.gates | connection.answered

    def receive(self, text: str) -> tuple[str, Key | None]:
        """Take a message; return the venue's objection, "" if it has none, and its subject."""
        try:
            message = json.loads(text)
        except ValueError:
            return "Invalid message: could not parse", None
        if not isinstance(message, dict) or not message.get("type"):
            return "Invalid message: type is required", None
        kind, channel, id = (message.get(name) for name in ("type", "channel", "id"))
        if kind in ("ping", "unsubscribe"):
            # The ping is never answered, and what answers the other is recorded or was not sent.
            return "", None
        if kind != "subscribe":
            return f"Invalid message: {kind}", None
        if channel not in CHANNELS:
            return f"Invalid channel: {channel}", None
        return self._subscribe(key_of(channel, str(id or "")))

    def may_pass(self, key: Key) -> bool:
        """Pass a gate, if its subscribe has come; each opens one gate."""
        if self.passed[key] >= self._subscribed[key]:
            return False
        self.passed[key] += 1
        return True

    def _subscribe(self, key: Key) -> tuple[str, Key | None]:
        channel, id = key
        if self._left[key]:
            self._left[key] -= 1
            self._subscribed[key] += 1
            return "", key
        if self._subscribed[key]:
            return f"Invalid subscribe message: already subscribed ({channel}-{id})", key
        return f"Invalid subscription id for channel: ({channel}-{id})", key


# === Stage ===


@dataclass
class Clock:
    """When a recorded instant is due; no speed, and everything is due at once."""

    speed: float | None
    _behind_s: float | None = None

    def wait_s(self, mono: int) -> float:
        """Return the seconds until `mono` is due, below 0 if it is late."""
        if self.speed is None:
            return 0.0
        at_s = mono / 1e9 / self.speed
        if self._behind_s is None:
            self._behind_s = time.monotonic() - at_s
        return at_s + self._behind_s - time.monotonic()

    def rebase(self, mono: int) -> None:
        """Let `mono` be now if it should have been before."""
        if self._behind_s is not None:
            self._behind_s -= min(self.wait_s(mono), 0.0)


class Stage:
    """What of a tape has been served, to whom, and what was requested in vain."""

    def __init__(self, tape: RecordedTape, job: ReplayJob) -> None:
        self.frames = 0
        self.answers = 0
        self.misses: Counter[str] = Counter()
        self.unmet: dict[str, Counter[Key]] = {}
        self.done = asyncio.Event()
        self._tape = tape
        self._job = job
        self._turns: Counter[RequestKey] = Counter()
        self._waiting = list(tape.connections)
        self._playing = 0
        self._returned = asyncio.Event()

    def answer(self, method: str, path: str, query: str) -> RecordedAnswer:
        """Return the next recorded answer; a miss is a 404 as the indexer words one."""
        key = request_key(method, path, query)
        answers = self._tape.answers.get(key)
        if answers is None:
            request = f"{method} {path}{'?' if query else ''}{query}"
            self.misses[request] += 1
            body = json.dumps({"errors": [{"msg": f"{request} was not recorded"}]})
            return RecordedAnswer(404, {}, body)
        turn = min(self._turns[key], len(answers) - 1)
        self._turns[key] += 1
        self.answers += 1
        return answers[turn]

    async def is_over(self) -> bool:
        """Return whether nothing is left to play to a further client."""
        # Who is quick comes back before it is noticed to have left.
        if self._playing and not self._waiting:
            self._returned.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._returned.wait(), PATIENCE_S)
        return not self._waiting

    def choose(self, text: str) -> RecordedConnection | None:
        """Take the first waiting connection that subscribed to this, or else the first."""
        if not self._waiting:
            self.misses[f"WebSocket: {NO_MORE}"] += 1
            return None
        key = gate_of(text)
        suitable = (one for one in self._waiting if key in one.gates)
        chosen = next(suitable, self._waiting[0])
        self._waiting.remove(chosen)
        self._playing += 1
        return chosen

    def has_choice(self) -> bool:
        """Return whether the waiting connections differ in what they subscribed to."""
        return any(one.gates != self._waiting[0].gates for one in self._waiting[1:])

    def give_back(self, connection: RecordedConnection, client: ClientSide) -> None:
        """Take note of how far a client came; what it left early waits for it again."""
        unmet = connection.gates - client.passed
        before = self.unmet.get(connection.name, unmet)
        self.unmet[connection.name] = min(before, unmet, key=Counter.total)
        self._playing -= 1
        self._returned.set()
        if not connection.over:
            self._waiting.append(connection)
            self._waiting.sort(key=self._tape.connections.index)
        elif self._job.again and not (self._waiting or self._playing):
            self._waiting = list(self._tape.connections)
            for played in self._waiting:
                played.over = False
        elif not (self._waiting or self._playing):
            self.done.set()


# === Serving ===

# A client that subscribes to nothing, or not before it is greeted, gets the next connection.
PATIENCE_S: Final = 1.0
NO_MORE: Final = "no further connection was recorded"
# So long may a gate hold everyone up before we print which.
NOTICE_S: Final = 5.0
# These mean that a connection broke off: no server can send them (RFC 6455, 7.4.1).
UNSENDABLE: Final = frozenset([0, 1005, 1006, 1015])


async def serve(job: ReplayJob) -> int:
    """Open the ports, print where they are, and serve until stopped."""
    tape = read_tape(find_recording(job.recording))
    stage = Stage(tape, job)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as closing:
        ports = [job.port] if job.port == job.ws_port == 0 else [job.port, job.ws_port]
        listeners = [closing.enter_context(listen(port)) for port in ports]
        server = make_server(application(stage, tape, job.speed), job)
        serving = asyncio.create_task(server.serve(sockets=listeners))
        try:
            async with front(job.proxy, listeners[0]) as proxy:
                announce(tape, job, listeners, proxy)
                await first_of(stop.wait(), *([stage.done.wait()] if job.once else []))
        finally:
            server.should_exit = True
            await serving
    return verdict(stage, job)


def listen(port: int) -> socket.socket:
    """Listen on a port of this machine; 0 is any."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        # From here on a client may come: it waits until the server is up.
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CannotServeError(f"expected port {port} to be free, but: {error}") from None
    return listener


def make_server(app: "Starlette", job: ReplayJob) -> "uvicorn.Server":
    """Make the server, as the venue has it: no compression, a ping every 30 s."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # they are ours

    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        # A client that cannot keep up with 20x is not dead, only behind: it is not pinged.
        ws_ping_interval=30.0 if job.speed == 1 else None,
        ws_ping_timeout=10.0,
        ssl_certfile=job.tls_cert,
        ssl_keyfile=job.tls_key,
        log_level="warning",
        access_log=False,
        lifespan="off",
        # The recorded ones are served.
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CannotServeError(f"expected a certificate in {job.tls_cert}, but: {error}") from None
    return Server(config)


def application(stage: Stage, tape: RecordedTape, speed: float | None) -> "Starlette":
    """Make the app: REST at every path, and a socket at every path."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute

    async def rest(request: "Request") -> "Response":
        url = request.url
        answer = stage.answer(request.method, url.path, url.query)
        headers = {"content-type": "application/json; charset=utf-8"} | answer.headers
        return Response(answer.body, answer.status, headers)

    async def ws(websocket: "WebSocket") -> None:
        if await stage.is_over():
            stage.misses[f"WebSocket: {NO_MORE}"] += 1
            body = json.dumps({"errors": [{"msg": NO_MORE}]})
            await websocket.send_denial_response(Response(body, 503))
        else:
            await websocket.accept()
            await play_to(websocket, stage, tape, Clock(speed))

    every = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    path = "/{path:path}"
    return Starlette(routes=[Route(path, rest, methods=every), WebSocketRoute(path, ws)])


async def play_to(websocket: "WebSocket", stage: Stage, tape: RecordedTape, clock: Clock) -> None:
    """Give a client its connection and play it, until either has enough."""
    first = await first_text(websocket) if stage.has_choice() else ""
    if first is None:
        return
    # Another client may have been quicker.
    connection = stage.choose(first)
    if connection is None:
        return await websocket.close(1013, NO_MORE)
    player = Player(websocket, stage, connection)
    began = time.monotonic()
    try:
        if first:
            await player.receive(first)
        await first_of(player.listen(), player.play(tape.recording.path, clock))
    finally:
        stage.give_back(connection, player.client)
        took_s = time.monotonic() - began
        ended = "played to its end" if connection.over else "left by the client"
        print(
            f"replay: {connection.name}: {player.sent:,} of {connection.texts:,} frames in "
            f"{took_s:.1f} s, {player.sent / took_s:,.0f}/s, {ended}",
            flush=True,
        )
    return None


async def first_text(websocket: "WebSocket") -> str | None:
    """Wait a little for what a client sends first, "" if nothing; None is that it is gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            return text_of(await websocket.receive())
    return ""


def text_of(message: Any) -> str | None:
    """Return the text of a message; None is that the client is gone."""
    if message["type"] != "websocket.receive":
        return None
    text = message.get("text")
    return text if text is not None else (message.get("bytes") or b"").decode("utf-8", "replace")


class Player:
    """One client and the recorded connection that is played to it."""

    def __init__(
        self, websocket: "WebSocket", stage: Stage, connection: RecordedConnection
    ) -> None:
        self.client = ClientSide(connection)
        self.sent = 0
        self._websocket = websocket
        self._stage = stage
        self._connection = connection
        self._arrived = asyncio.Event()
        self._connection_id = ""
        self._message_id = 0

    async def listen(self) -> None:
        """Receive from the client, until it is gone."""
        while (text := text_of(await self._websocket.receive())) is not None:
            await self.receive(text)

    async def receive(self, text: str) -> None:
        """Take one message of the client, and object to what was not recorded."""
        objection, key = self.client.receive(text)
        self._arrived.set()
        if objection and not self._connection.over:
            self._stage.misses[f"WebSocket: {objection}"] += 1
            error: dict[str, Any] = {"type": "error", "message": objection}
            error |= {"connection_id": self._connection_id, "message_id": self._message_id}
            error |= {"channel": key[0], "id": key[1]} if key else {}
            await self._websocket.send_text(json.dumps(error, separators=(",", ":")))

    async def play(self, path: Path, clock: Clock) -> None:
        """Send what was sent, when it is due, to the recorded close."""
        mine = self._connection
        # Read again for each client: hours of it need not be held in memory.
        for position, frame in enumerate(Recording(path)):
            if position % 256 == 0:
                await asyncio.sleep(0)
            if position > mine.last:
                break
            if position < mine.first or frame.link != mine.link:
                continue
            if frame.kind == "sent":
                await self._gate(frame, clock)
                continue
            if (wait_s := clock.wait_s(frame.mono)) > 0.001:
                await asyncio.sleep(wait_s)
            if frame.kind == "ws":
                await self._send(frame)
            elif frame.kind == "close":
                return await self._close(int(frame.type), frame.text)
        # Cut off before the connection was closed: the venue would be going away.
        await self._close(1001, "the recording ends here")
        return None

    async def _send(self, frame: Frame) -> None:
        self._message_id = max(self._message_id, frame.message_id)
        if frame.type == "connected":
            self._connection_id = json.loads(frame.text).get("connection_id", "")
        await self._websocket.send_text(frame.text)
        self.sent += 1
        self._stage.frames += 1

    async def _gate(self, frame: Frame, clock: Clock) -> None:
        key = gate_of(frame.text)
        if key is None:
            return
        clock.wait_s(frame.mono)
        printed = False
        while not self.client.may_pass(key):
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), None if printed else NOTICE_S)
            except TimeoutError:
                printed = True
                what = f"{self._connection.name} waits for a subscribe to {' '.join(key)}"
                print(f"replay: {what}", file=sys.stderr, flush=True)
        clock.rebase(frame.mono)

    async def _close(self, code: int, reason: str) -> None:
        self._connection.over = True
        # Without a goodbye the server hangs up, which is what the recorded client saw.
        if code not in UNSENDABLE:
            await self._websocket.close(code, reason)


async def first_of(*things: Any) -> None:
    """Wait for the first of several to end, and end the others; a bug in one is raised."""
    from starlette.websockets import WebSocketDisconnect

    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        # A client may leave in the middle of a text.
        if (error := task.exception()) and not isinstance(error, WebSocketDisconnect):
            raise error


# === Proxy ===


class Diversion:
    """The addon that sends every request to us, whatever host it was meant for."""

    def __init__(self, port: int) -> None:
        self._port = port

    def requestheaders(self, flow: "HTTPFlow") -> None:
        """Change scheme, host and port; the path and the words stay."""
        flow.request.scheme, flow.request.host = "http", "127.0.0.1"
        flow.request.port = self._port

    def websocket_message(self, flow: "HTTPFlow") -> None:
        """Forget what has passed: mitmproxy would keep it all."""
        if flow.websocket is not None:
            flow.websocket.messages.clear()


@contextlib.asynccontextmanager
async def front(port: int | None, server: socket.socket) -> AsyncIterator[tuple[int, str] | None]:
    """Run mitmproxy in front of the server, if wanted; yield its port and its certificate."""
    if port is None:
        yield None
        return
    async with intercepting(f"regular@127.0.0.1:{port}", port) as (master, actual):
        # Nothing but us is connected to, not even for a certificate to imitate.
        master.options.update(upstream_cert=False)
        master.addons.add(Diversion(server.getsockname()[1]))
        yield actual, str(Path(master.options.confdir) / "mitmproxy-ca-cert.pem")


# === Report ===


def announce(
    tape: RecordedTape,
    job: ReplayJob,
    listeners: Sequence[socket.socket],
    proxy: tuple[int, str] | None,
) -> None:
    """Print what is served, and where."""
    header, recording = tape.recording.header, tape.recording
    for damage in recording.damage:
        print(f"replay: {recording.path}: {damage}", file=sys.stderr)
    speed = "as fast as it can" if job.speed is None else f"{job.speed:g}x"
    count = sum(map(len, tape.answers.values()))
    print(
        f"{recording.path}: {header.source}, {tape.texts:,} frames on "
        f"{len(tape.connections)} connections, {count} answers, {speed}"
    )
    secure = "s" if job.tls_cert else ""
    ports = [listener.getsockname()[1] for listener in listeners]
    print(f"REST       http{secure}://127.0.0.1:{ports[0]}")
    for port in ports:
        print(f"WebSocket  ws{secure}://127.0.0.1:{port}/v4/ws")
    if proxy is not None:
        port, certificate = proxy
        print(f"proxy      HTTPS_PROXY=http://127.0.0.1:{port} SSL_CERT_FILE={certificate}")
        print(f"           WEBSOCKET_CLIENT_CA_BUNDLE={certificate}")
    print("Ctrl-C ends it.", flush=True)


def verdict(stage: Stage, job: ReplayJob) -> int:
    """Print what was served and what was not; return the exit code."""
    unmet = sum(map(Counter.total, stage.unmet.values()))
    missed = stage.misses.total()
    print(
        f"replay: {stage.frames:,} frames and {stage.answers:,} answers served, "
        f"{missed} misses, {unmet} gates unmet",
        flush=True,
    )
    if not job.strict:
        return 0
    for what, times in stage.misses.items():
        print(f"missed {times} times: {what}", file=sys.stderr)
    for name, keys in stage.unmet.items():
        for key in keys.elements():
            print(f"unmet on {name}: subscribe to {' '.join(key)}", file=sys.stderr)
    return 1 if missed or unmet else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
