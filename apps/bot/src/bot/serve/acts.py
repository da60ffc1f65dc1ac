"""What is done to a run over HTTP: an act among its frames, and what came of it.

    POST /halt ──► Inbox ──► Frame(kind="act", link="api") ──► journal, audit log, recording
               ◄── how the run stands behind it ◄── Desk, between two frames

Who acted is in its text: by which token, from where. A recording of it replays to the same bytes.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from bot.config.changes import Reply
from bot.report.report import gate_of, positions_of
from bot.run.acts import act
from bot.run.composition import Bot, open_orders
from bot.run.desk import DeskError
from bot.serve.problems import CONFLICT, ProblemError, parted
from bot.serve.served import Served, answered
from bot.serve.status import Gate, Held
from bot.times import iso

WHO: Final = "api"
_EFFECT_S: Final = 5.0
_AGAIN_S: Final = 0.003
_NEWEST: Final = 100  # entries in which an act of a moment ago is looked for
_NUMBERS: Final = itertools.count(1)


class Why(BaseModel):
    """Why somebody acts; it is recorded."""

    model_config = ConfigDict(extra="forbid")
    why: str = Field(default="", max_length=200, description="the reason, which is recorded")


class Acted(BaseModel):
    """What came of an act: its entry in the journal, and how the run stands behind it."""

    id: str = Field(description="its id in the journal, as A3")
    at: str = Field(description="event time, UTC")
    words: str = Field(description="what was done, by whom, and why")
    gate: Gate
    positions: list[Held] = Field(description="what is held still: what leaves takes its time")
    open_orders: int = Field(description="orders that may still fill, but stops of what is held")


class Reloaded(BaseModel):
    """What a reload changes, by the dotted path of the setting, and what stays over the file."""

    now: dict[str, Any]
    was: dict[str, Any]
    above: list[str] = Field(description="values of the file that variables or options go over")


class _Effect(NamedTuple):
    """An act as the journal has it, and how the run stands behind it: all of it made for this."""

    id: str
    at: str
    words: str
    gate: dict[str, Any]
    positions: list[dict[str, Any]]
    open_orders: int


_Reason = Annotated[Why | None, Body(description="why, or no body at all")]
# The path, what the act is called, and what it does.
_ACTS: Final = (
    ("/halt", "halt", "Stop entries; guard and exits go on. It outlives the run, until /resume."),
    ("/resume", "resume", "Let a halted bot enter again."),
    ("/flatten", "flatten", "Close what is held, and halt."),
    ("/cancel-all", "cancel", "Cancel all open orders, but the stops of what is held."),
)


def routes(served: Served) -> APIRouter:
    """Return a route for each act."""
    router = APIRouter(tags=["acts"], responses=CONFLICT)
    for path, what, words in _ACTS:
        router.add_api_route(
            path, _acting(served, what), methods=["POST"], response_model=Acted,
            description=words, summary=words.partition(".")[0], operation_id=what,
        )  # fmt: skip

    @router.post("/reload")
    async def reload(request: Request, reason: _Reason = None) -> Reloaded:
        """Read the settings again, and let what changed take effect."""
        await _require_trading_run(served)
        if served.reload is None:
            raise ProblemError(409, "a run that goes by a file of settings", "none")
        act(served.inbox, WHO, "note", f"reload: {_words(request, reason)}")
        reply = await run_in_threadpool(served.reload, WHO)
        if reply.refused:
            raise _refused(reply)
        return Reloaded(now=dict(reply.now), was=dict(reply.was), above=[*reply.above])

    return router


def _acting(served: Served, what: str) -> Callable[..., Any]:
    async def acting(request: Request, reason: _Reason = None) -> Acted:
        await _require_trading_run(served)
        number = next(_NUMBERS)
        act(served.inbox, WHO, what, _words(request, reason), number)
        effect = await _effect(served, number)
        return Acted(**effect._asdict())

    return acting


def _is_over(bot: Bot) -> bool:
    return bot.shown.ended


async def _require_trading_run(served: Served) -> None:
    if served.mode == "WATCH":
        raise ProblemError(409, "a run that trades", "one that only watches")
    # Of a network there is always a next frame: no act waits for an answer before it is put in.
    if served.mode == "REPLAY" and await answered(served, _is_over):
        raise ProblemError(409, "a run that goes on", "a recording that is at its end")


def _words(request: Request, reason: Why | None) -> str:
    why = (reason.why if reason is not None else "").strip()
    return f"{why or 'no reason was given'} ({request.state.caller})"


def _refused(reply: Reply) -> ProblemError:
    expected, got = parted(reply.refused)
    return ProblemError(409, expected, f"{got or 'others'}: nothing changes")


async def _effect(served: Served, number: int) -> _Effect:
    """Wait until an act has taken effect; `DeskError` if no frame comes behind which it could."""
    ends = asyncio.get_running_loop().time() + _EFFECT_S

    def found(bot: Bot) -> _Effect | None:
        return _found(bot, number)

    while (effect := await answered(served, found)) is None:
        if asyncio.get_running_loop().time() > ends:
            what = f"expected a frame within {_EFFECT_S:g} s, got none"
            raise DeskError(f"{what}: the act waits for the next one")
        await asyncio.sleep(_AGAIN_S)
    return effect


def _found(bot: Bot, number: int) -> _Effect | None:
    for entry in itertools.islice(reversed(bot.journal.entries), _NEWEST):
        if entry.kind == "act" and entry.value.link == WHO and entry.value.message_id == number:
            held, orders = positions_of(bot), len(open_orders(bot))
            return _Effect(entry.id, iso(entry.at), entry.words, gate_of(bot), held, orders)
    return None
