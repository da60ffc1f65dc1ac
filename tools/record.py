"""Record what the official client and the venue send each other, as it passes.

    official client, a process ──► mitmproxy, in this one ──► venue
                                         └── Capture ──► recordings/NAME.jsonl.zst

    uv run --group tools tools/record.py NAME --network testnet --tickers BTC-USD --seconds 480
    … --network mine.toml --also v4_parent_subaccounts:ADDRESS/0 --also v4_block_height

The client is the unmodified one, driven by `dydx_conn.live` with the proxy in place of the
venue; the proxy looks for nothing in what passes and changes nothing but the address. Each
message is written when it passes: what kills this process costs less than a second of it.
Exit code: 0 recorded, 1 recorded with errors, 2 nothing to record (the reason is printed).
Sources: mitmproxy 11 (addons/proxyserver.py, proxy/layers/http), dydx_conn's format version 1.
"""

import argparse
import asyncio
import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import os
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from bot.progress import Progress
from dydx_conn import (
    ConnError,
    Frame,
    Header,
    Network,
    RecordingWriter,
    Subaccount,
    event_id,
    live,
    subscription,
    ws_frame,
)

if TYPE_CHECKING:
    from mitmproxy.http import HTTPFlow

ROOT = Path(__file__).resolve().parent.parent


class CannotRecordError(Exception):
    """There is nothing to record from, or nowhere to write it: change the arguments."""


