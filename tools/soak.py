"""Let the connection run for an hour through a network that fails, and hold it to its promises.

    uv run --all-packages --group dev tools/soak.py --minutes 60 --fault-every 60    the hour
    uv run --all-packages --group dev tools/soak.py --minutes 10 --fault-every 10    compressed

    venue (TLS) ◄──► ChaosProxy ◄──► client: dydx_conn.live ──► market_views      three processes
                         │                        │
                      faults                lapses, samples, books ──► verdict

A market is fresh while its book is known and was updated no longer than `--bound` ago; the rest
of the time is lapses, to the nanosecond of the frames that began and ended them. They are held
against what the proxy did when. At the end venue time is held, and every book must equal the
venue's own; every message that the venue sent on a connection that lives must have come.
Exit code: 0 all promises held, 1 one was broken, 2 the soak itself could not be done.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot.progress import Progress
from chaos import FAULTS, ChaosProxy, ProxyFault, work
from servers import VenueProcess, venue_process

if TYPE_CHECKING:
    from dydx_conn import Frame
    from dydx_data import Book, MarketView

TOOLS = Path(__file__).resolve().parent
SECOND: Final = 1_000_000_000

# === Freshness ===

Span = tuple[int, int]
"""From and to, in monotonic nanoseconds."""


class Freshness:
    """When one market's data was not fresh: fold its updates, get its lapses.

    >>> market = Freshness(bound_ns=5, began_ns=0)
    >>> [market.see(True, 2), market.see(True, 4), market.see(True, 12), market.end(13)]
    [(0, 2), None, (9, 12), None]
    """

    def __init__(self, bound_ns: int, began_ns: int) -> None:
        self.longest_quiet_ns = 0  # between updates of a book that was called known
        self._bound_ns = bound_ns
        self._updated = began_ns
        self._lost: int | None = began_ns

    def see(self, known: bool, at: int) -> Span | None:
        """Take an update (the book is known) or a loss; return the lapse that an update ended."""
        if self._lost is None:
            self.longest_quiet_ns = max(self.longest_quiet_ns, at - self._updated)
        if not known:
            if self._lost is None:
                self._lost = min(at, self._updated + self._bound_ns)
            return None
        lapse = self.end(at)
        self._lost, self._updated = None, at
        return lapse

    def end(self, at: int) -> Span | None:
        """Return the lapse that is under way, as if it ended now; None if data are fresh."""
        if self._lost is not None:
            return self._lost, at
        due = self._updated + self._bound_ns
        return (due, at) if at > due else None


def clip(spans: Sequence[Span], window: Span) -> list[Span]:
    """Cut spans down to what lies in the window."""
    cut = ((max(a, window[0]), min(b, window[1])) for a, b in spans)
    return [(a, b) for a, b in cut if a < b]


def without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """Take the holes out of the spans.

    >>> without([(0, 10)], [(2, 3), (8, 20)])
    [(0, 2), (3, 8)]
    """
    left = list(spans)
    for start, end in holes:
        parts = ((part for part in ((a, min(b, start)), (max(a, end), b))) for a, b in left)
        left = [part for pair in parts for part in pair if part[0] < part[1]]
    return left


def length(spans: Sequence[Span]) -> int:
    """Return how long the spans are together; they must not overlap."""
    return sum(b - a for a, b in spans)


# === Counting ===


class Count:
    """Count what came on each connection, knowing nothing of how the client checks it.

    The venue numbers a connection's messages without a hole: whoever has fewer than the highest
    number shows has lost some. Answers that are still owed explain as many.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.noticed = 0
        self.living: dict[str, ConnectionCount] = {}

    def see(self, frame: "Frame") -> None:
        """Take a frame of any kind."""
        if frame.kind == "gap":
            self.noticed += 1
        elif frame.kind in ("open", "close"):
            self.settle(frame.link)
        elif frame.kind == "sent":
            connection = self.living.setdefault(frame.link, ConnectionCount())
            connection.owed += '"type":"ping"' not in frame.text.replace(" ", "")
        elif frame.kind == "ws":
            self.living.setdefault(frame.link, ConnectionCount()).see(frame)

    def settle(self, link: str) -> None:
        """Close the books of a connection that ended."""
        connection = self.living.pop(link, None)
        if connection is not None:
            self.lost += connection.lost


