"""The view in a browser: one page, its files, and what a run looks like just now, live.

    GET /            the page, for whoever logged in; /page/…: what it is made of
    WS  /view/live   {"panel", "market", "columns", "rows"} ──► what is newer, as soon as it is drawn
    GET /view        the same once: what the page polls while its socket is cut

Read-only: what a browser sends is which view it wants. Everything comes from this process: the
policy of the page's content lets nothing else in, no script but its own files, and no frame around
it. A WebSocket is accepted only with a token, and only from a page of this host.
"""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import msgspec
from dydx_panels import ABOUT, KEYS, stylesheet

from bot.serve.looks import COLUMNS, ROWS, Wanted, WantedError
from bot.serve.painter import Painter, Watched

if TYPE_CHECKING:
    from fastapi import APIRouter, WebSocket
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

FIRST_S: Final = 3.0  # how long a poll waits for the first drawing of a view
_LONGEST: Final = 1_000  # letters of what a page wants
HEADERS: Final = {
    # Plotly writes rules of its own into a style element; scripts come from files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


# === Files ===
# What the page is made of: files of this package, a style sheet of the panels' styles, and the
# JavaScript of the installed plotly; compressed once, known again by their hashes.


class Asset(NamedTuple):
    """A file as it is sent: its type, its bytes plain and compressed, and what names its text."""

    kind: str
    plain: bytes
    zipped: bytes
    tag: str


_KINDS: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
}
# The files of a page by name, and what makes those that are none.
_FILES: Final = ("view.css", "view.js", "icon.svg")


def _plotly() -> str:
    from bot.pages.style import plotly_js

    return plotly_js()


_MADE: Final[Mapping[str, Callable[[], str]]] = {"cells.css": stylesheet, "plotly.js": _plotly}


@cache
def asset(name: str) -> Asset | None:
    """Return a file of the page; None if it has none of that name."""
    if name not in _FILES and name not in _MADE:
        return None
    text = _MADE[name]() if name in _MADE else _read(name)
    return _asset(name.rpartition(".")[2], text)


@cache
def page() -> Asset:
    """Return the page itself, with a button for each panel."""
    buttons = "\n".join(
        f'<button type="button" data-panel="{name}" data-key="{key}" title="{ABOUT.get(name, "")}">'
        f"<kbd>{key}</kbd> {name}</button>"
        for key, name in KEYS.items()
    )
    text = _read("view.html").replace("{{panels}}", buttons).replace("{{probe}}", "0" * 100)
    return _asset("html", text)


def _read(name: str) -> str:
    return (files("bot.serve") / "page" / name).read_text(encoding="utf-8")


def _asset(kind: str, text: str) -> Asset:
    plain = text.encode()
    tag = hashlib.sha256(plain).hexdigest()[:24]
    return Asset(_KINDS[kind], plain, gzip.compress(plain, 6, mtime=0), f'"{tag}"')


def sent(found: Asset, request: "HTTPConnection") -> "Response":
    """Return a file as the browser takes it; nothing if it has that already."""
    from starlette.responses import Response

    headers = {**HEADERS, "ETag": found.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    body = found.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"], body = "gzip", found.zipped
    return Response(body, media_type=found.kind, headers=headers)


# === Viewers ===
# One browser on a WebSocket: it says what it wants, and is sent what is newer.


class Viewer:
    """One open page; what it wants may change, and it never waits for another one."""

    def __init__(self, painter: Painter, socket: "WebSocket") -> None:
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
                raise WantedError(f"expected a view in {_LONGEST} letters, got {len(text)}")
            typed = msgspec.json.decode(text, type=dict[str, Any])
            wanted, since = Wanted.of(typed), typed.get("since", 0)
        except (WantedError, msgspec.DecodeError) as error:
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


# === Routes ===


def routes(served: Served) -> APIRouter:
    """Return the routes of the page, of its files, and of what it shows."""
    router = APIRouter(tags=["view"])
    painter = Painter(served.desk, served.mode, served.name)

    @router.get("/", include_in_schema=False)
    def root(request: Request) -> Response:
        """Return the page."""
        return sent(page(), request)

    @router.get("/page/{name}", include_in_schema=False)
    def part(name: str, request: Request) -> Response:
        """Return a file of the page."""
        if (found := asset(name)) is None:
            raise ProblemError(404, "a file of the page", name[:_NAME])
        return sent(found, request)

    @router.get("/view", responses={200: {"content": {"application/json": {"schema": SHOWN}}}})
    async def view(typed: Annotated[Typed, Query()]) -> Response:
        """Return the panels of a view as rows of HTML: what is newer than version `since`."""
        text = await polled(painter, typed.wanted(), typed.since)
        headers = {**HEADERS, "Cache-Control": "no-store"}
        return Response(text, media_type="application/json", headers=headers)

    @router.websocket("/view/live")
    async def live(socket: WebSocket) -> None:
        """Send what is newer, as soon as it is drawn."""
        await socket.accept()
        await Viewer(painter, socket).serve()

    return router
