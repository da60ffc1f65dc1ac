"""The tables, and how a database of them is opened and upgraded, on SQLite and on PostgreSQL."""

import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from bot.database import counting, summing
from bot.database import tables as database
from bot.database.tables import (
    REVISIONS,
    DatabaseError,
    alembic_config,
    default_url,
    engine_of,
    shown,
    upgrade,
    url_of,
    words_of,
)
from sqlalchemy import Connection, Engine, MetaData

RUN = {"id": 1, "mode": "paper", "chain_id": "c", "account": "a/0", "began": 7, "state": "ended"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a database that is empty, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "data" / "bot.db")
    made: str = request.getfixturevalue("postgresql")()
    return made


@pytest.fixture
def opened() -> Iterator[Callable[[str], Engine]]:
    """Return what opens engines, and closes them at the end."""
    engines: list[Engine] = []

    def opens(url: str) -> Engine:
        engines.append(engine_of(url))
        return engines[-1]

    yield opens
    for engine in engines:
        engine.dispose()


def rows(engine: Engine, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table."""
    with engine.begin() as connection:
        found = connection.execute(sqlalchemy.select(database.TABLES[table]))
        return [dict(row) for row in found.mappings()]


def filled(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Write two rows to each table that there is: one in full, one as short as it may be."""
    found = MetaData()
    found.reflect(connection)
    written: dict[str, list[dict[str, Any]]] = {}
    for table in found.sorted_tables:
        if table.name in ("alembic_version", "order_blocks", "order_counts", "order_sums"):
            continue  # of the migrations, and of the triggers
        for number in (1, 2):
            row = {
                column.name: value_of(column, number)
                for column in table.c
                if number == 1
                or column.primary_key
                or not (column.nullable or column.server_default)
            }
            connection.execute(table.insert().values(row))
            written.setdefault(table.name, []).append(row)
    return written


def value_of(column: sqlalchemy.Column[Any], number: int) -> Any:
    """Return what a column may hold: of a number the largest, of a text more than ASCII."""
    if column.name in ("id", "run_id") and isinstance(column.type, sqlalchemy.Integer):
        return number
    if isinstance(column.type, sqlalchemy.BigInteger):
        return 2**63 - number
    if isinstance(column.type, sqlalchemy.Float):
        return number / 3
    if isinstance(column.type, sqlalchemy.JSON):
        return {"price": "1.5", "of": [number, None, "µ"]}
    if isinstance(column.type, sqlalchemy.Boolean):
        return True
    return number if isinstance(column.type, sqlalchemy.Integer) else f"{column.name} µ {number}"


@pytest.mark.parametrize("revision", REVISIONS)
def test_all_that_an_earlier_version_holds_is_there_after_an_upgrade(
    url: str, opened: Callable[[str], Engine], revision: str
) -> None:
    """Of each table that it had, each row, and its orders are counted."""
    engine = opened(url)
    upgrade(engine, "0001")
    upgrade(engine, revision)
    with engine.begin() as connection:
        written = filled(connection)
    assert len(written) >= 15

    assert upgrade(engine) == revision
    for name, before in written.items():
        found = sorted(rows(engine, name), key=lambda row: row.get("run_id", row.get("id", 0)))
        assert [{k: row[k] for k in was} for row, was in zip(found, before, strict=True)] == before
    of = ("order_counts", "order_blocks", "order_sums")
    assert [sum(row["n"] for row in rows(engine, name)) for name in of] == [2, 2, 2]


def test_a_new_database_is_what_the_migrations_make_of_an_old_one(
    url: str, opened: Callable[[str], Engine]
) -> None:
    """Both ways to this version lead to the same tables, and to the same triggers."""
    engine = opened(url)
    upgrade(engine, "0001")
    upgrade(engine)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, database.metadata) == []
        found = connection.exec_driver_sql(TRIGGERS_OF[engine.dialect.name]).scalars()
        made = [sql for of in (counting, summing) for sql in of.TRIGGERS[engine.dialect.name]]
        expected = [sql.split()[2] for sql in made if "TRIGGER" in sql]
        assert sorted(found) == sorted(expected)


TRIGGERS_OF = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
}


def test_the_versions_listed_are_those_of_the_migrations() -> None:
    """The list stands in the code, so that nothing is loaded to compare with it."""
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()

    assert list(REVISIONS) == [script.revision for script in scripts][::-1]


def test_a_database_of_this_version_is_left_alone(
    url: str, opened: Callable[[str], Engine]
) -> None:
    """A second start changes nothing."""
    engine = opened(url)

    assert [upgrade(engine), upgrade(engine)] == ["", REVISIONS[-1]]


def test_only_its_owner_can_read_a_database(
    tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    """The file, what SQLite makes beside it, and a directory that is made for it."""
    engine = opened(str(tmp_path / "data" / "bot.db"))
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(database.runs.insert().values(RUN))
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}

    assert found == {"data": 0o700, "bot.db": 0o600, "bot.db-wal": 0o600, "bot.db-shm": 0o600}


def test_a_database_that_others_could_read_is_ours_alone_from_then_on(tmp_path: Path) -> None:
    """A file that was copied there with a wide mode is narrowed, its directory is the user's."""
    path = tmp_path / "bot.db"
    path.touch(0o644)
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    engine_of(str(path)).dispose()

    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, tmp_path)]
    assert modes == [0o600, 0o755]


