"""Any page of the orders, as quick as the first: no row before it is walked over.

    what is wanted ──► how many of them each block of time has ──► which blocks the page lies in
    ──► one look into each ──► its rows

The database counts its orders by block, run, ticker and status as they come (database.counting),
and sums that over the runs of an account (database.summing); a block is at most some ten thousands
of orders that follow one another. So it is known in which blocks a page lies, and how many there
are in all. Then it is short work: where a block has many of the wanted, the index by time is walked
within the block from its nearer end; where blocks have few, each is fetched by its group. Rows are
newest first; of one time, by run, ticker and status.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

import sqlalchemy
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    and_,
    func,
    select,
)

from bot.database.tables import order_blocks, order_counts, order_sums, orders, runs

# A block with fewer of the wanted is not walked: they are fetched one by one.
_FEW: Final = 200
_SOME: Final = 8_000  # so many are counted quicker by their groups than by walking
_NEVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which orders: of these runs, tickers and statuses, and created in this time; () for any.

    `chain_ids` and `accounts` choose runs by what they trade on. The time begins with `since` and
    ends before `until`.
    """

    runs: tuple[int, ...] = ()
    chain_ids: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None

    @property
    def anything(self) -> bool:
        """Return whether no order is left out by anything but its time."""
        return not (self.runs or self.chain_ids or self.accounts or self.tickers or self.statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of one page, and how many there are in all."""

    rows: tuple[RowMapping, ...]
    first: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A time, from `low` to before `high`, and how many of the wanted were created in it."""

    low: int
    high: int
    wanted: int


def page_of(connection: Connection, wanted: Wanted, number: int, limit: int) -> Page:
    """Return a page, counted from 1; beyond the last one it has no rows."""
    wanted = _resolved(connection, wanted)
    blocks = _blocks(connection, wanted)
    first = (number - 1) * limit
    return Page(
        rows=tuple(_rows(connection, wanted, blocks, first, limit)),
        first=first,
        total=sum(block.wanted for block in blocks),  # integers
    )


def _resolved(connection: Connection, wanted: Wanted) -> Wanted:
    """Leave out what leaves no order out: accounts that all runs are of."""
    if not (wanted.chain_ids or wanted.accounts):
        return wanted
    any_other = sqlalchemy.exists().where(~_of_accounts(wanted))
    return (
        wanted
        if connection.scalar(select(any_other))
        else replace(wanted, chain_ids=(), accounts=())
    )


def _rows(
    connection: Connection, wanted: Wanted, blocks: Sequence[Block], skip: int, take: int
) -> Iterator[RowMapping]:
    """Yield some rows, newest first, after those that are left out."""
    for few, group in groupby(blocks, lambda block: block.wanted < _FEW):
        for block in _together(group) if few else group:
            if take > 0 and skip < block.wanted:
                fetch = _few if few else _many
                found = fetch(connection, wanted, block, skip, min(take, block.wanted - skip))
                take -= len(found)
                yield from found
            skip = max(0, skip - block.wanted)


def _together(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield blocks that follow one another as one, as long as all of them have few in all."""
    so_far: Block | None = None
    for block in blocks:
        if so_far is not None and so_far.wanted + block.wanted < _FEW:
            more = so_far.wanted + block.wanted
            so_far = Block(low=block.low, high=so_far.high, wanted=more)
            continue
        if so_far is not None:
            yield so_far
        so_far = block
    if so_far is not None:
        yield so_far


# === Counts ===
# How many of the wanted each block has, newest block first.


def _blocks(connection: Connection, wanted: Wanted) -> list[Block]:
    lows = list(connection.execute(_every_block()).scalars())
    counted = {row.since: int(row.n) for row in connection.execute(_counts(wanted))}
    found: list[Block] = []
    for low, high in zip(lows, [*lows[1:], _NEVER], strict=True):
        whole = Block(low=low, high=high, wanted=counted.get(low, 0))
        if whole.wanted and (inner := _part(connection, wanted, whole)) is not None:
            found.append(inner)
    return found[::-1]


def _part(connection: Connection, wanted: Wanted, whole: Block) -> Block | None:
    """Return what the time that is wanted leaves of a block: it is counted, or the rest of it."""
    low = whole.low if wanted.since is None else max(whole.low, wanted.since)
    high = whole.high if wanted.until is None else min(whole.high, wanted.until)
    if low >= high:
        return None
    rest = [
        Block(low=begin, high=end, wanted=whole.wanted)
        for begin, end in ((whole.low, low), (high, whole.high))
        if begin < end
    ]
    inner = Block(low=low, high=high, wanted=whole.wanted)
    if high - low < sum(part.high - part.low for part in rest):  # integers
        count = _count(connection, wanted, inner)
    else:
        left_out = sum(_count(connection, wanted, part) for part in rest)  # integers
        count = whole.wanted - left_out
    return Block(low=low, high=high, wanted=count)


def _count(connection: Connection, wanted: Wanted, block: Block) -> int:
    """Count a part of a block, in which there are no more than the whole has."""
    if block.wanted < _SOME:
        return connection.scalar(select(func.count()).select_from(_grouped(wanted, block))) or 0
    count = select(func.count()).select_from(orders).where(*_in(connection, wanted, block))
    return connection.scalar(count) or 0


def _every_block() -> Select[Any]:
    return select(order_blocks.c.since).order_by(order_blocks.c.since)


def _counts(wanted: Wanted) -> Select[Any]:
    if wanted.anything:
        return select(order_blocks.c.since, order_blocks.c.n)
    of = order_counts if wanted.runs else order_sums
    summed = select(of.c.since, func.sum(of.c.n).label("n"))
    return summed.where(*_narrowed(wanted, of)).group_by(of.c.since)


def _narrowed(
    wanted: Wanted, table: sqlalchemy.Table, *, walked: bool = False
) -> list[ColumnElement[bool]]:
    ticker: ColumnElement[str] = table.c.ticker
    status: ColumnElement[str] = table.c.status
    terms: list[ColumnElement[bool]] = []
    if walked:  # no index but that by time: what is calculated is looked up in none
        ticker, status = ticker + "", status + ""
    if table is order_sums:
        terms.append(_of_accounts(wanted, order_sums))
    else:
        run_id: ColumnElement[int] = table.c.run_id + 0 if walked else table.c.run_id
        terms += [run_id.in_(wanted.runs)] if wanted.runs else []
        terms += [run_id.in_(_runs_of(wanted))] if wanted.chain_ids or wanted.accounts else []
    if wanted.tickers:
        terms.append(ticker.in_(wanted.tickers))
    if wanted.statuses:
        terms.append(status.in_(wanted.statuses))
    return terms


def _runs_of(wanted: Wanted) -> Select[Any]:
    return select(runs.c.id).where(_of_accounts(wanted))


def _of_accounts(wanted: Wanted, table: sqlalchemy.Table = runs) -> ColumnElement[bool]:
    terms = [table.c.chain_id.in_(wanted.chain_ids)] if wanted.chain_ids else []
    terms += [table.c.account.in_(wanted.accounts)] if wanted.accounts else []
    return and_(sqlalchemy.true(), *terms)


# === Rows ===
# The rows of one block, by one index or the other.

_ORDER: Final = (orders.c.created, orders.c.run_id, orders.c.ticker, orders.c.status)
# What tells apart those that nothing else does. SQLite's indices have a row's number by themselves.
_NUMBERS: Final[dict[str, ColumnElement[Any]]] = {
    "sqlite": sqlalchemy.literal_column("orders.rowid")
}


def _order(connection: Connection) -> tuple[ColumnElement[Any], ...]:
    return (*_ORDER, _NUMBERS.get(connection.dialect.name, orders.c.order_id))


def _newest(connection: Connection) -> tuple[ColumnElement[Any], ...]:
    return tuple(column.desc() for column in _order(connection))


def _many(
    connection: Connection, wanted: Wanted, block: Block, skip: int, take: int
) -> list[RowMapping]:
    """Walk over the index by time, from the end of the block that is nearer."""
    chosen = select(orders).where(*_in(connection, wanted, block)).limit(take)
    after = block.wanted - skip - take
    if skip <= after:
        return list(
            connection.execute(chosen.order_by(*_newest(connection)).offset(skip)).mappings()
        )
    return list(connection.execute(chosen.order_by(*_order(connection)).offset(after)).mappings())[
        ::-1
    ]


def _few(
    connection: Connection, wanted: Wanted, block: Block, skip: int, take: int
) -> list[RowMapping]:
    """Fetch the rows of each group that is counted there, and put them in order."""
    newest, grouped = _newest(connection), _grouped(wanted, block)
    found = select(orders).select_from(grouped).order_by(*newest).limit(take).offset(skip)
    if (number := _NUMBERS.get(connection.dialect.name)) is not None:
        # The index has the number of each row: put in order is that alone, not all of them.
        places = select(number).select_from(grouped).order_by(*newest).limit(take).offset(skip)
        found = select(orders).where(number.in_(places)).order_by(*newest)
    return list(connection.execute(found).mappings())


def _grouped(wanted: Wanted, block: Block) -> FromClause:
    counts = order_counts.c
    # The block that the time begins in may have begun earlier.
    begun = select(func.max(order_blocks.c.since)).where(order_blocks.c.since <= block.low)
    groups = (
        select(counts.run_id, counts.ticker, counts.status)
        .where(counts.since >= begun.scalar_subquery(), counts.since < block.high)
        .where(*_narrowed(wanted, order_counts))
        .distinct()
        .subquery()
    )
    same = (orders.c[name] == groups.c[name] for name in ("run_id", "ticker", "status"))
    within = (orders.c.created >= block.low, orders.c.created < block.high)
    return groups.join(orders, and_(*same, *within))


def _in(connection: Connection, wanted: Wanted, block: Block) -> list[ColumnElement[bool]]:
    # Another planner knows how many there are of each, and chooses that index by itself.
    sqlite = connection.dialect.name == "sqlite"
    created = (orders.c.created >= block.low, orders.c.created < block.high)
    return [*created, *_narrowed(wanted, orders, walked=sqlite)]
