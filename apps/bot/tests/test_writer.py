"""The thread that writes rows: in order, none twice, none lost in silence."""

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from bot.database import spill, writer
from bot.database.spill import process
from bot.database.store import Store
from bot.database.tables import TABLES, engine_of
from bot.database.writer import Writer
from dydx_conn import redact

BEGAN = itertools.count(1)


def run_row(**more: Any) -> dict[str, Any]:
    """Return the row of a run of this process; each has begun at another time."""
    row = {"mode": "paper", "network": "test", "chain_id": "c", "account": "a/0", "name": "x"}
    return {**row, "began": next(BEGAN), "process": process(), "ledger": None, **more}


@contextlib.contextmanager
def writing(url: str, **more: Any) -> Iterator[Writer]:
    """Run a writer of a new run, and close it at the end."""
    made = Writer(url, run_row(**more))
    made.start()
    try:
        yield made
    finally:
        made.close()


def state(number: int) -> dict[str, Any]:
    """Return a row of the table of states."""
    return {"seq": number, "at": number, "what": "act", "was": "", "state": "", "words": "ü"}


def order(status: str, updated: int, **more: Any) -> dict[str, Any]:
    """Return a row of an order."""
    names = ("order_id", "id", "client_id", "ticker", "side", "type", "size", "price", "filled")
    words = dict.fromkeys((*names, "reason", "verdict_id", "words"), "1")
    common = {"chain_id": "c", "account": "a/0", "created": 1, "data": {"a": [1]}}
    return {**words, **common, "status": status, "updated": updated, **more}


def rows(url: str, table: str, *columns: str) -> list[Any]:
    """Return some columns of a table, in order."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            found = [TABLES[table].c[name] for name in columns]
            query = sqlalchemy.select(*found).order_by(*TABLES[table].primary_key)
            return [tuple(row) for row in connection.execute(query)]
    finally:
        engine.dispose()


def waiting() -> list[Path]:
    """Return the files of rows that no database has taken."""
    return sorted(spill.directory().glob("*"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a database that is empty, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "bot.db")
    made: str = request.getfixturevalue("postgresql")()
    return made


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Return a database of a file."""
    return str(tmp_path / "bot.db")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a database again soon, and wait for no lock."""
    monkeypatch.setattr(writer, "_RETRY_S", (0.0,))
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.0)
    monkeypatch.setattr("bot.database.store._PATIENCE_S", 0.01)


def test_rows_are_in_the_database_in_their_order(url: str) -> None:
    """Those without a name of their own are counted within their run."""
    with writing(url) as made:
        for number in range(1_000):
            made.put("states", state(number))
        assert made.flush()

        assert rows(url, "states", "seq") == [(number,) for number in range(1_000)]
    assert (made.trouble, made.written, waiting()) == ("", 1_000, [])


def test_a_row_may_be_made_by_the_thread(file: str) -> None:
    """What it costs to make is not paid by the frames."""
    with writing(file) as made:
        made.put("states", lambda: state(7))

    assert rows(file, "states", "seq", "words") == [(7, "ü")]


def test_a_row_that_cannot_be_made_is_counted(file: str) -> None:
    """And all others are written."""
    with writing(file) as made:
        made.put("states", lambda: dict[str, Any]()["x"])
        made.put("states", state(1))

    assert len(rows(file, "states", "seq")) == 1
    lost = "expected to write every row, got 1 lost: of states, by KeyError: 'x'"
    assert made.trouble == lost


def test_an_order_is_what_became_of_it_last(url: str) -> None:
    """In one batch, in two, and where an older row comes late; what it began with stays."""
    with writing(url) as made:
        made.put("orders", order("OPEN", 1))
        made.put("orders", order("FILLED", 3, id="O9", verdict_id="V9", filled="1.5"))
        made.flush()
        made.put("orders", order("BEST_EFFORT_OPENED", 2))

    found = rows(url, "orders", "status", "updated", "filled", "id", "verdict_id", "data")
    assert found == [("FILLED", 3, "1.5", "1", "1", {"a": [1]})]


def test_two_runs_share_a_database_and_no_order(url: str) -> None:
    """Paper accounts have the same orders, each of its own ledger, and write at a time."""
    with writing(url) as one, writing(url) as other:
        for number in range(100):
            one.put("states", state(number))
            other.put("states", state(number))
        one.put("orders", order("OPEN", 1))
        other.put("orders", order("FILLED", 1))

    assert {status for (status,) in rows(url, "orders", "status")} == {"OPEN", "FILLED"}
    assert len(rows(url, "states", "n")) == 200


def test_an_account_of_the_chain_is_the_same_in_each_run(file: str) -> None:
    """A run goes on with the orders of the one before."""
    with writing(file, ledger=0) as made:
        made.put("orders", order("OPEN", 1))
    with writing(file, ledger=0) as made:
        made.put("orders", order("FILLED", 2))

    assert rows(file, "orders", "status", "run_id") == [("FILLED", 1)]


def test_a_ledger_is_stored_once_however_long_an_account_lives(url: str) -> None:
    """A state has all that was before it; another account's is left alone."""
    event = {"seq": 1, "at": 1, "kind": "frame", "data": "{}"}
    ledger = None
    for account, kinds in (("b/0", "sf"), ("a/0", "sffsf"), ("a/0", "s"), ("a/0", "f")):
        with writing(url, account=account, ledger=ledger if account == "a/0" else None) as made:
            for n, kind in enumerate(kinds, 1):
                name = {"s": "state", "f": "frame"}[kind]
                made.put("ledger_events", {**event, "n": n, "kind": name})
                made.flush()
        ledger = 2 if account == "a/0" else None

    stored = rows(url, "ledger_events", "run_id", "n", "kind")
    expected = [(1, 1, "state"), (1, 2, "frame"), (3, 1, "state"), (4, 1, "frame")]
    assert (made.trouble, stored) == ("", expected)


