"""Where what a run did outlives it: the tables, and how a database of them is opened and upgraded.

    URL ──► engine_of ──► upgrade ──► a database of this version ──► writer, bot.history

SQLite in the user's data directory by default, PostgreSQL by URL. Money is in quote quantums,
sizes and prices are the decimals of the venue as text, times nanoseconds UTC. A new database is
made from the tables at once; one of an earlier version is upgraded by Alembic, which takes half a
second to load and is loaded for nothing else.
"""

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import sqlalchemy
from dydx_conn import ConnError, printable, redact
from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from bot.database import counting, summing
from bot.run.acts import default_database, private


class DatabaseError(ConnError):
    """A database that cannot be used; no password is in its words."""


# === Tables ===
# An account is "owner/number" on a chain. A paper account is as good as its run: `ledger` is the
# first run of it, so that two of them never share an order; it is 0 for the chain's own accounts.

metadata = MetaData()


def _run(**how: Any) -> Column[Any]:
    return Column("run_id", Integer, ForeignKey("runs.id"), nullable=False, **how)


def _numbered() -> list[Column[Any]]:
    # Rows without a name of their own are counted within their run: none is written twice.
    return [_run(primary_key=True), Column("n", Integer, primary_key=True, autoincrement=False)]


def _account(*, key: bool = True) -> list[Column[Any]]:
    return [
        Column("chain_id", Text, primary_key=key, nullable=False),
        Column("account", Text, primary_key=key, nullable=False),
        Column("ledger", Integer, primary_key=key, nullable=False, autoincrement=False),
    ]


def _json(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True))


def _at(name: str = "at") -> Column[Any]:
    return Column(name, BigInteger, nullable=False)


def _text(*names: str) -> list[Column[Any]]:
    return [Column(name, Text, nullable=False, server_default="") for name in names]


def _money(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger) for name in names]


