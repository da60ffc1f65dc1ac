"""One run's rows in a database: opened, upgraded, written in batches, none of them twice.

    Store ──► open: engine, version, what earlier runs left ──► write, a batch a transaction

Used by the writer's thread alone, which loads it: nothing here is on the hot path.
"""

import functools
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite

from bot.database.spill import IDENTITY, Named, Row, SpilledRows, started
from bot.database.tables import (
    TABLES,
    DatabaseError,
    engine_of,
    explained,
    file_of,
    orders,
    positions,
    runs,
    upgrade,
    writing,
)
from bot.database.tables import ledger_events as events
from bot.database.tables import order_changes as changes

Refusal = tuple[Named, str]  # a row, and why no database could hold it

_PATIENCE_S: Final = 0.5  # for a lock; meanwhile rows wait in memory, and are lost by a kill -9
_HANGS_S: Final = 5.0  # a server that has not answered a statement by then never does
_AT_ONCE: Final = 32  # rows a statement: the thread of the frames gets its turn between two

# What a row that is there already takes from a newer one: all but what it began with, and nothing
# from an older one. Rows of other tables are what they are.
_BEGAN: Final = ("run_id", "id", "created", "opened", "verdict_id")
# No tables: what earlier runs left open, and the venue has no more, or another row has by now.
LEFT: Final = "positions_left"
ORDERS_LEFT: Final = "orders_left"
_LIVE: Final = ("PENDING", "OPEN", "PARTIALLY_FILLED", "UNRESOLVED")
_GONE: Final = "the venue has it no more: it ended while no bot ran, or never arrived"
_AGAIN: Final = "its paper account began again (--fresh)"
_NEWER: Final[dict[str, str]] = {
    "orders": "updated",
    "positions": "updated",
    "errors": "count",
    "checkpoints": "seq",
}
# What is raised for a row that no database could hold, and, by the first, when one fails.
_REFUSALS: Final = (
    sqlalchemy.exc.StatementError,
    sqlalchemy.exc.CompileError,
    msgspec.MsgspecError,
    OverflowError,
    LookupError,
    TypeError,
    ValueError,
)
_OF_A_ROW: Final = (
    sqlalchemy.exc.DataError,
    sqlalchemy.exc.IntegrityError,
    sqlalchemy.exc.ProgrammingError,
)


