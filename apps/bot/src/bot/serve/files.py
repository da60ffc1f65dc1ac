"""The files of the page: as they are sent, compressed once, and known again by their hashes.

    serve/page/…, the styles of the panels, the installed plotly ──► asset(name) ──► sent

Everything comes from this process: the policy of the page's content lets nothing else in, no script
but these files, and no frame around it.
"""

import gzip
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final, NamedTuple

from dydx_panels import ABOUT, KEYS, stylesheet
from starlette.requests import Request
from starlette.responses import Response

HEADERS: Final = {
    # Plotly writes rules of its own into a style element; scripts come from files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With none at all a form of the page would come from nowhere, and be refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


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
        f'<button type="button" data-panel="{name}" data-key="{key}" '
        f'title="{escape(ABOUT.get(name, ""))}"><kbd>{key}</kbd> {name}</button>'
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


def sent(found: Asset, request: Request) -> Response:
    """Return a file as the browser takes it; nothing if it has that already."""
    headers = {**HEADERS, "ETag": found.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    body = found.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"], body = "gzip", found.zipped
    return Response(body, media_type=found.kind, headers=headers)
