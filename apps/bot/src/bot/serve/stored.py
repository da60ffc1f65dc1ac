"""What the database has of the account that is served, over all its runs.

    Served.database ──► bot.history.reading: read-only, at one moment ──► pages and rows

All here waits for a disk, and is called by `aside` (serve/served.py), on a thread of its own.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from bot.database.tables import fills, orders
from bot.history.orders import Detail, detail_of
from bot.history.pages import Page, Wanted, page_of
from bot.history.reading import NothingYetError, reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which rows: of this account on this chain, of these tickers and statuses, in this time."""

    account: str
    chain_id: str
    tickers: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None


def orders_page(url: str, choice: Choice, number: int, limit: int) -> Page | None:
    """Return a page of orders, the newest first; None where there is no database yet."""
    wanted = Wanted(
        chain_ids=(choice.chain_id,), accounts=(choice.account,), tickers=choice.tickers,
        statuses=choice.statuses, since=choice.since, until=choice.until,
    )  # fmt: skip
    try:
        with reading(url) as connection:
            return page_of(connection, wanted, number, limit)
    except NothingYetError:
        return None


def order_detail(url: str, choice: Choice, order_id: str) -> Detail | None:
    """Return all about an order, by the venue's id; None if it is not there."""
    try:
        with reading(url) as connection:
            found = select(orders).where(orders.c.order_id == order_id, *_of(orders, choice))
            newest = found.order_by(orders.c.updated.desc()).limit(1)
            row = connection.execute(newest).mappings().first()
            return None if row is None else detail_of(connection, row)
    except NothingYetError:
        return None


def fills_page(url: str, choice: Choice, number: int, limit: int) -> Page | None:
    """Return a page of fills, the newest first; None where there is no database yet."""
    try:
        with reading(url) as connection:
            return _fills(connection, choice, number, limit)
    except NothingYetError:
        return None


def _fills(connection: Connection, choice: Choice, number: int, limit: int) -> Page:
    terms = _of(fills, choice)
    terms += [fills.c.ticker.in_(choice.tickers)] if choice.tickers else []
    terms += [] if choice.since is None else [fills.c.at >= choice.since]
    terms += [] if choice.until is None else [fills.c.at < choice.until]
    first = (number - 1) * limit
    page = select(fills).where(*terms).order_by(fills.c.at.desc(), fills.c.fill_id.desc())
    rows = connection.execute(page.limit(limit).offset(first)).mappings().all()
    total = connection.scalar(select(func.count()).select_from(fills).where(*terms)) or 0
    return Page(rows=tuple(rows), first=first, total=total)


def _of(table: Any, choice: Choice) -> list[ColumnElement[bool]]:
    return [table.c.chain_id == choice.chain_id, table.c.account == choice.account]
