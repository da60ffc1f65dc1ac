"""What a person reads of positions: how many, won and lost, what they cost, and all about one.

bot positions ──► which ──► a summary and rows; bot positions BTC-USD ──► fills and funding
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, func, select, tuple_

from bot.database.tables import fills, funding_payments, positions, shown
from bot.history.listing import (
    Column,
    Listing,
    as_csv,
    as_json,
    how_many,
    labelled,
    printed,
    table,
)
from bot.history.orders import FILL_FIELDS, about_page, fill_fields, nothing_yet
from bot.history.reading import (
    NothingYetError,
    account_of,
    chain_ids_of,
    chosen_url,
    empty_words,
    money,
    reading,
    require_run,
    usdc,
)
from bot.history.when import TypedError, chosen, span, span_words
from bot.outlet import as_lines
from bot.times import iso, utc

FIELDS: Final = (
    "position_id", "run", "chain_id", "account", "ticker", "side", "status", "size", "max_size",
    "entry_price", "exit_price", "realized_usdc", "unrealized_usdc", "funding_usdc", "fees_usdc",
    "net_usdc", "opened", "closed", "updated",
)  # fmt: skip
# LEFT: a run ended with it open, and a later row goes on with it, or its account began again.
STATUSES: Final = ("OPEN", "CLOSED", "LIQUIDATED", "LEFT")
_MONEY: Final = ("realized", "unrealized", "funding", "fees")
_LATE_NS: Final = 600 * 1_000_000_000  # by so much a message may come after its block
_columns = positions.c

# What a position has come to; a paper account's fees and funding are no part of `realized`.
_NET: Final = (
    func.coalesce(_columns.realized, 0)
    + func.coalesce(_columns.unrealized, 0)
    + func.coalesce(_columns.funding, 0)
    - func.coalesce(_columns.fees, 0)
)


def _number(column: ColumnElement[Any]) -> ColumnElement[Any]:
    # What is not there yet is the smallest.
    return func.coalesce(sqlalchemy.cast(func.nullif(column, ""), sqlalchemy.Double), 0)


SORTS: Final[dict[str, ColumnElement[Any]]] = {
    **{name: _columns[name] for name in ("ticker", "side", "status", "opened", "updated")},
    **{name: _number(_columns[name])
       for name in ("size", "max_size", "entry_price", "exit_price")},
    **{name: func.coalesce(_columns[name], 0) for name in (*_MONEY, "closed")},
    "net": _NET,
    "run": _columns.run_id,
    "account": _columns.account,
    "position_id": _columns.position_id,
}  # fmt: skip


def show_positions(arguments: argparse.Namespace) -> int:
    """Print a summary of positions and a page of them, or all about one."""
    url = chosen_url(arguments)
    try:
        with reading(url) as connection:
            if arguments.position:
                return _one(connection, arguments)
            return printed(arguments, _page(connection, arguments, shown(url)))
    except NothingYetError as error:
        since, until = span(arguments.since, arguments.until, time.time_ns())
        return nothing_yet(arguments, error, Listing(
            schema="bot.positions/1", fields=FIELDS, rows=(), lines=(),
            about=_about(arguments, Counter(), since, until),
        ))  # fmt: skip


# === A page ===


def _page(connection: Connection, arguments: argparse.Namespace, where: str) -> Listing:
    since, until = span(arguments.since, arguments.until, time.time_ns())
    which = _which(connection, arguments, since, until)
    summary = _summary(connection, which)
    about, limit = _about(arguments, summary, since, until), arguments.limit
    if arguments.page > (last := about["pages"]):
        raise TypedError(f"expected a page from 1 to {last}, got {arguments.page}")
    by = SORTS[_sort(arguments.sort)]
    order = (by.asc(), _columns.opened.asc()) if arguments.ascending else (
        by.desc(), _columns.opened.desc()
    )  # fmt: skip
    found = select(positions, _NET.label("net")).where(*which).order_by(*order)
    first = (arguments.page - 1) * limit
    rows = connection.execute(found.limit(limit).offset(first)).mappings().all()
    lines = [
        *_head(summary, where, span_words(since, until), empty_words(connection)),
        *_lines(rows, arguments, last),
    ]
    return Listing(
        schema="bot.positions/1",
        fields=FIELDS,
        rows=[_fields(row) for row in rows],
        lines=lines,
        about=about,
    )


def _about(
    arguments: argparse.Namespace, summary: Mapping[str, int], since: int | None, until: int | None
) -> dict[str, Any]:
    page = about_page(arguments, summary["count"], since, until)
    return {**page, "summary": _for_program(summary)}


def _sort(typed: str) -> str:
    return chosen("a column to sort by", typed, SORTS)


def _which(
    connection: Connection, arguments: argparse.Namespace, since: int | None, until: int | None
) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    for name, known in (("ticker", ()), ("status", STATUSES), ("side", ("LONG", "SHORT"))):
        if (typed := getattr(arguments, name)) is not None:
            there = connection.execute(select(_columns[name]).distinct()).scalars()
            names = {*there, *known}
            picked = [chosen(f"a {name}", part, names) for part in typed.split(",")]
            terms.append(_columns[name].in_(picked))
    if arguments.run is not None:
        require_run(connection, arguments.run)
        terms.append(_columns.run_id == arguments.run)
    if arguments.network is not None:
        terms.append(_columns.chain_id.in_(chain_ids_of(connection, arguments.network)))
    if arguments.account is not None:
        terms.append(_columns.account == account_of(connection, arguments.account))
    # One that was open in that time belongs to it.
    if since is not None:
        terms.append(func.coalesce(_columns.closed, _columns.updated) >= since)
    if until is not None:
        terms.append(_columns.opened < until)
    return terms


def _summary(connection: Connection, which: Sequence[ColumnElement[bool]]) -> dict[str, Any]:
    open_, left = _columns.status == "OPEN", _columns.status == "LEFT"
    closed = ~open_ & ~left
    counted = {
        "count": func.count(),
        "open": func.sum(case((open_, 1), else_=0)),
        "left": func.sum(case((left, 1), else_=0)),
        "won": func.sum(case((and_(closed, _NET > 0), 1), else_=0)),
        "lost": func.sum(case((and_(closed, _NET < 0), 1), else_=0)),
        "unknown": func.sum(case((and_(open_, _columns.unrealized.is_(None)), 1), else_=0)),
        **{name: func.sum(_columns[name]) for name in _MONEY},
        "net": func.sum(_NET),
    }
    found = select(*(value.label(name) for name, value in counted.items())).where(*which)
    row = connection.execute(found.select_from(positions)).mappings().one()
    return {name: int(row[name] or 0) for name in counted}


def _for_program(summary: Mapping[str, int]) -> dict[str, Any]:
    counts = ("count", "open", "won", "lost", "left")
    closed = summary["count"] - summary["open"] - summary["left"]
    return {
        **{name: summary[name] for name in counts},
        "closed": closed,
        "unrealized_unknown": summary["unknown"],
        **{f"{name}_usdc": usdc(summary[name]) for name in (*_MONEY, "net")},
    }


def _head(summary: dict[str, Any], where: str, words: str, nothing: str) -> Iterator[str]:
    if not summary["count"]:
        yield f"no positions in {where}{' by these filters' if words else ''}"
        yield words or nothing
        return
    closed = summary["count"] - summary["open"] - summary["left"]
    left = summary["left"]
    counts = f"{summary['open']:,} open, {closed:,} closed{f', {left:,} left' if left else ''}"
    yield f"{how_many(summary['count'], 'position')}: {counts}"
    if left:
        yield "left         held on in a later row, or by a paper account that began again"
    if words:
        yield words
    if closed:
        even = closed - summary["won"] - summary["lost"]
        yield f"closed       {summary['won']:,} won, {summary['lost']:,} lost, {even:,} neither"
    yield f"realized     {money(summary['realized'], sign=True)} USDC before fees and funding"
    unknown = f" ({summary['unknown']} not valued yet)" if summary["unknown"] else ""
    yield f"unrealized   {money(summary['unrealized'], sign=True)} USDC{unknown}"
    yield f"funding      {money(summary['funding'], sign=True)} USDC (+ received)"
    yield f"fees         {money(summary['fees'])} USDC paid"
    yield f"net          {money(summary['net'], sign=True)} USDC"
    yield ""


_TABLE: Final = (
    Column("run", right=True), Column("opened"), Column("ticker", cut=True), Column("side"),
    Column("size", right=True), Column("entry", right=True), Column("exit", right=True),
    Column("net USDC", right=True), Column("status", cut=True),
)  # fmt: skip


def _lines(rows: Sequence[RowMapping], arguments: argparse.Namespace, last: int) -> Iterator[str]:
    if not rows:
        return
    years = {utc(row["opened"])[:4] for row in rows}
    of_year = f" of {years.copy().pop()}" if len(years) == 1 else ""
    begins = 5 if of_year else 2
    yield from table(_TABLE, [
        [str(row["run_id"]), utc(row["opened"])[begins:-3], row["ticker"], row["side"].lower(),
         row["size"] if row["status"] == "OPEN" else row["max_size"], _short(row["entry_price"]),
         _short(row["exit_price"]), money(row["net"], sign=True), row["status"].lower()]
        for row in rows
    ])  # fmt: skip
    yield ""
    if arguments.page < last:
        yield f"page {arguments.page:,} of {last:,}; the next: --page {arguments.page + 1}"
    yield f"times are UTC{of_year}; all about one: bot positions {rows[0]['position_id'][:8]}"


def _short(price: str, digits: int = 6) -> str:
    """Show no more of a price than matters to a person."""
    try:
        return f"{float(price):,.{digits}g}" if price else ""
    except ValueError:
        return price


def _fields(row: RowMapping) -> dict[str, Any]:
    named: dict[str, Any] = {
        "run": row["run_id"],
        **{f"{name}_usdc": usdc(row[name]) for name in (*_MONEY, "net")},
        **{name: iso(row[name]) for name in ("opened", "closed", "updated")},
    }
    return {name: named[name] if name in named else row[name] for name in FIELDS}


# === One position ===


def _one(connection: Connection, arguments: argparse.Namespace) -> int:
    position = _found(connection, arguments.position.strip())
    account = tuple(position[name] for name in ("chain_id", "account", "ledger"))
    found = []
    for of in (fills, funding_payments):
        same = tuple_(of.c.chain_id, of.c.account, of.c.ledger) == account
        query = select(of).where(same, of.c.ticker == position["ticker"])
        query = query.where(of.c.at >= position["opened"])
        if position["closed"] is not None:
            query = query.where(of.c.at <= position["closed"] + _LATE_NS * (of is fills))
        found.append(connection.execute(query.order_by(of.c.at)).mappings().all())
    filled, paid = [*_until_flat(found[0], position["side"])], found[1]
    if arguments.csv:
        print(as_csv(FILL_FIELDS, [fill_fields(row) for row in filled]), end="")
    elif arguments.json:
        print(as_json("bot.position/1", {
            "position": _fields(position),
            "fills": [fill_fields(row) for row in filled],
            "funding": [
                {"at": iso(row["at"]), "size": row["size"], "rate": row["rate"],
                 "payment_usdc": usdc(row["quote"])}
                for row in paid
            ],
        }))  # fmt: skip
    else:
        print(as_lines(_words(connection, position, filled, paid)))
    return 0


def _until_flat(rows: Iterable[RowMapping], side: str) -> Iterator[RowMapping]:
    """Return the fills that opened a position, changed it and closed it, in their order.

    It is opened and closed at the time of a block, and a fill is stored with the time at which its
    message came: the one that closes it is later than its end.
    """
    held, grows = Decimal(0), "BUY" if side == "LONG" else "SELL"
    for row in rows:
        size = Decimal(row["size"]) * (1 if row["side"] == grows else -1)
        if not held and size < 0:
            continue  # it closed the one before
        held += size
        yield row
        if held <= 0:
            return


def _found(connection: Connection, typed: str) -> RowMapping:
    """Return the newest position of a ticker, or one by the beginning of its id."""
    found = select(positions, _NET.label("net")).order_by(_columns.opened.desc()).limit(5)
    newest = connection.execute(found.where(_columns.ticker == typed.upper())).mappings().first()
    if newest is not None:
        return newest
    begins = func.substr(_columns.position_id, 1, len(typed)) == typed
    begun = connection.execute(found.where(begins)).mappings().all()
    if len(begun) == 1 or any(row["position_id"] == typed for row in begun):
        return next((row for row in begun if row["position_id"] == typed), begun[0])
    if begun:
        listed = ", ".join(f"{row['position_id'][:16]} ({row['ticker']})" for row in begun)
        what = "expected the beginning of one position's id"
        raise TypedError(f"{what}, got {typed!r}, which {listed} have")
    known = connection.execute(select(_columns.ticker).distinct()).scalars()
    chosen("a position by its id, or a ticker", typed, known)
    raise TypedError(f"expected a position, got {typed!r}")


def _words(
    connection: Connection,
    position: RowMapping,
    filled: Sequence[RowMapping],
    paid: Sequence[RowMapping],
) -> Iterator[str]:
    run = require_run(connection, position["run_id"])
    what = f"{position['side'].lower()} {position['ticker']}, {position['status'].lower()}"
    yield from labelled("position", what)
    yield from labelled("id", f"{position['position_id']} of run {run['id']}")
    yield from labelled("size", f"{position['size']}, {position['max_size']} at most")
    left = f", left at {_short(position['exit_price'], 10)}" if position["exit_price"] else ""
    yield from labelled("price", f"entered at {_short(position['entry_price'], 10)}{left}")
    ended = "" if position["closed"] is None else f", closed {utc(position['closed'])}"
    yield from labelled("time", f"opened {utc(position['opened'])}{ended} UTC")
    for name in _MONEY:
        words = f"{money(position[name], sign=name != 'fees')} USDC"
        yield from labelled(name, words if position[name] is not None else "not known")
    yield from labelled("net", f"{money(position['net'], sign=True)} USDC")
    yield ""
    yield from table(
        (Column("fill"), Column("at"), Column("side"), Column("size", right=True),
         Column("price", right=True), Column("fee", right=True)),
        [[row["id"], utc(row["at"]), row["side"].lower(), row["size"], row["price"],
          money(row["fee"])] for row in filled],
    )  # fmt: skip
    if not paid:
        return
    yield ""
    yield from table(
        (Column("funding"), Column("size", right=True), Column("rate", right=True),
         Column("USDC", right=True)),
        [[utc(row["at"]), row["size"], row["rate"] or "?", money(row["quote"], sign=True)]
         for row in paid],
    )  # fmt: skip
