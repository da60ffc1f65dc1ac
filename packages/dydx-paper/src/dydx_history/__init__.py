"""What a ledger remembers of one subaccount, and what to think of it.

    records, points ──► History ──► page_of ──► Page: newest first, filtered
    sums ─────────────► Tally ────┐
                History.points ───┴──► performance ──► Performance

Records are what happened, frozen: orders as they stand, fills, positions, funding, transfers
and the hourly profit. `History` keeps them within its `Caps`, `Tally` sums up a whole life,
`performance` is an opinion on both, on conventions that it states.

Units: money is quote quantums (1e-6 USDC), sizes are signed quantums, positive for long, prices
subticks, times unix nanoseconds. Floats appear in `Performance` alone. Nothing here changes an
account or grows without bound. Source: indexer comlink, whose questions these are.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from dydx_conn import Subaccount

__all__ = [
    "NEVER", "Caps", "FillRecord", "FundingRecord", "History", "HistoryError", "Judged",
    "OrderRecord", "Page", "Performance", "PnlPoint", "PositionRecord", "Stamp", "Tally",
    "TransferRecord", "page_of", "performance",
]  # fmt: skip

# === Errors ===


class HistoryError(Exception):
    """The caller asked for a page that cannot be."""


# === Values ===


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """When something happened: the frame that caused it, its time, the chain's, its block."""

    seq: int = 0
    at: int = 0
    time_ns: int = 0
    height: int = 0


NEVER: Final = Stamp()


class OrderRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order as it stands, under the indexer's id; `quantums` and `filled` are unsigned."""

    id: str
    ticker: str
    side: str
    quantums: int
    subticks: int
    filled: int = 0
    status: str = "OPEN"
    reason: str = ""
    time_in_force: str = "GTT"
    order_flags: int = 0
    client_id: int = 0
    reduce_only: bool = False
    created: Stamp = NEVER
    updated: Stamp = NEVER


class FillRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A fill as it was booked: `quote` is paid if positive, `gain` is what it closed earned.

    `fee` is all that was charged for it, `builder_fee` the builder's part of that.
    """

    id: str
    order_id: str
    ticker: str
    quantums: int
    subticks: int
    quote: int
    fee: int
    builder_fee: int
    insurance: int
    gain: int
    liquidity: str
    status: str
    created: Stamp


class PositionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One position from its opening to now or its end.

    `opened` and `closed` are unsigned sums, their costs sums of quantums times subticks.
    `realized` holds funding and no fees; `unrealized` is None without an oracle price.
    """

    id: str
    ticker: str
    status: str
    is_long: bool
    quantums: int
    peak: int
    opened: int
    open_cost: int
    closed: int
    close_cost: int
    fees: int
    net_funding: int
    realized: int
    unrealized: int | None
    created: Stamp
    ended: Stamp | None

    @property
    def entry(self) -> Fraction | None:
        """Return the average entry price in subticks, exact."""
        return Fraction(self.open_cost, self.opened) if self.opened else None

    @property
    def exit(self) -> Fraction | None:
        """Return the average exit price in subticks, exact; None if nothing was closed."""
        return Fraction(self.close_cost, self.closed) if self.closed else None


class FundingRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one position was credited (positive) or paid, floored as the indexer shows it."""

    position_id: str
    ticker: str
    quantums: int
    index: int
    credited: int
    created: Stamp
    status: str = ""


class TransferRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Collateral that came (positive) or went; `other` is the subaccount at the other end."""

    quote_quantums: int
    other: Subaccount | None = None
    created: Stamp = NEVER
    ticker: str = "USDC"

    @property
    def status(self) -> str:
        """Return the indexer's word for it."""
        comes = self.quote_quantums > 0
        if self.other is None:
            return "DEPOSIT" if comes else "WITHDRAWAL"
        return "TRANSFER_IN" if comes else "TRANSFER_OUT"


class PnlPoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the account was worth at a moment; `equity` is None if a position had no price."""

    equity: int | None
    net_transfers: int
    created: Stamp

    @property
    def total_pnl(self) -> int | None:
        """Return the equity that was not brought in."""
        return None if self.equity is None else self.equity - self.net_transfers


# === History ===
# What people ask about afterwards: newest first, fifty at a time, and never more than is kept.


class Caps(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How many of each are kept; the oldest go first, of orders the oldest that have ended.

    A fill reported twice is recognised for as long as the first report is kept.
    """

    orders: int = 1_000
    fills: int = 10_000
    positions: int = 1_000
    payments: int = 10_000
    transfers: int = 1_000
    points: int = 17_520  # two years of hours


Row = TypeVar(
    "Row", OrderRecord, FillRecord, PositionRecord, FundingRecord, TransferRecord, PnlPoint
)

PAGE: Final = 50
_MOST_PER_PAGE: Final = 1_000
_LIVE: Final = frozenset({"OPEN", "UNTRIGGERED", "BEST_EFFORT_OPENED", "BEST_EFFORT_CANCELED"})


class Page(msgspec.Struct, Generic[Row], frozen=True, gc=False, kw_only=True):
    """Some of what was asked for: `total` rows match, page `page` (from 1) holds `rows`."""

    rows: tuple[Row, ...]
    total: int
    page: int
    limit: int


def page_of(
    rows: Iterable[Row], *, status: str | Collection[str] = (), ticker: str = "",
    since_ns: int | None = None, until_ns: int | None = None, page: int = 1, limit: int = PAGE,
) -> Page[Row]:  # fmt: skip
    """Choose among rows, oldest first, and return one page of them, newest first.

    Created at `since_ns` or later and before `until_ns`, in chain time. The status of a fill is
    its type, that of a transfer its direction. Raises `HistoryError` for a page before the
    first or a limit that is not 1 to 1,000.
    """
    if page < 1 or not 1 <= limit <= _MOST_PER_PAGE:
        expected = f"a page from 1 and a limit of 1 to {_MOST_PER_PAGE}"
        raise HistoryError(f"expected {expected}, got page {page}, limit {limit}")
    wanted = {status} if isinstance(status, str) else set(status)
    found = [
        row
        for row in rows
        if (not wanted or getattr(row, "status", "") in wanted)
        and (not ticker or getattr(row, "ticker", "") == ticker)
        and (since_ns is None or row.created.time_ns >= since_ns)
        and (until_ns is None or row.created.time_ns < until_ns)
    ]
    found.reverse()
    first = (page - 1) * limit
    return Page(rows=tuple(found[first : first + limit]), total=len(found), page=page, limit=limit)


