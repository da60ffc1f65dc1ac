"""Measure the recorder: what a thousand frames a second cost it, and what a kill costs.

    source (a process) ──► record.py: proxy and writer (a process) ──► its client (a process)
                                └── psutil: processor time, memory

    uv run --group tools tools/bench_recorder.py --seconds 600
    uv run --group tools tools/bench_recorder.py --kills 20

The source speaks the indexer's protocol on this machine and sends real book updates, those of the
recording `sixty`, evenly or in bursts. The figure is the processor time of the process that
proxies and writes, client and source apart; start and end are not counted. Every connection's
message ids are checked for holes. A kill comes at a random moment (seeded) and costs what passed
between the last event that can be read and the kill. Exit code: 0 within bounds, 1 not.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from dydx_conn import Frame, Recording, find_recording

if TYPE_CHECKING:
    import psutil
    from websockets.asyncio.server import ServerConnection

TOOLS: Final = Path(__file__).resolve().parent
# Bounds that the project requires.
MOST_OF_A_CORE: Final = 0.20
MOST_LOST_S: Final = 1.0
# Imports and the first compressions are no part of the steady state.
WARM_UP_S: Final = 5.0


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments request and print it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools/bench_recorder.py", description=(__doc__ or "")[:72]
    )
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long to measure (60)")
    add("--rate", type=int, default=1000, help="frames a second (1000)")
    add("--burst", type=int, default=1, help="frames that come at once (1)")
    add("--count", type=int, default=30, help="how many markets (30)")
    # What it was called before.
    add("--markets", type=int, dest="count", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add("--kills", type=int, default=0, help="kill the recorder so often, and measure that")
    add("--seed", type=int, default=7, help="when to kill")
    add("--source", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.source:
        asyncio.run(serve(options.rate, options.burst))
        return 0
    with tempfile.TemporaryDirectory() as folder, source(options.rate, options.burst) as port:
        place = RecorderRun(Path(folder), port, options.count)
        if options.kills:
            return report_kills(place, options.kills, Random(options.seed))
        return report_cost(place, options.seconds, options.rate)


# === Source ===


@contextlib.contextmanager
def source(rate: int, burst: int) -> Iterator[int]:
    """Run the source as a process of its own; yield its port."""
    command = [sys.executable, __file__, "--source", "--rate", str(rate), "--burst", str(burst)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield int(running.stdout.readline() if running.stdout else 0)
        finally:
            running.terminate()


async def serve(rate: int, burst: int) -> None:
    """Serve until terminated: REST knows no market, the socket sends `rate` frames a second."""
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as listen
    from websockets.exceptions import ConnectionClosed

    updates = itertools.cycle(book_updates())
    lines: list[Line] = []

    def answer(connection: ServerConnection, request: Any) -> Any:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return connection.respond(200, '{"markets":{}}')
        return None

    async def converse(connection: ServerConnection) -> None:
        line = Line(connection)
        lines.append(line)
        try:
            # A recorder that was killed has left in the middle of a word.
            with contextlib.suppress(ConnectionClosed):
                await line.send({"type": "connected", "message_id": 0})
                async for text in connection:
                    await line.receive(json.loads(text))
        finally:
            lines.remove(line)

    async with listen(converse, "127.0.0.1", 0, process_request=answer, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        due = time.monotonic()
        for number in itertools.count():
            due += burst / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            ready = [line for line in lines if line.books]
            for part in range(burst if ready else 0):
                with contextlib.suppress(ConnectionClosed):
                    await ready[(number * burst + part) % len(ready)].update(next(updates))


def book_updates() -> list[str]:
    """Return the contents of recorded book updates."""
    frames = Recording(find_recording("sixty"))
    return [
        bytes(frame.raw).decode()
        for frame in frames
        if (frame.type, frame.channel) == ("channel_batch_data", "v4_orderbook")
    ]


class Line:
    """One connection of the source: its count of messages, its books."""

    def __init__(self, connection: "ServerConnection") -> None:
        self.books: list[str] = []
        self._message_id = 0
        self._connection = connection

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message as it is."""
        await self._connection.send(json.dumps(message))

    async def receive(self, message: dict[str, Any]) -> None:
        """Answer a subscribe; nothing else matters here."""
        if message.get("type") != "subscribe":
            return
        channel, id = message["channel"], message.get("id") or message["channel"]
        self._message_id += 1
        named = {"message_id": self._message_id, "channel": channel, "id": id}
        await self.send({"type": "subscribed", **named, "contents": SNAPSHOTS.get(channel, {})})
        if channel == "v4_orderbook":
            self.books.append(id)

    async def update(self, contents: str) -> None:
        """Send one book update, of each book in turn."""
        self._message_id += 1
        book = self.books[self._message_id % len(self.books)]
        await self._connection.send(
            f'{{"type":"channel_batch_data","connection_id":"a","message_id":{self._message_id},'
            f'"id":"{book}","channel":"v4_orderbook","version":"1.0.0","contents":{contents}}}'
        )


