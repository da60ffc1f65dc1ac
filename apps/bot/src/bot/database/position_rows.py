"""Positions and funding as rows: of a paper account its ledger's own, of a real one as reported.

    AccountUpdate ──► PaperHoldings (asks the ledger) ──┐
                  └─► WireHoldings (adds up fills) ─────┴──► rows of positions, funding_payments

A row is a position from its opening to its end. Money is in quote quantums; `realized` is what
closing has earned, before fees and funding, which have columns of their own.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from operator import add
from typing import Any, Final, Protocol

import msgspec
from dydx_conn import (
    AccountFill,
    AccountUpdate,
    FundingPaymentFields,
    PerpetualMarket,
    PositionState,
    event_id,
    instant,
)
from dydx_paper import FundingRecord, LedgerPosition, PaperVenue, PositionRecord
from dydx_risk import PositionFigures

Row = dict[str, Any]
Named = tuple[str, Row]


class Holdings(Protocol):
    """What an account holds, as rows of it."""

    def take(self, update: AccountUpdate) -> Iterable[Named]:
        """Return the rows of what an update changed."""

    def look(self, at: int) -> Iterable[Named]:
        """Return the rows of what is open, at its present value."""


def holdings_of(
    venue: Any, account: str, positions: Callable[[], Iterable[PositionFigures]]
) -> Holdings:
    """Return the holdings of an account: a paper ledger's own, or as the wire reports them."""
    if isinstance(venue, PaperVenue):
        return PaperHoldings(venue)
    return WireHoldings(account, positions)


def text(number: Decimal | None) -> str:
    """Write a number as the venue does, "" for none."""
    if number is None:
        return ""
    return f"{number.normalize():f}" if number else "0"


def quote(usdc: Decimal | str) -> int:
    """Return USDC as quote quantums."""
    return int((Decimal(usdc) * 10**6).to_integral_value())


# === Paper ===
# The ledger knows all of it, to the quantum, and goes on knowing it in a run that resumes.