class History:
    """What a ledger remembers, within its caps; every question takes the filters of `page_of`."""

    def __init__(self, caps: Caps):
        self.caps = caps
        self._orders: OrderedDict[str, OrderRecord] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._fills: OrderedDict[str, FillRecord] = OrderedDict()
        self.ended: deque[PositionRecord] = deque(maxlen=caps.positions)
        self._payments: deque[FundingRecord] = deque(maxlen=caps.payments)
        self._transfers: deque[TransferRecord] = deque(maxlen=caps.transfers)
        self.points: deque[PnlPoint] = deque(maxlen=caps.points)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment] # what changes is no key

    def orders(self, **filters: Any) -> Page[OrderRecord]:
        """Return orders as they stand, by when they were created."""
        return page_of(self._orders.values(), **filters)

    def fills(self, order_id: str = "", **filters: Any) -> Page[FillRecord]:
        """Return fills, of one order if it is named."""
        fills = self._fills.values()
        chosen = (fill for fill in fills if not order_id or fill.order_id == order_id)
        return page_of(chosen, **filters)

    def closed_positions(self, **filters: Any) -> Page[PositionRecord]:
        """Return positions that have ended, the last to end first."""
        return page_of(self.ended, **filters)

    def payments(self, position_id: str = "", **filters: Any) -> Page[FundingRecord]:
        """Return funding payments, of one position if it is named."""
        payments = self._payments
        chosen = (paid for paid in payments if not position_id or paid.position_id == position_id)
        return page_of(chosen, **filters)

    def transfers(self, **filters: Any) -> Page[TransferRecord]:
        """Return deposits, withdrawals and transfers between subaccounts."""
        return page_of(self._transfers, **filters)

    def pnl(self, **filters: Any) -> Page[PnlPoint]:
        """Return the historical profit."""
        return page_of(self.points, **filters)

    def knows_fill(self, id_: str) -> bool:
        """Tell whether a fill of this id was booked, as far back as fills are kept."""
        return id_ in self._fills

    def keep_order(self, order: OrderRecord) -> None:
        """Remember how an order stands; it keeps its place and the moment of its creation."""
        known = self._orders.get(order.id)
        if known is not None:
            order = msgspec.structs.replace(order, created=known.created)
        self._orders[order.id] = order
        self._ended.pop(order.id, None)
        if order.status not in _LIVE:
            self._ended[order.id] = None
        if len(self._orders) > self.caps.orders:
            oldest = next(iter(self._ended or self._orders))
            self._ended.pop(oldest, None)
            del self._orders[oldest]

    def keep_fill(self, fill: FillRecord) -> None:
        """Remember a fill."""
        self._fills[fill.id] = fill
        if len(self._fills) > self.caps.fills:
            self._fills.popitem(last=False)

    def keep(self, row: PositionRecord | FundingRecord | TransferRecord | PnlPoint) -> None:
        """Remember what only ever comes once."""
        shelves: dict[type, deque[Any]] = {
            PositionRecord: self.ended, FundingRecord: self._payments,
            TransferRecord: self._transfers, PnlPoint: self.points,
        }  # fmt: skip
        shelves[type(row)].append(row)


# === Tally ===


class Tally(msgspec.Struct, gc=False, kw_only=True):
    """Sums over the whole life of a ledger, whatever its history forgets.

    A trade is a position from its opening to its end; its profit is after funding and fees.
    Volumes are unsigned quote quantums; `exposed_ns` is time with any position open.
    """

    won: int = 0
    lost: int = 0
    even: int = 0
    gross_profit: int = 0
    gross_loss: int = 0
    maker_volume: int = 0
    taker_volume: int = 0
    exposed_ns: int = 0
    held_since_ns: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def see(self, when: Stamp) -> None:
        """Take a moment in; one without a time says nothing."""
        self.first_ns = self.first_ns or when.time_ns
        self.last_ns = max(self.last_ns, when.time_ns)

    def end(self, profit: int) -> None:
        """Count a trade that has ended."""
        self.won += profit > 0
        self.lost += profit < 0
        self.even += not profit
        self.gross_profit += max(0, profit)
        self.gross_loss += max(0, -profit)


# === Performance ===
# Opinions, hence floats, on conventions stated here. A figure that does not exist is None.

_HOUR_NS: Final = 3_600 * 10**9
_HOURS_A_YEAR: Final = 24 * 365


