"""Kill `bot trade` again and again on the local venue, and hold what is left against that venue.

    uv run --all-packages --group dev tools/killed_trade.py               fifteen kills: six minutes
    uv run --all-packages --group dev tools/killed_trade.py --kills 3 --seed 2

    venue ◄──► bot trade ──► database        kill -9 at a random moment, and the next one at once
      │                         └──┐
      └── orders received, fills, what stands (each half second) ──► compared

No client id and no decision may have two orders, no market more than its largest target; a
position is without a stop and a profit, and an order without an owner, for some seconds after a
restart and no longer; nothing is unexplained to the run that begins; risk's day goes on; what the
venue received a second before a kill is in the database. At the end the database, the indexer and
the chain agree, and `bot flatten` leaves nothing. Exit code 1 if anything is not so.
"""

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from bot.database.tables import TABLES, engine_of
from bot.live.reconcile import last_run, look
from bot.progress import Progress
from bot.run.budget import Foreseen
from bot.run.composition import Bot, Options
from bot.run.wire import WireVenue
from dydx_conn import Frame, Keys, Network, RecordingError, Subaccount, instant
from dydx_paper import from_json
from dydx_risk import Memory
from killed import CHAIN, SECOND_NS, has_frames
from pydantic import SecretStr
from reactivex import from_iterable
from servers import VenueProcess, places, venue_process
from sqlalchemy import select

KEY: Final = "6b" * 32
TICKERS: Final = ("BTC-USD", "ETH-USD")
BRACKETED: Final = "BTC-USD"
MOST_USDC: Final = 400.0
STRATEGY: Final = '''"""Hold one market by brackets; turn another all the time."""
from dydx_strategy import Decision, Pace

SECOND_NS = 1_000_000_000


class Busy:
    name = "busy"
    pace = Pace(throttle_s=0.2, debounce_s=0.2, back_off_s=1.0, cool_down_s=0.0)

    def __init__(self):
        self.due = {}

    def step(self, scored, held):
        # By time alone: a run that is started again means what the one before it meant.
        slow = scored.ticker == "BTC-USD"
        turn = scored.at // ((16 if slow else 2) * SECOND_NS)
        oracle = scored.view.oracle
        if oracle is None or scored.at < self.due.get(scored.ticker, 0):
            return
        targets = (400.0, -400.0, 300.0, -200.0) if slow else (200.0, 0.0, -200.0)
        target = targets[turn % len(targets)]
        if abs(held.usdc(scored.ticker) - target) < 50.0:
            return
        self.due[scored.ticker] = scored.at + SECOND_NS
        more, way = {}, 1 if target > 0 else -1
        if slow:
            more = {
                "stop_loss": oracle.price * (1 - 0.2 * way),
                "take_profit": oracle.price * (1 + 0.2 * way),
            }
        elif target and turn % 4 == 0:
            more = {"entry": "make", "entry_offset_bps": 30.0, "patience_s": 60.0}
        yield Decision.of(scored, target, f"turn {turn}", urgency=1.0, **more)


strategy = Busy
'''

# === Command line ===


def main() -> int:
    """Kill, compare and report; return the exit code."""
    options = parser().parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="killed-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        received = Path(folder) / "received.jsonl"
        flags = ("--scenario", "trend", "--seed", str(options.seed), "--count", "4")
        running = stack.enter_context(venue_process(*flags, "--placed", str(received)))
        proof = Proof(Path(folder), running, random.Random(options.seed), options.within)
        proof.fund()
        stack.enter_context(proof.eye.looking())
        with Progress("kills", options.kills) as progress:
            for number in range(options.kills):
                progress.line(proof.kill(number, options.longest))
                progress.step()
        proof.end()
        judged(proof, Receipts(received, proof.eye))
    print(proof.summary())
    return 1 if proof.faults else 0


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = argparse.ArgumentParser(
        prog="tools/killed_trade.py", description=(__doc__ or "").split("\n")[0]
    )
    made.add_argument("--kills", type=int, default=15, help="how many (default 15)")
    made.add_argument("--seed", type=int, default=7, help="of the moments (default 7)")
    made.add_argument(
        "--longest", type=float, default=20.0, metavar="S", help="seconds a run lives at most"
    )
    made.add_argument("--keep", metavar="FOLDER", help="leave what the runs wrote in an empty one")
    made.add_argument(
        "--within", type=float, default=8.0, metavar="S",
        help="seconds in which a run that knows its account has put in order what it found",
    )  # fmt: skip
    return made