class Store:
    """A database that is open, and the run whose rows are written; it raises `DatabaseError`."""

    def __init__(self, url: str, run: Mapping[str, Any]) -> None:
        self._path, self._url = file_of(url), url
        self.gone = False  # whether its file is not there any more
        engine = engine_of(url, patience_s=_PATIENCE_S)
        upgrade(engine)
        self._made = self._file()
        self._engine = writing(engine)
        with explained(url), self._engine.begin() as connection:
            bury(connection, run)
            self._own = enter(connection, run)
        self._watch = None if self._path is not None else Watch(engine)

    def close(self) -> None:
        """Let go of the database."""
        if self._watch is not None:
            self._watch.end()
        self._engine.dispose()

    def write(self, rows: Sequence[Named]) -> list[Refusal]:
        """Write rows in order, all or none; return those that no database could hold, and why."""
        with explained(self._url), self._watch or nullcontext():
            self._require_file()
            return _written(self._engine, rows, self._own)

    def absorb(self, left: SpilledRows) -> list[Refusal]:
        """Write what a run could not write, and remove its file."""
        with explained(self._url), self._watch or nullcontext():
            return absorb(self._engine, left)

    def _file(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def _require_file(self) -> None:
        # SQLite goes on writing to a file that was deleted, and nobody would find it.
        try:
            found = self._file()
        except OSError:
            found = (0, 0)
        if found != self._made:
            self.gone = True
            raise DatabaseError(f"expected the database in {self._path}, got a file that is gone")


def absorb(engine: Engine, left: SpilledRows) -> list[Refusal]:
    """Write what a run could not write, and remove its file; return what no database could hold.

    Nothing is written twice, however often this is tried.
    """
    with engine.begin() as connection:
        own = enter(connection, {"state": "killed", **left.run})  # what it ends with is a row
    refused = [refusal for rows in left.rows() for refusal in _written(engine, rows, own)]
    left.remove([row for row, _ in refused])
    return refused


class Watch:
    """Ends the connections to a server that takes a statement and never answers.

    One that is stopped holds its connections, and no time of the network's runs out.
    """

    def __init__(self, engine: Engine) -> None:
        self._since, self._over = 0.0, threading.Event()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        sqlalchemy.event.listen(engine, "checkout", self._note)
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._go_on)
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def __enter__(self) -> None:
        """Begin to count the time."""
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Count no more."""
        self._since = 0.0

    def end(self) -> None:
        """Watch no more."""
        self._over.set()

    def _note(self, connection: Any, *_: object) -> None:
        self._connections.add(connection)

    def _go_on(self, *_: object) -> None:
        if self._since:
            self._since = time.monotonic()

    def _look(self) -> None:
        while not self._over.wait(_HANGS_S / 4):
            if self._since and time.monotonic() - self._since > _HANGS_S:
                for connection in list(self._connections):
                    with suppress(Exception):  # it may end at this moment
                        line = socket.socket(fileno=os.dup(connection.fileno()))
                        line.shutdown(socket.SHUT_RDWR)
                        line.close()


# === Runs ===
# A run is known by when it began and by its process; its number is the database's.


def enter(connection: Connection, run: Mapping[str, Any]) -> Row:
    """Return what every row of a run has: its number, its account; a new run is written down."""
    known = sqlalchemy.and_(*(runs.c[name] == run[name] for name in IDENTITY))
    number = sqlalchemy.select(runs.c.id, runs.c.ledger).where(known)
    found = connection.execute(number).first()
    if found is None:
        row = {"state": "running", **run}
        row["ledger"] = run.get("ledger") or 0
        connection.execute(runs.insert().values(row))
        found = connection.execute(number).one()
        if run.get("ledger") is None:  # a paper account that begins with this run
            connection.execute(runs.update().where(known).values(ledger=runs.c.id))
            found = connection.execute(number).one()
            if run.get("mode") == "paper":
                _abandon(connection, run, found.id)
    account = {name: run[name] for name in ("chain_id", "account")}
    return {"run_id": found.id, "ledger": found.ledger, **account}


def _abandon(connection: Connection, run: Mapping[str, Any], number: int) -> None:
    # Nobody goes on with what the account before had: it stays at what it was worth.
    same = [runs.c[name] == run[name] for name in ("chain_id", "account", "mode")]
    lives = sqlalchemy.select(runs.c.ledger).where(*same, runs.c.state == "running")
    earlier = sqlalchemy.select(runs.c.ledger).where(*same, runs.c.began < run["began"])
    earlier = earlier.where(runs.c.ledger.not_in(lives))
    ours = (positions.c[name] == run[name] for name in ("chain_id", "account"))
    left = positions.update().where(*ours, positions.c.status == "OPEN")
    left = left.where(positions.c.ledger.in_(earlier))
    connection.execute(left.values(status="LEFT", updated=run["began"]))
    which = [orders.c[name] == run[name] for name in ("chain_id", "account")]
    which.append(orders.c.ledger.in_(earlier))
    _end_orders(connection, which, number, run["began"], _AGAIN)


def is_over(run: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Return whether a run that has not ended must have been killed.

    Of another machine that is known only of a run on our own account, which has one bot.
    """
    host, _, rest = str(run["process"]).partition(" ")
    pid, _, since = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return all(run[name] == ours.get(name) for name in ("chain_id", "account"))
    return not Path(f"/proc/{pid}").exists() or started(int(pid)) != since


def bury(connection: Connection, ours: Mapping[str, Any]) -> None:
    """Mark the runs that were killed."""
    running = sqlalchemy.select(runs).where(runs.c.state == "running")
    over = [
        run["id"]
        for run in connection.execute(running).mappings()
        if run["process"] != ours["process"] and is_over(dict(run), ours)
    ]
    if over:
        connection.execute(runs.update().where(runs.c.id.in_(over)).values(state="killed"))


# === Rows ===
# Statements a table, rows by the dozen; a batch that is refused is tried row by row.


def _written(engine: Engine, rows: Sequence[Named], own: Row) -> list[Refusal]:
    try:
        with engine.begin() as connection:
            for table, same in _batches(rows):
                _write(connection, table, same, own)
        return []
    except _REFUSALS as error:
        if not _is_refusal(error):
            raise
    return _one_by_one(engine, rows, own)


def _is_refusal(error: BaseException) -> bool:
    # What a database raises when it fails is a StatementError too.
    return not isinstance(error, sqlalchemy.exc.DBAPIError) or isinstance(error, _OF_A_ROW)


def _one_by_one(engine: Engine, rows: Sequence[Named], own: Row) -> list[Refusal]:
    refused: list[Refusal] = []
    with engine.begin() as connection:
        for table, row in rows:
            try:
                with connection.begin_nested():
                    _write(connection, table, [row], own)
            except _REFUSALS as error:
                if not _is_refusal(error):
                    raise
                refused.append(((table, row), _why(error)))
    return refused


def _why(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]


