"""A run of the database as a report: its rows, and in words what it does not store.

    run, its rows ──► report_of_stored ──► Report

Of every table the newest rows are read, and of all points of the account as many as are drawn: a
run of months costs what one of an hour does.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

from dydx_panels import EquityPart
from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, select

from bot.database.tables import (
    decisions,
    equity_points,
    errors,
    fills,
    funding_payments,
    orders,
    positions,
    states,
    verdicts,
)
from bot.outlet import one_line
from bot.pages.shape import Cost, Entry, Fill, Named, Payment, Report, Setting, Trouble
from bot.pages.shape import exact as usdc
from bot.pages.sums import (
    LEVELS,
    Grouping,
    by_market,
    fill_of,
    matched,
    performance_by,
    reasons_of,
    total,
    trade_of,
)
from bot.report.why import details
from bot.run.curve import MOST as POINTS
from bot.times import iso

ROWS: Final = 1_000  # of a table, the newest
_SECOND_NS: Final = 1_000_000_000

_MISSING: Final = (
    "candles, data quality and latency: they are of the run itself; bot report RECORDING has them",
    "the text of the wire: bot report RECORDING has it",
    "Sharpe, Sortino, turnover: bot report RECORDING has them of a paper account",
    "where each setting came from: what it was is stored",
    "the versions of all distributions but the bot's own, and the commit",
)


def report_of_stored(connection: Connection, run: RowMapping) -> Report:
    """Return the report of a run that is in a database."""
    rows = _Rows(connection, run["id"])
    entries = {entry.id: entry for entry in _entries(rows)}
    config: Mapping[str, Any] = run["config"] or {}
    policy: Mapping[str, Any] = config.get("policy") or {}
    made, grouping = _fills(rows)
    trades = matched(rows.positions, grouping.made_by)
    return Report(
        source=run["name"] or f"run {run['id']}", mode=run["mode"],
        network=run["network"] or run["chain_id"], account=run["account"], made_by="",
        began=iso(run["began"]), ended=iso(run["ended"]) if run["ended"] else None,
        complete=run["ended"] is not None, profile=str(config.get("profile", "")),
        strategy=str(config.get("strategy", "")), guarded=config.get("guard"),
        run_hash=run["run_hash"], versions={"bot": run["version"]}, commit=None, frames=None,
        tickers=tuple(sorted({row["ticker"] for row in rows.positions})),
        wrong=tuple(_wrong(run, rows)), missing=_MISSING, left_out=tuple(rows.left_out),
        summary=tuple(_summary(run, rows)),
        performance=performance_by(rows.positions), settings=tuple(_settings("", config)),
        settings_hash=run["config_hash"] or None, curve=_curve(connection, run, policy),
        levels=_levels(config, policy), most_leverage=policy.get("max_leverage"),
        trades=tuple(trade_of(*each) for each in reversed(trades)), fills=made,
        by_market=by_market(rows.positions),
        reasons=reasons_of((v["kind"], v["reason"], v["id"]) for v in reversed(rows.verdicts)),
        decisions=_ids(rows.decisions), verdicts=_ids(rows.verdicts),
        guard=_ids(row for row in rows.verdicts if row["kind"] == "reduce"),
        acts=tuple(name for name in entries if name[0] == "A")[::-1],
        gate=tuple(name for name in entries if name[0] == "G")[::-1],
        entries=entries, costs=tuple(_costs(rows)), funding=tuple(_funding(rows)),
        errors=tuple(_errors(connection, run["id"], rows)),
    )  # fmt: skip


# === Reading ===


class _Rows:
    """The newest rows of a run, newest first, and in words what was left out."""

    def __init__(self, connection: Connection, run_id: int) -> None:
        self.left_out: list[str] = []
        self._connection, self._run_id = connection, run_id
        self.decisions = self._newest(decisions, decisions.c.at)
        self.verdicts = self._newest(verdicts, verdicts.c.at)
        self.orders = self._newest(orders, orders.c.created)
        self.fills = self._newest(fills, fills.c.at)
        self.positions = self._newest(positions, positions.c.opened)
        self.payments = self._newest(funding_payments, funding_payments.c.at)
        self.states = self._newest(states, states.c.n)

    def _newest(self, table: Table, by: ColumnElement[Any]) -> Sequence[RowMapping]:
        mine = table.c.run_id == self._run_id
        there = self._connection.scalar(select(func.count()).select_from(table).where(mine)) or 0
        if there > ROWS:
            name = table.name.replace("_", " ")
            self.left_out.append(f"{there - ROWS:,} of {there:,} {name}, the oldest")
        query = select(table).where(mine).order_by(by.desc()).limit(ROWS)
        return self._connection.execute(query).mappings().all()


def _ids(rows: Iterable[RowMapping]) -> tuple[str, ...]:
    return tuple(row["id"] for row in rows)


# === What happened ===


def _entries(rows: _Rows) -> Iterator[Entry]:
    """Yield what happened as the journal had it: order by order as it stands, oldest first."""
    named = {row["order_id"]: row["id"] for row in rows.orders}
    tables: tuple[tuple[Sequence[RowMapping], str, str], ...] = (
        (rows.decisions, "decision", ""), (rows.verdicts, "", "decision_id"),
        (rows.orders, "order", "verdict_id"), (rows.fills, "fill", "order_id"),
    )  # fmt: skip
    for found, kind, parent in tables:
        for row in reversed(found):
            cause = row[parent] if parent else ""
            at, seq = row.get("at", row.get("updated")), row.get("seq", 0)
            yield Entry(
                id=row["id"], kind=kind or row["kind"], at=iso(at), seq=seq,
                ticker=row["ticker"], words=one_line(row["words"]), parent=named.get(cause, cause),
                details=_details(row.get("data")), frames=(seq,) if seq else (),
            )  # fmt: skip
    counts = {"gate": 0, "act": 0}
    for row in reversed(rows.states):
        if (kind := row["what"]) in counts:
            counts[kind] += 1
            yield Entry(
                id=f"{kind[0].upper()}{counts[kind]}", kind=kind, at=iso(row["at"]),
                seq=row["seq"], ticker="", words=one_line(row["words"]), frames=(row["seq"],),
            )  # fmt: skip


def _details(data: Any) -> tuple[str, ...]:
    """Return the figures of a stored value; none where they are not as this version has them."""
    if not isinstance(data, dict):
        return ()
    try:
        return tuple(map(one_line, details(_named(data))))
    except (AttributeError, TypeError, ValueError, LookupError):
        return ()


def _named(value: Any) -> Any:
    """Return plain data with names in place of keys."""
    if isinstance(value, dict):
        return SimpleNamespace(**{str(name): _named(each) for name, each in value.items()})
    return [_named(each) for each in value] if isinstance(value, list) else value


def _fills(rows: _Rows) -> tuple[tuple[Fill, ...], Grouping]:
    """Return the fills, newest first, and which position each is of: by what they add up to."""
    named = {row["order_id"]: row["id"] for row in rows.orders}
    grouping, held, found = Grouping(), dict[str, Decimal](), list[Fill]()
    for row in reversed(rows.fills):
        ticker, size = row["ticker"], Decimal(row["size"])
        before, change = held.get(ticker, Decimal(0)), size if row["side"] == "BUY" else -size
        grouping.take(row["id"], ticker, before, change)
        held[ticker] = before + change
        order = named.get(row["order_id"], "")
        found.append(fill_of(row, order, is_exit=row["id"] in grouping.exits))
    return tuple(reversed(found)), grouping


# === How it stood ===


def _curve(connection: Connection, run: RowMapping, policy: Mapping[str, Any]) -> EquityPart:
    """Return how the account went, in as many points as a curve has, no extreme left out."""
    at, of = equity_points.c.at, equity_points.c
    mine = of.run_id == run["id"]
    low, high = connection.execute(select(func.min(at), func.max(at)).where(mine)).one()
    if low is None:
        return EquityPart()
    width = max((high - low) // POINTS + 1, _SECOND_NS)
    part = (at - low) // width
    grouped = connection.execute(
        select(func.max(at), func.min(of.equity), func.max(of.equity), func.max(of.drawdown),
               func.min(of.distance), func.max(of.leverage))
        .where(mine).group_by(part).order_by(part)
    ).all()  # fmt: skip
    ends = connection.execute(
        select(at, of.equity).where(mine, at.in_([row[0] for row in grouped]))
    )
    worth = {row[0]: row[1] / 1e6 for row in ends}
    equity = tuple(worth[row[0]] for row in grouped)
    deposit = run["deposit"]
    return EquityPart(
        at=tuple(row[0] for row in grouped), seqs=(0,) * len(grouped), equity=equity,
        low=tuple(row[1] / 1e6 for row in grouped), high=tuple(row[2] / 1e6 for row in grouped),
        profit=tuple(one - equity[0] for one in equity),
        fall=tuple(row[3] or 0.0 for row in grouped),
        distance=tuple(row[4] for row in grouped), leverage=tuple(row[5] for row in grouped),
        every_s=width / 1e9, deposited=None if deposit is None else deposit / 1e6,
        most_fall=policy.get("max_drawdown"), act_below=policy.get("act_below"),
    )  # fmt: skip


def _levels(config: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, float]:
    if not config.get("guard"):
        return {}
    return {words: policy[name] for words, name in LEVELS.items() if policy.get(name)}


def _summary(run: RowMapping, rows: _Rows) -> Iterator[Named]:
    parts = {name: total(row[name] for row in rows.positions)
             for name in ("realized", "unrealized", "funding", "fees")}  # fmt: skip
    words = ", ".join(f"{name} {amount}" for name, amount in parts.items())
    yield Named(name="positions", words=f"{len(rows.positions):,}: {words} USDC")
    if run["deposit"] is not None:
        yield Named(name="deposit", words=f"{usdc(run['deposit'])} USDC")
    left = [row for row in rows.positions if row["status"] in ("OPEN", "LEFT")]
    held = ", ".join(f"{row['ticker']} {row['size']}" for row in left)
    yield Named(name="left", words=held or "none left")
    yield Named(name="state", words=run["state"] or "not known")


def _wrong(run: RowMapping, rows: _Rows) -> Iterator[str]:
    if run["ended"] is None:
        yield "this run has not ended, or was killed: its last rows may be missing"
    troubles = {row["state"]: row["words"] for row in rows.states if row["what"] == "trouble"}
    yield from (f"{who}: {one_line(words)}" for who, words in troubles.items() if words)


def _settings(path: str, value: Any) -> Iterator[Setting]:
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _settings(f"{path}.{name}" if path else str(name), each)
        return
    shown = one_line(json.dumps(value, ensure_ascii=False))
    yield Setting(path=path, value=shown, origin=None)


def _costs(rows: _Rows) -> Iterator[Cost]:
    by_kind: dict[str, list[int | None]] = {"fees": [], "insurance fund": []}
    for row in rows.fills:
        by_kind["insurance fund" if row["type"] == "LIQUIDATED" else "fees"].append(row["fee"])
    for kind, fees in by_kind.items():
        yield Cost(kind=kind, paid=total(fees))
    yield Cost(kind="funding", paid=total(-(row["quote"] or 0) for row in rows.payments))


def _funding(rows: _Rows) -> Iterator[Payment]:
    for row in rows.payments:
        received = usdc(row["quote"] or 0)
        yield Payment(at=iso(row["at"]), ticker=row["ticker"], size=row["size"], received=received)


def _errors(connection: Connection, run_id: int, rows: _Rows) -> Iterator[Trouble]:
    of, count = errors.c, func.sum(errors.c.count)
    query = (
        select(of["class"], of.endpoint, count, func.max(of.sample))
        .where(of.run_id == run_id).group_by(of["class"], of.endpoint)
        .order_by(count.desc()).limit(ROWS)
    )  # fmt: skip
    for kind, endpoint, times, sample in connection.execute(query):
        yield Trouble(kind=kind, endpoint=endpoint, count=int(times), sample=one_line(sample))