runs = Table(
    "runs", metadata,
    Column("id", Integer, primary_key=True),
    Column("ledger", Integer, nullable=False, server_default="0"),
    *_text("mode", "network", "chain_id", "account", "name"),
    _at("began"), Column("ended", BigInteger),
    *_text("state", "version"),
    _json("config"), *_text("config_hash"), Column("run_hash", Text),
    *_money("deposit"), *_text("recording", "process"),
    UniqueConstraint("began", "chain_id", "account", "process"),
)  # fmt: skip
decisions = Table(
    "decisions", metadata,
    _run(primary_key=True), Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False), _at(),
    *_text("ticker", "action"), Column("target_usdc", Float), Column("previous_usdc", Float),
    *_text("words"), _json("data"),
)  # fmt: skip
verdicts = Table(
    "verdicts", metadata,
    _run(primary_key=True), Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False), _at(),
    *_text("ticker", "kind", "decision_id", "reason", "words"), _json("data"),
)  # fmt: skip
orders = Table(
    "orders", metadata,
    *_account(), Column("order_id", Text, primary_key=True), _run(),
    *_text("id", "client_id", "ticker", "side", "type", "size", "price", "filled", "status"),
    *_text("reason"), _at("created"), _at("updated"), *_text("verdict_id", "words"), _json("data"),
)  # fmt: skip
order_changes = Table(
    "order_changes", metadata,
    *_numbered(), *_account(key=False), Column("order_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False), _at(), *_text("status", "filled", "reason"),
)  # fmt: skip
fills = Table(
    "fills", metadata,
    *_account(), Column("fill_id", Text, primary_key=True), _run(),
    *_text("id", "order_id"), Column("seq", BigInteger, nullable=False), _at(),
    *_text("ticker", "side", "size", "price"), *_money("quote", "fee"),
    *_text("liquidity", "type", "words"),
)  # fmt: skip
positions = Table(
    "positions", metadata,
    *_account(), Column("position_id", Text, primary_key=True), _run(),
    *_text("ticker", "side", "status", "size", "max_size", "entry_price", "exit_price"),
    *_money("realized", "unrealized", "funding", "fees"),
    _at("opened"), Column("closed", BigInteger), _at("updated"),
)  # fmt: skip
transfers = Table(
    "transfers", metadata,
    *_account(), Column("transfer_id", Text, primary_key=True), _run(), _at(),
    *_text("type"), *_money("quote"), *_text("other"),
)  # fmt: skip
funding_payments = Table(
    "funding_payments", metadata,
    *_account(), Column("ticker", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False), _run(),
    *_text("size"), Column("rate", Text), *_money("quote"),
)  # fmt: skip
equity_points = Table(
    "equity_points", metadata,
    _run(primary_key=True), Column("at", BigInteger, primary_key=True, autoincrement=False),
    *_money("equity", "free"), Column("distance", Float), Column("leverage", Float),
    Column("drawdown", Float),
)  # fmt: skip
errors = Table(
    "errors", metadata,
    _run(primary_key=True), Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("class", Text, primary_key=True), Column("endpoint", Text, primary_key=True),
    Column("count", Integer, nullable=False), *_text("sample"),
)  # fmt: skip
states = Table(
    "states", metadata,
    *_numbered(), Column("seq", BigInteger, nullable=False),
    _at(), *_text("what", "was", "state", "words"),
)  # fmt: skip
configs = Table(
    "configs", metadata,
    *_numbered(), _at(), *_text("who"),
    Column("accepted", Boolean, nullable=False), _json("changes"), *_text("words"),
)  # fmt: skip
ledger_events = Table(
    "ledger_events", metadata,
    *_numbered(), Column("seq", BigInteger, nullable=False), _at(), *_text("kind"), _json("data"),
)  # fmt: skip
checkpoints = Table(
    "checkpoints", metadata,
    _run(primary_key=True), Column("seq", BigInteger, nullable=False), _at(), _json("data"),
)  # fmt: skip
# What variants of settings came to on recordings (bot.sweep); by the hashes of all that decides.
sweep_results = Table(
    "sweep_results", metadata,
    Column("recording", Text, primary_key=True), Column("span", Text, primary_key=True),
    Column("config_hash", Text, primary_key=True), Column("code", Text, primary_key=True),
    _at(), *_text("grid", "name", "run_hash", "fidelity", "failure"),
    Column("profit", Float), Column("trades", Integer, nullable=False),
    _json("changes"), _json("figures"),
)  # fmt: skip

# How many orders there are, by blocks of time: counted by `counting`, read by bot.history.pages.
order_blocks = Table(
    "order_blocks", metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("n", Integer, nullable=False),
)  # fmt: skip
order_counts = Table(
    "order_counts", metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("ticker", Text, primary_key=True), Column("status", Text, primary_key=True),
    Column("n", Integer, nullable=False),
    sqlite_with_rowid=False,
)  # fmt: skip
# The same over all runs of an account: summed by `summing`.
order_sums = Table(
    "order_sums", metadata,
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True)
      for name in ("chain_id", "account", "ticker", "status")),
    Column("n", Integer, nullable=False),
    sqlite_with_rowid=False,
)  # fmt: skip

TABLES: Final[dict[str, Table]] = dict(metadata.tables)

# What is looked for: newest first, alone and by what narrows it down.
_INDICES: Final = (
    (orders, ("created", "run_id", "ticker", "status")),
    (orders, ("run_id", "ticker", "status", "created")),
    (orders, ("run_id", "id")),
    (order_changes, ("order_id", "at")),
    (fills, ("order_id",)),
    (fills, ("at", "fill_id")),
    (fills, ("run_id", "at")),
    (fills, ("chain_id", "account", "ledger", "ticker", "at")),
    (positions, ("status", "opened")),
    (positions, ("ticker", "opened")),
    (positions, ("run_id",)),
    (transfers, ("at",)),
    (funding_payments, ("at",)),
    (errors, ("minute",)),
    (runs, ("chain_id", "account", "began")),
    # Each has the count itself: none of them is looked up in two places.
    (order_counts, ("ticker", "status", "since", "run_id", "n")),
    (order_counts, ("run_id", "since", "ticker", "status", "n")),
)
for _table, _columns in _INDICES:
    Index(f"ix_{_table.name}_{'_'.join(_columns)}", *(_table.c[name] for name in _columns))