def test_an_order_that_ended_while_no_bot_ran_is_left(url: str) -> None:
    """The next run finds it so, once: what stands goes on, and what had ended is as it was."""
    with writing(url, ledger=0) as made:
        for name, status in (("gone", "OPEN"), ("stands", "OPEN"), ("over", "FILLED")):
            made.put("orders", order(status, 1, order_id=name))
    with writing(url, ledger=0) as made:
        made.put("orders", order("PENDING", 7, order_id="new"))
        for at in (8, 9):
            made.put("orders_left", {"at": at, "open": ["stands"]})
            made.flush()

    why = "the venue has it no more: it ended while no bot ran, or never arrived"
    assert rows(url, "orders", "order_id", "status", "updated", "reason") == [
        ("gone", "LEFT", 8, why), ("new", "PENDING", 7, "1"), ("over", "FILLED", 1, "1"),
        ("stands", "OPEN", 1, "1"),
    ]  # fmt: skip
    changes = rows(url, "order_changes", "run_id", "n", "order_id", "at", "status", "reason")
    assert changes == [(2, -1, "gone", 8, "LEFT", why)]


def test_what_an_order_was_already_is_no_change(url: str) -> None:
    """Each run begins with all the orders that the venue lists."""

    def change(at: int, status: str, filled: str = "0") -> dict[str, Any]:
        stands = {"status": status, "filled": filled, "reason": ""}
        return {"order_id": "o", "seq": at, "at": at, **stands}

    with writing(url, ledger=0) as made:
        for at, status in enumerate(("OPEN", "OPEN", "FILLED"), 1):
            made.put("order_changes", change(at, status, "1" if at == 3 else "0"))
    with writing(url, ledger=0) as made:
        made.put("order_changes", change(4, "FILLED", "1"))
        made.put("order_changes", change(5, "OPEN", "1"))

    assert rows(url, "order_changes", "run_id", "at", "status") == [
        (1, 1, "OPEN"), (1, 3, "FILLED"), (2, 5, "OPEN"),
    ]  # fmt: skip


def position(name: str, **more: Any) -> dict[str, Any]:
    """Return a row of an open position."""
    sums = {"realized": 5, "unrealized": -7, "funding": 0, "fees": 0}
    return {"position_id": name, "status": "OPEN", "opened": 1, "updated": 1, **sums, **more}


def test_a_paper_account_that_begins_again_leaves_nothing_open(url: str) -> None:
    """Neither an order nor a position; another account, and one that still runs, keep theirs."""
    began = run_row()["began"]
    with contextlib.ExitStack() as stack:
        lives = stack.enter_context(writing(url))
        lives.put("positions", position("p"))
        lives.flush()
        for account in ("a/0", "b/0"):
            made = stack.enter_context(writing(url, account=account))
            made.put("orders", order("OPEN", 1))
            made.put("positions", position("p"))
            made.put("runs", {"state": "ended"})
            made.flush()
        with writing(url):
            pass

    found = rows(url, "positions", "ledger", "status", "unrealized")
    assert sorted(found) == [(1, "OPEN", -7), (2, "LEFT", -7), (3, "OPEN", -7)]
    ended = rows(url, "orders", "ledger", "status", "updated", "reason")
    why = "its paper account began again (--fresh)"
    assert [row for row in ended if row[1] == "LEFT"] == [(2, "LEFT", began + 4, why)]
    assert rows(url, "order_changes", "run_id", "ledger", "reason") == [(4, 2, why)]


