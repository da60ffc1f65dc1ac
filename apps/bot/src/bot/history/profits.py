"""What runs have earned, by day, run, market or strategy: each figure from the rows that have it.

    positions ──► realized, unrealized ──┐
    funding_payments, fills ──► funding, fees ──┼──► a line a group, and their sum
    equity_points ──► equity at begin and end, drawdown ──┘

What a position has realized counts when it closed, or when it was last looked at; what it is worth
beyond that counts there too. What is not stored by a group is None, and the output says so.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, select

from bot.database.tables import (
    equity_points,
    fills,
    funding_payments,
    positions,
    runs,
    shown,
    transfers,
)
from bot.history.listing import Column, Listing, how_many, printed, table
from bot.history.orders import nothing_yet
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
from bot.history.when import chosen, span, span_words
from bot.times import iso, utc

_DAY_NS: Final = 86_400_000_000_000
_SUMS: Final = ("realized", "unrealized", "funding", "fees", "transfers")
FIELDS: Final = (
    "group", "realized_usdc", "unrealized_usdc", "funding_usdc", "fees_usdc", "net_usdc",
    "transfers_usdc", "equity_begin_usdc", "equity_end_usdc", "drawdown", "unvalued_positions",
)  # fmt: skip


@dataclass(slots=True)
class Group:
    """What one day, run, market or strategy has come to, in quote quantums; None: not stored."""

    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    begin: int | None = None
    end: int | None = None
    drawdown: float | None = None
    unvalued: int = 0

    @property
    def net(self) -> int:
        """Return what is left of it."""
        sums = self.sums
        return sums["realized"] + sums["unrealized"] + sums["funding"] - sums["fees"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows count, and by what they are grouped; of tickers () for any."""

    by: str
    since: int | None
    until: int | None
    runs: Mapping[int, RowMapping] = field(default_factory=dict)
    tickers: tuple[str, ...] = ()

    def key(self, run_id: int, ticker: str, day: int) -> Any:
        """Return the group that a row belongs to."""
        return GROUPS[self.by](self.runs[run_id], ticker, day)


GROUPS: Final[dict[str, Callable[[RowMapping, str, int], Any]]] = {
    "day": lambda _, __, day: utc(day * _DAY_NS)[:10],
    "run": lambda run, _, __: run["id"],
    "market": lambda _, ticker, __: ticker,
    "strategy": lambda run, _, __: str((run["config"] or {}).get("strategy", "not stored")),
}


def pnl(arguments: argparse.Namespace) -> int:
    """Print what runs have earned."""
    url = chosen_url(arguments)
    choice = Choice(
        chosen("a group", arguments.by, GROUPS),
        *span(arguments.since, arguments.until, time.time_ns()),
    )
    try:
        with reading(url) as connection:
            choice = _narrowed(connection, arguments, choice)
            groups, total = summed(connection, choice)
            nothing = empty_words(connection)
    except NothingYetError as error:
        return nothing_yet(arguments, error, _listed(choice, {}, Group(), ()))
    lines = _lines(groups, total, choice, shown(url), nothing)
    return printed(arguments, _listed(choice, groups, total, [*lines]))


def _listed(
    choice: Choice, groups: Mapping[Any, Group], total: Group, lines: Sequence[str]
) -> Listing:
    return Listing(
        schema="bot.pnl/1", fields=FIELDS, lines=lines,
        rows=[_fields(key, group) for key, group in groups.items()],
        about={"by": choice.by, "since": iso(choice.since), "until": iso(choice.until),
               "total": _fields("total", total)},
    )  # fmt: skip


def _narrowed(connection: Connection, arguments: argparse.Namespace, choice: Choice) -> Choice:
    terms: list[ColumnElement[bool]] = []
    if arguments.run is not None:
        require_run(connection, arguments.run)
        terms.append(runs.c.id == arguments.run)
    if arguments.network is not None:
        terms.append(runs.c.chain_id.in_(chain_ids_of(connection, arguments.network)))
    if arguments.account is not None:
        terms.append(runs.c.account == account_of(connection, arguments.account))
    tickers: tuple[str, ...] = ()
    if arguments.ticker is not None:
        there = {*connection.execute(select(positions.c.ticker).distinct()).scalars()}
        tickers = tuple(chosen("a ticker", part, there) for part in arguments.ticker.split(","))
    found = connection.execute(select(runs).where(*terms).order_by(runs.c.id)).mappings()
    return replace(choice, runs={run["id"]: run for run in found}, tickers=tickers)