# === The venue's view ===
# What stands and is held, looked at each half second, whether a bot runs or not.


@dataclass(frozen=True)
class Sight:
    """What the indexer had at a moment (of `time.time_ns`): sizes by ticker, and open orders."""

    at: int
    sizes: dict[str, float]
    orders: list[dict[str, Any]]

    def bare(self) -> set[str]:
        """Return the market that is to have brackets if one of its two does not cover it."""
        size = self.sizes.get(BRACKETED, 0.0)
        covered: Counter[str] = Counter()
        for order in self.orders:
            leaves = order["reduceOnly"] and order["side"] == ("SELL" if size > 0 else "BUY")
            if order["ticker"] == BRACKETED and leaves:
                left = float(order["size"]) - float(order["totalFilled"])
                covered[order["type"].partition("_")[0]] += left  # type: ignore[assignment]
        short = [kind for kind in ("STOP", "TAKE") if covered[kind] < abs(size) * 0.999]
        return {BRACKETED} if size and short else set()

    def left_over(self, ours: set[str]) -> set[str]:
        """Return the orders that stand for nothing: brackets of nothing, entries of no run."""
        return {
            order["id"]
            for order in self.orders
            if (order["reduceOnly"] and not self.sizes.get(order["ticker"]))
            or (not order["reduceOnly"] and order["clientId"] not in ours)
        }


class Eye:
    """Looks at an account by the indexer."""

    def __init__(self, rest: str, owner: str) -> None:
        self.sights: list[Sight] = []
        self._client = httpx.Client(base_url=rest, timeout=5.0)
        self._owner, self._over = owner, threading.Event()

    def look(self) -> Sight:
        """Return what stands and is held now."""
        at, of = time.time_ns(), f"address={self._owner}&subaccountNumber=0"
        found = self._client.get(f"/v4/addresses/{self._owner}/subaccountNumber/0").json()
        positions = found["subaccount"]["openPerpetualPositions"]
        status = "OPEN,UNTRIGGERED,BEST_EFFORT_OPENED"
        orders = self._client.get(f"/v4/orders?{of}&status={status}&limit=1000").json()
        return Sight(at, {t: float(row["size"]) for t, row in positions.items()}, orders)

    def fills(self) -> list[dict[str, Any]]:
        """Return all fills, oldest first."""
        found: dict[str, dict[str, Any]] = {}
        for page in range(1, 100):
            path = f"/v4/fills?address={self._owner}&subaccountNumber=0&limit=1000&page={page}"
            rows = self._client.get(path).json()["fills"]
            found |= {row["id"]: row for row in rows}
            if len(rows) < 1_000:
                break
        return sorted(
            found.values(),
            key=lambda row: (
                (int(row["createdAtHeight"]), row["eventId"])
                if "eventId" in row
                else (int(row["createdAtHeight"]), row["createdAt"])
            ),
        )

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look each half second."""
        thread = threading.Thread(target=self._go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(0.5):
            with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
                self.sights.append(self.look())

    def longest(self, since: int, until: int, what: Any) -> dict[str, float]:
        """Return for how long, in seconds, each thing was seen in a row between two moments."""
        first: dict[str, int] = {}
        most: dict[str, float] = defaultdict(float)
        for sight in [each for each in self.sights if since <= each.at <= until]:
            seen: set[str] = what(sight)
            first = {name: first.get(name, sight.at) for name in seen}
            for name, began in first.items():
                most[name] = max(most[name], (sight.at - began) / SECOND_NS)
        return most


class Receipts:
    """The orders that the venue's node received, in their order."""

    def __init__(self, path: Path, eye: Eye) -> None:
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.taken = [row for row in self.rows if row["code"] == 0]
        self.fills = eye.fills()


# === Proof ===


@dataclass
class Life:
    """One run: when it knew its account and when it was killed, and what it printed."""

    number: int
    run: int | None = None
    up: int = 0
    killed: int = 0
    printed: str = ""


