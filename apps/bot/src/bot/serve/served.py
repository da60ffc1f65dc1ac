"""What is served, and to whom: all that a route is made of, frozen.

    conduct ──► Served ──► routes(served) ──► APIRouter      serve/status.py, orders.py, acts.py …

A route puts a question to the run in one of three ways, and gets a frozen value:

    answered     a question of its own, between the next two frames
    newest       a function of a module: at most a quarter of a second old, made again by itself
    monitored    the figures of all monitors, at most a second old: they are many, and cost the most
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, ParamSpec, TypeVar

from dydx_conn import Inbox, Network
from starlette.concurrency import run_in_threadpool

from bot.config.api import ApiSettings
from bot.config.changes import Reply
from bot.config.loaded import Loaded
from bot.run.composition import Bot
from bot.run.desk import PATIENCE_S, Desk, DeskError
from bot.run.kinds import Kinds
from bot.serve.figures import RunFigures, figures_of
from bot.serve.tokens import Tokens

T = TypeVar("T")
P = ParamSpec("P")
Mode = Literal["REPLAY", "PAPER", "TRADE", "WATCH"]
_AGE_NS: Final = 1_000_000_000


class Figures:
    """The figures of a run as they were copied last, and when (monotonic ns)."""

    def __init__(self) -> None:
        self.newest: RunFigures | None = None
        self.at = 0
        self.copying = asyncio.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A run that is served: where to put questions and acts, and what stays the same about it.

    `name` is its source in words, `net` its network, None for a recording. `config` is what it
    began with. `recording` is where its frames are or go, of history `kinds` alone, `database` the
    URL of where it is written down, "" for nowhere. `reload` reads the settings again on behalf of
    whom it is given. `disk` is for `aside`, `figures` for `monitored`.
    """

    desk: Desk
    inbox: Inbox
    mode: Mode
    name: str
    settings: ApiSettings
    tokens: Tokens
    net: Network | None = None
    config: Loaded | None = None
    recording: Path | None = None
    kinds: Kinds = None
    database: str = ""
    reload: Callable[[str], Reply] | None = None
    disk: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    figures: Figures = field(default_factory=Figures)


async def answered(served: Served, question: Callable[[Bot], T], wait_s: float = PATIENCE_S) -> T:
    """Put a question to the run and return its answer; `DeskError` if none comes in time."""
    loop = asyncio.get_running_loop()
    coming: asyncio.Future[T] = loop.create_future()

    def settle(value: T | DeskError) -> None:
        if coming.done():
            return  # nobody waits any more
        if isinstance(value, DeskError):
            coming.set_exception(value)
        else:
            coming.set_result(value)

    served.desk.put(question, lambda value: loop.call_soon_threadsafe(settle, value))
    try:
        return await asyncio.wait_for(coming, wait_s)
    except TimeoutError:
        what = f"expected an answer of the run within {wait_s:g} s, got none"
        raise DeskError(f"{what}: no frames come") from None


async def newest(served: Served, question: Callable[[Bot], T]) -> T:
    """Return an answer that is at most a quarter of a second old; of a function of a module."""
    known = served.desk.known(question)
    return known if known is not None else await answered(served, served.desk.repeated(question))


async def monitored(served: Served) -> RunFigures:
    """Return figures that are at most a second old; `DeskError` if the run does not answer."""
    figures = served.figures
    async with figures.copying:  # who comes meanwhile gets the same
        if figures.newest is None or time.monotonic_ns() - figures.at >= _AGE_NS:
            figures.newest = None
            figures.newest = await answered(served, figures_of)
            figures.at = time.monotonic_ns()
        return figures.newest


async def aside(served: Served, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what waits for a disk on a thread beside the server's: two at a time, for all callers."""
    async with served.disk:
        return await run_in_threadpool(work, *args, **kwargs)