@dataclass(slots=True)
class ConnectionCount:
    """What came on one connection."""

    id: str = ""
    messages: int = 0
    numbered: int = 0
    highest: int = 0
    owed: int = 0

    @property
    def lost(self) -> int:
        """Return how many messages are missing below the highest number."""
        return max(self.highest - self.numbered - self.owed, 0)

    def see(self, frame: "Frame") -> None:
        """Take one message of the venue."""
        self.messages += 1
        if frame.type == "connected":
            self.id = json.loads(frame.text)["connection_id"]
        elif frame.type == "error":
            # It repeats a number, and may be the answer to what took one.
            self.owed -= self.owed > 0
        else:
            self.numbered += 1
            self.highest = max(self.highest, frame.message_id)
            self.owed -= frame.type in ("subscribed", "unsubscribed") and self.owed > 0


# === Client ===
# The process that is judged: nothing but the connection, the fold and the counting.


@dataclass(frozen=True, slots=True)
class Task:
    """What the client process is to do."""

    rest: str
    ws: str
    tickers: tuple[str, ...]
    bound_s: float


class Client:
    """Folds frames into views, and reports to the parent lapses, samples and the end."""

    SAMPLE_S: Final = 2.0

    def __init__(self, task: Task) -> None:
        from dydx_data import DataState

        began = time.monotonic_ns()
        bound_ns = int(task.bound_s * SECOND)
        self.state = DataState(task.tickers)
        self.markets = {ticker: Freshness(bound_ns, began) for ticker in task.tickers}
        # The same, were a book that is lost not unknown but merely as old as it is.
        self.ages = {ticker: Freshness(bound_ns, began) for ticker in task.tickers}
        self.count = Count()
        self.kinds: Counter[str] = Counter()
        self.stopping = False
        self._now = began
        self._due = 0

    def pace(self, frame: "Frame") -> bool:
        """Look at a frame before it is folded; False ends the stream."""
        self._now = frame.mono
        self.kinds[frame.kind if frame.kind != "ws" else frame.type] += 1
        self.count.see(frame)
        if frame.mono >= self._due:
            self._due = frame.mono + int(self.SAMPLE_S * SECOND)
            report_to_parent(sample=frame.mono, **costs(), frames=self.state.frames)
        return not self.stopping

    def on_view(self, view: "MarketView") -> None:
        """Look at a market that a frame touched."""
        if view.changed != "book":
            return
        self._report_lapse(view.ticker, self.markets[view.ticker].see(view.book.known, self._now))
        if view.book.known:
            self._report_lapse(view.ticker, self.ages[view.ticker].see(True, self._now), old=True)

    def end(self) -> None:
        """Report all that is left."""
        now = time.monotonic_ns()
        for ticker, market in self.markets.items():
            self._report_lapse(ticker, market.end(now))
            self._report_lapse(ticker, self.ages[ticker].end(now), old=True)
        living = {c.id: c.messages for c in self.count.living.values()}
        for link in list(self.count.living):
            self.count.settle(link)
        quiet = max(market.longest_quiet_ns for market in self.markets.values())
        report_to_parent(
            end=now,
            kinds=self.kinds,
            troubles=self.state.counts(),
            lost=self.count.lost,
            noticed=self.count.noticed,
            living=living,
            books={ticker: levels(view.book) for ticker, view in self.state.views.items()},
            longest_quiet_ns=quiet,
            left=left_behind(),
        )

    def _report_lapse(self, ticker: str, span: Span | None, *, old: bool = False) -> None:
        if span:
            report_to_parent(lapse=ticker, span=span, old=old)


