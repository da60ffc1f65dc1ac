"""What is held and what it came to, just now: positions, profit and loss.

Risk.positions ──► /positions        venue.figures, falls ──► /pnl
"""

from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bot.report.report import away
from bot.run.composition import Bot
from bot.serve.problems import Ticker
from bot.serve.served import Served, newest
from bot.times import iso

Sort = Literal["distance", "notional", "ticker", "unrealized"]


class Position(BaseModel):
    """A position: sizes in base units, prices and money in USDC; null is not known."""

    ticker: str
    side: Literal["long", "short"]
    size: str = Field(description="base units, negative where it is short")
    entry_price: str | None
    oracle_price: str | None
    notional_usdc: float | None
    initial_margin_usdc: float | None
    maintenance_margin_usdc: float | None
    unrealized_pnl_usdc: str | None
    leverage: float | None = Field(description="its notional over the account's equity")
    liquidation_price: float | None = Field(description="null where no price of it liquidates")
    distance: float | None = Field(description="its price's own adverse move to that, a share")
    funding_1h_usdc: float | None = Field(description="positive where it is paid")
    words: str


class Positions(BaseModel):
    """What is held, and how far all of it is from liquidation."""

    at: str
    account: str
    equity_usdc: float | None
    distance_to_liquidation: float | None = Field(description="the adverse move of all prices")
    alarm: str
    rows: list[Position]


class Pnl(BaseModel):
    """What the account did since the run began, and what it is worth; USDC, costs positive."""

    at: str
    deposit_usdc: float
    equity_usdc: float | None
    profit_usdc: float
    realized_usdc: float
    unrealized_usdc: float
    fees_usdc: float
    funding_usdc: float
    funding_unsettled_usdc: float
    insurance_usdc: float
    fills: int
    wins: int
    losses: int
    liquidations: int
    drawdown_usdc: float
    drawdown: float = Field(description="share of the equity at its peak")


def positions_now(bot: Bot) -> dict[str, Any]:
    """Return what is held, as plain data."""
    margin, alarm = bot.risk.margin, bot.risk.alarm
    known = alarm != "unknown"
    return {
        "at": iso(bot.data.at), "account": str(bot.venue.subaccount), "alarm": alarm,
        "equity_usdc": margin.net_collateral / 1e6 if known else None,
        "distance_to_liquidation": _finite(margin.distance) if known else None,
        "rows": [_row(row) for row in bot.risk.positions()],
    }  # fmt: skip


def _row(row: Any) -> dict[str, Any]:
    return {
        "ticker": row.ticker, "side": "long" if row.size > 0 else "short",
        "size": f"{row.size.normalize():f}", "entry_price": _text(row.entry_price),
        "oracle_price": _text(row.oracle_price), "notional_usdc": _usdc(row.net_notional),
        "initial_margin_usdc": _usdc(row.initial_margin),
        "maintenance_margin_usdc": _usdc(row.maintenance_margin),
        "unrealized_pnl_usdc": _text(row.unrealized_pnl), "leverage": _finite(row.leverage),
        "liquidation_price": _finite(row.liquidation_price), "distance": _finite(row.distance),
        "funding_1h_usdc": _usdc(row.funding_1h), "words": away(row.distance),
    }  # fmt: skip


def pnl_now(bot: Bot) -> dict[str, Any]:
    """Return what the account did and what it is worth, as plain data."""
    money, falls = bot.venue.figures(), bot.risk.falls
    return {
        "at": iso(bot.data.at), "deposit_usdc": float(bot.options.deposit),
        "equity_usdc": _usdc(money.equity), "profit_usdc": _usdc(money.profit),
        "realized_usdc": _usdc(money.realized_pnl), "unrealized_usdc": _usdc(money.unrealized_pnl),
        "fees_usdc": _usdc(money.fees_paid), "funding_usdc": _usdc(money.funding_paid),
        "funding_unsettled_usdc": _usdc(-money.unsettled),
        "insurance_usdc": _usdc(money.insurance_paid), "fills": money.fills, "wins": money.wins,
        "losses": money.losses, "liquidations": money.liquidations,
        "drawdown_usdc": _usdc(falls.deepest), "drawdown": _finite(falls.share) or 0.0,
    }  # fmt: skip


def _usdc(quantums: int | None) -> float | None:
    return None if quantums is None else quantums / 1e6


def _text(value: Any) -> str | None:
    return None if value is None else f"{value:f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


_KEYS: Final[dict[str, Callable[[Position], Any]]] = {
    "distance": lambda row: (row.distance is None, row.distance or 0.0),
    "notional": lambda row: -abs(row.notional_usdc or 0.0),
    "ticker": lambda row: row.ticker,
    "unrealized": lambda row: float(row.unrealized_pnl_usdc or 0),
}


def routes(served: Served) -> APIRouter:
    """Return the routes of what is held and what it came to."""
    router = APIRouter(tags=["account"])

    @router.get("/positions")
    async def positions(
        ticker: Annotated[list[Ticker], Query(max_length=50, description="of these alone")] = [],  # noqa: B006 - FastAPI copies it
        side: Annotated[Literal["long", "short"] | None, Query()] = None,
        sort: Annotated[Sort, Query(description="the nearest to liquidation first")] = "distance",
    ) -> Positions:
        """Return what is held now, each with its margin and how far it is from liquidation."""
        found = Positions(**await newest(served, positions_now))
        rows = [
            row for row in found.rows
            if (not ticker or row.ticker in ticker) and side in (None, row.side)
        ]  # fmt: skip
        return found.model_copy(update={"rows": sorted(rows, key=_KEYS[sort])})

    @router.get("/pnl")
    async def pnl() -> Pnl:
        """Return what the account did since the run began, and what it is worth."""
        return Pnl(**await newest(served, pnl_now))

    return router