# === Opening ===
# An engine by URL; a file and its directory are made, and only we can read them.

_PATIENCE_S: Final = 5.0
_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SECRETS: Final[tuple[str, ...]] = ("password", "sslpassword", "passfile")


def default_url() -> str:
    """Return the database of whoever chose none: a file in the user's data directory."""
    return f"sqlite:///{default_database()}"


def url_of(text: str) -> URL:
    """Read a URL, or the path of a file; `DatabaseError` for what is neither."""
    expected = "expected a file, sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    if not text.strip():
        raise DatabaseError(f"{expected}, got nothing")
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise DatabaseError(f"{expected}, got what is no URL") from None
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise DatabaseError(f"{expected}, got {url.drivername}")
    if url.database in (None, "", ":memory:"):
        raise DatabaseError(f"{expected}, got a database in memory, which outlives nothing")
    return URL.create("sqlite", database=str(Path(url.database or "").absolute()))


def shown(url: str | URL) -> str:
    """Return what may be printed of a URL: all but its secrets; of a file its path."""
    found = url_of(url) if isinstance(url, str) else url
    if (path := file_of(found)) is not None:
        return str(path)
    return found.difference_update_query(_SECRETS).render_as_string(hide_password=True)


def file_of(url: str | URL) -> Path | None:
    """Return the file of a database, None if it is a server's."""
    found = url_of(url) if isinstance(url, str) else url
    return Path(found.database or "") if found.get_backend_name() == "sqlite" else None


def engine_of(url: str | URL, *, patience_s: float = _PATIENCE_S) -> Engine:
    """Return an engine, unconnected; what is wrong with a file or a driver is a `DatabaseError`.

    `patience_s` is how long it waits for a lock that somebody else holds.
    """
    found = url_of(url) if isinstance(url, str) else url
    how: dict[str, Any] = {
        "json_serializer": _json_text, "json_deserializer": msgspec.json.decode,
        # Parameters are what a run did; an error that reaches a person shows none.
        "hide_parameters": True,
    }  # fmt: skip
    if (path := file_of(found)) is not None:
        _make(path)
        engine = sqlalchemy.create_engine(
            found, connect_args={"timeout": patience_s, "check_same_thread": False}, **how
        )
        sqlalchemy.event.listen(engine, "connect", _begin_connection)
        sqlalchemy.event.listen(engine, "begin", _begin_transaction)
        return engine
    try:
        return sqlalchemy.create_engine(
            found, pool_pre_ping=True,
            connect_args={
                "connect_timeout": max(2, round(patience_s)),
                "tcp_user_timeout": 10_000,  # ms; a server that is cut off answers nothing
                "options": f"-c lock_timeout={round(patience_s * 1_000)}",
                "application_name": "dydx-bot",
            }, **how,
        )  # fmt: skip
    except ModuleNotFoundError as error:
        what = f"expected the driver of {shown(found)}, got no module {error.name}"
        raise DatabaseError(f"{what}: install bot[postgres]") from None


def require(url: str) -> None:
    """Refuse what names no database, and a server without its driver; nothing is opened."""
    found = url_of(url)
    if file_of(found) is None:
        engine_of(found).dispose()


def exposed(url: str) -> str:
    """Return what to warn of where a URL that was typed has a password in it, "" if it has none."""
    found = url_of(url)
    if found.password is None and not {*found.query} & {*_SECRETS}:
        return ""
    what = "expected no password in --database, where ps shows it to all users here, got one"
    return f"{what}: DYDX__DATABASE__URL or ~/.pgpass hides it"


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _make(path: Path) -> None:
    if path.is_dir():
        raise DatabaseError(f"expected a database in {path}, got a directory")
    try:
        if path == default_database() or not path.parent.exists():
            private(path.parent)
        # What SQLite makes beside it has the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except PermissionError:
        if not os.access(path, os.R_OK):
            raise DatabaseError(f"expected to open the database {path}, got no access") from None
    except OSError as error:
        what = error.strerror or str(error)
        raise DatabaseError(f"expected to open the database {path}, got {what.lower()}") from None


