"""What the last run of an account left in the database, read before the next one begins.

    database, and what a run could not write to it ──► left_of ──► Left (bot.run.resume)
    what was typed ──► carried ──► Left, or none, and a line on stderr

Nothing of an account is no error; rows that are missing are counted, and what is after them is not
read: it would not fit.
"""

import argparse
import sys
import time
from typing import Any

from dydx_conn import ConnError, Network, Subaccount
from dydx_paper import Entry, LedgerError, VenueState, from_json, resumed
from dydx_risk import Memory
from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from bot.config.configured import loaded_of
from bot.database.rows import database_of
from bot.database.spill import spilled
from bot.database.store import absorb
from bot.database.tables import TABLES, engine_of, explained, upgrade, writing
from bot.run.resume import Left, Shared


def carried(
    arguments: argparse.Namespace, net: Network, account: Subaccount, paid_in: int = 0
) -> Left | None:
    """Return what the last run of an account left, and report it in a line; None to begin without.

    `paid_in` is what came since, as far as that is known: it is no profit, and no loss.
    A paper account whose money cannot be read does not begin: `ConnError`. With real orders the
    account is the chain's, and what risk remembered is warned about.
    """
    url, paper = database_of(arguments), arguments.command == "paper"
    if not url or (paper and arguments.fresh):
        return None
    try:
        left = left_of(url, net.chain_id, account, paper=paper)
    except ConnError as error:
        if paper:
            raise ConnError(f"{error}: --fresh begins a paper account without it") from None
        what = "loss, drawdown and rests are counted from now"
        print(f"bot: warning: {error}: {what}", file=sys.stderr)
        return None
    if left is not None:
        left = replace(left, paid_in=paid_in)
        print(f"bot: {account} {left.words(time.time_ns())}", file=sys.stderr)
        deposits, typed = left.deposits, loaded_of(arguments).settings.deposit
        if paper and typed is not None and typed * 10**6 != deposits:
            what = f"a deposit of {typed:,} USDC for an account that begins (--fresh)"
            print(f"bot: warning: expected {what}, got one that goes on", file=sys.stderr)
    return left


def left_of(url: str, chain_id: str, subaccount: Subaccount, *, paper: bool) -> Left | None:
    """Return what the last run of an account left, None if there is none.

    What it could not write is taken from its file first. `ConnError` says what is wrong.
    """
    engine = engine_of(url)
    try:
        upgrade(engine)
        with explained(url), spilled(url) as earlier:
            for left in earlier:
                absorb(writing(engine), left)
        with explained(url), engine.connect() as connection:
            return _read(connection, chain_id, str(subaccount), paper=paper)
    finally:
        engine.dispose()


def _read(connection: Connection, chain_id: str, account: str, *, paper: bool) -> Left | None:
    runs, checkpoints = TABLES["runs"], TABLES["checkpoints"]
    query = select(runs).where(runs.c.chain_id == chain_id, runs.c.account == account)
    query = query.where(runs.c.mode == ("paper" if paper else "trade"))
    for run in connection.execute(query.order_by(runs.c.id.desc())).mappings():
        of_run = select(checkpoints).where(checkpoints.c.run_id == run["id"])
        checkpoint = connection.execute(of_run).mappings().first()
        ended = run["ended"]
        left = Left(run=run["id"], ledger=run["ledger"], at=0, ended=ended is not None)
        left = replace(left, until=ended or _last_sign(connection, run["id"]))
        if paper:
            left = _venue(connection, left)
        if checkpoint is not None:
            memory = _decoded(checkpoint["data"], Memory)
            at, seq = max(left.at, checkpoint["at"]), max(left.seq, checkpoint["seq"])
            parts = _decoded(checkpoint["data"], Shared).parts
            left = replace(left, memory=memory, parts=parts, at=at, seq=left.seq if paper else seq)
        if (left.venue if paper else left.memory) is not None:
            return left
    return None  # or all were killed before they had begun


def _last_sign(connection: Connection, run: int) -> int:
    """Return when a run that was killed wrote down what it was worth last, 0 if never."""
    points = TABLES["equity_points"]
    return connection.scalar(select(func.max(points.c.at)).where(points.c.run_id == run)) or 0


def _venue(connection: Connection, left: Left) -> Left:
    """Return it with the state of the run's venue, and how many rows of that are missing."""
    table = TABLES["ledger_events"]
    of_run = select(table).where(table.c.run_id == left.run)
    began = of_run.where(table.c.kind == "state").order_by(table.c.n.desc()).limit(1)
    first = connection.execute(began).mappings().first()
    if first is None:
        return left
    later = of_run.where(table.c.n > first["n"]).order_by(table.c.n)
    rows = connection.execute(later).mappings().all()
    whole = [row for n, row in enumerate(rows, first["n"] + 1) if row["n"] == n]  # up to a gap
    state = _decoded(first["data"], VenueState)
    venue = resumed(state, (_decoded(row["data"], Entry) for row in whole))
    last = (whole or [first])[-1]
    return replace(left, venue=venue, at=last["at"], seq=last["seq"], lost=len(rows) - len(whole))


def _decoded(text: Any, kind: type[Any]) -> Any:
    try:
        return from_json(str(text), kind)
    except LedgerError as error:
        raise ConnError(f"expected what a run left in the database, got: {error}") from None