def test_the_database_of_whoever_chose_none_is_in_their_data_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the XDG rules say: a relative path counts as none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", "/elsewhere/x")
    given = default_url()
    monkeypatch.setenv("XDG_DATA_HOME", "relative")

    assert given == f"sqlite:///{tmp_path}/dydx-bot/bot.db"
    assert default_url() == "sqlite:////elsewhere/x/.local/share/dydx-bot/bot.db"


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "got nothing"),
        ("mysql://u:hunter2@h/db", "got mysql"),
        ("postgresql+asyncpg://u:hunter2@h/db", "got postgresql+asyncpg"),
        ("sqlite://", "got a database in memory, which outlives nothing"),
        ("sqlite:///:memory:", "got a database in memory, which outlives nothing"),
        ("://hunter2", "got what is no URL"),
        ("postgresql://u:hunter2@h:port/db", "got what is no URL"),
    ],
)
def test_a_database_that_cannot_be_named_so_is_refused(text: str, got: str) -> None:
    """What was expected and what it was, without a password."""
    expected = "expected a file, sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"

    with pytest.raises(DatabaseError, match=f"^{re.escape(f'{expected}, {got}')}$"):
        url_of(text)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_password_is_never_shown(scheme: str) -> None:
    """Neither where it belongs nor among the options."""
    text = shown(f"{scheme}://me:hunter2@host:5/bot?sslpassword=hunter3&sslmode=require")

    assert text == "postgresql+psycopg://me:***@host:5/bot?sslmode=require"


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("postgresql://bot:hunter2@db/bot", True),
        ("postgresql://bot@db/bot?password=hunter2", True),
        ("postgresql://bot@db/bot", False),
        ("bot.db", False),
    ],
)
def test_a_password_that_was_typed_is_warned_of(url: str, warns: bool) -> None:
    """Whoever is on the machine can read it; what to do instead is in the words."""
    words = database.exposed(url)

    assert ("~/.pgpass" in words, "hunter2" in words) == (warns, False)


def test_what_a_server_says_is_repeated_without_a_password() -> None:
    """A driver may put what it was given into its words."""
    words = words_of(OSError("no route for hunter2\nat all"), "postgresql://me:hunter2@host/bot")

    assert words == (
        "expected a database in postgresql+psycopg://me:***@host/bot, got no route for *** at all"
    )


@pytest.mark.parametrize(
    ("reported", "got"),
    [
        ("attempt to write a readonly database", "one that is read-only"),
        ("cannot execute INSERT in a read-only transaction", "one that is read-only"),
        ("database or disk is full", "no space left on its disk"),
        ("unable to open database file", "none that can be opened"),
        ("disk I/O error", "a disk that fails to read or write"),
        (
            "database disk image is malformed",
            "a damaged database (bot restore brings a backup back)",
        ),
        ("", "OperationalError"),
    ],
)
def test_what_a_database_reports_is_put_in_plain_words(reported: str, got: str) -> None:
    """Whoever reads it knows what to do."""
    words = words_of(sqlite3.OperationalError(reported), "/x/bot.db")

    assert words == f"expected a database in /x/bot.db, got {got}"


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is what brings it."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)

    with pytest.raises(DatabaseError, match=r"no module psycopg: install bot\[postgres\]$"):
        engine_of("postgresql://me@host/bot")


def test_a_file_that_is_no_database_stays_as_it_is(
    tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    """Nothing is written to it."""
    path = tmp_path / "notes.txt"
    path.write_text("buy low, sell high " * 99)

    with pytest.raises(DatabaseError, match=r"notes\.txt, got a file that is no database$"):
        upgrade(opened(str(path)))
    assert path.read_text() == "buy low, sell high " * 99


def test_a_database_of_another_program_is_refused(
    tmp_path: Path, opened: Callable[[str], Engine]
) -> None:
    """Its tables are named."""
    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE cookies (id)")
    other.close()

    with pytest.raises(DatabaseError, match=r"got one of another program, with cookies$"):
        upgrade(opened(str(tmp_path / "a.db")))


def test_a_database_of_a_newer_version_is_refused(
    url: str, opened: Callable[[str], Engine]
) -> None:
    """An older bot does not write what a newer one reads."""
    engine = opened(url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(database.version.update().values(version_num="0999"))

    with pytest.raises(DatabaseError, match=r"got 0999: a newer bot made it$"):
        upgrade(engine)


def test_a_database_that_another_program_has_locked_is_named(tmp_path: Path) -> None:
    """It is waited for, and then refused."""
    path = tmp_path / "bot.db"
    other, engine = sqlite3.connect(path), engine_of(str(path), patience_s=0.01)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(DatabaseError, match=r"bot\.db, got one that another program has locked$"):
        upgrade(engine)
    engine.dispose()
    other.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where it would be."""
    (tmp_path / "x").write_text("")

    with pytest.raises(DatabaseError, match=r"x/bot\.db, got not a directory$"):
        engine_of(str(tmp_path / "x" / "bot.db"))


def test_two_that_upgrade_at_a_time_make_one_database(url: str) -> None:
    """One waits for the other."""
    from concurrent.futures import ThreadPoolExecutor

    def start(_: int) -> str:
        engine = engine_of(url)
        try:
            return upgrade(engine)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == ["", *[REVISIONS[-1]] * 3]


def test_the_migrations_are_in_the_package() -> None:
    """Whoever installs the wheel has them."""
    directory = Path(database.__file__).with_name("migrations")

    versions = sorted(path.name[:5] for path in (directory / "versions").glob("r*.py"))
    assert versions == [f"r{revision}" for revision in REVISIONS]