SNAPSHOTS: Final[dict[str, dict[str, Any]]] = {
    "v4_orderbook": {"bids": [], "asks": []},
    "v4_trades": {"trades": []},
    "v4_markets": {"markets": {}},
    "v4_block_height": {"height": "1", "time": "2026-01-05T13:56:00.000Z"},
}


# === Recorder ===


@dataclass(frozen=True, slots=True)
class RecorderRun:
    """Where to record, from which source, how many markets."""

    folder: Path
    port: int
    markets: int

    def record(self, path: Path, seconds: float) -> "subprocess.Popen[str]":
        """Start the recorder as a person would."""
        tickers = ",".join(f"M{number}-USD" for number in range(self.markets))
        here = f"127.0.0.1:{self.port}"
        command = [sys.executable, str(TOOLS / "record.py"), str(path), "--tickers", tickers]
        command += ["--rest", f"http://{here}", "--ws", f"ws://{here}/v4/ws"]
        return subprocess.Popen(
            [*command, "--seconds", str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def holes(frames: Sequence[Frame]) -> int:
    """Count the message ids that are missing between the first and the last of each connection."""
    seen: dict[str, set[int]] = {}
    for frame in frames:
        if frame.kind == "ws":
            seen.setdefault(frame.link, set()).add(frame.message_id)
    return sum(max(ids) + 1 - len(ids) for ids in seen.values())


# === Cost ===


def report_cost(place: RecorderRun, seconds: float, rate: int) -> int:
    """Record for so long and print what it cost."""
    import psutil

    path = place.folder / "cost.jsonl.zst"
    with place.record(path, seconds + WARM_UP_S + 2.0) as running:
        recorder = psutil.Process(running.pid)
        time.sleep(WARM_UP_S)
        shares, client_share, memory = sample(recorder, seconds)
        output, _ = running.communicate()
    recording = Recording(path)
    frames = [frame for frame in recording if frame.kind == "ws"]
    span_s = (frames[-1].mono - frames[0].mono) / 1e9
    mean = statistics.fmean(shares)
    print(output.strip().splitlines()[-1])
    print(
        f"{len(frames):,} frames in {span_s:.0f} s, {len(frames) / span_s:,.0f}/s of {rate:,}/s; "
        f"{holes(frames)} missing, {'complete' if recording.complete else 'NOT COMPLETE'}"
    )
    print(
        f"recorder {mean:.1%} of a core (highest second {max(shares):.1%}), "
        f"{memory[0]:.0f} to {memory[-1]:.0f} MB; client {client_share:.1%}, apart"
    )
    good = recording.complete and not holes(frames) and mean < MOST_OF_A_CORE
    return 0 if good and running.returncode == 0 else 1


def sample(recorder: "psutil.Process", seconds: float) -> tuple[list[float], float, list[float]]:
    """Sample once a second: shares of a core, the client's mean share, megabytes resident."""
    shares, memory = [], []
    clients = recorder.children()
    before, client_before, began = busy_s([recorder]), busy_s(clients), time.monotonic()
    last = began
    while last - began < seconds:
        time.sleep(1.0)
        now, busy = time.monotonic(), busy_s([recorder])
        shares.append((busy - before) / (now - last))
        memory.append(recorder.memory_info().rss / 1e6)
        last, before = now, busy
    return shares, (busy_s(clients) - client_before) / (last - began), memory


def busy_s(processes: "Sequence[psutil.Process]") -> float:
    """Return the processor seconds that processes have used, in their own code and the kernel."""
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


# === Kills ===


def report_kills(place: RecorderRun, kills: int, chance: Random) -> int:
    """Kill the recorder at random moments and print what each kill cost."""
    losses = []
    for number in range(1, kills + 1):
        path = place.folder / f"kill{number}.jsonl.zst"
        with place.record(path, 3600) as running:
            wait_for_first(path)
            time.sleep(chance.uniform(0.0, 5.0))
            killed_at = time.time_ns()
            running.send_signal(signal.SIGKILL)
            running.wait()
        frames = list(Recording(path))
        lost_s = (killed_at - frames[-1].at) / 1e9
        losses.append(lost_s)
        print(
            f"kill {number:2}: {len(frames):6,} events readable, {holes(frames)} missing, "
            f"{lost_s * 1e3:4.0f} ms lost",
            flush=True,
        )
        if holes(frames):
            return 1
    print(f"{kills} kills: {max(losses) * 1e3:.0f} ms lost at most, all files readable")
    return 0 if max(losses) < MOST_LOST_S else 1


def wait_for_first(path: Path) -> None:
    """Wait until something beyond the header is written."""
    for _ in range(1000):
        if path.exists() and path.stat().st_size > 2000:
            return
        time.sleep(0.02)
    raise SystemExit(f"expected a recording to grow at {path}, it did not")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