def client(task: Task) -> int:
    """Be the client process until SIGTERM."""
    from dydx_conn import live, network
    from dydx_data import market_views

    one = Client(task)
    signal.signal(signal.SIGTERM, lambda *_: setattr(one, "stopping", True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, and ends us
    venue = replace(network("local"), rest=task.rest, ws=task.ws)
    frames = live(venue, task.tickers, pace=one.pace)
    frames.pipe(market_views(one.state)).subscribe(one.on_view)
    one.end()
    return 0


def report_to_parent(**what: Any) -> None:
    """Write one line to the parent."""
    print(json.dumps(what), flush=True)


def costs() -> dict[str, float]:
    """Return what this process holds and has used."""
    from bot.system import memory_mb

    return {
        "memory_mb": memory_mb(),
        "cpu_s": time.process_time(),
        "threads": threading.active_count(),
    }


def levels(book: "Book") -> dict[str, list[tuple[float, float]]] | None:
    """Return a book as the venue's REST answer has it; None for one that is not known."""
    if not book.known:
        return None
    sides = {"bids": book.bids(100), "asks": book.asks(100)}
    return {side: [(level.price, level.size) for level in all_] for side, all_ in sides.items()}


def left_behind() -> list[str]:
    """Name what a stream that has ended should not have left: threads, tasks, sockets."""
    threads = [
        f"thread {t.name}" for t in threading.enumerate() if t is not threading.main_thread()
    ]
    tasks = [
        f"task {o.get_name()}"
        for o in gc.get_objects()
        # By its type: to query a weak proxy itself fails if what it stood for is gone.
        if issubclass(type(o), asyncio.Task) and not o.done()
    ]
    folder = Path("/proc/self/fd")
    sockets = [
        f"socket {path.name}"
        for path in (folder.iterdir() if folder.exists() else ())
        if path.is_symlink() and os.readlink(path).startswith("socket:")
    ]
    return [*threads, *tasks, *sockets]


class SoakError(Exception):
    """The soak could not be done: it shows nothing about the connection."""


# === Soak ===


@dataclass
class Log:
    """All that was seen: what the client reported, and what the proxy did."""

    lapses: dict[str, list[Span]] = field(default_factory=dict)
    old: dict[str, list[Span]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    faults: list[ProxyFault] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    held_ns: int = 0
    stop_s: float = 0.0
    exit_code: int | None = None
    theirs: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    show: Callable[[str], None] = print

    def take(self, line: str) -> None:
        """Take one line of the client's."""
        reported = json.loads(line)
        if "lapse" in reported:
            kind = self.old if reported["old"] else self.lapses
            kind.setdefault(reported["lapse"], []).append(tuple(reported["span"]))
        elif "sample" in reported:
            self.samples.append(reported)
        else:
            self.end = reported

    def do(self, fault: ProxyFault) -> None:
        """Take a fault that is over, and print it."""
        self.faults.append(fault)
        self.show(f"  {len(self.faults):>3}  {fault}")


def soak(options: argparse.Namespace) -> Log:
    """Run venue, proxy and client for as long as requested; return all that was seen."""
    with tempfile.TemporaryDirectory(prefix="dydx-soak-") as folder:
        stamps = Path(folder) / "stamps.json"
        chosen = {"count": options.count, "speed": options.speed, "seed": options.seed}
        flags = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
        with venue_process("--tls", *flags, "--stamps", str(stamps)) as venue:
            log = asyncio.run(run(options, venue))
            log.theirs = {
                ticker: venue.query(f"/v4/orderbooks/perpetualMarket/{ticker}")
                for ticker in log.end.get("books", ())
            }
            venue.stop()
            log.sent = {id: len(at) for id, at in json.loads(stamps.read_bytes()).items()}
    return log


async def passing(seconds: float, reading: asyncio.Task[None], log: Log) -> None:
    """Wait so long, or until the client has ended; show how long it is still."""
    began = time.monotonic()
    with Progress("seconds", seconds) as progress:
        log.show = progress.line
        while not reading.done() and (passed := time.monotonic() - began) < seconds:
            progress.at(passed, f"{len(log.faults)} faults")
            await asyncio.wait([reading], timeout=min(1.0, seconds - passed))
        log.show = print


async def run(options: argparse.Namespace, venue: VenueProcess) -> Log:
    """Run the client behind the proxy, with faults until the time is up; then hold all still."""
    log = Log()
    host, _, port = venue.rest.removeprefix("https://").rpartition(":")
    tickers = tuple(venue.query("/v4/perpetualMarkets")["markets"])
    async with ChaosProxy(host, int(port), seed=options.seed) as proxy:
        here = f"127.0.0.1:{proxy.port}"
        task = Task(f"https://{here}", f"wss://{here}/v4/ws", tickers, options.bound)
        words = [str(TOOLS / "soak.py"), "--client", json.dumps(as_json(task))]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"SSL_CERT_FILE": venue.authority},
            limit=2**26,  # the last line carries all books
        )
        reading = asyncio.create_task(read(process, log))
        failing = asyncio.create_task(work(proxy, options.seed, options.fault_every, log.do))
        try:
            await passing(options.minutes * 60, reading, log)
            if reading.done():
                raise SoakError(f"the client ended by itself, exit code {process.returncode}")
            failing.cancel()
            await asyncio.wait([failing])
            await asyncio.sleep(options.settle)
            venue.process.send_signal(signal.SIGUSR1)
            log.held_ns = time.monotonic_ns()
            await asyncio.sleep(4.0)  # what was under way arrives, and is requested once more
        finally:
            began = time.monotonic()
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(reading, 30)
            log.exit_code = await process.wait()
            log.stop_s = time.monotonic() - began
    return log


def as_json(task: Task) -> dict[str, Any]:
    """Write a task as the client process reads it."""
    return {name: getattr(task, name) for name in Task.__slots__}


async def read(process: asyncio.subprocess.Process, log: Log) -> None:
    """Take what the client reports, to its end."""
    if process.stdout is not None:
        async for line in process.stdout:
            log.take(line.decode())


# === Verdict ===


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, what was measured, and whether it held."""

    name: str
    measured: str
    promised: str
    held: bool


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one fault did: when the first market was lost and the last one back, in seconds.

    `noticed_s` counts from its beginning, `back_s` from its end; None if no market was lost.
    """

    kind: str
    noticed_s: float | None
    back_s: float | None


def window(log: Log) -> Span:
    """Return the time that is judged: from when every market was there until time was held."""
    there = max((spans[0][1] for spans in log.lapses.values()), default=log.held_ns)
    return there, log.held_ns


def recoveries(log: Log) -> list[Recovery]:
    """Hold each fault against the lapses that began before the next one."""
    begins = [*(fault.begun_ns for fault in log.faults), log.held_ns][1:]
    lapses = [span for spans in log.lapses.values() for span in clip(spans, window(log))]
    found = []
    for fault, until in zip(log.faults, begins, strict=True):
        own = [(a, b) for a, b in lapses if fault.begun_ns <= a < until]
        if own:
            noticed = (min(a for a, _ in own) - fault.begun_ns) / SECOND
            back = max(max(b for _, b in own) - fault.ended_ns, 0) / SECOND
            found.append(Recovery(fault.kind, noticed, back))
        else:
            found.append(Recovery(fault.kind, None, None))
    return found


def freshness(log: Log, of: Mapping[str, Sequence[Span]]) -> dict[str, tuple[float, float, float]]:
    """Return each market's shares of time without a lapse `of` one kind.

    Of all time, of the time without a fault in force, and that if a fault came once a minute.
    """
    whole = window(log)
    faults = clip([(fault.begun_ns, fault.ended_ns) for fault in log.faults], whole)
    all_ns, up_ns = length([whole]), length(without([whole], faults))
    shares = {}
    for ticker, spans in of.items():
        lapses = clip(spans, whole)
        own_ns = length(without(lapses, faults))
        a_minute = own_ns / max(len(log.faults), 1) / (60 * SECOND)
        shares[ticker] = (1 - length(lapses) / all_ns, 1 - own_ns / up_ns, 1 - a_minute)
    return shares


def differences(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any]) -> list[str]:
    """Return how our book differs from the venue's: phantom levels, missing ones, other sizes."""
    if ours is None:
        return ["not known"]
    found = []
    for side in ("bids", "asks"):
        mine = dict(ours[side])
        true = {float(level["price"]): float(level["size"]) for level in theirs[side]}
        found += [f"phantom {side} {price}" for price in mine.keys() - true.keys()]
        found += [f"missing {side} {price}" for price in true.keys() - mine.keys()]
        both = mine.keys() & true.keys()
        found += [f"other size {side} {price}" for price in both if mine[price] != true[price]]
    return sorted(found)


