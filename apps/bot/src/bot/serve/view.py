"""The view in a browser: one page, its files, and what a run looks like just now, live.

    GET /            the page, for whoever logged in; /page/…: what it is made of
    WS  /view/live   {"panel", "market", "columns", "rows"} ──► what is newer, once it is drawn
    GET /view        the same once: what the page polls while its socket is cut

The gate stands before all of it (serve/gate.py): a WebSocket is accepted only with a token, and
only from a page of this host. Nothing that a browser sends here changes a run.
"""

import asyncio
from typing import Annotated, Any, Final

from dydx_panels import KEYS
from fastapi import APIRouter, Query, Request, WebSocket
from starlette.responses import Response

from bot.serve.files import HEADERS, asset, page, sent
from bot.serve.looks import COLUMNS, ROWS, Wanted
from bot.serve.painter import Painter
from bot.serve.problems import ProblemError
from bot.serve.served import Served
from bot.serve.viewer import Viewer, Waking, polled

_TICKER: Final = r"^[A-Za-z0-9,./:_-]{0,40}$"
_SHOWN: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["view", "version", "seq", "rows", "trouble", "ended"],
    "properties": {
        "view": {"type": "string", "description": "the view that was wanted"},
        "version": {"type": "integer", "description": "what to send as `since` next time"},
        "seq": {"type": "integer", "description": "the newest frame in it"},
        "mono": {"type": "integer", "description": "when that was received, monotonic ns"},
        "age_s": {"type": ["number", "null"], "description": "age of the newest market data"},
        "trouble": {"type": "string", "description": "why nothing newer comes; empty if it does"},
        "ended": {"type": "boolean", "description": "the recording was played to its end"},
        "bands": {"type": "array", "description": "panels side by side, where they changed places"},
        "markets": {"type": "array", "items": {"type": "string"}},
        "rows": {"type": "object", "description": "rows of HTML by number, by number of panel"},
        "charts": {
            "type": "object",
            "description": "figures of plotly by name, where they changed",
        },
    },
}


def routes(served: Served) -> APIRouter:
    """Return the routes of the page, of its files, and of what it shows."""
    router = APIRouter(tags=["view"])
    painter = Painter(served.desk, served.mode, served.name)
    loops: dict[asyncio.AbstractEventLoop, Waking] = {}

    def waking() -> Waking:
        """Return what wakes the browsers of this loop: a server has one, a test several."""
        loop = asyncio.get_running_loop()
        return loops.setdefault(loop, Waking(painter, loop))

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        """Return the page."""
        return sent(page(), request)

    @router.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        """Return a file of the page."""
        # The first time it is read, and compressed for a tenth of a second: others are served then.
        if (found := await asyncio.to_thread(asset, name)) is None:
            raise ProblemError(404, "a file of the page", name[:40])
        return sent(found, request)

    @router.get(
        "/view",
        response_class=Response,
        responses={200: {"content": {"application/json": {"schema": _SHOWN}}}},
    )
    async def view(
        panel: Annotated[str, Query(json_schema_extra={"enum": ["", *KEYS.values()]})] = "",
        market: Annotated[str, Query(pattern=_TICKER)] = "",
        columns: Annotated[int, Query(ge=COLUMNS[0], le=COLUMNS[1])] = 120,
        rows: Annotated[int, Query(ge=ROWS[0], le=ROWS[1])] = 40,
        since: int = 0,
    ) -> Response:
        """Return the panels of a view, as on a terminal: rows of HTML newer than a version."""
        wanted = Wanted.of({"panel": panel, "market": market, "columns": columns, "rows": rows})
        text = await polled(painter, wanted, since, waking())
        headers = {**HEADERS, "Cache-Control": "no-store"}
        return Response(text, media_type="application/json", headers=headers)

    @router.websocket("/view/live")
    async def live(socket: WebSocket) -> None:
        """Send what is newer, as soon as it is drawn."""
        await socket.accept()
        await Viewer(painter, socket, waking(), socket.state.is_known).serve()

    return router
