"""What a person reads of orders: a page of them, or all about one.

bot history ──► Wanted ──► bot.history.pages ──► a table, CSV or JSON
bot history O3 ──► its changes, its fills, the verdict and the decision that led to it
"""

import argparse
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, RowMapping, select, tuple_

from bot.database.tables import (
    decisions,
    fills,
    order_changes,
    order_counts,
    orders,
    runs,
    shown,
    verdicts,
)
from bot.history.listing import WIDTH, Column, Listing, as_csv, as_json, labelled, printed, table
from bot.history.pages import Page, Wanted, page_of
from bot.history.reading import (
    NothingYetError,
    account_of,
    chain_ids_of,
    chosen_url,
    empty_words,
    money,
    reading,
    require_run,
    run_words,
    usdc,
)
from bot.history.when import TypedError, chosen, span, span_words
from bot.outlet import as_lines
from bot.times import iso, utc

Row = Mapping[Any, Any]  # of the database, or made as one

# What an order may be (dydx_conn, Lifecycle); that none is so yet is no mistake.
STATUSES: Final = (
    "PENDING", "OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "UNRESOLVED",
    "LEFT",
)  # fmt: skip

FIELDS: Final = (
    "id", "run", "chain_id", "account", "order_id", "client_id", "created", "updated", "ticker",
    "side", "type", "size", "price", "filled", "status", "reason", "verdict", "words",
)  # fmt: skip


def history(arguments: argparse.Namespace) -> int:
    """Print a page of orders, or all about one."""
    url = chosen_url(arguments)
    try:
        with reading(url) as connection:
            if arguments.order:
                return _one(connection, arguments)
            return printed(arguments, _page(connection, arguments, shown(url)))
    except NothingYetError as error:
        since, until = span(arguments.since, arguments.until, time.time_ns())
        about = about_page(arguments, 0, since, until)
        return nothing_yet(arguments, error, Listing(
            schema="bot.history/1", fields=FIELDS, rows=(), lines=(), about=about,
        ))  # fmt: skip


def nothing_yet(arguments: argparse.Namespace, error: Exception, empty: Listing) -> int:
    """Print that there is nothing yet; a database that was typed is expected to be there."""
    if arguments.database:
        raise error
    words = textwrap.wrap(f"nothing yet: {error}", WIDTH, break_on_hyphens=False)
    return printed(arguments, replace(empty, lines=words))