def growth(samples: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Return the memory at the start, after the warm-up (a fifth of the time) and at the end, MB.

    Each is the median over a fifth of the samples, but for the first.
    """
    fifth = max(len(samples) // 5, 1)
    warm, last = samples[fifth : 2 * fifth] or samples[-1:], samples[-fifth:]
    return (
        samples[0]["memory_mb"],
        statistics.median(sample["memory_mb"] for sample in warm),
        statistics.median(sample["memory_mb"] for sample in last),
    )


def promises(log: Log) -> list[Promise]:
    """Judge the run."""
    end, shares = log.end, freshness(log, log.lapses)
    worst = min(shares.values(), key=lambda share: share[2])
    wrong = {
        ticker: found
        for ticker, book in end["books"].items()
        if (found := differences(book, log.theirs[ticker]))
    }
    unseen = {id: log.sent.get(id, 0) - count for id, count in end["living"].items()}
    held_s = max((fault.held_s for fault in log.faults), default=0.0)
    start, warm, last = growth(log.samples)
    levels = sum(len(book[side]) for book in log.theirs.values() for side in book)
    left = [*end["left"]] + ([f"exit code {log.exit_code}"] if log.exit_code else [])
    return [
        Promise(
            "fresh, worst market, at a fault a minute",
            f"{worst[2]:.3%}",
            "> 99.9 %",
            worst[2] > 0.999,
        ),
        Promise(
            "messages lost unnoticed",
            str(max(end["lost"] - end["noticed"], 0)),
            "0",
            end["lost"] <= end["noticed"],
        ),
        Promise(
            f"messages not come, of {sum(end['living'].values()):,} on living connections",
            str(sum(unseen.values())),
            "0",
            not any(unseen.values()),
        ),
        Promise(
            f"books unlike the venue's, of {len(log.theirs)} ({levels:,} levels)",
            ", ".join(f"{ticker}: {found[0]}" for ticker, found in wrong.items())[:60] or "0",
            "0",
            not wrong,
        ),
        Promise(
            "half-open connections given up after, at most",
            f"{held_s:.1f} s",
            "≤ 20 s",
            held_s <= 21,  # it sees its ping unanswered at 20 s, and then hangs up
        ),
        Promise(
            "memory at the start, warm, at the end",
            f"{start:.0f}, {warm:.0f}, {last:.0f} MB",
            "flat: + 5 % at most",
            last <= warm * 1.05 + 1,
        ),
        Promise("left behind", ", ".join(left) or "nothing", "nothing", not left),
        Promise("a stop takes", f"{log.stop_s:.1f} s", "< 5 s", log.stop_s < 5),
    ]


def report(options: argparse.Namespace, log: Log) -> Iterator[str]:
    """Write what was seen: what was done, what each kind of fault cost, the promises."""
    a, b = window(log)
    end, shares = log.end, freshness(log, log.lapses)
    frames, used = log.samples[-1]["frames"], log.samples[-1]["cpu_s"] - log.samples[0]["cpu_s"]
    wall = (log.samples[-1]["sample"] - log.samples[0]["sample"]) / SECOND
    yield (
        f"\n{len(shares)} markets, {(b - a) / SECOND:,.0f} s of wall time at venue speed "
        f"{options.speed:g}, {len(log.faults)} faults, seed {options.seed}, "
        f"fresh within {options.bound:g} s"
    )
    if options.fault_every < 60:
        yield (
            f"compressed: a fault every {options.fault_every:g} s and not every minute; what they "
            "cost is reported a minute apart,\nbut a client with longer to mend between them, or "
            "to forget, was not seen"
        )
    yield f"{frames:,} frames, {frames / wall:,.0f} a second, at {used / wall:.1%} of a core"
    kinds = Counter(
        {k: n for k, n in end["kinds"].items() if k in ("open", "close", "gap", "http")}
    )
    yield f"frames of the connection: {dict(kinds)}; troubles seen by the fold: {end['troubles']}"
    quiet = end["longest_quiet_ns"] / SECOND
    yield f"longest time that a book called known went without an update: {quiet:.1f} s\n"
    yield from recovery_table(recoveries(log))
    yield from share_table(shares, freshness(log, log.old))
    yield f"\n{'promise':<60}{'measured':>20}  promised"
    for promise in promises(log):
        verdict = "held" if promise.held else "BROKEN"
        yield f"{promise.name:<60}{promise.measured:>20}  {promise.promised:<26}{verdict}"


def share_table(*kinds: Mapping[str, tuple[float, float, float]]) -> Iterator[str]:
    """Write how much of the time was fresh: with a known book, and by the age of data alone."""
    names = ("of all time", "without a fault in force", "the same, at a fault a minute")
    heads = ("known and not too old", "not too old, known or not")
    yield f"\n{'share of time, worst market':<32}" + "".join(f"{head:>28}" for head in heads)
    for row, name in enumerate(names):
        worst = (min(share[row] for share in shares.values()) for shares in kinds)
        yield f"{name:<32}" + "".join(f"{share:>28.3%}" for share in worst)


def recovery_table(found: Sequence[Recovery]) -> Iterator[str]:
    """Write, by kind of fault, when it was noticed and when all markets were back."""
    yield f"{'fault':<12}{'times':>6}{'lost data':>11}{'noticed after':>18}{'back after':>18}"
    for kind in FAULTS:
        own = [recovery for recovery in found if recovery.kind == kind]
        if own:
            noticed = median_and_most([r.noticed_s for r in own if r.noticed_s is not None])
            back = median_and_most([r.back_s for r in own if r.back_s is not None])
            hurt = sum(recovery.back_s is not None for recovery in own)
            yield f"{kind:<12}{len(own):>6}{hurt:>11}{noticed:>18}{back:>18}"


def median_and_most(seconds: Sequence[float]) -> str:
    """Write a median and a maximum."""
    return f"{statistics.median(seconds):.2f}, {max(seconds):.2f} s" if seconds else "-"


# === Command line ===


def main(arguments: Sequence[str]) -> int:
    """Soak as requested; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="tools/soak.py", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="wall time (default 10)")
    add("--count", type=int, default=20, help="how many markets, 1 to 250 (default 20)")
    # What it was called before.
    add("--markets", type=int, dest="count", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add("--fault-every", type=float, default=10.0, metavar="SECONDS", help="default 10; 0 for none")
    add("--speed", type=float, default=1.0, help="venue seconds per wall second (default 1)")
    add("--seed", type=int, default=7, help="of the venue and of the plan of faults (default 7)")
    add(
        "--bound",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how old fresh may be (default 5)",
    )
    # The longest pause between two attempts to connect is 30 s.
    add("--settle", type=float, default=40.0, metavar="SECONDS", help="without faults at the end")
    add("--client", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        return client(Task(**json.loads(options.client)))
    try:
        log = soak(options)
    except (SoakError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    for line in report(options, log):
        print(line)
    return 0 if all(promise.held for promise in promises(log)) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