def _begin_connection(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, DDL as well
    for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    with contextlib.suppress(sqlite3.OperationalError):  # read-only: as it is
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_transaction(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def writing(engine: Engine) -> Engine:
    """Return the engine for whoever writes: a transaction has the lock from its first word."""
    return engine.execution_options(writes=True)


# === Words ===
# What goes wrong with a database, in plain words.

_WORDS: Final = (
    ("file is not a database", "a file that is no database"),
    ("malformed", "a damaged database (bot restore brings a backup back)"),
    ("locked", "one that another program has locked"),
    ("readonly", "one that is read-only"),
    ("read-only", "one that is read-only"),
    ("disk is full", "no space left on its disk"),
    ("unable to open", "none that can be opened"),
    ("disk I/O error", "a disk that fails to read or write"),
)


def words_of(error: BaseException, url: str | URL) -> str:
    """Put in one line what is wrong with a database; no password is in it."""
    if isinstance(error, DatabaseError):
        return str(error)
    found = url_of(url) if isinstance(url, str) else url
    text = str(getattr(error, "orig", None) or error)
    got = next((words for part, words in _WORDS if part in text), "")
    if not got:
        if found.password:
            text = text.replace(str(found.password), "***")
        got = redact(printable(" ".join(text.split())))[:200] or type(error).__name__
    return f"expected a database in {shown(found)}, got {got}"


@contextlib.contextmanager
def explained(url: str | URL) -> Iterator[None]:
    """Turn what a database raises into a `DatabaseError` in plain words.

    An `OSError` is of somebody else: of a file of rows, or of a reader that has gone.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise DatabaseError(words_of(error, url)) from None


# === Upgrade ===
# From nothing, or from any earlier version, to this one.

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
_LOCK: Final = 0x64594458  # of PostgreSQL: who upgrades, one at a time

version = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))


def upgrade(engine: Engine, to: str = REVISIONS[-1]) -> str:
    """Bring a database to this version; return the one that it was of, "" if it was new.

    `DatabaseError` for one of a newer version, for one of another program, and for what is none.
    """
    with explained(engine.url), writing(engine).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))
        was = revision_of(connection)
        if was == "" and to == REVISIONS[-1]:
            metadata.create_all(connection)
            for made in (counting, summing):
                for statement in (*made.FILL, *made.TRIGGERS[connection.dialect.name]):
                    connection.exec_driver_sql(statement)
            version.metadata.create_all(connection)
            connection.execute(version.insert().values(version_num=to))
        elif was != to:
            _migrate(connection, to)
        return was


def revision_of(connection: Connection) -> str:
    """Return the version of a database, "" if it is new; `DatabaseError` if it is not ours."""
    names = sqlalchemy.inspect(connection).get_table_names()
    where = shown(connection.engine.url)
    if version.name not in names:
        if others := sorted(names):
            what = f"one of another program, with {', '.join(others[:5])}"
            raise DatabaseError(f"expected a database of this bot in {where}, got {what}")
        return ""
    found = str(connection.execute(sqlalchemy.select(version.c.version_num)).scalar() or "")
    if found not in ("", *REVISIONS):
        _refuse(where, found)
    return found


def _refuse(where: str, found: str) -> NoReturn:
    what = f"expected version {REVISIONS[-1]} or an earlier one of the database in {where}"
    raise DatabaseError(f"{what}, got {printable(found)[:40]}: a newer bot made it")


def _migrate(connection: Connection, to: str) -> None:
    import alembic.command

    config = alembic_config()
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, to)


@functools.cache
def alembic_config() -> Any:
    """Return where Alembic finds the migrations: in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config
