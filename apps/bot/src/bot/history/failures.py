"""What went wrong on the wire, by class, endpoint or time, as the database has counted it.

errors: a count a minute, class and endpoint ──► grouped ──► a line each, with a sample
"""

import argparse
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from bot.database.tables import errors, runs, shown
from bot.history.listing import WIDTH, Column, Listing, printed, table
from bot.history.orders import nothing_yet
from bot.history.reading import (
    NothingYetError,
    account_of,
    chain_ids_of,
    chosen_url,
    reading,
    require_run,
)
from bot.history.when import chosen, span, span_words
from bot.times import iso

# The endpoint is that of the sample: of how many it is one is in `endpoints`.
FIELDS: Final = ("group", "class", "endpoint", "count", "first", "last", "sample", "endpoints")
_MINUTE_NS: Final = 60_000_000_000
_TIMES: Final = {"minute": _MINUTE_NS, "hour": 60 * _MINUTE_NS, "day": 24 * 60 * _MINUTE_NS}
GROUPS: Final = ("class", "endpoint", "run", *_TIMES)


def show_errors(arguments: argparse.Namespace) -> int:
    """Print what went wrong, the most frequent first; times newest first."""
    url = chosen_url(arguments)
    by = chosen("a group", arguments.by, GROUPS)
    since, until = span(arguments.since, arguments.until, time.time_ns())
    try:
        with reading(url) as connection:
            which = _which(connection, arguments, since, until)
            rows = _rows(connection, by, which, arguments.limit)
            total = int(connection.scalar(select(func.sum(errors.c.count)).where(*which)) or 0)
    except NothingYetError as error:
        return nothing_yet(arguments, error, _listed(by, (), 0, (since, until), ()))
    lines = _lines(rows, by, total, span_words(since, until), shown(url))
    return printed(arguments, _listed(by, rows, total, (since, until), [*lines]))


def _listed(
    by: str, rows: Sequence[dict[str, Any]], total: int, when: tuple[int | None, int | None],
    lines: Sequence[str],
) -> Listing:  # fmt: skip
    about = {"by": by, "total": total, "since": iso(when[0]), "until": iso(when[1])}
    return Listing(schema="bot.errors/1", fields=FIELDS, rows=rows, lines=lines, about=about)


def _which(
    connection: Connection, arguments: argparse.Namespace, since: int | None, until: int | None
) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    for name in ("class", "endpoint"):
        if (typed := getattr(arguments, name)) is not None:
            there = connection.execute(select(errors.c[name]).distinct()).scalars()
            terms.append(errors.c[name] == chosen(f"a {name}", typed, there))
    if arguments.run is not None:
        require_run(connection, arguments.run)
        terms.append(errors.c.run_id == arguments.run)
    if arguments.network is not None:
        found = select(runs.c.id).where(
            runs.c.chain_id.in_(chain_ids_of(connection, arguments.network))
        )
        terms.append(errors.c.run_id.in_(found))
    if arguments.account is not None:
        mine = select(runs.c.id).where(runs.c.account == account_of(connection, arguments.account))
        terms.append(errors.c.run_id.in_(mine))
    # A minute counts if any of it is in that time.
    terms += [] if since is None else [errors.c.minute > since - _MINUTE_NS]
    terms += [] if until is None else [errors.c.minute < until]
    return terms


def _rows(
    connection: Connection, by: str, which: Sequence[ColumnElement[bool]], limit: int
) -> list[dict[str, Any]]:
    if by in _TIMES:
        width = _TIMES[by]
        group: ColumnElement[Any] = errors.c.minute // width * width
    else:
        group = errors.c["run_id" if by == "run" else by]
    kinds = [errors.c["class"], *([errors.c.endpoint] if by == "endpoint" else [])]
    count, last = func.sum(errors.c.count), func.max(errors.c.minute)
    endpoints = func.count(errors.c.endpoint.distinct())
    query = (
        select(group.label("group"), *kinds, count.label("count"),
               func.min(errors.c.minute).label("first"), last.label("last"),
               endpoints.label("endpoints"))
        .where(*which)
        .group_by(group, *kinds)
        .order_by(*((group.desc(), count.desc()) if by in _TIMES else (count.desc(), last.desc())))
        .limit(limit)
    )  # fmt: skip
    found = connection.execute(query).mappings().all()
    return [_fields(connection, row, by, which) for row in found]


def _fields(
    connection: Connection, row: RowMapping, by: str, which: Sequence[ColumnElement[bool]]
) -> dict[str, Any]:
    same = [errors.c[name] == row[name] for name in ("class", "endpoint") if name in row]
    same += [errors.c.run_id == row["group"]] if by == "run" else []
    # The newest of them has the sample.
    newest = select(errors.c.sample, errors.c.endpoint).where(*which, *same)
    newest = newest.where(errors.c.minute == row["last"]).limit(1)
    sample, endpoint = connection.execute(newest).one()
    return {
        "group": iso(row["group"]) if by in _TIMES else row["group"],
        "class": row["class"], "endpoint": row.get("endpoint", endpoint), "count": row["count"],
        "first": iso(row["first"]), "last": iso(row["last"]), "sample": sample,
        "endpoints": row["endpoints"],
    }  # fmt: skip


def _lines(
    rows: Sequence[dict[str, Any]], by: str, total: int, words: str, where: str
) -> Iterator[str]:
    if not rows:
        yield f"no errors in {where}"
        yield words or "nothing went wrong on the wire, or no run is stored yet"
        return
    yield f"{total:,} error{'s' * (total > 1)} by {by}; times are UTC, to the minute"
    if words:
        yield words
    yield ""
    timed = by in _TIMES or by == "run"
    columns = (
        *((Column(by, right=by == "run"),) if timed else ()), Column("count", right=True),
        Column("class", cut=True), Column("endpoint", cut=True), Column("first"), Column("last"),
    )  # fmt: skip
    yield from table(columns, [
        [*([_group(row["group"])] if timed else []), f"{row['count']:,}", row["class"],
         _endpoint(row), _minute(row["first"]), _minute(row["last"])]
        for row in rows
    ])  # fmt: skip
    yield ""
    for row in rows[:3]:
        yield from textwrap.wrap(f"{row['class']}: {row['sample']}"[:200], WIDTH)
    if any(row["endpoints"] > 1 for row in rows):
        yield "bot errors --by endpoint has each of the endpoints"


def _endpoint(row: dict[str, Any]) -> str:
    return row["endpoint"] if row["endpoints"] == 1 else f"{row['endpoints']} endpoints"


def _group(value: Any) -> str:
    return str(value)[:16].replace("T", " ")


def _minute(text: str) -> str:
    return text[5:16].replace("T", " ")
