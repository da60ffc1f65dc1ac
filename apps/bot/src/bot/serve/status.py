"""How the run stands: what `bot status --json` prints."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bot.report.status import status_of
from bot.run.composition import Bot
from bot.serve.served import Served, newest


class Gate(BaseModel):
    """What the gate lets pass, and why no more."""

    state: str = Field(description="ACTIVE, HALTED, REDUCING …")
    reasons: dict[str, str] = Field(description="why it is not ACTIVE, by reason")


class Held(BaseModel):
    """A position: its size in base units, negative where it is short; money in USDC."""

    ticker: str
    size: str
    usdc: float | None = Field(description="its worth now, null where no price is known")
    leverage: float | None
    distance: float | None = Field(
        description="share by which the price may move before liquidation; null where none does it"
    )
    words: str


class Edit(BaseModel):
    """An edit of the settings while the run goes: what it changed, or why it changes nothing."""

    id: str
    at: str = Field(description="event time, UTC")
    words: str
    refused: bool = Field(description="whether the settings go on as they were before it")


class SettingsFile(BaseModel):
    """By which file of settings the run goes."""

    file: str = Field(description="its path, or in words that there is none")
    edit: Edit | None = Field(description="the newest edit of it, null without one")


class Status(BaseModel):
    """How the run stands."""

    pid: int
    mode: str
    source: str
    at: str = Field(description="event time, UTC")
    account: str
    gate: Gate
    alarm: str = Field(description="how near liquidation is: flat, safe …, unknown")
    equity_usdc: float | None
    distance_to_liquidation: float | None
    positions: list[Held]
    by_hand: list[str] = Field(description="tickers that somebody else trades")
    settings: SettingsFile | None
    acts: int
    troubles: dict[str, str] = Field(description="what is wrong around the run, by where it is")


def found(bot: Bot) -> dict[str, Any]:
    """Return how a run stands; whose run it is, is added where it is served."""
    return status_of(bot, "", "")


def routes(served: Served) -> APIRouter:
    """Return the route of the status."""
    router = APIRouter(tags=["run"])

    @router.get("/status")
    async def status() -> Status:
        """Return how the run stands: gate, equity, positions, troubles."""
        now = await newest(served, found)
        return Status(**now | {"mode": served.mode, "source": served.name})

    return router
