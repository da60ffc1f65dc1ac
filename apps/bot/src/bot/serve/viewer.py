"""One browser that looks: on a WebSocket it is sent what is newer, on a poll what it missed.

    {"panel", "market", "columns", "rows", "since"} ──► Viewer ──► Painter.look ──► Watched
    Watched.wakes, on the painter's thread ──► the server's loop ──► changes(since) ──► the browser

Read-only: what a browser sends is which view it wants. One that is slow waits for itself alone:
what it missed meanwhile is in its next message, as it stands then.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from bot.serve.looks import Wanted
from bot.serve.painter import Painter, Watched
from bot.serve.problems import ProblemError

FIRST_S: Final = 3.0  # how long a poll waits for the first drawing of a view
_LONGEST: Final = 1_000  # letters of what a page wants


class Waking:
    """Wakes all browsers of one loop at once: a call across threads costs, and one is enough."""

    def __init__(self, painter: Painter, loop: asyncio.AbstractEventLoop) -> None:
        self._painter, self._loop = painter, loop
        self._waiting: set[asyncio.Event] = set()

    def add(self, changed: asyncio.Event) -> None:
        """Set an event whenever something was drawn."""
        if not self._waiting:
            self._painter.wakes.append(self._hand_over)
        self._waiting.add(changed)

    def remove(self, changed: asyncio.Event) -> None:
        """Set it no more."""
        self._waiting.discard(changed)
        if not self._waiting and self._hand_over in self._painter.wakes:
            self._painter.wakes.remove(self._hand_over)

    def _hand_over(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # the server is closed: nobody waits any more

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()


class Viewer:
    """One open page; what it wants may change, and it never waits for another one.

    It is closed once it `is_known` no more: its session has ended, or the token's file another one.
    """

    def __init__(
        self, painter: Painter, socket: WebSocket, waking: Waking, is_known: Callable[[], bool]
    ) -> None:
        self._painter, self._socket, self._waking = painter, socket, waking
        self._is_known = is_known
        self._changed = asyncio.Event()
        self._view: Watched | None = None
        self._since = 0

    async def serve(self) -> None:
        """Serve until the page goes away."""
        self._waking.add(self._changed)
        sending = asyncio.create_task(self._send())
        try:
            async for text in self._socket.iter_text():
                await self._take(text)
        except KeyError:
            await self._socket.close(1003)  # bytes, where a view is text
        finally:
            sending.cancel()
            self._waking.remove(self._changed)
            self._leave()
            await asyncio.gather(sending, return_exceptions=True)

    async def _take(self, text: str) -> None:
        try:
            if len(text) > _LONGEST:
                raise ProblemError(413, f"a view in {_LONGEST} letters", str(len(text)))
            typed = msgspec.json.decode(text, type=dict[str, Any])
            wanted, since = Wanted.of(typed), typed.get("since", 0)
        except (ProblemError, msgspec.DecodeError) as error:
            await self._socket.send_json({"refused": str(error)})
            return
        self._leave()
        self._since = since if isinstance(since, int) else 0
        self._view = self._painter.look(wanted)
        self._view.viewers += 1
        self._changed.set()

    def _leave(self) -> None:
        if self._view is not None:
            self._view.viewers -= 1
            self._view = None

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            view = self._view
            if view is None or not view.sheet.version or view.sheet.version == self._since:
                continue
            if not self._is_known():
                await self._socket.close(1008, "expected a token")
                return
            self._since, text = view.changes(self._since)
            await self._socket.send_text(text)


async def polled(painter: Painter, wanted: Wanted, since: int, waking: Waking) -> str:
    """Return what of a view is newer than a version; waits for its first drawing."""
    view, drawn = painter.look(wanted), asyncio.Event()
    waking.add(drawn)
    try:
        async with asyncio.timeout(FIRST_S):
            while not view.sheet.version:
                await drawn.wait()
                drawn.clear()
    except TimeoutError:
        pass  # and the answer says so: it has no panels
    finally:
        waking.remove(drawn)
    return view.changes(since)[1]