def test_a_position_that_a_resumed_ledger_has_not_is_left(url: str) -> None:
    """Its row was written, and the event that it is of was not, when the run was killed."""
    with writing(url) as made:
        made.put("positions", position("gone"))
        made.put("positions", position("held"))
    with writing(url, ledger=1) as made:
        made.put("positions_left", {"at": 8, "open": ["held"]})

    found = rows(url, "positions", "position_id", "status", "unrealized")
    assert found == [("gone", "LEFT", 0), ("held", "OPEN", -7)]


def test_a_run_ends_with_its_hash(url: str) -> None:
    """Its row is of the run itself."""
    with writing(url) as made:
        made.put("runs", {"state": "ended", "ended": 9, "run_hash": "abc"})

    assert rows(url, "runs", "state", "ended", "run_hash", "ledger") == [("ended", 9, "abc", 1)]


@pytest.mark.parametrize(
    ("process_", "account", "state_"),
    [
        ("{host} 1 0", "b/0", "killed"),  # the number is another process's by now
        ("{host} 999999999 5", "b/0", "killed"),
        ("{ours}", "b/0", "running"),
        ("elsewhere 1 5", "b/0", "running"),
        ("elsewhere 1 5", "a/0", "killed"),  # one bot an account
    ],
)
def test_a_run_that_was_killed_is_marked_by_the_next(
    file: str, process_: str, account: str, state_: str
) -> None:
    """One that may still be there is left alone."""
    named = process_.format(host=process().split()[0], ours=process())
    with writing(file, process=named, account=account):
        pass
    with writing(file, process=process() + "x"):
        pass

    assert rows(file, "runs", "state")[0] == (state_,)


@pytest.mark.parametrize(
    "odd",
    [{"words": "a\udc80b"}, {"seq": 2**63}, {"seq": None}, {"extra": 1}, {"at": object()}],
    ids=["surrogate", "large", "absent", "unknown", "object"],
)
def test_a_row_that_no_database_can_hold_is_put_aside(file: str, odd: dict[str, Any]) -> None:
    """It is counted, with why; its neighbours are written."""
    with writing(file) as made:
        made.put("states", state(1))
        made.put("states", state(2) | odd)
        made.put("states", state(3))

    assert rows(file, "states", "seq") == [(1,), (3,)]
    assert made.trouble.startswith("expected rows that a database can hold, got 1 others (")
    assert [path.suffix for path in waiting()] == [".refused"]


def test_a_text_that_postgresql_cannot_hold_is_put_aside(postgresql: Callable[[], str]) -> None:
    """It has no character of number 0."""
    url = postgresql()
    with writing(url) as made:
        made.put("states", state(1) | {"words": "a\0b"})
        made.put("states", state(2))

    assert rows(url, "states", "seq") == [(2,)]
    assert "NUL" in made.trouble


def test_a_table_that_is_none_is_put_aside(file: str) -> None:
    """A row of it, that is."""
    with writing(file) as made:
        made.put("cookies", {"a": 1})

    assert "got 1 others ('cookies')" in made.trouble


def test_rows_wait_in_a_file_while_a_database_is_locked(file: str, impatient: None) -> None:
    """They are in it as soon as it works again, and the file is gone."""
    with writing(file) as made:
        made.put("states", state(1))
        made.flush()
        other = sqlite3.connect(file)
        other.execute("BEGIN EXCLUSIVE")
        made.put("states", state(2))
        made.flush()
        (path,) = waiting()
        lines = path.read_text().splitlines()
        mode = path.stat().st_mode & 0o777
        made.flush()  # the turn in which it failed is over
        trouble = made.trouble
        other.rollback()
        other.close()
        made.put("states", state(3))

    assert trouble == (
        f"expected a database in {file}, got one that another program has locked: "
        f"1 rows wait in {path}"
    )
    assert [json.loads(line)[1]["seq"] for line in lines[1:]] == [2]
    assert mode == 0o600
    assert sorted(rows(file, "states", "seq")) == [(1,), (2,), (3,)]
    assert (made.trouble, waiting()) == ("", [])