class PaperHoldings:
    """What a paper account holds."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue  # whose ledger is another one once it goes on where a run stopped
        self._open: dict[str, LedgerPosition] = {}
        self._markets: dict[str, PerpetualMarket] = {}
        self._most: dict[str, int] = {}
        self._paid_until = 0
        self._known = False

    def take(self, update: AccountUpdate) -> Iterator[Named]:
        """Return the positions that may have changed."""
        if not self._known and update.collateral is not None:
            self._known = True
            # A row that was written and a ledger's event that was not, when a run was killed.
            yield "positions_left", {"at": update.at, "open": self._ids}
        if update.fills or update.positions or update.settled:
            yield from self._positions(update.at)

    def look(self, at: int) -> Iterator[Named]:
        """Return what is open, or was when this was called last, and what was paid since.

        An account that is paid funding may get no update for hours: none comes with a payment.
        """
        yield from self._positions(at)
        for paid in reversed(self._payments()):
            self._paid_until = paid.created.time_ns + 1
            yield "funding_payments", self._payment(paid)

    def _positions(self, at: int) -> Iterator[Named]:
        ledger = self._venue.ledger
        holdings = ledger.holdings
        ended = [each for each in self._open.values() if each.ended is not None]
        most: dict[str, int] = {}
        for holding in (*ended, *holdings.values()):
            self._markets[holding.market.ticker] = holding.market
            record = ledger.standing(holding)
            # Of a short the venue's own number, and so the ledger's, is the least that was held.
            seen = self._most.get(record.id, 0), record.indexed.peak, record.quantums
            most[record.id] = max(seen, key=abs)
            yield "positions", _paper_row(record, holding, at, most[record.id])
        self._open, self._most = dict(holdings), most

    @property
    def _ids(self) -> list[str]:
        ledger = self._venue.ledger
        return [ledger.standing(holding).id for holding in ledger.holdings.values()]

    def _payments(self) -> Sequence[FundingRecord]:
        return self._venue.ledger.history.payments(since_ns=self._paid_until, limit=1_000).rows

    def _payment(self, paid: FundingRecord) -> Row:
        market = self._markets.get(paid.ticker)
        size = "" if market is None else text(market.size(paid.quantums))
        at = paid.created.time_ns
        return {"ticker": paid.ticker, "at": at, "size": size, "rate": None, "quote": paid.credited}


def _paper_row(record: PositionRecord, holding: LedgerPosition, at: int, peak: int) -> Row:
    market, sums = holding.market, record.indexed
    entry = holding.cost / holding.quantums if holding.quantums else None
    # Quote quantums a quantum, of which the exponent makes USDC a base unit.
    shift = -6 - market.atomic_resolution
    average = None if entry is None else Decimal(round(entry * 10**24)).scaleb(shift - 24)
    return {
        "position_id": record.id,
        "ticker": record.ticker,
        "side": "LONG" if record.is_long else "SHORT",
        "status": record.status,
        "size": text(market.size(record.quantums)),
        "max_size": text(market.size(peak)),
        "entry_price": text(sums.entry if average is None else average),
        "exit_price": text(sums.exit),
        "realized": record.realized - record.net_funding,
        "unrealized": record.unrealized,
        "funding": record.net_funding,
        "fees": record.fees,
        "opened": record.created.time_ns or at,
        "closed": record.ended.time_ns or at if record.ended else None,
        "updated": at,
    }


# === Wire ===
# What the venue reports of a real account: sizes and entry prices as it has them, and by each fill
# what closing earned. A position that was held before the run begins with it.


_ZERO: Final = Decimal(0)
_Change = tuple[Decimal, Decimal, Decimal]  # a size that was closed, for how much, and its gain
_NOTHING: Final[_Change] = (_ZERO, _ZERO, _ZERO)
_LATE_BLOCKS: Final = 64  # as dydx_conn has it
_MOST_CLOSES: Final = 4_096


class _Open(msgspec.Struct, kw_only=True):
    ticker: str
    opened: int
    size: Decimal
    entry: Decimal
    peak: Decimal
    out: Decimal = _ZERO  # how much was closed, and for what
    taken: Decimal = _ZERO
    realized: Decimal = _ZERO
    funding: Decimal = _ZERO
    fees: int = 0
    closed: int | None = None
    id: str = ""


class _Lot:
    """What the fills of a market add up to, in their order on the chain, in whichever they come."""

    def __init__(self, size: Decimal = _ZERO, entry: Decimal = _ZERO) -> None:
        self.size = size
        self._base = size, entry
        self._fills: list[AccountFill] = []  # the newest: an earlier one may still come
        self._closed: dict[str, _Change] = {}

    def take(self, fill: AccountFill) -> list[tuple[str, _Change]]:
        """Return by which fills more, or less, was closed than before; each is named by its id."""
        insort(self._fills, fill, key=lambda each: (each.height, each.event_id))
        while self._fills[0].height < self._fills[-1].height - _LATE_BLOCKS:
            oldest = self._fills.pop(0)
            self._base = _folded(*self._base, oldest)[:2]
            self._closed.pop(oldest.id, None)
        (self.size, entry), changes = self._base, []
        for each in self._fills:
            self.size, entry, closed = _folded(self.size, entry, each)
            before = self._closed.get(each.id, _NOTHING)
            self._closed[each.id] = closed
            if closed != before:
                changes.append(
                    (each.id, (closed[0] - before[0], closed[1] - before[1], closed[2] - before[2]))
                )
        return changes


def _folded(size: Decimal, entry: Decimal, fill: AccountFill) -> tuple[Decimal, Decimal, _Change]:
    """Return size and entry price after a fill, and what it closed, for how much, and its gain."""
    after = size + fill.signed
    if size * fill.signed >= 0:
        return after, (abs(size) * entry + fill.size * fill.price) / (abs(after) or 1), _NOTHING
    closed = min(abs(size), fill.size)
    gain = fill.price - entry if size > 0 else entry - fill.price
    turned = size * after < 0
    return after, fill.price if turned else entry, (closed, closed * fill.price, closed * gain)


class WireHoldings:
    """What a real account holds; `figures` values what is open."""

    def __init__(self, account: str, figures: Callable[[], Iterable[PositionFigures]]) -> None:
        self._account, self._figures = account, figures
        self._open: dict[str, _Open] = {}
        # The fills that end a position are reported after its end, or before its beginning.
        self._ended: dict[str, _Open] = {}
        self._fees: dict[str, int] = {}
        # Size and entry price as the fills add up: sizes are reported before them, and after.
        self._lots: dict[str, _Lot] = {}
        self._closes: dict[str, _Open | None] = {}  # what a fill of the newest has closed
        self._known = False

    def take(self, update: AccountUpdate) -> Iterator[Named]:
        """Return the positions that changed, those that ended, and payments."""
        if (
            not self._known and update.collateral is not None
        ):  # the snapshot, which has what was held before the run
            self._known = True
            for state in update.positions:
                self._lots[state.ticker] = _Lot(state.size, state.entry_price)
            # What an earlier run left open goes on as a row of this one, or has ended since.
            yield "positions_left", {"at": update.at}
        touched = {held.id: held for fill in update.fills for held in self._fill(fill)}
        for payment in update.funding:
            if (open_ := self._open.get(payment.ticker)) is not None:
                open_.funding += Decimal(payment.payment)
                touched[open_.id] = open_
            yield "funding_payments", _payment_row(payment)
        for state in update.positions:
            touched |= {held.id: held for held in self._move(state, update.at)}
        for held in touched.values():
            yield "positions", _wire_row(held, update.at)

    def look(self, at: int) -> Iterator[Named]:
        """Return the rows of what is open, at its present value."""
        if not self._open:
            return
        gains = {row.ticker: row.unrealized_pnl for row in self._figures()}
        for held in self._open.values():
            gain = gains.get(held.ticker)
            yield "positions", _wire_row(held, at, None if gain is None else quote(gain))

    def _fill(self, fill: AccountFill) -> Iterator[_Open]:
        # Yield the positions that it changes: those that have ended, too.
        lot = self._lots.setdefault(fill.ticker, _Lot())
        closes = lot.size * fill.signed < 0
        held = self._of(fill.ticker, lot.size if closes else fill.signed)
        for each, change in lot.take(fill):
            if (of := self._closes.setdefault(each, held)) is not None:
                of.out, of.taken, of.realized = map(add, (of.out, of.taken, of.realized), change)
                yield of
        while len(self._closes) > _MOST_CLOSES:
            del self._closes[next(iter(self._closes))]
        if held is None:
            self._fees[fill.ticker] = self._fees.get(fill.ticker, 0) + fill.fee
        else:
            held.fees += fill.fee
            yield held

    def _of(self, ticker: str, size: Decimal) -> _Open | None:
        # Which position a size is of, by its side: one that has turned has ended.
        both = self._open.get(ticker), self._ended.get(ticker)
        return next((held for held in both if held is not None and held.peak * size > 0), None)

    def _move(self, state: PositionState, at: int) -> Iterator[_Open]:
        held = self._open.get(state.ticker)
        if held is not None and held.size * state.size <= 0:  # it ended, or turned
            held.closed = at
            yield held
            self._ended[state.ticker] = self._open.pop(state.ticker)
            held = None
        if not state.size:
            return
        if held is None:
            held = self._open[state.ticker] = _Open(
                ticker=state.ticker, opened=at, size=state.size, entry=state.entry_price,
                peak=state.size, fees=self._fees.pop(state.ticker, 0),
                id=event_id(self._account, state.ticker, at),
            )  # fmt: skip
        held.size, held.entry = state.size, state.entry_price or held.entry
        held.peak = max(held.peak, held.size, key=abs)
        yield held


def _wire_row(held: _Open, at: int, gain: int | None = None) -> Row:
    ended = held.closed is not None
    return {
        "position_id": held.id,
        "ticker": held.ticker,
        "side": "LONG" if held.peak > 0 else "SHORT",
        "status": "CLOSED" if ended else "OPEN",
        "size": "0" if ended else text(held.size),
        "max_size": text(held.peak),
        "entry_price": text(held.entry),
        "exit_price": text(held.taken / held.out) if held.out else "",
        "realized": quote(held.realized),
        "unrealized": 0 if ended else gain,
        "funding": quote(held.funding),
        "fees": held.fees,
        "opened": held.opened,
        "closed": held.closed,
        "updated": at,
    }


def _payment_row(paid: FundingPaymentFields) -> Row:
    return {
        "ticker": paid.ticker, "at": instant(paid.created_at), "size": paid.size,
        "rate": paid.rate, "quote": quote(paid.payment),
    }  # fmt: skip
