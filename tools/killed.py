"""Kill `bot paper` again and again, and hold what comes back against its recordings.

    uv run --all-packages --group dev tools/killed.py                 fifty kills: seven minutes
    uv run --all-packages --group dev tools/killed.py --kills 3 --seed 2

    venue ◄──► bot paper ──► database, recording     kill -9 at a random moment, and the next one
                                 └── compared: ledger, orders, fills, what was lost, what goes on

After each kill the ledger in the database must equal, to the quantum, that of a replay of the
recording up to the same frame; what the recording has beyond it must be younger than a second; no
client id and no fill may be of two runs; and the next run must begin with what was left. Moments
are drawn from the first frames of a run on, some from the start of its process. Exit code 1 if
anything is not so.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.database.remains import left_of
from bot.database.tables import TABLES, engine_of
from bot.progress import Progress
from bot.run.budget import Foreseen
from bot.run.composition import Bot, Options
from bot.run.paper import Paper, paper_account
from bot.run.resume import ACCOUNT, Left
from dydx_conn import Frame, RecordingError
from dydx_paper import (
    Digest,
    Entry,
    VenueState,
    from_json,
    ledger_state,
    resumed,
    to_json,
)
from reactivex import from_iterable
from servers import VenueProcess, places, venue_process
from sqlalchemy import select

CHAIN: Final = "localdydxprotocol"
NAME: Final = "killed"
TICKERS: Final = "BTC-USD,ETH-USD,SOL-USD"
SECOND_NS: Final = 1_000_000_000
STRATEGY: Final = '''"""Turn small positions all the time; some entries rest, some have stops."""
from dydx_strategy import Decision, Pace


class Busy:
    name = "busy"
    pace = Pace(throttle_s=0.2, debounce_s=0.2, back_off_s=1.0, cool_down_s=0.0)

    def __init__(self):
        self.due, self.turn = {}, {}

    def step(self, scored, held):
        oracle = scored.view.oracle
        # Whoever decides before a market is known is denied.
        start = scored.at + 1_500_000_000 + 250_000_000 * len(self.due)
        if oracle is None or scored.at < self.due.setdefault(scored.ticker, start):
            return
        self.due[scored.ticker] = scored.at + 900_000_000
        turn = self.turn[scored.ticker] = self.turn.get(scored.ticker, 0) + 1
        target = (300.0, 500.0, 200.0, 0.0, -400.0, 0.0)[(turn + len(scored.ticker)) % 6]
        more = {}
        if target > 0:
            more = {"stop_loss": oracle.price * 0.8, "take_profit": oracle.price * 1.2}
        if turn % 3 == 0 and target > 200:
            more |= {"entry": "make", "entry_offset_bps": 30.0, "patience_s": 60.0}
        yield Decision.of(scored, target, f"turn {turn}", urgency=1.0, **more)


strategy = Busy
'''

# === Command line ===


def main() -> int:
    """Kill, compare and report; return the exit code."""
    options = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        proof = Proof(Path(folder), random.Random(options.seed), options.longest)
        flags = ("--scenario", "trend", "--seed", str(options.seed), "--count", "8")
        with venue_process(*flags) as venue, Progress("kills", options.kills) as progress:
            for number in range(options.kills):
                proof.kill(number, venue)
                progress.line(proof.line())
                progress.step()
    print(proof.summary())
    return 1 if proof.faults else 0


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = argparse.ArgumentParser(
        prog="tools/killed.py", description=(__doc__ or "").split("\n")[0]
    )
    made.add_argument("--kills", type=int, default=50, help="how many (default 50)")
    made.add_argument("--seed", type=int, default=7, help="of the moments (default 7)")
    made.add_argument(
        "--longest", type=float, default=8.0, metavar="S", help="seconds a run lives at most"
    )
    return made


# === Replay ===
# What the recording of a killed run has, up to a frame and beyond it.


@dataclass
class Replayed:
    """A recording played again: its ledger as of a frame, and when what is beyond it began."""

    ledger: str = ""
    first_beyond: int | None = None
    last_at: int = 0
    state: str = ""
    orders: int = 0
    fills: int = 0
    names: set[str] = field(default_factory=set)
    seq: int = 0


def replayed(path: Path, options: Options, seq: int, stored: int) -> Replayed:
    """Play a recording; its ledger is noted as of the frame `seq`; up to `stored` it is stored."""
    recording = Foreseen(path)
    bot, found = Bot(options), Replayed()
    bot.supervisor.stops = recording.stops
    venue = bot.venue
    if not isinstance(venue, Paper):
        raise TypeError(f"expected a paper venue, got {venue}")
    digest = Digest(venue.ledger)
    venue.ledger.journal = digest.take

    def passing() -> Iterator[Frame]:
        for frame in recording:
            if digest.drain() and found.seq > stored and found.first_beyond is None:
                found.first_beyond = found.last_at
            if frame.seq > seq and not found.ledger:
                found.ledger = to_json(ledger_state(venue.ledger))
            if frame.kind == "state" and frame.link == ACCOUNT:
                found.state = frame.text
            found.seq, found.last_at = frame.seq, frame.at
            yield frame

    bot.run(from_iterable(passing()))
    found.ledger = found.ledger or to_json(ledger_state(venue.ledger))
    orders = bot.journal.of_kind("approved", "reduce", "bracket")
    fills = bot.journal.of_kind("fill")
    found.orders, found.fills = len(orders), len(fills)
    found.names = {f"client id {entry.value.order.client_id}" for entry in orders}
    found.names |= {f"fill {entry.value.id}" for entry in fills}
    return found


def has_frames(recording: Path) -> bool:
    """Return whether a recording has begun: its header is shorter."""
    return recording.exists() and recording.stat().st_size > _HEADER


_HEADER: Final = 2_000  # bytes; with frames a recording has more

# === Proof ===

_STARTING: Final = 0.15  # the share of runs whose lives are counted from the start of the process


class Proof:
    """Runs that are killed, one after the other, and what was found of them."""

    def __init__(self, folder: Path, chance: random.Random, longest: float) -> None:
        self.faults: list[str] = []
        self.lost_s: list[float] = []
        self.compared = self.early = self.ahead = self.fills = self.orders = 0
        self._folder, self._chance, self._longest = folder, chance, longest
        self._url = str(folder / "bot.db")
        strategy = folder / "busy.py"
        strategy.write_text(STRATEGY)
        self._options = Options.of("reckless", strategy=str(strategy), account=NAME)
        self._left: Left | None = None
        self._names: dict[str, int] = {}  # of orders and fills, and whose they are
        self._last = ""

    def kill(self, number: int, venue: VenueProcess) -> None:
        """Let a run live for a while, kill it, and compare what it left."""
        venue.require()
        recording = self._folder / f"{number}.jsonl.zst"
        lives_s, starts = self._chance.uniform(0, self._longest), self._chance.random() < _STARTING
        command = [
            sys.executable, "-m", "bot", "paper", "--network", "local", *venue.typed,
            "--account", NAME, "--database", self._url, "--record", str(recording), "--plain",
            "--tickers", TICKERS, "--profile", "reckless", "--strategy", self._options.strategy,
        ]  # fmt: skip
        with subprocess.Popen(
            command,
            env=os.environ | places(self._folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            while not starts and process.poll() is None and not has_frames(recording):
                time.sleep(0.01)
            time.sleep(lives_s)
            ended = process.poll()
            process.kill()
            if ended is not None:
                self._fault(number, f"expected a run that goes on, got exit code {ended}")
                print((process.stderr.read() if process.stderr else b"").decode())
        when = " of its start" if starts else ""
        self._last = f"{number:>3}  after {lives_s:4.1f} s{when}"
        self._compare(number, recording)

    def _compare(self, number: int, recording: Path) -> None:
        before, left = self._left, left_of(self._url, CHAIN, paper_account(NAME), paper=True)
        if left is None or (before is not None and left.run == before.run):
            self.early += 1
            self._last += ": had not begun"
            if left is not None and before is not None and left.text != before.text:
                self._fault(number, "expected what the run before left, got something else")
            return
        self._left = left
        try:
            last = max((frame.seq for frame in Foreseen(recording)), default=0)
            ledger, seq = self._stored(left, last)
            found = replayed(recording, self._options, seq, left.seq)
        except (RecordingError, FileNotFoundError) as error:
            self._last += f": no frame was recorded ({error})"
            self.early += 1
            return
        self.ahead += last < left.seq  # the recording had frames that it had not written
        expected = found.ledger
        if not seq and before is not None and before.venue is not None:
            expected = to_json(before.venue.ledger)
        if ledger != expected:
            self._fault(number, f"expected the ledger of frame {seq}, got another")
        self.compared += 1
        self._against(number, found, before, left)

    def _stored(self, left: Left, most: int) -> tuple[str, int]:
        """Return the ledger that is stored of a run as of a frame, the last up to this number."""
        table = TABLES["ledger_events"]
        query = select(table).where(table.c.run_id == left.run, table.c.seq <= most)
        engine = engine_of(self._url)
        with engine.connect() as connection:
            first, *rows = connection.execute(query.order_by(table.c.n)).mappings()
        engine.dispose()
        entries = (from_json(row["data"], Entry) for row in rows)
        state = resumed(from_json(first["data"], VenueState), entries)
        return to_json(state.ledger), (rows or [first])[-1]["seq"]

    def _against(self, number: int, found: Replayed, before: Left | None, left: Left) -> None:
        lost = found.last_at - found.first_beyond if found.first_beyond is not None else 0
        self.lost_s.append(lost / SECOND_NS)
        if lost >= SECOND_NS:
            self._fault(number, f"expected less than 1 s to be lost, got {lost / SECOND_NS:.3f} s")
        began = from_json(found.state, Left).venue if found.state else None
        if before is not None and began is not None and began != before.venue:
            self._fault(number, "expected the run to begin with what was left, got something else")
        if before is not None and not found.state:
            self._last += ", without its first frame"
        for name in sorted(found.names):
            if (other := self._names.setdefault(name, number)) != number:
                self._fault(number, f"expected no {name} twice, got one of run {other}")
        self.fills += found.fills
        self.orders += found.orders
        fills = left.venue.ledger.tally.fills if left.venue is not None else 0
        held = len(left.venue.ledger.holdings) if left.venue is not None else 0
        self._last += (
            f": {found.fills:>3} fills, {fills:>4} in all, {held} held, frame {left.seq}, "
            f"{lost / SECOND_NS:.3f} s lost"
        )

    def _fault(self, number: int, words: str) -> None:
        self.faults.append(f"kill {number}: {words}")

    def line(self) -> str:
        """Return what the last kill found."""
        return self._last

    def summary(self) -> str:
        """Return all of it in words."""
        most = max(self.lost_s, default=0.0)
        lines = [
            f"{self.compared} ledgers equal to their replay's, but for {len(self.faults)} faults; "
            f"{self.early} runs had not begun, {self.ahead} recordings ended before the database",
            f"lost at most {most:.3f} s; {self.orders} orders, {self.fills} fills",
        ]
        return "\n".join([*self.faults, *lines])


if __name__ == "__main__":
    sys.exit(main())
