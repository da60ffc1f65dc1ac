"""Receive 250 markets live over TLS: what it costs, and how long a message takes.

    venue (TLS, a process) ──► client (a process): bare │ live │ views  ──► rows

`bare` is the floor: the official sockets, subscribed to the same, with their texts dropped.
`live` is dydx_conn.live and a subscriber that counts; `views` folds its frames into market
views too. The venue stamps each message as it hands it to its socket, the client as its
subscriber sees it, on the monotonic clock that all processes of a machine share; the n-th
message sent on a connection is the n-th that comes on it. Bytes are the kernel's own count.
"""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

Row = tuple[str, str, str, str]

# === Rows ===


def live(
    _: str, markets: int = 250, seconds: float = 60.0, speeds: Sequence[int] = (1, 10)
) -> Iterator[Row]:
    """Receive 250 markets from a local venue over TLS: rates, CPU, memory, bytes, latency.

    At the venue's own pace, and for a third of the time at ten times it: as a busy day would be.
    """
    for speed in speeds:
        yield from live_at(speed, markets, seconds if speed == 1 else seconds / 3)


def live_at(speed: int, markets: int, seconds: float) -> Iterator[Row]:
    """Measure at one speed of the venue."""
    from servers import venue_process

    with tempfile.TemporaryDirectory(prefix="dydx-bench-") as folder:
        stamps = Path(folder) / "stamps.json"
        flags = ("--count", str(markets), "--speed", str(speed), "--stamps", str(stamps))
        with venue_process("--tls", *flags) as venue:
            tickers = list(venue.query("/v4/perpetualMarkets")["markets"])
            where = {"rest": venue.rest, "ws": venue.ws, "tickers": tickers}
            trust = {"SSL_CERT_FILE": venue.authority}
            # One after the other: together they would share the cores that they are to measure.
            measured = {
                kind: measure(trust, kind=kind, seconds=share * seconds, **where)
                for kind, share in (("bare", 1 / 3), ("live", 1.0), ("views", 1 / 3))
            }
            venue.stop()
        sent = json.loads(stamps.read_bytes())
    yield from rows(f"live over TLS, {markets} markets at {speed}x", measured, sent)