class Proof:
    """Runs that are killed, one after the other, and what was found of them."""

    def __init__(
        self, folder: Path, running: VenueProcess, chance: random.Random, within: float
    ) -> None:
        self.faults: list[str] = []
        self.notes: Counter[str] = Counter()
        self.lives: list[Life] = []
        self.within = within
        self.most: Counter[str] = Counter()
        self.url = str(folder / "bot.db")
        keys = Keys(SecretStr(KEY))
        self.subaccount = Subaccount(keys.address, 0)
        self.eye = Eye(running.rest, keys.address)
        self.network = Network(
            name="local", chain_id=CHAIN, rest=running.rest, ws=running.ws, node=running.node
        )
        self._venue, self._folder, self._chance = running, folder, chance
        self._strategy = folder / "busy.py"
        self._strategy.write_text(STRATEGY)
        self._memory: Memory | None = None

    def fund(self) -> None:
        """Open the account."""
        payment = {"address": self.subaccount.owner, "subaccountNumber": 0, "amount": 10_000}
        httpx.post(f"{self._venue.rest}/faucet/tokens", json=payment).raise_for_status()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(KeyError):
                self.eye.look()
                return
            time.sleep(0.2)
        raise SystemExit("expected the venue to fund an account within 30 s: no proof")

    def kill(self, number: int, longest: float) -> str:
        """Let a run live for a while, kill it, and look at what it left; return that in words."""
        self._venue.require()
        lives_s, starts = self._chance.uniform(0, longest), self._chance.random() < 0.15
        with self._run(life := Life(number)) as process:
            recording = self.recording(life)
            while not starts and process.poll() is None and not has_frames(recording):
                time.sleep(0.02)
            until, ended = time.monotonic() + lives_s, None
            while ended is None and time.monotonic() < until:
                time.sleep(0.02)
                ended = process.poll()
                life.up = life.up or time.time_ns() * has_frames(recording)
            life.killed = time.time_ns()
            life.up = life.up or life.killed
            process.kill()
            if ended is not None:
                self.fault(number, f"expected a run that goes on, got exit code {ended}")
        self.lives.append(life)
        self._heed(life)
        self._recall(life)
        when = " of its start" if starts else ""
        held = " ".join(f"{t} {size:+g}" for t, size in self.eye.look().sizes.items())
        return (
            f"{number:>3}  after {lives_s:4.1f} s{when}: run {life.run}, held {held or 'nothing'}"
        )

    @property
    def strategy(self) -> str:
        """Return the file of the strategy."""
        return str(self._strategy)

    def recording(self, life: Life) -> Path:
        """Return the recording of a run."""
        return self._folder / f"{life.number}.jsonl.zst"

    @contextlib.contextmanager
    def _run(self, life: Life) -> Iterator[subprocess.Popen[bytes]]:
        command = [
            sys.executable, "-m", "bot", "trade", "--network", "local", *self._venue.typed,
            "--database", self.url, "--record", str(self.recording(life)),
            "--audit", str(self._folder / "audit.jsonl"), "--plain", "--quiet",
            "--tickers", ",".join(TICKERS), "--profile", "reckless",
            "--strategy", str(self._strategy),
        ]  # fmt: skip
        with (
            (self._folder / f"{life.number}.txt").open("w+b") as printed,
            subprocess.Popen(
                command, env=self._environment(), stdout=printed, stderr=subprocess.STDOUT
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                printed.seek(0)
                life.printed = printed.read().decode()

    def _environment(self) -> dict[str, str]:
        return os.environ | places(self._folder) | {"DYDX_PRIVATE_KEY": KEY}

    def _heed(self, life: Life) -> None:
        """Take what the run printed of what the one before it left."""
        for line in life.printed.splitlines():
            if "the run begins halted" in line or "Traceback" in line:
                self.fault(life.number, life.printed.strip())
                return
        for word, pattern in _NOTES.items():
            self.notes[word] += len(re.findall(pattern, life.printed))

    def _recall(self, life: Life) -> None:
        """Take what risk remembered; a day goes on as it began."""
        runs, checkpoints = TABLES["runs"], TABLES["checkpoints"]
        engine = engine_of(self.url)
        with contextlib.suppress(Exception), engine.connect() as connection:
            life.run = connection.execute(
                select(runs.c.id).where(runs.c.began <= life.killed).order_by(runs.c.id.desc())
            ).scalar()
        if any(other.run == life.run for other in self.lives if other is not life):
            life.run = None  # it had not begun
        with engine.connect() as connection:
            of_run = select(checkpoints.c.data).where(checkpoints.c.run_id == life.run)
            text = connection.execute(of_run).scalar() if life.run else None
        engine.dispose()
        if text is None:
            return
        memory, was = from_json(str(text), Memory), self._memory
        self._memory = memory
        if was is None or was.day != memory.day:
            return
        for name, so in (
            ("the day to have begun with as much", memory.opened == was.opened),
            ("a peak that never falls", memory.peak >= was.peak),
            ("time to go on", memory.now >= was.now),
        ):
            if not so:
                self.fault(life.number, f"expected {name}, got {memory} after {was}")

    def end(self) -> None:
        """Let a last run end by itself; compare the three; flatten, and look again."""
        with self._run(life := Life(len(self.lives))) as process:
            recording = self.recording(life)
            while process.poll() is None and not has_frames(recording):
                time.sleep(0.02)
            life.up = time.time_ns()
            time.sleep(self.within + 4)
            life.killed = time.time_ns()
            process.terminate()  # Ctrl-C is ignored by what a shell starts in the background
            code = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(60)
            if code != 0:
                self.fault(life.number, f"expected a run that ends with 0 in 60 s, got {code}")
        self.lives.append(life)
        self._heed(life)
        self._recall(life)
        left = last_run(self.network, self.subaccount, self.url)
        found, where = look(self.network, self.subaccount, left)
        for each in found:
            if each.kind != "noted":
                self.fault(life.number, f"expected the three to agree at the end, got {each.words}")
        if left is None or not where:
            self.fault(life.number, "expected a run that left something, got none")
        command = [sys.executable, "-m", "bot", "flatten", "--network", "local", *self._venue.typed]
        command += ["--audit", str(self._folder / "audit.jsonl")]
        done = subprocess.run(
            command, check=False, env=self._environment(), capture_output=True, text=True
        )
        time.sleep(2)
        sight = self.eye.look()
        if done.returncode or sight.sizes or sight.orders:
            self.fault(life.number, f"expected nothing after a flatten, got {sight}: {done.stderr}")

    def fault(self, number: int, words: str) -> None:
        """Note what is not as expected."""
        self.faults.append(f"kill {number}: {words}")

    def summary(self) -> str:
        """Return all of it in words."""
        known = sum(life.run is not None for life in self.lives)
        figures = ", ".join(f"{count} {name}" for name, count in self.most.items())
        notes = ", ".join(f"{count} {name}" for name, count in self.notes.items())
        return "\n".join(
            [
                *self.faults,
                f"{len(self.lives)} runs, of which {known} had begun; {len(self.faults)} faults",
                f"{figures}; at a start: {notes}",
            ]
        )


_NOTES: Final = {
    "as it was left": r"is as run \d+",
    "explained by fills": r"while no bot ran",
    "explained in USDC": r"collateral: .*(?:fill|funding)",
    "orders that stood": r"of the last run \(client id \d+\) still stands",
    "orders that were over": r"of the last run \(client id \d+\) is over",
    "orders that the database had not": r"that the last run did not leave",
}

# === Judgement ===
# What the venue received and did, against what the database has and what each run was to do.


def judged(proof: Proof, received: Receipts) -> None:
    """Hold everything against everything."""
    proof.most |= {"orders taken": len(received.taken), "fills": len(received.fills)}
    proof.most["orders refused"] = len(received.rows) - len(received.taken)
    _numbers(proof, received)
    _sizes(proof, received)
    rows = _rows(proof.url)
    _decisions(proof, received, rows)
    _complete(proof, received, rows)
    for life in proof.lives:
        _order(proof, received, life)
        if life.run is not None:
            _written(proof, life)


def _numbers(proof: Proof, received: Receipts) -> None:
    """No client id is of two orders, and none was taken twice."""
    by_id: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in received.rows:
        by_id[row["client_id"]].append(row)
    for number, same in by_id.items():
        shapes = {tuple(row[name] for name in _SHAPE) for row in same}
        if len(shapes) > 1:
            proof.fault(-1, f"expected one order of client id {number}, got {shapes}")
        if (times := sum(row["code"] == 0 for row in same)) > 1:
            proof.fault(-1, f"expected client id {number} to be taken once, got {times} times")


_SHAPE: Final = ("ticker", "side", "quantums", "reduce_only", "order_flags", "condition_type")


def _sizes(proof: Proof, received: Receipts) -> None:
    """No market is ever held beyond its largest target: then no order was placed twice."""
    sizes: dict[str, float] = defaultdict(float)
    for fill in received.fills:
        ticker, size = fill["market"], float(fill["size"])
        sizes[ticker] += size if fill["side"] == "BUY" else -size
        worth = abs(sizes[ticker]) * float(fill["price"])
        proof.most[f"USDC in {ticker} at most"] = max(
            proof.most[f"USDC in {ticker} at most"], round(worth)
        )
        if worth > 1.2 * (MOST_USDC if ticker == BRACKETED else MOST_USDC / 2):
            proof.fault(-1, f"expected at most a target's worth in {ticker}, got {worth:.0f} USDC")


def _rows(url: str) -> dict[str, list[Any]]:
    engine = engine_of(url)
    with engine.connect() as connection:
        rows = {
            name: connection.execute(select(TABLES[name])).mappings().all()
            for name in ("orders", "verdicts", "fills", "runs")
        }
    engine.dispose()
    return {name: [*found] for name, found in rows.items()}


def _decisions(proof: Proof, received: Receipts, rows: dict[str, list[Any]]) -> None:
    """No decision has two entries that the venue took."""
    taken = {str(row["client_id"]) for row in received.taken}
    decision = {
        (row["run_id"], row["id"]): row["decision_id"]
        for row in rows["verdicts"]
        if row["kind"] == "approved"
    }
    counted: Counter[tuple[int, str]] = Counter()
    for row in rows["orders"]:
        of = decision.get((row["run_id"], row["verdict_id"]))
        if of and row["client_id"] in taken:
            counted[row["run_id"], of] += 1
    for (run, name), count in counted.items():
        if count > 1:
            proof.fault(-1, f"expected one order of {name} of run {run}, got {count}")
    proof.most["decisions with an order"] = len(counted)


def _complete(proof: Proof, received: Receipts, rows: dict[str, list[Any]]) -> None:
    """What the venue received is in the database, but for a second before a kill."""
    known = {row["client_id"] for row in rows["orders"]}
    fills = {row["fill_id"] for row in rows["fills"]}
    for row in received.taken:
        if str(row["client_id"]) in known:
            continue
        ends = [life.killed - row["at"] for life in proof.lives if life.killed >= row["at"]]
        age = min(ends, default=0) / SECOND_NS
        proof.most["orders without a row"] += 1
        if age >= 1.0:
            proof.fault(
                -1, f"expected order {row['client_id']} in the database, got none: {age:.1f} s"
            )
    for fill in received.fills:
        if fill["id"] in fills:
            continue
        at = instant(fill["createdAt"])
        proof.most["fills without a row"] += 1
        if any(life.up + SECOND_NS < at < life.killed - 2 * SECOND_NS for life in proof.lives):
            proof.fault(-1, f"expected fill {fill['id']} of {fill['createdAt']} in the database")


def _written(proof: Proof, life: Life) -> None:
    """What a replay of the run's recording has is in the database, but for its last second."""
    bot = Bot(Options.of("reckless", strategy=proof.strategy), WireVenue(proof.subaccount))
    last = [0]

    def passing() -> Iterator[Frame]:
        for frame in recording:
            last[0] = frame.at
            yield frame

    try:
        recording = Foreseen(proof.recording(life))
        bot.supervisor.stops = recording.stops
        bot.run(from_iterable(passing()))
    except (RecordingError, FileNotFoundError):
        return  # it was killed before its first frame was written
    engine = engine_of(proof.url)
    with engine.connect() as connection:
        for kind, name in _TABLES.items():
            table = TABLES[name]
            of_run = select(table.c.id).where(table.c.run_id == life.run)
            known = {*connection.execute(of_run).scalars()}
            entries = bot.journal.of_kind(kind)
            missing = [entry for entry in entries if entry.id not in known]
            proof.most["entries replayed"] += len(entries)
            proof.most["entries without a row"] += len(missing)
            lost = max((last[0] - entry.at for entry in missing), default=0)
            if lost >= SECOND_NS:
                what = f"expected each {kind} but of the last second in the database"
                proof.fault(life.number, f"{what}, got one lost {lost / SECOND_NS:.1f} s before")
    engine.dispose()


_TABLES: Final = {
    "decision": "decisions", "approved": "verdicts", "denied": "verdicts", "bracket": "verdicts",
    "withdraw": "verdicts", "fill": "fills",
}  # fmt: skip


def _order(proof: Proof, received: Receipts, life: Life) -> None:
    """A run has put in order, within some seconds, what it found."""
    ours = {str(row["client_id"]) for row in received.taken if row["at"] >= life.up - 2 * SECOND_NS}
    for name, what in (
        ("brackets of a position", lambda sight: sight.bare()),
        ("an owner of an order", lambda sight: sight.left_over(ours)),
    ):
        spans = proof.eye.longest(life.up, life.killed, what)
        most = max(spans.values(), default=0.0)
        key = f"ms at most without {name}"
        proof.most[key] = max(proof.most[key], round(most * 1_000))
        for thing, seconds in spans.items():
            if seconds > proof.within:
                proof.fault(
                    life.number,
                    f"expected {name} within {proof.within} s, got {thing} {seconds:.1f} s without",
                )


if __name__ == "__main__":
    sys.exit(main())
