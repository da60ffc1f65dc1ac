"""What is served, and to whom: all that a route is made of, frozen.

    conduct ──► Served ──► routes(served) ──► APIRouter      serve/status.py, orders.py, acts.py …

A route puts a question to the run with `answered`; what it gets is a frozen value. One question,
a function of a module, serves many: `newest` is at most a quarter of a second old and waits for no
frame, unless nobody put it lately.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from dydx_conn import Inbox, Network
from starlette.concurrency import run_in_threadpool

from bot.config.api import ApiSettings
from bot.config.changes import Reply
from bot.config.settings import Loaded
from bot.run.composition import Bot
from bot.run.desk import PATIENCE_S, Desk, DeskError
from bot.serve.tokens import Tokens

T = TypeVar("T")
P = ParamSpec("P")
Mode = Literal["REPLAY", "PAPER", "TRADE", "WATCH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A run that is served: where to put questions and acts, and what stays the same about it.

    `name` is its source in words, `net` its network, None for a recording. `config` is what it
    began with. `recording` is where its frames are or go, `database` the URL of where it is written
    down, "" for nowhere. `reload` reads the settings again on behalf of whom it is given. `disk` is
    for `aside`.
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
    database: str = ""
    reload: Callable[[str], Reply] | None = None
    disk: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


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


async def aside(served: Served, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what waits for a disk on a thread beside the server's: two at a time, for all callers."""
    async with served.disk:
        return await run_in_threadpool(work, *args, **kwargs)
