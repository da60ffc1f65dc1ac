"""What the database has of the account that is served, over all its runs.

    Served.database ──► bot.history.reading: read-only, at one moment ──► pages and rows

All here waits for a disk, and is called by `aside` (serve/served.py), on a thread of its own.
"""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select

from bot.database.tables import fills, orders
from bot.history.orders import Detail, detail_of
from bot.history.pages import Page, Wanted
from bot.history.reading import NothingYetError, reading

T = TypeVar("T")
P = ParamSpec("P")


def looked_up(
    url: str, look: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return what is found in a database; None where there is none yet."""
    try:
        with reading(url) as connection:
            return look(connection, *args, **kwargs)
    except NothingYetError:
        return None


def order_detail(connection: Connection, wanted: Wanted, order_id: str) -> Detail | None:
    """Return all about an order, by the venue's id; None if it is not there."""
    found = select(orders).where(orders.c.order_id == order_id, *_of(orders, wanted))
    newest = found.order_by(orders.c.updated.desc()).limit(1)
    row = connection.execute(newest).mappings().first()
    return None if row is None else detail_of(connection, row)


def fills_page(connection: Connection, wanted: Wanted, number: int, limit: int) -> Page:
    """Return a page of fills, the newest first."""
    terms = _of(fills, wanted)
    terms += [fills.c.ticker.in_(wanted.tickers)] if wanted.tickers else []
    terms += [] if wanted.since is None else [fills.c.at >= wanted.since]
    terms += [] if wanted.until is None else [fills.c.at < wanted.until]
    first = (number - 1) * limit
    page = select(fills).where(*terms).order_by(fills.c.at.desc(), fills.c.fill_id.desc())
    rows = connection.execute(page.limit(limit).offset(first)).mappings().all()
    total = connection.scalar(select(func.count()).select_from(fills).where(*terms)) or 0
    return Page(rows=tuple(rows), first=first, total=total)


def _of(table: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    return [table.c.chain_id.in_(wanted.chain_ids), table.c.account.in_(wanted.accounts)]
