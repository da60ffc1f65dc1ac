"""What an account did before a run that goes on with it, as the run's dashboard shows it.

    database ──► earlier_of ──► Earlier ──► dress ──► a snapshot that begins with it

Read once, before the first frame, and shown alone: nothing is decided by it, no recording has it,
and the report of a run is of that run. A database that cannot be read shows nothing: whoever reads
what goes on has warned of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from dydx_conn import ConnError, PerpetualMarket, Subaccount
from dydx_panels import EquityPart, OrderRow, SafetyPart, Snapshot, TapeRow
from msgspec.structs import asdict, replace
from sqlalchemy import Connection, Select, func, select

from bot.database.tables import engine_of, equity_points, explained, fills, orders, runs
from bot.run.curve import MOST, SECOND_NS, Columns, Row, columns_of, thinned
from bot.run.executed import SeenOrder
from bot.run.resume import Left

POINTS: Final = 20_000  # read, the newest: five hours of a point a second, or two weeks at rest
ROWS: Final = 50
RUNS: Final = 100
# What may still stand is this run's to show.
_OPEN: Final = ("PENDING", "OPEN", "PARTIALLY_FILLED")


def earlier_of(url: str, chain_id: str, account: Subaccount, left: Left, mode: str) -> "Earlier":
    """Read what an account did until the run that `left` it; nothing if that cannot be read.

    `mode` is that of its runs, paper or trade: one does not go on with the other's account.
    """
    of = runs.c
    mine = select(of.id).where(
        of.chain_id == chain_id, of.account == str(account), of.mode == mode,
        of.ledger == left.ledger, of.id <= left.run,
    )  # fmt: skip
    try:
        engine = engine_of(url)
        try:
            with explained(url), engine.connect() as connection:
                numbers = [*connection.scalars(mine.order_by(of.id.desc()).limit(RUNS))]
                points = map(_point, _newest(connection, numbers, POINTS, _points_of))
                return Earlier(
                    sorted(points, key=itemgetter(0)),
                    _orders(connection, numbers), _tape(connection, numbers),
                )  # fmt: skip
        finally:
            engine.dispose()
    except (ConnError, TypeError, ValueError):  # or what is there is not as it was written
        return Earlier()


# === Reading ===
# Run by run from the newest on, as far as is needed: each is found by an index, whatever there is.
# O3 of run 7 is 7/O3 on the dashboard: this run has an O3 of its own.


def _newest(
    connection: Connection, numbers: Sequence[int], count: int, of: Callable[[int], Select[Any]]
) -> Iterator[Any]:
    for number in numbers:
        if count <= 0:
            return
        found = connection.execute(of(number).limit(count)).all()
        count -= len(found)
        yield from found


def _points_of(run: int) -> Select[Any]:
    of = equity_points.c
    query = select(of.at, of.equity, of.drawdown, of.distance, of.leverage)
    return query.where(of.run_id == run, of.equity.is_not(None)).order_by(of.at.desc())


def _orders_of(run: int) -> Select[Any]:
    of = orders.c
    ended = select(
        of.run_id, of.order_id, of.id, of.created, of.ticker, of.side, of.type, of.size, of.price,
        of.filled, of.status, of.reason,
    ).where(of.run_id == run, of.status.not_in(_OPEN))  # fmt: skip
    return ended.order_by(of.created.desc(), func.length(of.id).desc(), of.id.desc())


def _fills_of(run: int) -> Select[Any]:
    of = fills.c
    mine = select(fills).where(of.run_id == run)
    return mine.order_by(of.at.desc(), func.length(of.id).desc(), of.id.desc())


def _point(row: Any) -> Row:
    worth = row.equity / 1e6
    return row.at, 0, worth, worth, worth, 0.0, row.drawdown or 0.0, row.distance, row.leverage


def _orders(connection: Connection, numbers: Sequence[int]) -> dict[str, OrderRow]:
    found = [*_newest(connection, numbers, ROWS, _orders_of)]
    of = fills.c
    sums = select(of.run_id, of.order_id, func.sum(of.quote), func.sum(of.fee))
    sums = sums.where(of.order_id.in_([row.order_id for row in found]), of.run_id.in_(numbers))
    paid = {
        (run, order): (quote, fee)
        for run, order, quote, fee in connection.execute(sums.group_by(of.run_id, of.order_id))
    }
    return {
        row.order_id: _order(row, *paid.get((row.run_id, row.order_id), (None, None)))
        for row in found
    }


def _order(row: Any, quote: int | None, fee: int | None) -> OrderRow:
    filled = _number(row.filled) or 0.0
    reason = row.reason.removeprefix("ORDER_REMOVAL_REASON_").replace("_", " ").lower()
    return OrderRow(
        id=f"{row.run_id}/{row.id}", at=row.created, seq=0, run=row.run_id, ticker=row.ticker,
        side=row.side, size=_number(row.size), price=_number(row.price), filled=filled,
        average=float(quote) / 1e6 / filled if quote and filled else None, fee=int(fee or 0),
        kind="" if row.type in ("LIMIT", "MARKET") else row.type.lower().replace("_", " "),
        status=row.status, why=reason, by=f"run {row.run_id}",
    )  # fmt: skip


def _tape(connection: Connection, numbers: Sequence[int]) -> list[TapeRow]:
    return [
        TapeRow(
            at=row.at, kind="liquidated" if row.type == "LIQUIDATED" else "fill", text=row.words,
            ticker=row.ticker, id=f"{row.run_id}/{row.id}", side=row.side, run=row.run_id,
        )
        for row in _newest(connection, numbers, ROWS, _fills_of)
    ]  # fmt: skip


def _number(text: str) -> float | None:
    return float(text) if text else None


# === Showing ===


class Earlier:
    """Points of an account, oldest first; orders by the venue's ids, and fills, newest first."""

    def __init__(
        self, points: Sequence[Row] = (), orders: Mapping[str, OrderRow] | None = None,
        tape: Sequence[TapeRow] = (),
    ) -> None:  # fmt: skip
        self._orders, self._tape = {**(orders or {})}, tuple(tape)
        # How deep it was below its peak at most, in USDC, and as a share of the equity there.
        self._deepest = max(((row[2] * row[6] / (1 - row[6]), row[6]) for row in points
                             if row[6] < 1), default=(0.0, 0.0))  # fmt: skip
        self._points = _fitting([*points], [], SECOND_NS)[0]
        self._drawn: tuple[object, Columns, int] | None = None

    def dress(self, seen: Mapping[str, SeenOrder], shown: Snapshot) -> Snapshot:
        """Return what a run shows, with what was before it.

        Of what was `seen` an order that had ended before is that one: an indexer lists it again.
        """
        self._place({row.ticker: row.market for row in shown.markets})
        ours = (
            row for row in shown.orders
            if row.fills or row.id not in seen or seen[row.id].state.id not in self._orders
        )  # fmt: skip
        return replace(
            shown, equity=self._whole(shown.equity), safety=self._fallen(shown.safety),
            orders=(*ours, *self._orders.values()), tape=(*shown.tape, *self._tape),
        )  # fmt: skip

    def _place(self, markets: Mapping[str, PerpetualMarket | None]) -> None:
        """Give each order its market once that is known, for the digits of its figures."""
        for id_, row in self._orders.items():
            if row.market is None and (market := markets.get(row.ticker)) is not None:
                self._orders[id_] = replace(row, market=market)

    def _whole(self, part: EquityPart) -> EquityPart:
        """Return the curve of the account; what it is worth now only the run knows."""
        if not part.at or not self._points:
            return part
        if self._drawn is None or self._drawn[0] is not part.at:
            self._drawn = part.at, *self._joined(part)
        _, columns, every_ns = self._drawn
        known = max(self._deepest, (part.deepest or 0.0, part.deepest_share or 0.0))
        return replace(
            part, **asdict(columns), every_s=every_ns / 1e9, deepest=known[0],
            deepest_share=known[1],
        )  # fmt: skip

    def _joined(self, part: EquityPart) -> tuple[Columns, int]:
        ours: list[Row] = [
            *zip(part.at, part.seqs, part.equity, part.low, part.high, part.profit, part.fall,
                 part.distance, part.leverage, strict=True)
        ]  # fmt: skip
        # A clock that was set back makes no curve that goes back.
        before = [row for row in self._points if row[0] < part.at[0]]
        before, ours, every_ns = _fitting(before, ours, round(part.every_s * 1e9))
        return columns_of([*before, *ours]), every_ns

    def _fallen(self, safety: SafetyPart) -> SafetyPart:
        result, (usdc, share) = safety.result, self._deepest
        if result is None or result.deepest >= usdc * 1e6:
            return safety
        return replace(safety, result=replace(
            result, deepest=round(usdc * 1e6), deepest_share=share
        ))  # fmt: skip


def _fitting(before: list[Row], ours: list[Row], every_ns: int) -> tuple[list[Row], list[Row], int]:
    """Return as many points as a curve holds, and for how long one of ours stands at least."""
    while len(before) + len(ours) > MOST:
        every_ns *= 2
        before, ours = thinned(before, every_ns), thinned(ours, every_ns)
    return before, ours, every_ns
