"""What an account did before it was looked at, as the indexer reports it.

    historical-pnl, fills, transfers, funding payments ──► Past

Figures are the indexer's own, hour by hour; a list that is not answered is None.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from dydx_conn import (
    PARENTS,
    ConnError,
    FillFields,
    FundingPaymentFields,
    Network,
    NotFound,
    PnlFields,
    Rest,
    Subaccount,
    TransferFields,
    instant,
    number,
)

_T = TypeVar("_T")
_DAY_NS: Final = 86_400 * 10**9
_DAYS: Final = (("24 h", 1), ("7 d", 7), ("30 d", 30))
_MOST: Final = 1_000  # hours of worth, and payments of a day
_ROWS: Final = 100


Hour = tuple[int, Decimal, Decimal]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What an account earned, in USDC: profit over spans of time and since it began.

    `hours` are (time in ns, equity, profit since the beginning), the oldest first, `whole` whether
    they go back to where it began. `funding_24h` is what was received; `fills` and `transfers` are
    the newest, (time in ns, words).
    """

    hours: tuple[Hour, ...] | None = None
    whole: bool = False
    funding_24h: Decimal | None = None
    fills: tuple[tuple[int, str], ...] | None = None
    transfers: tuple[tuple[int, str], ...] | None = None

    @property
    def total(self) -> Decimal | None:
        """Return the profit since the account began."""
        return self.hours[-1][2] if self.hours else None

    @property
    def net_transfers(self) -> Decimal | None:
        """Return what was paid in on balance: of an hour the indexer calls so that hour's alone."""
        return self.hours[-1][1] - self.hours[-1][2] if self.hours else None

    @property
    def spans(self) -> dict[str, Decimal | None]:
        """Return the profit over a day, a week and a month; None where it is not known so far."""
        return {name: self._over(days) for name, days in _DAYS}

    def _over(self, days: int) -> Decimal | None:
        if not self.hours:
            return None
        at, _, total = self.hours[-1]
        before = [row for row in self.hours if row[0] <= at - days * _DAY_NS]
        # Younger than that: it began with nothing earned.
        return total - before[-1][2] if before else total if self.whole else None


def past(net: Network, subaccounts: list[Subaccount]) -> dict[Subaccount, Past]:
    """Query what accounts did; a parent's is that of it and its children together."""
    return asyncio.run(_past(net, subaccounts))


async def _past(net: Network, subaccounts: list[Subaccount]) -> dict[Subaccount, Past]:
    async with Rest(net, patience_s=5.0) as rest:
        found = await asyncio.gather(*(past_of(rest, whose) for whose in subaccounts))
    return dict(zip(subaccounts, found, strict=True))


async def past_of(rest: Rest, whose: Subaccount) -> Past:
    """Query what one account did; with its children where it is a parent."""
    parent = whose.number < PARENTS
    worth, fills, moved, payments = await asyncio.gather(
        _known(rest.historical_pnl(whose, parent=parent, limit=_MOST), _hours),
        _known(rest.fills(whose, parent=parent, limit=_ROWS), _fills),
        _known(rest.transfers(whose, parent=parent, limit=_ROWS), _transfers),
        _known(rest.funding_payments(whose, parent=parent, limit=_MOST), _payments),
    )
    hours, whole = worth or (None, False)
    paid = None if payments is None else _of_a_day(payments, hours[-1][0] if hours else 0)
    return Past(hours=hours, whole=whole, fills=fills, transfers=moved, funding_24h=paid)


async def _known(query: Awaitable[Any], read: Callable[[Any], _T]) -> _T | None:
    try:
        return read((await query).value)
    except NotFound:
        return read([])
    except (ConnError, ValueError, ArithmeticError):
        return None  # what is not answered, or cannot be read, is not known


def _hours(rows: list[PnlFields]) -> tuple[tuple[Hour, ...], bool]:
    """Return the hours, and whether the first of an account is among them.

    Of a parent and its children the indexer adds up the newest rows: how many there are says
    nothing of how far back they go. Of a first hour, all that was ever paid in came within it.
    """
    found = sorted(
        (instant(row.created_at), number(row.equity), number(row.total_pnl), row.net_transfers)
        for row in rows
    )
    hours = tuple((at, equity, profit) for at, equity, profit, _ in found)
    if not found or len(found) >= _MOST:
        return hours, not found
    _, equity, profit, moved = found[0]
    return hours, abs(equity - profit - number(moved)) < _CENT


_CENT: Final = Decimal("0.01")  # the indexer adds up floats


def _fills(rows: list[FillFields]) -> tuple[tuple[int, str], ...]:
    return tuple((instant(row.created_at), _fill(row)) for row in islice(rows, _ROWS))


def _fill(row: FillFields) -> str:
    forced = "" if row.type in _TRADED else f"{row.type.lower()}: "
    what = f"{row.side} {row.size} {row.ticker or row.market} at {row.price}"
    return f"{forced}{what}, {row.liquidity.lower()} fee {row.fee}"


_TRADED: Final = ("LIMIT", "MARKET", "TWAP_SUBORDER", "")


def _transfers(rows: list[TransferFields]) -> tuple[tuple[int, str], ...]:
    return tuple(
        (instant(row.created_at), f"{row.type.lower().replace('_', ' ')} {row.size} {row.symbol}")
        for row in islice(rows, _ROWS)
    )


def _payments(rows: list[FundingPaymentFields]) -> list[tuple[int, Decimal]]:
    return [(instant(row.created_at), number(row.payment)) for row in rows]


def _of_a_day(payments: list[tuple[int, Decimal]], now: int) -> Decimal:
    """Return what was received in a day, positive, or paid; `now` is the indexer's newest hour.

    Who holds nothing is paid nothing: the newest payment may be long ago.
    """
    until = max([now, *(at for at, _ in payments)])
    return sum((amount for at, amount in payments if at > until - _DAY_NS), Decimal(0))
