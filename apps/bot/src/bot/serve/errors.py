"""What went wrong on the wire of this run, by class, endpoint and minute.

    GET /errors ──► Faults.page (the run's thread) ──► rows, newest minute first, a page at a time

It is of this run, and remembers two thousand rows; `bot errors` has those of all runs from the
database.
"""

from functools import partial
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bot.run.composition import Bot
from bot.run.faults import Fault, sample_of
from bot.serve.served import Served, answered
from bot.times import iso

_MOST: Final = 100


class ErrorRow(BaseModel):
    """So many errors of one class at one endpoint in one minute."""

    minute: str = Field(description="when the minute began, UTC")
    error: str = Field(description="the class, by what to do about it")
    endpoint: str = Field(description="REST path without names and numbers, channel, link or node")
    count: int
    last: str = Field(description="when the newest of them came, UTC")
    sample: str = Field(description="text of the newest, without secrets")


class ErrorPage(BaseModel):
    """Errors of a run, newest minute first."""

    page: int
    pages: int = Field(description="how many there are, at least 1")
    rows: list[ErrorRow]
    total: int = Field(description="rows that are remembered")
    errors: int = Field(description="errors since the run began, of all rows")
    forgotten: int = Field(description="rows that were older, and are in `bot errors` alone")


class Found(msgspec.Struct, frozen=True):
    """A page as the run has it."""

    rows: tuple[Fault, ...]
    total: int
    errors: int
    forgotten: int


def found(bot: Bot, first: int, most: int) -> Found:
    """Return some rows; on the run's thread, between two frames."""
    if (monitor := bot.shown.monitor) is None:
        return Found((), 0, 0, 0)
    faults = monitor.faults
    errors = sum(faults.counts.values())  # integers
    return Found(faults.page(first, most), len(faults), errors, faults.left_out)


def page_of(seen: Found, page: int, limit: int) -> ErrorPage:
    """Return a page as it is answered."""
    return ErrorPage(
        page=page, pages=max(-(-seen.total // limit), 1), rows=[*map(_row, seen.rows)],
        total=seen.total, errors=seen.errors, forgotten=seen.forgotten,
    )  # fmt: skip


def _row(fault: Fault) -> ErrorRow:
    return ErrorRow(
        minute=iso(fault.minute), error=fault.kind, endpoint=fault.endpoint, count=fault.count,
        last=iso(fault.last), sample=sample_of(fault.text),
    )  # fmt: skip


def routes(served: Served) -> APIRouter:
    """Return the route of the errors."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/errors")
    async def errors(
        page: Annotated[int, Query(ge=1, le=10_000, description="from 1, the newest")] = 1,
        limit: Annotated[int, Query(ge=1, le=_MOST, description="rows of a page")] = 50,
    ) -> ErrorPage:
        """Return what went wrong on the wire by class, endpoint and minute, newest first."""
        seen = await answered(served, partial(found, first=(page - 1) * limit, most=limit))
        return page_of(seen, page, limit)

    return router
