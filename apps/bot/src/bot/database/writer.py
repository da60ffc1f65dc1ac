"""The one thread that writes a run's rows to a database, beside the frames and never before them.

    put ──► rows in memory ──► every fifth of a second: a batch, a transaction ──► the database
                                    └── it fails, or cannot follow ──► a file (spill) ──┘

`put` neither waits nor raises. What the database does not take is in a file until it does, at the
next start at the latest, and what comes after it waits behind it: no fill is there before its
order. Each row is counted, and what is wrong is in `trouble`, in plain words.
"""

import importlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dydx_conn import ConnError

from bot.database.spill import REFUSED, Named, Row, Spill, spilled

if TYPE_CHECKING:
    from bot.database.store import Refusal, Store

Made = Row | Callable[[], Row]  # a row, or what makes it: the writer does, and not the hot path

EVERY_S: Final = 0.2  # what is lost by a kill -9 is no older
_BATCH: Final = 512  # rows in a transaction
MANY: Final = 50_000  # rows in memory, above which they go to the file: it is quicker
MOST: Final = 500_000  # rows in memory, above which they are lost, and counted
_PATIENCE_S: Final = 3.0  # a database that works again by then was no trouble
_RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_END_S: Final = 10.0
_NEVER: Final = float("inf")
_LAST: Final = ".last.jsonl"  # of rows for which the thread had no time; it sorts after its other
NUMBERED: Final = ("order_changes", "states", "configs")  # rows without a name of their own

_BEHIND: Final = "expected a database that follows, got one that is behind"
_FAILURES: Final = (ConnError, OSError, ImportError)


_LOADED: Final = threading.Event()


def _load() -> None:
    # Half a second, and more where all is slow: meanwhile rows are not left in memory.
    with suppress(Exception):  # whoever opens the database raises it again
        importlib.import_module("bot.database.store")
    _LOADED.set()


class _Outage:
    """A time in which nothing can be written; `why` is "" while all is well."""

    def __init__(self) -> None:
        self.why, self.until = "", 0.0
        self._since, self._tries = 0.0, 0

    def begin(self, why: str) -> None:
        """Note that something failed, and when to try again."""
        now = time.monotonic()
        if not self.why:
            self._since = now
        self.why, self.until = why, now + _RETRY_S[min(self._tries, len(_RETRY_S) - 1)]
        self._tries += 1

    @property
    def lasted_s(self) -> float:
        """Return for how long nothing could be written."""
        return time.monotonic() - self._since


class _Lost:
    """How many rows nothing took, why not the last of them, and which database is `gone`."""

    def __init__(self) -> None:
        self.rows, self.why, self.gone = 0, "", ""


class _Aside:
    """Rows that no database could hold, in a file of their own; `words` is "" without any."""

    def __init__(self, url: str, run: Mapping[str, Any]) -> None:
        self._file, self._rows, self.words = Spill(url, run, REFUSED), 0, ""
        self.close = self._file.close

    def add(self, refused: "list[Refusal]") -> None:
        """Put rows of this run aside."""
        if refused:
            self._file.add([row for row, _ in refused])
            self.note(refused, self._file.path)

    def note(self, refused: "list[Refusal]", path: Path) -> None:
        """Count rows that are aside already, beside a file."""
        if refused:
            self._rows += len(refused)
            what = f"expected rows that a database can hold, got {self._rows} others"
            self.words = f"{what} ({refused[0][1]}): they are in {path.with_suffix(REFUSED)}"


class _Mark(threading.Event):
    """A place among the rows: set once those before it are written, or cannot be (not `ok`)."""

    ok = True