def about_page(
    arguments: argparse.Namespace, total: int, since: int | None, until: int | None
) -> dict[str, Any]:
    """Return what a program gets of a page beside its rows; no rows at all are one page."""
    return {
        "page": arguments.page, "pages": max(1, -(-total // arguments.limit)), "total": total,
        "since": iso(since), "until": iso(until),
    }  # fmt: skip


# === A page ===
# Which orders, and how they are listed.


def _page(connection: Connection, arguments: argparse.Namespace, where: str) -> Listing:
    wanted = wanted_of(connection, arguments)
    page = page_of(connection, wanted, arguments.page, arguments.limit)
    about = about_page(arguments, page.total, wanted.since, wanted.until)
    if not page.rows and page.total:
        raise TypedError(f"expected a page from 1 to {about['pages']}, got {arguments.page}")
    lines = _lines(page, wanted, arguments, where, empty_words(connection))
    rows = [order_fields(row) for row in page.rows]
    return Listing(schema="bot.history/1", fields=FIELDS, rows=rows, lines=[*lines], about=about)


def wanted_of(connection: Connection, arguments: argparse.Namespace) -> Wanted:
    """Read which orders are wanted; a name that no order has is refused."""
    since, until = span(arguments.since, arguments.until, time.time_ns())
    if arguments.run is not None:
        require_run(connection, arguments.run)
    network, account = arguments.network, arguments.account
    return Wanted(
        runs=() if arguments.run is None else (arguments.run,),
        chain_ids=() if network is None else chain_ids_of(connection, network),
        accounts=() if account is None else (account_of(connection, account),),
        tickers=_names(connection, "ticker", arguments.ticker),
        statuses=_names(connection, "status", arguments.status),
        since=since,
        until=until,
    )


def _names(connection: Connection, what: str, typed: str | None) -> tuple[str, ...]:
    if typed is None:
        return ()
    found = connection.execute(select(order_counts.c[what]).distinct()).scalars()
    known = {*found, *(STATUSES if what == "status" else ())}
    return tuple(chosen(f"a {what}", part, known) for part in typed.split(","))


def order_fields(row: Row) -> dict[str, Any]:
    """Return what a program gets of an order."""
    named = {"run": row["run_id"], "verdict": row["verdict_id"]}
    times = {name: iso(row[name]) for name in ("created", "updated")}
    return {name: (named | times)[name] if name in named | times else row[name] for name in FIELDS}


def _lines(
    page: Page, wanted: Wanted, arguments: argparse.Namespace, where: str, nothing: str
) -> Iterator[str]:
    if not page.total:
        yield f"no orders in {where}"
        yield f"by these filters: {_filters(arguments)}" if _filters(arguments) else nothing
        return
    first, last = page.first + 1, -(-page.total // arguments.limit)
    years = {utc(row["created"])[:4] for row in page.rows}
    of_year = f" of {years.copy().pop()}" if len(years) == 1 else ""
    yield (
        f"orders {first:,} to {first + len(page.rows) - 1:,} of {page.total:,}, newest first; "
        f"times are UTC{of_year}"
    )
    if words := span_words(wanted.since, wanted.until):
        yield words
    yield ""
    columns = (
        Column("run", right=True), Column("id"), Column("created"), Column("ticker", cut=True),
        Column("side"), Column("size", right=True), Column("price", right=True),
        Column("filled", right=True), Column("status", cut=True),
    )  # fmt: skip
    yield from table(columns, [_cells(row, year=not of_year) for row in page.rows])
    yield ""
    if arguments.page < last:
        yield f"page {arguments.page:,} of {last:,}; the next: --page {arguments.page + 1}"
    yield f"all about one: bot history {page.rows[0]['id']} --run {page.rows[0]['run_id']}"


def _cells(row: RowMapping, *, year: bool) -> list[str]:
    return [
        str(row["run_id"]), row["id"], utc(row["created"], year=year), row["ticker"], row["side"],
        row["size"], row["price"], _share(row["filled"], row["size"]),
        row["status"].lower().replace("_", " "),
    ]  # fmt: skip


def _share(filled: str, size: str) -> str:
    try:
        share = Decimal(filled or 0) / Decimal(size)
    except ArithmeticError:
        return filled
    return "" if not share else f"{share:.0%}"


def _filters(arguments: argparse.Namespace) -> str:
    names = ("status", "ticker", "since", "until", "run", "account", "network")
    given = [(name, getattr(arguments, name)) for name in names]
    return ", ".join(f"--{name} {value}" for name, value in given if value is not None)


# === One order ===
# All that is stored about it, and what led to it.


def _one(connection: Connection, arguments: argparse.Namespace) -> int:
    found = detail_of(connection, _found(connection, arguments))
    if arguments.csv:
        print(as_csv(FILL_FIELDS, [fill_fields(fill) for fill in found.fills]), end="")
    elif arguments.json:
        print(as_json("bot.order/1", found.fields()))
    else:
        print(as_lines(_words(found)))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """All that is stored about one order, and what led to it; `run` is None while it goes on."""

    order: Row
    run: Row | None
    changes: Sequence[Row]
    fills: Sequence[Row]
    verdict: Row | None
    decision: Row | None

    def fields(self) -> dict[str, Any]:
        """Return what a program gets of it."""
        average = _average(self.fills)
        return {
            "order": order_fields(self.order),
            "changes": [
                {"at": iso(row["at"]), **{name: row[name] for name in _CHANGED}}
                for row in self.changes
            ],
            "fills": [fill_fields(fill) for fill in self.fills],
            "average_price": None if average is None else f"{average:f}",
            "fees_usdc": usdc(_fees(self.fills)),
            "verdict": _cause(self.verdict),
            "decision": _cause(self.decision),
        }


_CHANGED: Final = ("status", "filled", "reason")
_CAUSE: Final = ("id", "ticker", "words")


def _cause(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in _CAUSE}


def detail_of(connection: Connection, order: RowMapping) -> Detail:
    """Return all that the database has about an order."""
    run = require_run(connection, order["run_id"])
    same = tuple_(*(fills.c[name] for name in _ACCOUNT))
    filled = _rows(
        connection,
        select(fills)
        .where(fills.c.order_id == order["order_id"], same == _account(order))
        .order_by(fills.c.at, fills.c.seq),
    )
    changes = _rows(
        connection,
        select(order_changes)
        .where(order_changes.c.order_id == order["order_id"])
        .where(tuple_(*(order_changes.c[name] for name in _ACCOUNT)) == _account(order))
        .order_by(order_changes.c.at, order_changes.c.seq, order_changes.c.n),
    )
    verdict = _of_run(connection, verdicts, run, order["verdict_id"])
    decision = _of_run(connection, decisions, run, verdict["decision_id"] if verdict else "")
    return Detail(
        order=order, run=run, changes=changes, fills=filled, verdict=verdict, decision=decision
    )


_ACCOUNT: Final = ("chain_id", "account", "ledger")


def _account(order: RowMapping) -> tuple[Any, ...]:
    return tuple(order[name] for name in _ACCOUNT)


def _rows(connection: Connection, query: sqlalchemy.Select[Any]) -> Sequence[RowMapping]:
    return connection.execute(query).mappings().all()


def _of_run(
    connection: Connection, of: sqlalchemy.Table, run: RowMapping, id_: str
) -> RowMapping | None:
    found = select(of).where(of.c.run_id == run["id"], of.c.id == id_)
    return connection.execute(found).mappings().first() if id_ else None


def _found(connection: Connection, arguments: argparse.Namespace) -> RowMapping:
    """Return an order by its id, the newest run's if no run is given, or by the venue's."""
    typed = arguments.order.strip()
    if typed[:1].upper() == "O" and typed[1:].isdecimal():
        found = select(orders).where(orders.c.id == typed.upper())
        of_run = select(runs.c.id).order_by(runs.c.id.desc())
        if arguments.run is not None:
            require_run(connection, arguments.run)
            of_run = select(runs.c.id).where(runs.c.id == arguments.run)
        for number in connection.execute(of_run).scalars().all():
            row = connection.execute(found.where(orders.c.run_id == number)).mappings().first()
            if row is not None:
                return row
        where = "any run" if arguments.run is None else f"run {arguments.run}"
        raise TypedError(f"expected an order of {where}, got {typed!r}, which none has")
    return _by_beginning(connection, typed)


def _by_beginning(connection: Connection, typed: str) -> RowMapping:
    accounts = connection.execute(select(*(runs.c[name] for name in _ACCOUNT)).distinct()).all()
    begun: list[RowMapping] = []
    for account in accounts:
        mine = (orders.c[name] == value for name, value in zip(_ACCOUNT, account, strict=True))
        found = select(orders).where(
            *mine, orders.c.order_id >= typed, orders.c.order_id < typed + chr(0x10FFFF)
        )
        begun += connection.execute(found.limit(5)).mappings().all()
    exact = [row for row in begun if row["order_id"] == typed]
    if len(exact or begun) == 1:
        return (exact or begun)[0]
    if not begun:
        what = "expected an order such as O3, or the beginning of the venue's id of one"
        raise TypedError(f"{what}, got {typed!r}, which none has")
    listed = ", ".join(f"{row['order_id'][:16]} ({row['id']})" for row in begun[:5])
    raise TypedError(
        f"expected the beginning of one order's id, got {typed!r}, which {listed} have"
    )


FILL_FIELDS: Final = (
    "id", "fill_id", "order_id", "at", "ticker", "side", "size", "price", "quote_usdc",
    "fee_usdc", "liquidity", "type",
)  # fmt: skip


def fill_fields(fill: Row) -> dict[str, Any]:
    """Return what a program gets of a fill."""
    shown = {
        "at": iso(fill["at"]),
        "quote_usdc": usdc(fill["quote"]),
        "fee_usdc": usdc(fill["fee"]),
    }
    return {name: shown[name] if name in shown else fill[name] for name in FILL_FIELDS}


def _average(filled: Iterable[Row]) -> Decimal | None:
    """Return the price that fills had on average, None without fills."""
    sized = [(Decimal(fill["size"]), Decimal(fill["price"])) for fill in filled]
    whole = sum((size for size, _ in sized), Decimal(0))
    return sum((size * price for size, price in sized), Decimal(0)) / whole if whole else None


def _fees(filled: Iterable[Row]) -> int:
    return sum(fill["fee"] or 0 for fill in filled)  # integers


def _words(found: Detail) -> Iterator[str]:
    order, filled, changes = found.order, found.fills, found.changes
    verdict, decision, run = found.verdict, found.decision, found.run or {}
    yield from labelled("order", f"{order['id'] or 'without a number'} of {run_words(run)}")
    yield from labelled("venue's id", order["order_id"])
    yield from labelled("account", f"{order['account']} on {order['chain_id'] or run['network']}")
    what = f"{order['side']} {order['size']} {order['ticker']} at {order['price']}"
    yield from labelled("what", f"{what}, {order['type'].lower().replace('_', ' ')}")
    reason = f" ({order['reason']})" if order["reason"] else ""
    yield from labelled("status", f"{order['status']}{reason}, {_filled_words(order, filled)}")
    yield from labelled("created", f"{utc(order['created'])} UTC, changed {utc(order['updated'])}")
    if verdict is None:
        yield from labelled("verdict", "none is stored: the order is not of this bot's risk")
    else:
        yield from labelled("verdict", f"{verdict['id']} {verdict['kind']}: {verdict['words']}")
    if decision is not None:
        yield from labelled("decision", f"{decision['id']} {decision['words']}")
    yield from labelled("why", _why(order, run))
    yield ""
    yield from table(
        (
            Column("changed"),
            Column("status"),
            Column("filled", right=True),
            Column("reason", cut=True),
        ),
        [[utc(row["at"]), row["status"], row["filled"] or "0", row["reason"]] for row in changes],
    )
    yield ""
    yield from table(_FILL_COLUMNS, [
        [fill["id"], utc(fill["at"]), fill["size"], fill["price"], money(fill["fee"]),
         fill["liquidity"].lower(), _part(fill["size"], order["size"])]
        for fill in filled
    ])  # fmt: skip


_FILL_COLUMNS: Final = (
    Column("fill"), Column("at"), Column("size", right=True), Column("price", right=True),
    Column("fee", right=True), Column("liquidity"), Column("of it", right=True),
)  # fmt: skip


def _part(size: str, whole: str) -> str:
    try:
        return f"{Decimal(size) / Decimal(whole):.0%}"
    except ArithmeticError:
        return ""


def _filled_words(order: Row, filled: Sequence[Row]) -> str:
    average = _average(filled)
    if average is None:
        return "nothing filled"
    count = f"{len(filled)} fill{'s' * (len(filled) > 1)}"
    whole = f"{order['filled'] or '?'} of {order['size']} in {count}"
    return f"{whole} at {average:,.10g} on average, fees {money(_fees(filled))} USDC"


def _why(order: Row, run: Row) -> str:
    if run["recording"]:
        return f"bot why {order['id']} {run['recording']} (with the choices of the run)"
    return "no recording of that run: start one with --record, and bot why walks to the wire"