def main(arguments: Sequence[str]) -> int:
    """Record what the arguments request; return the exit code."""
    become_able(Path(__file__), arguments, ("mitmproxy",))
    try:
        job = read_job(arguments)
        if job.listen:
            return asyncio.run(listen(job))
        reach(job.venue)
        return asyncio.run(record(job))
    except (CannotRecordError, ConnError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 2


def become_able(tool: Path, arguments: Sequence[str], needs: Sequence[str]) -> None:
    """Start again with the tools group if something needed is missing, as in a plain run."""
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if not missing:
        return
    command = ["run", "--project", str(ROOT), "--group", "tools", str(tool.resolve()), *arguments]
    if "UV" not in os.environ or os.environ.get("DYDX_TOOL_AGAIN"):
        typed = shlex.join(["uv", *command])
        print(f"{tool.stem}: {', '.join(missing)} not installed; type: {typed}", file=sys.stderr)
        raise SystemExit(2)
    os.environ["DYDX_TOOL_AGAIN"] = "1"
    os.execv(os.environ["UV"], [os.environ["UV"], *command])


# === The job ===


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordJob:
    """What to record, from where, for how long, and into which file."""

    path: Path
    network: str
    venue: Network
    tickers: tuple[str, ...]
    seconds: float
    subaccount: Subaccount | None
    candles: str
    also: tuple[tuple[str, str], ...]
    port: int
    listen: bool


def read_job(arguments: Sequence[str]) -> RecordJob:
    """Read the command line; `CannotRecordError` names what was expected."""
    parser = argparse.ArgumentParser(
        prog="tools/record.py", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("name", metavar="NAME|PATH", help="recordings/NAME.jsonl.zst, or a path")
    parser.add_argument(
        "--network",
        default="local",
        metavar="NAME|FILE.toml",
        help="testnet, mainnet, local (default) or a file that describes it",
    )
    parser.add_argument("--rest", help="REST address, if not the network's own")
    parser.add_argument("--ws", help="WebSocket address, if not the network's own")
    parser.add_argument("--tickers", default="BTC-USD,ETH-USD,SOL-USD", metavar="A,B,…")
    parser.add_argument("--seconds", type=float, default=480.0, help="how long (default 480)")
    parser.add_argument("--subaccount", metavar="ADDRESS/NUMBER", help="record its channel too")
    parser.add_argument("--candles", default="", metavar="1MIN", help="record candles too")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="CHANNEL[:ID]",
        help="record a further channel, subaccount or parent too; repeatable",
    )
    parser.add_argument("--port", type=int, default=0, help="the proxy's own port (default: any)")
    parser.add_argument("--force", action="store_true", help="write over an existing recording")
    # What the recorder passes to the process of its client.
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    # tools/replay.py, which stands on this file, chooses no network.
    from bot.config.environment import EnvironmentSettings

    chosen = EnvironmentSettings(
        network=options.network, rest=options.rest or "", ws=options.ws or ""
    )
    return RecordJob(
        path=recording_path(options.name, force=options.force),
        network=options.network,
        venue=chosen.chosen(),
        tickers=tuple(ticker for ticker in options.tickers.split(",") if ticker),
        seconds=options.seconds,
        subaccount=read_subaccount(options.subaccount) if options.subaccount else None,
        candles=read_resolution(options.candles) if options.candles else "",
        also=tuple(map(subscription, options.also)),
        port=options.port,
        listen=options.listen,
    )


def recording_path(name: str, *, force: bool) -> Path:
    """Return where the recording goes; an existing one is overwritten with `force` alone."""
    is_path = "/" in name or name.endswith(".zst")
    path = Path(name) if is_path else ROOT / "recordings" / f"{name}.jsonl.zst"
    if not path.parent.is_dir():
        raise CannotRecordError(f"expected {path.parent} to be a directory")
    if path.exists() and not force:
        raise CannotRecordError(f"{path} exists; choose another name, or add --force")
    return path


def read_subaccount(text: str) -> Subaccount:
    """Read ADDRESS/NUMBER."""
    owner, slash, number = text.partition("/")
    if not (owner and slash and number.isdecimal()):
        raise CannotRecordError(f"expected a subaccount as ADDRESS/NUMBER, got {text!r}")
    return Subaccount(owner, int(number))


def read_resolution(text: str) -> str:
    """Read a candle's resolution, as the client names it."""
    from dydx_v4_client.indexer.candles_resolution import CandlesResolution

    known = [resolution.value for resolution in CandlesResolution]
    if text not in known:
        raise CannotRecordError(f"expected candles of one of {', '.join(known)}, got {text!r}")
    return text


def reach(venue: Network) -> None:
    """Refuse a venue that takes no connection, before a file or a proxy is made for it."""
    for address in (venue.rest, venue.ws):
        parts = origin(address)
        try:
            socket.create_connection((parts.hostname or "", port_of(parts)), timeout=10).close()
        except OSError as error:
            raise CannotRecordError(
                f"expected {venue.name} to take connections at {address}, but: {error}"
            ) from error


def origin(address: str) -> SplitResult:
    """Split an address; a socket's scheme becomes that of the HTTP request that opens it."""
    parts = urlsplit(address)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        raise CannotRecordError(f"expected an address such as https://host, got {address!r}")
    return parts._replace(scheme=scheme)


def port_of(parts: SplitResult) -> int:
    """Return the port of an address, or its scheme's own."""
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


# === Recording ===


async def record(job: RecordJob) -> int:
    """Record until the time is up or a signal requests the end; return the exit code."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with proxy(job.venue, job.port) as (master, port):
        with contextlib.closing(RecordingWriter(job.path, header(job))) as writer:
            capture = Capture(writer, job.venue, give_up=stopping.set)
            master.addons.add(capture)
            with messages_taken(capture.websocket_message):
                async with client(through(job.venue, port), job) as running:
                    watching = asyncio.create_task(ends(running, capture, stopping))
                    await watch(capture, job, stopping)
                    watching.cancel()
                await capture.links_closed(within=3.0)
            master.addons.remove(capture)
    return verdict(capture, job)


def header(job: RecordJob) -> Header:
    """Write what the recording is: where it comes from, not how it came here."""
    client = f"dydx-v4-client {importlib.metadata.version('dydx-v4-client')}"
    return Header.of(job.venue, event_id(job.path.name, time.time_ns()), client=client)


def through(venue: Network, port: int) -> Network:
    """Return the venue as the client shall see it: the same paths, at the proxy."""
    rest, ws = (origin(address).path.rstrip("/") for address in (venue.rest, venue.ws))
    here = f"127.0.0.1:{port}"
    return replace(venue, rest=f"http://{here}{rest}", ws=f"ws://{here}{ws}")


def verdict(capture: "Capture", job: RecordJob) -> int:
    """Print how it went; return the exit code."""
    for error in capture.errors[:5]:
        print(f"record: {error}", file=sys.stderr)
    if not capture.received:
        # The first is the reason: the last may be what we hung up on at the end.
        why = capture.refusals[0] if capture.refusals else "it sent nothing"
        print(f"record: expected messages from {job.venue.name}, but {why}", file=sys.stderr)
        return 2
    size = job.path.stat().st_size
    print(f"{job.path}: {capture.writer.seq} events, {size:,} bytes", flush=True)
    if capture.errors:
        print(f"record: {len(capture.errors)} errors; gaps mark their places", file=sys.stderr)
    return 1 if capture.errors else 0


async def watch(capture: "Capture", job: RecordJob, stopping: asyncio.Event) -> None:
    """Beat once a second, so that silence is recorded too, and show what has come."""
    start = time.monotonic()
    shown, before, over = 0.0, 0, False
    with Progress("recorded seconds", job.seconds) as progress:
        every_s = 1.0 if progress.is_shown else 10.0
        for beat in range(1, sys.maxsize):
            wait = min(start + beat, start + job.seconds) - time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), max(wait, 0.0))
            capture.tick()
            elapsed = time.monotonic() - start
            over = stopping.is_set() or elapsed >= job.seconds
            if over or elapsed - shown >= every_s:
                figures = figures_of(
                    capture, (capture.writer.seq - before) / max(elapsed - shown, 1e-9)
                )
                progress.at(elapsed, figures)
                if over or not progress.is_shown:
                    progress.line(f"recording {elapsed:.0f}/{job.seconds:.0f} s: {figures}")
                shown, before = elapsed, capture.writer.seq
            if over:
                return


def figures_of(capture: "Capture", rate: float) -> str:
    """Return in words what has come so far, and how many frames came in a second of late."""
    return (
        f"{capture.writer.seq:,} frames, {rate:,.0f}/s, {capture.bytes:,} bytes, "
        f"{len(capture.tickers)} markets, {len(capture.errors)} errors"
    )


# === Capture ===

Hook = Callable[["Capture", "HTTPFlow"], None]


def guarded(hook: Hook) -> Hook:
    """Turn a hook's exception into an error and a gap: mitmproxy would swallow it."""

    @functools.wraps(hook)
    def guard(capture: "Capture", flow: "HTTPFlow") -> None:
        try:
            hook(capture, flow)
        except Exception as error:  # noqa: BLE001 - whatever it was, an event is missing now
            capture.missed(hook.__name__, error)

    return guard


class Capture:
    """The addon that writes down what passes; all of it runs on the proxy's loop."""

    def __init__(
        self, writer: RecordingWriter, venue: Network, *, give_up: Callable[[], None]
    ) -> None:
        self.writer = writer
        self.errors: list[str] = []
        self.refusals: list[str] = []
        self.tickers: set[str] = set()
        self.received = 0
        self.bytes = 0
        self._venue = venue
        self._rest, self._ws = origin(venue.rest), origin(venue.ws)
        self._links: dict[str, str] = {}
        self._opened = 0
        self._give_up = give_up

    def tick(self) -> None:
        """Write that a second has passed, and let no kill cost more than that."""
        try:
            self._write("tick")
            # By itself a block waits for an event that comes a second after its first.
            self.writer.flush()
        except Exception as error:  # noqa: BLE001 - as a full disk; the recording ends
            self.missed("tick", error)

    async def links_closed(self, *, within: float) -> None:
        """Wait until the ends of all connections are written."""
        until = time.monotonic() + within
        while self._links and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def missed(self, hook: str, error: Exception) -> None:
        """Count an event that could not be written, and mark its place."""
        why = f"{hook}: {type(error).__name__}: {error}"
        self.errors.append(why)
        try:
            self._write("gap", n=1, why=why)
            self.writer.flush()
        except Exception:  # noqa: BLE001 - nothing can be written any more
            self._give_up()

    @guarded
    def requestheaders(self, flow: "HTTPFlow") -> None:
        """Send the socket's request where the socket is: on a local venue, another port."""
        if is_upgrade(flow) and self._ws[:2] != self._rest[:2]:
            flow.request.scheme = self._ws.scheme
            flow.request.host = self._ws.hostname or ""
            flow.request.port = port_of(self._ws)
            flow.request.host_header = self._ws.netloc

    @guarded
    def response(self, flow: "HTTPFlow") -> None:
        """Write a REST answer; the answer to an upgrade is the open event."""
        response = flow.response
        if response is None or response.status_code == 101:
            return
        url = f"{self._rest.scheme}://{self._rest.netloc}{flow.request.path}"
        if is_upgrade(flow) or response.status_code >= 400:
            self.refusals.append(f"{url} was answered {response.status_code}")
        self._write(
            "http",
            c="rest",
            ns=int(flow.request.timestamp_start * 1e9),
            ens=time.time_ns(),
            m=flow.request.method,
            u=url,
            st=response.status_code,
            rh={
                name: response.headers[name]
                for name in RECORDED_HEADERS
                if name in response.headers
            },
            b=response.get_text(strict=False) or "",
        )

    @guarded
    def error(self, flow: "HTTPFlow") -> None:
        """Write that a request went unanswered."""
        why = f"{flow.request.path}: {flow.error.msg if flow.error else 'no answer'}"
        self.refusals.append(why)
        # A socket that breaks off has an end of its own.
        if flow.websocket is None:
            self._write("gap", c="" if is_upgrade(flow) else "rest", n=0, why=why)

    @guarded
    def websocket_start(self, flow: "HTTPFlow") -> None:
        """Write that a connection is open."""
        self._opened += 1
        self._links[flow.id] = f"c{self._opened}"
        self._write("open", c=self._links[flow.id], u=self._venue.ws)

    @guarded
    def websocket_message(self, flow: "HTTPFlow") -> None:
        """Write one message, either way, word for word."""
        if flow.websocket is None:
            return
        message = flow.websocket.messages[-1]
        # mitmproxy keeps them all until the end, which for us may be days away.
        flow.websocket.messages.clear()
        direction = ">" if message.from_client else "<"
        self.received += not message.from_client
        self.bytes += len(message.content)
        text = message.content.decode("utf-8", "replace")
        self._look(text)
        self._write("ws", c=self._links[flow.id], d=direction, x=text)

    @guarded
    def websocket_end(self, flow: "HTTPFlow") -> None:
        """Write that a connection is closed, and by whom."""
        link = self._links.pop(flow.id)
        end = flow.websocket
        self._write(
            "close",
            c=link,
            code=(end and end.close_code) or 0,
            reason=(end and end.close_reason) or "",
            by="client" if end and end.closed_by_client else "server",
        )

    def _look(self, text: str) -> None:
        frame = ws_frame(0, 0, 0, "", text)
        if frame.channel == "v4_orderbook" and frame.type != "subscribe":
            self.tickers.add(frame.id)

    def _write(self, kind: str, ns: int = 0, **fields: Any) -> None:
        self.writer.write(kind, ns=ns or time.time_ns(), mono=time.monotonic_ns(), **fields)


# What shows how the venue treats us; nothing that names anyone.
RECORDED_HEADERS = (
    *("content-type", "date", "retry-after"),
    *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
)


def is_upgrade(flow: "HTTPFlow") -> bool:
    """Return whether a request is for a socket rather than REST."""
    return str(flow.request.headers.get("upgrade", "")).lower() == "websocket"


# === Proxy ===


@contextlib.asynccontextmanager
async def proxy(venue: Network, port: int) -> AsyncIterator[tuple[Any, int]]:
    """Run mitmproxy in front of a venue's REST address; yield its master and its port."""
    parts = origin(venue.rest)
    upstream = f"{parts.scheme}://{parts.hostname}:{port_of(parts)}"
    async with intercepting(f"reverse:{upstream}@127.0.0.1:{port}", port) as running:
        yield running


@contextlib.asynccontextmanager
async def intercepting(mode: str, port: int) -> AsyncIterator[tuple[Any, int]]:
    """Run mitmproxy in a mode of its own words; yield its master and its port."""
    from mitmproxy.addons import core, disable_h2c, next_layer, proxyserver, tlsconfig
    from mitmproxy.master import Master
    from mitmproxy.options import Options

    with tempfile.TemporaryDirectory() as folder, logged("mitmproxy") as complaints:
        # Its certificate authority need not outlive it in anyone's home.
        options: Any = Options(confdir=folder, mode=[mode])
        master: Any = Master(options)
        make_server: Callable[[], Any] = proxyserver.Proxyserver
        server = make_server()
        master.addons.add(
            *(core.Core(), disable_h2c.DisableH2C(), server),
            *(next_layer.NextLayer(), tlsconfig.TlsConfig()),
        )
        # This option exists only now that the addon which defines it is there.
        options.update(connection_strategy="lazy")
        running = asyncio.create_task(master.run())
        try:
            yield master, await listening(server, running, complaints, port)
        finally:
            # A master leaves its listeners open: it expects the process to end with it.
            await server.servers.update([])
            master.shutdown()
            await running


@contextlib.contextmanager
def messages_taken(take: Callable[["HTTPFlow"], None]) -> Iterator[None]:
    """Take each WebSocket message where it passes, not in a hook.

    A hook holds the message back, costs a task and calls each addon twice: a third of all that a
    message costs. We only read, so nothing need wait for us.
    """
    from mitmproxy.proxy.commands import Command
    from mitmproxy.proxy.events import Event
    from mitmproxy.proxy.layers import websocket

    stock = websocket.WebsocketLayer

    class Taking(stock):  # type: ignore[misc, valid-type]  # a class in a variable
        def relay_messages(self, event: Event) -> Iterator[Command]:
            for command in super().relay_messages(event):
                if isinstance(command, websocket.WebsocketMessageHook):
                    take(command.flow)
                else:
                    yield command

    layers: Any = websocket
    layers.WebsocketLayer = Taking
    try:
        yield
    finally:
        layers.WebsocketLayer = stock


async def listening(server: Any, running: Awaitable[None], complaints: list[str], port: int) -> int:
    """Wait for the proxy to listen and return its port: a busy one does not raise."""
    for _ in range(500):
        if addresses := server.listen_addrs():
            return int(addresses[0][1])
        if complaints:
            break
        await asyncio.sleep(0.01)
    raise CannotRecordError(
        f"expected to listen on 127.0.0.1:{port}, but {'; '.join(complaints) or 'nothing happened'}"
    )


@contextlib.contextmanager
def logged(name: str) -> Iterator[list[str]]:
    """Collect what a logger complains about."""
    complaints: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    listener = Listener(logging.ERROR)
    logging.getLogger(name).addHandler(listener)
    try:
        yield complaints
    finally:
        logging.getLogger(name).removeHandler(listener)


# === Client ===


@contextlib.asynccontextmanager
async def client(venue: Network, job: RecordJob) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the official client in a process of its own: what it does there is not our time."""
    command = [str(job.path), "--force", "--listen", "--network", job.network]
    command += ["--rest", venue.rest, "--ws", venue.ws, "--tickers", ",".join(job.tickers)]
    command += ["--candles", job.candles] if job.candles else []
    for channel, id_ in job.also:
        command += ["--also", f"{channel}:{id_}".rstrip(":")]
    if job.subaccount is not None:
        command += ["--subaccount", f"{job.subaccount.owner}/{job.subaccount.number}"]
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, *command), stdin=pipe, stdout=pipe
    )
    to_it, from_it = running.stdin, running.stdout
    # Its imports take a second, in which nothing would pass: the clock starts after them.
    if from_it is None or to_it is None or not await from_it.readline():
        raise CannotRecordError("expected the client to start, but it ended")
    try:
        yield running
    finally:
        # It listens until we are silent, and so it ends too if we are killed.
        to_it.close()
        try:
            await asyncio.wait_for(running.wait(), 10.0)
        except TimeoutError:
            running.kill()
            await running.wait()


async def ends(
    running: asyncio.subprocess.Process, capture: "Capture", stopping: asyncio.Event
) -> None:
    """Note if the client ends before it is stopped: without it nothing is recorded."""
    code = await running.wait()
    capture.errors.append(f"expected the client to listen, but it ended with {code}")
    stopping.set()


async def listen(job: RecordJob) -> int:
    """Let the official client listen, on threads of its own, and query what REST knows."""
    # Now, or the first connection would wait for it.
    import dydx_v4_client  # noqa: F401

    # No other proxy may stand between the client and ours.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    # Ctrl-C goes to the recorder, which stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping = threading.Event()

    def receive() -> None:
        def unless_stopping(_: Frame) -> bool:
            return not stopping.is_set()

        # The frames themselves are taken down on their way through the proxy.
        live(
            job.venue,
            job.tickers,
            subaccount=job.subaccount,
            resolutions=[job.candles] if job.candles else [],
            also=job.also,
            pace=unless_stopping,
        ).subscribe()

    receiver = threading.Thread(target=receive, name="official client", daemon=True)
    print("ready", flush=True)
    receiver.start()
    querying = asyncio.create_task(query(job.venue, job))
    await asyncio.to_thread(sys.stdin.read)
    stopping.set()
    querying.cancel()
    await asyncio.gather(querying, return_exceptions=True)
    await asyncio.to_thread(receiver.join, 5.0)
    return 0


# A hundred requests in ten seconds is what an indexer takes from one address.
REQUEST_PAUSE_S = 0.15


async def query(venue: Network, job: RecordJob) -> None:
    """Query once what the socket does not carry, slowly enough not to be refused."""
    import httpx
    from dydx_v4_client.indexer.rest.indexer_client import IndexerClient

    rest = IndexerClient(venue.rest, api_timeout=10.0)
    requests: list[Callable[[], Awaitable[Any]]] = []
    for ticker in job.tickers:
        requests += [
            functools.partial(rest.markets.get_perpetual_market_orderbook, ticker),
            functools.partial(rest.markets.get_perpetual_market_trades, ticker, limit=100),
            functools.partial(rest.markets.get_perpetual_market_candles, ticker, "1MIN", limit=100),
            functools.partial(
                rest.markets.get_perpetual_market_historical_funding, ticker, limit=100
            ),
        ]
    if job.subaccount is not None:
        of = (job.subaccount.owner, job.subaccount.number)
        requests += [
            functools.partial(rest.account.get_subaccount, *of),
            functools.partial(rest.account.get_subaccount_orders, *of),
            functools.partial(rest.account.get_subaccount_fills, *of),
        ]
    for request in requests:
        # A refusal is recorded like any answer; the next request may fare better.
        with contextlib.suppress(httpx.HTTPError, ValueError):
            await request()
        await asyncio.sleep(REQUEST_PAUSE_S)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