def measure(trust: Mapping[str, str], **task: Any) -> dict[str, Any]:
    """Run one client process to its end; return what it measured of itself."""
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(task)]
    patience_s = 60 + 2 * task["seconds"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env=os.environ | trust, timeout=patience_s
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def rows(
    label: str, measured: Mapping[str, Mapping[str, Any]], sent: Mapping[str, Sequence[int]]
) -> Iterator[Row]:
    """Write what the clients measured, each figure beside that of the bare sockets."""
    ours, bare, views = measured["live"], measured["bare"], measured["views"]

    def row(figure: str, write: Callable[[Any], str], of: Any = ours, budget: str = "") -> Row:
        return f"  {figure}", write(of), write(bare), budget

    rates = [f"{h['frames'] / h['seconds']:,.0f} f/s" for h in (ours, bare)]
    yield f"{label}, {ours['seconds']:.0f} s", rates[0], rates[1], ""
    yield row("connections, REST's included", lambda h: str(h["connections"]))
    yield row("network, in", lambda h: f"{h['bytes'] / h['seconds'] / 1000:,.0f} kB/s")
    yield row("CPU of the client", lambda h: f"{h['cpu_s'] / h['seconds']:.1%} of a core")
    yield row("CPU of it, folded into views", lambda h: f"{h['cpu_s'] / h['seconds']:.1%}", views)
    yield row("CPU a frame", lambda h: f"{h['cpu_s'] / max(h['frames'], 1) * 1e6:,.0f} µs")
    yield row("memory", lambda h: f"{h['memory_mb']:.0f} MB")
    yield row("memory, with all views", lambda h: f"{h['memory_mb']:.0f} MB", views)
    for figure, measure in _LATENCIES.items():
        for share, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
            took = [ms(quantile(measure(sent, h), share)) for h in (ours, bare)]
            yield f"  {figure}, {name}", took[0], took[1], ""
    refused = "0, 0, 0"
    yield row(
        "errors, closes, closes with 1008", lambda h: f"{h['errors']}, {h['closes']}", ours, refused
    )


def since_sent(sent: Mapping[str, Sequence[int]], measured: Mapping[str, Any]) -> list[int]:
    """Return how long each message took from the venue's socket to the subscriber, in ns."""
    return [
        seen - at
        for id, (_, column) in measured["messages"].items()
        for at, seen in zip(sent[id], column, strict=False)  # the last ones never came
        if seen >= measured["since"]
    ]


def crossing(_: Any, measured: Mapping[str, Any]) -> list[int]:
    """Return how long each message took from the thread of its socket to the subscriber, in ns."""
    return [
        seen - received
        for columns in measured["messages"].values()
        for received, seen in zip(*columns, strict=True)
        if seen >= measured["since"]
    ]


_LATENCIES: Final = {
    "venue's send to subscriber": since_sent,
    "socket's thread to subscriber": crossing,
}


def quantile(values: Sequence[int], share: float) -> int:
    """Return the value below which a share of all lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def ms(nanoseconds: int) -> str:
    """Write a duration in milliseconds."""
    return f"{nanoseconds / 1e6:,.2f} ms"


# === Client ===

_Columns = tuple["array[int]", "array[int]"]
"""When each message of a connection was received, and when its subscriber saw it."""


@dataclass
class Ear:
    """What a client received, and what it cost from when all snapshots were there."""

    snapshots: int
    seconds: float
    messages: dict[str, _Columns] = field(default_factory=dict)
    errors: int = 0
    closes: list[str] = field(default_factory=list)
    links: dict[str, _Columns] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    since: int = 0
    cpu_s: float = 0.0
    bytes: int = 0

    def receive(self, link: str, text: str, at: int) -> bool:
        """Take one message as its subscriber sees it; False once the time is up."""
        now = time.monotonic_ns()
        head = text[:24]
        if "connected" in head:
            id = json.loads(text)["connection_id"]
            self.links[link] = self.messages[id] = (array("q"), array("q"))
        elif '"error' in head:
            self.errors += 1
        received, seen = self.links[link]
        received.append(at)
        seen.append(now)
        if self.since:
            return now - self.since < self.seconds * 1e9
        if "subscribed" in head:
            self.answered.append(link)
            if len(self.answered) >= self.snapshots:
                self.since, self.cpu_s, self.bytes = now, time.process_time(), kernel_bytes()[0]
        return True

    def report(self) -> dict[str, Any]:
        """Return all of it; the sockets must still be open."""
        from bot.system import memory_mb

        cpu_s, now, (bytes_, connections) = time.process_time(), time.monotonic_ns(), kernel_bytes()
        messages = {id: [[*received], [*seen]] for id, (received, seen) in self.messages.items()}
        return {
            "since": self.since,
            "seconds": (now - self.since) / 1e9,
            "cpu_s": cpu_s - self.cpu_s,
            "bytes": bytes_ - self.bytes,
            "connections": connections,
            "memory_mb": memory_mb(),
            "errors": self.errors,
            "closes": f"{len(self.closes)}, {self.closes.count('1008')}",
            "frames": sum(at >= self.since for _, seen in messages.values() for at in seen),
            "messages": messages,
        }


def kernel_bytes() -> tuple[int, int]:
    """Return how many bytes the kernel received on our TCP connections, and how many are open."""
    total = count = 0
    folder = Path("/proc/self/fd")
    for path in list(folder.iterdir()) if folder.exists() else ():
        try:
            if not os.readlink(path).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(path.name))) as end:
                end.getpeername()
                figures = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
        except OSError:
            continue  # closed meanwhile, or not a connection over TCP
        total += struct.unpack_from("Q", figures, _BYTES_RECEIVED)[0]
        count += 1
    return total, count


# Where struct tcp_info (linux/tcp.h) has tcpi_bytes_received.
_BYTES_RECEIVED: Final = 128


def listen(kind: str, rest: str, ws: str, tickers: list[str], seconds: float) -> dict[str, Any]:
    """Be a client of one kind until its time is up."""
    ear = Ear(2 * len(tickers), seconds)
    return bare(ear, ws, tickers) if kind == "bare" else ours(ear, kind, rest, ws, tickers)


def ours(ear: Ear, kind: str, rest: str, ws: str, tickers: list[str]) -> dict[str, Any]:
    """Receive as the bot does, and fold into views if that is requested."""
    from dydx_conn import Frame, live, network
    from dydx_data import market_views
    from reactivex import operators as ops

    reported: dict[str, Any] = {}

    def see(frame: Frame) -> None:
        # What is looked at is what the subscriber gets, after all that stands before it.
        if frame.kind == "close":
            ear.closes.append(frame.type)
        elif frame.kind == "ws" and not ear.receive(frame.link, frame.text, frame.mono):
            reported.update(reported or ear.report())

    frames = live(
        replace(network("local"), rest=rest, ws=ws), tickers, pace=lambda _: not reported
    ).pipe(ops.do_action(see))
    (frames.pipe(market_views()) if kind == "views" else frames).subscribe()
    return reported


def bare(ear: Ear, ws: str, tickers: list[str]) -> dict[str, Any]:
    """Receive with the official sockets alone, as many of them, subscribed to the same."""
    from dydx_conn import PER_CONNECTION
    from dydx_v4_client.indexer.socket.websocket import IndexerSocket

    over = threading.Event()
    groups = [tickers[i : i + PER_CONNECTION] for i in range(0, len(tickers), PER_CONNECTION)]

    def opened(app: Any, group: list[str], first: bool) -> None:
        if first:
            app.markets.subscribe()
            app.send('{"type":"subscribe","channel":"v4_block_height"}')
        for ticker in group:
            app.order_book.subscribe(ticker)
            app.trades.subscribe(ticker)

    def on_text(name: str, text: str | bytes) -> None:
        at = time.monotonic_ns()
        if not ear.receive(name, text if isinstance(text, str) else text.decode(), at):
            over.set()

    def closed(_: Any, code: int | None, __: Any) -> None:
        ear.closes.append(str(code))

    def failed(_: Any, error: object) -> None:
        # The client would go on in silence, and the bench wait for what never comes.
        print(f"bench: {error!r}", file=sys.stderr)
        over.set()

    for n, group in enumerate(groups):
        app = IndexerSocket(
            ws, on_error=failed, on_open=partial(opened, group=group, first=n == 0), on_close=closed
        )
        app.on_message = lambda _, text, n=n: on_text(str(n), text)
        run = partial(
            app.run_forever,
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, "check_hostname": True},
            skip_utf8_validation=True,
            suppress_origin=True,
        )
        threading.Thread(target=run, daemon=True).start()
    over.wait()
    return ear.report()


if __name__ == "__main__":
    print(json.dumps(listen(**json.loads(sys.argv[1]))))
