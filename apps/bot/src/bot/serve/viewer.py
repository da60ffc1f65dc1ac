"""One browser that looks: on a WebSocket it is sent what is newer, on a poll what it missed.

    {"panel", "market", "columns", "rows", "since"} ──► Viewer ──► Painter.look ──► Watched
    Watched.wakes, on the painter's thread ──► the server's loop ──► changes(since) ──► the browser

Read-only: what a browser sends is which view it wants. One that is slow waits for itself alone:
what it missed meanwhile is in its next message, as it stands then.
"""

import asyncio
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from bot.serve.looks import Wanted
from bot.serve.painter import Painter, Watched
from bot.serve.problems import ProblemError

FIRST_S: Final = 3.0  # how long a poll waits for the first drawing of a view
_LONGEST: Final = 1_000  # letters of what a page wants


class Viewer:
    """One open page; what it wants may change, and it never waits for another one."""

    def __init__(self, painter: Painter, socket: WebSocket) -> None:
        self._painter, self._socket = painter, socket
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._view: Watched | None = None
        self._since = 0

    async def serve(self) -> None:
        """Serve until the page goes away."""
        sending = asyncio.create_task(self._send())
        try:
            async for text in self._socket.iter_text():
                await self._take(text)
        finally:
            sending.cancel()
            self._leave()

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
        self._view.wakes.append(self._wake)
        self._changed.set()

    def _leave(self) -> None:
        if self._view is not None and self._wake in self._view.wakes:
            self._view.wakes.remove(self._wake)

    def _wake(self) -> None:
        """Hand over to the loop; called on the painter's thread."""
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            pass  # the server is closed: nobody waits any more

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            view = self._view
            if view is None or not view.sheet.version or view.sheet.version == self._since:
                continue
            self._since, text = view.changes(self._since)
            await self._socket.send_text(text)


async def polled(painter: Painter, wanted: Wanted, since: int) -> str:
    """Return what of a view is newer than a version; waits for its first drawing."""
    view = painter.look(wanted)
    if not view.sheet.version:
        drawn, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(drawn.set)

        view.wakes.append(wake)
        try:
            await asyncio.wait_for(drawn.wait(), FIRST_S)
        except TimeoutError:
            pass  # and the answer says so: it has no panels
        finally:
            view.wakes.remove(wake)
    return view.changes(since)[1]
