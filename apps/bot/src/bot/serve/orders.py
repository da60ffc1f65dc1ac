"""The order history over HTTP: pages of orders and fills, and all about one order.

a database ──► stored: all runs of the account ──┐
none ──► remembered: this run's newest ──────────┴─► Orders, Order, Fills
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath
from pydantic import BaseModel, BeforeValidator, Field

from bot.history.orders import Detail, fill_fields, order_fields
from bot.history.pages import Wanted, page_of
from bot.serve import stored
from bot.serve.problems import NOT_FOUND, ProblemError, Ticker
from bot.serve.remembered import DECISION, VERDICT, Remembered, entries_of
from bot.serve.served import Served, aside, newest

T = TypeVar("T")
Status = Literal[
    "PENDING", "OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "REJECTED", "UNRESOLVED", "LEFT"
]


def _require_text(value: Any) -> Any:
    # Pydantic would take a number for seconds since 1970, or for milliseconds, by its size.
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError(f"expected a time such as 2026-11-30T07:15:00Z, got {value[:40]!r}")
    return value


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
Time = Annotated[datetime, BeforeValidator(_require_text)]
_LAST_NS: Final = 2**63 - 1
_ID: Final = r"^[0-9A-Za-z-]{1,64}$"

# === What is answered ===


class Order(BaseModel):
    """An order: sizes in base units, prices in USDC, as decimals; times are ISO 8601, UTC."""

    id: str = Field(description="its number in its run, as O3")
    run: int | None = Field(description="the run's number in the database; null for this one")
    chain_id: str
    account: str
    order_id: str = Field(description="the venue's id")
    client_id: str
    created: str
    updated: str
    ticker: str
    side: str
    type: str
    size: str
    price: str
    filled: str | None
    status: str
    reason: str = Field(description="why it was refused or cancelled")
    verdict: str = Field(description="the id of the verdict that let it out")
    words: str


class Fill(BaseModel):
    """A fill; money is USDC, a rebate's fee negative."""

    id: str
    fill_id: str
    order_id: str
    at: str
    ticker: str
    side: str
    size: str
    price: str
    quote_usdc: str | None
    fee_usdc: str | None
    liquidity: str
    type: str


class _Page(BaseModel):
    page: int
    pages: int
    total: int


class Orders(_Page):
    """A page of orders, the newest first."""

    rows: list[Order]


class Fills(_Page):
    """A page of fills, the newest first."""

    rows: list[Fill]


class Change(BaseModel):
    """What became of an order at a time."""

    at: str
    status: str
    filled: str | None
    reason: str


class Cause(BaseModel):
    """A verdict or a decision, in words."""

    id: str
    ticker: str
    words: str


class Whole(BaseModel):
    """All about one order: its changes, its fills, and what led to it."""

    order: Order
    changes: list[Change]
    fills: list[Fill]
    average_price: str | None
    fees_usdc: str | None
    verdict: Cause | None
    decision: Cause | None


# === What is wanted ===


