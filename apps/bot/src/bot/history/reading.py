"""A database as it is read: read-only, as it stood at one moment, while a bot may write it.

--database, the configuration, or the user's own ──► reading ──► a connection, or plain words
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, RowMapping, select

from bot.database.tables import (
    REVISIONS,
    DatabaseError,
    default_url,
    engine_of,
    explained,
    exposed,
    file_of,
    revision_of,
    runs,
    shown,
    url_of,
)
from bot.history.when import TypedError, chosen

# What to do about a database that has nothing in it.
FIRST: Final = "bot paper --network testnet makes the first run, without a key"


class NothingYetError(DatabaseError):
    """No bot has written anything there."""


def chosen_url(arguments: argparse.Namespace) -> str:
    """Return the URL of the database: as typed, as configured, or the user's own file."""
    if arguments.database:
        if words := exposed(arguments.database):
            print(f"bot: warning: {words}", file=sys.stderr)
        return str(arguments.database)
    from bot.config.place import is_configured

    if not is_configured(arguments.config):
        return default_url()  # the tree of all settings takes longer than the look
    from bot.config.configured import opened_of

    # Of what was typed only the file of settings is one: a network here is a filter.
    settings = opened_of(argparse.Namespace(config=arguments.config)).settings
    url = settings.database.url.get_secret_value()
    if url == "none":
        raise DatabaseError("expected a database, got none as configured: --database names one")
    return url or default_url()


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Open a database to read it, at one moment; `DatabaseError` says why it cannot be."""
    found = url_of(url)
    path = file_of(found)
    if path is not None and not path.exists():
        raise NothingYetError(f"expected a database in {path}, got no file: {FIRST}")
    if path is not None and path.is_dir():
        raise DatabaseError(f"expected a database in {path}, got a directory")
    with explained(found):
        engine = engine_of(found) if path is None else _of_file(found)
        try:
            with engine.connect() as connection:
                if path is None:
                    begun = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
                    connection.exec_driver_sql(begun)
                _require_version(connection, found)
                yield connection
        finally:
            engine.dispose()


def _of_file(url: URL) -> Engine:
    name = f"file:{quote(url.database or '')}?mode=ro&uri=true"
    engine = sqlalchemy.create_engine(
        f"sqlite:///{name}",
        json_deserializer=msgspec.json.decode,
        hide_parameters=True,
        # A bot that has just been killed may leave a log to be read first.
        connect_args={"timeout": 5.0},
    )

    @sqlalchemy.event.listens_for(engine, "connect")
    def _(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA query_only = ON")

    @sqlalchemy.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _require_version(connection: Connection, url: URL) -> None:
    found = revision_of(connection)
    if not found:
        raise NothingYetError(f"expected runs in {shown(url)}, got an empty database: {FIRST}")
    if found != REVISIONS[-1]:
        what = f"expected version {REVISIONS[-1]} of the database in {shown(url)}, got {found}"
        raise DatabaseError(f"{what}: the next bot paper or bot trade upgrades it")


# === Runs ===
# Which runs are meant by a number, a network or an account.


def accounts_of(connection: Connection) -> dict[str, Sequence[str]]:
    """Return the networks, chains and accounts that there are runs of."""
    found = connection.execute(
        select(runs.c.network, runs.c.chain_id, runs.c.account).distinct()
    ).all()
    return {
        name: sorted({str(row[index]) for row in found})
        for index, name in enumerate(("network", "chain_id", "account"))
    }


def chain_ids_of(connection: Connection, network: str) -> tuple[str, ...]:
    """Return the chains of a network, which may be typed as its chain's id, too."""
    known = accounts_of(connection)
    name = chosen("a network", network, [*known["network"], *known["chain_id"]])
    found = select(runs.c.chain_id).where((runs.c.network == name) | (runs.c.chain_id == name))
    return tuple(sorted(set(connection.execute(found).scalars())))


def account_of(connection: Connection, account: str) -> str:
    """Return an account by its name, or by the beginning of it if no other begins so."""
    known = accounts_of(connection)["account"]
    begun = [name for name in known if account and name.startswith(account)]
    return begun[0] if len(begun) == 1 else chosen("an account", account, known)


def empty_words(connection: Connection) -> str:
    """Put in words why there is nothing to show, where nothing was left out."""
    count = connection.scalar(select(sqlalchemy.func.count()).select_from(runs)) or 0
    return FIRST if not count else f"runs so far: {count}, and none of them has any"


def require_run(connection: Connection, number: int) -> RowMapping:
    """Return a run by its number."""
    found = connection.execute(select(runs).where(runs.c.id == number)).mappings().first()
    if found is None:
        low, high = connection.execute(
            select(sqlalchemy.func.min(runs.c.id), sqlalchemy.func.max(runs.c.id))
        ).one()
        got = f"got {number}"
        raise TypedError(f"expected a run from {low} to {high}, {got}")
    return found


# === Values ===


def usdc(quantums: int | None) -> str | None:
    """Show money for a program: USDC as an exact decimal, None for what is not known."""
    return None if quantums is None else f"{Decimal(quantums).scaleb(-6):f}"


def money(quantums: int | None, *, sign: bool = False) -> str:
    """Show money to a person: USDC to the cent, to the quantum where it is less; "?" if unknown."""
    if quantums is None:
        return "?"
    digits = 2 if quantums == 0 or abs(quantums) >= 10_000 else 6
    return format(Decimal(quantums).scaleb(-6), f"{'+' if sign else ''},.{digits}f")


def run_words(run: Mapping[Any, Any]) -> str:
    """Put in words which run it is."""
    return f"run {run['id']} ({run['mode']} on {run['network'] or run['chain_id']})"
