"""The audit's scenarios of what outlives a run: the database, and the account that goes on.

Stage ─► Database, beside the run ─► a file of SQLite ─► read again ─► STORED ─► bot.audit.command
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dydx_conn import Inbox
from sqlalchemy import Connection, Table, func, select

from bot.audit.scenarios import Evidence, Group, above
from bot.audit.stage import BTC, ETH, Stage, usdc
from bot.database.remains import left_of
from bot.database.rows import Database, config_of, run_row
from bot.database.tables import engine_of, equity_points, errors, fills, orders, runs
from bot.run.beside import Beside, begun, noting
from bot.run.resume import Carrying

STORED: Final = Group("What is stored")
_CHAIN: Final = "audit"


@STORED.shows(
    "orders, fills, profit, errors",
    "each is in the database when the run ends, with sums that are the account's to the quantum",
    "bot/writer::an_order_is_what_became_of_it_last",
    "bot/writer::rows_wait_in_a_file_while_a_database_is_locked",
    "bot/profits::profit_is_summed_by_day",
)
def _stored() -> Iterator[Evidence]:
    with tempfile.TemporaryDirectory(prefix="bot-audit-") as folder:
        url = f"sqlite:///{Path(folder) / 'audit.db'}"
        stage, trouble = _written(url)
        engine = engine_of(url)
        try:
            with engine.connect() as connection:
                yield from _read(connection, stage)
        finally:
            engine.dispose()
        yield Evidence("what could not be written", "", trouble)


@STORED.shows(
    "the account goes on",
    "the next run begins with what the last one left: money, positions, standing orders",
    "bot/resume::a_run_goes_on_to_the_quantum_where_another_was_killed",
    "bot/resume::no_order_goes_out_twice_and_no_fill_is_counted_twice",
    "paper/saved::a_venue_that_stopped_between_orders_ends_as_one_that_did_not",
)
def _goes_on() -> Iterator[Evidence]:
    with tempfile.TemporaryDirectory(prefix="bot-audit-") as folder:
        url = f"sqlite:///{Path(folder) / 'audit.db'}"
        stage, _ = _written(url)
        left = left_of(url, _CHAIN, stage.venue.subaccount, paper=True)
    if left is None:
        raise LookupError("expected what the run left, got nothing")
    again = Stage(left=left)
    yield Evidence("equity", usdc(stage.money.equity or 0), usdc(again.money.equity or 0))
    yield Evidence(
        "realized so far", usdc(stage.money.realized_pnl), usdc(again.money.realized_pnl)
    )
    yield Evidence("held", _held(stage), _held(again))
    newer = again.order("BUY", "0.1", "50100").client_id
    used = [order.client_id for order in stage.venue.state.ledger.orders]
    yield Evidence("its next client id is one that was used", False, newer in used)


def _held(stage: Stage) -> list[str]:
    ledger = stage.venue.ledger
    return [
        f"{ticker} {holding.market.size(holding.quantums).normalize():+f}"
        for ticker, holding in sorted(ledger.holdings.items())
    ]


def _written(url: str) -> tuple[Stage, str]:
    """Let a run be written down: two trades in parts, an order that fails, an error, a decision."""
    stage = Stage()
    named = {"mode": "paper", "network": "local", "chain_id": _CHAIN, "name": "audit"}
    row = run_row(stage.bot, config=config_of(stage.bot), recording="", **named)
    database = Database(stage.bot, url, row)
    carrying = Carrying(stage.venue, stage.bot.risk, database.writer.put)
    stage.bot.journal.listeners.append(carrying.hear)
    beside: list[Beside] = [database, carrying]
    stage.note = noting(beside)
    with begun(beside, Inbox()):
        stage.trade("BUY", "2", "50100")
        stage.trade("SELL", "0.5", "49000")
        stage.trade("BUY", "1", "40000")
        stage.refuse("/v4/orders", 429, "Too many requests")
        stage.want(ETH, 5_000.0)
        stage.touch(ETH)
        stage.block()
    return stage, database.trouble


def _read(connection: Connection, stage: Stage) -> Iterator[Evidence]:
    stored = connection.execute(select(fills)).mappings().all()
    yield Evidence("fills of the run, and in the database", len(stage.fills()), len(stored))
    money, paid = stage.money, sum(row["fee"] for row in stored)
    yield Evidence("fees", usdc(money.fees_paid), usdc(paid))
    statuses = [status for (status,) in connection.execute(select(orders.c.status))]
    yield Evidence("orders that are filled, and not", (3, 1), _counted(statuses))
    yield Evidence("errors of REST", above(0), _count(connection, errors))
    newest = select(equity_points.c.equity).order_by(equity_points.c.at.desc()).limit(1)
    equity = connection.execute(newest).scalar()
    yield Evidence("equity", usdc(money.equity or 0), usdc(equity or 0))
    state, run_hash = connection.execute(select(runs.c.state, runs.c.run_hash)).one()
    yield Evidence("the run", "ended", state)
    yield Evidence("its hash", stage.bot.journal.hash[:16], str(run_hash)[:16])
    wanted = select(func.count()).select_from(fills).where(fills.c.ticker == BTC)
    yield Evidence("fills of BTC-USD by a query", 3, connection.execute(wanted).scalar())


def _counted(statuses: list[Any]) -> tuple[int, int]:
    filled = sum(status == "FILLED" for status in statuses)
    return filled, len(statuses) - filled


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar() or 0