class Narrowed(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of which page: what all pages have in common; times in ns since 1970."""

    tickers: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    page: int = 1
    limit: int = 50

    def stored(self, served: Served, account: str, statuses: Sequence[str] = ()) -> Wanted:
        """Return what the database is searched for."""
        chain_id = "" if served.net is None else served.net.chain_id
        return Wanted(
            accounts=(account,), chain_ids=(chain_id,), tickers=self.tickers,
            statuses=tuple(statuses), since=self.since, until=self.until,
        )  # fmt: skip

    def of(self, rows: list[dict[str, Any]], time: str) -> tuple[list[dict[str, Any]], int]:
        """Return the page's part of rows that are remembered, and how many there are in all."""
        wanted = [
            row for row in rows
            if (not self.tickers or row["ticker"] in self.tickers)
            and (self.since is None or row[time] >= self.since)
            and (self.until is None or row[time] < self.until)
        ]  # fmt: skip
        first = (self.page - 1) * self.limit
        return wanted[first : first + self.limit], len(wanted)

    def about(self, total: int) -> dict[str, int]:
        """Return which page it is, and how many there are."""
        pages = max(1, -(-total // self.limit))
        return {"page": self.page, "pages": pages, "total": total}


async def _narrowed(
    ticker: Annotated[list[Ticker], Query(max_length=50, description="of these alone")] = [],  # noqa: B006 - FastAPI copies it
    since: Annotated[Time | None, Query(alias="from", description="from then on")] = None,
    until: Annotated[Time | None, Query(alias="to", description="before then")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    limit: Annotated[int, Query(ge=1, le=500, description="rows a page")] = 50,
) -> Narrowed:
    # A coroutine, as FastAPI would call all else on another thread, with every request.
    return Narrowed(
        tickers=tuple(dict.fromkeys(ticker)), since=_ns(since), until=_ns(until), page=page,
        limit=limit,
    )  # fmt: skip


def _ns(at: datetime | None) -> int | None:
    """Return a time in ns since 1970, within what can be stored; without an offset it is UTC."""
    if at is None:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return min(max(micros * 1_000, 0), _LAST_NS)


# === Routes ===


def routes(served: Served) -> APIRouter:
    """Return the routes of the order history."""
    router = APIRouter(tags=["orders"])

    @router.get("/orders")
    async def orders(
        wanted: Annotated[Narrowed, Depends(_narrowed)],
        status: Annotated[list[Status], Query(max_length=8, description="of these alone")] = [],  # noqa: B006 - FastAPI copies it
    ) -> Orders:
        """Return a page of orders, the newest first: all runs' of this account, if stored."""
        known = await newest(served, entries_of)
        which = wanted.stored(served, known.account, status)
        page = await _stored(served, page_of, which, wanted.page, wanted.limit)
        if page is not None:
            return Orders(rows=[_order(row) for row in page.rows], **wanted.about(page.total))
        remembered = [row for row in known.orders() if not status or row["status"] in status]
        found, total = wanted.of(remembered, "created")
        return Orders(rows=[_order(row) for row in found], **wanted.about(total))

    _add_order(router, served)
    _add_fills(router, served)
    return router


def _add_order(router: APIRouter, served: Served) -> None:
    @router.get("/orders/{id}", responses=NOT_FOUND)
    async def order(
        id: Annotated[str, InPath(pattern=_ID, description="O3 of this run, or the venue's id")],
    ) -> Whole:
        """Return all about one order: its changes, its fills, its verdict and its decision."""
        known = await newest(served, entries_of)
        row = known.order(id)
        named = id if row is None else row["order_id"]
        which = Narrowed().stored(served, known.account)
        detail = await _stored(served, stored.order_detail, which, named)
        if detail is not None:
            return Whole(**detail.fields())
        if row is None:
            expected = "an order such as O3, or the venue's id of one"
            raise ProblemError(404, expected, f"{id}, which none has")
        return Whole(**_remembered(known, row).fields())


def _add_fills(router: APIRouter, served: Served) -> None:
    @router.get("/fills")
    async def fills(wanted: Annotated[Narrowed, Depends(_narrowed)]) -> Fills:
        """Return a page of fills, the newest first: all runs' of this account, if stored."""
        known = await newest(served, entries_of)
        which = wanted.stored(served, known.account)
        page = await _stored(served, stored.fills_page, which, wanted.page, wanted.limit)
        if page is not None:
            rows = [Fill(**fill_fields(row)) for row in page.rows]
            return Fills(rows=rows, **wanted.about(page.total))
        found, total = wanted.of(known.fills(), "at")
        return Fills(rows=[Fill(**fill_fields(row)) for row in found], **wanted.about(total))


async def _stored(served: Served, look: Callable[..., T | None], *args: Any) -> T | None:
    """Return what the database has; None where there is none, or nothing yet."""
    if not served.database:
        return None
    return await aside(served, stored.looked_up, served.database, look, *args)


def _order(row: Mapping[Any, Any]) -> Order:
    return Order(**order_fields(row))


def _remembered(known: Remembered, row: dict[str, Any]) -> Detail:
    verdict = known.cause(row["verdict_id"], *VERDICT)
    decision = None if verdict is None else known.cause(verdict["parent"], *DECISION)
    return Detail(
        order=row, run=None, changes=known.changes(row["id"]), fills=known.fills(row["id"]),
        verdict=verdict, decision=decision,
    )  # fmt: skip