class Performance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a ledger did. Money is quote quantums; ratios are fractions (0.06 is six per cent).

    A trade is a position from its opening to its end, its profit after funding and fees; an even
    one is neither won nor lost but counts in `win_rate`. These and the totals run over the
    ledger's whole life, the rest over the points that its history keeps.

    - `profit_factor`: gross profit over gross loss; None without a loss.
    - `max_drawdown`: the deepest fall of equity less transfers from its peak, as money;
      `max_drawdown_ratio`: of one unit invested at the first point, transfers taken out;
      `drawdown_ns`: from the peak of the former until it was reached again, or the last point.
    - `sharpe`, `sortino`: hourly returns, annualised by sqrt(24 * 365), risk-free rate 0. A
      return lies between the last points of two hours that follow on each other; transfers are
      taken out. Sharpe divides by the sample's standard deviation, Sortino by the root of
      the mean square of what is below 0. None with fewer than `least_returns`.
    - `exposure`: share of the time between first and last event with any position open.
    - `turnover`: volume traded over the mean equity of the points.

    Points without equity are left out; ratios are None if equity was ever not positive.
    """

    trades: int
    win_rate: float | None
    profit_factor: float | None
    average_win: float | None
    average_loss: float | None
    max_drawdown: int
    max_drawdown_ratio: float | None
    drawdown_ns: int
    sharpe: float | None
    sortino: float | None
    exposure: float | None
    turnover: float | None
    volume: int
    fees: int
    funding: int
    insurance: int


class Judged(Protocol):
    """What must be known of a ledger to judge it."""

    history: History
    tally: Tally
    fees_paid: int
    funding_paid: int
    insurance_paid: int


def performance(ledger: Judged, least_returns: int = 24) -> Performance:
    """Return how a ledger did, on the conventions of `Performance`."""
    tally, points = ledger.tally, [p for p in ledger.history.points if p.equity is not None]
    trades, volume = tally.won + tally.lost + tally.even, tally.maker_volume + tally.taker_volume
    fall, lasted = _drawdown(points)
    returns = _hourly_returns(points)
    if returns is not None and len(returns) < max(2, least_returns):
        returns = None
    return Performance(
        trades=trades,
        win_rate=_ratio(tally.won, trades),
        profit_factor=_ratio(tally.gross_profit, tally.gross_loss),
        average_win=_ratio(tally.gross_profit, tally.won),
        average_loss=_ratio(tally.gross_loss, tally.lost),
        max_drawdown=fall,
        max_drawdown_ratio=_drawdown_ratio(points),
        drawdown_ns=lasted,
        sharpe=_annual(returns, stdev) if returns else None,
        sortino=_annual(returns, _downside) if returns else None,
        exposure=_exposure(tally),
        turnover=_ratio(volume * len(points), sum(_equity(point) for point in points)),
        volume=volume,
        fees=ledger.fees_paid,
        funding=ledger.funding_paid,
        insurance=ledger.insurance_paid,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def _equity(point: PnlPoint) -> int:
    return point.equity or 0


def _drawdown(points: Sequence[PnlPoint]) -> tuple[int, int]:
    """Return the deepest fall of the profit and how long it took to be made up for."""
    peak, since, deepest, lasted, below = None, 0, 0, 0, False
    for point in points:
        profit, now = _equity(point) - point.net_transfers, point.created.time_ns
        if below:  # the deepest fall until now is the one we are in
            lasted = now - since
        if peak is None or profit >= peak:
            peak, since, below = profit, now, False
        elif peak - profit > deepest:
            deepest, lasted, below = peak - profit, now - since, True
    return deepest, lasted


def _drawdown_ratio(points: Sequence[PnlPoint]) -> float | None:
    grown = peak = 1.0
    deepest = 0.0
    for before, after in pairwise(points):
        if _equity(before) <= 0:
            return None
        grown *= 1 + _return(before, after)
        peak = max(peak, grown)
        deepest = max(deepest, 1 - grown / peak)
    return deepest if len(points) > 1 else None


def _hourly_returns(points: Sequence[PnlPoint]) -> list[float] | None:
    last_of_hour = {point.created.time_ns // _HOUR_NS: point for point in points}
    if any(_equity(point) <= 0 for point in last_of_hour.values()):
        return None
    pairs = pairwise(sorted(last_of_hour.items()))
    return [_return(a, b) for (hour, a), (following, b) in pairs if following == hour + 1]


def _return(before: PnlPoint, after: PnlPoint) -> float:
    moved = after.net_transfers - before.net_transfers
    return (_equity(after) - _equity(before) - moved) / _equity(before)


def _downside(returns: Sequence[float]) -> float:
    return sqrt(fmean(min(0.0, r) ** 2 for r in returns))


def _annual(
    returns: Sequence[float], deviation: Callable[[Sequence[float]], float]
) -> float | None:
    spread = deviation(returns)
    return fmean(returns) / spread * sqrt(_HOURS_A_YEAR) if spread > 0 else None


def _exposure(tally: Tally) -> float | None:
    open_now = tally.last_ns - tally.held_since_ns if tally.held_since_ns else 0
    return _ratio(tally.exposed_ns + open_now, tally.last_ns - tally.first_ns)
