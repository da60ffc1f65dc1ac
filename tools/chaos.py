"""Stand between a client and a venue as a network that fails: on purpose, by a seeded plan.

    uv run tools/chaos.py --upstream 127.0.0.1:3002 --port 4002 --every 10 --seed 7

    client ◄──► ChaosProxy ◄──► venue        bytes only: TLS passes through untouched

A cut is made at once: `fin` and `rst` end every connection, `mid_frame` in the middle of what
is being sent, `corrupt` flips bits. The others last a while: `delay`, `throttle`, `refuse`
(nobody is let in) and `half_open` (connections look alive and carry nothing; those it caught
are dead for good, as behind a router that forgot them). In process, `await proxy.fault("rst")`
does it and returns what was done and when, so that a test or a soak can hold it against what
the client made of it.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

# === Faults ===

CUTS: Final = ("fin", "rst", "mid_frame", "corrupt")
LASTING: Final = ("delay", "throttle", "refuse", "half_open")
FAULTS: Final = (*CUTS, *LASTING)

# How long a cut waits for something to be cut, and a dead connection for its client to see it.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ProxyFault:
    """What was done, to how many connections, from when to when (monotonic ns).

    `held_s` is the longest that a client held on to a connection that was dead.
    """

    kind: str
    begun_ns: int
    ended_ns: int
    hit: int
    held_s: float = 0.0

    def __str__(self) -> str:
        lasted = (self.ended_ns - self.begun_ns) / 1e9
        return f"{self.kind:<10}{self.hit:>3} connections, {lasted:6.2f} s"


def plan(seed: int, *, longest_s: float) -> Iterator[tuple[str, float]]:
    """Name faults and how long each lasts, for ever: every kind once before any comes again."""
    chance = Random(seed)
    while True:
        for kind in chance.sample(FAULTS, len(FAULTS)):
            yield kind, 0.0 if kind in CUTS else chance.uniform(longest_s / 4, longest_s)


# === Proxy ===


class ChaosProxy:
    """A TCP proxy on the loopback that does what `fault` commands; an async context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        seed: int = 0,
        listen: int = 0,
        delay_s: float = 0.3,
        bytes_per_s: float = 65_536,
    ) -> None:
        self.port = listen
        self.carried = 0  # bytes, both ways
        self._upstream = (host, port)
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s
        self._chance = Random(seed)
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._held_s = 0.0
        self._mode = ""  # the lasting fault in force
        self._next_chunk = ""  # the cut that waits for the next chunk to the client

    async def __aenter__(self) -> "ChaosProxy":
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_listening()
        for link in list(self._links):
            link.cut(politely=False)
        while self._links:
            await asyncio.sleep(0.005)

    async def fault(self, kind: str, seconds: float = 0.0) -> ProxyFault:
        """Do one fault and return when it is over: a lasting one after `seconds`.

        `mid_frame` and `corrupt` wait for something to be sent to the client; `half_open` until
        the client has given up each connection that it caught, a minute at most.
        """
        if kind not in FAULTS:
            raise ValueError(f"expected a fault of {', '.join(FAULTS)}; got {kind!r}")
        begun, hit, self._held_s = time.monotonic_ns(), len(self._links), 0.0
        if kind in ("fin", "rst"):
            self._cut_all(politely=kind == "fin")
        elif kind in CUTS:
            hit = await self._strike(kind)
        elif kind == "refuse":
            await self._refuse(seconds)
        else:
            await self._last(kind, seconds)
        return ProxyFault(kind, begun, time.monotonic_ns(), hit, self._held_s)

    def _cut_all(self, *, politely: bool) -> None:
        for link in list(self._links):
            link.cut(politely=politely)

    async def _strike(self, kind: str) -> int:
        self._next_chunk = kind
        end = time.monotonic() + PATIENCE_S
        while self._next_chunk and time.monotonic() < end:
            await asyncio.sleep(0.005)
        struck, self._next_chunk = not self._next_chunk, ""
        return int(struck)

    async def _refuse(self, seconds: float) -> None:
        await self._stop_listening()
        self._cut_all(politely=False)
        await asyncio.sleep(seconds)
        await self._listen()

    async def _last(self, kind: str, seconds: float) -> None:
        for link in self._links if kind == "half_open" else ():
            link.dead_since = time.monotonic()
        self._mode = kind
        await asyncio.sleep(seconds)
        self._mode = ""
        end = time.monotonic() + PATIENCE_S
        while any(link.dead_since for link in self._links) and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def _listen(self) -> None:
        # A port that was just left may still be lingering.
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        if self._mode == "half_open":
            link.dead_since = time.monotonic()
        self._links.add(link)
        try:
            up_reader, link.up = await asyncio.open_connection(*self._upstream)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(link, reader, link.up, to_client=False))
                both.create_task(self._carry(link, up_reader, writer, to_client=True))
        except* OSError:
            pass  # the venue is away, or either side hung up hard: the other one notices
        finally:
            link.cut(politely=True)
            self._links.discard(link)
            if link.dead_since:
                self._held_s = max(self._held_s, time.monotonic() - link.dead_since)

    async def _carry(
        self,
        link: "_Link",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        to_client: bool,
    ) -> None:
        while chunk := await reader.read(65_536):
            if link.dead_since:
                continue  # swallowed: nobody notices
            if self._mode == "delay":
                await asyncio.sleep(self._delay_s)
            elif self._mode == "throttle":
                await asyncio.sleep(len(chunk) / self._bytes_per_s)
            if writer.is_closing():
                break  # to write now would only be complained of
            if to_client and self._next_chunk:
                chunk = self._spoil(link, chunk)
            self.carried += len(chunk)
            with contextlib.suppress(ConnectionError):
                writer.write(chunk)
                await writer.drain()
        # A dead connection is ended by its client alone; the venue's goodbye is swallowed too.
        if not (link.dead_since and to_client):
            link.cut(politely=True)

    def _spoil(self, link: "_Link", chunk: bytes) -> bytes:
        kind, self._next_chunk = self._next_chunk, ""
        if kind == "mid_frame":
            asyncio.get_running_loop().call_soon(link.cut)
            return chunk[: len(chunk) // 2]
        spoilt = bytearray(chunk)
        for _ in range(8):
            spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
        return bytes(spoilt)


class _Link:
    """One connection through the proxy: its two ends."""

    def __init__(self, down: asyncio.StreamWriter) -> None:
        self.down = down
        self.up: asyncio.StreamWriter | None = None
        self.dead_since = 0.0  # monotonic seconds; 0 while it carries

    def cut(self, *, politely: bool = True) -> None:
        """End both sides: with a FIN after what is waiting, or with a RST at once."""
        for writer in (self.down, self.up):
            if writer is None or writer.transport.is_closing():
                continue
            if politely:
                writer.close()
                continue
            end: socket.socket = writer.get_extra_info("socket")
            # Lingering for no time is how a socket hangs up with RST.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


# === Command line ===


def main(arguments: list[str]) -> int:
    """Run until Ctrl-C or SIGTERM, and print what was done when."""
    parser = argparse.ArgumentParser(
        prog="uv run tools/chaos.py", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--upstream", required=True, metavar="HOST:PORT", help="the venue")
    add("--port", type=int, default=0, help="where to listen; 0 for any (default)")
    add("--seed", type=int, default=0, help="the same seed plans the same faults")
    add("--every", type=float, default=0.0, metavar="SECONDS", help="0 does nothing (default)")
    options = parser.parse_args(arguments)
    host, _, port = options.upstream.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"expected --upstream HOST:PORT, but it was {options.upstream!r}")
    try:
        asyncio.run(
            run(ChaosProxy(host, int(port), seed=options.seed, listen=options.port), options)
        )
    except OSError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    return 0


async def run(proxy: ChaosProxy, options: argparse.Namespace) -> None:
    """Carry, and do the plan's faults, until stopped."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        print(f"127.0.0.1:{proxy.port} stands for {options.upstream}; Ctrl-C ends it.", flush=True)
        working = asyncio.create_task(work(proxy, options.seed, options.every, print_fault))
        await stop.wait()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def work(
    proxy: ChaosProxy, seed: int, every_s: float, done: Callable[[ProxyFault], None]
) -> None:
    """Do a fault every `every_s` seconds; two never overlap, and between them is time to mend."""
    if not every_s:
        return
    await asyncio.sleep(every_s)
    for kind, seconds in plan(seed, longest_s=every_s / 3):
        begun = time.monotonic()
        done(await proxy.fault(kind, seconds))
        took = time.monotonic() - begun
        await asyncio.sleep(max(every_s - took, every_s / 2))


def print_fault(fault: ProxyFault) -> None:
    """Print what was done, at the time it was over."""
    print(f"{time.strftime('%H:%M:%S')}  {fault}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
