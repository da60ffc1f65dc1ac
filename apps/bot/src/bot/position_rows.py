"""Positions and funding as rows: of a paper account its ledger's own, of a real one as reported.

    AccountUpdate ──► PaperHoldings (asks the ledger) ──┐
                  └─► WireHoldings (adds up fills) ─────┴──► rows of positions, funding_payments

A row is a position from its opening to its end. Money is in quote quantums; `realized` is what
closing has earned, before fees and funding, which have columns of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
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
from dydx_paper import FundingRecord, Ledger, LedgerPosition, PositionRecord
from dydx_risk import PositionFigures

Row = dict[str, Any]
Named = tuple[str, Row]

_MINUTE_NS: Final = 60_000_000_000


class Holdings(Protocol):
    """What an account holds, as rows of it."""

    def take(self, update: AccountUpdate) -> Iterable[Named]:
        """Return the rows of what an update changed."""

    def look(self, at: int) -> Iterable[Named]:
        """Return the rows of what is open, at its present value."""


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

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[str, LedgerPosition] = {}
        self._markets: dict[str, PerpetualMarket] = {}
        self._paid_until, self._due = 0, 0

    def take(self, update: AccountUpdate) -> Iterator[Named]:
        """Return the positions that may have changed, and payments at least once a minute."""
        if update.fills or update.positions or update.settled:
            yield from self.look(update.at)
        if update.at >= self._due:
            self._due = update.at + _MINUTE_NS
            for paid in reversed(self._payments()):
                self._paid_until = paid.created.time_ns + 1
                yield "funding_payments", self._payment(paid)

    def look(self, at: int) -> Iterator[Named]:
        """Return the rows of what is open, or was when this was called last."""
        holdings = self._ledger.holdings
        ended = [each for each in self._open.values() if each.ended is not None]
        for holding in (*ended, *holdings.values()):
            self._markets[holding.market.ticker] = holding.market
            yield "positions", _paper_row(self._ledger.standing(holding), holding, at)
        self._open = dict(holdings)

    def _payments(self) -> Sequence[FundingRecord]:
        return self._ledger.history.payments(since_ns=self._paid_until, limit=1_000).rows

    def _payment(self, paid: FundingRecord) -> Row:
        market = self._markets.get(paid.ticker)
        size = "" if market is None else text(market.size(paid.quantums))
        at = paid.created.time_ns
        return {"ticker": paid.ticker, "at": at, "size": size, "rate": None, "quote": paid.credited}


def _paper_row(record: PositionRecord, holding: LedgerPosition, at: int) -> Row:
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
        "max_size": text(market.size(sums.peak)),
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


class _Open(msgspec.Struct, kw_only=True):
    ticker: str
    opened: int
    size: Decimal
    entry: Decimal
    peak: Decimal
    out: Decimal = Decimal(0)  # how much was closed, and for what
    taken: Decimal = Decimal(0)
    realized: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)
    fees: int = 0
    id: str = ""


class WireHoldings:
    """What a real account holds; `figures` values what is open."""

    def __init__(self, account: str, figures: Callable[[], Iterable[PositionFigures]]) -> None:
        self._account, self._figures = account, figures
        self._open: dict[str, _Open] = {}
        self._fees: dict[str, int] = {}  # of fills that come before their position
        self._known = False

    def take(self, update: AccountUpdate) -> Iterator[Named]:
        """Return the positions that changed, those that ended, and payments."""
        if not self._known and update.collateral is not None:
            self._known = True
            # What an earlier run left open goes on as a row of this one, or has ended since.
            yield "positions_left", {"at": update.at}
        changed = {fill.ticker for fill in update.fills}
        for fill in update.fills:
            self._fill(fill)
        for payment in update.funding:
            if (held := self._open.get(payment.ticker)) is not None:
                held.funding += Decimal(payment.payment)
                changed.add(payment.ticker)
            yield "funding_payments", _payment_row(payment)
        for state in update.positions:
            changed.discard(state.ticker)
            yield from self._move(state, update.at)
        for ticker in sorted(changed & self._open.keys()):
            yield "positions", _wire_row(self._open[ticker], update.at)

    def look(self, at: int) -> Iterator[Named]:
        """Return the rows of what is open, at its present value."""
        if not self._open:
            return
        gains = {row.ticker: row.unrealized_pnl for row in self._figures()}
        for held in self._open.values():
            gain = gains.get(held.ticker)
            yield "positions", _wire_row(held, at, None if gain is None else quote(gain))

    def _fill(self, fill: AccountFill) -> None:
        held = self._open.get(fill.ticker)
        if held is None:
            self._fees[fill.ticker] = self._fees.get(fill.ticker, 0) + fill.fee
            return
        held.fees += fill.fee
        before = held.size if fill.held is None else fill.held
        if before * fill.signed < 0:
            closed = min(abs(before), fill.size)
            held.out += closed
            held.taken += closed * fill.price
            apart = fill.price - held.entry
            held.realized += closed * (apart if before > 0 else -apart)

    def _move(self, state: PositionState, at: int) -> Iterator[Named]:
        held = self._open.get(state.ticker)
        if held is not None and held.size * state.size <= 0:  # it ended, or turned
            yield "positions", _wire_row(held, at, 0, ended=True)
            del self._open[state.ticker]
            held = None
        if not state.size:
            return
        if held is None:
            name = event_id(self._account, state.ticker, at)
            held = self._open[state.ticker] = _Open(
                ticker=state.ticker, opened=at, size=state.size, entry=state.entry_price,
                peak=state.size, fees=self._fees.pop(state.ticker, 0), id=name,
            )  # fmt: skip
        held.size, held.entry = state.size, state.entry_price or held.entry
        held.peak = max(held.peak, held.size, key=abs)
        yield "positions", _wire_row(held, at)


def _wire_row(held: _Open, at: int, gain: int | None = None, *, ended: bool = False) -> Row:
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
        "unrealized": gain,
        "funding": quote(held.funding),
        "fees": held.fees,
        "opened": held.opened,
        "closed": at if ended else None,
        "updated": at,
    }


def _payment_row(paid: FundingPaymentFields) -> Row:
    return {
        "ticker": paid.ticker, "at": instant(paid.created_at), "size": paid.size,
        "rate": paid.rate, "quote": quote(paid.payment),
    }  # fmt: skip