class Writer:
    """Writes the rows of one run; `run` is its row in the table of runs.

    The thread alone touches the database and the files. `trouble` is what is wrong, "" if nothing
    is; `written` counts rows, as `lost.rows` does.
    """

    def __init__(self, url: str, run: Mapping[str, Any]) -> None:
        self.trouble, self.written, self.lost = "", 0, _Lost()
        self._of = url, dict(run)
        self._waiting: deque[tuple[str, Made] | _Mark] = deque()
        # What the thread has taken, and nothing has yet; the lock is never held while one waits.
        self._hand: list[Named] = []
        self._taking = threading.Lock()
        self._numbers = itertools.count(1)
        self._wake, self._ends = threading.Event(), _NEVER
        self._outage = _Outage()
        self._spill, self._odd = Spill(url, run), _Aside(url, run)
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._live, name="database", daemon=True)

    def start(self) -> None:
        """Begin to write; what was put before is written first."""
        if not _LOADED.is_set():
            threading.Thread(target=_load, name="load", daemon=True).start()
        self._thread.start()

    def put(self, table: str, row: Made) -> None:
        """Let a row be written soon; it never waits and never raises."""
        if len(self._waiting) < MOST:
            self._waiting.append((table, row))
        else:
            self.lost.rows += 1

    def figures(self) -> dict[str, int]:
        """Return how many rows are written, wait in memory or in a file, and are lost."""
        return {
            "written": self.written, "waiting": len(self._waiting), "in a file": self._spill.rows,
            "lost": self.lost.rows,
        }  # fmt: skip

    def hurry(self) -> None:
        """Let what was put be written at once; it never waits."""
        self._wake.set()

    def flush(self, patience_s: float = _END_S) -> bool:
        """Wait until all that was put is written, or in the file; False if it is not, in time."""
        mark = _Mark()
        self._waiting.append(mark)
        self._wake.set()
        return mark.wait(patience_s) and mark.ok

    def close(self, patience_s: float = _END_S) -> None:
        """Write what waits and end, within a bound: what is left then is in a file."""
        self._ends = time.monotonic() + patience_s / 2
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(patience_s)
        self.trouble = "; ".join(filter(None, [self._rest(), self._words(0.0)]))

    def _rest(self) -> str:
        # A thread that has not ended hangs in the database; its file is its own.
        with self._taking:
            rows = [*self._hand]
            while self._waiting:
                rows += self._take()[0]
        file = Spill(*self._of, _LAST)
        with closing(file):
            if not rows:
                return ""
            try:
                file.add(rows)
            except _FAILURES:
                self.lost.rows += len(rows)
                return ""
        return f"{self._outage.why or _BEHIND}: {len(rows)} rows wait in {file.path}"

    # --- the thread

    def _live(self) -> None:
        with ExitStack() as stack:
            for close in (self._spill.close, self._odd.close, self._close_store):
                stack.callback(close)
            while self._ends == _NEVER or self._waiting:
                self._wake.wait(EVERY_S)
                self._wake.clear()
                ends = self._ends < _NEVER
                try:
                    taken = self._turn()
                except Exception as error:  # noqa: BLE001 - a thread has nobody above it
                    self.lost.why, taken = f": {type(error).__name__}: {error}", True
                    with self._taking:
                        self.lost.rows += len(self._hand)
                        self._hand = []
                self.trouble = self._words(_PATIENCE_S)
                if ends and not taken:
                    break

    def _turn(self) -> bool:
        """Write what waits; False if neither a database nor a file takes it."""
        self._fetch()
        while self._waiting:
            with self._taking:
                rows, mark = self._take()
                self._hand = rows
            taken = not rows or self._write(rows) or self._put_by(rows)
            with self._taking:
                if not taken:
                    self._waiting.extendleft(reversed(rows))
                self._hand = []
            for each in [mark] if taken else [mark, *self._waiting]:
                if isinstance(each, _Mark):
                    each.ok = taken
                    each.set()
            if not taken:
                return False
        self._fetch()
        return True

    def _take(self) -> tuple[list[Named], _Mark | None]:
        rows: list[Named] = []
        while self._waiting and len(rows) < _BATCH:
            found = self._waiting.popleft()
            if isinstance(found, _Mark):
                return rows, found
            rows += self._make(*found)
        return rows, None

    def _make(self, table: str, made: Made) -> list[Named]:
        try:
            row = made() if callable(made) else made
        except Exception as error:  # noqa: BLE001 - one row is no reason to end all others
            self.lost.rows += 1
            self.lost.why = f": of {table}, by {type(error).__name__}: {error}"
            return []
        if table in NUMBERED and "n" not in row:
            row["n"] = next(self._numbers)
        return [(table, row)]

    def _write(self, rows: list[Named]) -> bool:
        # Behind, or at the end of its time, it leaves rows to the file; others wait behind those.
        late = len(self._waiting) > MANY or time.monotonic() > self._ends
        if late or self._spill.rows or not self._open():
            return False
        try:
            self._odd.add(self._required().write(rows))
        except _FAILURES as error:
            self._fail(error)
            return False
        # Not before: a database that opens may still take nothing.
        self._outage = _Outage()
        self.written += len(rows)
        return True

    def _put_by(self, rows: list[Named]) -> bool:
        try:
            self._spill.add(rows)
        except _FAILURES as error:
            self._outage.begin(f"expected to write {self._spill.path}, got {error}")
            return False
        return True

    def _open(self) -> bool:
        if self._store is not None:
            return True
        now = time.monotonic()
        # At the end it is waited for; until then rows are as safe in the file.
        loads = not _LOADED.wait(max(0.0, self._ends - now) if self._ends < _NEVER else 0.0)
        if loads or now < self._outage.until:
            return False
        try:
            from bot.database.store import Store

            store = self._store = Store(*self._of)
            with spilled(self._of[0]) as earlier:
                for left in earlier:
                    self._odd.note(store.absorb(left), left.path)
        except _FAILURES as error:
            self._fail(error)
            return False
        return True

    def _fetch(self) -> None:
        if not self._open() or not self._spill.rows or time.monotonic() > self._ends:
            return
        try:
            with closing(self._spill.left()) as left:
                rows = self._spill.rows
                self._odd.note(self._required().absorb(left), left.path)
            self._spill.remove()
            self._outage = _Outage()
            self.written += rows
        except Exception as error:  # noqa: BLE001 - rows in a file are safe, and others go to it
            self._fail(error)

    def _required(self) -> "Store":
        if self._store is None:
            raise ConnError("expected an open database, got none")
        return self._store

    def _fail(self, error: BaseException) -> None:
        if self._store is not None and self._store.gone:
            rows = f"{self.written} rows with it"
            self.lost.gone = f"{error}, and {rows}: a new one goes on from there"
        self._close_store()
        self._outage.begin(str(error))

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _words(self, patience_s: float) -> str:
        lost, outage, rows = self.lost, self._outage, self._spill.rows
        found = [lost.gone] if lost.gone else []
        waits = rows or self._waiting or lost.rows
        if (rows and not patience_s) or (outage.why and waits and outage.lasted_s >= patience_s):
            where = self._spill.path if rows else "memory"
            count = rows or len(self._waiting)
            found += [f"{outage.why or _BEHIND}: {count} rows wait in {where}"]
        if lost.rows:
            found += [f"expected to write every row, got {lost.rows} lost{lost.why}"]
        if self._odd.words:
            found += [self._odd.words]
        return "; ".join(found)