def _batches(rows: Iterable[Named]) -> Iterator[tuple[str, list[Row]]]:
    # In order within a table, which is all that counts: tables know each other by ids alone.
    by_kind: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for table, row in rows:
        by_kind.setdefault((table, tuple(row)), []).append(row)
    for (table, _), same in by_kind.items():
        for _, some in groupby(enumerate(same), lambda each: each[0] // _AT_ONCE):
            yield table, [row for _, row in some]


def _write(connection: Connection, table: str, rows: Sequence[Row], own: Row) -> None:
    if table == "runs":
        for row in rows:
            connection.execute(runs.update().where(runs.c.id == own["run_id"]).values(row))
        return
    if table == LEFT:
        for row in rows:
            connection.execute(_left(own, row))
        return
    if table == ORDERS_LEFT:
        for row in rows:
            which = [orders.c[name] == own[name] for name in ("chain_id", "account", "ledger")]
            which += [orders.c.run_id != own["run_id"], orders.c.order_id.not_in(row["open"])]
            _end_orders(connection, which, own["run_id"], row["at"], _GONE)
        return
    if table == changes.name and not (rows := _news(connection, rows, own)):
        return
    filled = {name: value for name, value in own.items() if name in TABLES[table].c}
    names = tuple(filled | rows[0])
    statement = _statement(connection.dialect.name, table, names)
    connection.execute(statement, [filled | row for row in rows])
    if table == "ledger_events":
        _prune(connection, rows, own)


def _news(connection: Connection, rows: Sequence[Row], own: Row) -> Sequence[Row]:
    """Leave out what an order was already: each run begins with all that the venue lists."""
    account = [changes.c[name] == own[name] for name in ("chain_id", "account", "ledger")]
    ids = changes.c.order_id.in_({row["order_id"] for row in rows})
    found = sqlalchemy.select(changes.c.order_id, *(changes.c[name] for name in _CHANGES))
    found = found.where(*account, ids).order_by(changes.c.at, changes.c.seq, changes.c.n)
    known = {order_id: tuple(stood) for order_id, *stood in connection.execute(found)}
    news = []
    for row in rows:
        stands = tuple(row[name] for name in _CHANGES)
        if known.get(row["order_id"]) != stands:
            known[row["order_id"]] = stands
            news.append(row)
    return news


_CHANGES: Final = ("status", "filled", "reason")


def _prune(connection: Connection, rows: Sequence[Row], own: Row) -> None:
    """Delete what nobody reads any more, in the transaction in which these rows are stored."""
    states = [row["n"] for row in rows if row["kind"] == "state"]
    if not states:
        return
    same = (runs.c[name] == own[name] for name in ("chain_id", "account"))
    earlier = sqlalchemy.select(runs.c.id).where(*same, runs.c.id < own["run_id"])
    superseded = sqlalchemy.and_(events.c.run_id == own["run_id"], events.c.n < max(states))
    over = sqlalchemy.or_(superseded, events.c.run_id.in_(earlier))
    connection.execute(events.delete().where(over))


def _left(own: Row, row: Row) -> Any:
    account = (positions.c[name] == own[name] for name in ("chain_id", "account", "ledger"))
    earlier = sqlalchemy.and_(positions.c.status == "OPEN", positions.c.run_id != own["run_id"])
    # What it gained counts in the row that goes on with it, from the same entry price.
    gone = positions.c.position_id.not_in(row.get("open", ()))
    left = positions.update().where(*account, earlier, gone)
    return left.values(status="LEFT", unrealized=0, updated=row["at"])


def _end_orders(
    connection: Connection, which: Sequence[Any], number: int, at: int, why: str
) -> None:
    """Mark orders that nobody has any more, each with a change that run `number` found."""
    names = ("chain_id", "account", "ledger", "order_id", "filled")
    alive = sqlalchemy.and_(*which, orders.c.status.in_(_LIVE))
    found = connection.execute(sqlalchemy.select(*(orders.c[name] for name in names)).where(alive))
    ended = [dict(row) for row in found.mappings()]
    if not ended:
        return
    connection.execute(orders.update().where(alive).values(status="LEFT", reason=why, updated=at))
    # Its own changes are counted from 1 on.
    known = sqlalchemy.select(sqlalchemy.func.min(changes.c.n)).where(changes.c.run_id == number)
    least = min(connection.scalar(known) or 0, 0)
    common = {"run_id": number, "seq": 0, "at": at, "status": "LEFT", "reason": why}
    rows = [common | row | {"n": least - n} for n, row in enumerate(ended, 1)]
    connection.execute(changes.insert(), rows)


@functools.cache
def _statement(dialect: str, name: str, names: tuple[str, ...]) -> Any:
    table: Table = TABLES[name]
    insert = {"sqlite": sqlite, "postgresql": postgresql}[dialect].insert(table)
    insert = insert.values({each: sqlalchemy.bindparam(each) for each in names})
    if (newer := _NEWER.get(name)) is None:
        return insert.on_conflict_do_nothing()
    keys = [column.name for column in table.primary_key]
    later = {each: insert.excluded[each] for each in names if each not in (*keys, *_BEGAN)}
    return insert.on_conflict_do_update(
        index_elements=keys, set_=later, where=table.c[newer] <= insert.excluded[newer]
    )