def test_what_one_run_could_not_write_the_next_one_does(file: str, impatient: None) -> None:
    """Under the run that it is of."""
    Path(file).write_text("no database at all, for some reason " * 40)
    with writing(file) as made:
        made.put("states", state(1))
        made.put("orders", order("OPEN", 5))
    trouble, left = made.trouble, len(waiting())
    Path(file).unlink()
    with writing(file, name="next") as made:
        made.put("states", state(2))

    assert "got a file that is no database: 2 rows wait in " in trouble
    assert (left, waiting(), made.trouble) == (1, [], "")
    names = dict(rows(file, "runs", "id", "name"))
    found = [(names[run], seq) for run, seq in rows(file, "states", "run_id", "seq")]
    assert sorted(found) == [("next", 2), ("x", 1)]


def test_a_file_that_was_taken_half_is_taken_again_and_nothing_twice(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may be killed in between; a line that was cut off is not a row."""
    Path(file).write_text("no database " * 99)
    with writing(file) as made:
        for number in range(50):
            made.put("states", state(number))
    Path(file).unlink()
    (path,) = waiting()
    text = path.read_text()
    path.write_text(text + '["states", {"seq": 99, "at')
    for _ in range(2):
        with writing(file):
            pass
        assert waiting() == []
        path.write_text(text)

    assert rows(file, "states", "seq") == [(number,) for number in range(50)]


def test_a_writer_goes_on_after_what_nobody_expected(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in hand are counted as lost, with why."""
    faults = iter([ZeroDivisionError("a bug")])

    def broken(store: Store, rows: list[Any]) -> list[Any]:
        for fault in faults:
            raise fault
        return write(store, rows)

    write = Store.write
    monkeypatch.setattr(Store, "write", broken)
    with writing(file) as made:
        made.put("states", state(1))
        made.put("states", state(2))
        made.flush(0.3)
        made.put("states", state(3))

    assert made.trouble == "expected to write every row, got 2 lost: ZeroDivisionError: a bug"
    assert rows(file, "states", "seq") == [(3,)]


@pytest.mark.parametrize("text", ["nonsense\n", '{"run":{"began":1}}\n["states",{}]\n'])
def test_a_file_of_rows_that_is_none_is_left_alone(file: str, impatient: None, text: str) -> None:
    """Whatever else is in the directory stays."""
    Path(file).write_text("no database " * 99)
    with writing(file) as made:
        made.put("states", state(1))
    Path(file).unlink()
    (path,) = waiting()
    path.write_text(text)
    with writing(file) as made:
        made.put("states", state(1))

    assert (made.trouble, path.read_text()) == ("", text)


def test_rows_wait_for_a_server_that_is_not_there(impatient: None) -> None:
    """Its password is in no word, and in no file."""
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/bot"
    with writing(url) as made:
        made.put("states", state(1))

    (path,) = waiting()
    assert made.trouble.startswith(
        "expected a database in postgresql+psycopg://me:***@127.0.0.1:1/bot, got connection failed"
    )
    assert "refused" in made.trouble
    assert "hunter2" not in made.trouble + path.read_text() + path.name


def test_a_connection_that_is_cut_is_made_again(
    postgresql: Callable[[], str], impatient: None
) -> None:
    """A server that was restarted has lost nothing, and rows wait meanwhile."""
    url = postgresql()
    with writing(url) as made:
        made.put("states", state(1))
        made.flush()
        engine = engine_of(url)
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        with engine.begin() as connection:
            connection.exec_driver_sql(f"{others} AND application_name = 'dydx-bot'")
        engine.dispose()
        made.put("states", state(2))

    assert rows(url, "states", "seq") == [(1,), (2,)]
    assert (made.trouble, waiting()) == ("", [])


def test_rows_wait_in_a_file_while_a_server_is_stopped(
    postgresql: Callable[[], str], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the connection, takes all and answers nothing; a kill -9 would take what waits."""
    monkeypatch.setattr("bot.database.store._HANGS_S", 0.2)
    url = postgresql()
    with writing(url) as made:
        made.put("states", state(1))
        assert made.flush()
        engine = engine_of(url)
        with engine.connect() as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            others = f"{query} AND pid <> pg_backend_pid()"
            stopped = connection.execute(sqlalchemy.text(others)).scalars().all()
        engine.dispose()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            made.put("states", state(2))
            assert made.flush()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    assert (made.trouble, rows(url, "states", "seq")) == ("", [(1,), (2,)])


def test_a_database_that_is_deleted_is_made_again(file: str, impatient: None) -> None:
    """What comes after is in it, and the loss is reported."""
    with writing(file) as made:
        made.put("states", state(1))
        made.flush()
        for path in Path(file).parent.glob("bot.db*"):
            path.unlink()
        made.put("states", state(2))
        made.flush()
        made.put("states", state(3))

    assert rows(file, "states", "seq") == [(2,), (3,)]
    assert rows(file, "runs", "name") == [("x",)]
    assert made.trouble == (
        f"expected the database in {file}, got a file that is gone, and 1 rows with it: "
        "a new one goes on from there"
    )


def test_rows_that_come_too_fast_go_to_the_file_first(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is quicker; the database has them all at the end."""
    monkeypatch.setattr(writer, "MANY", 1_000)
    made = Writer(file, run_row())
    for number in range(5_000):
        made.put("states", state(number))
    made.start()
    made.flush()
    made.close()

    assert len(rows(file, "states", "seq")) == 5_000
    assert (made.trouble, waiting()) == ("", [])


def test_rows_for_which_no_time_is_left_at_the_end_wait_in_the_file(file: str) -> None:
    """It is reported, and the next run writes them."""
    made = Writer(file, run_row())
    made.put("states", state(1))
    made._ends = 0.0  # its time is over before it begins
    made.start()
    made._thread.join()
    made.close()
    with writing(file):
        pass

    assert made.trouble.startswith("expected a database that follows, got one that is behind: ")
    assert rows(file, "states", "seq") == [(1,)]


@pytest.mark.parametrize("hangs", ["__init__", "write", "absorb"])
def test_rows_wait_in_a_file_when_a_database_hangs_at_the_end(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    """Those that the thread has in hand too; the next run writes them, and none twice."""
    usual, over = getattr(Store, hangs), threading.Event()

    def hanging(*given: Any) -> Any:
        over.wait(10.0)
        return usual(*given)

    made = Writer(file, run_row())
    if hangs == "absorb":
        made._spill.add([("states", {"n": 99, **state(99)})])
    with monkeypatch.context() as patch:
        patch.setattr(Store, hangs, hanging)
        made.start()
        for number in range(6):
            made.put("states", state(number))
        made.close(0.6)
        trouble = made.trouble
        over.set()
        made._thread.join()
    with writing(file):
        pass

    assert trouble.startswith("expected a database that follows, got one that is behind: 6 rows")
    assert (made.lost.rows, waiting()) == (0, [])
    assert {seq for (seq,) in rows(file, "states", "seq")} - {99} == {*range(6)}
    assert len(rows(file, "states", "seq")) == 6 + (hangs == "absorb")


def test_no_row_is_there_before_one_that_waits_in_the_file(file: str, impatient: None) -> None:
    """Whoever reads meanwhile sees no fill whose order is not there; nothing is newer than it is."""
    made = Writer(file, run_row())
    made._spill.add([("orders", {**order("OPEN", 1), "verdict_id": "V1", "created": 1})])
    made._store = Store(file, made._of[1])
    made.put("orders", {**order("FILLED", 2), "verdict_id": "V1", "created": 2})
    made._turn()
    made._close_store()
    made._spill.close()

    assert rows(file, "orders", "status", "created") == [("FILLED", 1)]


def test_rows_that_nothing_takes_are_reported_while_a_run_goes_on(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They wait in memory, and are written once something takes them."""
    Path(file).write_text("no database " * 99)
    (tmp_path / "state").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with writing(file) as made:
        made.put("states", state(1))
        assert not made.flush()
        while not made.trouble:
            made.flush(0.1)
        trouble = made.trouble
        Path(file).unlink()
        while not made.flush(0.1):
            pass

    assert trouble.endswith("1 rows wait in memory")
    assert (made.trouble, rows(file, "states", "seq")) == ("", [(1,)])


def test_a_database_that_opens_and_takes_nothing_is_reported_while_a_run_goes_on(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is gone, say: rows wait in the file, and are written once it is back."""
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.05)
    with writing(file) as made, contextlib.closing(sqlite3.connect(file)) as other:
        made.put("states", state(1))
        while not made.figures()["written"]:
            made.flush()
        other.execute("ALTER TABLE states RENAME TO away")
        made.put("states", state(2))
        troubles = [made.trouble for _ in range(200) if made.flush()]
        other.execute("ALTER TABLE away RENAME TO states")
        while made.figures()["in a file"]:
            made.flush()

    assert "no such table: states: 1 rows wait in" in troubles[-1]
    assert (made.trouble, rows(file, "states", "seq")) == ("", [(1,), (2,)])


def test_rows_beyond_what_memory_may_hold_are_counted(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the newest: what is there already is written."""
    monkeypatch.setattr(writer, "MOST", 10)
    made = Writer(file, run_row())
    for number in range(12):
        made.put("states", state(number))
    made.start()
    made.close()

    assert made.trouble == "expected to write every row, got 2 lost"
    assert len(rows(file, "states", "seq")) == 10


def test_where_neither_takes_a_row_it_is_counted_as_lost(
    file: str, impatient: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run ends in time all the same."""
    Path(file).write_text("no database " * 99)
    (tmp_path / "state").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with writing(file) as made:
        for number in range(3):
            made.put("states", state(number))

    assert made.trouble.startswith("expected to write ")
    assert made.trouble.endswith("expected to write every row, got 3 lost")


KILLED = """
import sys, time
from bot.database.writer import Writer
from dydx_conn import redact
from bot.database.spill import process
from bot.database.store import Store
made = Writer(sys.argv[1], {"began": 1, "chain_id": "c", "account": "a/0", "process": process()})
made.start()
for number in range(10**9):
    row = {"seq": number, "at": time.time_ns(), "what": "", "was": "", "state": "", "words": ""}
    made.put("states", row)
    print(number, row["at"], flush=True)
    time.sleep(0.001)
"""


def test_a_kill_loses_less_than_a_second(file: str) -> None:
    """The database is whole, and all rows but the newest are in it."""
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, file], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if len(lines) % 50 == 0 and len(_seqs(file)) > 100:
                break
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines()

    stored = _seqs(file)
    put = [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]
    lost = [at for seq, at in put if seq >= len(stored)]
    assert stored == list(range(len(stored)))
    assert not lost or lost[-1] - lost[0] < 10**9
    with writing(file):
        pass
    assert rows(file, "runs", "state")[0] == ("killed",)


def _seqs(file: str) -> list[int]:
    lost = contextlib.suppress(sqlite3.OperationalError)
    with contextlib.closing(sqlite3.connect(file)) as connection, lost:
        return [seq for (seq,) in connection.execute("SELECT seq FROM states ORDER BY n")]
    return []


FULL = """
import resource, sys
from bot.database.writer import Writer
from dydx_conn import redact
from bot.database.spill import process
from bot.database.store import Store
made = Writer(sys.argv[1], {"began": 1, "chain_id": "c", "account": "a/0", "process": process()})
made.start()
row = {"seq": 1, "at": 1, "what": "", "was": "", "state": "", "words": "w" * 1000}
made.put("states", dict(row))
made.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for number in range(600):
    made.put("states", dict(row))
    if number % 100 == 0:
        made.flush()
made.close()
print(made.written, made.lost.rows, made.trouble)
"""


@pytest.mark.parametrize("size", [400_000, 250_000])
def test_a_full_disk_loses_no_row_in_silence(file: str, size: int) -> None:
    """What is neither in the database nor in the file is counted; the database stays whole."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, file, str(size)], capture_output=True, text=True, check=True
    )
    written, lost, trouble = done.stdout.split(" ", 2)
    with writing(file) as made:
        pass

    assert made.trouble == ""
    assert len(_seqs(file)) == 601 - int(lost)
    assert int(written) < 601
    assert trouble.startswith("expected ")


def test_half_a_character_of_somebody_else_waits_in_the_file_as_any(file: str) -> None:
    """A file that another writer holds is not written, whoever comes first."""
    run, odd = run_row(), ("states", {"words": "\ud800"})
    first, second = spill.Spill(file, run), spill.Spill(file, run)
    first.add([odd])
    with pytest.raises(OSError, match="unavailable"):
        second.add([odd])
    with contextlib.closing(first.left()) as left:
        assert [*left.rows()] == [[odd]]
    first.remove()
    assert (waiting(), first.rows, second.rows) == ([], 0, 0)


def test_the_path_of_what_waits_can_be_printed() -> None:
    """A long name without a dot would be taken for a secret, and nobody would find the file."""
    run = {"began": 1_796_053_663_537_254_331, "process": "host-1234 987654 1234567"}
    name = spill.Spill("sqlite:////srv/somebody/history.db", run).path.name

    assert redact(f"/srv/somebody/.local/state/dydx-bot/unwritten/{name}").endswith(name)