# === Sums ===


def summed(connection: Connection, choice: Choice) -> tuple[dict[Any, Group], Group]:
    """Return the groups in order, and all of it in one."""
    groups: defaultdict[Any, Group] = defaultdict(Group)
    total = Group()
    for name, run_id, ticker, day, amount in _amounts(connection, choice):
        if run_id not in choice.runs:
            continue
        for group in (groups[choice.key(run_id, ticker, day)], total):
            if amount is None:
                group.unvalued += 1
            else:
                group.sums[name] += int(amount)
    if not choice.tickers:
        _add_equity(connection, choice, groups, total)
    return dict(sorted(groups.items())), total


Amount = tuple[str, int, str, int, int | None]
_ANY_TICKER: Final[ColumnElement[Any]] = sqlalchemy.literal_column("''")
_ANY_DAY: Final[ColumnElement[Any]] = sqlalchemy.literal_column("0")


def _amounts(connection: Connection, choice: Choice) -> Iterator[Amount]:
    ended = func.coalesce(positions.c.closed, positions.c.updated)
    sources: list[tuple[str, sqlalchemy.Table, ColumnElement[Any], ColumnElement[Any]]] = [
        ("realized", positions, ended, positions.c.realized),
        ("unrealized", positions, ended, positions.c.unrealized),
        ("funding", funding_payments, funding_payments.c.at, funding_payments.c.quote),
        ("fees", fills, fills.c.at, fills.c.fee),
    ]
    if not choice.tickers and choice.by != "market":
        sources.append(("transfers", transfers, transfers.c.at, transfers.c.quote))
    for name, of, at, amount in sources:
        ticker = of.c.ticker if "ticker" in of.c else sqlalchemy.literal("")
        # By no more than the groups want: of a million fills that is a tenth of the rows.
        kinds: list[ColumnElement[Any]] = [_ANY_TICKER, _ANY_DAY]
        if choice.by == "market":
            kinds[0] = ticker
        elif choice.by == "day":
            kinds[1] = (at // _DAY_NS).label("day")
        grouped = [each for each in kinds if each is not _ANY_TICKER and each is not _ANY_DAY]
        terms: list[ColumnElement[bool]] = []
        terms += [ticker.in_(choice.tickers)] if choice.tickers else []
        terms += [] if choice.since is None else [at >= choice.since]
        terms += [] if choice.until is None else [at < choice.until]
        summed: Select[Any] = select(of.c.run_id, *kinds, func.sum(amount)).where(*terms)
        summed = summed.where(amount.is_not(None)).group_by(of.c.run_id, *grouped)
        for run_id, of_ticker, number, amount_ in connection.execute(summed):
            yield name, run_id, of_ticker, number, amount_
        if name == "unrealized":
            unvalued: Select[Any] = (
                select(of.c.run_id, *kinds).where(*terms).where(amount.is_(None))
            )
            for run_id, of_ticker, number in connection.execute(
                unvalued.where(of.c.status == "OPEN")
            ):
                yield name, run_id, of_ticker, number, None


def _add_equity(
    connection: Connection, choice: Choice, groups: Mapping[Any, Group], total: Group
) -> None:
    """Add what the accounts were worth when a group began and when it ended, and how they fell.

    A run's own fall begins with it; an account's, below its peak, goes on through its runs.
    """
    last: dict[tuple[int, Any], tuple[int, int]] = {}
    first: dict[tuple[int, Any], tuple[int, int]] = {}
    accounts: dict[tuple[Any, ...], int] = {}
    peaks: dict[int, int] = {}
    columns = [transfers.c[name] for name in ("chain_id", "account", "ledger")]
    moved = {tuple(row) for row in connection.execute(select(*columns).distinct())}
    for run in choice.runs.values():
        name = (run["chain_id"], run["account"], run["ledger"])
        account = accounts.setdefault(name, len(accounts))
        for day, low, high, own, ends in _spans(connection, choice, run["id"]):
            deep = own
            if name not in moved:  # else what was paid in or out were a gain, or a loss
                peak = peaks.get(account, 0)
                peaks[account] = max(peak, ends[1])
                deep = max(own, (peak - ends[0]) / peak) if peak > 0 else own
            keys = [None] if choice.by == "market" else [choice.key(run["id"], "", day), None]
            for key in keys:
                group = total if key is None else groups[key]
                one = own if key is not None and choice.by == "run" else deep
                group.drawdown = max(group.drawdown or 0.0, one)
                where = (account, key)
                first[where] = min(first.get(where, low), low)
                last[where] = max(last.get(where, high), high)
    for (_, key), (_, equity) in first.items():
        group = total if key is None else groups[key]
        group.begin = (group.begin or 0) + equity
    for (_, key), (_, equity) in last.items():
        group = total if key is None else groups[key]
        group.end = (group.end or 0) + equity


Point = tuple[int, int]


def _spans(
    connection: Connection, choice: Choice, run_id: int
) -> Iterator[tuple[int, Point, Point, float, tuple[int, int]]]:
    """Yield for each day of a run its first and last point, its drawdown, least and most equity."""
    at, equity = equity_points.c.at, equity_points.c.equity
    day = (at // _DAY_NS).label("day")
    ends = func.min(equity), func.max(equity)
    query = select(day, func.min(at), func.max(at), func.max(equity_points.c.drawdown), *ends)
    query = query.where(equity_points.c.run_id == run_id)
    if choice.since is not None:
        query = query.where(at >= choice.since)
    if choice.until is not None:
        query = query.where(at < choice.until)
    query = query.group_by(day).order_by(day)
    for number, low, high, drawdown, least, most in connection.execute(query).all():
        found = select(at, equity).where(equity_points.c.run_id == run_id, at.in_((low, high)))
        points = sorted((int(row[0]), int(row[1] or 0)) for row in connection.execute(found))
        yield number, points[0], points[-1], drawdown or 0.0, (least or 0, most or 0)


# === Words ===


def _fields(key: Any, group: Group) -> dict[str, Any]:
    named = {
        "group": key,
        **{f"{name}_usdc": usdc(group.sums[name]) for name in _SUMS},
        "net_usdc": usdc(group.net),
        "equity_begin_usdc": usdc(group.begin),
        "equity_end_usdc": usdc(group.end),
        "drawdown": group.drawdown,
        "unvalued_positions": group.unvalued,
    }
    return {name: named[name] for name in FIELDS}


def _lines(
    groups: Mapping[Any, Group], total: Group, choice: Choice, where: str, nothing: str
) -> Iterator[str]:
    words = span_words(choice.since, choice.until)
    if not groups:
        yield f"nothing earned or lost in {where}{' by these filters' if words else ''}"
        yield words or nothing
        return
    yield f"profit and loss by {choice.by}, in USDC; days are UTC"
    if words:
        yield words
    yield ""
    columns = (
        Column(choice.by, cut=True), Column("realized", right=True),
        Column("unreal.", right=True), Column("funding", right=True),
        Column("fees", right=True), Column("net", right=True), Column("equity", right=True),
        Column("drawdn", right=True),
    )  # fmt: skip
    rows = [_cells(str(key), group) for key, group in groups.items()]
    yield from table(columns, [*rows, _cells("total", total)])
    yield ""
    yield from _notes(total, choice)


def _cells(key: str, group: Group) -> list[str]:
    sums = group.sums
    signed = [_cents(sums[name]) for name in ("realized", "unrealized", "funding")]
    drawdown = "-" if group.drawdown is None else f"{group.drawdown:.1%}"
    end = "-" if group.end is None else _cents(group.end, "")
    fees = _cents(sums["fees"], "")
    return [key, *signed, fees, _cents(group.net), end, drawdown]


def _cents(quantums: int, sign: str = "+") -> str:
    # z: what is next to nothing is nothing, and neither paid nor received
    return format(Decimal(quantums).scaleb(-6), f"{sign}z,.2f")


def _notes(total: Group, choice: Choice) -> Sequence[str]:
    notes: list[str] = []
    if total.begin is None or total.end is None:
        notes.append("equity       not known: an account's is stored, not a market's")
    else:
        notes.append(f"equity       {money(total.begin)} at first, {money(total.end)} at last")
    accounts = {(run["chain_id"], run["account"]) for run in choice.runs.values()}
    if len(accounts) > 1:
        notes.append(f"accounts     {len(accounts)} in one sum (--account, --network: one of them)")
    if moved := total.sums["transfers"]:
        notes.append(f"transfers    {money(moved, sign=True)} paid in or out")
    if choice.by == "day":
        notes.append("realized     counts when a position closed, unrealized where it stands")
    if choice.by == "run":
        notes.append("realized     counts in the run that opened a position, however it ended")
    if choice.by == "strategy":
        notes.append("strategy     is a run's: what each of several earned is not stored")
    if total.unvalued:
        notes.append(f"unrealized   is not known of {how_many(total.unvalued, 'open position')}")
    return notes
